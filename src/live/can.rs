//! CAN buses over SocketCAN: every frame, with the kernel's receive stamp.
//!
//! The source is the interface's name (`can0`). A bus that goes down is waited for.

use std::time::Duration;

use catseye_sensors::can::CanFrame;
use catseye_sensors::can::socket::{CanEvent, CanSocket, CanSocketError, CanStamps};
use catseye_sensors::packet::{ClockId, StampKind};

use super::clock::RealtimeMap;
use super::{Driver, Measurement, Outlet, PATIENCE, Stamped};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::messages::CanMessage;

/// The driver of a rig's bus.
pub fn driver(bus: u8, interface: &str) -> Box<dyn Driver> {
    Box::new(CanDriver { interface: interface.to_owned(), bus })
}

struct CanDriver {
    interface: String,
    bus: u8,
}

impl Driver for CanDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_record::<CanMessage>(topic);
        StampInfo { clock: CanStamps::KERNEL_CLOCK, kind: StampKind::Arrival, uncertainty_ns: 0 }
            .describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        listen((&self.interface, self.bus, Vec::new()), outlet, opened, &mut |outlet, frame, stamped| {
            outlet.send(&Measurement::Can(frame), stamped);
        });
    }
}

/// Takes frames of a bus until the end: all of them, or those messages alone.
pub(super) fn listen(
    (interface, bus, messages): (&str, u8, Vec<(u32, bool)>),
    outlet: &mut Outlet,
    opened: &mut dyn FnMut(Result<(), String>),
    take: &mut dyn FnMut(&mut Outlet, CanFrame, Stamped),
) {
    let mut socket = match CanSocket::open_for(interface, bus, messages) {
        Ok(socket) => socket,
        Err(error) => return opened(Err(error.to_string())),
    };
    opened(Ok(()));
    let mut is_down = false;
    let mut realtime = RealtimeMap::new(outlet.clock());
    while !outlet.is_over() {
        match socket.receive(PATIENCE) {
            Ok(event) => {
                if std::mem::take(&mut is_down) {
                    outlet.tell("is back");
                }
                let counts = socket.counts();
                outlet.counts.missing = counts.dropped.saturating_add(counts.receive_overflows);
                match event {
                    Some((CanEvent::Frame(frame), stamps)) => {
                        let stamped = stamped(outlet, stamps, &mut realtime);
                        take(outlet, frame, stamped);
                    }
                    Some((CanEvent::Error(error), _)) if error.bus_off() => outlet.tell("bus off"),
                    _ => {}
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_down, true) {
                    outlet.counts.lost += 1;
                    outlet.tell(&error.to_string());
                }
                std::thread::sleep(Duration::from_millis(100));
                if matches!(error, CanSocketError::Missing { .. }) && socket.reopen().is_ok() {
                    outlet.tell("is back");
                    is_down = false;
                }
            }
        }
    }
}

fn stamped(outlet: &Outlet, stamps: CanStamps, realtime: &mut RealtimeMap) -> Stamped {
    let arrival_ns = outlet.clock().now_ns();
    let mapped_ns = match stamps.kernel_ns.map(|stamp_ns| realtime.map(stamp_ns)) {
        None => arrival_ns,
        Some((mapped_ns, was_set)) => {
            if was_set {
                outlet.tell("the wall clock has been set");
            }
            mapped_ns
        }
    };
    let clock = if stamps.kernel_ns.is_some() { CanStamps::KERNEL_CLOCK } else { ClockId::HostMonotonic };
    Stamped { raw_ns: mapped_ns, clock, kind: StampKind::Arrival, arrival_ns, mapped_ns, uncertainty_ns: 0 }
}
