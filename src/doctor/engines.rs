//! Engines that were built: those that this machine can run, and those of other GPUs or other versions of TensorRT.
//!
//! What is read here is the part of `gpu::engine`'s records that tells where an engine runs, so that a catseye without TensorRT tells
//! it too. Whether an engine still gives what it gave is the matter of `catseye engine check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::gpu::{Gpu, find_library};
use super::{Finding, Machine, list_text, tensorrt};

/// `gpu::engine::record::FORMAT`.
const FORMAT: u32 = 1;

/// The part of an engine's record that is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// The version of the record.
    pub format: u32,
    /// What the engine was made of.
    pub key: Key,
    /// Bytes of the plan.
    pub plan_bytes: u64,
    /// Its inputs.
    pub inputs: Vec<Tensor>,
}

/// The part of an engine's identity that is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    /// The model, for people.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// TensorRT's version.
    pub tensorrt: String,
    /// The device's name.
    pub device: String,
    /// Its compute capability, as `8.7`.
    pub capability: String,
    /// `fp32`, `fp16` or `int8`.
    pub precision: String,
    /// The accelerator in place of the GPU.
    pub dla_core: Option<u8>,
}

/// A tensor of an engine.
#[derive(Clone, Debug, Deserialize)]
pub struct Tensor {
    /// Size of each dimension.
    pub shape: Vec<Option<u64>>,
}

impl Record {
    /// Pictures per run, where all inputs agree.
    pub fn batch(&self) -> Option<u64> {
        let mut batches = self.inputs.iter().map(|input| input.shape.first().copied().flatten());
        let first = batches.next()??;
        batches.all(|batch| batch == Some(first)).then_some(first)
    }
}

/// Where an engine runs, seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    Here,
    OtherGpu(String),
    OtherTensorRt(String),
    /// It is not known what is here.
    Unknown,
}

/// The folder of engines.
pub(super) struct Shelf {
    folder: PathBuf,
    engines: Vec<(Record, Home)>,
    damaged: Vec<String>,
}

impl Shelf {
    /// None where no folder is known.
    pub(super) fn of(machine: &Machine) -> Option<Shelf> {
        let folder = machine.facts.engine_dir.clone()?;
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
        paths.sort();
        let mut shelf = Shelf { folder, engines: Vec::new(), damaged: Vec::new() };
        for path in paths {
            match read(&path) {
                Ok(record) => {
                    let home = home(machine, &record.key);
                    shelf.engines.push((record, home));
                }
                Err(cause) => {
                    let name = path.file_stem().unwrap_or_default().to_string_lossy();
                    shelf.damaged.push(format!("{name} ({cause})"));
                }
            }
        }
        Some(shelf)
    }

    /// Engines of a model that run here, on a DLA's core or on the GPU.
    pub(super) fn of_model(&self, sha256: &str, dla_core: Option<u8>) -> impl Iterator<Item = &Record> {
        let fits = move |(record, home): &&(Record, Home)| {
            record.key.model_sha256 == sha256
                && record.key.dla_core == dla_core
                && matches!(home, Home::Here | Home::Unknown)
        };
        self.engines.iter().filter(fits).map(|(record, _)| record)
    }
}

fn read(record: &Path) -> Result<Record, String> {
    let text = std::fs::read_to_string(record).map_err(|error| error.to_string())?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("its record is none: {error}"))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if let Some(found) = format.filter(|format| *format != u64::from(FORMAT)) {
        return Err(format!("its record has format {found}, and this catseye reads {FORMAT}"));
    }
    let record_of: Record = serde_json::from_value(value).map_err(|error| format!("its record is none: {error}"))?;
    let plan = record.with_extension("plan");
    match plan.metadata() {
        Err(_) => Err("its plan is not there".to_owned()),
        Ok(found) if found.len() != record_of.plan_bytes => {
            Err(format!("its plan has {} bytes and not {}", found.len(), record_of.plan_bytes))
        }
        Ok(_) => Ok(record_of),
    }
}

fn home(machine: &Machine, key: &Key) -> Home {
    let gpu = Gpu::of(machine);
    let is_asked = matches!(machine.facts.gpu, Some(super::facts::Probe::Device { .. }));
    match &gpu {
        None => return Home::OtherGpu(key.device.clone()),
        // only the driver says the device's name as the record has it
        Some(gpu) if is_asked && gpu.name != key.device => return Home::OtherGpu(key.device.clone()),
        Some(gpu) => match gpu.capability {
            Some((major, minor)) if format!("{major}.{minor}") != key.capability => {
                return Home::OtherGpu(key.device.clone());
            }
            Some(_) => {}
            None => return Home::Unknown,
        },
    }
    match find_library(machine, tensorrt::LIBRARY) {
        None => Home::OtherTensorRt(key.tensorrt.clone()),
        // the name of a file may have a fourth number, or end with the major
        Some(library) if is_version(&library.version, &key.tensorrt) => Home::Here,
        Some(_) => Home::OtherTensorRt(key.tensorrt.clone()),
    }
}

/// Whether one version says the same as another, as far as the shorter one goes.
fn is_version(one: &str, other: &str) -> bool {
    one.split('.').zip(other.split('.')).all(|(one, other)| one == other)
}

pub(super) fn check(machine: &Machine) -> Vec<Finding> {
    const SUBJECT: &str = "cache";
    let Some(shelf) = Shelf::of(machine) else {
        return vec![Finding::yellow(
            SUBJECT,
            "no folder for engines is known",
            "set CATSEYE_ENGINE_DIR or HOME, or name it with `--engine-dir DIR`",
        )];
    };
    let mut findings = vec![summary(machine, &shelf)];
    if !shelf.damaged.is_empty() {
        let mend =
            format!("build them anew with `catseye engine build`, or remove them from {}", shelf.folder.display());
        findings.push(Finding::yellow("damaged", list_text(&shelf.damaged), mend));
    }
    findings
}

fn summary(machine: &Machine, shelf: &Shelf) -> Finding {
    const SUBJECT: &str = "cache";
    let folder = shelf.folder.display();
    if shelf.engines.is_empty() {
        if Gpu::of(machine).is_none() {
            return Finding::green(SUBJECT, format!("no engines in {folder}, and no GPU that would need them"));
        }
        return Finding::yellow(
            SUBJECT,
            format!("no engines in {folder}"),
            "`catseye engine build MODEL.onnx`, once for each model",
        );
    }
    let (mut here, mut stale, mut foreign) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (record, home) in &shelf.engines {
        match home {
            Home::Here | Home::Unknown => here.push(record.key.model.as_str()),
            Home::OtherTensorRt(version) => *stale.entry(version.clone()).or_insert(0) += 1,
            Home::OtherGpu(device) => *foreign.entry(device.clone()).or_insert(0) += 1,
        }
    }
    let counted =
        |kinds: &BTreeMap<String, u32>| list_text(kinds.iter().map(|(kind, count)| format!("{count} of {kind}")));
    let mut words = vec![format!("{} for this machine", here.len())];
    if !stale.is_empty() {
        words.push(format!("stale: {}, another TensorRT", counted(&stale)));
    }
    if !foreign.is_empty() {
        words.push(format!("foreign: {}, another GPU", counted(&foreign)));
    }
    let found = format!("{} ({folder})", words.join("; "));
    match (here.is_empty(), stale.is_empty() && foreign.is_empty()) {
        (false, true) => Finding::green(SUBJECT, found),
        (true, _) if Gpu::of(machine).is_some() => {
            Finding::yellow(SUBJECT, found, "`catseye engine build MODEL.onnx`, once for each model")
        }
        (true, _) => Finding::green(SUBJECT, found),
        // what is foreign may belong to a folder that machines share
        (false, false) if stale.is_empty() => Finding::green(SUBJECT, found),
        (false, false) => Finding::yellow(
            SUBJECT,
            found,
            "build the stale ones anew with `catseye engine build`, and remove what `catseye engine list` names of them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_far_as_both_go() {
        assert!(is_version("10.3.0.26", "10.3.0") && is_version("10", "10.3.0") && is_version("8.5.2", "8.5.2"));
        assert!(!is_version("8.6.1", "8.5.2") && !is_version("10.3.0", "8.5.2"));
    }

    #[cfg(feature = "tensorrt")]
    #[test]
    fn the_store_writes_what_is_read_here() {
        use crate::gpu::engine::{EngineKey, EngineRecord, record};
        use crate::gpu::tensorrt::{Element, Precision, TensorInfo};
        let key = EngineKey {
            model: "road".to_owned(),
            model_sha256: "ab".repeat(32),
            tensorrt: "8.5.2".to_owned(),
            device: "Orin".to_owned(),
            capability: "8.7".to_owned(),
            precision: Precision::Fp16,
            tf32: false,
            level: None,
            workspace_bytes: None,
            dla_core: None,
            batch: Some(2),
            input_size: None,
            calibration: None,
        };
        let shape = vec![Some(2), Some(3)];
        let written = EngineRecord {
            format: record::FORMAT,
            plan_sha256: String::new(),
            plan_bytes: 7,
            workspace_bytes: 0,
            inputs: vec![TensorInfo { name: "images".to_owned(), element: Element::F32, shape, bytes: 24 }],
            outputs: Vec::new(),
            layers: Default::default(),
            build_seconds: 0.0,
            driver_version: 11_040,
            capture: record::Capture::Impossible { cause: String::new() },
            golden: record::Golden { seed: 1, output_sha256: Vec::new() },
            key: key.clone(),
        };
        let read: Record = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!((read.format, read.plan_bytes, read.batch()), (FORMAT, 7, Some(2)));
        assert_eq!((read.key.model_sha256, read.key.tensorrt), (key.model_sha256, key.tensorrt));
        assert_eq!(
            (read.key.device, read.key.capability, read.key.precision.as_str()),
            (key.device, key.capability, "fp16")
        );
        let store = crate::gpu::engine::Store::open(None).ok();
        assert_eq!(super::super::facts::engine_dir(None).as_deref(), store.as_ref().map(|store| store.folder()));
    }
}
