//! The source: a log is read on a thread of its own, and packets come out in the order of arrival.
//!
//! Reading, decompression and the decoding of videos happen here, ahead of the pipeline and bounded by a channel. What
//! is not a sensor of the rig is passed over, and so are a video's parameters that come without a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};

use catseye_calibration::rig::{Rig, RigError};
use catseye_sensors::packet::{PacketHeader, SensorId};
use catseye_sensors::picture::h264::{H264Decoder, H264Error, Reorder};
use catseye_sensors::picture::{Encoding, Frame, Limits};
use thiserror::Error;

use crate::log::packet::{Content, SensorPacket, StampInfo, read_packet, sensors_by_topic};
use crate::log::reader::{Ending, Event, LogReader, ReadError};
use crate::log::{RIG_ATTACHMENT, RUN_HEADER, SOURCE_HEADER};
use crate::pipeline::Files;

/// Packets that travel together: one large or many small ones.
const BATCH: usize = 256;
/// Batches in flight. Video frames are large, so few.
const BATCHES: usize = 8;
/// Most pictures that a video may hold back (ITU-T H.264, A.3.1).
const MAX_REORDER: usize = 16;

/// What a log says about itself before the first message is needed.
#[derive(Debug, Default)]
pub struct Preamble {
    /// The rig that the log carries.
    pub rig: Option<Rig>,
    /// Files that came with the rig.
    pub files: Files,
    /// Where the log came from.
    pub source: BTreeMap<String, String>,
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
                Event::Metadata { name, entries } if name == SOURCE_HEADER => preamble.source = entries,
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
    /// Messages that are of no sensor of the rig or hold nothing for it, by topic.
    pub passed_over: BTreeMap<String, u64>,
    /// Pictures of videos that could not be decoded, with the first words about each camera.
    pub undecodable: BTreeMap<u16, (u64, String)>,
}

impl SourceSummary {
    /// Of live sensors, which have no file that could be cut.
    pub(crate) fn live() -> Self {
        SourceSummary { ending: Ending::Complete, passed_over: BTreeMap::new(), undecodable: BTreeMap::new() }
    }
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

    /// What live sensors send.
    pub(crate) fn live(items: Receiver<Item>) -> Self {
        Source { path: PathBuf::new(), items, fed: Arc::default(), len: 0 }
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
    /// Headers of the pictures that are held back: pictures come out in the order they are shown.
    headers: Vec<PacketHeader>,
    /// What could not be decoded while pictures were held back, by stamp: those that come before it go first.
    failed: Vec<SensorPacket>,
}

impl VideoDecoder {
    fn new(limits: Limits) -> Result<Self, H264Error> {
        let decoder = H264Decoder::new(limits, Reorder::FromStream)?;
        Ok(VideoDecoder { decoder, headers: Vec::new(), failed: Vec::new() })
    }

    /// Takes an access unit, and says whether it took a picture.
    fn feed(&mut self, access_unit: &[u8], header: PacketHeader) -> Result<bool, H264Error> {
        let is_picture = self.decoder.feed(access_unit, header.stamp.mapped_ns)?;
        if is_picture {
            self.headers.push(header);
        }
        Ok(is_picture)
    }

    /// Keeps what could not be decoded until its turn has come.
    fn keep(&mut self, packet: SensorPacket) {
        let stamp_ns = packet.header.stamp.mapped_ns;
        let at = self.failed.partition_point(|other| other.header.stamp.mapped_ns <= stamp_ns);
        self.failed.insert(at, packet);
        if self.failed.len() > MAX_REORDER {
            // after so many, nothing that is held back waits for a picture that has yet to come
            self.decoder.finish();
        }
    }

    /// Packets whose turn has come, in the order of their stamps.
    fn take_ready(&mut self) -> Vec<SensorPacket> {
        let mut ready = Vec::new();
        let mut frame = Frame::default();
        while let Some(stamp_ns) = self.decoder.pop(&mut frame) {
            let before = self.failed.partition_point(|packet| packet.header.stamp.mapped_ns < stamp_ns);
            ready.extend(self.failed.drain(..before));
            let Some(at) = self.headers.iter().position(|header| header.stamp.mapped_ns == stamp_ns) else { continue };
            let header = self.headers.remove(at);
            ready.push(SensorPacket { header, content: Content::Frame(std::mem::take(&mut frame)) });
        }
        if self.headers.is_empty() {
            ready.append(&mut self.failed);
        }
        ready
    }
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
            count(&mut self.summary.passed_over, &message.channel.topic);
            return Ok(Some(None));
        };
        match read_packet(&message, *sensor, info) {
            Ok(Some(packet)) => Ok(Some(Some(packet))),
            Ok(None) => {
                count(&mut self.summary.passed_over, &message.channel.topic);
                Ok(Some(None))
            }
            Err(error) => Err(message.wrong(&path, error)),
        }
    }

    /// Feeds a video's decoder and passes on what it shows. A picture that does not decode goes on as it is when its
    /// turn comes, so that the tick knows that it is missing.
    fn decode(&mut self, packet: SensorPacket) -> Result<(), Gone> {
        let sensor = packet.header.sensor;
        let Content::Picture { bytes, .. } = &packet.content else { return self.push(packet) };
        if !self.decoders.contains_key(&sensor) {
            match VideoDecoder::new(self.limits) {
                Ok(video) => self.decoders.insert(sensor, video),
                Err(error) => {
                    self.note_undecodable(sensor, &error);
                    return self.push(packet);
                }
            };
        }
        let Some(video) = self.decoders.get_mut(&sensor) else { return Ok(()) };
        match video.feed(bytes, packet.header) {
            Ok(true) => {}
            Ok(false) => self.pass_over(sensor),
            Err(error) => {
                video.keep(packet);
                self.note_undecodable(sensor, &error);
            }
        }
        self.drain(sensor)
    }

    fn pass_over(&mut self, sensor: SensorId) {
        if let Some((topic, _)) = self.sensors.iter().find(|(_, id)| **id == sensor) {
            count(&mut self.summary.passed_over, topic);
        }
    }

    fn note_undecodable(&mut self, sensor: SensorId, error: &H264Error) {
        let entry = self.summary.undecodable.entry(sensor.0).or_insert_with(|| (0, error.to_string()));
        entry.0 += 1;
    }

    fn drain(&mut self, sensor: SensorId) -> Result<(), Gone> {
        let ready = self.decoders.get_mut(&sensor).map(VideoDecoder::take_ready).unwrap_or_default();
        ready.into_iter().try_for_each(|packet| self.push(packet))
    }
}

fn count(passed_over: &mut BTreeMap<String, u64>, topic: &str) {
    match passed_over.get_mut(topic) {
        Some(count) => *count += 1,
        None => {
            passed_over.insert(topic.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Channel;
    use crate::log::packet::video_message;
    use crate::log::writer::{Compression, LogWriter};
    use catseye_sensors::packet::Stamp;
    use foxglove::messages::CompressedVideo;

    const MS: i64 = 1_000_000;
    /// Sequence and picture parameters of a Main profile stream of 16 by 16 pixels, which may hold 16 pictures back.
    const PARAMETERS: [u8; 18] = [0, 0, 0, 1, 0x67, 0x4D, 0, 0x0A, 0xF4, 0xF2, 0, 0, 0, 1, 0x68, 0xCE, 0x38, 0x80];
    /// A slice in a form that is not decoded (data partitioning).
    const BROKEN: [u8; 7] = [0, 0, 0, 1, 0x42, 0x80, 1];

    /// A grey key picture whose samples stand there as they are.
    fn key_picture() -> Vec<u8> {
        [[0u8, 0, 0, 1, 0x65, 0x88, 0x84, 0x08, 0x68].as_slice(), &[120; 256], &[128; 129]].concat()
    }

    fn first_picture() -> Vec<u8> {
        [PARAMETERS.to_vec(), key_picture()].concat()
    }

    /// Stamp, number and whether it is a decoded picture, of every packet that a log of these access units gives.
    fn read(units: &[(i64, Vec<u8>)]) -> (Vec<(i64, u32, bool)>, SourceSummary) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("video.mcap");
        let rig = Rig::default_camera(16, 16);
        let mut log = LogWriter::create(&path, Compression::None).unwrap();
        let channel = log.channel(&Channel::of_foxglove::<CompressedVideo>(&rig.cameras[0].topic)).unwrap();
        for (arrival_ns, (stamp_ns, unit)) in (0..).zip(units) {
            let message = video_message(unit.clone(), *stamp_ns, "front");
            log.write_foxglove(channel, arrival_ns, *stamp_ns, &message).unwrap();
        }
        log.finish().unwrap();
        let source = Source::open(&path, &rig, Limits::default()).unwrap();
        let mut seen = Vec::new();
        loop {
            match source.wait(std::time::Duration::from_secs(10)) {
                Some(Item::Packets(packets)) => seen.extend(packets.iter().map(|packet| {
                    let is_decoded = matches!(packet.content, Content::Frame(_));
                    (packet.header.stamp.mapped_ns, packet.header.sequence, is_decoded)
                })),
                Some(Item::End(summary)) => return (seen, *summary),
                _ => panic!("the source ended early"),
            }
        }
    }

    #[test]
    fn parameters_without_a_picture_are_passed_over() {
        let (seen, summary) = read(&[(10 * MS, PARAMETERS.to_vec()), (10 * MS, key_picture())]);
        assert_eq!(seen, [(10 * MS, 1, true)]);
        assert_eq!(summary.passed_over, BTreeMap::from([("/camera/front/image".to_owned(), 1)]));
        assert!(summary.undecodable.is_empty(), "{:?}", summary.undecodable);
    }

    #[test]
    fn what_does_not_decode_comes_behind_the_pictures_before_it() {
        let broken = |stamp_ms: i64| (stamp_ms * MS, BROKEN.to_vec());
        let (seen, summary) = read(&[(10 * MS, first_picture()), broken(30), broken(20), (40 * MS, key_picture())]);
        assert_eq!(seen, [(10 * MS, 0, true), (20 * MS, 2, false), (30 * MS, 1, false), (40 * MS, 3, true)]);
        assert_eq!(summary.undecodable[&0].0, 2);
        let (seen, _) = read(&[(10 * MS, first_picture()), broken(20)]);
        assert_eq!(seen, [(10 * MS, 0, true), (20 * MS, 1, false)]);
    }

    #[test]
    fn a_video_that_does_not_decode_any_more_is_not_kept_until_its_end() {
        let header =
            |stamp_ns: i64| PacketHeader { sensor: SensorId(0), sequence: 0, stamp: Stamp::of_arrival(stamp_ns) };
        let mut video = VideoDecoder::new(Limits::default()).unwrap();
        assert!(video.feed(&first_picture(), header(0)).unwrap());
        for number in 1..=MAX_REORDER {
            video.keep(SensorPacket { header: header(number as i64), content: Content::Frame(Frame::default()) });
            assert!(video.take_ready().is_empty());
        }
        let last = header(MAX_REORDER as i64 + 1);
        video.keep(SensorPacket { header: last, content: Content::Frame(Frame::default()) });
        let ready: Vec<i64> = video.take_ready().iter().map(|packet| packet.header.stamp.mapped_ns).collect();
        assert_eq!(ready, (0..=MAX_REORDER as i64 + 1).collect::<Vec<_>>());
    }
}
