//! The outer layer of ONNX models: version, graph, and what their makers wrote into them.
#![no_main]

use catseye::stages::infer::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes("fuzz.onnx", bytes.to_vec()) else { return };
    let _ = (model.class_names(), model.metadata().len());
});
