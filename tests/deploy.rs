//! `catseye deploy` with a stand-in for ssh that runs its commands here: after whatever happens the release in use is wholly the old one
//! or wholly the new one. `tests/deploy/run` does it over a real ssh into another root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use catseye_calibration::rig::SIM_CAR;
use serde_json::Value;
use tempfile::TempDir;

const UNIT: &str = "[Unit]\nConditionPathExists=/etc/catseye/rigs/%i.toml\n[Service]\n\
                    Environment=CATSEYE_ENGINE_DIR=/var/cache/catseye/engines XDG_CACHE_HOME=/var/cache/catseye\n\
                    ExecStart=/usr/bin/catseye run /etc/catseye/rigs/%i.toml\nRestart=always\n";

/// A target in a folder, and releases for it.
struct Bench {
    folder: TempDir,
    /// Environment of the stand-ins.
    variables: BTreeMap<&'static str, String>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        std::fs::write(folder.path().join("car.toml"), SIM_CAR).unwrap();
        std::fs::write(folder.path().join("sim_car.dbc"), "VERSION \"\"\n").unwrap();
        Bench { folder, variables: BTreeMap::new() }
    }

    /// With a stand-in for systemd on the target.
    fn with_systemd() -> Bench {
        let mut bench = Bench::new();
        std::fs::create_dir_all(bench.root().join("run/systemd/system")).unwrap();
        bench.variables.insert("STAND_IN_ROOT", bench.root().display().to_string());
        bench
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn prefix(&self) -> PathBuf {
        self.root().join("opt/catseye")
    }

    /// An install root whose program has a version, and fails at a subcommand.
    fn tree(&self, version: &str, fails: &str) -> PathBuf {
        let tree = self.folder.path().join(format!("tree-{version}"));
        for (path, text) in [
            ("usr/share/catseye/version", version.to_owned()),
            ("usr/share/catseye/models/road.onnx", noise(1, 200_000)),
            ("usr/share/catseye/changes", noise(version.len() as u64 + 7, 50_000)),
            ("usr/lib/systemd/system/catseye-run@.service", UNIT.to_owned()),
            ("etc/catseye/catseye.env", "# nothing\n".to_owned()),
        ] {
            std::fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
            std::fs::write(tree.join(path), text).unwrap();
        }
        std::fs::create_dir_all(tree.join("usr/bin")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/program.c");
        let compiled = Command::new("cc")
            .args([format!("-DVERSION=\"{version}\""), format!("-DFAILS=\"{fails}\"")])
            .arg("-o")
            .arg(tree.join("usr/bin/catseye"))
            .arg(source)
            .status()
            .unwrap();
        assert!(compiled.success());
        tree
    }

    fn command(&self, tree: &Path, more: &[&str]) -> Command {
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy");
        let path = format!("{}:{}", stand_ins.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
        command.args(["deploy", "somewhere", "--json", "--tree"]).arg(tree);
        if !more.contains(&"--health-seconds") {
            command.args(["--health-seconds", "2"]);
        }
        command.arg("--ssh-program").arg(stand_ins.join("ssh"));
        command.arg("--prefix").arg(self.prefix()).arg("--system-root").arg(self.root());
        command.args(more).envs(&self.variables).env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn deploy(&self, tree: &Path, more: &[&str]) -> (Output, Value) {
        let output = self.command(tree, more).output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        (output, json)
    }

    fn deploy_well(&self, tree: &Path, more: &[&str]) -> Value {
        let (output, json) = self.deploy(tree, more);
        assert!(output.status.success() && json["outcome"] == "deployed", "{}", text(&output));
        json
    }

    fn rig(&self) -> String {
        self.folder.path().join("car.toml").display().to_string()
    }

    /// Asserts that the release in use is whole and of a version.
    fn assert_in_use(&self, version: &str) {
        let current = self.prefix().join("current");
        let sums =
            Command::new("sha256sum").args(["-c", "--quiet", ".manifest"]).current_dir(&current).output().unwrap();
        assert!(sums.status.success(), "{}", text(&sums));
        let listed = std::fs::read_to_string(current.join(".manifest")).unwrap().lines().count();
        assert_eq!(files(&current.canonicalize().unwrap()).len(), listed + 1);
        let said = Command::new(current.join("usr/bin/catseye")).arg("--version").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("catseye {version}\n"));
    }

    /// The process that the stand-in for systemd runs, if it lives.
    fn unit_program(&self) -> Option<PathBuf> {
        let pid = std::fs::read_to_string(self.root().join("run/systemd/stand-in/catseye-run@car.service.pid")).ok()?;
        std::fs::read_link(format!("/proc/{}/exe", pid.trim())).ok()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.root().join("run/systemd/stand-in/catseye-run@car.service.pid"));
        if let Ok(pid) = pid {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// Text that no compression makes small.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 58) as u8)
    };
    (0..length).map(|_| next()).collect()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

#[test]
fn a_first_one_an_incremental_one_and_the_same_again() {
    let bench = Bench::new();
    let rig = bench.rig();
    let (one, two) = (bench.tree("1.0.0", ""), bench.tree("2.00.0", ""));

    let (output, plan) = bench.deploy(&one, &["--rig", &rig, "--dry-run"]);
    assert!(output.status.success() && plan["outcome"] == "planned", "{}", text(&output));
    assert_eq!(plan["plan"]["send"].as_array().unwrap().len(), 9);
    assert_eq!(files(&bench.root()), Vec::<PathBuf>::new());

    let first = bench.deploy_well(&one, &["--rig", &rig]);
    bench.assert_in_use("1.0.0");
    assert_eq!(first["plan"]["linked"], 0);
    let link = std::fs::read_link(bench.root().join("usr/local/bin/catseye")).unwrap();
    assert_eq!(link, bench.prefix().join("current/usr/bin/catseye"));

    let second = bench.deploy_well(&two, &["--rig", &rig]);
    bench.assert_in_use("2.00.0");
    let sent = |report: &Value| report["sent_bytes"].as_u64().unwrap();
    assert!(sent(&first) > 150_000 && sent(&second) < 80_000, "{first} {second}");
    let of_the_program = ["usr/bin/catseye", "usr/share/catseye/changes", "usr/share/catseye/version"];
    assert_eq!(second["plan"]["send"], serde_json::json!(of_the_program));
    let previous = std::fs::read_link(bench.prefix().join("previous")).unwrap();
    assert_eq!(previous, Path::new("releases").join(first["plan"]["folder"].as_str().unwrap()));

    let again = bench.deploy_well(&two, &["--rig", &rig]);
    assert_eq!((sent(&again), again["plan"]["is_there"].as_bool()), (0, Some(true)));
    assert_eq!(std::fs::read_link(bench.prefix().join("previous")).unwrap(), previous);
    bench.assert_in_use("2.00.0");

    // the former one is there yet: back without a byte
    let back = bench.deploy_well(&one, &["--rig", &rig]);
    assert_eq!(sent(&back), 0);
    bench.assert_in_use("1.0.0");
}

#[test]
fn old_releases_go_and_those_in_use_stay() {
    let bench = Bench::new();
    let versions = ["1", "2", "3", "4"];
    for version in versions {
        let tree = bench.tree(version, "");
        bench.deploy_well(&tree, &["--keep", "2"]);
    }
    let mut kept: Vec<String> = std::fs::read_dir(bench.prefix().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    kept.sort();
    assert_eq!(kept.iter().map(|name| &name[..2]).collect::<Vec<_>>(), ["3-", "4-"]);
    bench.assert_in_use("4");
}

#[test]
fn a_changed_file_in_use_is_mended_beside_it() {
    let bench = Bench::new();
    let tree = bench.tree("1.0.0", "");
    let first = bench.deploy_well(&tree, &[]);
    std::fs::write(bench.prefix().join("current/usr/share/catseye/changes"), "changed").unwrap();
    let second = bench.deploy_well(&tree, &[]);
    assert_eq!(second["plan"]["send"], serde_json::json!(["usr/share/catseye/changes"]));
    let name = first["plan"]["folder"].as_str().unwrap();
    assert_eq!(second["plan"]["folder"], format!("{name}-2"));
    bench.assert_in_use("1.0.0");
}

#[test]
fn a_release_whose_rig_is_refused_there_is_rolled_back() {
    let bench = Bench::new();
    let rig = bench.rig();
    let (good, bad) = (bench.tree("1.0.0", ""), bench.tree("2.0.0", "rig"));
    let (output, report) = bench.deploy(&bad, &["--rig", &rig]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["outcome"], "rolled back");
    assert_eq!(report["rolled_back"]["to"], Value::Null);
    assert!(!bench.prefix().join("current").is_symlink(), "a first release that does not run is not in use");

    bench.deploy_well(&good, &["--rig", &rig]);
    let (output, report) = bench.deploy(&bad, &["--rig", &rig]);
    assert_eq!(output.status.code(), Some(1));
    assert!(report["rolled_back"]["to"].as_str().unwrap().starts_with("1.0.0-"), "{report}");
    assert!(report["rolled_back"]["why"].as_str().unwrap().contains("rig check"));
    assert!(report["rolled_back"]["journal"][0].as_str().unwrap().contains("made to fail at rig"));
    bench.assert_in_use("1.0.0");
}

#[test]
fn a_program_that_does_not_start_is_never_switched_to() {
    let bench = Bench::new();
    bench.deploy_well(&bench.tree("1.0.0", ""), &[]);
    let bad = bench.tree("2.0.0", "");
    let program = std::fs::read(bad.join("usr/bin/catseye")).unwrap();
    std::fs::write(bad.join("usr/bin/catseye"), &program[..200]).unwrap();
    let (output, report) = bench.deploy(&bad, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(report["error"].as_str().unwrap().contains("does not start"), "{report}");
    bench.assert_in_use("1.0.0");
}

#[test]
fn a_wrong_rig_and_a_full_or_wrong_target_are_refused_before_anything_is_copied() {
    let bench = Bench::new();
    let tree = bench.tree("1.0.0", "");
    let rig = bench.folder.path().join("wrong.toml");
    std::fs::write(&rig, "name = 3\n").unwrap();
    let (output, _) = bench.deploy(&tree, &["--rig", &rig.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    // a program for another machine
    let path = tree.join("usr/bin/catseye");
    let mut program = std::fs::read(&path).unwrap();
    program[18] = if program[18] == 62 { 183 } else { 62 };
    std::fs::write(&path, program).unwrap();
    let (output, report) = bench.deploy(&tree, &[]);
    assert_eq!((output.status.code(), &report["outcome"]), (Some(1), &Value::from("refused")));
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "architecture").unwrap();
    assert_eq!(check["verdict"], "wrong");
    assert_eq!(files(&bench.root()), Vec::<PathBuf>::new());
}

#[test]
fn a_lost_connection_leaves_the_old_release_and_the_next_deploy_goes_on() {
    let mut bench = Bench::new();
    bench.deploy_well(&bench.tree("1.0.0", ""), &[]);
    let two = bench.tree("2.00.0", "");
    std::fs::write(two.join("usr/share/catseye/models/road.onnx"), noise(3, 400_000)).unwrap();
    std::fs::write(two.join("usr/share/catseye/a-first"), noise(5, 100_000)).unwrap();
    // in every phase of the archive: nothing of it, in its middle, all but its end
    for cut in ["0", "100", "120000", "300000"] {
        bench.variables.insert("STAND_IN_CUT", cut.to_owned());
        let (output, report) = bench.deploy(&two, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(report["error"].as_str().unwrap().contains("connection was lost"), "{report}");
        bench.assert_in_use("1.0.0");
    }
    bench.variables.remove("STAND_IN_CUT");
    let report = bench.deploy_well(&two, &[]);
    assert!(report["plan"]["kept"].as_u64().unwrap() >= 2, "{report}");
    assert!(report["sent_bytes"].as_u64().unwrap() < 350_000, "{report}");
    bench.assert_in_use("2.00.0");
    let parts = files(&bench.prefix()).iter().filter(|path| path.to_string_lossy().contains(".part")).count();
    assert_eq!(parts, 0);
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_release() {
    let mut bench = Bench::new();
    bench.deploy_well(&bench.tree("1.0.0", ""), &[]);
    let two = bench.tree("2.00.0", "");
    std::fs::write(two.join("usr/share/catseye/models/road.onnx"), noise(3, 400_000)).unwrap();
    bench.variables.insert("STAND_IN_LIMIT", "400".to_owned());
    let (output, report) = bench.deploy(&two, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(report["error"].as_str().unwrap().contains("receive failed"), "{report}");
    bench.assert_in_use("1.0.0");
    bench.variables.remove("STAND_IN_LIMIT");
    bench.deploy_well(&two, &[]);
    bench.assert_in_use("2.00.0");
}

#[test]
fn of_two_at_once_one_is_refused() {
    let mut bench = Bench::new();
    let (one, two) = (bench.tree("1.0.0", ""), bench.tree("2.0.0", ""));
    bench.variables.insert("STAND_IN_SLOW", "12".to_owned());
    let slow = bench.command(&one, &[]).spawn().unwrap();
    let lock = bench.prefix().join("lock/beat");
    let start = Instant::now();
    while !lock.exists() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (output, report) = bench.deploy(&two, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(report["error"].as_str().unwrap().contains("another deploy is under way"), "{report}");
    let slow = slow.wait_with_output().unwrap();
    assert!(slow.status.success(), "{}", text(&slow));
    bench.assert_in_use("1.0.0");
    assert!(!bench.prefix().join("lock").exists());
}

#[test]
fn a_switch_that_lost_its_laptop_is_waited_for() {
    let bench = Bench::with_systemd();
    let rig = bench.rig();
    let trees = ["1.0.0", "2.0.0", "3.0.0"].map(|version| bench.tree(version, ""));
    bench.deploy_well(&trees[0], &["--rig", &rig]);
    // watched for longer than the next deploy needs to come as far as its own switch
    let mut lost = bench.command(&trees[1], &["--rig", &rig, "--health-seconds", "12"]).spawn().unwrap();
    let switched = || std::fs::read_link(bench.prefix().join("current")).unwrap().to_string_lossy().contains("/2.0.0");
    let start = Instant::now();
    while !switched() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    lost.kill().unwrap();
    let output = lost.wait_with_output().unwrap();
    assert!(switched(), "{}", text(&output));
    // the switch goes on alone, and nobody disturbs its service: the next deploy is refused, or comes after it
    assert!(bench.prefix().join("lock/switch").exists());
    let start = Instant::now();
    loop {
        let (output, report) = bench.deploy(&trees[2], &["--rig", &rig]);
        if output.status.success() {
            break;
        }
        let is_busy = report["error"].as_str().unwrap().contains("another deploy is under way");
        assert!(is_busy && start.elapsed() < Duration::from_secs(120), "{report}");
    }
    // one that was not waited for has come to its end by now, too
    std::thread::sleep(Duration::from_secs(15).saturating_sub(start.elapsed()));
    let previous = std::fs::read_link(bench.prefix().join("previous")).unwrap();
    assert!(previous.to_string_lossy().contains("/2.0.0"), "{previous:?}");
    bench.assert_in_use("3.0.0");
    let program = bench.prefix().join("current/usr/bin/catseye").canonicalize().unwrap();
    assert_eq!(bench.unit_program(), Some(program));
}

#[test]
fn a_lock_without_signs_of_life_is_taken_over() {
    let bench = Bench::new();
    let lock = bench.prefix().join("lock");
    std::fs::create_dir_all(&lock).unwrap();
    for (file, text) in [("token", "1-2\n"), ("beat", "77\n"), ("owner", "an engineer\n"), ("receiver", "1\n")] {
        std::fs::write(lock.join(file), text).unwrap();
    }
    bench.deploy_well(&bench.tree("1.0.0", ""), &[]);
    bench.assert_in_use("1.0.0");
}

#[test]
fn a_service_is_started_watched_and_put_back() {
    let bench = Bench::with_systemd();
    let rig = bench.rig();
    let (good, bad) = (bench.tree("1.0.0", ""), bench.tree("2.0.0", "run"));
    let first = bench.deploy_well(&good, &["--rig", &rig]);
    assert_eq!(first["plan"]["unit"], "catseye-run@car.service");
    let unit = std::fs::read_to_string(bench.root().join("etc/systemd/system/catseye-run@.service")).unwrap();
    let prefix = bench.prefix().display().to_string();
    assert!(unit.contains(&format!(
        "ExecStart={prefix}/current/usr/bin/catseye run {prefix}/current/etc/catseye/rigs/%i.toml"
    )));
    let engines = format!("Environment=CATSEYE_ENGINE_DIR={prefix}/engines");
    assert!(unit.contains(&format!("{engines}\n{engines} XDG_CACHE_HOME=/var/cache/catseye\n")), "{unit}");
    assert!(unit.contains(&format!("ConditionPathExists={prefix}/current/etc/catseye/rigs/%i.toml\n")), "{unit}");
    let old = bench.prefix().join("releases").join(first["plan"]["folder"].as_str().unwrap()).join("usr/bin/catseye");
    assert_eq!(bench.unit_program(), Some(old.clone()));

    let (output, report) = bench.deploy(&bad, &["--rig", &rig]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["outcome"], "rolled back", "{report}");
    let journal = report["rolled_back"]["journal"].to_string();
    assert!(journal.contains("made to fail at run"), "{journal}");
    assert_eq!((&report["rolled_back"]["is_up"], bench.unit_program()), (&Value::Bool(true), Some(old)));
    bench.assert_in_use("1.0.0");

    // without a rig the service goes
    bench.deploy_well(&bench.tree("3.0.0", ""), &[]);
    assert_eq!(bench.unit_program(), None);
    bench.assert_in_use("3.0.0");
}
