//! Messages of the radar ARS548. They are long and of fixed length: two bytes give the method, one the number of
//! entries, and what follows is repeated until the message is full. It is also read as it is.
#![no_main]

use catseye_sensors::ars548::{Ars548Kind, read_detections, read_objects, read_status};
use libfuzzer_sys::fuzz_target;

const HEADER_BYTES: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let Some((&[high, low, count], entry)) = bytes.split_first_chunk::<3>() else { return };
    let kind = Ars548Kind::of(&[0, 0, high, low, 0, 0, 0, 0]);
    let (length, first, stride) = match kind {
        Some(Ars548Kind::Detections) => (35_336, 101, 44),
        Some(Ars548Kind::Objects) => (9_401, 51, 187),
        Some(Ars548Kind::Status) => (84, HEADER_BYTES, 76),
        None => return,
    };
    let mut message = vec![0; length];
    message[2..4].copy_from_slice(&[high, low]);
    message[4..8].copy_from_slice(&((length - HEADER_BYTES) as u32).to_be_bytes());
    for record in message[first..].chunks_mut(stride) {
        record.iter_mut().zip(entry).for_each(|(place, byte)| *place = *byte);
    }
    match kind {
        Some(Ars548Kind::Detections) => message[35_309..35_313].copy_from_slice(&[0, 0, 0, count]),
        Some(Ars548Kind::Objects) => message[50] = count,
        _ => {}
    }
    read(&message);
});

fn read(message: &[u8]) {
    let (mut detections, mut objects) = (Vec::new(), Vec::new());
    if read_detections(message, &mut detections).is_err() {
        assert!(detections.is_empty());
    }
    for detection in &detections {
        assert!(detection.range_m.is_finite());
        let _ = detection.position_m();
    }
    if read_objects(message, &mut objects).is_err() {
        assert!(objects.is_empty());
    }
    let _ = read_status(message);
}
