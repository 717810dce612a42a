//! Taps: what comes out of the pipeline, given to whoever writes or draws it, on a thread of its own.
//!
//! A tap can never slow the pipeline of a live or paced run: when its budget is used up, the bodies of further ticks
//! (detections, tracks, pictures) are left out and counted, while decisions and digests, which a replay needs, are kept in
//! a reserve. If even that fills up, the run is not replayable from there on, and says so. At full speed, where nobody is
//! in a hurry, the edge waits for the tap instead and nothing is left out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use catseye_sensors::picture::Frame;
use thiserror::Error;

use crate::log::writer::WriteError;
use crate::messages::{
    Account, CameraDetections, CameraTracks, DropDecision, NetworksPlace, Plan, StateSnapshot, TickDecision, WorldModel,
};
use crate::realtime::deadlines::Misses;
use crate::runtime::graph::{DigestNote, FaultNote, Slot, SnapshotNote, TimingNote};
use crate::stages::decode::Masks;
use crate::stages::preprocess::raw_slot::RawSlot;
use crate::stages::{NetworkSlot, Tick};

/// Ticks that may wait for the sinks.
const BUDGET: usize = 32;
/// Ticks whose decisions and digests are kept while the budget is used up.
const RESERVE: usize = 100_000;

/// Why an output could not be written.
#[derive(Debug, Error)]
pub enum TapError {
    /// A log.
    #[error(transparent)]
    Log(#[from] WriteError),
    /// A picture, a video, a page.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: String,
    },
    /// A recorded log that outputs are compared with.
    #[error(transparent)]
    Read(#[from] crate::log::reader::ReadError),
    /// The sinks' thread could not be started or has died.
    #[error("the thread that writes outputs: {0}")]
    Thread(String),
}

/// What one tick gave.
#[derive(Debug)]
pub struct Output {
    /// How it was made.
    pub decision: TickDecision,
    /// Newest arrival when it was made: all its packets had come.
    pub closed_ns: i64,
    /// What was left out since the tick before.
    pub drops: Vec<DropDecision>,
    /// Where the networks ran.
    pub networks_place: NetworksPlace,
    /// What failed.
    pub faults: Vec<FaultNote>,
    /// Digests.
    pub digests: Vec<DigestNote>,
    /// Times.
    pub timings: Vec<TimingNote>,
    /// Budgets of time that were missed.
    pub misses: Misses,
    /// States, where they were due.
    pub snapshots: Vec<SnapshotNote>,
    /// The values; left out when the budget is used up.
    pub body: Option<Box<Body>>,
}

/// The values that one tick gave.
#[derive(Debug)]
pub struct Body {
    /// Per camera.
    pub detections: Vec<CameraDetections>,
    /// Per camera.
    pub tracks: Vec<CameraTracks>,
    /// The world model.
    pub world: WorldModel,
    /// The plan.
    pub plan: Plan,
    /// Pictures, for sinks that draw.
    pub pictures: Vec<Picture>,
}

/// One camera's picture.
#[derive(Debug)]
pub struct Picture {
    /// Index of the camera.
    pub camera: usize,
    /// The picture.
    pub frame: Frame,
    /// The picture if it is still raw; the sinks' thread develops it.
    pub raw: RawSlot,
    /// Masks, if a network made some.
    pub masks: Option<Masks>,
}

/// Somebody who takes outputs.
pub trait Sink: Send {
    /// Is told the states that a run begins with, when it does not begin at the beginning.
    fn begin(&mut self, _states: &[StateSnapshot]) -> Result<(), TapError> {
        Ok(())
    }
    /// Is told, before `finish`, that the run ended before its log did.
    fn cut_short(&mut self) {}
    /// Takes one tick.
    fn take(&mut self, output: &Output) -> Result<(), TapError>;
    /// Is told that nothing more comes: drops after the last tick, and the accounts.
    fn finish(&mut self, drops: &[DropDecision], accounts: &[Account]) -> Result<(), TapError>;
}

/// What the taps did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapSummary {
    /// Ticks whose bodies were left out.
    pub bodies_left_out: u64,
    /// First tick whose decision was lost: the run is not replayable from there.
    pub not_replayable_from: Option<u64>,
}

enum Message {
    Begin(Vec<StateSnapshot>),
    Output(Box<Output>),
    Finish { drops: Vec<DropDecision>, accounts: Vec<Account>, cut_short: bool },
}

/// The edge's side.
pub struct Tap {
    /// Taken when the tap is dropped.
    out: Option<SyncSender<Message>>,
    /// Tells the thread to forget what still waits.
    cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), TapError>>>,
    /// Which ticks are wanted with pictures: every n-th, 0 for none.
    pictures_every: u64,
    reserve: VecDeque<Box<Output>>,
    summary: TapSummary,
}

impl Tap {
    /// Starts the sinks' thread. Pictures are copied for every `pictures_every`-th tick; 0 for none.
    pub fn start(sinks: Vec<Box<dyn Sink>>, pictures_every: u64) -> Result<Self, TapError> {
        let (out, inbox) = sync_channel(BUDGET);
        let cancelled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&cancelled);
        let thread = std::thread::Builder::new()
            .name("catseye-tap".to_owned())
            .spawn(move || serve(sinks, &inbox, &seen))
            .map_err(|error| TapError::Thread(error.to_string()))?;
        let summary = TapSummary::default();
        Ok(Tap { out: Some(out), cancelled, thread: Some(thread), pictures_every, reserve: VecDeque::new(), summary })
    }

    /// Tells the sinks the states that the run begins with.
    pub fn begin(&mut self, states: Vec<StateSnapshot>) -> Result<(), TapError> {
        self.send(Message::Begin(states))
    }

    /// Gives one tick to the sinks; waits for them only if it may.
    pub fn take(
        &mut self,
        slot: &Slot<Tick>,
        (decision, closed_ns): (TickDecision, i64),
        (drops, misses): (Vec<DropDecision>, Misses),
        may_wait: bool,
    ) -> Result<(), TapError> {
        let tick = decision.tick;
        let mut output = Box::new(Output {
            decision,
            closed_ns,
            drops,
            networks_place: slot.payload.networks_place,
            faults: slot.notes.faults.to_vec(),
            digests: slot.notes.digests.to_vec(),
            timings: slot.notes.timings.to_vec(),
            misses,
            snapshots: slot.notes.snapshots().to_vec(),
            body: None,
        });
        if may_wait {
            output.body = Some(self.body(&slot.payload, tick));
            return self.send(Message::Output(output));
        }
        self.empty_reserve()?;
        if self.reserve.is_empty() {
            output.body = Some(self.body(&slot.payload, tick));
            match self.try_send(output)? {
                None => return Ok(()),
                Some(back) => output = back,
            }
        }
        output.body = None;
        self.summary.bodies_left_out += 1;
        if self.reserve.len() < RESERVE {
            self.reserve.push_back(output);
        } else {
            self.summary.not_replayable_from.get_or_insert(tick);
        }
        Ok(())
    }

    fn body(&self, tick: &Tick, index: u64) -> Box<Body> {
        let wanted = self.pictures_every > 0 && index.is_multiple_of(self.pictures_every);
        Box::new(Body {
            detections: tick.cameras.iter().map(|camera| camera.seen.clone()).collect(),
            tracks: tick.cameras.iter().map(|camera| camera.tracks.clone()).collect(),
            world: tick.world.clone(),
            plan: tick.plan.clone(),
            pictures: if wanted { pictures(tick) } else { Vec::new() },
        })
    }

    fn empty_reserve(&mut self) -> Result<(), TapError> {
        while let Some(output) = self.reserve.pop_front() {
            if let Some(back) = self.try_send(output)? {
                self.reserve.push_front(back);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives the output back when the sinks' budget is used up.
    fn try_send(&mut self, output: Box<Output>) -> Result<Option<Box<Output>>, TapError> {
        let Some(out) = &self.out else { return Err(self.reason()) };
        match out.try_send(Message::Output(output)) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(Message::Output(back))) => Ok(Some(back)),
            Err(_) => Err(self.reason()),
        }
    }

    fn send(&mut self, message: Message) -> Result<(), TapError> {
        match self.out.as_ref().map(|out| out.send(message)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.reason()),
        }
    }

    /// Why the sinks' thread has gone.
    fn reason(&mut self) -> TapError {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => TapError::Thread("it has ended already".to_owned()),
            Some(Err(_)) => TapError::Thread("it panicked".to_owned()),
        }
    }

    /// Gives the sinks the rest and waits for them. `cut_short` says that the run ended before its log did.
    pub fn finish(
        mut self,
        drops: Vec<DropDecision>,
        accounts: &[Account],
        cut_short: bool,
    ) -> Result<TapSummary, TapError> {
        while let Some(output) = self.reserve.pop_front() {
            self.send(Message::Output(output))?;
        }
        self.send(Message::Finish { drops, accounts: accounts.to_vec(), cut_short })?;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result?,
            Some(Err(_)) => return Err(TapError::Thread("it panicked".to_owned())),
            None => {}
        }
        Ok(self.summary)
    }
}

impl Drop for Tap {
    /// A run that failed: whatever the sinks had begun is gone before the caller goes on.
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.out = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pictures(tick: &Tick) -> Vec<Picture> {
    let present = tick.cameras.iter().enumerate().filter(|(_, camera)| camera.present);
    present
        .map(|(camera, slot)| {
            let of_camera = |network: &NetworkSlot| {
                let row = network.cameras.iter().position(|served| *served == camera)?;
                network.masks.get(row).filter(|masks| masks.width > 0).cloned()
            };
            let frame = if slot.raw.layout().is_some() { Frame::default() } else { slot.frame.clone() };
            Picture { camera, frame, raw: slot.raw.clone(), masks: tick.networks.iter().find_map(of_camera) }
        })
        .collect()
}

fn serve(mut sinks: Vec<Box<dyn Sink>>, inbox: &Receiver<Message>, cancelled: &AtomicBool) -> Result<(), TapError> {
    for message in inbox {
        if cancelled.load(Ordering::Relaxed) {
            break;
        }
        match message {
            Message::Begin(states) => {
                for sink in &mut sinks {
                    sink.begin(&states)?;
                }
            }
            Message::Output(mut output) => {
                for picture in output.body.iter_mut().flat_map(|body| &mut body.pictures) {
                    // one that cannot be was not kept, and would stay empty
                    let _ = picture.raw.develop(&mut picture.frame);
                }
                for sink in &mut sinks {
                    sink.take(&output)?;
                }
            }
            Message::Finish { drops, accounts, cut_short } => {
                for sink in &mut sinks {
                    if cut_short {
                        sink.cut_short();
                    }
                    sink.finish(&drops, &accounts)?;
                }
                return Ok(());
            }
        }
    }
    // the edge has gone without a word: whatever was begun removes itself
    Ok(())
}
