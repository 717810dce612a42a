//! TensorRT behind a safe face: an ONNX model in, a plan for one kind of device out, and the plan at work in a stream.
//!
//! The libraries are opened at run time by [`Library::find`]; which majors (8, 10, 11) can be opened, and how much is known of their
//! minors, is settled by the headers of the build. A [`Builder`] makes a plan in minutes, once; an [`Engine`] is a plan that is loaded, and an
//! [`ExecutionContext`] puts its work into a [`Stream`](super::Stream), where a [`Graph`](super::Graph) may capture it.
//! TensorRT says what goes wrong only in its log, so every error here carries the words that were logged.

mod abi;
pub mod builder;
pub mod engine;
pub mod error;
pub mod library;
pub mod log;

pub use self::{
    builder::{BuildOptions, Builder, Built, Calibration, Phase, Precision, Ranges},
    engine::{Engine, ExecutionContext},
    error::TensorRtError,
    library::{Library, Version},
    log::{Listener, Severity},
};

use std::ffi::CStr;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = abi::CATSEYE_TRT_MAX_DIMS as usize;

/// Whether a tensor goes in or comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Filled before a run.
    Input,
    /// Filled by a run.
    Output,
}

impl Direction {
    fn mode(self) -> i32 {
        let mode = match self {
            Direction::Input => abi::CATSEYE_TRT_INPUT,
            Direction::Output => abi::CATSEYE_TRT_OUTPUT,
        };
        mode as i32
    }
}

/// Type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 16-bit floating point with the exponents of `F32`.
    Bf16,
    /// 8-bit floating point.
    F8,
    /// Signed 8-bit integers.
    I8,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// Unsigned 8-bit integers.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// One that catseye does not read.
    Other,
}

impl Element {
    fn of(number: i32) -> Element {
        match u32::try_from(number) {
            Ok(abi::CATSEYE_TRT_F32) => Element::F32,
            Ok(abi::CATSEYE_TRT_F16) => Element::F16,
            Ok(abi::CATSEYE_TRT_BF16) => Element::Bf16,
            Ok(abi::CATSEYE_TRT_F8) => Element::F8,
            Ok(abi::CATSEYE_TRT_I8) => Element::I8,
            Ok(abi::CATSEYE_TRT_I32) => Element::I32,
            Ok(abi::CATSEYE_TRT_I64) => Element::I64,
            Ok(abi::CATSEYE_TRT_U8) => Element::U8,
            Ok(abi::CATSEYE_TRT_BOOL) => Element::Bool,
            _ => Element::Other,
        }
    }
}

/// An input or output of a network or an engine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Type of its values.
    pub element: Element,
    /// Size of each dimension; none where it is open.
    pub shape: Vec<Option<u64>>,
    /// Its bytes; 0 where a size is open.
    pub bytes: u64,
}

impl TensorInfo {
    /// # Safety
    /// The name is a C string or null.
    unsafe fn of(raw: &abi::CatseyeTrtTensor) -> TensorInfo {
        // SAFETY: promised by the caller.
        let name = if raw.name.is_null() { String::new() } else { unsafe { text_of(raw.name) } };
        let rank = usize::try_from(raw.rank).unwrap_or(0);
        let shape = raw.dims.iter().take(rank).map(|&size| u64::try_from(size).ok()).collect();
        TensorInfo { name, element: Element::of(raw.type_), shape, bytes: raw.bytes }
    }

    /// The shape as in `1x3x416x416`, with `?` for open sizes.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let sizes = self.shape.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string()));
        sizes.collect::<Vec<_>>().join("x")
    }
}

/// # Safety
/// `text` is a C string.
unsafe fn text_of(text: *const std::ffi::c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
