//! Live sensors: what their drivers give becomes packets on one time line, for a pipeline and for a recording.
//!
//! Each sensor that the rig gives a `source` has a thread of its own, which waits for its device, maps the device's stamps to
//! the host's time line and sends packets on: to the edge of a run through a bounded channel, as a log's packets come, and to a
//! recorder. A packet has the same number in both, so that a recording replays by the run's decisions to the run's bits.
//!
//! Promised: nothing waits for the edge or the disk; what finds no room is counted. A device that goes away is told of and
//! comes back into the same sensor when it is there again. A run begins when every sensor is open: a start that fails leaves no
//! recording.

pub mod camera;
pub mod can;
pub mod clock;
pub mod exporter;
mod frames;
pub mod gnss;
pub mod imu;
pub mod lidar;
pub mod ouster;
mod outlet;
pub mod radar;
pub mod signals;
pub mod stream;
mod timing;
pub mod udp;
pub mod ultrasonic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use catseye_calibration::rig::{Rig, SensorInfo, SensorKind, Source as RigSource};
use catseye_sensors::packet::SensorId;
use thiserror::Error;

use outlet::Ways;
pub use outlet::{Measurement, Outlet, PixelBytes, SensorCounts, Stamped};
pub use timing::SensorTiming;
use timing::Watch;

use crate::log::recorder::priority::Priority;
use crate::log::recorder::{self, Preamble, RecordError, Recorder};
use crate::log::{Channel, RIG_ATTACHMENT, SOURCE_HEADER};
use crate::pipeline::{Files, PictureMemory};
use crate::realtime::pulse::{Beat, Pulse};
use crate::realtime::{Footing, Role};
use crate::source::{Item, Source, SourceSummary};
use clock::HostClock;

/// Packets that may wait for the edge: a second of a dozen cameras and a busy bus.
const WAITING: usize = 4096;
/// How often a sensor's thread looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(50);
/// A device that has gone is looked for again after so long, and then after twice as long each time, up to the second number.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

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
    /// A file that a sensor needs cannot be used, or does not have what the rig says.
    #[error("sensor {sensor}: {key}: {error}")]
    File {
        /// The sensor.
        sensor: String,
        /// Its key in the rig.
        key: String,
        /// Why.
        error: String,
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

impl LiveError {
    fn wrong_source(sensor: &str, found: &RigSource) -> Self {
        let expected = "one of its kind";
        LiveError::Source { sensor: sensor.to_owned(), expected, found: found.to_string() }
    }
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
    /// Where packets go to a pipeline, the memory that its pictures lie in.
    pub pipeline: Option<PictureMemory>,
    /// Where they are recorded.
    pub recording: Option<Recording>,
    /// Whether the report tells how stamps lie against the host's time line.
    pub timing: bool,
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
    /// By sensor, for those that measured something, where it was asked for.
    pub timing: BTreeMap<String, SensorTiming>,
    /// The recording, if there was one.
    pub recording: Option<recorder::Summary>,
    /// What went wrong with it, which is a bug.
    pub recording_failed: Option<String>,
}

/// Sensors at work.
pub struct Live {
    supervisor: JoinHandle<Vec<Ended>>,
    ways: Arc<OnceLock<Ways>>,
}

impl Live {
    /// Starts every sensor that has a source. Gives what a pipeline reads from, too.
    ///
    /// # Errors
    /// When a device cannot be opened now: one that goes away later is waited for.
    pub fn start(rig: &Rig, files: &Files, options: LiveOptions) -> Result<(Live, Source), LiveError> {
        let sensors = sources(rig, files)?;
        let (preamble, slots) = preamble(rig, files, &sensors);
        let (edge, items) = sync_channel(WAITING);
        let crew = Crew::start(sensors, &slots, &options)?;
        let recorder = options.recording.as_ref().map(|Recording { folder, name, options }| {
            Recorder::start(folder, name, preamble, *options).map_err(LiveError::from)
        });
        let recorder = match recorder.transpose() {
            Ok(recorder) => recorder,
            Err(error) => {
                crew.end();
                return Err(error);
            }
        };
        let ways = Arc::clone(&crew.ways);
        let recording = recorder.is_some().then(|| Watched {
            ways: Arc::clone(&ways),
            turns: 0,
            has_ended: false,
            beat: options.pulse.part("recorder"),
        });
        // nobody else sets it
        let _ = ways.set(Ways { edge: options.pipeline.is_some().then(|| edge.clone()), recorder });
        let until = until(options.duration);
        let supervisor = Supervisor { crew, stop: options.stop, until, edge, recording, pulse: options.pulse };
        let supervisor = std::thread::Builder::new().name("catseye-live".to_owned()).spawn(move || supervisor.run());
        let supervisor = supervisor.map_err(|error| LiveError::Thread { sensor: "(all)".to_owned(), error })?;
        Ok((Live { supervisor, ways }, Source::live(items)))
    }

    /// Waits for the end, closes the recording, and tells what came.
    pub fn finish(self) -> LiveReport {
        let mut report = LiveReport::default();
        for Ended { name, counts, timing } in self.supervisor.join().unwrap_or_default() {
            report.timing.extend(timing.map(|timing| (name.clone(), timing)));
            report.sensors.insert(name, counts);
        }
        if let Some(recorder) = Arc::into_inner(self.ways).and_then(OnceLock::into_inner).and_then(|ways| ways.recorder)
        {
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

/// The sensors' threads, and the ways out that they share.
struct Crew {
    threads: Vec<SensorThread>,
    ending: Arc<AtomicBool>,
    ways: Arc<OnceLock<Ways>>,
}

impl Crew {
    /// Opens every sensor. What they measure goes nowhere yet.
    fn start(
        sensors: Vec<LiveSensor>,
        slots: &[recorder::priority::Slot],
        options: &LiveOptions,
    ) -> Result<Self, LiveError> {
        let (ending, ways) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
        let mut crew = Crew { threads: Vec::new(), ending, ways };
        let clock = HostClock::start();
        for (LiveSensor { name, id, driver }, slot) in sensors.into_iter().zip(slots) {
            let outlet = Outlet {
                name: name.clone(),
                sensor: id,
                clock,
                sequence: 0,
                ways: Arc::clone(&crew.ways),
                slot: options.recording.is_some().then_some(*slot),
                pictures: options.pipeline.clone(),
                ending: Arc::clone(&crew.ending),
                tell: Arc::clone(&options.tell),
                own_clock: timing::mapper(),
                watch: options.timing.then(Watch::new),
                pulse: options.pulse.clone(),
                beat: options.pulse.part(&name),
                counts: SensorCounts::default(),
            };
            match start_sensor(name, driver, outlet, options.footing.clone()) {
                Ok(thread) => crew.threads.push(thread),
                Err(error) => {
                    crew.end();
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    fn is_at_work(&self) -> bool {
        self.threads.iter().any(|(_, thread)| !thread.is_finished())
    }

    fn end(self) -> Vec<Ended> {
        self.ending.store(true, Ordering::Relaxed);
        // a sensor's thread that has panicked has counted nothing
        let end = |(name, thread): SensorThread| {
            let (counts, timing) = thread.join().unwrap_or_default();
            Ended { name, counts, timing }
        };
        self.threads.into_iter().map(end).collect()
    }
}

/// Ends all sensors when it is time, and tells the edge that nothing more comes.
struct Supervisor {
    crew: Crew,
    stop: &'static AtomicBool,
    until: Option<Instant>,
    edge: SyncSender<Item>,
    recording: Option<Watched>,
    pulse: Pulse,
}

/// A recorder and its sign of life.
struct Watched {
    ways: Arc<OnceLock<Ways>>,
    turns: u64,
    has_ended: bool,
    beat: Beat,
}

impl Watched {
    /// Beats for a recorder that has gone round. One that ended by itself has told so.
    fn look(&mut self, pulse: &Pulse) {
        let Some(recorder) = self.ways.get().and_then(|ways| ways.recorder.as_ref()) else { return };
        let (turns, ending) = (recorder.turns(), recorder.ending());
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
        while !is_over() && self.crew.is_at_work() {
            std::thread::sleep(PATIENCE / 5);
            if let Some(recording) = &mut self.recording {
                recording.look(&self.pulse);
            }
        }
        self.pulse.end();
        self.recording = None;
        let ended = self.crew.end();
        // it waits for room, since a run does not end without it; nobody reads any more where the run has ended first, or where
        // there is none
        let _ = self.edge.send(Item::End(Box::new(SourceSummary::live())));
        ended
    }
}

/// Opens a device that has gone as soon as it is back, ever more rarely; `None` at the end.
fn again<T>(outlet: &Outlet, mut open: impl FnMut() -> Option<T>) -> Option<T> {
    let [mut pause, longest] = LOOK_AGAIN;
    let mut next = Instant::now() + pause;
    while !outlet.is_over() {
        if Instant::now() < next {
            std::thread::sleep(PATIENCE / 2);
            continue;
        }
        if let Some(opened) = open() {
            return Some(opened);
        }
        pause = (pause * 2).min(longest);
        next = Instant::now() + pause;
    }
    None
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
        let timing = outlet.timing();
        (outlet.counts, timing)
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
fn sources(rig: &Rig, files: &Files) -> Result<Vec<LiveSensor>, LiveError> {
    let mut sensors = Vec::new();
    for sensor in rig.sensors() {
        let Some(source) = rig.sources.get(sensor.name) else { continue };
        let driver = driver(&sensor, source, rig, files)?;
        let driver = driver.ok_or_else(|| LiveError::wrong_source(sensor.name, source))?;
        sensors.push(LiveSensor { name: sensor.name.to_owned(), id: SensorId(sensor.id), driver });
    }
    if sensors.is_empty() {
        return Err(LiveError::NoSource { rig: rig.name.clone() });
    }
    Ok(sensors)
}

/// The driver of one sensor; `None` for a source that such a sensor cannot have.
pub(crate) fn driver(
    sensor: &SensorInfo<'_>,
    source: &RigSource,
    rig: &Rig,
    files: &Files,
) -> Result<Option<Box<dyn Driver>>, LiveError> {
    let name = sensor.name;
    Ok(match (sensor.kind, source) {
        (SensorKind::Camera, RigSource::Exporter(exporter)) => {
            rig.camera(name).map(|camera| exporter::driver(camera, exporter)).transpose()?
        }
        (SensorKind::Camera, _) => rig.camera(name).map(|camera| camera::driver(camera, source)).transpose()?,
        (SensorKind::Lidar, RigSource::Udp(udp)) => {
            let lidar = rig.lidars.iter().find(|one| one.name == name);
            lidar.map(|lidar| lidar::driver(lidar, udp, rig, files)).transpose()?
        }
        (SensorKind::Radar, RigSource::Radar { udp, list }) => {
            rig.radars.iter().find(|one| one.name == name).map(|radar| radar::driver(radar, udp, *list))
        }
        (SensorKind::Gnss, RigSource::Serial { .. } | RigSource::Tcp(_) | RigSource::Udp(_)) => {
            Some(gnss::driver(source))
        }
        (SensorKind::Imu, _) => match rig.imus.iter().find(|one| one.name == name) {
            Some(imu) => imu::driver(imu, source, rig, files)?,
            None => None,
        },
        (SensorKind::Ultrasonic, _) => match rig.ultrasonics.iter().find(|one| one.name == name) {
            Some(sonar) => ultrasonic::driver(sonar, source, rig, files)?,
            None => None,
        },
        (SensorKind::Can, RigSource::Can(interface)) => {
            rig.cans.iter().position(|one| one.name == name).map(|at| can::driver(at as u8, interface))
        }
        _ => None,
    })
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
