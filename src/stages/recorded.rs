//! Detections of an earlier run in place of the networks.
//!
//! A network gives its bits on one engine and one kind of machine; all that stands behind it gives them anywhere. A run's
//! log holds what its networks saw, so another machine can take that up and must then come to the same tracks, world models
//! and plans. The log is read before the first tick: nothing is read while ticks go through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::log::reader::{Event, LogReader, ReadError};
use crate::log::{TOPIC_DETECTIONS, TOPIC_TICK};
use crate::messages::{CameraDetections, TickDecision};
use crate::runtime::graph::{Fields, Stage, StageError};
use crate::source::{Preamble, PreambleError};
use crate::stages::Tick;

/// Why there are no detections to take.
#[derive(Debug, Error)]
pub enum RecordedError {
    /// The log does not open.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// The log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is that of no run.
    #[error("{file}: expected the log of a run, found no run header", file = .0.display())]
    NoRun(PathBuf),
    /// A run without detections.
    #[error("{file}: expected detections, found {ticks} ticks and none in them", file = .0.display(), ticks = .1)]
    Empty(PathBuf, usize),
}

/// What the networks of a run saw, by tick.
#[derive(Debug)]
pub struct Recording {
    file: PathBuf,
    ticks: BTreeMap<u64, Vec<CameraDetections>>,
    header: BTreeMap<String, String>,
}

impl Recording {
    /// Reads all detections of a run's log.
    ///
    /// # Errors
    /// For files that are no log or not that of a run, and for runs that hold no detections.
    pub fn read(file: &Path) -> Result<Self, RecordedError> {
        let header = Preamble::read(file)?.run;
        if header.is_empty() {
            return Err(RecordedError::NoRun(file.to_owned()));
        }
        let mut reader = LogReader::open(file)?;
        let mut ticks: BTreeMap<u64, Vec<CameraDetections>> = BTreeMap::new();
        let (mut now, mut all) = (None, 0);
        while let Some(event) = reader.next()? {
            let Event::Message(message) = event else { continue };
            if message.channel.topic == TOPIC_TICK {
                now = Some(message.record::<TickDecision>(file)?.tick);
                all += 1;
            } else if let (Some(now), TOPIC_DETECTIONS) = (now, message.channel.topic.as_str()) {
                ticks.entry(now).or_default().push(message.record(file)?);
            }
        }
        if ticks.is_empty() {
            return Err(RecordedError::Empty(file.to_owned(), all));
        }
        Ok(Recording { file: file.to_owned(), ticks, header })
    }

    /// The names of all classes that the detections count in.
    pub fn class_names(&self) -> Vec<String> {
        let names = self.header.get("classes").map(String::as_str).unwrap_or_default();
        names.lines().map(str::to_owned).collect()
    }

    /// The entries of the run's header that say what saw them.
    pub fn networks(&self) -> impl Iterator<Item = (&String, &String)> {
        self.header.iter().filter(|(key, _)| key.starts_with("model."))
    }
}

/// The stage `decode`, with its results taken from a run.
pub struct RecordedDecode {
    recording: Arc<Recording>,
}

impl RecordedDecode {
    /// With the results of this run.
    pub fn new(recording: Arc<Recording>) -> Self {
        RecordedDecode { recording }
    }
}

impl Stage<Tick> for RecordedDecode {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        for camera in &mut tick.cameras {
            let (sensor, present, stamp_ns) = (camera.seen.sensor, camera.present, camera.stamp_ns);
            camera.seen = CameraDetections { sensor, present, stamp_ns, ..CameraDetections::default() };
        }
        let Some(recorded) = self.recording.ticks.get(&tick.id) else {
            return Err(StageError(format!("{} holds no detections of this tick", self.recording.file.display())));
        };
        for seen in recorded {
            if let Some(camera) = tick.cameras.get_mut(usize::from(seen.sensor)) {
                camera.seen.clone_from(seen);
            }
        }
        Ok(())
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        for (sensor, camera) in tick.cameras.iter().enumerate() {
            fields.add_record(sensor as u16, &camera.seen);
        }
    }
}
