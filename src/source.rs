//! The source: a log is read on a thread of its own, and packets come out in the order of arrival.
//!
//! Reading, decompression and the decoding of videos happen here, ahead of the pipeline and bounded by a channel. What
//! is not a sensor of the rig is passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};

use catseye_calibration::rig::{Rig, RigError};
use catseye_sensors::packet::{PacketHeader, SensorId};
use catseye_sensors::picture::h264::{H264Decoder, Reorder};
use catseye_sensors::picture::{Encoding, Frame, Limits};
use thiserror::Error;

use crate::log::packet::{Content, SensorPacket, StampInfo, read_packet, sensors_by_topic};
use crate::log::reader::{Ending, Event, LogReader, Message, ReadError};
use crate::log::{RIG_ATTACHMENT, RUN_HEADER};
use crate::pipeline::Files;

/// Packets that travel together: one large or many small ones.
const BATCH: usize = 256;
/// Batches in flight. Video frames are large, so few.
const BATCHES: usize = 8;

/// What a log says about itself before the first message is needed.
#[derive(Debug, Default)]
pub struct Preamble {
    /// The rig that the log carries.
    pub rig: Option<Rig>,
    /// Files that came with the rig.
    pub files: Files,
    /// What ran, for logs of runs.
    pub run: BTreeMap<String, String>,
}

/// Why a log's own rig could not be had.
#[derive(Debug, Error)]
pub enum PreambleError {
    /// The log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The rig in it is wrong.
    #[error("the rig inside {path}: {error}")]
    Rig {
        /// The log.
        path: PathBuf,
        /// What is wrong.
        error: RigError,
    },
}

impl Preamble {
    /// Reads a log up to its first message.
    pub fn read(path: &Path) -> Result<Self, PreambleError> {
        let mut reader = LogReader::open(path)?;
        let mut preamble = Preamble::default();
        while let Some(event) = reader.next()? {
            match event {
                Event::Message(_) => break,
                Event::Metadata { name, entries } if name == RUN_HEADER => preamble.run = entries,
                Event::Metadata { .. } => {}
                Event::Attachment { name, data } if name == RIG_ATTACHMENT => {
                    let text = String::from_utf8_lossy(&data);
                    let rig = Rig::parse(&text, RIG_ATTACHMENT);
                    preamble.rig = Some(rig.map_err(|error| PreambleError::Rig { path: path.to_owned(), error })?);
                }
                Event::Attachment { name, data } => {
                    preamble.files.insert(PathBuf::from(name), data);
                }
            }
        }
        Ok(preamble)
    }
}

/// What the source saw, at its end.
#[derive(Clone, Debug)]
pub struct SourceSummary {
    /// How the file ended.
    pub ending: Ending,
    /// Messages that are of no sensor of the rig, by topic.
    pub passed_over: BTreeMap<String, u64>,
    /// Pictures of videos that could not be decoded, with the first words about each camera.
    pub undecodable: BTreeMap<u16, (u64, String)>,
}

/// What comes out.
pub enum Item {
    /// Packets in order.
    Packets(Vec<SensorPacket>),
    /// Nothing more.
    End(Box<SourceSummary>),
    /// Nothing more, because of this.
    Failed(Box<ReadError>),
}

/// A log being read.
pub struct Source {
    path: PathBuf,
    items: Receiver<Item>,
    fed: Arc<AtomicU64>,
    len: u64,
}

impl Source {
    /// Starts reading.
    pub fn open(path: &Path, rig: &Rig, limits: Limits) -> Result<Self, ReadError> {
        let reader = LogReader::open(path)?;
        let (_, len) = reader.progress();
        let (out, items) = sync_channel(BATCHES);
        let fed = Arc::new(AtomicU64::new(0));
        let thread = Thread {
            reader,
            sensors: sensors_by_topic(rig),
            channels: BTreeMap::new(),
            decoders: BTreeMap::new(),
            limits,
            batch: Vec::new(),
            out,
            fed: Arc::clone(&fed),
            summary: SourceSummary {
                ending: Ending::Complete,
                passed_over: BTreeMap::new(),
                undecodable: BTreeMap::new(),
            },
        };
        let error_path = path.to_owned();
        std::thread::Builder::new()
            .name("catseye-source".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| ReadError::Io { path: error_path, error })?;
        Ok(Source { path: path.to_owned(), items, fed, len })
    }

    /// A source that has nothing to give but this error.
    pub fn failed(error: ReadError) -> Self {
        let (out, items) = sync_channel(1);
        // the channel has room for one
        let _ = out.send(Item::Failed(Box::new(error)));
        Source { path: PathBuf::new(), items, fed: Arc::default(), len: 0 }
    }

    /// What is there now; `None` when nothing is.
    pub fn poll(&self) -> Option<Item> {
        match self.items.try_recv() {
            Ok(item) => Some(item),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.died()),
        }
    }

    /// What comes next, waited for at most this long.
    pub fn wait(&self, at_most: std::time::Duration) -> Option<Item> {
        match self.items.recv_timeout(at_most) {
            Ok(item) => Some(item),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(self.died()),
        }
    }

    /// The thread has gone without saying that it was done.
    fn died(&self) -> Item {
        let error = std::io::Error::other("the thread that reads the log has died");
        Item::Failed(Box::new(ReadError::Io { path: self.path.clone(), error }))
    }

    /// Bytes read, and bytes in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.fed.load(Ordering::Relaxed), self.len)
    }
}

struct VideoDecoder {
    decoder: H264Decoder,
    /// Headers of what was fed, by stamp: pictures come out in the order they are shown.
    headers: Vec<PacketHeader>,
}

struct Thread {
    reader: LogReader,
    sensors: BTreeMap<String, SensorId>,
    /// What is known of the file's channels: sensor and stamps, or nothing for what is no sensor.
    channels: BTreeMap<u16, Option<(SensorId, StampInfo)>>,
    decoders: BTreeMap<SensorId, VideoDecoder>,
    limits: Limits,
    batch: Vec<SensorPacket>,
    out: SyncSender<Item>,
    fed: Arc<AtomicU64>,
    summary: SourceSummary,
}

/// The receiver has gone: nobody wants more.
struct Gone;

impl Thread {
    fn run(mut self) {
        let last = match self.read_all() {
            Ok(Ok(())) => Item::End(Box::new(self.summary.clone())),
            Ok(Err(error)) => Item::Failed(Box::new(error)),
            Err(Gone) => return,
        };
        let _ = self.flush();
        let _ = self.out.send(last);
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.out.send(Item::Packets(batch)).map_err(|_| Gone)
    }

    fn push(&mut self, packet: SensorPacket) -> Result<(), Gone> {
        let is_large = !matches!(packet.content, Content::Can(_) | Content::Imu(_) | Content::Gnss(_));
        self.batch.push(packet);
        if is_large || self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn read_all(&mut self) -> Result<Result<(), ReadError>, Gone> {
        loop {
            self.fed.store(self.reader.progress().0, Ordering::Relaxed);
            let packet = match self.read_one() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let Some(packet) = packet else { continue };
            match &packet.content {
                Content::Picture { encoding: Encoding::H264, .. } => self.decode(packet)?,
                _ => self.push(packet)?,
            }
        }
        let sensors: Vec<SensorId> = self.decoders.keys().copied().collect();
        for sensor in sensors {
            if let Some(video) = self.decoders.get_mut(&sensor) {
                video.decoder.finish();
            }
            self.drain(sensor)?;
        }
        if let Some(ending) = self.reader.ending() {
            self.summary.ending = ending.clone();
        }
        Ok(Ok(()))
    }

    /// The next message of a sensor; `Some(None)` for any other, `None` at the end.
    fn read_one(&mut self) -> Result<Option<Option<SensorPacket>>, ReadError> {
        let path = self.reader.path().to_owned();
        let Some(event) = self.reader.next()? else { return Ok(None) };
        let Event::Message(message) = event else { return Ok(Some(None)) };
        let known = self.channels.entry(message.channel_id).or_insert_with(|| {
            let sensor = self.sensors.get(&message.channel.topic)?;
            Some((*sensor, StampInfo::of(message.channel)))
        });
        let Some((sensor, info)) = known else {
            count(&mut self.summary.passed_over, &message);
            return Ok(Some(None));
        };
        match read_packet(&message, *sensor, info) {
            Ok(Some(packet)) => Ok(Some(Some(packet))),
            Ok(None) => {
                count(&mut self.summary.passed_over, &message);
                Ok(Some(None))
            }
            Err(error) => Err(message.wrong(&path, error)),
        }
    }

    /// Feeds a video's decoder and passes on what it shows. What does not decode goes on as it is, so that the tick knows
    /// that its picture is missing.
    fn decode(&mut self, packet: SensorPacket) -> Result<(), Gone> {
        let sensor = packet.header.sensor;
        let Content::Picture { bytes, .. } = &packet.content else { return self.push(packet) };
        if !self.decoders.contains_key(&sensor) {
            match H264Decoder::new(self.limits, Reorder::FromStream) {
                Ok(decoder) => self.decoders.insert(sensor, VideoDecoder { decoder, headers: Vec::new() }),
                Err(error) => return self.give_up(packet, error.to_string()),
            };
        }
        let Some(video) = self.decoders.get_mut(&sensor) else { return Ok(()) };
        if let Err(error) = video.decoder.feed(bytes, packet.header.stamp.mapped_ns) {
            return self.give_up(packet, error.to_string());
        }
        video.headers.push(packet.header);
        self.drain(sensor)
    }

    fn give_up(&mut self, packet: SensorPacket, error: String) -> Result<(), Gone> {
        let entry = self.summary.undecodable.entry(packet.header.sensor.0).or_insert((0, error));
        entry.0 += 1;
        self.push(packet)
    }

    fn drain(&mut self, sensor: SensorId) -> Result<(), Gone> {
        loop {
            let mut frame = Frame::default();
            let Some(video) = self.decoders.get_mut(&sensor) else { return Ok(()) };
            let Some(stamp_ns) = video.decoder.pop(&mut frame) else { return Ok(()) };
            let Some(at) = video.headers.iter().position(|header| header.stamp.mapped_ns == stamp_ns) else { continue };
            let header = video.headers.remove(at);
            self.push(SensorPacket { header, content: Content::Frame(frame) })?;
        }
    }
}

fn count(passed_over: &mut BTreeMap<String, u64>, message: &Message) {
    match passed_over.get_mut(&message.channel.topic) {
        Some(count) => *count += 1,
        None => {
            passed_over.insert(message.channel.topic.clone(), 1);
        }
    }
}
