//! How the vehicle itself moves: speed and yaw rate out of CAN frames, inertial samples and positions.
//!
//! Which CAN signals say what is in the rig. A better source silences a worse one for as long as it speaks:
//! the bus before the satellites for speed, the bus before the inertial unit for yaw rate.

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Can, CanQuantity, CanSignal, Rig, SensorKind};
use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::{Dbc, SignalRef};
use nalgebra::Vector3;

use super::{KIND_SPEED, KIND_YAW_RATE};
use crate::log::packet::{Content, SensorPacket};

/// Priority of what the bus says.
pub const PRIORITY_CAN: u8 = 2;
/// Priority of what inertial units and receivers say.
pub const PRIORITY_OTHER: u8 = 1;

struct Quantity {
    kind: u8,
    /// Signals whose mean is the value; all must be in one message.
    signals: Vec<(SignalRef, f64, f64)>,
}

struct Bus {
    sensor: u16,
    dbc: Dbc,
    quantities: Vec<Quantity>,
}

/// Reads packets for speed and yaw rate.
pub struct EgoReader {
    buses: Vec<Bus>,
    imus: Vec<(u16, Pose)>,
}

impl EgoReader {
    /// For a rig and one table per bus.
    pub fn new(rig: &Rig, dbc: Vec<Dbc>) -> Self {
        let ids = |kind: SensorKind| rig.sensors().filter(move |sensor| sensor.kind == kind).map(|sensor| sensor.id);
        let buses =
            ids(SensorKind::Can).zip(rig.cans.iter().zip(dbc)).map(|(sensor, (can, dbc))| bus(sensor, can, dbc));
        let imus =
            ids(SensorKind::Imu).zip(&rig.imus).map(|(sensor, imu)| (sensor, imu.mounting.vehicle_from_sensor()));
        EgoReader { buses: buses.collect(), imus: imus.collect() }
    }

    /// Calls `found` with kind, value and priority of everything in a packet.
    pub fn read(&self, packet: &SensorPacket, found: &mut impl FnMut(u8, f64, u8)) {
        let sensor = packet.header.sensor.0;
        match &packet.content {
            Content::Can(frame) => {
                let Some(bus) = self.buses.iter().find(|bus| bus.sensor == sensor) else { return };
                for quantity in &bus.quantities {
                    if let Some(value) = mean(bus, quantity, frame) {
                        found(quantity.kind, value, PRIORITY_CAN);
                    }
                }
            }
            Content::Imu(sample) => {
                let Some((_, mounting)) = self.imus.iter().find(|imu| imu.0 == sensor) else { return };
                let rate = mounting.rotate(&Vector3::from(sample.angular_velocity_radps));
                if rate.z.is_finite() {
                    found(KIND_YAW_RATE, rate.z, PRIORITY_OTHER);
                }
            }
            Content::Gnss(fix) => {
                if let Some(speed) = fix.speed_mps.filter(|speed| speed.is_finite()) {
                    found(KIND_SPEED, speed, PRIORITY_OTHER);
                }
            }
            _ => {}
        }
    }
}

fn bus(sensor: u16, can: &Can, dbc: Dbc) -> Bus {
    let resolve = |signals: &Vec<CanSignal>| -> Vec<(SignalRef, f64, f64)> {
        signals.iter().filter_map(|s| Some((dbc.signal(&s.signal)?, s.scale, s.offset))).collect()
    };
    let quantity = |kind: u8, quantity: CanQuantity| {
        let signals = can.signals.get(&quantity).map(resolve).unwrap_or_default();
        (!signals.is_empty()).then_some(Quantity { kind, signals })
    };
    let quantities = [quantity(KIND_SPEED, CanQuantity::Speed), quantity(KIND_YAW_RATE, CanQuantity::YawRate)];
    let quantities = quantities.into_iter().flatten().collect();
    Bus { sensor, dbc, quantities }
}

fn mean(bus: &Bus, quantity: &Quantity, frame: &CanFrame) -> Option<f64> {
    let mut sum = 0.0;
    for (signal, scale, offset) in &quantity.signals {
        sum += bus.dbc.decode(*signal, frame)? * scale + offset;
    }
    let value = sum / quantity.signals.len() as f64;
    value.is_finite().then_some(value)
}
