//! The examples do what they say, on a log of six pictures and with a network that are both made here.

use std::path::{Path, PathBuf};

use catseye::log::packet::{StampInfo, picture_message};
use catseye::log::writer::{Compression, LogWriter};
use catseye::log::{Channel, RIG_ATTACHMENT};
use catseye::messages::{Object, Plan, PlanReason, TrackState, WorldModel};
use catseye::runtime::graph::Stage;
use catseye::stages::Tick;
use catseye::stages::plan::Planner;
use catseye_calibration::rig::Rig;
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

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A protobuf field that holds a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A protobuf field that holds text, bytes or a message.
fn block(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint((field << 3) | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// An ONNX `TensorProto`; kind 1 is f32, 7 is i64.
fn tensor(name: &str, shape: &[u64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [sizes, number(2, kind), block(8, name), block(9, raw)].concat()
}

/// An ONNX `NodeProto` without attributes.
fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| block(1, input)).collect();
    [inputs, block(2, output), block(4, operator)].concat()
}

/// An ONNX `AttributeProto` that holds whole numbers, as a field of a node.
fn attribute(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    block(5, [block(1, name), values, number(20, 7)].concat())
}

/// An ONNX `ValueInfoProto` of f32.
fn value(name: &str, shape: &[u64]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| block(1, number(1, *size))).collect();
    let kind = block(1, [number(1, 1), block(2, sizes)].concat());
    [block(1, name), block(2, kind)].concat()
}

/// A YOLOX of 32 x 32 pixels and one class. It sees one thing, always at the same place, the surer the brighter the
/// picture is on average.
fn write_model(folder: &Path) -> PathBuf {
    // 21 anchors of x, y, log width, log height, objectness, class; only the one of stride 32 says anything
    const ANCHORS: usize = 21;
    const VALUES: usize = 6;
    let mut weights = [[0.0f32; 3]; ANCHORS * VALUES];
    let mut bias = [0.0f32; ANCHORS * VALUES];
    let last = (ANCHORS - 1) * VALUES;
    weights[last + 4] = [1.0 / (3.0 * 255.0); 3];
    let ln_2 = std::f32::consts::LN_2;
    bias[last..].copy_from_slice(&[0.5, 0.375, -ln_2, -2.0 * ln_2, 0.0, 1.0]);
    let channels = bias.len() as u64;
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let shape: Vec<u8> = [1, ANCHORS as i64, VALUES as i64].iter().flat_map(|size| size.to_le_bytes()).collect();
    // ONNX leaves all of these optional, rten asks for them
    let attributes = [
        attribute("kernel_shape", &[1, 1]),
        attribute("strides", &[1, 1]),
        attribute("pads", &[0, 0, 0, 0]),
        attribute("dilations", &[1, 1]),
    ];
    let graph = [
        block(1, node("GlobalAveragePool", &["images"], "mean")),
        block(1, [node("Conv", &["mean", "weights", "bias"], "channels"), attributes.concat()].concat()),
        block(1, node("Reshape", &["channels", "shape"], "output")),
        block(2, "brightness"),
        block(5, tensor("weights", &[channels, 3, 1, 1], 1, &floats(weights.as_flattened()))),
        block(5, tensor("bias", &[channels], 1, &floats(&bias))),
        block(5, tensor("shape", &[3], 7, &shape)),
        block(11, value("images", &[1, 3, 32, 32])),
        block(12, value("output", &[1, ANCHORS as u64, VALUES as u64])),
    ];
    let opset = [block(1, ""), number(2, 13)].concat();
    let model = [number(1, 8), block(7, graph.concat()), block(8, opset)].concat();
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
