//! The simulator: a car drives through a made-up world, and a log comes out in which everything is known.
//!
//! The data's way: a [`scenario`] file names a road, traffic and light; [`road`] is the ground; [`population`] places everybody; [`world`] moves all
//! bodies in fixed steps and remembers how; [`scene`] is the world at one instant, as rays meet it; [`bodies`] says
//! what cars and people look like, [`shade`] what light makes of them; [`sensors`] sense through a rig. [`record`](mod@record)
//! puts what comes out into a log, beside the [`truth`](crate::truth); [`stills`] makes single pictures of it, and
//! [`closed_loop`] lets the pipeline's planner drive.
//!
//! Promised: the same scenario and seed give the same bytes on every machine, with any number of workers. Chance is a
//! pure function of the seed and of what is asked ([`random`]), never of the order in which it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

pub mod bodies;
pub mod closed_loop;
pub mod population;
pub mod random;
pub mod record;
pub mod road;
pub mod scenario;
pub mod scene;
pub mod sensors;
pub mod shade;
pub mod stills;
pub mod world;

/// The start of every simulated drive on the common time line: 2026-01-01, 00:00 UTC.
pub const EPOCH_NS: i64 = 1_767_225_600_000_000_000;

/// What jobs 0 to `count` make, in their order, each on whatever worker is free.
fn in_parallel<T: Send>(count: usize, workers: usize, job: impl Fn(usize) -> Option<T> + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let numbers =
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count));
        numbers.filter_map(|number| Some((number, job(number)?))).collect::<Vec<_>>()
    };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers.min(count)).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            match other.join() {
                Ok(more) => made.extend(more),
                // a bug in a job is the caller's to hear of, as if it had run on this thread
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });
    made.sort_unstable_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, made)| made).collect()
}
