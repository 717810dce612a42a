//! KITTI, object layout: `image_2/000000.png`, `velodyne/000000.bin`, `calib/000000.txt` and, in the training set,
//! `label_2/000000.txt`. Raw drives are read by [`kitti_raw`](super::kitti_raw), with the calibration made here.
//!
//! The frames of the object layout are unrelated moments without stamps, taken on several days with a calibration each.
//! A log has one rig, so the frames of the commonest calibration are imported, at a made-up rate, and the others are
//! listed.
//!
//! Geometry (Geiger et al., "Vision meets Robotics: The KITTI Dataset", 2013): pictures are rectified; a point of the
//! velodyne is seen at `P * R_rect * Tr * x`, and the last column of `P` holds the camera's offset from camera 0.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use catseye_calibration::camera::{BrownConrady, CameraModel};
use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Camera, Lidar, SensorKind, Vehicle};
use catseye_sensors::cloud::read_kitti;
use foxglove::messages::{CompressedImage, PointCloud};
use nalgebra::Vector3;

use super::files::{self, CloudReader, FileReader, FileStream, PictureHeader, PictureReader, StampedFile};
use super::target::{Target, merge};
use super::{ImportError, ImportReport, Job, kitti_raw, mounting, rig_of, rigid, stamp_at_rate};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::log::writer::ChannelId;
use crate::messages::BoxPx;
use crate::truth::{TOPIC_OBJECTS, TruthObject, TruthObjects};

/// Name of the lidar in rigs.
pub(super) const LIDAR: &str = "velodyne";

/// The camera of the object layout: the left one of the two that see colour.
const CAMERA: &str = "image_2";

/// Rate of KITTI's sensors, and of the stamps that are made up where there are none.
pub(super) const RATE_HZ: f64 = 10.0;

/// Place of the velodyne in the vehicle frame, from the drawing of KITTI's sensor setup: 1.73 m above the road, 0.81 m
/// ahead of the GPS/IMU, which is 0.05 m behind the rear axle.
const VELODYNE_XYZ_M: [f64; 3] = [0.76, 0.0, 1.73];

/// Imports either layout.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    if job.src.join(CAMERA).is_dir() { import_objects(job) } else { kitti_raw::import(job) }
}

fn import_objects(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let rate_hz = job.rate_hz(RATE_HZ)?;
    let all = files::list_ending(&src.join(CAMERA), &files::PICTURE_ENDINGS)?;
    let pictures = with_commonest_calibration(src, &all)?;
    let (Some(first), Some(header)) = (pictures.first(), files::first_picture(&pictures)?) else {
        let found = format!("{} files in {CAMERA}, none a picture that can be read", all.len());
        return Err(ImportError::Nothing { path: src.to_owned(), found });
    };
    let geometry = Matrices::of_frame(&beside(src, "calib", first, "txt"))?.geometry(&src.join("calib"))?;
    let camera = geometry.camera(CAMERA, &header, rate_hz);
    let rig = job.rig(rig_of("kitti", vehicle(), vec![camera], vec![lidar(rate_hz)]))?;

    let mut target = Target::create(job, rig)?;
    let others = all.len().saturating_sub(pictures.len()) as u64;
    let why = format!("their calibration is not that of {}, which most frames share", files::stem(first));
    target.skip_many("frames", why, others);
    assume_places(&mut target);
    target.assume(format!("The frames have no stamps: they are {rate_hz} per second, starting at 1 s."));

    let images = target.foxglove_channel::<CompressedImage>(CAMERA, &StampInfo::SYNTHETIC)?;
    let points = target.foxglove_channel::<PointCloud>(LIDAR, &StampInfo::SYNTHETIC)?;
    let labels = target.channel(Channel::of_record::<TruthObjects>(TOPIC_OBJECTS), &StampInfo::SYNTHETIC)?;
    let stamped = |path: PathBuf, index: u64| StampedFile { stamp_ns: stamp_at_rate(index, rate_hz), path };
    let (mut image_files, mut point_files, mut label_files) = (Vec::new(), Vec::new(), Vec::new());
    for (index, picture) in (0..).zip(&pictures) {
        image_files.push(stamped(picture.clone(), index));
        let scan = beside(src, LIDAR, picture, "bin");
        if scan.is_file() {
            point_files.push(stamped(scan, index));
        } else {
            target.skip(scan.display().to_string(), "there is no such file");
        }
        let label = beside(src, "label_2", picture, "txt");
        if label.is_file() {
            label_files.push(stamped(label, index));
        }
    }
    let picture_reader = PictureReader::new(&target, images, CAMERA);
    let label_reader = LabelReader { channel: labels, vehicle_from_rectified: geometry.vehicle_from_rectified };
    merge(
        &mut target,
        vec![
            Box::new(FileStream::new(image_files, picture_reader)),
            Box::new(FileStream::new(point_files, CloudReader::new(points, LIDAR, read_kitti))),
            Box::new(FileStream::new(label_files, label_reader)),
        ],
    )?;
    target.finish()
}

/// The file of the same frame in another folder.
fn beside(src: &Path, folder: &str, picture: &Path, ending: &str) -> PathBuf {
    src.join(folder).join(format!("{}.{ending}", files::stem(picture)))
}

/// The pictures that share the commonest calibration; of equally common ones, that of the earliest picture.
fn with_commonest_calibration(src: &Path, pictures: &[PathBuf]) -> Result<Vec<PathBuf>, ImportError> {
    let mut groups: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for (index, picture) in pictures.iter().enumerate() {
        let matrices = Matrices::of_frame(&beside(src, "calib", picture, "txt"))?;
        groups.entry(matrices.bits()).or_default().push(index);
    }
    let largest = groups.into_values().min_by_key(|group| (Reverse(group.len()), group.first().copied()));
    Ok(largest.unwrap_or_default().into_iter().filter_map(|index| pictures.get(index).cloned()).collect())
}

/// A file of lines `key: value value ...`; lines without a colon and comments behind `#` are left alone.
pub(super) struct CalibrationFile {
    path: PathBuf,
    entries: BTreeMap<String, (usize, String)>,
}

impl CalibrationFile {
    /// Reads the lines.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let text = files::read_text(path)?;
        let mut entries = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines()) {
            if let Some((key, values)) = content.split_once(':')
                && !content.starts_with('#')
            {
                entries.insert(key.trim().to_owned(), (line, values.trim().to_owned()));
            }
        }
        Ok(CalibrationFile { path: path.to_owned(), entries })
    }

    /// The numbers behind a key.
    pub(super) fn numbers<const N: usize>(&self, key: &str) -> Result<[f64; N], ImportError> {
        let Some((line, text)) = self.entries.get(key) else {
            return Err(ImportError::unexpected(&self.path, format!("a line `{key}:` with {N} numbers"), "none"));
        };
        let numbers = finite_numbers(text.split_whitespace());
        numbers.and_then(|numbers| <[f64; N]>::try_from(numbers).ok()).ok_or_else(|| {
            let expected = format!("{N} finite numbers behind `{key}:`");
            ImportError::unexpected_at(&self.path, *line, expected, format!("{text:?}"))
        })
    }
}

/// Words as numbers, if all are finite ones.
pub(super) fn finite_numbers<'t>(words: impl Iterator<Item = &'t str>) -> Option<Vec<f64>> {
    words.map(|word| word.parse::<f64>().ok().filter(|number| number.is_finite())).collect()
}

/// KITTI's calibration of one camera, as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrices {
    /// `P`, 3 x 4 row by row: from the rectified frame of camera 0 to pixels of this camera.
    pub(super) projection: [f64; 12],
    /// `R_rect`, 3 x 3 row by row: from the frame of camera 0 to the rectified one.
    pub(super) rectification: [f64; 9],
    /// Rotation of `Tr`, row by row: from the velodyne to camera 0.
    pub(super) rotation: [f64; 9],
    /// Translation of `Tr`.
    pub(super) translation_m: [f64; 3],
}

impl Matrices {
    fn of_frame(path: &Path) -> Result<Self, ImportError> {
        let file = CalibrationFile::read(path)?;
        let projection = file.numbers("P2")?;
        Ok(Self::with_transform(projection, file.numbers("R0_rect")?, file.numbers("Tr_velo_to_cam")?))
    }

    /// With `Tr` as 3 x 4 numbers row by row.
    pub(super) fn with_transform(projection: [f64; 12], rectification: [f64; 9], transform: [f64; 12]) -> Self {
        let [a, b, c, x, d, e, f, y, g, h, i, z] = transform;
        Matrices { projection, rectification, rotation: [a, b, c, d, e, f, g, h, i], translation_m: [x, y, z] }
    }

    /// Every number bit by bit: equal where the calibration is the same.
    fn bits(&self) -> Vec<u64> {
        let numbers = self.projection.iter().chain(&self.rectification).chain(&self.rotation);
        numbers.chain(&self.translation_m).map(|number| number.to_bits()).collect()
    }

    /// Lens and place of the camera; `path` is what errors name.
    pub(super) fn geometry(&self, path: &Path) -> Result<Geometry, ImportError> {
        let [fx, _, cx, px, _, fy, cy, py, _, _, _, pz] = self.projection;
        if fx <= 0.0 || fy <= 0.0 {
            return Err(ImportError::unexpected(path, "focal lengths above 0", format!("{fx} and {fy}")));
        }
        // P = K [I | t], so t = K^-1 * (last column)
        let offset_m = Vector3::new((px - cx * pz) / fx, (py - cy * pz) / fy, pz);
        let camera_from_rectified = Pose { translation_m: offset_m, ..Pose::identity() };
        let rectified_from_reference = rigid(path, "R_rect", &self.rectification, [0.0; 3])?;
        let reference_from_velodyne = rigid(path, "Tr_velo_to_cam", &self.rotation, self.translation_m)?;
        let rectified_from_velodyne = rectified_from_reference * reference_from_velodyne;
        let vehicle_from_rectified = vehicle_from_velodyne() * rectified_from_velodyne.inverse();
        Ok(Geometry {
            lens: BrownConrady::pinhole(fx, fy, cx, cy),
            vehicle_from_camera: vehicle_from_rectified * camera_from_rectified.inverse(),
            vehicle_from_rectified,
        })
    }
}

/// Lens and place of one rectified camera.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    lens: BrownConrady,
    vehicle_from_camera: Pose,
    vehicle_from_rectified: Pose,
}

impl Geometry {
    /// The camera of a rig.
    pub(super) fn camera(&self, name: &str, header: &PictureHeader, rate_hz: f64) -> Camera {
        Camera {
            name: name.to_owned(),
            topic: SensorKind::Camera.default_topic(name),
            width_px: header.width_px,
            height_px: header.height_px,
            format: header.rig_format(),
            full_range: false,
            rate_hz,
            rolling_shutter_ms: None,
            isp: None,
            intrinsics: CameraModel::BrownConrady(self.lens),
            mounting: mounting(&self.vehicle_from_camera),
        }
    }
}

/// Where the velodyne sits; its axes are taken as parallel to the vehicle's.
pub(super) fn vehicle_from_velodyne() -> Pose {
    Pose { translation_m: Vector3::from(VELODYNE_XYZ_M), ..Pose::identity() }
}

/// The velodyne of a rig.
pub(super) fn lidar(rate_hz: f64) -> Lidar {
    super::lidar(LIDAR, rate_hz, &vehicle_from_velodyne())
}

/// The car: a Volkswagen Passat estate (B6).
pub(super) fn vehicle() -> Vehicle {
    Vehicle { length_m: 4.77, width_m: 1.82, height_m: 1.52, wheelbase_m: 2.71, rear_overhang_m: 1.1 }
}

/// States what KITTI's calibration leaves open.
pub(super) fn assume_places(target: &mut Target<'_>) {
    let [x_m, y_m, z_m] = VELODYNE_XYZ_M;
    target.assume(format!(
        "The velodyne is {x_m} m ahead of the rear axle, {y_m} m left of the middle and {z_m} m above the road, \
         level and facing ahead (KITTI's drawing of the sensor setup); the other sensors' places follow from it and \
         from the calibration."
    ));
    target.assume("The vehicle has the dimensions of a VW Passat estate (B6), with a rear overhang of 1.1 m.");
}

/// Reads labels of the object layout (`readme.txt` of KITTI's object development kit).
struct LabelReader {
    channel: ChannelId,
    vehicle_from_rectified: Pose,
}

impl LabelReader {
    /// One line: class, truncation, occlusion, observation angle, box, height, width, length, place, turn about y.
    fn object(&self, line: &str) -> Option<TruthObject> {
        let mut words = line.split_whitespace();
        let class = words.next()?.to_owned();
        let numbers = finite_numbers(words)?;
        let [_, _, _, left, top, right, bottom, height_m, width_m, length_m, x_m, y_m, z_m, turn_rad] =
            *numbers.first_chunk::<14>()?;
        let box_px = BoxPx { left: left as f32, top: top as f32, right: right as f32, bottom: bottom as f32 };
        let labelled =
            TruthObject { class, camera: CAMERA.to_owned(), box_px, lidar_points: -1, ..TruthObject::default() };
        if length_m <= 0.0 {
            // a region that nobody labelled
            return Some(labelled);
        }
        // the place is the middle of the underside, and y points down
        let middle_m = Vector3::new(x_m, y_m - 0.5 * height_m, z_m);
        let (sin, cos) = libm::sincos(turn_rad);
        let ahead = self.vehicle_from_rectified.rotate(&Vector3::new(cos, 0.0, -sin));
        Some(TruthObject {
            placed: true,
            position_m: self.vehicle_from_rectified.transform_point(&middle_m).into(),
            extent_m: [length_m, width_m, height_m],
            yaw_rad: libm::atan2(ahead.y, ahead.x),
            ..labelled
        })
    }
}

impl FileReader for LabelReader {
    fn put(&mut self, target: &mut Target<'_>, file: &StampedFile, bytes: Vec<u8>) -> Result<(), ImportError> {
        let text = String::from_utf8_lossy(&bytes);
        let mut objects = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            if content.trim().is_empty() {
                continue;
            }
            match self.object(content) {
                Some(object) => objects.push(object),
                None => {
                    let what = format!("{}:{line}", file.path.display());
                    target.skip(what, "expected a class and 14 numbers");
                }
            }
        }
        target.write_record(self.channel, file.stamp_ns, file.stamp_ns, &TruthObjects { objects })
    }
}

#[cfg(test)]
mod tests {
    use foxglove::Decode;
    use foxglove::bytes::Bytes;

    use super::super::files::tests::png_start;
    use super::super::testing::{data, imported};
    use super::super::{ImportKind, ImportOptions};
    use super::*;
    use crate::record::Record;

    /// x, y, z of the points of a message in the vehicle frame.
    fn points_in_vehicle(message: &[u8], vehicle_from_lidar: &Pose) -> Vec<Vector3<f64>> {
        let cloud = PointCloud::decode(Bytes::copy_from_slice(message)).unwrap();
        let number = |point: &[u8], at: usize| f64::from(f32::from_le_bytes(*point[at..].first_chunk().unwrap()));
        let points = cloud.data.chunks_exact(cloud.point_stride as usize);
        let points = points.map(|point| Vector3::new(number(point, 0), number(point, 4), number(point, 8)));
        points.map(|point| vehicle_from_lidar.transform_point(&point)).collect()
    }

    /// How many points lie in an object's box.
    fn inside(object: &TruthObject, points: &[Vector3<f64>]) -> usize {
        let vehicle_from_object = Pose::from_xyz_rpy(object.position_m, [0.0, 0.0, object.yaw_rad]);
        let object_from_vehicle = vehicle_from_object.inverse();
        let half = object.extent_m.map(|extent| 0.5 * extent);
        let is_inside = |point: &&Vector3<f64>| {
            let own = object_from_vehicle.transform_point(point);
            own.x.abs() <= half[0] && own.y.abs() <= half[1] && own.z.abs() <= half[2]
        };
        points.iter().filter(is_inside).count()
    }

    #[test]
    fn real_frames_become_a_log() {
        let Some(src) = data("lidar/kitti") else { return };
        let log = imported(ImportKind::Kitti, &src, &ImportOptions::default()).unwrap();
        // the first frame's calibration is another one
        let expected = [
            ("/camera/image_2/calibration", 1),
            ("/camera/image_2/image", 2),
            ("/lidar/velodyne/points", 2),
            ("/tf", 1),
            ("/truth/objects", 2),
        ];
        assert_eq!(log.report.messages, expected.map(|(topic, count)| (topic.to_owned(), count)));
        assert_eq!(log.report.skipped.len(), 1);
        assert_eq!((log.report.skipped[0].what.as_str(), log.report.skipped[0].count), ("frames", 1));
        assert!(log.report.skipped[0].why.contains("that of 000001"), "{:?}", log.report.skipped);
        let stamps: Vec<i64> = log.on("/camera/image_2/image").iter().map(|message| message.publish_ns).collect();
        assert_eq!(stamps, [1_000_000_000, 1_100_000_000]);

        let camera = log.report.rig.camera(CAMERA).unwrap();
        assert_eq!((camera.width_px, camera.height_px, camera.format.name()), (1242, 375, "png"));
        assert_eq!(camera.intrinsics.focal_px(), [721.5377, 721.5377]);
        // the left colour camera is 6 cm left of camera 0, at the height of KITTI's drawing
        let vehicle_from_camera = camera.mounting.vehicle_from_sensor();
        let expected_m = Vector3::new(1.0301, 0.0579, 1.6580);
        assert!((vehicle_from_camera.translation_m - expected_m).norm() < 1e-3, "{vehicle_from_camera:?}");
    }

    #[test]
    fn labels_hold_the_points_of_their_objects() {
        let Some(src) = data("lidar/kitti") else { return };
        let log = imported(ImportKind::Kitti, &src, &ImportOptions::default()).unwrap();
        let truth = TruthObjects::decode(&log.on(TOPIC_OBJECTS)[1].data).unwrap();
        let classes: Vec<&str> = truth.objects.iter().map(|object| object.class.as_str()).collect();
        assert_eq!(classes, ["Misc", "Car"]);
        assert!(truth.objects.iter().all(|object| object.placed && object.lidar_points == -1));
        let points = points_in_vehicle(&log.on("/lidar/velodyne/points")[1].data, &vehicle_from_velodyne());
        let held: Vec<usize> = truth.objects.iter().map(|object| inside(object, &points)).collect();
        assert!(held[0].abs_diff(1346) < 30 && held[1].abs_diff(67) < 5, "{held:?}");
        let unlabelled = TruthObjects::decode(&log.on(TOPIC_OBJECTS)[0].data).unwrap();
        let region = unlabelled.objects.iter().find(|object| object.class == "DontCare").unwrap();
        assert!(!region.placed);
        assert_eq!(region.box_px.left, 503.89);
    }

    fn write_frame(folder: &Path, name: &str, focal_px: u32) {
        for part in [CAMERA, LIDAR, "calib"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        let calibration = format!(
            "P2: {focal_px} 0 32 0 0 {focal_px} 24 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n\
             Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
        );
        std::fs::write(folder.join(CAMERA).join(format!("{name}.png")), png_start(64, 48)).unwrap();
        std::fs::write(folder.join(LIDAR).join(format!("{name}.bin")), [0_u8; 16]).unwrap();
        std::fs::write(folder.join("calib").join(format!("{name}.txt")), calibration).unwrap();
    }

    #[test]
    fn the_commonest_calibration_wins_and_the_earlier_of_equals() {
        let folder = tempfile::tempdir().unwrap();
        let imported = || imported(ImportKind::Kitti, folder.path(), &ImportOptions::default()).unwrap();
        write_frame(folder.path(), "000000", 50);
        write_frame(folder.path(), "000001", 60);
        assert_eq!(imported().report.rig.cameras[0].intrinsics.focal_px(), [50.0; 2]);
        write_frame(folder.path(), "000002", 60);
        std::fs::remove_file(folder.path().join(LIDAR).join("000002.bin")).unwrap();
        let log = imported();
        assert_eq!(log.report.rig.cameras[0].intrinsics.focal_px(), [60.0; 2]);
        assert_eq!((log.count("/camera/image_2/image"), log.count("/lidar/velodyne/points")), (2, 1));
        assert!(log.report.skipped.iter().any(|skipped| skipped.what.ends_with("000002.bin")));
    }

    #[test]
    fn broken_sources_are_errors_or_listed() {
        let folder = tempfile::tempdir().unwrap();
        write_frame(folder.path(), "000000", 50);
        let outcome = || imported(ImportKind::Kitti, folder.path(), &ImportOptions::default());
        std::fs::create_dir(folder.path().join("label_2")).unwrap();
        let labels = "Car 0 0 0 1 2 3 4 1.5 1.8 4 0 1.7 10 0\n\nCar 0 0\n";
        std::fs::write(folder.path().join("label_2/000000.txt"), labels).unwrap();
        let log = outcome().unwrap();
        assert_eq!(TruthObjects::decode(&log.on(TOPIC_OBJECTS)[0].data).unwrap().objects.len(), 1);
        assert_eq!(log.report.skipped.len(), 1);
        assert!(log.report.skipped[0].what.ends_with("000000.txt:3"), "{:?}", log.report.skipped);

        std::fs::remove_file(folder.path().join("calib/000000.txt")).unwrap();
        let error = outcome().err().unwrap();
        assert!(matches!(&error, ImportError::Io { path, .. } if path.ends_with("calib/000000.txt")), "{error}");
        std::fs::remove_file(folder.path().join("image_2/000000.png")).unwrap();
        let error = outcome().err().unwrap();
        assert!(matches!(error, ImportError::Nothing { .. }), "{error}");
    }

    #[test]
    fn a_label_turns_from_the_camera_to_the_vehicle() {
        // camera 0 without tilt, in the place of the velodyne
        let vehicle_from_camera = Pose::from_xyz_rpy(VELODYNE_XYZ_M, [-90.0, 0.0, -90.0].map(f64::to_radians));
        let folder = tempfile::tempdir().unwrap();
        write_frame(folder.path(), "000000", 50);
        let matrices = Matrices::of_frame(&folder.path().join("calib/000000.txt")).unwrap();
        let geometry = matrices.geometry(folder.path()).unwrap();
        let vehicle_from_rectified = geometry.vehicle_from_rectified;
        assert!((vehicle_from_rectified.translation_m - vehicle_from_camera.translation_m).norm() < 1e-9);
        assert!(vehicle_from_rectified.rotation.angle_to(&vehicle_from_camera.rotation) < 1e-7);

        let file = folder.path().join("label_2");
        std::fs::create_dir(&file).unwrap();
        // 10 m ahead, 2 m to the right, facing along the camera's x axis, which is the vehicle's right
        std::fs::write(file.join("000000.txt"), "Car 0 0 0 1 2 3 4 1.5 1.8 4 2 1.73 10 0\n").unwrap();
        let log = imported(ImportKind::Kitti, folder.path(), &ImportOptions::default()).unwrap();
        let truth = TruthObjects::decode(&log.on(TOPIC_OBJECTS)[0].data).unwrap();
        let object = &truth.objects[0];
        assert!((Vector3::from(object.position_m) - Vector3::new(10.76, -2.0, 0.75)).norm() < 1e-9, "{object:?}");
        assert!((object.yaw_rad + std::f64::consts::FRAC_PI_2).abs() < 1e-9, "{object:?}");
        assert_eq!(object.extent_m, [4.0, 1.8, 1.5]);
    }
}
