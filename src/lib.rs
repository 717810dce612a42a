//! catseye: a deterministic perception runtime for cars.
//!
//! A log of a drive goes in; what is around the car, what a planner makes of it, and the proof that a second run gives the
//! same bits come out. Inside, stages are pure functions run as a Kahn network; everything that depends on real time is
//! decided at the edge and recorded. The repository's `ARCHITECTURE.md` tells the whole story.
//!
//! The whole pipeline, from a log to the log of its run:
//!
//! ```no_run
//! use std::{path::Path, sync::atomic::AtomicBool};
//!
//! use catseye::log::notes::Names;
//! use catseye::log::run::{RunHeader, RunWriter};
//! use catseye::pipeline::{DigestLevel, Pipeline, Settings};
//! use catseye::replay::{Options, replay};
//! use catseye::{header::run_header, source::Preamble, tap::Tap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = Path::new("drive.mcap");
//! let Preamble { rig, files, .. } = Preamble::read(log)?;
//! let rig = rig.ok_or("the log has no rig")?;
//! let pipeline = Pipeline::build(&rig, &files, Settings::default())?;
//! let names = Names::of(&pipeline, &rig);
//! let entries = run_header(&rig, &files, &pipeline, DigestLevel::Outputs);
//! let header = RunHeader { entries, rig_toml: rig.to_toml(), files };
//! let run = RunWriter::create(Path::new("run.mcap"), &header, names, None)?;
//! let tap = Tap::start(vec![Box::new(run)], 0)?;
//! let options = Options { workers: 4, ..Options::default() };
//! let summary = replay(log, &rig, pipeline, &options, tap, &AtomicBool::new(false), &mut |_, _, _| {})?;
//! println!("{} ticks in {:?}", summary.ticks, summary.wall);
//! # Ok(())
//! # }
//! ```
//!
//! The modules, in the order data flows:
//!
//! * [`log`] reads and writes logs and imports other people's recordings; [`source`] turns a log into packets.
//! * [`stages`] goes from packets to a plan: ingest, unpack, preprocess, infer, decode, track, fuse, handoff, plan.
//! * [`messages`] are the values that cross the stages and the log; [`record`](mod@record) gives each its schema, bytes and digest.
//! * [`pipeline`] makes a graph of a rig and its models; [`runtime`] runs it on any number of workers.
//! * [`replay`] is the edge at work: it admits ticks, keeps the decisions, and hands what comes out to a [`tap`].
//! * [`realtime`] is the footing of a live run: priorities, locked memory, deadlines, a watchdog.
//! * [`header`] says what ran, [`diff`] where two runs part, [`agreement`] how far they agree where bits may differ.
//! * [`sim`] makes drives whose truth is known; [`truth`] is how that is written down, and [`eval`] measures against it.
//! * [`gpu`] is the layer over NVIDIA's driver, with the feature `cuda`.
//! * [`deploy`] puts a release on another computer, over ssh.
//! * [`doctor`] says whether a machine can run all this, and what mends it.
//! * [`models`] holds the network that comes with catseye; [`view`] draws for people, [`math`] holds the functions all stages share.
//!
//! A planner, a network and a stage of one's own are in the repository's `examples/`.

pub mod agreement;
pub mod deploy;
pub mod diff;
#[cfg(target_os = "linux")]
pub mod doctor;
pub mod eval;
pub mod file;
pub mod gpu;
pub mod header;
#[cfg(target_os = "linux")]
pub mod live;
pub mod log;
pub mod math;
pub mod messages;
pub mod models;
pub mod pipeline;
pub mod realtime;
pub mod record;
pub mod replay;
pub mod runtime;
pub mod sim;
pub mod source;
pub mod stages;
pub mod tap;
pub mod truth;
pub mod view;
