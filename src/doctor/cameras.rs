//! Cameras of V4L2: which there are, what they send, and who has them.
//!
//! Sources: `/sys/class/video4linux` for what is there, the device itself for its formats (V4L2 API, `VIDIOC_ENUM_FMT`), and the links
//! of `/proc/PID/fd` (`proc_pid_fd(5)`) for who has it open. Only root sees those of other users' programs.

use catseye_sensors::v4l2::{BayerDepth, CameraFormat, FourCc};

use super::facts::{CameraFacts, CameraState, is_camera};
use super::{Finding, Machine, list_text};

pub fn check(machine: &Machine) -> Vec<Finding> {
    let answered = machine.facts.cameras.iter();
    let mut findings: Vec<Finding> = answered.map(|camera| judge(machine, camera)).collect();
    findings.extend(silent(machine).iter().map(|path| unasked(machine, path)));
    if findings.is_empty() {
        findings.push(none(machine));
    }
    findings
}

fn none(machine: &Machine) -> Finding {
    if !machine.is_target() {
        return Finding::green("V4L2", "no camera, which replay does not need");
    }
    let has_devices = machine.root.names("/dev").iter().any(|name| is_camera(name));
    Finding::yellow(
        "V4L2",
        if has_devices { "no camera: no /dev/video* gives pictures" } else { "no camera: there is no /dev/video*" },
        "plug one in; one on CSI or GMSL needs its driver and device tree: `sudo dmesg | grep -iE 'tegra-camrtc|nvcsi|imx|max9'`",
    )
}

/// Devices of which no answer is known: not asked, or no camera but one that carries metadata or encodes.
fn silent(machine: &Machine) -> Vec<String> {
    if machine.root.is_here() {
        // there every device was asked
        return Vec::new();
    }
    let names =
        machine.root.names("/dev").into_iter().filter(|name| is_camera(name)).map(|name| format!("/dev/{name}"));
    names.filter(|path| machine.facts.cameras.iter().all(|camera| camera.path != *path)).collect()
}

/// One that is only known from files.
fn unasked(machine: &Machine, path: &str) -> Finding {
    let name = path.trim_start_matches("/dev/");
    let card = machine
        .root
        .text(&format!("/sys/class/video4linux/{name}/name"))
        .unwrap_or_else(|| "a video device".to_owned());
    held(machine, path, &card).unwrap_or_else(|| Finding::green(path, card))
}

fn judge(machine: &Machine, camera: &CameraFacts) -> Finding {
    let CameraFacts { path, card, formats, state, .. } = camera;
    match state {
        CameraState::Busy => {
            let holders = holders(machine, path);
            let who = if holders.is_empty() { "another program".to_owned() } else { list_text(holders) };
            return Finding::red(path, format!("busy: {who} has it"), "end that program, then look again");
        }
        CameraState::Refused(words) => {
            let mend = "see `permissions` below; if those are right, plug it in anew and look at `sudo dmesg`";
            return Finding::red(path, format!("does not open: {words}"), mend);
        }
        CameraState::Opens => {}
    }
    if let Some(finding) = held(machine, path, card) {
        return finding;
    }
    let found = format!("{card}: {}", list_text(formats));
    match formats.is_empty() || formats.iter().any(|format| is_understood(format)) {
        true => Finding::green(path, found),
        false => Finding::yellow(
            path,
            format!("{found}: none of these formats can be a live source"),
            "use a camera or driver that gives NV12, YUYV, UYVY, MJPG, or raw pictures of 10 or 12 bits (`v4l2-ctl --list-formats-ext`)",
        ),
    }
}

/// One that is open elsewhere: that may be a look at it or a stream, and only the second is in the way.
fn held(machine: &Machine, path: &str, card: &str) -> Option<Finding> {
    let holders = holders(machine, path);
    if holders.is_empty() {
        return None;
    }
    let found = format!("{card}: in use by {}", list_text(holders));
    Some(Finding::yellow(path, found, "end that program before `catseye run`: a camera streams to one program"))
}

/// Programs that have a file open, with their numbers.
pub(super) fn holders(machine: &Machine, path: &str) -> Vec<String> {
    let root = &machine.root;
    // a link names the file as the program saw it, and a program outside sees the root too
    let outside = root.join(path);
    let has_it = |pid: u32| {
        let folder = format!("/proc/{pid}/fd");
        let links = root.names(&folder).into_iter().filter_map(|number| root.link(&format!("{folder}/{number}")));
        links.into_iter().any(|link| link.as_os_str() == path || link == outside)
    };
    let own = std::process::id();
    let others = root.programs().into_iter().filter(|(pid, _)| !(root.is_here() && *pid == own));
    others.filter(|(pid, _)| has_it(*pid)).map(|(pid, name)| format!("{name} ({pid})")).collect()
}

/// Whether a live camera may send it: what `live::camera` can ask for.
fn is_understood(format: &str) -> bool {
    let code = <[u8; 4]>::try_from(format.as_bytes()).ok().map(FourCc);
    let format = code.and_then(CameraFormat::from_fourcc);
    format.is_some_and(|format| !matches!(format, CameraFormat::Bayer(_, BayerDepth::Bits8) | CameraFormat::Nv12Apart))
}
