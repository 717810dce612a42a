//! Copies of many parts by one kernel, between page-locked memory of the host and the device's, either way.
//!
//! A table in the device's memory tells what the parts are. It may change from one run to the next without a new graph, and costs the
//! host's thread nothing for each part.

use super::abi::{self, CatseyeCopyParams, CatseyePart};
use super::{GpuError, Kernel, Kernels, Stream};

/// Bytes of a part in the table.
pub const PART_BYTES: usize = size_of::<CatseyePart>();

/// Blocks that work on all parts together. A bus of 50 GB/s that answers in 2 us is full with 100 KB on their way, and a block has 16
/// KiB; on an H200 12 to 192 blocks took the same time.
const BLOCKS: u32 = 24;
/// Blocks that work on one part at most.
const BLOCKS_A_PART: u32 = 8;

/// Bytes that go from one address to another; the device reaches both, and they do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where they are.
    pub source: u64,
    /// Where they go.
    pub target: u64,
    /// How many.
    pub bytes: usize,
}

impl Part {
    /// As it stands in the table.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PART_BYTES] {
        let mut all = [0; PART_BYTES];
        let words = [self.source, self.target, self.bytes as u64];
        all.as_chunks_mut::<8>().0.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_ne_bytes());
        all
    }
}

/// Copies the parts of a table.
#[derive(Debug)]
pub struct PartsCopy {
    kernel: Kernel,
    params: CatseyeCopyParams,
    count: u32,
}

impl PartsCopy {
    /// For a table of so many parts at an address that is a multiple of 8.
    pub fn new(kernels: &Kernels, table: u64, count: usize) -> Result<Self, GpuError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(PartsCopy { kernel: kernels.get("catseye_copy")?, params: CatseyeCopyParams { parts: table }, count })
    }

    /// Puts the copies into the stream, behind what writes the table. Can be captured.
    pub fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        if self.count == 0 {
            return Ok(());
        }
        let blocks = (BLOCKS / self.count).clamp(1, BLOCKS_A_PART);
        stream.launch(&self.kernel, [blocks, self.count, 1], [abi::CATSEYE_COPY_THREADS, 1, 1], 0, &self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_struct_of_the_header() {
        let part = Part { source: 1, target: 2, bytes: 3 }.to_bytes();
        let word = |at: usize| u64::from_ne_bytes(part.as_chunks::<8>().0[at / 8]);
        let places = [
            std::mem::offset_of!(CatseyePart, source),
            std::mem::offset_of!(CatseyePart, target),
            std::mem::offset_of!(CatseyePart, bytes),
        ];
        assert_eq!(places.map(word), [1, 2, 3]);
        assert_eq!(Part::default().to_bytes(), [0; PART_BYTES]);
    }
}
