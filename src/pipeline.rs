//! The pipeline: a rig and its models become a graph that is ready to run.
//!
//! Loads models, recognises their heads, opens one engine session per lane, sizes the pool from the rig, and describes what
//! it made, so that a log can say what ran. Nothing here runs per tick.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use catseye_calibration::rig::{self, Can, CanQuantity, Rig};
use catseye_sensors::can::dbc::{Dbc, DbcError};
use catseye_sensors::memory::{MemoryMaker, PageMaker};
use catseye_sensors::picture::Limits;
use thiserror::Error;

use crate::gpu::TransferMode;
#[cfg(feature = "tensorrt")]
use crate::gpu::{
    load::{LoadEngineError, RigEngines, WantedEngine},
    node::{Fallback, GpuNodeError, NodeOptions, OnLoss},
    results::DeviceResults,
};
use crate::messages::WorldModel;
use crate::runtime::graph::{Builder, Graph, GraphError, Options, Probe, Slot, Stage};
use crate::runtime::latest::Reader;
use crate::runtime::pool::Pool;
use crate::stages::Tick;
use crate::stages::decode::{DecodeHeadError, Head};
use crate::stages::fuse::Fuse;
use crate::stages::handoff::Handoff;
use crate::stages::infer::{
    Backend, BackendChoice, BackendInfo, EnginePrecision, InferError, Model, TensorSpec, check_batch, load_backend,
    picture_size,
};
#[cfg(feature = "tensorrt")]
use crate::stages::network::ReadRow;
use crate::stages::network::{DecodeStage, Infer, Network, Preprocess};
use crate::stages::plan::{FollowPlanner, PlanStage, Planner};
use crate::stages::preprocess::PreprocessError;
use crate::stages::recorded::{RecordedDecode, Recording};
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
    /// Class names that are not as many as the classes.
    #[error("{file}: expected {expected} class names, one for each class in the model's outputs, found {found}")]
    ClassNames {
        /// The labels, or the model that names its classes itself.
        file: PathBuf,
        /// Classes in the model's outputs.
        expected: usize,
        /// Names.
        found: usize,
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
    /// Signals that are averaged, but never come together.
    #[error(
        "rig {rig:?}, bus {bus:?}, {quantity}: expected all signals in the CAN message of the first, {expected}, since \
         those of one frame are averaged, found {found}"
    )]
    SeveralMessages {
        /// The rig.
        rig: String,
        /// The bus.
        bus: String,
        /// What the signals give, as the rig file calls it.
        quantity: &'static str,
        /// The message of the first signal.
        expected: String,
        /// A signal of another message.
        found: String,
    },
    /// A picture cannot be made into a model's input.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no engine to run a model on the GPU.
    #[cfg(feature = "tensorrt")]
    #[error(transparent)]
    Engine(#[from] LoadEngineError),
    /// The GPU cannot take the networks.
    #[cfg(feature = "tensorrt")]
    #[error(transparent)]
    Node(#[from] GpuNodeError),
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

impl DigestLevel {
    /// The name on the command line and in a run's header: `off`, `outputs` or `all`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Outputs => "outputs",
            Self::All => "all",
        }
    }

    /// The level of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Outputs, Self::All].into_iter().find(|level| level.name() == name)
    }
}

/// How a pipeline is made. Only `backend`, `threads`, `precision` and `plans` can change an output.
pub struct Settings {
    /// The engine.
    pub backend: BackendChoice,
    /// Threads of each engine session.
    pub threads: usize,
    /// The smallest type that TensorRT may compute in; none for what the rig says of each model.
    pub precision: Option<EnginePrecision>,
    /// SHA-256 of the TensorRT plan of a model, by the model's name, where it must be just that one.
    pub plans: BTreeMap<String, String>,
    /// Where TensorRT engines are; none for the user's own folder.
    pub engine_dir: Option<PathBuf>,
    /// Whether masks that a device made are brought home, to be drawn.
    pub masks: bool,
    /// How pictures reach a GPU.
    pub transfer: TransferMode,
    /// Copies of the stateless stages.
    pub lanes: usize,
    /// What is digested.
    pub digests: DigestLevel,
    /// Whether stages are timed.
    pub timings: bool,
    /// Ticks from snapshot to snapshot; 0 for none.
    pub snapshot_every: u64,
    /// What the networks of an earlier run saw, in place of the networks.
    pub recording: Option<Arc<Recording>>,
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
            precision: None,
            plans: BTreeMap::new(),
            engine_dir: None,
            masks: true,
            transfer: TransferMode::default(),
            lanes: 2,
            digests: DigestLevel::Outputs,
            timings: true,
            snapshot_every: 100,
            recording: None,
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
    /// What takes over when that one's device fails.
    pub fallback: Option<BackendInfo>,
}

/// A graph that is ready to run, with its pool.
pub struct Pipeline {
    /// The stages.
    pub graph: Graph<Tick>,
    /// Slots for ticks in flight.
    pub pool: Pool<Slot<Tick>>,
    /// The memory for pictures of live cameras.
    pub pictures: PictureMemory,
    /// The models.
    pub models: Vec<LoadedModel>,
    /// Names of all classes: what `class` in a detection, track or object counts in.
    pub class_names: Vec<String>,
    /// The newest world model, for a planner on another thread.
    pub world: Reader<WorldModel>,
    /// What saw the objects in place of the models, where that is known from an earlier run: entries for the header.
    pub recorded_networks: BTreeMap<String, String>,
    /// What had to be assumed.
    pub assumptions: Vec<String>,
    /// Why the run is to end, once a device has failed and nothing takes over.
    pub device_lost: Arc<OnceLock<String>>,
}

/// Memory that a pipeline reads pictures from without a copy.
#[derive(Clone, Debug)]
pub struct PictureMemory {
    /// Who makes it.
    pub maker: Arc<dyn MemoryMaker>,
    /// How many pictures of a camera the pipeline holds at once, at most.
    pub held: usize,
}

impl Pipeline {
    /// Makes the pipeline of a rig. `files` holds what came with the rig; what is not there is looked for on disk.
    pub fn build(rig: &Rig, files: &Files, settings: Settings) -> Result<Self, PipelineError> {
        let lanes = settings.lanes.max(1);
        let mut assumptions = Vec::new();
        let device_lost = Arc::new(OnceLock::new());
        let Loaded { mut models, runners } = load_models(rig, &settings, lanes, files, &mut assumptions)?;
        let class_names = match &settings.recording {
            Some(recording) => recording.class_names(),
            None => merge_classes(rig, &mut models)?,
        };
        let recorded_networks = match &settings.recording {
            Some(recording) => recording.networks().map(|(key, value)| (key.clone(), value.clone())).collect(),
            None => BTreeMap::new(),
        };
        let networks: Vec<Network> = models.iter().map(|model| model.network.clone()).collect();
        let all = settings.digests == DigestLevel::All;
        let tables = dbc_tables(rig, files)?;
        if rig.cameras.is_empty() {
            assumptions.push("no cameras in the rig: nothing is detected".to_owned());
        } else if networks.is_empty() && settings.recording.is_none() {
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
        // one slot per lane, one for the stateful stages, one being filled, one being written down, one to spare
        let slots = lanes + 4;
        #[cfg_attr(not(feature = "tensorrt"), expect(unused_mut, reason = "a device lends memory to them"))]
        let mut ticks: Vec<Tick> =
            (0..slots).map(|_| Tick::new(rig.cameras.len(), rig.lidars.len(), &networks)).collect();
        #[cfg_attr(not(feature = "tensorrt"), expect(unused_mut, reason = "a device makes memory that it reaches"))]
        let mut maker: Arc<dyn MemoryMaker> = Arc::new(PageMaker);
        let mut builder = Builder::new(options).lanes(copies(&mut || Ok(Box::new(Unpack::new(limits, rig))))?);
        match runners {
            Runners::Recorded(recording) => {
                builder = builder.lanes(copies(&mut || Ok(Box::new(RecordedDecode::new(Arc::clone(&recording)))))?);
            }
            _ if networks.is_empty() => {}
            Runners::Cpu(sessions) => {
                let mut sessions = sessions.into_iter();
                builder = builder
                    .lanes(copies(&mut || Ok(Box::new(Preprocess::new(&networks, rig, all)?)))?)
                    .lanes(copies(&mut || Ok(Box::new(Infer::new(sessions.next().unwrap_or_default(), all))))?)
                    .lanes(copies(&mut || Ok(Box::new(DecodeStage::new(&networks, rig))))?);
            }
            #[cfg(feature = "tensorrt")]
            Runners::Gpu(engines, fallback) => {
                let choice = engines.transfer(settings.transfer)?;
                assumptions.extend(choice.measured.map(|times| times.to_string()));
                let node = NodeOptions { digest_tensors: all, masks: settings.masks, transfer: choice.transfer };
                let on_loss = match fallback {
                    None => OnLoss::End(Arc::clone(&device_lost)),
                    Some(backends) => OnLoss::Cpu(Box::new(Fallback {
                        preprocess: Preprocess::new(&networks, rig, all)?,
                        infer: Infer::new(backends, all),
                    })),
                };
                let (node, plans) = engines.into_node(&networks, rig, node, on_loss)?;
                for tick in &mut ticks {
                    node.slot_memory().equip(tick).map_err(GpuNodeError::from)?;
                }
                maker = Arc::new(node.slot_memory().clone());
                builder = builder.device(Box::new(node)).lanes(copies(&mut || {
                    let readers = networks.iter().zip(&plans).map(|(network, plan)| {
                        let reader: Box<dyn ReadRow> = Box::new(DeviceResults::new(plan, network));
                        (network.clone(), reader)
                    });
                    Ok(Box::new(DecodeStage::with_readers(readers.collect(), rig)))
                })?);
            }
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

        let graph = builder.build(slots)?;
        let mut ticks = ticks.into_iter();
        let pool = Pool::new(slots, || Slot::new(ticks.next().unwrap_or_default()));
        let pictures = PictureMemory { maker, held: slots };
        Ok(Pipeline { graph, pool, pictures, models, class_names, world, recorded_networks, assumptions, device_lost })
    }
}

/// The models of a rig, and what runs them.
struct Loaded {
    models: Vec<LoadedModel>,
    runners: Runners,
}

/// What runs the networks.
enum Runners {
    /// Nothing: what they saw is known from a run.
    Recorded(Arc<Recording>),
    /// Sessions of an engine on the CPU: for each lane one of each model.
    Cpu(Vec<Vec<Box<dyn Backend>>>),
    /// Engines on the GPU, one of each model; and what takes over when it fails, where the rig wants that.
    #[cfg(feature = "tensorrt")]
    Gpu(RigEngines, Option<Vec<Box<dyn Backend>>>),
}

/// A model of the rig, read.
struct OpenModel<'a> {
    rig: &'a Rig,
    of_rig: &'a rig::Model,
    files: &'a Files,
    file: PathBuf,
    model: Model,
    /// Indices of its cameras.
    cameras: Vec<usize>,
    /// Width and height of its input, where the rig names them.
    size: Option<(usize, usize)>,
}

/// Loads all models into the engine that is wanted. `auto` takes the GPU where it can run all of them, and else says why not.
fn load_models(
    rig: &Rig,
    settings: &Settings,
    lanes: usize,
    files: &Files,
    assumptions: &mut Vec<String>,
) -> Result<Loaded, PipelineError> {
    if let Some(recording) = &settings.recording {
        return Ok(Loaded { models: Vec::new(), runners: Runners::Recorded(Arc::clone(recording)) });
    }
    let opened = rig.models.iter().map(|of_rig| open_model(rig, of_rig, files)).collect::<Result<Vec<_>, _>>()?;
    #[cfg(feature = "tensorrt")]
    if matches!(settings.backend, BackendChoice::Auto | BackendChoice::TensorRt) && !opened.is_empty() {
        match load_engines(rig, &opened, settings, assumptions) {
            Err(PipelineError::Engine(error)) if settings.backend == BackendChoice::Auto => {
                assumptions.push(format!("the networks run on the CPU: {error}"));
            }
            loaded => return loaded,
        }
    }
    let mut models = Vec::new();
    let mut sessions: Vec<Vec<Box<dyn Backend>>> = (0..lanes).map(|_| Vec::new()).collect();
    for opened in &opened {
        let (loaded, backends) = load_sessions(opened, settings, lanes, assumptions)?;
        models.push(loaded);
        for (lane, backend) in sessions.iter_mut().zip(backends) {
            lane.push(backend);
        }
    }
    Ok(Loaded { models, runners: Runners::Cpu(sessions) })
}

fn open_model<'a>(rig: &'a Rig, of_rig: &'a rig::Model, files: &'a Files) -> Result<OpenModel<'a>, PipelineError> {
    let Some(path) = &of_rig.path else {
        return Err(PipelineError::NoModelPath { rig: rig.name.clone(), name: of_rig.name.clone() });
    };
    let file = rig.resolve(path);
    let model = match files.get(path) {
        Some(bytes) => Model::from_bytes(&path.display().to_string(), bytes.clone())?,
        None => Model::load(&file)?,
    };
    let index = |name: &String| rig.cameras.iter().position(|camera| camera.name == *name);
    let cameras = of_rig.cameras.iter().filter_map(index).collect();
    let size = of_rig.input_width_px.zip(of_rig.input_height_px).map(|(w, h)| (w as usize, h as usize));
    Ok(OpenModel { rig, of_rig, files, file, model, cameras, size })
}

/// The engines of all models, or why one is missing.
#[cfg(feature = "tensorrt")]
fn load_engines(
    rig: &Rig,
    opened: &[OpenModel<'_>],
    settings: &Settings,
    assumptions: &mut Vec<String>,
) -> Result<Loaded, PipelineError> {
    let mut engines = RigEngines::open(settings.engine_dir.as_deref())?;
    let mut models = Vec::new();
    let mut more = Vec::new();
    for opened in opened {
        let wanted = WantedEngine {
            model: &opened.model,
            batch: opened.cameras.len(),
            size: opened.size,
            precision: settings.precision.or(opened.of_rig.precision).unwrap_or_default(),
            dla_core: opened.of_rig.dla_core,
            plan_sha256: settings.plans.get(&opened.of_rig.name).map(String::as_str),
        };
        let (inputs, outputs, backend) = engines.load(&wanted)?;
        let mut network = opened.network(&inputs, &outputs, &mut more)?;
        network.is_on_device = true;
        let sha256 = opened.model.sha256_hex();
        models.push(LoadedModel { network, file: opened.file.clone(), sha256, backend, fallback: None });
    }
    let mut fallback = None;
    if rig.on_gpu_fault == rig::OnGpuFault::Cpu {
        let mut backends = Vec::new();
        for (opened, loaded) in opened.iter().zip(&mut models) {
            let backend = load_backend(BackendChoice::Auto, &opened.model, settings.threads, opened.size)?;
            check_batch(opened.model.file(), backend.inputs(), opened.cameras.len())?;
            loaded.fallback = Some(backend.describe().clone());
            backends.push(backend);
        }
        fallback = Some(backends);
    }
    // a run that falls back says these for itself
    assumptions.append(&mut more);
    Ok(Loaded { models, runners: Runners::Gpu(engines, fallback) })
}

/// One session for each lane.
fn load_sessions(
    opened: &OpenModel<'_>,
    settings: &Settings,
    lanes: usize,
    assumptions: &mut Vec<String>,
) -> Result<(LoadedModel, Vec<Box<dyn Backend>>), PipelineError> {
    let OpenModel { model, cameras, size, .. } = opened;
    let first = load_backend(settings.backend, model, settings.threads, *size)?;
    // the other lanes take the engine that the first one got
    let choice = if first.describe().name == "rten" { BackendChoice::Rten } else { BackendChoice::Ort };
    check_batch(model.file(), first.inputs(), cameras.len())?;
    let network = opened.network(first.inputs(), first.outputs(), assumptions)?;
    let sha256 = model.sha256_hex();
    let backend = first.describe().clone();
    let mut backends = vec![first];
    for _ in 1..lanes {
        backends.push(load_backend(choice, model, settings.threads, *size)?);
    }
    Ok((LoadedModel { network, file: opened.file.clone(), sha256, backend, fallback: None }, backends))
}

impl OpenModel<'_> {
    /// How the pipeline uses the model, which has these inputs and outputs.
    fn network(
        &self,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        assumptions: &mut Vec<String>,
    ) -> Result<Network, PipelineError> {
        let OpenModel { rig, of_rig, files, file, model, cameras, size } = self;
        let (width, height) = picture_size(model.file(), inputs, *size)?;
        let named = model.class_names().unwrap_or_default();
        let head = match &of_rig.head {
            Some(name) => Head::from_name(name),
            None => Head::recognise(inputs, outputs, &named),
        };
        let head = head.map_err(|error| PipelineError::Head { file: file.clone(), error })?;
        let classes = head.class_count(outputs);
        let class_names = match &of_rig.labels {
            Some(labels) => {
                let labels = rig.resolve(labels);
                let names = read_labels(&labels, files)?;
                counted_names(&labels, names, classes)?
            }
            None if !named.is_empty() => counted_names(file, named, classes)?,
            None => unnamed_classes(&of_rig.name, head, classes, assumptions),
        };
        Ok(Network {
            name: of_rig.name.clone(),
            head,
            layout: head.layout(width, height),
            cameras: cameras.clone(),
            outputs: outputs.to_vec(),
            class_names,
            class_offset: 0,
            score_threshold: of_rig.score_threshold as f32,
            nms_iou: of_rig.nms_iou as f32,
            is_on_device: false,
        })
    }
}

/// The names that somebody gave. With two detectors, a list of another length would shift the classes of the second.
fn counted_names(file: &Path, names: Vec<String>, classes: Option<usize>) -> Result<Vec<String>, PipelineError> {
    match classes.filter(|classes| *classes != names.len()) {
        None => Ok(names),
        Some(expected) => Err(PipelineError::ClassNames { file: file.to_owned(), expected, found: names.len() }),
    }
}

/// COCO's names for a model that names no classes, or numbers where it has not as many as COCO: a wrong name would give
/// an object the size of something else.
fn unnamed_classes(model: &str, head: Head, classes: Option<usize>, assumptions: &mut Vec<String>) -> Vec<String> {
    let default = head.default_class_names();
    match classes.filter(|classes| *classes != default.len()) {
        None => default.iter().map(|name| (*name).to_owned()).collect(),
        Some(classes) => {
            let so = "none of them is placed around the vehicle; give --labels";
            assumptions.push(format!("model {model} names no classes: {so}"));
            (0..classes).map(|class| format!("class {class}")).collect()
        }
    }
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

/// The table of one CAN bus, of all files that describe it.
pub(crate) fn bus_table(rig: &Rig, can: &Can, files: &Files) -> Result<Dbc, PipelineError> {
    let mut parts = Vec::new();
    for path in &can.dbc {
        let bytes = match files.get(path) {
            Some(bytes) => bytes.clone(),
            None => read(&rig.resolve(path), files)?,
        };
        parts.push(Dbc::parse(&bytes, &path.display().to_string())?);
    }
    Ok(Dbc::merge(parts)?)
}

/// One table per CAN bus, in rig order.
fn dbc_tables(rig: &Rig, files: &Files) -> Result<Vec<Dbc>, PipelineError> {
    let mut tables = Vec::new();
    for can in &rig.cans {
        let table = bus_table(rig, can, files)?;
        let missing = can.signals.values().flatten().find(|signal| table.signal(&signal.signal).is_none());
        if let Some(missing) = missing {
            let (rig, bus, signal) = (rig.name.clone(), can.name.clone(), missing.signal.clone());
            return Err(PipelineError::NoSignal { rig, bus, signal });
        }
        check_messages(rig, can)?;
        tables.push(table);
    }
    Ok(tables)
}

/// Signals of one quantity are averaged frame by frame, so those of different messages would never give a value.
fn check_messages(rig: &Rig, can: &Can) -> Result<(), PipelineError> {
    let message = |signal: &str| signal.split('.').next().unwrap_or_default().to_owned();
    for quantity in [CanQuantity::Speed, CanQuantity::YawRate] {
        let Some([first, others @ ..]) = can.signals.get(&quantity).map(Vec::as_slice) else { continue };
        let expected = message(&first.signal);
        if let Some(other) = others.iter().find(|other| message(&other.signal) != expected) {
            let (rig, bus, quantity) = (rig.name.clone(), can.name.clone(), quantity.name());
            return Err(PipelineError::SeveralMessages { rig, bus, quantity, expected, found: other.signal.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::CanSignal;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|name| name.to_string()).collect()
    }

    #[test]
    fn given_names_must_be_as_many_as_the_classes() {
        let counted = |count: usize, classes| counted_names(Path::new("my.names"), names(count), classes);
        assert_eq!(counted(3, Some(3)).unwrap(), names(3));
        assert_eq!(counted(3, None).unwrap(), names(3));
        let expected = "my.names: expected 80 class names, one for each class in the model's outputs, found 3";
        assert_eq!(counted(3, Some(80)).unwrap_err().to_string(), expected);
    }

    #[test]
    fn classes_without_names_are_cocos_only_where_there_are_as_many() {
        let mut assumptions = Vec::new();
        for classes in [None, Some(80)] {
            assert_eq!(unnamed_classes("m", Head::Yolox, classes, &mut assumptions)[2], "car");
        }
        assert!(unnamed_classes("m", Head::TwinLiteNet, None, &mut assumptions).is_empty());
        assert!(assumptions.is_empty());
        assert_eq!(unnamed_classes("m", Head::Yolox, Some(2), &mut assumptions), ["class 0", "class 1"]);
        let expected = "model m names no classes: none of them is placed around the vehicle; give --labels";
        assert_eq!(assumptions, [expected]);
    }

    #[test]
    fn signals_that_are_averaged_must_come_together() {
        let dbc = "VERSION \"\"\n\n\
                   BO_ 1 WHEELS: 8 X\n SG_ LEFT : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ RIGHT : 8|8@1+ (1,0) [0|0] \"\" X\n\n\
                   BO_ 2 AXLE: 8 X\n SG_ SPEED : 0|8@1+ (1,0) [0|0] \"\" X\n";
        let files = Files::from([(PathBuf::from("car.dbc"), dbc.as_bytes().to_vec())]);
        let tables = |quantity: CanQuantity, signals: [&str; 2]| {
            let signal = |name: &str| CanSignal { signal: name.to_owned(), scale: 1.0, offset: 0.0 };
            let mut rig = Rig::default_camera(64, 48);
            rig.cans.push(Can {
                name: "can".to_owned(),
                topic: "/can".to_owned(),
                dbc: vec![PathBuf::from("car.dbc")],
                bitrate: None,
                signals: BTreeMap::from([(quantity, signals.map(signal).to_vec())]),
            });
            dbc_tables(&rig, &files)
        };
        assert_eq!(tables(CanQuantity::Speed, ["WHEELS.LEFT", "WHEELS.RIGHT"]).unwrap().len(), 1);
        // nobody averages those
        assert!(tables(CanQuantity::Gear, ["WHEELS.LEFT", "AXLE.SPEED"]).is_ok());
        let error = tables(CanQuantity::Speed, ["WHEELS.LEFT", "AXLE.SPEED"]).unwrap_err().to_string();
        let expected = "expected all signals in the CAN message of the first, WHEELS";
        assert!(error.starts_with("rig \"default\", bus \"can\", speed_mps: "), "{error}");
        assert!(error.contains(expected) && error.ends_with("found AXLE.SPEED"), "{error}");
    }
}
