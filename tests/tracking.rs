//! Tracking as a whole: the measures against the figures of py-motmetrics and TrackEval, and the tracker against the
//! reference SORT.

use std::path::PathBuf;

use catseye::eval::hota;
use catseye::eval::mot::{self, MotBox, MotFrames, MotMetrics};
use catseye::messages::{BoxPx, CameraDetections, CameraTrack, CameraTracks, Detection, TrackState};
use catseye::stages::track::{CameraTracker, TrackerSettings};

const SEQUENCES: [&str; 2] = ["TUD-Campus", "TUD-Stadtmitte"];
const MAX_DISTANCE: f64 = 0.5;
/// 25 pictures a second.
const PERIOD_NS: i64 = 40_000_000;

/// The folder of real data, where there is one.
fn data() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
    if !folder.is_dir() {
        eprintln!("skipped: ../shared is absent");
        return None;
    }
    Some(folder)
}

fn read_all(file: PathBuf) -> MotFrames {
    mot::read(&file, f64::NEG_INFINITY).unwrap()
}

fn truth(data: &std::path::Path, sequence: &str) -> MotFrames {
    mot::read(&data.join("tracking/motmetrics").join(sequence).join("gt.txt"), 1.0).unwrap()
}

#[test]
fn measures_agree_with_py_motmetrics() {
    let Some(data) = data() else { return };
    let text = std::fs::read_to_string(data.join("reference/mot_motmetrics.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
    for sequence in SEQUENCES {
        let tracks = read_all(data.join("tracking/motmetrics").join(sequence).join("test.txt"));
        let found = mot::evaluate(&truth(&data, sequence), &tracks, MAX_DISTANCE).unwrap();
        let pairs = [
            ("mota", found.mota),
            ("motp", found.motp),
            ("idf1", found.idf1),
            ("idp", found.idp),
            ("idr", found.idr),
            ("num_switches", found.switches as f64),
            ("num_false_positives", found.false_positives as f64),
            ("num_misses", found.misses as f64),
            ("mostly_tracked", found.mostly_tracked as f64),
            ("mostly_lost", found.mostly_lost as f64),
            ("num_fragmentations", found.fragmentations as f64),
        ];
        for (key, value) in pairs {
            let expected = reference[sequence][key].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-9, "{sequence}, {key}: expected {expected}, found {value}");
        }
    }
}

/// HOTA, DetA, AssA, LocA, HOTA(0) and LocA(0) of `test.txt` against `gt.txt`, by `trackeval.metrics.HOTA` of TrackEval
/// 1.3.0 (PyPI; numpy 2.4.6, scipy 1.17.1). It was given the overlaps of the boxes as they stand in the files and the
/// rows of the truth with a confidence of at least 1, which are all 359 and 1156; no row is left out for its class.
const TRACK_EVAL: [(&str, [f64; 6]); 2] = [
    ("TUD-Campus", [0.391397437845, 0.418047030143, 0.369120681208, 0.770052227022, 0.549351167667, 0.702803103988]),
    (
        "TUD-Stadtmitte",
        [0.397849016993, 0.392267572369, 0.408840751811, 0.737521177178, 0.629305488453, 0.633085285832],
    ),
];

#[test]
fn hota_agrees_with_track_eval() {
    let Some(data) = data() else { return };
    for (sequence, expected) in TRACK_EVAL {
        let tracks = read_all(data.join("tracking/motmetrics").join(sequence).join("test.txt"));
        let found = hota::evaluate(&truth(&data, sequence), &tracks).unwrap();
        let values = [found.hota, found.det_a, found.ass_a, found.loc_a, found.hota_0, found.loc_a_0];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{sequence}: expected {expected}, found {value}");
        }
    }
}

/// Of two simulated drives, `demo` and `random-104`, in `tests/tracks` as `catseye demo --scenario NAME` and then
/// `catseye eval RUN --truth DRIVE --mot FOLDER` wrote them: MOTA, MOTP, IDF1, IDP, IDR, switches, false positives, misses, mostly
/// tracked, mostly lost and fragmentations by py-motmetrics 1.4.0; HOTA, DetA, AssA, LocA, HOTA(0) and LocA(0) by
/// `trackeval.metrics.HOTA` of TrackEval 1.0.0 (PyPI; numpy 1.26.4, scipy 1.17.1).
const SIMULATED: [(&str, [f64; 11], [f64; 6]); 2] = [
    (
        "demo",
        [
            0.8625792811839323,
            0.14397565602228163,
            0.9232505643340858,
            0.9903147699757869,
            0.864693446088795,
            1.0,
            2.0,
            62.0,
            11.0,
            0.0,
            4.0,
        ],
        [
            0.7782085252648613,
            0.7230650132449865,
            0.8508064553865478,
            0.875169925804427,
            0.8987460715973848,
            0.8515560468852037,
        ],
    ),
    (
        "random-104",
        [
            0.675531914893617,
            0.128619532305736,
            0.7622014537902388,
            0.9197994987468672,
            0.650709219858156,
            40.0,
            7.0,
            502.0,
            17.0,
            11.0,
            28.0,
        ],
        [
            0.6579167224198972,
            0.6068549883653176,
            0.7186069469807626,
            0.885999276584305,
            0.7421083071981986,
            0.8685261728058773,
        ],
    ),
];

#[test]
fn both_agree_on_simulated_drives() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tracks"));
    for (drive, of_motmetrics, of_track_eval) in SIMULATED {
        let truth = mot::read(&folder.join(drive).join("gt.txt"), 1.0).unwrap();
        let tracks = read_all(folder.join(drive).join("tracks.txt"));
        let found = mot::evaluate(&truth, &tracks, MAX_DISTANCE).unwrap();
        let counts = [
            found.switches,
            found.false_positives,
            found.misses,
            found.mostly_tracked,
            found.mostly_lost,
            found.fragmentations,
        ];
        let ratios = [found.mota, found.motp, found.idf1, found.idp, found.idr];
        let values = ratios.into_iter().chain(counts.map(|count| count as f64));
        for (value, expected) in values.zip(of_motmetrics) {
            assert!((value - expected).abs() < 1e-9, "{drive}: expected {expected}, found {value}");
        }
        let found = hota::evaluate(&truth, &tracks).unwrap();
        let values = [found.hota, found.det_a, found.ass_a, found.loc_a, found.hota_0, found.loc_a_0];
        for (value, expected) in values.iter().zip(of_track_eval) {
            assert!((value - expected).abs() < 1e-6, "{drive}: expected {expected}, found {value}");
        }
    }
}

fn detection(row: &MotBox) -> Detection {
    let box_px = BoxPx {
        left: row.left as f32,
        top: row.top as f32,
        right: (row.left + row.width) as f32,
        bottom: (row.top + row.height) as f32,
    };
    Detection { box_px, score: row.confidence as f32, class: 0 }
}

fn row(track: &CameraTrack) -> MotBox {
    MotBox {
        id: i64::from(track.id),
        left: f64::from(track.box_px.left),
        top: f64::from(track.box_px.top),
        width: f64::from(track.box_px.width()),
        height: f64::from(track.box_px.height()),
        confidence: 1.0,
    }
}

/// The boxes of believed tracks in the frames that show them, which is what SORT reports.
fn track(detections: &MotFrames) -> MotFrames {
    let mut tracker = CameraTracker::new(TrackerSettings::default());
    let mut out = CameraTracks::default();
    let mut frames = MotFrames::new();
    let last = detections.keys().copied().max().unwrap_or(0);
    for frame in 1..=last {
        let seen = CameraDetections {
            present: true,
            stamp_ns: i64::from(frame) * PERIOD_NS,
            objects: detections.get(&frame).into_iter().flatten().map(detection).collect(),
            ..CameraDetections::default()
        };
        tracker.update(&seen, &mut out);
        let believed = out.tracks.iter().filter(|track| track.state == TrackState::Confirmed).map(row).collect();
        frames.insert(frame, believed);
    }
    frames
}

#[test]
fn the_tracker_is_not_behind_sort() {
    let Some(data) = data() else { return };
    for sequence in SEQUENCES {
        let folder = data.join("tracking/mot15_sort").join(sequence);
        let truth = truth(&data, sequence);
        let measure = |tracks: &MotFrames| -> MotMetrics { mot::evaluate(&truth, tracks, MAX_DISTANCE).unwrap() };
        let ours = measure(&track(&read_all(folder.join("det.txt"))));
        let sort = measure(&read_all(folder.join("sort_reference_output.txt")));
        eprintln!(
            "{sequence}: MOTA {:.4} and IDF1 {:.4}, SORT {:.4} and {:.4}",
            ours.mota, ours.idf1, sort.mota, sort.idf1
        );
        assert!(ours.mota >= sort.mota, "{sequence}: MOTA {} is below SORT's {}", ours.mota, sort.mota);
        assert!(ours.idf1 >= sort.idf1, "{sequence}: IDF1 {} is below SORT's {}", ours.idf1, sort.idf1);
    }
}

#[test]
fn two_runs_are_the_same() {
    let Some(data) = data() else { return };
    let detections = read_all(data.join("tracking/mot15_sort/KITTI-17/det.txt"));
    assert_eq!(track(&detections), track(&detections));
}
