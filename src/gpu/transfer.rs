//! How pictures reach the kernels: read where they lie in the host's memory, or copied to the device first.
//!
//! On a device that shares the CPU's memory a copy is work for nothing, unless the device reads mapped memory slowly; that is
//! measured once at the start. Both ways give the same bytes.

use std::sync::Arc;

use super::TransferMode;
use super::abi::CatseyeProbeParams;
use super::context::Context;
use super::copy::{Part, PartsCopy};
use super::error::GpuError;
use super::kernels::{Kernel, Kernels};
use super::memory::{DeviceBuffer, HostKind, PinnedBuffer};
use super::stream::{Event, Priority, Stream};

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Kernels read the host's memory.
    Mapped,
    /// A kernel copies them, then others read the device's memory.
    Copy,
}

/// What was chosen, and the times that decided where something was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferChoice {
    /// The way to take.
    pub transfer: Transfer,
    /// How long a kernel took to read a picture the one way and the other.
    pub measured: Option<TransferTimes>,
}

/// Milliseconds for [`MEASURED_BYTES`], the least of some rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferTimes {
    /// Read where they lie.
    pub mapped_ms: f32,
    /// Copied, then read.
    pub copied_ms: f32,
}

impl std::fmt::Display for TransferTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mapped_ms, copied_ms } = self;
        let way = if mapped_ms <= copied_ms { "read where they lie" } else { "copied to the device" };
        write!(
            f,
            "pictures are {way}: {MEASURED_BYTES} bytes took {mapped_ms:.2} ms read in place, {copied_ms:.2} ms copied"
        )
    }
}

/// What the measurement moves: about four pictures of two megapixels in YUV 4:2:2.
pub const MEASURED_BYTES: usize = 16 << 20;

const PICTURES: usize = 4;
const ROUNDS: usize = 10;

impl TransferMode {
    /// The way to take on this device.
    pub fn choose(self, context: &Arc<Context>) -> Result<TransferChoice, GpuError> {
        match self {
            Self::Auto => measure_mapped(context),
            Self::Mapped => Ok(TransferChoice { transfer: Transfer::Mapped, measured: None }),
            Self::Copy => Ok(TransferChoice { transfer: Transfer::Copy, measured: None }),
        }
    }
}

/// Measures both ways on a device that shares the CPU's memory; on another one copies are chosen without measuring.
pub fn measure_mapped(context: &Arc<Context>) -> Result<TransferChoice, GpuError> {
    if !context.is_integrated() {
        return Ok(TransferChoice { transfer: Transfer::Copy, measured: None });
    }
    let times = time_both(context)?;
    let transfer = if times.mapped_ms <= times.copied_ms { Transfer::Mapped } else { Transfer::Copy };
    Ok(TransferChoice { transfer, measured: Some(times) })
}

/// Measures both ways on any device.
pub fn time_both(context: &Arc<Context>) -> Result<TransferTimes, GpuError> {
    let kernels = Kernels::load(context)?;
    let probe = kernels.get("catseye_probe")?;
    let stream = Stream::new(context, Priority::Normal)?;
    let (start, end) = (Event::new(context)?, Event::new(context)?);
    let host = PinnedBuffer::new(context, MEASURED_BYTES, HostKind::Mapped)?;
    let copy = DeviceBuffer::new(context, MEASURED_BYTES)?;
    let target = DeviceBuffer::new(context, MEASURED_BYTES)?;
    let mapped = host.device_address().ok_or(GpuError::NotMapped)?;
    let picture = |number: usize| {
        let (bytes, offset) = (MEASURED_BYTES / PICTURES, (MEASURED_BYTES / PICTURES * number) as u64);
        Part { source: mapped.wrapping_add(offset), target: copy.address().wrapping_add(offset), bytes }
    };
    let table = DeviceBuffer::from_bytes(
        context,
        std::array::from_fn::<_, PICTURES, _>(|at| picture(at).to_bytes()).as_flattened(),
    )?;
    let copies = PartsCopy::new(&kernels, table.address(), PICTURES)?;
    let time = |work: &dyn Fn() -> Result<(), GpuError>| {
        let mut least = f32::INFINITY;
        for _ in 0..ROUNDS {
            stream.record(&start)?;
            work()?;
            stream.record(&end)?;
            end.synchronize()?;
            least = least.min(end.elapsed_ms(&start)?);
        }
        Ok::<f32, GpuError>(least)
    };
    Ok(TransferTimes {
        mapped_ms: time(&|| read(&stream, &probe, mapped, &target))?,
        copied_ms: time(&|| {
            copies.enqueue(&stream)?;
            read(&stream, &probe, copy.address(), &target)
        })?,
    })
}

fn read(stream: &Stream, probe: &Kernel, source: u64, target: &DeviceBuffer) -> Result<(), GpuError> {
    let bytes = MEASURED_BYTES as u64;
    let params = CatseyeProbeParams { source, target: target.address(), bytes, pattern: 1, reserved: 0 };
    stream.launch(probe, [1024, 1, 1], [256, 1, 1], 0, &params)
}
