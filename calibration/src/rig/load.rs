//! Reading a rig file: TOML text in, a checked [`Rig`] or every problem found out.
//!
//! Each function reads one table and goes on after a problem, so that one run tells everything that is wrong. A
//! function returns `None` only after it has reported why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nalgebra::Vector2;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{self, Text};
use super::{
    CAN_QUANTITIES, Camera, Can, CanQuantity, CanSignal, Deadlines, ImuQuantity, IspSettings, Lidar, MAX_CAMERAS,
    MAX_SENSORS, Model, Mounting, MountingPose, OnGpuFault, PictureFormat, Planner, Precision, Realtime, Rig, RigError,
    RigProblem, SCHEMA, Sensor, SensorKind, Source, ThreadClass, Tick, UltrasonicSignals, Vehicle,
};
use crate::camera::{BrownConrady, CameraModel, FTheta, FThetaError, FThetaPolynomial, KannalaBrandt, Projection};

pub(super) fn load(path: &Path) -> Result<Rig, RigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let (expected, found) = ("a readable file of UTF-8 text".to_owned(), error.to_string());
        RigError {
            problems: vec![RigProblem { file: file.clone(), line: 1, key: "(file)".to_owned(), expected, found }],
        }
    })?;
    let rig = parse(&text, &file)?;
    // The name shown to people may have lost what is not Unicode; the folder must not.
    Ok(Rig { directory: folder_of(path), ..rig })
}

pub(super) fn parse(text: &str, file: &str) -> Result<Rig, RigError> {
    let mut log = Log::new(text, file);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in &errors {
            log.report_syntax(error);
        }
        return Err(log.into_error());
    }
    let root = Section { table: document.get_ref(), key: String::new(), at: 0 };
    if !schema_is_known(&mut log, &root) {
        return Err(log.into_error());
    }
    match rig(&mut log, &root, folder_of(Path::new(file))) {
        Some(rig) if log.problems.is_empty() => Ok(rig),
        _ => Err(log.into_error()),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// What was found so far: problems, and names for references to be checked against.
struct Log<'t> {
    text: &'t str,
    file: &'t str,
    line_starts: Vec<usize>,
    problems: Vec<RigProblem>,
    sensors: Vec<Named>,
    models: Vec<Named>,
    /// The sensors' topics, each with the sensor's name.
    topics: BTreeMap<String, String>,
    /// The sensors' sources, by name.
    sources: BTreeMap<String, Source>,
    /// References to buses, to be checked when all are known.
    buses: Vec<BusReference>,
}

/// A bus that some sensor's signals are on.
struct BusReference {
    name: String,
    key: String,
    at: usize,
}

/// A name and the byte of the text it stands at.
struct Named {
    kind: Option<SensorKind>,
    name: String,
    at: usize,
}

impl<'t> Log<'t> {
    fn new(text: &'t str, file: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self {
            text,
            file,
            line_starts,
            problems: Vec::new(),
            sensors: Vec::new(),
            models: Vec::new(),
            topics: BTreeMap::new(),
            sources: BTreeMap::new(),
            buses: Vec::new(),
        }
    }

    /// Line, counted from one, of a byte of the text.
    fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    fn report(&mut self, at: usize, key: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        self.problems.push(RigProblem {
            file: self.file.to_owned(),
            line: self.line(at),
            key: key.into(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    fn report_syntax(&mut self, error: &toml::de::Error) {
        let at = error.span().map_or(self.text.len(), |span| span.start);
        let line = self.text.lines().nth(self.line(at).saturating_sub(1)).unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default().trim();
        let key = if key.is_empty() { "(file)" } else { key };
        self.report(at, shortened(key), "valid TOML", error.message());
    }

    fn into_error(mut self) -> RigError {
        self.problems.sort_by_key(|problem| problem.line);
        RigError { problems: self.problems }
    }
}

/// One table of the file, with its path of keys and the byte it starts at.
struct Section<'a> {
    table: &'a DeTable<'a>,
    key: String,
    at: usize,
}

/// The range a number must lie in.
#[derive(Clone, Copy)]
enum Range {
    Any,
    Positive,
    NotNegative,
    Fraction,
}

impl Range {
    fn expected(self) -> &'static str {
        match self {
            Self::Any => "a finite number",
            Self::Positive => "a number above 0",
            Self::NotNegative => "a number of at least 0",
            Self::Fraction => "a number from 0 to 1",
        }
    }

    fn holds(self, number: f64) -> bool {
        match self {
            Self::Any => number.is_finite(),
            Self::Positive => number.is_finite() && number > 0.0,
            Self::NotNegative => number.is_finite() && number >= 0.0,
            Self::Fraction => (0.0..=1.0).contains(&number),
        }
    }
}

impl<'a> Section<'a> {
    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// Byte at which the value of a key starts, or the table where there is none.
    fn at(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    fn report(&self, log: &mut Log, key: &str, expected: impl Into<String>, found: impl Into<String>) {
        log.report(self.at(key), self.path(key), expected, found);
    }

    /// Reports every key that is not among the known ones.
    fn allow(&self, log: &mut Log, known: &[&str]) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let expected = match nearest(name, known) {
                Some(near) => format!("a known key, perhaps \"{near}\""),
                None => format!("one of the keys {}", known.join(", ")),
            };
            let found = format!("the unknown key {}", quoted(name));
            log.report(key.span().start, self.path(&shortened(name)), expected, found);
        }
    }

    fn optional<T>(
        &self,
        log: &mut Log,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?.get_ref();
        let converted = convert(value);
        if converted.is_none() {
            self.report(log, key, expected, description(value));
        }
        converted
    }

    fn required<T>(
        &self,
        log: &mut Log,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            self.report(log, key, expected, "nothing");
            return None;
        }
        self.optional(log, key, expected, convert)
    }

    fn number(&self, log: &mut Log, key: &str, range: Range) -> Option<f64> {
        self.required(log, key, range.expected(), |value| number(value).filter(|n| range.holds(*n)))
    }

    fn optional_number(&self, log: &mut Log, key: &str, range: Range) -> Option<f64> {
        self.optional(log, key, range.expected(), |value| number(value).filter(|n| range.holds(*n)))
    }

    fn number_or(&self, log: &mut Log, key: &str, range: Range, default: f64) -> f64 {
        self.optional_number(log, key, range).unwrap_or(default)
    }

    fn count(&self, log: &mut Log, key: &str) -> Option<u32> {
        self.required(log, key, "a positive integer", positive_integer)
    }

    fn optional_count(&self, log: &mut Log, key: &str) -> Option<u32> {
        self.optional(log, key, "a positive integer", positive_integer)
    }

    fn text(&self, log: &mut Log, key: &str) -> Option<String> {
        self.required(log, key, "a text that is not empty", text)
    }

    fn optional_text(&self, log: &mut Log, key: &str) -> Option<String> {
        self.optional(log, key, "a text that is not empty", text)
    }

    /// The table under a key; a missing one is not reported.
    fn optional_table(&self, log: &mut Log, key: &str) -> Option<Section<'a>> {
        let table = self.optional(log, key, "a table", DeValue::as_table)?;
        Some(Section { table, key: self.path(key), at: self.at(key) })
    }

    fn table(&self, log: &mut Log, key: &str) -> Option<Section<'a>> {
        let table = self.required(log, key, "a table", DeValue::as_table)?;
        Some(Section { table, key: self.path(key), at: self.at(key) })
    }

    /// The tables under a key, each known by its name or else by its number.
    fn tables(&self, log: &mut Log, key: &str) -> Vec<Section<'a>> {
        let expected = format!("tables headed [[{key}]]");
        let Some(items) = self.optional(log, key, &expected, DeValue::as_array) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = item.span().start;
            let Some(table) = item.get_ref().as_table() else {
                log.report(at, format!("{key}[{index}]"), "a table", description(item.get_ref()));
                continue;
            };
            let name = table.get("name").and_then(|name| text(name.get_ref()));
            let key = name.map_or_else(|| format!("{key}[{index}]"), |name| format!("{key}.{}", shortened(&name)));
            sections.push(Section { table, key, at });
        }
        sections
    }

    /// What `read` makes of each table under a key; all are read before the first failure counts.
    fn each<T>(&self, log: &mut Log, key: &str, read: impl Fn(&mut Log, &Section<'a>) -> Option<T>) -> Option<Vec<T>> {
        let sections = self.tables(log, key);
        let items: Vec<Option<T>> = sections.iter().map(|section| read(log, section)).collect();
        items.into_iter().collect()
    }
}

fn text(value: &DeValue) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn number(value: &DeValue) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|n| n as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn positive_integer(value: &DeValue) -> Option<u32> {
    let integer = value.as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| *n > 0)
}

fn number_list(value: &DeValue) -> Option<Vec<f64>> {
    let items = value.as_array()?;
    items.iter().map(|item| number(item.get_ref()).filter(|n| n.is_finite())).collect()
}

fn three_numbers(value: &DeValue) -> Option<[f64; 3]> {
    number_list(value)?.try_into().ok()
}

/// Two to six coefficients, filled up with zeros.
fn coefficients(value: &DeValue) -> Option<[f64; 6]> {
    let given = number_list(value)?;
    if !(2..=6).contains(&given.len()) {
        return None;
    }
    let mut all = [0.0; 6];
    for (coefficient, number) in all.iter_mut().zip(given) {
        *coefficient = number;
    }
    Some(all)
}

fn text_list(value: &DeValue) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| text(item.get_ref())).collect()
}

fn description(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => shortened(&integer.to_string()),
        DeValue::Float(float) => shortened(float.as_str()),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => format!("the date {datetime}"),
        DeValue::Array(items) => match number_list(value) {
            Some(numbers) if numbers.len() <= 8 => format!("the list {numbers:?}"),
            _ => format!("a list of {}", items.len()),
        },
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The known key most like a mistyped one, if any is like it.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, key) = known.iter().map(|key| (edit_distance(name, key), *key)).min()?;
    (distance <= key.len().div_ceil(2)).then_some(key)
}

/// Insertions, deletions and replacements that lead from one text to the other (Levenshtein 1966).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Distances from the part of `from` seen so far to each part of `to` that is not empty.
    let mut row: Vec<usize> = (1..=to.len()).collect();
    for (seen, letter) in from.chars().enumerate() {
        let mut diagonal = seen;
        let mut left = seen + 1;
        for (cell, other) in row.iter_mut().zip(&to) {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_else(|| from.chars().count())
}

fn schema_is_known(log: &mut Log, root: &Section) -> bool {
    let expected = format!("schema version {SCHEMA}");
    root.required(log, "schema", &expected, |value| positive_integer(value).filter(|version| *version <= SCHEMA))
        .is_some()
}

fn rig(log: &mut Log, root: &Section, directory: PathBuf) -> Option<Rig> {
    root.allow(
        log,
        &[
            "schema",
            "name",
            "vehicle",
            "tick",
            "camera",
            "lidar",
            "radar",
            "ultrasonic",
            "imu",
            "gnss",
            "can",
            "model",
            "planner",
            "gpu",
            "realtime",
        ],
    );
    let name = root.text(log, "name");
    let vehicle = vehicle(log, root);
    let planner = planner(log, root);
    let on_gpu_fault = on_gpu_fault(log, root);
    let realtime = realtime(log, root);
    let cameras = root.each(log, "camera", camera);
    let lidars = root.each(log, "lidar", lidar);
    let radars = root.each(log, "radar", |log, section| sensor(log, section, SensorKind::Radar));
    let ultrasonics = root.each(log, "ultrasonic", |log, section| sensor(log, section, SensorKind::Ultrasonic));
    let imus = root.each(log, "imu", |log, section| sensor(log, section, SensorKind::Imu));
    let gnss = root.each(log, "gnss", |log, section| sensor(log, section, SensorKind::Gnss));
    let cans = root.each(log, "can", can);
    // These refer to sensors by name, so they come after all of them.
    check_buses(log, cans.as_deref().unwrap_or_default());
    let tick = tick(log, root);
    let models = root.each(log, "model", model);
    check_counts(log, root);
    Some(Rig {
        name: name?,
        directory,
        vehicle,
        tick,
        cameras: cameras?,
        lidars: lidars?,
        radars: radars?,
        ultrasonics: ultrasonics?,
        imus: imus?,
        gnss: gnss?,
        cans: cans?,
        sources: std::mem::take(&mut log.sources),
        models: models?,
        planner,
        on_gpu_fault,
        realtime,
    })
}

fn check_counts(log: &mut Log, root: &Section) {
    let count = |key: &str| root.get(key).and_then(|value| value.get_ref().as_array()).map_or(0, |items| items.len());
    let cameras = count("camera");
    let all = ["lidar", "radar", "ultrasonic", "imu", "gnss", "can"].into_iter().map(count).sum::<usize>() + cameras;
    if cameras > MAX_CAMERAS {
        root.report(log, "camera", format!("at most {MAX_CAMERAS} cameras"), cameras.to_string());
    }
    if all > MAX_SENSORS {
        log.report(root.at, "(file)", format!("at most {MAX_SENSORS} sensors"), all.to_string());
    }
}

fn vehicle(log: &mut Log, root: &Section) -> Vehicle {
    let default = Vehicle::default();
    let Some(section) = root.optional_table(log, "vehicle") else {
        return default;
    };
    section.allow(log, &["length_m", "width_m", "height_m", "wheelbase_m", "rear_overhang_m"]);
    Vehicle {
        length_m: section.number_or(log, "length_m", Range::Positive, default.length_m),
        width_m: section.number_or(log, "width_m", Range::Positive, default.width_m),
        height_m: section.number_or(log, "height_m", Range::Positive, default.height_m),
        wheelbase_m: section.number_or(log, "wheelbase_m", Range::Positive, default.wheelbase_m),
        rear_overhang_m: section.number_or(log, "rear_overhang_m", Range::NotNegative, default.rear_overhang_m),
    }
}

fn planner(log: &mut Log, root: &Section) -> Planner {
    let default = Planner::default();
    let Some(section) = root.optional_table(log, "planner") else {
        return default;
    };
    section.allow(
        log,
        &[
            "cruise_speed_mps",
            "time_gap_s",
            "min_gap_m",
            "max_accel_mps2",
            "comfort_decel_mps2",
            "max_decel_mps2",
            "ttc_brake_s",
            "lane_width_m",
        ],
    );
    let mut number = |key: &str, value: f64| section.number_or(log, key, Range::Positive, value);
    Planner {
        cruise_speed_mps: number("cruise_speed_mps", default.cruise_speed_mps),
        time_gap_s: number("time_gap_s", default.time_gap_s),
        min_gap_m: number("min_gap_m", default.min_gap_m),
        max_accel_mps2: number("max_accel_mps2", default.max_accel_mps2),
        comfort_decel_mps2: number("comfort_decel_mps2", default.comfort_decel_mps2),
        max_decel_mps2: number("max_decel_mps2", default.max_decel_mps2),
        ttc_brake_s: number("ttc_brake_s", default.ttc_brake_s),
        lane_width_m: number("lane_width_m", default.lane_width_m),
    }
}

fn on_gpu_fault(log: &mut Log, root: &Section) -> OnGpuFault {
    let Some(section) = root.optional_table(log, "gpu") else { return OnGpuFault::default() };
    section.allow(log, &["on_fault"]);
    section
        .optional(log, "on_fault", "\"stop\" or \"cpu\"", |value| OnGpuFault::from_name(&text(value)?))
        .unwrap_or_default()
}

fn realtime(log: &mut Log, root: &Section) -> Realtime {
    let Some(section) = root.optional_table(log, "realtime") else { return Realtime::default() };
    section.allow(log, &["require", "lock_memory", "sensors", "edge", "workers", "deadlines"]);
    let flag = |log: &mut Log, key: &str| section.optional(log, key, "true or false", DeValue::as_bool);
    Realtime {
        require: flag(log, "require").unwrap_or_default(),
        lock_memory: flag(log, "lock_memory").unwrap_or_default(),
        sensors: thread_class(log, &section, "sensors"),
        edge: thread_class(log, &section, "edge"),
        workers: thread_class(log, &section, "workers"),
        deadlines: deadlines(log, &section),
    }
}

fn thread_class(log: &mut Log, realtime: &Section, key: &str) -> ThreadClass {
    let Some(section) = realtime.optional_table(log, key) else { return ThreadClass::default() };
    section.allow(log, &["fifo_priority", "processors"]);
    let priority = |value: &DeValue| u8::try_from(positive_integer(value)?).ok().filter(|priority| *priority <= 99);
    ThreadClass {
        fifo_priority: section.optional(log, "fifo_priority", "an integer from 1 to 99", priority),
        processors: section
            .optional(log, "processors", "a list of processors, as [0, 1]", processors)
            .unwrap_or_default(),
    }
}

/// Numbers of processors, each once; at least one, since an empty list would say something else than its absence.
fn processors(value: &DeValue) -> Option<Vec<u16>> {
    let number = |value: &DeValue| {
        let integer = value.as_integer()?;
        u16::from_str_radix(integer.as_str(), integer.radix()).ok()
    };
    let all: Vec<u16> = value.as_array()?.iter().map(|item| number(item.get_ref())).collect::<Option<_>>()?;
    let is_unique = all.iter().enumerate().all(|(at, one)| !all.iter().take(at).any(|other| other == one));
    (is_unique && !all.is_empty()).then_some(all)
}

fn deadlines(log: &mut Log, realtime: &Section) -> Deadlines {
    let Some(section) = realtime.optional_table(log, "deadlines") else { return Deadlines::default() };
    section.allow(log, &["tick_ms", "stages_ms"]);
    let mut stages_ms = BTreeMap::new();
    if let Some(stages) = section.optional_table(log, "stages_ms") {
        for (key, _) in stages.table {
            let stage: &str = key.get_ref();
            if !is_name(stage) {
                let (expected, found) = ("a stage's name, of letters, digits, _ and -", quoted(stage));
                log.report(key.span().start, stages.path(&shortened(stage)), expected, found);
            } else if let Some(budget_ms) = stages.number(log, stage, Range::Positive) {
                stages_ms.insert(stage.to_owned(), budget_ms);
            }
        }
    }
    Deadlines { tick_ms: section.optional_number(log, "tick_ms", Range::Positive), stages_ms }
}

fn tick(log: &mut Log, root: &Section) -> Tick {
    let default = Tick::default();
    let Some(section) = root.optional_table(log, "tick") else {
        return default;
    };
    section.allow(log, &["trigger", "period_ms", "tolerance_ms", "max_wait_ms"]);
    let trigger = section.optional_text(log, "trigger");
    if let Some(name) = &trigger {
        check_reference(log, &section, "trigger", name, &[SensorKind::Camera, SensorKind::Lidar]);
    }
    Tick {
        trigger,
        period_ms: section.number_or(log, "period_ms", Range::Positive, default.period_ms),
        tolerance_ms: section.number_or(log, "tolerance_ms", Range::NotNegative, default.tolerance_ms),
        max_wait_ms: section.number_or(log, "max_wait_ms", Range::NotNegative, default.max_wait_ms),
    }
}

/// Reports a name that no sensor of these kinds has.
fn check_reference(log: &mut Log, section: &Section, key: &str, name: &str, kinds: &[SensorKind]) {
    let is_eligible = |sensor: &&Named| sensor.kind.is_some_and(|kind| kinds.contains(&kind));
    let eligible: Vec<&str> = log.sensors.iter().filter(is_eligible).map(|sensor| sensor.name.as_str()).collect();
    if eligible.contains(&name) {
        return;
    }
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let perhaps = nearest(name, &eligible).map(|near| format!(", perhaps \"{near}\"")).unwrap_or_default();
    let expected = format!("the name of a {} of this rig{perhaps}", kinds.join(" or "));
    section.report(log, key, expected, quoted(name));
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

/// A table's name, which must differ from the others of its sort: sensors among each other, and models.
fn unique_name(log: &mut Log, section: &Section, kind: Option<SensorKind>) -> Option<String> {
    let expected = "a name of letters, digits, _ and -";
    let name = section.required(log, "name", expected, |value| text(value).filter(|name| is_name(name)))?;
    let others = if kind.is_some() { &log.sensors } else { &log.models };
    let first = others.iter().find(|other| other.name == name).map(|other| log.line(other.at));
    if let Some(line) = first {
        section.report(log, "name", "a name that is not taken", format!("{} again, as on line {line}", quoted(&name)));
        return None;
    }
    let named = Named { kind, name: name.clone(), at: section.at("name") };
    if kind.is_some() {
        log.sensors.push(named)
    } else {
        log.models.push(named)
    }
    Some(name)
}

/// A sensor's name and topic, which must both differ from the other sensors': messages find their sensor by topic.
fn identity(log: &mut Log, section: &Section, kind: SensorKind) -> Option<(String, String)> {
    let topic = section.optional_text(log, "topic");
    let source = source(log, section, kind);
    let name = unique_name(log, section, Some(kind))?;
    if let Some(source) = source {
        log.sources.insert(name.clone(), source);
    }
    let topic = topic.unwrap_or_else(|| kind.default_topic(&name));
    if let Some(other) = log.topics.insert(topic.clone(), name.clone()) {
        let found = format!("{} again, as of {}", quoted(&topic), quoted(&other));
        section.report(log, "topic", "a topic that is not taken", found);
    }
    Some((name, topic))
}

/// Where the measurements come from when the sensor is live.
fn source(log: &mut Log, section: &Section, kind: SensorKind) -> Option<Source> {
    let expected = source::expected(kind);
    let parsed = section.optional(log, "source", expected, |value| Text::parse(kind, &text(value)?));
    let has_signals = matches!(kind, SensorKind::Imu | SensorKind::Ultrasonic);
    if has_signals && section.get("source").is_none() && section.get("signals").is_some() {
        section.report(log, "source", "the bus of the signals as \"can:NAME\"", "nothing");
    }
    match parsed? {
        Text::Whole(source) => {
            if has_signals && section.get("signals").is_some() {
                section.report(log, "signals", "none, since the source is no CAN bus", "signals");
            }
            Some(source)
        }
        Text::OnBus(bus) => {
            let (key, at) = (section.path("source"), section.at("source"));
            log.buses.push(BusReference { name: bus.clone(), key, at });
            let table = section.table(log, "signals")?;
            match kind {
                SensorKind::Imu => imu_signals(log, &table).map(|signals| Source::ImuSignals { bus, signals }),
                _ => ultrasonic_signals(log, &table).map(|signals| Source::UltrasonicSignals { bus, signals }),
            }
        }
    }
}

/// Reports buses that are not there, or on which nothing can be read.
fn check_buses(log: &mut Log, cans: &[Can]) {
    for BusReference { name, key, at } in std::mem::take(&mut log.buses) {
        let Some(can) = cans.iter().find(|can| can.name == name) else {
            let names: Vec<&str> = cans.iter().map(|can| can.name.as_str()).collect();
            let perhaps = nearest(&name, &names).map(|near| format!(", perhaps \"can:{near}\"")).unwrap_or_default();
            log.report(at, key, format!("a can of this rig{perhaps}"), quoted(&format!("can:{name}")));
            continue;
        };
        if !log.sources.contains_key(&name) {
            log.report(at, key.clone(), "a can that has a source itself", quoted(&format!("can:{name}")));
        }
        if can.dbc.is_empty() {
            log.report(at, key, "a can with a file that describes its signals (dbc)", quoted(&format!("can:{name}")));
        }
    }
}

fn imu_signals(log: &mut Log, section: &Section) -> Option<BTreeMap<ImuQuantity, CanSignal>> {
    section.allow(log, &ImuQuantity::ALL.map(ImuQuantity::name));
    let mut signals = BTreeMap::new();
    let mut all_read = true;
    for quantity in ImuQuantity::ALL {
        let Some(value) = section.get(quantity.name()) else { continue };
        match signal(log, value, &section.path(quantity.name())) {
            Some(signal) => drop(signals.insert(quantity, signal)),
            None => all_read = false,
        }
    }
    if all_read && signals.is_empty() {
        log.report(section.at, &section.key, "at least one signal", "none");
        return None;
    }
    all_read.then_some(signals)
}

fn ultrasonic_signals(log: &mut Log, section: &Section) -> Option<UltrasonicSignals> {
    section.allow(log, &["range_m", "confidence", "no_echo_from_m"]);
    let mut read = |key: &str| section.get(key).map(|value| signal(log, value, &section.path(key)));
    let (range_m, confidence) = (read("range_m"), read("confidence"));
    if range_m.is_none() {
        section.report(log, "range_m", "a signal as \"MESSAGE.SIGNAL\"", "nothing");
    }
    let no_echo_from_m = section.optional_number(log, "no_echo_from_m", Range::Positive);
    let confidence = match confidence {
        None => None,
        Some(signal) => Some(signal?),
    };
    Some(UltrasonicSignals { range_m: range_m??, confidence, no_echo_from_m })
}

fn mounting(log: &mut Log, sensor: &Section) -> Option<Mounting> {
    let section = sensor.table(log, "mounting")?;
    section.allow(log, &["nominal", "corrected"]);
    let nominal = section.table(log, "nominal").and_then(|pose| mounting_pose(log, &pose));
    let corrected = section.optional_table(log, "corrected").map(|pose| mounting_pose(log, &pose));
    let corrected = match corrected {
        Some(pose) => Some(pose?),
        None => None,
    };
    Some(Mounting { nominal: nominal?, corrected })
}

fn mounting_pose(log: &mut Log, section: &Section) -> Option<MountingPose> {
    section.allow(log, &["xyz_m", "rpy_deg"]);
    let xyz_m = section.required(log, "xyz_m", "three finite numbers [x, y, z] in metres", three_numbers);
    let rpy_deg = section.required(log, "rpy_deg", "three finite numbers [roll, pitch, yaw] in degrees", three_numbers);
    Some(MountingPose { xyz_m: xyz_m?, rpy_deg: rpy_deg? })
}

fn camera(log: &mut Log, section: &Section) -> Option<Camera> {
    section.allow(
        log,
        &[
            "name",
            "topic",
            "source",
            "width_px",
            "height_px",
            "format",
            "full_range",
            "rate_hz",
            "rolling_shutter_ms",
            "isp",
            "intrinsics",
            "mounting",
        ],
    );
    let identity = identity(log, section, SensorKind::Camera);
    let width_px = section.count(log, "width_px");
    let height_px = section.count(log, "height_px");
    let formats = "a picture format such as jpeg, png, h264, rgb8, bgr8, mono8, nv12, i420, yuyv, uyvy or bayer-rggb12";
    let format = section.required(log, "format", formats, |value| value.as_str().and_then(PictureFormat::from_name));
    let of_yuv = "true or false, for a format of nv12, i420, yuyv or uyvy";
    let has_range = format.is_none_or(PictureFormat::has_range);
    let full_range = section.optional(log, "full_range", of_yuv, |value| value.as_bool().filter(|_| has_range));
    let rate_hz = section.number(log, "rate_hz", Range::Positive);
    let rolling_shutter_ms = section.optional_number(log, "rolling_shutter_ms", Range::NotNegative);
    let isp = isp(log, section, format);
    let lens = section.table(log, "intrinsics").and_then(|lens| intrinsics(log, &lens));
    let mounting = mounting(log, section);
    if let (Some(model), Some(width), Some(height)) = (&lens, width_px, height_px) {
        check_coverage(log, section, model, f64::from(width), f64::from(height));
    }
    let (name, topic) = identity?;
    Some(Camera {
        name,
        topic,
        width_px: width_px?,
        height_px: height_px?,
        format: format?,
        full_range: full_range.unwrap_or(false),
        rate_hz: rate_hz?,
        rolling_shutter_ms,
        isp,
        intrinsics: lens?,
        mounting: mounting?,
    })
}

/// How raw pictures are developed; what is not said is as by default.
fn isp(log: &mut Log, camera: &Section, format: Option<PictureFormat>) -> Option<IspSettings> {
    let section = camera.optional_table(log, "isp")?;
    if let Some(format) = format.filter(|format| !matches!(format, PictureFormat::Bayer { .. })) {
        camera.report(log, "isp", "no such table for a camera whose format is not bayer-*", format.name().to_owned());
    }
    section.allow(log, &["black_level", "white_balance", "colour_matrix"]);
    let within = |numbers: &[f64], from: f64, to: f64| numbers.iter().all(|number| (from..=to).contains(number));
    let default = IspSettings::default();
    let black_level = section.optional(log, "black_level", "a number from 0 to 0.9, part of the full range", |value| {
        number(value).filter(|level| within(&[*level], 0.0, 0.9))
    });
    let gains = "three numbers [red, green, blue] from 0 to 8";
    let white_balance = section
        .optional(log, "white_balance", gains, |value| three_numbers(value).filter(|gains| within(gains, 0.0, 8.0)));
    let matrix = "nine numbers from -16 to 16, row by row";
    let colour_matrix = section.optional(log, "colour_matrix", matrix, |value| {
        number_list(value)?.try_into().ok().filter(|matrix: &[f64; 9]| within(matrix, -16.0, 16.0))
    });
    Some(IspSettings {
        black_level: black_level.unwrap_or(default.black_level),
        white_balance: white_balance.unwrap_or(default.white_balance),
        colour_matrix: colour_matrix.unwrap_or(default.colour_matrix),
    })
}

fn intrinsics(log: &mut Log, section: &Section) -> Option<CameraModel> {
    const MODELS: [&str; 3] = ["brown-conrady", "kannala-brandt", "f-theta"];
    let expected = format!("one of {}", MODELS.join(", "));
    let model = section
        .required(log, "model", &expected, |value| text(value).filter(|name| MODELS.contains(&name.as_str())))?;
    match model.as_str() {
        "brown-conrady" => brown_conrady(log, section).map(CameraModel::BrownConrady),
        "kannala-brandt" => kannala_brandt(log, section).map(CameraModel::KannalaBrandt),
        _ => ftheta(log, section).map(CameraModel::FTheta),
    }
}

fn brown_conrady(log: &mut Log, section: &Section) -> Option<BrownConrady> {
    section.allow(log, &["model", "fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3"]);
    let fx = section.number(log, "fx", Range::Positive);
    let fy = section.number(log, "fy", Range::Positive);
    let cx = section.number(log, "cx", Range::Any);
    let cy = section.number(log, "cy", Range::Any);
    let mut coefficient = |key: &str| section.number_or(log, key, Range::Any, 0.0);
    let (k1, k2, k3) = (coefficient("k1"), coefficient("k2"), coefficient("k3"));
    let (p1, p2) = (coefficient("p1"), coefficient("p2"));
    Some(BrownConrady { fx: fx?, fy: fy?, cx: cx?, cy: cy?, k1, k2, p1, p2, k3 })
}

fn kannala_brandt(log: &mut Log, section: &Section) -> Option<KannalaBrandt> {
    section.allow(log, &["model", "fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4", "max_angle_rad"]);
    let fx = section.number(log, "fx", Range::Positive);
    let fy = section.number(log, "fy", Range::Positive);
    let cx = section.number(log, "cx", Range::Any);
    let cy = section.number(log, "cy", Range::Any);
    let k = ["k1", "k2", "k3", "k4"].map(|key| section.number_or(log, key, Range::Any, 0.0));
    let max_angle_rad = section.optional_number(log, "max_angle_rad", Range::Positive);
    let model = KannalaBrandt::new([fx?, fy?], [cx?, cy?], k);
    let Some(max_angle_rad) = max_angle_rad else {
        return Some(model);
    };
    if max_angle_rad > model.max_angle_rad {
        let expected = format!("an angle up to which the distortion rises, at most {}", model.max_angle_rad);
        section.report(log, "max_angle_rad", expected, max_angle_rad.to_string());
        return None;
    }
    Some(KannalaBrandt { max_angle_rad, ..model })
}

fn ftheta(log: &mut Log, section: &Section) -> Option<FTheta> {
    section.allow(log, &["model", "cx", "cy", "angle_to_pixel", "pixel_to_angle", "linear_cde", "max_angle_rad"]);
    let cx = section.number(log, "cx", Range::Any);
    let cy = section.number(log, "cy", Range::Any);
    let polynomial = ftheta_polynomial(log, section);
    let linear_cde = section.optional(log, "linear_cde", "three finite numbers [c, d, e]", three_numbers);
    let max_angle_rad = section.number(log, "max_angle_rad", Range::Positive);
    let (principal_point_px, polynomial, max_angle_rad) = ([cx?, cy?], polynomial?, max_angle_rad?);
    let made = FTheta::new(principal_point_px, polynomial, linear_cde.unwrap_or([1.0, 0.0, 0.0]), max_angle_rad);
    made.map_err(|error| report_ftheta(log, section, &polynomial, error)).ok()
}

/// The reference polynomial: exactly one of the two directions.
fn ftheta_polynomial(log: &mut Log, section: &Section) -> Option<FThetaPolynomial> {
    let expected = "two to six finite coefficients, lowest power first";
    let forward = section.optional(log, "angle_to_pixel", expected, coefficients);
    let backward = section.optional(log, "pixel_to_angle", expected, coefficients);
    let has = |key: &str| section.get(key).is_some();
    match (has("angle_to_pixel"), has("pixel_to_angle")) {
        (true, false) => forward.map(FThetaPolynomial::AngleToPixel),
        (false, true) => backward.map(FThetaPolynomial::PixelToAngle),
        (both, _) => {
            let expected = "the reference polynomial, either angle_to_pixel or pixel_to_angle";
            section.report(log, "pixel_to_angle", expected, if both { "both" } else { "neither" });
            None
        }
    }
}

fn report_ftheta(log: &mut Log, section: &Section, polynomial: &FThetaPolynomial, error: FThetaError) {
    let polynomial_key = match polynomial {
        FThetaPolynomial::AngleToPixel(_) => "angle_to_pixel",
        FThetaPolynomial::PixelToAngle(_) => "pixel_to_angle",
    };
    let (key, expected, found) = match error {
        FThetaError::NotFinite => (polynomial_key, "finite parameters".to_owned(), "one that is not".to_owned()),
        FThetaError::MaxAngle { found_rad } => {
            ("max_angle_rad", "an angle above 0 and below pi".to_owned(), found_rad.to_string())
        }
        FThetaError::Linear { found } => ("linear_cde", "c - d * e above 0".to_owned(), found.to_string()),
        FThetaError::ConstantTerm { found } => {
            (polynomial_key, "0 as the first coefficient".to_owned(), found.to_string())
        }
        FThetaError::NotRising { max_angle_rad, found_rad } => (
            polynomial_key,
            format!("a polynomial that rises up to max_angle_rad = {max_angle_rad}"),
            format!("it falling from {found_rad} rad on"),
        ),
    };
    section.report(log, key, expected, found);
}

/// Reports a distortion that folds the picture over: a pixel that must be seen has no ray.
///
/// A perspective lens must explain the whole picture up to its corners. A fisheye's picture may be dark outside a
/// circle, so only the nearest edge is asked for, and nothing where the file itself gives the largest angle.
fn check_coverage(log: &mut Log, camera: &Section, model: &CameraModel, width: f64, height: f64) {
    let (left, right, top, bottom) = (-0.5, width - 0.5, -0.5, height - 0.5);
    let (middle_x, middle_y) = (0.5 * (width - 1.0), 0.5 * (height - 1.0));
    let [cx, cy] = model.principal_point_px();
    let edges = [(left, cy), (right, cy), (cx, top), (cx, bottom)];
    let probes = match model {
        CameraModel::BrownConrady(_) => vec![
            (left, top),
            (middle_x, top),
            (right, top),
            (left, middle_y),
            (right, middle_y),
            (left, bottom),
            (middle_x, bottom),
            (right, bottom),
        ],
        CameraModel::KannalaBrandt(_) if !has_max_angle(camera) => {
            let distance = |(u, v): &(f64, f64)| (u - cx).abs() + (v - cy).abs();
            let nearest = edges.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            nearest.into_iter().collect()
        }
        // An f-theta lens was checked up to its largest angle when it was made.
        CameraModel::KannalaBrandt(_) | CameraModel::FTheta(_) => Vec::new(),
    };
    if let Some((u, v)) = probes.into_iter().find(|(u, v)| model.unproject(&Vector2::new(*u, *v)).is_none()) {
        let expected = "a distortion that grows with the distance from the axis over the whole picture";
        camera.report(log, "intrinsics", expected, format!("no ray through pixel ({u}, {v})"));
    }
}

fn has_max_angle(camera: &Section) -> bool {
    let lens = camera.get("intrinsics").and_then(|value| value.get_ref().as_table());
    lens.is_some_and(|table| table.get("max_angle_rad").is_some())
}

fn lidar(log: &mut Log, section: &Section) -> Option<Lidar> {
    section.allow(log, &["name", "topic", "source", "model", "calibration", "rate_hz", "mounting"]);
    let identity = identity(log, section, SensorKind::Lidar);
    let model = section.optional_text(log, "model").unwrap_or_default();
    let calibration = section.optional_text(log, "calibration").map(PathBuf::from);
    let rate_hz = section.number(log, "rate_hz", Range::Positive);
    let mounting = mounting(log, section);
    let (name, topic) = identity?;
    Some(Lidar { name, topic, model, calibration, rate_hz: rate_hz?, mounting: mounting? })
}

fn sensor(log: &mut Log, section: &Section, kind: SensorKind) -> Option<Sensor> {
    let known = ["name", "topic", "source", "rate_hz", "mounting", "signals"];
    let has_signals = matches!(kind, SensorKind::Imu | SensorKind::Ultrasonic);
    section.allow(log, known.get(..known.len() - usize::from(!has_signals)).unwrap_or(&known));
    let identity = identity(log, section, kind);
    let rate_hz = section.number(log, "rate_hz", Range::Positive);
    let mounting = mounting(log, section);
    let (name, topic) = identity?;
    Some(Sensor { name, topic, rate_hz: rate_hz?, mounting: mounting? })
}

fn can(log: &mut Log, section: &Section) -> Option<Can> {
    section.allow(log, &["name", "topic", "source", "dbc", "bitrate", "signals"]);
    let identity = identity(log, section, SensorKind::Can);
    let dbc = section.optional(log, "dbc", "a list of file names", text_list).unwrap_or_default();
    let bitrate = section.optional_count(log, "bitrate");
    let signals = match section.optional_table(log, "signals") {
        Some(table) => signals(log, &table),
        None => Some(BTreeMap::new()),
    };
    if signals.as_ref().is_some_and(|signals| !signals.is_empty()) && dbc.is_empty() {
        section.report(log, "dbc", "at least one file that describes the signals", "nothing");
    }
    let (name, topic) = identity?;
    Some(Can { name, topic, dbc: dbc.into_iter().map(PathBuf::from).collect(), bitrate, signals: signals? })
}

fn signals(log: &mut Log, section: &Section) -> Option<BTreeMap<CanQuantity, Vec<CanSignal>>> {
    section.allow(log, &CAN_QUANTITIES.map(|(name, _)| name));
    let mut signals = BTreeMap::new();
    let mut all_read = true;
    for (name, quantity) in CAN_QUANTITIES {
        let Some(value) = section.get(name) else {
            continue;
        };
        match signal_list(log, value, &section.path(name)) {
            Some(list) => {
                signals.insert(quantity, list);
            }
            None => all_read = false,
        }
    }
    all_read.then_some(signals)
}

/// One signal, or a list of them.
fn signal_list<'a>(log: &mut Log, value: &'a Spanned<DeValue<'a>>, key: &str) -> Option<Vec<CanSignal>> {
    let Some(items) = value.get_ref().as_array() else {
        return signal(log, value, key).map(|signal| vec![signal]);
    };
    if items.is_empty() {
        log.report(value.span().start, key, "at least one signal", "an empty list");
        return None;
    }
    let mut signals = Vec::new();
    for (index, item) in items.iter().enumerate() {
        signals.push(signal(log, item, &format!("{key}[{index}]")));
    }
    signals.into_iter().collect()
}

/// A signal as text, or as a table with scale and offset.
fn signal<'a>(log: &mut Log, value: &'a Spanned<DeValue<'a>>, key: &str) -> Option<CanSignal> {
    const EXPECTED: &str = "a signal as \"MESSAGE.SIGNAL\"";
    let at = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        let Some(signal) = signal_name(value.get_ref()) else {
            log.report(at, key, EXPECTED, description(value.get_ref()));
            return None;
        };
        return Some(CanSignal { signal, scale: 1.0, offset: 0.0 });
    };
    let section = Section { table, key: key.to_owned(), at };
    section.allow(log, &["signal", "scale", "offset"]);
    let signal = section.required(log, "signal", EXPECTED, signal_name);
    let scale = section.number_or(log, "scale", Range::Any, 1.0);
    let offset = section.number_or(log, "offset", Range::Any, 0.0);
    Some(CanSignal { signal: signal?, scale, offset })
}

fn signal_name(value: &DeValue) -> Option<String> {
    let name = text(value)?;
    let (message, signal) = name.split_once('.')?;
    let is_sound = !message.is_empty() && !signal.is_empty() && !signal.contains('.');
    is_sound.then_some(name)
}

fn model(log: &mut Log, section: &Section) -> Option<Model> {
    section.allow(
        log,
        &[
            "name",
            "path",
            "cameras",
            "head",
            "labels",
            "input_width_px",
            "input_height_px",
            "score_threshold",
            "nms_iou",
            "undistort",
            "precision",
            "dla_core",
        ],
    );
    let name = unique_name(log, section, None);
    let path = section.optional_text(log, "path").map(PathBuf::from);
    let cameras = section.required(log, "cameras", "a list of at least one camera's name", |value| {
        text_list(value).filter(|names| !names.is_empty())
    });
    for camera in cameras.iter().flatten() {
        check_reference(log, section, "cameras", camera, &[SensorKind::Camera]);
    }
    let head = section.optional_text(log, "head");
    let labels = section.optional_text(log, "labels").map(PathBuf::from);
    let input_width_px = section.optional_count(log, "input_width_px");
    let input_height_px = section.optional_count(log, "input_height_px");
    let score_threshold = section.number_or(log, "score_threshold", Range::Fraction, Model::SCORE_THRESHOLD);
    let nms_iou = section.number_or(log, "nms_iou", Range::Fraction, Model::NMS_IOU);
    let undistort = section.optional(log, "undistort", "true or false", DeValue::as_bool).unwrap_or(false);
    let expected = "\"fp32\", \"fp16\" or \"int8\"";
    let precision = section.optional(log, "precision", expected, |value| Precision::from_name(&text(value)?));
    let dla_core = section.optional(log, "dla_core", "0 or 1", |value| match value.as_integer()?.as_str() {
        "0" => Some(0),
        "1" => Some(1),
        _ => None,
    });
    Some(Model {
        name: name?,
        path,
        cameras: cameras?,
        head,
        labels,
        input_width_px,
        input_height_px,
        score_threshold,
        nms_iou,
        undistort,
        precision,
        dla_core,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"schema = 1
name = "test"

[tick]
trigger = "front"

[[camera]]
name = "front"
width_px = 1280
height_px = 720
format = "jpeg"
rate_hz = 10

[camera.intrinsics]
model = "brown-conrady"
fx = 900.0
fy = 900.0
cx = 639.5
cy = 359.5

[camera.mounting]
nominal = { xyz_m = [1.8, 0.0, 1.4], rpy_deg = [-90, 0, -90] }

[[can]]
name = "body"
dbc = ["toyota.dbc"]

[can.signals]
speed_mps = { signal = "SPEED.SPEED", scale = 0.25 }
steering_rad = "STEER.ANGLE"
wheel_rear_left_mps = ["WHEEL.A", { signal = "WHEEL.B", offset = 1.5 }]

[[model]]
name = "boxes"
cameras = ["front"]
"#;

    /// The problems of the good file after one replacement, as they are shown.
    fn problems_after(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "nothing to replace: {from}");
        let error = Rig::parse(&GOOD.replacen(from, to, 1), "rig.toml").unwrap_err();
        error.problems.iter().map(RigProblem::to_string).collect()
    }

    #[test]
    fn raw_pictures_are_developed_as_their_camera_says() {
        let raw = |isp: &str| {
            let text = GOOD.replacen("format = \"jpeg\"", &format!("format = \"bayer-rggb12\"\nisp = {isp}"), 1);
            assert_ne!(text, GOOD);
            Rig::parse(&text, "rig.toml")
        };
        let isp = raw("{ white_balance = [1.9, 1, 1.6] }").unwrap().cameras[0].isp;
        assert_eq!(isp, Some(IspSettings { white_balance: [1.9, 1.0, 1.6], ..IspSettings::default() }));
        let wrong = raw("{ black_level = 0.95, white_balance = [9, 1, 1], colour_matrix = [1, 2] }").unwrap_err();
        let keys: Vec<&str> = wrong.problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
        let problems = problems_after("format = \"jpeg\"", "format = \"jpeg\"\nisp = {}");
        assert!(problems[0].contains("isp") && problems[0].contains("jpeg"), "{problems:?}");
    }

    #[test]
    fn good_file_is_read_with_defaults() {
        let rig = Rig::parse(GOOD, "some/where/rig.toml").unwrap_or_else(|error| panic!("{error}"));
        let camera = rig.camera("front").unwrap();
        assert_eq!(camera.topic, "/camera/front/image");
        assert_eq!((camera.width_px, camera.height_px, camera.rate_hz), (1280, 720, 10.0));
        assert_eq!(camera.mounting.nominal.rpy_deg, [-90.0, 0.0, -90.0]);
        assert_eq!(rig.tick.trigger.as_deref(), Some("front"));
        assert_eq!(rig.planner, Planner::default());
        assert_eq!(rig.on_gpu_fault, OnGpuFault::Stop);
        assert_eq!(rig.models[0].precision, None);
        assert_eq!(rig.resolve(Path::new("toyota.dbc")), Path::new("some/where/toyota.dbc"));
        let can = rig.cans.first().unwrap();
        let signal = |signal: &str, scale: f64, offset: f64| CanSignal { signal: signal.to_owned(), scale, offset };
        assert_eq!(can.signals[&CanQuantity::Speed], [signal("SPEED.SPEED", 0.25, 0.0)]);
        assert_eq!(can.signals[&CanQuantity::Steering], [signal("STEER.ANGLE", 1.0, 0.0)]);
        let wheels = [signal("WHEEL.A", 1.0, 0.0), signal("WHEEL.B", 1.0, 1.5)];
        assert_eq!(can.signals[&CanQuantity::WheelRearLeft], wheels);
        assert_eq!(Rig::parse(&rig.to_toml(), "some/where/rig.toml"), Ok(rig));
    }

    #[test]
    fn a_camera_says_which_range_its_luma_has() {
        let of = |text: &str| Rig::parse(&GOOD.replacen("format = \"jpeg\"", text, 1), "rig.toml");
        assert!(!of("format = \"nv12\"").unwrap().cameras[0].full_range);
        assert!(of("format = \"nv12\"\nfull_range = true").unwrap().cameras[0].full_range);
        let error = of("format = \"jpeg\"\nfull_range = true").unwrap_err().to_string();
        assert!(error.contains("full_range: expected true or false, for a format of nv12"), "{error}");
    }

    #[test]
    fn a_rig_says_how_the_gpu_is_used() {
        let text = GOOD.replace("name = \"boxes\"", "name = \"boxes\"\nprecision = \"int8\"\ndla_core = 1");
        let rig = Rig::parse(&format!("{text}\n[gpu]\non_fault = \"cpu\"\n"), "rig.toml").unwrap();
        assert_eq!((rig.on_gpu_fault, rig.models[0].precision), (OnGpuFault::Cpu, Some(Precision::Int8)));
        assert_eq!(rig.models[0].dla_core, Some(1));
        let wrong =
            text.replace("int8", "fp8").replace("dla_core = 1", "dla_core = 2") + "\n[gpu]\non_fault = \"pray\"\n";
        let error = Rig::parse(&wrong, "rig.toml").unwrap_err().to_string();
        assert!(error.contains("gpu.on_fault: expected \"stop\" or \"cpu\", found \"pray\""), "{error}");
        assert!(error.contains("precision: expected \"fp32\", \"fp16\" or \"int8\", found \"fp8\""), "{error}");
        assert!(error.contains("dla_core: expected 0 or 1, found 2"), "{error}");
    }

    const ON_BUS: &str = r#"
[[imu]]
name = "imu"
source = "can:body"
rate_hz = 100

[imu.mounting]
nominal = { xyz_m = [0, 0, 0.3], rpy_deg = [0, 0, 0] }

[imu.signals]
angular_velocity_z_radps = { signal = "YAW.RATE", scale = 0.0175 }

[[ultrasonic]]
name = "rear"
source = "can:body"
rate_hz = 10

[ultrasonic.mounting]
nominal = { xyz_m = [-1, 0, 0.5], rpy_deg = [0, 0, 180] }

[ultrasonic.signals]
range_m = "SONAR.REAR"
no_echo_from_m = 5.1
"#;

    #[test]
    fn sensors_on_a_bus_say_which_signals_they_are() {
        let text = GOOD.replace("name = \"body\"", "name = \"body\"\nsource = \"can0\"") + ON_BUS;
        let rig = Rig::parse(&text, "rig.toml").unwrap_or_else(|error| panic!("{error}"));
        let Some(Source::ImuSignals { bus, signals }) = rig.sources.get("imu") else { panic!("{:?}", rig.sources) };
        assert_eq!((bus.as_str(), signals[&ImuQuantity::AngularVelocityZ].scale), ("body", 0.0175));
        let Some(Source::UltrasonicSignals { signals, .. }) = rig.sources.get("rear") else { panic!("no echo") };
        assert_eq!((signals.range_m.signal.as_str(), signals.no_echo_from_m), ("SONAR.REAR", Some(5.1)));
        assert_eq!(Rig::parse(&rig.to_toml(), "rig.toml"), Ok(rig));

        let wrong = |from: &str, to: &str, expected: &str| {
            let error = Rig::parse(&text.replacen(from, to, 1), "rig.toml").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        wrong(
            "source = \"can:body\"",
            "source = \"can:bodi\"",
            "rig.toml:40: imu.imu.source: expected a can of this rig, perhaps \"can:body\", found \"can:bodi\"",
        );
        wrong("source = \"can0\"\n", "", "imu.imu.source: expected a can that has a source itself, found \"can:body\"");
        let expected = "rig.toml:38: imu.imu.source: expected the bus of the signals as \"can:NAME\", found nothing";
        wrong("source = \"can:body\"\n", "", expected);
        wrong("range_m = \"SONAR.REAR\"\n", "", "ultrasonic.rear.signals.range_m: expected a signal as");
        wrong(
            "angular_velocity_z_radps = { signal = \"YAW.RATE\", scale = 0.0175 }",
            "",
            "rig.toml:46: imu.imu.signals: expected at least one signal, found none",
        );
        wrong(
            "can:body",
            "udp://0.0.0.0:7503",
            "imu.imu.signals: expected none, since the source is no CAN bus, found",
        );
        wrong("can0", "/dev/can0", "can.body.source: expected a network interface as \"can0\", found \"/dev/can0\"");
    }

    #[test]
    fn a_rig_says_what_it_asks_of_real_time() {
        assert_eq!(Rig::parse(GOOD, "rig.toml").unwrap().realtime, Realtime::default());
        let asked = "\n[realtime]\nrequire = true\nlock_memory = true\nsensors = { fifo_priority = 60, processors = [0] }\n\
                     workers = { processors = [2, 3] }\n\n[realtime.deadlines]\ntick_ms = 100\nstages_ms = { infer = 40.5 }\n";
        let rig = Rig::parse(&format!("{GOOD}{asked}"), "rig.toml").unwrap_or_else(|error| panic!("{error}"));
        let expected = Realtime {
            require: true,
            lock_memory: true,
            sensors: ThreadClass { fifo_priority: Some(60), processors: vec![0] },
            edge: ThreadClass::default(),
            workers: ThreadClass { fifo_priority: None, processors: vec![2, 3] },
            deadlines: Deadlines { tick_ms: Some(100.0), stages_ms: BTreeMap::from([("infer".to_owned(), 40.5)]) },
        };
        assert_eq!(rig.realtime, expected);
        assert_eq!(Rig::parse(&rig.to_toml(), "rig.toml"), Ok(rig));

        let line = GOOD.lines().count() + 2;
        let wrong =
            |text: &str| Rig::parse(&format!("{GOOD}\n[realtime]\n{text}\n"), "rig.toml").unwrap_err().to_string();
        let cases = [
            ("require = 1", "realtime.require: expected true or false, found 1"),
            (
                "edge = { fifo_priority = 100 }",
                "realtime.edge.fifo_priority: expected an integer from 1 to 99, found 100",
            ),
            ("edge = { fifo_priority = 0 }", "realtime.edge.fifo_priority: expected an integer from 1 to 99, found 0"),
            ("edge = { priority = 5 }", "realtime.edge.priority: expected a known key, perhaps \"fifo_priority\""),
            ("workers = { processors = [] }", "realtime.workers.processors: expected a list of processors, as [0, 1]"),
            ("workers = { processors = [1, 1] }", "realtime.workers.processors: expected a list of processors"),
            ("deadlines = { tick_ms = 0 }", "realtime.deadlines.tick_ms: expected a number above 0, found 0"),
            (
                "deadlines = { stages_ms = { infer = -1 } }",
                "realtime.deadlines.stages_ms.infer: expected a number above 0",
            ),
            (
                "deadlines = { stages_ms = { \"a b\" = 1 } }",
                "realtime.deadlines.stages_ms.a b: expected a stage's name",
            ),
        ];
        for (text, problem) in cases {
            let error = wrong(text);
            assert!(error.starts_with(&format!("rig.toml:{}: {problem}", line + 1)), "{text}: {error}");
        }
    }

    #[test]
    fn each_problem_names_line_key_expected_and_found() {
        let cases = [
            (
                "width_px = 1280",
                "width_px = \"wide\"",
                "rig.toml:9: camera.front.width_px: expected a positive integer, found \"wide\"",
            ),
            ("height_px = 720\n", "", "rig.toml:7: camera.front.height_px: expected a positive integer, found nothing"),
            ("fx = 900.0", "fx = inf", "rig.toml:16: camera.front.intrinsics.fx: expected a number above 0, found inf"),
            ("fy = 900.0", "fy = -1", "rig.toml:17: camera.front.intrinsics.fy: expected a number above 0, found -1"),
            (
                "trigger = \"front\"",
                "trigger = \"fromt\"",
                "rig.toml:5: tick.trigger: expected the name of a camera or lidar of this rig, perhaps \"front\", \
                 found \"fromt\"",
            ),
            (
                "cameras = [\"front\"]",
                "cameras = [\"x\"]",
                "rig.toml:35: model.boxes.cameras: expected the name of a camera of this rig, found \"x\"",
            ),
            (
                "name = \"body\"",
                "name = \"front\"",
                "rig.toml:25: can.front.name: expected a name that is not taken, found \"front\" again, as on line 8",
            ),
            (
                "\"STEER.ANGLE\"",
                "\"STEER\"",
                "rig.toml:30: can.body.signals.steering_rad: expected a signal as \"MESSAGE.SIGNAL\", found \"STEER\"",
            ),
            (
                "name = \"body\"",
                "name = \"body\"\ntopic = \"/camera/front/image\"",
                "rig.toml:26: can.body.topic: expected a topic that is not taken, found \"/camera/front/image\" again, \
                 as of \"front\"",
            ),
            ("schema = 1", "schema = 2", "rig.toml:1: schema: expected schema version 1, found 2"),
            (
                "[-90, 0, -90]",
                "[-90, 0]",
                "rig.toml:22: camera.front.mounting.nominal.rpy_deg: expected three finite numbers [roll, pitch, yaw] \
                 in degrees, found the list [-90.0, 0.0]",
            ),
            (
                "cy = 359.5",
                "cy = 359.5\nk1 = -0.5",
                "rig.toml:14: camera.front.intrinsics: expected a distortion that grows with the distance from the \
                 axis over the whole picture, found no ray through pixel (-0.5, -0.5)",
            ),
            (
                "rate_hz = 10",
                "rate_hz = 10\nwidht_px = 3",
                "rig.toml:13: camera.front.widht_px: expected a known key, perhaps \"width_px\", found the unknown \
                 key \"widht_px\"",
            ),
            (
                "dbc = [\"toyota.dbc\"]",
                "dbc = []",
                "rig.toml:26: can.body.dbc: expected at least one file that describes the signals, found nothing",
            ),
        ];
        for (from, to, expected) in cases {
            assert_eq!(problems_after(from, to), [expected]);
        }
    }

    #[test]
    fn all_problems_are_told_at_once_in_the_order_of_lines() {
        let text = GOOD.replace("1280", "0").replace("\"jpeg\"", "\"jpg\"").replace("SPEED.SPEED", "SPEED");
        let error = Rig::parse(&text, "rig.toml").unwrap_err();
        let keys: Vec<&str> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["camera.front.width_px", "camera.front.format", "can.body.signals.speed_mps.signal"]);
    }

    #[test]
    fn broken_toml_is_placed() {
        let problems = problems_after("width_px = 1280", "width_px = = 1280");
        assert!(
            problems.first().unwrap().starts_with("rig.toml:9: width_px: expected valid TOML, found "),
            "{problems:?}"
        );
        let problems = problems_after("width_px = 1280", "width_px = 1280\nwidth_px = 1280");
        assert!(problems.first().unwrap().contains("duplicate key"), "{problems:?}");
    }

    #[test]
    fn lenses_are_checked_by_their_own_rules() {
        let with_lens = |lens: &str| {
            let brown_conrady = "model = \"brown-conrady\"\nfx = 900.0\nfy = 900.0";
            problems_after(brown_conrady, lens)
        };
        let problems = with_lens("model = \"f-theta\"\nmax_angle_rad = 1.0");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("either angle_to_pixel or pixel_to_angle, found neither"), "{problems:?}");
        let problems = with_lens("model = \"f-theta\"\nmax_angle_rad = 1.0\nangle_to_pixel = [0, 500, 0, -500]");
        assert!(problems[0].contains("intrinsics.angle_to_pixel: expected a polynomial that rises"), "{problems:?}");
        let problems = with_lens("model = \"kannala-brandt\"\nfx = 900.0\nfy = 900.0\nk1 = -3.0");
        assert!(problems[0].contains("found no ray through pixel (639.5, -0.5)"), "{problems:?}");
        let problems = with_lens("model = \"pinhole\"\nfx = 900.0\nfy = 900.0");
        assert!(problems[0].contains("expected one of brown-conrady, kannala-brandt, f-theta"), "{problems:?}");
    }

    #[test]
    fn too_many_cameras_are_refused() {
        let start = GOOD.find("[[camera]]").unwrap();
        let end = GOOD.find("[[can]]").unwrap();
        let cameras: String =
            (0..33).map(|i| GOOD[start..end].replace("\"front\"", &format!("\"front{i}\""))).collect();
        let text = format!("schema = 1\nname = \"many\"\n{cameras}");
        let error = Rig::parse(&text, "rig.toml").unwrap_err();
        assert_eq!(error.to_string(), "rig.toml:3: camera: expected at most 32 cameras, found 33");
    }

    #[test]
    fn missing_file_is_named() {
        let error = Rig::load("/nowhere/rig.toml").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/rig.toml:1: (file): expected a readable file"), "{error}");
    }

    #[test]
    fn edit_distance_by_hand() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(nearest("widht", &["height", "width"]), Some("width"));
        assert_eq!(nearest("zzzzzz", &["height", "width"]), None);
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0..GOOD.len(), replacement in "[\\[\\]{}=\"',.#a-z0-9\n -]{0,4}") {
            let damaged = format!("{}{replacement}{}", &GOOD[..at], &GOOD[at + 1..]);
            if let Err(error) = Rig::parse(&damaged, "rig.toml") {
                prop_assert!(!error.problems.is_empty());
                let lines = damaged.lines().count() + 1;
                prop_assert!(error.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
            }
            // Cut short, the file may still be whole, but it may not be a surprise.
            let _ = Rig::parse(&GOOD[..at], "rig.toml");
        }
    }
}
