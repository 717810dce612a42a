//! Live sensors, recorded while they run: the recording is complete, and replays by the run's decisions to the run's bits.
//!
//! Lidars, radars and inertial units send over real sockets, receivers of satellites over pseudo-terminals. Cameras and CAN buses
//! need a kernel that has them: see `tests/vm`.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "../sensors/tests/exporter/fake.rs"]
mod fake;

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use catseye::live::ouster::OusterTurns;
use catseye::live::{Live, LiveError, LiveOptions, LiveReport, Recording, SensorCounts};
use catseye::log::completeness::{self, Verdict};
use catseye::log::packet::{Content, StampInfo, read_packet, sensors_by_topic};
use catseye::log::reader::{Event, LogReader};
use catseye::log::recorder::{self, manifest::Ending};
use catseye::pipeline::{Files, PictureMemory, Pipeline};
use catseye::realtime::Footing;
use catseye::realtime::pulse::Pulse;
use catseye::replay::{Options, run_live};
use catseye::source::Item;
use catseye_calibration::rig::{Exporter, Rig, Source};
use catseye_sensors::lidar::ouster::OusterMetadata;
use catseye_sensors::lidar::{LidarDecoder, LidarScan};
use catseye_sensors::memory::{ForeignMemory, HostMemory, MemoryMaker, PageMaker};
use catseye_sensors::packet::{ClockId, SensorId, StampKind};
use catseye_sensors::pcap::PcapReader;
use catseye_sensors::serial::{SerialError, SerialPort};
use common::lidar::{packet, rig_with_lidar, send};
use common::{Run, Seen, digests, opened, run, run_on, shared};
use counting::allocations;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A port of this host that nobody has.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn live_options(to_pipeline: bool, folder: Option<&Path>, seconds: f64) -> LiveOptions {
    LiveOptions {
        stop: Box::leak(Box::new(AtomicBool::new(false))),
        duration: Some(Duration::from_secs_f64(seconds)),
        pipeline: to_pipeline.then(|| PictureMemory { maker: Arc::new(PageMaker), held: 8 }),
        recording: folder.map(|folder| Recording {
            folder: folder.to_owned(),
            name: "drive".to_owned(),
            options: recorder::Options { min_free_bytes: 0, ..recorder::Options::default() },
        }),
        timing: false,
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
    // a machine that is busy needs longer than the lidar to read what waits in the socket
    let (live, source) = Live::start(&rig, &Files::new(), live_options(true, Some(folder.path()), 6.0)).unwrap();
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
fn a_recording_with_its_outputs_replays_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, sender) = rig_with_lidar("VLP-16");
    std::fs::write(folder.path().join("car.toml"), rig.to_toml()).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_catseye"));
        command.args(arguments).current_dir(folder.path());
        command
    };
    let run =
        ["run", "car.toml", "--record", "rec", "--name", "drive", "--outputs", "--no-report", "--min-free-mib", "0"];
    let run = command(&[run.as_slice(), &["--duration", "8"]].concat()).spawn().unwrap();
    // what comes before every sensor is open is not part of the run
    let sending = send(sender, 6.0);
    assert!(run.wait_with_output().unwrap().status.success());
    sending.join().unwrap();
    for input in ["rec", "rec/drive.manifest.json"] {
        let same = command(&["replay", input, "--verify", "--no-report", "--json"]).output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
        assert!(same.status.success() && found["ticks"].as_u64() > Some(3), "{found}");
    }
    let replay = command(&["replay", "rec", "--no-report", "-q", "--out", "again.mcap"]).status().unwrap();
    let diff = command(&["diff", "rec/drive.run.mcap", "again.mcap"]).status().unwrap();
    assert!(replay.success() && diff.success(), "{replay} {diff}");
    let check = command(&["check", "rec"]).output().unwrap();
    let words = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && words.contains("drive.run.mcap"), "{words}");
}

#[test]
fn recording_alone_needs_no_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, sender) = rig_with_lidar("VLP-16");
    let options = LiveOptions { timing: true, ..live_options(false, Some(folder.path()), 3.0) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
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
fn a_signal_that_the_bus_does_not_have_is_told_with_its_key() {
    let pose = "mounting = { nominal = { xyz_m = [0, 0, 0], rpy_deg = [0, 0, 0] } }";
    let signals = "signals = { angular_velocity_z_radps = \"YAW.RATE\" }";
    let imu = format!("[[imu]]\nname = \"imu\"\nsource = \"can:body\"\nrate_hz = 100\n{pose}\n{signals}\n");
    let can = "[[can]]\nname = \"body\"\nsource = \"can0\"\ndbc = [\"body.dbc\"]\n";
    let rig = Rig::parse(&format!("schema = 1\nname = \"car\"\n{imu}{can}"), "car.toml").unwrap();
    let start = |dbc: &str| {
        let files = Files::from([(PathBuf::from("body.dbc"), dbc.as_bytes().to_vec())]);
        Live::start(&rig, &files, live_options(false, None, 0.1)).map(|_| ()).unwrap_err().to_string()
    };
    let other = "VERSION \"\"\nBU_: A\nBO_ 256 YAW: 2 A\n SG_ ANGLE : 0|16@1- (1,0) [0|0] \"\" A\n\n";
    assert_eq!(
        start(other),
        "sensor imu: signals.angular_velocity_z_radps: expected a signal in the DBC files of body, found \"YAW.RATE\""
    );
    assert!(start("nonsense").starts_with("sensor imu: source: body.dbc: not a DBC file: "), "{}", start("nonsense"));
    // all is there but the interface
    let error = start(&other.replace("ANGLE", "RATE"));
    assert!(error.starts_with("sensor imu: CAN interface can0: "), "{error}");
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
    rig.sources.insert("roof".to_owned(), Source::Tcp("1.2.3.4:5".to_owned()));
    assert!(
        refused(&rig).contains("expected one of its kind as source, found \"tcp://1.2.3.4:5\""),
        "{}",
        refused(&rig)
    );
    let (mut rig, _sender) = rig_with_lidar("OS1-128");
    assert!(
        refused(&rig).contains("sensor roof: calibration: expected the metadata of the Ouster"),
        "{}",
        refused(&rig)
    );
    rig.lidars[0].calibration = Some(PathBuf::from("no-such.json"));
    assert!(refused(&rig).contains("sensor roof: calibration: no-such.json: "), "{}", refused(&rig));
    rig.sources.clear();
    assert!(matches!(Live::start(&rig, &Files::new(), live_options(true, None, 0.1)), Err(LiveError::NoSource { .. })));
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Nv12;
    rig.sources.insert("front".to_owned(), Source::Device(PathBuf::from("/dev/no-such-camera")));
    assert!(refused(&rig).contains("sensor front: "), "{}", refused(&rig));
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Png;
    assert!(refused(&rig).contains("expected a camera whose format is jpeg, nv12"), "{}", refused(&rig));
}

const OUSTER: &str = r#"{
    "beam_altitude_angles": [20.0, 5.0, -5.0, -20.0], "beam_azimuth_angles": [4.0, 1.0, -1.0, -4.0],
    "data_format": {"column_window": [0, 31], "columns_per_frame": 32, "columns_per_packet": 8,
        "pixel_shift_by_row": [3, 2, -1, 0], "pixels_per_column": 4, "udp_profile_lidar": "RNG19_RFL8_SIG16_NIR16"},
    "imu_to_sensor_transform": [1, 0, 0, 6.253, 0, 1, 0, -11.775, 0, 0, 1, 7.645, 0, 0, 0, 1],
    "lidar_origin_to_beam_origin_mm": 27.67,
    "lidar_to_sensor_transform": [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 36.18, 0, 0, 0, 1],
    "prod_line": "OS-0-32-U1", "prod_sn": "992137000142"}"#;

/// An Ouster's packet, four of which are a turn of 100 ms.
fn ouster_packet(number: u32) -> Vec<u8> {
    let (frame, first) = ((number / 4) as u16, (number % 4 * 8) as u16);
    let mut bytes = Vec::new();
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(frame.to_le_bytes());
    bytes.extend([7, 0, 0]);
    bytes.extend(&992_137_000_142_u64.to_le_bytes()[..5]);
    bytes.resize(32, 0);
    for column in first..first + 8 {
        let stamp_ns = 1_000_000_000 + u64::from(frame) * 100_000_000 + u64::from(column) * 3_125_000;
        bytes.extend(stamp_ns.to_le_bytes());
        bytes.extend(column.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        for row in 0..4_u32 {
            let range_mm = 5000 + row * 100 + u32::from(column);
            bytes.extend([range_mm, 5 | 600 << 16, 7000].into_iter().flat_map(u32::to_le_bytes));
        }
    }
    bytes.extend([0; 32]);
    bytes
}

/// A packet of an Ouster's inertial unit: level, turning to the left.
fn ouster_imu_packet(number: u32) -> Vec<u8> {
    let stamp_ns = 1_000_000_000 + u64::from(number) * 10_000_000;
    let mut bytes: Vec<u8> = [stamp_ns; 3].into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.extend([0.0, 0.0, 1.0, 0.0, 0.0, 5.0_f32].into_iter().flat_map(f32::to_le_bytes));
    bytes
}

/// An ARS548's list of three detections, 20 lists a second.
fn radar_packet(number: u32) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(336_u16.to_be_bytes());
    bytes.extend((35_336_u32 - 8).to_be_bytes());
    bytes.resize(35_336, 0);
    let stamp_ns = 1_000_000_000 + u64::from(number) * 50_000_000;
    bytes[36..40].copy_from_slice(&((stamp_ns % 1_000_000_000) as u32).to_be_bytes());
    bytes[40..44].copy_from_slice(&((stamp_ns / 1_000_000_000) as u32).to_be_bytes());
    for at in 0..3 {
        let record = 35_336 - 14 - 21 - (800 - at) * 44;
        for (offset, value) in [(0, 0.1), (17, 30.0 - at as f32), (25, -2.0_f32)] {
            bytes[record + offset..record + offset + 4].copy_from_slice(&value.to_be_bytes());
        }
    }
    let count = 35_336 - 14 - 13;
    bytes[count..count + 4].copy_from_slice(&3_u32.to_be_bytes());
    bytes
}

/// What an NMEA receiver says of an epoch, 10 of them a second.
fn nmea(number: u32) -> Vec<u8> {
    let (second, tenth) = (number / 10 % 60, number % 10);
    let sentence = |body: String| {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    };
    let time = format!("1015{second:02}.{tenth}0");
    let gga = sentence(format!("GNGGA,{time},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"));
    let rmc = sentence(format!("GNRMC,{time},A,4807.038,N,01131.000,E,022.4,084.4,180326,,,A"));
    (gga + &rmc).into_bytes()
}

/// A serial port whose other end the test holds, under a name that stays.
struct Plug {
    name: PathBuf,
    master: Option<OwnedFd>,
}

impl Plug {
    fn new(folder: &Path) -> Self {
        let mut plug = Plug { name: folder.join("ttyGNSS"), master: None };
        plug.plug_in();
        plug
    }

    fn plug_in(&mut self) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let port = ptsname(&master, Vec::new()).unwrap();
        std::os::unix::fs::symlink(OsStr::from_bytes(port.as_bytes()), &self.name).unwrap();
        self.master = Some(master);
    }

    fn unplug(&mut self) {
        std::fs::remove_file(&self.name).unwrap();
        self.master = None;
    }

    fn say(&self, bytes: &[u8]) {
        if let Some(master) = &self.master {
            assert_eq!(rustix::io::write(master, bytes).unwrap(), bytes.len());
        }
    }
}

/// Whether serial ports can be set up here: qemu up to 7.2 hands no settings of theirs to the kernel.
fn has_serial_ports() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let plug = Plug::new(folder.path());
    let refused = match SerialPort::open(&plug.name, 115_200) {
        Err(SerialError::Settings { error, .. }) => error.kind() == std::io::ErrorKind::Unsupported,
        _ => false,
    };
    if refused {
        eprintln!("skipped: no settings of serial ports under this emulator");
    }
    !refused
}

/// A car with a sensor of every kind that needs no bus: their ports, and the name of the serial port.
fn rig_of_all([lidar, imu, radar]: [u16; 3], serial: &Path) -> Rig {
    let mounting = |kind: &str| format!("[{kind}.mounting]\nnominal = {{ xyz_m = [1, 0, 1], rpy_deg = [0, 0, 0] }}\n");
    let sensor = |kind: &str, source: &str, more: &str| {
        format!("[[{kind}]]\nname = \"{kind}\"\nsource = \"{source}\"\nrate_hz = 10\n{more}{}", mounting(kind))
    };
    let lidar_keys = "model = \"OS0-32\"\ncalibration = \"os0.json\"\n";
    let text = "schema = 1\nname = \"all\"\n".to_owned()
        + &sensor("lidar", &format!("udp://127.0.0.1:{lidar}"), lidar_keys)
        + &sensor("imu", &format!("udp://127.0.0.1:{imu}"), "")
        + &sensor("radar", &format!("udp://239.255.77.2:{radar}?interface=127.0.0.1"), "")
        + &sensor("gnss", &format!("serial://{}?baud=115200", serial.display()), "");
    Rig::parse(&text, "all.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// Sends what is due since the start, every so many milliseconds, until the time is over.
fn every(period_ms: u64, seconds: f64, mut send: impl FnMut(u32)) {
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed().as_secs_f64() < seconds {
        let due = Duration::from_millis(period_ms * u64::from(number));
        std::thread::sleep(due.saturating_sub(start.elapsed()).min(Duration::from_millis(20)));
        if start.elapsed() >= due {
            send(number);
            number += 1;
        }
    }
}

/// All packets of a recording, each with its sensor's name.
fn packets(log: &Path, rig: &Rig) -> Vec<(String, Content)> {
    let by_topic = sensors_by_topic(rig);
    let names: Vec<String> = rig.sensors().map(|sensor| sensor.name.to_owned()).collect();
    let mut reader = LogReader::open(log).unwrap();
    let mut found = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        let Event::Message(message) = event else { continue };
        let Some(SensorId(id)) = by_topic.get(&message.channel.topic).copied() else { continue };
        let info = StampInfo::of(message.channel);
        let packet = read_packet(&message, SensorId(id), &info).unwrap().unwrap();
        found.push((names[usize::from(id)].clone(), packet.content));
    }
    found
}

#[test]
fn a_run_with_every_kind_of_sensor_replays_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port(), free_port()];
    let mut plug = Plug::new(folder.path());
    let mut rig = rig_of_all(ports, &plug.name);
    let has_gnss = has_serial_ports();
    if !has_gnss {
        rig.gnss.clear();
        rig.sources.remove("gnss");
    }
    let files = Files::from([(PathBuf::from("os0.json"), OUSTER.as_bytes().to_vec())]);
    let Run { settings, .. } = Run::new(2);
    let pipeline = Pipeline::build(&rig, &files, settings).unwrap();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let words = Arc::clone(&told);
    let options = LiveOptions {
        tell: Arc::new(move |sensor, text| words.lock().unwrap().push(format!("{sensor}: {text}"))),
        ..live_options(true, Some(folder.path()), 4.0)
    };
    let (live, source) = Live::start(&rig, &files, options).unwrap();

    // packets to a group leave by the interface whose address their socket has
    let sender = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let [lidar, imu, radar] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let radar = SocketAddr::from((Ipv4Addr::new(239, 255, 77, 2), radar.port()));
    let to = |place: SocketAddr, period_ms: u64, make: fn(u32) -> Vec<u8>| {
        let sender = Arc::clone(&sender);
        std::thread::spawn(move || {
            every(period_ms, 3.5, |number| {
                // nobody may listen any more
                let _ = sender.send_to(&make(number), place);
            });
        })
    };
    let senders = [to(lidar, 25, ouster_packet), to(imu, 10, ouster_imu_packet), to(radar, 50, radar_packet)];
    let receiver = std::thread::spawn(move || {
        every(100, 3.5, |number| match number {
            _ if !has_gnss => {}
            10 => plug.unplug(),
            18 => plug.plug_in(),
            _ => plug.say(&nmea(number)),
        });
        plug
    });

    let log = folder.path().join("run.mcap");
    let (seen, summary): (Vec<Seen>, _) = run_on(&rig, &files, pipeline, Some(&log), |pipeline, tap| {
        let options = Options { workers: 2, ..Options::default() };
        run_live(source, &rig, pipeline, &options, tap, &AtomicBool::new(false), &mut |_, _, _| {})
    });
    let report = live.finish();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    drop(receiver.join().unwrap());

    println!("{} ticks, {:#?}, {:?}", summary.ticks, report.sensors, told.lock().unwrap());
    let LiveReport { sensors, recording: Some(recording), .. } = report else { panic!("no recording") };
    let least = [("lidar", 15), ("imu", 150), ("radar", 30), ("gnss", 10)];
    assert_eq!(sensors.len(), least.len() - usize::from(!has_gnss));
    for (name, least) in least.into_iter().filter(|(name, _)| has_gnss || *name != "gnss") {
        let SensorCounts { sent, refused, not_recorded, edge_full, left_out, .. } = &sensors[name];
        assert!(*sent >= least, "{name}: {:?}", sensors[name]);
        assert_eq!([*refused, *not_recorded, *edge_full, *left_out], [0; 4], "{name}: {:?}", sensors[name]);
    }
    if has_gnss {
        assert_eq!(sensors["gnss"].lost, 1);
        let told = told.lock().unwrap();
        let unplugged = format!("gnss: serial port {}: unplugged", folder.path().join("ttyGNSS").display());
        for words in [unplugged, "gnss: is back".into()] {
            assert!(told.contains(&words), "expected {words}, found {told:?}");
        }
    }
    assert_eq!(recording.manifest.ending, Ending::Stopped);
    for subject in completeness::subjects(&[folder.path().join("drive.manifest.json")]).unwrap() {
        let checked = completeness::check(&subject, &mut |_, _| {});
        assert_eq!(checked.verdict(), Verdict::Complete, "{checked:?}");
    }

    let drive = folder.path().join("drive_0000.mcap");
    let mut again = Run::new(1);
    again.options.decisions = Some(log);
    let (replayed, _) = run(&opened(drive.clone()), again);
    assert!(!seen.is_empty());
    assert_eq!(digests(&replayed), digests(&seen));

    let packets = packets(&drive, &rig);
    let of = |wanted: &'static str| packets.iter().filter(move |(name, _)| name == wanted).map(|(_, content)| content);
    for content in of("radar") {
        let Content::Radar(scan) = content else { panic!("{content:?}") };
        assert_eq!(scan.targets.len(), 3);
        assert!(scan.targets.iter().all(|target| target.range_rate_mps == -2.0 && target.y_m > 2.0));
    }
    for content in of("gnss") {
        let Content::Gnss(fix) = content else { panic!("{content:?}") };
        assert!((fix.latitude_deg - 48.1173).abs() < 1e-6 && (fix.altitude_m - 592.3).abs() < 1e-9, "{fix:?}");
        assert!(fix.speed_mps.is_some_and(|speed_mps| (speed_mps - 11.52).abs() < 0.01), "{fix:?}");
    }
    for content in of("imu") {
        let Content::Imu(sample) = content else { panic!("{content:?}") };
        assert!((sample.angular_velocity_radps[2] - 5.0_f64.to_radians()).abs() < 1e-9, "{sample:?}");
    }
    for content in of("lidar") {
        let Content::Cloud(cloud) = content else { panic!("{content:?}") };
        let mut points = Vec::new();
        assert_eq!((cloud.unpack(&mut points), points.len()), (Ok(0), 128));
    }
}

#[test]
fn an_ouster_of_a_capture_is_live_and_allocates_nothing_once_warm() {
    let Some(folder) = shared("lidar/packets_ouster") else { return };
    let metadata = std::fs::read(folder.join("OS-1-128_v2.3.0_1024x10.json")).unwrap();
    let capture = std::fs::read(folder.join("OS-1-128_v2.3.0_1024x10_lb_n3.pcap")).unwrap();
    let parsed = OusterMetadata::from_json(&metadata).unwrap();
    let (mut reader, mut rest, mut sent) = (PcapReader::default(), capture.as_slice(), Vec::new());
    while let Some(datagram) = reader.next_datagram(&mut rest).unwrap() {
        if Some(datagram.destination.port()) == parsed.lidar_port() {
            sent.push(datagram.payload.to_vec());
        }
    }
    assert_eq!(sent.len(), 192);

    let mut turns = OusterTurns::new(&parsed, ClockId::Sensor);
    let mut scan = LidarScan::default();
    let mut counts = Vec::new();
    for (number, packet) in sent.iter().enumerate() {
        let before = allocations();
        if turns.decode(packet, number as i64, &mut scan).unwrap() {
            counts.push((scan.points.len(), scan.complete, scan.arrival_ns));
        }
        // the two frames that are exchanged have grown after two turns
        assert!(number < 128 || allocations() == before, "packet {number}");
    }
    assert_eq!(counts, [(107_647, true, 0), (107_357, true, 64), (107_532, true, 128)]);

    let (mut rig, sender) = rig_with_lidar("OS1-128");
    rig.lidars[0].calibration = Some(PathBuf::from("os1.json"));
    let files = Files::from([(PathBuf::from("os1.json"), metadata)]);
    let recording = tempfile::tempdir().unwrap();
    let (live, source) = Live::start(&rig, &files, live_options(false, Some(recording.path()), 5.0)).unwrap();
    drop(source);
    every(2, 0.4, |number| {
        if let Some(packet) = sent.get(number as usize) {
            sender.send(packet).unwrap();
        }
    });
    let report = live.finish();
    assert_eq!((report.sensors["roof"].sent, report.sensors["roof"].missing), (3, 0), "{:?}", report.sensors);
    let drive = opened(recording.path().join("drive_0000.mcap"));
    assert_eq!((drive.rig, drive.files), (rig, files));
}

#[test]
fn a_real_receivers_sentences_come_over_a_serial_port() {
    let Some(log) = shared("can/nmea/nmea-rtk.log").filter(|_| has_serial_ports()) else { return };
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let mut epochs: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('$')) {
        match epochs.last_mut() {
            Some(epoch) if !line.contains("GGA") => *epoch += &format!("{line}\r\n"),
            _ => epochs.push(format!("{line}\r\n")),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let plug = Plug::new(folder.path());
    let mut rig = rig_of_all([1, 2, 3], &plug.name);
    rig.sources.retain(|name, _| name == "gnss");
    let (live, source) = Live::start(&rig, &Files::new(), live_options(false, Some(folder.path()), 2.0)).unwrap();
    drop(source);
    every(100, 1.5, |number| plug.say(epochs[number as usize].as_bytes()));
    let report = live.finish();
    let counts = &report.sensors["gnss"];
    assert!((14..=16).contains(&counts.sent) && counts.refused == 0 && counts.bad_stamp == 0, "{counts:?}");
    let found = packets(&folder.path().join("drive_0000.mcap"), &rig);
    let Some((_, Content::Gnss(fix))) = found.first() else { panic!("{found:?}") };
    // 41 34.49795459 N, 93 45.03431408 W, 278.161 m above a geoid 31.442 m below the ellipsoid
    assert!(
        (fix.latitude_deg - 41.574_965_91).abs() < 1e-8 && (fix.longitude_deg + 93.750_571_9).abs() < 1e-7,
        "{fix:?}"
    );
    assert!((fix.altitude_m - 246.719).abs() < 1e-9, "{fix:?}");
}

/// A message of UBX.
fn ubx([class, number]: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_le_bytes();
    let body = [[class, number].as_slice(), &length, payload].concat();
    let sums = body.iter().fold([0u8; 2], |[a, b], byte| {
        let a = a.wrapping_add(*byte);
        [a, b.wrapping_add(a)]
    });
    [[0xB5, 0x62].as_slice(), &body, &sums].concat()
}

/// UBX-ESF-RAW of a tenth of a second: ten samples with a rate of 90 degrees a second about z and 9.75 m/s² up.
fn esf_raw(number: u32) -> Vec<u8> {
    let mut payload = vec![0; 4];
    for sample in 0..10 {
        // 256 ticks of 39.0625 µs are 10 ms; the counter begins anew on the way
        let tag = (0xFF_F000 + 256 * (10 * number + sample)) & 0xFF_FFFF;
        for (kind, value) in [(14u32, 0u32), (13, 0), (5, 90 << 12), (16, 0), (17, 0), (18, 9984), (12, 2500)] {
            payload.extend_from_slice(&(kind << 24 | value).to_le_bytes());
            payload.extend_from_slice(&tag.to_le_bytes());
        }
    }
    ubx([0x10, 0x03], &payload)
}

#[test]
fn the_unit_of_a_receiver_comes_over_a_serial_port_that_is_unplugged() {
    if !has_serial_ports() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut plug = Plug::new(folder.path());
    let mut rig = rig_of_all([1, 2, 3], &plug.name);
    rig.sources = [("imu".to_owned(), Source::Serial { device: plug.name.clone(), baud: 921_600 })].into();
    let again = Rig::parse(&rig.to_toml(), "again.toml").unwrap();
    assert_eq!(again.sources, rig.sources);
    // a machine that is busy needs longer
    let options = LiveOptions { timing: true, ..live_options(false, Some(folder.path()), 9.0) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    drop(source);
    every(100, 6.5, |number| match number {
        10 => plug.unplug(),
        18 => plug.plug_in(),
        // the receiver's other messages come on the same line
        _ => plug.say(&[nmea(number), esf_raw(number), ubx([1, 0x61], &[0; 4])].concat()),
    });
    let report = live.finish();
    let counts = &report.sensors["imu"];
    // what comes half a second late is refused as a whole
    assert!(counts.sent > 100 && counts.sent % 10 == 0 && counts.bad_stamp <= 100, "{counts:?} {:?}", report.timing);
    assert_eq!((counts.refused, counts.not_recorded, counts.lost), (0, 0, 1), "{counts:?}");
    assert_eq!((report.timing["imu"].clock, report.timing["imu"].kind), (ClockId::Sensor, StampKind::ExposureMiddle));
    let drive = folder.path().join("drive_0000.mcap");
    for (_, content) in packets(&drive, &rig) {
        let Content::Imu(sample) = content else { panic!("{content:?}") };
        let [x, y, z] = sample.angular_velocity_radps;
        assert!(x == 0.0 && y == 0.0 && (z - std::f64::consts::FRAC_PI_2).abs() < 1e-12, "{sample:?}");
        assert_eq!(sample.acceleration_mps2, [0.0, 0.0, 9.75]);
    }
    // samples keep their distance of 10 ms on the host's time line, although ten come at once
    let mut reader = LogReader::open(&drive).unwrap();
    let mut stamps_ns = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        if let Event::Message(message) = event {
            stamps_ns.push(message.publish_ns);
        }
    }
    let even = stamps_ns.windows(2).filter(|pair| (pair[1] - pair[0] - 10_000_000).abs() < 2_000_000).count();
    assert!(even * 10 >= stamps_ns.len() * 9, "{even} of {}", stamps_ns.len());
}

#[test]
fn a_receiver_on_another_host_is_connected_to_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = rig_of_all([1, 2, 3], Path::new("/none"));
    let place = listener.local_addr().unwrap().to_string();
    rig.sources = [("gnss".to_owned(), Source::Tcp(place))].into();
    let folder = tempfile::tempdir().unwrap();
    let options = LiveOptions { timing: true, ..live_options(false, Some(folder.path()), 2.0) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    drop(source);
    for first in [0, 10] {
        let (mut connection, _) = listener.accept().unwrap();
        every(100, 0.6, |number| connection.write_all(&nmea(first + number)).unwrap());
    }
    let report = live.finish();
    let counts = &report.sensors["gnss"];
    assert!(counts.sent >= 10 && counts.lost >= 1 && counts.refused == 0, "{counts:?}");
    let timing = report.timing["gnss"];
    assert_eq!((timing.clock, timing.kind), (ClockId::Gnss, StampKind::ExposureMiddle));
}

#[test]
fn silence_is_told_and_counted() {
    let (rig, sender) = rig_with_lidar("VLP-16");
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let words = Arc::clone(&told);
    let options = LiveOptions {
        tell: Arc::new(move |_, text| words.lock().unwrap().push(text.to_owned())),
        ..live_options(false, None, 3.0)
    };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    drop(source);
    std::thread::sleep(Duration::from_millis(2500));
    sender.send(&packet(0)).unwrap();
    let report = live.finish();
    assert_eq!(report.sensors["roof"].lost, 1);
    assert_eq!(*told.lock().unwrap(), ["sends nothing", "sends again"]);
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _sender) = rig_with_lidar("VLP-16");
    let Some(Source::Udp(place)) = rig.sources.get("roof") else { panic!("no address") };
    let _taken = UdpSocket::bind(place.address).unwrap();
    let path = folder.path().join("rig.toml");
    std::fs::write(&path, rig.to_toml()).unwrap();
    for command in ["run", "record"] {
        let (out, drives) = (folder.path().join("out"), folder.path().join("drives"));
        let mut catseye = std::process::Command::new(env!("CARGO_BIN_EXE_catseye"));
        catseye.arg(command).arg(&path);
        match command {
            "run" => catseye.arg("--no-report").arg("--output-dir").arg(&out).arg("--record").arg(&drives),
            _ => catseye.arg(&drives),
        };
        let output = catseye.output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("sensor roof: "), "{output:?}");
        for left in [&out, &drives] {
            let files = std::fs::read_dir(left).into_iter().flatten().flatten().map(|entry| entry.path());
            assert_eq!(files.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{command}");
        }
    }
}

/// Two cameras of 64 by 48 behind a fake exporter, which says for each what else it is told.
fn rig_of_exporters(library: &Path, keys: [&str; 2]) -> Rig {
    let camera = |number: usize| {
        let keys = keys[number];
        let source = format!("exporter:{}?config=camera={number};{keys}", library.display());
        format!("[[camera]]\nname = \"c{number}\"\nsource = \"{source}\"\nwidth_px = 64\nheight_px = 48\n")
            + "format = \"nv12\"\nrate_hz = 40\n"
            + "intrinsics = { model = \"brown-conrady\", fx = 60.0, fy = 60.0, cx = 31.5, cy = 23.5 }\n"
            + "mounting = { nominal = { xyz_m = [1, 0, 1], rpy_deg = [-90, 0, -90] } }\n"
    };
    let text = format!("schema = 1\nname = \"exporters\"\n[tick]\ntrigger = \"c0\"\n{}{}", camera(0), camera(1));
    Rig::parse(&text, "exporters.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// What was told of each sensor, in order.
type Told = Arc<Mutex<Vec<(String, String)>>>;

fn listener() -> (Told, catseye::live::Tell) {
    let told = Told::default();
    let to = Arc::clone(&told);
    (told, Arc::new(move |sensor, words| to.lock().unwrap().push((sensor.to_owned(), words.to_owned()))))
}

/// The fake's number of a picture, modulo 256, if every pixel is the fake's.
fn drawn_number(content: &Content) -> Option<u8> {
    let Content::Raw { bytes, layout } = content else { return None };
    let stride = layout.stride_bytes.unwrap_or(64);
    // 7 times 183 is 1 modulo 256
    let number = bytes[..].first()?.wrapping_mul(183);
    let is_drawn = (0..72).all(|row| {
        let (plane, row_of_plane) = if row < 48 { (0, row) } else { (1, row - 48) };
        let pixels = &bytes[row * stride..row * stride + 64];
        let first = number.wrapping_mul(7).wrapping_add((plane * 31 + row_of_plane * 3) as u8);
        pixels.iter().enumerate().all(|(column, byte)| *byte == first.wrapping_add(column as u8))
    });
    is_drawn.then_some(number)
}

#[test]
fn pictures_of_an_exporter_are_recorded_whole_while_another_goes_and_comes() {
    let Some(fake) = fake::build(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rig = rig_of_exporters(&fake.library, ["padding=8", "fault=gone;at=25;away_ms=250"]);
    let (told, tell) = listener();
    let options = LiveOptions { tell, ..live_options(false, Some(folder.path()), 3.0) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    drop(source);
    let report = live.finish();
    let (steady, coming) = (&report.sensors["c0"], &report.sensors["c1"]);
    println!("{steady:?} {coming:?}");
    // 120 are due; a busy machine loses some, and says how many
    assert!(steady.sent >= 60, "{steady:?}");
    let nothing = SensorCounts { sent: steady.sent, missing: steady.missing, ..SensorCounts::default() };
    assert_eq!(*steady, nothing);
    assert!(coming.lost >= 2 && coming.sent > 50, "{coming:?}");
    let words: Vec<String> =
        told.lock().unwrap().iter().filter(|told| told.0 == "c1").map(|told| told.1.clone()).collect();
    assert_eq!(words[0], "exporter fake 1: the camera is gone: camera 1 was unplugged");
    assert_eq!(words[1], "is back");
    assert!(!told.lock().unwrap().iter().any(|told| told.0 == "c0"), "{told:?}");
    for subject in completeness::subjects(&[folder.path().join("drive.manifest.json")]).unwrap() {
        assert_eq!(completeness::check(&subject, &mut |_, _| {}).verdict(), Verdict::Complete);
    }
    let found = packets(&folder.path().join("drive_0000.mcap"), &rig);
    let number = |(sensor, content): &(String, Content)| {
        let number = drawn_number(content).unwrap_or_else(|| panic!("{sensor}: a picture that nobody drew"));
        (sensor == "c0").then_some(number)
    };
    let numbers: Vec<u8> = found.iter().filter_map(number).collect();
    assert_eq!((numbers.len() as u64, found.len() as u64), (steady.sent, steady.sent + coming.sent));
    let steps: u64 = numbers.windows(2).map(|pair| u64::from(pair[1].wrapping_sub(pair[0]))).sum();
    assert!(steps - (steady.sent - 1) <= steady.missing, "{steps} {steady:?}");
}

#[test]
fn a_run_of_exporters_copies_no_picture_and_replays_to_its_own_bits() {
    let Some(fake) = fake::build(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rig = rig_of_exporters(&fake.library, ["", "fault=torn"]);
    let Run { settings, .. } = Run::new(2);
    let pipeline = Pipeline::build(&rig, &Files::new(), settings).unwrap();
    let (live, source) = Live::start(&rig, &Files::new(), live_options(true, Some(folder.path()), 3.0)).unwrap();
    let log = folder.path().join("run.mcap");
    let (seen, _): (Vec<Seen>, _) = run_on(&rig, &Files::new(), pipeline, Some(&log), |pipeline, tap| {
        let options = Options { workers: 2, ..Options::default() };
        run_live(source, &rig, pipeline, &options, tap, &AtomicBool::new(false), &mut |_, _, _| {})
    });
    let report = live.finish();
    println!("{:?}", report.sensors);
    assert!(report.sensors["c0"].sent > 40, "{report:?}");
    assert!(report.sensors.values().all(|counts| counts.copied * 10 <= counts.sent), "{:?}", report.sensors);
    assert!(report.sensors["c1"].damaged > 10, "{report:?}");
    let mut again = Run::new(1);
    again.options.decisions = Some(log);
    let (replayed, _) = run(&opened(folder.path().join("drive_0000.mcap")), again);
    assert!(seen.len() > 20);
    assert_eq!(digests(&replayed), digests(&seen));
}

/// Makes memory known, as a GPU's driver does, and counts it.
#[derive(Debug, Default)]
struct Adopting(AtomicUsize);

impl MemoryMaker for Adopting {
    fn make(&self, _: usize) -> Option<Box<dyn HostMemory>> {
        None
    }

    fn adopt(&self, memory: ForeignMemory) -> Option<Box<dyn HostMemory>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Adopted(memory)))
    }
}

#[derive(Debug)]
struct Adopted(ForeignMemory);

impl HostMemory for Adopted {
    #[allow(unsafe_code)] // memory of a library
    fn bytes(&self) -> &[u8] {
        // SAFETY: this test asks only while it holds a picture that lies there.
        unsafe { std::slice::from_raw_parts(self.0.start().as_ptr(), self.0.len()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }
}

#[test]
fn each_buffer_of_an_exporter_is_made_known_once() {
    let Some(fake) = fake::build(&[]) else { return };
    let rig = rig_of_exporters(&fake.library, ["", ""]);
    let maker = Arc::new(Adopting::default());
    let pictures = PictureMemory { maker: maker.clone(), held: 2 };
    let options = LiveOptions { pipeline: Some(pictures), ..live_options(true, None, 1.5) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    let mut seen = 0;
    while let Some(Item::Packets(packets)) = source.wait(Duration::from_secs(10)) {
        for packet in packets {
            let Content::Raw { bytes, .. } = packet.content else { panic!("no picture") };
            assert_eq!(bytes.memory().map(|memory| memory.bytes().as_ptr()), Some(bytes.as_ptr()));
            seen += 1;
        }
    }
    let report = live.finish();
    let buffers = maker.0.load(Ordering::Relaxed);
    println!("{seen} pictures in {buffers} buffers, {:?}", report.sensors);
    // 2 held, 4 on the way, 2 with the camera, of two cameras
    assert!(buffers <= 16 && seen > 3 * buffers, "{seen} pictures in {buffers} buffers");
}

#[test]
fn pictures_that_break_the_contract_or_have_no_stamp_are_counted_and_told() {
    let Some(fake) = fake::build(&[]) else { return };
    let rig = rig_of_exporters(&fake.library, ["fault=null_plane;at=10", "fault=stamps;at=0;apart=64"]);
    let (told, tell) = listener();
    let options = LiveOptions { tell, ..live_options(true, None, 1.5) };
    let (live, source) = Live::start(&rig, &Files::new(), options).unwrap();
    let report = live.finish();
    drop(source);
    let (faulty, stampless) = (&report.sensors["c0"], &report.sensors["c1"]);
    assert!(faulty.refused > 5 && faulty.sent <= 10, "{faulty:?}");
    assert!(stampless.sent > 20 && stampless.copied == stampless.sent, "{stampless:?}");
    // those from before the run began are counted too
    assert!(stampless.bad_stamp >= stampless.sent, "{stampless:?}");
    let told = told.lock().unwrap();
    let has_told =
        |sensor: &str, words: &str| told.iter().filter(|told| told.0 == sensor && told.1.contains(words)).count();
    assert_eq!(has_told("c0", "picture 10: plane 1: expected 1536 bytes at an address, found address 0x0"), 1);
    assert_eq!(has_told("c1", "its stamps cannot be true: pictures have those of their arrival"), 1);
    assert_eq!(has_told("c1", "its planes lie apart: each picture is copied once"), 1);
}

#[test]
fn an_exporter_that_is_not_there_is_told_with_what_makes_it() {
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Nv12;
    let refused = |rig: &Rig| match Live::start(rig, &Files::new(), live_options(true, None, 0.1)) {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    };
    for (source, library, folder) in [
        (Exporter::Argus(0), "libcatseye_argus.so", "argus"),
        (Exporter::Sipl("F".to_owned()), "libcatseye_sipl.so", "sipl"),
    ] {
        rig.sources.insert("front".to_owned(), Source::Exporter(source));
        let error = refused(&rig);
        assert!(error.starts_with(&format!("sensor front: exporter {library}: cannot be opened: ")), "{error}");
        assert!(error.contains(&format!("make -C sensors/exporters/{folder}`")), "{error}");
    }
    rig.cameras[0].format = catseye_calibration::rig::PictureFormat::Jpeg;
    let error = refused(&rig);
    assert!(error.contains("expected a camera whose format is nv12, i420"), "{error}");
    assert!(error.contains("found \"sipl:F, format jpeg\""), "{error}");
}
