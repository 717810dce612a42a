//! Live sensors, recorded while they run: the recording is complete, and replays by the run's decisions to the run's bits.
//!
//! The sensor is a lidar whose packets come over a real socket. Cameras and CAN buses need a kernel that has them: see
//! `tests/vm`.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use catseye::live::{Live, LiveError, LiveOptions, Recording};
use catseye::log::completeness::{self, Verdict};
use catseye::log::recorder::{self, manifest::Ending};
use catseye::pipeline::{Files, Pipeline};
use catseye::realtime::Footing;
use catseye::realtime::pulse::Pulse;
use catseye::replay::{Options, run_live};
use catseye_calibration::rig::Rig;
use catseye_sensors::packet::{ClockId, StampKind};
use common::lidar::{rig_with_lidar, send};
use common::{Run, Seen, digests, opened, run, run_on};

fn live_options(to_pipeline: bool, folder: Option<&Path>, seconds: f64) -> LiveOptions {
    LiveOptions {
        stop: Box::leak(Box::new(AtomicBool::new(false))),
        duration: Some(Duration::from_secs_f64(seconds)),
        to_pipeline,
        recording: folder.map(|folder| Recording {
            folder: folder.to_owned(),
            name: "drive".to_owned(),
            options: recorder::Options { min_free_bytes: 0, ..recorder::Options::default() },
        }),
        tell: Arc::new(|_, _| {}),
        footing: Footing::default(),
        pulse: Pulse::default(),
    }
}

#[test]
fn a_live_run_replays_from_its_recording_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, sender) = rig_with_lidar("VLP-16");
    let Run { settings, .. } = Run::new(2);
    let pipeline = Pipeline::build(&rig, &Files::new(), settings).unwrap();
    let (live, source) = Live::start(&rig, &Files::new(), live_options(true, Some(folder.path()), 2.0)).unwrap();
    let sending = send(sender, 1.6);
    let log = folder.path().join("run.mcap");
    let (seen, summary): (Vec<Seen>, _) = run_on(&rig, &Files::new(), pipeline, Some(&log), |pipeline, tap| {
        let options = Options { workers: 2, ..Options::default() };
        run_live(source, &rig, pipeline, &options, tap, &AtomicBool::new(false), &mut |_, _, _| {})
    });
    let report = live.finish();
    let sent = sending.join().unwrap();

    let counts = &report.sensors["roof"];
    println!("{sent} packets, {counts:?}, {} ticks", summary.ticks);
    assert!(counts.sent >= 5, "{counts:?}");
    assert_eq!((counts.refused, counts.not_recorded, counts.edge_full), (0, 0, 0));
    let recording = report.recording.unwrap();
    assert_eq!(recording.manifest.ending, Ending::Stopped);
    for subject in completeness::subjects(&[folder.path().join("drive.manifest.json")]).unwrap() {
        let checked = completeness::check(&subject, &mut |_, _| {});
        assert_eq!(checked.verdict(), Verdict::Complete, "{checked:?}");
    }

    let mut again = Run::new(1);
    again.options.decisions = Some(log);
    let (replayed, _) = run(&opened(folder.path().join("drive_0000.mcap")), again);
    assert!(!seen.is_empty());
    assert_eq!(digests(&replayed), digests(&seen));
    let points =
        |seen: &Seen| seen.digests.iter().any(|stage| stage.fields.iter().any(|f| f.field.ends_with("points")));
    assert!(seen.iter().any(points), "no tick saw a scan");
}

#[test]
fn recording_alone_needs_no_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, sender) = rig_with_lidar("VLP-16");
    let (live, source) = Live::start(&rig, &Files::new(), live_options(false, Some(folder.path()), 1.0)).unwrap();
    drop(source);
    send(sender, 0.8).join().unwrap();
    let report = live.finish();
    assert!(report.sensors["roof"].sent >= 3, "{report:?}");
    let timing = report.timing["roof"];
    assert_eq!((timing.clock, timing.kind), (ClockId::Sensor, StampKind::ExposureStart));
    // a scan arrives when it is whole
    assert!(timing.report.is_some() && timing.latency_ns[0] > 50_000_000, "{timing:?}");
    let drive = opened(folder.path().join("drive_0000.mcap"));
    assert_eq!(drive.rig, rig);
}

#[test]
fn what_cannot_be_live_is_told_at_the_start() {
    let refused = |rig: &Rig| match Live::start(rig, &Files::new(), live_options(true, None, 0.1)) {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    };
    let (rig, _sender) = rig_with_lidar("HDL-64E");
    assert!(refused(&rig).contains("sensor roof: expected a lidar whose model is VLP-16"), "{}", refused(&rig));
    let (mut rig, _sender) = rig_with_lidar("VLP-16");
    rig.sources.insert("roof".to_owned(), "tcp://1.2.3.4:5".to_owned());
    assert!(refused(&rig).contains("expected an address as \"udp://0.0.0.0:2368\""), "{}", refused(&rig));
    rig.sources.clear();
    assert!(matches!(Live::start(&rig, &Files::new(), live_options(true, None, 0.1)), Err(LiveError::NoSource { .. })));
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Nv12;
    rig.sources.insert("front".to_owned(), "/dev/no-such-camera".to_owned());
    assert!(refused(&rig).contains("sensor front: "), "{}", refused(&rig));
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Png;
    assert!(refused(&rig).contains("expected a camera whose format is jpeg, nv12"), "{}", refused(&rig));
}
