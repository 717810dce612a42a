//! Pictures: encoded bytes of a camera in, tightly packed frames out.
//!
//! Bytes come from a recording or a live topic; [`decode_picture`] (JPEG, PNG), [`show_raw`] (pixels as a driver sent
//! them) and [`h264::H264Decoder`] (video) fill a [`Frame`] that the caller keeps and hands in again, so its buffer is
//! allocated once. Sizes in a header are checked against [`Limits`] before anything is allocated; damaged input gives a
//! [`PictureError`], never a panic and never half a picture called whole.

pub mod convert;
pub mod h264;
pub mod jpeg;
pub mod png;

use crate::memory::{HostBytes, HostMemory, SharedBytes};

/// The command that turns an H.265 video into one that can be decoded here.
pub const H265_ADVICE: &str = "convert it with `ffmpeg -i in.mp4 -c:v libx264 out.mp4`";

/// How the bytes of a [`Frame`] are laid out. The numbers are stable: they may be written to a log.
///
/// Chroma planes of an odd-sized picture are `ceil(width / 2)` by `ceil(height / 2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PixelFormat {
    /// Red, green, blue; 3 bytes a pixel.
    #[default]
    Rgb8 = 0,
    /// Blue, green, red; 3 bytes a pixel.
    Bgr8 = 1,
    /// Grey; 1 byte a pixel.
    Mono8 = 2,
    /// A luma plane, then one plane of interleaved U V at half the width and height.
    Nv12 = 3,
    /// A luma plane, then a U plane and a V plane, each at half the width and height.
    I420 = 4,
    /// Packed Y U Y V: 4 bytes for two pixels of a row.
    Yuyv = 5,
    /// Packed U Y V Y: 4 bytes for two pixels of a row.
    Uyvy = 6,
}

/// One plane of a picture: `rows` rows of `row_bytes` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Bytes of a row that hold pixels.
    pub row_bytes: usize,
    /// How many rows there are; none in a plane that the format lacks.
    pub rows: usize,
    /// Bytes from a row to the next.
    pub stride: usize,
}

impl Plane {
    fn packed_bytes(self) -> Option<usize> {
        self.row_bytes.checked_mul(self.rows)
    }

    fn strided_bytes(self) -> Option<usize> {
        self.stride.checked_mul(self.rows)
    }
}

impl PixelFormat {
    /// Every format, in the order of the numbers.
    pub const ALL: [PixelFormat; 7] = [
        PixelFormat::Rgb8,
        PixelFormat::Bgr8,
        PixelFormat::Mono8,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
    ];

    /// The format with this stable number, as written by `format as u8`.
    pub fn from_number(number: u8) -> Option<PixelFormat> {
        PixelFormat::ALL.into_iter().find(|format| *format as u8 == number)
    }

    /// The name used in logs and configuration, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            PixelFormat::Rgb8 => "rgb8",
            PixelFormat::Bgr8 => "bgr8",
            PixelFormat::Mono8 => "mono8",
            PixelFormat::Nv12 => "nv12",
            PixelFormat::I420 => "i420",
            PixelFormat::Yuyv => "yuyv",
            PixelFormat::Uyvy => "uyvy",
        }
    }

    /// Bytes of a tightly packed picture; none if the number does not fit in memory's address range.
    pub fn bytes_for(self, width_px: u32, height_px: u32) -> Option<usize> {
        let mut total = 0_usize;
        for plane in self.planes(width_px, height_px, None)? {
            total = total.checked_add(plane.packed_bytes()?)?;
        }
        Some(total)
    }

    /// The planes of a picture whose first plane has rows `stride` bytes apart (tightly packed if none). The rows of the
    /// chroma planes of NV12 and I420 lie as far apart as that stride implies; planes follow one another. None if a size
    /// does not fit in memory's address range.
    pub fn planes(self, width_px: u32, height_px: u32, stride: Option<usize>) -> Option<[Plane; 3]> {
        let width = usize::try_from(width_px).ok()?;
        let rows = usize::try_from(height_px).ok()?;
        let chroma_width = width.div_ceil(2);
        let chroma_rows = rows.div_ceil(2);
        let row_bytes = match self {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => width.checked_mul(3)?,
            PixelFormat::Mono8 | PixelFormat::Nv12 | PixelFormat::I420 => width,
            PixelFormat::Yuyv | PixelFormat::Uyvy => chroma_width.checked_mul(4)?,
        };
        let stride = stride.unwrap_or(row_bytes);
        let first = Plane { row_bytes, rows, stride };
        let none = Plane { row_bytes: 0, rows: 0, stride: 0 };
        let half_stride = stride.div_ceil(2);
        Some(match self {
            PixelFormat::Nv12 => {
                let row_bytes = chroma_width.checked_mul(2)?;
                let chroma = Plane { row_bytes, rows: chroma_rows, stride: half_stride.checked_mul(2)? };
                [first, chroma, none]
            }
            PixelFormat::I420 => {
                let chroma = Plane { row_bytes: chroma_width, rows: chroma_rows, stride: half_stride };
                [first, chroma, chroma]
            }
            _ => [first, none, none],
        })
    }
}

/// What the bytes of a camera's message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One JPEG file.
    Jpeg,
    /// One PNG file.
    Png,
    /// One H.264 access unit (Annex B), part of a video.
    H264,
    /// Pixels without a header.
    Raw(PixelFormat),
}

impl Encoding {
    /// Reads the name that a message or a configuration gives, in capital or small letters: `jpeg`, `png`, `h264`, a
    /// [`PixelFormat::name`], the names of ROS 2 (`yuv422_yuy2`, `yuv422`, `8UC1`, `8UC3`, ...) and the two-part form of its
    /// compressed pictures (`rgb8; jpeg compressed bgr8`).
    ///
    /// # Errors
    /// [`PictureError::H265`] for H.265, [`PictureError::UnknownEncoding`] for any other name.
    pub fn from_name(name: &str) -> Result<Encoding, PictureError> {
        let lower = name.to_ascii_lowercase();
        let encoded = lower.rsplit(';').next().unwrap_or_default();
        let word = encoded.split_whitespace().next().unwrap_or_default();
        let encoding = match word {
            "jpeg" | "jpg" | "mjpeg" => Encoding::Jpeg,
            "png" => Encoding::Png,
            "h264" | "avc" => Encoding::H264,
            "h265" | "hevc" => return Err(PictureError::H265),
            "rgb8" | "rgb" => Encoding::Raw(PixelFormat::Rgb8),
            "bgr8" | "bgr" | "8uc3" => Encoding::Raw(PixelFormat::Bgr8),
            "mono8" | "8uc1" => Encoding::Raw(PixelFormat::Mono8),
            "nv12" => Encoding::Raw(PixelFormat::Nv12),
            "i420" | "yuv420" | "yuv420p" => Encoding::Raw(PixelFormat::I420),
            "yuyv" | "yuy2" | "yuv422_yuy2" | "yuyv422" => Encoding::Raw(PixelFormat::Yuyv),
            "uyvy" | "yuv422" | "uyvy422" => Encoding::Raw(PixelFormat::Uyvy),
            _ => return Err(PictureError::UnknownEncoding { found: name.to_string() }),
        };
        Ok(encoding)
    }
}

/// The largest picture that is decoded. Both bounds guard against a header that asks for all of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest width in pixels.
    pub max_width_px: u32,
    /// Largest height in pixels.
    pub max_height_px: u32,
    /// Largest decoded picture in bytes.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 16384 by 16384 pixels, 256 MiB.
    fn default() -> Limits {
        Limits { max_width_px: 16_384, max_height_px: 16_384, max_bytes: 256 << 20 }
    }
}

impl Limits {
    /// Bytes of a tightly packed picture of this size.
    ///
    /// # Errors
    /// [`PictureError::Empty`], [`PictureError::TooLarge`] or [`PictureError::TooManyBytes`] if the size is not allowed.
    pub fn check(&self, width_px: u32, height_px: u32, format: PixelFormat) -> Result<usize, PictureError> {
        if width_px == 0 || height_px == 0 {
            return Err(PictureError::Empty { width_px, height_px });
        }
        if width_px > self.max_width_px || height_px > self.max_height_px {
            return Err(PictureError::TooLarge {
                width_px,
                height_px,
                max_width_px: self.max_width_px,
                max_height_px: self.max_height_px,
            });
        }
        match format.bytes_for(width_px, height_px) {
            Some(bytes) if bytes <= self.max_bytes => Ok(bytes),
            _ => Err(PictureError::TooManyBytes {
                width_px,
                height_px,
                format: format.name(),
                max_bytes: self.max_bytes,
            }),
        }
    }
}

/// A decoded picture, tightly packed. The data always has exactly the bytes that size and format ask for.
///
/// A frame is meant to be reused: decoding into it keeps the capacity of its buffer. A default frame is empty (0 by 0).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    width_px: u32,
    height_px: u32,
    format: PixelFormat,
    full_range: bool,
    data: HostBytes,
}

impl Frame {
    /// A frame of bytes that are already tightly packed. `full_range` tells whether luma spans 0..=255 (as in JPEG) or
    /// 16..=235 (as in most video); it has no meaning for formats without chroma.
    ///
    /// # Errors
    /// [`PictureError::WrongBytes`] if the number of bytes is not that of the size and format; the errors of
    /// [`Limits::check`] for the default limits.
    pub fn new(
        width_px: u32,
        height_px: u32,
        format: PixelFormat,
        full_range: bool,
        data: Vec<u8>,
    ) -> Result<Frame, PictureError> {
        let expected = Limits::default().check(width_px, height_px, format)?;
        if data.len() != expected {
            let found = data.len();
            return Err(PictureError::WrongBytes { format: format.name(), width_px, height_px, expected, found });
        }
        Ok(Frame { width_px, height_px, format, full_range, data: data.into() })
    }

    /// Width in pixels.
    pub fn width_px(&self) -> u32 {
        self.width_px
    }

    /// Height in pixels.
    pub fn height_px(&self) -> u32 {
        self.height_px
    }

    /// Layout of [`Frame::data`].
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// True if luma spans 0..=255, false if it spans 16..=235; meant for formats with chroma.
    pub fn full_range(&self) -> bool {
        self.full_range
    }

    /// The pixels, row by row, plane by plane.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The pixels, to change in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Takes the buffer out of the frame.
    pub fn into_data(self) -> Vec<u8> {
        self.data.into_vec()
    }

    /// Lends memory to the frame, in which its pictures lie from now on, where they have room there.
    pub fn lend(&mut self, memory: Box<dyn HostMemory>) {
        self.data.lend(memory);
    }

    /// Where the pixels lie.
    pub fn host_bytes(&self) -> &HostBytes {
        &self.data
    }

    /// Takes another frame's picture: its buffer, for this one's, or where memory was lent to this frame a copy of the bytes.
    pub fn receive(&mut self, other: &mut Frame) {
        if self.data.lent().is_none() {
            std::mem::swap(self, other);
            return;
        }
        let Frame { width_px, height_px, format, full_range, ref data } = *other;
        self.data.resize(data.len()).copy_from_slice(data);
        (self.width_px, self.height_px, self.format, self.full_range) = (width_px, height_px, format, full_range);
    }

    /// Makes this a frame of the given size and gives its bytes to be filled; what they hold before is unspecified.
    ///
    /// # Errors
    /// The errors of [`Limits::check`]; the frame is then as it was.
    pub fn reset(
        &mut self,
        width_px: u32,
        height_px: u32,
        format: PixelFormat,
        full_range: bool,
        limits: &Limits,
    ) -> Result<&mut [u8], PictureError> {
        let bytes = limits.check(width_px, height_px, format)?;
        self.width_px = width_px;
        self.height_px = height_px;
        self.format = format;
        self.full_range = full_range;
        Ok(self.data.resize(bytes))
    }

    /// Makes this the empty frame but keeps the buffer, so that no half-decoded picture can be taken for a whole one.
    fn clear(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        *self = Frame { data, ..Frame::default() };
    }
}

/// How pixels without a header are laid out by who sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLayout {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// True if luma spans 0..=255, false if it spans 16..=235.
    pub full_range: bool,
    /// Bytes from one row of the first plane to the next (`step` in ROS 2); none if rows are tightly packed.
    pub stride_bytes: Option<usize>,
}

/// Why no picture came out of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// The name of an encoding is not known.
    #[error(
        "unknown picture encoding `{found}`: expected jpeg, png, h264, rgb8, bgr8, mono8, nv12, i420, yuyv or uyvy"
    )]
    UnknownEncoding {
        /// The name as it was given.
        found: String,
    },
    /// The video is H.265.
    #[error("H.265 video is not decoded, only H.264 is: {H265_ADVICE}")]
    H265,
    /// A part of a video was given where one whole picture is expected.
    #[error("expected a picture that stands alone (jpeg or png), found a part of an h264 video: use the video decoder")]
    PartOfVideo,
    /// Pixels without a header were given where a header is expected.
    #[error("expected a picture with a header (jpeg or png), found raw {format} pixels: their size must be given")]
    NoHeader {
        /// The name of the format.
        format: &'static str,
    },
    /// Width or height is zero.
    #[error("expected a picture of at least 1 x 1 pixels, found {width_px} x {height_px}")]
    Empty {
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
    },
    /// The header asks for more pixels than are allowed.
    #[error("expected a picture of at most {max_width_px} x {max_height_px} pixels, found {width_px} x {height_px}")]
    TooLarge {
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// Largest width allowed.
        max_width_px: u32,
        /// Largest height allowed.
        max_height_px: u32,
    },
    /// The header asks for more memory than is allowed.
    #[error("expected a picture of at most {max_bytes} bytes, found {width_px} x {height_px} pixels of {format}")]
    TooManyBytes {
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// The name of the format.
        format: &'static str,
        /// Most bytes allowed.
        max_bytes: usize,
    },
    /// The number of bytes does not fit the size of the picture.
    #[error("expected {expected} bytes for {width_px} x {height_px} pixels of {format}, found {found}")]
    WrongBytes {
        /// The name of the format.
        format: &'static str,
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// Bytes that the size asks for.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// Rows are said to be closer together than they are long.
    #[error("expected rows of at least {expected} bytes for {width_px} pixels of {format}, found a step of {found}")]
    ShortStride {
        /// The name of the format.
        format: &'static str,
        /// Width in pixels.
        width_px: u32,
        /// Bytes of a row.
        expected: usize,
        /// Bytes from row to row that were given.
        found: usize,
    },
    /// The file ends before its picture does.
    #[error("expected a whole {format} file, found one that is cut off after {found} bytes")]
    Truncated {
        /// The kind of file.
        format: &'static str,
        /// Bytes that were given.
        found: usize,
    },
    /// The file cannot be decoded.
    #[error("expected a valid {format} file of {bytes} bytes, found: {cause}")]
    Damaged {
        /// The kind of file.
        format: &'static str,
        /// Bytes that were given.
        bytes: usize,
        /// What the decoder said.
        cause: String,
    },
}

/// Decodes a picture that stands alone (JPEG or PNG) into `frame` as [`PixelFormat::Rgb8`]. After an error the frame is
/// empty.
///
/// # Errors
/// [`PictureError::PartOfVideo`] and [`PictureError::NoHeader`] for encodings that need [`h264::H264Decoder`] and
/// [`copy_raw`]; otherwise what is wrong with the bytes.
pub fn decode_picture(
    encoding: Encoding,
    bytes: &[u8],
    frame: &mut Frame,
    limits: &Limits,
) -> Result<(), PictureError> {
    let outcome = match encoding {
        Encoding::Jpeg => self::jpeg::decode(bytes, frame, limits),
        Encoding::Png => self::png::decode(bytes, frame, limits),
        Encoding::H264 => Err(PictureError::PartOfVideo),
        Encoding::Raw(format) => Err(PictureError::NoHeader { format: format.name() }),
    };
    if outcome.is_err() {
        frame.clear();
    }
    outcome
}

/// Makes pixels without a header the picture of `frame`: shown where they are, if their rows lie close together and
/// [`HostBytes::show`] takes them, else copied.
///
/// # Errors
/// Those of [`copy_raw`]. After an error the frame is as it was.
pub fn show_raw(
    layout: &RawLayout,
    bytes: SharedBytes,
    frame: &mut Frame,
    limits: &Limits,
) -> Result<(), PictureError> {
    let RawLayout { width_px, height_px, format, full_range, .. } = *layout;
    let planes = check_raw(layout, bytes.len(), limits)?;
    let is_packed = planes.iter().all(|plane| plane.stride == plane.row_bytes);
    let packed = planes.iter().try_fold(0_usize, |sum, plane| sum.checked_add(plane.packed_bytes()?));
    let shown = match packed {
        Some(len) if is_packed => frame.data.show(bytes.first(len)).is_ok(),
        _ => false,
    };
    if !shown {
        return copy_raw(layout, &bytes, frame, limits);
    }
    (frame.width_px, frame.height_px, frame.format, frame.full_range) = (width_px, height_px, format, full_range);
    Ok(())
}

/// Copies pixels without a header into `frame`, dropping the padding of rows. After an error the frame is as it was.
///
/// # Errors
/// The errors of [`Limits::check`], [`PictureError::ShortStride`], and [`PictureError::WrongBytes`] if there are fewer
/// bytes than the layout needs. Bytes behind the last row are ignored: drivers pad their buffers.
pub fn copy_raw(layout: &RawLayout, bytes: &[u8], frame: &mut Frame, limits: &Limits) -> Result<(), PictureError> {
    let RawLayout { width_px, height_px, format, full_range, .. } = *layout;
    let planes = check_raw(layout, bytes.len(), limits)?;
    let mut to = frame.reset(width_px, height_px, format, full_range, limits)?;
    let mut from = bytes;
    for plane in planes {
        // All of it was checked, so nothing is left out.
        let (Some(packed), Some(strided)) = (plane.packed_bytes(), plane.strided_bytes()) else { break };
        let Some((plane_to, rest_to)) = to.split_at_mut_checked(packed) else { break };
        let Some((plane_from, rest_from)) = from.split_at_checked(strided) else { break };
        copy_rows(plane_to, plane.row_bytes, plane_from, plane.stride);
        to = rest_to;
        from = rest_from;
    }
    Ok(())
}

/// The planes of pixels without a header, all of which lie in so many bytes.
fn check_raw(layout: &RawLayout, found: usize, limits: &Limits) -> Result<[Plane; 3], PictureError> {
    let RawLayout { width_px, height_px, format, stride_bytes, .. } = *layout;
    limits.check(width_px, height_px, format)?;
    let too_many_bytes =
        PictureError::TooManyBytes { width_px, height_px, format: format.name(), max_bytes: limits.max_bytes };
    let Some(planes) = format.planes(width_px, height_px, stride_bytes) else {
        return Err(too_many_bytes);
    };
    if let Some(plane) = planes.iter().find(|plane| plane.stride < plane.row_bytes) {
        let (expected, found) = (plane.row_bytes, plane.stride);
        return Err(PictureError::ShortStride { format: format.name(), width_px, expected, found });
    }
    let Some(expected) = strided_bytes(&planes) else {
        return Err(too_many_bytes);
    };
    if found < expected {
        return Err(PictureError::WrongBytes { format: format.name(), width_px, height_px, expected, found });
    }
    Ok(planes)
}

/// Bytes that the planes take with the padding of their rows.
fn strided_bytes(planes: &[Plane; 3]) -> Option<usize> {
    let mut total = 0_usize;
    for plane in planes {
        total = total.checked_add(plane.strided_bytes()?)?;
    }
    Some(total)
}

/// Fills `to` with rows of `row_bytes` bytes that lie `stride` apart in `from`; none if `from` is too short.
pub fn copy_rows(to: &mut [u8], row_bytes: usize, from: &[u8], stride: usize) -> Option<()> {
    for (row, row_to) in to.chunks_exact_mut(row_bytes.max(1)).enumerate() {
        let start = row.checked_mul(stride)?;
        row_to.copy_from_slice(from.get(start..start.checked_add(row_bytes)?)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The version of a package in the workspace's lock file; none where the crate stands alone.
    pub(super) fn locked_version(package: &str) -> Option<Vec<String>> {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).ok()?;
        let name = format!("name = \"{package}\"");
        let mut versions = Vec::new();
        let mut lines = lock.lines();
        while let Some(line) = lines.next() {
            if line == name {
                let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
                versions.push(format!("{package} {version}"));
            }
        }
        Some(versions)
    }

    #[test]
    fn sizes_of_odd_pictures_round_chroma_up() {
        let sizes = PixelFormat::ALL.map(|format| format.bytes_for(5, 3).unwrap());
        assert_eq!(sizes, [45, 45, 15, 15 + 12, 15 + 6 + 6, 36, 36]);
    }

    #[test]
    fn numbers_are_stable() {
        assert_eq!(PixelFormat::ALL.map(|format| format as u8), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(PixelFormat::from_number(3), Some(PixelFormat::Nv12));
        assert_eq!(PixelFormat::from_number(7), None);
    }

    #[test]
    fn names_are_read() {
        assert_eq!(Encoding::from_name("JPEG"), Ok(Encoding::Jpeg));
        assert_eq!(Encoding::from_name("rgb8; png compressed "), Ok(Encoding::Png));
        assert_eq!(Encoding::from_name("bgr8; jpeg compressed bgr8"), Ok(Encoding::Jpeg));
        for format in PixelFormat::ALL {
            assert_eq!(Encoding::from_name(format.name()), Ok(Encoding::Raw(format)));
        }
        assert_eq!(Encoding::from_name("hevc"), Err(PictureError::H265));
        let unknown = Encoding::from_name("16UC1; compressedDepth");
        assert_eq!(unknown, Err(PictureError::UnknownEncoding { found: "16UC1; compressedDepth".to_string() }));
        assert!(PictureError::H265.to_string().contains("ffmpeg -i in.mp4 -c:v libx264 out.mp4"));
    }

    #[test]
    fn limits_are_kept() {
        let limits = Limits::default();
        assert_eq!(limits.check(2, 2, PixelFormat::Rgb8), Ok(12));
        assert!(matches!(limits.check(0, 2, PixelFormat::Rgb8), Err(PictureError::Empty { .. })));
        assert!(matches!(limits.check(16_385, 2, PixelFormat::Mono8), Err(PictureError::TooLarge { .. })));
        assert!(matches!(limits.check(16_384, 16_384, PixelFormat::Rgb8), Err(PictureError::TooManyBytes { .. })));
        assert_eq!(limits.check(16_384, 16_384, PixelFormat::Mono8), Ok(256 << 20));
        assert_eq!(PixelFormat::Rgb8.bytes_for(u32::MAX, u32::MAX), None);
    }

    #[test]
    fn encodings_without_a_still_are_refused_and_leave_an_empty_frame() {
        let mut frame = Frame::new(1, 1, PixelFormat::Mono8, true, vec![7]).unwrap();
        let raw = decode_picture(Encoding::Raw(PixelFormat::Nv12), &[0; 6], &mut frame, &Limits::default());
        assert_eq!(raw, Err(PictureError::NoHeader { format: "nv12" }));
        assert_eq!(frame, Frame::default());
        let video = decode_picture(Encoding::H264, &[0, 0, 1], &mut frame, &Limits::default());
        assert_eq!(video, Err(PictureError::PartOfVideo));
    }

    #[test]
    fn frames_hold_exactly_their_bytes() {
        let wrong = Frame::new(2, 2, PixelFormat::Rgb8, true, vec![0; 11]);
        assert!(matches!(wrong, Err(PictureError::WrongBytes { expected: 12, found: 11, .. })));
    }

    #[test]
    fn short_strides_and_short_buffers_are_refused() {
        let mut frame = Frame::default();
        let mut layout = RawLayout {
            width_px: 4,
            height_px: 2,
            format: PixelFormat::Bgr8,
            full_range: true,
            stride_bytes: Some(11),
        };
        let shared = |len: usize| SharedBytes::from(bytes::Bytes::from(vec![0; len]));
        let short = copy_raw(&layout, &[0; 64], &mut frame, &Limits::default());
        assert_eq!(show_raw(&layout, shared(64), &mut frame, &Limits::default()), short);
        assert!(matches!(short, Err(PictureError::ShortStride { expected: 12, found: 11, .. })));
        layout.stride_bytes = Some(16);
        let few = copy_raw(&layout, &[0; 31], &mut frame, &Limits::default());
        assert_eq!(show_raw(&layout, shared(31), &mut frame, &Limits::default()), few);
        assert!(matches!(few, Err(PictureError::WrongBytes { expected: 32, found: 31, .. })));
        layout.stride_bytes = Some(usize::MAX);
        let huge = copy_raw(&layout, &[0; 31], &mut frame, &Limits::default());
        assert!(matches!(huge, Err(PictureError::TooManyBytes { .. })));
        assert_eq!(frame, Frame::default());
    }

    proptest! {
        #[test]
        fn padding_of_rows_is_dropped(
            number in 0_u8..7, width_px in 1_u32..20, height_px in 1_u32..12, padding in 0_usize..5, seed in 0_u8..255,
        ) {
            let format = PixelFormat::from_number(number).unwrap();
            let first_row = format.planes(width_px, height_px, None).unwrap()[0].row_bytes;
            let stride = first_row + 2 * padding;
            let planes = format.planes(width_px, height_px, Some(stride)).unwrap();
            let (mut padded, mut packed) = (Vec::new(), Vec::new());
            let mut value = seed;
            for plane in planes.into_iter().filter(|plane| plane.rows > 0) {
                for _ in 0..plane.rows {
                    for column in 0..plane.stride {
                        value = value.wrapping_mul(31).wrapping_add(7);
                        padded.push(value);
                        if column < plane.row_bytes {
                            packed.push(value);
                        }
                    }
                }
            }
            let layout = RawLayout { width_px, height_px, format, full_range: false, stride_bytes: Some(stride) };
            let mut frame = Frame::default();
            copy_raw(&layout, &padded, &mut frame, &Limits::default()).unwrap();
            prop_assert_eq!(frame.data(), &packed[..]);
            prop_assert_eq!(frame.data().len(), format.bytes_for(width_px, height_px).unwrap());

            let mut shown = Frame::default();
            let bytes = SharedBytes::from(bytes::Bytes::from(padded));
            let place = bytes.as_ptr();
            show_raw(&layout, bytes, &mut shown, &Limits::default()).unwrap();
            prop_assert_eq!(&shown, &frame);
            let is_packed = planes.iter().all(|plane| plane.stride == plane.row_bytes);
            prop_assert_eq!(shown.data().as_ptr() == place, is_packed);
        }
    }
}
