//! What every measurement carries besides its bytes: which sensor made it, when, on whose clock, and how well that is
//! known. Readers of recordings and live drivers fill these types; synchronisation and the world model order by them.
//! Promised: packets have one total order that depends on nothing but their own fields.

use std::cmp::Ordering;

/// A sensor's number within one vehicle description, given by the order in which the description lists the sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SensorId(pub u16);

/// The clock on which a raw stamp was read. The numbers are stable: logs store them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ClockId {
    /// Nothing is known of the clock.
    Unknown = 0,
    /// The recording computer's clock since boot.
    HostMonotonic = 1,
    /// The recording computer's wall clock.
    HostRealtime = 2,
    /// A clock disciplined by the Precision Time Protocol (IEEE 1588).
    Ptp = 3,
    /// Time from a satellite navigation receiver.
    Gnss = 4,
    /// The sensor's own free-running clock.
    Sensor = 5,
    /// Time made up by a simulation or a test.
    Synthetic = 6,
}

impl ClockId {
    /// Every clock, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::HostMonotonic, Self::HostRealtime, Self::Ptp, Self::Gnss, Self::Sensor, Self::Synthetic];

    /// The name used in configuration files and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::HostMonotonic => "host_monotonic",
            Self::HostRealtime => "host_realtime",
            Self::Ptp => "ptp",
            Self::Gnss => "gnss",
            Self::Sensor => "sensor",
            Self::Synthetic => "synthetic",
        }
    }

    /// The clock of that name, `None` for any other word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|clock| clock.name() == name)
    }

    /// The clock of that number, `None` for a number that no clock has.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|clock| *clock as u8 == code)
    }
}

/// The instant that a raw stamp names. The numbers are stable: logs store them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StampKind {
    /// The measurement began: shutter opened, first laser shot fired.
    ExposureStart = 0,
    /// Half-way between the measurement's start and end.
    ExposureMiddle = 1,
    /// The measurement was complete.
    ExposureEnd = 2,
    /// The bytes reached the recording computer.
    Arrival = 3,
    /// Made up by a simulation or a test.
    Synthetic = 4,
}

impl StampKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 5] =
        [Self::ExposureStart, Self::ExposureMiddle, Self::ExposureEnd, Self::Arrival, Self::Synthetic];

    /// The name used in configuration files and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExposureStart => "exposure_start",
            Self::ExposureMiddle => "exposure_middle",
            Self::ExposureEnd => "exposure_end",
            Self::Arrival => "arrival",
            Self::Synthetic => "synthetic",
        }
    }

    /// The kind of that name, `None` for any other word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of that number, `None` for a number that no kind has.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// When a measurement was made. All times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// As the sensor or driver gave it, on `clock`.
    pub raw_ns: i64,
    /// The clock of `raw_ns`.
    pub clock: ClockId,
    /// The instant that `raw_ns` names.
    pub kind: StampKind,
    /// When the bytes reached the host, on the host's clock.
    pub arrival_ns: i64,
    /// The measurement's instant on the run's common time line.
    pub mapped_ns: i64,
    /// Bound on the error of `mapped_ns`, not negative.
    pub uncertainty_ns: i64,
}

impl Stamp {
    /// Of a packet of which nothing is known but when it arrived.
    pub const fn of_arrival(arrival_ns: i64) -> Self {
        Stamp {
            raw_ns: arrival_ns,
            clock: ClockId::Unknown,
            kind: StampKind::Arrival,
            arrival_ns,
            mapped_ns: arrival_ns,
            uncertainty_ns: 0,
        }
    }
}

/// Identity and time of one packet. Ordered by mapped stamp, then sensor, then sequence; whatever else differs only
/// breaks the remaining ties, so that equal in order means equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketHeader {
    /// The sensor that made the packet.
    pub sensor: SensorId,
    /// Counts the sensor's packets from 0 in the order they were read.
    pub sequence: u32,
    /// When it was made.
    pub stamp: Stamp,
}

impl PacketHeader {
    /// What packets are ordered by: mapped stamp in nanoseconds, sensor, sequence.
    pub const fn order_key(&self) -> (i64, SensorId, u32) {
        (self.stamp.mapped_ns, self.sensor, self.sequence)
    }

    const fn tie_key(&self) -> (i64, i64, i64, ClockId, StampKind) {
        let stamp = &self.stamp;
        (stamp.raw_ns, stamp.arrival_ns, stamp.uncertainty_ns, stamp.clock, stamp.kind)
    }
}

impl Ord for PacketHeader {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order_key().cmp(&other.order_key()).then_with(|| self.tie_key().cmp(&other.tie_key()))
    }
}

impl PartialOrd for PacketHeader {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(mapped_ns: i64, sensor: u16, sequence: u32) -> PacketHeader {
        let stamp = Stamp {
            raw_ns: 0,
            clock: ClockId::Ptp,
            kind: StampKind::ExposureMiddle,
            arrival_ns: 0,
            mapped_ns,
            uncertainty_ns: 0,
        };
        PacketHeader { sensor: SensorId(sensor), sequence, stamp }
    }

    #[test]
    fn order_is_stamp_then_sensor_then_sequence() {
        let sorted = [header(-5, 9, 9), header(1, 0, 7), header(1, 2, 0), header(1, 2, 3), header(2, 0, 0)];
        let mut shuffled = [sorted[3], sorted[0], sorted[4], sorted[2], sorted[1]];
        shuffled.sort();
        assert_eq!(shuffled, sorted);
    }

    #[test]
    fn headers_equal_in_order_are_equal() {
        let one = header(1, 2, 3);
        let mut other = one;
        other.stamp.arrival_ns = 1;
        assert_eq!(one.order_key(), other.order_key());
        assert_eq!(one.cmp(&other), Ordering::Less);
        assert_eq!(other.cmp(&one), Ordering::Greater);
    }

    #[test]
    fn names_and_codes_come_back() {
        for (index, clock) in ClockId::ALL.into_iter().enumerate() {
            assert_eq!(clock as usize, index);
            assert_eq!(ClockId::from_name(clock.name()), Some(clock));
            assert_eq!(ClockId::from_code(clock as u8), Some(clock));
        }
        for (index, kind) in StampKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert_eq!(StampKind::from_name(kind.name()), Some(kind));
            assert_eq!(StampKind::from_code(kind as u8), Some(kind));
        }
        assert_eq!(ClockId::from_name("PTP"), None);
        assert_eq!(ClockId::from_code(7), None);
        assert_eq!(StampKind::from_code(5), None);
    }
}
