//! `catseye import`: somebody else's recording becomes a log and a rig.

use std::path::{Path, PathBuf};

use catseye::file::write_whole;
use catseye::log::import::{ImportError, ImportKind, ImportOptions, ImportReport, import};
use clap::Args;

use super::progress::Progress;
use super::{Context, Outcome, STOP, check_output, problem, same_file};

/// Arguments of `import`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye import kitti ~/kitti/training -o drive.mcap\n  catseye import video drive.mp4 -o drive.mcap"
)]
pub struct Arguments {
    /// kitti, sequence, nuscenes, comma2k19, video, pictures, ros, or auto.
    #[arg(value_parser = parse_kind)]
    kind: Kind,
    /// The recording: a file or a folder.
    src: PathBuf,
    /// The log to write.
    #[arg(short, long)]
    out: PathBuf,
    /// Rate of pictures that have no stamps, Hz.
    #[arg(long)]
    rate: Option<f64>,
    /// A rig that describes the recording; one is made up from it otherwise, and written beside the log where there is
    /// none yet.
    #[arg(long)]
    rig: Option<PathBuf>,
}

/// What the recording is said to be.
#[derive(Clone, Copy)]
enum Kind {
    /// Its files tell.
    Auto,
    /// One that is known.
    Known(ImportKind),
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let known = ImportKind::ALL.map(ImportKind::name).join(", ");
    match text {
        "auto" => Ok(Kind::Auto),
        name => ImportKind::from_name(name).map(Kind::Known).ok_or_else(|| format!("expected {known} or auto")),
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let Arguments { src, out, .. } = arguments;
    let kind = match arguments.kind {
        Kind::Auto => ImportKind::recognise(src).map_err(explain)?,
        Kind::Known(kind) => kind,
    };
    let help = "name another file with --out";
    check_output(out, [Some(src.as_path()), arguments.rig.as_deref()].into_iter().flatten(), help)?;
    check_folder(kind, src, out, help)?;
    let report = import_to(kind, src, out, arguments.rate, arguments.rig.clone(), context)?;
    let rig_path = out.with_extension("rig.toml");
    let writes_rig = arguments.rig.is_none() && !rig_path.exists();
    if writes_rig {
        let written = write_whole(&rig_path, report.rig.to_toml().as_bytes());
        written.map_err(|error| problem(format!("{}: {error}", rig_path.display()), ""))?;
    }
    if context.speaks() {
        print_report(&report);
        report.assumptions.iter().for_each(|assumption| println!("  assumed: {assumption}"));
        println!("{}", rig_words(arguments.rig.as_deref(), &rig_path, writes_rig));
        println!("{}", out.display());
    }
    context.print_json(&to_json(kind, &report, out, writes_rig.then_some(rig_path.as_path())));
    Ok(Outcome::Good)
}

/// The rig's file, or why there is no new one: a person may have changed one that was there.
fn rig_words(given: Option<&Path>, rig_path: &Path, is_written: bool) -> String {
    match given {
        Some(given) => format!("no rig is written: the log has the one of {}", given.display()),
        None if is_written => rig_path.display().to_string(),
        None => format!("{} was there already and is left as it is; the log has a rig of its own", rig_path.display()),
    }
}

/// Refuses to replace a file of a ROS recording's folder, which would be read and then be gone.
pub fn check_folder(kind: ImportKind, src: &Path, out: &Path, help: &str) -> miette::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if kind == ImportKind::Ros && out.exists() && same_file(src, folder) {
        return Err(problem(format!("{}: this output would replace a part of the recording", out.display()), help));
    }
    Ok(())
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

fn to_json(kind: ImportKind, report: &ImportReport, out: &Path, rig: Option<&Path>) -> serde_json::Value {
    let skipped: Vec<_> =
        report.skipped.iter().map(|s| serde_json::json!({ "what": s.what, "why": s.why, "count": s.count })).collect();
    serde_json::json!({
        "kind": kind.name(),
        "log": out.display().to_string(),
        "rig": rig.map(|rig| rig.display().to_string()),
        "messages": report.messages.iter().map(|(topic, n)| (topic.clone(), *n)).collect::<std::collections::BTreeMap<_, _>>(),
        "skipped": skipped,
        "assumptions": report.assumptions,
        "stopped": report.stopped,
    })
}
