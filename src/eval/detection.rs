//! How good detections are: labels and scored detections in, average precision out, by the rules of COCO and KITTI.
//!
//! Shapes are the caller's: boxes in a picture, rectangles seen from above, anything with a similarity; [`bird_iou`] is
//! the one of rectangles on the ground. The rule of COCO is that of Lin et al. ("Microsoft COCO: Common Objects in
//! Context", ECCV 2014) as pycocotools computes it, of all sizes of objects. The rule of KITTI takes 40 points of recall
//! after Simonelli et al. ("Disentangling Monocular 3D Object Detection", ICCV 2019), on the same pairs; KITTI's own
//! program pairs in another way and thins the scores out, so that its figures can differ a little.
//!
//! Pairs are made by frame and class: detections choose in the order of their scores, each the most similar object that
//! is free. What falls on an object that is to be ignored counts neither for nor against. Equal scores keep the order of
//! frames, then of the input.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use thiserror::Error;

/// Least similarities of COCO.
pub const COCO_THRESHOLDS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// Most detections of one class in one frame that COCO looks at: those with the highest scores.
pub const COCO_MAX_DETECTIONS: usize = 100;

/// Least overlap of cars in KITTI.
pub const KITTI_CAR_IOU: f64 = 0.7;

/// Least overlap of all else in KITTI: pedestrians, cyclists.
pub const KITTI_OTHER_IOU: f64 = 0.5;

/// One true object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled<S> {
    /// Number of the frame.
    pub frame: u64,
    /// Number of the class.
    pub class: u16,
    /// Where it is.
    pub shape: S,
    /// Whether it need not be found: a crowd, an object too small or too hidden. Any number of detections may fall on it.
    pub ignore: bool,
}

/// One detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detected<S> {
    /// Number of the frame.
    pub frame: u64,
    /// Number of the class.
    pub class: u16,
    /// Where it is.
    pub shape: S,
    /// How sure it is; only the order counts.
    pub score: f64,
}

/// A detection that has no place in the order.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("detection of class {class} in frame {frame}: score: expected a finite number, found {found}")]
pub struct ScoreError {
    /// The frame.
    pub frame: u64,
    /// The class.
    pub class: u16,
    /// The score.
    pub found: f64,
}

/// Average precision by the rule of COCO; NaN where no object counts.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoPrecision {
    /// Mean over the classes and over [`COCO_THRESHOLDS`].
    pub ap: f64,
    /// Mean over the classes at 0.5.
    pub ap50: f64,
    /// Mean over the classes at 0.75.
    pub ap75: f64,
    /// At each of [`COCO_THRESHOLDS`], by class; a class without an object that counts has none.
    pub classes: BTreeMap<u16, [f64; 10]>,
    /// Precision at recalls of 0, 0.01 and so on to 1, at a threshold of 0.5, by class: the best at that recall or a
    /// higher one, 0 where it is not reached. Their mean is the first of `classes`.
    pub precisions_50: BTreeMap<u16, Vec<f64>>,
}

/// Average precision by the rule of COCO: the mean of the precision at recalls of 0, 0.01 and so on to 1. `similarity`
/// is 0 to 1 and asked once per pair of a frame and class; COCO takes the overlap, and for ignored objects the part of
/// the detection that they cover.
pub fn coco<S>(
    truth: &[Labelled<S>],
    detections: &[Detected<S>],
    similarity: impl Fn(&Labelled<S>, &Detected<S>) -> f64,
) -> Result<CocoPrecision, ScoreError> {
    let recalls: Vec<f64> = (0..=100).map(|point| f64::from(point) * 0.01).collect();
    let (mut classes, mut precisions_50) = (BTreeMap::new(), BTreeMap::new());
    for (number, class) in group(truth, detections, similarity, COCO_MAX_DETECTIONS)? {
        if class.objects() == 0 {
            continue;
        }
        let at = COCO_THRESHOLDS.map(|threshold| class.precisions(threshold, &recalls));
        classes.insert(number, at.each_ref().map(|precisions| mean(precisions.iter().copied())));
        let [at_50, ..] = at;
        precisions_50.insert(number, at_50);
    }
    let at = |index: usize| mean(classes.values().map(|class: &[f64; 10]| class[index]));
    let ap = mean(classes.values().flatten().copied());
    let (ap50, ap75) = (at(0), at(5));
    Ok(CocoPrecision { ap, ap50, ap75, classes, precisions_50 })
}

/// Average precision of each class by the rule of KITTI: the mean of the precision at 40 recalls, from 1/40 to 1.
/// `threshold` is the least similarity of a class: [`KITTI_CAR_IOU`] or [`KITTI_OTHER_IOU`]. A class without an object
/// that counts has none.
pub fn kitti<S>(
    truth: &[Labelled<S>],
    detections: &[Detected<S>],
    similarity: impl Fn(&Labelled<S>, &Detected<S>) -> f64,
    threshold: impl Fn(u16) -> f64,
) -> Result<BTreeMap<u16, f64>, ScoreError> {
    let recalls: Vec<f64> = (1..=40).map(|point| f64::from(point) / 40.0).collect();
    let classes = group(truth, detections, similarity, usize::MAX)?.into_iter();
    let counted = classes.filter(|(_, class)| class.objects() > 0);
    let precision = |number: u16, class: &Class| mean(class.precisions(threshold(number), &recalls).into_iter());
    Ok(counted.map(|(number, class)| (number, precision(number, &class))).collect())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}

/// The objects and detections of one class in one frame.
struct Frame {
    /// Whether to ignore each object; those that count come first.
    ignored: Vec<bool>,
    /// Scores of the detections, highest first.
    scores: Vec<f64>,
    /// Similarity of each detection with each object, detection by detection.
    similarity: Vec<f64>,
}

/// The frames of one class, in order.
struct Class {
    frames: Vec<Frame>,
}

/// A detection that counts.
#[derive(Clone, Copy)]
struct Judged {
    score: f64,
    correct: bool,
}

/// What one frame has of one class.
struct Members<'a, S> {
    truth: Vec<&'a Labelled<S>>,
    detections: Vec<&'a Detected<S>>,
}

fn group<S>(
    truth: &[Labelled<S>],
    detections: &[Detected<S>],
    similarity: impl Fn(&Labelled<S>, &Detected<S>) -> f64,
    most: usize,
) -> Result<BTreeMap<u16, Class>, ScoreError> {
    let none = || Members { truth: Vec::new(), detections: Vec::new() };
    let mut members: BTreeMap<(u16, u64), Members<S>> = BTreeMap::new();
    for object in truth {
        members.entry((object.class, object.frame)).or_insert_with(none).truth.push(object);
    }
    for detection in detections {
        let &Detected { frame, class, score, .. } = detection;
        if !score.is_finite() {
            return Err(ScoreError { frame, class, found: score });
        }
        members.entry((class, frame)).or_insert_with(none).detections.push(detection);
    }
    let mut classes: BTreeMap<u16, Class> = BTreeMap::new();
    for ((number, _), members) in members {
        let class = classes.entry(number).or_insert_with(|| Class { frames: Vec::new() });
        class.frames.push(Frame::new(members, &similarity, most));
    }
    Ok(classes)
}

fn by_falling_score(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

impl Frame {
    fn new<S>(mut members: Members<S>, similarity: &impl Fn(&Labelled<S>, &Detected<S>) -> f64, most: usize) -> Frame {
        members.truth.sort_by_key(|object| object.ignore);
        members.detections.sort_by(|a, b| by_falling_score(a.score, b.score));
        members.detections.truncate(most);
        let Members { truth, detections } = &members;
        let pairs = detections.iter().flat_map(|detection| truth.iter().map(move |object| (object, detection)));
        Frame {
            ignored: truth.iter().map(|object| object.ignore).collect(),
            scores: detections.iter().map(|detection| detection.score).collect(),
            similarity: pairs.map(|(object, detection)| similarity(object, detection)).collect(),
        }
    }

    /// Pairs the detections, and adds those that do not fall on an ignored object.
    fn judge(&self, threshold: f64, judged: &mut Vec<Judged>) {
        let objects = self.ignored.len();
        let mut taken = vec![false; objects];
        for (index, &score) in self.scores.iter().enumerate() {
            let similarity = &self.similarity[index * objects..(index + 1) * objects];
            let found = self.choose(similarity, &taken, threshold);
            if found.is_some_and(|object| self.ignored[object]) {
                continue;
            }
            if let Some(object) = found {
                taken[object] = true;
            }
            judged.push(Judged { score, correct: found.is_some() });
        }
    }

    /// The most similar free object, of equals the last; an ignored one only if none that counts will do.
    fn choose(&self, similarity: &[f64], taken: &[bool], threshold: f64) -> Option<usize> {
        let mut least = threshold;
        let mut chosen = None;
        for (object, &similarity) in similarity.iter().enumerate() {
            if self.ignored[object] && chosen.is_some_and(|chosen: usize| !self.ignored[chosen]) {
                break;
            }
            if !taken[object] && similarity >= least {
                least = similarity;
                chosen = Some(object);
            }
        }
        chosen
    }
}

impl Class {
    /// Objects that count.
    fn objects(&self) -> usize {
        self.frames.iter().flat_map(|frame| &frame.ignored).filter(|&&ignored| !ignored).count()
    }

    /// The best precision at each of `recalls` or a higher one; 0 at a recall that is not reached.
    fn precisions(&self, threshold: f64, recalls: &[f64]) -> Vec<f64> {
        let mut judged = Vec::new();
        for frame in &self.frames {
            frame.judge(threshold, &mut judged);
        }
        judged.sort_by(|a, b| by_falling_score(a.score, b.score));
        let objects = self.objects() as f64;
        let mut correct = 0.0;
        let mut curve: Vec<(f64, f64)> = Vec::with_capacity(judged.len());
        for (index, judged) in judged.iter().enumerate() {
            correct += f64::from(u8::from(judged.correct));
            curve.push((correct / objects, correct / (index + 1) as f64));
        }
        let mut best = 0.0_f64;
        for (_, precision) in curve.iter_mut().rev() {
            best = best.max(*precision);
            *precision = best;
        }
        let precision_at = |recall: f64| {
            let reached = curve.partition_point(|&(at, _)| at < recall);
            curve.get(reached).map_or(0.0, |&(_, precision)| precision)
        };
        recalls.iter().map(|&recall| precision_at(recall)).collect()
    }
}

/// Overlap (area shared over area covered together) of two rectangles on the ground, each `[x, y, length, width, yaw]`
/// with its middle and its extents in metres and yaw in radians, counter-clockwise. 0 if one has no area or a value is
/// not finite.
///
/// Method: the second rectangle, in the frame of the first, is cut off at the four sides of the first (Sutherland and
/// Hodgman, "Reentrant Polygon Clipping", CACM 17, 1974).
pub fn bird_iou(a: &[f64; 5], b: &[f64; 5]) -> f64 {
    let [a_x, a_y, a_length, a_width, a_yaw] = *a;
    let [b_x, b_y, b_length, b_width, b_yaw] = *b;
    let sane = a.iter().chain(b).all(|value| value.is_finite());
    let solid = [a_length, a_width, b_length, b_width].iter().all(|&extent| extent > 0.0);
    if !sane || !solid {
        return 0.0;
    }
    let middle = turned([b_x - a_x, b_y - a_y], -a_yaw);
    let corners = [(0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)];
    let mut polygon: Vec<[f64; 2]> = corners
        .iter()
        .map(|(along, across)| turned([along * b_length, across * b_width], b_yaw - a_yaw))
        .map(|[x, y]| [middle[0] + x, middle[1] + y])
        .collect();
    for (axis, half) in [(0, 0.5 * a_length), (1, 0.5 * a_width)] {
        polygon = cut(&polygon, |point| half - point[axis]);
        polygon = cut(&polygon, |point| half + point[axis]);
    }
    let shared = area(&polygon);
    let together = a_length * a_width + b_length * b_width - shared;
    let overlap = shared / together;
    if overlap.is_finite() { overlap.clamp(0.0, 1.0) } else { 0.0 }
}

fn turned([x, y]: [f64; 2], angle_rad: f64) -> [f64; 2] {
    let (sin, cos) = (libm::sin(angle_rad), libm::cos(angle_rad));
    [cos * x - sin * y, sin * x + cos * y]
}

/// The part of a convex polygon where `inside` is not negative; `inside` must be linear.
fn cut(polygon: &[[f64; 2]], inside: impl Fn(&[f64; 2]) -> f64) -> Vec<[f64; 2]> {
    let mut kept = Vec::with_capacity(polygon.len() + 1);
    let nexts = polygon.iter().cycle().skip(1);
    for (point, next) in polygon.iter().zip(nexts) {
        let (here, there) = (inside(point), inside(next));
        if here >= 0.0 {
            kept.push(*point);
        }
        if (here >= 0.0) != (there >= 0.0) {
            let part = here / (here - there);
            kept.push([point[0] + part * (next[0] - point[0]), point[1] + part * (next[1] - point[1])]);
        }
    }
    kept
}

/// Area of a polygon whose corners go counter-clockwise (the shoelace formula).
fn area(polygon: &[[f64; 2]]) -> f64 {
    let nexts = polygon.iter().cycle().skip(1);
    0.5 * polygon.iter().zip(nexts).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, FRAC_PI_4};

    use super::*;

    /// Objects stand on a line; two are the less similar the farther they are from each other.
    fn similarity(object: &Labelled<f64>, detection: &Detected<f64>) -> f64 {
        1.0 - (object.shape - detection.shape).abs()
    }

    fn object(frame: u64, shape: f64) -> Labelled<f64> {
        Labelled { frame, class: 0, shape, ignore: false }
    }

    fn ignored(frame: u64, shape: f64) -> Labelled<f64> {
        Labelled { ignore: true, ..object(frame, shape) }
    }

    fn detection(frame: u64, shape: f64, score: f64) -> Detected<f64> {
        Detected { frame, class: 0, shape, score }
    }

    fn ap50(truth: &[Labelled<f64>], detections: &[Detected<f64>]) -> f64 {
        coco(truth, detections, similarity).unwrap().ap50
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }

    #[test]
    fn three_detections_of_two_objects() {
        // right, wrong, right: a precision of 1 up to a recall of 1/2, then of 2/3
        let truth = [object(0, 0.0), object(1, 0.0)];
        let detections = [detection(1, 0.0, 0.7), detection(0, 0.0, 0.9), detection(0, 5.0, 0.8)];
        let found = coco(&truth, &detections, similarity).unwrap();
        near(found.ap, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
        near(found.ap50, found.ap);
        near(found.ap75, found.ap);
        let found = kitti(&truth, &detections, similarity, |_| KITTI_CAR_IOU).unwrap();
        near(found[&0], (20.0 + 20.0 * 2.0 / 3.0) / 40.0);
    }

    #[test]
    fn precision_never_rises_with_recall() {
        // correct, wrong, correct, correct: raw precisions of 1, 1/2, 2/3, 3/4 at recalls of 1/4, 1/4, 1/2, 3/4
        let truth: Vec<Labelled<f64>> = (0..4).map(|frame| object(frame, 0.0)).collect();
        let detections =
            [detection(0, 0.0, 0.9), detection(1, 5.0, 0.8), detection(1, 0.0, 0.7), detection(2, 0.0, 0.6)];
        let found = coco(&truth, &detections, similarity).unwrap();
        let curve = &found.precisions_50[&0];
        assert_eq!((curve.len(), curve[0], curve[25], curve[75], curve[76]), (101, 1.0, 1.0, 0.75, 0.0));
        near(curve[26], 0.75);
        assert!(curve.windows(2).all(|two| two[0] >= two[1]));
        near(curve.iter().sum::<f64>() / 101.0, found.classes[&0][0]);
    }

    #[test]
    fn thresholds_above_the_similarity_find_nothing() {
        // a similarity of 0.72 meets the thresholds of COCO up to 0.7
        let (truth, detections) = ([object(0, 0.0)], [detection(0, 0.28, 0.9)]);
        let found = coco(&truth, &detections, similarity).unwrap();
        near(found.ap, 0.5);
        assert_eq!((found.ap50, found.ap75), (1.0, 0.0));
        let at = |threshold| kitti(&truth, &detections, similarity, |_| threshold).unwrap()[&0];
        assert_eq!((at(0.7), at(0.75)), (1.0, 0.0));
    }

    #[test]
    fn an_object_is_found_once() {
        // the surer one takes it; the other is wrong, but after the last recall
        let truth = [object(0, 0.0)];
        near(ap50(&truth, &[detection(0, 0.1, 0.9), detection(0, 0.0, 0.8)]), 1.0);
        // the surer one is wrong
        near(ap50(&truth, &[detection(0, 0.9, 0.9), detection(0, 0.0, 0.8)]), 0.5);
    }

    #[test]
    fn what_falls_on_an_ignored_object_does_not_count() {
        let truth = [ignored(0, 3.0), object(0, 0.0)];
        let detections = [detection(0, 3.0, 0.9), detection(0, 3.1, 0.8), detection(0, 0.0, 0.7)];
        near(ap50(&truth, &detections), 1.0);
        // an object that counts is preferred to an ignored one that is more similar
        near(ap50(&[ignored(0, 0.0), object(0, 0.3)], &[detection(0, 0.0, 0.9)]), 1.0);
        assert!(ap50(&[ignored(0, 0.0)], &[detection(0, 0.0, 0.9)]).is_nan());
    }

    #[test]
    fn frames_and_classes_do_not_mix() {
        let truth = [object(0, 0.0), Labelled { class: 1, ..object(0, 0.0) }];
        near(ap50(&truth, &[detection(0, 0.0, 0.9)]), 0.5);
        near(ap50(&truth, &[detection(1, 0.0, 0.9)]), 0.0);
        // a class that nobody labelled is no class
        let other = Detected { class: 7, ..detection(0, 0.0, 0.9) };
        near(ap50(&truth[..1], &[detection(0, 0.0, 0.9), other]), 1.0);
    }

    #[test]
    fn only_the_surest_hundred_of_a_frame_count_in_coco() {
        let truth = [object(0, 0.0)];
        let mut detections = vec![detection(0, 5.0, 0.9); 100];
        detections.push(detection(0, 0.0, 0.1));
        near(ap50(&truth, &detections), 0.0);
        near(kitti(&truth, &detections, similarity, |_| 0.5).unwrap()[&0], 1.0 / 101.0);
    }

    #[test]
    fn a_score_must_have_a_place_in_the_order() {
        let error = coco(&[], &[detection(3, 0.0, f64::NAN)], similarity).unwrap_err();
        assert_eq!(error.to_string(), "detection of class 0 in frame 3: score: expected a finite number, found NaN");
    }

    #[test]
    fn rectangles_overlap_by_hand() {
        let square = [3.0, -2.0, 2.0, 2.0, 0.0];
        near(bird_iou(&square, &square), 1.0);
        near(bird_iou(&square, &[4.0, -2.0, 2.0, 2.0, 0.0]), 2.0 / 6.0);
        // two squares an eighth of a turn apart share a regular octagon
        near(bird_iou(&square, &[3.0, -2.0, 2.0, 2.0, FRAC_PI_4]), FRAC_1_SQRT_2);
        // one inside the other, askew
        near(bird_iou(&[3.1, -2.1, 1.0, 1.0, 0.4], &square), 0.25);
        // a cross
        near(bird_iou(&[0.0, 0.0, 4.0, 1.0, 0.3], &[0.0, 0.0, 4.0, 1.0, 0.3 + FRAC_PI_2]), 1.0 / 7.0);
        // length lies along yaw
        near(bird_iou(&[0.0, 0.0, 4.0, 2.0, FRAC_PI_2], &[0.0, 1.0, 2.0, 2.0, 0.0]), 0.5);
        near(bird_iou(&square, &[5.0, -2.0, 2.0, 2.0, 0.0]), 0.0);
        near(bird_iou(&square, &[9.0, 9.0, 2.0, 2.0, 1.0]), 0.0);
    }

    #[test]
    fn rectangles_without_area_overlap_nothing() {
        let square = [0.0, 0.0, 2.0, 2.0, 0.0];
        for other in [[0.0, 0.0, 0.0, 2.0, 0.0], [0.0, 0.0, -2.0, -2.0, 0.0], [f64::NAN, 0.0, 2.0, 2.0, 0.0]] {
            assert_eq!(bird_iou(&square, &other), 0.0);
            assert_eq!(bird_iou(&other, &square), 0.0);
        }
    }
}
