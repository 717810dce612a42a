//! Writing down a run: its header, decisions, digests, states and what every stage concluded.
//!
//! On request the sensors' messages are copied along, so that the log stands alone; they are read a second time from the
//! source, up to the tick that is written, which keeps the order of time and costs no memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foxglove::messages::{
    Color, CubePrimitive, ImageAnnotations, Point2, PointsAnnotation, Pose, Quaternion, SceneEntity, SceneUpdate,
    TextAnnotation, Vector3, points_annotation,
};

use super::notes::{Names, Notes, NotesReader, NotesWriter};
use super::packet::timestamp;
use super::reader::{Ending, Event, LogReader, ReadError};
use super::writer::{ChannelId, Compression, LogWriter, WriteError};
use super::{
    Channel, RIG_ATTACHMENT, RUN_HEADER, TOPIC_ACCOUNT, TOPIC_DEADLINE, TOPIC_DETECTIONS, TOPIC_DROP, TOPIC_FAULT,
    TOPIC_NETWORKS, TOPIC_PLAN, TOPIC_SNAPSHOT, TOPIC_TICK, TOPIC_TRACKS, TOPIC_WORLD,
};
use crate::messages::{
    Account, CameraDetections, CameraTracks, DeadlineMiss, DropDecision, FaultDecision, FieldDigest, Level,
    NetworksDecision, NetworksPlace, Plan, StageTiming, StateSnapshot, TickDecision, WorldModel,
};
use crate::realtime::deadlines::{Miss, Misses};
use crate::runtime::graph::{DigestNote, FaultNote, NO_GROUP, TimingNote};
use crate::tap::{Body, Output, Sink, TapError};

/// Copies sensor messages from the source as time goes on.
struct Copier {
    reader: LogReader,
    channels: BTreeMap<u16, Option<ChannelId>>,
    /// A message that lies beyond the last tick.
    held: Option<(ChannelId, u32, i64, i64, Vec<u8>)>,
    ended: bool,
}

/// Writes a run into a log.
pub struct RunWriter {
    log: Option<LogWriter>,
    names: Names,
    notes: NotesWriter,
    copier: Option<Copier>,
    ticks: ChannelId,
    drops: ChannelId,
    networks: ChannelId,
    faults: ChannelId,
    deadlines: ChannelId,
    snapshots: ChannelId,
    detections: ChannelId,
    tracks: ChannelId,
    world: ChannelId,
    plan: ChannelId,
    accounts: ChannelId,
    scene: ChannelId,
    annotations: Vec<ChannelId>,
    /// Newest arrival that a tick so far was made of.
    closed_ns: i64,
    cut_short: bool,
}

/// What a run's log begins with.
pub struct RunHeader {
    /// What ran: see [`crate::header`].
    pub entries: BTreeMap<String, String>,
    /// The rig, as TOML.
    pub rig_toml: String,
    /// Files that belong to the rig.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl RunWriter {
    /// Begins a log at `path`. With `sensors_from`, the messages of that log are copied along.
    pub fn create(
        path: &Path,
        header: &RunHeader,
        names: Names,
        sensors_from: Option<&Path>,
    ) -> Result<Self, TapError> {
        let mut log = LogWriter::create(path, Compression::Zstd)?;
        log.metadata(RUN_HEADER, header.entries.clone())?;
        log.attach(RIG_ATTACHMENT, "application/toml", header.rig_toml.as_bytes())?;
        for (name, data) in &header.files {
            log.attach(&name.display().to_string(), "text/plain", data)?;
        }
        let copier = match sensors_from {
            None => None,
            Some(source) => {
                let reader = LogReader::open(source)?;
                Some(Copier { reader, channels: BTreeMap::new(), held: None, ended: false })
            }
        };
        let annotations = names
            .sensors
            .iter()
            .map(|sensor| {
                log.channel(&Channel::of_foxglove::<ImageAnnotations>(&format!("/view/{sensor}/annotations")))
            })
            .collect::<Result<_, WriteError>>()?;
        Ok(RunWriter {
            notes: NotesWriter::create(&mut log, names.clone())?,
            ticks: log.channel(&Channel::of_record::<TickDecision>(TOPIC_TICK))?,
            drops: log.channel(&Channel::of_record::<DropDecision>(TOPIC_DROP))?,
            networks: log.channel(&Channel::of_record::<NetworksDecision>(TOPIC_NETWORKS))?,
            faults: log.channel(&Channel::of_record::<FaultDecision>(TOPIC_FAULT))?,
            deadlines: log.channel(&Channel::of_record::<DeadlineMiss>(TOPIC_DEADLINE))?,
            snapshots: log.channel(&Channel::of_record::<StateSnapshot>(TOPIC_SNAPSHOT))?,
            detections: log.channel(&Channel::of_record::<CameraDetections>(TOPIC_DETECTIONS))?,
            tracks: log.channel(&Channel::of_record::<CameraTracks>(TOPIC_TRACKS))?,
            world: log.channel(&Channel::of_record::<WorldModel>(TOPIC_WORLD))?,
            plan: log.channel(&Channel::of_record::<Plan>(TOPIC_PLAN))?,
            accounts: log.channel(&Channel::of_record::<Account>(TOPIC_ACCOUNT))?,
            scene: log.channel(&Channel::of_foxglove::<SceneUpdate>("/view/objects"))?,
            annotations,
            closed_ns: i64::MIN,
            cut_short: false,
            log: Some(log),
            names,
            copier,
        })
    }

    fn write_output(&mut self, log: &mut LogWriter, output: &Output) -> Result<(), TapError> {
        let (tick, time_ns) = (output.decision.tick, output.decision.reference_ns);
        if let Some(copier) = &mut self.copier {
            // a tick never lies in the log before its packets: a power loss between them would make it unreplayable
            copier.copy_until(log, output.closed_ns)?;
        }
        self.closed_ns = output.closed_ns;
        for drop in &output.drops {
            log.write_record(self.drops, time_ns, drop)?;
        }
        let place = output.networks_place;
        if place != NetworksPlace::Configured {
            log.write_record(self.networks, time_ns, &NetworksDecision { tick, place })?;
        }
        log.write_record(self.ticks, time_ns, &output.decision)?;
        for fault in &output.faults {
            let stage = self.names.stage(fault.stage).to_owned();
            log.write_record(self.faults, time_ns, &FaultDecision { tick, stage, message: fault.message.clone() })?;
        }
        self.notes.write(log, (tick, time_ns), &output.digests, &output.timings)?;
        for Miss { stage, took_ns, budget_ns } in output.misses.iter().copied() {
            let stage = stage.map_or_else(String::new, |stage| self.names.stage(stage).to_owned());
            log.write_record(self.deadlines, time_ns, &DeadlineMiss { tick, stage, took_ns, budget_ns })?;
        }
        for snapshot in &output.snapshots {
            let stage = self.names.stage(snapshot.stage).to_owned();
            let state = snapshot.state.clone();
            log.write_record(
                self.snapshots,
                time_ns,
                &StateSnapshot { tick, stage, version: snapshot.version, state },
            )?;
        }
        match &output.body {
            Some(body) => self.write_body(log, time_ns, body),
            None => Ok(()),
        }
    }

    fn write_body(&self, log: &mut LogWriter, time_ns: i64, body: &Body) -> Result<(), TapError> {
        for seen in &body.detections {
            log.write_record(self.detections, time_ns, seen)?;
        }
        for tracks in &body.tracks {
            log.write_record(self.tracks, time_ns, tracks)?;
        }
        log.write_record(self.world, time_ns, &body.world)?;
        log.write_record(self.plan, time_ns, &body.plan)?;
        log.write_foxglove(self.scene, time_ns, time_ns, &scene(&body.world, &self.names))?;
        for (tracks, channel) in body.tracks.iter().zip(&self.annotations) {
            log.write_foxglove(*channel, time_ns, time_ns, &annotations(tracks, &self.names))?;
        }
        Ok(())
    }
}

impl Sink for RunWriter {
    fn begin(&mut self, states: &[StateSnapshot]) -> Result<(), TapError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        for state in states {
            log.write_record(self.snapshots, 0, state)?;
        }
        Ok(())
    }

    fn cut_short(&mut self) {
        self.cut_short = true;
    }

    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        let Some(mut log) = self.log.take() else { return Ok(()) };
        let result = self.write_output(&mut log, output);
        self.log = Some(log);
        result
    }

    fn finish(&mut self, drops: &[DropDecision], accounts: &[Account]) -> Result<(), TapError> {
        let Some(mut log) = self.log.take() else { return Ok(()) };
        if let Some(copier) = &mut self.copier {
            copier.copy_until(&mut log, if self.cut_short { self.closed_ns } else { i64::MAX })?;
        }
        for drop in drops {
            log.write_record(self.drops, drop.stamp_ns, drop)?;
        }
        for account in accounts {
            log.write_record(self.accounts, 0, account)?;
        }
        log.finish()?;
        Ok(())
    }
}

impl Copier {
    fn copy_until(&mut self, log: &mut LogWriter, until_ns: i64) -> Result<(), TapError> {
        loop {
            if let Some((channel, sequence, log_ns, publish_ns, data)) = self.held.take() {
                if log_ns > until_ns {
                    self.held = Some((channel, sequence, log_ns, publish_ns, data));
                    return Ok(());
                }
                log.write_as(channel, sequence, log_ns, publish_ns, &data)?;
            }
            if self.ended || !self.hold_next(log)? {
                return Ok(());
            }
        }
    }

    fn hold_next(&mut self, log: &mut LogWriter) -> Result<bool, TapError> {
        let next = loop {
            let Some(event) = self.reader.next()? else {
                self.ended = true;
                return Ok(false);
            };
            let Event::Message(message) = event else { continue };
            let id = message.channel_id;
            let channel = match self.channels.get(&id) {
                Some(known) => *known,
                None => {
                    let topic = &message.channel.topic;
                    let ours = topic.starts_with("/catseye/") || topic.starts_with("/view/");
                    let channel = if ours { None } else { Some(log.channel(message.channel)?) };
                    self.channels.insert(id, channel);
                    channel
                }
            };
            let Some(channel) = channel else { continue };
            break (channel, message.sequence, message.log_ns, message.publish_ns, message.data.to_vec());
        };
        self.held = Some(next);
        Ok(true)
    }
}

fn color_of(id: u32) -> Color {
    let colour = crate::view::colour_of(id);
    let part = |value: u8| f64::from(value) / 255.0;
    Color { r: part(colour.red), g: part(colour.green), b: part(colour.blue), a: 0.6 }
}

/// The objects as boxes in the vehicle frame.
fn scene(world: &WorldModel, names: &Names) -> SceneUpdate {
    let entity = |object: &crate::messages::Object| {
        let [length, width, height] = object.extent_m.map(f64::from);
        // the measured place is the facing side; the box reaches behind it
        let [x, y] = object.position_m;
        let range = (x * x + y * y).sqrt().max(1e-6);
        let middle = Vector3 { x: x + 0.5 * length * x / range, y: y + 0.5 * length * y / range, z: height / 2.0 };
        let class = names.classes.get(usize::from(object.class)).map_or("object", String::as_str);
        SceneEntity {
            timestamp: timestamp(world.reference_ns),
            frame_id: "vehicle".to_owned(),
            id: format!("{class} {}", object.id),
            cubes: vec![CubePrimitive {
                pose: Some(Pose {
                    position: Some(middle),
                    orientation: Some(Quaternion { x: 0.0, y: 0.0, z: 0.0, w: 1.0 }),
                }),
                size: Some(Vector3 { x: length, y: width, z: height }),
                color: Some(color_of(object.id)),
            }],
            ..SceneEntity::default()
        }
    };
    let all = foxglove::messages::SceneEntityDeletion {
        timestamp: timestamp(world.reference_ns),
        r#type: foxglove::messages::scene_entity_deletion::Type::All.into(),
        id: String::new(),
    };
    SceneUpdate { deletions: vec![all], entities: world.objects.iter().map(entity).collect() }
}

/// The tracks as rectangles in the picture.
fn annotations(tracks: &CameraTracks, names: &Names) -> ImageAnnotations {
    let at = timestamp(tracks.stamp_ns);
    let shape = |track: &crate::messages::CameraTrack| {
        let b = track.box_px;
        let corners = [(b.left, b.top), (b.right, b.top), (b.right, b.bottom), (b.left, b.bottom)];
        PointsAnnotation {
            timestamp: at,
            r#type: points_annotation::Type::LineLoop.into(),
            points: corners.iter().map(|(x, y)| Point2 { x: f64::from(*x), y: f64::from(*y) }).collect(),
            outline_color: Some(Color { a: 1.0, ..color_of(track.id) }),
            thickness: 2.0,
            ..PointsAnnotation::default()
        }
    };
    let label = |track: &crate::messages::CameraTrack| {
        let class = names.classes.get(usize::from(track.class)).map_or("object", String::as_str);
        TextAnnotation {
            timestamp: at,
            position: Some(Point2 { x: f64::from(track.box_px.left), y: f64::from(track.box_px.top) }),
            text: format!("{class} {} {:.2}", track.id, track.score),
            font_size: 14.0,
            text_color: Some(Color { r: 1.0, g: 1.0, b: 1.0, a: 1.0 }),
            background_color: Some(Color { r: 0.0, g: 0.0, b: 0.0, a: 0.5 }),
            ..TextAnnotation::default()
        }
    };
    ImageAnnotations {
        timestamp: at,
        points: tracks.tracks.iter().map(shape).collect(),
        texts: tracks.tracks.iter().map(label).collect(),
        ..ImageAnnotations::default()
    }
}

/// Reads a run back from its log, tick by tick, as a sink would have seen it. Pictures are not in it.
pub struct RunReader {
    reader: LogReader,
    notes: NotesReader,
    /// Stages in order of their first digest, timing or fault.
    stages: Vec<String>,
    /// Field names, once each: a run has a few dozen.
    fields: BTreeMap<String, &'static str>,
    open: Option<Output>,
    drops: Vec<DropDecision>,
    /// Of the tick that comes next.
    networks_place: NetworksPlace,
    accounts: Vec<Account>,
}

impl RunReader {
    /// Opens a run's log. `stages` are the stages in order, as far as they are known.
    pub fn open(path: &Path, stages: Vec<String>) -> Result<Self, ReadError> {
        Ok(RunReader {
            reader: LogReader::open(path)?,
            notes: NotesReader::default(),
            stages,
            fields: BTreeMap::new(),
            open: None,
            drops: Vec::new(),
            networks_place: NetworksPlace::default(),
            accounts: Vec::new(),
        })
    }

    /// The names of all stages of a log, in order, with their levels. In a log of version 1 they are those of its first two
    /// ticks.
    pub fn stages(path: &Path) -> Result<Vec<(String, Level)>, ReadError> {
        let (mut reader, mut notes, mut ticks) = (LogReader::open(path)?, NotesReader::default(), 0);
        while let Some(event) = reader.next()? {
            let Event::Message(message) = event else { continue };
            ticks += u32::from(message.channel.topic == TOPIC_TICK);
            if matches!(notes.read(&message, path)?, Some(Notes::Names)) || ticks > 2 {
                break;
            }
        }
        Ok(notes.stages().iter().map(|name| (name.stage.clone(), name.level)).collect())
    }

    /// Bytes read, and bytes in all.
    pub fn progress(&self) -> (u64, u64) {
        self.reader.progress()
    }

    /// What is missing of a log that was cut off, in words; known once `next` has given `None`.
    pub fn missing(&self) -> Option<String> {
        self.reader.ending().and_then(Ending::missing)
    }

    /// The drops after the last tick, and the accounts: complete once `next` has given `None`.
    pub fn rest(self) -> (Vec<DropDecision>, Vec<Account>) {
        (self.drops, self.accounts)
    }

    /// The next tick.
    #[allow(clippy::should_implement_trait)] // fails in its own way
    pub fn next(&mut self) -> Result<Option<Output>, ReadError> {
        let path = self.reader.path().to_owned();
        loop {
            let Some(event) = self.reader.next()? else { return Ok(self.open.take()) };
            let Event::Message(message) = event else { continue };
            if message.channel.topic == TOPIC_TICK {
                let decision: TickDecision = message.record(&path)?;
                let next = Output {
                    closed_ns: decision.reference_ns,
                    decision,
                    drops: std::mem::take(&mut self.drops),
                    networks_place: std::mem::take(&mut self.networks_place),
                    faults: Vec::new(),
                    digests: Vec::new(),
                    timings: Vec::new(),
                    misses: Misses::new(),
                    snapshots: Vec::new(),
                    body: None,
                };
                if let Some(done) = self.open.replace(next) {
                    return Ok(Some(done));
                }
                continue;
            }
            match message.channel.topic.as_str() {
                TOPIC_DROP => self.drops.push(message.record(&path)?),
                TOPIC_NETWORKS => self.networks_place = message.record::<NetworksDecision>(&path)?.place,
                TOPIC_ACCOUNT => self.accounts.push(message.record(&path)?),
                _ => {}
            }
            let notes = self.notes.read(&message, &path)?;
            let Some(open) = &mut self.open else { continue };
            match notes {
                Some(Notes::Digests(digests)) => {
                    for digest in digests {
                        let stage = position(&mut self.stages, digest.stage);
                        for FieldDigest { field, digest } in digest.fields {
                            let field = intern(&mut self.fields, field);
                            open.digests.push(DigestNote { stage, group: NO_GROUP, field, digest });
                        }
                    }
                }
                Some(Notes::Timings(timings)) => {
                    for StageTiming { stage, worker, start_ns, end_ns, .. } in timings {
                        let stage = position(&mut self.stages, stage);
                        open.timings.push(TimingNote { stage, worker, start_ns, end_ns });
                    }
                }
                Some(Notes::Names) | None => {}
            }
            match message.channel.topic.as_str() {
                TOPIC_FAULT => {
                    let fault: FaultDecision = message.record(&path)?;
                    let stage = position(&mut self.stages, fault.stage);
                    open.faults.push(FaultNote { stage, message: fault.message });
                }
                TOPIC_DETECTIONS => body_of(open).detections.push(message.record(&path)?),
                TOPIC_TRACKS => body_of(open).tracks.push(message.record(&path)?),
                TOPIC_WORLD => body_of(open).world = message.record(&path)?,
                TOPIC_PLAN => body_of(open).plan = message.record(&path)?,
                _ => {}
            }
        }
    }
}

/// A field's name for as long as the program runs: a log has a few dozen, and notes carry no others.
fn intern(fields: &mut BTreeMap<String, &'static str>, field: String) -> &'static str {
    fields.entry(field).or_insert_with_key(|field| Box::leak(field.clone().into_boxed_str()))
}

fn position(stages: &mut Vec<String>, stage: String) -> u8 {
    match stages.iter().position(|known| *known == stage) {
        Some(at) => at as u8,
        None => {
            stages.push(stage);
            (stages.len() - 1) as u8
        }
    }
}

fn body_of(output: &mut Output) -> &mut Body {
    output.body.get_or_insert_with(|| {
        Box::new(Body {
            detections: Vec::new(),
            tracks: Vec::new(),
            world: WorldModel::default(),
            plan: Plan::default(),
            pictures: Vec::new(),
        })
    })
}
