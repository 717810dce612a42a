//! What the networks of a tick said, read row by row by the pipeline's decode stage: decoded by the device, or tensors of the
//! CPU that took over from it.

use super::decode::{DecodePlan, ResultReader};
use crate::messages::CameraDetections;
use crate::runtime::graph::StageError;
use crate::stages::NetworkSlot;
use crate::stages::decode::{Decode, Masks, View};
use crate::stages::network::{Network, ReadRow};

/// Reads what [`GpuNode`](super::node::GpuNode) left for one network.
pub struct DeviceResults {
    device: ResultReader,
    cpu: Box<dyn Decode>,
}

impl DeviceResults {
    /// For results of this plan, and outputs of this network.
    pub fn new(plan: &DecodePlan, network: &Network) -> Self {
        let cpu = network.head.decoder(network.layout.width, network.layout.height, &network.outputs);
        DeviceResults { device: ResultReader::new(plan), cpu }
    }
}

impl ReadRow for DeviceResults {
    fn read(
        &mut self,
        slot: &NetworkSlot,
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), StageError> {
        if !slot.results.is_empty() {
            return self.device.read(&slot.results, row, view, seen).map_err(|error| StageError(error.to_string()));
        }
        // where nothing came, the node has said why
        if slot.outputs.iter().all(|output| output.data.is_empty()) {
            Ok(())
        } else {
            self.cpu.read(slot, row, view, seen)
        }
    }

    fn copy_masks(&self, slot: &NetworkSlot, row: usize, into: &mut Masks) {
        if slot.results.is_empty() {
            self.cpu.copy_masks(slot, row, into);
        } else {
            self.device.read_masks(&slot.mask_bytes, row, into);
        }
    }
}
