//! The GPU's part of a tick on a real device: what it allocates when it is warm, and what becomes of a run whose GPU is lost.
//! Without a GPU or TensorRT the tests say so and pass.
#![cfg(feature = "tensorrt")]

mod common;
#[path = "common/counting.rs"]
mod counting;
#[allow(unsafe_code)] // functions of the driver
#[path = "common/exported.rs"]
mod exported;
#[path = "common/gpu_ticks.rs"]
mod gpu_ticks;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use catseye::gpu::abi::CatseyeProbeParams;
use catseye::gpu::load::{RigEngines, WantedEngine};
use catseye::gpu::node::{GpuNode, NodeOptions, OnLoss};
use catseye::gpu::tensorrt::Library;
use catseye::gpu::{Context, DeviceBuffer, GpuError, Kernel, Kernels, Priority, Stream, Transfer};
use catseye::log::import::{ImportKind, ImportOptions, import};
use catseye::messages::{Account, Detection, DropDecision};
use catseye::pipeline::{Pipeline, Settings};
use catseye::replay::{Options, replay};
use catseye::runtime::digest::digest_f32;
use catseye::runtime::graph::{Probe, Slot};
use catseye::runtime::pool::Pool;
use catseye::stages::Tick;
use catseye::stages::decode::{Head, Masks};
use catseye::stages::infer::{BackendChoice, EnginePrecision, Model};
use catseye::stages::network::Network;
use catseye::stages::preprocess::Preprocessor;
use catseye::stages::preprocess::raw::{BayerPattern, Isp, MosaicLayout, RawFormat};
use catseye::tap::{Output, Sink, Tap, TapError};
use catseye_calibration::rig::{self, IspSettings, OnGpuFault, PictureFormat, Rig};
use catseye_sensors::memory::{ForeignMemory, MemoryMaker, SharedBytes};
use catseye_sensors::picture::{Frame, Limits, PixelFormat, RawLayout, show_raw};
use common::small::{INPUT, workplace};
use common::{Drive, Run, Seen, drive, opened, run, shared, with_model};
use counting::allocations;
use exported::Exported;
use foxglove::bytes::Bytes;
use gpu_ticks::{in_flight, network};

/// Tells a test that it runs in a process of its own, and in which folder.
const FOLDER: &str = "CATSEYE_TEST_FOLDER";
/// The tick at which the GPU is lost.
const LAST_GOOD: u64 = 2;

/// The device, if TensorRT is there too; why not is said.
fn device() -> Option<Arc<Context>> {
    let found = Context::open(0).map_err(|error| error.to_string());
    let found = found.and_then(|context| match Library::find(&context, None) {
        Ok(_) => Ok(context),
        Err(error) => Err(error.to_string()),
    });
    found.inspect_err(|reason| eprintln!("skipped: {reason}")).ok()
}

fn catseye(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
    command.args(arguments).current_dir(folder).env("CATSEYE_ENGINE_DIR", folder.join("engines"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with pictures, their log, a network and its engine.
fn place() -> tempfile::TempDir {
    let folder = workplace();
    let (pictures, log) = (folder.path().join("pictures"), folder.path().join("drive.mcap"));
    import(ImportKind::Pictures, &pictures, &log, &ImportOptions::default(), &mut |_, _| {}).unwrap();
    catseye(folder.path(), &["engine", "build", "net.onnx", "--precision", "fp32", "--level", "0"]);
    folder
}

fn on_gpu(folder: &Path) -> Run {
    let mut run = Run::new(2);
    run.settings.backend = BackendChoice::TensorRt;
    run.settings.precision = Some(EnginePrecision::Fp32);
    run.settings.engine_dir = Some(folder.join("engines"));
    run
}

fn drive_in(folder: &Path) -> Drive {
    let mut drive = opened(folder.join("drive.mcap"));
    let cameras = drive.rig.cameras.iter().map(|camera| camera.name.clone()).collect();
    drive.rig.models.push(rig::Model::new("net", Some(folder.join("net.onnx")), cameras));
    drive
}

/// Slots with pictures, and the node that looks at them.
fn node(folder: &Path, transfer: Transfer) -> (GpuNode, Pool<Slot<Tick>>) {
    node_of(folder, transfer, &[true])
}

/// Lets the record of the one engine say whether a run of it can be captured.
fn tell_captured(folder: &Path, is_captured: bool) {
    let mut engines = std::fs::read_dir(folder.join("engines")).unwrap().map(|entry| entry.unwrap().path());
    let record = engines.find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap();
    let mut told: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    told["capture"] = if is_captured {
        serde_json::json!({ "is": "possible", "nodes": 1, "run_ms": 1.0 })
    } else {
        serde_json::json!({ "is": "impossible", "cause": "this test" })
    };
    std::fs::write(&record, told.to_string()).unwrap();
}

/// The same with a network for each entry, which says whether its engine can be captured.
fn node_of(folder: &Path, transfer: Transfer, captured: &[bool]) -> (GpuNode, Pool<Slot<Tick>>) {
    node_on(&Rig::default_camera(64, 48), folder, transfer, captured)
}

/// The same on a rig with a camera of that size.
fn node_on(rig: &Rig, folder: &Path, transfer: Transfer, captured: &[bool]) -> (GpuNode, Pool<Slot<Tick>>) {
    let model = Model::load(&folder.join("net.onnx")).unwrap();
    let mut engines = RigEngines::open(Some(&folder.join("engines"))).unwrap();
    let precision = EnginePrecision::Fp32;
    let wanted = WantedEngine { model: &model, batch: 1, size: None, precision, dla_core: None, plan_sha256: None };
    let network = |is_captured: &bool| {
        tell_captured(folder, *is_captured);
        network(&mut engines, &wanted, Some(Head::Yolox)).unwrap()
    };
    let networks: Vec<Network> = captured.iter().map(network).collect();
    let options = NodeOptions { digest_tensors: true, masks: true, transfer };
    let (node, _) = engines.into_node(&networks, rig, options, OnLoss::End(Arc::default())).unwrap();
    let pool = Pool::new(4, || {
        let mut tick = Tick::new(1, 0, &networks);
        let data = (0..64 * 48 * 3_u32).map(|at| (at * 7) as u8).collect();
        tick.cameras[0].frame = Frame::new(64, 48, PixelFormat::Rgb8, true, data).unwrap();
        tick.cameras[0].present = true;
        node.slot_memory().equip(&mut tick).unwrap();
        Slot::new(tick)
    });
    (node, pool)
}

/// Sends so many pairs of ticks through the node, and gives what the last one saw.
fn go_round(node: &mut GpuNode, pool: &Pool<Slot<Tick>>, pairs: usize) -> (Vec<u8>, u64) {
    let mut seen = (Vec::new(), 0);
    in_flight(node, pool, 2 * pairs, |number, finished| {
        assert!(finished.result.is_ok(), "{:?}", finished.result);
        if number + 2 >= 2 * pairs {
            let network = &finished.slot.payload.networks[0];
            seen = (network.results.to_vec(), network.digests[0]);
        }
    });
    seen
}

#[test]
fn warm_ticks_allocate_nothing_and_both_ways_to_the_device_give_the_same() {
    let Some(context) = device() else { return };
    let folder = place();
    let mut seen = Vec::new();
    for transfer in [Transfer::Copy, Transfer::Mapped] {
        let (mut node, pool) = node(folder.path(), transfer);
        go_round(&mut node, &pool, 10);
        // what the device has free counts all processes: nobody else may use it meanwhile
        let before = (allocations(), context.free_bytes().unwrap());
        let last = go_round(&mut node, &pool, 199);
        // the results that are kept for the comparison are two: both ticks of the last turn
        let spent = allocations() - before.0 - 2;
        println!("{transfer:?}: {spent} allocations on the host in 398 ticks");
        assert_eq!((spent, context.free_bytes().unwrap()), (0, before.1));
        seen.push(last);
    }
    assert!(!seen[0].0.is_empty());
    assert_eq!(seen[0], seen[1]);
}

/// Memory that the device gives is not clean.
#[test]
fn what_lay_in_the_devices_memory_before_does_not_show() {
    let Some(context) = device() else { return };
    let folder = place();
    let mut seen = Vec::new();
    for byte in [0, 0xff] {
        for size in [1 << 10, 1 << 16, 1 << 20, 1 << 24] {
            let leave = |_| DeviceBuffer::from_bytes(&context, &vec![byte; size]).unwrap();
            drop((0..64).map(leave).collect::<Vec<_>>());
        }
        let (mut node, pool) = node(folder.path(), Transfer::Copy);
        seen.push(go_round(&mut node, &pool, 3));
    }
    assert!(!seen[0].0.is_empty());
    assert_eq!(seen[0], seen[1]);
}

/// As an engine on a deep learning accelerator: what its record says of it is taken at its word.
#[test]
fn an_engine_that_cannot_be_captured_runs_beside_the_graph() {
    let Some(context) = device() else { return };
    let folder = place();
    let (mut captured, pool) = node(folder.path(), Transfer::Copy);
    let expected = go_round(&mut captured, &pool, 5);
    assert!(captured.node_count().is_some_and(|count| count > 0));
    drop((captured, pool));
    let (mut alone, pool) = node_of(folder.path(), Transfer::Copy, &[false]);
    assert_eq!(go_round(&mut alone, &pool, 5), expected);
    assert_eq!(alone.node_count(), None);
    assert_eq!(context.check(), Ok(()));
}

/// Slots go round, so that a tick finds another slot's tables on the device; one camera sees nothing.
#[test]
fn each_tick_sees_its_own_pictures() {
    if device().is_none() {
        return;
    }
    let folder = place();
    let layout = Head::Yolox.layout(INPUT[3] as usize, INPUT[2] as usize);
    for (transfer, captured) in [
        (Transfer::Copy, &[true][..]),
        (Transfer::Mapped, &[true]),
        (Transfer::Copy, &[false]),
        (Transfer::Copy, &[true, false]),
        (Transfer::Mapped, &[false, true]),
    ] {
        let (mut node, pool) = node_of(folder.path(), transfer, captured);
        let mut slots = [0, 1, 2, 3].map(|_| pool.acquire().unwrap());
        let mut inputs = Vec::new();
        for (number, slot) in slots.iter_mut().enumerate() {
            let data = (0..64 * 48 * 3_usize).map(|at| (at * 7 + 31 * number) as u8).collect();
            let camera = &mut slot.payload.cameras[0];
            camera.frame = Frame::new(64, 48, PixelFormat::Rgb8, true, data).unwrap();
            camera.present = number != 2;
            let mut planes = vec![0.0; layout.values()];
            if camera.present {
                Preprocessor::new(layout).unwrap().run(&camera.frame, &mut planes).unwrap();
            }
            inputs.push(digest_f32(&planes));
            node.slot_memory().equip(&mut slot.payload).unwrap();
        }
        drop(slots);
        let mut ticks = 0;
        in_flight(&mut node, &pool, 20, |_, finished| {
            assert!(finished.result.is_ok(), "{:?}", finished.result);
            let tick = &finished.slot.payload;
            let number = usize::from(tick.cameras[0].frame.data()[0] / 31);
            let found: Vec<u64> = tick.networks.iter().map(|network| network.digests[0]).collect();
            assert_eq!(found, vec![inputs[number]; captured.len()], "{transfer:?} {captured:?}, slot {number}");
            ticks += 1;
        });
        assert_eq!(ticks, 20);
    }
}

/// A raw camera's samples go up as they came, and the network sees what the CPU would have developed.
#[test]
fn raw_pictures_are_developed_in_the_graph() {
    if device().is_none() {
        return;
    }
    let folder = place();
    let layout = Head::Yolox.layout(INPUT[3] as usize, INPUT[2] as usize);
    let pattern = BayerPattern::Grbg;
    let settings = IspSettings { white_balance: [1.5, 1.0, 2.0], ..IspSettings::default() };
    let mut rig = Rig::default_camera(64, 48);
    (rig.cameras[0].format, rig.cameras[0].isp) = (PictureFormat::Bayer { pattern, bits: 12 }, Some(settings));
    for transfer in [Transfer::Copy, Transfer::Mapped] {
        let (mut node, pool) = node_on(&rig, folder.path(), transfer, &[true]);
        let mut slots = [0, 1, 2, 3].map(|_| pool.acquire().unwrap());
        let (mut inputs, mut sizes) = (Vec::new(), Vec::new());
        for (slot, format) in slots.iter_mut().zip(RawFormat::ALL) {
            let camera = &mut slot.payload.cameras[0];
            let bytes: Vec<u8> = (0..format.row_bytes(64) * 48).map(|at| (at * 7 % 16) as u8).collect();
            let (isp, raw) = (Arc::new(Isp::of_rig(pattern, &settings)), Bytes::from(bytes.clone()).into());
            let mosaic = MosaicLayout { width_px: 64, height_px: 48, format, pattern, stride_bytes: None };
            camera.raw.keep(&mosaic, &isp, &raw, &Limits::default()).unwrap();
            let mut planes = vec![0.0; layout.values()];
            let mut developed = Frame::default();
            camera.raw.develop(&mut developed).unwrap();
            Preprocessor::new(layout).unwrap().run(&developed, &mut planes).unwrap();
            inputs.push(digest_f32(&planes));
            sizes.push(bytes.len());
        }
        drop(slots);
        in_flight(&mut node, &pool, 20, |_, finished| {
            assert!(finished.result.is_ok(), "{:?}", finished.result);
            let tick = &finished.slot.payload;
            let format = tick.cameras[0].raw.layout().unwrap().format;
            let number = RawFormat::ALL.iter().position(|of| *of == format).unwrap();
            assert_eq!(tick.networks[0].digests[0], inputs[number], "{transfer:?} {format:?}");
        });
        let copied = node.copied_bytes()[0];
        assert!(transfer == Transfer::Mapped || sizes.iter().any(|size| (*size..*size + 2048).contains(&copied)));

        // what the rig's mosaic is not is a fault, and the camera is absent
        let mut slots = [0, 1, 2, 3].map(|_| pool.acquire().unwrap());
        slots.iter_mut().for_each(|slot| slot.payload.cameras[0].raw.forget());
        drop(slots);
        let nothing = digest_f32(&vec![0.0; layout.values()]);
        in_flight(&mut node, &pool, 1, |_, finished| {
            let words = finished.result.as_ref().unwrap_err().to_string();
            assert!(words.contains("expected raw pictures with the rig's mosaic"), "{words}");
            assert_eq!(finished.slot.payload.networks[0].digests[0], nothing);
        });
    }
}

/// As from a camera whose buffers the device imports: nothing is copied, and what it sees is what lies behind the handle.
#[test]
#[allow(unsafe_code)] // memory that is somebody else's
fn a_picture_in_imported_memory_is_seen_as_any_other() {
    let Some(context) = device() else { return };
    let folder = place();
    for transfer in [Transfer::Copy, Transfer::Mapped] {
        let (mut node, pool) = node(folder.path(), transfer);
        let expected = go_round(&mut node, &pool, 3);
        let copied = node.copied_bytes()[0];

        let mut slots = [0, 1, 2, 3].map(|_| pool.acquire().unwrap());
        let picture = slots[0].payload.cameras[0].frame.data().to_vec();
        let exported = Exported::new(&context, &picture, 256);
        for slot in &mut slots {
            // other bytes, so that it shows whose are read
            let keeper = Arc::new(vec![0_u8; picture.len()]);
            let start = std::ptr::NonNull::from(keeper.as_slice()).cast();
            // SAFETY: so many bytes lie there while the keeper lives, and the descriptor is open.
            let memory =
                unsafe { ForeignMemory::new(start, keeper.len(), keeper.clone()).with_handle(exported.handle()) };
            let memory = Arc::new(node.slot_memory().adopt(memory).unwrap());
            let bytes = SharedBytes::in_memory(Bytes::from_owner(Lent(keeper)), memory);
            let layout = RawLayout {
                width_px: 64,
                height_px: 48,
                format: PixelFormat::Rgb8,
                full_range: true,
                stride_bytes: None,
            };
            show_raw(&layout, bytes, &mut slot.payload.cameras[0].frame, &Limits::default()).unwrap();
        }
        drop(slots);
        assert_eq!(go_round(&mut node, &pool, 3), expected);
        let spared = if transfer == Transfer::Copy { picture.len() } else { 0 };
        assert_eq!(copied - node.copied_bytes()[0], spared);
    }
}

/// Bytes that somebody keeps.
struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Runs a test of this file in a process of its own: a lost GPU is lost for all of a process.
fn apart(test: &str, folder: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(FOLDER, folder);
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test}: {}: {said}", output.status);
    println!("{said}");
}

/// Lets a kernel write where no memory is, just before the networks of a tick.
struct Fault {
    stream: Mutex<Stream>,
    kernel: Kernel,
}

impl Fault {
    fn new() -> Self {
        let context = Context::open(0).unwrap();
        let kernel = Kernels::load(&context).unwrap().get("catseye_probe").unwrap();
        Fault { stream: Stream::new(&context, Priority::Normal).unwrap().into(), kernel }
    }
}

impl Probe<Tick> for Fault {
    fn before(&self, stage: &str, tick: u64) {
        if stage == "infer" && tick == LAST_GOOD + 1 {
            let params = CatseyeProbeParams { source: 8, target: 8, bytes: 64, pattern: 0, reserved: 0 };
            let stream = self.stream.lock().unwrap();
            stream.launch(&self.kernel, [1; 3], [32, 1, 1], 0, &params).unwrap();
            assert!(stream.synchronize().is_err());
        }
    }

    fn after(&self, _: &str, _: u64, _: &mut Tick) {}
}

/// Keeps the masks of every picture.
struct KeepMasks(Arc<Mutex<Vec<Masks>>>);

impl Sink for KeepMasks {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        let pictures = output.body.iter().flat_map(|body| &body.pictures);
        self.0.lock().unwrap().extend(pictures.filter_map(|picture| picture.masks.clone()));
        Ok(())
    }

    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        Ok(())
    }
}

/// The masks that a run sees in every picture.
fn masks(drive: &Drive, settings: Settings) -> Vec<Masks> {
    let pipeline = Pipeline::build(&drive.rig, &drive.files, settings).unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let tap = Tap::start(vec![Box::new(KeepMasks(Arc::clone(&kept)))], 1).unwrap();
    let (options, stop) = (Options { workers: 2, ..Options::default() }, AtomicBool::new(false));
    replay(&drive.log, &drive.rig, pipeline, &options, tap, &stop, &mut |_, _, _| {}).unwrap();
    std::mem::take(&mut *kept.lock().unwrap())
}

/// Pixels that both have over pixels that one has.
fn iou<'a>(pairs: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> f64 {
    let pixels = pairs.flat_map(|(a, b)| a.iter().zip(b));
    let (both, either) = pixels.fold((0_u64, 0_u64), |(both, either), (a, b)| {
        (both + u64::from(*a > 0 && *b > 0), either + u64::from(*a > 0 || *b > 0))
    });
    both as f64 / either as f64
}

#[test]
fn masks_of_a_real_network_are_those_of_the_cpu() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(video) = drive(ImportKind::Video, "camera/carnd/solidWhiteRight.mp4", folder.path()) else { return };
    let drive = with_model(video, "models/twinlitenet_360x640.onnx").unwrap();
    let model = shared("models/twinlitenet_360x640.onnx").unwrap();
    let expected = masks(&drive, Settings { backend: BackendChoice::Rten, ..Settings::default() });
    for precision in ["fp32", "fp16"] {
        catseye(folder.path(), &["engine", "build", model.to_str().unwrap(), "--precision", precision, "--level", "0"]);
        let mut on_gpu = on_gpu(folder.path()).settings;
        on_gpu.precision = EnginePrecision::from_name(precision);
        let found = masks(&drive, on_gpu);
        assert_eq!(found.len(), expected.len());
        let pairs = || found.iter().zip(&expected);
        let (drivable, lanes) =
            (iou(pairs().map(|(a, b)| (&a.drivable, &b.drivable))), iou(pairs().map(|(a, b)| (&a.lanes, &b.lanes))));
        println!("{precision}, {} pictures: drivable area {drivable:.5}, lane markings {lanes:.5}", found.len());
        assert!(drivable >= 0.99 && lanes >= 0.99, "{precision}: {drivable} {lanes}");
    }
}

fn objects(seen: &[Seen]) -> Vec<Vec<Detection>> {
    seen.iter().map(|seen| seen.body.as_ref().unwrap().detections[0].objects.to_vec()).collect()
}

/// A run whose GPU is lost, by a rig with this policy.
fn lose_the_gpu(folder: &Path, policy: OnGpuFault) -> (Vec<Seen>, catseye::replay::Summary) {
    let mut drive = drive_in(folder);
    drive.rig.on_gpu_fault = policy;
    let mut faulty = on_gpu(folder);
    faulty.settings.probe = Some(Arc::new(Fault::new()));
    faulty.out = Some(folder.join(format!("{}.mcap", policy.name())));
    faulty.record = true;
    run(&drive, faulty)
}

#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn in_a_process_that_stops() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (seen, summary) = lose_the_gpu(Path::new(&folder), OnGpuFault::Stop);
    let cause = summary.device_lost.unwrap();
    println!("{} ticks, then: {cause}", summary.ticks);
    assert!(cause.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{cause}");
    assert!(summary.stopped && summary.ticks > LAST_GOOD + 1, "{} ticks", summary.ticks);
    let lost = &seen[LAST_GOOD as usize + 1];
    assert!(lost.faults.iter().any(|fault| fault.contains("CUDA_ERROR_ILLEGAL_ADDRESS")), "{:?}", lost.faults);
    assert!(objects(&seen)[LAST_GOOD as usize + 1].is_empty());
    assert!(!objects(&seen)[0].is_empty());
}

#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn in_a_process_that_goes_on() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let (seen, summary) = lose_the_gpu(folder, OnGpuFault::Cpu);
    assert_eq!((summary.device_lost, summary.stopped), (None, false));
    let mut cpu = Run::new(2);
    // what takes over is what `auto` takes where there is no engine
    cpu.settings.backend = BackendChoice::Auto;
    cpu.settings.engine_dir = Some(folder.join("no-engines"));
    let (on_cpu, _) = run(&drive_in(folder), cpu);
    assert_eq!(seen.len(), on_cpu.len());
    let (found, expected) = (objects(&seen), objects(&on_cpu));
    assert!(found[LAST_GOOD as usize + 1].is_empty());
    assert!(!found.last().unwrap().is_empty());
    // the tick after the lost one may have been on the device already
    assert_eq!(found[LAST_GOOD as usize + 3..], expected[LAST_GOOD as usize + 3..]);
    assert!(Context::open(0).is_err() || DeviceBuffer::new(&Context::open(0).unwrap(), 64).is_err());
}

#[test]
fn a_kernel_that_fails_ends_the_run_or_hands_it_to_the_cpu_as_the_rig_says() {
    if device().is_none() {
        return;
    }
    let folder = place();
    for (test, log) in [("in_a_process_that_stops", "stop.mcap"), ("in_a_process_that_goes_on", "cpu.mcap")] {
        apart(test, folder.path());
        // a run that lost its GPU replays to the bits that it had, on one that works
        catseye(folder.path(), &["replay", log, "--verify", log, "--no-report", "--output-dir", "again"]);
    }
}

#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn in_a_process_without_memory() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let context = Context::open(0).unwrap();
    let mut taken = Vec::new();
    for bytes in [1 << 30, 1 << 26, 1 << 21] {
        while let Ok(buffer) = DeviceBuffer::new(&context, bytes) {
            taken.push(buffer);
        }
    }
    let error = DeviceBuffer::new(&context, 1 << 26).unwrap_err();
    assert!(matches!(error, GpuError::OutOfMemory { .. }), "{error}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_catseye"));
    let arguments = ["replay", "pictures", "--model", "net.onnx", "--backend", "tensorrt", "--precision", "fp32"];
    let output = command.args(arguments).current_dir(folder).env("CATSEYE_ENGINE_DIR", folder.join("engines"));
    let output = output.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    println!("{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("out of memory") || said.contains("out_of_memory"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_device_without_memory_is_named_at_the_start() {
    if device().is_none() {
        return;
    }
    let folder = place();
    apart("in_a_process_without_memory", folder.path());
}
