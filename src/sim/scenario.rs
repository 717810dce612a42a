//! Scenario files: what a drive is like, in TOML.
//!
//! A person writes a file, or one that ships is named, or chance makes one up ([`Scenario::random`]); the
//! [`road`](super::road) and the [`world`](super::world) are made from it. A scenario that was loaded or made up here
//! has passed one and the same check: all numbers are finite and sensible, the ego vehicle has its lane, and the road
//! goes on for longer than the drive.
//!
//! All that a file can say, with what holds where it does not:
//!
//! ```toml
//! name = "example"        # the file's name
//! seed = 1                # 0
//! duration_s = 10.0       # 10
//! light = "day"           # day; or dusk, night
//! rig = "sim-car"         # sim-car; or hyperion-8.1, or a file relative to the scenario's folder
//!
//! [road]
//! own_lanes = 1           # 1
//! oncoming_lanes = 1      # 1
//! lane_width_m = 3.5      # 3.5
//! pavements = true        # false: grass
//! buildings = 4.0         # 0; per 100 m and side, as are trees
//! trees = 2.0             # 0
//! junctions_m = [150.0]   # none
//! seed = 3                # 0
//!
//! [[road.segment]]        # one at least
//! length_m = 300.0
//! curvature_per_m = 0.0   # positive to the left; or radius_m = -200.0, with the same sign
//!
//! [ego]
//! s_m = 20.0              # 20
//! lane = 0                # 0, the right one
//! speed_mps = 12.0        # 12
//! cruise_mps = 12.0       # 12
//!
//! [[actor]]
//! kind = "pedestrian"     # or car, truck, cyclist
//! ahead_m = 80.0
//! left_m = -4.0           # 0, the middle of the ego lane
//! speed_mps = 0.0         # 0
//! oncoming = false        # false
//! parked = false          # false
//! follows_traffic = false # false
//!
//! [[actor.event]]
//! at_s = 2.0              # or when_ego_arrives_in_s
//! cross = { left_m = 6.0, speed_mps = 1.4 }
//! # or speed = { speed_mps = 0.0, acceleration_mps2 = 7.0 }
//! # or shift = { left_m = 0.0, within_s = 2.5 }
//!
//! [traffic]
//! vehicles = 2.0          # 0, as are the others
//! parked = 1.0
//! pedestrians = 3.0
//! cyclists = 0.5
//! ```

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::random::Random;

/// How far the road goes on beyond where the ego vehicle can get to.
const ROAD_AHEAD_M: f64 = 150.0;
/// Most segments, actors, junctions, and events of an actor.
const MOST: usize = 1000;

/// One drive.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Seed of all chance in it.
    pub seed: u64,
    /// How long it lasts.
    pub duration_s: f64,
    /// The light.
    pub light: Light,
    /// The rig: the name of a built-in one, or a file relative to the scenario's folder.
    pub rig: String,
    /// The road.
    pub road: RoadSpec,
    /// The ego vehicle.
    pub ego: EgoSpec,
    /// Everybody who was placed by hand.
    pub actors: Vec<ActorSpec>,
    /// Everybody who was not.
    pub traffic: TrafficSpec,
}

/// Time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// Sun.
    #[default]
    Day,
    /// Low sun, grey sky.
    Dusk,
    /// Headlights and street lamps.
    Night,
}

/// The road, segment by segment.
#[derive(Clone, Debug, PartialEq)]
pub struct RoadSpec {
    /// Length and curvature of each segment of the reference line, which parts the two directions.
    pub segments: Vec<Segment>,
    /// Lanes of the ego vehicle's direction, right of the reference line.
    pub own_lanes: usize,
    /// Lanes of the other direction; 0 makes a one-way road.
    pub oncoming_lanes: usize,
    /// Width of a lane.
    pub lane_width_m: f64,
    /// Distance along the road of the middle of each junction with a crossing road.
    pub junctions_m: Vec<f64>,
    /// Whether pavements line the road; else grass does.
    pub pavements: bool,
    /// Buildings, trees and poles per 100 m and side.
    pub buildings: f64,
    /// See `buildings`.
    pub trees: f64,
    /// Seed of what lines the road.
    pub seed: u64,
}

/// A piece of the reference line with constant curvature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Its length.
    pub length_m: f64,
    /// Its curvature, positive to the left, 0 for straight.
    pub curvature_per_m: f64,
}

/// The ego vehicle.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgoSpec {
    /// Where it starts along the road.
    pub s_m: f64,
    /// Its lane, from the right, 0 first.
    pub lane: usize,
    /// Its speed at the start.
    pub speed_mps: f64,
    /// The speed it wants.
    pub cruise_mps: f64,
}

impl Default for EgoSpec {
    fn default() -> Self {
        EgoSpec { s_m: 20.0, lane: 0, speed_mps: 12.0, cruise_mps: 12.0 }
    }
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A passenger car.
    Car,
    /// A truck or van.
    Truck,
    /// A person on a bicycle.
    Cyclist,
    /// A person on foot.
    Pedestrian,
}

impl ActorKind {
    /// All kinds, in the order of the class numbers of the network that ships.
    pub const ALL: [ActorKind; 4] = [ActorKind::Car, ActorKind::Truck, ActorKind::Cyclist, ActorKind::Pedestrian];

    /// The class name in truth, models and labels.
    pub fn class_name(self) -> &'static str {
        match self {
            ActorKind::Car => "car",
            ActorKind::Truck => "truck",
            ActorKind::Cyclist => "cyclist",
            ActorKind::Pedestrian => "pedestrian",
        }
    }
}

/// Somebody who was placed by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorSpec {
    /// What it is.
    pub kind: ActorKind,
    /// Start along the road, relative to the ego vehicle's.
    pub ahead_m: f64,
    /// Start to the left of the ego lane's middle.
    pub left_m: f64,
    /// Speed at the start, along its direction.
    pub speed_mps: f64,
    /// Whether it comes towards the ego vehicle.
    pub oncoming: bool,
    /// Whether it stands parked: no driver, no script.
    pub parked: bool,
    /// Whether it keeps its distance to whoever is ahead in its lane.
    pub follows_traffic: bool,
    /// What it does and when, by time.
    pub events: Vec<Event>,
}

/// Something that an actor begins to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Time from the start of the drive, or the time gap to the ego vehicle at which it begins, see `trigger`.
    pub at_s: f64,
    /// What `at_s` counts.
    pub trigger: Trigger,
    /// What begins.
    pub action: Action,
}

/// When an event begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// So long after the start.
    Time,
    /// When the ego vehicle, at its present speed, is so long away from the actor's place along the road.
    EgoArrivesIn,
}

/// What an actor can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Reaches a speed with an acceleration (its size).
    Speed {
        /// The speed.
        speed_mps: f64,
        /// The size of the acceleration.
        acceleration_mps2: f64,
    },
    /// Moves to a place left of the ego lane's middle within a time.
    Shift {
        /// The place.
        left_m: f64,
        /// The time.
        within_s: f64,
    },
    /// Walks or rides straight across the road at a speed, to a place left of the ego lane's middle.
    Cross {
        /// The place.
        left_m: f64,
        /// The speed.
        speed_mps: f64,
    },
}

/// Everybody who was not placed by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficSpec {
    /// Moving vehicles per 100 m of lane, all lanes together.
    pub vehicles: f64,
    /// Parked cars per 100 m and side.
    pub parked: f64,
    /// People on pavements per 100 m and side.
    pub pedestrians: f64,
    /// Cyclists at the edge of the road per 100 m and side.
    pub cyclists: f64,
}

/// Why a scenario does not load.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ScenarioError {
    /// The file, with a line number behind a colon where there is one.
    pub file: String,
    /// Key, what was expected, what was found.
    pub message: String,
}

/// Names and texts of the scenarios that ship.
const BUILT_IN: [(&str, &str); 8] = [
    ("demo", include_str!("scenarios/demo.toml")),
    ("follow", include_str!("scenarios/follow.toml")),
    ("cut-in", include_str!("scenarios/cut-in.toml")),
    ("hard-brake", include_str!("scenarios/hard-brake.toml")),
    ("crossing-pedestrian", include_str!("scenarios/crossing-pedestrian.toml")),
    ("occlusion", include_str!("scenarios/occlusion.toml")),
    ("dense", include_str!("scenarios/dense.toml")),
    ("night-follow", include_str!("scenarios/night-follow.toml")),
];

impl Scenario {
    /// Reads a scenario's text; `file` is for errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let read: ScenarioInFile = toml::from_str(text).map_err(|error| syntax_error(&error, text, file))?;
        let scenario = read.scenario(file).and_then(|scenario| scenario.check().map(|()| scenario));
        scenario.map_err(|problem| problem.into_error(text, file))
    }

    /// Reads a file, or finds the built-in scenario of this name; `random-7` is [`Scenario::random`] with the seed 7.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        if !path.exists()
            && let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| path.to_str() == Some(*name))
        {
            return Scenario::parse(text, name);
        }
        let seed = path.to_str().and_then(|name| name.strip_prefix("random-")).and_then(|seed| seed.parse().ok());
        if let Some(seed) = seed.filter(|_| !path.exists()) {
            return Ok(Scenario::random(seed));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            let names = BUILT_IN.map(|(name, _)| name).join(", ");
            let message = format!("expected a readable scenario file, random-SEED or one of {names}, found {error}");
            ScenarioError { file: file.clone(), message }
        })?;
        Scenario::parse(&text, &file)
    }

    /// The same with another seed and another length, where they are given.
    pub fn changed(mut self, seed: Option<u64>, duration_s: Option<f64>) -> Result<Self, ScenarioError> {
        self.seed = seed.unwrap_or(self.seed);
        self.duration_s = duration_s.unwrap_or(self.duration_s);
        match self.check() {
            Ok(()) => Ok(self),
            Err(problem) => Err(problem.into_error("", &self.name)),
        }
    }

    /// Names and texts of the built-in scenarios.
    pub fn built_in() -> &'static [(&'static str, &'static str)] {
        &BUILT_IN
    }

    /// A scenario made up by chance, for training and evaluation: from an empty country road to a crowded street. No
    /// two seeds give the same one.
    pub fn random(seed: u64) -> Self {
        let random = Random::new(seed).stream("scenario");
        let dice = &mut Dice { random, next: 0 };
        let is_town = dice.happens(0.6);
        let own_lanes = 1 + dice.below(3);
        let cruise_mps = if is_town { dice.between(8.0, 15.0) } else { dice.between(15.0, 30.0) };
        let ego = EgoSpec {
            s_m: dice.between(20.0, 60.0),
            lane: dice.below(own_lanes),
            speed_mps: cruise_mps * dice.between(0.6, 1.0),
            cruise_mps,
        };
        let duration_s = 20.0;
        let road = random_road(dice, &ego, own_lanes, is_town, duration_s);
        let count = 4 + dice.below(5);
        let mut actors: Vec<ActorSpec> = Vec::with_capacity(count);
        for number in 0..count {
            // each in its own piece of the way ahead, so that few stand in each other
            let ahead_m = 8.0 + 62.0 * (number as f64 + dice.between(0.0, 1.0)) / count as f64;
            let actor = random_actor(dice, ahead_m, &ego, &road, &actors);
            actors.push(actor);
        }
        Scenario {
            name: format!("random-{seed}"),
            seed,
            duration_s,
            light: match dice.between(0.0, 1.0) {
                share if share < 0.6 => Light::Day,
                share if share < 0.8 => Light::Dusk,
                _ => Light::Night,
            },
            rig: "sim-car".to_owned(),
            road,
            ego,
            actors,
            traffic: TrafficSpec {
                vehicles: dice.density(8.0),
                parked: dice.density(if is_town { 8.0 } else { 1.0 }),
                pedestrians: dice.density(if is_town { 20.0 } else { 3.0 }),
                cyclists: dice.density(if is_town { 6.0 } else { 2.0 }),
            },
        }
    }

    /// The first thing that is not as [`Scenario`]'s readers may rely on.
    fn check(&self) -> Result<(), Problem> {
        not_empty("name", &self.name)?;
        not_empty("rig", &self.rig)?;
        within("duration_s", self.duration_s, 0.1, 3600.0)?;
        self.road.check()?;
        let ego = &self.ego;
        within("ego.speed_mps", ego.speed_mps, 0.0, 60.0)?;
        within("ego.cruise_mps", ego.cruise_mps, 0.0, 60.0)?;
        within("ego.s_m", ego.s_m, 0.0, self.road.length_m())?;
        if ego.lane >= self.road.own_lanes {
            let expected = format!("a lane from 0 to {}", self.road.own_lanes.saturating_sub(1));
            return Err(Problem::new("ego.lane", expected, ego.lane.to_string()));
        }
        let needed_m = ego.s_m + self.duration_s * ego.speed_mps.max(ego.cruise_mps) + ROAD_AHEAD_M;
        if self.road.length_m() < needed_m {
            let found = format!("{} m", self.road.length_m());
            return Err(Problem::new("road.segment", format!("at least {needed_m} m of road for this drive"), found));
        }
        few("actor", self.actors.len())?;
        for (number, actor) in self.actors.iter().enumerate() {
            actor.check(&format!("actor[{number}]"))?;
        }
        let traffic = &self.traffic;
        within("traffic.vehicles", traffic.vehicles, 0.0, 50.0)?;
        within("traffic.parked", traffic.parked, 0.0, 50.0)?;
        within("traffic.pedestrians", traffic.pedestrians, 0.0, 50.0)?;
        within("traffic.cyclists", traffic.cyclists, 0.0, 50.0)
    }
}

impl RoadSpec {
    /// Length of the reference line.
    fn length_m(&self) -> f64 {
        self.segments.iter().map(|segment| segment.length_m).sum()
    }

    fn check(&self) -> Result<(), Problem> {
        within("road.own_lanes", self.own_lanes as f64, 1.0, 4.0)?;
        within("road.oncoming_lanes", self.oncoming_lanes as f64, 0.0, 4.0)?;
        within("road.lane_width_m", self.lane_width_m, 2.5, 5.0)?;
        within("road.buildings", self.buildings, 0.0, 50.0)?;
        within("road.trees", self.trees, 0.0, 50.0)?;
        if self.segments.is_empty() {
            return Err(Problem::new("road.segment", "tables headed [[road.segment]]", "none"));
        }
        few("road.segment", self.segments.len())?;
        // on a tighter curve the lanes inside it would end in a point
        let half_width_m = self.own_lanes.max(self.oncoming_lanes) as f64 * self.lane_width_m;
        let sharpest_per_m = (0.8 / half_width_m).min(0.1);
        for (number, segment) in self.segments.iter().enumerate() {
            let key = format!("road.segment[{number}]");
            within(format!("{key}.length_m"), segment.length_m, 0.01, 100_000.0)?;
            within(format!("{key}.curvature_per_m"), segment.curvature_per_m, -sharpest_per_m, sharpest_per_m)?;
        }
        few("road.junctions_m", self.junctions_m.len())?;
        for (number, at_m) in self.junctions_m.iter().enumerate() {
            within(format!("road.junctions_m[{number}]"), *at_m, 0.0, self.length_m())?;
        }
        within("road.segment", self.length_m(), 0.0, 300_000.0)
    }
}

impl ActorSpec {
    fn check(&self, key: &str) -> Result<(), Problem> {
        within(format!("{key}.ahead_m"), self.ahead_m, -1000.0, 10_000.0)?;
        within(format!("{key}.left_m"), self.left_m, -100.0, 100.0)?;
        within(format!("{key}.speed_mps"), self.speed_mps, 0.0, 60.0)?;
        if self.parked && !self.events.is_empty() {
            return Err(Problem::new(format!("{key}.parked"), "no events where somebody is parked", "events"));
        }
        few(&format!("{key}.event"), self.events.len())?;
        for (number, event) in self.events.iter().enumerate() {
            event.check(&format!("{key}.event[{number}]"))?;
        }
        Ok(())
    }
}

impl Event {
    fn check(&self, key: &str) -> Result<(), Problem> {
        let trigger = match self.trigger {
            Trigger::Time => "at_s",
            Trigger::EgoArrivesIn => "when_ego_arrives_in_s",
        };
        within(format!("{key}.{trigger}"), self.at_s, 0.0, 3600.0)?;
        match self.action {
            Action::Speed { speed_mps, acceleration_mps2 } => {
                within(format!("{key}.speed.speed_mps"), speed_mps, 0.0, 60.0)?;
                within(format!("{key}.speed.acceleration_mps2"), acceleration_mps2, 0.01, 20.0)
            }
            Action::Shift { left_m, within_s } => {
                within(format!("{key}.shift.left_m"), left_m, -100.0, 100.0)?;
                within(format!("{key}.shift.within_s"), within_s, 0.1, 3600.0)
            }
            Action::Cross { left_m, speed_mps } => {
                within(format!("{key}.cross.left_m"), left_m, -100.0, 100.0)?;
                within(format!("{key}.cross.speed_mps"), speed_mps, 0.1, 60.0)
            }
        }
    }
}

/// A value that is wrong: where, what would be right, what is there.
#[derive(Debug)]
struct Problem {
    key: String,
    expected: String,
    found: String,
}

impl Problem {
    fn new(key: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Problem { key: key.into(), expected: expected.into(), found: found.into() }
    }

    fn into_error(self, text: &str, file: &str) -> ScenarioError {
        let Problem { key, expected, found } = self;
        let line = line(text, start_of(text, &key));
        ScenarioError { file: format!("{file}:{line}"), message: format!("{key}: expected {expected}, found {found}") }
    }
}

fn within(key: impl Into<String>, value: f64, least: f64, most: f64) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(key, format!("a number from {least} to {most}"), value.to_string()))
}

fn not_empty(key: &str, value: &str) -> Result<(), Problem> {
    if value.is_empty() { Err(Problem::new(key, "a text that is not empty", "an empty one")) } else { Ok(()) }
}

fn few(key: &str, count: usize) -> Result<(), Problem> {
    if count <= MOST { Ok(()) } else { Err(Problem::new(key, format!("at most {MOST}"), count.to_string())) }
}

/// Line, counted from one, of a byte of the text.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// What the TOML reader found wrong, in the words of this module.
fn syntax_error(error: &toml::de::Error, text: &str, file: &str) -> ScenarioError {
    let at = error.span().map_or(text.len(), |span| span.start);
    let key = key_at(text, at);
    let key = if key.is_empty() { "(file)" } else { &key };
    let cause = error.message().lines().next().unwrap_or_default();
    let message = match (cause.split_once(", expected "), cause.strip_prefix("missing field ")) {
        (Some((found, expected)), _) => {
            let found = found.strip_prefix("invalid type: ").unwrap_or(found);
            format!("{key}: expected {expected}, found {found}")
        }
        (None, Some(field)) => format!("{key}: expected a key {field}, found none"),
        (None, None) => format!("{key}: expected valid TOML, found {cause}"),
    };
    ScenarioError { file: format!("{file}:{}", line(text, at)), message }
}

/// Visits every value of a table with its path of keys and its bytes, then its key likewise.
fn visit_table(table: &DeTable, path: &str, visit: &mut impl FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        visit(&path, value.span());
        visit(&path, key.span());
        visit_value(value.get_ref(), &path, visit);
    }
}

fn visit_value(value: &DeValue, path: &str, visit: &mut impl FnMut(&str, Range<usize>)) {
    match value {
        DeValue::Table(table) => visit_table(table, path, visit),
        DeValue::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                let path = format!("{path}[{number}]");
                visit(&path, item.span());
                visit_value(item.get_ref(), &path, visit);
            }
        }
        _ => {}
    }
}

/// Byte at which the value of a key starts, or else that of the table around it, or else the text.
fn start_of(text: &str, key: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 0 };
    let mut key = key;
    loop {
        let mut start = None;
        visit_table(document.get_ref(), "", &mut |path, span| {
            if path == key {
                start = start.or(Some(span.start));
            }
        });
        if let Some(start) = start {
            return start;
        }
        let Some(end) = key.rfind(['.', '[']) else { return 0 };
        key = key.get(..end).unwrap_or_default();
    }
}

/// The innermost key at a byte of the text; where that is no TOML, what stands before the line's sign of equality.
fn key_at(text: &str, at: usize) -> String {
    let Ok(document) = DeTable::parse(text) else {
        let line = text.lines().nth(line(text, at).saturating_sub(1)).unwrap_or_default();
        return line.split('=').next().unwrap_or_default().trim().chars().take(60).collect();
    };
    let mut innermost: Option<(usize, String)> = None;
    visit_table(document.get_ref(), "", &mut |path, span| {
        let is_closer = innermost.as_ref().is_none_or(|(length, _)| span.len() <= *length);
        if span.contains(&at) && is_closer {
            innermost = Some((span.len(), path.to_owned()));
        }
    });
    innermost.map(|(_, path)| path).unwrap_or_default()
}

/// The shape of a file, where it is not that of a [`Scenario`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScenarioInFile {
    name: Option<String>,
    seed: u64,
    duration_s: f64,
    light: Light,
    rig: String,
    road: RoadInFile,
    ego: EgoSpec,
    actor: Vec<ActorInFile>,
    traffic: TrafficSpec,
}

impl Default for ScenarioInFile {
    fn default() -> Self {
        ScenarioInFile {
            name: None,
            seed: 0,
            duration_s: 10.0,
            light: Light::Day,
            rig: "sim-car".to_owned(),
            road: RoadInFile::default(),
            ego: EgoSpec::default(),
            actor: Vec::new(),
            traffic: TrafficSpec::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoadInFile {
    segment: Vec<SegmentInFile>,
    own_lanes: usize,
    oncoming_lanes: usize,
    lane_width_m: f64,
    junctions_m: Vec<f64>,
    pavements: bool,
    buildings: f64,
    trees: f64,
    seed: u64,
}

impl Default for RoadInFile {
    fn default() -> Self {
        RoadInFile {
            segment: Vec::new(),
            own_lanes: 1,
            oncoming_lanes: 1,
            lane_width_m: 3.5,
            junctions_m: Vec::new(),
            pavements: false,
            buildings: 0.0,
            trees: 0.0,
            seed: 0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentInFile {
    length_m: f64,
    curvature_per_m: Option<f64>,
    radius_m: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActorInFile {
    kind: ActorKind,
    ahead_m: f64,
    #[serde(default)]
    left_m: f64,
    #[serde(default)]
    speed_mps: f64,
    #[serde(default)]
    oncoming: bool,
    #[serde(default)]
    parked: bool,
    #[serde(default)]
    follows_traffic: bool,
    #[serde(default)]
    event: Vec<EventInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventInFile {
    at_s: Option<f64>,
    when_ego_arrives_in_s: Option<f64>,
    speed: Option<SpeedInFile>,
    shift: Option<ShiftInFile>,
    cross: Option<CrossInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpeedInFile {
    speed_mps: f64,
    acceleration_mps2: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShiftInFile {
    left_m: f64,
    within_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CrossInFile {
    left_m: f64,
    speed_mps: f64,
}

impl ScenarioInFile {
    fn scenario(self, file: &str) -> Result<Scenario, Problem> {
        let stem = || Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let actors = self.actor.into_iter().enumerate().map(|(number, actor)| actor.actor(&format!("actor[{number}]")));
        Ok(Scenario {
            name: self.name.or_else(stem).unwrap_or_default(),
            seed: self.seed,
            duration_s: self.duration_s,
            light: self.light,
            rig: self.rig,
            road: self.road.road()?,
            ego: self.ego,
            actors: actors.collect::<Result<_, _>>()?,
            traffic: self.traffic,
        })
    }
}

impl RoadInFile {
    fn road(self) -> Result<RoadSpec, Problem> {
        let segments = self.segment.into_iter().enumerate();
        let segments = segments.map(|(number, segment)| segment.segment(&format!("road.segment[{number}]")));
        Ok(RoadSpec {
            segments: segments.collect::<Result<_, _>>()?,
            own_lanes: self.own_lanes,
            oncoming_lanes: self.oncoming_lanes,
            lane_width_m: self.lane_width_m,
            junctions_m: self.junctions_m,
            pavements: self.pavements,
            buildings: self.buildings,
            trees: self.trees,
            seed: self.seed,
        })
    }
}

impl SegmentInFile {
    fn segment(self, key: &str) -> Result<Segment, Problem> {
        let curvature_per_m = match (self.curvature_per_m, self.radius_m) {
            (Some(curvature_per_m), None) => curvature_per_m,
            (None, Some(radius_m)) if radius_m.is_finite() && radius_m.abs() >= 10.0 => 1.0 / radius_m,
            (None, Some(radius_m)) => {
                let expected = "a radius of at least 10 m, negative to the right";
                return Err(Problem::new(format!("{key}.radius_m"), expected, radius_m.to_string()));
            }
            (given, _) => return Err(one_of(key, "curvature_per_m, radius_m", given.is_some())),
        };
        Ok(Segment { length_m: self.length_m, curvature_per_m })
    }
}

impl ActorInFile {
    fn actor(self, key: &str) -> Result<ActorSpec, Problem> {
        let events = self.event.into_iter().enumerate();
        let events = events.map(|(number, event)| event.event(&format!("{key}.event[{number}]")));
        Ok(ActorSpec {
            kind: self.kind,
            ahead_m: self.ahead_m,
            left_m: self.left_m,
            speed_mps: self.speed_mps,
            oncoming: self.oncoming,
            parked: self.parked,
            follows_traffic: self.follows_traffic,
            events: events.collect::<Result<_, _>>()?,
        })
    }
}

impl EventInFile {
    fn event(self, key: &str) -> Result<Event, Problem> {
        let (at_s, trigger) = match (self.at_s, self.when_ego_arrives_in_s) {
            (Some(at_s), None) => (at_s, Trigger::Time),
            (None, Some(at_s)) => (at_s, Trigger::EgoArrivesIn),
            (given, _) => return Err(one_of(key, "at_s, when_ego_arrives_in_s", given.is_some())),
        };
        let is_any = self.speed.is_some() || self.shift.is_some() || self.cross.is_some();
        let action = match (self.speed, self.shift, self.cross) {
            (Some(SpeedInFile { speed_mps, acceleration_mps2 }), None, None) => {
                Action::Speed { speed_mps, acceleration_mps2 }
            }
            (None, Some(ShiftInFile { left_m, within_s }), None) => Action::Shift { left_m, within_s },
            (None, None, Some(CrossInFile { left_m, speed_mps })) => Action::Cross { left_m, speed_mps },
            _ => return Err(one_of(key, "speed, shift, cross", is_any)),
        };
        Ok(Event { at_s, trigger, action })
    }
}

/// The problem of a table that has several keys, or none, of which it must have one.
fn one_of(key: &str, keys: &str, has_several: bool) -> Problem {
    Problem::new(key, format!("one of the keys {keys}"), if has_several { "more" } else { "none" })
}

/// Chance, one throw after the other.
struct Dice {
    random: Random,
    next: u64,
}

impl Dice {
    fn throw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        let index = self.throw();
        self.random.between(index, low, high)
    }

    fn below(&mut self, count: usize) -> usize {
        let index = self.throw();
        self.random.below(index, count)
    }

    fn happens(&mut self, probability: f64) -> bool {
        let index = self.throw();
        self.random.happens(index, probability)
    }

    /// Often nobody, else anything up to the most.
    fn density(&mut self, most: f64) -> f64 {
        if self.happens(0.25) { 0.0 } else { self.between(0.0, most) }
    }
}

fn random_road(dice: &mut Dice, ego: &EgoSpec, own_lanes: usize, is_town: bool, duration_s: f64) -> RoadSpec {
    // nobody takes a curve with more than 3 m/s^2
    let sharpest_per_m = (3.0 / (ego.cruise_mps * ego.cruise_mps)).min(0.02);
    let needed_m = ego.s_m + duration_s * ego.cruise_mps + ROAD_AHEAD_M + 50.0;
    let mut segments = Vec::new();
    let (mut length_m, mut heading_rad) = (0.0, 0.0);
    while length_m < needed_m {
        let segment = random_segment(dice, sharpest_per_m, heading_rad);
        length_m += segment.length_m;
        heading_rad += segment.length_m * segment.curvature_per_m;
        segments.push(segment);
    }
    let mut junctions_m = Vec::new();
    if dice.happens(if is_town { 0.6 } else { 0.2 }) {
        let mut at_m = ego.s_m + dice.between(30.0, 120.0);
        while at_m < needed_m - 50.0 {
            junctions_m.push(at_m);
            at_m += dice.between(100.0, 300.0);
        }
    }
    RoadSpec {
        segments,
        own_lanes,
        oncoming_lanes: dice.below(3),
        lane_width_m: dice.between(3.0, 3.75),
        junctions_m,
        pavements: dice.happens(if is_town { 0.9 } else { 0.1 }),
        buildings: dice.density(if is_town { 6.0 } else { 1.0 }),
        trees: dice.density(6.0),
        // scenario files hold numbers of 63 bits
        seed: dice.random.bits(0) >> 1,
    }
}

/// A straight or a curve after which the road has turned by at most 1.2 rad in all, so that it never meets itself.
fn random_segment(dice: &mut Dice, sharpest_per_m: f64, heading_rad: f64) -> Segment {
    let length_m = dice.between(30.0, 150.0);
    if dice.happens(0.4) {
        return Segment { length_m, curvature_per_m: 0.0 };
    }
    let size_per_m = dice.between(0.1, 1.0) * sharpest_per_m.min(1.2 / length_m);
    let turns_left = dice.happens(0.5);
    let curvature_per_m = if turns_left { size_per_m } else { -size_per_m };
    let is_too_far = (heading_rad + length_m * curvature_per_m).abs() > 1.2;
    Segment { length_m, curvature_per_m: if is_too_far { -curvature_per_m } else { curvature_per_m } }
}

/// Left and right edge of the carriageway, as distances to the left of the ego lane's middle.
fn edges_m(ego: &EgoSpec, road: &RoadSpec) -> (f64, f64) {
    let lanes_right = ego.lane as f64 + 0.5;
    let lanes = (road.own_lanes + road.oncoming_lanes) as f64;
    ((lanes - lanes_right) * road.lane_width_m, -lanes_right * road.lane_width_m)
}

/// Somebody about so far ahead, who keeps clear of the others.
fn random_actor(dice: &mut Dice, ahead_m: f64, ego: &EgoSpec, road: &RoadSpec, others: &[ActorSpec]) -> ActorSpec {
    let kind = match dice.between(0.0, 1.0) {
        share if share < 0.3 => ActorKind::Car,
        share if share < 0.45 => ActorKind::Truck,
        share if share < 0.65 => ActorKind::Cyclist,
        _ => ActorKind::Pedestrian,
    };
    let actor = match kind {
        ActorKind::Car | ActorKind::Truck => random_vehicle(dice, kind, ahead_m, ego, road),
        ActorKind::Cyclist => random_cyclist(dice, ahead_m, ego, road),
        ActorKind::Pedestrian => random_pedestrian(dice, ahead_m, ego, road),
    };
    let is_close =
        |other: &ActorSpec| (other.left_m - actor.left_m).abs() < 2.2 && (other.ahead_m - actor.ahead_m).abs() < 13.0;
    if kind != ActorKind::Pedestrian && others.iter().any(is_close) {
        return random_pedestrian(dice, ahead_m, ego, road);
    }
    actor
}

/// A car or truck at the edge of the road or in a lane.
fn random_vehicle(dice: &mut Dice, kind: ActorKind, ahead_m: f64, ego: &EgoSpec, road: &RoadSpec) -> ActorSpec {
    let parked = dice.happens(0.25);
    let lane = dice.below(road.own_lanes + road.oncoming_lanes);
    let speed_mps = ego.speed_mps * dice.between(0.6, 1.1);
    let (_, right_m) = edges_m(ego, road);
    let oncoming = !parked && lane >= road.own_lanes;
    let is_ahead_of_ego = !parked && lane == ego.lane;
    // half a second is little, but a driver's
    let least_m = if is_ahead_of_ego { 12.0 + 0.5 * ego.speed_mps } else { 0.0 };
    ActorSpec {
        kind,
        ahead_m: ahead_m.max(least_m),
        left_m: if parked { right_m - 1.5 } else { (lane as f64 - ego.lane as f64) * road.lane_width_m },
        speed_mps: if parked { 0.0 } else { speed_mps },
        oncoming,
        parked,
        follows_traffic: !parked,
        events: Vec::new(),
    }
}

/// A cyclist at the edge of the road.
fn random_cyclist(dice: &mut Dice, ahead_m: f64, ego: &EgoSpec, road: &RoadSpec) -> ActorSpec {
    let (left_edge_m, right_edge_m) = edges_m(ego, road);
    let oncoming = road.oncoming_lanes > 0 && dice.happens(0.4);
    let inside_m = dice.between(0.2, 0.6);
    ActorSpec {
        kind: ActorKind::Cyclist,
        ahead_m,
        left_m: if oncoming { left_edge_m - inside_m } else { right_edge_m + inside_m },
        speed_mps: dice.between(3.0, 7.0),
        oncoming,
        parked: false,
        follows_traffic: false,
        events: Vec::new(),
    }
}

/// Somebody who walks beside the road, waits there to cross it, or is crossing it.
fn random_pedestrian(dice: &mut Dice, ahead_m: f64, ego: &EgoSpec, road: &RoadSpec) -> ActorSpec {
    let (left_edge_m, right_edge_m) = edges_m(ego, road);
    let (left_side_m, right_side_m) = (left_edge_m + dice.between(1.0, 3.0), right_edge_m - dice.between(1.0, 3.0));
    let is_left = dice.happens(0.5);
    let (side_m, other_side_m) = if is_left { (left_side_m, right_side_m) } else { (right_side_m, left_side_m) };
    let mut actor = ActorSpec {
        kind: ActorKind::Pedestrian,
        ahead_m,
        left_m: side_m,
        speed_mps: 0.0,
        oncoming: dice.happens(0.5),
        parked: false,
        follows_traffic: false,
        events: Vec::new(),
    };
    let (walk_mps, share) = (dice.between(0.8, 2.0), dice.between(0.0, 1.0));
    let cross = |at_s: f64, trigger: Trigger| {
        vec![Event { at_s, trigger, action: Action::Cross { left_m: other_side_m, speed_mps: walk_mps } }]
    };
    // a second to react, then braking at 7 m/s^2
    let stopping_m = 6.0 + ego.speed_mps * (1.0 + ego.speed_mps / 14.0);
    if share < 0.4 {
        actor.speed_mps = walk_mps;
    } else if share < 0.7 && ahead_m > stopping_m {
        actor.left_m = dice.between(right_edge_m, left_edge_m);
        actor.events = cross(0.0, Trigger::Time);
    } else {
        let in_s = 2.5 + ego.cruise_mps / 14.0 + dice.between(0.0, 3.0);
        actor.events = cross(in_s, Trigger::EgoArrivesIn);
    }
    actor
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::{Rig, SIM_CAR};
    use catseye_sensors::can::dbc::Dbc;

    use super::*;
    use crate::sim::sensors::can::{DBC, DBC_NAME};

    const GOOD: &str = r#"duration_s = 5
light = "dusk"

[road]
own_lanes = 2

[[road.segment]]
length_m = 100
curvature_per_m = 0.0

[[road.segment]]
length_m = 200
radius_m = -100

[ego]
lane = 1

[[actor]]
kind = "truck"
ahead_m = 40

[[actor.event]]
at_s = 1.5
speed = { speed_mps = 0, acceleration_mps2 = 7 }

[[actor.event]]
when_ego_arrives_in_s = 3
shift = { left_m = 1.0, within_s = 2 }

[traffic]
vehicles = 1.5
"#;

    /// What is said of the good file after one replacement.
    fn error_after(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "nothing to replace: {from}");
        Scenario::parse(&GOOD.replacen(from, to, 1), "some/good.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_with_defaults() {
        let scenario = Scenario::parse(GOOD, "some/good.toml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((scenario.name.as_str(), scenario.light, scenario.rig.as_str()), ("good", Light::Dusk, "sim-car"));
        assert_eq!(scenario.road.segments[1], Segment { length_m: 200.0, curvature_per_m: -0.01 });
        assert_eq!((scenario.road.own_lanes, scenario.road.oncoming_lanes), (2, 1));
        assert_eq!(scenario.ego, EgoSpec { lane: 1, ..EgoSpec::default() });
        let truck = &scenario.actors[0];
        assert_eq!((truck.kind, truck.ahead_m, truck.left_m, truck.oncoming), (ActorKind::Truck, 40.0, 0.0, false));
        let action = Action::Speed { speed_mps: 0.0, acceleration_mps2: 7.0 };
        assert_eq!(truck.events[0], Event { at_s: 1.5, trigger: Trigger::Time, action });
        let action = Action::Shift { left_m: 1.0, within_s: 2.0 };
        assert_eq!(truck.events[1], Event { at_s: 3.0, trigger: Trigger::EgoArrivesIn, action });
        assert_eq!(scenario.traffic, TrafficSpec { vehicles: 1.5, ..TrafficSpec::default() });
    }

    #[test]
    fn errors_name_file_line_key_expected_and_found() {
        let cases = [
            (
                "duration_s = 5",
                "duration_s = 0",
                "some/good.toml:1: duration_s: expected a number from 0.1 to 3600, found 0",
            ),
            ("duration_s = 5", "duration_s = nan", ":1: duration_s: expected a number from 0.1 to 3600, found NaN"),
            ("own_lanes = 2", "own_lanes = 9", ":5: road.own_lanes: expected a number from 1 to 4, found 9"),
            ("lane = 1", "lane = 2", ":16: ego.lane: expected a lane from 0 to 1, found 2"),
            (
                "curvature_per_m = 0.0",
                "curvature_per_m = -0.2",
                ":9: road.segment[0].curvature_per_m: expected a number from -0.1 to 0.1, found -0.2",
            ),
            (
                "radius_m = -100",
                "radius_m = -100\ncurvature_per_m = 0.0",
                ":11: road.segment[1]: expected one of the keys curvature_per_m, radius_m, found more",
            ),
            (
                "radius_m = -100",
                "radius_m = 0",
                ":13: road.segment[1].radius_m: expected a radius of at least 10 m, negative to the right, found 0",
            ),
            (
                "length_m = 200",
                "length_m = 10",
                "road.segment: expected at least 230 m of road for this drive, found 110 m",
            ),
            (
                "within_s = 2",
                "within_s = 0",
                ":28: actor[0].event[1].shift.within_s: expected a number from 0.1 to 3600, found 0",
            ),
            ("at_s = 1.5\n", "", "actor[0].event[0]: expected one of the keys at_s, when_ego_arrives_in_s, found none"),
            ("vehicles = 1.5", "vehicles = 51", ":31: traffic.vehicles: expected a number from 0 to 50, found 51"),
            ("vehicles = 1.5", "vehicle = 1.5", ":31: traffic.vehicle: expected one of `vehicles`, `parked`"),
            ("\"truck\"", "\"tram\"", ":19: actor[0].kind: expected one of `car`, `truck`"),
            ("ahead_m = 40", "ahead_m = \"far\"", ":20: actor[0].ahead_m: expected f64, found string \"far\""),
            ("ahead_m = 40\n", "", ":18: actor[0]: expected a key `ahead_m`, found none"),
            ("lane = 1", "lane = ", ":16: lane: expected"),
        ];
        for (from, to, expected) in cases {
            let error = error_after(from, to);
            assert!(error.starts_with("some/good.toml:") && error.contains(expected), "{to}: {error}");
        }
        assert!(error_after("length_m = 100", "length_m = inf").contains("road.segment[0].length_m"));
    }

    #[test]
    fn every_built_in_scenario_loads_by_name() {
        for (name, _) in Scenario::built_in() {
            let scenario = Scenario::load(Path::new(name)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, *name);
        }
        let error = Scenario::load(Path::new("no-such-scenario")).unwrap_err().to_string();
        assert!(error.contains("demo, follow, cut-in"), "{error}");
    }

    #[test]
    fn random_scenarios_are_sound_and_diverse() {
        let scenarios: Vec<Scenario> = (0..200).map(Scenario::random).collect();
        for scenario in &scenarios {
            scenario.check().unwrap_or_else(|problem| panic!("{}: {problem:?}", scenario.name));
            assert!((4..=8).contains(&scenario.actors.len()), "{}", scenario.name);
            assert!(scenario.actors.iter().all(|actor| (8.0..=70.0).contains(&actor.ahead_m)), "{}", scenario.name);
            assert_eq!(Scenario::random(scenario.seed), *scenario);
        }
        let count = |is: &dyn Fn(&Scenario) -> bool| scenarios.iter().filter(|scenario| is(scenario)).count();
        assert!((95..=145).contains(&count(&|scenario| scenario.light == Light::Day)));
        assert!((20..=60).contains(&count(&|scenario| scenario.light == Light::Night)));
        assert!(count(&|scenario| scenario.road.own_lanes == 3) > 40);
        assert!(count(&|scenario| scenario.road.pavements) > 60);
        assert!(count(&|scenario| scenario.traffic.pedestrians > 10.0) > 20);
        assert!(count(&|scenario| scenario.actors.iter().any(|actor| !actor.events.is_empty())) > 100);
        for kind in ActorKind::ALL {
            assert!(count(&|scenario| scenario.actors.iter().any(|actor| actor.kind == kind)) > 50, "{kind:?}");
        }
    }

    #[test]
    fn the_cars_dbc_file_has_every_signal_of_its_rig() {
        let rig = Rig::parse(SIM_CAR, "sim-car.toml").unwrap_or_else(|error| panic!("{error}"));
        let dbc = Dbc::parse(DBC.as_bytes(), DBC_NAME).unwrap_or_else(|error| panic!("{error}"));
        let bus = rig.cans.first().unwrap();
        assert_eq!(bus.dbc, [Path::new(DBC_NAME)]);
        for signal in bus.signals.values().flatten() {
            let found = dbc.signal(&signal.signal).and_then(|found| dbc.describe(found));
            assert!(found.is_some(), "{}", signal.signal);
        }
    }
}
