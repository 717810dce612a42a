//! catseye: a deterministic perception runtime for cars.
pub mod diff;
pub mod eval;
pub mod header;
pub mod log;
pub mod math;
pub mod messages;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod runtime;
pub mod source;
pub mod stages;
pub mod tap;
pub mod view;
