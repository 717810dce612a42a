//! `catseye eval`: outputs against ground truth.

use std::path::PathBuf;

use catseye::eval::mot;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Outcome, problem};

/// Arguments of `eval`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye eval mot --truth gt.txt --tracks out.txt\n  catseye eval mot --truth gt.txt --tracks out.txt --json"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CLEAR-MOT and IDF1 on files of the MOT challenge.
    #[command(
        after_help = "Examples:\n  catseye eval mot --truth gt.txt --tracks out.txt\n  catseye eval mot --truth gt.txt --tracks out.txt --max-distance 0.5"
    )]
    Mot {
        /// Ground truth; rows with a confidence below 1 are not counted.
        #[arg(long)]
        truth: PathBuf,
        /// A tracker's output.
        #[arg(long)]
        tracks: PathBuf,
        /// Largest distance (1 - IoU) of a pair.
        #[arg(long, default_value_t = 0.5)]
        max_distance: f64,
    },
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let Command::Mot { truth, tracks, max_distance } = &arguments.command;
    let read = |path, min| mot::read(path, min).map_err(|error| problem(error, ""));
    let metrics = mot::evaluate(&read(truth, 1.0)?, &read(tracks, f64::NEG_INFINITY)?, *max_distance)
        .map_err(|error| problem(error, ""))?;
    let rows = [
        ("mota", metrics.mota),
        ("motp", metrics.motp),
        ("idf1", metrics.idf1),
        ("idp", metrics.idp),
        ("idr", metrics.idr),
        ("num_switches", metrics.switches as f64),
        ("num_false_positives", metrics.false_positives as f64),
        ("num_misses", metrics.misses as f64),
        ("num_fragmentations", metrics.fragmentations as f64),
        ("mostly_tracked", metrics.mostly_tracked as f64),
        ("mostly_lost", metrics.mostly_lost as f64),
    ];
    if context.speaks() {
        rows.iter().for_each(|(name, value)| println!("{name:<20} {value:>12.6}"));
    }
    context.print_json(&json!(rows.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
    Ok(Outcome::Good)
}
