//! From a camera's tracks to measured places around the vehicle.
//!
//! An object's distance comes from the lidar points inside its box where there are enough, else from the picture: from
//! where the bottom of its box meets the ground and from how large it looks, weighted by what each is worth. Either way
//! the measurement is the middle of the side that faces the camera, with a covariance that says how well this way of
//! measuring knows it, in the vehicle frame at its own stamp: that of the scan where points gave the distance, else the
//! picture's. Nothing is carried from one stamp to the other here; the filter knows how things move.

use catseye_calibration::camera::Projection;
use catseye_calibration::pose::Pose;
use nalgebra::{Vector2, Vector3};

use crate::messages::{BoxPx, CameraTracks, MAX_TRACKS, RangeSource, TrackState};
use crate::record;
use crate::stages::LidarSlot;
use crate::stages::geometry::{CameraGeometry, MAX_GROUND_M};

/// Points of a scan that there is room for from the start; more make the buffers grow once.
pub const SCAN_POINTS: usize = 1 << 17;
/// Fewest lidar points in a box that give a distance.
pub const MIN_POINTS: usize = 5;
/// Part of a box that is cut off on each side before points are looked for: boxes are never tight.
pub const BOX_MARGIN: f64 = 0.1;
/// Points lower than this above the ground belong to the road.
pub const MIN_HEIGHT_M: f64 = 0.25;
/// The part of the points in a box that may lie before the object: dust, rain, the bumper of another car.
pub const NEAR_PERCENTILE: f64 = 0.1;

record! {
    /// One object, measured.
    #[derive(Copy)]
    pub struct ObjectMeasurement {
        /// Middle of the facing side, vehicle frame.
        pub position_m: [f64; 2],
        /// Covariance: xx, xy, yy.
        pub covariance_m2: [f64; 3],
        /// Length, width, height, as far as known.
        pub extent_m: [f32; 3],
        /// Class index.
        pub class: u16,
        /// Score of the detection.
        pub score: f32,
        /// The camera's track.
        pub camera_track: u32,
        /// Whether the camera believes in it.
        pub confirmed: bool,
        /// Where the distance came from.
        pub source: RangeSource,
    }
}

/// What is known of a class before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassPrior {
    /// Usual length, width, height.
    pub extent_m: [f32; 3],
    /// How far behind the facing side its wheels or feet touch the ground: a car's overhang.
    pub overhang_m: f64,
    /// The size that its distance can be judged by.
    pub yardstick: Yardstick,
}

/// A size that varies little from one object of a class to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Yardstick {
    /// The width, when the box is no wider than this many times its height: seen from the side it would be the length.
    Width {
        /// See above.
        most_aspect: f32,
    },
    /// The height.
    Height,
}

impl ClassPrior {
    /// Of a class by its name; `None` for what is no road user and does not belong into the world model. Cars are as
    /// wide as the mean between KITTI's labels (1.63 m) and today's registrations (1.8 m).
    pub fn of(name: &str) -> Option<Self> {
        let wide = |most_aspect| Yardstick::Width { most_aspect };
        let (extent_m, overhang_m, yardstick) = match name {
            "person" | "pedestrian" => ([0.5, 0.6, 1.7], 0.1, Yardstick::Height),
            "bicycle" | "cyclist" => ([1.8, 0.6, 1.5], 0.35, Yardstick::Height),
            "motorcycle" | "motorbike" => ([2.1, 0.8, 1.4], 0.35, Yardstick::Height),
            "car" | "van" => ([4.3, 1.7, 1.5], 0.9, wide(1.5)),
            "truck" => ([8.0, 2.5, 3.2], 1.0, wide(1.0)),
            "bus" => ([11.0, 2.5, 3.2], 2.0, wide(1.0)),
            "train" | "tram" => ([25.0, 2.6, 3.5], 0.0, Yardstick::Height),
            "cat" | "dog" | "horse" | "sheep" | "cow" => ([1.2, 0.5, 1.0], 0.1, Yardstick::Height),
            _ => return None,
        };
        Some(ClassPrior { extent_m, overhang_m, yardstick })
    }
}

/// A lidar point as cameras need it.
#[derive(Clone, Copy)]
struct Seen {
    pixel: [f64; 2],
    depth_m: f64,
    lateral_m: f64,
    stamp_ns: i64,
}

/// A measured object and when it was there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Stamp of the scan or the picture that it was measured in.
    pub stamp_ns: i64,
    /// The object.
    pub object: ObjectMeasurement,
}

/// Measures objects.
pub struct Measurer {
    cameras: Vec<CameraGeometry>,
    vehicle_from_lidar: Vec<Pose>,
    priors: Vec<Option<ClassPrior>>,
    /// Points of all lidars in the vehicle frame with their scans' stamps, road removed.
    cloud: Vec<(i64, Vector3<f64>)>,
    seen: Vec<Seen>,
    depths: Vec<(f64, i64)>,
    laterals: Vec<f64>,
    /// Boxes that stand in front of the one that is measured.
    nearer: Vec<BoxPx>,
    found: Vec<Measured>,
}

impl Measurer {
    /// For these cameras, lidars and classes.
    pub fn new(cameras: Vec<CameraGeometry>, vehicle_from_lidar: Vec<Pose>, priors: Vec<Option<ClassPrior>>) -> Self {
        let points = vehicle_from_lidar.len() * SCAN_POINTS;
        Measurer {
            cameras,
            priors,
            cloud: Vec::with_capacity(points),
            vehicle_from_lidar,
            seen: Vec::with_capacity(points),
            depths: Vec::with_capacity(points),
            laterals: Vec::with_capacity(points),
            nearer: Vec::with_capacity(MAX_TRACKS),
            found: Vec::with_capacity(MAX_TRACKS),
        }
    }

    /// Takes the tick's scans.
    pub fn load_clouds(&mut self, lidars: &[LidarSlot]) {
        self.cloud.clear();
        for (lidar, vehicle_from_lidar) in
            lidars.iter().zip(&self.vehicle_from_lidar).filter(|(lidar, _)| lidar.present)
        {
            let in_vehicle = lidar.points.iter().map(|point| {
                let point = Vector3::new(f64::from(point.x_m), f64::from(point.y_m), f64::from(point.z_m));
                vehicle_from_lidar.transform_point(&point)
            });
            let above_the_road = in_vehicle.filter(|point| point.z > MIN_HEIGHT_M);
            self.cloud.extend(above_the_road.map(|point| (lidar.stamp_ns, point)));
        }
    }

    /// Measures what a camera sees in its picture of `stamp_ns`. Objects come in order of their stamps, then of their tracks.
    pub fn measure(&mut self, sensor: usize, stamp_ns: i64, tracks: &CameraTracks) -> &[Measured] {
        self.found.clear();
        self.project(sensor);
        for track in tracks.tracks.iter().filter(|track| track.state != TrackState::Coasting) {
            if !track.detected_px.is_sound() {
                continue;
            }
            let Some(Some(prior)) = self.priors.get(usize::from(track.class)) else { continue };
            let prior = *prior;
            self.load_nearer(tracks, &track.detected_px);
            let by_lidar = self.range_by_lidar(sensor, &track.detected_px);
            let Some(camera) = self.cameras.get(sensor) else { break };
            let by_picture = || range_by_picture(camera, &track.detected_px, &prior).map(|place| (stamp_ns, place));
            let Some((stamp_ns, place)) = by_lidar.or_else(by_picture) else { continue };
            let (position_m, covariance_m2, depth_m, source) = place;
            let object = ObjectMeasurement {
                position_m,
                covariance_m2,
                extent_m: extent(camera, &track.detected_px, depth_m, prior),
                class: track.class,
                score: track.score,
                camera_track: track.id,
                confirmed: track.state == TrackState::Confirmed,
                source,
            };
            self.found.push(Measured { stamp_ns, object });
        }
        // tracks come by number, so among those of one stamp the order stays
        self.found.sort_unstable_by_key(|found| (found.stamp_ns, found.object.camera_track));
        &self.found
    }

    /// Fills `seen` with the points that a camera sees.
    fn project(&mut self, sensor: usize) {
        self.seen.clear();
        let Some(camera) = self.cameras.get(sensor) else { return };
        for (stamp_ns, point) in &self.cloud {
            if let Some((pixel, _)) = camera.picture_from_vehicle(point) {
                let in_camera = camera.camera_from_vehicle.transform_point(point);
                let (depth_m, lateral_m) = (in_camera.z, in_camera.x);
                self.seen.push(Seen { pixel, depth_m, lateral_m, stamp_ns: *stamp_ns });
            }
        }
    }

    /// Fills `nearer` with the boxes that overlap this one and end lower in the picture: on a level road they stand in
    /// front of it, and points inside them are theirs.
    fn load_nearer(&mut self, tracks: &CameraTracks, box_px: &BoxPx) {
        self.nearer.clear();
        let boxes = tracks.tracks.iter().map(|track| track.detected_px);
        let is_in_front = |other: &BoxPx| {
            let overlaps = other.left < box_px.right && other.right > box_px.left && other.top < box_px.bottom;
            other.is_sound() && overlaps && other.bottom > box_px.bottom + 1.0
        };
        // there are no more tracks than the buffer has room for
        self.nearer.extend(boxes.filter(is_in_front));
    }

    /// The near end of the points in a box, and when it was there.
    fn range_by_lidar(&mut self, sensor: usize, box_px: &BoxPx) -> Option<(i64, Place)> {
        let (width, height) = (f64::from(box_px.width()), f64::from(box_px.height()));
        let (left, right) = (f64::from(box_px.left) + BOX_MARGIN * width, f64::from(box_px.right) - BOX_MARGIN * width);
        let (top, bottom) =
            (f64::from(box_px.top) + BOX_MARGIN * height, f64::from(box_px.bottom) - BOX_MARGIN * height);
        let nearer = &self.nearer;
        let is_hidden = |u: f64, v: f64| {
            let covers = |other: &BoxPx| {
                let [left, top, right, bottom] = [other.left, other.top, other.right, other.bottom].map(f64::from);
                u >= left && u <= right && v >= top && v <= bottom
            };
            nearer.iter().any(covers)
        };
        let inside = |seen: &&Seen| {
            let [u, v] = seen.pixel;
            u >= left && u <= right && v >= top && v <= bottom && !is_hidden(u, v)
        };
        self.depths.clear();
        self.depths.extend(self.seen.iter().filter(inside).map(|seen| (seen.depth_m, seen.stamp_ns)));
        if self.depths.len() < MIN_POINTS {
            return None;
        }
        self.depths.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (depth_m, stamp_ns) = self.depths[(NEAR_PERCENTILE * (self.depths.len() - 1) as f64) as usize];
        self.laterals.clear();
        let at_the_face = |seen: &&Seen| inside(seen) && (seen.depth_m - depth_m).abs() < 0.5;
        self.laterals.extend(self.seen.iter().filter(at_the_face).map(|seen| seen.lateral_m));
        self.laterals.sort_unstable_by(f64::total_cmp);
        let lateral_m = *self.laterals.get(self.laterals.len() / 2)?;
        let camera = self.cameras.get(sensor)?;
        let [_, cy] = camera.lens.principal_point_px();
        let [_, fy] = camera.lens.focal_px();
        let middle_v = f64::from(box_px.top + box_px.bottom) / 2.0;
        let in_camera = Vector3::new(lateral_m, depth_m * (middle_v - cy) / fy, depth_m);
        let point = camera.vehicle_from_camera.transform_point(&in_camera);
        let [width_px, _] = camera.size_px.map(f64::from);
        let is_cut_off = box_px.left < 1.0 || f64::from(box_px.right) > width_px - 2.0;
        // of an object that the picture cuts off, the middle of what is left is not the middle of the side
        let (along_m, across_m) = if is_cut_off { CUT_OFF_M } else { LIDAR_M };
        let covariance = along_and_across(camera, [point.x, point.y], along_m, across_m);
        Some((stamp_ns, ([point.x, point.y], covariance, depth_m, RangeSource::Lidar)))
    }
}

/// What of a place by lidar changes from scan to scan, along the line of sight and across it.
const LIDAR_M: (f64, f64) = (0.1, 0.15);
/// The same of an object that the picture cuts off.
const CUT_OFF_M: (f64, f64) = (0.6, 0.8);

/// Position, covariance, depth along the optical axis, source.
type Place = ([f64; 2], [f64; 3], f64, RangeSource);

/// Error of a box's edge: 2 pixels and this part of its height, as small networks draw them.
const EDGE_ERROR: f64 = 0.08;
/// Spread of the sizes within a class.
const SIZE_SPREAD: f64 = 0.08;

/// The distance that the picture alone tells: by the ground and by size, each weighted by the inverse of its variance.
fn range_by_picture(camera: &CameraGeometry, box_px: &BoxPx, prior: &ClassPrior) -> Option<Place> {
    let [width_px, height_px] = camera.size_px.map(f64::from);
    let middle_u = (f64::from(box_px.left + box_px.right) / 2.0 - 0.5).clamp(0.0, width_px - 1.0);
    let pixels = 2.0 + EDGE_ERROR * f64::from(box_px.height());
    let bottom = f64::from(box_px.bottom) - 0.5;
    // a box that ends with the picture says nothing about where the object stands
    let by_ground = (bottom <= height_px - 2.0).then(|| range_by_ground(camera, [middle_u, bottom], pixels, prior));
    let by_size = range_by_size(camera, box_px, prior);
    let (range_m, sigma_m) = match (by_ground.flatten(), by_size) {
        (Some((a, sigma_a)), Some((b, sigma_b))) => {
            let (weight_a, weight_b) = (1.0 / (sigma_a * sigma_a), 1.0 / (sigma_b * sigma_b));
            let sum = weight_a + weight_b;
            ((a * weight_a + b * weight_b) / sum, (1.0 / sum).sqrt())
        }
        (one, other) => one.or(other)?,
    };
    let middle_v = f64::from(box_px.top + box_px.bottom) / 2.0 - 0.5;
    let ray = camera.vehicle_from_camera.rotate(&camera.lens.unproject(&Vector2::new(middle_u, middle_v))?);
    let level = (ray.x * ray.x + ray.y * ray.y).sqrt();
    if !(level > 0.1 && range_m > 0.0 && range_m < MAX_GROUND_M) {
        return None;
    }
    let origin = camera.vehicle_from_camera.translation_m;
    let position_m = [origin.x + ray.x / level * range_m, origin.y + ray.y / level * range_m];
    let across_m = (range_m * pixels / camera.lens.focal_px()[0]).max(0.1);
    let in_camera = camera.camera_from_vehicle.transform_point(&Vector3::new(position_m[0], position_m[1], 0.0));
    let covariance = along_and_across(camera, position_m, sigma_m, across_m);
    Some((position_m, covariance, in_camera.z, RangeSource::Camera))
}

/// Level distance and its standard deviation, from where the box meets the ground, less the overhang: what touches the
/// ground lies behind the facing side.
fn range_by_ground(camera: &CameraGeometry, pixel: [f64; 2], pixels: f64, prior: &ClassPrior) -> Option<(f64, f64)> {
    let [x, y] = camera.ground_from_picture(pixel)?;
    let origin = camera.vehicle_from_camera.translation_m;
    let (dx, dy) = (x - origin.x, y - origin.y);
    let touching_m = (dx * dx + dy * dy).sqrt();
    let range_m = (touching_m - prior.overhang_m).max(0.5 * touching_m);
    // one pixel is worth range^2 / (height * f)
    let by_pixels = touching_m * touching_m * pixels / (origin.z.max(0.1) * camera.lens.focal_px()[1]);
    Some((range_m, by_pixels.max(0.03 * touching_m)))
}

/// Level distance and its standard deviation, from the angle that a known size is seen under.
fn range_by_size(camera: &CameraGeometry, box_px: &BoxPx, prior: &ClassPrior) -> Option<(f64, f64)> {
    let (left, right) = (f64::from(box_px.left) - 0.5, f64::from(box_px.right) - 0.5);
    let (top, bottom) = (f64::from(box_px.top) - 0.5, f64::from(box_px.bottom) - 0.5);
    let [width_px, height_px] = camera.size_px.map(f64::from);
    let [_, width, height] = prior.extent_m.map(f64::from);
    let (middle_u, middle_v) = ((left + right) / 2.0, (top + bottom) / 2.0);
    let (from, to, size_m) = match prior.yardstick {
        Yardstick::Width { most_aspect } => {
            let cut_off = left < 1.0 || right > width_px - 2.0;
            if cut_off || box_px.width() > most_aspect * box_px.height() {
                return None;
            }
            ([left, middle_v], [right, middle_v], width)
        }
        Yardstick::Height => {
            if top < 1.0 || bottom > height_px - 2.0 {
                return None;
            }
            ([middle_u, top], [middle_u, bottom], height)
        }
    };
    let one = camera.lens.unproject(&Vector2::from(from))?;
    let other = camera.lens.unproject(&Vector2::from(to))?;
    let cos: f64 = one.dot(&other).clamp(-1.0, 1.0);
    // tan(angle / 2) = sqrt((1 - cos) / (1 + cos))
    let half = ((1.0 - cos) / (1.0 + cos)).sqrt();
    let range_m = size_m / (2.0 * half);
    range_m.is_finite().then_some((range_m, SIZE_SPREAD * range_m))
}

/// The covariance of a place that is known to `along_m` in the direction of sight and `across_m` square to it.
fn along_and_across(camera: &CameraGeometry, position_m: [f64; 2], along_m: f64, across_m: f64) -> [f64; 3] {
    let origin = camera.vehicle_from_camera.translation_m;
    let (dx, dy) = (position_m[0] - origin.x, position_m[1] - origin.y);
    let range_m = (dx * dx + dy * dy).sqrt().max(1e-6);
    let (cos, sin) = (dx / range_m, dy / range_m);
    let (a, b) = (along_m * along_m, across_m * across_m);
    [cos * cos * a + sin * sin * b, cos * sin * (a - b), sin * sin * a + cos * cos * b]
}

/// The class's extent, with the height that the box shows and a width in reach of it.
fn extent(camera: &CameraGeometry, box_px: &BoxPx, depth_m: f64, prior: ClassPrior) -> [f32; 3] {
    let [fx, fy] = camera.lens.focal_px();
    let [length, width, height] = prior.extent_m;
    let seen_width = (f64::from(box_px.width()) * depth_m / fx) as f32;
    let seen_height = (f64::from(box_px.height()) * depth_m / fy) as f32;
    [length, seen_width.clamp(0.7 * width, 1.4 * width), seen_height.clamp(0.7 * height, 1.4 * height)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::CameraTrack;
    use catseye_calibration::rig::Rig;
    use catseye_sensors::cloud::Point;

    const MS: i64 = 1_000_000;

    /// The back of a car, `x_m` ahead and `y_m` to the left, in a scan of a lidar in the vehicle's origin.
    fn scan(x_m: f32, y_m: f32, stamp_ns: i64) -> LidarSlot {
        let places = (0..200).map(|i| ((i % 20) as f32 * 0.1 - 0.95, (i / 20) as f32 * 0.1 + 0.4));
        let points = places.map(|(y, z_m)| Point { x_m, y_m: y_m + y, z_m, ..Point::default() }).collect();
        LidarSlot { present: true, stamp_ns, points }
    }

    /// What is measured of a car by this scan in a picture of 1 s, in which its back lies between these corners.
    fn measure(scan: LidarSlot, left: [f64; 3], right: [f64; 3]) -> Measured {
        let camera = CameraGeometry::new(&Rig::default_camera(960, 540).cameras[0], false);
        let pixel = |[x, y, z]: [f64; 3]| camera.picture_from_vehicle(&Vector3::new(x, y, z)).unwrap().0;
        let ([left, top], [right, bottom]) = (pixel(left), pixel(right));
        let [left, top, right, bottom] = [left, top, right, bottom].map(|edge| edge as f32);
        let track = CameraTrack {
            id: 1,
            state: TrackState::Confirmed,
            detected_px: BoxPx { left, top, right, bottom },
            score: 0.9,
            ..CameraTrack::default()
        };
        let tracks = CameraTracks { tracks: [track].into_iter().collect(), ..CameraTracks::default() };
        let mut measurer = Measurer::new(vec![camera], vec![Pose::identity()], vec![ClassPrior::of("car")]);
        measurer.load_clouds(&[scan]);
        let found = measurer.measure(0, 1000 * MS, &tracks);
        assert_eq!((found.len(), found[0].object.source), (1, RangeSource::Lidar));
        found[0]
    }

    #[test]
    fn what_points_measure_has_the_scans_stamp() {
        for scan_ms in [950, 1000, 1050] {
            let found = measure(scan(20.0, 0.0, scan_ms * MS), [20.0, 0.95, 1.4], [20.0, -0.95, 0.4]);
            assert_eq!(found.stamp_ns, scan_ms * MS);
            assert!((found.object.position_m[0] - 20.0).abs() < 1e-3, "{:?}", found.object.position_m);
            assert!(found.object.position_m[1].abs() < 0.1, "{:?}", found.object.position_m);
        }
    }

    #[test]
    fn points_of_what_stands_in_front_are_not_taken() {
        let camera = CameraGeometry::new(&Rig::default_camera(960, 540).cameras[0], false);
        let pixel = |[x, y, z]: [f64; 3]| camera.picture_from_vehicle(&Vector3::new(x, y, z)).unwrap().0;
        let track = |id: u32, left: [f64; 3], right: [f64; 3]| {
            let ([left, top], [right, bottom]) = (pixel(left), pixel(right));
            let [left, top, right, bottom] = [left, top, right, bottom].map(|edge| edge as f32);
            let detected_px = BoxPx { left, top, right, bottom };
            CameraTrack { id, state: TrackState::Confirmed, detected_px, score: 0.9, ..CameraTrack::default() }
        };
        // a car 12 m ahead hides the right half of one 20 m ahead, and shows most of the points in its box
        let (mut near, far) = (scan(12.0, -0.95, 1000 * MS), scan(20.0, 0.0, 1000 * MS));
        near.points.extend(far.points.iter().copied());
        let near_track = track(1, [12.0, 0.05, 1.4], [12.0, -1.95, 0.2]);
        let far_track = track(2, [20.0, 0.95, 1.4], [20.0, -0.95, 0.4]);
        let tracks = CameraTracks { tracks: [near_track, far_track].into_iter().collect(), ..CameraTracks::default() };
        let mut measurer = Measurer::new(vec![camera], vec![Pose::identity()], vec![ClassPrior::of("car")]);
        measurer.load_clouds(&[near]);
        let places: Vec<f64> = measurer.measure(0, 1000 * MS, &tracks).iter().map(|m| m.object.position_m[0]).collect();
        assert!((places[0] - 12.0).abs() < 1e-3 && (places[1] - 20.0).abs() < 1e-3, "{places:?}");
    }
}
