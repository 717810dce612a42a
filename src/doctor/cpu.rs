//! The processor: cores that are there, governor, limits of its clock, and cores that are kept free.
//!
//! Sources: `/sys/devices/system/cpu` (`ABI/testing/sysfs-devices-system-cpu`, `admin-guide/pm/cpufreq`): `present`, `online`,
//! `isolated`, `nohz_full`, `cpu*/cpufreq/{scaling_governor,scaling_max_freq,cpuinfo_max_freq}`.

use std::collections::BTreeMap;

use super::{Finding, Machine, kernel, list_text};

const FOLDER: &str = "/sys/devices/system/cpu";

pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![cores(machine), governor(machine)];
    findings.extend(limit(machine));
    findings.extend([isolation(machine)]);
    findings
}

/// How many numbers a list as `0-3,6` has.
fn count(list: &str) -> Option<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').map(range).try_fold(0_u32, |sum, range| sum.checked_add(range?))
}

fn cores(machine: &Machine) -> Finding {
    const SUBJECT: &str = "cores";
    let of = |file: &str| machine.root.text(&format!("{FOLDER}/{file}")).and_then(|list| count(&list));
    match (of("present"), of("online")) {
        (Some(present), Some(online)) if online < present => Finding::yellow(
            SUBJECT,
            format!("{online} of {present} are on"),
            "on a Jetson the power mode switches cores off: `sudo nvpmodel -m 0`, or the one named MAXN; else `echo 1 | sudo tee /sys/devices/system/cpu/cpuN/online`",
        ),
        (_, Some(online)) => Finding::green(SUBJECT, format!("{online}, all on")),
        _ => Finding::yellow(
            SUBJECT,
            "no /sys/devices/system/cpu/online: the cores are unknown",
            "mount /sys (`sudo mount -t sysfs sysfs /sys`)",
        ),
    }
}

/// What each core says in a file of its clock, and how many say so.
fn words_of_cores(machine: &Machine, file: &str) -> BTreeMap<String, u32> {
    let mut words = BTreeMap::new();
    for core in machine.root.names(FOLDER) {
        let is_core = core.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
        let word = is_core.then(|| machine.root.text(&format!("{FOLDER}/{core}/cpufreq/{file}"))).flatten();
        if let Some(word) = word {
            *words.entry(word).or_default() += 1;
        }
    }
    words
}

fn governor(machine: &Machine) -> Finding {
    const SUBJECT: &str = "governor";
    let governors = words_of_cores(machine, "scaling_governor");
    let words = list_text(governors.keys());
    if governors.is_empty() {
        return Finding::green(SUBJECT, "the kernel does not set this processor's clock");
    }
    if governors.keys().all(|governor| governor == "performance") {
        return Finding::green(SUBJECT, words);
    }
    Finding::yellow(
        SUBJECT,
        format!("{words}: clocks follow the load, and a tick after a pause is slow"),
        "`echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor`; on a Jetson `sudo jetson_clocks`",
    )
}

fn limit(machine: &Machine) -> Option<Finding> {
    let highest = |file: &str| words_of_cores(machine, file).keys().filter_map(|clock| clock.parse::<u64>().ok()).max();
    let (allowed, possible) = (highest("scaling_max_freq")?, highest("cpuinfo_max_freq")?);
    let mhz = |kilohertz: u64| kilohertz / 1000;
    if allowed < possible {
        let found = format!("kept below {} MHz of {} MHz", mhz(allowed), mhz(possible));
        let mend = "on a Jetson the power mode does that: `sudo nvpmodel -m 0`, or the one named MAXN; else `sudo cpupower frequency-set -u MAX`";
        return Some(Finding::yellow("clock", found, mend));
    }
    Some(Finding::green("clock", format!("up to {} MHz", mhz(possible))))
}

/// A kernel made for real time wants cores of its own for it; elsewhere nobody misses them.
fn isolation(machine: &Machine) -> Finding {
    const SUBJECT: &str = "isolation";
    let of = |file: &str| machine.root.text(&format!("{FOLDER}/{file}")).filter(|list| count(list).is_some());
    match (of("isolated"), of("nohz_full")) {
        (Some(isolated), Some(tickless)) => {
            Finding::green(SUBJECT, format!("isolcpus={isolated}, nohz_full={tickless}"))
        }
        (Some(isolated), None) => Finding::green(SUBJECT, format!("isolcpus={isolated}")),
        (None, tickless) => {
            let without = tickless.map_or_else(
                || "no core is kept free".to_owned(),
                |cores| format!("nohz_full={cores}, but no core is kept free"),
            );
            if !kernel::is_realtime(machine) {
                return Finding::green(SUBJECT, without);
            }
            let file = if machine.is_target() {
                "APPEND in /boot/extlinux/extlinux.conf"
            } else {
                "GRUB_CMDLINE_LINUX in /etc/default/grub"
            };
            Finding::yellow(
                SUBJECT,
                format!("{without}, although the kernel is made for real time"),
                format!("add `isolcpus=managed_irq,domain,LIST nohz_full=LIST` to {file}, then reboot"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(
            [Some(4), Some(5), Some(1), None, None, None],
            ["0-3", "0-3,6", "0", "", "(null)", "3-1"].map(count)
        );
    }
}
