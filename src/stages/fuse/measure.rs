//! From a camera's tracks to measured places around the vehicle.
//!
//! An object's distance comes from the lidar points inside its box where there are enough, else from where the bottom of
//! its box meets the ground. Either way the measurement is the middle of the side that faces the camera, in the vehicle
//! frame at the picture's stamp, with a covariance that says how well this way of measuring knows it.

use catseye_calibration::pose::Pose;
use nalgebra::Vector3;

use crate::messages::{BoxPx, CameraTracks, RangeSource, TrackState};
use crate::record;
use crate::stages::LidarSlot;
use crate::stages::geometry::CameraGeometry;

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
}

impl ClassPrior {
    /// Of a class by its name; `None` for what is no road user and does not belong into the world model.
    pub fn of(name: &str) -> Option<Self> {
        let extent_m = match name {
            "person" | "pedestrian" => [0.5, 0.6, 1.7],
            "bicycle" | "cyclist" => [1.8, 0.6, 1.5],
            "motorcycle" | "motorbike" => [2.1, 0.8, 1.4],
            "car" | "van" => [4.5, 1.8, 1.5],
            "truck" => [8.0, 2.5, 3.2],
            "bus" => [11.0, 2.5, 3.2],
            "train" | "tram" => [25.0, 2.6, 3.5],
            "cat" | "dog" | "horse" | "sheep" | "cow" => [1.2, 0.5, 1.0],
            _ => return None,
        };
        Some(ClassPrior { extent_m })
    }
}

/// A lidar point as cameras need it.
#[derive(Clone, Copy)]
struct Seen {
    pixel: [f64; 2],
    depth_m: f64,
    lateral_m: f64,
}

/// Measures objects.
pub struct Measurer {
    cameras: Vec<CameraGeometry>,
    vehicle_from_lidar: Vec<Pose>,
    priors: Vec<Option<ClassPrior>>,
    /// Points of all lidars in the vehicle frame, road removed.
    cloud: Vec<Vector3<f64>>,
    seen: Vec<Seen>,
    depths: Vec<f64>,
    laterals: Vec<f64>,
}

impl Measurer {
    /// For these cameras, lidars and classes.
    pub fn new(cameras: Vec<CameraGeometry>, vehicle_from_lidar: Vec<Pose>, priors: Vec<Option<ClassPrior>>) -> Self {
        Measurer {
            cameras,
            vehicle_from_lidar,
            priors,
            cloud: Vec::new(),
            seen: Vec::new(),
            depths: Vec::new(),
            laterals: Vec::new(),
        }
    }

    /// Takes the tick's scans.
    pub fn load_clouds(&mut self, lidars: &[LidarSlot]) {
        self.cloud.clear();
        for (lidar, vehicle_from_lidar) in lidars.iter().zip(&self.vehicle_from_lidar).filter(|(lidar, _)| lidar.present) {
            let in_vehicle = lidar.points.iter().map(|point| {
                let point = Vector3::new(f64::from(point.x_m), f64::from(point.y_m), f64::from(point.z_m));
                vehicle_from_lidar.transform_point(&point)
            });
            self.cloud.extend(in_vehicle.filter(|point| point.z > MIN_HEIGHT_M));
        }
    }

    /// Measures what a camera sees now.
    pub fn measure(&mut self, sensor: usize, tracks: &CameraTracks, out: &mut Vec<ObjectMeasurement>) {
        out.clear();
        let Some(camera) = self.cameras.get(sensor) else { return };
        self.seen.clear();
        for point in &self.cloud {
            if let Some((pixel, _)) = camera.picture_from_vehicle(point) {
                let in_camera = camera.camera_from_vehicle.transform_point(point);
                self.seen.push(Seen { pixel, depth_m: in_camera.z, lateral_m: in_camera.x });
            }
        }
        for track in tracks.tracks.iter().filter(|track| track.state != TrackState::Coasting) {
            if !track.detected_px.is_sound() {
                continue;
            }
            let Some(Some(prior)) = self.priors.get(usize::from(track.class)) else { continue };
            let prior = *prior;
            let by_lidar = self.range_by_lidar(sensor, &track.detected_px);
            let Some(camera) = self.cameras.get(sensor) else { return };
            let place = by_lidar.or_else(|| range_by_ground(camera, &track.detected_px));
            let Some((position_m, covariance_m2, depth_m, source)) = place else { continue };
            out.push(ObjectMeasurement {
                position_m,
                covariance_m2,
                extent_m: extent(camera, &track.detected_px, depth_m, prior),
                class: track.class,
                score: track.score,
                camera_track: track.id,
                confirmed: track.state == TrackState::Confirmed,
                source,
            });
        }
    }

    /// The near end of the points in a box.
    fn range_by_lidar(&mut self, sensor: usize, box_px: &BoxPx) -> Option<Place> {
        let (width, height) = (f64::from(box_px.width()), f64::from(box_px.height()));
        let (left, right) = (f64::from(box_px.left) + BOX_MARGIN * width, f64::from(box_px.right) - BOX_MARGIN * width);
        let (top, bottom) = (f64::from(box_px.top) + BOX_MARGIN * height, f64::from(box_px.bottom) - BOX_MARGIN * height);
        let inside = |seen: &&Seen| {
            let [u, v] = seen.pixel;
            u >= left && u <= right && v >= top && v <= bottom
        };
        self.depths.clear();
        self.depths.extend(self.seen.iter().filter(inside).map(|seen| seen.depth_m));
        if self.depths.len() < MIN_POINTS {
            return None;
        }
        self.depths.sort_unstable_by(f64::total_cmp);
        let depth_m = self.depths[(NEAR_PERCENTILE * (self.depths.len() - 1) as f64) as usize];
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
        let covariance = along_and_across(camera, [point.x, point.y], 0.1, 0.15);
        Some(([point.x, point.y], covariance, depth_m, RangeSource::Lidar))
    }
}

/// Position, covariance, depth along the optical axis, source.
type Place = ([f64; 2], [f64; 3], f64, RangeSource);

/// Where the bottom of a box meets the ground.
fn range_by_ground(camera: &CameraGeometry, box_px: &BoxPx) -> Option<Place> {
    let [width_px, height_px] = camera.size_px.map(f64::from);
    let bottom = f64::from(box_px.bottom) - 0.5;
    // a box that ends with the picture says nothing about where the object stands
    if bottom > height_px - 2.0 {
        return None;
    }
    let middle = (f64::from(box_px.left + box_px.right) / 2.0 - 0.5).clamp(0.0, width_px - 1.0);
    let [x, y] = camera.ground_from_picture([middle, bottom])?;
    let origin = camera.vehicle_from_camera.translation_m;
    let (dx, dy) = (x - origin.x, y - origin.y);
    let range_m = (dx * dx + dy * dy).sqrt();
    let [fx, fy] = camera.lens.focal_px();
    // one pixel at the bottom is worth range^2 / (height * f): boxes are good to about 3 pixels and 2 % of their height
    let pixels = 3.0 + 0.02 * f64::from(box_px.height());
    let along = (range_m * range_m * pixels / (origin.z.max(0.1) * fy)).max(0.05 * range_m);
    let across = (range_m * pixels / fx).max(0.1);
    let in_camera = camera.camera_from_vehicle.transform_point(&Vector3::new(x, y, 0.0));
    Some(([x, y], along_and_across(camera, [x, y], along, across), in_camera.z, RangeSource::Ground))
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
