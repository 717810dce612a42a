//! CPU time per hop of a chain of 18 trivial stages on one thread: catseye's graph against the Copper runtime 1.3.1.
//!
//! Every contender runs the same chain (a source that counts, 16 stages that add one, a sink that sums) without a log and
//! with one; the sum is checked after every run. Rounds go round the contenders, so that a change of the machine's clock
//! meets all of them, and the medians are printed. Time is the CPU time of the whole process, from the first tick behind
//! the warm-up to the closed log, so that helper threads and the last flush are paid for. A hop is one stage and the
//! hand-over to it: the time of a tick divided by 18.

mod ours;
mod theirs;

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use catseye::log::writer::Compression;
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Stages of the chain.
const STAGES: u64 = 18;
/// Stages that add one.
const ADDERS: u64 = STAGES - 2;
/// Ticks before the clock starts.
const WARM_UP_TICKS: u64 = 1000;

#[derive(Clone, Copy)]
enum Contender {
    Ours,
    Theirs,
    OursLogged(Compression),
    TheirsLogged,
}

const CONTENDERS: [Contender; 6] = [
    Contender::Ours,
    Contender::Theirs,
    Contender::OursLogged(Compression::None),
    Contender::OursLogged(Compression::Lz4),
    Contender::OursLogged(Compression::Zstd),
    Contender::TheirsLogged,
];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Ours => "catseye, no log",
            Contender::Theirs => "cu29, no log",
            Contender::OursLogged(Compression::None) => "catseye, log",
            Contender::OursLogged(Compression::Lz4) => "catseye, log, lz4",
            Contender::OursLogged(Compression::Zstd) => "catseye, log, zstd",
            Contender::TheirsLogged => "cu29, log",
        }
    }

    /// The one it is compared with.
    fn is_peer_of(self, other: Contender) -> bool {
        matches!(
            (self, other),
            (Contender::Theirs, Contender::Ours) | (Contender::TheirsLogged, Contender::OursLogged(_))
        )
    }

    /// CPU nanoseconds per hop and bytes on disk per tick of one run, which leaves its log in `folder`.
    fn measure(self, folder: &Path, ticks: u64) -> Result<(f64, f64), Box<dyn Error>> {
        let (cpu_ns, sum) = match self {
            Contender::Ours => ours::measure(None, ticks)?,
            Contender::OursLogged(compression) => {
                ours::measure(Some((&folder.join("chain.mcap"), compression)), ticks)?
            }
            Contender::Theirs => theirs::measure(&folder.join("chain.copper"), ticks)?,
            Contender::TheirsLogged => theirs::measure_logged(&folder.join("chain.copper"), ticks)?,
        };
        let all_ticks = ticks + WARM_UP_TICKS;
        let expected = (0..all_ticks).map(|tick| tick + ADDERS).sum::<u64>();
        if sum != expected {
            return Err(format!("{}: expected a sum of {expected}, found {sum}", self.name()).into());
        }
        let per_hop_ns = cpu_ns as f64 / (ticks * STAGES) as f64;
        Ok((per_hop_ns, bytes_on_disk(folder)? as f64 / all_ticks as f64))
    }
}

/// CPU time of all threads of this process so far.
fn cpu_ns() -> i64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// What the files of a folder occupy; files that are only reserved count for what is written.
fn bytes_on_disk(folder: &Path) -> std::io::Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.blocks() * BLOCK_BYTES;
    }
    Ok(bytes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { 0.5 * (values[middle - 1] + values[middle]) } else { values[middle] }
}

/// What the program is told.
#[derive(Parser)]
struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Ticks per measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    ticks: u64,
    /// Where the logs go for the time of the run; the system's folder for temporary files unless given
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where the results go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let root = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); CONTENDERS.len()];
    let mut sizes = vec![0.0; CONTENDERS.len()];
    for _ in 0..arguments.rounds {
        for ((contender, times), size) in CONTENDERS.iter().zip(&mut times).zip(&mut sizes) {
            let folder = tempfile::tempdir_in(&root)?;
            let (time, bytes) = contender.measure(folder.path(), arguments.ticks)?;
            times.push(time);
            *size = bytes;
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let peer_of = |ours: Contender| {
        CONTENDERS.iter().zip(&medians).find(|(contender, _)| contender.is_peer_of(ours)).map(|(_, time)| *time)
    };
    println!("medians of {} rounds of {} ticks through {STAGES} stages", arguments.rounds, arguments.ticks);
    println!("                       CPU ns per hop   bytes per tick   ours / cu29");
    let mut results = Vec::new();
    for ((contender, time), bytes) in CONTENDERS.iter().zip(&medians).zip(&sizes) {
        let ratio = peer_of(*contender).map(|peer| time / peer);
        let shown = ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        println!("{:<20}{time:>17.1}{bytes:>17.0}{shown:>14}", contender.name());
        results.push(json!({
            "contender": contender.name(),
            "cpu_ns_per_hop": time,
            "bytes_per_tick": bytes,
            "ours_by_cu29": ratio,
        }));
    }
    let Some(file) = arguments.json else { return Ok(()) };
    let report = json!({
        "bench": "chain",
        "peer": "cu29 1.3.1",
        "stages": STAGES,
        "rounds": arguments.rounds,
        "ticks": arguments.ticks,
        "results": results,
    });
    std::fs::write(file, format!("{report:#}\n"))?;
    Ok(())
}
