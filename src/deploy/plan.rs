//! What a deploy will do, in words and numbers, before it does anything.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Settings;
use super::diff::Diff;
use super::engines::EngineOrder;
use super::facts::Facts;
use super::release::Release;
use super::rig::RigPart;

/// What a deploy will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The release's folder on the target.
    pub folder: String,
    /// The release in use so far.
    pub current: Option<String>,
    /// Whether the release is there already.
    pub is_there: bool,
    /// Files of the release.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Paths of the files that are sent.
    pub send: Vec<String>,
    /// Their size, before compression.
    pub send_bytes: u64,
    /// Files that the release in use has too.
    pub linked: usize,
    /// Files that a lost connection left.
    pub kept: usize,
    /// Engines that are built on the target where they are not there.
    pub engines: Vec<EngineOrder>,
    /// The service that is started anew.
    pub unit: Option<String>,
    /// What is run on the target to bring the release up, in order.
    pub commands: Vec<String>,
    /// Which of the commands need root, as they would stand in sudo's rules.
    pub root_commands: Vec<String>,
}

impl Plan {
    /// Of all that is known.
    #[must_use]
    pub fn new(
        settings: &Settings,
        facts: &Facts,
        release: &Release,
        rig: Option<&RigPart>,
        diff: &Diff<'_>,
        folder: String,
    ) -> Plan {
        let unit = rig.and_then(|rig| settings.unit.service(&rig.name));
        let can_build = settings.engines && facts.nvinfer.is_some() && facts.libcuda.is_some();
        let engines = rig.filter(|_| can_build).map(|rig| rig.engines.clone()).unwrap_or_default();
        let mut plan = Plan {
            current: facts.current.clone(),
            is_there: diff.is_whole,
            files: release.entries.len(),
            bytes: release.bytes(),
            send: diff.send.iter().map(|entry| entry.path.clone()).collect(),
            send_bytes: diff.send_bytes(),
            linked: diff.link.len(),
            kept: diff.keep.len(),
            engines,
            commands: Vec::new(),
            root_commands: Vec::new(),
            unit,
            folder,
        };
        plan.root_commands = plan.as_root(settings, facts, release);
        plan.commands = plan.all(settings, facts, rig);
        plan
    }

    /// What preparing and activation do as root: the exact words, since rules of sudo name them.
    fn as_root(&self, settings: &Settings, facts: &Facts, release: &Release) -> Vec<String> {
        let (prefix, root) = (&settings.prefix, &settings.system_root);
        let mut commands = Vec::new();
        if !facts.is_writable {
            commands.push(format!("mkdir -p {prefix}"));
            commands.push(format!("chown {} {prefix}", facts.uid));
        }
        if !facts.has_systemd || (self.unit.is_none() && facts.unit.is_none()) {
            return commands;
        }
        let mut folders = BTreeSet::new();
        for path in release.entries.keys() {
            let Some((from, to)) = system_file(path) else { continue };
            let to = format!("{root}{to}");
            folders.extend(to.rsplit_once('/').map(|(folder, _)| format!("mkdir -p {folder}")));
            commands.push(format!("cp {prefix}/{from} {to}"));
            commands.extend(after_copy(path).map(str::to_owned));
        }
        commands.splice(0..0, folders);
        commands.push("systemctl daemon-reload".to_owned());
        let former = facts.unit.iter().filter(|former| Some(*former) != self.unit.as_ref());
        commands.extend(former.map(|former| format!("systemctl disable --now {former}")));
        if let Some(unit) = &self.unit {
            commands.push(format!("systemctl enable {unit}"));
            commands.push(format!("systemctl restart {unit}"));
            commands.push(format!("systemctl disable --now {unit}"));
            commands.push(format!("journalctl -u {unit} -n 20 --no-pager -o cat"));
        }
        commands
    }

    fn all(&self, settings: &Settings, facts: &Facts, rig: Option<&RigPart>) -> Vec<String> {
        let Settings { prefix, health, .. } = settings;
        let (release, current) = (format!("{prefix}/releases/{}", self.folder), format!("{prefix}/current"));
        let mut commands =
            vec![format!("sha256sum -c .manifest in {release}"), format!("{release}/usr/bin/catseye --version")];
        commands.extend(self.engines.iter().map(|engine| engine.command(&release, &format!("{prefix}/engines"))));
        commands.push(format!("rename a link to releases/{} to {current}", self.folder));
        if facts.has_systemd && (self.unit.is_some() || facts.unit.is_some()) {
            commands.push(format!("copy units, rules and settings of {release} into {}/etc", settings.system_root));
        }
        if let Some(unit) = self.unit.as_ref().filter(|_| facts.has_systemd) {
            commands.push(format!("systemctl restart {unit}, and watch it for {} s", health.as_secs()));
        }
        if let Some(rig) = rig {
            commands.push(format!("{current}/usr/bin/catseye rig check {current}/etc/catseye/rigs/{}.toml", rig.name));
        }
        commands
    }
}

/// Where activation takes a file of the system from, below the prefix, and where it goes.
fn system_file(path: &str) -> Option<(String, String)> {
    let (folder, name) = path.rsplit_once('/')?;
    let to = match folder {
        // units are written for the prefix first
        "usr/lib/systemd/system" => return Some((format!("system/{name}"), format!("/etc/systemd/system/{name}"))),
        "usr/lib/sysusers.d" | "usr/lib/tmpfiles.d" => folder.replace("usr/lib", "/etc"),
        "usr/lib/udev/rules.d" => "/etc/udev/rules.d".to_owned(),
        "etc/catseye" if name.ends_with(".env") => "/etc/catseye".to_owned(),
        _ => return None,
    };
    Some((format!("current/{path}"), format!("{to}/{name}")))
}

/// What makes the system read such a file.
fn after_copy(path: &str) -> Option<&'static str> {
    match path.rsplit_once('/')?.0 {
        "usr/lib/sysusers.d" => Some("systemd-sysusers catseye.conf"),
        "usr/lib/tmpfiles.d" => Some("systemd-tmpfiles --create catseye.conf"),
        "usr/lib/udev/rules.d" => Some("udevadm control --reload"),
        _ => None,
    }
}
