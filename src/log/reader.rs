//! Reading logs.
//!
//! Messages come in the order of the file, which for a recording is the order of arrival. The reader holds one chunk,
//! whatever the size of the file, and gives nothing out of a chunk whose CRC does not hold. A file that was cut off is
//! read up to its last whole record; [`Ending`] then says where it ends. Damage inside (a wrong CRC, a record that does
//! not parse) is an error, since what follows cannot be trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcap::records::Record as McapRecord;
use mcap::sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions};
use thiserror::Error;

use super::{Channel, SCHEMA_VERSION_KEY};
use crate::messages::SCHEMA_VERSION;

/// Largest record that is accepted.
pub const MAX_RECORD_BYTES: usize = 512 << 20;

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
        /// What the MCAP reader found.
        error: mcap::McapError,
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

/// How a file ends.
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
}

impl Ending {
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
    file: File,
    path: PathBuf,
    len: u64,
    fed: u64,
    linear: LinearReader,
    schemas: BTreeMap<u16, (String, String, Arc<[u8]>)>,
    channels: BTreeMap<u16, Arc<Channel>>,
    ending: Option<Ending>,
    after_data: bool,
    /// Whether the chunk that the file is cut off in is being read, unchecked.
    salvaging: bool,
    /// The bytes of the last message: the linear reader's buffer cannot stay borrowed across `next`.
    message: Vec<u8>,
}

/// What one record turned out to be.
enum Step {
    End,
    Read(usize),
    Message { id: u16, sequence: u32, log_ns: i64, publish_ns: i64 },
    Metadata(mcap::records::Metadata),
    Attachment { name: String, data: Vec<u8> },
    DataEnd,
    Nothing,
}

impl LogReader {
    /// Opens a log and checks that it is one.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |error| ReadError::Io { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut magic = [0; 8];
        let mut filled = 0;
        while filled < magic.len() {
            match file.read(&mut magic[filled..]).map_err(io)? {
                0 => break,
                n => filled += n,
            }
        }
        if magic != mcap::MAGIC {
            return Err(ReadError::NotMcap { path: path.to_owned() });
        }
        let options = LinearReaderOptions::default()
            .with_skip_start_magic(true)
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(MAX_RECORD_BYTES);
        Ok(LogReader {
            file,
            path: path.to_owned(),
            len,
            fed: magic.len() as u64,
            linear: LinearReader::new_with_options(options),
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
            ending: None,
            after_data: false,
            salvaging: false,
            message: Vec::new(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file, and how much of it has been read: for progress.
    pub fn progress(&self) -> (u64, u64) {
        (self.fed, self.len)
    }

    /// How the file ended; `None` before `next` has given `None`.
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
        if self.ending.is_some() {
            return Ok(None);
        }
        loop {
            match self.step()? {
                Step::End => return Ok(None),
                Step::Read(want) => self.feed(want)?,
                Step::DataEnd => self.after_data = true,
                Step::Nothing => {}
                Step::Metadata(record) => {
                    return Ok(Some(Event::Metadata { name: record.name, entries: record.metadata }));
                }
                Step::Attachment { name, data } => return Ok(Some(Event::Attachment { name, data })),
                Step::Message { id, sequence, log_ns, publish_ns } => {
                    let Some(channel) = self.channels.get(&id) else {
                        return Err(self.damaged(mcap::McapError::UnknownChannel(sequence, id)));
                    };
                    return Ok(Some(Event::Message(Message {
                        channel,
                        channel_id: id,
                        sequence,
                        log_ns,
                        publish_ns,
                        data: &self.message,
                    })));
                }
            }
        }
    }

    /// Takes one event from the MCAP reader.
    fn step(&mut self) -> Result<Step, ReadError> {
        let event = match self.linear.next_event() {
            None => {
                self.ending = Some(Ending::Complete);
                return Ok(Step::End);
            }
            Some(Err(mcap::McapError::UnexpectedEof)) if self.after_data => {
                self.ending = Some(Ending::NoIndex { len: self.len });
                return Ok(Step::End);
            }
            Some(Err(error)) => {
                let at_end = matches!(error, mcap::McapError::UnexpectedEof);
                if at_end && !self.salvaging && self.salvage()? {
                    return Ok(Step::Nothing);
                }
                if at_end || self.salvaging {
                    self.ending = Some(Ending::Cut { len: self.len });
                    return Ok(Step::End);
                }
                return Err(self.damaged(error));
            }
            Some(Ok(event)) => event,
        };
        let (opcode, data) = match event {
            LinearReadEvent::ReadRequest(want) => return Ok(Step::Read(want)),
            LinearReadEvent::Record { opcode, data } => (opcode, data),
        };
        if self.after_data {
            // the summary repeats what was read
            return Ok(Step::Nothing);
        }
        let record = match mcap::parse_record(opcode, data) {
            Ok(record) => record,
            Err(error) => return Err(self.damaged(error)),
        };
        match record {
            McapRecord::Message { header, data } => {
                self.message.clear();
                self.message.extend_from_slice(&data);
                Ok(Step::Message {
                    id: header.channel_id,
                    sequence: header.sequence,
                    log_ns: header.log_time as i64,
                    publish_ns: header.publish_time as i64,
                })
            }
            McapRecord::Schema { header, data } => {
                self.schemas.insert(header.id, (header.name, header.encoding, data.into_owned().into()));
                Ok(Step::Nothing)
            }
            McapRecord::Channel(channel) => {
                let channel = channel.clone();
                self.open_channel(channel)?;
                Ok(Step::Nothing)
            }
            McapRecord::Metadata(metadata) => Ok(Step::Metadata(metadata)),
            McapRecord::Attachment { header, data, .. } => {
                Ok(Step::Attachment { name: header.name, data: data.into_owned() })
            }
            McapRecord::DataEnd(_) => Ok(Step::DataEnd),
            _ => Ok(Step::Nothing),
        }
    }

    /// Turns to the chunk that the file ends in, if it ends in one: its CRC is lost, its whole records are not.
    fn salvage(&mut self) -> Result<bool, ReadError> {
        let Some(chunk_at) = self.last_record_at().map_err(|error| self.io(error))? else { return Ok(false) };
        self.file.seek(SeekFrom::Start(chunk_at)).map_err(|error| self.io(error))?;
        let options =
            LinearReaderOptions::default().with_skip_start_magic(true).with_record_length_limit(MAX_RECORD_BYTES);
        self.linear = LinearReader::new_with_options(options);
        self.salvaging = true;
        Ok(true)
    }

    /// Where the chunk begins that the file is cut off in; hops from record to record by their lengths.
    fn last_record_at(&mut self) -> std::io::Result<Option<u64>> {
        let mut at = mcap::MAGIC.len() as u64;
        while at + 9 <= self.len {
            self.file.seek(SeekFrom::Start(at))?;
            let mut head = [0; 9];
            self.file.read_exact(&mut head)?;
            let [opcode, length @ ..] = head;
            let end = at.saturating_add(9).saturating_add(u64::from_le_bytes(length));
            if end > self.len {
                return Ok((opcode == mcap::records::op::CHUNK).then_some(at));
            }
            at = end;
        }
        Ok(None)
    }

    fn io(&self, error: std::io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), error }
    }

    fn open_channel(&mut self, channel: mcap::records::Channel) -> Result<(), ReadError> {
        if let Some(found) = channel.metadata.get(SCHEMA_VERSION_KEY)
            && !found.parse::<u32>().is_ok_and(|version| (1..=SCHEMA_VERSION).contains(&version))
        {
            return Err(ReadError::SchemaVersion {
                path: self.path.clone(),
                topic: channel.topic,
                expected: SCHEMA_VERSION,
                found: found.clone(),
            });
        }
        let (schema_name, schema_encoding, schema) = self.schemas.get(&channel.schema_id).cloned().unwrap_or_default();
        let known = Channel {
            topic: channel.topic,
            message_encoding: channel.message_encoding,
            schema_name,
            schema_encoding,
            schema,
            metadata: channel.metadata,
        };
        self.channels.insert(channel.id, Arc::new(known));
        Ok(())
    }

    fn feed(&mut self, want: usize) -> Result<(), ReadError> {
        let into = self.linear.insert(want);
        let read = loop {
            match self.file.read(into) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map_err(|error| ReadError::Io { path: self.path.clone(), error })?;
        self.fed += read as u64;
        self.linear.notify_read(read);
        Ok(())
    }

    fn damaged(&self, error: mcap::McapError) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), at: self.fed, len: self.len, error }
    }
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
    fn a_flipped_bit_is_an_error_or_harmless_but_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        write(&path, Compression::Zstd, 200);
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
        assert!(error.contains("expected schema version 1 or older, found 7"), "{error}");
    }
}
