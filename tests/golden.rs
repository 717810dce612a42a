//! Logs of every schema version, written once and committed: they stay readable, and what is exact keeps its bits.
//!
//! `tests/golden/vN_*.mcap` were written by `catseye replay` at schema version N, from six flat grey pictures. They are never
//! written again; a new schema version gets files of its own.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

use catseye::diff::Verifier;
use catseye::log::reader::{Ending, LogReader};
use catseye::log::run::RunReader;
use catseye::messages::SCHEMA_VERSION;
use common::{Drive, Run, run};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

#[test]
fn every_version_is_read_record_by_record() {
    (1..=SCHEMA_VERSION).for_each(read_record_by_record);
}

fn read_record_by_record(version: u32) {
    let path = golden(&format!("v{version}_detections.mcap"));
    let stages = RunReader::stages(&path).unwrap();
    let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["unpack", "preprocess", "infer", "decode", "track", "fuse", "handoff", "plan"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let mut reader = RunReader::open(&path, names.iter().map(|name| (*name).to_owned()).collect()).unwrap();
    let (mut ticks, mut seen) = (0, Vec::new());
    while let Some(output) = reader.next().unwrap() {
        assert_eq!(output.decision.tick, ticks);
        assert_eq!(output.decision.reference_ns, 1_000_000_000 + ticks as i64 * 100_000_000);
        assert_eq!(output.decision.runs.len(), 1);
        assert!(output.faults.is_empty() && !output.digests.is_empty() && output.timings.len() == 8);
        let body = output.body.unwrap();
        assert_eq!((body.detections.len(), body.tracks.len()), (1, 1));
        assert_eq!((body.world.tick, body.plan.tick), (ticks, ticks));
        seen.extend(body.detections[0].objects.iter().map(|object| (ticks, object.class, object.score)));
        ticks += 1;
    }
    assert_eq!(ticks, 6);
    // the two bright pictures
    assert_eq!(seen.iter().map(|object| (object.0, object.1)).collect::<Vec<_>>(), [(3, 0), (4, 0)]);
    assert!(seen.iter().all(|object| (object.2 - 0.8618).abs() < 1e-3), "{seen:?}");
    let (drops, accounts) = reader.rest();
    assert!(drops.is_empty());
    assert_eq!((accounts[0].name.as_str(), accounts[0].produced, accounts[0].consumed), ("front", 6, 6));
}

#[test]
fn every_version_replays_to_its_bits() {
    (1..=SCHEMA_VERSION).for_each(replay_to_its_bits);
}

fn replay_to_its_bits(version: u32) {
    let path = golden(&format!("v{version}_pictures.mcap"));
    let drive: Drive = common::opened(path.clone());
    let result = Arc::new(Mutex::new(None));
    let handle = Arc::clone(&result);
    let mut again = Run::new(2);
    again.settings.digests = catseye::pipeline::DigestLevel::Outputs;
    again.options.decisions = Some(path.clone());
    again.sinks.push(Box::new(move |names| {
        let (verifier, comparison) = Verifier::open(&path, names.clone(), Default::default(), true).unwrap();
        *handle.lock().unwrap() = Some(comparison);
        Box::new(verifier)
    }));
    let (seen, _) = run(&drive, again);
    assert_eq!(seen.len(), 6);
    let comparison = result.lock().unwrap().take().unwrap();
    let comparison = comparison.lock().unwrap();
    assert!(comparison.is_equal() && comparison.digests > 100, "{comparison:?}");
}

#[test]
fn every_version_up_to_ours_has_its_logs() {
    for version in 1..=SCHEMA_VERSION {
        for kind in ["pictures", "detections"] {
            let mut reader = LogReader::open(&golden(&format!("v{version}_{kind}.mcap"))).unwrap();
            while reader.next().unwrap().is_some() {}
            assert_eq!(reader.ending(), Some(&Ending::Complete));
        }
    }
}
