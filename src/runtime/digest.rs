//! Digests: 64 bits that stand for a value, the same on every machine and on the GPU.
//!
//! A digest is a tree of fixed blocks, so that thousands of GPU threads can compute it in the same graph as the network:
//! block `i` of [`BLOCK_BYTES`] bytes gives `leaf[i] = xxh64(block, seed = i)`, and the digest is
//! `xxh64(leaves as little-endian u64, then the length as u64, seed = SEED)`. Small values have one leaf.
//! xxHash64 is the published algorithm of Yann Collet. It detects a change; it is not a signature.

use xxhash_rust::xxh64::{Xxh64, xxh64};

use crate::record::Sink;

/// Bytes of one leaf of the tree.
pub const BLOCK_BYTES: usize = 4096;

/// Seed of the root: "catseye1".
pub const SEED: u64 = u64::from_le_bytes(*b"catseye1");

/// Computes a digest from bytes as they come. Allocates nothing.
pub struct Digester {
    leaf: Xxh64,
    filled: usize,
    leaves: u64,
    root: Xxh64,
    length: u64,
}

impl Default for Digester {
    fn default() -> Self {
        Digester::new()
    }
}

impl Digester {
    /// An empty digest.
    pub fn new() -> Self {
        Digester { leaf: Xxh64::new(0), filled: 0, leaves: 0, root: Xxh64::new(SEED), length: 0 }
    }

    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while self.filled + bytes.len() >= BLOCK_BYTES {
            let (head, rest) = bytes.split_at(BLOCK_BYTES - self.filled);
            if self.filled == 0 {
                // a whole block needs no streaming state
                self.push_leaf(xxh64(head, self.leaves));
            } else {
                self.leaf.update(head);
                self.push_leaf(self.leaf.digest());
                self.filled = 0;
            }
            bytes = rest;
        }
        if bytes.is_empty() {
            return;
        }
        if self.filled == 0 {
            self.leaf = Xxh64::new(self.leaves);
        }
        self.leaf.update(bytes);
        self.filled += bytes.len();
    }

    fn push_leaf(&mut self, leaf: u64) {
        self.root.update(&leaf.to_le_bytes());
        self.leaves += 1;
    }

    /// The digest of all bytes so far.
    pub fn finish(mut self) -> u64 {
        if self.filled > 0 {
            self.push_leaf(self.leaf.digest());
        }
        self.root.update(&self.length.to_le_bytes());
        self.root.digest()
    }
}

impl Sink for Digester {
    fn scalar(&mut self, little_endian: &[u8]) {
        self.update(little_endian);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// The digest of `bytes`.
pub fn digest_bytes(bytes: &[u8]) -> u64 {
    if (1..=BLOCK_BYTES).contains(&bytes.len()) {
        // one leaf needs no streaming state
        let mut root = [0; 16];
        root[..8].copy_from_slice(&xxh64(bytes, 0).to_le_bytes());
        root[8..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        return xxh64(&root, SEED);
    }
    let mut digester = Digester::new();
    digester.update(bytes);
    digester.finish()
}

/// The digest of floats, each as its little-endian bits, every NaN as the canonical one.
pub fn digest_f32(values: &[f32]) -> u64 {
    let mut digester = Digester::new();
    let mut bytes = [0u8; 1024];
    for chunk in values.chunks(bytes.len() / 4) {
        for (value, out) in chunk.iter().zip(bytes.chunks_exact_mut(4)) {
            let bits = if value.is_nan() { f32::NAN.abs().to_bits() } else { value.to_bits() };
            out.copy_from_slice(&bits.to_le_bytes());
        }
        digester.update(&bytes[..chunk.len() * 4]);
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition in the module's words, without streaming.
    fn by_definition(bytes: &[u8]) -> u64 {
        let mut leaves = Vec::new();
        for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            leaves.extend_from_slice(&xxh64(block, i as u64).to_le_bytes());
        }
        leaves.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        xxh64(&leaves, SEED)
    }

    #[test]
    fn is_fixed_for_all_time() {
        assert_eq!(digest_bytes(b""), by_definition(b""));
        assert_eq!(digest_bytes(b"catseye"), by_definition(b"catseye"));
        let block: Vec<u8> = (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for len in [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, block.len()] {
            assert_eq!(digest_bytes(&block[..len]), by_definition(&block[..len]), "{len} bytes");
        }
    }

    #[test]
    fn floats_have_one_nan() {
        assert_eq!(digest_f32(&[1.0, f32::NAN]), digest_f32(&[1.0, -f32::NAN]));
        assert_ne!(digest_f32(&[0.0]), digest_f32(&[-0.0]));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), cut in 1usize..9000) {
            let mut digester = Digester::new();
            for piece in bytes.chunks(cut) {
                digester.update(piece);
            }
            prop_assert_eq!(digester.finish(), by_definition(&bytes));
        }
    }
}
