//! Camera models, sensor mounting and rig files.
//!
//! A rig file describes one vehicle: its sensors, where they sit, and the models that read them. This crate reads and
//! checks it as a whole, writes it back, and gives the geometry everything else builds on: rigid poses and camera
//! models. Frames: the vehicle frame is ISO 8855 (x forward, y left, z up, origin on the ground below the rear axle), a
//! camera frame has x right, y down, z forward. Results are the same to the last bit on every machine, and no input
//! from outside makes this crate panic.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod camera;
pub mod pose;
pub mod rig;

pub use camera::{BrownConrady, CameraModel, FTheta, FThetaPolynomial, KannalaBrandt, Projection};
pub use pose::Pose;
pub use rig::{HYPERION_8_1, Rig, RigError, RigProblem};
