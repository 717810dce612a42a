//! A stage of one's own, between fuse and handoff: it keeps what is far away from the planner.
//!
//! `cargo run --release --example own_stage -- LOG`. It is scheduled, timed, digested and verified like every other.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use catseye::pipeline::{Pipeline, Settings};
use catseye::replay::{Options, replay};
use catseye::runtime::graph::{Fields, NO_GROUP, Stage, StageError};
use catseye::source::Preamble;
use catseye::stages::Tick;
use catseye::tap::Tap;

/// Takes objects farther ahead or behind than `limit_m` out of the world model. A stage that remembers something gives
/// it to the log as its [`state`](Stage::state), so that a replay can begin in the middle.
pub struct Near {
    /// The limit, metres.
    pub limit_m: f64,
}

impl Stage<Tick> for Near {
    fn name(&self) -> &'static str {
        "near"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        tick.world.objects.retain(|object| object.position_m[0].abs() <= self.limit_m);
        Ok(())
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        fields.add_record(NO_GROUP, &tick.world);
    }
}

/// Replays a log with the stage; gives the number of ticks and the names of all stages.
pub fn run(log: &Path) -> Result<(u64, Vec<&'static str>), Box<dyn Error>> {
    let Preamble { rig, files, .. } = Preamble::read(log)?;
    let rig = rig.ok_or("expected a log with a rig: `catseye import` makes one")?;
    let settings = Settings { stages: vec![Box::new(Near { limit_m: 30.0 })], ..Settings::default() };
    let pipeline = Pipeline::build(&rig, &files, settings)?;
    let stages = pipeline.graph.stages().map(|(name, _)| name).collect();
    let tap = Tap::start(Vec::new(), 0)?;
    let stop = AtomicBool::new(false);
    let summary = replay(log, &rig, pipeline, &Options::default(), tap, &stop, &mut |_, _, _| {})?;
    Ok((summary.ticks, stages))
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = std::env::args_os().nth(1).ok_or("usage: own_stage LOG")?;
    let (ticks, stages) = run(Path::new(&log))?;
    println!("{ticks} ticks through {}", stages.join(", "));
    Ok(())
}
