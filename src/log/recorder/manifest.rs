//! The manifest: what a recording holds, written down beside it when it ends.
//!
//! `NAME.manifest.json` is written as a whole or not at all. [`completeness`](crate::log::completeness) holds the files
//! against it. Counts are of what reached the files whole; what did not is a drop with its reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::priority::{DropRun, Priority};
use super::space::Shortage;
use crate::log::completeness::sequences::{Range, Sequences};

/// Version of the manifest's form.
pub const MANIFEST_VERSION: u32 = 1;

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// The disk was nearly full; everything taken up to then is written or declared.
    NoSpace {
        /// Free bytes found.
        free_bytes: u64,
        /// Free bytes that there had to be.
        limit_bytes: u64,
    },
    /// The disk said no; the last file ends with its last whole chunk.
    WriteFailed {
        /// Its words.
        error: String,
    },
}

impl From<Shortage> for Ending {
    fn from(Shortage { free_bytes, limit_bytes }: Shortage) -> Self {
        Ending::NoSpace { free_bytes, limit_bytes }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Stopped => write!(f, "was stopped on request"),
            Ending::NoSpace { free_bytes, limit_bytes } => {
                write!(f, "ended for lack of space: {free_bytes} bytes free, at least {limit_bytes} wanted")
            }
            Ending::WriteFailed { error } => write!(f, "ended by a write that failed: {error}"),
        }
    }
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Its name; the files are `NAME_0000.mcap` and so on.
    pub name: String,
    /// When it began, by the system's clock: what tells two recordings of one name apart.
    pub started_ns: u64,
    /// How it ended.
    pub ending: Ending,
    /// Its files, in order.
    pub files: Vec<FileEntry>,
    /// Its channels.
    pub channels: Vec<ChannelEntry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the folder of the manifest.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh64 of its bytes, hexadecimal.
    pub xxh64: String,
    /// Messages of sensors in it.
    pub messages: u64,
    /// Whether it has its index; one that has not ends with a whole chunk and is called `.part`.
    pub whole: bool,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelEntry {
    /// Its topic.
    pub topic: String,
    /// Its schema.
    pub schema: String,
    /// Its priority.
    pub priority: u8,
    /// Messages written.
    pub messages: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Sequence number of the first.
    pub first_sequence: Option<u32>,
    /// The newest sequence number.
    pub last_sequence: Option<u32>,
    /// Stamp of the first, mapped to the common time line.
    pub first_stamp_ns: Option<i64>,
    /// Stamp of the last.
    pub last_stamp_ns: Option<i64>,
    /// Arrival of the first.
    pub first_log_ns: Option<i64>,
    /// Arrival of the last.
    pub last_log_ns: Option<i64>,
    /// Sequence numbers that are missing, as first and last of each gap.
    pub gaps: Vec<[u32; 2]>,
    /// Messages with a number that was there before.
    pub repeats: u64,
    /// Times that the sensor began to count anew.
    pub restarts: u64,
    /// Messages that the recorder left out, by reason.
    pub drops: BTreeMap<String, u64>,
    /// The same, as runs.
    pub dropped: Vec<DroppedRun>,
}

/// Messages that the recorder left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRun {
    /// Sequence number of the first.
    pub first: u32,
    /// Sequence number of the last.
    pub last: u32,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// Where a recording's manifest lies.
pub fn manifest_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{MANIFEST_SUFFIX}"))
}

/// How the name of a manifest ends.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";

/// A message that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub slot: usize,
    pub sequence: u32,
    pub bytes: u64,
    pub log_ns: i64,
    pub publish_ns: i64,
}

/// The accounts of one channel while it is recorded.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub topic: String,
    pub schema: String,
    pub priority: Priority,
    pub sequences: Sequences,
    bytes: u64,
    first: Option<Written>,
    last: Option<Written>,
    dropped: Vec<DropRun>,
}

impl Tally {
    pub fn new(topic: &str, schema: &str, priority: Priority) -> Self {
        Tally {
            topic: topic.to_owned(),
            schema: schema.to_owned(),
            priority,
            sequences: Sequences::default(),
            bytes: 0,
            first: None,
            last: None,
            dropped: Vec::new(),
        }
    }

    pub fn wrote(&mut self, written: Written) {
        self.sequences.observe(written.sequence);
        self.bytes += written.bytes;
        self.first.get_or_insert(written);
        self.last = Some(written);
    }

    pub fn dropped(&mut self, run: DropRun) {
        self.dropped.push(run);
    }

    pub fn entry(&self) -> ChannelEntry {
        let mut drops = BTreeMap::new();
        for run in &self.dropped {
            *drops.entry(run.reason.name().to_owned()).or_insert(0) += run.count;
        }
        let run = |run: &DropRun| DroppedRun {
            first: run.first,
            last: run.last,
            count: run.count,
            reason: run.reason.name().to_owned(),
        };
        ChannelEntry {
            topic: self.topic.clone(),
            schema: self.schema.clone(),
            priority: self.priority.0,
            messages: self.sequences.count,
            bytes: self.bytes,
            first_sequence: self.sequences.first,
            last_sequence: self.sequences.last,
            first_stamp_ns: self.first.map(|written| written.publish_ns),
            last_stamp_ns: self.last.map(|written| written.publish_ns),
            first_log_ns: self.first.map(|written| written.log_ns),
            last_log_ns: self.last.map(|written| written.log_ns),
            gaps: self.sequences.gaps.iter().map(|Range { first, last }| [*first, *last]).collect(),
            repeats: self.sequences.repeats,
            restarts: self.sequences.restarts,
            drops,
            dropped: self.dropped.iter().map(run).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::recorder::priority::{RecorderDropReason, Slot};

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let mut tally = Tally::new("/camera/front", "foxglove.RawImage", Priority(3));
        for sequence in [7, 8, 11] {
            tally.wrote(Written { slot: 0, sequence, bytes: 10, log_ns: 5, publish_ns: -4 });
        }
        let run = DropRun { slot: Slot(0), first: 9, last: 10, count: 2, reason: RecorderDropReason::Overload };
        tally.dropped(run);
        let entry = tally.entry();
        assert_eq!((entry.gaps.as_slice(), entry.bytes), ([[9, 10]].as_slice(), 30));
        assert_eq!(entry.drops, BTreeMap::from([("overload".to_owned(), 2)]));
        let file = FileEntry { name: "a_0000.mcap".into(), bytes: 9, xxh64: "0f".into(), messages: 3, whole: true };
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            name: "a".into(),
            started_ns: u64::MAX,
            ending: Ending::NoSpace { free_bytes: 1, limit_bytes: 2 },
            files: vec![file],
            channels: vec![entry],
        };
        let text = serde_json::to_string_pretty(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
