//! Raw pictures of a sensor with a Bayer mosaic, developed to RGB.
//!
//! Bytes come as a driver sends them, RAW10 or RAW12; an RGB8 [`Frame`] goes to the [`Preprocessor`](super::Preprocessor).
//! All arithmetic is in whole numbers of 12 bits (a sample of 10 bits counts fourfold), in this order:
//!
//! 1. black level and white balance: `min((max(sample - black, 0) * gain) >> 8, 4095)`, the gain of the sample's colour;
//! 2. the two colours that a pixel lacks are the mean of its nearest neighbours that have them, `(a + b + 1) >> 1` or
//!    `(a + b + c + d + 2) >> 2`; beyond an edge the picture is mirrored about its outermost pixels;
//! 3. a colour matrix: `(m0 * red + m1 * green + m2 * blue + 512) >> 10`, held between 0 and 4095;
//! 4. a tone curve: a table from 4096 values to bytes.
//!
//! The same bytes give the same picture on every machine.

pub use catseye_calibration::rig::BayerPattern;
use catseye_calibration::rig::{Camera, IspSettings, PictureFormat};
use catseye_sensors::picture::{Frame, Limits, PictureError, PixelFormat};
use thiserror::Error;

/// Values of the tone curve.
pub const CURVE_VALUES: usize = 4096;
/// One as a gain.
pub const GAIN_ONE: u16 = 256;
/// One in the colour matrix.
pub const MATRIX_ONE: i16 = 1024;
/// The largest sample and colour.
const MAX_VALUE: i32 = 4095;

/// How samples lie in memory. Rows begin at whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// 10 bits at the bottom of 16, little-endian.
    Raw10,
    /// 12 bits at the bottom of 16, little-endian.
    Raw12,
    /// MIPI RAW10: 4 samples in 5 bytes, the last of which holds their two lowest bits, the first sample's at the bottom.
    Raw10Packed,
    /// MIPI RAW12: 2 samples in 3 bytes, the last of which holds their four lowest bits, the first sample's at the bottom.
    Raw12Packed,
}

impl RawFormat {
    /// Every format.
    pub const ALL: [RawFormat; 4] =
        [RawFormat::Raw10, RawFormat::Raw12, RawFormat::Raw10Packed, RawFormat::Raw12Packed];

    /// Bytes of a row without any between rows.
    pub fn row_bytes(self, width_px: u32) -> usize {
        let width = width_px as usize;
        match self {
            RawFormat::Raw10 | RawFormat::Raw12 => 2 * width,
            RawFormat::Raw10Packed => 5 * width.div_ceil(4),
            RawFormat::Raw12Packed => 3 * width.div_ceil(2),
        }
    }

    /// A sample of a row, 0 to 4095. Bits above the format's count as the largest sample.
    fn sample(self, row: &[u8], x: usize) -> i32 {
        let byte = |index: usize| i32::from(row.get(index).copied().unwrap_or_default());
        let word = |index: usize| byte(index) | byte(index + 1) << 8;
        match self {
            RawFormat::Raw10 => word(2 * x).min(1023) << 2,
            RawFormat::Raw12 => word(2 * x).min(MAX_VALUE),
            RawFormat::Raw10Packed => {
                let (start, place) = (x / 4 * 5, x % 4);
                byte(start + place) << 4 | (byte(start + 4) >> (2 * place) & 3) << 2
            }
            RawFormat::Raw12Packed => {
                let (start, place) = (x / 2 * 3, x % 2);
                byte(start + place) << 4 | (byte(start + 2) >> (4 * place) & 15)
            }
        }
    }
}

/// How a raw picture lies in memory, and which colours its pixels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MosaicLayout {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// How samples lie in memory.
    pub format: RawFormat,
    /// The mosaic.
    pub pattern: BayerPattern,
    /// Bytes from one row to the next; none if rows follow one another.
    pub stride_bytes: Option<usize>,
}

/// The names of raw pictures in logs: those of formats in rigs, and what tells that samples are packed.
const ENCODINGS: [(&str, RawFormat); 4] = [
    ("10", RawFormat::Raw10),
    ("12", RawFormat::Raw12),
    ("10-packed", RawFormat::Raw10Packed),
    ("12-packed", RawFormat::Raw12Packed),
];

/// The name of raw pictures in a log, for example `bayer-rggb12` or `bayer-grbg10-packed`.
pub fn encoding(format: RawFormat, pattern: BayerPattern) -> String {
    let depth = ENCODINGS.iter().find(|(_, one)| *one == format).map_or("", |(name, _)| *name);
    format!("bayer-{}{depth}", pattern.name())
}

/// What [`encoding`] has named; none for any other name.
pub fn from_encoding(name: &str) -> Option<(RawFormat, BayerPattern)> {
    let rest = name.strip_prefix("bayer-")?;
    let pattern = BayerPattern::ALL.into_iter().find(|pattern| rest.starts_with(pattern.name()))?;
    let depth = rest.strip_prefix(pattern.name())?;
    let (_, format) = ENCODINGS.into_iter().find(|(name, _)| *name == depth)?;
    Some((format, pattern))
}

/// The mosaic of a rig's camera, if its pictures are raw and can be developed.
pub fn pattern_of(camera: &Camera) -> Option<BayerPattern> {
    match camera.format {
        PictureFormat::Bayer { pattern, bits: 10 | 12 } => Some(pattern),
        _ => None,
    }
}

/// How raw pictures of one camera are developed.
#[derive(Clone, Debug, PartialEq)]
pub struct Isp {
    /// The mosaic.
    pub pattern: BayerPattern,
    /// The sample of no light, in 1/4096 of the full range.
    pub black_level: u16,
    /// White balance of red, green and blue in 1/256, up to 16.
    pub gains: [u16; 3],
    /// From the sensor's red, green and blue to those shown, row by row in 1/1024.
    pub matrix: [[i16; 3]; 3],
    /// The byte of each value.
    pub curve: Vec<u8>,
}

/// Why a raw picture could not be developed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RawError {
    /// The black level leaves no range.
    #[error("black level is {found}: expected at most 4094")]
    BlackLevel {
        /// The level.
        found: u16,
    },
    /// A gain is too large.
    #[error("gains are {found:?} in 1/256: expected at most 4096 each")]
    Gains {
        /// The gains.
        found: [u16; 3],
    },
    /// The tone curve has another length.
    #[error("tone curve has {found} values: expected 4096")]
    Curve {
        /// Its length.
        found: usize,
    },
    /// The picture is too small for a mosaic.
    #[error("raw picture is {width_px} x {height_px} pixels: expected at least 2 x 2")]
    TooSmall {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
    },
    /// Rows are said to be closer together than they are long.
    #[error("expected raw rows of at least {expected} bytes, found a step of {found}")]
    ShortStride {
        /// Bytes of a row.
        expected: usize,
        /// Bytes from row to row.
        found: usize,
    },
    /// The bytes end before the picture does.
    #[error("expected {expected} bytes of a raw picture, found {found}")]
    ShortPicture {
        /// Bytes that size, format and stride ask for.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The developed picture would be too large.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// A raw picture's bytes.
#[derive(Clone, Copy, Debug)]
pub struct RawPicture<'a> {
    /// Its rows.
    pub bytes: &'a [u8],
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// How samples lie in memory.
    pub format: RawFormat,
    /// Bytes from one row to the next; none if rows follow one another.
    pub stride_bytes: Option<usize>,
}

impl Isp {
    /// Settings for a sensor whose samples are linear with a black level of 1/16 of the range: no white balance, the
    /// sensor's own colours, and the tone curve of sRGB.
    pub fn new(pattern: BayerPattern) -> Isp {
        Isp::of_rig(pattern, &IspSettings::default())
    }

    /// The settings that a rig gives for a camera. White balance is of light above black: the brightest sample stays white.
    pub fn of_rig(pattern: BayerPattern, settings: &IspSettings) -> Isp {
        let black_level = (settings.black_level * f64::from(MAX_VALUE + 1)) as u16;
        let above_black = f64::from(MAX_VALUE) / (f64::from(MAX_VALUE) - f64::from(black_level));
        // a gain that does not come out even is the next larger one
        let gains = settings.white_balance.map(|gain| (gain * above_black * f64::from(GAIN_ONE)).ceil() as u16);
        let gains = gains.map(|gain| gain.min(16 * GAIN_ONE));
        let matrix = settings.colour_matrix.map(|factor| (factor * f64::from(MATRIX_ONE)).round() as i16);
        let (rows, _) = matrix.as_chunks::<3>();
        let matrix = std::array::from_fn(|row| rows.get(row).copied().unwrap_or_default());
        Isp { pattern, black_level, gains, matrix, curve: srgb_curve() }
    }

    /// Whether the settings can be used.
    ///
    /// # Errors
    /// [`RawError::BlackLevel`], [`RawError::Gains`], [`RawError::Curve`].
    pub fn check(&self) -> Result<(), RawError> {
        if i32::from(self.black_level) >= MAX_VALUE {
            return Err(RawError::BlackLevel { found: self.black_level });
        }
        if self.gains.iter().any(|gain| *gain > 16 * GAIN_ONE) {
            return Err(RawError::Gains { found: self.gains });
        }
        if self.curve.len() != CURVE_VALUES {
            return Err(RawError::Curve { found: self.curve.len() });
        }
        Ok(())
    }

    /// Develops a picture into `frame`, whose buffer is reused.
    ///
    /// # Errors
    /// [`RawError`]; the frame is then as it was.
    pub fn develop(&self, picture: &RawPicture<'_>, frame: &mut Frame) -> Result<(), RawError> {
        self.check()?;
        let RawPicture { bytes, width_px, height_px, format, stride_bytes } = *picture;
        let stride = raw_stride(format, width_px, height_px, stride_bytes, bytes.len())?;
        let (width, height) = (width_px as usize, height_px as usize);
        let samples = Samples { isp: self, format, bytes, stride, width, height };
        let rgb = frame.reset(width_px, height_px, PixelFormat::Rgb8, true, &Limits::default())?;
        for (y, row) in rgb.chunks_exact_mut(3 * width).enumerate() {
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = self.tone(samples.colours(x, y));
            }
        }
        Ok(())
    }

    /// Colour matrix and tone curve.
    fn tone(&self, colours: [i32; 3]) -> [u8; 3] {
        self.matrix.map(|row| {
            let mut sum = 512;
            for (factor, colour) in row.into_iter().zip(colours) {
                sum += i32::from(factor) * colour;
            }
            let value = (sum >> 10).clamp(0, MAX_VALUE);
            self.curve.get(value as usize).copied().unwrap_or_default()
        })
    }
}

/// Checks that a raw picture's bytes are there, and gives the bytes from row to row.
pub(crate) fn raw_stride(
    format: RawFormat,
    width_px: u32,
    height_px: u32,
    stride_bytes: Option<usize>,
    found: usize,
) -> Result<usize, RawError> {
    if width_px < 2 || height_px < 2 {
        return Err(RawError::TooSmall { width_px, height_px });
    }
    let row_bytes = format.row_bytes(width_px);
    let stride = stride_bytes.unwrap_or(row_bytes);
    if stride < row_bytes {
        return Err(RawError::ShortStride { expected: row_bytes, found: stride });
    }
    let before_last = stride.checked_mul(height_px as usize - 1);
    let expected = before_last.and_then(|bytes| bytes.checked_add(row_bytes)).unwrap_or(usize::MAX);
    if found < expected {
        return Err(RawError::ShortPicture { expected, found });
    }
    Ok(stride)
}

/// The samples of a picture of at least 2 x 2 pixels.
struct Samples<'a> {
    isp: &'a Isp,
    format: RawFormat,
    bytes: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl Samples<'_> {
    /// The balanced sample of a pixel that is at most one outside; `x` and `y` count from one before the first.
    fn at(&self, x: usize, y: usize) -> i32 {
        let (x, y) = (mirrored(x, self.width), mirrored(y, self.height));
        let row = self.bytes.get(y * self.stride..).unwrap_or_default();
        let sample = self.format.sample(row, x);
        let [red_x, red_y] = self.isp.pattern.red();
        let gain = match (x % 2 == red_x, y % 2 == red_y) {
            (true, true) => self.isp.gains[0],
            (false, false) => self.isp.gains[2],
            _ => self.isp.gains[1],
        };
        let above_black = (sample - i32::from(self.isp.black_level)).max(0);
        ((above_black * i32::from(gain)) >> 8).min(MAX_VALUE)
    }

    /// Red, green and blue of a pixel.
    fn colours(&self, x: usize, y: usize) -> [i32; 3] {
        let at = |right: usize, down: usize| self.at(x + right, y + down);
        let own = at(1, 1);
        let across = || (at(0, 1) + at(2, 1) + 1) >> 1;
        let down = || (at(1, 0) + at(1, 2) + 1) >> 1;
        let beside = || (at(0, 1) + at(2, 1) + at(1, 0) + at(1, 2) + 2) >> 2;
        let corners = || (at(0, 0) + at(2, 0) + at(0, 2) + at(2, 2) + 2) >> 2;
        let [red_x, red_y] = self.isp.pattern.red();
        match (x % 2 == red_x, y % 2 == red_y) {
            (true, true) => [own, beside(), corners()],
            (false, true) => [across(), own, down()],
            (true, false) => [down(), own, across()],
            (false, false) => [corners(), beside(), own],
        }
    }
}

/// The place that counts from one before the first, mirrored about the outermost pixels into the picture.
fn mirrored(place: usize, length: usize) -> usize {
    match place {
        0 => 1,
        place if place > length => length.saturating_sub(2),
        place => place - 1,
    }
}

/// The curve of sRGB, rounded.
fn srgb_curve() -> Vec<u8> {
    let byte = |value: usize| {
        let linear = value as f64 / f64::from(MAX_VALUE);
        let shown = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * libm::pow(linear, 1.0 / 2.4) - 0.055 };
        (255.0 * shown).round_ties_even() as u8
    };
    (0..CURVE_VALUES).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings that leave samples as they are, shown by their upper 8 bits.
    fn plain(pattern: BayerPattern) -> Isp {
        let curve = (0..CURVE_VALUES).map(|value| (value >> 4) as u8).collect();
        Isp { black_level: 0, gains: [GAIN_ONE; 3], curve, ..Isp::new(pattern) }
    }

    fn words(samples: &[u16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    fn developed(isp: &Isp, format: RawFormat, [width_px, height_px]: [u32; 2], bytes: &[u8]) -> Vec<u8> {
        let mut frame = Frame::default();
        isp.develop(&RawPicture { bytes, width_px, height_px, format, stride_bytes: None }, &mut frame).unwrap();
        frame.into_data()
    }

    #[test]
    fn a_rig_without_settings_means_the_default_ones() {
        let pattern = BayerPattern::Bggr;
        let default = Isp::new(pattern);
        // 256 * 4095 / (4095 - 256), so that the brightest sample stays white
        assert_eq!((default.black_level, default.gains), (256, [274; 3]));
        assert_eq!(default.matrix, [[MATRIX_ONE, 0, 0], [0, MATRIX_ONE, 0], [0, 0, MATRIX_ONE]]);
        let colour_matrix = [1.5, -0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.25, 16.0];
        let isp =
            Isp::of_rig(pattern, &IspSettings { black_level: 0.9, white_balance: [2.0, 1.0, 8.0], colour_matrix });
        assert_eq!((isp.black_level, isp.gains), (3686, [4096, 2564, 4096]));
        assert_eq!(isp.matrix, [[1536, -512, 0], [0, 1024, 0], [0, 256, 16384]]);
        assert_eq!(isp.check(), Ok(()));
    }

    #[test]
    fn encodings_come_back() {
        for format in RawFormat::ALL {
            for pattern in BayerPattern::ALL {
                assert_eq!(from_encoding(&encoding(format, pattern)), Some((format, pattern)));
            }
        }
        assert_eq!(encoding(RawFormat::Raw10Packed, BayerPattern::Grbg), "bayer-grbg10-packed");
        for name in ["bayer-rggb8", "bayer-rggb", "bayer-rggb12-", "rggb12", "bayer-12", ""] {
            assert_eq!(from_encoding(name), None, "{name}");
        }
    }

    #[test]
    fn packed_samples_are_those_of_the_mipi_formats() {
        let samples: Vec<i32> =
            (0..4).map(|x| RawFormat::Raw10Packed.sample(&[1, 2, 3, 255, 0b_11_10_01_00], x)).collect();
        assert_eq!(samples, [4 << 2, 9 << 2, 14 << 2, 1023 << 2]);
        let samples: Vec<i32> = (0..2).map(|x| RawFormat::Raw12Packed.sample(&[0x12, 0xff, 0xf3], x)).collect();
        assert_eq!(samples, [0x123, 0xfff]);
        assert_eq!(RawFormat::Raw10.sample(&[0xff, 0xff], 0), 1023 << 2);
        assert_eq!(RawFormat::Raw12.sample(&[0x34, 0x02], 0), 0x234);
    }

    #[test]
    fn every_pattern_finds_its_colours() {
        for pattern in BayerPattern::ALL {
            let [red_x, red_y] = pattern.red();
            let samples: Vec<u16> = (0..30)
                .map(|index| match ((index % 6) % 2 == red_x, (index / 6) % 2 == red_y) {
                    (true, true) => 16 * 200,
                    (false, false) => 16 * 40,
                    _ => 16 * 90,
                })
                .collect();
            let rgb = developed(&plain(pattern), RawFormat::Raw12, [6, 5], &words(&samples));
            assert!(rgb.as_chunks::<3>().0.iter().all(|pixel| *pixel == [200, 90, 40]), "{pattern:?}: {rgb:?}");
        }
    }

    #[test]
    fn means_are_rounded_and_edges_mirrored() {
        let samples = [16, 32, 48, 64, 80, 96, 112, 128, 144];
        let rgb = developed(&plain(BayerPattern::Rggb), RawFormat::Raw12, [3, 3], &words(&samples));
        // own red; the two greens twice; the one blue four times
        assert_eq!(rgb[..3], [1, 3, 5]);
        // means of red across and of blue above and below, which is the same one
        assert_eq!(rgb[3..6], [2, 2, 5]);
        // the middle is blue
        assert_eq!(rgb[12..15], [5, 5, 5]);
    }

    #[test]
    fn black_gains_matrix_and_curve_follow_one_another() {
        let mut isp = plain(BayerPattern::Rggb);
        isp.black_level = 160;
        isp.gains = [512, 256, 128];
        isp.matrix = [[1024, 1024, 0], [0, 512, 0], [0, -1024, 1024]];
        // all samples 320: red 320, green 160, blue 80
        let rgb = developed(&isp, RawFormat::Raw12, [2, 2], &words(&[320; 4]));
        assert_eq!(rgb[..3], [30, 5, 0]);
        let white = developed(&Isp::new(BayerPattern::Bggr), RawFormat::Raw12, [2, 2], &words(&[4095; 4]));
        assert_eq!(white, [255; 12]);
        let black = developed(&Isp::new(BayerPattern::Bggr), RawFormat::Raw10, [2, 2], &words(&[64; 4]));
        assert_eq!(black, [0; 12]);
    }

    #[test]
    fn what_cannot_be_developed_is_refused() {
        let isp = Isp::new(BayerPattern::Rggb);
        let mut frame = Frame::default();
        let format = RawFormat::Raw10Packed;
        let picture = RawPicture { bytes: &[0; 9], width_px: 4, height_px: 2, format, stride_bytes: None };
        let error = isp.develop(&picture, &mut frame).unwrap_err();
        assert_eq!(error, RawError::ShortPicture { expected: 10, found: 9 });
        let error = isp.develop(&RawPicture { stride_bytes: Some(4), ..picture }, &mut frame).unwrap_err();
        assert_eq!(error, RawError::ShortStride { expected: 5, found: 4 });
        let error = isp.develop(&RawPicture { stride_bytes: Some(usize::MAX), ..picture }, &mut frame).unwrap_err();
        assert_eq!(error, RawError::ShortPicture { expected: usize::MAX, found: 9 });
        let error = isp.develop(&RawPicture { width_px: 1, ..picture }, &mut frame).unwrap_err();
        assert_eq!(error, RawError::TooSmall { width_px: 1, height_px: 2 });
        assert_eq!(Isp { black_level: 4095, ..isp.clone() }.check(), Err(RawError::BlackLevel { found: 4095 }));
        assert_eq!(Isp { gains: [1, 4097, 1], ..isp.clone() }.check(), Err(RawError::Gains { found: [1, 4097, 1] }));
        assert_eq!(Isp { curve: vec![0], ..isp }.check(), Err(RawError::Curve { found: 1 }));
    }
}
