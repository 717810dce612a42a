//! An H.264 stream: access units, each behind its length in two bytes.
#![no_main]

use catseye_sensors::picture::h264::{H264Decoder, Reorder};
use catseye_sensors::picture::{Frame, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_width_px: 512, max_height_px: 512, max_bytes: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut decoder) = H264Decoder::new(LIMITS, Reorder::FromStream) else { return };
    let mut frame = Frame::default();
    let mut rest = bytes;
    let mut stamp_ns = 0;
    let mut shown_ns = i64::MIN;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (unit, behind) = behind.split_at(length);
        rest = behind;
        stamp_ns += 40_000_000;
        let _ = decoder.feed(unit, stamp_ns);
        while let Some(shown) = decoder.pop(&mut frame) {
            assert!(shown >= shown_ns, "pictures leave in the order in which they are shown");
            shown_ns = shown;
        }
    }
    decoder.finish();
    while decoder.pop(&mut frame).is_some() {}
});
