//! Running networks: tensors in, tensors out, the same way whichever engine does the work.
//!
//! Inputs come from preprocessing, outputs go to the decoders. A [`Backend`] is one loaded model in one engine: ONNX
//! Runtime ([`ort`], a shared library found at run time) or rten ([`rten`], built in). Both run with a fixed number of
//! threads and give the same bits for the same input, engine, version, thread count and machine. Whatever goes wrong
//! inside an engine, panics included, comes back as an [`InferError`].

pub mod model;
pub mod ort;
pub mod rten;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use thiserror::Error;

pub use catseye_calibration::rig::Precision as EnginePrecision;
pub use model::{BackendChoice, Model, load_backend, picture_size};

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// Most values of a tensor: 1 GiB of `f32`.
const MAX_VALUES: usize = 1 << 28;

/// Why a model could not be loaded or run.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum InferError {
    /// The model's file could not be read.
    #[error("{file}: cannot be read: {cause}")]
    Unreadable {
        /// The model's file.
        file: String,
        /// What the system said.
        cause: String,
    },
    /// The model's file is larger than a protobuf message may be.
    #[error("{file}: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// The model's file.
        file: String,
        /// Largest size in bytes.
        limit: u64,
        /// Its size in bytes.
        found: u64,
    },
    /// The file is no ONNX model.
    #[error("{file}: expected an ONNX model, found {found}")]
    NotOnnx {
        /// The model's file.
        file: String,
        /// What is wrong, and where.
        found: String,
    },
    /// The engine rejects the model.
    #[error("{file}: {backend} cannot load it: {cause}")]
    Rejected {
        /// The model's file.
        file: String,
        /// The engine.
        backend: &'static str,
        /// What the engine said.
        cause: String,
    },
    /// The model uses an operator, or a form of one, that the engine lacks.
    #[error("{file}: {backend} does not support an operator of the model: {cause}")]
    UnsupportedOperator {
        /// The model's file.
        file: String,
        /// The engine.
        backend: &'static str,
        /// What the engine said.
        cause: String,
    },
    /// ONNX Runtime is not installed where it is looked for, or what is there does not load.
    #[error("ONNX Runtime's library is not usable: {cause}")]
    NoLibrary {
        /// What was looked for and what became of it.
        cause: String,
    },
    /// The model is to run in TensorRT, which runs the networks of a whole tick on a GPU and is no engine for this.
    #[error("{file}: TensorRT is not usable here: {cause}")]
    NoTensorRt {
        /// The model's file.
        file: String,
        /// Why not.
        cause: &'static str,
    },
    /// Another number of inputs or outputs than expected.
    #[error("{file}: expected {expected} {what}, found {found}")]
    Count {
        /// The model's file.
        file: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A tensor does not fit the model.
    #[error("{file}: {tensor}: expected shape {expected}, found {found}")]
    Shape {
        /// The model's file.
        file: String,
        /// Name of the input or output.
        tensor: String,
        /// What was expected; `?` stands for any size.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The model leaves the size of its pictures open, and nobody says it.
    #[error(
        "{file}: {tensor}: expected a size for its pictures, which the model leaves open, found none for {shape}: \
         give --input-size WIDTHxHEIGHT, or input_width_px and input_height_px in the rig"
    )]
    OpenSize {
        /// The model's file.
        file: String,
        /// Name of the input.
        tensor: String,
        /// Its shape; `?` stands for any size.
        shape: String,
    },
    /// The model takes another number of pictures at a time than there can be.
    #[error(
        "{file}: {tensor}: expected a batch of one picture, of one per camera ({cameras}) or of any size, \
         found {found}"
    )]
    Batch {
        /// The model's file.
        file: String,
        /// Name of the input.
        tensor: String,
        /// Cameras that the model serves.
        cameras: usize,
        /// Pictures that it takes at a time.
        found: usize,
    },
    /// An input or output holds another kind of values than can be passed.
    #[error("{file}: {tensor}: expected {expected}, found {found}")]
    Kind {
        /// The model's file.
        file: String,
        /// Name of the input or output.
        tensor: String,
        /// Kinds of values that can be passed.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A tensor has too many dimensions or values.
    #[error("tensor of shape {found}: expected at most 8 dimensions and 2^28 values")]
    TensorSize {
        /// The shape.
        found: String,
    },
    /// The engine failed while running the model.
    #[error("{file}: {backend} failed to run it: {cause}")]
    Failed {
        /// The model's file.
        file: String,
        /// The engine.
        backend: &'static str,
        /// What the engine said.
        cause: String,
    },
    /// The engine panicked; this backend cannot be used again.
    #[error("{file}: {backend} panicked: {cause}")]
    Panicked {
        /// The model's file.
        file: String,
        /// The engine.
        backend: &'static str,
        /// The message of the panic.
        cause: String,
    },
    /// The engine panicked in an earlier call.
    #[error("{file}: {backend} panicked before and is not used again; load the model anew")]
    Poisoned {
        /// The model's file.
        file: String,
        /// The engine.
        backend: &'static str,
    },
}

/// Values with a shape, the last dimension running fastest. The buffer is meant to be reused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Size of each dimension.
    pub shape: heapless::Vec<usize, MAX_RANK>,
    /// The values; as many as the product of the shape.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`InferError::TensorSize`] for more than [`MAX_RANK`] dimensions or 2^28 values.
    pub fn zeros(shape: &[usize]) -> Result<Tensor, InferError> {
        let mut tensor = Tensor::default();
        tensor.reshape(shape)?;
        Ok(tensor)
    }

    /// Gives the tensor another shape and its buffer the length for it. Values that stay keep their place,
    /// new ones are zero; the buffer's capacity never shrinks.
    ///
    /// # Errors
    /// [`InferError::TensorSize`] for more than [`MAX_RANK`] dimensions or 2^28 values; the tensor is left as it was.
    pub fn reshape(&mut self, shape: &[usize]) -> Result<(), InferError> {
        let too_large = || InferError::TensorSize { found: shape_text(shape) };
        let values = product(shape).filter(|&values| values <= MAX_VALUES).ok_or_else(too_large)?;
        self.shape = heapless::Vec::from_slice(shape).map_err(|_| too_large())?;
        self.data.resize(values, 0.0);
        Ok(())
    }

    /// The values of one row of the first dimension, for example of one picture of a batch; none if there is no such
    /// row.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        let rows = *self.shape.first()?;
        if index >= rows {
            return None;
        }
        let length = self.data.len() / rows;
        self.data.get(index * length..(index + 1) * length)
    }

    /// Takes shape and values from an engine.
    fn assign(&mut self, shape: &[usize], values: impl Iterator<Item = f32>) -> Result<(), InferError> {
        self.reshape(shape)?;
        for (held, value) in self.data.iter_mut().zip(values) {
            *held = value;
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        product(&self.shape) == Some(self.data.len())
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "of a single value".to_string();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Name and shape of a model's input or output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// Size of each dimension; none where the model leaves it open.
    pub shape: Vec<Option<usize>>,
}

impl TensorSpec {
    /// The shape as in `1x3x416x416`, with `?` for open sizes.
    pub fn shape_text(&self) -> String {
        if self.shape.is_empty() {
            return "of a single value".to_string();
        }
        let sizes = self.shape.iter().map(|size| size.map_or("?".to_string(), |size| size.to_string()));
        sizes.collect::<Vec<_>>().join("x")
    }

    /// Width and height of the pictures this input takes, if it is one for three-plane pictures (batch x 3 x height x
    /// width) and the model fixes them.
    pub fn picture_size(&self) -> Option<(usize, usize)> {
        match self.shape.as_slice() {
            &[_, Some(3), Some(height), Some(width)] => Some((width, height)),
            _ => None,
        }
    }

    /// Whether a tensor of this shape may be passed.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let same = |(expected, found): (&Option<usize>, &usize)| expected.is_none_or(|expected| expected == *found);
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(same)
    }
}

/// What runs a model, for people and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Name of the engine: `onnxruntime`, `rten` or `tensorrt`.
    pub name: &'static str,
    /// Its version as far as it tells.
    pub version: String,
    /// Threads that share the work of one run.
    pub threads: usize,
    /// The shared library, where the engine is one.
    pub library: Option<PathBuf>,
    /// Why this engine and not the other.
    pub reason: String,
    /// SHA-256 of the plan, where the engine was compiled ahead.
    pub plan_sha256: Option<String>,
}

/// One model, loaded into one engine.
pub trait Backend: Send {
    /// What runs the model.
    fn describe(&self) -> &BackendInfo;

    /// The model's inputs.
    fn inputs(&self) -> &[TensorSpec];

    /// The model's outputs.
    fn outputs(&self) -> &[TensorSpec];

    /// Runs the model: one tensor per input and one per output, in the model's order. Shapes and values of the outputs
    /// are replaced, their buffers reused; whole numbers become `f32`.
    ///
    /// # Errors
    /// [`InferError::Count`] and [`InferError::Shape`] for tensors that do not fit, [`InferError::Kind`] for outputs
    /// that are no numbers, [`InferError::Failed`] from the engine, [`InferError::Panicked`] once and
    /// [`InferError::Poisoned`] ever after. The outputs then hold anything.
    fn run(&mut self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<(), InferError>;
}

/// Checks that [`run_batched`] can give a model its pictures, of which there is one per camera.
///
/// # Errors
/// [`InferError::Batch`] for a model that takes several at a time, but not as many.
pub fn check_batch(file: &str, inputs: &[TensorSpec], cameras: usize) -> Result<(), InferError> {
    let Some(input) = inputs.first() else { return Ok(()) };
    match input.shape.first().copied().flatten() {
        Some(found) if found != 1 && found != cameras => {
            Err(InferError::Batch { file: file.to_string(), tensor: input.name.clone(), cameras, found })
        }
        _ => Ok(()),
    }
}

/// Buffers of [`run_batched`] for models that take one picture at a time.
#[derive(Debug, Default)]
pub struct BatchRows {
    input: Tensor,
    outputs: Vec<Tensor>,
}

/// Runs a model of one input on a batch of pictures (first dimension: picture), at once where the model leaves the size
/// of a batch open or fixes it to this one, else picture by picture. Either way each output's first dimension is the
/// picture.
///
/// # Errors
/// Those of [`Backend::run`]; [`InferError::Shape`] when an output of a single picture does not begin with a dimension
/// of 1.
pub fn run_batched(
    backend: &mut dyn Backend,
    pictures: &Tensor,
    outputs: &mut [Tensor],
    rows: &mut BatchRows,
) -> Result<(), InferError> {
    let count = pictures.shape.first().copied().unwrap_or(1);
    let fixed = backend.inputs().first().and_then(|input| input.shape.first().copied().flatten());
    if fixed != Some(1) || count <= 1 {
        return backend.run(std::slice::from_ref(pictures), outputs);
    }
    let mut single = pictures.shape.clone();
    if let Some(first) = single.first_mut() {
        *first = 1;
    }
    rows.input.reshape(&single)?;
    rows.outputs.resize(outputs.len(), Tensor::default());
    for index in 0..count {
        let Some(picture) = pictures.row(index).filter(|picture| picture.len() == rows.input.data.len()) else {
            return backend.run(std::slice::from_ref(pictures), outputs);
        };
        rows.input.data.copy_from_slice(picture);
        backend.run(std::slice::from_ref(&rows.input), &mut rows.outputs)?;
        for (position, (one, all)) in rows.outputs.iter().zip(outputs.iter_mut()).enumerate() {
            if !append(one, index, count, all)? {
                let name = backend.outputs().get(position).map(|output| output.name.clone()).unwrap_or_default();
                let found = shape_text(&one.shape);
                let expected = "1x..., the same for each picture".to_string();
                return Err(InferError::Shape { file: "batch".to_string(), tensor: name, expected, found });
            }
        }
    }
    Ok(())
}

/// Puts the output of picture `index` in its place among all; false if it has not the shape of one row.
fn append(one: &Tensor, index: usize, count: usize, all: &mut Tensor) -> Result<bool, InferError> {
    if one.shape.first() != Some(&1) {
        return Ok(false);
    }
    if index == 0 {
        let mut shape = one.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = count;
        }
        all.reshape(&shape)?;
    }
    let length = one.data.len();
    let same_shape = all.shape.get(1..) == one.shape.get(1..);
    match all.data.get_mut(index * length..(index + 1) * length) {
        Some(place) if same_shape => {
            place.copy_from_slice(&one.data);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Checks what the caller of [`Backend::run`] passes.
fn check_call(
    file: &str,
    input_specs: &[TensorSpec],
    inputs: &[Tensor],
    output_specs: &[TensorSpec],
    outputs: &[Tensor],
) -> Result<(), InferError> {
    let counts = [("inputs", input_specs.len(), inputs.len()), ("outputs", output_specs.len(), outputs.len())];
    for (what, expected, found) in counts {
        if expected != found {
            return Err(InferError::Count { file: file.to_string(), what, expected, found });
        }
    }
    for (spec, tensor) in input_specs.iter().zip(inputs) {
        if spec.fits(&tensor.shape) && tensor.is_whole() {
            continue;
        }
        return Err(InferError::Shape {
            file: file.to_string(),
            tensor: spec.name.clone(),
            expected: spec.shape_text(),
            found: format!("{} with {} values", shape_text(&tensor.shape), tensor.data.len()),
        });
    }
    Ok(())
}

/// Stands between the caller and an engine that may panic.
struct Guard {
    file: String,
    backend: &'static str,
    poisoned: bool,
}

impl Guard {
    fn new(file: &str, backend: &'static str) -> Guard {
        Guard { file: file.to_string(), backend, poisoned: false }
    }

    /// Runs `work`; after a panic in it every later call is refused.
    fn call<T>(&mut self, work: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
        if self.poisoned {
            return Err(InferError::Poisoned { file: self.file.clone(), backend: self.backend });
        }
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
            self.poisoned = true;
            Err(InferError::Panicked {
                file: self.file.clone(),
                backend: self.backend,
                cause: panic_text(payload.as_ref()),
            })
        })
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives twice the input, for one picture at a time or any number.
    struct Doubler {
        info: BackendInfo,
        input: [TensorSpec; 1],
        output: [TensorSpec; 1],
        runs: usize,
    }

    fn spec(shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: "images".to_string(), shape: shape.to_vec() }
    }

    fn doubler(batch: Option<usize>) -> Doubler {
        let info = BackendInfo {
            name: "doubler",
            version: String::new(),
            threads: 1,
            library: None,
            reason: String::new(),
            plan_sha256: None,
        };
        Doubler { info, input: [spec(&[batch, Some(2)])], output: [spec(&[batch, Some(2)])], runs: 0 }
    }

    impl Backend for Doubler {
        fn describe(&self) -> &BackendInfo {
            &self.info
        }

        fn inputs(&self) -> &[TensorSpec] {
            &self.input
        }

        fn outputs(&self) -> &[TensorSpec] {
            &self.output
        }

        fn run(&mut self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<(), InferError> {
            check_call("doubler", &self.input, inputs, &self.output, outputs)?;
            self.runs += 1;
            outputs[0].assign(&inputs[0].shape, inputs[0].data.iter().map(|value| 2.0 * value))
        }
    }

    fn batch() -> Tensor {
        let mut tensor = Tensor::zeros(&[3, 2]).unwrap();
        tensor.data.copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        tensor
    }

    #[test]
    fn batches_come_out_the_same_at_once_and_one_by_one() {
        for (fixed, runs) in [(None, 1), (Some(1), 3), (Some(3), 1)] {
            let mut backend = doubler(fixed);
            let mut outputs = [Tensor::default()];
            let mut rows = BatchRows::default();
            for _ in 0..2 {
                run_batched(&mut backend, &batch(), &mut outputs, &mut rows).unwrap();
                assert_eq!(outputs[0].shape.as_slice(), [3, 2]);
                assert_eq!(outputs[0].data, [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
            }
            assert_eq!(backend.runs, 2 * runs, "{fixed:?}");
        }
    }

    #[test]
    fn a_batch_that_cannot_be_filled_is_refused() {
        for (fixed, cameras) in [(None, 6), (Some(1), 6), (Some(6), 6), (Some(1), 1)] {
            assert_eq!(check_batch("m", &[spec(&[fixed, Some(3), None, None])], cameras), Ok(()), "{fixed:?}");
        }
        let error = check_batch("m", &[spec(&[Some(4), Some(3), None, None])], 6).unwrap_err().to_string();
        let expected = "expected a batch of one picture, of one per camera (6) or of any size, found 4";
        assert_eq!(error, format!("m: images: {expected}"));
        assert!(check_batch("m", &[spec(&[Some(0), Some(3), None, None])], 1).is_err());
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let mut backend = doubler(Some(2));
        let error = backend.run(&[batch()], &mut [Tensor::default()]).unwrap_err();
        assert_eq!(error.to_string(), "doubler: images: expected shape 2x2, found 3x2 with 6 values");
        let error = backend.run(&[], &mut [Tensor::default()]).unwrap_err();
        assert_eq!(error.to_string(), "doubler: expected 1 inputs, found 0");
        let torn = Tensor { shape: heapless::Vec::from_slice(&[2, 2]).unwrap(), data: vec![0.0; 3] };
        assert!(backend.run(&[torn], &mut [Tensor::default()]).is_err());
    }

    #[test]
    fn tensors_refuse_what_is_too_large() {
        assert!(matches!(Tensor::zeros(&[usize::MAX, 2]), Err(InferError::TensorSize { .. })));
        assert!(matches!(Tensor::zeros(&[1; 9]), Err(InferError::TensorSize { .. })));
        assert_eq!(Tensor::zeros(&[]).unwrap().data.len(), 1);
        assert_eq!(Tensor::zeros(&[0, 3]).unwrap().row(0), None);
        assert_eq!(batch().row(2), Some(&[5.0, 6.0][..]));
        assert_eq!(batch().row(3), None);
    }

    #[test]
    fn a_panic_becomes_an_error_and_stays_one() {
        let mut guard = Guard::new("model.onnx", "engine");
        assert_eq!(guard.call(|| Ok(7)), Ok(7));
        let panicking = || -> Result<(), InferError> { panic!("layer {}", 3) };
        let error = guard.call(panicking).unwrap_err();
        assert_eq!(error.to_string(), "model.onnx: engine panicked: layer 3");
        assert!(matches!(guard.call(|| Ok(7)), Err(InferError::Poisoned { .. })));
    }

    #[test]
    fn picture_inputs_tell_their_size() {
        let fixed = spec(&[None, Some(3), Some(256), Some(832)]);
        assert_eq!(fixed.picture_size(), Some((832, 256)));
        assert_eq!(fixed.shape_text(), "?x3x256x832");
        assert!(fixed.fits(&[5, 3, 256, 832]) && !fixed.fits(&[5, 3, 256]));
        assert_eq!(spec(&[Some(1), Some(3), None, None]).picture_size(), None);
    }
}
