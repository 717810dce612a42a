//! The recorder on a real disk: whether it holds the rate of twelve cameras and a lidar, and how near to `dd` it comes.
//!
//! Synthetic sensors: twelve cameras with pictures of 1920x1208 in NV12 at 10 Hz, 42 MB a tick, and a lidar with scans of
//! 100 kB. Two questions, answered apart. *Paced*, ticks come at 10 Hz for `--seconds`: how many messages are dropped, and how
//! long an offer takes the caller. *Unpaced*, as many bytes go to the disk as fast as it takes them, waiting whenever the
//! budget is nearly used up; `dd` writes as many bytes into the same folder, with the recorder's chunks as blocks and the same
//! policy of syncing. Rounds of both alternate, so that what else the disk does meets both; medians are printed, and the ratio.
//! `cargo bench --bench recorder -- [--seconds N] [--rounds N] [--folder DIR] [--fsync never|per-file] [--json FILE]`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use catseye::log::Channel;
use catseye::log::recorder::manifest::Ending;
use catseye::log::recorder::priority::{Offer, Priority, SensorMessage, Slot};
use catseye::log::recorder::{Fsync, Options, Preamble, Recorder, Summary};
use clap::{Parser, ValueEnum};
use foxglove::bytes::Bytes;
use foxglove::messages::{PointCloud, RawImage};
use serde_json::json;

const CAMERAS: usize = 12;
const PICTURE_BYTES: usize = 1920 * 1208 * 3 / 2;
const SCAN_BYTES: usize = 100_000;
const TICK_BYTES: u64 = (CAMERAS * PICTURE_BYTES + SCAN_BYTES) as u64;
const TICK: Duration = Duration::from_millis(100);

/// What the program is told.
#[derive(Parser)]
struct Arguments {
    /// Seconds of the sensors' time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Rounds of recorder and dd
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where to write; a folder of its own is made in it
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// When to wait for the disk
    #[arg(long, value_enum, default_value_t = Policy::PerFile)]
    fsync: Policy,
    /// Where the results go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it (`cargo test`) there are two ticks and one round
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    Never,
    PerFile,
}

/// The sensors, and what they send: noise, made once, since what a picture shows is no matter here.
struct Sensors {
    slots: Vec<(Slot, Bytes)>,
}

impl Sensors {
    fn new() -> (Self, Preamble) {
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let noise: Bytes = noise.take(PICTURE_BYTES).collect::<Vec<_>>().into();
        let mut preamble = Preamble::default();
        let cameras = (0..CAMERAS).map(|camera| {
            let channel = Channel::of_foxglove::<RawImage>(&format!("/camera/{camera}/image"));
            (preamble.channel(channel, Priority(1)), noise.clone())
        });
        let mut slots: Vec<_> = cameras.collect();
        let lidar = preamble.channel(Channel::of_foxglove::<PointCloud>("/lidar/points"), Priority(2));
        slots.push((lidar, noise.slice(..SCAN_BYTES)));
        (Sensors { slots }, preamble)
    }

    fn tick(&self, sequence: u32) -> impl Iterator<Item = SensorMessage> {
        let log_ns = i64::from(sequence) * TICK.as_nanos() as i64;
        self.slots.iter().map(move |(slot, data)| SensorMessage {
            slot: *slot,
            sequence,
            log_ns,
            publish_ns: log_ns,
            data: data.clone(),
        })
    }
}

fn options(policy: Policy) -> Options {
    let fsync = match policy {
        Policy::Never => Fsync::Never,
        Policy::PerFile => Fsync::PerFile,
    };
    // one file, as dd writes one
    Options { fsync, max_file_bytes: 1 << 40, preallocate: false, ..Options::default() }
}

/// What a recording of so many ticks took, and what came of it.
struct Recorded {
    wall: Duration,
    longest_offer: Duration,
    dropped: u64,
    file_bytes: u64,
}

fn record(folder: &Path, ticks: u32, policy: Policy, is_paced: bool) -> Recorded {
    let (sensors, preamble) = Sensors::new();
    let began = Instant::now();
    let recorder = Recorder::start(folder, "bench", preamble, options(policy)).expect("a recording");
    let (mut dropped, mut longest_offer) = (0, Duration::ZERO);
    for sequence in 0..ticks {
        if is_paced {
            std::thread::sleep((TICK * sequence).saturating_sub(began.elapsed()));
        }
        for message in sensors.tick(sequence) {
            // unpaced, a queue that is half full is waited for: nothing may be dropped where bytes are compared
            while !is_paced && recorder.bytes_in_flight() > Options::default().budget_bytes / 2 {
                std::thread::sleep(Duration::from_micros(200));
            }
            let offered = Instant::now();
            dropped += u64::from(recorder.offer(message) != Offer::Taken);
            longest_offer = longest_offer.max(offered.elapsed());
        }
    }
    let Summary { manifest, .. } = recorder.stop().expect("no panic");
    let wall = began.elapsed();
    assert_eq!(manifest.ending, Ending::Stopped, "the disk was full");
    let pushed_out: u64 = manifest.channels.iter().flat_map(|channel| channel.drops.values()).sum();
    let file_bytes = manifest.files.iter().map(|file| file.bytes).sum();
    clear(folder);
    Recorded { wall, longest_offer, dropped: dropped.max(pushed_out), file_bytes }
}

/// `dd` writes as many bytes as a recording, in blocks as large as its chunks.
fn dd(folder: &Path, bytes: u64, policy: Policy) -> Duration {
    let target = format!("of={}", folder.join("dd").display());
    let block = Options::default().chunk_bytes;
    let count = format!("count={}", bytes.div_ceil(block));
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", &target, &format!("bs={block}"), &count, "status=none"]);
    if matches!(policy, Policy::PerFile) {
        command.arg("conv=fdatasync");
    }
    let began = Instant::now();
    assert!(command.status().expect("dd").success(), "dd failed");
    let wall = began.elapsed();
    clear(folder);
    wall
}

fn clear(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (ticks, rounds) = if arguments.bench { (arguments.seconds * 10, arguments.rounds) } else { (2, 1) };
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let megabytes = f64::from(ticks) * TICK_BYTES as f64 * 1e-6;

    let paced = record(folder.path(), ticks, arguments.fsync, true);
    let longest_ms = paced.longest_offer.as_secs_f64() * 1e3;
    println!(
        "paced: {ticks} ticks of {:.1} MB at 10 Hz in {:.2} s: {} of {} messages dropped, longest offer {longest_ms:.3} ms",
        TICK_BYTES as f64 * 1e-6,
        paced.wall.as_secs_f64(),
        paced.dropped,
        ticks as usize * (CAMERAS + 1),
    );

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let recorded = record(folder.path(), ticks, arguments.fsync, false);
        assert_eq!(recorded.dropped, 0, "bytes cannot be compared");
        ours.push(recorded.wall.as_secs_f64());
        theirs.push(dd(folder.path(), recorded.file_bytes, arguments.fsync).as_secs_f64());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = theirs / ours;
    println!("unpaced: {megabytes:.0} MB, medians of {rounds} rounds");
    println!("  recorder {:>8.0} MB/s", megabytes / ours);
    println!("  dd       {:>8.0} MB/s", megabytes / theirs);
    println!("  recorder / dd {ratio:.3}");
    let Some(file) = arguments.json else { return Ok(()) };
    let report = json!({
        "bench": "recorder",
        "ticks": ticks,
        "rounds": rounds,
        "megabytes": megabytes,
        "paced": { "dropped": paced.dropped, "longest_offer_ms": longest_ms, "wall_s": paced.wall.as_secs_f64() },
        "unpaced": { "recorder_s": ours, "dd_s": theirs, "recorder_by_dd": ratio },
    });
    std::fs::write(file, format!("{report:#}\n"))
}
