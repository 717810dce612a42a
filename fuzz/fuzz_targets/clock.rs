//! Mapping of clocks: pairs of a raw stamp and an arrival, the first byte choosing the kind of jitter.
#![no_main]

use catseye_sensors::clock::{ClockMapper, ClockSettings, Jitter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let jitter = if first & 1 == 0 { Jitter::OneSided } else { Jitter::Symmetric };
    let mut mapper = ClockMapper::new(ClockSettings { jitter, ..ClockSettings::default() });
    let mut last = (0, i64::MIN);
    let (pairs, _) = rest.as_chunks::<16>();
    for pair in pairs {
        let raw_ns = i64::from_le_bytes(*pair.first_chunk().unwrap());
        let arrival_ns = i64::from_le_bytes(*pair.last_chunk().unwrap());
        let Ok(mapped) = mapper.observe(raw_ns, arrival_ns) else { continue };
        assert!(mapped.uncertainty_ns >= 0);
        assert!((mapped.epoch, mapped.mapped_ns) >= last, "mapped backward within an epoch");
        last = (mapped.epoch, mapped.mapped_ns);
    }
    let _ = mapper.report();
});
