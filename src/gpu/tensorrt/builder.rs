//! From an ONNX model to a plan: minutes of measuring kernels on the device that will run them.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use super::abi;
use super::error::TensorRtError;
use super::library::{Library, c_name, call, status_of};
use super::{Direction, TensorInfo, text_of};

/// The smallest type that layers may compute in. TensorRT takes it where that is faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point throughout.
    Fp32,
    /// 16-bit floating point.
    Fp16,
    /// 8-bit integers, and 16-bit floating point beside.
    Int8,
}

/// How the range of an 8-bit tensor follows from what was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ranges {
    /// All of it.
    #[default]
    MinMax,
    /// What keeps most of its information: rare large values are cut off. A deep learning accelerator takes no other.
    Entropy,
}

/// How to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// The smallest type.
    pub precision: Precision,
    /// Lets matrix products round their operands to 10 bits on Ampere and later. TensorRT's own default, not catseye's.
    pub tf32: bool,
    /// Builder optimisation level, 0 (a fast build) to 5 (a fast engine), from headers and libraries of
    /// TensorRT 8.6 on; none for TensorRT's own.
    pub level: Option<u8>,
    /// Limit of the scratch memory of one layer, in bytes; none for TensorRT's own.
    pub workspace_bytes: Option<u64>,
    /// A deep learning accelerator (on Orin: 0 or 1) in place of the GPU, which keeps the layers that it cannot run.
    pub dla_core: Option<u8>,
}

impl Ranges {
    fn number(self) -> i32 {
        let number = match self {
            Ranges::MinMax => abi::CATSEYE_TRT_RANGES_MIN_MAX,
            Ranges::Entropy => abi::CATSEYE_TRT_RANGES_ENTROPY,
        };
        number as i32
    }
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions { precision: Precision::Fp16, tf32: false, level: None, workspace_bytes: None, dla_core: None }
    }
}

impl BuildOptions {
    fn flags(&self) -> u32 {
        let precision = match self.precision {
            Precision::Fp32 => 0,
            Precision::Fp16 => abi::CATSEYE_TRT_FLAG_FP16,
            Precision::Int8 => abi::CATSEYE_TRT_FLAG_FP16 | abi::CATSEYE_TRT_FLAG_INT8,
        };
        let tf32 = if self.tf32 { abi::CATSEYE_TRT_FLAG_TF32 } else { 0 };
        let fallback = if self.dla_core.is_some() { abi::CATSEYE_TRT_FLAG_GPU_FALLBACK } else { 0 };
        precision | tf32 | fallback
    }
}

/// A step of a build, as TensorRT from version 10 on tells them. Older ones tell their log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase<'a> {
    /// What TensorRT does.
    pub name: &'a str,
    /// As a part of what; empty for the whole.
    pub parent: &'a str,
    /// Steps that are done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
}

/// Gives, for the inputs of these names, the addresses of the next batch.
pub type Batches<'a> = dyn FnMut(&[&str]) -> Option<Vec<u64>> + Send + 'a;

/// Where the ranges of 8-bit tensors come from, for models without Q and DQ nodes. TensorRT 11 takes those alone.
pub enum Calibration<'a> {
    /// Pictures.
    Pictures {
        /// For each input of the names, the address of a batch on the device; none at the end. The batch stays until the next call.
        batches: &'a mut Batches<'a>,
        /// How ranges follow from them.
        ranges: Ranges,
    },
    /// The table of an earlier calibration.
    Table(&'a [u8]),
}

/// What a build gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The serialized engine.
    pub plan: Vec<u8>,
    /// All kernel timings so far, for the next build.
    pub timing_cache: Option<Vec<u8>>,
    /// The calibration table, if one was made.
    pub calibration_table: Option<Vec<u8>>,
}

/// A network on its way to a plan.
pub struct Builder {
    library: Arc<Library>,
    raw: NonNull<abi::CatseyeTrtBuilder>,
}

// SAFETY: used by one thread at a time, which makes the context current first.
unsafe impl Send for Builder {}

impl Builder {
    /// A builder without a network.
    pub fn new(library: &Arc<Library>) -> Result<Builder, TensorRtError> {
        library.context.current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the library is open and the place can be written.
        let status =
            unsafe { status_of(library.api.builder_create, |create| create(library.raw.as_ptr(), &raw mut raw)) };
        library.answer(status, "make a builder")?;
        let refused = || TensorRtError::Refused { what: "make a builder", cause: library.log.take_errors() };
        Ok(Builder { library: Arc::clone(library), raw: NonNull::new(raw).ok_or_else(refused)? })
    }

    /// Reads an ONNX model. `file` is its name in messages, and where weights beside it are looked for.
    pub fn parse(&mut self, file: &str, onnx: &[u8]) -> Result<(), TensorRtError> {
        let path = c_name(file)?;
        let library = &self.library;
        // SAFETY: the builder is alive; bytes and path live through the call.
        let status = unsafe {
            status_of(library.api.builder_parse, |parse| {
                parse(self.raw.as_ptr(), onnx.as_ptr().cast(), onnx.len(), path.as_ptr())
            })
        };
        match status {
            abi::CATSEYE_TRT_BAD_MODEL => {
                Err(TensorRtError::BadModel { file: file.to_owned(), cause: library.log.take_errors() })
            }
            abi::CATSEYE_TRT_NO_PARSER => {
                Err(TensorRtError::NoParser { cause: library.no_parser.clone().unwrap_or_default() })
            }
            status => library.answer(status, "read the model"),
        }
    }

    /// Inputs or outputs of the network.
    pub fn tensors(&self, direction: Direction) -> Result<Vec<TensorInfo>, TensorRtError> {
        let (library, mode) = (&self.library, direction.mode());
        // SAFETY: the builder is alive.
        let count = unsafe { call(library.api.builder_tensor_count, |count| count(self.raw.as_ptr(), mode)) };
        let tensor = |index| {
            let mut raw = abi::CatseyeTrtTensor::default();
            // SAFETY: the builder is alive and the place can be written.
            let status = unsafe {
                status_of(library.api.builder_tensor, |tensor| tensor(self.raw.as_ptr(), mode, index, &raw mut raw))
            };
            library.answer(status, "describe the network")?;
            // SAFETY: the name is the network's, which is alive.
            Ok(unsafe { TensorInfo::of(&raw) })
        };
        (0..count).map(tensor).collect()
    }

    /// Fixes the shape of an input, in place of sizes that are open and of those that are not.
    pub fn fix_shape(&mut self, input: &str, shape: &[u64]) -> Result<(), TensorRtError> {
        let name = c_name(input)?;
        let dims: Vec<i64> = shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
        let rank = i32::try_from(dims.len()).unwrap_or(i32::MAX);
        // SAFETY: the builder is alive; name and dimensions live through the call.
        let status = unsafe {
            status_of(self.library.api.builder_fix_shape, |fix| {
                fix(self.raw.as_ptr(), name.as_ptr(), dims.as_ptr(), rank)
            })
        };
        if status == abi::CATSEYE_TRT_NO_TENSOR {
            return Err(TensorRtError::NoTensor { name: input.to_owned() });
        }
        self.library.answer(status, "fix a shape")
    }

    /// Sets how many pictures a run takes, also for a model that was exported for one: reshapes and slices that name it follow.
    pub fn set_batch(&mut self, batch: u32) -> Result<(), TensorRtError> {
        let batch = i32::try_from(batch).unwrap_or(i32::MAX);
        // SAFETY: the builder is alive.
        let status = unsafe { status_of(self.library.api.builder_set_batch, |set| set(self.raw.as_ptr(), batch)) };
        self.library.answer(status, "take so many pictures at a time")
    }

    /// Builds. `progress` is called on TensorRT's threads, and stops the build with a break.
    pub fn build(
        &mut self,
        options: &BuildOptions,
        timing_cache: &[u8],
        calibration: Option<Calibration<'_>>,
        progress: &mut (dyn FnMut(Phase<'_>) -> ControlFlow<()> + Send),
    ) -> Result<Built, TensorRtError> {
        for direction in [Direction::Input, Direction::Output] {
            if let Some(open) = self.tensors(direction)?.into_iter().find(|tensor| tensor.bytes == 0) {
                return Err(TensorRtError::OpenShape { shape: open.shape_text(), tensor: open.name });
            }
        }
        let library = Arc::clone(&self.library);
        library.context.current()?;
        let (batches, table, ranges) = match calibration {
            Some(Calibration::Pictures { batches, ranges }) => (Some(batches), &[][..], ranges),
            // a DLA takes no other
            Some(Calibration::Table(table)) if options.dla_core.is_some() => (None, table, Ranges::Entropy),
            Some(Calibration::Table(table)) => (None, table, Ranges::default()),
            None => (None, &[][..], Ranges::default()),
        };
        let has_batches = batches.is_some();
        let mut user = User { progress, batches, table: None, stopped: false };
        let raw_options = abi::CatseyeTrtBuildOptions {
            flags: options.flags(),
            level: options.level.map_or(-1, i32::from),
            dla_core: options.dla_core.map_or(-1, i32::from),
            ranges: ranges.number(),
            workspace_bytes: options.workspace_bytes.unwrap_or(0),
            timing_cache: pointer(timing_cache),
            timing_cache_bytes: timing_cache.len(),
            progress: Some(on_progress),
            batch: has_batches.then_some(on_batch as _),
            table: Some(on_table),
            calibration_table: pointer(table),
            calibration_table_bytes: table.len(),
            user: (&raw mut user).cast(),
        };
        let (mut plan, mut cache) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the builder is alive, the options and what they point to live through the call, and both places can be written.
        let status = unsafe {
            status_of(library.api.builder_build, |build| {
                build(self.raw.as_ptr(), &raw const raw_options, &raw mut plan, &raw mut cache)
            })
        };
        let (plan, cache) = (Blob::own(&library, plan), Blob::own(&library, cache));
        if user.stopped {
            return Err(TensorRtError::Stopped);
        }
        library.answer(status, "build an engine")?;
        let refused = || TensorRtError::Refused { what: "build an engine", cause: library.log.take_errors() };
        Ok(Built {
            plan: plan.ok_or_else(refused)?.to_vec(),
            timing_cache: cache.map(|cache| cache.to_vec()),
            calibration_table: user.table,
        })
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        unsafe { call(self.library.api.builder_destroy, |destroy| destroy(self.raw.as_ptr())) };
    }
}

fn pointer(bytes: &[u8]) -> *const c_void {
    if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr().cast() }
}

/// What the callbacks of a build reach. TensorRT calls one at a time: the shim locks around progress, and calibration is over
/// before the phases begin that overlap.
struct User<'p, 'b> {
    progress: &'p mut (dyn FnMut(Phase<'_>) -> ControlFlow<()> + Send),
    batches: Option<&'b mut Batches<'b>>,
    table: Option<Vec<u8>>,
    stopped: bool,
}

/// # Safety
/// `user` is the [`User`] of the build that runs, and the texts are C strings.
unsafe extern "C" fn on_progress(
    user: *mut c_void,
    phase: *const c_char,
    parent: *const c_char,
    step: i32,
    steps: i32,
) -> i32 {
    // SAFETY: promised by the caller.
    let (user, name, parent) = unsafe { (&mut *user.cast::<User<'_, '_>>(), text_of(phase), text_of(parent)) };
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    let phase = Phase { name: &name, parent: &parent, step: number(step), steps: number(steps) };
    // a panic must not unwind into C++
    match catch_unwind(AssertUnwindSafe(|| (user.progress)(phase))) {
        Ok(ControlFlow::Continue(())) => 1,
        _ => {
            user.stopped = true;
            0
        }
    }
}

/// # Safety
/// `user` is the [`User`] of the build that runs; there are `count` names, and room for as many addresses.
unsafe extern "C" fn on_batch(
    user: *mut c_void,
    names: *const *const c_char,
    addresses: *mut *mut c_void,
    count: i32,
) -> i32 {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: promised by the caller.
    let (user, names, addresses) = unsafe {
        let names: Vec<String> = std::slice::from_raw_parts(names, count).iter().map(|name| text_of(*name)).collect();
        (&mut *user.cast::<User<'_, '_>>(), names, std::slice::from_raw_parts_mut(addresses, count))
    };
    let Some(batches) = user.batches.as_mut() else { return 0 };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Ok(Some(batch)) = catch_unwind(AssertUnwindSafe(|| batches(&names))) else { return 0 };
    if batch.len() != count {
        return 0;
    }
    for (place, address) in addresses.iter_mut().zip(batch) {
        *place = std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0));
    }
    1
}

/// # Safety
/// `user` is the [`User`] of the build that runs, and the table has this many bytes.
unsafe extern "C" fn on_table(user: *mut c_void, table: *const c_void, bytes: usize) {
    if table.is_null() {
        return;
    }
    // SAFETY: promised by the caller.
    let (user, table) =
        unsafe { (&mut *user.cast::<User<'_, '_>>(), std::slice::from_raw_parts(table.cast::<u8>(), bytes)) };
    user.table = Some(table.to_vec());
}

/// Bytes that TensorRT owns until they are dropped.
pub(super) struct Blob<'a> {
    library: &'a Library,
    raw: NonNull<abi::CatseyeTrtBlob>,
}

impl<'a> Blob<'a> {
    /// Takes what the shim gave, if it gave something.
    pub(super) fn own(library: &'a Library, raw: *mut abi::CatseyeTrtBlob) -> Option<Blob<'a>> {
        NonNull::new(raw).map(|raw| Blob { library, raw })
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let api = self.library.api;
        // SAFETY: the blob is alive.
        let bytes = unsafe { call(api.blob_bytes, |bytes| bytes(self.raw.as_ptr())) };
        let Some(data) = api.blob_data else { return Vec::new() };
        // SAFETY: the blob is alive.
        let start = unsafe { data(self.raw.as_ptr()) };
        if start.is_null() || bytes == 0 {
            return Vec::new();
        }
        // SAFETY: the blob has this many bytes.
        unsafe { std::slice::from_raw_parts(start.cast::<u8>(), bytes) }.to_vec()
    }
}

impl Drop for Blob<'_> {
    fn drop(&mut self) {
        // SAFETY: given by the shim, destroyed once.
        unsafe { call(self.library.api.blob_destroy, |destroy| destroy(self.raw.as_ptr())) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_allow_sixteen_and_a_dla_allows_the_gpu() {
        let of = |precision, dla_core| BuildOptions { precision, dla_core, ..BuildOptions::default() }.flags();
        assert_eq!(of(Precision::Fp32, None), 0);
        assert_eq!(of(Precision::Fp16, None), abi::CATSEYE_TRT_FLAG_FP16);
        let all = abi::CATSEYE_TRT_FLAG_INT8 | abi::CATSEYE_TRT_FLAG_FP16 | abi::CATSEYE_TRT_FLAG_GPU_FALLBACK;
        assert_eq!(of(Precision::Int8, Some(0)), all);
    }

    #[test]
    fn callbacks_reach_the_caller_and_panics_stop_the_build() {
        let mut seen = Vec::new();
        let mut progress = |phase: Phase<'_>| {
            seen.push((phase.name.to_owned(), phase.step));
            assert!(phase.step < 2, "enough");
            ControlFlow::Continue(())
        };
        let mut batches = |names: &[&str]| (names == ["images"]).then(|| vec![64]);
        let mut user = User { progress: &mut progress, batches: Some(&mut batches), table: None, stopped: false };
        let pointer: *mut c_void = (&raw mut user).cast();
        let names = [c"images".as_ptr()];
        let mut addresses = [std::ptr::null_mut()];
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        // SAFETY: the user and all texts live.
        unsafe {
            assert_eq!(on_progress(pointer, c"tactics".as_ptr(), c"".as_ptr(), 1, 2), 1);
            assert_eq!(on_progress(pointer, c"tactics".as_ptr(), c"".as_ptr(), 2, 2), 0);
            assert_eq!(on_batch(pointer, names.as_ptr(), addresses.as_mut_ptr(), 1), 1);
            on_table(pointer, b"table".as_ptr().cast(), 5);
        }
        std::panic::set_hook(hook);
        assert!(user.stopped);
        assert_eq!(user.table.as_deref(), Some(&b"table"[..]));
        assert_eq!(addresses.map(|address: *mut c_void| address.addr()), [64]);
        assert_eq!(seen, [("tactics".to_owned(), 1), ("tactics".to_owned(), 2)]);
    }
}
