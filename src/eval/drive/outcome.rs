//! What came of it: the planner's time to collision and gap to the lead, and how the vehicle fared.

use std::collections::BTreeMap;

use super::curves::Curve;
use super::logs::{Run, Truth, nearest};
use super::{DriveMetrics, Values};
use crate::truth::TruthEgo;

/// Times to collision beyond this are of no concern.
const MAX_TTC_S: f64 = 10.0;
/// Braking harder than this is harsh.
const HARSH_MPS2: f64 = 3.5;

/// Time until the gap to the lead closes; `None` when it does not.
fn true_time_to_collision_s(ego: &TruthEgo) -> Option<f64> {
    let time_s = ego.lead_gap_m / ego.lead_closing_mps;
    (ego.lead_closing_mps > 0.0 && time_s.is_finite() && time_s > 0.0).then_some(time_s)
}

/// Errors of the planner's time to collision where the true one is below 10 s.
pub(super) fn time_to_collision(run: &Run, truth: &Truth, metrics: &mut DriveMetrics) {
    let (mut error, mut relative) = (Values::default(), Values::default());
    for tick in &run.ticks {
        let ego = nearest(&truth.ego, tick.reference_ns).map(|(_, ego)| ego);
        let time_s = ego.and_then(true_time_to_collision_s).filter(|time_s| *time_s < MAX_TTC_S);
        let found_s = f64::from(tick.time_to_collision_s);
        if let Some(time_s) = time_s.filter(|_| found_s.is_finite()) {
            error.add(found_s - time_s);
            relative.add((found_s - time_s) / time_s);
        }
    }
    metrics.put("ttc.count", (!truth.ego.is_empty()).then(|| error.count()));
    metrics.put("ttc.error_s.median", error.median());
    metrics.put("ttc.error_s.bias", error.bias());
    metrics.put("ttc.relative_error.median", relative.median());
}

/// The gap to the lead over time; nothing where truth has no lead and the planner none either.
pub(super) fn lead_gap(run: &Run, truth: &Truth) -> Vec<Curve> {
    let known = run.ticks.iter().filter_map(|tick| Some((tick, nearest(&truth.ego, tick.reference_ns)?.1)));
    let (mut true_m, mut found_m) = (Vec::new(), Vec::new());
    for (tick, ego) in known {
        let time_s = run.time_s(tick.reference_ns);
        let has_lead = ego.lead_id != 0 && ego.lead_gap_m.is_finite();
        true_m.push([time_s, if has_lead { ego.lead_gap_m } else { f64::NAN }]);
        found_m.push([time_s, tick.lead_gap_m.map_or(f64::NAN, f64::from)]);
    }
    let is_empty = true_m.iter().chain(&found_m).all(|[_, gap_m]| !gap_m.is_finite());
    if is_empty { Vec::new() } else { vec![Curve::new("truth", true_m), Curve::new("planner", found_m)] }
}

/// How often something begins.
fn beginnings(states: impl Iterator<Item = bool>) -> f64 {
    let (count, _) = states.fold((0_u32, false), |(count, was), is| (count + u32::from(is && !was), is));
    f64::from(count)
}

/// How the vehicle fared.
pub(super) fn planner(truth: &Truth, metrics: &mut DriveMetrics) {
    let ego: &BTreeMap<i64, TruthEgo> = &truth.ego;
    let is_known = !ego.is_empty();
    let gap_m = ego.values().map(|ego| ego.lead_gap_m).fold(f64::INFINITY, f64::min);
    let braking_mps2 = ego.values().map(|ego| -ego.acceleration_mps2).fold(0.0, f64::max);
    let collisions = beginnings(ego.values().map(|ego| ego.has_collided));
    let harsh = beginnings(ego.values().map(|ego| ego.acceleration_mps2 < -HARSH_MPS2));
    metrics.put("planner.collisions", is_known.then_some(collisions));
    metrics.put("planner.min_lead_gap_m", is_known.then_some(gap_m));
    metrics.put("planner.harsh_brakings", is_known.then_some(harsh));
    metrics.put("planner.max_deceleration_mps2", is_known.then_some(braking_mps2));
}

#[cfg(test)]
mod tests {
    use super::super::logs::Tick;
    use super::*;

    fn ego(lead_gap_m: f64, lead_closing_mps: f64) -> TruthEgo {
        TruthEgo { lead_gap_m, lead_closing_mps, ..TruthEgo::default() }
    }

    #[test]
    fn times_to_collision_count_where_both_are_finite() {
        let truths = [ego(20.0, 10.0), ego(20.0, -1.0), ego(f64::INFINITY, 0.0), ego(500.0, 10.0), ego(20.0, 5.0)];
        let found = [2.5, 2.0, 2.0, 40.0, f32::INFINITY];
        let stamps = (1..).map(|tick| tick * 100_000_000_i64);
        let truth = Truth { ego: stamps.clone().zip(truths).collect(), ..Truth::default() };
        let ticks = stamps.zip(found).map(|(reference_ns, time_to_collision_s)| Tick {
            reference_ns,
            time_to_collision_s,
            ..Tick::default()
        });
        let run = Run { ticks: ticks.collect(), ..Run::default() };
        let mut metrics = DriveMetrics::default();
        time_to_collision(&run, &truth, &mut metrics);
        assert_eq!(metrics.get("ttc.count"), Some(1.0));
        assert_eq!(metrics.get("ttc.error_s.bias"), Some(0.5));
        assert_eq!(metrics.get("ttc.relative_error.median"), Some(0.25));
    }

    #[test]
    fn a_gap_is_drawn_where_there_is_a_lead() {
        let lead = |lead_id, lead_gap_m| TruthEgo { lead_id, lead_gap_m, ..TruthEgo::default() };
        let truth = [(1, lead(7, 20.0)), (500_000_001, lead(0, f64::INFINITY))];
        let truth = Truth { ego: truth.into(), ..Truth::default() };
        let tick = |reference_ns, lead_gap_m| Tick { reference_ns, lead_gap_m, ..Tick::default() };
        let mut run = Run { ticks: vec![tick(1, None), tick(500_000_001, Some(19.5))], ..Run::default() };
        let found = lead_gap(&run, &truth);
        let [truth_m, planner_m] = [0, 1].map(|curve| &found[curve].points);
        assert!(truth_m[0] == [0.0, 20.0] && truth_m[1][1].is_nan());
        assert!(planner_m[0][1].is_nan() && planner_m[1] == [0.5, 19.5]);
        run.ticks.clear();
        assert_eq!(lead_gap(&run, &truth), Vec::new());
    }

    #[test]
    fn collisions_and_brakings_are_counted_once_each() {
        let of = |has_collided, acceleration_mps2, lead_gap_m| TruthEgo {
            has_collided,
            acceleration_mps2,
            lead_gap_m,
            ..TruthEgo::default()
        };
        let states = [
            of(false, -4.0, 9.0),
            of(true, -6.0, 2.0),
            of(true, 0.0, f64::INFINITY),
            of(false, -3.5, 3.0),
            of(true, -3.6, 4.0),
        ];
        let truth = Truth { ego: (1..).zip(states).collect(), ..Truth::default() };
        let mut metrics = DriveMetrics::default();
        planner(&truth, &mut metrics);
        let found = ["collisions", "min_lead_gap_m", "harsh_brakings", "max_deceleration_mps2"]
            .map(|name| metrics.get(&format!("planner.{name}")));
        assert_eq!(found, [Some(2.0), Some(2.0), Some(2.0), Some(6.0)]);
    }
}
