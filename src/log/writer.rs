//! Writing logs.
//!
//! A log grows in `NAME.part` beside its place and takes its name when it is finished, so nothing half-written ever
//! carries the name; a writer that is dropped unfinished removes its part. Chunks are compressed and carry CRCs, the
//! index is written at the end, every channel counts its messages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use mcap::records::MessageHeader;
use thiserror::Error;

use super::Channel;
use crate::file::part_of;
use crate::record::Record;

/// Why a log could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file system said no; a full disk for one.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The MCAP writer said no.
    #[error("{path}: {error}")]
    Mcap {
        /// The file.
        path: PathBuf,
        /// Its words.
        error: mcap::McapError,
    },
}

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Small.
    #[default]
    Zstd,
    /// Fast.
    Lz4,
    /// Not at all.
    None,
}

/// Number of a channel in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId(u16);

/// Bytes after which a chunk is closed: what a power loss can cost.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// An MCAP file being written.
pub struct LogWriter<W: Write + Seek = BufWriter<File>> {
    inner: Option<mcap::Writer<W>>,
    path: PathBuf,
    /// Where it grows, and what is removed if it stays unfinished; `None` where somebody else looks after the file.
    part: Option<PathBuf>,
    sequences: BTreeMap<ChannelId, u32>,
    scratch: Vec<u8>,
}

impl LogWriter {
    /// Starts a log at `path`; the folder is made if need be.
    pub fn create(path: &Path, compression: Compression) -> Result<Self, WriteError> {
        let io = |error| WriteError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let part = part_of(path);
        let file = File::create(&part).map_err(io)?;
        let target = BufWriter::with_capacity(1 << 18, file);
        Self::start(path, Some(part), target, options(compression).chunk_size(Some(CHUNK_BYTES)))
    }

    /// Writes the index and gives the log its name.
    pub fn finish(mut self) -> Result<PathBuf, WriteError> {
        let target = self.end()?;
        let io = |error| WriteError::Io { path: self.path.clone(), error };
        if let Some(mut file) = target {
            file.flush().and_then(|()| file.stream_position()).map_err(io)?;
            file.get_ref().sync_all().map_err(io)?;
        }
        if let Some(part) = self.part.take() {
            std::fs::rename(&part, &self.path).inspect_err(|_| drop(std::fs::remove_file(&part))).map_err(io)?;
        }
        Ok(self.path.clone())
    }
}

impl<W: Write + Seek> LogWriter<W> {
    /// Starts a log on a target of the caller's, who looks after the file; `path` names it in errors. Nothing is written
    /// twice, and a chunk ends with [`flush`](Self::flush) alone and is written at once, so that what was flushed is
    /// whole and nothing else of a chunk ever reaches the target.
    pub fn stream(path: &Path, target: W, compression: Compression) -> Result<Self, WriteError> {
        Self::start(path, None, target, options(compression).chunk_size(None).disable_seeking(true))
    }

    fn start(path: &Path, part: Option<PathBuf>, target: W, options: mcap::WriteOptions) -> Result<Self, WriteError> {
        let inner = options.create(target).map_err(|error| failed(path, error))?;
        Ok(LogWriter {
            inner: Some(inner),
            path: path.to_owned(),
            part,
            sequences: BTreeMap::new(),
            scratch: Vec::new(),
        })
    }

    /// Writes the index of a log on a target of the caller's; the log then takes no more.
    pub fn finish_stream(&mut self) -> Result<(), WriteError> {
        let target = self.end()?;
        target.map_or(Ok(()), |mut target| target.flush()).map_err(|error| failed(&self.path, error.into()))
    }

    /// Writes the index, and gives the target back.
    fn end(&mut self) -> Result<Option<W>, WriteError> {
        self.mcap(|inner| inner.finish().map(|_| ()))?;
        Ok(self.inner.take().map(mcap::Writer::into_inner))
    }

    /// Where the log will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn mcap<R>(&mut self, f: impl FnOnce(&mut mcap::Writer<W>) -> mcap::McapResult<R>) -> Result<R, WriteError> {
        let inner = self.inner.as_mut().ok_or(mcap::McapError::AttemptedWriteAfterFailure);
        inner.and_then(f).map_err(|error| failed(&self.path, error))
    }

    /// Opens a channel, or finds the one that is the same.
    pub fn channel(&mut self, channel: &Channel) -> Result<ChannelId, WriteError> {
        self.mcap(|inner| {
            let schema = if channel.schema_name.is_empty() {
                0
            } else {
                inner.add_schema(&channel.schema_name, &channel.schema_encoding, &channel.schema)?
            };
            inner.add_channel(schema, &channel.topic, &channel.message_encoding, &channel.metadata).map(ChannelId)
        })
    }

    /// Writes a message with the channel's next sequence number.
    pub fn write(&mut self, channel: ChannelId, log_ns: i64, publish_ns: i64, data: &[u8]) -> Result<u32, WriteError> {
        let next = self.sequences.entry(channel).or_insert(0);
        let sequence = *next;
        *next = next.wrapping_add(1);
        self.write_as(channel, sequence, log_ns, publish_ns, data)?;
        Ok(sequence)
    }

    /// Writes a message with a sequence number of the caller's.
    pub fn write_as(
        &mut self,
        channel: ChannelId,
        sequence: u32,
        log_ns: i64,
        publish_ns: i64,
        data: &[u8],
    ) -> Result<(), WriteError> {
        // MCAP's times are unsigned; a stamp before 1970 is kept as its two's complement and comes back the same
        let header =
            MessageHeader { channel_id: channel.0, sequence, log_time: log_ns as u64, publish_time: publish_ns as u64 };
        self.mcap(|inner| inner.write_to_known_channel(&header, data))
    }

    /// Writes one of our records.
    pub fn write_record(&mut self, channel: ChannelId, time_ns: i64, record: &impl Record) -> Result<u32, WriteError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        record.encode(&mut scratch);
        let written = self.write(channel, time_ns, time_ns, &scratch);
        self.scratch = scratch;
        written
    }

    /// Writes one of Foxglove's messages.
    pub fn write_foxglove<M: foxglove::Encode>(
        &mut self,
        channel: ChannelId,
        log_ns: i64,
        publish_ns: i64,
        message: &M,
    ) -> Result<u32, WriteError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // a Vec takes any length, so the encoder has nothing to complain about
        let _ = message.encode(&mut scratch);
        let written = self.write(channel, log_ns, publish_ns, &scratch);
        self.scratch = scratch;
        written
    }

    /// Writes a metadata record.
    pub fn metadata(&mut self, name: &str, metadata: BTreeMap<String, String>) -> Result<(), WriteError> {
        self.mcap(|inner| inner.write_metadata(&mcap::records::Metadata { name: name.to_owned(), metadata }))
    }

    /// Writes an attachment.
    pub fn attach(&mut self, name: &str, media_type: &str, data: &[u8]) -> Result<(), WriteError> {
        self.mcap(|inner| {
            inner.attach(&mcap::Attachment {
                log_time: 0,
                create_time: 0,
                name: name.to_owned(),
                media_type: media_type.to_owned(),
                data: data.into(),
            })
        })
    }

    /// Ends the open chunk, so that everything so far can be read after a power loss.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.mcap(mcap::Writer::flush)
    }
}

impl<W: Write + Seek> Drop for LogWriter<W> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // not finished: `into_inner` keeps the crate's own drop from writing an index
            drop(inner.into_inner());
        }
        if let Some(part) = self.part.take() {
            let _ = std::fs::remove_file(part);
        }
    }
}

fn options(compression: Compression) -> mcap::WriteOptions {
    let compression = match compression {
        Compression::Zstd => Some(mcap::Compression::Zstd),
        Compression::Lz4 => Some(mcap::Compression::Lz4),
        Compression::None => None,
    };
    mcap::WriteOptions::new()
        .compression(compression)
        .compression_level(1)
        .profile("catseye")
        .library(concat!("catseye ", env!("CARGO_PKG_VERSION")))
}

fn failed(path: &Path, error: mcap::McapError) -> WriteError {
    let path = path.to_owned();
    match error {
        mcap::McapError::Io(error) => WriteError::Io { path, error },
        error => WriteError::Mcap { path, error },
    }
}
