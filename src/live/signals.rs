//! Sensors whose measurements are signals on a CAN bus: values of several frames become one measurement.
//!
//! The driver has a socket of its own on the bus's interface, which takes the sensor's messages alone; the bus itself is live and
//! recorded beside it. A measurement is there when every signal has come anew. Promised: decoding allocates nothing; parts that
//! wait for longer than a period of the sensor for the rest are dropped as one damaged measurement.

use catseye_calibration::rig::{CanSignal, Rig, Source};
use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::{Dbc, SignalRef};

use super::can::listen;
use super::{LiveError, Outlet, Stamped};
use crate::pipeline::{Files, bus_table};

/// Most signals of one sensor.
const MAX_SIGNALS: usize = 6;

/// Puts the values of one sensor's signals together.
pub struct SignalReader {
    dbc: Dbc,
    signals: Vec<Signal>,
    messages: Vec<(u32, bool)>,
    period_ns: i64,
}

struct Signal {
    place: SignalRef,
    scale: f64,
    offset: f64,
    /// What came last and when, until it is part of a measurement.
    value: Option<(f64, i64)>,
}

/// What a frame brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// All values, in the order of the signals, if this frame brought the last of them.
    pub values: Option<[f64; MAX_SIGNALS]>,
    /// Whether parts that were older than a period were dropped.
    pub dropped: bool,
}

impl SignalReader {
    /// For signals that are all in the table; the rate is that of whole measurements.
    ///
    /// # Errors
    /// The place in the list of the first signal that is not in the table.
    pub fn new(dbc: Dbc, signals: &[&CanSignal], rate_hz: f64) -> Result<Self, usize> {
        let is_used = |name: &str| signals.iter().any(|signal| signal.signal.split('.').next() == Some(name));
        let used = dbc.messages().iter().filter(|message| is_used(message.name()));
        let messages = used.map(|message| (message.id(), message.extended())).collect();
        let found = signals.iter().enumerate().map(|(at, CanSignal { signal, scale, offset })| {
            let place = dbc.signal(signal).ok_or(at)?;
            Ok(Signal { place, scale: *scale, offset: *offset, value: None })
        });
        let signals = found.collect::<Result<_, usize>>()?;
        Ok(SignalReader { dbc, signals, messages, period_ns: (1e9 / rate_hz) as i64 })
    }

    /// The messages that the signals are in: identifier, and whether that has 29 bits.
    pub fn messages(&self) -> &[(u32, bool)] {
        &self.messages
    }

    /// Takes a frame that came at that instant. The newest value of a signal counts.
    pub fn take(&mut self, frame: &CanFrame, stamp_ns: i64) -> Taken {
        let mut dropped = false;
        for Signal { place, scale, offset, value } in &mut self.signals {
            if let Some(new) = self.dbc.decode(*place, frame) {
                *value = Some((new * *scale + *offset, stamp_ns));
            } else if value.is_some_and(|(_, came_ns)| stamp_ns.saturating_sub(came_ns) > self.period_ns) {
                *value = None;
                dropped = true;
            }
        }
        Taken { values: self.complete(), dropped }
    }

    fn complete(&mut self) -> Option<[f64; MAX_SIGNALS]> {
        if self.signals.iter().any(|signal| signal.value.is_none()) {
            return None;
        }
        let mut values = [f64::NAN; MAX_SIGNALS];
        for (value, signal) in values.iter_mut().zip(&mut self.signals) {
            *value = signal.value.take().map_or(f64::NAN, |(value, _)| value);
        }
        Some(values)
    }
}

/// A sensor's way onto its bus.
pub(super) struct OnBus {
    interface: String,
    bus: u8,
    reader: SignalReader,
}

impl OnBus {
    /// Finds bus, interface and signals; each signal has its key in the rig.
    pub(super) fn new(
        sensor: &str,
        rate_hz: f64,
        bus: &str,
        signals: &[(&str, &CanSignal)],
        (rig, files): (&Rig, &Files),
    ) -> Result<Self, LiveError> {
        let wrong =
            |key: &str, error: String| LiveError::File { sensor: sensor.to_owned(), key: key.to_owned(), error };
        let place = rig.cans.iter().enumerate().find(|(_, can)| can.name == bus);
        let (Some((number, can)), Some(Source::Can(interface))) = (place, rig.sources.get(bus)) else {
            return Err(wrong("source", format!("expected a can of this rig that has a source itself, found {bus:?}")));
        };
        let dbc = bus_table(rig, can, files).map_err(|error| wrong("source", error.to_string()))?;
        let bare: Vec<&CanSignal> = signals.iter().map(|(_, signal)| *signal).collect();
        let reader = SignalReader::new(dbc, &bare, rate_hz).map_err(|at| {
            let (key, signal) = signals.get(at).map_or(("", ""), |(key, signal)| (key, signal.signal.as_str()));
            let error = format!("expected a signal in the DBC files of {bus}, found {signal:?}");
            wrong(&format!("signals.{key}"), error)
        })?;
        Ok(OnBus { interface: interface.clone(), bus: number as u8, reader })
    }

    /// Takes frames until the end; `send` gets the values, in the order of the signals.
    pub(super) fn run(
        &mut self,
        outlet: &mut Outlet,
        opened: &mut dyn FnMut(Result<(), String>),
        send: &mut dyn FnMut(&mut Outlet, [f64; MAX_SIGNALS], Stamped),
    ) {
        let messages = self.reader.messages().to_vec();
        let reader = &mut self.reader;
        listen((&self.interface, self.bus, messages), outlet, opened, &mut |outlet, frame, stamped| {
            let Taken { values, dropped } = reader.take(&frame, stamped.mapped_ns);
            outlet.counts.damaged += u64::from(dropped);
            if let Some(values) = values {
                send(outlet, values, stamped);
            }
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rates and force in two messages, one of them with a multiplexer; distance and confidence in a third.
    pub(in crate::live) const DBC: &[u8] = b"VERSION \"\"\nBU_: A\n\
        BO_ 256 RATES: 4 A\n SG_ YAW : 0|16@1- (0.01,0) [0|0] \"deg/s\" A\n SG_ ROLL : 16|16@1- (0.01,0) [0|0] \"deg/s\" A\n\n\
        BO_ 257 FORCE: 3 A\n SG_ AXIS M : 0|8@1+ (1,0) [0|0] \"\" A\n SG_ X m0 : 8|16@1- (0.001,0) [0|0] \"g\" A\n \
        SG_ Y m1 : 8|16@1- (0.001,0) [0|0] \"g\" A\n\n\
        BO_ 258 SONAR: 2 A\n SG_ DISTANCE : 0|8@1+ (2,0) [0|0] \"cm\" A\n SG_ SURE : 8|8@1+ (1,0) [0|0] \"%\" A\n\n";

    pub(in crate::live) fn frame(id: u32, payload: &[u8]) -> CanFrame {
        CanFrame::new(id, false, false, 0, payload).unwrap()
    }

    fn reader() -> SignalReader {
        let signal = |signal: &str, scale: f64| CanSignal { signal: signal.to_owned(), scale, offset: 0.5 };
        let signals = [signal("RATES.YAW", 2.0), signal("FORCE.X", 10.0), signal("FORCE.Y", 10.0)];
        let signals: Vec<&CanSignal> = signals.iter().collect();
        SignalReader::new(Dbc::parse(DBC, "a.dbc").unwrap(), &signals, 100.0).unwrap_or_else(|at| panic!("{at}"))
    }

    #[test]
    fn a_measurement_is_there_when_every_signal_has_come() {
        let mut reader = reader();
        assert_eq!(reader.messages(), [(256, false), (257, false)]);
        let none = Taken { values: None, dropped: false };
        assert_eq!(reader.take(&frame(256, &[100, 0, 0, 0]), 0), none);
        assert_eq!(reader.take(&frame(258, &[1, 1]), 1), none);
        assert_eq!(reader.take(&frame(257, &[0, 0xE8, 3]), 2_000_000), none);
        // the newest value of a signal counts
        assert_eq!(reader.take(&frame(256, &[200, 0, 0, 0]), 3_000_000), none);
        let values = reader.take(&frame(257, &[1, 0x18, 0xFC]), 4_000_000).values.unwrap();
        assert_eq!(values[..3], [4.5, 10.5, -9.5]);
        // and begins anew
        assert_eq!(reader.take(&frame(256, &[0; 4]), 10_000_000), none);
    }

    #[test]
    fn parts_that_wait_for_too_long_are_dropped_and_counted() {
        let mut reader = reader();
        assert!(!reader.take(&frame(256, &[100, 0, 0, 0]), 0).dropped);
        assert!(!reader.take(&frame(257, &[0, 0, 0]), 10_000_000).dropped);
        // the rate is of another time than what comes now
        let late = reader.take(&frame(257, &[1, 0, 0]), 11_000_000);
        assert_eq!(late, Taken { values: None, dropped: true });
        // the forces wait for the next one
        let values = reader.take(&frame(256, &[100, 0, 0, 0]), 12_000_000).values.unwrap();
        assert_eq!(values[0], 2.5);
    }
}
