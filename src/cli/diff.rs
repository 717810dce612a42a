//! `catseye diff`: where two runs part.

use std::path::PathBuf;

use catseye::diff::{Comparison, diff};
use clap::Args;

use super::{Context, Outcome, problem};

/// Arguments of `diff`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye diff monday/run.mcap tuesday/run.mcap\n  catseye diff a.mcap b.mcap --json"
)]
pub struct Arguments {
    /// The first run.
    first: PathBuf,
    /// The second run.
    second: PathBuf,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let comparison = diff(&arguments.first, &arguments.second).map_err(|error| problem(error, ""))?;
    if context.speaks() {
        print(&comparison);
    }
    context.print_json(&serde_json::to_value(&comparison).unwrap_or_default());
    Ok(if comparison.is_equal() { Outcome::Good } else { Outcome::Different })
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
