//! The GPU's part of a tick, in the place of preprocess and infer and of the larger part of decode.
//!
//! Every network works in a branch of its own (preprocess, TensorRT, decode, digests): all of it, from the copy of the pictures to
//! that of the results, is one captured graph, one launch a tick. A branch whose engine cannot be captured, as on a deep learning
//! accelerator, is started by itself beside the graph. The pictures and results of a slot lie in page-locked memory that the node
//! lends to it, so that kernels copy them, or read pictures where they lie; the host's thread touches only a table that tells where
//! they are. Two ticks are in flight, each with memory, execution contexts and a graph of its own. The batch is fixed and an absent
//! camera's row is zero, so that a partial tick runs the same graph.
//!
//! In the order of a tick's way: `slot`, `turn`, `upload`, `branch`, `home`, and `lane` around them.
//!
//! Promises: after the first tick nothing is allocated, on the host or on the device; the same plans on the same device give
//! the same bits, whatever else is in flight and however pictures reach the device.

mod branch;
mod home;
mod lane;
mod loss;
mod network;
mod places;
mod slot;
mod turn;
mod upload;

use std::fmt::Write as _;
use std::sync::Arc;

use catseye_calibration::rig::Rig;
use thiserror::Error;

use self::branch::Parts;
pub use self::lane::TickTimes;
use self::lane::{Busy, Lane};
pub use self::loss::{Fallback, OnLoss};
pub use self::network::GpuNetwork;
pub use self::slot::SlotMemory;
use self::turn::Turn;
use super::decode::PlanDecodeError;
use super::digest::DigestValuesError;
use super::preprocess::{BatchPreprocessError, WritePictureError};
use super::tensorrt::TensorRtError;
use super::{Context, GpuError, Graph, Kernels, Transfer};
use crate::messages::{Level, NetworksPlace};
use crate::runtime::graph::{Device, Fields, Finished, Slot, StageError, Ticket};
use crate::runtime::pool::Lease;
use crate::stages::Tick;
use crate::stages::infer::Tensor;
use crate::stages::network::PictureSizes;
use crate::stages::preprocess::PreprocessError;

/// Ticks that are in flight on the device.
const DEPTH: usize = 2;

/// Why the GPU cannot take a rig's networks.
#[derive(Debug, Error)]
pub enum GpuNodeError {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// TensorRT.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    /// The outputs are not the head's.
    #[error("model {model}: {error}")]
    Decode {
        /// The model's name in the rig.
        model: String,
        /// What does not fit.
        error: PlanDecodeError,
    },
    /// Pictures cannot be made into the input.
    #[error("model {model}: {error}")]
    Preprocess {
        /// The model's name in the rig.
        model: String,
        /// What does not fit.
        error: BatchPreprocessError,
    },
    /// A picture is not what its camera may have.
    #[error(transparent)]
    Picture(#[from] WritePictureError),
    /// A map of a lens cannot be made.
    #[error(transparent)]
    Remap(#[from] PreprocessError),
    /// Tensors cannot be digested.
    #[error(transparent)]
    Digest(#[from] DigestValuesError),
    /// A tensor of another type or batch than the pipeline has.
    #[error("model {model}: {tensor}: expected {expected}, found {found}")]
    Tensor {
        /// The model's name in the rig.
        model: String,
        /// The tensor.
        tensor: String,
        /// What fits.
        expected: String,
        /// What the engine has.
        found: String,
    },
}

/// What the node is told beside the networks.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// Whether tensors are digested.
    pub digest_tensors: bool,
    /// Whether masks come home, to be drawn.
    pub masks: bool,
    /// How pictures reach the kernels.
    pub transfer: Transfer,
}

/// A tick's networks on the GPU, as a device of the graph.
pub struct GpuNode {
    lanes: Vec<Lane>,
    memory: SlotMemory,
    networks: Vec<GpuNetwork>,
    sizes: PictureSizes,
    digest_tensors: bool,
    next: u64,
    on_loss: OnLoss,
    /// Whether the device can be used no more.
    is_lost: bool,
    /// The lane that completed a tick last.
    last_lane: usize,
    /// Ticks that did not need the device, until they are asked for.
    ended: Vec<(u64, Finished<Tick>)>,
}

impl GpuNode {
    /// Takes memory for two ticks in flight and loads what runs in them.
    pub fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: Vec<GpuNetwork>,
        rig: &Rig,
        options: NodeOptions,
        on_loss: OnLoss,
    ) -> Result<Self, GpuNodeError> {
        let memory = SlotMemory::new(context, &networks, rig, options)?;
        let turns = Turn::circle(context, DEPTH)?.into_iter();
        let lanes = turns.map(|turn| Lane::new(context, kernels, &networks, rig, &memory, options, turn));
        Ok(GpuNode {
            lanes: lanes.collect::<Result<_, _>>()?,
            memory,
            networks,
            sizes: PictureSizes::new(rig),
            digest_tensors: options.digest_tensors,
            next: 0,
            on_loss,
            is_lost: false,
            last_lane: 0,
            ended: Vec::with_capacity(DEPTH),
        })
    }

    /// Where the networks of a tick run: where its decision says, or what is left.
    fn place(&self, tick: &Tick) -> NetworksPlace {
        match (tick.networks_place, self.is_lost, &self.on_loss) {
            (NetworksPlace::Configured, true, OnLoss::Cpu(_)) => NetworksPlace::Cpu,
            (NetworksPlace::Configured, true, OnLoss::End(_)) => NetworksPlace::Nowhere,
            (place, ..) => place,
        }
    }

    /// Starts a tick on the device.
    fn begin(&mut self, ticket: u64, mut slot: Lease<Slot<Tick>>) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.busy.is_none()) else {
            // the graph never sends more than fit
            forget(&mut slot.payload, NetworksPlace::Nowhere);
            let result = Err(StageError("no lane of the GPU is free".to_owned()));
            self.ended.push((ticket, Finished { slot, result }));
            return;
        };
        let mut faults = String::new();
        self.sizes.check(&mut slot.payload, &mut faults);
        self.sizes.check_raw(&mut slot.payload, &mut faults);
        let equipped = self.memory.equip(&mut slot.payload).map_err(GpuNodeError::Gpu);
        let begun = equipped.and_then(|()| lane.begin(&self.networks, &mut slot.payload));
        let begun = begun.map_err(|error| error.to_string());
        lane.busy = Some(Busy { ticket, slot, begun, faults });
    }

    /// Ends a tick without the device.
    fn do_without(&mut self, ticket: u64, mut slot: Lease<Slot<Tick>>, place: NetworksPlace) {
        let tick = &mut slot.payload;
        forget(tick, place);
        let result = match (&mut self.on_loss, place) {
            (OnLoss::Cpu(fallback), NetworksPlace::Cpu) => fallback.run(tick, &self.networks, self.digest_tensors),
            (_, NetworksPlace::Cpu) => {
                Err(StageError("the networks of this tick ran on the CPU: none is loaded".to_owned()))
            }
            _ => Err(StageError("the GPU was lost".to_owned())),
        };
        self.ended.push((ticket, Finished { slot, result }));
    }

    /// After a failure: whether it was the device's last, and what comes of that.
    fn note_loss(&mut self, faults: &mut String) {
        let Err(cause) = self.memory.context.check() else { return };
        self.is_lost = true;
        match &self.on_loss {
            OnLoss::Cpu(_) => add(faults, "the networks run on the CPU from here on"),
            OnLoss::End(told) => {
                let _ = told.set(cause.to_string());
            }
        }
    }

    /// Pieces of work of one tick's graph, once there is one.
    pub fn node_count(&self) -> Option<usize> {
        self.lanes.iter().find_map(|lane| lane.graph.as_ref()).map(Graph::node_count)
    }

    /// What a slot needs before its first tick, so that nothing is allocated then.
    pub fn slot_memory(&self) -> &SlotMemory {
        &self.memory
    }

    /// Bytes that went up for the last tick of a lane and that came home.
    pub fn copied_bytes(&self) -> [usize; 2] {
        self.lanes.first().map_or([0; 2], |lane| lane.copied)
    }

    /// How long the device worked on the tick that was completed last, copies included.
    pub fn last_device_ms(&self) -> Option<f32> {
        let lane = self.lanes.get(self.last_lane)?;
        lane.done.elapsed_ms(&lane.begun).ok()
    }

    /// Times a tick's graph with these pictures, and what TensorRT alone takes in the same branches, in turns: so many rounds
    /// of so many runs. To be asked while no tick is in flight. What cannot be captured is not counted.
    ///
    /// # Errors
    /// [`GpuNodeError`].
    pub fn time_parts(&mut self, tick: &mut Tick, rounds: usize, runs: usize) -> Result<Vec<TickTimes>, GpuNodeError> {
        self.memory.equip(tick)?;
        let Some(lane) = self.lanes.first_mut() else { return Ok(Vec::new()) };
        lane.fill(&self.networks, tick)?;
        // the first puts the tables up for the others
        let mut round = || {
            Ok(TickTimes {
                whole_ms: lane.time(Parts::ALL, runs)?,
                on_device_ms: lane.time(Parts { upload: false, ..Parts::ALL }, runs)?,
                inference_ms: lane.time(Parts::INFERENCE, runs)?,
            })
        };
        (0..rounds).map(|_| round()).collect()
    }
}

impl Device<Tick> for GpuNode {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn level(&self) -> Level {
        Level::PerEngine
    }

    fn depth(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, slot: Lease<Slot<Tick>>) -> Ticket {
        self.next += 1;
        let ticket = self.next;
        match self.place(&slot.payload) {
            NetworksPlace::Configured => self.begin(ticket, slot),
            place => self.do_without(ticket, slot, place),
        }
        Ticket(ticket)
    }

    fn complete(&mut self, Ticket(ticket): Ticket) -> Result<Finished<Tick>, Ticket> {
        if let Some(at) = self.ended.iter().position(|(of, _)| *of == ticket) {
            return Ok(self.ended.swap_remove(at).1);
        }
        let is_mine = |lane: &Lane| lane.busy.as_ref().is_some_and(|busy| busy.ticket == ticket);
        let found = self.lanes.iter().position(is_mine).and_then(|at| Some((at, self.lanes.get_mut(at)?)));
        let Some((at, lane)) = found else { return Err(Ticket(ticket)) };
        let begun = matches!(&lane.busy, Some(Busy { begun: Ok(()), .. }));
        let done = if begun { lane.done.is_done() } else { Ok(true) };
        if matches!(done, Ok(false)) {
            return Err(Ticket(ticket));
        }
        let Some(Busy { mut slot, begun, mut faults, .. }) = lane.busy.take() else { return Err(Ticket(ticket)) };
        self.last_lane = at;
        match begun.and(done.map_err(|error| error.to_string())) {
            Ok(_) => lane.deliver(&mut slot.payload),
            Err(error) => {
                forget(&mut slot.payload, NetworksPlace::Nowhere);
                add(&mut faults, &error);
                self.note_loss(&mut faults);
            }
        }
        let result = if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) };
        Ok(Finished { slot, result })
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        if !self.digest_tensors {
            return;
        }
        for (network, slot) in tick.networks.iter().enumerate() {
            let names = std::iter::once("input").chain(std::iter::repeat("output"));
            for (digest, name) in slot.digests.iter().zip(names) {
                fields.add(network as u16, name, *digest);
            }
        }
    }
}

/// Leaves nothing of an earlier tick behind, and says where the networks ran instead.
fn forget(tick: &mut Tick, place: NetworksPlace) {
    tick.networks_place = place;
    for slot in &mut tick.networks {
        slot.results.clear();
        slot.digests.clear();
        slot.mask_bytes.clear();
        slot.outputs.iter_mut().for_each(|output| *output = Tensor::default());
    }
}

/// Adds words to those of a fault.
fn add(faults: &mut String, words: &str) {
    let gap = if faults.is_empty() { "" } else { "; " };
    // writing to a string cannot fail
    let _ = write!(faults, "{gap}{words}");
}
