//! The chain on catseye's graph, on the caller's thread.
//!
//! With a log, every stage's digest and timing of every tick are written by what writes them in a run of catseye; without
//! one, neither is taken.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use catseye::log::notes::{Names, NotesWriter};
use catseye::log::writer::{Compression, LogWriter};
use catseye::runtime::digest::digest_bytes;
use catseye::runtime::graph::{Builder, Fields, Inline, NO_GROUP, Options, Slot, Stage, StageError};
use catseye::runtime::pool::Pool;

use crate::{ADDERS, WARM_UP_TICKS, cpu_ns};

const ADDER_NAMES: [&str; ADDERS as usize] = [
    "add_00", "add_01", "add_02", "add_03", "add_04", "add_05", "add_06", "add_07", "add_08", "add_09", "add_10",
    "add_11", "add_12", "add_13", "add_14", "add_15",
];
/// Time between two ticks, as of a camera with 30 pictures a second.
const PERIOD_NS: i64 = 33_333_333;

/// Where the sink leaves its sum.
static SUM: AtomicU64 = AtomicU64::new(0);

struct Source {
    next: u64,
}

struct Add {
    name: &'static str,
}

struct Sink {
    sum: u64,
}

fn digest_value(value: u64, fields: &mut Fields) {
    fields.add(NO_GROUP, "value", digest_bytes(&value.to_le_bytes()));
}

impl Stage<u64> for Source {
    fn name(&self) -> &'static str {
        "source"
    }
    fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
        *payload = self.next;
        self.next += 1;
        Ok(())
    }
    fn digest(&self, payload: &u64, fields: &mut Fields) {
        digest_value(*payload, fields);
    }
}

impl Stage<u64> for Add {
    fn name(&self) -> &'static str {
        self.name
    }
    fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
        *payload += 1;
        Ok(())
    }
    fn digest(&self, payload: &u64, fields: &mut Fields) {
        digest_value(*payload, fields);
    }
}

impl Stage<u64> for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }
    fn run(&mut self, payload: &mut u64) -> Result<(), StageError> {
        self.sum += *payload;
        SUM.store(self.sum, Ordering::Relaxed);
        Ok(())
    }
    fn digest(&self, _payload: &u64, fields: &mut Fields) {
        digest_value(self.sum, fields);
    }
}

/// The log of a run.
struct Log {
    writer: LogWriter,
    notes: NotesWriter,
}

impl Log {
    fn create(path: &Path, compression: Compression, names: Names) -> Result<Log, Box<dyn Error>> {
        let mut writer = LogWriter::create(path, compression)?;
        let notes = NotesWriter::create(&mut writer, names)?;
        Ok(Log { writer, notes })
    }

    fn write(&mut self, slot: &Slot<u64>) -> Result<(), Box<dyn Error>> {
        let at = (slot.index, slot.index as i64 * PERIOD_NS);
        Ok(self.notes.write(&mut self.writer, at, &slot.notes.digests, &slot.notes.timings)?)
    }
}

/// Runs the chain; gives the CPU time of `ticks` ticks in nanoseconds, and the sink's sum.
pub fn measure(log: Option<(&Path, Compression)>, ticks: u64) -> Result<(i64, u64), Box<dyn Error>> {
    let options = Options { digests: log.is_some(), timings: log.is_some(), snapshot_every: 0, probe: None };
    let mut builder = Builder::new(options).stage(Box::new(Source { next: 0 }));
    for name in ADDER_NAMES {
        builder = builder.stage(Box::new(Add { name }));
    }
    let graph = builder.stage(Box::new(Sink { sum: 0 })).build(1)?;
    let stages = graph.stages().map(|(name, level)| (name.to_owned(), level)).collect();
    let names = Names { stages, ..Names::default() };
    let mut log = log.map(|(path, compression)| Log::create(path, compression, names)).transpose()?;
    let pool = Pool::new(1, || Slot::new(0));
    let mut inline = graph.inline();
    for _ in 0..WARM_UP_TICKS {
        tick(&mut inline, &pool, log.as_mut())?;
    }
    let start_ns = cpu_ns();
    for _ in 0..ticks {
        tick(&mut inline, &pool, log.as_mut())?;
    }
    if let Some(log) = log {
        log.writer.finish()?;
    }
    drop(inline);
    Ok((cpu_ns() - start_ns, SUM.load(Ordering::Relaxed)))
}

fn tick(inline: &mut Inline<u64>, pool: &Pool<Slot<u64>>, log: Option<&mut Log>) -> Result<(), Box<dyn Error>> {
    let slot = pool.acquire().ok_or("the pool's only slot is lent")?;
    let done = inline.run(slot);
    match log {
        Some(log) => log.write(&done),
        None => Ok(()),
    }
}
