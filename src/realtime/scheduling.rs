//! SCHED_FIFO and processors for the calling thread (sched(7)).
//!
//! SCHED_DEADLINE is not offered: it wants a thread with a period and a budget of its own, where our workers run whatever stage is
//! next; it forbids binding to processors; and the crate's call for it takes the thread's handle for its number.

use std::io;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, CpuSet, sched_getaffinity};
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{Error, ThreadPriority, ThreadPriorityValue};

use super::{Refused, Role};
use crate::runtime::affinity::bind_to;

/// Puts the calling thread under SCHED_FIFO.
///
/// # Errors
/// When the process may not.
pub fn fifo(role: Role, priority: u8) -> Result<(), Refused> {
    let set = || {
        let value = ThreadPriorityValue::try_from(priority).map_err(|_| Error::Priority("it is not 0 to 99"))?;
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), policy)
    };
    let Err(error) = set() else { return Ok(()) };
    let error = match error {
        Error::OS(number) => io::Error::from_raw_os_error(number),
        other => io::Error::other(other.to_string()),
    };
    let limit = getrlimit(Resource::Rtprio).current.unwrap_or(u64::MAX);
    if limit < u64::from(priority) && !has(CapabilitySet::SYS_NICE) {
        return Err(Refused::Priority { role, wanted: priority, limit });
    }
    Err(Refused::Scheduler { role, wanted: priority, error })
}

/// Binds the calling thread to any of these processors. All of them must be usable: one less is another machine than the rig was
/// made for.
///
/// # Errors
/// When one of them does not exist or may not be used.
pub fn bind(role: Role, processors: &[u16]) -> Result<(), Refused> {
    // a thread starts where its process may run
    let usable = sched_getaffinity(None).unwrap_or_default();
    let is_usable = |one: &u16| usize::from(*one) < CpuSet::MAX_CPU && usable.is_set(usize::from(*one));
    let bound = match processors.iter().find(|one| !is_usable(one)) {
        Some(absent) => Err(io::Error::other(format!("processor {absent} is not there"))),
        None => bind_to(processors),
    };
    bound.map_err(|error| Refused::Processors { role, wanted: processors.to_vec(), usable: ranges(&usable), error })
}

/// Whether the process has a capability.
pub(super) fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// As `0-3,6`.
fn ranges(set: &CpuSet) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < CpuSet::MAX_CPU {
        let length = (at..CpuSet::MAX_CPU).take_while(|processor| set.is_set(*processor)).count();
        if length > 0 {
            let comma = if text.is_empty() { "" } else { "," };
            let last = if length > 1 { format!("-{}", at + length - 1) } else { String::new() };
            text += &format!("{comma}{at}{last}");
        }
        at += length + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_as_ranges() {
        let mut set = CpuSet::new();
        assert_eq!(ranges(&set), "");
        for processor in [0, 1, 2, 5, 7, CpuSet::MAX_CPU - 1] {
            set.set(processor);
        }
        assert_eq!(ranges(&set), format!("0-2,5,7,{}", CpuSet::MAX_CPU - 1));
    }
}
