//! Binding a thread to a processor.

/// Binds the calling thread to one processor. A processor that does not exist, or a system that will not, leaves the
/// thread where it is: placement is a wish, and no output depends on it.
pub fn pin_to(processor: usize) {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        if processor < rustix::thread::CpuSet::MAX_CPU {
            set.set(processor);
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}
