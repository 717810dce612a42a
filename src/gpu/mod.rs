//! The GPU: a small safe layer over NVIDIA's driver, and what catseye runs there.
//!
//! Without the feature `cuda` only [`probe`] and the errors are here, and every question is answered with
//! [`GpuError::NotBuilt`]. With it, the driver is opened at run time, so one program runs with and without a GPU. Everything is
//! made at the start: a `Context`, buffers, streams, kernels, and a `Graph` captured of them; in the steady state a graph
//! is launched and an event asked, and nothing allocates, on the host or on the device.
//!
//! Work on a GPU is asynchronous, and a kernel is given bare addresses. The layer checks ranges and every status, but three
//! things stay with who calls: a buffer outlives the work and the graphs that use it; the host leaves a `PinnedBuffer` alone
//! between the copy that was asked for and the event or synchronisation that ends it; and a kernel is launched with the parameters
//! of its name.

// calls into the driver
#![allow(unsafe_code)]

pub mod error;

#[cfg(feature = "cuda")]
pub mod abi;
#[cfg(feature = "cuda")]
pub mod context;
#[cfg(feature = "cuda")]
pub mod copy;
#[cfg(feature = "cuda")]
pub mod decode;
#[cfg(feature = "cuda")]
pub mod digest;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "tensorrt")]
pub mod engine;
#[cfg(feature = "cuda")]
pub mod graph;
#[cfg(feature = "cuda")]
pub mod kernels;
#[cfg(feature = "tensorrt")]
pub mod load;
#[cfg(feature = "cuda")]
pub mod memory;
#[cfg(feature = "tensorrt")]
pub mod node;
#[cfg(feature = "cuda")]
pub mod preprocess;
#[cfg(feature = "tensorrt")]
pub mod results;
#[cfg(feature = "cuda")]
pub mod stream;
#[cfg(feature = "tensorrt")]
pub mod tensorrt;
#[cfg(feature = "cuda")]
pub mod transfer;

pub use error::GpuError;

#[cfg(feature = "cuda")]
pub use self::{
    context::Context,
    copy::{Part, PartsCopy},
    graph::Graph,
    kernels::{Kernel, KernelParams, Kernels},
    memory::{DeviceBuffer, HostKind, PinnedBuffer},
    stream::{Event, Priority, Stream},
    transfer::{Transfer, TransferChoice, measure_mapped},
};

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name, as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability, (8, 7) for Orin.
    pub capability: (u32, u32),
    /// The newest CUDA version that the driver knows: 11040 for 11.4.
    pub driver_version: u32,
    /// Whether it shares its memory with the CPU.
    pub integrated: bool,
    /// What tells it from others of its kind.
    pub uuid: [u8; 16],
    /// Its memory.
    pub memory_bytes: usize,
}

/// How pictures shall reach the kernels. It changes no bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransferMode {
    /// What is faster on this device: measured where it shares the CPU's memory, else copies.
    #[default]
    Auto,
    /// Kernels read the host's memory.
    Mapped,
    /// They are copied to the device's memory first.
    Copy,
}

impl TransferMode {
    /// The name on the command line: `auto`, `mapped` or `copy`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mapped => "mapped",
            Self::Copy => "copy",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Mapped, Self::Copy].into_iter().find(|mode| mode.name() == name)
    }
}

/// The first device, or why there is none.
pub fn probe() -> Result<DeviceInfo, GpuError> {
    #[cfg(feature = "cuda")]
    return Context::open(0).map(|context| context.info().clone());
    #[cfg(not(feature = "cuda"))]
    Err(GpuError::NotBuilt)
}
