//! `catseye engine`: TensorRT engines, built ahead of the drive and held against what they once gave.

use std::path::PathBuf;

use catseye::stages::decode::Head;
use clap::{Args, Subcommand, ValueEnum};

/// Arguments of `engine`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye engine build yolox_nano.onnx\n  catseye engine build *.onnx --precision fp32 --batch 12\n  \
                  catseye engine check"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build engines for this machine's GPU. Takes minutes for each, once.
    Build(Build),
    /// List the engines that were built.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Say all that is known about an engine.
    Info {
        /// The engine's .plan or .json file.
        engine: PathBuf,
    },
    /// Run engines on a fixed input and hold them against what they gave when they were built.
    Check {
        /// Their .plan or .json files; without, all engines of this machine.
        engines: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

/// Where engines are kept.
#[derive(Args)]
struct Place {
    /// Folder of the engines [default: CATSEYE_ENGINE_DIR, or catseye/engines in the user's cache]
    #[arg(long, value_name = "DIR")]
    engine_dir: Option<PathBuf>,
}

/// Arguments of `engine build`.
#[derive(Args)]
struct Build {
    /// ONNX models.
    #[arg(required = true, value_name = "MODEL.onnx")]
    models: Vec<PathBuf>,
    /// The smallest type that layers may compute in. int8 takes models with Q and DQ nodes, or pictures to
    /// calibrate with, or the table that those gave.
    #[arg(long, value_enum, default_value = "fp16")]
    precision: PrecisionName,
    /// Let matrix products round their operands to 10 bits.
    #[arg(long)]
    tf32: bool,
    /// Pictures per run, one for each camera [default: the model's own, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Option<u32>,
    /// Size of the pictures, as 640x384, for models that leave it open.
    #[arg(long, value_name = "WxH", value_parser = super::replay::parse_size)]
    input_size: Option<(u32, u32)>,
    /// Effort, from 0 (a fast build) to 5 (a fast engine); from TensorRT 8.6 on.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=5))]
    level: Option<u8>,
    /// Limit of the scratch memory of one layer.
    #[arg(long, value_name = "MIB")]
    workspace_mib: Option<u32>,
    /// A log whose pictures give the ranges of 8-bit tensors; up to TensorRT 10.
    #[arg(long, value_name = "LOG")]
    calibrate: Option<PathBuf>,
    /// How many of them, evenly spread over the log.
    #[arg(long, value_name = "N", default_value_t = 256, requires = "calibrate", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_pictures: u32,
    /// How ranges follow from them [default: min-max, and entropy for a DLA, which takes no other]
    #[arg(long, value_enum, value_name = "HOW", requires = "calibrate")]
    calibration_ranges: Option<RangesName>,
    /// How the model's input is made for that, where it cannot be recognised: a head's name, as for `replay`.
    #[arg(long, requires = "calibrate", value_parser = parse_head)]
    head: Option<Head>,
    /// In place of a log, the table of an earlier calibration, as it lies beside its engine: for another batch, device or level.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calibrate", "calibration_pictures", "calibration_ranges", "head"])]
    calibration_table: Option<PathBuf>,
    /// Build for a deep learning accelerator, with the GPU for what it cannot run.
    #[arg(long, value_name = "CORE")]
    dla: Option<u8>,
    #[command(flatten)]
    place: Place,
}

fn parse_head(name: &str) -> Result<Head, String> {
    Head::from_name(name).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    Fp32,
    Fp16,
    Int8,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RangesName {
    /// All that was seen of a tensor.
    MinMax,
    /// What keeps most of its information: rare large values are cut off.
    Entropy,
}

/// Runs the subcommand.
#[cfg(not(feature = "tensorrt"))]
pub fn run(_: &Arguments, _: super::Context) -> miette::Result<super::Outcome> {
    Err(super::problem(
        "this catseye was built without TensorRT",
        "build it with `--features tensorrt`; CATSEYE_TENSORRT_INCLUDE names the folder of NvInfer.h where it is not found",
    ))
}

#[cfg(feature = "tensorrt")]
pub use with_tensorrt::run;

#[cfg(feature = "tensorrt")]
mod with_tensorrt {
    use std::ops::ControlFlow;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use catseye::gpu::engine::golden::check;
    use catseye::gpu::engine::make::make;
    use catseye::gpu::engine::record::Capture;
    use catseye::gpu::engine::{CalibrationLog, CalibrationSource, Made, Request, Store, Stored, Verdict};
    use catseye::gpu::tensorrt::{
        BuildOptions, Element, Library, Listener, Phase, Precision, Ranges, Severity, TensorInfo, TensorRtError,
    };
    use catseye::stages::infer::Model;
    use indicatif::{ProgressBar, ProgressStyle};
    use serde_json::json;

    use super::super::{Context, Outcome, STOP, problem};
    use super::{Arguments, Build, Command, PrecisionName, RangesName};

    /// Runs the subcommand.
    pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
        match &arguments.command {
            Command::Build(arguments) => build(arguments, context),
            Command::List { place } => list(place.engine_dir.as_deref(), context),
            Command::Info { engine } => info(engine, context),
            Command::Check { engines, place } => check_all(engines, place.engine_dir.as_deref(), context),
        }
    }

    fn build(arguments: &Build, context: Context) -> miette::Result<Outcome> {
        load_kernels_lazily();
        let store = Store::open(arguments.place.engine_dir.as_deref()).map_err(|error| problem(error, ""))?;
        let request = request_of(arguments)?;
        let told = Arc::new(Told::default());
        let library = library(Some(told.listener()))?;
        if context.speaks() {
            let device = library.context().name();
            println!("TensorRT {} on {device}, engines in {}", library.version(), store.folder().display());
        }
        let mut all = Vec::new();
        for path in &arguments.models {
            let model = Model::load(path).map_err(|error| problem(error, ""))?;
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            let ticker = Ticker::start(&told, &name, context);
            let mut progress = |phase: Phase<'_>| {
                told.set(&format!("{} {}/{}", phase.name, phase.step, phase.steps));
                if STOP.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let made = make(&library, &store, &model, &request, &mut progress);
            drop(ticker);
            let made =
                made.map_err(|error| problem(error, "the messages of TensorRT say more: CATSEYE_TENSORRT_LOG=1"))?;
            all.push(json!({ "is_new": made.is_new, "plan": made.stored.plan_path(), "record": made.stored.record }));
            if context.speaks() {
                tell_made(&made);
            }
        }
        context.print_json(&json!({ "engines": all }));
        Ok(Outcome::Good)
    }

    /// Lets the driver load kernels when they are first used, as drivers since CUDA 12.2 do by themselves. TensorRT holds tens of
    /// thousands, and without this a build waits minutes for those that it never runs. The driver reads its environment when it
    /// is opened, so the command starts itself anew with it.
    fn load_kernels_lazily() {
        const VARIABLE: &str = "CUDA_MODULE_LOADING";
        if std::env::var_os(VARIABLE).is_some() {
            return;
        }
        let Ok(program) = std::env::current_exe() else { return };
        let mut command = std::process::Command::new(program);
        // it returns only where it fails, and then the build is slow
        let _ =
            std::os::unix::process::CommandExt::exec(command.args(std::env::args_os().skip(1)).env(VARIABLE, "LAZY"));
    }

    fn request_of(arguments: &Build) -> miette::Result<Request> {
        let precision = match arguments.precision {
            PrecisionName::Fp32 => Precision::Fp32,
            PrecisionName::Fp16 => Precision::Fp16,
            PrecisionName::Int8 => Precision::Int8,
        };
        let options = BuildOptions {
            precision,
            tf32: arguments.tf32,
            level: arguments.level,
            workspace_bytes: arguments.workspace_mib.map(|mib| u64::from(mib) << 20),
            dla_core: arguments.dla,
        };
        let is_calibrated = arguments.calibrate.is_some() || arguments.calibration_table.is_some();
        if is_calibrated && !matches!(arguments.precision, PrecisionName::Int8) {
            return Err(problem("calibration is for 8 bits", "add `--precision int8`"));
        }
        if arguments.calibration_table.is_some() && arguments.models.len() > 1 {
            let found = arguments.models.len();
            return Err(problem(
                format!("--calibration-table: expected the one model that it is of, found {found}"),
                "",
            ));
        }
        let ranges = match (arguments.calibration_ranges, arguments.dla) {
            (Some(RangesName::MinMax), Some(_)) => {
                return Err(problem("--calibration-ranges min-max: a DLA takes ranges by entropy alone", ""));
            }
            (Some(RangesName::Entropy), _) | (None, Some(_)) => Ranges::Entropy,
            (Some(RangesName::MinMax) | None, None) => Ranges::MinMax,
        };
        let pictures =
            |path| CalibrationLog { path, pictures: arguments.calibration_pictures, head: arguments.head, ranges };
        let calibration = match (arguments.calibrate.clone(), arguments.calibration_table.clone()) {
            (Some(log), _) => Some(CalibrationSource::Log(pictures(log))),
            (None, table) => table.map(CalibrationSource::Table),
        };
        Ok(Request { options, batch: arguments.batch, input_size: arguments.input_size, calibration })
    }

    fn tell_made(made: &Made) {
        let record = &made.stored.record;
        let how = if made.is_new { format!("built in {:.1} s", record.build_seconds) } else { "is there".to_owned() };
        println!("{}: {how}", made.stored.plan_path().display());
        tell(&made.stored);
    }

    fn tell(stored: &Stored) {
        let record = &stored.record;
        for (what, tensors) in [("in", &record.inputs), ("out", &record.outputs)] {
            for TensorInfo { name, element, .. } in tensors {
                let shape = tensors.iter().find(|tensor| tensor.name == *name).map(TensorInfo::shape_text);
                println!("  {what:3} {name} {} {}", shape.unwrap_or_default(), element_text(*element));
            }
        }
        println!("  layers {}", record.layers.text());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!("  plan {:.1} MiB, scratch {:.1} MiB", mib(record.plan_bytes), mib(record.workspace_bytes));
        match &record.capture {
            Capture::Possible { nodes, run_ms } => println!("  {run_ms:.3} ms a run, as a graph of {nodes} nodes"),
            Capture::Impossible { cause } => println!("  cannot be captured into a graph: {cause}"),
        }
    }

    fn element_text(element: Element) -> String {
        json!(element).as_str().unwrap_or_default().to_owned()
    }

    fn list(folder: Option<&Path>, context: Context) -> miette::Result<Outcome> {
        let store = Store::open(folder).map_err(|error| problem(error, ""))?;
        let found = store.list().map_err(|error| problem(error, ""))?;
        let (mut engines, mut outcome) = (Vec::new(), Outcome::Good);
        for one in found {
            match one {
                Ok(stored) => {
                    if context.speaks() {
                        let key = &stored.record.key;
                        let batch = key.batch.map_or("-".to_owned(), |batch| batch.to_string());
                        let precision = json!(key.precision);
                        println!(
                            "{}: {} batch {batch}, {} ({}), TensorRT {}",
                            stored.plan_path().display(),
                            precision.as_str().unwrap_or_default(),
                            key.device,
                            key.capability,
                            key.tensorrt
                        );
                    }
                    engines.push(json!({ "plan": stored.plan_path(), "record": stored.record }));
                }
                Err(error) => {
                    outcome = Outcome::Wrong;
                    if !context.json {
                        eprintln!("{error}");
                    }
                    engines.push(json!({ "error": error.to_string() }));
                }
            }
        }
        if engines.is_empty() && context.speaks() {
            println!("no engines in {}", store.folder().display());
        }
        context.print_json(&json!({ "folder": store.folder(), "engines": engines }));
        Ok(outcome)
    }

    fn info(path: &Path, context: Context) -> miette::Result<Outcome> {
        let stored = Stored::read(path).map_err(|error| problem(error, "`catseye engine list` names what there is"))?;
        // what the record says is worth as much as the plan beside it
        let damage = stored.plan().err();
        if context.speaks() {
            let key = &stored.record.key;
            println!("{}", stored.plan_path().display());
            println!("  model {} {}", key.model, key.model_sha256);
            println!("  for {} ({}), TensorRT {}", key.device, key.capability, key.tensorrt);
            tell(&stored);
            println!("  built in {:.1} s", stored.record.build_seconds);
        }
        context.print_json(&json!({
            "plan": stored.plan_path(),
            "record": stored.record,
            "error": damage.as_ref().map(ToString::to_string),
        }));
        let Some(damage) = damage else { return Ok(Outcome::Good) };
        if !context.json {
            eprintln!("{damage}");
        }
        Ok(Outcome::Wrong)
    }

    fn check_all(paths: &[PathBuf], folder: Option<&Path>, context: Context) -> miette::Result<Outcome> {
        let library = library(None)?;
        let device = library.context().info();
        let version = library.version().to_string();
        let engines = if paths.is_empty() {
            let store = Store::open(folder).map_err(|error| problem(error, ""))?;
            let all = store.list().map_err(|error| problem(error, ""))?;
            let is_of_here = |stored: &Stored| stored.check_place(&device.name, device.capability, &version).is_ok();
            all.into_iter().filter(|one| one.as_ref().map_or(true, is_of_here)).collect::<Vec<_>>()
        } else {
            paths.iter().map(|path| Stored::read(path)).collect()
        };
        let (mut results, mut outcome) = (Vec::new(), Outcome::Good);
        for stored in engines {
            let plan = stored.as_ref().map(|stored| stored.plan_path().display().to_string()).unwrap_or_default();
            let verdict = stored.map_err(Into::into).and_then(|stored| check(&library, &stored));
            let words = match &verdict {
                Ok(Verdict::Equal) => "the same bits as when it was built".to_owned(),
                Ok(Verdict::Near { difference, bound }) => {
                    outcome = worst(outcome, Outcome::Different);
                    format!("other bits than when it was built, apart by {difference:.2e} (bound {bound:.0e})")
                }
                Ok(Verdict::Different { output, difference, bound }) => {
                    outcome = Outcome::Wrong;
                    let apart =
                        difference.map_or("by no number".to_owned(), |difference| format!("by {difference:.2e}"));
                    format!("WRONG: {output} is apart {apart} from when it was built (bound {bound:.0e})")
                }
                Err(error) => {
                    outcome = Outcome::Wrong;
                    error.to_string()
                }
            };
            if context.speaks() {
                println!("{plan}: {words}");
            } else if !context.json && outcome == Outcome::Wrong {
                eprintln!("{plan}: {words}");
            }
            let error = verdict.as_ref().err().map(ToString::to_string);
            results.push(json!({ "plan": plan, "result": verdict.ok(), "error": error }));
        }
        if results.is_empty() && context.speaks() {
            println!("no engines for {} and TensorRT {version}", device.name);
        }
        context.print_json(&json!({ "engines": results }));
        Ok(outcome)
    }

    fn worst(one: Outcome, other: Outcome) -> Outcome {
        if one == Outcome::Wrong { one } else { other }
    }

    fn library(listener: Option<Listener>) -> miette::Result<Arc<Library>> {
        let driver_help = "`nvidia-smi` says whether the driver works";
        let gpu = catseye::gpu::Context::open(0).map_err(|error| problem(error, driver_help))?;
        Library::find(&gpu, listener).map_err(|error| match error {
            TensorRtError::NoLibrary { .. } => problem(
                error,
                "install TensorRT (libnvinfer), or set CATSEYE_TENSORRT_LIB and LD_LIBRARY_PATH to its folder",
            ),
            error => problem(error, ""),
        })
    }

    /// What TensorRT does at the moment, as far as it tells.
    #[derive(Default)]
    struct Told(Mutex<String>);

    impl Told {
        fn set(&self, words: &str) {
            words.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }

        fn words(&self) -> String {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        /// Before version 10 there are no phases, and its messages must do.
        fn listener(self: &Arc<Self>) -> Listener {
            let told = Arc::clone(self);
            let prints = std::env::var_os("CATSEYE_TENSORRT_LOG").is_some();
            Box::new(move |severity, message| {
                if matches!(severity, Severity::Warning | Severity::Info) {
                    told.set(&message.chars().take(80).collect::<String>());
                }
                if prints {
                    eprintln!("{severity:?}: {message}");
                }
            })
        }
    }

    /// Says every now and then how long a build takes and what it does: a line that moves on terminals, lines elsewhere.
    struct Ticker {
        done: Arc<AtomicBool>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Ticker {
        fn start(told: &Arc<Told>, name: &str, context: Context) -> Ticker {
            let done = Arc::new(AtomicBool::new(false));
            if !context.speaks() {
                return Ticker { done, thread: None };
            }
            let (told, name, ends) = (Arc::clone(told), name.to_owned(), Arc::clone(&done));
            let thread = std::thread::spawn(move || tick(&told, &name, &ends));
            Ticker { done, thread: Some(thread) }
        }
    }

    impl Drop for Ticker {
        fn drop(&mut self) {
            self.done.store(true, Ordering::Release);
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }

    fn tick(told: &Told, name: &str, done: &AtomicBool) {
        const STEP: Duration = Duration::from_millis(100);
        const BETWEEN_LINES: u32 = 100;
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let start = Instant::now();
        for step in 1_u32.. {
            std::thread::sleep(STEP);
            if done.load(Ordering::Acquire) {
                break;
            }
            let line = format!("{name}: {:.0} s, {}", start.elapsed().as_secs_f64(), told.words());
            if !bar.is_hidden() {
                bar.set_message(line);
                bar.tick();
            } else if step % BETWEEN_LINES == 0 {
                eprintln!("{line}");
            }
        }
        bar.finish_and_clear();
    }
}
