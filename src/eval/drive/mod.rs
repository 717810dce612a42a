//! How good a run is: its log and a log with truth in, one flat table of named measures out, and curves to be drawn.
//!
//! The run is the log that a replay wrote; truth is what [`crate::truth`] describes, in the same log or another. What the
//! truth does not tell has no value, never zero. Pictures are compared at their own stamps, the world model at its
//! reference time: with the truth of the nearest stamp within 5 ms, else with objects interpolated between the two
//! neighbours. The result is a function of the two logs alone.
//!
//! Errors are medians of absolute values where the name ends in `median`, 95th percentiles in `p95`, signed medians in
//! `bias`. Measures in the pictures are left out for cameras whose pictures the networks see undistorted, since truth is
//! drawn in the pictures as taken.

pub mod curves;
mod logs;
mod outcome;
mod picture;
mod road;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::detection::ScoreError;
use super::mot;
use crate::log::reader::ReadError;
use crate::source::PreambleError;
use curves::DriveCurves;
use logs::{Run, Truth};
pub use picture::CameraFrames;

/// What is measured how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Objects farther away than this do not count, but for the errors by range.
    pub max_distance_m: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_distance_m: 40.0 }
    }
}

/// Why a run could not be evaluated.
#[derive(Debug, Error)]
pub enum EvaluateDriveError {
    /// The beginning of the run's log does not read.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// A log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is of no run.
    #[error("{file}: expected the log of a run, found no run header", file = .0.display())]
    NoRun(std::path::PathBuf),
    /// A detection has no place in the order.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// Tracks cannot be weighed.
    #[error(transparent)]
    Tracks(#[from] mot::EvaluateError),
}

/// All measures by name, as `detection.car.ap50`. A measure that truth does not allow is there without a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct DriveMetrics(pub BTreeMap<String, Option<f64>>);

impl DriveMetrics {
    /// Sets a measure; a number that is not finite is no value.
    pub fn put(&mut self, name: impl Into<String>, value: Option<f64>) {
        self.0.insert(name.into(), value.filter(|value| value.is_finite()));
    }

    /// The value of a measure.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied().flatten()
    }
}

/// What a run is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// All measures.
    pub metrics: DriveMetrics,
    /// What they are made of.
    pub curves: DriveCurves,
    /// Ticks of the run whose results its log holds.
    pub ticks: u64,
    /// From the first to the last of them, seconds.
    pub duration_s: f64,
}

/// Measures the log of a run against a log with truth; both may be the same.
pub fn evaluate(run: &Path, truth: &Path, options: &Options) -> Result<Evaluation, EvaluateDriveError> {
    let run = Run::read(run)?;
    let truth = Truth::read(truth, &run.cameras)?;
    measure(&run, &truth, options)
}

/// The boxes that the measures of tracking weigh against each other, for other tools: camera by camera, in rig order.
pub fn tracking_frames(run: &Path, truth: &Path, options: &Options) -> Result<Vec<CameraFrames>, EvaluateDriveError> {
    let run = Run::read(run)?;
    let truth = Truth::read(truth, &run.cameras)?;
    Ok(picture::all_frames(&run, &truth, options))
}

fn measure(run: &Run, truth: &Truth, options: &Options) -> Result<Evaluation, EvaluateDriveError> {
    let mut metrics = DriveMetrics::default();
    let precision = picture::detection(run, truth, options, &mut metrics)?;
    let hota = picture::tracking(run, truth, options, &mut metrics)?;
    world::birds_eye(run, truth, options, &mut metrics)?;
    let objects = world::errors(run, truth, options, &mut metrics);
    let lane_error_m = road::lanes(run, truth, &mut metrics);
    road::free_space(run, truth, &mut metrics);
    outcome::time_to_collision(run, truth, &mut metrics);
    outcome::planner(truth, &mut metrics);
    let lead_gap_m = outcome::lead_gap(run, truth);
    let curves = DriveCurves { precision, hota, objects, lane_error_m, lead_gap_m };
    let duration_s = run.ticks.last().map_or(0.0, |tick| run.time_s(tick.reference_ns));
    Ok(Evaluation { metrics, curves, ticks: run.ticks.len() as u64, duration_s })
}

/// What counts as one class, whatever its name in a model or in truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Car,
    Truck,
    Cyclist,
    Pedestrian,
}

impl Class {
    const ALL: [Class; 4] = [Class::Car, Class::Truck, Class::Cyclist, Class::Pedestrian];

    /// By any name, in any case; `None` for what is not compared.
    fn of(name: &str) -> Option<Class> {
        match name.to_ascii_lowercase().as_str() {
            "car" | "van" => Some(Class::Car),
            "truck" | "bus" => Some(Class::Truck),
            "cyclist" | "bicycle" | "motorcycle" | "motorbike" => Some(Class::Cyclist),
            "pedestrian" | "person" => Some(Class::Pedestrian),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Class::Car => "car",
            Class::Truck => "truck",
            Class::Cyclist => "cyclist",
            Class::Pedestrian => "pedestrian",
        }
    }

    fn number(self) -> u16 {
        self as u16
    }

    fn is_vehicle(self) -> bool {
        matches!(self, Class::Car | Class::Truck)
    }
}

/// Values of one kind.
#[derive(Clone, Debug, Default)]
struct Values(Vec<f64>);

impl Values {
    fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(|&value| of(value)).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }

    /// Middle of the signed values; of an even count, midway between the two.
    fn bias(&self) -> Option<f64> {
        middle(&self.sorted(|value| value))
    }

    /// Middle of the absolute values.
    fn median(&self) -> Option<f64> {
        middle(&self.sorted(f64::abs))
    }

    /// 95th percentile of the absolute values.
    fn p95(&self) -> Option<f64> {
        self.percentile(0.95)
    }

    /// The absolute value that such a part of them, 0 to 1, does not exceed; nearest rank.
    fn percentile(&self, part: f64) -> Option<f64> {
        let values = self.sorted(f64::abs);
        let rank = (part * values.len() as f64).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied()
    }

    fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    fn count(&self) -> f64 {
        self.0.len() as f64
    }
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(half.checked_sub(1)?).map(|lower| 0.5 * (lower + upper))
}

/// Part of something; `None` of nothing.
fn part(hits: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| hits as f64 / of as f64)
}

/// The same angle, from -pi to pi.
fn wrapped(angle_rad: f64) -> f64 {
    libm::remainder(angle_rad, std::f64::consts::TAU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_percentiles() {
        let values = Values(vec![-3.0, 1.0, 2.0, 4.0]);
        assert_eq!((values.median(), values.bias(), values.p95()), (Some(2.5), Some(1.5), Some(4.0)));
        let hundred = Values((1..=100).map(f64::from).collect());
        assert_eq!((hundred.p95(), hundred.percentile(0.9)), (Some(95.0), Some(90.0)));
        assert_eq!((Values::default().median(), Values::default().mean(), Values::default().p95()), (None, None, None));
    }

    #[test]
    fn what_truth_does_not_tell_has_no_value() {
        let Evaluation { metrics, curves, .. } =
            measure(&Run::default(), &Truth::default(), &Options::default()).unwrap();
        assert!(curves.precision.is_empty() && curves.hota.is_empty() && curves.lead_gap_m.is_empty());
        assert!(metrics.0.len() > 50 && metrics.0.values().all(Option::is_none), "{metrics:?}");
        for name in ["detection.car.ap50", "world.range_00_10.count", "free_space.iou", "planner.collisions"] {
            assert!(metrics.0.contains_key(name), "{name}");
        }
    }

    #[test]
    fn an_angle_is_wrapped_once_around() {
        assert!((wrapped(6.2) - (6.2 - std::f64::consts::TAU)).abs() < 1e-12);
        assert_eq!(wrapped(1.0), 1.0);
    }
}
