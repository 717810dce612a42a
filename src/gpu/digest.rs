//! Digests of what lies in device memory, computed where it lies.
//!
//! A [`DeviceDigest`] is made of a list of values; the digest of each, as [`digest_bytes`](crate::runtime::digest::digest_bytes)
//! and [`digest_f32`](crate::runtime::digest::digest_f32) give it, is written into an array of `u64` that is copied home
//! with other results. Enqueuing allocates nothing.

use thiserror::Error;

use super::abi::{self, CatseyeDigestItem, CatseyeDigestParams};
use super::{GpuError, Kernel, Kernels, Stream};
use crate::runtime::digest::BLOCK_BYTES;

const _: () = assert!(BLOCK_BYTES == abi::CATSEYE_DIGEST_BLOCK_BYTES as usize);

/// Values that one launch digests.
const PER_LAUNCH: usize = abi::CATSEYE_MAX_DIGESTS as usize;
/// Leaves that one block digests.
const LEAVES_PER_BLOCK: u32 = abi::CATSEYE_DIGEST_THREADS / 4;
/// Addresses are multiples of this.
const ALIGNMENT: u64 = 8;

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Bytes as they are.
    Bytes,
    /// Floats, every NaN as the canonical one.
    F32,
    /// Half precision, digested as the floats of the same values.
    F16,
}

/// A value in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceValue {
    /// Where it lies.
    pub address: u64,
    /// How many bytes or numbers it has.
    pub count: usize,
    /// What they are.
    pub kind: ValueKind,
}

impl DeviceValue {
    /// Bytes that are digested.
    fn digested_bytes(&self) -> usize {
        match self.kind {
            ValueKind::Bytes => self.count,
            ValueKind::F32 | ValueKind::F16 => self.count.saturating_mul(4),
        }
    }

    fn leaves(&self) -> usize {
        self.digested_bytes().div_ceil(BLOCK_BYTES)
    }
}

/// Why values cannot be digested.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DigestValuesError {
    /// A kernel is missing.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A value does not begin where eight bytes can be read at once.
    #[error("value {index} lies at address {address:#x}: expected a multiple of {ALIGNMENT}")]
    Misaligned {
        /// Position of the value.
        index: usize,
        /// Where it lies.
        address: u64,
    },
    /// A value is too large.
    #[error("value {index} has {count} parts: expected fewer than 2^40")]
    TooLarge {
        /// Position of the value.
        index: usize,
        /// Its bytes or numbers.
        count: usize,
    },
}

/// Digests values in device memory.
#[derive(Debug)]
pub struct DeviceDigest {
    leaves: Kernel,
    root: Kernel,
    launches: Vec<CatseyeDigestParams>,
}

impl DeviceDigest {
    /// Device memory that the kernels need for themselves.
    pub fn workspace_bytes(values: &[DeviceValue]) -> usize {
        values.iter().map(|value| value.leaves().saturating_mul(size_of::<u64>())).fold(0, usize::saturating_add)
    }

    /// Bytes of the results, a `u64` per value.
    pub fn result_bytes(values: &[DeviceValue]) -> usize {
        values.len() * size_of::<u64>()
    }

    /// Finds the kernels and freezes their parameters. `workspace` and `results` are multiples of 8.
    pub fn new(
        kernels: &Kernels,
        values: &[DeviceValue],
        workspace: u64,
        results: u64,
    ) -> Result<Self, DigestValuesError> {
        let mut launches = Vec::with_capacity(values.len().div_ceil(PER_LAUNCH));
        let mut leaves = workspace;
        for (launch, chunk) in values.chunks(PER_LAUNCH).enumerate() {
            let first = launch * PER_LAUNCH;
            let mut params = CatseyeDigestParams {
                results: results.wrapping_add((first * size_of::<u64>()) as u64),
                count: chunk.len() as u32,
                ..CatseyeDigestParams::default()
            };
            for ((index, value), place) in (first..).zip(chunk).zip(&mut params.items) {
                *place = item(index, value, leaves)?;
                leaves = leaves.wrapping_add((value.leaves() * size_of::<u64>()) as u64);
            }
            launches.push(params);
        }
        let (leaves, root) = (kernels.get("catseye_digest_leaves")?, kernels.get("catseye_digest_root")?);
        Ok(DeviceDigest { leaves, root, launches })
    }

    /// Puts the kernels into the stream, behind what makes the values. Can be captured.
    pub fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        for params in &self.launches {
            let most = params.items.iter().map(|item| item.leaf_count).max().unwrap_or(0);
            let blocks = most.div_ceil(LEAVES_PER_BLOCK).max(1);
            let threads = [abi::CATSEYE_DIGEST_THREADS, 1, 1];
            stream.launch(&self.leaves, [blocks, params.count, 1], threads, 0, params)?;
            stream.launch(&self.root, [params.count, 1, 1], [32, 1, 1], 0, params)?;
        }
        Ok(())
    }
}

fn item(index: usize, value: &DeviceValue, leaves: u64) -> Result<CatseyeDigestItem, DigestValuesError> {
    let DeviceValue { address, count, kind } = *value;
    if !address.is_multiple_of(ALIGNMENT) {
        return Err(DigestValuesError::Misaligned { index, address });
    }
    if count as u64 >= 1 << 40 {
        return Err(DigestValuesError::TooLarge { index, count });
    }
    Ok(CatseyeDigestItem {
        address,
        bytes: value.digested_bytes() as u64,
        leaves,
        leaf_count: value.leaves() as u32,
        kind: match kind {
            ValueKind::Bytes => abi::CATSEYE_DIGEST_BYTES,
            ValueKind::F32 => abi::CATSEYE_DIGEST_F32,
            ValueKind::F16 => abi::CATSEYE_DIGEST_F16,
        },
    })
}

/// The digests out of what came home, in the order of the values.
pub fn read_digests(results: &[u8]) -> impl Iterator<Item = u64> {
    results.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let value = |address: u64, count: usize| DeviceValue { address, count, kind: ValueKind::F16 };
        assert_eq!(DeviceDigest::workspace_bytes(&[value(0, 1024), value(0, 1025), value(0, 0)]), 3 * 8);
        assert_eq!(item(2, &value(8, 3), 64).map(|item| (item.bytes, item.leaf_count)), Ok((12, 1)));
        assert_eq!(item(2, &value(4, 3), 64), Err(DigestValuesError::Misaligned { index: 2, address: 4 }));
        assert!(matches!(item(0, &value(8, 1 << 41), 0), Err(DigestValuesError::TooLarge { .. })));
    }
}
