//! Scenario files. One that is read passes its own check again, unchanged; one that is not is refused by the file's name.
#![no_main]

use catseye::sim::scenario::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Scenario::parse(text, "fuzz.toml") {
        Ok(scenario) => match scenario.clone().changed(None, None) {
            Ok(again) => assert_eq!(again, scenario),
            Err(error) => panic!("a scenario that was read does not pass: {error}"),
        },
        Err(error) => assert!(error.to_string().contains("fuzz.toml"), "{error}"),
    }
});
