//! The simulator: a car drives through a made-up world, and a log comes out in which everything is known.
//!
//! The data's way: a [`scenario`] file names a road, traffic and light; [`road`] is the ground; [`world`] moves all
//! bodies in fixed steps and remembers how; [`scene`] is the world at one instant, as rays meet it; [`bodies`] says
//! what cars and people look like, [`shade`] what light makes of them; [`sensors`] sense through a rig. What comes out
//! goes into a log, beside the [`truth`](crate::truth).
//!
//! Promised: the same scenario and seed give the same bytes on every machine, with any number of workers. Chance is a
//! pure function of the seed and of what is asked ([`random`]), never of the order in which it is asked.

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
