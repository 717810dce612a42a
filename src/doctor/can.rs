//! CAN links: which there are, whether they are up, how fast, and what state the controller is in.
//!
//! Sources: `/sys/class/net/*/type` (280, `ARPHRD_CAN`) and `operstate` (`networking/operstates`); bit rate and error state are told
//! by netlink alone (`networking/can`, "Netlink interface to set/get devices properties"), which `ip -details -json link` prints.

use serde_json::Value;

use super::{Finding, Machine, list_text};

/// `ARPHRD_CAN` of `linux/if_arp.h`.
const CAN_TYPE: u32 = 280;

pub fn check(machine: &Machine) -> Vec<Finding> {
    let links = links(machine);
    if links.is_empty() {
        return vec![none(machine)];
    }
    let details: Value =
        machine.facts.ip_link.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let details_of = |name: &str| {
        let all = details.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|link| link.get("ifname").and_then(Value::as_str) == Some(name))
    };
    links.iter().map(|name| judge(machine, name, details_of(name))).collect()
}

/// Interfaces that are CAN.
pub(super) fn links(machine: &Machine) -> Vec<String> {
    let names = machine.root.names("/sys/class/net").into_iter();
    names.filter(|name| machine.root.number(&format!("/sys/class/net/{name}/type")) == Some(CAN_TYPE)).collect()
}

fn none(machine: &Machine) -> Finding {
    if !machine.is_target() {
        return Finding::green("links", "no CAN interface, which replay does not need");
    }
    Finding::yellow(
        "links",
        "no CAN interface, although the chip has controllers",
        "`sudo modprobe can can_raw mttcan`, after the pins are set to CAN (Jetson Linux Developer Guide, \"Controller Area Network\")",
    )
}

fn judge(machine: &Machine, name: &str, details: Option<&Value>) -> Finding {
    let operstate =
        machine.root.text(&format!("/sys/class/net/{name}/operstate")).unwrap_or_else(|| "unknown".to_owned());
    let of = |path: &str| details.and_then(|details| details.pointer(path));
    let kind = of("/linkinfo/info_kind").and_then(Value::as_str);
    let state = of("/linkinfo/info_data/state").and_then(Value::as_str);
    let bitrate = of("/linkinfo/info_data/bittiming/bitrate").and_then(Value::as_u64).filter(|bitrate| *bitrate > 0);
    let speed = bitrate.map_or_else(String::new, |bitrate| format!(", {} kbit/s", bitrate / 1000));
    let up = format!("`sudo ip link set {name} up type can bitrate 500000`, with the bus's own bit rate");
    // a virtual link has no state of its own
    let is_virtual = kind == Some("vcan") || kind.is_none() && operstate == "unknown";
    if is_virtual {
        return Finding::green(name, format!("{operstate}, a virtual link"));
    }
    if operstate == "down" || state == Some("STOPPED") {
        return Finding::yellow(name, format!("down{speed}"), up);
    }
    let errors = ["tx", "rx"].map(|way| of(&format!("/linkinfo/info_data/berr_counter/{way}")).and_then(Value::as_u64));
    let counters = match errors {
        [Some(sent), Some(received)] if sent + received > 0 => {
            format!(", error counters {sent} sending and {received} receiving")
        }
        _ => String::new(),
    };
    let wiring = "look at bit rate, wiring and the 120 ohm at both ends of the bus; `ip -details -statistics link show "
        .to_owned()
        + name + "` counts errors";
    match state {
        Some("BUS-OFF") => Finding::red(
            name,
            format!("bus off{speed}{counters}: nothing is sent or received"),
            format!("{wiring}; then `sudo ip link set {name} type can restart-ms 100` and up again"),
        ),
        Some(state @ ("ERROR-PASSIVE" | "ERROR-WARNING")) => {
            Finding::yellow(name, format!("{}{speed}{counters}", state.to_lowercase().replace('-', " ")), wiring)
        }
        Some("SLEEPING") => Finding::yellow(name, format!("asleep{speed}"), up),
        Some(_) => Finding::green(name, format!("{operstate}{speed}, error active{counters}")),
        None => {
            Finding::green(name, format!("{operstate}; bit rate and error state are not told without `ip` of iproute2"))
        }
    }
}

/// What a rig's source asks for: an interface that is there and up.
pub(super) fn is_there(machine: &Machine, name: &str) -> Result<(), String> {
    let links = links(machine);
    if links.iter().any(|link| link == name) {
        return Ok(());
    }
    Err(format!("no CAN interface {name}; there is {}", list_text(links)))
}
