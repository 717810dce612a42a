//! Rig files. One that is read is written and read again, which must give the same.
#![no_main]

use catseye_calibration::rig::Rig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(rig) = Rig::parse(text, "fuzz.toml") else { return };
    let written = rig.to_toml();
    match Rig::parse(&written, "fuzz.toml") {
        Ok(again) => assert_eq!(again.to_toml(), written),
        Err(error) => panic!("a written rig cannot be read: {error}\n{written}"),
    }
    let _ = rig.sensors().count();
});
