//! What can go wrong with TensorRT, named by cause.

use super::abi;
use crate::gpu::GpuError;

/// Why TensorRT did not do what it was asked. `cause` is what it logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorRtError {
    /// No library was found.
    #[error("TensorRT's libraries were not found: {looked}")]
    NoLibrary {
        /// What was looked for, and what became of it.
        looked: String,
    },
    /// What was found is of a version that this build cannot use.
    #[error("this TensorRT cannot be used: {cause}")]
    OtherVersion {
        /// Both versions.
        cause: String,
    },
    /// TensorRT said no.
    #[error("TensorRT refused to {what}: {cause}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What TensorRT logged.
        cause: String,
    },
    /// This version of TensorRT, or this device, cannot do it.
    #[error("not possible with this TensorRT: {cause}")]
    Unsupported {
        /// What is missing.
        cause: String,
    },
    /// Engines can be run, but not built.
    #[error("TensorRT's ONNX parser (libnvonnxparser) cannot be opened: {cause}")]
    NoParser {
        /// What was looked for, and what became of it.
        cause: String,
    },
    /// The ONNX parser rejects the model.
    #[error("{file}: TensorRT cannot read this model: {cause}")]
    BadModel {
        /// The model's file.
        file: String,
        /// What the parser said.
        cause: String,
    },
    /// There is no such input or output.
    #[error("the network has no tensor {name}")]
    NoTensor {
        /// The name that was asked for.
        name: String,
    },
    /// A tensor's size is only known at run time, or its values have no whole bytes.
    #[error("{tensor}: expected a fixed shape, found {shape}")]
    OpenShape {
        /// The tensor.
        tensor: String,
        /// Its shape; `?` stands for any size.
        shape: String,
    },
    /// The build was stopped.
    #[error("the build was stopped")]
    Stopped,
    /// A C++ exception.
    #[error("TensorRT threw an exception while it was asked to {what}: {cause}")]
    Exception {
        /// What was asked for.
        what: &'static str,
        /// The exception's words.
        cause: String,
    },
    /// A name with a zero byte in it.
    #[error("{name:?}: expected a name without a zero byte")]
    BadName {
        /// The name.
        name: String,
    },
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// A status of the shim as a result.
pub(super) fn answer(
    status: abi::CatseyeTrtStatus,
    what: &'static str,
    cause: impl FnOnce() -> String,
) -> Result<(), TensorRtError> {
    match status {
        abi::CATSEYE_TRT_OK => Ok(()),
        abi::CATSEYE_TRT_NOT_FOUND | abi::CATSEYE_TRT_NO_SYMBOL => Err(TensorRtError::NoLibrary { looked: cause() }),
        abi::CATSEYE_TRT_OTHER_MAJOR | abi::CATSEYE_TRT_TOO_OLD => Err(TensorRtError::OtherVersion { cause: cause() }),
        abi::CATSEYE_TRT_UNSUPPORTED => Err(TensorRtError::Unsupported { cause: cause() }),
        abi::CATSEYE_TRT_EXCEPTION => Err(TensorRtError::Exception { what, cause: cause() }),
        _ => Err(TensorRtError::Refused { what, cause: cause() }),
    }
}
