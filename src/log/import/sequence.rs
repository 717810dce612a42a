//! A sequence: one folder of `0000000000.png` and `0000000000.bin` files and a `calib.txt`, as excerpts of KITTI's raw
//! data are often passed on. A picture and a scan of the same number belong together; there are no stamps, so they are
//! made up from the numbers and a rate.

use std::path::PathBuf;

use catseye_sensors::cloud::read_kitti;
use foxglove::messages::{CompressedImage, PointCloud};

use super::files::{self, CloudReader, FileStream, PictureReader, StampedFile};
use super::kitti::{self, CalibrationFile, LIDAR, Matrices, RATE_HZ};
use super::target::{Target, merge};
use super::{ImportError, ImportReport, Job, rig_of, stamp_at_rate};
use crate::log::packet::StampInfo;

const CAMERA: &str = "front";

/// Imports one folder. `calib.txt` has `P_rect_00`, `R_rect_00` and `Tr_velo_to_cam` (3 x 4) in KITTI's form.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let rate_hz = job.rate_hz(RATE_HZ)?;
    let calibration_path = src.join("calib.txt");
    let calibration = CalibrationFile::read(&calibration_path)?;
    let projection = calibration.numbers("P_rect_00")?;
    let rectification = calibration.numbers("R_rect_00")?;
    let matrices = Matrices::with_transform(projection, rectification, calibration.numbers("Tr_velo_to_cam")?);
    let geometry = matrices.geometry(&calibration_path)?;

    let mut pictures = files::list_ending(src, &["png"])?;
    let mut scans = files::list_ending(src, &["bin"])?;
    pictures.retain(|path| files::number(path).is_some());
    scans.retain(|path| files::number(path).is_some());
    let Some(header) = files::first_picture(&pictures)? else {
        let found = format!("{} numbered .png files, none a picture that can be read", pictures.len());
        return Err(ImportError::Nothing { path: src.to_owned(), found });
    };
    let camera = geometry.camera(CAMERA, &header, rate_hz);
    let rig = job.rig(rig_of("sequence", kitti::vehicle(), vec![camera], vec![kitti::lidar(rate_hz)]))?;

    let mut target = Target::create(job, rig)?;
    kitti::assume_places(&mut target);
    target.assume(format!(
        "The files have no stamps: their numbers count {rate_hz} per second, the first is at 1 s, and a picture and a \
         scan of the same number are of the same instant."
    ));
    let first = pictures.iter().chain(&scans).filter_map(|path| files::number(path)).min().unwrap_or_default();
    let stamped = |path: PathBuf| {
        let index = files::number(&path).unwrap_or_default().saturating_sub(first);
        StampedFile { stamp_ns: stamp_at_rate(index, rate_hz), path }
    };
    let images = target.foxglove_channel::<CompressedImage>(CAMERA, &StampInfo::SYNTHETIC)?;
    let points = target.foxglove_channel::<PointCloud>(LIDAR, &StampInfo::SYNTHETIC)?;
    let picture_reader = PictureReader::new(&target, images, CAMERA);
    merge(
        &mut target,
        vec![
            Box::new(FileStream::new(pictures.into_iter().map(stamped).collect(), picture_reader)),
            Box::new(FileStream::new(
                scans.into_iter().map(stamped).collect(),
                CloudReader::new(points, LIDAR, read_kitti),
            )),
        ],
    )?;
    target.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nalgebra::Vector3;

    use super::super::files::tests::png_start;
    use super::super::testing::{data, imported};
    use super::super::{ImportKind, ImportOptions};

    #[test]
    fn a_real_sequence_becomes_a_log() {
        let Some(src) = data("lidar/sfnd_seq") else { return };
        let log = imported(ImportKind::Sequence, &src, &ImportOptions::default()).unwrap();
        let expected =
            [("/camera/front/calibration", 1), ("/camera/front/image", 12), ("/lidar/velodyne/points", 12), ("/tf", 1)];
        assert_eq!(log.report.messages, expected.map(|(topic, count)| (topic.to_owned(), count)));
        for topic in ["/camera/front/image", "/lidar/velodyne/points"] {
            let stamps: Vec<i64> = log.on(topic).iter().map(|message| message.publish_ns).collect();
            assert_eq!(stamps, (0..12).map(|number| 1_000_000_000 + number * 100_000_000).collect::<Vec<_>>());
        }
        assert!(log.report.skipped.is_empty(), "{:?}", log.report.skipped);
        assert_eq!(log.report.rig.tick.trigger.as_deref(), Some("front"));

        let camera = log.report.rig.camera("front").unwrap();
        assert_eq!((camera.width_px, camera.height_px), (1242, 375));
        let vehicle_from_camera = camera.mounting.vehicle_from_sensor();
        assert!((vehicle_from_camera.translation_m.z - 1.65).abs() < 0.03, "{vehicle_from_camera:?}");
        assert!(vehicle_from_camera.rotate(&Vector3::z()).x > 0.999, "{vehicle_from_camera:?}");
    }

    fn calibration(projection: &str) -> String {
        format!(
            "# a comment: with a colon\nP_rect_00: {projection}\nR_rect_00: 1 0 0 0 1 0 0 0 1\n\
             Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
        )
    }

    const PROJECTION: &str = "50 0 32 0 0 50 24 0 0 0 1 0";

    fn write_sequence(folder: &Path, calibration: &str, scan: &[u8]) {
        std::fs::write(folder.join("calib.txt"), calibration).unwrap();
        for number in [4, 6] {
            std::fs::write(folder.join(format!("{number:010}.png")), png_start(64, 48)).unwrap();
            std::fs::write(folder.join(format!("{number:010}.bin")), scan).unwrap();
        }
    }

    #[test]
    fn numbers_count_from_the_first_and_leave_gaps() {
        let folder = tempfile::tempdir().unwrap();
        write_sequence(folder.path(), &calibration(PROJECTION), &[0; 32]);
        let options = ImportOptions { rate_hz: Some(5.0), ..ImportOptions::default() };
        let log = imported(ImportKind::Sequence, folder.path(), &options).unwrap();
        let stamps: Vec<i64> = log.on("/camera/front/image").iter().map(|message| message.publish_ns).collect();
        assert_eq!(stamps, [1_000_000_000, 1_400_000_000]);
        let camera = log.report.rig.camera("front").unwrap();
        let place = camera.mounting.vehicle_from_sensor().translation_m;
        assert!((place - Vector3::new(0.76 + 0.27, 0.0, 1.73 - 0.08)).norm() < 1e-9, "{place}");
    }

    #[test]
    fn a_scan_that_is_cut_off_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        write_sequence(folder.path(), &calibration(PROJECTION), &[0; 35]);
        let log = imported(ImportKind::Sequence, folder.path(), &ImportOptions::default()).unwrap();
        assert_eq!(log.count("/lidar/velodyne/points"), 0);
        assert_eq!(log.count("/camera/front/image"), 2);
        assert_eq!(log.report.skipped.len(), 2);
        assert!(log.report.skipped[0].why.contains("found 2 and 3 bytes"), "{:?}", log.report.skipped);
    }

    #[test]
    fn a_broken_calibration_is_an_error_that_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let failure =
            || imported(ImportKind::Sequence, folder.path(), &ImportOptions::default()).err().unwrap().to_string();
        std::fs::write(folder.path().join("0.png"), png_start(64, 48)).unwrap();
        assert!(failure().contains("calib.txt: "), "{}", failure());
        let cases = [
            (
                calibration("50 0 32 0 0 fifty 24 0 0 0 1 0"),
                "calib.txt:2: expected 12 finite numbers behind `P_rect_00:`",
            ),
            (calibration("50 0 32"), "calib.txt:2: expected 12 finite numbers"),
            (calibration("0 0 32 0 0 50 24 0 0 0 1 0"), "expected focal lengths above 0, found 0 and 50"),
            (
                calibration(PROJECTION).replace("R_rect_00", "R"),
                "expected a line `R_rect_00:` with 9 numbers, found none",
            ),
            (
                calibration(PROJECTION).replace("1 0 0 0 1 0 0 0 1", "2 0 0 0 1 0 0 0 1"),
                "expected a rotation in R_rect",
            ),
        ];
        for (text, expected) in cases {
            std::fs::write(folder.path().join("calib.txt"), text).unwrap();
            assert!(failure().contains(expected), "{}", failure());
        }
    }
}
