//! Deadlines: how long ticks and stages took, against their budgets.
//!
//! Observed on the edge, out of the times that the graph notes of every stage. A tick counts from its admission to the end of its
//! last stage, a stage from its start to its end, digests of its output included. What is missed is counted here and goes into the
//! run's log; it changes nothing. Allocates nothing once it is made.

use catseye_calibration::rig::Deadlines;

use super::Refused;
use crate::runtime::graph::{MAX_STAGES, TimingNote};

/// One budget that was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Position of the stage; none for the tick as a whole.
    pub stage: Option<u8>,
    /// How long it took.
    pub took_ns: i64,
    /// How long it might have.
    pub budget_ns: i64,
}

/// What one tick missed.
pub type Misses = heapless::Vec<Miss, { MAX_STAGES + 1 }>;

/// How one budget was kept so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineCount {
    /// The stage, or `tick`.
    pub of: String,
    /// The budget.
    pub budget_ns: i64,
    /// How often it was looked at.
    pub observed: u64,
    /// How often it was missed.
    pub missed: u64,
    /// The longest time.
    pub worst_ns: i64,
}

/// Holds ticks to their budgets.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    tick: Option<DeadlineCount>,
    stages: Vec<(u8, DeadlineCount)>,
    missed: u64,
}

impl Monitor {
    /// For a pipeline with these stages. A budget for a stage that is not among them is given back as refused: a rig may be made for
    /// a machine whose networks run elsewhere.
    pub fn new(budgets: &Deadlines, stages: &[&str]) -> (Self, Vec<Refused>) {
        let count = |of: &str, budget_ms: f64| DeadlineCount {
            of: of.to_owned(),
            budget_ns: (budget_ms * 1e6) as i64,
            observed: 0,
            missed: 0,
            worst_ns: 0,
        };
        let mut refused = Vec::new();
        let mut held = Vec::new();
        for (stage, budget_ms) in &budgets.stages_ms {
            match stages.iter().position(|known| *known == stage) {
                Some(at) => held.push((at as u8, count(stage, *budget_ms))),
                None => refused.push(Refused::Stage { stage: stage.clone(), known: stages.join(", ") }),
            }
        }
        // in the order of the pipeline, as the summary tells them
        held.sort_by_key(|(at, _)| *at);
        let tick = budgets.tick_ms.map(|budget_ms| count("tick", budget_ms));
        (Monitor { tick, stages: held, missed: 0 }, refused)
    }

    /// Takes the times of one tick, which was admitted at `admitted_ns` on the graph's clock.
    pub fn observe(&mut self, admitted_ns: i64, timings: &[TimingNote]) -> Misses {
        let mut misses = Misses::new();
        if let (Some(count), Some(end_ns)) = (&mut self.tick, timings.iter().map(|timing| timing.end_ns).max()) {
            note(count, None, end_ns.saturating_sub(admitted_ns), &mut misses);
        }
        for (stage, count) in &mut self.stages {
            // a stage that did not run on this tick has kept its budget without being looked at
            for timing in timings.iter().filter(|timing| timing.stage == *stage) {
                note(count, Some(*stage), timing.end_ns.saturating_sub(timing.start_ns), &mut misses);
            }
        }
        self.missed += misses.len() as u64;
        misses
    }

    /// Budgets that were missed so far, over all ticks.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How each budget was kept: the tick's, then the stages' in running order.
    pub fn counts(&self) -> Vec<DeadlineCount> {
        self.tick.iter().chain(self.stages.iter().map(|(_, count)| count)).cloned().collect()
    }
}

fn note(count: &mut DeadlineCount, stage: Option<u8>, took_ns: i64, misses: &mut Misses) {
    count.observed += 1;
    count.worst_ns = count.worst_ns.max(took_ns);
    if took_ns > count.budget_ns {
        count.missed += 1;
        // a tick has one time of each stage at most
        let _ = misses.push(Miss { stage, took_ns, budget_ns: count.budget_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(stage: u8, start_ms: i64, end_ms: i64) -> TimingNote {
        TimingNote { stage, worker: 0, start_ns: start_ms * 1_000_000, end_ns: end_ms * 1_000_000 }
    }

    fn budgets() -> Deadlines {
        let stages_ms = [("infer", 40.0), ("plan", 1.5), ("gpu", 3.0)];
        Deadlines { tick_ms: Some(100.0), stages_ms: stages_ms.map(|(stage, ms)| (stage.to_owned(), ms)).into() }
    }

    #[test]
    fn what_takes_longer_than_its_budget_is_counted_and_told() {
        let (mut monitor, refused) = Monitor::new(&budgets(), &["unpack", "infer", "plan"]);
        let words: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "realtime.deadlines.stages_ms.gpu holds nothing to it: expected one of the stages unpack, infer, plan, found \"gpu\""
            ]
        );
        // just in time is in time
        let good = [timing(0, 10, 50), timing(1, 50, 90), timing(2, 90, 91)];
        assert!(monitor.observe(0, &good).is_empty());
        let bad = [timing(0, 200, 230), timing(1, 230, 271), timing(2, 299, 301)];
        let misses = monitor.observe(200_000_000, &bad);
        let miss = |stage, took_ns, budget_ns| Miss { stage, took_ns, budget_ns };
        let expected = [
            miss(None, 101_000_000, 100_000_000),
            miss(Some(1), 41_000_000, 40_000_000),
            miss(Some(2), 2_000_000, 1_500_000),
        ];
        assert_eq!(misses.as_slice(), expected);
        // a tick that no stage was timed on says nothing
        assert!(monitor.observe(0, &[]).is_empty());
        assert_eq!(monitor.missed(), 3);
        let told: Vec<_> = monitor
            .counts()
            .iter()
            .map(|count| (count.of.clone(), count.observed, count.missed, count.worst_ns))
            .collect();
        let expected = [("tick", 2, 1, 101_000_000), ("infer", 2, 1, 41_000_000), ("plan", 2, 1, 2_000_000)];
        assert_eq!(told, expected.map(|(of, observed, missed, worst)| (of.to_owned(), observed, missed, worst)));
    }

    #[test]
    fn without_budgets_nothing_is_missed() {
        let (mut monitor, refused) = Monitor::new(&Deadlines::default(), &["unpack"]);
        assert!(monitor.observe(0, &[timing(0, 0, 1 << 20)]).is_empty() && refused.is_empty());
        assert!(monitor.counts().is_empty());
    }
}
