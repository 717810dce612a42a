//! Binding a thread to processors.

use std::io;

/// Binds the calling thread to one processor. A processor that does not exist, or a system that will not, leaves the
/// thread where it is: placement is a wish, and no output depends on it.
pub fn pin_to(processor: usize) {
    let _ = u16::try_from(processor).map(|processor| bind_to(&[processor]));
}

/// Binds the calling thread to any of these processors.
///
/// # Errors
/// When none of them exists or may be used, or the system cannot bind threads.
pub fn bind_to(processors: &[u16]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        for processor in processors.iter().map(|one| usize::from(*one)) {
            if processor < rustix::thread::CpuSet::MAX_CPU {
                set.set(processor);
            }
        }
        Ok(rustix::thread::sched_setaffinity(None, &set)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = processors;
        Err(io::ErrorKind::Unsupported.into())
    }
}
