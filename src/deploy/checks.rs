//! Whether the target can run the release: looked at before anything is copied, each with the sentence that mends it.

use serde::Serialize;

use super::Settings;
use super::facts::Facts;
use super::plan::Plan;
use super::program::Architecture;
use super::release::Release;
use super::rig::RigPart;
use crate::doctor::board::jetson_release;

/// The oldest C library that released programs run on.
const GLIBC: (u32, u32) = (2, 31);
/// Room that a disk keeps after a deploy.
const SPARE_BYTES: u64 = 64 << 20;
/// Clocks further apart are worth a word: a recording's files are named by them.
const CLOCK_S: f64 = 2.0;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth a word.
    Warning,
    /// Nothing is copied.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it; empty where it is good.
    pub help: String,
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Good, found: found.into(), help: String::new() }
}

fn warning(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Warning, found: found.into(), help: help.into() }
}

fn wrong(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Wrong, found: found.into(), help: help.into() }
}

/// All checks, in the order in which they are told.
#[must_use]
pub fn check(
    settings: &Settings,
    facts: &Facts,
    release: &Release,
    rig: Option<&RigPart>,
    plan: &Plan,
    denied: &[String],
) -> Vec<Check> {
    vec![
        good("ssh", format!("{} as {}", settings.ssh.host, facts.user)),
        tools(facts),
        architecture(facts, release),
        glibc(facts),
        system(facts),
        gpu(facts),
        cuda(facts),
        tensorrt(facts, rig),
        disk(settings, facts, plan),
        clock(facts),
        rights(facts, plan, denied),
        service(settings, facts, rig),
    ]
}

fn tools(facts: &Facts) -> Check {
    if facts.missing.is_empty() {
        return good("tools", "sh, tar, gzip, sha256sum and their like");
    }
    let missing = facts.missing.join(", ");
    wrong(
        "tools",
        format!("{missing} missing"),
        "install the packages tar, gzip, coreutils, findutils, diffutils and sed on the target",
    )
}

fn architecture(facts: &Facts, release: &Release) -> Check {
    let (name, wanted) = ("architecture", release.architecture.name());
    if Architecture::from_uname(&facts.machine) == Some(release.architecture) {
        return good(name, format!("{} runs {wanted}", facts.machine));
    }
    let other = Architecture::from_uname(&facts.machine).map_or("its architecture", Architecture::name);
    let help = format!(
        "deploy a release for {other}: `cross/build` and `cross/package/build` make one; without --tree and --package the target's is taken"
    );
    wrong(name, format!("the target is {}, the release is for {wanted}", facts.machine), help)
}

fn glibc(facts: &Facts) -> Check {
    let wanted = format!("{}.{}", GLIBC.0, GLIBC.1);
    match facts.glibc {
        Some(found) if found >= GLIBC => good("glibc", format!("{}.{}", found.0, found.1)),
        Some(found) => wrong(
            "glibc",
            format!("{}.{}, and the release needs {wanted}", found.0, found.1),
            "update the target: Ubuntu 20.04, JetPack 5 and DRIVE OS 6 have 2.31",
        ),
        None => wrong(
            "glibc",
            "none",
            format!("the target needs a system with glibc {wanted} or newer; another C library cannot run it"),
        ),
    }
}

fn system(facts: &Facts) -> Check {
    let system = facts.system.as_deref().unwrap_or("unknown system");
    let release = match (&facts.l4t, &facts.drive) {
        (Some(l4t), _) => l4t_words(l4t),
        (None, Some(drive)) => format!(", DRIVE OS {drive}"),
        (None, None) => String::new(),
    };
    good("system", format!("{system}{release}, {}", facts.kernel))
}

fn l4t_words(line: &str) -> String {
    let release = jetson_release(line).map(|(release, revision)| format!("R{release}.{revision}"));
    format!(", Jetson Linux {}", release.as_deref().unwrap_or(line))
}

fn gpu(facts: &Facts) -> Check {
    match facts.gpu_words() {
        Some(words) => good("gpu", words),
        None => warning(
            "gpu",
            "none that is known",
            "networks run on the CPU; `nvidia-smi` or the device tree would name a GPU",
        ),
    }
}

fn cuda(facts: &Facts) -> Check {
    match (&facts.libcuda, facts.gpu_words()) {
        (Some(path), _) => good("cuda driver", path.clone()),
        (None, None) => good("cuda driver", "none, and no GPU"),
        (None, Some(_)) => warning(
            "cuda driver",
            "libcuda.so.1 not found",
            "networks run on the CPU; install NVIDIA's driver (JetPack: nvidia-l4t-cuda)",
        ),
    }
}

fn tensorrt(facts: &Facts, rig: Option<&RigPart>) -> Check {
    match &facts.nvinfer {
        Some(path) => good("tensorrt", path.clone()),
        None if facts.libcuda.is_some() && rig.is_some_and(|rig| !rig.engines.is_empty()) => warning(
            "tensorrt",
            "libnvinfer not found",
            "the rig's models run on the CPU; install TensorRT (JetPack: libnvinfer10 or libnvinfer8)",
        ),
        None => good("tensorrt", "none"),
    }
}

fn disk(settings: &Settings, facts: &Facts, plan: &Plan) -> Check {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    // links may turn out to be copies, where the file system has none
    let (needed, free) = (plan.send_bytes, facts.free_bytes);
    let words = format!("{} free, {} to send", mib(free), mib(needed));
    if free >= needed.saturating_add(SPARE_BYTES) || plan.is_there {
        return good("disk", words);
    }
    let help = format!(
        "make room on the disk of {} (the deploy keeps {} free), remove old releases with a smaller --keep, or deploy to another --prefix",
        settings.prefix,
        mib(SPARE_BYTES)
    );
    wrong("disk", words, help)
}

fn clock(facts: &Facts) -> Check {
    let offset = facts.clock_offset_s;
    if offset.abs() <= CLOCK_S {
        return good("clock", format!("within {CLOCK_S} s of this machine's"));
    }
    let where_to = if offset > 0.0 { "ahead of" } else { "behind" };
    let help = "let both follow a time server: `timedatectl set-ntp true`, or chrony against a receiver in the car";
    warning("clock", format!("{:.1} s {where_to} this machine's", offset.abs()), help)
}

fn rights(facts: &Facts, plan: &Plan, denied: &[String]) -> Check {
    if facts.is_root() {
        return good("rights", "root");
    }
    if plan.root_commands.is_empty() {
        return good("rights", "nothing needs root");
    }
    if denied.is_empty() {
        return good("rights", format!("sudo, for: {}", plan.root_commands.join("; ")));
    }
    let rules = denied.join(", ");
    let help = format!(
        "log in as root, or allow the user these commands with `sudo visudo -f /etc/sudoers.d/catseye` on the target: \
         {} ALL=(root) NOPASSWD: {rules}; with --unit none and a --prefix of the user's own nothing needs root",
        facts.user
    );
    wrong("rights", format!("{} is not root and may not run as root: {}", facts.user, denied.join("; ")), help)
}

fn service(settings: &Settings, facts: &Facts, rig: Option<&RigPart>) -> Check {
    let unit = rig.and_then(|rig| settings.unit.service(&rig.name));
    match (unit, &facts.unit) {
        (Some(unit), _) if facts.has_systemd => good("service", unit),
        (Some(unit), _) => warning(
            "service",
            format!("{unit} cannot be started: no systemd runs there"),
            "the program and the rig are checked instead; start `catseye run` by the target's own means",
        ),
        (None, Some(former)) => warning(
            "service",
            format!("none, and {former} of the release in use will be stopped"),
            "name the rig with --rig to keep a service running",
        ),
        (None, None) => good("service", "none"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::diff::{Diff, Present};
    use super::super::facts::tests::orin;
    use super::super::release::tests::tree;
    use super::super::ssh::{Reply, SshSettings};
    use super::super::{Source, Unit};
    use super::*;

    fn settings() -> Settings {
        Settings {
            ssh: SshSettings { host: "orin".to_owned(), program: "ssh".into(), options: Vec::new() },
            source: Source::Built,
            rig: None,
            unit: Unit::Run,
            prefix: "/opt/catseye".to_owned(),
            system_root: String::new(),
            keep: 3,
            health: Duration::from_secs(10),
            engines: true,
            dry_run: true,
        }
    }

    fn rig() -> RigPart {
        RigPart { name: "car".to_owned(), engines: Vec::new(), notes: Vec::new() }
    }

    fn checks(changes: &[(&str, &str)], denied: &[&str]) -> (Vec<Check>, Plan) {
        let keys: Vec<&str> = changes.iter().map(|(key, _)| *key).collect();
        let kept = orin().into_iter().filter(|line| !keys.contains(&line.split(' ').next().unwrap()));
        let changed =
            changes.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key} {value}"));
        let facts = Facts { clock_offset_s: 0.0, ..Facts::parse(&Reply::of(kept.chain(changed))).unwrap() };
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        let (settings, rig) = (settings(), rig());
        let diff = Diff::new(&release, &Present::default());
        let plan = Plan::new(&settings, &facts, &release, Some(&rig), &diff, release.name());
        let denied: Vec<String> = denied.iter().map(|&one| one.to_owned()).collect();
        (check(&settings, &facts, &release, Some(&rig), &plan, &denied), plan)
    }

    fn worst(changes: &[(&str, &str)], denied: &[&str]) -> Vec<(&'static str, Verdict)> {
        let bad = checks(changes, denied).0.into_iter().filter(|check| check.verdict != Verdict::Good);
        bad.map(|check| {
            assert!(!check.help.is_empty());
            (check.name, check.verdict)
        })
        .collect()
    }

    #[test]
    fn an_orin_passes() {
        assert_eq!(worst(&[], &[]), []);
        let system = checks(&[], &[]).0.into_iter().find(|check| check.name == "system").unwrap();
        assert!(system.found.contains("Jetson Linux R36.4.3"), "{}", system.found);
    }

    #[test]
    fn each_check_can_fail() {
        use Verdict::{Warning, Wrong};
        type Case = (&'static [(&'static str, &'static str)], &'static [(&'static str, Verdict)]);
        let cases: [Case; 10] = [
            (&[("machine", "x86_64")], &[("architecture", Wrong)]),
            (&[("machine", "riscv64")], &[("architecture", Wrong)]),
            (&[("glibc", "2.27")], &[("glibc", Wrong)]),
            (&[("glibc", "")], &[("glibc", Wrong)]),
            (&[("free_kib", "1000")], &[("disk", Wrong)]),
            (&[("missing", "gzip")], &[("tools", Wrong)]),
            (&[("libcuda", "")], &[("cuda driver", Warning)]),
            (&[("compatible", "")], &[("gpu", Warning)]),
            (&[("systemd", "")], &[("service", Warning)]),
            (&[("uid", "0"), ("sudo", "")], &[]),
        ];
        for (changes, expected) in cases {
            assert_eq!(worst(changes, &[]), expected, "{changes:?}");
        }
        assert_eq!(worst(&[("sudo", "")], &["systemctl daemon-reload"]), [("rights", Wrong)]);
    }

    #[test]
    fn a_clock_is_told_when_it_is_off() {
        for (offset, word) in [(3.0, "ahead"), (-3.0, "behind")] {
            let check = clock(&Facts { clock_offset_s: offset, ..Facts::default() });
            assert!(check.verdict == Verdict::Warning && check.found.contains(word));
        }
    }

    #[test]
    fn a_plan_names_what_needs_root_and_no_more() {
        let (_, plan) = checks(&[], &[]);
        let needs = |plan: &Plan, start: &str| plan.root_commands.iter().any(|command| command.starts_with(start));
        assert!(needs(&plan, "mkdir -p /opt/catseye") && needs(&plan, "systemctl restart catseye-run@car.service"));
        let (_, plan) = checks(&[("writable", "yes"), ("systemd", "")], &[]);
        assert_eq!(plan.root_commands, Vec::<String>::new());
        assert_eq!((plan.files, plan.send.len(), plan.linked), (3, 3, 0));
        assert!(plan.commands.last().unwrap().ends_with("rig check /opt/catseye/current/etc/catseye/rigs/car.toml"));
    }
}
