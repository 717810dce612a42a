//! `sensor_msgs/msg/PointCloud2`: points as records of named fields in any order and of any datatype. The records
//! stay in the payload; [`PointCloud2::points`] turns them into [`Point`]s. Promised: every field is checked against
//! the record and every record against the data before anything is read.
//!
//! Fields are known by the names that drivers give them: `x`, `y`, `z` (metres, all three needed), `intensity`;
//! `ring` or `channel` or `line`; `return_number` or `return_type`; and for the time of a point, `t` or `offset_time`
//! or `time_stamp` or `time` or `timestamp`. A time of an integer type counts nanoseconds from the header's stamp,
//! one of f32 counts seconds from it, and one of f64 is absolute and counts seconds. What is absent becomes 0.

use super::Header;
use super::cdr::{CdrError, CdrReader};
use crate::cloud::Point;
use thiserror::Error;

/// The fewest bytes that a field's description takes: name, offset, datatype, padding, count.
const MIN_FIELD_BYTES: usize = 4 + 4 + 4 + 4;

const RING_NAMES: &[&str] = &["ring", "channel", "line"];
const RETURN_NAMES: &[&str] = &["return_number", "return_type"];
const TIME_NAMES: &[&str] = &["t", "offset_time", "time_stamp", "time", "timestamp"];

/// Why a cloud's records cannot be read as points.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PointCloudError {
    /// A coordinate is missing.
    #[error("expected a field {expected:?} in the point cloud, found none")]
    FieldMissing {
        /// The field's name.
        expected: &'static str,
    },
    /// A field has a datatype that does not exist.
    #[error("field {name:?}: expected a datatype from 1 to 8, found {found}")]
    Datatype {
        /// The field's name.
        name: String,
        /// The number of the datatype.
        found: u8,
    },
    /// A field reaches beyond its record.
    #[error("field {name:?}: expected it to end within {point_step_bytes} bytes of a point, found its end at {found}")]
    FieldOutside {
        /// The field's name.
        name: String,
        /// The length of a record.
        point_step_bytes: u32,
        /// Where the field ends.
        found: u64,
    },
    /// The points of a row need more bytes than the row has.
    #[error("expected at least {expected} bytes per row of points, found {found}")]
    RowTooShort {
        /// Points per row times bytes per point.
        expected: u64,
        /// The stated length of a row.
        found: u32,
    },
    /// The rows do not make up the data.
    #[error("expected {expected} bytes of points, found {found}")]
    DataLength {
        /// Rows times bytes per row.
        expected: u64,
        /// The length of the data.
        found: usize,
    },
    /// A point's time is more than two seconds away from the header's stamp, or not a number.
    #[error("point {index}: expected a time within 2 s of the cloud's stamp, found {found} (in the field's unit)")]
    TimeOutOfRange {
        /// The point's number, from 0.
        index: usize,
        /// The value of the time field.
        found: f64,
    },
}

/// `sensor_msgs/msg/PointField`: where in a record a named number stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointField<'a> {
    /// The name.
    pub name: &'a str,
    /// Distance from the record's beginning, in bytes.
    pub offset_bytes: u32,
    /// 1 to 8: i8, u8, i16, u16, i32, u32, f32, f64.
    pub datatype: u8,
    /// How many numbers; the first one is read.
    pub count: u32,
}

/// `sensor_msgs/msg/PointCloud2`: `height * width` records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointCloud2<'a> {
    /// When and in which sensor's frame.
    pub header: Header<'a>,
    /// Rows of points; 1 for a cloud without order.
    pub height: u32,
    /// Points per row.
    pub width: u32,
    /// The numbers in a record.
    pub fields: Vec<PointField<'a>>,
    /// Whether the numbers are big endian.
    pub big_endian: bool,
    /// Bytes per record.
    pub point_step_bytes: u32,
    /// Bytes per row.
    pub row_step_bytes: u32,
    /// The records.
    pub data: &'a [u8],
    /// Whether the publisher says that no coordinate is invalid.
    pub dense: bool,
}

impl<'a> PointCloud2<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        let header = Header::read(reader)?;
        let height = reader.u32()?;
        let width = reader.u32()?;
        let field_count = reader.sequence_len(MIN_FIELD_BYTES)?;
        let mut fields = Vec::with_capacity(field_count);
        for _ in 0..field_count {
            fields.push(PointField {
                name: reader.string()?,
                offset_bytes: reader.u32()?,
                datatype: reader.u8()?,
                count: reader.u32()?,
            });
        }
        Ok(Self {
            header,
            height,
            width,
            fields,
            big_endian: reader.bool()?,
            point_step_bytes: reader.u32()?,
            row_step_bytes: reader.u32()?,
            data: reader.bytes()?,
            dense: reader.bool()?,
        })
    }

    /// Appends the cloud's points to `points`, in the data's order. Points with a coordinate that is not finite are
    /// left out; returns how many. Rings and return numbers that their types cannot hold become the nearest that they
    /// can.
    ///
    /// # Errors
    /// If a coordinate is missing, or fields, records, rows and data do not fit into each other, or a time is far
    /// from the header's stamp. Then `points` is as before.
    pub fn points(&self, points: &mut Vec<Point>) -> Result<usize, PointCloudError> {
        let record = Record::new(self)?;
        self.check_sizes()?;
        if self.width == 0 || self.height == 0 {
            return Ok(0);
        }
        let len_before = points.len();
        let dropped = self.append(&record, points);
        if dropped.is_err() {
            points.truncate(len_before);
        }
        dropped
    }

    /// Rows and records have lengths above 0 here: a checked field lies within a record, a record within a row.
    fn append(&self, record: &Record, points: &mut Vec<Point>) -> Result<usize, PointCloudError> {
        let width = self.width as usize;
        let mut index = 0;
        let mut dropped = 0;
        for row in self.data.chunks_exact(self.row_step_bytes as usize) {
            for bytes in row.chunks_exact(self.point_step_bytes as usize).take(width) {
                let [x_m, y_m, z_m] = [&record.x, &record.y, &record.z].map(|field| field.read(bytes) as f32);
                if x_m.is_finite() && y_m.is_finite() && z_m.is_finite() {
                    points.push(Point {
                        x_m,
                        y_m,
                        z_m,
                        intensity: read_or_zero(&record.intensity, bytes) as f32,
                        offset_ns: self.offset_ns(record, bytes, index)?,
                        ring: read_or_zero(&record.ring, bytes) as u16,
                        return_number: read_or_zero(&record.return_number, bytes) as u8,
                    });
                } else {
                    dropped += 1;
                }
                index += 1;
            }
        }
        Ok(dropped)
    }

    fn check_sizes(&self) -> Result<(), PointCloudError> {
        let row_needed = u64::from(self.width) * u64::from(self.point_step_bytes);
        if row_needed > u64::from(self.row_step_bytes) {
            return Err(PointCloudError::RowTooShort { expected: row_needed, found: self.row_step_bytes });
        }
        let expected = u64::from(self.height) * u64::from(self.row_step_bytes);
        if expected != self.data.len() as u64 {
            return Err(PointCloudError::DataLength { expected, found: self.data.len() });
        }
        Ok(())
    }

    /// The point's time relative to the header's stamp, in nanoseconds.
    fn offset_ns(&self, record: &Record, bytes: &[u8], index: usize) -> Result<i32, PointCloudError> {
        let Some(time) = &record.time else {
            return Ok(0);
        };
        let found = time.read(bytes);
        let offset_ns = match time.datatype {
            Datatype::F64 => absolute_ns(found).and_then(|stamp_ns| stamp_ns.checked_sub(self.header.stamp_ns)),
            Datatype::F32 => nanoseconds(found * 1.0e9),
            _ => nanoseconds(found),
        };
        offset_ns
            .and_then(|offset_ns| i32::try_from(offset_ns).ok())
            .ok_or(PointCloudError::TimeOutOfRange { index, found })
    }
}

/// A number of nanoseconds rounded to a whole one, `None` where it is far too large for an offset or not a number.
fn nanoseconds(value: f64) -> Option<i64> {
    (value.abs() < 1.0e10).then_some(value.round() as i64)
}

/// Seconds since an epoch in whole nanoseconds. Whole seconds are split off first, to lose no digits.
fn absolute_ns(seconds: f64) -> Option<i64> {
    // An i64 holds about 9.2e9 seconds in nanoseconds.
    if seconds.is_nan() || seconds.abs() > 9.0e9 {
        return None;
    }
    let whole = seconds.floor();
    Some(whole as i64 * 1_000_000_000 + ((seconds - whole) * 1.0e9).round() as i64)
}

fn read_or_zero(field: &Option<Field>, record: &[u8]) -> f64 {
    field.as_ref().map_or(0.0, |field| field.read(record))
}

/// The datatypes of `PointField`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Datatype {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Datatype {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::I8),
            2 => Some(Self::U8),
            3 => Some(Self::I16),
            4 => Some(Self::U16),
            5 => Some(Self::I32),
            6 => Some(Self::U32),
            7 => Some(Self::F32),
            8 => Some(Self::F64),
            _ => None,
        }
    }

    const fn len_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// A field that was checked to lie within a record.
#[derive(Clone, Copy, Debug)]
struct Field {
    offset: usize,
    datatype: Datatype,
    big_endian: bool,
}

impl Field {
    /// The number in a record of the checked length, exactly; 0 in a shorter one.
    fn read(&self, record: &[u8]) -> f64 {
        match self.datatype {
            Datatype::I8 => f64::from(i8::from_le_bytes(self.bytes(record))),
            Datatype::U8 => f64::from(u8::from_le_bytes(self.bytes(record))),
            Datatype::I16 => f64::from(i16::from_le_bytes(self.bytes(record))),
            Datatype::U16 => f64::from(u16::from_le_bytes(self.bytes(record))),
            Datatype::I32 => f64::from(i32::from_le_bytes(self.bytes(record))),
            Datatype::U32 => f64::from(u32::from_le_bytes(self.bytes(record))),
            Datatype::F32 => f64::from(f32::from_le_bytes(self.bytes(record))),
            Datatype::F64 => f64::from_le_bytes(self.bytes(record)),
        }
    }

    /// The number's bytes in little-endian order.
    fn bytes<const N: usize>(&self, record: &[u8]) -> [u8; N] {
        let found = record.get(self.offset..).and_then(|rest| rest.first_chunk::<N>());
        let mut bytes = found.copied().unwrap_or([0; N]);
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }
}

/// Where a record holds what a [`Point`] needs.
struct Record {
    x: Field,
    y: Field,
    z: Field,
    intensity: Option<Field>,
    ring: Option<Field>,
    return_number: Option<Field>,
    time: Option<Field>,
}

impl Record {
    fn new(cloud: &PointCloud2<'_>) -> Result<Self, PointCloudError> {
        Ok(Self {
            x: coordinate(cloud, "x")?,
            y: coordinate(cloud, "y")?,
            z: coordinate(cloud, "z")?,
            intensity: find(cloud, &["intensity"])?,
            ring: find(cloud, RING_NAMES)?,
            return_number: find(cloud, RETURN_NAMES)?,
            time: find(cloud, TIME_NAMES)?,
        })
    }
}

fn coordinate(cloud: &PointCloud2<'_>, name: &'static str) -> Result<Field, PointCloudError> {
    find(cloud, &[name])?.ok_or(PointCloudError::FieldMissing { expected: name })
}

/// The field with the first of the names that any field has.
fn find(cloud: &PointCloud2<'_>, names: &[&str]) -> Result<Option<Field>, PointCloudError> {
    let named = |name: &&str| cloud.fields.iter().find(|field| field.name == *name);
    let Some(field) = names.iter().find_map(named) else {
        return Ok(None);
    };
    let name = || field.name.to_owned();
    let Some(datatype) = Datatype::from_code(field.datatype) else {
        return Err(PointCloudError::Datatype { name: name(), found: field.datatype });
    };
    let end = u64::from(field.offset_bytes) + datatype.len_bytes() as u64;
    if end > u64::from(cloud.point_step_bytes) {
        let point_step_bytes = cloud.point_step_bytes;
        return Err(PointCloudError::FieldOutside { name: name(), point_step_bytes, found: end });
    }
    Ok(Some(Field { offset: field.offset_bytes as usize, datatype, big_endian: cloud.big_endian }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cloud<'a>(fields: &[(&'a str, u32, u8)], point_step_bytes: u32, data: &'a [u8]) -> PointCloud2<'a> {
        let field = |&(name, offset_bytes, datatype): &(&'a str, u32, u8)| PointField {
            name,
            offset_bytes,
            datatype,
            count: 1,
        };
        PointCloud2 {
            header: Header { stamp_ns: 1_600_000_000_500_000_000, frame_id: "lidar" },
            height: 1,
            width: (data.len() / point_step_bytes as usize) as u32,
            fields: fields.iter().map(field).collect(),
            big_endian: false,
            point_step_bytes,
            row_step_bytes: data.len() as u32,
            data,
            dense: true,
        }
    }

    const XYZ: [(&str, u32, u8); 3] = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)];

    fn xyz_bytes(points: &[[f32; 3]]) -> Vec<u8> {
        points.iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn fields_of_any_order_and_type() {
        let fields = [
            ("return_type", 0, 2),
            ("ring", 1, 4),
            ("z", 3, 8),
            ("t", 11, 6),
            ("y", 15, 3),
            ("intensity", 17, 2),
            ("x", 18, 7),
        ];
        let mut data = vec![2];
        data.extend(300u16.to_le_bytes());
        data.extend((-0.5f64).to_le_bytes());
        data.extend(123_456u32.to_le_bytes());
        data.extend((-7i16).to_le_bytes());
        data.push(200);
        data.extend(1.5f32.to_le_bytes());
        let mut points = Vec::new();
        assert_eq!(cloud(&fields, 22, &data).points(&mut points), Ok(0));
        let point = points[0];
        assert_eq!((point.x_m, point.y_m, point.z_m, point.intensity), (1.5, -7.0, -0.5, 200.0));
        assert_eq!((point.offset_ns, point.ring, point.return_number), (123_456, 300, 2));
    }

    #[test]
    fn big_endian_numbers() {
        let data: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|value| value.to_be_bytes()).collect();
        let mut points = Vec::new();
        let cloud = PointCloud2 { big_endian: true, ..cloud(&XYZ, 12, &data) };
        assert_eq!(cloud.points(&mut points), Ok(0));
        assert_eq!((points[0].x_m, points[0].y_m, points[0].z_m), (1.0, 2.0, 3.0));
        assert_eq!((points[0].offset_ns, points[0].ring), (0, 0));
    }

    #[test]
    fn times_in_seconds() {
        let mut fields = XYZ.to_vec();
        fields.push(("time", 12, 7));
        let mut data = xyz_bytes(&[[0.0; 3]]);
        data.extend((-0.25f32).to_le_bytes());
        let mut points = Vec::new();
        assert_eq!(cloud(&fields, 16, &data).points(&mut points), Ok(0));
        assert_eq!(points[0].offset_ns, -250_000_000);

        fields[3] = ("timestamp", 12, 8);
        let mut data = xyz_bytes(&[[0.0; 3]]);
        data.extend(1_600_000_000.75f64.to_le_bytes());
        assert_eq!(cloud(&fields, 20, &data).points(&mut points), Ok(0));
        assert_eq!(points[1].offset_ns, 250_000_000);

        let mut data = xyz_bytes(&[[0.0; 3]]);
        data.extend(1.6e18f64.to_le_bytes());
        let error = cloud(&fields, 20, &data).points(&mut points);
        assert_eq!(error, Err(PointCloudError::TimeOutOfRange { index: 0, found: 1.6e18 }));
        assert_eq!(points.len(), 2);
    }

    #[test]
    fn points_that_are_not_finite_are_left_out() {
        let data = xyz_bytes(&[[1.0, 2.0, 3.0], [f32::NAN, 0.0, 0.0], [0.0, f32::INFINITY, 0.0], [4.0, 5.0, 6.0]]);
        let mut points = Vec::new();
        assert_eq!(cloud(&XYZ, 12, &data).points(&mut points), Ok(2));
        assert_eq!(points.iter().map(|point| point.z_m).collect::<Vec<_>>(), [3.0, 6.0]);
    }

    #[test]
    fn rows_may_be_padded() {
        let mut data = xyz_bytes(&[[1.0, 2.0, 3.0]]);
        data.extend([0xFF; 4]);
        data.extend(xyz_bytes(&[[4.0, 5.0, 6.0]]));
        data.extend([0xFF; 4]);
        let cloud = PointCloud2 { height: 2, width: 1, row_step_bytes: 16, ..cloud(&XYZ, 12, &data) };
        let mut points = Vec::new();
        assert_eq!(cloud.points(&mut points), Ok(0));
        assert_eq!(points.iter().map(|point| point.x_m).collect::<Vec<_>>(), [1.0, 4.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let data = xyz_bytes(&[[1.0, 2.0, 3.0]]);
        let good = cloud(&XYZ, 12, &data);
        let points = |cloud: &PointCloud2<'_>| cloud.points(&mut Vec::new());
        assert_eq!(points(&good), Ok(0));
        assert_eq!(points(&PointCloud2 { width: 0, height: 0, data: &[], ..good.clone() }), Ok(0));
        let wide = points(&PointCloud2 { width: 2, ..good.clone() });
        assert_eq!(wide, Err(PointCloudError::RowTooShort { expected: 24, found: 12 }));
        let tall = points(&PointCloud2 { height: u32::MAX, ..good.clone() });
        assert_eq!(tall, Err(PointCloudError::DataLength { expected: 12 * u64::from(u32::MAX), found: 12 }));
        let narrow = points(&PointCloud2 { point_step_bytes: 11, ..good.clone() });
        let name = "z".to_owned();
        assert_eq!(narrow, Err(PointCloudError::FieldOutside { name, point_step_bytes: 11, found: 12 }));
        let flat = points(&cloud(&XYZ[..2], 12, &data));
        assert_eq!(flat, Err(PointCloudError::FieldMissing { expected: "z" }));
        let odd = points(&cloud(&[("x", 0, 9)], 12, &data));
        assert_eq!(odd, Err(PointCloudError::Datatype { name: "x".to_owned(), found: 9 }));
    }

    proptest! {
        #[test]
        fn any_layout_is_read_or_refused(
            offsets in any::<[u8; 4]>(),
            datatypes in any::<[u8; 4]>(),
            (height, width, point_step, row_step) in (0u32..4, 0u32..4, 0u32..40, 0u32..90),
            pattern in proptest::collection::vec(any::<u8>(), 1..50),
        ) {
            let data: Vec<u8> = pattern.into_iter().cycle().take((height * row_step) as usize).collect();
            let names = ["x", "y", "z", "timestamp"];
            let fields: Vec<(&str, u32, u8)> =
                (0..4).map(|i| (names[i], u32::from(offsets[i] % 32), datatypes[i] % 10)).collect();
            let cloud = PointCloud2 {
                height,
                width,
                point_step_bytes: point_step,
                row_step_bytes: row_step,
                ..cloud(&fields, 1, &data)
            };
            let mut points = Vec::new();
            if let Ok(dropped) = cloud.points(&mut points) {
                prop_assert_eq!(points.len() + dropped, (height * width) as usize);
            } else {
                prop_assert!(points.is_empty());
            }
        }
    }
}
