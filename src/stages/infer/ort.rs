//! Models in ONNX Runtime, a shared library that is looked for when the first model is loaded.
//!
//! Bytes of an ONNX model come in, a [`Backend`] goes out. The library is taken from the first place that has one that
//! loads: the environment variables `ORT_DYLIB_PATH` and `CATSEYE_ONNXRUNTIME`, the system's library folders, then the
//! `onnxruntime` packages of Python (the active environment, the system, the user, pyenv). It stays for the life of the
//! process. Sessions run in sequence on a fixed number of threads without spinning, with deterministic kernels, and
//! send no telemetry.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ::ort::environment::Environment;
use ::ort::logging::LogLevel;
use ::ort::session::builder::GraphOptimizationLevel;
use ::ort::session::{Session, SessionInputValue};
use ::ort::value::{DynValue, Outlet, PrimitiveTensorElementType, TensorElementType, TensorRef};
use ::ort::{Error, ErrorCode};

use super::{Backend, BackendInfo, Guard, InferError, Model, Tensor, TensorSpec, check_call, panic_text};

/// Name of the engine.
pub const NAME: &str = "onnxruntime";

/// Variables that may name the library, strongest first.
const VARIABLES: [&str; 2] = ["ORT_DYLIB_PATH", "CATSEYE_ONNXRUNTIME"];

/// Folders of the system's libraries.
const SYSTEM_FOLDERS: [&str; 8] = [
    "usr/local/lib",
    "usr/local/lib64",
    "usr/lib",
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "opt/onnxruntime/lib",
    "opt/homebrew/lib",
];

/// The library, once loaded.
struct Runtime {
    environment: Environment,
    library: PathBuf,
}

/// A process can load one library and make one environment, and the outcome stays.
static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

fn runtime() -> Result<&'static Runtime, InferError> {
    let outcome = RUNTIME.get_or_init(|| {
        let found = candidates(Path::new("/"), |name| std::env::var_os(name));
        start(&found)
    });
    outcome.as_ref().map_err(|cause| InferError::NoLibrary { cause: cause.clone() })
}

/// Loads the first library that will be loaded.
fn start(candidates: &[PathBuf]) -> Result<Runtime, String> {
    if candidates.is_empty() {
        let variables = VARIABLES.join(" or ");
        return Err(format!("none found in {variables}, the system's library folders or Python's packages"));
    }
    let mut refused = Vec::new();
    for library in candidates {
        match catch_unwind(AssertUnwindSafe(|| open(library))) {
            Ok(Ok(environment)) => return Ok(Runtime { environment, library: library.clone() }),
            Ok(Err(cause)) => refused.push(format!("{}: {cause}", library.display())),
            Err(payload) => refused.push(format!("{}: {}", library.display(), panic_text(payload.as_ref()))),
        }
    }
    Err(refused.join("; "))
}

fn open(library: &Path) -> Result<Environment, String> {
    let builder = ::ort::init_from(library).map_err(|error| error.to_string())?;
    builder.with_name("catseye").with_telemetry(false).build().map_err(|error| error.to_string())
}

/// Where a library may be, best first. A variable's path counts even where no file is, so that its error is told.
fn candidates(root: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut found: Vec<PathBuf> = VARIABLES.iter().filter_map(|name| path(name)).collect();
    for folder in SYSTEM_FOLDERS {
        found.extend(libraries(&root.join(folder)));
    }
    let mut pythons: Vec<PathBuf> = path("VIRTUAL_ENV").into_iter().map(|folder| folder.join("lib")).collect();
    pythons.extend([root.join("usr/local/lib"), root.join("usr/lib")]);
    if let Some(home) = path("HOME") {
        pythons.push(home.join(".local/lib"));
        pythons.extend(entries(&home.join(".pyenv/versions")).into_iter().rev().map(|version| version.join("lib")));
    }
    for lib in pythons {
        let versions = entries(&lib).into_iter().rev().filter(|folder| file_name(folder).starts_with("python3"));
        for version in versions {
            for packages in ["site-packages", "dist-packages"] {
                found.extend(libraries(&version.join(packages).join("onnxruntime/capi")));
            }
        }
    }
    found
}

/// The libraries of a folder, newest version first, the name without a version last.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder).into_iter().filter(|path| is_library(&file_name(path))).collect();
    found.sort_by_key(|path| std::cmp::Reverse(version_numbers(&file_name(path))));
    found
}

fn is_library(name: &str) -> bool {
    let linux = name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.");
    let mac = name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
    linux || mac
}

/// What a folder holds, by name; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listing.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn version_numbers(name: &str) -> Vec<u32> {
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// The version in the name of the file that the path leads to, else what the library says of how it was built.
fn version(library: &Path) -> String {
    let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_path_buf());
    let numbers = version_numbers(&file_name(&real));
    if numbers.is_empty() {
        return ::ort::info().to_string();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// A model in ONNX Runtime.
pub struct OrtBackend {
    guard: Guard,
    session: Session,
    info: BackendInfo,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// Loads a model; `reason` says why it is ONNX Runtime.
///
/// # Errors
/// [`InferError::NoLibrary`], [`InferError::UnsupportedOperator`], [`InferError::Rejected`], [`InferError::Kind`] for
/// inputs that do not take `f32`, [`InferError::Panicked`].
pub fn load(model: &Model, threads: usize, reason: &str) -> Result<OrtBackend, InferError> {
    let runtime = runtime()?;
    let file = model.file();
    let threads = threads.max(1);
    let mut guard = Guard::new(file, NAME);
    let session =
        guard.call(|| session(&runtime.environment, model.bytes(), threads).map_err(|error| refusal(file, &error)))?;
    for input in session.inputs() {
        if input.dtype().tensor_type() != Some(TensorElementType::Float32) {
            return Err(InferError::Kind {
                file: file.to_string(),
                tensor: input.name().to_string(),
                expected: "a tensor of f32",
                found: input.dtype().to_string(),
            });
        }
    }
    let info = BackendInfo {
        name: NAME,
        version: version(&runtime.library),
        threads,
        library: Some(runtime.library.clone()),
        reason: reason.to_string(),
        plan_sha256: None,
    };
    let inputs = session.inputs().iter().map(spec).collect();
    let outputs = session.outputs().iter().map(spec).collect();
    Ok(OrtBackend { guard, session, info, inputs, outputs })
}

fn session(environment: &Environment, bytes: &[u8], threads: usize) -> ::ort::Result<Session> {
    Session::builder(environment)?
        .with_log_level(LogLevel::Error)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_parallel_execution(false)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_deterministic_compute(true)?
        .with_memory_pattern(true)?
        .commit_from_memory(bytes)
}

fn refusal(file: &str, error: &Error) -> InferError {
    let (file, backend, cause) = (file.to_string(), NAME, error.to_string());
    // An operator that no version of ONNX has is reported as a plain failure with these words.
    if error.code() == ErrorCode::NotImplemented || cause.contains("is not a registered function/op") {
        return InferError::UnsupportedOperator { file, backend, cause };
    }
    InferError::Rejected { file, backend, cause }
}

fn spec(outlet: &Outlet) -> TensorSpec {
    let sizes = outlet.dtype().tensor_shape().into_iter().flat_map(|shape| shape.iter());
    let shape = sizes.map(|&size| usize::try_from(size).ok()).collect();
    TensorSpec { name: outlet.name().to_string(), shape }
}

impl Backend for OrtBackend {
    fn describe(&self) -> &BackendInfo {
        &self.info
    }

    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<(), InferError> {
        let OrtBackend { guard, session, inputs: input_specs, outputs: output_specs, .. } = self;
        check_call(&guard.file, input_specs, inputs, output_specs, outputs)?;
        let file = guard.file.clone();
        guard.call(|| {
            let failed = |error: Error| failure(&file, &error);
            let mut values: Vec<SessionInputValue<'_>> = Vec::with_capacity(inputs.len());
            for tensor in inputs {
                let view = TensorRef::from_array_view((tensor.shape.as_slice(), tensor.data.as_slice()));
                values.push(view.map_err(failed)?.into());
            }
            let found = session.run(values.as_slice()).map_err(failed)?;
            for ((value, tensor), spec) in found.values().zip(outputs.iter_mut()).zip(output_specs.iter()) {
                copy_value(&value, tensor, spec, &file)?;
            }
            Ok(())
        })
    }
}

fn failure(file: &str, error: &Error) -> InferError {
    InferError::Failed { file: file.to_string(), backend: NAME, cause: error.to_string() }
}

fn copy_value(value: &DynValue, tensor: &mut Tensor, spec: &TensorSpec, file: &str) -> Result<(), InferError> {
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => copy(value, tensor, file, |value: f32| value),
        Some(TensorElementType::Float64) => copy(value, tensor, file, |value: f64| value as f32),
        Some(TensorElementType::Int64) => copy(value, tensor, file, |value: i64| value as f32),
        Some(TensorElementType::Int32) => copy(value, tensor, file, |value: i32| value as f32),
        Some(TensorElementType::Int8) => copy(value, tensor, file, |value: i8| f32::from(value)),
        Some(TensorElementType::Uint8) => copy(value, tensor, file, |value: u8| f32::from(value)),
        Some(TensorElementType::Bool) => copy(value, tensor, file, |value: bool| f32::from(u8::from(value))),
        _ => Err(InferError::Kind {
            file: file.to_string(),
            tensor: spec.name.clone(),
            expected: "a tensor of numbers",
            found: value.dtype().to_string(),
        }),
    }
}

fn copy<T: PrimitiveTensorElementType + Copy>(
    value: &DynValue,
    tensor: &mut Tensor,
    file: &str,
    convert: impl Fn(T) -> f32,
) -> Result<(), InferError> {
    let (shape, data) = value.try_extract_tensor::<T>().map_err(|error| failure(file, &error))?;
    let sizes: Vec<usize> = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    tensor.assign(&sizes, data.iter().map(|&value| convert(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn libraries_are_looked_for_in_a_fixed_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let capi = "onnxruntime/capi";
        let old = touch(root, "usr/lib/libonnxruntime.so.1.9.0");
        let new = touch(root, "usr/lib/libonnxruntime.so.1.32.0");
        let plain = touch(root, "usr/lib/libonnxruntime.so");
        touch(root, "usr/lib/libonnxruntime_providers_shared.so");
        let system = touch(root, &format!("usr/lib/python3/dist-packages/{capi}/libonnxruntime.so.1.17.0"));
        let active = touch(root, &format!("venv/lib/python3.11/site-packages/{capi}/libonnxruntime.so.1.20.0"));
        let pyenv = touch(
            root,
            &format!("home/.pyenv/versions/3.12.1/lib/python3.12/site-packages/{capi}/libonnxruntime.so.1.21.0"),
        );
        let named = PathBuf::from("/named/by/hand.so");
        let variable = |name: &str| match name {
            "CATSEYE_ONNXRUNTIME" => Some(named.clone().into_os_string()),
            "ORT_DYLIB_PATH" => Some(OsString::new()),
            "VIRTUAL_ENV" => Some(root.join("venv").into_os_string()),
            "HOME" => Some(root.join("home").into_os_string()),
            _ => None,
        };
        assert_eq!(candidates(root, variable), [named.clone(), new, old, plain, active, system, pyenv]);
        assert!(candidates(&root.join("empty"), |_| None).is_empty());
    }

    #[test]
    fn versions_come_from_file_names() {
        assert_eq!(version_numbers("libonnxruntime.so.1.32.0"), [1, 32, 0]);
        assert_eq!(version_numbers("libonnxruntime.1.20.1.dylib"), [1, 20, 1]);
        assert!(version_numbers("libonnxruntime.so").is_empty());
        assert!(is_library("libonnxruntime.so.1") && is_library("libonnxruntime.1.2.3.dylib"));
        assert!(!is_library("libonnxruntime_providers_shared.so") && !is_library("libonnxruntime.so_old"));
    }

    #[test]
    fn nothing_found_says_where_it_was_looked_for() {
        let Err(cause) = start(&[]) else { panic!("there is nothing to start") };
        assert!(cause.contains("CATSEYE_ONNXRUNTIME"), "{cause}");
    }

    #[test]
    fn a_real_model_gives_what_the_built_in_engine_gives() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/models/yolox_nano.onnx"));
        if !path.exists() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let model = Model::load(path).unwrap();
        let mut backend = match load(&model, 1, "test") {
            Err(InferError::NoLibrary { cause }) => {
                eprintln!("skipped: {cause}");
                return;
            }
            outcome => outcome.unwrap(),
        };
        let mut input = Tensor::zeros(&[1, 3, 416, 416]).unwrap();
        for (index, value) in input.data.iter_mut().enumerate() {
            *value = (index % 251) as f32;
        }
        let inputs = [input];
        let mut first = [Tensor::default()];
        let mut again = [Tensor::default()];
        let mut other = [Tensor::default()];
        backend.run(&inputs, &mut first).unwrap();
        backend.run(&inputs, &mut again).unwrap();
        assert_eq!(first, again);
        super::super::rten::load(&model, 1, "test").unwrap().run(&inputs, &mut other).unwrap();
        assert_eq!(first[0].shape, other[0].shape);
        for (one, two) in first[0].data.iter().zip(&other[0].data) {
            assert!((one - two).abs() < 1e-3 * (1.0 + one.abs()), "{one} {two}");
        }
    }
}
