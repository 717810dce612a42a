//! Live sensors: what their drivers give becomes packets on one time line, for a pipeline and for a recording.
//!
//! Each sensor that the rig gives a `source` has a thread of its own, which waits for its device, maps the device's stamps to
//! the host's time line and sends packets on: to the edge of a run through a bounded channel, as a log's packets come, and to a
//! recorder. A packet has the same number in both, so that a recording replays by the run's decisions to the run's bits.
//!
//! Promised: nothing waits for the edge or the disk; what finds no room is counted. A device that goes away is told of and
//! comes back into the same sensor when it is there again.

pub mod camera;
pub mod can;
pub mod clock;
pub mod lidar;
mod outlet;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use catseye_calibration::rig::{Rig, SensorInfo};
use catseye_sensors::packet::SensorId;
use thiserror::Error;

use outlet::Watch;
pub use outlet::{Measurement, Outlet, SensorCounts, SensorTiming, Stamped};

use crate::log::recorder::priority::Priority;
use crate::log::recorder::{self, Preamble, RecordError, Recorder};
use crate::log::{Channel, RIG_ATTACHMENT, SOURCE_HEADER};
use crate::pipeline::Files;
use crate::realtime::pulse::{Beat, Pulse};
use crate::realtime::{Footing, Role};
use crate::source::{Item, Source, SourceSummary};
use clock::HostClock;

/// Packets that may wait for the edge: a second of a dozen cameras and a busy bus.
const WAITING: usize = 4096;
/// How often a sensor's thread looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(50);

/// Why sensors could not be started.
#[derive(Debug, Error)]
pub enum LiveError {
    /// No sensor of the rig has a source.
    #[error(
        "rig {rig:?}: expected a `source` at one sensor or more, as \"/dev/video0\", \"can0\" or \"udp://0.0.0.0:2368\", found none"
    )]
    NoSource {
        /// The rig.
        rig: String,
    },
    /// A sensor's source is none that it can have.
    #[error("sensor {sensor}: expected {expected} as source, found {found:?}")]
    Source {
        /// The sensor.
        sensor: String,
        /// What it can have.
        expected: &'static str,
        /// What it has.
        found: String,
    },
    /// A sensor's device cannot be used.
    #[error("sensor {sensor}: {error}")]
    Device {
        /// The sensor.
        sensor: String,
        /// Why.
        error: String,
    },
    /// There is no thread for a sensor.
    #[error("sensor {sensor}: no thread: {error}")]
    Thread {
        /// The sensor.
        sensor: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// The recording cannot be started.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Something that gives a sensor's measurements until it is told to end.
pub trait Driver: Send {
    /// The sensor's messages in a recording.
    fn channel(&self, topic: &str) -> Channel;

    /// Opens the device, says so, and takes what comes. It returns early only where the device could not be opened at first.
    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>));
}

/// Where a recording goes.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The folder.
    pub folder: PathBuf,
    /// The name that its files begin with.
    pub name: String,
    /// How it is made.
    pub options: recorder::Options,
}

/// What happens while sensors are live, in words: the sensor and what became of it.
pub type Tell = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How sensors are run.
pub struct LiveOptions {
    /// Ends when this is set.
    pub stop: &'static AtomicBool,
    /// Ends after so long.
    pub duration: Option<Duration>,
    /// Whether packets go to a pipeline.
    pub to_pipeline: bool,
    /// Where they are recorded.
    pub recording: Option<Recording>,
    /// Who hears of devices that go and come.
    pub tell: Tell,
    /// What the sensors' threads were granted.
    pub footing: Footing,
    /// Where sensors and recorder show that they go on.
    pub pulse: Pulse,
}

/// What sensors gave.
#[derive(Debug, Default)]
pub struct LiveReport {
    /// By sensor.
    pub sensors: BTreeMap<String, SensorCounts>,
    /// By sensor, for those that measured something.
    pub timing: BTreeMap<String, SensorTiming>,
    /// The recording, if there was one.
    pub recording: Option<recorder::Summary>,
    /// What went wrong with it, which is a bug.
    pub recording_failed: Option<String>,
}

/// Sensors at work.
pub struct Live {
    supervisor: JoinHandle<Vec<Ended>>,
    recorder: Option<Arc<Recorder>>,
}

impl Live {
    /// Starts every sensor that has a source. Gives what a pipeline reads from, too.
    ///
    /// # Errors
    /// When a device cannot be opened now: one that goes away later is waited for.
    pub fn start(rig: &Rig, files: &Files, options: LiveOptions) -> Result<(Live, Source), LiveError> {
        let sensors = sources(rig)?;
        let ending = Arc::new(AtomicBool::new(false));
        let (recorder, slots) = match &options.recording {
            None => (None, Vec::new()),
            Some(recording) => {
                let (preamble, slots) = preamble(rig, files, &sensors);
                let Recording { folder, name, options } = recording;
                (Some(Arc::new(Recorder::start(folder, name, preamble, *options)?)), slots)
            }
        };
        let (edge, items) = sync_channel(WAITING);
        let clock = HostClock::start();
        let mut threads = Vec::new();
        for (index, LiveSensor { name, id, driver }) in sensors.into_iter().enumerate() {
            let outlet = Outlet {
                name: name.clone(),
                sensor: id,
                clock,
                sequence: 0,
                edge: options.to_pipeline.then(|| edge.clone()),
                recorder: recorder.clone().zip(slots.get(index).copied()),
                ending: Arc::clone(&ending),
                tell: Arc::clone(&options.tell),
                watch: Watch::new(),
                pulse: options.pulse.clone(),
                beat: options.pulse.part(&name),
                counts: SensorCounts::default(),
            };
            match start_sensor(name, driver, outlet, options.footing.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    ending.store(true, Ordering::Relaxed);
                    threads.into_iter().for_each(|(_, thread)| drop(thread.join()));
                    return Err(error);
                }
            }
        }
        let recording = recorder.clone().map(|recorder| Watched {
            recorder,
            turns: 0,
            has_ended: false,
            beat: options.pulse.part("recorder"),
        });
        let supervisor = Supervisor {
            threads,
            ending,
            stop: options.stop,
            until: until(options.duration),
            edge,
            recording,
            pulse: options.pulse,
        };
        let supervisor = std::thread::Builder::new().name("catseye-live".to_owned()).spawn(move || supervisor.run());
        let supervisor = supervisor.map_err(|error| LiveError::Thread { sensor: "(all)".to_owned(), error })?;
        Ok((Live { supervisor, recorder }, Source::live(items)))
    }

    /// Waits for the end, closes the recording, and tells what came.
    pub fn finish(self) -> LiveReport {
        let mut report = LiveReport::default();
        for Ended { name, counts, timing } in self.supervisor.join().unwrap_or_default() {
            report.timing.extend(timing.map(|timing| (name.clone(), timing)));
            report.sensors.insert(name, counts);
        }
        if let Some(recorder) = self.recorder.and_then(Arc::into_inner) {
            match recorder.stop() {
                Ok(summary) => report.recording = Some(summary),
                Err(error) => report.recording_failed = Some(error.to_string()),
            }
        }
        report
    }
}

fn until(duration: Option<Duration>) -> Option<Instant> {
    duration.and_then(|duration| Instant::now().checked_add(duration))
}

/// Ends all sensors when it is time, and tells the edge that nothing more comes.
struct Supervisor {
    threads: Vec<SensorThread>,
    ending: Arc<AtomicBool>,
    stop: &'static AtomicBool,
    until: Option<Instant>,
    edge: SyncSender<Item>,
    recording: Option<Watched>,
    pulse: Pulse,
}

/// A recorder and its sign of life.
struct Watched {
    recorder: Arc<Recorder>,
    turns: u64,
    has_ended: bool,
    beat: Beat,
}

impl Watched {
    /// Beats for a recorder that has gone round. One that ended by itself has told so.
    fn look(&mut self, pulse: &Pulse) {
        let turns = self.recorder.turns();
        let ending = self.recorder.ending();
        if std::mem::replace(&mut self.turns, turns) != turns || ending.is_some() {
            self.beat.beat();
        }
        if let Some(ending) = ending
            && !std::mem::replace(&mut self.has_ended, true)
        {
            pulse.note(format!("the recording has ended: {ending}"));
        }
    }
}

impl Supervisor {
    fn run(mut self) -> Vec<Ended> {
        let is_over = || self.stop.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until);
        while !is_over() && self.threads.iter().any(|(_, thread)| !thread.is_finished()) {
            std::thread::sleep(PATIENCE / 5);
            if let Some(recording) = &mut self.recording {
                recording.look(&self.pulse);
            }
        }
        self.pulse.end();
        self.recording = None;
        self.ending.store(true, Ordering::Relaxed);
        // a sensor's thread that has panicked has counted nothing
        let end = |(name, thread): SensorThread| {
            let (counts, timing) = thread.join().unwrap_or_default();
            Ended { name, counts, timing }
        };
        let ended = self.threads.into_iter().map(end).collect();
        // it waits for room, since a run does not end without it; nobody reads any more where the run has ended first, or where
        // there is none
        let _ = self.edge.send(Item::End(Box::new(SourceSummary::live())));
        ended
    }
}

/// A sensor's name and its thread.
type SensorThread = (String, JoinHandle<(SensorCounts, Option<SensorTiming>)>);

/// What a sensor's thread leaves.
struct Ended {
    name: String,
    counts: SensorCounts,
    timing: Option<SensorTiming>,
}

fn start_sensor(
    name: String,
    mut driver: Box<dyn Driver>,
    mut outlet: Outlet,
    footing: Footing,
) -> Result<SensorThread, LiveError> {
    let (told, opened) = sync_channel(1);
    let run = move || {
        footing.take(Role::Sensor);
        driver.run(&mut outlet, &mut |result| drop(told.try_send(result)));
        (outlet.counts, outlet.watch.timing())
    };
    let thread = std::thread::Builder::new().name(format!("sensor-{name}")).spawn(run);
    let thread = thread.map_err(|error| LiveError::Thread { sensor: name.clone(), error })?;
    match wait_for(&opened) {
        Ok(()) => Ok((name, thread)),
        Err(error) => Err(LiveError::Device { sensor: name, error }),
    }
}

fn wait_for(opened: &Receiver<Result<(), String>>) -> Result<(), String> {
    opened.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned()))
}

struct LiveSensor {
    name: String,
    id: SensorId,
    driver: Box<dyn Driver>,
}

/// The sensors that have a source, with their drivers, in the order of their numbers.
fn sources(rig: &Rig) -> Result<Vec<LiveSensor>, LiveError> {
    let mut sensors = Vec::new();
    for SensorInfo { id, name, .. } in rig.sensors() {
        let Some(source) = rig.sources.get(name) else { continue };
        let driver: Option<Box<dyn Driver>> = if let Some(camera) = rig.cameras.iter().find(|one| one.name == name) {
            Some(camera::driver(camera, source)?)
        } else if let Some(lidar) = rig.lidars.iter().find(|one| one.name == name) {
            Some(lidar::driver(lidar, source)?)
        } else {
            rig.cans.iter().position(|one| one.name == name).map(|at| can::driver(at as u8, source))
        };
        let expected = "none, since only cameras, lidars and CAN buses can be live yet,";
        let wrong = || LiveError::Source { sensor: name.to_owned(), expected, found: source.clone() };
        let driver = driver.ok_or_else(wrong)?;
        sensors.push(LiveSensor { name: name.to_owned(), id: SensorId(id), driver });
    }
    if sensors.is_empty() {
        return Err(LiveError::NoSource { rig: rig.name.clone() });
    }
    Ok(sensors)
}

/// What every file of the recording begins with. Small streams are the last to give way: they cost little and say much.
fn preamble(rig: &Rig, files: &Files, sensors: &[LiveSensor]) -> (Preamble, Vec<recorder::priority::Slot>) {
    let mut preamble = Preamble::default();
    let source = [("kind", "live"), ("file", rig.name.as_str())];
    preamble.metadata(SOURCE_HEADER, source.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let without_folder = Rig { directory: PathBuf::new(), ..rig.clone() };
    preamble.attach(RIG_ATTACHMENT, "application/toml", without_folder.to_toml().into_bytes());
    for (name, bytes) in files {
        preamble.attach(&name.display().to_string(), "application/octet-stream", bytes.clone());
    }
    let slots = sensors.iter().map(|LiveSensor { name, driver, .. }| {
        let topic = rig.sensor(name).map_or_else(String::new, |sensor| sensor.topic.to_owned());
        let is_camera = rig.cameras.iter().any(|camera| camera.name == *name);
        let is_lidar = rig.lidars.iter().any(|lidar| lidar.name == *name);
        let priority = Priority(if is_camera {
            1
        } else if is_lidar {
            2
        } else {
            3
        });
        preamble.channel(driver.channel(&topic), priority)
    });
    let slots = slots.collect();
    (preamble, slots)
}
