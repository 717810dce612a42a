//! Recordings of ROS 2 and Foxglove: MCAP files, rosbag2's SQLite files (`.db3`), and the folders around them.
//!
//! Pictures, point clouds, inertial samples, positions, camera calibrations and transforms are copied as they are,
//! topics included; every other topic is listed as skipped. A recording is read twice, message by message: first to
//! learn what is there, then to copy it. The rig follows from the topics, from the calibrations and from the transforms
//! between a sensor's frame and the vehicle's; what they do not say is assumed and stated. A sensor is named after its
//! topic. The recorded frames keep their names, beside those of the rig.
//!
//! A message's arrival is the time it was recorded at, its stamp the one in its header, or the publish time that the
//! recording gives it where that is 0. The files of a folder are merged by arrival.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catseye_calibration::camera::{BrownConrady, CameraModel, KannalaBrandt};
use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{
    Camera, Lidar, MAX_CAMERAS, Mounting, MountingPose, PictureFormat, Rig, Sensor, SensorKind, Vehicle,
};
use catseye_sensors::packet::SensorId;
use catseye_sensors::picture::Encoding;
use catseye_sensors::ros2::{CameraInfo, Ros2Error, Ros2Message};
use foxglove::Decode;
use foxglove::bytes::Bytes;
use foxglove::messages::{
    CameraCalibration, CompressedImage, CompressedVideo, FrameTransform, FrameTransforms, LocationFix, PointCloud,
    RawImage,
};
use nalgebra::Vector3;
use rusqlite::{Connection, OpenFlags};

use super::target::Target;
use super::{ImportError, ImportReport, Job, MAX_RATE_HZ, MIN_RATE_HZ, files, rate_of, rig_of, video};
use crate::log::Channel;
use crate::log::packet::{self, StampInfo, nanoseconds, raw_format, read_packet};
use crate::log::reader::{Ending, Event, LogReader, Message, ReadError};
use crate::log::writer::ChannelId;

/// Frames that are taken as the vehicle's, once a leading slash is off.
const VEHICLE_FRAMES: [&str; 5] = ["base_link", "base_footprint", "vehicle", "ego_vehicle", "rear_axle"];
/// Topics whose transforms do not change.
const STATIC_TRANSFORMS: &str = "tf_static";
/// Last parts of topics that say nothing about the sensor.
const GENERIC_PARTS: [&str; 14] = [
    "image",
    "image_raw",
    "image_rect",
    "image_color",
    "image_rect_color",
    "compressed",
    "video",
    "points",
    "points_raw",
    "pointcloud",
    "data",
    "data_raw",
    "fix",
    "imu_raw",
];
/// Most frames whose transforms are kept.
const MAX_FRAMES: usize = 4096;
/// Most transforms between a sensor and the vehicle.
const MAX_CHAIN: usize = 64;
/// How many topics an error names.
const MAX_NAMED: usize = 8;
/// Rate where there are too few messages to tell.
const DEFAULT_RATE_HZ: f64 = 10.0;

/// Imports a file or a folder of files.
pub(super) fn import(mut job: Job<'_>) -> Result<ImportReport, ImportError> {
    let bag = Bag::find(job.src)?;
    let survey = Survey::read(&bag, &mut job)?;
    if survey.sensors().next().is_none() {
        return Err(ImportError::Nothing { path: job.src.to_owned(), found: survey.describe() });
    }
    let (rig, assumptions) = match &job.options.rig {
        Some(path) => (Rig::load(path)?, Vec::new()),
        None => survey.rig(),
    };
    let mut target = Target::create(job, rig)?;
    for sentence in assumptions {
        target.assume(sentence);
    }
    if survey.topics.iter().any(|topic| topic.role.is_ok() && topic.channel.schema.is_empty()) {
        target.assume("The file has no definitions of its messages: catseye reads them, other tools may not.");
    }
    let mut copier = Copier::open(&survey, &mut target)?;
    let missing = bag.visit(&mut |message, done| copier.put(&mut target, message, done, bag.bytes))?;
    let total = bag.bytes.saturating_mul(2);
    if !copier.is_stopped && !target.advance(total, total) {
        target.assume("The import was stopped when all messages had been copied.");
    }
    for (file, why) in missing {
        target.skip(file, why);
    }
    if copier.late > 0 {
        target.assume(format!("{} messages that stand behind later ones in their file keep their place.", copier.late));
    }
    target.finish()
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A sensor's measurements.
    Sensor(SensorKind),
    /// Copied, and used for the rig.
    Geometry,
}

/// What is read of a message; the rest is only copied.
struct Head {
    /// None where the message gives none.
    stamp_ns: Option<i64>,
    frame_id: String,
    content: Content,
}

enum Content {
    Picture { format: PictureFormat, size_px: (u32, u32) },
    Video(Bytes),
    Cloud,
    Imu,
    Gnss,
    Calibration(Calibration),
    Transforms(Vec<Link>),
}

impl Content {
    fn role(&self) -> Role {
        match self {
            Content::Picture { .. } | Content::Video(_) => Role::Sensor(SensorKind::Camera),
            Content::Cloud => Role::Sensor(SensorKind::Lidar),
            Content::Imu => Role::Sensor(SensorKind::Imu),
            Content::Gnss => Role::Sensor(SensorKind::Gnss),
            Content::Calibration(_) | Content::Transforms(_) => Role::Geometry,
        }
    }
}

/// A camera's calibration as a message gives it.
#[derive(Clone, Debug)]
struct Calibration {
    distortion_model: String,
    distortion: Vec<f64>,
    /// K, 3 x 3, row by row: of the picture as it was taken.
    intrinsics: Vec<f64>,
    /// P, 3 x 4, row by row: of the rectified picture.
    projection: Vec<f64>,
    /// The part of the calibrated picture that is sent: left and top edge, width and height.
    region_px: [u32; 4],
}

impl Calibration {
    fn of_ros(info: CameraInfo<'_>) -> Self {
        let region = info.region;
        // zeros mean all of it
        let region_px = if region.width_px > 0 && region.height_px > 0 {
            [region.x_offset_px, region.y_offset_px, region.width_px, region.height_px]
        } else {
            [0, 0, info.width_px, info.height_px]
        };
        Calibration {
            distortion_model: info.distortion_model.to_owned(),
            distortion: info.distortion,
            intrinsics: info.intrinsics.to_vec(),
            projection: info.projection.to_vec(),
            region_px,
        }
    }

    /// Focal lengths and principal point along x and y, of the calibrated picture.
    fn focal_and_centre_px(&self, is_rectified: bool) -> Result<[f64; 4], String> {
        match (is_rectified, self.intrinsics.as_slice(), self.projection.as_slice()) {
            (true, _, &[fx, _, cx, _, _, fy, cy, ..]) | (false, &[fx, _, cx, _, fy, cy, ..], _) => Ok([fx, fy, cx, cy]),
            (true, _, found) => Err(format!("expected a 3 x 4 matrix P, found {} numbers", found.len())),
            (false, found, _) => Err(format!("expected a 3 x 3 matrix K, found {} numbers", found.len())),
        }
    }
}

/// Where a frame lies in another one.
#[derive(Clone, Debug)]
struct Link {
    parent: String,
    child: String,
    parent_from_child: Pose,
}

/// A frame's name, which older recordings begin with a slash.
fn frame_name(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}

impl Link {
    fn new(parent: &str, child: &str, translation_m: [f64; 3], rotation_xyzw: [f64; 4]) -> Option<Self> {
        let [x, y, z, w] = rotation_xyzw;
        let parent_from_child = Pose::from_quaternion_wxyz([w, x, y, z], Vector3::from(translation_m))?;
        Some(Link { parent: frame_name(parent), child: frame_name(child), parent_from_child })
    }
}

/// Reads a message as far as needed. The error says why it, or its whole topic, is left out.
fn head(message: &Message<'_>) -> Result<Head, String> {
    let channel = message.channel;
    let head = match (channel.message_encoding.as_str(), channel.schema_name.as_str()) {
        ("cdr", name) => ros_head(name, message.data),
        ("protobuf", name) => foxglove_head(name, message.data),
        (encoding, _) => Err(format!("expected messages in cdr or protobuf, found {encoding:?}")),
    }?;
    if matches!(head.content.role(), Role::Sensor(_)) {
        replayed(message)?;
    }
    Ok(head)
}

/// Decodes a sensor's message as a replay will: what does not decode there would end it.
fn replayed(message: &Message<'_>) -> Result<(), String> {
    let read = read_packet(message, SensorId(0), &StampInfo::of(message.channel))?;
    if let packet::Content::Cloud(cloud) = read.ok_or(NO_ROLE)?.content {
        cloud.unpack(&mut Vec::new())?;
    }
    Ok(())
}

const NO_ROLE: &str = "no sensor of a rig sends this type";

fn ros_head(name: &str, data: &[u8]) -> Result<Head, String> {
    let message = match Ros2Message::decode(name, data) {
        Err(Ros2Error::UnknownType { .. }) => return Err(NO_ROLE.to_owned()),
        other => other.map_err(|error| error.to_string())?,
    };
    let (header, content) = match message {
        Ros2Message::Image(image) => {
            let size_px = (image.width_px, image.height_px);
            (image.header, Content::Picture { format: picture_format(image.encoding)?, size_px })
        }
        Ros2Message::CompressedImage(image) => (image.header, compressed(image.format, image.data)?),
        Ros2Message::CameraInfo(info) => (info.header, Content::Calibration(Calibration::of_ros(info))),
        Ros2Message::PointCloud2(cloud) => (cloud.header, Content::Cloud),
        Ros2Message::Imu(imu) => (imu.header, Content::Imu),
        Ros2Message::NavSatFix(fix) => (fix.header, Content::Gnss),
        Ros2Message::Transforms(transforms) => {
            let links = transforms.iter().filter_map(|transform| {
                let parent = transform.header.frame_id;
                Link::new(parent, transform.child_frame_id, transform.translation_m, transform.rotation_xyzw)
            });
            let content = Content::Transforms(links.collect());
            return Ok(Head { stamp_ns: None, frame_id: String::new(), content });
        }
        Ros2Message::Packets(_) => {
            return Err("packets as the device sent them are not decoded: record its point clouds".to_owned());
        }
    };
    Ok(Head { stamp_ns: Some(header.stamp_ns), frame_id: frame_name(header.frame_id), content })
}

fn foxglove_head(name: &str, data: &[u8]) -> Result<Head, String> {
    let (stamp, frame_id, content) = match name {
        "foxglove.CompressedImage" => {
            let image: CompressedImage = decoded(data)?;
            (image.timestamp, image.frame_id, compressed(&image.format, &image.data)?)
        }
        "foxglove.CompressedVideo" => {
            let video: CompressedVideo = decoded(data)?;
            (video.timestamp, video.frame_id, compressed(&video.format, &video.data)?)
        }
        "foxglove.RawImage" => {
            let image: RawImage = decoded(data)?;
            let format = picture_format(&image.encoding)?;
            (image.timestamp, image.frame_id, Content::Picture { format, size_px: (image.width, image.height) })
        }
        "foxglove.PointCloud" => {
            let cloud: PointCloud = decoded(data)?;
            (cloud.timestamp, cloud.frame_id, Content::Cloud)
        }
        "foxglove.LocationFix" => {
            let fix: LocationFix = decoded(data)?;
            (fix.timestamp, fix.frame_id, Content::Gnss)
        }
        "foxglove.CameraCalibration" => {
            let message: CameraCalibration = decoded(data)?;
            let calibration = Calibration {
                distortion_model: message.distortion_model,
                distortion: message.d,
                intrinsics: message.k,
                projection: message.p,
                region_px: [0, 0, message.width, message.height],
            };
            (message.timestamp, message.frame_id, Content::Calibration(calibration))
        }
        "foxglove.FrameTransform" => {
            let transform: FrameTransform = decoded(data)?;
            let links = link(&transform).into_iter().collect();
            (transform.timestamp, String::new(), Content::Transforms(links))
        }
        "foxglove.FrameTransforms" => {
            let message: FrameTransforms = decoded(data)?;
            (None, String::new(), Content::Transforms(message.transforms.iter().filter_map(link).collect()))
        }
        _ => return Err(NO_ROLE.to_owned()),
    };
    Ok(Head { stamp_ns: nanoseconds(stamp), frame_id: frame_name(&frame_id), content })
}

fn decoded<M: Decode>(data: &[u8]) -> Result<M, String> {
    M::decode(data).map_err(|error| error.to_string())
}

fn link(transform: &FrameTransform) -> Option<Link> {
    let translation = transform.translation.as_ref()?;
    let rotation = transform.rotation.as_ref()?;
    let translation_m = [translation.x, translation.y, translation.z];
    let rotation_xyzw = [rotation.x, rotation.y, rotation.z, rotation.w];
    Link::new(&transform.parent_frame_id, &transform.child_frame_id, translation_m, rotation_xyzw)
}

fn picture_format(name: &str) -> Result<PictureFormat, String> {
    let unknown = || format!("expected pixels in a format that a rig can name, found {name:?}");
    PictureFormat::from_name(raw_format(name)?.name()).ok_or_else(unknown)
}

fn compressed(format: &str, data: &[u8]) -> Result<Content, String> {
    match Encoding::from_name(format).map_err(|error| error.to_string())? {
        Encoding::H264 => Ok(Content::Video(Bytes::copy_from_slice(data))),
        Encoding::Raw(_) => Err(format!("expected a compressed picture, found {format:?}")),
        Encoding::Jpeg | Encoding::Png => {
            let header = files::picture_header(data)?;
            let format = if header.format == "png" { PictureFormat::Png } else { PictureFormat::Jpeg };
            Ok(Content::Picture { format, size_px: (header.width_px, header.height_px) })
        }
    }
}

/// A topic with one type of message.
struct Topic {
    channel: Arc<Channel>,
    /// The error says why the topic is left out, so long as no message of it could be read.
    role: Result<Role, String>,
    count: u64,
    first_ns: i64,
    last_ns: i64,
    frame_id: String,
    /// Of a camera: format, width and height of the first picture.
    picture: Option<(PictureFormat, (u32, u32))>,
    calibration: Option<Calibration>,
}

impl Topic {
    fn new(channel: &Arc<Channel>) -> Self {
        Topic {
            channel: Arc::clone(channel),
            role: Err("no messages".to_owned()),
            count: 0,
            first_ns: i64::MAX,
            last_ns: i64::MIN,
            frame_id: String::new(),
            picture: None,
            calibration: None,
        }
    }

    fn is(&self, channel: &Channel) -> bool {
        let ours = &self.channel;
        ours.topic == channel.topic
            && ours.schema_name == channel.schema_name
            && ours.message_encoding == channel.message_encoding
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.channel.topic, self.channel.schema_name)
    }

    fn rate_hz(&self) -> f64 {
        let rate_hz = rate_of(self.count, self.first_ns, self.last_ns).unwrap_or(DEFAULT_RATE_HZ);
        rate_hz.clamp(MIN_RATE_HZ, MAX_RATE_HZ)
    }
}

/// What a recording holds.
#[derive(Default)]
struct Survey {
    topics: Vec<Topic>,
    /// The first transform of every frame, by the frame; static ones go before others.
    links: BTreeMap<String, (bool, Link)>,
}

impl Survey {
    /// Goes through a recording once. Told to stop, it knows what it has seen so far.
    fn read(bag: &Bag, job: &mut Job<'_>) -> Result<Self, ImportError> {
        let stop = job.options.stop;
        let progress = &mut *job.progress;
        let mut survey = Survey::default();
        bag.visit(&mut |message, done| {
            survey.take(message);
            progress(done, bag.bytes.saturating_mul(2));
            Ok(!stop.is_some_and(|stop| stop.load(Ordering::Relaxed)))
        })?;
        survey.refuse_ambiguous_topics();
        Ok(survey)
    }

    fn index(&mut self, channel: &Arc<Channel>) -> usize {
        let known = self.topics.iter().position(|topic| topic.is(channel));
        known.unwrap_or_else(|| {
            self.topics.push(Topic::new(channel));
            self.topics.len().saturating_sub(1)
        })
    }

    fn take(&mut self, message: &Message<'_>) {
        let index = self.index(message.channel);
        let Some(topic) = self.topics.get_mut(index) else { return };
        topic.count = topic.count.saturating_add(1);
        let is_transforms =
            message.channel.schema_name.contains("TFMessage") || message.channel.schema_name.contains("Transform");
        let is_settled = topic.role.is_ok() && !is_transforms;
        let is_sized = topic.picture.is_some() || topic.role != Ok(Role::Sensor(SensorKind::Camera));
        topic.first_ns = topic.first_ns.min(message.log_ns);
        topic.last_ns = topic.last_ns.max(message.log_ns);
        if is_settled && is_sized {
            return;
        }
        let head = match head(message) {
            Ok(head) => head,
            Err(why) => {
                if topic.role.is_err() {
                    topic.role = Err(why);
                }
                return;
            }
        };
        topic.role = Ok(head.content.role());
        topic.frame_id = head.frame_id;
        match head.content {
            Content::Picture { format, size_px } => topic.picture = Some((format, size_px)),
            Content::Video(bytes) => {
                topic.picture = video::picture_size_px(&bytes).map(|size_px| (PictureFormat::H264, size_px));
            }
            Content::Calibration(calibration) => topic.calibration = Some(calibration),
            Content::Transforms(links) => {
                let is_static = message.channel.topic.ends_with(STATIC_TRANSFORMS);
                self.take_links(links, is_static);
            }
            Content::Cloud | Content::Imu | Content::Gnss => {}
        }
    }

    fn take_links(&mut self, links: Vec<Link>, is_static: bool) {
        for link in links {
            let known = self.links.get(&link.child).map(|(is_static, _)| *is_static);
            let is_better = known.is_none_or(|known_static| is_static && !known_static);
            if is_better && (known.is_some() || self.links.len() < MAX_FRAMES) {
                self.links.insert(link.child.clone(), (is_static, link));
            }
        }
    }

    /// A sensor is found by its topic, so of two types on one topic only the first can stay; and a camera needs a size.
    fn refuse_ambiguous_topics(&mut self) {
        let mut taken: Vec<String> = Vec::new();
        let mut cameras = 0;
        for topic in &mut self.topics {
            let Ok(Role::Sensor(kind)) = topic.role else { continue };
            let is_camera = kind == SensorKind::Camera;
            let has_size = topic.picture.is_some_and(|(_, (width_px, height_px))| width_px > 0 && height_px > 0);
            if taken.contains(&topic.channel.topic) {
                topic.role = Err("another type of message on this topic came first".to_owned());
            } else if is_camera && !has_size {
                topic.role = Err("no picture whose size can be read".to_owned());
            } else if is_camera && cameras == MAX_CAMERAS {
                topic.role = Err(format!("a rig has at most {MAX_CAMERAS} cameras"));
            } else {
                cameras += usize::from(is_camera);
                taken.push(topic.channel.topic.clone());
            }
        }
    }

    fn sensors(&self) -> impl Iterator<Item = (SensorKind, &Topic)> {
        self.topics.iter().filter_map(|topic| match topic.role {
            Ok(Role::Sensor(kind)) => Some((kind, topic)),
            _ => None,
        })
    }

    /// What is there, for an error.
    fn describe(&self) -> String {
        if self.topics.is_empty() {
            return "no messages".to_owned();
        }
        let name = |topic: &Topic| {
            let why = topic.role.as_ref().err().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} of {}{why}", topic.count, topic.describe())
        };
        let mut named: Vec<String> = self.topics.iter().take(MAX_NAMED).map(name).collect();
        if let Some(more) = self.topics.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            named.push(format!("{more} more topics"));
        }
        named.join("; ")
    }

    /// The rig that follows from the recording, and what had to be assumed for it.
    fn rig(&self) -> (Rig, Vec<String>) {
        let mut draft = Draft { survey: self, names: Vec::new(), assumptions: Vec::new() };
        let (mut cameras, mut lidars, mut imus, mut gnss) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (kind, topic) in self.sensors() {
            match kind {
                SensorKind::Camera => cameras.extend(draft.camera(topic)),
                SensorKind::Lidar => lidars.push(draft.lidar(topic)),
                SensorKind::Imu => imus.push(draft.sensor(topic)),
                _ => gnss.push(draft.sensor(topic)),
            }
        }
        let rig = rig_of("ros", Vehicle::default(), cameras, lidars);
        (Rig { imus, gnss, ..rig }, draft.assumptions)
    }

    /// The pose of a frame, if transforms lead from it to a vehicle's frame.
    fn vehicle_from(&self, frame: &str) -> Option<Pose> {
        let mut at_from_frame = Pose::identity();
        let mut at = frame;
        for _ in 0..MAX_CHAIN {
            if VEHICLE_FRAMES.contains(&at) {
                return Some(at_from_frame);
            }
            let (_, link) = self.links.get(at)?;
            at_from_frame = link.parent_from_child.compose(&at_from_frame);
            at = &link.parent;
        }
        None
    }

    /// The calibration of a camera: the one whose topic lies nearest above, or else one in the same frame.
    fn calibration(&self, camera: &Topic) -> Option<&Calibration> {
        let all = || self.topics.iter().filter_map(|topic| Some((topic, topic.calibration.as_ref()?)));
        let above = all().filter(|(topic, _)| is_above(namespace(&topic.channel.topic), &camera.channel.topic));
        let nearest = above.max_by_key(|(topic, _)| namespace(&topic.channel.topic).len());
        let same_frame = || all().find(|(topic, _)| !camera.frame_id.is_empty() && topic.frame_id == camera.frame_id);
        nearest.or_else(same_frame).map(|(_, calibration)| calibration)
    }
}

/// Everything before a topic's last part.
fn namespace(topic: &str) -> &str {
    topic.rsplit_once('/').map_or("", |(namespace, _)| namespace)
}

/// Whether a topic lies in a namespace that has a name.
fn is_above(namespace: &str, topic: &str) -> bool {
    !namespace.is_empty() && topic.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
}

/// A rig in the making.
struct Draft<'s> {
    survey: &'s Survey,
    names: Vec<String>,
    assumptions: Vec<String>,
}

impl Draft<'_> {
    /// A name that no other sensor has, from the parts of a topic that say something.
    fn name(&mut self, topic: &Topic) -> String {
        let mut parts: Vec<&str> = topic.channel.topic.split('/').filter(|part| !part.is_empty()).collect();
        while parts.len() > 1 && parts.last().is_some_and(|last| GENERIC_PARTS.contains(last)) {
            parts.pop();
        }
        let allowed = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
        let mut base: String = parts.join("_").chars().map(allowed).collect();
        if base.is_empty() {
            base.push_str("sensor");
        }
        let numbered = (2_u64..).map(|number| format!("{base}_{number}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        let name = candidates.find(|name| !self.names.contains(name)).unwrap_or_default();
        self.names.push(name.clone());
        name
    }

    fn mounting(&mut self, name: &str, topic: &Topic, default: MountingPose) -> Mounting {
        let pose = self.survey.vehicle_from(&topic.frame_id);
        if pose.is_none() {
            self.assumptions.push(format!(
                "The place of {name} (frame {:?}) is not in the recording: it is taken to be at {:?} m, turned by {:?} \
                 degrees.",
                topic.frame_id, default.xyz_m, default.rpy_deg
            ));
        }
        let nominal = pose.map_or(default, |pose| MountingPose::from_pose(&pose));
        Mounting { nominal, corrected: None }
    }

    fn lidar(&mut self, topic: &Topic) -> Lidar {
        let name = self.name(topic);
        let default = MountingPose { xyz_m: [1.5, 0.0, 1.8], rpy_deg: [0.0; 3] };
        let mounting = self.mounting(&name, topic, default);
        Lidar {
            name,
            topic: topic.channel.topic.clone(),
            model: String::new(),
            calibration: None,
            rate_hz: topic.rate_hz(),
            mounting,
        }
    }

    fn sensor(&mut self, topic: &Topic) -> Sensor {
        let name = self.name(topic);
        let mounting = self.mounting(&name, topic, MountingPose::default());
        Sensor { name, topic: topic.channel.topic.clone(), rate_hz: topic.rate_hz(), mounting }
    }

    fn camera(&mut self, topic: &Topic) -> Option<Camera> {
        let (format, (width_px, height_px)) = topic.picture?;
        let default = Rig::default_camera(width_px, height_px).cameras.pop()?;
        let name = self.name(topic);
        let mounting = self.mounting(&name, topic, default.mounting.nominal);
        let camera =
            Camera { name, topic: topic.channel.topic.clone(), format, rate_hz: topic.rate_hz(), mounting, ..default };
        Some(self.with_lens(camera, topic))
    }

    /// The camera with its recorded calibration, if there is one that can be used.
    fn with_lens(&mut self, camera: Camera, topic: &Topic) -> Camera {
        let is_rectified = is_rectified(&topic.channel.topic);
        let found = self.survey.calibration(topic).map(|found| calibrated(&camera, found, is_rectified));
        let assumed = match found {
            None => "has no calibration in the recording".to_owned(),
            Some(Err(why)) => format!("has a calibration that cannot be used ({why})"),
            Some(Ok(calibrated)) => {
                if is_rectified {
                    self.assumptions.push(format!(
                        "The pictures of {} are rectified: they follow the matrix P of its calibration without \
                         distortion, and its mounting is not turned by the rotation R that rectified them.",
                        calibrated.name
                    ));
                }
                return calibrated;
            }
        };
        let sentence = "it is taken to see 60 degrees across without distortion";
        self.assumptions.push(format!("{} {assumed}: {sentence}.", camera.name));
        camera
    }
}

/// Whether a topic has pictures that were freed from distortion.
fn is_rectified(topic: &str) -> bool {
    topic.split('/').any(|part| part.starts_with("image_rect"))
}

/// A camera with this calibration. The error is what a rig file would say against it.
fn calibrated(camera: &Camera, calibration: &Calibration, is_rectified: bool) -> Result<Camera, String> {
    let intrinsics = lens(calibration, is_rectified, camera.width_px, camera.height_px)?;
    let calibrated = Camera { intrinsics, ..camera.clone() };
    let rig = rig_of("camera", Vehicle::default(), vec![calibrated.clone()], Vec::new());
    Rig::parse(&rig.to_toml(), "calibration").map_err(|error| error.to_string())?;
    Ok(calibrated)
}

/// The lens for pictures of this size: the calibrated picture is cut to the part that is sent, then resized.
fn lens(calibration: &Calibration, is_rectified: bool, width_px: u32, height_px: u32) -> Result<CameraModel, String> {
    let [fx, fy, cx, cy] = calibration.focal_and_centre_px(is_rectified)?;
    let [left, top, region_width, region_height] = calibration.region_px.map(f64::from);
    if fx <= 0.0 || fy <= 0.0 || region_width == 0.0 || region_height == 0.0 {
        return Err("the camera is marked as not calibrated".to_owned());
    }
    let (cx, cy) = (cx - left, cy - top);
    let coefficient = |index: usize| calibration.distortion.get(index).copied().unwrap_or(0.0);
    let [k1, k2, p1, p2, k3] = [0, 1, 2, 3, 4].map(coefficient);
    let is_plain = calibration.distortion.iter().skip(5).all(|value| *value == 0.0);
    let model = match calibration.distortion_model.as_str() {
        _ if is_rectified => CameraModel::BrownConrady(BrownConrady::pinhole(fx, fy, cx, cy)),
        "equidistant" | "fisheye" | "kannala_brandt" => {
            CameraModel::KannalaBrandt(KannalaBrandt::new([fx, fy], [cx, cy], [k1, k2, p1, p2]))
        }
        "plumb_bob" | "rational_polynomial" | "" if is_plain => {
            CameraModel::BrownConrady(BrownConrady { fx, fy, cx, cy, k1, k2, p1, p2, k3 })
        }
        other => return Err(format!("expected plumb_bob or equidistant, found {other:?}")),
    };
    Ok(model.scaled(f64::from(width_px) / region_width, f64::from(height_px) / region_height))
}

/// Copies the messages of the topics that have a place in the log.
struct Copier<'s> {
    survey: &'s Survey,
    /// By the survey's topics.
    channels: Vec<Option<ChannelId>>,
    is_stopped: bool,
    newest_ns: i64,
    /// Messages behind later ones.
    late: u64,
}

impl<'s> Copier<'s> {
    fn open(survey: &'s Survey, target: &mut Target<'_>) -> Result<Self, ImportError> {
        let mut channels = Vec::with_capacity(survey.topics.len());
        for topic in &survey.topics {
            let why = match &topic.role {
                Err(why) => Some(why.as_str()),
                Ok(Role::Sensor(kind)) if !has_sensor(target.rig(), *kind, &topic.channel.topic) => {
                    Some("the rig has no such sensor with this topic")
                }
                Ok(_) => None,
            };
            if let Some(why) = why {
                target.skip_many(topic.describe(), why, topic.count);
                channels.push(None);
            } else {
                let stamps = StampInfo::of(&topic.channel);
                channels.push(Some(target.channel((*topic.channel).clone(), &stamps)?));
            }
        }
        Ok(Copier { survey, channels, is_stopped: false, newest_ns: i64::MIN, late: 0 })
    }

    /// Writes a message, or lists it as skipped; false to stop.
    fn put(
        &mut self,
        target: &mut Target<'_>,
        message: &Message<'_>,
        done: u64,
        bytes: u64,
    ) -> Result<bool, ImportError> {
        if !target.advance(bytes.saturating_add(done), bytes.saturating_mul(2)) {
            self.is_stopped = true;
            return Ok(false);
        }
        let index = self.survey.topics.iter().position(|topic| topic.is(message.channel));
        let Some((topic, channel)) =
            index.and_then(|index| Some((self.survey.topics.get(index)?, (*self.channels.get(index)?)?)))
        else {
            return Ok(true);
        };
        match check(target.rig(), topic, message) {
            Ok(stamp_ns) => {
                self.late = self.late.saturating_add(u64::from(message.log_ns < self.newest_ns));
                self.newest_ns = self.newest_ns.max(message.log_ns);
                target.write(channel, message.log_ns, stamp_ns, message.data)?;
            }
            Err(why) => target.skip(topic.describe(), why),
        }
        Ok(true)
    }
}

/// The stamp of a message that can be read.
fn check(rig: &Rig, topic: &Topic, message: &Message<'_>) -> Result<i64, String> {
    let head = head(message)?;
    if let Content::Picture { size_px: (width_px, height_px), .. } = head.content
        && let Some(camera) = rig.cameras.iter().find(|camera| camera.topic == topic.channel.topic)
        && (camera.width_px, camera.height_px) != (width_px, height_px)
    {
        let expected = format!("{} x {}", camera.width_px, camera.height_px);
        return Err(format!("expected {expected} pixels as the rig says, found {width_px} x {height_px}"));
    }
    Ok(head.stamp_ns.filter(|stamp_ns| *stamp_ns > 0).unwrap_or(message.publish_ns))
}

fn has_sensor(rig: &Rig, kind: SensorKind, topic: &str) -> bool {
    rig.sensors().any(|sensor| sensor.kind == kind && sensor.topic == topic)
}

/// The files of one recording.
struct Bag {
    /// By the time of their first messages.
    files: Vec<BagFile>,
    /// Length of all of them.
    bytes: u64,
}

struct BagFile {
    path: PathBuf,
    bytes: u64,
    first_ns: i64,
}

/// Takes a message and how many bytes of the recording are done; false to stop.
type Visit<'v> = dyn FnMut(&Message<'_>, u64) -> Result<bool, ImportError> + 'v;

impl Bag {
    fn find(src: &Path) -> Result<Self, ImportError> {
        let paths = if src.is_dir() { bag_files(src)? } else { vec![src.to_owned()] };
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let bytes = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) => return Err(ImportError::Io { path, error }),
            };
            let first_ns = Part::open(&path, bytes)?.next_ns();
            files.push(BagFile { path, bytes, first_ns });
        }
        // files that begin at the same time stay in the order of their numbers
        files.sort_by_key(|file| file.first_ns);
        let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
        Ok(Bag { files, bytes })
    }

    /// Goes through all messages, those of all files in the order of their times. Gives the files that are not whole,
    /// and what they lack.
    fn visit(&self, visit: &mut Visit<'_>) -> Result<Vec<(String, String)>, ImportError> {
        let mut missing = Vec::new();
        let mut waiting = self.files.iter().peekable();
        let mut open: Vec<Part> = Vec::new();
        let mut closed_bytes = 0_u64;
        loop {
            // of equal times that of the file that was opened first
            let next = open.iter().map(Part::next_ns).zip(0_usize..).min();
            // a file is opened only when its turn comes: there may be hundreds
            if let Some(file) = waiting.next_if(|file| next.is_none_or(|(next_ns, _)| file.first_ns <= next_ns)) {
                open.push(Part::open(&file.path, file.bytes)?);
                continue;
            }
            let done = open.iter().map(|part| part.done_bytes).fold(closed_bytes, u64::saturating_add);
            let Some((_, index)) = next else { return Ok(missing) };
            let Some(part) = open.get_mut(index) else { return Ok(missing) };
            if let Some(held) = &part.next {
                if !visit(&held.message(), done)? {
                    return Ok(missing);
                }
                part.advance()?;
            } else {
                missing.extend(part.missing());
                closed_bytes = closed_bytes.saturating_add(part.bytes);
                open.remove(index);
            }
        }
    }
}

/// The files of a folder by the number at the end of their names, in which rosbag2 counts them.
fn bag_files(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let metadata = folder.join("metadata.yaml");
    if metadata.is_file() {
        refuse_compression(&metadata)?;
    }
    let mut paths = files::list_ending(folder, &["db3", "mcap"])?;
    if paths.is_empty() {
        let found = files::overview(&files::list(folder)?);
        return Err(ImportError::unexpected(folder, "a folder with .db3 or .mcap files", found));
    }
    paths.sort_by_key(|path| (last_number(path), path.clone()));
    Ok(paths)
}

fn last_number(path: &Path) -> u64 {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let digits = stem.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// Refuses a bag that rosbag2 compressed on its own account, file by file or message by message.
fn refuse_compression(metadata: &Path) -> Result<(), ImportError> {
    let text = files::read_text(metadata)?;
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        if key.trim() == "compression_mode" && !value.is_empty() && !value.eq_ignore_ascii_case("none") {
            let expected = "a recording without compression (convert it with `ros2 bag convert`)";
            return Err(ImportError::unexpected_at(metadata, index.saturating_add(1), expected, format!("{value:?}")));
        }
    }
    Ok(())
}

/// A file that is being read, with the message that comes next.
struct Part {
    reader: PartReader,
    bytes: u64,
    done_bytes: u64,
    /// None at the end.
    next: Option<Held>,
}

enum PartReader {
    Mcap(Mcap),
    Db3(Db3),
}

impl Part {
    fn open(path: &Path, bytes: u64) -> Result<Self, ImportError> {
        let reader = if files::ending(path) == "db3" {
            PartReader::Db3(Db3::open(path, bytes)?)
        } else {
            PartReader::Mcap(Mcap::open(path)?)
        };
        let mut part = Part { reader, bytes, done_bytes: 0, next: None };
        part.advance()?;
        Ok(part)
    }

    /// Time of the next message; at the end the earliest there is, so that the file is closed at once.
    fn next_ns(&self) -> i64 {
        self.next.as_ref().map_or(i64::MIN, |held| held.log_ns)
    }

    fn advance(&mut self) -> Result<(), ImportError> {
        (self.done_bytes, self.next) = match &mut self.reader {
            PartReader::Mcap(file) => (file.reader.progress().0, file.next()?),
            PartReader::Db3(file) => (file.done_bytes(), file.next()?),
        };
        Ok(())
    }

    /// Name of the file and what it lacks, if it is not whole.
    fn missing(&self) -> Option<(String, String)> {
        let PartReader::Mcap(file) = &self.reader else { return None };
        let why = file.reader.ending().and_then(Ending::missing)?;
        Some((files::name(&file.path), why))
    }
}

/// A message that stays while other files are read.
struct Held {
    channel: Arc<Channel>,
    channel_id: u16,
    sequence: u32,
    log_ns: i64,
    publish_ns: i64,
    data: Vec<u8>,
}

impl Held {
    fn message(&self) -> Message<'_> {
        Message {
            channel: &self.channel,
            channel_id: self.channel_id,
            sequence: self.sequence,
            log_ns: self.log_ns,
            publish_ns: self.publish_ns,
            data: &self.data,
        }
    }
}

/// An MCAP file.
struct Mcap {
    path: PathBuf,
    reader: LogReader,
}

impl Mcap {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let reader = LogReader::open(path).map_err(|error| unreadable(path, error))?;
        Ok(Mcap { path: path.to_owned(), reader })
    }

    fn next(&mut self) -> Result<Option<Held>, ImportError> {
        loop {
            match self.reader.next().map_err(|error| unreadable(&self.path, error))? {
                None => return Ok(None),
                Some(Event::Metadata { .. } | Event::Attachment { .. }) => {}
                Some(Event::Message(Message { channel, channel_id, sequence, log_ns, publish_ns, data })) => {
                    let (channel, data) = (Arc::clone(channel), data.to_vec());
                    return Ok(Some(Held { channel, channel_id, sequence, log_ns, publish_ns, data }));
                }
            }
        }
    }
}

fn unreadable(path: &Path, error: ReadError) -> ImportError {
    match error {
        ReadError::Io { path, error } => ImportError::Io { path, error },
        error => ImportError::unexpected(path, "an MCAP file that can be read", format!("another file ({error})")),
    }
}

/// An SQLite file of rosbag2.
struct Db3 {
    path: PathBuf,
    bytes: u64,
    connection: Connection,
    /// The topics by their numbers.
    channels: BTreeMap<i64, (u16, Arc<Channel>)>,
    /// Time and number of every message, in order.
    keys: Vec<(i64, i64)>,
    taken: usize,
}

impl Db3 {
    fn open(path: &Path, bytes: u64) -> Result<Self, ImportError> {
        let sql = |error: rusqlite::Error| not_a_bag(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
        let channels = db3_channels(&connection).map_err(sql)?;
        let keys = db3_keys(&connection).map_err(sql)?;
        Ok(Db3 { path: path.to_owned(), bytes, connection, channels, keys, taken: 0 })
    }

    fn done_bytes(&self) -> u64 {
        let share = self.taken as f64 / self.keys.len().max(1) as f64;
        (self.bytes as f64 * share) as u64
    }

    fn next(&mut self) -> Result<Option<Held>, ImportError> {
        let Some(&(time_ns, id)) = self.keys.get(self.taken) else { return Ok(None) };
        self.taken = self.taken.saturating_add(1);
        let (topic, data) = db3_message(&self.connection, id).map_err(|error| not_a_bag(&self.path, &error))?;
        let Some((channel_id, channel)) = self.channels.get(&topic) else {
            let found = format!("a message of topic {topic}, which is not in the table of topics");
            return Err(not_a_bag(&self.path, &found));
        };
        Ok(Some(Held {
            channel: Arc::clone(channel),
            channel_id: *channel_id,
            sequence: 0,
            log_ns: time_ns,
            publish_ns: time_ns,
            data,
        }))
    }
}

fn not_a_bag(path: &Path, error: &dyn std::fmt::Display) -> ImportError {
    ImportError::unexpected(path, "an SQLite file of rosbag2", format!("another file ({error})"))
}

/// Time and number of every message, by time.
fn db3_keys(connection: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut statement = connection.prepare("SELECT timestamp, id FROM messages ORDER BY timestamp, id")?;
    let keys = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    keys.collect()
}

/// Topic and bytes of the message with this number.
fn db3_message(connection: &Connection, id: i64) -> rusqlite::Result<(i64, Vec<u8>)> {
    let mut statement = connection.prepare_cached("SELECT topic_id, data FROM messages WHERE id = ?1")?;
    statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The topics of a file by their numbers. Definitions of the messages are in newer files only.
fn db3_channels(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, (u16, Arc<Channel>)>> {
    let definitions = db3_definitions(connection).unwrap_or_default();
    let mut channels = BTreeMap::new();
    let mut statement = connection.prepare("SELECT id, name, type, serialization_format FROM topics ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut next = 0_u16;
    while let Some(row) = rows.next()? {
        let schema_name: String = row.get(2)?;
        let (schema_encoding, schema) =
            definitions.get(&schema_name).cloned().unwrap_or_else(|| ("ros2msg".to_owned(), Vec::new()));
        let channel = Channel {
            topic: row.get(1)?,
            message_encoding: row.get(3)?,
            schema_name,
            schema_encoding,
            schema: schema.into(),
            metadata: BTreeMap::new(),
        };
        channels.insert(row.get(0)?, (next, Arc::new(channel)));
        next = next.saturating_add(1);
    }
    Ok(channels)
}

/// Encoding and text of every type's definition, by the type's name.
fn db3_definitions(connection: &Connection) -> rusqlite::Result<BTreeMap<String, (String, Vec<u8>)>> {
    let mut definitions = BTreeMap::new();
    let mut statement =
        connection.prepare("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(2)?;
        definitions.insert(row.get(0)?, (row.get(1)?, text.into_bytes()));
    }
    Ok(definitions)
}

#[cfg(test)]
mod tests {
    use super::super::comma2k19::tests::Contents;
    use super::super::files::tests::png_start;
    use super::super::testing::imported;
    use super::super::{ImportKind, ImportOptions, import};
    use super::*;
    use crate::log::packet::{picture_message, timestamp};
    use crate::log::writer::{Compression, LogWriter};

    const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");

    /// Little-endian CDR.
    struct Cdr(Vec<u8>);

    impl Cdr {
        fn new() -> Self {
            Cdr(vec![0, 1, 0, 0])
        }

        fn put(mut self, bytes: &[u8]) -> Self {
            while !(self.0.len() - 4).is_multiple_of(bytes.len()) {
                self.0.push(0);
            }
            self.0.extend_from_slice(bytes);
            self
        }

        fn u32(self, value: u32) -> Self {
            self.put(&value.to_le_bytes())
        }

        fn f64s(self, values: &[f64]) -> Self {
            values.iter().fold(self, |cdr, value| cdr.put(&value.to_le_bytes()))
        }

        fn bytes(self, bytes: &[u8]) -> Self {
            let mut cdr = self.u32(bytes.len() as u32);
            cdr.0.extend_from_slice(bytes);
            cdr
        }

        fn string(self, text: &str) -> Self {
            self.bytes(format!("{text}\0").as_bytes())
        }

        fn header(self, seconds: u32, frame_id: &str) -> Self {
            self.u32(seconds).u32(5).string(frame_id)
        }
    }

    fn ros_image(seconds: u32, width_px: u32) -> Vec<u8> {
        Cdr::new().header(seconds, "cam").string("jpeg").bytes(&png_start(width_px, 48)).0
    }

    fn ros_info() -> Vec<u8> {
        ros_info_of(&[0.0; 12], [0; 4])
    }

    /// With the matrix P and a region: left, top, height, width.
    fn ros_info_of(projection: &[f64], region_px: [u32; 4]) -> Vec<u8> {
        let matrices = [100.0, 0.0, 31.5, 0.0, 110.0, 23.5, 0.0, 0.0, 1.0];
        let cdr =
            Cdr::new().header(1, "cam").u32(48).u32(64).string("plumb_bob").u32(5).f64s(&[0.01, 0.0, 0.0, 0.0, 0.0]);
        let cdr = cdr.f64s(&matrices).f64s(&[0.0; 9]).f64s(projection).u32(0).u32(0);
        region_px.into_iter().fold(cdr, Cdr::u32).put(&[0]).0
    }

    /// One point; its fields are three of f32 and one of f64, which holds this time.
    fn ros_cloud(names: [&str; 4], time_s: f64) -> Vec<u8> {
        let mut cdr = Cdr::new().header(1, "lidar").u32(1).u32(1).u32(4);
        for (name, (offset, datatype)) in names.into_iter().zip([(0, 7), (4, 7), (8, 7), (12, 8)]) {
            cdr = cdr.string(name).u32(offset).put(&[datatype]).u32(1);
        }
        let point = [&[0_u8; 12][..], &time_s.to_le_bytes()].concat();
        cdr.put(&[0]).u32(20).u32(20).bytes(&point).put(&[1]).0
    }

    fn ros_channel(topic: &str, schema_name: &str) -> Channel {
        Channel {
            topic: topic.to_owned(),
            message_encoding: "cdr".to_owned(),
            schema_name: schema_name.to_owned(),
            schema_encoding: "ros2msg".to_owned(),
            schema: Default::default(),
            metadata: BTreeMap::new(),
        }
    }

    /// An MCAP file with one message of a type at each of these times.
    fn write_mcap(path: &Path, topic: &str, schema_name: &str, messages: &[(i64, Vec<u8>)]) {
        let mut log = LogWriter::create(path, Compression::None).unwrap();
        let channel = log.channel(&ros_channel(topic, schema_name)).unwrap();
        for (time_ns, data) in messages {
            log.write(channel, *time_ns, *time_ns, data).unwrap();
        }
        log.finish().unwrap();
    }

    fn ros_transforms() -> Vec<u8> {
        let cdr = Cdr::new().u32(2);
        let cdr = cdr.header(1, "base_link").string("mast").f64s(&[1.0, 0.0, 1.5, 0.0, 0.0, 0.0, 1.0]);
        cdr.header(1, "mast").string("cam").f64s(&[0.5, 0.25, 0.0, -0.5, 0.5, -0.5, 0.5]).0
    }

    fn ros_imu(seconds: u32) -> Vec<u8> {
        Cdr::new().header(seconds, "imu_frame").f64s(&[0.0; 37]).0
    }

    fn write_bag(path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
                     serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
                 CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
                     data BLOB NOT NULL);
                 INSERT INTO topics VALUES
                     (1, '/camera/front/image_raw/compressed', 'sensor_msgs/msg/CompressedImage', 'cdr', ''),
                     (2, '/camera/front/camera_info', 'sensor_msgs/msg/CameraInfo', 'cdr', ''),
                     (3, '/tf_static', 'tf2_msgs/msg/TFMessage', 'cdr', ''),
                     (4, '/imu/data', 'sensor_msgs/msg/Imu', 'cdr', ''),
                     (5, '/rosout', 'rcl_interfaces/msg/Log', 'cdr', '');",
            )
            .unwrap();
        // later messages first: the order is that of the stamps
        let messages = [
            (1, 3_200_000_000_i64, ros_image(3, 64)),
            (1, 2_200_000_000, ros_image(2, 64)),
            (1, 2_300_000_000, ros_image(2, 65)),
            (2, 1_000_000_000, ros_info()),
            (3, 1_000_000_000, ros_transforms()),
            (4, 1_500_000_000, ros_imu(0)),
            (4, 1_600_000_000, ros_imu(1)[..40].to_vec()),
            (5, 1_700_000_000, vec![1, 2, 3]),
        ];
        for (topic, time_ns, data) in messages {
            let insert = "INSERT INTO messages(topic_id, timestamp, data) VALUES (?1, ?2, ?3)";
            connection.execute(insert, rusqlite::params![topic, time_ns, data]).unwrap();
        }
    }

    fn import_to(src: &Path, out: &Path) -> Result<ImportReport, ImportError> {
        import(ImportKind::Ros, src, out, &ImportOptions::default(), &mut |_, _| {})
    }

    #[test]
    fn a_bag_is_copied_and_gives_a_rig() {
        let folder = tempfile::tempdir().unwrap();
        let bag = folder.path().join("bag");
        std::fs::create_dir(&bag).unwrap();
        write_bag(&bag.join("bag_0.db3"));
        std::fs::write(bag.join("metadata.yaml"), "a:\n  compression_format: \"\"\n  compression_mode: \"\"\n")
            .unwrap();
        assert_eq!(ImportKind::recognise(&bag).unwrap(), ImportKind::Ros);
        let out = folder.path().join("log.mcap");
        let report = import_to(&bag, &out).unwrap();
        let contents = Contents::read(&out);
        assert_eq!(contents.rig(), report.rig);
        let images = &contents.messages["/camera/front/image_raw/compressed"];
        assert_eq!(images[..], [(2_200_000_000, 2_000_000_005), (3_200_000_000, 3_000_000_005)]);
        assert_eq!(contents.data["/camera/front/image_raw/compressed"][0], ros_image(2, 64));
        assert_eq!(contents.messages["/imu/data"][..], [(1_500_000_000, 5)]);
        assert_eq!((contents.count("/tf_static"), contents.count("/camera/front/camera_info")), (1, 1));
        let mut skipped: Vec<(&str, u64)> = Vec::new();
        skipped.extend(report.skipped.iter().map(|skipped| (skipped.what.as_str(), skipped.count)));
        let expected = [
            ("/camera/front/image_raw/compressed (sensor_msgs/msg/CompressedImage)", 1),
            ("/imu/data (sensor_msgs/msg/Imu)", 1),
            ("/rosout (rcl_interfaces/msg/Log)", 1),
        ];
        assert_eq!(skipped, expected);

        let camera = &report.rig.cameras[0];
        assert_eq!((camera.name.as_str(), camera.width_px, camera.format), ("camera_front", 64, PictureFormat::Png));
        assert_eq!(camera.intrinsics.focal_px(), [100.0, 110.0]);
        let vehicle_from_camera = camera.mounting.vehicle_from_sensor();
        assert!((vehicle_from_camera.translation_m - Vector3::new(1.5, 0.25, 1.5)).norm() < 1e-9);
        assert!((vehicle_from_camera.rotate(&Vector3::z()) - Vector3::x()).norm() < 1e-9);
        assert_eq!(report.rig.imus[0].name, "imu");
        assert!(report.assumptions.iter().any(|sentence| sentence.contains("\"imu_frame\"")));
        assert!(!report.assumptions.iter().any(|sentence| sentence.contains("camera_front")));
    }

    #[test]
    fn a_foxglove_recording_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("other.mcap");
        let mut log = LogWriter::create(&src, Compression::None).unwrap();
        let channel = log.channel(&Channel::of_foxglove::<CompressedImage>("/cam")).unwrap();
        let fixes = log.channel(&Channel::of_foxglove::<LocationFix>("/gps/fix")).unwrap();
        for index in 1..4 {
            let message = picture_message(png_start(64, 48), "png", index * 100, "cam");
            log.write_foxglove(channel, index * 1_000_000_000, 7, &message).unwrap();
        }
        let fix = LocationFix { timestamp: timestamp(0), frame_id: "base_link".to_owned(), ..LocationFix::default() };
        log.write_foxglove(fixes, 9_000_000_000, 8_000_000_000, &fix).unwrap();
        log.finish().unwrap();
        let out = folder.path().join("log.mcap");
        let report = import_to(&src, &out).unwrap();
        let contents = Contents::read(&out);
        let second = 1_000_000_000;
        assert_eq!(contents.messages["/cam"][..], [(second, 100), (2 * second, 200), (3 * second, 300)]);
        assert_eq!(contents.messages["/gps/fix"][..], [(9 * second, 8 * second)]);
        assert_eq!((report.rig.cameras[0].rate_hz, report.rig.gnss[0].name.as_str()), (1.0, "gps"));
        assert!(report.assumptions.iter().any(|sentence| sentence.contains("no calibration")));
        let copied = contents.channels.iter().find(|channel| channel.topic == "/cam").unwrap();
        assert_eq!(copied.schema, Channel::of_foxglove::<CompressedImage>("").schema);
    }

    #[test]
    fn what_a_replay_could_not_decode_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["x", "y", "z", "timestamp"];
        let clouds = [(1_000_000_000, ros_cloud(names, 1.0)), (2_000_000_000, ros_cloud(names, 1e9))];
        let flat = [(1_500_000_000, ros_cloud(["u", "y", "z", "timestamp"], 1.0))];
        let schema_name = "sensor_msgs/msg/PointCloud2";
        write_mcap(&folder.path().join("a.mcap"), "/lidar/points", schema_name, &clouds);
        write_mcap(&folder.path().join("b.mcap"), "/flat/points", schema_name, &flat);
        let log = imported(ImportKind::Ros, folder.path(), &ImportOptions::default()).unwrap();
        assert_eq!((log.count("/lidar/points"), log.report.rig.lidars.len()), (1, 1));
        let [flat, late] = &log.report.skipped[..] else { panic!("{:?}", log.report.skipped) };
        assert!(flat.what.starts_with("/flat/points") && flat.why.contains("expected a field \"x\""), "{flat:?}");
        assert!(late.what.starts_with("/lidar/points") && late.why.contains("a time within 2 s"), "{late:?}");
    }

    #[test]
    fn the_files_of_a_folder_are_merged_by_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let samples = [(1_200_000_000, ros_imu(1)), (9_000_000_000, ros_imu(9))];
        write_mcap(&folder.path().join("a.mcap"), "/other/data", "sensor_msgs/msg/Imu", &samples);
        write_mcap(&folder.path().join("empty.mcap"), "/none", "sensor_msgs/msg/Imu", &[]);
        write_bag(&folder.path().join("b_0.db3"));
        // which holds the order of all messages against their times
        let log = imported(ImportKind::Ros, folder.path(), &ImportOptions::default()).unwrap();
        assert_eq!((log.count("/other/data"), log.count("/camera/front/image_raw/compressed")), (2, 2));
        assert_eq!(log.messages.last().map(|message| message.log_ns), Some(9_000_000_000));
        assert!(!log.report.assumptions.iter().any(|sentence| sentence.contains("behind later ones")));
    }

    #[test]
    fn messages_behind_later_ones_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("a.mcap");
        let samples = [3_u32, 1, 2].map(|second| (i64::from(second) * 1_000_000_000, ros_imu(second)));
        write_mcap(&src, "/imu/data", "sensor_msgs/msg/Imu", &samples);
        let report = import_to(&src, &folder.path().join("log.mcap")).unwrap();
        let expected = "2 messages that stand behind later ones in their file keep their place.";
        assert!(report.assumptions.iter().any(|sentence| sentence == expected), "{:?}", report.assumptions);
    }

    #[test]
    fn rectified_pictures_follow_the_matrix_p() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("other.mcap");
        let projection = [90.0, 0.0, 30.0, -9.0, 0.0, 95.0, 20.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let mut log = LogWriter::create(&src, Compression::None).unwrap();
        let info = log.channel(&ros_channel("/cam/camera_info", "sensor_msgs/msg/CameraInfo")).unwrap();
        log.write(info, 1_000_000_000, 1_000_000_000, &ros_info_of(&projection, [0; 4])).unwrap();
        for topic in ["/cam/image_rect/compressed", "/cam/image_raw/compressed"] {
            let channel = log.channel(&ros_channel(topic, "sensor_msgs/msg/CompressedImage")).unwrap();
            log.write(channel, 2_000_000_000, 2_000_000_000, &ros_image(2, 64)).unwrap();
        }
        log.finish().unwrap();
        let report = import_to(&src, &folder.path().join("log.mcap")).unwrap();
        let [rectified, raw] = &report.rig.cameras[..] else { panic!("{:?}", report.rig.cameras) };
        let pinhole = BrownConrady::pinhole(90.0, 95.0, 30.0, 20.0);
        assert_eq!(rectified.intrinsics, CameraModel::BrownConrady(pinhole));
        assert_eq!(raw.intrinsics.focal_px(), [100.0, 110.0]);
        let stated = report.assumptions.iter().filter(|sentence| sentence.contains("are rectified"));
        assert_eq!(stated.count(), 1, "{:?}", report.assumptions);
    }

    #[test]
    fn a_region_is_read_from_the_calibration() {
        let region_px = |data: &[u8]| match ros_head("sensor_msgs/msg/CameraInfo", data).unwrap().content {
            Content::Calibration(calibration) => calibration.region_px,
            _ => panic!("no calibration"),
        };
        assert_eq!(region_px(&ros_info()), [0, 0, 64, 48]);
        assert_eq!(region_px(&ros_info_of(&[0.0; 12], [10, 6, 24, 32])), [10, 6, 32, 24]);
    }

    #[test]
    fn nothing_to_import_names_what_is_there() {
        if !Path::new(SHARED).is_dir() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        for (name, expected) in [
            ("mcap/compressed.mcap", "/tf"),
            ("mcap/uncompressed.mcap", "/diagnostics"),
            ("lidar/packets_velodyne/vlp16/1673400471837873222", "4 of /velodyne_packets"),
        ] {
            let error = import_to(&Path::new(SHARED).join(name), &out).unwrap_err();
            assert!(matches!(error, ImportError::Nothing { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!out.exists());
        }
    }

    #[test]
    fn broken_and_compressed_recordings_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        for (name, expected) in [("a.mcap", "an MCAP file"), ("a.db3", "an SQLite file of rosbag2")] {
            let src = folder.path().join(name);
            std::fs::write(&src, b"something else that is long enough to be looked at").unwrap();
            let error = import_to(&src, &out).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
        let bag = folder.path().join("bag");
        std::fs::create_dir(&bag).unwrap();
        let metadata = bag.join("metadata.yaml");
        std::fs::write(&metadata, "info:\n  compression_mode: FILE\n").unwrap();
        let error = import_to(&bag, &out).unwrap_err().to_string();
        assert!(error.contains("metadata.yaml:2: expected") && error.contains("\"FILE\""), "{error}");
        std::fs::write(&metadata, "info:\n").unwrap();
        let error = import_to(&bag, &out).unwrap_err().to_string();
        assert!(error.contains("a folder with .db3 or .mcap files"), "{error}");
    }

    #[test]
    fn files_of_a_bag_are_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b_10.db3", "b_2.db3", "b_0.db3"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let names: Vec<String> = bag_files(folder.path()).unwrap().iter().map(|path| files::name(path)).collect();
        assert_eq!(names, ["b_0.db3", "b_2.db3", "b_10.db3"]);
    }

    #[test]
    fn a_lens_is_scaled_to_the_picture_or_refused() {
        let calibration = |model: &str, distortion: &[f64]| Calibration {
            distortion_model: model.to_owned(),
            distortion: distortion.to_vec(),
            intrinsics: vec![500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0],
            projection: Vec::new(),
            region_px: [0, 0, 640, 480],
        };
        let lens = |calibration: &Calibration, width_px, height_px| lens(calibration, false, width_px, height_px);
        let half = lens(&calibration("rational_polynomial", &[0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), 320, 240).unwrap();
        assert_eq!(half.focal_px(), [250.0; 2]);
        assert_eq!(half.principal_point_px(), [159.5, 119.5]);
        assert_eq!(lens(&calibration("equidistant", &[0.0; 4]), 640, 480).unwrap().name(), "kannala-brandt");
        assert!(lens(&calibration("plumb_bob", &[0.1, 0.0, 0.0, 0.0, 0.0, 0.5]), 640, 480).is_err());
        assert!(lens(&Calibration { intrinsics: vec![0.0; 9], ..calibration("plumb_bob", &[]) }, 640, 480).is_err());

        // a part of the picture, of which every second pixel is sent
        let part = Calibration { region_px: [100, 40, 320, 240], ..calibration("plumb_bob", &[]) };
        let part = lens(&part, 160, 120).unwrap();
        assert_eq!(part.focal_px(), [250.0; 2]);
        assert_eq!(part.principal_point_px(), [109.5, 99.5]);
    }

    #[test]
    fn transforms_in_a_circle_lead_nowhere() {
        let mut survey = Survey::default();
        let link = |parent: &str, child: &str| Link::new(parent, child, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]).unwrap();
        survey.take_links(vec![link("a", "b"), link("b", "a"), link("/base_link", "c")], false);
        assert!(survey.vehicle_from("a").is_none());
        assert_eq!(survey.vehicle_from("c").unwrap().translation_m, Vector3::new(1.0, 0.0, 0.0));
        survey.take_links(vec![link("c", "a"), link("nowhere", "c")], true);
        survey.take_links(vec![link("base_link", "c")], true);
        assert!(survey.vehicle_from("c").is_none(), "the first static transform stays");
    }
}
