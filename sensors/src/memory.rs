//! Bytes that may lie in memory of somebody's choosing: a vector's, or such as a device reads without help.
//!
//! A buffer of a frame or of a result is made once and used for every tick. Who runs work beside the CPU lends memory to it;
//! what fills the buffer and what reads it never notice. Bytes that lie somewhere already, as a picture does in the buffer that
//! a camera filled, are shown there instead of being copied. Nothing of a device is known here.

use std::any::Any;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

/// Memory of a fixed size that somebody made: page-locked, shared with a device, or imported.
pub trait HostMemory: Any + Debug + Send + Sync {
    /// All of its bytes.
    fn bytes(&self) -> &[u8];

    /// All of its bytes, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Makes the memory that a sensor's buffers lie in, such as whoever works on its pictures reads without a copy.
pub trait MemoryMaker: Debug + Send + Sync {
    /// So many bytes, beginning at a multiple of the page size, or none if there is no such memory left.
    fn make(&self, bytes: usize) -> Option<Box<dyn HostMemory>>;

    /// Memory that is there already, as [`make`](Self::make) would have made it: the same bytes at the same place. None where that
    /// cannot be, or where any memory is as good.
    fn adopt(&self, memory: ForeignMemory) -> Option<Box<dyn HostMemory>> {
        drop(memory);
        None
    }

    /// The GPU that reads it, where one does: memory that is made for it can be imported there.
    fn gpu_uuid(&self) -> Option<[u8; 16]> {
        None
    }
}

/// By what a device's driver knows memory that the host knows by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleKind {
    /// The file descriptor of a DMA-BUF.
    DmaBuf(i32),
    /// The file descriptor under which Vulkan or CUDA exported it.
    OpaqueFd(i32),
    /// The address of an `NvSciBufObj`.
    NvSciBuf(usize),
}

/// The handle under which whoever made memory shares it with devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignHandle {
    /// The handle itself.
    pub kind: HandleKind,
    /// Bytes of all the memory behind it.
    pub bytes: u64,
    /// Where in it the bytes begin that are meant.
    pub offset: u64,
}

/// Where memory is that somebody else made and keeps, such as a camera's buffer. Who may read it is said elsewhere.
#[derive(Debug)]
pub struct ForeignMemory {
    start: NonNull<u8>,
    len: usize,
    handle: Option<ForeignHandle>,
    _keeper: Arc<dyn Any + Send + Sync>,
}

// SAFETY: it is a place and what keeps it; nothing is read or written through it.
#[allow(unsafe_code)]
unsafe impl Send for ForeignMemory {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for ForeignMemory {}

impl ForeignMemory {
    /// So many bytes from a place on.
    ///
    /// # Safety
    /// They can be read for as long as the keeper lives, by whoever else knows that nobody writes them.
    #[allow(unsafe_code)] // a promise that only the caller can give
    pub unsafe fn new(start: NonNull<u8>, len: usize, keeper: Arc<dyn Any + Send + Sync>) -> Self {
        ForeignMemory { start, len, handle: None, _keeper: keeper }
    }

    /// The same, which a device can import too.
    ///
    /// # Safety
    /// The handle is what it says while this is passed on, if not for as long as the keeper lives, and the bytes are those behind it.
    #[must_use]
    #[allow(unsafe_code)] // as for `new`
    pub unsafe fn with_handle(self, handle: ForeignHandle) -> Self {
        ForeignMemory { handle: Some(handle), ..self }
    }

    /// What a device can import.
    pub fn handle(&self) -> Option<ForeignHandle> {
        self.handle
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Makes [`Pages`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PageMaker;

impl MemoryMaker for PageMaker {
    fn make(&self, bytes: usize) -> Option<Box<dyn HostMemory>> {
        Some(Box::new(Pages::new(bytes)))
    }
}

/// Memory of the heap that has its pages for itself: it begins at one, and nothing else lies in the last. A kernel's driver
/// can pin it, and fill it while other memory is used.
#[derive(Debug)]
pub struct Pages {
    heap: Vec<u8>,
    start: usize,
    len: usize,
}

impl Pages {
    /// The largest size of a page: 64 KiB, as some kernels for arm64 have it.
    pub const ALIGNMENT_BYTES: usize = 65_536;

    /// So many bytes, zero at first.
    pub fn new(len: usize) -> Self {
        let room = len.next_multiple_of(Self::ALIGNMENT_BYTES).saturating_add(Self::ALIGNMENT_BYTES);
        let heap = vec![0; room];
        let start = heap.as_ptr().align_offset(Self::ALIGNMENT_BYTES);
        Pages { heap, start, len }
    }
}

impl HostMemory for Pages {
    fn bytes(&self) -> &[u8] {
        self.heap.get(self.start..).and_then(|heap| heap.get(..self.len)).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.heap.get_mut(self.start..).and_then(|heap| heap.get_mut(..self.len)).unwrap_or_default()
    }
}

/// Bytes that many may read and nobody writes while somebody holds them: those of a message, of a log, or of a buffer that a
/// camera filled and gets back when the last holder lets go.
#[derive(Clone, Debug, Default)]
pub struct SharedBytes {
    bytes: Bytes,
    memory: Option<Arc<Box<dyn HostMemory>>>,
}

impl SharedBytes {
    /// Bytes that lie in memory that somebody made.
    pub fn in_memory(bytes: Bytes, memory: Arc<Box<dyn HostMemory>>) -> Self {
        SharedBytes { bytes, memory: Some(memory) }
    }

    /// The memory that somebody made, if the bytes lie there, from its beginning.
    pub fn memory(&self) -> Option<&dyn HostMemory> {
        let memory = self.memory.as_deref()?.as_ref();
        (memory.bytes().as_ptr() == self.bytes.as_ptr()).then_some(memory)
    }

    /// The first so many of them; all, if there are fewer.
    #[must_use]
    pub fn first(&self, len: usize) -> Self {
        SharedBytes { bytes: self.bytes.slice(..len.min(self.bytes.len())), memory: self.memory.clone() }
    }
}

impl From<Bytes> for SharedBytes {
    fn from(bytes: Bytes) -> Self {
        SharedBytes { bytes, memory: None }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Equal are equal bytes, wherever they lie.
impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SharedBytes {}

/// As many bytes as were asked for, in lent memory where there is some and it has room, else on the heap; or bytes that are
/// shown where they are.
#[derive(Debug, Default)]
pub struct HostBytes {
    heap: Vec<u8>,
    lent: Option<Box<dyn HostMemory>>,
    /// How many bytes of the lent memory are meant, where they lie there.
    lent_len: Option<usize>,
    /// What is seen in place of all that.
    shown: Option<SharedBytes>,
}

impl HostBytes {
    /// Takes memory for all that is written from now on; what is there moves into it as far as there is room.
    pub fn lend(&mut self, mut memory: Box<dyn HostMemory>) {
        let held = self.to_vec();
        self.shown = None;
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

    /// The memory that somebody made, if the bytes lie there, from its beginning.
    pub fn memory(&self) -> Option<&dyn HostMemory> {
        match &self.shown {
            Some(shown) => shown.memory(),
            None => self.lent.as_deref().filter(|_| self.lent_len.is_some()),
        }
    }

    /// Shows bytes where they are, until they are to be written or others are wanted; gives them back where that is not enough:
    /// memory was lent to this, and they do not lie in such memory.
    ///
    /// # Errors
    /// The bytes, which have to be copied.
    pub fn show(&mut self, bytes: SharedBytes) -> Result<(), SharedBytes> {
        let kind = |memory: &dyn Any| memory.type_id();
        match (self.lent.as_deref(), bytes.memory()) {
            (None, _) => {}
            (Some(lent), Some(memory)) if kind(lent) == kind(memory) => {}
            _ => return Err(bytes),
        }
        self.shown = Some(bytes);
        Ok(())
    }

    /// Makes this so many bytes: the first ones stay, as far as they are wanted and were not only shown, and what is new is
    /// unspecified.
    pub fn resize(&mut self, len: usize) -> &mut [u8] {
        self.shown = None;
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
        if self.lent_len.is_some() || self.shown.is_some() { self.to_vec() } else { self.heap }
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match (&self.shown, &self.lent, self.lent_len) {
            (Some(shown), ..) => shown,
            (None, Some(memory), Some(len)) => memory.bytes().get(..len).unwrap_or_default(),
            _ => &self.heap,
        }
    }
}

/// Bytes that are only shown are copied first.
impl DerefMut for HostBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        if let Some(shown) = self.shown.take() {
            self.resize(shown.len()).copy_from_slice(&shown);
        }
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
    fn shown_bytes_are_read_where_they_are_and_copied_to_be_written() {
        let mut bytes = HostBytes::from(vec![1, 2, 3]);
        let shared = SharedBytes::from(Bytes::from(vec![7, 8, 9, 10]));
        let place = shared.as_ptr();
        bytes.show(shared.first(2)).unwrap();
        assert_eq!((&*bytes, bytes.as_ptr()), (&[7, 8][..], place));
        assert!(bytes.memory().is_none());
        assert_eq!(bytes.clone().into_vec(), [7, 8]);
        bytes[0] = 5;
        assert_ne!(bytes.as_ptr(), place);
        assert_eq!((&*bytes, &*shared), (&[5, 8][..], &[7, 8, 9, 10][..]));

        bytes.show(shared.clone()).unwrap();
        assert_eq!(bytes.resize(1).len(), 1);
        assert_ne!(bytes.as_ptr(), place);
        bytes.show(shared).unwrap();
        bytes.clear();
        assert!(bytes.is_empty());
    }

    #[test]
    fn where_memory_was_lent_only_bytes_in_such_memory_are_shown() {
        let mut bytes = HostBytes::default();
        bytes.lend(Box::new([0; 8]));
        let elsewhere = SharedBytes::from(Bytes::from(vec![1, 2]));
        assert_eq!(bytes.show(elsewhere.clone()), Err(elsewhere));
        let in_memory = |memory: Box<dyn HostMemory>, from: usize| {
            let memory = Arc::new(memory);
            let (start, len) = (memory.bytes().as_ptr(), memory.bytes().len());
            let held = Held(Arc::clone(&memory), from);
            let shared = SharedBytes::in_memory(Bytes::from_owner(held), memory);
            assert_eq!((shared.as_ptr(), shared.len()), (start.wrapping_add(from), len - from));
            shared
        };
        let pages = in_memory(Box::new(Pages::new(4)), 0);
        assert_eq!(bytes.show(pages.clone()), Err(pages), "another kind");
        let behind = in_memory(Box::new([3; 8]), 1);
        assert_eq!(bytes.show(behind.clone()), Err(behind), "not from the beginning");
        bytes.show(in_memory(Box::new([3; 8]), 0)).unwrap();
        assert_eq!(bytes.memory().map(HostMemory::bytes), Some(&[3; 8][..]));
        bytes.fill(4);
        assert_eq!(bytes.memory().map(HostMemory::bytes), Some(&[4; 8][..]));
    }

    /// Part of a memory, as a camera's buffer is held.
    struct Held(Arc<Box<dyn HostMemory>>, usize);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes().get(self.1..).unwrap_or_default()
        }
    }

    #[test]
    fn pages_are_whole() {
        for len in [0, 1, Pages::ALIGNMENT_BYTES, Pages::ALIGNMENT_BYTES + 1] {
            let mut pages = Pages::new(len);
            assert_eq!((pages.bytes().len(), pages.bytes_mut().len()), (len, len));
            assert_eq!(pages.bytes().as_ptr() as usize % Pages::ALIGNMENT_BYTES, 0);
            assert!(pages.start + len.next_multiple_of(Pages::ALIGNMENT_BYTES) <= pages.heap.len());
        }
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
