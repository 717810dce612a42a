//! `catseye doctor`: whether this machine can run catseye, and what mends it where it cannot.

use std::path::PathBuf;

use anstyle::{AnsiColor, Color, Style};
use catseye::doctor::facts::engine_dir;
use catseye::doctor::{Area, Facts, Finding, Machine, Questions, Report, Root, Verdict, examine};
use clap::Args;
use serde_json::{Value, json};

use super::{Context, Outcome, problem};

/// Arguments of `doctor`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye doctor\n  catseye doctor --rig car.toml --folder /data/drives\n  catseye doctor --json --no-disk-test"
)]
pub struct Arguments {
    /// A rig that shall run here: its sources, models and engines are looked for too.
    #[arg(long, value_name = "RIG.toml")]
    rig: Option<PathBuf>,
    /// Where recordings go: its disk is measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Do not write the file that measures the disk (192 MiB, removed again).
    #[arg(long)]
    no_disk_test: bool,
    /// Folder of the TensorRT engines [default: CATSEYE_ENGINE_DIR, or catseye/engines in the user's cache].
    #[arg(long, value_name = "DIR")]
    engine_dir: Option<PathBuf>,
    /// Look at a folder that stands for a machine: its files, and doctor-facts.toml for what files do not tell.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["folder", "no_disk_test", "engine_dir"])]
    root: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let report = examine(&machine(arguments)?);
    let [green, yellow, red] = report.counts();
    if context.speaks() {
        print(&report);
    } else if !context.json {
        let findings = report.findings().filter(|finding| matches!(finding.verdict, Verdict::Red { .. }));
        findings.for_each(|finding| eprintln!("{}: {}", finding.subject, finding.found));
    }
    context.print_json(&json!({
        "ok": red == 0,
        "green": green,
        "yellow": yellow,
        "red": red,
        "areas": report.areas.iter().map(area_json).collect::<Vec<_>>(),
    }));
    Ok(if red == 0 { Outcome::Good } else { Outcome::Wrong })
}

fn machine(arguments: &Arguments) -> miette::Result<Machine> {
    let rig = arguments.rig.clone();
    if let Some(folder) = &arguments.root {
        if !folder.is_dir() {
            return Err(problem(format!("{}: expected a folder that stands for a machine", folder.display()), ""));
        }
        let root = Root::new(folder);
        let help = "tests/fixtures/doctor/README.md in the repository says what can stand there";
        let facts = Facts::read(&root).map_err(|error| problem(error, help))?;
        return Ok(Machine::new(root, facts, rig));
    }
    let questions = Questions {
        disk_folder: arguments.folder.clone(),
        measures_disk: !arguments.no_disk_test,
        engine_dir: engine_dir(arguments.engine_dir.as_deref()),
    };
    Ok(Machine::new(Root::new("/"), Facts::ask(questions), rig))
}

fn area_json(area: &Area) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "subject": finding.subject,
            "verdict": finding.verdict.name(),
            "found": finding.found,
            "mend": finding.verdict.mend(),
        })
    };
    json!({ "area": area.name, "findings": area.findings.iter().map(finding).collect::<Vec<_>>() })
}

/// Columns before the words of a finding: two of the margin, its level, its subject.
const LEVEL_WIDTH: usize = 8;
const SUBJECT_WIDTH: usize = 20;
/// Columns of a finding's words.
const WORDS_WIDTH: usize = 90;

/// `anstream` leaves the colours out where nobody sees them, and where NO_COLOR says so.
fn print(report: &Report) {
    let heading = Style::new().bold();
    for area in &report.areas {
        anstream::println!("{heading}{}{heading:#}", area.name);
        area.findings.iter().for_each(print_finding);
        anstream::println!();
    }
    let [green, yellow, red] = report.counts();
    let count = |name: &str, count: usize| {
        let style = if count > 0 { style_of(name) } else { Style::new().dimmed() };
        format!("{style}{count} {name}{style:#}")
    };
    anstream::println!("{}, {}, {}", count("red", red), count("yellow", yellow), count("green", green));
}

fn style_of(verdict: &str) -> Style {
    let colour = |colour| Style::new().fg_color(Some(Color::Ansi(colour)));
    match verdict {
        "green" => colour(AnsiColor::Green),
        "yellow" => colour(AnsiColor::Yellow).bold(),
        _ => colour(AnsiColor::Red).bold(),
    }
}

fn print_finding(finding: &Finding) {
    let level = finding.verdict.name();
    let style = style_of(level);
    let subject = &finding.subject;
    let mut lines = wrap(&finding.found).into_iter();
    let first = lines.next().unwrap_or_default();
    anstream::println!("  {style}{level:LEVEL_WIDTH$}{style:#}{subject:SUBJECT_WIDTH$} {first}");
    let margin = 2 + LEVEL_WIDTH + SUBJECT_WIDTH + 1;
    lines.for_each(|line| anstream::println!("{:margin$}{line}", ""));
    let Some(mend) = finding.verdict.mend() else { return };
    let dim = Style::new().dimmed();
    for (index, line) in wrap(mend).into_iter().enumerate() {
        let arrow = if index == 0 { "→" } else { " " };
        anstream::println!("{:margin$}{dim}{arrow}{dim:#} {line}", "");
    }
}

/// Lines of at most [`WORDS_WIDTH`] columns; a longer word has a line of its own.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WORDS_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        let text = "word ".repeat(60);
        let lines = wrap(&text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= WORDS_WIDTH));
        assert_eq!(lines.join(" "), text.trim());
        assert_eq!(wrap(&"x".repeat(200)), ["x".repeat(200)]);
        assert!(wrap("").is_empty());
    }
}
