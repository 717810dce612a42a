//! Page-locked memory of a slot: unpack or a camera writes pictures into it, the graph reads them there, and the results end there.

use std::any::Any;
use std::sync::Arc;

use catseye_calibration::rig::{Camera, Rig};
use catseye_sensors::memory::{ForeignMemory, HostMemory, MemoryMaker};

use super::{GpuNetwork, GpuNodeError, NodeOptions};
use crate::gpu::{Context, GpuError, HostKind, PinnedBuffer};
use crate::stages::Tick;

/// Page-locked memory for the pictures and the results of a slot, mapped, so that kernels copy from and to it.
#[derive(Clone, Debug)]
pub struct SlotMemory {
    pub(super) context: Arc<Context>,
    /// Per camera of the rig, bytes that its pictures have at most; none for one that no network looks at.
    pub(super) pictures: Vec<usize>,
    /// Per network, bytes of its results and of its masks.
    pub(super) results: Vec<[usize; 2]>,
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
        let pictures = pictures.map(|(index, camera)| if is_seen(index) { picture_room(camera) } else { 0 }).collect();
        let of_network = |network: &GpuNetwork| {
            let plan = network.plan()?;
            Ok([plan.result_bytes(), if options.masks { plan.mask_bytes() } else { 0 }])
        };
        let results = networks.iter().map(of_network).collect::<Result<_, GpuNodeError>>()?;
        Ok(SlotMemory { context: Arc::clone(context), pictures, results })
    }

    /// Lends to a slot what it has not got yet.
    pub fn equip(&self, tick: &mut Tick) -> Result<(), GpuError> {
        for (camera, bytes) in tick.cameras.iter_mut().zip(&self.pictures) {
            if *bytes > 0 && pinned(camera.frame.host_bytes().lent()).is_none() {
                camera.frame.lend(self.memory(*bytes)?);
            }
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

/// Bytes that a camera's pictures have at most: three for each pixel, and the odd row of packed chroma.
fn picture_room(camera: &Camera) -> usize {
    let (width, height) = (camera.width_px as usize, camera.height_px as usize);
    width.saturating_mul(3).saturating_add(4).saturating_mul(height)
}
