//! The runtime: slots, queues, the graph that runs stages over them, and what it writes down about each tick.
//!
//! Built from the inside out: [`pool`] lends slots, [`queue`] passes leases between threads, [`graph`] runs stages in
//! tick order on any number of workers, [`latest`] hands the newest result to a reader that never waits.

pub mod affinity;
pub mod claim;
pub mod digest;
pub mod events;
pub mod graph;
pub mod latest;
pub mod pool;
pub mod queue;
pub(crate) mod sync;
