//! The log that an importer fills.
//!
//! A [`Target`] owns the writer and everything that is the same for all sources: the header, the rig as an attachment
//! at the start (so that a log that is cut off still has it) and the DBC files that it names, the cameras' calibration
//! and the sensors' places again and again, counts, what was skipped and assumed, progress and stopping. [`merge`]
//! writes several [`Stream`]s in order of arrival, holding one item of each at most.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use catseye_calibration::rig::Rig;
use foxglove::messages::{CameraCalibration, FrameTransforms};

use super::dbc::{DbcFile, name_dbc_files};
use super::{ImportError, ImportReport, Job, Skipped};
use crate::log::packet::{StampInfo, timestamp};
use crate::log::statics::{
    REPEAT_NS, TRANSFORMS_TOPIC, calibration_message, calibration_topic, mountings, transforms_message,
};
use crate::log::writer::{ChannelId, Compression, LogWriter};
use crate::log::{Channel, RIG_ATTACHMENT, SOURCE_HEADER};
use crate::record::Record;

/// How many kinds of skipped things an error names.
const MAX_NAMED: usize = 8;

/// A log being filled from one source.
pub(super) struct Target<'a> {
    log: LogWriter,
    rig: Rig,
    /// The files that the rig names.
    dbc: Vec<DbcFile>,
    source: PathBuf,
    progress: &'a mut dyn FnMut(u64, u64),
    stop: Option<&'a AtomicBool>,
    stopped: bool,
    /// Topic and messages of every channel.
    counts: BTreeMap<ChannelId, (String, u64)>,
    /// Messages of the source itself.
    imported: u64,
    skipped: BTreeMap<(String, String), u64>,
    assumptions: Vec<String>,
    calibrations: Vec<(ChannelId, CameraCalibration)>,
    transforms: Option<ChannelId>,
    repeat_at_ns: Option<i64>,
    scratch: Vec<u8>,
}

impl<'a> Target<'a> {
    /// Starts the log of a job. The rig's models are left out, and it must be one that loads again. Its DBC files go
    /// into the log.
    pub(super) fn create(job: Job<'a>, mut rig: Rig) -> Result<Self, ImportError> {
        let dbc = name_dbc_files(&mut rig)?;
        let text = Rig { models: Vec::new(), ..rig }.to_toml();
        let rig = Rig::parse(&text, RIG_ATTACHMENT)?;
        let mut log = LogWriter::create(job.out, Compression::Zstd)?;
        log.metadata(SOURCE_HEADER, source_header(&job))?;
        log.attach(RIG_ATTACHMENT, "application/toml", text.as_bytes())?;
        for file in &dbc {
            log.attach(&file.name, "text/plain", &file.bytes)?;
        }
        let mut target = Target {
            log,
            rig,
            dbc,
            source: job.src.to_owned(),
            progress: job.progress,
            stop: job.options.stop,
            stopped: false,
            counts: BTreeMap::new(),
            imported: 0,
            skipped: BTreeMap::new(),
            assumptions: Vec::new(),
            calibrations: Vec::new(),
            transforms: None,
            repeat_at_ns: None,
            scratch: Vec::new(),
        };
        target.open_static_channels()?;
        Ok(target)
    }

    fn open_static_channels(&mut self) -> Result<(), ImportError> {
        let calibrations: Vec<CameraCalibration> = self.rig.cameras.iter().map(calibration_message).collect();
        for message in calibrations {
            let topic = calibration_topic(&message.frame_id);
            let channel = self.open(&Channel::of_foxglove::<CameraCalibration>(&topic))?;
            self.calibrations.push((channel, message));
        }
        if mountings(&self.rig).next().is_some() {
            self.transforms = Some(self.open(&Channel::of_foxglove::<FrameTransforms>(TRANSFORMS_TOPIC))?);
        }
        Ok(())
    }

    fn open(&mut self, channel: &Channel) -> Result<ChannelId, ImportError> {
        let id = self.log.channel(channel)?;
        self.counts.entry(id).or_insert_with(|| (channel.topic.clone(), 0));
        Ok(id)
    }

    /// The rig in the log.
    pub(super) fn rig(&self) -> &Rig {
        &self.rig
    }

    /// The DBC files in the log.
    pub(super) fn dbc(&self) -> &[DbcFile] {
        &self.dbc
    }

    /// Opens a channel whose stamps are as `stamps` says.
    pub(super) fn channel(&mut self, mut channel: Channel, stamps: &StampInfo) -> Result<ChannelId, ImportError> {
        stamps.describe(&mut channel);
        self.open(&channel)
    }

    /// Opens the channel of a sensor of the rig for one of Foxglove's messages.
    pub(super) fn foxglove_channel<M: foxglove::Encode>(
        &mut self,
        sensor: &str,
        stamps: &StampInfo,
    ) -> Result<ChannelId, ImportError> {
        let channel = Channel::of_foxglove::<M>(&self.topic(sensor)?);
        self.channel(channel, stamps)
    }

    /// Opens the channel of a sensor of the rig for one of our records.
    pub(super) fn record_channel<R: Record>(
        &mut self,
        sensor: &str,
        stamps: &StampInfo,
    ) -> Result<ChannelId, ImportError> {
        let channel = Channel::of_record::<R>(&self.topic(sensor)?);
        self.channel(channel, stamps)
    }

    fn topic(&self, sensor: &str) -> Result<String, ImportError> {
        let found = self.rig.sensor(sensor).map(|sensor| sensor.topic.to_owned());
        found.ok_or_else(|| ImportError::unexpected(&self.source, format!("a rig with the sensor {sensor:?}"), "none"))
    }

    /// Writes a message that arrived at `log_ns` and was measured at `publish_ns`.
    pub(super) fn write(
        &mut self,
        channel: ChannelId,
        log_ns: i64,
        publish_ns: i64,
        data: &[u8],
    ) -> Result<(), ImportError> {
        self.repeat_static(log_ns)?;
        self.imported = self.imported.saturating_add(1);
        self.put(channel, log_ns, publish_ns, data)
    }

    /// Writes one of Foxglove's messages.
    pub(super) fn write_foxglove<M: foxglove::Encode>(
        &mut self,
        channel: ChannelId,
        log_ns: i64,
        publish_ns: i64,
        message: &M,
    ) -> Result<(), ImportError> {
        let mut scratch = self.encoded(message);
        let written = self.write(channel, log_ns, publish_ns, &scratch);
        scratch.clear();
        self.scratch = scratch;
        written
    }

    /// Writes one of our records.
    pub(super) fn write_record<R: Record>(
        &mut self,
        channel: ChannelId,
        log_ns: i64,
        publish_ns: i64,
        record: &R,
    ) -> Result<(), ImportError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        record.encode(&mut scratch);
        let written = self.write(channel, log_ns, publish_ns, &scratch);
        self.scratch = scratch;
        written
    }

    /// The bytes of a message, in the scratch buffer, which the caller puts back.
    fn encoded<M: foxglove::Encode>(&mut self, message: &M) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // a Vec takes any length, so the encoder has nothing to complain about
        let _ = message.encode(&mut scratch);
        scratch
    }

    fn put(&mut self, channel: ChannelId, log_ns: i64, publish_ns: i64, data: &[u8]) -> Result<(), ImportError> {
        self.log.write(channel, log_ns, publish_ns, data)?;
        if let Some((_, count)) = self.counts.get_mut(&channel) {
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// Writes calibration and places before the first message and then every ten seconds.
    fn repeat_static(&mut self, now_ns: i64) -> Result<(), ImportError> {
        if self.repeat_at_ns.is_some_and(|due_ns| now_ns < due_ns) {
            return Ok(());
        }
        self.repeat_at_ns = Some(now_ns.saturating_add(REPEAT_NS));
        // the messages are encoded on their own: the scratch buffer may hold the message that is being written
        let mut data = Vec::new();
        let mut calibrations = std::mem::take(&mut self.calibrations);
        for (channel, message) in &mut calibrations {
            message.timestamp = timestamp(now_ns);
            data.clear();
            let _ = foxglove::Encode::encode(&*message, &mut data);
            self.put(*channel, now_ns, now_ns, &data)?;
        }
        self.calibrations = calibrations;
        if let Some(channel) = self.transforms {
            data.clear();
            let _ = foxglove::Encode::encode(&transforms_message(&self.rig, now_ns), &mut data);
            self.put(channel, now_ns, now_ns, &data)?;
        }
        Ok(())
    }

    /// Lists something that was left out.
    pub(super) fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.skip_many(what, why, 1);
    }

    /// Lists several things that were left out for the same reason.
    pub(super) fn skip_many(&mut self, what: impl Into<String>, why: impl Into<String>, count: u64) {
        if count > 0 {
            let total = self.skipped.entry((what.into(), why.into())).or_insert(0);
            *total = total.saturating_add(count);
        }
    }

    /// States something that the source does not say.
    pub(super) fn assume(&mut self, sentence: impl Into<String>) {
        self.assumptions.push(sentence.into());
    }

    /// Tells how far the import is; false when it is to stop.
    #[must_use]
    pub(super) fn advance(&mut self, done: u64, total: u64) -> bool {
        (self.progress)(done, total);
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            self.stopped = true;
        }
        !self.stopped
    }

    /// Ends the log, which then has its name.
    ///
    /// # Errors
    /// [`ImportError::Nothing`] when the source gave no message, though nobody stopped it: there is no log then.
    pub(super) fn finish(self) -> Result<ImportReport, ImportError> {
        if self.imported == 0 && !self.stopped {
            return Err(ImportError::Nothing { found: self.describe_skipped(), path: self.source });
        }
        self.log.finish()?;
        // a topic may have several channels
        let mut messages: BTreeMap<String, u64> = BTreeMap::new();
        for (topic, count) in self.counts.into_values() {
            let total = messages.entry(topic).or_insert(0);
            *total = total.saturating_add(count);
        }
        let messages = messages.into_iter().collect();
        let skipped = self.skipped.into_iter().map(|((what, why), count)| Skipped { what, why, count }).collect();
        Ok(ImportReport { rig: self.rig, messages, skipped, assumptions: self.assumptions, stopped: self.stopped })
    }

    fn describe_skipped(&self) -> String {
        if self.skipped.is_empty() {
            return "no messages".to_owned();
        }
        let name = |((what, why), count): (&(String, String), &u64)| format!("{count} of {what} ({why})");
        let mut named: Vec<String> = self.skipped.iter().take(MAX_NAMED).map(name).collect();
        if self.skipped.len() > MAX_NAMED {
            named.push(format!("{} more", self.skipped.len() - MAX_NAMED));
        }
        named.join(", ")
    }
}

fn source_header(job: &Job<'_>) -> BTreeMap<String, String> {
    let file = job.src.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let entries = [("kind", job.kind.name()), ("file", file.as_str()), ("importer", env!("CARGO_PKG_VERSION"))];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Items of one source in the order of their arrival.
pub(super) trait Stream {
    /// When the next item arrived, or its stamp where no more is known; `None` at the end.
    fn next_ns(&self) -> Option<i64>;

    /// Writes the next item, or lists it as skipped, and moves on to the one behind it.
    fn put_next(&mut self, target: &mut Target<'_>) -> Result<(), ImportError>;

    /// How many items are left.
    fn left(&self) -> u64;
}

/// Writes the items of all streams in order of arrival, those of an earlier stream first where times are equal; ends
/// early when the import is to stop.
pub(super) fn merge(target: &mut Target<'_>, mut streams: Vec<Box<dyn Stream + '_>>) -> Result<(), ImportError> {
    let total = streams.iter().map(|stream| stream.left()).fold(0, u64::saturating_add);
    let mut done = 0;
    while target.advance(done, total) {
        let next = streams.iter_mut().filter_map(|stream| stream.next_ns().map(|stamp_ns| (stamp_ns, stream)));
        // of equal stamps `min_by_key` takes the first
        let Some((_, stream)) = next.min_by_key(|(stamp_ns, _)| *stamp_ns) else { break };
        stream.put_next(target)?;
        done = done.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use foxglove::messages::Vector3;

    use super::*;
    use crate::log::import::{ImportKind, ImportOptions};
    use crate::log::reader::{Event, LogReader};
    use crate::log::statics::VEHICLE_FRAME;

    struct Numbers {
        channel: ChannelId,
        tag: u8,
        stamps_ns: std::vec::IntoIter<i64>,
    }

    impl Stream for Numbers {
        fn next_ns(&self) -> Option<i64> {
            self.stamps_ns.as_slice().first().copied()
        }

        fn put_next(&mut self, target: &mut Target<'_>) -> Result<(), ImportError> {
            let Some(stamp_ns) = self.stamps_ns.next() else { return Ok(()) };
            target.write(self.channel, stamp_ns, stamp_ns, &[self.tag])
        }

        fn left(&self) -> u64 {
            self.stamps_ns.len() as u64
        }
    }

    fn fill<R>(out: &Path, rig: Rig, fill: impl FnOnce(&mut Target<'_>) -> R) -> Result<ImportReport, ImportError> {
        let options = ImportOptions::default();
        let mut progress = |_: u64, _: u64| {};
        let src = Path::new("somewhere/source");
        let job = Job { kind: ImportKind::Ros, src, out, options: &options, progress: &mut progress };
        let mut target = Target::create(job, rig)?;
        fill(&mut target);
        target.finish()
    }

    fn raw_channel(topic: &str) -> Channel {
        Channel {
            topic: topic.to_owned(),
            message_encoding: "raw".to_owned(),
            schema_name: String::new(),
            schema_encoding: String::new(),
            schema: Default::default(),
            metadata: BTreeMap::new(),
        }
    }

    fn numbers(target: &mut Target<'_>, tag: u8, stamps_ns: &[i64]) -> Box<dyn Stream> {
        let channel = raw_channel(&format!("/numbers/{tag}"));
        let channel = target.channel(channel, &StampInfo::SYNTHETIC).unwrap();
        Box::new(Numbers { channel, tag, stamps_ns: Vec::from(stamps_ns).into_iter() })
    }

    #[test]
    fn streams_are_merged_by_stamp_and_calibration_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        let second = 1_000_000_000;
        let report = fill(&out, Rig::default_camera(64, 48), |target| {
            let a = numbers(target, 1, &[5, 7, 7, 9, 25 * second]);
            let b = numbers(target, 2, &[6, 7, 11 * second]);
            merge(target, vec![a, b]).unwrap();
        })
        .unwrap();
        let expected = [("/camera/front/calibration", 3), ("/numbers/1", 5), ("/numbers/2", 3), ("/tf", 3)];
        assert_eq!(report.messages, expected.map(|(topic, count)| (topic.to_owned(), count)));
        assert!(!report.stopped);

        let mut reader = LogReader::open(&out).unwrap();
        let (mut tags, mut repeated_ns, mut names) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(event) = reader.next().unwrap() {
            match event {
                Event::Message(message) if message.channel.topic == "/tf" => repeated_ns.push(message.log_ns),
                Event::Message(message) if message.data.len() == 1 => tags.push(message.data[0]),
                Event::Message(_) => {}
                Event::Metadata { name, entries } => {
                    assert_eq!(entries["kind"], "ros");
                    assert_eq!(entries["file"], "source");
                    names.push(name);
                }
                Event::Attachment { name, .. } => names.push(name),
            }
        }
        assert_eq!(tags, [1, 2, 1, 1, 2, 1, 2, 1]);
        assert_eq!(repeated_ns, [5, 11 * second, 25 * second]);
        assert_eq!(names, [SOURCE_HEADER, RIG_ATTACHMENT]);
    }

    #[test]
    fn the_channels_of_a_topic_are_counted_together() {
        let folder = tempfile::tempdir().unwrap();
        let report = fill(&folder.path().join("log.mcap"), Rig::default_camera(64, 48), |target| {
            for uncertainty_ns in [0, 1] {
                let stamps = StampInfo { uncertainty_ns, ..StampInfo::SYNTHETIC };
                let channel = target.channel(raw_channel("/numbers"), &stamps).unwrap();
                target.write(channel, 5, 5, &[1]).unwrap();
            }
        })
        .unwrap();
        let expected = [("/camera/front/calibration", 1), ("/numbers", 2), ("/tf", 1)];
        assert_eq!(report.messages, expected.map(|(topic, count)| (topic.to_owned(), count)));
    }

    #[test]
    fn a_source_without_messages_leaves_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = fill(&folder.path().join("log.mcap"), Rig::default_camera(64, 48), |target| {
            target.skip_many("/diagnostics", "nobody reads it", 3);
            target.skip("/diagnostics", "nobody reads it");
            target.skip_many("/none", "there are none", 0);
        });
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "somewhere/source: nothing to import: found 4 of /diagnostics (nobody reads it)");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_rig_that_would_not_load_again_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::default_camera(64, 48);
        rig.cameras[0].rate_hz = -1.0;
        let outcome = fill(&folder.path().join("log.mcap"), rig, |_| {});
        assert!(matches!(outcome, Err(ImportError::Rig(_))));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn places_and_lenses_are_as_in_the_rig() {
        let rig = Rig::default_camera(64, 48);
        let message = transforms_message(&rig, 0);
        assert_eq!(message.transforms.len(), 1);
        let transform = &message.transforms[0];
        assert_eq!((transform.parent_frame_id.as_str(), transform.child_frame_id.as_str()), (VEHICLE_FRAME, "front"));
        assert_eq!(transform.translation, Some(Vector3 { x: 1.8, y: 0.0, z: 1.4 }));
        // a forward camera: a third of a turn about the diagonal (-1, 1, -1)
        let rotation = transform.rotation.unwrap();
        for (found, expected) in [(rotation.w, 0.5), (rotation.x, -0.5), (rotation.y, 0.5), (rotation.z, -0.5)] {
            assert!((found - expected).abs() < 1e-12, "{rotation:?}");
        }
        let calibration = calibration_message(&rig.cameras[0]);
        assert_eq!(calibration.distortion_model, "plumb_bob");
        assert_eq!(calibration.d, [0.0; 5]);
        assert_eq!(calibration.k, [calibration.p[0], 0.0, 31.5, 0.0, calibration.p[5], 23.5, 0.0, 0.0, 1.0]);
    }
}
