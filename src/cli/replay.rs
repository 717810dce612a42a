//! `catseye replay`: a recorded drive goes through the pipeline.
//!
//! Anything that is no log yet is imported beside the outputs first. Outputs go to `catseye-out/NAME/`; their paths are
//! printed last.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use catseye::diff::{Comparison, Verifier, stateful_stages, unrun_networks};
use catseye::gpu::TransferMode;
use catseye::header::{mismatches, run_header};
use catseye::log::RIG_ATTACHMENT;
use catseye::log::files::run_beside;
use catseye::log::import::{ImportKind, ImportReport};
use catseye::log::notes::Names;
use catseye::log::reader::LogReader;
use catseye::log::run::{RunHeader, RunWriter};
use catseye::messages::{Account, DropDecision};
use catseye::pipeline::{DigestLevel, Files, Pipeline, Settings};
use catseye::replay::{Options, Pace, Summary, replay};
use catseye::source::Preamble;
use catseye::stages::infer::{BackendChoice, EnginePrecision};
use catseye::stages::recorded::Recording;
use catseye::tap::{Output, Sink, Tap, TapError};
use catseye::view::collect::{Collected, Collector, CollectorSettings, summary_table};
use catseye::view::trace::TraceWriter;
use catseye_calibration::rig::{Model, Rig};
use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Outcome, STOP, check_output, problem};

/// Arguments of `replay`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye replay drive.mp4 --model yolox_nano.onnx\n  catseye replay drive.mcap --verify catseye-out/drive/run.mcap"
)]
pub struct Arguments {
    /// A log; a recording of several files, by its folder, its manifest or its first file; a video, a folder of pictures, a KITTI
    /// folder: whatever `import` knows.
    input: PathBuf,
    /// An ONNX model, and the cameras that it serves (all by default): FILE or FILE@CAM1,CAM2. May be repeated.
    #[arg(long = "model", value_name = "FILE[@CAMERAS]")]
    models: Vec<String>,
    /// How the model's outputs are read, where it cannot be recognised: yolox, yolov5, yolov8, fastestdet, picodet,
    /// rtdetr, twinlitenet, multitask.
    #[arg(long, requires = "models")]
    head: Option<String>,
    /// Class names, one a line, in place of the model's own.
    #[arg(long, requires = "models")]
    labels: Option<PathBuf>,
    /// Size of the network's input, where the model leaves it open.
    #[arg(long, value_name = "WxH", value_parser = parse_size, requires = "models")]
    input_size: Option<(u32, u32)>,
    /// Detections have scores above this, 0 to 1 [default: 0.3].
    #[arg(long, value_parser = parse_score, requires = "models")]
    score: Option<f64>,
    /// A rig instead of the log's own.
    #[arg(long)]
    rig: Option<PathBuf>,
    /// auto, tensorrt (on a GPU, with engines that `catseye engine build` made), ort (ONNX Runtime, when its library is found) or
    /// rten (built in).
    #[arg(long, default_value = "auto", value_parser = parse_backend)]
    backend: BackendChoice,
    /// Which TensorRT engine is taken: fp32, fp16 or int8 [default: the rig's, or fp16].
    #[arg(long, value_parser = parse_precision)]
    precision: Option<EnginePrecision>,
    /// How pictures reach a GPU, which changes no bits: mapped (read in the host's memory), copy, or auto (what is faster).
    #[arg(long, default_value = "auto", value_parser = parse_transfer)]
    transfer: TransferMode,
    /// Folder of the TensorRT engines [default: CATSEYE_ENGINE_DIR, or catseye/engines in the user's cache].
    #[arg(long, value_name = "DIR")]
    engine_dir: Option<PathBuf>,
    /// Threads of each engine session; part of what decides the network's bits.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Worker threads [default: one per processor].
    #[arg(long)]
    workers: Option<usize>,
    /// Copies of the stateless stages [default: as many as workers].
    #[arg(long)]
    lanes: Option<usize>,
    /// Processors to bind the workers to.
    #[arg(long, value_delimiter = ',')]
    pin: Vec<usize>,
    /// max, or how many times as fast as recorded (1 = real time; ticks that find no room are dropped, by record).
    #[arg(long, default_value = "max", value_parser = parse_pace)]
    speed: Pace,
    /// First and last tick, for logs that hold decisions: FIRST..LAST.
    #[arg(long, value_parser = parse_range)]
    range: Option<(u64, u64)>,
    /// A run whose decisions are obeyed.
    #[arg(long, value_name = "LOG")]
    decisions: Option<PathBuf>,
    /// Decide again, even if the log holds decisions.
    #[arg(long, conflicts_with_all = ["decisions", "verify"])]
    redecide: bool,
    /// Compare all digests with those of a run [default: the input itself, or the run that lies beside it].
    #[arg(long, value_name = "LOG")]
    verify: Option<Option<PathBuf>>,
    /// No network runs: what the cameras saw is taken from the log of a run [default: the run that is verified, or the input]. What
    /// stands behind the networks then gives the same bits on any machine.
    #[arg(long, value_name = "LOG", conflicts_with_all = ["models", "redecide"])]
    detections: Option<Option<PathBuf>>,
    /// Verify although engine, models or rig are others.
    #[arg(long, requires = "verify")]
    force: bool,
    /// Where the run is logged [default: OUTPUT_DIR/run.mcap, or OUTPUT_DIR/verify.mcap when recorded
    /// decisions are obeyed].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Do not log the run.
    #[arg(long, conflicts_with = "out")]
    no_out: bool,
    /// Copy the sensors' messages into the run's log, so that it stands alone.
    #[arg(long)]
    record: bool,
    /// What is digested: off, outputs or all.
    #[arg(long, default_value = "outputs", value_parser = parse_digests)]
    digests: DigestLevel,
    /// Ticks from one snapshot of all states to the next; 0 for none.
    #[arg(long, default_value_t = 100)]
    snapshot_every: u64,
    /// Write a video with overlays and a bird's-eye view.
    #[arg(long, value_name = "FILE")]
    video: Option<Option<PathBuf>>,
    /// Write every picture with overlays into a folder.
    #[arg(long, value_name = "DIR")]
    frames: Option<Option<PathBuf>>,
    /// Do not write the report.
    #[arg(long)]
    no_report: bool,
    /// Open the report.
    #[arg(long, conflicts_with = "no_report")]
    open: bool,
    /// Write a trace for Perfetto.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Where outputs go [default: catseye-out/NAME].
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Rate of pictures that have no stamps, Hz.
    #[arg(long)]
    rate: Option<f64>,
}

/// Reads `WIDTHxHEIGHT`.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let size = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    size.filter(|(w, h)| *w > 0 && *h > 0).ok_or_else(|| format!("expected WIDTHxHEIGHT as 1920x1080, found {text:?}"))
}

fn parse_score(text: &str) -> Result<f64, String> {
    let score = text.parse::<f64>().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| format!("expected a number from 0 to 1, found {text:?}"))
}

pub fn parse_backend(text: &str) -> Result<BackendChoice, String> {
    BackendChoice::from_name(text).ok_or_else(|| format!("expected auto, tensorrt, ort or rten, found {text:?}"))
}

pub fn parse_precision(text: &str) -> Result<EnginePrecision, String> {
    EnginePrecision::from_name(text).ok_or_else(|| format!("expected fp32, fp16 or int8, found {text:?}"))
}

fn parse_transfer(text: &str) -> Result<TransferMode, String> {
    TransferMode::from_name(text).ok_or_else(|| format!("expected auto, mapped or copy, found {text:?}"))
}

fn parse_pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let times = text.parse::<f64>().ok().filter(|times| times.is_finite() && *times > 0.0);
    times.map(Pace::Times).ok_or_else(|| format!("expected max or a number above 0, found {text:?}"))
}

pub fn parse_digests(text: &str) -> Result<DigestLevel, String> {
    DigestLevel::from_name(text).ok_or_else(|| format!("expected off, outputs or all, found {text:?}"))
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let range = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    range.filter(|(a, b)| a <= b).ok_or_else(|| format!("expected FIRST..LAST as 100..200, found {text:?}"))
}

/// What is replayed, and with which rig.
struct Input {
    log: PathBuf,
    name: String,
    rig: Rig,
    files: Files,
    assumptions: Vec<String>,
    is_simulated: bool,
    /// A run whose decisions are obeyed.
    decisions: Option<PathBuf>,
    /// The header of the run that is verified.
    recorded: BTreeMap<String, String>,
    /// The run that is verified.
    reference: Option<PathBuf>,
}

/// How long it took until there was a plan: what a car waits for after a start.
struct Startup {
    began: Instant,
    /// Log and rig are read.
    opened: Duration,
    /// Networks are loaded and the pipeline is made.
    built: Duration,
    /// Set by the tap, which sees the first tick a moment after its plan.
    planned: Arc<OnceLock<Instant>>,
}

impl Startup {
    fn now() -> Self {
        Startup { began: Instant::now(), opened: Duration::ZERO, built: Duration::ZERO, planned: Arc::default() }
    }

    /// From one step to the next, and in all, in seconds; none where there was no tick.
    fn steps_s(&self) -> Option<[f64; 4]> {
        let planned = self.planned.get()?.duration_since(self.began);
        let steps = [self.opened, self.built.saturating_sub(self.opened), planned.saturating_sub(self.built), planned];
        Some(steps.map(|step| step.as_secs_f64()))
    }
}

/// Notes when the first tick is through.
struct FirstPlan(Arc<OnceLock<Instant>>);

impl Sink for FirstPlan {
    fn take(&mut self, _: &Output) -> Result<(), TapError> {
        let _ = self.0.get_or_init(Instant::now);
        Ok(())
    }

    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        Ok(())
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let mut startup = Startup::now();
    let folder = output_folder(arguments);
    let mut input = open_input(arguments, &folder, context)?;
    startup.opened = startup.began.elapsed();
    let settings = settings(arguments, &input)?;
    let digests = settings.digests;
    let pipeline = Pipeline::build(&input.rig, &input.files, settings).map_err(|error| {
        problem(
            error,
            "`catseye rig check FILE` checks a rig; `--backend rten` needs no library; `--head` names a head",
        )
    })?;
    startup.built = startup.began.elapsed();
    input.assumptions.extend(pipeline.assumptions.iter().cloned());
    let header = run_header(&input.rig, &input.files, &pipeline, digests);
    check_header(arguments, &input, &header)?;
    let names = Names::of(&pipeline, &input.rig);
    if context.speaks() {
        say_models(&pipeline);
    }

    let outputs = Outputs::of(arguments, &folder, &input)?;
    let imported = (input.log != arguments.input).then_some(&input.log);
    let paths: Vec<PathBuf> = imported.into_iter().chain(outputs.paths()).cloned().collect();
    check_running("stopped before the first tick, so nothing was replayed")?;
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(FirstPlan(Arc::clone(&startup.planned)))];
    let explain = |error: TapError| problem(error, "");
    if let Some(path) = &outputs.run {
        let mut rig = input.rig.clone();
        rig.directory = PathBuf::new();
        let run = RunHeader { entries: header.clone(), rig_toml: rig.to_toml(), files: input.files.clone() };
        let sensors = arguments.record.then_some(input.log.as_path());
        sinks.push(Box::new(RunWriter::create(path, &run, names.clone(), sensors).map_err(explain)?));
    }
    let comparison = match &input.reference {
        None => None,
        Some(reference) => {
            let left_out = left_out(arguments, reference, &names)?;
            let to_the_end = arguments.range.is_none();
            let (verifier, result) =
                Verifier::open(reference, names.clone(), left_out, to_the_end).map_err(|error| problem(error, ""))?;
            sinks.push(Box::new(verifier));
            Some(result)
        }
    };
    let collector = CollectorSettings {
        names: names.clone(),
        rig: input.rig.clone(),
        folder: folder.clone(),
        pictures: 6,
        video: outputs.video.clone(),
        frames_folder: outputs.frames.clone(),
        title: if input.is_simulated { format!("{} (simulated)", input.name) } else { input.name.clone() },
        is_simulated: input.is_simulated,
        header: header.clone(),
        assumptions: input.assumptions.clone(),
        report: outputs.report.clone(),
    };
    let (collector, collected) = Collector::new(collector).map_err(explain)?;
    let pictures_every = collector.pictures_every();
    sinks.push(Box::new(collector));
    if let Some(path) = &outputs.trace {
        sinks.push(Box::new(TraceWriter::create(path, names.clone()).map_err(explain)?));
    }
    let tap = Tap::start(sinks, pictures_every).map_err(explain)?;

    let options = Options {
        pace: arguments.speed,
        workers: workers(arguments),
        pin: arguments.pin.clone(),
        decisions: input.decisions.clone(),
        range: arguments.range,
        ..Options::default()
    };
    let bar = Progress::new(context, "replay");
    let summary = replay(&input.log, &input.rig, pipeline, &options, tap, &STOP, &mut |done, all, ticks| {
        bar.set(done, all, || format!("{ticks} ticks"));
    });
    bar.done();
    let summary = summary.map_err(|error| problem(error, "`catseye info` shows what a log holds"))?;
    let collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    let comparison = comparison.map(|result| result.lock().unwrap_or_else(PoisonError::into_inner).clone());
    say(&input, &summary, &collected, comparison.as_ref(), &paths, startup.steps_s(), context);
    if arguments.open {
        open(outputs.report.as_deref());
    }
    if let Some(cause) = &summary.device_lost {
        let help = "outputs are valid up to there; with `on_fault = \"cpu\"` under [gpu] in the rig the run goes on on the CPU";
        return Err(problem(format!("the run ended after {} ticks: {cause}", summary.ticks), help));
    }
    Ok(match comparison {
        Some(comparison) if !comparison.is_equal() => Outcome::Different,
        _ => Outcome::Good,
    })
}

fn output_folder(arguments: &Arguments) -> PathBuf {
    let name = arguments.input.canonicalize().unwrap_or_else(|_| arguments.input.clone());
    let name = name.file_stem().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    let name = name.strip_suffix(".manifest").unwrap_or(&name);
    arguments.output_dir.clone().unwrap_or_else(|| Path::new("catseye-out").join(name))
}

/// Where the run is logged unless that is said: never over the run whose decisions it obeys.
fn default_out(folder: &Path, input: &Input) -> PathBuf {
    folder.join(if input.decisions.is_some() { "verify.mcap" } else { "run.mcap" })
}

/// Where outputs go; none for those that are not wanted.
struct Outputs {
    run: Option<PathBuf>,
    report: Option<PathBuf>,
    video: Option<PathBuf>,
    frames: Option<PathBuf>,
    trace: Option<PathBuf>,
}

impl Outputs {
    /// Refuses those in the place of something that the run is made from.
    fn of(arguments: &Arguments, folder: &Path, input: &Input) -> miette::Result<Self> {
        let run = || arguments.out.clone().unwrap_or_else(|| default_out(folder, input));
        let outputs = Outputs {
            run: (!arguments.no_out).then(run),
            report: (!arguments.no_report).then(|| folder.join("report.html")),
            video: named(&arguments.video, folder, "overlay.avi"),
            frames: named(&arguments.frames, folder, "frames"),
            trace: arguments.trace.clone(),
        };
        // the report's pictures
        let pictures = outputs.report.is_some().then(|| folder.join("pictures"));
        let help = "name another place, with --out or --output-dir for one";
        for path in outputs.paths().chain(&pictures) {
            check_output(path, sources(arguments, input), help)?;
        }
        Ok(outputs)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.run, &self.report, &self.video, &self.frames, &self.trace].into_iter().flatten()
    }
}

/// What the run is made from.
fn sources<'a>(arguments: &'a Arguments, input: &'a Input) -> impl Iterator<Item = &'a Path> {
    let given = [&arguments.rig, &arguments.labels, &input.decisions, &input.reference];
    let models = input.rig.models.iter().filter_map(|model| model.path.as_ref());
    let all = [&arguments.input, &input.log].into_iter().chain(given.into_iter().flatten()).chain(models);
    all.map(PathBuf::as_path)
}

/// An error once somebody has stopped the command: going on would put empty outputs in the place of good ones.
fn check_running(words: &str) -> miette::Result<()> {
    if STOP.load(Ordering::Relaxed) { Err(problem(words, "")) } else { Ok(()) }
}

fn named(wanted: &Option<Option<PathBuf>>, folder: &Path, default: &str) -> Option<PathBuf> {
    Some(wanted.as_ref()?.clone().unwrap_or_else(|| folder.join(default)))
}

fn workers(arguments: &Arguments) -> usize {
    arguments.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 256)
}

/// Finds the log, its rig, and the decisions to obey.
fn open_input(arguments: &Arguments, folder: &Path, context: Context) -> miette::Result<Input> {
    let explain = |error: catseye::source::PreambleError| problem(error, "`catseye info` shows what a log holds");
    if !arguments.input.exists() {
        return Err(problem(format!("{}: no such file or folder", arguments.input.display()), ""));
    }
    let mut assumptions = Vec::new();
    let mut log = arguments.input.clone();
    let is_log = match LogReader::open(&arguments.input) {
        Ok(_) => true,
        Err(error) if error.is_of_recording() => {
            return Err(problem(error, "`catseye check` tells all that is missing of a recording"));
        }
        Err(_) => false,
    };
    let mut preamble = if is_log { Preamble::read(&log).map_err(explain)? } else { Preamble::default() };
    if preamble.rig.is_none() {
        log = folder.join("drive.mcap");
        assumptions = import_input(arguments, &log, context)?.assumptions;
        preamble = Preamble::read(&log).map_err(explain)?;
    }
    let beside = if is_log { run_beside(&arguments.input).ok().flatten() } else { None };
    let own_run = || beside.clone().unwrap_or_else(|| log.clone());
    let reference = arguments.verify.as_ref().map(|path| path.clone().unwrap_or_else(own_run));
    let holds_a_run = !preamble.run.is_empty() || beside.is_some();
    let decisions = arguments
        .decisions
        .clone()
        .or_else(|| reference.clone())
        .or_else(|| (holds_a_run && !arguments.redecide).then(own_run));
    let mut recorded = BTreeMap::new();
    if let Some(reference) = &reference {
        let of_reference = Preamble::read(reference).map_err(explain)?;
        if of_reference.run.is_empty() {
            let help = "record one first: `catseye replay LOG` writes it to catseye-out/NAME/run.mcap";
            return Err(problem(
                format!("{}: expected the log of a run, found no run header", reference.display()),
                help,
            ));
        }
        recorded = of_reference.run;
        // the models of the recorded run, unless others are named
        preamble.rig = of_reference.rig.or(preamble.rig);
        preamble.files.extend(of_reference.files);
    }
    let mut rig = match &arguments.rig {
        Some(path) => {
            let rig = Rig::load(path).map_err(|error| problem(error, "`catseye rig check` lists every problem"))?;
            take_along(rig, &mut preamble.files)?
        }
        None => preamble.rig.unwrap_or_else(|| Rig::default_camera(1920, 1080)),
    };
    if !arguments.models.is_empty() {
        rig.models = models(arguments, &rig)?;
        // the run's log gets this rig, and must be read again
        Rig::parse(&rig.to_toml(), RIG_ATTACHMENT).map_err(|error| problem(error, "look at --model and --score"))?;
    }
    let name = folder.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    let is_simulated = preamble.source.get("kind").is_some_and(|kind| kind == "sim");
    Ok(Input { log, name, rig, files: preamble.files, assumptions, is_simulated, decisions, recorded, reference })
}

/// Makes the log of an input that is none. It takes its name when it is whole: the short log of an import that was
/// stopped would be replayed as if the drive ended there.
fn import_input(arguments: &Arguments, log: &Path, context: Context) -> miette::Result<ImportReport> {
    let input = arguments.input.as_path();
    let kind = ImportKind::recognise(input)
        .map_err(|error| problem(error, "`catseye import --help` lists what can be brought in"))?;
    let help = "name another folder with --output-dir";
    let verified = arguments.verify.iter().flatten();
    let given = arguments.rig.iter().chain(&arguments.decisions).chain(verified).map(PathBuf::as_path);
    check_output(log, given.chain([input]), help)?;
    super::import::check_folder(kind, input, log, help)?;
    let new = log.with_file_name("drive.mcap.new");
    let report = super::import::import_to(kind, input, &new, arguments.rate, arguments.rig.clone(), context)?;
    let running = check_running("the import was stopped, so nothing was replayed");
    if report.stopped || running.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    running?;
    std::fs::rename(&new, log).map_err(|error| problem(format!("{}: {error}", log.display()), ""))?;
    if context.speaks() {
        super::import::print_report(&report);
    }
    Ok(report)
}

/// Reads what a rig file names beside itself, so that the run's log stands alone: DBC and lidars' files under the rig's names, models
/// and labels under whole paths. The log's own file stays where there is none on disk.
pub fn take_along(mut rig: Rig, files: &mut Files) -> miette::Result<Rig> {
    for path in rig.cans.iter().flat_map(|can| &can.dbc) {
        take_file(path, &rig.resolve(path), files)?;
    }
    for path in rig.lidars.iter().filter_map(|lidar| lidar.calibration.as_ref()) {
        take_file(path, &rig.resolve(path), files)?;
    }
    let directory = std::mem::take(&mut rig.directory);
    let whole = |path: &mut Option<PathBuf>| -> miette::Result<()> {
        if let Some(path) = path {
            let joined = std::path::absolute(directory.join(&*path));
            *path = joined.map_err(|error| problem(format!("{}: {error}", path.display()), ""))?;
        }
        Ok(())
    };
    for model in &mut rig.models {
        whole(&mut model.path)?;
        whole(&mut model.labels)?;
        if let Some(labels) = &model.labels {
            take_file(labels, labels, files)?;
        }
    }
    Ok(rig)
}

fn take_file(name: &Path, place: &Path, files: &mut Files) -> miette::Result<()> {
    match std::fs::read(place) {
        Ok(bytes) => {
            files.insert(name.to_owned(), bytes);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound && files.contains_key(name) => Ok(()),
        Err(error) => Err(problem(format!("{}: {error}", place.display()), "")),
    }
}

/// The models of the command line.
fn models(arguments: &Arguments, rig: &Rig) -> miette::Result<Vec<Model>> {
    let mut models: Vec<Model> = Vec::new();
    for text in &arguments.models {
        let mut model = model(arguments, rig, text)?;
        model.name = free_name(&model.name, &models);
        models.push(model);
    }
    Ok(models)
}

/// A name that a rig may hold, from that of a file: with `_` for letters that names have not, and numbered where it is
/// taken.
fn free_name(stem: &str, taken: &[Model]) -> String {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let stem = if stem.is_empty() { "model" } else { stem };
    let name: String = stem.chars().map(|letter| if is_allowed(letter) { letter } else { '_' }).collect();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    names.find(|name| taken.iter().all(|model| model.name != *name)).unwrap_or_default()
}

/// A model of the command line as the rig would name it.
fn model(arguments: &Arguments, rig: &Rig, text: &str) -> miette::Result<Model> {
    let (file, cameras) = match text.rsplit_once('@') {
        Some((file, cameras)) if !Path::new(text).exists() => (file, cameras.split(',').map(str::to_owned).collect()),
        _ => (text, rig.cameras.iter().map(|camera| camera.name.clone()).collect::<Vec<_>>()),
    };
    if let Some(unknown) = cameras.iter().find(|name| rig.camera(name).is_none()) {
        let known: Vec<_> = rig.cameras.iter().map(|camera| camera.name.as_str()).collect();
        return Err(problem(
            format!("expected a camera of the rig, found {unknown:?}"),
            &format!("cameras: {}", known.join(", ")),
        ));
    }
    if cameras.is_empty() {
        return Err(problem(format!("{file}: expected a camera for the model, found none in the rig"), ""));
    }
    let path = std::path::absolute(file).map_err(|error| problem(format!("{file}: {error}"), ""))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let labels = arguments.labels.as_ref().map(std::path::absolute).transpose();
    Ok(Model {
        head: arguments.head.clone(),
        labels: labels.map_err(|error| problem(error, ""))?,
        input_width_px: arguments.input_size.map(|size| size.0),
        input_height_px: arguments.input_size.map(|size| size.1),
        score_threshold: arguments.score.unwrap_or(Model::SCORE_THRESHOLD),
        ..Model::new(name, Some(path), cameras)
    })
}

/// What the networks of a run saw, where that is to be taken instead of running them.
fn recording(arguments: &Arguments, input: &Input) -> miette::Result<Option<Arc<Recording>>> {
    let Some(wanted) = &arguments.detections else { return Ok(None) };
    let file = wanted.as_ref().or(input.reference.as_ref()).unwrap_or(&input.log);
    let recording = Recording::read(file).map_err(|error| {
        problem(error, "`catseye replay LOG --model FILE` writes such a run to catseye-out/NAME/run.mcap")
    })?;
    Ok(Some(Arc::new(recording)))
}

fn settings(arguments: &Arguments, input: &Input) -> miette::Result<Settings> {
    let recorded = |what: &str| {
        let of_models = input.recorded.iter().filter(|(key, _)| key.starts_with("model.") && key.ends_with(what));
        of_models.map(|(_, value)| value.as_str()).next()
    };
    // a verified replay uses what the recorded run used
    let backend = match (arguments.backend, recorded(".backend")) {
        (BackendChoice::Auto, Some("rten")) => BackendChoice::Rten,
        (BackendChoice::Auto, Some("tensorrt")) => BackendChoice::TensorRt,
        (BackendChoice::Auto, Some(_)) => BackendChoice::Ort,
        (choice, _) => choice,
    };
    let threads = match recorded(".backend_threads").and_then(|threads| threads.parse().ok()) {
        Some(threads) if arguments.threads == 1 => threads,
        _ => arguments.threads,
    };
    let digests = match input.recorded.get("digests").map(String::as_str) {
        None => arguments.digests,
        Some("all") => DigestLevel::All,
        Some("outputs") => DigestLevel::Outputs,
        Some(_) => return Err(problem("the run to verify against was recorded without digests", "")),
    };
    let of_plan = |(key, plan): (&String, &String)| {
        let name = key.strip_prefix("model.")?.strip_suffix(".plan_sha256")?;
        Some((name.to_owned(), plan.clone()))
    };
    let plans = if arguments.force { Default::default() } else { input.recorded.iter().filter_map(of_plan).collect() };
    Ok(Settings {
        backend,
        precision: arguments.precision,
        transfer: arguments.transfer,
        plans,
        engine_dir: arguments.engine_dir.clone(),
        masks: !arguments.no_report || arguments.video.is_some() || arguments.frames.is_some(),
        threads: threads.clamp(1, 256),
        lanes: arguments.lanes.unwrap_or_else(|| workers(arguments)).clamp(1, 64),
        digests,
        recording: recording(arguments, input)?,
        snapshot_every: arguments.snapshot_every,
        ..Settings::default()
    })
}

/// A verified replay must use what decided the recorded bits.
fn check_header(arguments: &Arguments, input: &Input, header: &BTreeMap<String, String>) -> miette::Result<()> {
    if input.recorded.is_empty() || arguments.force {
        return Ok(());
    }
    let wrong = mismatches(&input.recorded, header);
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.iter().map(|mismatch| format!("  {mismatch}")).collect();
    let help = "give the recorded model, rig and engine, or --force to compare all the same";
    Err(problem(format!("this run cannot have the recorded bits:\n{}", lines.join("\n")), help))
}

/// Stages that cannot be compared: networks that do not run, and states that a range without a snapshot does not know.
fn left_out(arguments: &Arguments, reference: &Path, names: &Names) -> miette::Result<BTreeMap<String, String>> {
    let mut left_out = if arguments.detections.is_some() { unrun_networks() } else { BTreeMap::new() };
    let Some((first, _)) = arguments.range.filter(|range| range.0 > 0) else { return Ok(left_out) };
    if !catseye::replay::has_snapshot_before(reference, first).map_err(|error| problem(error, ""))? {
        left_out.extend(stateful_stages(names));
    }
    Ok(left_out)
}

pub fn say_models(pipeline: &Pipeline) {
    for model in &pipeline.models {
        let (network, engine) = (&model.network, &model.backend);
        let size = format!("{}x{}", network.layout.width, network.layout.height);
        let head = network.head.name();
        println!("{}: {head} {size}, {} {} ({})", network.name, engine.name, engine.version, engine.reason);
    }
}

fn say(
    input: &Input,
    summary: &Summary,
    collected: &Collected,
    comparison: Option<&Comparison>,
    paths: &[PathBuf],
    startup_s: Option<[f64; 4]>,
    context: Context,
) {
    let wall_s = summary.wall.as_secs_f64();
    let missing = summary.source.as_ref().and_then(|source| source.ending.missing());
    let undecodable: BTreeMap<_, _> = summary.source.iter().flat_map(|source| &source.undecodable).collect();
    if context.speaks() {
        input.assumptions.iter().for_each(|assumption| println!("assumed: {assumption}"));
        if let Some(missing) = &missing {
            println!("incomplete: {missing}");
        }
        for (sensor, (count, error)) in &undecodable {
            println!("sensor {sensor}: {count} pictures could not be decoded: {error}");
        }
        if let Some(tick) = summary.restored_after {
            println!("states restored from the snapshot after tick {tick}");
        }
        if let Some(tick) = summary.cut_before {
            println!("tick {tick} and what follows could not be replayed: a file is cut off before their packets");
        }
        if let Some(tick) = summary.tap.not_replayable_from {
            println!("not replayable from tick {tick}: the log could not keep up");
        }
        print!("{}", summary_table(summary, collected));
        if let Some([opened, built, first, all]) = startup_s {
            println!(
                "first plan after {all:.2} s: log and rig {opened:.2}, networks {built:.2}, first tick {first:.2}"
            );
        }
        if let Some(comparison) = comparison {
            super::diff::print(comparison);
        }
        if summary.stopped {
            println!("stopped early: what was written is valid up to here");
        }
        paths.iter().for_each(|path| println!("{}", path.display()));
    }
    context.print_json(&json!({
        "ticks": summary.ticks,
        "wall_s": wall_s,
        "ticks_per_s": if wall_s > 0.0 { summary.ticks as f64 / wall_s } else { 0.0 },
        "startup_s": startup_s.map(|[opened, built, first, all]| json!({
            "log_and_rig": opened, "networks": built, "first_tick": first, "all": all,
        })),
        "drive_s": summary.drive_s,
        "drops": summary.drops,
        "accounts": summary.accounts.iter().map(|a| json!({
            "sensor": a.name, "produced": a.produced, "consumed": a.consumed, "dropped": a.dropped, "pending": a.pending,
        })).collect::<Vec<_>>(),
        "bodies_left_out": summary.tap.bodies_left_out,
        "not_replayable_from": summary.tap.not_replayable_from,
        "restored_after": summary.restored_after,
        "cut_before": summary.cut_before,
        "stopped": summary.stopped,
        "missing": missing,
        "undecodable": undecodable.iter().map(|(sensor, (count, _))| (sensor.to_string(), *count)).collect::<BTreeMap<_, _>>(),
        "assumptions": input.assumptions,
        "results": collected,
        "comparison": comparison,
        "files": paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    }));
}

/// Opens a page with whatever the desktop opens pages with.
fn open(path: Option<&Path>) {
    let Some(path) = path else { return };
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if std::process::Command::new(opener).arg(path).spawn().is_err() {
        eprintln!("no {opener} here: open {} yourself", path.display());
    }
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::Can;

    use super::*;

    fn named_model(name: String) -> Model {
        Model::new(name, Some(PathBuf::from("/models/any.onnx")), vec!["front".to_owned()])
    }

    #[test]
    fn models_have_names_that_a_rig_reads_again() {
        let mut rig = Rig::default_camera(64, 48);
        for stem in ["yolov8n.fp16", "best (1)", "best", "best", "best", "größe", ""] {
            let name = free_name(stem, &rig.models);
            rig.models.push(named_model(name));
        }
        let names: Vec<&str> = rig.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["yolov8n_fp16", "best__1_", "best", "best-2", "best-3", "gr__e", "model"]);
        assert_eq!(Rig::parse(&rig.to_toml(), RIG_ATTACHMENT), Ok(rig));
    }

    #[test]
    fn a_file_of_the_log_stays_where_there_is_none_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::default_camera(64, 48);
        rig.directory = folder.path().to_owned();
        rig.cans.push(Can {
            name: "can".to_owned(),
            topic: "/can".to_owned(),
            dbc: vec![PathBuf::from("here.dbc"), PathBuf::from("gone.dbc")],
            bitrate: None,
            signals: BTreeMap::new(),
        });
        std::fs::write(folder.path().join("here.dbc"), "new").unwrap();
        let mut files = Files::from(["here.dbc", "gone.dbc"].map(|name| (PathBuf::from(name), b"old".to_vec())));
        take_along(rig.clone(), &mut files).unwrap();
        assert_eq!(files[Path::new("here.dbc")], b"new");
        assert_eq!(files[Path::new("gone.dbc")], b"old");
        files.remove(Path::new("gone.dbc"));
        assert!(take_along(rig, &mut files).is_err());
    }
}
