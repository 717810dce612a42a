//! `catseye eval`: outputs against ground truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use catseye::eval::drive::{self, CameraFrames, Evaluation, Options};
use catseye::eval::gate::{Gate, Shortfall};
use catseye::eval::{hota, kitti, mot, shown};
use catseye::file::write_whole;
use catseye::view::report::evaluation::{EvaluationReport, save};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Outcome, check_output, problem};

/// Arguments of `eval`.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  catseye eval run.mcap --truth drive.mcap\n  catseye eval run.mcap --truth drive.mcap --gate gates.toml\n  catseye eval run.mcap --truth drive.mcap --report evaluation.html --mot tracks\n  catseye eval mot --truth gt.txt --tracks out.txt --json\n  catseye eval kitti --truth label_2 --detections results\n\nA gate file has lines as `\"detection.car.ap50\" = { min = 0.85 }`; a run that falls short exits with 3."
)]
pub struct Arguments {
    /// The log of a run.
    #[arg(required = true)]
    log: Option<PathBuf>,
    /// A log with truth; may be the same.
    #[arg(long, value_name = "LOG", required = true)]
    truth: Option<PathBuf>,
    /// What the run must reach (TOML).
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Writes the measures and plots of what they are made of into one page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Objects farther away than this do not count, in metres.
    #[arg(long, value_name = "METRES", default_value_t = Options::default().max_distance_m)]
    max_distance_m: f64,
    /// Also write what the measures of tracking weigh: FOLDER/CAMERA/gt.txt and tracks.txt, as in the MOT challenge.
    #[arg(long, value_name = "FOLDER")]
    mot: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// CLEAR-MOT, IDF1 and HOTA on files of the MOT challenge.
    #[command(
        after_help = "Examples:\n  catseye eval mot --truth gt.txt --tracks out.txt\n  catseye eval mot --truth gt.txt --tracks out.txt --max-distance 0.5"
    )]
    Mot {
        /// Ground truth; rows with a confidence below 1 are not counted.
        #[arg(long)]
        truth: PathBuf,
        /// A tracker's output.
        #[arg(long)]
        tracks: PathBuf,
        /// Largest distance (1 - IoU) of a pair; HOTA has thresholds of its own.
        #[arg(long, default_value_t = 0.5)]
        max_distance: f64,
    },
    /// Average precision on files of KITTI's object benchmark, at moderate difficulty.
    #[command(after_help = "Examples:\n  catseye eval kitti --truth training/label_2 --detections results")]
    Kitti {
        /// Folder of labels, NNNNNN.txt.
        #[arg(long)]
        truth: PathBuf,
        /// Folder of results of the same names, with a score in column 16.
        #[arg(long)]
        detections: PathBuf,
    },
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    match (&arguments.command, &arguments.log, &arguments.truth) {
        (Some(Command::Mot { truth, tracks, max_distance }), _, _) => run_mot(truth, tracks, *max_distance, context),
        (Some(Command::Kitti { truth, detections }), _, _) => {
            let metrics = kitti::evaluate(truth, detections).map_err(|error| problem(error, ""))?;
            show(&metrics, context);
            Ok(Outcome::Good)
        }
        (None, Some(log), Some(truth)) => run_drive(arguments, log, truth, context),
        _ => Err(problem("expected the log of a run and --truth", "`catseye eval --help` shows examples")),
    }
}

fn run_drive(arguments: &Arguments, log: &Path, truth: &Path, context: Context) -> miette::Result<Outcome> {
    // what is wrong with the gate or the page's place is told before the work is done
    if let Some(path) = &arguments.report {
        let sources = [log, truth].into_iter().chain(arguments.gate.as_deref());
        check_output(path, sources, "name another file")?;
    }
    let gate = arguments.gate.as_deref().map(Gate::read).transpose().map_err(|error| problem(error, ""))?;
    let options = Options { max_distance_m: arguments.max_distance_m };
    let help = "`catseye replay LOG --out run.mcap` makes a run; `catseye info` shows what a log holds";
    let evaluation = drive::evaluate(log, truth, &options).map_err(|error| problem(error, help))?;
    let metrics = &evaluation.metrics.0;
    let short = gate.map(|gate| gate.check(metrics)).transpose().map_err(|error| problem(error, ""))?;
    if let Some(folder) = &arguments.mot {
        let frames = drive::tracking_frames(log, truth, &options).map_err(|error| problem(error, help))?;
        write_mot(folder, &frames).map_err(|(file, error)| problem(format!("{}: {error}", file.display()), ""))?;
    }
    if let Some(path) = &arguments.report {
        write_report(&evaluation, (log, truth), &options, path)?;
    }
    show(metrics, context);
    if let Some(path) = arguments.report.as_ref().filter(|_| context.speaks()) {
        println!("\nplots: {}", path.display());
    }
    let short = short.unwrap_or_default();
    if short.is_empty() {
        return Ok(Outcome::Good);
    }
    let table = shortfalls(&short);
    if context.speaks() {
        println!("\n{table}")
    } else {
        eprintln!("{table}")
    }
    Ok(Outcome::Different)
}

/// Writes a folder per camera; an error names the file.
fn write_mot(folder: &Path, frames: &[CameraFrames]) -> Result<(), (PathBuf, std::io::Error)> {
    for camera in frames {
        let folder = folder.join(&camera.camera);
        std::fs::create_dir_all(&folder).map_err(|error| (folder.clone(), error))?;
        for (name, frames) in [("gt.txt", &camera.objects), ("tracks.txt", &camera.tracks)] {
            let file = folder.join(name);
            write_whole(&file, mot::to_text(frames).as_bytes()).map_err(|error| (file, error))?;
        }
    }
    Ok(())
}

/// Writes the page of an evaluation of a run against truth.
pub fn write_report(
    evaluation: &Evaluation,
    (run, truth): (&Path, &Path),
    options: &Options,
    path: &Path,
) -> miette::Result<()> {
    let name = |log: &Path| log.file_name().unwrap_or(log.as_os_str()).to_string_lossy().into_owned();
    let facts = [
        ("run", run.display().to_string()),
        ("truth", truth.display().to_string()),
        ("objects count up to", format!("{} m", options.max_distance_m)),
        ("catseye", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let report = EvaluationReport {
        title: format!("{} against the truth of {}", name(run), name(truth)),
        facts: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        evaluation,
    };
    save(&report, path).map_err(|error| problem(error, "name another file"))
}

/// Prints all measures: as a table with a gap between sections, or as one flat object.
fn show(metrics: &BTreeMap<String, Option<f64>>, context: Context) {
    if context.speaks() {
        let width = metrics.keys().map(String::len).max().unwrap_or(0);
        let mut last = None;
        for (name, value) in metrics {
            let section = name.split('.').next();
            if last.is_some() && last != Some(section) {
                println!();
            }
            last = Some(section);
            println!("{name:<width$} {:>12}", shown(*value));
        }
    }
    context.print_json(&json!(metrics));
}

fn shortfalls(short: &[Shortfall]) -> String {
    let found = |short: &Shortfall| short.found.map_or_else(|| "no value".to_owned(), |found| format!("{found:.6}"));
    let head = ["metric".to_owned(), "expected".to_owned(), "found".to_owned()];
    let rows = short.iter().map(|short| [short.metric.clone(), short.expected.clone(), found(short)]);
    let rows: Vec<[String; 3]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let lines = rows.iter().map(|[metric, expected, found]| format!("{metric:<first$}  {expected:<second$}  {found}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn run_mot(truth: &Path, tracks: &Path, max_distance: f64, context: Context) -> miette::Result<Outcome> {
    let read = |path, min| mot::read(path, min).map_err(|error| problem(error, ""));
    let (truth, tracks) = (read(truth, 1.0)?, read(tracks, f64::NEG_INFINITY)?);
    let metrics = mot::evaluate(&truth, &tracks, max_distance).map_err(|error| problem(error, ""))?;
    let hota = hota::evaluate(&truth, &tracks).map_err(|error| problem(error, ""))?;
    let rows = [
        ("mota", metrics.mota),
        ("motp", metrics.motp),
        ("idf1", metrics.idf1),
        ("idp", metrics.idp),
        ("idr", metrics.idr),
        ("hota", hota.hota),
        ("det_a", hota.det_a),
        ("ass_a", hota.ass_a),
        ("loc_a", hota.loc_a),
        ("num_switches", metrics.switches as f64),
        ("num_false_positives", metrics.false_positives as f64),
        ("num_misses", metrics.misses as f64),
        ("num_fragmentations", metrics.fragmentations as f64),
        ("mostly_tracked", metrics.mostly_tracked as f64),
        ("mostly_lost", metrics.mostly_lost as f64),
    ];
    if context.speaks() {
        rows.iter().for_each(|(name, value)| println!("{name:<20} {value:>12.6}"));
    }
    context.print_json(&json!(rows.into_iter().collect::<BTreeMap<_, _>>()));
    Ok(Outcome::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_short_is_a_table() {
        let of = |metric: &str, found| Shortfall { metric: metric.to_owned(), expected: ">= 0.85".to_owned(), found };
        let table = shortfalls(&[of("detection.car.ap50", Some(0.5)), of("free_space.iou", None)]);
        let expected = "metric              expected  found\n\
                        detection.car.ap50  >= 0.85   0.500000\n\
                        free_space.iou      >= 0.85   no value";
        assert_eq!(table, expected);
    }
}
