//! Continental's ARS548 radar over UDP: one of its two lists becomes the radar's messages.
//!
//! The source is the group that the radars of a car send to, `udp://224.0.2.2:42102?from=10.13.1.113`. Its detections become
//! [`RadarReturns`], which are in the sensor's frame as they come; its objects (`list=objects`) become a [`RadarScan`]: they come
//! in the vehicle's frame that the radar is configured with, which has to be the rig's, and are moved into the sensor's by the
//! rig's mounting. Promised: what has no room, or no value, is counted, and nothing is allocated per packet but the message.

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{RadarList, Sensor, Udp};
use catseye_sensors::ars548::{
    Ars548Detection, Ars548Kind, Ars548Measurement, Ars548Object, Ars548Status, Ars548Sync, read_detections,
    read_objects, read_status,
};
use catseye_sensors::packet::{ClockId, StampKind};
use nalgebra::Vector3;

use super::udp::listen;
use super::{Driver, Measurement, Outlet};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::messages::{MAX_RADAR_RETURNS, RadarReturn, RadarReturns, RadarScan, RadarTarget};

/// The start of a message that tells of the radar's filter settings (service 0, method 396), which nobody here needs.
const FILTER_STATUS: [u8; 4] = [0, 0, 0x01, 0x8C];
/// Bits of a detection's invalid flags: range, azimuth, range rate.
const INVALID_RETURN: u8 = 0b0100_0101;

/// The driver of a rig's radar.
pub fn driver(radar: &Sensor, udp: &Udp, list: RadarList) -> Box<dyn Driver> {
    let sensor_from_vehicle = radar.mounting.vehicle_from_sensor().inverse();
    Box::new(RadarDriver { place: udp.clone(), list, sensor_from_vehicle })
}

struct RadarDriver {
    place: Udp,
    list: RadarList,
    sensor_from_vehicle: Pose,
}

impl Driver for RadarDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = match self.list {
            RadarList::Detections => Channel::of_record::<RadarReturns>(topic),
            RadarList::Objects => Channel::of_record::<RadarScan>(topic),
        };
        StampInfo { clock: ClockId::Sensor, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut lists = Lists::default();
        listen(
            &self.place,
            outlet,
            opened,
            &mut |outlet, packet, arrival_ns| match (Ars548Kind::of(packet), self.list) {
                (Some(Ars548Kind::Detections), RadarList::Detections) => lists.detections(packet, arrival_ns, outlet),
                (Some(Ars548Kind::Objects), RadarList::Objects) => {
                    lists.objects(packet, arrival_ns, &self.sensor_from_vehicle, outlet);
                }
                (Some(Ars548Kind::Status), _) => lists.status(packet, outlet),
                (Some(_), _) => {}
                (None, _) if packet.starts_with(&FILTER_STATUS) => {}
                (None, _) => outlet.counts.refused += 1,
            },
        );
    }
}

/// What is kept from packet to packet, so that nothing is allocated anew.
#[derive(Default)]
struct Lists {
    detections: Vec<Ars548Detection>,
    objects: Vec<Ars548Object>,
    state: Option<State>,
}

/// What is told of when it changes.
#[derive(Clone, Copy, PartialEq)]
struct State {
    is_working: bool,
    /// From 0, blind, to 4.
    clearness: u8,
    is_synchronised: bool,
}

impl Lists {
    fn detections(&mut self, packet: &[u8], arrival_ns: i64, outlet: &mut Outlet) {
        let Ok(list) = read_detections(packet, &mut self.detections) else {
            outlet.counts.refused += 1;
            return;
        };
        let (returns, left_out) = returns_of(&mut self.detections);
        outlet.counts.left_out += (left_out + list.dropped_non_finite) as u64;
        if let Some(stamped) = outlet.map(list.stamp_ns, ClockId::Sensor, StampKind::ExposureMiddle, arrival_ns) {
            outlet.send(&Measurement::Returns(&returns), stamped);
        }
    }

    fn objects(&mut self, packet: &[u8], arrival_ns: i64, sensor_from_vehicle: &Pose, outlet: &mut Outlet) {
        let Ok(list) = read_objects(packet, &mut self.objects) else {
            outlet.counts.refused += 1;
            return;
        };
        let (scan, left_out) = scan_of(&self.objects, sensor_from_vehicle);
        outlet.counts.left_out += (left_out + list.dropped_non_finite) as u64;
        if let Some(stamped) = outlet.map(list.stamp_ns, ClockId::Sensor, StampKind::ExposureMiddle, arrival_ns) {
            outlet.send(&Measurement::Targets(&scan), stamped);
        }
    }

    fn status(&mut self, packet: &[u8], outlet: &mut Outlet) {
        let Ok(status) = read_status(packet) else {
            outlet.counts.refused += 1;
            return;
        };
        let state = State::of(&status);
        if self.state.replace(state).unwrap_or(State::GOOD) != state {
            outlet.tell(&state.to_string());
        }
    }
}

impl State {
    const GOOD: State = State { is_working: true, clearness: 4, is_synchronised: true };

    fn of(status: &Ars548Status) -> Self {
        State {
            is_working: status.radar_status == 1,
            clearness: status.blockage_status & 0x0F,
            is_synchronised: status.sync == Ars548Sync::Synchronised,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.is_working { "works" } else { "does not work" })?;
        match self.clearness {
            4.. => {}
            0 => out.write_str(", is blind")?,
            clearness => write!(out, ", is blocked ({clearness} of 4)")?,
        }
        out.write_str(if self.is_synchronised { "" } else { ", keeps its own time" })
    }
}

/// The strongest detections as a message has room for, nearest first, and how many are left out.
fn returns_of(detections: &mut Vec<Ars548Detection>) -> (RadarReturns, usize) {
    let all = detections.len();
    detections.retain(|detection| detection.invalid_flags & INVALID_RETURN == 0);
    let order = |one: &Ars548Detection, other: &Ars548Detection| {
        one.range_m.total_cmp(&other.range_m).then(one.measurement_id.cmp(&other.measurement_id))
    };
    detections.sort_unstable_by(|one, other| other.rcs_dbsm.cmp(&one.rcs_dbsm).then_with(|| order(one, other)));
    detections.truncate(MAX_RADAR_RETURNS);
    detections.sort_unstable_by(order);
    let returns = detections.iter().map(|detection| RadarReturn {
        range_m: detection.range_m,
        azimuth_rad: detection.azimuth_rad,
        range_rate_mps: detection.range_rate_mps,
        rcs_dbsm: f32::from(detection.rcs_dbsm),
    });
    (RadarReturns { returns: returns.collect() }, all - detections.len())
}

/// The objects in the sensor's frame, and how many are left out.
fn scan_of(objects: &[Ars548Object], sensor_from_vehicle: &Pose) -> (RadarScan, usize) {
    let mut scan = RadarScan::default();
    let targets = objects.iter().filter_map(|object| target_of(object, sensor_from_vehicle));
    let taken = targets.take_while(|target| scan.targets.push(*target).is_ok()).count();
    (scan, objects.len() - taken)
}

fn target_of(object: &Ars548Object, sensor_from_vehicle: &Pose) -> Option<RadarTarget> {
    if object.position_invalid_flags != 0 || object.relative_velocity_mps.invalid_flags != 0 {
        return None;
    }
    let at_m = sensor_from_vehicle.transform_point(&Vector3::from(object.position_m.map(f64::from)));
    let velocity = [object.relative_velocity_mps.x, object.relative_velocity_mps.y, 0.0];
    let velocity_mps = sensor_from_vehicle.rotate(&Vector3::from(velocity.map(f64::from)));
    let range_m = at_m.norm();
    // what is at the sensor itself moves in no direction of its sight
    let range_rate_mps = if range_m > 0.0 { at_m.dot(&velocity_mps) / range_m } else { 0.0 };
    Some(RadarTarget {
        // the radar counts up without end; two objects of one scan are never so far apart
        id: (object.id % 65_536) as u16,
        x_m: at_m.x as f32,
        y_m: at_m.y as f32,
        range_rate_mps: range_rate_mps as f32,
        is_new: object.measurement == Ars548Measurement::New,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(range_m: f32, rcs_dbsm: i8) -> Ars548Detection {
        Ars548Detection { range_m, rcs_dbsm, azimuth_rad: 0.1, range_rate_mps: -2.0, ..Ars548Detection::default() }
    }

    #[test]
    fn the_strongest_detections_have_room_and_the_nearest_stand_first() {
        let mut detections: Vec<_> =
            (0..300).map(|number| detection(300.0 - number as f32, (number % 100) as i8)).collect();
        detections[7].invalid_flags = 1;
        detections[8].invalid_flags = 0b1011_1010;
        let (returns, left_out) = returns_of(&mut detections);
        assert_eq!((returns.returns.len(), left_out), (256, 44));
        assert!(returns.returns.is_sorted_by_key(|found| found.range_m));
        // 299 others: of each strength there are three, and 43 of the weakest had no room
        assert!(returns.returns.iter().all(|found| found.rcs_dbsm >= 14.0));
        assert_eq!(
            returns.returns[0],
            RadarReturn { range_m: 1.0, azimuth_rad: 0.1, range_rate_mps: -2.0, rcs_dbsm: 99.0 }
        );
    }

    /// A list of one object: where it is and how it moves, both against the vehicle.
    fn objects(position_m: [f32; 3], velocity_mps: [f32; 2]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(329_u16.to_be_bytes());
        bytes.extend((9_401_u32 - 8).to_be_bytes());
        bytes.resize(9_401, 0);
        bytes[50] = 1;
        bytes[51 + 2..51 + 6].copy_from_slice(&65_543_u32.to_be_bytes());
        // new
        bytes[51 + 8] = 1;
        let [x, y, z] = position_m;
        let [vx, vy] = velocity_mps;
        for (offset, value) in [(13, x), (21, y), (29, z), (90, vx), (98, vy)] {
            bytes[51 + offset..51 + offset + 4].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn objects_are_moved_into_the_sensors_frame() {
        let mut found = Vec::new();
        read_objects(&objects([3.5, 10.0, 0.5], [1.0, -4.0]), &mut found).unwrap();
        // ahead of the rear axle, looking to the left
        let vehicle_from_sensor = Pose::from_xyz_rpy([3.5, 0.0, 0.5], [0.0, 0.0, std::f64::consts::FRAC_PI_2]);
        let (scan, left_out) = scan_of(&found, &vehicle_from_sensor.inverse());
        let [target] = scan.targets.as_slice() else { panic!("{scan:?}") };
        assert_eq!((left_out, target.id, target.is_new), (0, 7, true));
        for (found, expected) in [(target.x_m, 10.0), (target.y_m, 0.0), (target.range_rate_mps, -4.0)] {
            assert!((found - expected).abs() < 1e-5, "{target:?}");
        }
        found[0].position_invalid_flags = 1;
        assert_eq!(scan_of(&found, &vehicle_from_sensor.inverse()).1, 1);
    }

    #[test]
    fn states_are_told_in_words() {
        assert_eq!(State::GOOD.to_string(), "works");
        let bad = State { is_working: false, clearness: 2, is_synchronised: false };
        assert_eq!(bad.to_string(), "does not work, is blocked (2 of 4), keeps its own time");
    }
}
