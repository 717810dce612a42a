//! Power mode, clocks, heat and throttling.
//!
//! Sources: Jetson Linux Developer Guide, "Platform Power and Performance" (`/var/lib/nvpmodel/status` with `pmode:0000`, the format
//! of `/etc/nvpmodel.conf` at its head, `soctherm_oc` with `oc1` under-voltage, `oc2` average and `oc3` instantaneous over-current,
//! `*-throttle-alert` as cooling devices); the kernel's `driver-api/thermal/sysfs-api` and `ABI/testing/sysfs-class-devfreq`; the
//! attributes of `drivers/hwmon/tegra23x-oc-event.c`; NVML API Reference, `nvmlClocksEventReasons`.

use super::gpu::{Card, cards};
use super::{Finding, Machine, Root, Scale, list_text};
use crate::realtime::hardware::is_gpu;

/// Room up to the temperature at which clocks fall, in thousandths of a degree.
const ROOM_MC: Scale = Scale { red_below: 1, yellow_below: 5000 };

pub fn check(machine: &Machine) -> Vec<Finding> {
    let root = &machine.root;
    let mut findings: Vec<Finding> = mode(machine).into_iter().collect();
    findings.extend(gpu_clock(root));
    findings.extend([throttling(root)]);
    findings.extend(heat(root));
    findings.extend(over_current(root));
    findings.extend(cards(machine).iter().filter_map(card));
    findings
}

/// A mode of `/etc/nvpmodel.conf`.
#[derive(Debug, PartialEq, Eq)]
struct Mode {
    id: u32,
    name: String,
}

fn mode(machine: &Machine) -> Option<Finding> {
    const SUBJECT: &str = "power mode";
    let text = machine.root.text("/etc/nvpmodel.conf");
    let Some(text) = text else {
        let is_jetson = matches!(machine.board.system, super::System::Jetson { .. });
        let mend = "`sudo apt install nvidia-l4t-nvpmodel`; in a container, mount the host's file";
        return is_jetson.then(|| Finding::yellow(SUBJECT, "no /etc/nvpmodel.conf: the power mode is unknown", mend));
    };
    let (modes, default) = modes(&text);
    // the last mode that was set; none since the board was flashed
    let set = machine.root.text("/var/lib/nvpmodel/status").and_then(|status| mode_of_status(&status));
    let Some(id) = set.or(default) else {
        let mend = "`sudo nvpmodel -q` says it, and `sudo nvpmodel -m 0` sets one";
        return Some(Finding::yellow(
            SUBJECT,
            "neither /var/lib/nvpmodel/status nor a default says which mode is set",
            mend,
        ));
    };
    let Some(current) = modes.iter().find(|mode| mode.id == id) else {
        let known = list_text(modes.iter().map(|mode| format!("{} ({})", mode.id, mode.name)));
        let found = format!("mode {id} is set, and /etc/nvpmodel.conf knows only {known}");
        return Some(Finding::red(SUBJECT, found, "set one that there is: `sudo nvpmodel -m 0`"));
    };
    let is_unlimited = |mode: &&Mode| mode.name.starts_with("MAXN");
    let found = format!("{} (mode {id})", current.name);
    Some(match modes.iter().rfind(is_unlimited) {
        Some(best) if !is_unlimited(&current) => Finding::yellow(
            SUBJECT,
            format!("{found} limits clocks and cores; {} does not", best.name),
            format!("`sudo nvpmodel -m {}`, if supply and cooling allow it", best.id),
        ),
        _ => Finding::green(SUBJECT, found),
    })
}

/// The modes and the one that is set at first.
fn modes(text: &str) -> (Vec<Mode>, Option<u32>) {
    let (mut modes, mut default) = (Vec::new(), None);
    for line in text.lines() {
        // < POWER_MODEL ID=0 NAME=MAXN >
        let mut words = line.trim().trim_start_matches('<').trim_end_matches('>').split_whitespace();
        let kind = words.next();
        let mut value = |key: &str| {
            let found = words.find_map(|word| word.strip_prefix(key));
            found.map(str::to_owned)
        };
        match kind {
            Some("POWER_MODEL") => {
                let id = value("ID=").and_then(|id| id.parse().ok());
                modes.extend(id.zip(value("NAME=")).map(|(id, name)| Mode { id, name }));
            }
            Some("PM_CONFIG") => default = value("DEFAULT=").and_then(|id| id.parse().ok()),
            _ => {}
        }
    }
    (modes, default)
}

/// `pmode:0002 fmode:quiet`
fn mode_of_status(status: &str) -> Option<u32> {
    status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?.parse().ok()
}

/// The clock of a Tegra's GPU, as `devfreq` tells it.
fn gpu_clock(root: &Root) -> Option<Finding> {
    const SUBJECT: &str = "GPU clock";
    let name = root.names("/sys/class/devfreq").into_iter().find(|name| is_gpu(name))?;
    let of = |file: &str| root.number::<u64>(&format!("/sys/class/devfreq/{name}/{file}"));
    let (Some(now), Some(lowest), Some(highest)) = (of("cur_freq"), of("min_freq"), of("max_freq")) else {
        let found = format!("/sys/class/devfreq/{name} does not tell its clocks");
        return Some(Finding::yellow(SUBJECT, found, "`sudo jetson_clocks --show` tells them"));
    };
    let mhz = |hertz: u64| hertz / 1_000_000;
    let all = root.text(&format!("/sys/class/devfreq/{name}/available_frequencies")).unwrap_or_default();
    let possible = all.split_whitespace().filter_map(|clock| clock.parse().ok()).max().unwrap_or(highest);
    let found = format!("{} MHz of {} to {} MHz", mhz(now), mhz(lowest), mhz(highest));
    if highest < possible {
        let found = format!("{found}: kept below the {} MHz it can have", mhz(possible));
        return Some(Finding::yellow(
            SUBJECT,
            found,
            "the power mode does that: `sudo nvpmodel -m 0`, or the one named MAXN",
        ));
    }
    if lowest < highest {
        let found = format!("{found}: it follows the load, and a tick after a pause is slow");
        return Some(Finding::yellow(
            SUBJECT,
            found,
            "`sudo jetson_clocks` holds it at its highest until the next start",
        ));
    }
    Some(Finding::green(SUBJECT, format!("held at {} MHz", mhz(highest))))
}

/// Cooling devices that slow something down now. Fans are cooling devices too, and may do what they like.
fn throttling(root: &Root) -> Finding {
    const SUBJECT: &str = "throttling";
    const MEND: &str =
        "cool the board (fan, heat sink, air): `sudo nvpmodel -d cool` sets the fan; or choose a smaller power mode";
    let (mut alerts, mut slowed) = (Vec::new(), Vec::new());
    for name in root.names("/sys/class/thermal").iter().filter(|name| name.starts_with("cooling_device")) {
        let of = |file: &str| root.text(&format!("/sys/class/thermal/{name}/{file}"));
        let (Some(kind), Some(state)) = (of("type"), of("cur_state").and_then(|state| state.parse::<u64>().ok()))
        else {
            continue;
        };
        if state == 0 {
            continue;
        }
        if let Some(part) = kind.strip_suffix("-throttle-alert") {
            alerts.push(part.to_owned());
        } else if ["cpufreq-", "devfreq-", "thermal-cpufreq-", "thermal-devfreq-", "Processor", "hot-surface"]
            .iter()
            .any(|start| kind.starts_with(start))
        {
            slowed.push(format!("{kind} by {state} steps"));
        }
    }
    if !alerts.is_empty() {
        return Finding::red(SUBJECT, format!("heat slows down {} now", list_text(alerts)), MEND);
    }
    if !slowed.is_empty() {
        return Finding::yellow(SUBJECT, format!("heat holds down {}", list_text(slowed)), MEND);
    }
    Finding::green(SUBJECT, "no part is slowed down by heat")
}

/// The zone that is nearest to where clocks fall.
fn heat(root: &Root) -> Option<Finding> {
    let zones = root.names("/sys/class/thermal").into_iter().filter(|name| name.starts_with("thermal_zone"));
    let zone = |name: String| {
        let folder = format!("/sys/class/thermal/{name}");
        // zones of parts that are switched off do not answer
        let now: i64 = root.number(&format!("{folder}/temp"))?;
        let limit = passive_limit(root, &folder)?;
        Some((limit - now, now, limit, root.text(&format!("{folder}/type")).unwrap_or(name)))
    };
    let (room, now, limit, name) = zones.filter_map(zone).min()?;
    let degrees = |thousandths: i64| format!("{:.1}", thousandths as f64 / 1000.0);
    let found = format!("{name} has {} °C, clocks fall from {} °C on", degrees(now), degrees(limit));
    const MEND: &str = "cool the board (fan, heat sink, air), or choose a smaller power mode";
    Some(ROOM_MC.judge(room, "heat", found, MEND))
}

/// The lowest temperature at which a zone slows something down.
fn passive_limit(root: &Root, folder: &str) -> Option<i64> {
    let files = root.names(folder).into_iter();
    let points = files.filter_map(|file| Some(file.strip_prefix("trip_point_")?.strip_suffix("_type")?.to_owned()));
    let passive =
        points.filter(|point| root.text(&format!("{folder}/trip_point_{point}_type")).as_deref() == Some("passive"));
    let limits = passive.filter_map(|point| root.number::<i64>(&format!("{folder}/trip_point_{point}_temp")));
    // points that are not in use say 0 or less
    limits.filter(|limit| *limit > 0).min()
}

/// What the board's supply did since the start.
fn over_current(root: &Root) -> Option<Finding> {
    const KINDS: [(&str, &str); 3] =
        [("oc1", "under-voltage"), ("oc2", "average over-current"), ("oc3", "instantaneous over-current")];
    let mut monitors = root.names("/sys/class/hwmon").into_iter();
    let is_it = |name: &String| root.text(&format!("/sys/class/hwmon/{name}/name")).as_deref() == Some("soctherm_oc");
    let monitor = monitors.find(is_it)?;
    let count = |event: &str| root.number::<u64>(&format!("/sys/class/hwmon/{monitor}/{event}_event_cnt"));
    let counted: Vec<(&str, u64)> = KINDS.iter().filter_map(|(event, kind)| Some((*kind, count(event)?))).collect();
    let happened: Vec<String> =
        counted.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} {count} times")).collect();
    if happened.is_empty() {
        return Some(Finding::green("supply", "no under-voltage and no over-current since the start"));
    }
    // they say that something was slowed down since the start, not that it is now
    Some(Finding::yellow(
        "supply",
        format!("since the start: {}; each slows CPU and GPU down", list_text(happened)),
        "look at plug, cable and power supply, or choose a smaller power mode with `sudo nvpmodel -m ID`",
    ))
}

/// Bits of `nvmlClocksEventReasons` that cost time, with what they mean and whether they are a fault.
const REASONS: [(u64, &str, bool); 6] = [
    (0x04, "its power limit", false),
    (0x08, "a hardware slowdown", true),
    (0x20, "heat (software)", true),
    (0x40, "heat (hardware)", true),
    (0x80, "an external power brake", true),
    (0x02, "clocks that an application has set", false),
];

/// A card whose driver tells what slows it down.
fn card(card: &Card) -> Option<Finding> {
    let bits = card.throttle_reasons?;
    let reasons: Vec<_> = REASONS.iter().filter(|(bit, _, _)| bits & bit != 0).collect();
    let found = format!("{} of {}", card.clock, card.highest_clock);
    if reasons.is_empty() {
        return Some(Finding::green(&card.name, format!("{found}, held back by nothing")));
    }
    let found = format!("{found}, held back by {}", list_text(reasons.iter().map(|(_, words, _)| words)));
    let mend = "`nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER` says more: cool it, or raise its limit with `sudo nvidia-smi -pl WATTS`";
    Some(match reasons.iter().any(|(_, _, is_fault)| *is_fault) {
        true => Finding::red(&card.name, found, mend),
        false => Finding::yellow(&card.name, found, mend),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_their_default_are_read() {
        let text = "# < POWER_MODEL ID=id_num NAME=mode_name >\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n\
                    < POWER_MODEL ID=1 NAME=MODE_15W >\n< PM_CONFIG DEFAULT=1 >\n";
        let (modes, default) = modes(text);
        let named = |id, name: &str| Mode { id, name: name.to_owned() };
        assert_eq!((modes, default), (vec![named(0, "MAXN"), named(1, "MODE_15W")], Some(1)));
        assert_eq!(mode_of_status("pmode:0002 fmode:quiet"), Some(2));
        assert_eq!(mode_of_status("fmode:quiet"), None);
    }
}
