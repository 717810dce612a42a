//! Memory, swap, and what a program may lock and ask for.
//!
//! Sources: `/proc/meminfo` and `/proc/self/status` (`proc_meminfo(5)`, `proc_pid_status(5)`; `CapEff` is a mask of `capabilities(7)`),
//! `getrlimit(2)`.

use super::facts::Limit;
use super::{Finding, Machine, Scale, bytes_text};

/// With less, a run of a few cameras on the CPU meets the kernel's memory killer.
const AVAILABLE: Scale = Scale { red_below: 512 << 20, yellow_below: 2 << 30 };
/// What a live run may want to keep from being moved out. A board's stock 64 KiB is next to nothing.
const LOCKED_ENOUGH: u64 = 1 << 30;
const LOCKED_NOTHING: i64 = 1 << 20;

/// Bits of `linux/capability.h`.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_NICE: u32 = 23;

pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![available(machine)];
    findings.extend(swap(machine));
    findings.extend([locked(machine), priority(machine)]);
    findings
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(machine: &Machine, key: &str) -> Option<u64> {
    let text = machine.root.text("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn available(machine: &Machine) -> Finding {
    const SUBJECT: &str = "available";
    let (Some(all), Some(available)) = (meminfo(machine, "MemTotal"), meminfo(machine, "MemAvailable")) else {
        return Finding::yellow(
            SUBJECT,
            "no /proc/meminfo: the memory is unknown",
            "mount /proc (`sudo mount -t proc proc /proc`)",
        );
    };
    let found = format!("{} of {}", bytes_text(available), bytes_text(all));
    const MEND: &str = "end what is not needed; a board without a desktop has 1 GiB more: `sudo systemctl set-default multi-user.target`, then reboot";
    AVAILABLE.judge(available.try_into().unwrap_or(i64::MAX), SUBJECT, found, MEND)
}

fn swap(machine: &Machine) -> Option<Finding> {
    let (all, free) = (meminfo(machine, "SwapTotal")?, meminfo(machine, "SwapFree")?);
    let used = all.saturating_sub(free);
    if used > all / 2 && all > 0 {
        let found =
            format!("{} of {} are in use: pages of a run may come back late", bytes_text(used), bytes_text(all));
        return Some(Finding::yellow(
            "swap",
            found,
            "end what is not needed, then `sudo swapoff -a && sudo swapon -a`",
        ));
    }
    Some(Finding::green(
        "swap",
        if all == 0 { "none".to_owned() } else { format!("{} of {} in use", bytes_text(used), bytes_text(all)) },
    ))
}

fn has_capability(machine: &Machine, bit: u32) -> bool {
    let status = machine.root.text("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask >> bit & 1 == 1)
}

fn locked(machine: &Machine) -> Finding {
    const SUBJECT: &str = "locked memory";
    if has_capability(machine, CAP_IPC_LOCK) {
        return Finding::green(SUBJECT, "without limit for this user (CAP_IPC_LOCK)");
    }
    let bytes = match machine.facts.locked_memory_bytes {
        None => return Finding::yellow(SUBJECT, "the limit is unknown", "`ulimit -l` tells it"),
        Some(Limit::Unlimited(_)) => return Finding::green(SUBJECT, "without limit"),
        Some(Limit::At(bytes)) => bytes,
    };
    let found = match bytes {
        ..LOCKED_ENOUGH => format!(
            "at most {} may be locked: pages of a live run can be moved out of memory while it drives",
            bytes_text(bytes)
        ),
        _ => format!("up to {}", bytes_text(bytes)),
    };
    let mend = "`echo '* - memlock unlimited' | sudo tee -a /etc/security/limits.d/catseye.conf`, then log in anew; in a unit of systemd `LimitMEMLOCK=infinity`, in a container `--ulimit memlock=-1`";
    // a machine for replay is not stopped by it
    let red_below = if machine.is_target() { LOCKED_NOTHING } else { 0 };
    let scale = Scale { red_below, yellow_below: LOCKED_ENOUGH as i64 };
    scale.judge(bytes.try_into().unwrap_or(i64::MAX), SUBJECT, found, mend)
}

fn priority(machine: &Machine) -> Finding {
    const SUBJECT: &str = "real-time priority";
    if has_capability(machine, CAP_SYS_NICE) {
        return Finding::green(SUBJECT, "any for this user (CAP_SYS_NICE)");
    }
    let mend = "`echo '* - rtprio 95' | sudo tee -a /etc/security/limits.d/catseye.conf`, then log in anew; in a unit of systemd `LimitRTPRIO=95`, in a container `--ulimit rtprio=95`";
    match machine.facts.realtime_priority {
        None => Finding::yellow(SUBJECT, "the limit is unknown", "`ulimit -r` tells it"),
        Some(Limit::Unlimited(_)) => Finding::green(SUBJECT, "any"),
        Some(Limit::At(0)) if machine.is_target() => Finding::yellow(SUBJECT, "threads may not be given one", mend),
        Some(Limit::At(0)) => Finding::green(SUBJECT, "none, which replay does not need"),
        Some(Limit::At(highest)) => Finding::green(SUBJECT, format!("up to {highest}")),
    }
}
