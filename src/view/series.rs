//! Series of any length in bounded memory: what an hour-long drive leaves behind for its report.
//!
//! Values come tick by tick from the [`collector`](super::collect) and go into the report when the run ends. Whatever
//! fills up gives up detail, never the whole: points and pictures keep every second one, counts over time get wider
//! bins, objects keep those that lived longest. What stays depends on the values alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::report::{ObjectPoint, ObjectSeries, StageLatency};
use super::{class_name, range_m};
use crate::messages::{RangeSource, WorldModel};

/// Points that a series holds before it keeps every second one.
pub const MOST_POINTS: usize = 20_000;
/// Objects that the report shows.
pub const MOST_SHOWN_OBJECTS: usize = 40;

/// Objects that are held: more than a world model has, so that one which is there now is never given up.
const MOST_OBJECTS: usize = 256;
/// Counts that are held before bins become twice as wide.
const MOST_BINS: usize = 4096;
/// Width of the first bins: 1 ms.
const FIRST_BIN_NS: i64 = 1_000_000;
/// Longest time that a latency histogram tells from longer ones: one hour.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Decimal digits that a latency histogram keeps.
const LATENCY_DIGITS: u8 = 3;
const LATENCY_BINS: usize = 40;

/// Every `stride`-th of the values that were offered; the stride doubles when there are too many.
#[derive(Clone, Debug)]
pub struct Thinned<T> {
    points: Vec<T>,
    stride: u64,
    offered: u64,
}

impl<T> Default for Thinned<T> {
    fn default() -> Self {
        Thinned { points: Vec::new(), stride: 1, offered: 0 }
    }
}

impl<T> Thinned<T> {
    /// Offers the next value.
    pub fn push(&mut self, point: T) {
        if self.offered.is_multiple_of(self.stride) {
            self.points.push(point);
        }
        self.offered += 1;
        if self.points.len() >= MOST_POINTS {
            let mut index = 0u64;
            self.points.retain(|_| {
                index += 1;
                !index.is_multiple_of(2)
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// Values that were offered.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// One in how many was kept: 1 while there is room for all.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// What was kept, in order.
    pub fn into_points(self) -> Vec<T> {
        self.points
    }
}

/// Counts of each kind over time, in bins that become wider as there are more of them. No count is ever lost.
#[derive(Clone, Debug)]
pub struct Bins<K> {
    width_ns: i64,
    counts: BTreeMap<(i64, K), u64>,
}

impl<K> Default for Bins<K> {
    fn default() -> Self {
        Bins { width_ns: FIRST_BIN_NS, counts: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Bins<K> {
    /// Counts one.
    pub fn add(&mut self, at_ns: i64, kind: K) {
        *self.counts.entry((at_ns.div_euclid(self.width_ns), kind)).or_insert(0) += 1;
        while self.counts.len() > MOST_BINS && self.width_ns < i64::MAX / 2 {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width_ns *= 2;
        for ((bin, kind), count) in std::mem::take(&mut self.counts) {
            *self.counts.entry((bin.div_euclid(2), kind)).or_insert(0) += count;
        }
    }

    /// Begin of a bin in seconds, kind, count; by time.
    pub fn counts(&self) -> impl Iterator<Item = (f64, K, u64)> {
        let width_s = self.width_ns as f64 * 1e-9;
        self.counts.iter().map(move |((bin, kind), count)| (*bin as f64 * width_s, *kind, *count))
    }
}

/// How long something took, every time it was done.
#[derive(Clone, Debug)]
pub struct Latency {
    /// `None` could only be with bounds that make no sense; the longest time is then all there is.
    histogram: Option<Histogram<u64>>,
    count: u64,
    longest_ns: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, LATENCY_DIGITS).ok();
        Latency { histogram, count: 0, longest_ns: 0 }
    }
}

impl Latency {
    /// Notes one time; an end before its start counts as no time at all.
    pub fn note(&mut self, start_ns: i64, end_ns: i64) {
        let took_ns = u64::try_from(end_ns.saturating_sub(start_ns)).unwrap_or(0);
        self.count += 1;
        self.longest_ns = self.longest_ns.max(took_ns);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(took_ns);
        }
    }

    /// What the report shows of it.
    pub fn summary(&self, stage: &str) -> StageLatency {
        StageLatency {
            stage: stage.to_owned(),
            count: self.count,
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p99_ms: self.quantile_ms(0.99),
            max_ms: milliseconds(self.longest_ns),
            histogram: self.bins(),
        }
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        let value = self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile));
        // the histogram gives the upper end of a range of values
        milliseconds(value.min(self.longest_ns))
    }

    fn bins(&self) -> Vec<u64> {
        let mut bins = vec![0; LATENCY_BINS];
        let whole = self.longest_ns as f64 + 1.0;
        for step in self.histogram.iter().flat_map(|histogram| histogram.iter_recorded()) {
            let share = step.value_iterated_to() as f64 / whole;
            let bin = ((share * LATENCY_BINS as f64) as usize).min(LATENCY_BINS - 1);
            if let Some(count) = bins.get_mut(bin) {
                *count += step.count_at_value();
            }
        }
        bins
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-6
}

/// Objects over time. When there are too many, the one that lived shortest of those that are gone is given up.
#[derive(Clone, Debug, Default)]
pub struct ObjectLives {
    lives: BTreeMap<u32, Life>,
    worlds: u64,
}

#[derive(Clone, Debug, Default)]
struct Life {
    class: u16,
    source: RangeSource,
    points: Thinned<ObjectPoint>,
    /// The last world model that it was in, counted from 1.
    last_world: u64,
}

impl ObjectLives {
    /// Takes the objects of one tick.
    pub fn take(&mut self, time_s: f64, world: &WorldModel) {
        self.worlds += 1;
        for object in &world.objects {
            let life = self.lives.entry(object.id).or_default();
            let [vx, vy] = object.velocity_mps;
            life.class = object.class;
            life.source = object.source;
            life.last_world = self.worlds;
            life.points.push(ObjectPoint {
                time_s,
                range_m: range_m(object),
                speed_mps: (vx * vx + vy * vy).sqrt(),
                time_to_collision_s: f64::from(object.time_to_collision_s),
            });
        }
        while self.lives.len() > MOST_OBJECTS {
            let gone = self.lives.iter().filter(|(_, life)| life.last_world != self.worlds);
            let shortest = gone.min_by_key(|(id, life)| (life.points.offered(), Reverse(**id))).map(|(id, _)| *id);
            let Some(id) = shortest else { return };
            self.lives.remove(&id);
        }
    }

    /// The [`MOST_SHOWN_OBJECTS`] that lived longest, by number.
    pub fn into_series(self, class_names: &[String]) -> Vec<ObjectSeries> {
        let mut lives: Vec<(u32, Life)> = self.lives.into_iter().collect();
        lives.sort_by_key(|(id, life)| (Reverse(life.points.offered()), *id));
        lives.truncate(MOST_SHOWN_OBJECTS);
        lives.sort_by_key(|(id, _)| *id);
        let series = |(id, life): (u32, Life)| ObjectSeries {
            id,
            class: class_name(class_names, life.class),
            source: life.source,
            points: life.points.into_points(),
        };
        lives.into_iter().map(series).collect()
    }
}

/// Pictures at every `stride`-th tick, at most twice as many as wanted; the stride doubles when there are more.
#[derive(Clone, Debug)]
pub struct PictureReservoir {
    wanted: usize,
    stride: u64,
    kept: BTreeMap<u64, KeptPicture>,
}

/// One picture that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPicture {
    /// What it shows.
    pub caption: String,
    /// The JPEG file's bytes.
    pub jpeg: Vec<u8>,
}

impl PictureReservoir {
    /// Nothing yet. Ticks that are no multiple of `stride` are never wanted.
    pub fn new(wanted: usize, stride: u64) -> Self {
        PictureReservoir { wanted, stride: stride.max(1), kept: BTreeMap::new() }
    }

    /// Whether the picture of this tick is wanted now.
    pub fn wants(&self, tick: u64) -> bool {
        self.wanted > 0 && tick.is_multiple_of(self.stride)
    }

    /// Takes the picture of a tick; one that is not wanted is left out.
    pub fn put(&mut self, tick: u64, picture: KeptPicture) {
        if !self.wants(tick) {
            return;
        }
        self.kept.insert(tick, picture);
        while self.kept.len() > self.wanted.saturating_mul(2) {
            self.stride = self.stride.saturating_mul(2);
            let stride = self.stride;
            self.kept.retain(|tick, _| tick.is_multiple_of(stride));
        }
    }

    /// As many pictures as wanted, or all where there are fewer, evenly spread from the first to the last.
    pub fn into_pictures(self) -> Vec<(u64, KeptPicture)> {
        let (wanted, found) = (self.wanted, self.kept.len());
        let chosen: Vec<usize> = match wanted {
            0 => Vec::new(),
            _ if found <= wanted => (0..found).collect(),
            1 => vec![found / 2],
            _ => (0..wanted).map(|index| index * (found - 1) / (wanted - 1)).collect(),
        };
        let kept = self.kept.into_iter().enumerate();
        kept.filter(|(index, _)| chosen.contains(index)).map(|(_, picture)| picture).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Object;

    #[test]
    fn a_long_series_keeps_its_course_in_bounded_memory() {
        let mut series = Thinned::default();
        for value in 0..100_000u64 {
            series.push(value);
            assert!(series.points.len() < MOST_POINTS);
        }
        assert_eq!((series.offered(), series.stride()), (100_000, 8));
        let points = series.into_points();
        assert_eq!(points.len(), 12_500);
        assert!(points.windows(2).all(|pair| pair[1] - pair[0] == 8));
    }

    #[test]
    fn a_short_series_is_kept_whole() {
        let mut series = Thinned::default();
        (0..500).for_each(|value| series.push(value));
        assert_eq!(series.stride(), 1);
        assert_eq!(series.into_points(), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn wider_bins_lose_no_count_and_no_time() {
        let mut bins = Bins::default();
        for tick in 0..36_000i64 {
            bins.add(tick * 100_000_000, tick % 3 == 0);
        }
        assert!(bins.counts.len() <= MOST_BINS);
        let of = |kind: bool| bins.counts().filter(|(_, k, _)| *k == kind).map(|(_, _, count)| count).sum::<u64>();
        assert_eq!((of(true), of(false)), (12_000, 24_000));
        let last_s = bins.counts().last().unwrap().0;
        assert!((3595.0..3600.0).contains(&last_s), "{last_s}");
        bins.add(i64::MIN, true);
        bins.add(i64::MAX, true);
        assert_eq!(of_all(&bins), 36_002);
    }

    fn of_all(bins: &Bins<bool>) -> u64 {
        bins.counts().map(|(_, _, count)| count).sum()
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latency = Latency::default();
        for step in 1..=1000 {
            latency.note(50, 50 + step * 10_000);
        }
        let summary = latency.summary("infer");
        assert_eq!((summary.stage.as_str(), summary.count), ("infer", 1000));
        for (found, expected) in [(summary.p50_ms, 5.0), (summary.p90_ms, 9.0), (summary.p99_ms, 9.9)] {
            assert!((found / expected - 1.0).abs() < 2e-3, "{found} for {expected}");
        }
        assert!((summary.max_ms - 10.0).abs() < 1e-9);
        assert_eq!(summary.histogram.iter().sum::<u64>(), 1000);
        assert!(summary.histogram.iter().all(|count| (20..=30).contains(count)), "{:?}", summary.histogram);
    }

    #[test]
    fn times_that_make_no_sense_do_no_harm() {
        let mut latency = Latency::default();
        latency.note(i64::MIN, i64::MAX);
        latency.note(5, 3);
        let summary = latency.summary("x");
        assert_eq!((summary.count, summary.p50_ms), (2, 0.0));
        let empty = Latency::default().summary("y");
        assert_eq!((empty.count, empty.p99_ms, empty.max_ms), (0, 0.0, 0.0));
    }

    fn world(ids: impl Iterator<Item = u32>) -> WorldModel {
        let mut world = WorldModel::default();
        for id in ids {
            world.objects.push(Object { id, position_m: [3.0, 4.0], ..Object::default() }).unwrap();
        }
        world
    }

    #[test]
    fn objects_that_lived_longest_are_shown() {
        let mut lives = ObjectLives::default();
        for tick in 0..1000u32 {
            // object 1 is always there, the others for one tick, but for those that are multiples of 100
            let passing = tick + 10;
            let staying = passing / 100 * 100;
            lives.take(f64::from(tick), &world([1, staying, passing].into_iter().filter(|id| *id > 0)));
            assert!(lives.lives.len() <= MOST_OBJECTS);
        }
        let series = lives.into_series(&["car".to_owned()]);
        assert_eq!(series.len(), MOST_SHOWN_OBJECTS);
        assert!(series.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!((series[0].id, series[0].points.len(), series[0].class.as_str()), (1, 1000, "car"));
        assert!((1..=10).all(|hundred| series.iter().any(|object| object.id == hundred * 100)));
        assert_eq!(series[0].points[7].range_m, 5.0);
    }

    #[test]
    fn pictures_stay_few_and_evenly_spread() {
        let picture = |tick: u64| KeptPicture { caption: tick.to_string(), jpeg: vec![] };
        for ticks in [1u64, 5, 24, 100, 1000, 36_001] {
            let mut reservoir = PictureReservoir::new(6, 4);
            for tick in 0..ticks {
                if reservoir.wants(tick) {
                    assert_eq!(tick % 4, 0);
                    reservoir.put(tick, picture(tick));
                }
                assert!(reservoir.kept.len() <= 12);
            }
            let kept: Vec<u64> = reservoir.into_pictures().into_iter().map(|(tick, _)| tick).collect();
            assert_eq!(kept.len() as u64, ticks.div_ceil(4).min(6), "{ticks} ticks");
            assert_eq!(kept[0], 0);
            if ticks >= 100 {
                let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
                let (shortest, longest) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
                assert!(*longest <= 2 * *shortest, "{kept:?}");
                assert!(*kept.last().unwrap() * 2 > ticks, "{kept:?}");
            }
        }
    }

    #[test]
    fn no_picture_is_kept_where_none_is_wanted() {
        let mut reservoir = PictureReservoir::new(0, 4);
        assert!(!reservoir.wants(0));
        reservoir.put(0, KeptPicture { caption: String::new(), jpeg: vec![] });
        assert!(reservoir.into_pictures().is_empty());
    }
}
