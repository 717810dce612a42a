//! Frames of any format to 8-bit RGB, in whole numbers.
//!
//! Chroma formats follow ITU-R BT.601. With `c = 65536` the coefficients are rounded once to 1/65536 and a pixel is
//! `(luma_gain * (y - y_offset) + chroma + 32768) >> 16`, clamped to 0..=255, so that every machine gives the same bytes.
//! Chroma is taken from the nearest sample: each sample serves its 2 x 2 (NV12, I420) or 2 x 1 (YUYV, UYVY) pixels.

use super::{Frame, PixelFormat};

/// A coefficient: `whole + part / 65536`. Split like this, a sum of products needs 16-bit factors only, of which every
/// processor multiplies many at a time.
struct Gain {
    whole: i16,
    part: i16,
}

impl Gain {
    /// From units of 1/65536.
    const fn new(units: i32) -> Gain {
        let part = units as i16;
        Gain { whole: ((units - part as i32) >> 16) as i16, part }
    }

    #[inline]
    fn times(&self, value: i16) -> Sum {
        Sum { whole: self.whole * value, part: i32::from(self.part) * i32::from(value) }
    }
}

/// What luma or chroma gives to a colour: `whole + part / 65536`.
#[derive(Clone, Copy)]
pub struct Sum {
    whole: i16,
    part: i32,
}

impl Sum {
    #[inline]
    fn plus(self, other: Sum) -> Sum {
        Sum { whole: self.whole + other.whole, part: self.part + other.part }
    }

    /// The byte of the sum of luma and tint.
    #[inline]
    pub fn byte(self, tint: Sum) -> u8 {
        let sum = self.plus(tint);
        (sum.whole + (sum.part >> 16) as i16).clamp(0, 255) as u8
    }
}

/// BT.601 coefficients.
pub struct Bt601 {
    luma_offset: i16,
    luma_gain: Gain,
    red_from_v: Gain,
    green_from_u: Gain,
    green_from_v: Gain,
    blue_from_u: Gain,
}

/// Luma 16..=235 and chroma 16..=240: gains are 255/219 and (255/224) times those of the full range.
const LIMITED: Bt601 = Bt601 {
    luma_offset: 16,
    luma_gain: Gain::new(76_309),
    red_from_v: Gain::new(104_597),
    green_from_u: Gain::new(-25_675),
    green_from_v: Gain::new(-53_279),
    blue_from_u: Gain::new(132_201),
};

/// Luma and chroma 0..=255: 1.402, -0.344136, -0.714136 and 1.772.
const FULL: Bt601 = Bt601 {
    luma_offset: 0,
    luma_gain: Gain::new(65_536),
    red_from_v: Gain::new(91_881),
    green_from_u: Gain::new(-22_553),
    green_from_v: Gain::new(-46_802),
    blue_from_u: Gain::new(116_130),
};

impl Bt601 {
    /// The coefficients of a frame's range.
    pub fn of(frame: &Frame) -> &'static Bt601 {
        if frame.full_range() { &FULL } else { &LIMITED }
    }

    /// What luma gives to red, green and blue alike.
    #[inline]
    pub fn luma(&self, y: u8) -> Sum {
        self.luma_gain.times(i16::from(y) - self.luma_offset)
    }

    /// What chroma adds to red, green and blue, with the half that rounds.
    #[inline]
    pub fn tint(&self, u: u8, v: u8) -> [Sum; 3] {
        const HALF: Sum = Sum { whole: 0, part: 32_768 };
        let (u, v) = (i16::from(u) - 128, i16::from(v) - 128);
        let green = self.green_from_u.times(u).plus(self.green_from_v.times(v));
        [self.red_from_v.times(v).plus(HALF), green.plus(HALF), self.blue_from_u.times(u).plus(HALF)]
    }

    fn rgb(&self, y: u8, tint: [Sum; 3]) -> [u8; 3] {
        let luma = self.luma(y);
        tint.map(|tint| luma.byte(tint))
    }

    /// Converts one row; every chroma pair `[u, v]` serves two pixels.
    fn row(&self, out: &mut [u8], luma: impl Iterator<Item = [u8; 2]>, chroma: impl Iterator<Item = [u8; 2]>) {
        for ((pixels, luma), [u, v]) in out.chunks_mut(6).zip(luma).zip(chroma) {
            let tint = self.tint(u, v);
            for (pixel, y) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
                *pixel = self.rgb(y, tint);
            }
        }
    }
}

/// Converts a frame to tightly packed RGB (`3 * width * height` bytes, row by row) in `rgb`, whose capacity is reused.
/// Grey is repeated three times. An empty frame gives no bytes.
pub fn to_rgb8(frame: &Frame, rgb: &mut Vec<u8>) {
    let (width, height) = (frame.width_px() as usize, frame.height_px() as usize);
    let data = frame.data();
    if data.is_empty() {
        rgb.clear();
        return;
    }
    rgb.resize(width * height * 3, 0);
    let bt601 = Bt601::of(frame);
    let rows = rgb.chunks_exact_mut(width * 3);
    match frame.format() {
        PixelFormat::Rgb8 => rgb.copy_from_slice(data),
        PixelFormat::Bgr8 => {
            for (pixel, &[blue, green, red]) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(data.as_chunks::<3>().0) {
                *pixel = [red, green, blue];
            }
        }
        PixelFormat::Mono8 => {
            for (pixel, &grey) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(data) {
                *pixel = [grey; 3];
            }
        }
        PixelFormat::Nv12 => {
            let (luma, chroma) = data.split_at(width * height);
            let chroma_rows = chroma.chunks_exact(2 * width.div_ceil(2)).flat_map(|row| [row, row]);
            for ((out, luma), chroma) in rows.zip(luma.chunks_exact(width)).zip(chroma_rows) {
                bt601.row(out, pairs(luma), chroma.as_chunks::<2>().0.iter().copied());
            }
        }
        PixelFormat::I420 => {
            let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
            let (luma, chroma) = data.split_at(width * height);
            let (u, v) = chroma.split_at(chroma_width * chroma_height);
            let chroma_rows = u.chunks_exact(chroma_width).zip(v.chunks_exact(chroma_width));
            let chroma_rows = chroma_rows.flat_map(|row| [row, row]);
            for ((out, luma), (u, v)) in rows.zip(luma.chunks_exact(width)).zip(chroma_rows) {
                bt601.row(out, pairs(luma), u.iter().zip(v).map(|(&u, &v)| [u, v]));
            }
        }
        PixelFormat::Yuyv => {
            for (out, row) in rows.zip(data.chunks_exact(4 * width.div_ceil(2))) {
                let quads = row.as_chunks::<4>().0;
                bt601.row(out, quads.iter().map(|q| [q[0], q[2]]), quads.iter().map(|q| [q[1], q[3]]));
            }
        }
        PixelFormat::Uyvy => {
            for (out, row) in rows.zip(data.chunks_exact(4 * width.div_ceil(2))) {
                let quads = row.as_chunks::<4>().0;
                bt601.row(out, quads.iter().map(|q| [q[1], q[3]]), quads.iter().map(|q| [q[0], q[2]]));
            }
        }
    }
}

/// Two luma samples at a time; the partner of a last odd one is never shown.
fn pairs(luma: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    luma.chunks(2).map(|pair| match *pair {
        [first, second] => [first, second],
        _ => [pair.first().copied().unwrap_or_default(), 0],
    })
}

/// The colour of the pixel in column `x` and row `y`, by looking up its samples one at a time; none outside the frame.
/// It gives what [`to_rgb8`] gives, slowly, and is what that is tested against.
pub fn rgb_at(frame: &Frame, x: u32, y: u32) -> Option<[u8; 3]> {
    if x >= frame.width_px() || y >= frame.height_px() {
        return None;
    }
    let (x, y) = (x as usize, y as usize);
    let (width, height) = (frame.width_px() as usize, frame.height_px() as usize);
    let at = |index: usize| frame.data().get(index).copied();
    let bt601 = Bt601::of(frame);
    let pixel = y * width + x;
    let chroma_width = width.div_ceil(2);
    let chroma = (y / 2) * chroma_width + x / 2;
    let quad = (y * chroma_width + x / 2) * 4;
    let rgb = match frame.format() {
        PixelFormat::Rgb8 => [at(3 * pixel)?, at(3 * pixel + 1)?, at(3 * pixel + 2)?],
        PixelFormat::Bgr8 => [at(3 * pixel + 2)?, at(3 * pixel + 1)?, at(3 * pixel)?],
        PixelFormat::Mono8 => [at(pixel)?; 3],
        PixelFormat::Nv12 => {
            let u = width * height + 2 * chroma;
            bt601.rgb(at(pixel)?, bt601.tint(at(u)?, at(u + 1)?))
        }
        PixelFormat::I420 => {
            let u = width * height + chroma;
            let v = u + chroma_width * height.div_ceil(2);
            bt601.rgb(at(pixel)?, bt601.tint(at(u)?, at(v)?))
        }
        PixelFormat::Yuyv => bt601.rgb(at(quad + 2 * (x % 2))?, bt601.tint(at(quad + 1)?, at(quad + 3)?)),
        PixelFormat::Uyvy => bt601.rgb(at(quad + 1 + 2 * (x % 2))?, bt601.tint(at(quad)?, at(quad + 2)?)),
    };
    Some(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_pixel(full_range: bool, y: u8, u: u8, v: u8) -> [u8; 3] {
        let frame = Frame::new(1, 1, PixelFormat::I420, full_range, vec![y, u, v]).unwrap();
        rgb_at(&frame, 0, 0).unwrap()
    }

    /// BT.601 as its text has it, in floating point.
    fn bt601(full_range: bool, y: u8, u: u8, v: u8) -> [f64; 3] {
        let (gain, offset, chroma) = if full_range { (1.0, 0.0, 255.0) } else { (255.0 / 219.0, 16.0, 224.0) };
        let luma = gain * (f64::from(y) - offset);
        let u = (f64::from(u) - 128.0) * 255.0 / chroma;
        let v = (f64::from(v) - 128.0) * 255.0 / chroma;
        let green = luma - 2.0 * 0.114 * 0.886 / 0.587 * u - 2.0 * 0.299 * 0.701 / 0.587 * v;
        [luma + 2.0 * 0.701 * v, green, luma + 2.0 * 0.886 * u].map(|value| value.clamp(0.0, 255.0))
    }

    #[test]
    fn fixed_point_is_the_rounded_formula() {
        for full_range in [false, true] {
            for y in (0..=255).step_by(3) {
                for u in (0..=255).step_by(5) {
                    for v in (0..=255).step_by(5) {
                        let exact = bt601(full_range, y, u, v);
                        for (found, exact) in one_pixel(full_range, y, u, v).into_iter().zip(exact) {
                            let error = (f64::from(found) - exact).abs();
                            assert!(error < 0.504, "{full_range} {y} {u} {v}: {found} {exact}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn black_white_and_grey_are_exact() {
        assert_eq!(one_pixel(false, 16, 128, 128), [0; 3]);
        assert_eq!(one_pixel(false, 235, 128, 128), [255; 3]);
        assert_eq!(one_pixel(true, 0, 128, 128), [0; 3]);
        assert_eq!(one_pixel(true, 255, 128, 128), [255; 3]);
        assert_eq!(one_pixel(true, 77, 128, 128), [77; 3]);
    }

    #[test]
    fn an_empty_frame_has_no_pixels() {
        let mut rgb = vec![1, 2, 3];
        to_rgb8(&Frame::default(), &mut rgb);
        assert!(rgb.is_empty());
        assert_eq!(rgb_at(&Frame::default(), 0, 0), None);
    }

    proptest! {
        #[test]
        fn whole_frames_agree_with_single_pixels(
            number in 0_u8..7, width in 1_u32..18, height in 1_u32..9, full_range in any::<bool>(), seed in any::<u8>(),
        ) {
            let format = PixelFormat::from_number(number).unwrap();
            let mut value = seed;
            let mut data = Vec::new();
            for _ in 0..format.bytes_for(width, height).unwrap() {
                value = value.wrapping_mul(75).wrapping_add(74);
                data.push(value);
            }
            let frame = Frame::new(width, height, format, full_range, data).unwrap();
            let mut rgb = Vec::new();
            to_rgb8(&frame, &mut rgb);
            prop_assert_eq!(rgb.len(), (width * height * 3) as usize);
            let mut pixels = rgb.as_chunks::<3>().0.iter();
            for y in 0..height {
                for x in 0..width {
                    prop_assert_eq!(rgb_at(&frame, x, y), pixels.next().copied(), "{} {}", x, y);
                }
            }
        }
    }
}
