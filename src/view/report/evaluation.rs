//! The page of an evaluation: all measures as a table, then what they are made of as plots.
//!
//! Data comes as an [`Evaluation`] and a few facts from the command line, and goes into one file that needs no network and
//! has no script. Every plot has its place: one without enough values says so in words. The same data gives the same
//! bytes.

use std::path::Path;

use super::html::{self, Cell, Section};
use super::svg::{self, LineChart, Look, Series};
use super::{ReportError, TIME_LABEL};
use crate::eval::drive::curves::{Calibrated, Coverage, Curve, Errors, NEES_BIN, ObjectCurves, Spread, chi2_density_2};
use crate::eval::drive::{DriveMetrics, Evaluation};
use crate::eval::shown;
use crate::file::write_whole;

/// Part of the errors that an ellipse of 95 % holds.
const CLAIMED: f64 = 0.95;
/// Points of the density per bin of the histogram.
const DENSITY_STEPS: usize = 4;
const TOO_FEW: &str = "Too few objects were compared.";
const RANGE_LABEL: &str = "range, m (middle of a bin)";

/// What the page shows.
#[derive(Clone, Debug)]
pub struct EvaluationReport<'a> {
    /// Heading.
    pub title: String,
    /// Which logs were compared and how: key and value.
    pub facts: Vec<(String, String)>,
    /// What came of it.
    pub evaluation: &'a Evaluation,
}

/// Writes the page as a file; a former one stays until the new one is whole.
///
/// # Errors
/// [`ReportError`] when the file cannot be written.
pub fn save(report: &EvaluationReport, path: &Path) -> Result<(), ReportError> {
    write_whole(path, render(report).as_bytes()).map_err(|source| ReportError { path: path.to_owned(), source })
}

/// The page as HTML.
pub fn render(report: &EvaluationReport) -> String {
    let part = |id, title, html| Section { id, title, html };
    let Evaluation { metrics, curves, ticks, duration_s } = report.evaluation;
    let objects = &curves.objects;
    let sections = [
        part("measures", "Measures", measures(metrics)),
        part("pictures", "Objects in the pictures", precision(&curves.precision) + &hota(&curves.hota)),
        part("world", "World model", position(&objects.position_error_m) + &motion(objects)),
        part("lead", "Lead", lead_range(&objects.lead_range_m) + &lead_gap(&curves.lead_gap_m)),
        part("lanes", "Lanes", lanes(&curves.lane_error_m)),
        part("calibration", "Covariances", coverage(&objects.calibration) + &nees(&objects.calibration)),
    ];
    let mut facts = report.facts.clone();
    facts.push(("compared".to_owned(), format!("{ticks} ticks over {duration_s:.1} s")));
    html::page(&report.title, &html::facts(&facts), &sections, None)
}

/// A table for each section of names, as on the terminal.
fn measures(metrics: &DriveMetrics) -> String {
    let section = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let all: Vec<(&String, &Option<f64>)> = metrics.0.iter().collect();
    let row = |(name, value): &(&String, &Option<f64>)| vec![Cell::Text((*name).clone()), Cell::Number(shown(**value))];
    let sections = all.chunk_by(|(one, _), (next, _)| section(one) == section(next));
    let table = |rows: &[_]| {
        let rows: Vec<Vec<Cell>> = rows.iter().map(row).collect();
        html::table(&["measure", "value"], &rows, "")
    };
    let tables: Vec<String> = sections.map(table).collect();
    format!("<div class=\"measures\">{}</div><p class=\"words\">A dash: truth does not tell.</p>", tables.concat())
}

fn lines(curves: &[Curve]) -> Vec<Series> {
    let line = |curve: &Curve| Series { name: curve.name.clone(), points: curve.points.clone(), look: None };
    curves.iter().map(line).collect()
}

fn precision(curves: &[Curve]) -> String {
    let chart = LineChart {
        x_label: "recall",
        y_label: "precision",
        x_shows: &[0.0, 1.0],
        y_shows: &[0.0, 1.0],
        series: lines(curves),
        empty: "No true object counts in any picture.",
        ..LineChart::default()
    };
    let words = "At an overlap (IoU) of 0.5: the best precision at a recall or a higher one, 0 where it is not reached. \
                 The area below a line is its class's AP50.";
    html::explained("Precision over recall", &svg::line_chart(&chart), words)
}

fn hota(curves: &[Curve]) -> String {
    let chart = LineChart {
        x_label: "least overlap of a pair (alpha)",
        y_label: "part",
        x_shows: &[0.0, 1.0],
        y_shows: &[0.0, 1.0],
        series: lines(curves),
        empty: "No true object was to be tracked.",
        ..LineChart::default()
    };
    let words =
        "Mean over the cameras. DetA weighs detection, AssA association; HOTA is their geometric mean in each camera.";
    html::explained("HOTA over alpha", &svg::line_chart(&chart), words)
}

/// A solid line of medians and a dashed one of 90th percentiles in the same colour.
fn spread_lines(all: &[&Errors], scale: f64) -> Vec<Series> {
    let line = |(colour, errors): (usize, &&Errors)| {
        let of = |what: &str, dash, value: fn(&Spread) -> Option<f64>| {
            let point = |spread: &Spread| [spread.at_m, value(spread).map_or(f64::NAN, |value| scale * value)];
            let points = errors.spreads.iter().map(point).collect();
            Series { name: format!("{}, {what}", errors.name), points, look: Some(Look { colour, dash }) }
        };
        [of("median", 0, |spread| spread.median), of("90th percentile", 1, |spread| spread.p90)]
    };
    all.iter().enumerate().flat_map(line).collect()
}

fn error_chart(x_label: &str, y_label: &str, all: &[&Errors], scale: f64) -> String {
    svg::line_chart(&LineChart {
        x_label,
        y_label,
        x_shows: &[0.0],
        y_shows: &[0.0],
        series: spread_lines(all, scale),
        empty: TOO_FEW,
        ..LineChart::default()
    })
}

fn position(all: &[Errors]) -> String {
    let all: Vec<&Errors> = all.iter().collect();
    let words = "Distance between an object and the point of the true one that it stands for, of pairs within 4 m, in ranges \
                 of 0 to 10, 20, 30, 40, 60 and 100 m. A range with fewer than 10 pairs is left out, and so is a class \
                 without any other.";
    html::explained("Position error over range", &error_chart(RANGE_LABEL, "position error, m", &all, 1.0), words)
}

fn motion(objects: &ObjectCurves) -> String {
    let velocity = error_chart(RANGE_LABEL, "velocity error, m/s", &[&objects.velocity_error_mps], 1.0);
    let degrees = 1.0_f64.to_degrees();
    let heading = error_chart(RANGE_LABEL, "heading error, degrees", &[&objects.heading_error_rad], degrees);
    html::explained(
        "Velocity error over range",
        &velocity,
        "Length of the difference between the velocities over ground, where the run knew its own motion.",
    ) + &html::explained(
        "Heading error over range",
        &heading,
        "Angle between the direction of an object's velocity and the true heading, of what truly moves faster than 2 m/s.",
    )
}

fn over_time(y_label: &str, curves: &[Curve], empty: &str) -> String {
    let (x_label, series) = (TIME_LABEL, lines(curves));
    svg::line_chart(&LineChart { x_label, y_label, y_shows: &[0.0], series, empty, ..LineChart::default() })
}

fn lead_range(curves: &[Curve]) -> String {
    let chart = over_time("range, m", curves, "Truth has no lead at any time.");
    let words = "Distance of the body that truth has ahead in the vehicle's lane, from the vehicle's origin to the side of \
                 the body that was measured. A gap in the line of the world model: no object stood for it.";
    html::explained("Range of the lead", &chart, words)
}

fn lead_gap(curves: &[Curve]) -> String {
    let chart = over_time("gap, m", curves, "Neither truth nor the planner has a lead at any time.");
    let words = "Free way to the lead, bumper to bumper: what is true, and what the planner acted on. Each has its own \
                 notion of which body is the lead.";
    html::explained("Gap to the lead", &chart, words)
}

fn lanes(errors: &Errors) -> String {
    let chart = error_chart("distance ahead, m", "lateral error, m", &[errors], 1.0);
    let words = "Lateral distance between a lane curve and the nearest true line within 1 m.";
    html::explained("Lateral error of lanes over distance", &chart, words)
}

fn coverage(all: &[Calibrated]) -> String {
    let point = |coverage: &Coverage| [coverage.at_m, coverage.part.unwrap_or(f64::NAN)];
    let line = |(colour, of): (usize, &Calibrated)| Series {
        name: of.name.clone(),
        points: of.coverage.iter().map(point).collect(),
        look: Some(Look { colour, dash: 0 }),
    };
    let mut series: Vec<Series> = all.iter().enumerate().map(line).collect();
    let is_known = series.iter().flat_map(|series| &series.points).any(|[_, part]| part.is_finite());
    let ranges = all.first().map(|of| of.coverage.as_slice()).unwrap_or_default();
    let (true, Some(first), Some(last)) = (is_known, ranges.first(), ranges.last()) else {
        return html::explained("Coverage over range", &words_alone(), COVERAGE_WORDS);
    };
    let points = vec![[first.at_m, CLAIMED], [last.at_m, CLAIMED]];
    series.push(Series { name: "claimed: 95 %".to_owned(), points, look: Some(Look { colour: 6, dash: 2 }) });
    let chart = LineChart {
        x_label: RANGE_LABEL,
        y_label: "part of the errors",
        x_shows: &[0.0],
        y_shows: &[0.0, 1.0],
        series,
        empty: TOO_FEW,
        ..LineChart::default()
    };
    html::explained("Coverage over range", &svg::line_chart(&chart), COVERAGE_WORDS)
}

const COVERAGE_WORDS: &str = "Part of the errors that lie in the ellipse of the covariance that is to hold 95 % of them. \
                              Below the dotted line covariances claim too much, above it too little.";

fn words_alone() -> String {
    svg::line_chart(&LineChart { empty: TOO_FEW, ..LineChart::default() })
}

/// One plot for each kind of covariance.
fn nees(all: &[Calibrated]) -> String {
    all.iter().map(nees_of).collect()
}

fn nees_of(of: &Calibrated) -> String {
    let title = format!("NEES of {}", of.name);
    let Some(density) = of.nees.density() else {
        return html::explained(&title, &words_alone(), "");
    };
    let edge = |bin: usize| bin as f64 * NEES_BIN;
    // a step over each bin
    let steps =
        density.iter().enumerate().flat_map(|(bin, density)| [[edge(bin), *density], [edge(bin + 1), *density]]);
    let expected = (0..=density.len() * DENSITY_STEPS).map(|step| edge(step) / DENSITY_STEPS as f64);
    let series = vec![
        Series { name: "found".to_owned(), points: steps.collect(), look: Some(Look { colour: 0, dash: 0 }) },
        Series {
            name: "chi-square, 2 degrees of freedom".to_owned(),
            points: expected.map(|value| [value, chi2_density_2(value)]).collect(),
            look: Some(Look { colour: 6, dash: 2 }),
        },
    ];
    let chart = LineChart {
        x_label: "squared error over its covariance (NEES)",
        y_label: "density",
        x_shows: &[0.0],
        y_shows: &[0.0],
        series,
        ..LineChart::default()
    };
    let (beyond, total) = (of.nees.beyond, of.nees.total());
    let words = format!(
        "Of {total} errors {beyond} are larger than {} or have no covariance; they are not drawn but are counted in the \
         density. Where covariances keep their word both lines are the same.",
        edge(density.len())
    );
    html::explained(&title, &svg::line_chart(&chart), &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::drive::curves::{DriveCurves, NEES_BINS, NeesHistogram};

    fn curve(name: &str) -> Curve {
        Curve { name: name.to_owned(), points: vec![[0.0, 1.0], [0.5, 0.8], [0.6, f64::NAN], [0.7, 0.2], [1.0, 0.1]] }
    }

    fn errors(name: &str) -> Errors {
        let spread = |at_m, count| Spread { at_m, count, median: Some(0.01 * at_m), p90: Some(0.03 * at_m) };
        let gap = Spread { at_m: 15.0, count: 3, ..Spread::default() };
        Errors { name: name.to_owned(), spreads: vec![spread(5.0, 20), gap, spread(25.0, 40), spread(35.0, 11)] }
    }

    fn calibrated(name: &str) -> Calibrated {
        let coverage = |at_m, part| Coverage { at_m, count: 20, part };
        let coverage = vec![coverage(5.0, Some(0.9)), coverage(15.0, None), coverage(25.0, Some(1.0))];
        let nees = NeesHistogram { counts: (0..NEES_BINS as u64).rev().collect(), beyond: 7 };
        Calibrated { name: name.to_owned(), coverage, nees }
    }

    fn full() -> Evaluation {
        let mut metrics = DriveMetrics::default();
        metrics.put("detection.car.ap50", Some(0.87654));
        metrics.put("detection.truck.ap50", None);
        metrics.put("lanes.recall", Some(f64::NAN));
        let objects = ObjectCurves {
            position_error_m: vec![errors("car"), errors("pedestrian")],
            velocity_error_mps: errors("all objects"),
            heading_error_rad: errors("all objects"),
            calibration: vec![calibrated("position"), calibrated("velocity")],
            lead_range_m: vec![curve("truth"), curve("world model")],
        };
        let curves = DriveCurves {
            precision: vec![curve("car"), curve("truck")],
            hota: vec![curve("HOTA"), curve("DetA"), curve("AssA")],
            objects,
            lane_error_m: errors("lane curves"),
            lead_gap_m: vec![curve("truth"), curve("planner")],
        };
        Evaluation { metrics, curves, ticks: 120, duration_s: 12.0 }
    }

    fn rendered(evaluation: &Evaluation) -> String {
        let facts = vec![("run".to_owned(), "<run>.mcap".to_owned()), ("truth".to_owned(), "drive.mcap".to_owned())];
        render(&EvaluationReport { title: "run.mcap against drive.mcap".to_owned(), facts, evaluation })
    }

    const TITLES: [&str; 11] = [
        "Precision over recall",
        "HOTA over alpha",
        "Position error over range",
        "Velocity error over range",
        "Heading error over range",
        "Range of the lead",
        "Gap to the lead",
        "Lateral error of lanes over distance",
        "Coverage over range",
        "NEES of position",
        "NEES of velocity",
    ];

    #[test]
    fn every_plot_is_there_and_nothing_else_is_loaded_or_run() {
        let page = rendered(&full());
        for title in TITLES {
            let caption = format!("<figcaption>{title}</figcaption><svg class=\"chart\"");
            assert_eq!(page.matches(&caption).count(), 1, "{title}");
        }
        assert_eq!(page.matches("<svg class=\"chart\"").count(), TITLES.len());
        assert_eq!(page.matches("<ul class=\"legend\">").count(), TITLES.len());
        for bad in ["NaN", ">inf", "\"inf", "<script", "http:", "https:", "@import", "src=", "<link"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert_eq!(page, rendered(&full()));
    }

    #[test]
    fn the_table_is_that_of_the_terminal_and_above_the_plots() {
        let page = rendered(&full());
        assert!(page.contains("<td>detection.car.ap50</td><td class=\"number\">0.8765</td>"));
        assert!(page.contains("<td>detection.truck.ap50</td><td class=\"number\">-</td>"));
        assert!(page.contains("<td>lanes.recall</td><td class=\"number\">-</td>"));
        assert!(page.find("<td>lanes.recall").unwrap() < page.find("<svg").unwrap());
        assert!(page.contains("<dd>&lt;run&gt;.mcap</dd>") && page.contains("<dd>120 ticks over 12.0 s</dd>"));
    }

    #[test]
    fn what_was_not_compared_is_said_in_words() {
        let page = rendered(&Evaluation::default());
        assert!(!page.contains("<svg") && page.contains(TOO_FEW) && page.contains("Truth has no lead at any time."));
    }

    #[test]
    fn a_percentile_has_the_colour_of_its_median() {
        let lines = spread_lines(&[&errors("car"), &errors("truck")], 2.0);
        let looks: Vec<_> = lines.iter().filter_map(|line| line.look).map(|look| (look.colour, look.dash)).collect();
        assert_eq!(looks, [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!((lines[1].name.as_str(), lines[1].points[0]), ("car, 90th percentile", [5.0, 2.0 * (0.03 * 5.0)]));
        assert!(lines[1].points[1][1].is_nan(), "a range with too few is a gap");
    }
}
