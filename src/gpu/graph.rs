//! A captured sequence of work that one call starts.

use std::sync::Arc;

use cudarc::driver::sys;

use super::context::{Capturing, Context};
use super::driver::Driver;
use super::error::GpuError;
use super::stream::Stream;

/// Copies, fills and kernels in their order, frozen with their addresses and parameters, and instantiated on the device.
///
/// It does not keep the buffers alive that it was captured with.
#[derive(Debug)]
pub struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraphExec,
    nodes: usize,
}

// SAFETY: bound to its context, which every call makes current, and to no thread. It is not `Sync`: the driver does not lock it.
unsafe impl Send for Graph {}

impl Graph {
    /// Captures what `work` puts into the stream, and into others that it joins to it by events, instead of doing it.
    ///
    /// Calls of this thread that would wait or allocate fail meanwhile. Other threads may allocate; where they wait for the whole
    /// device, they wait for the capture to end too.
    pub fn capture(stream: &Stream, work: impl FnOnce(&Stream) -> Result<(), GpuError>) -> Result<Self, GpuError> {
        let context = stream.context();
        let captured = capture(stream, work)?;
        let nodes = captured.nodes()?;
        let driver = context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written and the graph is alive.
        let status = unsafe { (driver.cuGraphInstantiateWithFlags)(&raw mut raw, captured.raw, 0) };
        context.answer("cuGraphInstantiateWithFlags", status)?;
        let graph = Self { context: Arc::clone(context), raw, nodes };
        // what the device needs for it is put there now, and not at the first launch
        // SAFETY: both are alive.
        context.answer("cuGraphUpload", unsafe { (driver.cuGraphUpload)(graph.raw, stream.handle()) })?;
        stream.synchronize()?;
        Ok(graph)
    }

    /// Puts all of it into a stream. It does not run beside itself: a second launch follows the first.
    pub fn launch(&self, stream: &Stream) -> Result<(), GpuError> {
        let driver = self.context.current()?;
        // SAFETY: both are alive, and `Graph` is not `Sync`.
        self.context.answer("cuGraphLaunch", unsafe { (driver.cuGraphLaunch)(self.raw, stream.handle()) })
    }

    /// How many pieces of work it has.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        // SAFETY: instantiated in `capture`, destroyed once. The driver lets a launch that is under way end.
        unsafe { (driver.cuGraphExecDestroy)(self.raw) };
    }
}

/// A graph that is not instantiated.
struct Captured<'a> {
    context: &'a Context,
    driver: &'static Driver,
    raw: sys::CUgraph,
}

impl Captured<'_> {
    fn nodes(&self) -> Result<usize, GpuError> {
        let mut count = 0;
        // SAFETY: without a place for the nodes only their number is written.
        let status = unsafe { (self.driver.cuGraphGetNodes)(self.raw, std::ptr::null_mut(), &raw mut count) };
        self.context.answer("cuGraphGetNodes", status)?;
        Ok(count)
    }
}

impl Drop for Captured<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the end of the capture, destroyed once.
        unsafe { (self.driver.cuGraphDestroy)(self.raw) };
    }
}

/// Ends a capture also where the work inside failed or panicked, so that the stream can be used again.
struct Open<'a> {
    stream: &'a Stream,
    ended: bool,
    _alone: Capturing,
}

impl<'a> Open<'a> {
    fn end(mut self) -> Result<Captured<'a>, GpuError> {
        let context = self.stream.context();
        let driver = context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written, and this thread began the capture.
        let status = unsafe { (driver.cuStreamEndCapture)(self.stream.handle(), &raw mut raw) };
        self.ended = true;
        context.answer("cuStreamEndCapture", status)?;
        Ok(Captured { context, driver, raw })
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let driver = self.stream.context().current_for_drop();
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written, and this thread began the capture.
        if unsafe { (driver.cuStreamEndCapture)(self.stream.handle(), &raw mut raw) } == 0 {
            // SAFETY: just made, and nobody else knows of it.
            unsafe { (driver.cuGraphDestroy)(raw) };
        }
    }
}

fn capture<'a>(
    stream: &'a Stream,
    work: impl FnOnce(&Stream) -> Result<(), GpuError>,
) -> Result<Captured<'a>, GpuError> {
    let context = stream.context();
    let alone = Capturing::begin();
    let driver = context.current()?;
    let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // SAFETY: the stream is alive.
    let status = unsafe { (driver.cuStreamBeginCapture_v2)(stream.handle(), mode) };
    context.answer("cuStreamBeginCapture_v2", status)?;
    let open = Open { stream, ended: false, _alone: alone };
    work(stream)?;
    open.end()
}
