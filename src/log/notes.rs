//! What the graph notes of every tick, in the log: the digests and the times of all stages, one record each.
//!
//! Records carry numbers; [`NoteNames`] says once what they stand for. Logs of schema version 1, which have a record with
//! names for every stage, are read to the same values. Writing allocates nothing once every field has been seen.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::{Message, ReadError};
use super::writer::{ChannelId, LogWriter, WriteError};
use super::{Channel, TOPIC_DIGEST, TOPIC_NAMES, TOPIC_TIMING};
use crate::messages::{
    FieldDigest, FieldName, Level, NoteNames, StageDigest, StageName, StageTiming, TickDigests, TickTimings,
};
use crate::pipeline::Pipeline;
use crate::record::Record;
use crate::runtime::graph::{DigestNote, NO_GROUP, TimingNote};
use catseye_calibration::rig::Rig;

/// Names that numbers in notes stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Stages, in order, with their levels.
    pub stages: Vec<(String, Level)>,
    /// How many of them, from the first, keep no state.
    pub stateless: usize,
    /// Sensors, in rig order.
    pub sensors: Vec<String>,
    /// Class names.
    pub classes: Vec<String>,
}

impl Names {
    /// The names of a pipeline on a rig.
    pub fn of(pipeline: &Pipeline, rig: &Rig) -> Self {
        Names {
            stages: pipeline.graph.stages().map(|(name, level)| (name.to_owned(), level)).collect(),
            stateless: pipeline.graph.stateless(),
            sensors: rig.sensors().map(|sensor| sensor.name.to_owned()).collect(),
            classes: pipeline.class_names.clone(),
        }
    }

    /// A stage's name.
    pub fn stage(&self, stage: u8) -> &str {
        self.stages.get(usize::from(stage)).map_or("?", |stage| &stage.0)
    }

    /// A field's full name, as `front.objects`.
    pub fn field(&self, note: &DigestNote) -> String {
        if note.group == NO_GROUP {
            return note.field.to_owned();
        }
        match self.sensors.get(usize::from(note.group)) {
            Some(sensor) => format!("{sensor}.{}", note.field),
            None => format!("{}.{}", note.group, note.field),
        }
    }

    /// A tick's digests, one record per stage.
    pub fn digests(&self, tick: u64, notes: &[DigestNote]) -> Vec<StageDigest> {
        let stages = notes.chunk_by(|note, next| note.stage == next.stage);
        stages
            .map(|notes| {
                let stage = self.stages.get(usize::from(notes[0].stage));
                let (stage, level) = stage.cloned().unwrap_or_else(|| ("?".to_owned(), Level::Exact));
                let field = |note| FieldDigest { field: self.field(note), digest: note.digest };
                StageDigest { tick, stage, level, fields: notes.iter().map(field).collect() }
            })
            .collect()
    }
}

/// What tells one digested field from another: stage, group, name.
type Key = (u8, u16, &'static str);

fn key(note: &DigestNote) -> Key {
    (note.stage, note.group, note.field)
}

/// Whether a note is of this field. A field's name is nearly always the very same text, which costs no look at its letters.
fn is_key(&(stage, group, field): &Key, note: &DigestNote) -> bool {
    (stage, group) == (note.stage, note.group) && (std::ptr::eq(field, note.field) || field == note.field)
}

/// Writes the notes of a run.
pub struct NotesWriter {
    names: Names,
    names_channel: ChannelId,
    digests_channel: ChannelId,
    timings_channel: ChannelId,
    numbers: BTreeMap<Key, u16>,
    /// Whether the log has names yet.
    told: bool,
    /// Fields of the tick before, which are nearly always those of the next: `digests.fields` holds their numbers.
    layout: Vec<Key>,
    digests: TickDigests,
    timings: TickTimings,
}

impl NotesWriter {
    /// Opens the channels.
    ///
    /// # Errors
    /// [`WriteError`] when the log cannot be written.
    pub fn create(log: &mut LogWriter, names: Names) -> Result<Self, WriteError> {
        Ok(NotesWriter {
            names,
            names_channel: log.channel(&Channel::of_record::<NoteNames>(TOPIC_NAMES))?,
            digests_channel: log.channel(&Channel::of_record::<TickDigests>(TOPIC_DIGEST))?,
            timings_channel: log.channel(&Channel::of_record::<TickTimings>(TOPIC_TIMING))?,
            numbers: BTreeMap::new(),
            told: false,
            layout: Vec::new(),
            digests: TickDigests::default(),
            timings: TickTimings::default(),
        })
    }

    /// Writes one tick's notes.
    ///
    /// # Errors
    /// [`WriteError`] when the log cannot be written.
    pub fn write(
        &mut self,
        log: &mut LogWriter,
        (tick, time_ns): (u64, i64),
        digests: &[DigestNote],
        timings: &[TimingNote],
    ) -> Result<(), WriteError> {
        if self.number(digests) || !self.told {
            log.write_record(self.names_channel, time_ns, &self.numbered())?;
            self.told = true;
        }
        self.digests.tick = tick;
        self.digests.digests.clear();
        self.digests.digests.extend(digests.iter().map(|note| note.digest));
        if !digests.is_empty() {
            log.write_record(self.digests_channel, time_ns, &self.digests)?;
        }
        if timings.is_empty() {
            return Ok(());
        }
        self.timings.tick = tick;
        refill(&mut self.timings.stages, timings, |note| note.stage);
        refill(&mut self.timings.workers, timings, |note| note.worker);
        refill(&mut self.timings.start_ns, timings, |note| note.start_ns);
        refill(&mut self.timings.end_ns, timings, |note| note.end_ns);
        log.write_record(self.timings_channel, time_ns, &self.timings)?;
        Ok(())
    }

    /// Makes `digests.fields` the numbers of these fields; true when one of them is new.
    fn number(&mut self, digests: &[DigestNote]) -> bool {
        let is_known = |(known, note): (&Key, &DigestNote)| is_key(known, note);
        if self.layout.len() == digests.len() && self.layout.iter().zip(digests).all(is_known) {
            return false;
        }
        let known = self.numbers.len();
        refill(&mut self.layout, digests, key);
        self.digests.fields.clear();
        for key in &self.layout {
            // at most 32 stages, 64 sensors and a dozen fields of each: far below what 16 bits hold
            let next = self.numbers.len() as u16;
            self.digests.fields.push(*self.numbers.entry(*key).or_insert(next));
        }
        self.numbers.len() > known
    }

    /// All names that have a number.
    fn numbered(&self) -> NoteNames {
        let stage = |(stage, level): &(String, Level)| StageName { stage: stage.clone(), level: *level };
        let mut fields = vec![FieldName::default(); self.numbers.len()];
        for (&(stage, group, field), number) in &self.numbers {
            let field = self.names.field(&DigestNote { stage, group, field, digest: 0 });
            fields[usize::from(*number)] = FieldName { stage, field };
        }
        NoteNames { stages: self.names.stages.iter().map(stage).collect(), fields }
    }
}

fn refill<T, N>(values: &mut Vec<T>, notes: &[N], value: impl Fn(&N) -> T) {
    values.clear();
    values.extend(notes.iter().map(value));
}

/// What one message said of a tick.
#[derive(Clone, Debug, PartialEq)]
pub enum Notes {
    /// Digests, one record per stage.
    Digests(Vec<StageDigest>),
    /// Times, one record per stage.
    Timings(Vec<StageTiming>),
    /// Names, which the reader keeps.
    Names,
}

/// Reads notes of every schema version. Wants to see all messages of a log, in order.
#[derive(Default)]
pub struct NotesReader {
    names: NoteNames,
}

impl NotesReader {
    /// The stages that are known so far, in running order.
    pub fn stages(&self) -> &[StageName] {
        &self.names.stages
    }

    /// What a message says; `None` when it holds no notes.
    ///
    /// # Errors
    /// [`ReadError::Message`] when it cannot be understood.
    pub fn read(&mut self, message: &Message, path: &Path) -> Result<Option<Notes>, ReadError> {
        let schema = message.channel.schema_name.as_str();
        match message.channel.topic.as_str() {
            TOPIC_NAMES => {
                self.names = message.record(path)?;
                Ok(Some(Notes::Names))
            }
            TOPIC_DIGEST if is_schema::<StageDigest>(schema) => {
                let digest: StageDigest = message.record(path)?;
                self.know(&digest.stage, Some(digest.level));
                Ok(Some(Notes::Digests(vec![digest])))
            }
            TOPIC_TIMING if is_schema::<StageTiming>(schema) => {
                let timing: StageTiming = message.record(path)?;
                self.know(&timing.stage, None);
                Ok(Some(Notes::Timings(vec![timing])))
            }
            TOPIC_DIGEST => {
                let digests = message.record(path)?;
                self.digests(&digests).map(|digests| Some(Notes::Digests(digests))).map_err(|e| message.wrong(path, e))
            }
            TOPIC_TIMING => {
                let timings = message.record(path)?;
                self.timings(&timings).map(|timings| Some(Notes::Timings(timings))).map_err(|e| message.wrong(path, e))
            }
            _ => Ok(None),
        }
    }

    /// Version 1 has no list of stages: they are known as they come.
    fn know(&mut self, stage: &str, level: Option<Level>) {
        match self.names.stages.iter_mut().find(|known| known.stage == stage) {
            Some(known) => known.level = level.unwrap_or(known.level),
            None => {
                let name = StageName { stage: stage.to_owned(), level: level.unwrap_or_default() };
                self.names.stages.push(name);
            }
        }
    }

    fn stage(&self, number: u8) -> Result<&StageName, String> {
        let known = self.names.stages.len();
        let unknown = || format!("stage {number} has no name: expected one of the {known} named in {TOPIC_NAMES}");
        self.names.stages.get(usize::from(number)).ok_or_else(unknown)
    }

    fn digests(&self, tick: &TickDigests) -> Result<Vec<StageDigest>, String> {
        let (fields, digests) = (tick.fields.len(), tick.digests.len());
        if fields != digests {
            return Err(format!("expected as many digests as fields, found {digests} and {fields}"));
        }
        let mut records: Vec<StageDigest> = Vec::new();
        let mut last = None;
        for (number, digest) in tick.fields.iter().zip(&tick.digests) {
            let known = self.names.fields.len();
            let unknown = || format!("field {number} has no name: expected one of the {known} named in {TOPIC_NAMES}");
            let name = self.names.fields.get(usize::from(*number)).ok_or_else(unknown)?;
            if last.replace(name.stage) != Some(name.stage) {
                let StageName { stage, level } = self.stage(name.stage)?.clone();
                records.push(StageDigest { tick: tick.tick, stage, level, fields: Vec::new() });
            }
            if let Some(record) = records.last_mut() {
                record.fields.push(FieldDigest { field: name.field.clone(), digest: *digest });
            }
        }
        Ok(records)
    }

    fn timings(&self, tick: &TickTimings) -> Result<Vec<StageTiming>, String> {
        let lengths = [tick.stages.len(), tick.workers.len(), tick.start_ns.len(), tick.end_ns.len()];
        if lengths != [lengths[0]; 4] {
            return Err(format!("expected as many workers, starts and ends as stages, found {lengths:?}"));
        }
        let spans = tick.stages.iter().zip(&tick.workers).zip(tick.start_ns.iter().zip(&tick.end_ns));
        spans
            .map(|((number, worker), (start_ns, end_ns))| {
                let stage = self.stage(*number)?.stage.clone();
                Ok(StageTiming { tick: tick.tick, stage, worker: *worker, start_ns: *start_ns, end_ns: *end_ns })
            })
            .collect()
    }
}

fn is_schema<R: Record>(name: &str) -> bool {
    name == super::ros2_name(R::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::reader::{Event, LogReader};
    use crate::log::writer::Compression;

    fn names() -> Names {
        Names {
            stages: vec![("unpack".into(), Level::Exact), ("infer".into(), Level::PerEngine)],
            sensors: vec!["front".into(), "rear".into()],
            ..Names::default()
        }
    }

    fn digest(stage: u8, group: u16, field: &'static str, digest: u64) -> DigestNote {
        DigestNote { stage, group, field, digest }
    }

    fn read_all(path: &Path) -> Vec<Notes> {
        let (mut reader, mut notes, mut all) = (LogReader::open(path).unwrap(), NotesReader::default(), Vec::new());
        while let Some(event) = reader.next().unwrap() {
            let Event::Message(message) = event else { continue };
            all.extend(notes.read(&message, path).unwrap());
        }
        assert_eq!(notes.stages().len(), 2);
        all
    }

    #[test]
    fn ticks_come_back_as_they_were_also_when_fields_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.mcap");
        let mut log = LogWriter::create(&path, Compression::None).unwrap();
        let mut writer = NotesWriter::create(&mut log, names()).unwrap();
        let ticks = [
            vec![digest(0, 0, "frame", 1), digest(0, 1, "frame", 2), digest(1, NO_GROUP, "output", 3)],
            vec![digest(0, 1, "frame", 4), digest(1, NO_GROUP, "output", 5)],
            vec![digest(0, NO_GROUP, "packets", 6), digest(0, 0, "frame", 7)],
            vec![digest(0, 0, "frame", 8), digest(0, 1, "frame", 9), digest(1, NO_GROUP, "output", 10)],
        ];
        let timing = TimingNote { stage: 1, worker: 3, start_ns: -5, end_ns: 1 << 40 };
        for (tick, digests) in ticks.iter().enumerate() {
            writer.write(&mut log, (tick as u64, 0), digests, &[timing]).unwrap();
        }
        log.finish().unwrap();
        let all = read_all(&path);
        // the names come once, and once more when a field is new
        assert_eq!(all.iter().filter(|notes| **notes == Notes::Names).count(), 2);
        let read: Vec<_> = all.iter().filter(|notes| matches!(notes, Notes::Digests(_))).cloned().collect();
        let expected = ticks.iter().enumerate().map(|(tick, notes)| names().digests(tick as u64, notes));
        assert_eq!(read, expected.map(Notes::Digests).collect::<Vec<_>>());
        let timing = StageTiming { tick: 0, stage: "infer".to_owned(), worker: 3, start_ns: -5, end_ns: 1 << 40 };
        assert!(all.contains(&Notes::Timings(vec![timing])));
    }

    #[test]
    fn numbers_without_a_name_are_refused() {
        let reader = NotesReader::default();
        let error = reader.digests(&TickDigests { tick: 0, fields: vec![7], digests: vec![1] }).unwrap_err();
        assert!(error.contains("field 7 has no name"), "{error}");
        let error = reader.digests(&TickDigests { tick: 0, fields: vec![], digests: vec![1] }).unwrap_err();
        assert!(error.contains("found 1 and 0"), "{error}");
        let timings = TickTimings { stages: vec![2], workers: vec![0], start_ns: vec![0], end_ns: vec![], tick: 0 };
        assert!(reader.timings(&timings).unwrap_err().contains("[1, 1, 1, 0]"));
    }
}
