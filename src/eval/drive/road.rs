//! The road: where lane markings run, and how far the way is free.
//!
//! Lanes and free space in a world model are those of one picture, the first that has any, as the pipeline takes them;
//! truth is that of the picture's stamp. Lanes are measured 5, 10, 20 and 30 m ahead, and drawn up to 50 m, where a curve covers that distance,
//! each with the nearest true line within 1 m. The borders of the vehicle's own lane are the nearest true lines to its
//! left and right, beside the vehicle or, if they begin later, 5 m ahead; one is found where a curve lies within 0.5 m.
//! Free space is compared by area: the fan of the true mask, made by the pipeline's own finder, against the run's.

use super::curves::{Errors, Spread};
use super::logs::{Run, Seen, Tick, Truth, nearest};
use super::{DriveMetrics, Values, part};
use crate::messages::LaneCurve;
use crate::truth::{TruthLane, TruthLanes};

/// Distances at which lanes are measured.
const AT_M: [u8; 4] = [5, 10, 20, 30];
/// Distances at which their errors are drawn; all of [`AT_M`] are among them.
const DRAWN_AT_M: [u8; 10] = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50];
/// A curve farther away than this from every line is none of them.
const GATE_M: f64 = 1.0;
/// A line is found by a curve within this.
const FOUND_M: f64 = 0.5;

/// Lateral place of a true line at a distance ahead; `None` where it does not run.
fn y_at(lane: &TruthLane, x_m: f64) -> Option<f64> {
    let (points, _) = lane.points_m.as_chunks::<2>();
    let found = points.windows(2).find_map(|two| {
        let [[from_x, from_y], [to_x, to_y]] = *two.first_chunk::<2>()?;
        let [from_x, from_y, to_x, to_y] = [from_x, from_y, to_x, to_y].map(f64::from);
        let covers = from_x.min(to_x) <= x_m && x_m <= from_x.max(to_x);
        let part = if to_x == from_x { 0.0 } else { (x_m - from_x) / (to_x - from_x) };
        covers.then_some(from_y + part * (to_y - from_y))
    });
    found.filter(|y| y.is_finite())
}

fn curve_y_at(curve: &LaneCurve, x_m: u8) -> Option<f64> {
    let x_m = f32::from(x_m);
    let covers = x_m >= curve.x_min_m && x_m <= curve.x_max_m;
    covers.then(|| f64::from(curve.y_at(x_m))).filter(|y| y.is_finite())
}

/// The lines to the left and right of the vehicle.
fn borders(truth: &TruthLanes) -> impl Iterator<Item = &TruthLane> {
    let beside = |lane: &TruthLane| y_at(lane, 0.0).or_else(|| y_at(lane, 5.0));
    let nearest_of = move |is_left: bool| {
        let on_side = truth.lanes.iter().filter_map(move |lane| Some((beside(lane)?, lane)));
        on_side.filter(|(y, _)| (*y > 0.0) == is_left).min_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))
    };
    [nearest_of(true), nearest_of(false)].into_iter().flatten().map(|(_, lane)| lane)
}

#[derive(Default)]
struct Tally {
    error: Values,
    found: u64,
    lines: u64,
}

impl Tally {
    fn add(&mut self, x_m: u8, curves: &[LaneCurve], truth: &TruthLanes) {
        let seen: Vec<f64> = curves.iter().filter_map(|curve| curve_y_at(curve, x_m)).collect();
        let nearest_to = |y: f64, all: &mut dyn Iterator<Item = f64>| {
            all.map(|other| y - other).min_by(|a, b| a.abs().total_cmp(&b.abs()))
        };
        for &y in &seen {
            let mut lines = truth.lanes.iter().filter_map(|lane| y_at(lane, f64::from(x_m)));
            let error = nearest_to(y, &mut lines).filter(|error| error.abs() <= GATE_M);
            error.iter().for_each(|error| self.error.add(*error));
        }
        for y in borders(truth).filter_map(|lane| y_at(lane, f64::from(x_m))) {
            self.lines += 1;
            let error = nearest_to(y, &mut seen.iter().copied());
            self.found += u64::from(error.is_some_and(|error| error.abs() <= FOUND_M));
        }
    }

    fn put(&self, prefix: &str, metrics: &mut DriveMetrics) {
        metrics.put(format!("{prefix}.lateral_error_m.median"), self.error.median());
        metrics.put(format!("{prefix}.lateral_error_m.p95"), self.error.p95());
        metrics.put(format!("{prefix}.recall"), part(self.found, self.lines));
    }
}

fn source(tick: &Tick, has: impl Fn(&Seen) -> bool) -> Option<&Seen> {
    tick.seen.iter().find(|seen| seen.present && has(seen))
}

/// Errors of the lane curves, and over distance.
pub(super) fn lanes(run: &Run, truth: &Truth, metrics: &mut DriveMetrics) -> Errors {
    let mut tallies: [Tally; DRAWN_AT_M.len()] = Default::default();
    for tick in &run.ticks {
        let stamp_ns = source(tick, |seen| seen.has_lanes).map_or(tick.reference_ns, |seen| seen.stamp_ns);
        let Some((_, truth)) = nearest(&truth.lanes, stamp_ns) else { continue };
        for (x_m, tally) in DRAWN_AT_M.iter().zip(&mut tallies) {
            tally.add(*x_m, &tick.lanes, truth);
        }
    }
    let spread = |(x_m, tally): (&u8, &Tally)| Spread::of(f64::from(*x_m), &tally.error);
    let spreads = DRAWN_AT_M.iter().zip(&tallies).map(spread).collect();
    let mut all = Tally::default();
    for (x_m, tally) in DRAWN_AT_M.iter().zip(tallies).filter(|(x_m, _)| AT_M.contains(x_m)) {
        tally.put(&format!("lanes.at_{x_m:02}_m"), metrics);
        all.error.0.extend(tally.error.0);
        all.found += tally.found;
        all.lines += tally.lines;
    }
    all.put("lanes", metrics);
    Errors { name: "lane curves".to_owned(), spreads }
}

/// Mean over the ticks of the area that both fans cover over the area that either covers.
pub(super) fn free_space(run: &Run, truth: &Truth, metrics: &mut DriveMetrics) {
    let mut overlaps = Values::default();
    for tick in &run.ticks {
        let Some(seen) = source(tick, |seen| seen.has_free_space) else { continue };
        let camera = run.cameras.get(seen.sensor).and_then(|camera| truth.free_space_m.get(&camera.name));
        let Some((_, ranges)) = camera.and_then(|ranges| nearest(ranges, seen.stamp_ns)) else { continue };
        overlap(&tick.free_space_m, ranges).iter().for_each(|overlap| overlaps.add(*overlap));
    }
    metrics.put("free_space.iou", overlaps.mean());
}

/// Area of sectors grows with the square of their range.
fn overlap(one: &[f32], other: &[f32]) -> Option<f64> {
    let square = |range: f32| f64::from(range) * f64::from(range);
    let pairs = || one.iter().zip(other);
    let shared: f64 = pairs().map(|(a, b)| square(a.min(*b))).sum();
    let together: f64 = pairs().map(|(a, b)| square(a.max(*b))).sum();
    (one.len() == other.len() && together > 0.0).then(|| shared / together)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: u16, y_m: f32) -> TruthLane {
        let points_m = (-5..50).flat_map(|x| [x as f32, y_m]).collect();
        TruthLane { index, dashed: false, points_m }
    }

    fn curve(y_m: f32, x_max_m: f32) -> LaneCurve {
        LaneCurve { coefficients: [y_m, 0.0, 0.0, 0.0], x_min_m: 3.0, x_max_m, ..LaneCurve::default() }
    }

    #[test]
    fn curves_are_held_against_the_nearest_line() {
        let lanes = vec![line(0, 5.25), line(1, 1.75), line(2, -1.75)];
        let mut truth = Truth::default();
        truth.lanes.insert(1, TruthLanes { lanes });
        // the left border is found up to 15 m, the right one is off by too much to be found
        let curves = vec![curve(1.95, 15.0), curve(-2.5, 40.0), curve(9.0, 40.0)];
        let tick = Tick { reference_ns: 1, lanes: curves, ..Tick::default() };
        let mut metrics = DriveMetrics::default();
        let drawn = lanes_of(tick, &truth, &mut metrics);
        let near = |name: &str, expected: f64| {
            let found = metrics.get(name);
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6), "{name} {found:?}");
        };
        near("lanes.at_10_m.lateral_error_m.median", 0.475);
        near("lanes.at_10_m.recall", 0.5);
        near("lanes.at_30_m.lateral_error_m.p95", 0.75);
        near("lanes.at_30_m.recall", 0.0);
        near("lanes.recall", 0.25);
        assert!(AT_M.iter().all(|x_m| DRAWN_AT_M.contains(x_m)));
        let counts: Vec<u64> = drawn.spreads.iter().map(|spread| spread.count).collect();
        assert_eq!(counts, [2, 2, 2, 1, 1, 1, 1, 1, 0, 0]);
    }

    fn lanes_of(tick: Tick, truth: &Truth, metrics: &mut DriveMetrics) -> Errors {
        lanes(&Run { ticks: vec![tick], ..Run::default() }, truth, metrics)
    }

    #[test]
    fn fans_overlap_by_area() {
        assert_eq!(overlap(&[10.0, 0.0], &[10.0, 0.0]), Some(1.0));
        assert_eq!(overlap(&[5.0, 0.0], &[10.0, 0.0]), Some(0.25));
        assert_eq!(overlap(&[0.0], &[0.0]), None);
        assert_eq!(overlap(&[1.0], &[1.0, 1.0]), None);
    }
}
