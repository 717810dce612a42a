//! Page-locked memory of a slot: unpack or a camera writes pictures into it, the graph reads them there, and the results end there.

use std::any::Any;
use std::sync::Arc;

use catseye_calibration::rig::{Camera, Rig};
use catseye_sensors::memory::{ForeignMemory, HostMemory, MemoryMaker};

use super::{GpuNetwork, GpuNodeError, NodeOptions};
use crate::gpu::{Context, GpuError, HostKind, PinnedBuffer};
use crate::stages::Tick;
use crate::stages::preprocess::raw::pattern_of;

/// Page-locked memory for the pictures and the results of a slot, mapped, so that kernels copy from and to it.
#[derive(Clone, Debug)]
pub struct SlotMemory {
    pub(super) context: Arc<Context>,
    pub(super) pictures: Vec<PictureRoom>,
    /// Per network, bytes of its results and of its masks.
    pub(super) results: Vec<[usize; 2]>,
}

/// What the pictures of a camera of the rig need.
#[derive(Clone, Copy, Debug)]
pub(super) struct PictureRoom {
    /// Bytes at most; none for a camera that no network looks at.
    pub(super) bytes: usize,
    /// Whether they are raw, and developed on the device.
    is_raw: bool,
}

impl PictureRoom {
    /// Three bytes for each pixel, and the odd row of packed chroma: more than samples of any raw format take.
    fn of(camera: &Camera, is_seen: bool) -> Self {
        let (width, height) = (camera.width_px as usize, camera.height_px as usize);
        let bytes = width.saturating_mul(3).saturating_add(4).saturating_mul(height);
        PictureRoom { bytes: if is_seen { bytes } else { 0 }, is_raw: pattern_of(camera).is_some() }
    }
}

impl SlotMemory {
    pub(super) fn new(
        context: &Arc<Context>,
        networks: &[GpuNetwork],
        rig: &Rig,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let is_seen = |camera: usize| networks.iter().any(|network| network.network.cameras.contains(&camera));
        let pictures = rig.cameras.iter().enumerate();
        let pictures = pictures.map(|(index, camera)| PictureRoom::of(camera, is_seen(index))).collect();
        let of_network = |network: &GpuNetwork| {
            let plan = network.plan()?;
            Ok([plan.result_bytes(), if options.masks { plan.mask_bytes() } else { 0 }])
        };
        let results = networks.iter().map(of_network).collect::<Result<_, GpuNodeError>>()?;
        Ok(SlotMemory { context: Arc::clone(context), pictures, results })
    }

    /// Lends to a slot what it has not got yet.
    pub fn equip(&self, tick: &mut Tick) -> Result<(), GpuError> {
        for (camera, PictureRoom { bytes, is_raw }) in tick.cameras.iter_mut().zip(&self.pictures) {
            let held = if *is_raw { camera.raw.samples() } else { camera.frame.host_bytes() };
            if *bytes == 0 || pinned(held.lent()).is_some() {
                continue;
            }
            let memory = self.memory(*bytes)?;
            if *is_raw { camera.raw.lend(memory) } else { camera.frame.lend(memory) }
        }
        for (slot, [results, masks]) in tick.networks.iter_mut().zip(&self.results) {
            for (held, bytes) in [(&mut slot.results, *results), (&mut slot.mask_bytes, *masks)] {
                if pinned(held.lent()).is_none() {
                    held.lend(self.memory(bytes)?);
                }
            }
        }
        Ok(())
    }

    fn memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>, GpuError> {
        Ok(Box::new(PinnedBuffer::new(&self.context, bytes, HostKind::Mapped)?))
    }
}

/// Memory that a camera's driver fills: none where the device takes no more of it.
impl MemoryMaker for SlotMemory {
    fn make(&self, bytes: usize) -> Option<Box<dyn HostMemory>> {
        Some(Box::new(PinnedBuffer::of_pages(&self.context, bytes).ok()?))
    }

    fn adopt(&self, memory: ForeignMemory) -> Option<Box<dyn HostMemory>> {
        Some(Box::new(PinnedBuffer::of_foreign(&self.context, memory).ok()?))
    }

    fn gpu_uuid(&self) -> Option<[u8; 16]> {
        Some(self.context.uuid())
    }
}

impl HostMemory for PinnedBuffer {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// The page-locked memory that this is, if it is such.
pub(super) fn pinned(memory: Option<&dyn HostMemory>) -> Option<&PinnedBuffer> {
    let memory: &dyn Any = memory?;
    memory.downcast_ref()
}
