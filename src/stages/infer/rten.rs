//! Models in rten, the engine that is built in.
//!
//! Bytes of an ONNX model come in, a [`Backend`] goes out. It has a thread pool of its own with a fixed number of
//! threads, so neither the machine's number of cores nor the environment changes how the work is cut.

use std::sync::Arc;

use ::rten::{
    DataType, Dimension, LoadErrorKind, Model as Graph, ModelOptions, NodeId, RunOptions, ThreadPool, Value,
    ValueOrView, ValueType, ValueView,
};
use rten_tensor::prelude::*;

use super::{Backend, BackendInfo, Guard, InferError, Model, Tensor, TensorSpec, check_call};

/// Name of the engine.
pub const NAME: &str = "rten";
/// Version of the engine.
pub const VERSION: &str = "0.27";

/// A model in rten.
pub struct RtenBackend {
    guard: Guard,
    graph: Graph,
    pool: Arc<ThreadPool>,
    info: BackendInfo,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// Loads a model; `reason` says why it is rten.
///
/// # Errors
/// [`InferError::UnsupportedOperator`], [`InferError::Rejected`], [`InferError::Kind`] for inputs that do not take
/// `f32`, [`InferError::Panicked`].
pub fn load(model: &Model, threads: usize, reason: &str) -> Result<RtenBackend, InferError> {
    let file = model.file();
    let threads = threads.max(1);
    let mut guard = Guard::new(file, NAME);
    let graph = guard.call(|| parse(model))?;
    let inputs = specs(&graph, graph.input_ids());
    let outputs = specs(&graph, graph.output_ids());
    for (id, spec) in graph.input_ids().iter().zip(&inputs) {
        let kind = graph.node_info(*id).and_then(|node| node.dtype());
        if let Some(found) = kind.filter(|kind| *kind != ValueType::Tensor(DataType::Float)) {
            return Err(InferError::Kind {
                file: file.to_string(),
                tensor: spec.name.clone(),
                expected: "a tensor of f32",
                found: found.to_string(),
            });
        }
    }
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let info = BackendInfo {
        name: NAME,
        version: VERSION.to_string(),
        threads,
        library: None,
        reason: reason.to_string(),
        plan_sha256: None,
    };
    Ok(RtenBackend { guard, graph, pool, info, inputs, outputs })
}

fn parse(model: &Model) -> Result<Graph, InferError> {
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    options.load(model.bytes().to_vec()).map_err(|error| {
        let (file, backend, cause) = (model.file().to_string(), NAME, error.to_string());
        match error.kind() {
            LoadErrorKind::OperatorInvalid => InferError::UnsupportedOperator { file, backend, cause },
            _ => InferError::Rejected { file, backend, cause },
        }
    })
}

fn specs(graph: &Graph, ids: &[NodeId]) -> Vec<TensorSpec> {
    let spec = |id: &NodeId| {
        let node = graph.node_info(*id);
        let name = node.as_ref().and_then(|node| node.name()).unwrap_or_default().to_string();
        let shape = node.and_then(|node| node.shape()).unwrap_or_default();
        let shape = shape.iter().map(|size| match size {
            Dimension::Fixed(size) => Some(*size),
            Dimension::Symbolic(_) => None,
        });
        TensorSpec { name, shape: shape.collect() }
    };
    ids.iter().map(spec).collect()
}

impl Backend for RtenBackend {
    fn describe(&self) -> &BackendInfo {
        &self.info
    }

    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<(), InferError> {
        let RtenBackend { guard, graph, pool, inputs: input_specs, outputs: output_specs, .. } = self;
        check_call(&guard.file, input_specs, inputs, output_specs, outputs)?;
        let file = guard.file.clone();
        guard.call(|| {
            let failed = |cause: String| InferError::Failed { file: file.clone(), backend: NAME, cause };
            let mut values = Vec::with_capacity(inputs.len());
            for (id, tensor) in graph.input_ids().iter().zip(inputs) {
                let view = ValueView::from_shape(tensor.shape.as_slice(), tensor.data.as_slice())
                    .map_err(|error| failed(error.to_string()))?;
                values.push((*id, ValueOrView::View(view)));
            }
            let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
            let found =
                graph.run(values, graph.output_ids(), Some(options)).map_err(|error| failed(error.to_string()))?;
            for ((value, tensor), spec) in found.iter().zip(outputs.iter_mut()).zip(output_specs.iter()) {
                copy_value(value, tensor, spec, &file)?;
            }
            Ok(())
        })
    }
}

fn copy_value(value: &Value, tensor: &mut Tensor, spec: &TensorSpec, file: &str) -> Result<(), InferError> {
    match value {
        Value::FloatTensor(found) => match found.data() {
            Some(data) => tensor.assign(found.shape(), data.iter().copied()),
            None => tensor.assign(found.shape(), found.iter().copied()),
        },
        Value::Int32Tensor(found) => tensor.assign(found.shape(), found.iter().map(|&value| value as f32)),
        Value::Int8Tensor(found) => tensor.assign(found.shape(), found.iter().map(|&value| f32::from(value))),
        Value::UInt8Tensor(found) => tensor.assign(found.shape(), found.iter().map(|&value| f32::from(value))),
        // a sequence, or a kind that rten will learn
        _ => Err(InferError::Kind {
            file: file.to_string(),
            tensor: spec.name.clone(),
            expected: "a tensor of numbers",
            found: "something else".to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_real_model_runs_and_repeats_itself() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/models/yolox_nano.onnx"));
        if !path.exists() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let model = Model::load(path).unwrap();
        let mut backend = load(&model, 1, "test").unwrap();
        assert_eq!(backend.inputs().len(), 1);
        assert_eq!(backend.inputs()[0].picture_size(), Some((416, 416)));
        let mut input = Tensor::zeros(&[1, 3, 416, 416]).unwrap();
        for (index, value) in input.data.iter_mut().enumerate() {
            *value = (index % 251) as f32;
        }
        let mut first = vec![Tensor::default(); backend.outputs().len()];
        let mut second = first.clone();
        let inputs = [input];
        backend.run(&inputs, &mut first).unwrap();
        backend.run(&inputs, &mut second).unwrap();
        assert_eq!(first[0].shape.as_slice(), [1, 3549, 85]);
        assert!(first[0].data.iter().all(|value| value.is_finite()));
        assert!(first[0].data.iter().any(|&value| value != 0.0));
        assert_eq!(first, second);
        let small = [Tensor::zeros(&[1, 3, 32, 32]).unwrap()];
        assert!(matches!(backend.run(&small, &mut first), Err(InferError::Shape { .. })));
    }
}
