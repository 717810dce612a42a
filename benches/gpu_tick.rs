//! What a tick of many cameras costs on the GPU: one graph launch from pictures to results, against TensorRT alone.
//!
//! Two networks look at every camera (pictures of 1920 x 1208 in NV12), as one CUDA graph. Told are: the time of that graph
//! over the time of the same engines in the same branches without anything around them, in rounds that take turns; what the
//! host spends on a tick; how fast ticks follow each other; and, with `--seconds`, the latency of ticks at a steady rate. It needs a
//! GPU, TensorRT and engines for the batch (`catseye engine build MODEL --batch CAMERAS`).
//!
//! `cargo bench --features tensorrt --bench gpu_tick -- --models yolox_nano.onnx twinlitenet.onnx [--cameras N] [--digests]
//! [--mapped] [--same N] [--seconds S] [--json FILE]`

#[path = "../tests/common/counting.rs"]
mod counting;
#[path = "../tests/common/gpu_ticks.rs"]
mod gpu_ticks;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use catseye::gpu::engine::Store;
use catseye::gpu::load::{RigEngines, WantedEngine};
use catseye::gpu::node::{GpuNode, NodeOptions, OnLoss, TickTimes};
use catseye::gpu::{Context, Transfer};
use catseye::runtime::graph::{Device, Slot, Ticket};
use catseye::runtime::pool::Pool;
use catseye::stages::infer::{EnginePrecision, Model};
use catseye::stages::network::Network;
use catseye::stages::{NetworkSlot, Tick};
use catseye_calibration::rig::Rig;
use catseye_sensors::picture::{Frame, PixelFormat};
use clap::Parser;
use counting::allocations;
use gpu_ticks::{in_flight, network};
use serde_json::json;

const WIDTH_PX: u32 = 1920;
const HEIGHT_PX: u32 = 1208;
/// Slots that go round, as many as a pipeline of two lanes has.
const SLOTS: usize = 6;
/// Ticks over which the host's part is measured.
const WARM_TICKS: usize = 1000;

#[derive(Parser)]
struct Arguments {
    /// The networks.
    #[arg(long, num_args = 1.., required = true)]
    models: Vec<PathBuf>,
    /// Cameras, and pictures of a batch.
    #[arg(long, default_value_t = 12)]
    cameras: usize,
    /// Which engines.
    #[arg(long, default_value = "fp16")]
    precision: String,
    /// Digest tensors too.
    #[arg(long)]
    digests: bool,
    /// Let the kernels read the pictures where they lie.
    #[arg(long)]
    mapped: bool,
    /// Rounds of the comparison with TensorRT alone.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Runs of each part in a round.
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Runs one tick so many times, and fails where its bits differ.
    #[arg(long, default_value_t = 0)]
    same: usize,
    /// How long ticks come at a steady rate.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// That rate.
    #[arg(long, default_value_t = 30.0)]
    rate_hz: f64,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo says it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let device = match catseye::gpu::probe() {
        Ok(device) => device,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let rig = rig(arguments.cameras);
    let (mut node, networks) = load(&arguments, &rig)?;
    let pool = Pool::new(SLOTS, || Slot::new(Tick::new(rig.cameras.len(), 0, &networks)));
    fill(&pool, arguments.cameras);

    for _ in 0..20 {
        one_tick(&mut node, &pool, &mut Host::with_capacity(1));
    }
    let mut host = Host::with_capacity(WARM_TICKS);
    let context = Context::open(0)?;
    let before = (allocations(), context.free_bytes()?);
    for _ in 0..WARM_TICKS {
        one_tick(&mut node, &pool, &mut host);
    }
    let asked = allocations() - before.0;
    let taken = i128::from(before.1 as u64) - i128::from(context.free_bytes()? as u64);
    let mut lease = pool.acquire().ok_or("no slot is free")?;
    let times = node.time_parts(&mut lease.payload, arguments.rounds, arguments.runs)?;
    drop(lease);
    let pace = pace_ms(&mut node, &pool);
    if arguments.same > 0 {
        let (others, where_first) = same(&mut node, &pool, arguments.same);
        println!("one tick {} times, two in flight: {others} times other bits than the first time", arguments.same);
        where_first.iter().for_each(|place| println!("  {place}"));
        if others > 0 {
            return Err("the same tick gave other bits".into());
        }
    }
    let paced = paced(&mut node, &pool, &arguments);

    let [up, home] = node.copied_bytes();
    let nodes = node.node_count().unwrap_or(0);
    let of = |part: fn(&TickTimes) -> f32| median(times.iter().map(part).map(f64::from).collect());
    let (whole, on_device, inference) =
        (of(|times| times.whole_ms), of(|times| times.on_device_ms), of(|times| times.inference_ms));
    let ratio = median(times.iter().map(|times| f64::from(times.on_device_ms / times.inference_ms)).collect());
    println!("{}, {} cameras, {nodes} nodes in the graph", device.name, arguments.cameras);
    println!("  up {up} bytes, home {home} bytes a tick");
    println!("  TensorRT alone {inference:.3} ms, with all around it {on_device:.3} ms: {ratio:.3} times");
    println!("  with the upload {whole:.3} ms");
    let (submit, complete) = (Spread::of(host.submit_us), Spread::of(host.complete_us));
    println!("  host, from tick formed to launch returned: {}", submit.text("us"));
    println!("  host, completion: {}", complete.text("us"));
    println!("  two in flight: {pace:.3} ms from one tick to the next");
    let worst = worst(paced.clone());
    println!(
        "  in {WARM_TICKS} warm ticks: {asked} allocations on the host, {taken} bytes of the device's memory taken"
    );
    let paced = Spread::of(paced.iter().map(|tick| tick.latency_ms).collect());
    if arguments.seconds > 0.0 {
        println!("  at {} Hz for {} s: {}", arguments.rate_hz, arguments.seconds, paced.text("ms"));
        println!("  the slowest (ms): tick, latency = woken late + submit + device + rest");
        for PacedTick { number, latency_ms, late_ms, submit_ms, device_ms } in &worst {
            let rest_ms = latency_ms - late_ms - submit_ms - device_ms;
            println!("  {number:>7} {latency_ms:8.3} = {late_ms:.3} + {submit_ms:.3} + {device_ms:.3} + {rest_ms:.3}");
        }
    }
    if let Some(path) = &arguments.json {
        let value = json!({
            "device": device.name, "cameras": arguments.cameras, "nodes": nodes, "up_bytes": up, "home_bytes": home,
            "inference_ms": inference, "on_device_ms": on_device, "whole_ms": whole, "ratio": ratio, "pace_ms": pace,
            "warm_allocations": asked, "warm_device_bytes": taken as i64, "submit_us": submit.json(), "complete_us": complete.json(), "paced_ms": paced.json(),
        });
        std::fs::write(path, format!("{value:#}\n"))?;
    }
    Ok(())
}

fn rig(cameras: usize) -> Rig {
    let mut rig = Rig::default_camera(WIDTH_PX, HEIGHT_PX);
    let one = rig.cameras[0].clone();
    rig.cameras = (0..cameras)
        .map(|number| catseye_calibration::rig::Camera { name: format!("camera_{number}"), ..one.clone() })
        .collect();
    rig
}

fn load(arguments: &Arguments, rig: &Rig) -> Result<(GpuNode, Vec<Network>), Box<dyn std::error::Error>> {
    let precision = EnginePrecision::from_name(&arguments.precision).ok_or("expected fp32, fp16 or int8")?;
    let mut engines = RigEngines::open(Some(Store::open(None)?.folder()))?;
    let mut networks = Vec::new();
    for path in &arguments.models {
        let model = Model::load(path)?;
        let wanted = WantedEngine {
            model: &model,
            batch: arguments.cameras,
            size: None,
            precision,
            dla_core: None,
            plan_sha256: None,
        };
        networks.push(network(&mut engines, &wanted, None)?);
    }
    let options = NodeOptions {
        digest_tensors: arguments.digests,
        masks: false,
        transfer: if arguments.mapped { Transfer::Mapped } else { Transfer::Copy },
    };
    let (node, _) = engines.into_node(&networks, rig, options, OnLoss::End(Default::default()))?;
    Ok((node, networks))
}

/// Puts a picture into every camera of every slot.
fn fill(pool: &Pool<Slot<Tick>>, cameras: usize) {
    let mut leases: Vec<_> = std::iter::from_fn(|| pool.acquire()).collect();
    for lease in &mut leases {
        // every slot holds the same pictures, so that any of them is the same tick
        let mut state = 1_u64;
        for camera in lease.payload.cameras.iter_mut().take(cameras) {
            let bytes = PixelFormat::Nv12.bytes_for(WIDTH_PX, HEIGHT_PX).unwrap_or(0);
            let mut noise = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let data = (0..bytes).map(|_| noise()).collect();
            if let Ok(frame) = Frame::new(WIDTH_PX, HEIGHT_PX, PixelFormat::Nv12, false, data) {
                camera.frame = frame;
                camera.present = true;
            }
        }
    }
}

/// What the host's thread spent.
struct Host {
    submit_us: Vec<f64>,
    complete_us: Vec<f64>,
}

impl Host {
    fn with_capacity(ticks: usize) -> Self {
        Host { submit_us: Vec::with_capacity(ticks), complete_us: Vec::with_capacity(ticks) }
    }
}

/// One tick from its pictures to its results, spinning; its milliseconds.
fn one_tick(node: &mut GpuNode, pool: &Pool<Slot<Tick>>, host: &mut Host) -> f64 {
    let Some(lease) = pool.acquire() else { return f64::NAN };
    let start = Instant::now();
    let Ticket(number) = node.submit(lease);
    host.submit_us.push(start.elapsed().as_secs_f64() * 1e6);
    let mut ticket = Ticket(number);
    loop {
        let asked = Instant::now();
        match node.complete(ticket) {
            Ok(finished) => {
                host.complete_us.push(asked.elapsed().as_secs_f64() * 1e6);
                if let Err(error) = finished.result {
                    println!("  fault: {error}");
                }
                return start.elapsed().as_secs_f64() * 1e3;
            }
            Err(again) => ticket = again,
        }
        std::hint::spin_loop();
    }
}

/// A tick at a steady rate, and what its latency is made of, in milliseconds.
#[derive(Clone, Copy)]
struct PacedTick {
    number: u32,
    /// From when it was due to when its results were in the host's memory.
    latency_ms: f64,
    /// The thread woke up so much too late.
    late_ms: f64,
    /// The call that handed it to the device.
    submit_ms: f64,
    /// The device, copies included.
    device_ms: f64,
}

/// Ticks that come at a steady rate. The thread sleeps until one is due and spins until it is done.
fn paced(node: &mut GpuNode, pool: &Pool<Slot<Tick>>, arguments: &Arguments) -> Vec<PacedTick> {
    let period = Duration::from_secs_f64(1.0 / arguments.rate_hz);
    let count = (arguments.seconds * arguments.rate_hz) as u32;
    let start = Instant::now();
    let mut ticks = Vec::with_capacity(count as usize);
    let mut host = Host::with_capacity(count as usize);
    for number in 0..count {
        let due = start + period * number;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let late_ms = due.elapsed().as_secs_f64() * 1e3;
        let spent_ms = one_tick(node, pool, &mut host);
        let submit_ms = host.submit_us.last().copied().unwrap_or(f64::NAN) * 1e-3;
        let device_ms = node.last_device_ms().map_or(f64::NAN, f64::from);
        ticks.push(PacedTick { number, latency_ms: late_ms + spent_ms, late_ms, submit_ms, device_ms });
    }
    ticks
}

/// The ten slowest of them, and where their time went.
fn worst(mut ticks: Vec<PacedTick>) -> Vec<PacedTick> {
    ticks.sort_by(|a, b| b.latency_ms.total_cmp(&a.latency_ms));
    ticks.truncate(10);
    ticks
}

/// Milliseconds from one tick to the next where the device always has one to go on with.
fn pace_ms(node: &mut GpuNode, pool: &Pool<Slot<Tick>>) -> f64 {
    let start = Instant::now();
    in_flight(node, pool, WARM_TICKS, |_, _| {});
    start.elapsed().as_secs_f64() * 1e3 / WARM_TICKS as f64
}

/// How often a tick's digests or its results were others than the first time, and where at first.
fn same(node: &mut GpuNode, pool: &Pool<Slot<Tick>>, times: usize) -> (usize, Vec<String>) {
    let mut first: Option<Vec<Vec<u8>>> = None;
    let (mut others, mut places) = (0, Vec::new());
    in_flight(node, pool, times, |_, finished| {
        let bytes = |network: &NetworkSlot| {
            let digests = network.digests.iter().flat_map(|digest| digest.to_le_bytes());
            network.results.iter().copied().chain(digests).collect()
        };
        let found: Vec<Vec<u8>> = finished.slot.payload.networks.iter().map(bytes).collect();
        let first = first.get_or_insert_with(|| found.clone());
        if finished.result.is_err() || *first != found {
            others += 1;
            if others == 1 {
                places = differences(first, &found);
            }
        }
    });
    (others, places)
}

/// Which bytes of the networks' results and digests differ.
fn differences(first: &[Vec<u8>], found: &[Vec<u8>]) -> Vec<String> {
    let of = |(network, (first, found)): (usize, (&Vec<u8>, &Vec<u8>))| {
        let mut places = (0..first.len().max(found.len())).filter(|at| first.get(*at) != found.get(*at));
        let begin = places.next()?;
        let more = places.count();
        Some(format!("network {network}: {} of {} bytes, from {begin} on", more + 1, first.len()))
    };
    first.iter().zip(found).enumerate().filter_map(of).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Percentiles of a set of values.
struct Spread(Vec<f64>);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Spread(values)
    }

    fn at(&self, part: f64) -> f64 {
        let rank = ((self.0.len() as f64 * part) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(rank).copied().unwrap_or(f64::NAN)
    }

    fn text(&self, unit: &str) -> String {
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|part| self.at(part));
        format!("p50 {p50:.3} {unit}, p99 {p99:.3}, p99.9 {p999:.3}, max {max:.3}")
    }

    fn json(&self) -> serde_json::Value {
        json!({ "p50": self.at(0.5), "p99": self.at(0.99), "p99.9": self.at(0.999), "max": self.at(1.0) })
    }
}
