//! How a live run stands towards real time: what its threads ask of the system, and how long its stages may take.

use std::collections::BTreeMap;

/// How the threads of a live run are scheduled, and what is expected of its stages. By default nothing is asked for; whatever is
/// asked for, no output depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Realtime {
    /// Whether the run ends at the start where something that is asked for cannot be had; else it is told and the run goes on.
    pub require: bool,
    /// Whether all memory is locked and paged in before the first tick.
    pub lock_memory: bool,
    /// The threads that take what sensors send.
    pub sensors: ThreadClass,
    /// The thread that forms ticks.
    pub edge: ThreadClass,
    /// The threads that run stages.
    pub workers: ThreadClass,
    /// How long stages may take.
    pub deadlines: Deadlines,
}

/// What threads of one kind ask of the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadClass {
    /// Priority under SCHED_FIFO, 1 to 99; `None` for the ordinary scheduler.
    pub fifo_priority: Option<u8>,
    /// Processors that the threads may run on; empty for all.
    pub processors: Vec<u16>,
}

impl ThreadClass {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Budgets of real time. One that is missed is counted and logged; it changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deadlines {
    /// From a tick's admission to the end of its last stage, in milliseconds.
    pub tick_ms: Option<f64>,
    /// One run of a stage, in milliseconds, by the stage's name.
    pub stages_ms: BTreeMap<String, f64>,
}
