//! The kernel: version, preemption, and what real-time threads may take.
//!
//! Sources: `/proc/sys/kernel/osrelease`, `/proc/version`, `/sys/kernel/realtime` (set by kernels with PREEMPT_RT),
//! `sched_rt_runtime_us` (`scheduler/sched-rt-group`).

use super::{Finding, Machine};

/// Lent buffers, memory of several planes and stamps of the kernel's are as catseye needs them from here on: JetPack 5 and DRIVE OS 6
/// have 5.10.
const OLDEST: (u32, u32) = (5, 4);

pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![version(machine), preemption(machine)];
    findings.extend(realtime_share(machine));
    findings
}

fn version(machine: &Machine) -> Finding {
    const SUBJECT: &str = "version";
    let Some(release) = machine.root.text("/proc/sys/kernel/osrelease") else {
        return Finding::yellow(
            SUBJECT,
            "no /proc/sys/kernel/osrelease: the kernel is unknown",
            "mount /proc (`sudo mount -t proc proc /proc`)",
        );
    };
    let mut numbers =
        release.split(|symbol: char| !symbol.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            let found = format!("{release} is older than {}.{}", OLDEST.0, OLDEST.1);
            Finding::yellow(SUBJECT, found, "update the system: catseye is not tested on it")
        }
        _ => Finding::green(SUBJECT, release),
    }
}

/// Whether the kernel is one with PREEMPT_RT.
pub(super) fn is_realtime(machine: &Machine) -> bool {
    let version = machine.root.text("/proc/version").unwrap_or_default();
    machine.root.text("/sys/kernel/realtime").as_deref() == Some("1")
        || version.contains("PREEMPT_RT")
        || version.contains("PREEMPT RT")
}

fn preemption(machine: &Machine) -> Finding {
    const SUBJECT: &str = "preemption";
    if is_realtime(machine) {
        return Finding::green(SUBJECT, "PREEMPT_RT");
    }
    if !machine.is_target() {
        return Finding::green(SUBJECT, "no PREEMPT_RT, which replay does not need");
    }
    Finding::yellow(
        SUBJECT,
        "no PREEMPT_RT: a driver can hold a tick up for milliseconds",
        "on a Jetson `sudo apt install nvidia-l4t-rt-kernel` (JetPack 6: see \"Real-Time Kernel\" in the Developer Guide), then reboot; DRIVE OS comes with one",
    )
}

/// How much of the time real-time threads may have.
fn realtime_share(machine: &Machine) -> Option<Finding> {
    const SUBJECT: &str = "real-time share";
    let runtime: i64 = machine.root.number("/proc/sys/kernel/sched_rt_runtime_us")?;
    let period: i64 = machine.root.number("/proc/sys/kernel/sched_rt_period_us").unwrap_or(1_000_000);
    Some(match runtime {
        0 => Finding::yellow(
            SUBJECT,
            "real-time threads may not run at all",
            "`sudo sysctl kernel.sched_rt_runtime_us=950000`",
        ),
        ..0 => {
            Finding::green(SUBJECT, "without limit: a real-time thread that never waits stops all others on its core")
        }
        _ => Finding::green(SUBJECT, format!("{} of {} ms", runtime / 1000, period / 1000)),
    })
}
