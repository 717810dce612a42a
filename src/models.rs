//! The network that comes with catseye. `models/README.md` says what it is for: demos, tests and benchmarks on simulated
//! pictures. It has seen nothing else and is of no use on a road.

use std::path::PathBuf;

use catseye_calibration::rig::{Model, Rig};

use crate::pipeline::Files;

/// An ONNX file with the head [`Head::Multitask`](crate::stages::decode::Head::Multitask): cars, trucks, cyclists and
/// pedestrians, drivable area and lane markings, for pictures of 512 x 288 pixels.
pub const ROAD_ONNX: &[u8] = include_bytes!("../models/road.onnx");

/// What the file is called where a rig names it.
pub const ROAD_FILE: &str = "road.onnx";

/// The rig with this network on all its cameras and no other, and the file among `files`.
pub fn with_road(mut rig: Rig, files: &mut Files) -> Rig {
    let cameras = rig.cameras.iter().map(|camera| camera.name.clone()).collect();
    rig.models = vec![Model::new("road", Some(PathBuf::from(ROAD_FILE)), cameras)];
    files.insert(PathBuf::from(ROAD_FILE), ROAD_ONNX.to_vec());
    rig
}
