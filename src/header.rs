//! What ran: the entries of a run's header, and whether two runs can have the same bits.
//!
//! A replay that is to be verified must use what the recorded run used. Rig, models, their settings and the engine
//! decide bits; the build and the processor do not, by construction, and are written down for the day that construction
//! fails.

use std::collections::BTreeMap;

use catseye_calibration::rig::Rig;
use sha2::{Digest, Sha256};

use crate::pipeline::{DigestLevel, Files, Pipeline};
use crate::stages::network::Network;

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
    // models stand below for themselves, where their files lie decides nothing, and real time reaches no output
    let deciding =
        Rig { models: Vec::new(), directory: Default::default(), realtime: Default::default(), ..rig.clone() };
    put("rig.sha256", sha256_hex(deciding.to_toml().as_bytes()));
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
        put(&key("settings"), settings(rig, &model.network));
        put(&key("backend"), model.backend.name.to_owned());
        put(&key("backend_version"), model.backend.version.clone());
        put(&key("backend_threads"), model.backend.threads.to_string());
        put(&key("backend_reason"), model.backend.reason.clone());
        if let Some(fallback) = &model.fallback {
            put(&key("fallback"), format!("{} {}, {} threads", fallback.name, fallback.version, fallback.threads));
        }
        if let Some(plan) = &model.backend.plan_sha256 {
            put(&key("plan_sha256"), plan.clone());
        }
    }
    for (key, value) in &pipeline.recorded_networks {
        put(key, value.clone());
    }
    if !pipeline.recorded_networks.is_empty() {
        put("networks", "recorded".to_owned());
    }
    put("classes", pipeline.class_names.join("\n"));
    put("digests", digests.name().to_owned());
    header
}

/// How a model is used, as far as that decides bits and is not in its file.
fn settings(rig: &Rig, network: &Network) -> String {
    let cameras = network.cameras.iter().filter_map(|camera| rig.cameras.get(*camera));
    let cameras: Vec<&str> = cameras.map(|camera| camera.name.as_str()).collect();
    let is_undistorted = rig.models.iter().any(|model| model.name == network.name && model.undistort);
    format!(
        "input {}x{}, score {}, nms {}, undistort {is_undistorted}, cameras {}",
        network.layout.width,
        network.layout.height,
        network.score_threshold,
        network.nms_iou,
        cameras.join(" ")
    )
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
        let (expected, found) = (lines(&self.expected), lines(&self.found));
        let most = expected.len().max(found.len());
        // of two lists, the first place where they differ says more than all that is in them
        let at = (0..most).find(|at| expected.get(*at) != found.get(*at)).unwrap_or(0);
        let line = if most > 1 { format!(", line {}", at + 1) } else { String::new() };
        let show = |lines: &[&str]| lines.get(at).copied().unwrap_or("nothing").to_owned();
        write!(f, "{}{line}: expected {}, found {}", self.key, show(&expected), show(&found))
    }
}

fn lines(value: &Option<String>) -> Vec<&str> {
    value.iter().flat_map(|value| value.lines()).collect()
}

/// Entries that decide bits and differ between a recorded run and this one. What older logs do not say is passed over.
pub fn mismatches(recorded: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Mismatch> {
    let decides = |key: &str| {
        let of_model = key.starts_with("model.")
            && [
                ".sha256",
                ".head",
                ".settings",
                ".backend",
                ".backend_version",
                ".backend_threads",
                ".plan_sha256",
                ".fallback",
            ]
            .iter()
            .any(|end| key.ends_with(end));
        let of_files = key.starts_with("decoder.") || key.starts_with("file.");
        of_model || of_files || ["rig.sha256", "classes", "digests"].contains(&key)
    };
    let is_newer = |key: &str| (key.ends_with(".settings") || key == "classes") && !recorded.contains_key(key);
    let mut keys: Vec<&String> = recorded.keys().chain(now.keys()).filter(|key| decides(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&String| recorded.get(*key) != now.get(*key) && !is_newer(key);
    let mismatch = |key: &String| Mismatch {
        key: key.clone(),
        expected: recorded.get(key).cloned(),
        found: now.get(key).cloned(),
    };
    keys.into_iter().filter(differs).map(mismatch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn words(recorded: &[(&str, &str)], now: &[(&str, &str)]) -> Vec<String> {
        mismatches(&header(recorded), &header(now)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn other_settings_and_classes_are_told() {
        let recorded = [("model.m.settings", "score 0.3"), ("classes", "person\ncar\nbus"), ("machine.processor", "x")];
        let now = [("model.m.settings", "score 0.9"), ("classes", "person\nvan"), ("machine.processor", "y")];
        let expected =
            ["classes, line 2: expected car, found van", "model.m.settings: expected score 0.3, found score 0.9"];
        assert_eq!(words(&recorded, &now), expected);
        assert!(words(&recorded, &recorded).is_empty());
        let longer = [now[0], ("classes", "person\nvan\nbus")];
        assert_eq!(words(&now[..2], &longer), ["classes, line 3: expected nothing, found bus"]);
    }

    #[test]
    fn what_an_older_log_does_not_say_is_no_mismatch() {
        let now = [("model.m.settings", "score 0.3"), ("model.m.sha256", "ab"), ("classes", "car")];
        assert!(words(&[("model.m.sha256", "ab")], &now).is_empty());
        // a model more is told all the same, and one less too
        assert_eq!(words(&[("classes", "car")], &now), ["model.m.sha256: expected nothing, found ab"]);
        assert_eq!(words(&now, &[("classes", "car")]).len(), 2);
    }
}
