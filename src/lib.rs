//! catseye: a deterministic perception runtime for cars.
pub mod eval;
pub mod log;
pub mod math;
pub mod messages;
pub mod record;
pub mod runtime;
pub mod stages;
pub mod view;
