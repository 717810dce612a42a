//! `catseye doctor` on machines of text files, on a machine without anything, and on this one.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use catseye::doctor::fatbin::{FatbinError, architectures, architectures_of};
use catseye::doctor::{Facts, Finding, Machine, Report, Root, examine};
use catseye::header::sha256_hex;
use catseye_calibration::rig::{Can, Exporter, Model, PictureFormat, Rig, Source};

/// Where TensorRT's library is on the boards of the fixtures.
const BOARD_LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";
const CUBIN: u16 = 2;
const PTX: u16 = 1;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/doctor").join(name)
}

/// A fixture that may be changed.
fn copy_of(name: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => copy(&from, &to),
                kind if kind.is_symlink() => {
                    std::os::unix::fs::symlink(std::fs::read_link(from).unwrap(), to).unwrap();
                }
                _ => drop(std::fs::copy(from, to).unwrap()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(name), folder.path());
    folder
}

fn machine(folder: &Path, rig: Option<&Path>) -> Machine {
    let root = Root::new(folder);
    let facts = Facts::read(&root).unwrap();
    Machine::new(root, facts, rig.map(Path::to_path_buf))
}

fn report(folder: &Path) -> Report {
    examine(&machine(folder, None))
}

/// The one finding of a subject.
#[track_caller]
fn finding<'a>(report: &'a Report, area: &str, subject: &str) -> &'a Finding {
    let area = report.areas.iter().find(|one| one.name == area).unwrap_or_else(|| panic!("no area {area}"));
    let mut found = area.findings.iter().filter(|finding| finding.subject == subject);
    let one = found.next().unwrap_or_else(|| panic!("no {subject} in {:?}", area.findings));
    assert!(found.next().is_none());
    one
}

/// Asserts a verdict and parts of its words, those of its mending included.
#[track_caller]
fn assert_finding(report: &Report, [area, subject]: [&str; 2], verdict: &str, parts: &[&str]) {
    let found = finding(report, area, subject);
    assert_eq!(found.verdict.name(), verdict, "{found:?}");
    assert_eq!(found.verdict.mend().is_none(), verdict == "green");
    let words = format!("{} {}", found.found, found.verdict.mend().unwrap_or_default());
    for part in parts {
        assert!(words.contains(part), "expected {part:?} in {words:?}");
    }
}

/// A library with kernels as TensorRT's has them: containers of entries in the section `.nv_fatbin` of an ELF file.
fn library(containers: &[&[(u16, u32)]]) -> Vec<u8> {
    let mut fatbin = Vec::new();
    for container in containers {
        let mut entries = Vec::new();
        for (kind, architecture) in *container {
            // newer architectures have longer headers
            let header_bytes = if *architecture >= 100 { 112_u32 } else { 64 };
            let payload_bytes = 24_u64;
            let mut header = Vec::new();
            header.extend(kind.to_le_bytes());
            header.extend(0x0101_u16.to_le_bytes());
            header.extend(header_bytes.to_le_bytes());
            header.extend(payload_bytes.to_le_bytes());
            header.extend([0; 8]);
            header.extend([7, 0, 1, 0]);
            header.extend(architecture.to_le_bytes());
            header.resize(header_bytes as usize, 0);
            entries.extend(header);
            entries.extend([0xAB; 24]);
        }
        fatbin.extend(0xBA55_ED50_u32.to_le_bytes());
        fatbin.extend([1, 0, 16, 0]);
        fatbin.extend((entries.len() as u64).to_le_bytes());
        fatbin.extend(entries);
        // room between containers
        fatbin.extend([0; 16]);
    }
    elf(".nv_fatbin", &fatbin)
}

/// An ELF file of one section.
fn elf(name: &str, section: &[u8]) -> Vec<u8> {
    let names = [b"\0".as_slice(), name.as_bytes(), b"\0.shstrtab\0"].concat();
    let (section_at, names_at) = (64, 64 + section.len());
    let headers_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([3, 0, 183, 0, 1, 0, 0, 0]);
    file.extend([0; 16]);
    file.extend((headers_at as u64).to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    file.extend(section);
    file.extend(&names);
    file.resize(headers_at, 0);
    let mut header = |name: u32, kind: u32, at: usize, bytes: usize| {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend((at as u64).to_le_bytes());
        file.extend((bytes as u64).to_le_bytes());
        file.extend([0; 24]);
    };
    header(0, 0, 0, 0);
    header(1, 1, section_at, section.len());
    header(name.len() as u32 + 2, 3, names_at, names.len());
    file
}

fn put_library(folder: &Path, file: &str, architectures: &[u32]) {
    let entries: Vec<_> = architectures.iter().map(|architecture| (CUBIN, *architecture)).collect();
    std::fs::write(folder.join(file), library(&[&[(PTX, 120)], &entries])).unwrap();
}

#[test]
fn a_board_that_is_ready_is_green() {
    let folder = copy_of("jetson-orin-jetpack5");
    put_library(folder.path(), &format!("{BOARD_LIBRARIES}/libnvinfer.so.8.5.2"), &[53, 62, 70, 72, 75, 80, 86, 87]);
    let report = report(folder.path());
    let not_green: Vec<_> = report.findings().filter(|one| one.verdict.name() != "green").collect();
    // a build without TensorRT is all that can be missing
    let expected = usize::from(!cfg!(feature = "tensorrt"));
    assert_eq!(not_green.len(), expected, "{not_green:#?}");
    let green = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "green", parts);
    green("board", "machine", &["Jetson AGX Orin Developer Kit", "Orin with a GPU of sm_87"]);
    green("board", "system", &["Jetson Linux 35.4.1 (JetPack 5)"]);
    green("gpu", "device", &["Orin (sm_87)", "shares"]);
    green("gpu", "driver", &["tegra/libcuda.so.1.1"]);
    green("gpu", "CUDA", &["11.4.19"]);
    green("tensorrt", "version", &["8.5.2"]);
    green("tensorrt", "kernels", &["sm_87"]);
    green("power", "power mode", &["MAXN (mode 0)"]);
    green("power", "GPU clock", &["1300 MHz"]);
    green("power", "heat", &["CPU-therm has 48.5 °C", "99.0 °C"]);
    green("power", "supply", &["no under-voltage"]);
    green("cameras", "/dev/video0", &["HD USB Camera: MJPG and YUYV"]);
    green("can", "can0", &["500 kbit/s", "error active"]);
    green("clocks", "wall clock", &["chrony"]);
    green("clocks", "PTP", &["ptp0 (tegra_eqos); ptp4l and phc2sys run"]);
    green("kernel", "preemption", &["PREEMPT_RT"]);
    green("cpu", "isolation", &["isolcpus=8-11"]);
    green("memory", "locked memory", &["without limit"]);
    green("disk", "speed", &["1100 MB/s"]);
    green("permissions", "user", &["car", "dialout, video and render"]);
    green("engines", "cache", &["1 for this machine"]);
}

#[test]
fn a_board_as_it_comes_works_but_is_slow() {
    let folder = copy_of("jetson-orin-jetpack6");
    put_library(folder.path(), &format!("{BOARD_LIBRARIES}/libnvinfer.so.10.3.0"), &[75, 80, 86, 87, 89, 90]);
    let report = report(folder.path());
    assert_eq!(report.counts()[2], 0, "{report:#?}");
    let yellow = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "yellow", parts);
    let green = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "green", parts);
    green("board", "system", &["36.4.3 (JetPack 6)"]);
    green("tensorrt", "kernels", &["sm_87"]);
    green("tensorrt", "builder", &["libnvinfer_builder_resource.so.10.3.0"]);
    yellow("power", "power mode", &["15W (mode 2)", "sudo nvpmodel -m 0"]);
    yellow("power", "GPU clock", &["306 to 612 MHz", "below the 918 MHz"]);
    green("cameras", "/dev/video0", &["RG10"]);
    yellow("cameras", "/dev/video1", &["Z16", "none of these formats"]);
    yellow("can", "can0", &["down", "ip link set can0 up type can bitrate"]);
    yellow("cpu", "governor", &["schedutil", "jetson_clocks"]);
    yellow("cpu", "cores", &["4 of 8"]);
    yellow("cpu", "clock", &["1497 MHz of 1984 MHz"]);
    yellow("kernel", "preemption", &["no PREEMPT_RT"]);
    yellow(
        "engines",
        "cache",
        &["0 for this machine", "stale: 1 of 8.5.2", "foreign: 1 of NVIDIA H200", "catseye engine build"],
    );
    yellow("engines", "damaged", &["road-0000000000000003", "6 bytes and not 9"]);
    green("clocks", "wall clock", &["synchronised by systemd-timesyncd"]);
}

#[test]
fn a_tensorrt_without_the_boards_architecture_is_red() {
    let folder = copy_of("jetson-orin-jetpack6");
    let libraries = folder.path().join(BOARD_LIBRARIES);
    for name in ["libnvinfer.so.10.3.0", "libnvinfer_builder_resource.so.10.3.0", "libnvonnxparser.so.10.3.0"] {
        std::fs::rename(libraries.join(name), libraries.join(name.replace("10.3.0", "10.13.3"))).unwrap();
    }
    put_library(&libraries, "libnvinfer.so.10.13.3", &[75, 80, 86, 89, 90, 100, 103, 120]);
    let report = report(folder.path());
    let parts = ["TensorRT 10.13.3 has no kernels for sm_87", "sm_86, sm_89", "nvidia-jetpack", "preferences.d"];
    assert_finding(&report, ["tensorrt", "kernels"], "red", &parts);
    // the names of the builder's resources say nothing: 10.16 has none for sm_87, and builds there
    std::fs::remove_file(libraries.join("libnvinfer_builder_resource.so.10.13.3")).unwrap();
    std::fs::write(libraries.join("libnvinfer_builder_resource_sm86.so.10.13.3"), "").unwrap();
    put_library(&libraries, "libnvinfer.so.10.13.3", &[86, 87]);
    let report = self::report(folder.path());
    assert_finding(&report, ["tensorrt", "kernels"], "green", &["sm_87"]);
    assert_finding(&report, ["tensorrt", "builder"], "green", &["sm86"]);
    // a library that is cut, one without kernels, none
    std::fs::write(libraries.join("libnvinfer.so.10.13.3"), &library(&[&[(CUBIN, 87)]])[..100]).unwrap();
    assert_finding(&self::report(folder.path()), ["tensorrt", "kernels"], "yellow", &["does not tell", "ELF"]);
    std::fs::write(libraries.join("libnvinfer.so.10.13.3"), elf(".text", b"")).unwrap();
    assert_finding(&self::report(folder.path()), ["tensorrt", "kernels"], "yellow", &["not known"]);
    std::fs::remove_dir_all(&libraries).unwrap();
    let report = self::report(folder.path());
    assert_finding(&report, ["tensorrt", "version"], "red", &["no libnvinfer.so", "apt install tensorrt"]);
    assert_finding(&report, ["gpu", "driver"], "red", &["no libcuda.so", "nvidia-l4t-cuda"]);
}

#[test]
fn drive_os_is_known_and_a_bus_that_is_off_is_red() {
    let folder = copy_of("drive-os6");
    put_library(folder.path(), &format!("{BOARD_LIBRARIES}/libnvinfer.so.8.5.10"), &[87]);
    let report = report(folder.path());
    assert_finding(&report, ["board", "system"], "green", &["DRIVE OS 6.0.6.0"]);
    assert_finding(&report, ["gpu", "driver"], "green", &["/usr/lib/nvidia-drive/libcuda.so.1"]);
    assert_finding(&report, ["tensorrt", "kernels"], "green", &["sm_87"]);
    assert_finding(&report, ["clocks", "PTP"], "green", &["tegra_mgbe", "ptp4l and phc2sys"]);
    assert_finding(&report, ["can", "can0"], "red", &["bus off, 500 kbit/s", "248 sending", "120 ohm"]);
    assert!(
        report.areas.iter().all(|area| area.findings.iter().all(|one| one.subject != "power mode")),
        "there is none"
    );
}

#[test]
fn a_user_without_rights_is_told_what_to_ask_for() {
    let report = report(&fixture("locked-down"));
    let red = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "red", parts);
    let yellow = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "yellow", parts);
    red("memory", "locked memory", &["64 KiB", "memlock unlimited"]);
    yellow("memory", "real-time priority", &["may not be given one", "rtprio"]);
    yellow("kernel", "real-time share", &["may not run at all"]);
    red("permissions", "cameras", &["/dev/video0 may not be opened", "usermod -aG video"]);
    red("permissions", "GPU", &["/dev/nvhost-gpu and 1 more", "usermod -aG video"]);
    yellow("permissions", "serial ports", &["/dev/ttyUSB0", "usermod -aG dialout"]);
    red("cameras", "/dev/video0", &["does not open", "Permission denied"]);
    red("disk", "room", &["/data/drives: Permission denied"]);
    yellow("clocks", "wall clock", &["nobody keeps it"]);
    // nothing was ever set: the mode is that of the configuration
    yellow("power", "power mode", &["MODE_30W (mode 2)"]);
}

#[test]
fn a_board_that_is_too_hot_is_red() {
    let report = report(&fixture("throttled"));
    let red = |area, subject, parts: &[&str]| assert_finding(&report, [area, subject], "red", parts);
    red("power", "throttling", &["heat slows down gpu now"]);
    red("power", "heat", &["gpu-thermal has 99.5 °C"]);
    red("power", "power mode", &["mode 9 is set", "0 (MAXN)"]);
    red("disk", "room", &["476 MiB", "remove old recordings"]);
    red("tensorrt", "version", &["no libnvinfer.so"]);
    let supply = ["average over-current 15 times", "instantaneous over-current 37 times", "power supply"];
    assert_finding(&report, ["power", "supply"], "yellow", &supply);
    assert_finding(&report, ["disk", "speed"], "yellow", &["18 MB/s"]);
    assert_finding(&report, ["permissions", "user"], "yellow", &["root"]);
    // without an alert, a clock that heat holds down is slower, not broken; and a fan is none of it
    let folder = copy_of("throttled");
    std::fs::write(folder.path().join("sys/class/thermal/cooling_device2/cur_state"), "0\n").unwrap();
    assert_finding(
        &self::report(folder.path()),
        ["power", "throttling"],
        "yellow",
        &["devfreq-17000000.gpu by 5 steps"],
    );
    std::fs::write(folder.path().join("sys/class/thermal/cooling_device3/cur_state"), "0\n").unwrap();
    assert_finding(&self::report(folder.path()), ["power", "throttling"], "green", &[]);
}

#[test]
fn a_card_is_told_from_files_and_from_its_driver() {
    let folder = copy_of("desktop-hot");
    let libraries = folder.path().join("usr/lib/x86_64-linux-gnu");
    put_library(&libraries, "libnvinfer.so.10.9.0", &[75, 80, 86, 90]);
    let report = self::report(folder.path());
    let card = "NVIDIA RTX 6000 Ada Generation";
    assert_finding(&report, ["gpu", "device"], "green", &[card, "sm_89"]);
    assert_finding(&report, ["gpu", "driver"], "green", &["570.86.15"]);
    assert_finding(&report, ["power", card], "red", &["1215 MHz of 3105 MHz", "heat (software) and heat (hardware)"]);
    // a card runs kernels of an older one of its family
    assert_finding(&report, ["tensorrt", "kernels"], "yellow", &["no kernels for sm_89"]);
    assert_finding(&report, ["tensorrt", "builder"], "green", &["3 libraries"]);
    put_library(&libraries, "libnvinfer.so.10.9.0", &[70, 90]);
    assert_finding(&self::report(folder.path()), ["tensorrt", "kernels"], "red", &["sm_89"]);
    std::fs::rename(libraries.join("libcuda.so.570.86.15"), libraries.join("libcuda.so.535.104.05")).unwrap();
    assert_finding(&self::report(folder.path()), ["gpu", "driver"], "red", &["570.86.15", "another version", "reboot"]);
    // a version's last number may begin with a zero
    std::fs::write(folder.path().join("sys/module/nvidia/version"), "535.104.05\n").unwrap();
    assert_finding(&self::report(folder.path()), ["gpu", "driver"], "green", &["libcuda.so.535.104.05"]);
    // without nvidia-smi and module: a card that nobody drives
    for gone in ["doctor-facts.toml", "sys/module/nvidia/version"] {
        std::fs::remove_file(folder.path().join(gone)).unwrap();
    }
    let report = self::report(folder.path());
    assert_finding(&report, ["gpu", "device"], "green", &[card, "unknown architecture"]);
    std::fs::remove_dir_all(folder.path().join("proc/driver")).unwrap();
    assert_finding(&self::report(folder.path()), ["gpu", "device"], "red", &["no driver", "modprobe nvidia"]);
}

#[test]
fn who_has_a_camera_is_named() {
    let report = report(&fixture("busy-camera"));
    assert_finding(&report, ["cameras", "/dev/video0"], "red", &["busy: gst-launch-1.0 (4711) has it"]);
    assert_finding(&report, ["cameras", "/dev/video1"], "green", &["camera 1: YUYV"]);
    assert_finding(&report, ["cameras", "/dev/video2"], "yellow", &["in use by guvcview (5000)"]);
}

#[test]
fn a_program_that_holds_a_device_open_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("dev")).unwrap();
    std::os::unix::fs::symlink("/proc", folder.path().join("proc")).unwrap();
    let device = folder.path().join("dev/video0");
    std::fs::write(&device, "").unwrap();
    assert_finding(&report(folder.path()), ["cameras", "/dev/video0"], "green", &["a video device"]);
    let file = std::fs::File::open(&device).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
    let found = report(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    // its name may still be that of the program that forks
    let holder = format!("({})", child.id());
    assert_finding(&found, ["cameras", "/dev/video0"], "yellow", &[&holder]);
    assert_finding(&report(folder.path()), ["cameras", "/dev/video0"], "green", &[]);
}

#[test]
fn a_rig_is_held_against_the_machine() {
    let folder = copy_of("jetson-orin-jetpack5");
    put_library(folder.path(), &format!("{BOARD_LIBRARIES}/libnvinfer.so.8.5.2"), &[87]);
    let path = folder.path().join("car.toml");
    std::fs::write(folder.path().join("road.onnx"), catseye::models::ROAD_ONNX).unwrap();
    let mut rig = Rig::default_camera(640, 480);
    rig.cameras[0].format = PictureFormat::Nv12;
    let camera = rig.cameras[0].name.clone();
    rig.cans = ["powertrain", "chassis"]
        .map(|name| Can { name: name.to_owned(), topic: format!("/can/{name}/frames"), ..can(&rig) })
        .into();
    rig.models = vec![
        Model::new("road", Some("road.onnx".into()), vec![camera.clone()]),
        Model::new("lost", Some("lost.onnx".into()), vec![camera.clone()]),
    ];
    rig.sources.insert(camera.clone(), Source::Device("/dev/video0".into()));
    for (bus, interface) in [("powertrain", "can0"), ("chassis", "can7")] {
        rig.sources.insert(bus.to_owned(), Source::Can(interface.to_owned()));
    }
    std::fs::write(&path, rig.to_toml()).unwrap();
    let look = || examine(&machine(folder.path(), Some(&path)));
    let report = look();
    assert_finding(&report, ["rig", "rig"], "green", &["3 of them live, 2 models"]);
    assert_finding(&report, ["rig", &camera], "green", &["/dev/video0 is there"]);
    assert_finding(&report, ["rig", "powertrain"], "green", &["can0"]);
    assert_finding(&report, ["rig", "chassis"], "red", &["no CAN interface can7; there is can0"]);
    assert_finding(&report, ["rig", "model lost"], "red", &["lost.onnx"]);
    let command = "road.onnx --precision fp16 --batch 1";
    assert_finding(&report, ["rig", "model road"], "yellow", &["no engine of fp16 with a batch of 1 on Orin", command]);
    // the engine of just this file
    let record = folder.path().join("home/car/.cache/catseye/engines/road-0000000000000001.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace(&"00".repeat(32), &sha256_hex(catseye::models::ROAD_ONNX))).unwrap();
    assert_finding(&look(), ["rig", "model road"], "green", &["its engine of fp16"]);
    std::fs::remove_file(folder.path().join("dev/video0")).unwrap();
    assert_finding(&look(), ["rig", &camera], "red", &["/dev/video0 is not there"]);
    for (source, verdict, words) in [
        (Exporter::Argus(0), "yellow", "libcatseye_argus.so is looked for when it runs"),
        (
            Exporter::Library { path: "/opt/libmine.so".into(), config: String::new() },
            "red",
            "/opt/libmine.so is not there",
        ),
        (Exporter::Library { path: "/dev/mem".into(), config: String::new() }, "green", "/dev/mem is there"),
    ] {
        rig.sources.insert(camera.clone(), Source::Exporter(source));
        std::fs::write(folder.path().join("dev/mem"), b"").unwrap();
        std::fs::write(&path, rig.to_toml()).unwrap();
        assert_finding(&look(), ["rig", &camera], verdict, &[words]);
    }
    std::fs::write(&path, "name = 7\n").unwrap();
    let report = look();
    let area = report.areas.iter().find(|area| area.name == "rig").unwrap();
    assert!(area.findings.iter().all(|one| one.verdict.name() == "red" && one.found.contains("car.toml")), "{area:?}");
}

/// A bus like any of the rig's format.
fn can(rig: &Rig) -> Can {
    let toml = format!("{}\n[[can]]\nname = \"any\"\n", rig.to_toml());
    Rig::parse(&toml, "rig.toml").unwrap().cans.remove(0)
}

#[test]
fn damaged_libraries_end_reading_and_have_a_name() {
    let whole = library(&[&[(PTX, 90), (CUBIN, 80)], &[(CUBIN, 87), (CUBIN, 110)]]);
    let all = architectures(whole.as_slice()).unwrap();
    assert_eq!(all.iter().copied().collect::<Vec<_>>(), [80, 87, 110]);
    for length in 0..whole.len() {
        let cut = architectures(&whole[..length]);
        assert!(cut.is_err() || cut.is_ok_and(|found| found.is_subset(&all)), "cut at {length}");
    }
    for bit in 0..8 * whole.len() {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // whatever it says, it ends
        let _ = architectures(damaged.as_slice());
    }
    let mut damaged = whole;
    damaged[64] ^= 0xFF;
    assert!(matches!(architectures(damaged.as_slice()), Err(FatbinError::NotFatbin { offset: 64, .. })));
    assert!(matches!(architectures(b"text".as_slice()), Err(FatbinError::NotElf { .. })));
    assert!(matches!(architectures_of(Path::new("/no/such/file")), Err(FatbinError::System { .. })));
}

/// 8.6.0 for x86-64 has kernels of sm_60 to sm_90, without 87.
#[test]
fn a_library_of_tensorrt_tells_its_architectures() {
    let Some(path) = std::env::var_os("CATSEYE_TENSORRT_LIB").map(|folder| Path::new(&folder).join("libnvinfer.so.8"))
    else {
        println!("skipped: CATSEYE_TENSORRT_LIB names no folder with libnvinfer.so.8");
        return;
    };
    let found = architectures_of(&path).unwrap();
    assert!(found.contains(&80) && found.contains(&86), "{found:?}");
}

fn catseye(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
    command.args(arguments).current_dir(folder).env("HOME", folder);
    for variable in ["CATSEYE_ENGINE_DIR", "XDG_CACHE_HOME", "CLICOLOR_FORCE", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_command_says_the_same_to_people_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let hot = fixture("throttled");
    let hot = hot.to_str().unwrap();
    let page = catseye(folder.path(), &["doctor", "--root", hot]);
    assert_eq!(page.status.code(), Some(1));
    let text = String::from_utf8(page.stdout).unwrap();
    assert!(text.contains("heat slows down gpu now") && text.contains("→ cool the board"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");
    for (no_color, expected) in [(false, true), (true, false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
        command.args(["doctor", "--root", hot]).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        assert_eq!(command.output().unwrap().stdout.contains(&0x1B), expected);
    }
    let value = json(&catseye(folder.path(), &["doctor", "--json", "--root", hot]));
    let counts = ["red", "yellow", "green"].map(|name| format!("{} {name}", value[name])).join(", ");
    assert_eq!(text.lines().next_back(), Some(counts.as_str()));
    assert_eq!(value["ok"], false);
    let quiet = catseye(folder.path(), &["doctor", "-q", "--root", hot]);
    assert!(quiet.stdout.is_empty() && String::from_utf8(quiet.stderr).unwrap().contains("throttling: heat"));
    let wrong = catseye(folder.path(), &["doctor", "--root", "/no/such/folder"]);
    assert_eq!(wrong.status.code(), Some(1));
}

#[test]
fn this_machine_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = catseye(folder.path(), &["doctor", "--json", "--no-disk-test"]);
    let value = json(&output);
    let red = value["red"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(red > 0)), "{value:#}");
    assert_eq!(value["ok"], red == 0);
    let areas = value["areas"].as_array().unwrap();
    let names: Vec<&str> = areas.iter().map(|area| area["area"].as_str().unwrap()).collect();
    for name in [
        "board",
        "gpu",
        "power",
        "cameras",
        "can",
        "clocks",
        "kernel",
        "cpu",
        "memory",
        "disk",
        "permissions",
        "engines",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let mut counted = [0; 3];
    for finding in areas.iter().flat_map(|area| area["findings"].as_array().unwrap()) {
        let level = ["green", "yellow", "red"].iter().position(|level| finding["verdict"] == *level).unwrap();
        counted[level] += 1;
        assert!(
            finding["subject"].is_string() && finding["found"].as_str().is_some_and(|found| !found.is_empty()),
            "{finding}"
        );
        assert_eq!(finding["mend"].is_null(), level == 0, "{finding}");
    }
    assert_eq!(counted.map(serde_json::Value::from), ["green", "yellow", "red"].map(|level| value[level].clone()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
