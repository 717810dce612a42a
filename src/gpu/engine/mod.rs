//! Engines on disk: built once for a model, a device, a TensorRT and a precision, then loaded in seconds.
//!
//! A [`Request`] says what is wanted; its [`EngineKey`] names the files in a [`Store`]: the plan, a record of what it is, and
//! the outputs that it gave for a fixed input, against which [`check`](golden::check) holds it later. [`make`](make::make)
//! builds what is not there. A plan that was cut, changed, or made for another device or TensorRT is refused by name.

pub mod calibrate;
pub mod golden;
pub mod key;
pub mod layers;
pub mod make;
pub mod record;
pub mod run;
pub mod store;

pub use self::{
    calibrate::{CalibrateError, CalibrationLog, CalibrationSource},
    golden::{CheckError, Verdict},
    key::{EngineKey, Request},
    make::{BuildError, Made},
    record::EngineRecord,
    run::Runner,
    store::{Store, StoreError, Stored},
};
