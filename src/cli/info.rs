//! `catseye info`: what is in a log.

use std::collections::BTreeMap;
use std::path::PathBuf;

use catseye::log::notes::{Notes, NotesReader};
use catseye::log::reader::{Event, LogReader, ReadError};
use catseye::log::{RUN_HEADER, SOURCE_HEADER, TOPIC_DROP, TOPIC_SNAPSHOT, TOPIC_TICK};
use catseye::messages::{DropDecision, TickDecision};
use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Outcome, problem};

/// Arguments of `info`.
#[derive(Args)]
#[command(after_help = "Examples:\n  catseye info drive.mcap\n  catseye info catseye-out/drive/run.mcap --json")]
pub struct Arguments {
    /// The log, or a recording of several files by its folder, its manifest or its first file.
    log: PathBuf,
}

#[derive(Default)]
struct Topic {
    schema: String,
    clock: String,
    count: u64,
    bytes: u64,
    first_ns: i64,
    last_ns: i64,
    largest_gap_ns: i64,
    /// Sequence numbers that were jumped over.
    missing: u64,
    last_sequence: Option<u32>,
    backward: u64,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let path = &arguments.log;
    let explain = |error: ReadError| {
        let help = if error.is_of_recording() {
            "`catseye check` tells all that is missing of a recording"
        } else {
            "a file that is no MCAP log can be brought in with `catseye import`"
        };
        problem(error, help)
    };
    let mut reader = LogReader::open(path).map_err(explain)?;
    let mut notes = NotesReader::default();
    let bar = Progress::new(context, "info");
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let mut headers: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut attachments: Vec<(String, usize)> = Vec::new();
    let mut drops: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut ticks, mut partial, mut digests) = (0u64, 0u64, BTreeMap::<String, u64>::new());
    loop {
        let (done, all) = reader.progress();
        bar.set(done, all, String::new);
        let Some(event) = reader.next().map_err(explain)? else { break };
        match event {
            Event::Metadata { name, entries } => {
                headers.insert(name, entries);
            }
            Event::Attachment { name, data } => attachments.push((name, data.len())),
            Event::Message(message) => {
                let topic = topics.entry(message.channel.topic.clone()).or_default();
                if topic.count == 0 {
                    topic.schema.clone_from(&message.channel.schema_name);
                    topic.clock = message.channel.metadata.get("catseye.clock").cloned().unwrap_or_default();
                    topic.first_ns = message.publish_ns;
                } else {
                    let gap_ns = message.publish_ns.saturating_sub(topic.last_ns);
                    topic.largest_gap_ns = topic.largest_gap_ns.max(gap_ns);
                    topic.backward += u64::from(gap_ns < 0);
                }
                if let Some(last) = topic.last_sequence {
                    let step = message.sequence.wrapping_sub(last);
                    // ROS recorders write 0 throughout: no numbers, no gaps
                    topic.missing += u64::from(step.saturating_sub(1)) * u64::from(step < u32::MAX / 2 && step > 0);
                }
                topic.last_sequence = Some(message.sequence);
                topic.count += 1;
                topic.bytes += message.data.len() as u64;
                topic.last_ns = message.publish_ns;
                match message.channel.topic.as_str() {
                    TOPIC_TICK => {
                        let tick: TickDecision = message.record(path).map_err(explain)?;
                        ticks += 1;
                        partial += u64::from(tick.partial);
                    }
                    TOPIC_DROP => {
                        let drop: DropDecision = message.record(path).map_err(explain)?;
                        *drops.entry(drop.reason.name()).or_insert(0) += 1;
                    }
                    _ => {}
                }
                if let Some(Notes::Digests(stages)) = notes.read(&message, path).map_err(explain)? {
                    for stage in stages {
                        *digests.entry(stage.stage).or_insert(0) += stage.fields.len() as u64;
                    }
                }
            }
        }
    }
    bar.done();
    let missing = reader.ending().and_then(|ending| ending.missing());
    let snapshots = topics.get(TOPIC_SNAPSHOT).map_or(0, |topic| topic.count);
    if context.speaks() {
        print(&topics, &headers, &attachments);
        if ticks > 0 {
            println!("\nrun: {ticks} ticks ({partial} partial), {snapshots} snapshots, digests per stage: {digests:?}");
            println!("left out: {drops:?}");
        }
        if let Some(missing) = &missing {
            println!("\nincomplete: {missing}");
        }
    }
    let topics: BTreeMap<_, _> = topics.iter().map(|(name, topic)| (name, topic_json(topic))).collect();
    context.print_json(&json!({
        "log": path.display().to_string(),
        "complete": missing.is_none(),
        "missing": missing,
        "topics": topics,
        "headers": headers,
        "attachments": attachments.into_iter().collect::<BTreeMap<_, _>>(),
        "run": { "ticks": ticks, "partial": partial, "snapshots": snapshots, "digests": digests, "drops": drops },
    }));
    Ok(Outcome::Good)
}

fn rate_hz(topic: &Topic) -> f64 {
    let span_s = topic.last_ns.saturating_sub(topic.first_ns) as f64 * 1e-9;
    if span_s > 0.0 { (topic.count.saturating_sub(1)) as f64 / span_s } else { 0.0 }
}

fn topic_json(topic: &Topic) -> serde_json::Value {
    json!({
        "schema": topic.schema,
        "clock": topic.clock,
        "messages": topic.count,
        "bytes": topic.bytes,
        "first_ns": topic.first_ns,
        "last_ns": topic.last_ns,
        "rate_hz": rate_hz(topic),
        "largest_gap_ns": topic.largest_gap_ns,
        "missing_sequences": topic.missing,
        "backward_stamps": topic.backward,
    })
}

fn print(
    topics: &BTreeMap<String, Topic>,
    headers: &BTreeMap<String, BTreeMap<String, String>>,
    attachments: &[(String, usize)],
) {
    for name in [SOURCE_HEADER, RUN_HEADER] {
        if let Some(entries) = headers.get(name) {
            println!("{name}");
            entries.iter().for_each(|(key, value)| println!("  {key} = {value}"));
        }
    }
    for (name, bytes) in attachments {
        println!("attachment {name} ({bytes} bytes)");
    }
    println!("\n{:>9} {:>9} {:>9} {:>7}  {:<40} schema", "messages", "rate Hz", "gap ms", "missing", "topic");
    for (name, topic) in topics {
        let gap_ms = topic.largest_gap_ns as f64 * 1e-6;
        println!(
            "{:>9} {:>9.2} {:>9.1} {:>7}  {:<40} {}{}",
            topic.count,
            rate_hz(topic),
            gap_ms,
            topic.missing,
            name,
            topic.schema,
            if topic.backward > 0 { format!("  ({} backward stamps)", topic.backward) } else { String::new() }
        );
    }
}
