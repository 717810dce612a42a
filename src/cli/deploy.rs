//! `catseye deploy`: a release goes onto another computer over ssh.

use std::path::PathBuf;
use std::time::Duration;

use catseye::deploy::ssh::SshSettings;
use catseye::deploy::{Check, DeployError, Event, Plan, Report, Settings, Source, Unit, Verdict, deploy};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::progress::Progress;
use super::{Context, Outcome, STOP, problem};

/// Arguments of `deploy`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye deploy orin --rig car.toml --dry-run\n  catseye deploy nvidia@10.0.0.7 --rig car.toml\n  \
                  catseye deploy orin --package catseye_0.1.0_arm64.tar.xz --rig car.toml --unit record"
)]
pub struct Arguments {
    /// The target, as ssh takes it: a name of its configuration, or USER@ADDRESS.
    host: String,
    /// The rig that the target runs; models and DBC files that it names go along.
    #[arg(long, value_name = "FILE")]
    rig: Option<PathBuf>,
    /// The service that runs it [default: run with a rig, else none].
    #[arg(long, value_enum)]
    unit: Option<UnitName>,
    /// The folder that is deployed, laid out as an install root [default: target/dist/ARCHITECTURE/tree, of the target's architecture].
    #[arg(long, value_name = "DIR", conflicts_with = "package")]
    tree: Option<PathBuf>,
    /// The same as an archive.
    #[arg(long, value_name = "FILE.tar.xz")]
    package: Option<PathBuf>,
    /// Check the target and say what would be done; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// The folder on the target.
    #[arg(long, value_name = "DIR", default_value = "/opt/catseye")]
    prefix: String,
    /// How long the service is watched before the deploy is called good.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    health_seconds: u64,
    /// How many releases stay on the target, with those in use now and before.
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep: usize,
    /// Build no TensorRT engines on the target.
    #[arg(long)]
    no_engines: bool,
    /// An option for ssh's -o, as Port=2222; may be given several times.
    #[arg(long, value_name = "OPTION")]
    ssh_option: Vec<String>,
    #[arg(long, hide = true, default_value = "ssh")]
    ssh_program: PathBuf,
    #[arg(long, hide = true, default_value = "")]
    system_root: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum UnitName {
    Run,
    Record,
    None,
}

impl Arguments {
    fn settings(&self) -> Settings {
        let source = match (&self.tree, &self.package) {
            (Some(tree), _) => Source::Tree(tree.clone()),
            (None, Some(package)) => Source::Package(package.clone()),
            (None, None) => Source::Built,
        };
        let unit = match self.unit {
            Some(UnitName::Run) => Unit::Run,
            Some(UnitName::Record) => Unit::Record,
            Some(UnitName::None) => Unit::None,
            None if self.rig.is_some() => Unit::Run,
            None => Unit::None,
        };
        let ssh = SshSettings {
            host: self.host.clone(),
            program: self.ssh_program.clone(),
            options: self.ssh_option.clone(),
        };
        Settings {
            ssh,
            source,
            rig: self.rig.clone(),
            unit,
            prefix: self.prefix.clone(),
            system_root: self.system_root.clone(),
            keep: self.keep,
            health: Duration::from_secs(self.health_seconds),
            engines: !self.no_engines,
            dry_run: self.dry_run,
        }
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    let bar = Progress::new(context, "send");
    let report = deploy(&arguments.settings(), &STOP, &mut |event| tell(&event, &bar, arguments.dry_run, context));
    bar.done();
    let report = report.map_err(|error| {
        let help = help(&error);
        problem(error, help)
    })?;
    if context.speaks() {
        print(&report);
    }
    context.print_json(&report_json(&report));
    let is_good = matches!(report.outcome, catseye::deploy::Outcome::Planned | catseye::deploy::Outcome::Deployed);
    if !is_good && !context.speaks() && !context.json {
        print_failure(&report);
    }
    Ok(if is_good { Outcome::Good } else { Outcome::Wrong })
}

fn tell(event: &Event<'_>, bar: &Progress, is_dry: bool, context: Context) {
    if let Event::Sent { done, all } = event {
        bar.set(*done, *all, || format!("{:.1} MiB", mib(*done)));
        return;
    }
    if !context.speaks() {
        return;
    }
    match event {
        Event::Checks(checks) => checks.iter().for_each(print_check),
        Event::Plan(plan) => print_plan(plan, is_dry),
        Event::Step(step) => {
            bar.done();
            println!("{step}");
        }
        Event::Line(line) => println!("  {line}"),
        Event::Sent { .. } => {}
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print_check(check: &Check) {
    let mark = match check.verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "look",
        Verdict::Wrong => "WRONG",
    };
    println!("{mark:>6}  {:<13} {}", check.name, check.found);
    if !check.help.is_empty() {
        println!("{:>22}{}", "", check.help);
    }
}

fn print_plan(plan: &Plan, is_dry: bool) {
    println!("release {}: {} files, {:.1} MiB", plan.folder, plan.files, mib(plan.bytes));
    match &plan.current {
        Some(current) => println!("in use: {current}"),
        None => println!("in use: none"),
    }
    if plan.is_there {
        println!("all of it is there");
    } else {
        println!(
            "to send: {} files, {:.1} MiB; {} are taken from the release in use, {} are there from an earlier try",
            plan.send.len(),
            mib(plan.send_bytes),
            plan.linked,
            plan.kept
        );
    }
    if !is_dry {
        return;
    }
    plan.send.iter().for_each(|path| println!("  {path}"));
    println!("to run on the target:");
    plan.commands.iter().for_each(|command| println!("  {command}"));
    if !plan.root_commands.is_empty() {
        println!("of this and of preparing it, as root:");
        plan.root_commands.iter().for_each(|command| println!("  {command}"));
    }
}

fn print(report: &Report) {
    for note in &report.notes {
        println!("note: {note}");
    }
    for release in &report.removed {
        println!("removed {release}");
    }
    match &report.outcome {
        catseye::deploy::Outcome::Planned => println!("nothing was changed"),
        catseye::deploy::Outcome::Deployed => println!(
            "{} is in use: {} files and {} bytes sent, {:.1} s",
            report.plan.folder,
            report.plan.send.len(),
            report.sent_bytes,
            report.elapsed.as_secs_f64()
        ),
        _ => print_failure(report),
    }
}

fn print_failure(report: &Report) {
    match &report.outcome {
        catseye::deploy::Outcome::Refused => {
            eprintln!("refused: nothing was changed");
            let wrong = report.checks.iter().filter(|check| check.verdict == Verdict::Wrong);
            wrong.for_each(|check| eprintln!("  {}: {}; {}", check.name, check.found, check.help));
        }
        catseye::deploy::Outcome::RolledBack { why, to, is_up, journal } => {
            eprintln!("{} did not come up: {why}", report.plan.folder);
            journal.iter().for_each(|line| eprintln!("  {line}"));
            match (to, is_up) {
                (Some(to), true) => eprintln!("rolled back: {to} is in use again"),
                (Some(to), false) => eprintln!("rolled back to {to}, which did not start either"),
                (None, _) => eprintln!("there was no release before it: none is in use"),
            }
        }
        _ => {}
    }
}

fn report_json(report: &Report) -> serde_json::Value {
    let (outcome, detail) = match &report.outcome {
        catseye::deploy::Outcome::Planned => ("planned", json!(null)),
        catseye::deploy::Outcome::Refused => ("refused", json!(null)),
        catseye::deploy::Outcome::Deployed => ("deployed", json!(null)),
        catseye::deploy::Outcome::RolledBack { why, to, is_up, journal } => {
            ("rolled back", json!({ "why": why, "to": to, "is_up": is_up, "journal": journal }))
        }
    };
    json!({
        "outcome": outcome,
        "rolled_back": detail,
        "checks": report.checks,
        "plan": report.plan,
        "sent_bytes": report.sent_bytes,
        "removed": report.removed,
        "notes": report.notes,
        "seconds": report.elapsed.as_secs_f64(),
    })
}

/// The sentence that mends it.
fn help(error: &DeployError) -> &'static str {
    match error {
        DeployError::NoConnection { said, .. } if said.contains("Permission denied") => {
            "put your key there with `ssh-copy-id HOST`; passwords are not asked for"
        }
        DeployError::NoConnection { said, .. } if said.contains("Host key verification") => {
            "connect once with `ssh HOST` and look at the key that it shows; after a new installation `ssh-keygen -R HOST` forgets the old one"
        }
        DeployError::NoConnection { said, .. } if said.contains("Could not resolve") => {
            "name it in ~/.ssh/config, or give its address"
        }
        DeployError::NoConnection { .. } => {
            "`ssh HOST true` must work by itself: look at cable, address and whether sshd runs there"
        }
        DeployError::File { .. } => {
            "`cross/build` and `cross/package/build` make target/dist; --tree and --package name another place"
        }
        DeployError::Rig(_) => "each line names the file, the line, the key, what was expected and what was found",
        DeployError::NoRig => "name it with --rig, or say --unit none",
        DeployError::ConnectionLost { .. } => {
            "the target runs what it ran, or went through with the switch by itself; the same command goes on from what has arrived"
        }
        DeployError::DiskFull { .. } => "make room there; the same command goes on from what has arrived",
        DeployError::Busy { .. } => "wait for it; a lock without signs of life is taken over after 15 s",
        DeployError::Overtaken { .. } => "look whether that is what you want, and deploy again",
        DeployError::Damaged { .. } => {
            "deploy again: what is whole stays; if it happens once more, the target's disk or memory is bad"
        }
        DeployError::NotStarting { .. } => {
            "the release in use was not touched; `ldd` on the target names a library that is missing"
        }
        DeployError::Engine { .. } => {
            "the release in use was not touched; --no-engines deploys without, and the models run on the CPU"
        }
        DeployError::Interrupted => "the same command goes on from what has arrived",
        _ => "",
    }
}
