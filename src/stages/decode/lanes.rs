//! From a lane mask to curves on the ground.
//!
//! In comes a mask of 0 and 1 from a segmentation network and a mapping from its pixels to the ground; out go at most
//! [`MAX_LANES`] cubic curves in the vehicle frame, left to right. Rows are read from the bottom up; the middle of each
//! run of marked pixels becomes a point on the ground, points join the line whose straight continuation they fit best,
//! and each line with enough evidence is fitted by least squares.
//!
//! The runs may come from elsewhere, as from a GPU that read the mask: [`LaneFinder::find_in_runs`] takes those.
//!
//! Promises: any mask is taken (a row that is mostly noise is skipped), the result depends on the mask and the mapping
//! only, ties fall to the older line and then to the left run, and nothing is allocated after construction.

use crate::messages::{LaneCurve, MAX_LANES};

/// Farthest ground point that is used; a pixel covers metres beyond it.
const MAX_RANGE_M: f64 = 60.0;
/// More runs than this in one row are noise, not markings.
pub const MAX_RUNS: usize = 24;
/// Widest run in parts of the mask's width; wider ones are stop lines and crossings.
const MAX_RUN_PARTS: usize = 8;
/// Lines that are followed at a time.
const MAX_LINES: usize = 32;
/// Longest stretch without a point that a line bridges; a motorway's dashes are 9 m to 12 m apart.
const MAX_GAP_M: f64 = 12.0;
/// How far back a point may fall, for cameras that roll.
const MAX_STEP_BACK_M: f64 = 0.5;
/// Lateral gate at no distance, and its growth per metre of distance to the last point.
const GATE_M: f64 = 0.35;
const GATE_PER_M: f64 = 0.06;
/// Length over which a line's direction is measured; shorter lines are taken to point ahead.
const DIRECTION_BASE_M: f64 = 3.0;
/// An unproven line that fell this far behind may be replaced when all places are taken.
const FORGET_AFTER_M: f64 = 2.0;
/// What a line needs to become a curve.
const MIN_POINTS: usize = 12;
const MIN_SPAN_M: f64 = 4.0;
const MAX_RMS_M: f64 = 0.15;
/// Spans from which on a parabola and a cubic are fitted; shorter ones say nothing about curvature.
const PARABOLA_FROM_M: f64 = 10.0;
const CUBIC_FROM_M: f64 = 25.0;
/// Ridge on the curved terms, per point, in the scale where the span is -1 to 1.
const RIDGE: f64 = 1e-3;
/// Where lines are compared to be sorted from left to right.
const SORT_AT_M: f32 = 10.0;

/// A point on the ground: x and y in the vehicle frame, metres.
type Ground = [f64; 2];

/// A run of marked pixels in a row of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first column.
    pub first: usize,
    /// The column behind its last.
    pub end: usize,
}

/// The runs of one row, left to right; none when the row is noise.
pub type RowRuns = heapless::Vec<Run, MAX_RUNS>;

/// The runs in a row of a mask (0 is no marking).
pub fn runs_of_row(pixels: &[u8]) -> RowRuns {
    let mut runs = RowRuns::new();
    let mut start = None;
    for (u, pixel) in pixels.iter().copied().chain(std::iter::once(0)).enumerate() {
        match (start, pixel != 0) {
            (None, true) => start = Some(u),
            (Some(first), false) => {
                start = None;
                if runs.push(Run { first, end: u }).is_err() {
                    return RowRuns::new();
                }
            }
            _ => {}
        }
    }
    runs
}

/// Points that belong together, nearest first.
#[derive(Debug)]
struct Line {
    points: Vec<Ground>,
    /// Index of the point that the direction is measured from.
    base: usize,
    /// Change of y per metre of x.
    slope: f64,
}

impl Line {
    fn with_capacity(points: usize) -> Self {
        Line { points: Vec::with_capacity(points), base: 0, slope: 0.0 }
    }

    fn restart(&mut self, point: Ground) {
        self.points.clear();
        self.base = 0;
        self.add(point);
    }

    fn add(&mut self, point: Ground) {
        self.points.push(point);
        let far_enough = |next: &Ground| next[0] <= point[0] - DIRECTION_BASE_M;
        while self.points.get(self.base + 1).is_some_and(far_enough) {
            self.base += 1;
        }
        let base = self.points.get(self.base).copied().unwrap_or(point);
        let run = point[0] - base[0];
        self.slope = if run >= DIRECTION_BASE_M { (point[1] - base[1]) / run } else { 0.0 };
    }

    /// Lateral distance of a point from the line's straight continuation, if it is within the gate.
    fn distance(&self, point: Ground) -> Option<f64> {
        let last = self.points.last()?;
        let ahead = point[0] - last[0];
        if !(-MAX_STEP_BACK_M..=MAX_GAP_M).contains(&ahead) {
            return None;
        }
        let distance = (point[1] - last[1] - self.slope * ahead).abs();
        let gate = GATE_M + GATE_PER_M * ahead.abs();
        (distance <= gate).then_some(distance)
    }

    /// Whether the line is unproven and so far behind that its place is better used.
    fn is_forgotten_at(&self, point: Ground) -> bool {
        let behind = self.points.last().is_none_or(|last| point[0] - last[0] > FORGET_AFTER_M);
        behind && self.points.len() < MIN_POINTS
    }
}

/// A point that may join a line.
#[derive(Clone, Copy, Debug)]
struct Pair {
    distance: f64,
    line: usize,
    point: usize,
}

/// A fitted line with what ranks it.
#[derive(Clone, Copy, Debug)]
struct Fitted {
    curve: LaneCurve,
    span_m: f64,
}

/// Finds lane curves in masks of one size.
#[derive(Debug)]
pub struct LaneFinder {
    width: usize,
    height: usize,
    lines: Vec<Line>,
    /// How many of `lines` are in use.
    used: usize,
    row: heapless::Vec<Ground, MAX_RUNS>,
    pairs: Vec<Pair>,
    fitted: heapless::Vec<Fitted, MAX_LINES>,
}

impl LaneFinder {
    /// A finder for masks of this size.
    pub fn new(width: usize, height: usize) -> Self {
        LaneFinder {
            width,
            height,
            lines: (0..MAX_LINES).map(|_| Line::with_capacity(height)).collect(),
            used: 0,
            row: heapless::Vec::new(),
            pairs: Vec::with_capacity(MAX_LINES * MAX_RUNS),
            fitted: heapless::Vec::new(),
        }
    }

    /// Finds the curves in a row-major mask (0 is no marking) and replaces `lanes` by them. `ground_from_mask` maps a
    /// mask pixel (centre of the top-left one at (0, 0)) to x and y on the ground in the vehicle frame, or to nothing
    /// for pixels that do not see the ground. A mask of another size gives no lanes.
    pub fn find(
        &mut self,
        mask: &[u8],
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
        lanes: &mut heapless::Vec<LaneCurve, MAX_LANES>,
    ) {
        if self.width == 0 || self.width.checked_mul(self.height) != Some(mask.len()) {
            lanes.clear();
            return;
        }
        self.find_in_runs(mask.chunks_exact(self.width).map(runs_of_row), ground_from_mask, lanes);
    }

    /// As [`LaneFinder::find`], from the runs of all rows of a mask from top to bottom, as [`runs_of_row`] reads them.
    /// Another number of rows gives no lanes, and a run that does not lie in the row gives no point.
    pub fn find_in_runs<R: IntoIterator<Item = Run>>(
        &mut self,
        rows: impl DoubleEndedIterator<Item = R> + ExactSizeIterator,
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
        lanes: &mut heapless::Vec<LaneCurve, MAX_LANES>,
    ) {
        lanes.clear();
        self.used = 0;
        if rows.len() != self.height {
            return;
        }
        for (v, runs) in rows.enumerate().rev() {
            self.read_row(runs, v, ground_from_mask);
            self.extend_lines();
        }
        self.fit_lines(lanes);
    }

    /// Puts the ground points of one row's runs into `row`, left to right.
    fn read_row(
        &mut self,
        runs: impl IntoIterator<Item = Run>,
        v: usize,
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
    ) {
        self.row.clear();
        for Run { first, end } in runs {
            if first >= end || end > self.width || (end - first) * MAX_RUN_PARTS > self.width {
                continue;
            }
            let middle = (first + end - 1) as f64 * 0.5;
            let Some(point) = ground_from_mask([middle, v as f64]) else { continue };
            if !(point[0] > 0.0 && point[0] <= MAX_RANGE_M && point[1].abs() <= MAX_RANGE_M) {
                continue;
            }
            // a row has no more runs than fit
            if self.row.push(point).is_err() {
                return;
            }
        }
    }

    /// Gives each of the row's points to the line that it fits best, one per line, and starts lines with the rest.
    fn extend_lines(&mut self) {
        self.pairs.clear();
        for (line_index, line) in self.lines.iter().take(self.used).enumerate() {
            for (point_index, point) in self.row.iter().enumerate() {
                if let Some(distance) = line.distance(*point) {
                    self.pairs.push(Pair { distance, line: line_index, point: point_index });
                }
            }
        }
        self.pairs.sort_unstable_by(|a, b| {
            a.distance.total_cmp(&b.distance).then(a.line.cmp(&b.line)).then(a.point.cmp(&b.point))
        });
        let mut line_taken = [false; MAX_LINES];
        let mut point_taken = [false; MAX_RUNS];
        for pair in &self.pairs {
            let (Some(line_flag), Some(point_flag)) = (line_taken.get_mut(pair.line), point_taken.get_mut(pair.point))
            else {
                continue;
            };
            let (Some(line), Some(point)) = (self.lines.get_mut(pair.line), self.row.get(pair.point)) else { continue };
            if *line_flag || *point_flag {
                continue;
            }
            *line_flag = true;
            *point_flag = true;
            line.add(*point);
        }
        for (point, taken) in self.row.iter().zip(point_taken) {
            if !taken {
                start_line(&mut self.lines, &mut self.used, *point);
            }
        }
    }

    /// Fits what was gathered; the longest lines stay, sorted from left to right.
    fn fit_lines(&mut self, lanes: &mut heapless::Vec<LaneCurve, MAX_LANES>) {
        self.fitted.clear();
        for fitted in self.lines.iter().take(self.used).filter_map(|line| fit(&line.points)) {
            // there are no more curves than lines, and those fit
            if self.fitted.push(fitted).is_err() {
                break;
            }
        }
        // unstable sorts do not allocate; equal keys can only be equal curves
        self.fitted.sort_unstable_by(|a, b| b.span_m.total_cmp(&a.span_m).then(left_to_right(&a.curve, &b.curve)));
        self.fitted.truncate(MAX_LANES);
        self.fitted.sort_unstable_by(|a, b| left_to_right(&a.curve, &b.curve));
        for fitted in &self.fitted {
            if lanes.push(fitted.curve).is_err() {
                return;
            }
        }
    }
}

/// Puts a point that fits no line into a free place, or into that of the oldest line that is unproven and behind.
fn start_line(lines: &mut [Line], used: &mut usize, point: Ground) {
    if let Some(line) = lines.get_mut(*used) {
        line.restart(point);
        *used += 1;
        return;
    }
    if let Some(line) = lines.iter_mut().find(|line| line.is_forgotten_at(point)) {
        line.restart(point);
    }
}

/// A total order: descending y at 10 m, then by every other number.
fn left_to_right(a: &LaneCurve, b: &LaneCurve) -> std::cmp::Ordering {
    let coefficients = || {
        let mut each = a.coefficients.iter().zip(&b.coefficients).map(|(a, b)| a.total_cmp(b));
        each.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    b.y_at(SORT_AT_M)
        .total_cmp(&a.y_at(SORT_AT_M))
        .then(a.x_min_m.total_cmp(&b.x_min_m))
        .then(a.x_max_m.total_cmp(&b.x_max_m))
        .then_with(coefficients)
        .then(a.rms_m.total_cmp(&b.rms_m))
        .then(a.points.cmp(&b.points))
}

/// Least squares over `y = sum a_k t^k` with `t = (x - middle) / half span`, all points with weight 1, and a ridge on
/// the curved terms. The scaled variable keeps the normal equations well conditioned.
fn fit(points: &[Ground]) -> Option<Fitted> {
    if points.len() < MIN_POINTS {
        return None;
    }
    let x_min = points.iter().fold(f64::INFINITY, |least, point| least.min(point[0]));
    let x_max = points.iter().fold(f64::NEG_INFINITY, |most, point| most.max(point[0]));
    let span_m = x_max - x_min;
    if span_m.is_nan() || span_m < MIN_SPAN_M {
        return None;
    }
    let terms = match span_m {
        span if span < PARABOLA_FROM_M => 2,
        span if span < CUBIC_FROM_M => 3,
        _ => 4,
    };
    let middle = 0.5 * (x_min + x_max);
    let half = 0.5 * span_m;
    let scaled = fit_scaled(points, middle, half, terms)?;
    let mut squares = 0.0;
    for point in points {
        let t = (point[0] - middle) / half;
        let error = point[1] - (scaled[0] + t * (scaled[1] + t * (scaled[2] + t * scaled[3])));
        squares += error * error;
    }
    let rms = (squares / points.len() as f64).sqrt();
    if rms.is_nan() || rms > MAX_RMS_M {
        return None;
    }
    let curve = LaneCurve {
        coefficients: unscale(scaled, middle, half).map(|coefficient| coefficient as f32),
        x_min_m: x_min as f32,
        x_max_m: x_max as f32,
        rms_m: rms as f32,
        points: u32::try_from(points.len()).unwrap_or(u32::MAX),
    };
    curve.coefficients.iter().all(|coefficient| coefficient.is_finite()).then_some(Fitted { curve, span_m })
}

/// Solves the normal equations for the first `terms` coefficients; the others are 0.
fn fit_scaled(points: &[Ground], middle: f64, half: f64, terms: usize) -> Option<[f64; 4]> {
    // moments[k] = sum t^k, products[k] = sum y t^k
    let mut moments = [0.0; 7];
    let mut products = [0.0; 4];
    for point in points {
        let t = (point[0] - middle) / half;
        let mut power = 1.0;
        for moment in &mut moments {
            *moment += power;
            power *= t;
        }
        let mut weighted = point[1];
        for product in &mut products {
            *product += weighted;
            weighted *= t;
        }
    }
    let ridge = RIDGE * points.len() as f64;
    let mut matrix = [[0.0; 4]; 4];
    for (row, line) in matrix.iter_mut().enumerate() {
        for (column, cell) in line.iter_mut().enumerate() {
            let bend = if row == column && row >= 2 { ridge } else { 0.0 };
            *cell = if row < terms && column < terms {
                moments[row + column] + bend
            } else if row == column {
                1.0
            } else {
                0.0
            };
        }
    }
    for product in products.iter_mut().skip(terms) {
        *product = 0.0;
    }
    solve(matrix, products)
}

/// Solves a symmetric positive definite 4 x 4 system by elimination without pivoting, which such systems do not need.
fn solve(mut matrix: [[f64; 4]; 4], mut right: [f64; 4]) -> Option<[f64; 4]> {
    for pivot in 0..4 {
        let divisor = matrix[pivot][pivot];
        if divisor.is_nan() || divisor <= f64::EPSILON {
            return None;
        }
        let pivot_row = matrix[pivot];
        for row in pivot + 1..4 {
            let factor = matrix[row][pivot] / divisor;
            for (cell, above) in matrix[row].iter_mut().zip(pivot_row) {
                *cell -= factor * above;
            }
            right[row] -= factor * right[pivot];
        }
    }
    let mut solution = [0.0; 4];
    for row in (0..4).rev() {
        let mut rest = right[row];
        for (cell, known) in matrix[row].iter().zip(solution).skip(row + 1) {
            rest -= cell * known;
        }
        solution[row] = rest / matrix[row][row];
    }
    Some(solution)
}

/// Coefficients over x from those over `t = (x - middle) / half`, by Horner's scheme on polynomials.
fn unscale(scaled: [f64; 4], middle: f64, half: f64) -> [f64; 4] {
    let offset = -middle / half;
    let mut result = [0.0; 4];
    for coefficient in scaled.into_iter().rev() {
        // result = result * (offset + x / half) + coefficient
        let before = result;
        result = [0.0; 4];
        for (power, value) in before.into_iter().enumerate() {
            result[power] += value * offset;
            if let Some(next) = result.get_mut(power + 1) {
                *next += value / half;
            }
        }
        result[0] += coefficient;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FlatCamera, noise};
    use super::*;
    use proptest::prelude::*;

    const WIDTH: usize = 640;
    const HEIGHT: usize = 360;

    fn at(curve: [f64; 4], x: f64) -> f64 {
        curve[0] + x * (curve[1] + x * (curve[2] + x * curve[3]))
    }

    /// Marks pixels within 8 cm of a curve, or within one pixel where that is more; dashes are 3 m of every 9 m.
    fn draw(camera: &FlatCamera, curves: &[[f64; 4]], dashed: bool) -> Vec<u8> {
        let mut mask = vec![0; WIDTH * HEIGHT];
        for (index, pixel) in mask.iter_mut().enumerate() {
            let Some([x, y]) = camera.ground([(index % WIDTH) as f64, (index / WIDTH) as f64]) else { continue };
            if x > 70.0 || dashed && x % 9.0 > 3.0 {
                continue;
            }
            let half_width = (0.75 * x / camera.focal_px).max(0.08);
            *pixel = u8::from(curves.iter().any(|curve| (at(*curve, x) - y).abs() <= half_width));
        }
        mask
    }

    fn find(mask: &[u8], camera: &FlatCamera) -> heapless::Vec<LaneCurve, MAX_LANES> {
        let mut lanes = heapless::Vec::new();
        LaneFinder::new(WIDTH, HEIGHT).find(mask, &|pixel| camera.ground(pixel), &mut lanes);
        lanes
    }

    const CURVES: [[f64; 4]; 4] =
        [[5.2, 0.01, 0.0004, 0.0], [1.7, 0.01, 0.0004, 0.0], [-1.8, 0.01, 0.0004, 0.0], [-5.3, 0.0, 0.001, -0.000_01]];

    fn assert_recovered(lanes: &[LaneCurve], from_m: u8) {
        assert_eq!(lanes.len(), CURVES.len());
        for (lane, curve) in lanes.iter().zip(CURVES) {
            for x in (from_m..=30).step_by(2) {
                let error = f64::from(lane.y_at(f32::from(x))) - at(curve, f64::from(x));
                assert!(error.abs() < 0.1, "{curve:?} is off by {error} m at {x} m");
            }
            assert!(lane.x_max_m > 30.0 && lane.x_max_m <= 60.0);
            assert!(lane.x_min_m < 12.0);
            assert!(lane.rms_m < 0.05);
            assert!(lane.points as usize >= MIN_POINTS);
        }
    }

    #[test]
    fn recovers_solid_curves_left_to_right() {
        let camera = FlatCamera::default();
        assert_recovered(&find(&draw(&camera, &CURVES, false), &camera), 6);
    }

    #[test]
    fn recovers_dashed_curves() {
        let camera = FlatCamera::default();
        assert_recovered(&find(&draw(&camera, &CURVES, true), &camera), 10);
    }

    #[test]
    fn nothing_comes_of_masks_without_lines() {
        let camera = FlatCamera::default();
        assert!(find(&vec![0; WIDTH * HEIGHT], &camera).is_empty());
        assert!(find(&vec![1; WIDTH * HEIGHT], &camera).is_empty());
        assert!(find(&[1, 0, 1], &camera).is_empty());
        let mut finder = LaneFinder::new(0, 0);
        let mut lanes = heapless::Vec::new();
        finder.find(&[], &Some, &mut lanes);
        assert!(lanes.is_empty());
    }

    #[test]
    fn rows_are_read_as_runs() {
        let run = |first: usize, end: usize| Run { first, end };
        assert_eq!(runs_of_row(&[1, 1, 0, 0, 1, 0, 1]), [run(0, 2), run(4, 5), run(6, 7)]);
        assert_eq!(runs_of_row(&[0; 4]), []);
        assert_eq!(runs_of_row(&[0, 1].repeat(MAX_RUNS)).len(), MAX_RUNS);
        assert_eq!(runs_of_row(&[0, 1].repeat(MAX_RUNS + 1)), []);
    }

    #[test]
    fn runs_that_cannot_be_give_nothing() {
        let camera = FlatCamera::default();
        let mut lanes = heapless::Vec::new();
        let mut finder = LaneFinder::new(WIDTH, HEIGHT);
        let bad = [Run { first: 9, end: 9 }, Run { first: 7, end: 3 }, Run { first: 10, end: WIDTH + 1 }];
        let ground = |pixel: [f64; 2]| camera.ground(pixel);
        finder.find_in_runs((0..HEIGHT).map(|_| bad), &ground, &mut lanes);
        assert!(lanes.is_empty());
        finder.find_in_runs((0..HEIGHT - 1).map(|_| [Run { first: 300, end: 302 }]), &ground, &mut lanes);
        assert!(lanes.is_empty());
        finder.find_in_runs((0..HEIGHT).map(|_| [Run { first: 300, end: 302 }]), &ground, &mut lanes);
        assert_eq!(lanes.len(), 1);
    }

    #[test]
    fn a_crossing_is_no_lane() {
        let camera = FlatCamera::default();
        let mut mask = vec![0; WIDTH * HEIGHT];
        for row in mask.chunks_exact_mut(WIDTH).skip(260).take(40) {
            row[100..540].fill(1);
        }
        assert!(find(&mask, &camera).is_empty());
    }

    #[test]
    fn noise_gives_sound_and_equal_results_each_time() {
        let camera = FlatCamera::default();
        let mut finder = LaneFinder::new(WIDTH, HEIGHT);
        for (seed, one_in) in [(1, 2), (2, 10), (3, 50), (4, 200), (5, 1000)] {
            let mask = noise(WIDTH * HEIGHT, seed, one_in);
            let mut lanes = heapless::Vec::new();
            finder.find(&mask, &|pixel| camera.ground(pixel), &mut lanes);
            assert!(lanes.iter().all(|lane| lane.coefficients.iter().all(|value| value.is_finite())));
            assert_eq!(lanes, find(&mask, &camera), "a used finder and a new one differ");
        }
    }

    #[test]
    fn mappings_that_make_no_sense_do_no_harm() {
        let mask = noise(WIDTH * HEIGHT, 9, 40);
        let mappings: [&dyn Fn([f64; 2]) -> Option<[f64; 2]>; 4] = [
            &|_: [f64; 2]| None,
            &|_: [f64; 2]| Some([f64::NAN, f64::INFINITY]),
            &|_: [f64; 2]| Some([10.0, 0.0]),
            &|pixel| Some([pixel[1] * 0.1 + 0.1, f64::MAX]),
        ];
        for mapping in mappings {
            let mut lanes = heapless::Vec::new();
            LaneFinder::new(WIDTH, HEIGHT).find(&mask, mapping, &mut lanes);
            assert!(lanes.is_empty());
        }
    }

    #[test]
    fn the_degree_grows_with_the_span() {
        let points = |length: f64| -> Vec<Ground> {
            (0..=40)
                .map(|step| f64::from(step) * length / 40.0 + 5.0)
                .map(|x| [x, 0.001 * x * x + 0.0001 * x * x * x])
                .collect()
        };
        let terms = |length: f64| {
            let fitted = fit(&points(length)).unwrap();
            fitted.curve.coefficients.iter().rposition(|coefficient| *coefficient != 0.0)
        };
        assert_eq!(terms(6.0), Some(1));
        assert_eq!(terms(20.0), Some(2));
        assert_eq!(terms(40.0), Some(3));
        assert!(fit(&points(3.0)).is_none());
    }

    #[test]
    fn a_scattered_line_is_refused() {
        let points: Vec<Ground> =
            (0..40).map(|step| [5.0 + f64::from(step), if step % 2 == 0 { 0.3 } else { -0.3 }]).collect();
        assert!(fit(&points).is_none());
    }

    proptest! {
        #[test]
        fn unscaling_keeps_the_values(scaled in prop::array::uniform4(-5.0..5.0_f64), x in 0.0..60.0_f64) {
            let (middle, half) = (20.0, 15.0);
            let t = (x - middle) / half;
            prop_assert!((at(unscale(scaled, middle, half), x) - at(scaled, t)).abs() < 1e-9);
        }
    }
}
