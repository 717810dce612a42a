//! The world in motion: who is where, step by step.
//!
//! [`population`] places everybody; here they drive and walk on, in steps of [`STEP_NS`], along the
//! [`Road`]. Who follows traffic drives by the intelligent driver model (Treiber, Hennecke, Helbing: Congested traffic
//! states in empirical observations and microscopic simulations, Phys. Rev. E 62, 2000) and sees everything; who does
//! not keeps to its script. Every step is remembered, so sensors may ask for any instant that was reached and is not
//! yet forgotten, in any order and from any thread.
//!
//! Promised: all that moves is a pure function of the scenario and of the accelerations that the ego vehicle was given.

use std::collections::VecDeque;
use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use catseye_calibration::rig::Vehicle;

use super::bodies::Look;
use super::population::{self, Behaviour, Mover};
use super::road::Road;
use super::scenario::{Action, ActorKind, Event, Light, Scenario, Trigger};
use super::scene::{Body, Scene};

/// Length of a step of the world.
pub const STEP_NS: i64 = 10_000_000;
const STEP_S: f64 = 0.01;
/// Bodies farther from the ego vehicle than this are left out of a scene.
const SCENE_RADIUS_M: f64 = 250.0;
/// How far ahead drivers look, and how far truth looks for the body ahead.
const LOOK_AHEAD_M: f64 = 150.0;
/// For how long drivers foresee who is about to come into their way.
const FORESIGHT_S: f64 = 2.0;
/// What drivers leave free beside them.
const SIDE_GAP_M: f64 = 0.2;
/// The driver model: acceleration, comfortable deceleration, time gap, standing gap, hardest braking.
const ACCELERATION_MPS2: f64 = 1.5;
const DECELERATION_MPS2: f64 = 2.5;
const TIME_GAP_S: f64 = 1.5;
const STANDING_GAP_M: f64 = 2.5;
const HARDEST_MPS2: f64 = 8.0;
/// Lateral acceleration that drivers accept in a curve.
const CURVE_MPS2: f64 = 2.5;
/// How fast anybody turns.
const TURN_RADPS: f64 = 4.0;

/// Who steers the ego vehicle's speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EgoControl {
    /// A driver who sees everything.
    Driver,
    /// This acceleration, from now on: that of a planner.
    Acceleration(f64),
}

/// How a body moves at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// x, y, yaw of its origin in the world.
    pub pose: [f64; 3],
    /// Velocity over ground, in the world.
    pub velocity_mps: [f64; 2],
    /// Forward speed.
    pub speed_mps: f64,
    /// Forward acceleration.
    pub acceleration_mps2: f64,
    /// Yaw rate, positive to the left.
    pub yaw_rate_radps: f64,
}

impl Motion {
    /// Between two steps everything changes evenly.
    fn between(from: &Motion, to: &Motion, share: f64) -> Motion {
        let mix = |from: f64, to: f64| from + (to - from) * share;
        let ([x0, y0, yaw0], [x1, y1, yaw1]) = (from.pose, to.pose);
        let ([vx0, vy0], [vx1, vy1]) = (from.velocity_mps, to.velocity_mps);
        Motion {
            pose: [mix(x0, x1), mix(y0, y1), mix(yaw0, yaw1)],
            velocity_mps: [mix(vx0, vx1), mix(vy0, vy1)],
            speed_mps: mix(from.speed_mps, to.speed_mps),
            acceleration_mps2: mix(from.acceleration_mps2, to.acceleration_mps2),
            yaw_rate_radps: mix(from.yaw_rate_radps, to.yaw_rate_radps),
        }
    }
}

/// Somebody on the road other than the ego vehicle.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Its number, from 1.
    pub id: u32,
    /// What it is.
    pub kind: ActorKind,
    /// Its shape and colours. Its origin is on the ground below its middle, x ahead.
    pub look: Arc<Look>,
}

/// A rectangle on the ground: middle, direction, half length, half width.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    middle_m: [f64; 2],
    yaw_rad: f64,
    half_m: [f64; 2],
}

impl Footprint {
    /// Whether two share any ground: no side of either has the other wholly beyond it (separating axes).
    fn overlaps(&self, other: &Footprint) -> bool {
        let axes = [self.axes(), other.axes()];
        let offset = [other.middle_m[0] - self.middle_m[0], other.middle_m[1] - self.middle_m[1]];
        let reach = |footprint: &Footprint, of: &[[f64; 2]; 2], axis: &[f64; 2]| {
            let along = |side: usize| (of[side][0] * axis[0] + of[side][1] * axis[1]).abs() * footprint.half_m[side];
            along(0) + along(1)
        };
        axes.iter().flatten().all(|axis| {
            let apart_m = (offset[0] * axis[0] + offset[1] * axis[1]).abs();
            apart_m <= reach(self, &axes[0], axis) + reach(other, &axes[1], axis)
        })
    }

    fn axes(&self) -> [[f64; 2]; 2] {
        let (sin, cos) = libm::sincos(self.yaw_rad);
        [[cos, sin], [-sin, cos]]
    }
}

/// All bodies of a scenario and how they have moved so far.
pub struct World {
    /// The road.
    pub road: Arc<Road>,
    /// The light.
    pub light: Light,
    /// Everybody but the ego vehicle.
    pub actors: Vec<Actor>,
    scenery: Vec<Body>,
    /// Middle of the ego lane, left of the reference line.
    ego_lane_m: f64,
    ego_half_m: [f64; 2],
    /// From the ego vehicle's origin to its middle.
    ego_middle_m: f64,
    /// The ego vehicle, then all actors.
    movers: Vec<Mover>,
    /// Motions of all movers, step by step; the first is that of step `first_step`.
    history: VecDeque<Box<[Motion]>>,
    first_step: i64,
}

impl World {
    /// The world at the start of a scenario. `vehicle` gives the ego vehicle's size.
    pub fn new(scenario: &Scenario, vehicle: &Vehicle) -> Self {
        let road = Arc::new(Road::new(&scenario.road));
        let lanes_m = road.own_lanes_m();
        let ego_lane_m = lanes_m.get(scenario.ego.lane).or(lanes_m.last()).copied().unwrap_or(0.0);
        let ego_middle_m = 0.5 * vehicle.length_m - vehicle.rear_overhang_m;
        let ego = population::ego(scenario, vehicle, ego_lane_m);
        let (actors, others) = population::everybody(scenario, &road, ego_lane_m, &ego);
        let movers: Vec<Mover> = std::iter::once(ego).chain(others).collect();
        let mut world = World {
            scenery: population::scenery(scenario, &road),
            light: scenario.light,
            actors,
            ego_lane_m,
            ego_half_m: [0.5 * vehicle.length_m, 0.5 * vehicle.width_m],
            ego_middle_m,
            movers,
            history: VecDeque::new(),
            first_step: 0,
            road,
        };
        let start = world.movers.iter().map(|mover| world.start(mover)).collect();
        world.history.push_back(start);
        world
    }

    /// Moves everything on to `until_ns` after the start, at least.
    pub fn advance(&mut self, until_ns: i64, control: EgoControl) {
        while self.reached_ns() < until_ns {
            self.step(control);
        }
    }

    /// The last instant that was reached.
    pub fn reached_ns(&self) -> i64 {
        (self.first_step + self.history.len() as i64 - 1) * STEP_NS
    }

    /// Forgets what was before an instant; nobody may ask for it any more.
    pub fn forget_before(&mut self, time_ns: i64) {
        while self.history.len() > 1 && (self.first_step + 1) * STEP_NS <= time_ns {
            self.history.pop_front();
            self.first_step += 1;
        }
    }

    /// The ego vehicle at an instant that `advance` has reached; its origin is on the ground below the rear axle.
    pub fn ego(&self, time_ns: i64) -> Motion {
        self.motion(0, time_ns)
    }

    /// An actor at such an instant.
    pub fn actor(&self, index: usize, time_ns: i64) -> Motion {
        self.motion(index + 1, time_ns)
    }

    /// Everything that rays can meet at such an instant, the ego vehicle left out.
    pub fn scene(&self, time_ns: i64) -> Scene {
        let [ego_x_m, ego_y_m, _] = self.ego(time_ns).pose;
        let is_near = |[x_m, y_m, _]: [f64; 3]| {
            let (dx_m, dy_m) = (x_m - ego_x_m, y_m - ego_y_m);
            dx_m * dx_m + dy_m * dy_m < SCENE_RADIUS_M * SCENE_RADIUS_M
        };
        let actors = self.actors.iter().enumerate().map(|(index, actor)| {
            let motion = self.actor(index, time_ns);
            Body {
                id: actor.id,
                look: actor.look.clone(),
                pose: motion.pose,
                velocity_mps: motion.velocity_mps,
                yaw_rate_radps: motion.yaw_rate_radps,
            }
        });
        let bodies = actors.chain(self.scenery.iter().cloned()).filter(|body| is_near(body.pose)).collect();
        Scene { time_ns, bodies, road: Some(self.road.clone()), light: self.light }
    }

    /// Whether the ego vehicle touches somebody at such an instant.
    pub fn has_collided(&self, time_ns: i64) -> bool {
        let [x_m, y_m, yaw_rad] = self.ego(time_ns).pose;
        let (sin, cos) = libm::sincos(yaw_rad);
        let middle_m = [x_m + self.ego_middle_m * cos, y_m + self.ego_middle_m * sin];
        let ego = Footprint { middle_m, yaw_rad, half_m: self.ego_half_m };
        (0..self.actors.len()).any(|index| {
            let [x_m, y_m, yaw_rad] = self.actor(index, time_ns).pose;
            let half_m = self.movers.get(index + 1).map_or([0.0; 2], |mover| mover.half_m);
            ego.overlaps(&Footprint { middle_m: [x_m, y_m], yaw_rad, half_m })
        })
    }

    /// The next body ahead that reaches into the ego vehicle's way along its lane: number, gap bumper to bumper, closing
    /// speed. None within 150 m.
    pub fn lead(&self, time_ns: i64) -> Option<(u32, f64, f64)> {
        let ego = self.ego(time_ns);
        let [ego_half_length_m, ego_half_width_m] = self.ego_half_m;
        let place = self.road.place(ego.pose[0], ego.pose[1]);
        let mut nearest: Option<(u32, f64, f64)> = None;
        for (index, actor) in self.actors.iter().enumerate() {
            let Some(mover) = self.movers.get(index + 1) else { continue };
            let motion = self.actor(index, time_ns);
            let at = self.road.place(motion.pose[0], motion.pose[1]);
            let turn_rad = motion.pose[2] - at.heading_rad;
            let [half_along_m, half_across_m] = turned_half_m(mover.half_m, turn_rad);
            let ahead_m = at.s_m - (place.s_m + self.ego_middle_m);
            let gap_m = ahead_m - half_along_m - ego_half_length_m;
            let is_beside = (at.d_m - place.d_m).abs() > half_across_m + ego_half_width_m;
            if is_beside || ahead_m <= 0.0 || gap_m > LOOK_AHEAD_M {
                continue;
            }
            if nearest.is_none_or(|(_, least_m, _)| gap_m < least_m) {
                let (sin, cos) = libm::sincos(at.heading_rad);
                let away_mps = motion.velocity_mps[0] * cos + motion.velocity_mps[1] * sin;
                nearest = Some((actor.id, gap_m, ego.speed_mps - away_mps));
            }
        }
        nearest
    }

    /// A mover at an instant; at the nearest that is remembered when it is not.
    fn motion(&self, mover: usize, time_ns: i64) -> Motion {
        let past_ns = (time_ns - self.first_step * STEP_NS).max(0);
        let last = self.history.len().saturating_sub(1);
        let step = ((past_ns / STEP_NS) as usize).min(last);
        let share = (past_ns - step as i64 * STEP_NS) as f64 / STEP_NS as f64;
        let at = |step: usize| self.history.get(step).and_then(|motions| motions.get(mover));
        match (at(step), at(step + 1)) {
            (Some(from), Some(to)) => Motion::between(from, to, share),
            (Some(only), None) => *only,
            _ => Motion::default(),
        }
    }

    fn start(&self, mover: &Mover) -> Motion {
        let [x_m, y_m, heading_rad] = self.road.point(mover.s_m, mover.d_m);
        let yaw_rad = heading_rad + mover.yaw_from_road_rad();
        let (sin, cos) = libm::sincos(yaw_rad);
        Motion {
            pose: [x_m, y_m, yaw_rad],
            velocity_mps: [mover.speed_mps * cos, mover.speed_mps * sin],
            speed_mps: mover.speed_mps,
            ..Motion::default()
        }
    }

    /// Everybody decides by what was, then everybody moves.
    fn step(&mut self, control: EgoControl) {
        let time_s = self.reached_ns() as f64 * 1e-9;
        let Some(ego) = self.movers.first() else { return };
        let (ego_front_m, ego_speed_mps) = (ego.s_m + self.ego_middle_m + self.ego_half_m[0], ego.speed_mps);
        for mover in self.movers.iter_mut().skip(1) {
            begin_events(mover, time_s, ego_front_m, ego_speed_mps, self.ego_lane_m);
        }
        let mut movers = self.movers.clone();
        for (index, mover) in movers.iter_mut().enumerate() {
            mover.acceleration_mps2 = match (index, control) {
                (0, EgoControl::Acceleration(wanted)) if wanted.is_finite() => wanted.clamp(-9.0, 4.0),
                _ => self.decide(index),
            };
        }
        let Some(before) = self.history.back() else { return };
        let mut after = Vec::with_capacity(movers.len());
        for (mover, motion) in movers.iter_mut().zip(before) {
            after.push(self.moved(mover, motion, time_s));
        }
        self.movers = movers;
        self.history.push_back(after.into());
    }

    /// The acceleration that a mover wants.
    fn decide(&self, index: usize) -> f64 {
        let Some(own) = self.movers.get(index) else { return 0.0 };
        if own.is_crossing() {
            return 0.0;
        }
        let curve_mps = (CURVE_MPS2 / self.curvature_per_m(own).abs().max(1e-6)).sqrt();
        if !own.follows {
            let change_mps = own.wanted_mps - own.speed_mps;
            return (change_mps / STEP_S).clamp(-own.pace_mps2, own.pace_mps2);
        }
        let wanted_mps = own.wanted_mps.min(curve_mps);
        if wanted_mps < 0.1 {
            return -DECELERATION_MPS2;
        }
        let ratio = own.speed_mps / wanted_mps;
        let free = 1.0 - (ratio * ratio) * (ratio * ratio);
        let mut acceleration = ACCELERATION_MPS2 * free;
        for (other_index, other) in self.movers.iter().enumerate() {
            if other_index == index {
                continue;
            }
            let Some((gap_m, away_mps)) = in_the_way(own, self.middle_m(index), other, self.middle_m(other_index))
            else {
                continue;
            };
            let closing_mps = own.speed_mps - away_mps;
            let braking = closing_mps / (2.0 * (ACCELERATION_MPS2 * DECELERATION_MPS2).sqrt());
            let wanted_m = STANDING_GAP_M + (own.speed_mps * (TIME_GAP_S + braking)).max(0.0);
            let tight = wanted_m / gap_m.max(0.1);
            acceleration = acceleration.min(ACCELERATION_MPS2 * (free - tight * tight));
        }
        acceleration.clamp(-HARDEST_MPS2, ACCELERATION_MPS2)
    }

    /// From a mover's origin to its middle.
    fn middle_m(&self, index: usize) -> f64 {
        if index == 0 { self.ego_middle_m } else { 0.0 }
    }

    fn curvature_per_m(&self, mover: &Mover) -> f64 {
        let [x_m, y_m, _] = self.road.point(mover.s_m, mover.d_m);
        let curvature_per_m = self.road.place(x_m, y_m).curvature_per_m;
        curvature_per_m / (1.0 - curvature_per_m * mover.d_m).max(0.1)
    }

    /// One step on.
    fn moved(&self, mover: &mut Mover, before: &Motion, time_s: f64) -> Motion {
        let speed_mps = (mover.speed_mps + mover.acceleration_mps2 * STEP_S).max(0.0);
        let mean_mps = 0.5 * (mover.speed_mps + speed_mps);
        let acceleration_mps2 = (speed_mps - mover.speed_mps) / STEP_S;
        mover.speed_mps = speed_mps;
        let [x_m, y_m, _] = self.road.point(mover.s_m, mover.d_m);
        let curvature_per_m = self.road.place(x_m, y_m).curvature_per_m;
        let shorter = (1.0 - curvature_per_m * mover.d_m).max(0.1);
        let before_d_m = mover.d_m;
        let along_mps = if mover.is_crossing() { 0.0 } else { mover.direction * mean_mps };
        mover.s_m += along_mps * STEP_S / shorter;
        mover.d_m = mover.lateral_m(time_s + STEP_S, STEP_S);
        let left_mps = (mover.d_m - before_d_m) / STEP_S;
        let [x_m, y_m, heading_rad] = self.road.point(mover.s_m, mover.d_m);
        let slip_rad = mover.slip_rad(left_mps);
        let wanted_rad = heading_rad + slip_rad;
        let yaw_rad =
            before.pose[2] + nearest_turn(wanted_rad - before.pose[2]).clamp(-TURN_RADPS * STEP_S, TURN_RADPS * STEP_S);
        let (sin, cos) = libm::sincos(heading_rad);
        let along_now_mps = if mover.is_crossing() { 0.0 } else { mover.direction * speed_mps };
        Motion {
            pose: [x_m, y_m, yaw_rad],
            velocity_mps: [along_now_mps * cos - left_mps * sin, along_now_mps * sin + left_mps * cos],
            speed_mps: if mover.is_crossing() { left_mps.abs() } else { speed_mps },
            acceleration_mps2,
            yaw_rate_radps: (yaw_rad - before.pose[2]) / STEP_S,
        }
    }
}

/// Half the length along the road and half the width across it of a rectangle that is turned against it.
fn turned_half_m([half_length_m, half_width_m]: [f64; 2], turn_rad: f64) -> [f64; 2] {
    let (sin, cos) = libm::sincos(turn_rad);
    let (sin, cos) = (sin.abs(), cos.abs());
    [half_length_m * cos + half_width_m * sin, half_length_m * sin + half_width_m * cos]
}

/// The same angle, from half a turn to the right to half a turn to the left.
fn nearest_turn(angle_rad: f64) -> f64 {
    let turns = (angle_rad / std::f64::consts::TAU).round();
    angle_rad - turns * std::f64::consts::TAU
}

/// The gap to somebody who is, or will soon be, in a driver's way, and the speed at which they move on. `middle_m` is from
/// the origin of each to its middle.
fn in_the_way(own: &Mover, own_middle_m: f64, other: &Mover, other_middle_m: f64) -> Option<(f64, f64)> {
    let ahead_m = own.direction * (other.s_m + other_middle_m - own.s_m - own_middle_m);
    if ahead_m <= 0.0 || ahead_m > LOOK_AHEAD_M {
        return None;
    }
    let turn_rad = if other.is_crossing() { FRAC_PI_2 } else { 0.0 };
    let [half_along_m, half_across_m] = turned_half_m(other.half_m, turn_rad);
    let [low_m, high_m] = other.lateral_span_m(FORESIGHT_S);
    let [own_low_m, own_high_m] = own.lateral_span_m(FORESIGHT_S);
    let reach_m = half_across_m + own.half_m[1] + SIDE_GAP_M;
    if low_m > own_high_m + reach_m || high_m < own_low_m - reach_m {
        return None;
    }
    let away_mps = if other.is_crossing() { 0.0 } else { own.direction * other.direction * other.speed_mps };
    Some((ahead_m - half_along_m - own.half_m[0], away_mps))
}

/// Begins what it is time for.
fn begin_events(mover: &mut Mover, time_s: f64, ego_front_m: f64, ego_speed_mps: f64, ego_lane_m: f64) {
    let arrives_in_s = (mover.s_m - ego_front_m) / ego_speed_mps.max(0.1);
    let is_due = |event: &Event| match event.trigger {
        Trigger::Time => time_s >= event.at_s,
        Trigger::EgoArrivesIn => arrives_in_s <= event.at_s,
    };
    let due: Vec<Event> = mover.events.iter().filter(|event| is_due(event)).copied().collect();
    mover.events.retain(|event| !is_due(event));
    for event in due {
        match event.action {
            Action::Speed { speed_mps, acceleration_mps2 } => {
                mover.wanted_mps = speed_mps;
                mover.pace_mps2 = acceleration_mps2;
            }
            Action::Shift { left_m, within_s } => {
                let to_m = ego_lane_m + left_m;
                mover.behaviour = Behaviour::Shift { from_m: mover.d_m, to_m, from_s: time_s, within_s };
            }
            Action::Cross { left_m, speed_mps } => {
                mover.behaviour = Behaviour::Cross { to_m: ego_lane_m + left_m, speed_mps };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        let head = "duration_s = 10\n[road]\nown_lanes = 2\noncoming_lanes = 1\n[[road.segment]]\nlength_m = 600\n";
        let text = format!("{head}curvature_per_m = 0\n[ego]\nspeed_mps = 15\ncruise_mps = 15\n{text}");
        Scenario::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
    }

    fn world(text: &str) -> World {
        World::new(&scenario(text), &Vehicle::default())
    }

    #[test]
    fn an_empty_road_is_driven_at_the_wanted_speed() {
        let mut world = world("");
        world.advance(4_000_000_000, EgoControl::Driver);
        let ego = world.ego(4_000_000_000);
        assert!((ego.pose[0] - 80.0).abs() < 1e-6 && (ego.pose[1] + 5.25).abs() < 1e-9, "{ego:?}");
        assert!(world.lead(0).is_none() && !world.has_collided(0));
    }

    #[test]
    fn a_planner_accelerates_the_ego_vehicle() {
        let mut world = world("");
        world.advance(1_000_000_000, EgoControl::Acceleration(-2.0));
        world.advance(2_000_000_000, EgoControl::Acceleration(0.0));
        let (middle, end) = (world.ego(1_000_000_000), world.ego(2_000_000_000));
        assert!((middle.speed_mps - 13.0).abs() < 1e-9 && (end.speed_mps - 13.0).abs() < 1e-9);
        assert!((middle.pose[0] - 34.0).abs() < 1e-6 && (end.pose[0] - 47.0).abs() < 1e-6);
    }

    #[test]
    fn a_driver_stops_behind_what_stands_and_a_blind_one_hits_it() {
        let obstacle = "[[actor]]\nkind = \"truck\"\nahead_m = 90\nparked = true";
        let mut seeing = world(obstacle);
        seeing.advance(12_000_000_000, EgoControl::Driver);
        let (_, gap_m, closing_mps) = seeing.lead(12_000_000_000).unwrap();
        assert!(gap_m > 1.0 && gap_m < 8.0 && closing_mps.abs() < 0.5, "{gap_m} {closing_mps}");
        assert!((0..1200).all(|step| !seeing.has_collided(step * STEP_NS)));
        let mut blind = world(obstacle);
        blind.advance(8_000_000_000, EgoControl::Acceleration(0.0));
        assert!((0..800).any(|step| blind.has_collided(step * STEP_NS)));
    }

    #[test]
    fn a_script_is_kept_to_the_step() {
        let mut world = world(
            "[[actor]]\nkind = \"car\"\nahead_m = 60\nleft_m = 3.5\nspeed_mps = 10\n\
             [[actor.event]]\nat_s = 1\nspeed = { speed_mps = 6, acceleration_mps2 = 4 }\n\
             [[actor.event]]\nat_s = 2\nshift = { left_m = 0, within_s = 2 }\n\
             [[actor]]\nkind = \"pedestrian\"\nahead_m = 100\nleft_m = -4\n\
             [[actor.event]]\nat_s = 1\ncross = { left_m = 6, speed_mps = 2 }",
        );
        world.advance(9_000_000_000, EgoControl::Acceleration(-1.0));
        assert!((world.actor(0, 2_000_000_000).speed_mps - 6.0).abs() < 1e-9);
        let shifting = world.actor(0, 3_000_000_000);
        assert!(shifting.pose[1] > -5.2 && shifting.pose[1] < -1.8 && shifting.pose[2] < 0.0, "{shifting:?}");
        assert!((world.actor(0, 4_500_000_000).pose[1] + 5.25).abs() < 1e-9);
        let walking = world.actor(1, 3_000_000_000);
        assert!((walking.pose[1] - (-5.25 - 4.0 + 4.0)).abs() < 0.03 && (walking.speed_mps - 2.0).abs() < 1e-6);
        assert!((walking.pose[2] - FRAC_PI_2).abs() < 1e-6);
        let there = world.actor(1, 8_000_000_000);
        assert!((there.pose[1] - 0.75).abs() < 1e-9 && there.speed_mps == 0.0);
    }

    #[test]
    fn the_past_does_not_change_and_can_be_forgotten() {
        let scenario = Scenario::random(5);
        let mut world = World::new(&scenario, &Vehicle::default());
        world.advance(1_000_000_000, EgoControl::Driver);
        let then: Vec<Motion> = (0..world.actors.len()).map(|index| world.actor(index, 505_000_000)).collect();
        world.advance(3_000_000_000, EgoControl::Driver);
        world.forget_before(500_000_000);
        assert!(then.iter().enumerate().all(|(index, motion)| world.actor(index, 505_000_000) == *motion));
    }

    #[test]
    fn in_random_worlds_the_driver_seldom_collides() {
        let mut collisions = 0;
        for seed in 0..20 {
            let scenario = Scenario::random(seed);
            let mut world = World::new(&scenario, &Vehicle::default());
            world.advance(10_000_000_000, EgoControl::Driver);
            collisions += u32::from((0..100).any(|tenth| world.has_collided(tenth * 100_000_000)));
        }
        assert!(collisions <= 4, "{collisions} of 20");
    }
}
