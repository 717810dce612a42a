//! A release of catseye is put on another computer over ssh, and comes into use there as a whole or not at all.
//!
//! ```text
//!  install root, rig ─▶ release ─▶ diff ─▶ stage, send, seal ─▶ activate ─▶ (roll back)
//!  target ─▶ probe ─▶ facts ─▶ checks ┘      under the lock       one step on the target
//! ```
//!
//! A [`Release`] is a set of files with modes and digests; its name holds a digest of that. On the target releases
//! lie in `PREFIX/releases/NAME`, and `PREFIX/current` is a link to the one in use, switched by rename(2). What is on the way lies in
//! `NAME.part`, takes its name only when every digest was held against the manifest on the target, and is continued by the next deploy
//! when the connection is lost. Nothing is copied before every [`Check`] is passed.
//!
//! Steps on the target are texts for a POSIX shell in `remote/`, which take arguments and print lines `key value`; what they need is
//! tar, gzip, sha256sum, find and their like. The last step, `activate.sh`, switches, watches and rolls back by itself, so that a laptop
//! that goes away in the middle leaves a target that runs.

pub mod checks;
pub mod diff;
pub mod engines;
pub mod error;
pub mod facts;
pub mod lock;
pub mod plan;
pub mod program;
pub mod release;
pub mod rig;
pub mod send;
pub mod ssh;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use self::checks::{Check, Verdict};
use self::diff::{Diff, Present};
pub use self::error::DeployError;
use self::facts::Facts;
use self::lock::Lock;
pub use self::plan::Plan;
use self::program::Architecture;
use self::release::Release;
use self::rig::RigPart;
use self::ssh::{ACTIVATE, HAVE, PROBE, SEAL, STAGE, SUDO, Ssh, SshSettings, TRY, Target};

/// Where the files of a release come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `target/dist/ARCHITECTURE/tree` under the current folder, for the target's architecture.
    Built,
    /// A folder laid out as the root of an installation.
    Tree(PathBuf),
    /// The same as a compressed archive.
    Package(PathBuf),
}

/// The service that runs on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `catseye-run@RIG.service`
    Run,
    /// `catseye-record@RIG.service`
    Record,
    /// None: only files are put there.
    None,
}

impl Unit {
    /// The unit of a rig, as systemd calls it.
    #[must_use]
    pub fn service(self, rig: &str) -> Option<String> {
        match self {
            Unit::Run => Some(format!("catseye-run@{rig}.service")),
            Unit::Record => Some(format!("catseye-record@{rig}.service")),
            Unit::None => None,
        }
    }
}

/// What is deployed, where to, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the target is reached.
    pub ssh: SshSettings,
    /// The files.
    pub source: Source,
    /// The rig that the target runs.
    pub rig: Option<PathBuf>,
    /// The service that runs it.
    pub unit: Unit,
    /// The folder on the target.
    pub prefix: String,
    /// What stands before `/etc` and `/usr` on the target; empty but in tests.
    pub system_root: String,
    /// How many releases stay on the target.
    pub keep: usize,
    /// How long the service is watched before the deploy is called good.
    pub health: Duration,
    /// Whether TensorRT engines are built on the target.
    pub engines: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// What the caller is told while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// All checks, before anything is copied.
    Checks(&'a [Check]),
    /// What will be done.
    Plan(&'a Plan),
    /// What is done now.
    Step(&'a str),
    /// Bytes of files that went into the archive.
    Sent {
        /// So far.
        done: u64,
        /// In all.
        all: u64,
    },
    /// A line of a program on the target.
    Line(&'a str),
}

/// How a deploy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be changed.
    Planned,
    /// A check was not passed, and nothing was changed.
    Refused,
    /// The release is in use.
    Deployed,
    /// The release did not come up, and the former one is in use again.
    RolledBack {
        /// What went wrong.
        why: String,
        /// The release that is in use now, or none.
        to: Option<String>,
        /// Whether that one came up again.
        is_up: bool,
        /// The last words of what failed.
        journal: Vec<String>,
    },
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was checked.
    pub checks: Vec<Check>,
    /// What was to be done.
    pub plan: Plan,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes that went over the connection, compressed.
    pub sent_bytes: u64,
    /// Former releases that were removed.
    pub removed: Vec<String>,
    /// What else the target said.
    pub notes: Vec<String>,
    /// From the first connection to the end.
    pub elapsed: Duration,
}

type Tell<'a> = &'a mut dyn FnMut(Event<'_>);

/// Deploys. `stop` ends it in good order before the switch; after it the target goes on to the end.
///
/// # Errors
/// Whatever kept the release from the target; the release in use is then the former one.
pub fn deploy(settings: &Settings, stop: &AtomicBool, tell: Tell<'_>) -> Result<Report, DeployError> {
    let start = Instant::now();
    settings.check()?;
    let named = match &settings.source {
        Source::Built => None,
        source => Some(prepare(settings, source)?),
    };
    tell(Event::Step("connect"));
    let ssh = Ssh::connect(&settings.ssh)?;
    let target = Target::new(&ssh, &settings.prefix, &settings.system_root, stop);
    let facts = Facts::parse(&target.ask(&PROBE, &[], b"")?)?;
    let (release, rig) = match named {
        Some(named) => named,
        None => prepare(settings, &built(&facts)?)?,
    };
    tell(Event::Step("compare"));
    let name = release.name();
    let (folder, present) = find_folder(&target, &facts, &release, &name)?;
    let diff = Diff::new(&release, &present);
    let plan = Plan::new(settings, &facts, &release, rig.as_ref(), &diff, folder);
    let denied = denied_commands(&target, &facts, &plan)?;
    let checks = checks::check(settings, &facts, &release, rig.as_ref(), &plan, &denied);
    tell(Event::Checks(&checks));
    tell(Event::Plan(&plan));
    let is_refused = checks.iter().any(|check| check.verdict == Verdict::Wrong);
    let mut report = Report {
        checks,
        outcome: if is_refused { Outcome::Refused } else { Outcome::Planned },
        sent_bytes: 0,
        removed: Vec::new(),
        notes: rig.map(|rig| rig.notes).unwrap_or_default(),
        elapsed: start.elapsed(),
        plan,
    };
    if is_refused || settings.dry_run {
        return Ok(report);
    }
    let lock = Lock::acquire(&target, tell)?;
    // another deploy may have gone through, or failed, since the target was looked at
    if lock.current != facts.current {
        return Err(DeployError::Overtaken { by: lock.current.clone().unwrap_or_default() });
    }
    let part = target.ask(&HAVE, &[&report.plan.folder, "part"], b"")?;
    let diff = Diff::new(&release, &present.with_part(&part));
    put(&target, &release, &diff, &mut report, tell)?;
    try_program(&target, &report.plan.folder)?;
    for order in &report.plan.engines {
        tell(Event::Step(&format!("build the engine of {}", order.model)));
        report.notes.extend(order.build(&target, &report.plan.folder, tell)?);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(DeployError::Interrupted);
    }
    activate(settings, &target, &mut report, tell)?;
    drop(lock);
    report.elapsed = start.elapsed();
    Ok(report)
}

impl Settings {
    fn check(&self) -> Result<(), DeployError> {
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        let is_folder =
            |text: &str| text.starts_with('/') && !text.ends_with('/') && !text.contains("..") && is_plain(text);
        if !is_folder(&self.prefix) {
            return Err(DeployError::Prefix { found: self.prefix.clone() });
        }
        if !self.system_root.is_empty() && !is_folder(&self.system_root) {
            return Err(DeployError::Prefix { found: self.system_root.clone() });
        }
        if self.unit != Unit::None && self.rig.is_none() {
            return Err(DeployError::NoRig);
        }
        Ok(())
    }
}

fn built(facts: &Facts) -> Result<Source, DeployError> {
    let architecture = Architecture::from_uname(&facts.machine);
    let architecture = architecture.ok_or_else(|| DeployError::Machine { found: facts.machine.clone() })?;
    Ok(Source::Tree(["target/dist", architecture.name(), "tree"].iter().collect()))
}

fn prepare(settings: &Settings, source: &Source) -> Result<(Release, Option<RigPart>), DeployError> {
    let mut release = match source {
        Source::Package(path) => Release::from_package(path)?,
        Source::Tree(path) => Release::from_tree(path)?,
        Source::Built => return Err(DeployError::NoRig),
    };
    let Some(path) = &settings.rig else { return Ok((release, None)) };
    let rig = RigPart::add(&mut release, path, settings.unit)?;
    Ok((release, Some(rig)))
}

/// The folder that the release gets on the target, and what is there. One of that name that was changed there is left alone, since it
/// may be in use, and the release gets the next free name.
fn find_folder(
    target: &Target<'_>,
    facts: &Facts,
    release: &Release,
    name: &str,
) -> Result<(String, Present), DeployError> {
    for number in 1.. {
        let folder = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let present = Present::parse(&target.ask(&HAVE, &[&folder, "current", "part", "whole"], b"")?);
        if !facts.releases.contains(&folder) || present.is_whole(release) {
            return Ok((folder, present));
        }
    }
    Err(DeployError::Interrupted)
}

fn denied_commands(target: &Target<'_>, facts: &Facts, plan: &Plan) -> Result<Vec<String>, DeployError> {
    if facts.is_root() || facts.has_sudo || plan.root_commands.is_empty() {
        return Ok(Vec::new());
    }
    let commands = plan.root_commands.join("\n") + "\n";
    Ok(target.ask(&SUDO, &[], commands.as_bytes())?.all("refused").map(str::to_owned).collect())
}

/// Puts the release into its folder.
fn put(
    target: &Target<'_>,
    release: &Release,
    diff: &Diff<'_>,
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<(), DeployError> {
    let folder = report.plan.folder.clone();
    if diff.is_whole {
        return Ok(());
    }
    tell(Event::Step("stage"));
    target.ask(&STAGE, &[&folder], diff.orders().as_bytes())?;
    if !diff.send.is_empty() {
        tell(Event::Step("send"));
        report.sent_bytes = send::send(target, &folder, &diff.send, tell)?;
    }
    tell(Event::Step("verify"));
    let files = release.entries.len().to_string();
    let reply = target.ask(&SEAL, &[&folder, &files], release.manifest().as_bytes())?;
    let bad: Vec<String> = reply.all("bad").map(str::to_owned).collect();
    if !bad.is_empty() {
        return Err(DeployError::Damaged { paths: bad });
    }
    reply.needs("sealed").map(drop)
}

/// A program that cannot start on the target is found out before the switch.
fn try_program(target: &Target<'_>, folder: &str) -> Result<(), DeployError> {
    let reply = target.ask(&TRY, &[folder], b"")?;
    if reply.first("version").is_some() {
        return Ok(());
    }
    let said = reply.all("words").collect::<Vec<_>>().join("; ");
    Err(DeployError::NotStarting { code: reply.needs("unable")?.to_owned(), said })
}

fn activate(settings: &Settings, target: &Target<'_>, report: &mut Report, tell: Tell<'_>) -> Result<(), DeployError> {
    tell(Event::Step("switch"));
    let (seconds, keep) = (settings.health.as_secs().to_string(), settings.keep.to_string());
    let reply =
        target.uninterrupted(&ACTIVATE, &[&report.plan.folder, &seconds, &keep], &mut |key, value| match key {
            "switched" => tell(Event::Step("watch")),
            "version" => tell(Event::Line(value)),
            _ => {}
        })?;
    report.removed = reply.all("removed").map(str::to_owned).collect();
    report.notes.extend(reply.all("doctor").map(|found| format!("catseye doctor: {found}")));
    report.notes.extend(reply.all("unlinked").map(|link| format!("{link} could not be made")));
    if let Some(why) = reply.first("failed") {
        let broken = reply.first("broken");
        let to =
            broken.map_or_else(|| reply.needs("restored"), |broken| Ok(broken.split(':').next().unwrap_or(broken)))?;
        report.outcome = Outcome::RolledBack {
            why: why.to_owned(),
            to: (to != "none").then(|| to.to_owned()),
            is_up: broken.is_none(),
            journal: reply.all("journal").map(str::to_owned).collect(),
        };
        return Ok(());
    }
    reply.needs("up")?;
    report.outcome = Outcome::Deployed;
    Ok(())
}
