//! PNG: one file in, one RGB frame out.
//!
//! Every kind of PNG comes out as 8-bit RGB: the high byte of 16-bit samples, grey repeated three times, palettes looked
//! up, alpha dropped (the colour is kept as stored). Of an animation the first picture is taken. The file must be whole,
//! up to its last chunk, with valid checksums.

use std::io::Cursor;

use ::png::{ColorType, Decoder, DecodingError, Transformations};

use super::{Frame, Limits, PictureError, PixelFormat};

/// Name and version of the decoder, for the header of a log.
pub const fn decoder_version() -> &'static str {
    "png 0.18.1"
}

/// Decodes a PNG file into `frame` as [`PixelFormat::Rgb8`].
///
/// # Errors
/// [`PictureError::Truncated`] if the file ends too early, [`PictureError::Damaged`] with the decoder's words, and the
/// errors of [`Limits::check`], which is asked before anything is allocated. The frame's pixels are then unspecified.
pub fn decode(bytes: &[u8], frame: &mut Frame, limits: &Limits) -> Result<(), PictureError> {
    let refused = |cause: DecodingError| refusal(bytes.len(), &cause);
    let damaged = |cause: &str| PictureError::Damaged { format: "png", bytes: bytes.len(), cause: cause.to_string() };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), ::png::Limits { bytes: limits.max_bytes });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    let (width_px, height_px) = decoder.read_header_info().map_err(refused)?.size();
    let rgb_bytes = limits.check(width_px, height_px, PixelFormat::Rgb8)?;
    let mut reader = decoder.read_info().map_err(refused)?;
    // the decoder takes for granted that a palette is whole, and panics where it is not
    let palette_bytes = reader.info().palette.as_deref().map_or(0, <[u8]>::len);
    if !palette_bytes.is_multiple_of(3) || palette_bytes > 3 * 256 {
        let expected = "expected 3 bytes for each of at most 256 colours of its palette";
        return Err(damaged(&format!("{expected}, found {palette_bytes}")));
    }
    let (color, _) = reader.output_color_type();
    let decoded_bytes = reader.output_buffer_size().unwrap_or(usize::MAX);
    if decoded_bytes > limits.max_bytes {
        let max_bytes = limits.max_bytes;
        return Err(PictureError::TooManyBytes { width_px, height_px, format: "rgba8", max_bytes });
    }
    frame.reset(width_px, height_px, PixelFormat::Rgb8, true, limits)?;
    // Alpha needs more room while decoding than the frame has in the end.
    frame.data.resize(decoded_bytes.max(rgb_bytes));
    let decoded = reader.next_frame(&mut frame.data).map_err(refused);
    let finished = decoded.and_then(|info| reader.finish().map_err(refused).map(|()| info));
    let whole = matches!(&finished, Ok(info) if (info.width, info.height) == (width_px, height_px));
    if whole {
        to_rgb_in_place(&mut frame.data, color, rgb_bytes);
    }
    frame.data.resize(rgb_bytes);
    match finished {
        Ok(_) if whole => Ok(()),
        Ok(_) => Err(damaged("the first picture of the animation does not fill the canvas")),
        Err(error) => Err(error),
    }
}

/// The decoder's error in words; an end of the input is told apart, because it is what a cut-off recording gives.
fn refusal(bytes: usize, cause: &DecodingError) -> PictureError {
    match cause {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated { format: "png", found: bytes }
        }
        _ => PictureError::Damaged { format: "png", bytes, cause: cause.to_string() },
    }
}

/// Turns decoded samples at the front of `data` into RGB at the front of `data`. Wider pixels are packed from the front
/// and narrower ones spread from the back, so that no sample is overwritten before it is read.
fn to_rgb_in_place(data: &mut [u8], color: ColorType, rgb_bytes: usize) {
    let pixels = rgb_bytes / 3;
    match color {
        ColorType::Rgb | ColorType::Indexed => {}
        ColorType::Rgba => {
            for pixel in 0..pixels {
                data.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
            }
        }
        ColorType::Grayscale => spread_grey(data, pixels, 1),
        ColorType::GrayscaleAlpha => spread_grey(data, pixels, 2),
    }
}

/// Repeats the first of every `samples` bytes three times, from the last pixel to the first.
fn spread_grey(data: &mut [u8], pixels: usize, samples: usize) {
    for pixel in (0..pixels).rev() {
        let Some(&grey) = data.get(pixel * samples) else { return };
        if let Some(rgb) = data.get_mut(pixel * 3..pixel * 3 + 3) {
            rgb.fill(grey);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::locked_version;
    use super::*;
    use ::png::{BitDepth, Encoder};
    use proptest::prelude::*;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

    fn encode(width: u32, height: u32, color: ColorType, depth: BitDepth, palette: &[u8], samples: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(palette.to_vec());
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
        file
    }

    fn decoded(file: &[u8]) -> Vec<u8> {
        let mut frame = Frame::default();
        decode(file, &mut frame, &Limits::default()).unwrap();
        assert_eq!(frame.format(), PixelFormat::Rgb8);
        frame.into_data()
    }

    #[test]
    fn a_palette_that_is_not_whole_is_refused() {
        for palette in [2, 5, 3 * 256 + 1] {
            let mut bytes = Vec::new();
            let mut encoder = ::png::Encoder::new(&mut bytes, 1, 1);
            encoder.set_color(ColorType::Indexed);
            encoder.set_depth(::png::BitDepth::Eight);
            encoder.set_palette(vec![7_u8; palette]);
            encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
            let error = decode(&bytes, &mut Frame::default(), &Limits::default()).unwrap_err().to_string();
            assert!(error.contains("palette") || error.contains("PLTE"), "{error}");
        }
    }

    #[test]
    fn version_is_the_locked_one() {
        if let Some(versions) = locked_version("png") {
            assert!(versions.contains(&decoder_version().to_string()), "{versions:?}");
        }
    }

    #[test]
    fn every_kind_of_png_becomes_rgb() {
        let grey = encode(2, 1, ColorType::Grayscale, BitDepth::Eight, &[], &[7, 250]);
        assert_eq!(decoded(&grey), [7, 7, 7, 250, 250, 250]);
        let bits = encode(3, 1, ColorType::Grayscale, BitDepth::One, &[], &[0b1010_0000]);
        assert_eq!(decoded(&bits), [255, 255, 255, 0, 0, 0, 255, 255, 255]);
        let grey_alpha = encode(2, 1, ColorType::GrayscaleAlpha, BitDepth::Eight, &[], &[7, 0, 250, 9]);
        assert_eq!(decoded(&grey_alpha), [7, 7, 7, 250, 250, 250]);
        let rgba = encode(2, 1, ColorType::Rgba, BitDepth::Eight, &[], &[1, 2, 3, 0, 4, 5, 6, 255]);
        assert_eq!(decoded(&rgba), [1, 2, 3, 4, 5, 6]);
        let deep = encode(1, 2, ColorType::Rgb, BitDepth::Sixteen, &[], &[1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9]);
        assert_eq!(decoded(&deep), [1, 2, 3, 4, 5, 6]);
        let palette = encode(2, 1, ColorType::Indexed, BitDepth::Eight, &[10, 20, 30, 40, 50, 60], &[1, 0]);
        assert_eq!(decoded(&palette), [40, 50, 60, 10, 20, 30]);
    }

    #[test]
    fn limits_are_checked_before_decoding() {
        let file = encode(20, 10, ColorType::Grayscale, BitDepth::Eight, &[], &[0; 200]);
        let mut frame = Frame::default();
        let limits = Limits { max_height_px: 9, ..Limits::default() };
        let outcome = decode(&file, &mut frame, &limits);
        assert!(matches!(outcome, Err(PictureError::TooLarge { height_px: 10, max_height_px: 9, .. })));
        let limits = Limits { max_bytes: 599, ..Limits::default() };
        let outcome = decode(&file, &mut frame, &limits);
        assert!(matches!(outcome, Err(PictureError::TooManyBytes { max_bytes: 599, .. })));
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let samples: Vec<u8> = (0..16 * 9 * 4).map(|index| (index % 251) as u8).collect();
        let file = encode(16, 9, ColorType::Rgba, BitDepth::Eight, &[], &samples);
        let mut frame = Frame::default();
        for length in 0..file.len() {
            assert!(decode(&file[..length], &mut frame, &Limits::default()).is_err(), "{length}");
        }
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                let _ = decode(&damaged, &mut frame, &Limits::default());
            }
        }
    }

    #[test]
    fn real_pictures_are_decoded() {
        let pictures = [
            ("lidar/kitti/image_2/000000.png", 1224, 370),
            ("lidar/kitti/image_2/000001.png", 1242, 375),
            ("lidar/sfnd_seq/0000000000.png", 1242, 375),
            ("camera/tusimple/gt_binary_image/0000.png", 1280, 720),
        ];
        let mut frame = Frame::default();
        for (name, width_px, height_px) in pictures {
            let Ok(bytes) = std::fs::read(format!("{DATA}/{name}")) else {
                eprintln!("skipped: ../shared is absent");
                return;
            };
            decode(&bytes, &mut frame, &Limits::default()).unwrap();
            assert_eq!((frame.width_px(), frame.height_px()), (width_px, height_px), "{name}");
            let darkest = frame.data().iter().min();
            let brightest = frame.data().iter().max();
            assert!(darkest < brightest, "{name} is of one colour");
        }
    }

    proptest! {
        #[test]
        fn rgb_survives_a_round_trip(width in 1_u32..20, height in 1_u32..20, seed in any::<u8>()) {
            let mut value = seed;
            let mut samples = Vec::new();
            for _ in 0..width * height * 3 {
                value = value.wrapping_mul(75).wrapping_add(74);
                samples.push(value);
            }
            let file = encode(width, height, ColorType::Rgb, BitDepth::Eight, &[], &samples);
            prop_assert_eq!(decoded(&file), samples);
        }
    }
}
