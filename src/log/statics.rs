//! What does not change during a drive and stands in its log again and again: how cameras see, where sensors are.
//!
//! Made from the rig, written by importers and by the simulator, for viewers; a replay takes the rig itself.

use catseye_calibration::camera::CameraModel;
use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Camera, Mounting, Rig};
use foxglove::messages::{CameraCalibration, FrameTransform, FrameTransforms, Quaternion, Vector3};

use super::packet::timestamp;

/// Frame that all sensors are mounted in.
pub(crate) const VEHICLE_FRAME: &str = "vehicle";

/// Topic of the sensors' places.
pub(crate) const TRANSFORMS_TOPIC: &str = "/tf";

/// How often calibration and places are repeated, so that a viewer that starts anywhere soon has them.
pub(crate) const REPEAT_NS: i64 = 10_000_000_000;

/// Topic of a camera's calibration.
pub(crate) fn calibration_topic(camera: &str) -> String {
    format!("/camera/{camera}/calibration")
}

/// Name and place of every sensor that has a place.
pub(crate) fn mountings(rig: &Rig) -> impl Iterator<Item = (&str, &Mounting)> {
    let cameras = rig.cameras.iter().map(|sensor| (sensor.name.as_str(), &sensor.mounting));
    let lidars = rig.lidars.iter().map(|sensor| (sensor.name.as_str(), &sensor.mounting));
    let others = [&rig.radars, &rig.ultrasonics, &rig.imus, &rig.gnss];
    let others = others.into_iter().flatten().map(|sensor| (sensor.name.as_str(), &sensor.mounting));
    cameras.chain(lidars).chain(others)
}

/// Where all sensors are.
pub(crate) fn transforms_message(rig: &Rig, stamp_ns: i64) -> FrameTransforms {
    let transform = |(name, mounting): (&str, &Mounting)| {
        let pose = foxglove_pose(&mounting.vehicle_from_sensor());
        FrameTransform {
            timestamp: timestamp(stamp_ns),
            parent_frame_id: VEHICLE_FRAME.to_owned(),
            child_frame_id: name.to_owned(),
            translation: pose.position,
            rotation: pose.orientation,
        }
    };
    FrameTransforms { transforms: mountings(rig).map(transform).collect() }
}

/// A pose as Foxglove writes it.
pub(crate) fn foxglove_pose(pose: &Pose) -> foxglove::messages::Pose {
    let [x, y, z]: [f64; 3] = pose.translation_m.into();
    let [qw, qx, qy, qz] = pose.quaternion_wxyz();
    foxglove::messages::Pose {
        position: Some(Vector3 { x, y, z }),
        orientation: Some(Quaternion { x: qx, y: qy, z: qz, w: qw }),
    }
}

/// How a camera sees.
pub(crate) fn calibration_message(camera: &Camera) -> CameraCalibration {
    let [fx, fy] = camera.intrinsics.focal_px();
    let [cx, cy] = camera.intrinsics.principal_point_px();
    let (distortion_model, d) = match &camera.intrinsics {
        CameraModel::BrownConrady(lens) => ("plumb_bob", vec![lens.k1, lens.k2, lens.p1, lens.p2, lens.k3]),
        CameraModel::KannalaBrandt(lens) => ("kannala_brandt", vec![lens.k1, lens.k2, lens.k3, lens.k4]),
        // Foxglove has no name for it; without one the picture is shown as it is
        CameraModel::FTheta(_) => ("", Vec::new()),
    };
    CameraCalibration {
        timestamp: None,
        frame_id: camera.name.clone(),
        width: camera.width_px,
        height: camera.height_px,
        distortion_model: distortion_model.to_owned(),
        d,
        k: vec![fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p: vec![fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    }
}
