//! How far two runs of one drive agree: for a change of engine, precision or device, which changes bits but should change
//! nothing that is seen.
//!
//! Detections come from the two logs, tick by tick and camera by camera. Of each class, boxes are paired by their overlap,
//! the greatest first, each at most once; a pair agrees where overlap and scores are within the [`Tolerance`]. The share is
//! that of agreeing pairs among the boxes of the run that has more of them, picture by picture, so that a box that only one
//! of the runs has counts against it; not so a box whose score is so near to the threshold of detections that the tolerance
//! lets the other run fall below it. Of lanes and free space the differences are told.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::log::reader::ReadError;
use crate::log::run::RunReader;
use crate::messages::{CameraDetections, Detection};
use crate::source::{Preamble, PreambleError};
use crate::tap::Output;

/// Where lanes are held against each other, metres ahead.
const LANE_AT_M: f32 = 10.0;

/// What still agrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Least intersection over union of two boxes.
    pub min_iou: f32,
    /// Greatest difference of their scores.
    pub max_score_difference: f32,
}

impl Default for Tolerance {
    /// That of another engine with 32-bit arithmetic.
    fn default() -> Self {
        Tolerance { min_iou: 0.99, max_score_difference: 0.005 }
    }
}

/// Why two runs could not be held against each other.
#[derive(Debug, Error)]
pub enum AgreementError {
    /// A log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The beginning of a log does not read.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// The runs have no pictures in common.
    #[error("{} and {}: expected detections of the same ticks, found none", .0.display(), .1.display())]
    NothingInCommon(PathBuf, PathBuf),
}

/// How far two runs agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Pictures that both runs looked at.
    pub pictures: u64,
    /// Pictures that only one run has.
    pub unpaired_pictures: u64,
    /// Boxes of each run.
    pub boxes: [u64; 2],
    /// Boxes of the run with more of them, those at the threshold aside, summed over the pictures.
    pub most_boxes: u64,
    /// Pairs within the tolerance.
    pub agreeing: u64,
    /// Pairs outside it.
    pub near: u64,
    /// Boxes of one run only, at the threshold of detections.
    pub at_threshold: u64,
    /// Least overlap of a pair that agrees.
    pub worst_iou: Option<f32>,
    /// Greatest difference of the scores of a pair that agrees.
    pub worst_score_difference: Option<f32>,
    /// Lanes that both runs have and lanes that one has more.
    pub lanes: [u64; 2],
    /// Greatest lateral distance of two lanes 10 m ahead, in metres.
    pub worst_lane_m: Option<f32>,
    /// Greatest difference of free space in one direction, in metres, and the mean of all.
    pub worst_free_space_m: Option<f32>,
    /// Mean difference of free space.
    pub mean_free_space_m: Option<f64>,
}

impl Agreement {
    /// Agreeing pairs among the boxes, 0 to 1; 1 where neither run has a box.
    pub fn share(&self) -> f64 {
        if self.most_boxes == 0 { 1.0 } else { self.agreeing as f64 / self.most_boxes as f64 }
    }
}

/// Sums that become means.
#[derive(Default)]
struct Sums {
    free_space_m: f64,
    sectors: u64,
}

/// Holds the detections of two runs against each other.
///
/// # Errors
/// [`AgreementError`].
pub fn agreement(first: &Path, second: &Path, tolerance: Tolerance) -> Result<Agreement, AgreementError> {
    let threshold = lowest_threshold(first)?.min(lowest_threshold(second)?);
    let limits = Limits { tolerance, edge: threshold + tolerance.max_score_difference };
    let mut readers = [RunReader::open(first, Vec::new())?, RunReader::open(second, Vec::new())?];
    let [mut left, mut right] = [readers[0].next()?, readers[1].next()?];
    let mut found = Agreement::default();
    let mut sums = Sums::default();
    while let (Some(a), Some(b)) = (&left, &right) {
        let (of_a, of_b) = (a.decision.tick, b.decision.tick);
        if of_a == of_b {
            compare_ticks(a, b, &limits, &mut found, &mut sums);
        }
        if of_a <= of_b {
            left = readers[0].next()?;
        }
        if of_b <= of_a {
            right = readers[1].next()?;
        }
    }
    if found.pictures == 0 {
        return Err(AgreementError::NothingInCommon(first.to_owned(), second.to_owned()));
    }
    found.mean_free_space_m = (sums.sectors > 0).then(|| sums.free_space_m / sums.sectors as f64);
    Ok(found)
}

/// The tolerance, and the score up to which one run may have a box alone.
struct Limits {
    tolerance: Tolerance,
    edge: f32,
}

/// The least score of a detection in a run, as its header has it; 0 where it says nothing.
fn lowest_threshold(run: &Path) -> Result<f32, AgreementError> {
    let header = Preamble::read(run)?.run;
    let of_models = header.iter().filter(|(key, _)| key.starts_with("model.") && key.ends_with(".settings"));
    let score = |settings: &String| {
        let after = settings.split(", ").find_map(|part| part.strip_prefix("score "))?;
        after.parse::<f32>().ok()
    };
    Ok(of_models.filter_map(|(_, settings)| score(settings)).reduce(f32::min).unwrap_or(0.0))
}

fn compare_ticks(a: &Output, b: &Output, limits: &Limits, found: &mut Agreement, sums: &mut Sums) {
    let (Some(a), Some(b)) = (&a.body, &b.body) else { return };
    for one in a.detections.iter().filter(|one| one.present) {
        match b.detections.iter().find(|other| other.sensor == one.sensor && other.present) {
            None => found.unpaired_pictures += 1,
            Some(other) => {
                found.pictures += 1;
                compare_boxes(&one.objects, &other.objects, limits, found);
                compare_road(one, other, found, sums);
            }
        }
    }
    let only_in_b = |other: &&CameraDetections| {
        other.present && !a.detections.iter().any(|one| one.sensor == other.sensor && one.present)
    };
    found.unpaired_pictures += b.detections.iter().filter(only_in_b).count() as u64;
}

fn compare_boxes(a: &[Detection], b: &[Detection], limits: &Limits, found: &mut Agreement) {
    let tolerance = limits.tolerance;
    found.boxes[0] += a.len() as u64;
    found.boxes[1] += b.len() as u64;
    let mut pairs = Vec::new();
    for (i, one) in a.iter().enumerate() {
        for (j, other) in b.iter().enumerate().filter(|(_, other)| other.class == one.class) {
            let iou = one.box_px.iou(&other.box_px);
            if iou > 0.5 {
                pairs.push((iou, (one.score - other.score).abs(), i, j));
            }
        }
    }
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.total_cmp(&y.1)).then((x.2, x.3).cmp(&(y.2, y.3))));
    let (mut taken_a, mut taken_b) = (vec![false; a.len()], vec![false; b.len()]);
    for (iou, score_difference, i, j) in pairs {
        if taken_a[i] || taken_b[j] {
            continue;
        }
        (taken_a[i], taken_b[j]) = (true, true);
        if iou >= tolerance.min_iou && score_difference <= tolerance.max_score_difference {
            found.agreeing += 1;
            found.worst_iou = Some(found.worst_iou.map_or(iou, |worst| worst.min(iou)));
            grow(&mut found.worst_score_difference, score_difference);
        } else {
            found.near += 1;
        }
    }
    let at_edge = |boxes: &[Detection], taken: &[bool]| {
        boxes.iter().zip(taken).filter(|(one, taken)| !**taken && one.score <= limits.edge).count()
    };
    let (of_a, of_b) = (at_edge(a, &taken_a), at_edge(b, &taken_b));
    found.at_threshold += (of_a + of_b) as u64;
    found.most_boxes += (a.len() - of_a).max(b.len() - of_b) as u64;
}

fn compare_road(a: &CameraDetections, b: &CameraDetections, found: &mut Agreement, sums: &mut Sums) {
    let (shorter, longer) = (a.lanes.len().min(b.lanes.len()), a.lanes.len().max(b.lanes.len()));
    found.lanes[0] += shorter as u64;
    found.lanes[1] += (longer - shorter) as u64;
    if shorter == longer {
        for (one, other) in a.lanes.iter().zip(&b.lanes) {
            grow(&mut found.worst_lane_m, (one.y_at(LANE_AT_M) - other.y_at(LANE_AT_M)).abs());
        }
    }
    for (one, other) in a.free_space.range_m.iter().zip(&b.free_space.range_m) {
        let difference = (one - other).abs();
        grow(&mut found.worst_free_space_m, difference);
        sums.free_space_m += f64::from(difference);
        sums.sectors += 1;
    }
}

fn grow(worst: &mut Option<f32>, value: f32) {
    *worst = Some(worst.map_or(value, |worst| worst.max(value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::BoxPx;

    fn detection(left: f32, score: f32, class: u16) -> Detection {
        Detection { box_px: BoxPx { left, top: 0.0, right: left + 100.0, bottom: 100.0 }, score, class }
    }

    fn compared(a: &[Detection], b: &[Detection]) -> Agreement {
        let mut found = Agreement::default();
        let limits = Limits { tolerance: Tolerance::default(), edge: 0.305 };
        compare_boxes(a, b, &limits, &mut found);
        found
    }

    #[test]
    fn pairs_agree_within_the_tolerance() {
        let a = [detection(0.0, 0.9, 0), detection(200.0, 0.8, 0), detection(400.0, 0.7, 0)];
        let b = [detection(0.2, 0.903, 0), detection(205.0, 0.8, 0), detection(400.0, 0.71, 0)];
        let found = compared(&a, &b);
        assert_eq!((found.agreeing, found.near, found.most_boxes), (1, 2, 3));
        assert!((found.share() - 1.0 / 3.0).abs() < 1e-12);
        assert!(found.worst_iou.unwrap() >= 0.99);
    }

    #[test]
    fn what_only_one_has_counts_against_both() {
        let one = detection(0.0, 0.9, 0);
        assert_eq!(compared(&[one], &[]).share(), 0.0);
        assert_eq!(compared(&[], &[one]).share(), 0.0);
        assert_eq!(compared(&[one], &[detection(0.0, 0.9, 1)]).agreeing, 0);
        assert_eq!(compared(&[], &[]).share(), 1.0);
    }

    #[test]
    fn a_box_at_the_threshold_may_be_missing() {
        let found = compared(&[detection(0.0, 0.9, 0), detection(200.0, 0.303, 0)], &[detection(0.0, 0.9, 0)]);
        assert_eq!((found.agreeing, found.most_boxes, found.at_threshold), (1, 1, 1));
        assert_eq!(compared(&[detection(200.0, 0.31, 0)], &[]).share(), 0.0);
    }

    #[test]
    fn a_box_is_paired_once() {
        let one = detection(0.0, 0.9, 0);
        let found = compared(&[one, one], &[one]);
        assert_eq!((found.agreeing, found.most_boxes), (1, 2));
    }
}
