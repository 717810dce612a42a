//! JPEG files.
#![no_main]

use catseye_sensors::picture::{Frame, Limits, jpeg};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_width_px: 2048, max_height_px: 2048, max_bytes: 4 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let mut frame = Frame::default();
    let _ = jpeg::decode(bytes, &mut frame, &LIMITS);
});
