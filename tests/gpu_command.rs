//! The command with TensorRT: what it says where there is no GPU, and where there is one, from a missing engine to a verified
//! replay. What needs a GPU or TensorRT says so and passes where they are absent.
#![cfg(feature = "tensorrt")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use catseye::header::sha256_hex;
use common::onnx::{node, onnx, value};
use common::small::{INPUT, workplace};

fn catseye(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
    command.args(arguments).current_dir(folder).env("CATSEYE_ENGINE_DIR", folder.join("engines")).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The words that the command printed, line breaks and frames aside.
fn words(output: &Output) -> String {
    let found = text(output);
    let is_word = |word: &&str| !["│", "×", "├─▶", "╰─▶"].contains(word);
    found.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")
}

fn assert_fails(output: &Output, parts: &[&str]) {
    let found = words(output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    for part in parts {
        assert!(found.contains(part), "expected {part:?} in: {found}");
    }
    assert!(!found.contains("panicked"), "{found}");
}

fn assert_works(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
}

const REPLAY: [&str; 6] = ["replay", "pictures", "--model", "net.onnx", "--no-report", "--backend"];

fn replay(folder: &Path, more: &[&str]) -> Output {
    catseye(folder, &[&REPLAY[..], more].concat())
}

#[test]
fn without_a_gpu_the_command_says_so_and_auto_goes_on() {
    if catseye::gpu::probe().is_ok() {
        eprintln!("skipped: there is a GPU");
        return;
    }
    let folder = workplace();
    assert_fails(&catseye(folder.path(), &["engine", "build", "net.onnx"]), &["no NVIDIA driver", "libcuda"]);
    assert_fails(&replay(folder.path(), &["tensorrt"]), &["no NVIDIA driver", "libcuda"]);
    for calibration in ["--calibrate", "--calibration-table"] {
        let output = catseye(folder.path(), &["engine", "build", "net.onnx", calibration, "any"]);
        assert_fails(&output, &["calibration is for 8 bits", "--precision int8"]);
    }
    let output = replay(folder.path(), &["auto"]);
    assert_works(&output);
    assert!(words(&output).contains("the networks run on the CPU: no NVIDIA driver"), "{}", text(&output));
    assert_works(&catseye(folder.path(), &["engine", "list"]));
}

/// Whether a GPU and TensorRT are here; why not is said.
fn has_tensorrt() -> bool {
    let found = catseye::gpu::Context::open(0).map_err(|error| error.to_string()).and_then(|context| {
        catseye::gpu::tensorrt::Library::find(&context, None).map(|_| ()).map_err(|error| error.to_string())
    });
    if let Err(reason) = &found {
        eprintln!("skipped: {reason}");
    }
    found.is_ok()
}

/// The file of the one engine with this ending.
fn of_engine(folder: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(folder.join("engines")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|found| found == ending)).unwrap()
}

#[test]
fn engines_are_built_once_and_used_and_what_is_wrong_with_them_has_a_name() {
    if !has_tensorrt() {
        return;
    }
    let folder = workplace();
    let folder = folder.path();
    let on_gpu = ["tensorrt", "--precision", "fp32", "--digests", "all"];

    // nothing is built on the way
    assert_fails(&replay(folder, &on_gpu), &["found none", "catseye engine build", "--precision fp32 --batch 1"]);
    let output = replay(folder, &["auto", "--output-dir", "fallback"]);
    assert_works(&output);
    assert!(words(&output).contains("the networks run on the CPU"), "{}", text(&output));

    let build = ["engine", "build", "net.onnx", "--precision", "fp32", "--level", "0"];
    let output = catseye(folder, &build);
    assert_works(&output);
    let output = catseye(folder, &build);
    assert!(words(&output).contains("is there"), "{}", text(&output));
    assert_works(&catseye(folder, &["engine", "check"]));

    // the bits come again, and the objects are those of the CPU
    assert_works(&replay(folder, &[&on_gpu[..], &["--output-dir", "gpu"]].concat()));
    let verify = ["replay", "gpu/drive.mcap", "--verify", "gpu/run.mcap", "--no-report", "--output-dir", "again"];
    assert_works(&catseye(folder, &verify));
    // whichever way the pictures take to the device
    for way in ["mapped", "copy"] {
        assert_works(&catseye(folder, &[&verify[..], &["--transfer", way]].concat()));
    }
    assert_works(&replay(folder, &["rten", "--output-dir", "cpu"]));
    assert_works(&catseye(folder, &["diff", "cpu/run.mcap", "gpu/run.mcap", "--tolerant", "--min-share", "1"]));

    let (plan, record) = (of_engine(folder, "plan"), of_engine(folder, "json"));
    let (whole, told) = (std::fs::read(&plan).unwrap(), std::fs::read_to_string(&record).unwrap());
    std::fs::write(&plan, &whole[..whole.len() / 2]).unwrap();
    assert_fails(&replay(folder, &on_gpu), &["bytes, found", "build the engine anew"]);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&plan, damaged).unwrap();
    assert_fails(&replay(folder, &on_gpu), &["expected SHA-256", "build the engine anew"]);
    std::fs::write(&plan, &whole).unwrap();
    let name = catseye::gpu::probe().unwrap().name;
    std::fs::write(&record, told.replace(&name, "NVIDIA Orin")).unwrap();
    assert_fails(&replay(folder, &on_gpu), &["found none", &name]);
    let check = ["engine", "check", record.to_str().unwrap()];
    assert_fails(&catseye(folder, &check), &["built for NVIDIA Orin", &name, "build the engine here"]);
    std::fs::write(&record, told.replace(r#""tensorrt": "8."#, r#""tensorrt": "7."#)).unwrap();
    if told.contains(r#""tensorrt": "8."#) {
        assert_fails(&catseye(folder, &check), &["built by TensorRT 7.", "build the engine anew"]);
    }

    // an engine that gives something else than when it was built is not used
    std::fs::write(&record, &told).unwrap();
    let golden = of_engine(folder, "golden");
    let kept = std::fs::read(&golden).unwrap();
    let other = vec![0; kept.len()];
    std::fs::write(&golden, &other).unwrap();
    std::fs::write(&record, told.replace(&sha256_hex(&kept), &sha256_hex(&other))).unwrap();
    assert_fails(&replay(folder, &on_gpu), &["is apart by", "from when it was built", "catseye engine build"]);
    std::fs::write(&golden, &kept).unwrap();

    // another plan is another run
    std::fs::write(&record, &told).unwrap();
    std::fs::remove_file(&plan).unwrap();
    assert_fails(&catseye(folder, &verify), &[".plan"]);
}

#[test]
fn models_and_folders_that_cannot_be_are_refused_by_name() {
    if !has_tensorrt() {
        return;
    }
    let folder = workplace();
    let folder = folder.path();
    let strange = onnx(
        &[node("NoSuchOperator", &["images"], "output", &[])],
        &[],
        &value("images", &INPUT),
        &[value("output", &[1, 21, 6])],
    );
    std::fs::write(folder.join("strange.onnx"), strange).unwrap();
    assert_fails(&catseye(folder, &["engine", "build", "strange.onnx"]), &["strange.onnx", "NoSuchOperator"]);
    let output = catseye(folder, &["engine", "build", "net.onnx", "--level", "0", "--engine-dir", "/proc/engines"]);
    assert_fails(&output, &["/proc/engines"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
    command.args(["engine", "build", "net.onnx"]).current_dir(folder).env("CATSEYE_TENSORRT_LIB", "/nowhere");
    assert_fails(&command.output().unwrap(), &["/nowhere"]);
}

/// Eight bits by calibration, on the network that comes with catseye: ranges that cut the scores off leave no box at all.
#[test]
fn a_calibrated_network_sees_what_it_saw() {
    if !has_tensorrt() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/road.onnx"), folder.join("road.onnx")).unwrap();
    for (scenario, log) in [("random-101", "seen.mcap"), ("random-105", "drive.mcap")] {
        assert_works(&catseye(folder, &["sim", scenario, "--duration", "5", "-o", log]));
    }
    let build = ["engine", "build", "road.onnx", "--level", "0", "--precision"];
    assert_works(&catseye(folder, &[&build[..], &["fp32"]].concat()));
    let calibrate = ["int8", "--calibrate", "seen.mcap", "--calibration-pictures", "50"];
    assert_works(&catseye(folder, &[&build[..], &calibrate].concat()));
    let table = of_engine(folder, "calibration");
    let with_table = ["int8", "--calibration-table", table.to_str().unwrap(), "--batch", "2"];
    assert_works(&catseye(folder, &[&build[..], &with_table].concat()));
    for precision in ["fp32", "int8"] {
        let replay = ["replay", "drive.mcap", "--model", "road.onnx", "--backend", "tensorrt", "--no-report"];
        let how = ["--precision", precision, "--output-dir", precision];
        assert_works(&catseye(folder, &[&replay[..], &how].concat()));
    }
    let near = ["--tolerant", "--min-iou", "0.7", "--max-score-difference", "0.2", "--min-share", "0.9"];
    assert_works(&catseye(folder, &[&["diff", "fp32/run.mcap", "int8/run.mcap"], &near[..]].concat()));
}
