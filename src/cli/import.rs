//! `catseye import`: somebody else's recording becomes a log and a rig.

use std::path::{Path, PathBuf};

use catseye::log::import::{ImportError, ImportKind, ImportOptions, ImportReport, import};
use clap::Args;

use super::progress::Progress;
use super::{Context, Outcome, STOP, problem};

/// Arguments of `import`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye import kitti ~/kitti/training -o drive.mcap\n  catseye import video drive.mp4 -o drive.mcap"
)]
pub struct Arguments {
    /// kitti, sequence, nuscenes, comma2k19, video, pictures, ros, or auto.
    kind: String,
    /// The recording: a file or a folder.
    src: PathBuf,
    /// The log to write.
    #[arg(short, long)]
    out: PathBuf,
    /// Rate of pictures that have no stamps, Hz.
    #[arg(long)]
    rate: Option<f64>,
    /// A rig that describes the recording; one is made up from it otherwise.
    #[arg(long)]
    rig: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let kind = match arguments.kind.as_str() {
        "auto" => ImportKind::recognise(&arguments.src).map_err(explain)?,
        name => ImportKind::from_name(name).ok_or_else(|| {
            let known = ImportKind::ALL.map(ImportKind::name).join(", ");
            problem(format!("expected a kind of recording, found {name:?}"), &format!("kinds: {known}, auto"))
        })?,
    };
    let report = import_to(kind, &arguments.src, &arguments.out, arguments.rate, arguments.rig.clone(), context)?;
    let rig_path = arguments.out.with_extension("rig.toml");
    std::fs::write(&rig_path, report.rig.to_toml()).map_err(|e| problem(format!("{}: {e}", rig_path.display()), ""))?;
    if context.speaks() {
        print_report(&report);
        report.assumptions.iter().for_each(|assumption| println!("  assumed: {assumption}"));
        println!("{}", rig_path.display());
        println!("{}", arguments.out.display());
    }
    context.print_json(&to_json(kind, &report, &arguments.out));
    Ok(Outcome::Good)
}

/// Imports with a progress bar.
pub fn import_to(
    kind: ImportKind,
    src: &Path,
    out: &Path,
    rate_hz: Option<f64>,
    rig: Option<PathBuf>,
    context: Context,
) -> miette::Result<ImportReport> {
    let bar = Progress::new(context, "import");
    let options = ImportOptions { rate_hz, rig, stop: Some(&STOP) };
    let report = import(kind, src, out, &options, &mut |done, all| bar.set(done, all, String::new)).map_err(explain)?;
    bar.done();
    Ok(report)
}

fn explain(error: ImportError) -> miette::Report {
    problem(error, "catseye import --help lists the kinds; `catseye info` shows what a log holds")
}

/// Totals, and what was skipped.
pub fn print_report(report: &ImportReport) {
    for (topic, count) in &report.messages {
        println!("{count:>9}  {topic}");
    }
    for skipped in &report.skipped {
        println!("  skipped {} x {}: {}", skipped.count, skipped.what, skipped.why);
    }
    if report.stopped {
        println!("  stopped early: the log holds what came before");
    }
}

fn to_json(kind: ImportKind, report: &ImportReport, out: &Path) -> serde_json::Value {
    let skipped: Vec<_> =
        report.skipped.iter().map(|s| serde_json::json!({ "what": s.what, "why": s.why, "count": s.count })).collect();
    serde_json::json!({
        "kind": kind.name(),
        "log": out.display().to_string(),
        "messages": report.messages.iter().map(|(topic, n)| (topic.clone(), *n)).collect::<std::collections::BTreeMap<_, _>>(),
        "skipped": skipped,
        "assumptions": report.assumptions,
        "stopped": report.stopped,
    })
}
