//! The pipeline: a rig and its models become a graph that is ready to run.
//!
//! Loads models, recognises their heads, opens one engine session per lane, sizes the pool from the rig, and describes what
//! it made, so that a log can say what ran. Nothing here runs per tick.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catseye_calibration::rig::{self, Rig};
use catseye_sensors::can::dbc::{Dbc, DbcError};
use catseye_sensors::picture::Limits;
use thiserror::Error;

use crate::messages::WorldModel;
use crate::runtime::graph::{Builder, Graph, GraphError, Options, Probe, Slot, Stage};
use crate::runtime::latest::Reader;
use crate::runtime::pool::Pool;
use crate::stages::Tick;
use crate::stages::decode::{DecodeHeadError, Head};
use crate::stages::fuse::Fuse;
use crate::stages::handoff::Handoff;
use crate::stages::infer::{Backend, BackendChoice, BackendInfo, InferError, Model, load_backend};
use crate::stages::network::{DecodeStage, Infer, Network, Preprocess};
use crate::stages::plan::{FollowPlanner, PlanStage, Planner};
use crate::stages::preprocess::PreprocessError;
use crate::stages::track::TrackerSettings;
use crate::stages::track::stage::Track;
use crate::stages::unpack::Unpack;

/// Why a pipeline could not be made.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A model did not load.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// A model's head is not known.
    #[error("{file}: {error}")]
    Head {
        /// The model.
        file: PathBuf,
        /// What was found.
        error: DecodeHeadError,
    },
    /// A rig's model without a path.
    #[error("model {name:?} of rig {rig:?} has no path: expected `path = \"....onnx\"` in its [[model]]")]
    NoModelPath {
        /// The rig.
        rig: String,
        /// The model.
        name: String,
    },
    /// Two detectors on one camera.
    #[error("camera {camera:?} is served by two detectors, {first:?} and {second:?}: expected at most one")]
    TwoDetectors {
        /// The camera.
        camera: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A file that the rig names could not be read.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A DBC file is wrong.
    #[error(transparent)]
    Dbc(#[from] DbcError),
    /// A CAN signal of the rig is in none of its DBC files.
    #[error("rig {rig:?}, bus {bus:?}: expected signal {signal:?} in one of its DBC files, found none of that name")]
    NoSignal {
        /// The rig.
        rig: String,
        /// The bus.
        bus: String,
        /// The signal.
        signal: String,
    },
    /// A picture cannot be made into a model's input.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The network's size is not in the model and not in the rig.
    #[error(
        "{file}: its input has no fixed size: expected `--input WIDTHxHEIGHT` or input_width_px and input_height_px in the rig"
    )]
    NoInputSize {
        /// The model.
        file: PathBuf,
    },
}

/// What is digested of each tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestLevel {
    /// Nothing.
    Off,
    /// Pictures, points and what the stages conclude.
    #[default]
    Outputs,
    /// Tensors too.
    All,
}

/// How a pipeline is made. Only `backend` and `threads` can change an output.
pub struct Settings {
    /// The engine.
    pub backend: BackendChoice,
    /// Threads of each engine session.
    pub threads: usize,
    /// Copies of the stateless stages.
    pub lanes: usize,
    /// What is digested.
    pub digests: DigestLevel,
    /// Whether stages are timed.
    pub timings: bool,
    /// Ticks from snapshot to snapshot; 0 for none.
    pub snapshot_every: u64,
    /// How camera tracks are kept.
    pub tracker: TrackerSettings,
    /// Limits on pictures.
    pub limits: Limits,
    /// Somebody who looks in.
    pub probe: Option<Arc<dyn Probe<Tick>>>,
    /// Further stages, between fuse and handoff.
    pub stages: Vec<Box<dyn Stage<Tick>>>,
    /// The planner; the stub when none is given.
    pub planner: Option<Box<dyn Planner>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            backend: BackendChoice::Auto,
            threads: 1,
            lanes: 2,
            digests: DigestLevel::Outputs,
            timings: true,
            snapshot_every: 100,
            tracker: TrackerSettings::default(),
            limits: Limits::default(),
            probe: None,
            stages: Vec::new(),
            planner: None,
        }
    }
}

/// Files that came with a rig, by the name that the rig gives them.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A model and what runs it.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// How the pipeline uses it.
    pub network: Network,
    /// The file.
    pub file: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// The engine.
    pub backend: BackendInfo,
}

/// A graph that is ready to run, with its pool.
pub struct Pipeline {
    /// The stages.
    pub graph: Graph<Tick>,
    /// Slots for ticks in flight.
    pub pool: Pool<Slot<Tick>>,
    /// The models.
    pub models: Vec<LoadedModel>,
    /// Names of all classes: what `class` in a detection, track or object counts in.
    pub class_names: Vec<String>,
    /// The newest world model, for a planner on another thread.
    pub world: Reader<WorldModel>,
    /// What had to be assumed.
    pub assumptions: Vec<String>,
}

impl Pipeline {
    /// Makes the pipeline of a rig. `files` holds what came with the rig; what is not there is looked for on disk.
    pub fn build(rig: &Rig, files: &Files, settings: Settings) -> Result<Self, PipelineError> {
        let lanes = settings.lanes.max(1);
        let mut assumptions = Vec::new();
        let mut models = Vec::new();
        let mut sessions: Vec<Vec<Box<dyn Backend>>> = (0..lanes).map(|_| Vec::new()).collect();
        for of_rig in &rig.models {
            let (loaded, backends) = load_model(rig, of_rig, &settings, lanes, files)?;
            models.push(loaded);
            for (lane, backend) in sessions.iter_mut().zip(backends) {
                lane.push(backend);
            }
        }
        let class_names = merge_classes(rig, &mut models)?;
        let networks: Vec<Network> = models.iter().map(|model| model.network.clone()).collect();
        let all = settings.digests == DigestLevel::All;
        let tables = dbc_tables(rig, files)?;
        if rig.cameras.is_empty() {
            assumptions.push("no cameras in the rig: nothing is detected".to_owned());
        } else if networks.is_empty() {
            assumptions
                .push("no model: pictures are unpacked, nothing is detected (give --model FILE.onnx)".to_owned());
        }

        let copies = |make: &mut dyn FnMut() -> Result<Box<dyn Stage<Tick>>, PipelineError>| {
            (0..lanes).map(|_| make()).collect::<Result<Vec<_>, _>>()
        };
        let options = Options {
            digests: settings.digests != DigestLevel::Off,
            timings: settings.timings,
            snapshot_every: settings.snapshot_every,
            probe: settings.probe,
        };
        let limits = settings.limits;
        let mut builder = Builder::new(options).lanes(copies(&mut || Ok(Box::new(Unpack::new(limits))))?);
        if !networks.is_empty() {
            let mut sessions = sessions.into_iter();
            builder = builder
                .lanes(copies(&mut || Ok(Box::new(Preprocess::new(&networks, rig, all)?)))?)
                .lanes(copies(&mut || Ok(Box::new(Infer::new(sessions.next().unwrap_or_default(), all))))?)
                .lanes(copies(&mut || Ok(Box::new(DecodeStage::new(&networks, rig))))?);
        }
        let mut handoff = Handoff::default();
        let world = handoff.reader();
        builder = builder.stage(Box::new(Track::new(rig.cameras.len(), &settings.tracker)));
        builder = builder.stage(Box::new(Fuse::new(rig, &class_names, tables)));
        for stage in settings.stages {
            builder = builder.stage(stage);
        }
        let planner = settings.planner.unwrap_or_else(|| Box::new(FollowPlanner::new(rig)));
        builder = builder.stage(Box::new(handoff)).stage(Box::new(PlanStage::new(planner)));

        // one slot per lane, one for the stateful stages, one being filled, one being written down, one to spare
        let slots = lanes + 4;
        let graph = builder.build(slots)?;
        let pool = Pool::new(slots, || Slot::new(Tick::new(rig.cameras.len(), rig.lidars.len(), &networks)));
        Ok(Pipeline { graph, pool, models, class_names, world, assumptions })
    }
}

fn load_model(
    rig: &Rig,
    of_rig: &rig::Model,
    settings: &Settings,
    lanes: usize,
    files: &Files,
) -> Result<(LoadedModel, Vec<Box<dyn Backend>>), PipelineError> {
    let Some(path) = &of_rig.path else {
        return Err(PipelineError::NoModelPath { rig: rig.name.clone(), name: of_rig.name.clone() });
    };
    let file = rig.resolve(path);
    let model = Model::load(&file)?;
    let wanted = of_rig.input_width_px.zip(of_rig.input_height_px).map(|(w, h)| (w as usize, h as usize));
    let first = load_backend(settings.backend, &model, settings.threads, wanted)?;
    // the other lanes take the engine that the first one got
    let choice = if first.describe().name == "rten" { BackendChoice::Rten } else { BackendChoice::Ort };
    let size = wanted.or_else(|| first.inputs().first()?.picture_size());
    let Some((width, height)) = size else { return Err(PipelineError::NoInputSize { file }) };
    let named = model.class_names().unwrap_or_default();
    let head = match &of_rig.head {
        Some(name) => Head::from_name(name),
        None => Head::recognise(first.inputs(), first.outputs(), &named),
    };
    let head = head.map_err(|error| PipelineError::Head { file: file.clone(), error })?;
    let class_names = match &of_rig.labels {
        Some(labels) => read_labels(&rig.resolve(labels), files)?,
        None if !named.is_empty() => named,
        None => head.default_class_names().iter().map(|name| (*name).to_owned()).collect(),
    };
    let index = |name: &String| rig.cameras.iter().position(|camera| camera.name == *name);
    let network = Network {
        name: of_rig.name.clone(),
        head,
        layout: head.layout(width, height),
        cameras: of_rig.cameras.iter().filter_map(index).collect(),
        outputs: first.outputs().to_vec(),
        class_names,
        class_offset: 0,
        score_threshold: of_rig.score_threshold as f32,
        nms_iou: of_rig.nms_iou as f32,
    };
    let sha256 = model.sha256_hex();
    let backend = first.describe().clone();
    let mut backends = vec![first];
    for _ in 1..lanes {
        backends.push(load_backend(choice, &model, settings.threads, wanted)?);
    }
    Ok((LoadedModel { network, file, sha256, backend }, backends))
}

fn read_labels(path: &Path, files: &Files) -> Result<Vec<String>, PipelineError> {
    let bytes = read(path, files)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn read(path: &Path, files: &Files) -> Result<Vec<u8>, PipelineError> {
    if let Some(bytes) = files.get(path) {
        return Ok(bytes.clone());
    }
    std::fs::read(path).map_err(|error| PipelineError::File { file: path.to_owned(), error })
}

/// One table of classes for all detectors; each gets the place where its own begin.
fn merge_classes(rig: &Rig, models: &mut [LoadedModel]) -> Result<Vec<String>, PipelineError> {
    let mut names: Vec<String> = Vec::new();
    let mut served: BTreeMap<usize, String> = BTreeMap::new();
    for model in models.iter_mut().filter(|model| model.network.head != Head::TwinLiteNet) {
        let network = &mut model.network;
        for &camera in &network.cameras {
            if let Some(first) = served.insert(camera, network.name.clone()) {
                let camera = rig.cameras.get(camera).map(|camera| camera.name.clone()).unwrap_or_default();
                return Err(PipelineError::TwoDetectors { camera, first, second: network.name.clone() });
            }
        }
        if names.starts_with(&network.class_names) {
            continue;
        }
        network.class_offset = names.len() as u16;
        names.extend(network.class_names.iter().cloned());
    }
    Ok(names)
}

/// One table per CAN bus, in rig order.
fn dbc_tables(rig: &Rig, files: &Files) -> Result<Vec<Dbc>, PipelineError> {
    let mut tables = Vec::new();
    for can in &rig.cans {
        let mut parts = Vec::new();
        for path in &can.dbc {
            let bytes = match files.get(path) {
                Some(bytes) => bytes.clone(),
                None => read(&rig.resolve(path), files)?,
            };
            parts.push(Dbc::parse(&bytes, &path.display().to_string())?);
        }
        let table = Dbc::merge(parts)?;
        let missing = can.signals.values().flatten().find(|signal| table.signal(&signal.signal).is_none());
        if let Some(missing) = missing {
            let (rig, bus, signal) = (rig.name.clone(), can.name.clone(), missing.signal.clone());
            return Err(PipelineError::NoSignal { rig, bus, signal });
        }
        tables.push(table);
    }
    Ok(tables)
}
