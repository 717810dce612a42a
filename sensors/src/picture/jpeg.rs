//! JPEG: one file in, one RGB frame out.
//!
//! Baseline and progressive files are decoded in strict mode. A file must hold everything up to its end marker: the
//! markers are walked before the decoder runs, because a decoder notices a missing tail only row by row. The decoder is
//! built without its AVX2 and NEON code, so that a file, damaged or not, gives the same pixels on every processor.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Frame, Limits, PictureError, PixelFormat};

/// Name and version of the decoder, for the header of a log.
pub const fn decoder_version() -> &'static str {
    "zune-jpeg 0.5.15"
}

/// Decodes a JPEG file into `frame` as [`PixelFormat::Rgb8`].
///
/// # Errors
/// [`PictureError::Truncated`] if the end marker is missing, [`PictureError::Damaged`] with the decoder's words, and the
/// errors of [`Limits::check`], which is asked before anything is allocated. The frame's pixels are then unspecified.
pub fn decode(bytes: &[u8], frame: &mut Frame, limits: &Limits) -> Result<(), PictureError> {
    // The sizes are compared below, where the error can name both; the decoder's own bounds are set out of the way.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let whole = reaches_end_marker(bytes);
    let refused = |cause: String| {
        if bytes.starts_with(&[0xFF, 0xD8]) && !whole {
            return PictureError::Truncated { format: "jpeg", found: bytes.len() };
        }
        PictureError::Damaged { format: "jpeg", bytes: bytes.len(), cause }
    };
    decoder.decode_headers().map_err(|cause| refused(cause.to_string()))?;
    let Some((width, height)) = decoder.dimensions() else {
        return Err(refused("no size in the header".to_string()));
    };
    let width_px = u32::try_from(width).unwrap_or(u32::MAX);
    let height_px = u32::try_from(height).unwrap_or(u32::MAX);
    limits.check(width_px, height_px, PixelFormat::Rgb8)?;
    if !whole {
        return Err(refused("no end marker".to_string()));
    }
    let data = frame.reset(width_px, height_px, PixelFormat::Rgb8, true, limits)?;
    // zune-jpeg 0.5.15 panics on some damaged files, whose pixels are unspecified in any case
    match catch_unwind(AssertUnwindSafe(|| decoder.decode_into(data))) {
        Ok(decoded) => decoded.map_err(|cause| refused(cause.to_string())),
        Err(_) => Err(refused("the decoder panicked".to_string())),
    }
}

/// Walks the markers (ITU-T T.81, annex B): segments carry their length, the coded data behind a start of scan runs to
/// the next marker that is neither a stuffed zero nor a restart.
fn reaches_end_marker(bytes: &[u8]) -> bool {
    const STUFFED: u8 = 0x00;
    const TEMPORARY: u8 = 0x01;
    const START_OF_IMAGE: u8 = 0xD8;
    const END_OF_IMAGE: u8 = 0xD9;
    const FILL: u8 = 0xFF;
    let mut rest = bytes;
    loop {
        let Some(position) = rest.iter().position(|byte| *byte == 0xFF) else { return false };
        let Some(&marker) = rest.get(position.saturating_add(1)) else { return false };
        let behind_prefix = rest.get(position.saturating_add(1)..).unwrap_or_default();
        let behind_marker = behind_prefix.get(1..).unwrap_or_default();
        rest = match marker {
            END_OF_IMAGE => return true,
            FILL => behind_prefix,
            STUFFED | TEMPORARY | START_OF_IMAGE | 0xD0..=0xD7 => behind_marker,
            _ => {
                let Some(&[high, low]) = behind_marker.first_chunk::<2>() else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(behind_segment) = behind_marker.get(length..) else { return false };
                behind_segment
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::locked_version;
    use super::*;

    const STILL: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/camera/carnd/adv_test_images/straight_lines1.jpg");

    /// Found by fuzzing: zune-jpeg 0.5.15 panics on this file in its AVX2 code and decodes it without.
    #[test]
    fn a_damaged_file_is_decoded_alike_on_every_processor() {
        let bytes = include_bytes!("damaged_blocks.jpg");
        let limits = Limits { max_width_px: 2048, max_height_px: 2048, max_bytes: 4 << 20 };
        let mut frame = Frame::default();
        decode(bytes, &mut frame, &limits).unwrap();
        let sum = frame.data().iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        assert_eq!((frame.width_px(), frame.height_px(), sum), (257, 1, 3_330_947_732));
    }

    /// Found by fuzzing: three components whose sampling no encoder chooses.
    #[test]
    fn a_file_that_the_decoder_panics_on_is_damaged() {
        let bytes = include_bytes!("damaged_sampling.jpg");
        let refused = decode(bytes, &mut Frame::default(), &Limits::default()).unwrap_err();
        assert!(refused.to_string().ends_with("the decoder panicked"), "{refused}");
    }

    #[test]
    fn version_is_the_locked_one() {
        if let Some(versions) = locked_version("zune-jpeg") {
            assert!(versions.contains(&decoder_version().to_string()), "{versions:?}");
        }
    }

    #[test]
    fn marker_walk_finds_the_end() {
        let whole = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 2, 1, 0xFF, 0, 0xFF, 0xD3, 2, 0xFF, 0xD9];
        assert!(reaches_end_marker(&whole));
        for length in 0..whole.len() {
            assert!(!reaches_end_marker(&whole[..length]), "{length}");
        }
    }

    #[test]
    fn a_real_picture_is_decoded_and_the_buffer_is_kept() {
        let Ok(bytes) = std::fs::read(STILL) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let mut frame = Frame::default();
        decode(&bytes, &mut frame, &Limits::default()).unwrap();
        assert_eq!((frame.width_px(), frame.height_px(), frame.format()), (1280, 720, PixelFormat::Rgb8));
        assert_eq!(frame.data().len(), 1280 * 720 * 3);
        // The sky in the first rows is bluer and brighter than the road in the last.
        let blue = |row: usize| {
            let row = &frame.data()[row * 1280 * 3..(row + 1) * 1280 * 3];
            row.as_chunks::<3>().0.iter().map(|pixel| u64::from(pixel[2])).sum::<u64>()
        };
        assert!(blue(20) > blue(600), "{} {}", blue(20), blue(600));
        let address = frame.data().as_ptr();
        let first = frame.clone();
        decode(&bytes, &mut frame, &Limits::default()).unwrap();
        assert_eq!(frame.data().as_ptr(), address);
        assert_eq!(frame, first);
    }

    #[test]
    fn limits_are_checked_before_decoding() {
        let Ok(bytes) = std::fs::read(STILL) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let limits = Limits { max_width_px: 1279, ..Limits::default() };
        let mut frame = Frame::default();
        let outcome = decode(&bytes, &mut frame, &limits);
        assert!(matches!(outcome, Err(PictureError::TooLarge { width_px: 1280, max_width_px: 1279, .. })));
        assert_eq!(frame, Frame::default());
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let Ok(bytes) = std::fs::read(STILL) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let mut frame = Frame::default();
        let step = bytes.len() / 150;
        let near_end = bytes.len() - 8..bytes.len();
        for length in (0..600).step_by(5).chain((600..bytes.len()).step_by(step)).chain(near_end) {
            assert!(decode(&bytes[..length], &mut frame, &Limits::default()).is_err(), "{length}");
        }
        for position in (0..700).step_by(9).chain((700..bytes.len()).step_by(bytes.len() / 20)) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            let _ = decode(&damaged, &mut frame, &Limits::default());
        }
    }
}
