//! Rows of a frame as red, green and blue bytes, converted only when they are looked at.
//!
//! Frames come from the sensors' decoders, rows go to the resizer and the remapper. Chroma formats follow the integers of
//! [`Bt601`], chroma from the nearest sample; the tests hold rows against whole frames converted there.

use catseye_sensors::picture::convert::Bt601;
use catseye_sensors::picture::{Frame, PixelFormat};

/// Converts pairs of pixels, each with its `[u, v]`, into the three planes of `scratch`.
fn convert<'a>(
    bt601: &Bt601,
    luma: impl Iterator<Item = [u8; 2]>,
    chroma: impl Iterator<Item = [u8; 2]>,
    width: usize,
    scratch: &'a mut [u8],
) -> Row<'a> {
    let plane = scratch_bytes(width) / 3;
    let (red, rest) = scratch.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let reds = red.as_chunks_mut::<2>().0.iter_mut();
    let greens = green.as_chunks_mut::<2>().0.iter_mut();
    let blues = blue.as_chunks_mut::<2>().0.iter_mut();
    let outputs = reds.zip(greens).zip(blues);
    for (((red, green), blue), (luma, [u, v])) in outputs.zip(luma.zip(chroma)) {
        let [to_red, to_green, to_blue] = bt601.tint(u, v);
        let luma = luma.map(|y| bt601.luma(y));
        *red = luma.map(|luma| luma.byte(to_red));
        *green = luma.map(|luma| luma.byte(to_green));
        *blue = luma.map(|luma| luma.byte(to_blue));
    }
    Row::Planar([&*red, &*green, &*blue])
}

/// One row of a picture. Planes may be a byte longer than the picture is wide.
pub(super) enum Row<'a> {
    /// Three bytes a pixel, blue first or red first.
    Packed {
        /// The bytes.
        pixels: &'a [u8],
        /// Whether blue comes first.
        blue_first: bool,
    },
    /// Red, green and blue one after the other.
    Planar([&'a [u8]; 3]),
}

/// Bytes of scratch that [`row`] needs for a picture of this width: three planes of an even number of bytes.
pub(super) fn scratch_bytes(width: usize) -> usize {
    6 * width.div_ceil(2)
}

/// Row `y` of the frame. `scratch` holds at least [`scratch_bytes`]; rows that need no conversion leave it alone.
pub(super) fn row<'a>(frame: &'a Frame, y: usize, scratch: &'a mut [u8]) -> Row<'a> {
    let (width, height) = (frame.width_px() as usize, frame.height_px() as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let data = frame.data();
    let bt601 = Bt601::of(frame);
    // A luma row of odd width is read one byte into what follows, so that pixels come in pairs; the byte is not shown.
    let luma_pairs = || line(data, y * width, 2 * half_width).as_chunks::<2>().0.iter().copied();
    let chroma_plane = width * height;
    match frame.format() {
        PixelFormat::Rgb8 => Row::Packed { pixels: line(data, y * 3 * width, 3 * width), blue_first: false },
        PixelFormat::Bgr8 => Row::Packed { pixels: line(data, y * 3 * width, 3 * width), blue_first: true },
        PixelFormat::Mono8 => Row::Planar([line(data, y * width, width); 3]),
        PixelFormat::Nv12 => {
            let chroma = line(data, chroma_plane + (y / 2) * 2 * half_width, 2 * half_width);
            convert(bt601, luma_pairs(), chroma.as_chunks::<2>().0.iter().copied(), width, scratch)
        }
        PixelFormat::I420 => {
            let u_start = chroma_plane + (y / 2) * half_width;
            let u = line(data, u_start, half_width);
            let v = line(data, u_start + half_width * half_height, half_width);
            convert(bt601, luma_pairs(), u.iter().zip(v).map(|(&u, &v)| [u, v]), width, scratch)
        }
        PixelFormat::Yuyv => {
            let quads = line(data, y * 4 * half_width, 4 * half_width).as_chunks::<4>().0;
            let luma = quads.iter().map(|&[first, _, second, _]| [first, second]);
            let chroma = quads.iter().map(|&[_, u, _, v]| [u, v]);
            convert(bt601, luma, chroma, width, scratch)
        }
        PixelFormat::Uyvy => {
            let quads = line(data, y * 4 * half_width, 4 * half_width).as_chunks::<4>().0;
            let luma = quads.iter().map(|&[_, first, _, second]| [first, second]);
            let chroma = quads.iter().map(|&[u, _, v, _]| [u, v]);
            convert(bt601, luma, chroma, width, scratch)
        }
    }
}

fn line(data: &[u8], start: usize, length: usize) -> &[u8] {
    data.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default()
}

/// A whole picture whose pixels can be looked up in any order.
pub(super) struct Texels<'a> {
    /// All bytes.
    pub bytes: &'a [u8],
    /// Bytes from a pixel to the one below.
    pub row_step: usize,
    /// Bytes from a pixel to the one on its right.
    pub pixel_step: usize,
    /// Bytes from the start of a pixel to its red, green and blue.
    pub channels: [usize; 3],
}

/// The whole frame. Chroma formats are converted into `scratch`, which grows once to the size of the picture.
pub(super) fn texels<'a>(frame: &'a Frame, scratch: &'a mut Vec<u8>) -> Texels<'a> {
    let width = frame.width_px() as usize;
    let packed = |channels| Texels { bytes: frame.data(), row_step: 3 * width, pixel_step: 3, channels };
    match frame.format() {
        PixelFormat::Rgb8 => packed([0, 1, 2]),
        PixelFormat::Bgr8 => packed([2, 1, 0]),
        PixelFormat::Mono8 => Texels { bytes: frame.data(), row_step: width, pixel_step: 1, channels: [0; 3] },
        PixelFormat::Nv12 | PixelFormat::I420 | PixelFormat::Yuyv | PixelFormat::Uyvy => {
            let row_step = scratch_bytes(width);
            scratch.resize(row_step * frame.height_px() as usize, 0);
            for (y, converted) in scratch.chunks_exact_mut(row_step).enumerate() {
                row(frame, y, converted);
            }
            let plane = row_step / 3;
            Texels { bytes: scratch, row_step, pixel_step: 1, channels: [0, plane, 2 * plane] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::preprocess::tests::noise;
    use catseye_sensors::picture::convert::rgb_at;

    fn pixel(row: &Row<'_>, x: usize) -> [u8; 3] {
        match *row {
            Row::Packed { pixels, blue_first } => {
                let [first, green, last] = [pixels[3 * x], pixels[3 * x + 1], pixels[3 * x + 2]];
                if blue_first { [last, green, first] } else { [first, green, last] }
            }
            Row::Planar(planes) => planes.map(|plane| plane[x]),
        }
    }

    #[test]
    fn rows_and_texels_show_the_colours_that_the_sensors_show() {
        for format in PixelFormat::ALL {
            for (width, height) in [(8, 6), (7, 5), (2, 2), (3, 2)] {
                for full_range in [false, true] {
                    let frame = noise(width, height, format, full_range);
                    let mut scratch = vec![0; scratch_bytes(width as usize)];
                    let mut picture = Vec::new();
                    let texels = texels(&frame, &mut picture);
                    for y in 0..height {
                        let row = row(&frame, y as usize, &mut scratch);
                        for x in 0..width {
                            let expected = rgb_at(&frame, x, y).unwrap();
                            assert_eq!(pixel(&row, x as usize), expected, "{format:?} {width} {x} {y}");
                            let start = y as usize * texels.row_step + x as usize * texels.pixel_step;
                            let found = texels.channels.map(|channel| texels.bytes[start + channel]);
                            assert_eq!(found, expected, "{format:?} {width} {x} {y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_outside_the_frame_is_empty() {
        let frame = noise(4, 4, PixelFormat::Rgb8, true);
        let mut scratch = vec![0; scratch_bytes(4)];
        assert!(matches!(row(&frame, 4, &mut scratch), Row::Packed { pixels: [], .. }));
    }
}
