//! Who is on the road at the start, and what stands beside it.
//!
//! A [`Scenario`] and its [`Road`] come in; out go the movers that the [`world`](super::world) moves, and the scenery that
//! nobody moves. Hand-placed actors come first and keep their numbers; chance places the traffic around them, nobody in
//! anybody else.

use std::f64::consts::{FRAC_PI_2, PI};
use std::sync::Arc;

use catseye_calibration::rig::Vehicle;

use super::bodies::{self, Look};
use super::random::Random;
use super::road::Road;
use super::scenario::{ActorKind, ActorSpec, Event, Light, Scenario};
use super::scene::Body;
use super::world::Actor;

/// How far the scenery goes on before and behind the road.
const SCENERY_MARGIN_M: f64 = 150.0;
/// Between vehicles of a lane at the start, bumper to bumper.
const SPAWN_GAP_M: f64 = 12.0;
/// Around people and cyclists at the start.
const PERSON_GAP_M: f64 = 0.8;
/// From the edge of the carriageway to the far side of the pavement.
const PAVEMENT_END_M: f64 = 3.0;
/// Between street lamps of one side.
const LAMP_SPACING_M: f64 = 50.0;
/// Between signs, about.
const SIGN_SPACING_M: f64 = 90.0;

/// How somebody moves across the road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Not at all.
    Keep,
    /// From one place to another within a time.
    Shift {
        /// Where it was.
        from_m: f64,
        /// Where it will be.
        to_m: f64,
        /// When it began.
        from_s: f64,
        /// How long it takes.
        within_s: f64,
    },
    /// Straight across the road.
    Cross {
        /// Where to.
        to_m: f64,
        /// How fast.
        speed_mps: f64,
    },
}

/// Somebody who moves along the road: its state and what it is up to.
#[derive(Clone, Debug)]
pub struct Mover {
    /// What it is.
    pub kind: ActorKind,
    /// Half its length and half its width.
    pub half_m: [f64; 2],
    /// Its origin along the road.
    pub s_m: f64,
    /// Its origin to the left of the reference line.
    pub d_m: f64,
    /// 1 along the road, -1 the other way.
    pub direction: f64,
    /// Its speed.
    pub speed_mps: f64,
    /// What it accelerates with.
    pub acceleration_mps2: f64,
    /// The speed it wants.
    pub wanted_mps: f64,
    /// How fast it changes its speed, without traffic.
    pub pace_mps2: f64,
    /// Whether it minds who is ahead.
    pub follows: bool,
    /// How it moves across the road.
    pub behaviour: Behaviour,
    /// What it will do.
    pub events: Vec<Event>,
}

impl Mover {
    /// Whether it goes across the road and not along it.
    pub fn is_crossing(&self) -> bool {
        matches!(self.behaviour, Behaviour::Cross { .. })
    }

    /// Where it is across the road at a time, a step after where it is now.
    pub fn lateral_m(&self, time_s: f64, step_s: f64) -> f64 {
        match self.behaviour {
            Behaviour::Keep => self.d_m,
            Behaviour::Shift { from_m, to_m, from_s, within_s } => {
                let share = ((time_s - from_s) / within_s).clamp(0.0, 1.0);
                from_m + (to_m - from_m) * 0.5 * (1.0 - libm::cos(PI * share))
            }
            Behaviour::Cross { to_m, speed_mps } => {
                let step_m = speed_mps * step_s;
                self.d_m + (to_m - self.d_m).clamp(-step_m, step_m)
            }
        }
    }

    /// The least and the greatest place across the road that it will have within a time.
    pub fn lateral_span_m(&self, within_s: f64) -> [f64; 2] {
        let then_m = match self.behaviour {
            Behaviour::Keep => self.d_m,
            Behaviour::Shift { to_m, .. } => to_m,
            Behaviour::Cross { to_m, speed_mps } => {
                let far_m = speed_mps * within_s;
                self.d_m + (to_m - self.d_m).clamp(-far_m, far_m)
            }
        };
        [self.d_m.min(then_m), self.d_m.max(then_m)]
    }

    /// Its direction against the road's, with nothing to shift or cross.
    pub fn yaw_from_road_rad(&self) -> f64 {
        if self.direction < 0.0 { PI } else { 0.0 }
    }

    /// Its direction against the road's while it moves to the left with a speed.
    pub fn slip_rad(&self, left_mps: f64) -> f64 {
        const MOST_RAD: f64 = 0.6;
        let along_rad = self.yaw_from_road_rad();
        match self.behaviour {
            Behaviour::Cross { .. } if left_mps > 0.0 => FRAC_PI_2,
            Behaviour::Cross { .. } if left_mps < 0.0 => -FRAC_PI_2,
            // who has arrived looks on in the direction that it came in
            Behaviour::Cross { to_m, .. } => {
                if to_m > 0.0 {
                    FRAC_PI_2
                } else {
                    -FRAC_PI_2
                }
            }
            Behaviour::Keep | Behaviour::Shift { .. } if self.speed_mps < 0.1 => along_rad,
            Behaviour::Keep | Behaviour::Shift { .. } => {
                let slip_rad = libm::atan2(left_mps, self.speed_mps).clamp(-MOST_RAD, MOST_RAD);
                along_rad + self.direction * slip_rad
            }
        }
    }

    /// Whether it stands, or starts, too near to another.
    fn is_near(&self, other: &Mover) -> bool {
        let is_vehicle = |kind: ActorKind| matches!(kind, ActorKind::Car | ActorKind::Truck);
        let both_drive = is_vehicle(self.kind) && is_vehicle(other.kind);
        let gap_m = if both_drive { SPAWN_GAP_M } else { PERSON_GAP_M };
        let (along_m, across_m) = ((self.s_m - other.s_m).abs(), (self.d_m - other.d_m).abs());
        along_m < self.half_m[0] + other.half_m[0] + gap_m && across_m < self.half_m[1] + other.half_m[1] + 0.3
    }
}

/// The ego vehicle at the start.
pub fn ego(scenario: &Scenario, vehicle: &Vehicle, lane_m: f64) -> Mover {
    Mover {
        kind: ActorKind::Car,
        half_m: [0.5 * vehicle.length_m, 0.5 * vehicle.width_m],
        s_m: scenario.ego.s_m,
        d_m: lane_m,
        direction: 1.0,
        speed_mps: scenario.ego.speed_mps,
        acceleration_mps2: 0.0,
        wanted_mps: scenario.ego.cruise_mps,
        pace_mps2: 0.0,
        follows: true,
        behaviour: Behaviour::Keep,
        events: Vec::new(),
    }
}

/// Everybody else at the start.
pub fn everybody(scenario: &Scenario, road: &Road, ego_lane_m: f64, ego: &Mover) -> (Vec<Actor>, Vec<Mover>) {
    let mut crowd = Crowd {
        looks: Random::new(scenario.seed).stream("looks"),
        dice: Random::new(scenario.seed).stream("traffic"),
        rolls: 0,
        actors: Vec::new(),
        movers: vec![ego.clone()],
    };
    for spec in &scenario.actors {
        crowd.add_by_hand(spec, ego, ego_lane_m);
    }
    crowd.add_traffic(scenario, road, ego);
    crowd.movers.remove(0);
    (crowd.actors, crowd.movers)
}

struct Crowd {
    looks: Random,
    dice: Random,
    rolls: u64,
    actors: Vec<Actor>,
    /// The ego vehicle first.
    movers: Vec<Mover>,
}

impl Crowd {
    fn roll(&mut self, low: f64, high: f64) -> f64 {
        self.rolls += 1;
        self.dice.between(self.rolls, low, high)
    }

    /// So many on average.
    fn count(&mut self, mean: f64) -> usize {
        (mean + self.roll(0.0, 1.0)).floor().clamp(0.0, 500.0) as usize
    }

    fn look(&self, kind: ActorKind) -> Look {
        bodies::actor(kind, self.looks.at(self.actors.len() as u64))
    }

    fn push(&mut self, look: Look, mover: Mover) {
        let id = self.actors.len() as u32 + 1;
        self.actors.push(Actor { id, kind: mover.kind, look: Arc::new(look) });
        self.movers.push(mover);
    }

    fn add_by_hand(&mut self, spec: &ActorSpec, ego: &Mover, ego_lane_m: f64) {
        let look = self.look(spec.kind);
        let mover = Mover {
            half_m: half_m(&look),
            kind: spec.kind,
            s_m: ego.s_m + spec.ahead_m,
            d_m: ego_lane_m + spec.left_m,
            direction: if spec.oncoming { -1.0 } else { 1.0 },
            speed_mps: if spec.parked { 0.0 } else { spec.speed_mps },
            acceleration_mps2: 0.0,
            wanted_mps: if spec.parked { 0.0 } else { spec.speed_mps },
            pace_mps2: 3.0,
            follows: spec.follows_traffic && !spec.parked,
            behaviour: Behaviour::Keep,
            events: if spec.parked { Vec::new() } else { spec.events.clone() },
        };
        self.push(look, mover);
    }

    fn add_traffic(&mut self, scenario: &Scenario, road: &Road, ego: &Mover) {
        let traffic = &scenario.traffic;
        let way_m = scenario.duration_s * scenario.ego.speed_mps.max(scenario.ego.cruise_mps);
        let from_m = (ego.s_m - 40.0).max(0.0);
        let to_m = (ego.s_m + way_m + 150.0).min(road.length_m());
        let hundreds = (to_m - from_m).max(0.0) / 100.0;
        let [right_m, left_m] = road.edges_m();
        let span_m = [from_m, to_m];
        for _ in 0..self.count(traffic.vehicles * hundreds) {
            let lanes = road.own_lanes_m().len() + road.oncoming_lanes_m().len();
            let lane = self.roll(0.0, lanes as f64) as usize;
            let own = road.own_lanes_m().get(lane).map(|d_m| (*d_m, 1.0));
            let oncoming = || road.oncoming_lanes_m().get(lane - road.own_lanes_m().len()).map(|d_m| (*d_m, -1.0));
            let Some((d_m, direction)) = own.or_else(oncoming) else { continue };
            let kind = if self.roll(0.0, 1.0) < 0.2 { ActorKind::Truck } else { ActorKind::Car };
            let speed_mps = scenario.ego.cruise_mps * self.roll(0.65, 1.05);
            self.add(kind, span_m, d_m, direction, speed_mps, true);
        }
        for (edge_m, outwards, direction) in [(right_m, -1.0, 1.0), (left_m, 1.0, -1.0)] {
            // nobody comes the other way on a one-way road
            let direction = if road.oncoming_lanes_m().is_empty() { 1.0 } else { direction };
            for _ in 0..self.count(traffic.parked * hundreds) {
                let kind = if self.roll(0.0, 1.0) < 0.12 { ActorKind::Truck } else { ActorKind::Car };
                let beside_m = self.roll(1.0, 1.3);
                self.add(kind, span_m, edge_m + outwards * beside_m, direction, 0.0, false);
            }
            let inner_m = if traffic.parked > 0.0 { 2.5 } else { 0.8 };
            for _ in 0..self.count(traffic.pedestrians * hundreds) {
                let beside_m = self.roll(inner_m, PAVEMENT_END_M + 0.2);
                let direction = if self.roll(0.0, 1.0) < 0.5 { 1.0 } else { -1.0 };
                let speed_mps = if self.roll(0.0, 1.0) < 0.25 { 0.0 } else { self.roll(0.8, 1.9) };
                self.add(ActorKind::Pedestrian, span_m, edge_m + outwards * beside_m, direction, speed_mps, false);
            }
            for _ in 0..self.count(traffic.cyclists * hundreds) {
                let beside_m = self.roll(0.3, 0.6);
                let speed_mps = self.roll(3.0, 7.0);
                self.add(ActorKind::Cyclist, span_m, edge_m - outwards * beside_m, direction, speed_mps, false);
            }
        }
    }

    /// Places somebody at a free place of a span; after a few tries, nobody.
    fn add(&mut self, kind: ActorKind, span_m: [f64; 2], d_m: f64, direction: f64, speed_mps: f64, follows: bool) {
        let look = self.look(kind);
        let mut mover = Mover {
            kind,
            half_m: half_m(&look),
            s_m: 0.0,
            d_m,
            direction,
            speed_mps,
            acceleration_mps2: 0.0,
            wanted_mps: speed_mps,
            pace_mps2: 3.0,
            follows,
            behaviour: Behaviour::Keep,
            events: Vec::new(),
        };
        for _ in 0..6 {
            mover.s_m = self.roll(span_m[0], span_m[1]);
            if !self.movers.iter().any(|other| mover.is_near(other)) {
                self.push(look, mover);
                return;
            }
        }
    }
}

fn half_m(look: &Look) -> [f64; 2] {
    [0.5 * (look.max_m[0] - look.min_m[0]), 0.5 * (look.max_m[1] - look.min_m[1])]
}

/// What stands beside the road: buildings, trees, street lamps, signs.
pub fn scenery(scenario: &Scenario, road: &Road) -> Vec<Body> {
    let spec = &scenario.road;
    let random = Random::new(spec.seed).stream("scenery");
    let mut bodies = Vec::new();
    let [right_m, left_m] = road.edges_m();
    for (side, edge_m, outwards) in [(0_u64, right_m, -1.0), (1, left_m, 1.0)] {
        let random = random.at(side);
        let mut plot = Plot { road, edge_m, outwards, bodies: &mut bodies };
        plot.buildings(spec.buildings, random.stream("buildings"));
        plot.trees(spec.trees, spec.buildings > 0.0, random.stream("trees"));
        if spec.pavements {
            plot.lamps(side, scenario.light != Light::Day);
        }
        if side == 0 {
            plot.signs(random.stream("signs"));
        }
    }
    bodies
}

/// One side of the road.
struct Plot<'a> {
    road: &'a Road,
    edge_m: f64,
    /// 1 when the side is left of the road, -1 when it is right.
    outwards: f64,
    bodies: &'a mut Vec<Body>,
}

impl Plot<'_> {
    /// Distances along the road, so many per 100 m, each moved a little by chance.
    fn slots(&self, per_100_m: f64, random: Random) -> impl Iterator<Item = (u64, f64)> + use<> {
        let spacing_m = 100.0 / per_100_m.max(1e-3);
        let first_m = -SCENERY_MARGIN_M;
        let count = ((self.road.length_m() + 2.0 * SCENERY_MARGIN_M) / spacing_m).clamp(0.0, 20_000.0) as u64;
        let count = if per_100_m > 0.0 { count } else { 0 };
        (0..count).map(move |slot| (slot, first_m + spacing_m * (slot as f64 + 0.5 + random.between(slot, -0.2, 0.2))))
    }

    fn buildings(&mut self, per_100_m: f64, random: Random) {
        let most_m = 100.0 / per_100_m.max(1e-3) * 0.6;
        for (slot, s_m) in self.slots(per_100_m, random) {
            let chance = random.at(slot);
            let length_m = chance.between(0, 8.0, 25.0).min(most_m).max(3.0);
            let depth_m = chance.between(1, 8.0, 14.0);
            let height_m = chance.between(2, 4.0, 18.0);
            let out_m = PAVEMENT_END_M + chance.between(3, 2.0, 9.0) + 0.5 * depth_m;
            let reach_m = 0.5 * (length_m * length_m + depth_m * depth_m).sqrt();
            let look = bodies::building(length_m, depth_m, height_m, chance);
            self.put(look, s_m, out_m, 0.0, reach_m);
        }
    }

    fn trees(&mut self, per_100_m: f64, has_buildings: bool, random: Random) {
        let farthest_m = if has_buildings { 4.0 } else { 14.0 };
        for (slot, s_m) in self.slots(per_100_m, random) {
            let chance = random.at(slot);
            let out_m = PAVEMENT_END_M + chance.between(9, 0.4, farthest_m - PAVEMENT_END_M + 0.5);
            self.put(bodies::tree(chance), s_m, out_m, 0.0, 0.4);
        }
    }

    fn lamps(&mut self, side: u64, is_lit: bool) {
        let count = ((self.road.length_m() + SCENERY_MARGIN_M) / LAMP_SPACING_M).clamp(0.0, 20_000.0) as u64;
        for number in 0..count {
            let s_m = LAMP_SPACING_M * (number as f64 + 0.5 * side as f64);
            // the arm reaches over the road
            self.put(bodies::lamp(is_lit), s_m, 0.75, -self.outwards * FRAC_PI_2, 0.1);
        }
    }

    fn signs(&mut self, random: Random) {
        for (slot, s_m) in self.slots(100.0 / SIGN_SPACING_M, random) {
            self.put(bodies::sign(random.at(slot)), s_m, 0.9, 0.0, 0.5);
        }
    }

    /// Puts a body beside the road, unless it would reach onto a road there.
    fn put(&mut self, look: Look, s_m: f64, out_m: f64, turn_rad: f64, reach_m: f64) {
        let d_m = self.edge_m + self.outwards * out_m;
        let [x_m, y_m, heading_rad] = self.road.point(s_m, d_m);
        let place = self.road.place(x_m, y_m);
        let is_elsewhere = (place.d_m - d_m).abs() > 0.5;
        let is_at_junction = self
            .road
            .junctions_m()
            .iter()
            .any(|junction_m| (s_m - junction_m).abs() < self.road.lane_width_m() + reach_m + 4.0);
        if is_elsewhere || is_at_junction {
            return;
        }
        self.bodies.push(Body {
            id: 0,
            look: Arc::new(look),
            pose: [x_m, y_m, heading_rad + turn_rad],
            velocity_mps: [0.0; 2],
            yaw_rate_radps: 0.0,
        });
    }
}
