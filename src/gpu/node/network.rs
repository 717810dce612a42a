//! A network of the rig with its engine, and what its tensors have to be: of 32 bits, with a row for each of its cameras.

use std::sync::Arc;

use super::GpuNodeError;
use crate::gpu::decode::DecodePlan;
use crate::gpu::tensorrt::{Element, Engine, TensorInfo};
use crate::stages::network::Network;

/// A network and the engine that runs it, for all its cameras at once.
#[derive(Clone, Debug)]
pub struct GpuNetwork {
    /// How the pipeline uses it.
    pub network: Network,
    /// The plan, loaded.
    pub engine: Arc<Engine>,
    /// Whether a run of it can be captured into a graph.
    pub is_captured: bool,
}

impl GpuNetwork {
    /// How its outputs are decoded.
    pub fn plan(&self) -> Result<DecodePlan, GpuNodeError> {
        let Network { name, head, layout, outputs, .. } = &self.network;
        let shapes: Vec<Vec<usize>> = self.engine.outputs().iter().map(shape_of).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        DecodePlan::new(*head, layout.width, layout.height, outputs, &shapes)
            .map_err(|error| GpuNodeError::Decode { model: name.clone(), error })
    }

    /// Checks the types and batches of the engine's tensors, and gives the one input.
    pub(super) fn input(&self) -> Result<&TensorInfo, GpuNodeError> {
        let misfit = |tensor: &TensorInfo, expected: String| GpuNodeError::Tensor {
            model: self.network.name.clone(),
            tensor: tensor.name.clone(),
            expected,
            found: format!("{:?} {}", tensor.element, tensor.shape_text()),
        };
        let rows = self.network.cameras.len();
        let of_rows = |tensor: &TensorInfo| tensor.shape.first().copied().flatten() == Some(rows as u64);
        let (inputs, outputs) = (self.engine.inputs(), self.engine.outputs());
        for tensor in inputs.iter().chain(outputs) {
            if tensor.element != Element::F32 || !of_rows(tensor) {
                return Err(misfit(tensor, format!("F32 with a batch of {rows}, one for each camera")));
            }
        }
        match inputs {
            [input] => Ok(input),
            _ => Err(GpuNodeError::Tensor {
                model: self.network.name.clone(),
                tensor: "inputs".to_owned(),
                expected: "one".to_owned(),
                found: inputs.len().to_string(),
            }),
        }
    }
}

/// The sizes of an engine's tensor, which are all fixed.
pub(super) fn shape_of(tensor: &TensorInfo) -> Vec<usize> {
    tensor.shape.iter().map(|size| size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0)).collect()
}
