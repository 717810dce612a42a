//! The ultrasonic sensor: distance of the nearest thing in a cone, a few metres far.
//!
//! A fan of rays stands for the cone; the ground gives no echo. Promised: an echo is a pure function of the scene, of
//! the random stream and of the stamp. x of the sensor's frame is the direction that it looks in.

use catseye_calibration::rig::Rig;
use nalgebra::Vector3;

use super::imu::{LATENCY_NS, MARGIN_NS, Mounted, described, record_message};
use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::messages::UltrasonicEcho;
use crate::sim::random::Random;
use crate::sim::scene::{Ray, Scene, Target};
use crate::sim::world::{Motion, World};

/// Farthest distance that gives an echo.
const REACH_M: f64 = 5.0;
/// Half the angle of the cone, 30 degrees.
const HALF_CONE_RAD: f64 = std::f64::consts::PI / 6.0;
/// Rays of the fan.
const RAYS: usize = 40;
/// Deviation of a distance.
const NOISE_M: f64 = 0.01;
/// Share of the cone that gives a full echo.
const FULL_SHARE: f32 = 0.25;

/// An ultrasonic sensor.
pub struct UltrasonicSensor {
    mounted: Mounted,
    random: Random,
}

impl UltrasonicSensor {
    /// The ultrasonic sensor of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let mounted = Mounted::of(rig.ultrasonics.get(index)?);
        let random = random.stream(&mounted.name);
        Some(UltrasonicSensor { mounted, random })
    }

    fn echo(&self, scene: &Scene, ego: &Motion, stamp_ns: i64) -> UltrasonicEcho {
        let place = self.mounted.place(ego);
        let angle_rad = 2.0 * HALF_CONE_RAD / (RAYS - 1) as f64;
        let rays: Vec<Ray> = (0..RAYS)
            .map(|number| {
                let azimuth_rad = number as f64 * angle_rad - HALF_CONE_RAD;
                let direction = Vector3::new(libm::cos(azimuth_rad), libm::sin(azimuth_rad), 0.0);
                Ray {
                    origin_m: place.world_from_sensor.translation_m,
                    direction: place.world_from_sensor.rotate(&direction),
                    delay_s: 0.0,
                }
            })
            .collect();
        let mut hits = Vec::new();
        scene.cast(&rays, angle_rad, &mut hits, None);
        let bodies = hits.iter().filter(|hit| matches!(hit.target, Target::Body(..)) && hit.distance_m <= REACH_M);
        let (mut nearest_m, mut count) = (f64::INFINITY, 0_u16);
        for hit in bodies {
            nearest_m = nearest_m.min(hit.distance_m);
            count += 1;
        }
        if count == 0 {
            return UltrasonicEcho { range_m: f32::INFINITY, confidence: 0.0 };
        }
        let range_m = (nearest_m + NOISE_M * self.random.at(stamp_ns as u64).normal(0)).max(0.0);
        let confidence = (f32::from(count) / (FULL_SHARE * RAYS as f32)).min(1.0);
        UltrasonicEcho { range_m: range_m as f32, confidence }
    }
}

impl SimulatedSensor for UltrasonicSensor {
    fn name(&self) -> &str {
        &self.mounted.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_record::<UltrasonicEcho>(&self.mounted.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        self.mounted.stamps(1, 0, duration_ns)
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(MARGIN_NS)
    }

    fn sense(&self, world: &World, _number: u64, stamp_ns: i64) -> Option<Message> {
        let echo = self.echo(&world.scene(stamp_ns), &world.ego(stamp_ns), stamp_ns);
        Some(record_message(&echo, stamp_ns, LATENCY_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::imu::tests::mounted;
    use super::super::lidar::tests::{box_at, scene_with};
    use super::*;

    #[test]
    fn the_nearest_thing_in_the_cone_echoes() {
        let random = Random::new(8);
        let sensor = UltrasonicSensor { mounted: mounted(10.0, [4.0, 0.0, 0.5], 0.0), random };
        let echo = |bodies: &[[f64; 2]]| {
            let scene = scene_with(bodies.iter().map(|place| box_at(1, *place)));
            sensor.echo(&scene, &Motion::default(), 100_000_000)
        };
        // the boxes reach 2 m to the front and back of their middles
        let found = echo(&[[9.0, 0.0], [20.0, 0.0], [2.0, 6.0]]);
        assert!((found.range_m - 3.0).abs() < 0.05 && found.confidence > 0.5, "{found:?}");
        assert_eq!(echo(&[[20.0, 0.0]]), UltrasonicEcho { range_m: f32::INFINITY, confidence: 0.0 });
    }
}
