//! Continental's radar ARS548 RDI: a UDP datagram in, its detections, tracked objects or status out.
//!
//! Each datagram is one SOME/IP message, big-endian, of service 0; the method says what it holds: 336 the detections of
//! a cycle (35,336 bytes), 329 the tracked objects (9,401 bytes), 380 the status (84 bytes). The layouts follow
//! Continental's interface description as far as the open driver `tier4/nebula` shows it. Promised: lists go into
//! vectors that the caller keeps; what is not a finite number is left out and counted. Detections are in the radar's
//! frame (x along its axis, y left, z up), objects in the vehicle's frame that is configured in the radar. The
//! end-to-end checksum is not checked: the recording that this was tested with has zeros in its place.

use thiserror::Error;

/// The first bytes of every message: service, method, length of what follows.
const HEADER_BYTES: usize = 8;
/// The rest of the SOME/IP header, and the end-to-end protection (profile 7).
const PROTECTION_BYTES: usize = 8 + 20;
const SERVICE: u16 = 0;
const NS_PER_S: i64 = 1_000_000_000;

const DETECTIONS_BYTES: usize = 35_336;
const MAX_DETECTIONS: usize = 800;
const DETECTION_BYTES: usize = 44;
const OBJECTS_BYTES: usize = 9_401;
const MAX_OBJECTS: usize = 50;
const OBJECT_BYTES: usize = 187;
const STATUS_BYTES: usize = 84;

/// What a message of the radar holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ars548Kind {
    /// For [`read_detections`].
    Detections,
    /// For [`read_objects`].
    Objects,
    /// For [`read_status`].
    Status,
}

impl Ars548Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Detections, Self::Objects, Self::Status];

    /// What a datagram holds by its header, `None` for anything else, such as the radar's filter settings.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let header = Header::read(&mut Reader(payload))?;
        Self::ALL.into_iter().find(|kind| header.service == SERVICE && header.method == kind.method())
    }

    /// The number of the SOME/IP method.
    pub const fn method(self) -> u16 {
        match self {
            Self::Detections => 336,
            Self::Objects => 329,
            Self::Status => 380,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Detections => DETECTIONS_BYTES,
            Self::Objects => OBJECTS_BYTES,
            Self::Status => STATUS_BYTES,
        }
    }
}

/// Why a datagram is not the message that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ars548Error {
    /// It is too long or too short. Firmware 40 of corner radars sends longer object lists, which are not read.
    #[error("expected {expected} bytes in the ARS548 message, found {found}")]
    Length {
        /// Bytes of such a message.
        expected: usize,
        /// Bytes of the datagram.
        found: usize,
    },
    /// The length in its header is another.
    #[error("expected a length of {expected} in the header of the ARS548 message, found {found}")]
    StatedLength {
        /// What follows the header.
        expected: usize,
        /// What the header says.
        found: u32,
    },
    /// It is another message.
    #[error("expected method {expected} of service 0 in the ARS548 message, found {found} of service {found_service}")]
    Method {
        /// The method that was asked for.
        expected: u16,
        /// The method in the header.
        found: u16,
        /// The service in the header.
        found_service: u16,
    },
    /// It claims more entries than it has room for.
    #[error("expected at most {expected} entries in the ARS548 list, found {found}")]
    Count {
        /// The room of the list.
        expected: usize,
        /// What the list says.
        found: u32,
    },
}

/// How well the radar's clock follows the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ars548Sync {
    /// It does.
    Synchronised,
    /// It never has.
    Never,
    /// It does no longer.
    Lost,
    /// A code without a meaning.
    Unknown(u8),
}

impl Ars548Sync {
    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Synchronised,
            2 => Self::Never,
            3 => Self::Lost,
            other => Self::Unknown(other),
        }
    }
}

/// What a list of detections says of all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ars548DetectionList {
    /// When the cycle was measured, on the radar's clock.
    pub stamp_ns: i64,
    /// How good the stamp is.
    pub sync: Ars548Sync,
    /// Where the radar is mounted in the vehicle's frame, in metres.
    pub origin_m: [f32; 3],
    /// Roll, pitch and yaw of the radar in the vehicle's frame, in radians.
    pub origin_rpy_rad: [f32; 3],
    /// Standard deviations of these angles, in radians.
    pub origin_rpy_std_rad: [f32; 3],
    /// The range rates that can be told apart reach from here, in m/s.
    pub range_rate_min_mps: f32,
    /// The range rates that can be told apart reach up to here, in m/s.
    pub range_rate_max_mps: f32,
    /// Correction of the radar's azimuth that it has found itself, in radians.
    pub azimuth_correction_rad: f32,
    /// Correction of the radar's elevation that it has found itself, in radians.
    pub elevation_correction_rad: f32,
    /// The radar's code for the state of that search.
    pub alignment_status: u8,
    /// Detections left out because a value is not a finite number.
    pub dropped_non_finite: usize,
}

/// One reflection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ars548Detection {
    /// Angle to the left of the radar's axis, in radians.
    pub azimuth_rad: f32,
    /// Its standard deviation, in radians.
    pub azimuth_std_rad: f32,
    /// Angle above the radar's axis, in radians.
    pub elevation_rad: f32,
    /// Its standard deviation, in radians.
    pub elevation_std_rad: f32,
    /// Distance, in metres.
    pub range_m: f32,
    /// Its standard deviation, in metres.
    pub range_std_m: f32,
    /// Rate of change of the distance, in m/s: negative where it comes closer.
    pub range_rate_mps: f32,
    /// Its standard deviation, in m/s.
    pub range_rate_std_mps: f32,
    /// Values that are not valid, a bit each from the lowest: range, its deviation, azimuth, its deviation, elevation,
    /// its deviation, range rate, its deviation.
    pub invalid_flags: u8,
    /// Radar cross section, in dB over a square metre.
    pub rcs_dbsm: i8,
    /// The detection's number in its list before sorting.
    pub measurement_id: u16,
    /// Probability that it is real, in percent.
    pub positive_predictive_percent: u8,
    /// The radar's code for what it is; 255 if it does not know.
    pub classification: u8,
    /// Probability that it is more than one thing, in percent.
    pub multi_target_percent: u8,
    /// The object to which the radar assigns it; 0 for none.
    pub object_id: u16,
    /// Probability that range rate and azimuth are the right ones of several, in percent.
    pub ambiguity_percent: u8,
}

impl Ars548Detection {
    /// Bits of [`Self::invalid_flags`] that concern the position.
    const INVALID_POSITION: u8 = 0b0001_0101;

    /// Where it lies in the radar's frame, in metres, `None` if range or an angle is not valid.
    pub fn position_m(&self) -> Option<[f32; 3]> {
        if self.invalid_flags & Self::INVALID_POSITION != 0 {
            return None;
        }
        let level_m = self.range_m * libm::cosf(self.elevation_rad);
        let (sin, cos) = (libm::sinf(self.azimuth_rad), libm::cosf(self.azimuth_rad));
        Some([level_m * cos, level_m * sin, self.range_m * libm::sinf(self.elevation_rad)])
    }

    fn is_finite(&self) -> bool {
        [self.azimuth_rad, self.elevation_rad, self.range_m, self.range_rate_mps].iter().all(|value| value.is_finite())
    }
}

/// What a list of objects says of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ars548ObjectList {
    /// When the cycle was measured, on the radar's clock.
    pub stamp_ns: i64,
    /// How good the stamp is.
    pub sync: Ars548Sync,
    /// Objects left out because a value is not a finite number.
    pub dropped_non_finite: usize,
}

/// Whether the radar saw an object in this cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ars548Measurement {
    /// It did.
    Measured,
    /// It did for the first time.
    New,
    /// It did not: the object is carried on.
    Predicted,
    /// A code without a meaning, 255 among them.
    Unknown(u8),
}

/// Whether an object moves over ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ars548Movement {
    /// It does.
    Moving,
    /// It does not.
    Static,
    /// A code without a meaning, 255 among them.
    Unknown(u8),
}

/// Which point of an object its position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Ars548Reference {
    FrontLeft,
    Front,
    FrontRight,
    Right,
    RearRight,
    Rear,
    RearLeft,
    Left,
    /// Not known.
    Unknown(u8),
}

/// A quantity in the plane, with its uncertainty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ars548Planar {
    /// Values that are not valid, as the radar marks them; 0 if all are.
    pub invalid_flags: u8,
    /// Along x.
    pub x: f32,
    /// Standard deviation along x.
    pub x_std: f32,
    /// Along y.
    pub y: f32,
    /// Standard deviation along y.
    pub y_std: f32,
    /// Covariance of x and y.
    pub covariance_xy: f32,
}

/// What an object may be, in percent each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Ars548Classes {
    pub car_percent: u8,
    pub truck_percent: u8,
    pub motorcycle_percent: u8,
    pub bicycle_percent: u8,
    pub pedestrian_percent: u8,
    pub animal_percent: u8,
    pub hazard_percent: u8,
    pub unknown_percent: u8,
}

/// One object that the radar follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ars548Object {
    /// The object's number, which it keeps.
    pub id: u32,
    /// How long the radar has followed it, in its own count.
    pub age: u16,
    /// Whether it was seen in this cycle.
    pub measurement: Ars548Measurement,
    /// Whether it moves over ground.
    pub movement: Ars548Movement,
    /// Values of the position that are not valid, as the radar marks them; 0 if all are.
    pub position_invalid_flags: u16,
    /// Which point of the object the position is.
    pub reference: Ars548Reference,
    /// Position, in metres.
    pub position_m: [f32; 3],
    /// Its standard deviations, in metres.
    pub position_std_m: [f32; 3],
    /// Covariance of x and y, in m².
    pub position_covariance_xy_m2: f32,
    /// Which way its front looks: from x to the left, in radians.
    pub orientation_rad: f32,
    /// Its standard deviation, in radians.
    pub orientation_std_rad: f32,
    /// Probability that it is there, in percent.
    pub existence_percent: f32,
    /// What it is.
    pub classes: Ars548Classes,
    /// Velocity over ground, in m/s.
    pub velocity_mps: Ars548Planar,
    /// Velocity against the vehicle, in m/s.
    pub relative_velocity_mps: Ars548Planar,
    /// Acceleration over ground, in m/s².
    pub acceleration_mps2: Ars548Planar,
    /// Acceleration against the vehicle, in m/s².
    pub relative_acceleration_mps2: Ars548Planar,
    /// Rate of the orientation, in rad/s.
    pub orientation_rate_radps: f32,
    /// Its standard deviation, in rad/s.
    pub orientation_rate_std_radps: f32,
    /// Length, in metres.
    pub length_m: f32,
    /// Width, in metres.
    pub width_m: f32,
}

impl Ars548Object {
    fn is_finite(&self) -> bool {
        let planar = [self.velocity_mps, self.relative_velocity_mps, self.acceleration_mps2];
        let planar = planar.iter().chain([&self.relative_acceleration_mps2]).flat_map(|value| [value.x, value.y]);
        let mut values =
            self.position_m.into_iter().chain(planar).chain([self.orientation_rad, self.length_m, self.width_m]);
        values.all(f32::is_finite)
    }
}

/// The radar's word on itself: codes are handed on as they were sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ars548Status {
    /// When it was sent, on the radar's clock.
    pub stamp_ns: i64,
    /// How good the stamp is.
    pub sync: Ars548Sync,
    /// Version of the radar's software: major, minor, patch.
    pub software_version: [u8; 3],
    /// Where it is configured to be mounted in the vehicle's frame, in metres.
    pub mounting_m: [f32; 3],
    /// The yaw with which it is configured to be mounted, in radians.
    pub mounting_yaw_rad: f32,
    /// The pitch with which it is configured to be mounted, in radians.
    pub mounting_pitch_rad: f32,
    /// The side of its plug: 0 right, 1 left.
    pub plug_orientation: u8,
    /// Configured length, width and height of the vehicle, in metres.
    pub vehicle_size_m: [f32; 3],
    /// Configured distance of the vehicle's axles, in metres.
    pub wheelbase_m: f32,
    /// Configured distance up to which it measures, in metres.
    pub maximum_distance_m: u16,
    /// Frequency: 0 low, 1 middle, 2 high.
    pub frequency_slot: u8,
    /// Duration of a cycle, in milliseconds.
    pub cycle_time_ms: u8,
    /// When in the cycle it sends, in milliseconds.
    pub time_slot_ms: u8,
    /// Country code: 1 worldwide, 2 Japan.
    pub country: u8,
    /// Whether it saves power while the vehicle stands: 0 no, 1 yes.
    pub power_save_standstill: u8,
    /// The radar's own network address.
    pub address: [u8; 4],
    /// The address to which it sends.
    pub destination: [u8; 4],
    /// Counts the changes of its configuration.
    pub configuration_counter: u8,
    /// Whether these of the vehicle reach it (0) or not: longitudinal velocity, longitudinal and lateral acceleration,
    /// yaw rate, steering angle, driving direction, characteristic speed.
    pub vehicle_inputs: [u8; 7],
    /// 0 starting, 1 working, 2 not working.
    pub radar_status: u8,
    /// 0 if good, else a bit each: undervoltage now, before, overvoltage now, before.
    pub voltage_status: u8,
    /// 0 if good, else a bit each: too cold now, before, too hot now, before.
    pub temperature_status: u8,
    /// Low half: blockage from 0 (blind) to 4 (none); high half: self-test 0 failed, 1 passed, 2 running.
    pub blockage_status: u8,
}

/// Reads the detections of a cycle. `detections` is emptied first and holds nothing after an error.
///
/// # Errors
/// If the datagram is another message or damaged.
pub fn read_detections(
    payload: &[u8],
    detections: &mut Vec<Ars548Detection>,
) -> Result<Ars548DetectionList, Ars548Error> {
    detections.clear();
    let body = check(payload, Ars548Kind::Detections)?;
    let short = Ars548Error::Length { expected: DETECTIONS_BYTES, found: payload.len() };
    let mut reader = Reader(body);
    let (mut list, records, count) = DetectionParts::read(&mut reader).ok_or(short)?;
    let count = checked_count(count, MAX_DETECTIONS)?;
    for record in records.chunks_exact(DETECTION_BYTES).take(count) {
        let detection = Ars548Detection::read(&mut Reader(record)).ok_or(short)?;
        if detection.is_finite() {
            detections.push(detection);
        } else {
            list.dropped_non_finite += 1;
        }
    }
    Ok(list)
}

/// Reads the objects of a cycle. `objects` is emptied first and holds nothing after an error.
///
/// # Errors
/// If the datagram is another message or damaged.
pub fn read_objects(payload: &[u8], objects: &mut Vec<Ars548Object>) -> Result<Ars548ObjectList, Ars548Error> {
    objects.clear();
    let body = check(payload, Ars548Kind::Objects)?;
    let short = Ars548Error::Length { expected: OBJECTS_BYTES, found: payload.len() };
    let mut reader = Reader(body);
    let (mut list, count) = ObjectParts::read(&mut reader).ok_or(short)?;
    let count = checked_count(count, MAX_OBJECTS)?;
    for record in reader.0.chunks_exact(OBJECT_BYTES).take(count) {
        let object = Ars548Object::read(&mut Reader(record)).ok_or(short)?;
        if object.is_finite() {
            objects.push(object);
        } else {
            list.dropped_non_finite += 1;
        }
    }
    Ok(list)
}

/// Reads the radar's status.
///
/// # Errors
/// If the datagram is another message or damaged.
pub fn read_status(payload: &[u8]) -> Result<Ars548Status, Ars548Error> {
    let body = check(payload, Ars548Kind::Status)?;
    let short = Ars548Error::Length { expected: STATUS_BYTES, found: payload.len() };
    Ars548Status::read(&mut Reader(body)).ok_or(short)
}

/// The message behind its header, if that is as it must be.
fn check(payload: &[u8], kind: Ars548Kind) -> Result<&[u8], Ars548Error> {
    let short = Ars548Error::Length { expected: kind.bytes(), found: payload.len() };
    let mut reader = Reader(payload);
    let Header { service, method, length } = Header::read(&mut reader).ok_or(short)?;
    if service != SERVICE || method != kind.method() {
        return Err(Ars548Error::Method { expected: kind.method(), found: method, found_service: service });
    }
    if payload.len() != kind.bytes() {
        return Err(short);
    }
    let expected = kind.bytes() - HEADER_BYTES;
    if length as usize != expected {
        return Err(Ars548Error::StatedLength { expected, found: length });
    }
    Ok(reader.0)
}

fn checked_count(found: u32, expected: usize) -> Result<usize, Ars548Error> {
    let count = usize::try_from(found).ok().filter(|count| *count <= expected);
    count.ok_or(Ars548Error::Count { expected, found })
}

/// Big-endian numbers one after the other, `None` at the end of the bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn f32(&mut self) -> Option<f32> {
        self.bytes().map(f32::from_be_bytes)
    }

    fn vector(&mut self) -> Option<[f32; 3]> {
        Some([self.f32()?, self.f32()?, self.f32()?])
    }

    /// Three values, each followed by its standard deviation.
    fn vector_and_std(&mut self) -> Option<([f32; 3], [f32; 3])> {
        let [(x, x_std), (y, y_std), (z, z_std)] =
            [(self.f32()?, self.f32()?), (self.f32()?, self.f32()?), (self.f32()?, self.f32()?)];
        Some(([x, y, z], [x_std, y_std, z_std]))
    }

    fn stamp(&mut self) -> Option<(i64, Ars548Sync)> {
        let (nanoseconds, seconds) = (self.u32()?, self.u32()?);
        let stamp_ns = i64::from(seconds) * NS_PER_S + i64::from(nanoseconds);
        Some((stamp_ns, Ars548Sync::from_code(self.u8()?)))
    }
}

struct Header {
    service: u16,
    method: u16,
    length: u32,
}

impl Header {
    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self { service: reader.u16()?, method: reader.u16()?, length: reader.u32()? })
    }
}

struct DetectionParts;

impl DetectionParts {
    /// What is said of all detections, the bytes of all records, and how many of them count.
    fn read<'a>(reader: &mut Reader<'a>) -> Option<(Ars548DetectionList, &'a [u8], u32)> {
        reader.slice(PROTECTION_BYTES)?;
        let (stamp_ns, sync) = reader.stamp()?;
        let (_event, _extended, _origin_invalid) = (reader.u32()?, reader.u8()?, reader.u16()?);
        let (origin_m, _) = reader.vector_and_std()?;
        let (origin_rpy_rad, origin_rpy_std_rad) = reader.vector_and_std()?;
        let _list_invalid = reader.u8()?;
        let records = reader.slice(MAX_DETECTIONS * DETECTION_BYTES)?;
        let (range_rate_min_mps, range_rate_max_mps) = (reader.f32()?, reader.f32()?);
        let count = reader.u32()?;
        let list = Ars548DetectionList {
            stamp_ns,
            sync,
            origin_m,
            origin_rpy_rad,
            origin_rpy_std_rad,
            range_rate_min_mps,
            range_rate_max_mps,
            azimuth_correction_rad: reader.f32()?,
            elevation_correction_rad: reader.f32()?,
            alignment_status: reader.u8()?,
            dropped_non_finite: 0,
        };
        Some((list, records, count))
    }
}

impl Ars548Detection {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (azimuth_rad, azimuth_std_rad) = (reader.f32()?, reader.f32()?);
        let invalid_flags = reader.u8()?;
        Some(Self {
            azimuth_rad,
            azimuth_std_rad,
            invalid_flags,
            elevation_rad: reader.f32()?,
            elevation_std_rad: reader.f32()?,
            range_m: reader.f32()?,
            range_std_m: reader.f32()?,
            range_rate_mps: reader.f32()?,
            range_rate_std_mps: reader.f32()?,
            rcs_dbsm: reader.u8()? as i8,
            measurement_id: reader.u16()?,
            positive_predictive_percent: reader.u8()?,
            classification: reader.u8()?,
            multi_target_percent: reader.u8()?,
            object_id: reader.u16()?,
            ambiguity_percent: reader.u8()?,
        })
    }
}

struct ObjectParts;

impl ObjectParts {
    /// What is said of all objects, and how many of the records behind it count.
    fn read(reader: &mut Reader) -> Option<(Ars548ObjectList, u32)> {
        reader.slice(PROTECTION_BYTES)?;
        let (stamp_ns, sync) = reader.stamp()?;
        let (_event, _extended) = (reader.u32()?, reader.u8()?);
        let count = u32::from(reader.u8()?);
        Some((Ars548ObjectList { stamp_ns, sync, dropped_non_finite: 0 }, count))
    }
}

impl Ars548Object {
    fn read(reader: &mut Reader) -> Option<Self> {
        let _status_sensor = reader.u16()?;
        let (id, age) = (reader.u32()?, reader.u16()?);
        let measurement = Ars548Measurement::from_code(reader.u8()?);
        let movement = Ars548Movement::from_code(reader.u8()?);
        let position_invalid_flags = reader.u16()?;
        let reference = Ars548Reference::from_code(reader.u8()?);
        let (position_m, position_std_m) = reader.vector_and_std()?;
        let position_covariance_xy_m2 = reader.f32()?;
        let (orientation_rad, orientation_std_rad) = (reader.f32()?, reader.f32()?);
        let _existence_invalid = reader.u8()?;
        let (existence_percent, _existence_predictive) = (reader.f32()?, reader.f32()?);
        let classes = Ars548Classes::read(reader)?;
        let (_overdrivable, _underdrivable) = (reader.u8()?, reader.u8()?);
        let (velocity_mps, relative_velocity_mps) = (Ars548Planar::read(reader)?, Ars548Planar::read(reader)?);
        let (acceleration_mps2, relative_acceleration_mps2) =
            (Ars548Planar::read(reader)?, Ars548Planar::read(reader)?);
        let _rate_invalid = reader.u8()?;
        let (orientation_rate_radps, orientation_rate_std_radps) = (reader.f32()?, reader.f32()?);
        Some(Self {
            id,
            age,
            measurement,
            movement,
            position_invalid_flags,
            reference,
            position_m,
            position_std_m,
            position_covariance_xy_m2,
            orientation_rad,
            orientation_std_rad,
            existence_percent,
            classes,
            velocity_mps,
            relative_velocity_mps,
            acceleration_mps2,
            relative_acceleration_mps2,
            orientation_rate_radps,
            orientation_rate_std_radps,
            length_m: read_edge(reader)?,
            width_m: read_edge(reader)?,
        })
    }
}

/// A length or width: its state, invalid flags, mean and standard deviation.
fn read_edge(reader: &mut Reader) -> Option<f32> {
    let (_status, _invalid) = (reader.u32()?, reader.u8()?);
    let (mean_m, _std_m) = (reader.f32()?, reader.f32()?);
    Some(mean_m)
}

impl Ars548Planar {
    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self {
            invalid_flags: reader.u8()?,
            x: reader.f32()?,
            x_std: reader.f32()?,
            y: reader.f32()?,
            y_std: reader.f32()?,
            covariance_xy: reader.f32()?,
        })
    }
}

impl Ars548Classes {
    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self {
            car_percent: reader.u8()?,
            truck_percent: reader.u8()?,
            motorcycle_percent: reader.u8()?,
            bicycle_percent: reader.u8()?,
            pedestrian_percent: reader.u8()?,
            animal_percent: reader.u8()?,
            hazard_percent: reader.u8()?,
            unknown_percent: reader.u8()?,
        })
    }
}

impl Ars548Measurement {
    /// Drivers name 1 and 2 the other way around; objects that the radar has followed for long carry 2, never 1.
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Measured,
            1 => Self::New,
            2 => Self::Predicted,
            other => Self::Unknown(other),
        }
    }
}

impl Ars548Movement {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Moving,
            1 => Self::Static,
            other => Self::Unknown(other),
        }
    }
}

impl Ars548Reference {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::FrontLeft,
            1 => Self::Front,
            2 => Self::FrontRight,
            3 => Self::Right,
            4 => Self::RearRight,
            5 => Self::Rear,
            6 => Self::RearLeft,
            7 => Self::Left,
            other => Self::Unknown(other),
        }
    }
}

impl Ars548Status {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (stamp_ns, sync) = reader.stamp()?;
        Some(Self {
            stamp_ns,
            sync,
            software_version: reader.bytes()?,
            mounting_m: reader.vector()?,
            mounting_yaw_rad: reader.f32()?,
            mounting_pitch_rad: reader.f32()?,
            plug_orientation: reader.u8()?,
            vehicle_size_m: reader.vector()?,
            wheelbase_m: reader.f32()?,
            maximum_distance_m: reader.u16()?,
            frequency_slot: reader.u8()?,
            cycle_time_ms: reader.u8()?,
            time_slot_ms: reader.u8()?,
            country: reader.u8()?,
            power_save_standstill: reader.u8()?,
            address: reader.bytes()?,
            destination: reader.bytes()?,
            configuration_counter: reader.u8()?,
            vehicle_inputs: reader.bytes()?,
            radar_status: reader.u8()?,
            voltage_status: reader.u8()?,
            temperature_status: reader.u8()?,
            blockage_status: reader.u8()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros2::Ros2Message;
    use proptest::prelude::*;
    use rusqlite::{Connection, OpenFlags};
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/lidar/radar_ars548/ars548");

    /// A message of that kind, all zeros behind the header.
    fn message(kind: Ars548Kind) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(kind.method().to_be_bytes());
        bytes.extend((kind.bytes() as u32 - 8).to_be_bytes());
        bytes.resize(kind.bytes(), 0);
        bytes
    }

    /// A list of so many detections; each one's range is its place in the list.
    fn detections(count: u32) -> Vec<u8> {
        let mut bytes = message(Ars548Kind::Detections);
        let first = DETECTIONS_BYTES - 14 - 21 - MAX_DETECTIONS * DETECTION_BYTES;
        for number in 0..count.min(800) as usize {
            let range = first + number * DETECTION_BYTES + 17;
            bytes[range..range + 4].copy_from_slice(&(number as f32).to_be_bytes());
        }
        let place = DETECTIONS_BYTES - 14 - 13;
        bytes[place..place + 4].copy_from_slice(&count.to_be_bytes());
        bytes
    }

    #[test]
    fn kinds_are_told_by_the_header() {
        for kind in Ars548Kind::ALL {
            assert_eq!(Ars548Kind::of(&message(kind)), Some(kind));
        }
        // Filter settings; another service; not even a header.
        assert_eq!(Ars548Kind::of(&[0, 0, 1, 0x8C, 0, 0, 0, 0]), None);
        assert_eq!(Ars548Kind::of(&[0, 1, 1, 0x50, 0, 0, 0, 0]), None);
        assert_eq!(Ars548Kind::of(&[0, 0, 1]), None);
    }

    #[test]
    fn as_many_detections_are_read_as_there_are() {
        let mut found = Vec::new();
        read_detections(&detections(800), &mut found).expect("a list");
        assert!(found.len() == 800 && found.iter().enumerate().all(|(at, found)| found.range_m == at as f32));
        read_detections(&detections(3), &mut found).expect("a list");
        assert_eq!(found.len(), 3);
        let error = read_detections(&detections(801), &mut found).expect_err("too many");
        assert_eq!(error, Ars548Error::Count { expected: 800, found: 801 });
        assert!(found.is_empty());
    }

    #[test]
    fn what_is_no_number_is_left_out_and_counted() {
        let mut bytes = detections(3);
        let second = DETECTIONS_BYTES - 14 - 21 - (MAX_DETECTIONS - 1) * DETECTION_BYTES;
        bytes[second..second + 4].copy_from_slice(&f32::NAN.to_be_bytes());
        let mut found = Vec::new();
        let list = read_detections(&bytes, &mut found).expect("a list");
        assert_eq!((found.len(), list.dropped_non_finite), (2, 1));
        let mut bytes = message(Ars548Kind::Objects);
        bytes[50] = 50;
        bytes[51 + 187 + 13..][..4].copy_from_slice(&f32::INFINITY.to_be_bytes());
        let mut found = Vec::new();
        let list = read_objects(&bytes, &mut found).expect("a list");
        assert_eq!((found.len(), list.dropped_non_finite), (49, 1));
        bytes[50] = 51;
        assert_eq!(read_objects(&bytes, &mut found), Err(Ars548Error::Count { expected: 50, found: 51 }));
    }

    #[test]
    fn the_status_is_read() {
        let mut bytes = message(Ars548Kind::Status);
        for (at, byte) in bytes.iter_mut().enumerate().skip(8) {
            *byte = at as u8;
        }
        bytes[20..24].copy_from_slice(&3.5_f32.to_be_bytes());
        let status = read_status(&bytes).expect("a status");
        assert_eq!(status.stamp_ns, 0x0C0D_0E0F * NS_PER_S + 0x0809_0A0B);
        assert_eq!((status.sync, status.software_version), (Ars548Sync::Unknown(16), [17, 18, 19]));
        assert_eq!((status.mounting_m[0], status.plug_orientation), (3.5, 40));
        assert_eq!((status.maximum_distance_m, status.frequency_slot, status.cycle_time_ms), (0x393A, 59, 60));
        assert_eq!((status.address, status.destination), ([64, 65, 66, 67], [68, 69, 70, 71]));
        assert_eq!((status.vehicle_inputs, status.radar_status), ([73, 74, 75, 76, 77, 78, 79], 80));
        assert_eq!((status.voltage_status, status.temperature_status, status.blockage_status), (81, 82, 83));
    }

    #[test]
    fn positions_lie_left_and_above() {
        let detection = Ars548Detection { range_m: 10.0, azimuth_rad: 0.5, elevation_rad: 0.1, ..Default::default() };
        let [x_m, y_m, z_m] = detection.position_m().expect("a position");
        assert!((x_m - 8.732_f32).abs() < 1e-3 && (y_m - 4.770_f32).abs() < 1e-3 && (z_m - 0.998_f32).abs() < 1e-3);
        // A deviation that is not valid does not matter to it.
        assert!(Ars548Detection { invalid_flags: 0b1110_1010, ..detection }.position_m().is_some());
        for flag in [1, 4, 16] {
            assert_eq!(Ars548Detection { invalid_flags: flag, ..detection }.position_m(), None);
        }
    }

    #[test]
    fn wrong_headers_are_refused() {
        let mut bytes = message(Ars548Kind::Status);
        let error = read_objects(&bytes, &mut Vec::new()).expect_err("another kind");
        assert_eq!(error, Ars548Error::Method { expected: 329, found: 380, found_service: 0 });
        bytes[7] = 77;
        assert_eq!(read_status(&bytes), Err(Ars548Error::StatedLength { expected: 76, found: 77 }));
        bytes.push(0);
        assert_eq!(read_status(&bytes), Err(Ars548Error::Length { expected: 84, found: 85 }));
    }

    #[test]
    fn damaged_messages_do_no_harm() {
        for kind in Ars548Kind::ALL {
            let whole = message(kind);
            for end in (0..whole.len()).step_by(7) {
                assert!(!read_any(&whole[..end]));
            }
            for bit in 0..64 * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                read_any(&damaged);
            }
        }
    }

    fn read_any(payload: &[u8]) -> bool {
        let detections = read_detections(payload, &mut Vec::new()).is_ok();
        let objects = read_objects(payload, &mut Vec::new()).is_ok();
        detections || objects || read_status(payload).is_ok()
    }

    proptest! {
        #[test]
        fn any_entries_do_no_harm(entry in proptest::collection::vec(any::<u8>(), 187), count in any::<u8>()) {
            let mut bytes = message(Ars548Kind::Objects);
            bytes[50] = count;
            for record in bytes[51..].chunks_exact_mut(187) {
                record.copy_from_slice(&entry);
            }
            let mut objects = Vec::new();
            if let Ok(list) = read_objects(&bytes, &mut objects) {
                prop_assert_eq!(objects.len() + list.dropped_non_finite, usize::from(count));
            }
        }
    }

    /// The values of a list in YAML under the names of its branches (`position.x`), one table an entry, that of the
    /// list itself first. Reads the plain form that ROS 2 prints, and nothing else of YAML.
    fn yaml_entries(text: &str) -> Vec<BTreeMap<String, String>> {
        let mut entries = vec![BTreeMap::new()];
        let mut branch: Vec<(usize, &str)> = Vec::new();
        for line in text.lines() {
            let bare = line.trim_start_matches([' ', '-']);
            let indent = line.len() - bare.len();
            if line.trim_start().starts_with('-') {
                entries.push(BTreeMap::new());
            }
            let Some((key, value)) = bare.split_once(':') else { continue };
            branch.retain(|(outer, _)| *outer < indent);
            // Entries of a list lie deeper than it, but are not part of its name.
            let names = branch.iter().map(|(_, name)| *name).filter(|name| !matches!(*name, "detections" | "objects"));
            let name = names.chain([key]).collect::<Vec<_>>().join(".");
            branch.push((indent, key));
            if let (Some(entry), false) = (entries.last_mut(), value.trim().is_empty()) {
                entry.insert(name, value.trim().to_owned());
            }
        }
        entries
    }

    /// What was found under the names of the file, and whether it is all there is.
    struct Expected(BTreeMap<String, String>);

    impl Expected {
        /// The file has six digits of each value.
        fn float(&mut self, name: &str, found: f32) {
            let expected: f64 = self.0.remove(name).expect(name).parse().expect(name);
            assert_eq!(format!("{:.5e}", f64::from(found)), format!("{expected:.5e}"), "{name}");
        }

        fn word(&mut self, name: &str, found: impl ToString) {
            assert_eq!(self.0.remove(name).expect(name), found.to_string(), "{name}");
        }

        fn planar(&mut self, name: &str, found: Ars548Planar) {
            self.float(&format!("{name}.x"), found.x);
            self.float(&format!("{name}.y"), found.y);
            self.float(&format!("{name}_std.x"), found.x_std);
            self.float(&format!("{name}_std.y"), found.y_std);
            self.float(&format!("{name}_covariance_xy"), found.covariance_xy);
            // It lies in the plane.
            self.float(&format!("{name}.z"), 0.0);
            self.float(&format!("{name}_std.z"), 0.0);
        }

        fn end(self) {
            assert_eq!(self.0, BTreeMap::new(), "values that were not compared");
        }
    }

    fn expect_stamp(expected: &mut Expected, stamp_ns: i64, frame: &str) {
        expected.word("header.stamp.sec", stamp_ns / NS_PER_S);
        expected.word("header.stamp.nanosec", stamp_ns % NS_PER_S);
        expected.word("header.frame_id", frame);
    }

    fn expect_detection(expected: BTreeMap<String, String>, found: &Ars548Detection) {
        let mut expected = Expected(expected);
        expected.float("azimuth_angle", found.azimuth_rad);
        expected.float("azimuth_angle_std", found.azimuth_std_rad);
        expected.float("elevation_angle", found.elevation_rad);
        expected.float("elevation_angle_std", found.elevation_std_rad);
        expected.float("range", found.range_m);
        expected.float("range_std", found.range_std_m);
        expected.float("range_rate", found.range_rate_mps);
        expected.float("range_rate_std", found.range_rate_std_mps);
        let quantities = ["distance", "azimuth", "elevation", "range_rate"];
        for (bit, quantity) in quantities.into_iter().enumerate() {
            let flag = |at: usize| found.invalid_flags & (1 << at) != 0;
            expected.word(&format!("invalid_{quantity}"), flag(bit * 2));
            expected.word(&format!("invalid_{quantity}_std"), flag(bit * 2 + 1));
        }
        expected.word("rcs", found.rcs_dbsm);
        expected.word("measurement_id", found.measurement_id);
        expected.word("raw_positive_predictive_value", found.positive_predictive_percent);
        expected.word("classification", found.classification);
        expected.word("raw_multi_target_probability", found.multi_target_percent);
        expected.word("object_id", found.object_id);
        expected.word("raw_ambiguity_flag", found.ambiguity_percent);
        expected.end();
    }

    fn expect_object(expected: BTreeMap<String, String>, found: &Ars548Object) {
        let mut expected = Expected(expected);
        expected.word("object_id", found.id);
        expected.word("age", found.age);
        let measurement = match found.measurement {
            Ars548Measurement::Measured => 0,
            Ars548Measurement::New => 1,
            Ars548Measurement::Predicted => 2,
            Ars548Measurement::Unknown(code) => code,
        };
        expected.word("status_measurement", measurement);
        let movement = match found.movement {
            Ars548Movement::Moving => 0,
            Ars548Movement::Static => 1,
            Ars548Movement::Unknown(code) => code,
        };
        expected.word("status_movement", movement);
        let reference: u8 = expected.0.remove("position_reference").expect("a reference").parse().expect("a number");
        assert_eq!(found.reference, Ars548Reference::from_code(reference));
        for ((axis, position), std) in ["x", "y", "z"].into_iter().zip(found.position_m).zip(found.position_std_m) {
            expected.float(&format!("position.{axis}"), position);
            expected.float(&format!("position_std.{axis}"), std);
        }
        expected.float("position_covariance_xy", found.position_covariance_xy_m2);
        expected.float("orientation", found.orientation_rad);
        expected.float("orientation_std", found.orientation_std_rad);
        expected.float("raw_existence_probability", found.existence_percent);
        let classes = found.classes;
        expected.word("raw_classification_car", classes.car_percent);
        expected.word("raw_classification_truck", classes.truck_percent);
        expected.word("raw_classification_motorcycle", classes.motorcycle_percent);
        expected.word("raw_classification_bicycle", classes.bicycle_percent);
        expected.word("raw_classification_pedestrian", classes.pedestrian_percent);
        expected.word("raw_classification_animal", classes.animal_percent);
        expected.word("raw_classification_hazard", classes.hazard_percent);
        expected.word("raw_classification_unknown", classes.unknown_percent);
        expected.planar("absolute_velocity", found.velocity_mps);
        expected.planar("absolute_acceleration", found.acceleration_mps2);
        // The driver that wrote the file puts the relative acceleration in the place of the relative velocity, and
        // leaves its own place empty.
        expected.planar("relative_velocity", found.relative_acceleration_mps2);
        expected.planar("relative_acceleration", Ars548Planar::default());
        expected.float("orientation_rate_mean", found.orientation_rate_radps);
        expected.float("orientation_rate_std", found.orientation_rate_std_radps);
        expected.float("shape_length_edge_mean", found.length_m);
        expected.float("shape_width_edge_mean", found.width_m);
        expected.end();
    }

    /// The payloads in the recording, `None`, with a word, without the data.
    fn recorded() -> Option<Vec<Vec<u8>>> {
        let path = format!("{DATA}/1708578204/1708578204.db3");
        if !Path::new(&path).exists() {
            eprintln!("skipped: ../shared is absent");
            return None;
        }
        // The folder may not be written to, not even for a lock.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let file = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).expect("a recording");
        let mut messages = file.prepare("SELECT data FROM messages ORDER BY timestamp").expect("messages");
        let messages = messages.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("messages");
        let mut payloads = Vec::new();
        for message in messages {
            let message = message.expect("a message");
            let decoded = Ros2Message::decode("nebula_msgs/msg/NebulaPackets", &message).expect("packets");
            let Ros2Message::Packets(scan) = decoded else { panic!("expected packets, found {decoded:?}") };
            payloads.extend(scan.packets.iter().map(|packet| packet.data.to_vec()));
        }
        Some(payloads)
    }

    #[test]
    fn a_recording_decodes_to_what_the_driver_made_of_it() {
        let Some(payloads) = recorded() else { return };
        let [objects_payload, detections_payload] = payloads.as_slice() else { panic!("expected two packets") };

        let text = fs::read_to_string(format!("{DATA}/1708578204_202447652_detection.yaml")).expect("detections");
        let mut entries = yaml_entries(&text).into_iter();
        let mut detections = Vec::new();
        let list = read_detections(detections_payload, &mut detections).expect("a list");
        let mut head = Expected(entries.next().expect("the list"));
        // The driver stamps it by its arrival.
        expect_stamp(&mut head, 1_708_578_204_202_447_652, "some_sensor_frame");
        assert_eq!(list.stamp_ns, 1_708_578_203_955_760_000);
        assert_eq!(list.sync, Ars548Sync::Synchronised);
        head.word("stamp_sync_status", 1);
        for (axis, value) in ["x", "y", "z"].into_iter().zip(list.origin_m) {
            head.float(&format!("origin_pos.{axis}"), value);
        }
        let ([_, pitch, yaw], [_, pitch_std, yaw_std]) = (list.origin_rpy_rad, list.origin_rpy_std_rad);
        head.float("origin_pitch", pitch);
        head.float("origin_pitch_std", pitch_std);
        head.float("origin_yaw", yaw);
        head.float("origin_yaw_std", yaw_std);
        head.float("ambiguity_free_velocity_min", list.range_rate_min_mps);
        head.float("ambiguity_free_velocity_max", list.range_rate_max_mps);
        head.float("alignment_azimuth_correction", list.azimuth_correction_rad);
        head.float("alignment_elevation_correction", list.elevation_correction_rad);
        head.word("alignment_status", list.alignment_status);
        head.end();
        assert_eq!((entries.len(), detections.len(), list.dropped_non_finite), (308, 308, 0));
        entries.zip(&detections).for_each(|(expected, found)| expect_detection(expected, found));

        let text = fs::read_to_string(format!("{DATA}/1708578204_199326753_object.yaml")).expect("objects");
        let mut entries = yaml_entries(&text).into_iter();
        let mut objects = Vec::new();
        let list = read_objects(objects_payload, &mut objects).expect("a list");
        let mut head = Expected(entries.next().expect("the list"));
        expect_stamp(&mut head, 1_708_578_204_199_326_753, "some_object_frame");
        assert_eq!((list.stamp_ns, list.sync), (1_708_578_203_955_760_000, Ars548Sync::Synchronised));
        head.word("stamp_sync_status", 1);
        head.end();
        assert_eq!((entries.len(), objects.len(), list.dropped_non_finite), (50, 50, 0));
        entries.zip(&objects).for_each(|(expected, found)| expect_object(expected, found));

        // What the driver loses: the velocities differ by that of the car, and, beside it, by its turning.
        let ahead = objects.iter().filter(|object| object.position_m[1].abs() < 10.0);
        let own_mps: Vec<f32> = ahead.map(|object| object.velocity_mps.x - object.relative_velocity_mps.x).collect();
        assert!(own_mps.len() > 3 && own_mps.iter().all(|own| (5.5..6.5).contains(own)), "{own_mps:?}");
    }
}
