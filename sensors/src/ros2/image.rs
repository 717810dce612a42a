//! Pictures and what is known of their camera: `sensor_msgs/msg/Image`, `CompressedImage` and `CameraInfo`. Pixel
//! data stay in the payload; [`Image::row`] cuts single rows out of them, bounds-checked.

use super::Header;
use super::cdr::{CdrError, CdrReader};

/// `sensor_msgs/msg/Image`: an uncompressed picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// When and in which camera's frame.
    pub header: Header<'a>,
    /// Rows.
    pub height_px: u32,
    /// Columns.
    pub width_px: u32,
    /// The pixel format, such as `rgb8` (`sensor_msgs/image_encodings.hpp`).
    pub encoding: &'a str,
    /// Whether pixels of more than one byte are big endian.
    pub big_endian: bool,
    /// Distance in bytes from one row's beginning to the next.
    pub step_bytes: u32,
    /// The rows, `height_px * step_bytes` bytes where the publisher kept to the definition.
    pub data: &'a [u8],
}

impl<'a> Image<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            height_px: reader.u32()?,
            width_px: reader.u32()?,
            encoding: reader.string()?,
            big_endian: reader.u8()? != 0,
            step_bytes: reader.u32()?,
            data: reader.bytes()?,
        })
    }

    /// The first `len_bytes` bytes of a row, without the padding behind them. `None` where the picture has no such
    /// row, or rows that are shorter, or data that end before.
    pub fn row(&self, row: u32, len_bytes: usize) -> Option<&'a [u8]> {
        let step_bytes = usize::try_from(self.step_bytes).ok()?;
        if row >= self.height_px || len_bytes > step_bytes {
            return None;
        }
        let begin = usize::try_from(row).ok()?.checked_mul(step_bytes)?;
        self.data.get(begin..begin.checked_add(len_bytes)?)
    }
}

/// `sensor_msgs/msg/CompressedImage`: a picture file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedImage<'a> {
    /// When and in which camera's frame.
    pub header: Header<'a>,
    /// The encoding, such as `jpeg` or `rgb8; jpeg compressed bgr8`.
    pub format: &'a str,
    /// The encoded picture.
    pub data: &'a [u8],
}

impl<'a> CompressedImage<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self { header: Header::read(reader)?, format: reader.string()?, data: reader.bytes()? })
    }
}

/// `sensor_msgs/msg/RegionOfInterest`: the part of the sensor that was read out. All zero means all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionOfInterest {
    /// Left edge in unbinned pixels.
    pub x_offset_px: u32,
    /// Top edge in unbinned pixels.
    pub y_offset_px: u32,
    /// Rows.
    pub height_px: u32,
    /// Columns.
    pub width_px: u32,
    /// Whether rectified pictures are to be cut to it.
    pub rectify: bool,
}

/// `sensor_msgs/msg/CameraInfo`: a camera's calibration. Matrices are row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraInfo<'a> {
    /// When and in which camera's frame.
    pub header: Header<'a>,
    /// Rows of the picture that was calibrated.
    pub height_px: u32,
    /// Columns of the picture that was calibrated.
    pub width_px: u32,
    /// The distortion model, such as `plumb_bob`, `rational_polynomial` or `equidistant`.
    pub distortion_model: &'a str,
    /// The model's coefficients, in OpenCV's order.
    pub distortion: Vec<f64>,
    /// K, 3x3: the intrinsic matrix of the distorted picture, in pixels.
    pub intrinsics: [f64; 9],
    /// R, 3x3: rotates the camera's frame into the rectified one.
    pub rectification: [f64; 9],
    /// P, 3x4: projects the rectified frame into the rectified picture, in pixels.
    pub projection: [f64; 12],
    /// Binned columns per pixel; 0 means 1.
    pub binning_x: u32,
    /// Binned rows per pixel; 0 means 1.
    pub binning_y: u32,
    /// The part of the sensor that was read out.
    pub region: RegionOfInterest,
}

impl<'a> CameraInfo<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            height_px: reader.u32()?,
            width_px: reader.u32()?,
            distortion_model: reader.string()?,
            distortion: read_f64_sequence(reader)?,
            intrinsics: reader.f64s()?,
            rectification: reader.f64s()?,
            projection: reader.f64s()?,
            binning_x: reader.u32()?,
            binning_y: reader.u32()?,
            region: RegionOfInterest {
                x_offset_px: reader.u32()?,
                y_offset_px: reader.u32()?,
                height_px: reader.u32()?,
                width_px: reader.u32()?,
                rectify: reader.bool()?,
            },
        })
    }
}

fn read_f64_sequence(reader: &mut CdrReader<'_>) -> Result<Vec<f64>, CdrError> {
    let count = reader.sequence_len(size_of::<f64>())?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(reader.f64()?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::cdr::writer::CdrWriter;
    use super::*;

    #[test]
    fn image_rows_leave_padding_out() {
        let mut writer = CdrWriter::new(false);
        writer.header(7, 5, "camera").u32(2).u32(1).string("rgb8").u8(0).u32(4);
        writer.byte_sequence(&[1, 2, 3, 0, 4, 5, 6]);
        let image = Image::read(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!(image.header, Header { stamp_ns: 7_000_000_005, frame_id: "camera" });
        assert_eq!((image.width_px, image.height_px, image.encoding), (1, 2, "rgb8"));
        assert_eq!(image.row(0, 3), Some(&[1, 2, 3][..]));
        assert_eq!(image.row(1, 3), Some(&[4, 5, 6][..]));
        assert_eq!(image.row(1, 4), None);
        assert_eq!(image.row(0, 5), None);
        assert_eq!(image.row(2, 0), None);
        let huge = Image { height_px: u32::MAX, step_bytes: u32::MAX, ..image };
        assert_eq!(huge.row(u32::MAX - 1, 3), None);
    }

    #[test]
    fn camera_info_fields_keep_their_order() {
        let numbers: Vec<f64> = (0..30).map(f64::from).collect();
        let mut writer = CdrWriter::new(true);
        writer.header(1, 0, "c").u32(480).u32(640).string("plumb_bob").u32(2).f64s(&[0.1, 0.2]).f64s(&numbers);
        writer.u32(1).u32(2).u32(3).u32(4).u32(5).u32(6).u8(1);
        let info = CameraInfo::read(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!((info.height_px, info.width_px, info.distortion_model), (480, 640, "plumb_bob"));
        assert_eq!(info.distortion, [0.1, 0.2]);
        assert_eq!((info.intrinsics[0], info.intrinsics[8]), (0.0, 8.0));
        assert_eq!((info.rectification[0], info.rectification[8]), (9.0, 17.0));
        assert_eq!((info.projection[0], info.projection[11]), (18.0, 29.0));
        assert_eq!((info.binning_x, info.binning_y), (1, 2));
        let region = RegionOfInterest { x_offset_px: 3, y_offset_px: 4, height_px: 5, width_px: 6, rectify: true };
        assert_eq!(info.region, region);
    }
}
