//! What an engine is made of: everything that decides its bits, digested into the name of its files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::calibrate::{CalibrateError, CalibrationSource};
use crate::gpu::DeviceInfo;
use crate::gpu::tensorrt::{BuildOptions, Precision, Version};
use crate::header::sha256_hex;

/// Hexadecimal digits of the digest in a file's name: 64 bits.
const NAME_DIGITS: usize = 16;

/// Which engine is wanted of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// How to build.
    pub options: BuildOptions,
    /// Pictures per run; none for as many as the model says, or one.
    pub batch: Option<u32>,
    /// Width and height of the pictures in pixels; none for the model's own.
    pub input_size: Option<(u32, u32)>,
    /// Where the ranges of 8-bit tensors come from, for models without Q and DQ nodes.
    pub calibration: Option<CalibrationSource>,
}

/// An engine's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineKey {
    /// The model's file without folder and ending, for people.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// TensorRT's version.
    pub tensorrt: String,
    /// The device's name.
    pub device: String,
    /// Its compute capability, as `8.7`.
    pub capability: String,
    /// The smallest type that layers may compute in.
    pub precision: Precision,
    /// Whether matrix products may round their operands.
    pub tf32: bool,
    /// Builder optimisation level.
    pub level: Option<u8>,
    /// Limit of the scratch memory of one layer.
    pub workspace_bytes: Option<u64>,
    /// The accelerator in place of the GPU.
    pub dla_core: Option<u8>,
    /// Pictures per run.
    pub batch: Option<u32>,
    /// Width and height of the pictures in pixels.
    pub input_size: Option<(u32, u32)>,
    /// The pictures or the table that the ranges of 8-bit tensors come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
}

impl EngineKey {
    /// The key of a model's engine on a device.
    ///
    /// # Errors
    /// [`CalibrateError::Io`], where the log or table that calibrates cannot be read.
    pub fn new(
        file: &str,
        model_sha256: &str,
        device: &DeviceInfo,
        version: Version,
        request: &Request,
    ) -> Result<EngineKey, CalibrateError> {
        let options = &request.options;
        Ok(EngineKey {
            model: model_name(file),
            model_sha256: model_sha256.to_owned(),
            tensorrt: version.to_string(),
            device: device.name.clone(),
            capability: format!("{}.{}", device.capability.0, device.capability.1),
            precision: options.precision,
            tf32: options.tf32,
            level: options.level,
            workspace_bytes: options.workspace_bytes,
            dla_core: options.dla_core,
            batch: request.batch,
            input_size: request.input_size,
            calibration: request.calibration.as_ref().map(CalibrationSource::identity).transpose()?,
        })
    }

    /// SHA-256 of everything but the model's name, which decides nothing.
    #[must_use]
    pub fn sha256(&self) -> String {
        let nameless = EngineKey { model: String::new(), ..self.clone() };
        // a struct of plain fields has JSON, in the order of its fields
        let text = serde_json::to_string(&nameless).unwrap_or_default();
        sha256_hex(format!("catseye engine 1\n{text}").as_bytes())
    }

    /// What the engine's files are called, without an ending.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let digest = self.sha256();
        format!("{}-{}", self.model, digest.get(..NAME_DIGITS).unwrap_or(&digest))
    }

    /// What the timings are called that all engines of this device and TensorRT share.
    #[must_use]
    pub fn timing_cache_file(&self) -> String {
        format!("timing-{}-sm{}-tensorrt{}.cache", plain(&self.device), self.capability.replace('.', ""), self.tensorrt)
    }
}

fn model_name(file: &str) -> String {
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = plain(&stem);
    if name.is_empty() { "model".to_owned() } else { name }
}

/// The text with `_` for all that has a meaning in file names.
fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    text.chars().take(80).map(keep).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::gpu::engine) fn key() -> EngineKey {
        let device = DeviceInfo {
            name: "NVIDIA Orin".to_owned(),
            capability: (8, 7),
            driver_version: 11_040,
            integrated: true,
            uuid: [0; 16],
            memory_bytes: 1 << 35,
        };
        let version = Version { major: 8, minor: 5, patch: 2 };
        EngineKey::new("models/yolox nano.onnx", "00ff", &device, version, &Request::default()).unwrap()
    }

    #[test]
    fn names_tell_the_model_and_all_that_decides() {
        let key = key();
        assert!(key.file_stem().starts_with("yolox_nano-"));
        assert_eq!(key.file_stem().len(), "yolox_nano-".len() + NAME_DIGITS);
        assert_eq!(key.timing_cache_file(), "timing-NVIDIA_Orin-sm87-tensorrt8.5.2.cache");
        let renamed = EngineKey { model: "other".to_owned(), ..key.clone() };
        assert_eq!(renamed.sha256(), key.sha256());
        let others = [
            EngineKey { tensorrt: "8.5.3".to_owned(), ..key.clone() },
            EngineKey { precision: Precision::Fp32, ..key.clone() },
            EngineKey { batch: Some(1), ..key.clone() },
            EngineKey { level: Some(0), ..key.clone() },
            EngineKey { dla_core: Some(0), ..key.clone() },
            EngineKey { input_size: Some((640, 384)), ..key.clone() },
        ];
        for other in others {
            assert_ne!(other.sha256(), key.sha256());
        }
    }
}
