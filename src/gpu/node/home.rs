//! The end of a tick: results and masks go to its slot, digests to the lane.

use std::sync::Arc;

use super::places::{Places, write_part};
use super::slot::{SlotMemory, pinned};
use super::{GpuNetwork, NodeOptions};
use crate::gpu::{Context, DeviceBuffer, GpuError, HostKind, Kernels, Part, PartsCopy, PinnedBuffer, Stream};
use crate::stages::Tick;

/// What comes home: the results of each network and masks where they are wanted, to the slot; digests, to here.
pub(super) struct Home {
    pub(super) device: DeviceBuffer,
    /// Per network: where its results begin, where its masks, where its digests, and their bytes.
    pub(super) parts: Vec<HomePart>,
    copy: PartsCopy,
    /// Where the digests of all networks begin.
    pub(super) digests: usize,
    digest_bytes: PinnedBuffer,
}

/// Where one network's parts begin, and how long they are. Digests are counted from the beginning of all digests.
#[derive(Clone, Copy, Default)]
pub(super) struct HomePart {
    pub(super) results: [usize; 2],
    pub(super) masks: [usize; 2],
    pub(super) digests: [usize; 2],
}

impl Home {
    /// Parts of each network that are copied to the slot.
    pub(super) const PARTS: usize = 2;

    /// With the address of the table of what is copied.
    pub(super) fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: &[GpuNetwork],
        memory: &SlotMemory,
        options: NodeOptions,
        table: u64,
    ) -> Result<Self, GpuError> {
        let (mut places, mut digests) = (Places::default(), Places::default());
        let parts = networks.iter().zip(&memory.results).map(|(network, [results, masks])| {
            let count = if options.digest_tensors { 1 + network.engine.outputs().len() } else { 0 };
            HomePart {
                results: places.take(*results),
                masks: places.take(*masks),
                digests: digests.take(count * size_of::<u64>()),
            }
        });
        let parts = parts.collect();
        let [begin, _] = places.take(digests.bytes());
        Ok(Home {
            // the kernels leave the gaps between parts alone, and those go home too
            device: DeviceBuffer::from_bytes(context, &vec![0; places.bytes()])?,
            parts,
            copy: PartsCopy::new(kernels, table, networks.len() * Home::PARTS)?,
            digests: begin,
            digest_bytes: PinnedBuffer::new(context, digests.bytes(), HostKind::Pinned)?,
        })
    }

    /// Writes the table of what is copied: results and masks, to the slot. Gives their bytes.
    pub(super) fn fill(&self, tick: &mut Tick, tables: &mut [u8], table: [usize; 2]) -> Result<usize, GpuError> {
        let (mut index, mut sent) = (0, 0);
        for (slot, part) in tick.networks.iter_mut().zip(&self.parts) {
            for (held, [start, bytes]) in [(&mut slot.results, part.results), (&mut slot.mask_bytes, part.masks)] {
                held.resize(bytes);
                let target = pinned(held.memory()).ok_or(GpuError::NotMapped)?.device_part(&(0..bytes))?;
                let source = self.device.part(start, bytes)?;
                write_part(tables, table, index, Part { source, target, bytes });
                index += 1;
                sent += bytes;
            }
        }
        Ok(sent)
    }

    /// Copies results and masks to the slot, and the digests of all networks to here.
    pub(super) fn enqueue(&mut self, stream: &Stream) -> Result<(), GpuError> {
        self.copy.enqueue(stream)?;
        let bytes = self.digest_bytes.len();
        stream.download(&self.device, self.digests, &mut self.digest_bytes, 0..bytes)
    }

    pub(super) fn digests_of(&self, part: &HomePart) -> &[u8] {
        let [start, bytes] = part.digests;
        self.digest_bytes.get(start..start.saturating_add(bytes)).unwrap_or_default()
    }
}
