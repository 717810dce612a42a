//! An engine with buffers of its own, for checks and timing: bytes in, bytes out.

use std::sync::Arc;

use crate::gpu::tensorrt::{Engine, ExecutionContext, TensorRtError};
use crate::gpu::{Context, DeviceBuffer, Event, GpuError, Graph, Priority, Stream};

/// An engine that can be run by itself.
pub struct Runner {
    // dropped in this order: what uses the buffers goes before them
    graph: Option<Graph>,
    execution: ExecutionContext,
    stream: Stream,
    inputs: Vec<DeviceBuffer>,
    outputs: Vec<DeviceBuffer>,
    workspace: DeviceBuffer,
}

impl Runner {
    /// Takes memory for an engine and gives its tensors their addresses.
    pub fn new(context: &Arc<Context>, engine: &Arc<Engine>) -> Result<Runner, TensorRtError> {
        let buffer = |bytes: u64| DeviceBuffer::new(context, usize::try_from(bytes).unwrap_or(usize::MAX));
        let workspace = buffer(engine.workspace_bytes())?;
        let mut execution = ExecutionContext::new(engine, workspace.address(), engine.workspace_bytes())?;
        let mut buffers = [Vec::new(), Vec::new()];
        for (held, tensors) in buffers.iter_mut().zip([engine.inputs(), engine.outputs()]) {
            for tensor in tensors {
                let buffer = buffer(tensor.bytes)?;
                execution.set_address(&tensor.name, buffer.address())?;
                held.push(buffer);
            }
        }
        let [inputs, outputs] = buffers;
        let stream = Stream::new(context, Priority::Normal)?;
        Ok(Runner { graph: None, execution, stream, inputs, outputs, workspace })
    }

    /// Fills the inputs, in the engine's order.
    pub fn set_inputs(&self, inputs: &[Vec<u8>]) -> Result<(), GpuError> {
        self.inputs.iter().zip(inputs).try_for_each(|(buffer, bytes)| buffer.upload_now(0, bytes))
    }

    /// Sets every byte of what a run writes: the workspace and the outputs.
    pub fn fill_scratch(&self, byte: u8) -> Result<(), GpuError> {
        let mut scratch = self.outputs.iter().chain([&self.workspace]);
        scratch.try_for_each(|buffer| self.stream.fill(buffer, 0..buffer.len(), byte))
    }

    /// Runs once, as a graph if one was captured, and waits.
    pub fn run(&mut self) -> Result<(), TensorRtError> {
        match &self.graph {
            Some(graph) => graph.launch(&self.stream)?,
            // SAFETY: workspace and tensors are the runner's own, of the engine's sizes, and outlive the work.
            None => unsafe { self.execution.enqueue(&self.stream)? },
        }
        Ok(self.stream.synchronize()?)
    }

    /// The outputs of the last run, in the engine's order.
    pub fn outputs(&self) -> Result<Vec<Vec<u8>>, GpuError> {
        self.outputs.iter().map(DeviceBuffer::to_vec).collect()
    }

    /// Captures a run for all that follow and gives the number of its pieces. The engine must have run before: TensorRT
    /// sets things up in a first run that cannot be captured.
    pub fn capture(&mut self) -> Result<usize, TensorRtError> {
        let mut failure = None;
        let execution = &mut self.execution;
        let captured = Graph::capture(&self.stream, |stream| {
            // SAFETY: as in `run`; the graph goes before the buffers.
            unsafe { execution.enqueue(stream) }.map_err(|error| {
                let gpu = match &error {
                    TensorRtError::Gpu(gpu) => gpu.clone(),
                    _ => GpuError::Call { call: "enqueueV3", name: "refused", code: 0 },
                };
                failure = Some(error);
                gpu
            })
        });
        let graph = captured.map_err(|error| failure.unwrap_or(TensorRtError::Gpu(error)))?;
        let nodes = graph.node_count();
        self.graph = Some(graph);
        Ok(nodes)
    }

    /// Median time of so many runs, each alone on the device, in milliseconds.
    pub fn median_ms(&mut self, runs: usize) -> Result<f32, TensorRtError> {
        let context = Arc::clone(self.stream.context());
        let (before, after) = (Event::new(&context)?, Event::new(&context)?);
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            self.stream.record(&before)?;
            match &self.graph {
                Some(graph) => graph.launch(&self.stream)?,
                // SAFETY: as in `run`.
                None => unsafe { self.execution.enqueue(&self.stream)? },
            }
            self.stream.record(&after)?;
            after.synchronize()?;
            times.push(after.elapsed_ms(&before)?);
        }
        times.sort_by(f32::total_cmp);
        Ok(times.get(times.len() / 2).copied().unwrap_or_default())
    }
}
