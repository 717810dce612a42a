//! The host's time line: time since 1970 as it was at the start, going on steadily whatever becomes of the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time line of a run, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// The time line less the monotonic clock.
    offset_ns: i64,
}

impl HostClock {
    /// Begins at the wall clock's time.
    pub fn start() -> Self {
        HostClock { offset_ns: realtime_ns().saturating_sub(monotonic_ns()) }
    }

    /// Now.
    pub fn now_ns(self) -> i64 {
        self.of_monotonic(monotonic_ns())
    }

    /// A stamp of the kernel's monotonic clock, which most camera drivers give.
    pub fn of_monotonic(self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(self.offset_ns)
    }

    /// A stamp of the wall clock that was taken just now: the wall clock may have been set since the start.
    pub fn of_realtime(self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(self.now_ns()).saturating_sub(realtime_ns())
    }
}

fn monotonic_ns() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

fn realtime_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_line_begins_at_the_wall_clock_and_goes_on() {
        let clock = HostClock::start();
        let (first, wall) = (clock.now_ns(), realtime_ns());
        assert!((wall - first).abs() < 1_000_000_000);
        assert!((clock.of_realtime(wall) - first).abs() < 1_000_000_000);
        assert!(clock.of_monotonic(monotonic_ns()) >= first);
        assert!(clock.now_ns() >= first);
    }
}
