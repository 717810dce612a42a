//! `catseye report`: the page of a run that was logged before.

use std::path::PathBuf;

use catseye::log::notes::Names;
use catseye::log::run::RunReader;
use catseye::source::Preamble;
use catseye::tap::Sink;
use catseye::view::collect::{Collector, CollectorSettings};
use catseye_calibration::rig::Rig;
use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Outcome, check_output, problem};

/// Arguments of `report`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye report catseye-out/drive/run.mcap\n  catseye report run.mcap -o monday.html"
)]
pub struct Arguments {
    /// The log of a run.
    log: PathBuf,
    /// The page to write [default: report.html beside the log].
    #[arg(short, long)]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let log = &arguments.log;
    let preamble = Preamble::read(log).map_err(|error| problem(error, "`catseye info` shows what a log holds"))?;
    if preamble.run.is_empty() {
        let help = "`catseye replay LOG` makes a run and its report";
        return Err(problem(format!("{}: expected the log of a run, found no run header", log.display()), help));
    }
    let explain = |error| problem(error, "");
    let failed = |error: catseye::tap::TapError| problem(error, "");
    let stages = RunReader::stages(log).map_err(explain)?;
    let rig = preamble.rig.unwrap_or_else(|| Rig::default_camera(1920, 1080));
    let out = arguments.out.clone().unwrap_or_else(|| log.with_file_name("report.html"));
    check_output(&out, [log.as_path()], "name another file with --out")?;
    let names = Names {
        stages: stages.clone(),
        stateless: stages.len(),
        sensors: rig.sensors().map(|sensor| sensor.name.to_owned()).collect(),
        classes: preamble
            .run
            .get("classes")
            .map(|names| names.split('\n').map(str::to_owned).collect())
            .unwrap_or_default(),
    };
    let settings = CollectorSettings {
        names,
        rig,
        folder: out.parent().map(PathBuf::from).unwrap_or_default(),
        pictures: 0,
        video: None,
        frames_folder: None,
        title: log.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        is_simulated: preamble.source.get("kind").is_some_and(|kind| kind == "sim"),
        header: preamble.run,
        assumptions: vec!["made from the log of the run, which holds no pictures".to_owned()],
        report: Some(out.clone()),
    };
    let (mut collector, _) = Collector::new(settings).map_err(failed)?;
    let mut reader = RunReader::open(log, stages.into_iter().map(|stage| stage.0).collect()).map_err(explain)?;
    let bar = Progress::new(context, "report");
    while let Some(output) = reader.next().map_err(explain)? {
        let (done, all) = reader.progress();
        bar.set(done, all, String::new);
        collector.take(&output).map_err(failed)?;
    }
    bar.done();
    let missing = reader.missing();
    let incomplete = missing.as_ref().map(|missing| format!("incomplete: {missing}"));
    if let Some(words) = &incomplete {
        collector.warn(words.clone());
    }
    let (drops, accounts) = reader.rest();
    collector.finish(&drops, &accounts).map_err(failed)?;
    if context.speaks() {
        incomplete.iter().for_each(|words| println!("{words}"));
        println!("{}", out.display());
    }
    context.print_json(&json!({ "report": out.display().to_string(), "missing": missing }));
    Ok(Outcome::Good)
}
