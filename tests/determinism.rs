//! The contract: a log gives the same bits at any number of workers, at any speed, under any load, live or replayed.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catseye::diff::{Verifier, diff, stateful_stages};
use catseye::log::import::ImportKind;
use catseye::replay::Pace;
use catseye::runtime::digest::digest_bytes;
use catseye::runtime::graph::Probe;
use catseye::stages::Tick;
use common::{Drive, Run, digests, drive, run, with_model};

const YOLOX: &str = "models/yolox_nano.onnx";

/// Delays every stage by a time that differs from stage to stage and tick to tick.
struct Delays {
    seed: u64,
    at_most_us: u64,
}

impl Probe<Tick> for Delays {
    fn before(&self, stage: &str, tick: u64) {
        let mixed = digest_bytes(&[stage.as_bytes(), &tick.to_le_bytes(), &self.seed.to_le_bytes()].concat());
        std::thread::sleep(Duration::from_micros(mixed % self.at_most_us));
    }
}

/// Keeps the processors busy until it is dropped.
struct Hog(Arc<AtomicBool>);

impl Hog {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Hog(stop)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_same_at_any_speed(drive: &Drive) {
    let (one, summary) = run(drive, Run::new(1));
    assert!(summary.ticks > 0 && !one[0].digests.is_empty());
    assert!(
        one.iter().all(|seen| seen.faults.is_empty()),
        "{:?}",
        one.iter().find(|seen| !seen.faults.is_empty()).map(|s| &s.faults)
    );
    for workers in [2, 4] {
        assert_eq!(digests(&run(drive, Run::new(workers)).0), digests(&one), "{workers} workers");
    }
    let hog = Hog::start();
    let mut delayed = Run::new(4);
    delayed.settings.probe = Some(Arc::new(Delays { seed: 7, at_most_us: 3000 }));
    assert_eq!(digests(&run(drive, delayed).0), digests(&one), "with delays, under load");
    drop(hog);
}

#[test]
fn a_video_gives_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    assert_same_at_any_speed(&with_model(drive, YOLOX).unwrap());
}

#[test]
fn camera_and_lidar_give_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()) else { return };
    assert_same_at_any_speed(&with_model(drive, YOLOX).unwrap());
}

#[test]
fn six_cameras_give_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::NuScenes, "lidar/nuscenes", folder.path()) else { return };
    assert_same_at_any_speed(&with_model(drive, YOLOX).unwrap());
}

#[test]
fn kitti_frames_give_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Kitti, "lidar/kitti", folder.path()) else { return };
    assert_same_at_any_speed(&with_model(drive, YOLOX).unwrap());
}

#[test]
fn a_bus_gives_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Comma2k19, "can/comma2k19/segment", folder.path()) else { return };
    assert_same_at_any_speed(&drive);
}

#[test]
fn a_planted_bit_is_named() {
    struct Plant;
    impl Probe<Tick> for Plant {
        fn after(&self, stage: &str, tick: u64, payload: &mut Tick) {
            if stage == "track" && tick == 5 {
                let tracks = &mut payload.cameras[0].tracks.tracks;
                tracks[0].box_px.left = f32::from_bits(tracks[0].box_px.left.to_bits() ^ 1);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()) else { return };
    let drive = with_model(drive, YOLOX).unwrap();
    let (good, bad) = (folder.path().join("good.mcap"), folder.path().join("bad.mcap"));
    run(&drive, Run { out: Some(good.clone()), ..Run::new(2) });
    let mut planted = Run { out: Some(bad.clone()), ..Run::new(2) };
    planted.settings.probe = Some(Arc::new(Plant));
    run(&drive, planted);
    assert!(diff(&good, &good).unwrap().is_equal());
    let comparison = diff(&good, &bad).unwrap();
    let first = comparison.first.clone().unwrap();
    assert_eq!(
        (first.tick, first.stage.as_str(), first.field.as_str()),
        (5, "track", "front.tracks"),
        "{comparison:?}"
    );
    assert!(first.element.unwrap().contains("left"), "the element is named");
    assert_eq!(comparison.stages["track"], 1);
}

#[test]
fn an_overloaded_run_replays_to_its_own_bits() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    let drive = with_model(drive, YOLOX).unwrap();
    let out = folder.path().join("live.mcap");
    let mut live = Run { out: Some(out.clone()), record: true, ..Run::new(2) };
    // five times real time is more than any network of this kind does here
    live.options.pace = Pace::Times(10.0);
    let (seen, summary) = run(&drive, live);
    assert!(summary.drops.get("overload").is_some_and(|drops| *drops > 10), "{:?}", summary.drops);
    assert!(summary.ticks > 3);
    // the recording stands alone: sensors, decisions and digests are in it
    let recorded = common::opened(out.clone());
    let recorded = Drive { rig: drive.rig.clone(), ..recorded };
    let comparison = Arc::new(std::sync::Mutex::new(None));
    let handle = Arc::clone(&comparison);
    let mut again = Run::new(1);
    again.options.decisions = Some(out.clone());
    again.sinks.push(Box::new(move |names| {
        let (verifier, result) = Verifier::open(&out, names.clone(), Default::default(), true).unwrap();
        *handle.lock().unwrap() = Some(result);
        Box::new(verifier)
    }));
    let (replayed, summary) = run(&recorded, again);
    assert_eq!(digests(&replayed), digests(&seen));
    assert!(summary.drops.is_empty());
    let comparison = comparison.lock().unwrap().take().unwrap();
    let comparison = comparison.lock().unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
}

#[test]
fn a_range_and_a_cut_log_verify_from_the_nearest_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    let drive = with_model(drive, YOLOX).unwrap();
    let whole = folder.path().join("whole.mcap");
    let (seen, _) = run(&drive, Run { out: Some(whole.clone()), ..Run::new(2) });

    let mut range = Run::new(2);
    range.options.decisions = Some(whole.clone());
    range.options.range = Some((110, 130));
    let (part, summary) = run(&drive, range);
    assert_eq!(summary.restored_after, Some(99));
    assert_eq!(part.last().unwrap().tick, 130);
    assert_eq!(digests(&part), digests(&seen)[100..=130]);

    // a power loss in the middle
    let bytes = std::fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.mcap");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let mut from_cut = Run::new(2);
    from_cut.options.decisions = Some(cut.clone());
    from_cut.options.range = Some((60, 1_000_000));
    let (part, summary) = run(&drive, from_cut);
    assert_eq!(summary.restored_after, Some(49));
    assert!(part.len() > 20 && part.len() < 200, "{}", part.len());
    assert_eq!(digests(&part), digests(&seen)[50..50 + part.len()]);

    // without a snapshot the stateless stages verify, and the others are named
    let bare = folder.path().join("bare.mcap");
    let mut no_snapshots = Run { out: Some(bare.clone()), ..Run::new(2) };
    no_snapshots.settings.snapshot_every = 0;
    run(&drive, no_snapshots);
    let mut range = Run::new(1);
    range.options.decisions = Some(bare.clone());
    range.options.range = Some((100, 120));
    let result = Arc::new(std::sync::Mutex::new(None));
    let handle = Arc::clone(&result);
    range.sinks.push(Box::new(move |names| {
        let (verifier, result) = Verifier::open(&bare, names.clone(), stateful_stages(names), false).unwrap();
        *handle.lock().unwrap() = Some(result);
        Box::new(verifier)
    }));
    let (part, summary) = run(&drive, range);
    assert!(summary.without_state);
    assert_eq!(part.len(), 21);
    let comparison = result.lock().unwrap().take().unwrap();
    let comparison = comparison.lock().unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    assert!(comparison.left_out.contains_key("track") && comparison.left_out.contains_key("fuse"));
}
