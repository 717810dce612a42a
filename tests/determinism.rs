//! The contract: a log gives the same bits at any number of workers, at any speed, under any load, live or replayed.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catseye::diff::{Verifier, diff, stateful_stages};
use catseye::log::Channel;
use catseye::log::import::ImportKind;
use catseye::log::packet::picture_message;
use catseye::log::writer::{Compression, LogWriter};
use catseye::messages::ImuSample;
use catseye::record::Record;
use catseye::replay::Pace;
use catseye::runtime::digest::digest_bytes;
use catseye::runtime::graph::Probe;
use catseye::stages::Tick;
use catseye_calibration::rig::{PictureFormat, Rig, Sensor};
use common::{Drive, Run, digests, drive, run, with_any_model, with_model};
use foxglove::messages::CompressedImage;

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
    assert_same_at_any_speed(&with_any_model(drive, YOLOX).unwrap());
}

#[test]
fn camera_and_lidar_give_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()) else { return };
    assert_same_at_any_speed(&with_any_model(drive, YOLOX).unwrap());
}

#[test]
fn six_cameras_give_the_same_bits_at_any_speed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::NuScenes, "lidar/nuscenes", folder.path()) else { return };
    assert_same_at_any_speed(&with_any_model(drive, YOLOX).unwrap());
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
    let drive = with_any_model(drive, YOLOX).unwrap();
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
    let drive = with_any_model(drive, YOLOX).unwrap();
    let out = folder.path().join("live.mcap");
    let mut live = Run { out: Some(out.clone()), record: true, ..Run::new(2) };
    // five times real time is more than any network of this kind does here
    live.options.pace = Pace::Times(10.0);
    let (seen, summary) = run(&drive, live);
    let live_drops = summary.drops.clone();
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
    assert_eq!(summary.drops, live_drops, "what was dropped live is dropped again, and written down again");
    let comparison = comparison.lock().unwrap().take().unwrap();
    let comparison = comparison.lock().unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
}

#[test]
fn a_range_and_a_cut_log_verify_from_the_nearest_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    let drive = with_any_model(drive, YOLOX).unwrap();
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

/// Two cameras, an inertial unit: the second camera misses pictures, the unit's samples come up to a second late.
fn patchy_drive(folder: &Path) -> Drive {
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras[0].format = PictureFormat::Png;
    let mut second = rig.cameras[0].clone();
    second.name = "second".into();
    second.topic = "/camera/second/image".into();
    rig.cameras.push(second);
    let mounting = rig.cameras[0].mounting;
    rig.imus.push(Sensor { name: "imu".into(), topic: "/imu/imu/data".into(), rate_hz: 10.0, mounting });
    let path = folder.join("patchy.mcap");
    let mut log = LogWriter::create(&path, Compression::Zstd).unwrap();
    log.attach("rig.toml", "application/toml", rig.to_toml().as_bytes()).unwrap();
    let mut picture = Vec::new();
    let mut encoder = png::Encoder::new(&mut picture, 64, 48);
    encoder.set_color(png::ColorType::Rgb);
    // noise, so that the pictures make the log longer than what compression takes at once
    let noise: Vec<u8> = (0..64 * 48 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&noise).unwrap();
    let mut messages: Vec<(i64, i64, usize)> = Vec::new();
    for tick in 0..60i64 {
        let stamp_ms = 1000 + 100 * tick;
        messages.push((stamp_ms + 20, stamp_ms, 0));
        if tick % 3 != 1 {
            messages.push((stamp_ms + 25, stamp_ms + 4, 1));
        }
        // within the horizon, and later behind it
        let delay_ms = if tick >= 30 { 900 } else { 30 * (tick % 5) };
        messages.push((stamp_ms + delay_ms, stamp_ms, 2));
    }
    messages.sort_unstable();
    let mut newest_imu_ms = 0;
    let channels: Vec<_> = rig
        .sensors()
        .map(|sensor| {
            let channel = match sensor.id {
                2 => Channel::of_record::<ImuSample>(sensor.topic),
                _ => Channel::of_foxglove::<CompressedImage>(sensor.topic),
            };
            log.channel(&channel).unwrap()
        })
        .collect();
    for (arrival_ms, stamp_ms, sensor) in messages {
        let (arrival_ns, stamp_ns) = (arrival_ms * 1_000_000, stamp_ms * 1_000_000);
        if sensor < 2 {
            let message = picture_message(picture.clone(), "png", stamp_ns, "camera");
            log.write_foxglove(channels[sensor], arrival_ns, stamp_ns, &message).unwrap();
        } else if stamp_ms > newest_imu_ms {
            newest_imu_ms = stamp_ms;
            let sample =
                ImuSample { angular_velocity_radps: [0.0, 0.0, stamp_ms as f64 * 1e-5], ..ImuSample::default() };
            let mut bytes = Vec::new();
            sample.encode(&mut bytes);
            log.write(channels[sensor], arrival_ns, stamp_ns, &bytes).unwrap();
        }
    }
    log.finish().unwrap();
    common::opened(path)
}

#[test]
fn missing_pictures_and_late_samples_change_nothing_from_run_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let drive = patchy_drive(folder.path());
    let out = folder.path().join("run.mcap");
    let (one, summary) = run(&drive, Run { out: Some(out.clone()), record: true, ..Run::new(1) });
    assert!(summary.ticks >= 59 && one.iter().all(|seen| seen.faults.is_empty()));
    assert!(summary.drops.get("late for the filter").is_some_and(|late| *late > 0), "{:?}", summary.drops);
    // slots are used again in another rhythm when there are more of them: nothing of an old tick may be seen
    for lanes in [2, 3, 5] {
        assert_eq!(digests(&run(&drive, Run::new(lanes)).0), digests(&one), "{lanes} lanes");
    }
    let recorded = common::opened(out.clone());
    let mut again = Run::new(2);
    again.options.decisions = Some(out.clone());
    assert_eq!(digests(&run(&recorded, again).0), digests(&one));

    // cut off anywhere, the recording replays up to the cut
    let bytes = std::fs::read(&out).unwrap();
    let mut in_the_middle = 0;
    for part in 4..16 {
        let cut = folder.path().join("cut.mcap");
        std::fs::write(&cut, &bytes[..bytes.len() * part / 16]).unwrap();
        let recorded = common::opened(cut.clone());
        let mut again = Run::new(2);
        again.options.decisions = Some(cut.clone());
        let (seen, _) = run(&recorded, again);
        in_the_middle += usize::from(!seen.is_empty() && seen.len() < one.len());
        assert_eq!(digests(&seen), digests(&one)[..seen.len()], "{part} sixteenths");
    }
    assert!(in_the_middle > 0, "no cut fell between the ticks");
}

#[test]
fn the_log_of_a_range_replays_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let drive = patchy_drive(folder.path());
    let (whole, part) = (folder.path().join("whole.mcap"), folder.path().join("part.mcap"));
    run(&drive, Run { out: Some(whole.clone()), ..Run::new(1) });
    let mut range = Run { out: Some(part.clone()), ..Run::new(1) };
    range.options.decisions = Some(whole);
    range.options.range = Some((30, 40));
    let (seen, summary) = run(&drive, range);
    assert_eq!(summary.restored_after, Some(24));
    let mut again = Run::new(2);
    again.options.decisions = Some(part);
    let (replayed, summary) = run(&drive, again);
    assert_eq!(summary.restored_after, Some(24));
    assert_eq!(digests(&replayed), digests(&seen));
}
