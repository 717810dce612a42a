//! The satellite receiver: the antenna's place in the world as latitude and longitude, and its velocity.
//!
//! The world's x points east and y north from a fixed origin. Errors are those of a receiver without corrections: a bias
//! that wanders slowly (orbits, clocks, the atmosphere) and white noise. Promised: a fix is a pure function of the
//! motion, of the random stream and of the stamp.

use std::f64::consts::TAU;

use catseye_calibration::rig::Rig;
use foxglove::messages::{LocationFix, Vector3};

use super::imu::{LATENCY_NS, MARGIN_NS, Mounted, described, foxglove_message};
use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::log::packet::timestamp;
use crate::sim::EPOCH_NS;
use crate::sim::random::Random;
use crate::sim::world::{Motion, World};

/// Where the world's origin is.
const ORIGIN_DEG: [f64; 2] = [48.0, 11.5];
/// Height of the world's ground above the ellipsoid.
const GROUND_M: f64 = 520.0;

/// Semi-major axis and squared first eccentricity of WGS 84 (NIMA TR8350.2, tables 3.1 and 3.3).
const SEMI_MAJOR_M: f64 = 6_378_137.0;
const ECCENTRICITY_SQUARED: f64 = 6.694_379_990_14e-3;

/// Root mean square of the wandering bias, per axis; height is twice as bad.
const BIAS_M: f64 = 0.8;
/// Waves that a bias is the sum of.
const WAVES: u64 = 3;
/// Deviation of the white noise.
const NOISE_M: f64 = 0.3;
/// Deviation of the noise of a velocity.
const VELOCITY_NOISE_MPS: f64 = 0.05;

/// A satellite receiver.
pub struct GnssSensor {
    mounted: Mounted,
    random: Random,
}

/// Metres per degree of latitude and of longitude at a latitude: radii of curvature in the meridian and in the prime
/// vertical (Torge and Müller, Geodesy, 2012, section 4.1.3).
fn metres_per_degree(latitude_deg: f64) -> [f64; 2] {
    let latitude_rad = latitude_deg.to_radians();
    let sine = libm::sin(latitude_rad);
    let flatness = 1.0 - ECCENTRICITY_SQUARED * sine * sine;
    let prime_vertical_m = SEMI_MAJOR_M / flatness.sqrt();
    let meridian_m = prime_vertical_m * (1.0 - ECCENTRICITY_SQUARED) / flatness;
    [meridian_m * (TAU / 360.0), prime_vertical_m * libm::cos(latitude_rad) * (TAU / 360.0)]
}

impl GnssSensor {
    /// The receiver of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let mounted = Mounted::of(rig.gnss.get(index)?);
        let random = random.stream(&mounted.name);
        Some(GnssSensor { mounted, random })
    }

    /// The bias of an axis at an instant: slow waves, each with a random phase and a period of one to ten minutes.
    fn bias_m(&self, axis: u64, stamp_ns: i64) -> f64 {
        let chance = self.random.stream("bias").at(axis);
        let wave = |number: u64| {
            let turns = stamp_ns as f64 / 1e9 / chance.between(2 * number, 60.0, 600.0) + chance.unit(2 * number + 1);
            libm::sin(TAU * turns)
        };
        // a sine of amplitude 1 has a mean square of one half
        BIAS_M * (2.0 / WAVES as f64).sqrt() * (0..WAVES).map(wave).sum::<f64>()
    }

    fn fix(&self, ego: &Motion, stamp_ns: i64) -> LocationFix {
        let place = self.mounted.place(ego);
        let noise = self.random.at(stamp_ns as u64);
        let error_m = |axis: u64| self.bias_m(axis, stamp_ns) + NOISE_M * noise.normal(axis);
        let antenna_m = place.world_from_sensor.translation_m;
        let [latitude_deg, longitude_deg] = ORIGIN_DEG;
        let [north_m, east_m] = metres_per_degree(latitude_deg);
        let [x_mps, y_mps] = [place.velocity_mps.x, place.velocity_mps.y];
        LocationFix {
            timestamp: timestamp(EPOCH_NS.saturating_add(stamp_ns)),
            frame_id: self.mounted.name.clone(),
            latitude: latitude_deg + (antenna_m.y + error_m(1)) / north_m,
            longitude: longitude_deg + (antenna_m.x + error_m(0)) / east_m,
            altitude: GROUND_M + antenna_m.z + 2.0 * error_m(2),
            velocity: Some(Vector3 {
                x: x_mps + VELOCITY_NOISE_MPS * noise.normal(3),
                y: y_mps + VELOCITY_NOISE_MPS * noise.normal(4),
                z: VELOCITY_NOISE_MPS * noise.normal(5),
            }),
            ..LocationFix::default()
        }
    }
}

impl SimulatedSensor for GnssSensor {
    fn name(&self) -> &str {
        &self.mounted.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_foxglove::<LocationFix>(&self.mounted.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        self.mounted.stamps(1, 0, duration_ns)
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(MARGIN_NS)
    }

    fn sense(&self, world: &World, _number: u64, stamp_ns: i64) -> Option<Message> {
        Some(foxglove_message(&self.fix(&world.ego(stamp_ns), stamp_ns), stamp_ns, LATENCY_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::imu::tests::mounted;
    use super::*;

    #[test]
    fn a_degree_is_as_long_as_the_tables_say() {
        // National Geospatial-Intelligence Agency, length of a degree: 45 degrees north
        let [north_m, east_m] = metres_per_degree(45.0);
        assert!((north_m - 111_132.0).abs() < 1.0 && (east_m - 78_847.0).abs() < 1.0, "{north_m} {east_m}");
    }

    #[test]
    fn a_fix_follows_the_antenna() {
        let sensor = GnssSensor { mounted: mounted(10.0, [1.0, 0.0, 1.5], 0.0), random: Random::new(5) };
        let ego = Motion { pose: [1000.0, 2000.0, 0.0], velocity_mps: [3.0, -4.0], ..Motion::default() };
        let fix = sensor.fix(&ego, 100_000_000);
        let [north_m, east_m] = metres_per_degree(48.0);
        let (x_m, y_m) = ((fix.longitude - 11.5) * east_m, (fix.latitude - 48.0) * north_m);
        assert!((x_m - 1001.0).abs() < 5.0 && (y_m - 2000.0).abs() < 5.0, "{x_m} {y_m}");
        let velocity = fix.velocity.unwrap();
        assert!((velocity.x - 3.0).abs() < 0.4 && (velocity.y + 4.0).abs() < 0.4, "{velocity:?}");
        // the bias wanders, it does not jump
        assert!((sensor.bias_m(0, 0) - sensor.bias_m(0, 1_000_000_000)).abs() < 0.25);
    }
}
