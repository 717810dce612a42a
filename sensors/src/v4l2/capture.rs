//! A camera that streams: buffers that go to the kernel empty and come back with a frame.
//!
//! A frame is looked at and its buffer goes back, or, where memory was lent, it is shared: then the buffer stays out until the
//! last who holds the bytes lets go, on whatever thread, which sets one bit that the capture looks at.

use super::abi::{self, MAX_PLANES};
use super::device::{Camera, CameraError, FrameLayout, Memory};
use crate::memory::{HostMemory, SharedBytes};
use crate::packet::{ClockId, StampKind};
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::cell::Cell;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Why no frame comes from a camera.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaptureError {
    /// The camera could not be made to stream.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// Memory that was lent is too small.
    #[error("lent buffer {index}: expected at least {expected} bytes, found {found}")]
    LentTooSmall {
        /// The memory's place in the list.
        index: usize,
        /// Bytes that a frame takes.
        expected: usize,
        /// Bytes that were lent.
        found: usize,
    },
    /// The driver needs more buffers than were lent, or gives none.
    #[error("camera {camera}: expected {expected} buffers, found {found}")]
    Buffers {
        /// The device's file.
        camera: String,
        /// How many it needs.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The driver laid out a buffer otherwise than the format says.
    #[error("camera {camera}: buffer {index}: expected {expected} piece(s) of memory, found {found}")]
    Pieces {
        /// The device's file.
        camera: String,
        /// The buffer's number.
        index: usize,
        /// Pieces of the format.
        expected: usize,
        /// Pieces of the buffer.
        found: usize,
    },
    /// The camera is gone: open it again by the name of its bus.
    #[error("camera on {bus}: unplugged")]
    Unplugged {
        /// Where it was plugged in.
        bus: String,
    },
    /// The driver stopped for good: drop this capture and make another.
    #[error("camera {camera}: stopped: {errno}")]
    Stopped {
        /// The device's file.
        camera: String,
        /// The kernel's reason.
        errno: Errno,
    },
}

/// A camera has at most so many buffers: one bit tells of each that it has come back.
pub const MAX_BUFFERS: usize = u32::BITS as usize;

/// What a capture has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Frames given out.
    pub frames: u64,
    /// Those of them that the driver calls damaged.
    pub torn: u64,
    /// Buffers that the kernel did not take back: it has fewer from then on.
    pub buffers_lost: u64,
}

/// A camera that streams. Dropped, it stops, and memory that was lent is dropped after the kernel has let go of it.
#[derive(Debug)]
pub struct Capture {
    // Dropped first: closing the device ends what the kernel does with the buffers.
    camera: Camera,
    buffers: Vec<Buffer>,
    layout: FrameLayout,
    counts: Cell<SourceCounts>,
    queue_error: Cell<Option<Errno>>,
    /// Buffers that the kernel has.
    queued: Cell<usize>,
    /// A bit for each shared buffer that has come back.
    returned: Arc<AtomicU32>,
}

impl Capture {
    /// Begins to stream from a camera whose format was set.
    ///
    /// # Errors
    /// [`CaptureError`] if memory does not fit or the driver refuses.
    pub fn start(camera: Camera, layout: FrameLayout, memory: Memory) -> Result<Self, CaptureError> {
        camera.check_layout(&layout)?;
        let mut buffers = match memory {
            Memory::Mapped(count) => map_buffers(&camera, &layout, count)?,
            Memory::Lent(memories) => lend_buffers(&camera, &layout, memories)?,
        };
        buffers.truncate(MAX_BUFFERS);
        let capture = Capture {
            camera,
            buffers,
            layout,
            counts: Cell::default(),
            queue_error: Cell::default(),
            queued: Cell::default(),
            returned: Arc::default(),
        };
        for index in 0..capture.buffers.len() {
            capture.queue(index).map_err(|errno| capture.camera.refused("queue a buffer", errno))?;
        }
        abi::stream_on(capture.as_fd(), &mut capture.camera.buffer_type())
            .map_err(|errno| capture.camera.refused("start streaming", errno))?;
        Ok(capture)
    }

    /// The camera, to set controls while it streams.
    pub fn camera(&self) -> &Camera {
        &self.camera
    }

    /// How frames lie in memory.
    pub fn layout(&self) -> &FrameLayout {
        &self.layout
    }

    /// How many buffers there are. So many frames can be held at once, less the ones that the driver keeps.
    pub fn buffer_count(&self) -> usize {
        self.buffers.len()
    }

    /// How many of them the kernel has, to fill them.
    pub fn queued_count(&self) -> usize {
        self.queued.get()
    }

    /// Stops, and gives back the memory that was lent, but for what somebody still holds.
    pub fn into_memory(mut self) -> Vec<Box<dyn HostMemory>> {
        let buffers = std::mem::take(&mut self.buffers);
        drop(self);
        let lent = buffers.into_iter().filter_map(|buffer| match buffer.memory {
            BufferMemory::Lent(memory) => Arc::into_inner(memory),
            BufferMemory::Mapped(_) => None,
        });
        lent.collect()
    }

    /// What was seen so far.
    pub fn counts(&self) -> SourceCounts {
        self.counts.get()
    }

    /// The next frame, `None` if none came within the time. Several frames can be held at once.
    ///
    /// # Errors
    /// [`CaptureError::Unplugged`] or [`CaptureError::Stopped`]; either is final for this capture.
    pub fn next_frame(&self, timeout: Duration) -> Result<Option<CameraFrame<'_>>, CaptureError> {
        self.queue_returned();
        if let Some(errno) = self.queue_error.take() {
            return Err(self.ended(errno));
        }
        if let Some(frame) = self.dequeue()? {
            return Ok(Some(frame));
        }
        let mut poll_fds = [PollFd::new(&self.camera.fd, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut poll_fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(self.ended(errno)),
        }
        let frame = self.dequeue()?;
        let failed = poll_fds.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if frame.is_none() && failed {
            return Err(self.ended(Errno::IO));
        }
        Ok(frame)
    }

    fn ended(&self, errno: Errno) -> CaptureError {
        let info = self.camera.info();
        match errno {
            Errno::NODEV | Errno::NXIO => CaptureError::Unplugged { bus: info.bus.clone() },
            _ => CaptureError::Stopped { camera: info.path.display().to_string(), errno },
        }
    }

    fn count(&self, change: impl FnOnce(&mut SourceCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Gives the kernel the shared buffers that have come back.
    fn queue_returned(&self) {
        // what the holders have read, they have read before this
        let returned = self.returned.swap(0, Ordering::Acquire);
        for index in (0..self.buffers.len()).filter(|index| returned >> index & 1 == 1) {
            self.queue_again(index);
        }
    }

    /// Gives back a buffer that was dequeued. One that the kernel does not take is counted, and the next frame is an error.
    fn queue_again(&self, index: usize) {
        if let Err(errno) = self.queue(index) {
            self.count(|counts| counts.buffers_lost += 1);
            self.queue_error.set(Some(errno));
        }
    }

    /// Gives a buffer to the kernel.
    fn queue(&self, index: usize) -> Result<(), Errno> {
        let buffer = self.buffers.get(index).ok_or(Errno::INVAL)?;
        let mut planes = buffer.planes();
        let mut request = self.request(index, buffer.memory_kind());
        if self.camera.info().multiplanar {
            request.m = planes.as_mut_ptr() as u64;
            request.length = buffer.pieces.len() as u32;
        } else if let Some(plane) = planes.first() {
            (request.m, request.length) = (plane.m, plane.length);
        }
        // SAFETY: `planes` has as many elements as any format has planes, and outlives the call. Memory that was lent is
        // kept until the device is closed, and nobody reads it before the buffer was dequeued, nor after: a buffer that is shared
        // is queued when the last holder has let go.
        unsafe { abi::queue_buffer(self.as_fd(), &mut request) }?;
        self.queued.set(self.queued.get() + 1);
        Ok(())
    }

    /// A buffer that is ready, if there is one.
    fn dequeue(&self) -> Result<Option<CameraFrame<'_>>, CaptureError> {
        let mut planes = [abi::Plane::default(); MAX_PLANES];
        let mut request = self.request(0, self.buffers.first().map_or(abi::MEMORY_MMAP, Buffer::memory_kind));
        if self.camera.info().multiplanar {
            request.m = planes.as_mut_ptr() as u64;
            request.length = MAX_PLANES as u32;
        }
        // SAFETY: `planes` has as many elements as the request says, and outlives the call.
        match unsafe { abi::dequeue_buffer(self.as_fd(), &mut request) } {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(self.ended(errno)),
        }
        if !self.camera.info().multiplanar
            && let Some(plane) = planes.first_mut()
        {
            plane.bytesused = request.bytesused;
        }
        self.queued.set(self.queued.get().saturating_sub(1));
        let index = request.index as usize;
        let Some(buffer) = self.buffers.get(index) else {
            return Err(self.ended(Errno::BADMSG));
        };
        let torn = request.flags & abi::BUF_FLAG_ERROR != 0;
        self.count(|counts| {
            counts.frames += 1;
            counts.torn += u64::from(torn);
        });
        let used = planes.map(|plane| (plane.data_offset, plane.bytesused));
        let (clock, kind) = stamp_meaning(request.flags);
        let seconds_ns = request.timestamp.seconds.saturating_mul(1_000_000_000);
        let stamp_ns = seconds_ns.saturating_add(request.timestamp.microseconds.saturating_mul(1_000));
        let sequence = request.sequence;
        let is_shared = false;
        Ok(Some(CameraFrame { capture: self, buffer, index, used, sequence, stamp_ns, clock, kind, torn, is_shared }))
    }

    fn request(&self, index: usize, memory: u32) -> abi::Buffer {
        abi::Buffer { index: index as u32, buf_type: self.camera.buffer_type(), memory, ..abi::Buffer::default() }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A camera that is gone answers nothing; closing it does the same.
        let _ = abi::stream_off(self.camera.fd.as_fd(), &mut self.camera.buffer_type());
    }
}

/// To wait for several cameras at once.
impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.camera.as_fd()
    }
}

/// The clock and the meaning of a buffer's time stamp.
fn stamp_meaning(flags: u32) -> (ClockId, StampKind) {
    let clock = match flags & abi::BUF_FLAG_TIMESTAMP_MASK {
        abi::BUF_FLAG_TIMESTAMP_MONOTONIC => ClockId::HostMonotonic,
        _ => ClockId::Unknown,
    };
    let kind = match flags & abi::BUF_FLAG_TSTAMP_SRC_MASK {
        abi::BUF_FLAG_TSTAMP_SRC_SOE => StampKind::ExposureStart,
        _ => StampKind::ExposureEnd,
    };
    (clock, kind)
}

/// A frame in its buffer, which goes back to the kernel when this is dropped, if it was not shared.
#[derive(Debug)]
pub struct CameraFrame<'a> {
    capture: &'a Capture,
    buffer: &'a Buffer,
    index: usize,
    used: [(u32, u32); MAX_PLANES],
    sequence: u32,
    stamp_ns: i64,
    clock: ClockId,
    kind: StampKind,
    torn: bool,
    is_shared: bool,
}

impl CameraFrame<'_> {
    /// The bytes that the driver wrote to a piece of memory; none where the format has no such piece.
    pub fn piece(&self, piece: usize) -> &[u8] {
        let bytes = self.buffer.piece_bytes(piece);
        bytes.get(self.used(piece, bytes.len())).unwrap_or_default()
    }

    /// The part of a piece that the driver wrote.
    fn used(&self, piece: usize, len: usize) -> Range<usize> {
        let (from, to) = self.used.get(piece).copied().unwrap_or_default();
        // A driver counts a header before the data among the bytes used; none writes more than there is room for.
        let to = len.min(to as usize);
        (from as usize).min(to)..to
    }

    /// The bytes of the first piece, to be kept without a copy: the buffer goes back to the kernel when the last who holds them
    /// lets go and the capture looks for a frame. None if the kernel's own memory is used.
    pub fn share(mut self) -> Option<SharedBytes> {
        let (BufferMemory::Lent(memory), Some(piece)) = (&self.buffer.memory, self.buffer.pieces.first()) else {
            return None;
        };
        let used = self.used(0, piece.len);
        let used = piece.start + used.start..piece.start + used.end;
        let returned = Arc::clone(&self.capture.returned);
        let held = HeldBuffer { memory: Arc::clone(memory), used, returned, bit: 1 << self.index };
        let shared = SharedBytes::in_memory(Bytes::from_owner(held), Arc::clone(memory));
        self.is_shared = true;
        Some(shared)
    }

    /// The memory that was lent for this frame; none if the kernel's own is used. The pieces begin where
    /// [`FrameLayout::lent_bytes`] says.
    pub fn lent(&self) -> Option<&dyn HostMemory> {
        match &self.buffer.memory {
            BufferMemory::Lent(memory) => Some(memory.as_ref().as_ref()),
            BufferMemory::Mapped(_) => None,
        }
    }

    /// How the frame lies in memory.
    pub fn layout(&self) -> &FrameLayout {
        &self.capture.layout
    }

    /// The number of the buffer.
    pub fn buffer_index(&self) -> usize {
        self.index
    }

    /// The driver's number of the frame. Frames that were lost have had one too.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The kernel's time stamp in nanoseconds, on [`clock`](Self::clock). The kernel gives whole microseconds.
    pub fn stamp_ns(&self) -> i64 {
        self.stamp_ns
    }

    /// The clock of the stamp: the host's monotonic one, or unknown.
    pub fn clock(&self) -> ClockId {
        self.clock
    }

    /// What the stamp marks: the start of exposure, or the end of the frame's arrival.
    pub fn kind(&self) -> StampKind {
        self.kind
    }

    /// Whether the driver calls the frame damaged: part of it may be missing or of another frame.
    pub fn torn(&self) -> bool {
        self.torn
    }
}

impl Drop for CameraFrame<'_> {
    fn drop(&mut self) {
        if !self.is_shared {
            self.capture.queue_again(self.index);
        }
    }
}

/// A buffer that is out.
#[derive(Debug)]
struct HeldBuffer {
    memory: Arc<Box<dyn HostMemory>>,
    used: Range<usize>,
    returned: Arc<AtomicU32>,
    bit: u32,
}

impl AsRef<[u8]> for HeldBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.bytes().get(self.used.clone()).unwrap_or_default()
    }
}

impl Drop for HeldBuffer {
    fn drop(&mut self) {
        self.returned.fetch_or(self.bit, Ordering::Release);
    }
}

/// One buffer and the memory behind it.
#[derive(Debug)]
struct Buffer {
    memory: BufferMemory,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum BufferMemory {
    /// One mapping per piece.
    Mapped(Vec<Mapping>),
    /// All pieces lie in it.
    Lent(Arc<Box<dyn HostMemory>>),
}

/// A piece as the kernel is told of it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where it begins in lent memory.
    start: usize,
    len: usize,
    /// The address in lent memory, 0 in the kernel's own.
    address: u64,
}

impl Buffer {
    fn memory_kind(&self) -> u32 {
        match self.memory {
            BufferMemory::Mapped(_) => abi::MEMORY_MMAP,
            BufferMemory::Lent(_) => abi::MEMORY_USERPTR,
        }
    }

    fn planes(&self) -> [abi::Plane; MAX_PLANES] {
        let mut planes = [abi::Plane::default(); MAX_PLANES];
        for (plane, piece) in planes.iter_mut().zip(&self.pieces) {
            (plane.m, plane.length) = (piece.address, piece.len as u32);
        }
        planes
    }

    fn piece_bytes(&self, index: usize) -> &[u8] {
        match (&self.memory, self.pieces.get(index)) {
            (BufferMemory::Mapped(mappings), _) => mappings.get(index).map(Mapping::bytes).unwrap_or_default(),
            (BufferMemory::Lent(memory), Some(piece)) => {
                memory.bytes().get(piece.start..piece.start + piece.len).unwrap_or_default()
            }
            (BufferMemory::Lent(_), None) => &[],
        }
    }
}

/// A piece of a buffer of the kernel's, mapped.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, and to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is.
        let address = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, fd, offset) }?;
        NonNull::new(address.cast()).map(|address| Mapping { address, len }).ok_or(Errno::NOMEM)
    }

    /// To be called only of a buffer that was dequeued.
    fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped until this is dropped, and a driver leaves a buffer alone that was dequeued.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and no slice of it is left.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
    }
}

fn request_buffers(camera: &Camera, memory: u32, count: usize) -> Result<usize, CaptureError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let buf_type = camera.buffer_type();
    let mut request = abi::RequestBuffers { count, buf_type, memory, ..abi::RequestBuffers::default() };
    abi::request_buffers(camera.as_fd(), &mut request).map_err(|errno| camera.refused("request buffers", errno))?;
    if request.count == 0 {
        let camera = camera.info().path.display().to_string();
        return Err(CaptureError::Buffers { camera, expected: count as usize, found: 0 });
    }
    Ok(request.count as usize)
}

fn map_buffers(camera: &Camera, layout: &FrameLayout, count: u32) -> Result<Vec<Buffer>, CaptureError> {
    let count = request_buffers(camera, abi::MEMORY_MMAP, count as usize)?;
    (0..count).map(|index| map_buffer(camera, layout, index)).collect()
}

fn map_buffer(camera: &Camera, layout: &FrameLayout, index: usize) -> Result<Buffer, CaptureError> {
    let refused = |errno| camera.refused("map a buffer", errno);
    let mut planes = [abi::Plane::default(); MAX_PLANES];
    let mut request = abi::Buffer {
        index: index as u32,
        buf_type: camera.buffer_type(),
        memory: abi::MEMORY_MMAP,
        ..abi::Buffer::default()
    };
    if camera.info().multiplanar {
        request.m = planes.as_mut_ptr() as u64;
        request.length = MAX_PLANES as u32;
    }
    // SAFETY: `planes` has as many elements as the request says, and outlives the call.
    unsafe { abi::query_buffer(camera.as_fd(), &mut request) }.map_err(refused)?;
    let found = if camera.info().multiplanar { request.length as usize } else { 1 };
    if !camera.info().multiplanar
        && let Some(plane) = planes.first_mut()
    {
        (plane.m, plane.length) = (request.m, request.length);
    }
    let expected = layout.pieces().len();
    if found != expected {
        let camera = camera.info().path.display().to_string();
        return Err(CaptureError::Pieces { camera, index, expected, found });
    }
    let mut mappings = Vec::new();
    let mut pieces = Vec::new();
    for plane in planes.iter().take(found) {
        // The offset is a number of 32 bits in the low half.
        let (offset, len) = (plane.m & 0xFFFF_FFFF, plane.length as usize);
        mappings.push(Mapping::new(camera.as_fd(), offset, len).map_err(refused)?);
        pieces.push(Piece { start: 0, len, address: 0 });
    }
    Ok(Buffer { memory: BufferMemory::Mapped(mappings), pieces })
}

fn lend_buffers(
    camera: &Camera,
    layout: &FrameLayout,
    memories: Vec<Box<dyn HostMemory>>,
) -> Result<Vec<Buffer>, CaptureError> {
    let buffers: Vec<Buffer> = memories
        .into_iter()
        .enumerate()
        .map(|(index, memory)| lend_buffer(layout, index, memory))
        .collect::<Result<_, _>>()?;
    let found = buffers.len();
    let expected = request_buffers(camera, abi::MEMORY_USERPTR, found)?;
    if expected > found {
        let camera = camera.info().path.display().to_string();
        return Err(CaptureError::Buffers { camera, expected, found });
    }
    // A driver that takes fewer leaves the rest unused.
    Ok(buffers.into_iter().take(expected).collect())
}

fn lend_buffer(layout: &FrameLayout, index: usize, mut memory: Box<dyn HostMemory>) -> Result<Buffer, CaptureError> {
    let (expected, bytes) = (layout.lent_bytes(), memory.bytes_mut());
    let found = bytes.len();
    if found < expected {
        return Err(CaptureError::LentTooSmall { index, expected, found });
    }
    let address = bytes.as_mut_ptr() as u64;
    let mut end = 0;
    let place = |piece: &super::PieceLayout| {
        let start = FrameLayout::piece_start(end);
        let len = piece.size_bytes as usize;
        end = start + len;
        Piece { start, len, address: address + start as u64 }
    };
    let pieces = layout.pieces().iter().map(place).collect();
    Ok(Buffer { memory: BufferMemory::Lent(Arc::new(memory)), pieces })
}

#[cfg(test)]
mod tests {
    use super::super::{CameraFormat, PieceLayout};
    use super::*;

    #[derive(Debug)]
    struct Heap(Vec<u8>);

    impl HostMemory for Heap {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    fn layout() -> FrameLayout {
        let mut pieces = [PieceLayout::default(); MAX_PLANES];
        pieces[0] = PieceLayout { stride_bytes: 10, size_bytes: 100 };
        pieces[1] = PieceLayout { stride_bytes: 10, size_bytes: 50 };
        let (format, piece_count) = (CameraFormat::Nv12Apart, 2);
        FrameLayout { format, width_px: 10, height_px: 10, full_range: None, pieces, piece_count }
    }

    #[test]
    fn pieces_lie_in_lent_memory() {
        let mut bytes = vec![0; 178];
        bytes[128] = 9;
        let buffer = lend_buffer(&layout(), 0, Box::new(Heap(bytes))).unwrap();
        assert_eq!((buffer.piece_bytes(0).len(), buffer.piece_bytes(1).len()), (100, 50));
        assert_eq!(buffer.piece_bytes(1)[0], 9);
        assert!(buffer.piece_bytes(2).is_empty());
        let planes = buffer.planes();
        assert_eq!(planes[0].m, buffer.piece_bytes(0).as_ptr() as u64);
        assert_eq!((planes[1].m - planes[0].m, planes[1].length), (128, 50));
        assert_eq!(buffer.memory_kind(), abi::MEMORY_USERPTR);
    }

    #[test]
    fn a_shared_buffer_tells_by_its_bit_that_the_last_holder_has_let_go() {
        let memory: Arc<Box<dyn HostMemory>> = Arc::new(Box::new(Heap((0..8).collect())));
        let returned = Arc::new(AtomicU32::new(0b1));
        let held =
            HeldBuffer { memory: Arc::clone(&memory), used: 0..4, returned: Arc::clone(&returned), bit: 1 << 31 };
        let shared = SharedBytes::in_memory(Bytes::from_owner(held), Arc::clone(&memory));
        assert_eq!(shared.memory().map(|memory| memory.bytes().as_ptr()), Some(memory.bytes().as_ptr()));
        let other = shared.first(2);
        drop(shared);
        assert_eq!((&*other, returned.load(Ordering::Acquire)), (&[0, 1][..], 1));
        assert!(Arc::into_inner(memory).is_none(), "the memory is held");
        std::thread::spawn(move || drop(other)).join().unwrap();
        assert_eq!(returned.load(Ordering::Acquire), 1 << 31 | 1);
    }

    #[test]
    fn lent_memory_without_room_is_refused() {
        let refused = lend_buffer(&layout(), 3, Box::new(Heap(vec![0; 177])));
        assert_eq!(refused.err(), Some(CaptureError::LentTooSmall { index: 3, expected: 178, found: 177 }));
    }

    #[test]
    fn flags_say_what_a_stamp_means() {
        assert_eq!(stamp_meaning(0x2000), (ClockId::HostMonotonic, StampKind::ExposureEnd));
        assert_eq!(stamp_meaning(0x0001_2001), (ClockId::HostMonotonic, StampKind::ExposureStart));
        assert_eq!(stamp_meaning(0x4000), (ClockId::Unknown, StampKind::ExposureEnd));
        assert_eq!(stamp_meaning(0), (ClockId::Unknown, StampKind::ExposureEnd));
    }
}
