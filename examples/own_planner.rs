//! A planner of one's own: it stops for whatever is believed to be close in front, and otherwise drives on.
//!
//! `cargo run --release --example own_planner -- LOG`, where a log that `catseye replay ... --record` wrote names models.

use std::error::Error;
use std::path::Path;
use std::sync::{atomic::AtomicBool, mpsc};

use catseye::messages::{Account, DropDecision, Plan, PlanReason, TrackState, WorldModel};
use catseye::pipeline::{Pipeline, Settings};
use catseye::replay::{Options, replay};
use catseye::source::Preamble;
use catseye::stages::plan::Planner;
use catseye::tap::{Output, Sink, Tap, TapError};

/// Brakes for believed objects up to 20 m ahead and 1.5 m to either side.
pub struct Cautious;

impl Planner for Cautious {
    fn plan(&mut self, world: &WorldModel, plan: &mut Plan) {
        let mut believed = world.objects.iter().filter(|object| object.state != TrackState::Tentative);
        let lead = believed.find(|o| (0.0..20.0).contains(&o.position_m[0]) && o.position_m[1].abs() < 1.5);
        let (reason, target_speed_mps, acceleration_mps2) =
            if lead.is_some() { (PlanReason::Brake, 0.0, -3.0) } else { (PlanReason::Cruise, 15.0, 0.0) };
        let time_to_collision_s = lead.map_or(f32::INFINITY, |object| object.time_to_collision_s);
        *plan = Plan { reason, target_speed_mps, acceleration_mps2, time_to_collision_s, ..Plan::default() };
    }
}

struct Plans(mpsc::Sender<Plan>);

impl Sink for Plans {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        output.body.iter().for_each(|body| _ = self.0.send(body.plan.clone()));
        Ok(())
    }
    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        Ok(())
    }
}

/// Replays a log with the planner and gives the plan of every tick.
pub fn run(log: &Path) -> Result<Vec<Plan>, Box<dyn Error>> {
    let Preamble { rig, files, .. } = Preamble::read(log)?;
    let rig = rig.ok_or("expected a log with a rig: `catseye import` makes one")?;
    let settings = Settings { planner: Some(Box::new(Cautious)), ..Settings::default() };
    let pipeline = Pipeline::build(&rig, &files, settings)?;
    let (out, plans) = mpsc::channel();
    let tap = Tap::start(vec![Box::new(Plans(out))], 0)?;
    replay(log, &rig, pipeline, &Options::default(), tap, &AtomicBool::new(false), &mut |_, _, _| {})?;
    Ok(plans.into_iter().collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = std::env::args_os().nth(1).ok_or("usage: own_planner LOG")?;
    run(Path::new(&log))?.iter().for_each(|plan| println!("{:>6} {}", plan.tick, plan.reason.name()));
    Ok(())
}
