//! Segments of comma2k19: one minute of a car's CAN frames, inertial samples, positions and true poses.
//!
//! Everything lies in NumPy files under `processed_log` and `global_pose`, with times in seconds since the recorder
//! started; a value array goes with every time array. All CAN frames are copied, one channel per bus; the radar's scans
//! are decoded from them where a DBC file describes them. The pictures of a segment are H.265 and are left out.
//!
//! DBC files come from the rig that was given or, without one, from a folder `opendbc` near the segment. A segment is
//! read whole: it is a minute long, some ten megabytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Can, CanQuantity, CanSignal, Mounting, MountingPose, Rig, Sensor, SensorKind, Vehicle};
use catseye_sensors::can::CanFrame;
use catseye_sensors::npy::NpyArray;
use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::picture::H265_ADVICE;
use catseye_sensors::radar::{RadarTrack, TOYOTA_TRACKS, ToyotaRadar};
use foxglove::messages::{LocationFix, PoseInFrame, Vector3};

use super::dbc::DbcFile;
use super::target::{Stream, Target, merge};
use super::{ImportError, ImportReport, Job, Skipped, files, rate_of, rig_of};
use crate::log::Channel;
use crate::log::packet::{StampInfo, timestamp};
use crate::log::statics::foxglove_pose;
use crate::log::writer::ChannelId;
use crate::messages::{CanMessage, ImuSample, RadarScan, RadarTarget};
use crate::record::Record;
use crate::truth::TOPIC_POSE;

/// Frame of the pose that the recording's authors computed.
const POSE_FRAME: &str = "ecef";

/// The bus that the Toyota's radar is on.
const RADAR_BUS: u8 = 1;
/// Buses from this number on hold what the recorder sent itself, on the bus of this number less.
const FIRST_ECHO_BUS: u8 = 128;
/// The DBC files of the Toyota, by bus.
const TOYOTA_DBC: [(u8, &str); 2] = [(0, "toyota_new_mc_pt_generated.dbc"), (RADAR_BUS, "toyota_adas.dbc")];
/// How far up from the segment a folder `opendbc` is looked for.
const DBC_LEVELS: usize = 4;
/// Part of the path of every segment of the other car, a Honda Civic, which these files do not describe.
const CIVIC: &str = "99c94dc769b5d96e";

/// An accelerometer's and a gyroscope's samples this close to each other make one.
const PAIR_NS: u64 = 10_000_000;
/// Rate where there are too few samples to tell, of any sensor.
const DEFAULT_RATE_HZ: f64 = 10.0;

/// Times are those of arrival. Frames come in batches, at most this far apart in the published segment.
const STAMPS: StampInfo =
    StampInfo { clock: ClockId::HostMonotonic, kind: StampKind::Arrival, uncertainty_ns: 16_000_000 };

const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;
const MPS_PER_KMPH: f64 = 1.0 / 3.6;

/// What the Toyota's signals give: quantity, signal, factor. Signs were checked against the phone's gyroscope and the
/// change of speed: yaw rate and steering count to the left, both accelerations the other way round.
const TOYOTA_SIGNALS: [(CanQuantity, &str, f64); 10] = [
    (CanQuantity::Speed, "SPEED.SPEED", MPS_PER_KMPH),
    (CanQuantity::YawRate, "KINEMATICS.YAW_RATE", RADIANS_PER_DEGREE),
    (CanQuantity::Steering, "STEER_ANGLE_SENSOR.STEER_ANGLE", RADIANS_PER_DEGREE),
    (CanQuantity::LongitudinalAcceleration, "KINEMATICS.ACCEL_X", -1.0),
    (CanQuantity::LateralAcceleration, "KINEMATICS.ACCEL_Y", -1.0),
    (CanQuantity::WheelFrontLeft, "WHEEL_SPEEDS.WHEEL_SPEED_FL", MPS_PER_KMPH),
    (CanQuantity::WheelFrontRight, "WHEEL_SPEEDS.WHEEL_SPEED_FR", MPS_PER_KMPH),
    (CanQuantity::WheelRearLeft, "WHEEL_SPEEDS.WHEEL_SPEED_RL", MPS_PER_KMPH),
    (CanQuantity::WheelRearRight, "WHEEL_SPEEDS.WHEEL_SPEED_RR", MPS_PER_KMPH),
    (CanQuantity::Accelerator, "GAS_PEDAL.GAS_PEDAL", 0.01),
];

const IN_CAN: &str = "the raw CAN frames hold it";
const NO_SENSOR: &str = "no sensor of a rig gives it";

/// Logs that are left out, with why.
const UNUSED_LOGS: [(&str, &str); 11] = [
    ("CAN/speed", IN_CAN),
    ("CAN/steering_angle", IN_CAN),
    ("CAN/wheel_speed", IN_CAN),
    ("CAN/radar", IN_CAN),
    ("IMU/gyro_bias", NO_SENSOR),
    ("IMU/gyro_uncalibrated", NO_SENSOR),
    ("IMU/magnetometer", NO_SENSOR),
    ("IMU/magnetometer_uncalibrated", NO_SENSOR),
    ("GNSS/live_gnss_qcom", "the other receiver gives more positions"),
    ("GNSS/raw_gnss_qcom", NO_SENSOR),
    ("GNSS/raw_gnss_ublox", NO_SENSOR),
];

/// Imports a segment.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let is_given = job.options.rig.is_some();
    let segment = Segment::read(job.src)?;
    let near = if is_given { Vec::new() } else { dbc_near(job.src)? };
    let rig = job.rig(segment.rig(&near))?;
    let mut target = Target::create(job, rig)?;
    let radar = radar_decoder(target.rig(), target.dbc());
    for Skipped { what, why, count } in &segment.skipped {
        target.skip_many(what, why, *count);
    }
    if !segment.poses.is_empty() {
        target.assume(TRUE_POSES);
    }
    state_assumptions(&mut target, is_given);
    let streams = segment.streams(&mut target, radar.as_ref())?;
    merge(&mut target, streams)?;
    target.finish()
}

const TRUE_POSES: &str = "The poses are those of the recorder's camera, not of the vehicle: axes forward, right, down, \
                          in the frame of the earth (ECEF).";

fn state_assumptions(target: &mut Target<'_>, rig_is_given: bool) {
    target.assume("Times are seconds since the recorder started and name the arrival.");
    target.assume(
        "CAN payloads are filled up with zeros to 8 bytes, since the recording leaves out zeros at their ends; \
         identifiers above 0x7ff are taken as 29 bits wide.",
    );
    target.assume("Altitudes are taken as they are, though the source does not say above what.");
    if rig_is_given {
        return;
    }
    target.assume(
        "Places of the sensors are not in the source: the recorder (inertial unit, receiver) is taken to be level \
         behind the windscreen, 1.5 m ahead of the rear axle and 1.3 m up, the radar behind the grille, 3.6 m ahead \
         and 0.5 m up.",
    );
    if target.rig().cans.iter().all(|can| can.dbc.is_empty()) {
        target.assume("No DBC file describes the CAN frames: name some in a rig file.");
    }
}

/// A message and its times.
#[derive(Clone, Debug)]
struct Timed<M> {
    arrival_ns: i64,
    stamp_ns: i64,
    message: M,
}

impl<M> Timed<M> {
    /// A message whose stamp is its arrival.
    fn arrived(arrival_ns: i64, message: M) -> Self {
        Timed { arrival_ns, stamp_ns: arrival_ns, message }
    }
}

/// Writes one message of a channel.
type Write<M> = fn(&mut Target<'_>, ChannelId, &Timed<M>) -> Result<(), ImportError>;

fn write_record<R: Record>(target: &mut Target<'_>, to: ChannelId, item: &Timed<R>) -> Result<(), ImportError> {
    target.write_record(to, item.arrival_ns, item.stamp_ns, &item.message)
}

fn write_foxglove<M: foxglove::Encode>(
    target: &mut Target<'_>,
    to: ChannelId,
    item: &Timed<M>,
) -> Result<(), ImportError> {
    target.write_foxglove(to, item.arrival_ns, item.stamp_ns, &item.message)
}

/// Messages of one channel in the order of arrival.
struct Series<M> {
    channel: ChannelId,
    items: std::vec::IntoIter<Timed<M>>,
    write: Write<M>,
}

impl<M> Series<M> {
    fn new(channel: ChannelId, items: Vec<Timed<M>>, write: Write<M>) -> Self {
        Series { channel, items: items.into_iter(), write }
    }
}

impl<M> Stream for Series<M> {
    fn next_ns(&self) -> Option<i64> {
        self.items.as_slice().first().map(|item| item.arrival_ns)
    }

    fn put_next(&mut self, target: &mut Target<'_>) -> Result<(), ImportError> {
        match self.items.next() {
            Some(item) => (self.write)(target, self.channel, &item),
            None => Ok(()),
        }
    }

    fn left(&self) -> u64 {
        self.items.as_slice().len() as u64
    }
}

/// What a segment holds, each log by time.
struct Segment {
    frames: Vec<(i64, CanFrame)>,
    samples: Vec<Timed<ImuSample>>,
    /// Latitude and longitude in degrees, speed in m/s, a time, altitude in m, bearing in degrees.
    fixes: Log<6>,
    /// `ecef_from_camera`, the camera's axes being forward, right, down.
    poses: Vec<(i64, Pose)>,
    skipped: Vec<Skipped>,
}

impl Segment {
    fn read(folder: &Path) -> Result<Self, ImportError> {
        let log = folder.join("processed_log");
        let mut segment = Segment {
            frames: read_frames(&log.join("CAN/raw_can"))?,
            samples: Vec::new(),
            fixes: Vec::new(),
            poses: Vec::new(),
            skipped: Vec::new(),
        };
        segment.read_imu(&log)?;
        segment.read_fixes(&log)?;
        segment.read_poses(&folder.join("global_pose"))?;
        segment.list_unused(folder, &log);
        Ok(segment)
    }

    fn skip(&mut self, what: &str, why: &str, count: u64) {
        self.skipped.push(Skipped { what: what.to_owned(), why: why.to_owned(), count });
    }

    fn read_imu(&mut self, log: &Path) -> Result<(), ImportError> {
        let accelerations = read_log::<3>(&log.join("IMU/accelerometer"))?;
        let rates = read_log::<3>(&log.join("IMU/gyro"))?;
        let (Some(accelerations), Some(rates)) = (accelerations, rates) else {
            self.skip("IMU", "the segment does not have both accelerometer and gyro", 1);
            return Ok(());
        };
        let total = rates.len();
        self.samples = pair_samples(&accelerations, rates);
        let alone = total.saturating_sub(self.samples.len()) as u64;
        self.skip("IMU/gyro", "no finite sample of the accelerometer within 10 ms", alone);
        Ok(())
    }

    fn read_fixes(&mut self, log: &Path) -> Result<(), ImportError> {
        let Some(mut fixes) = read_log::<6>(&log.join("GNSS/live_gnss_ublox"))? else {
            self.skip("GNSS/live_gnss_ublox", "the segment has none", 1);
            return Ok(());
        };
        let total = fixes.len();
        fixes.retain(|(_, values)| values.iter().all(|value| value.is_finite()));
        self.skip("GNSS/live_gnss_ublox", "a value is not finite", total.saturating_sub(fixes.len()) as u64);
        self.fixes = fixes;
        Ok(())
    }

    fn read_poses(&mut self, folder: &Path) -> Result<(), ImportError> {
        if !folder.is_dir() {
            self.skip("global_pose", "the segment has none", 1);
            return Ok(());
        }
        let times_ns = read_times(&folder.join("frame_times"))?;
        let positions = read_table::<3>(&folder.join("frame_positions"), times_ns.len())?;
        let orientations = read_table::<4>(&folder.join("frame_orientations"), times_ns.len())?;
        let total = times_ns.len();
        for ((time_ns, [x, y, z]), orientation) in times_ns.into_iter().zip(positions).zip(orientations) {
            let position = nalgebra::Vector3::new(x, y, z);
            self.poses.extend(Pose::from_quaternion_wxyz(orientation, position).map(|pose| (time_ns, pose)));
        }
        self.poses.sort_by_key(|(time_ns, _)| *time_ns);
        let broken = total.saturating_sub(self.poses.len()) as u64;
        self.skip("global_pose", "position or orientation is not usable", broken);
        Ok(())
    }

    fn list_unused(&mut self, folder: &Path, log: &Path) {
        for (name, why) in UNUSED_LOGS {
            let times = log.join(name).join("t");
            if times.is_file() {
                // a log that nobody reads may be broken
                let count = read_times(&times).map_or(1, |times_ns| times_ns.len() as u64);
                self.skip(name, why, count);
            }
        }
        if folder.join("video.hevc").is_file() {
            let why = format!("H.265 video is not decoded: {H265_ADVICE}, then import it on its own");
            self.skip("video.hevc", &why, 1);
        }
    }

    fn buses(&self) -> BTreeSet<u8> {
        self.frames.iter().map(|(_, frame)| frame.bus).collect()
    }

    /// The rig that follows from the segment and the DBC files found near it.
    fn rig(&self, dbc: &[(u8, DbcFile)]) -> Rig {
        // Toyota RAV4 of 2016
        let vehicle =
            Vehicle { length_m: 4.605, width_m: 1.845, height_m: 1.675, wheelbase_m: 2.66, rear_overhang_m: 1.0 };
        let mut rig = rig_of("comma2k19", vehicle, Vec::new(), Vec::new());
        let buses = self.buses();
        if buses.contains(&RADAR_BUS) && dbc.iter().any(|(bus, _)| *bus == RADAR_BUS) {
            rig.radars.push(sensor(SensorKind::Radar, 20.0, [3.6, 0.0, 0.5], [0.0; 3]));
        }
        if !self.samples.is_empty() {
            let rate_hz = rate_hz(self.samples.iter().map(|sample| sample.arrival_ns));
            // the log's axes are forward, right, down
            rig.imus.push(sensor(SensorKind::Imu, rate_hz, [1.5, 0.0, 1.3], [180.0, 0.0, 0.0]));
        }
        if !self.fixes.is_empty() {
            let rate_hz = rate_hz(self.fixes.iter().map(|(time_ns, _)| *time_ns));
            rig.gnss.push(sensor(SensorKind::Gnss, rate_hz, [1.5, 0.0, 1.3], [0.0; 3]));
        }
        rig.cans = buses.into_iter().map(|bus| can(bus, dbc)).collect();
        rig
    }

    /// Opens the channels; of messages with the same time those of an earlier stream come first, so a radar's scan
    /// comes behind the frames that it was decoded from.
    fn streams(
        self,
        target: &mut Target<'_>,
        radar: Option<&ToyotaRadar>,
    ) -> Result<Vec<Box<dyn Stream>>, ImportError> {
        let mut streams: Vec<Box<dyn Stream>> = Vec::new();
        let scans = radar.map(|radar| scans(radar, &self.frames));
        for (bus, messages) in messages_by_bus(&self.frames) {
            let channel = target.record_channel::<CanMessage>(&can_name(bus), &STAMPS)?;
            streams.push(Box::new(Series::new(channel, messages, write_record)));
        }
        let radar_name = SensorKind::Radar.name();
        let has_radar = target.rig().radars.iter().any(|sensor| sensor.name == radar_name);
        match (has_radar, scans) {
            (true, Some(scans)) => {
                let channel = target.record_channel::<RadarScan>(radar_name, &STAMPS)?;
                streams.push(Box::new(Series::new(channel, scans, write_record)));
            }
            (true, None) => target.skip("radar", "no DBC file of its bus describes its tracks"),
            (false, Some(scans)) => target.skip_many("radar", "the rig has no radar of that name", scans.len() as u64),
            (false, None) => {}
        }
        if !self.samples.is_empty() {
            let channel = target.record_channel::<ImuSample>(SensorKind::Imu.name(), &STAMPS)?;
            streams.push(Box::new(Series::new(channel, self.samples, write_record)));
        }
        if !self.fixes.is_empty() {
            let channel = target.foxglove_channel::<LocationFix>(SensorKind::Gnss.name(), &STAMPS)?;
            let fixes = self.fixes.iter().map(|(time_ns, values)| Timed::arrived(*time_ns, fix(*time_ns, values)));
            streams.push(Box::new(Series::new(channel, fixes.collect(), write_foxglove)));
        }
        if !self.poses.is_empty() {
            let channel = target.channel(Channel::of_foxglove::<PoseInFrame>(TOPIC_POSE), &STAMPS)?;
            let poses = self.poses.iter().map(|(time_ns, pose)| Timed::arrived(*time_ns, true_pose(*time_ns, pose)));
            streams.push(Box::new(Series::new(channel, poses.collect(), write_foxglove)));
        }
        Ok(streams)
    }
}

/// Readings per second of stamps in order.
fn rate_hz(mut stamps_ns: impl ExactSizeIterator<Item = i64>) -> f64 {
    let count = stamps_ns.len() as u64;
    let first_ns = stamps_ns.next().unwrap_or_default();
    let last_ns = stamps_ns.last().unwrap_or(first_ns);
    rate_of(count, first_ns, last_ns).unwrap_or(DEFAULT_RATE_HZ)
}

/// The one sensor of a kind, called by that kind's name.
fn sensor(kind: SensorKind, rate_hz: f64, xyz_m: [f64; 3], rpy_deg: [f64; 3]) -> Sensor {
    Sensor {
        name: kind.name().to_owned(),
        topic: kind.default_topic(kind.name()),
        rate_hz,
        mounting: Mounting { nominal: MountingPose { xyz_m, rpy_deg }, corrected: None },
    }
}

fn can_name(bus: u8) -> String {
    format!("can{bus}")
}

fn can(bus: u8, dbc: &[(u8, DbcFile)]) -> Can {
    let name = can_name(bus);
    let files: Vec<&DbcFile> = dbc.iter().filter(|(of, _)| *of == bus).map(|(_, file)| file).collect();
    let mut signals: BTreeMap<CanQuantity, Vec<CanSignal>> = BTreeMap::new();
    for (quantity, signal, scale) in TOYOTA_SIGNALS {
        if files.iter().any(|file| file.table.signal(signal).is_some()) {
            let signal = CanSignal { signal: signal.to_owned(), scale, offset: 0.0 };
            signals.insert(quantity, vec![signal]);
        }
    }
    let bitrate = (bus < FIRST_ECHO_BUS).then_some(500_000);
    let topic = SensorKind::Can.default_topic(&name);
    Can { topic, name, dbc: files.into_iter().map(|file| file.path.clone()).collect(), bitrate, signals }
}

/// The Toyota's DBC files in the nearest folder `opendbc` at or above the segment's, by bus.
fn dbc_near(segment: &Path) -> Result<Vec<(u8, DbcFile)>, ImportError> {
    // a path such as `.` has no folders above it until it is resolved
    let segment = segment.canonicalize().map_err(|error| ImportError::Io { path: segment.to_owned(), error })?;
    let mut found = Vec::new();
    if segment.to_string_lossy().contains(CIVIC) {
        return Ok(found);
    }
    for (bus, name) in TOYOTA_DBC {
        let mut places = segment.ancestors().take(DBC_LEVELS).map(|folder| folder.join("opendbc").join(name));
        if let Some(path) = places.find(|path| path.is_file()) {
            found.push((bus, DbcFile::read(&path)?));
        }
    }
    Ok(found)
}

/// The decoder for the radar's frames, if a DBC file of its bus describes them.
fn radar_decoder(rig: &Rig, dbc: &[DbcFile]) -> Option<ToyotaRadar> {
    let can = rig.cans.iter().find(|can| can.name == can_name(RADAR_BUS))?;
    let mut files = dbc.iter().filter(|file| can.dbc.contains(&PathBuf::from(&file.name)));
    files.find_map(|file| ToyotaRadar::new(file.table.clone()).ok())
}

/// The bytes of a NumPy file, and what they are called in errors.
struct NpyFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl NpyFile {
    fn read(path: &Path) -> Result<Self, ImportError> {
        Ok(NpyFile { path: path.to_owned(), bytes: files::read(path)? })
    }

    /// The array, which must have so many columns and, where that is known, rows.
    fn array(&self, columns: usize, rows: Option<usize>) -> Result<NpyArray<'_>, ImportError> {
        let array = NpyArray::parse(&self.bytes).map_err(|error| {
            ImportError::unexpected(&self.path, "a whole NumPy array", format!("something else ({error})"))
        })?;
        if array.columns() != columns {
            return Err(self.wrong(format!("{columns} columns"), array.columns().to_string()));
        }
        match rows {
            Some(rows) if rows != array.rows() => {
                Err(self.wrong(format!("{rows} rows, as there are times"), array.rows().to_string()))
            }
            _ => Ok(array),
        }
    }

    fn wrong(&self, expected: impl Into<String>, found: impl Into<String>) -> ImportError {
        ImportError::unexpected(&self.path, expected, found)
    }

    fn wrong_row(&self, row: usize, expected: &str, found: impl Into<String>) -> ImportError {
        self.wrong(format!("{expected} in row {row}"), found)
    }
}

/// Times in seconds, as nanoseconds.
fn read_times(path: &Path) -> Result<Vec<i64>, ImportError> {
    // the clock of a recorder that has run for thirty years
    const MAX_S: f64 = 1e9;
    let file = NpyFile::read(path)?;
    let array = file.array(1, None)?;
    let mut times_ns = Vec::with_capacity(array.rows());
    for row in 0..array.rows() {
        let seconds = array.f64_at(row, 0);
        let Some(seconds) = seconds.filter(|seconds| (0.0..MAX_S).contains(seconds)) else {
            let found = seconds.map_or_else(|| "no number".to_owned(), |seconds| seconds.to_string());
            return Err(file.wrong_row(row, "seconds since the recorder started", found));
        };
        times_ns.push((seconds * 1e9).round() as i64);
    }
    Ok(times_ns)
}

/// A table of numbers with `N` columns.
fn read_table<const N: usize>(path: &Path, rows: usize) -> Result<Vec<[f64; N]>, ImportError> {
    let file = NpyFile::read(path)?;
    let array = file.array(N, Some(rows))?;
    let mut table = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut values = [0.0; N];
        for (column, value) in values.iter_mut().enumerate() {
            *value = array.f64_at(row, column).ok_or_else(|| file.wrong_row(row, "numbers", "none"))?;
        }
        table.push(values);
    }
    Ok(table)
}

/// Times in nanoseconds, each with its values.
type Log<const N: usize> = Vec<(i64, [f64; N])>;

/// A log by time, `None` where the segment does not have it.
fn read_log<const N: usize>(folder: &Path) -> Result<Option<Log<N>>, ImportError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let times_ns = read_times(&folder.join("t"))?;
    let values = read_table::<N>(&folder.join("value"), times_ns.len())?;
    let mut rows: Log<N> = times_ns.into_iter().zip(values).collect();
    rows.sort_by_key(|(time_ns, _)| *time_ns);
    Ok(Some(rows))
}

/// All CAN frames by time; frames of the same time stay in the order of the file.
fn read_frames(folder: &Path) -> Result<Vec<(i64, CanFrame)>, ImportError> {
    let times_ns = read_times(&folder.join("t"))?;
    let rows = Some(times_ns.len());
    let ids = NpyFile::read(&folder.join("address"))?;
    let buses = NpyFile::read(&folder.join("src"))?;
    let payloads = NpyFile::read(&folder.join("data"))?;
    let (id_array, bus_array, payload_array) = (ids.array(1, rows)?, buses.array(1, rows)?, payloads.array(1, rows)?);
    let mut frames = Vec::with_capacity(times_ns.len());
    for (row, time_ns) in times_ns.into_iter().enumerate() {
        let id = number::<u32>(&ids, &id_array, row, "a CAN identifier")?;
        let bus = number::<u8>(&buses, &bus_array, row, "a bus number from 0 to 255")?;
        let Some(payload) = payload_array.bytes_at(row) else {
            return Err(payloads.wrong_row(row, "a byte string", "none"));
        };
        let frame = CanFrame::new(id, id > MAX_STANDARD_ID, false, bus, &filled(payload))
            .map_err(|error| payloads.wrong_row(row, "a CAN frame", format!("none ({error})")))?;
        frames.push((time_ns, frame));
    }
    frames.sort_by_key(|(time_ns, _)| *time_ns);
    Ok(frames)
}

/// Largest identifier of 11 bits.
const MAX_STANDARD_ID: u32 = 0x7ff;
/// Longest payload of a classic CAN frame.
const PAYLOAD_BYTES: usize = 8;

/// A payload with the zeros at its end that the recording leaves out.
fn filled(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    payload.resize(payload.len().max(PAYLOAD_BYTES), 0);
    payload
}

fn number<T: TryFrom<i64>>(file: &NpyFile, array: &NpyArray<'_>, row: usize, what: &str) -> Result<T, ImportError> {
    let found = array.i64_at(row, 0);
    found.and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
        let found = found.map_or_else(|| "no integer".to_owned(), |value| value.to_string());
        file.wrong_row(row, what, found)
    })
}

fn messages_by_bus(frames: &[(i64, CanFrame)]) -> BTreeMap<u8, Vec<Timed<CanMessage>>> {
    let mut buses: BTreeMap<u8, Vec<Timed<CanMessage>>> = BTreeMap::new();
    for (time_ns, frame) in frames {
        let message = CanMessage::from(frame);
        buses.entry(frame.bus).or_default().push(Timed::arrived(*time_ns, message));
    }
    buses
}

/// The tracks of one cycle of the radar, by number, as far as they have come.
#[derive(Default)]
struct Cycle {
    counter: Option<u8>,
    last_ns: i64,
    tracks: BTreeMap<u16, RadarTrack>,
}

impl Cycle {
    /// Whether a track belongs to the next cycle.
    fn is_past(&self, track: &RadarTrack) -> bool {
        self.counter.is_some_and(|counter| counter != track.counter) || self.tracks.contains_key(&track.id)
    }

    fn add(&mut self, time_ns: i64, track: RadarTrack) {
        self.counter = Some(track.counter);
        self.last_ns = time_ns;
        self.tracks.insert(track.id, track);
    }

    fn is_complete(&self) -> bool {
        self.tracks.len() == usize::from(TOYOTA_TRACKS)
    }

    /// The scan, stamped with the cycle's last frame, and an empty cycle in place of this one.
    fn close(&mut self, now_ns: i64) -> Option<Timed<RadarScan>> {
        let Cycle { counter, last_ns, tracks } = std::mem::take(self);
        counter?;
        let valid = tracks.values().filter(|track| track.valid);
        let targets = valid.map(|track| RadarTarget {
            id: track.id,
            x_m: track.long_m,
            y_m: track.lat_m,
            range_rate_mps: track.rel_speed_mps,
            is_new: track.new,
        });
        let message = RadarScan { targets: targets.take(MAX_TARGETS).collect() };
        Some(Timed { arrival_ns: now_ns, stamp_ns: last_ns, message })
    }
}

/// Most targets of a scan.
const MAX_TARGETS: usize = 64;

/// The radar's scans: one a cycle, which ends with its last track or, where one is missing, with the next cycle's
/// first.
fn scans(radar: &ToyotaRadar, frames: &[(i64, CanFrame)]) -> Vec<Timed<RadarScan>> {
    let mut scans = Vec::new();
    let mut cycle = Cycle::default();
    for (time_ns, frame) in frames.iter().filter(|(_, frame)| frame.bus == RADAR_BUS) {
        let Some(track) = radar.track(frame) else { continue };
        if cycle.is_past(&track) {
            scans.extend(cycle.close(*time_ns));
        }
        cycle.add(*time_ns, track);
        if cycle.is_complete() {
            scans.extend(cycle.close(*time_ns));
        }
    }
    let last_ns = cycle.last_ns;
    scans.extend(cycle.close(last_ns));
    scans
}

/// Joins every rotation rate with the acceleration nearest in time; both are by time. Rates without one are left out.
fn pair_samples(accelerations: &[(i64, [f64; 3])], rates: Log<3>) -> Vec<Timed<ImuSample>> {
    let mut samples = Vec::with_capacity(rates.len());
    for (time_ns, angular_velocity_radps) in rates {
        let behind = accelerations.partition_point(|(other_ns, _)| *other_ns < time_ns);
        let around = [behind.checked_sub(1), Some(behind)].into_iter().flatten();
        let around = around.filter_map(|index| accelerations.get(index));
        let nearest = around.min_by_key(|(other_ns, _)| other_ns.abs_diff(time_ns));
        let Some((other_ns, acceleration_mps2)) = nearest else { continue };
        let is_finite = angular_velocity_radps.iter().chain(acceleration_mps2).all(|value| value.is_finite());
        if is_finite && other_ns.abs_diff(time_ns) <= PAIR_NS {
            let sample = ImuSample { angular_velocity_radps, acceleration_mps2: *acceleration_mps2 };
            samples.push(Timed::arrived(time_ns, sample));
        }
    }
    samples
}

/// A position with its velocity east, north, up; the bearing counts clockwise from north.
fn fix(time_ns: i64, values: &[f64; 6]) -> LocationFix {
    let [latitude, longitude, speed_mps, _, altitude, bearing_deg] = *values;
    let (sin, cos) = libm::sincos(bearing_deg * RADIANS_PER_DEGREE);
    LocationFix {
        timestamp: timestamp(time_ns),
        frame_id: SensorKind::Gnss.name().to_owned(),
        latitude,
        longitude,
        altitude,
        velocity: Some(Vector3 { x: speed_mps * sin, y: speed_mps * cos, z: 0.0 }),
        ..LocationFix::default()
    }
}

fn true_pose(time_ns: i64, ecef_from_camera: &Pose) -> PoseInFrame {
    PoseInFrame {
        timestamp: timestamp(time_ns),
        frame_id: POSE_FRAME.to_owned(),
        pose: Some(foxglove_pose(ecef_from_camera)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{ImportKind, ImportOptions, import};
    use super::*;
    use crate::log::RIG_ATTACHMENT;
    use crate::log::reader::{Event, LogReader};

    const SEGMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/can/comma2k19/segment");

    /// What a test wants to know of a log.
    #[derive(Default)]
    pub(in crate::log::import) struct Contents {
        /// Arrival and stamp of every message, by topic.
        pub(in crate::log::import) messages: BTreeMap<String, Vec<(i64, i64)>>,
        /// The bytes of every message, by topic.
        pub(in crate::log::import) data: BTreeMap<String, Vec<Vec<u8>>>,
        pub(in crate::log::import) attachments: BTreeMap<String, Vec<u8>>,
        pub(in crate::log::import) channels: Vec<Channel>,
    }

    impl Contents {
        pub(in crate::log::import) fn read(path: &Path) -> Self {
            let mut reader = LogReader::open(path).unwrap();
            let mut contents = Contents::default();
            while let Some(event) = reader.next().unwrap() {
                match event {
                    Event::Message(message) => {
                        let topic = message.channel.topic.clone();
                        let times = (message.log_ns, message.publish_ns);
                        contents.messages.entry(topic.clone()).or_default().push(times);
                        contents.data.entry(topic).or_default().push(message.data.to_vec());
                        if !contents.channels.contains(message.channel) {
                            contents.channels.push((**message.channel).clone());
                        }
                    }
                    Event::Attachment { name, data } => {
                        contents.attachments.insert(name, data);
                    }
                    Event::Metadata { .. } => {}
                }
            }
            contents
        }

        pub(in crate::log::import) fn rig(&self) -> Rig {
            let text = std::str::from_utf8(&self.attachments[RIG_ATTACHMENT]).unwrap();
            Rig::parse(text, RIG_ATTACHMENT).unwrap_or_else(|error| panic!("{error}"))
        }

        pub(in crate::log::import) fn count(&self, topic: &str) -> usize {
            self.messages.get(topic).map_or(0, Vec::len)
        }
    }

    fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn floats(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn integers(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Three frames on two buses, out of order, and nothing else.
    fn write_segment(folder: &Path) -> PathBuf {
        let can = folder.join("segment/processed_log/CAN/raw_can");
        std::fs::create_dir_all(&can).unwrap();
        std::fs::write(can.join("t"), npy("<f8", "(3,)", &floats(&[1.5, 1.25, 2.0]))).unwrap();
        std::fs::write(can.join("address"), npy("<i8", "(3,)", &integers(&[37, 0x800, 36]))).unwrap();
        std::fs::write(can.join("src"), npy("<i8", "(3,)", &integers(&[0, 128, 0]))).unwrap();
        std::fs::write(can.join("data"), npy("|S3", "(3,)", b"\x01\0\0\x02\x03\0\x04\x05\x06")).unwrap();
        folder.join("segment")
    }

    fn import_to(src: &Path, out: &Path, options: &ImportOptions<'_>) -> Result<ImportReport, ImportError> {
        import(ImportKind::Comma2k19, src, out, options, &mut |_, _| {})
    }

    #[test]
    fn frames_are_put_in_order_and_filled_up() {
        let folder = tempfile::tempdir().unwrap();
        let src = write_segment(folder.path());
        let out = folder.path().join("log.mcap");
        let report = import_to(&src, &out, &ImportOptions::default()).unwrap();
        let expected = [("/can/can0/frames".to_owned(), 2), ("/can/can128/frames".to_owned(), 1)];
        assert_eq!(report.messages, expected);
        assert!(report.assumptions.iter().any(|sentence| sentence.contains("No DBC file")));
        let contents = Contents::read(&out);
        assert_eq!(contents.rig(), report.rig);
        let zero = &contents.messages["/can/can0/frames"];
        assert_eq!(zero[..], [(1_500_000_000, 1_500_000_000), (2_000_000_000, 2_000_000_000)]);
        let message = CanMessage::decode(&contents.data["/can/can128/frames"][0]).unwrap();
        assert_eq!((message.bus, message.id, message.extended), (128, 0x800, true));
        assert_eq!(message.data[..], [2, 3, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_given_rig_names_the_dbc_files() {
        let folder = tempfile::tempdir().unwrap();
        let src = write_segment(folder.path());
        let dbc = "VERSION \"\"\n\nBO_ 37 ANGLE: 8 X\n SG_ ANGLE : 0|8@1+ (1,0) [0|0] \"\" X\n";
        std::fs::write(folder.path().join("car.dbc"), dbc).unwrap();
        let mut rig = rig_of("mine", Vehicle::default(), Vec::new(), Vec::new());
        rig.cans = vec![can(0, &[]), can(128, &[])];
        rig.cans[0].dbc = vec![PathBuf::from("car.dbc")];
        let rig_path = folder.path().join("mine.toml");
        std::fs::write(&rig_path, rig.to_toml()).unwrap();
        let out = folder.path().join("log.mcap");
        let options = ImportOptions { rig: Some(rig_path.clone()), ..ImportOptions::default() };
        let report = import_to(&src, &out, &options).unwrap();
        assert_eq!(report.rig.cans[0].dbc, [PathBuf::from("dbc/car.dbc")]);
        assert_eq!(Contents::read(&out).attachments["dbc/car.dbc"], dbc.as_bytes());
        std::fs::write(folder.path().join("car.dbc"), "VERSION \"\"\n\nBO_ ?\n").unwrap();
        let error = import_to(&src, &out, &options).unwrap_err().to_string();
        assert!(error.contains("car.dbc: expected a DBC file"), "{error}");
        rig.cans.pop();
        std::fs::write(&rig_path, rig.to_toml()).unwrap();
        let error = import_to(&src, &out, &options).unwrap_err().to_string();
        assert!(error.contains("can128"), "{error}");
    }

    #[test]
    fn broken_arrays_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let src = write_segment(folder.path());
        let out = folder.path().join("log.mcap");
        let can = src.join("processed_log/CAN/raw_can");
        let error_with = |name: &str, bytes: &[u8]| {
            let whole = std::fs::read(can.join(name)).unwrap();
            std::fs::write(can.join(name), bytes).unwrap();
            let error = import_to(&src, &out, &ImportOptions::default()).unwrap_err().to_string();
            std::fs::write(can.join(name), whole).unwrap();
            assert!(!out.exists());
            error
        };
        let whole = std::fs::read(can.join("address")).unwrap();
        let error = error_with("address", &whole[..whole.len() - 1]);
        assert!(error.contains("raw_can/address: expected a whole NumPy array") && error.contains("23"), "{error}");
        let error = error_with("src", &npy("<i8", "(2,)", &integers(&[0, 0])));
        assert!(error.contains("raw_can/src: expected 3 rows, as there are times, found 2"), "{error}");
        let error = error_with("src", &npy("<i8", "(3,)", &integers(&[0, 256, 0])));
        assert!(error.contains("row 1") && error.contains("found 256"), "{error}");
        let error = error_with("t", &npy("<f8", "(3,)", &floats(&[1.0, f64::NAN, 2.0])));
        assert!(error.contains("in row 1, found NaN"), "{error}");
        let error = error_with("data", &npy("|S9", "(3,)", &[1; 27]));
        assert!(error.contains("raw_can/data: expected a CAN frame in row 0"), "{error}");
        std::fs::remove_file(can.join("t")).unwrap();
        let error = import_to(&src, &out, &ImportOptions::default()).unwrap_err();
        assert!(matches!(&error, ImportError::Io { path, .. } if path.ends_with("raw_can/t")), "{error}");
    }

    #[test]
    fn samples_are_paired_with_the_nearest() {
        let accelerations = [(0, [1.0; 3]), (20_000_000, [2.0; 3]), (21_000_000, [f64::NAN; 3])];
        let rates = vec![(4_000_000, [0.1; 3]), (11_000_000, [0.2; 3]), (22_000_000, [0.3; 3]), (40_000_000, [0.4; 3])];
        let samples = pair_samples(&accelerations, rates);
        let found: Vec<(i64, f64)> =
            samples.iter().map(|sample| (sample.stamp_ns, sample.message.acceleration_mps2[0])).collect();
        assert_eq!(found, [(4_000_000, 1.0), (11_000_000, 2.0)]);
    }

    #[test]
    fn a_cycle_ends_with_its_last_track_or_the_next_counter() {
        let track = |id: u16, counter: u8, valid: bool| RadarTrack {
            id,
            long_m: f32::from(id),
            lat_m: 0.0,
            rel_speed_mps: -1.0,
            valid,
            new: false,
            counter,
        };
        let mut cycle = Cycle::default();
        assert!(cycle.close(5).is_none());
        for id in (0..TOYOTA_TRACKS).rev() {
            assert!(!cycle.is_past(&track(id, 7, true)) && !cycle.is_complete());
            cycle.add(i64::from(id), track(id, 7, id < 3));
        }
        assert!(cycle.is_complete());
        let scan = cycle.close(9).unwrap();
        assert_eq!((scan.arrival_ns, scan.stamp_ns), (9, 0));
        let ids: Vec<u16> = scan.message.targets.iter().map(|target| target.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        cycle.add(20, track(0, 8, true));
        assert!(cycle.is_past(&track(1, 9, true)) && cycle.is_past(&track(0, 8, true)));
        assert!(!cycle.is_past(&track(1, 8, true)));
    }

    #[test]
    fn the_shared_segment_comes_over_whole() {
        let src = Path::new(SEGMENT);
        if !src.is_dir() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        assert_eq!(ImportKind::recognise(src).unwrap(), ImportKind::Comma2k19);
        let report = import_to(src, &out, &ImportOptions::default()).unwrap();
        assert!(!report.stopped);
        assert!(report.assumptions.iter().any(|sentence| sentence == TRUE_POSES), "{:?}", report.assumptions);
        let contents = Contents::read(&out);
        let counts = [
            ("/can/can0/frames", 53_800),
            ("/can/can1/frames", 45_000),
            ("/can/can128/frames", 12_434),
            ("/can/can129/frames", 24_234),
            ("/radar/radar/tracks", 1200),
            ("/imu/imu/data", 6256),
            ("/gnss/gnss/fix", 579),
            (TOPIC_POSE, 1200),
        ];
        for (topic, count) in counts {
            assert_eq!(contents.count(topic), count, "{topic}");
            assert!(report.messages.contains(&(topic.to_owned(), count as u64)), "{topic}");
        }
        assert_eq!(contents.messages[TOPIC_POSE][0].1, 46_408_547_498_000);
        assert_eq!(contents.messages["/can/can0/frames"][53_799].0, 46_468_577_629_821);
        assert_eq!(contents.rig(), report.rig);
        assert_eq!(report.rig.cans[0].dbc, [PathBuf::from("dbc/toyota_new_mc_pt_generated.dbc")]);
        assert_eq!(report.rig.cans[0].signals.len(), TOYOTA_SIGNALS.len());
        assert!(contents.attachments.contains_key("dbc/toyota_adas.dbc"));
        assert!(report.skipped.iter().any(|skipped| skipped.what == "CAN/radar" && skipped.count == 10_100));
        let scans = &contents.data["/radar/radar/tracks"];
        let targets = scans.iter().map(|scan| RadarScan::decode(scan).unwrap().targets.len()).sum::<usize>();
        assert_eq!(targets, 10_100);
        let sample = ImuSample::decode(&contents.data["/imu/imu/data"][0]).unwrap();
        let vehicle_from_imu = report.rig.imus[0].mounting.vehicle_from_sensor();
        let up = vehicle_from_imu.rotate(&nalgebra::Vector3::from(sample.acceleration_mps2));
        assert!((7.0..12.0).contains(&up.z), "{up}");
    }
}
