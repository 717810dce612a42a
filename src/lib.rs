//! catseye: a deterministic perception runtime for cars.
pub mod messages;
pub mod record;
pub mod runtime;
