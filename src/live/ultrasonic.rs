//! Ultrasonic sensors: a distance on a CAN bus becomes an echo.
//!
//! The source is `can:BUS` with the table `signals`: `range_m`, perhaps `confidence`, and from which distance on there was no
//! echo, since what a bus says then differs from car to car.

use catseye_calibration::rig::{Rig, Sensor, Source, UltrasonicSignals};
use catseye_sensors::can::socket::CanStamps;
use catseye_sensors::packet::StampKind;

use super::signals::OnBus;
use super::{Driver, LiveError, Measurement, Outlet};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::messages::UltrasonicEcho;
use crate::pipeline::Files;

/// The driver of a rig's ultrasonic sensor; `None` for a source that none has.
///
/// # Errors
/// [`LiveError::File`] for signals that the bus does not have.
pub fn driver(
    sensor: &Sensor,
    source: &Source,
    rig: &Rig,
    files: &Files,
) -> Result<Option<Box<dyn Driver>>, LiveError> {
    let Source::UltrasonicSignals { bus, signals } = source else { return Ok(None) };
    let UltrasonicSignals { range_m, confidence, no_echo_from_m } = signals;
    let confidence = confidence.as_ref().map(|signal| ("confidence", signal));
    let keyed: Vec<_> = [("range_m", range_m)].into_iter().chain(confidence).collect();
    let bus = OnBus::new(&sensor.name, sensor.rate_hz, bus, &keyed, (rig, files))?;
    Ok(Some(Box::new(SonarOnBus { bus, has_confidence: confidence.is_some(), no_echo_from_m: *no_echo_from_m })))
}

struct SonarOnBus {
    bus: OnBus,
    has_confidence: bool,
    no_echo_from_m: Option<f64>,
}

impl Driver for SonarOnBus {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_record::<UltrasonicEcho>(topic);
        StampInfo { clock: CanStamps::KERNEL_CLOCK, kind: StampKind::Arrival, uncertainty_ns: 0 }
            .describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let (has_confidence, no_echo_from_m) = (self.has_confidence, self.no_echo_from_m);
        self.bus.run(outlet, opened, &mut |outlet, [range_m, confidence, ..], stamped| {
            let confidence = has_confidence.then_some(confidence);
            outlet.send(&Measurement::Echo(echo(range_m, confidence, no_echo_from_m)), stamped);
        });
    }
}

fn echo(range_m: f64, confidence: Option<f64>, no_echo_from_m: Option<f64>) -> UltrasonicEcho {
    if no_echo_from_m.is_some_and(|from_m| range_m >= from_m) {
        return UltrasonicEcho { range_m: f32::INFINITY, confidence: 0.0 };
    }
    UltrasonicEcho { range_m: range_m as f32, confidence: confidence.unwrap_or(1.0).clamp(0.0, 1.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_away_is_no_echo() {
        let none = UltrasonicEcho { range_m: f32::INFINITY, confidence: 0.0 };
        assert_eq!(echo(5.1, Some(1.0), Some(5.1)), none);
        assert_eq!(echo(5.0, Some(1.5), Some(5.1)), UltrasonicEcho { range_m: 5.0, confidence: 1.0 });
        assert_eq!(echo(9.0, None, None), UltrasonicEcho { range_m: 9.0, confidence: 1.0 });
    }
}
