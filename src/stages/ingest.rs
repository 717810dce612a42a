//! Ingest: which packets are processed together, and which are left out. The edge of the pipeline.
//!
//! Packets come in the order of arrival and leave as ticks: those of one instant, in total order (stamp, sensor,
//! sequence). Everything decided here is a value that goes into the log, so that a replay can obey it instead of deciding
//! again ([`Recorded`]). Time is what the packets say: the newest arrival is `now`, nobody looks at a clock.
//!
//! A tick is opened by the trigger sensor's packet, or by the period where there is no trigger. It closes when every
//! camera and lidar has given a packet within the tolerance or cannot any more, or when the wait is over. *Frames*
//! (cameras, lidars) are taken once per tick, the one nearest to the reference time; *streams* (everything else) are taken
//! as many as have come up to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use catseye_calibration::rig::{Rig, SensorKind};

use crate::log::packet::SensorPacket;
use crate::messages::{Account, DropDecision, DropReason, PacketRun, TickDecision};

/// A stamp this far after its arrival cannot be right.
pub const FAR_FUTURE_NS: i64 = 1_000_000_000;
/// Ticks go on over a gap in the data for this long, so that what is known grows old in them.
pub const MAX_GAP_NS: i64 = 10_000_000_000;
/// Most pictures by which a video's order of sending may differ from its order of showing.
const MAX_REORDER: u32 = 64;
/// Most packets in one tick.
pub const MAX_PACKETS: usize = 8192;

/// Packets that belong together.
#[derive(Debug)]
pub struct Formed {
    /// The decision that made it.
    pub decision: TickDecision,
    /// When it was made, in arrival time.
    pub closed_ns: i64,
    /// The packets, in total order.
    pub packets: Vec<SensorPacket>,
}

struct Sensor {
    name: String,
    is_frame: bool,
    /// Newest accepted stamp.
    last_ns: Option<i64>,
    produced: u64,
    consumed: u64,
    dropped: u64,
}

/// How ticks are formed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The sensor whose packets open ticks.
    pub trigger: Option<u16>,
    /// Distance of ticks where there is no trigger.
    pub period_ns: i64,
    /// How far a frame may lie from the reference time.
    pub tolerance_ns: i64,
    /// How long a tick waits for what is missing.
    pub max_wait_ns: i64,
}

impl Settings {
    /// The rig's settings.
    pub fn of(rig: &Rig) -> Self {
        let ns = |ms: f64| ((ms * 1e6) as i64).max(1);
        Settings {
            trigger: rig.tick.trigger.as_deref().and_then(|name| rig.sensor(name)).map(|sensor| sensor.id),
            period_ns: ns(rig.tick.period_ms),
            tolerance_ns: ns(rig.tick.tolerance_ms),
            max_wait_ns: ns(rig.tick.max_wait_ms),
        }
    }
}

/// Forms ticks and keeps the accounts.
pub struct Ingest {
    settings: Settings,
    sensors: Vec<Sensor>,
    /// Packets that are in no tick yet, in total order.
    waiting: BTreeMap<(i64, u16, u32), SensorPacket>,
    /// Reference time, and the arrival that goes with it, of ticks that were opened and not closed.
    open: VecDeque<(i64, i64)>,
    /// How long the trigger's last packet took from its stamp to its arrival.
    trigger_lag_ns: Option<i64>,
    drops: Vec<DropDecision>,
    next_tick: u64,
    last_reference_ns: Option<i64>,
    now_ns: i64,
    ended: bool,
}

impl Ingest {
    /// Starts with tick `first_tick`.
    pub fn new(rig: &Rig, settings: Settings, first_tick: u64) -> Self {
        let sensors = rig
            .sensors()
            .map(|sensor| Sensor {
                name: sensor.name.to_owned(),
                is_frame: matches!(sensor.kind, SensorKind::Camera | SensorKind::Lidar),
                last_ns: None,
                produced: 0,
                consumed: 0,
                dropped: 0,
            })
            .collect();
        Ingest {
            settings,
            sensors,
            waiting: BTreeMap::new(),
            open: VecDeque::new(),
            trigger_lag_ns: None,
            drops: Vec::new(),
            next_tick: first_tick,
            last_reference_ns: None,
            now_ns: i64::MIN,
            ended: false,
        }
    }

    /// Takes the next packet in order of arrival.
    pub fn offer(&mut self, packet: SensorPacket) {
        let header = packet.header;
        let (stamp, arrival) = (header.stamp.mapped_ns, header.stamp.arrival_ns);
        self.now_ns = self.now_ns.max(arrival);
        let Some(sensor) = self.sensors.get_mut(usize::from(header.sensor.0)) else { return };
        sensor.produced += 1;
        if let Some(reason) = wrong_stamp(sensor, stamp, arrival) {
            self.drop_packet(&packet, reason);
            return;
        }
        sensor.last_ns = Some(stamp);
        let is_frame = sensor.is_frame;
        // One after the last reference may yet belong to the next tick, whose trigger has not come: `close` decides.
        let is_behind = self.last_reference_ns.is_some_and(|last| stamp <= last);
        if is_frame && is_behind && !self.open.iter().any(|(reference, _)| self.is_near(stamp, *reference)) {
            self.drop_packet(&packet, DropReason::Late);
            return;
        }
        self.waiting.insert((stamp, header.sensor.0, header.sequence), packet);
        let lag_ns = arrival.saturating_sub(stamp);
        if self.settings.trigger == Some(header.sensor.0) {
            self.open.push_back((stamp, arrival));
            self.trigger_lag_ns = Some(lag_ns);
        } else if self.settings.trigger.is_none() && self.open.is_empty() {
            let first = self.last_reference_ns.map_or(stamp, |last| self.next_on_grid(last));
            self.open.push_back((first, first.saturating_add(lag_ns)));
        }
        self.forget(is_frame, self.trigger_lag_ns.unwrap_or(lag_ns));
    }

    /// Keeps what waits bounded while the trigger is silent: frames that no tick can take any more go, and of the streams
    /// the oldest. Stamps lie behind `now` by what a packet takes to arrive, `lag_ns`: a slow frame is not yet an old one.
    fn forget(&mut self, came_a_frame: bool, lag_ns: i64) {
        if came_a_frame && self.open.is_empty() {
            let Settings { max_wait_ns, tolerance_ns, .. } = self.settings;
            let reach_ns = max_wait_ns.saturating_add(tolerance_ns.saturating_mul(2));
            let before = (self.now_ns.saturating_sub(lag_ns).saturating_sub(reach_ns), 0, 0);
            let is_frame = |id: u16| self.sensors.get(usize::from(id)).is_some_and(|sensor| sensor.is_frame);
            let keys = self.waiting.range(..before).map(|(key, _)| *key);
            let old: Vec<(i64, u16, u32)> = keys.filter(|key| is_frame(key.1)).collect();
            for packet in old.into_iter().filter_map(|key| self.waiting.remove(&key)).collect::<Vec<_>>() {
                self.drop_packet(&packet, DropReason::Superseded);
            }
        }
        while self.waiting.len() > 2 * MAX_PACKETS
            && let Some((_, packet)) = self.waiting.pop_first()
        {
            self.drop_packet(&packet, DropReason::NoRoom);
        }
    }

    /// Says that no packet will come any more: ticks wait for nothing.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next tick that is complete.
    pub fn form(&mut self) -> Option<Formed> {
        let &(reference, arrival) = self.open.front()?;
        if !self.is_complete(reference, arrival) {
            return None;
        }
        self.open.pop_front();
        let formed = self.close(reference);
        self.last_reference_ns = Some(reference);
        if self.settings.trigger.is_none() {
            let next = self.next_on_grid(reference);
            let next_arrival = arrival.saturating_add(next.saturating_sub(reference));
            // with nothing in hand, ticks go on for as long as what is known is worth knowing; the next packet opens again
            let is_silent = self.now_ns.saturating_sub(next_arrival) > MAX_GAP_NS;
            if !(self.waiting.is_empty() && (self.ended || is_silent)) {
                self.open.push_back((next, next_arrival));
            }
        }
        Some(formed)
    }

    /// The reference time after `reference`, one period on; over a gap in the data longer than [`MAX_GAP_NS`], the last
    /// one on the grid before the data go on.
    fn next_on_grid(&self, reference: i64) -> i64 {
        let period_ns = self.settings.period_ns.max(1);
        let next = reference.saturating_add(period_ns);
        let Some(((first, _, _), _)) = self.waiting.first_key_value() else { return next };
        let gap_ns = first.saturating_sub(next);
        if gap_ns <= MAX_GAP_NS {
            return next;
        }
        next.saturating_add(gap_ns / period_ns * period_ns)
    }

    /// Takes a tick back as if it had never been formed: nothing of it was admitted or dropped.
    pub fn withdraw(&mut self, formed: Formed) {
        for packet in formed.packets {
            let header = packet.header;
            if let Some(sensor) = self.sensors.get_mut(usize::from(header.sensor.0)) {
                sensor.consumed -= 1;
            }
            self.waiting.insert((header.stamp.mapped_ns, header.sensor.0, header.sequence), packet);
        }
    }

    /// Takes back a tick that could not be admitted: its frames are dropped, its streams wait for the next.
    pub fn refuse(&mut self, formed: Formed) {
        self.next_tick = formed.decision.tick;
        for packet in formed.packets {
            let id = packet.header.sensor.0;
            let Some(sensor) = self.sensors.get_mut(usize::from(id)) else { continue };
            sensor.consumed -= 1;
            if sensor.is_frame {
                self.drop_packet(&packet, DropReason::Overload);
            } else {
                self.waiting.insert((packet.header.stamp.mapped_ns, id, packet.header.sequence), packet);
            }
        }
    }

    /// What was left out since the last call.
    pub fn take_drops(&mut self, into: &mut Vec<DropDecision>) {
        into.append(&mut self.drops);
    }

    /// What became of each sensor's packets.
    pub fn accounts(&self) -> Vec<Account> {
        let pending = |id: usize| self.waiting.keys().filter(|key| usize::from(key.1) == id).count() as u64;
        accounts(&self.sensors, pending)
    }

    fn is_near(&self, stamp: i64, reference: i64) -> bool {
        stamp.abs_diff(reference) <= self.settings.tolerance_ns.unsigned_abs()
    }

    /// Whether a tick can wait no longer, or need not.
    fn is_complete(&self, reference: i64, arrival: i64) -> bool {
        if self.ended || self.now_ns > arrival.saturating_add(self.settings.max_wait_ns) {
            return true;
        }
        let end = reference.saturating_add(self.settings.tolerance_ns);
        let frames = self.sensors.iter().enumerate().filter(|(_, sensor)| sensor.is_frame);
        let mut any_frame = false;
        for (id, sensor) in frames {
            any_frame = true;
            let passed = sensor.last_ns.is_some_and(|last| last > end);
            let there = || {
                self.waiting
                    .range((reference.saturating_sub(self.settings.tolerance_ns), 0, 0)..=(end, u16::MAX, u32::MAX))
                    .any(|(key, _)| usize::from(key.1) == id)
            };
            if !passed && !there() {
                return false;
            }
        }
        // without frames there is nobody to wait for but time itself
        any_frame && self.settings.trigger.is_some()
    }

    fn close(&mut self, reference: i64) -> Formed {
        let settings = &self.settings;
        let end = reference.saturating_add(settings.tolerance_ns);
        let mut packets = Vec::new();
        let mut best: BTreeMap<u16, (u64, (i64, u16, u32))> = BTreeMap::new();
        let mut taken = Vec::new();
        let mut superseded = Vec::new();
        for key in self.waiting.range(..=(end, u16::MAX, u32::MAX)).map(|(key, _)| *key) {
            let (stamp, id, _) = key;
            let is_frame = self.sensors.get(usize::from(id)).is_some_and(|sensor| sensor.is_frame);
            if !is_frame {
                if stamp <= reference {
                    taken.push(key);
                }
                continue;
            }
            let away = stamp.abs_diff(reference);
            let opens_a_later_tick = settings.trigger == Some(id) && stamp > reference;
            if opens_a_later_tick {
                continue;
            }
            if away > settings.tolerance_ns.unsigned_abs() {
                superseded.push(key);
            } else if let Some((nearest, nearest_key)) = best.get_mut(&id) {
                if away < *nearest {
                    superseded.push(*nearest_key);
                    (*nearest, *nearest_key) = (away, key);
                } else if stamp <= reference {
                    superseded.push(key);
                }
            } else {
                best.insert(id, (away, key));
            }
        }
        for key in superseded {
            if let Some(packet) = self.waiting.remove(&key) {
                let missed_the_last = self.last_reference_ns.is_some_and(|last| self.is_near(key.0, last));
                let reason = if missed_the_last { DropReason::Late } else { DropReason::Superseded };
                self.drop_packet(&packet, reason);
            }
        }
        let cameras_and_lidars = self.sensors.iter().filter(|sensor| sensor.is_frame).count();
        let partial = best.len() < cameras_and_lidars;
        // frames have room always, and of the streams the newest
        let surplus = (taken.len() + best.len()).saturating_sub(MAX_PACKETS).min(taken.len());
        for key in taken.drain(..surplus) {
            if let Some(packet) = self.waiting.remove(&key) {
                self.drop_packet(&packet, DropReason::NoRoom);
            }
        }
        taken.extend(best.into_values().map(|(_, key)| key));
        taken.sort_unstable();
        for key in taken {
            let Some(packet) = self.waiting.remove(&key) else { continue };
            if let Some(sensor) = self.sensors.get_mut(usize::from(key.1)) {
                sensor.consumed += 1;
            }
            packets.push(packet);
        }
        let decision = TickDecision { tick: self.next_tick, reference_ns: reference, partial, runs: runs(&packets) };
        self.next_tick += 1;
        Formed { decision, closed_ns: self.now_ns, packets }
    }

    fn drop_packet(&mut self, packet: &SensorPacket, reason: DropReason) {
        let header = packet.header;
        if let Some(sensor) = self.sensors.get_mut(usize::from(header.sensor.0)) {
            sensor.dropped += 1;
        }
        self.drops.push(DropDecision {
            tick: self.next_tick,
            sensor: header.sensor.0,
            sequence: header.sequence,
            stamp_ns: header.stamp.mapped_ns,
            reason,
        });
    }
}

fn wrong_stamp(sensor: &Sensor, stamp: i64, arrival: i64) -> Option<DropReason> {
    if stamp <= 0 {
        return Some(DropReason::ZeroStamp);
    }
    if stamp > arrival.saturating_add(FAR_FUTURE_NS) {
        return Some(DropReason::FarFuture);
    }
    let last = sensor.last_ns?;
    if stamp < last {
        return Some(DropReason::Backward);
    }
    // a bus or a receiver may well give several packets at one instant
    (stamp == last && sensor.is_frame).then_some(DropReason::Duplicate)
}

fn accounts(sensors: &[Sensor], pending: impl Fn(usize) -> u64) -> Vec<Account> {
    let account = |(id, sensor): (usize, &Sensor)| Account {
        sensor: id as u16,
        name: sensor.name.clone(),
        produced: sensor.produced,
        consumed: sensor.consumed,
        dropped: sensor.dropped,
        pending: pending(id),
    };
    sensors.iter().enumerate().map(account).collect()
}

/// Whether nothing was lost without being counted.
pub fn balances(account: &Account) -> bool {
    account.produced == account.consumed + account.dropped + account.pending
}

/// Packs packets into runs of consecutive numbers per sensor, sensors in order.
fn runs(packets: &[SensorPacket]) -> Vec<PacketRun> {
    let mut keys: Vec<(u16, u32)> = packets.iter().map(|p| (p.header.sensor.0, p.header.sequence)).collect();
    keys.sort_unstable();
    let mut runs: Vec<PacketRun> = Vec::new();
    for (sensor, sequence) in keys {
        match runs.last_mut() {
            Some(run) if run.sensor == sensor && run.first_sequence.wrapping_add(run.count) == sequence => {
                run.count += 1
            }
            _ => runs.push(PacketRun { sensor, first_sequence: sequence, count: 1 }),
        }
    }
    runs
}

/// Forms the ticks that a log says were formed, and no others.
pub struct Recorded {
    sensors: Vec<Sensor>,
    /// Packets that no decision has named yet.
    waiting: BTreeMap<(u16, u32), SensorPacket>,
    decisions: VecDeque<TickDecision>,
    drops: BTreeMap<(u16, u32), DropDecision>,
    /// Drops that have been carried out.
    obeyed: Vec<DropDecision>,
    /// Packets that came before those of a tick and were in none: their content is gone, a drop may still name them.
    passed: BTreeSet<(u16, u32)>,
    /// Ticks before a range: their packets are taken and not processed.
    skips: VecDeque<TickDecision>,
    /// Whether no tick will be added any more.
    decided: bool,
    ended: bool,
}

impl Recorded {
    /// Starts with nothing decided.
    pub fn new(rig: &Rig) -> Self {
        let ingest = Ingest::new(rig, Settings { trigger: None, period_ns: 1, tolerance_ns: 1, max_wait_ns: 1 }, 0);
        Recorded {
            sensors: ingest.sensors,
            waiting: BTreeMap::new(),
            decisions: VecDeque::new(),
            drops: BTreeMap::new(),
            obeyed: Vec::new(),
            passed: BTreeSet::new(),
            skips: VecDeque::new(),
            decided: false,
            ended: false,
        }
    }

    /// Says that no tick will be added any more.
    pub fn all_decided(&mut self) {
        self.decided = true;
    }

    /// Adds a recorded tick.
    pub fn decide_tick(&mut self, decision: TickDecision) {
        self.decisions.push_back(decision);
    }

    /// Adds a recorded drop.
    pub fn decide_drop(&mut self, decision: DropDecision) {
        if decision.reason == DropReason::LateForFilter {
            // the packet was in its tick; the filter will leave it out again
            return;
        }
        let key = (decision.sensor, decision.sequence);
        if self.waiting.remove(&key).is_some() || self.passed.remove(&key) {
            self.obey(decision);
        } else {
            self.drops.insert(key, decision);
        }
    }

    fn obey(&mut self, decision: DropDecision) {
        if let Some(sensor) = self.sensors.get_mut(usize::from(decision.sensor)) {
            sensor.dropped += 1;
        }
        self.obeyed.push(decision);
    }

    /// What was left out since the last call.
    pub fn take_drops(&mut self, into: &mut Vec<DropDecision>) {
        into.append(&mut self.obeyed);
    }

    /// Takes a tick back as if it had never been formed.
    pub fn withdraw(&mut self, formed: Formed) {
        for packet in formed.packets {
            let header = packet.header;
            if let Some(sensor) = self.sensors.get_mut(usize::from(header.sensor.0)) {
                sensor.consumed -= 1;
            }
            self.waiting.insert((header.sensor.0, header.sequence), packet);
        }
    }

    /// Lets go of packets that a tick has passed by: numbers grow from tick to tick, but for the few pictures that a video
    /// shows in another order than it sends them.
    fn pass_by(&mut self, decision: &TickDecision) {
        for run in &decision.runs {
            let before = (run.sensor, 0)..(run.sensor, run.first_sequence.saturating_sub(MAX_REORDER));
            let keys: Vec<(u16, u32)> = self.waiting.range(before).map(|(key, _)| *key).collect();
            for key in keys {
                self.waiting.remove(&key);
                self.passed.insert(key);
            }
        }
    }

    /// Whether enough decisions are in hand to go on for a while.
    pub fn has_decisions(&self) -> bool {
        self.decisions.len() + self.skips.len() > 1
    }

    /// Takes the next packet.
    pub fn offer(&mut self, packet: SensorPacket) {
        let key = (packet.header.sensor.0, packet.header.sequence);
        let Some(sensor) = self.sensors.get_mut(usize::from(key.0)) else { return };
        sensor.produced += 1;
        match self.drops.remove(&key) {
            Some(decision) => self.obey(decision),
            None if self.is_passed(key) => {
                self.passed.insert(key);
            }
            None => {
                self.waiting.insert(key, packet);
            }
        }
    }

    /// Whether no tick to come can name a packet: the next one names later packets of its sensor, or there is none.
    fn is_passed(&self, (sensor, sequence): (u16, u32)) -> bool {
        if !self.skips.is_empty() {
            return false;
        }
        let Some(next) = self.decisions.front() else { return self.decided };
        let names_later =
            |run: &PacketRun| run.sensor == sensor && sequence < run.first_sequence.saturating_sub(MAX_REORDER);
        next.runs.iter().any(names_later)
    }

    /// Says that no packet will come any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Adds a recorded tick that lies before the range: its packets are taken, and nothing is formed.
    pub fn decide_skip(&mut self, decision: TickDecision) {
        self.skips.push_back(decision);
    }

    /// Gives up on the ticks that are left: the log ends before their packets.
    pub fn give_up(&mut self) -> Option<u64> {
        let first = self.decisions.front().map(|decision| decision.tick);
        self.decisions.clear();
        first
    }

    /// Whether all decisions have been carried out.
    pub fn is_idle(&self) -> bool {
        self.decisions.is_empty()
    }

    fn skip(&mut self) {
        while let Some(decision) = self.skips.pop_front() {
            let keys: Vec<(u16, u32)> = keys_of(&decision);
            if keys.iter().any(|key| !self.waiting.contains_key(key)) && !self.ended {
                self.skips.push_front(decision);
                return;
            }
            for key in keys {
                if self.waiting.remove(&key).is_some()
                    && let Some(sensor) = self.sensors.get_mut(usize::from(key.0))
                {
                    sensor.consumed += 1;
                }
            }
        }
    }

    /// The next recorded tick, once all its packets are there; at the end of the packets a tick that lacks some is an
    /// error, since it cannot give the recorded bits.
    pub fn form(&mut self) -> Result<Option<Formed>, MissingPackets> {
        self.skip();
        let Some(decision) = self.decisions.front() else { return Ok(None) };
        let keys = keys_of(decision);
        let missing = keys.iter().filter(|key| !self.waiting.contains_key(key)).count();
        if missing > 0 {
            let tick = decision.tick;
            return if self.ended { Err(MissingPackets { tick, missing }) } else { Ok(None) };
        }
        let Some(decision) = self.decisions.pop_front() else { return Ok(None) };
        let mut packets: Vec<SensorPacket> = keys.iter().filter_map(|key| self.waiting.remove(key)).collect();
        for key in keys {
            if let Some(sensor) = self.sensors.get_mut(usize::from(key.0)) {
                sensor.consumed += 1;
            }
        }
        packets.sort_unstable_by_key(|packet| packet.header.order_key());
        self.pass_by(&decision);
        let closed_ns = packets.iter().map(|packet| packet.header.stamp.arrival_ns).max();
        Ok(Some(Formed { closed_ns: closed_ns.unwrap_or(decision.reference_ns), decision, packets }))
    }

    /// What became of each sensor's packets.
    pub fn accounts(&self) -> Vec<Account> {
        let pending = |id: usize| {
            let of_sensor = |key: &&(u16, u32)| usize::from(key.0) == id;
            (self.waiting.keys().filter(of_sensor).count() + self.passed.iter().filter(of_sensor).count()) as u64
        };
        accounts(&self.sensors, pending)
    }
}

/// Sensor and number of every packet of a tick. A count that no tick can have is cut off: it comes from a file.
fn keys_of(decision: &TickDecision) -> Vec<(u16, u32)> {
    let of_run = |run: &PacketRun| {
        let PacketRun { sensor, first_sequence, count } = *run;
        (0..count).map(move |offset| (sensor, first_sequence.wrapping_add(offset)))
    };
    decision.runs.iter().flat_map(of_run).take(2 * MAX_PACKETS).collect()
}

/// A recorded tick whose packets are not in the log.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("tick {tick} was recorded with {missing} packets that the log does not hold")]
pub struct MissingPackets {
    /// The tick.
    pub tick: u64,
    /// How many packets it lacks.
    pub missing: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::packet::Content;
    use crate::messages::ImuSample;
    use catseye_sensors::packet::{PacketHeader, SensorId, Stamp};

    const MS: i64 = 1_000_000;

    /// Two cameras (0, 1) and an inertial unit (2).
    fn rig() -> Rig {
        let mut rig = Rig::default_camera(64, 48);
        let mut second = rig.cameras[0].clone();
        second.name = "second".into();
        rig.cameras.push(second);
        let mounting = rig.cameras[0].mounting;
        let imu =
            catseye_calibration::rig::Sensor { name: "imu".into(), topic: "/imu".into(), rate_hz: 100.0, mounting };
        rig.imus.push(imu);
        rig
    }

    fn packet(sensor: u16, sequence: u32, stamp_ms: i64, arrival_ms: i64) -> SensorPacket {
        let stamp = Stamp { arrival_ns: arrival_ms * MS, ..Stamp::of_arrival(stamp_ms * MS) };
        let header = PacketHeader { sensor: SensorId(sensor), sequence, stamp };
        SensorPacket { header, content: Content::Imu(ImuSample::default()) }
    }

    fn settings(trigger: Option<u16>) -> Settings {
        Settings { trigger, period_ns: 100 * MS, tolerance_ns: 20 * MS, max_wait_ns: 60 * MS }
    }

    fn run(ingest: &mut Ingest, packets: &[SensorPacket]) -> (Vec<Formed>, Vec<DropDecision>) {
        let mut formed = Vec::new();
        for packet in packets {
            ingest.offer(packet.clone());
            formed.extend(std::iter::from_fn(|| ingest.form()));
        }
        ingest.end();
        // without a trigger, ticks go on for as long as something waits
        while let Some(tick) = ingest.form() {
            formed.push(tick);
            assert!(formed.len() < 1000);
        }
        let mut drops = Vec::new();
        ingest.take_drops(&mut drops);
        assert!(ingest.accounts().iter().all(balances), "{:?}", ingest.accounts());
        (formed, drops)
    }

    fn keys(formed: &Formed) -> Vec<(u16, u32)> {
        formed.packets.iter().map(|p| (p.header.sensor.0, p.header.sequence)).collect()
    }

    #[test]
    fn frames_of_one_instant_and_streams_up_to_it_go_together() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 5);
        let packets = [
            packet(2, 0, 90, 91),
            packet(0, 0, 100, 110),
            packet(2, 1, 101, 111),
            packet(1, 0, 105, 115),
            packet(0, 1, 200, 210),
            packet(1, 1, 195, 220),
        ];
        let (formed, drops) = run(&mut ingest, &packets);
        assert_eq!(drops, []);
        assert_eq!(formed.len(), 2);
        assert_eq!(formed[0].decision.tick, 5);
        assert_eq!(keys(&formed[0]), [(2, 0), (0, 0), (1, 0)]);
        assert!(!formed[0].decision.partial);
        assert_eq!(keys(&formed[1]), [(2, 1), (1, 1), (0, 1)]);
    }

    #[test]
    fn a_missing_camera_is_waited_for_and_then_left_out() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        ingest.offer(packet(0, 0, 100, 100));
        ingest.offer(packet(2, 0, 101, 150));
        assert!(ingest.form().is_none());
        ingest.offer(packet(2, 1, 102, 161));
        let tick = ingest.form().unwrap();
        assert!(tick.decision.partial);
        assert_eq!(keys(&tick), [(0, 0)]);
        // the missing picture comes after all, too far from the next tick
        ingest.offer(packet(1, 0, 101, 170));
        ingest.offer(packet(0, 1, 200, 200));
        ingest.offer(packet(1, 1, 201, 201));
        assert_eq!(keys(&ingest.form().unwrap()), [(2, 0), (2, 1), (0, 1), (1, 1)]);
        let mut drops = Vec::new();
        ingest.take_drops(&mut drops);
        assert_eq!(drops.iter().map(|d| (d.sensor, d.reason)).collect::<Vec<_>>(), [(1, DropReason::Late)]);
    }

    #[test]
    fn a_picture_just_before_its_trigger_is_not_taken_for_late() {
        // the tolerance is longer than the period, as a cautious rig may have it
        let mut ingest = Ingest::new(&rig(), Settings { tolerance_ns: 50 * MS, ..settings(Some(0)) }, 0);
        let packets: Vec<_> = (0..30i64)
            .flat_map(|i| {
                let stamp_ms = 1000 + 33 * i;
                [packet(1, i as u32, stamp_ms - 5, stamp_ms - 4), packet(0, i as u32, stamp_ms, stamp_ms + 1)]
            })
            .collect();
        let (formed, drops) = run(&mut ingest, &packets);
        assert_eq!(drops, []);
        assert!(formed.iter().all(|tick| !tick.decision.partial && tick.packets.len() == 2));
    }

    #[test]
    fn a_silent_trigger_does_not_fill_the_memory() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        for i in 0..40_000i64 {
            ingest.offer(packet(1, i as u32, 1000 + 30 * i, 1000 + 30 * i));
            ingest.offer(packet(2, i as u32, 1000 + 30 * i, 1000 + 30 * i));
        }
        let accounts = ingest.accounts();
        assert!(accounts.iter().all(balances));
        assert!(accounts[1].pending < 10 && accounts[2].pending <= 2 * MAX_PACKETS as u64, "{accounts:?}");
    }

    #[test]
    fn wrong_stamps_are_left_out_by_name() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        let packets = [
            packet(0, 0, 100, 100),
            packet(0, 1, 100, 120),
            packet(0, 2, 50, 130),
            packet(0, 3, 0, 140),
            packet(0, 4, -5, 150),
            packet(0, 5, 99_999, 160),
            packet(2, 0, 100, 160),
            packet(2, 1, 100, 160),
            packet(0, 6, 200, 200),
        ];
        let (formed, drops) = run(&mut ingest, &packets);
        let reasons: Vec<_> = drops.iter().map(|drop| (drop.sequence, drop.reason)).collect();
        use DropReason::*;
        assert_eq!(reasons, [(1, Duplicate), (2, Backward), (3, ZeroStamp), (4, ZeroStamp), (5, FarFuture)]);
        assert_eq!(formed.len(), 2);
        assert_eq!(keys(&formed[0]), [(0, 0), (2, 0), (2, 1)]);
    }

    #[test]
    fn the_nearest_frame_wins_and_the_other_is_counted() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        let packets = [packet(1, 0, 85, 86), packet(1, 1, 98, 99), packet(0, 0, 100, 100), packet(0, 1, 200, 200)];
        let (formed, drops) = run(&mut ingest, &packets);
        assert_eq!(keys(&formed[0]), [(1, 1), (0, 0)]);
        assert_eq!(drops.iter().map(|d| (d.sequence, d.reason)).collect::<Vec<_>>(), [(0, DropReason::Superseded)]);
    }

    #[test]
    fn without_a_trigger_time_forms_the_ticks() {
        let mut ingest = Ingest::new(&rig(), settings(None), 0);
        let packets: Vec<_> = (0..50).map(|i| packet(2, i as u32, 1000 + 10 * i, 1000 + 10 * i)).collect();
        let (formed, drops) = run(&mut ingest, &packets);
        assert_eq!(drops, []);
        assert_eq!(formed.iter().map(|tick| tick.packets.len()).sum::<usize>(), 50);
        assert_eq!(formed[1].decision.reference_ns - formed[0].decision.reference_ns, 100 * MS);
        assert_eq!(formed[1].packets.len(), 10);
    }

    #[test]
    fn a_refused_tick_loses_its_frames_and_keeps_its_streams() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        ingest.offer(packet(2, 0, 90, 90));
        ingest.offer(packet(0, 0, 100, 100));
        ingest.offer(packet(1, 0, 100, 100));
        let tick = ingest.form().unwrap();
        ingest.refuse(tick);
        ingest.offer(packet(0, 1, 200, 200));
        ingest.offer(packet(1, 1, 200, 200));
        let tick = ingest.form().unwrap();
        assert_eq!(tick.decision.tick, 0);
        assert_eq!(keys(&tick), [(2, 0), (0, 1), (1, 1)]);
        let mut drops = Vec::new();
        ingest.take_drops(&mut drops);
        assert!(drops.iter().all(|drop| drop.reason == DropReason::Overload) && drops.len() == 2);
        assert!(ingest.accounts().iter().all(balances));
    }

    #[test]
    fn without_a_trigger_stamps_far_behind_their_arrival_form_no_more_ticks_than_time_passes() {
        let mut ingest = Ingest::new(&rig(), Settings { period_ns: 50 * MS, ..settings(None) }, 0);
        let mut ticks = 0;
        // simulated time: stamps begin at 12 s, arrivals are years on
        let year_ms = 365 * 86_400_000;
        for step in 0..100 {
            let stamp_ms = 12_000 + 10 * step;
            ingest.offer(packet(2, step as u32, stamp_ms, 50 * year_ms + 10 * step));
            while ingest.form().is_some() {
                ticks += 1;
                assert!(ticks < 100, "ticks without end");
            }
        }
        assert!((15..=20).contains(&ticks), "{ticks} ticks in a second of 50 ms periods");
    }

    #[test]
    fn without_a_trigger_one_arrival_far_ahead_ends_the_ticks_after_the_gap() {
        let mut ingest = Ingest::new(&rig(), settings(None), 0);
        ingest.offer(packet(2, 0, 1000, 1000));
        // its stamp is missing, its arrival an hour ahead
        ingest.offer(packet(2, 1, 0, 3_600_000));
        let ticks = std::iter::from_fn(|| ingest.form()).take(1000).count();
        assert!(ticks < 3, "{ticks} ticks");
    }

    #[test]
    fn pictures_that_take_longer_than_the_wait_are_not_taken_for_old_ones() {
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        let mut whole = 0;
        for frame in 0..10u32 {
            let stamp_ms = 1000 + 100 * i64::from(frame);
            // both take 500 ms; the second camera's comes 2 ms before the trigger's
            ingest.offer(packet(1, frame, stamp_ms, stamp_ms + 498));
            ingest.offer(packet(0, frame, stamp_ms, stamp_ms + 500));
            while let Some(formed) = ingest.form() {
                whole += usize::from(!formed.decision.partial);
            }
        }
        assert_eq!(whole, 10);
    }

    #[test]
    fn recorded_ticks_hold_no_packet_that_none_of_them_can_name() {
        let mut recorded = Recorded::new(&rig());
        let run = |sensor, first_sequence| PacketRun { sensor, first_sequence, count: 1 };
        let tick = |tick, sequence| TickDecision { tick, runs: vec![run(2, sequence)], ..TickDecision::default() };
        recorded.decide_tick(tick(7, 5000));
        for sequence in 0..5000 {
            recorded.offer(packet(2, sequence, 1 + i64::from(sequence), 1 + i64::from(sequence)));
        }
        assert!(recorded.waiting.len() <= MAX_REORDER as usize, "{} packets held", recorded.waiting.len());
        recorded.offer(packet(2, 5000, 6000, 6000));
        assert_eq!(recorded.form().unwrap().unwrap().packets.len(), 1);
        recorded.all_decided();
        for sequence in 5001..5100 {
            recorded.offer(packet(2, sequence, 6000, 6000));
        }
        assert!(recorded.waiting.len() <= MAX_REORDER as usize);
        assert!(recorded.accounts().iter().all(balances));
    }

    #[test]
    fn recorded_decisions_are_obeyed_even_where_the_policy_would_differ() {
        let packets: Vec<_> = (0..20i64)
            .flat_map(|i| {
                [
                    packet(2, 2 * i as u32, 100 * i + 90, 100 * i + 90),
                    packet(0, i as u32, 100 * i + 100, 100 * i + 100),
                    packet(1, i as u32, 100 * i + 101, 100 * i + 101),
                    packet(2, 2 * i as u32 + 1, 100 * i + 105, 100 * i + 105),
                ]
            })
            .collect();
        let mut ingest = Ingest::new(&rig(), settings(Some(0)), 0);
        let mut recorded = Recorded::new(&rig());
        let mut expected = Vec::new();
        let mut refuse = false;
        for packet in &packets {
            ingest.offer(packet.clone());
            while let Some(tick) = ingest.form() {
                refuse = !refuse;
                if refuse {
                    ingest.refuse(tick);
                } else {
                    expected.push(keys(&tick));
                    recorded.decide_tick(tick.decision);
                }
            }
        }
        let mut drops = Vec::new();
        ingest.take_drops(&mut drops);
        assert!(!drops.is_empty());
        drops.iter().for_each(|drop| recorded.decide_drop(*drop));
        let mut got = Vec::new();
        for packet in &packets {
            recorded.offer(packet.clone());
            while let Some(tick) = recorded.form().unwrap() {
                got.push(keys(&tick));
            }
        }
        assert_eq!(got, expected);
        assert!(recorded.accounts().iter().all(balances));
        recorded.decide_tick(TickDecision {
            tick: 99,
            runs: vec![PacketRun { sensor: 0, first_sequence: 500, count: 2 }],
            ..TickDecision::default()
        });
        recorded.end();
        assert_eq!(recorded.form().unwrap_err(), MissingPackets { tick: 99, missing: 2 });
    }
}
