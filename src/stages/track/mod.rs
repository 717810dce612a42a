//! Follows objects through the pictures of one camera: [`CameraDetections`] in, [`CameraTracks`] out, tick by tick.
//!
//! The method is ByteTrack's (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
//! ECCV 2022): boxes are predicted to the picture's stamp ([`kalman`]) and paired with detections by overlap
//! ([`assignment`]), strong detections first; weak ones then keep tracks alive but begin none; tentative tracks get what
//! strong ones are left; and each strong detection that still has no track begins one.
//!
//! Promised: the result depends on the set of detections and not on their order; nothing is allocated after
//! construction; no input panics. Detections that are no boxes, or whose score is not a number, are left out. When a
//! stamp does not lie behind the one before, no time passes. Numbers of tracks start at 1 and are never used again.

pub mod assignment;
pub mod kalman;
pub mod stage;

use std::cmp::Ordering;

use crate::messages::{
    BoxPx, CameraDetections, CameraTrack, CameraTracks, Detection, MAX_DETECTIONS, MAX_TRACKS, TrackState,
};
use crate::record;

use assignment::Assignment;
use kalman::{BoxFilter, BoxNoise};

/// Version of [`TrackerState`]'s layout.
pub const STATE_VERSION: u32 = 1;

/// Steps into which an overlap of 0 to 1 is divided, so that costs are whole numbers.
const COST_STEPS: f32 = 1_048_576.0;

/// What may be tuned. The defaults suit 10 to 30 pictures a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackerSettings {
    /// Detections of at least this score are strong. Default 0.5.
    pub high_score: f32,
    /// Detections below this score are not looked at. Default 0.1.
    pub low_score: f32,
    /// Strong detections need at least this score to begin a track. Default 0.6.
    pub new_score: f32,
    /// Least overlap (IoU) of a believed track with a strong detection. Default 0.3.
    pub min_iou_high: f32,
    /// Least overlap of a believed track with a weak detection. Default 0.5.
    pub min_iou_low: f32,
    /// Least overlap of a tentative track with a strong detection. Default 0.3.
    pub min_iou_tentative: f32,
    /// Whether a track only takes detections of its own class; else its class is that of its last detection.
    /// Default true.
    pub same_class_only: bool,
    /// Pictures in a row that must show an object before it is believed. Default 3.
    pub min_hits: u32,
    /// Objects that begin in the first pictures of a run, this many, are believed at once. Default 3.
    pub warm_up_pictures: u32,
    /// How long a believed track is kept without a detection. Default 1 s.
    pub max_coast_s: f64,
    /// Noise of the filter. Default: acceleration 2 heights/s^2, detection 0.05 heights, first velocity 0.5 heights/s.
    pub noise: BoxNoise,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        TrackerSettings {
            high_score: 0.5,
            low_score: 0.1,
            new_score: 0.6,
            min_iou_high: 0.3,
            min_iou_low: 0.5,
            min_iou_tentative: 0.3,
            same_class_only: true,
            min_hits: 3,
            warm_up_pictures: 3,
            max_coast_s: 1.0,
            noise: BoxNoise { acceleration_per_s2: 2.0, detection: 0.05, first_velocity_per_s: 0.5 },
        }
    }
}

record! {
    /// What is remembered of one track.
    #[derive(Copy)]
    pub struct TrackMemory {
        /// Number of the track.
        pub id: u32,
        /// Class index.
        pub class: u16,
        /// Whether the track is believed; it stays so.
        pub confirmed: bool,
        /// Score of the last detection.
        pub score: f32,
        /// Pictures with a detection.
        pub hits: u32,
        /// Pictures since the last detection.
        pub misses: u32,
        /// Pictures since the track began.
        pub age_ticks: u32,
        /// Time since the last detection.
        pub unseen_ns: i64,
        /// The box detected in the last picture; all zero where there was none.
        pub detected_px: BoxPx,
        /// The filtered box.
        pub filter: BoxFilter,
    }

    /// All that a tracker remembers between ticks.
    pub struct TrackerState {
        /// Pictures so far.
        pub pictures: u32,
        /// Stamp of the last picture; of no meaning before the first.
        pub last_stamp_ns: i64,
        /// The last number given to a track; 0 before the first.
        pub last_id: u32,
        /// Tracks by number.
        pub tracks: heapless::Vec<TrackMemory, MAX_TRACKS>,
    }
}

/// A detection of this picture, and whether a track has it.
struct Candidate {
    detection: Detection,
    taken: bool,
}

/// Follows the objects of one camera. See the [module](self) for what it promises.
pub struct CameraTracker {
    settings: TrackerSettings,
    state: TrackerState,
    assignment: Assignment,
    /// Strongest first.
    candidates: heapless::Vec<Candidate, MAX_DETECTIONS>,
}

impl CameraTracker {
    /// A tracker that has seen nothing.
    pub fn new(settings: TrackerSettings) -> Self {
        CameraTracker {
            settings,
            state: TrackerState::default(),
            assignment: Assignment::new(MAX_TRACKS.max(MAX_DETECTIONS)),
            candidates: heapless::Vec::new(),
        }
    }

    /// All that the tracker remembers.
    pub fn state(&self) -> &TrackerState {
        &self.state
    }

    /// Goes on from a state of [`STATE_VERSION`] as the tracker that gave it would have.
    pub fn restore(&mut self, state: TrackerState) {
        self.state = state;
        // even a damaged state must not bring a number back to life
        let highest = self.state.tracks.iter().map(|track| track.id).max().unwrap_or(0);
        self.state.last_id = self.state.last_id.max(highest);
    }

    /// Takes one tick in and says where its tracks stand.
    ///
    /// Without a picture nothing is known to have happened: nothing is counted, boxes and the stamp stay those of the
    /// last picture, and believed tracks are reported as coasting. At most [`MAX_TRACKS`] tracks are kept; where there
    /// is no room, the weakest detections begin none.
    pub fn update(&mut self, seen: &CameraDetections, out: &mut CameraTracks) {
        if seen.present {
            self.advance(seen.stamp_ns);
            self.choose_candidates(&seen.objects);
            self.associate();
            self.confirm_or_forget();
            self.begin_tracks();
        }
        self.report(seen, out);
    }

    /// Predicts all tracks to a new picture, and forgets those unseen for too long.
    fn advance(&mut self, stamp_ns: i64) {
        let first = self.state.pictures == 0;
        let passed_ns = if first { 0 } else { stamp_ns.saturating_sub(self.state.last_stamp_ns).max(0) };
        let passed_s = seconds(passed_ns);
        let settings = &self.settings;
        self.state.last_stamp_ns = stamp_ns;
        self.state.pictures = self.state.pictures.saturating_add(1);
        self.state.tracks.retain_mut(|track| {
            track.misses = track.misses.saturating_add(1);
            track.age_ticks = track.age_ticks.saturating_add(1);
            track.unseen_ns = track.unseen_ns.saturating_add(passed_ns);
            track.detected_px = BoxPx::default();
            track.filter.predict(passed_s, &settings.noise);
            seconds(track.unseen_ns) <= settings.max_coast_s && track.filter.box_px().is_sound()
        });
    }

    fn choose_candidates(&mut self, objects: &[Detection]) {
        self.candidates.clear();
        for object in objects {
            if object.box_px.is_sound() && object.score >= self.settings.low_score {
                let detection = Detection { score: object.score.min(1.0), ..*object };
                // as many fit as a message holds
                let _ = self.candidates.push(Candidate { detection, taken: false });
            }
        }
        self.candidates.sort_unstable_by(|a, b| strongest_first(&a.detection, &b.detection));
    }

    fn associate(&mut self) {
        let TrackerSettings { high_score, min_iou_high, min_iou_low, min_iou_tentative, .. } = self.settings;
        let strong = |detection: &Detection| detection.score >= high_score;
        self.pair(|track| track.confirmed, strong, min_iou_high);
        // only what was there a picture ago: an older prediction is too vague for a weak detection
        self.pair(|track| track.confirmed && track.misses == 1, |detection| !strong(detection), min_iou_low);
        self.pair(|track| !track.confirmed, strong, min_iou_tentative);
    }

    /// Pairs those tracks and detections that are still alone and asked for.
    fn pair(&mut self, of: impl Fn(&TrackMemory) -> bool, with: impl Fn(&Detection) -> bool, min_iou: f32) {
        let mut rows: heapless::Vec<usize, MAX_TRACKS> = heapless::Vec::new();
        for (index, track) in self.state.tracks.iter().enumerate() {
            if track.misses > 0 && of(track) {
                let _ = rows.push(index);
            }
        }
        let mut columns: heapless::Vec<usize, MAX_DETECTIONS> = heapless::Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            if !candidate.taken && with(&candidate.detection) {
                let _ = columns.push(index);
            }
        }
        let same_class_only = self.settings.same_class_only;
        let tracks = &mut self.state.tracks;
        let candidates = &mut self.candidates;
        let pairs = self.assignment.solve(rows.len(), columns.len(), |row, column| {
            let track = &tracks[rows[row]];
            let detection = &candidates[columns[column]].detection;
            let possible = !same_class_only || track.class == detection.class;
            if possible { pair_cost(&track.filter.box_px(), &detection.box_px, min_iou) } else { None }
        });
        for (&row, column) in rows.iter().zip(pairs) {
            if let Some(column) = *column {
                let candidate = &mut candidates[columns[column]];
                candidate.taken = true;
                tracks[row].take(&candidate.detection, &self.settings.noise);
            }
        }
    }

    fn confirm_or_forget(&mut self) {
        let min_hits = self.settings.min_hits;
        self.state.tracks.retain_mut(|track| {
            track.confirmed |= track.hits >= min_hits;
            track.confirmed || track.misses == 0
        });
    }

    fn begin_tracks(&mut self) {
        let believed = self.state.pictures <= self.settings.warm_up_pictures || self.settings.min_hits <= 1;
        let min_score = self.settings.new_score.max(self.settings.high_score);
        for candidate in &self.candidates {
            if candidate.taken || candidate.detection.score < min_score {
                continue;
            }
            let Some(id) = self.state.last_id.checked_add(1) else {
                return;
            };
            let track = TrackMemory::begun(id, believed, &candidate.detection, &self.settings.noise);
            if self.state.tracks.push(track).is_err() {
                return;
            }
            self.state.last_id = id;
        }
    }

    fn report(&self, seen: &CameraDetections, out: &mut CameraTracks) {
        out.sensor = seen.sensor;
        out.stamp_ns = self.state.last_stamp_ns;
        out.tracks.clear();
        for track in &self.state.tracks {
            // as many fit as a state holds
            let _ = out.tracks.push(track.reported(seen.present));
        }
    }
}

impl TrackMemory {
    fn begun(id: u32, confirmed: bool, detection: &Detection, noise: &BoxNoise) -> Self {
        TrackMemory {
            id,
            class: detection.class,
            confirmed,
            score: detection.score,
            hits: 1,
            misses: 0,
            age_ticks: 0,
            unseen_ns: 0,
            detected_px: detection.box_px,
            filter: BoxFilter::new(&detection.box_px, noise),
        }
    }

    fn take(&mut self, detection: &Detection, noise: &BoxNoise) {
        self.class = detection.class;
        self.score = detection.score;
        self.hits = self.hits.saturating_add(1);
        self.misses = 0;
        self.unseen_ns = 0;
        self.detected_px = detection.box_px;
        self.filter.correct(&detection.box_px, noise);
    }

    fn reported(&self, picture: bool) -> CameraTrack {
        let seen_now = picture && self.misses == 0;
        let state = match (self.confirmed, seen_now) {
            (false, _) => TrackState::Tentative,
            (true, true) => TrackState::Confirmed,
            (true, false) => TrackState::Coasting,
        };
        CameraTrack {
            id: self.id,
            class: self.class,
            state,
            box_px: self.filter.box_px(),
            detected_px: if seen_now { self.detected_px } else { BoxPx::default() },
            score: self.score,
            hits: self.hits,
            misses: self.misses,
            age_ticks: self.age_ticks,
        }
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn pair_cost(track: &BoxPx, detection: &BoxPx, min_iou: f32) -> Option<u32> {
    let iou = track.iou(detection);
    // an overlap that is not a number, of boxes too large to have an area, fails both
    (iou > 0.0 && iou >= min_iou).then_some(((1.0 - iou) * COST_STEPS) as u32)
}

/// A total order in which only equal detections are equal.
fn strongest_first(a: &Detection, b: &Detection) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then(a.class.cmp(&b.class))
        .then(a.box_px.left.total_cmp(&b.box_px.left))
        .then(a.box_px.top.total_cmp(&b.box_px.top))
        .then(a.box_px.right.total_cmp(&b.box_px.right))
        .then(a.box_px.bottom.total_cmp(&b.box_px.bottom))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use proptest::prelude::*;

    const PERIOD_NS: i64 = 40_000_000;

    fn at(x: f32, score: f32) -> Detection {
        Detection { box_px: BoxPx { left: x, top: 100.0, right: x + 50.0, bottom: 200.0 }, score, class: 2 }
    }

    fn picture(number: i64, objects: &[Detection]) -> CameraDetections {
        CameraDetections {
            sensor: 4,
            present: true,
            stamp_ns: number * PERIOD_NS,
            objects: objects.iter().copied().collect(),
            ..CameraDetections::default()
        }
    }

    fn step(tracker: &mut CameraTracker, seen: &CameraDetections) -> CameraTracks {
        let mut out = CameraTracks::default();
        tracker.update(seen, &mut out);
        out
    }

    /// A tracker whose warm-up is over.
    fn warm() -> CameraTracker {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        for number in -3..0 {
            step(&mut tracker, &picture(number, &[]));
        }
        tracker
    }

    #[test]
    fn an_object_is_believed_at_its_third_picture() {
        let mut tracker = warm();
        let states: Vec<_> =
            (0..3).map(|n| step(&mut tracker, &picture(n, &[at(10.0, 0.9)])).tracks[0].state).collect();
        assert_eq!(states, [TrackState::Tentative, TrackState::Tentative, TrackState::Confirmed]);
        let out = step(&mut tracker, &picture(3, &[at(10.0, 0.9)]));
        assert_eq!((out.sensor, out.stamp_ns), (4, 3 * PERIOD_NS));
        let track = out.tracks[0];
        assert_eq!((track.id, track.class, track.hits, track.misses, track.age_ticks), (1, 2, 4, 0, 3));
        assert_eq!(track.detected_px, at(10.0, 0.9).box_px);
    }

    #[test]
    fn an_object_of_the_first_pictures_is_believed_at_once() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        assert_eq!(step(&mut tracker, &picture(0, &[at(10.0, 0.9)])).tracks[0].state, TrackState::Confirmed);
    }

    #[test]
    fn a_tentative_track_that_is_missed_is_forgotten() {
        let mut tracker = warm();
        step(&mut tracker, &picture(0, &[at(10.0, 0.9)]));
        assert!(step(&mut tracker, &picture(1, &[])).tracks.is_empty());
        assert_eq!(step(&mut tracker, &picture(2, &[at(10.0, 0.9)])).tracks[0].id, 2);
    }

    #[test]
    fn a_believed_track_coasts_for_a_second_and_its_number_never_returns() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        step(&mut tracker, &picture(0, &[at(10.0, 0.9)]));
        for number in 1..=25 {
            let out = step(&mut tracker, &picture(number, &[]));
            assert_eq!(out.tracks[0].state, TrackState::Coasting);
            assert_eq!(i64::from(out.tracks[0].misses), number);
            assert_eq!(out.tracks[0].detected_px, BoxPx::default());
        }
        assert!(step(&mut tracker, &picture(26, &[])).tracks.is_empty());
        assert_eq!(step(&mut tracker, &picture(27, &[at(10.0, 0.9)])).tracks[0].id, 2);
    }

    #[test]
    fn the_prediction_is_in_seconds() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        for number in 0..25 {
            step(&mut tracker, &picture(number, &[at(10.0 + 5.0 * number as f32, 0.9)]));
        }
        // twelve pictures are lost; the object is found where its speed took it, more than a width away
        let out = step(&mut tracker, &picture(36, &[at(10.0 + 5.0 * 36.0, 0.9)]));
        assert_eq!(out.tracks.len(), 1);
        assert_eq!(out.tracks[0].hits, 26);
    }

    #[test]
    fn a_weak_detection_keeps_a_track_and_begins_none() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        step(&mut tracker, &picture(0, &[at(10.0, 0.9)]));
        let out = step(&mut tracker, &picture(1, &[at(11.0, 0.2), at(300.0, 0.2)]));
        assert_eq!(out.tracks.len(), 1);
        assert_eq!((out.tracks[0].hits, out.tracks[0].score), (2, 0.2));
    }

    #[test]
    fn a_track_keeps_to_its_class_unless_told_otherwise() {
        let other = Detection { class: 7, ..at(10.0, 0.9) };
        for (same_class_only, tracks) in [(true, 2), (false, 1)] {
            let settings = TrackerSettings { same_class_only, ..TrackerSettings::default() };
            let mut tracker = CameraTracker::new(settings);
            step(&mut tracker, &picture(0, &[at(10.0, 0.9)]));
            assert_eq!(step(&mut tracker, &picture(1, &[other])).tracks.len(), tracks);
        }
    }

    #[test]
    fn a_tick_without_a_picture_counts_nothing() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        step(&mut tracker, &picture(0, &[at(10.0, 0.9)]));
        let before = tracker.state().clone();
        let out = step(&mut tracker, &CameraDetections { sensor: 4, stamp_ns: 99, ..CameraDetections::default() });
        assert_eq!(*tracker.state(), before);
        assert_eq!(out.stamp_ns, 0);
        assert_eq!((out.tracks[0].state, out.tracks[0].misses), (TrackState::Coasting, 0));
        assert_eq!(out.tracks[0].detected_px, BoxPx::default());
    }

    #[test]
    fn no_time_passes_when_stamps_go_back() {
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        step(&mut tracker, &picture(100, &[at(10.0, 0.9)]));
        let out = step(&mut tracker, &picture(1, &[at(10.0, 0.9)]));
        assert_eq!((out.tracks[0].id, out.tracks[0].hits), (1, 2));
        let out = step(&mut tracker, &picture(2, &[at(10.0, 0.9)]));
        assert_eq!((out.tracks[0].id, out.tracks[0].hits), (1, 3));
    }

    #[test]
    fn a_full_tracker_begins_no_track() {
        let row = |y: f32| -> Vec<Detection> {
            (0..MAX_DETECTIONS)
                .map(|n| {
                    let left = n as f32 * 20.0;
                    Detection {
                        box_px: BoxPx { left, top: y, right: left + 10.0, bottom: y + 10.0 },
                        score: 0.9,
                        class: 0,
                    }
                })
                .collect()
        };
        let mut tracker = CameraTracker::new(TrackerSettings::default());
        step(&mut tracker, &picture(0, &row(0.0)));
        let out = step(&mut tracker, &picture(1, &row(500.0)));
        assert_eq!(out.tracks.len(), MAX_TRACKS);
        assert!(out.tracks.iter().all(|track| track.state == TrackState::Coasting));
        assert_eq!(tracker.state().last_id as usize, MAX_TRACKS);
    }

    #[test]
    fn a_restored_tracker_goes_on_as_the_first_would_have() {
        let scene = |n: i64| {
            let x = n as f32;
            [at(10.0 + 4.0 * x, 0.9), at(300.0 - 6.0 * x, if n % 3 == 0 { 0.3 } else { 0.8 }), at(200.0, 0.7)]
        };
        let mut first = CameraTracker::new(TrackerSettings::default());
        for number in 0..10 {
            step(&mut first, &picture(number, &scene(number)));
        }
        let mut bytes = Vec::new();
        first.state().encode(&mut bytes);
        let mut second = CameraTracker::new(TrackerSettings::default());
        second.restore(TrackerState::decode(&bytes).unwrap());
        for number in 10..40 {
            let seen = picture(number, &scene(number));
            assert_eq!(step(&mut first, &seen).digest(), step(&mut second, &seen).digest());
        }
    }

    fn any_edge() -> impl Strategy<Value = f32> {
        prop_oneof![any::<f32>(), -100f32..1000.0, Just(0.0), Just(f32::NAN), Just(f32::MAX), Just(f32::INFINITY)]
    }

    fn any_detection() -> impl Strategy<Value = Detection> {
        let edges = (any_edge(), any_edge(), any_edge(), any_edge());
        (edges, prop_oneof![0f32..1.0, any::<f32>()], 0u16..3).prop_map(|((left, top, right, bottom), score, class)| {
            Detection { box_px: BoxPx { left, top, right, bottom }, score, class }
        })
    }

    proptest! {
        #[test]
        fn any_input_gives_sound_tracks_in_order(
            ticks in proptest::collection::vec(
                (any::<bool>(), prop_oneof![any::<i64>(), 0i64..2_000_000_000],
                    proptest::collection::vec(any_detection(), 0..20)),
                0..12,
            ),
        ) {
            let mut tracker = CameraTracker::new(TrackerSettings::default());
            for (present, stamp_ns, objects) in ticks {
                let out = step(&mut tracker, &CameraDetections { present, stamp_ns, ..picture(0, &objects) });
                prop_assert!(out.tracks.windows(2).all(|two| two[0].id < two[1].id));
                prop_assert!(out.tracks.iter().all(|track| (0.0..=1.0).contains(&track.score)));
            }
        }

        #[test]
        fn the_order_of_detections_is_of_no_consequence(
            lefts in proptest::collection::vec(proptest::collection::vec(0u8..12, 0..8), 1..10),
        ) {
            let mut forward = CameraTracker::new(TrackerSettings::default());
            let mut backward = CameraTracker::new(TrackerSettings::default());
            for (number, lefts) in (0i64..).zip(&lefts) {
                let mut objects: Vec<_> = lefts.iter().map(|left| at(f32::from(*left) * 10.0, 0.8)).collect();
                let one = step(&mut forward, &picture(number, &objects));
                objects.reverse();
                let other = step(&mut backward, &picture(number, &objects));
                prop_assert_eq!(one, other);
            }
        }
    }
}
