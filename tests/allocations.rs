//! No stage of ours allocates once it is warm: counted per stage, by an allocator that watches the worker's thread.
//! Counted with a stage is what the graph does before it: digest and snapshot of the stage before.
//!
//! What the inference engine and the picture decoders allocate inside `infer` and `unpack` is counted apart and printed.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use catseye::log::import::ImportKind;
use catseye::pipeline::{DigestLevel, Pipeline};
use catseye::realtime::deadlines::Monitor;
use catseye::replay::replay;
use catseye::runtime::graph::{Probe, Slot, SnapshotNote, TimingNote};
use catseye::runtime::pool::Pool;
use catseye::stages::Tick;
use catseye::tap::Tap;
use catseye_calibration::rig::Deadlines;
use common::{Drive, Run, drive, with_any_model, with_model};
use counting::allocations;

/// Allocations of each stage in warm ticks, with those of the graph since the stage before (digests, notes).
#[derive(Default)]
struct Counts {
    warm_from: u64,
    /// The tick that is under way, and the worker's allocations up to its last stage.
    so_far: Mutex<(u64, u64)>,
    stages: Mutex<BTreeMap<String, u64>>,
}

impl Probe<Tick> for Counts {
    fn before(&self, _: &str, tick: u64) {
        let mut so_far = self.so_far.lock().unwrap();
        if so_far.0 != tick {
            *so_far = (tick, allocations());
        }
    }

    fn after(&self, stage: &str, tick: u64, _: &mut Tick) {
        let mut so_far = self.so_far.lock().unwrap();
        let spent = allocations() - so_far.1;
        if tick >= self.warm_from {
            let mut stages = self.stages.lock().unwrap();
            match stages.get_mut(stage) {
                Some(count) => *count += spent,
                None => {
                    stages.insert(stage.to_owned(), spent);
                }
            }
        }
        // what was allocated here is nobody's
        so_far.1 = allocations();
    }
}

/// Gives every slot warm buffers for the two states. They would grow by themselves, but as long as the states do.
fn warm_snapshots(pool: &Pool<Slot<Tick>>) {
    let mut slots: Vec<_> = std::iter::from_fn(|| pool.acquire()).collect();
    for slot in &mut slots {
        let note = || SnapshotNote { state: Vec::with_capacity(1 << 20), ..SnapshotNote::default() };
        slot.notes.snapshots = vec![note(), note()];
    }
}

fn assert_none(drive: &Drive, warm_from: u64) {
    let counts = Arc::new(Counts { warm_from, ..Counts::default() });
    let Run { mut settings, options, .. } = Run::new(1);
    settings.snapshot_every = 1;
    settings.digests = DigestLevel::All;
    settings.probe = Some(counts.clone());
    let pipeline = Pipeline::build(&drive.rig, &drive.files, settings).unwrap();
    warm_snapshots(&pipeline.pool);
    let tap = Tap::start(Vec::new(), 0).unwrap();
    let stop = AtomicBool::new(false);
    let summary = replay(&drive.log, &drive.rig, pipeline, &options, tap, &stop, &mut |_, _, _| {}).unwrap();
    assert!(summary.ticks > warm_from, "{} ticks", summary.ticks);
    let stages = counts.stages.lock().unwrap();
    let warm = summary.ticks - warm_from;
    println!("allocations in {warm} warm ticks: {stages:?}");
    for stage in ["preprocess", "decode", "track", "fuse", "handoff", "plan"] {
        if let Some(count) = stages.get(stage) {
            assert_eq!(*count, 0, "stage {stage}, or the graph before it, allocates when it is warm");
        }
    }
    assert!(stages.len() >= 5);
}

/// Budgets that are missed by every tick cost the edge no memory either.
#[test]
fn deadlines_are_observed_without_allocating() {
    let budgets = Deadlines { tick_ms: Some(1.0), stages_ms: [("plan".to_owned(), 1.0)].into() };
    let (mut monitor, _) = Monitor::new(&budgets, &["unpack", "plan"]);
    let timing = |stage, start_ns, end_ns| TimingNote { stage, worker: 0, start_ns, end_ns };
    let late = [timing(0, 0, 1_000_000), timing(1, 1_000_000, 5_000_000)];
    let before = allocations();
    let missed: usize = (0..1000).map(|_| monitor.observe(0, &late).len()).sum();
    assert_eq!((allocations() - before, missed), (0, 2000));
}

#[test]
fn warm_stages_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(video) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    assert_none(&with_any_model(video, "models/yolox_nano.onnx").unwrap(), 60);
    let sequence = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()).unwrap();
    assert_none(&with_model(sequence, "models/yolox_nano.onnx").unwrap(), 6);
    let bus = drive(ImportKind::Comma2k19, "can/comma2k19/segment", folder.path()).unwrap();
    assert_none(&bus, 200);
}
