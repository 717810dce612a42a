//! The radar: returns with distance, direction, Doppler speed and strength, and what else a radar makes up.
//!
//! Rays find which places of each body the radar can see; the radar equation says whether they are detected. Beside
//! them come clutter from what stands beside the road, echoes that went twice to and fro, and false alarms. Promised: a
//! scan is a pure function of the scene, of the ego vehicle's motion, of the random stream and of the stamp.

use std::f64::consts::PI;

use catseye_calibration::rig::Rig;
use nalgebra::Vector3;

use super::imu::{MARGIN_NS, Mounted, Place, described, record_message};
use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::messages::{RadarReturn, RadarReturns};
use crate::sim::random::Random;
use crate::sim::scene::{Body, Ray, Scene, Target};
use crate::sim::world::{Motion, World};

/// How long after its stamp a scan arrives.
const LATENCY_NS: i64 = 30_000_000;
/// Farthest distance that is measured.
const MAX_RANGE_M: f64 = 150.0;
/// Half the field of view, 60 degrees.
const HALF_VIEW_RAD: f64 = PI / 3.0;
/// Deviations of what is measured.
const RANGE_NOISE_M: f64 = 0.1;
const AZIMUTH_NOISE_RAD: f64 = 0.006;
const RATE_NOISE_MPS: f64 = 0.08;
const RCS_NOISE_DB: f64 = 3.0;
/// Signal to noise of one square metre at 100 m.
const SNR_DB: f64 = 15.0;
/// Natural logarithm of the probability of a false alarm in one cell, 1e-6.
const LOG_FALSE_ALARM: f64 = -13.815_510_557_964_274;
/// Height of the places that rays look for.
const LOOK_M: f64 = 0.5;
/// Most returns of one body.
const MAX_SCATTERERS: usize = 3;
/// How often a body returns from another place than its middle.
const SCATTER_SHARE: f64 = 0.5;
/// Rays that look for clutter, and how often one returns.
const CLUTTER_RAYS: usize = 40;
const CLUTTER_SHARE: f64 = 0.3;
/// How often there is a false alarm, and how often an echo of the nearest body that went twice to and fro.
const FALSE_ALARM_SHARE: f64 = 0.5;
const GHOST_SHARE: f64 = 0.1;
/// What the second way costs.
const GHOST_LOSS_DB: f64 = 10.0;

/// A radar.
pub struct RadarSensor {
    mounted: Mounted,
    random: Random,
}

/// A scan in the making: chance is counted, so that every draw is its own.
struct Scan<'a> {
    scene: &'a Scene,
    place: Place,
    chance: Random,
    draws: u64,
    returns: Vec<RadarReturn>,
}

impl RadarSensor {
    /// The radar of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let mounted = Mounted::of(rig.radars.get(index)?);
        let random = random.stream(&mounted.name);
        Some(RadarSensor { mounted, random })
    }

    fn scan(&self, scene: &Scene, ego: &Motion, stamp_ns: i64) -> RadarReturns {
        let place = self.mounted.place(ego);
        let chance = self.random.at(stamp_ns as u64);
        let mut scan = Scan { scene, place, chance, draws: 0, returns: Vec::new() };
        for (index, body) in scene.bodies.iter().enumerate().filter(|(_, body)| body.id != 0) {
            scan.look_at(index, body);
        }
        scan.add_ghost();
        scan.add_clutter();
        scan.add_false_alarm();
        let mut returns = scan.returns;
        returns.sort_by(|a, b| a.range_m.total_cmp(&b.range_m));
        let mut nearest = RadarReturns::default();
        for found in returns {
            if nearest.returns.push(found).is_err() {
                break;
            }
        }
        nearest
    }
}

impl Scan<'_> {
    fn draw(&mut self) -> u64 {
        self.draws += 1;
        self.draws
    }

    fn happens(&mut self, probability: f64) -> bool {
        let index = self.draw();
        self.chance.happens(index, probability)
    }

    fn noise(&mut self, sigma: f64) -> f64 {
        let index = self.draw();
        sigma * self.chance.normal(index)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        let index = self.draw();
        self.chance.between(index, low, high)
    }

    /// Distance and azimuth of a point of the world from the sensor, where it is in view.
    fn polar(&self, point_m: &Vector3<f64>) -> Option<[f64; 2]> {
        let at_m = self.place.world_from_sensor.inverse().transform_point(point_m);
        let (range_m, azimuth_rad) = (at_m.norm(), libm::atan2(at_m.y, at_m.x));
        let is_in_view = range_m > 0.0 && range_m <= MAX_RANGE_M && azimuth_rad.abs() <= HALF_VIEW_RAD;
        is_in_view.then_some([range_m, azimuth_rad])
    }

    /// Returns of one body, from those of its middle and corners that nothing hides.
    fn look_at(&mut self, index: usize, body: &Body) {
        let origin_m = self.place.world_from_sensor.translation_m;
        let [x_m, y_m, _] = body.pose;
        let [min, max] = [body.look.min_m, body.look.max_m];
        let reach_m = Vector3::new(max[0].max(-min[0]), max[1].max(-min[1]), 0.0).norm();
        if Vector3::new(x_m - origin_m.x, y_m - origin_m.y, 0.0).norm() - reach_m > MAX_RANGE_M {
            return;
        }
        let rays: Vec<Ray> = looked_for(body)
            .iter()
            .filter_map(|point_m| {
                let direction = (point_m - origin_m).try_normalize(1e-6)?;
                Some(Ray { origin_m, direction, delay_s: 0.0 })
            })
            .collect();
        let mut hits = Vec::new();
        self.scene.cast(&rays, 0.01, &mut hits, None);
        let mut count = 0;
        for (ray, hit) in rays.iter().zip(&hits) {
            if !matches!(hit.target, Target::Body(found, _) if found == index) || count == MAX_SCATTERERS {
                continue;
            }
            if count > 0 && !self.happens(SCATTER_SHARE) {
                continue;
            }
            count += 1;
            self.add(body, ray, hit.distance_m);
        }
    }

    /// Adds the return of a body from where a ray meets it, if it is detected.
    fn add(&mut self, body: &Body, ray: &Ray, distance_m: f64) {
        let point_m = ray.origin_m + ray.direction * distance_m;
        let Some([range_m, azimuth_rad]) = self.polar(&point_m) else { return };
        let rcs_dbsm = cross_section_dbsm(body, &ray.direction);
        if !self.happens(detection_probability(rcs_dbsm, range_m)) {
            return;
        }
        let rate_mps = (velocity_mps(body, &point_m) - self.place.velocity_mps).dot(&ray.direction);
        let found = RadarReturn {
            range_m: (range_m + self.noise(RANGE_NOISE_M)).max(0.0) as f32,
            azimuth_rad: (azimuth_rad + self.noise(AZIMUTH_NOISE_RAD)) as f32,
            range_rate_mps: (rate_mps + self.noise(RATE_NOISE_MPS)) as f32,
            rcs_dbsm: (rcs_dbsm + self.noise(RCS_NOISE_DB)) as f32,
        };
        self.returns.push(found);
    }

    /// Between a body and the ego vehicle a wave can go twice to and fro: distance and speed come out twice as large.
    fn add_ghost(&mut self) {
        if !self.happens(GHOST_SHARE) {
            return;
        }
        let nearest = self.returns.iter().min_by(|a, b| a.range_m.total_cmp(&b.range_m)).copied();
        let Some(nearest) = nearest.filter(|nearest| 2.0 * f64::from(nearest.range_m) <= MAX_RANGE_M) else { return };
        self.returns.push(RadarReturn {
            range_m: 2.0 * nearest.range_m,
            range_rate_mps: 2.0 * nearest.range_rate_mps,
            rcs_dbsm: nearest.rcs_dbsm - GHOST_LOSS_DB as f32,
            ..nearest
        });
    }

    /// Returns of what stands beside the road.
    fn add_clutter(&mut self) {
        let step_rad = 2.0 * HALF_VIEW_RAD / CLUTTER_RAYS as f64;
        let place = self.place.world_from_sensor;
        let rays: Vec<Ray> = (0..CLUTTER_RAYS)
            .map(|number| {
                let azimuth_rad = (number as f64 + 0.5) * step_rad - HALF_VIEW_RAD;
                let direction = Vector3::new(libm::cos(azimuth_rad), libm::sin(azimuth_rad), 0.0);
                Ray { origin_m: place.translation_m, direction: place.rotate(&direction), delay_s: 0.0 }
            })
            .collect();
        let mut hits = Vec::new();
        self.scene.cast(&rays, step_rad, &mut hits, None);
        let scene = self.scene;
        for (ray, hit) in rays.iter().zip(&hits) {
            let Target::Body(index, _) = hit.target else { continue };
            let Some(body) = scene.bodies.get(index).filter(|body| body.id == 0) else { continue };
            if self.happens(CLUTTER_SHARE) {
                self.add(body, ray, hit.distance_m);
            }
        }
    }

    fn add_false_alarm(&mut self) {
        if !self.happens(FALSE_ALARM_SHARE) {
            return;
        }
        let alarm = RadarReturn {
            range_m: self.between(1.0, MAX_RANGE_M) as f32,
            azimuth_rad: self.between(-HALF_VIEW_RAD, HALF_VIEW_RAD) as f32,
            range_rate_mps: self.between(-30.0, 30.0) as f32,
            rcs_dbsm: self.between(-10.0, 0.0) as f32,
        };
        self.returns.push(alarm);
    }
}

/// Places of a body that are looked for: its middle and its corners, a little inside so that rays meet it.
fn looked_for(body: &Body) -> [Vector3<f64>; 5] {
    const INSIDE: f64 = 0.9;
    let [x_m, y_m, yaw_rad] = body.pose;
    let (cos, sin) = (libm::cos(yaw_rad), libm::sin(yaw_rad));
    let [min, max] = [body.look.min_m, body.look.max_m];
    let middle_m = [0.5 * (min[0] + max[0]), 0.5 * (min[1] + max[1])];
    let half_m = [INSIDE * 0.5 * (max[0] - min[0]), INSIDE * 0.5 * (max[1] - min[1])];
    let z_m = LOOK_M.min(0.5 * max[2]);
    [[0.0, 0.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]].map(|[ahead, left]| {
        let at_m = [middle_m[0] + ahead * half_m[0], middle_m[1] + left * half_m[1]];
        Vector3::new(x_m + cos * at_m[0] - sin * at_m[1], y_m + sin * at_m[0] + cos * at_m[1], z_m)
    })
}

/// Velocity of a point of a rigid body over ground: v + w x r.
fn velocity_mps(body: &Body, point_m: &Vector3<f64>) -> Vector3<f64> {
    let ([x_m, y_m, _], [x_mps, y_mps]) = (body.pose, body.velocity_mps);
    let rate_radps = body.yaw_rate_radps;
    Vector3::new(x_mps - rate_radps * (point_m.y - y_m), y_mps + rate_radps * (point_m.x - x_m), 0.0)
}

/// Radar cross-section from a direction, between that of the front and that of the side.
fn cross_section_dbsm(body: &Body, direction: &Vector3<f64>) -> f64 {
    let yaw_rad = body.pose[2];
    let along = direction.x * libm::cos(yaw_rad) + direction.y * libm::sin(yaw_rad);
    let share = (along * along).min(1.0);
    let [front_m2, side_m2] = body.look.radar_m2;
    10.0 * libm::log10((share * front_m2 + (1.0 - share) * side_m2).max(1e-4))
}

/// Signal to noise from the radar equation, then the probability of detection of a target whose strength fluctuates from
/// scan to scan: `P_fa^(1 / (1 + snr))`, Swerling's case 1 (Skolnik, Introduction to Radar Systems, 2001, chapter 2).
fn detection_probability(rcs_dbsm: f64, range_m: f64) -> f64 {
    let snr_db = SNR_DB + rcs_dbsm - 40.0 * libm::log10(range_m.max(1.0) / 100.0);
    libm::exp(LOG_FALSE_ALARM / (1.0 + libm::pow(10.0, 0.1 * snr_db)))
}

impl SimulatedSensor for RadarSensor {
    fn name(&self) -> &str {
        &self.mounted.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_record::<RadarReturns>(&self.mounted.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        self.mounted.stamps(1, 0, duration_ns)
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(MARGIN_NS)
    }

    fn sense(&self, world: &World, _number: u64, stamp_ns: i64) -> Option<Message> {
        let returns = self.scan(&world.scene(stamp_ns), &world.ego(stamp_ns), stamp_ns);
        Some(record_message(&returns, stamp_ns, LATENCY_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::imu::tests::mounted;
    use super::super::lidar::tests::{box_at, scene_with};
    use super::*;

    const SCANS: i64 = 20;

    /// Returns straight ahead around a distance, from many scans.
    fn around(range_m: f32, bodies: Vec<Body>, ego: &Motion) -> Vec<RadarReturn> {
        let sensor = RadarSensor { mounted: mounted(20.0, [2.0, 0.0, 0.5], 0.0), random: Random::new(9) };
        let scene = scene_with(bodies);
        let scans = (1..=SCANS).map(|number| sensor.scan(&scene, ego, number * 50_000_000));
        let all = scans.flat_map(|scan| scan.returns.iter().copied().collect::<Vec<_>>());
        all.filter(|found| (found.range_m - range_m).abs() < 1.0 && found.azimuth_rad.abs() < 0.05).collect()
    }

    #[test]
    fn what_comes_closer_has_a_negative_rate() {
        let ego = Motion { velocity_mps: [10.0, 0.0], speed_mps: 10.0, ..Motion::default() };
        let oncoming = Body { velocity_mps: [-10.0, 0.0], ..box_at(1, [42.0, 0.0]) };
        let found = around(38.0, vec![oncoming], &ego);
        assert!(found.len() as i64 > SCANS / 2, "{}", found.len());
        assert!(found.iter().all(|found| (found.range_rate_mps + 20.0).abs() < 0.6), "{found:?}");
        let leaving = Body { velocity_mps: [25.0, 0.0], ..box_at(1, [42.0, 0.0]) };
        let found = around(38.0, vec![leaving], &ego);
        assert!(!found.is_empty() && found.iter().all(|found| (found.range_rate_mps - 15.0).abs() < 0.6), "{found:?}");
    }

    #[test]
    fn what_is_hidden_does_not_return() {
        let bodies = vec![box_at(1, [22.0, 0.0]), box_at(2, [42.0, 0.0])];
        assert!(!around(18.0, bodies.clone(), &Motion::default()).is_empty());
        // a ghost of the first is 36 m away, outside of what is asked for
        assert_eq!(around(38.0, bodies, &Motion::default()), []);
    }

    #[test]
    fn detection_falls_with_the_distance() {
        assert!(detection_probability(10.0, 100.0) > 0.9);
        assert!(detection_probability(-8.0, 60.0) > 0.5 && detection_probability(-8.0, 150.0) < 0.1);
    }
}
