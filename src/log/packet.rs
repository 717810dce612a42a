//! Sensor packets in a log: how a camera's picture, a lidar's points, a CAN frame become a message and back.
//!
//! Pictures, clouds and positions are Foxglove's messages; CAN frames, inertial samples and radar scans are ours. Raw
//! formats of ROS 2 and Foxglove recordings are read through the same door, so that importers only copy. Decoding here
//! stops at what is needed to know what a packet is: pictures stay compressed until the pipeline unpacks them.

use std::collections::BTreeMap;

use catseye_sensors::can::CanFrame;
use catseye_sensors::cloud::Point;
use catseye_sensors::packet::{ClockId, PacketHeader, SensorId, Stamp, StampKind};
use catseye_sensors::picture::{Encoding, Frame, PixelFormat, RawLayout};
use catseye_sensors::ros2::Ros2Message;
use foxglove::bytes::Bytes;
use foxglove::messages::packed_element_field::NumericType;
use foxglove::messages::{CompressedImage, CompressedVideo, LocationFix, PackedElementField, PointCloud, RawImage};
use foxglove::{Decode, messages::Timestamp};

use super::Channel;
use super::reader::Message;
use crate::messages::{CanMessage, ImuSample, RadarScan};
use crate::record::Record;

/// Channel metadata: the clock of the sensor's stamps.
pub const CLOCK_KEY: &str = "catseye.clock";
/// Channel metadata: which instant the stamps name.
pub const STAMP_KIND_KEY: &str = "catseye.stamp_kind";
/// Channel metadata: bound on the error of the mapped stamp, nanoseconds.
pub const UNCERTAINTY_KEY: &str = "catseye.stamp_uncertainty_ns";

/// What a packet carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// A picture that stands alone, or one access unit of a video.
    Picture {
        /// How it is compressed; raw pixels are `Raw`.
        encoding: Encoding,
        /// The bytes.
        bytes: Bytes,
    },
    /// Pixels without a header.
    Raw {
        /// How they lie.
        layout: RawLayout,
        /// The bytes.
        bytes: Bytes,
    },
    /// A picture of a video, decoded on the way in because the decoder needs every one before it.
    Frame(Frame),
    /// Points that are still packed.
    Cloud(PackedCloud),
    /// A CAN frame.
    Can(CanFrame),
    /// An inertial sample.
    Imu(ImuSample),
    /// A position.
    Gnss(GnssFix),
    /// A radar scan.
    Radar(Box<RadarScan>),
}

/// A position, and how the receiver moves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GnssFix {
    /// Latitude, WGS 84.
    pub latitude_deg: f64,
    /// Longitude, WGS 84.
    pub longitude_deg: f64,
    /// Height above the ellipsoid.
    pub altitude_m: f64,
    /// Speed over ground, when the receiver tells.
    pub speed_mps: Option<f64>,
}

/// Points as a message packs them.
#[derive(Clone, Debug, Default)]
pub struct PackedCloud {
    /// Bytes from point to point.
    pub stride: usize,
    /// Where the fields lie: name, byte offset, type.
    pub fields: Vec<(String, usize, NumericType)>,
    /// The points.
    pub data: Bytes,
}

/// A packet with its header.
#[derive(Clone, Debug)]
pub struct SensorPacket {
    /// Who, which, when.
    pub header: PacketHeader,
    /// What.
    pub content: Content,
}

/// What a channel says about its stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampInfo {
    /// Their clock.
    pub clock: ClockId,
    /// The instant they name.
    pub kind: StampKind,
    /// Bound on the error of the mapped stamp.
    pub uncertainty_ns: i64,
}

impl StampInfo {
    /// Stamps that an importer made up from a rate.
    pub const SYNTHETIC: StampInfo =
        StampInfo { clock: ClockId::Synthetic, kind: StampKind::Synthetic, uncertainty_ns: 0 };

    /// Reads a channel's metadata; a channel that says nothing is on an unknown clock.
    pub fn of(channel: &Channel) -> Self {
        let text = |key: &str| channel.metadata.get(key).map(String::as_str).unwrap_or_default();
        StampInfo {
            clock: ClockId::from_name(text(CLOCK_KEY)).unwrap_or(ClockId::Unknown),
            kind: StampKind::from_name(text(STAMP_KIND_KEY)).unwrap_or(StampKind::Arrival),
            uncertainty_ns: text(UNCERTAINTY_KEY).parse().unwrap_or(0),
        }
    }

    /// Adds itself to a channel's metadata.
    pub fn describe(&self, channel: &mut Channel) {
        let entries = [
            (CLOCK_KEY, self.clock.name().to_owned()),
            (STAMP_KIND_KEY, self.kind.name().to_owned()),
            (UNCERTAINTY_KEY, self.uncertainty_ns.to_string()),
        ];
        channel.metadata.extend(entries.map(|(key, value)| (key.to_owned(), value)));
    }
}

/// Reads a message as a packet of `sensor`; `Ok(None)` when its schema is none that a sensor speaks.
pub fn read_packet(message: &Message, sensor: SensorId, info: &StampInfo) -> Result<Option<SensorPacket>, String> {
    let Some((content, raw_ns)) = read_content(message)? else { return Ok(None) };
    let stamp = Stamp {
        raw_ns: raw_ns.unwrap_or(message.publish_ns),
        clock: info.clock,
        kind: info.kind,
        arrival_ns: message.log_ns,
        mapped_ns: message.publish_ns,
        uncertainty_ns: info.uncertainty_ns,
    };
    Ok(Some(SensorPacket { header: PacketHeader { sensor, sequence: message.sequence, stamp }, content }))
}

fn read_content(message: &Message) -> Result<Option<(Content, Option<i64>)>, String> {
    let data = || Bytes::copy_from_slice(message.data);
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let content = match message.channel.schema_name.as_str() {
        "foxglove.CompressedImage" => {
            let image = CompressedImage::decode(data()).map_err(|error| wrong(&error))?;
            let encoding = Encoding::from_name(&image.format).map_err(|error| wrong(&error))?;
            (Content::Picture { encoding, bytes: image.data }, nanoseconds(image.timestamp))
        }
        "foxglove.CompressedVideo" => {
            let video = CompressedVideo::decode(data()).map_err(|error| wrong(&error))?;
            let encoding = Encoding::from_name(&video.format).map_err(|error| wrong(&error))?;
            (Content::Picture { encoding, bytes: video.data }, nanoseconds(video.timestamp))
        }
        "foxglove.RawImage" => {
            let image = RawImage::decode(data()).map_err(|error| wrong(&error))?;
            let format = raw_format(&image.encoding)?;
            let layout = raw_layout(image.width, image.height, format, image.step);
            (Content::Raw { layout, bytes: image.data }, nanoseconds(image.timestamp))
        }
        "foxglove.PointCloud" => {
            let cloud = PointCloud::decode(data()).map_err(|error| wrong(&error))?;
            let raw_ns = nanoseconds(cloud.timestamp);
            (Content::Cloud(PackedCloud::of_foxglove(cloud)?), raw_ns)
        }
        "foxglove.LocationFix" => {
            let fix = LocationFix::decode(data()).map_err(|error| wrong(&error))?;
            let speed_mps = fix.velocity.map(|v| (v.x * v.x + v.y * v.y).sqrt());
            let raw_ns = nanoseconds(fix.timestamp);
            let fix = GnssFix {
                latitude_deg: fix.latitude,
                longitude_deg: fix.longitude,
                altitude_m: fix.altitude,
                speed_mps,
            };
            (Content::Gnss(fix), raw_ns)
        }
        "catseye_msgs/msg/CanMessage" => {
            let can = CanMessage::decode(message.data).map_err(|error| wrong(&error))?;
            let frame =
                CanFrame::new(can.id, can.extended, can.fd, can.bus, &can.data).map_err(|error| wrong(&error))?;
            (Content::Can(frame), None)
        }
        "catseye_msgs/msg/ImuSample" => {
            (Content::Imu(ImuSample::decode(message.data).map_err(|error| wrong(&error))?), None)
        }
        "catseye_msgs/msg/RadarScan" => {
            (Content::Radar(Box::new(RadarScan::decode(message.data).map_err(|error| wrong(&error))?)), None)
        }
        name if message.channel.message_encoding == "cdr" => return read_ros2(name, message.data),
        _ => return Ok(None),
    };
    Ok(Some(content))
}

fn read_ros2(name: &str, data: &[u8]) -> Result<Option<(Content, Option<i64>)>, String> {
    let message = match Ros2Message::decode(name, data) {
        Ok(message) => message,
        Err(catseye_sensors::ros2::Ros2Error::UnknownType { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let content = match message {
        Ros2Message::Image(image) => {
            let format = raw_format(image.encoding)?;
            let layout = raw_layout(image.width_px, image.height_px, format, image.step_bytes);
            (Content::Raw { layout, bytes: Bytes::copy_from_slice(image.data) }, image.header.stamp_ns)
        }
        Ros2Message::CompressedImage(image) => {
            let encoding = Encoding::from_name(image.format).map_err(|error| error.to_string())?;
            (Content::Picture { encoding, bytes: Bytes::copy_from_slice(image.data) }, image.header.stamp_ns)
        }
        Ros2Message::PointCloud2(cloud) => {
            let mut points = Vec::new();
            cloud.points(&mut points).map_err(|error| error.to_string())?;
            (Content::Cloud(PackedCloud::of_points(&points)), cloud.header.stamp_ns)
        }
        Ros2Message::Imu(imu) => {
            let sample = ImuSample {
                angular_velocity_radps: imu.angular_velocity_radps,
                acceleration_mps2: imu.acceleration_mps2,
            };
            (Content::Imu(sample), imu.header.stamp_ns)
        }
        Ros2Message::NavSatFix(fix) => {
            let position = GnssFix {
                latitude_deg: fix.latitude_deg,
                longitude_deg: fix.longitude_deg,
                altitude_m: fix.altitude_m,
                speed_mps: None,
            };
            (Content::Gnss(position), fix.header.stamp_ns)
        }
        _ => return Ok(None),
    };
    Ok(Some((content.0, Some(content.1))))
}

fn raw_format(name: &str) -> Result<PixelFormat, String> {
    match Encoding::from_name(name).map_err(|error| error.to_string())? {
        Encoding::Raw(format) => Ok(format),
        _ => Err(format!("expected a raw pixel format, found {name:?}")),
    }
}

fn raw_layout(width_px: u32, height_px: u32, format: PixelFormat, step: u32) -> RawLayout {
    let stride_bytes = (step > 0).then_some(step as usize);
    RawLayout { width_px, height_px, format, full_range: false, stride_bytes }
}

/// Nanoseconds of a Foxglove stamp.
pub fn nanoseconds(stamp: Option<Timestamp>) -> Option<i64> {
    stamp.map(|stamp| i64::from(stamp.sec()) * 1_000_000_000 + i64::from(stamp.nsec()))
}

/// A Foxglove stamp; what does not fit its unsigned seconds becomes none.
pub fn timestamp(ns: i64) -> Option<Timestamp> {
    let seconds = u32::try_from(ns.div_euclid(1_000_000_000)).ok()?;
    Timestamp::new_checked(seconds, ns.rem_euclid(1_000_000_000) as u32)
}

const POINT_STRIDE: u32 = 22;
/// Most points of one scan: a guard against messages that unpack to more than memory.
pub const MAX_POINTS: usize = 1 << 23;

impl PackedCloud {
    fn of_foxglove(cloud: PointCloud) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in cloud.fields {
            let kind = NumericType::try_from(field.r#type).map_err(|_| {
                format!("point field {:?}: expected a numeric type, found {}", field.name, field.r#type)
            })?;
            fields.push((field.name, field.offset as usize, kind));
        }
        Ok(PackedCloud { stride: cloud.point_stride as usize, fields, data: cloud.data })
    }

    /// Packs points the way [`cloud_message`] does.
    pub fn of_points(points: &[Point]) -> Self {
        let mut data = Vec::with_capacity(points.len() * POINT_STRIDE as usize);
        for point in points {
            for value in [point.x_m, point.y_m, point.z_m, point.intensity] {
                data.extend_from_slice(&value.to_le_bytes());
            }
            data.extend_from_slice(&point.offset_ns.to_le_bytes());
            data.extend_from_slice(&point.ring.to_le_bytes());
        }
        let fields = point_fields().into_iter().map(|(name, offset, kind)| (name.to_owned(), offset, kind)).collect();
        PackedCloud { stride: POINT_STRIDE as usize, fields, data: Bytes::from(data) }
    }

    /// Unpacks the points, leaving out those that are not finite; gives how many those were. Allocates only to grow.
    pub fn unpack(&self, points: &mut Vec<Point>) -> Result<usize, String> {
        points.clear();
        let find = |wanted: &str| self.fields.iter().find(|field| field.0 == wanted);
        let need = |wanted: &str| find(wanted).ok_or_else(|| format!("expected a point field {wanted:?}, found none"));
        let (x, y, z) = (need("x")?, need("y")?, need("z")?);
        let intensity = find("intensity");
        let (ring, offset) = (find("ring").or_else(|| find("channel")), find("offset_ns"));
        if self.stride == 0 {
            return Err("expected a point stride above 0".to_owned());
        }
        let count = self.data.len() / self.stride;
        if count > MAX_POINTS {
            return Err(format!("expected at most {MAX_POINTS} points in a scan, found {count}"));
        }
        let mut dropped = 0;
        for packed in self.data.chunks_exact(self.stride) {
            let value = |field: &(String, usize, NumericType)| number(packed, field.1, field.2);
            let optional = |field: Option<&(String, usize, NumericType)>| field.and_then(value).unwrap_or(0.0);
            let (Some(x), Some(y), Some(z)) = (value(x), value(y), value(z)) else {
                return Err(format!("expected the point fields inside a stride of {} bytes", self.stride));
            };
            let point = Point {
                x_m: x as f32,
                y_m: y as f32,
                z_m: z as f32,
                intensity: optional(intensity) as f32,
                offset_ns: optional(offset) as i32,
                ring: optional(ring) as u16,
                ..Point::default()
            };
            if point.x_m.is_finite() && point.y_m.is_finite() && point.z_m.is_finite() {
                points.push(point);
            } else {
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

fn point_fields() -> [(&'static str, usize, NumericType); 6] {
    [
        ("x", 0, NumericType::Float32),
        ("y", 4, NumericType::Float32),
        ("z", 8, NumericType::Float32),
        ("intensity", 12, NumericType::Float32),
        ("offset_ns", 16, NumericType::Int32),
        ("ring", 20, NumericType::Uint16),
    ]
}

fn number(packed: &[u8], offset: usize, kind: NumericType) -> Option<f64> {
    let rest = packed.get(offset..)?;
    Some(match kind {
        NumericType::Uint8 => f64::from(*rest.first()?),
        NumericType::Int8 => f64::from(*rest.first()? as i8),
        NumericType::Uint16 => f64::from(u16::from_le_bytes(*rest.first_chunk()?)),
        NumericType::Int16 => f64::from(i16::from_le_bytes(*rest.first_chunk()?)),
        NumericType::Uint32 => f64::from(u32::from_le_bytes(*rest.first_chunk()?)),
        NumericType::Int32 => f64::from(i32::from_le_bytes(*rest.first_chunk()?)),
        NumericType::Float32 => f64::from(f32::from_le_bytes(*rest.first_chunk()?)),
        NumericType::Float64 => f64::from_le_bytes(*rest.first_chunk()?),
        NumericType::Unknown => return None,
    })
}

/// A message with points in the sensor's own frame.
pub fn cloud_message(points: &[Point], stamp_ns: i64, frame_id: &str) -> PointCloud {
    let fields = point_fields()
        .into_iter()
        .map(|(name, offset, kind)| PackedElementField {
            name: name.to_owned(),
            offset: offset as u32,
            r#type: kind.into(),
        })
        .collect();
    PointCloud {
        timestamp: timestamp(stamp_ns),
        frame_id: frame_id.to_owned(),
        pose: Some(foxglove::messages::Pose {
            position: Some(foxglove::messages::Vector3 { x: 0.0, y: 0.0, z: 0.0 }),
            orientation: Some(foxglove::messages::Quaternion { x: 0.0, y: 0.0, z: 0.0, w: 1.0 }),
        }),
        point_stride: POINT_STRIDE,
        fields,
        data: PackedCloud::of_points(points).data,
    }
}

/// A message with a compressed picture.
pub fn picture_message(bytes: Vec<u8>, format: &str, stamp_ns: i64, frame_id: &str) -> CompressedImage {
    CompressedImage {
        timestamp: timestamp(stamp_ns),
        frame_id: frame_id.to_owned(),
        data: bytes.into(),
        format: format.to_owned(),
    }
}

/// A message with one access unit of a video.
pub fn video_message(bytes: Vec<u8>, stamp_ns: i64, frame_id: &str) -> CompressedVideo {
    CompressedVideo {
        timestamp: timestamp(stamp_ns),
        frame_id: frame_id.to_owned(),
        data: bytes.into(),
        format: "h264".to_owned(),
    }
}

/// Finds the sensors of a rig by the topics of a log.
pub fn sensors_by_topic(rig: &catseye_calibration::rig::Rig) -> BTreeMap<String, SensorId> {
    rig.sensors().map(|sensor| (sensor.topic.to_owned(), SensorId(sensor.id))).collect()
}
