//! What a deploy will do, in words and numbers, before it does anything.

use serde::Serialize;

use super::diff::Diff;
use super::engines::EngineOrder;
use super::facts::Facts;
use super::release::Release;
use super::rig::RigPart;
use super::{Settings, Unit};

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

    /// What activation does as root: the exact words, since rules of sudo name them.
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
        for path in release.entries.keys() {
            let (from, to) = match path.rsplit_once('/') {
                Some(("usr/lib/systemd/system", name)) if name.ends_with(".service") => {
                    (format!("{prefix}/system/{name}"), format!("/etc/systemd/system/{name}"))
                }
                Some(("usr/lib/sysusers.d", name)) => {
                    (format!("{prefix}/releases/{}/{path}", self.folder), format!("/etc/sysusers.d/{name}"))
                }
                Some(("usr/lib/tmpfiles.d", name)) => {
                    (format!("{prefix}/releases/{}/{path}", self.folder), format!("/etc/tmpfiles.d/{name}"))
                }
                Some(("usr/lib/udev/rules.d", name)) => {
                    (format!("{prefix}/releases/{}/{path}", self.folder), format!("/etc/udev/rules.d/{name}"))
                }
                _ => continue,
            };
            commands.push(format!("cp {from} {root}{to}"));
        }
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

impl Settings {
    /// Whether a service is to run.
    #[must_use]
    pub fn has_unit(&self) -> bool {
        self.unit != Unit::None
    }
}
