//! No stage of ours allocates once it is warm: counted per stage, by an allocator that watches the worker's thread.
//!
//! What the inference engine and the picture decoders allocate inside `infer` and `unpack` is counted apart and printed.

#![allow(unsafe_code)] // a global allocator cannot be written without

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use catseye::log::import::ImportKind;
use catseye::pipeline::DigestLevel;
use catseye::runtime::graph::Probe;
use catseye::stages::Tick;
use common::{Drive, Run, drive, run, with_model};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a thread-local cell that needs
// no destructor and no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of each stage in warm ticks, and of what the graph does between stages (digests, notes).
#[derive(Default)]
struct Counts {
    warm_from: u64,
    before: Mutex<u64>,
    stages: Mutex<BTreeMap<String, u64>>,
}

impl Probe<Tick> for Counts {
    fn before(&self, _: &str, _: u64) {
        *self.before.lock().unwrap() = ALLOCATIONS.with(Cell::get);
    }

    fn after(&self, stage: &str, tick: u64, _: &mut Tick) {
        let spent = ALLOCATIONS.with(Cell::get) - *self.before.lock().unwrap();
        if tick >= self.warm_from {
            let mut stages = self.stages.lock().unwrap();
            match stages.get_mut(stage) {
                Some(count) => *count += spent,
                None => {
                    stages.insert(stage.to_owned(), spent);
                }
            }
        }
    }
}

fn assert_none(drive: &Drive, warm_from: u64) {
    let counts = Arc::new(Counts { warm_from, ..Counts::default() });
    let mut watched = Run::new(1);
    watched.settings.snapshot_every = 0;
    watched.settings.digests = DigestLevel::All;
    watched.settings.probe = Some(counts.clone());
    let (_, summary) = run(drive, watched);
    assert!(summary.ticks > warm_from, "{} ticks", summary.ticks);
    let stages = counts.stages.lock().unwrap();
    let warm = summary.ticks - warm_from;
    println!("allocations in {warm} warm ticks: {stages:?}");
    for stage in ["preprocess", "decode", "track", "fuse", "handoff", "plan"] {
        if let Some(count) = stages.get(stage) {
            assert_eq!(*count, 0, "stage {stage} allocates when it is warm");
        }
    }
    assert!(stages.len() >= 5);
}

#[test]
fn warm_stages_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(video) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    assert_none(&with_model(video, "models/yolox_nano.onnx").unwrap(), 60);
    let sequence = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()).unwrap();
    assert_none(&with_model(sequence, "models/yolox_nano.onnx").unwrap(), 6);
    let bus = drive(ImportKind::Comma2k19, "can/comma2k19/segment", folder.path()).unwrap();
    assert_none(&bus, 200);
}
