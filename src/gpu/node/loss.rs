//! What is done when the device can be used no more, as the rig says.

use std::sync::{Arc, OnceLock};

use super::{GpuNetwork, add};
use crate::runtime::digest::digest_f32;
use crate::runtime::graph::{Stage, StageError};
use crate::stages::Tick;
use crate::stages::network::{Infer, Preprocess};

/// What happens when the device can be used no more.
pub enum OnLoss {
    /// Ticks see nothing from then on, and whoever runs them is told why.
    End(Arc<OnceLock<String>>),
    /// The networks run on the CPU.
    Cpu(Box<Fallback>),
}

/// What takes the device's place on the CPU. It works while a tick is handed to the node, one after the other.
pub struct Fallback {
    /// Makes the tensors.
    pub preprocess: Preprocess,
    /// Runs the networks.
    pub infer: Infer,
}

impl Fallback {
    pub(super) fn run(
        &mut self,
        tick: &mut Tick,
        networks: &[GpuNetwork],
        digest_tensors: bool,
    ) -> Result<(), StageError> {
        for (slot, GpuNetwork { network, .. }) in tick.networks.iter_mut().zip(networks) {
            let shape = [slot.cameras.len(), 3, network.layout.height, network.layout.width];
            slot.input.reshape(&shape).map_err(|error| StageError(error.to_string()))?;
        }
        let mut faults = String::new();
        for ran in [self.preprocess.run(tick), self.infer.run(tick)] {
            if let Err(error) = ran {
                add(&mut faults, &error.to_string());
            }
        }
        for slot in tick.networks.iter_mut().filter(|_| digest_tensors) {
            let tensors = std::iter::once(&slot.input).chain(&slot.outputs);
            slot.digests.extend(tensors.map(|tensor| digest_f32(&tensor.data)));
        }
        if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) }
    }
}
