//! What a device decoded, read row by row by the pipeline's decode stage.

use super::decode::{DecodePlan, ResultReader};
use crate::messages::CameraDetections;
use crate::runtime::graph::StageError;
use crate::stages::NetworkSlot;
use crate::stages::decode::{Masks, View};
use crate::stages::network::ReadRow;

/// Reads the results that [`GpuNode`](super::node::GpuNode) brought home for one network.
pub struct DeviceResults(ResultReader);

impl DeviceResults {
    /// For results of this plan.
    pub fn new(plan: &DecodePlan) -> Self {
        DeviceResults(ResultReader::new(plan))
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
        self.0.read(&slot.results, row, view, seen).map_err(|error| StageError(error.to_string()))
    }

    fn copy_masks(&self, slot: &NetworkSlot, row: usize, into: &mut Masks) {
        self.0.read_masks(&slot.mask_bytes, row, into);
    }
}
