//! Whether an engine still gives what it gave when it was built: a fixed input, the outputs that were kept, and a bound.
//!
//! One engine on one kind of device gives the same bits every time. Where it does not, how far the values are apart says whether
//! the device, its driver or a library has changed, or whether something is broken.

use std::sync::Arc;

use serde::Serialize;

use super::key::EngineKey;
use super::run::Runner;
use super::store::{StoreError, Stored};
use crate::gpu::Context;
use crate::gpu::tensorrt::{Element, Engine, Library, Precision, TensorInfo, TensorRtError};
use crate::header::sha256_hex;

/// Where the noise of every golden input begins.
pub const SEED: u64 = 0x6361_7473_6579_6531;

/// Why an engine could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TensorRT or the device.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// The same bits.
    Equal,
    /// Other bits, but values within the bound of the precision.
    Near {
        /// The largest difference, as a part of the output's largest value.
        difference: f64,
        /// The bound.
        bound: f64,
    },
    /// Values beyond it, or no numbers where there were some.
    Different {
        /// The output.
        output: String,
        /// The largest difference, as a part of the output's largest value; none where values are no numbers.
        difference: Option<f64>,
        /// The bound.
        bound: f64,
    },
}

/// Loads an engine, runs it on the noise, and holds the outputs against those that were kept.
pub fn check(library: &Arc<Library>, stored: &Stored) -> Result<Verdict, CheckError> {
    let info = library.context().info();
    stored.check_place(&info.name, info.capability, &library.version().to_string())?;
    let plan = stored.plan()?;
    // damage to what was kept is told also where the digests of the record are enough
    stored.golden()?;
    let engine = Engine::load(library, &plan, stored.record.key.dla_core)?;
    check_loaded(library.context(), &engine, stored)
}

/// The same for an engine that is loaded. The outputs that were kept are read only where the digests differ.
pub fn check_loaded(context: &Arc<Context>, engine: &Arc<Engine>, stored: &Stored) -> Result<Verdict, CheckError> {
    let golden = &stored.record.golden;
    let mut runner = Runner::new(context, engine)?;
    let inputs: Vec<Vec<u8>> = engine.inputs().iter().map(|input| noise(input, golden.seed)).collect();
    runner.set_inputs(&inputs).map_err(TensorRtError::from)?;
    runner.run()?;
    let found = runner.outputs().map_err(TensorRtError::from)?;
    if found.iter().map(|bytes| sha256_hex(bytes)).eq(golden.output_sha256.iter().cloned()) {
        return Ok(Verdict::Equal);
    }
    Ok(compare(engine.outputs(), &stored.golden()?, &found, bound(&stored.record.key)))
}

/// How far values may be apart that were computed in other orders, as a part of the largest.
#[must_use]
pub fn bound(key: &EngineKey) -> f64 {
    match key.precision {
        Precision::Fp32 if key.tf32 => 5e-3,
        Precision::Fp32 => 1e-4,
        Precision::Fp16 => 1e-2,
        Precision::Int8 => 5e-2,
    }
}

fn compare(outputs: &[TensorInfo], expected: &[Vec<u8>], found: &[Vec<u8>], bound: f64) -> Verdict {
    if expected == found {
        return Verdict::Equal;
    }
    let mut largest = 0.0_f64;
    for (position, output) in outputs.iter().enumerate() {
        let difference = match (expected.get(position), found.get(position)) {
            (Some(expected), Some(found)) => difference(output.element, expected, found),
            _ => None,
        };
        match difference {
            Some(difference) if difference <= bound => largest = largest.max(difference),
            difference => return Verdict::Different { output: output.name.clone(), difference, bound },
        }
    }
    Verdict::Near { difference: largest, bound }
}

/// The largest difference as a part of the largest expected value; none where numbers and no numbers do not meet.
fn difference(element: Element, expected: &[u8], found: &[u8]) -> Option<f64> {
    let (expected, found) = (values(element, expected)?, values(element, found)?);
    if expected.len() != found.len() {
        return None;
    }
    let (mut apart, mut scale) = (0.0_f64, 0.0_f64);
    for (expected, found) in expected.iter().zip(&found) {
        if expected.is_finite() != found.is_finite() {
            return None;
        }
        if expected.is_finite() {
            apart = apart.max((expected - found).abs());
            scale = scale.max(expected.abs());
        }
    }
    Some(if apart == 0.0 { 0.0 } else { apart / scale.max(f64::MIN_POSITIVE) })
}

/// The values of a tensor's bytes; none for types that are not compared by value.
fn values(element: Element, bytes: &[u8]) -> Option<Vec<f64>> {
    fn of<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok().map(&value)).collect()
    }
    match element {
        Element::F32 => Some(of(bytes, |four| f64::from(f32::from_le_bytes(four)))),
        Element::F16 => Some(of(bytes, |two| half(u16::from_le_bytes(two)))),
        Element::I32 => Some(of(bytes, |four| f64::from(i32::from_le_bytes(four)))),
        Element::I8 => Some(of(bytes, |[one]| f64::from(one.cast_signed()))),
        Element::U8 | Element::Bool => Some(of(bytes, |[one]| f64::from(one))),
        Element::Bf16 | Element::F8 | Element::I64 | Element::Other => None,
    }
}

/// A 16-bit floating point number.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let value = match exponent {
        0 => libm::ldexp(fraction, -24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => libm::ldexp(fraction + 1024.0, exponent - 25),
    };
    sign * value
}

/// The input that every check begins with: noise between 0 and 1, the same on every machine.
#[must_use]
pub fn noise(input: &TensorInfo, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let length = usize::try_from(input.bytes).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let bits = split_mix(&mut state);
        match input.element {
            // 24 bits, so that every value is exact
            Element::F32 => bytes.extend(((bits >> 40) as f32 / 16_777_216.0).to_le_bytes()),
            // 10 bits, for the same reason
            Element::F16 => bytes.extend(unit_half((bits >> 54) as u16).to_le_bytes()),
            Element::Bool => bytes.push((bits >> 63) as u8),
            _ => bytes.push((bits >> 57) as u8),
        }
    }
    bytes.truncate(length);
    bytes
}

/// The 16-bit floating point number `thousandth` / 1024, exactly.
fn unit_half(thousandth: u16) -> u16 {
    let value = thousandth & 0x3ff;
    if value == 0 {
        return 0;
    }
    // the leading bit becomes the hidden one: value = 2^exponent * 1.fraction
    let exponent = 15 - value.leading_zeros() as u16;
    let fraction = (value << (10 - exponent)) & 0x3ff;
    (exponent + 5) << 10 | fraction
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(element: Element, bytes: u64) -> TensorInfo {
        TensorInfo { name: "output".to_owned(), element, shape: vec![Some(bytes)], bytes }
    }

    fn bytes_of(values: &[f32]) -> Vec<Vec<u8>> {
        vec![values.iter().flat_map(|value| value.to_le_bytes()).collect()]
    }

    #[test]
    fn halves_are_exact() {
        for value in 0..1024 {
            assert_eq!(half(unit_half(value)), f64::from(value) / 1024.0, "{value}");
        }
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x0001), libm::ldexp(1.0, -24));
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
    }

    #[test]
    fn noise_is_the_same_everywhere() {
        let noise_of = |element| noise(&tensor(element, 4096), SEED);
        assert_eq!(noise_of(Element::F32), noise_of(Element::F32));
        for element in [Element::F32, Element::F16] {
            let values = values(element, &noise_of(element)).unwrap();
            assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            assert!((mean - 0.5).abs() < 0.05, "{mean}");
        }
        assert_eq!(noise_of(Element::I64).len(), 4096);
    }

    #[test]
    fn differences_are_judged_by_the_largest_value() {
        let outputs = [tensor(Element::F32, 8)];
        let judge = |found: [f32; 2]| compare(&outputs, &bytes_of(&[100.0, 1.0]), &bytes_of(&found), 1e-2);
        assert_eq!(judge([100.0, 1.0]), Verdict::Equal);
        assert_eq!(judge([100.0, 1.5]), Verdict::Near { difference: 0.005, bound: 1e-2 });
        assert!(matches!(judge([100.0, 3.0]), Verdict::Different { difference: Some(_), .. }));
        assert!(matches!(judge([f32::NAN, 1.0]), Verdict::Different { difference: None, .. }));
    }
}
