//! Where the parts of a buffer lie, and the table that tells a kernel what to copy.

use crate::gpu::Part;
use crate::gpu::copy::PART_BYTES;

/// Every part of a buffer begins at a multiple of this.
pub(super) const ALIGNMENT: usize = 256;

/// Parts of a buffer, one behind the other.
#[derive(Default)]
pub(super) struct Places(usize);

impl Places {
    /// Where the next part begins and how many bytes it has.
    pub(super) fn take(&mut self, bytes: usize) -> [usize; 2] {
        let start = self.0;
        self.0 = start.saturating_add(bytes).next_multiple_of(ALIGNMENT);
        [start, bytes]
    }

    /// Bytes of all so far.
    pub(super) fn bytes(&self) -> usize {
        self.0
    }
}

/// Writes a part of a table of parts.
pub(super) fn write_part(tables: &mut [u8], [table, bytes]: [usize; 2], index: usize, part: Part) {
    let of_table = tables.get_mut(table..).and_then(|tables| tables.get_mut(..bytes)).unwrap_or_default();
    if let Some(place) = of_table.as_chunks_mut::<PART_BYTES>().0.get_mut(index) {
        *place = part.to_bytes();
    }
}
