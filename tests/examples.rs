//! The examples do what they say, on a log of six pictures and with a network that are both made here.

mod common;

use std::path::{Path, PathBuf};

use catseye::log::packet::{StampInfo, picture_message};
use catseye::log::writer::{Compression, LogWriter};
use catseye::log::{Channel, RIG_ATTACHMENT};
use catseye::messages::{Object, Plan, PlanReason, TrackState, WorldModel};
use catseye::runtime::graph::Stage;
use catseye::stages::Tick;
use catseye::stages::plan::Planner;
use catseye_calibration::rig::Rig;
use common::onnx::{ANCHORS, constant_yolox};
use foxglove::messages::CompressedImage;

#[allow(dead_code)] // its `main`
#[path = "../examples/own_model.rs"]
mod own_model;
#[allow(dead_code)] // its `main`
#[path = "../examples/own_planner.rs"]
mod own_planner;
#[allow(dead_code)] // its `main`
#[path = "../examples/own_stage.rs"]
mod own_stage;

/// Brightness of the pictures, one per tick.
const GREYS: [u8; 6] = [0, 0, 0, 255, 255, 0];

fn picture(grey: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[grey; 64 * 48 * 3]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A log of one camera, ten pictures a second.
fn write_log(folder: &Path) -> PathBuf {
    let rig = Rig::default_camera(64, 48);
    let mut log = LogWriter::create(&folder.join("drive.mcap"), Compression::Zstd).unwrap();
    log.attach(RIG_ATTACHMENT, "application/toml", rig.to_toml().as_bytes()).unwrap();
    let mut channel = Channel::of_foxglove::<CompressedImage>(&rig.cameras[0].topic);
    StampInfo::SYNTHETIC.describe(&mut channel);
    let camera = log.channel(&channel).unwrap();
    let mut stamp_ns = 1_000_000_000;
    for grey in GREYS {
        let message = picture_message(picture(grey), "png", stamp_ns, "front");
        log.write_foxglove(camera, stamp_ns, stamp_ns, &message).unwrap();
        stamp_ns += 100_000_000;
    }
    log.finish().unwrap()
}

/// A YOLOX of 32 x 32 pixels and one class. It sees one thing, always at the same place, the surer the brighter the
/// picture is on average.
fn write_model(folder: &Path) -> PathBuf {
    // x, y, log width, log height, objectness, class; only the box of stride 32 says anything
    const VALUES: u64 = 6;
    let channels = (ANCHORS * VALUES) as usize;
    let (mut weights, mut bias) = (vec![[0.0; 3]; channels], vec![0.0; channels]);
    let last = channels - VALUES as usize;
    weights[last + 4] = [1.0 / (3.0 * 255.0); 3];
    let ln_2 = std::f32::consts::LN_2;
    bias[last..].copy_from_slice(&[0.5, 0.375, -ln_2, -2.0 * ln_2, 0.0, 1.0]);
    let model = constant_yolox([1, 3, 32, 32], VALUES, &weights, &bias);
    let path = folder.join("brightness.onnx");
    std::fs::write(&path, model).unwrap();
    path
}

fn object(x_m: f64, y_m: f64, state: TrackState) -> Object {
    Object { position_m: [x_m, y_m], state, time_to_collision_s: 4.0, ..Object::default() }
}

fn world(objects: &[Object]) -> WorldModel {
    WorldModel { objects: heapless::Vec::from_slice(objects).unwrap(), ..WorldModel::default() }
}

#[test]
fn the_planner_stops_for_what_is_close_in_front() {
    let mut plan = Plan::default();
    own_planner::Cautious.plan(&world(&[object(12.0, -1.0, TrackState::Confirmed)]), &mut plan);
    assert_eq!((plan.reason, plan.target_speed_mps, plan.time_to_collision_s), (PlanReason::Brake, 0.0, 4.0));
    let elsewhere = [
        object(12.0, 2.0, TrackState::Confirmed),
        object(25.0, 0.0, TrackState::Confirmed),
        object(-3.0, 0.0, TrackState::Coasting),
        object(12.0, 0.0, TrackState::Tentative),
    ];
    own_planner::Cautious.plan(&world(&elsewhere), &mut plan);
    assert_eq!((plan.reason, plan.target_speed_mps), (PlanReason::Cruise, 15.0));
    assert_eq!(plan.time_to_collision_s, f32::INFINITY);
}

#[test]
fn the_planner_answers_every_tick_of_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let plans = own_planner::run(&write_log(folder.path())).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.tick).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    // without a model nothing is seen, and the set speed is this planner's own
    assert!(plans.iter().all(|plan| plan.reason == PlanReason::Cruise && plan.target_speed_mps == 15.0));
    assert_eq!(plans[5].reference_ns, 1_500_000_000);
}

#[test]
fn the_model_sees_what_its_outputs_say() {
    let folder = tempfile::tempdir().unwrap();
    let seen = own_model::run(&write_log(folder.path()), &write_model(folder.path())).unwrap();
    assert_eq!(seen.iter().map(|(tick, ..)| *tick).collect::<Vec<_>>(), [3, 4], "the bright pictures: {seen:?}");
    // three quarters of the network's input are the picture, one quarter is YOLOX's grey of 114
    let score = (0.75 * 255.0 + 0.25 * 114.0) / 255.0;
    for (_, name, object) in &seen {
        assert_eq!(name, "class 0", "a network of one class that names none does not see people");
        assert!((object.score - score).abs() < 1e-3, "{object:?}");
        let found = [object.box_px.left, object.box_px.top, object.box_px.right, object.box_px.bottom];
        let near = found.iter().zip([16.0, 16.0, 48.0, 32.0]).all(|(found, expected)| (found - expected).abs() < 0.01);
        assert!(near, "{object:?}");
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path());
    let error = own_model::run(&log, &log).unwrap_err();
    assert!(error.to_string().contains("drive.mcap: expected an ONNX model"), "{error}");
}

#[test]
fn the_stage_takes_far_objects_out() {
    let objects = [29.0, 31.0, -31.0].map(|x_m| object(x_m, 0.0, TrackState::Confirmed));
    let mut tick = Tick { world: world(&objects), ..Tick::default() };
    own_stage::Near { limit_m: 30.0 }.run(&mut tick).unwrap();
    assert_eq!(tick.world.objects.len(), 1);
    assert_eq!(tick.world.objects[0].position_m[0], 29.0);
}

#[test]
fn the_stage_stands_between_fuse_and_handoff() {
    let folder = tempfile::tempdir().unwrap();
    let (ticks, stages) = own_stage::run(&write_log(folder.path())).unwrap();
    assert_eq!(ticks, GREYS.len() as u64);
    assert_eq!(stages, ["unpack", "track", "fuse", "near", "handoff", "plan"]);
}
