//! The footing of a live run in real time: what it asks of the system at the start, and what it watches while it goes on.
//!
//! The rig's `[realtime]` and the command line say what is wanted ([`Realtime`]); nothing is by
//! default. [`Footing`] asks for priorities and processors ([`scheduling`]) and for locked memory ([`memory`]), and says in a
//! sentence what it did not get and what would grant it. [`hardware`] tells at which clocks processors and GPU run. While a run goes
//! on, its threads beat into a [`Pulse`](pulse::Pulse), out of which the [`watchdog`] tells systemd how it goes; [`deadlines`] holds
//! ticks and stages to their budgets.
//!
//! Promised: none of it reaches an output. Times are observed and written beside the outputs, never digested and never a decision.

pub mod deadlines;
#[cfg(target_os = "linux")]
pub mod hardware;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod pulse;
#[cfg(target_os = "linux")]
pub mod scheduling;
#[cfg(target_os = "linux")]
pub mod watchdog;

use std::fmt;
use std::sync::Arc;

use catseye_calibration::rig::{Realtime, ThreadClass};
use thiserror::Error;

/// What a thread does in a live run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes what a sensor sends.
    Sensor,
    /// Forms ticks.
    Edge,
    /// Runs stages.
    Worker,
}

impl Role {
    /// All of them, in the order of the data.
    pub const ALL: [Self; 3] = [Self::Sensor, Self::Edge, Self::Worker];

    /// What the rig asks for such a thread.
    pub fn class(self, realtime: &Realtime) -> &ThreadClass {
        match self {
            Self::Sensor => &realtime.sensors,
            Self::Edge => &realtime.edge,
            Self::Worker => &realtime.workers,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sensor => "sensors'",
            Self::Edge => "edge's",
            Self::Worker => "workers'",
        })
    }
}

/// Something that was asked for and is not to be had, and what would grant it.
#[derive(Debug, Error)]
pub enum Refused {
    /// A priority above what the process may take.
    #[error(
        "the {role} threads do not run under SCHED_FIFO at priority {wanted}: this process may take {} (RLIMIT_RTPRIO), and has \
         no CAP_SYS_NICE; `LimitRTPRIO={wanted}` in the systemd unit grants it, or `ulimit -r {wanted}`",
        up_to(*.limit)
    )]
    Priority {
        /// Whose threads.
        role: Role,
        /// The priority that was asked for.
        wanted: u8,
        /// The highest that may be had without more rights.
        limit: u64,
    },
    /// A priority that the system does not give for another reason.
    #[error("the {role} threads do not run under SCHED_FIFO at priority {wanted}: {error}{}", hint(.error))]
    Scheduler {
        /// Whose threads.
        role: Role,
        /// The priority that was asked for.
        wanted: u8,
        /// The system's words.
        error: std::io::Error,
    },
    /// Processors that a thread cannot be bound to.
    #[error(
        "the {role} threads are not bound to the processors {wanted:?}: {error}; this process may use {usable} \
         (CPUAffinity and AllowedCPUs in the systemd unit, and isolcpus, decide that)"
    )]
    Processors {
        /// Whose threads.
        role: Role,
        /// The processors that were asked for.
        wanted: Vec<u16>,
        /// Those that the process may use, as a list of ranges.
        usable: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// Memory that may not be locked without bound.
    #[error(
        "memory is not locked: this process may lock {} KiB (RLIMIT_MEMLOCK) and has no CAP_IPC_LOCK, and beyond a limit every \
         later allocation would fail; `LimitMEMLOCK=infinity` in the systemd unit grants it, or `ulimit -l unlimited`",
        .limit_bytes / 1024
    )]
    MemoryLimit {
        /// What may be locked.
        limit_bytes: u64,
    },
    /// Memory that the system does not lock for another reason.
    #[error("memory is not locked: {error}")]
    Memory {
        /// The system's words.
        error: std::io::Error,
    },
    /// No thread to try rights on.
    #[error("what the {role} threads ask for could not be tried: {error}")]
    Thread {
        /// Whose threads.
        role: Role,
        /// Why.
        error: std::io::Error,
    },
    /// A budget for a stage that the pipeline does not have.
    #[error(
        "realtime.deadlines.stages_ms.{stage} holds nothing to it: expected one of the stages {known}, found {stage:?}"
    )]
    Stage {
        /// The name in the rig.
        stage: String,
        /// The pipeline's stages.
        known: String,
    },
    /// Not on this system.
    #[error("{what}: only on Linux")]
    System {
        /// What was asked for.
        what: &'static str,
    },
}

fn up_to(limit: u64) -> String {
    if limit == 0 { "none".to_owned() } else { format!("at most {limit}") }
}

/// A control group can refuse what the limits allow.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; a control group without a share of real time refuses it (cpu.rt_runtime_us, CONFIG_RT_GROUP_SCHED), or \
             RestrictRealtime=yes in the systemd unit"
        }
        _ => "",
    }
}

/// Hears in words what a run does not get.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What was granted. Each thread of a run takes its part of it for itself.
#[derive(Clone, Default)]
pub struct Footing {
    granted: Realtime,
    tell: Option<Tell>,
}

impl fmt::Debug for Footing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Footing").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Footing {
    /// Asks for everything, each priority and processor on a thread that ends again, so that a run knows before it begins what it
    /// does not get. Memory is locked at once: threads that start later have their stacks locked and paged in.
    pub fn prepare(wanted: &Realtime, tell: Tell) -> (Self, Vec<Refused>) {
        let (mut granted, mut refused) = (wanted.clone(), Vec::new());
        for role in Role::ALL {
            let class = match role {
                Role::Sensor => &mut granted.sensors,
                Role::Edge => &mut granted.edge,
                Role::Worker => &mut granted.workers,
            };
            refused.extend(try_on_a_thread(role, class));
        }
        if wanted.lock_memory
            && let Err(error) = lock_memory()
        {
            granted.lock_memory = false;
            refused.push(error);
        }
        (Footing { granted, tell: Some(tell) }, refused)
    }

    /// What was granted.
    pub fn granted(&self) -> &Realtime {
        &self.granted
    }

    /// Gives the calling thread what was granted for its role. What was granted and fails now is told.
    pub fn take(&self, role: Role) {
        for error in apply(role, role.class(&self.granted)) {
            if let Some(tell) = &self.tell {
                tell(&error.to_string());
            }
        }
    }
}

/// Tries a class on a thread of its own, and takes out of it what is refused.
fn try_on_a_thread(role: Role, class: &mut ThreadClass) -> Vec<Refused> {
    if class.is_default() {
        return Vec::new();
    }
    let wanted = class.clone();
    let thread = std::thread::Builder::new().name("catseye-rights".to_owned()).spawn(move || apply(role, &wanted));
    let tried = thread.and_then(|thread| thread.join().map_err(|_| std::io::Error::other("its thread panicked")));
    let refused = tried.unwrap_or_else(|error| vec![Refused::Thread { role, error }]);
    for error in &refused {
        match error {
            Refused::Processors { .. } => class.processors.clear(),
            Refused::Thread { .. } => *class = ThreadClass::default(),
            _ => class.fifo_priority = None,
        }
    }
    refused
}

/// Processors first: a thread that is to run before others should not do so where it must not.
#[cfg(target_os = "linux")]
fn apply(role: Role, class: &ThreadClass) -> Vec<Refused> {
    let bound = if class.processors.is_empty() { Ok(()) } else { scheduling::bind(role, &class.processors) };
    let ranked = class.fifo_priority.map_or(Ok(()), |priority| scheduling::fifo(role, priority));
    bound.err().into_iter().chain(ranked.err()).collect()
}

#[cfg(not(target_os = "linux"))]
fn apply(_: Role, class: &ThreadClass) -> Vec<Refused> {
    if class.is_default() { Vec::new() } else { vec![Refused::System { what: "priorities and processors" }] }
}

#[cfg(target_os = "linux")]
fn lock_memory() -> Result<(), Refused> {
    memory::lock()
}

#[cfg(not(target_os = "linux"))]
fn lock_memory() -> Result<(), Refused> {
    Err(Refused::System { what: "locked memory" })
}
