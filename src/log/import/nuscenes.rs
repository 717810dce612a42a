//! Samples of nuScenes: pictures, lidar scans, and a `.json` file in the form of mmdetection3d (`nuscenes_infos`,
//! version 1.1) that lists them with calibration, vehicle poses and labelled boxes.
//!
//! nuScenes' vehicle frame is ours: on the ground below the rear axle, x ahead, y left, z up. Stamps are the
//! recording's, in microseconds: of a picture when its exposure began, of a scan when its turn was complete. Boxes are
//! in the frame of the lidar, as middle, length, width, height and turn about z.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::vec::IntoIter;

use catseye_calibration::camera::{BrownConrady, CameraModel};
use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Camera, SensorKind, Vehicle};
use catseye_sensors::cloud::read_nuscenes;
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::messages::{CompressedImage, PointCloud, PoseInFrame};
use nalgebra::Vector3;
use serde::Deserialize;

use super::files::{self, CloudReader, FileStream, PictureReader, StampedFile};
use super::target::{Stream, Target, merge};
use super::{ImportError, ImportReport, Job, lidar, mounting, rig_of, rigid};
use crate::log::Channel;
use crate::log::packet::{StampInfo, timestamp};
use crate::log::statics::foxglove_pose;
use crate::log::writer::ChannelId;
use crate::truth::{TOPIC_OBJECTS, TOPIC_POSE, TruthObject, TruthObjects};

const LIDAR: &str = "LIDAR_TOP";

/// The camera that starts the ticks.
const FIRST_CAMERA: &str = "CAM_FRONT";

/// Frame of the vehicle's poses: the map of the city.
const MAP_FRAME: &str = "map";

/// Rate of the labelled samples.
const RATE_HZ: f64 = 2.0;

/// Numbers of each point in a scan: x, y, z, intensity, ring.
const POINT_FEATURES: u32 = 5;

/// The car: a Renault Zoe.
const VEHICLE: Vehicle =
    Vehicle { length_m: 4.08, width_m: 1.73, height_m: 1.56, wheelbase_m: 2.59, rear_overhang_m: 0.66 };

/// Stamps are whole microseconds.
const UNCERTAINTY_NS: i64 = 1_000;

const fn stamps(kind: StampKind) -> StampInfo {
    StampInfo { clock: ClockId::HostRealtime, kind, uncertainty_ns: UNCERTAINTY_NS }
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    metainfo: MetaInfo,
    data_list: Vec<Sample>,
}

#[derive(Default, Deserialize)]
struct MetaInfo {
    #[serde(default)]
    categories: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Sample {
    /// Seconds since 1970.
    timestamp: f64,
    ego2global: Option<[[f64; 4]; 4]>,
    images: BTreeMap<String, Image>,
    lidar_points: LidarPoints,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Image {
    img_path: String,
    cam2img: [[f64; 3]; 3],
    cam2ego: [[f64; 4]; 4],
    /// Seconds since 1970.
    timestamp: f64,
}

#[derive(Deserialize)]
struct LidarPoints {
    lidar_path: String,
    lidar2ego: [[f64; 4]; 4],
    num_pts_feats: Option<u32>,
}

#[derive(Deserialize)]
struct Instance {
    bbox_label_3d: i64,
    bbox_3d: [f64; 7],
    num_lidar_pts: Option<i32>,
}

impl Sample {
    /// Whether this sample's car and calibration are those of another.
    fn shares_calibration(&self, other: &Sample) -> bool {
        let calibration = |image: &Image| (image.cam2img, image.cam2ego);
        self.lidar_points.lidar2ego == other.lidar_points.lidar2ego
            && self.images.len() == other.images.len()
            && self.images.iter().all(|(name, image)| {
                other.images.get(name).is_some_and(|other| calibration(other) == calibration(image))
            })
    }
}

/// Imports one folder. Samples of another calibration than the first one's are listed as skipped.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let list = find_list(src)?;
    let info = read_info(&list)?;
    let Some(first) = info.data_list.first() else {
        return Err(ImportError::Nothing { path: list, found: "no samples".to_owned() });
    };
    if first.lidar_points.num_pts_feats.is_some_and(|found| found != POINT_FEATURES) {
        let found = format!("{:?}", first.lidar_points.num_pts_feats.unwrap_or_default());
        return Err(ImportError::unexpected(&list, format!("{POINT_FEATURES} numbers a lidar point"), found));
    }
    let vehicle_from_lidar = pose(&list, "lidar2ego", &first.lidar_points.lidar2ego)?;
    let mut names: Vec<&str> = first.images.keys().map(String::as_str).collect();
    names.sort_by_key(|name| (*name != FIRST_CAMERA, *name));
    let mut cameras = Vec::new();
    for name in &names {
        if let Some(image) = first.images.get(*name) {
            cameras.push(camera(src, &list, name, image)?);
        }
    }
    let rig = job.rig(rig_of("nuscenes", VEHICLE, cameras, vec![lidar(LIDAR, RATE_HZ, &vehicle_from_lidar)]))?;

    let mut target = Target::create(job, rig)?;
    target.assume("The stamps are of the recording computer's clock, exact to the microsecond they are written in.");
    target.assume("The vehicle has the dimensions of a Renault Zoe, with a rear overhang of 0.66 m.");
    let samples: Vec<&Sample> = info.data_list.iter().filter(|sample| sample.shares_calibration(first)).collect();
    let others = info.data_list.len().saturating_sub(samples.len()) as u64;
    target.skip_many("samples", "their calibration is not that of the first one", others);

    let mut streams: Vec<Box<dyn Stream>> = Vec::new();
    for name in names {
        let of_camera = samples.iter().filter_map(|sample| sample.images.get(name));
        let files = of_camera.map(|image| stamped(src, &list, &image.img_path, image.timestamp));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let channel = target.foxglove_channel::<CompressedImage>(name, &stamps(StampKind::ExposureStart))?;
        let reader = PictureReader::new(&target, channel, name);
        streams.push(Box::new(FileStream::new(files, reader)));
    }
    let scans = samples.iter().map(|sample| stamped(src, &list, &sample.lidar_points.lidar_path, sample.timestamp));
    let scans = scans.collect::<Result<Vec<_>, _>>()?;
    let channel = target.foxglove_channel::<PointCloud>(LIDAR, &stamps(StampKind::ExposureEnd))?;
    streams.push(Box::new(FileStream::new(scans, CloudReader::new(channel, LIDAR, read_nuscenes))));
    let truth = Truth::of(&list, &info.metainfo, &samples, &vehicle_from_lidar)?;
    streams.push(Box::new(TruthStream::open(truth, &mut target)?));
    merge(&mut target, streams)?;
    target.finish()
}

/// The one `.json` file of a folder.
fn find_list(src: &Path) -> Result<PathBuf, ImportError> {
    let lists = files::list_ending(src, &["json"])?;
    match <[PathBuf; 1]>::try_from(lists) {
        Ok([list]) => Ok(list),
        Err(lists) => Err(ImportError::unexpected(src, "one .json file", lists.len().to_string())),
    }
}

fn read_info(path: &Path) -> Result<Info, ImportError> {
    let json = without_nan(&files::read(path)?);
    serde_json::from_slice(&json).map_err(|error| {
        let expected = "a list of nuScenes samples as mmdetection3d writes it";
        ImportError::unexpected(path, expected, error.to_string())
    })
}

/// Python writes `NaN` where JSON has no word for it; `null` stands for it here.
fn without_nan(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = json;
    while let Some((&byte, behind)) = rest.split_first() {
        if let Some(behind_nan) = rest.strip_prefix(b"NaN")
            && !in_text
        {
            out.extend_from_slice(b"null");
            rest = behind_nan;
            continue;
        }
        if byte == b'"' && !escaped {
            in_text = !in_text;
        }
        escaped = byte == b'\\' && !escaped;
        out.push(byte);
        rest = behind;
    }
    out
}

/// Nanoseconds of a stamp in seconds, which is a whole number of microseconds.
fn nanoseconds(seconds: f64) -> i64 {
    ((seconds * 1e6).round() as i64).saturating_mul(1_000)
}

/// A file that the list names, inside the folder.
fn inside(src: &Path, list: &Path, name: &str) -> Result<PathBuf, ImportError> {
    let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_inside || name.is_empty() {
        return Err(ImportError::unexpected(list, "names of files in the same folder", format!("{name:?}")));
    }
    Ok(src.join(name))
}

fn stamped(src: &Path, list: &Path, name: &str, seconds: f64) -> Result<StampedFile, ImportError> {
    Ok(StampedFile { stamp_ns: nanoseconds(seconds), path: inside(src, list, name)? })
}

/// A pose from a 4 x 4 matrix.
fn pose(list: &Path, key: &str, matrix: &[[f64; 4]; 4]) -> Result<Pose, ImportError> {
    let [[a, b, c, x], [d, e, f, y], [g, h, i, z], _] = *matrix;
    rigid(list, key, &[a, b, c, d, e, f, g, h, i], [x, y, z])
}

fn camera(src: &Path, list: &Path, name: &str, image: &Image) -> Result<Camera, ImportError> {
    let path = inside(src, list, &image.img_path)?;
    let header =
        files::picture_header(&files::read(&path)?).map_err(|why| ImportError::unexpected(&path, "a picture", why))?;
    let [[fx, _, cx], [_, fy, cy], _] = image.cam2img;
    Ok(Camera {
        name: name.to_owned(),
        topic: SensorKind::Camera.default_topic(name),
        width_px: header.width_px,
        height_px: header.height_px,
        format: header.rig_format(),
        full_range: false,
        rate_hz: RATE_HZ,
        rolling_shutter_ms: None,
        isp: None,
        intrinsics: CameraModel::BrownConrady(BrownConrady::pinhole(fx, fy, cx, cy)),
        mounting: mounting(&pose(list, "cam2ego", &image.cam2ego)?),
    })
}

/// What is known of one sample.
struct Truth {
    stamp_ns: i64,
    map_from_vehicle: Option<Pose>,
    objects: TruthObjects,
}

impl Truth {
    /// All samples, by stamp.
    fn of(
        list: &Path,
        metainfo: &MetaInfo,
        samples: &[&Sample],
        vehicle_from_lidar: &Pose,
    ) -> Result<Vec<Truth>, ImportError> {
        let classes: BTreeMap<i64, &str> =
            metainfo.categories.iter().map(|(name, number)| (*number, name.as_str())).collect();
        let mut truths = Vec::new();
        for sample in samples {
            let map_from_vehicle = match &sample.ego2global {
                Some(matrix) => Some(pose(list, "ego2global", matrix)?),
                None => None,
            };
            let objects = sample.instances.iter().map(|instance| {
                let class = classes.get(&instance.bbox_label_3d).copied().unwrap_or("unknown");
                truth_object(instance, class, vehicle_from_lidar)
            });
            truths.push(Truth {
                stamp_ns: nanoseconds(sample.timestamp),
                map_from_vehicle,
                objects: TruthObjects { objects: objects.collect() },
            });
        }
        truths.sort_by_key(|truth| truth.stamp_ns);
        Ok(truths)
    }
}

fn truth_object(instance: &Instance, class: &str, vehicle_from_lidar: &Pose) -> TruthObject {
    let [x_m, y_m, z_m, length_m, width_m, height_m, turn_rad] = instance.bbox_3d;
    let (sin, cos) = libm::sincos(turn_rad);
    let ahead = vehicle_from_lidar.rotate(&Vector3::new(cos, sin, 0.0));
    TruthObject {
        class: class.to_owned(),
        placed: true,
        position_m: vehicle_from_lidar.transform_point(&Vector3::new(x_m, y_m, z_m)).into(),
        extent_m: [length_m, width_m, height_m],
        yaw_rad: libm::atan2(ahead.y, ahead.x),
        lidar_points: instance.num_lidar_pts.unwrap_or(-1),
        ..TruthObject::default()
    }
}

/// Writes poses and labels.
struct TruthStream {
    truths: IntoIter<Truth>,
    poses: ChannelId,
    objects: ChannelId,
}

impl TruthStream {
    fn open(truths: Vec<Truth>, target: &mut Target<'_>) -> Result<Self, ImportError> {
        let stamps = stamps(StampKind::ExposureEnd);
        let poses = target.channel(Channel::of_foxglove::<PoseInFrame>(TOPIC_POSE), &stamps)?;
        let objects = target.channel(Channel::of_record::<TruthObjects>(TOPIC_OBJECTS), &stamps)?;
        Ok(TruthStream { truths: truths.into_iter(), poses, objects })
    }
}

impl Stream for TruthStream {
    fn next_ns(&self) -> Option<i64> {
        self.truths.as_slice().first().map(|truth| truth.stamp_ns)
    }

    fn put_next(&mut self, target: &mut Target<'_>) -> Result<(), ImportError> {
        let Some(truth) = self.truths.next() else { return Ok(()) };
        if let Some(map_from_vehicle) = &truth.map_from_vehicle {
            let pose = PoseInFrame {
                timestamp: timestamp(truth.stamp_ns),
                frame_id: MAP_FRAME.to_owned(),
                pose: Some(foxglove_pose(map_from_vehicle)),
            };
            target.write_foxglove(self.poses, truth.stamp_ns, truth.stamp_ns, &pose)?;
        }
        target.write_record(self.objects, truth.stamp_ns, truth.stamp_ns, &truth.objects)
    }

    fn left(&self) -> u64 {
        self.truths.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use foxglove::Decode;
    use foxglove::bytes::Bytes;

    use super::super::testing::{Imported, data, imported};
    use super::super::{ImportKind, ImportOptions};
    use super::*;
    use crate::log::packet::STAMP_KIND_KEY;
    use crate::record::Record;

    fn sample() -> Option<Imported> {
        let src = data("lidar/nuscenes")?;
        Some(imported(ImportKind::NuScenes, &src, &ImportOptions::default()).unwrap())
    }

    #[test]
    fn a_real_sample_becomes_a_log() {
        let Some(log) = sample() else { return };
        let cameras = [
            ("CAM_FRONT_LEFT", 1_532_402_927_604_844_000),
            ("CAM_FRONT", 1_532_402_927_612_460_000),
            ("CAM_FRONT_RIGHT", 1_532_402_927_620_339_000),
            ("CAM_BACK_RIGHT", 1_532_402_927_627_893_000),
            ("CAM_BACK", 1_532_402_927_637_525_000),
            ("CAM_BACK_LEFT", 1_532_402_927_647_423_000),
        ];
        for (name, stamp_ns) in cameras {
            let images = log.on(&format!("/camera/{name}/image"));
            assert_eq!(images.len(), 1, "{name}");
            assert_eq!((images[0].log_ns, images[0].publish_ns), (stamp_ns, stamp_ns), "{name}");
            assert_eq!(images[0].metadata[STAMP_KIND_KEY], "exposure_start");
            let camera = log.report.rig.camera(name).unwrap();
            assert_eq!((camera.width_px, camera.height_px, camera.format.name()), (1600, 900, "jpeg"));
        }
        let scans = log.on("/lidar/LIDAR_TOP/points");
        assert_eq!(scans.len(), 1);
        assert_eq!(scans[0].publish_ns, 1_532_402_927_647_951_000);
        assert_eq!(scans[0].metadata[STAMP_KIND_KEY], "exposure_end");
        assert_eq!((log.count(TOPIC_OBJECTS), log.count(TOPIC_POSE), log.count("/tf")), (1, 1, 1));
        assert!(log.report.skipped.is_empty(), "{:?}", log.report.skipped);
        let rig = &log.report.rig;
        assert_eq!(rig.tick.trigger.as_deref(), Some("CAM_FRONT"));
        let front = rig.camera("CAM_FRONT").unwrap().mounting.vehicle_from_sensor();
        assert!((front.translation_m - Vector3::new(1.7008, 0.0159, 1.5110)).norm() < 1e-4, "{front:?}");
        assert!(front.rotate(&Vector3::z()).x > 0.999, "{front:?}");
    }

    #[test]
    fn labels_hold_as_many_points_as_they_say() {
        let Some(log) = sample() else { return };
        let truth = TruthObjects::decode(&log.on(TOPIC_OBJECTS)[0].data).unwrap();
        assert_eq!(truth.objects.len(), 69);
        let cloud = PointCloud::decode(Bytes::copy_from_slice(&log.on("/lidar/LIDAR_TOP/points")[0].data)).unwrap();
        let number = |point: &[u8], at: usize| f64::from(f32::from_le_bytes(*point[at..].first_chunk().unwrap()));
        let vehicle_from_lidar = log.report.rig.lidars[0].mounting.vehicle_from_sensor();
        let points: Vec<Vector3<f64>> = cloud
            .data
            .chunks_exact(cloud.point_stride as usize)
            .map(|point| Vector3::new(number(point, 0), number(point, 4), number(point, 8)))
            .map(|point| vehicle_from_lidar.transform_point(&point))
            .collect();
        assert_eq!(points.len(), 34_688);
        let agrees = |object: &&TruthObject| {
            let object_from_vehicle = Pose::from_xyz_rpy(object.position_m, [0.0, 0.0, object.yaw_rad]).inverse();
            let [half_x, half_y, half_z] = object.extent_m.map(|extent| 0.5 * extent);
            let is_inside = |point: &&Vector3<f64>| {
                let own = object_from_vehicle.transform_point(point);
                own.x.abs() <= half_x && own.y.abs() <= half_y && own.z.abs() <= half_z
            };
            points.iter().filter(is_inside).count() as i32 == object.lidar_points
        };
        // the lidar is mounted at a slight angle, which a turn about one axis leaves out
        let agreeing = truth.objects.iter().filter(agrees).count();
        assert!(agreeing >= 60, "{agreeing} of 69");
    }

    const FRAME: &str = "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]]";

    fn sample_json(image: &str, camera_x_m: f64, seconds: f64) -> String {
        format!(
            "{{\"timestamp\": {seconds}, \"images\": {{\"CAM\": {{\"img_path\": \"{image}\", \"timestamp\": {seconds}, \
             \"cam2img\": [[50, 0, 32], [0, 50, 24], [0, 0, 1]], \
             \"cam2ego\": [[0, 0, 1, {camera_x_m}], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]}}}}, \
             \"lidar_points\": {{\"lidar_path\": \"scan.bin\", \"lidar2ego\": {FRAME}}}, \
             \"instances\": [{{\"bbox_label_3d\": 3, \"bbox_3d\": [1, 2, 0, 4, 2, 1, 0], \"velocity\": [NaN, NaN]}}]}}"
        )
    }

    fn write(folder: &Path, samples: &[String]) {
        std::fs::write(folder.join("list.json"), format!("{{\"data_list\": [{}]}}", samples.join(","))).unwrap();
        std::fs::write(folder.join("a.png"), super::super::files::tests::png_start(64, 48)).unwrap();
        std::fs::write(folder.join("scan.bin"), [0_u8; 40]).unwrap();
    }

    #[test]
    fn samples_of_another_car_are_listed_and_the_rest_sorted() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[sample_json("a.png", 1.0, 9.5), sample_json("a.png", 1.1, 3.0), sample_json("a.png", 1.0, 9.0)],
        );
        let log = imported(ImportKind::NuScenes, folder.path(), &ImportOptions::default()).unwrap();
        let stamps: Vec<i64> = log.on(TOPIC_OBJECTS).iter().map(|message| message.publish_ns).collect();
        assert_eq!(stamps, [9_000_000_000, 9_500_000_000]);
        assert_eq!((log.count("/camera/CAM/image"), log.count(TOPIC_POSE)), (2, 0));
        assert_eq!(log.report.skipped.len(), 1);
        assert_eq!((log.report.skipped[0].what.as_str(), log.report.skipped[0].count), ("samples", 1));
        let truth = TruthObjects::decode(&log.on(TOPIC_OBJECTS)[0].data).unwrap();
        assert_eq!((truth.objects[0].class.as_str(), truth.objects[0].lidar_points), ("unknown", -1));
        assert_eq!(truth.objects[0].position_m, [1.0, 2.0, 1.8]);
    }

    #[test]
    fn broken_sources_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let failure =
            || imported(ImportKind::NuScenes, folder.path(), &ImportOptions::default()).err().unwrap().to_string();
        assert!(failure().contains("expected one .json file, found 0"), "{}", failure());
        let good = sample_json("a.png", 1.0, 9.0);
        let cases = [
            (good.replace("a.png", "../a.png"), "expected names of files in the same folder, found \"../a.png\""),
            (good.replace("a.png", "/etc/passwd"), "expected names of files in the same folder"),
            (good.replace("a.png", "b.png"), "b.png: "),
            (good.replace("[1, 0, 0, 0]", "[2, 0, 0, 0]"), "expected a rotation in lidar2ego"),
            (good.replace("bbox_3d\"", "bbox_4d\""), "missing field `bbox_3d`"),
            (good.replace("[50, 0, 32]", "[-50, 0, 32]"), "fx: expected"),
        ];
        for (sample, expected) in cases {
            write(folder.path(), &[sample]);
            assert!(failure().contains(expected), "{}", failure());
        }
        write(folder.path(), &[]);
        assert!(failure().contains("nothing to import: found no samples"), "{}", failure());
    }

    #[test]
    fn nan_is_replaced_outside_of_text_only() {
        assert_eq!(without_nan(br#"{"NaN": [NaN, 1], "a\"NaN": -1}"#), br#"{"NaN": [null, 1], "a\"NaN": -1}"#);
        assert_eq!(without_nan(br#"["\\", NaN]"#), br#"["\\", null]"#);
    }
}
