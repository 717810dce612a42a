//! `catseye demo`: everything once, on a drive that never was.
//!
//! It does nothing that the other subcommands do not do: each step is one of them, with arguments that anybody could type.

use std::path::{Path, PathBuf};
use std::time::Instant;

use catseye::eval::drive::{self, DriveMetrics, Options};
use catseye::file::write_whole;
use catseye::models::ROAD_ONNX;
use clap::{Args, Parser};
use serde_json::json;

use super::{Command, Context, Outcome, eval, problem, replay, sim};

/// Arguments of `demo`.
#[derive(Args)]
#[command(after_help = "Examples:\n  catseye demo\n  catseye demo --scenario cut-in --output-dir cut-in")]
pub struct Arguments {
    /// Which scenario: one that is built in, a TOML file, or random-SEED.
    #[arg(long, default_value = "demo")]
    scenario: PathBuf,
    /// Where everything goes.
    #[arg(short, long, value_name = "DIR", default_value = "catseye-out/demo")]
    output_dir: PathBuf,
}

/// Says what is going on, one line a step.
struct Steps {
    context: Context,
    start: Instant,
    number: u32,
}

/// How many steps there are.
const STEPS: u32 = 4;
/// Steps speak for themselves here; what their subcommands would say is left out.
const SILENT: Context = Context { json: false, quiet: true };

impl Steps {
    fn begin(&mut self, words: &str) {
        self.number += 1;
        if self.context.speaks() {
            println!("[{}/{STEPS}] {words} ({:.1} s)", self.number, self.start.elapsed().as_secs_f64());
        }
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let folder = &arguments.output_dir;
    let [drive, run, model, metrics_path, evaluation_path] =
        ["drive.mcap", "run.mcap", "road.onnx", "metrics.json", "evaluation.html"].map(|name| folder.join(name));
    let explain = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| problem(format!("{}: {error}", path.display()), "name another --output-dir")
    };
    std::fs::create_dir_all(folder).map_err(explain(folder))?;
    write_whole(&model, ROAD_ONNX).map_err(explain(&model))?;

    let mut steps = Steps { context, start: Instant::now(), number: 0 };
    let scenario = sim::load(&arguments.scenario, None, None)?;
    steps.begin(&format!("simulating {} s of the scenario {:?}", scenario.duration_s, scenario.name));
    let rig = sim::rig(&scenario, &arguments.scenario, None)?;
    let simulated = sim::simulate_to(&scenario, rig, &drive, None, context)?;
    steps.begin("replaying it through the pipeline, with an overlay video");
    let (drive_text, run_text) = (drive.display().to_string(), run.display().to_string());
    let (model_text, folder_text) = (model.display().to_string(), folder.display().to_string());
    replayed(&[&drive_text, "--model", &model_text, "--output-dir", &folder_text, "--video"])?;
    steps.begin("replaying it again on one worker, comparing every bit");
    let again =
        replayed(&[&drive_text, "--verify", &run_text, "--workers", "1", "--no-report", "--output-dir", &folder_text])?;
    steps.begin("comparing what was seen with what is true");
    let options = Options::default();
    let evaluation = drive::evaluate(&run, &drive, &options).map_err(|error| problem(error, ""))?;
    eval::write_report(&evaluation, (&run, &drive), &options, &evaluation_path)?;
    let metrics = &evaluation.metrics;
    let values = json!(metrics.0);
    write_whole(&metrics_path, format!("{values:#}\n").as_bytes()).map_err(explain(&metrics_path))?;

    let is_equal = again == Outcome::Good;
    if context.speaks() {
        summarize(&scenario.name, simulated.duration_s, is_equal, metrics, steps.start.elapsed().as_secs_f64());
        for name in ["report.html", "evaluation.html", "overlay.avi", "run.mcap", "drive.mcap", "metrics.json"] {
            println!("{}", folder.join(name).display());
        }
        println!("\nThe same with your own video and network:");
        println!("  catseye replay YOUR.mp4 --model YOUR.onnx --video --open");
    }
    context.print_json(&json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "duration_s": simulated.duration_s,
        "is_deterministic": is_equal,
        "seconds": steps.start.elapsed().as_secs_f64(),
        "folder": folder.display().to_string(),
        "metrics": values,
    }));
    Ok(again)
}

/// Runs `catseye replay` with these arguments.
fn replayed(arguments: &[&str]) -> miette::Result<Outcome> {
    let line = ["catseye", "replay"].iter().chain(arguments);
    let parsed = super::Arguments::try_parse_from(line).map_err(|error| problem(error, ""))?;
    match parsed.command {
        Command::Replay(arguments) => replay::run(&arguments, SILENT),
        _ => Ok(Outcome::Wrong),
    }
}

/// Five lines.
fn summarize(name: &str, duration_s: f64, is_equal: bool, metrics: &DriveMetrics, seconds: f64) {
    let value = |name: &str, digits: usize| match metrics.get(name) {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let bits = if is_equal { "the same bits twice" } else { "DIFFERENT bits: this is a bug" };
    println!("\ndrive      {duration_s} s of {name:?}, simulated; all of it in {seconds:.1} s; {bits}");
    println!(
        "boxes      AP50 within 40 m: cars {}, pedestrians {}; tracks: HOTA {}, IDF1 {}",
        value("detection.car.ap50", 3),
        value("detection.pedestrian.ap50", 3),
        value("tracking.hota", 3),
        value("tracking.idf1", 3)
    );
    println!(
        "road       lanes off by {} m at 20 m (median), free space IoU {}",
        value("lanes.at_20_m.lateral_error_m.median", 3),
        value("free_space.iou", 3)
    );
    println!(
        "world      {} objects; distances off by {} m (median), velocities by {} m/s",
        value("world.count", 0),
        value("world.range_error_m.median", 3),
        value("world.velocity_error_mps.median", 2)
    );
    println!(
        "driver     {} collisions, least gap ahead {} m, hardest braking {} m/s2",
        value("planner.collisions", 0),
        value("planner.min_lead_gap_m", 1),
        value("planner.max_deceleration_mps2", 1)
    );
}
