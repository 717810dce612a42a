//! What the measures are made of, to be drawn: errors over range, precision over recall, values over time.
//!
//! Curves come out of the same passes over the two logs as the measures, from the same values. They are as long as the
//! run has ticks at most, and a function of the two logs alone. What too few values stand behind has no value.

use super::{Values, part};

/// Fewest values that a percentile or a share is drawn of.
pub const MIN_COUNT: usize = 10;

/// Width of a bin of [`NeesHistogram`].
pub const NEES_BIN: f64 = 0.5;

/// Bins of [`NeesHistogram`]: 0.2 % of a chi-square distribution of 2 degrees of freedom lie beyond the last.
pub const NEES_BINS: usize = 25;

/// A line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub name: String,
    /// x and y, x rising; a y that is not finite is a gap.
    pub points: Vec<[f64; 2]>,
}

impl Curve {
    pub(super) fn new(name: &str, points: impl IntoIterator<Item = [f64; 2]>) -> Curve {
        Curve { name: name.to_owned(), points: points.into_iter().collect() }
    }
}

/// Absolute errors at one distance or in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The distance; the middle of a range.
    pub at_m: f64,
    /// How many errors.
    pub count: u64,
    /// Half of them are no larger; `None` of fewer than [`MIN_COUNT`].
    pub median: Option<f64>,
    /// Nine of ten are no larger; `None` of fewer than [`MIN_COUNT`].
    pub p90: Option<f64>,
}

impl Spread {
    pub(super) fn of(at_m: f64, errors: &Values) -> Spread {
        let is_enough = errors.0.len() >= MIN_COUNT;
        let enough = |value: Option<f64>| value.filter(|value| is_enough && value.is_finite());
        Spread {
            at_m,
            count: errors.0.len() as u64,
            median: enough(errors.median()),
            p90: enough(errors.percentile(0.9)),
        }
    }
}

/// Errors of one kind of object, or of all, by distance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// Whose errors.
    pub name: String,
    /// By rising distance.
    pub spreads: Vec<Spread>,
}

/// How many errors lie in the ellipse that is to hold 95 % of them, in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The middle of the range.
    pub at_m: f64,
    /// How many errors.
    pub count: u64,
    /// The part that lies within; `None` of fewer than [`MIN_COUNT`].
    pub part: Option<f64>,
}

impl Coverage {
    pub(super) fn of(at_m: f64, within: u64, count: u64) -> Coverage {
        Coverage { at_m, count, part: part(within, count).filter(|_| count >= MIN_COUNT as u64) }
    }
}

/// Squared errors over their covariance (NEES), counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NeesHistogram {
    /// Counts in [`NEES_BINS`] bins of [`NEES_BIN`], from 0.
    pub counts: Vec<u64>,
    /// Count of what is larger, errors without a covariance among them.
    pub beyond: u64,
}

impl NeesHistogram {
    pub(super) fn of(nees: &Values) -> NeesHistogram {
        let mut histogram = NeesHistogram { counts: vec![0; NEES_BINS], beyond: 0 };
        for value in &nees.0 {
            // what is not finite or negative has no bin
            let bin = (*value >= 0.0 && value.is_finite()).then(|| (value / NEES_BIN) as usize);
            match bin.and_then(|bin| histogram.counts.get_mut(bin)) {
                Some(count) => *count += 1,
                None => histogram.beyond += 1,
            }
        }
        histogram
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Density per bin; `None` of fewer than [`MIN_COUNT`].
    pub fn density(&self) -> Option<Vec<f64>> {
        let total = self.total();
        let of = |count: &u64| *count as f64 / (total as f64 * NEES_BIN);
        (total >= MIN_COUNT as u64).then(|| self.counts.iter().map(of).collect())
    }
}

/// Density of the chi-square distribution of 2 degrees of freedom, which the NEES of two coordinates has where the
/// covariances keep their word.
pub fn chi2_density_2(value: f64) -> f64 {
    if value >= 0.0 { 0.5 * libm::exp(-0.5 * value) } else { 0.0 }
}

/// Whether one kind of covariance keeps its word.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibrated {
    /// Of what: `position`, `velocity`.
    pub name: String,
    /// By rising range.
    pub coverage: Vec<Coverage>,
    /// Of all that are near enough to count.
    pub nees: NeesHistogram,
}

/// Curves of the world model's objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectCurves {
    /// Distances from the true places, metres, for each class that has enough in any range.
    pub position_error_m: Vec<Errors>,
    /// Lengths of the differences from the true velocities.
    pub velocity_error_mps: Errors,
    /// Angles from the true headings, of what moves.
    pub heading_error_rad: Errors,
    /// Of positions and of velocities.
    pub calibration: Vec<Calibrated>,
    /// Distance of the lead, metres, over seconds since the first tick: what is true and what the world model says.
    pub lead_range_m: Vec<Curve>,
}

/// All curves. Lists and lines are empty where truth does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriveCurves {
    /// Best precision at a recall or a higher one, by class: of detections in the pictures, at an overlap of 0.5.
    pub precision: Vec<Curve>,
    /// HOTA, DetA and AssA over the least overlap of a pair, the mean over the cameras.
    pub hota: Vec<Curve>,
    /// Of the world model's objects.
    pub objects: ObjectCurves,
    /// Distances of lane curves from the true lines, metres, by distance ahead.
    pub lane_error_m: Errors,
    /// Gap to the lead, metres, bumper to bumper, over seconds since the first tick: what is true and what the planner
    /// takes it for.
    pub lead_gap_m: Vec<Curve>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_errors_are_counted_but_have_no_percentile() {
        let few = Values((1..10).map(f64::from).collect());
        assert_eq!(Spread::of(5.0, &few), Spread { at_m: 5.0, count: 9, median: None, p90: None });
        let enough = Values((1..=10).map(|value| f64::from(-value)).collect());
        assert_eq!(Spread::of(5.0, &enough), Spread { at_m: 5.0, count: 10, median: Some(5.5), p90: Some(9.0) });
        assert_eq!((Coverage::of(5.0, 9, 9).part, Coverage::of(5.0, 9, 10).part), (None, Some(0.9)));
    }

    #[test]
    fn the_density_is_that_of_the_chi_square_distribution() {
        // scipy.stats.chi2(2).pdf
        let known = [(0.0, 0.5), (1.0, 0.303_265_329_856_316_7), (5.991, 0.025_005_807_513_289_5), (-1.0, 0.0)];
        for (value, expected) in known {
            assert!((chi2_density_2(value) - expected).abs() < 1e-12, "{value}: {}", chi2_density_2(value));
        }
    }

    #[test]
    fn a_histogram_loses_nothing() {
        let mut nees = Values(vec![0.0, 0.49, 0.5, 12.49, 12.5, f64::INFINITY, f64::NAN]);
        let histogram = NeesHistogram::of(&nees);
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[NEES_BINS - 1]), (2, 1, 1));
        assert_eq!((histogram.beyond, histogram.total(), histogram.density()), (3, 7, None));
        nees.0.extend([0.1, 0.2, 0.3]);
        // 5 of 10 in the first bin, which is half as wide as 1
        assert_eq!(NeesHistogram::of(&nees).density().unwrap()[0], 1.0);
    }
}
