//! Builds an engine, tries it, and keeps it with all that is known about it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::calibrate::{CalibrateError, CalibrationBatches, CalibrationLog, CalibrationSource, read_table};
use super::golden::{SEED, noise};
use super::key::{EngineKey, Request};
use super::layers::LayerSummary;
use super::record::{Capture, EngineRecord, FORMAT, Golden};
use super::run::Runner;
use super::store::{Store, StoreError, Stored};
use crate::gpu::load::specs;
use crate::gpu::tensorrt::{Builder, Built, Calibration, Direction, Engine, Library, Phase, TensorRtError};
use crate::header::sha256_hex;
use crate::stages::decode::Head;
use crate::stages::infer::{Model, TensorSpec};

/// Runs that the time in the record is the median of.
const TIMED_RUNS: usize = 50;

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TensorRT or the device.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    /// The engine's files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A size was asked for, and the input is no picture.
    #[error("{tensor}: expected a batch of pictures with three planes to give a size to, found {found}")]
    NoPicture {
        /// The input.
        tensor: String,
        /// Its shape.
        found: String,
    },
    /// The log or table that calibrates.
    #[error("calibration: {0}")]
    Calibrate(#[from] CalibrateError),
    /// A second run gave other bits than the first.
    #[error("{output}: two runs of the engine gave different bits, {between}")]
    NotRepeatable {
        /// The output.
        output: String,
        /// What was between them.
        between: &'static str,
    },
}

impl From<crate::gpu::GpuError> for BuildError {
    fn from(error: crate::gpu::GpuError) -> Self {
        BuildError::TensorRt(error.into())
    }
}

/// An engine, and whether it was there already.
#[derive(Debug)]
pub struct Made {
    /// Its record and files.
    pub stored: Stored,
    /// Whether it was built now.
    pub is_new: bool,
}

/// Builds the engine of a model unless the store has it. One that is there but damaged is built anew.
pub fn make(
    library: &Arc<Library>,
    store: &Store,
    model: &Model,
    request: &Request,
    progress: &mut (dyn FnMut(Phase<'_>) -> ControlFlow<()> + Send),
) -> Result<Made, BuildError> {
    let info = library.context().info();
    let key = EngineKey::new(model.file(), &model.sha256_hex(), info, library.version(), request)?;
    if let Ok(Some(stored)) = store.find(&key)
        && stored.plan().is_ok()
        && stored.golden().is_ok()
    {
        return Ok(Made { stored, is_new: false });
    }

    let mut builder = Builder::new(library)?;
    builder.parse(model.file(), model.bytes())?;
    fix_shapes(&mut builder, request)?;
    let start = Instant::now();
    let built = match &request.calibration {
        None => builder.build(&request.options, &store.timing_cache(&key), None, progress)?,
        Some(CalibrationSource::Log(log)) => {
            let mut batches = open_batches(library, &builder, model, log)?;
            let mut next = |_: &[&str]| Some(vec![batches.next_batch()?]);
            let calibration = Calibration::Pictures { batches: &mut next, ranges: log.ranges };
            let built = builder.build(&request.options, &store.timing_cache(&key), Some(calibration), progress);
            if let Some(failure) = batches.failure.take() {
                return Err(failure.into());
            }
            built?
        }
        Some(CalibrationSource::Table(path)) => {
            let table = read_table(path, request.options.dla_core.is_some())?;
            if let Ok(beside) = Stored::read(path)
                && beside.record.key.model_sha256 != key.model_sha256
            {
                let (expected, found) = (key.model_sha256, beside.record.key.model_sha256);
                return Err(CalibrateError::OtherModel { path: path.clone(), expected, found }.into());
            }
            let calibration = Calibration::Table(&table);
            let built = builder.build(&request.options, &store.timing_cache(&key), Some(calibration), progress)?;
            Built { calibration_table: Some(table), ..built }
        }
    };
    let build_seconds = start.elapsed().as_secs_f64();
    drop(builder);
    if let Some(timings) = &built.timing_cache {
        store.keep_timing_cache(&key, timings)?;
    }

    let engine = Engine::load(library, &built.plan, request.options.dla_core)?;
    let (outputs, capture) = try_out(library, &engine)?;
    let record = EngineRecord {
        format: FORMAT,
        key,
        plan_sha256: sha256_hex(&built.plan),
        plan_bytes: built.plan.len() as u64,
        workspace_bytes: engine.workspace_bytes(),
        inputs: engine.inputs().to_vec(),
        outputs: engine.outputs().to_vec(),
        layers: LayerSummary::of(&engine.layers()?),
        build_seconds,
        driver_version: info.driver_version,
        capture,
        golden: Golden { seed: SEED, output_sha256: outputs.iter().map(|bytes| sha256_hex(bytes)).collect() },
    };
    let stored = store.keep(record, &built.plan, &outputs.concat())?;
    if let Some(table) = &built.calibration_table {
        stored.keep_calibration(table)?;
    }
    Ok(Made { stored, is_new: true })
}

/// The pictures of a log in batches of the network's input.
fn open_batches(
    library: &Library,
    builder: &Builder,
    model: &Model,
    log: &CalibrationLog,
) -> Result<CalibrationBatches, BuildError> {
    let (inputs, outputs) = (specs(&builder.tensors(Direction::Input)?), specs(&builder.tensors(Direction::Output)?));
    let [TensorSpec { shape, .. }] = inputs.as_slice() else {
        let found = format!("{} inputs", inputs.len());
        return Err(CalibrateError::NoPictures { found }.into());
    };
    let [Some(batch), Some(3), Some(height), Some(width)] = *shape.as_slice() else {
        return Err(CalibrateError::NoPictures { found: format!("one of {shape:?}") }.into());
    };
    let named = model.class_names().unwrap_or_default();
    let head = match log.head {
        Some(head) => head,
        None => Head::recognise(&inputs, &outputs, &named).map_err(CalibrateError::from)?,
    };
    Ok(CalibrationBatches::open(library.context(), log, head.layout(width, height), batch)?)
}

/// Gives every input the shape that was asked for: sizes that the model leaves open must be named, a batch is one.
fn fix_shapes(builder: &mut Builder, request: &Request) -> Result<(), BuildError> {
    let inputs = builder.tensors(Direction::Input)?;
    for input in &inputs {
        let mut shape = input.shape.clone();
        if let (Some((width, height)), [_, Some(3) | None, tall, wide]) = (request.input_size, shape.as_mut_slice()) {
            (*tall, *wide) = (Some(height.into()), Some(width.into()));
        } else if request.input_size.is_some() {
            return Err(BuildError::NoPicture { tensor: input.name.clone(), found: input.shape_text() });
        }
        if let Some(batch) = shape.first_mut().filter(|batch| batch.is_none()) {
            *batch = Some(request.batch.unwrap_or(1).into());
        }
        if let Some(planes) = shape.get_mut(1).filter(|planes| planes.is_none() && input.shape.len() == 4) {
            *planes = Some(3);
        }
        let Some(fixed) = shape.iter().copied().collect::<Option<Vec<u64>>>() else {
            return Err(TensorRtError::OpenShape { tensor: input.name.clone(), shape: input.shape_text() }.into());
        };
        if shape != input.shape {
            builder.fix_shape(&input.name, &fixed)?;
        }
    }
    let Some(batch) = request.batch else { return Ok(()) };
    let fixed = builder.tensors(Direction::Input)?;
    let has_batch = |shape: &[Option<u64>]| shape.first() == Some(&Some(batch.into()));
    if fixed.iter().all(|input| has_batch(&input.shape)) {
        return Ok(());
    }
    Ok(builder.set_batch(batch)?)
}

/// Runs an engine on noise, by itself and as a graph: outputs, and what became of the graph. What its memory held before must not show.
fn try_out(library: &Arc<Library>, engine: &Arc<Engine>) -> Result<(Vec<Vec<u8>>, Capture), BuildError> {
    let mut runner = Runner::new(library.context(), engine)?;
    let inputs: Vec<Vec<u8>> = engine.inputs().iter().map(|input| noise(input, SEED)).collect();
    runner.set_inputs(&inputs)?;
    runner.run()?;
    let outputs = runner.outputs()?;
    // all ones are NaN in every floating point type
    runner.fill_scratch(0xff)?;
    runner.run()?;
    same_bits(engine, "the second with scratch memory full of NaN before it", &outputs, &runner.outputs()?)?;
    let capture = match runner.capture() {
        Ok(nodes) => {
            runner.run()?;
            same_bits(engine, "the second as a graph", &outputs, &runner.outputs()?)?;
            Capture::Possible { nodes, run_ms: runner.median_ms(TIMED_RUNS)? }
        }
        Err(error) => Capture::Impossible { cause: error.to_string() },
    };
    Ok((outputs, capture))
}

fn same_bits(engine: &Engine, between: &'static str, first: &[Vec<u8>], second: &[Vec<u8>]) -> Result<(), BuildError> {
    let mut pairs = engine.outputs().iter().zip(first.iter().zip(second));
    match pairs.find(|(_, (first, second))| first != second) {
        None => Ok(()),
        Some((output, _)) => Err(BuildError::NotRepeatable { output: output.name.clone(), between }),
    }
}
