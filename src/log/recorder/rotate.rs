//! The files of a recording: `NAME_0000.mcap`, `NAME_0001.mcap`, and so on, a new one by size or by time.
//!
//! Each file stands alone: channels, schemas, attachments and metadata are repeated, and its first record says which file of
//! which recording it is and which number each channel had reached. Its last says whether another follows. A file grows as
//! `.part` and takes its name when it is whole. Of a chunk nothing reaches the file before all of it is there, so that a
//! crash costs at most what came since the last flush; a write that fails cuts the file to its last whole chunk.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::manifest::{Ending, FileEntry, Tally, Written};
use super::priority::{DropRun, Drops, RecorderDrop, RecorderDropReason, SensorMessage, Slot};
use super::volume::{Part, Volume};
use super::{Fsync, Options, Preamble};
use crate::file::part_of;
use crate::log::writer::{ChannelId, LogWriter, WriteError};
use crate::log::{Channel, RECORDING_END, RECORDING_HEADER, TOPIC_RECORDER_DROP};
use crate::record::Record;

/// Name of a recording's file.
pub fn file_name(name: &str, index: u32) -> String {
    format!("{name}_{index:04}.mcap")
}

/// Name and number of the recording's file that this is, and whether it is one that was left as `.part`.
pub fn parse_file_name(file: &str) -> Option<(&str, u32, bool)> {
    let (stem, is_part) = match file.strip_suffix(".part") {
        Some(stem) => (stem, true),
        None => (file, false),
    };
    let (name, digits) = stem.strip_suffix(".mcap")?.rsplit_once('_')?;
    let is_number = digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let index = digits.parse().ok().filter(|_| is_number && !name.is_empty())?;
    Some((name, index, is_part))
}

/// The files, and the accounts of what is in them.
pub struct Rotation {
    volume: Box<dyn Volume>,
    folder: PathBuf,
    name: String,
    started_ns: u64,
    options: Options,
    preamble: Preamble,
    open: Option<OpenFile>,
    next_index: u32,
    /// Files that are closed, whole or not.
    pub files: Vec<FileEntry>,
    /// The channels' accounts, by slot: of what is flushed.
    pub(super) tallies: Vec<Tally>,
    drops_written: u32,
    newest_log_ns: i64,
    scratch: Vec<u8>,
}

struct OpenFile {
    log: LogWriter<BufWriter<Part>>,
    part: Part,
    path: PathBuf,
    channels: Vec<ChannelId>,
    drops: ChannelId,
    /// Arrival of its first message.
    first_log_ns: Option<i64>,
    messages: u64,
    /// Written since the last flush: not in the file yet.
    pending: Vec<Written>,
    pending_bytes: u64,
    flushed_at: Instant,
}

impl Rotation {
    /// Opens the first file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(
        volume: Box<dyn Volume>,
        folder: PathBuf,
        name: String,
        started_ns: u64,
        options: Options,
        preamble: Preamble,
    ) -> Result<Self, WriteError> {
        let tallies = preamble
            .channels
            .iter()
            .map(|(channel, priority)| Tally::new(&channel.topic, &channel.schema_name, *priority));
        let tallies = tallies.collect();
        let mut rotation = Rotation {
            volume,
            folder,
            name,
            started_ns,
            options,
            preamble,
            open: None,
            next_index: 0,
            files: Vec::new(),
            tallies,
            drops_written: 0,
            newest_log_ns: 0,
            scratch: Vec::new(),
        };
        rotation.open_next()?;
        Ok(rotation)
    }

    /// The file system that the files lie on.
    pub fn volume(&self) -> &dyn Volume {
        self.volume.as_ref()
    }

    /// When the recording began, by the system's clock.
    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// How long until something has to be flushed.
    pub fn patience(&self) -> Duration {
        let interval = self.options.flush_interval;
        self.open.as_ref().map_or(interval, |open| interval.saturating_sub(open.flushed_at.elapsed()))
    }

    /// Whether the open chunk is large or old enough to be written.
    pub fn is_flush_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.pending_bytes >= self.options.chunk_bytes || open.flushed_at.elapsed() >= self.options.flush_interval
        })
    }

    fn open_next(&mut self) -> Result<(), WriteError> {
        let path = self.folder.join(file_name(&self.name, self.next_index));
        let io = |error| WriteError::Io { path: path.clone(), error };
        let part = Part::new(self.volume.create(&part_of(&path)).map_err(io)?);
        let opened = self.begin(&path, &part).inspect_err(|_| {
            // nothing of a sensor is in it
            let _ = std::fs::remove_file(part_of(&path));
        })?;
        self.open = Some(opened);
        self.next_index += 1;
        Ok(())
    }

    /// Writes what every file begins with.
    fn begin(&self, path: &Path, part: &Part) -> Result<OpenFile, WriteError> {
        let reserved = self.options.max_file_bytes;
        if self.options.preallocate && self.options.guard().leaves_room_for(reserved, self.volume()) {
            part.reserve(reserved);
        }
        let target = BufWriter::with_capacity(1 << 16, part.clone());
        let mut log = LogWriter::stream(path, target, self.options.compression)?;
        log.metadata(RECORDING_HEADER, self.header())?;
        for (name, entries) in &self.preamble.metadata {
            log.metadata(name, entries.clone())?;
        }
        for (name, media_type, data) in &self.preamble.attachments {
            log.attach(name, media_type, data)?;
        }
        let channels = self.preamble.channels.iter().map(|(channel, _)| log.channel(channel));
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        let drops = log.channel(&Channel::of_record::<RecorderDrop>(TOPIC_RECORDER_DROP))?;
        log.flush()?;
        part.mark_whole();
        Ok(OpenFile {
            log,
            part: part.clone(),
            path: path.to_owned(),
            channels,
            drops,
            first_log_ns: None,
            messages: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            flushed_at: Instant::now(),
        })
    }

    /// Which file this is, and what every channel had reached before it.
    fn header(&self) -> BTreeMap<String, String> {
        let mut header = BTreeMap::from([
            ("name".to_owned(), self.name.clone()),
            ("started_ns".to_owned(), self.started_ns.to_string()),
            ("file".to_owned(), self.next_index.to_string()),
            ("flush_interval_ns".to_owned(), self.options.flush_interval.as_nanos().to_string()),
        ]);
        for tally in &self.tallies {
            if let Some(last) = tally.sequences.last {
                header.insert(format!("last.{}", tally.topic), last.to_string());
            }
        }
        header
    }

    /// Writes a message, in the next file if this one is full. `drops` are those noted so far.
    ///
    /// # Errors
    /// When the file cannot be written; the message is then not in it.
    pub fn write(&mut self, message: &SensorMessage, drops: impl FnOnce() -> Vec<DropRun>) -> Result<(), WriteError> {
        if self.is_full(message) {
            self.flush(drops())?;
            self.close(None)?;
            self.open_next()?;
        }
        let slot = usize::from(message.slot.0);
        let open = self.open.as_mut();
        let Some((open, channel)) =
            open.and_then(|open| open.channels.get(slot).copied().map(|channel| (open, channel)))
        else {
            let error = std::io::Error::other("no file with this channel is open");
            return Err(WriteError::Io { path: self.folder.clone(), error });
        };
        open.log.write_as(channel, message.sequence, message.log_ns, message.publish_ns, &message.data)?;
        open.first_log_ns.get_or_insert(message.log_ns);
        let bytes = message.data.len() as u64;
        open.pending_bytes += bytes;
        open.pending.push(Written {
            slot,
            sequence: message.sequence,
            bytes,
            log_ns: message.log_ns,
            publish_ns: message.publish_ns,
        });
        self.newest_log_ns = message.log_ns;
        Ok(())
    }

    fn is_full(&self, next: &SensorMessage) -> bool {
        let Some(open) = &self.open else { return false };
        let bytes = open.part.bytes() + open.pending_bytes + next.data.len() as u64;
        let age_ns = open.first_log_ns.map_or(0, |first_ns| next.log_ns.saturating_sub(first_ns));
        let is_old = self.options.max_file_duration.is_some_and(|max| age_ns >= max.as_nanos() as i64);
        open.first_log_ns.is_some() && (bytes > self.options.max_file_bytes || is_old)
    }

    /// Writes the open chunk, with the drops noted since the last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self, drops: Vec<DropRun>) -> Result<(), WriteError> {
        let written = drops.iter().try_for_each(|run| self.write_drop(*run));
        // they are in the accounts even where they could not be written
        self.account_drops(drops);
        written?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.log.flush()?;
        open.part.mark_whole();
        for written in open.pending.drain(..) {
            open.messages += 1;
            if let Some(tally) = self.tallies.get_mut(written.slot) {
                tally.wrote(written);
            }
        }
        open.pending_bytes = 0;
        open.flushed_at = Instant::now();
        if self.options.fsync == Fsync::PerChunk {
            open.part.sync().map_err(|error| WriteError::Io { path: open.path.clone(), error })?;
        }
        Ok(())
    }

    fn write_drop(&mut self, run: DropRun) -> Result<(), WriteError> {
        let (Some(open), Some(tally)) = (&mut self.open, self.tallies.get(usize::from(run.slot.0))) else {
            return Ok(());
        };
        let DropRun { first, last, count, reason, .. } = run;
        self.scratch.clear();
        RecorderDrop { topic: tally.topic.clone(), first, last, count, reason }.encode(&mut self.scratch);
        let (sequence, time_ns) = (self.drops_written, self.newest_log_ns);
        open.log.write_as(open.drops, sequence, time_ns, time_ns, &self.scratch)?;
        self.drops_written = sequence.wrapping_add(1);
        Ok(())
    }

    /// Takes drops into the accounts that no file says anything of.
    pub fn account_drops(&mut self, drops: Vec<DropRun>) {
        for run in drops {
            if let Some(tally) = self.tallies.get_mut(usize::from(run.slot.0)) {
                tally.dropped(run);
            }
        }
    }

    /// Ends the open file, which has been flushed: the last one by this ending, or one that another follows.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(&mut self, ending: Option<&Ending>) -> Result<(), WriteError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let io = |error| WriteError::Io { path: open.path.clone(), error };
        let follows = if ending.is_none() { "yes" } else { "no" };
        open.log.metadata(
            RECORDING_END,
            BTreeMap::from([
                ("another_follows".to_owned(), follows.to_owned()),
                ("ending".to_owned(), ending.map_or_else(|| "rotated".to_owned(), Ending::to_string)),
            ]),
        )?;
        open.log.finish_stream()?;
        open.part.trim().map_err(io)?;
        if self.options.fsync != Fsync::Never {
            open.part.sync().map_err(io)?;
        }
        std::fs::rename(part_of(&open.path), &open.path).map_err(io)?;
        if self.options.fsync != Fsync::Never {
            sync_folder(&self.folder).map_err(io)?;
        }
        let name = file_of(&open.path);
        self.files.push(entry(name, &open.part, open.messages, true));
        self.open = None;
        Ok(())
    }

    /// Gives up the open file after a write that failed: it is cut to its last whole chunk, and stays `.part`. What had
    /// been written behind that is dropped.
    pub fn abandon(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut lost = Drops::default();
        for Written { slot, sequence, .. } in &open.pending {
            let (slot, reason) = (Slot(*slot as u16), RecorderDropReason::WriteFailed);
            lost.note(DropRun { slot, first: *sequence, last: *sequence, count: 1, reason });
        }
        self.account_drops(lost.drain());
        // a disk that cannot even cut a file leaves a longer one, which its reader cuts in the same place
        let _ = open.part.cut();
        let name = file_of(&part_of(&open.path));
        self.files.push(entry(name, &open.part, open.messages, false));
    }
}

fn entry(name: String, part: &Part, messages: u64, whole: bool) -> FileEntry {
    FileEntry { name, bytes: part.bytes(), xxh64: format!("{:016x}", part.digest()), messages, whole }
}

fn file_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Has the names in a folder outlive a power loss.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_read_back() {
        assert_eq!(parse_file_name(&file_name("drive_7", 12)), Some(("drive_7", 12, false)));
        assert_eq!(parse_file_name("a_12345.mcap.part"), Some(("a", 12345, true)));
        for other in ["a.mcap", "a_12.mcap", "_0000.mcap", "a_0000.mcap.bak", "a_+000.mcap", "a_00é0.mcap"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
