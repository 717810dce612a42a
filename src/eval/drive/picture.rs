//! Objects in the pictures: average precision of the detections, and how well tracks follow.
//!
//! Truth is the box of what can be seen of an object (`visible_px`), always. To be ignored is what shows fewer than 12
//! pixels in a picture of 512 x 288 (in proportion in others), is occluded by more than 85 %, is farther away than the
//! limit or of a class that is not compared; a detection may fall on such an object's visible or whole box, and on a
//! region without a class with that part of itself that the region covers. Without [`TruthBoxes`] the boxes of
//! [`TruthObjects`] serve; those lower than 25 pixels are ignored, as KITTI has it.
//!
//! [`TruthBoxes`]: crate::truth::TruthBoxes
//! [`TruthObjects`]: crate::truth::TruthObjects

use super::curves::Curve;
use super::logs::{Camera, Run, Truth, nearest};
use super::{Class, DriveMetrics, EvaluateDriveError, Options};
use crate::eval::detection::{self, Detected, KITTI_CAR_IOU, KITTI_OTHER_IOU, Labelled};
use crate::eval::hota::{self, ALPHAS, HotaAt};
use crate::eval::mot::{self, MotBox, MotFrames};
use crate::messages::{BoxPx, CameraTrack, TrackState};
use crate::truth::TruthBox;

/// Fewest pixels of an object that counts, in a picture of [`AREA_PX`].
const MIN_PIXELS: f64 = 12.0;
const AREA_PX: f64 = 512.0 * 288.0;
/// Most occlusion of an object that counts.
const MAX_OCCLUDED: f32 = 0.85;
/// Least height of an object that counts where its pixels are not known.
const MIN_HEIGHT_PX: f32 = 25.0;
/// Most distance (1 - IoU) of a track to its object.
const MAX_MOT_DISTANCE: f64 = 0.5;

/// One true object in a picture.
#[derive(Clone, Copy, Debug)]
struct InPicture {
    id: Option<u32>,
    class: Option<Class>,
    visible_px: BoxPx,
    whole_px: BoxPx,
    ignore: bool,
}

impl InPicture {
    /// How well a box fits, 0 to 1.
    fn fit(&self, found: &BoxPx) -> f64 {
        let overlap = match (self.class, self.ignore) {
            (None, _) => covered(found, &self.visible_px).max(covered(found, &self.whole_px)),
            (Some(_), true) => found.iou(&self.visible_px).max(found.iou(&self.whole_px)),
            (Some(_), false) => found.iou(&self.visible_px),
        };
        f64::from(overlap)
    }
}

/// The part of a box that another covers.
fn covered(found: &BoxPx, by: &BoxPx) -> f32 {
    let width = found.right.min(by.right) - found.left.max(by.left);
    let height = found.bottom.min(by.bottom) - found.top.max(by.top);
    let part = width.max(0.0) * height.max(0.0) / found.area();
    if part.is_finite() { part } else { 0.0 }
}

/// Whether a camera shows enough of an object.
pub(super) fn shows_enough(camera: &Camera, seen: &TruthBox) -> bool {
    let [width_px, height_px] = camera.geometry.size_px.map(f64::from);
    let least = (MIN_PIXELS * width_px * height_px / AREA_PX).round();
    f64::from(seen.pixels) >= least && seen.occluded <= MAX_OCCLUDED
}

/// The true objects in the picture of this stamp; `None` where truth is silent.
fn objects_at(truth: &Truth, camera: &Camera, stamp_ns: i64, options: &Options) -> Option<Vec<InPicture>> {
    if let Some(boxes) = truth.boxes.get(&camera.name) {
        let (_, message) = nearest(boxes, stamp_ns)?;
        let of = |seen: &TruthBox| {
            let class = message.classes.get(usize::from(seen.class)).and_then(|name| Class::of(name));
            let is_near = f64::from(seen.distance_m) <= options.max_distance_m;
            let ignore = class.is_none() || !is_near || !shows_enough(camera, seen);
            InPicture { id: Some(seen.id), class, visible_px: seen.visible_px, whole_px: seen.whole_px, ignore }
        };
        return Some(message.boxes.iter().map(of).collect());
    }
    let (stamp_ns, message) = nearest(&truth.objects, stamp_ns)?;
    let motions = truth.motions.get(&stamp_ns).map(|motions| motions.motions.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for (index, object) in message.objects.iter().enumerate() {
        if object.camera != camera.name || !object.box_px.is_sound() {
            continue;
        }
        let class = Class::of(&object.class);
        let [x, y, _] = object.position_m;
        let is_near = !object.placed || libm::hypot(x, y) <= options.max_distance_m;
        let ignore = class.is_none() || !is_near || object.box_px.height() < MIN_HEIGHT_PX;
        let id = motions.get(index).map(|motion| motion.id);
        found.push(InPicture { id, class, visible_px: object.box_px, whole_px: object.box_px, ignore });
    }
    // a picture in which nobody drew boxes tells nothing
    (!found.is_empty()).then_some(found)
}

/// Average precision of the detections; precision over recall by class, at an overlap of 0.5.
pub(super) fn detection(
    run: &Run,
    truth: &Truth,
    options: &Options,
    metrics: &mut DriveMetrics,
) -> Result<Vec<Curve>, EvaluateDriveError> {
    let (mut labelled, mut detected) = (Vec::new(), Vec::new());
    for (tick, number) in run.ticks.iter().zip(0_u64..) {
        for seen in tick.seen.iter().filter(|seen| seen.present) {
            let Some(camera) = run.cameras.get(seen.sensor).filter(|camera| !camera.is_undistorted) else { continue };
            let Some(objects) = objects_at(truth, camera, seen.stamp_ns, options) else { continue };
            let frame = number * run.cameras.len() as u64 + seen.sensor as u64;
            for object in objects {
                let of = |class: Class| Labelled { frame, class: class.number(), shape: object, ignore: object.ignore };
                match object.class {
                    Some(class) => labelled.push(of(class)),
                    None => labelled.extend(Class::ALL.map(of)),
                }
            }
            for found in &seen.objects {
                let Some(class) = run.class(found.class) else { continue };
                let box_px = found.box_px;
                let shape =
                    InPicture { id: None, class: Some(class), visible_px: box_px, whole_px: box_px, ignore: false };
                detected.push(Detected { frame, class: class.number(), shape, score: f64::from(found.score) });
            }
        }
    }
    let fit = |object: &Labelled<InPicture>, found: &Detected<InPicture>| object.shape.fit(&found.shape.visible_px);
    let coco = detection::coco(&labelled, &detected, fit)?;
    let vehicle = |class: u16| Class::ALL.iter().any(|known| known.number() == class && known.is_vehicle());
    let least = |class: u16| if vehicle(class) { KITTI_CAR_IOU } else { KITTI_OTHER_IOU };
    let kitti = detection::kitti(&labelled, &detected, fit, least)?;
    metrics.put("detection.ap", Some(coco.ap));
    metrics.put("detection.ap50", Some(coco.ap50));
    for class in Class::ALL {
        let precision = coco.classes.get(&class.number());
        let name = |measure: &str| format!("detection.{}.{measure}", class.name());
        metrics.put(name("ap"), precision.map(|at| at.iter().sum::<f64>() / at.len() as f64));
        metrics.put(name("ap50"), precision.map(|at| at[0]));
        metrics.put(name("ap40"), kitti.get(&class.number()).copied());
    }
    let curve = |class: Class| {
        let precisions = coco.precisions_50.get(&class.number())?;
        let recalls = (0..).map(|percent| f64::from(percent) * 0.01);
        Some(Curve::new(class.name(), recalls.zip(precisions).map(|(recall, precision)| [recall, *precision])))
    };
    Ok(Class::ALL.into_iter().filter_map(curve).collect())
}

/// What is said of tracks.
const TRACKING: [&str; 6] = ["mota", "idf1", "hota", "det_a", "ass_a", "switches"];

/// How well tracks follow, per camera; over all cameras the mean, and the sum of the switches. HOTA and its parts over
/// the demand on the overlap.
pub(super) fn tracking(
    run: &Run,
    truth: &Truth,
    options: &Options,
    metrics: &mut DriveMetrics,
) -> Result<Vec<Curve>, EvaluateDriveError> {
    let mut all: Vec<Tracked> = Vec::new();
    for (sensor, camera) in run.cameras.iter().enumerate() {
        let found = of_camera(run, truth, (sensor, camera), options)?;
        for (index, measure) in TRACKING.iter().enumerate() {
            let value = found.as_ref().map(|found| found.measures[index]);
            metrics.put(format!("tracking.{}.{measure}", camera.name), value);
        }
        all.extend(found);
    }
    for (index, measure) in TRACKING.iter().enumerate() {
        let sum = all.iter().map(|found| found.measures[index]).sum::<f64>();
        let value = if *measure == "switches" { sum } else { sum / all.len() as f64 };
        metrics.put(format!("tracking.{measure}"), (!all.is_empty()).then_some(value));
    }
    Ok(hota_curves(&all))
}

/// The mean over the cameras at each threshold.
fn hota_curves(all: &[Tracked]) -> Vec<Curve> {
    let Some(first) = all.first() else { return Vec::new() };
    let curve = |name: &str, value: fn(&HotaAt) -> f64| {
        let mean = |index: usize| {
            let values = all.iter().filter_map(|found| found.hota.get(index)).map(value);
            values.sum::<f64>() / all.len() as f64
        };
        Curve::new(name, first.hota.iter().enumerate().map(|(index, at)| [at.alpha, mean(index)]))
    };
    vec![curve("HOTA", |at| at.hota), curve("DetA", |at| at.det_a), curve("AssA", |at| at.ass_a)]
}

/// One camera's tracks, weighed.
struct Tracked {
    /// What [`TRACKING`] names.
    measures: [f64; TRACKING.len()],
    hota: [HotaAt; ALPHAS],
}

/// One camera's tracks; `None` where no true object counts.
fn of_camera(
    run: &Run,
    truth: &Truth,
    camera: (usize, &Camera),
    options: &Options,
) -> Result<Option<Tracked>, EvaluateDriveError> {
    let CameraFrames { objects, tracks, .. } = frames_of(run, truth, camera, options);
    let found = mot::evaluate(&objects, &tracks, MAX_MOT_DISTANCE)?;
    if found.objects == 0 {
        return Ok(None);
    }
    let hota = hota::evaluate(&objects, &tracks)?;
    let measures = [found.mota, found.idf1, hota.hota, hota.det_a, hota.ass_a, found.switches as f64];
    Ok(Some(Tracked { measures, hota: hota.at }))
}

/// The boxes of one camera as the measures of tracking count them: a frame is a tick of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CameraFrames {
    /// The camera's name.
    pub camera: String,
    /// True objects that count.
    pub objects: MotFrames,
    /// Tracks that are believed and fall on nothing that is to be ignored.
    pub tracks: MotFrames,
}

/// What is counted of each camera.
pub(super) fn all_frames(run: &Run, truth: &Truth, options: &Options) -> Vec<CameraFrames> {
    run.cameras.iter().enumerate().map(|camera| frames_of(run, truth, camera, options)).collect()
}

fn frames_of(run: &Run, truth: &Truth, (sensor, camera): (usize, &Camera), options: &Options) -> CameraFrames {
    let mut frames = CameraFrames { camera: camera.name.clone(), ..CameraFrames::default() };
    if camera.is_undistorted {
        return frames;
    }
    // the files of the MOT challenge count frames from 1
    for (tick, number) in run.ticks.iter().zip(1_u32..) {
        let Some(seen) = tick.seen.iter().find(|seen| seen.sensor == sensor && seen.present) else { continue };
        let Some(truth) = objects_at(truth, camera, seen.stamp_ns, options) else { continue };
        if truth.iter().any(|object| object.id.is_none() && !object.ignore) {
            continue;
        }
        let counted = truth.iter().filter(|object| !object.ignore);
        let boxes = counted.map(|object| mot_box(i64::from(object.id.unwrap_or(0)), &object.visible_px));
        frames.objects.insert(number, boxes.collect());
        let believed = seen.tracks.iter().filter(|track| is_believed(track) && run.class(track.class).is_some());
        let counted = believed.filter(|track| !falls_on_ignored(&truth, &track.box_px));
        frames.tracks.insert(number, counted.map(|track| mot_box(i64::from(track.id), &track.box_px)).collect());
    }
    frames
}

fn is_believed(track: &CameraTrack) -> bool {
    track.state == TrackState::Confirmed && track.misses == 0 && track.detected_px.is_sound()
}

/// Whether what a box fits best is to be ignored.
fn falls_on_ignored(truth: &[InPicture], found: &BoxPx) -> bool {
    let best = truth.iter().map(|object| (object.fit(found), object)).filter(|(fit, _)| *fit > 0.0);
    best.max_by(|a, b| a.0.total_cmp(&b.0)).is_some_and(|(_, object)| object.ignore)
}

fn mot_box(id: i64, box_px: &BoxPx) -> MotBox {
    let [left, top, width, height] = [box_px.left, box_px.top, box_px.width(), box_px.height()].map(f64::from);
    MotBox { id, left, top, width, height, confidence: 1.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use catseye_calibration::rig::Rig;

    use super::super::logs::{Seen, Tick};
    use super::*;
    use crate::messages::Detection;
    use crate::stages::geometry::CameraGeometry;
    use crate::truth::TruthBoxes;

    pub(in super::super) fn camera() -> Camera {
        let geometry = CameraGeometry::new(&Rig::default_camera(512, 288).cameras[0], false);
        Camera { name: "front".to_owned(), geometry, is_undistorted: false }
    }

    fn px(left: f32) -> BoxPx {
        BoxPx { left, top: 100.0, right: left + 40.0, bottom: 130.0 }
    }

    fn truth_box(id: u32, left: f32, distance_m: f32) -> TruthBox {
        TruthBox { id, visible_px: px(left), whole_px: px(left), pixels: 900, distance_m, ..TruthBox::default() }
    }

    /// Three ticks with a near car at 100 px, a far one at 300 px, and these boxes found and tracked.
    fn drive(found: &[f32]) -> (Run, Truth) {
        let mut run = Run { classes: vec![Some(Class::Car)], cameras: vec![camera()], ticks: Vec::new() };
        let mut boxes = BTreeMap::new();
        for stamp_ns in [1, 100_000_001, 200_000_001] {
            let detections = found.iter().map(|&left| Detection { box_px: px(left), score: 0.9, class: 0 });
            let tracks = found.iter().zip(1..).map(|(&left, id)| CameraTrack {
                id,
                state: TrackState::Confirmed,
                box_px: px(left),
                detected_px: px(left),
                ..CameraTrack::default()
            });
            let (objects, tracks) = (detections.collect(), tracks.collect());
            let seen = Seen { present: true, stamp_ns, objects, tracks, ..Seen::default() };
            run.ticks.push(Tick { seen: vec![seen], ..Tick::default() });
            let both = vec![truth_box(1, 100.0, 20.0), truth_box(2, 300.0, 90.0)];
            boxes.insert(stamp_ns, TruthBoxes { classes: vec!["car".to_owned()], boxes: both });
        }
        (run, Truth { boxes: [("front".to_owned(), boxes)].into(), ..Truth::default() })
    }

    fn measured(found: &[f32]) -> DriveMetrics {
        let (run, truth) = drive(found);
        let mut metrics = DriveMetrics::default();
        detection(&run, &truth, &Options::default(), &mut metrics).unwrap();
        tracking(&run, &truth, &Options::default(), &mut metrics).unwrap();
        metrics
    }

    #[test]
    fn what_is_far_is_neither_missed_nor_wrong() {
        for found in [&[100.0][..], &[100.0, 300.0]] {
            let metrics = measured(found);
            for name in ["detection.car.ap", "detection.car.ap40", "tracking.mota", "tracking.front.hota"] {
                assert!((metrics.get(name).unwrap() - 1.0).abs() < 1e-9, "{name} {metrics:?}");
            }
            assert_eq!(metrics.0["detection.truck.ap"], None);
        }
    }

    #[test]
    fn curves_are_those_of_the_measures() {
        let (run, truth) = drive(&[100.0, 200.0]);
        let mut metrics = DriveMetrics::default();
        let precision = detection(&run, &truth, &Options::default(), &mut metrics).unwrap();
        let hota = tracking(&run, &truth, &Options::default(), &mut metrics).unwrap();
        let mean = |curve: &Curve| curve.points.iter().map(|[_, y]| y).sum::<f64>() / curve.points.len() as f64;
        let near =
            |found: f64, name: &str| assert!((found - metrics.get(name).unwrap()).abs() < 1e-9, "{name} {found}");
        assert_eq!((precision.len(), precision[0].name.as_str(), precision[0].points.len()), (1, "car", 101));
        near(mean(&precision[0]), "detection.car.ap50");
        assert_eq!(hota.iter().map(|curve| curve.points.len()).collect::<Vec<_>>(), [ALPHAS; 3]);
        for (curve, name) in hota.iter().zip(["hota", "det_a", "ass_a"]) {
            near(mean(curve), &format!("tracking.{name}"));
        }
    }

    #[test]
    fn what_is_nowhere_counts_against() {
        let metrics = measured(&[100.0, 200.0]);
        assert!((metrics.get("tracking.mota").unwrap()).abs() < 1e-9, "{metrics:?}");
        assert_eq!(measured(&[]).get("detection.car.ap50"), Some(0.0));
    }
}
