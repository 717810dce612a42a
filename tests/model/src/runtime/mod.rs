//! The same module path as in catseye, so that the files find each other.
#[path = "../../../../src/runtime/claim.rs"]
pub mod claim;
#[path = "../../../../src/runtime/latest.rs"]
pub mod latest;
#[path = "../../../../src/runtime/pool.rs"]
pub mod pool;
#[path = "../../../../src/runtime/queue.rs"]
pub mod queue;
#[path = "../../../../src/runtime/sync.rs"]
pub(crate) mod sync;
