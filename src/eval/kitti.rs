//! How good detections are on KITTI's object benchmark: a folder of labels and one of results in, precision out.
//!
//! Files are `NNNNNN.txt` with an object per line, as the benchmark's development kit describes them: class, truncation,
//! occlusion, observation angle, box (left, top, right, bottom), height, width, length, place in the rectified camera's
//! frame, turn about its y axis, and in results a score. Difficulty is moderate: at least 25 pixels high, at most partly
//! occluded, truncated by at most 30 %. Whatever is harder is ignored, as are vans among cars, sitting people among
//! pedestrians, and what falls on regions that nobody labelled (`DontCare`). Results lower than 25 pixels are left out.
//! Rectangles from above are of x and z, the length along the turn. See [`detection`](super::detection) for the rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::detection::{Detected, KITTI_CAR_IOU, KITTI_OTHER_IOU, Labelled, ScoreError, bird_iou, coco, kitti};
use crate::messages::BoxPx;

/// Least height of an object that counts.
const MIN_HEIGHT_PX: f32 = 25.0;
/// Most occlusion of an object that counts: 1 is partly occluded.
const MAX_OCCLUDED: f64 = 1.0;
/// Most truncation of an object that counts.
const MAX_TRUNCATED: f64 = 0.3;

/// The classes that count, and the neighbours that are ignored among them.
const CLASSES: [(&str, &str); 3] = [("Car", "Van"), ("Pedestrian", "Person_sitting"), ("Cyclist", "")];
/// A region that nobody labelled.
const REGION: &str = "DontCare";

/// Why results could not be evaluated.
#[derive(Debug, Error)]
pub enum EvaluateKittiError {
    /// A file or folder does not read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder holds no labels.
    #[error("{}: expected files NNNNNN.txt, found none", .0.display())]
    NoLabels(PathBuf),
    /// A labelled frame has no results.
    #[error("{}: expected a file for each labelled frame, empty where nothing was detected, found none", .0.display())]
    NoResult(PathBuf),
    /// A line has not the right number of values.
    #[error("{}, line {line}: expected {expected} values, found {found}", .file.display())]
    Values {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Values that belong there.
        expected: usize,
        /// Values on it.
        found: usize,
    },
    /// A value is of the wrong kind.
    #[error("{}, line {line}: {key}: expected a finite number, found `{found}`", .file.display())]
    BadValue {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Name of the value.
        key: &'static str,
        /// What is there.
        found: String,
    },
    /// A detection has no place in the order.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// Names of a line's numbers, behind the class.
const KEYS: [&str; 15] = [
    "truncated",
    "occluded",
    "alpha",
    "left",
    "top",
    "right",
    "bottom",
    "height",
    "width",
    "length",
    "x",
    "y",
    "z",
    "rotation_y",
    "score",
];

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The class, in KITTI's words.
    pub class: String,
    /// Part outside the picture, 0 to 1; -1 where not known.
    pub truncated: f64,
    /// 0 visible, 1 partly occluded, 2 largely, 3 unknown; -1 in regions and results.
    pub occluded: f64,
    /// Its box.
    pub box_px: BoxPx,
    /// Seen from above: x, z, length, width, and the direction of the length from x towards z.
    pub rectangle: [f64; 5],
    /// How sure the detector is; 0 in labels.
    pub score: f64,
}

/// Reads the text of a file; `file` is named in errors. Results have a score, labels have none.
pub fn parse(text: &str, file: &Path, has_score: bool) -> Result<Vec<Row>, EvaluateKittiError> {
    let lines = text.lines().zip(1..).filter(|(text, _)| !text.trim().is_empty());
    lines.map(|(text, line)| parse_line(text, (file, line), has_score)).collect()
}

fn parse_line(text: &str, (file, line): (&Path, usize), has_score: bool) -> Result<Row, EvaluateKittiError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let expected = KEYS.len() + usize::from(has_score);
    let (class, values) = match words.as_slice() {
        [class, values @ ..] if words.len() == expected => (class, values),
        _ => return Err(EvaluateKittiError::Values { file: file.to_owned(), line, expected, found: words.len() }),
    };
    let mut numbers = [0.0_f64; KEYS.len()];
    for ((number, word), key) in numbers.iter_mut().zip(values).zip(KEYS) {
        let value: Option<f64> = word.parse().ok().filter(|value: &f64| value.is_finite());
        *number = value.ok_or_else(|| {
            let (file, found) = (file.to_owned(), (*word).to_owned());
            EvaluateKittiError::BadValue { file, line, key, found }
        })?;
    }
    let [truncated, occluded, _, left, top, right, bottom, _, width, length, x, _, z, turn, score] = numbers;
    let [left, top, right, bottom] = [left, top, right, bottom].map(|edge| edge as f32);
    // the turn goes from x away from z
    let rectangle = [x, z, length, width, -turn];
    let box_px = BoxPx { left, top, right, bottom };
    Ok(Row { class: (*class).to_owned(), truncated, occluded, box_px, rectangle, score })
}

/// One object as it is compared.
#[derive(Clone, Copy, Debug)]
struct Shape {
    box_px: BoxPx,
    rectangle: [f64; 5],
    is_region: bool,
}

impl Shape {
    fn of(row: &Row) -> Shape {
        Shape { box_px: row.box_px, rectangle: row.rectangle, is_region: row.class == REGION }
    }
}

/// The part of a detection that a region covers.
fn covered(found: &BoxPx, region: &BoxPx) -> f64 {
    let width = found.right.min(region.right) - found.left.max(region.left);
    let height = found.bottom.min(region.bottom) - found.top.max(region.top);
    let part = f64::from(width.max(0.0) * height.max(0.0)) / f64::from(found.area());
    if part.is_finite() { part } else { 0.0 }
}

fn picture_overlap(truth: &Labelled<Shape>, found: &Detected<Shape>) -> f64 {
    if truth.shape.is_region {
        return covered(&found.shape.box_px, &truth.shape.box_px);
    }
    f64::from(truth.shape.box_px.iou(&found.shape.box_px))
}

/// Regions have no place on the ground, so the picture decides about them here too.
fn bird_overlap(truth: &Labelled<Shape>, found: &Detected<Shape>) -> f64 {
    if truth.shape.is_region {
        return covered(&found.shape.box_px, &truth.shape.box_px);
    }
    bird_iou(&truth.shape.rectangle, &found.shape.rectangle)
}

/// Labels and results, ready to be compared.
#[derive(Default)]
struct Sheet {
    labelled: Vec<Labelled<Shape>>,
    detected: Vec<Detected<Shape>>,
}

impl Sheet {
    fn add(&mut self, frame: u64, labels: &[Row], results: &[Row]) {
        for row in labels {
            let is_hard =
                row.box_px.height() < MIN_HEIGHT_PX || row.occluded > MAX_OCCLUDED || row.truncated > MAX_TRUNCATED;
            for ((name, neighbour), class) in CLASSES.iter().zip(0_u16..) {
                let is_it = row.class == *name;
                if is_it || row.class == *neighbour || row.class == REGION {
                    let ignore = !is_it || is_hard;
                    self.labelled.push(Labelled { frame, class, shape: Shape::of(row), ignore });
                }
            }
        }
        for row in results.iter().filter(|row| row.box_px.height() >= MIN_HEIGHT_PX) {
            let class = CLASSES.iter().zip(0_u16..).find(|((name, _), _)| row.class.eq_ignore_ascii_case(name));
            if let Some((_, class)) = class {
                self.detected.push(Detected { frame, class, shape: Shape::of(row), score: row.score });
            }
        }
    }

    fn measure(&self) -> Result<BTreeMap<String, Option<f64>>, ScoreError> {
        let mut metrics = BTreeMap::new();
        type Overlap = fn(&Labelled<Shape>, &Detected<Shape>) -> f64;
        let views: [(&str, Overlap); 2] = [("picture", picture_overlap), ("birds_eye", bird_overlap)];
        for (view, overlap) in views {
            let least = |class: u16| if class == 0 { KITTI_CAR_IOU } else { KITTI_OTHER_IOU };
            let by_kitti = kitti(&self.labelled, &self.detected, overlap, least)?;
            let by_coco = coco(&self.labelled, &self.detected, overlap)?;
            let finite = |value: f64| value.is_finite().then_some(value);
            metrics.insert(format!("kitti.{view}.ap"), finite(by_coco.ap));
            metrics.insert(format!("kitti.{view}.ap50"), finite(by_coco.ap50));
            for ((name, _), class) in CLASSES.iter().zip(0_u16..) {
                let at = by_coco.classes.get(&class);
                let key = |measure: &str| format!("kitti.{view}.{}.{measure}", name.to_ascii_lowercase());
                metrics.insert(key("ap40"), by_kitti.get(&class).copied());
                metrics.insert(key("ap"), at.map(|at| at.iter().sum::<f64>() / at.len() as f64));
                metrics.insert(key("ap50"), at.map(|at| at[0]));
            }
        }
        Ok(metrics)
    }
}

/// Measures the results in one folder against the labels in another: by class AP40 at KITTI's overlap, and AP and AP50 of
/// COCO, in the picture and from above. A class without an object that counts has no value.
pub fn evaluate(truth: &Path, results: &Path) -> Result<BTreeMap<String, Option<f64>>, EvaluateKittiError> {
    let unreadable = |path: &Path, source| EvaluateKittiError::Unreadable { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(truth).map_err(|error| unreadable(truth, error))? {
        let name = entry.map_err(|error| unreadable(truth, error))?.file_name();
        names.extend(
            name.to_str().and_then(|name| Some((name.strip_suffix(".txt")?.parse::<u64>().ok()?, name.to_owned()))),
        );
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(EvaluateKittiError::NoLabels(truth.to_owned()));
    }
    let read = |path: &Path, has_score| {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        parse(&text, path, has_score)
    };
    let mut sheet = Sheet::default();
    for (frame, name) in names {
        let result = results.join(&name);
        if !result.exists() {
            return Err(EvaluateKittiError::NoResult(result));
        }
        sheet.add(frame, &read(&truth.join(&name), false)?, &read(&result, true)?);
    }
    Ok(sheet.measure()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: &str = "Car 0.00 0 1.57 100.0 150.0 180.0 200.0 1.5 1.6 4.0 1.0 1.6 20.0 -1.57";
    const VAN: &str = "Van 0.00 0 1.57 300.0 150.0 380.0 200.0 2.0 1.8 5.0 5.0 1.6 20.0 -1.57";
    const HIDDEN: &str = "Car 0.00 2 1.57 400.0 150.0 480.0 200.0 1.5 1.6 4.0 9.0 1.6 20.0 -1.57";
    const REGION: &str = "DontCare -1 -1 -10 500.0 100.0 700.0 220.0 -1 -1 -1 -1000 -1000 -1000 -10";

    fn parsed(text: &str, has_score: bool) -> Result<Vec<Row>, String> {
        parse(text, Path::new("000001.txt"), has_score).map_err(|error| error.to_string())
    }

    /// Measures these results against one frame of the lines above.
    fn measured(results: &str) -> BTreeMap<String, Option<f64>> {
        let mut sheet = Sheet::default();
        let labels = parsed(&[CAR, VAN, HIDDEN, REGION].join("\n"), false).unwrap();
        sheet.add(1, &labels, &parsed(results, true).unwrap());
        sheet.measure().unwrap()
    }

    #[test]
    fn a_line_has_its_values() {
        let row = &parsed(&format!("\n{CAR}\n"), false).unwrap()[0];
        assert_eq!((row.class.as_str(), row.box_px.right, row.rectangle), ("Car", 180.0, [1.0, 20.0, 4.0, 1.6, 1.57]));
        assert_eq!(parsed(&format!("{CAR} 0.5"), true).unwrap()[0].score, 0.5);
        let told = parsed(CAR, true).unwrap_err();
        assert_eq!(told, "000001.txt, line 1: expected 16 values, found 15");
        let told = parsed(&format!("{CAR}\n{}", CAR.replace("20.0 -1.57", "nan -1.57")), false).unwrap_err();
        assert_eq!(told, "000001.txt, line 2: z: expected a finite number, found `nan`");
    }

    #[test]
    fn what_is_ignored_counts_neither_for_nor_against() {
        let in_region = "Car 0 0 0 520.0 120.0 600.0 180.0 1.5 1.6 4.0 15.0 1.6 30.0 0.0 0.97";
        let low = "Car 0 0 0 10.0 100.0 40.0 120.0 1.5 1.6 4.0 -9.0 1.6 60.0 0.0 0.99";
        let van = format!("{} 0.96", VAN.replace("Van", "Car"));
        let lines = [format!("{CAR} 0.9"), van, format!("{HIDDEN} 0.95"), in_region.to_owned(), low.to_owned()];
        let found = measured(&lines.join("\n"));
        for view in ["picture", "birds_eye"] {
            for measure in ["ap40", "ap", "ap50"] {
                let value = found[&format!("kitti.{view}.car.{measure}")];
                assert!(value.is_some_and(|value| (value - 1.0).abs() < 1e-9), "{view} {measure} {value:?}");
            }
            assert_eq!(found[&format!("kitti.{view}.cyclist.ap40")], None);
        }
    }

    #[test]
    fn what_is_wrong_or_missing_counts() {
        let elsewhere = "Car 0 0 0 10.0 100.0 60.0 150.0 1.5 1.6 4.0 -9.0 1.6 60.0 0.0 0.99";
        let found = measured(&format!("{CAR} 0.9\n{elsewhere}"));
        assert!((found["kitti.picture.car.ap50"].unwrap() - 0.5).abs() < 1e-9, "{found:?}");
        assert_eq!(measured("")["kitti.birds_eye.car.ap40"], Some(0.0));
    }

    #[test]
    fn a_frame_without_results_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (labels, results) = (folder.path().join("label_2"), folder.path().join("results"));
        [&labels, &results].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        assert!(matches!(evaluate(&labels, &results), Err(EvaluateKittiError::NoLabels(_))));
        std::fs::write(labels.join("000001.txt"), CAR).unwrap();
        assert!(matches!(evaluate(&labels, &results), Err(EvaluateKittiError::NoResult(_))));
        std::fs::write(results.join("000001.txt"), format!("{CAR} 0.9")).unwrap();
        assert_eq!(evaluate(&labels, &results).unwrap()["kitti.picture.car.ap50"], Some(1.0));
    }
}
