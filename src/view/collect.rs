//! The sink that turns a run into a report, pictures and a video, and into the numbers that the command prints.
//!
//! Data comes tick by tick from the [`tap`](crate::tap), on its thread, and is kept in bounded memory however long the
//! drive is: see [`series`](super::series). Files are written into the folder and to the places that
//! [`CollectorSettings`] name. When the run has ended, [`Collected`] holds what the command says about it. Apart from
//! times, the same run gives the same report and the same pictures.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use catseye_calibration::rig::Rig;
use serde::{Serialize, Serializer};

use super::canvas::{Canvas, Colour};
use super::class_name;
use super::mosaic::Painter;
use super::report::{
    self, CameraPoint, CameraSeries, DigestRow, DropPoint, Note, PlanPoint, ReportData, StageLatency, TickPoint,
};
use super::series::{Bins, KeptPicture, Latency, MOST_SHOWN_OBJECTS, ObjectLives, PictureReservoir, Thinned};
use super::video::{PictureFolder, VideoError, VideoWriter};
use crate::log::notes::Names;
use crate::messages::{Account, DropDecision, DropReason, Level, PlanReason, StageTiming};
use crate::realtime::deadlines::DeadlineCount;
use crate::replay::Summary;
use crate::runtime::digest::Digester;
use crate::tap::{Body, Output, Sink, TapError};

/// Faults whose words are kept; all are counted.
pub const MOST_FAULTS: usize = 20;
/// The report may show every n-th tick of a run. Copying pictures costs time in the pipeline, so not every tick's are
/// asked for; short drives must have some all the same.
pub const PICTURE_STRIDE: u64 = 4;
/// The row of latencies that spans all stages of a tick.
pub const WHOLE_TICK: &str = "whole tick";

const JPEG_QUALITY: u8 = 85;
/// Folder of the report's pictures within the output folder.
const PICTURES: &str = "pictures";
/// Classes that the table names; the others are summed up.
const MOST_CLASSES: usize = 6;

/// What is collected, and where it goes.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// Names that numbers in outputs stand for.
    pub names: Names,
    /// The rig of the run.
    pub rig: Rig,
    /// Folder of the run's outputs; the report's pictures go into `pictures` in it.
    pub folder: PathBuf,
    /// How many pictures the report has; 6 suit most.
    pub pictures: usize,
    /// The video, AVI: all cameras with overlays, and the world from above beside them.
    pub video: Option<PathBuf>,
    /// A folder for the same pictures as JPEG files.
    pub frames_folder: Option<PathBuf>,
    /// Heading of the report.
    pub title: String,
    /// Whether the drive is simulated: pictures then say so.
    pub is_simulated: bool,
    /// What ran: see [`crate::header`].
    pub header: BTreeMap<String, String>,
    /// What had to be taken for granted.
    pub assumptions: Vec<String>,
    /// The report; nothing is written, and no pictures are kept for it, where there is none.
    pub report: Option<PathBuf>,
}

impl CollectorSettings {
    /// Whether every tick is drawn.
    fn draws_all(&self) -> bool {
        self.video.is_some() || self.frames_folder.is_some()
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collected {
    /// Ticks.
    pub ticks: u64,
    /// Ticks in which a camera's picture or a lidar's scan was missing.
    pub partial_ticks: u64,
    /// Ticks whose values came along; what follows about values knows of these only.
    pub ticks_with_values: u64,
    /// How long stages took, in their order; last the [`WHOLE_TICK`], from its first stage's start to its last one's end.
    pub latencies: Vec<StageLatency>,
    /// Detections in all ticks, by class.
    pub detections: BTreeMap<String, u64>,
    /// Tracks of all cameras, each counted once, by the class that it began with.
    pub tracks: BTreeMap<String, u64>,
    /// Objects around the vehicle, each counted once, by the class that it began with.
    pub objects: BTreeMap<String, u64>,
    /// The smallest time to collision in the vehicle's path; none when nothing closed in.
    pub min_time_to_collision: Option<ClosestCall>,
    /// In how many ticks the planner had which reason.
    pub plan_reasons: BTreeMap<&'static str, u64>,
    /// Times that a stage failed.
    pub faults: u64,
    /// The first [`MOST_FAULTS`] of them.
    pub first_faults: Vec<Fault>,
    /// Per stage one digest over all ticks, hexadecimal.
    pub stage_digests: BTreeMap<String, String>,
    /// One digest over those of all stages, hexadecimal; none when the run took none.
    pub digest: Option<String>,
    /// Files of the report's pictures.
    #[serde(serialize_with = "as_text")]
    pub pictures: Vec<PathBuf>,
    /// What went less well than was asked for.
    pub warnings: Vec<String>,
}

/// The moment with the smallest time to collision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClosestCall {
    /// The time to collision.
    pub seconds: f64,
    /// The tick.
    pub tick: u64,
}

/// A stage that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// On this tick.
    pub tick: u64,
    /// The stage.
    pub stage: String,
    /// What it said.
    pub message: String,
}

/// Paths that are not UTF-8 would make JSON fail.
fn as_text<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.display().to_string()))
}

/// Counts by class number.
type ByClass = BTreeMap<u16, u64>;

/// What is seen, tick by tick.
#[derive(Default)]
struct Values {
    detections: ByClass,
    tracks: ByClass,
    objects: ByClass,
    /// Per camera the highest number of a track so far: numbers only rise, so a higher one is a new track.
    newest_tracks: BTreeMap<usize, u32>,
    newest_object: Option<u32>,
    cameras: Vec<Thinned<CameraPoint>>,
    lives: ObjectLives,
    plans: Thinned<PlanPoint>,
}

impl Values {
    fn take(&mut self, time_s: f64, body: &Body) {
        for seen in &body.detections {
            seen.objects.iter().for_each(|object| count(&mut self.detections, object.class));
        }
        for (camera, tracks) in body.tracks.iter().enumerate() {
            let newest = self.newest_tracks.get(&camera).copied();
            for track in tracks.tracks.iter().filter(|track| newest.is_none_or(|newest| track.id > newest)) {
                count(&mut self.tracks, track.class);
            }
            let highest = tracks.tracks.iter().map(|track| track.id).max();
            if let Some(highest) = highest.max(newest) {
                self.newest_tracks.insert(camera, highest);
            }
        }
        let newest = self.newest_object;
        for object in body.world.objects.iter().filter(|object| newest.is_none_or(|newest| object.id > newest)) {
            count(&mut self.objects, object.class);
        }
        self.newest_object = body.world.objects.iter().map(|object| object.id).max().max(newest);
        self.lives.take(time_s, &body.world);
        self.take_series(time_s, body);
    }

    fn take_series(&mut self, time_s: f64, body: &Body) {
        for ((series, seen), tracks) in self.cameras.iter_mut().zip(&body.detections).zip(&body.tracks) {
            let detections = seen.present.then_some(seen.objects.len() as u32);
            series.push(CameraPoint { time_s, detections, tracks: tracks.tracks.len() as u32 });
        }
        let (plan, ego) = (&body.plan, &body.world.ego);
        self.plans.push(PlanPoint {
            time_s,
            reason: plan.reason,
            target_speed_mps: f64::from(plan.target_speed_mps),
            acceleration_mps2: f64::from(plan.acceleration_mps2),
            ego_speed_mps: ego.known.then_some(ego.speed_mps),
            time_to_collision_s: f64::from(plan.time_to_collision_s),
        });
    }
}

fn count(counts: &mut ByClass, class: u16) {
    *counts.entry(class).or_insert(0) += 1;
}

/// What is noted beside the values.
#[derive(Default)]
struct Notes {
    ticks: Bins<bool>,
    drops: Bins<(u16, DropReason)>,
    /// By position of the stage.
    latencies: BTreeMap<u8, Latency>,
    whole: Latency,
    /// By position of the stage.
    digests: BTreeMap<u8, StageDigester>,
    /// The first ticks, for the timeline.
    timings: Vec<StageTiming>,
}

#[derive(Default)]
struct StageDigester {
    digester: Digester,
    ticks: u64,
    last_tick: Option<u64>,
}

impl Notes {
    fn take_times(&mut self, output: &Output, names: &Names, is_shown: bool) {
        let tick = output.decision.tick;
        for timing in &output.timings {
            self.latencies.entry(timing.stage).or_default().note(timing.start_ns, timing.end_ns);
            if is_shown {
                let stage = names.stage(timing.stage).to_owned();
                let (worker, start_ns, end_ns) = (timing.worker, timing.start_ns, timing.end_ns);
                self.timings.push(StageTiming { tick, stage, worker, start_ns, end_ns });
            }
        }
        let first_ns = output.timings.iter().map(|timing| timing.start_ns).min();
        let last_ns = output.timings.iter().map(|timing| timing.end_ns).max();
        if let (Some(first_ns), Some(last_ns)) = (first_ns, last_ns) {
            self.whole.note(first_ns, last_ns);
        }
    }

    fn take_digests(&mut self, output: &Output) {
        for note in &output.digests {
            let stage = self.digests.entry(note.stage).or_default();
            stage.digester.update(&note.digest.to_le_bytes());
            if stage.last_tick.replace(output.decision.tick) != Some(output.decision.tick) {
                stage.ticks += 1;
            }
        }
    }

    fn latencies(&self, names: &Names) -> Vec<StageLatency> {
        let mut all: Vec<StageLatency> =
            self.latencies.iter().map(|(stage, latency)| latency.summary(names.stage(*stage))).collect();
        if !all.is_empty() {
            all.push(self.whole.summary(WHOLE_TICK));
        }
        all
    }
}

/// Nobody may take a simulated picture for a real one.
fn mark_simulated(canvas: &mut Canvas) {
    let size_px = (f64::from(canvas.height_px()) / 24.0).clamp(10.0, 40.0);
    let top_px = f64::from(canvas.height_px()) - 1.6 * size_px;
    canvas.label([0.4 * size_px, top_px], size_px, "simulated", Colour::WHITE, Colour::rgb(150, 60, 0));
}

/// The sink.
pub struct Collector {
    settings: CollectorSettings,
    painter: Painter,
    video: Option<VideoWriter>,
    frames: Option<PictureFolder>,
    reservoir: PictureReservoir,
    notes: Notes,
    values: Values,
    so_far: Collected,
    results: Arc<Mutex<Collected>>,
    /// Reference time of the first tick.
    start_ns: Option<i64>,
    /// Time of the newest tick since the first.
    elapsed_ns: i64,
}

impl Collector {
    /// Makes the folders and begins the video. The handle holds the results once the run has finished.
    ///
    /// # Errors
    /// [`TapError::File`] when a folder or the video cannot be made.
    pub fn new(settings: CollectorSettings) -> Result<(Self, Arc<Mutex<Collected>>), TapError> {
        make_folder(&settings.folder)?;
        [&settings.video, &settings.report].into_iter().flatten().try_for_each(|path| make_folder_of(path))?;
        let painter = Painter::new(&settings.rig, &settings.names.classes);
        let video = settings.video.as_ref().map(|path| begin_video(path, &painter)).transpose()?;
        let frames = settings.frames_folder.as_ref().map(|folder| PictureFolder::create(folder)).transpose();
        let frames = frames.map_err(video_error)?;
        let wanted = if settings.report.is_some() { settings.pictures } else { 0 };
        let cameras = settings.rig.cameras.iter().map(|_| Thinned::default()).collect();
        let results = Arc::new(Mutex::new(Collected::default()));
        let collector = Collector {
            settings,
            painter,
            video,
            frames,
            reservoir: PictureReservoir::new(wanted, PICTURE_STRIDE),
            notes: Notes::default(),
            values: Values { cameras, ..Values::default() },
            so_far: Collected::default(),
            results: Arc::clone(&results),
            start_ns: None,
            elapsed_ns: 0,
        };
        Ok((collector, results))
    }

    /// Every how many ticks pictures are needed, for [`Tap::start`](crate::tap::Tap::start): all for a video, some for
    /// the report, 0 where nothing is drawn.
    pub fn pictures_every(&self) -> u64 {
        if self.settings.draws_all() {
            1
        } else if self.settings.report.is_some() && self.settings.pictures > 0 {
            PICTURE_STRIDE
        } else {
            0
        }
    }

    /// Adds something that went less well than was asked for to the results and the report.
    pub fn warn(&mut self, words: String) {
        self.so_far.warnings.push(words);
    }

    fn note(&mut self, output: &Output) {
        let now_ns = output.decision.reference_ns;
        let start_ns = *self.start_ns.get_or_insert(now_ns);
        self.elapsed_ns = now_ns.saturating_sub(start_ns);
        let is_shown = self.so_far.ticks < report::TIMELINE_TICKS as u64;
        self.so_far.ticks += 1;
        self.so_far.partial_ticks += u64::from(output.decision.partial);
        self.notes.ticks.add(self.elapsed_ns, output.decision.partial);
        self.note_drops(&output.drops);
        self.notes.take_times(output, &self.settings.names, is_shown);
        self.notes.take_digests(output);
        for fault in &output.faults {
            self.so_far.faults += 1;
            if self.so_far.first_faults.len() < MOST_FAULTS {
                let stage = self.settings.names.stage(fault.stage).to_owned();
                let (tick, message) = (output.decision.tick, fault.message.clone());
                self.so_far.first_faults.push(Fault { tick, stage, message });
            }
        }
    }

    /// Drops belong to the tick that they came with: the stamp of a packet that was dropped may be anything.
    fn note_drops(&mut self, drops: &[DropDecision]) {
        for drop in drops {
            self.notes.drops.add(self.elapsed_ns, (drop.sensor, drop.reason));
        }
    }

    fn note_values(&mut self, tick: u64, body: &Body) {
        self.so_far.ticks_with_values += 1;
        self.values.take(seconds(self.elapsed_ns), body);
        *self.so_far.plan_reasons.entry(body.plan.reason.name()).or_insert(0) += 1;
        let found = f64::from(body.plan.time_to_collision_s);
        let lowest = self.so_far.min_time_to_collision.map_or(f64::INFINITY, |call| call.seconds);
        // false for NaN
        if body.plan.reason != PlanReason::NoWorld && found < lowest {
            self.so_far.min_time_to_collision = Some(ClosestCall { seconds: found, tick });
        }
    }

    fn draw(&mut self, output: &Output, body: &Body) -> Result<(), TapError> {
        let tick = output.decision.tick;
        if body.pictures.is_empty() || !(self.settings.draws_all() || self.reservoir.wants(tick)) {
            return Ok(());
        }
        let drawn = self.painter.draw(body, self.start_ns.unwrap_or(0)).and_then(|mut canvas| {
            if self.settings.is_simulated {
                mark_simulated(&mut canvas);
            }
            canvas.to_jpeg(JPEG_QUALITY)
        });
        let jpeg = drawn.map_err(|error| file_error(&self.settings.folder, error))?;
        if let Some(frames) = &self.frames {
            frames.push_jpeg(tick, &jpeg).map_err(video_error)?;
        }
        self.add_to_video(output.decision.reference_ns, &jpeg)?;
        if self.reservoir.wants(tick) {
            let caption = format!("tick {tick}, {:.2} s, {}", seconds(self.elapsed_ns), body.plan.reason.name());
            self.reservoir.put(tick, KeptPicture { caption, jpeg });
        }
        Ok(())
    }

    /// A video that is full ends there; the run goes on, and its report says so.
    fn add_to_video(&mut self, stamp_ns: i64, jpeg: &[u8]) -> Result<(), TapError> {
        let Some(video) = &mut self.video else { return Ok(()) };
        match video.push_jpeg(stamp_ns, jpeg) {
            Ok(()) => Ok(()),
            Err(full @ VideoError::Full { .. }) => {
                self.so_far.warnings.push(full.to_string());
                self.finish_video()
            }
            Err(error) => Err(video_error(error)),
        }
    }

    fn finish_video(&mut self) -> Result<(), TapError> {
        let Some(video) = self.video.take() else { return Ok(()) };
        video.finish().map_err(video_error)?;
        Ok(())
    }

    /// Writes the report's pictures as files, too.
    fn save_pictures(&mut self) -> Result<Vec<report::Picture>, TapError> {
        let reservoir = std::mem::replace(&mut self.reservoir, PictureReservoir::new(0, PICTURE_STRIDE));
        let kept = reservoir.into_pictures();
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let folder = PictureFolder::create(&self.settings.folder.join(PICTURES)).map_err(video_error)?;
        let mut pictures = Vec::new();
        for (tick, picture) in kept {
            self.so_far.pictures.push(folder.push_jpeg(tick, &picture.jpeg).map_err(video_error)?);
            pictures.push(report::Picture { caption: picture.caption, jpeg: picture.jpeg });
        }
        Ok(pictures)
    }

    /// Digests per stage, and all of them into the results.
    fn conclude_digests(&mut self) -> (Vec<DigestRow>, Option<u64>) {
        let mut rows = Vec::new();
        let mut combined = Digester::new();
        for (stage, of_stage) in std::mem::take(&mut self.notes.digests) {
            let digest = of_stage.digester.finish();
            combined.update(&digest.to_le_bytes());
            let known = self.settings.names.stages.get(usize::from(stage));
            let level = known.map_or(Level::Exact, |(_, level)| *level);
            let stage = self.settings.names.stage(stage).to_owned();
            self.so_far.stage_digests.insert(stage.clone(), format!("{digest:016x}"));
            rows.push(DigestRow { stage, level, ticks: of_stage.ticks, digest });
        }
        let combined = (!rows.is_empty()).then(|| combined.finish());
        self.so_far.digest = combined.map(|digest| format!("{digest:016x}"));
        (rows, combined)
    }

    fn conclude_counts(&mut self) {
        let named = |counts: &ByClass| {
            let mut named: BTreeMap<String, u64> = BTreeMap::new();
            for (class, count) in counts {
                *named.entry(class_name(&self.settings.names.classes, *class)).or_insert(0) += count;
            }
            named
        };
        self.so_far.detections = named(&self.values.detections);
        self.so_far.tracks = named(&self.values.tracks);
        self.so_far.objects = named(&self.values.objects);
        self.so_far.latencies = self.notes.latencies(&self.settings.names);
    }

    fn conclude_warnings(&mut self) {
        let results = &mut self.so_far;
        let left_out = results.ticks - results.ticks_with_values;
        if left_out > 0 {
            let words = "could not be shown: outputs could not be written as fast as they came";
            results.warnings.push(format!("the values of {left_out} of {} ticks {words}", results.ticks));
        }
        if let Some(first) = results.first_faults.first() {
            let Fault { tick, stage, message } = first;
            let words = format!("faults: {}, the first in tick {tick}, {stage}: {message}", results.faults);
            results.warnings.push(words);
        }
        let stride = self.values.plans.stride();
        if stride > 1 {
            let shown = "the lines over time and the objects' rows show one tick in";
            results.warnings.push(format!("{shown} {stride}; the other numbers count all"));
        }
        let objects: u64 = results.objects.values().sum();
        if objects > MOST_SHOWN_OBJECTS as u64 {
            let words = format!("of {objects} objects, the {MOST_SHOWN_OBJECTS} that lived longest are shown");
            results.warnings.push(words);
        }
    }

    fn facts(&self) -> Vec<(String, String)> {
        let results = &self.so_far;
        let duration_s = seconds(self.elapsed_ns);
        let mut facts = vec![
            ("ticks".to_owned(), format!("{} over {duration_s:.1} s", results.ticks)),
            ("detections".to_owned(), by_class(&results.detections)),
            ("tracks".to_owned(), by_class(&results.tracks)),
            ("objects".to_owned(), by_class(&results.objects)),
            ("smallest time to collision".to_owned(), closest_call(results)),
        ];
        facts.extend(self.settings.header.iter().map(|(key, value)| (key.clone(), value.clone())));
        facts
    }

    /// Everything for the page. The series move out: nothing comes after this.
    fn report_data(&mut self, accounts: &[Account], pictures: Vec<report::Picture>) -> ReportData {
        let (digests, combined_digest) = self.conclude_digests();
        let values = std::mem::take(&mut self.values);
        let names = &self.settings.names;
        let sensor =
            |sensor: u16| names.sensors.get(usize::from(sensor)).cloned().unwrap_or_else(|| sensor.to_string());
        let cameras = self.settings.rig.cameras.iter().zip(values.cameras);
        let warnings = self.so_far.warnings.iter().cloned().map(Note::Warning);
        let assumptions = self.settings.assumptions.iter().cloned().map(Note::Assumption);
        let ticks = self.notes.ticks.counts();
        let drops = self.notes.drops.counts();
        ReportData {
            title: self.settings.title.clone(),
            facts: self.facts(),
            notes: warnings.chain(assumptions).collect(),
            accounts: accounts.to_vec(),
            stages: self.so_far.latencies.clone(),
            timings: self.notes.timings.clone(),
            ticks: ticks.map(|(time_s, partial, count)| TickPoint { time_s, partial, count }).collect(),
            drops: drops
                .map(|(time_s, (id, reason), count)| DropPoint { time_s, sensor: sensor(id), reason, count })
                .collect(),
            cameras: cameras
                .map(|(camera, points)| CameraSeries { camera: camera.name.clone(), points: points.into_points() })
                .collect(),
            objects: values.lives.into_series(&names.classes),
            plans: values.plans.into_points(),
            digests,
            combined_digest,
            pictures,
        }
    }
}

impl Sink for Collector {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        self.note(output);
        let Some(body) = &output.body else { return Ok(()) };
        self.note_values(output.decision.tick, body);
        self.draw(output, body)
    }

    fn finish(&mut self, drops: &[DropDecision], accounts: &[Account]) -> Result<(), TapError> {
        self.note_drops(drops);
        self.finish_video()?;
        self.conclude_counts();
        self.conclude_warnings();
        let pictures = self.save_pictures()?;
        let data = self.report_data(accounts, pictures);
        *self.results.lock().unwrap_or_else(PoisonError::into_inner) = self.so_far.clone();
        let Some(path) = &self.settings.report else { return Ok(()) };
        report::save(&data, path).map_err(|error| file_error(path, error.source))
    }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 * 1e-9
}

fn file_error(path: &Path, error: impl Display) -> TapError {
    TapError::File { path: path.to_owned(), error: error.to_string() }
}

/// Without saying the path twice.
fn video_error(error: VideoError) -> TapError {
    let words = error.to_string();
    match error {
        VideoError::Write { path, source } => file_error(&path, source),
        VideoError::Encode { path, source } => file_error(&path, source),
        VideoError::Size { path, .. }
        | VideoError::BadSize { path, .. }
        | VideoError::NotJpeg { path, .. }
        | VideoError::Full { path, .. } => file_error(&path, words),
    }
}

fn make_folder(folder: &Path) -> Result<(), TapError> {
    std::fs::create_dir_all(folder).map_err(|error| file_error(folder, error))
}

fn make_folder_of(path: &Path) -> Result<(), TapError> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => make_folder(folder),
        None => Ok(()),
    }
}

fn begin_video(path: &Path, painter: &Painter) -> Result<VideoWriter, TapError> {
    let [width_px, height_px] = painter.size_px().map_err(|error| file_error(path, error))?;
    VideoWriter::create(path, width_px, height_px).map_err(video_error)
}

/// `812 (car 700, person 112)`; the most frequent classes first.
fn by_class(counts: &BTreeMap<String, u64>) -> String {
    let all: u64 = counts.values().sum();
    let mut classes: Vec<(&String, &u64)> = counts.iter().collect();
    // stable, so equal counts stay in the order of their names
    classes.sort_by_key(|(_, count)| Reverse(**count));
    let rest: u64 = classes.iter().skip(MOST_CLASSES).map(|(_, count)| **count).sum();
    let mut words: Vec<String> =
        classes.iter().take(MOST_CLASSES).map(|(class, count)| format!("{class} {count}")).collect();
    if rest > 0 {
        words.push(format!("others {rest}"));
    }
    if words.is_empty() { all.to_string() } else { format!("{all} ({})", words.join(", ")) }
}

fn closest_call(results: &Collected) -> String {
    match results.min_time_to_collision {
        Some(ClosestCall { seconds, tick }) => format!("{seconds:.1} s at tick {tick}"),
        None => "none: nothing closed in".to_owned(),
    }
}

/// `12 overload, 3 late`.
fn by_reason(counts: &BTreeMap<&'static str, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let words: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    words.join(", ")
}

/// The short table for a terminal: what went through, how fast, what was left out, what was seen. Ends with a line break.
pub fn summary_table(summary: &Summary, collected: &Collected) -> String {
    let wall_s = summary.wall.as_secs_f64();
    let rate = if wall_s > 0.0 { summary.ticks as f64 / wall_s } else { 0.0 };
    let mut lines = vec![format!(
        "{:<12}{} in {wall_s:.2} s, {rate:.1} per second, for {:.1} s of driving",
        "ticks", summary.ticks, summary.drive_s
    )];
    if collected.partial_ticks > 0 {
        lines.push(format!("{:<12}{} without some picture or scan", "partial", collected.partial_ticks));
    }
    lines.extend(latency_lines(&collected.latencies));
    let mut line = |name: &str, value: String| lines.push(format!("{name:<12}{value}"));
    if !summary.deadlines.is_empty() {
        line("deadlines", by_budget(&summary.deadlines));
    }
    line("dropped", by_reason(&summary.drops));
    line("detections", by_class(&collected.detections));
    line("tracks", by_class(&collected.tracks));
    line("objects", by_class(&collected.objects));
    line("least TTC", closest_call(collected));
    line("plans", by_reason(&collected.plan_reasons));
    if let Some(digest) = &collected.digest {
        line("digest", digest.clone());
    }
    for warning in &collected.warnings {
        line("note", warning.clone());
    }
    lines.join("\n") + "\n"
}

fn by_budget(counts: &[DeadlineCount]) -> String {
    let ms = |ns: i64| ns as f64 * 1e-6;
    let words = counts.iter().map(|DeadlineCount { of, budget_ns, observed, missed, worst_ns }| {
        let missed = if *missed == 0 { "none".to_owned() } else { missed.to_string() };
        format!("{of} {} ms: {missed} of {observed} missed, longest {:.1} ms", ms(*budget_ns), ms(*worst_ns))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn latency_lines(latencies: &[StageLatency]) -> Vec<String> {
    let width = latencies.iter().map(|latency| latency.stage.chars().count()).max().unwrap_or(0).max(12);
    let row = |latency: &StageLatency| {
        let StageLatency { stage, p50_ms, p99_ms, max_ms, .. } = latency;
        format!("{stage:<width$}{p50_ms:>10.2}{p99_ms:>10.2}{max_ms:>10.2}")
    };
    if latencies.is_empty() {
        return Vec::new();
    }
    let head = format!("{:<width$}{:>10}{:>10}{:>10}", "stage", "p50 ms", "p99 ms", "max ms");
    std::iter::once(head).chain(latencies.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::messages::{
        BoxPx, CameraDetections, CameraTrack, CameraTracks, Detection, EgoMotion, Object, Plan, TickDecision,
        WorldModel,
    };
    use crate::runtime::graph::{DigestNote, FaultNote, NO_GROUP, TimingNote};
    use crate::stages::preprocess::raw_slot::RawSlot;
    use crate::tap::{Picture, TapSummary};
    use catseye_sensors::picture::{Frame, PixelFormat};

    const WIDTH_PX: u32 = 64;
    const HEIGHT_PX: u32 = 48;

    fn deadline(of: &str, missed: u64, worst_ns: i64) -> DeadlineCount {
        DeadlineCount { of: of.to_owned(), budget_ns: 50_000_000, observed: 120, missed, worst_ns }
    }

    fn settings(folder: &Path) -> CollectorSettings {
        CollectorSettings {
            names: Names {
                stateless: 0,
                stages: vec![("decode".to_owned(), Level::Exact), ("plan".to_owned(), Level::Exact)],
                sensors: vec!["front".to_owned()],
                classes: vec!["car".to_owned(), "person".to_owned()],
            },
            rig: Rig::default_camera(WIDTH_PX, HEIGHT_PX),
            folder: folder.to_owned(),
            pictures: 6,
            video: None,
            frames_folder: None,
            title: "a test drive".to_owned(),
            is_simulated: false,
            header: BTreeMap::from([("rig.name".to_owned(), "default".to_owned())]),
            assumptions: vec!["the road is flat".to_owned()],
            report: Some(folder.join("report.html")),
        }
    }

    /// One tick: two cars and a person seen, one track, one object that comes nearer until tick 20.
    fn body(tick: u64) -> Body {
        let mut seen = CameraDetections { present: true, ..CameraDetections::default() };
        for class in [0, 0, 1] {
            seen.objects.push(Detection { class, ..Detection::default() }).unwrap();
        }
        let mut tracks = CameraTracks::default();
        let box_px = BoxPx { left: 10.0, top: 10.0, right: 30.0, bottom: 30.0 };
        // a new track every ten ticks
        let id = (tick / 10 + 1) as u32;
        tracks.tracks.push(CameraTrack { id, box_px, ..CameraTrack::default() }).unwrap();
        let mut world = WorldModel { tick, ..WorldModel::default() };
        world.ego = EgoMotion { known: true, speed_mps: 8.0, ..EgoMotion::default() };
        let distance = 10.0 + tick.abs_diff(20) as f64;
        world.objects.push(Object { id: 7, position_m: [distance, 0.0], ..Object::default() }).unwrap();
        let time_to_collision_s = if tick < 10 { f32::INFINITY } else { distance as f32 / 4.0 };
        let reason = if tick < 10 { PlanReason::Cruise } else { PlanReason::Follow };
        let plan = Plan { tick, reason, time_to_collision_s, ..Plan::default() };
        Body { detections: vec![seen], tracks: vec![tracks], world, plan, pictures: vec![] }
    }

    fn picture() -> Picture {
        let data = [60, 70, 80].repeat((WIDTH_PX * HEIGHT_PX) as usize);
        let frame = Frame::new(WIDTH_PX, HEIGHT_PX, PixelFormat::Rgb8, true, data).unwrap();
        Picture { camera: 0, frame, raw: RawSlot::default(), masks: None }
    }

    fn output(tick: u64, body: Option<Body>) -> Output {
        let start_ns = tick as i64 * 1_000_000;
        let timing = |stage: u8, from_ns: i64, took_ns: i64| {
            let start_ns = start_ns + from_ns;
            TimingNote { stage, worker: 0, start_ns, end_ns: start_ns + took_ns }
        };
        let digest = |stage: u8| DigestNote { stage, group: NO_GROUP, field: "value", digest: tick + u64::from(stage) };
        let reference_ns = 5_000_000_000 + tick as i64 * 100_000_000;
        Output {
            closed_ns: 0,
            decision: TickDecision { tick, reference_ns, partial: tick == 3, ..TickDecision::default() },
            networks_place: Default::default(),
            drops: vec![],
            faults: vec![],
            digests: vec![digest(0), digest(1)],
            timings: vec![timing(0, 0, 400_000), timing(1, 500_000, 100_000)],
            misses: Default::default(),
            snapshots: vec![],
            body: body.map(Box::new),
        }
    }

    fn run(settings: CollectorSettings, ticks: u64) -> Collected {
        let (mut collector, results) = Collector::new(settings).unwrap();
        let every = collector.pictures_every();
        for tick in 0..ticks {
            let mut body = body(tick);
            if every > 0 && tick.is_multiple_of(every) {
                body.pictures.push(picture());
            }
            collector.take(&output(tick, Some(body))).unwrap();
        }
        let account = Account { name: "front".to_owned(), produced: ticks, consumed: ticks, ..Account::default() };
        collector.finish(&[], &[account]).unwrap();
        let results = results.lock().unwrap();
        results.clone()
    }

    #[test]
    fn a_run_becomes_numbers_a_page_and_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let found = run(settings(folder.path()), 40);
        assert_eq!((found.ticks, found.partial_ticks, found.ticks_with_values), (40, 1, 40));
        assert_eq!(found.detections, BTreeMap::from([("car".to_owned(), 80), ("person".to_owned(), 40)]));
        assert_eq!(found.tracks, BTreeMap::from([("car".to_owned(), 4)]));
        assert_eq!(found.objects, BTreeMap::from([("car".to_owned(), 1)]));
        assert_eq!(found.min_time_to_collision, Some(ClosestCall { seconds: 2.5, tick: 20 }));
        assert_eq!(found.plan_reasons, BTreeMap::from([("cruise", 10), ("follow", 30)]));
        let stages: Vec<&str> = found.latencies.iter().map(|latency| latency.stage.as_str()).collect();
        assert_eq!(stages, ["decode", "plan", WHOLE_TICK]);
        assert!((found.latencies[0].p99_ms - 0.4).abs() < 1e-3);
        assert!((found.latencies[2].max_ms - 0.6).abs() < 1e-9);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);

        let names: Vec<_> = found.pictures.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!((names.len(), names[0]), (6, "tick_000000.jpg"));
        assert!(found.pictures.iter().all(|path| std::fs::read(path).unwrap().starts_with(&[0xFF, 0xD8])));
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        for words in ["a test drive", "the road is flat", "40 over 3.9 s", "car 7", "2.5 s at tick 20", "rig.name"] {
            assert!(page.contains(words), "{words}");
        }
        assert_eq!(page.matches("data:image/jpeg;base64,").count(), 6);
    }

    #[test]
    fn the_same_run_gives_the_same_page() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let page = |folder: &tempfile::TempDir| {
            run(settings(folder.path()), 25);
            std::fs::read(folder.path().join("report.html")).unwrap()
        };
        assert_eq!(page(&folders[0]), page(&folders[1]));
    }

    #[test]
    fn digests_tell_runs_apart() {
        let folder = tempfile::tempdir().unwrap();
        let one = run(settings(folder.path()), 5);
        assert_eq!(one.digest, run(settings(folder.path()), 5).digest);
        let other = run(settings(folder.path()), 6);
        assert!(one.digest.is_some() && one.digest != other.digest);
        assert_eq!(one.stage_digests.keys().collect::<Vec<_>>(), ["decode", "plan"]);
    }

    #[test]
    fn a_video_and_a_folder_hold_every_tick() {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("videos/overlay.avi");
        let frames = folder.path().join("frames");
        let wanted = CollectorSettings {
            video: Some(video.clone()),
            frames_folder: Some(frames.clone()),
            report: None,
            ..settings(folder.path())
        };
        let found = run(wanted, 9);
        let bytes = std::fs::read(video).unwrap();
        assert!(bytes.starts_with(b"RIFF"));
        // the main header's number of frames
        assert_eq!(bytes[48..52], 9u32.to_le_bytes());
        assert_eq!(std::fs::read_dir(frames).unwrap().count(), 9);
        assert!(found.pictures.is_empty() && !folder.path().join("report.html").exists());
    }

    #[test]
    fn pictures_are_asked_for_as_needed() {
        let folder = tempfile::tempdir().unwrap();
        let every = |change: &dyn Fn(&mut CollectorSettings)| {
            let mut settings = settings(folder.path());
            change(&mut settings);
            Collector::new(settings).unwrap().0.pictures_every()
        };
        assert_eq!(every(&|_| {}), PICTURE_STRIDE);
        assert_eq!(every(&|settings| settings.frames_folder = Some(folder.path().join("frames"))), 1);
        assert_eq!(every(&|settings| settings.report = None), 0);
        assert_eq!(every(&|settings| settings.pictures = 0), 0);
    }

    #[test]
    fn ticks_without_values_are_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let (mut collector, results) = Collector::new(settings(folder.path())).unwrap();
        let late = DropDecision { sensor: 0, reason: DropReason::Late, ..DropDecision::default() };
        for tick in 0..3 {
            let mut output = output(tick, None);
            output.drops = vec![DropDecision { stamp_ns: i64::MIN, ..late }];
            collector.take(&output).unwrap();
        }
        collector.finish(&[late], &[]).unwrap();
        let found = results.lock().unwrap();
        assert_eq!((found.ticks, found.ticks_with_values), (3, 0));
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.contains("No picture was kept") && page.contains(">4</td>"));
    }

    #[test]
    fn faults_are_counted_and_the_first_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut collector, results) = Collector::new(settings(folder.path())).unwrap();
        for tick in 0..30 {
            let mut output = output(tick, Some(body(tick)));
            output.faults = vec![FaultNote { stage: 1, message: format!("reason {tick}") }];
            collector.take(&output).unwrap();
        }
        collector.finish(&[], &[]).unwrap();
        let found = results.lock().unwrap();
        assert_eq!((found.faults, found.first_faults.len()), (30, MOST_FAULTS));
        let first = Fault { tick: 0, stage: "plan".to_owned(), message: "reason 0".to_owned() };
        assert_eq!(found.first_faults[0], first);
        assert!(found.warnings[0].contains("faults: 30, the first in tick 0, plan: reason 0"));
    }

    #[test]
    fn no_time_to_collision_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (mut collector, results) = Collector::new(settings(folder.path())).unwrap();
        for (tick, seconds) in [f32::INFINITY, f32::NAN].into_iter().enumerate() {
            let mut body = body(tick as u64);
            body.plan.time_to_collision_s = seconds;
            collector.take(&output(tick as u64, Some(body))).unwrap();
        }
        collector.finish(&[], &[]).unwrap();
        assert_eq!(results.lock().unwrap().min_time_to_collision, None);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let inside = blocked.join("inside");
        let changed = CollectorSettings { frames_folder: Some(inside.clone()), ..settings(folder.path()) };
        for settings in [settings(&inside), changed] {
            let Err(TapError::File { path, .. }) = Collector::new(settings) else { panic!("no error") };
            assert_eq!(path, inside);
        }
    }

    #[test]
    fn the_table_says_what_matters() {
        let latency =
            StageLatency { stage: "infer".to_owned(), p50_ms: 41.237, p99_ms: 55.0, ..StageLatency::default() };
        let collected = Collected {
            latencies: vec![latency],
            detections: BTreeMap::from([("car".to_owned(), 700), ("person".to_owned(), 112)]),
            min_time_to_collision: Some(ClosestCall { seconds: 3.21, tick: 81 }),
            warnings: vec!["something".to_owned()],
            ..Collected::default()
        };
        let summary = Summary {
            cut_before: None,
            ticks: 120,
            restored_after: None,
            without_state: false,
            drops: BTreeMap::from([("late", 3), ("overload", 12)]),
            accounts: vec![],
            source: None,
            tap: TapSummary::default(),
            deadlines: vec![deadline("tick", 0, 41_200_000), deadline("infer", 3, 55_000_000)],
            wall: Duration::from_secs(15),
            drive_s: 12.0,
            device_lost: None,
            stopped: false,
        };
        let table = summary_table(&summary, &collected);
        let expected = [
            "ticks       120 in 15.00 s, 8.0 per second, for 12.0 s of driving",
            "stage           p50 ms    p99 ms    max ms",
            "infer            41.24     55.00      0.00",
            "deadlines   tick 50 ms: none of 120 missed, longest 41.2 ms; infer 50 ms: 3 of 120 missed, longest 55.0 ms",
            "dropped     3 late, 12 overload",
            "detections  812 (car 700, person 112)",
            "tracks      0",
            "objects     0",
            "least TTC   3.2 s at tick 81",
            "plans       none",
            "note        something",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
        assert!(table.ends_with('\n'));
    }

    #[test]
    fn many_classes_are_summed_up() {
        let counts = (0..9u64).map(|class| (format!("class {class}"), 10 - class)).collect();
        let words = by_class(&counts);
        assert!(words.starts_with("54 (class 0 10, class 1 9,") && words.ends_with("class 5 5, others 9)"), "{words}");
    }

    #[test]
    fn results_become_json() {
        let mut collected = Collected { pictures: vec![PathBuf::from("a/b.jpg")], ..Collected::default() };
        collected.latencies.push(StageLatency { histogram: vec![1], ..StageLatency::default() });
        let json = serde_json::to_value(&collected).unwrap();
        assert_eq!(json["pictures"][0], "a/b.jpg");
        assert!(json["latencies"][0].get("histogram").is_none());
    }
}
