//! Streams do work in order; events say how far they are.

use std::ffi::{c_uint, c_void};
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::Context;
use super::driver::NOT_READY;
use super::error::GpuError;
use super::kernels::{Kernel, KernelParams};
use super::memory::{DeviceBuffer, PinnedBuffer};

/// Whose work the device takes first where two streams have some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Before the others.
    High,
    /// Between.
    Normal,
    /// After the others.
    Low,
}

/// A queue of work on the device. Every call but [`synchronize`](Self::synchronize) returns at once.
///
/// It waits for no other stream unless told to by an event; not for the default stream either.
#[derive(Debug)]
pub struct Stream {
    context: Arc<Context>,
    raw: sys::CUstream,
}

// SAFETY: a stream is bound to its context, which every call makes current, and to no thread.
unsafe impl Send for Stream {}

impl Stream {
    /// A new queue.
    pub fn new(context: &Arc<Context>, priority: Priority) -> Result<Self, GpuError> {
        let driver = context.current()?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: both places can be written.
        let status = unsafe { (driver.cuCtxGetStreamPriorityRange)(&raw mut least, &raw mut greatest) };
        context.answer("cuCtxGetStreamPriorityRange", status)?;
        // smaller numbers go first
        let priority = match priority {
            Priority::High => greatest,
            Priority::Normal => i32::midpoint(greatest, least),
            Priority::Low => least,
        };
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written.
        let status = unsafe { (driver.cuStreamCreateWithPriority)(&raw mut raw, flags, priority) };
        context.answer("cuStreamCreateWithPriority", status)?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// The device it works on.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The driver's handle, for libraries that take one.
    #[must_use]
    pub fn raw(&self) -> *mut c_void {
        self.raw.cast()
    }

    /// Copies a range of the host's buffer to an offset in the device's.
    pub fn upload(
        &self,
        from: &PinnedBuffer,
        range: Range<usize>,
        to: &DeviceBuffer,
        offset: usize,
    ) -> Result<(), GpuError> {
        let (source, bytes) = (from.part(&range)?, range.len());
        let target = to.part(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let driver = self.context.current()?;
        // SAFETY: both ends have room, as checked.
        let status = unsafe { (driver.cuMemcpyHtoDAsync_v2)(target, source, bytes, self.raw) };
        self.context.answer("cuMemcpyHtoDAsync_v2", status)
    }

    /// Copies from an offset in the device's buffer to a range of the host's.
    pub fn download(
        &self,
        from: &DeviceBuffer,
        offset: usize,
        to: &mut PinnedBuffer,
        range: Range<usize>,
    ) -> Result<(), GpuError> {
        let (target, bytes) = (to.part(&range)?, range.len());
        let source = from.part(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let driver = self.context.current()?;
        // SAFETY: both ends have room, as checked.
        let status = unsafe { (driver.cuMemcpyDtoHAsync_v2)(target, source, bytes, self.raw) };
        self.context.answer("cuMemcpyDtoHAsync_v2", status)
    }

    /// Copies a range of one device buffer to an offset in another.
    pub fn copy(
        &self,
        from: &DeviceBuffer,
        range: Range<usize>,
        to: &DeviceBuffer,
        offset: usize,
    ) -> Result<(), GpuError> {
        super::memory::inside(&range, from.len())?;
        let (source, target) = (from.part(range.start, range.len())?, to.part(offset, range.len())?);
        if range.is_empty() {
            return Ok(());
        }
        let driver = self.context.current()?;
        // SAFETY: both ends have room, as checked.
        let status = unsafe { (driver.cuMemcpyDtoDAsync_v2)(target, source, range.len(), self.raw) };
        self.context.answer("cuMemcpyDtoDAsync_v2", status)
    }

    /// Sets every byte of a range.
    pub fn fill(&self, buffer: &DeviceBuffer, range: Range<usize>, byte: u8) -> Result<(), GpuError> {
        super::memory::inside(&range, buffer.len())?;
        let target = buffer.part(range.start, range.len())?;
        if range.is_empty() {
            return Ok(());
        }
        let driver = self.context.current()?;
        // SAFETY: the range is in the buffer, as checked.
        let status = unsafe { (driver.cuMemsetD8Async)(target, byte, range.len(), self.raw) };
        self.context.answer("cuMemsetD8Async", status)
    }

    /// Runs a kernel with its parameters, which are copied now. `shared_bytes` is dynamic shared memory, at most 48 KiB.
    pub fn launch<P: KernelParams>(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        params: &P,
    ) -> Result<(), GpuError> {
        const { assert!(size_of::<P>() <= 4096, "the driver copies at most 4096 bytes of parameters") };
        let driver = self.context.current()?;
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast::<c_void>()];
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        // SAFETY: the kernel takes one struct by value, and `KernelParams` promises that this has its layout; the driver reads it
        // before it returns.
        let status = unsafe {
            (driver.cuLaunchKernel)(
                kernel.raw(),
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared_bytes,
                self.raw,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.context.answer("cuLaunchKernel", status)
    }

    /// Lets the event happen when all work so far is done.
    pub fn record(&self, event: &Event) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        // SAFETY: both are alive.
        self.context.answer("cuEventRecord", unsafe { (driver.cuEventRecord)(event.raw, self.raw) })
    }

    /// Lets all work after this wait for the event as it was last recorded.
    pub fn wait(&self, event: &Event) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        // SAFETY: both are alive.
        self.context.answer("cuStreamWaitEvent", unsafe { (driver.cuStreamWaitEvent)(self.raw, event.raw, 0) })
    }

    /// Puts into the graph that is being captured, where [`record`](Self::record) only tells what comes after what: each launch lets the
    /// event happen when all captured work so far is done. The event outlives the graph. Outside of a capture it is an error.
    pub fn record_beyond(&self, event: &Event) -> Result<(), GpuError> {
        let flags = sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL as c_uint;
        let driver = self.context.current()?;
        // SAFETY: both are alive.
        let status = unsafe { (driver.cuEventRecordWithFlags)(event.raw, self.raw, flags) };
        self.context.answer("cuEventRecordWithFlags", status)
    }

    /// Puts into the graph that is being captured: all captured work after this waits for the event as it was last recorded before the
    /// launch. The event outlives the graph. Outside of a capture it is an error.
    pub fn wait_beyond(&self, event: &Event) -> Result<(), GpuError> {
        let flags = sys::CUevent_wait_flags_enum::CU_EVENT_WAIT_EXTERNAL as c_uint;
        let driver = self.context.current()?;
        // SAFETY: both are alive.
        self.context.answer("cuStreamWaitEvent", unsafe { (driver.cuStreamWaitEvent)(self.raw, event.raw, flags) })
    }

    /// Waits, on this thread, for all work so far.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        // SAFETY: the stream is alive.
        self.context.answer("cuStreamSynchronize", unsafe { (driver.cuStreamSynchronize)(self.raw) })
    }

    pub(super) fn handle(&self) -> sys::CUstream {
        self.raw
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        // SAFETY: made in `new`, destroyed once. The driver finishes the work that is in it.
        unsafe { (driver.cuStreamDestroy_v2)(self.raw) };
    }
}

/// A point in a stream's work.
#[derive(Debug)]
pub struct Event {
    context: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY: an event is bound to its context, which every call makes current, and to no thread.
unsafe impl Send for Event {}
// SAFETY: the driver locks inside.
unsafe impl Sync for Event {}

impl Event {
    /// An event that also notes the time.
    pub fn new(context: &Arc<Context>) -> Result<Self, GpuError> {
        Self::with(context, sys::CUevent_flags_enum::CU_EVENT_DEFAULT as c_uint)
    }

    /// An event without a time, which costs the device less.
    pub fn without_time(context: &Arc<Context>) -> Result<Self, GpuError> {
        Self::with(context, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as c_uint)
    }

    fn with(context: &Arc<Context>, flags: c_uint) -> Result<Self, GpuError> {
        let driver = context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written.
        context.answer("cuEventCreate", unsafe { (driver.cuEventCreate)(&raw mut raw, flags) })?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// Whether it has happened. One that was never recorded has.
    pub fn is_done(&self) -> Result<bool, GpuError> {
        let driver = self.context.current()?;
        // SAFETY: the event is alive.
        match unsafe { (driver.cuEventQuery)(self.raw) } {
            NOT_READY => Ok(false),
            status => self.context.answer("cuEventQuery", status).map(|()| true),
        }
    }

    /// Waits, on this thread, until it has happened.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        // SAFETY: the event is alive.
        self.context.answer("cuEventSynchronize", unsafe { (driver.cuEventSynchronize)(self.raw) })
    }

    /// Milliseconds from an earlier event to this one. Both have happened and note times.
    pub fn elapsed_ms(&self, earlier: &Self) -> Result<f32, GpuError> {
        let driver = self.context.current()?;
        let mut milliseconds = 0.0;
        // SAFETY: the place can be written and both events are alive.
        let status = unsafe { (driver.cuEventElapsedTime)(&raw mut milliseconds, earlier.raw, self.raw) };
        self.context.answer("cuEventElapsedTime", status)?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        // SAFETY: made in `with`, destroyed once.
        unsafe { (driver.cuEventDestroy_v2)(self.raw) };
    }
}
