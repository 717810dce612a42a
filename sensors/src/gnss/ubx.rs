//! UBX messages of u-blox receivers: NAV-PVT, NAV-HPPOSLLH, NAV-EOE, TIM-TP, and of older receivers NAV-SOL,
//! NAV-POSLLH, NAV-VELNED and NAV-TIMEUTC. Comes from [`super::frame`], goes to the assembly of fixes. Source: "u-blox
//! 8 / M8 Receiver description" (UBX-13003221), chapter "UBX Protocol"; NAV-EOE and NAV-HPPOSLLH also "ZED-F9P
//! Interface Description" (UBX-18010854). Promised: no allocation, whole numbers are scaled once, and what a message
//! marks as invalid is `None`.
//!
//! The crate `ublox` (0.10) is not used: one of its parsers reads the messages of one protocol version, while the
//! version is not known before the receiver has spoken, and for eight messages at fixed places it brings a code
//! generator and a calendar.

use super::nmea::{days_since_1970, since_1970_ns};
use crate::clock::leap::TimeScale;
use thiserror::Error;

const NAV_POSLLH: (u8, u8) = (0x01, 0x02);
const NAV_SOL: (u8, u8) = (0x01, 0x06);
const NAV_PVT: (u8, u8) = (0x01, 0x07);
const NAV_VELNED: (u8, u8) = (0x01, 0x12);
const NAV_HPPOSLLH: (u8, u8) = (0x01, 0x14);
const NAV_TIMEUTC: (u8, u8) = (0x01, 0x21);
const NAV_EOE: (u8, u8) = (0x01, 0x61);
const TIM_TP: (u8, u8) = (0x0D, 0x01);

const SECOND_NS: i64 = 1_000_000_000;
const MS_NS: i64 = 1_000_000;
const WEEK_NS: i64 = 604_800 * SECOND_NS;
const GPS_EPOCH_NS: i64 = 315_964_800 * SECOND_NS;
/// A week of 2261, the last whole year whose nanoseconds since 1970 an i64 holds; there is room for some weeks more, as a time of
/// week may say.
const LAST_WEEK: i64 = 14_700;

/// Why a message with a right checksum is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UbxError {
    /// It is none of those read here.
    #[error("UBX message: expected one of NAV and TIM that are known, found {class:#04x} {number:#04x}")]
    Unknown {
        /// Its class.
        class: u8,
        /// Its number.
        number: u8,
    },
    /// It is too short.
    #[error("UBX message {class:#04x} {number:#04x}: expected {expected} bytes, found {found}")]
    Length {
        /// Its class.
        class: u8,
        /// Its number.
        number: u8,
        /// How many bytes it needs.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// A value that cannot be.
    #[error("UBX message {class:#04x} {number:#04x}: expected latitude and longitude within 90 and 180 degrees")]
    Position {
        /// Its class.
        class: u8,
        /// Its number.
        number: u8,
    },
    /// A date that cannot be.
    #[error("UBX message {class:#04x} {number:#04x}: expected a week of at most {LAST_WEEK}, found {found}")]
    Week {
        /// Its class.
        class: u8,
        /// Its number.
        number: u8,
        /// The week.
        found: u16,
    },
}

/// What one message says. Every message of the class NAV names its epoch by the GPS time of week.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message {
    /// Position, velocity and time in one.
    Pvt(Pvt),
    /// Position, with more digits for `HPPOSLLH`.
    Position {
        /// GPS time of week.
        tow_ms: u32,
        /// The position.
        position: Position,
        /// Whether it has the digits beyond 1e-7 degrees.
        high_precision: bool,
    },
    /// The kind of fix (older receivers).
    Sol {
        /// GPS time of week.
        tow_ms: u32,
        /// As for NAV-PVT.
        fix_type: u8,
        /// Whether the fix is within the receiver's limits.
        ok: bool,
        /// Whether differential corrections are used.
        differential: bool,
        /// Satellites used.
        used: u8,
        /// Dilution of position.
        pdop: f64,
        /// The epoch, from the week's number and the known leap seconds.
        utc_ns: Option<i64>,
    },
    /// Velocity (older receivers).
    Velocity {
        /// GPS time of week.
        tow_ms: u32,
        /// The velocity.
        velocity: Velocity,
    },
    /// UTC (older receivers).
    Utc {
        /// GPS time of week.
        tow_ms: u32,
        /// Nanoseconds since 1970 where the receiver knows UTC.
        utc_ns: Option<i64>,
        /// Standard deviation of the time.
        deviation_ns: u32,
    },
    /// Everything about the epoch has been sent.
    EndOfEpoch {
        /// GPS time of week.
        tow_ms: u32,
    },
    /// About the next pulse.
    TimePulse(TimePulse),
}

/// Where the antenna is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Latitude and longitude.
    pub lat_lon_deg: [f64; 2],
    /// Height above the ellipsoid.
    pub ellipsoid_height_m: f64,
    /// Height above mean sea level.
    pub altitude_m: f64,
    /// Horizontal accuracy as the receiver estimates it.
    pub horizontal_accuracy_m: f64,
    /// Vertical accuracy as the receiver estimates it.
    pub vertical_accuracy_m: f64,
}

/// How the antenna moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Velocity {
    /// North, east, down.
    pub ned_mps: [f64; 3],
    /// Speed over ground.
    pub speed_mps: f64,
    /// Course over ground from true north.
    pub course_rad: f64,
    /// Standard deviation of the speed.
    pub speed_deviation_mps: f64,
    /// Standard deviation of the course.
    pub course_deviation_rad: f64,
}

/// NAV-PVT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pvt {
    /// GPS time of week.
    pub tow_ms: u32,
    /// Nanoseconds since 1970 where date and time are valid.
    pub utc_ns: Option<i64>,
    /// Standard deviation of the time.
    pub time_deviation_ns: u32,
    /// 0 none, 1 dead reckoning, 2 flat, 3 with height, 4 both combined, 5 time only.
    pub fix_type: u8,
    /// Whether the fix is within the receiver's limits.
    pub ok: bool,
    /// Whether differential corrections are used.
    pub differential: bool,
    /// 0 no carrier solution, 1 float, 2 fixed.
    pub carrier: u8,
    /// Satellites used.
    pub used: u8,
    /// Dilution of position.
    pub pdop: f64,
    /// Where.
    pub position: Position,
    /// How fast.
    pub velocity: Velocity,
    /// Where the vehicle points, from true north, if the receiver knows.
    pub heading_rad: Option<f64>,
}

/// TIM-TP: when the next pulse of the receiver's time output is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePulse {
    /// The pulse's instant, in ns since 1970.
    pub utc_ns: i64,
    /// By how much the pulse comes late for the receiver's coarse clock, in ps.
    pub quantisation_error_ps: i32,
}

impl Message {
    /// Reads a message's payload.
    ///
    /// # Errors
    /// If the message is not one of those read here, is too short, or gives an impossible position.
    pub fn parse(message: (u8, u8), payload: &[u8]) -> Result<Self, UbxError> {
        let (class, number) = message;
        let expected = match message {
            NAV_PVT => 84, // 92 from protocol 15 on
            NAV_POSLLH => 28,
            NAV_SOL => 52,
            NAV_VELNED | NAV_HPPOSLLH => 36,
            NAV_TIMEUTC => 20,
            NAV_EOE => 4,
            TIM_TP => 16,
            _ => return Err(UbxError::Unknown { class, number }),
        };
        if payload.len() < expected {
            return Err(UbxError::Length { class, number, expected, found: payload.len() });
        }
        let fields = Fields { payload };
        let parsed = match message {
            NAV_PVT => fields.pvt(),
            NAV_POSLLH => Self::Position { tow_ms: fields.u32(0), position: fields.position(4), high_precision: false },
            NAV_HPPOSLLH => fields.precise_position(),
            NAV_SOL => fields.sol(),
            NAV_VELNED => fields.velocity(),
            NAV_TIMEUTC => Self::Utc {
                tow_ms: fields.u32(0),
                utc_ns: (fields.u8(19) & 4 != 0).then(|| fields.utc_ns(12, 8)).flatten(),
                deviation_ns: fields.u32(4),
            },
            NAV_EOE => Self::EndOfEpoch { tow_ms: fields.u32(0) },
            _ => fields.time_pulse().ok_or(UbxError::Week { class, number, found: fields.u16(12) })?,
        };
        let position = match &parsed {
            Self::Pvt(pvt) => Some(&pvt.position),
            Self::Position { position, .. } => Some(position),
            _ => None,
        };
        if position.is_some_and(|at| at.lat_lon_deg[0].abs() > 90.0 || at.lat_lon_deg[1].abs() > 180.0) {
            return Err(UbxError::Position { class, number });
        }
        Ok(parsed)
    }
}

/// Values at fixed places; beyond the payload's end, which callers have checked, all are zero.
struct Fields<'a> {
    payload: &'a [u8],
}

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.payload.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    fn i8(&self, at: usize) -> i64 {
        i64::from(i8::from_le_bytes(self.bytes(at)))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes(at))
    }

    /// A signed number in units of one part of so many. (Division is exact to the last bit, a factor of 1e-7 is not.)
    fn signed(&self, at: usize, parts: f64) -> f64 {
        f64::from(self.i32(at)) / parts
    }

    fn unsigned(&self, at: usize, parts: f64) -> f64 {
        f64::from(self.u32(at)) / parts
    }

    /// Year, month, day, hour, minute and second at one place, and nanoseconds, which may be negative, at another.
    fn utc_ns(&self, at: usize, nano_at: usize) -> Option<i64> {
        let date = |offset: usize| u32::from(self.u8(at + offset));
        let date_days = days_since_1970(u32::from(self.u16(at)), date(2), date(3))?;
        let [hour, minute, second] = [4, 5, 6].map(|offset| i64::from(self.u8(at + offset)));
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let time_ns = (hour * 3600 + minute * 60 + second) * SECOND_NS;
        Some(since_1970_ns(date_days, time_ns) + i64::from(self.i32(nano_at)))
    }

    /// Longitude, latitude, both heights and both accuracies, as POSLLH and PVT have them.
    fn position(&self, at: usize) -> Position {
        Position {
            lat_lon_deg: [self.signed(at + 4, 1e7), self.signed(at, 1e7)],
            ellipsoid_height_m: self.signed(at + 8, 1e3),
            altitude_m: self.signed(at + 12, 1e3),
            horizontal_accuracy_m: self.unsigned(at + 16, 1e3),
            vertical_accuracy_m: self.unsigned(at + 20, 1e3),
        }
    }

    fn pvt(&self) -> Message {
        let (valid, flags) = (self.u8(11), self.u8(21));
        let has_heading = self.payload.len() >= 92 && flags & 0x20 != 0;
        Message::Pvt(Pvt {
            tow_ms: self.u32(0),
            utc_ns: (valid & 3 == 3).then(|| self.utc_ns(4, 16)).flatten(),
            time_deviation_ns: self.u32(12),
            fix_type: self.u8(20),
            ok: flags & 1 != 0,
            differential: flags & 2 != 0,
            carrier: flags >> 6,
            used: self.u8(23),
            pdop: f64::from(self.u16(76)) / 100.0,
            position: self.position(24),
            velocity: Velocity {
                ned_mps: [48, 52, 56].map(|at| self.signed(at, 1e3)),
                speed_mps: self.signed(60, 1e3),
                course_rad: self.signed(64, 1e5).to_radians(),
                speed_deviation_mps: self.unsigned(68, 1e3),
                course_deviation_rad: self.unsigned(72, 1e5).to_radians(),
            },
            heading_rad: has_heading.then(|| self.signed(84, 1e5).to_radians()),
        })
    }

    fn precise_position(&self) -> Message {
        let tow_ms = self.u32(4);
        // coarse and fine parts are joined as whole numbers, so that nothing is rounded twice
        let joined =
            |at: usize, fine_at: usize, fine_parts: i64| i64::from(self.i32(at)) * fine_parts + self.i8(fine_at);
        let position = Position {
            lat_lon_deg: [joined(12, 25, 100) as f64 / 1e9, joined(8, 24, 100) as f64 / 1e9],
            ellipsoid_height_m: joined(16, 26, 10) as f64 / 1e4,
            altitude_m: joined(20, 27, 10) as f64 / 1e4,
            horizontal_accuracy_m: self.unsigned(28, 1e4),
            vertical_accuracy_m: self.unsigned(32, 1e4),
        };
        let invalid = self.u8(3) & 1 != 0;
        Message::Position { tow_ms, position, high_precision: !invalid }
    }

    fn sol(&self) -> Message {
        let flags = self.u8(11);
        let tow_ms = self.u32(0);
        let tow_ns = i64::from(tow_ms) * MS_NS + i64::from(self.i32(4));
        let time_is_set = flags & 0xC == 0xC;
        Message::Sol {
            tow_ms,
            fix_type: self.u8(10),
            ok: flags & 1 != 0,
            differential: flags & 2 != 0,
            used: self.u8(47),
            pdop: f64::from(self.u16(44)) / 100.0,
            utc_ns: time_is_set.then(|| gps_ns(i64::from(self.i16(8)), tow_ns)).flatten().map(utc_of_gps_ns),
        }
    }

    fn velocity(&self) -> Message {
        let velocity = Velocity {
            ned_mps: [4, 8, 12].map(|at| self.signed(at, 1e2)),
            speed_mps: self.unsigned(20, 1e2),
            course_rad: self.signed(24, 1e5).to_radians(),
            speed_deviation_mps: self.unsigned(28, 1e2),
            course_deviation_rad: self.unsigned(32, 1e5).to_radians(),
        };
        Message::Velocity { tow_ms: self.u32(0), velocity }
    }

    fn time_pulse(&self) -> Option<Message> {
        let below_ms_ns = (i64::from(self.u32(4)) * MS_NS) >> 32;
        let tow_ns = i64::from(self.u32(0)) * MS_NS + below_ms_ns;
        let pulse_ns = gps_ns(i64::from(self.u16(12)), tow_ns)?;
        let counts_utc = self.u8(14) & 1 != 0;
        let utc_ns = if counts_utc { pulse_ns } else { utc_of_gps_ns(pulse_ns) };
        Some(Message::TimePulse(TimePulse { utc_ns, quantisation_error_ps: self.i32(8) }))
    }
}

/// Nanoseconds since 1970 of a week and a time in it; none for a date beyond those that can be told.
fn gps_ns(week: i64, tow_ns: i64) -> Option<i64> {
    (0..=LAST_WEEK).contains(&week).then(|| GPS_EPOCH_NS + week * WEEK_NS + tow_ns)
}

fn utc_of_gps_ns(gps_ns: i64) -> i64 {
    // asking with GPS time is wrong only within the seconds of a leap itself
    gps_ns - TimeScale::Gps.ahead_of_utc_s(gps_ns).unwrap_or(0) * SECOND_NS
}

/// Payloads for the tests of this module and its parent.
#[cfg(test)]
pub(crate) mod payloads {
    /// Writes numbers at their places.
    pub(crate) fn with(length: usize, numbers: &[(usize, &[u8])]) -> Vec<u8> {
        let mut payload = vec![0; length];
        for (at, bytes) in numbers {
            payload[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        payload
    }

    /// NAV-PVT of 2024-03-10 12:00:00 with an RTK fix.
    pub(crate) fn pvt(tow_ms: u32) -> Vec<u8> {
        with(
            92,
            &[
                (0, &tow_ms.to_le_bytes()),
                (4, &2024u16.to_le_bytes()),
                (6, &[3, 10, 12, 0, 0, 7]),
                (12, &20u32.to_le_bytes()),
                (16, &(-5i32).to_le_bytes()),
                (20, &[3, 0b1010_0011, 0, 17]),
                (24, &(-937_505_719i32).to_le_bytes()),
                (28, &415_749_659i32.to_le_bytes()),
                (32, &246_719i32.to_le_bytes()),
                (36, &278_161i32.to_le_bytes()),
                (40, &14u32.to_le_bytes()),
                (44, &20u32.to_le_bytes()),
                (48, &3000i32.to_le_bytes()),
                (52, &(-4000i32).to_le_bytes()),
                (60, &5000i32.to_le_bytes()),
                (64, &18_000_000i32.to_le_bytes()),
                (68, &50u32.to_le_bytes()),
                (76, &123u16.to_le_bytes()),
                (84, &9_000_000i32.to_le_bytes()),
            ],
        )
    }

    /// NAV-HPPOSLLH at the same place.
    pub(crate) fn hpposllh(tow_ms: u32) -> Vec<u8> {
        with(
            36,
            &[
                (4, &tow_ms.to_le_bytes()),
                (8, &(-937_505_719i32).to_le_bytes()),
                (12, &415_749_659i32.to_le_bytes()),
                (16, &246_719i32.to_le_bytes()),
                (20, &278_161i32.to_le_bytes()),
                (24, &[(-3i8) as u8, 11, 4, (-4i8) as u8]),
                (28, &140u32.to_le_bytes()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pvt_is_read() {
        let Ok(Message::Pvt(pvt)) = Message::parse(NAV_PVT, &payloads::pvt(43_218_000)) else { panic!() };
        assert_eq!(pvt.utc_ns, Some(1_710_072_000 * SECOND_NS - 5));
        assert_eq!((pvt.fix_type, pvt.ok, pvt.differential, pvt.carrier, pvt.used), (3, true, true, 2, 17));
        assert_eq!(pvt.position.lat_lon_deg, [41.5749659, -93.7505719]);
        assert_eq!((pvt.position.altitude_m, pvt.position.ellipsoid_height_m), (278.161, 246.719));
        assert_eq!(pvt.velocity.ned_mps, [3.0, -4.0, 0.0]);
        assert_eq!((pvt.velocity.course_rad, pvt.pdop), (std::f64::consts::PI, 1.23));
        assert_eq!(pvt.heading_rad, Some(std::f64::consts::FRAC_PI_2));
    }

    #[test]
    fn fine_digits_are_joined() {
        let parsed = Message::parse(NAV_HPPOSLLH, &payloads::hpposllh(7));
        let Ok(Message::Position { tow_ms: 7, position, high_precision: true }) = parsed else { panic!() };
        assert_eq!(position.lat_lon_deg, [41.574965911, -93.750571903]);
        assert_eq!((position.ellipsoid_height_m, position.altitude_m), (246.7194, 278.1606));
        assert_eq!(position.horizontal_accuracy_m, 0.014);
    }

    #[test]
    fn gps_weeks_become_utc() {
        // week 2305 began on 2024-03-10 at 00:00:00 GPS time
        let sol = payloads::with(
            52,
            &[(0, &18_000u32.to_le_bytes()), (8, &2305i16.to_le_bytes()), (10, &[3, 0xD]), (47, &[9])],
        );
        let Ok(Message::Sol { utc_ns, used: 9, ok: true, .. }) = Message::parse(NAV_SOL, &sol) else { panic!() };
        assert_eq!(utc_ns, Some(1_710_028_800 * SECOND_NS));
        let pulse = |flags: u8, tow_ms: u32| {
            let half_ms = 1u32 << 31;
            let numbers: [(usize, &[u8]); 5] = [
                (0, &tow_ms.to_le_bytes()),
                (4, &half_ms.to_le_bytes()),
                (8, &(-7i32).to_le_bytes()),
                (12, &2305u16.to_le_bytes()),
                (14, &[flags]),
            ];
            Message::parse(TIM_TP, &payloads::with(16, &numbers))
        };
        let expected = TimePulse { utc_ns: 1_710_028_800 * SECOND_NS + 500_000, quantisation_error_ps: -7 };
        assert_eq!(pulse(0, 18_000), Ok(Message::TimePulse(expected)));
        assert_eq!(pulse(1, 0), Ok(Message::TimePulse(expected)));
        // found by fuzzing: a week whose nanoseconds an i64 does not hold
        let late = |week: u16| {
            let payload = payloads::with(16, &[(0, &[0xFF; 4]), (12, &week.to_le_bytes()), (14, &[1])]);
            Message::parse(TIM_TP, &payload)
        };
        assert!(late(14_700).is_ok());
        let (class, number) = TIM_TP;
        assert_eq!(late(14_701), Err(UbxError::Week { class, number, found: 14_701 }));
        for week in [i16::MIN, -1, 14_701, i16::MAX] {
            let sol = payloads::with(52, &[(8, &week.to_le_bytes()), (11, &[0xD])]);
            assert!(matches!(Message::parse(NAV_SOL, &sol), Ok(Message::Sol { utc_ns: None, .. })), "{week}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(Message::parse((0x0A, 4), &[]), Err(UbxError::Unknown { class: 0x0A, number: 4 }));
        let whole = payloads::pvt(0);
        for length in 0..whole.len() {
            assert_eq!(Message::parse(NAV_PVT, &whole[..length]).is_ok(), length >= 84);
        }
        let mut off = whole;
        off[28..32].copy_from_slice(&900_000_001i32.to_le_bytes());
        assert_eq!(Message::parse(NAV_PVT, &off), Err(UbxError::Position { class: 1, number: 7 }));
    }
}
