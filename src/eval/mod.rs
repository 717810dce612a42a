//! How good results are: measures against truth that a person annotated or a simulator placed.

pub mod detection;
pub mod drive;
pub mod gate;
pub mod hota;
pub mod kitti;
pub mod mot;

/// A measure as tables show it; a dash where it has no value.
pub fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}
