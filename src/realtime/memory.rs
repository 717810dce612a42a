//! Memory that is there before it is needed (mlockall(2)): no tick waits for a page.
//!
//! Everything that is mapped is paged in and locked: pools, networks, tables. What is mapped later is so when it is mapped, whole
//! stacks of threads among it. The main thread's stack, which grows by itself, is touched ahead.

use std::hint::black_box;
use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::Refused;
use super::scheduling::has;

/// What the calling thread's stack may grow by without a page that is missing.
const STACK_BYTES: usize = 256 << 10;

/// Locks all memory, present and future.
///
/// # Errors
/// When the process may not lock without bound: a lock of future memory under a limit would turn the limit into failing allocations.
pub fn lock() -> Result<(), Refused> {
    if let Some(limit_bytes) = getrlimit(Resource::Memlock).current
        && !has(CapabilitySet::IPC_LOCK)
    {
        return Err(Refused::MemoryLimit { limit_bytes });
    }
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE;
    mlockall(all).map_err(|error| Refused::Memory { error: io::Error::from(error) })?;
    touch_stack();
    Ok(())
}

/// Writes to the pages below.
#[inline(never)]
fn touch_stack() {
    black_box(&mut [1_u8; STACK_BYTES]);
}
