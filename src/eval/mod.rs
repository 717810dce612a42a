//! How good results are: measures against truth that a person annotated.

pub mod mot;
