//! Who the user is, and which devices they may open.
//!
//! A device's file says which group it belongs to (`/etc/group` names it); where it does not, the group is the one that
//! distributions of Linux give it: `video` for cameras and NVIDIA's nodes, `render` for `/dev/dri/renderD*`, `dialout` for serial ports.

use std::os::unix::fs::MetadataExt;

use super::{Access, Finding, Machine, list_text};

/// Devices of a kind.
struct Kind {
    what: &'static str,
    folder: &'static str,
    starts: &'static [&'static str],
    group: &'static str,
    /// Whether catseye needs them, where they are there.
    is_needed: bool,
}

const KINDS: [Kind; 5] = [
    Kind { what: "cameras", folder: "/dev", starts: &["video"], group: "video", is_needed: true },
    Kind {
        what: "GPU",
        folder: "/dev",
        starts: &["nvidia0", "nvidiactl", "nvidia-uvm", "nvhost-ctrl-gpu", "nvhost-gpu", "nvhost-as-gpu", "nvmap"],
        group: "video",
        is_needed: true,
    },
    Kind {
        what: "GPU of the board",
        folder: "/dev/nvgpu/igpu0",
        starts: &["ctrl", "as", "channel", "tsg"],
        group: "video",
        is_needed: true,
    },
    Kind { what: "rendering", folder: "/dev/dri", starts: &["renderD"], group: "render", is_needed: false },
    Kind {
        what: "serial ports",
        folder: "/dev",
        starts: &["ttyUSB", "ttyACM", "ttyTHS"],
        group: "dialout",
        is_needed: false,
    },
];

pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![user(machine)];
    findings.extend(KINDS.iter().filter_map(|kind| judge(machine, kind)));
    findings
}

fn user(machine: &Machine) -> Finding {
    const SUBJECT: &str = "user";
    match machine.facts.uid {
        None => Finding::yellow(SUBJECT, "unknown", "`id` tells it"),
        Some(0) => Finding::yellow(
            SUBJECT,
            "root, who may do everything: what works here may fail for the user that drives",
            "run it again as the user that runs catseye (in a container root is as good as any)",
        ),
        Some(uid) => {
            let name = name_of(machine, "/etc/passwd", uid).unwrap_or_else(|| uid.to_string());
            Finding::green(SUBJECT, format!("{name}, in the groups {}", list_text(groups(machine))))
        }
    }
}

/// A number's name in `/etc/passwd` or `/etc/group`.
fn name_of(machine: &Machine, file: &str, number: u32) -> Option<String> {
    let text = machine.root.text(file)?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

/// The user's groups, by name where they have one.
fn groups(machine: &Machine) -> Vec<String> {
    let gids = machine.facts.gids.iter().flatten();
    gids.map(|gid| name_of(machine, "/etc/group", *gid).unwrap_or_else(|| gid.to_string())).collect()
}

fn judge(machine: &Machine, kind: &Kind) -> Option<Finding> {
    let is_of = |name: &String| kind.starts.iter().any(|start| name.starts_with(start));
    let names = machine.root.names(kind.folder).into_iter().filter(is_of);
    let paths: Vec<String> = names.map(|name| format!("{}/{name}", kind.folder)).collect();
    let denied: Vec<&String> = paths.iter().filter(|path| machine.can_open(path) == Access::Denied).collect();
    let Some(first) = denied.first() else {
        // an empty kind is the matter of other checks
        let count = paths.len();
        return (count > 0)
            .then(|| Finding::green(kind.what, format!("{count} device files in {} may be opened", kind.folder)));
    };
    let group = group_of(machine, first).unwrap_or_else(|| kind.group.to_owned());
    let found = match denied.len() {
        1 => format!("{first} may not be opened"),
        more => format!("{first} and {} more may not be opened", more - 1),
    };
    let mend = if groups(machine).contains(&group) {
        format!(
            "`ls -l {first}`: the group {group} has no right to it; `sudo chmod g+rw {first}`, and a rule in /etc/udev/rules.d to keep it"
        )
    } else {
        format!("`sudo usermod -aG {group} $USER`, then log in anew; in a container `--group-add {group}`")
    };
    Some(if kind.is_needed { Finding::red(kind.what, found, mend) } else { Finding::yellow(kind.what, found, mend) })
}

/// The group of a device; that of a file in a folder that stands for a machine says nothing, nor does root's own.
fn group_of(machine: &Machine, path: &str) -> Option<String> {
    if !machine.root.is_here() {
        return None;
    }
    let gid = std::fs::metadata(machine.root.join(path)).ok()?.gid();
    name_of(machine, "/etc/group", gid).filter(|name| name != "root")
}
