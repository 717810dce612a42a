//! NMEA 0183 sentences of satellite receivers: GGA, RMC, GLL, GSA, GSV, VTG, ZDA, HDT, GST. Comes from
//! [`super::frame`], goes to the assembly of fixes. Source: "u-blox 8 / M8 Receiver description" (UBX-13003221),
//! chapter "NMEA Protocol", and "NMEA Revealed" (<https://gpsd.gitlab.io/gpsd/NMEA.html>). Promised: no allocation,
//! degrees and seconds to the last digit sent, and an empty field is `None`, never zero.
//!
//! The crate `nmea` (0.8) is not used: it keeps heights and deviations as `f32`, refuses whole sentences for one field
//! that it does not know (a quality of 9, the second 60) and those beyond 102 bytes, and brings a parser generator and
//! a calendar for what are numbers between commas.

use std::fmt;
use thiserror::Error;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// The beginning of a field, for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldText {
    bytes: [u8; 16],
}

impl FieldText {
    fn of(field: &[u8]) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(field) {
            *to = *from;
        }
        Self { bytes }
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
        write!(formatter, "\"{}\"", text.escape_ascii())
    }
}

impl fmt::Debug for FieldText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a sentence with a right checksum is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NmeaError {
    /// It is none of those read here.
    #[error("NMEA sentence: expected one of GGA, RMC, GLL, GSA, GSV, VTG, ZDA, HDT, GST, found {found}")]
    Unknown {
        /// Its address.
        found: FieldText,
    },
    /// A field is neither empty nor what it should be.
    #[error("NMEA {sentence}, field {index}: expected {expected}, found {found}")]
    Field {
        /// The sentence's address.
        sentence: FieldText,
        /// The field's number, the address being 0.
        index: usize,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: FieldText,
    },
}

/// What one sentence says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sentence {
    /// Position, height and quality.
    Gga(Gga),
    /// Position, speed, course and date.
    Rmc(Rmc),
    /// Position.
    Gll {
        /// Time of day (UTC).
        time_ns: Option<i64>,
        /// Whether the receiver holds the position for valid.
        valid: bool,
        /// Latitude and longitude.
        lat_lon_deg: Option<[f64; 2]>,
    },
    /// Dimensions of the fix and dilutions.
    Gsa {
        /// 1 no fix, 2 flat, 3 with height.
        mode: Option<u32>,
        /// How many satellites it lists as used.
        used: u16,
        /// Dilution of position, horizontal and vertical dilution.
        dops: [Option<f64>; 3],
    },
    /// Satellites in view of one system.
    Gsv {
        /// The talker, which names the system.
        talker: [u8; 2],
        /// How many.
        in_view: Option<u32>,
    },
    /// Course and speed.
    Vtg {
        /// Course over ground from true north.
        course_rad: Option<f64>,
        /// Speed over ground.
        speed_mps: Option<f64>,
    },
    /// Date and time.
    Zda {
        /// Time of day (UTC).
        time_ns: Option<i64>,
        /// Days since 1970.
        date_days: Option<i64>,
    },
    /// Heading.
    Hdt {
        /// Where the vehicle points, from true north.
        heading_rad: Option<f64>,
    },
    /// Standard deviations.
    Gst {
        /// Time of day (UTC).
        time_ns: Option<i64>,
        /// Of latitude, longitude and height.
        deviations_m: [Option<f64>; 3],
    },
}

/// GGA: position, height and quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gga {
    /// Time of day (UTC).
    pub time_ns: Option<i64>,
    /// Latitude and longitude.
    pub lat_lon_deg: Option<[f64; 2]>,
    /// 0 none, 1 single, 2 differential, 3 PPS, 4 RTK fixed, 5 RTK float, 6 dead reckoning, 7 manual, 8 simulated.
    pub quality: Option<u32>,
    /// Satellites used.
    pub used: Option<u32>,
    /// Horizontal dilution.
    pub hdop: Option<f64>,
    /// Height above the geoid.
    pub altitude_m: Option<f64>,
    /// Height of the geoid above the ellipsoid.
    pub geoid_m: Option<f64>,
    /// Age of the differential corrections.
    pub correction_age_s: Option<f64>,
}

/// RMC: position, speed, course and date.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rmc {
    /// Time of day (UTC).
    pub time_ns: Option<i64>,
    /// Whether the receiver holds it for valid.
    pub valid: bool,
    /// Latitude and longitude.
    pub lat_lon_deg: Option<[f64; 2]>,
    /// Speed over ground.
    pub speed_mps: Option<f64>,
    /// Course over ground from true north.
    pub course_rad: Option<f64>,
    /// Days since 1970.
    pub date_days: Option<i64>,
}

impl Sentence {
    /// Reads what stands between `$` and `*`.
    ///
    /// # Errors
    /// If the sentence is not one of those read here, or if a field that is wanted is not what it should be.
    pub fn parse(body: &[u8]) -> Result<Self, NmeaError> {
        let fields = Fields { body };
        let address = fields.at(0);
        let &[talker_a, talker_b, ref kind @ ..] = address else {
            return Err(NmeaError::Unknown { found: FieldText::of(address) });
        };
        Ok(match kind {
            b"GGA" => Self::Gga(Gga {
                time_ns: fields.time(1)?,
                lat_lon_deg: fields.lat_lon(2)?,
                quality: fields.whole(6)?,
                used: fields.whole(7)?,
                hdop: fields.number(8)?,
                altitude_m: fields.number(9)?,
                geoid_m: fields.number(11)?,
                correction_age_s: fields.number(13)?,
            }),
            b"RMC" => Self::Rmc(Rmc {
                time_ns: fields.time(1)?,
                valid: fields.is_valid(2)?,
                lat_lon_deg: fields.lat_lon(3)?,
                speed_mps: fields.number(7)?.map(mps),
                course_rad: fields.number(8)?.map(f64::to_radians),
                date_days: fields.date(9)?,
            }),
            b"GLL" => {
                Self::Gll { lat_lon_deg: fields.lat_lon(1)?, time_ns: fields.time(5)?, valid: fields.is_valid(6)? }
            }
            b"GSA" => Self::Gsa {
                mode: fields.whole(2)?,
                used: (3..15).map(|index| u16::from(!fields.at(index).is_empty())).sum(),
                dops: [fields.number(15)?, fields.number(16)?, fields.number(17)?],
            },
            b"GSV" => Self::Gsv { talker: [talker_a, talker_b], in_view: fields.whole(3)? },
            b"VTG" => {
                Self::Vtg { course_rad: fields.number(1)?.map(f64::to_radians), speed_mps: fields.number(5)?.map(mps) }
            }
            b"ZDA" => Self::Zda { time_ns: fields.time(1)?, date_days: fields.split_date(2)? },
            b"HDT" => Self::Hdt { heading_rad: fields.number(1)?.map(f64::to_radians) },
            b"GST" => Self::Gst {
                time_ns: fields.time(1)?,
                deviations_m: [fields.number(6)?, fields.number(7)?, fields.number(8)?],
            },
            _ => return Err(NmeaError::Unknown { found: FieldText::of(address) }),
        })
    }
}

/// The fields of a sentence. Every reading gives `None` for a field that is empty or absent.
struct Fields<'a> {
    body: &'a [u8],
}

impl<'a> Fields<'a> {
    fn at(&self, index: usize) -> &'a [u8] {
        self.body.split(|byte| *byte == b',').nth(index).unwrap_or(&[])
    }

    fn wrong(&self, index: usize, expected: &'static str) -> NmeaError {
        let sentence = FieldText::of(self.at(0));
        NmeaError::Field { sentence, index, expected, found: FieldText::of(self.at(index)) }
    }

    fn read<T>(
        &self,
        index: usize,
        expected: &'static str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, NmeaError> {
        match self.at(index) {
            [] => Ok(None),
            field => read(field).map(Some).ok_or_else(|| self.wrong(index, expected)),
        }
    }

    fn number(&self, index: usize) -> Result<Option<f64>, NmeaError> {
        self.read(index, "a decimal number", decimal)
    }

    fn whole(&self, index: usize) -> Result<Option<u32>, NmeaError> {
        self.read(index, "a whole number", whole)
    }

    fn time(&self, index: usize) -> Result<Option<i64>, NmeaError> {
        self.read(index, "a time hhmmss.sss", time_of_day_ns)
    }

    fn date(&self, index: usize) -> Result<Option<i64>, NmeaError> {
        self.read(index, "a date ddmmyy", |field| {
            let (day, month, year) = (field.get(..2)?, field.get(2..4)?, field.get(4..)?);
            let year = (year.len() == 2).then(|| whole(year)).flatten()?;
            // there were no receivers before the first satellites
            days_since_1970(if year < 80 { 2000 + year } else { 1900 + year }, whole(month)?, whole(day)?)
        })
    }

    /// Day, month and year in fields of their own.
    fn split_date(&self, index: usize) -> Result<Option<i64>, NmeaError> {
        let (day, month, year) = (self.whole(index)?, self.whole(index + 1)?, self.whole(index + 2)?);
        let (Some(day), Some(month), Some(year)) = (day, month, year) else { return Ok(None) };
        days_since_1970(year, month, day).map(Some).ok_or_else(|| self.wrong(index, "a date dd,mm,yyyy"))
    }

    /// Status `A` or `D` for valid, `V` or nothing for void.
    fn is_valid(&self, index: usize) -> Result<bool, NmeaError> {
        match self.at(index) {
            b"A" | b"D" => Ok(true),
            b"V" | b"" => Ok(false),
            _ => Err(self.wrong(index, "status A, D or V")),
        }
    }

    /// Latitude, its hemisphere, longitude and its hemisphere.
    fn lat_lon(&self, index: usize) -> Result<Option<[f64; 2]>, NmeaError> {
        let lat = self.read(index, "a latitude ddmm.mmm", |field| angle_deg(field, 90.0))?;
        let lon = self.read(index + 2, "a longitude dddmm.mmm", |field| angle_deg(field, 180.0))?;
        let (Some(lat), Some(lon)) = (lat, lon) else { return Ok(None) };
        let lat = match self.at(index + 1) {
            b"N" => lat,
            b"S" => -lat,
            _ => return Err(self.wrong(index + 1, "N or S")),
        };
        let lon = match self.at(index + 3) {
            b"E" => lon,
            b"W" => -lon,
            _ => return Err(self.wrong(index + 3, "E or W")),
        };
        Ok(Some([lat, lon]))
    }
}

fn mps(knots: f64) -> f64 {
    knots * 1852.0 / 3600.0
}

/// Digits with a sign and a point; no exponent, no words.
fn decimal(field: &[u8]) -> Option<f64> {
    let plain = field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+'));
    plain.then(|| std::str::from_utf8(field).ok()?.parse().ok()).flatten()
}

fn whole(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Degrees times 100 plus minutes.
fn angle_deg(field: &[u8], most_deg: f64) -> Option<f64> {
    let point = field.iter().position(|byte| *byte == b'.').unwrap_or(field.len());
    let (degrees, minutes) = field.split_at_checked(point.checked_sub(2)?)?;
    let degrees = if degrees.is_empty() { 0 } else { whole(degrees)? };
    let minutes = minutes.first()?.is_ascii_digit().then(|| decimal(minutes)).flatten()?;
    let angle = f64::from(degrees) + minutes / 60.0;
    (minutes < 60.0 && angle <= most_deg).then_some(angle)
}

/// The second 60 of a leap second counts as the next minute's first.
fn time_of_day_ns(field: &[u8]) -> Option<i64> {
    let two = |at: usize, most: u32| {
        let digits = field.get(at..at + 2).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        whole(digits).filter(|value| *value <= most).map(i64::from)
    };
    let (hours, minutes, seconds) = (two(0, 23)?, two(2, 59)?, two(4, 60)?);
    let fraction = match field.get(6..)? {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let fraction_ns = padded.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((hours * 3600 + minutes * 60 + seconds) * SECOND_NS + fraction_ns)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
pub(crate) fn days_since_1970(year: u32, month: u32, day: u32) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // 2261 is the last whole year whose nanoseconds since 1970 an i64 holds
    if !(1970..=2261).contains(&year) || day == 0 || day > days_of_month {
        return None;
    }
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    // years begin in March, so that the leap day is the last
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Nanoseconds since 1970 of a time of day.
pub(crate) fn since_1970_ns(date_days: i64, time_of_day_ns: i64) -> i64 {
    date_days * DAY_S * SECOND_NS + time_of_day_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_whose_nanoseconds_have_no_room_are_no_dates() {
        let date = |year: u32| {
            let body = format!("GPZDA,235959.99,31,12,{year},00,00");
            match Sentence::parse(body.as_bytes()) {
                Ok(Sentence::Zda { date_days, .. }) => date_days,
                _ => None,
            }
        };
        let days = date(2261).unwrap();
        assert!(since_1970_ns(days, DAY_S * SECOND_NS - 1) > 0);
        assert_eq!((date(2262), date(9999), date(1969)), (None, None, None));
    }

    #[test]
    fn fields_are_read_to_the_last_digit() {
        let body = b"GNGGA,132819.60,4134.49795459,N,09345.03431408,W,2,10,0.9,278.161,M,-31.442,M,6.6,0133";
        let Ok(Sentence::Gga(gga)) = Sentence::parse(body) else { panic!() };
        assert_eq!(gga.time_ns, Some(48_499_600_000_000));
        assert_eq!(gga.lat_lon_deg, Some([41.0 + 34.49795459 / 60.0, -(93.0 + 45.03431408 / 60.0)]));
        assert_eq!((gga.quality, gga.used, gga.hdop), (Some(2), Some(10), Some(0.9)));
        assert_eq!((gga.altitude_m, gga.geoid_m, gga.correction_age_s), (Some(278.161), Some(-31.442), Some(6.6)));
        let Ok(Sentence::Rmc(rmc)) = Sentence::parse(b"GPRMC,235960,A,0000.5,S,00000.5,E,10,90,311216,,") else {
            panic!()
        };
        assert_eq!(rmc.time_ns, Some(86_400 * SECOND_NS));
        assert_eq!(rmc.lat_lon_deg, Some([-0.5 / 60.0, 0.5 / 60.0]));
        assert_eq!((rmc.speed_mps, rmc.course_rad), (Some(mps(10.0)), Some(std::f64::consts::FRAC_PI_2)));
        assert_eq!(rmc.date_days, Some(17_166));
    }

    #[test]
    fn other_sentences_are_read() {
        let gsa = Sentence::parse(b"GNGSA,A,3,01,02,,,,,,,,,,,1.5,1.0,1.1");
        assert_eq!(gsa, Ok(Sentence::Gsa { mode: Some(3), used: 2, dops: [Some(1.5), Some(1.0), Some(1.1)] }));
        let gsv = Sentence::parse(b"GLGSV,3,1,10,66,37,078,27");
        assert_eq!(gsv, Ok(Sentence::Gsv { talker: *b"GL", in_view: Some(10) }));
        let vtg = Sentence::parse(b"GPVTG,180,T,,M,3600,N,,K,A");
        let pi = std::f64::consts::PI;
        assert_eq!(vtg, Ok(Sentence::Vtg { course_rad: Some(pi), speed_mps: Some(1852.0) }));
        let zda = Sentence::parse(b"GPZDA,000001.5,29,02,2000,00,00");
        assert_eq!(zda, Ok(Sentence::Zda { time_ns: Some(1_500_000_000), date_days: Some(11_016) }));
        assert_eq!(Sentence::parse(b"HEHDT,180.0,T"), Ok(Sentence::Hdt { heading_rad: Some(pi) }));
        let gst = Sentence::parse(b"GPGST,000001,1,2,3,4,0.5,0.25,");
        let deviations_m = [Some(0.5), Some(0.25), None];
        assert_eq!(gst, Ok(Sentence::Gst { time_ns: Some(SECOND_NS), deviations_m }));
        let gll = Sentence::parse(b"GPGLL,,,,,000000,V,N");
        assert_eq!(gll, Ok(Sentence::Gll { time_ns: Some(0), valid: false, lat_lon_deg: None }));
    }

    #[test]
    fn wrong_fields_are_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"PUBX,00", "found \"PUBX\""),
            (b"", "found \"\""),
            (b"GPHDT,1e5", "field 1: expected a decimal number, found \"1e5\""),
            (b"GPHDT,nan", "field 1"),
            (b"GPGGA,240000", "field 1: expected a time"),
            (b"GPGGA,,9000.1,N,00000.0,E", "field 2: expected a latitude"),
            (b"GPGGA,,1260.0,N,00000.0,E", "field 2: expected a latitude"),
            (b"GPGGA,,1200.0,X,00000.0,E", "field 3: expected N or S"),
            (b"GPRMC,,A,,,,,,,290223", "field 9: expected a date"),
        ];
        for (body, expected) in cases {
            let message = Sentence::parse(body).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
