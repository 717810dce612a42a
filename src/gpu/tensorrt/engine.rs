//! A plan at work: loaded once, and put into a stream as often as a tick comes.

use std::ptr::NonNull;
use std::sync::Arc;

use super::abi;
use super::builder::Blob;
use super::error::TensorRtError;
use super::library::{Library, c_name, call, status_of};
use super::{Direction, TensorInfo};
use crate::gpu::Stream;

/// A plan, loaded on the device that it was built for.
pub struct Engine {
    library: Arc<Library>,
    runtime: NonNull<abi::CatseyeTrtRuntime>,
    raw: NonNull<abi::CatseyeTrtEngine>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    workspace_bytes: u64,
}

// SAFETY: an engine is not changed after it was loaded, and TensorRT lets several threads make contexts of it.
unsafe impl Send for Engine {}
// SAFETY: as above.
unsafe impl Sync for Engine {}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("workspace_bytes", &self.workspace_bytes)
            .finish_non_exhaustive()
    }
}

/// A runtime that goes away where the engine cannot be made of it.
struct Runtime<'a> {
    library: &'a Library,
    raw: NonNull<abi::CatseyeTrtRuntime>,
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        // SAFETY: made just before, destroyed once.
        unsafe { call(self.library.api.runtime_destroy, |destroy| destroy(self.raw.as_ptr())) };
    }
}

impl Engine {
    /// Loads a plan. `dla_core` is that of the build.
    ///
    /// TensorRT trusts a plan: it is to be one whose digest is known, as [`Store`](crate::gpu::engine::Store) hands them out.
    pub fn load(library: &Arc<Library>, plan: &[u8], dla_core: Option<u8>) -> Result<Arc<Engine>, TensorRtError> {
        library.context.current()?;
        let api = library.api;
        let mut raw = std::ptr::null_mut();
        let core = dla_core.map_or(-1, i32::from);
        // SAFETY: the library is open and the place can be written.
        let status =
            unsafe { status_of(api.runtime_create, |create| create(library.raw.as_ptr(), core, &raw mut raw)) };
        library.answer(status, "make a runtime")?;
        let refused = |what| TensorRtError::Refused { what, cause: library.log.take_errors() };
        let raw = NonNull::new(raw).ok_or_else(|| refused("make a runtime"))?;
        let runtime = Runtime { library, raw };

        let mut raw = std::ptr::null_mut();
        // SAFETY: the runtime is alive, the plan lives through the call and the place can be written.
        let status = unsafe {
            status_of(api.engine_create, |create| {
                create(runtime.raw.as_ptr(), plan.as_ptr().cast(), plan.len(), &raw mut raw)
            })
        };
        library.answer(status, "load a plan")?;
        let raw = NonNull::new(raw).ok_or_else(|| refused("load a plan"))?;
        // SAFETY: the engine is alive.
        let workspace_bytes = unsafe { call(api.engine_workspace, |bytes| bytes(raw.as_ptr())) };
        let mut engine = Engine {
            library: Arc::clone(library),
            runtime: runtime.raw,
            raw,
            inputs: Vec::new(),
            outputs: Vec::new(),
            workspace_bytes,
        };
        // the engine destroys it from here on
        std::mem::forget(runtime);
        engine.describe()?;
        Ok(Arc::new(engine))
    }

    fn describe(&mut self) -> Result<(), TensorRtError> {
        let api = self.library.api;
        // SAFETY: the engine is alive.
        let count = unsafe { call(api.engine_tensor_count, |count| count(self.raw.as_ptr())) };
        for index in 0..count {
            let mut raw = abi::CatseyeTrtTensor::default();
            // SAFETY: the engine is alive and the place can be written.
            let status =
                unsafe { status_of(api.engine_tensor, |tensor| tensor(self.raw.as_ptr(), index, &raw mut raw)) };
            // SAFETY: the name is the engine's, which is alive, or null.
            let info = unsafe { TensorInfo::of(&raw) };
            if status == abi::CATSEYE_TRT_DYNAMIC {
                return Err(TensorRtError::OpenShape { shape: info.shape_text(), tensor: info.name });
            }
            self.library.answer(status, "describe the engine")?;
            let is_input = raw.mode == Direction::Input.mode();
            if is_input { self.inputs.push(info) } else { self.outputs.push(info) }
        }
        Ok(())
    }

    /// Its inputs, in the model's order.
    #[must_use]
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// Its outputs, in the model's order.
    #[must_use]
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Scratch memory of one context. Contexts that never run at the same time may share it.
    #[must_use]
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace_bytes
    }

    /// The library that loaded it.
    #[must_use]
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Its layers with their formats and tactics: JSON, as TensorRT's inspector writes it.
    pub fn layers(&self) -> Result<String, TensorRtError> {
        let library = &self.library;
        library.context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the engine is alive and the place can be written.
        let status = unsafe { status_of(library.api.engine_layers, |layers| layers(self.raw.as_ptr(), &raw mut raw)) };
        let blob = Blob::own(library, raw);
        library.answer(status, "inspect an engine")?;
        Ok(blob.map(|blob| String::from_utf8_lossy(&blob.to_vec()).into_owned()).unwrap_or_default())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.library.context.current_for_drop();
        // SAFETY: both were made in `load` and are destroyed once; contexts hold an `Arc` of `self`, so they are gone.
        unsafe {
            call(self.library.api.engine_destroy, |destroy| destroy(self.raw.as_ptr()));
            call(self.library.api.runtime_destroy, |destroy| destroy(self.runtime.as_ptr()));
        }
    }
}

/// One run of an engine at a time, with its tensors at fixed addresses, so that it can be captured.
pub struct ExecutionContext {
    engine: Arc<Engine>,
    raw: NonNull<abi::CatseyeTrtContext>,
    /// Inputs and outputs that have no address yet.
    open: Vec<String>,
}

// SAFETY: used by one thread at a time, which makes the CUDA context current first.
unsafe impl Send for ExecutionContext {}

impl ExecutionContext {
    /// A context with scratch memory of the caller's: `bytes` at a device address, at least [`Engine::workspace_bytes`].
    pub fn new(engine: &Arc<Engine>, workspace: u64, bytes: u64) -> Result<ExecutionContext, TensorRtError> {
        let library = &engine.library;
        library.context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the engine is alive and the place can be written; the memory is not touched before `enqueue`.
        let status = unsafe {
            status_of(library.api.context_create, |create| create(engine.raw.as_ptr(), workspace, bytes, &raw mut raw))
        };
        library.answer(status, "make an execution context")?;
        let refused = || TensorRtError::Refused { what: "make an execution context", cause: library.log.take_errors() };
        let raw = NonNull::new(raw).ok_or_else(refused)?;
        let open = engine.inputs.iter().chain(&engine.outputs).map(|tensor| tensor.name.clone()).collect();
        Ok(ExecutionContext { engine: Arc::clone(engine), raw, open })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Says where on the device an input is or an output goes.
    pub fn set_address(&mut self, tensor: &str, address: u64) -> Result<(), TensorRtError> {
        let name = c_name(tensor)?;
        let library = &self.engine.library;
        // SAFETY: the context is alive and the name lives through the call; the memory is not touched before `enqueue`.
        let status =
            unsafe { status_of(library.api.context_set_address, |set| set(self.raw.as_ptr(), name.as_ptr(), address)) };
        if self.engine.inputs.iter().chain(&self.engine.outputs).all(|info| info.name != tensor) {
            library.log.take_errors();
            return Err(TensorRtError::NoTensor { name: tensor.to_owned() });
        }
        library.answer(status, "take an address")?;
        self.open.retain(|name| name != tensor);
        Ok(())
    }

    /// Puts one run into a stream and returns at once.
    ///
    /// # Safety
    /// The workspace and every tensor's address are memory of the device with the bytes that the engine asks for. They live, and
    /// nothing else uses the workspace and the outputs, until the stream has done the work, and as long as a graph that has
    /// captured it may be launched.
    pub unsafe fn enqueue(&mut self, stream: &Stream) -> Result<(), TensorRtError> {
        if let Some(name) = self.open.first() {
            return Err(TensorRtError::NoTensor { name: format!("{name} with an address") });
        }
        let library = &self.engine.library;
        library.context.current()?;
        // SAFETY: the context and the stream are alive, and the caller promises the rest.
        let status =
            unsafe { status_of(library.api.context_enqueue, |enqueue| enqueue(self.raw.as_ptr(), stream.raw())) };
        library.answer(status, "run an engine")
    }
}

impl Drop for ExecutionContext {
    fn drop(&mut self) {
        let library = &self.engine.library;
        library.context.current_for_drop();
        // SAFETY: made in `new`, destroyed once.
        unsafe { call(library.api.context_destroy, |destroy| destroy(self.raw.as_ptr())) };
    }
}
