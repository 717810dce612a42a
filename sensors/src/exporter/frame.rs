//! One picture of an exporter: what its library says of it, held against the contract, and its bytes.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;

use bytes::Bytes;
use thiserror::Error;

use super::abi::{self, MAX_PLANES};
use super::capture::Lease;
use crate::memory::{ForeignHandle, ForeignMemory, HandleKind};
use crate::packet::{ClockId, StampKind};
use crate::picture::{Limits, PixelFormat, Plane};
use crate::v4l2::{BayerDepth, CameraFormat, FourCc};

/// What is wrong with a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameFault {
    /// Its format is none that is known here, or none of pixels.
    #[error("expected a pixel format of catseye_exporter.h, found {found}")]
    Format {
        /// The format's code.
        found: FourCc,
    },
    /// It is empty, or larger than any picture.
    #[error("expected a size of 1x1 to {expected}x{expected}, found {}x{}", found[0], found[1])]
    Size {
        /// The largest width and height.
        expected: u32,
        /// Width and height.
        found: [u32; 2],
    },
    /// It has more or fewer planes than its format.
    #[error("expected {expected} plane(s), found {found}")]
    Planes {
        /// Planes of the format.
        expected: u32,
        /// Planes of the picture.
        found: u32,
    },
    /// A plane lies nowhere, or runs over the end of what can be addressed.
    #[error("plane {plane}: expected {bytes} bytes at an address, found address {address:#x}")]
    Address {
        /// The plane.
        plane: usize,
        /// Its bytes.
        bytes: u64,
        /// Where it is said to lie.
        address: u64,
    },
    /// A plane's rows overlap.
    #[error("plane {plane}: expected a stride of at least {expected} bytes, found {found}")]
    Stride {
        /// The plane.
        plane: usize,
        /// Bytes of a row.
        expected: u64,
        /// Bytes from a row to the next.
        found: u64,
    },
    /// A plane has no room for its rows.
    #[error("plane {plane}: expected at least {expected} bytes, found {found}")]
    Bytes {
        /// The plane.
        plane: usize,
        /// Bytes of all rows.
        expected: u64,
        /// Bytes of the plane.
        found: u64,
    },
    /// It lies in memory of no known kind.
    #[error("expected a memory kind of 0 to 3, found {found}")]
    Memory {
        /// The kind.
        found: u32,
    },
    /// The handle is none of its kind of memory.
    #[error("memory kind {memory}: expected a handle of that kind, found {found:#x}")]
    Handle {
        /// The kind.
        memory: u32,
        /// The handle.
        found: u64,
    },
    /// A plane runs over the end of the memory behind the handle.
    #[error("plane {plane}: expected an end within the {expected} bytes behind the handle, found {found}")]
    Behind {
        /// The plane.
        plane: usize,
        /// Bytes of that memory.
        expected: u64,
        /// Where the plane ends in it.
        found: u64,
    },
    /// Its stamp is on no known clock.
    #[error("expected a clock of catseye_exporter.h, found {found}")]
    Clock {
        /// The clock.
        found: u32,
    },
    /// Its stamp names no known instant.
    #[error("expected a stamp kind of 0 to 3, found {found}")]
    StampKind {
        /// The kind.
        found: u32,
    },
    /// It has a flag that is not known here, which may say that it is no good.
    #[error("expected no flags but torn (1), found {found:#x}")]
    Flags {
        /// All flags.
        found: u32,
    },
    /// It does not come after the one before.
    #[error("expected a number above {last}, found {found}")]
    Backward {
        /// The number of the last good picture.
        last: u64,
        /// This one's.
        found: u64,
    },
}

/// The clock of a picture's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportedClock {
    /// One of the clocks of logs.
    Known(ClockId),
    /// Tegra's time stamp counter, in nanoseconds.
    Tsc,
}

impl ExportedClock {
    /// The clock as logs name it: to a log, a processor's counter is one that runs on its own.
    pub fn id(self) -> ClockId {
        match self {
            Self::Known(id) => id,
            Self::Tsc => ClockId::Sensor,
        }
    }
}

/// What lies behind the addresses of a picture, for a device that reads it there.
#[derive(Clone, Copy, Debug)]
pub enum ExportedMemory<'f> {
    /// Memory of the host alone.
    Host,
    /// A DMA-BUF.
    DmaBuf(BorrowedFd<'f>),
    /// An `NvSciBufObj`, which the library keeps while the picture is lent.
    NvSciBuf(NonNull<c_void>),
    /// Memory that Vulkan or CUDA exported.
    OpaqueFd(BorrowedFd<'f>),
}

/// How a plane lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedPlane {
    /// Its rows.
    pub layout: Plane,
    /// Where it begins in [`ExportedMemory`].
    pub offset_bytes: u64,
}

/// Where a plane's bytes are.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: NonNull<u8>,
    /// Of all rows.
    len: usize,
    plane: ExportedPlane,
}

#[derive(Clone, Copy, Debug)]
enum Memory {
    Host,
    DmaBuf(RawFd),
    NvSciBuf(NonNull<c_void>),
    OpaqueFd(RawFd),
}

/// A picture that keeps the contract, as far as can be seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    format: CameraFormat,
    size_px: [u32; 2],
    planes: [Option<Place>; MAX_PLANES],
    memory: Memory,
    memory_bytes: u64,
    sequence: u64,
    stamp_ns: i64,
    clock: ExportedClock,
    kind: StampKind,
    pub(super) torn: bool,
}

/// A picture in the camera's own buffer, which is lent until this, or the bytes made of it, are dropped.
#[derive(Debug)]
pub struct ExportedFrame {
    picture: Picture,
    lease: Lease,
}

// SAFETY: the addresses are those of a buffer that is lent and that nobody writes for as long, whatever thread reads it.
unsafe impl Send for ExportedFrame {}
// SAFETY: as above.
unsafe impl Sync for ExportedFrame {}

impl ExportedFrame {
    pub(super) fn new(lease: Lease, picture: Picture) -> Self {
        ExportedFrame { picture, lease }
    }

    /// The pixels' format; never one of several pieces or of a file.
    pub fn format(&self) -> CameraFormat {
        self.picture.format
    }

    /// Width and height.
    pub fn size_px(&self) -> [u32; 2] {
        self.picture.size_px
    }

    /// How a plane lies in memory, `None` where the format has no such plane.
    pub fn layout(&self, plane: usize) -> Option<ExportedPlane> {
        self.place(plane).map(|place| place.plane)
    }

    /// The bytes of a plane, row by row with their padding; none where the format has no such plane.
    pub fn plane(&self, plane: usize) -> &[u8] {
        let Some(Place { address, len, .. }) = self.place(plane) else { return &[] };
        // SAFETY: the library lends so many bytes there until the lease is dropped (catseye_exporter.h), and `check` has seen that
        // they are no more than can be addressed.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), len) }
    }

    /// All planes as one piece, where they follow one another and each has the stride that the first implies, as
    /// [`PixelFormat::planes`] has it.
    pub fn whole(&self) -> Option<&[u8]> {
        let first = self.place(0)?;
        let mut len = first.len;
        let mut expected = self.implied().into_iter().skip(1);
        for place in self.picture.planes.iter().skip(1).flatten() {
            let follows = place.address.as_ptr() == first.address.as_ptr().wrapping_add(len);
            if !follows || expected.next().is_none_or(|plane| plane != place.plane.layout) {
                return None;
            }
            len = len.checked_add(place.len).filter(|len| isize::try_from(*len).is_ok())?;
        }
        // SAFETY: as in `plane`, for planes that lie one behind the other in one buffer.
        Some(unsafe { std::slice::from_raw_parts(first.address.as_ptr(), len) })
    }

    /// The picture as shared bytes. They are the camera's own buffer where it lies [`whole`](Self::whole), which is given back when the
    /// last of them is dropped. Planes that lie apart are copied, once, to follow one another, and the buffer is given back at once.
    pub fn into_bytes(self) -> Bytes {
        if self.whole().is_some() {
            return Bytes::from_owner(Whole(self));
        }
        let mut bytes = Vec::new();
        self.gather(&mut bytes);
        bytes.into()
    }

    /// Puts all planes one behind the other, each with the stride that the first implies.
    pub fn gather(&self, to: &mut Vec<u8>) {
        to.clear();
        for (number, layout) in self.implied().into_iter().enumerate() {
            let Some(found) = self.layout(number).map(|found| found.layout) else { break };
            let bytes = self.plane(number);
            if found == layout {
                to.extend_from_slice(bytes);
                continue;
            }
            // a stride is never 0 where there is a row
            for row in bytes.chunks_exact(found.stride.max(1)) {
                let end = to.len() + layout.stride;
                to.extend_from_slice(row.get(..layout.row_bytes).unwrap_or_default());
                to.resize(end, 0);
            }
        }
    }

    /// The planes as they would follow one another.
    fn implied(&self) -> [Plane; MAX_PLANES] {
        let stride = self.place(0).map(|place| place.plane.layout.stride);
        let [width_px, height_px] = self.picture.size_px;
        // `check` has found the planes of this very size
        planes(self.picture.format, width_px, height_px, stride).unwrap_or([NO_PLANE; MAX_PLANES])
    }

    /// What a device can import, in place of the bytes.
    pub fn memory(&self) -> ExportedMemory<'_> {
        match self.picture.memory {
            Memory::Host => ExportedMemory::Host,
            // SAFETY: the library keeps it open while the picture is lent, and `check` has seen that it is a descriptor.
            Memory::DmaBuf(fd) => ExportedMemory::DmaBuf(unsafe { BorrowedFd::borrow_raw(fd) }),
            // SAFETY: as above.
            Memory::OpaqueFd(fd) => ExportedMemory::OpaqueFd(unsafe { BorrowedFd::borrow_raw(fd) }),
            Memory::NvSciBuf(object) => ExportedMemory::NvSciBuf(object),
        }
    }

    /// The handle under which a device can import the buffer: none where there is none or its size is not told, and where planes lie
    /// otherwise behind it than the host sees them.
    fn handle(&self) -> Option<ForeignHandle> {
        let kind = match self.memory() {
            ExportedMemory::Host => return None,
            ExportedMemory::DmaBuf(fd) => HandleKind::DmaBuf(fd.as_raw_fd()),
            ExportedMemory::OpaqueFd(fd) => HandleKind::OpaqueFd(fd.as_raw_fd()),
            ExportedMemory::NvSciBuf(object) => HandleKind::NvSciBuf(object.as_ptr() as usize),
        };
        let first = self.place(0)?;
        let planes = self.picture.planes.iter().flatten();
        let mut apart = planes.map(|place| {
            let seen = (place.address.as_ptr() as u64).wrapping_sub(first.address.as_ptr() as u64);
            place.plane.offset_bytes.wrapping_sub(first.plane.offset_bytes) == seen
        });
        let (bytes, offset) = (self.picture.memory_bytes, first.plane.offset_bytes);
        (bytes > 0 && apart.all(|is_same| is_same)).then_some(ForeignHandle { kind, bytes, offset })
    }

    /// The buffer as memory that can be made known to a device once and for all of its pictures; none where planes lie apart. The
    /// exporter's memory stays for as long as this, and a camera that is dropped meanwhile is let go all the same.
    pub fn foreign(&self) -> Option<ForeignMemory> {
        let whole = self.whole()?;
        let start = NonNull::from(whole).cast();
        // SAFETY: the library keeps its memory until it is closed, which the last holder of `Shared` does.
        let memory = unsafe { ForeignMemory::new(start, whole.len(), self.lease.keeper()) };
        Some(match self.handle() {
            // SAFETY: the library keeps the handle while the picture is lent, which is borrowed here, and says that it is this memory's.
            Some(handle) => unsafe { memory.with_handle(handle) },
            None => memory,
        })
    }

    /// The number of the buffer.
    pub fn buffer(&self) -> u32 {
        self.lease.buffer()
    }

    /// The camera's number of the picture. Pictures that were lost have had one too.
    pub fn sequence(&self) -> u64 {
        self.picture.sequence
    }

    /// The stamp in nanoseconds, on [`clock`](Self::clock).
    pub fn stamp_ns(&self) -> i64 {
        self.picture.stamp_ns
    }

    /// The stamp's clock.
    pub fn clock(&self) -> ExportedClock {
        self.picture.clock
    }

    /// The instant that the stamp names.
    pub fn kind(&self) -> StampKind {
        self.picture.kind
    }

    /// Whether the library calls the picture damaged: part of it may be missing or of another one.
    pub fn torn(&self) -> bool {
        self.picture.torn
    }

    fn place(&self, plane: usize) -> Option<Place> {
        self.picture.planes.get(plane).copied().flatten()
    }
}

/// A picture that lies whole, for as long as somebody has bytes of it.
struct Whole(ExportedFrame);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.whole().unwrap_or_default()
    }
}

const NO_PLANE: Plane = Plane { row_bytes: 0, rows: 0, stride: 0 };

/// The planes of a format; those that it lacks have no rows. `None` for what is not pixels in one buffer.
fn planes(format: CameraFormat, width_px: u32, height_px: u32, stride: Option<usize>) -> Option<[Plane; MAX_PLANES]> {
    let depth = match format {
        CameraFormat::Pixels(format) => return format.planes(width_px, height_px, stride),
        CameraFormat::Bayer(_, depth) => depth,
        CameraFormat::Mjpeg | CameraFormat::Nv12Apart => return None,
    };
    let width = usize::try_from(width_px).ok()?;
    let row_bytes = match depth {
        BayerDepth::Bits8 => width,
        BayerDepth::Bits10 | BayerDepth::Bits12 => width.checked_mul(2)?,
        BayerDepth::Bits10Packed => width.div_ceil(4).checked_mul(5)?,
        BayerDepth::Bits12Packed => width.div_ceil(2).checked_mul(3)?,
    };
    let first = Plane { row_bytes, rows: usize::try_from(height_px).ok()?, stride: stride.unwrap_or(row_bytes) };
    Some([first, NO_PLANE, NO_PLANE])
}

/// Holds what a library says of a picture against the contract. Reads no byte of it.
pub(super) fn check(raw: &abi::Frame) -> Result<Picture, FrameFault> {
    let code = FourCc::from_number(raw.fourcc);
    let unknown = FrameFault::Format { found: code };
    let format = CameraFormat::from_fourcc(code).ok_or(unknown)?;
    let (width_px, height_px) = (raw.width_px, raw.height_px);
    // width and height alone: the format's bytes are held against the planes below
    if Limits::default().check(width_px, height_px, PixelFormat::Mono8).is_err() {
        let expected = Limits::default().max_width_px;
        return Err(FrameFault::Size { expected, found: [width_px, height_px] });
    }
    let layouts = planes(format, width_px, height_px, None).ok_or(unknown)?;
    let expected = layouts.iter().filter(|plane| plane.rows > 0).count() as u32;
    if raw.plane_count != expected {
        return Err(FrameFault::Planes { expected, found: raw.plane_count });
    }
    let mut places = [None; MAX_PLANES];
    for (number, ((place, plane), layout)) in places.iter_mut().zip(&raw.planes).zip(layouts).enumerate() {
        if layout.rows > 0 {
            *place = Some(check_plane(number, plane, layout)?);
        }
    }
    if raw.flags & !abi::FRAME_TORN != 0 {
        return Err(FrameFault::Flags { found: raw.flags });
    }
    let memory = check_memory(raw.memory_kind, raw.handle)?;
    if !matches!(memory, Memory::Host) && raw.memory_bytes > 0 {
        for (number, place) in places.iter().enumerate() {
            let end = |place: Place| place.plane.offset_bytes.saturating_add(place.len as u64);
            if let Some(found) = place.map(end).filter(|end| *end > raw.memory_bytes) {
                return Err(FrameFault::Behind { plane: number, expected: raw.memory_bytes, found });
            }
        }
    }
    Ok(Picture {
        format,
        size_px: [width_px, height_px],
        planes: places,
        memory,
        memory_bytes: raw.memory_bytes,
        sequence: raw.sequence,
        stamp_ns: raw.stamp_ns,
        clock: check_clock(raw.clock)?,
        kind: check_kind(raw.stamp_kind)?,
        torn: raw.flags & abi::FRAME_TORN != 0,
    })
}

fn check_plane(number: usize, raw: &abi::Plane, layout: Plane) -> Result<Place, FrameFault> {
    let (row_bytes, stride) = (layout.row_bytes as u64, u64::from(raw.stride_bytes));
    if stride < row_bytes {
        return Err(FrameFault::Stride { plane: number, expected: row_bytes, found: stride });
    }
    // 2^32 times 16384 at most
    let expected = stride * layout.rows as u64;
    if raw.bytes < expected {
        return Err(FrameFault::Bytes { plane: number, expected, found: raw.bytes });
    }
    let address = raw.data as u64;
    let nowhere = FrameFault::Address { plane: number, bytes: raw.bytes, address };
    let end = address.checked_add(raw.bytes).filter(|_| i64::try_from(raw.bytes).is_ok());
    let (Some(place), Some(_)) = (NonNull::new(raw.data.cast_mut()), end) else { return Err(nowhere) };
    let layout = Plane { stride: raw.stride_bytes as usize, ..layout };
    let len = usize::try_from(expected).map_err(|_| nowhere)?;
    Ok(Place { address: place, len, plane: ExportedPlane { layout, offset_bytes: raw.offset_bytes } })
}

fn check_memory(kind: u32, handle: u64) -> Result<Memory, FrameFault> {
    let wrong = FrameFault::Handle { memory: kind, found: handle };
    match kind {
        abi::MEMORY_HOST if handle == 0 => Ok(Memory::Host),
        // -1 is what no descriptor can be
        abi::MEMORY_DMA_BUF => RawFd::try_from(handle).map(Memory::DmaBuf).map_err(|_| wrong),
        abi::MEMORY_OPAQUE_FD => RawFd::try_from(handle).map(Memory::OpaqueFd).map_err(|_| wrong),
        abi::MEMORY_NVSCIBUF => NonNull::new(handle as *mut c_void).map(Memory::NvSciBuf).ok_or(wrong),
        abi::MEMORY_HOST => Err(wrong),
        found => Err(FrameFault::Memory { found }),
    }
}

fn check_clock(found: u32) -> Result<ExportedClock, FrameFault> {
    Ok(match found {
        abi::CLOCK_UNKNOWN => ExportedClock::Known(ClockId::Unknown),
        abi::CLOCK_HOST_MONOTONIC => ExportedClock::Known(ClockId::HostMonotonic),
        abi::CLOCK_HOST_REALTIME => ExportedClock::Known(ClockId::HostRealtime),
        abi::CLOCK_PTP => ExportedClock::Known(ClockId::Ptp),
        abi::CLOCK_SENSOR => ExportedClock::Known(ClockId::Sensor),
        abi::CLOCK_TSC => ExportedClock::Tsc,
        _ => return Err(FrameFault::Clock { found }),
    })
}

fn check_kind(found: u32) -> Result<StampKind, FrameFault> {
    match found {
        abi::STAMP_EXPOSURE_START => Ok(StampKind::ExposureStart),
        abi::STAMP_EXPOSURE_MIDDLE => Ok(StampKind::ExposureMiddle),
        abi::STAMP_EXPOSURE_END => Ok(StampKind::ExposureEnd),
        abi::STAMP_ARRIVAL => Ok(StampKind::Arrival),
        _ => Err(FrameFault::StampKind { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture that keeps the contract: NV12 of 8 by 4 with rows of 16 bytes.
    fn good() -> abi::Frame {
        let mut raw = abi::Frame::EMPTY;
        (raw.fourcc, raw.width_px, raw.height_px, raw.plane_count) = (u32::from_le_bytes(*b"NV12"), 8, 4, 2);
        for (plane, (address, bytes)) in raw.planes.iter_mut().zip([(0x1000, 64), (0x1040, 32)]) {
            (plane.data, plane.bytes, plane.stride_bytes) = (std::ptr::without_provenance(address), bytes, 16);
        }
        (raw.clock, raw.stamp_kind) = (abi::CLOCK_TSC, abi::STAMP_EXPOSURE_START);
        raw
    }

    fn fault(change: impl FnOnce(&mut abi::Frame)) -> Option<FrameFault> {
        let mut raw = good();
        change(&mut raw);
        check(&raw).err()
    }

    #[test]
    fn a_good_picture_is_taken_as_it_is() {
        let picture = check(&good()).unwrap();
        assert_eq!(picture.format, CameraFormat::Pixels(PixelFormat::Nv12));
        let chroma = picture.planes[1].unwrap();
        assert_eq!(chroma.plane.layout, Plane { row_bytes: 8, rows: 2, stride: 16 });
        assert_eq!(chroma.len, 32);
        assert!(picture.planes[2].is_none());
        assert_eq!((picture.clock.id(), picture.kind), (ClockId::Sensor, StampKind::ExposureStart));
    }

    #[test]
    fn every_breach_is_named() {
        use FrameFault::*;
        let found = FourCc(*b"MJPG");
        assert_eq!(fault(|raw| raw.fourcc = found.number()), Some(Format { found }));
        assert_eq!(fault(|raw| raw.fourcc = 7), Some(Format { found: FourCc([7, 0, 0, 0]) }));
        assert_eq!(fault(|raw| raw.width_px = 0), Some(Size { expected: 16384, found: [0, 4] }));
        assert_eq!(fault(|raw| raw.height_px = u32::MAX), Some(Size { expected: 16384, found: [8, u32::MAX] }));
        assert_eq!(fault(|raw| raw.plane_count = 3), Some(Planes { expected: 2, found: 3 }));
        assert_eq!(fault(|raw| raw.plane_count = u32::MAX), Some(Planes { expected: 2, found: u32::MAX }));
        let null = Address { plane: 1, bytes: 32, address: 0 };
        assert_eq!(fault(|raw| raw.planes[1].data = std::ptr::null()), Some(null));
        let over = Address { plane: 0, bytes: u64::MAX, address: 0x1000 };
        assert_eq!(fault(|raw| raw.planes[0].bytes = u64::MAX), Some(over));
        assert_eq!(fault(|raw| raw.planes[0].stride_bytes = 7), Some(Stride { plane: 0, expected: 8, found: 7 }));
        assert_eq!(fault(|raw| raw.planes[1].bytes = 31), Some(Bytes { plane: 1, expected: 32, found: 31 }));
        let huge = Bytes { plane: 0, expected: u64::from(u32::MAX) * 4, found: 64 };
        assert_eq!(fault(|raw| raw.planes[0].stride_bytes = u32::MAX), Some(huge));
        assert_eq!(fault(|raw| raw.memory_kind = 9), Some(Memory { found: 9 }));
        assert_eq!(fault(|raw| raw.handle = 5), Some(Handle { memory: 0, found: 5 }));
        for memory in [1, 3] {
            let no_fd = |raw: &mut abi::Frame| (raw.memory_kind, raw.handle) = (memory, u64::MAX);
            assert_eq!(fault(no_fd), Some(Handle { memory, found: u64::MAX }));
        }
        let behind = |raw: &mut abi::Frame| {
            (raw.memory_kind, raw.handle, raw.memory_bytes) = (1, 5, 95);
            raw.planes[1].offset_bytes = 64;
        };
        assert_eq!(fault(behind), Some(Behind { plane: 1, expected: 95, found: 96 }));
        assert_eq!(fault(|raw| raw.memory_kind = 2), Some(Handle { memory: 2, found: 0 }));
        assert_eq!(fault(|raw| raw.clock = 4), Some(Clock { found: 4 }));
        assert_eq!(fault(|raw| raw.stamp_kind = 4), Some(StampKind { found: 4 }));
        assert_eq!(fault(|raw| raw.flags = 3), Some(Flags { found: 3 }));
    }

    #[test]
    fn raw_rows_have_the_bytes_of_their_depth() {
        let bytes = |code: &[u8; 4]| {
            let format = CameraFormat::from_fourcc(FourCc(*code)).unwrap();
            planes(format, 10, 2, None).map(|planes| planes[0].row_bytes)
        };
        assert_eq!([b"RGGB", b"BG10", b"RG12"].map(bytes), [Some(10), Some(20), Some(20)]);
        // the last bytes of a packed row may hold pixels beyond it
        assert_eq!([b"pRAA", b"pBCC", b"MJPG", b"NM12"].map(bytes), [Some(15), Some(15), None, None]);
    }

    proptest! {
        #[test]
        fn whatever_a_library_says_is_judged(
            numbers in any::<[u32; 8]>(),
            formats in 0_usize..29,
            planes in any::<[(u64, u64, u32); 3]>(),
            handle in any::<u64>(),
        ) {
            let mut raw = abi::Frame::EMPTY;
            let [code, width_px, height_px, count, memory, clock, kind, flags] = numbers;
            let known = CameraFormat::all().nth(formats).map_or(code, |format| format.fourcc().number());
            raw.fourcc = if code % 8 == 0 { code } else { known };
            (raw.width_px, raw.height_px, raw.plane_count) = (width_px >> (width_px % 32), height_px >> (height_px % 32), count % 5);
            (raw.memory_kind, raw.clock, raw.stamp_kind, raw.flags) = (memory % 5, clock % 18, kind % 6, flags % 3);
            raw.handle = handle >> (handle % 64);
            raw.memory_bytes = handle.rotate_left(32) >> (handle % 64);
            for (plane, (address, bytes, stride)) in raw.planes.iter_mut().zip(planes) {
                plane.data = std::ptr::without_provenance(address as usize);
                (plane.bytes, plane.stride_bytes) = (bytes >> (bytes % 64), stride >> (stride % 32));
            }
            if let Ok(picture) = check(&raw) {
                for (place, plane) in picture.planes.iter().zip(&raw.planes) {
                    let Some(place) = place else { continue };
                    prop_assert!(place.len as u64 <= plane.bytes);
                    prop_assert!((plane.data as u64).checked_add(plane.bytes).is_some());
                    prop_assert!(place.plane.layout.row_bytes <= place.plane.layout.stride);
                }
            }
        }
    }
}
