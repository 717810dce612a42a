//! How good results are: measures against truth that a person annotated or a simulator placed.

pub mod detection;
pub mod drive;
pub mod gate;
pub mod hota;
pub mod kitti;
pub mod mot;
