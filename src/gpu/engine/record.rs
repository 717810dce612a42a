//! The record beside a plan: what it is, what became of the build, and what it is held against later.

use serde::{Deserialize, Serialize};

use super::key::EngineKey;
use super::layers::LayerSummary;
use crate::gpu::tensorrt::TensorInfo;

/// The version of the record that this build reads and writes.
pub const FORMAT: u32 = 1;

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// What it was made of.
    pub key: EngineKey,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Bytes of the plan.
    pub plan_bytes: u64,
    /// Scratch memory on the device for each run at a time.
    pub workspace_bytes: u64,
    /// Its inputs.
    pub inputs: Vec<TensorInfo>,
    /// Its outputs.
    pub outputs: Vec<TensorInfo>,
    /// Types that its layers really compute in.
    pub layers: LayerSummary,
    /// How long the build took.
    pub build_seconds: f64,
    /// The newest CUDA version that the driver knew.
    pub driver_version: u32,
    /// Whether a run can be captured into a graph.
    pub capture: Capture,
    /// What it gives for the noise of [`golden`](super::golden).
    pub golden: Golden,
}

/// What became of capturing a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Capture {
    /// It was captured, and gave the same outputs.
    Possible {
        /// Pieces of work in the graph.
        nodes: usize,
        /// Median time of one run alone, in milliseconds.
        run_ms: f32,
    },
    /// It was not, and why.
    Impossible {
        /// What the driver or TensorRT said.
        cause: String,
    },
}

/// The outputs for a fixed input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Golden {
    /// Where the noise begins.
    pub seed: u64,
    /// SHA-256 of each output's bytes, in the engine's order. The bytes are in the file beside.
    pub output_sha256: Vec<String>,
}
