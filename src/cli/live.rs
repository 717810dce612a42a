//! `catseye run`, `record` and `time`: live sensors go through the pipeline, into files, or are only looked at.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use catseye::header::run_header;
use catseye::live::{Live, LiveError, LiveOptions, LiveReport, Recording, SensorCounts, SensorTiming, Tell};
use catseye::log::files::run_path;
use catseye::log::notes::Names;
use catseye::log::recorder::manifest::Ending;
use catseye::log::recorder::{Fsync, Options as RecorderOptions, now_unix_ns};
use catseye::log::run::{RunHeader, RunWriter};
use catseye::pipeline::{DigestLevel, Files, Pipeline, Settings};
use catseye::realtime::Footing;
use catseye::realtime::deadlines::DeadlineCount;
use catseye::realtime::pulse::Pulse;
use catseye::realtime::watchdog::{self, Watchdog};
use catseye::replay::{Options, run_live};
use catseye::stages::infer::{BackendChoice, EnginePrecision};
use catseye::tap::{Sink, Tap};
use catseye::view::collect::{Collector, CollectorSettings, summary_table};
use catseye_calibration::rig::Rig;
use catseye_sensors::clock::leap::TimeScale;
use catseye_sensors::clock::{ClockCounts, ClockReport};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::footing::{Standing, Wishes};
use super::progress::Progress;
use super::{Context, Outcome, STOP, problem};

/// Arguments of `run`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye run car.toml\n  catseye run car.toml --duration 60 --record drives --outputs"
)]
pub struct Run {
    /// The rig: its sensors with a `source` are live, its models run.
    rig: PathBuf,
    /// auto, tensorrt, ort or rten, as for `replay`.
    #[arg(long, default_value = "auto", value_parser = super::replay::parse_backend)]
    backend: BackendChoice,
    /// Which TensorRT engine is taken: fp32, fp16 or int8 [default: the rig's, or fp16].
    #[arg(long, value_parser = super::replay::parse_precision)]
    precision: Option<EnginePrecision>,
    /// Folder of the TensorRT engines [default: CATSEYE_ENGINE_DIR, or catseye/engines in the user's cache].
    #[arg(long, value_name = "DIR")]
    engine_dir: Option<PathBuf>,
    /// Threads of each engine session; part of what decides the network's bits.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Worker threads [default: one per processor].
    #[arg(long)]
    workers: Option<usize>,
    /// What is digested: off, outputs or all.
    #[arg(long, default_value = "outputs", value_parser = super::replay::parse_digests)]
    digests: DigestLevel,
    /// Record the sensors too, into this folder.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Put the run's log beside the recording, as NAME.run.mcap: decisions, detections, tracks, world models, plans. The recording
    /// then replays by itself to the bits that it had.
    #[arg(long, requires = "record")]
    outputs: bool,
    /// Where outputs go: the run's log, the report.
    #[arg(long, value_name = "DIR", default_value = "catseye-out/live")]
    output_dir: PathBuf,
    /// Do not write the report.
    #[arg(long)]
    no_report: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wishes: Wishes,
}

/// Arguments of `record`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye record car.toml drives\n  catseye record car.toml drives --max-file-minutes 5 --fsync per-chunk"
)]
pub struct Record {
    /// The rig: its sensors with a `source` are recorded.
    rig: PathBuf,
    /// The folder that the recording goes to.
    folder: PathBuf,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wishes: Wishes,
}

/// Arguments of `time`.
#[derive(Args)]
#[command(after_help = "Examples:\n  catseye time car.toml\n  catseye time car.toml --duration 60 --json")]
pub struct Time {
    /// The rig: its sensors with a `source` are looked at.
    rig: PathBuf,
    /// How many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "10")]
    duration: Duration,
}

/// How long sensors run, and how they are recorded.
#[derive(Args)]
struct Limits {
    /// End after so many seconds [default: at SIGINT or SIGTERM].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Name of the recording [default: the rig's name and the time].
    #[arg(long)]
    name: Option<String>,
    /// A file of the recording has at most so many MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..))]
    max_file_mib: u64,
    /// A file of the recording spans at most so many minutes.
    #[arg(long, value_name = "MINUTES")]
    max_file_minutes: Option<u64>,
    /// The recording ends when the disk has less room.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    min_free_mib: u64,
    /// When to wait for the disk itself.
    #[arg(long, value_enum, default_value = "per-file")]
    fsync: FsyncName,
}

#[derive(Clone, Copy, ValueEnum)]
enum FsyncName {
    Never,
    PerChunk,
    PerFile,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("expected a number of seconds, found {text:?}"))
}

impl Limits {
    fn recording(&self, rig: &Rig, folder: PathBuf) -> Recording {
        let seconds = now_unix_ns() / 1_000_000_000;
        let options = RecorderOptions {
            max_file_bytes: self.max_file_mib << 20,
            max_file_duration: self.max_file_minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            min_free_bytes: self.min_free_mib << 20,
            fsync: match self.fsync {
                FsyncName::Never => Fsync::Never,
                FsyncName::PerChunk => Fsync::PerChunk,
                FsyncName::PerFile => Fsync::PerFile,
            },
            ..RecorderOptions::default()
        };
        Recording { folder, name: self.name.clone().unwrap_or_else(|| format!("{}-{seconds}", rig.name)), options }
    }
}

/// The rig and the files that it names.
fn load(path: &Path) -> miette::Result<(Rig, Files)> {
    let rig = Rig::load(path).map_err(|error| problem(error, "`catseye rig check` lists every problem"))?;
    let mut files = Files::new();
    let rig = super::replay::take_along(rig, &mut files)?;
    Ok((rig, files))
}

/// Tells systemd how it goes, where it listens. `folder` is what is written into.
fn watch(pulse: &Pulse, folder: &Path, context: Context) -> Option<Watchdog> {
    let say = tell(context);
    Watchdog::start(pulse.clone(), folder.to_owned(), Arc::new(move |words: &str| say("watchdog", words)))
}

fn tell(context: Context) -> Tell {
    Arc::new(move |sensor: &str, words: &str| {
        if !context.quiet {
            eprintln!("{sensor}: {words}");
        }
    })
}

fn start(rig: &Rig, files: &Files, options: LiveOptions) -> miette::Result<(Live, catseye::source::Source)> {
    Live::start(rig, files, options).map_err(|error| {
        let help = match &error {
            LiveError::Record(_) => "another --name, or another folder",
            LiveError::File { .. } => "the file is named in the rig, relative to it",
            LiveError::NoSource { .. } | LiveError::Source { .. } => {
                "the sensor's section in the rig has the key `source`"
            }
            _ => "look whether the device is there, and whether you may open it",
        };
        problem(error, help)
    })
}

/// Runs `catseye run`.
pub fn run(arguments: &Run, context: Context) -> miette::Result<Outcome> {
    watchdog::starting("loading networks");
    let (rig, files) = load(&arguments.rig)?;
    let workers = arguments.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let settings = Settings {
        backend: arguments.backend,
        precision: arguments.precision,
        engine_dir: arguments.engine_dir.clone(),
        threads: arguments.threads.clamp(1, 256),
        lanes: workers.clamp(1, 64),
        masks: !arguments.no_report,
        digests: arguments.digests,
        ..Settings::default()
    };
    let pipeline = Pipeline::build(&rig, &files, settings).map_err(|error| problem(error, ""))?;
    let stages: Vec<&str> = pipeline.graph.stages().map(|(name, _)| name).collect();
    // before any thread of the run starts: locked memory then holds their stacks
    let standing = Standing::take(&arguments.wishes, &rig.realtime, Some(&stages), context)?;
    let pulse = Pulse::default();
    let header = run_header(&rig, &files, &pipeline, arguments.digests);
    let names = Names::of(&pipeline, &rig);
    if context.speaks() {
        super::replay::say_models(&pipeline);
    }
    let explain = |error: catseye::tap::TapError| problem(error, "");
    let recording = arguments.record.clone().map(|folder| arguments.limits.recording(&rig, folder));
    let beside = recording.as_ref().filter(|_| arguments.outputs).map(|to| run_path(&to.folder, &to.name));
    let log = beside.unwrap_or_else(|| arguments.output_dir.join("run.mcap"));
    let report = arguments.output_dir.join("report.html");
    let assumptions = pipeline.assumptions.clone();
    let kept = Rig { directory: PathBuf::new(), ..rig.clone() };
    let run = RunHeader { entries: header.clone(), rig_toml: kept.to_toml(), files: files.clone() };
    let collector = CollectorSettings {
        names: names.clone(),
        rig: rig.clone(),
        folder: arguments.output_dir.clone(),
        pictures: 6,
        video: None,
        frames_folder: None,
        title: format!("{} (live)", rig.name),
        is_simulated: false,
        header,
        assumptions: assumptions.clone(),
        report: (!arguments.no_report).then(|| report.clone()),
    };
    let writer = RunWriter::create(&log, &run, names, None).map_err(explain)?;
    let (collector, collected) = Collector::new(collector).map_err(explain)?;
    let pictures_every = collector.pictures_every();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(writer), Box::new(collector)];
    let tap = Tap::start(sinks, pictures_every).map_err(explain)?;

    let (live, source) = start(
        &rig,
        &files,
        LiveOptions {
            stop: &STOP,
            duration: arguments.limits.duration,
            pipeline: Some(pipeline.pictures.clone()),
            recording,
            timing: false,
            tell: tell(context),
            footing: standing.footing.clone(),
            pulse: pulse.clone(),
        },
    )?;
    let watchdog = watch(&pulse, arguments.record.as_deref().unwrap_or(&arguments.output_dir), context);
    let bar = Progress::new(context, "run");
    let options = Options {
        workers: workers.clamp(1, 256),
        footing: standing.footing.clone(),
        deadlines: standing.deadlines.clone(),
        pulse,
        ..Options::default()
    };
    // the sensors end first, and then what they have sent goes through
    let never = AtomicBool::new(false);
    let summary = run_live(source, &rig, pipeline, &options, tap, &never, &mut |_, _, ticks| {
        bar.set(0, 0, || format!("{ticks} ticks"));
    });
    bar.done();
    STOP.store(true, std::sync::atomic::Ordering::Relaxed);
    let sensors = live.finish();
    drop(watchdog);
    let summary = summary.map_err(|error| problem(error, ""))?;
    let collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    if context.speaks() {
        assumptions.iter().for_each(|assumption| println!("assumed: {assumption}"));
        print!("{}", summary_table(&summary, &collected));
        if let Some(tick) = summary.tap.not_replayable_from {
            println!("not replayable from tick {tick}: the log could not keep up");
        }
        say_sensors(&sensors);
        println!("{}", log.display());
        if !arguments.no_report {
            println!("{}", report.display());
        }
    }
    context.print_json(&json!({
        "ticks": summary.ticks,
        "drops": summary.drops,
        "deadlines": deadlines_json(&summary.deadlines),
        "realtime": standing.json(),
        "sensors": sensors_json(&sensors),
        "recording": recording_json(&sensors),
        "device_lost": summary.device_lost,
        "not_replayable_from": summary.tap.not_replayable_from,
        "results": &*collected,
        "log": log,
    }));
    if let Some(cause) = &summary.device_lost {
        return Err(problem(format!("the run ended after {} ticks: {cause}", summary.ticks), ""));
    }
    Ok(outcome(&sensors))
}

/// Runs `catseye record`.
pub fn record(arguments: &Record, context: Context) -> miette::Result<Outcome> {
    let (rig, files) = load(&arguments.rig)?;
    let recording = arguments.limits.recording(&rig, arguments.folder.clone());
    if context.speaks() {
        println!("recording {} to {}; Ctrl-C ends it", recording.name, recording.folder.display());
    }
    let standing = Standing::take(&arguments.wishes, &rig.realtime, None, context)?;
    let pulse = Pulse::default();
    let options = LiveOptions {
        stop: &STOP,
        duration: arguments.limits.duration,
        pipeline: None,
        recording: Some(recording),
        timing: false,
        tell: tell(context),
        footing: standing.footing.clone(),
        pulse: pulse.clone(),
    };
    let (live, source) = start(&rig, &files, options)?;
    let watchdog = watch(&pulse, &arguments.folder, context);
    drop(source);
    let sensors = live.finish();
    drop(watchdog);
    if context.speaks() {
        say_sensors(&sensors);
    }
    context.print_json(&json!({
        "sensors": sensors_json(&sensors),
        "recording": recording_json(&sensors),
        "realtime": standing.json(),
    }));
    Ok(outcome(&sensors))
}

/// Runs `catseye time`.
pub fn time(arguments: &Time, context: Context) -> miette::Result<Outcome> {
    let (rig, files) = load(&arguments.rig)?;
    let options = LiveOptions {
        stop: &STOP,
        duration: Some(arguments.duration),
        pipeline: None,
        recording: None,
        timing: true,
        tell: tell(context),
        footing: Footing::default(),
        pulse: Pulse::default(),
    };
    let (live, source) = start(&rig, &files, options)?;
    drop(source);
    let report = live.finish();
    let ms = |ns: i64| ns as f64 * 1e-6;
    if context.speaks() {
        println!(
            "sensor           clock           stamps name     offset s   drift ppm  jitter ms  latency ms  at most  refused"
        );
        for name in report.sensors.keys() {
            println!("{}", timing_line(name, report.timing.get(name)));
        }
    }
    let of = |timing: &SensorTiming| {
        let SensorTiming { clock, kind, report, latency_ns: [mean_ns, most_ns] } = timing;
        json!({
            "clock": clock.name(), "kind": kind.name(), "latency_mean_ms": ms(*mean_ns), "latency_max_ms": ms(*most_ns),
            "offset_ns": report.map(|report| report.offset_ns), "drift_ppm": report.map(|report| report.drift_ppm),
            "jitter_ns": report.map(|report| report.jitter_ns), "refused": report.map(|report| refused(&report)),
            "time_scale": report.and_then(|report| report.time_scale).map(TimeScale::name),
        })
    };
    let timing: serde_json::Map<String, Value> =
        report.timing.iter().map(|(name, timing)| (name.clone(), of(timing))).collect();
    context.print_json(&json!({ "timing": timing, "sensors": sensors_json(&report) }));
    let is_silent = |name: &String| !report.timing.contains_key(name);
    Ok(if report.sensors.keys().any(is_silent) { Outcome::Wrong } else { Outcome::Good })
}

/// Stamps that cannot be true.
fn refused(report: &ClockReport) -> u64 {
    let ClockCounts { zero, duplicate, backward, far, .. } = report.counts;
    zero + duplicate + backward + far
}

fn timing_line(name: &str, timing: Option<&SensorTiming>) -> String {
    let Some(SensorTiming { clock, kind, report, latency_ns }) = timing else {
        return format!("{name:<16} nothing came");
    };
    let [mean_ms, most_ms] = latency_ns.map(|ns| ns as f64 * 1e-6);
    let head = format!("{name:<16} {:<15} {:<15}", clock.name(), kind.name());
    let Some(report) = report else { return format!("{head} no stamp can be true") };
    let scale = report.time_scale.map(|scale| format!("  it keeps {}", scale.name())).unwrap_or_default();
    format!(
        "{head} {:>10.3} {:>10.1} {:>10.3} {mean_ms:>11.3} {most_ms:>8.3} {:>8}{scale}",
        report.offset_ns as f64 * 1e-9,
        report.drift_ppm,
        report.jitter_ns as f64 * 1e-6,
        refused(report)
    )
}

/// Wrong is a recording that ended by itself or lost something; devices that went away have been told of.
fn outcome(report: &LiveReport) -> Outcome {
    let is_cut = report.recording.as_ref().is_some_and(|summary| !matches!(summary.manifest.ending, Ending::Stopped));
    let is_lossy = report.sensors.values().any(|counts| counts.not_recorded > 0);
    if is_cut || is_lossy || report.recording_failed.is_some() { Outcome::Wrong } else { Outcome::Good }
}

/// What became of a sensor's measurements besides being sent, as scripts read it and as people do.
fn losses(counts: &SensorCounts) -> [(&'static str, &'static str, u64); 9] {
    let SensorCounts { sent: _, edge_full, copied, not_recorded, missing, damaged, left_out, bad_stamp, refused, lost } =
        *counts;
    [
        ("missing", "missing", missing),
        ("damaged", "damaged", damaged),
        ("left_out", "returns or objects left out", left_out),
        ("bad_stamp", "with a stamp that cannot be true", bad_stamp),
        ("refused", "packets refused", refused),
        ("edge_full", "found the edge full", edge_full),
        ("copied", "pictures copied", copied),
        ("not_recorded", "not recorded", not_recorded),
        ("lost", "times gone", lost),
    ]
}

fn say_sensors(report: &LiveReport) {
    for (name, counts) in &report.sensors {
        let mut line = format!("{name}: {} measurements", counts.sent);
        for (_, words, count) in losses(counts).into_iter().filter(|(.., count)| *count > 0) {
            line += &format!(", {count} {words}");
        }
        println!("{line}");
    }
    if let Some(summary) = &report.recording {
        let manifest = &summary.manifest;
        let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
        println!("{}: {} files, {bytes} bytes, {}", manifest.name, manifest.files.len(), manifest.ending);
        match &summary.manifest_file {
            Ok(path) => println!("{}", path.display()),
            Err(error) => println!("no manifest: {error}"),
        }
    }
    if let Some(error) = &report.recording_failed {
        println!("the recording failed: {error}");
    }
}

fn deadlines_json(counts: &[DeadlineCount]) -> Value {
    let of = |count: &DeadlineCount| {
        let DeadlineCount { of, budget_ns, observed, missed, worst_ns } = count;
        json!({ "of": of, "budget_ns": budget_ns, "observed": observed, "missed": missed, "worst_ns": worst_ns })
    };
    counts.iter().map(of).collect()
}

fn sensors_json(report: &LiveReport) -> Value {
    let of = |counts: &SensorCounts| {
        let losses = losses(counts).map(|(key, _, count)| (key, count));
        let all = losses.into_iter().chain([("sent", counts.sent)]);
        Value::from_iter(all.map(|(key, count)| (key.to_owned(), Value::from(count))))
    };
    report.sensors.iter().map(|(name, counts)| (name.clone(), of(counts))).collect()
}

fn recording_json(report: &LiveReport) -> Value {
    let manifest =
        |summary: &catseye::log::recorder::Summary| summary.manifest_file.as_ref().ok().map(|path| json!(path));
    report.recording.as_ref().and_then(manifest).unwrap_or(Value::Null)
}
