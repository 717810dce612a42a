//! The graph: stages as a Kahn network, run by any number of workers with the same result.
//!
//! Every stage takes and gives exactly one slot per tick, in tick order, over lossless queues. A queue holds as many
//! leases as there are slots, so it is never full and nothing inside can wait for room: the only limit is credit, at the
//! entry. Which worker runs a stage, and when, never reaches a stage, so outputs cannot depend on it.
//!
//! A stage is stateful (one copy, sees all ticks), stateless (several copies in *lanes*, tick `t` goes to lane
//! `t mod lanes`, results are put back in order), or a [`Device`] that works on its own and completes in any order.
//! A worker that has run a stage carries the slot on to the next one itself, if that one is free and waits for just
//! this tick: no queue, no other thread, the data still in its cache.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::claim::{Claim, Claimed};
use super::events::Events;
use super::pool::Lease;
use super::queue::{Consumer, Producer, queue};
use crate::messages::Level;

/// Most stages in a graph.
pub const MAX_STAGES: usize = 32;
/// Most digests that one tick can carry.
pub const MAX_DIGESTS: usize = 512;
/// Most faults that one tick can carry: one per stage.
pub const MAX_FAULTS: usize = MAX_STAGES;

/// What the graph keeps beside the payload of a slot.
#[derive(Default)]
pub struct Notes {
    /// Digests of what the stages gave.
    pub digests: heapless::Vec<DigestNote, MAX_DIGESTS>,
    /// When the stages worked.
    pub timings: heapless::Vec<TimingNote, MAX_STAGES>,
    /// What failed.
    pub faults: heapless::Vec<FaultNote, MAX_FAULTS>,
    /// States of the stateful stages after this tick, where one was due. The buffers keep their capacity.
    pub snapshots: Vec<SnapshotNote>,
    /// How many of `snapshots` belong to this tick.
    pub snapshots_used: usize,
}

impl Notes {
    fn clear(&mut self) {
        self.digests.clear();
        self.timings.clear();
        self.faults.clear();
        self.snapshots_used = 0;
    }

    /// The snapshots of this tick.
    pub fn snapshots(&self) -> &[SnapshotNote] {
        self.snapshots.get(..self.snapshots_used).unwrap_or(&[])
    }
}

/// One digest: stage by position, group (a camera, or [`NO_GROUP`]), field by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestNote {
    /// Position of the stage.
    pub stage: u8,
    /// Which of several like values.
    pub group: u16,
    /// The field's name.
    pub field: &'static str,
    /// Its digest.
    pub digest: u64,
}

/// The group of a field that there is only one of.
pub const NO_GROUP: u16 = u16::MAX;

/// When one stage worked, in nanoseconds since the graph started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimingNote {
    /// Position of the stage.
    pub stage: u8,
    /// The worker.
    pub worker: u16,
    /// Start.
    pub start_ns: i64,
    /// End.
    pub end_ns: i64,
}

/// What a stage said when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultNote {
    /// Position of the stage.
    pub stage: u8,
    /// Its words.
    pub message: String,
}

/// A stage's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotNote {
    /// Position of the stage.
    pub stage: u8,
    /// Version of the layout.
    pub version: u32,
    /// The bytes.
    pub state: Vec<u8>,
}

/// What travels: the payload that stages see, and the graph's notes.
pub struct Slot<T> {
    /// Position of the tick in this run, from 0.
    pub index: u64,
    /// What the stages read and write.
    pub payload: T,
    /// What the graph wrote down.
    pub notes: Notes,
}

impl<T> Slot<T> {
    /// A slot for the pool.
    pub fn new(payload: T) -> Self {
        Slot { index: 0, payload, notes: Notes::default() }
    }
}

/// Takes a stage's digests.
pub struct Fields<'a> {
    notes: &'a mut Notes,
    stage: u8,
}

impl Fields<'_> {
    /// Notes the digest of one field.
    pub fn add(&mut self, group: u16, field: &'static str, digest: u64) {
        // MAX_DIGESTS bounds what a graph may declare; `Graph::build` cannot know it, so a surplus folds into the last
        // entry instead of being lost.
        let note = DigestNote { stage: self.stage, group, field, digest };
        if let Err(note) = self.notes.digests.push(note)
            && let Some(last) = self.notes.digests.last_mut()
        {
            last.digest = last.digest.rotate_left(7) ^ note.digest;
        }
    }

    /// Notes the digests of all fields of a record.
    pub fn add_record(&mut self, group: u16, record: &impl crate::record::Record) {
        record.digest_fields(&mut |field, digest| self.add(group, field, digest));
    }
}

/// A stage's state as a value.
pub trait State {
    /// Version of the layout that `save` writes.
    fn version(&self) -> u32;
    /// Appends the state.
    fn save(&self, out: &mut Vec<u8>);
    /// Takes a state back; on an error nothing has changed.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), RestoreError>;
}

/// Why a state could not be taken back.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The layout is another one.
    #[error("the snapshot has version {found} of the state, this build has version {expected}")]
    Version {
        /// Ours.
        expected: u32,
        /// The snapshot's.
        found: u32,
    },
    /// The bytes are no state.
    #[error(transparent)]
    Decode(#[from] crate::record::DecodeError),
    /// The graph has no such stage, or it has no state.
    #[error("the graph has no stage {0:?} with a state")]
    NoSuchStage(String),
    /// The state belongs to another rig.
    #[error("the snapshot holds the state of {found} cameras, the rig has {expected}")]
    Rig {
        /// The rig's.
        expected: usize,
        /// The snapshot's.
        found: usize,
    },
}

/// What a stage says when it cannot do its work. It has left an empty result behind.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct StageError(pub String);

/// A pure function of its own state and the slots it sees: no clock, no I/O, no random numbers, no allocation after
/// warm-up, no panic on any input.
pub trait Stage<T>: Send {
    /// The name in logs and reports.
    fn name(&self) -> &'static str;
    /// How far its bits reach.
    fn level(&self) -> Level {
        Level::Exact
    }
    /// Does one tick's work in place.
    fn run(&mut self, payload: &mut T) -> Result<(), StageError>;
    /// Digests what `run` wrote.
    fn digest(&self, _payload: &T, _fields: &mut Fields) {}
    /// The state, for stages that have one.
    fn state(&mut self) -> Option<&mut dyn State> {
        None
    }
}

/// A claim on work that a device has begun. The device owns the slot's lease until it gives it back for this ticket.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Something that works beside the CPU, a GPU for one. It may complete tickets in any order.
pub trait Device<T>: Send {
    /// The name in logs and reports.
    fn name(&self) -> &'static str;
    /// How far its bits reach.
    fn level(&self) -> Level {
        Level::PerEngine
    }
    /// How many tickets may be open at a time.
    fn depth(&self) -> usize;
    /// Begins work on a slot and keeps its lease.
    fn submit(&mut self, slot: Lease<Slot<T>>) -> Ticket;
    /// The finished slot, or the ticket again while the work goes on. Never waits.
    fn complete(&mut self, ticket: Ticket) -> Result<Finished<T>, Ticket>;
    /// Digests what the device wrote.
    fn digest(&self, _payload: &T, _fields: &mut Fields) {}
}

/// A slot that a device has finished with, well or not.
pub struct Finished<T> {
    /// The slot.
    pub slot: Lease<Slot<T>>,
    /// How the work went.
    pub result: Result<(), StageError>,
}

/// Looks into a running graph, to disturb it: tests inject delays and plant errors with it.
pub trait Probe<T>: Send + Sync {
    /// Called before a stage runs.
    fn before(&self, _stage: &str, _tick: u64) {}
    /// Called after a stage ran, before its output is digested.
    fn after(&self, _stage: &str, _tick: u64, _payload: &mut T) {}
}

/// How a graph runs. None of it may change an output.
pub struct Options<T> {
    /// Whether stage outputs are digested.
    pub digests: bool,
    /// Whether stages are timed.
    pub timings: bool,
    /// After how many ticks the states are noted; 0 for never.
    pub snapshot_every: u64,
    /// Somebody who looks in.
    pub probe: Option<Arc<dyn Probe<T>>>,
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Options { digests: true, timings: true, snapshot_every: 0, probe: None }
    }
}

impl<T> Clone for Options<T> {
    fn clone(&self) -> Self {
        Options { probe: self.probe.clone(), ..*self }
    }
}

/// Why a graph could not be built or did not go on.
#[derive(Debug, Error)]
pub enum GraphError {
    /// No stage at all, or more than [`MAX_STAGES`].
    #[error("a graph has 1 to {MAX_STAGES} stages, found {0}")]
    Stages(usize),
    /// Two neighbouring stages with different numbers of lanes, both more than one.
    #[error("stage {stage:?} has {found} lanes behind a stage with {expected}: expected 1 or as many")]
    Lanes {
        /// The later stage.
        stage: &'static str,
        /// Lanes of the earlier one.
        expected: usize,
        /// Lanes of the later one.
        found: usize,
    },
    /// A worker thread could not be started.
    #[error("worker thread {worker} could not be started: {error}")]
    Thread {
        /// The worker.
        worker: usize,
        /// The system's words.
        error: std::io::Error,
    },
    /// A stage panicked, which is a bug; the run cannot go on.
    #[error("stage {stage:?} panicked on tick {tick}: {message}")]
    Panicked {
        /// The stage.
        stage: &'static str,
        /// The tick's position in the run.
        tick: u64,
        /// The panic's words.
        message: String,
    },
}

enum Work<T> {
    Stage(Box<dyn Stage<T>>),
    Device { device: Box<dyn Device<T>>, open: VecDeque<(Ticket, i64)> },
}

/// One copy of a stage with its ends of the queues. `inputs[k]` carries ticks `lane + lanes * k` modulo all queues.
struct Lane<T> {
    work: Work<T>,
    /// The tick it waits for.
    next: u64,
    inputs: Vec<Consumer<Lease<Slot<T>>>>,
    outputs: Vec<Producer<Lease<Slot<T>>>>,
}

struct Node<T> {
    name: &'static str,
    level: Level,
    lanes: Vec<Claim<Lane<T>>>,
    /// Queues to the next node: the larger of both lane counts.
    queues_out: u64,
    queues_in: u64,
}

struct Shared<T> {
    nodes: Vec<Node<T>>,
    options: Options<T>,
    events: Events,
    stop: AtomicBool,
    failed: Mutex<Option<GraphError>>,
    has_failed: AtomicBool,
    has_device: bool,
    single: bool,
    start: Instant,
}

/// Describes a graph, stage by stage in the order of the data.
pub struct Builder<T> {
    nodes: Vec<(&'static str, Level, Vec<Work<T>>)>,
    options: Options<T>,
}

impl<T: Send + 'static> Builder<T> {
    /// An empty graph.
    pub fn new(options: Options<T>) -> Self {
        Builder { nodes: Vec::new(), options }
    }

    /// Adds a stage that sees every tick.
    pub fn stage(self, stage: Box<dyn Stage<T>>) -> Self {
        self.lanes(vec![stage])
    }

    /// Adds copies of a stateless stage; tick `t` goes to copy `t mod copies`. An empty list adds nothing.
    pub fn lanes(mut self, copies: Vec<Box<dyn Stage<T>>>) -> Self {
        let Some(first) = copies.first() else { return self };
        self.nodes.push((first.name(), first.level(), copies.into_iter().map(Work::Stage).collect()));
        self
    }

    /// Adds a device.
    pub fn device(mut self, device: Box<dyn Device<T>>) -> Self {
        let (name, level) = (device.name(), device.level());
        let open = VecDeque::with_capacity(device.depth());
        self.nodes.push((name, level, vec![Work::Device { device, open }]));
        self
    }

    /// Connects the stages. `slots` is the size of the pool whose leases will travel.
    pub fn build(self, slots: usize) -> Result<Graph<T>, GraphError> {
        if self.nodes.is_empty() || self.nodes.len() > MAX_STAGES {
            return Err(GraphError::Stages(self.nodes.len()));
        }
        let mut entry = Vec::new();
        let mut waiting: Vec<Option<Consumer<_>>> = Vec::new();
        let mut before = 1;
        let mut nodes: Vec<Node<T>> = Vec::new();
        let mut has_device = false;
        for (name, level, copies) in self.nodes {
            let lanes = copies.len();
            if lanes != before && lanes != 1 && before != 1 {
                return Err(GraphError::Lanes { stage: name, expected: before, found: lanes });
            }
            let producers = connect(slots, before.max(lanes), &mut waiting);
            attach(&mut nodes, &mut entry, producers, before);
            let queues_in = waiting.len() as u64;
            let mut copies: Vec<Lane<T>> = copies
                .into_iter()
                .enumerate()
                .map(|(lane, work)| {
                    has_device |= matches!(work, Work::Device { .. });
                    Lane { work, next: lane as u64, inputs: Vec::new(), outputs: Vec::new() }
                })
                .collect();
            for (queue, consumer) in waiting.iter_mut().enumerate() {
                copies[queue % lanes].inputs.extend(consumer.take());
            }
            let lanes_of_node = copies.into_iter().map(Claim::new).collect();
            nodes.push(Node { name, level, lanes: lanes_of_node, queues_out: 1, queues_in });
            before = lanes;
        }
        let producers = connect(slots, before, &mut waiting);
        attach(&mut nodes, &mut entry, producers, before);
        let exit = waiting.into_iter().flatten().collect();
        let shared = Shared {
            nodes,
            options: self.options,
            events: Events::default(),
            stop: AtomicBool::new(false),
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            has_device,
            single: false,
            start: Instant::now(),
        };
        Ok(Graph { shared, entry: Entry { queues: entry, next: 0 }, exit: Exit { queues: exit, next: 0 } })
    }
}

/// Makes `count` queues; their consumers wait in `waiting` for the node behind.
fn connect<L>(slots: usize, count: usize, waiting: &mut Vec<Option<Consumer<L>>>) -> Vec<Producer<L>> {
    let (producers, consumers): (Vec<_>, Vec<_>) = (0..count).map(|_| queue(slots)).unzip();
    *waiting = consumers.into_iter().map(Some).collect();
    producers
}

/// Gives the producers to the lanes of the node before, or to the entry when there is none.
fn attach<T>(
    nodes: &mut [Node<T>],
    entry: &mut Vec<Producer<Lease<Slot<T>>>>,
    producers: Vec<Producer<Lease<Slot<T>>>>,
    lanes: usize,
) {
    let Some(node) = nodes.last_mut() else {
        *entry = producers;
        return;
    };
    node.queues_out = producers.len() as u64;
    for (queue, producer) in producers.into_iter().enumerate() {
        if let Some(mut lane) = node.lanes[queue % lanes].claim() {
            lane.outputs.push(producer);
        }
    }
}

/// What a worker does first, given its number: it takes its place among the processors and threads of the machine.
pub type Prepare = Arc<dyn Fn(usize) + Send + Sync>;

/// A built graph that does not run yet.
pub struct Graph<T> {
    shared: Shared<T>,
    entry: Entry<T>,
    exit: Exit<T>,
}

struct Entry<T> {
    queues: Vec<Producer<Lease<Slot<T>>>>,
    next: u64,
}

struct Exit<T> {
    queues: Vec<Consumer<Lease<Slot<T>>>>,
    next: u64,
}

impl<T: Send + 'static> Graph<T> {
    /// Names and levels of the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, Level)> {
        self.shared.nodes.iter().map(|node| (node.name, node.level))
    }

    /// How many stages, from the first, keep no state: what comes behind needs the state of the tick before.
    pub fn stateless(&self) -> usize {
        let keeps_state = |node: &Node<T>| {
            let Some(mut lane) = node.lanes.first().and_then(Claim::claim) else { return false };
            match &mut lane.work {
                Work::Stage(stage) => stage.state().is_some(),
                Work::Device { .. } => false,
            }
        };
        self.shared.nodes.iter().position(keeps_state).unwrap_or(self.shared.nodes.len())
    }

    /// Gives a stage its state back.
    pub fn restore(&mut self, stage: &str, version: u32, state: &[u8]) -> Result<(), RestoreError> {
        let missing = || RestoreError::NoSuchStage(stage.to_owned());
        let node = self.shared.nodes.iter().find(|node| node.name == stage).ok_or_else(missing)?;
        let mut lane = node.lanes.first().and_then(Claim::claim).ok_or_else(missing)?;
        match &mut lane.work {
            Work::Stage(stage) => stage.state().ok_or_else(missing)?.restore(version, state),
            Work::Device { .. } => Err(missing()),
        }
    }

    /// Runs everything on the caller's thread, one tick at a time.
    pub fn inline(mut self) -> Inline<T> {
        self.shared.single = true;
        Inline { graph: self }
    }

    /// Starts `workers` threads named `catseye-0`, `catseye-1`, ...; `pin` names the processor of each, if any.
    pub fn start(self, workers: usize, pin: &[usize]) -> Result<Running<T>, GraphError> {
        let pin = pin.to_vec();
        let place = move |worker: usize| {
            if let Some(processor) = pin.get(worker) {
                super::affinity::pin_to(*processor);
            }
        };
        self.start_with(workers, Arc::new(place))
    }

    /// Starts `workers` threads, each of which calls `prepare` with its number before it does anything else.
    pub fn start_with(self, workers: usize, prepare: Prepare) -> Result<Running<T>, GraphError> {
        let workers = workers.max(1);
        let shared = Arc::new(Shared { single: workers == 1, ..self.shared });
        let mut running =
            Running { shared: Arc::clone(&shared), entry: self.entry, exit: self.exit, threads: Vec::new() };
        for worker in 0..workers {
            let shared = Arc::clone(&shared);
            let prepare = Arc::clone(&prepare);
            let thread = std::thread::Builder::new()
                .name(format!("catseye-{worker}"))
                .spawn(move || {
                    prepare(worker);
                    shared.work(worker as u16);
                })
                .map_err(|error| GraphError::Thread { worker, error })?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

impl<T> Entry<T> {
    fn submit(&mut self, mut slot: Lease<Slot<T>>) {
        slot.index = self.next;
        slot.notes.clear();
        let queue = (self.next % self.queues.len() as u64) as usize;
        // a queue has room for every lease there is
        let _ = self.queues[queue].push(slot);
        self.next += 1;
    }
}

impl<T> Exit<T> {
    fn take(&mut self) -> Option<Lease<Slot<T>>> {
        let queue = (self.next % self.queues.len() as u64) as usize;
        let slot = self.queues[queue].pop()?;
        self.next += 1;
        Some(slot)
    }
}

/// A graph on the caller's thread.
pub struct Inline<T> {
    graph: Graph<T>,
}

impl<T: Send + 'static> Inline<T> {
    /// Sends a slot through all stages. Devices are waited for.
    pub fn run(&mut self, slot: Lease<Slot<T>>) -> Lease<Slot<T>> {
        let Inline { graph: Graph { shared, entry, exit } } = self;
        let lane = (entry.next % shared.nodes[0].lanes.len() as u64) as usize;
        entry.submit(slot);
        // the one slot there is gets carried to the end, unless a device keeps it
        shared.serve(0, lane, 0);
        loop {
            if let Some(done) = exit.take() {
                return done;
            }
            if !shared.sweep(0) {
                std::thread::yield_now();
            }
        }
    }
}

/// A graph at work. Dropping it stops the workers.
pub struct Running<T> {
    shared: Arc<Shared<T>>,
    entry: Entry<T>,
    exit: Exit<T>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Running<T> {
    /// Hands a filled slot to the first stage. Never waits.
    pub fn submit(&mut self, slot: Lease<Slot<T>>) {
        self.entry.submit(slot);
        self.shared.events.notify();
    }

    /// The next finished slot in tick order, if there is one.
    pub fn take(&mut self) -> Result<Option<Lease<Slot<T>>>, GraphError> {
        if let Some(slot) = self.exit.take() {
            return Ok(Some(slot));
        }
        if self.shared.has_failed.load(Ordering::Acquire)
            && let Some(error) = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(error);
        }
        Ok(None)
    }

    /// Ticks that were submitted and not taken yet.
    pub fn in_flight(&self) -> u64 {
        self.entry.next - self.exit.next
    }

    /// Waits until something may have changed, at most for `at_most`.
    pub fn wait(&self, seen: u32, at_most: Duration) {
        self.shared.events.wait(seen, at_most);
    }

    /// Now, on the clock of the timings.
    pub fn now_ns(&self) -> i64 {
        self.shared.now_ns()
    }

    /// To be read before `take`, and given to `wait`.
    pub fn epoch(&self) -> u32 {
        self.shared.events.epoch()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.events.notify();
        for thread in self.threads.drain(..) {
            // a worker that panicked has said so through `failed`
            let _ = thread.join();
        }
    }
}

impl<T> Shared<T> {
    /// A worker's life: look for work from the last stage to the first, so that ticks leave before new ones enter.
    fn work(&self, worker: u16) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Acquire) && !self.has_failed.load(Ordering::Acquire) {
            let seen = self.events.epoch();
            // stages are caught one by one, by name; this catches digests, states, probes and devices
            match std::panic::catch_unwind(AssertUnwindSafe(|| self.sweep(worker))) {
                Ok(true) => {
                    idle = 0;
                    continue;
                }
                Ok(false) => {}
                Err(panic) => return self.fail("(between stages)", u64::MAX, panic.as_ref()),
            }
            idle += 1;
            if idle < 16 {
                std::thread::yield_now();
            } else {
                // a device does not notify: look again soon
                let at_most = if self.has_device { Duration::from_micros(50) } else { Duration::from_millis(100) };
                self.events.wait(seen, at_most);
            }
        }
    }

    fn sweep(&self, worker: u16) -> bool {
        let mut progress = false;
        for node in (0..self.nodes.len()).rev() {
            for lane in 0..self.nodes[node].lanes.len() {
                progress |= self.serve(node, lane, worker);
            }
        }
        progress
    }

    /// Runs what waits at one lane, carrying each slot on as far as it goes.
    fn serve(&self, node: usize, lane: usize, worker: u16) -> bool {
        let mut progress = false;
        loop {
            let Some(mut claimed) = self.nodes[node].lanes[lane].claim() else { return progress };
            if matches!(claimed.work, Work::Device { .. }) {
                if !self.tend_device(node, &mut claimed, worker) {
                    return progress;
                }
            } else {
                let Some(slot) = self.pop(node, &mut claimed) else { return progress };
                self.carry(node, claimed, slot, worker);
            }
            progress = true;
        }
    }

    /// The slot of the tick that a lane waits for, if it is there.
    fn pop(&self, node: usize, here: &mut Lane<T>) -> Option<Lease<Slot<T>>> {
        let queue = self.queue_of_next(node, here);
        here.inputs[queue].pop()
    }

    /// Hands a device its next slot and takes the oldest back if it is done; false when neither was possible.
    fn tend_device(&self, node: usize, here: &mut Lane<T>, worker: u16) -> bool {
        let mut moved = false;
        let has_room = matches!(&here.work, Work::Device { device, open } if open.len() < device.depth());
        let slot = if has_room { self.pop(node, here) } else { None };
        let Work::Device { device, open } = &mut here.work else { return false };
        if let Some(slot) = slot {
            let tick = slot.index;
            if let Some(probe) = &self.options.probe {
                probe.before(device.name(), tick);
            }
            here.next += 1;
            open.push_back((device.submit(slot), self.now_ns()));
            moved = true;
        }
        // Only the oldest ticket is asked for: results leave in tick order, whatever order the device ends them in.
        let Some((ticket, since_ns)) = open.pop_front() else { return moved };
        match device.complete(ticket) {
            Ok(Finished { mut slot, result }) => {
                self.note_device(node, device.as_ref(), &mut slot, result, since_ns, worker);
                self.push(node, here, slot);
                true
            }
            Err(ticket) => {
                open.push_front((ticket, since_ns));
                moved
            }
        }
    }

    /// Runs `slot` at a stage whose turn it is, then goes on with it for as long as the next stage waits for just it.
    ///
    /// The clock is read once between two stages: where one ends the next begins.
    fn carry<'a>(&'a self, mut node: usize, mut claimed: Claimed<'a, Lane<T>>, mut slot: Lease<Slot<T>>, worker: u16) {
        let mut start_ns = self.timing_ns();
        loop {
            let here = &mut *claimed;
            let Some(end_ns) = self.run_stage(node, here, &mut slot, worker, start_ns) else { return };
            start_ns = end_ns;
            here.next += self.nodes[node].lanes.len() as u64;
            let Some(next) = self.nodes.get(node + 1) else {
                self.push(node, here, slot);
                return;
            };
            let onward = next.lanes[(slot.index % next.lanes.len() as u64) as usize].claim();
            let Some(onward) = onward.filter(|lane| lane.next == slot.index && matches!(lane.work, Work::Stage(_)))
            else {
                self.push(node, here, slot);
                return;
            };
            let is_wanted = !self.single && self.has_next(node, here);
            claimed = onward;
            if is_wanted {
                // a worker that found this lane taken has gone to sleep, and the slot there wakes nobody any more
                self.events.notify();
            }
            node += 1;
        }
    }

    /// Whether the slot of the tick that a lane waits for is there.
    fn has_next(&self, node: usize, here: &mut Lane<T>) -> bool {
        let queue = self.queue_of_next(node, here);
        !here.inputs[queue].is_empty()
    }

    fn queue_of_next(&self, node: usize, here: &Lane<T>) -> usize {
        let lanes = self.nodes[node].lanes.len() as u64;
        (here.next % self.nodes[node].queues_in / lanes) as usize
    }

    fn push(&self, node: usize, here: &mut Lane<T>, slot: Lease<Slot<T>>) {
        let lanes = self.nodes[node].lanes.len() as u64;
        let queue = (slot.index % self.nodes[node].queues_out / lanes) as usize;
        // a queue has room for every lease there is
        let _ = here.outputs[queue].push(slot);
        if !self.single || node + 1 == self.nodes.len() {
            self.events.notify();
        }
    }

    /// Runs one stage on one slot and gives the time of its end; `None` when it panicked and the graph has failed.
    fn run_stage(
        &self,
        node: usize,
        here: &mut Lane<T>,
        slot: &mut Slot<T>,
        worker: u16,
        start_ns: i64,
    ) -> Option<i64> {
        let Work::Stage(stage) = &mut here.work else { return None };
        let options = &self.options;
        if let Some(probe) = &options.probe {
            probe.before(stage.name(), slot.index);
        }
        let payload = &mut slot.payload;
        let result = match std::panic::catch_unwind(AssertUnwindSafe(|| stage.run(payload))) {
            Ok(result) => result,
            Err(panic) => {
                self.fail(self.nodes[node].name, slot.index, panic.as_ref());
                return None;
            }
        };
        if let Some(probe) = &options.probe {
            probe.after(stage.name(), slot.index, &mut slot.payload);
        }
        let position = node as u8;
        if let Err(error) = result {
            let _ = slot.notes.faults.push(FaultNote { stage: position, message: error.0 });
        }
        if options.digests {
            stage.digest(&slot.payload, &mut Fields { notes: &mut slot.notes, stage: position });
        }
        if options.snapshot_every > 0 && (slot.index + 1).is_multiple_of(options.snapshot_every) {
            note_snapshot(stage.as_mut(), position, &mut slot.notes);
        }
        let end_ns = self.timing_ns();
        if options.timings {
            let _ = slot.notes.timings.push(TimingNote { stage: position, worker, start_ns, end_ns });
        }
        Some(end_ns)
    }

    fn note_device(
        &self,
        node: usize,
        device: &dyn Device<T>,
        slot: &mut Slot<T>,
        result: Result<(), StageError>,
        start_ns: i64,
        worker: u16,
    ) {
        let position = node as u8;
        if let Some(probe) = &self.options.probe {
            probe.after(device.name(), slot.index, &mut slot.payload);
        }
        if let Err(error) = result {
            let _ = slot.notes.faults.push(FaultNote { stage: position, message: error.0 });
        }
        if self.options.digests {
            device.digest(&slot.payload, &mut Fields { notes: &mut slot.notes, stage: position });
        }
        if self.options.timings {
            let end_ns = self.now_ns();
            let _ = slot.notes.timings.push(TimingNote { stage: position, worker, start_ns, end_ns });
        }
    }

    fn fail(&self, stage: &'static str, tick: u64, panic: &(dyn std::any::Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let error = GraphError::Panicked { stage, tick, message };
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
        self.events.notify();
    }

    /// The time, where stages are timed.
    fn timing_ns(&self) -> i64 {
        if self.options.timings { self.now_ns() } else { 0 }
    }

    fn now_ns(&self) -> i64 {
        // Timing is written beside the outputs and never digested.
        self.start.elapsed().as_nanos() as i64
    }
}

fn note_snapshot<T>(stage: &mut dyn Stage<T>, position: u8, notes: &mut Notes) {
    let Some(state) = stage.state() else { return };
    if notes.snapshots.len() == notes.snapshots_used {
        notes.snapshots.push(SnapshotNote::default());
    }
    let note = &mut notes.snapshots[notes.snapshots_used];
    notes.snapshots_used += 1;
    note.stage = position;
    note.version = state.version();
    note.state.clear();
    state.save(&mut note.state);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::runtime::digest::digest_bytes;
    use crate::runtime::pool::Pool;

    crate::record! {
        /// The state of a test stage.
        pub struct Sum {
            /// All values so far, mixed.
            pub sum: u64,
        }
    }

    /// Mixes each tick's value into its state, so that a wrong order shows.
    struct Mix(Sum);

    impl Stage<u64> for Mix {
        fn name(&self) -> &'static str {
            "mix"
        }
        fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
            self.0.sum = self.0.sum.rotate_left(9).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ *payload;
            *payload = self.0.sum;
            if payload.is_multiple_of(7) { Err(StageError("a seventh".into())) } else { Ok(()) }
        }
        fn digest(&self, payload: &u64, fields: &mut Fields) {
            fields.add(NO_GROUP, "value", digest_bytes(&payload.to_le_bytes()));
        }
        fn state(&mut self) -> Option<&mut dyn State> {
            Some(&mut self.0)
        }
    }

    impl State for Sum {
        fn version(&self) -> u32 {
            1
        }
        fn save(&self, out: &mut Vec<u8>) {
            self.encode(out);
        }
        fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), RestoreError> {
            if version != 1 {
                return Err(RestoreError::Version { expected: 1, found: version });
            }
            *self = Sum::decode(state)?;
            Ok(())
        }
    }

    struct Double;
    impl Stage<u64> for Double {
        fn name(&self) -> &'static str {
            "double"
        }
        fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
            *payload = payload.wrapping_mul(2).wrapping_add(1);
            Ok(())
        }
        fn digest(&self, payload: &u64, fields: &mut Fields) {
            fields.add(0, "value", digest_bytes(&payload.to_le_bytes()));
        }
    }

    /// Works on a thread of its own and gives tickets back out of order: the newest of those in hand first.
    struct FakeGpu {
        work: std::sync::mpsc::Sender<(u64, Lease<Slot<u64>>)>,
        done: std::sync::mpsc::Receiver<(u64, Lease<Slot<u64>>)>,
        finished: Vec<(u64, Lease<Slot<u64>>)>,
        next: u64,
    }

    impl FakeGpu {
        fn new() -> Self {
            let (work, inbox) = std::sync::mpsc::channel::<(u64, Lease<Slot<u64>>)>();
            let (outbox, done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                while let Ok(first) = inbox.recv() {
                    let mut batch = vec![first];
                    std::thread::sleep(Duration::from_micros(200));
                    batch.extend(inbox.try_iter());
                    for (ticket, mut slot) in batch.into_iter().rev() {
                        slot.payload ^= 0x55;
                        if outbox.send((ticket, slot)).is_err() {
                            return;
                        }
                    }
                }
            });
            FakeGpu { work, done, finished: Vec::new(), next: 0 }
        }
    }

    impl Device<u64> for FakeGpu {
        fn name(&self) -> &'static str {
            "gpu"
        }
        fn depth(&self) -> usize {
            3
        }
        fn submit(&mut self, slot: Lease<Slot<u64>>) -> Ticket {
            self.next += 1;
            self.work.send((self.next, slot)).unwrap();
            Ticket(self.next)
        }
        fn complete(&mut self, ticket: Ticket) -> Result<Finished<u64>, Ticket> {
            self.finished.extend(self.done.try_iter());
            match self.finished.iter().position(|(id, _)| *id == ticket.0) {
                Some(at) => Ok(Finished { slot: self.finished.swap_remove(at).1, result: Ok(()) }),
                None => Err(ticket),
            }
        }
        fn digest(&self, payload: &u64, fields: &mut Fields) {
            fields.add(NO_GROUP, "value", digest_bytes(&payload.to_le_bytes()));
        }
    }

    /// Delays that differ from stage to stage and tick to tick.
    struct Delay;
    impl Probe<u64> for Delay {
        fn before(&self, stage: &str, tick: u64) {
            let wait = digest_bytes(stage.as_bytes()).wrapping_mul(tick + 1) % 90;
            std::thread::sleep(Duration::from_micros(wait));
        }
    }

    fn graph(lanes: usize, options: Options<u64>, slots: usize, device: bool) -> Graph<u64> {
        let copies = || (0..lanes).map(|_| Box::new(Double) as Box<dyn Stage<u64>>).collect();
        let mut builder = Builder::new(options).lanes(copies()).lanes(copies());
        if device {
            builder = builder.device(Box::new(FakeGpu::new()));
        }
        builder
            .stage(Box::new(Mix(Sum::default())))
            .lanes(copies())
            .stage(Box::new(Mix(Sum { sum: 3 })))
            .build(slots)
            .unwrap()
    }

    type Outcome = Vec<(u64, Vec<DigestNote>, Vec<FaultNote>, Vec<SnapshotNote>)>;

    fn run(workers: usize, lanes: usize, slots: usize, probe: Option<Arc<dyn Probe<u64>>>, device: bool) -> Outcome {
        let options = Options { snapshot_every: 10, probe, ..Options::default() };
        let pool = Pool::new(slots, || Slot::new(0));
        let mut running = graph(lanes, options, slots, device).start(workers, &[]).unwrap();
        let ticks = if cfg!(miri) { 12 } else { 300 };
        let mut outcome = Outcome::new();
        let mut submitted = 0u64;
        while outcome.len() < ticks {
            let seen = running.epoch();
            if submitted < ticks as u64
                && let Some(mut slot) = pool.acquire()
            {
                slot.payload = submitted * 31;
                running.submit(slot);
                submitted += 1;
                continue;
            }
            match running.take().unwrap() {
                Some(slot) => {
                    assert_eq!(slot.index, outcome.len() as u64);
                    let notes = &slot.notes;
                    outcome.push((
                        slot.payload,
                        notes.digests.to_vec(),
                        notes.faults.to_vec(),
                        notes.snapshots().to_vec(),
                    ));
                }
                None => running.wait(seen, Duration::from_millis(5)),
            }
        }
        assert_eq!(running.in_flight(), 0);
        assert_eq!(pool.free(), slots);
        outcome
    }

    #[test]
    fn any_number_of_workers_gives_the_same() {
        for device in [false, true] {
            let one = run(1, 1, 2, None, device);
            assert!(one.iter().any(|tick| !tick.2.is_empty()), "no fault was ever noted");
            for (workers, lanes, slots) in [(2, 2, 4), (4, 4, 8), (3, 2, 5), (4, 1, 3)] {
                assert_eq!(run(workers, lanes, slots, None, device), one, "{workers} workers, {lanes} lanes, {device}");
            }
            assert_eq!(run(4, 3, 7, Some(Arc::new(Delay)), device), one, "with delays");
        }
    }

    #[test]
    fn the_callers_thread_gives_the_same() {
        let mut inline = graph(1, Options { snapshot_every: 10, ..Options::default() }, 1, true).inline();
        let pool = Pool::new(1, || Slot::new(0));
        for (index, expected) in run(2, 2, 4, None, true).iter().enumerate() {
            let mut slot = pool.acquire().unwrap();
            slot.payload = index as u64 * 31;
            let done = inline.run(slot);
            assert_eq!(done.payload, expected.0);
            assert_eq!(done.notes.digests.to_vec(), expected.1);
        }
    }

    #[test]
    fn a_restored_state_goes_on_as_if_never_stopped() {
        let whole = run(1, 1, 2, None, false);
        let snapshots = whole[9].3.clone();
        assert_eq!(snapshots.len(), 2);
        let mut rest = graph(1, Options::default(), 1, false);
        // both stages are called "mix": the first is found by name, the second by restoring into a graph of its own
        rest.restore("mix", 1, &snapshots[0].state).unwrap();
        assert!(matches!(rest.restore("mix", 2, &snapshots[0].state), Err(RestoreError::Version { .. })));
        assert!(matches!(rest.restore("double", 1, &[]), Err(RestoreError::NoSuchStage(_))));
        let pool = Pool::new(1, || Slot::new(0));
        let mut inline = rest.inline();
        let mut slot = pool.acquire().unwrap();
        slot.payload = 10 * 31;
        let done = inline.run(slot);
        let mix = |digests: &[DigestNote]| digests.iter().find(|note| note.stage == 2).map(|note| note.digest);
        assert_eq!(mix(&done.notes.digests), mix(&whole[10].1));
    }

    #[test]
    fn a_planted_bit_shows_where_it_was_planted() {
        struct Plant;
        impl Probe<u64> for Plant {
            fn after(&self, stage: &str, tick: u64, payload: &mut u64) {
                if stage == "gpu" && tick == 7 {
                    *payload ^= 1;
                }
            }
        }
        let good = run(2, 2, 4, None, true);
        let bad = run(2, 2, 4, Some(Arc::new(Plant)), true);
        let first = good.iter().zip(&bad).position(|(a, b)| a.1 != b.1).unwrap();
        assert_eq!(first, 7);
        let stage = good[7].1.iter().zip(&bad[7].1).find(|(a, b)| a != b).unwrap().0.stage;
        assert_eq!(stage, 2);
    }

    #[test]
    fn a_panic_names_its_stage_and_ends_the_run() {
        struct Bad;
        impl Stage<u64> for Bad {
            fn name(&self) -> &'static str {
                "bad"
            }
            fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
                assert!(*payload != 3, "three is too many");
                Ok(())
            }
        }
        let pool = Pool::new(2, || Slot::new(0));
        let mut running =
            Builder::new(Options::default()).stage(Box::new(Bad)).build(2).unwrap().start(2, &[]).unwrap();
        let mut error = None;
        for tick in 0..5 {
            let Some(mut slot) = pool.acquire() else { break };
            slot.payload = tick;
            running.submit(slot);
            loop {
                match running.take() {
                    Ok(Some(_)) => break,
                    Ok(None) => std::thread::yield_now(),
                    Err(found) => {
                        error = Some(found);
                        break;
                    }
                }
            }
            if error.is_some() {
                break;
            }
        }
        let Some(GraphError::Panicked { stage, tick, message }) = error else { panic!("no error: {error:?}") };
        assert_eq!((stage, tick), ("bad", 3));
        assert!(message.contains("three is too many"));
    }

    #[test]
    fn lanes_must_fit() {
        let copies = |n: usize| (0..n).map(|_| Box::new(Double) as Box<dyn Stage<u64>>).collect::<Vec<_>>();
        let wrong = Builder::new(Options::default()).lanes(copies(2)).lanes(copies(3)).build(4);
        assert!(matches!(wrong, Err(GraphError::Lanes { expected: 2, found: 3, .. })));
        assert!(matches!(Builder::<u64>::new(Options::default()).build(4), Err(GraphError::Stages(0))));
    }
}
