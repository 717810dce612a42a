//! The engines of a rig's models: found where `catseye engine build` put them, loaded, and handed to the pipeline.
//!
//! Nothing is built here. Where an engine is missing, the error says the command that builds it.

use std::path::Path;
use std::sync::Arc;

use catseye_calibration::rig::Rig;
use thiserror::Error;

use super::decode::DecodePlan;
use super::engine::calibrate::is_of_this_scheme;
use super::engine::golden::{CheckError, Verdict, check_loaded};
use super::engine::record::Capture;
use super::engine::{Store, StoreError, Stored};
use super::node::{GpuNetwork, GpuNode, GpuNodeError, NodeOptions, OnLoss};
use super::tensorrt::{Engine, Library, Precision, TensorInfo, TensorRtError};
use super::{Context, GpuError, Kernels, TransferChoice, TransferMode};
use crate::stages::infer::{BackendInfo, EnginePrecision, Model, TensorSpec};
use crate::stages::network::Network;

/// Why a model cannot run on the GPU.
#[derive(Debug, Error)]
pub enum LoadEngineError {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// TensorRT.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    /// The engine's files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody has built it.
    #[error(transparent)]
    NoEngine(#[from] Box<MissingEngine>),
    /// The one plan that was asked for is not there.
    #[error("{file}: expected the engine of the recorded run, with plan {expected}, in {folder}, found none")]
    NoPlan {
        /// The model.
        file: String,
        /// SHA-256 of the plan.
        expected: String,
        /// Where it was looked for.
        folder: String,
    },
    /// It could not be held against what it gave when it was built.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It gives something else than when it was built.
    #[error(
        "{plan}: {output} is apart by {difference} of its largest value from when it was built (bound {bound:.0e}): \
         the device, its driver or a library has changed, or something is broken; `catseye engine build` makes it anew"
    )]
    Wrong {
        /// The plan's file.
        plan: String,
        /// The output.
        output: String,
        /// How far, or that there is no number where there was one.
        difference: String,
        /// The bound of its precision.
        bound: f64,
    },
}

/// An engine that nobody has built.
#[derive(Debug, Error)]
#[error(
    "{file}: expected an engine of {precision} with a batch of {batch} for {device} and TensorRT {tensorrt} in {folder}, \
     found none: build it with `{command}`"
)]
pub struct MissingEngine {
    /// The model.
    pub file: String,
    /// The precision.
    pub precision: &'static str,
    /// Pictures per run.
    pub batch: usize,
    /// The device.
    pub device: String,
    /// TensorRT's version.
    pub tensorrt: String,
    /// Where it was looked for.
    pub folder: String,
    /// What builds it.
    pub command: String,
}

/// Which engine a model needs.
#[derive(Clone, Copy, Debug)]
pub struct WantedEngine<'a> {
    /// The model.
    pub model: &'a Model,
    /// Pictures per run: one for each camera.
    pub batch: usize,
    /// Width and height of the pictures, where the model leaves them open.
    pub size: Option<(usize, usize)>,
    /// The smallest type that layers may compute in.
    pub precision: EnginePrecision,
    /// The deep learning accelerator that it runs on; none for the GPU.
    pub dla_core: Option<u8>,
    /// SHA-256 of the plan, where it must be just that one.
    pub plan_sha256: Option<&'a str>,
}

impl WantedEngine<'_> {
    fn precision(&self) -> Precision {
        match self.precision {
            EnginePrecision::Fp32 => Precision::Fp32,
            EnginePrecision::Fp16 => Precision::Fp16,
            EnginePrecision::Int8 => Precision::Int8,
        }
    }

    /// The command that builds it.
    fn command(&self) -> String {
        let size = self.size.map(|(width, height)| format!(" --input-size {width}x{height}")).unwrap_or_default();
        let (file, batch, precision) = (self.model.file(), self.batch, self.precision.name());
        let dla = self.dla_core.map(|core| format!(" --dla {core}")).unwrap_or_default();
        const OF_EIGHT_BITS: &[u8] = b"QuantizeLinear";
        let has_ranges = || self.model.bytes().windows(OF_EIGHT_BITS.len()).any(|part| part == OF_EIGHT_BITS);
        let is_open = self.precision == EnginePrecision::Int8 && !has_ranges();
        let calibration = if is_open { " --calibrate LOG" } else { "" };
        format!("catseye engine build {file} --precision {precision} --batch {batch}{size}{dla}{calibration}")
    }

    /// Whether a stored engine does what is wanted; effort and limits of the build may be any.
    fn fits(&self, stored: &Stored, library: &Library) -> bool {
        let record = &stored.record;
        let (key, info) = (&record.key, library.context().info());
        let is_here = stored.check_place(&info.name, info.capability, &library.version().to_string()).is_ok();
        if !is_here || key.model_sha256 != self.model.sha256_hex() {
            return false;
        }
        if let Some(plan) = self.plan_sha256 {
            return record.plan_sha256 == plan;
        }
        let has_batch = |tensor: &TensorInfo| tensor.shape.first().copied().flatten() == Some(self.batch as u64);
        let has_size = |tensor: &TensorInfo| match (self.size, tensor.shape.as_slice()) {
            (None, _) => true,
            (Some((width, height)), [_, _, tall, wide]) => *tall == Some(height as u64) && *wide == Some(width as u64),
            _ => false,
        };
        key.precision == self.precision()
            && key.calibration.as_deref().is_none_or(is_of_this_scheme)
            && !key.tf32
            && key.dla_core == self.dla_core
            && record.inputs.iter().all(|input| has_batch(input) && has_size(input))
    }
}

/// What a rig's networks run with on the GPU.
pub struct RigEngines {
    context: Arc<Context>,
    kernels: Kernels,
    library: Arc<Library>,
    store: Store,
    /// Each with whether a run of it can be captured into a graph.
    engines: Vec<(Arc<Engine>, bool)>,
}

impl RigEngines {
    /// Opens the device, its kernels, TensorRT and the folder of engines; none is the user's own.
    pub fn open(engine_dir: Option<&Path>) -> Result<Self, LoadEngineError> {
        let context = Context::open(0)?;
        let kernels = Kernels::load(&context)?;
        let library = Library::find(&context, None)?;
        let store = Store::open(engine_dir)?;
        Ok(RigEngines { context, kernels, library, store, engines: Vec::new() })
    }

    /// Loads the engine of the next model. Gives its inputs, its outputs, and what is to be said of it.
    ///
    /// Of several that fit, the one with the greatest effort is taken, then the newest, then the first by name.
    pub fn load(
        &mut self,
        wanted: &WantedEngine<'_>,
    ) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>, BackendInfo), LoadEngineError> {
        // a record that does not read belongs to an engine that nobody can use
        let all = self.store.list()?.into_iter().flatten();
        let fitting = all.filter(|stored| wanted.fits(stored, &self.library));
        let best = fitting.reduce(|best, next| {
            // without a level it is TensorRT's own, 3
            let rank = |stored: &Stored| (stored.record.key.level.unwrap_or(3), stored.modified());
            if rank(&next) > rank(&best) { next } else { best }
        });
        let stored = best.ok_or_else(|| self.missing(wanted))?;
        let engine = Engine::load(&self.library, &stored.plan()?, stored.record.key.dla_core)?;
        let changed = self.check(&engine, &stored)?;
        let place = wanted.dla_core.map(|core| format!("DLA {core} of ")).unwrap_or_default();
        let info = BackendInfo {
            name: "tensorrt",
            version: self.library.version().to_string(),
            threads: 1,
            library: Some(self.library.path().into()),
            reason: format!("{} on {place}{}{changed}", wanted.precision.name(), self.context.name()),
            plan_sha256: Some(stored.record.plan_sha256.clone()),
        };
        let specs = (specs(engine.inputs()), specs(engine.outputs()));
        self.engines.push((engine, matches!(stored.record.capture, Capture::Possible { .. })));
        Ok((specs.0, specs.1, info))
    }

    /// Whether an engine still gives what it gave when it was built; what is to be said where only its bits are others.
    fn check(&self, engine: &Arc<Engine>, stored: &Stored) -> Result<String, LoadEngineError> {
        match check_loaded(&self.context, engine, stored)? {
            Verdict::Equal => Ok(String::new()),
            Verdict::Near { difference, .. } => {
                Ok(format!(", with other bits than when it was built, apart by {difference:.2e}"))
            }
            Verdict::Different { output, difference, bound } => {
                let plan = stored.plan_path().display().to_string();
                let difference = difference.map_or("no number".to_owned(), |difference| format!("{difference:.2e}"));
                Err(LoadEngineError::Wrong { plan, output, difference, bound })
            }
        }
    }

    /// The device that they run on.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// How pictures reach the kernels.
    pub fn transfer(&self, mode: TransferMode) -> Result<TransferChoice, LoadEngineError> {
        Ok(mode.choose(&self.context)?)
    }

    fn missing(&self, wanted: &WantedEngine<'_>) -> LoadEngineError {
        let (file, folder) = (wanted.model.file().to_owned(), self.store.folder().display().to_string());
        if let Some(plan) = wanted.plan_sha256 {
            return LoadEngineError::NoPlan { file, expected: plan.to_owned(), folder };
        }
        LoadEngineError::NoEngine(Box::new(MissingEngine {
            file,
            precision: wanted.precision.name(),
            batch: wanted.batch,
            device: self.context.name().to_owned(),
            tensorrt: self.library.version().to_string(),
            folder,
            command: wanted.command(),
        }))
    }

    /// The node that runs the networks, which are in the order in which their engines were loaded, and how each is decoded.
    pub fn into_node(
        self,
        networks: &[Network],
        rig: &Rig,
        options: NodeOptions,
        on_loss: OnLoss,
    ) -> Result<(GpuNode, Vec<DecodePlan>), GpuNodeError> {
        let pairs = networks.iter().cloned().zip(self.engines);
        let network = |(network, (engine, is_captured))| GpuNetwork { network, engine, is_captured };
        let networks: Vec<GpuNetwork> = pairs.map(network).collect();
        let plans = networks.iter().map(GpuNetwork::plan).collect::<Result<_, _>>()?;
        Ok((GpuNode::new(&self.context, &self.kernels, networks, rig, options, on_loss)?, plans))
    }
}

/// Tensors of an engine or a network as those of a model.
pub fn specs(tensors: &[TensorInfo]) -> Vec<TensorSpec> {
    let size = |size: &Option<u64>| size.and_then(|size| usize::try_from(size).ok());
    let spec =
        |tensor: &TensorInfo| TensorSpec { name: tensor.name.clone(), shape: tensor.shape.iter().map(size).collect() };
    tensors.iter().map(spec).collect()
}
