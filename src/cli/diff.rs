//! `catseye diff`: where two runs part.

use std::path::PathBuf;

use catseye::agreement::{Agreement, Tolerance, agreement};
use catseye::diff::{Comparison, diff};
use clap::Args;

use super::{Context, Outcome, problem};

/// Arguments of `diff`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye diff monday/run.mcap tuesday/run.mcap\n  catseye diff a.mcap b.mcap --json\n  catseye diff cpu/run.mcap gpu/run.mcap --tolerant --min-iou 0.95 --max-score-difference 0.02"
)]
pub struct Arguments {
    /// The first run.
    first: PathBuf,
    /// The second run.
    second: PathBuf,
    /// Compare what was seen and not the bits: for runs with other engines, precisions or devices.
    #[arg(long)]
    tolerant: bool,
    /// Least overlap (intersection over union) of two boxes that agree.
    #[arg(long, value_name = "IOU", default_value_t = Tolerance::default().min_iou, requires = "tolerant")]
    min_iou: f32,
    /// Greatest difference of their scores.
    #[arg(long, value_name = "D", default_value_t = Tolerance::default().max_score_difference, requires = "tolerant")]
    max_score_difference: f32,
    /// Least share of boxes that agree; below it the runs differ.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, requires = "tolerant")]
    min_share: f64,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    if arguments.tolerant {
        return run_tolerant(arguments, context);
    }
    let comparison = diff(&arguments.first, &arguments.second).map_err(|error| problem(error, ""))?;
    if context.speaks() {
        print(&comparison);
    }
    context.print_json(&serde_json::to_value(&comparison).unwrap_or_default());
    Ok(if comparison.is_equal() { Outcome::Good } else { Outcome::Different })
}

fn run_tolerant(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let tolerance = Tolerance { min_iou: arguments.min_iou, max_score_difference: arguments.max_score_difference };
    let found =
        agreement(&arguments.first, &arguments.second, tolerance).map_err(|error| problem(error, "give two runs"))?;
    if context.speaks() {
        print_agreement(&found, tolerance);
    }
    let mut json = serde_json::to_value(&found).unwrap_or_default();
    json["share"] = found.share().into();
    context.print_json(&json);
    Ok(if found.share() >= arguments.min_share { Outcome::Good } else { Outcome::Different })
}

fn print_agreement(found: &Agreement, tolerance: Tolerance) {
    let Tolerance { min_iou, max_score_difference } = tolerance;
    let [first, second] = found.boxes;
    println!("{} pictures in both runs, {} in one only", found.pictures, found.unpaired_pictures);
    println!("boxes: {first} and {second}; {} agree with an overlap of {min_iou} and a score within", found.agreeing);
    let (near, alone) = (found.near, found.at_threshold);
    println!("  {max_score_difference}: {:.3} %; {near} pairs do not, {alone} at the threshold", 100.0 * found.share());
    let number = |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.5}"));
    println!("  worst overlap {}, score {}", number(found.worst_iou), number(found.worst_score_difference));
    let [both, one] = found.lanes;
    println!("lanes: {both} in both, {one} in one only, at most {} m apart", number(found.worst_lane_m));
    let mean = found.mean_free_space_m.map(|mean| mean as f32);
    println!("free space: {} m apart in the mean, {} m at most", number(mean), number(found.worst_free_space_m));
}

/// Says what was found.
pub fn print(comparison: &Comparison) {
    for (stage, why) in &comparison.left_out {
        println!("not compared: {stage}: {why}");
    }
    if comparison.is_equal() {
        println!("equal: {} digests in {} ticks", comparison.digests, comparison.ticks);
        return;
    }
    if comparison.digests == 0 {
        println!("nothing to compare: no digests in ticks that both have");
    }
    if let Some(first) = &comparison.first {
        println!("first difference: tick {}, stage {}, field {}", first.tick, first.stage, first.field);
        if let (Some(expected), Some(found)) = (&first.expected, &first.found) {
            println!("  digest {expected} became {found}");
        }
        if let Some(element) = &first.element {
            println!("  {element}");
        }
    }
    for (stage, ticks) in &comparison.stages {
        println!("  {stage}: {ticks} of {} ticks differ", comparison.ticks);
    }
    for (count, which) in [(comparison.only_in_first, "first"), (comparison.only_in_second, "second")] {
        if count > 0 {
            println!("  {count} ticks only in the {which}");
        }
    }
}
