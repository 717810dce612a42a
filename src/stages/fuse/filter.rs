//! The filter: ego motion and objects, one measurement after another.
//!
//! Objects live in the odometry frame, which starts at the vehicle's first pose and stands still on the road; the
//! vehicle's pose in it is dead-reckoned from speed and yaw rate. Where no sensor tells how the vehicle moves, it is
//! taken to stand at the origin, and objects' velocities are relative to it. Each object is a Kalman filter over (x, y,
//! vx, vy) with constant velocity and white acceleration noise (Bar-Shalom, Estimation with Applications to Tracking and
//! Navigation, 2001, section 6.3.2).

use nalgebra::{Matrix2, Matrix2x4, Matrix4, Matrix4x2, Vector2, Vector4};

use super::measure::ObjectMeasurement;
use super::{KIND_OBJECTS, KIND_SPEED, KIND_YAW_RATE, Measurement};
use crate::messages::{EgoMotion, MAX_TRACKS, Object, RangeSource, TrackState, WorldModel};
use crate::record;
use crate::stages::track::assignment::Assignment;

/// Acceleration noise of objects, standard deviation.
pub const ACCELERATION_MPS2: f64 = 3.0;
/// Velocity of a new object, standard deviation.
pub const FIRST_VELOCITY_MPS: f64 = 8.0;
/// Squared Mahalanobis distance in two dimensions that 99 % of true pairs stay below.
pub const GATE: f64 = 9.21;
/// The same for a pair that the camera has already linked.
pub const LINKED_GATE: f64 = 30.0;
/// What a lidar's place of an object is off by in all scans alike, standard deviation in x and in y: the side that was
/// taken for its face, the shape behind the points. It does not average out, so the filter does not know of it; it is
/// added to what is reported.
pub const LIDAR_BIAS_M: f64 = 0.27;
/// Measurements that make an object believed, when its velocity is known to [`BELIEVED_VELOCITY_MPS`].
pub const BELIEVED_HITS: u32 = 3;
/// See [`BELIEVED_HITS`].
pub const BELIEVED_VELOCITY_MPS: f64 = 4.0;
/// How long a believed object is kept without a measurement.
pub const COAST_NS: i64 = 800_000_000;
/// The same for one that is not believed.
pub const TENTATIVE_NS: i64 = 300_000_000;
/// For how long a source of ego motion silences worse ones.
pub const SOURCE_NS: i64 = 500_000_000;

record! {
    /// One quantity of ego motion.
    #[derive(Copy)]
    pub struct EgoQuantity {
        /// Newest value.
        pub value: f64,
        /// Its change per second, smoothed.
        pub rate: f64,
        /// Its stamp; 0 before the first.
        pub stamp_ns: i64,
        /// Its source's priority.
        pub priority: u8,
    }

    /// One object.
    #[derive(Copy)]
    pub struct FusedTrack {
        /// Number.
        pub id: u32,
        /// Class index of the last measurement.
        pub class: u16,
        /// Whether it is believed.
        pub confirmed: bool,
        /// x, y, vx, vy in the odometry frame.
        pub state: [f64; 4],
        /// Upper triangle of the covariance, row by row.
        pub covariance: [f64; 10],
        /// Length, width, height.
        pub extent_m: [f32; 3],
        /// Last score.
        pub score: f32,
        /// Measurements.
        pub hits: u32,
        /// Stamp of the last one.
        pub seen_ns: i64,
        /// Its source.
        pub source: RangeSource,
        /// The camera that saw it last.
        pub sensor: u16,
        /// Its track number there.
        pub camera_track: u32,
    }

    /// All that the filter knows.
    pub struct FilterState {
        /// Time of the last measurement; 0 before the first.
        pub time_ns: i64,
        /// Forward speed.
        pub speed: EgoQuantity,
        /// Yaw rate.
        pub yaw_rate: EgoQuantity,
        /// Vehicle pose in the odometry frame: x, y, yaw.
        pub pose: [f64; 3],
        /// Last number given.
        pub last_id: u32,
        /// Objects by number.
        pub tracks: heapless::Vec<FusedTrack, MAX_TRACKS>,
    }
}

impl FilterState {
    /// Sees to it that no number of an object here is given again, even if a log has damaged the state.
    pub fn keep_ids(&mut self) {
        let highest = self.tracks.iter().map(|track| track.id).max().unwrap_or(0);
        self.last_id = self.last_id.max(highest);
    }
}

/// Applies measurements to states. Holds nothing but buffers and settings.
pub struct ObjectFilter {
    assignment: Assignment,
    /// Distance of the front bumper from the vehicle's origin.
    front_m: f64,
    half_width_m: f64,
    free_tracks: Vec<usize>,
    free_objects: Vec<usize>,
    track_of: Vec<Option<usize>>,
}

impl ObjectFilter {
    /// For a vehicle whose front bumper is this far ahead of its origin, and this wide to either side.
    pub fn new(front_m: f64, half_width_m: f64) -> Self {
        ObjectFilter {
            assignment: Assignment::new(MAX_TRACKS),
            front_m,
            half_width_m,
            free_tracks: Vec::with_capacity(MAX_TRACKS),
            free_objects: Vec::with_capacity(MAX_TRACKS),
            track_of: Vec::with_capacity(MAX_TRACKS),
        }
    }

    /// Takes one measurement in. Measurements come in order of their stamps.
    pub fn apply(&mut self, state: &mut FilterState, measurement: &Measurement) {
        predict(state, measurement.stamp_ns);
        match measurement.kind {
            KIND_SPEED => take_quantity(&mut state.speed, measurement),
            KIND_YAW_RATE => take_quantity(&mut state.yaw_rate, measurement),
            KIND_OBJECTS => self.take_objects(state, measurement),
            _ => {}
        }
    }

    fn take_objects(&mut self, state: &mut FilterState, measurement: &Measurement) {
        let (stamp_ns, sensor) = (measurement.stamp_ns, measurement.sensor);
        let objects = &measurement.objects;
        // before anything is paired: what is forgotten does not come back to life
        state.tracks.retain(|track| !is_forgotten(track, stamp_ns));
        self.associate(state, sensor, objects);
        for (object, track) in objects.iter().zip(&self.track_of) {
            if let Some(track) = track.and_then(|track| state.tracks.get_mut(track)) {
                correct(track, &state.pose, object, sensor, stamp_ns);
            }
        }
        for (object, track) in objects.iter().zip(&self.track_of) {
            if track.is_some() || !object.confirmed || state.tracks.is_full() {
                continue;
            }
            // no number is given twice, so after the last one nothing begins
            let Some(id) = state.last_id.checked_add(1) else { return };
            state.last_id = id;
            let _ = state.tracks.push(begin(id, state, object, sensor, stamp_ns));
        }
    }

    /// Fills `track_of`: pairs that the camera linked before come first, then the cheapest pairing of the rest.
    fn associate(&mut self, state: &FilterState, sensor: u16, objects: &[ObjectMeasurement]) {
        self.track_of.clear();
        self.track_of.resize(objects.len(), None);
        self.free_tracks.clear();
        self.free_objects.clear();
        for (index, track) in state.tracks.iter().enumerate() {
            let linked = objects
                .iter()
                .position(|object| track.sensor == sensor && track.camera_track == object.camera_track)
                .filter(|&object| distance(track, &state.pose, &objects[object]) < LINKED_GATE);
            match linked {
                Some(object) if self.track_of[object].is_none() => self.track_of[object] = Some(index),
                _ => self.free_tracks.push(index),
            }
        }
        self.free_objects.extend((0..objects.len()).filter(|&object| self.track_of[object].is_none()));
        let (free_tracks, free_objects) = (&self.free_tracks, &self.free_objects);
        let cost = |row: usize, column: usize| {
            let track = state.tracks.get(*free_tracks.get(row)?)?;
            let object = objects.get(*free_objects.get(column)?)?;
            let away = distance(track, &state.pose, object);
            // a millionth of the gate is far below what could matter, and whole numbers tie the same everywhere
            (away < GATE).then_some((away * 1e6) as u32)
        };
        let pairs = self.assignment.solve(free_tracks.len(), free_objects.len(), cost);
        for (row, column) in pairs.iter().enumerate() {
            let Some(object) = column.and_then(|column| self.free_objects.get(column)) else { continue };
            self.track_of[*object] = self.free_tracks.get(row).copied();
        }
    }

    /// Writes ego motion and objects, predicted to `reference_ns`, in the vehicle frame of that time.
    pub fn report(&self, state: &FilterState, reference_ns: i64, world: &mut WorldModel) {
        let step_s = seconds(reference_ns.saturating_sub(state.time_ns)).clamp(-1.0, 1.0);
        let step_s = if state.time_ns == 0 { 0.0 } else { step_s };
        let pose = move_pose(state.pose, state.speed.value, state.yaw_rate.value, step_s);
        let known = state.speed.stamp_ns > 0;
        world.ego = EgoMotion {
            known,
            speed_mps: state.speed.value,
            yaw_rate_radps: state.yaw_rate.value,
            acceleration_mps2: state.speed.rate,
            age_ns: if known { reference_ns.saturating_sub(state.speed.stamp_ns) } else { 0 },
            odometry: pose,
        };
        let (sin, cos) = (libm::sin(pose[2]), libm::cos(pose[2]));
        world.objects.clear();
        // a camera that has died brings no measurement that would remove what it saw
        for track in state.tracks.iter().filter(|track| !is_forgotten(track, reference_ns)) {
            let [x, y, vx, vy] = track.state;
            let (dx, dy) = (x + vx * step_s - pose[0], y + vy * step_s - pose[1]);
            let turned = Matrix4::new(
                cos, sin, 0.0, 0.0, //
                -sin, cos, 0.0, 0.0, //
                0.0, 0.0, cos, sin, //
                0.0, 0.0, -sin, cos,
            );
            let mut covariance = unpack(&track.covariance);
            if step_s > 0.0 {
                covariance = transition(step_s) * covariance * transition(step_s).transpose() + noise(step_s);
            }
            if track.source == RangeSource::Lidar {
                covariance[(0, 0)] += LIDAR_BIAS_M * LIDAR_BIAS_M;
                covariance[(1, 1)] += LIDAR_BIAS_M * LIDAR_BIAS_M;
            }
            let position_m = [cos * dx + sin * dy, -sin * dx + cos * dy];
            let velocity_mps = [cos * vx + sin * vy, -sin * vx + cos * vy];
            let age_ns = reference_ns.saturating_sub(track.seen_ns);
            let gap_m = position_m[0] - self.front_m;
            let closing_mps = if known { state.speed.value } else { 0.0 } - velocity_mps[0];
            // what passes beside the vehicle closes its gap without a collision
            let reach_m = self.half_width_m + 0.5 * f64::from(track.extent_m[1]);
            let is_in_the_way = position_m[1].abs() < reach_m;
            let object = Object {
                id: track.id,
                class: track.class,
                state: match (track.confirmed, age_ns > TENTATIVE_NS / 2) {
                    (false, _) => TrackState::Tentative,
                    (true, false) => TrackState::Confirmed,
                    (true, true) => TrackState::Coasting,
                },
                source: track.source,
                position_m,
                velocity_mps,
                covariance: pack(&(turned * covariance * turned.transpose())),
                extent_m: track.extent_m,
                score: track.score,
                age_ns,
                hits: track.hits,
                time_to_collision_s: if is_in_the_way { time_to_collision(gap_m, closing_mps) } else { f32::INFINITY },
                sensor: track.sensor,
                camera_track: track.camera_track,
            };
            let _ = world.objects.push(object);
        }
    }
}

/// Whether a track has gone without a measurement for too long.
fn is_forgotten(track: &FusedTrack, now_ns: i64) -> bool {
    let patience_ns = if track.confirmed { COAST_NS } else { TENTATIVE_NS };
    now_ns.saturating_sub(track.seen_ns) > patience_ns
}

/// Time until a gap closes; infinite when it does not, 0 when it has.
pub fn time_to_collision(gap_m: f64, closing_mps: f64) -> f32 {
    if closing_mps <= 0.1 || gap_m < -5.0 {
        return f32::INFINITY;
    }
    (gap_m.max(0.0) / closing_mps) as f32
}

fn seconds(ns: i64) -> f64 {
    ns as f64 * 1e-9
}

/// Carries everything on to `stamp_ns`. Ego motion goes on as it was.
fn predict(state: &mut FilterState, stamp_ns: i64) {
    let step_s = seconds(stamp_ns.saturating_sub(state.time_ns));
    if state.time_ns == 0 || step_s <= 0.0 {
        state.time_ns = state.time_ns.max(stamp_ns);
        return;
    }
    state.time_ns = stamp_ns;
    state.pose = move_pose(state.pose, state.speed.value, state.yaw_rate.value, step_s);
    let transition = transition(step_s);
    for track in &mut state.tracks {
        let covariance = transition * unpack(&track.covariance) * transition.transpose() + noise(step_s);
        track.state = (transition * Vector4::from(track.state)).into();
        track.covariance = pack(&covariance);
    }
}

/// Moves a pose along a circular arc, by its chord.
fn move_pose([x, y, yaw]: [f64; 3], speed_mps: f64, yaw_rate_radps: f64, step_s: f64) -> [f64; 3] {
    let middle = yaw + 0.5 * yaw_rate_radps * step_s;
    let way = speed_mps * step_s;
    [x + way * libm::cos(middle), y + way * libm::sin(middle), yaw + yaw_rate_radps * step_s]
}

fn take_quantity(quantity: &mut EgoQuantity, measurement: &Measurement) {
    let age_ns = measurement.stamp_ns.saturating_sub(quantity.stamp_ns);
    if quantity.stamp_ns > 0 && measurement.priority < quantity.priority && age_ns < SOURCE_NS {
        return;
    }
    let step_s = seconds(age_ns);
    if quantity.stamp_ns > 0 && step_s > 1e-3 && measurement.priority == quantity.priority {
        // first-order low pass with a time constant of 0.3 s
        let share = step_s / (0.3 + step_s);
        quantity.rate += share * ((measurement.value - quantity.value) / step_s - quantity.rate);
    }
    quantity.value = measurement.value;
    quantity.stamp_ns = measurement.stamp_ns;
    quantity.priority = measurement.priority;
}

fn transition(step_s: f64) -> Matrix4<f64> {
    let mut transition = Matrix4::identity();
    transition[(0, 2)] = step_s;
    transition[(1, 3)] = step_s;
    transition
}

/// Discrete white acceleration noise, the same in x and y.
fn noise(step_s: f64) -> Matrix4<f64> {
    let variance = ACCELERATION_MPS2 * ACCELERATION_MPS2;
    let (t2, t3, t4) = (step_s * step_s, step_s * step_s * step_s, step_s * step_s * step_s * step_s);
    let (pp, pv, vv) = (variance * t4 / 4.0, variance * t3 / 2.0, variance * t2);
    Matrix4::new(
        pp, 0.0, pv, 0.0, //
        0.0, pp, 0.0, pv, //
        pv, 0.0, vv, 0.0, //
        0.0, pv, 0.0, vv,
    )
}

/// A measurement in the odometry frame: place and covariance.
fn in_odometry(pose: &[f64; 3], object: &ObjectMeasurement) -> (Vector2<f64>, Matrix2<f64>) {
    let (sin, cos) = (libm::sin(pose[2]), libm::cos(pose[2]));
    let turn = Matrix2::new(cos, -sin, sin, cos);
    let [xx, xy, yy] = object.covariance_m2;
    let place = turn * Vector2::from(object.position_m) + Vector2::new(pose[0], pose[1]);
    (place, turn * Matrix2::new(xx, xy, xy, yy) * turn.transpose())
}

/// What a measurement would change: the difference, the inverse of its covariance, and the gain.
fn innovation(track: &FusedTrack, pose: &[f64; 3], object: &ObjectMeasurement) -> Option<Innovation> {
    let (place, spread) = in_odometry(pose, object);
    let covariance = unpack(&track.covariance);
    let seen: Matrix2x4<f64> = covariance.fixed_rows::<2>(0).into_owned();
    let sum = seen.fixed_columns::<2>(0) + spread;
    let determinant = sum[(0, 0)] * sum[(1, 1)] - sum[(0, 1)] * sum[(1, 0)];
    // NaN fails this too
    if !(determinant > 0.0 && determinant.is_finite()) {
        return None;
    }
    let inverse = Matrix2::new(sum[(1, 1)], -sum[(0, 1)], -sum[(1, 0)], sum[(0, 0)]) / determinant;
    let difference = place - Vector2::new(track.state[0], track.state[1]);
    Some(Innovation { difference, inverse, gain: seen.transpose() * inverse, seen, covariance })
}

struct Innovation {
    difference: Vector2<f64>,
    inverse: Matrix2<f64>,
    gain: Matrix4x2<f64>,
    seen: Matrix2x4<f64>,
    covariance: Matrix4<f64>,
}

/// Squared Mahalanobis distance; infinite where there is none.
fn distance(track: &FusedTrack, pose: &[f64; 3], object: &ObjectMeasurement) -> f64 {
    let distance = innovation(track, pose, object).map(|i| i.difference.dot(&(i.inverse * i.difference)));
    distance.filter(|distance| distance.is_finite()).unwrap_or(f64::INFINITY)
}

fn correct(track: &mut FusedTrack, pose: &[f64; 3], object: &ObjectMeasurement, sensor: u16, stamp_ns: i64) {
    let Some(innovation) = innovation(track, pose, object) else { return };
    let state = Vector4::from(track.state) + innovation.gain * innovation.difference;
    let covariance = innovation.covariance - innovation.gain * innovation.seen;
    track.state = state.into();
    track.covariance = pack(&covariance);
    track.hits = track.hits.saturating_add(1);
    for (kept, new) in track.extent_m.iter_mut().zip(object.extent_m) {
        *kept += 0.3 * (new - *kept);
    }
    track.class = object.class;
    track.score = object.score;
    track.seen_ns = stamp_ns;
    track.source = object.source;
    track.sensor = sensor;
    track.camera_track = object.camera_track;
    let slowest = covariance[(2, 2)].max(covariance[(3, 3)]);
    track.confirmed |= track.hits >= BELIEVED_HITS && slowest < BELIEVED_VELOCITY_MPS * BELIEVED_VELOCITY_MPS;
}

fn begin(id: u32, state: &FilterState, object: &ObjectMeasurement, sensor: u16, stamp_ns: i64) -> FusedTrack {
    let (place, spread) = in_odometry(&state.pose, object);
    let velocity = FIRST_VELOCITY_MPS * FIRST_VELOCITY_MPS;
    let mut covariance = Matrix4::from_diagonal(&Vector4::new(0.0, 0.0, velocity, velocity));
    covariance.fixed_view_mut::<2, 2>(0, 0).copy_from(&spread);
    FusedTrack {
        id,
        class: object.class,
        confirmed: false,
        state: [place.x, place.y, 0.0, 0.0],
        covariance: pack(&covariance),
        extent_m: object.extent_m,
        score: object.score,
        hits: 1,
        seen_ns: stamp_ns,
        source: object.source,
        sensor,
        camera_track: object.camera_track,
    }
}

/// The upper triangle, row by row, of the symmetric part.
fn pack(matrix: &Matrix4<f64>) -> [f64; 10] {
    let mut packed = [0.0; 10];
    let upper = (0..4).flat_map(|row| (row..4).map(move |column| (row, column)));
    for (value, (row, column)) in packed.iter_mut().zip(upper) {
        *value = 0.5 * (matrix[(row, column)] + matrix[(column, row)]);
    }
    packed
}

fn unpack(packed: &[f64; 10]) -> Matrix4<f64> {
    let [a, b, c, d, e, f, g, h, i, j] = *packed;
    Matrix4::new(a, b, c, d, b, e, f, g, c, f, h, i, d, g, i, j)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::fuse::{Fusion, KIND_SPEED};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn speed(stamp_ms: i64, value: f64) -> Measurement {
        let sequence = stamp_ms as u32;
        Measurement {
            stamp_ns: stamp_ms * MS,
            sensor: 9,
            sequence,
            kind: KIND_SPEED,
            value,
            priority: 2,
            ..Measurement::default()
        }
    }

    fn object(x: f64, y: f64, camera_track: u32) -> ObjectMeasurement {
        ObjectMeasurement {
            position_m: [x, y],
            covariance_m2: [0.01, 0.0, 0.02],
            extent_m: [4.5, 1.8, 1.5],
            class: 2,
            score: 0.9,
            camera_track,
            confirmed: true,
            source: RangeSource::Lidar,
        }
    }

    fn objects(stamp_ms: i64, objects: Vec<ObjectMeasurement>) -> Measurement {
        Measurement {
            stamp_ns: stamp_ms * MS,
            sequence: stamp_ms as u32,
            kind: KIND_OBJECTS,
            objects,
            ..Measurement::default()
        }
    }

    /// A car 20 m ahead at 8 m/s, seen from a vehicle at 10 m/s in a slight left turn.
    fn drive() -> Vec<Measurement> {
        let mut all = Vec::new();
        for i in 1..=20i64 {
            let t = i as f64 * 0.05;
            all.push(speed(50 * i, 10.0));
            let yaw_rate = Measurement { kind: KIND_YAW_RATE, value: 0.02, ..speed(50 * i + 3, 0.0) };
            all.push(yaw_rate);
            all.push(objects(50 * i + 7, vec![object(20.0 - 2.0 * t, 0.3, 4), object(35.0, -3.0 - 0.1 * t, 7)]));
        }
        all
    }

    fn run(measurements: &[Measurement]) -> (FilterState, usize) {
        let mut fusion = Fusion::new(ObjectFilter::new(3.7, 0.9), 3, 4);
        let mut left_out = 0;
        let mut now = 0;
        for measurement in measurements {
            now = now.max(measurement.stamp_ns);
            left_out += usize::from(!fusion.add(measurement.clone()));
            fusion.settle(now);
        }
        fusion.settle(now);
        (fusion.current().clone(), left_out)
    }

    #[test]
    fn a_lead_car_is_followed_over_ground() {
        let (state, _) = run(&drive());
        let mut world = WorldModel::default();
        ObjectFilter::new(3.7, 0.9).report(&state, state.time_ns, &mut world);
        assert_eq!(world.objects.len(), 2);
        let lead = world.objects.iter().find(|object| object.camera_track == 4).unwrap();
        assert_eq!(lead.state, TrackState::Confirmed);
        assert!((lead.position_m[0] - 18.0).abs() < 0.3, "{:?}", lead.position_m);
        assert!((lead.velocity_mps[0] - 8.0).abs() < 1.0, "{:?}", lead.velocity_mps);
        let expected = (lead.position_m[0] - 3.7) / (10.0 - lead.velocity_mps[0]);
        assert!((f64::from(lead.time_to_collision_s) - expected).abs() < 1e-3);
        assert!(world.ego.known && (world.ego.odometry[2] - 0.02).abs() < 0.002);
    }

    proptest! {
        #[test]
        fn late_measurements_inside_the_horizon_give_the_bits_of_the_right_order(swaps in proptest::collection::vec((0usize..59, 1usize..12), 0..30)) {
            let in_order = drive();
            let mut shuffled = in_order.clone();
            for (at, by) in swaps {
                let to = (at + by).min(shuffled.len() - 1);
                // at most 12 places, which is 250 ms; nothing moves twice as far as the horizon
                if (shuffled[at].stamp_ns - in_order[at].stamp_ns).abs() < 100 * MS && (shuffled[to].stamp_ns - in_order[to].stamp_ns).abs() < 100 * MS {
                    shuffled.swap(at, to);
                }
            }
            let (expected, _) = run(&in_order);
            let (got, left_out) = run(&shuffled);
            prop_assert_eq!(left_out, 0);
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_lies_behind_the_horizon_is_left_out_and_said() {
        let mut late = drive();
        late.push(objects(100, vec![object(5.0, 5.0, 99)]));
        let (state, left_out) = run(&late);
        assert_eq!(left_out, 1);
        assert_eq!(state, run(&drive()).0);
    }

    #[test]
    fn a_better_source_silences_a_worse_one() {
        let mut state = FilterState::default();
        let mut filter = ObjectFilter::new(3.7, 0.9);
        filter.apply(&mut state, &speed(100, 10.0));
        filter.apply(&mut state, &Measurement { priority: 1, ..speed(200, 3.0) });
        assert_eq!(state.speed.value, 10.0);
        filter.apply(&mut state, &Measurement { priority: 1, ..speed(700, 3.0) });
        assert_eq!(state.speed.value, 3.0);
    }

    #[test]
    fn what_is_forgotten_does_not_come_back_to_life() {
        let mut state = FilterState::default();
        let mut filter = ObjectFilter::new(3.7, 0.9);
        for i in 1..=10 {
            filter.apply(&mut state, &objects(100 * i, vec![object(20.0, 0.0, 4)]));
        }
        assert!(state.tracks[0].confirmed);
        // the camera's track is the same and the place is near, but nobody has seen the object for too long
        filter.apply(&mut state, &objects(1000 + COAST_NS / MS + 1, vec![object(20.0, 0.0, 4)]));
        assert_eq!(state.tracks.len(), 1);
        assert_eq!((state.tracks[0].id, state.tracks[0].hits, state.tracks[0].confirmed), (2, 1, false));
    }

    #[test]
    fn after_the_last_number_nothing_begins() {
        let mut state = FilterState { last_id: u32::MAX - 1, ..FilterState::default() };
        let mut filter = ObjectFilter::new(3.7, 0.9);
        filter.apply(&mut state, &objects(100, vec![object(20.0, 0.0, 4), object(40.0, 0.0, 5)]));
        assert_eq!((state.tracks.len(), state.last_id), (1, u32::MAX));
    }

    #[test]
    fn strange_measurements_do_no_harm() {
        let mut state = FilterState::default();
        let mut filter = ObjectFilter::new(3.7, 0.9);
        for value in [f64::NAN, f64::INFINITY, 1e300] {
            let mut strange = object(value, value, 1);
            strange.covariance_m2 = [value, value, value];
            filter.apply(&mut state, &objects(100, vec![strange, object(10.0, 0.0, 2)]));
            filter.apply(&mut state, &objects(50, vec![strange]));
        }
        let mut world = WorldModel::default();
        filter.report(&state, i64::MAX, &mut world);
        assert!(state.tracks.iter().any(|track| track.state.iter().all(|value| value.is_finite())));
    }
}
