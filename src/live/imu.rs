//! Inertial units: signals on a CAN bus, or the unit inside an Ouster lidar over UDP.
//!
//! The source is `can:BUS` with the table `signals`, or the address that the lidar sends its unit's packets to,
//! `udp://0.0.0.0:7503`. A quantity for which there is no signal is no number, which nobody takes for a value. Units on a serial
//! line have no source here: the reader of UBX does not know the messages of the class ESF.

use catseye_calibration::rig::{ImuQuantity, Rig, Sensor, Source, Udp};
use catseye_sensors::can::socket::CanStamps;
use catseye_sensors::lidar::ouster::OusterImu;
use catseye_sensors::packet::{ClockId, StampKind};

use super::signals::OnBus;
use super::udp::listen;
use super::{Driver, LiveError, Measurement, Outlet};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::messages::ImuSample;
use crate::pipeline::Files;

/// The driver of a rig's inertial unit; `None` for a source that none has.
///
/// # Errors
/// [`LiveError::File`] for signals that the bus does not have.
pub fn driver(imu: &Sensor, source: &Source, rig: &Rig, files: &Files) -> Result<Option<Box<dyn Driver>>, LiveError> {
    Ok(Some(match source {
        Source::Udp(place) => Box::new(OusterUnit { place: place.clone() }),
        Source::ImuSignals { bus, signals } => {
            let keyed: Vec<_> = signals.iter().map(|(quantity, signal)| (quantity.name(), signal)).collect();
            let bus = OnBus::new(&imu.name, imu.rate_hz, bus, &keyed, (rig, files))?;
            Box::new(UnitOnBus { bus, quantities: signals.keys().copied().collect() })
        }
        _ => return Ok(None),
    }))
}

struct UnitOnBus {
    bus: OnBus,
    /// What the signals are, in their order.
    quantities: Vec<ImuQuantity>,
}

impl Driver for UnitOnBus {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_record::<ImuSample>(topic);
        StampInfo { clock: CanStamps::KERNEL_CLOCK, kind: StampKind::Arrival, uncertainty_ns: 0 }
            .describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let quantities = &self.quantities;
        self.bus.run(outlet, opened, &mut |outlet, values, stamped| {
            outlet.send(&Measurement::Imu(sample(quantities, &values)), stamped);
        });
    }
}

fn sample(quantities: &[ImuQuantity], values: &[f64]) -> ImuSample {
    let of = |wanted: ImuQuantity| {
        let found = quantities.iter().zip(values).find(|(quantity, _)| **quantity == wanted);
        found.map_or(f64::NAN, |(_, value)| *value)
    };
    let [x_radps, y_radps, z_radps, x_mps2, y_mps2, z_mps2] = ImuQuantity::ALL.map(of);
    ImuSample { angular_velocity_radps: [x_radps, y_radps, z_radps], acceleration_mps2: [x_mps2, y_mps2, z_mps2] }
}

struct OusterUnit {
    place: Udp,
}

impl Driver for OusterUnit {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_record::<ImuSample>(topic);
        StampInfo { clock: ClockId::Sensor, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        listen(&self.place, outlet, opened, &mut |outlet, packet, arrival_ns| match OusterImu::decode(packet) {
            Ok(imu) => take(&imu, arrival_ns, outlet),
            Err(_) => outlet.counts.refused += 1,
        });
    }
}

fn take(imu: &OusterImu, arrival_ns: i64, outlet: &mut Outlet) {
    // rates and forces are measured within a millisecond of each other
    let raw_ns = i64::try_from(imu.angular_velocity_stamp_ns).unwrap_or(i64::MAX);
    let Some(stamped) = outlet.map(raw_ns, ClockId::Sensor, StampKind::ExposureMiddle, arrival_ns) else { return };
    let sample =
        ImuSample { angular_velocity_radps: imu.angular_velocity_radps, acceleration_mps2: imu.acceleration_mps2 };
    outlet.send(&Measurement::Imu(sample), stamped);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_signal_is_no_number() {
        let found = sample(&[ImuQuantity::AngularVelocityZ, ImuQuantity::AccelerationX], &[0.25, -1.5, 0.0]);
        let [x_radps, y_radps, z_radps] = found.angular_velocity_radps;
        let [x_mps2, y_mps2, z_mps2] = found.acceleration_mps2;
        assert_eq!((z_radps, x_mps2), (0.25, -1.5));
        assert!([x_radps, y_radps, y_mps2, z_mps2].iter().all(|value| value.is_nan()), "{found:?}");
    }
}
