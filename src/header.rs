//! What ran: the entries of a run's header, and whether two runs can have the same bits.
//!
//! A replay that is to be verified must use what the recorded run used. Rig, models and the engine decide bits; the
//! build and the processor do not, by construction, and are written down for the day that construction fails.

use std::collections::BTreeMap;

use catseye_calibration::rig::Rig;
use sha2::{Digest, Sha256};

use crate::pipeline::{DigestLevel, Files, Pipeline};

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The header of a run.
pub fn run_header(rig: &Rig, files: &Files, pipeline: &Pipeline, digests: DigestLevel) -> BTreeMap<String, String> {
    let mut header = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        header.insert(key.to_owned(), value);
    };
    put("catseye.version", env!("CARGO_PKG_VERSION").to_owned());
    put("build.rustc", env!("CATSEYE_RUSTC").to_owned());
    put("build.target", env!("CATSEYE_TARGET").to_owned());
    put("build.target_features", env!("CATSEYE_TARGET_FEATURES").to_owned());
    put("build.profile", env!("CATSEYE_PROFILE").to_owned());
    put("machine.processor", processor());
    put("rig.name", rig.name.clone());
    // models stand below for themselves: where their files lie decides nothing
    let without_models = Rig { models: Vec::new(), directory: Default::default(), ..rig.clone() };
    put("rig.sha256", sha256_hex(without_models.to_toml().as_bytes()));
    for (name, bytes) in files {
        put(&format!("file.{}.sha256", name.display()), sha256_hex(bytes));
    }
    put("decoder.jpeg", catseye_sensors::picture::jpeg::decoder_version().to_owned());
    put("decoder.png", catseye_sensors::picture::png::decoder_version().to_owned());
    put("decoder.h264", catseye_sensors::picture::h264::decoder_version().to_owned());
    for model in &pipeline.models {
        let key = |what: &str| format!("model.{}.{what}", model.network.name);
        put(&key("file"), model.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        put(&key("sha256"), model.sha256.clone());
        put(&key("head"), model.network.head.name().to_owned());
        put(&key("backend"), model.backend.name.to_owned());
        put(&key("backend_version"), model.backend.version.clone());
        put(&key("backend_threads"), model.backend.threads.to_string());
        put(&key("backend_reason"), model.backend.reason.clone());
    }
    let level = match digests {
        DigestLevel::Off => "off",
        DigestLevel::Outputs => "outputs",
        DigestLevel::All => "all",
    };
    put("classes", pipeline.class_names.join("\n"));
    put("digests", level.to_owned());
    header
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("CPU part"));
    line.and_then(|line| line.split(':').nth(1)).map_or_else(String::new, |name| name.trim().to_owned())
}

/// One entry that decides bits and differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The entry.
    pub key: String,
    /// What the recorded run had.
    pub expected: Option<String>,
    /// What this one has.
    pub found: Option<String>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{}: expected {}, found {}", self.key, show(&self.expected), show(&self.found))
    }
}

/// Entries that decide bits and differ between a recorded run and this one.
pub fn mismatches(recorded: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Mismatch> {
    let decides = |key: &str| {
        let of_model = key.starts_with("model.")
            && [".sha256", ".head", ".backend", ".backend_version", ".backend_threads"]
                .iter()
                .any(|end| key.ends_with(end));
        of_model || key.starts_with("decoder.") || key == "rig.sha256" || key.starts_with("file.") || key == "digests"
    };
    let mut keys: Vec<&String> = recorded.keys().chain(now.keys()).filter(|key| decides(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&String| recorded.get(*key) != now.get(*key);
    let mismatch = |key: &String| Mismatch {
        key: key.clone(),
        expected: recorded.get(key).cloned(),
        found: now.get(key).cloned(),
    };
    keys.into_iter().filter(differs).map(mismatch).collect()
}
