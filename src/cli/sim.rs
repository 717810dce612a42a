//! `catseye sim`: a scenario becomes a log, in which everything is known.

use std::path::{Path, PathBuf};

use catseye::models::with_road;
use catseye::pipeline::{Files, Pipeline, Settings};
use catseye::sim::record::{
    Options, SimulationReport, dbc_attachment, rig_of, simulate, simulated_rig, simulated_sensors,
};
use catseye::sim::scenario::Scenario;
use catseye::sim::sensors::can::DBC;
use catseye::sim::{closed_loop, stills};
use catseye_calibration::rig::Rig;
use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Outcome, STOP, check_output, problem};

/// Arguments of `sim`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye sim cut-in -o drive.mcap\n  catseye sim my-scenario.toml --seed 5 --duration 20\n  catseye sim random-17 -o drive.mcap\n  catseye sim cut-in --closed-loop\n  catseye sim --stills pictures --count 1000"
)]
pub struct Arguments {
    /// A scenario: a TOML file, one that is built in (see --list), or random-SEED.
    #[arg(required_unless_present_any = ["list", "stills"])]
    scenario: Option<PathBuf>,
    /// The log to write [default: NAME.mcap].
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// Seed of all chance, in place of the scenario's own.
    #[arg(long)]
    seed: Option<u64>,
    /// Length of the drive in seconds, in place of the scenario's own.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration)]
    duration: Option<f64>,
    /// A rig in place of the scenario's own: a file, sim-car or hyperion-8.1.
    #[arg(long)]
    rig: Option<PathBuf>,
    /// Worker threads [default: one per processor]. The log does not depend on them.
    #[arg(long)]
    workers: Option<usize>,
    /// Let the planner drive: the network that comes with catseye sees, the planner stub brakes and accelerates. Nothing is
    /// written.
    #[arg(long, conflicts_with_all = ["out", "stills", "list"])]
    closed_loop: bool,
    /// The same with the planner switched off: the vehicle keeps its speed.
    #[arg(long, requires = "closed_loop")]
    planner_off: bool,
    /// List the built-in scenarios, and do nothing else.
    #[arg(long)]
    list: bool,
    /// Write single pictures with labels of random scenarios into a folder, for training.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scenario", "out", "duration", "rig"])]
    stills: Option<PathBuf>,
    /// How many pictures.
    #[arg(long, requires = "stills", default_value_t = 100)]
    count: u64,
}

fn parse_duration(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| format!("expected a number of seconds from 0.1 to 3600, found {text:?}"))
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    if arguments.list {
        list(context);
        return Ok(Outcome::Good);
    }
    if let Some(folder) = &arguments.stills {
        return write_stills(arguments, folder, context);
    }
    let name = arguments.scenario.clone().unwrap_or_default();
    let scenario = load(&name, arguments.seed, arguments.duration)?;
    let rig = rig(&scenario, &name, arguments.rig.as_deref())?;
    if arguments.closed_loop {
        return drive(arguments, &scenario, rig, context);
    }
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.mcap", scenario.name)));
    let sources = [Some(name.as_path()), arguments.rig.as_deref()];
    check_output(&out, sources.into_iter().flatten(), "name another file with --out")?;
    let report = simulate_to(&scenario, rig, &out, arguments.workers, context)?;
    if context.speaks() {
        report.messages.iter().for_each(|(topic, count)| println!("{count:>9}  {topic}"));
        report.assumptions.iter().for_each(|assumption| println!("  assumed: {assumption}"));
        if let Some(first_s) = report.collisions_s.first() {
            println!("  the ego vehicle touches another body, first after {first_s:.2} s");
        }
        if report.stopped {
            println!("  stopped early: the log holds what came before");
        }
        println!("{}", out.display());
    }
    context.print_json(&json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "log": out.display().to_string(),
        "duration_s": report.duration_s,
        "messages": report.messages.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "assumptions": report.assumptions,
        "first_collision_s": report.collisions_s.first(),
        "stopped": report.stopped,
    }));
    Ok(Outcome::Good)
}

/// Drives in closed loop. A collision is said by the exit code, too.
fn drive(arguments: &Arguments, scenario: &Scenario, rig: Rig, context: Context) -> miette::Result<Outcome> {
    let (rig, _) = simulated_rig(rig).map_err(|error| problem(error, ""))?;
    let sensors = simulated_sensors(&rig, scenario.seed);
    let mut files = Files::from([(PathBuf::from(dbc_attachment()), DBC.as_bytes().to_vec())]);
    let rig = with_road(rig, &mut files);
    let workers = workers_or_all(arguments.workers);
    let settings = Settings { lanes: workers, ..Settings::default() };
    let pipeline = match arguments.planner_off {
        true => None,
        false => Some(Pipeline::build(&rig, &files, settings).map_err(|error| problem(error, ""))?),
    };
    let options = closed_loop::Options { workers, ..closed_loop::Options::default() };
    let driven = closed_loop::drive(scenario, &rig, &sensors, pipeline, &options, &mut ());
    let driven = driven.map_err(|error| problem(error, ""))?;
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    if context.speaks() {
        println!("collision           {:>8} s", number(driven.collision_s));
        println!("least gap ahead     {:>8} m", number(driven.min_gap_m));
        println!("hardest braking     {:>8.2} m/s2", driven.max_deceleration_mps2);
        println!("harsh brakings      {:>8}", driven.harsh_brakings);
        println!("way                 {:>8.1} m in {:.1} s", driven.distance_m, driven.duration_s);
        println!("ticks               {:>8}, of which late {}", driven.ticks, driven.late_plans);
        driven.reasons.iter().for_each(|(reason, ticks)| println!("  {reason:<18}{ticks:>8}"));
    }
    context.print_json(&json!({
        "scenario": scenario.name,
        "planner": !arguments.planner_off,
        "collision_s": driven.collision_s,
        "min_gap_m": driven.min_gap_m,
        "max_deceleration_mps2": driven.max_deceleration_mps2,
        "harsh_brakings": driven.harsh_brakings,
        "distance_m": driven.distance_m,
        "duration_s": driven.duration_s,
        "ticks": driven.ticks,
        "late_plans": driven.late_plans,
        "reasons": driven.reasons,
    }));
    Ok(if driven.has_collided() { Outcome::Wrong } else { Outcome::Good })
}

fn list(context: Context) {
    for (name, text) in Scenario::built_in() {
        let words = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        if context.speaks() {
            println!("{name:<22}{words}");
        }
    }
    let names: Vec<&str> = Scenario::built_in().iter().map(|(name, _)| *name).collect();
    context.print_json(&json!({ "scenarios": names }));
}

/// A scenario with what was said otherwise.
pub fn load(name: &Path, seed: Option<u64>, duration_s: Option<f64>) -> miette::Result<Scenario> {
    let explain = |error| problem(error, "`catseye sim --list` lists the built-in scenarios");
    let scenario = Scenario::load(name).map_err(explain)?;
    scenario.changed(seed, duration_s).map_err(explain)
}

/// The rig of a scenario, or the one that was given in its place.
pub fn rig(scenario: &Scenario, name: &Path, given: Option<&Path>) -> miette::Result<Rig> {
    let (scenario, folder) = match given {
        Some(rig) => (Scenario { rig: rig.display().to_string(), ..scenario.clone() }, Path::new("")),
        None => (scenario.clone(), name.parent().unwrap_or(Path::new(""))),
    };
    rig_of(&scenario, folder).map_err(|error| problem(error, "`catseye rig check FILE` checks a rig"))
}

/// Simulates with a progress bar.
pub fn simulate_to(
    scenario: &Scenario,
    rig: Rig,
    out: &Path,
    workers: Option<usize>,
    context: Context,
) -> miette::Result<SimulationReport> {
    let bar = Progress::new(context, "simulate");
    let options = Options { workers: workers_or_all(workers), stop: Some(&STOP) };
    let progress = &mut |done: u64, all: u64| bar.set(done, all, String::new);
    let report = simulate(scenario, rig, out, options, progress).map_err(|error| problem(error, ""))?;
    bar.done();
    Ok(report)
}

fn workers_or_all(workers: Option<usize>) -> usize {
    workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn write_stills(arguments: &Arguments, folder: &Path, context: Context) -> miette::Result<Outcome> {
    let bar = Progress::new(context, "stills");
    let seed = arguments.seed.unwrap_or(0);
    let progress = |done: u64, all: u64| bar.set(done, all, String::new);
    let workers = workers_or_all(arguments.workers);
    stills::write(folder, arguments.count, seed, workers, &STOP, &progress).map_err(|error| problem(error, ""))?;
    bar.done();
    if context.speaks() {
        println!("{}", folder.display());
    }
    context.print_json(&json!({ "folder": folder.display().to_string(), "count": arguments.count, "seed": seed }));
    Ok(Outcome::Good)
}
