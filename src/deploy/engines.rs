//! TensorRT engines of the rig's models: built on the target, by its own TensorRT for its own GPU, before the switch. They lie beside
//! the releases and outlive them; one that is there already is found by `catseye engine build` itself.

use catseye_calibration::rig::{Model, Precision};
use serde::Serialize;

use super::ssh::{ENGINES, Target};
use super::{DeployError, Event, Tell};

/// An engine that a rig needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineOrder {
    /// Path of the model in the release.
    pub model: String,
    /// What `catseye engine build` is told.
    pub arguments: Vec<String>,
}

impl EngineOrder {
    /// Of a rig's model. The engine is the one that `catseye run` looks for: a row of the batch for each camera.
    #[must_use]
    pub fn new(path: String, model: &Model) -> EngineOrder {
        let precision = match model.precision {
            Some(Precision::Fp32) => "fp32",
            Some(Precision::Int8) => "int8",
            Some(Precision::Fp16) | None => "fp16",
        };
        let mut arguments =
            ["--precision", precision, "--batch", &model.cameras.len().to_string()].map(str::to_owned).to_vec();
        if let (Some(width), Some(height)) = (model.input_width_px, model.input_height_px) {
            arguments.extend(["--input-size".to_owned(), format!("{width}x{height}")]);
        }
        if let Some(core) = model.dla_core {
            arguments.extend(["--dla".to_owned(), core.to_string()]);
        }
        EngineOrder { model: path, arguments }
    }

    /// What is run on the target.
    #[must_use]
    pub fn command(&self, release: &str, folder: &str) -> String {
        let arguments = self.arguments.join(" ");
        format!("{release}/usr/bin/catseye engine build {release}/{} --engine-dir {folder} {arguments}", self.model)
    }

    /// Builds it where it is not there; gives a note where that cannot be.
    ///
    /// # Errors
    /// The build failed.
    pub fn build(&self, target: &Target<'_>, folder: &str, tell: Tell<'_>) -> Result<Option<String>, DeployError> {
        let arguments: Vec<&str> =
            [folder, &self.model].into_iter().chain(self.arguments.iter().map(String::as_str)).collect();
        let reply = target.listen(&ENGINES, &arguments, b"", &mut |key, words| {
            if key == "words" {
                tell(Event::Line(words));
            }
        })?;
        if let Some(why) = reply.first("unable") {
            return Ok(Some(format!("no engine of {}: {why}", self.model)));
        }
        if reply.first("failed").is_some() {
            let said = reply.all("words").last().unwrap_or_default().to_owned();
            return Err(DeployError::Engine { model: self.model.clone(), said });
        }
        reply.needs("built").map(|_| None)
    }
}
