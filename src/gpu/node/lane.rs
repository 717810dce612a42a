//! All that one tick in flight needs on the device, and the graph that its work is captured into.

use std::sync::Arc;

use catseye_calibration::rig::Rig;

use super::branch::{Branch, Ends, Parts};
use super::home::Home;
use super::slot::SlotMemory;
use super::turn::Turn;
use super::upload::Upload;
use super::{GpuNetwork, GpuNodeError, NodeOptions};
use crate::gpu::digest::read_digests;
use crate::gpu::tensorrt::TensorRtError;
use crate::gpu::{Context, Event, GpuError, Graph, Kernels, Priority, Stream};
use crate::runtime::graph::Slot;
use crate::runtime::pool::Lease;
use crate::stages::{NetworkSlot, Tick};

/// What is captured: it is dropped before what it uses.
pub(super) struct Lane {
    pub(super) graph: Option<Graph>,
    /// Whether the first run is over, in which TensorRT sets things up.
    is_warm: bool,
    branches: Vec<Branch>,
    stream: Stream,
    /// Branches may begin.
    arrived: Event,
    /// Those beside the graph may.
    arrived_beside: Event,
    /// The device has begun with the tick.
    pub(super) begun: Event,
    /// All of the tick is done.
    pub(super) done: Event,
    turn: Turn,
    upload: Upload,
    home: Home,
    /// Bytes that went up for the last tick and that came home.
    pub(super) copied: [usize; 2],
    pub(super) busy: Option<Busy>,
}

/// A tick that a lane works on.
pub(super) struct Busy {
    pub(super) ticket: u64,
    pub(super) slot: Lease<Slot<Tick>>,
    /// Whether the work has begun, and what is to be said of the pictures.
    pub(super) begun: Result<(), String>,
    pub(super) faults: String,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // nobody may use the slot's memory while the device does; a failure means that it does no more
        let _ = self.stream.synchronize();
    }
}

impl Lane {
    pub(super) fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: &[GpuNetwork],
        rig: &Rig,
        memory: &SlotMemory,
        options: NodeOptions,
        turn: Turn,
    ) -> Result<Self, GpuNodeError> {
        let upload = Upload::new(context, kernels, networks, memory, options.transfer)?;
        let home = Home::new(context, kernels, networks, memory, options, upload.address(upload.home_table[0]))?;
        let mut branches = Vec::new();
        for ((network, tables), part) in networks.iter().zip(&upload.places).zip(&home.parts) {
            let begin = home.device.address();
            let at = |offset: usize| begin.wrapping_add(offset as u64);
            let ends = Ends {
                tables: tables.map(|offset| upload.address(offset)),
                results: at(part.results[0]),
                masks: at(part.masks[0]),
                digests: at(home.digests + part.digests[0]),
            };
            branches.push(Branch::new(context, kernels, network, rig, &ends, options)?);
        }
        Ok(Lane {
            graph: None,
            is_warm: false,
            branches,
            stream: Stream::new(context, Priority::High)?,
            arrived: Event::without_time(context)?,
            arrived_beside: Event::without_time(context)?,
            begun: Event::new(context)?,
            done: Event::new(context)?,
            turn,
            upload,
            home,
            copied: [0; 2],
            busy: None,
        })
    }

    /// Starts a tick. After an error the device works on it no more.
    pub(super) fn begin(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<(), GpuNodeError> {
        let begun = self.begin_all(networks, tick);
        if begun.is_err() {
            // what has begun uses the slot's memory, and branches beside the graph may not have joined yet
            for stream in self.branches.iter().map(|branch| &branch.stream).chain([&self.stream]) {
                let _ = stream.synchronize();
            }
        }
        begun
    }

    fn begin_all(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<(), GpuNodeError> {
        self.copied = self.fill(networks, tick)?;
        self.stream.record(&self.begun)?;
        if !self.is_warm {
            // TensorRT sets things up in a first run, which cannot be captured
            let Lane { stream, branches, arrived, upload, home, .. } = self;
            enqueue(stream, (upload, home), branches.iter_mut(), arrived, Parts::ALL, None)?;
            self.stream.synchronize()?;
            self.graph = self.capture_for_ticks()?;
            self.is_warm = true;
        }
        self.launch()?;
        Ok(self.stream.record(&self.done)?)
    }

    /// Writes the tables of a tick. Gives the bytes that go up and that come home.
    pub(super) fn fill(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<[usize; 2], GpuNodeError> {
        // what this tick lacks is nothing, and not that of an earlier one
        self.upload.tables.fill(0);
        self.upload.fill(networks, &self.branches, tick)?;
        let up = self.upload.fill_copies(tick)?;
        let table = self.upload.home_table;
        Ok([up, self.home.fill(tick, &mut self.upload.tables, table)?])
    }

    fn is_all_captured(&self) -> bool {
        self.branches.iter().all(|branch| branch.is_captured)
    }

    /// All of a tick, or the branches that can be captured, if there are any.
    fn capture_for_ticks(&mut self) -> Result<Option<Graph>, GpuNodeError> {
        let parts = if self.is_all_captured() { Parts::ALL } else { Parts { around: true, ..Parts::INFERENCE } };
        let is_any = self.branches.iter().any(|branch| branch.is_captured);
        is_any.then(|| self.capture(parts)).transpose()
    }

    /// Starts a tick's work: the graph, and what is in none.
    fn launch(&mut self) -> Result<(), TensorRtError> {
        let is_all = self.is_all_captured();
        let Lane { graph, branches, stream, arrived_beside, upload, home, .. } = self;
        if let (true, Some(graph)) = (is_all, &graph) {
            return Ok(graph.launch(stream)?);
        }
        upload.enqueue(stream)?;
        stream.record(arrived_beside)?;
        for branch in branches.iter_mut().filter(|branch| !branch.is_captured) {
            branch.begin(arrived_beside, Parts::ALL)?;
        }
        if let Some(graph) = graph {
            graph.launch(stream)?;
        }
        for branch in branches.iter().filter(|branch| !branch.is_captured) {
            stream.wait(&branch.done)?;
        }
        Ok(home.enqueue(stream)?)
    }

    /// These parts of a tick's work, of the branches that can be captured.
    fn capture(&mut self, parts: Parts) -> Result<Graph, GpuNodeError> {
        let Lane { stream, branches, arrived, turn, upload, home, .. } = self;
        let mut failure = None;
        let captured = Graph::capture(stream, |stream| {
            let captured = branches.iter_mut().filter(|branch| branch.is_captured);
            enqueue(stream, (upload, home), captured, arrived, parts, Some(turn)).map_err(|error| {
                let gpu = match &error {
                    TensorRtError::Gpu(gpu) => gpu.clone(),
                    _ => GpuError::Call { call: "enqueueV3", name: "refused", code: 0 },
                };
                failure = Some(error);
                gpu
            })
        });
        Ok(captured.map_err(|error| failure.unwrap_or(TensorRtError::Gpu(error)))?)
    }

    /// Median time of these parts, in milliseconds, with the tables that were written last.
    pub(super) fn time(&mut self, parts: Parts, runs: usize) -> Result<f32, GpuNodeError> {
        let graph = self.capture(parts)?;
        let (before, after) = (Event::new(self.stream.context())?, Event::new(self.stream.context())?);
        let mut times_ms = Vec::with_capacity(runs);
        for _ in 0..runs {
            self.stream.record(&before)?;
            graph.launch(&self.stream)?;
            self.stream.record(&after)?;
            after.synchronize()?;
            times_ms.push(after.elapsed_ms(&before)?);
        }
        times_ms.sort_by(f32::total_cmp);
        Ok(times_ms.get(times_ms.len() / 2).copied().unwrap_or_default())
    }

    /// Says the rest of what the tick is to know: results and masks are in its memory.
    pub(super) fn deliver(&self, tick: &mut Tick) {
        for ((slot, part), branch) in tick.networks.iter_mut().zip(&self.home.parts).zip(&self.branches) {
            let NetworkSlot { digests, letterboxes, .. } = slot;
            for (held, letterbox) in letterboxes.iter_mut().zip(branch.preprocess.letterboxes()) {
                *held = *letterbox;
            }
            digests.clear();
            digests.extend(read_digests(self.home.digests_of(part)));
        }
    }
}

/// Puts a tick's work into a stream and the branches that fork from it and join it. Only in a graph can it take turns.
fn enqueue<'b>(
    stream: &Stream,
    (upload, home): (&Upload, &mut Home),
    branches: impl Iterator<Item = &'b mut Branch>,
    arrived: &Event,
    parts: Parts,
    turn: Option<&Turn>,
) -> Result<(), TensorRtError> {
    if parts.upload {
        match turn {
            Some(turn) => turn.take(stream, |stream| upload.enqueue(stream))?,
            None => upload.enqueue(stream)?,
        }
    }
    stream.record(arrived)?;
    for branch in branches {
        branch.begin(arrived, parts)?;
        stream.wait(&branch.done)?;
    }
    if parts.home {
        home.enqueue(stream)?;
    }
    Ok(())
}

/// Medians of one round of [`GpuNode::time_parts`](super::GpuNode::time_parts), in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct TickTimes {
    /// From pictures in pinned memory to results in host memory.
    pub whole_ms: f32,
    /// From pictures on the device to results in host memory.
    pub on_device_ms: f32,
    /// TensorRT alone.
    pub inference_ms: f32,
}
