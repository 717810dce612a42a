//! Clocks: who keeps the wall clock, PTP hardware, and what the kernel counts time with.
//!
//! Sources: `adjtimex(2)` (`STA_UNSYNC`) by way of `timedatectl`, `/run/systemd/timesync/synchronized` (`systemd-timesyncd.service(8)`),
//! the programs that run, `/sys/class/ptp/*/clock_name` (`ABI/testing/sysfs-ptp`), and `clocksource0/current_clocksource`.

use super::{Finding, Machine, list_text};

/// Programs that discipline a clock, by their short names.
const KEEPERS: [(&str, &str); 7] = [
    ("chronyd", "chrony"),
    ("ntpd", "ntpd"),
    ("ntpd-rs", "ntpd-rs"),
    ("ntp-daemon", "ntpd-rs"),
    ("systemd-timesyn", "systemd-timesyncd"),
    ("phc2sys", "phc2sys"),
    ("gptpd", "gptpd"),
];

pub fn check(machine: &Machine) -> Vec<Finding> {
    let programs: Vec<String> = machine.root.programs().into_iter().map(|(_, name)| name).collect();
    let mut findings = vec![wall_clock(machine, &programs), ptp(machine, &programs)];
    findings.extend(source(machine));
    findings
}

fn wall_clock(machine: &Machine, programs: &[String]) -> Finding {
    const SUBJECT: &str = "wall clock";
    const MEND: &str = "`sudo apt install chrony`, or `sudo timedatectl set-ntp true`; in a car, ptp4l and phc2sys";
    let mut keepers: Vec<&str> =
        KEEPERS.iter().filter(|(name, _)| programs.iter().any(|one| one == name)).map(|(_, words)| *words).collect();
    keepers.dedup();
    let by = if keepers.is_empty() { String::new() } else { format!(" by {}", list_text(&keepers)) };
    let is_synchronised = machine
        .facts
        .clock_synchronised
        .or_else(|| machine.root.exists("/run/systemd/timesync/synchronized").then_some(true));
    match is_synchronised {
        Some(true) => Finding::green(SUBJECT, format!("synchronised{by}")),
        Some(false) if keepers.is_empty() => {
            Finding::yellow(SUBJECT, "nobody keeps it: stamps of this machine and of others drift apart", MEND)
        }
        Some(false) => Finding::yellow(
            SUBJECT,
            format!("not synchronised, although {} runs", list_text(&keepers)),
            "give it a minute; then `chronyc sources`, `timedatectl timesync-status` or the log of ptp4l says which server does not answer",
        ),
        None if keepers.is_empty() => Finding::yellow(SUBJECT, "no program that keeps it is seen to run", MEND),
        None => {
            Finding::green(SUBJECT, format!("kept{by}; whether it is synchronised is not told without timedatectl"))
        }
    }
}

fn ptp(machine: &Machine, programs: &[String]) -> Finding {
    const SUBJECT: &str = "PTP";
    let clocks = machine.root.names("/sys/class/ptp");
    let named = clocks.iter().map(|clock| {
        let name = machine.root.text(&format!("/sys/class/ptp/{clock}/clock_name")).unwrap_or_default();
        if name.is_empty() { clock.clone() } else { format!("{clock} ({name})") }
    });
    let named = list_text(named);
    let runs = |program: &str| programs.iter().any(|one| one == program);
    match (clocks.is_empty(), runs("ptp4l") || runs("gptpd"), runs("phc2sys")) {
        (true, false, _) => {
            Finding::green(SUBJECT, "no hardware clock and no ptp4l: sensors' stamps are mapped by arrival")
        }
        (true, true, _) => Finding::green(SUBJECT, "ptp4l runs, on software stamps: there is no hardware clock"),
        (false, false, _) => Finding::green(
            SUBJECT,
            format!("{named}; ptp4l does not run, so lidars and cameras on PTP have no master here"),
        ),
        (false, true, true) => Finding::green(SUBJECT, format!("{named}; ptp4l and phc2sys run")),
        (false, true, false) => Finding::yellow(
            SUBJECT,
            format!("{named}; ptp4l runs, but phc2sys does not: the hardware clock and the wall clock drift apart"),
            "`sudo phc2sys -a -rr`, or `sudo systemctl enable --now phc2sys`",
        ),
    }
}

/// Clocks that take a microsecond and more to read.
const SLOW_SOURCES: [&str; 3] = ["hpet", "acpi_pm", "jiffies"];

fn source(machine: &Machine) -> Option<Finding> {
    let name = machine.root.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    if SLOW_SOURCES.contains(&name.as_str()) {
        let mend = "look in `sudo dmesg | grep -i tsc` why the kernel gave the processor's counter up";
        return Some(Finding::yellow(
            "counter",
            format!("the kernel counts time with {name}, which is slow to read"),
            mend,
        ));
    }
    Some(Finding::green("counter", name))
}
