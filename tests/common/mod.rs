//! What the whole-program tests share: real drives where there are any, and runs whose digests are kept.

#![allow(dead_code)] // each test uses its part

pub mod onnx;
pub mod small;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use catseye::log::import::{ImportKind, ImportOptions, import};
use catseye::log::notes::Names;
use catseye::log::run::{RunHeader, RunWriter};
use catseye::messages::{Account, DropDecision, StageDigest};
use catseye::pipeline::{DigestLevel, Pipeline, Settings};
use catseye::replay::{Options, Summary, replay};
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
    let digests = run.settings.digests;
    let pipeline = Pipeline::build(&drive.rig, &drive.files, run.settings).unwrap();
    let names = Names::of(&pipeline, &drive.rig);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(Keep { names: names.clone(), seen: Arc::clone(&seen) })];
    if let Some(out) = &run.out {
        let header = RunHeader {
            entries: catseye::header::run_header(&drive.rig, &drive.files, &pipeline, digests),
            rig_toml: drive.rig.to_toml(),
            files: drive.files.clone(),
        };
        let sensors = run.record.then_some(drive.log.as_path());
        sinks.push(Box::new(RunWriter::create(out, &header, names.clone(), sensors).unwrap()));
    }
    sinks.extend(run.sinks.into_iter().map(|sink| sink(&names)));
    let tap = Tap::start(sinks, 0).unwrap();
    let stop = AtomicBool::new(false);
    let summary = replay(&drive.log, &drive.rig, pipeline, &run.options, tap, &stop, &mut |_, _, _| {}).unwrap();
    let seen = Arc::into_inner(seen).map(|seen| seen.into_inner().unwrap());
    (seen.unwrap_or_default(), summary)
}

/// Digests of all ticks, for comparison.
pub fn digests(seen: &[Seen]) -> Vec<&[StageDigest]> {
    seen.iter().map(|seen| seen.digests.as_slice()).collect()
}
