//! Comparing two runs, tick by tick, stage by stage, field by field.
//!
//! [`diff`] compares two logs; [`Verifier`] compares a run with a log while it happens. Both say the first tick, stage and
//! field whose digests differ, then how many ticks of each stage do, and where outputs were logged too, the first element.
//! Times are never compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::log::notes::{Names, Notes, NotesReader};
use crate::log::reader::{Ending, Event, LogReader, ReadError};
use crate::log::{TOPIC_DETECTIONS, TOPIC_PLAN, TOPIC_TICK, TOPIC_TRACKS, TOPIC_WORLD};
use crate::messages::{
    Account, CameraDetections, CameraTracks, DropDecision, Plan, StageDigest, TickDecision, WorldModel,
};
use crate::record::Record;
use crate::tap::{Output, Sink, TapError};

/// The first place where two runs part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The tick.
    pub tick: u64,
    /// The stage.
    pub stage: String,
    /// The field, as `front.objects`.
    pub field: String,
    /// Digest in the first run; none where the field is missing.
    pub expected: Option<String>,
    /// Digest in the second.
    pub found: Option<String>,
    /// The first element that differs, where both logs hold the values.
    pub element: Option<String>,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Ticks that both have.
    pub ticks: u64,
    /// Digests compared.
    pub digests: u64,
    /// The first difference.
    pub first: Option<Divergence>,
    /// Per stage: in how many ticks it differs.
    pub stages: BTreeMap<String, u64>,
    /// Ticks that only the first run has.
    pub only_in_first: u64,
    /// Ticks that only the second run has.
    pub only_in_second: u64,
    /// Stages that were left out, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Comparison {
    /// Whether everything that was compared is equal, and something was.
    pub fn is_equal(&self) -> bool {
        self.first.is_none() && self.only_in_first == 0 && self.only_in_second == 0 && self.digests > 0
    }

    fn compare(&mut self, expected: &[StageDigest], found: &[StageDigest]) {
        self.ticks += 1;
        let left_out = std::mem::take(&mut self.left_out);
        let is_compared = |stage: &&StageDigest| !left_out.contains_key(&stage.stage);
        let mut expected_stages = expected.iter().filter(is_compared);
        for found_stage in found.iter().filter(is_compared) {
            match expected_stages.next() {
                Some(stage) if stage.stage == found_stage.stage => self.compare_stage(stage, found_stage),
                Some(stage) => self.differ(stage.tick, &stage.stage, "(stage)", None, None),
                None => self.differ(found_stage.tick, &found_stage.stage, "(stage)", None, None),
            }
        }
        for stage in expected_stages {
            self.differ(stage.tick, &stage.stage, "(stage)", None, None);
        }
        self.left_out = left_out;
    }

    fn compare_stage(&mut self, expected: &StageDigest, found: &StageDigest) {
        self.digests += expected.fields.len() as u64;
        let lists = expected.fields.iter().map(|field| &field.field).eq(found.fields.iter().map(|field| &field.field));
        let unequal = expected.fields.iter().zip(&found.fields).find(|(a, b)| a != b);
        match unequal {
            None if lists => {}
            None => self.differ(expected.tick, &expected.stage, "(fields)", None, None),
            Some((a, b)) => {
                self.differ(expected.tick, &expected.stage, &a.field, Some(a.digest), Some(b.digest));
            }
        }
    }

    fn differ(&mut self, tick: u64, stage: &str, field: &str, expected: Option<u64>, found: Option<u64>) {
        *self.stages.entry(stage.to_owned()).or_insert(0) += 1;
        if self.first.is_none() {
            let text = |digest: Option<u64>| digest.map(|digest| format!("{digest:016x}"));
            self.first = Some(Divergence {
                tick,
                stage: stage.to_owned(),
                field: field.to_owned(),
                expected: text(expected),
                found: text(found),
                element: None,
            });
        }
    }
}

/// The digests of a log, tick by tick.
struct Digests {
    reader: LogReader,
    notes: NotesReader,
    path: PathBuf,
    /// The tick that is being read.
    tick: Option<u64>,
    /// A tick that was read too early.
    ahead: Option<(u64, Vec<StageDigest>)>,
}

impl Digests {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let (reader, notes) = (LogReader::open(path)?, NotesReader::default());
        Ok(Digests { reader, notes, path: path.to_owned(), tick: None, ahead: None })
    }

    /// The next tick with its digests, which may be none.
    fn next_tick(&mut self) -> Result<Option<(u64, Vec<StageDigest>)>, ReadError> {
        let mut digests: Vec<StageDigest> = Vec::new();
        loop {
            let Some(event) = self.reader.next()? else {
                let last = self.tick.take().map(|tick| (tick, digests));
                // the tick that a file is cut off in may lack some of its digests
                return Ok(last.filter(|_| !self.is_cut()));
            };
            let Event::Message(message) = event else { continue };
            if message.channel.topic == TOPIC_TICK {
                let next = message.record::<TickDecision>(&self.path)?.tick;
                if let Some(tick) = self.tick.replace(next) {
                    return Ok(Some((tick, digests)));
                }
            }
            if let Some(Notes::Digests(more)) = self.notes.read(&message, &self.path)? {
                digests.extend(more);
            }
        }
    }

    /// Whether the log ends in the middle of its messages.
    fn is_cut(&self) -> bool {
        self.reader.ending().is_some_and(Ending::lacks_messages)
    }

    /// The digests of one tick, passing over those before it.
    fn at(&mut self, tick: u64, passed: &mut u64) -> Result<Option<Vec<StageDigest>>, ReadError> {
        if let Some(held) = self.ahead.take() {
            if held.0 == tick {
                return Ok(Some(held.1));
            }
            if held.0 > tick {
                self.ahead = Some(held);
                return Ok(None);
            }
            *passed += 1;
        }
        while let Some((found, digests)) = self.next_tick()? {
            if found == tick {
                return Ok(Some(digests));
            }
            if found > tick {
                self.ahead = Some((found, digests));
                return Ok(None);
            }
            *passed += 1;
        }
        Ok(None)
    }
}

/// Compares two logs of runs.
pub fn diff(first: &Path, second: &Path) -> Result<Comparison, ReadError> {
    let (mut a, mut b) = (Digests::open(first)?, Digests::open(second)?);
    let mut comparison = Comparison::default();
    let (mut next_a, mut next_b) = (a.next_tick()?, b.next_tick()?);
    loop {
        match (&next_a, &next_b) {
            (None, None) => break,
            (Some((tick_a, _)), Some((tick_b, _))) if tick_a < tick_b => {
                comparison.only_in_first += 1;
                next_a = a.next_tick()?;
            }
            (Some((tick_a, _)), Some((tick_b, _))) if tick_a > tick_b => {
                comparison.only_in_second += 1;
                next_b = b.next_tick()?;
            }
            (Some((_, digests_a)), Some((_, digests_b))) => {
                comparison.compare(digests_a, digests_b);
                (next_a, next_b) = (a.next_tick()?, b.next_tick()?);
            }
            (Some(_), None) => {
                comparison.only_in_first += 1;
                next_a = a.next_tick()?;
            }
            (None, Some(_)) => {
                comparison.only_in_second += 1;
                next_b = b.next_tick()?;
            }
        }
    }
    if let Some(divergence) = &mut comparison.first {
        divergence.element = find_element(first, second, divergence)?;
    }
    Ok(comparison)
}

/// The first element that differs in the logged values of a tick.
fn find_element(first: &Path, second: &Path, at: &Divergence) -> Result<Option<String>, ReadError> {
    match at.stage.as_str() {
        "decode" => element::<CameraDetections>(first, second, TOPIC_DETECTIONS, at.tick),
        "track" => element::<CameraTracks>(first, second, TOPIC_TRACKS, at.tick),
        "fuse" => element::<WorldModel>(first, second, TOPIC_WORLD, at.tick),
        "plan" => element::<Plan>(first, second, TOPIC_PLAN, at.tick),
        _ => Ok(None),
    }
}

fn element<R: Record + std::fmt::Debug + PartialEq>(
    first: &Path,
    second: &Path,
    topic: &str,
    tick: u64,
) -> Result<Option<String>, ReadError> {
    let (a, b) = (values_at::<R>(first, topic, tick)?, values_at::<R>(second, topic, tick)?);
    let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| a != b) else { return Ok(None) };
    // one line per value of the pretty form: the first line that differs is the element, with its place above it
    let (a, b) = (format!("{a:#?}"), format!("{b:#?}"));
    let mut path: Vec<(usize, &str)> = Vec::new();
    for (line_a, line_b) in a.lines().zip(b.lines()) {
        let indent = line_a.len() - line_a.trim_start().len();
        path.retain(|(outer, _)| *outer < indent);
        if line_a != line_b {
            let place: Vec<&str> = path.iter().map(|(_, text)| text.trim_end_matches(['{', '[', ' ', ':'])).collect();
            let (was, is) = (line_a.trim().trim_end_matches(','), line_b.trim().trim_end_matches(','));
            return Ok(Some(format!("{}: {was} became {is}", place.join("."))));
        }
        path.push((indent, line_a.trim()));
    }
    Ok(Some("one holds more elements than the other".to_owned()))
}

fn values_at<R: Record>(path: &Path, topic: &str, tick: u64) -> Result<Vec<R>, ReadError> {
    let mut reader = LogReader::open(path)?;
    let mut values = Vec::new();
    let mut now = None;
    while let Some(event) = reader.next()? {
        let Event::Message(message) = event else { continue };
        if message.channel.topic == TOPIC_TICK {
            now = Some(message.record::<TickDecision>(path)?.tick);
            if now.is_some_and(|now| now > tick) {
                break;
            }
        } else if now == Some(tick) && message.channel.topic == topic {
            values.push(message.record::<R>(path)?);
        }
    }
    Ok(values)
}

/// Compares a run with a log while it happens.
pub struct Verifier {
    reference: Digests,
    names: Names,
    result: Arc<Mutex<Comparison>>,
    /// Ticks of the reference before the first of the run: a range began later.
    started: bool,
    /// Whether the run goes on to the end of the reference.
    to_the_end: bool,
}

impl Verifier {
    /// Against the digests of a log. Stages in `left_out` are not compared, and the comparison says why.
    pub fn open(
        reference: &Path,
        names: Names,
        left_out: BTreeMap<String, String>,
        to_the_end: bool,
    ) -> Result<(Self, Arc<Mutex<Comparison>>), ReadError> {
        let result = Arc::new(Mutex::new(Comparison { left_out, ..Comparison::default() }));
        let reference = Digests::open(reference)?;
        Ok((Verifier { reference, names, result: Arc::clone(&result), started: false, to_the_end }, result))
    }
}

impl Sink for Verifier {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        let tick = output.decision.tick;
        let mut passed = 0;
        let expected = self.reference.at(tick, &mut passed)?;
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        if self.started {
            result.only_in_first += passed;
        }
        self.started = true;
        match expected {
            Some(expected) => result.compare(&expected, &self.names.digests(tick, &output.digests)),
            None if self.reference.is_cut() => {}
            None => result.only_in_second += 1,
        }
        Ok(())
    }

    fn cut_short(&mut self) {
        self.to_the_end = false;
    }

    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        if !self.to_the_end {
            return Ok(());
        }
        let mut rest = u64::from(self.reference.ahead.take().is_some());
        while self.reference.next_tick()?.is_some() {
            rest += 1;
        }
        self.result.lock().unwrap_or_else(PoisonError::into_inner).only_in_first += rest;
        Ok(())
    }
}

/// Stages that do not run where detections are taken from a run.
pub fn unrun_networks() -> BTreeMap<String, String> {
    let why = "no network ran: detections are those of the recorded run";
    ["preprocess", "infer"].into_iter().map(|stage| (stage.to_owned(), why.to_owned())).collect()
}

/// Stages that cannot be compared at the start of a range without a snapshot: the first with a state, and all behind it.
pub fn stateful_stages(names: &Names) -> BTreeMap<String, String> {
    let why = "no snapshot before the range: the state that it depends on is not known";
    names.stages.iter().skip(names.stateless).map(|(name, _)| (name.clone(), why.to_owned())).collect()
}
