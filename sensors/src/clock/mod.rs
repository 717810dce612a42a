//! One time line for many clocks. [`ClockMapper`] takes pairs of a sensor's own stamp and the instant at which the host
//! received it, and tells where the stamp lies on the host's clock; synchronisation and fusion order by what it gives.
//! Modelled is `arrival - raw = offset + drift * raw + latency + jitter`, fitted over a sliding window of bins:
//!
//! - [`Jitter::OneSided`]: the line under all points that is most likely for exponential jitter (the supporting line of
//!   the points' lower convex hull; Moon, Skelly and Towsley, "Estimation and Removal of Clock Skew from Network Delay
//!   Measurements", INFOCOM 1999), with a normal prior on the drift so that a few samples do not give a wild one.
//! - [`Jitter::Symmetric`]: least squares with the same prior.
//!
//! What no estimator can give: the least latency cannot be told from the offset, so that mapped stamps are late by it
//! unless the settings name it. Nor can symmetric jitter be told from one-sided jitter and a shorter latency, which is
//! why the settings say which it is; told wrongly, stamps are off by the mean of the jitter and nothing else breaks.
//! With symmetric jitter the error falls with the root of the sample count (one deviation: about 0.4 ms after 100
//! samples of +-5 ms), with one-sided jitter with the count itself.
//!
//! Promised: fixed memory, no allocation, some microseconds a sample, the same numbers on every machine; stamps
//! accepted within one epoch (the time between two steps) never map backward; every refused stamp is counted under its
//! reason.

pub mod leap;

use leap::TimeScale;
use thiserror::Error;

/// How many bins the window holds: a minute of half-second bins, longer where samples come more rarely.
const BINS: usize = 128;
/// The length of a bin on the sensor's clock. Within it a clock of 100 ppm moves by 0.05 ms.
const BIN_NS: i64 = 500_000_000;
/// How many samples in a row must agree before a step beyond the settings' `far_ns` is believed, twice as many before a
/// smaller one is, since jitter that grows can look like one for a while.
const STEP_SAMPLES: usize = 5;
/// How many samples an epoch needs before its jitter is known well enough to doubt a sample.
const WARM_UP_SAMPLES: u32 = 10;
/// A sample this many jitters from the line is suspected of a step: by chance 1 of 150 with exponential jitter, but
/// five in a row that also agree hardly ever.
const SUSPECT_JITTERS: f64 = 5.0;
/// The jitter that is assumed, with the weight of one sample, before any is seen.
const PRIOR_JITTER_NS: f64 = 10e6;
/// How many of the latest bins tell whether the line still touches the samples.
const RECENT_BINS: usize = 8;

/// How samples lie about the least-latency line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// A packet may be late but never early: networks, queues, schedulers. Stamps are mapped to the instant at which
    /// an undelayed packet arrives.
    #[default]
    OneSided,
    /// As often early as late: the sensor's stamps themselves are noisy. Stamps are mapped to the mean arrival.
    Symmetric,
}

/// What is known of a sensor's clock beforehand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockSettings {
    /// How arrivals scatter.
    pub jitter: Jitter,
    /// From stamp to arrival when nothing is delayed, in ns; subtracted from every mapped stamp.
    pub least_latency_ns: i64,
    /// A packet later than this against its stamp is refused. (Packets cannot be early: those are refused beyond the
    /// limit for steps.)
    pub far_ns: i64,
    /// Steps smaller than this, or than five times the jitter, are not reported but absorbed as the window moves on.
    pub least_step_ns: i64,
    /// The standard deviation of drifts to expect of such clocks, in ppm. Crystals: 50.
    pub drift_deviation_ppm: f64,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self {
            jitter: Jitter::OneSided,
            least_latency_ns: 0,
            far_ns: 500_000_000,
            least_step_ns: 20_000_000,
            drift_deviation_ppm: 50.0,
        }
    }
}

/// Why a stamp is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StampFault {
    /// The sensor gave no time.
    #[error("stamp: expected a time, found zero")]
    Zero,
    /// The stamp of the sample before came again.
    #[error("stamp: expected a later one than {last_ns} ns, found the same again")]
    Duplicate {
        /// The last accepted stamp.
        last_ns: i64,
    },
    /// The sensor's time went back: packets out of order, or the first packets after a step.
    #[error("stamp: expected a later one than {last_ns} ns, found {found_ns} ns")]
    Backward {
        /// The last accepted stamp.
        last_ns: i64,
        /// The stamp.
        found_ns: i64,
    },
    /// The packet arrived much earlier or later than its stamp tells: a glitch, a stall, or the first packets after a
    /// step.
    #[error("stamp: expected to arrive within {limit_ns} ns of what it tells, found {found_ns} ns")]
    FarFromArrival {
        /// The limit on that side.
        limit_ns: i64,
        /// By how much it arrived late, negative where early.
        found_ns: i64,
    },
}

/// How many stamps met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockCounts {
    /// Mapped.
    pub accepted: u64,
    /// Refused as [`StampFault::Zero`].
    pub zero: u64,
    /// Refused as [`StampFault::Duplicate`].
    pub duplicate: u64,
    /// Refused as [`StampFault::Backward`].
    pub backward: u64,
    /// Refused as [`StampFault::FarFromArrival`].
    pub far: u64,
    /// Accepted, but held back by up to some jitters so as not to map before an earlier stamp.
    pub held: u64,
    /// Steps of the sensor's clock.
    pub steps: u64,
}

/// A stamp on the host's time line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedStamp {
    /// The instant on the host's clock, in ns.
    pub mapped_ns: i64,
    /// Bound on the estimate's error, in ns: about three deviations. The least latency is not part of it.
    pub uncertainty_ns: i64,
    /// Counts the clock's steps: stamps of one epoch never map backward.
    pub epoch: u32,
    /// Where this sample proves a step: by how much the sensor's clock jumped, positive forward. The samples before it,
    /// back to the step, were refused, or for steps below the limit mapped by the old line.
    pub step_ns: Option<i64>,
}

/// What is known of a clock after the samples so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockReport {
    /// The host's clock less the sensor's, at the last accepted stamp.
    pub offset_ns: i64,
    /// How fast the sensor's clock runs against the host's: positive where it gains.
    pub drift_ppm: f64,
    /// Mean lateness of arrivals ([`Jitter::OneSided`]) or their standard deviation ([`Jitter::Symmetric`]), in ns.
    pub jitter_ns: i64,
    /// Bound on the error at the last accepted stamp, in ns.
    pub uncertainty_ns: i64,
    /// The count of the clock's steps.
    pub epoch: u32,
    /// The time scale that the offset gives away, where the host keeps UTC and the sensor does not.
    pub time_scale: Option<TimeScale>,
    /// What became of the stamps.
    pub counts: ClockCounts,
}

/// Samples of one stretch of the sensor's time, relative to the epoch's origin, in ns.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    number: i64,
    count: f64,
    mean_x: f64,
    mean_d: f64,
    /// Sum of squared distances of d from its mean.
    scatter_d: f64,
    least_x: f64,
    least_d: f64,
}

impl Bin {
    fn of(number: i64, x: f64, d: f64) -> Self {
        Self { number, count: 1.0, mean_x: x, mean_d: d, scatter_d: 0.0, least_x: x, least_d: d }
    }

    fn add(&mut self, x: f64, d: f64) {
        self.count += 1.0;
        let from_mean = d - self.mean_d;
        self.mean_x += (x - self.mean_x) / self.count;
        self.mean_d += from_mean / self.count;
        self.scatter_d += from_mean * (d - self.mean_d);
        if d < self.least_d {
            (self.least_x, self.least_d) = (x, d);
        }
    }
}

/// The latest bins, oldest first.
#[derive(Clone, Debug)]
struct Window {
    ring: [Bin; BINS],
    start: usize,
    len: usize,
}

impl Window {
    fn new() -> Self {
        Self { ring: [Bin::default(); BINS], start: 0, len: 0 }
    }

    fn clear(&mut self) {
        (self.start, self.len) = (0, 0);
    }

    fn bins(&self) -> impl DoubleEndedIterator<Item = &Bin> + Clone {
        let (wrapped, first) = self.ring.split_at(self.start);
        let from_start = self.len.min(first.len());
        first.iter().take(from_start).chain(wrapped.iter().take(self.len - from_start))
    }

    fn add(&mut self, number: i64, x: f64, d: f64) {
        let last = (self.start + self.len + BINS - 1) % BINS;
        if self.len > 0
            && let Some(bin) = self.ring.get_mut(last)
            && bin.number == number
        {
            bin.add(x, d);
            return;
        }
        if let Some(bin) = self.ring.get_mut((last + 1) % BINS) {
            *bin = Bin::of(number, x, d);
        }
        if self.len < BINS {
            self.len += 1;
        } else {
            self.start = (self.start + 1) % BINS;
        }
    }

    /// How many samples, and the means of x and d.
    fn centre(&self) -> (f64, f64, f64) {
        let count: f64 = self.bins().map(|bin| bin.count).sum();
        let mean = |value: fn(&Bin) -> f64| self.bins().map(|bin| bin.count / count * value(bin)).sum::<f64>();
        (count, mean(|bin| bin.mean_x), mean(|bin| bin.mean_d))
    }
}

/// `d = at_d + slope * (x - at_x)`, with what is known of its quality.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    at_x: f64,
    at_d: f64,
    slope: f64,
    jitter_ns: f64,
    /// The samples' centre and count, from which the bound grows.
    mean_x: f64,
    count: f64,
    slope_deviation: f64,
    /// How far the line lies below the latest samples.
    lift_ns: f64,
}

impl Line {
    fn d(&self, x: f64) -> f64 {
        self.at_d + self.slope * (x - self.at_x)
    }

    /// Through the lower hull: the slope b and the touched vertex that maximise
    /// `-sum(d - line) / jitter - b² / (2 deviation²)`, which is concave in b.
    fn under(window: &Window, jitter_ns: f64, deviation: f64) -> Self {
        let (count, mean_x, mean_d) = window.centre();
        let hull = LowerHull::of(window);
        let mut line = Self { mean_x, count, jitter_ns, ..Self::default() };
        let mut least_slope = f64::NEG_INFINITY;
        let mut vertices = hull.vertices().iter().peekable();
        while let Some(&(x, d)) = vertices.next() {
            let most_slope = vertices.peek().map_or(f64::INFINITY, |next| (next.1 - d) / (next.0 - x));
            let best = deviation * deviation * count * (mean_x - x) / jitter_ns;
            if best <= most_slope {
                (line.at_x, line.at_d, line.slope) = (x, d, best.max(least_slope));
                break;
            }
            least_slope = most_slope;
        }
        line.jitter_ns = (count * (mean_d - line.d(mean_x)).max(0.0) + PRIOR_JITTER_NS) / (count + 1.0);
        let span = span(window);
        // as found by simulation: jitter with a thin lower edge, such as uniform, needs twice what exponential does
        line.slope_deviation = posterior(deviation, 10.0 * line.jitter_ns / (count * span));
        let recent = window.bins().rev().take(RECENT_BINS).map(|bin| bin.least_d - line.d(bin.least_x));
        line.lift_ns = recent.fold(f64::INFINITY, f64::min).max(0.0);
        line
    }

    /// Through the middle: least squares with a normal prior on the slope.
    fn through(window: &Window, jitter_ns: f64, deviation: f64) -> Self {
        let (count, mean_x, mean_d) = window.centre();
        let moment = |f: &dyn Fn(&Bin) -> f64| window.bins().map(|bin| bin.count * f(bin)).sum::<f64>();
        let xx = moment(&|bin| (bin.mean_x - mean_x) * (bin.mean_x - mean_x));
        let xd = moment(&|bin| (bin.mean_x - mean_x) * (bin.mean_d - mean_d));
        let variance = jitter_ns * jitter_ns;
        let slope = xd / (xx + variance / (deviation * deviation));
        let mut line = Self { at_x: mean_x, at_d: mean_d, slope, mean_x, count, ..Self::default() };
        let between = moment(&|bin| {
            let from_line = bin.mean_d - line.d(bin.mean_x);
            from_line * from_line
        });
        let within: f64 = window.bins().map(|bin| bin.scatter_d).sum();
        line.jitter_ns = ((between + within + PRIOR_JITTER_NS * PRIOR_JITTER_NS) / (count + 1.0)).sqrt();
        line.slope_deviation = posterior(deviation, line.jitter_ns / xx.sqrt());
        line
    }

    fn bound_ns(&self, jitter: Jitter, x: f64) -> f64 {
        let by_slope = self.slope_deviation * (x - self.mean_x);
        match jitter {
            Jitter::OneSided => 10.0 * self.jitter_ns / self.count + 3.0 * by_slope.abs() + self.lift_ns,
            Jitter::Symmetric => {
                let by_mean = self.jitter_ns * self.jitter_ns / self.count;
                3.0 * (by_mean + by_slope * by_slope).sqrt()
            }
        }
    }
}

/// The deviation that is left when a prior and a measurement come together; the measurement's may be infinite.
fn posterior(prior: f64, measured: f64) -> f64 {
    if !measured.is_finite() {
        return prior;
    }
    prior * measured / (prior * prior + measured * measured).sqrt()
}

fn span(window: &Window) -> f64 {
    match (window.bins().next(), window.bins().next_back()) {
        (Some(first), Some(last)) => last.mean_x - first.mean_x,
        _ => 0.0,
    }
}

/// The lower convex hull of the bins' lowest samples, from left to right (Andrew's monotone chain).
struct LowerHull {
    points: [(f64, f64); BINS],
    len: usize,
}

impl LowerHull {
    fn of(window: &Window) -> Self {
        let mut hull = Self { points: [(0.0, 0.0); BINS], len: 0 };
        for bin in window.bins() {
            let point = (bin.least_x, bin.least_d);
            while let [.., before, last] = hull.vertices()
                && above(*last, *before, point)
            {
                hull.len -= 1;
            }
            if let Some(free) = hull.points.get_mut(hull.len) {
                *free = point;
                hull.len += 1;
            }
        }
        hull
    }

    fn vertices(&self) -> &[(f64, f64)] {
        self.points.get(..self.len).unwrap_or(&self.points)
    }
}

/// Whether `middle` lies on or above the line from `left` to `right`.
fn above(middle: (f64, f64), left: (f64, f64), right: (f64, f64)) -> bool {
    (middle.1 - left.1) * (right.0 - left.0) >= (right.1 - left.1) * (middle.0 - left.0)
}

/// A run of samples on one side of the line, which may turn out to be a step.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The latest samples: raw stamp, and arrival less raw.
    latest: [(i64, i128); STEP_SAMPLES],
    count: u32,
    late: bool,
    first_raw_ns: i64,
    least_d: i128,
    most_d: i128,
    /// Suspects since the last sample that was none which did not agree with the ones before them.
    scattered: u32,
}

impl Run {
    /// Takes the next suspect; one that does not continue the run starts another.
    fn add(&mut self, raw_ns: i64, d: i128, late: bool, tolerance_ns: i128) {
        let (least, most) = (self.least_d.min(d), self.most_d.max(d));
        let after = self.latest.last().is_some_and(|last| last.0 < raw_ns);
        if self.count == 0 || late != self.late || !after || most - least > tolerance_ns {
            let scattered = self.scattered.saturating_add(1);
            *self = Self { late, first_raw_ns: raw_ns, least_d: d, most_d: d, scattered, ..Self::default() };
        }
        (self.least_d, self.most_d) = (self.least_d.min(d), self.most_d.max(d));
        self.latest.rotate_left(1);
        if let Some(last) = self.latest.last_mut() {
            *last = (raw_ns, d);
        }
        self.count = self.count.saturating_add(1);
    }

    /// After a stall packets arrive at once, their lateness falling by as much as their stamps rise. A run much longer
    /// than the differences within it is therefore no stall.
    fn proves_step(&self, raw_ns: i64, tolerance_ns: i128, far: bool) -> bool {
        let needed = if far { STEP_SAMPLES } else { 2 * STEP_SAMPLES };
        let span = i128::from(raw_ns) - i128::from(self.first_raw_ns);
        self.count as usize >= needed && span >= 3 * tolerance_ns
    }
}

/// One epoch: between two steps of the sensor's clock.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// The first sample, from which all others are counted: raw stamp, and arrival less raw.
    origin_raw_ns: i64,
    origin_d: i128,
    samples: u32,
    /// The last accepted stamp, raw and mapped.
    last: Option<(i64, i64)>,
    line: Line,
}

impl Epoch {
    fn x(&self, raw_ns: i64) -> f64 {
        (i128::from(raw_ns) - i128::from(self.origin_raw_ns)) as f64
    }

    /// How late a sample is against the line, in ns.
    fn lateness_ns(&self, raw_ns: i64, d: i128) -> f64 {
        (d - self.origin_d) as f64 - self.line.d(self.x(raw_ns))
    }

    fn offset_ns(&self, raw_ns: i64) -> i128 {
        self.origin_d + self.line.d(self.x(raw_ns)).round() as i128
    }
}

/// Maps one sensor's stamps to the host's time line.
#[derive(Clone, Debug)]
pub struct ClockMapper {
    settings: ClockSettings,
    window: Window,
    epoch: Option<Epoch>,
    run: Run,
    counts: ClockCounts,
    epoch_number: u32,
    last_arrival_ns: i64,
    uncertainty_ns: i64,
}

impl ClockMapper {
    /// A mapper that has seen nothing.
    pub fn new(settings: ClockSettings) -> Self {
        Self {
            settings,
            window: Window::new(),
            epoch: None,
            run: Run::default(),
            counts: ClockCounts::default(),
            epoch_number: 0,
            last_arrival_ns: 0,
            uncertainty_ns: 0,
        }
    }

    /// Takes the next sample in the order of arrival and maps its stamp.
    ///
    /// # Errors
    /// If the stamp is not to be trusted; it is counted, and may still serve to prove a step.
    pub fn observe(&mut self, raw_ns: i64, arrival_ns: i64) -> Result<MappedStamp, StampFault> {
        let outcome = self.judge(raw_ns, arrival_ns);
        let counter = match outcome {
            Ok(_) => &mut self.counts.accepted,
            Err(StampFault::Zero) => &mut self.counts.zero,
            Err(StampFault::Duplicate { .. }) => &mut self.counts.duplicate,
            Err(StampFault::Backward { .. }) => &mut self.counts.backward,
            Err(StampFault::FarFromArrival { .. }) => &mut self.counts.far,
        };
        *counter += 1;
        outcome
    }

    /// What is known so far, `None` before the first accepted stamp.
    pub fn report(&self) -> Option<ClockReport> {
        let epoch = self.epoch.as_ref()?;
        let (raw_ns, _) = epoch.last?;
        let offset_ns = clamped(epoch.offset_ns(raw_ns) - i128::from(self.settings.least_latency_ns));
        Some(ClockReport {
            offset_ns,
            drift_ppm: 0.0 - 1e6 * epoch.line.slope,
            jitter_ns: epoch.line.jitter_ns.round() as i64,
            uncertainty_ns: self.uncertainty_ns,
            epoch: self.epoch_number,
            time_scale: TimeScale::of_offset(offset_ns, self.last_arrival_ns),
            counts: self.counts,
        })
    }

    fn judge(&mut self, raw_ns: i64, arrival_ns: i64) -> Result<MappedStamp, StampFault> {
        if raw_ns == 0 {
            return Err(StampFault::Zero);
        }
        let d = i128::from(arrival_ns) - i128::from(raw_ns);
        let Some(epoch) = self.epoch else {
            self.begin_epoch(raw_ns, d);
            return Ok(self.map(raw_ns, arrival_ns, None));
        };
        if let Some((last_ns, _)) = epoch.last
            && last_ns == raw_ns
        {
            return Err(StampFault::Duplicate { last_ns });
        }
        let late_ns = epoch.lateness_ns(raw_ns, d);
        let limit_ns = self.suspect_limit_ns(&epoch);
        if late_ns.abs() > limit_ns {
            let tolerance_ns = self.tolerance_ns(&epoch);
            self.run.add(raw_ns, d, late_ns > 0.0, tolerance_ns);
            let far = late_ns.abs() > self.settings.far_ns as f64;
            if self.run.proves_step(raw_ns, tolerance_ns, far) {
                let step_ns = self.step(&epoch, raw_ns);
                return Ok(self.map(raw_ns, arrival_ns, Some(step_ns)));
            }
        } else {
            self.run = Run::default();
        }
        if let Some((last_ns, _)) = epoch.last
            && raw_ns < last_ns
        {
            return Err(StampFault::Backward { last_ns, found_ns: raw_ns });
        }
        // suspects teach nothing, unless so many disagree that it is the jitter that grew
        if self.run.count == 0 || self.run.scattered > STEP_SAMPLES as u32 {
            self.learn(raw_ns, d);
        }
        let late_limit_ns = self.settings.far_ns;
        if late_ns > late_limit_ns as f64 || -late_ns > limit_ns {
            let limit_ns = if late_ns > 0.0 { late_limit_ns } else { limit_ns as i64 };
            return Err(StampFault::FarFromArrival { limit_ns, found_ns: late_ns as i64 });
        }
        Ok(self.map(raw_ns, arrival_ns, None))
    }

    /// How far from the line a sample may lie without being suspected of a step.
    fn suspect_limit_ns(&self, epoch: &Epoch) -> f64 {
        let far_ns = self.settings.far_ns as f64;
        if epoch.samples < WARM_UP_SAMPLES {
            return far_ns;
        }
        (SUSPECT_JITTERS * epoch.line.jitter_ns).max(self.settings.least_step_ns as f64).min(far_ns)
    }

    /// How far samples of one run may lie apart.
    fn tolerance_ns(&self, epoch: &Epoch) -> i128 {
        let jitters = match self.settings.jitter {
            Jitter::OneSided => 5.0,
            Jitter::Symmetric => 6.0,
        };
        (jitters * epoch.line.jitter_ns).max(0.5 * self.settings.least_step_ns as f64) as i128
    }

    fn begin_epoch(&mut self, raw_ns: i64, d: i128) {
        self.window.clear();
        self.run = Run::default();
        let line = Line { jitter_ns: PRIOR_JITTER_NS, ..Line::default() };
        self.epoch = Some(Epoch { origin_raw_ns: raw_ns, origin_d: d, samples: 0, last: None, line });
        self.learn(raw_ns, d);
    }

    /// Begins the epoch that the run proves, and tells by how much the sensor's clock jumped.
    fn step(&mut self, before: &Epoch, raw_ns: i64) -> i64 {
        let run = self.run;
        for (index, (raw_ns, d)) in run.latest.into_iter().enumerate() {
            match index {
                0 => self.begin_epoch(raw_ns, d),
                _ => self.learn(raw_ns, d),
            }
        }
        self.epoch_number = self.epoch_number.saturating_add(1);
        self.counts.steps += 1;
        let after = self.epoch.map_or(0, |epoch| epoch.offset_ns(raw_ns));
        clamped(before.offset_ns(raw_ns) - after)
    }

    fn learn(&mut self, raw_ns: i64, d: i128) {
        let Some(epoch) = &mut self.epoch else { return };
        let x = epoch.x(raw_ns);
        let since_origin = i128::from(raw_ns) - i128::from(epoch.origin_raw_ns);
        let number = clamped(since_origin.div_euclid(i128::from(BIN_NS)));
        self.window.add(number, x, (d - epoch.origin_d) as f64);
        epoch.samples = epoch.samples.saturating_add(1);
        let deviation = self.settings.drift_deviation_ppm.max(1e-3) * 1e-6;
        epoch.line = match self.settings.jitter {
            Jitter::OneSided => Line::under(&self.window, epoch.line.jitter_ns, deviation),
            Jitter::Symmetric => Line::through(&self.window, epoch.line.jitter_ns, deviation),
        };
    }

    fn map(&mut self, raw_ns: i64, arrival_ns: i64, step_ns: Option<i64>) -> MappedStamp {
        let mut mapped_ns = arrival_ns;
        if let Some(epoch) = &mut self.epoch {
            let latency_ns = i128::from(self.settings.least_latency_ns);
            let estimate_ns = clamped(i128::from(raw_ns) + epoch.offset_ns(raw_ns) - latency_ns);
            mapped_ns = epoch.last.map_or(estimate_ns, |(_, last_ns)| last_ns.max(estimate_ns));
            epoch.last = Some((raw_ns, mapped_ns));
            let held_ns = mapped_ns.saturating_sub(estimate_ns);
            self.counts.held += u64::from(held_ns > 0);
            let bound_ns = epoch.line.bound_ns(self.settings.jitter, epoch.x(raw_ns));
            self.uncertainty_ns = (bound_ns.ceil() as i64).saturating_add(held_ns);
        }
        self.last_arrival_ns = arrival_ns;
        MappedStamp { mapped_ns, uncertainty_ns: self.uncertainty_ns, epoch: self.epoch_number, step_ns }
    }
}

fn clamped(ns: i128) -> i64 {
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;
    const MS_NS: i64 = 1_000_000;
    /// An arrival in 2024, in ns since 1970.
    const START_NS: i64 = 1_710_000_000 * SECOND_NS;

    /// SplitMix64, the same numbers for the same seed.
    struct Random(u64);

    impl Random {
        /// Uniform in 0 to 1.
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Noise {
        None,
        /// 0 to 5 ms.
        Uniform,
        /// Mean of 5 ms.
        Exponential,
        /// -5 to 5 ms.
        Symmetric,
    }

    impl Noise {
        fn draw_ns(self, random: &mut Random) -> f64 {
            match self {
                Self::None => 0.0,
                Self::Uniform => 5e6 * random.unit(),
                Self::Exponential => -5e6 * libm::log(1.0 - random.unit()),
                Self::Symmetric => 1e7 * random.unit() - 5e6,
            }
        }

        fn settings(self) -> ClockSettings {
            let jitter = if self == Self::Symmetric { Jitter::Symmetric } else { Jitter::OneSided };
            ClockSettings { jitter, ..ClockSettings::default() }
        }
    }

    /// A sensor with a clock of its own.
    struct Sensor {
        random: Random,
        noise: Noise,
        rate_hz: i64,
        drift_ppm: f64,
        offset_ns: i64,
        sample: i64,
    }

    impl Sensor {
        fn new(seed: u64, noise: Noise, rate_hz: i64) -> Self {
            Self { random: Random(seed), noise, rate_hz, drift_ppm: 50.0, offset_ns: 123_456_789_012, sample: 0 }
        }

        /// The next sample: the true instant, the raw stamp and the arrival.
        fn next(&mut self) -> (i64, i64, i64) {
            let since_start_ns = self.sample * SECOND_NS / self.rate_hz;
            self.sample += 1;
            let raw_ns = since_start_ns + (since_start_ns as f64 * self.drift_ppm * 1e-6) as i64 + self.offset_ns;
            let true_ns = START_NS + since_start_ns;
            (true_ns, raw_ns, true_ns + self.noise.draw_ns(&mut self.random) as i64)
        }

        /// Runs for so long and gives the errors of the accepted stamps (mapped less true) and their bounds.
        fn run(&mut self, mapper: &mut ClockMapper, seconds: i64) -> Vec<(i64, i64)> {
            (0..seconds * self.rate_hz)
                .filter_map(|_| {
                    let (true_ns, raw_ns, arrival_ns) = self.next();
                    let mapped = mapper.observe(raw_ns, arrival_ns).ok()?;
                    Some((mapped.mapped_ns - true_ns, mapped.uncertainty_ns))
                })
                .collect()
        }
    }

    fn worst(errors: &[(i64, i64)]) -> i64 {
        errors.iter().map(|(error, _)| error.abs()).max().unwrap()
    }

    #[test]
    fn one_sided_jitter_leaves_less_than_a_millisecond_after_ten_seconds() {
        for noise in [Noise::None, Noise::Uniform, Noise::Exponential] {
            for rate_hz in [10, 20, 50, 100] {
                let (mut most, mut beyond, mut all) = (0, 0, 0);
                for seed in 0..4 {
                    let mut mapper = ClockMapper::new(noise.settings());
                    let mut sensor = Sensor::new(seed, noise, rate_hz);
                    let early = sensor.run(&mut mapper, 10);
                    let late = sensor.run(&mut mapper, 70);
                    most = most.max(worst(&late));
                    all += early.len() + late.len();
                    beyond += early.iter().chain(&late).filter(|(error, bound)| error.abs() > *bound).count();
                    let report = mapper.report().unwrap();
                    assert!((report.drift_ppm - 50.0).abs() < 10.0, "{noise:?} {rate_hz} Hz: {report:?}");
                    assert_eq!((report.counts.steps, report.counts.far), (0, 0));
                }
                println!("{noise:?} {rate_hz} Hz: at most {most} ns, {beyond} of {all} beyond their bound");
                assert!(most < MS_NS, "{noise:?} {rate_hz} Hz: {most} ns");
                assert!(beyond * 100 < all, "{noise:?} {rate_hz} Hz: {beyond} of {all}");
            }
        }
    }

    #[test]
    fn symmetric_jitter_leaves_what_statistics_leave() {
        for rate_hz in [10, 20, 50, 100] {
            let (mut squares, mut within, mut beyond, mut all) = (0.0, 0, 0, 0);
            for seed in 0..20 {
                let mut mapper = ClockMapper::new(Noise::Symmetric.settings());
                let mut sensor = Sensor::new(seed, Noise::Symmetric, rate_hz);
                sensor.run(&mut mapper, 10);
                let errors = sensor.run(&mut mapper, 20);
                all += errors.len();
                squares += errors.iter().map(|(error, _)| (*error as f64) * (*error as f64)).sum::<f64>();
                within += errors.iter().filter(|(error, _)| error.abs() < MS_NS).count();
                beyond += errors.iter().filter(|(error, bound)| error.abs() > *bound).count();
                assert_eq!(mapper.report().unwrap().counts.steps, 0);
            }
            let deviation = (squares / all as f64).sqrt();
            println!("{rate_hz} Hz: deviation {deviation:.0} ns, {within} of {all} within 1 ms, {beyond} beyond bound");
            assert!(deviation < 0.5e6 && within * 100 >= all * 95 && beyond * 100 < all);
        }
    }

    #[test]
    fn one_sided_settings_bear_symmetric_jitter() {
        let mut mapper = ClockMapper::new(ClockSettings::default());
        let mut sensor = Sensor::new(1, Noise::Symmetric, 50);
        sensor.run(&mut mapper, 10);
        for (error, _) in sensor.run(&mut mapper, 60) {
            assert!((error + 5 * MS_NS).abs() < MS_NS, "off by its half-width, steadily: {error}");
        }
        assert_eq!(mapper.report().unwrap().counts.steps, 0);
    }

    #[test]
    fn steps_are_reported_and_left_behind() {
        for step_ns in [2 * SECOND_NS, -2 * SECOND_NS, 100 * MS_NS, -100 * MS_NS] {
            for noise in [Noise::None, Noise::Uniform, Noise::Exponential, Noise::Symmetric] {
                for rate_hz in [10, 100] {
                    let mut mapper = ClockMapper::new(noise.settings());
                    let mut sensor = Sensor::new(7, noise, rate_hz);
                    sensor.run(&mut mapper, 30);
                    sensor.offset_ns += step_ns;
                    let mut reports = Vec::new();
                    for sample in 1..=20 {
                        let (_, raw_ns, arrival_ns) = sensor.next();
                        let step = mapper.observe(raw_ns, arrival_ns).ok().and_then(|mapped| mapped.step_ns);
                        reports.extend(step.map(|step| (sample, step)));
                    }
                    println!("{step_ns} {noise:?} {rate_hz} Hz: {reports:?}");
                    let [(sample, reported)] = reports[..] else { panic!("{reports:?}") };
                    let most = if step_ns.abs() < SECOND_NS { 15 } else { 10 };
                    assert!(sample <= most, "after {sample} samples");
                    assert!((reported - step_ns).abs() < 10 * MS_NS, "{reported}");
                    sensor.run(&mut mapper, 8);
                    let most = worst(&sensor.run(&mut mapper, 30));
                    let limit = if noise == Noise::Symmetric { 3 * MS_NS / 2 } else { MS_NS };
                    assert!(most < limit, "{step_ns} {noise:?} {rate_hz} Hz: {most}");
                    let report = mapper.report().unwrap();
                    assert_eq!((report.epoch, report.counts.steps), (1, 1));
                }
            }
        }
    }

    #[test]
    fn a_stall_is_no_step() {
        for rate_hz in [100, 1000] {
            let mut mapper = ClockMapper::new(ClockSettings::default());
            let mut sensor = Sensor::new(3, Noise::Exponential, rate_hz);
            sensor.run(&mut mapper, 20);
            let stalled: Vec<_> = (0..rate_hz * 4 / 10).map(|_| sensor.next()).collect();
            let end_ns = stalled.last().unwrap().2;
            for (true_ns, raw_ns, _) in stalled {
                let mapped = mapper.observe(raw_ns, end_ns).unwrap();
                assert!((mapped.mapped_ns - true_ns).abs() < MS_NS);
            }
            assert!(worst(&sensor.run(&mut mapper, 10)) < MS_NS);
            assert_eq!(mapper.report().unwrap().counts.steps, 0);
        }
    }

    #[test]
    fn faults_are_named_and_counted() {
        let mut mapper = ClockMapper::new(ClockSettings::default());
        let mut sensor = Sensor::new(5, Noise::Uniform, 100);
        sensor.run(&mut mapper, 5);
        let (_, raw_ns, arrival_ns) = sensor.next();
        assert!(mapper.observe(raw_ns, arrival_ns).is_ok());
        assert_eq!(mapper.observe(0, arrival_ns), Err(StampFault::Zero));
        assert_eq!(mapper.observe(raw_ns, arrival_ns), Err(StampFault::Duplicate { last_ns: raw_ns }));
        let found_ns = raw_ns - 5 * MS_NS;
        assert_eq!(mapper.observe(found_ns, arrival_ns), Err(StampFault::Backward { last_ns: raw_ns, found_ns }));
        for glitch_ns in [raw_ns + 10 * SECOND_NS, i64::MAX] {
            assert!(matches!(mapper.observe(glitch_ns, arrival_ns), Err(StampFault::FarFromArrival { .. })));
        }
        assert!(matches!(mapper.observe(i64::MIN, arrival_ns), Err(StampFault::Backward { .. })));
        assert!(matches!(
            mapper.observe(raw_ns + MS_NS, arrival_ns + SECOND_NS),
            Err(StampFault::FarFromArrival { limit_ns: 500_000_000, .. })
        ));
        assert!(worst(&sensor.run(&mut mapper, 5)) < MS_NS);
        let counts = mapper.report().unwrap().counts;
        assert_eq!((counts.zero, counts.duplicate, counts.backward, counts.far, counts.steps), (1, 1, 2, 3, 0));
        assert_eq!(counts.accepted, 1001);
    }

    #[test]
    fn jitter_that_grows_is_learnt() {
        let mut mapper = ClockMapper::new(ClockSettings::default());
        let mut sensor = Sensor::new(9, Noise::Uniform, 20);
        sensor.run(&mut mapper, 60);
        let mut random = Random(4);
        for _ in 0..2000 {
            let (_, raw_ns, arrival_ns) = sensor.next();
            let _ = mapper.observe(raw_ns, arrival_ns + (30e6 * random.unit()) as i64);
        }
        let report = mapper.report().unwrap();
        assert!(report.jitter_ns > 12 * MS_NS, "{report:?}");
        assert_eq!(report.counts.steps, 0);
    }

    #[test]
    fn offsets_of_gps_and_tai_are_named() {
        for (ahead_s, expected) in [(18, Some(TimeScale::Gps)), (37, Some(TimeScale::Tai)), (0, None), (25, None)] {
            let mut mapper = ClockMapper::new(ClockSettings::default());
            let mut sensor = Sensor::new(2, Noise::Exponential, 10);
            sensor.offset_ns = START_NS + ahead_s * SECOND_NS;
            sensor.run(&mut mapper, 10);
            assert_eq!(mapper.report().unwrap().time_scale, expected);
        }
    }

    #[test]
    fn the_least_latency_is_taken_off() {
        let settings = ClockSettings { least_latency_ns: 7 * MS_NS, ..ClockSettings::default() };
        let mapped = ClockMapper::new(settings).observe(5, START_NS).unwrap();
        assert_eq!(mapped.mapped_ns, START_NS - 7 * MS_NS);
        assert!(mapped.uncertainty_ns >= 5 * MS_NS);
    }

    mod any_input {
        use super::*;
        use proptest::prelude::*;

        fn stamp() -> impl Strategy<Value = i64> {
            prop_oneof![any::<i64>(), -50i64..50, 0i64..4_000_000_000]
        }

        proptest! {
            #[test]
            fn never_maps_backward_within_an_epoch(
                pairs in prop::collection::vec((stamp(), stamp()), 0..400),
                symmetric in any::<bool>(),
            ) {
                let jitter = if symmetric { Jitter::Symmetric } else { Jitter::OneSided };
                let mut mapper = ClockMapper::new(ClockSettings { jitter, ..ClockSettings::default() });
                let mut last = (0, i64::MIN);
                for &(raw_ns, arrival_ns) in &pairs {
                    let Ok(mapped) = mapper.observe(raw_ns, arrival_ns) else { continue };
                    prop_assert!(mapped.uncertainty_ns >= 0);
                    let next = (mapped.epoch, mapped.mapped_ns);
                    prop_assert!(next >= last, "{next:?} after {last:?}");
                    last = next;
                }
                if let Some(ClockReport { counts, .. }) = mapper.report() {
                    let refused = counts.zero + counts.duplicate + counts.backward + counts.far;
                    prop_assert_eq!(counts.accepted + refused, pairs.len() as u64);
                }
            }
        }
    }
}
