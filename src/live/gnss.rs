//! Satellite receivers that speak NMEA 0183 or UBX: on a serial port, by TCP or by UDP.
//!
//! An epoch of the receiver becomes one fix. Its stamp is the receiver's UTC, mapped to the host's time line by when the first
//! bytes of each epoch arrive; so it is late by the least time that the receiver takes to compute and send, some 50 to 200 ms,
//! which nothing on the host can tell. Until the receiver knows date and time a fix has the stamp of its arrival. A fix without a
//! position is none, and is counted. A receiver that sends both protocols says the same twice: its UBX is taken.

use catseye_calibration::rig::Source;
use catseye_sensors::gnss::{GnssDecoder, GnssEvent, GnssFix, GnssSummary, Protocol};
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::messages::location_fix::PositionCovarianceType;
use foxglove::messages::{LocationFix, Vector3};

use super::stream::{Heard, follow};
use super::{Driver, Measurement, Outlet, Stamped};
use crate::log::Channel;
use crate::log::packet::StampInfo;

/// So many bytes of which none are a sentence or a message are sent at another rate than they are read.
const NOISE_BYTES: u64 = 1000;

/// The driver of a rig's receiver.
pub fn driver(source: &Source) -> Box<dyn Driver> {
    Box::new(GnssDriver { source: source.clone() })
}

struct GnssDriver {
    source: Source,
}

impl Driver for GnssDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_foxglove::<LocationFix>(topic);
        StampInfo { clock: ClockId::Gnss, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut receiver = Receiver::default();
        follow(&self.source, outlet, opened, &mut |heard, outlet| receiver.hear(heard, outlet));
    }
}

/// What is known of a receiver from byte to byte.
#[derive(Default)]
struct Receiver {
    decoder: GnssDecoder,
    events: Vec<GnssEvent>,
    /// What decoders before this one refused.
    refused_before: u64,
    /// When the first bytes of the epoch at hand arrived.
    began_ns: Option<i64>,
    speaks_ubx: bool,
    has_position: Option<bool>,
    is_noise_told: bool,
}

impl Receiver {
    fn hear(&mut self, heard: Heard<'_>, outlet: &mut Outlet) {
        let now_ns = outlet.clock().now_ns();
        match heard {
            Heard::Silence => {
                self.decoder.flush(&mut self.events);
                let began_ns = self.began_ns.take();
                self.send(began_ns.unwrap_or(now_ns), outlet);
            }
            Heard::Bytes(bytes) => {
                self.decoder.push(bytes, &mut self.events);
                let began_ns = *self.began_ns.get_or_insert(now_ns);
                if !self.events.is_empty() {
                    // what ends an epoch is the beginning of the next, or its own last message: then the line falls silent
                    self.began_ns = Some(now_ns);
                    self.send(began_ns, outlet);
                }
                self.count(outlet);
            }
            Heard::Again => {
                self.refused_before = outlet.counts.refused;
                self.decoder = GnssDecoder::default();
                self.events.clear();
                self.began_ns = None;
            }
        }
    }

    fn count(&mut self, outlet: &mut Outlet) {
        let GnssSummary { frames, nmea_malformed, ubx_malformed, .. } = self.decoder.summary();
        let broken = frames.nmea_checksum + frames.nmea_broken + frames.ubx_checksum + frames.ubx_too_long;
        outlet.counts.refused = self.refused_before + broken + nmea_malformed + ubx_malformed;
        let is_noise = frames.nmea + frames.ubx == 0 && frames.noise_bytes > NOISE_BYTES;
        if is_noise && !std::mem::replace(&mut self.is_noise_told, true) {
            outlet.tell("what it sends is neither NMEA nor UBX: is the baud rate right?");
        }
    }

    fn send(&mut self, began_ns: i64, outlet: &mut Outlet) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if let GnssEvent::Fix(fix) = event {
                self.speaks_ubx |= fix.protocol == Protocol::Ubx;
                if fix.protocol == Protocol::Ubx || !self.speaks_ubx {
                    self.take(&fix, began_ns, outlet);
                }
            }
        }
        self.events = events;
    }

    fn take(&mut self, fix: &GnssFix, began_ns: i64, outlet: &mut Outlet) {
        let location = location_of(fix);
        if self.has_position.replace(location.is_some()).is_some_and(|before| before != location.is_some()) {
            outlet.tell(if location.is_some() { "has a position again" } else { "has lost its position" });
        }
        let Some(location) = location else {
            outlet.counts.damaged += 1;
            return;
        };
        let arrival_ns = outlet.clock().now_ns();
        let stamped = match fix.utc_ns {
            None => Stamped {
                raw_ns: began_ns,
                clock: ClockId::HostMonotonic,
                kind: StampKind::Arrival,
                arrival_ns,
                mapped_ns: began_ns,
                uncertainty_ns: 0,
            },
            Some(utc_ns) => {
                let mapped = outlet.map(utc_ns, ClockId::Gnss, StampKind::ExposureMiddle, began_ns);
                let Some(stamped) = mapped else { return };
                Stamped { arrival_ns, ..stamped }
            }
        };
        outlet.send(&Measurement::Fix(location), stamped);
    }
}

/// A fix as recordings hold it; none without a position. A height that the receiver does not tell is no number.
fn location_of(fix: &GnssFix) -> Option<LocationFix> {
    let (latitude, longitude) = (fix.lat_deg?, fix.lon_deg?);
    let by_course = || {
        // receivers give no course at walking speed, and what speed there is has a length even so
        let (speed_mps, course_rad) = (fix.speed_mps?, fix.course_rad.unwrap_or(0.0));
        Some([speed_mps * libm::cos(course_rad), speed_mps * libm::sin(course_rad), 0.0])
    };
    let velocity =
        fix.velocity_ned_mps.or_else(by_course).map(|[north, east, down]| Vector3 { x: east, y: north, z: -down });
    // a radius says nothing of directions: half of its square goes to each
    let by_radius = fix.horizontal_accuracy_m.map(|radius_m| radius_m * std::f64::consts::FRAC_1_SQRT_2);
    let east_m = fix.lon_deviation_m.or(by_radius);
    let north_m = fix.lat_deviation_m.or(by_radius);
    let covariance = east_m.zip(north_m).zip(fix.height_deviation_m);
    let (position_covariance, kind) = match covariance {
        None => (Vec::new(), PositionCovarianceType::Unknown),
        Some(((east_m, north_m), up_m)) => {
            let [east, north, up] = [east_m, north_m, up_m].map(|deviation_m| deviation_m * deviation_m);
            (vec![east, 0.0, 0.0, 0.0, north, 0.0, 0.0, 0.0, up], PositionCovarianceType::Approximated)
        }
    };
    Some(LocationFix {
        latitude,
        longitude,
        altitude: fix.ellipsoid_height_m.unwrap_or(f64::NAN),
        velocity,
        position_covariance,
        position_covariance_type: kind.into(),
        ..LocationFix::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an epoch of sentences without their checksums is as a fix, and as a location.
    fn epoch(bodies: &[&str]) -> (GnssFix, Option<LocationFix>) {
        let (mut decoder, mut events) = (GnssDecoder::default(), Vec::new());
        for body in bodies {
            let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
            decoder.push(format!("${body}*{sum:02X}\r\n").as_bytes(), &mut events);
        }
        decoder.flush(&mut events);
        let [GnssEvent::Fix(fix)] = events.as_slice() else { panic!("{events:?}") };
        (*fix, location_of(fix))
    }

    #[test]
    fn an_epoch_becomes_a_location_with_its_velocity() {
        let (_, found) = epoch(&[
            "GPGGA,101530.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
            "GPRMC,101530.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,,",
        ]);
        let fix = found.unwrap();
        assert!((fix.latitude - 48.1173).abs() < 1e-6 && (fix.longitude - 11.516_667).abs() < 1e-6);
        assert!((fix.altitude - 592.3).abs() < 1e-9, "{fix:?}");
        let velocity = fix.velocity.as_ref().unwrap();
        // 22.4 knots to the east-northeast
        assert!((velocity.x - 11.469).abs() < 1e-3 && (velocity.y - 1.124).abs() < 1e-3, "{velocity:?}");
    }

    #[test]
    fn what_is_no_position_is_no_location() {
        let (fix, location) = epoch(&["GPRMC,101530.00,V,,,,,,,230394,,,N"]);
        assert!(fix.utc_ns.is_some() && location.is_none(), "{fix:?}");
    }
}
