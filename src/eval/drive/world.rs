//! The world model's objects: average precision from above, errors by range, and whether covariances keep their word.
//!
//! The pipeline's position is the middle of the side that faces the sensor (see [`crate::stages::fuse::measure`]). Its
//! counterpart in truth is the middle of that side of the true rectangle whose normal looks most towards the camera; the
//! same step inwards makes a rectangle of an object.
//!
//! Velocities are compared where the run knew how the vehicle moves: else its velocities are relative.

use std::collections::BTreeSet;

use nalgebra::Vector3;

use super::curves::{Calibrated, Coverage, Curve, Errors, NeesHistogram, ObjectCurves, Spread};
use super::logs::{Camera, Placed, Run, Tick, Truth, nearest};
use super::picture::shows_enough;
use super::{Class, DriveMetrics, EvaluateDriveError, Options, Values, part, wrapped};
use crate::eval::detection::{self, Detected, Labelled, bird_iou};
use crate::messages::{Object, RangeSource, TrackState};
use crate::stages::track::assignment::Assignment;
use crate::truth::TruthBox;

/// Ranges of a bin, from and to.
const BINS_M: [[u32; 2]; 6] = [[0, 10], [10, 20], [20, 30], [30, 40], [40, 60], [60, 100]];
/// Objects farther apart than this are no pair.
const GATE_M: f64 = 4.0;
/// Costs of pairs are in micrometres.
const COST_PER_M: f64 = 1e6;
/// An object that a camera saw so long ago may still be known.
const MEMORY_NS: i64 = 500_000_000;
/// An object that a camera saw so long ago is in the picture.
const SEEN_NS: i64 = 60_000_000;
/// A direction of motion is one above this speed.
const MOVING_MPS: f64 = 1.0;
/// A true object has a heading that shows above this speed.
const HEADING_MPS: f64 = 2.0;
/// Least overlap from above.
const VEHICLE_IOU: f64 = 0.5;
const OTHER_IOU: f64 = 0.3;
/// 95 % of a chi-square distribution of 2 degrees of freedom lie below this.
const CHI2_95: f64 = 5.991;

/// The step from the middle of the side of a rectangle that faces a place to the rectangle's own middle. Of the four
/// sides it is the one whose normal looks most towards the place.
fn inwards_m([x, y, length, width, yaw]: [f64; 5], sensor_m: [f64; 2]) -> [f64; 2] {
    let ([dx, dy], _) = sight(sensor_m, [x, y]);
    let (sin, cos) = (libm::sin(yaw), libm::cos(yaw));
    let (along, across) = (cos * dx + sin * dy, cos * dy - sin * dx);
    if along.abs() >= across.abs() {
        let half_m = 0.5 * length.copysign(along);
        return [half_m * cos, half_m * sin];
    }
    let half_m = 0.5 * width.copysign(across);
    [-half_m * sin, half_m * cos]
}

/// Unit vector of a line of sight and its length; straight ahead for no length.
fn sight(from: [f64; 2], to: [f64; 2]) -> ([f64; 2], f64) {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let range_m = libm::hypot(dx, dy);
    if range_m > 1e-6 { ([dx / range_m, dy / range_m], range_m) } else { ([1.0, 0.0], 0.0) }
}

/// The middle of the side of a rectangle that faces a place.
fn facing_point(rectangle: [f64; 5], sensor_m: [f64; 2]) -> [f64; 2] {
    let [x, y, ..] = rectangle;
    let [inwards_x, inwards_y] = inwards_m(rectangle, sensor_m);
    [x - inwards_x, y - inwards_y]
}

/// The rectangle that an object covers.
fn rectangle(object: &Object, sensor_m: [f64; 2]) -> [f64; 5] {
    let [vx, vy] = object.velocity_mps;
    let yaw = if libm::hypot(vx, vy) > MOVING_MPS { libm::atan2(vy, vx) } else { 0.0 };
    let [length, width, _] = object.extent_m.map(f64::from);
    let [x, y] = object.position_m;
    let [inwards_x, inwards_y] = inwards_m([x, y, length, width, yaw], sensor_m);
    [x + inwards_x, y + inwards_y, length, width, yaw]
}

fn is_believed(object: &&Object) -> bool {
    object.state != TrackState::Tentative && object.position_m.iter().all(|place| place.is_finite())
}

/// Whether a place lies in a camera's picture.
fn is_in_picture(camera: &Camera, object: &Placed) -> bool {
    let [x, y, ..] = object.rectangle;
    let [width_px, height_px] = camera.geometry.size_px.map(f64::from);
    let pixel = camera.geometry.picture_from_vehicle(&Vector3::new(x, y, object.middle_z_m));
    pixel.is_some_and(|([u, v], _)| u > -0.5 && u < width_px - 0.5 && v > -0.5 && v < height_px - 0.5)
}

/// Whether a camera of the run shows enough of a true object.
fn is_seen(run: &Run, name: &str, seen: &TruthBox) -> bool {
    run.cameras.iter().find(|camera| camera.name == name).is_some_and(|camera| shows_enough(camera, seen))
}

/// Whether a true object is among those that were seen; without truth in pictures, whether it lies in one.
fn is_visible(run: &Run, seen: Option<&BTreeSet<u32>>, object: &Placed) -> bool {
    match seen {
        Some(seen) => object.id.is_some_and(|id| seen.contains(&id)),
        None => run.cameras.iter().any(|camera| is_in_picture(camera, object)),
    }
}

/// Average precision of the objects, seen from above.
pub(super) fn birds_eye(
    run: &Run,
    truth: &Truth,
    options: &Options,
    metrics: &mut DriveMetrics,
) -> Result<(), EvaluateDriveError> {
    let (mut labelled, mut detected) = (Vec::new(), Vec::new());
    for (tick, frame) in run.ticks.iter().zip(0_u64..) {
        let Some(objects) = truth.placed_at(tick.reference_ns) else { continue };
        let seen = truth.seen_ids(tick.reference_ns, MEMORY_NS, |name, seen| is_seen(run, name, seen));
        for object in objects {
            let Some(class) = object.class else { continue };
            let [x, y, ..] = object.rectangle;
            let ignore = !is_visible(run, seen.as_ref(), &object) || libm::hypot(x, y) > options.max_distance_m;
            labelled.push(Labelled { frame, class: class.number(), shape: object.rectangle, ignore });
        }
        for object in tick.objects.iter().filter(is_believed) {
            let Some(class) = run.class(object.class) else { continue };
            let shape = rectangle(object, run.sensor_m(object.sensor));
            if libm::hypot(shape[0], shape[1]) <= options.max_distance_m {
                detected.push(Detected { frame, class: class.number(), shape, score: f64::from(object.score) });
            }
        }
    }
    let vehicle = |class: u16| Class::ALL.iter().any(|known| known.number() == class && known.is_vehicle());
    let least = |class: u16| if vehicle(class) { VEHICLE_IOU } else { OTHER_IOU };
    let found = detection::kitti(&labelled, &detected, |one, other| bird_iou(&one.shape, &other.shape), least)?;
    for class in Class::ALL {
        metrics.put(format!("birds_eye.{}.ap40", class.name()), found.get(&class.number()).copied());
    }
    Ok(())
}

/// An object with the true one that it stands for.
struct Pair<'a> {
    object: &'a Object,
    truth: &'a Placed,
    /// The point of the true one that the object's position means.
    facing_m: [f64; 2],
    sensor_m: [f64; 2],
}

impl Pair<'_> {
    fn error_m(&self) -> [f64; 2] {
        [self.object.position_m[0] - self.facing_m[0], self.object.position_m[1] - self.facing_m[1]]
    }

    /// Error along the line of sight, positive when too far, and across it, positive to the left.
    fn along_and_across_m(&self) -> [f64; 2] {
        let ([cos, sin], _) = sight(self.sensor_m, self.facing_m);
        let [x, y] = self.error_m();
        [cos * x + sin * y, cos * y - sin * x]
    }

    fn velocity_error_mps(&self) -> Option<[f64; 2]> {
        let [vx, vy] = self.truth.velocity_mps?;
        Some([self.object.velocity_mps[0] - vx, self.object.velocity_mps[1] - vy])
    }

    fn heading_error_rad(&self) -> Option<f64> {
        let [vx, vy] = self.truth.velocity_mps?;
        let heading = libm::atan2(self.object.velocity_mps[1], self.object.velocity_mps[0]);
        (libm::hypot(vx, vy) > HEADING_MPS).then(|| wrapped(heading - self.truth.rectangle[4]))
    }
}

/// Pairs the believed objects of a tick with true ones: as many as may be, the nearest.
fn pairs<'a>(run: &Run, tick: &'a Tick, truth: &'a [Placed], assignment: &mut Assignment) -> Vec<Pair<'a>> {
    let objects: Vec<&Object> = tick.objects.iter().filter(is_believed).collect();
    let pair = |object: &'a Object, truth: &'a Placed| {
        let sensor_m = run.sensor_m(object.sensor);
        Pair { object, truth, facing_m: facing_point(truth.rectangle, sensor_m), sensor_m }
    };
    let columns = assignment.solve(objects.len(), truth.len(), |row, column| {
        let [x, y] = pair(objects.get(row)?, truth.get(column)?).error_m();
        let distance_m = libm::hypot(x, y);
        (distance_m <= GATE_M).then(|| (distance_m * COST_PER_M).round() as u32)
    });
    let found = objects.iter().zip(columns).filter_map(|(&object, column)| Some((object, truth.get((*column)?)?)));
    found.map(|(object, truth)| pair(object, truth)).collect()
}

/// Errors of the objects in one range.
#[derive(Default)]
struct Bin {
    position: Values,
    range: Values,
    lateral: Values,
    velocity: Values,
    heading: Values,
    position_calibration: Calibration,
    velocity_calibration: Calibration,
}

/// Whether errors are as large as their covariance says.
#[derive(Default)]
struct Calibration {
    /// Normalised estimation error squared (Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking and
    /// Navigation, 5.4); infinite where the covariance is none.
    nees: Values,
}

impl Calibration {
    /// `covariance` is xx, xy, yy.
    fn add(&mut self, [x, y]: [f64; 2], [xx, xy, yy]: [f64; 3]) {
        let determinant = xx * yy - xy * xy;
        let nees = (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant;
        let is_sound = determinant > 0.0 && xx > 0.0 && nees.is_finite();
        self.nees.add(if is_sound { nees } else { f64::INFINITY });
    }

    /// How many lie in the ellipse of 95 %, and how many there are.
    fn within(&self) -> (u64, u64) {
        let within = self.nees.0.iter().filter(|nees| **nees <= CHI2_95).count();
        (within as u64, self.nees.0.len() as u64)
    }

    fn put(&self, name: &str, metrics: &mut DriveMetrics) {
        let (within, count) = self.within();
        metrics.put(format!("calibration.{name}.nees"), self.nees.mean());
        metrics.put(format!("calibration.{name}.coverage_95"), part(within, count));
    }
}

/// All errors of the world model's objects.
#[derive(Default)]
struct Tally {
    /// Whether truth was there at all.
    is_known: bool,
    bins: [Bin; BINS_M.len()],
    /// Position errors by class.
    positions: [[Values; BINS_M.len()]; Class::ALL.len()],
    /// Range errors of the near ones, by source.
    sources: [Values; SOURCES.len()],
    near: Bin,
}

const SOURCES: [RangeSource; 3] = [RangeSource::Camera, RangeSource::Lidar, RangeSource::Radar];

impl Tally {
    fn add(&mut self, pair: &Pair, is_ego_known: bool, max_distance_m: f64) {
        let distance_m = libm::hypot(pair.facing_m[0], pair.facing_m[1]);
        let velocity = pair.velocity_error_mps().filter(|_| is_ego_known);
        let heading = pair.heading_error_rad().filter(|_| is_ego_known);
        let is_in = |[from, to]: &[u32; 2]| distance_m >= f64::from(*from) && distance_m < f64::from(*to);
        let number = BINS_M.iter().position(is_in);
        let bin = number.and_then(|number| self.bins.get_mut(number));
        let is_near = distance_m <= max_distance_m;
        let [x, y] = pair.error_m();
        let [along_m, across_m] = pair.along_and_across_m();
        let [xx, xy, _, _, yy, _, _, vxx, vxy, vyy] = pair.object.covariance;
        let class = pair.truth.class.and_then(|class| self.positions.get_mut(usize::from(class.number())));
        if let Some(errors) = class.zip(number).and_then(|(bins, number)| bins.get_mut(number)) {
            errors.add(libm::hypot(x, y));
        }
        for bin in bin.into_iter().chain(is_near.then_some(&mut self.near)) {
            bin.position.add(libm::hypot(x, y));
            bin.range.add(along_m);
            bin.lateral.add(across_m);
            velocity.iter().for_each(|[x, y]| bin.velocity.add(libm::hypot(*x, *y)));
            heading.iter().for_each(|heading| bin.heading.add(*heading));
            bin.position_calibration.add([x, y], [xx, xy, yy]);
            velocity.iter().for_each(|error| bin.velocity_calibration.add(*error, [vxx, vxy, vyy]));
        }
        if !is_near {
            return;
        }
        let by_source = SOURCES.iter().zip(&mut self.sources).find(|(source, _)| **source == pair.object.source);
        if let Some((_, errors)) = by_source {
            errors.add(along_m);
        }
    }

    fn put(&self, metrics: &mut DriveMetrics) {
        for ([from, to], bin) in BINS_M.iter().zip(&self.bins) {
            put_bin(&format!("world.range_{from:02}_{to:02}"), bin, self.is_known, metrics);
        }
        put_bin("world", &self.near, self.is_known, metrics);
        for (source, errors) in SOURCES.iter().zip(&self.sources) {
            let name = source_name(*source);
            metrics.put(format!("world.{name}.count"), self.is_known.then(|| errors.count()));
            metrics.put(format!("world.{name}.range_error_m.median"), errors.median());
            metrics.put(format!("world.{name}.range_error_m.bias"), errors.bias());
        }
        self.near.position_calibration.put("position", metrics);
        self.near.velocity_calibration.put("velocity", metrics);
    }

    /// All curves but that of the lead.
    fn curves(&self) -> ObjectCurves {
        let by_class = Class::ALL.iter().zip(&self.positions);
        let of_class = by_class.map(|(class, bins)| by_range(class.name(), bins.iter()));
        let has_any = |errors: &Errors| errors.spreads.iter().any(|spread| spread.median.is_some());
        let all = |of: fn(&Bin) -> &Values| by_range("all objects", self.bins.iter().map(of));
        let calibrated = |name: &str, of: fn(&Bin) -> &Calibration| Calibrated {
            name: name.to_owned(),
            coverage: middles_m().zip(&self.bins).map(|(at_m, bin)| coverage(at_m, of(bin))).collect(),
            nees: NeesHistogram::of(&of(&self.near).nees),
        };
        ObjectCurves {
            position_error_m: of_class.filter(has_any).collect(),
            velocity_error_mps: all(|bin| &bin.velocity),
            heading_error_rad: all(|bin| &bin.heading),
            calibration: vec![
                calibrated("position", |bin| &bin.position_calibration),
                calibrated("velocity", |bin| &bin.velocity_calibration),
            ],
            lead_range_m: Vec::new(),
        }
    }
}

/// Middles of [`BINS_M`].
fn middles_m() -> impl Iterator<Item = f64> {
    BINS_M.iter().map(|[from, to]| 0.5 * f64::from(from + to))
}

fn by_range<'a>(name: &str, bins: impl Iterator<Item = &'a Values>) -> Errors {
    let spreads = middles_m().zip(bins).map(|(at_m, errors)| Spread::of(at_m, errors));
    Errors { name: name.to_owned(), spreads: spreads.collect() }
}

fn coverage(at_m: f64, calibration: &Calibration) -> Coverage {
    let (within, count) = calibration.within();
    Coverage::of(at_m, within, count)
}

/// Distance of the lead over time.
#[derive(Default)]
struct Lead {
    true_m: Vec<[f64; 2]>,
    found_m: Vec<[f64; 2]>,
}

impl Lead {
    /// What the tick says of the body that truth has ahead. The true distance is that of the point that the object's
    /// position means, seen from the vehicle where no object stands for the lead.
    fn add(&mut self, time_s: f64, id: Option<u32>, placed: &[Placed], pairs: &[Pair]) {
        let is_lead = |placed: &Placed| id.is_some() && placed.id == id;
        let range_m = |[x, y]: [f64; 2]| libm::hypot(x, y);
        let (true_m, found_m) = match pairs.iter().find(|pair| is_lead(pair.truth)) {
            Some(pair) => (range_m(pair.facing_m), range_m(pair.object.position_m)),
            None => {
                let lead = placed.iter().find(|placed| is_lead(placed));
                (lead.map_or(f64::NAN, |lead| range_m(facing_point(lead.rectangle, [0.0; 2]))), f64::NAN)
            }
        };
        self.true_m.push([time_s, true_m]);
        self.found_m.push([time_s, found_m]);
    }

    fn curves(self) -> Vec<Curve> {
        if self.true_m.iter().all(|[_, range_m]| !range_m.is_finite()) {
            return Vec::new();
        }
        vec![Curve::new("truth", self.true_m), Curve::new("world model", self.found_m)]
    }
}

fn source_name(source: RangeSource) -> &'static str {
    match source {
        RangeSource::Camera => "camera",
        RangeSource::Lidar => "lidar",
        RangeSource::Radar => "radar",
    }
}

fn put_bin(prefix: &str, bin: &Bin, is_known: bool, metrics: &mut DriveMetrics) {
    metrics.put(format!("{prefix}.count"), is_known.then(|| bin.position.count()));
    metrics.put(format!("{prefix}.position_error_m.median"), bin.position.median());
    metrics.put(format!("{prefix}.position_error_m.p95"), bin.position.p95());
    metrics.put(format!("{prefix}.range_error_m.median"), bin.range.median());
    metrics.put(format!("{prefix}.range_error_m.bias"), bin.range.bias());
    metrics.put(format!("{prefix}.lateral_error_m.median"), bin.lateral.median());
    metrics.put(format!("{prefix}.velocity_error_mps.median"), bin.velocity.median());
    metrics.put(format!("{prefix}.heading_error_rad.median"), bin.heading.median());
}

/// Errors of the objects that a camera sees, by range and source, and their covariances. What has left the picture turns
/// another side to the camera than the one that was measured.
pub(super) fn errors(run: &Run, truth: &Truth, options: &Options, metrics: &mut DriveMetrics) -> ObjectCurves {
    let (mut tally, mut lead) = (Tally::default(), Lead::default());
    let mut assignment = Assignment::new(0);
    for tick in &run.ticks {
        let Some(placed) = truth.placed_at(tick.reference_ns) else { continue };
        tally.is_known = true;
        let seen = truth.seen_ids(tick.reference_ns, SEEN_NS, |name, seen| is_seen(run, name, seen));
        let pairs = pairs(run, tick, &placed, &mut assignment);
        let lead_id = nearest(&truth.ego, tick.reference_ns).map(|(_, ego)| ego.lead_id).filter(|id| *id != 0);
        lead.add(run.time_s(tick.reference_ns), lead_id, &placed, &pairs);
        for pair in pairs.iter().filter(|pair| is_visible(run, seen.as_ref(), pair.truth)) {
            tally.add(pair, tick.is_ego_known, options.max_distance_m);
        }
    }
    tally.put(metrics);
    ObjectCurves { lead_range_m: lead.curves(), ..tally.curves() }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_PI_2;

    use super::super::curves::MIN_COUNT;
    use super::*;
    use crate::truth::{TruthEgo, TruthMotion, TruthMotions, TruthObject, TruthObjects};

    /// A car 4 m long and 2 m wide with its rear 20 m ahead, at 10 m/s, and an object that is off by so much.
    fn drive(off_m: [f64; 2], off_mps: [f64; 2], variance: f64) -> (Run, Truth) {
        let object = Object {
            state: TrackState::Confirmed,
            source: RangeSource::Lidar,
            position_m: [20.0 + off_m[0], off_m[1]],
            velocity_mps: [10.0 + off_mps[0], off_mps[1]],
            covariance: [variance, 0.0, 0.0, 0.0, variance, 0.0, 0.0, variance, 0.0, variance],
            extent_m: [4.0, 2.0, 1.5],
            score: 0.9,
            sensor: u16::MAX,
            ..Object::default()
        };
        let tick = Tick { reference_ns: 1, objects: vec![object], is_ego_known: true, ..Tick::default() };
        let car = TruthObject {
            class: "car".to_owned(),
            placed: true,
            position_m: [22.0, 0.0, 0.75],
            extent_m: [4.0, 2.0, 1.5],
            ..TruthObject::default()
        };
        let motion = TruthMotion { id: 1, velocity_mps: [10.0, 0.0], ..TruthMotion::default() };
        let mut truth = Truth::default();
        truth.objects.insert(1, TruthObjects { objects: vec![car] });
        truth.motions.insert(1, TruthMotions { motions: vec![motion] });
        let cameras = vec![super::super::picture::tests::camera()];
        (Run { classes: vec![Some(Class::Car)], cameras, ticks: vec![tick] }, truth)
    }

    fn measured((run, truth): (Run, Truth)) -> DriveMetrics {
        let mut metrics = DriveMetrics::default();
        errors(&run, &truth, &Options::default(), &mut metrics);
        birds_eye(&run, &truth, &Options::default(), &mut metrics).unwrap();
        metrics
    }

    fn near(metrics: &DriveMetrics, name: &str, expected: f64) {
        let found = metrics.get(name);
        assert!(
            found.is_some_and(|found| (found - expected).abs() < 1e-9),
            "{name}: expected {expected}, found {found:?}"
        );
    }

    #[test]
    fn the_facing_point_lies_on_the_near_side() {
        let near = |found: [f64; 2], expected: [f64; 2]| {
            assert!(libm::hypot(found[0] - expected[0], found[1] - expected[1]) < 1e-9, "{found:?}");
        };
        near(facing_point([22.0, 0.0, 4.0, 2.0, 0.0], [0.0, 0.0]), [20.0, 0.0]);
        near(facing_point([22.0, 0.0, 4.0, 2.0, FRAC_PI_2], [2.0, 0.0]), [21.0, 0.0]);
        near(facing_point([0.0, 9.0, 4.0, 2.0, 0.0], [0.0, 0.0]), [0.0, 8.0]);
        near(facing_point([20.0, -6.0, 4.0, 2.0, 0.0], [0.0, 0.0]), [18.0, -6.0]);
    }

    #[test]
    fn errors_have_their_direction_and_their_bin() {
        let metrics = measured(drive([0.3, -0.4], [0.0, 10.0], 1.0));
        for prefix in ["world", "world.range_20_30"] {
            near(&metrics, &format!("{prefix}.count"), 1.0);
            near(&metrics, &format!("{prefix}.position_error_m.p95"), 0.5);
            near(&metrics, &format!("{prefix}.range_error_m.bias"), 0.3);
            near(&metrics, &format!("{prefix}.lateral_error_m.median"), 0.4);
            near(&metrics, &format!("{prefix}.velocity_error_mps.median"), 10.0);
            near(&metrics, &format!("{prefix}.heading_error_rad.median"), std::f64::consts::FRAC_PI_4);
        }
        near(&metrics, "world.lidar.range_error_m.median", 0.3);
        near(&metrics, "world.range_10_20.count", 0.0);
        assert_eq!(metrics.0["world.camera.range_error_m.median"], None);
    }

    #[test]
    fn what_is_beyond_the_gate_is_no_pair() {
        let metrics = measured(drive([4.1, 0.0], [0.0, 0.0], 1.0));
        near(&metrics, "world.count", 0.0);
        assert_eq!(metrics.get("calibration.position.coverage_95"), None);
    }

    #[test]
    fn covariances_are_held_to_their_word() {
        let metrics = measured(drive([0.3, -0.4], [1.0, 0.0], 0.1));
        near(&metrics, "calibration.position.nees", 2.5);
        near(&metrics, "calibration.position.coverage_95", 1.0);
        near(&metrics, "calibration.velocity.nees", 10.0);
        near(&metrics, "calibration.velocity.coverage_95", 0.0);
        let none = measured(drive([0.0, 0.0], [0.0, 0.0], 0.0));
        near(&none, "calibration.position.coverage_95", 0.0);
        assert_eq!(none.get("calibration.position.nees"), None);
    }

    #[test]
    fn curves_are_by_class_and_range() {
        let (mut run, truth) = drive([0.3, -0.4], [1.0, 0.0], 0.1);
        let curves = |run: &Run| errors(run, &truth, &Options::default(), &mut DriveMetrics::default());
        assert!(curves(&run).position_error_m.is_empty(), "one error has no percentile");
        let object = run.ticks[0].objects[0];
        run.ticks = (0..MIN_COUNT as i64)
            .map(|late_ns| Tick {
                reference_ns: 1 + late_ns,
                objects: vec![object],
                is_ego_known: true,
                ..Tick::default()
            })
            .collect();
        let found = curves(&run);
        let [cars] = found.position_error_m.as_slice() else { panic!("{found:?}") };
        let spread = cars.spreads[2];
        assert_eq!((cars.name.as_str(), spread.at_m, spread.count), ("car", 25.0, MIN_COUNT as u64));
        assert!((spread.p90.unwrap() - 0.5).abs() < 1e-9 && cars.spreads[1].p90.is_none());
        assert!((found.velocity_error_mps.spreads[2].median.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(found.calibration[0].coverage[2].part, Some(1.0));
        assert_eq!(found.calibration[1].coverage[2].part, Some(0.0));
        // a NEES of 2.5 each
        assert_eq!(found.calibration[0].nees.total(), MIN_COUNT as u64);
    }

    #[test]
    fn the_lead_is_the_one_of_truth() {
        let (run, mut truth) = drive([0.3, 0.0], [0.0, 0.0], 0.1);
        let lead = |truth: &Truth| errors(&run, truth, &Options::default(), &mut DriveMetrics::default()).lead_range_m;
        assert_eq!(lead(&truth), Vec::new());
        truth.ego.insert(1, TruthEgo { lead_id: 1, ..TruthEgo::default() });
        let found = lead(&truth);
        assert_eq!(found[0].points, [[0.0, 20.0]]);
        assert_eq!(found[1].points, [[0.0, 20.3]]);
    }

    #[test]
    fn rectangles_from_above_are_those_of_truth() {
        near(&measured(drive([0.0, 0.0], [0.0, 0.0], 1.0)), "birds_eye.car.ap40", 1.0);
        // 2 m of 4 are shared, a third of all
        near(&measured(drive([2.0, 0.0], [0.0, 0.0], 1.0)), "birds_eye.car.ap40", 0.0);
    }
}
