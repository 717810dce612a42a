//! How good tracks are by HOTA: detection and association weighed alike, over all demands on the overlap of boxes.
//!
//! Takes the frames of two MOT challenge files, as [`mot`](super::mot) reads them. HOTA is defined by Luiten et al.
//! ("HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 129, 2021). Where that leaves a choice it is
//! made as the authors' TrackEval makes it, so that figures can be compared: one pairing per frame serves all thresholds
//! and maximises the overlap times how well the two ids agree over the whole sequence; a part of nothing is 0, and the
//! overlap of no pairs is 1. The result is a function of the boxes alone: equally good pairings are told apart by the
//! order of the file.

use std::array;
use std::collections::BTreeMap;

use super::mot::{EvaluateError, MotBox, MotFrames, check, iou, side_by_side};
use crate::stages::track::assignment::Assignment;

/// Thresholds of the overlap.
pub const ALPHAS: usize = 19;

/// Distance of two thresholds, and the first of them.
const ALPHA_STEP: f64 = 0.05;

/// Steps into which a score of 0 to 1 is divided where pairs are weighed against each other: pairings whose scores
/// differ by more than a millionth are never confused.
const SCORE_STEPS: f64 = u32::MAX as f64;

/// The measures at one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HotaAt {
    /// Least overlap (IoU) of a pair.
    pub alpha: f64,
    /// Pairs: true boxes that a track covers.
    pub true_positives: u64,
    /// True boxes that no track covers.
    pub misses: u64,
    /// Boxes of tracks that cover nothing.
    pub false_positives: u64,
    /// Geometric mean of `det_a` and `ass_a`.
    pub hota: f64,
    /// Detection: pairs / (pairs + misses + false positives).
    pub det_a: f64,
    /// Pairs / true boxes.
    pub det_re: f64,
    /// Pairs / boxes of tracks.
    pub det_pr: f64,
    /// Association: mean over the pairs of the frames that join the two ids / the frames that have either.
    pub ass_a: f64,
    /// Mean over the pairs of the frames that join the two ids / the frames of the object.
    pub ass_re: f64,
    /// Mean over the pairs of the frames that join the two ids / the frames of the track.
    pub ass_pr: f64,
    /// Mean overlap of the pairs; 1 where there are none.
    pub loc_a: f64,
    /// Geometric mean of `det_re` and `ass_a`.
    pub owta: f64,
}

/// The measures of one sequence: means over the thresholds, and all that they are means of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HotaMetrics {
    /// Mean of [`HotaAt::hota`].
    pub hota: f64,
    /// Mean of [`HotaAt::det_a`].
    pub det_a: f64,
    /// Mean of [`HotaAt::det_re`].
    pub det_re: f64,
    /// Mean of [`HotaAt::det_pr`].
    pub det_pr: f64,
    /// Mean of [`HotaAt::ass_a`].
    pub ass_a: f64,
    /// Mean of [`HotaAt::ass_re`].
    pub ass_re: f64,
    /// Mean of [`HotaAt::ass_pr`].
    pub ass_pr: f64,
    /// Mean of [`HotaAt::loc_a`].
    pub loc_a: f64,
    /// Mean of [`HotaAt::owta`].
    pub owta: f64,
    /// HOTA at the least threshold, written HOTA(0).
    pub hota_0: f64,
    /// LocA at the least threshold, written LocA(0).
    pub loc_a_0: f64,
    /// The measures at 0.05, 0.10 and so on to 0.95.
    pub at: [HotaAt; ALPHAS],
}

/// Measures `tracks` against `truth`.
pub fn evaluate(truth: &MotFrames, tracks: &MotFrames) -> Result<HotaMetrics, EvaluateError> {
    check(truth, "truth")?;
    check(tracks, "tracks")?;
    let frames = side_by_side(truth, tracks);
    let mut tally = Tally::default();
    for &(objects, hypotheses) in &frames {
        tally.align(&Frame::new(objects, hypotheses));
    }
    for &(objects, hypotheses) in &frames {
        tally.pair(&Frame::new(objects, hypotheses));
    }
    Ok(tally.finish())
}

/// As numpy's arange makes them, to the bit.
fn alpha(index: usize) -> f64 {
    ALPHA_STEP + index as f64 * ALPHA_STEP
}

/// The boxes of one frame, with the overlap of each object with each hypothesis, object by object.
struct Frame<'a> {
    objects: &'a [MotBox],
    hypotheses: &'a [MotBox],
    overlaps: Vec<f64>,
}

impl<'a> Frame<'a> {
    fn new(objects: &'a [MotBox], hypotheses: &'a [MotBox]) -> Self {
        let pairs = objects.iter().flat_map(|object| hypotheses.iter().map(move |hypothesis| (object, hypothesis)));
        Frame { objects, hypotheses, overlaps: pairs.map(|(object, hypothesis)| iou(object, hypothesis)).collect() }
    }

    fn overlap(&self, object: usize, hypothesis: usize) -> f64 {
        self.overlaps[object * self.hypotheses.len() + hypothesis]
    }

    fn ids(&self, object: usize, hypothesis: usize) -> (i64, i64) {
        (self.objects[object].id, self.hypotheses[hypothesis].id)
    }
}

/// Sums over the frames so far; pairs are of an object's id and a hypothesis' id.
struct Tally {
    objects: BTreeMap<i64, u64>,
    hypotheses: BTreeMap<i64, u64>,
    /// Frames that could join two ids, each weighed by how much of the overlap there is theirs.
    potential: BTreeMap<(i64, i64), f64>,
    /// Frames that do join two ids, by threshold.
    joined: BTreeMap<(i64, i64), [u64; ALPHAS]>,
    /// Sum of the overlaps of all pairs, by threshold.
    overlap: [f64; ALPHAS],
    assignment: Assignment,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            objects: BTreeMap::new(),
            hypotheses: BTreeMap::new(),
            potential: BTreeMap::new(),
            joined: BTreeMap::new(),
            overlap: [0.0; ALPHAS],
            assignment: Assignment::new(0),
        }
    }
}

impl Tally {
    /// Counts the ids of a frame, and what it says for each pair of them.
    fn align(&mut self, frame: &Frame) {
        let mut of_object = vec![0.0; frame.objects.len()];
        let mut of_hypothesis = vec![0.0; frame.hypotheses.len()];
        for (object, of_object) in of_object.iter_mut().enumerate() {
            for (hypothesis, of_hypothesis) in of_hypothesis.iter_mut().enumerate() {
                let overlap = frame.overlap(object, hypothesis);
                *of_object += overlap;
                *of_hypothesis += overlap;
            }
        }
        for (object, of_object) in of_object.iter().enumerate() {
            for (hypothesis, of_hypothesis) in of_hypothesis.iter().enumerate() {
                let overlap = frame.overlap(object, hypothesis);
                let either = of_hypothesis + of_object - overlap;
                if overlap > 0.0 && either > f64::EPSILON {
                    *self.potential.entry(frame.ids(object, hypothesis)).or_default() += overlap / either;
                }
            }
        }
        for object in frame.objects {
            *self.objects.entry(object.id).or_default() += 1;
        }
        for hypothesis in frame.hypotheses {
            *self.hypotheses.entry(hypothesis.id).or_default() += 1;
        }
    }

    /// How well two ids agree over the whole sequence, 0 to 1.
    fn alignment(&self, ids: (i64, i64)) -> f64 {
        let Some(potential) = self.potential.get(&ids) else { return 0.0 };
        potential / (self.frames_of(ids).0 + self.frames_of(ids).1 - potential)
    }

    /// Frames with the object, and with the hypothesis.
    fn frames_of(&self, (object, hypothesis): (i64, i64)) -> (f64, f64) {
        let frames = |side: &BTreeMap<i64, u64>, id| side.get(&id).copied().unwrap_or(0) as f64;
        (frames(&self.objects, object), frames(&self.hypotheses, hypothesis))
    }

    /// Pairs the boxes of a frame, once all frames are aligned.
    fn pair(&mut self, frame: &Frame) {
        let pairs = self.best_pairs(frame);
        for (object, hypothesis) in pairs {
            let overlap = frame.overlap(object, hypothesis);
            let met = (0..ALPHAS).take_while(|&index| overlap >= alpha(index) - f64::EPSILON).count();
            if met == 0 {
                continue;
            }
            let joined = self.joined.entry(frame.ids(object, hypothesis)).or_default();
            for (joined, sum) in joined.iter_mut().zip(&mut self.overlap).take(met) {
                *joined += 1;
                *sum += overlap;
            }
        }
    }

    /// Every pair may be, at worst with a score of 0: more pairs are no aim here, a higher score is.
    fn best_pairs(&mut self, frame: &Frame) -> Vec<(usize, usize)> {
        let mut assignment = std::mem::replace(&mut self.assignment, Assignment::new(0));
        let pairs = assignment.solve(frame.objects.len(), frame.hypotheses.len(), |object, hypothesis| {
            let overlap = frame.overlap(object, hypothesis);
            let score = if overlap > 0.0 { overlap * self.alignment(frame.ids(object, hypothesis)) } else { 0.0 };
            Some(((1.0 - score) * SCORE_STEPS).round() as u32)
        });
        let pairs = pairs.iter().enumerate().filter_map(|(object, found)| found.map(|found| (object, found))).collect();
        self.assignment = assignment;
        pairs
    }

    fn finish(&self) -> HotaMetrics {
        let at: [HotaAt; ALPHAS] = array::from_fn(|index| self.measure(index));
        let mean = |value: fn(&HotaAt) -> f64| at.iter().map(value).sum::<f64>() / ALPHAS as f64;
        HotaMetrics {
            hota: mean(|at| at.hota),
            det_a: mean(|at| at.det_a),
            det_re: mean(|at| at.det_re),
            det_pr: mean(|at| at.det_pr),
            ass_a: mean(|at| at.ass_a),
            ass_re: mean(|at| at.ass_re),
            ass_pr: mean(|at| at.ass_pr),
            loc_a: mean(|at| at.loc_a),
            owta: mean(|at| at.owta),
            hota_0: at[0].hota,
            loc_a_0: at[0].loc_a,
            at,
        }
    }

    fn measure(&self, index: usize) -> HotaAt {
        let objects: u64 = self.objects.values().sum();
        let hypotheses: u64 = self.hypotheses.values().sum();
        let pairs: u64 = self.joined.values().map(|joined| joined[index]).sum();
        let det_a = part(pairs as f64, objects + hypotheses - pairs);
        let det_re = part(pairs as f64, objects);
        let (mut ass_a, mut ass_re, mut ass_pr) = (0.0, 0.0, 0.0);
        for (&ids, joined) in &self.joined {
            let joined = joined[index] as f64;
            let (object, hypothesis) = self.frames_of(ids);
            ass_a += joined * joined / (object + hypothesis - joined);
            ass_re += joined * joined / object;
            ass_pr += joined * joined / hypothesis;
        }
        let ass_a = part(ass_a, pairs);
        HotaAt {
            alpha: alpha(index),
            true_positives: pairs,
            misses: objects - pairs,
            false_positives: hypotheses - pairs,
            hota: (det_a * ass_a).sqrt(),
            det_a,
            det_re,
            det_pr: part(pairs as f64, hypotheses),
            ass_a,
            ass_re: part(ass_re, pairs),
            ass_pr: part(ass_pr, pairs),
            loc_a: if pairs == 0 { 1.0 } else { self.overlap[index] / pairs as f64 },
            owta: (det_re * ass_a).sqrt(),
        }
    }
}

/// A part of nothing is 0.
fn part(value: f64, whole: u64) -> f64 {
    value / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, left: f64) -> MotBox {
        MotBox { id, left, top: 0.0, width: 10.0, height: 10.0, confidence: 1.0 }
    }

    fn frames(rows: &[&[MotBox]]) -> MotFrames {
        (1..).zip(rows).map(|(frame, boxes)| (frame, boxes.to_vec())).collect()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }

    #[test]
    fn perfect_tracks_are_perfect() {
        let truth = frames(&[&[row(1, 0.0), row(2, 50.0)], &[row(1, 2.0), row(2, 50.0)]]);
        let tracks = frames(&[&[row(9, 50.0), row(4, 0.0)], &[row(9, 50.0), row(4, 2.0)]]);
        let found = evaluate(&truth, &tracks).unwrap();
        for value in [found.hota, found.det_re, found.det_pr, found.ass_re, found.ass_pr, found.loc_a, found.owta] {
            near(value, 1.0);
        }
        assert_eq!((found.at[18].true_positives, found.at[18].misses, found.at[18].false_positives), (4, 0, 0));
    }

    #[test]
    fn a_switch_half_way_halves_the_association() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[row(5, 0.0)], &[row(5, 0.0)], &[row(6, 0.0)], &[row(6, 0.0)]]);
        let found = evaluate(&truth, &tracks).unwrap();
        near(found.det_a, 1.0);
        // each pair is joined in 2 frames, of 4 with either: 2 / (4 + 2 - 2)
        near(found.ass_a, 0.5);
        near(found.ass_re, 0.5);
        near(found.ass_pr, 1.0);
        near(found.hota, 0.5_f64.sqrt());
    }

    #[test]
    fn a_missed_frame_costs_detection_and_association() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[row(5, 0.0)], &[], &[row(5, 0.0)], &[row(5, 0.0)]]);
        let found = evaluate(&truth, &tracks).unwrap();
        for value in [found.hota, found.det_a, found.det_re, found.ass_a, found.ass_re, found.owta] {
            near(value, 0.75);
        }
        near(found.det_pr, 1.0);
        near(found.ass_pr, 1.0);
    }

    #[test]
    fn thresholds_above_the_overlap_find_nothing() {
        // an overlap of 8 / 12 meets the 13 thresholds up to 0.65
        let found = evaluate(&frames(&[&[row(1, 0.0)]]), &frames(&[&[row(5, 2.0)]])).unwrap();
        near(found.hota, 13.0 / 19.0);
        near(found.loc_a, (13.0 * 2.0 / 3.0 + 6.0) / 19.0);
        near(found.hota_0, 1.0);
        near(found.loc_a_0, 2.0 / 3.0);
        assert_eq!((found.at[12].true_positives, found.at[13].true_positives), (1, 0));
    }

    #[test]
    fn the_id_of_the_whole_sequence_beats_a_better_box_of_one_frame() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[row(5, 0.0)], &[row(5, 0.0)], &[row(6, 0.0), row(5, 2.0)]]);
        let found = evaluate(&truth, &tracks).unwrap();
        near(found.at[0].det_a, 3.0 / 4.0);
        near(found.at[0].ass_a, 1.0);
        // at 0.7 the pair of the last frame falls, and the better box does not take its place
        near(found.at[13].det_a, 2.0 / 5.0);
        near(found.at[13].ass_a, 2.0 / 4.0);
    }

    #[test]
    fn nothing_is_zero_with_perfect_boxes() {
        let some = frames(&[&[row(1, 0.0)]]);
        let none = MotFrames::new();
        for (truth, tracks, missed, wrong) in [(&some, &none, 1, 0), (&none, &some, 0, 1), (&none, &none, 0, 0)] {
            let found = evaluate(truth, tracks).unwrap();
            assert_eq!((found.hota, found.det_a, found.ass_a, found.loc_a), (0.0, 0.0, 0.0, 1.0));
            assert_eq!((found.at[0].misses, found.at[0].false_positives), (missed, wrong));
        }
    }

    #[test]
    fn an_id_must_be_unique_in_a_frame() {
        let twice = frames(&[&[row(3, 0.0), row(3, 50.0)]]);
        let error = evaluate(&twice, &MotFrames::new()).unwrap_err();
        assert_eq!(error, EvaluateError::DuplicateId { side: "truth", frame: 1, id: 3 });
    }
}
