//! Reading logs.
//!
//! Messages come in the order of the file, which for a recording is the order of arrival. The reader holds one chunk,
//! whatever the size of the file, and gives nothing out of a chunk whose CRC does not hold. A file that was cut off is
//! read up to its last whole record; [`Ending`] then says where it ends. Damage inside (a wrong CRC, a record that does
//! not parse) is an error, since what follows cannot be trusted.
//!
//! The [files](super::files) of a recording in rotation are read as one log: what each file repeats of the first (header, rig,
//! attachments) comes once. A file inside that is missing, cut off or of another recording is an error that names it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcap::records::op;
use thiserror::Error;

use super::files::LogFiles;
use super::records::{self, Damage, HEAD_BYTES, MAGIC, MAX_RECORD_BYTES, Record};
use super::{Channel, RECORDING_END, RECORDING_HEADER, SCHEMA_VERSION_KEY};
use crate::messages::SCHEMA_VERSION;

/// Why a log could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The file is no MCAP file.
    #[error("{path}: expected an MCAP file, found other first bytes")]
    NotMcap {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{path}: damaged before byte {at} of {len}: {error}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far the file had been read.
        at: u64,
        /// Length of the file.
        len: u64,
        /// What is wrong there.
        error: Damage,
    },
    /// A channel of ours was written by a newer catseye.
    #[error("{path}: {topic}: expected schema version {expected} or older, found {found}")]
    SchemaVersion {
        /// The file.
        path: PathBuf,
        /// The channel.
        topic: String,
        /// Newest version of this build.
        expected: u32,
        /// Version in the file.
        found: String,
    },
    /// A folder that is no log.
    #[error("{path}: expected the files of one recording, found {}", names(found))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The recordings in it.
        found: Vec<String>,
    },
    /// A file of a recording is not there.
    #[error("{path}: this file of the recording is missing")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file of a recording is not there in full, and others follow.
    #[error("{path}: {missing}, and more of the recording follows in {next}")]
    CutInside {
        /// The file.
        path: PathBuf,
        /// What is missing of it.
        missing: String,
        /// The file that follows.
        next: PathBuf,
    },
    /// A file bears a recording's name and is not of it.
    #[error("{path}: expected file {number} of the recording, found that of another")]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Its number by its name.
        number: u32,
    },
    /// A message that does not follow its channel's schema.
    #[error("{path}: {topic}: message {sequence}: {error}")]
    Message {
        /// The file.
        path: PathBuf,
        /// The channel.
        topic: String,
        /// The message.
        sequence: u32,
        /// What was wrong.
        error: String,
    },
}

fn names(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { format!("{}: name one of them", found.join(", ")) }
}

impl ReadError {
    /// Whether it tells of a recording whose files do not make one log, and not of something that is no log.
    pub fn is_of_recording(&self) -> bool {
        match self {
            ReadError::Folder { found, .. } => !found.is_empty(),
            ReadError::Missing { .. } | ReadError::CutInside { .. } | ReadError::Stranger { .. } => true,
            _ => false,
        }
    }
}

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Complete,
    /// All messages are there, the index or the footer is not.
    NoIndex {
        /// Length of the file.
        len: u64,
    },
    /// In the middle of the messages: those behind the last one read are lost, and the index with them.
    Cut {
        /// Length of the file.
        len: u64,
    },
    /// Behind a file of a recording that another should follow.
    Unfollowed {
        /// The last file that is there.
        last: PathBuf,
    },
}

impl Ending {
    /// Whether messages may be missing at the end.
    pub fn lacks_messages(&self) -> bool {
        matches!(self, Ending::Cut { .. } | Ending::Unfollowed { .. })
    }

    /// What is missing, in words; `None` when nothing is.
    pub fn missing(&self) -> Option<String> {
        match self {
            Ending::Complete => None,
            Ending::NoIndex { len } => {
                Some(format!("the file ends at byte {len} without its index; all messages are there"))
            }
            Ending::Cut { len } => Some(format!(
                "the file is cut off at byte {len}: messages after the last whole record, and the index, are missing"
            )),
            Ending::Unfollowed { last } => {
                Some(format!("the file of the recording that should follow {} is missing", last.display()))
            }
        }
    }
}

/// One message.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its channel.
    pub channel: &'a Arc<Channel>,
    /// Number of the channel in the file.
    pub channel_id: u16,
    /// Number of the message in its channel.
    pub sequence: u32,
    /// When it arrived.
    pub log_ns: i64,
    /// When it was measured.
    pub publish_ns: i64,
    /// The message.
    pub data: &'a [u8],
}

/// What a log holds.
pub enum Event<'a> {
    /// A message.
    Message(Message<'a>),
    /// A metadata record.
    Metadata {
        /// Its name.
        name: String,
        /// Its entries.
        entries: BTreeMap<String, String>,
    },
    /// An attachment.
    Attachment {
        /// Its name.
        name: String,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// Streams a log.
pub struct LogReader {
    file: BufReader<File>,
    path: PathBuf,
    len: u64,
    /// How far the file has been read.
    at: u64,
    schemas: BTreeMap<u16, (String, String, Arc<[u8]>)>,
    channels: BTreeMap<u16, Arc<Channel>>,
    ending: Option<Ending>,
    /// A record of the file as it is there.
    body: Vec<u8>,
    /// The records that are being read: those of one chunk, or a single one that lies in none.
    records: Vec<u8>,
    next_record: usize,
    /// Whether they are of the chunk that the file is cut off in, unchecked.
    salvaging: bool,
    unchecked: u64,
    rotation: Option<Rotation>,
}

/// Where the reader is in a recording of several files.
struct Rotation {
    /// Number of the file that is read.
    number: u32,
    /// What all files of the recording have in common, once the first has told it.
    started_ns: Option<String>,
    /// Whether the file that is read has said that it belongs here.
    is_known: bool,
    /// Whether it has said that another follows.
    is_followed: bool,
    following: VecDeque<PathBuf>,
    /// Bytes of the files before, and of all of them.
    bytes: [u64; 2],
}

impl LogReader {
    /// Opens a log and checks that it is one: a file, or a recording by its folder, its manifest or its first file.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut following = match LogFiles::find(path)? {
            LogFiles::One(file) => return Self::open_file(&file),
            LogFiles::Rotation(files) => files,
        };
        let length = |file: &PathBuf| file.metadata().map_or(0, |found| found.len());
        let all_bytes = following.iter().map(length).sum();
        let first = following.pop_front().ok_or_else(|| ReadError::Missing { path: path.to_owned() })?;
        let mut reader = Self::open_file(&first)?;
        reader.rotation = Some(Rotation {
            number: 0,
            started_ns: None,
            is_known: false,
            is_followed: false,
            following,
            bytes: [0, all_bytes],
        });
        Ok(reader)
    }

    /// Opens one file, whatever else belongs to it.
    pub fn open_file(path: &Path) -> Result<Self, ReadError> {
        let io = |error| ReadError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut reader = LogReader {
            file: BufReader::new(file),
            path: path.to_owned(),
            len,
            at: 0,
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
            ending: None,
            body: Vec::new(),
            records: Vec::new(),
            next_record: 0,
            salvaging: false,
            unchecked: 0,
            rotation: None,
        };
        if reader.array()? != Some(MAGIC) {
            return Err(ReadError::NotMcap { path: path.to_owned() });
        }
        Ok(reader)
    }

    /// The file, of several the one that is being read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much has been read, and how much there is: for progress.
    pub fn progress(&self) -> (u64, u64) {
        match &self.rotation {
            None => (self.at, self.len),
            Some(Rotation { bytes: [before, all], .. }) => (before + self.at, *all),
        }
    }

    /// Messages given so far out of the chunk that the file is cut off in, whose checksum nobody can check.
    pub fn unchecked(&self) -> u64 {
        self.unchecked
    }

    /// How the log ended; `None` before `next` has given `None`.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The channels met so far, by number.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Arc<Channel>)> {
        self.channels.iter().map(|(id, channel)| (*id, channel))
    }

    /// The next event; `None` at the end, whole or cut.
    #[allow(clippy::should_implement_trait)] // events borrow from the reader
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ReadError> {
        loop {
            let Some((opcode, place)) = self.record()? else {
                if self.open_following()? {
                    continue;
                }
                return Ok(None);
            };
            let start = place.start;
            match Record::parse(opcode, &self.records[place]) {
                Err(error) => return Err(self.damaged(error)),
                Ok(Record::Schema { id, name, encoding, data }) => {
                    self.schemas.insert(id, (name, encoding, data.into()));
                }
                Ok(Record::Channel { id, schema, topic, encoding, metadata }) => {
                    self.open_channel(id, schema, topic, encoding, metadata)?;
                }
                Ok(Record::Metadata { name, entries }) => {
                    if self.takes_metadata(&name, &entries)? {
                        return Ok(Some(Event::Metadata { name, entries }));
                    }
                }
                Ok(Record::Attachment { .. }) if !self.is_first_file() => {}
                Ok(Record::Attachment { name, data }) => {
                    return Ok(Some(Event::Attachment { name, data: data.to_vec() }));
                }
                Ok(Record::Message { channel: channel_id, sequence, log_ns, publish_ns, data }) => {
                    let Some(channel) = self.channels.get(&channel_id) else {
                        return Err(self.damaged(Damage::UnknownChannel { sequence, channel: channel_id }));
                    };
                    self.unchecked += u64::from(self.salvaging);
                    let data = &self.records[start + data.start..start + data.end];
                    return Ok(Some(Event::Message(Message {
                        channel,
                        channel_id,
                        sequence,
                        log_ns,
                        publish_ns,
                        data,
                    })));
                }
                Ok(Record::DataEnd) => self.read_end()?,
                Ok(Record::Other) => {}
            }
        }
    }

    fn is_first_file(&self) -> bool {
        self.rotation.as_ref().is_none_or(|rotation| rotation.number == 0)
    }

    /// Goes on with the recording's next file; false if there is none.
    fn open_following(&mut self) -> Result<bool, ReadError> {
        let Some(mut rotation) = self.rotation.take() else { return Ok(false) };
        let Some(next) = rotation.following.pop_front() else {
            if rotation.is_followed && self.ending == Some(Ending::Complete) {
                self.ending = Some(Ending::Unfollowed { last: self.path.clone() });
            }
            self.rotation = Some(rotation);
            return Ok(false);
        };
        if let Some(missing) = self.ending.as_ref().and_then(Ending::missing) {
            return Err(ReadError::CutInside { path: self.path.clone(), missing, next });
        }
        let [before, _] = &mut rotation.bytes;
        *before += self.len;
        (rotation.number, rotation.is_known, rotation.is_followed) = (rotation.number + 1, false, false);
        let opened = Self::open_file(&next)?;
        let (channels, unchecked) = (std::mem::take(&mut self.channels), self.unchecked);
        *self = LogReader { channels, unchecked, rotation: Some(rotation), ..opened };
        Ok(true)
    }

    /// Whether a metadata record is one of the log as a whole; holds a file against the recording that it should be of.
    fn takes_metadata(&mut self, name: &str, entries: &BTreeMap<String, String>) -> Result<bool, ReadError> {
        let Some(rotation) = &mut self.rotation else { return Ok(true) };
        if name == RECORDING_END {
            rotation.is_followed = entries.get("another_follows").is_some_and(|follows| follows == "yes");
            return Ok(rotation.following.is_empty());
        }
        if name == RECORDING_HEADER {
            let started_ns = entries.get("started_ns").cloned().unwrap_or_default();
            let is_same = *rotation.started_ns.get_or_insert_with(|| started_ns.clone()) == started_ns;
            if !is_same || entries.get("file").is_none_or(|file| *file != rotation.number.to_string()) {
                return Err(ReadError::Stranger { path: self.path.clone(), number: rotation.number });
            }
            rotation.is_known = true;
        }
        Ok(rotation.number == 0)
    }

    /// Kind and place in `records` of the next record; `None` at the end.
    fn record(&mut self) -> Result<Option<(u8, Range<usize>)>, ReadError> {
        loop {
            if self.ending.is_some() {
                return Ok(None);
            }
            if self.next_record < self.records.len() {
                if let Some(found) = self.record_in_hand()? {
                    return Ok(Some(found));
                }
            } else if self.salvaging {
                self.ending = Some(Ending::Cut { len: self.len });
            } else {
                self.load()?;
            }
        }
    }

    /// The next of the records in hand. One that is not whole is the end of a chunk that was cut off, else damage.
    fn record_in_hand(&mut self) -> Result<Option<(u8, Range<usize>)>, ReadError> {
        let rest = &self.records[self.next_record..];
        let (opcode, found) = rest.first_chunk().map_or((0, 0), records::head);
        let left = rest.len().saturating_sub(HEAD_BYTES) as u64;
        if rest.len() < HEAD_BYTES || found > left {
            if self.salvaging {
                self.next_record = self.records.len();
                return Ok(None);
            }
            return Err(self.damaged(Damage::Overrun { opcode, found, left }));
        }
        let start = self.next_record + HEAD_BYTES;
        self.next_record = start + found as usize;
        Ok(Some((opcode, start..self.next_record)))
    }

    /// Takes the next record of the file into the hand: the records in it, if it is a chunk.
    fn load(&mut self) -> Result<(), ReadError> {
        self.records.clear();
        self.next_record = 0;
        let Some(head) = self.array::<HEAD_BYTES>()? else {
            self.ending = Some(Ending::Cut { len: self.len });
            return Ok(());
        };
        let (opcode, length) = records::head(&head);
        let is_cut = length > self.len.saturating_sub(self.at);
        if is_cut && opcode != op::CHUNK {
            self.ending = Some(Ending::Cut { len: self.len });
            return Ok(());
        }
        if length > MAX_RECORD_BYTES && !is_cut {
            return Err(self.damaged(Damage::TooLarge { opcode, found: length }));
        }
        if opcode != op::CHUNK {
            self.records.extend_from_slice(&head);
            return read_onto(&mut self.file, length, &mut self.at, &mut self.records).map_err(|error| self.io(error));
        }
        self.body.clear();
        let length = length.min(MAX_RECORD_BYTES);
        read_onto(&mut self.file, length, &mut self.at, &mut self.body).map_err(|error| self.io(error))?;
        match records::inflate(&self.body, is_cut, &mut self.records) {
            Ok(()) => {
                self.salvaging = is_cut;
                Ok(())
            }
            // not even the head of the chunk is whole
            Err(_) if is_cut => {
                self.ending = Some(Ending::Cut { len: self.len });
                Ok(())
            }
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// Reads what lies behind the data: a summary that repeats what was read, and the end mark.
    fn read_end(&mut self) -> Result<(), ReadError> {
        let mut is_footer = false;
        while !is_footer {
            let head = self.array::<HEAD_BYTES>()?;
            let length = head.as_ref().map(records::head);
            let Some((opcode, length)) = length.filter(|(_, length)| *length <= self.len.saturating_sub(self.at))
            else {
                self.ending = Some(Ending::NoIndex { len: self.len });
                return Ok(());
            };
            self.at += length;
            self.file.seek(SeekFrom::Start(self.at)).map_err(|error| self.io(error))?;
            is_footer = opcode == op::FOOTER;
        }
        match self.array()? {
            None => self.ending = Some(Ending::NoIndex { len: self.len }),
            Some(mark) if mark == MAGIC => self.ending = Some(Ending::Complete),
            Some(mark) => return Err(self.damaged(Damage::EndMark(mark))),
        }
        Ok(())
    }

    /// The next bytes of the file; `None` where it ends before.
    fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ReadError> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {
                self.at += N as u64;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    fn io(&self, error: std::io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), error }
    }

    fn open_channel(
        &mut self,
        id: u16,
        schema: u16,
        topic: String,
        message_encoding: String,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), ReadError> {
        if let Some(found) = metadata.get(SCHEMA_VERSION_KEY)
            && !found.parse::<u32>().is_ok_and(|version| (1..=SCHEMA_VERSION).contains(&version))
        {
            return Err(ReadError::SchemaVersion {
                path: self.path.clone(),
                topic,
                expected: SCHEMA_VERSION,
                found: found.clone(),
            });
        }
        let (schema_name, schema_encoding, schema) = self.schemas.get(&schema).cloned().unwrap_or_default();
        let channel = Channel { topic, message_encoding, schema_name, schema_encoding, schema, metadata };
        if let Some(rotation) = &self.rotation {
            // whoever reads the log has the right to know a channel by its number
            let is_same = self.channels.get(&id).is_none_or(|known| **known == channel);
            if !is_same || !rotation.is_known {
                return Err(ReadError::Stranger { path: self.path.clone(), number: rotation.number });
            }
        }
        self.channels.insert(id, Arc::new(channel));
        Ok(())
    }

    fn damaged(&self, error: Damage) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), at: self.at, len: self.len, error }
    }
}

/// Adds the next `length` bytes of a file, or what is left of it, to `bytes`.
fn read_onto(file: &mut BufReader<File>, length: u64, at: &mut u64, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    *at += file.take(length).read_to_end(bytes)? as u64;
    Ok(())
}

impl Message<'_> {
    /// Reads the message as one of our records.
    pub fn record<R: crate::record::Record>(&self, path: &Path) -> Result<R, ReadError> {
        R::decode(self.data).map_err(|error| self.wrong(path, error.to_string()))
    }

    /// An error about this message.
    pub fn wrong(&self, path: &Path, error: String) -> ReadError {
        ReadError::Message { path: path.to_owned(), topic: self.channel.topic.clone(), sequence: self.sequence, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::writer::{Compression, LogWriter};
    use crate::messages::{Account, TickDecision};

    fn write(path: &Path, compression: Compression, messages: u64) {
        let mut log = LogWriter::create(path, compression).unwrap();
        log.metadata("catseye:run", BTreeMap::from([("backend".to_owned(), "none".to_owned())])).unwrap();
        log.attach("rig.toml", "application/toml", b"schema = 1").unwrap();
        let ticks = log.channel(&Channel::of_record::<TickDecision>("/ticks")).unwrap();
        let accounts = log.channel(&Channel::of_record::<Account>("/accounts")).unwrap();
        for tick in 0..messages {
            let time = tick as i64 * 100;
            log.write_record(ticks, time, &TickDecision { tick, ..TickDecision::default() }).unwrap();
            log.write_record(
                accounts,
                time,
                &Account { name: format!("sensor {tick}").repeat(40), ..Account::default() },
            )
            .unwrap();
        }
        log.finish().unwrap();
    }

    fn read(path: &Path) -> Result<(Vec<u64>, Ending), ReadError> {
        let mut reader = LogReader::open(path)?;
        let mut ticks = Vec::new();
        while let Some(event) = reader.next()? {
            if let Event::Message(message) = event
                && message.channel.topic == "/ticks"
            {
                assert_eq!(u64::from(message.sequence), ticks.len() as u64);
                ticks.push(message.record::<TickDecision>(path)?.tick);
            }
        }
        Ok((ticks, reader.ending().unwrap().clone()))
    }

    #[test]
    fn a_log_comes_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::Zstd, Compression::Lz4, Compression::None] {
            let path = folder.path().join("a/b/log.mcap");
            write(&path, compression, 3000);
            assert_eq!(read(&path).unwrap(), ((0..3000).collect(), Ending::Complete));
            assert!(!path.with_extension("mcap.part").exists());
        }
    }

    #[test]
    fn an_unfinished_log_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        drop(LogWriter::create(&path, Compression::Zstd).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cut_log_is_read_up_to_its_last_whole_record() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.mcap");
        for compression in [Compression::Zstd, Compression::Lz4, Compression::None] {
            write(&whole, compression, 3000);
            let bytes = std::fs::read(&whole).unwrap();
            let cut = folder.path().join("cut.mcap");
            let mut last = 0;
            for part in 1..40 {
                std::fs::write(&cut, &bytes[..(bytes.len() - 1) * part / 39]).unwrap();
                let (ticks, ending) = read(&cut).unwrap();
                assert_ne!(ending, Ending::Complete);
                assert!(ending.missing().is_some());
                assert_eq!(ticks, (0..ticks.len() as u64).collect::<Vec<_>>());
                assert!(ticks.len() >= last, "a longer file gave fewer messages");
                last = ticks.len();
            }
            assert_eq!(last, 3000, "only the index was missing");
        }
    }

    #[test]
    fn a_record_that_overruns_its_chunk_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let mut bytes = MAGIC.to_vec();
        // a chunk without compression or checksum, of one record that claims 100 bytes
        bytes.push(op::CHUNK);
        bytes.extend_from_slice(&49u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&9u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&9u64.to_le_bytes());
        bytes.push(op::MESSAGE);
        bytes.extend_from_slice(&100u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 200]);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("claims 100 bytes, its chunk has 0 left"), "{error}");
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_harmless_but_never_a_panic() {
        for compression in [Compression::Zstd, Compression::Lz4, Compression::None] {
            flip_bits(compression);
        }
    }

    fn flip_bits(compression: Compression) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        write(&path, compression, 200);
        let bytes = std::fs::read(&path).unwrap();
        let mut errors = 0;
        for at in (8..bytes.len()).step_by(7) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            match read(&path) {
                Ok((ticks, _)) => assert!(ticks.iter().copied().eq(0..ticks.len() as u64)),
                Err(_) => errors += 1,
            }
        }
        assert!(errors > 100, "{errors} of the flips were noticed");
    }

    #[test]
    fn other_files_and_newer_schemas_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        std::fs::write(&path, b"not a log").unwrap();
        assert!(matches!(read(&path), Err(ReadError::NotMcap { .. })));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path), Err(ReadError::NotMcap { .. })));
        let mut log = LogWriter::create(&path, Compression::None).unwrap();
        let mut channel = Channel::of_record::<Account>("/accounts");
        channel.metadata.insert(SCHEMA_VERSION_KEY.to_owned(), "7".to_owned());
        log.channel(&channel).unwrap();
        log.finish().unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("expected schema version 2 or older, found 7"), "{error}");
    }
}
