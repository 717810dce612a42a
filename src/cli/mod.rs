//! The command: arguments in, library calls, words and exit codes out. Only here do errors become text for people.
//!
//! Exit codes: 0 all well, 1 something failed, 2 the arguments are wrong, 3 runs that should be equal are not.

mod check;
mod completions;
mod demo;
mod deploy;
mod diff;
#[cfg(target_os = "linux")]
mod doctor;
mod engine;
mod eval;
#[cfg(target_os = "linux")]
mod footing;
mod import;
mod info;
#[cfg(target_os = "linux")]
mod live;
mod progress;
mod replay;
mod report;
mod rig;
mod sim;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

/// Replays recorded drives through a perception pipeline, to the bit.
#[derive(Parser)]
#[command(
    name = "catseye",
    version,
    after_help = "Examples:\n  catseye demo\n  catseye replay drive.mp4 --model yolox_nano.onnx\n  catseye info drive.mcap"
)]
struct Arguments {
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Print errors only.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Simulate a drive, replay it twice, and measure how good it went.
    Demo(demo::Arguments),
    /// Replay a log, a video, a picture folder or a KITTI folder.
    Replay(Box<replay::Arguments>),
    /// Run live sensors through the pipeline.
    #[cfg(target_os = "linux")]
    Run(Box<live::Run>),
    /// Show how live sensors' clocks lie against the host's.
    #[cfg(target_os = "linux")]
    Time(live::Time),
    /// Record live sensors.
    #[cfg(target_os = "linux")]
    Record(Box<live::Record>),
    /// Make a log from somebody else's recording.
    Import(import::Arguments),
    /// Say what is in a log.
    Info(info::Arguments),
    /// Prove that nothing of a recording is missing, or say what is.
    Check(check::Arguments),
    /// Find the first tick, stage and field in which two runs differ.
    Diff(diff::Arguments),
    /// Write the page of a run that was logged before.
    Report(report::Arguments),
    /// Make or check a rig.
    Rig(rig::Arguments),
    /// Make a log of a drive that never was, with the truth in it.
    Sim(sim::Arguments),
    /// Measure outputs against ground truth.
    Eval(eval::Arguments),
    /// Build and check TensorRT engines.
    Engine(engine::Arguments),
    /// Put catseye and a rig on another computer, over ssh.
    Deploy(deploy::Arguments),
    /// Say whether this machine can run catseye, and what mends it.
    #[cfg(target_os = "linux")]
    Doctor(doctor::Arguments),
    /// Print what makes a shell complete this command.
    Completions(completions::Arguments),
}

/// What all subcommands share.
#[derive(Clone, Copy)]
pub struct Context {
    /// JSON instead of text.
    pub json: bool,
    /// No text at all.
    pub quiet: bool,
}

impl Context {
    /// Whether text goes to the terminal.
    pub fn speaks(&self) -> bool {
        !self.json && !self.quiet
    }

    /// Prints a JSON value when that was asked for.
    pub fn print_json(&self, value: &serde_json::Value) {
        if self.json {
            println!("{value:#}");
        }
    }
}

/// How a subcommand ended when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All well.
    Good,
    /// Runs differ.
    Different,
    /// Something is wrong, and has been said.
    Wrong,
}

/// Set by SIGINT and SIGTERM: whatever runs comes to an end in good order.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // a reader that has seen enough, as `head`, ends the command in silence; a deploy tells when its connection is lost
    if !matches!(arguments.command, Command::Deploy(_)) {
        sigpipe::reset();
    }
    let _ = miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().unicode(true).width(120).build())));
    // a second signal finds the flag set and ends the process at once
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    let context = Context { json: arguments.json, quiet: arguments.quiet };
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments, context),
        Command::Replay(arguments) => replay::run(&arguments, context),
        #[cfg(target_os = "linux")]
        Command::Run(arguments) => live::run(&arguments, context),
        #[cfg(target_os = "linux")]
        Command::Time(arguments) => live::time(&arguments, context),
        #[cfg(target_os = "linux")]
        Command::Record(arguments) => live::record(&arguments, context),
        Command::Import(arguments) => import::run(&arguments, context),
        Command::Info(arguments) => info::run(&arguments, context),
        Command::Check(arguments) => check::run(&arguments, context),
        Command::Diff(arguments) => diff::run(&arguments, context),
        Command::Report(arguments) => report::run(&arguments, context),
        Command::Rig(arguments) => rig::run(&arguments, context),
        Command::Sim(arguments) => sim::run(&arguments, context),
        Command::Eval(arguments) => eval::run(&arguments, context),
        Command::Engine(arguments) => engine::run(&arguments, context),
        Command::Deploy(arguments) => deploy::run(&arguments, context),
        #[cfg(target_os = "linux")]
        Command::Doctor(arguments) => doctor::run(&arguments, context),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(3),
        Ok(Outcome::Wrong) => ExitCode::FAILURE,
        Err(report) => {
            if context.json {
                println!("{:#}", serde_json::json!({ "error": report.to_string() }));
            }
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}

/// An error for people, with help.
pub fn problem(error: impl std::fmt::Display, help: &str) -> miette::Report {
    if help.is_empty() {
        return miette::miette!("{error}");
    }
    miette::miette!(help = help.to_owned(), "{error}")
}

/// Whether two paths lead to the same file or folder.
pub fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Refuses an output in the place of something that it is made from.
pub fn check_output<'a>(out: &Path, sources: impl IntoIterator<Item = &'a Path>, help: &str) -> miette::Result<()> {
    match sources.into_iter().find(|source| same_file(source, out)) {
        None => Ok(()),
        Some(_) => Err(problem(format!("{}: this output would replace what it is made from", out.display()), help)),
    }
}

/// The guide, whose commands are read below.
#[cfg(test)]
#[allow(dead_code)] // its other half is for `tests/guide.rs`
#[path = "../../tests/common/guide.rs"]
mod guide;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_that_name_each_other_are_there() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_of_the_guide_are_commands() {
        let recipes = std::fs::read_to_string(guide::root().join("justfile")).unwrap();
        let is_recipe =
            |line: &str, name: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':']));
        let mut read = 0;
        for block in guide::chapters().iter().flat_map(|chapter| guide::read(chapter).blocks) {
            if block.is_pending || !matches!(block.to_do, guide::Use::Run { .. } | guide::Use::Read) {
                continue;
            }
            for words in guide::commands(&block.text) {
                let place = &block.place;
                if let Some(arguments) = guide::arguments(&words) {
                    let arguments = std::iter::once("catseye").chain(arguments.iter().map(String::as_str));
                    let wrong = Arguments::command().try_get_matches_from(arguments).err();
                    // help and versions go to the other stream
                    let wrong = wrong.filter(clap::Error::use_stderr).map(|wrong| wrong.to_string());
                    let is_shown = matches!(block.to_do, guide::Use::Run { exit: 2 });
                    assert_eq!(wrong.is_some(), is_shown, "{place}: {words:?}: {wrong:?}");
                    read += 1;
                }
                let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
                if let Some(example) = after("--example") {
                    assert!(guide::root().join(format!("examples/{example}.rs")).is_file(), "{place}: {example}");
                }
                if let Some(recipe) = after("just").filter(|_| words[0] == "just") {
                    assert!(recipes.lines().any(|line| is_recipe(line, recipe)), "{place}: no recipe {recipe}");
                }
                for path in words.iter().filter(|word| guide::is_of_repository(word)) {
                    assert!(guide::root().join(path).exists(), "{place}: no {path}");
                }
            }
        }
        assert!(read > 30, "only {read} commands found");
    }

    #[test]
    fn the_same_file_is_known_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, "").unwrap();
        let detour = folder.path().join("../").join(folder.path().file_name().unwrap()).join("a");
        assert!(same_file(&file, &detour) && !same_file(&file, &other) && !same_file(&other, &other));
        assert!(check_output(&detour, [file.as_path()], "").is_err());
        assert!(check_output(&other, [file.as_path(), other.as_path()], "").is_ok());
    }
}
