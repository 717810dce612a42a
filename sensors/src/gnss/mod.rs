//! Satellite receivers on a serial line: [`GnssDecoder`] takes the bytes as they come, NMEA 0183 and UBX in any
//! mixture, and gives one [`GnssFix`] for each epoch of the receiver. Fixes go to the vehicle's pose and, through
//! [`crate::clock`], to its time. Frames are found in [`frame`], read in [`nmea`] and [`ubx`], and joined here. What an inertial
//! unit inside a receiver measures is read apart from this, in [`esf`].
//!
//! Sentences of the same time of day, and UBX messages of the same time of week, belong together; those without a time
//! belong to the epoch before them. An epoch is over when the next begins, on NAV-EOE, or when the caller says so by
//! [`GnssDecoder::flush`], which a driver does when the line falls silent. The date comes from RMC or ZDA and is
//! carried across midnight. NMEA and UBX are assembled apart: a receiver that sends both gives two fixes for each
//! epoch. Promised: no panic on any input, no allocation once buffers have grown, everything strange is counted.

pub mod esf;
pub mod frame;
pub mod nmea;
pub mod ubx;

use frame::{Frame, FrameCounts, Framer};
use nmea::{Gga, NmeaError, Rmc, Sentence};
use ubx::{Message, Position, Pvt, TimePulse, UbxError, Velocity};

const HALF_DAY_NS: i64 = 43_200_000_000_000;
/// Systems whose satellites in view are told apart: there are seven talkers.
const MOST_TALKERS: usize = 8;
/// Positions of one epoch that lie apart by more than this, about 0.1 m, are counted.
const SAME_PLACE_DEG: f64 = 1e-6;

/// Which protocol a fix came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// NMEA 0183 sentences.
    Nmea,
    /// UBX messages.
    Ubx,
}

/// How a position was found, worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FixKind {
    /// Not at all.
    #[default]
    None,
    /// There is only time.
    TimeOnly,
    /// Made up by the receiver.
    Simulated,
    /// Entered by hand.
    Manual,
    /// From inertial sensors and wheels alone.
    DeadReckoning,
    /// From satellites alone.
    Single,
    /// With differential corrections, or by a precise positioning service.
    Differential,
    /// Real-time kinematics, ambiguities not resolved.
    RtkFloat,
    /// Real-time kinematics, ambiguities resolved.
    RtkFixed,
}

/// What a receiver knows of one epoch. What it did not tell is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GnssFix {
    /// Which protocol it came by.
    pub protocol: Protocol,
    /// The epoch in ns since 1970 (UTC), once the date is known.
    pub utc_ns: Option<i64>,
    /// The epoch within its day (UTC), in ns.
    pub time_of_day_ns: Option<i64>,
    /// Standard deviation of the time.
    pub time_deviation_ns: Option<u32>,
    /// How the position was found.
    pub kind: FixKind,
    /// 2 for a flat fix, 3 for one with height.
    pub dimensions: Option<u8>,
    /// Latitude (WGS 84), positive north.
    pub lat_deg: Option<f64>,
    /// Longitude (WGS 84), positive east.
    pub lon_deg: Option<f64>,
    /// Height above mean sea level.
    pub altitude_m: Option<f64>,
    /// Height above the WGS 84 ellipsoid.
    pub ellipsoid_height_m: Option<f64>,
    /// Satellites used.
    pub satellites_used: Option<u16>,
    /// Satellites in view, of all systems.
    pub satellites_in_view: Option<u16>,
    /// Dilution of position.
    pub pdop: Option<f64>,
    /// Horizontal dilution.
    pub hdop: Option<f64>,
    /// Vertical dilution.
    pub vdop: Option<f64>,
    /// Age of the differential corrections.
    pub correction_age_s: Option<f64>,
    /// Speed over ground.
    pub speed_mps: Option<f64>,
    /// Course over ground, clockwise from true north.
    pub course_rad: Option<f64>,
    /// Where the vehicle points, clockwise from true north.
    pub heading_rad: Option<f64>,
    /// Velocity north, east, down.
    pub velocity_ned_mps: Option<[f64; 3]>,
    /// Standard deviation of the latitude, as a distance.
    pub lat_deviation_m: Option<f64>,
    /// Standard deviation of the longitude, as a distance.
    pub lon_deviation_m: Option<f64>,
    /// Horizontal accuracy as a u-blox receiver estimates it.
    pub horizontal_accuracy_m: Option<f64>,
    /// Standard deviation of the height.
    pub height_deviation_m: Option<f64>,
    /// Standard deviation of the speed.
    pub speed_deviation_mps: Option<f64>,
    /// Standard deviation of the course.
    pub course_deviation_rad: Option<f64>,
}

impl GnssFix {
    const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            utc_ns: None,
            time_of_day_ns: None,
            time_deviation_ns: None,
            kind: FixKind::None,
            dimensions: None,
            lat_deg: None,
            lon_deg: None,
            altitude_m: None,
            ellipsoid_height_m: None,
            satellites_used: None,
            satellites_in_view: None,
            pdop: None,
            hdop: None,
            vdop: None,
            correction_age_s: None,
            speed_mps: None,
            course_rad: None,
            heading_rad: None,
            velocity_ned_mps: None,
            lat_deviation_m: None,
            lon_deviation_m: None,
            horizontal_accuracy_m: None,
            height_deviation_m: None,
            speed_deviation_mps: None,
            course_deviation_rad: None,
        }
    }

    /// Takes a position unless there is one, and tells whether it lies elsewhere than the one there is.
    fn place(&mut self, [lat_deg, lon_deg]: [f64; 2]) -> bool {
        let lat = *self.lat_deg.get_or_insert(lat_deg);
        let lon = *self.lon_deg.get_or_insert(lon_deg);
        (lat - lat_deg).abs() > SAME_PLACE_DEG || (lon - lon_deg).abs() > SAME_PLACE_DEG
    }

    fn set_position(&mut self, position: &Position) {
        let [lat_deg, lon_deg] = position.lat_lon_deg;
        (self.lat_deg, self.lon_deg) = (Some(lat_deg), Some(lon_deg));
        self.altitude_m = Some(position.altitude_m);
        self.ellipsoid_height_m = Some(position.ellipsoid_height_m);
        self.horizontal_accuracy_m = Some(position.horizontal_accuracy_m);
        self.height_deviation_m = Some(position.vertical_accuracy_m);
    }

    fn set_velocity(&mut self, velocity: &Velocity) {
        self.velocity_ned_mps = Some(velocity.ned_mps);
        self.speed_mps = Some(velocity.speed_mps);
        self.course_rad = Some(velocity.course_rad);
        self.speed_deviation_mps = Some(velocity.speed_deviation_mps);
        self.course_deviation_rad = Some(velocity.course_deviation_rad);
    }

    fn set_utc(&mut self, utc_ns: Option<i64>) {
        self.utc_ns = utc_ns.or(self.utc_ns);
        self.time_of_day_ns = self.utc_ns.map(|ns| ns.rem_euclid(2 * HALF_DAY_NS));
    }

    fn set_ubx_kind(&mut self, fix_type: u8, ok: bool, differential: bool, carrier: u8) {
        self.dimensions = match fix_type {
            2 => Some(2),
            3 | 4 => Some(3),
            _ => None,
        };
        self.kind = match (fix_type, carrier) {
            _ if !ok => FixKind::None,
            (1, _) => FixKind::DeadReckoning,
            (2..=4, 2) => FixKind::RtkFixed,
            (2..=4, 1) => FixKind::RtkFloat,
            (2..=4, _) if differential => FixKind::Differential,
            (2..=4, _) => FixKind::Single,
            (5, _) => FixKind::TimeOnly,
            _ => FixKind::None,
        };
    }
}

/// What the decoder found.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every fix")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GnssEvent {
    /// An epoch is complete.
    Fix(GnssFix),
    /// A pulse is due.
    TimePulse(TimePulse),
}

/// What became of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GnssSummary {
    /// Of what the stream consisted.
    pub frames: FrameCounts,
    /// Fixes given, with or without a position.
    pub fixes: u64,
    /// Of these, without a position.
    pub without_position: u64,
    /// Sentences that are not read here.
    pub nmea_unknown: u64,
    /// Sentences with a field that is wrong.
    pub nmea_malformed: u64,
    /// Sentences that say themselves that they are not valid.
    pub nmea_void: u64,
    /// Sentences whose position differs from another one's of the same epoch.
    pub nmea_elsewhere: u64,
    /// UBX messages that are not read here.
    pub ubx_unknown: u64,
    /// UBX messages that are too short or impossible.
    pub ubx_malformed: u64,
    /// The last sentence that was wrong.
    pub last_nmea_error: Option<NmeaError>,
    /// The last UBX message that was wrong.
    pub last_ubx_error: Option<UbxError>,
}

/// An epoch that is being put together.
#[derive(Clone, Copy, Debug)]
struct Pending {
    fix: GnssFix,
    /// Time of day in ns for NMEA, time of week in ms for UBX.
    time: Option<i64>,
    date_days: Option<i64>,
    used_in_lists: u16,
    in_view: [([u8; 2], u32); MOST_TALKERS],
    /// Whether the position has come from NAV-HPPOSLLH.
    is_precise: bool,
    /// Whether NAV-PVT has come, which tells the kind better than NAV-SOL.
    has_pvt: bool,
    is_empty: bool,
}

impl Pending {
    const fn new(protocol: Protocol) -> Self {
        Self {
            fix: GnssFix::new(protocol),
            time: None,
            date_days: None,
            used_in_lists: 0,
            in_view: [([0; 2], 0); MOST_TALKERS],
            is_precise: false,
            has_pvt: false,
            is_empty: true,
        }
    }

    /// The count of a talker, which repeats it in every sentence of a group and for every signal.
    fn see(&mut self, talker: [u8; 2], count: u32) {
        let place = self.in_view.iter_mut().find(|(known, _)| *known == talker || *known == [0; 2]);
        if let Some(place) = place {
            *place = (talker, place.1.max(count));
        }
    }
}

/// Turns a receiver's bytes into fixes.
#[derive(Clone, Debug)]
pub struct GnssDecoder {
    framer: Framer,
    nmea: Pending,
    ubx: Pending,
    /// The last date told, and the time of day at which it held.
    date: Option<(i64, i64)>,
    summary: GnssSummary,
}

impl Default for GnssDecoder {
    fn default() -> Self {
        Self {
            framer: Framer::default(),
            nmea: Pending::new(Protocol::Nmea),
            ubx: Pending::new(Protocol::Ubx),
            date: None,
            summary: GnssSummary::default(),
        }
    }
}

impl GnssDecoder {
    /// Takes the next bytes of the stream and adds what they complete to `events`.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<GnssEvent>) {
        self.framer.push(bytes);
        while let Some(frame) = self.framer.next_frame() {
            match frame {
                Frame::Nmea(body) => {
                    let sentence = Sentence::parse(body);
                    self.on_sentence(sentence, events);
                }
                Frame::Ubx { message, payload } => {
                    let message = Message::parse(message, payload);
                    self.on_message(message, events);
                }
            }
        }
        self.summary.frames = self.framer.counts();
    }

    /// Gives the epochs at hand: the line fell silent or ended. What comes later begins new ones.
    pub fn flush(&mut self, events: &mut Vec<GnssEvent>) {
        self.end_nmea(events);
        self.end_ubx(events);
    }

    /// What became of the stream so far.
    pub fn summary(&self) -> GnssSummary {
        self.summary
    }

    fn on_sentence(&mut self, sentence: Result<Sentence, NmeaError>, events: &mut Vec<GnssEvent>) {
        match sentence {
            Ok(sentence) => self.join_sentence(&sentence, events),
            Err(NmeaError::Unknown { .. }) => self.summary.nmea_unknown += 1,
            Err(error) => {
                self.summary.nmea_malformed += 1;
                self.summary.last_nmea_error = Some(error);
            }
        }
    }

    fn join_sentence(&mut self, sentence: &Sentence, events: &mut Vec<GnssEvent>) {
        self.begin_nmea(time_of_day(sentence), events);
        let pending = &mut self.nmea;
        pending.is_empty = false;
        let fix = &mut pending.fix;
        match *sentence {
            Sentence::Gga(gga) => self.join_gga(&gga),
            Sentence::Rmc(rmc) => self.join_rmc(&rmc),
            Sentence::Gll { valid, lat_lon_deg, .. } => self.join_position(valid, lat_lon_deg),
            Sentence::Gsa { mode, used, dops: [pdop, hdop, vdop] } => {
                fix.dimensions = mode.filter(|mode| matches!(mode, 2 | 3)).map(|mode| mode as u8).or(fix.dimensions);
                fix.pdop = fix.pdop.or(pdop);
                fix.hdop = fix.hdop.or(hdop);
                fix.vdop = fix.vdop.or(vdop);
                pending.used_in_lists = pending.used_in_lists.saturating_add(used);
            }
            Sentence::Gsv { talker, in_view } => {
                if let Some(count) = in_view {
                    pending.see(talker, count);
                }
            }
            Sentence::Vtg { course_rad, speed_mps } => {
                fix.course_rad = fix.course_rad.or(course_rad);
                fix.speed_mps = fix.speed_mps.or(speed_mps);
            }
            Sentence::Zda { date_days, .. } => pending.date_days = date_days.or(pending.date_days),
            Sentence::Hdt { heading_rad } => fix.heading_rad = heading_rad.or(fix.heading_rad),
            Sentence::Gst { deviations_m: [lat, lon, height], .. } => {
                (fix.lat_deviation_m, fix.lon_deviation_m, fix.height_deviation_m) = (lat, lon, height);
            }
        }
    }

    fn join_gga(&mut self, gga: &Gga) {
        let kind = match gga.quality {
            Some(1) => FixKind::Single,
            Some(2 | 3 | 9) => FixKind::Differential,
            Some(4) => FixKind::RtkFixed,
            Some(5) => FixKind::RtkFloat,
            Some(6) => FixKind::DeadReckoning,
            Some(7) => FixKind::Manual,
            Some(8) => FixKind::Simulated,
            _ => FixKind::None,
        };
        let valid = kind != FixKind::None;
        self.join_position(valid, gga.lat_lon_deg);
        let fix = &mut self.nmea.fix;
        fix.satellites_used = gga.used.and_then(|used| u16::try_from(used).ok());
        if !valid {
            return;
        }
        fix.kind = kind;
        fix.hdop = gga.hdop.or(fix.hdop);
        fix.altitude_m = gga.altitude_m;
        fix.ellipsoid_height_m = gga.altitude_m.zip(gga.geoid_m).map(|(altitude_m, geoid_m)| altitude_m + geoid_m);
        fix.correction_age_s = gga.correction_age_s;
    }

    fn join_rmc(&mut self, rmc: &Rmc) {
        self.join_position(rmc.valid, rmc.lat_lon_deg);
        self.nmea.date_days = rmc.date_days.or(self.nmea.date_days);
        if !rmc.valid {
            return;
        }
        let fix = &mut self.nmea.fix;
        fix.speed_mps = rmc.speed_mps.or(fix.speed_mps);
        fix.course_rad = rmc.course_rad.or(fix.course_rad);
    }

    fn join_position(&mut self, valid: bool, lat_lon_deg: Option<[f64; 2]>) {
        if !valid {
            self.summary.nmea_void += 1;
            return;
        }
        let Some(lat_lon_deg) = lat_lon_deg else { return };
        let fix = &mut self.nmea.fix;
        self.summary.nmea_elsewhere += u64::from(fix.place(lat_lon_deg));
        // without GGA nothing more is known of the kind
        fix.kind = fix.kind.max(FixKind::Single);
    }

    fn begin_nmea(&mut self, time: Option<i64>, events: &mut Vec<GnssEvent>) {
        let Some(time) = time else { return };
        if self.nmea.time.is_some_and(|current| current != time) {
            self.end_nmea(events);
        }
        self.nmea.time = Some(time);
    }

    fn end_nmea(&mut self, events: &mut Vec<GnssEvent>) {
        let pending = std::mem::replace(&mut self.nmea, Pending::new(Protocol::Nmea));
        if pending.is_empty {
            return;
        }
        let mut fix = pending.fix;
        fix.time_of_day_ns = pending.time;
        fix.utc_ns = pending.time.and_then(|time| self.dated(pending.date_days, time));
        if pending.used_in_lists > 0 {
            fix.satellites_used = fix.satellites_used.or(Some(pending.used_in_lists));
        }
        if pending.in_view.iter().any(|(talker, _)| *talker != [0; 2]) {
            let seen: u32 = pending.in_view.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
            fix.satellites_in_view = u16::try_from(seen).ok();
        }
        self.give(fix, events);
    }

    /// Joins a date, or the last known one, with a time of day.
    fn dated(&mut self, date_days: Option<i64>, time_ns: i64) -> Option<i64> {
        if let Some(date_days) = date_days {
            self.date = Some((date_days, time_ns));
        }
        let (mut date_days, dated_ns) = self.date?;
        if time_ns + HALF_DAY_NS < dated_ns {
            date_days += 1;
        }
        self.date = Some((date_days, time_ns));
        Some(nmea::since_1970_ns(date_days, time_ns))
    }

    fn on_message(&mut self, message: Result<Message, UbxError>, events: &mut Vec<GnssEvent>) {
        match message {
            Ok(Message::TimePulse(pulse)) => events.push(GnssEvent::TimePulse(pulse)),
            Ok(message) => self.join_message(&message, events),
            Err(UbxError::Unknown { .. }) => self.summary.ubx_unknown += 1,
            Err(error) => {
                self.summary.ubx_malformed += 1;
                self.summary.last_ubx_error = Some(error);
            }
        }
    }

    fn join_message(&mut self, message: &Message, events: &mut Vec<GnssEvent>) {
        let tow_ms = match message {
            Message::Pvt(Pvt { tow_ms, .. })
            | Message::Position { tow_ms, .. }
            | Message::Sol { tow_ms, .. }
            | Message::Velocity { tow_ms, .. }
            | Message::Utc { tow_ms, .. }
            | Message::EndOfEpoch { tow_ms } => *tow_ms,
            Message::TimePulse(_) => return,
        };
        self.begin_ubx(tow_ms, events);
        let pending = &mut self.ubx;
        let fix = &mut pending.fix;
        match message {
            Message::EndOfEpoch { .. } => return self.end_ubx(events),
            Message::TimePulse(_) => return,
            Message::Pvt(pvt) => {
                fix.set_utc(pvt.utc_ns);
                fix.time_deviation_ns = Some(pvt.time_deviation_ns);
                fix.set_ubx_kind(pvt.fix_type, pvt.ok, pvt.differential, pvt.carrier);
                fix.satellites_used = Some(u16::from(pvt.used));
                fix.pdop = Some(pvt.pdop);
                if !pending.is_precise {
                    fix.set_position(&pvt.position);
                }
                fix.set_velocity(&pvt.velocity);
                fix.heading_rad = pvt.heading_rad;
                pending.has_pvt = true;
            }
            Message::Position { position, high_precision, .. } => {
                let has_position = fix.lat_deg.is_some();
                if *high_precision || !has_position {
                    fix.set_position(position);
                    pending.is_precise = *high_precision;
                }
            }
            Message::Sol { fix_type, ok, differential, used, pdop, utc_ns, .. } => {
                fix.set_utc(fix.utc_ns.or(*utc_ns));
                if !pending.has_pvt {
                    fix.set_ubx_kind(*fix_type, *ok, *differential, 0);
                }
                fix.satellites_used = fix.satellites_used.or(Some(u16::from(*used)));
                fix.pdop = fix.pdop.or(Some(*pdop));
            }
            Message::Velocity { velocity, .. } => fix.set_velocity(velocity),
            Message::Utc { utc_ns, deviation_ns, .. } => {
                fix.set_utc(*utc_ns);
                fix.time_deviation_ns = Some(*deviation_ns);
            }
        }
        pending.is_empty = false;
    }

    fn begin_ubx(&mut self, tow_ms: u32, events: &mut Vec<GnssEvent>) {
        let time = Some(i64::from(tow_ms));
        if self.ubx.time.is_some() && self.ubx.time != time {
            self.end_ubx(events);
        }
        self.ubx.time = time;
    }

    fn end_ubx(&mut self, events: &mut Vec<GnssEvent>) {
        let pending = std::mem::replace(&mut self.ubx, Pending::new(Protocol::Ubx));
        if pending.is_empty {
            return;
        }
        let mut fix = pending.fix;
        if matches!(fix.kind, FixKind::None | FixKind::TimeOnly) {
            // such receivers send zeros or the last place they knew
            (fix.lat_deg, fix.lon_deg, fix.altitude_m, fix.ellipsoid_height_m) = (None, None, None, None);
            (fix.speed_mps, fix.course_rad, fix.velocity_ned_mps) = (None, None, None);
        }
        self.give(fix, events);
    }

    fn give(&mut self, fix: GnssFix, events: &mut Vec<GnssEvent>) {
        self.summary.fixes += 1;
        self.summary.without_position += u64::from(fix.lat_deg.is_none());
        events.push(GnssEvent::Fix(fix));
    }
}

fn time_of_day(sentence: &Sentence) -> Option<i64> {
    match sentence {
        Sentence::Gga(Gga { time_ns, .. }) | Sentence::Rmc(Rmc { time_ns, .. }) => *time_ns,
        Sentence::Gll { time_ns, .. } | Sentence::Zda { time_ns, .. } | Sentence::Gst { time_ns, .. } => *time_ns,
        Sentence::Gsa { .. } | Sentence::Gsv { .. } | Sentence::Vtg { .. } | Sentence::Hdt { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::writer;
    use proptest::prelude::*;
    use ubx::payloads;

    fn decode(bytes: &[u8], chunk: usize) -> (Vec<GnssEvent>, GnssSummary) {
        let (mut decoder, mut events) = (GnssDecoder::default(), Vec::new());
        for part in bytes.chunks(chunk) {
            decoder.push(part, &mut events);
        }
        decoder.flush(&mut events);
        (events, decoder.summary())
    }

    fn fixes(events: &[GnssEvent]) -> Vec<GnssFix> {
        let fix = |event: &GnssEvent| match event {
            GnssEvent::Fix(fix) => Some(*fix),
            GnssEvent::TimePulse(_) => None,
        };
        events.iter().filter_map(fix).collect()
    }

    fn sentences(bodies: &[&str]) -> Vec<u8> {
        bodies.iter().flat_map(|body| writer::nmea(body)).collect()
    }

    fn mixture() -> Vec<u8> {
        let mut bytes = sentences(&[
            "GPRMC,235959.50,A,4800.0,N,01100.0,E,10.0,90.0,311224,,",
            "GPGGA,235959.50,4800.0,N,01100.0,E,4,12,0.9,500.0,M,47.0,M,1.5,0001",
            "GNGSA,A,3,01,02,,,,,,,,,,,1.5,1.0,1.1",
            "GPGST,235959.50,,,,,0.5,0.25,1.5",
        ]);
        bytes.extend(writer::ubx((0x01, 0x07), &payloads::pvt(1000)));
        bytes.extend(sentences(&["GPGSV,1,1,09", "GLGSV,1,1,07", "GPHDT,45.0,T", "GPTXT,hello"]));
        bytes.extend(writer::ubx((0x01, 0x14), &payloads::hpposllh(1000)));
        bytes.extend(sentences(&["GPGGA,000000.50,4800.0,N,01100.0,E,0,00,,,M,,M,,"]));
        bytes.extend(writer::ubx((0x01, 0x61), &1000u32.to_le_bytes()));
        bytes.extend(writer::ubx((0x0D, 0x01), &[0; 16]));
        bytes
    }

    #[test]
    fn sentences_of_one_time_are_joined() {
        let (events, summary) = decode(&mixture(), 10_000);
        let found = fixes(&events);
        let [first, precise, void] = found[..] else { panic!("{found:?}") };
        assert_eq!(first.utc_ns, Some(1_735_689_599_500_000_000));
        assert_eq!((first.kind, first.dimensions), (FixKind::RtkFixed, Some(3)));
        assert_eq!((first.lat_deg, first.lon_deg), (Some(48.0), Some(11.0)));
        assert_eq!((first.altitude_m, first.ellipsoid_height_m), (Some(500.0), Some(547.0)));
        assert_eq!((first.satellites_used, first.satellites_in_view), (Some(12), Some(16)));
        assert_eq!((first.pdop, first.hdop, first.vdop), (Some(1.5), Some(0.9), Some(1.1)));
        assert_eq!((first.lat_deviation_m, first.height_deviation_m), (Some(0.5), Some(1.5)));
        assert_eq!(first.heading_rad, Some(std::f64::consts::FRAC_PI_4));
        assert_eq!(precise.protocol, Protocol::Ubx);
        assert_eq!((precise.lat_deg, precise.lon_deg), (Some(41.574965911), Some(-93.750571903)));
        assert_eq!((precise.kind, precise.satellites_used), (FixKind::RtkFixed, Some(17)));
        assert_eq!(void.utc_ns, Some(1_735_689_600_500_000_000), "the date goes on at midnight");
        assert_eq!((void.kind, void.lat_deg), (FixKind::None, None));
        assert_eq!((summary.fixes, summary.without_position, summary.nmea_void), (3, 1, 1));
        assert_eq!((summary.nmea_unknown, summary.nmea_malformed, summary.nmea_elsewhere), (1, 0, 0));
        assert!(matches!(events[2], GnssEvent::TimePulse(_)));
    }

    #[test]
    fn older_ubx_messages_are_joined() {
        let tow = 18_000u32.to_le_bytes();
        let messages: [((u8, u8), Vec<u8>); 4] = [
            ((1, 2), payloads::with(28, &[(0, &tow), (4, &110_000_000i32.to_le_bytes())])),
            ((1, 6), payloads::with(52, &[(0, &tow), (8, &2305i16.to_le_bytes()), (10, &[3, 0xF]), (47, &[9])])),
            ((1, 0x12), payloads::with(36, &[(0, &tow), (4, &150i32.to_le_bytes()), (20, &150u32.to_le_bytes())])),
            ((1, 0x21), payloads::with(20, &[(0, &tow), (12, &2024u16.to_le_bytes()), (14, &[3, 10, 0, 0, 0, 7])])),
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(|(message, payload)| writer::ubx(*message, payload)).collect();
        let (events, _) = decode(&bytes, 1);
        let found = fixes(&events);
        let [fix] = found[..] else { panic!("{found:?}") };
        assert_eq!((fix.lat_deg, fix.lon_deg, fix.kind), (Some(0.0), Some(11.0), FixKind::Differential));
        assert_eq!((fix.speed_mps, fix.velocity_ned_mps), (Some(1.5), Some([1.5, 0.0, 0.0])));
        assert_eq!((fix.utc_ns, fix.satellites_used), (Some(1_710_028_800_000_000_000), Some(9)));
    }

    #[test]
    fn any_cut_and_any_wrong_bit_is_borne() {
        let bytes = mixture();
        let whole = decode(&bytes, bytes.len());
        for chunk in 1..50 {
            assert_eq!(decode(&bytes, chunk), whole, "chunks of {chunk}");
        }
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], 64).0.len() <= whole.0.len());
        }
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            decode(&wrong, 64);
        }
    }

    proptest! {
        #[test]
        fn any_sentence_is_borne(
            kind in prop::sample::select(vec!["GGA", "RMC", "GLL", "GSA", "GSV", "VTG", "ZDA", "HDT", "GST"]),
            fields in prop::collection::vec("[-+.0-9AVNSEW]{0,11}", 0..20),
        ) {
            let bytes = writer::nmea(&format!("GN{kind},{}", fields.join(",")));
            let (_, summary) = decode(&bytes, 13);
            prop_assert_eq!(summary.frames.nmea + summary.frames.nmea_broken, 1);
        }
    }

    /// gpsd's regression logs with what gpsd makes of them.
    mod gpsd {
        use super::*;
        use crate::can::comma2k19::can_folder;

        /// A report of gpsd: time in ns since 1970, and a line of JSON.
        struct Report<'a> {
            line: &'a str,
            utc_ns: Option<i64>,
        }

        impl<'a> Report<'a> {
            fn all(text: &'a str) -> Vec<Self> {
                let tpv = |line: &&str| line.starts_with("{\"class\":\"TPV\"");
                text.lines().filter(tpv).map(|line| Self { line, utc_ns: utc_ns(line) }).collect()
            }

            /// The value's text.
            fn text(&self, key: &str) -> Option<&'a str> {
                let start = self.line.find(&format!("\"{key}\":"))? + key.len() + 3;
                self.line[start..].split([',', '}']).next()
            }

            /// Whether a value is what gpsd printed, to within half of the last digit (and a tie's rounding).
            fn agrees(&self, key: &str, value: Option<f64>) -> bool {
                let Some(text) = self.text(key) else { return true };
                let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                let half: f64 = format!("0.{:0>digits$}5", "").parse().unwrap();
                let printed: f64 = text.parse().unwrap();
                value.is_some_and(|value| (value - printed).abs() <= half + 1e-12)
            }
        }

        fn utc_ns(line: &str) -> Option<i64> {
            let start = line.find("\"time\":\"")? + 8;
            let digits: Vec<u8> = line[start..start + 23].bytes().filter(u8::is_ascii_digit).collect();
            let number =
                |from: usize, to: usize| -> i64 { std::str::from_utf8(&digits[from..to]).unwrap().parse().unwrap() };
            let date = nmea::days_since_1970(number(0, 4) as u32, number(4, 6) as u32, number(6, 8) as u32)?;
            let seconds = (number(8, 10) * 60 + number(10, 12)) * 60 + number(12, 14);
            Some(nmea::since_1970_ns(date, (seconds * 1000 + number(14, 17)) * 1_000_000))
        }

        /// gpsd's number of a kind; it prints none for a single fix.
        fn status(kind: FixKind) -> Option<f64> {
            match kind {
                FixKind::Differential => Some(2.0),
                FixKind::RtkFixed => Some(3.0),
                FixKind::RtkFloat => Some(4.0),
                _ => None,
            }
        }

        /// Compares every fix with the last of gpsd's reports of its time, and tells how many there are.
        fn compare(name: &str, ahead_ns: i64) -> Option<(Vec<GnssFix>, GnssSummary, usize)> {
            let folder = can_folder()?.join("nmea");
            let log = std::fs::read(folder.join(name)).unwrap();
            let check = std::fs::read_to_string(folder.join(format!("{name}.chk"))).unwrap();
            let (events, summary) = decode(&log, 37);
            let (found, reports) = (fixes(&events), Report::all(&check));
            let mut compared = 0;
            for fix in &found {
                let same =
                    |report: &&Report| report.utc_ns.is_some() && report.utc_ns == fix.utc_ns.map(|ns| ns + ahead_ns);
                let Some(report) = reports.iter().rev().find(same) else { continue };
                let values = [
                    ("lat", fix.lat_deg),
                    ("lon", fix.lon_deg),
                    ("altMSL", fix.altitude_m),
                    ("altHAE", fix.ellipsoid_height_m),
                    ("speed", fix.speed_mps),
                    ("track", fix.course_rad.map(f64::to_degrees)),
                    ("dgpsAge", fix.correction_age_s),
                    ("status", status(fix.kind)),
                    ("mode", fix.dimensions.map(f64::from).or(Some(3.0))),
                ];
                for (key, value) in values {
                    assert!(report.agrees(key, value), "{key}: {value:?}, gpsd {}", report.line);
                }
                compared += 1;
            }
            Some((found, summary, compared))
        }

        #[test]
        fn positions_of_an_rtk_log_are_gpsd_s() {
            let Some((found, summary, compared)) = compare("nmea-rtk.log", 0) else { return };
            println!("{summary:?}, {} fixes, {compared} compared", found.len());
            assert_eq!((summary.frames.nmea, summary.frames.nmea_checksum, summary.frames.nmea_broken), (244, 0, 0));
            assert_eq!((summary.nmea_unknown, summary.nmea_malformed, summary.nmea_elsewhere), (0, 0, 0));
            assert_eq!((found.len(), compared), (122, 122));
        }

        #[test]
        fn positions_of_a_ublox_log_are_gpsd_s() {
            // gpsd holds 2015 for a receiver's week that has rolled over, and adds 1024 weeks
            let rolled_over_ns = 1024 * 604_800 * 1_000_000_000;
            let Some((found, summary, compared)) = compare("neo-m8n.log", rolled_over_ns) else { return };
            println!("{summary:?}, {} fixes, {compared} compared", found.len());
            assert_eq!((summary.nmea_unknown, summary.nmea_malformed, summary.nmea_elsewhere), (0, 0, 0));
            // gpsd gives the first one, which has a position alone, before it knows the time, and the last one not at
            // all, as the log ends before the sentence by which it tells the end of an epoch
            assert_eq!((found.len(), compared), (24, 22));
        }
    }
}
