//! Model files: their bytes, their fingerprint, what their makers wrote into them, and the engine that gets them.
//!
//! An ONNX file comes in; a [`Model`] goes to [`load_backend`], its SHA-256 to the log and its class names to the
//! decoders. Only the outer layer of the file is read here (ONNX's `ModelProto`, fields 1 `ir_version`, 7 `graph` and
//! 14 `metadata_props`), with every length checked; the graph is the engine's business.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Backend, InferError, TensorSpec, ort, rten, shape_text};

/// Largest protobuf message.
const MAX_BYTES: u64 = (1 << 31) - 1;

/// An ONNX model, read but not yet loaded into an engine.
#[derive(Clone, Debug)]
pub struct Model {
    file: String,
    bytes: Vec<u8>,
    sha256: [u8; 32],
    metadata: BTreeMap<String, String>,
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InferError::Unreadable`], [`InferError::TooLarge`], [`InferError::NotOnnx`].
    pub fn load(path: &Path) -> Result<Model, InferError> {
        let file = path.display().to_string();
        let unreadable =
            |error: std::io::Error| InferError::Unreadable { file: file.clone(), cause: error.to_string() };
        let found = std::fs::metadata(path).map_err(unreadable)?.len();
        if found > MAX_BYTES {
            return Err(InferError::TooLarge { file: file.clone(), limit: MAX_BYTES, found });
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        Model::from_bytes(&file, bytes)
    }

    /// Takes the bytes of a file; `file` is its name in messages.
    ///
    /// # Errors
    /// [`InferError::NotOnnx`].
    pub fn from_bytes(file: &str, bytes: Vec<u8>) -> Result<Model, InferError> {
        let metadata = read_metadata(&bytes).map_err(|found| InferError::NotOnnx { file: file.to_string(), found })?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Model { file: file.to_string(), bytes, sha256, metadata })
    }

    /// Name of the file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the file.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// SHA-256 of the file as 64 small hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        self.sha256.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// What the model's makers wrote into it, by key: `names`, `stride`, `task` and more in Ultralytics' models.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Class names from the metadata's `names`, which is `{0: 'person', 1: 'bicycle', ...}` in models of YOLOv5 and
    /// later; none where the key is missing or its value is not a full list from 0 on.
    pub fn class_names(&self) -> Option<Vec<String>> {
        parse_names(self.metadata.get("names")?)
    }
}

/// The value of one protobuf field.
enum Field<'a> {
    /// A number, of which nothing is read here.
    Number,
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

/// Walks over the fields of a protobuf message.
struct Fields<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(all: &'a [u8]) -> Fields<'a> {
        Fields { all, at: 0 }
    }

    /// The next field's number and value; none at the end of the message.
    fn next_field(&mut self) -> Result<Option<(u64, Field<'a>)>, String> {
        if self.at == self.all.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => self.varint().map(|_| Field::Number)?,
            1 => self.take(8).map(|_| Field::Number)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Number)?,
            wire => return Err(format!("a field of unknown kind {wire} at byte {start}")),
        };
        match tag >> 3 {
            0 => Err(format!("a field without a number at byte {start}")),
            number => Ok(Some((number, field))),
        }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(format!("a number without an end at byte {}", self.at))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.all.get(self.at..end));
        let Some(taken) = taken else {
            return Err(format!("{length} bytes announced at byte {} of {}", self.at, self.all.len()));
        };
        self.at += taken.len();
        Ok(taken)
    }
}

/// The metadata of a `ModelProto`, or what is wrong with the bytes.
fn read_metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let mut metadata = BTreeMap::new();
    let (mut has_version, mut has_graph) = (false, false);
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        match field {
            (1, Field::Number) => has_version = true,
            (7, Field::Bytes(_)) => has_graph = true,
            (14, Field::Bytes(entry)) => {
                let (key, value) = read_entry(entry)?;
                metadata.insert(key, value);
            }
            _ => {}
        }
    }
    if !has_version || !has_graph {
        return Err(format!("{} bytes without a version and a graph", bytes.len()));
    }
    Ok(metadata)
}

/// A `StringStringEntryProto`: field 1 is the key, field 2 the value.
fn read_entry(bytes: &[u8]) -> Result<(String, String), String> {
    let (mut key, mut value) = (String::new(), String::new());
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        match field {
            (1, Field::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, Field::Bytes(text)) => value = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Reads a Python dictionary from whole numbers to strings that counts from 0 without a gap.
fn parse_names(text: &str) -> Option<Vec<String>> {
    let mut names = BTreeMap::new();
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once(':')?;
        let key: usize = key.trim().parse().ok()?;
        let (name, tail) = parse_quoted(tail.trim_start())?;
        if names.insert(key, name).is_some() {
            return None;
        }
        let tail = tail.trim_start();
        rest = match tail.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if tail.is_empty() => tail,
            None => return None,
        };
    }
    let counts_up = names.keys().copied().eq(0..names.len());
    (counts_up && !names.is_empty()).then(|| names.into_values().collect())
}

/// A string in single or double quotes at the start of the text, and what follows it.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    let mut name = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            _ if letter == quote => return Some((name, text.get(at + 1..)?)),
            _ => name.push(letter),
        }
    }
    None
}

/// Which engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// ONNX Runtime where its library is found and loads, else rten.
    #[default]
    Auto,
    /// ONNX Runtime or nothing.
    Ort,
    /// rten.
    Rten,
    /// TensorRT on a GPU or nothing; needs the feature `tensorrt`, and an engine that was built.
    TensorRt,
}

impl BackendChoice {
    /// All choices.
    pub const ALL: [BackendChoice; 4] =
        [BackendChoice::Auto, BackendChoice::TensorRt, BackendChoice::Ort, BackendChoice::Rten];

    /// The name on the command line: `auto`, `tensorrt`, `ort` or `rten`.
    pub fn name(self) -> &'static str {
        match self {
            BackendChoice::Auto => "auto",
            BackendChoice::Ort => "ort",
            BackendChoice::Rten => "rten",
            BackendChoice::TensorRt => "tensorrt",
        }
    }

    /// The choice of this name.
    pub fn from_name(name: &str) -> Option<BackendChoice> {
        BackendChoice::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Loads a model into an engine with a fixed number of threads (at least 1).
///
/// `picture_size`, width and height, is the size of the pictures that will come; none takes what the model fixes. The
/// model must have exactly one input, batch x 3 x height x width.
///
/// # Errors
/// [`InferError::NoLibrary`] only where ONNX Runtime was asked for by name; [`InferError::Count`],
/// [`InferError::Shape`], [`InferError::OpenSize`] and [`InferError::Kind`] for inputs that do not fit;
/// [`InferError::UnsupportedOperator`], [`InferError::Rejected`] and [`InferError::Panicked`] from the engine. A model
/// that ONNX Runtime refuses is not tried in rten: which engine runs depends on the machine's libraries alone.
pub fn load_backend(
    choice: BackendChoice,
    model: &Model,
    threads: usize,
    picture_size: Option<(usize, usize)>,
) -> Result<Box<dyn Backend>, InferError> {
    let backend: Box<dyn Backend> = match choice {
        BackendChoice::TensorRt => {
            let cause = if cfg!(feature = "tensorrt") {
                "it runs in the pipeline only"
            } else {
                "this catseye was built without it; build with `--features tensorrt`"
            };
            return Err(InferError::NoTensorRt { file: model.file().to_owned(), cause });
        }
        BackendChoice::Rten => Box::new(rten::load(model, threads, "rten was asked for")?),
        BackendChoice::Ort => Box::new(ort::load(model, threads, "ONNX Runtime was asked for")?),
        BackendChoice::Auto => match ort::load(model, threads, "ONNX Runtime's library was found") {
            Ok(backend) => Box::new(backend),
            Err(InferError::NoLibrary { cause }) => {
                let reason = format!("ONNX Runtime's library is not usable: {cause}");
                Box::new(rten::load(model, threads, &reason)?)
            }
            Err(error) => return Err(error),
        },
    };
    check_picture_input(model.file(), backend.inputs(), picture_size)?;
    Ok(backend)
}

/// Width and height of the pictures that a model takes: those that are `wanted`, else those that the model fixes.
///
/// # Errors
/// [`InferError::Count`] and [`InferError::Shape`] for inputs that take no pictures, [`InferError::OpenSize`] where
/// neither tells the size.
pub fn picture_size(
    file: &str,
    inputs: &[TensorSpec],
    wanted: Option<(usize, usize)>,
) -> Result<(usize, usize), InferError> {
    let input = only_input(file, inputs)?;
    if let Some(size) = wanted.or_else(|| input.picture_size()) {
        return Ok(size);
    }
    match input.shape.as_slice() {
        [_, None | Some(3), _, _] => {
            Err(InferError::OpenSize { file: file.to_string(), tensor: input.name.clone(), shape: input.shape_text() })
        }
        _ => Err(misfit(file, input, "1x3x(height)x(width)".to_string())),
    }
}

fn only_input<'a>(file: &str, inputs: &'a [TensorSpec]) -> Result<&'a TensorSpec, InferError> {
    match inputs {
        [input] => Ok(input),
        _ => Err(InferError::Count { file: file.to_string(), what: "inputs", expected: 1, found: inputs.len() }),
    }
}

fn misfit(file: &str, input: &TensorSpec, found: String) -> InferError {
    let (file, tensor, expected) = (file.to_string(), input.name.clone(), input.shape_text());
    InferError::Shape { file, tensor, expected, found }
}

fn check_picture_input(file: &str, inputs: &[TensorSpec], wanted: Option<(usize, usize)>) -> Result<(), InferError> {
    let (width, height) = picture_size(file, inputs, wanted)?;
    let input = only_input(file, inputs)?;
    let batch = input.shape.first().copied().flatten().unwrap_or(1);
    let shape = [batch, 3, height, width];
    if input.fits(&shape) { Ok(()) } else { Err(misfit(file, input, shape_text(&shape))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 0x80);
        [&[(number << 3) | 2, length], bytes].concat()
    }

    fn model_with(key: &str, value: &str) -> Vec<u8> {
        let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        [vec![8, 7], field(7, b""), field(14, &entry)].concat()
    }

    fn spec(shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: "images".to_string(), shape: shape.to_vec() }
    }

    #[test]
    fn class_names_are_read_from_the_metadata() {
        let model = Model::from_bytes("m.onnx", model_with("names", "{0: 'person', 1: \"driver's, seat\"}")).unwrap();
        assert_eq!(model.class_names().unwrap(), ["person", "driver's, seat"]);
        assert_eq!(model.metadata().len(), 1);
        let model = Model::from_bytes("m.onnx", model_with("stride", "32")).unwrap();
        assert_eq!(model.metadata().get("stride").map(String::as_str), Some("32"));
        assert_eq!(model.class_names(), None);
    }

    #[test]
    fn names_that_are_no_full_list_are_none() {
        let bad = [
            "",
            "{}",
            "{0: 'a'",
            "{1: 'a'}",
            "{0: 'a', 0: 'b'}",
            "{0: 'a' 1: 'b'}",
            "{0: a}",
            "{0: 'a}",
            "{-1: 'a'}",
            "{0: 'a\\",
            "['a']",
        ];
        for text in bad {
            assert_eq!(parse_names(text), None, "{text}");
        }
        assert_eq!(parse_names("{1: 'b', 0: 'it\\'s',}").unwrap(), ["it's", "b"]);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let whole = model_with("task", "detect");
        for bytes in [&b""[..], b"not a model at all", &[0xff; 40], &whole[..2], &[0x00, 0x01]] {
            let error = Model::from_bytes("m.onnx", bytes.to_vec()).unwrap_err();
            assert!(matches!(error, InferError::NotOnnx { .. }), "{error}");
            assert!(error.to_string().starts_with("m.onnx: "), "{error}");
        }
        for end in 0..whole.len() {
            // A cut between fields leaves a sound message; no cut may panic.
            let _ = Model::from_bytes("m.onnx", whole[..end].to_vec());
        }
        let huge = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(Model::from_bytes("m.onnx", huge.to_vec()).is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Model::load(Path::new("/nowhere/m.onnx")).unwrap_err();
        assert!(matches!(&error, InferError::Unreadable { file, .. } if file == "/nowhere/m.onnx"), "{error}");
    }

    #[test]
    fn the_fingerprint_is_sha256() {
        let model = Model::from_bytes("m.onnx", vec![8, 7, 58, 0]).unwrap();
        let expected: [u8; 32] = Sha256::digest([8_u8, 7, 58, 0]).into();
        assert_eq!(model.sha256(), expected);
        assert_eq!(model.sha256_hex().len(), 64);
        assert!(model.sha256_hex().starts_with(&format!("{:02x}{:02x}", expected[0], expected[1])));
    }

    #[test]
    fn inputs_must_take_the_pictures() {
        let fixed = [spec(&[Some(1), Some(3), Some(416), Some(416)])];
        let open = [spec(&[None, Some(3), None, None])];
        assert!(check_picture_input("m", &fixed, None).is_ok());
        assert!(check_picture_input("m", &fixed, Some((416, 416))).is_ok());
        assert!(check_picture_input("m", &open, Some((832, 256))).is_ok());
        let error = check_picture_input("m", &fixed, Some((832, 256))).unwrap_err();
        assert_eq!(error.to_string(), "m: images: expected shape 1x3x416x416, found 1x3x256x832");
        let grey = [spec(&[Some(1), Some(1), Some(8), Some(8)])];
        for wanted in [None, Some((8, 8))] {
            let error = check_picture_input("m", &grey, wanted).unwrap_err();
            assert!(matches!(error, InferError::Shape { .. }), "{error}");
        }
        assert!(check_picture_input("m", &[], None).is_err());
    }

    #[test]
    fn an_open_size_must_be_given() {
        let open = [spec(&[None, Some(3), None, None])];
        assert_eq!(picture_size("m", &open, Some((832, 256))), Ok((832, 256)));
        let error = check_picture_input("m", &open, None).unwrap_err().to_string();
        assert!(error.starts_with("m: images: expected a size for its pictures"), "{error}");
        for words in ["found none for ?x3x?x?", "--input-size WIDTHxHEIGHT", "input_width_px and input_height_px"] {
            assert!(error.contains(words), "{error}");
        }
        let fixed = [spec(&[Some(1), Some(3), Some(256), Some(832)])];
        assert_eq!(picture_size("m", &fixed, None), Ok((832, 256)));
    }

    #[test]
    fn an_engine_refuses_a_broken_graph_with_an_error() {
        let model = Model::from_bytes("m.onnx", vec![8, 7, 58, 3, 0x0a, 0x01, 0x07]).unwrap();
        assert!(load_backend(BackendChoice::Rten, &model, 1, None).is_err());
    }

    #[test]
    fn choices_have_names() {
        for choice in BackendChoice::ALL {
            assert_eq!(BackendChoice::from_name(choice.name()), Some(choice));
        }
        assert_eq!(BackendChoice::from_name("onnx"), None);
    }

    #[test]
    fn real_models_load_in_the_built_in_engine() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/models"));
        if !folder.exists() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        for (file, size, outputs) in [
            ("yolox_nano.onnx", (416, 416), 1),
            ("yolox_nano_dyn.onnx", (832, 256), 1),
            ("FastestDet.onnx", (352, 352), 1),
            ("picodet_s_416.onnx", (416, 416), 8),
            ("twinlitenet_360x640.onnx", (640, 360), 2),
        ] {
            let model = Model::load(&folder.join(file)).unwrap();
            let backend = load_backend(BackendChoice::Rten, &model, 1, Some(size)).unwrap();
            assert_eq!(backend.outputs().len(), outputs, "{file}");
            assert_eq!(backend.describe().name, "rten");
            let error = load_backend(BackendChoice::Rten, &model, 1, Some((37, 41))).map(|_| ()).err();
            let is_fixed = backend.inputs()[0].picture_size().is_some();
            assert_eq!(error.is_some(), is_fixed, "{file}: {error:?}");
        }
    }
}
