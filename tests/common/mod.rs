//! What the whole-program tests share: real drives where there are any, and runs whose digests are kept.

#![allow(dead_code)] // each test uses its part

pub mod emulation;
#[cfg(target_os = "linux")]
pub mod lidar;
pub mod onnx;
pub mod small;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use catseye::log::import::{ImportKind, ImportOptions, import};
use catseye::log::notes::Names;
use catseye::log::run::{RunHeader, RunWriter};
use catseye::messages::{Account, DropDecision, StageDigest};
use catseye::pipeline::{DigestLevel, Files, Pipeline, Settings};
use catseye::replay::{Options, ReplayError, Summary, replay};
use catseye::source::Preamble;
use catseye::stages::infer::BackendChoice;
use catseye::tap::{Body, Output, Sink, Tap, TapError};
use catseye_calibration::rig::{Model, Rig};

/// The folder of real data, if it is there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if !path.exists() {
        eprintln!("skipped: ../shared is absent");
        return None;
    }
    Some(path)
}

/// A log with the rig and files that came with it.
pub struct Drive {
    pub log: PathBuf,
    pub rig: Rig,
    pub files: catseye::pipeline::Files,
}

/// Imports real data into a folder.
pub fn drive(kind: ImportKind, path: &str, folder: &Path) -> Option<Drive> {
    let src = shared(path)?;
    let log = folder.join(format!("{}.mcap", kind.name()));
    import(kind, &src, &log, &ImportOptions::default(), &mut |_, _| {}).unwrap();
    Some(opened(log))
}

pub fn opened(log: PathBuf) -> Drive {
    let preamble = Preamble::read(&log).unwrap();
    Drive { log, rig: preamble.rig.unwrap(), files: preamble.files }
}

/// Adds a model for all cameras.
pub fn with_model(mut drive: Drive, path: &str) -> Option<Drive> {
    let path = shared(path)?;
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let cameras = drive.rig.cameras.iter().map(|camera| camera.name.clone()).collect();
    drive.rig.models.push(Model::new(name, Some(path), cameras));
    Some(drive)
}

/// Adds a model for all cameras where a test needs one that sees things, no matter which: an emulated processor gets a small one.
pub fn with_any_model(mut drive: Drive, path: &str) -> Option<Drive> {
    if !emulation::is_emulated() {
        return with_model(drive, path);
    }
    let file = PathBuf::from("small.onnx");
    drive.files.insert(file.clone(), small::three_cars());
    let cameras = drive.rig.cameras.iter().map(|camera| camera.name.clone()).collect();
    drive.rig.models.push(Model::new("small", Some(file), cameras));
    Some(drive)
}

/// One tick as a test sees it.
pub struct Seen {
    pub tick: u64,
    pub reference_ns: i64,
    pub digests: Vec<StageDigest>,
    pub faults: Vec<String>,
    pub body: Option<Box<Body>>,
}

struct Keep {
    names: Names,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Sink for Keep {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        let tick = output.decision.tick;
        let body = output.body.as_ref().map(|body| {
            Box::new(Body {
                detections: body.detections.clone(),
                tracks: body.tracks.clone(),
                world: body.world.clone(),
                plan: body.plan.clone(),
                pictures: Vec::new(),
            })
        });
        self.seen.lock().unwrap().push(Seen {
            tick,
            reference_ns: output.decision.reference_ns,
            digests: self.names.digests(tick, &output.digests),
            faults: output.faults.iter().map(|fault| fault.message.clone()).collect(),
            body,
        });
        Ok(())
    }

    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        Ok(())
    }
}

/// Makes a sink once the names of a run are known.
pub type MakeSink = Box<dyn FnOnce(&Names) -> Box<dyn Sink>>;

/// How a test runs a drive.
pub struct Run {
    pub settings: Settings,
    pub options: Options,
    pub out: Option<PathBuf>,
    pub record: bool,
    pub sinks: Vec<MakeSink>,
}

impl Run {
    pub fn new(workers: usize) -> Self {
        let settings = Settings {
            backend: BackendChoice::Rten,
            lanes: workers,
            digests: DigestLevel::All,
            snapshot_every: 25,
            ..Settings::default()
        };
        let options = Options { workers, ..Options::default() };
        Run { settings, options, out: None, record: false, sinks: Vec::new() }
    }
}

/// Runs a drive and keeps everything.
pub fn run(drive: &Drive, run: Run) -> (Vec<Seen>, Summary) {
    let Run { settings, options, out, record, sinks } = run;
    let pipeline = Pipeline::build(&drive.rig, &drive.files, settings).unwrap();
    let stop = AtomicBool::new(false);
    let sensors = record.then_some(drive.log.as_path());
    run_with(&drive.rig, &drive.files, pipeline, (out.as_deref(), sensors, sinks), |pipeline, tap| {
        replay(&drive.log, &drive.rig, pipeline, &options, tap, &stop, &mut |_, _, _| {})
    })
}

/// Runs a pipeline on whatever is given to it, and keeps everything.
pub fn run_on(
    rig: &Rig,
    files: &Files,
    pipeline: Pipeline,
    out: Option<&Path>,
    go: impl FnOnce(Pipeline, Tap) -> Result<Summary, ReplayError>,
) -> (Vec<Seen>, Summary) {
    run_with(rig, files, pipeline, (out, None, Vec::new()), go)
}

fn run_with(
    rig: &Rig,
    files: &Files,
    pipeline: Pipeline,
    (out, sensors, sinks): (Option<&Path>, Option<&Path>, Vec<MakeSink>),
    go: impl FnOnce(Pipeline, Tap) -> Result<Summary, ReplayError>,
) -> (Vec<Seen>, Summary) {
    let names = Names::of(&pipeline, rig);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut all: Vec<Box<dyn Sink>> = vec![Box::new(Keep { names: names.clone(), seen: Arc::clone(&seen) })];
    if let Some(out) = out {
        // all that is digested goes into the header as what was asked for
        let entries = catseye::header::run_header(rig, files, &pipeline, DigestLevel::All);
        let header = RunHeader { entries, rig_toml: rig.to_toml(), files: files.clone() };
        all.push(Box::new(RunWriter::create(out, &header, names.clone(), sensors).unwrap()));
    }
    all.extend(sinks.into_iter().map(|sink| sink(&names)));
    let summary = go(pipeline, Tap::start(all, 0).unwrap()).unwrap();
    let seen = Arc::into_inner(seen).map(|seen| seen.into_inner().unwrap());
    (seen.unwrap_or_default(), summary)
}

/// Digests of all ticks, for comparison.
pub fn digests(seen: &[Seen]) -> Vec<&[StageDigest]> {
    seen.iter().map(|seen| seen.digests.as_slice()).collect()
}
