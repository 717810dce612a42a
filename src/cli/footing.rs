//! What a live run asks of real time: the rig's wishes, and flags that go before them.

use std::path::Path;
use std::sync::Arc;

use catseye::realtime::deadlines::Monitor;
use catseye::realtime::hardware::Hardware;
use catseye::realtime::{Footing, Refused};
use catseye_calibration::rig::{Realtime, ThreadClass};
use clap::Args;
use serde_json::{Value, json};

use super::{Context, problem};

/// Flags that go before the rig's `[realtime]`.
#[derive(Args)]
pub struct Wishes {
    /// SCHED_FIFO for the sensors' threads at this priority, the edge's one below and the workers' two below; 0 for none
    /// [default: the rig's, or none].
    #[arg(long, value_name = "PRIORITY", value_parser = clap::value_parser!(u8).range(0..=99))]
    fifo: Option<u8>,
    /// Processors that the threads of the run may use, as 2,3 [default: the rig's, or all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    processors: Vec<u16>,
    /// Lock all memory, so that no tick waits for a page: true or false [default: the rig's, or false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    lock_memory: Option<bool>,
    /// End at the start where something of this cannot be had: true or false [default: the rig's, or false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    require_realtime: Option<bool>,
}

impl Wishes {
    /// What is wanted of a rig.
    fn over(&self, rig: &Realtime) -> Realtime {
        let class = |below: u8, of_rig: &ThreadClass| ThreadClass {
            fifo_priority: match self.fifo {
                None => of_rig.fifo_priority,
                Some(0) => None,
                Some(priority) => Some(priority.saturating_sub(below).max(1)),
            },
            processors: if self.processors.is_empty() { of_rig.processors.clone() } else { self.processors.clone() },
        };
        Realtime {
            require: self.require_realtime.unwrap_or(rig.require),
            lock_memory: self.lock_memory.unwrap_or(rig.lock_memory),
            sensors: class(0, &rig.sensors),
            edge: class(1, &rig.edge),
            workers: class(2, &rig.workers),
            deadlines: rig.deadlines.clone(),
        }
    }
}

/// What a run stands on.
pub struct Standing {
    /// What was granted.
    pub footing: Footing,
    /// What ticks and stages are held to.
    pub deadlines: Monitor,
    refused: Vec<String>,
    hardware: Option<Hardware>,
}

impl Standing {
    /// Asks for what is wanted, and says what is not to be had. `stages` are those of the pipeline; without one there is nothing to
    /// hold to deadlines.
    pub fn take(wishes: &Wishes, rig: &Realtime, stages: Option<&[&str]>, context: Context) -> miette::Result<Self> {
        let wanted = wishes.over(rig);
        let (deadlines, mut refused) = stages.map(|stages| Monitor::new(&wanted.deadlines, stages)).unwrap_or_default();
        let say = move |words: &str| {
            if !context.quiet {
                eprintln!("real time: {words}");
            }
        };
        let (footing, more) = Footing::prepare(&wanted, Arc::new(say));
        refused.extend(more);
        let refused: Vec<String> = refused.iter().map(Refused::to_string).collect();
        if wanted.require && !refused.is_empty() {
            return Err(problem(refused.join("\n"), "without `require` in the rig's [realtime] the run goes on"));
        }
        refused.iter().for_each(|words| say(words));
        let hardware = (wanted != Realtime::default()).then(|| Hardware::read(Path::new("/sys")));
        if let (Some(hardware), true) = (&hardware, context.speaks()) {
            println!("{hardware}");
        }
        Ok(Standing { footing, deadlines, refused, hardware })
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({ "refused": self.refused, "hardware": self.hardware.as_ref().map(ToString::to_string) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_rig() {
        let none = Wishes { fifo: None, processors: Vec::new(), lock_memory: None, require_realtime: None };
        let rig = Realtime {
            require: true,
            lock_memory: true,
            workers: ThreadClass { fifo_priority: Some(40), processors: vec![2, 3] },
            ..Realtime::default()
        };
        assert_eq!(none.over(&rig), rig);
        let off = Wishes { fifo: Some(0), lock_memory: Some(false), require_realtime: Some(false), ..none };
        let expected = ThreadClass { fifo_priority: None, processors: vec![2, 3] };
        assert_eq!(off.over(&rig), Realtime { workers: expected, ..Realtime::default() });
        let all = Wishes { fifo: Some(2), processors: vec![1], ..off }.over(&rig);
        let class = |priority| ThreadClass { fifo_priority: Some(priority), processors: vec![1] };
        assert_eq!((all.sensors, all.edge, all.workers), (class(2), class(1), class(1)));
    }
}
