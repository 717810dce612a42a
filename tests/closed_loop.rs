//! The planner in the loop: what it sees is what the network makes of simulated pictures, what it wants is what the
//! vehicle does.
//!
//! Where the processor is emulated everybody is near from the start, so that they meet within seconds or not at all.

mod common;

use std::path::{Path, PathBuf};

use catseye::models::with_road;
use catseye::pipeline::{Files, Pipeline, Settings};
use catseye::sim::closed_loop::{Options, Outcome, drive};
use catseye::sim::record::{dbc_attachment, simulated_rig, simulated_sensors};
use catseye::sim::scenario::{Action, ActorSpec, Event, Scenario, Trigger};
use catseye::sim::sensors::can::DBC;
use catseye::stages::infer::BackendChoice;
use catseye_calibration::rig::{Rig, SIM_CAR};
use common::emulation::{amount, is_emulated};

/// The simulator's car with pictures of the network's own size, so that the test is quick.
fn small_car() -> Rig {
    let text = SIM_CAR
        .replace("width_px = 960", "width_px = 512")
        .replace("height_px = 540", "height_px = 288")
        .replace("831.38", "443.4")
        .replace("cx = 479.5", "cx = 255.5")
        .replace("cy = 269.5", "cy = 143.5");
    Rig::parse(&text, "small-car").unwrap()
}

/// The scenario in three seconds: without a planner the ego vehicle hits the actor within two or three.
fn hasten(scenario: &mut Scenario) {
    scenario.duration_s = 3.0;
    let actor = &mut scenario.actors[0];
    let soon = |action| vec![Event { at_s: 0.2, trigger: Trigger::Time, action }];
    let hastened = match scenario.name.as_str() {
        "follow" => ActorSpec { ahead_m: 30.0, speed_mps: 8.0, events: Vec::new(), ..actor.clone() },
        "cut-in" => {
            let events = soon(Action::Shift { left_m: 0.0, within_s: 1.0 });
            ActorSpec { ahead_m: 30.0, speed_mps: 10.0, events, ..actor.clone() }
        }
        "crossing-pedestrian" => {
            let events = soon(Action::Cross { left_m: 7.0, speed_mps: 0.8 });
            ActorSpec { ahead_m: 30.0, left_m: -1.8, events, ..actor.clone() }
        }
        name => panic!("no hastened {name}"),
    };
    *actor = hastened;
}

fn driven(name: &str, has_planner: bool) -> Outcome {
    let mut scenario = Scenario::load(Path::new(name)).unwrap();
    if is_emulated() {
        hasten(&mut scenario);
    }
    let (rig, _) = simulated_rig(small_car()).unwrap();
    let sensors = simulated_sensors(&rig, scenario.seed);
    let mut files = Files::from([(PathBuf::from(dbc_attachment()), DBC.as_bytes().to_vec())]);
    let rig = with_road(rig, &mut files);
    let settings = || Settings { backend: BackendChoice::Rten, ..Settings::default() };
    let pipeline = has_planner.then(|| Pipeline::build(&rig, &files, settings()).unwrap());
    let options = Options { workers: 2, ..Options::default() };
    drive(&scenario, &rig, &sensors, pipeline, &options, &mut ()).unwrap()
}

#[test]
fn the_planner_keeps_clear_of_the_car_ahead() {
    let outcome = driven("follow", true);
    assert_eq!(outcome.collision_s, None);
    assert!(outcome.distance_m > amount(150.0, 25.0) && outcome.late_plans == 0, "{outcome:?}");
}

#[test]
fn the_planner_brakes_for_a_car_that_cuts_in() {
    assert_eq!(driven("cut-in", true).collision_s, None);
}

#[test]
fn the_planner_brakes_for_somebody_who_crosses() {
    let outcome = driven("crossing-pedestrian", true);
    assert_eq!(outcome.collision_s, None);
    assert!(outcome.max_deceleration_mps2 > 1.0);
}

#[test]
fn without_the_planner_somebody_is_hit() {
    for name in ["follow", "cut-in", "crossing-pedestrian"] {
        let outcome = driven(name, false);
        println!("{name}: {:?} s", outcome.collision_s);
        assert!(outcome.has_collided(), "{name}: {outcome:?}");
    }
}
