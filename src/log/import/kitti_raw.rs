//! KITTI, raw data: one drive, `image_0N/data/0000000000.png`, `velodyne_points/data/0000000000.bin` and
//! `oxts/data/0000000000.txt`, each folder with the stamps of its files in `timestamps.txt`. The calibration is in the
//! folder of the day, one above the drive, or beside the drive's own folders.
//!
//! Line n of `timestamps.txt` belongs to the file numbered n; a file without one, or with another ending, is listed as
//! skipped. Stamps are the recording computer's, in local time without saying which; they are taken as UTC.
//!
//! The calibration is that of rectified pictures, which a `_sync` drive has; those of an `_extract` drive are refused.

use std::path::{Path, PathBuf};

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Camera, Sensor, SensorKind};
use catseye_sensors::cloud::read_kitti;
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::messages::{CompressedImage, LocationFix, PointCloud, Vector3};

use super::files::{self, CloudReader, FileReader, FileStream, PictureReader, StampedFile};
use super::kitti::{self, CalibrationFile, LIDAR, Matrices, RATE_HZ};
use super::target::{Stream, Target, merge};
use super::{ImportError, ImportReport, Job, mounting, rig_of, rigid};
use crate::log::packet::{StampInfo, timestamp};
use crate::log::writer::ChannelId;
use crate::messages::ImuSample;

const CAMERA_CALIBRATION: &str = "calib_cam_to_cam.txt";
const VELODYNE_CALIBRATION: &str = "calib_velo_to_cam.txt";
const IMU_CALIBRATION: &str = "calib_imu_to_velo.txt";

/// The left camera that sees colour comes first: it starts the ticks.
const CAMERAS: [&str; 4] = ["02", "03", "00", "01"];

const IMU: &str = "imu";
const GNSS: &str = "gnss";

/// Where the GPS/IMU sits when its calibration is not there: 0.05 m behind the rear axle, 0.32 m left of the velodyne
/// and 0.93 m above the road.
const IMU_XYZ_M: [f64; 3] = [-0.05, 0.32, 0.93];

/// Worst difference between the stamps of the sensors (Geiger et al. 2013, section on synchronisation).
const UNCERTAINTY_NS: i64 = 5_000_000;

const fn stamps(kind: StampKind) -> StampInfo {
    StampInfo { clock: ClockId::HostRealtime, kind, uncertainty_ns: UNCERTAINTY_NS }
}

/// Imports one drive.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let mut skipped = Vec::new();
    let calibration = Calibration::find(src)?;
    let mut cameras = Vec::new();
    let mut pictures = Vec::new();
    for number in CAMERAS {
        let folder = src.join(format!("image_{number}"));
        let files = stamped(&folder, &files::PICTURE_ENDINGS, &mut skipped)?;
        if let Some(camera) = calibration.camera(number, &folder, &files)? {
            pictures.push((camera.name.clone(), files));
            cameras.push(camera);
        }
    }
    let scans = stamped(&src.join("velodyne_points"), &["bin"], &mut skipped)?;
    let fixes = stamped(&src.join("oxts"), &["txt"], &mut skipped)?;
    if cameras.is_empty() && scans.is_empty() && fixes.is_empty() {
        let found = format!("no file with a known ending and a stamp ({} others)", skipped.len());
        return Err(ImportError::Nothing { path: src.to_owned(), found });
    }
    let lidars = if scans.is_empty() { Vec::new() } else { vec![kitti::lidar(RATE_HZ)] };
    let mut rig = rig_of("kitti", kitti::vehicle(), cameras, lidars);
    if !fixes.is_empty() {
        rig.imus.push(inertial(IMU, SensorKind::Imu, &calibration.vehicle_from_imu));
        rig.gnss.push(inertial(GNSS, SensorKind::Gnss, &calibration.vehicle_from_imu));
    }
    let rig = job.rig(rig)?;

    let mut target = Target::create(job, rig)?;
    kitti::assume_places(&mut target);
    target.assume("The stamps, which name no time zone, are in UTC.");
    if !calibration.imu_is_known {
        target.assume(format!("There is no {IMU_CALIBRATION}: the GPS/IMU is where KITTI's drawing has it."));
    }
    for (path, why) in skipped {
        target.skip(path.display().to_string(), why);
    }
    let mut streams: Vec<Box<dyn Stream>> = Vec::new();
    for (camera, files) in pictures {
        let channel = target.foxglove_channel::<CompressedImage>(&camera, &stamps(StampKind::ExposureStart))?;
        let reader = PictureReader::new(&target, channel, &camera);
        streams.push(Box::new(FileStream::new(files, reader)));
    }
    if !scans.is_empty() {
        // the stamp is when the laser looks ahead, half-way through its turn
        let channel = target.foxglove_channel::<PointCloud>(LIDAR, &stamps(StampKind::ExposureMiddle))?;
        streams.push(Box::new(FileStream::new(scans, CloudReader::new(channel, LIDAR, read_kitti))));
    }
    if !fixes.is_empty() {
        let imu = target.record_channel::<ImuSample>(IMU, &stamps(StampKind::Arrival))?;
        let gnss = target.foxglove_channel::<LocationFix>(GNSS, &stamps(StampKind::Arrival))?;
        streams.push(Box::new(FileStream::new(fixes, OxtsReader { imu, gnss })));
    }
    merge(&mut target, streams)?;
    target.finish()
}

fn inertial(name: &str, kind: SensorKind, vehicle_from_sensor: &Pose) -> Sensor {
    Sensor {
        name: name.to_owned(),
        topic: kind.default_topic(name),
        rate_hz: RATE_HZ,
        mounting: mounting(vehicle_from_sensor),
    }
}

/// The calibration of one day.
struct Calibration {
    cameras: CalibrationFile,
    camera_path: PathBuf,
    velodyne: CalibrationFile,
    vehicle_from_imu: Pose,
    imu_is_known: bool,
}

impl Calibration {
    fn find(src: &Path) -> Result<Self, ImportError> {
        let folders = [Some(src), src.parent()];
        let holds = |folder: &&Path| folder.join(CAMERA_CALIBRATION).is_file();
        let Some(folder) = folders.into_iter().flatten().find(holds) else {
            let expected = format!("{CAMERA_CALIBRATION} in this folder or the one above");
            return Err(ImportError::unexpected(src, expected, "none"));
        };
        let imu_path = folder.join(IMU_CALIBRATION);
        let imu_is_known = imu_path.is_file();
        let vehicle_from_imu = if imu_is_known {
            let file = CalibrationFile::read(&imu_path)?;
            let velodyne_from_imu = rigid(&imu_path, "R", &file.numbers("R")?, file.numbers("T")?)?;
            kitti::vehicle_from_velodyne() * velodyne_from_imu
        } else {
            Pose::from_xyz_rpy(IMU_XYZ_M, [0.0; 3])
        };
        let camera_path = folder.join(CAMERA_CALIBRATION);
        Ok(Calibration {
            cameras: CalibrationFile::read(&camera_path)?,
            camera_path,
            velodyne: CalibrationFile::read(&folder.join(VELODYNE_CALIBRATION))?,
            vehicle_from_imu,
            imu_is_known,
        })
    }

    /// The camera with this number and its pictures in this folder, if one of them can be read.
    fn camera(&self, number: &str, folder: &Path, files: &[StampedFile]) -> Result<Option<Camera>, ImportError> {
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        let Some(header) = files::first_picture(&paths)? else { return Ok(None) };
        let [width_px, height_px]: [f64; 2] = self.cameras.numbers(&format!("S_rect_{number}"))?;
        if [f64::from(header.width_px), f64::from(header.height_px)] != [width_px, height_px] {
            let expected = format!("a rectified picture of {width_px} x {height_px} (a `_sync` drive)");
            let found = format!("{} x {}", header.width_px, header.height_px);
            return Err(ImportError::unexpected(folder, expected, found));
        }
        let matrices = Matrices {
            projection: self.cameras.numbers(&format!("P_rect_{number}"))?,
            // all cameras share the rectified frame of camera 0
            rectification: self.cameras.numbers("R_rect_00")?,
            rotation: self.velodyne.numbers("R")?,
            translation_m: self.velodyne.numbers("T")?,
        };
        let geometry = matrices.geometry(&self.camera_path)?;
        Ok(Some(geometry.camera(&format!("image_{number}"), &header, RATE_HZ)))
    }
}

/// The files in `data` with these endings and with their stamps; none where the folder is missing. Others go to
/// `skipped`, with the reason.
fn stamped(
    folder: &Path,
    endings: &[&str],
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<Vec<StampedFile>, ImportError> {
    if !folder.join("data").is_dir() {
        return Ok(Vec::new());
    }
    let times_path = folder.join("timestamps.txt");
    let text = files::read_text(&times_path)?;
    let mut times = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        times.push(line_stamp(content).ok_or_else(|| {
            let expected = "a stamp like 2011-09-26 13:02:25.964389445 or an empty line";
            ImportError::unexpected_at(&times_path, line, expected, format!("{content:?}"))
        })?);
    }
    let mut files = Vec::new();
    for path in files::list(&folder.join("data"))? {
        let index = files::number(&path).and_then(|number| usize::try_from(number).ok());
        let stamp_ns = index.and_then(|index| times.get(index).copied().flatten());
        if !endings.contains(&files::ending(&path).as_str()) {
            skipped.push((path, format!("expected a name ending in {}", endings.join(" or "))));
        } else if let Some(stamp_ns) = stamp_ns {
            files.push(StampedFile { stamp_ns, path });
        } else {
            skipped.push((path, "there is no stamp for it in timestamps.txt".to_owned()));
        }
    }
    Ok(files)
}

/// `Some(None)` for an empty line, which some drives have where a file is missing.
fn line_stamp(line: &str) -> Option<Option<i64>> {
    if line.trim().is_empty() { Some(None) } else { parse_stamp(line.trim()).map(Some) }
}

/// Nanoseconds since 1970 of `YYYY-MM-DD HH:MM:SS.fraction`.
fn parse_stamp(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let [year, month, day] = whole_numbers(date, '-')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = whole_numbers(clock, ':')?;
    let in_range = (1970..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let digits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction_ns: i64 = if digits { format!("{fraction:0<9}").parse().ok()? } else { return None };
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000_000 + fraction_ns)
}

/// Three whole numbers without a sign.
fn whole_numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let numbers: Option<Vec<i64>> = text.split(separator).map(|word| word.parse::<u16>().ok().map(i64::from)).collect();
    numbers?.try_into().ok()
}

/// Days of the Gregorian calendar; years begin in March here, so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_of_years = 365 * year + year / 4 - year / 100 + year / 400;
    // months from March on have 31, 30, 31, 30, 31 days and begin again
    let days_of_months = (153 * month + 2) / 5;
    days_of_years + days_of_months + day - DAYS_TO_1970
}

/// What the count above gives for the 1st of January 1970.
const DAYS_TO_1970: i64 = 719_469;

/// Reads lines of the OXTS RT3003 (`dataformat.txt` of KITTI's raw data).
struct OxtsReader {
    imu: ChannelId,
    gnss: ChannelId,
}

impl FileReader for OxtsReader {
    fn put(&mut self, target: &mut Target<'_>, file: &StampedFile, bytes: Vec<u8>) -> Result<(), ImportError> {
        let Some((sample, fix)) = oxts(&String::from_utf8_lossy(&bytes)) else {
            target.skip(file.path.display().to_string(), "expected a line of at least 20 numbers");
            return Ok(());
        };
        let fix = LocationFix { timestamp: timestamp(file.stamp_ns), ..fix };
        target.write_record(self.imu, file.stamp_ns, file.stamp_ns, &sample)?;
        target.write_foxglove(self.gnss, file.stamp_ns, file.stamp_ns, &fix)
    }
}

/// Position and angles, velocities (north, east, then along the vehicle's axes), accelerations (vehicle, then level),
/// angular rates about the vehicle's axes, which are x ahead, y left, z up.
fn oxts(text: &str) -> Option<(ImuSample, LocationFix)> {
    let numbers = kitti::finite_numbers(text.split_whitespace())?;
    let [
        latitude,
        longitude,
        altitude,
        _,
        _,
        _,
        north_mps,
        east_mps,
        _,
        _,
        up_mps,
        x_mps2,
        y_mps2,
        z_mps2,
        _,
        _,
        _,
        x_radps,
        y_radps,
        z_radps,
    ] = *numbers.first_chunk::<20>()?;
    let sample =
        ImuSample { angular_velocity_radps: [x_radps, y_radps, z_radps], acceleration_mps2: [x_mps2, y_mps2, z_mps2] };
    let fix = LocationFix {
        frame_id: GNSS.to_owned(),
        latitude,
        longitude,
        altitude,
        velocity: Some(Vector3 { x: east_mps, y: north_mps, z: up_mps }),
        ..LocationFix::default()
    };
    Some((sample, fix))
}

#[cfg(test)]
mod tests {
    use foxglove::Decode;
    use foxglove::bytes::Bytes;

    use super::super::files::tests::png_start;
    use super::super::testing::imported;
    use super::super::{ImportKind, ImportOptions};
    use super::*;
    use crate::log::packet::{CLOCK_KEY, STAMP_KIND_KEY};
    use crate::record::Record;

    const START_NS: i64 = 1_317_042_145_000_000_000;

    /// A day with one drive of three frames; the second scan is missing, and its line of stamps is empty.
    fn write_day() -> (tempfile::TempDir, PathBuf) {
        let day = tempfile::tempdir().unwrap();
        let drive = day.path().join("drive");
        let cameras = "calib_time: 09-Jan-2012 13:57:47\nR_rect_00: 1 0 0 0 1 0 0 0 1\n\
                       S_rect_02: 64 48\nS_rect_03: 64 48\n\
                       P_rect_02: 50 0 32 3 0 50 24 0 0 0 1 0\nP_rect_03: 50 0 32 -24 0 50 24 0 0 0 1 0\n";
        std::fs::write(day.path().join(CAMERA_CALIBRATION), cameras).unwrap();
        std::fs::write(day.path().join(VELODYNE_CALIBRATION), "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n").unwrap();
        std::fs::write(day.path().join(IMU_CALIBRATION), "R: 1 0 0 0 1 0 0 0 1\nT: -0.81 0.32 -0.8\n").unwrap();
        let parts: [(&str, &str, Vec<u8>, [&str; 3]); 4] = [
            ("image_02", "png", png_start(64, 48), ["25.0", "25.1", "25.2"]),
            ("image_03", "png", png_start(64, 48), ["25.0", "25.1", "25.2"]),
            ("velodyne_points", "bin", vec![0; 32], ["24.964389445", "", "25.164389445"]),
            ("oxts", "txt", OXTS.as_bytes().to_vec(), ["25.01", "25.11", "25.21"]),
        ];
        for (part, ending, bytes, seconds) in parts {
            std::fs::create_dir_all(drive.join(part).join("data")).unwrap();
            let mut times = String::new();
            for (number, second) in seconds.into_iter().enumerate() {
                if !second.is_empty() {
                    let file = format!("data/{number:010}.{ending}");
                    std::fs::write(drive.join(part).join(file), &bytes).unwrap();
                    times.push_str(&format!("2011-09-26 13:02:{second}"));
                }
                times.push('\n');
            }
            std::fs::write(drive.join(part).join("timestamps.txt"), times).unwrap();
        }
        (day, drive)
    }

    const OXTS: &str =
        "49.01 8.43 116.4 0.03 0.01 -1.2 3 4 5 0 0.5 0.1 0.2 9.8 0 0 0 0.01 0.02 0.03 0 0 0 0.1 0.1 4 11 6 6 6\n";

    #[test]
    fn a_drive_becomes_a_log() {
        let (_day, drive) = write_day();
        let log = imported(ImportKind::Kitti, &drive, &ImportOptions::default()).unwrap();
        for (topic, count) in [
            ("/camera/image_02/image", 3),
            ("/camera/image_03/image", 3),
            ("/lidar/velodyne/points", 2),
            ("/imu/imu/data", 3),
            ("/gnss/gnss/fix", 3),
        ] {
            assert_eq!(log.count(topic), count, "{topic}");
        }
        assert!(log.report.skipped.is_empty(), "{:?}", log.report.skipped);
        let scans = log.on("/lidar/velodyne/points");
        assert_eq!(scans[0].publish_ns, START_NS - 35_610_555);
        assert_eq!(scans[0].metadata[CLOCK_KEY], "host_realtime");
        assert_eq!(scans[0].metadata[STAMP_KIND_KEY], "exposure_middle");
        assert_eq!(log.on("/camera/image_02/image")[2].publish_ns, START_NS + 200_000_000);

        let sample = ImuSample::decode(&log.on("/imu/imu/data")[0].data).unwrap();
        assert_eq!(sample.acceleration_mps2, [0.1, 0.2, 9.8]);
        assert_eq!(sample.angular_velocity_radps, [0.01, 0.02, 0.03]);
        let fix = LocationFix::decode(Bytes::copy_from_slice(&log.on("/gnss/gnss/fix")[0].data)).unwrap();
        assert_eq!((fix.latitude, fix.longitude, fix.altitude), (49.01, 8.43, 116.4));
        assert_eq!(fix.velocity, Some(Vector3 { x: 4.0, y: 3.0, z: 0.5 }));

        let rig = &log.report.rig;
        assert_eq!(rig.tick.trigger.as_deref(), Some("image_02"));
        let place = |name: &str| rig.camera(name).unwrap().mounting.vehicle_from_sensor().translation_m;
        // 3 / 50 m left and 24 / 50 m right of camera 0
        assert!((place("image_02").y - 0.06).abs() < 1e-9 && (place("image_03").y + 0.48).abs() < 1e-9);
        let [x_m, y_m, z_m]: [f64; 3] = rig.imus[0].mounting.vehicle_from_sensor().translation_m.into();
        assert!((x_m + 0.05).abs() < 1e-9 && (y_m - 0.32).abs() < 1e-9 && (z_m - 0.93).abs() < 1e-9);
    }

    #[test]
    fn what_has_no_stamp_or_does_not_parse_is_listed() {
        let (_day, drive) = write_day();
        std::fs::write(drive.join("velodyne_points/data/0000000001.bin"), [0_u8; 16]).unwrap();
        std::fs::write(drive.join("velodyne_points/data/0000000077.bin"), [0_u8; 16]).unwrap();
        std::fs::write(drive.join("oxts/data/0000000001.txt"), "1 2 3").unwrap();
        let log = imported(ImportKind::Kitti, &drive, &ImportOptions::default()).unwrap();
        assert_eq!((log.count("/lidar/velodyne/points"), log.count("/imu/imu/data")), (2, 2));
        assert_eq!(log.report.skipped.len(), 3, "{:?}", log.report.skipped);
    }

    #[test]
    fn files_with_another_ending_are_listed() {
        let (_day, drive) = write_day();
        let scans = drive.join("velodyne_points/data");
        std::fs::rename(scans.join("0000000002.bin"), scans.join("0000000002.txt")).unwrap();
        let log = imported(ImportKind::Kitti, &drive, &ImportOptions::default()).unwrap();
        assert_eq!(log.count("/lidar/velodyne/points"), 1);
        let [skipped] = &log.report.skipped[..] else { panic!("{:?}", log.report.skipped) };
        assert!(skipped.what.ends_with("0000000002.txt"), "{skipped:?}");
        assert_eq!(skipped.why, "expected a name ending in bin");
    }

    #[test]
    fn pictures_that_are_not_rectified_are_refused() {
        let (_day, drive) = write_day();
        for number in 0..3 {
            std::fs::write(drive.join(format!("image_03/data/{number:010}.png")), png_start(71, 52)).unwrap();
        }
        let error = imported(ImportKind::Kitti, &drive, &ImportOptions::default()).err().unwrap().to_string();
        let expected = "image_03: expected a rectified picture of 64 x 48 (a `_sync` drive), found 71 x 52";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn broken_drives_are_errors() {
        let (day, drive) = write_day();
        let failure = || imported(ImportKind::Kitti, &drive, &ImportOptions::default()).err().unwrap().to_string();
        std::fs::write(drive.join("oxts/timestamps.txt"), "2011-09-26 13:02:25.0\nnoon\n").unwrap();
        assert!(failure().contains("timestamps.txt:2: expected a stamp like"), "{}", failure());
        std::fs::remove_file(day.path().join(VELODYNE_CALIBRATION)).unwrap();
        assert!(failure().contains(VELODYNE_CALIBRATION), "{}", failure());
        std::fs::remove_file(day.path().join(CAMERA_CALIBRATION)).unwrap();
        assert!(failure().contains("expected calib_cam_to_cam.txt in this folder or the one above"), "{}", failure());
    }

    #[test]
    fn stamps_are_read_to_the_nanosecond() {
        assert_eq!(parse_stamp("1970-01-01 00:00:00.000000001"), Some(1));
        assert_eq!(parse_stamp("2011-09-26 13:02:25.964389445"), Some(START_NS + 964_389_445));
        assert_eq!(parse_stamp("2011-09-26 13:02:25.5"), Some(START_NS + 500_000_000));
        assert_eq!(parse_stamp("2011-09-26 13:02:25"), Some(START_NS));
        assert_eq!(parse_stamp("2024-02-29 00:00:00"), Some(19_782 * 86_400 * 1_000_000_000));
        for text in [
            "",
            "2011-09-26",
            "2011-13-26 13:02:25",
            "2011-09-26 24:02:25",
            "2011-09-26 13:02",
            "2011-09-26 13:02:25.1234567890",
            "2011-09-26 13:02:25.-1",
            "99999-09-26 13:02:25",
        ] {
            assert_eq!(parse_stamp(text), None, "{text}");
        }
    }
}
