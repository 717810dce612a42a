//! The host's time line: time since 1970 as it was at the start, going on steadily whatever becomes of the wall clock.

use rustix::time::{ClockId, clock_gettime};

use crate::log::recorder::now_unix_ns;

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

    /// The time line less the wall clock, now. Of some readings that one is taken which was interrupted least.
    fn ahead_of_realtime_ns(self) -> i64 {
        let reading = || {
            let (before, wall, after) = (self.now_ns(), realtime_ns(), self.now_ns());
            (after.saturating_sub(before), before.saturating_sub(wall))
        };
        let least = (0..5).map(|_| reading()).min_by_key(|(took_ns, _)| *took_ns);
        least.map_or(0, |(_, ahead_ns)| ahead_ns)
    }
}

/// Stamps of the wall clock on the time line: by the same distance for as long as nobody sets the wall clock, so that stamps
/// keep their order.
#[derive(Clone, Copy, Debug)]
pub struct RealtimeMap {
    clock: HostClock,
    ahead_ns: i64,
}

/// A wall clock that is off by more has been set; what is less is how it is slewed, or how it was read.
const SET_NS: i64 = 5_000_000;

impl RealtimeMap {
    /// Measures the distance.
    pub fn new(clock: HostClock) -> Self {
        RealtimeMap { clock, ahead_ns: clock.ahead_of_realtime_ns() }
    }

    /// A stamp that the wall clock gave just now, and whether the wall clock has been set since the one before.
    pub fn map(&mut self, stamp_ns: i64) -> (i64, bool) {
        let ahead_ns = self.clock.ahead_of_realtime_ns();
        let was_set = (ahead_ns - self.ahead_ns).abs() > SET_NS;
        if was_set {
            self.ahead_ns = ahead_ns;
        }
        (stamp_ns.saturating_add(self.ahead_ns), was_set)
    }
}

fn monotonic_ns() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

fn realtime_ns() -> i64 {
    i64::try_from(now_unix_ns()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_line_begins_at_the_wall_clock_and_goes_on() {
        let clock = HostClock::start();
        let (first, wall) = (clock.now_ns(), realtime_ns());
        assert!((wall - first).abs() < 1_000_000_000);
        let mut map = RealtimeMap::new(clock);
        assert!((map.map(wall).0 - first).abs() < 1_000_000_000);
        // a wall clock that is not set moves no stamp against another
        assert_eq!(map.map(wall + 7).0 - map.map(wall).0, 7);
        assert!(clock.of_monotonic(monotonic_ns()) >= first);
        assert!(clock.now_ns() >= first);
    }
}
