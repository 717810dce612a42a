//! What files do not tell of a machine: limits, the disk, the clock's state, cameras, and what other programs answer.
//!
//! Of the machine that the program runs on they are asked for; of a folder that stands for a machine they are read from
//! `doctor-facts.toml` in it. Whatever is not stated there is unknown, which is a state like others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use catseye_sensors::v4l2::{Camera, CameraError};
use rustix::process::{Resource, getgroups, getrlimit, getuid};
use serde::Deserialize;
use thiserror::Error;

use super::Root;
use super::disk;
use super::wait::{output_within, within};

/// The file of the facts in a folder that stands for a machine.
pub const FACTS_FILE: &str = "doctor-facts.toml";
/// How long a device, a disk or a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of `nvidia-smi`: `nvidia-smi --help-query-gpu` lists the names. `clocks_throttle_reasons` are called
/// `clocks_event_reasons` by newer ones, which understand the old name too.
const SMI_QUERY: &str =
    "--query-gpu=name,driver_version,compute_cap,clocks_throttle_reasons.active,clocks.sm,clocks.max.sm";

/// Why the facts could not be read.
#[derive(Debug, Error)]
pub enum FactsError {
    /// The system failed.
    #[error("{path}: {cause}")]
    System {
        /// The file.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// It does not say facts.
    #[error("{path}: {cause}")]
    NotFacts {
        /// The file.
        path: String,
        /// Where and why.
        cause: String,
    },
}

/// A limit of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    /// So much.
    At(u64),
    /// `unlimited`.
    Unlimited(Unlimited),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unlimited {
    /// `unlimited`.
    Unlimited,
}

impl Limit {
    fn of(resource: Resource) -> Self {
        getrlimit(resource).current.map_or(Limit::Unlimited(Unlimited::Unlimited), Limit::At)
    }
}

/// A GPU as the driver describes it to this program, or why it does not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Probe {
    /// The first device.
    Device {
        /// Its name.
        name: String,
        /// Its compute capability: `[8, 7]`.
        capability: [u32; 2],
        /// The newest CUDA that the driver knows: 11040 for 11.4.
        cuda: u32,
    },
    /// There is none that works, in the driver's words.
    Failed(String),
}

/// What a camera answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraFacts {
    /// The device's file.
    pub path: String,
    /// Its name.
    #[serde(default)]
    pub card: String,
    /// Its driver.
    #[serde(default)]
    pub driver: String,
    /// Where it is plugged in.
    #[serde(default)]
    pub bus: String,
    /// Its formats, by their four-character codes.
    #[serde(default)]
    pub formats: Vec<String>,
    /// Whether it could be opened.
    #[serde(default)]
    pub state: CameraState,
}

/// Whether a camera could be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraState {
    /// Yes.
    #[default]
    Opens,
    /// The driver gives it to one program, and another has it (`EBUSY`).
    Busy,
    /// It refused in these words.
    Refused(String),
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFacts {
    /// Room for whoever is not root.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
    /// What a file with `fdatasync` took in the end.
    pub write_bytes_per_s: Option<u64>,
}

/// What files do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// The user's number.
    pub uid: Option<u32>,
    /// The numbers of the user's groups.
    pub gids: Option<Vec<u32>>,
    /// How much memory may be locked (`RLIMIT_MEMLOCK`), in bytes.
    pub locked_memory_bytes: Option<Limit>,
    /// The highest real-time priority that may be asked for (`RLIMIT_RTPRIO`).
    pub realtime_priority: Option<Limit>,
    /// Whether the kernel holds its clock for synchronised (`adjtimex(2)`, without `STA_UNSYNC`).
    pub clock_synchronised: Option<bool>,
    /// The folder that the disk is judged by.
    pub disk_folder: Option<PathBuf>,
    /// Its file system.
    pub disk: Option<DiskFacts>,
    /// Why the disk could not be measured.
    pub disk_failed: Option<String>,
    /// What `nvidia-smi` answers, a line for each GPU.
    pub nvidia_smi: Option<String>,
    /// What `ip -details -json link show type can` answers.
    pub ip_link: Option<String>,
    /// The GPU, where this build can ask the driver.
    pub gpu: Option<Probe>,
    /// What cameras answer; those that answer nothing are not here.
    pub cameras: Vec<CameraFacts>,
    /// Device files that may not be opened, beside those whose permissions say so.
    pub denied: Vec<String>,
    /// The folder of engines.
    pub engine_dir: Option<PathBuf>,
    /// Folders that the environment adds to those with libraries.
    pub library_folders: Vec<String>,
}

/// What is to be asked of the machine.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The folder that the disk is judged by.
    pub disk_folder: PathBuf,
    /// Whether a file is written there to measure it.
    pub measures_disk: bool,
    /// The folder of engines.
    pub engine_dir: Option<PathBuf>,
}

impl Facts {
    /// The facts of a folder that stands for a machine; none of them known where it has no such file. Folders in it are under it.
    ///
    /// # Errors
    /// [`FactsError`], where the file says something else.
    pub fn read(root: &Root) -> Result<Facts, FactsError> {
        let path = root.join(FACTS_FILE);
        let shown = || path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Facts::default()),
            Err(error) => return Err(FactsError::System { path: shown(), cause: error.to_string() }),
        };
        let facts: Facts =
            toml::from_str(&text).map_err(|error| FactsError::NotFacts { path: shown(), cause: error.to_string() })?;
        let engine_dir = facts.engine_dir.map(|folder| root.join(&folder.to_string_lossy()));
        Ok(Facts { engine_dir, ..facts })
    }

    /// Asks the machine that this program runs on. What does not answer in time is unknown.
    pub fn ask(questions: Questions) -> Facts {
        let Questions { disk_folder, measures_disk, engine_dir } = questions;
        let (disk, disk_failed) = match disk::measure(&disk_folder, measures_disk) {
            Ok(facts) => (Some(facts), None),
            Err(cause) => (None, Some(cause)),
        };
        Facts {
            uid: Some(getuid().as_raw()),
            gids: getgroups().ok().map(|groups| groups.iter().map(|group| group.as_raw()).collect()),
            locked_memory_bytes: Some(Limit::of(Resource::Memlock)),
            realtime_priority: Some(Limit::of(Resource::Rtprio)),
            clock_synchronised: clock_synchronised(),
            disk_folder: Some(disk_folder),
            disk,
            disk_failed,
            nvidia_smi: output_within(PATIENCE, "nvidia-smi", &[SMI_QUERY, "--format=csv,noheader"]),
            ip_link: output_within(PATIENCE, "ip", &["-details", "-json", "link", "show", "type", "can"]),
            gpu: probe(),
            cameras: cameras(),
            denied: Vec::new(),
            engine_dir,
            library_folders: library_folders(),
        }
    }
}

/// `timedatectl` asks `adjtimex`, for which there is no safe call; a system without it leaves the question open.
fn clock_synchronised() -> Option<bool> {
    let answer = output_within(PATIENCE, "timedatectl", &["show", "--property=NTPSynchronized", "--value"])?;
    match answer.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// None where this build cannot ask.
fn probe() -> Option<Probe> {
    if !cfg!(feature = "cuda") {
        return None;
    }
    Some(match within(2 * PATIENCE, crate::gpu::probe) {
        Some(Ok(device)) => {
            let capability = [device.capability.0, device.capability.1];
            Probe::Device { name: device.name, capability, cuda: device.driver_version }
        }
        Some(Err(error)) => Probe::Failed(error.to_string()),
        None => Probe::Failed("the driver does not answer".to_owned()),
    })
}

fn cameras() -> Vec<CameraFacts> {
    let names = Root::new("/").names("/dev").into_iter().filter(|name| is_camera(name));
    names.filter_map(|name| camera(format!("/dev/{name}"))).collect()
}

/// Whether a name in `/dev` is that of a video device.
pub(super) fn is_camera(name: &str) -> bool {
    name.strip_prefix("video")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// None for a device that is no camera, as those that carry metadata.
fn camera(path: String) -> Option<CameraFacts> {
    let asked = PathBuf::from(&path);
    let answer = within(PATIENCE, move || {
        let camera = Camera::open(&asked)?;
        let formats = camera.formats()?.iter().map(|format| format.fourcc.to_string()).collect::<Vec<_>>();
        Ok((camera.info().clone(), formats))
    });
    let silent = |state| CameraFacts {
        path: path.clone(),
        card: String::new(),
        driver: String::new(),
        bus: String::new(),
        formats: Vec::new(),
        state,
    };
    match answer {
        None => Some(silent(CameraState::Refused("it does not answer".to_owned()))),
        Some(Ok((info, formats))) => {
            let (card, driver, bus) = (info.card, info.driver, info.bus);
            Some(CameraFacts { card, driver, bus, formats, ..silent(CameraState::Opens) })
        }
        Some(Err(CameraError::NoCamera { .. })) => None,
        Some(Err(CameraError::Busy { .. })) => Some(silent(CameraState::Busy)),
        Some(Err(error)) => Some(silent(CameraState::Refused(error.to_string()))),
    }
}

fn library_folders() -> Vec<String> {
    let lists = ["CATSEYE_TENSORRT_LIB", "LD_LIBRARY_PATH"].into_iter().filter_map(std::env::var_os);
    let folders = lists.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    folders.filter(|folder| folder.is_absolute()).filter_map(|folder| Some(folder.to_str()?.to_owned())).collect()
}

/// Where the engines of this machine are, by the rules of the store: the folder named, or the user's own.
pub fn engine_dir(named: Option<&Path>) -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named
        .map(Path::to_path_buf)
        .or_else(|| of("CATSEYE_ENGINE_DIR"))
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("catseye/engines")))
        .or_else(|| of("HOME").map(|home| home.join(".cache/catseye/engines")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(Facts::read(&root).unwrap(), Facts::default());
        let text = "locked_memory_bytes = \"unlimited\"\nrealtime_priority = 99\nengine_dir = \"/engines\"\n\
                    gpu = { device = { name = \"Orin\", capability = [8, 7], cuda = 11040 } }\n\
                    [[cameras]]\npath = \"/dev/video0\"\nstate = \"busy\"\n\
                    [[cameras]]\npath = \"/dev/video1\"\nstate = { refused = \"no\" }\n";
        std::fs::write(root.join(FACTS_FILE), text).unwrap();
        let facts = Facts::read(&root).unwrap();
        assert_eq!(facts.locked_memory_bytes, Some(Limit::Unlimited(Unlimited::Unlimited)));
        assert_eq!(facts.realtime_priority, Some(Limit::At(99)));
        assert_eq!(facts.engine_dir, Some(folder.path().join("engines")));
        assert_eq!(facts.cameras[0].state, CameraState::Busy);
        std::fs::write(root.join(FACTS_FILE), "locked_memory = 1").unwrap();
        assert!(
            matches!(Facts::read(&root), Err(FactsError::NotFacts { cause, .. }) if cause.contains("locked_memory"))
        );
    }

    #[test]
    fn this_machine_answers() {
        let folder = tempfile::tempdir().unwrap();
        let disk_folder = folder.path().to_path_buf();
        let facts = Facts::ask(Questions { disk_folder, measures_disk: false, engine_dir: None });
        assert!(facts.uid.is_some() && facts.gids.is_some() && facts.locked_memory_bytes.is_some());
        assert!(facts.disk.is_some_and(|disk| disk.total_bytes > 0 && disk.write_bytes_per_s.is_none()));
    }

    #[test]
    fn cameras_have_names_with_numbers() {
        assert!(is_camera("video0") && is_camera("video12"));
        assert!(!is_camera("video") && !is_camera("videodev") && !is_camera("v4l-subdev0"));
    }
}
