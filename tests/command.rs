//! The command on input that is wrong, cut, damaged or interrupted: a clear error, and nothing lost or half-written.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use catseye::log::Channel;
use catseye::log::packet::{StampInfo, picture_message};
use catseye::log::reader::{Ending, Event, LogReader, Message};
use catseye::log::recorder::priority::{Offer, Priority, SensorMessage};
use catseye::log::recorder::{Options, Preamble, Recorder};
use catseye::log::writer::{Compression, LogWriter};
use catseye_calibration::rig::{PictureFormat, Rig};
use common::onnx::{ANCHORS, block, constant_yolox, node, onnx, value};
use foxglove::messages::CompressedImage;

fn catseye(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_catseye")).args(arguments).current_dir(folder).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The one JSON object that the command printed.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// Asserts that the command failed with words that hold all of `parts`, line breaks and frames aside.
fn assert_fails(output: &Output, parts: &[&str]) {
    let found = text(output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    let flat: String =
        found.split_whitespace().filter(|word| !["│", "×", "├─▶", "╰─▶"].contains(word)).collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(flat.contains(part), "expected {part:?} in: {found}");
    }
    assert!(!found.contains("panicked"), "{found}");
}

fn png(seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Rgb);
    // noise, so that logs of a few pictures are larger than a chunk although they are compressed
    let mut state = u64::from(seed) + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let pixels: Vec<u8> = (0..64 * 48 * 3u32).map(|_| noise()).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// A folder of small pictures.
fn pictures(folder: &Path, count: u32) -> PathBuf {
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    for i in 0..count {
        std::fs::write(pictures.join(format!("{i:05}.png")), png(i as u8)).unwrap();
    }
    pictures
}

/// A log of pictures with these stamps (milliseconds), all arriving 100 ms apart.
fn log_with_stamps(path: &Path, stamps_ms: &[i64]) {
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras[0].format = PictureFormat::Png;
    let mut log = LogWriter::create(path, Compression::Zstd).unwrap();
    log.attach("rig.toml", "application/toml", rig.to_toml().as_bytes()).unwrap();
    let mut channel = Channel::of_foxglove::<CompressedImage>(&rig.cameras[0].topic);
    StampInfo::SYNTHETIC.describe(&mut channel);
    let channel = log.channel(&channel).unwrap();
    for (i, stamp_ms) in stamps_ms.iter().enumerate() {
        let stamp_ns = stamp_ms * 1_000_000;
        let message = picture_message(png(i as u8), "png", stamp_ns, "front");
        log.write_foxglove(channel, (1000 + 100 * i as i64) * 1_000_000, stamp_ns, &message).unwrap();
    }
    log.finish().unwrap();
}

#[test]
fn pictures_replay_verify_and_report() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 12);
    let output = catseye(folder.path(), &["replay", "pictures", "--video", "--frames", "--trace", "trace.json"]);
    assert!(output.status.success(), "{}", text(&output));
    let out = folder.path().join("catseye-out/pictures");
    for file in ["drive.mcap", "run.mcap", "report.html", "overlay.avi"] {
        assert!(out.join(file).metadata().is_ok_and(|m| m.len() > 100), "{file} is missing");
    }
    assert!(
        text(&output).trim_end().lines().rev().take(6).any(|line| line.ends_with("report.html")),
        "{}",
        text(&output)
    );
    let trace: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
    assert!(trace.as_array().or(trace["traceEvents"].as_array()).is_some_and(|events| events.len() > 12));
    let verified = catseye(
        folder.path(),
        &[
            "replay",
            "catseye-out/pictures/drive.mcap",
            "--verify",
            "catseye-out/pictures/run.mcap",
            "--output-dir",
            "again",
            "--json",
        ],
    );
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    let json: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(json["ticks"], 12);
    assert_eq!(json["comparison"]["first"], serde_json::Value::Null);
    assert!(json["comparison"]["digests"].as_u64().unwrap() >= 12);
    let differs = catseye(folder.path(), &["diff", "again/verify.mcap", "catseye-out/pictures/drive.mcap"]);
    assert_eq!(differs.status.code(), Some(3), "a log without digests is not equal to anything");
    let info = catseye(folder.path(), &["info", "again/verify.mcap", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(json["run"]["ticks"], 12);
    assert_eq!(json["complete"], true);
}

#[test]
fn what_is_not_there_or_no_recording_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_fails(&catseye(folder.path(), &["replay", "nothing.mp4"]), &["nothing.mp4", "no such file"]);
    std::fs::write(folder.path().join("notes.txt"), "hello").unwrap();
    assert_fails(&catseye(folder.path(), &["replay", "notes.txt"]), &["notes.txt"]);
    std::fs::write(folder.path().join("broken.mp4"), b"not a video at all").unwrap();
    assert_fails(&catseye(folder.path(), &["replay", "broken.mp4"]), &["broken.mp4"]);
    assert!(!folder.path().join("catseye-out/broken/drive.mcap").exists());
    assert_fails(&catseye(folder.path(), &["info", "notes.txt"]), &["expected an MCAP file"]);
}

#[test]
fn a_cut_log_replays_to_its_end_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    let stamps: Vec<i64> = (0..200).map(|i| 1000 + 100 * i).collect();
    log_with_stamps(&path, &stamps);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(folder.path().join("cut.mcap"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    let cut = catseye(folder.path(), &["replay", "cut.mcap", "--json"]);
    assert!(cut.status.success(), "{}", text(&cut));
    let json: serde_json::Value = serde_json::from_slice(&cut.stdout).unwrap();
    assert!(json["missing"].as_str().unwrap().contains("cut off"));
    assert!(json["ticks"].as_u64().is_some_and(|ticks| ticks > 20 && ticks < 200), "{json}");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    std::fs::write(folder.path().join("flipped.mcap"), &flipped).unwrap();
    assert_fails(&catseye(folder.path(), &["replay", "flipped.mcap"]), &["flipped.mcap", "damaged"]);
    assert!(!folder.path().join("catseye-out/flipped/run.mcap").exists(), "half a run was kept");
}

#[test]
fn strange_stamps_are_counted_by_name() {
    let folder = tempfile::tempdir().unwrap();
    log_with_stamps(&folder.path().join("log.mcap"), &[1000, 1100, 1100, 900, 0, 999_999, 1600, 1700]);
    let output = catseye(folder.path(), &["replay", "log.mcap", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for reason in ["duplicate stamp", "backward stamp", "zero stamp", "stamp in the far future"] {
        assert_eq!(json["drops"][reason], 1, "{reason}: {json}");
    }
    assert_eq!(json["ticks"], 4);
    let account = &json["accounts"][0];
    assert_eq!((&account["produced"], &account["consumed"], &account["dropped"]), (&8.into(), &4.into(), &4.into()));
}

#[test]
fn a_wrong_rig_is_refused_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::default_camera(64, 48).to_toml();
    let wrong =
        rig.replace("trigger = \"front\"", "trigger = \"rear\"").replace("width_px = 64", "width_px = \"wide\"");
    assert_ne!(rig, wrong);
    std::fs::write(folder.path().join("wrong.toml"), wrong).unwrap();
    let output = catseye(folder.path(), &["rig", "check", "wrong.toml"]);
    assert_fails(&output, &["wrong.toml:", "trigger", "\"rear\"", "width_px", "expected", "found"]);
    let output = catseye(folder.path(), &["rig", "check", "wrong.toml", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    // one object and nothing behind it
    let json = json(&output);
    assert_eq!(json["ok"], false);
    assert!(json["problems"].as_array().is_some_and(|problems| problems.len() >= 2), "{json}");
    let new = catseye(folder.path(), &["rig", "new", "new.toml", "--from", "hyperion"]);
    assert!(new.status.success() && catseye(folder.path(), &["rig", "check", "new.toml"]).status.success());
    assert_fails(&catseye(folder.path(), &["rig", "new", "new.toml"]), &["is there already"]);
}

/// An ONNX file whose one operator nobody has.
fn onnx_with_unknown_operator() -> Vec<u8> {
    let nope = [node("Nope", &["x"], "y", &[]), block(3, "node")].concat();
    onnx(&[nope], &[], &value("x", &[1, 3, 32, 32]), &[value("y", &[1, 4, 8])])
}

/// A YOLOX for 32 x 32 pixels that never sees anything. Its input has this shape, where 0 leaves a size open.
fn yolox(input: [u64; 4], classes: u64) -> Vec<u8> {
    let values = 5 + classes;
    let channels = (ANCHORS * values) as usize;
    constant_yolox(input, values, &vec![[0.0; 3]; channels], &vec![0.0; channels])
}

#[test]
fn a_model_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 2);
    std::fs::write(folder.path().join("nope.onnx"), onnx_with_unknown_operator()).unwrap();
    for backend in ["rten", "auto"] {
        let output = catseye(folder.path(), &["replay", "pictures", "--model", "nope.onnx", "--backend", backend]);
        assert_fails(&output, &["nope.onnx", "Nope"]);
    }
    std::fs::write(folder.path().join("garbage.onnx"), b"garbage").unwrap();
    assert_fails(
        &catseye(folder.path(), &["replay", "pictures", "--model", "garbage.onnx", "--backend", "rten"]),
        &["garbage.onnx"],
    );
    let missing = catseye(folder.path(), &["replay", "pictures", "--model", "missing.onnx"]);
    assert_fails(&missing, &["missing.onnx"]);
    let unknown = catseye(folder.path(), &["replay", "pictures", "--model", "garbage.onnx@rear"]);
    assert_fails(&unknown, &["\"rear\"", "front"]);
    let Some(model) = common::shared("models/yolox_nano.onnx") else { return };
    let model = model.to_string_lossy();
    let wrong_size = catseye(
        folder.path(),
        &["replay", "pictures", "--model", &model, "--input-size", "640x640", "--backend", "rten"],
    );
    assert_fails(&wrong_size, &["yolox_nano.onnx", "640", "416"]);
    let wrong_head = catseye(folder.path(), &["replay", "pictures", "--model", &model, "--head", "yolo99"]);
    assert_fails(&wrong_head, &["yolo99", "yolox"]);
}

#[test]
fn a_verify_with_another_engine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 2);
    let (Some(nano), Some(fastest)) =
        (common::shared("models/yolox_nano.onnx"), common::shared("models/FastestDet.onnx"))
    else {
        return;
    };
    let nano = nano.to_string_lossy();
    let first = catseye(folder.path(), &["replay", "pictures", "--model", &nano, "--backend", "rten", "--no-report"]);
    assert!(first.status.success(), "{}", text(&first));
    let other = [
        "replay",
        "catseye-out/pictures/drive.mcap",
        "--verify",
        "catseye-out/pictures/run.mcap",
        "--output-dir",
        "x",
        "--model",
    ];
    assert_fails(
        &catseye(folder.path(), &[&other[..], &[&fastest.to_string_lossy()]].concat()),
        &["cannot have the recorded bits", "sha256"],
    );
    let threads = catseye(folder.path(), &[&other[..], &[&nano, "--threads", "2"]].concat());
    assert_fails(&threads, &["backend_threads", "expected 1, found 2"]);
    let same = catseye(folder.path(), &other[..6]);
    assert!(same.status.success(), "the recorded model is found by itself: {}", text(&same));
}

#[test]
fn what_stands_behind_the_networks_replays_from_recorded_detections() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| catseye(folder.path(), arguments);
    let road = concat!(env!("CARGO_MANIFEST_DIR"), "/models/road.onnx");
    assert!(run(&["sim", "follow", "--duration", "0.5", "--rig", "sim-car", "-o", "drive.mcap"]).status.success());
    let quiet = ["--backend", "rten", "--no-report", "-q"];
    let logged = |out: &str, score: &str| {
        let arguments = ["replay", "drive.mcap", "--model", road, "--score", score, "--out", out];
        let output = run(&[&arguments[..], &quiet].concat());
        assert!(output.status.success(), "{}", text(&output));
    };
    logged("all.mcap", "0.3");
    logged("few.mcap", "0.9");
    let verify = |more: &[&str]| {
        let arguments = ["replay", "drive.mcap", "--verify", "all.mcap", "--json", "--no-out", "--no-report"];
        run(&[&arguments, more].concat())
    };

    let same = verify(&["--detections"]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same));
    let comparison = &json(&same)["comparison"];
    let left_out: Vec<&String> = comparison["left_out"].as_object().unwrap().keys().collect();
    assert_eq!(left_out, ["infer", "preprocess"]);
    assert!(comparison["digests"].as_u64() > Some(20), "{comparison}");

    assert_fails(&verify(&["--detections", "few.mcap"]), &["cannot have the recorded bits", "score 0.3", "score 0.9"]);
    let other = verify(&["--detections", "few.mcap", "--force"]);
    assert_eq!(other.status.code(), Some(3), "{}", text(&other));
    assert_eq!(json(&other)["comparison"]["first"]["stage"], "decode");
    assert_fails(&verify(&["--detections", "drive.mcap"]), &["drive.mcap: expected the log of a run"]);
}

#[test]
fn a_full_disk_ends_with_an_error_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 200);
    // files may have 64 KiB and not a byte more, which is what a full disk looks like from inside
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec {} import pictures pictures -o drive.mcap",
        env!("CARGO_BIN_EXE_catseye")
    );
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert_fails(&output, &["drive.mcap"]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pictures"], "{left:?}");
}

#[test]
fn check_tells_a_complete_log_from_one_with_a_gap_and_from_one_that_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    log_with_stamps(&path, &(0..200).map(|i| 1000 + 100 * i).collect::<Vec<_>>());
    let whole = catseye(folder.path(), &["check", "log.mcap", "--json"]);
    assert_eq!((whole.status.code(), json(&whole)["complete"].as_bool()), (Some(0), Some(true)), "{}", text(&whole));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    assert_fails(&catseye(folder.path(), &["check", "log.mcap"]), &["cut off", "incomplete"]);

    let mut log = LogWriter::create(&folder.path().join("gap.mcap"), Compression::None).unwrap();
    let channel = log.channel(&Channel::of_foxglove::<CompressedImage>("/camera")).unwrap();
    for sequence in [7, 8, 12, 13] {
        log.write_as(channel, sequence, i64::from(sequence), 0, b"picture").unwrap();
    }
    log.finish().unwrap();
    let gap = catseye(folder.path(), &["check", "gap.mcap", "--json", "--allow-declared"]);
    assert_eq!(gap.status.code(), Some(1));
    let ranges = &json(&gap)["recordings"][0]["channels"]["/camera"]["undeclared_ranges"];
    assert_eq!(*ranges, serde_json::json!([[9, 11]]));
}

/// Records the pictures of a log anew, in files of at most so many bytes.
fn record_again(log: &Path, folder: &Path, max_file_bytes: u64) {
    let (mut reader, mut preamble) = (LogReader::open(log).unwrap(), Preamble::default());
    let (mut messages, mut slot) = (Vec::new(), None);
    while let Some(event) = reader.next().unwrap() {
        match event {
            Event::Attachment { name, data } => preamble.attach(&name, "application/toml", data),
            Event::Metadata { name, entries } => preamble.metadata(&name, entries),
            Event::Message(Message { channel, sequence, log_ns, publish_ns, data, .. }) => {
                let slot = *slot.get_or_insert_with(|| preamble.channel((**channel).clone(), Priority(0)));
                messages.push(SensorMessage { slot, sequence, log_ns, publish_ns, data: data.to_vec().into() });
            }
        }
    }
    let options = Options { max_file_bytes, chunk_bytes: 1 << 10, min_free_bytes: 0, ..Options::default() };
    let recorder = Recorder::start(folder, "drive", preamble, options).unwrap();
    messages.into_iter().for_each(|message| assert_eq!(recorder.offer(message), Offer::Taken));
    recorder.stop().unwrap();
}

#[test]
fn a_recording_of_several_files_replays_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.mcap");
    log_with_stamps(&log, &(0..40).map(|i| 1000 + 100 * i).collect::<Vec<_>>());
    record_again(&log, &folder.path().join("one"), 1 << 30);
    record_again(&log, &folder.path().join("rec"), 64 << 10);
    let files = || std::fs::read_dir(folder.path().join("rec")).unwrap().count();
    assert!(files() > 4, "{} files", files());
    let one = catseye(folder.path(), &["replay", "one", "--digests", "all", "--no-report", "--json"]);
    assert_eq!(json(&one)["ticks"], 40, "{}", text(&one));
    for input in ["rec", "rec/drive.manifest.json", "rec/drive_0000.mcap"] {
        let verify = ["--verify", "catseye-out/one/run.mcap", "--no-report", "--json"];
        let same = catseye(folder.path(), &[&["replay", input], verify.as_slice()].concat());
        assert_eq!((same.status.code(), json(&same)["ticks"].as_u64()), (Some(0), Some(40)), "{}", text(&same));
        let info = json(&catseye(folder.path(), &["info", input, "--json"]));
        let camera = &info["topics"]["/camera/front/image"];
        assert_eq!((info["complete"].as_bool(), camera["messages"].as_u64()), (Some(true), Some(40)), "{info}");
        let checked = catseye(folder.path(), &["check", input]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    }
    // decisions obeyed from a log that is the other recording's
    let again =
        ["replay", "rec", "--decisions", "catseye-out/one/run.mcap", "--record", "--no-report", "--out", "own.mcap"];
    assert!(catseye(folder.path(), &again).status.success());
    let own = catseye(folder.path(), &["replay", "own.mcap", "--verify", "--no-report"]);
    assert_eq!(own.status.code(), Some(0), "{}", text(&own));

    std::fs::remove_file(folder.path().join("rec/drive_0002.mcap")).unwrap();
    for command in ["replay", "info"] {
        assert_fails(&catseye(folder.path(), &[command, "rec"]), &["drive_0002.mcap", "missing", "catseye check"]);
    }
    for input in ["rec", "rec/drive_0000.mcap"] {
        assert_fails(&catseye(folder.path(), &["check", input]), &["drive_0002.mcap is missing", "incomplete"]);
    }
}

#[test]
fn check_accepts_declared_drops_only_where_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut preamble = Preamble::default();
    let slot = preamble.channel(Channel::of_foxglove::<CompressedImage>("/camera"), Priority(0));
    let options = Options { budget_bytes: 10_000, min_free_bytes: 0, ..Options::default() };
    let recorder = Recorder::start(&folder.path().join("rec"), "drive", preamble, options).unwrap();
    for (sequence, bytes) in [(0, 100), (1, 20_000), (2, 100)] {
        recorder.offer(SensorMessage { slot, sequence, log_ns: 0, publish_ns: 0, data: vec![0; bytes].into() });
    }
    recorder.stop().unwrap();
    assert_fails(&catseye(folder.path(), &["check", "rec"]), &["too large: 1", "declared"]);
    let allowed = catseye(folder.path(), &["check", "rec/drive.manifest.json", "--allow-declared"]);
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed));
    std::fs::remove_file(folder.path().join("rec/drive_0000.mcap")).unwrap();
    let missing = catseye(folder.path(), &["check", "rec", "--allow-declared"]);
    assert_fails(&missing, &["drive_0000.mcap is missing", "incomplete"]);
}

#[test]
fn a_file_system_without_room_is_named_and_left_clean() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 200);
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    // a file system of 64 KiB that only this process and its children see
    let script = "mount -t tmpfs -o size=64k none disk || { echo no mount; exit 77; }
        $1 import pictures pictures -o disk/drive.mcap; code=$?; echo left: $(ls -A disk); exit $code";
    let arguments = ["--mount", "--map-root-user", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_catseye")];
    let output = Command::new("unshare").args(arguments).current_dir(folder.path()).output();
    let said = output.as_ref().map(text).unwrap_or_default();
    if said.contains("no mount") || !said.contains("left:") {
        eprintln!("skipped: this machine lets nobody mount a file system of his own: {said}");
        return;
    }
    let output = output.unwrap();
    assert_fails(&output, &["disk/drive.mcap", "No space left on device"]);
    assert!(said.contains("left:\n"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_in_silence() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_catseye"))
        .args(["info", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1_pictures.mcap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output));
}

#[test]
fn an_interrupted_run_leaves_a_valid_log() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 300);
    let mut child = Command::new(env!("CARGO_BIN_EXE_catseye"))
        .args(["replay", "pictures", "--speed", "1", "--no-report", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status:?}");
    let run = folder.path().join("catseye-out/pictures/run.mcap");
    let mut reader = LogReader::open(&run).unwrap();
    let mut messages = 0;
    while let Some(_event) = reader.next().unwrap() {
        messages += 1;
    }
    assert_eq!(reader.ending(), Some(&Ending::Complete));
    assert!(messages > 10);
}

#[test]
fn wrong_arguments_are_told_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["replay", "x", "--speed", "fast"][..],
        &["replay", "x", "--backend", "cuda"],
        &["replay", "x", "--digests", "some"],
        &["replay", "x", "--model", "m.onnx", "--score", "1.5"],
        &["replay", "x", "--model", "m.onnx", "--score", "nan"],
        &["replay", "x", "--score", "0.5"],
        &["replay", "x", "--head", "yolox"],
        &["replay", "x", "--labels", "my.names"],
        &["replay", "x", "--input-size", "32x32"],
        &["import", "cassette", "x", "-o", "y.mcap"],
        &["rig", "new", "x.toml", "--from", "truck"],
    ] {
        let output = catseye(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn outputs_never_replace_what_they_are_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.mcap");
    log_with_stamps(&log, &[1000, 1100, 1200]);
    let bytes = std::fs::read(&log).unwrap();
    let made_from = "would replace what it is made from";
    for arguments in [
        &["import", "ros", "log.mcap", "-o", "log.mcap"][..],
        &["replay", "log.mcap", "--out", "log.mcap"],
        &["replay", "log.mcap", "--video", "log.mcap"],
        &["replay", "log.mcap", "--trace", "log.mcap"],
    ] {
        assert_fails(&catseye(folder.path(), arguments), &["log.mcap", made_from]);
        assert_eq!(std::fs::read(&log).unwrap(), bytes, "{arguments:?}");
    }
    let run = catseye(folder.path(), &["replay", "log.mcap", "--no-report", "--output-dir", "out"]);
    assert!(run.status.success(), "{}", text(&run));
    let again = ["replay", "log.mcap", "--decisions", "out/run.mcap", "--out", "out/run.mcap"];
    assert_fails(&catseye(folder.path(), &again), &["run.mcap", made_from]);
    assert_fails(&catseye(folder.path(), &["report", "out/run.mcap", "-o", "out/run.mcap"]), &["run.mcap", made_from]);
    let eval = ["eval", "out/run.mcap", "--truth", "log.mcap", "--report", "log.mcap"];
    assert_fails(&catseye(folder.path(), &eval), &["log.mcap", made_from]);
    let eval = catseye(folder.path(), &["eval", "out/run.mcap", "--truth", "log.mcap", "--report", "plots.html"]);
    assert!(eval.status.success() && text(&eval).contains("plots.html"), "{}", text(&eval));
    assert!(
        std::fs::read_to_string(folder.path().join("plots.html")).unwrap().contains("run.mcap against the truth of")
    );

    // a log without a rig is imported first, but not over itself
    let bare = folder.path().join("out/drive.mcap");
    LogWriter::create(&bare, Compression::None).unwrap().finish().unwrap();
    let bytes = std::fs::read(&bare).unwrap();
    let replay = catseye(folder.path(), &["replay", "out/drive.mcap", "--output-dir", "out"]);
    assert_fails(&replay, &["drive.mcap", made_from, "--output-dir"]);
    assert_eq!(std::fs::read(&bare).unwrap(), bytes);
    // nor over a part of a recording that is a folder
    let import = catseye(folder.path(), &["import", "ros", "out", "-o", "out/drive.mcap"]);
    assert_fails(&import, &["drive.mcap", "would replace a part of the recording"]);
    assert_eq!(std::fs::read(&bare).unwrap(), bytes);
}

#[test]
fn an_import_leaves_a_rig_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 3);
    let rig = folder.path().join("drive.rig.toml");
    let import = ["import", "pictures", "pictures", "-o", "drive.mcap"];
    assert_eq!(json(&catseye(folder.path(), &[&import[..], &["--json"]].concat()))["rig"], "drive.rig.toml");
    let changed = format!("# changed by hand\n{}", std::fs::read_to_string(&rig).unwrap());
    std::fs::write(&rig, &changed).unwrap();
    let again = catseye(folder.path(), &import);
    assert!(again.status.success() && text(&again).contains("left as it is"), "{}", text(&again));
    let given = catseye(folder.path(), &[&import[..], &["--rig", "drive.rig.toml"]].concat());
    assert!(given.status.success() && text(&given).contains("no rig is written"), "{}", text(&given));
    assert_eq!(std::fs::read_to_string(&rig).unwrap(), changed);
}

#[test]
fn a_model_without_names_gets_numbers_and_its_settings_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 3);
    std::fs::write(folder.path().join("best (1).onnx"), yolox([1, 3, 32, 32], 2)).unwrap();
    std::fs::write(folder.path().join("my.names"), "car\nvan\nbus\n").unwrap();
    let replay = ["replay", "pictures", "--model", "best (1).onnx", "--backend", "rten", "--no-report"];
    let run = catseye(folder.path(), &[&replay[..], &["--json"]].concat());
    assert!(run.status.success(), "{}", text(&run));
    let assumptions = json(&run)["assumptions"].to_string();
    assert!(assumptions.contains("model best__1_ names no classes"), "{assumptions}");
    let info = json(&catseye(folder.path(), &["info", "catseye-out/pictures/run.mcap", "--json"]));
    assert_eq!(info["headers"]["catseye:run"]["classes"], "class 0\nclass 1");
    let short = catseye(folder.path(), &[&replay[..], &["--labels", "my.names"]].concat());
    assert_fails(&short, &["my.names", "expected 2 class names", "found 3"]);

    let verify = [
        "replay",
        "catseye-out/pictures/drive.mcap",
        "--verify",
        "catseye-out/pictures/run.mcap",
        "--output-dir",
        "again",
        "--no-report",
    ];
    let same = catseye(folder.path(), &verify);
    assert!(same.status.success(), "the rig in the log is read again: {}", text(&same));
    let surer = ["--model", "best (1).onnx", "--score", "0.9"];
    let other = catseye(folder.path(), &[&verify[..], &surer].concat());
    assert_fails(&other, &["cannot have the recorded bits", "best__1_.settings", "score 0.9"]);
}

#[test]
fn a_model_that_cannot_be_given_its_pictures_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 2);
    std::fs::write(folder.path().join("four.onnx"), yolox([4, 3, 32, 32], 80)).unwrap();
    std::fs::write(folder.path().join("open.onnx"), yolox([1, 3, 0, 0], 80)).unwrap();
    let error = |model: &str| {
        let output = catseye(folder.path(), &["replay", "pictures", "--model", model, "--backend", "rten", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        json(&output)["error"].to_string()
    };
    let four = error("four.onnx");
    assert!(four.contains("one per camera (1)") && four.contains("found 4"), "{four}");
    let open = error("open.onnx");
    assert!(open.contains("--input-size WIDTHxHEIGHT") && open.contains("input_width_px"), "{open}");
}

#[test]
fn pictures_of_another_size_than_the_rigs_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    log_with_stamps(&folder.path().join("log.mcap"), &[1000, 1100, 1200, 1300]);
    std::fs::write(folder.path().join("m.onnx"), yolox([1, 3, 32, 32], 80)).unwrap();
    assert!(catseye(folder.path(), &["rig", "new", "wide.toml", "--size", "128x48"]).status.success());
    let replay = ["replay", "log.mcap", "--model", "m.onnx", "--backend", "rten", "--no-report", "--no-out", "--json"];
    let right = json(&catseye(folder.path(), &replay));
    assert_eq!(right["results"]["faults"], 0, "{right}");
    let wrong = json(&catseye(folder.path(), &[&replay[..], &["--rig", "wide.toml"]].concat()));
    assert!(wrong["ticks"].as_u64().is_some_and(|ticks| ticks > 2), "{wrong}");
    assert_eq!(wrong["results"]["faults"], wrong["ticks"]);
    let first = &wrong["results"]["first_faults"][0];
    assert_eq!(first["stage"], "preprocess");
    assert_eq!(first["message"], "camera front: expected pictures of 128x48, as in the rig, found 64x48");
}

#[test]
fn the_report_of_a_cut_off_run_says_so_and_outlives_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 40);
    let replay = catseye(folder.path(), &["replay", "pictures", "--no-report"]);
    assert!(replay.status.success(), "{}", text(&replay));
    let bytes = std::fs::read(folder.path().join("catseye-out/pictures/run.mcap")).unwrap();
    std::fs::write(folder.path().join("cut.mcap"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    let report = catseye(folder.path(), &["report", "cut.mcap", "-o", "page.html"]);
    assert!(report.status.success() && text(&report).contains("incomplete: the file"), "{}", text(&report));
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("incomplete: the file"));

    let script =
        format!("trap '' XFSZ; ulimit -f 1; exec {} report cut.mcap -o page.html", env!("CARGO_BIN_EXE_catseye"));
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert_fails(&output, &["page.html"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("page.html")).unwrap(), page);
    assert!(!folder.path().join("page.html.part").exists());
}
