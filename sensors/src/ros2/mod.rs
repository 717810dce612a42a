//! ROS 2 messages as rosbag2 and MCAP files record them: CDR payloads of the common sensor messages. [`Ros2Message`]
//! decodes a payload by its type's name; the decoded messages borrow texts and data from the payload, and keep the
//! frames and units of REP 103 (metres, radians, seconds; stamps are turned into nanoseconds). Promised: any payload
//! gives a message or an error that names the type, the position and what was expected; none panics.

pub mod cdr;
mod cloud;
mod image;
mod motion;
mod packets;
mod transform;

pub use cloud::{PointCloud2, PointCloudError, PointField};
pub use image::{CameraInfo, CompressedImage, Image, RegionOfInterest};
pub use motion::{Imu, NavSatFix};
pub use packets::{LidarPacket, LidarPackets};
pub use transform::TransformStamped;

use cdr::{CdrError, CdrReader};
use thiserror::Error;

/// The message types that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ros2Type {
    /// `sensor_msgs/msg/Image`
    Image,
    /// `sensor_msgs/msg/CompressedImage`
    CompressedImage,
    /// `sensor_msgs/msg/CameraInfo`
    CameraInfo,
    /// `sensor_msgs/msg/PointCloud2`
    PointCloud2,
    /// `sensor_msgs/msg/Imu`
    Imu,
    /// `sensor_msgs/msg/NavSatFix`
    NavSatFix,
    /// `geometry_msgs/msg/TransformStamped`
    TransformStamped,
    /// `tf2_msgs/msg/TFMessage`
    TfMessage,
    /// `nebula_msgs/msg/NebulaPackets`
    NebulaPackets,
    /// `velodyne_msgs/msg/VelodyneScan`
    VelodyneScan,
    /// `pandar_msgs/msg/PandarScan`
    PandarScan,
}

impl Ros2Type {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::Image,
        Self::CompressedImage,
        Self::CameraInfo,
        Self::PointCloud2,
        Self::Imu,
        Self::NavSatFix,
        Self::TransformStamped,
        Self::TfMessage,
        Self::NebulaPackets,
        Self::VelodyneScan,
        Self::PandarScan,
    ];

    /// The package and the name within it.
    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Image => ("sensor_msgs", "Image"),
            Self::CompressedImage => ("sensor_msgs", "CompressedImage"),
            Self::CameraInfo => ("sensor_msgs", "CameraInfo"),
            Self::PointCloud2 => ("sensor_msgs", "PointCloud2"),
            Self::Imu => ("sensor_msgs", "Imu"),
            Self::NavSatFix => ("sensor_msgs", "NavSatFix"),
            Self::TransformStamped => ("geometry_msgs", "TransformStamped"),
            Self::TfMessage => ("tf2_msgs", "TFMessage"),
            Self::NebulaPackets => ("nebula_msgs", "NebulaPackets"),
            Self::VelodyneScan => ("velodyne_msgs", "VelodyneScan"),
            Self::PandarScan => ("pandar_msgs", "PandarScan"),
        }
    }

    /// The full name, such as `sensor_msgs/msg/Image`.
    pub fn name(self) -> String {
        let (package, name) = self.parts();
        format!("{package}/msg/{name}")
    }

    /// The type of that name, spelt `sensor_msgs/msg/Image` or `sensor_msgs/Image`.
    pub fn from_name(name: &str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let parts = (package, rest.strip_prefix("msg/").unwrap_or(rest));
        Self::ALL.into_iter().find(|candidate| candidate.parts() == parts)
    }
}

/// Why a payload cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Ros2Error {
    /// There is no decoder for the type.
    #[error("expected a ROS 2 message type that can be decoded, found {found:?}")]
    UnknownType {
        /// The type's name.
        found: String,
    },
    /// The payload is not such a message.
    #[error("{name}: {cause}")]
    Payload {
        /// The type's name.
        name: String,
        /// What is wrong, and where.
        #[source]
        cause: CdrError,
    },
}

/// `std_msgs/msg/Header`: when and in which frame a message was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The stamp, in nanoseconds of the clock that the publisher used.
    pub stamp_ns: i64,
    /// The coordinate frame's name.
    pub frame_id: &'a str,
}

impl<'a> Header<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self { stamp_ns: read_time_ns(reader)?, frame_id: reader.string()? })
    }
}

/// `builtin_interfaces/msg/Time` in nanoseconds.
pub(crate) fn read_time_ns(reader: &mut CdrReader<'_>) -> Result<i64, CdrError> {
    const NS_PER_S: u32 = 1_000_000_000;
    let seconds = reader.i32()?;
    let nanoseconds = reader.u32()?;
    if nanoseconds >= NS_PER_S {
        return Err(CdrError::Nanoseconds { position: reader.position() - size_of::<u32>(), found: nanoseconds });
    }
    // At most 2^31 * 10^9, which an i64 holds.
    Ok(i64::from(seconds) * i64::from(NS_PER_S) + i64::from(nanoseconds))
}

/// One decoded message.
#[derive(Clone, Debug, PartialEq)]
pub enum Ros2Message<'a> {
    /// `sensor_msgs/msg/Image`
    Image(Image<'a>),
    /// `sensor_msgs/msg/CompressedImage`
    CompressedImage(CompressedImage<'a>),
    /// `sensor_msgs/msg/CameraInfo`
    CameraInfo(CameraInfo<'a>),
    /// `sensor_msgs/msg/PointCloud2`
    PointCloud2(PointCloud2<'a>),
    /// `sensor_msgs/msg/Imu`
    Imu(Imu<'a>),
    /// `sensor_msgs/msg/NavSatFix`
    NavSatFix(NavSatFix<'a>),
    /// `tf2_msgs/msg/TFMessage`, or the one transform of a `geometry_msgs/msg/TransformStamped`
    Transforms(Vec<TransformStamped<'a>>),
    /// `nebula_msgs/msg/NebulaPackets`, `velodyne_msgs/msg/VelodyneScan` or `pandar_msgs/msg/PandarScan`
    Packets(LidarPackets<'a>),
}

impl<'a> Ros2Message<'a> {
    /// Decodes a payload of the type called `type_name` (see [`Ros2Type::from_name`]).
    ///
    /// # Errors
    /// If the type has no decoder or the payload is not such a message.
    pub fn decode(type_name: &str, payload: &'a [u8]) -> Result<Self, Ros2Error> {
        let Some(kind) = Ros2Type::from_name(type_name) else {
            return Err(Ros2Error::UnknownType { found: type_name.to_owned() });
        };
        Self::decode_as(kind, payload)
    }

    /// Decodes a payload of that type.
    ///
    /// # Errors
    /// If the payload is not such a message.
    pub fn decode_as(kind: Ros2Type, payload: &'a [u8]) -> Result<Self, Ros2Error> {
        Self::read(kind, payload).map_err(|cause| Ros2Error::Payload { name: kind.name(), cause })
    }

    fn read(kind: Ros2Type, payload: &'a [u8]) -> Result<Self, CdrError> {
        let reader = &mut CdrReader::new(payload)?;
        let message = match kind {
            Ros2Type::Image => Self::Image(Image::read(reader)?),
            Ros2Type::CompressedImage => Self::CompressedImage(CompressedImage::read(reader)?),
            Ros2Type::CameraInfo => Self::CameraInfo(CameraInfo::read(reader)?),
            Ros2Type::PointCloud2 => Self::PointCloud2(PointCloud2::read(reader)?),
            Ros2Type::Imu => Self::Imu(Imu::read(reader)?),
            Ros2Type::NavSatFix => Self::NavSatFix(NavSatFix::read(reader)?),
            Ros2Type::TransformStamped => Self::Transforms(vec![TransformStamped::read(reader)?]),
            Ros2Type::TfMessage => Self::Transforms(TransformStamped::read_sequence(reader)?),
            Ros2Type::NebulaPackets => Self::Packets(LidarPackets::read_nebula(reader)?),
            Ros2Type::VelodyneScan => Self::Packets(LidarPackets::read_velodyne(reader)?),
            Ros2Type::PandarScan => Self::Packets(LidarPackets::read_pandar(reader)?),
        };
        reader.finish()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::cdr::writer::CdrWriter;
    use super::*;
    use proptest::prelude::*;

    /// A small message of every type.
    fn samples(big_endian: bool) -> Vec<(Ros2Type, Vec<u8>)> {
        Ros2Type::ALL.into_iter().map(|kind| (kind, sample(kind, big_endian))).collect()
    }

    fn sample(kind: Ros2Type, big_endian: bool) -> Vec<u8> {
        let mut writer = CdrWriter::new(big_endian);
        if kind == Ros2Type::TfMessage {
            writer.u32(2);
        } else {
            writer.header(7, 5, "frame");
        }
        match kind {
            Ros2Type::Image => {
                writer.u32(2).u32(1).string("rgb8").u8(0).u32(3).byte_sequence(&[1, 2, 3, 4, 5, 6]);
            }
            Ros2Type::CompressedImage => {
                writer.string("jpeg").byte_sequence(&[9, 8, 7]);
            }
            Ros2Type::CameraInfo => {
                writer.u32(480).u32(640).string("plumb_bob").u32(5).f64s(&[0.1; 5]).f64s(&[1.0; 9 + 9 + 12]);
                writer.u32(1).u32(1).u32(0).u32(0).u32(0).u32(0).u8(0);
            }
            Ros2Type::PointCloud2 => {
                writer.u32(1).u32(1).u32(3);
                for (name, offset) in [("x", 0), ("y", 4), ("z", 8)] {
                    writer.string(name).u32(offset).u8(7).u32(1);
                }
                writer.u8(0).u32(12).u32(12).byte_sequence(&[0; 12]).u8(1);
            }
            Ros2Type::Imu => {
                writer.f64s(&[0.5; 4 + 9 + 3 + 9 + 3 + 9]);
            }
            Ros2Type::NavSatFix => {
                writer.u8(1).u16(3).f64s(&[48.0; 3 + 9]).u8(2);
            }
            Ros2Type::TransformStamped => {
                writer.string("child").f64s(&[1.0; 7]);
            }
            Ros2Type::TfMessage => {
                for _ in 0..2 {
                    writer.header(1, 2, "a").string("b").f64s(&[1.0; 7]);
                }
            }
            Ros2Type::NebulaPackets => {
                writer.u32(1).i32(1).u32(2).byte_sequence(&[1, 2, 3]);
            }
            Ros2Type::VelodyneScan => {
                writer.u32(1).i32(1).u32(2).raw(&[5; 1206]);
            }
            Ros2Type::PandarScan => {
                writer.u32(1).i32(1).u32(2).raw(&[5; 1500]).u32(1080);
            }
        }
        writer.bytes
    }

    #[test]
    fn both_spellings_name_a_type() {
        for kind in Ros2Type::ALL {
            let name = kind.name();
            assert_eq!(Ros2Type::from_name(&name), Some(kind));
            assert_eq!(Ros2Type::from_name(&name.replace("/msg/", "/")), Some(kind));
        }
        assert_eq!(Ros2Type::from_name("sensor_msgs/msg/Joy"), None);
        assert_eq!(Ros2Type::from_name("Image"), None);
        let error = Ros2Message::decode("a/msg/B", &[]).unwrap_err();
        assert_eq!(error, Ros2Error::UnknownType { found: "a/msg/B".to_owned() });
    }

    #[test]
    fn both_byte_orders_give_the_same_message() {
        for (little, big) in samples(false).iter().zip(&samples(true)) {
            let little_message = Ros2Message::decode_as(little.0, &little.1).unwrap();
            assert_eq!(Ros2Message::decode_as(big.0, &big.1).unwrap(), little_message);
        }
    }

    #[test]
    fn truncation_at_every_byte_is_an_error() {
        for (kind, payload) in samples(false).into_iter().chain(samples(true)) {
            for end in 0..payload.len() {
                let cut = Ros2Message::decode_as(kind, &payload[..end]);
                assert!(matches!(cut, Err(Ros2Error::Payload { .. })), "{kind:?} cut at {end}");
            }
        }
    }

    #[test]
    fn more_fields_than_expected_are_an_error() {
        for (kind, mut payload) in samples(false) {
            payload.extend([0; 3]);
            assert!(Ros2Message::decode_as(kind, &payload).is_ok(), "{kind:?}");
            payload.push(0);
            assert!(Ros2Message::decode_as(kind, &payload).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn stamps_are_nanoseconds() {
        let read = |seconds: i32, nanoseconds: u32| {
            let mut writer = CdrWriter::new(false);
            writer.i32(seconds).u32(nanoseconds);
            read_time_ns(&mut CdrReader::new(&writer.bytes).unwrap())
        };
        assert_eq!(read(1_673_400_677, 700_635_194), Ok(1_673_400_677_700_635_194));
        assert_eq!(read(-1, 999_999_999), Ok(-1));
        assert_eq!(read(i32::MIN, 0), Ok(-2_147_483_648_000_000_000));
        assert_eq!(read(0, 1_000_000_000), Err(CdrError::Nanoseconds { position: 8, found: 1_000_000_000 }));
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(
            index in 0..Ros2Type::ALL.len(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let kind = Ros2Type::ALL[index];
            let mut payload = sample(kind, false);
            for (position, byte) in changes {
                let position = position.index(payload.len());
                payload[position] = byte;
            }
            if let Ok(Ros2Message::PointCloud2(cloud)) = Ros2Message::decode_as(kind, &payload) {
                let _ = cloud.points(&mut Vec::new());
            }
        }
    }
}
