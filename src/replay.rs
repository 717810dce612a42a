//! Replay: a log goes through a pipeline, at full speed or paced, and every decision is kept.
//!
//! The caller's thread is the edge: it takes packets from the [`Source`], forms ticks or obeys recorded ones, spends
//! credit, and gives what comes out to a [`Tap`]. At full speed the edge waits for credit, so nothing is ever dropped for
//! lack of it; paced, a tick that finds no free slot when it is due is refused, and that is a decision in the log.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use catseye_calibration::rig::Rig;
use catseye_sensors::picture::Limits;
use thiserror::Error;

use crate::log::reader::{Ending, Event, LogReader, ReadError};
use crate::log::{TOPIC_DROP, TOPIC_NETWORKS, TOPIC_SNAPSHOT, TOPIC_TICK};
use crate::messages::{Account, DropDecision, NetworksDecision, NetworksPlace, StateSnapshot, TickDecision};
use crate::pipeline::Pipeline;
use crate::realtime::deadlines::{DeadlineCount, Monitor};
use crate::realtime::pulse::{Beat, Pulse};
use crate::realtime::{Footing, Role};
use crate::runtime::affinity::pin_to;
use crate::runtime::graph::{GraphError, RestoreError, Running, Slot};
use crate::runtime::pool::{Lease, Pool};
use crate::source::{Item, Source, SourceSummary};
use crate::stages::Tick;
use crate::stages::ingest::{Formed, Ingest, MissingPackets, Recorded, Settings as IngestSettings, balances};
use crate::tap::{Tap, TapError, TapSummary};

/// Why a replay ended early.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The graph failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A recorded decision names packets that are not there.
    #[error(transparent)]
    Missing(#[from] MissingPackets),
    /// A snapshot does not fit.
    #[error("snapshot of stage {stage:?} after tick {tick}: {error}")]
    Restore {
        /// The stage.
        stage: String,
        /// The tick.
        tick: u64,
        /// Why.
        error: RestoreError,
    },
    /// An output could not be written.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Packets were lost without being counted: a bug.
    #[error("the accounts of sensor {0:?} do not balance: produced is not consumed + dropped + pending")]
    Unbalanced(String),
    /// A range of a log that was never decided: its ticks have no numbers yet.
    #[error("ticks {first} to {last} were asked for, but no log with decisions: expected the log of a run")]
    RangeWithoutDecisions {
        /// First tick asked for.
        first: u64,
        /// Last tick asked for.
        last: u64,
    },
    /// A range that holds no tick.
    #[error("no tick from {first} to {last} in {path}")]
    NoSuchRange {
        /// First tick asked for.
        first: u64,
        /// Last tick asked for.
        last: u64,
        /// The log with the decisions.
        path: PathBuf,
    },
}

/// How fast ticks are admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// As fast as they go through.
    #[default]
    Max,
    /// This many times as fast as they were recorded.
    Times(f64),
    /// When they are there: sensors are live, and a tick that finds no room is refused.
    Live,
}

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How fast.
    pub pace: Pace,
    /// Worker threads.
    pub workers: usize,
    /// Processor of each worker, if any.
    pub pin: Vec<usize>,
    /// A log whose decisions are obeyed; new ones are made when there is none.
    pub decisions: Option<PathBuf>,
    /// First and last tick, for logs with decisions.
    pub range: Option<(u64, u64)>,
    /// Limits on pictures.
    pub limits: Limits,
    /// What workers, and in a live run the edge, were granted.
    pub footing: Footing,
    /// What ticks and stages are held to.
    pub deadlines: Monitor,
    /// Where the edge shows that it goes on.
    pub pulse: Pulse,
}

/// What a replay did.
#[derive(Debug)]
pub struct Summary {
    /// Ticks that went through.
    pub ticks: u64,
    /// Tick of the snapshot that stateful stages were restored from; `None` when the run began at the beginning.
    pub restored_after: Option<u64>,
    /// First recorded tick that could not be replayed, because a file is cut off before its packets.
    pub cut_before: Option<u64>,
    /// Whether the range began without a snapshot, so that stateful stages cannot be compared.
    pub without_state: bool,
    /// Packets left out, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// What became of each sensor's packets.
    pub accounts: Vec<Account>,
    /// What the source saw.
    pub source: Option<SourceSummary>,
    /// What the taps did.
    pub tap: TapSummary,
    /// How each budget of time was kept.
    pub deadlines: Vec<DeadlineCount>,
    /// Wall time of the run.
    pub wall: Duration,
    /// Time between the first and the last tick.
    pub drive_s: f64,
    /// Whether somebody stopped it.
    pub stopped: bool,
    /// Why the run ended early, where a device failed and the rig says that it ends then.
    pub device_lost: Option<String>,
}

/// Recorded decisions, read ahead of the packets in bounded memory.
struct Decisions {
    reader: LogReader,
    range: Option<(u64, u64)>,
    /// Ticks up to this one are skipped, not run.
    skip_through: Option<u64>,
    /// Where the networks of ticks that were read, and are not formed yet, ran.
    networks: BTreeMap<u64, NetworksPlace>,
    ended: bool,
}

impl Decisions {
    fn open(path: &Path, range: Option<(u64, u64)>, skip_through: Option<u64>) -> Result<Self, ReadError> {
        let networks = BTreeMap::new();
        Ok(Decisions { reader: LogReader::open(path)?, range, skip_through, networks, ended: false })
    }

    /// Reads until `recorded` has ticks to go on with.
    fn fill(&mut self, recorded: &mut Recorded) -> Result<(), ReadError> {
        while !self.ended && !recorded.has_decisions() {
            let path = self.reader.path().to_owned();
            let Some(event) = self.reader.next()? else {
                self.ended = true;
                break;
            };
            let Event::Message(message) = event else { continue };
            match message.channel.topic.as_str() {
                TOPIC_DROP => recorded.decide_drop(message.record::<DropDecision>(&path)?),
                TOPIC_NETWORKS => {
                    let NetworksDecision { tick, place } = message.record(&path)?;
                    self.networks.insert(tick, place);
                }
                TOPIC_TICK => {
                    let decision = message.record::<TickDecision>(&path)?;
                    if self.range.is_some_and(|(_, last)| decision.tick > last) {
                        self.ended = true;
                    } else if self.skip_through.is_some_and(|tick| decision.tick <= tick) {
                        recorded.decide_skip(decision);
                    } else {
                        recorded.decide_tick(decision);
                    }
                }
                _ => {}
            }
        }
        if self.ended {
            recorded.all_decided();
        }
        Ok(())
    }
}

enum Edge {
    Fresh(Box<Ingest>),
    Recorded(Box<Recorded>, Box<Decisions>),
}

impl Edge {
    fn offer(&mut self, packets: Vec<crate::log::packet::SensorPacket>) {
        match self {
            Edge::Fresh(ingest) => packets.into_iter().for_each(|packet| ingest.offer(packet)),
            Edge::Recorded(recorded, _) => packets.into_iter().for_each(|packet| recorded.offer(packet)),
        }
    }

    fn end(&mut self) {
        match self {
            Edge::Fresh(ingest) => ingest.end(),
            Edge::Recorded(recorded, _) => recorded.end(),
        }
    }

    fn form(&mut self) -> Result<Option<Formed>, ReplayError> {
        match self {
            Edge::Fresh(ingest) => Ok(ingest.form()),
            Edge::Recorded(recorded, decisions) => loop {
                decisions.fill(recorded)?;
                let formed = recorded.form()?;
                // ticks before a range were passed over, and those behind them are not read yet
                let wants_more = formed.is_none() && !recorded.has_decisions() && !decisions.ended;
                if !wants_more {
                    return Ok(formed);
                }
            },
        }
    }

    /// Whether no tick will be formed any more, whatever packets still come.
    fn is_over(&self) -> bool {
        match self {
            Edge::Fresh(_) => false,
            // behind the last tick of a whole run there may be packets yet that it dropped
            Edge::Recorded(recorded, decisions) => {
                let is_part =
                    decisions.range.is_some() || decisions.reader.ending().is_some_and(Ending::lacks_messages);
                decisions.ended && recorded.is_idle() && is_part
            }
        }
    }

    /// Where the networks of a tick are to run.
    fn networks_place(&mut self, tick: u64) -> NetworksPlace {
        match self {
            Edge::Fresh(_) => NetworksPlace::Configured,
            Edge::Recorded(_, decisions) => decisions.networks.remove(&tick).unwrap_or_default(),
        }
    }

    fn withdraw(&mut self, formed: Formed) {
        match self {
            Edge::Fresh(ingest) => ingest.withdraw(formed),
            Edge::Recorded(recorded, _) => recorded.withdraw(formed),
        }
    }

    /// Gives up on recorded ticks whose packets are behind the place where a file is cut off. Gives the first of them, or
    /// nothing when no file is cut and the packets should be there.
    fn give_up(&mut self, source: Option<&SourceSummary>) -> Option<u64> {
        let Edge::Recorded(recorded, decisions) = self else { return None };
        let is_cut = |ending: Option<&Ending>| ending.is_some_and(Ending::lacks_messages);
        if !is_cut(source.map(|source| &source.ending)) && !is_cut(decisions.reader.ending()) {
            return None;
        }
        decisions.ended = true;
        recorded.give_up()
    }

    fn take_drops(&mut self, into: &mut Vec<DropDecision>) {
        match self {
            Edge::Fresh(ingest) => ingest.take_drops(into),
            Edge::Recorded(recorded, _) => recorded.take_drops(into),
        }
    }

    fn accounts(&self) -> Vec<Account> {
        match self {
            Edge::Fresh(ingest) => ingest.accounts(),
            Edge::Recorded(recorded, _) => recorded.accounts(),
        }
    }
}

/// Finds the newest snapshots of all stages after a tick before `first`.
fn snapshots_before(path: &Path, first: u64) -> Result<Option<(u64, Vec<StateSnapshot>)>, ReadError> {
    let mut reader = LogReader::open(path)?;
    let path = path.to_owned();
    let mut newest: Option<(u64, Vec<StateSnapshot>)> = None;
    while let Some(event) = reader.next()? {
        let Event::Message(message) = event else { continue };
        if message.channel.topic != TOPIC_SNAPSHOT {
            continue;
        }
        let snapshot = message.record::<StateSnapshot>(&path)?;
        if snapshot.tick >= first {
            break;
        }
        match &mut newest {
            Some((tick, stages)) if *tick == snapshot.tick => stages.push(snapshot),
            _ => newest = Some((snapshot.tick, vec![snapshot])),
        }
    }
    Ok(newest)
}

/// Whether a log holds states from before a tick.
pub fn has_snapshot_before(path: &Path, first: u64) -> Result<bool, ReadError> {
    Ok(snapshots_before(path, first)?.is_some())
}

/// States that a log begins with, before its first tick: that of a range. Gives the tick that they are of.
fn leading_snapshots(path: &Path) -> Result<Option<(u64, Vec<StateSnapshot>)>, ReadError> {
    let mut reader = LogReader::open(path)?;
    let path = path.to_owned();
    let mut snapshots: Vec<StateSnapshot> = Vec::new();
    while let Some(event) = reader.next()? {
        let Event::Message(message) = event else { continue };
        match message.channel.topic.as_str() {
            TOPIC_SNAPSHOT => snapshots.push(message.record(&path)?),
            TOPIC_TICK => break,
            _ => {}
        }
    }
    Ok(snapshots.first().map(|first| first.tick).map(|tick| (tick, snapshots)))
}

/// Where a run begins.
struct Start {
    /// States that the run begins with.
    states: Vec<StateSnapshot>,
    skip_through: Option<u64>,
    restored_after: Option<u64>,
    without_state: bool,
}

/// Restores the nearest snapshot before the range, or the one that the log itself begins with.
fn prepare(pipeline: &mut Pipeline, options: &Options) -> Result<Start, ReplayError> {
    let mut start = Start { states: Vec::new(), skip_through: None, restored_after: None, without_state: false };
    let Some(path) = &options.decisions else {
        return match options.range {
            Some((first, last)) => Err(ReplayError::RangeWithoutDecisions { first, last }),
            None => Ok(start),
        };
    };
    let first = options.range.map_or(0, |range| range.0);
    let found = match first {
        0 => leading_snapshots(path)?,
        first => snapshots_before(path, first)?,
    };
    let Some((tick, snapshots)) = found else {
        start.skip_through = first.checked_sub(1);
        start.without_state = first > 0;
        return Ok(start);
    };
    for snapshot in &snapshots {
        let restored = pipeline.graph.restore(&snapshot.stage, snapshot.version, &snapshot.state);
        restored.map_err(|error| ReplayError::Restore { stage: snapshot.stage.clone(), tick: snapshot.tick, error })?;
    }
    start.skip_through = (first > 0).then_some(tick);
    start.restored_after = Some(tick);
    start.states = snapshots;
    Ok(start)
}

/// Replays `log` through `pipeline`. `progress` hears bytes read and bytes in all; `stop` ends the run in good order.
pub fn replay(
    log: &Path,
    rig: &Rig,
    mut pipeline: Pipeline,
    options: &Options,
    mut tap: Tap,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64, u64),
) -> Result<Summary, ReplayError> {
    let mut start = prepare(&mut pipeline, options)?;
    if !start.states.is_empty() {
        tap.begin(std::mem::take(&mut start.states))?;
    }
    let edge = match &options.decisions {
        None => Edge::Fresh(Box::new(Ingest::new(rig, IngestSettings::of(rig), 0))),
        Some(path) => {
            let decisions = Decisions::open(path, options.range, start.skip_through)?;
            Edge::Recorded(Box::new(Recorded::new(rig)), Box::new(decisions))
        }
    };
    let source = Source::open(log, rig, options.limits)?;
    go(pipeline, (edge, source), start, options, tap, stop, progress)
}

/// Runs live sensors through `pipeline` until they end. `stop` ends the run at once; to end it whole, end the sensors.
pub fn run_live(
    source: Source,
    rig: &Rig,
    pipeline: Pipeline,
    options: &Options,
    tap: Tap,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64, u64),
) -> Result<Summary, ReplayError> {
    let edge = Edge::Fresh(Box::new(Ingest::new(rig, IngestSettings::of(rig), 0)));
    let start = Start { states: Vec::new(), skip_through: None, restored_after: None, without_state: false };
    go(pipeline, (edge, source), start, &Options { pace: Pace::Live, ..options.clone() }, tap, stop, progress)
}

fn go(
    pipeline: Pipeline,
    (edge, source): (Edge, Source),
    start: Start,
    options: &Options,
    tap: Tap,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64, u64),
) -> Result<Summary, ReplayError> {
    let (pin, footing) = (options.pin.clone(), options.footing.clone());
    let prepare = move |worker: usize| {
        footing.take(Role::Worker);
        if let Some(processor) = pin.get(worker) {
            pin_to(*processor);
        }
    };
    let running = pipeline.graph.start_with(options.workers, Arc::new(prepare))?;
    if options.pace == Pace::Live {
        // behind the workers, who would inherit it; the caller's thread keeps it
        options.footing.take(Role::Edge);
    }
    let mut run = Run {
        edge,
        source,
        running,
        pool: pipeline.pool,
        tap,
        deadlines: options.deadlines.clone(),
        vital: Vital {
            edge: options.pulse.part("edge"),
            ticks: options.pulse.part("ticks"),
            pulse: options.pulse.clone(),
        },
        device_lost: pipeline.device_lost,
        pace: options.pace,
        pending: None,
        in_flight: VecDeque::new(),
        first_closed_ns: None,
        started: Instant::now(),
        drops: BTreeMap::new(),
        scratch: Vec::new(),
        source_summary: None,
        cut_before: None,
        ticks: 0,
        ticks_in_range: 0,
        range: options.range,
        first_ns: None,
        last_ns: 0,
    };
    run.until_done(stop, progress)?;
    run.finish(start, stop.load(Ordering::Relaxed), options)
}

/// A tick that is inside.
struct InFlight {
    decision: TickDecision,
    /// Newest arrival when it was made.
    closed_ns: i64,
    /// When it was admitted, on the graph's clock.
    admitted_ns: i64,
}

/// The edge's signs of life: that it goes round, and that what is inside comes out.
struct Vital {
    edge: Beat,
    ticks: Beat,
    pulse: Pulse,
}

struct Run {
    edge: Edge,
    source: Source,
    running: Running<Tick>,
    pool: Pool<Slot<Tick>>,
    tap: Tap,
    deadlines: Monitor,
    vital: Vital,
    device_lost: Arc<OnceLock<String>>,
    pace: Pace,
    /// A tick that waits for credit or for its time.
    pending: Option<Formed>,
    /// The ticks that are inside, in order.
    in_flight: VecDeque<InFlight>,
    first_closed_ns: Option<i64>,
    started: Instant,
    drops: BTreeMap<&'static str, u64>,
    scratch: Vec<DropDecision>,
    source_summary: Option<SourceSummary>,
    /// First recorded tick whose packets a cut-off file does not hold.
    cut_before: Option<u64>,
    ticks: u64,
    /// Ticks inside the range that was asked for.
    ticks_in_range: u64,
    range: Option<(u64, u64)>,
    first_ns: Option<i64>,
    last_ns: i64,
}

impl Run {
    fn until_done(&mut self, stop: &AtomicBool, progress: &mut dyn FnMut(u64, u64, u64)) -> Result<(), ReplayError> {
        loop {
            let seen = self.running.epoch();
            let mut moved = self.collect()?;
            self.vital.edge.beat();
            if moved || self.in_flight.is_empty() {
                self.vital.ticks.beat();
            }
            let stopping = stop.load(Ordering::Relaxed) || self.device_lost.get().is_some();
            if !stopping {
                moved |= self.admit()?;
            }
            let (fed, len) = self.source.progress();
            progress(fed, len, self.ticks);
            if moved {
                continue;
            }
            let exhausted = self.source_summary.is_some() || self.edge.is_over();
            if self.in_flight.is_empty() && (stopping || (exhausted && self.pending.is_none())) {
                return Ok(());
            }
            self.rest(seen);
        }
    }

    /// Takes finished ticks out.
    fn collect(&mut self) -> Result<bool, ReplayError> {
        let mut any = false;
        while let Some(slot) = self.running.take()? {
            any = true;
            let Some(InFlight { decision, closed_ns, admitted_ns }) = self.in_flight.pop_front() else { break };
            let misses = self.deadlines.observe(admitted_ns, &slot.notes.timings);
            self.note_drops();
            for late in &slot.payload.late {
                *self.drops.entry(late.reason.name()).or_insert(0) += 1;
                self.scratch.push(*late);
            }
            self.ticks += 1;
            self.ticks_in_range += u64::from(self.range.is_none_or(|range| decision.tick >= range.0));
            self.first_ns.get_or_insert(decision.reference_ns);
            self.last_ns = decision.reference_ns;
            let drops = std::mem::take(&mut self.scratch);
            self.tap.take(&slot, (decision, closed_ns), (drops, misses), self.pace == Pace::Max)?;
        }
        if any {
            self.vital.pulse.ticked(self.ticks, self.drops.values().sum(), self.deadlines.missed());
        }
        Ok(any)
    }

    fn note_drops(&mut self) {
        let before = self.scratch.len();
        self.edge.take_drops(&mut self.scratch);
        for drop in &self.scratch[before..] {
            *self.drops.entry(drop.reason.name()).or_insert(0) += 1;
        }
    }

    /// Admits the next tick if there is one, it is due, and there is credit.
    fn admit(&mut self) -> Result<bool, ReplayError> {
        let moved = self.fetch()?;
        let Some(formed) = self.pending.take() else { return Ok(moved) };
        if !self.is_due(&formed) {
            self.pending = Some(formed);
            return Ok(moved);
        }
        match (self.pool.acquire(), self.pace, &mut self.edge) {
            (Some(slot), ..) => {
                self.submit(slot, formed);
                Ok(true)
            }
            (None, Pace::Times(_) | Pace::Live, Edge::Fresh(ingest)) => {
                ingest.refuse(formed);
                Ok(true)
            }
            (None, ..) => {
                self.pending = Some(formed);
                Ok(moved)
            }
        }
    }

    /// Makes sure that a tick is pending, if one can be had now.
    fn fetch(&mut self) -> Result<bool, ReplayError> {
        let mut moved = false;
        while self.pending.is_none() {
            self.pending = match self.edge.form() {
                Err(ReplayError::Missing(missing)) => match self.edge.give_up(self.source_summary.as_ref()) {
                    None => return Err(missing.into()),
                    Some(tick) => {
                        self.cut_before = Some(tick);
                        None
                    }
                },
                formed => formed?,
            };
            if self.pending.is_some() || self.source_summary.is_some() || self.edge.is_over() {
                break;
            }
            match self.source.poll() {
                None => break,
                Some(Item::Packets(packets)) => self.edge.offer(packets),
                Some(Item::End(summary)) => {
                    self.source_summary = Some(*summary);
                    self.edge.end();
                }
                Some(Item::Failed(error)) => return Err((*error).into()),
            }
            moved = true;
        }
        Ok(moved)
    }

    fn is_due(&mut self, formed: &Formed) -> bool {
        let Pace::Times(times) = self.pace else { return true };
        let first = *self.first_closed_ns.get_or_insert_with(|| {
            self.started = Instant::now();
            formed.closed_ns
        });
        let due_s = formed.closed_ns.saturating_sub(first) as f64 * 1e-9 / times.max(1e-3);
        self.started.elapsed().as_secs_f64() >= due_s
    }

    fn submit(&mut self, mut slot: Lease<Slot<Tick>>, formed: Formed) {
        let Formed { decision, packets, closed_ns } = formed;
        let tick = &mut slot.payload;
        tick.id = decision.tick;
        tick.reference_ns = decision.reference_ns;
        tick.partial = decision.partial;
        tick.networks_place = self.edge.networks_place(decision.tick);
        tick.packets = packets;
        self.in_flight.push_back(InFlight { decision, closed_ns, admitted_ns: self.running.now_ns() });
        self.running.submit(slot);
    }

    /// Sleeps until something may have changed.
    fn rest(&mut self, seen: u32) {
        if self.in_flight.is_empty() && self.pending.is_none() && self.source_summary.is_none() {
            // only the source can bring anything
            match self.source.wait(Duration::from_millis(20)) {
                Some(Item::Packets(packets)) => self.edge.offer(packets),
                Some(Item::End(summary)) => {
                    self.source_summary = Some(*summary);
                    self.edge.end();
                }
                Some(Item::Failed(error)) => self.failed_while_waiting(*error),
                None => {}
            }
            return;
        }
        self.running.wait(seen, Duration::from_micros(500));
    }

    /// Keeps an error of the source for the next `fetch`, which can return it.
    fn failed_while_waiting(&mut self, error: ReadError) {
        self.source = Source::failed(error);
    }

    fn finish(mut self, start: Start, stopped: bool, options: &Options) -> Result<Summary, ReplayError> {
        let device_lost = self.device_lost.get().cloned();
        let stopped = stopped || device_lost.is_some();
        let wall = self.started.elapsed();
        if let Some(formed) = self.pending.take() {
            self.edge.withdraw(formed);
        }
        self.note_drops();
        let accounts = self.edge.accounts();
        if let Some(wrong) = accounts.iter().find(|account| !balances(account)) {
            return Err(ReplayError::Unbalanced(wrong.name.clone()));
        }
        if let (Some((first, last)), Some(path), 0, false) =
            (options.range, &options.decisions, self.ticks_in_range, stopped)
        {
            return Err(ReplayError::NoSuchRange { first, last, path: path.clone() });
        }
        let drops = std::mem::take(&mut self.scratch);
        drop(self.running);
        let cut_short = stopped || options.range.is_some();
        let tap = self.tap.finish(drops, &accounts, cut_short)?;
        Ok(Summary {
            ticks: self.ticks,
            restored_after: start.restored_after,
            cut_before: self.cut_before,
            without_state: start.without_state,
            drops: self.drops,
            accounts,
            source: self.source_summary,
            tap,
            deadlines: self.deadlines.counts(),
            wall,
            drive_s: self.last_ns.saturating_sub(self.first_ns.unwrap_or(self.last_ns)) as f64 * 1e-9,
            stopped,
            device_lost,
        })
    }
}
