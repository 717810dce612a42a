//! The spinning lidar: a fan of beams that turns once per sweep, and what comes back.
//!
//! Every column of beams is fired at its own time, from where the sensor is then, at bodies where they are then: points
//! are as measured, in the sensor's frame, not compensated for motion. The stamp is the middle of the sweep, when the fan
//! looks ahead. Points come in the order of firing. Promised: a sweep is a pure function of the scene, of the ego
//! vehicle's motion, of the random stream and of the stamp.

use std::f64::consts::{PI, TAU};

use catseye_calibration::rig::Rig;
use catseye_sensors::cloud::Point;
use foxglove::messages::PointCloud;
use nalgebra::Vector3;

use super::imu::{MARGIN_NS, Mounted, described, foxglove_message};
use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::log::packet::cloud_message;
use crate::sim::EPOCH_NS;
use crate::sim::random::Random;
use crate::sim::road::{Ground, Surface};
use crate::sim::scene::{Hit, Ray, Scene, Target};
use crate::sim::world::{Motion, World};

/// How long after the end of a sweep it arrives.
const LATENCY_NS: i64 = 5_000_000;
/// Nearest distance that is measured.
const MIN_RANGE_M: f64 = 1.0;
/// Deviation of a distance.
const NOISE_M: f64 = 0.02;
/// Share of shots that are lost whatever they meet.
const LOST_SHARE: f64 = 0.01;
/// Returned energy, brightness over squared distance, at which 1/e of the shots are lost: a surface of 10 % square to
/// the beam is then found at 80 m with 95 %, as data sheets of such lidars say.
const ENERGY_PER_M2: f64 = 5e-6;
/// Intensity of a white surface square to the beam, and the largest.
const FULL_INTENSITY: f64 = 255.0;
/// Columns of a bundle of rays.
const BLOCK_COLUMNS: usize = 8;

/// How a lidar's beams lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Beams {
    /// Angle of each beam above the horizon, from the lowest up. The position is the ring of its points.
    pub elevations_deg: Vec<f64>,
    /// Shots of each beam per turn.
    pub azimuth_steps: usize,
    /// Farthest distance that is measured.
    pub max_range_m: f64,
}

impl Beams {
    /// The beams of a model by its name in rigs; a name that is not known gives 32 beams, denser near the horizon.
    pub fn of_model(model: &str) -> Self {
        let even = |count: u32, first_deg: f64, step_deg: f64| {
            (0..count).map(|beam| first_deg + step_deg * f64::from(beam)).collect::<Vec<f64>>()
        };
        let (elevations_deg, azimuth_steps) = match model.to_ascii_lowercase().as_str() {
            "vlp16" => (even(16, -15.0, 2.0), 1800),
            "xt32" => (even(32, -16.0, 1.0), 1800),
            _ => {
                let below = (0..24).map(|beam| {
                    let down = 1.0 - f64::from(beam) / 24.0;
                    -24.0 * down * (0.35 + 0.65 * down)
                });
                (below.chain(even(8, 0.0, 4.0 / 7.0)).collect(), 900)
            }
        };
        Beams { elevations_deg, azimuth_steps, max_range_m: 120.0 }
    }
}

/// A lidar.
pub struct LidarSensor {
    mounted: Mounted,
    /// Cosine and sine of each beam's elevation.
    beams: Vec<[f64; 2]>,
    azimuth_steps: usize,
    max_range_m: f64,
    is_noisy: bool,
    random: Random,
}

/// All beams at one azimuth.
struct Column {
    offset_ns: i64,
    /// Cosine and sine of the azimuth.
    azimuth: [f64; 2],
    place: catseye_calibration::pose::Pose,
    first_shot: u64,
}

/// One ray, as the sensor knows it.
struct Shot {
    direction: Vector3<f64>,
    offset_ns: i64,
    ring: usize,
    number: u64,
}

impl LidarSensor {
    /// The lidar of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let lidar = rig.lidars.get(index)?;
        let mounted = Mounted::new(&lidar.name, &lidar.topic, lidar.rate_hz, &lidar.mounting);
        let random = random.stream(&mounted.name);
        Some(LidarSensor::with_beams(mounted, &Beams::of_model(&lidar.model), true, random))
    }

    fn with_beams(mounted: Mounted, beams: &Beams, is_noisy: bool, random: Random) -> Self {
        let angles = |elevation_deg: &f64| {
            let elevation_rad = elevation_deg.to_radians();
            [libm::cos(elevation_rad), libm::sin(elevation_rad)]
        };
        LidarSensor {
            mounted,
            beams: beams.elevations_deg.iter().map(angles).collect(),
            azimuth_steps: beams.azimuth_steps,
            max_range_m: beams.max_range_m,
            is_noisy,
            random,
        }
    }

    /// The points of the sweep around a stamp.
    pub fn points(&self, world: &World, stamp_ns: i64) -> Vec<Point> {
        self.sweep(&world.scene(stamp_ns), |time_ns| world.ego(time_ns), stamp_ns)
    }

    fn sweep(&self, scene: &Scene, ego: impl Fn(i64) -> Motion, stamp_ns: i64) -> Vec<Point> {
        let chance = self.random.at(stamp_ns as u64);
        let angle_rad = TAU / self.azimuth_steps.max(1) as f64;
        let columns: Vec<Column> = (0..self.azimuth_steps).map(|column| self.column(column, &ego, stamp_ns)).collect();
        let mut points = Vec::with_capacity(self.azimuth_steps * self.beams.len());
        let (mut rays, mut shots, mut hits) = (Vec::new(), Vec::new(), Vec::new());
        let half = self.beams.len().div_ceil(2).max(1);
        for block in columns.chunks(BLOCK_COLUMNS) {
            let first = points.len();
            // the lower and the upper beams apart: narrow bundles pass over more bodies
            for (part, beams) in self.beams.chunks(half).enumerate() {
                rays.clear();
                shots.clear();
                hits.clear();
                for column in block {
                    aim(column, beams, part * half, &mut rays, &mut shots);
                }
                scene.cast(&rays, angle_rad, &mut hits, None);
                let seen = rays.iter().zip(&shots).zip(&hits);
                points.extend(seen.filter_map(|((ray, shot), hit)| self.point(ray, shot, hit, &chance)));
            }
            if let Some(block) = points.get_mut(first..) {
                block.sort_by_key(|point: &Point| (point.offset_ns, point.ring));
            }
        }
        points
    }

    /// The fan turns clockwise, from behind over ahead, at the middle of the sweep, to behind.
    fn column(&self, column: usize, ego: &impl Fn(i64) -> Motion, stamp_ns: i64) -> Column {
        let steps = self.azimuth_steps as i64;
        // twice the number of steps from the middle of the sweep
        let from_middle = 2 * column as i64 + 1 - steps;
        let offset_ns = (self.sweep_ns() as f64 * from_middle as f64 / (2 * steps) as f64).round() as i64;
        let azimuth_rad = -PI * from_middle as f64 / steps as f64;
        Column {
            offset_ns,
            azimuth: [libm::cos(azimuth_rad), libm::sin(azimuth_rad)],
            place: self.mounted.place(&ego(stamp_ns.saturating_add(offset_ns))).world_from_sensor,
            first_shot: (column * self.beams.len()) as u64,
        }
    }

    /// Duration of a sweep: a period, as long as an offset can count.
    fn sweep_ns(&self) -> i64 {
        self.mounted.period_ns().min(i64::from(i32::MAX))
    }

    fn point(&self, ray: &Ray, shot: &Shot, hit: &Hit, chance: &Random) -> Option<Point> {
        if !(MIN_RANGE_M..=self.max_range_m).contains(&hit.distance_m) {
            return None;
        }
        let reflected = match hit.target {
            Target::Sky => return None,
            Target::Ground(surface) => ground_reflectivity(&surface),
            Target::Body(_, material) => f64::from(material.lidar),
        };
        let brightness = reflected * hit.normal.dot(&ray.direction).abs();
        let mut range_m = hit.distance_m;
        if self.is_noisy {
            // an extended diffuse surface returns energy with the cosine and the inverse square of the distance
            // (Wagner et al. 2006, Gaussian decomposition and calibration of a full-waveform lidar, equation 8)
            let energy_per_m2 = brightness / (range_m * range_m);
            let lost = LOST_SHARE + (1.0 - LOST_SHARE) * libm::exp(-energy_per_m2 / ENERGY_PER_M2);
            if chance.happens(2 * shot.number, lost) {
                return None;
            }
            range_m += NOISE_M * f64::from(chance.rough_normal(2 * shot.number + 1));
        }
        let at_m = shot.direction * range_m;
        Some(Point {
            x_m: at_m.x as f32,
            y_m: at_m.y as f32,
            z_m: at_m.z as f32,
            intensity: (FULL_INTENSITY * brightness).min(FULL_INTENSITY) as f32,
            offset_ns: shot.offset_ns as i32,
            ring: shot.ring as u16,
            ..Point::default()
        })
    }
}

/// Adds the rays of some beams of a column; the first of them has the ring `first_ring`.
fn aim(column: &Column, beams: &[[f64; 2]], first_ring: usize, rays: &mut Vec<Ray>, shots: &mut Vec<Shot>) {
    let [cos_azimuth, sin_azimuth] = column.azimuth;
    let delay_s = column.offset_ns as f64 / 1e9;
    for (ring, [cos_elevation, sin_elevation]) in (first_ring..).zip(beams) {
        let direction = Vector3::new(cos_elevation * cos_azimuth, cos_elevation * sin_azimuth, *sin_elevation);
        rays.push(Ray { origin_m: column.place.translation_m, direction: column.place.rotate(&direction), delay_s });
        shots.push(Shot { direction, offset_ns: column.offset_ns, ring, number: column.first_shot + ring as u64 });
    }
}

/// Share of the light of a near-infrared lidar that the ground sends back.
fn ground_reflectivity(surface: &Surface) -> f64 {
    let bare = match surface.ground {
        Ground::Asphalt => 0.1,
        Ground::Kerb => 0.25,
        Ground::Pavement => 0.2,
        Ground::Grass => 0.3,
    };
    bare + (0.8 - bare) * surface.painted.clamp(0.0, 1.0)
}

impl SimulatedSensor for LidarSensor {
    fn name(&self) -> &str {
        &self.mounted.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_foxglove::<PointCloud>(&self.mounted.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        self.mounted.stamps(0, self.sweep_ns() / 2, duration_ns)
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(self.sweep_ns() / 2 + MARGIN_NS)
    }

    fn sense(&self, world: &World, _number: u64, stamp_ns: i64) -> Option<Message> {
        let points = self.points(world, stamp_ns);
        let cloud = cloud_message(&points, EPOCH_NS.saturating_add(stamp_ns), &self.mounted.name);
        Some(foxglove_message(&cloud, stamp_ns, self.sweep_ns() / 2 + LATENCY_NS))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::imu::tests::mounted;
    use super::*;
    use crate::sim::bodies::{Look, Material, Part, Solid};
    use crate::sim::scene::Body;

    /// A box 4 m long, 2 m wide and 2 m high at a place, at rest, with x ahead.
    pub(in crate::sim::sensors) fn box_at(id: u32, place_m: [f64; 2]) -> Body {
        let planes = vec![
            [1.0, 0.0, 0.0, 2.0],
            [-1.0, 0.0, 0.0, 2.0],
            [0.0, 1.0, 0.0, 1.0],
            [0.0, -1.0, 0.0, 1.0],
            [0.0, 0.0, 1.0, 2.0],
            [0.0, 0.0, -1.0, 0.0],
        ];
        let (min_m, max_m) = ([-2.0, -1.0, 0.0], [2.0, 1.0, 2.0]);
        let material = Material { colour: [0.5; 3], glow: [0.0; 3], gloss: 0.0, lidar: 0.5 };
        let parts = vec![Part { solid: Solid::Convex(planes), material, min_m, max_m }];
        let look = Arc::new(Look { parts, min_m, max_m, radar_m2: [10.0, 30.0] });
        let [x_m, y_m] = place_m;
        Body { id, look, pose: [x_m, y_m, 0.0], velocity_mps: [0.0; 2], yaw_rate_radps: 0.0 }
    }

    pub(in crate::sim::sensors) fn scene_with(bodies: impl IntoIterator<Item = Body>) -> Scene {
        let mut scene = Scene::default();
        scene.bodies.extend(bodies);
        scene
    }

    fn lidar(is_noisy: bool) -> LidarSensor {
        let mounted = mounted(10.0, [0.0, 0.0, 1.0], 0.0);
        LidarSensor::with_beams(mounted, &Beams::of_model(""), is_noisy, Random::new(2))
    }

    fn of_the_box(points: &[Point]) -> Vec<Point> {
        let is_near = |point: &&Point| point.x_m > 10.0 && point.y_m.abs() < 1.1 && point.z_m > -0.9;
        points.iter().filter(is_near).copied().collect()
    }

    #[test]
    fn points_of_a_box_are_where_its_side_was_when_they_were_measured() {
        let stamp_ns = 50_000_000;
        // 10 m/s towards the box, whose side is 20 m away at the stamp
        let ego = |time_ns: i64| Motion { pose: [(time_ns - stamp_ns) as f64 / 1e8, 0.0, 0.0], ..Motion::default() };
        let points = lidar(false).sweep(&scene_with([box_at(1, [22.0, 0.0])]), ego, stamp_ns);
        let found = of_the_box(&points);
        assert!(found.len() > 100, "{}", found.len());
        for point in found {
            let expected_m = 20.0 - 10.0 * f64::from(point.offset_ns) / 1e9;
            assert!((f64::from(point.x_m) - expected_m).abs() < 1e-4, "{point:?}");
            // half of the light comes back, a little less where the beam does not meet the side squarely
            assert!((110.0..=127.6).contains(&point.intensity), "{point:?}");
        }
        assert!(points.is_sorted_by_key(|point| point.offset_ns));
    }

    #[test]
    fn noise_blurs_distances_and_loses_points() {
        let scene = scene_with([box_at(1, [22.0, 0.0])]);
        let sweep = |is_noisy: bool| of_the_box(&lidar(is_noisy).sweep(&scene, |_| Motion::default(), 50_000_000));
        let (exact, noisy) = (sweep(false), sweep(true));
        assert!(noisy.len() < exact.len() && noisy.len() * 10 > exact.len() * 9, "{} {}", exact.len(), noisy.len());
        let square_m2 = noisy.iter().map(|point| (point.x_m - 20.0) * (point.x_m - 20.0)).sum::<f32>();
        let sigma_m = (square_m2 / noisy.len() as f32).sqrt();
        assert!((0.015..0.025).contains(&sigma_m), "{sigma_m}");
    }

    #[test]
    fn beams_rise_and_lie_denser_near_the_horizon() {
        let beams = Beams::of_model("no such model").elevations_deg;
        assert_eq!((beams.len(), beams[0], beams[31]), (32, -24.0, 4.0));
        assert!(beams.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(beams[1] - beams[0] > 3.0 * (beams[23] - beams[22]));
        assert_eq!(Beams::of_model("VLP16").elevations_deg.len(), 16);
    }

    #[test]
    fn stamps_are_the_middles_of_sweeps() {
        assert_eq!(lidar(true).stamps(300_000_000), [50_000_000, 150_000_000, 250_000_000]);
    }
}
