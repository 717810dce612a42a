//! A scenario becomes a log: everything that its rig senses, and beside it what is true.
//!
//! The world moves on in windows. Within one, every message of every sensor is a job of its own; workers take jobs in any
//! order, and what they make is written in order of arrival when the window is over. Nothing but the jobs' number depends
//! on the workers, so the log has the same bytes with any number of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{HYPERION_8_1, Rig, RigError, SIM_CAR};
use foxglove::messages::{CameraCalibration, FrameTransforms, PoseInFrame};
use thiserror::Error;

use super::random::Random;
use super::scenario::Scenario;
use super::sensors::camera::{CameraOptions, CameraSensor, assumption};
use super::sensors::can::{CanSensor, DBC, DBC_NAME};
use super::sensors::gnss::GnssSensor;
use super::sensors::imu::ImuSensor;
use super::sensors::lidar::LidarSensor;
use super::sensors::radar::RadarSensor;
use super::sensors::ultrasonic::UltrasonicSensor;
use super::sensors::{Message, SimulatedSensor};
use super::world::{EgoControl, World};
use super::{EPOCH_NS, in_parallel};
use crate::log::packet::{StampInfo, timestamp};
use crate::log::statics::{
    REPEAT_NS, TRANSFORMS_TOPIC, calibration_message, calibration_topic, foxglove_pose, mountings, transforms_message,
};
use crate::log::writer::{ChannelId, Compression, LogWriter, WriteError};
use crate::log::{Channel, RIG_ATTACHMENT, SOURCE_HEADER};
use crate::messages::BoxPx;
use crate::record::Record;
use crate::truth::{
    TOPIC_EGO, TOPIC_LANES, TOPIC_MOTIONS, TOPIC_OBJECTS, TOPIC_POSE, TruthBoxes, TruthEgo, TruthLane, TruthLanes,
    TruthMask, TruthMotion, TruthMotions, TruthObject, TruthObjects, boxes_topic, mask_topic,
};

/// Pictures of a window, about: they are held in memory until the window is over.
const WINDOW_PICTURES: f64 = 32.0;
/// Shortest and longest window.
const WINDOW_NS: [f64; 2] = [5e7, 1e9];
/// For how long before the end of a window sensors may still ask.
const MEMORY_NS: i64 = 500_000_000;
/// Instants of truth where the rig has no camera.
const TRUTH_FIRST_NS: i64 = 50_000_000;
const TRUTH_PERIOD_NS: usize = 100_000_000;
/// Objects farther away than this are not in the truth.
const TRUTH_RADIUS_M: f64 = 150.0;
/// How far lanes reach behind and ahead.
const LANES_M: [f64; 2] = [10.0, 100.0];

/// Why a scenario could not be simulated.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The rig does not load.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The log cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// How to simulate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Threads; at least one is used.
    pub workers: usize,
    /// Set by somebody else to end early, with a whole log of what was simulated so far.
    pub stop: Option<&'a AtomicBool>,
}

/// What was simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulationReport {
    /// The rig in the log.
    pub rig: Rig,
    /// Topics of the log in alphabetical order, with how many messages each has.
    pub messages: Vec<(String, u64)>,
    /// What the simulator does differently from what the rig says, in sentences.
    pub assumptions: Vec<String>,
    /// How much of the drive there is.
    pub duration_s: f64,
    /// Instants at which the ego vehicle touched another body, since the start.
    pub collisions_s: Vec<f64>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// The rig that a scenario names: a built-in one, or a file relative to `folder`.
pub fn rig_of(scenario: &Scenario, folder: &Path) -> Result<Rig, RigError> {
    match scenario.rig.as_str() {
        "sim-car" => Rig::parse(SIM_CAR, "sim-car"),
        "hyperion-8.1" => Rig::parse(HYPERION_8_1, "hyperion-8.1"),
        file => Rig::load(folder.join(file)),
    }
}

/// The name of the vehicle's DBC file in a log.
pub fn dbc_attachment() -> String {
    format!("dbc/{DBC_NAME}")
}

/// The rig as the simulator senses through it: the first bus speaks as the simulator's DBC file says. With what differs.
pub fn simulated_rig(mut rig: Rig) -> Result<(Rig, Vec<String>), RigError> {
    let mut assumptions = Vec::new();
    let ours = Rig::parse(SIM_CAR, "sim-car")?.cans.into_iter().next();
    for (index, can) in rig.cans.iter_mut().enumerate() {
        let named: Vec<PathBuf> = std::mem::take(&mut can.dbc);
        if named.iter().any(|path| path.file_name().is_none_or(|name| name != DBC_NAME)) {
            assumptions
                .push(format!("bus {:?}: it speaks as {DBC_NAME} says, not as the rig's own DBC files", can.name));
        }
        match (index, &ours) {
            (0, Some(ours)) => {
                can.dbc = vec![PathBuf::from(dbc_attachment())];
                can.signals = ours.signals.clone();
            }
            _ => {
                can.signals = Default::default();
                assumptions.push(format!("bus {:?}: it is silent", can.name));
            }
        }
    }
    rig.models = Vec::new();
    rig.directory = PathBuf::new();
    let rig = Rig::parse(&rig.to_toml(), RIG_ATTACHMENT)?;
    assumptions.extend(rig.cameras.iter().filter_map(assumption));
    Ok((rig, assumptions))
}

/// A sensor and what it is asked for: cameras give truth beside their pictures.
enum Sensor {
    Camera(Box<CameraSensor>),
    Other(Box<dyn SimulatedSensor>),
}

impl Sensor {
    fn as_sensor(&self) -> &dyn SimulatedSensor {
        match self {
            Sensor::Camera(camera) => camera.as_ref(),
            Sensor::Other(other) => other.as_ref(),
        }
    }
}

/// All sensors of a rig in a scenario, in the rig's order.
fn sensors(rig: &Rig, seed: u64) -> Vec<Sensor> {
    let random = Random::new(seed).stream("sensors");
    let mut sensors: Vec<Sensor> = Vec::new();
    let options = CameraOptions::default();
    let cameras = (0..rig.cameras.len()).filter_map(|index| CameraSensor::new(rig, index, random, options));
    sensors.extend(cameras.map(|camera| Sensor::Camera(Box::new(camera))));
    sensors.extend(others(rig, random).into_iter().map(Sensor::Other));
    sensors
}

fn boxed<S: SimulatedSensor + 'static>(sensor: S) -> Box<dyn SimulatedSensor> {
    Box::new(sensor)
}

fn others(rig: &Rig, random: Random) -> Vec<Box<dyn SimulatedSensor>> {
    let lidars = (0..rig.lidars.len()).filter_map(|index| LidarSensor::new(rig, index, random).map(boxed));
    let radars = (0..rig.radars.len()).filter_map(|index| RadarSensor::new(rig, index, random).map(boxed));
    let echoes = (0..rig.ultrasonics.len()).filter_map(|index| UltrasonicSensor::new(rig, index, random).map(boxed));
    let imus = (0..rig.imus.len()).filter_map(|index| ImuSensor::new(rig, index, random).map(boxed));
    let gnss = (0..rig.gnss.len()).filter_map(|index| GnssSensor::new(rig, index, random).map(boxed));
    let cans = (0..rig.cans.len()).filter_map(|index| CanSensor::new(rig, index, random).map(boxed));
    lidars.chain(radars).chain(echoes).chain(imus).chain(gnss).chain(cans).collect()
}

/// All sensors of a rig in a scenario with this seed, in the rig's order: cameras, lidars, radars, ultrasonics, inertial
/// units, receivers, buses.
pub fn simulated_sensors(rig: &Rig, seed: u64) -> Vec<Box<dyn SimulatedSensor>> {
    let unboxed = |sensor| match sensor {
        Sensor::Camera(camera) => camera,
        Sensor::Other(other) => other,
    };
    sensors(rig, seed).into_iter().map(unboxed).collect()
}

/// One message to be made.
#[derive(Clone, Copy)]
struct Job {
    sensor: usize,
    number: u64,
    stamp_ns: i64,
}

/// What a job made.
struct Made {
    sensor: usize,
    message: Message,
    truth: Option<(TruthBoxes, TruthMask)>,
}

/// Simulates a whole scenario through a rig into a log at `out`. `progress` is told how many milliseconds of the drive are
/// done and how many there are.
///
/// # Errors
/// A [`SimulateError`]; there is then no log at `out`, and one that was there before is untouched.
pub fn simulate(
    scenario: &Scenario,
    rig: Rig,
    out: &Path,
    options: Options<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SimulationReport, SimulateError> {
    let (rig, assumptions) = simulated_rig(rig)?;
    let mut world = World::new(scenario, &rig.vehicle);
    let mut drive = Recorder::create(out, scenario, rig, options)?;
    let duration_ns = (scenario.duration_s * 1e9).round() as i64;
    let rate_hz: f64 = drive.log.rig.cameras.iter().map(|camera| camera.rate_hz).sum();
    let window_ns = (WINDOW_PICTURES / rate_hz.max(1e-3) * 1e9).clamp(WINDOW_NS[0], WINDOW_NS[1]) as i64;
    let mut from_ns = 0;
    while from_ns < duration_ns && !drive.is_stopped() {
        let to_ns = (from_ns + window_ns).min(duration_ns);
        drive.record(&mut world, [from_ns, to_ns], EgoControl::Driver)?;
        world.forget_before(to_ns - MEMORY_NS);
        progress(to_ns as u64 / 1_000_000, duration_ns as u64 / 1_000_000);
        from_ns = to_ns;
    }
    let stopped = drive.is_stopped();
    drive.finish(assumptions, from_ns, stopped)
}

/// A log that fills as a world moves on.
struct Recorder<'a> {
    options: Options<'a>,
    sensors: Vec<Sensor>,
    /// What each sensor is still to be asked for, in order.
    jobs: Vec<std::iter::Peekable<std::vec::IntoIter<Job>>>,
    truth_stamps: std::iter::Peekable<std::vec::IntoIter<i64>>,
    log: DriveLog,
    /// What was made and arrives after the end of the last window.
    pending: Vec<Made>,
    collisions_s: Vec<f64>,
}

impl<'a> Recorder<'a> {
    fn create(out: &Path, scenario: &Scenario, rig: Rig, options: Options<'a>) -> Result<Self, WriteError> {
        let sensors = sensors(&rig, scenario.seed);
        let duration_ns = (scenario.duration_s * 1e9).round() as i64;
        let jobs = sensors.iter().enumerate().map(|(index, sensor)| {
            let stamps = (0..).zip(sensor.as_sensor().stamps(duration_ns));
            let jobs: Vec<Job> = stamps.map(|(number, stamp_ns)| Job { sensor: index, number, stamp_ns }).collect();
            jobs.into_iter().peekable()
        });
        let jobs = jobs.collect();
        let truth_stamps: Vec<i64> = match sensors.first() {
            Some(Sensor::Camera(camera)) => camera.stamps(duration_ns),
            _ => (TRUTH_FIRST_NS..duration_ns).step_by(TRUTH_PERIOD_NS).collect(),
        };
        let log = DriveLog::create(out, scenario, rig, &sensors)?;
        let truth_stamps = truth_stamps.into_iter().peekable();
        Ok(Recorder { options, sensors, jobs, truth_stamps, log, pending: Vec::new(), collisions_s: Vec::new() })
    }

    fn is_stopped(&self) -> bool {
        self.options.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Senses all that has a stamp in a window, and writes all that has arrived by its end.
    fn record(&mut self, world: &mut World, [from_ns, to_ns]: [i64; 2], control: EgoControl) -> Result<(), WriteError> {
        let mut jobs: Vec<Job> = Vec::new();
        for stamps in &mut self.jobs {
            while let Some(job) = stamps.next_if(|job| job.stamp_ns < to_ns) {
                jobs.push(job);
            }
        }
        let needs_ns = |job: &Job| self.sensors.get(job.sensor).map_or(0, |s| s.as_sensor().needs_ns(job.stamp_ns));
        world.advance(jobs.iter().map(needs_ns).fold(to_ns, i64::max), control);
        let mut at_ns = from_ns;
        while at_ns < to_ns {
            if world.has_collided(at_ns) {
                self.collisions_s.push(at_ns as f64 * 1e-9);
            }
            at_ns += super::world::STEP_NS;
        }
        self.pending.extend(sense(&self.sensors, world, &jobs, self.options.workers));
        self.pending.sort_by_key(|made| (made.message.arrival_ns, made.sensor, made.message.stamp_ns));
        let arrived = self.pending.partition_point(|made| made.message.arrival_ns < EPOCH_NS + to_ns);
        for made in self.pending.drain(..arrived) {
            while let Some(stamp_ns) = self.truth_stamps.next_if(|ns| EPOCH_NS + ns <= made.message.arrival_ns) {
                self.log.write_truth(world, stamp_ns)?;
            }
            self.log.write(&made)?;
        }
        Ok(())
    }

    /// Writes what has not arrived yet, and ends the log.
    fn finish(
        mut self,
        assumptions: Vec<String>,
        until_ns: i64,
        stopped: bool,
    ) -> Result<SimulationReport, SimulateError> {
        for made in std::mem::take(&mut self.pending) {
            self.log.write(&made)?;
        }
        let rig = self.log.rig.clone();
        let mut messages: BTreeMap<String, u64> = BTreeMap::new();
        for (topic, count) in self.log.counts.values() {
            *messages.entry(topic.clone()).or_insert(0) += count;
        }
        self.log.writer.finish()?;
        Ok(SimulationReport {
            rig,
            messages: messages.into_iter().collect(),
            assumptions,
            duration_s: until_ns as f64 * 1e-9,
            collisions_s: self.collisions_s,
            stopped,
        })
    }
}

/// Makes all messages, each on whatever worker is free.
fn sense(sensors: &[Sensor], world: &World, jobs: &[Job], workers: usize) -> Vec<Made> {
    in_parallel(jobs.len(), workers, |job| make(sensors, world, jobs.get(job)?))
}

fn make(sensors: &[Sensor], world: &World, job: &Job) -> Option<Made> {
    let Job { sensor, number, stamp_ns } = *job;
    match sensors.get(sensor)? {
        Sensor::Camera(camera) => {
            let (message, boxes, mask) = camera.sense_with_truth(world, number, stamp_ns);
            Some(Made { sensor, message, truth: Some((boxes, mask)) })
        }
        Sensor::Other(other) => Some(Made { sensor, message: other.sense(world, number, stamp_ns)?, truth: None }),
    }
}

/// The channels of one camera's truth.
struct CameraTruth {
    boxes: ChannelId,
    mask: ChannelId,
}

/// The log with its channels.
struct DriveLog {
    writer: LogWriter,
    rig: Rig,
    counts: BTreeMap<ChannelId, (String, u64)>,
    /// Of each sensor.
    channels: Vec<ChannelId>,
    /// Of each camera.
    truths: Vec<CameraTruth>,
    objects: ChannelId,
    motions: ChannelId,
    ego: ChannelId,
    lanes: ChannelId,
    pose: ChannelId,
    calibrations: Vec<(ChannelId, CameraCalibration)>,
    transforms: Option<ChannelId>,
    repeat_at_ns: i64,
    scratch: Vec<u8>,
}

impl DriveLog {
    fn create(out: &Path, scenario: &Scenario, rig: Rig, sensors: &[Sensor]) -> Result<Self, WriteError> {
        let mut writer = LogWriter::create(out, Compression::Zstd)?;
        let mut header = BTreeMap::new();
        let seed = scenario.seed.to_string();
        let entries =
            [("kind", "sim"), ("file", &scenario.name), ("importer", env!("CARGO_PKG_VERSION")), ("seed", &seed)];
        header.extend(entries.map(|(key, value)| (key.to_owned(), value.to_owned())));
        writer.metadata(SOURCE_HEADER, header)?;
        writer.attach(RIG_ATTACHMENT, "application/toml", rig.to_toml().as_bytes())?;
        if !rig.cans.is_empty() {
            writer.attach(&dbc_attachment(), "text/plain", DBC.as_bytes())?;
        }
        let mut opener = Opener { writer, counts: BTreeMap::new() };
        let sensor_channels: Result<Vec<ChannelId>, WriteError> =
            sensors.iter().map(|sensor| opener.open(sensor.as_sensor().channel())).collect();
        let channels = sensor_channels?;
        let mut calibrations = Vec::new();
        let mut truths = Vec::new();
        for camera in &rig.cameras {
            let message = calibration_message(camera);
            let channel = Channel::of_foxglove::<CameraCalibration>(&calibration_topic(&camera.name));
            calibrations.push((opener.open(channel)?, message));
            let boxes = opener.truth::<TruthBoxes>(&boxes_topic(&camera.name))?;
            truths.push(CameraTruth { boxes, mask: opener.truth::<TruthMask>(&mask_topic(&camera.name))? });
        }
        let transforms = match mountings(&rig).next() {
            Some(_) => Some(opener.open(Channel::of_foxglove::<FrameTransforms>(TRANSFORMS_TOPIC))?),
            None => None,
        };
        let objects = opener.truth::<TruthObjects>(TOPIC_OBJECTS)?;
        let motions = opener.truth::<TruthMotions>(TOPIC_MOTIONS)?;
        let ego = opener.truth::<TruthEgo>(TOPIC_EGO)?;
        let lanes = opener.truth::<TruthLanes>(TOPIC_LANES)?;
        let pose = opener.open(Channel::of_foxglove::<PoseInFrame>(TOPIC_POSE))?;
        Ok(DriveLog {
            writer: opener.writer,
            counts: opener.counts,
            rig,
            channels,
            truths,
            objects,
            motions,
            ego,
            lanes,
            pose,
            calibrations,
            transforms,
            repeat_at_ns: i64::MIN,
            scratch: Vec::new(),
        })
    }

    fn write(&mut self, made: &Made) -> Result<(), WriteError> {
        let Message { arrival_ns, stamp_ns, ref bytes } = made.message;
        self.repeat_static(arrival_ns)?;
        if let Some(channel) = self.channels.get(made.sensor).copied() {
            self.put(channel, arrival_ns, stamp_ns, bytes)?;
        }
        if let (Some((boxes, mask)), Some(truth)) = (&made.truth, self.truths.get(made.sensor)) {
            let CameraTruth { boxes: to_boxes, mask: to_mask } = *truth;
            self.put_record(to_boxes, arrival_ns, stamp_ns, boxes)?;
            self.put_record(to_mask, arrival_ns, stamp_ns, mask)?;
        }
        Ok(())
    }

    /// Writes all that is true at an instant, whatever a camera sees of it.
    fn write_truth(&mut self, world: &World, time_ns: i64) -> Result<(), WriteError> {
        let stamp_ns = EPOCH_NS + time_ns;
        self.repeat_static(stamp_ns)?;
        let (objects, motions) = true_objects(world, time_ns);
        self.put_record(self.objects, stamp_ns, stamp_ns, &objects)?;
        self.put_record(self.motions, stamp_ns, stamp_ns, &motions)?;
        self.put_record(self.ego, stamp_ns, stamp_ns, &true_ego(world, time_ns))?;
        self.put_record(self.lanes, stamp_ns, stamp_ns, &true_lanes(world, time_ns))?;
        let [x_m, y_m, yaw_rad] = world.ego(time_ns).pose;
        let pose = PoseInFrame {
            timestamp: timestamp(stamp_ns),
            frame_id: "world".to_owned(),
            pose: Some(foxglove_pose(&Pose::from_xyz_rpy([x_m, y_m, 0.0], [0.0, 0.0, yaw_rad]))),
        };
        self.put_foxglove(self.pose, stamp_ns, &pose)
    }

    fn repeat_static(&mut self, now_ns: i64) -> Result<(), WriteError> {
        if now_ns < self.repeat_at_ns {
            return Ok(());
        }
        self.repeat_at_ns = now_ns + REPEAT_NS;
        let mut calibrations = std::mem::take(&mut self.calibrations);
        for (channel, message) in &mut calibrations {
            message.timestamp = timestamp(now_ns);
            self.put_foxglove(*channel, now_ns, message)?;
        }
        self.calibrations = calibrations;
        match self.transforms {
            Some(channel) => self.put_foxglove(channel, now_ns, &transforms_message(&self.rig, now_ns)),
            None => Ok(()),
        }
    }

    fn put(&mut self, channel: ChannelId, log_ns: i64, publish_ns: i64, data: &[u8]) -> Result<(), WriteError> {
        self.writer.write(channel, log_ns, publish_ns, data)?;
        if let Some((_, count)) = self.counts.get_mut(&channel) {
            *count += 1;
        }
        Ok(())
    }

    fn put_record(
        &mut self,
        to: ChannelId,
        log_ns: i64,
        stamp_ns: i64,
        record: &impl Record,
    ) -> Result<(), WriteError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        record.encode(&mut scratch);
        let written = self.put(to, log_ns, stamp_ns, &scratch);
        self.scratch = scratch;
        written
    }

    fn put_foxglove(&mut self, to: ChannelId, log_ns: i64, message: &impl foxglove::Encode) -> Result<(), WriteError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // a Vec takes any length, so the encoder has nothing to complain about
        let _ = message.encode(&mut scratch);
        let written = self.put(to, log_ns, log_ns, &scratch);
        self.scratch = scratch;
        written
    }
}

struct Opener {
    writer: LogWriter,
    counts: BTreeMap<ChannelId, (String, u64)>,
}

impl Opener {
    fn open(&mut self, channel: Channel) -> Result<ChannelId, WriteError> {
        let id = self.writer.channel(&channel)?;
        self.counts.entry(id).or_insert_with(|| (channel.topic, 0));
        Ok(id)
    }

    fn truth<R: Record>(&mut self, topic: &str) -> Result<ChannelId, WriteError> {
        let mut channel = Channel::of_record::<R>(topic);
        StampInfo::SYNTHETIC.describe(&mut channel);
        self.open(channel)
    }
}

/// A point or a direction of the world along the axes of a vehicle with this pose.
fn in_vehicle([x_m, y_m]: [f64; 2], yaw_rad: f64) -> [f64; 2] {
    let (sin, cos) = libm::sincos(yaw_rad);
    [cos * x_m + sin * y_m, cos * y_m - sin * x_m]
}

/// All actors around the vehicle, by number.
pub fn true_objects(world: &World, time_ns: i64) -> (TruthObjects, TruthMotions) {
    let [ego_x_m, ego_y_m, ego_yaw_rad] = world.ego(time_ns).pose;
    let (mut objects, mut motions) = (TruthObjects::default(), TruthMotions::default());
    for (index, actor) in world.actors.iter().enumerate() {
        let motion = world.actor(index, time_ns);
        let [x_m, y_m, yaw_rad] = motion.pose;
        let [ahead_m, left_m] = in_vehicle([x_m - ego_x_m, y_m - ego_y_m], ego_yaw_rad);
        if ahead_m * ahead_m + left_m * left_m > TRUTH_RADIUS_M * TRUTH_RADIUS_M {
            continue;
        }
        let (low, high) = (actor.look.min_m, actor.look.max_m);
        let turns = ((yaw_rad - ego_yaw_rad) / std::f64::consts::TAU).round();
        objects.objects.push(TruthObject {
            class: actor.kind.class_name().to_owned(),
            placed: true,
            position_m: [ahead_m, left_m, 0.5 * (low[2] + high[2])],
            extent_m: [high[0] - low[0], high[1] - low[1], high[2] - low[2]],
            yaw_rad: yaw_rad - ego_yaw_rad - turns * std::f64::consts::TAU,
            camera: String::new(),
            box_px: BoxPx::default(),
            lidar_points: -1,
        });
        motions.motions.push(TruthMotion {
            id: actor.id,
            velocity_mps: in_vehicle(motion.velocity_mps, ego_yaw_rad),
            yaw_rate_radps: motion.yaw_rate_radps,
        });
    }
    (objects, motions)
}

/// The ego vehicle and the body ahead of it.
pub fn true_ego(world: &World, time_ns: i64) -> TruthEgo {
    let ego = world.ego(time_ns);
    let lead = world.lead(time_ns);
    TruthEgo {
        pose: ego.pose,
        speed_mps: ego.speed_mps,
        acceleration_mps2: ego.acceleration_mps2,
        yaw_rate_radps: ego.yaw_rate_radps,
        has_collided: world.has_collided(time_ns),
        lead_gap_m: lead.map_or(f64::INFINITY, |(_, gap_m, _)| gap_m),
        lead_id: lead.map_or(0, |(id, _, _)| id),
        lead_closing_mps: lead.map_or(0.0, |(_, _, closing_mps)| closing_mps),
    }
}

/// All markings around the vehicle.
pub fn true_lanes(world: &World, time_ns: i64) -> TruthLanes {
    let pose = world.ego(time_ns).pose;
    let [behind_m, ahead_m] = LANES_M;
    let lanes = (0..).zip(world.road.markings()).map(|(index, marking)| {
        let points = world.road.marking_points(marking, pose, behind_m, ahead_m);
        TruthLane {
            index,
            dashed: marking.dashed,
            points_m: points.into_iter().flatten().map(|value| value as f32).collect(),
        }
    });
    TruthLanes { lanes: lanes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::reader::{Event, LogReader};

    /// A scenario that is quickly simulated: a small picture.
    fn small() -> (Scenario, Rig) {
        let mut scenario = Scenario::parse(Scenario::built_in()[0].1, "demo").unwrap();
        scenario.duration_s = 0.5;
        let text = SIM_CAR
            .replace("width_px = 960", "width_px = 96")
            .replace("height_px = 540", "height_px = 54")
            .replace("831.38", "83.138")
            .replace("cx = 479.5", "cx = 47.5")
            .replace("cy = 269.5", "cy = 26.5");
        (scenario, Rig::parse(&text, "small").unwrap())
    }

    #[test]
    fn the_log_has_the_same_bytes_with_any_number_of_workers() {
        let (scenario, rig) = small();
        let folder = tempfile::tempdir().unwrap();
        let bytes = |workers: usize| {
            let out = folder.path().join(format!("{workers}.mcap"));
            simulate(&scenario, rig.clone(), &out, Options { workers, stop: None }, &mut |_, _| {}).unwrap();
            std::fs::read(out).unwrap()
        };
        let one = bytes(1);
        assert!(one.len() > 10_000);
        assert!(one == bytes(2) && one == bytes(3));
    }

    #[test]
    fn everything_is_logged_in_order_of_arrival_with_its_truth() {
        let (scenario, rig) = small();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("drive.mcap");
        let report = simulate(&scenario, rig, &out, Options::default(), &mut |_, _| {}).unwrap();
        let count = |topic: &str| report.messages.iter().find(|(name, _)| name == topic).map_or(0, |(_, count)| *count);
        for topic in ["/camera/front/image", TOPIC_OBJECTS, TOPIC_MOTIONS, TOPIC_EGO, TOPIC_LANES, TOPIC_POSE] {
            assert_eq!(count(topic), 5, "{topic}");
        }
        assert_eq!((count("/truth/front/boxes"), count("/truth/front/mask")), (5, 5));
        assert!(report.collisions_s.is_empty() && !report.stopped);
        let mut reader = LogReader::open(&out).unwrap();
        let (mut last_ns, mut objects) = (0, 0);
        while let Some(event) = reader.next().unwrap() {
            let Event::Message(message) = event else { continue };
            assert!(message.log_ns >= last_ns, "{}", message.channel.topic);
            last_ns = message.log_ns;
            if message.channel.topic == TOPIC_OBJECTS {
                objects += message.record::<TruthObjects>(&out).unwrap().objects.len();
            }
        }
        assert!(objects >= 5 * 10, "{objects}");
    }
}
