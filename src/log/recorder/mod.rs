//! The recorder: what live sensors send goes into MCAP files in rotation, so that completeness can be proven afterwards.
//!
//! Any thread [`offer`](Recorder::offer)s messages and never waits for the disk; they wait in a [queue](priority::Queue) of
//! bounded size, and a thread of the recorder's own writes them into the [files](rotate). When the disk is too slow the least
//! important messages are left out, which is declared in the file. When it is nearly [full](space), or a write fails, the
//! recording ends in good order, the caller is told and goes on. At the end there is a [manifest](manifest::Manifest).
//!
//! Promised: every message offered while the recording is open is in a file, or declared as dropped with its reason, or,
//! after a crash alone, was offered after the last flush. [`completeness`](crate::log::completeness) holds a recording to it.
//! A message keeps its sensor's sequence number, since a recorder that counts by itself cannot prove that it saw all.

pub mod manifest;
pub mod priority;
pub mod rotate;
pub mod space;
pub mod volume;
mod writeback;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::writer::{Compression, WriteError};
use super::{Channel, TOPIC_RECORDER_DROP};
use manifest::{Ending, MANIFEST_VERSION, Manifest, manifest_path};
use priority::{DropRun, Offer, Priority, Queue, RecorderDropReason, SensorMessage, Slot, Take};
use rotate::{Rotation, parse_file_name};
use space::Guard;
use volume::{Folder, Volume};

/// Why there is no recording.
#[derive(Debug, Error)]
pub enum RecordError {
    /// A name that no file can have.
    #[error("expected the name of a recording without folders, found {0:?}")]
    Name(String),
    /// There is a recording of this name.
    #[error("{path}: a recording of this name is there already")]
    Exists {
        /// A file of it.
        path: PathBuf,
    },
    /// Two channels of one topic, whose messages nobody could tell apart.
    #[error("expected every topic once, found {0} again")]
    Topic(String),
    /// The folder cannot be used.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The first file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no thread for it.
    #[error("the recorder's thread cannot be started: {0}")]
    Thread(io::Error),
    /// The recorder's thread has panicked, which is a bug.
    #[error("the recorder's thread has panicked")]
    Panicked,
}

/// When the recorder waits for the disk itself, so that a power loss costs no more than a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Never: the system writes when it likes.
    Never,
    /// After every chunk.
    PerChunk,
    /// When a file is whole.
    #[default]
    PerFile,
}

/// How a recording is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A file has at most so many bytes, its index and one message aside.
    pub max_file_bytes: u64,
    /// A file spans at most so much time of arrival.
    pub max_file_duration: Option<Duration>,
    /// A chunk with so many bytes of messages is written.
    pub chunk_bytes: u64,
    /// A chunk is written after so much time at the latest: what a crash can cost, beside what waits in the queue.
    pub flush_interval: Duration,
    /// When to wait for the disk.
    pub fsync: Fsync,
    /// Bytes that may wait for the disk.
    pub budget_bytes: u64,
    /// The recording ends when the disk has less room; 0 for never.
    pub min_free_bytes: u64,
    /// Whether the room for a whole file is set aside when it is begun.
    pub preallocate: bool,
    /// How chunks are compressed.
    pub compression: Compression,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_file_bytes: 4 << 30,
            max_file_duration: None,
            chunk_bytes: 4 << 20,
            flush_interval: Duration::from_millis(500),
            fsync: Fsync::PerFile,
            budget_bytes: 512 << 20,
            min_free_bytes: 1 << 30,
            preallocate: true,
            compression: Compression::None,
        }
    }
}

impl Options {
    fn guard(&self) -> Guard {
        Guard { limit_bytes: self.min_free_bytes }
    }
}

/// What every file of a recording begins with.
#[derive(Clone, Debug, Default)]
pub struct Preamble {
    metadata: Vec<(String, BTreeMap<String, String>)>,
    attachments: Vec<(String, String, Vec<u8>)>,
    channels: Vec<(Channel, Priority)>,
}

impl Preamble {
    /// A metadata record, as [`SOURCE_HEADER`](super::SOURCE_HEADER).
    pub fn metadata(&mut self, name: &str, entries: BTreeMap<String, String>) {
        self.metadata.push((name.to_owned(), entries));
    }

    /// An attachment, as the rig.
    pub fn attach(&mut self, name: &str, media_type: &str, data: Vec<u8>) {
        self.attachments.push((name.to_owned(), media_type.to_owned(), data));
    }

    /// A channel, and how important it is; higher is more.
    pub fn channel(&mut self, channel: Channel, priority: Priority) -> Slot {
        self.channels.push((channel, priority));
        // MCAP has 65536 channels at most, which its writer refuses by name
        Slot((self.channels.len() - 1) as u16)
    }
}

/// What a recording came to.
#[derive(Debug)]
pub struct Summary {
    /// What it holds, and how it ended.
    pub manifest: Manifest,
    /// Where that is written, unless the disk took not even that.
    pub manifest_file: Result<PathBuf, io::Error>,
}

/// A recording that goes on.
pub struct Recorder {
    queue: Arc<Queue>,
    ending: Arc<OnceLock<Ending>>,
    thread: Option<JoinHandle<Summary>>,
}

impl Recorder {
    /// Starts the recording `name` in a folder, which is made if need be.
    ///
    /// # Errors
    /// When the name is taken, or the first file cannot be written.
    pub fn start(folder: &Path, name: &str, preamble: Preamble, options: Options) -> Result<Self, RecordError> {
        Self::start_on(Box::new(Folder(folder.to_owned())), folder, name, preamble, options)
    }

    /// The same on another volume, for tests of slow and full disks.
    ///
    /// # Errors
    /// As those of [`start`](Self::start).
    pub fn start_on(
        volume: Box<dyn Volume>,
        folder: &Path,
        name: &str,
        preamble: Preamble,
        options: Options,
    ) -> Result<Self, RecordError> {
        check_topics(&preamble)?;
        check_name(folder, name)?;
        let priorities = preamble.channels.iter().map(|(_, priority)| *priority).collect();
        let queue = Arc::new(Queue::new(priorities, options.budget_bytes));
        let ending = Arc::new(OnceLock::new());
        let rotation = Rotation::start(volume, folder.to_owned(), name.to_owned(), now_unix_ns(), options, preamble)?;
        let job = Job {
            queue: Arc::clone(&queue),
            ending: Arc::clone(&ending),
            rotation,
            guard: options.guard(),
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || job.run());
        Ok(Recorder { queue, ending, thread: Some(thread.map_err(RecordError::Thread)?) })
    }

    /// Offers a message to the recording; never waits for the disk.
    pub fn offer(&self, message: SensorMessage) -> Offer {
        self.queue.offer(message)
    }

    /// Bytes that wait for the disk, of [`Options::budget_bytes`]: for a source that can wait, as a copy from a file.
    pub fn bytes_in_flight(&self) -> u64 {
        self.queue.bytes()
    }

    /// How often its thread has gone round: at least once in a flush interval, unless the disk holds it up.
    pub fn turns(&self) -> u64 {
        self.queue.turns()
    }

    /// How the recording ended by itself; `None` while it goes on.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Ends the recording: what waits is written first.
    ///
    /// # Errors
    /// Only by a bug; a disk that failed is in the summary.
    pub fn stop(mut self) -> Result<Summary, RecordError> {
        self.queue.stop();
        let thread = self.thread.take().ok_or(RecordError::Panicked)?;
        thread.join().map_err(|_| RecordError::Panicked)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The wall clock: nanoseconds since 1970.
pub fn now_unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn check_topics(preamble: &Preamble) -> Result<(), RecordError> {
    let mut topics: Vec<&str> = preamble.channels.iter().map(|(channel, _)| channel.topic.as_str()).collect();
    topics.push(TOPIC_RECORDER_DROP);
    topics.sort_unstable();
    let twice = topics.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some((*one).to_owned()),
        _ => None,
    });
    twice.map_or(Ok(()), |topic| Err(RecordError::Topic(topic)))
}

/// Makes the folder, and refuses a name that is taken: two recordings in one rotation would prove nothing.
fn check_name(folder: &Path, name: &str) -> Result<(), RecordError> {
    if name.is_empty() || name.contains(['/', '\\']) {
        return Err(RecordError::Name(name.to_owned()));
    }
    let io = |error| RecordError::Folder { path: folder.to_owned(), error };
    std::fs::create_dir_all(folder).map_err(io)?;
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let is_of_rotation = parse_file_name(file).is_some_and(|(found, ..)| found == name);
        if is_of_rotation || path == manifest_path(folder, name) {
            return Err(RecordError::Exists { path });
        }
    }
    Ok(())
}

/// What the recorder's thread does.
struct Job {
    queue: Arc<Queue>,
    ending: Arc<OnceLock<Ending>>,
    rotation: Rotation,
    guard: Guard,
    folder: PathBuf,
    name: String,
}

impl Job {
    fn run(mut self) -> Summary {
        let ended = self.record().and_then(|ending| self.close(ending));
        let ending = ended.unwrap_or_else(|error| self.give_up(&error));
        let ending = self.ending.get_or_init(|| ending).clone();
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            name: self.name.clone(),
            started_ns: self.rotation.started_ns(),
            ending,
            files: self.rotation.files.clone(),
            channels: self.rotation.tallies.iter().map(manifest::Tally::entry).collect(),
        };
        let path = manifest_path(&self.folder, &self.name);
        let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::other);
        let written = text.and_then(|text| crate::file::write_whole(&path, text.as_bytes()));
        Summary { manifest, manifest_file: written.map(|()| path) }
    }

    /// Writes what comes, until nothing more does or the disk is nearly full.
    fn record(&mut self) -> Result<Ending, WriteError> {
        loop {
            match self.queue.take(self.rotation.patience()) {
                Take::Message(message) => self.write(&message)?,
                Take::Idle => {}
                Take::Stopped => return Ok(Ending::Stopped),
            }
            if !self.rotation.is_flush_due() {
                continue;
            }
            self.rotation.flush(self.queue.drain_drops())?;
            let shortage = self.guard.shortage(self.rotation.volume());
            let shortage = shortage.map_err(|error| WriteError::Io { path: self.folder.clone(), error })?;
            if let Some(shortage) = shortage {
                return Ok(shortage.into());
            }
        }
    }

    fn write(&mut self, message: &SensorMessage) -> Result<(), WriteError> {
        let written = self.rotation.write(message, || self.queue.drain_drops());
        if written.is_err() {
            self.rotation.account_drops(vec![DropRun::of(message, RecorderDropReason::WriteFailed)]);
        }
        written
    }

    fn close(&mut self, ending: Ending) -> Result<Ending, WriteError> {
        if ending != Ending::Stopped {
            self.queue.end(RecorderDropReason::NoSpace);
        }
        self.rotation.flush(self.queue.drain_drops())?;
        self.rotation.close(Some(&ending))?;
        Ok(ending)
    }

    /// The disk failed: keeps what was written whole, and declares the rest.
    fn give_up(&mut self, error: &WriteError) -> Ending {
        self.queue.end(RecorderDropReason::WriteFailed);
        self.rotation.abandon();
        self.rotation.account_drops(self.queue.drain_drops());
        Ending::WriteFailed { error: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
