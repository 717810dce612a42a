//! `catseye check`: whether a recording is complete, and if not, what is missing.

use std::path::PathBuf;

use catseye::log::completeness::sequences::Range;
use catseye::log::completeness::{ChannelReport, FileReport, Recording, Verdict, check, subjects};
use clap::Args;
use serde_json::{Value, json};

use super::progress::Progress;
use super::{Context, Outcome, problem};

/// Arguments of `check`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye check recordings/drive.manifest.json\n  catseye check recordings --json\n  catseye check drive.mcap"
)]
pub struct Arguments {
    /// Logs; recordings by their folders, manifests or first files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Accept what the recorder says that it left out.
    #[arg(long)]
    allow_declared: bool,
}

/// Ranges that are printed of one channel.
const RANGES_SHOWN: usize = 8;

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let subjects = subjects(&arguments.paths).map_err(|error| problem(error, ""))?;
    let bar = Progress::new(context, "check");
    let mut recordings = Vec::new();
    for subject in &subjects {
        recordings.push(check(subject, &mut |done, all| bar.set(done, all, String::new)));
    }
    bar.done();
    let worst = recordings.iter().map(Recording::verdict).max().unwrap_or(Verdict::Complete);
    if context.speaks() {
        recordings.iter().for_each(print);
    }
    context.print_json(&json!({
        "complete": worst == Verdict::Complete,
        "recordings": recordings.iter().map(recording_json).collect::<Vec<_>>(),
    }));
    let limit = if arguments.allow_declared { Verdict::Declared } else { Verdict::Complete };
    Ok(if worst <= limit { Outcome::Good } else { Outcome::Wrong })
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Complete => "complete",
        Verdict::Declared => "declared",
        Verdict::Incomplete => "incomplete",
    }
}

fn recording_json(recording: &Recording) -> Value {
    let file = |file: &FileReport| {
        json!({
            "name": file.name,
            "bytes": file.bytes,
            "messages": file.messages,
            "unchecked": file.unchecked,
            "whole": file.is_whole,
        })
    };
    let channels: serde_json::Map<String, Value> =
        recording.channels.iter().map(|(topic, channel)| (topic.clone(), channel_json(channel))).collect();
    json!({
        "name": recording.name,
        "verdict": words(recording.verdict()),
        "ending": recording.ending,
        "problems": recording.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "files": recording.files.iter().map(file).collect::<Vec<_>>(),
        "channels": channels,
    })
}

fn channel_json(channel: &ChannelReport) -> Value {
    let pairs = |ranges: &[Range]| ranges.iter().map(|range| [range.first, range.last]).collect::<Vec<_>>();
    json!({
        "messages": channel.sequences.count,
        "bytes": channel.bytes,
        "first_sequence": channel.sequences.first,
        "last_sequence": channel.sequences.last,
        "first_log_ns": channel.first_log_ns,
        "last_log_ns": channel.last_log_ns,
        "numbered": !channel.sequences.is_unnumbered(),
        "gaps": pairs(&channel.sequences.gaps),
        "repeats": channel.sequences.repeats,
        "late": channel.sequences.late,
        "restarts": channel.sequences.restarts,
        "declared": channel.declared,
        "declared_ranges": pairs(&channel.declared_ranges),
        "undeclared": channel.undeclared,
        "undeclared_ranges": pairs(&channel.undeclared_ranges),
    })
}

fn print(recording: &Recording) {
    let bytes: u64 = recording.files.iter().map(|file| file.bytes).sum();
    println!("{}: {} files, {bytes} bytes", recording.name, recording.files.len());
    println!(
        "\n{:>9} {:>10} {:>10} {:>9} {:>10} {:>7}  topic",
        "messages", "first", "last", "declared", "undeclared", "repeats"
    );
    for (topic, channel) in &recording.channels {
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        println!(
            "{:>9} {:>10} {:>10} {:>9} {:>10} {:>7}  {topic}{}",
            channel.sequences.count,
            number(channel.sequences.first),
            number(channel.sequences.last),
            channel.declared(),
            channel.undeclared,
            channel.sequences.repeats,
            remarks(channel),
        );
    }
    println!();
    if let Some(ending) = &recording.ending {
        println!("the recording {ending}");
    }
    recording.problems.iter().for_each(|problem| println!("missing or wrong: {problem}"));
    for file in recording.files.iter().filter(|file| file.unchecked > 0) {
        println!("{}: {} messages lie in a chunk that is cut off, and could not be checked", file.name, file.unchecked);
    }
    println!("{}", words(recording.verdict()));
}

/// What the numbers of the table do not say.
fn remarks(channel: &ChannelReport) -> String {
    let mut remarks = Vec::new();
    if channel.sequences.is_unnumbered() {
        remarks.push("has no numbers: nothing can be told".to_owned());
    }
    if channel.sequences.restarts > 0 {
        remarks.push(format!("counted anew {} times", channel.sequences.restarts));
    }
    remarks.extend(channel.declared.iter().map(|(reason, count)| format!("{reason}: {count}")));
    let ranges = &channel.undeclared_ranges;
    if !ranges.is_empty() {
        let range = |range: &Range| match range {
            Range { first, last } if first == last => first.to_string(),
            Range { first, last } => format!("{first}..{last}"),
        };
        let shown: Vec<String> = ranges.iter().take(RANGES_SHOWN).map(range).collect();
        let more = ranges.len().saturating_sub(RANGES_SHOWN);
        let rest = if more > 0 { format!(" and {more} more gaps") } else { String::new() };
        remarks.push(format!("missing {}{rest}", shown.join(", ")));
    }
    if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join("; ")) }
}
