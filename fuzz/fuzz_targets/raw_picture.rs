//! Pictures without a header: a layout of ten bytes, then the pixels. What was copied is converted, too.
#![no_main]

use catseye_sensors::picture::convert::{rgb_at, to_rgb8};
use catseye_sensors::picture::{Frame, Limits, PixelFormat, RawLayout, copy_raw};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_width_px: 2048, max_height_px: 2048, max_bytes: 4 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let Some((&[format, flags, w0, w1, h0, h1, s0, s1, s2, s3], pixels)) = bytes.split_first_chunk::<10>() else {
        return;
    };
    let Some(format) = PixelFormat::from_number(format) else { return };
    let stride = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let layout = RawLayout {
        width_px: u32::from(u16::from_le_bytes([w0, w1])),
        height_px: u32::from(u16::from_le_bytes([h0, h1])),
        format,
        full_range: flags & 1 != 0,
        stride_bytes: (flags & 2 != 0).then_some(stride),
    };
    let mut frame = Frame::default();
    if copy_raw(&layout, pixels, &mut frame, &LIMITS).is_err() {
        return;
    }
    let mut rgb = Vec::new();
    to_rgb8(&frame, &mut rgb);
    assert_eq!(rgb.len(), frame.width_px() as usize * frame.height_px() as usize * 3);
    assert_eq!(rgb_at(&frame, 0, 0).as_ref().map(|pixel| pixel.as_slice()), rgb.get(..3));
    assert_eq!(rgb_at(&frame, frame.width_px(), 0), None);
});
