//! Inertial units: signals on a CAN bus, the unit inside an Ouster lidar over UDP, or that inside a u-blox receiver on a serial port or
//! by TCP.
//!
//! The source is `can:BUS` with the table `signals`, the address that the lidar sends its unit's packets to, `udp://0.0.0.0:7503`, or
//! the receiver's port, `serial:///dev/ttyACM1?baud=921600`, `tcp://192.168.0.5:2000`. A quantity for which there is no signal, or
//! that a receiver did not send, is no number, which nobody takes for a value.
//!
//! A u-blox receiver has to be set to send UBX-ESF-RAW (or UBX-ESF-MEAS, which is slower), on a port of its own: a port has one
//! reader, so that a `gnss` of the same rig needs another of the receiver's. Its samples are mapped to the host's time line by when
//! they arrive, so they are late by the least time that the receiver takes to send them, which nothing on the host can tell.

use catseye_calibration::rig::{ImuQuantity, Rig, Sensor, Source, Udp};
use catseye_sensors::can::socket::CanStamps;
use catseye_sensors::gnss::esf::{EsfDecoder, EsfSummary, InertialSample};
use catseye_sensors::lidar::ouster::OusterImu;
use catseye_sensors::packet::{ClockId, StampKind};

use super::signals::OnBus;
use super::stream::{Heard, follow};
use super::udp::listen;
use super::{Driver, LiveError, Measurement, Outlet, Stamped};
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
        Source::Serial { .. } | Source::Tcp(_) => Box::new(ReceiverUnit { source: source.clone() }),
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

/// The channel of a unit that stamps its samples itself.
fn channel_of(topic: &str) -> Channel {
    let mut channel = Channel::of_record::<ImuSample>(topic);
    StampInfo { clock: ClockId::Sensor, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 }.describe(&mut channel);
    channel
}

impl Driver for OusterUnit {
    fn channel(&self, topic: &str) -> Channel {
        channel_of(topic)
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

/// Samples that come at once lie within so much time, unless the unit's clock has stepped.
const MOST_AT_ONCE_NS: i64 = 1_000_000_000;
/// So many messages, or bytes of noise, without a sample tell that the receiver is not set to send any.
const IN_VAIN: u64 = 1000;

struct ReceiverUnit {
    source: Source,
}

impl Driver for ReceiverUnit {
    fn channel(&self, topic: &str) -> Channel {
        channel_of(topic)
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut unit = UnitOnStream::default();
        follow(&self.source, outlet, opened, &mut |heard, outlet| unit.hear(heard, outlet));
    }
}

/// What is known of a receiver's unit from byte to byte.
#[derive(Default)]
struct UnitOnStream {
    decoder: EsfDecoder,
    samples: Vec<InertialSample>,
    is_told: bool,
}

impl UnitOnStream {
    fn hear(&mut self, heard: Heard<'_>, outlet: &mut Outlet) {
        match heard {
            Heard::Bytes(bytes) => self.decoder.push(bytes, &mut self.samples),
            // the unit's clock goes on, and half a message from before costs its own bytes alone
            Heard::Silence | Heard::Again => self.decoder.flush(&mut self.samples),
        }
        self.send(outlet);
        let EsfSummary { frames, samples, partial, malformed, .. } = self.decoder.summary();
        outlet.counts.refused = frames.ubx_checksum + frames.ubx_too_long + malformed;
        let words = if samples == 0 && frames.ubx + frames.nmea > IN_VAIN {
            "it sends neither UBX-ESF-RAW nor UBX-ESF-MEAS: is it set to, on this port?"
        } else if frames.ubx + frames.nmea == 0 && frames.noise_bytes > IN_VAIN {
            "what it sends is neither NMEA nor UBX: is the baud rate right?"
        } else if partial > 0 {
            "some samples come without some of their axes, which are no numbers then"
        } else {
            return;
        };
        if !std::mem::replace(&mut self.is_told, true) {
            outlet.tell(words);
        }
    }

    /// Of samples that come at once the newest has waited least: it is mapped, and the others lie before it by the unit's clock.
    fn send(&mut self, outlet: &mut Outlet) {
        let Some(newest_ns) = self.samples.last().map(|newest| newest.stamp_ns) else { return };
        let arrival_ns = outlet.clock().now_ns();
        let newest = outlet.map(newest_ns, ClockId::Sensor, StampKind::ExposureMiddle, arrival_ns);
        for InertialSample { stamp_ns, angular_velocity_radps, acceleration_mps2 } in self.samples.drain(..) {
            let before_ns = newest_ns.saturating_sub(stamp_ns);
            match newest.filter(|_| (0..MOST_AT_ONCE_NS).contains(&before_ns)) {
                None => outlet.counts.bad_stamp += u64::from(before_ns != 0),
                Some(newest) => {
                    let sample = ImuSample { angular_velocity_radps, acceleration_mps2 };
                    let stamped = Stamped { raw_ns: stamp_ns, mapped_ns: newest.mapped_ns - before_ns, ..newest };
                    outlet.send(&Measurement::Imu(sample), stamped);
                }
            }
        }
    }
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
