//! How a sensor's stamps lie against the host's time line: what `catseye time` shows.
//!
//! A sensor with a clock of its own is mapped by its driver, whose estimate is told; stamps of the host's clocks are looked at
//! here, and only where somebody asked for it.

use catseye_sensors::clock::{ClockMapper, ClockReport, ClockSettings};
use catseye_sensors::packet::{ClockId, StampKind};

use super::Stamped;

/// A stamp that is so far from the arrival is none of this measurement.
const FAR_NS: i64 = 1_000_000_000;

/// How a sensor's stamps lie against the host's time line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SensorTiming {
    /// The clock of its stamps.
    pub clock: ClockId,
    /// The instant that they name.
    pub kind: StampKind,
    /// Offset, drift and jitter of that clock; none without a stamp that can be true.
    pub report: Option<ClockReport>,
    /// From the measurement, as mapped, to its arrival: in the mean, and at most.
    pub latency_ns: [i64; 2],
}

/// A mapper of one sensor's stamps.
pub(super) fn mapper() -> ClockMapper {
    ClockMapper::new(ClockSettings { far_ns: FAR_NS, ..ClockSettings::default() })
}

/// Adds up what [`SensorTiming`] tells.
pub(super) struct Watch {
    mapper: ClockMapper,
    last: Option<(ClockId, StampKind)>,
    count: i64,
    sum_ns: i64,
    most_ns: i64,
}

impl Watch {
    pub(super) fn new() -> Self {
        Watch { mapper: mapper(), last: None, count: 0, sum_ns: 0, most_ns: i64::MIN }
    }

    /// Takes a measurement's stamp; `is_mapped` if the driver has mapped it from the sensor's own clock.
    pub(super) fn observe(&mut self, stamped: &Stamped, is_mapped: bool) {
        if !is_mapped {
            // what is refused is counted in the report
            let _ = self.mapper.observe(stamped.raw_ns, stamped.arrival_ns);
        }
        let latency_ns = stamped.arrival_ns.saturating_sub(stamped.mapped_ns);
        self.last = Some((stamped.clock, stamped.kind));
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(latency_ns);
        self.most_ns = self.most_ns.max(latency_ns);
    }

    /// None where nothing was measured. `own` is the driver's estimate of the sensor's own clock.
    pub(super) fn timing(&self, own: Option<ClockReport>) -> Option<SensorTiming> {
        let (clock, kind) = self.last?;
        let mean_ns = self.sum_ns.checked_div(self.count).unwrap_or(0);
        let report = own.or_else(|| self.mapper.report());
        Some(SensorTiming { clock, kind, report, latency_ns: [mean_ns, self.most_ns] })
    }
}
