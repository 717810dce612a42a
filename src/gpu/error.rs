//! What can go wrong with a GPU, named by cause.

use std::fmt;

/// A call of the driver that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The driver's function.
    pub call: &'static str,
    /// The driver's name of its answer.
    pub name: &'static str,
    /// The number of its answer.
    pub code: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) from {}", self.name, self.code, self.call)
    }
}

/// Why the GPU did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The program was built without the feature.
    #[error("this build has no GPU support: it was built without the feature `cuda`")]
    NotBuilt,
    /// There is no driver that works.
    #[error("no NVIDIA driver: {reason}")]
    NoDriver {
        /// What was found instead.
        reason: String,
    },
    /// The driver lacks a function, though its version says that it has it.
    #[error("the NVIDIA driver has no function {symbol}")]
    MissingSymbol {
        /// The function.
        symbol: &'static str,
    },
    /// The driver is older than what is needed.
    #[error(
        "the NVIDIA driver is too old: expected CUDA {}.{} or newer, found {}.{}",
        expected / 1000, expected % 1000 / 10, found / 1000, found % 1000 / 10
    )]
    DriverTooOld {
        /// The oldest version that suffices, 11040 for 11.4.
        expected: u32,
        /// The driver's.
        found: u32,
    },
    /// The driver sees no device.
    #[error("the NVIDIA driver sees no device")]
    NoDevice,
    /// There are fewer devices.
    #[error("no GPU with number {ordinal}: there are {found}, counted from 0")]
    NoSuchDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        found: usize,
    },
    /// The kernels were not compiled for this device and driver.
    #[error(
        "no kernels for a device of compute capability {}.{} under a driver of CUDA {}.{}: built are {built}",
        device.0, device.1, driver / 1000, driver % 1000 / 10
    )]
    NoCubin {
        /// The device's compute capability.
        device: (u32, u32),
        /// The driver's version.
        driver: u32,
        /// What there is.
        built: String,
    },
    /// The driver refuses an embedded file.
    #[error("the kernels of {file} do not load: {cause}")]
    NotLoaded {
        /// The source file in `cuda/`.
        file: &'static str,
        /// What the driver answered.
        cause: Failure,
    },
    /// No embedded file has this kernel.
    #[error("no kernel is called {name}")]
    NoKernel {
        /// The name that was asked for.
        name: String,
    },
    /// Memory of the device, or page-locked memory of the host, is used up.
    #[error("out of memory on the GPU: {bytes} bytes were asked for")]
    OutOfMemory {
        /// How many were asked for.
        bytes: usize,
    },
    /// A copy or fill leaves its buffer.
    #[error("bytes {start}..{end} are not all in a buffer of {len}")]
    OutOfBounds {
        /// The first byte.
        start: usize,
        /// One behind the last.
        end: usize,
        /// The buffer's size.
        len: usize,
    },
    /// The buffer is none that the device sees.
    #[error("the host buffer is not mapped for the device")]
    NotMapped,
    /// Memory of somebody else has a handle that is none.
    #[error("memory cannot be imported: {cause}")]
    NotImported {
        /// The system's words.
        cause: String,
    },
    /// A call failed; later ones may succeed.
    #[error("CUDA: {name} ({code}) from {call}")]
    Call {
        /// The driver's function.
        call: &'static str,
        /// The driver's name of its answer.
        name: &'static str,
        /// The number of its answer.
        code: u32,
    },
    /// An earlier call failed in a way that ends the context: only a new process can use the device.
    #[error("the GPU cannot be used any more since {cause}")]
    Poisoned {
        /// That call.
        cause: Failure,
    },
}

impl From<Failure> for GpuError {
    fn from(Failure { call, name, code }: Failure) -> Self {
        Self::Call { call, name, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_people_write_them() {
        let error = GpuError::DriverTooOld { expected: 11_040, found: 10_020 };
        assert_eq!(error.to_string(), "the NVIDIA driver is too old: expected CUDA 11.4 or newer, found 10.2");
    }
}
