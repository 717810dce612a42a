//! Whether a recording is complete, and if not, exactly what is missing.
//!
//! Files come from the [recorder](crate::log::recorder), with their manifest where there is one, or are single logs from
//! anywhere. All bytes are read: checksums of chunks, attachments, data and summary, the digests of the manifest, every
//! message's [sequence number](sequences). A number that is missing is *declared* where the recorder says that it left the
//! message out, else *undeclared*: lost before the recorder, with a file, or in a crash. Promised: a [`Verdict::Complete`]
//! is given only where every number between a channel's first and last is there, every file of the rotation is, and the
//! recording was ended on request. What no number can tell is said in words: of a recording that was cut off, what came
//! after its last chunk is unknown.

pub mod checksums;
pub mod sequences;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{files_of, is_recording};
use super::reader::{Ending as FileEnding, Event, LogReader, Message, ReadError};
use super::recorder::manifest::manifest_path;
use super::recorder::manifest::{ChannelEntry, Ending, FileEntry, MANIFEST_SUFFIX, MANIFEST_VERSION, Manifest};
use super::recorder::priority::RecorderDrop;
use super::recorder::rotate::{file_name, parse_file_name};
use super::{RECORDING_END, RECORDING_HEADER, TOPIC_RECORDER_DROP};
use checksums::checksums;
use sequences::{Range, Sequences};

/// Why nothing can be said.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// There is nothing to check.
    #[error("{path}: expected logs or a manifest in the folder, found neither")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// What is checked as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A log that stands alone.
    Log(PathBuf),
    /// The files of a recording.
    Recording {
        /// Where they lie.
        folder: PathBuf,
        /// Its name.
        name: String,
        /// Its files by number; those that were named, or all that are there.
        files: BTreeMap<u32, PathBuf>,
        /// Whether all files are asked about, with the manifest, and not only those that were named.
        is_whole: bool,
    },
}

/// Finds out what is meant by paths: a manifest, a folder or the first file is all of a recording, other files are what they are.
///
/// # Errors
/// When a path cannot be looked at, or a folder holds nothing to check.
pub fn subjects(paths: &[PathBuf]) -> Result<Vec<Subject>, CheckError> {
    let mut found = Found::default();
    for path in paths {
        let io = |error| CheckError::Io { path: path.clone(), error };
        if !path.metadata().map_err(io)?.is_dir() {
            found.add(path, false)?;
            continue;
        }
        let before = found.len();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if [".mcap", ".mcap.part", MANIFEST_SUFFIX].iter().any(|end| name.ends_with(end)) {
                found.add(&file, true)?;
            }
        }
        if found.len() == before {
            return Err(CheckError::Empty { path: path.clone() });
        }
    }
    Ok(found.into_subjects())
}

#[derive(Default)]
struct Found {
    logs: Vec<PathBuf>,
    recordings: BTreeMap<(PathBuf, String), (BTreeMap<u32, PathBuf>, bool)>,
}

impl Found {
    fn len(&self) -> usize {
        self.logs.len() + self.recordings.len()
    }

    fn add(&mut self, path: &Path, is_whole: bool) -> Result<(), CheckError> {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        if let Some(name) = file.strip_suffix(MANIFEST_SUFFIX) {
            return self.add_all(folder, name);
        }
        let Some((name, index, _)) = parse_file_name(file).filter(|_| is_recording(path)) else {
            self.logs.push(path.to_owned());
            return Ok(());
        };
        if index == 0 && !is_whole {
            return self.add_all(folder, name);
        }
        let entry = self.recordings.entry((folder, name.to_owned())).or_default();
        entry.0.insert(index, path.to_owned());
        entry.1 |= is_whole;
        Ok(())
    }

    fn add_all(&mut self, folder: PathBuf, name: &str) -> Result<(), CheckError> {
        let files = files_of(&folder, name).map_err(|error| CheckError::Io { path: folder.clone(), error })?;
        self.recordings.insert((folder, name.to_owned()), (files, true));
        Ok(())
    }

    fn into_subjects(self) -> Vec<Subject> {
        let recordings = self.recordings.into_iter().map(|((folder, name), (files, is_whole))| Subject::Recording {
            folder,
            name,
            files,
            is_whole,
        });
        recordings.chain(self.logs.into_iter().map(Subject::Log)).collect()
    }
}

/// Something that should not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A file of the rotation is not there.
    FileMissing(String),
    /// A file bears the recording's name and is of another.
    Stranger(String),
    /// The manifest is not there: it is the last thing that a recorder writes.
    NoManifest(String),
    /// The manifest cannot be used.
    Manifest(String, String),
    /// A file is not there in full.
    Cut(String, String),
    /// A file is damaged; what lies behind the damage was not read.
    Damaged(String, String),
    /// A file is not the one that the manifest tells of.
    Digest(String),
    /// A file's data or summary do not have their checksum.
    Crc(String, &'static str, u32, u32),
    /// A channel holds something else than the manifest tells.
    Account {
        /// Its topic.
        topic: String,
        /// What is counted.
        what: &'static str,
        /// By the manifest.
        expected: u64,
        /// In the files.
        found: u64,
    },
    /// The recording was never ended: a crash.
    NotEnded {
        /// Arrival of the newest message that is there.
        newest_log_ns: Option<i64>,
        /// How often the recorder flushed.
        flush_interval_ns: Option<u64>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::FileMissing(file) => write!(f, "{file} is missing"),
            Problem::Stranger(file) => write!(f, "{file} is of another recording"),
            Problem::NoManifest(file) => write!(f, "{file} is missing, which is written when a recording ends"),
            Problem::Manifest(file, error) => write!(f, "{file}: {error}"),
            Problem::Cut(file, missing) => write!(f, "{file}: {missing}"),
            Problem::Damaged(file, error) => write!(f, "{file}: {error}"),
            Problem::Digest(file) => {
                write!(f, "{file} is not the file that the manifest tells of: its bytes are others")
            }
            Problem::Crc(file, what, expected, found) => {
                write!(f, "{file}: expected the checksum {expected:08x} of its {what}, found {found:08x}")
            }
            Problem::Account { topic, what, expected, found } => {
                write!(f, "{topic}: expected {expected} {what} by the manifest, found {found}")
            }
            Problem::NotEnded { newest_log_ns, flush_interval_ns } => {
                write!(f, "the recording was never ended: ")?;
                match newest_log_ns {
                    Some(newest_ns) => write!(f, "what arrived after {newest_ns} ns is not in it")?,
                    None => write!(f, "no message is in it")?,
                }
                match flush_interval_ns {
                    Some(interval_ns) => {
                        let interval_ms = interval_ns / 1_000_000;
                        write!(
                            f,
                            ", at most {interval_ms} ms and what waited for the disk; how many messages, no number tells"
                        )
                    }
                    None => write!(f, "; how many messages, no number tells"),
                }
            }
        }
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Messages of sensors.
    pub messages: u64,
    /// Those of them that lie in a chunk that was cut off, whose checksum cannot be checked.
    pub unchecked: u64,
    /// Whether it ends as it should.
    pub is_whole: bool,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its numbers.
    pub sequences: Sequences,
    /// Bytes of its messages.
    pub bytes: u64,
    /// Arrival of the first message.
    pub first_log_ns: i64,
    /// Arrival of the newest message.
    pub last_log_ns: i64,
    /// Messages that the recorder says it left out, by reason.
    pub declared: BTreeMap<String, u64>,
    /// Their numbers.
    pub declared_ranges: Vec<Range>,
    /// Numbers that are missing and that nobody declared.
    pub undeclared_ranges: Vec<Range>,
    /// How many.
    pub undeclared: u64,
}

impl ChannelReport {
    /// Messages that the recorder says it left out.
    pub fn declared(&self) -> u64 {
        self.declared.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn observe(&mut self, message: &Message<'_>) {
        if self.sequences.count == 0 {
            self.first_log_ns = message.log_ns;
        }
        self.sequences.observe(message.sequence);
        self.bytes += message.data.len() as u64;
        self.last_log_ns = message.log_ns;
    }

    fn declare(&mut self, first: u32, last: u32, count: u64, reason: &str) {
        let sum = self.declared.entry(reason.to_owned()).or_insert(0);
        *sum = sum.saturating_add(count);
        self.declared_ranges.push(Range { first, last });
    }

    /// Holds the gaps against what was declared.
    fn weigh(&mut self) {
        if self.sequences.is_unnumbered() {
            return;
        }
        self.undeclared_ranges = self.sequences.unexplained(&self.declared_ranges);
        let outside: u64 = self.undeclared_ranges.iter().map(|range| range.len()).sum();
        // a run whose count is smaller than its range does not explain all of it
        let explained = self.sequences.missing().saturating_sub(outside);
        self.undeclared = outside + explained.saturating_sub(self.declared());
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is missing.
    Complete,
    /// What is missing, the recorder has declared; or it ended early, and said so.
    Declared,
    /// Something is missing that nobody declared, or cannot be told.
    Incomplete,
}

/// What is known of a recording, or of a log.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Its name.
    pub name: String,
    /// Its files, in order.
    pub files: Vec<FileReport>,
    /// Its channels by topic, those of the recorder aside.
    pub channels: BTreeMap<String, ChannelReport>,
    /// How it ended, by its manifest.
    pub ending: Option<Ending>,
    /// What should not be so.
    pub problems: Vec<Problem>,
}

impl Recording {
    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        if !self.problems.is_empty() || self.channels.values().any(|channel| channel.undeclared > 0) {
            return Verdict::Incomplete;
        }
        let is_early = self.ending.as_ref().is_some_and(|ending| *ending != Ending::Stopped);
        if is_early || self.channels.values().any(|channel| channel.declared() > 0) {
            return Verdict::Declared;
        }
        Verdict::Complete
    }
}

/// Checks one subject. `progress` hears of bytes read, and bytes in all of the file.
pub fn check(subject: &Subject, progress: &mut dyn FnMut(u64, u64)) -> Recording {
    let mut check = Check::default();
    match subject {
        Subject::Log(path) => {
            check.recording.name = path.display().to_string();
            check.file(path, None, progress);
        }
        Subject::Recording { folder, name, files, is_whole } => {
            check.recording.name = folder.join(name).display().to_string();
            check.rotation(folder, name, files, *is_whole, progress);
        }
    }
    check.finish()
}

#[derive(Default)]
struct Check {
    recording: Recording,
    manifest: Option<Manifest>,
    /// What tells the recording from others of its name: that of its first file.
    started_ns: Option<String>,
    flush_interval_ns: Option<u64>,
    newest_log_ns: Option<i64>,
    /// Drops by the files: what counts where there is no manifest.
    drops: Vec<RecorderDrop>,
    /// Whether the last file read says that none follows.
    is_ended: bool,
}

impl Check {
    fn rotation(
        &mut self,
        folder: &Path,
        name: &str,
        files: &BTreeMap<u32, PathBuf>,
        is_whole: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) {
        if is_whole {
            self.manifest = self.read_manifest(&manifest_path(folder, name));
        }
        let entries = self.manifest.as_ref().map(|manifest| manifest.files.clone()).unwrap_or_default();
        let mut next = if is_whole { 0 } else { files.keys().next().copied().unwrap_or(0) };
        for (index, path) in files {
            self.missing_files(name, next, *index, &entries);
            self.file(path, entries.get(*index as usize), progress);
            next = index.saturating_add(1);
        }
        self.missing_files(name, next, entries.len() as u32, &entries);
        let is_cut_by_recorder = entries.last().is_some_and(|last| !last.whole);
        if is_whole && !self.is_ended && !is_cut_by_recorder {
            let (newest_log_ns, flush_interval_ns) = (self.newest_log_ns, self.flush_interval_ns);
            self.problem(Problem::NotEnded { newest_log_ns, flush_interval_ns });
        }
    }

    /// Names the files from number `from` up to before `to`, many of them as one stretch.
    fn missing_files(&mut self, name: &str, from: u32, to: u32, entries: &[FileEntry]) {
        if to.saturating_sub(from) > 100 {
            let stretch = format!("{} to {}", file_name(name, from), file_name(name, to - 1));
            return self.problem(Problem::FileMissing(stretch));
        }
        for index in from..to {
            let entry = entries.get(index as usize);
            self.problem(Problem::FileMissing(
                entry.map_or_else(|| file_name(name, index), |entry| entry.name.clone()),
            ));
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.recording.problems.push(problem);
    }

    fn read_manifest(&mut self, path: &Path) -> Option<Manifest> {
        let name = name_of(path);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.problem(Problem::NoManifest(name));
                return None;
            }
            Err(error) => {
                self.problem(Problem::Manifest(name, error.to_string()));
                return None;
            }
        };
        let manifest: Manifest = match serde_json::from_str(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.problem(Problem::Manifest(name, error.to_string()));
                return None;
            }
        };
        if manifest.version > MANIFEST_VERSION {
            let words = format!("expected version {MANIFEST_VERSION} or older, found {}", manifest.version);
            self.problem(Problem::Manifest(name, words));
            return None;
        }
        self.started_ns = Some(manifest.started_ns.to_string());
        self.recording.ending = Some(manifest.ending.clone());
        Some(manifest)
    }

    /// Reads a file. `entry` is what the manifest says of it.
    fn file(&mut self, path: &Path, entry: Option<&FileEntry>, progress: &mut dyn FnMut(u64, u64)) {
        let name = name_of(path);
        if self.manifest.is_some() && entry.is_none_or(|entry| entry.name != name) {
            // one that was left `.part` by the recorder, or that it never wrote
            let expected = entry.map(|entry| entry.name.clone());
            self.problem(expected.map_or_else(|| Problem::Stranger(name.clone()), Problem::FileMissing));
        }
        self.is_ended = false;
        let mut report = FileReport { name: name.clone(), bytes: 0, messages: 0, unchecked: 0, is_whole: false };
        match self.messages(path, &mut report, progress) {
            Err(ReadError::NotMcap { .. }) if path.metadata().is_ok_and(|found| found.len() == 0) => {
                self.problem(Problem::Cut(name.clone(), "the file is empty".to_owned()));
            }
            Err(error) => self.problem(Problem::Damaged(name.clone(), error.to_string())),
            Ok(FileEnding::Complete) => report.is_whole = true,
            // the manifest knows that it ends early; its digest tells whether it ends where it should
            Ok(_) if entry.is_some_and(|entry| !entry.whole) => {}
            Ok(ending) => self.problem(Problem::Cut(name.clone(), ending.missing().unwrap_or_default())),
        }
        self.checksums(path, &report, entry);
        self.recording.files.push(report);
    }

    fn checksums(&mut self, path: &Path, report: &FileReport, entry: Option<&FileEntry>) {
        let name = report.name.as_str();
        let found = match checksums(path) {
            Ok(found) => found,
            Err(error) => return self.problem(Problem::Damaged(name.to_owned(), error.to_string())),
        };
        if report.is_whole && (found.data.is_none() || found.summary.is_none()) {
            let words = "its data or its summary do not end where they should";
            self.problem(Problem::Damaged(name.to_owned(), words.to_owned()));
        }
        for (what, checksum) in [("data", found.data), ("summary", found.summary)] {
            if let Some(checksum) = checksum.filter(|checksum| !checksum.holds()) {
                self.problem(Problem::Crc(name.to_owned(), what, checksum.expected, checksum.found));
            }
        }
        let is_same =
            |entry: &FileEntry| entry.bytes == report.bytes && entry.xxh64 == format!("{:016x}", found.digest);
        if entry.is_some_and(|entry| !is_same(entry)) {
            self.problem(Problem::Digest(name.to_owned()));
        }
    }

    fn messages(
        &mut self,
        path: &Path,
        report: &mut FileReport,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<FileEnding, ReadError> {
        let mut reader = LogReader::open_file(path)?;
        // two publishers may have a channel each for one topic, and count apart
        let mut names: BTreeMap<u16, String> = BTreeMap::new();
        loop {
            let (done, all) = reader.progress();
            progress(done, all);
            report.bytes = all;
            let Some(event) = reader.next()? else { break };
            match event {
                Event::Metadata { name, entries } => self.metadata(&report.name, &name, &entries),
                Event::Attachment { .. } => {}
                Event::Message(message) if message.channel.topic == TOPIC_RECORDER_DROP => {
                    self.drops.push(message.record(path)?);
                }
                Event::Message(message) => {
                    report.messages += 1;
                    self.newest_log_ns = self.newest_log_ns.max(Some(message.log_ns));
                    let topic = &message.channel.topic;
                    let is_taken = |name: &String| names.values().any(|known| known == name);
                    let name = match names.get(&message.channel_id) {
                        Some(name) => name.clone(),
                        None if is_taken(topic) => format!("{topic}#{}", message.channel_id),
                        None => topic.clone(),
                    };
                    self.recording.channels.entry(name.clone()).or_default().observe(&message);
                    names.entry(message.channel_id).or_insert(name);
                }
            }
        }
        report.unchecked = reader.unchecked();
        let (_, all) = reader.progress();
        Ok(reader.ending().cloned().unwrap_or(FileEnding::Cut { len: all }))
    }

    fn metadata(&mut self, file: &str, name: &str, entries: &BTreeMap<String, String>) {
        if name == RECORDING_END {
            self.is_ended = entries.get("another_follows").is_some_and(|follows| follows == "no");
        }
        if name != RECORDING_HEADER {
            return;
        }
        let started_ns = entries.get("started_ns").cloned().unwrap_or_default();
        if *self.started_ns.get_or_insert_with(|| started_ns.clone()) != started_ns {
            self.problem(Problem::Stranger(file.to_owned()));
        }
        self.flush_interval_ns = entries.get("flush_interval_ns").and_then(|text| text.parse().ok());
        for (topic, last) in entries.iter().filter_map(|(key, last)| Some((key.strip_prefix("last.")?, last))) {
            let sequences = &mut self.recording.channels.entry(topic.to_owned()).or_default().sequences;
            if sequences.last.is_none() {
                // the files before are not there: the next number tells whether anything between is missing
                sequences.last = last.parse().ok();
            }
        }
    }

    fn finish(mut self) -> Recording {
        let manifest = self.manifest.take();
        let entries: &[ChannelEntry] = manifest.as_ref().map_or(&[], |manifest| &manifest.channels);
        for entry in entries {
            let channel = self.recording.channels.entry(entry.topic.clone()).or_default();
            for run in &entry.dropped {
                channel.declare(run.first, run.last, run.count, &run.reason);
            }
            let (found, topic) = (channel.sequences.clone(), entry.topic.clone());
            self.account(&topic, "messages", entry.messages, found.count);
            self.account(&topic, "as the newest number", number(entry.last_sequence), number(found.last));
        }
        if manifest.is_none() {
            for drop in std::mem::take(&mut self.drops) {
                let channel = self.recording.channels.entry(drop.topic).or_default();
                channel.declare(drop.first, drop.last, drop.count, drop.reason.name());
            }
        }
        self.recording.channels.values_mut().for_each(ChannelReport::weigh);
        self.recording
    }

    fn account(&mut self, topic: &str, what: &'static str, expected: u64, found: u64) {
        if expected != found {
            self.problem(Problem::Account { topic: topic.to_owned(), what, expected, found });
        }
    }
}

fn number(sequence: Option<u32>) -> u64 {
    sequence.map_or(0, u64::from)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the recorder itself writes is checked beside it, in `recorder::tests`; here are files of another hand.
    fn seed(name: &str) -> Recording {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/completeness").join(name);
        check(&Subject::Log(path), &mut |_, _| {})
    }

    #[test]
    fn a_gap_is_declared_as_far_as_the_recorder_says_so() {
        let found = seed("declared");
        assert_eq!((found.problems.as_slice(), found.verdict()), ([].as_slice(), Verdict::Incomplete));
        let imu = &found.channels["/imu"];
        assert_eq!(imu.sequences.gaps, [Range { first: 2, last: 4 }]);
        assert_eq!(imu.declared, BTreeMap::from([("overload".to_owned(), 2)]));
        assert_eq!((imu.undeclared, imu.undeclared_ranges.as_slice()), (1, [Range { first: 4, last: 4 }].as_slice()));
        assert_eq!(seed("cut").verdict(), Verdict::Incomplete);
    }

    #[test]
    fn a_run_that_counts_fewer_than_its_range_explains_no_more() {
        let mut channel = ChannelReport::default();
        [0, 10].into_iter().for_each(|number| channel.sequences.observe(number));
        channel.declare(1, 9, 6, "overload");
        channel.weigh();
        assert_eq!((channel.undeclared, channel.undeclared_ranges.len()), (3, 0));
    }

    #[test]
    fn paths_are_taken_for_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let empty = subjects(&[folder.path().to_owned()]).unwrap_err();
        assert!(matches!(empty, CheckError::Empty { .. }));
        let log = folder.path().join("plain_0000.mcap");
        let whole = crate::log::writer::LogWriter::create(&log, Default::default()).unwrap();
        whole.finish().unwrap();
        assert_eq!(subjects(&[folder.path().to_owned()]).unwrap(), [Subject::Log(log.clone())]);
        // too short to say what it is, and called like a file of a recording
        let cut = folder.path().join("drive_0002.mcap.part");
        std::fs::write(&cut, b"").unwrap();
        let named = subjects(std::slice::from_ref(&cut)).unwrap();
        let recording = |is_whole| Subject::Recording {
            folder: folder.path().to_owned(),
            name: "drive".to_owned(),
            files: BTreeMap::from([(2, cut.clone())]),
            is_whole,
        };
        assert_eq!(named, [recording(false)]);
        assert_eq!(subjects(&[folder.path().to_owned()]).unwrap(), [recording(true), Subject::Log(log)]);
        let found = check(&recording(true), &mut |_, _| {});
        let missing = ["drive_0000.mcap", "drive_0001.mcap"].map(|file| Problem::FileMissing(file.to_owned()));
        assert!(missing.iter().all(|problem| found.problems.contains(problem)), "{:?}", found.problems);
        assert!(subjects(&[folder.path().join("nothing")]).is_err());
    }
}
