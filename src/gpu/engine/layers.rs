//! Which types the layers of an engine compute in. A precision is a permission: TensorRT takes what was fastest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many layers there are of each type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Layers that compute, by the smallest type among what they read, or what they write where they read nothing.
    pub computing: BTreeMap<String, u32>,
    /// Layers that only change the format of a tensor.
    pub reformatting: u32,
}

impl LayerSummary {
    /// Reads the JSON of TensorRT's engine inspector. What it does not say is counted as `unknown`.
    #[must_use]
    pub fn of(json: &str) -> LayerSummary {
        let mut summary = LayerSummary::default();
        // TensorRT 8.6 puts bare separators (0x1e) between the names of fused layers, which JSON does not allow
        let json: String = json.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let Ok(engine) = serde_json::from_str::<Value>(&json) else { return summary };
        for layer in engine.get("Layers").and_then(Value::as_array).into_iter().flatten() {
            let kind = layer.get("LayerType").and_then(Value::as_str).unwrap_or_default();
            if matches!(kind, "Reformat" | "NoOp" | "reformat") {
                summary.reformatting += 1;
                continue;
            }
            let element = smallest(layer, "Inputs").or_else(|| smallest(layer, "Outputs"));
            *summary.computing.entry(element.unwrap_or("unknown").to_owned()).or_default() += 1;
        }
        summary
    }

    /// In a line, as `fp16 60, fp32 2; 5 reformat`.
    #[must_use]
    pub fn text(&self) -> String {
        let computing: Vec<String> =
            self.computing.iter().map(|(element, count)| format!("{element} {count}")).collect();
        format!("{}; {} reformat", computing.join(", "), self.reformatting)
    }
}

/// The types that matter, smallest first, with the words for them in the versions of TensorRT.
const ELEMENTS: [(&str, &[&str]); 5] = [
    ("int8", &["int8", "qs8", "s8"]),
    ("fp8", &["fp8", "e4m3"]),
    ("fp16", &["fp16", "half", "float16"]),
    ("bf16", &["bf16", "bfloat16"]),
    ("fp32", &["fp32", "float", "float32"]),
];

fn smallest(layer: &Value, side: &str) -> Option<&'static str> {
    let tensors = layer.get(side)?.as_array()?;
    let words: Vec<String> = tensors
        .iter()
        .filter_map(|tensor| tensor.get("Format/Datatype").and_then(Value::as_str))
        .flat_map(|text| {
            text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase).collect::<Vec<_>>()
        })
        .collect();
    let is_there = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    ELEMENTS.iter().find(|(_, names)| is_there(names)).map(|(element, _)| *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_by_what_they_read() {
        let json = r#"{"Layers": [
            {"Name": "a", "LayerType": "CaskConvolution",
             "Inputs": [{"Format/Datatype": "Two wide channel vectorized row major FP16 format"}],
             "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
            {"Name": "b", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
            {"Name": "c", "LayerType": "PointWiseV2", "Inputs": [], "Outputs": [{"Format/Datatype": "Float"}]},
            {"Name": "d", "LayerType": "gemm"},
            "e"
        ], "Bindings": []}"#;
        let summary = LayerSummary::of(json);
        assert_eq!(summary.text(), "fp16 1, fp32 1, unknown 2; 1 reformat");
        let fused = "{\"Layers\": [{\"LayerType\": \"NoOp\", \"Metadata\": \"[Conv_41]\x1e[Sigmoid_42]\"}],\n \"Bindings\": []}";
        assert_eq!(LayerSummary::of(fused).text(), "; 1 reformat");
        assert_eq!(LayerSummary::of("not JSON"), LayerSummary::default());
    }
}
