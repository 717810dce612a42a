//! How good tracks are: MOT challenge files in, CLEAR-MOT and identity measures out.
//!
//! CLEAR-MOT is defined by Bernardin and Stiefelhagen ("Evaluating Multiple Object Tracking Performance: The CLEAR MOT
//! Metrics", EURASIP JIVP 2008), IDF1, IDP and IDR by Ristani et al. ("Performance Measures and a Data Set for
//! Multi-Target, Multi-Camera Tracking", ECCV Workshops 2016). Where those leave a choice it is made as py-motmetrics
//! makes it, so that figures can be compared: a pair of an earlier frame is kept while it overlaps enough, in the order
//! of the file; the rest is paired by the fewest misses, then the least distance; the distance of two boxes is one minus
//! their overlap. A ratio without a denominator is NaN or infinite, as there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::stages::track::assignment::Assignment;

/// Most objects, and most tracks, in one evaluation; the identity measures weigh each against each.
pub const MAX_IDS: usize = 4096;

/// Steps into which a distance of 0 to 1 is divided where pairs are weighed against each other.
const DISTANCE_STEPS: f64 = 2_147_483_648.0;

/// An object was tracked mostly when in at least this part of its frames.
const MOSTLY_TRACKED: f64 = 0.8;
/// An object was lost mostly when tracked in less than this part of its frames.
const MOSTLY_LOST: f64 = 0.2;

/// One row of a MOT challenge file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MotBox {
    /// Number of the object or track; -1 in files of detections.
    pub id: i64,
    /// Left edge in pixels, with the middle of the first pixel at 0 (files count from 1).
    pub left: f64,
    /// Top edge in pixels, likewise.
    pub top: f64,
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Score of a detection; 1 or 0 for true objects that count or do not; -1 where there is none.
    pub confidence: f64,
}

/// Boxes by frame, in the order of the file.
pub type MotFrames = BTreeMap<u32, Vec<MotBox>>;

/// Why a MOT challenge file could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file could not be opened or is not UTF-8.
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is too short.
    #[error("{}, line {line}: expected at least 7 values (frame,id,left,top,width,height,confidence), found {found}", .file.display())]
    TooFewValues {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Values on it.
        found: usize,
    },
    /// A value is of the wrong kind.
    #[error("{}, line {line}: {key}: expected {expected}, found `{found}`", .file.display())]
    BadValue {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Name of the value.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// Why tracks could not be evaluated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvaluateError {
    /// A number occurs twice in one frame.
    #[error("frame {frame} of the {side}: expected every id once, found {id} twice")]
    DuplicateId {
        /// "truth" or "tracks".
        side: &'static str,
        /// The frame.
        frame: u32,
        /// The number.
        id: i64,
    },
    /// More ids than can be weighed against each other.
    #[error("the {side}: expected at most {} ids, found {found}", MAX_IDS)]
    TooManyIds {
        /// "truth" or "tracks".
        side: &'static str,
        /// Ids found.
        found: usize,
    },
}

/// Counts and measures of one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MotMetrics {
    /// Frames with a true object or a track.
    pub frames: u64,
    /// True boxes in all frames.
    pub objects: u64,
    /// Boxes of tracks in all frames.
    pub predictions: u64,
    /// True boxes that a track covers, switches included.
    pub matches: u64,
    /// Boxes of tracks that cover nothing.
    pub false_positives: u64,
    /// True boxes that no track covers.
    pub misses: u64,
    /// Times that an object is covered by another track than the last time.
    pub switches: u64,
    /// Times that an object is lost and found again.
    pub fragmentations: u64,
    /// Objects tracked in at least 80 % of their frames.
    pub mostly_tracked: u64,
    /// Objects tracked in less than 20 % of their frames.
    pub mostly_lost: u64,
    /// 1 - (misses + false positives + switches) / objects.
    pub mota: f64,
    /// Mean distance (1 - IoU) of the matches: less is better.
    pub motp: f64,
    /// matches / objects.
    pub recall: f64,
    /// matches / (matches + false positives).
    pub precision: f64,
    /// 2 IDTP / (objects + predictions), with IDTP the frames in which the best one-to-one pairing of objects with
    /// tracks over the whole sequence holds.
    pub idf1: f64,
    /// IDTP / predictions.
    pub idp: f64,
    /// IDTP / objects.
    pub idr: f64,
}

/// Reads a MOT challenge file: `frame,id,left,top,width,height,confidence` and values that are not looked at, one box
/// per line. Rows with a confidence below `min_confidence` are left out: 1 for true objects, minus infinity for all.
pub fn read(file: &Path, min_confidence: f64) -> Result<MotFrames, ReadError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ReadError::Unreadable { file: file.to_owned(), source })?;
    parse(&text, file, min_confidence)
}

/// Reads the text of a MOT challenge file, as [`read`] does; `file` is named in errors.
pub fn parse(text: &str, file: &Path, min_confidence: f64) -> Result<MotFrames, ReadError> {
    let mut frames = MotFrames::new();
    for (index, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let (frame, row) = Line { file, number: index + 1 }.parse(text)?;
        if row.confidence >= min_confidence {
            frames.entry(frame).or_default().push(row);
        }
    }
    Ok(frames)
}

/// The text of a MOT challenge file, which [`parse`] reads back. Boxes taken from `f32` come back to the bit.
pub fn to_text(frames: &MotFrames) -> String {
    let mut text = String::new();
    for (frame, boxes) in frames {
        for MotBox { id, left, top, width, height, confidence } in boxes {
            let (left, top) = (left + 1.0, top + 1.0);
            // writing to a string cannot fail
            let _ = writeln!(text, "{frame},{id},{left},{top},{width},{height},{confidence},-1,-1,-1");
        }
    }
    text
}

/// Where a row stands, for errors.
#[derive(Clone, Copy)]
struct Line<'a> {
    file: &'a Path,
    number: usize,
}

impl Line<'_> {
    fn parse(self, text: &str) -> Result<(u32, MotBox), ReadError> {
        let values: Vec<&str> = text.split(',').take(7).map(str::trim).collect();
        let [frame, id, left, top, width, height, confidence] = values[..] else {
            return Err(ReadError::TooFewValues { file: self.file.to_owned(), line: self.number, found: values.len() });
        };
        let frame =
            frame.parse::<u32>().map_err(|_| self.bad("frame", "a whole number from 0 to 4294967295", frame))?;
        let row = MotBox {
            id: id.parse::<i64>().map_err(|_| self.bad("id", "a whole number", id))?,
            left: self.finite("left", left)? - 1.0,
            top: self.finite("top", top)? - 1.0,
            width: self.finite("width", width)?,
            height: self.finite("height", height)?,
            confidence: self.finite("confidence", confidence)?,
        };
        Ok((frame, row))
    }

    fn finite(self, key: &'static str, text: &str) -> Result<f64, ReadError> {
        let value: Option<f64> = text.parse().ok();
        value.filter(|value| value.is_finite()).ok_or_else(|| self.bad(key, "a finite number", text))
    }

    fn bad(self, key: &'static str, expected: &'static str, found: &str) -> ReadError {
        ReadError::BadValue { file: self.file.to_owned(), line: self.number, key, expected, found: found.to_owned() }
    }
}

/// Measures `tracks` against `truth`. Boxes with a distance (1 - IoU) above `max_distance` are never a pair; 0.5 is
/// customary.
pub fn evaluate(truth: &MotFrames, tracks: &MotFrames, max_distance: f64) -> Result<MotMetrics, EvaluateError> {
    check(truth, "truth")?;
    check(tracks, "tracks")?;
    let frames = side_by_side(truth, tracks);
    let mut tally = Tally::default();
    for &(objects, hypotheses) in &frames {
        tally.add_frame(&Frame { objects, hypotheses, max_distance });
    }
    Ok(tally.finish(frames.len() as u64))
}

/// The boxes of the truth and of the tracks in each frame that is named in either, in order.
pub(super) fn side_by_side<'a>(truth: &'a MotFrames, tracks: &'a MotFrames) -> Vec<(&'a [MotBox], &'a [MotBox])> {
    let frames: BTreeSet<u32> = truth.keys().chain(tracks.keys()).copied().collect();
    let boxes = |side: &'a MotFrames, frame: u32| side.get(&frame).map(Vec::as_slice).unwrap_or_default();
    frames.into_iter().map(|frame| (boxes(truth, frame), boxes(tracks, frame))).collect()
}

/// Refuses tracks or truth that cannot be weighed: an id twice in a frame, or too many ids.
pub(super) fn check(frames: &MotFrames, side: &'static str) -> Result<(), EvaluateError> {
    let mut all = Vec::new();
    for (&frame, boxes) in frames {
        let mut ids: Vec<i64> = boxes.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|two| two[0] == two[1]) {
            return Err(EvaluateError::DuplicateId { side, frame, id: twice[0] });
        }
        all.extend(ids);
    }
    all.sort_unstable();
    all.dedup();
    if all.len() > MAX_IDS {
        return Err(EvaluateError::TooManyIds { side, found: all.len() });
    }
    Ok(())
}

/// The boxes of one frame.
struct Frame<'a> {
    objects: &'a [MotBox],
    hypotheses: &'a [MotBox],
    max_distance: f64,
}

impl Frame<'_> {
    /// Distance of an object to a hypothesis, where they may be a pair.
    fn distance(&self, object: usize, hypothesis: usize) -> Option<f64> {
        let distance = 1.0 - iou(&self.objects[object], &self.hypotheses[hypothesis]);
        (distance <= self.max_distance).then_some(distance)
    }
}

/// Area that two boxes share, over the area that they cover together.
pub(super) fn iou(a: &MotBox, b: &MotBox) -> f64 {
    let width = (a.left + a.width).min(b.left + b.width) - a.left.max(b.left);
    let height = (a.top + a.height).min(b.top + b.height) - a.top.max(b.top);
    let shared = width.max(0.0) * height.max(0.0);
    if shared == 0.0 {
        return 0.0;
    }
    let area = |of: &MotBox| of.width.max(0.0) * of.height.max(0.0);
    shared / (area(a) + area(b) - shared)
}

/// What became of one true object so far.
#[derive(Default)]
struct History {
    frames: u64,
    tracked: u64,
    last_hypothesis: Option<i64>,
    lost: bool,
}

/// Sums over the frames so far.
struct Tally {
    metrics: MotMetrics,
    distance: f64,
    objects: BTreeMap<i64, History>,
    hypotheses: BTreeMap<i64, u64>,
    /// Frames in which an object and a hypothesis could be a pair.
    overlaps: BTreeMap<(i64, i64), u32>,
    assignment: Assignment,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            metrics: MotMetrics::default(),
            distance: 0.0,
            objects: BTreeMap::new(),
            hypotheses: BTreeMap::new(),
            overlaps: BTreeMap::new(),
            assignment: Assignment::new(0),
        }
    }
}

impl Tally {
    fn add_frame(&mut self, frame: &Frame) {
        self.count_ids(frame);
        let pairs = self.match_frame(frame);
        for (object, hypothesis) in pairs.iter().enumerate() {
            let id = frame.objects[object].id;
            match hypothesis {
                Some(hypothesis) => {
                    let distance = frame.distance(object, *hypothesis).unwrap_or(0.0);
                    self.count_match(id, frame.hypotheses[*hypothesis].id, distance);
                }
                None => self.count_miss(id),
            }
        }
        let matched = pairs.iter().flatten().count();
        self.metrics.false_positives += (frame.hypotheses.len() - matched) as u64;
    }

    fn count_ids(&mut self, frame: &Frame) {
        for object in frame.objects {
            self.objects.entry(object.id).or_default().frames += 1;
        }
        for hypothesis in frame.hypotheses {
            *self.hypotheses.entry(hypothesis.id).or_default() += 1;
        }
        for (index, object) in frame.objects.iter().enumerate() {
            for (other, hypothesis) in frame.hypotheses.iter().enumerate() {
                if frame.distance(index, other).is_some() {
                    *self.overlaps.entry((object.id, hypothesis.id)).or_default() += 1;
                }
            }
        }
        self.metrics.objects += frame.objects.len() as u64;
        self.metrics.predictions += frame.hypotheses.len() as u64;
    }

    /// The hypothesis of each object: the one of before where it still may be, else by the best pairing of the rest.
    fn match_frame(&mut self, frame: &Frame) -> Vec<Option<usize>> {
        let mut pairs = vec![None; frame.objects.len()];
        let mut taken = vec![false; frame.hypotheses.len()];
        for (object, pair) in pairs.iter_mut().enumerate() {
            let last = self.objects.get(&frame.objects[object].id).and_then(|history| history.last_hypothesis);
            let index = frame.hypotheses.iter().position(|hypothesis| Some(hypothesis.id) == last);
            let kept = index.filter(|&index| !taken[index] && frame.distance(object, index).is_some());
            if let Some(index) = kept {
                taken[index] = true;
                *pair = kept;
            }
        }
        let rest = self.assignment.solve(frame.objects.len(), frame.hypotheses.len(), |object, hypothesis| {
            if pairs[object].is_some() || taken[hypothesis] {
                return None;
            }
            frame.distance(object, hypothesis).map(|distance| (distance * DISTANCE_STEPS) as u32)
        });
        pairs.iter().zip(rest).map(|(kept, found)| kept.or(*found)).collect()
    }

    fn count_match(&mut self, object: i64, hypothesis: i64, distance: f64) {
        let history = self.objects.entry(object).or_default();
        if history.last_hypothesis.is_some_and(|last| last != hypothesis) {
            self.metrics.switches += 1;
        }
        if history.lost {
            self.metrics.fragmentations += 1;
        }
        history.last_hypothesis = Some(hypothesis);
        history.lost = false;
        history.tracked += 1;
        self.metrics.matches += 1;
        self.distance += distance;
    }

    fn count_miss(&mut self, object: i64) {
        let history = self.objects.entry(object).or_default();
        history.lost = history.tracked > 0;
        self.metrics.misses += 1;
    }

    fn finish(mut self, frames: u64) -> MotMetrics {
        let identity = self.identity_matches();
        let mut found = self.metrics;
        found.frames = frames;
        for history in self.objects.values() {
            let tracked = ratio(history.tracked, history.frames);
            found.mostly_tracked += u64::from(tracked >= MOSTLY_TRACKED);
            found.mostly_lost += u64::from(tracked < MOSTLY_LOST);
        }
        found.mota = 1.0 - ratio(found.misses + found.switches + found.false_positives, found.objects);
        found.motp = self.distance / found.matches as f64;
        found.recall = ratio(found.matches, found.objects);
        found.precision = ratio(found.matches, found.matches + found.false_positives);
        found.idf1 = ratio(2 * identity, found.objects + found.predictions);
        found.idp = ratio(identity, found.predictions);
        found.idr = ratio(identity, found.objects);
        found
    }

    /// Frames in which the best pairing of whole objects with whole tracks holds.
    fn identity_matches(&mut self) -> u64 {
        let objects: Vec<i64> = self.objects.keys().copied().collect();
        let hypotheses: Vec<i64> = self.hypotheses.keys().copied().collect();
        let most = self.overlaps.values().copied().max().unwrap_or(0);
        let overlaps = &self.overlaps;
        let overlap = |object: usize, hypothesis: usize| {
            overlaps.get(&(objects[object], hypotheses[hypothesis])).copied().unwrap_or(0)
        };
        let pairs = self
            .assignment
            .solve(objects.len(), hypotheses.len(), |object, hypothesis| Some(most - overlap(object, hypothesis)));
        let held = pairs
            .iter()
            .enumerate()
            .filter_map(|(object, hypothesis)| hypothesis.map(|hypothesis| u64::from(overlap(object, hypothesis))));
        held.sum()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
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

    fn read_text(text: &str) -> Result<MotFrames, ReadError> {
        parse(text, Path::new("a.txt"), 1.0)
    }

    #[test]
    fn reads_rows_and_leaves_out_those_that_do_not_count() {
        let found = read_text("2,7,11,21,3.5,4,1,-1,-1,-1\r\n\n2, 8, 1, 1, 1, 1, 0\n1,7,1,1,1,1,1").unwrap();
        let kept = MotBox { id: 7, left: 10.0, top: 20.0, width: 3.5, height: 4.0, confidence: 1.0 };
        assert_eq!(found.get(&2), Some(&vec![kept]));
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let odd = MotBox { left: f64::from(0.1_f32), width: f64::from(1.0_f32 / 3.0), ..row(9, 0.0) };
        let written = frames(&[&[row(7, 10.5), odd], &[row(7, -3.25)]]);
        assert_eq!(read_text(&to_text(&written)).unwrap(), written);
    }

    #[test]
    fn errors_say_where_and_what() {
        let said = |text: &str| read_text(text).unwrap_err().to_string();
        assert_eq!(
            said("1,1,1,1,1,1,1\n1,2,3"),
            "a.txt, line 2: expected at least 7 values (frame,id,left,top,width,height,confidence), found 3"
        );
        assert_eq!(said("1,1,1,x,1,1,1"), "a.txt, line 1: top: expected a finite number, found `x`");
        assert_eq!(said("1,1,1,1,nan,1,1"), "a.txt, line 1: width: expected a finite number, found `nan`");
        assert_eq!(
            said("-1,1,1,1,1,1,1"),
            "a.txt, line 1: frame: expected a whole number from 0 to 4294967295, found `-1`"
        );
        assert!(read(Path::new("/no/such/file"), 1.0).unwrap_err().to_string().starts_with("/no/such/file: cannot be"));
    }

    #[test]
    fn perfect_tracks_are_perfect() {
        let truth = frames(&[&[row(1, 0.0), row(2, 50.0)], &[row(1, 2.0), row(2, 50.0)]]);
        let tracks = frames(&[&[row(9, 50.0), row(4, 0.0)], &[row(9, 50.0), row(4, 2.0)]]);
        let found = evaluate(&truth, &tracks, 0.5).unwrap();
        assert_eq!((found.mota, found.motp, found.idf1, found.idp, found.idr), (1.0, 0.0, 1.0, 1.0, 1.0));
        assert_eq!((found.matches, found.misses, found.false_positives, found.switches), (4, 0, 0, 0));
        assert_eq!((found.frames, found.mostly_tracked, found.mostly_lost), (2, 2, 0));
    }

    #[test]
    fn counts_a_switch_a_gap_and_a_false_alarm() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[row(5, 0.0)], &[], &[row(6, 0.0), row(7, 90.0)], &[row(6, 0.0)]]);
        let found = evaluate(&truth, &tracks, 0.5).unwrap();
        assert_eq!((found.matches, found.misses, found.false_positives), (3, 1, 1));
        assert_eq!((found.switches, found.fragmentations), (1, 1));
        assert_eq!(found.mota, 1.0 - 3.0 / 4.0);
        assert_eq!((found.recall, found.precision), (0.75, 0.75));
        // track 6 stands for the object in two of its four frames
        assert_eq!((found.idf1, found.idp, found.idr), (4.0 / 8.0, 2.0 / 4.0, 2.0 / 4.0));
        assert_eq!((found.mostly_tracked, found.mostly_lost), (0, 0));
    }

    #[test]
    fn an_earlier_pair_is_kept_though_another_is_nearer() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[row(5, 0.0)], &[row(6, 0.0), row(5, 2.0)]]);
        let found = evaluate(&truth, &tracks, 0.5).unwrap();
        assert_eq!((found.switches, found.false_positives), (0, 1));
        assert!((found.motp - (1.0 - 8.0 / 12.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_end_is_no_fragmentation() {
        let truth = frames(&[&[row(1, 0.0)], &[row(1, 0.0)], &[row(1, 0.0)]]);
        let tracks = frames(&[&[], &[row(5, 0.0)]]);
        assert_eq!(evaluate(&truth, &tracks, 0.5).unwrap().fragmentations, 0);
    }

    #[test]
    fn an_id_must_be_unique_in_a_frame() {
        let twice = frames(&[&[row(1, 0.0)], &[row(3, 0.0), row(3, 50.0)]]);
        let error = evaluate(&MotFrames::new(), &twice, 0.5).unwrap_err();
        assert_eq!(error, EvaluateError::DuplicateId { side: "tracks", frame: 2, id: 3 });
    }

    #[test]
    fn nothing_has_no_measures_and_does_not_panic() {
        let found = evaluate(&MotFrames::new(), &MotFrames::new(), 0.5).unwrap();
        assert_eq!(found.frames, 0);
        assert!(found.mota.is_nan() && found.motp.is_nan() && found.idf1.is_nan());
    }
}
