//! The CDR reader, value by value: the first half of the input says what is read, the second half is the payload.
#![no_main]

use catseye_sensors::ros2::cdr::{CdrError, CdrReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (wanted, payload) = bytes.split_at(bytes.len() / 2);
    let Ok(mut reader) = CdrReader::new(payload) else { return };
    for what in wanted {
        let before = reader.position();
        if read(&mut reader, *what).is_err() {
            break;
        }
        assert!((before..=payload.len()).contains(&reader.position()));
    }
    let _ = reader.finish();
});

fn read(reader: &mut CdrReader<'_>, what: u8) -> Result<(), CdrError> {
    match what % 12 {
        0 => reader.u8().map(drop),
        1 => reader.i8().map(drop),
        2 => reader.u16().map(drop),
        3 => reader.u32().map(drop),
        4 => reader.i32().map(drop),
        5 => reader.f64().map(drop),
        6 => reader.f64s::<3>().map(drop),
        7 => reader.bool().map(drop),
        8 => reader.bytes().map(drop),
        9 => reader.string().map(drop),
        10 => reader.take(usize::from(what)).map(drop),
        _ => reader.sequence_len(usize::from(what)).map(drop),
    }
}
