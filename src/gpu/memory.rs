//! Memory: the device's own, and the host's that the device reaches without help.
//!
//! A camera's buffers are memory that somebody else made. The device imports them by the handle under which they are shared, where
//! there is one that this driver takes; else their pages are registered, as ours are.

use std::any::Any;
use std::ffi::c_void;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use catseye_sensors::memory::{ForeignHandle, ForeignMemory, HandleKind, HostMemory, Pages};
use cudarc::driver::sys;

use super::context::{Context, no_capture};
use super::driver::{ExternalMemory, OUT_OF_MEMORY};
use super::error::GpuError;

/// Bytes in the device's memory. Fresh ones hold anything.
#[derive(Debug)]
pub struct DeviceBuffer {
    context: Arc<Context>,
    address: u64,
    len: usize,
}

impl DeviceBuffer {
    /// Asks for memory.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, GpuError> {
        let driver = context.current()?;
        let mut address = 0;
        // SAFETY: the place can be written. A buffer of nothing has a byte, so that every buffer has an address.
        let status = unsafe { (driver.cuMemAlloc_v2)(&raw mut address, bytes.max(1)) };
        allocated(context, "cuMemAlloc_v2", status, bytes)?;
        Ok(Self { context: Arc::clone(context), address, len: bytes })
    }

    /// A buffer with these bytes. Waits.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, GpuError> {
        let buffer = Self::new(context, bytes.len())?;
        buffer.upload_now(0, bytes)?;
        Ok(buffer)
    }

    /// Its address on the device, for kernels; at least 256-byte aligned.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes in, after all work on the device, and waits for it.
    pub fn upload_now(&self, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        let address = self.part(offset, bytes.len())?;
        self.context.synchronize()?;
        let driver = self.context.current()?;
        // SAFETY: both ends have room, as checked; the host's bytes live until the call returns.
        let status = unsafe { (driver.cuMemcpyHtoD_v2)(address, bytes.as_ptr().cast(), bytes.len()) };
        self.context.answer("cuMemcpyHtoD_v2", status)?;
        // the call may return when the bytes are staged, and streams here do not wait for it
        self.context.synchronize()
    }

    /// Copies bytes out, after all work on the device, and waits for it.
    pub fn download_now(&self, offset: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        let address = self.part(offset, bytes.len())?;
        self.context.synchronize()?;
        let driver = self.context.current()?;
        // SAFETY: both ends have room, as checked, and the call returns when the bytes are there.
        let status = unsafe { (driver.cuMemcpyDtoH_v2)(bytes.as_mut_ptr().cast(), address, bytes.len()) };
        self.context.answer("cuMemcpyDtoH_v2", status)
    }

    /// All bytes, after all work on the device. Waits.
    pub fn to_vec(&self) -> Result<Vec<u8>, GpuError> {
        let mut bytes = vec![0; self.len];
        self.download_now(0, &mut bytes)?;
        Ok(bytes)
    }

    /// The address of a part that is all inside.
    pub(super) fn part(&self, offset: usize, bytes: usize) -> Result<u64, GpuError> {
        inside(&(offset..offset.saturating_add(bytes)), self.len)?;
        Ok(self.address + offset as u64)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        // SAFETY: allocated in `new`, freed once. The driver waits for work that uses it.
        unsafe { (driver.cuMemFree_v2)(self.address) };
    }
}

/// What page-locked memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// A source and target of asynchronous copies.
    Pinned,
    /// As that, and kernels read and write it where it lies.
    Mapped,
}

/// Page-locked memory of the host, zero at first. The CPU caches it, so that reading it is as fast as any memory.
#[derive(Debug)]
pub struct PinnedBuffer {
    context: Arc<Context>,
    start: NonNull<u8>,
    len: usize,
    device_address: Option<u64>,
    owner: Owner,
}

/// Whose pages these are.
#[derive(Debug)]
enum Owner {
    /// The GPU's driver made them.
    Driver,
    /// They are registered with it, and live as long as this.
    Registered(#[expect(dead_code, reason = "kept, not read")] Box<dyn Any + Send + Sync>),
    /// They are somebody else's, and the device has them by a handle of its own.
    Imported(Import, #[expect(dead_code, reason = "kept, not read")] ForeignMemory),
}

// SAFETY: it owns its bytes as a `Box<[u8]>` does.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Asks for memory, aligned to at least 64 bytes.
    pub fn new(context: &Arc<Context>, bytes: usize, kind: HostKind) -> Result<Self, GpuError> {
        let driver = context.current()?;
        let flags = match kind {
            HostKind::Pinned => sys::CU_MEMHOSTALLOC_PORTABLE,
            HostKind::Mapped => sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP,
        };
        let mut start: *mut c_void = std::ptr::null_mut();
        // SAFETY: the place can be written. A buffer of nothing has a byte, so that every buffer has an address.
        let status = unsafe { (driver.cuMemHostAlloc)(&raw mut start, bytes.max(1), flags) };
        allocated(context, "cuMemHostAlloc", status, bytes)?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(GpuError::OutOfMemory { bytes })?;
        // SAFETY: as many bytes were just allocated, and nobody else knows of them.
        unsafe { start.as_ptr().write_bytes(0, bytes.max(1)) };
        let mut buffer =
            Self { context: Arc::clone(context), start, len: bytes, device_address: None, owner: Owner::Driver };
        if kind == HostKind::Mapped {
            buffer.map()?;
        }
        Ok(buffer)
    }

    /// Mapped pages of the heap, which the drivers of other devices can fill: they may refuse the GPU driver's own.
    pub fn of_pages(context: &Arc<Context>, bytes: usize) -> Result<Self, GpuError> {
        let mut pages = Pages::new(bytes.max(1));
        let start = NonNull::from(pages.bytes_mut()).cast::<u8>();
        let room = bytes.max(1).next_multiple_of(Pages::ALIGNMENT_BYTES);
        // SAFETY: so many bytes lie there, in pages that hold nothing else, for as long as `pages` lives.
        unsafe { Self::register(context, start, bytes, room, Box::new(pages)) }
    }

    /// Memory that somebody else made, mapped. Its bytes may be read while nobody writes them, which whoever reads has to know.
    pub fn of_foreign(context: &Arc<Context>, memory: ForeignMemory) -> Result<Self, GpuError> {
        let (start, bytes) = (memory.start(), memory.len());
        if let Some(handle) = memory.handle()
            && let Ok(import) = Import::new(context, &handle, bytes)
        {
            let (context, device_address) = (Arc::clone(context), Some(import.address));
            return Ok(Self { context, start, len: bytes, device_address, owner: Owner::Imported(import, memory) });
        }
        // SAFETY: whoever made the `ForeignMemory` has promised that so many bytes lie there for as long as it lives.
        unsafe { Self::register(context, start, bytes, bytes, Box::new(memory)) }
    }

    /// # Safety
    /// `room` bytes lie at `start` for as long as `owner` lives, and `bytes` are no more than that.
    unsafe fn register(
        context: &Arc<Context>,
        start: NonNull<u8>,
        bytes: usize,
        room: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, GpuError> {
        let driver = context.current()?;
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_DEVICEMAP;
        // SAFETY: as promised by the caller; it is unregistered on drop, before the owner is dropped.
        let status = unsafe { (driver.cuMemHostRegister_v2)(start.as_ptr().cast(), room, flags) };
        allocated(context, "cuMemHostRegister_v2", status, bytes)?;
        let (context, owner) = (Arc::clone(context), Owner::Registered(owner));
        let mut buffer = Self { context, start, len: bytes, device_address: None, owner };
        buffer.map()?;
        Ok(buffer)
    }

    /// Asks where the device sees memory that was made to be mapped.
    fn map(&mut self) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        let mut address = 0;
        // SAFETY: the place can be written, and the memory was made to be mapped.
        let status = unsafe { (driver.cuMemHostGetDevicePointer_v2)(&raw mut address, self.start.as_ptr().cast(), 0) };
        self.context.answer("cuMemHostGetDevicePointer_v2", status)?;
        self.device_address = Some(address);
        Ok(())
    }

    /// Where the device sees it, if it was made to be mapped or is imported.
    #[must_use]
    pub fn device_address(&self) -> Option<u64> {
        self.device_address
    }

    /// Where the device sees a range that is all inside.
    pub(super) fn device_part(&self, range: &Range<usize>) -> Result<u64, GpuError> {
        inside(range, self.len)?;
        Ok(self.device_address.ok_or(GpuError::NotMapped)?.wrapping_add(range.start as u64))
    }

    /// Whether the device has it by a handle: it is read there, and never copied by its place on the host, which the driver does not
    /// know.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        matches!(self.owner, Owner::Imported(..))
    }

    /// The bytes of a range that is all inside, as an address of the host.
    pub(super) fn part(&self, range: &Range<usize>) -> Result<*mut c_void, GpuError> {
        inside(range, self.len)?;
        // SAFETY: inside the allocation, as checked.
        Ok(unsafe { self.start.as_ptr().add(range.start) }.cast())
    }
}

impl Deref for PinnedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated and zeroed in `new`, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for PinnedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        let _no_capture = no_capture();
        // SAFETY: the context is current. A copy that is under way must not find the memory gone.
        unsafe { (driver.cuCtxSynchronize)() };
        let start = self.start.as_ptr().cast();
        // SAFETY: allocated in `new`, registered in `register` or imported, let go once; what is not the driver's own lives until this
        // is over.
        unsafe {
            match &self.owner {
                Owner::Driver => (driver.cuMemFreeHost)(start),
                Owner::Registered(_) => (driver.cuMemHostUnregister)(start),
                Owner::Imported(import, _) => import.end(&self.context),
            }
        };
    }
}

/// Memory of somebody else as the device has it. It is ended by whoever holds it, as long as the context is current.
#[derive(Debug)]
struct Import {
    memory: sys::CUexternalMemory,
    /// Where all of it is mapped.
    mapped: u64,
    /// Where the bytes begin that are meant.
    address: u64,
    /// The driver takes an opaque descriptor and nothing else for its own.
    _kept: Option<OwnedFd>,
}

impl Import {
    /// Imports what is behind a handle, all of it, and finds so many bytes there.
    fn new(context: &Arc<Context>, handle: &ForeignHandle, bytes: usize) -> Result<Self, GpuError> {
        let end = handle.offset.checked_add(bytes as u64).filter(|end| *end <= handle.bytes);
        let whole = usize::try_from(handle.bytes).unwrap_or(usize::MAX);
        if end.is_none() {
            let start = usize::try_from(handle.offset).unwrap_or(usize::MAX);
            return Err(GpuError::OutOfBounds { start, end: start.saturating_add(bytes), len: whole });
        }
        let (kind, object, mut kept) = match handle.kind {
            HandleKind::OpaqueFd(fd) => own(fd).map(|(number, fd)| (ExternalMemory::OPAQUE_FD, number, Some(fd)))?,
            HandleKind::DmaBuf(fd) => own(fd).map(|(number, fd)| (ExternalMemory::DMA_BUF, number, Some(fd)))?,
            HandleKind::NvSciBuf(object) => (ExternalMemory::NVSCIBUF, object as u64, None),
        };
        let wanted = ExternalMemory { kind, handle: [object, 0], bytes: handle.bytes, flags: 0, reserved: [0; 16] };
        let driver = context.current()?;
        let mut memory = std::ptr::null_mut();
        // SAFETY: the place can be written, and whoever made the `ForeignMemory` has promised that the handle is one.
        let status = unsafe { (driver.cuImportExternalMemory)(&raw mut memory, &raw const wanted) };
        if status != 0 {
            // a handle that is refused, in whatever words, is no reason to give up the device
            return Err(driver.failure("cuImportExternalMemory", status).into());
        }
        if let Some(fd) = kept.take_if(|_| kind == ExternalMemory::OPAQUE_FD) {
            let _ = fd.into_raw_fd();
        }
        let mut import = Import { memory, mapped: 0, address: 0, _kept: kept };
        let all =
            sys::CUDA_EXTERNAL_MEMORY_BUFFER_DESC_st { offset: 0, size: handle.bytes, flags: 0, reserved: [0; 16] };
        // SAFETY: the memory was imported, has so many bytes, and the place can be written.
        let status =
            unsafe { (driver.cuExternalMemoryGetMappedBuffer)(&raw mut import.mapped, memory, &raw const all) };
        if status != 0 {
            import.end(context);
            return Err(driver.failure("cuExternalMemoryGetMappedBuffer", status).into());
        }
        import.address = import.mapped.wrapping_add(handle.offset);
        Ok(import)
    }

    /// Lets go of it, once.
    fn end(&self, context: &Context) -> u32 {
        let driver = context.current_for_drop();
        // SAFETY: mapped and imported in `new`; nobody uses it any more, as whoever calls this has seen to.
        unsafe {
            if self.mapped != 0 {
                (driver.cuMemFree_v2)(self.mapped);
            }
            (driver.cuDestroyExternalMemory)(self.memory)
        }
    }
}

/// A descriptor of our own for what somebody else's stands for, and its number.
fn own(fd: RawFd) -> Result<(u64, OwnedFd), GpuError> {
    // SAFETY: whoever made the `ForeignMemory` has promised that it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed.try_clone_to_owned().map_err(|error| GpuError::NotImported { cause: error.to_string() })?;
    Ok((u64::try_from(owned.as_raw_fd()).unwrap_or(u64::MAX), owned))
}

fn allocated(context: &Context, call: &'static str, status: u32, bytes: usize) -> Result<(), GpuError> {
    if status == OUT_OF_MEMORY { Err(GpuError::OutOfMemory { bytes }) } else { context.answer(call, status) }
}

pub(super) fn inside(range: &Range<usize>, len: usize) -> Result<(), GpuError> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    Err(GpuError::OutOfBounds { start: range.start, end: range.end, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_inside() {
        assert_eq!(inside(&(0..0), 0), Ok(()));
        assert_eq!(inside(&(2..5), 5), Ok(()));
        assert_eq!(inside(&(2..6), 5), Err(GpuError::OutOfBounds { start: 2, end: 6, len: 5 }));
        let reversed = Range { start: 3, end: 2 };
        assert_eq!(inside(&reversed, 5), Err(GpuError::OutOfBounds { start: 3, end: 2, len: 5 }));
    }
}
