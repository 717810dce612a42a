//! Bytes that may lie in memory of somebody's choosing: a vector's, or such as a device reads without help.
//!
//! A buffer of a frame or of a result is made once and used for every tick. Who runs work beside the CPU lends memory to it;
//! what fills the buffer and what reads it never notice. Nothing of a device is known here.

use std::any::Any;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

/// Memory of a fixed size that somebody made: page-locked, shared with a device, or imported.
pub trait HostMemory: Any + Debug + Send + Sync {
    /// All of its bytes.
    fn bytes(&self) -> &[u8];

    /// All of its bytes, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// As many bytes as were asked for, in lent memory where there is some and it has room, else on the heap.
#[derive(Debug, Default)]
pub struct HostBytes {
    heap: Vec<u8>,
    lent: Option<Box<dyn HostMemory>>,
    /// How many bytes of the lent memory are meant, where they lie there.
    lent_len: Option<usize>,
}

impl HostBytes {
    /// Takes memory for all that is written from now on; what is there moves into it as far as there is room.
    pub fn lend(&mut self, mut memory: Box<dyn HostMemory>) {
        let held = self.to_vec();
        self.lent_len = memory.bytes_mut().get_mut(..held.len()).map(|room| {
            room.copy_from_slice(&held);
            held.len()
        });
        self.heap = if self.lent_len.is_some() { Vec::new() } else { held };
        self.lent = Some(memory);
    }

    /// The memory that was lent, whether or not the bytes lie there.
    pub fn lent(&self) -> Option<&dyn HostMemory> {
        self.lent.as_deref()
    }

    /// The lent memory, if the bytes lie there, from its beginning.
    pub fn memory(&self) -> Option<&dyn HostMemory> {
        self.lent.as_deref().filter(|_| self.lent_len.is_some())
    }

    /// As [`memory`](Self::memory), to be written.
    pub fn memory_mut(&mut self) -> Option<&mut dyn HostMemory> {
        self.lent.as_deref_mut().filter(|_| self.lent_len.is_some())
    }

    /// Makes this so many bytes: the first ones stay, as far as they are wanted, and what is new is unspecified.
    pub fn resize(&mut self, len: usize) -> &mut [u8] {
        let has_room = self.lent.as_deref().is_some_and(|memory| len <= memory.bytes().len());
        match self.lent_len {
            None if has_room => {
                let memory = self.lent.as_deref_mut().map(HostMemory::bytes_mut).unwrap_or_default();
                memory.iter_mut().zip(self.heap.drain(..).take(len)).for_each(|(new, old)| *new = old);
            }
            Some(_) if !has_room => self.heap = self.to_vec(),
            _ => {}
        }
        self.lent_len = has_room.then_some(len);
        if !has_room {
            self.heap.resize(len, 0);
        }
        self
    }

    /// Makes this no bytes; what memory there is stays.
    pub fn clear(&mut self) {
        self.heap.clear();
        self.resize(0);
    }

    /// The bytes on the heap.
    pub fn into_vec(self) -> Vec<u8> {
        if self.lent_len.is_some() { self.to_vec() } else { self.heap }
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match (&self.lent, self.lent_len) {
            (Some(memory), Some(len)) => memory.bytes().get(..len).unwrap_or_default(),
            _ => &self.heap,
        }
    }
}

impl DerefMut for HostBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match (&mut self.lent, self.lent_len) {
            (Some(memory), Some(len)) => memory.bytes_mut().get_mut(..len).unwrap_or_default(),
            _ => &mut self.heap,
        }
    }
}

impl From<Vec<u8>> for HostBytes {
    fn from(heap: Vec<u8>) -> Self {
        HostBytes { heap, ..HostBytes::default() }
    }
}

/// The copy is on the heap: memory is lent to one.
impl Clone for HostBytes {
    fn clone(&self) -> Self {
        HostBytes::from(self.to_vec())
    }
}

/// Equal are equal bytes, wherever they lie.
impl PartialEq for HostBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for HostBytes {}

#[cfg(test)]
mod tests {
    use super::*;

    impl HostMemory for [u8; 8] {
        fn bytes(&self) -> &[u8] {
            self
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            self
        }
    }

    #[test]
    fn bytes_lie_in_lent_memory_while_it_has_room() {
        let mut bytes = HostBytes::from(vec![1, 2, 3]);
        assert!(bytes.lent().is_none() && bytes.memory().is_none());
        bytes.lend(Box::new([0; 8]));
        assert_eq!(*bytes, [1, 2, 3]);
        assert_eq!(bytes.memory().map(HostMemory::bytes), Some(&[1, 2, 3, 0, 0, 0, 0, 0][..]));

        bytes.resize(8).fill(7);
        assert_eq!(*bytes, [7; 8]);
        assert!(bytes.memory_mut().is_some());
        assert_eq!(bytes.resize(9), [7, 7, 7, 7, 7, 7, 7, 7, 0]);
        bytes.resize(9).fill(5);
        assert_eq!(*bytes, [5; 9]);
        assert!(bytes.memory().is_none() && bytes.lent().is_some());
        assert_eq!(bytes.clone().into_vec(), [5; 9]);

        bytes.clear();
        assert!(bytes.is_empty() && bytes.memory().is_some());
        bytes.resize(2).fill(1);
        assert_eq!(bytes, HostBytes::from(vec![1, 1]));
        assert_eq!(bytes.into_vec(), [1, 1]);
    }

    #[test]
    fn memory_without_room_for_what_is_there_waits_for_less() {
        let mut bytes = HostBytes::from(vec![4; 20]);
        bytes.lend(Box::new([0; 8]));
        assert_eq!(*bytes, [4; 20]);
        assert!(bytes.memory().is_none());
        assert_eq!(bytes.resize(3), [4; 3]);
        bytes.resize(3).fill(6);
        assert_eq!(bytes.memory().map(HostMemory::bytes), Some(&[6, 6, 6, 0, 0, 0, 0, 0][..]));
    }

    #[test]
    fn nothing_is_some_bytes_too() {
        let mut bytes = HostBytes::default();
        assert!(bytes.is_empty());
        assert_eq!(bytes.resize(4), [0; 4]);
        bytes.clear();
        assert!(bytes.is_empty() && bytes.memory().is_none());
    }
}
