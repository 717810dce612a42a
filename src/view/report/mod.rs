//! The report of a run: one HTML page that needs no network, for people who want to know what happened and why.
//!
//! Data comes as plain lists in [`ReportData`], filled from a run's log, and goes into one file. Every text is escaped,
//! every number that is not finite is a gap, and every part says in words when it has nothing to show. The same data
//! gives the same bytes.

pub mod evaluation;
mod html;
mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::file::write_whole;
use crate::messages::{Account, DropReason, Level, PlanReason, RangeSource, StageTiming};
use html::{Cell, Section};
use svg::{Band, LineChart, Series, Stack, Work};

/// Ticks that the timeline shows.
pub const TIMELINE_TICKS: usize = 12;

/// Bars that the timeline is drawn with at most.
const TIMELINE_BARS: usize = 3000;
/// Bins of counts over time.
const TIME_BINS: usize = 60;
/// Times to collision above this say nothing about the next moments and would flatten the chart.
const TTC_SHOWN_S: f64 = 20.0;
const TIME_LABEL: &str = "time, s";

/// Everything that the report shows. Times are in seconds since the run's first tick. Lists may be empty.
#[derive(Clone, Debug, Default)]
pub struct ReportData {
    /// Heading.
    pub title: String,
    /// What was run, on what and how: key and value.
    pub facts: Vec<(String, String)>,
    /// What a reader has to know before believing the rest.
    pub notes: Vec<Note>,
    /// What became of each sensor's packets.
    pub accounts: Vec<Account>,
    /// Latency per stage, in the order of the pipeline.
    pub stages: Vec<StageLatency>,
    /// When each stage ran, by time; the first [`TIMELINE_TICKS`] ticks are drawn.
    pub timings: Vec<StageTiming>,
    /// Ticks, by time.
    pub ticks: Vec<TickPoint>,
    /// Packets left out.
    pub drops: Vec<DropPoint>,
    /// Detections and tracks per camera.
    pub cameras: Vec<CameraSeries>,
    /// Objects of the world model.
    pub objects: Vec<ObjectSeries>,
    /// Plans, by time.
    pub plans: Vec<PlanPoint>,
    /// Digest per stage over the whole run.
    pub digests: Vec<DigestRow>,
    /// One digest over all of them; `None` when the run took none.
    pub combined_digest: Option<u64>,
    /// Pictures.
    pub pictures: Vec<Picture>,
}

/// A sentence above the charts.
#[derive(Clone, Debug)]
pub enum Note {
    /// Something was not as it should be.
    Warning(String),
    /// Something was taken for granted.
    Assumption(String),
}

/// How long one stage took per tick, milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageLatency {
    /// The stage.
    pub stage: String,
    /// Ticks it worked on.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// Counts in bins of equal width from 0 to the longest; may be empty.
    #[serde(skip)]
    pub histogram: Vec<u64>,
}

/// Admitted ticks of one moment.
#[derive(Clone, Copy, Debug)]
pub struct TickPoint {
    /// Their reference time.
    pub time_s: f64,
    /// Whether a camera's picture or a lidar's scan was missing.
    pub partial: bool,
    /// How many.
    pub count: u64,
}

/// Packets that were left out in one moment.
#[derive(Clone, Debug)]
pub struct DropPoint {
    /// When.
    pub time_s: f64,
    /// Name of their sensor.
    pub sensor: String,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub count: u64,
}

/// One camera over time.
#[derive(Clone, Debug, Default)]
pub struct CameraSeries {
    /// Its name.
    pub camera: String,
    /// Its ticks, by time.
    pub points: Vec<CameraPoint>,
}

/// One camera in one tick.
#[derive(Clone, Copy, Debug)]
pub struct CameraPoint {
    /// When.
    pub time_s: f64,
    /// Objects seen; `None` without a picture.
    pub detections: Option<u32>,
    /// Tracks alive.
    pub tracks: u32,
}

/// One object over time.
#[derive(Clone, Debug, Default)]
pub struct ObjectSeries {
    /// Its number.
    pub id: u32,
    /// Name of its class.
    pub class: String,
    /// What its last position came from.
    pub source: RangeSource,
    /// Where it was, by time.
    pub points: Vec<ObjectPoint>,
}

/// One object in one tick.
#[derive(Clone, Copy, Debug)]
pub struct ObjectPoint {
    /// When.
    pub time_s: f64,
    /// Distance from the vehicle's origin; NaN for a gap.
    pub range_m: f64,
    /// Its speed.
    pub speed_mps: f64,
    /// Infinite when the gap does not close.
    pub time_to_collision_s: f64,
}

/// One plan.
#[derive(Clone, Copy, Debug)]
pub struct PlanPoint {
    /// When.
    pub time_s: f64,
    /// Why.
    pub reason: PlanReason,
    /// Speed to reach.
    pub target_speed_mps: f64,
    /// Acceleration to apply.
    pub acceleration_mps2: f64,
    /// The vehicle's own speed; `None` when no sensor told.
    pub ego_speed_mps: Option<f64>,
    /// Smallest in the path; infinite when there is none.
    pub time_to_collision_s: f64,
}

/// One stage's digest over the run.
#[derive(Clone, Debug)]
pub struct DigestRow {
    /// The stage.
    pub stage: String,
    /// How far its bits reach.
    pub level: Level,
    /// Ticks behind it.
    pub ticks: u64,
    /// The digest.
    pub digest: u64,
}

/// One picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What it shows.
    pub caption: String,
    /// The JPEG file's bytes.
    pub jpeg: Vec<u8>,
}

/// The report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the report {path} could not be written: {source}")]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes the report as a file; a former one stays until the new one is whole.
///
/// # Errors
/// [`ReportError`] when the file cannot be written.
pub fn save(data: &ReportData, path: &Path) -> Result<(), ReportError> {
    write_whole(path, render(data).as_bytes()).map_err(|source| ReportError { path: path.to_owned(), source })
}

/// The report as HTML.
pub fn render(data: &ReportData) -> String {
    let part = |id, title, html| Section { id, title, html };
    let sections = [
        part("accounts", "Packets", accounts(data)),
        part("latency", "Latency", latency(&data.stages)),
        part("timeline", "Timeline", timeline(&data.timings)),
        part("ticks", "Ticks and drops", ticks(data)),
        part("cameras", "Cameras", cameras(&data.cameras)),
        part("objects", "Objects", objects(&data.objects)),
        part("plan", "Plan", plans(&data.plans)),
        part("pictures", "Pictures", pictures(&data.pictures)),
        part("digests", "Digests", digests(data)),
    ];
    html::page(&data.title, &intro(data), &sections, Some(html::READ_OUT))
}

fn intro(data: &ReportData) -> String {
    let mut out = html::facts(&data.facts);
    if data.notes.is_empty() {
        return out;
    }
    out.push_str("<ul class=\"notes\">");
    for note in &data.notes {
        let (class, word, text) = match note {
            Note::Warning(text) => ("warning", "Warning", text),
            Note::Assumption(text) => ("assumption", "Assumption", text),
        };
        out.push_str(&format!("<li class=\"{class}\"><b>{word}</b>{}</li>\n", html::escape(text)));
    }
    out.push_str("</ul>");
    out
}

/// Lines over time, from 0.
fn over_time<'a>(y_label: &'a str, series: Vec<Series>, empty: &'a str) -> LineChart<'a> {
    LineChart { x_label: TIME_LABEL, y_label, y_shows: &[0.0], series, empty, ..LineChart::default() }
}

fn number(value: impl ToString) -> Cell {
    Cell::Number(value.to_string())
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// A number with fixed decimals; a dash where there is none.
fn decimal(value: f64, decimals: usize) -> Cell {
    Cell::Number(if value.is_finite() { format!("{value:.decimals$}") } else { "–".to_owned() })
}

fn accounts(data: &ReportData) -> String {
    let row = |account: &Account| {
        let explained = account.consumed.saturating_add(account.dropped).saturating_add(account.pending);
        let verdict = if explained == account.produced {
            "<span>adds up</span>".to_owned()
        } else {
            format!("<span class=\"bad\">does not add up: {explained} explained</span>")
        };
        vec![
            text(&account.name),
            number(account.produced),
            number(account.consumed),
            number(account.dropped),
            number(account.pending),
            Cell::Html(verdict),
        ]
    };
    let rows: Vec<Vec<Cell>> = data.accounts.iter().map(row).collect();
    let head = ["sensor", "produced", "consumed", "dropped", "pending", "produced = consumed + dropped + pending"];
    // they stand at the end of a log, where one that was cut off has none
    let words = if data.ticks.is_empty() { "No sensor was read." } else { "The log has no accounts." };
    html::table(&head, &rows, words)
}

fn latency(stages: &[StageLatency]) -> String {
    let row = |stage: &StageLatency| {
        vec![
            text(&stage.stage),
            number(stage.count),
            decimal(stage.p50_ms, 3),
            decimal(stage.p90_ms, 3),
            decimal(stage.p99_ms, 3),
            decimal(stage.max_ms, 3),
            Cell::Html(svg::spark(&stage.histogram)),
        ]
    };
    let rows: Vec<Vec<Cell>> = stages.iter().map(row).collect();
    let head = ["stage", "ticks", "p50, ms", "p90, ms", "p99, ms", "max, ms", "0 to max"];
    html::table(&head, &rows, "No stage was timed.")
}

fn timeline(timings: &[StageTiming]) -> String {
    let first: BTreeSet<u64> =
        timings.iter().map(|timing| timing.tick).collect::<BTreeSet<u64>>().into_iter().take(TIMELINE_TICKS).collect();
    let shown: Vec<&StageTiming> =
        timings.iter().filter(|timing| first.contains(&timing.tick)).take(TIMELINE_BARS).collect();
    let start_ns = shown.iter().map(|timing| timing.start_ns).min().unwrap_or(0);
    let workers = positions(shown.iter().map(|timing| timing.worker));
    let stages = positions(shown.iter().map(|timing| timing.stage.as_str()));
    let work = |timing: &&StageTiming| {
        let at = |stamp_ns: i64| stamp_ns.saturating_sub(start_ns) as f64 * 1e-6;
        let (from, to) = (at(timing.start_ns), at(timing.end_ns));
        Work {
            row: workers.get(&timing.worker).copied().unwrap_or(0),
            from,
            to,
            kind: stages.get(timing.stage.as_str()).copied().unwrap_or(0),
            title: format!("{}, tick {}: {:.3} ms from {from:.3} ms", timing.stage, timing.tick, to - from),
        }
    };
    let works: Vec<Work> = shown.iter().map(work).collect();
    let rows: Vec<String> = workers.keys().map(|worker| format!("worker {worker}")).collect();
    let kinds: Vec<String> = stages.keys().map(|stage| (*stage).to_owned()).collect();
    let title = format!("The first {} ticks", first.len());
    html::figure(&title, &svg::timeline(&rows, &kinds, &works, "time since the first work, ms", "No stage was timed."))
}

/// Each value's place in their order.
fn positions<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let distinct: BTreeSet<T> = values.collect();
    distinct.into_iter().enumerate().map(|(place, value)| (value, place)).collect()
}

fn ticks(data: &ReportData) -> String {
    let times = data.ticks.iter().map(|tick| tick.time_s).chain(data.drops.iter().map(|drop| drop.time_s));
    let range = time_range(times);
    let counts = |counted: &mut dyn Iterator<Item = (f64, u64)>| bin_counts(counted, range);
    let stack = |name: &str, counts: Vec<u64>| Stack { name: name.to_owned(), counts };
    let of_kind = |partial: bool| {
        let ticks = data.ticks.iter().filter(|tick| tick.partial == partial);
        counts(&mut ticks.map(|tick| (tick.time_s, tick.count)))
    };
    let admitted =
        [stack("complete", of_kind(false)), stack("partial (a picture or a scan was missing)", of_kind(true))];

    let reasons: BTreeSet<DropReason> = data.drops.iter().map(|drop| drop.reason).collect();
    let of_reason = |reason: &DropReason| {
        let drops = data.drops.iter().filter(|drop| drop.reason == *reason);
        stack(reason.name(), counts(&mut drops.map(|drop| (drop.time_s, drop.count))))
    };
    let dropped: Vec<Stack> = reasons.iter().map(of_reason).collect();

    let bars = |stacks: &[Stack], label, words| svg::stacked_bars(range, stacks, TIME_LABEL, label, words);
    let mut out = html::figure("Admitted ticks", &bars(&admitted, "ticks per bin", "No tick was admitted."));
    out.push_str(&html::figure("Dropped packets", &bars(&dropped, "packets per bin", "No packet was dropped.")));
    if !data.drops.is_empty() {
        out.push_str(&drop_table(&data.drops));
    }
    out
}

fn drop_table(drops: &[DropPoint]) -> String {
    let mut sums: BTreeMap<(&str, DropReason), u64> = BTreeMap::new();
    for drop in drops {
        let sum = sums.entry((drop.sensor.as_str(), drop.reason)).or_default();
        *sum = sum.saturating_add(drop.count);
    }
    let row =
        |((sensor, reason), count): (&(&str, DropReason), &u64)| vec![text(sensor), text(reason.name()), number(count)];
    let rows: Vec<Vec<Cell>> = sums.iter().map(row).collect();
    html::table(&["sensor", "reason", "dropped packets"], &rows, "No packet was dropped.")
}

/// First and last finite time; 0 to 1 when there is none.
fn time_range(times: impl Iterator<Item = f64>) -> [f64; 2] {
    let finite = times.filter(|time| time.is_finite());
    let [low, high] =
        finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], time| [low.min(time), high.max(time)]);
    if low <= high { [low, high] } else { [0.0, 1.0] }
}

/// Sums of the counts whose times fall into each of [`TIME_BINS`] bins of equal width.
fn bin_counts(counted: &mut dyn Iterator<Item = (f64, u64)>, [low, high]: [f64; 2]) -> Vec<u64> {
    let mut sums = vec![0u64; TIME_BINS];
    for (time, count) in counted.filter(|(time, _)| time.is_finite()) {
        let share = if high > low { (time - low) / (high - low) } else { 0.0 };
        let bin = ((share * TIME_BINS as f64) as usize).min(TIME_BINS - 1);
        sums[bin] = sums[bin].saturating_add(count);
    }
    sums
}

fn cameras(cameras: &[CameraSeries]) -> String {
    let series = |value: fn(&CameraPoint) -> f64| -> Vec<Series> {
        let points =
            |camera: &CameraSeries| camera.points.iter().map(|point| [point.time_s, value(point)]).collect::<Vec<_>>();
        cameras
            .iter()
            .map(|camera| Series { name: camera.camera.clone(), points: points(camera), look: None })
            .collect()
    };
    let chart = |series, y_label, empty| svg::line_chart(&over_time(y_label, series, empty));
    let seen = series(|point| point.detections.map_or(f64::NAN, f64::from));
    let followed = series(|point| f64::from(point.tracks));
    html::figure("Detections per camera", &chart(seen, "detections", "No camera had a picture."))
        + &html::figure("Tracks per camera", &chart(followed, "tracks", "No camera had a track."))
}

fn objects(objects: &[ObjectSeries]) -> String {
    let line = |object: &ObjectSeries| Series {
        name: format!("{} {}", object.class, object.id),
        points: object.points.iter().map(|point| [point.time_s, point.range_m]).collect(),
        look: None,
    };
    let lines = objects.iter().map(line).collect();
    let chart = over_time("range, m", lines, "The world model held no object.");
    let rows: Vec<Vec<Cell>> = objects.iter().map(object_row).collect();
    let head = [
        "object",
        "first seen, s",
        "last seen, s",
        "ticks",
        "nearest, m",
        "fastest, m/s",
        "lowest TTC, s",
        "last range from",
    ];
    html::figure("Distance from the vehicle", &svg::line_chart(&chart))
        + &html::table(&head, &rows, "The world model held no object.")
}

fn object_row(object: &ObjectSeries) -> Vec<Cell> {
    let lowest = |value: fn(&ObjectPoint) -> f64| {
        object.points.iter().map(value).filter(|value| value.is_finite()).fold(f64::INFINITY, f64::min)
    };
    let end = |point: Option<&ObjectPoint>| decimal(point.map_or(f64::NAN, |point| point.time_s), 2);
    vec![
        Cell::Text(format!("{} {}", object.class, object.id)),
        end(object.points.first()),
        end(object.points.last()),
        number(object.points.len()),
        decimal(lowest(|point| point.range_m), 1),
        decimal(-lowest(|point| -point.speed_mps), 1),
        decimal(lowest(|point| point.time_to_collision_s), 1),
        text(object.source.name()),
    ]
}

fn plans(plans: &[PlanPoint]) -> String {
    let series = |name: &str, value: fn(&PlanPoint) -> f64| Series {
        name: name.to_owned(),
        points: plans.iter().map(|plan| [plan.time_s, value(plan)]).collect(),
        look: None,
    };
    let chart =
        |y_label, series, bands, empty| svg::line_chart(&LineChart { bands, ..over_time(y_label, series, empty) });
    let speeds = vec![
        series("target speed", |plan| plan.target_speed_mps),
        series("own speed", |plan| plan.ego_speed_mps.unwrap_or(f64::NAN)),
    ];
    let accelerations = vec![series("acceleration", |plan| plan.acceleration_mps2)];
    let collisions = vec![series("time to collision", |plan| {
        if plan.time_to_collision_s <= TTC_SHOWN_S { plan.time_to_collision_s } else { f64::NAN }
    })];
    let closing = plans.iter().any(|plan| plan.time_to_collision_s.is_finite());
    let no_collision = if closing {
        "No time to collision below 20 s: nothing was closing in fast."
    } else {
        "No time to collision: nothing was closing in."
    };
    let collision_title = format!("Time to collision, up to {TTC_SHOWN_S:.0} s");
    html::figure("Speed, and the plan's reason", &chart("m/s", speeds, reason_bands(plans), "There was no plan."))
        + &html::figure("Acceleration wanted", &chart("m/s²", accelerations, reason_bands(plans), "There was no plan."))
        + &html::figure(&collision_title, &chart("s", collisions, Vec::new(), no_collision))
}

/// Stretches of time with the same reason, each up to the begin of the next.
fn reason_bands(plans: &[PlanPoint]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for run in plans.chunk_by(|one, next| one.reason == next.reason) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        if let Some(before) = bands.last_mut() {
            before.to = first.time_s;
        }
        let colour = match first.reason {
            PlanReason::Cruise => 2,
            PlanReason::Follow => 0,
            PlanReason::Brake => 4,
            PlanReason::EmergencyBrake => 1,
            PlanReason::NoWorld => 6,
        };
        bands.push(Band { from: first.time_s, to: last.time_s, colour, name: first.reason.name().to_owned() });
    }
    bands
}

fn pictures(pictures: &[Picture]) -> String {
    if pictures.is_empty() {
        return "<p class=\"empty\">No picture was kept.</p>".to_owned();
    }
    let all: Vec<String> = pictures.iter().map(|picture| html::picture(&picture.jpeg, &picture.caption)).collect();
    format!("<div class=\"pictures\">{}</div>", all.concat())
}

fn digests(data: &ReportData) -> String {
    let row = |digest: &DigestRow| {
        let code = Cell::Code(format!("{:016x}", digest.digest));
        vec![text(&digest.stage), text(digest.level.name()), number(digest.ticks), code]
    };
    let rows: Vec<Vec<Cell>> = data.digests.iter().map(row).collect();
    let table = html::table(&["stage", "level", "ticks", "digest"], &rows, "The run took no digests.");
    match data.combined_digest {
        Some(digest) => format!("<p>All together: <code>{digest:016x}</code></p>{table}"),
        None => table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opening and closing tags must match; enough to catch a forgotten end or an unescaped text.
    fn assert_balanced(page: &str) {
        let body = page.split_once("<body>").unwrap().1.split_once("<script>").unwrap().0;
        let mut open: Vec<&str> = Vec::new();
        for piece in body.split('<').skip(1) {
            let (tag, _) = piece.split_once('>').unwrap();
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "in {tag}");
            } else if !tag.ends_with('/') && !["img", "input"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    fn full() -> ReportData {
        let time = |index: u32| f64::from(index) * 0.1;
        let evil = "<script>alert('x')</script>".to_owned();
        let timing = |index: u32| StageTiming {
            tick: u64::from(index / 2),
            stage: if index.is_multiple_of(2) { evil.clone() } else { "track".to_owned() },
            worker: (index % 3) as u16,
            start_ns: i64::from(index) * 1_000_000,
            end_ns: i64::from(index) * 1_000_000 + 700_000,
        };
        let plan = |index: u32| PlanPoint {
            time_s: time(index),
            reason: if index < 20 { PlanReason::Cruise } else { PlanReason::Brake },
            target_speed_mps: 10.0,
            acceleration_mps2: -0.5,
            ego_speed_mps: (!index.is_multiple_of(7)).then_some(9.0),
            time_to_collision_s: if index < 30 { f64::INFINITY } else { 3.0 },
        };
        let point = |index: u32| ObjectPoint {
            time_s: time(index),
            range_m: 50.0 - time(index),
            speed_mps: 4.0,
            time_to_collision_s: 12.5,
        };
        let camera =
            |index: u32| CameraPoint { time_s: time(index), detections: (index != 5).then_some(index), tracks: 2 };
        ReportData {
            title: evil.clone(),
            facts: vec![(evil.clone(), evil.clone())],
            notes: vec![Note::Warning(evil.clone()), Note::Assumption(evil.clone())],
            accounts: vec![
                Account { name: evil.clone(), produced: 10, consumed: 8, dropped: 1, pending: 1, ..Account::default() },
                Account { name: "lidar".to_owned(), produced: 10, consumed: 8, ..Account::default() },
            ],
            stages: vec![StageLatency { stage: evil.clone(), histogram: vec![1, 5, 0, 2], ..StageLatency::default() }],
            timings: (0..100).map(timing).collect(),
            ticks: (0..40).map(|index| TickPoint { time_s: time(index), partial: index % 9 == 0, count: 1 }).collect(),
            drops: vec![DropPoint { time_s: 1.0, sensor: evil.clone(), reason: DropReason::Late, count: 17 }],
            cameras: vec![CameraSeries { camera: evil.clone(), points: (0..40).map(camera).collect() }],
            objects: vec![ObjectSeries {
                id: 3,
                class: evil.clone(),
                points: (0..40).map(point).collect(),
                ..ObjectSeries::default()
            }],
            plans: (0..40).map(plan).collect(),
            digests: vec![DigestRow { stage: evil.clone(), level: Level::Exact, ticks: 40, digest: 0xAB }],
            combined_digest: Some(0xCD),
            pictures: vec![Picture { caption: evil, jpeg: vec![0xFF, 0xD8, 0xFF] }],
        }
    }

    #[test]
    fn texts_from_outside_are_escaped_everywhere() {
        let page = render(&full());
        // the page's own script is the only one
        assert_eq!(page.matches("<script>").count(), 1);
        assert!(page.matches("&lt;script&gt;").count() > 15);
        assert_balanced(&page);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = render(&full());
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("@import"));
        assert!(page.contains("data:image/jpeg;base64,/9j/"));
    }

    #[test]
    fn empty_data_renders_in_words() {
        let page = render(&ReportData::default());
        assert_balanced(&page);
        for words in ["nothing was closing in", "No sensor was read", "No picture was kept", "No packet was dropped"] {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("<svg"));
    }

    #[test]
    fn ticks_without_accounts_are_no_run_without_sensors() {
        let page = render(&ReportData { accounts: Vec::new(), ..full() });
        assert!(page.contains("The log has no accounts.") && !page.contains("No sensor was read"));
        assert!(page.contains("partial (a picture or a scan was missing)"));
    }

    #[test]
    fn numbers_that_are_not_finite_never_reach_the_page() {
        let mut data = full();
        for point in &mut data.objects[0].points {
            point.range_m = f64::NAN;
            point.time_to_collision_s = f64::INFINITY;
        }
        data.ticks[3].time_s = f64::NAN;
        data.plans[3].acceleration_mps2 = f64::NEG_INFINITY;
        let page = render(&data);
        let body = page.split_once("<body>").unwrap().1.split_once("<script>").unwrap().0;
        assert!(!body.contains("NaN") && !body.contains(">inf") && !body.contains("\"inf"));
    }

    #[test]
    fn accounts_that_do_not_add_up_stand_out() {
        let page = render(&full());
        assert_eq!(page.matches("does not add up: 8 explained").count(), 1);
    }

    #[test]
    fn dropped_packets_are_counted_not_points() {
        assert!(ticks(&full()).contains("<td class=\"number\">17</td>"));
    }

    #[test]
    fn reasons_become_bands_without_holes() {
        let bands = reason_bands(&full().plans);
        assert_eq!(bands.len(), 2);
        assert_eq!((bands[0].from, bands[0].to), (0.0, bands[1].from));
        assert_eq!(bands[1].name, "brake");
    }

    #[test]
    fn every_time_falls_into_a_bin() {
        let times = [0.0, 0.5, 1.0, f64::NAN];
        let counts = bin_counts(&mut times.into_iter().zip([1, 2, 3, 4]), time_range(times.into_iter()));
        assert_eq!((counts[0], counts[30], counts[59]), (1, 2, 3));
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!(time_range([].into_iter()), [0.0, 1.0]);
    }

    #[test]
    fn the_timeline_shows_the_first_ticks_only() {
        let html = timeline(&full().timings);
        assert_eq!(html.matches("<rect").count(), 2 * TIMELINE_TICKS);
        assert!(html.contains("worker 2"));
    }

    #[test]
    fn the_file_is_what_was_rendered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        save(&full(), &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), render(&full()));
        assert!(save(&full(), &folder.path().join("no/report.html")).is_err());
    }
}
