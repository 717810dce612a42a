//! What live cameras have in common, whatever opens them: buffers that stay with the device, silence that is told of, and stamps
//! of the host's own clock.

use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::v4l2::{CameraState, CameraWatch};

use super::{Outlet, Stamped};

/// So many buffers stay with the device: one that is filled, one to go on with.
pub(super) const WITH_DEVICE: usize = 2;
/// So many more pictures than a pipeline holds wait on the way to it.
pub(super) const ON_THE_WAY: usize = 4;
/// A stamp that is so far from the arrival is no stamp of this picture.
const FAR_NS: i64 = 1_000_000_000;
/// A camera that gives nothing for so many of its periods is told of.
const STUCK_PERIODS: u32 = 30;
/// Bound on the error of a stamp of the host's own clock, and of an arrival.
const UNCERTAINTY_NS: i64 = 1_000_000;

/// Tells when a camera falls silent, and when it gives pictures again.
pub(super) struct Silence {
    watch: CameraWatch,
    is_stuck: bool,
}

impl Silence {
    pub(super) fn new(rate_hz: f64, outlet: &Outlet) -> Self {
        let period_ns = (1e9 / rate_hz) as i64;
        Silence { watch: CameraWatch::new(period_ns, STUCK_PERIODS, outlet.clock().now_ns()), is_stuck: false }
    }

    /// A picture has come.
    pub(super) fn broken(&mut self, now_ns: i64) {
        self.watch.frame(now_ns);
    }

    /// Looks at the clock.
    pub(super) fn look(&mut self, now_ns: i64, outlet: &Outlet) {
        let is_stuck = matches!(self.watch.state(now_ns), CameraState::Stuck { .. });
        if std::mem::replace(&mut self.is_stuck, is_stuck) != is_stuck {
            outlet.tell(if is_stuck { "gives no frames" } else { "gives frames again" });
        }
    }
}

/// A stamp of the host's monotonic clock, on its time line; none if it cannot be true.
pub(super) fn of_monotonic(raw_ns: i64, kind: StampKind, arrival_ns: i64, outlet: &Outlet) -> Option<Stamped> {
    let mapped_ns = outlet.clock().of_monotonic(raw_ns);
    let is_true = raw_ns > 0 && arrival_ns.saturating_sub(mapped_ns).saturating_abs() < FAR_NS;
    let clock = ClockId::HostMonotonic;
    is_true.then_some(Stamped { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns: UNCERTAINTY_NS })
}

/// The arrival in place of a stamp that cannot be true, which is counted, and told once.
pub(super) fn of_arrival(raw_ns: i64, clock: ClockId, arrival_ns: i64, outlet: &mut Outlet) -> Stamped {
    outlet.counts.bad_stamp += 1;
    if outlet.counts.bad_stamp == 1 {
        outlet.tell("its stamps cannot be true: pictures have those of their arrival");
    }
    let (kind, mapped_ns) = (StampKind::Arrival, arrival_ns);
    Stamped { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns: UNCERTAINTY_NS }
}
