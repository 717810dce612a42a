//! The closed loop: a simulated drive whose speed the pipeline's planner sets.
//!
//! The [`World`] moves on in steps. Sensors sense it, their messages become packets in the order of arrival, packets
//! become ticks ([`Ingest`]), and the plan of each tick is what the ego vehicle does from a fixed latency after the
//! tick's reference time on. An [`Observer`] sees all that passes; an [`Outcome`] says how the drive went.
//!
//! Promised: the outcome depends on the scenario, the rig, the models and the latency, not on the time that the
//! computer took nor on the number of workers. The world waits for a plan that is due; a plan that is there early waits
//! for its time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use catseye_calibration::rig::Rig;
use catseye_sensors::packet::SensorId;
use thiserror::Error;

use super::scenario::Scenario;
use super::sensors::{Message, SimulatedSensor};
use super::world::{EgoControl, STEP_NS, World};
use super::{EPOCH_NS, in_parallel};
use crate::log::packet::{SensorPacket, StampInfo, read_packet, sensors_by_topic};
use crate::log::{Channel, reader};
use crate::messages::{Account, DropDecision, TickDecision};
use crate::pipeline::Pipeline;
use crate::runtime::graph::{GraphError, Running, Slot};
use crate::runtime::pool::{Lease, Pool};
use crate::stages::Tick;
use crate::stages::ingest::{Formed, Ingest, Settings, balances};
use crate::tap::TapError;

/// Braking harder than this is harsh: an adaptive cruise control may not do it at the speed of a country road (ISO
/// 15622, automatic deceleration).
const HARSH_MPS2: f64 = -3.5;

/// Why a drive ended early.
#[derive(Debug, Error)]
pub enum ClosedLoopError {
    /// The world moves in steps, and a plan can only begin with one.
    #[error("latency_ns: expected a multiple of {STEP_NS} that is not negative, found {0}")]
    Latency(i64),
    /// A sensor that the rig does not have.
    #[error("sensor {sensor:?}: expected one of the topics of rig {rig:?}, found {topic:?}")]
    NoSuchSensor {
        /// The sensor.
        sensor: String,
        /// The rig.
        rig: String,
        /// The sensor's topic.
        topic: String,
    },
    /// A message that arrives before the world has come to what it tells.
    #[error("sensor {sensor:?}, message {number}: expected an arrival from {needs_ns} ns on, found {arrival_ns} ns")]
    TooEarly {
        /// The sensor.
        sensor: String,
        /// The message's place among all.
        number: u64,
        /// The world's time that the message needs, less a step, from the start of the drive.
        needs_ns: i64,
        /// The arrival, likewise.
        arrival_ns: i64,
    },
    /// A message that is no packet.
    #[error("sensor {sensor:?}: {error}")]
    Packet {
        /// The sensor.
        sensor: String,
        /// What is wrong with its message.
        error: String,
    },
    /// The graph failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The observer could not write.
    #[error(transparent)]
    Observer(#[from] TapError),
    /// Packets were lost without being counted: a bug.
    #[error("the accounts of sensor {0:?} do not balance: produced is not consumed + dropped + pending")]
    Unbalanced(String),
}

/// How to drive.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time from a tick's reference time to its plan's effect on the vehicle. A tick that closes later than that has its
    /// plan obeyed as soon as it has closed.
    pub latency_ns: i64,
    /// Worker threads of the pipeline, and threads that sense.
    pub workers: usize,
    /// Processor of each worker, if any.
    pub pin: Vec<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options { latency_ns: 100_000_000, workers: 1, pin: Vec::new() }
    }
}

/// A tick that has gone through the pipeline: what [`Tap::take`](crate::tap::Tap::take) wants of it.
pub struct Finished<'a> {
    /// What the stages made of it.
    pub slot: &'a Slot<Tick>,
    /// How it was made.
    pub decision: TickDecision,
    /// Newest arrival when it was made.
    pub closed_ns: i64,
    /// What was left out since the tick before.
    pub drops: Vec<DropDecision>,
}

/// Somebody who watches a drive, as one who writes it down.
pub trait Observer {
    /// Sees a message arrive. `sensor` is its sensor's position; messages come in the order of arrival, and those of a
    /// sensor are numbered as a log numbers them. The world has come at least as far as the message needs.
    fn message(&mut self, _world: &World, _sensor: usize, _message: &Message) -> Result<(), TapError> {
        Ok(())
    }

    /// Sees a tick come out of the pipeline, in order.
    fn tick(&mut self, _finished: Finished<'_>) -> Result<(), TapError> {
        Ok(())
    }
}

/// Nobody watches.
impl Observer for () {}

/// What the ego vehicle was told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command {
    /// From when on, from the start of the drive.
    pub from_ns: i64,
    /// The acceleration.
    pub acceleration_mps2: f64,
}

/// How a drive went, up to its end or its collision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How long it lasted.
    pub duration_s: f64,
    /// When the ego vehicle hit somebody or was hit: there the drive ended.
    pub collision_s: Option<f64>,
    /// The smallest gap to whoever was ahead in the lane, bumper to bumper; none where nobody ever was.
    pub min_gap_m: Option<f64>,
    /// The hardest braking.
    pub max_deceleration_mps2: f64,
    /// How often braking was harsh: harder than 3.5 m/s².
    pub harsh_brakings: u64,
    /// The way.
    pub distance_m: f64,
    /// The way over the time.
    pub mean_speed_mps: f64,
    /// Ticks that went through the pipeline.
    pub ticks: u64,
    /// Plans that began later than the latency says, because their tick closed too late.
    pub late_plans: u64,
    /// Ticks by the reason of their plan.
    pub reasons: BTreeMap<&'static str, u64>,
    /// What was told to the vehicle, in order.
    pub commands: Vec<Command>,
    /// Packets that were left out after the last tick.
    pub drops: Vec<DropDecision>,
    /// What became of each sensor's packets.
    pub accounts: Vec<Account>,
}

impl Outcome {
    /// Whether the drive ended in a collision.
    pub fn has_collided(&self) -> bool {
        self.collision_s.is_some()
    }
}

/// Drives a scenario. Without a pipeline the planner is switched off: the vehicle keeps the speed it starts with.
/// `sensors` are those of the rig, in any order, each on a topic of its own; equal arrivals are taken in that order.
pub fn drive(
    scenario: &Scenario,
    rig: &Rig,
    sensors: &[Box<dyn SimulatedSensor>],
    pipeline: Option<Pipeline>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, ClosedLoopError> {
    if options.latency_ns < 0 || options.latency_ns % STEP_NS != 0 {
        return Err(ClosedLoopError::Latency(options.latency_ns));
    }
    // scenarios last an hour at most
    let mut end_ns = (scenario.duration_s * 1e9).round() as i64;
    let mut world = World::new(scenario, &rig.vehicle);
    let mut air = Air::new(rig, sensors, end_ns, options.workers)?;
    let mut edge = pipeline.map(|pipeline| Edge::start(pipeline, rig, options)).transpose()?;
    let mut course = Course::new(&world);
    let mut acceleration_mps2 = 0.0;
    let mut time_ns = 0;
    loop {
        air.sense(&world, time_ns)?;
        let is_over = time_ns >= end_ns && air.is_all_sensed();
        // a sensor speaks at most a step before the world has come to where it needs it: what is unsaid comes later
        let horizon_ns = if is_over { i64::MAX } else { time_ns - STEP_NS };
        while let Some((sensor, message, packet)) = air.next_arrival(horizon_ns)? {
            observer.message(&world, sensor, &message)?;
            let Some(edge) = &mut edge else { continue };
            if let Some(packet) = packet {
                edge.ingest.offer(packet);
            }
            edge.admit(time_ns, observer)?;
        }
        if is_over {
            break;
        }
        if time_ns < end_ns
            && let Some(edge) = &mut edge
        {
            acceleration_mps2 = edge.acceleration_mps2(time_ns, observer)?;
        }
        time_ns += STEP_NS;
        world.advance(time_ns, EgoControl::Acceleration(acceleration_mps2));
        if time_ns <= end_ns && course.note(&world, time_ns) {
            // nothing that comes behind a collision can be believed
            end_ns = time_ns;
            air.end_at(end_ns);
        }
    }
    let mut outcome = course.outcome;
    if let Some(edge) = edge {
        edge.finish(time_ns, &mut outcome, observer)?;
    }
    Ok(outcome)
}

/// A sensor and what it has yet to say.
struct Speaker<'a> {
    sensor: &'a dyn SimulatedSensor,
    id: SensorId,
    channel: Arc<Channel>,
    info: StampInfo,
    stamps: Vec<i64>,
    /// How many of `stamps` were sensed.
    sensed: usize,
    /// How many messages have arrived: a silent stamp takes no number.
    arrived: u32,
}

/// The sensors, and the messages that are on their way from them.
struct Air<'a> {
    speakers: Vec<Speaker<'a>>,
    /// By arrival from the start of the drive, position of the sensor, place among its messages.
    waiting: BTreeMap<(i64, usize, u64), Message>,
    workers: usize,
}

/// One message that can be sensed: position of the sensor, place among its messages, stamp.
type Due = (usize, u64, i64);

impl<'a> Air<'a> {
    fn new(
        rig: &Rig,
        sensors: &'a [Box<dyn SimulatedSensor>],
        duration_ns: i64,
        workers: usize,
    ) -> Result<Self, ClosedLoopError> {
        let ids = sensors_by_topic(rig);
        let speaker = |sensor: &'a dyn SimulatedSensor| {
            let channel = sensor.channel();
            let id = *ids.get(&channel.topic).ok_or_else(|| ClosedLoopError::NoSuchSensor {
                sensor: sensor.name().to_owned(),
                rig: rig.name.clone(),
                topic: channel.topic.clone(),
            })?;
            let (info, stamps) = (StampInfo::of(&channel), sensor.stamps(duration_ns));
            let channel = Arc::new(channel);
            Ok(Speaker { sensor, id, channel, info, stamps, sensed: 0, arrived: 0 })
        };
        let speakers = sensors.iter().map(|sensor| speaker(sensor.as_ref())).collect::<Result<_, ClosedLoopError>>()?;
        Ok(Air { speakers, waiting: BTreeMap::new(), workers: workers.max(1) })
    }

    /// Senses all for which the world has come far enough.
    fn sense(&mut self, world: &World, time_ns: i64) -> Result<(), ClosedLoopError> {
        let mut due: Vec<Due> = Vec::new();
        for (position, speaker) in self.speakers.iter_mut().enumerate() {
            while let Some(&stamp_ns) = speaker.stamps.get(speaker.sensed)
                && speaker.sensor.needs_ns(stamp_ns) <= time_ns
            {
                due.push((position, speaker.sensed as u64, stamp_ns));
                speaker.sensed += 1;
            }
        }
        for ((position, number, stamp_ns), message) in self.messages(world, &due) {
            let arrival_ns = message.arrival_ns.saturating_sub(EPOCH_NS);
            let Some(speaker) = self.speakers.get(position) else { continue };
            let needs_ns = speaker.sensor.needs_ns(stamp_ns).saturating_sub(STEP_NS);
            if arrival_ns < needs_ns {
                let sensor = speaker.sensor.name().to_owned();
                return Err(ClosedLoopError::TooEarly { sensor, number, needs_ns, arrival_ns });
            }
            self.waiting.insert((arrival_ns, position, number), message);
        }
        Ok(())
    }

    /// The messages of what is due, in order, made on as many threads as there may be: pictures take long.
    fn messages(&self, world: &World, due: &[Due]) -> Vec<(Due, Message)> {
        in_parallel(due.len(), self.workers, |index| {
            let due @ (position, number, stamp_ns) = *due.get(index)?;
            let message = self.speakers.get(position)?.sensor.sense(world, number, stamp_ns)?;
            Some((due, message))
        })
    }

    fn is_all_sensed(&self) -> bool {
        self.speakers.iter().all(|speaker| speaker.sensed >= speaker.stamps.len())
    }

    /// Keeps silent about what comes after this.
    fn end_at(&mut self, end_ns: i64) {
        for speaker in &mut self.speakers {
            let kept = speaker.stamps.partition_point(|stamp_ns| *stamp_ns <= end_ns);
            speaker.stamps.truncate(kept);
        }
    }

    /// The next message that has arrived by `horizon_ns`, with its sensor's position and its packet, if it makes one.
    fn next_arrival(
        &mut self,
        horizon_ns: i64,
    ) -> Result<Option<(usize, Message, Option<SensorPacket>)>, ClosedLoopError> {
        let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= horizon_ns) else {
            return Ok(None);
        };
        let ((_, position, _), message) = entry.remove_entry();
        let Some(speaker) = self.speakers.get_mut(position) else { return Ok(None) };
        let packet = speaker.packet(position, &message);
        let packet =
            packet.map_err(|error| ClosedLoopError::Packet { sensor: speaker.sensor.name().to_owned(), error })?;
        speaker.arrived = speaker.arrived.wrapping_add(1);
        Ok(Some((position, message, packet)))
    }
}

impl Speaker<'_> {
    /// The packet of a message, read as if it had come from a log.
    fn packet(&self, position: usize, message: &Message) -> Result<Option<SensorPacket>, String> {
        let logged = reader::Message {
            channel: &self.channel,
            channel_id: position as u16,
            sequence: self.arrived,
            log_ns: message.arrival_ns,
            publish_ns: message.stamp_ns,
            data: &message.bytes,
        };
        read_packet(&logged, self.id, &self.info)
    }
}

/// A tick that is in the pipeline.
struct InFlight {
    decision: TickDecision,
    closed_ns: i64,
    drops: Vec<DropDecision>,
    /// From when on its plan is to be obeyed, and whether that is later than the latency says.
    from_ns: i64,
    is_late: bool,
}

/// The pipeline at work, and the plans that come out of it.
struct Edge {
    ingest: Ingest,
    running: Running<Tick>,
    pool: Pool<Slot<Tick>>,
    latency_ns: i64,
    in_flight: VecDeque<InFlight>,
    /// Plans whose time has not come, and whether each is late.
    plans: VecDeque<(Command, bool)>,
    obeyed: Vec<Command>,
    late_plans: u64,
    ticks: u64,
    reasons: BTreeMap<&'static str, u64>,
}

impl Edge {
    fn start(pipeline: Pipeline, rig: &Rig, options: &Options) -> Result<Self, GraphError> {
        Ok(Edge {
            ingest: Ingest::new(rig, Settings::of(rig), 0),
            running: pipeline.graph.start(options.workers, &options.pin)?,
            pool: pipeline.pool,
            latency_ns: options.latency_ns,
            in_flight: VecDeque::new(),
            plans: VecDeque::new(),
            obeyed: Vec::new(),
            late_plans: 0,
            ticks: 0,
            reasons: BTreeMap::new(),
        })
    }

    /// Submits all ticks that are complete now.
    fn admit(&mut self, time_ns: i64, observer: &mut dyn Observer) -> Result<(), ClosedLoopError> {
        while let Some(formed) = self.ingest.form() {
            let slot = loop {
                match self.pool.acquire() {
                    Some(slot) => break slot,
                    None => self.finish_tick(observer)?,
                }
            };
            self.submit(slot, formed, time_ns);
        }
        Ok(())
    }

    fn submit(&mut self, mut slot: Lease<Slot<Tick>>, formed: Formed, time_ns: i64) {
        let Formed { decision, packets, closed_ns } = formed;
        let tick = &mut slot.payload;
        tick.id = decision.tick;
        tick.reference_ns = decision.reference_ns;
        tick.partial = decision.partial;
        tick.networks_place = Default::default();
        tick.packets = packets;
        let mut drops = Vec::new();
        self.ingest.take_drops(&mut drops);
        let planned_ns = next_step(decision.reference_ns.saturating_sub(EPOCH_NS).saturating_add(self.latency_ns));
        let (from_ns, is_late) = (planned_ns.max(time_ns), planned_ns < time_ns);
        self.in_flight.push_back(InFlight { decision, closed_ns, drops, from_ns, is_late });
        self.running.submit(slot);
    }

    /// Waits for the oldest tick and keeps its plan.
    fn finish_tick(&mut self, observer: &mut dyn Observer) -> Result<(), ClosedLoopError> {
        let slot = self.wait_for_slot()?;
        let Some(tick) = self.in_flight.pop_front() else { return Ok(()) };
        let InFlight { decision, closed_ns, mut drops, from_ns, is_late } = tick;
        let plan = &slot.payload.plan;
        let wanted_mps2 = f64::from(plan.acceleration_mps2);
        // a planner of somebody's own may say anything; what is no number tells the vehicle nothing
        let acceleration_mps2 = if wanted_mps2.is_finite() { wanted_mps2 } else { 0.0 };
        self.plans.push_back((Command { from_ns, acceleration_mps2 }, is_late));
        self.ticks += 1;
        *self.reasons.entry(plan.reason.name()).or_insert(0) += 1;
        drops.extend_from_slice(&slot.payload.late);
        observer.tick(Finished { slot: &slot, decision, closed_ns, drops })?;
        Ok(())
    }

    fn wait_for_slot(&mut self) -> Result<Lease<Slot<Tick>>, GraphError> {
        loop {
            let seen = self.running.epoch();
            if let Some(slot) = self.running.take()? {
                return Ok(slot);
            }
            self.running.wait(seen, Duration::from_micros(500));
        }
    }

    /// What the vehicle is to do from `time_ns` on for a step: the plan that began last, waited for if it has to be.
    fn acceleration_mps2(&mut self, time_ns: i64, observer: &mut dyn Observer) -> Result<f64, ClosedLoopError> {
        while self.in_flight.front().is_some_and(|tick| tick.from_ns <= time_ns) {
            self.finish_tick(observer)?;
        }
        while let Some((command, is_late)) = self.plans.pop_front_if(|(command, _)| command.from_ns <= time_ns) {
            self.late_plans += u64::from(is_late);
            self.obeyed.push(command);
        }
        Ok(self.obeyed.last().map_or(0.0, |command| command.acceleration_mps2))
    }

    /// Lets out what is still inside; nobody obeys it any more.
    fn finish(
        mut self,
        time_ns: i64,
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) -> Result<(), ClosedLoopError> {
        self.ingest.end();
        self.admit(time_ns, observer)?;
        while !self.in_flight.is_empty() {
            self.finish_tick(observer)?;
        }
        self.ingest.take_drops(&mut outcome.drops);
        outcome.accounts = self.ingest.accounts();
        if let Some(wrong) = outcome.accounts.iter().find(|account| !balances(account)) {
            return Err(ClosedLoopError::Unbalanced(wrong.name.clone()));
        }
        outcome.ticks = self.ticks;
        outcome.late_plans = self.late_plans;
        outcome.reasons = self.reasons;
        outcome.commands = self.obeyed;
        Ok(())
    }
}

/// The first step of the world at or after a time.
fn next_step(time_ns: i64) -> i64 {
    let past_ns = time_ns.rem_euclid(STEP_NS);
    if past_ns == 0 { time_ns } else { time_ns.saturating_add(STEP_NS - past_ns) }
}

/// The ego vehicle's way, measured step by step.
struct Course {
    outcome: Outcome,
    speed_mps: f64,
    is_harsh: bool,
}

impl Course {
    fn new(world: &World) -> Self {
        let outcome = Outcome { min_gap_m: world.lead(0).map(|(_, gap_m, _)| gap_m), ..Outcome::default() };
        Course { outcome, speed_mps: world.ego(0).speed_mps, is_harsh: false }
    }

    /// Takes the next step into account and says whether it ended in a collision.
    fn note(&mut self, world: &World, time_ns: i64) -> bool {
        let (ego, outcome) = (world.ego(time_ns), &mut self.outcome);
        let step_s = STEP_NS as f64 * 1e-9;
        outcome.duration_s = time_ns as f64 * 1e-9;
        outcome.distance_m += 0.5 * (self.speed_mps + ego.speed_mps) * step_s;
        outcome.mean_speed_mps = outcome.distance_m / outcome.duration_s;
        outcome.max_deceleration_mps2 = outcome.max_deceleration_mps2.max(-ego.acceleration_mps2);
        let is_harsh = ego.acceleration_mps2 < HARSH_MPS2;
        outcome.harsh_brakings += u64::from(is_harsh && !self.is_harsh);
        if let Some((_, gap_m, _)) = world.lead(time_ns) {
            outcome.min_gap_m = Some(outcome.min_gap_m.map_or(gap_m, |least_m| least_m.min(gap_m)));
        }
        (self.speed_mps, self.is_harsh) = (ego.speed_mps, is_harsh);
        let has_collided = world.has_collided(time_ns);
        outcome.collision_s = has_collided.then_some(outcome.duration_s);
        has_collided
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use catseye_calibration::rig::{self, SIM_CAR};

    use super::*;
    use crate::messages::{Plan, WorldModel};
    use crate::pipeline::{Files, Settings as PipelineSettings};
    use crate::sim::random::Random;
    use crate::sim::sensors::can::CanSensor;
    use crate::sim::sensors::can::{DBC, DBC_NAME};
    use crate::stages::plan::Planner;

    const MS: i64 = 1_000_000;

    /// Brakes harder from plan to plan.
    struct Braking {
        by_mps2: f32,
        harder_mps2: f32,
    }

    impl Planner for Braking {
        fn plan(&mut self, _: &WorldModel, plan: &mut Plan) {
            *plan = Plan { acceleration_mps2: -self.by_mps2, ..Plan::default() };
            self.by_mps2 += self.harder_mps2;
        }
    }

    /// Nothing but a CAN bus: ticks at 20 ms, 120 ms, ..., each closed by the frame that arrives 23 ms later. By 40 ms
    /// after its reference time the world has come to where that is known.
    fn blind_rig() -> Rig {
        let mut rig = Rig::parse(SIM_CAR, "sim-car.toml").unwrap();
        rig.cameras.clear();
        rig.lidars.clear();
        rig.tick = rig::Tick { trigger: None, period_ms: 100.0, tolerance_ms: 10.0, max_wait_ms: 20.0 };
        rig
    }

    fn scenario(duration_s: f64) -> Scenario {
        let text = format!(
            "name = \"test\"\nduration_s = {duration_s:?}\n[ego]\nspeed_mps = 10.0\ncruise_mps = 10.0\n\
             [road]\n[[road.segment]]\nlength_m = 500.0\ncurvature_per_m = 0.0\n"
        );
        Scenario::parse(&text, "test.toml").unwrap()
    }

    #[derive(Default)]
    struct Count {
        arrivals_ns: Vec<i64>,
        ticks: Vec<u64>,
    }

    impl Observer for Count {
        fn message(&mut self, _: &World, _: usize, message: &Message) -> Result<(), TapError> {
            self.arrivals_ns.push(message.arrival_ns - EPOCH_NS);
            Ok(())
        }

        fn tick(&mut self, finished: Finished<'_>) -> Result<(), TapError> {
            assert_eq!(finished.slot.payload.id, finished.decision.tick);
            self.ticks.push(finished.decision.tick);
            Ok(())
        }
    }

    fn drive_with(planner: Option<Braking>, duration_s: f64, latency_ms: i64, workers: usize) -> (Outcome, Count) {
        let rig = blind_rig();
        let files = Files::from([(PathBuf::from(DBC_NAME), DBC.as_bytes().to_vec())]);
        let pipeline = planner.map(|planner| {
            let planner: Box<dyn Planner> = Box::new(planner);
            let settings = PipelineSettings { planner: Some(planner), lanes: workers, ..PipelineSettings::default() };
            Pipeline::build(&rig, &files, settings).unwrap()
        });
        let can: Box<dyn SimulatedSensor> = Box::new(CanSensor::new(&rig, 0, Random::new(1)).unwrap());
        let options = Options { latency_ns: latency_ms * MS, workers, ..Options::default() };
        let mut count = Count::default();
        let outcome = drive(&scenario(duration_s), &rig, &[can], pipeline, &options, &mut count).unwrap();
        (outcome, count)
    }

    fn ramp() -> Option<Braking> {
        Some(Braking { by_mps2: 0.5, harder_mps2: 0.25 })
    }

    fn commands(of: &[(i64, f64)]) -> Vec<Command> {
        of.iter().map(|&(from_ms, acceleration_mps2)| Command { from_ns: from_ms * MS, acceleration_mps2 }).collect()
    }

    #[test]
    fn planner_controls_after_exactly_the_latency() {
        let (outcome, _) = drive_with(ramp(), 0.5, 80, 1);
        assert_eq!(outcome.commands, commands(&[(100, -0.5), (200, -0.75), (300, -1.0), (400, -1.25)]));
        assert_eq!(outcome.late_plans, 0);
        let (outcome, _) = drive_with(ramp(), 0.5, 230, 1);
        assert_eq!(outcome.commands, commands(&[(250, -0.5), (350, -0.75), (450, -1.0)]));
    }

    #[test]
    fn a_plan_that_is_late_begins_once_its_tick_has_closed() {
        let (outcome, _) = drive_with(ramp(), 0.3, 20, 1);
        assert_eq!(outcome.commands, commands(&[(60, -0.5), (160, -0.75), (260, -1.0)]));
        assert_eq!(outcome.late_plans, 3);
    }

    #[test]
    fn workers_change_nothing() {
        let (alone, seen) = drive_with(ramp(), 1.0, 100, 1);
        let (together, seen_together) = drive_with(ramp(), 1.0, 100, 3);
        assert_eq!(alone, together);
        assert_eq!(seen.arrivals_ns, seen_together.arrivals_ns);
        assert_eq!(seen.ticks, seen_together.ticks);
    }

    #[test]
    fn everything_arrives_in_order_and_nothing_is_lost() {
        let (outcome, seen) = drive_with(ramp(), 1.0, 100, 2);
        // 49 whole cycles of four frames, and the first frame of the last
        assert_eq!(seen.arrivals_ns.len(), 197);
        assert!(seen.arrivals_ns.is_sorted());
        assert_eq!(seen.ticks, (0..outcome.ticks).collect::<Vec<_>>());
        assert_eq!(outcome.reasons, BTreeMap::from([("cruise", outcome.ticks)]));
        let can = outcome.accounts.iter().find(|account| account.name == "can").unwrap();
        assert_eq!((can.produced, can.consumed, can.pending), (197, 197, 0));
    }

    #[test]
    fn the_vehicle_does_what_the_planner_says() {
        let (outcome, _) = drive_with(Some(Braking { by_mps2: 4.0, harder_mps2: 0.0 }), 2.0, 80, 1);
        // 10 m/s for 0.1 s, then down to 2.4 m/s; a step of latency more would make 8 cm more
        assert!((outcome.distance_m - (20.0 - 0.5 * 4.0 * 1.9 * 1.9)).abs() < 0.03, "{}", outcome.distance_m);
        assert!((outcome.max_deceleration_mps2 - 4.0).abs() < 1e-9, "{}", outcome.max_deceleration_mps2);
        assert_eq!((outcome.harsh_brakings, outcome.has_collided()), (1, false));
    }

    #[test]
    fn without_a_planner_the_speed_stays() {
        let (outcome, seen) = drive_with(None, 1.0, 100, 1);
        assert!((outcome.mean_speed_mps - 10.0).abs() < 1e-9, "{}", outcome.mean_speed_mps);
        assert_eq!((outcome.ticks, outcome.commands.len(), seen.ticks.len()), (0, 0, 0));
        assert_eq!(seen.arrivals_ns.len(), 197);
    }

    #[test]
    fn a_latency_between_steps_is_refused() {
        let options = Options { latency_ns: 15 * MS, ..Options::default() };
        let error = drive(&scenario(1.0), &blind_rig(), &[], None, &options, &mut ()).unwrap_err().to_string();
        assert_eq!(error, "latency_ns: expected a multiple of 10000000 that is not negative, found 15000000");
    }
}
