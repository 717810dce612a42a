//! JPEG files. The decoder's panics are caught by ours, which goes on; libFuzzer's own hook would end the process before. A panic that
//! nobody catches ends it all the same.
#![no_main]

use catseye_sensors::picture::{Frame, Limits, jpeg};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_width_px: 2048, max_height_px: 2048, max_bytes: 4 << 20 };

fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let mut frame = Frame::default();
    let _ = jpeg::decode(bytes, &mut frame, &LIMITS);
});
