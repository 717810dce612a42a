//! Importers: other people's recordings in, a log of ours out.
//!
//! [`import`] reads one source with the reader of its [`ImportKind`] and writes one log: the rig first, then the
//! messages in order of arrival. Pictures and points are copied, never recoded. What is left out is listed in the
//! [`ImportReport`] together with everything that had to be assumed; what makes a source unreadable is an
//! [`ImportError`] that names the file. The log gets its name only when it is whole, a stopped import included.
//!
//! Every importer takes a `Job`, makes a rig, opens a `target::Target` with it and hands it its streams.

mod comma2k19;
mod dbc;
mod files;
mod kitti;
mod kitti_raw;
mod nuscenes;
mod pictures;
mod ros;
mod sequence;
mod target;
mod video;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{
    Camera, Lidar, Mounting, MountingPose, OnGpuFault, PictureFormat, Planner, Rig, RigError, SensorKind, Tick, Vehicle,
};
use nalgebra::{Matrix3, Vector3};
use thiserror::Error;

use super::writer::WriteError;

/// Why a source could not be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A file of the source is not as it must be.
    #[error("{file}: expected {expected}, found {found}")]
    Source {
        /// The file, with a line number behind a colon where there is one.
        file: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The source looks like nothing that is known.
    #[error("{path}: expected a recording of a known kind ({known}), found {found}")]
    Unrecognised {
        /// The file or folder.
        path: PathBuf,
        /// Names of the kinds.
        known: String,
        /// What is there.
        found: String,
    },
    /// The source could be read, but nothing in it can be imported.
    #[error("{path}: nothing to import: found {found}")]
    Nothing {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A rate that no sensor has.
    #[error("rate: expected {min} to {max} Hz, found {found}", min = MIN_RATE_HZ, max = MAX_RATE_HZ)]
    Rate {
        /// The rate that was asked for.
        found: f64,
    },
    /// The rig that was given, or the one that follows from the source, is not valid.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The log could not be written.
    #[error(transparent)]
    Log(#[from] WriteError),
}

impl ImportError {
    /// A file that is not as it must be.
    fn unexpected(file: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Source { file: file.display().to_string(), expected: expected.into(), found: found.into() }
    }

    /// A line, counted from one, that is not as it must be.
    fn unexpected_at(file: &Path, line: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Source { file: format!("{}:{line}", file.display()), expected: expected.into(), found: found.into() }
    }
}

/// What kind of recording a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// KITTI: the object layout (`image_2`, `velodyne`, `calib`) or a raw drive (`image_02`, `velodyne_points`).
    Kitti,
    /// One folder of numbered `.png` and `.bin` files with a `calib.txt`.
    Sequence,
    /// Samples of nuScenes: a folder with pictures, lidar scans and a `.json` file that lists them.
    NuScenes,
    /// A segment of comma2k19: `processed_log` and `global_pose`.
    Comma2k19,
    /// A video file.
    Video,
    /// A folder of JPEG or PNG pictures.
    Pictures,
    /// A ROS 2 or Foxglove recording: an MCAP file, an SQLite file, or the folder around them.
    Ros,
}

const VIDEO_ENDINGS: [&str; 4] = ["mp4", "mov", "m4v", "h264"];
const ROS_ENDINGS: [&str; 2] = ["mcap", "db3"];

impl ImportKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Kitti, Self::Sequence, Self::NuScenes, Self::Comma2k19, Self::Video, Self::Pictures, Self::Ros];

    /// The kind's name on the command line and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kitti => "kitti",
            Self::Sequence => "sequence",
            Self::NuScenes => "nuscenes",
            Self::Comma2k19 => "comma2k19",
            Self::Video => "video",
            Self::Pictures => "pictures",
            Self::Ros => "ros",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Finds out what a source is from the names of its files; no file is opened.
    ///
    /// # Errors
    /// [`ImportError::Io`] where there is nothing at `src`, [`ImportError::Unrecognised`] where it is nothing known.
    pub fn recognise(src: &Path) -> Result<Self, ImportError> {
        let is_folder =
            std::fs::metadata(src).map_err(|error| ImportError::Io { path: src.to_owned(), error })?.is_dir();
        let (kind, found) = if is_folder {
            let entries = files::list(src)?;
            (recognise_folder(&entries), files::overview(&entries))
        } else {
            (recognise_file(src), format!("a file ending in {:?}", files::ending(src)))
        };
        kind.ok_or_else(|| ImportError::Unrecognised { path: src.to_owned(), known: known_kinds(), found })
    }
}

fn known_kinds() -> String {
    ImportKind::ALL.map(ImportKind::name).join(", ")
}

fn recognise_file(src: &Path) -> Option<ImportKind> {
    let ending = files::ending(src);
    if VIDEO_ENDINGS.contains(&ending.as_str()) {
        return Some(ImportKind::Video);
    }
    ROS_ENDINGS.contains(&ending.as_str()).then_some(ImportKind::Ros)
}

/// The more special layouts come first: most of them hold pictures as well.
fn recognise_folder(entries: &[PathBuf]) -> Option<ImportKind> {
    let has = |name: &str| entries.iter().any(|entry| files::name(entry) == name);
    let has_ending = |endings: &[&str]| entries.iter().any(|entry| endings.contains(&files::ending(entry).as_str()));
    let has_number =
        |ending: &str| entries.iter().any(|entry| files::ending(entry) == ending && files::number(entry).is_some());
    if has("image_2") && has("velodyne") || has("velodyne_points") || has("image_02") {
        return Some(ImportKind::Kitti);
    }
    if has("processed_log") || has("global_pose") {
        return Some(ImportKind::Comma2k19);
    }
    if has("metadata.yaml") || has_ending(&ROS_ENDINGS) {
        return Some(ImportKind::Ros);
    }
    if has_ending(&["json"]) && entries.iter().any(|entry| files::name(entry).contains("__LIDAR_TOP__")) {
        return Some(ImportKind::NuScenes);
    }
    if has("calib.txt") && has_number("png") && has_number("bin") {
        return Some(ImportKind::Sequence);
    }
    has_ending(&files::PICTURE_ENDINGS).then_some(ImportKind::Pictures)
}

/// Slowest rate of a source without stamps.
pub const MIN_RATE_HZ: f64 = 0.01;
/// Fastest rate of a source without stamps.
pub const MAX_RATE_HZ: f64 = 10_000.0;

/// What the user may say about a source.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions<'a> {
    /// Rate of a source whose files have no stamps.
    pub rate_hz: Option<f64>,
    /// A rig file to use in place of the one that follows from the source; it must have the source's sensors by name.
    pub rig: Option<PathBuf>,
    /// Set by somebody else to end the import early, with a whole log of what was read so far.
    pub stop: Option<&'a AtomicBool>,
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What: a file, a topic, a kind of message.
    pub what: String,
    /// Why.
    pub why: String,
    /// How many.
    pub count: u64,
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportReport {
    /// The rig in the log.
    pub rig: Rig,
    /// Topics of the log in alphabetical order, with how many messages each has.
    pub messages: Vec<(String, u64)>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// What the source does not say and was assumed, in sentences.
    pub assumptions: Vec<String>,
    /// Whether the import was stopped before the end of the source.
    pub stopped: bool,
}

/// One import, as it is handed to an importer.
struct Job<'a> {
    kind: ImportKind,
    src: &'a Path,
    out: &'a Path,
    options: &'a ImportOptions<'a>,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Job<'_> {
    /// The rate asked for, or else `default_hz`.
    fn rate_hz(&self, default_hz: f64) -> Result<f64, ImportError> {
        let rate_hz = self.options.rate_hz.unwrap_or(default_hz);
        if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
            return Err(ImportError::Rate { found: rate_hz });
        }
        Ok(rate_hz)
    }

    /// The rig asked for, or else the one that follows from the source. The former must have the latter's sensors, so
    /// that every message finds its topic.
    fn rig(&self, from_source: Rig) -> Result<Rig, ImportError> {
        let Some(path) = &self.options.rig else { return Ok(from_source) };
        let given = Rig::load(path)?;
        for sensor in from_source.sensors() {
            if given.sensor(sensor.name).is_none_or(|other| other.kind != sensor.kind) {
                let expected = format!("a {} named {:?}, as in the source", sensor.kind.name(), sensor.name);
                let names: Vec<&str> = given.sensors().map(|sensor| sensor.name).collect();
                return Err(ImportError::unexpected(path, expected, format!("the sensors {}", names.join(", "))));
            }
        }
        Ok(given)
    }
}

/// Imports a source into a log at `out`. `progress` is told how much is done and how much there is, in units of the
/// importer's own.
///
/// # Errors
/// An [`ImportError`]; there is then no log at `out`, and one that was there before is untouched.
pub fn import(
    kind: ImportKind,
    src: &Path,
    out: &Path,
    options: &ImportOptions<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImportReport, ImportError> {
    let job = Job { kind, src, out, options, progress };
    match kind {
        ImportKind::Kitti => kitti::import(job),
        ImportKind::Sequence => sequence::import(job),
        ImportKind::NuScenes => nuscenes::import(job),
        ImportKind::Comma2k19 => comma2k19::import(job),
        ImportKind::Video => video::import(job),
        ImportKind::Pictures => pictures::import(job),
        ImportKind::Ros => ros::import(job),
    }
}

/// A rig with these sensors and no others. The first camera starts a tick, which takes what lies up to half a period
/// of that camera and no more than 50 ms away; without cameras there is a tick every 50 ms.
fn rig_of(name: &str, vehicle: Vehicle, cameras: Vec<Camera>, lidars: Vec<Lidar>) -> Rig {
    let tick = match cameras.first() {
        Some(camera) => Tick {
            trigger: Some(camera.name.clone()),
            period_ms: 1000.0 / camera.rate_hz,
            tolerance_ms: (500.0 / camera.rate_hz).min(50.0),
            max_wait_ms: (1000.0 / camera.rate_hz).min(100.0),
        },
        None => Tick { trigger: None, period_ms: 50.0, tolerance_ms: 25.0, max_wait_ms: 50.0 },
    };
    Rig {
        name: name.to_owned(),
        directory: PathBuf::new(),
        vehicle,
        tick,
        cameras,
        lidars,
        radars: Vec::new(),
        ultrasonics: Vec::new(),
        imus: Vec::new(),
        gnss: Vec::new(),
        cans: Vec::new(),
        sources: Default::default(),
        models: Vec::new(),
        planner: Planner::default(),
        on_gpu_fault: OnGpuFault::default(),
        realtime: Default::default(),
    }
}

/// The rig of one camera of which nothing is known but its pictures.
fn default_rig(name: &str, (width_px, height_px): (u32, u32), format: PictureFormat, rate_hz: f64) -> Rig {
    let Rig { vehicle, cameras, .. } = Rig::default_camera(width_px, height_px);
    let cameras = cameras.into_iter().map(|camera| Camera { format, rate_hz, ..camera }).collect();
    rig_of(name, vehicle, cameras, Vec::new())
}

/// What that rig assumes.
const DEFAULT_CAMERA: &str = "Nothing is known of the camera: it sees 60 degrees across without distortion, level and \
                              straight ahead, 1.8 m ahead of the rear axle and 1.4 m above the road.";

/// A lidar whose scans are ready made, so that nobody has to know the device.
fn lidar(name: &str, rate_hz: f64, vehicle_from_lidar: &Pose) -> Lidar {
    Lidar {
        name: name.to_owned(),
        topic: SensorKind::Lidar.default_topic(name),
        model: String::new(),
        calibration: None,
        rate_hz,
        mounting: mounting(vehicle_from_lidar),
    }
}

/// A mounting as designed.
fn mounting(vehicle_from_sensor: &Pose) -> Mounting {
    Mounting { nominal: MountingPose::from_pose(vehicle_from_sensor), corrected: None }
}

/// A pose from the numbers of a file: a rotation row by row, and a place.
fn rigid(path: &Path, key: &str, rotation: &[f64; 9], xyz_m: [f64; 3]) -> Result<Pose, ImportError> {
    let matrix = Matrix3::from_row_slice(rotation);
    Pose::from_rotation_matrix(&matrix, Vector3::from(xyz_m))
        .ok_or_else(|| ImportError::unexpected(path, format!("a rotation in {key}"), format!("{rotation:?}")))
}

/// Readings per second of so many stamps from the first to the last; `None` where they do not tell.
fn rate_of(count: u64, first_ns: i64, last_ns: i64) -> Option<f64> {
    let intervals = count.saturating_sub(1);
    let span_ns = last_ns.saturating_sub(first_ns);
    (intervals > 0 && span_ns > 0).then(|| intervals as f64 * 1e9 / span_ns as f64)
}

/// Where made-up time begins: a stamp of zero means that a sensor gave none.
const FIRST_NS: i64 = 1_000_000_000;

/// Stamp of an item of a source that has a rate but no stamps.
fn stamp_at_rate(index: u64, rate_hz: f64) -> i64 {
    FIRST_NS.saturating_add((index as f64 * 1e9 / rate_hz).round() as i64)
}

/// What the importers' tests share.
#[cfg(test)]
mod testing {
    use std::collections::BTreeMap;

    use super::*;
    use crate::log::reader::{Ending, Event, LogReader};
    use crate::log::{RIG_ATTACHMENT, SOURCE_HEADER};

    /// One message of a log.
    pub struct Logged {
        pub topic: String,
        pub metadata: BTreeMap<String, String>,
        pub log_ns: i64,
        pub publish_ns: i64,
        pub data: Vec<u8>,
    }

    /// An import, read back.
    pub struct Imported {
        pub report: ImportReport,
        pub source: BTreeMap<String, String>,
        pub messages: Vec<Logged>,
    }

    impl Imported {
        pub fn on(&self, topic: &str) -> Vec<&Logged> {
            self.messages.iter().filter(|message| message.topic == topic).collect()
        }

        pub fn count(&self, topic: &str) -> u64 {
            self.report.messages.iter().find(|(name, _)| name == topic).map_or(0, |(_, count)| *count)
        }
    }

    /// A path in the shared data; `None`, saying so, where they are absent.
    pub fn data(path: &str) -> Option<PathBuf> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")).join(path);
        if path.exists() {
            return Some(path);
        }
        eprintln!("skipped: ../shared is absent");
        None
    }

    /// Imports and reads the log back: whole, in order of arrival, with a rig that loads and the counts of the report.
    pub fn imported(kind: ImportKind, src: &Path, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        let mut last = None;
        let mut progress = |done: u64, total: u64| last = Some((done, total));
        let outcome = import(kind, src, &out, options, &mut progress);
        if outcome.is_err() {
            let left = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 0, "a failed import left a file");
        }
        let report = outcome?;
        if !report.stopped {
            let (done, total) = last.unwrap();
            assert_eq!(done, total);
        }
        let mut reader = LogReader::open(&out).unwrap();
        let (mut attachments, mut source, mut messages) = (Vec::new(), BTreeMap::new(), Vec::new());
        while let Some(event) = reader.next().unwrap() {
            match event {
                Event::Attachment { name, data } => {
                    assert!(messages.is_empty(), "{name} comes after the first message");
                    attachments.push((name, data));
                }
                Event::Metadata { name, entries } if name == SOURCE_HEADER => source = entries,
                Event::Metadata { .. } => {}
                Event::Message(message) => messages.push(Logged {
                    topic: message.channel.topic.clone(),
                    metadata: message.channel.metadata.clone(),
                    log_ns: message.log_ns,
                    publish_ns: message.publish_ns,
                    data: message.data.to_vec(),
                }),
            }
        }
        assert_eq!(reader.ending(), Some(&Ending::Complete));
        assert!(messages.is_sorted_by_key(|message| message.log_ns), "not in order of arrival");
        let (_, rig) = attachments.iter().find(|(name, _)| name == RIG_ATTACHMENT).unwrap();
        let rig = Rig::parse(std::str::from_utf8(rig).unwrap(), RIG_ATTACHMENT).unwrap();
        assert_eq!(rig, report.rig);
        assert!(rig.models.is_empty());
        let imported = Imported { report, source, messages };
        for (topic, count) in &imported.report.messages {
            assert_eq!(imported.on(topic).len() as u64, *count, "{topic}");
        }
        Ok(imported)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::files::tests::png_start;
    use super::testing::{data, imported};
    use super::*;

    /// A folder with empty files and folders (names that end in a slash).
    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name.trim_end_matches('/'));
            if name.ends_with('/') { std::fs::create_dir(path).unwrap() } else { std::fs::write(path, b"").unwrap() }
        }
        folder
    }

    fn pictures(count: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..count {
            std::fs::write(folder.path().join(format!("{index:03}.png")), png_start(64, 48)).unwrap();
        }
        folder
    }

    #[test]
    fn names_of_kinds_come_back() {
        for kind in ImportKind::ALL {
            assert_eq!(ImportKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(ImportKind::from_name("KITTI"), None);
    }

    #[test]
    fn layouts_are_told_apart_by_names() {
        let cases: [(&[&str], ImportKind); 9] = [
            (&["image_2/", "velodyne/", "calib/"], ImportKind::Kitti),
            (&["image_02/", "velodyne_points/", "oxts/"], ImportKind::Kitti),
            (&["000.png", "000.bin", "calib.txt"], ImportKind::Sequence),
            (&["a.json", "a__LIDAR_TOP__1.pcd.bin", "a__CAM_FRONT__1.jpg"], ImportKind::NuScenes),
            (&["processed_log/", "preview.png"], ImportKind::Comma2k19),
            (&["metadata.yaml", "bag_0.db3"], ImportKind::Ros),
            (&["part.mcap"], ImportKind::Ros),
            (&["a.JPG", "notes.txt"], ImportKind::Pictures),
            (&["000.png", "calib.txt"], ImportKind::Pictures),
        ];
        for (names, kind) in cases {
            assert_eq!(ImportKind::recognise(folder_of(names).path()).unwrap(), kind, "{names:?}");
        }
        let files = folder_of(&["a.MP4", "b.mcap", "c.db3", "d.txt"]);
        let recognise = |name: &str| ImportKind::recognise(&files.path().join(name));
        assert_eq!(recognise("a.MP4").unwrap(), ImportKind::Video);
        assert_eq!(recognise("b.mcap").unwrap(), ImportKind::Ros);
        assert_eq!(recognise("c.db3").unwrap(), ImportKind::Ros);
        assert!(recognise("d.txt").unwrap_err().to_string().contains("found a file ending in \"txt\""));
        assert!(matches!(recognise("none"), Err(ImportError::Io { .. })));
        let error = ImportKind::recognise(folder_of(&["x.doc"]).path()).unwrap_err().to_string();
        assert!(error.contains("pictures") && error.contains("found a folder with x.doc"), "{error}");
    }

    #[test]
    fn real_recordings_are_recognised() {
        let cases = [
            ("lidar/kitti", ImportKind::Kitti),
            ("lidar/sfnd_seq", ImportKind::Sequence),
            ("lidar/nuscenes", ImportKind::NuScenes),
            ("can/comma2k19/segment", ImportKind::Comma2k19),
            ("camera/carnd/solidWhiteRight.mp4", ImportKind::Video),
            ("camera/carnd/adv_test_images", ImportKind::Pictures),
            ("lidar/packets_velodyne/vlp16/1673400471837873222", ImportKind::Ros),
        ];
        for (path, kind) in cases {
            let Some(path) = data(path) else { return };
            assert_eq!(ImportKind::recognise(&path).unwrap(), kind);
        }
    }

    #[test]
    fn made_up_stamps_do_not_drift() {
        assert_eq!(stamp_at_rate(0, 30.0), 1_000_000_000);
        assert_eq!(stamp_at_rate(1, 30.0), 1_033_333_333);
        assert_eq!(stamp_at_rate(30, 30.0), 2_000_000_000);
        assert_eq!(stamp_at_rate(u64::MAX, 0.01), i64::MAX);
    }

    #[test]
    fn rates_follow_from_stamps() {
        assert_eq!(rate_of(3, 1_000_000_000, 2_000_000_000), Some(2.0));
        assert_eq!(rate_of(1, 5, 9), None);
        assert_eq!(rate_of(3, 7, 7), None);
        assert_eq!(rate_of(0, i64::MAX, i64::MIN), None);
    }

    #[test]
    fn a_rate_no_sensor_has_is_refused() {
        let folder = pictures(1);
        for found in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e5] {
            let options = ImportOptions { rate_hz: Some(found), ..ImportOptions::default() };
            let outcome = imported(ImportKind::Pictures, folder.path(), &options);
            assert!(matches!(outcome, Err(ImportError::Rate { .. })), "{found}");
        }
    }

    #[test]
    fn a_stopped_import_is_a_whole_log() {
        let folder = pictures(50);
        let out = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let options = ImportOptions { stop: Some(&stop), ..ImportOptions::default() };
        let path = out.path().join("log.mcap");
        let mut progress = |done: u64, total: u64| {
            assert_eq!(total, 50);
            stop.store(done == 7, Ordering::Relaxed);
        };
        let report = import(ImportKind::Pictures, folder.path(), &path, &options, &mut progress).unwrap();
        assert!(report.stopped);
        assert!(report.messages.contains(&("/camera/front/image".to_owned(), 7)), "{:?}", report.messages);
        assert!(path.exists());

        stop.store(true, Ordering::Relaxed);
        let at_once = imported(ImportKind::Pictures, folder.path(), &options).unwrap();
        assert!(at_once.report.stopped);
        assert!(at_once.messages.is_empty());
    }

    #[test]
    fn a_given_rig_must_have_the_sensors_of_the_source() {
        let Some(src) = data("lidar/sfnd_seq") else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rig.toml");
        let with_rig = ImportOptions { rig: Some(path.clone()), ..ImportOptions::default() };

        let rig = Rig::default_camera(1242, 375);
        std::fs::write(&path, rig.to_toml()).unwrap();
        let error = imported(ImportKind::Sequence, &src, &with_rig).err().unwrap().to_string();
        assert!(error.contains("expected a lidar named \"velodyne\"") && error.contains("front"), "{error}");

        let mut rig = imported(ImportKind::Sequence, &src, &ImportOptions::default()).unwrap().report.rig;
        rig.cameras[0].topic = "/mine".to_owned();
        std::fs::write(&path, rig.to_toml()).unwrap();
        assert_eq!(imported(ImportKind::Sequence, &src, &with_rig).unwrap().count("/mine"), 12);
    }
}
