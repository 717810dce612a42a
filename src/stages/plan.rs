//! Plan: a stub that shows what a planner gets and gives. It follows the lead, keeps the lane, brakes, and says why.
//!
//! Car following is the intelligent driver model (Treiber, Hennecke, Helbing: Congested traffic states in empirical
//! observations and microscopic simulations, Phys. Rev. E 62, 2000). It is for tests and for a first look at a drive; it
//! does not drive a car. A planner of one's own is a [`Planner`].

use catseye_calibration::rig::{self, Rig};

use super::Tick;
use super::fuse::filter::time_to_collision;
use crate::messages::{Object, PATH_POINTS, Plan, PlanReason, TrackState, WorldModel};
use crate::runtime::graph::{Fields, NO_GROUP, Stage, StageError};

/// Distance between the points of a path.
pub const PATH_STEP_M: f32 = 4.0;

/// Turns world models into plans. Pure: the same world model gives the same plan.
pub trait Planner: Send {
    /// The name in logs.
    fn name(&self) -> &'static str {
        "plan"
    }
    /// Overwrites `plan` with the answer to `world`.
    fn plan(&mut self, world: &WorldModel, plan: &mut Plan);
}

/// The stage around a planner.
pub struct PlanStage {
    planner: Box<dyn Planner>,
}

impl PlanStage {
    /// Around `planner`.
    pub fn new(planner: Box<dyn Planner>) -> Self {
        PlanStage { planner }
    }
}

impl Stage<Tick> for PlanStage {
    fn name(&self) -> &'static str {
        self.planner.name()
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        self.planner.plan(&tick.world, &mut tick.plan);
        tick.plan.tick = tick.id;
        tick.plan.reference_ns = tick.reference_ns;
        Ok(())
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        fields.add_record(NO_GROUP, &tick.plan);
    }
}

/// The stub.
pub struct FollowPlanner {
    settings: rig::Planner,
    front_m: f32,
    half_width_m: f32,
}

impl FollowPlanner {
    /// With the rig's settings.
    pub fn new(rig: &Rig) -> Self {
        FollowPlanner {
            settings: rig.planner,
            front_m: (rig.vehicle.length_m - rig.vehicle.rear_overhang_m) as f32,
            half_width_m: (rig.vehicle.width_m / 2.0) as f32,
        }
    }

    /// The nearest believed object that reaches into the path.
    fn lead<'w>(&self, world: &'w WorldModel, path: &Path) -> Option<&'w Object> {
        let in_path = |object: &&Object| {
            let [x, y] = object.position_m.map(|value| value as f32);
            let reach = self.half_width_m + object.extent_m[1] / 2.0;
            object.state != TrackState::Tentative && x > self.front_m && (y - path.y_at(x)).abs() < reach
        };
        let nearer = |a: &&Object, b: &&Object| a.position_m[0].total_cmp(&b.position_m[0]).then(a.id.cmp(&b.id));
        world.objects.iter().filter(in_path).min_by(nearer)
    }
}

/// Where the vehicle is about to go.
enum Path {
    /// Midway between two markings, as far as both were seen, and straight on behind that: a cubic means nothing there.
    Between { coefficients: [f32; 4], x_max_m: f32 },
    /// Along the present circle.
    Arc { curvature_per_m: f32 },
}

impl Path {
    fn of(world: &WorldModel, lane_width_m: f32) -> Self {
        let near = |y: f32| y.abs() < lane_width_m;
        let left = world.lanes.iter().rfind(|lane| near(lane.y_at(8.0)) && lane.y_at(8.0) > 0.0);
        let right = world.lanes.iter().find(|lane| near(lane.y_at(8.0)) && lane.y_at(8.0) <= 0.0);
        if let (Some(left), Some(right)) = (left, right) {
            let mut middle = [0.0; 4];
            for (middle, (left, right)) in middle.iter_mut().zip(left.coefficients.iter().zip(right.coefficients)) {
                *middle = 0.5 * (left + right);
            }
            return Path::Between { coefficients: middle, x_max_m: left.x_max_m.min(right.x_max_m) };
        }
        let moving = world.ego.known && world.ego.speed_mps > 2.0;
        let curvature = if moving { world.ego.yaw_rate_radps / world.ego.speed_mps } else { 0.0 };
        Path::Arc { curvature_per_m: curvature as f32 }
    }

    fn y_at(&self, x_m: f32) -> f32 {
        match self {
            Path::Between { coefficients: [c0, c1, c2, c3], x_max_m } => {
                let x = x_m.min(*x_max_m);
                let y = c0 + x * (c1 + x * (c2 + x * c3));
                let slope = c1 + x * (2.0 * c2 + x * 3.0 * c3);
                if x_m > x { y + slope * (x_m - x) } else { y }
            }
            Path::Arc { curvature_per_m } => 0.5 * curvature_per_m * x_m * x_m,
        }
    }
}

impl Planner for FollowPlanner {
    fn plan(&mut self, world: &WorldModel, plan: &mut Plan) {
        let settings = &self.settings;
        let path = Path::of(world, settings.lane_width_m as f32);
        plan.path_m.clear();
        for point in 1..=PATH_POINTS {
            let x = point as f32 * PATH_STEP_M;
            // the capacity is two values per point
            let _ = plan.path_m.extend_from_slice(&[x, path.y_at(x)]);
        }
        let speed = if world.ego.known { world.ego.speed_mps } else { 0.0 };
        let cruise = settings.cruise_speed_mps;
        let free = if world.ego.known { 1.0 - fourth_power(speed / cruise) } else { 0.0 };
        let Some(lead) = self.lead(world, &path) else {
            plan.reason = PlanReason::Cruise;
            plan.target_speed_mps = cruise as f32;
            plan.acceleration_mps2 = (settings.max_accel_mps2 * free).max(-settings.comfort_decel_mps2) as f32;
            plan.lead_id = 0;
            plan.lead_gap_m = f32::INFINITY;
            plan.closing_mps = 0.0;
            plan.time_to_collision_s = f32::INFINITY;
            return;
        };
        let gap = (lead.position_m[0] - f64::from(self.front_m)).max(0.1);
        let closing = speed - lead.velocity_mps[0];
        let braking = closing / (2.0 * (settings.max_accel_mps2 * settings.comfort_decel_mps2).sqrt());
        // without ego speed the time gap is unknown, and only the closing speed counts
        let own = if world.ego.known { speed } else { closing.max(0.0) };
        let headway = if world.ego.known { speed * settings.time_gap_s } else { 0.0 };
        let wanted = settings.min_gap_m + (headway + own * braking).max(0.0);
        let acceleration = settings.max_accel_mps2 * (free - (wanted / gap) * (wanted / gap));
        plan.lead_id = lead.id;
        plan.lead_gap_m = gap as f32;
        plan.closing_mps = closing as f32;
        // not the object's own, which is that of the vehicle going straight on
        plan.time_to_collision_s = time_to_collision(gap, closing);
        plan.target_speed_mps = (speed - closing).clamp(0.0, cruise) as f32;
        let emergency = f64::from(plan.time_to_collision_s) < settings.ttc_brake_s;
        (plan.reason, plan.acceleration_mps2) = if emergency {
            (PlanReason::EmergencyBrake, -settings.max_decel_mps2 as f32)
        } else if acceleration < -settings.comfort_decel_mps2 {
            (PlanReason::Brake, acceleration.max(-settings.max_decel_mps2) as f32)
        } else {
            (PlanReason::Follow, acceleration as f32)
        };
    }
}

fn fourth_power(value: f64) -> f64 {
    let square = value * value;
    square * square
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{EgoMotion, LaneCurve};

    fn world(speed_mps: f64) -> WorldModel {
        WorldModel { ego: EgoMotion { known: true, speed_mps, ..EgoMotion::default() }, ..WorldModel::default() }
    }

    fn ahead(x: f64, y: f64, vx: f64, speed: f64) -> Object {
        Object {
            id: 7,
            state: TrackState::Confirmed,
            position_m: [x, y],
            velocity_mps: [vx, 0.0],
            extent_m: [4.5, 1.8, 1.5],
            time_to_collision_s: time_to_collision(x - 3.7, speed - vx),
            ..Object::default()
        }
    }

    fn plan(world: &WorldModel) -> Plan {
        let mut plan = Plan::default();
        FollowPlanner::new(&Rig::default_camera(64, 48)).plan(world, &mut plan);
        plan
    }

    #[test]
    fn an_open_road_is_driven_at_the_set_speed() {
        let open = plan(&world(10.0));
        assert_eq!(open.reason, PlanReason::Cruise);
        assert!(open.acceleration_mps2 > 0.5 && open.lead_id == 0);
        assert!(plan(&world(40.0)).acceleration_mps2 < 0.0);
    }

    #[test]
    fn the_lead_is_followed_braked_for_and_left_alone_beside_the_path() {
        let mut world = world(15.0);
        world.objects.push(ahead(45.0, 0.2, 15.0, 15.0)).unwrap();
        let follow = plan(&world);
        assert_eq!((follow.reason, follow.lead_id), (PlanReason::Follow, 7));
        world.objects[0] = ahead(20.0, 0.2, 8.0, 15.0);
        assert_eq!(plan(&world).reason, PlanReason::Brake);
        world.objects[0] = ahead(12.0, 0.2, 2.0, 15.0);
        let emergency = plan(&world);
        assert_eq!(emergency.reason, PlanReason::EmergencyBrake);
        assert_eq!(emergency.acceleration_mps2, -8.0);
        world.objects[0] = ahead(12.0, 3.5, 2.0, 15.0);
        assert_eq!(plan(&world).reason, PlanReason::Cruise);
        world.objects[0] = Object { state: TrackState::Tentative, ..ahead(12.0, 0.0, 2.0, 15.0) };
        assert_eq!(plan(&world).reason, PlanReason::Cruise);
    }

    #[test]
    fn a_lead_on_a_curve_is_braked_for_in_time() {
        let mut world = world(15.0);
        world.ego.yaw_rate_radps = 0.3;
        // 2.56 m to the left, where the vehicle is about to go; straight on it would pass
        world.objects.push(Object { time_to_collision_s: f32::INFINITY, ..ahead(16.0, 2.56, 2.0, 15.0) }).unwrap();
        let emergency = plan(&world);
        assert_eq!((emergency.reason, emergency.lead_id), (PlanReason::EmergencyBrake, 7));
        assert!((emergency.time_to_collision_s - 12.3 / 13.0).abs() < 1e-3, "{}", emergency.time_to_collision_s);
    }

    fn lane(c0: f32, c1: f32, c3: f32, x_max_m: f32) -> LaneCurve {
        LaneCurve { coefficients: [c0, c1, 0.0, c3], x_min_m: 5.0, x_max_m, ..LaneCurve::default() }
    }

    #[test]
    fn behind_the_markings_the_path_goes_straight_on() {
        let mut world = world(15.0);
        world.lanes.push(lane(1.75, 0.0, 1e-4, 40.0)).unwrap();
        world.lanes.push(lane(-1.75, 0.0, 1e-4, 20.0)).unwrap();
        let plan = plan(&world);
        for point in plan.path_m.chunks(2) {
            let x = point[0].min(20.0);
            // the slope at 20 m is 3 * 1e-4 * 20 * 20
            let expected = 1e-4 * x * x * x + 0.12 * (point[0] - x);
            assert!((point[1] - expected).abs() < 1e-3, "{point:?}, expected {expected}");
        }
    }

    #[test]
    fn the_path_lies_between_the_markings() {
        let mut world = world(15.0);
        for c0 in [5.2, 1.9, -1.5, -5.0] {
            world.lanes.push(lane(c0, 0.01, 0.0, 40.0)).unwrap();
        }
        let plan = plan(&world);
        assert_eq!(plan.path_m.len(), 2 * PATH_POINTS);
        assert!((plan.path_m[1] - (0.2 + 0.01 * plan.path_m[0])).abs() < 1e-5);
    }
}
