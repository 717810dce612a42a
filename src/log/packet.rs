//! Sensor packets in a log: how a camera's picture, a lidar's points, a CAN frame become a message and back.
//!
//! Pictures, clouds and positions are Foxglove's messages; CAN frames, inertial samples and radar scans are ours. Raw
//! formats of ROS 2 and Foxglove recordings are read through the same door, so that importers only copy. Decoding here
//! stops at what is needed to know what a packet is: pictures stay compressed until the pipeline unpacks them.

use std::collections::BTreeMap;

use catseye_calibration::pose::Pose;
use catseye_sensors::can::CanFrame;
use catseye_sensors::cloud::Point;
use catseye_sensors::memory::SharedBytes;
use catseye_sensors::packet::{ClockId, PacketHeader, SensorId, Stamp, StampKind};
use catseye_sensors::picture::{Encoding, Frame, PixelFormat, RawLayout};
use catseye_sensors::ros2::Ros2Message;
use foxglove::bytes::Bytes;
use foxglove::messages::packed_element_field::NumericType;
use foxglove::messages::{CompressedImage, CompressedVideo, LocationFix, PackedElementField, PointCloud, RawImage};
use foxglove::{Decode, messages::Timestamp};
use nalgebra::Vector3;

use super::Channel;
use super::reader::Message;
use crate::messages::{CanMessage, ImuSample, RadarReturns, RadarScan, RadarTarget, UltrasonicEcho};
use crate::record::Record;
use crate::stages::preprocess::raw::{self, MosaicLayout};

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
        bytes: SharedBytes,
    },
    /// A sensor's pixels, each of one colour.
    Mosaic {
        /// How they lie.
        layout: MosaicLayout,
        /// The bytes.
        bytes: SharedBytes,
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
    /// An ultrasonic echo.
    Ultrasonic(UltrasonicEcho),
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

impl From<&LocationFix> for GnssFix {
    fn from(fix: &LocationFix) -> Self {
        GnssFix {
            latitude_deg: fix.latitude,
            longitude_deg: fix.longitude,
            altitude_m: fix.altitude,
            speed_mps: fix.velocity.as_ref().map(|v| (v.x * v.x + v.y * v.y).sqrt()),
        }
    }
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
    /// From the frame that the points are given in to the sensor's; `None` where they are one.
    pub sensor_from_points: Option<Pose>,
}

/// A packet with its header.
#[derive(Clone, Debug)]
pub struct SensorPacket {
    /// Who, which, when.
    pub header: PacketHeader,
    /// What.
    pub content: Content,
}

impl From<&CanFrame> for CanMessage {
    fn from(frame: &CanFrame) -> Self {
        CanMessage {
            bus: frame.bus,
            id: frame.id,
            extended: frame.extended,
            fd: frame.fd,
            data: heapless::Vec::from_slice(frame.payload()).unwrap_or_default(),
        }
    }
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
            let raw_ns = nanoseconds(image.timestamp);
            (pixels(&image.encoding, [image.width, image.height], image.step, image.data)?, raw_ns)
        }
        "foxglove.PointCloud" => {
            let cloud = PointCloud::decode(data()).map_err(|error| wrong(&error))?;
            let raw_ns = nanoseconds(cloud.timestamp);
            (Content::Cloud(PackedCloud::of_foxglove(cloud)?), raw_ns)
        }
        "foxglove.LocationFix" => {
            let fix = LocationFix::decode(data()).map_err(|error| wrong(&error))?;
            (Content::Gnss(GnssFix::from(&fix)), nanoseconds(fix.timestamp))
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
        "catseye_msgs/msg/RadarReturns" => {
            let returns = RadarReturns::decode(message.data).map_err(|error| wrong(&error))?;
            (Content::Radar(Box::new(strongest(&returns))), None)
        }
        "catseye_msgs/msg/UltrasonicEcho" => {
            (Content::Ultrasonic(UltrasonicEcho::decode(message.data).map_err(|error| wrong(&error))?), None)
        }
        name if message.channel.message_encoding == "cdr" => return read_ros2(name, message.data),
        _ => return Ok(None),
    };
    Ok(Some(content))
}

/// The strongest returns as targets, as many as a scan holds; of equally strong ones the nearest. Their numbers are
/// their places: nobody follows them from scan to scan.
pub(crate) fn strongest(returns: &RadarReturns) -> RadarScan {
    let mut sorted: Vec<_> = returns.returns.iter().collect();
    sorted.sort_by(|a, b| b.rcs_dbsm.total_cmp(&a.rcs_dbsm).then(a.range_m.total_cmp(&b.range_m)));
    let mut scan = RadarScan::default();
    for (id, found) in (0..).zip(sorted) {
        let (range_m, azimuth_rad) = (f64::from(found.range_m), f64::from(found.azimuth_rad));
        let target = RadarTarget {
            id,
            x_m: (range_m * libm::cos(azimuth_rad)) as f32,
            y_m: (range_m * libm::sin(azimuth_rad)) as f32,
            range_rate_mps: found.range_rate_mps,
            is_new: false,
        };
        if scan.targets.push(target).is_err() {
            break;
        }
    }
    scan
}

fn read_ros2(name: &str, data: &[u8]) -> Result<Option<(Content, Option<i64>)>, String> {
    let message = match Ros2Message::decode(name, data) {
        Ok(message) => message,
        Err(catseye_sensors::ros2::Ros2Error::UnknownType { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let content = match message {
        Ros2Message::Image(image) => {
            let (size_px, data) = ([image.width_px, image.height_px], Bytes::copy_from_slice(image.data));
            (pixels(image.encoding, size_px, image.step_bytes, data)?, image.header.stamp_ns)
        }
        Ros2Message::CompressedImage(image) => {
            let encoding = Encoding::from_name(image.format).map_err(|error| error.to_string())?;
            (Content::Picture { encoding, bytes: Bytes::copy_from_slice(image.data) }, image.header.stamp_ns)
        }
        Ros2Message::PointCloud2(cloud) => {
            // packed densely, many points fit in few bytes: the count is asked first
            check_count(u64::from(cloud.width) * u64::from(cloud.height))?;
            let mut points = Vec::new();
            cloud.points(&mut points).map_err(|error| error.to_string())?;
            (Content::Cloud(PackedCloud::of_points(&points)), cloud.header.stamp_ns)
        }
        Ros2Message::Imu(imu) => {
            let sample = ImuSample {
                angular_velocity_radps: imu.angular_velocity().unwrap_or(NOT_MEASURED),
                acceleration_mps2: imu.acceleration().unwrap_or(NOT_MEASURED),
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

/// What stands for a quantity that a sensor does not measure: nobody takes it for a value.
const NOT_MEASURED: [f64; 3] = [f64::NAN; 3];

/// The pixel format of this name.
/// Pixels without a header, of an encoding by its name.
fn pixels(encoding: &str, [width_px, height_px]: [u32; 2], step: u32, bytes: Bytes) -> Result<Content, String> {
    if let Some((format, pattern)) = raw::from_encoding(encoding) {
        let stride_bytes = (step > 0).then_some(step as usize);
        let layout = MosaicLayout { width_px, height_px, format, pattern, stride_bytes };
        return Ok(Content::Mosaic { layout, bytes: bytes.into() });
    }
    let layout = raw_layout(width_px, height_px, raw_format(encoding)?, step);
    Ok(Content::Raw { layout, bytes: bytes.into() })
}

pub(super) fn raw_format(name: &str) -> Result<PixelFormat, String> {
    match Encoding::from_name(name).map_err(|error| error.to_string())? {
        Encoding::Raw(format) => Ok(format),
        _ => Err(format!("expected a raw pixel format, found {name:?}")),
    }
}

pub(crate) fn raw_layout(width_px: u32, height_px: u32, format: PixelFormat, step: u32) -> RawLayout {
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

fn check_count(points: u64) -> Result<(), String> {
    if points > MAX_POINTS as u64 {
        return Err(format!("expected at most {MAX_POINTS} points in a scan, found {points}"));
    }
    Ok(())
}

/// The pose of a cloud; `None` where it moves nothing, so that such points stay as they are to the last bit.
fn moving_pose(pose: &foxglove::messages::Pose) -> Result<Option<Pose>, String> {
    let translation_m = pose.position.as_ref().map_or_else(Vector3::zeros, |at| Vector3::new(at.x, at.y, at.z));
    let wxyz = pose.orientation.as_ref().map_or([0.0; 4], |turn| [turn.w, turn.x, turn.y, turn.z]);
    // a quaternion of zeros is one that nobody set
    let wxyz = if wxyz == [0.0; 4] { [1.0, 0.0, 0.0, 0.0] } else { wxyz };
    let Some(pose) = Pose::from_quaternion_wxyz(wxyz, translation_m) else {
        let found = format!("the place {translation_m:?} and the quaternion {wxyz:?} (w, x, y, z)");
        return Err(format!("expected a pose of finite numbers, found {found}"));
    };
    let [_, x, y, z] = pose.quaternion_wxyz();
    let is_moving = [x, y, z] != [0.0; 3] || translation_m != Vector3::zeros();
    Ok(is_moving.then_some(pose))
}

impl PackedCloud {
    fn of_foxglove(cloud: PointCloud) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in cloud.fields {
            let kind = NumericType::try_from(field.r#type).map_err(|_| {
                format!("point field {:?}: expected a numeric type, found {}", field.name, field.r#type)
            })?;
            fields.push((field.name, field.offset as usize, kind));
        }
        let sensor_from_points = cloud.pose.as_ref().map(moving_pose).transpose()?.flatten();
        Ok(PackedCloud { stride: cloud.point_stride as usize, fields, data: cloud.data, sensor_from_points })
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
        PackedCloud { stride: POINT_STRIDE as usize, fields, data: Bytes::from(data), sensor_from_points: None }
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
        if !self.data.len().is_multiple_of(self.stride) {
            return Err(format!("expected whole points of {} bytes, found {} bytes", self.stride, self.data.len()));
        }
        check_count((self.data.len() / self.stride) as u64)?;
        let mut dropped = 0;
        for packed in self.data.chunks_exact(self.stride) {
            let value = |field: &(String, usize, NumericType)| number(packed, field.1, field.2);
            let optional = |field: Option<&(String, usize, NumericType)>| field.and_then(value).unwrap_or(0.0);
            let (Some(x), Some(y), Some(z)) = (value(x), value(y), value(z)) else {
                return Err(format!("expected the point fields inside a stride of {} bytes", self.stride));
            };
            let [x, y, z] = match &self.sensor_from_points {
                None => [x, y, z],
                Some(pose) => pose.transform_point(&Vector3::new(x, y, z)).into(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use foxglove::messages::Quaternion;

    use super::*;
    use crate::messages::RadarReturn;

    fn read(channel: Channel, data: &[u8]) -> Result<Content, String> {
        let channel = Arc::new(channel);
        let message = Message { channel: &channel, channel_id: 0, sequence: 0, log_ns: 2, publish_ns: 1, data };
        let packet = read_packet(&message, SensorId(0), &StampInfo::SYNTHETIC)?;
        packet.map(|packet| packet.content).ok_or_else(|| "no packet".to_owned())
    }

    fn unpacked(cloud: &PointCloud) -> Result<Vec<Point>, String> {
        let mut data = Vec::new();
        let _ = foxglove::Encode::encode(cloud, &mut data);
        let Content::Cloud(packed) = read(Channel::of_foxglove::<PointCloud>("/points"), &data)? else {
            return Err("no cloud".to_owned());
        };
        let mut points = Vec::new();
        packed.unpack(&mut points)?;
        Ok(points)
    }

    fn ros2(schema_name: &str) -> Channel {
        Channel {
            topic: "/sensor".to_owned(),
            message_encoding: "cdr".to_owned(),
            schema_name: schema_name.to_owned(),
            schema_encoding: "ros2msg".to_owned(),
            schema: Default::default(),
            metadata: BTreeMap::new(),
        }
    }

    /// The start of a message in CDR: a header with stamp 0 and an empty frame, and padding up to 8 bytes.
    fn ros2_header() -> Vec<u8> {
        let mut data = vec![0, 1, 0, 0];
        data.extend([0; 8]);
        data.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        data
    }

    fn place(xyz_m: [f64; 3], xyzw: [f64; 4]) -> Option<foxglove::messages::Pose> {
        let [x, y, z] = xyz_m;
        let position = Some(foxglove::messages::Vector3 { x, y, z });
        let [x, y, z, w] = xyzw;
        Some(foxglove::messages::Pose { position, orientation: Some(Quaternion { x, y, z, w }) })
    }

    #[test]
    fn points_are_moved_by_the_pose_of_their_cloud() {
        let point = Point { x_m: 1.0, y_m: 2.0, z_m: 3.0, ..Point::default() };
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let pose = place([10.0, 0.0, -1.0], [0.0, 0.0, half, half]);
        let moved = unpacked(&PointCloud { pose, ..cloud_message(&[point], 1, "lidar") }).unwrap();
        // a quarter turn to the left
        for (found, expected) in [(moved[0].x_m, 8.0), (moved[0].y_m, 1.0), (moved[0].z_m, 2.0)] {
            assert!((found - expected).abs() < 1e-6, "{moved:?}");
        }
        let pose = place([f64::NAN, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]);
        let error = unpacked(&PointCloud { pose, ..cloud_message(&[point], 1, "lidar") }).unwrap_err();
        assert!(error.starts_with("expected a pose of finite numbers"), "{error}");
    }

    #[test]
    fn a_pose_that_moves_nothing_leaves_every_bit() {
        let point = Point { x_m: -0.0, y_m: 0.1, z_m: f32::MIN_POSITIVE, ..Point::default() };
        let poses = [None, place([0.0; 3], [0.0, 0.0, 0.0, -2.0]), place([0.0; 3], [0.0; 4])];
        for pose in poses {
            let points = unpacked(&PointCloud { pose, ..cloud_message(&[point], 1, "lidar") }).unwrap();
            let bits = |point: &Point| [point.x_m, point.y_m, point.z_m].map(f32::to_bits);
            assert_eq!(bits(&points[0]), bits(&point));
        }
    }

    #[test]
    fn a_cloud_that_ends_inside_a_point_is_an_error() {
        let whole = cloud_message(&[Point::default(); 2], 1, "lidar");
        let data = whole.data.slice(..whole.data.len() - 1);
        let error = unpacked(&PointCloud { data, ..whole }).unwrap_err();
        assert_eq!(error, "expected whole points of 22 bytes, found 43 bytes");
    }

    #[test]
    fn a_cloud_of_too_many_points_is_refused_before_it_is_decoded() {
        let mut data = ros2_header();
        // height, width, no fields, the byte order with its padding, three lengths
        for number in [4096_u32, 4096, 0, 0, 12, 0, 0] {
            data.extend(number.to_le_bytes());
        }
        data.push(1);
        let error = read(ros2("sensor_msgs/msg/PointCloud2"), &data).unwrap_err();
        assert_eq!(error, "expected at most 8388608 points in a scan, found 16777216");
    }

    #[test]
    fn the_strongest_radar_returns_become_targets() {
        let mut returns = RadarReturns::default();
        for number in 0..100_u8 {
            let (range_m, rcs_dbsm) = (100.0 - f32::from(number), if number == 30 { 9.0 } else { -1.0 });
            let found =
                RadarReturn { range_m, azimuth_rad: std::f32::consts::FRAC_PI_2, range_rate_mps: -3.0, rcs_dbsm };
            returns.returns.push(found).unwrap();
        }
        let mut data = Vec::new();
        returns.encode(&mut data);
        let channel = Channel::of_record::<RadarReturns>("/radar");
        let Ok(Content::Radar(scan)) = read(channel, &data) else { panic!("no scan") };
        assert_eq!(scan.targets.len(), 64);
        let places: Vec<f32> = scan.targets.iter().take(3).map(|target| target.y_m).collect();
        assert_eq!(places, [70.0, 1.0, 2.0]);
        assert!(scan.targets.iter().all(|target| target.x_m.abs() < 1e-4 && target.range_rate_mps == -3.0));
    }

    #[test]
    fn what_an_inertial_unit_does_not_measure_is_no_number() {
        // orientation, rotation rate and acceleration, each with its covariance behind it
        let mut numbers: Vec<f64> = (0..37).map(f64::from).collect();
        numbers[16] = -1.0;
        let mut data = ros2_header();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let Ok(Content::Imu(sample)) = read(ros2("sensor_msgs/msg/Imu"), &data) else { panic!("no sample") };
        assert!(sample.angular_velocity_radps.iter().all(|rate| rate.is_nan()), "{sample:?}");
        assert_eq!(sample.acceleration_mps2, [25.0, 26.0, 27.0]);
    }
}
