//! The footing of live runs in real time: rights that are there and rights that are not, deadlines, and what systemd is told, by
//! the real program on a lidar over a real socket.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use catseye::live::{Live, LiveOptions};
use catseye::log::reader::{Event, LogReader};
use catseye::log::{TOPIC_DEADLINE, TOPIC_TICK};
use catseye::messages::{DeadlineMiss, Plan, WorldModel};
use catseye::pipeline::{Files, Pipeline, Settings};
use catseye::realtime::Footing;
use catseye::realtime::pulse::Pulse;
use catseye::realtime::watchdog::Watchdog;
use catseye::replay::{Options, run_live};
use catseye::stages::plan::Planner;
use catseye::tap::Tap;
use catseye_calibration::rig::{Deadlines, Realtime, Rig};
use common::lidar::{rig_with_lidar, send};
use rustix::thread::{CapabilitySet, capabilities};

const CATSEYE: &str = env!("CARGO_BIN_EXE_catseye");

/// A command that lacks or has certain rights, whoever runs the tests: it keeps the user, but neither CAP_SYS_NICE nor CAP_IPC_LOCK.
fn with_limits(rtprio: u32, memlock: &str) -> Command {
    let mut command = Command::new("prlimit");
    let (rtprio, memlock) = (format!("--rtprio={rtprio}:{rtprio}"), format!("--memlock={memlock}:{memlock}"));
    command.args([&rtprio, &memlock]);
    command.args(["setpriv", "--bounding-set", "-sys_nice,-ipc_lock,-sys_resource", "--inh-caps", "-all", CATSEYE]);
    command
}

/// Whether rights can be lowered and raised here.
fn is_root() -> bool {
    let needed = CapabilitySet::SYS_NICE | CapabilitySet::SETPCAP | CapabilitySet::SYS_RESOURCE;
    let has = capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    if !has {
        eprintln!("skipped: rights can only be tried as root");
    }
    has
}

fn write_rig(rig: &Rig, folder: &Path) -> String {
    let path = folder.join("rig.toml");
    std::fs::write(&path, rig.to_toml()).unwrap();
    path.display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a person reads, without the frame around an error's lines.
fn flat(output: &Output) -> String {
    text(&output.stderr).replace(['│', '\n'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_not_granted_is_told_with_what_grants_it_and_the_run_goes_on() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (rig, sender) = rig_with_lidar("VLP-16");
    let rig = write_rig(&rig, folder.path());
    let drives = folder.path().join("drives").display().to_string();
    let arguments = ["record", &rig, &drives, "--duration", "1", "--min-free-mib", "0", "--json"];
    let wishes = ["--fifo", "50", "--lock-memory", "--processors", "1000"];
    let sending = send(sender, 1.0);
    let output = with_limits(20, "65536").args(arguments).args(wishes).output().unwrap();
    sending.join().unwrap();
    let words = text(&output.stderr);
    assert!(output.status.success(), "{words}");
    for expected in [
        "real time: the sensors' threads do not run under SCHED_FIFO at priority 50: this process may take at most 20 \
         (RLIMIT_RTPRIO), and has no CAP_SYS_NICE; `LimitRTPRIO=50` in the systemd unit grants it, or `ulimit -r 50`",
        "real time: the edge's threads do not run under SCHED_FIFO at priority 49: ",
        "real time: the workers' threads are not bound to the processors [1000]: processor 1000 is not there; ",
        "real time: memory is not locked: this process may lock 64 KiB (RLIMIT_MEMLOCK) and has no CAP_IPC_LOCK",
    ] {
        assert!(words.contains(expected), "expected {expected:?}, found {words}");
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["realtime"]["refused"].as_array().unwrap().len(), 7, "{json:#}");
    assert!(json["sensors"]["roof"]["sent"].as_u64().unwrap() > 0, "{json:#}");

    let required = with_limits(0, "65536").args(arguments).args(wishes).arg("--require-realtime").output().unwrap();
    assert_eq!(required.status.code(), Some(1));
    let words = flat(&required);
    assert!(words.contains("priority 50: this process may take none (RLIMIT_RTPRIO)"), "{words}");
    assert!(words.contains("without `require` in the rig's [realtime] the run goes on"), "{words}");
}

/// Of each thread by its name: policy and priority as the kernel has them (proc(5), fields 41 and 40 of stat).
fn threads(pid: u32) -> BTreeSet<(String, u32, u32)> {
    let of = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some((head.split_once('(')?.1.to_owned(), fields.get(38)?.parse().ok()?, fields.get(37)?.parse().ok()?))
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().filter_map(of).collect()
}

#[test]
fn what_the_limits_grant_is_taken_thread_by_thread() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _sender) = rig_with_lidar("VLP-16");
    rig.realtime = Realtime { require: true, lock_memory: true, ..Realtime::default() };
    rig.realtime.sensors.processors = vec![0];
    let rig = write_rig(&rig, folder.path());
    let out = folder.path().join("out").display().to_string();
    let arguments =
        ["run", &rig, "--duration", "20", "--output-dir", &out, "--no-report", "--workers", "1", "--fifo", "30"];
    let mut child = with_limits(30, "unlimited").args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let expected =
        [("sensor-roof", 30), ("catseye", 29), ("catseye-0", 28)].map(|(name, priority)| (name, 1, priority));
    let started = Instant::now();
    let found = loop {
        let found = threads(child.id());
        let is_there = expected.iter().all(|(name, policy, at)| found.contains(&((*name).to_owned(), *policy, *at)));
        if is_there || started.elapsed() > Duration::from_secs(20) {
            break found;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    // those who write to disks do not run before others
    let ordinary = found.iter().filter(|(name, policy, _)| name == "catseye-tap" && *policy == 0).count();
    end(&mut child);
    for (name, policy, at) in expected {
        assert!(found.contains(&(name.to_owned(), policy, at)), "expected {name} at {at}, found {found:?}");
    }
    assert_eq!(ordinary, 1, "{found:?}");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    let locked_kib: u64 = locked.trim_end_matches(" kB").parse().unwrap();
    assert!(locked_kib > 10_000, "{status}");
}

/// Ends a program in good order.
fn end(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Who stands in for systemd.
struct Manager {
    socket: UnixDatagram,
    started: Instant,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Manager { socket, started: Instant::now() }
    }

    /// What is told until a time after the start.
    fn told_until(&self, seconds: f64) -> Vec<String> {
        let until = self.started + Duration::from_secs_f64(seconds);
        let (mut told, mut bytes) = (Vec::new(), [0; 4096]);
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Ok(length) = self.socket.recv(&mut bytes) {
                told.extend(text(&bytes[..length]).lines().map(str::to_owned));
            }
        }
        told
    }

    /// What is told until something is, or for too long.
    fn told_to(&self, words: &str) -> Vec<String> {
        let (mut told, mut bytes) = (Vec::new(), [0; 4096]);
        self.socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        while !told.iter().any(|line: &String| line.contains(words)) {
            let length =
                self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("expected {words:?}, was told {told:#?}"));
            told.extend(text(&bytes[..length]).lines().map(str::to_owned));
        }
        told
    }
}

#[test]
fn systemd_is_told_of_a_run_and_missed_deadlines_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, sender) = rig_with_lidar("VLP-16");
    // no tick takes less than a nanosecond, and no plan an hour
    rig.realtime.deadlines =
        Deadlines { tick_ms: Some(1e-6), stages_ms: [("plan".to_owned(), 3.6e6), ("gpu".to_owned(), 1.0)].into() };
    let rig = write_rig(&rig, folder.path());
    let (out, notify) = (folder.path().join("out"), folder.path().join("notify"));
    let manager = Manager::listen(&notify);
    let child = Command::new(CATSEYE)
        .args(["run", &rig, "--output-dir", &out.display().to_string(), "--no-report", "--workers", "1", "--json"])
        .env("NOTIFY_SOCKET", &notify)
        // a look every two seconds: a busy machine lets a tick take one
        .env("WATCHDOG_USEC", "4000000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = manager.told_to("READY=1");
    assert_eq!(told.first().map(String::as_str), Some("STATUS=loading networks"));
    let ready_s = manager.started.elapsed().as_secs_f64();
    let sending = send(sender, 2.0);
    let busy = manager.told_until(ready_s + 5.0);
    let silent = manager.told_until(ready_s + 10.0);
    sending.join().unwrap();
    let pings = |told: &[String]| told.iter().filter(|line| *line == "WATCHDOG=1").count();
    assert!(pings(&busy) >= 2, "{busy:#?}");
    // a lidar that is silent is no hang
    assert!(pings(&silent) >= 2, "{silent:#?}");
    let status = silent.iter().rev().find(|line| line.starts_with("STATUS=")).unwrap();
    assert!(status.contains(" ticks, ") && !status.contains(" 0 ticks") && status.contains(" GB"), "{status}");

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let last = manager.told_to("STOPPING=1");
    assert!(!last.iter().any(|line| line.contains("stands still")), "{last:#?}");
    let words = flat(&output);
    assert!(words.contains("real time: realtime.deadlines.stages_ms.gpu holds nothing to it"), "{words}");

    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (ticks, [tick, plan]) = (&json["ticks"], [&json["deadlines"][0], &json["deadlines"][1]]);
    assert!(ticks.as_u64().unwrap() > 2, "{json:#}");
    assert_eq!((tick["of"].as_str(), &tick["missed"], &tick["observed"]), (Some("tick"), ticks, ticks), "{json:#}");
    assert_eq!((plan["of"].as_str(), plan["missed"].as_u64(), &plan["observed"]), (Some("plan"), Some(0), ticks));
    let (misses, logged) = misses(&out.join("run.mcap"));
    assert_eq!(logged, ticks.as_u64().unwrap());
    assert_eq!(misses.len() as u64, logged);
    let is_right = |(tick, miss): (usize, &DeadlineMiss)| {
        miss.tick == tick as u64 && miss.stage.is_empty() && miss.budget_ns == 1 && miss.took_ns > 1
    };
    assert!(misses.iter().enumerate().all(is_right), "{misses:?}");
}

/// The missed deadlines of a log, and how many ticks it has.
fn misses(log: &Path) -> (Vec<DeadlineMiss>, u64) {
    let (mut reader, mut misses, mut ticks) = (LogReader::open(log).unwrap(), Vec::new(), 0);
    while let Some(event) = reader.next().unwrap() {
        let Event::Message(message) = event else { continue };
        match message.channel.topic.as_str() {
            TOPIC_DEADLINE => misses.push(message.record(log).unwrap()),
            TOPIC_TICK => ticks += 1,
            _ => {}
        }
    }
    (misses, ticks)
}

/// Plans twice, and then never ends.
struct Hanging(u32);

impl Planner for Hanging {
    fn plan(&mut self, _: &WorldModel, _: &mut Plan) {
        self.0 += 1;
        if self.0 > 2 {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

#[test]
#[ignore = "what the test below runs in a process of its own, and ends"]
fn a_run_that_hangs() {
    let (rig, sender) = rig_with_lidar("VLP-16");
    let settings = Settings { planner: Some(Box::new(Hanging(0))), ..Settings::default() };
    let pipeline = Pipeline::build(&rig, &Files::new(), settings).unwrap();
    let pulse = Pulse::default();
    let options = LiveOptions {
        stop: Box::leak(Box::new(AtomicBool::new(false))),
        duration: None,
        pipeline: Some(pipeline.pictures.clone()),
        recording: None,
        timing: false,
        tell: Arc::new(|_, _| {}),
        footing: Footing::default(),
        pulse: pulse.clone(),
    };
    let (_live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    let _watchdog = Watchdog::start(pulse.clone(), std::env::temp_dir(), Arc::new(|_| {})).expect("a socket to tell");
    send(sender, 60.0);
    let options = Options { workers: 2, pulse, ..Options::default() };
    let tap = Tap::start(Vec::new(), 0).unwrap();
    run_live(source, &rig, pipeline, &options, tap, &AtomicBool::new(false), &mut |_, _, _| {}).unwrap();
}

#[test]
fn a_stage_that_hangs_stops_the_pings_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let notify = folder.path().join("notify");
    let manager = Manager::listen(&notify);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_run_that_hangs", "--ignored"])
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "1000000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let before = manager.told_to("stands still: ticks");
    let after = manager.told_until(manager.started.elapsed().as_secs_f64() + 2.0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(before.contains(&"WATCHDOG=1".to_owned()) && before.contains(&"READY=1".to_owned()), "{before:#?}");
    assert!(!after.contains(&"WATCHDOG=1".to_owned()), "{after:#?}");
    // edge and sensor go on, and the status still comes
    let is_of_ticks = |line: &String| line.starts_with("STATUS=stands still: ticks; ");
    assert!(after.len() >= 3 && after.iter().all(is_of_ticks), "{after:#?}");
}
