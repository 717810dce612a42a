//! A folder of pictures from one camera of which nothing is known: JPEG and PNG files in the order of their names, at a
//! made-up rate, with the default camera unless a rig is given.

use std::path::PathBuf;

use catseye_calibration::rig::Rig;
use foxglove::messages::CompressedImage;

use super::files::{self, FileStream, PictureHeader, PictureReader, StampedFile};
use super::target::{Target, merge};
use super::{DEFAULT_CAMERA, ImportError, ImportReport, Job, default_rig, stamp_at_rate};
use crate::log::packet::StampInfo;

/// Rate of the stamps that are made up.
const RATE_HZ: f64 = 10.0;

/// Imports one folder. Pictures of another size than the first one's are listed as skipped.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let rate_hz = job.rate_hz(RATE_HZ)?;
    let pictures = files::list_ending(job.src, &files::PICTURE_ENDINGS)?;
    let Some(header) = files::first_picture(&pictures)? else {
        let found = format!("{} files with a picture's ending, none that can be read", pictures.len());
        return Err(ImportError::Nothing { path: job.src.to_owned(), found });
    };
    let is_given = job.options.rig.is_some();
    let (rig, camera) = rig_and_camera(&job, &header, rate_hz)?;

    let mut target = Target::create(job, rig)?;
    target.assume(format!("The files have no stamps: they are {rate_hz} per second, starting at 1 s."));
    if !is_given {
        target.assume(DEFAULT_CAMERA);
    }
    let channel = target.foxglove_channel::<CompressedImage>(&camera, &StampInfo::SYNTHETIC)?;
    let reader = PictureReader::new(&target, channel, &camera);
    let stamped = |(index, path): (u64, PathBuf)| StampedFile { stamp_ns: stamp_at_rate(index, rate_hz), path };
    let files = (0..).zip(pictures).map(stamped).collect();
    merge(&mut target, vec![Box::new(FileStream::new(files, reader))])?;
    target.finish()
}

/// The rig that was given and the name of its first camera, or the default ones for pictures of this size.
fn rig_and_camera(job: &Job<'_>, header: &PictureHeader, rate_hz: f64) -> Result<(Rig, String), ImportError> {
    let rig = match &job.options.rig {
        Some(path) => Rig::load(path)?,
        None => default_rig("pictures", (header.width_px, header.height_px), header.rig_format(), rate_hz),
    };
    match (rig.cameras.first().map(|camera| camera.name.clone()), &job.options.rig) {
        (Some(camera), _) => Ok((rig, camera)),
        (None, path) => {
            let path = path.as_deref().unwrap_or(job.src);
            Err(ImportError::unexpected(path, "a rig with a camera", "none"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::png_start;
    use super::super::testing::{data, imported};
    use super::super::{ImportKind, ImportOptions};
    use crate::log::packet::{CLOCK_KEY, STAMP_KIND_KEY};

    #[test]
    fn a_real_folder_becomes_a_log() {
        let Some(src) = data("camera/carnd/adv_test_images") else { return };
        let options = ImportOptions { rate_hz: Some(4.0), ..ImportOptions::default() };
        let log = imported(ImportKind::Pictures, &src, &options).unwrap();
        let images = log.on("/camera/front/image");
        assert_eq!(images.len(), 8);
        assert_eq!((images[0].publish_ns, images[7].publish_ns), (1_000_000_000, 2_750_000_000));
        assert_eq!(images[0].metadata[CLOCK_KEY], "synthetic");
        assert_eq!(images[0].metadata[STAMP_KIND_KEY], "synthetic");
        assert_eq!(log.source["kind"], "pictures");
        assert_eq!(log.source["file"], "adv_test_images");
        let camera = log.report.rig.camera("front").unwrap();
        assert_eq!((camera.width_px, camera.height_px, camera.rate_hz), (1280, 720, 4.0));
        assert_eq!(camera.format.name(), "jpeg");
        assert!(log.report.skipped.is_empty());
        assert_eq!(log.report.assumptions.len(), 2);
        // the bytes are the file's, behind the message's other fields or before them
        let first = std::fs::read(src.join("straight_lines1.jpg")).unwrap();
        assert!(images[0].data.windows(first.len()).any(|window| window == first));
    }

    #[test]
    fn what_is_no_picture_or_of_another_size_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("0.png", b"no picture".to_vec()),
            ("1.png", png_start(64, 48)),
            ("2.png", png_start(32, 48)),
            ("3.png", png_start(64, 48)),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let log = imported(ImportKind::Pictures, folder.path(), &ImportOptions::default()).unwrap();
        let stamps: Vec<i64> = log.on("/camera/front/image").iter().map(|message| message.publish_ns).collect();
        assert_eq!(stamps, [1_100_000_000, 1_300_000_000]);
        let skipped = &log.report.skipped;
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].what.ends_with("0.png") && skipped[0].why.contains("other first bytes"), "{skipped:?}");
        assert!(skipped[1].what.ends_with("2.png") && skipped[1].why.contains("found 32 x 48"), "{skipped:?}");
    }

    #[test]
    fn a_folder_without_a_picture_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.jpg"), b"no picture").unwrap();
        let error = imported(ImportKind::Pictures, folder.path(), &ImportOptions::default()).err().unwrap();
        assert!(error.to_string().contains("1 files with a picture's ending, none that can be read"), "{error}");
    }

    #[test]
    fn a_given_rig_without_a_camera_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.png"), png_start(64, 48)).unwrap();
        let rig = folder.path().join("rig.toml");
        std::fs::write(&rig, "schema = 1\nname = \"blind\"\n").unwrap();
        let options = ImportOptions { rig: Some(rig), ..ImportOptions::default() };
        let error = imported(ImportKind::Pictures, folder.path(), &options).err().unwrap();
        assert!(error.to_string().ends_with("rig.toml: expected a rig with a camera, found none"), "{error}");
    }
}
