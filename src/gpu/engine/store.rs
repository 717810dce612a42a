//! The folder of engines. Files are written whole, and a plan is handed out only if it is what its record says.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::key::EngineKey;
use super::record::{EngineRecord, FORMAT};
use crate::file::write_whole;
use crate::header::sha256_hex;

/// Names the folder where `--engine-dir` does not.
pub const FOLDER_VARIABLE: &str = "CATSEYE_ENGINE_DIR";

/// Why an engine could not be read or kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no place to keep engines.
    #[error("no folder for engines: neither --engine-dir nor {FOLDER_VARIABLE}, XDG_CACHE_HOME or HOME is given")]
    NoFolder,
    /// The system failed.
    #[error("{path}: {cause}")]
    System {
        /// The file or folder.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The record is none.
    #[error("{path}: expected the record of an engine, found {found}")]
    NotARecord {
        /// The record's file.
        path: String,
        /// What is wrong.
        found: String,
    },
    /// The record is of another version of catseye.
    #[error("{path}: expected a record of format {FORMAT}, found {found}: build the engine anew")]
    OtherFormat {
        /// The record's file.
        path: String,
        /// Its format.
        found: u32,
    },
    /// The plan was cut.
    #[error("{path}: expected {expected} bytes, found {found}: build the engine anew")]
    Truncated {
        /// The plan's file.
        path: String,
        /// Bytes of the record.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The plan's bytes are not those that were built.
    #[error("{path}: expected SHA-256 {expected}, found {found}: build the engine anew")]
    Corrupt {
        /// The file.
        path: String,
        /// The digest of the record.
        expected: String,
        /// Its own.
        found: String,
    },
    /// The plan was built for another device.
    #[error("{path}: built for {expected}, and this is {found}: build the engine here")]
    OtherDevice {
        /// The record's file.
        path: String,
        /// The device of the build.
        expected: String,
        /// The one that is there.
        found: String,
    },
    /// The plan was built by another TensorRT.
    #[error("{path}: built by TensorRT {expected}, and this is {found}: build the engine anew")]
    OtherTensorRt {
        /// The record's file.
        path: String,
        /// The version of the build.
        expected: String,
        /// The one that is there.
        found: String,
    },
}

/// A folder of engines.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// An engine in the folder: its record, and where its files lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What it is.
    pub record: EngineRecord,
    record_path: PathBuf,
}

impl Store {
    /// The folder that was named, or the user's own: `CATSEYE_ENGINE_DIR`, else `XDG_CACHE_HOME/catseye/engines`.
    pub fn open(named: Option<&Path>) -> Result<Store, StoreError> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = named
            .map(Path::to_path_buf)
            .or_else(|| of(FOLDER_VARIABLE))
            .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("catseye/engines")))
            .or_else(|| of("HOME").map(|home| home.join(".cache/catseye/engines")));
        folder.map(|folder| Store { folder }).ok_or(StoreError::NoFolder)
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The engine of a key, if it was built.
    pub fn find(&self, key: &EngineKey) -> Result<Option<Stored>, StoreError> {
        let path = self.folder.join(format!("{}.json", key.file_stem()));
        if !path.exists() {
            return Ok(None);
        }
        let stored = Stored::read(&path)?;
        // the names of files hold a part of the digest only
        Ok((stored.record.key.sha256() == key.sha256()).then_some(stored))
    }

    /// All engines, by name; a record that cannot be read is an error in its place.
    pub fn list(&self) -> Result<Vec<Result<Stored, StoreError>>, StoreError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(system(&self.folder, &error)),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        Ok(paths.iter().map(|path| Stored::read(path)).collect())
    }

    /// Keeps an engine: outputs and plan first, so that a record never stands alone.
    pub fn keep(&self, record: EngineRecord, plan: &[u8], golden: &[u8]) -> Result<Stored, StoreError> {
        std::fs::create_dir_all(&self.folder).map_err(|error| system(&self.folder, &error))?;
        let stored = Stored { record_path: self.folder.join(format!("{}.json", record.key.file_stem())), record };
        write(&stored.golden_path(), golden)?;
        write(&stored.plan_path(), plan)?;
        let text = serde_json::to_string_pretty(&stored.record)
            .map_err(|error| StoreError::NotARecord { path: shown(&stored.record_path), found: error.to_string() })?;
        write(&stored.record_path, format!("{text}\n").as_bytes())?;
        Ok(stored)
    }

    /// The timings that builds for this device and TensorRT have left; empty where there were none.
    #[must_use]
    pub fn timing_cache(&self, key: &EngineKey) -> Vec<u8> {
        // timings only save time: what cannot be read is measured again
        std::fs::read(self.folder.join(key.timing_cache_file())).unwrap_or_default()
    }

    /// Keeps timings.
    pub fn keep_timing_cache(&self, key: &EngineKey, timings: &[u8]) -> Result<(), StoreError> {
        std::fs::create_dir_all(&self.folder).map_err(|error| system(&self.folder, &error))?;
        write(&self.folder.join(key.timing_cache_file()), timings)
    }
}

impl Stored {
    /// Reads a record; the path may be that of the plan too.
    pub fn read(path: &Path) -> Result<Stored, StoreError> {
        let record_path = path.with_extension("json");
        let text = std::fs::read_to_string(&record_path).map_err(|error| system(&record_path, &error))?;
        let not_a_record =
            |error: serde_json::Error| StoreError::NotARecord { path: shown(&record_path), found: error.to_string() };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(not_a_record)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        match format.map(|format| u32::try_from(format).unwrap_or(u32::MAX)) {
            Some(FORMAT) | None => {}
            Some(found) => return Err(StoreError::OtherFormat { path: shown(&record_path), found }),
        }
        let record = serde_json::from_value(value).map_err(not_a_record)?;
        Ok(Stored { record, record_path })
    }

    /// The record's file.
    #[must_use]
    pub fn record_path(&self) -> &Path {
        &self.record_path
    }

    /// The plan's file.
    #[must_use]
    pub fn plan_path(&self) -> PathBuf {
        self.record_path.with_extension("plan")
    }

    /// The file of the outputs that the engine is held against.
    #[must_use]
    pub fn golden_path(&self) -> PathBuf {
        self.record_path.with_extension("golden")
    }

    /// When the record was written, as far as the file system tells.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.record_path).and_then(|about| about.modified()).ok()
    }

    /// Keeps the table of ranges that TensorRT made of the pictures, for people and for other programs.
    pub fn keep_calibration(&self, table: &[u8]) -> Result<(), StoreError> {
        write(&self.record_path.with_extension("calibration"), table)
    }

    /// Whether this device and TensorRT can load it. A plan runs on the kind of device that it was built on, by the same TensorRT.
    pub fn check_place(&self, device: &str, capability: (u32, u32), tensorrt: &str) -> Result<(), StoreError> {
        let (key, path) = (&self.record.key, shown(&self.record_path));
        let here = format!("{device} ({}.{})", capability.0, capability.1);
        let there = format!("{} ({})", key.device, key.capability);
        if here != there {
            return Err(StoreError::OtherDevice { path, expected: there, found: here });
        }
        if key.tensorrt != tensorrt {
            let (expected, found) = (key.tensorrt.clone(), tensorrt.to_owned());
            return Err(StoreError::OtherTensorRt { path, expected, found });
        }
        Ok(())
    }

    /// The plan, if it is the one that was built.
    pub fn plan(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.plan_path();
        let bytes = std::fs::read(&path).map_err(|error| system(&path, &error))?;
        let (expected, found) = (self.record.plan_bytes, bytes.len() as u64);
        if found < expected {
            return Err(StoreError::Truncated { path: shown(&path), expected, found });
        }
        let found = sha256_hex(&bytes);
        if found != self.record.plan_sha256 {
            return Err(StoreError::Corrupt { path: shown(&path), expected: self.record.plan_sha256.clone(), found });
        }
        Ok(bytes)
    }

    /// The outputs that the engine is held against, one after the other, if they are those of the record.
    pub fn golden(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let path = self.golden_path();
        let bytes = std::fs::read(&path).map_err(|error| system(&path, &error))?;
        let expected: u64 = self.record.outputs.iter().map(|output| output.bytes).sum();
        if (bytes.len() as u64) < expected {
            return Err(StoreError::Truncated { path: shown(&path), expected, found: bytes.len() as u64 });
        }
        let mut rest = bytes.as_slice();
        let mut outputs = Vec::with_capacity(self.record.outputs.len());
        for (output, digest) in self.record.outputs.iter().zip(&self.record.golden.output_sha256) {
            let (one, behind) = rest.split_at(rest.len().min(usize::try_from(output.bytes).unwrap_or(usize::MAX)));
            let found = sha256_hex(one);
            if found != *digest {
                return Err(StoreError::Corrupt { path: shown(&path), expected: digest.clone(), found });
            }
            outputs.push(one.to_vec());
            rest = behind;
        }
        Ok(outputs)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_whole(path, bytes).map_err(|error| system(path, &error))
}

fn system(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::System { path: shown(path), cause: error.to_string() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::key;
    use super::super::layers::LayerSummary;
    use super::super::record::{Capture, Golden};
    use super::*;
    use crate::gpu::tensorrt::{Element, TensorInfo};

    fn record(plan: &[u8], golden: &[u8]) -> EngineRecord {
        let tensor = |name: &str, bytes| TensorInfo {
            name: name.to_owned(),
            element: Element::F32,
            shape: vec![Some(1), Some(bytes / 4)],
            bytes,
        };
        EngineRecord {
            format: FORMAT,
            key: key(),
            plan_sha256: sha256_hex(plan),
            plan_bytes: plan.len() as u64,
            workspace_bytes: 1024,
            inputs: vec![tensor("images", 16)],
            outputs: vec![tensor("output", golden.len() as u64)],
            layers: LayerSummary::default(),
            build_seconds: 1.5,
            driver_version: 11_040,
            capture: Capture::Possible { nodes: 3, run_ms: 0.25 },
            golden: Golden { seed: 1, output_sha256: vec![sha256_hex(golden)] },
        }
    }

    #[test]
    fn an_engine_comes_back_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("engines"))).unwrap();
        assert!(store.list().unwrap().is_empty() && store.find(&key()).unwrap().is_none());
        let kept = store.keep(record(b"plan", b"12345678"), b"plan", b"12345678").unwrap();
        let found = store.find(&key()).unwrap().unwrap();
        assert_eq!(found, kept);
        assert_eq!(Stored::read(&kept.plan_path()).unwrap(), kept);
        assert_eq!(found.plan().unwrap(), b"plan");
        assert_eq!(found.golden().unwrap(), [b"12345678"]);
        assert_eq!(store.list().unwrap(), [Ok(kept)]);
        store.keep_timing_cache(&key(), b"timings").unwrap();
        assert_eq!(store.timing_cache(&key()), b"timings");
    }

    #[test]
    fn damage_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let kept = store.keep(record(b"plan", b"12345678"), b"plan", b"12345678").unwrap();
        std::fs::write(kept.plan_path(), b"pl").unwrap();
        assert!(matches!(kept.plan(), Err(StoreError::Truncated { expected: 4, found: 2, .. })));
        std::fs::write(kept.plan_path(), b"plaN").unwrap();
        assert!(matches!(kept.plan(), Err(StoreError::Corrupt { .. })));
        std::fs::write(kept.plan_path(), b"plan and more").unwrap();
        assert!(matches!(kept.plan(), Err(StoreError::Corrupt { .. })));
        std::fs::write(kept.golden_path(), b"1234567").unwrap();
        assert!(matches!(kept.golden(), Err(StoreError::Truncated { .. })));
        std::fs::write(kept.golden_path(), b"12345670").unwrap();
        assert!(matches!(kept.golden(), Err(StoreError::Corrupt { .. })));
        std::fs::write(kept.record_path(), b"{}").unwrap();
        assert!(matches!(store.find(&key()), Err(StoreError::NotARecord { .. })));
        std::fs::write(kept.record_path(), br#"{"format": 9}"#).unwrap();
        assert!(matches!(Stored::read(kept.record_path()), Err(StoreError::OtherFormat { found: 9, .. })));
        assert!(matches!(store.list().unwrap().as_slice(), [Err(StoreError::OtherFormat { .. })]));
    }

    #[test]
    fn another_place_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let kept = store.keep(record(b"plan", b"12345678"), b"plan", b"12345678").unwrap();
        assert_eq!(kept.check_place("NVIDIA Orin", (8, 7), "8.5.2"), Ok(()));
        let other = kept.check_place("NVIDIA H100 80GB HBM3", (9, 0), "8.5.2");
        assert!(matches!(other, Err(StoreError::OtherDevice { .. })));
        let other = kept.check_place("NVIDIA Orin", (8, 7), "8.6.1");
        assert!(matches!(other, Err(StoreError::OtherTensorRt { .. })));
    }
}
