//! A trace of a run for Perfetto and Chrome's `about:tracing`: which worker ran which stage on which tick, and when.
//!
//! Data comes as timings of ticks and goes straight into a JSON file in Chrome's trace event format ("Trace Event
//! Format", Google, object form); nothing but the workers' numbers is held in memory. The file grows in `NAME.part`
//! beside its place and takes its name when it is complete; a writer that is dropped before removes it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::file::part_of;
use crate::log::notes::Names;
use crate::messages::{Account, DropDecision};
use crate::runtime::graph::TimingNote;
use crate::tap::{Output, Sink, TapError};

/// Writes the trace of a run.
pub struct TraceWriter {
    /// `None` once the file is complete.
    file: Option<BufWriter<File>>,
    path: PathBuf,
    part: PathBuf,
    /// Names of stages as JSON strings, with their quotes.
    stages: Vec<String>,
    /// Workers that have been given a name.
    workers: BTreeSet<u16>,
    is_empty: bool,
}

impl TraceWriter {
    /// Begins a trace at `path`; the folder is made if need be.
    ///
    /// # Errors
    /// [`TapError::File`] when the file cannot be made.
    pub fn create(path: &Path, names: Names) -> Result<Self, TapError> {
        let explain = |error: std::io::Error| TapError::File { path: path.to_owned(), error: error.to_string() };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(explain)?;
        }
        let part = part_of(path);
        let file = File::create(&part).map_err(explain)?;
        let stages = names.stages.into_iter().map(|(name, _)| serde_json::Value::from(name).to_string()).collect();
        let mut trace = TraceWriter {
            file: Some(BufWriter::new(file)),
            path: path.to_owned(),
            part,
            stages,
            workers: BTreeSet::new(),
            is_empty: true,
        };
        trace.write("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        Ok(trace)
    }

    fn write(&mut self, text: &str) -> Result<(), TapError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(text.as_bytes()).map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &std::io::Error) -> TapError {
        TapError::File { path: self.path.clone(), error: error.to_string() }
    }

    fn event(&mut self, json: &str) -> Result<(), TapError> {
        let separator = if self.is_empty { "\n" } else { ",\n" };
        self.is_empty = false;
        self.write(separator)?;
        self.write(json)
    }

    fn name_worker(&mut self, worker: u16) -> Result<(), TapError> {
        if !self.workers.insert(worker) {
            return Ok(());
        }
        self.event(&format!(
            r#"{{"ph":"M","pid":1,"tid":{worker},"name":"thread_name","args":{{"name":"worker {worker}"}}}}"#
        ))
    }

    fn timing(&mut self, tick: u64, timing: &TimingNote) -> Result<(), TapError> {
        self.name_worker(timing.worker)?;
        let stage = self.stages.get(usize::from(timing.stage)).map_or("\"?\"", String::as_str);
        let start = microseconds(timing.start_ns);
        let took = microseconds(timing.end_ns.saturating_sub(timing.start_ns));
        let event = format!(
            r#"{{"ph":"X","pid":1,"tid":{},"name":{stage},"ts":{start},"dur":{took},"args":{{"tick":{tick}}}}}"#,
            timing.worker
        );
        self.event(&event)
    }
}

/// Exact, since a float would not tell nanoseconds apart after some days; never negative.
fn microseconds(nanoseconds: i64) -> String {
    let nanoseconds = nanoseconds.max(0);
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

impl Sink for TraceWriter {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        output.timings.iter().try_for_each(|timing| self.timing(output.decision.tick, timing))
    }

    fn finish(&mut self, _drops: &[DropDecision], _accounts: &[Account]) -> Result<(), TapError> {
        self.write("\n]}\n")?;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| self.explain(&error))?;
        std::fs::rename(&self.part, &self.path).map_err(|error| self.explain(&error))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // nobody is left to tell
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Level, TickDecision};

    fn names() -> Names {
        let stage = |name: &str| (name.to_owned(), Level::Exact);
        Names { stages: vec![stage("unpack"), stage("odd \"name\"")], ..Names::default() }
    }

    fn output(tick: u64, timings: Vec<TimingNote>) -> Output {
        Output {
            closed_ns: 0,
            decision: TickDecision { tick, ..TickDecision::default() },
            networks_place: Default::default(),
            drops: vec![],
            faults: vec![],
            digests: vec![],
            timings,
            misses: Default::default(),
            snapshots: vec![],
            body: None,
        }
    }

    #[test]
    fn the_trace_is_json_with_one_event_per_timing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/trace.json");
        let mut trace = TraceWriter::create(&path, names()).unwrap();
        let timing = |stage, worker, start_ns, end_ns| TimingNote { stage, worker, start_ns, end_ns };
        trace.take(&output(6, vec![timing(0, 0, 1_234_567, 1_300_000), timing(1, 1, 1_300_005, 1_400_005)])).unwrap();
        trace.take(&output(7, vec![timing(9, 1, i64::MIN, i64::MAX)])).unwrap();
        assert!(!path.exists());
        trace.finish(&[], &[]).unwrap();
        drop(trace);

        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let works: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!((works.len(), events.len()), (3, 5));
        assert_eq!(works[0]["name"], "unpack");
        assert!((works[0]["ts"].as_f64().unwrap() - 1234.567).abs() < 1e-9);
        assert!((works[0]["dur"].as_f64().unwrap() - 65.433).abs() < 1e-9);
        assert_eq!(works[1]["name"], "odd \"name\"");
        assert_eq!((works[1]["tid"].as_u64(), works[1]["args"]["tick"].as_u64()), (Some(1), Some(6)));
        assert_eq!(works[2]["name"], "?");
        assert_eq!(works[2]["ts"].as_f64(), Some(0.0));
    }

    #[test]
    fn a_run_without_ticks_leaves_valid_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut trace = TraceWriter::create(&path, names()).unwrap();
        trace.finish(&[], &[]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(json["traceEvents"].as_array().map(Vec::len), Some(0));
    }

    #[test]
    fn a_trace_that_was_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut trace = TraceWriter::create(&path, names()).unwrap();
        trace.take(&output(0, vec![TimingNote { stage: 0, worker: 0, start_ns: 0, end_ns: 1 }])).unwrap();
        drop(trace);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let path = blocked.join("trace.json");
        let Err(TapError::File { path: found, .. }) = TraceWriter::create(&path, names()) else { panic!("no error") };
        assert_eq!(found, path);
    }
}
