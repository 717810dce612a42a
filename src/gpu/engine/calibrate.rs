//! Pictures of a log as a network's input: where the ranges of 8-bit tensors come from, for models that carry none.
//!
//! A log's pictures are unpacked and prepared as a replay with the log's own rig does it, as many as are wanted, evenly spread over
//! the log; TensorRT takes them batch by batch from the device. A last batch that is not full is left out. The table of scales that
//! it makes of them can be given in their place.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catseye_calibration::rig::Rig;
use catseye_sensors::picture::Limits;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::gpu::tensorrt::Ranges;
use crate::gpu::{Context, DeviceBuffer, GpuError};
use crate::log::packet::SensorPacket;
use crate::log::reader::{Event, LogReader, ReadError};
use crate::runtime::graph::Stage;
use crate::source::{Item, Preamble, PreambleError, Source};
use crate::stages::Tick;
use crate::stages::decode::{DecodeHeadError, Head};
use crate::stages::network::preprocessor_of;
use crate::stages::preprocess::{Layout, PreprocessError, Preprocessor};
use crate::stages::unpack::Unpack;

/// Why a log cannot calibrate a model.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The log does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What it says of itself does not read.
    #[error(transparent)]
    Preamble(#[from] Box<PreambleError>),
    /// The log's or the table's file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A file is no table of scales.
    #[error("{path}, line {line}: expected {expected}, found {found:?}")]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What would do.
        expected: &'static str,
        /// How the line begins.
        found: String,
    },
    /// The engine beside the table is of another model.
    #[error("{path}: expected a table of model {expected}, found that of {found}, as the record beside it says")]
    OtherModel {
        /// The table.
        path: PathBuf,
        /// SHA-256 of the model that is built.
        expected: String,
        /// Of the table's.
        found: String,
    },
    /// There is nothing to see in it.
    #[error("{path}: expected at least {expected} pictures of the rig's cameras for one batch, found {found}")]
    TooFew {
        /// The log.
        path: PathBuf,
        /// Pictures of a batch.
        expected: usize,
        /// Pictures in the log.
        found: u64,
    },
    /// How the model's input is made is not known.
    #[error(transparent)]
    Head(#[from] DecodeHeadError),
    /// The input is no batch of pictures.
    #[error("expected one input that is a batch of pictures with three planes, found {found}")]
    NoPictures {
        /// The inputs.
        found: String,
    },
    /// Pictures cannot be made into the input.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Which pictures calibrate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationLog {
    /// The log.
    pub path: PathBuf,
    /// How many of its pictures at most.
    pub pictures: u32,
    /// How the input is made; recognised from the model where it is not said.
    pub head: Option<Head>,
    /// How ranges follow from the pictures.
    pub ranges: Ranges,
}

/// Where the ranges of 8-bit tensors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalibrationSource {
    /// Pictures.
    Log(CalibrationLog),
    /// The file of a table that TensorRT made of some: scales do not depend on the batch, the device or the effort of the build.
    Table(PathBuf),
}

impl CalibrationSource {
    /// What decides the ranges, for the engine's identity.
    ///
    /// # Errors
    /// [`CalibrateError::Io`].
    pub fn identity(&self) -> Result<String, CalibrateError> {
        let from = match self {
            CalibrationSource::Log(log) => {
                let ranges = match log.ranges {
                    Ranges::MinMax => "min-max",
                    Ranges::Entropy => "entropy",
                };
                format!("{} pictures of {}, {ranges}", log.pictures, sha256_of(&log.path)?)
            }
            CalibrationSource::Table(path) => format!("table {}", sha256_of(path)?),
        };
        Ok(format!("{from}, {SCHEME}"))
    }
}

/// What has 8 bits (`Quantizer` of the shim), by a name that changes with it: an engine of another is built anew.
const SCHEME: &str = "inner convolutions";

/// Whether a calibrated engine of this identity has 8 bits where one that is built now would.
#[must_use]
pub fn is_of_this_scheme(identity: &str) -> bool {
    identity.strip_suffix(SCHEME).is_some_and(|from| from.ends_with(", "))
}

/// The digest of a file, in hexadecimal digits.
fn sha256_of(path: &Path) -> Result<String, CalibrateError> {
    let wrong = |error| CalibrateError::Io { path: path.to_owned(), error };
    let mut file = std::fs::File::open(path).map_err(wrong)?;
    let (mut digest, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).map_err(wrong)? {
            0 => break,
            bytes => digest.update(block.get(..bytes).unwrap_or_default()),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads a table of scales, as it lies beside an engine that was calibrated, or as `trtexec` keeps it: a line that names the way, then
/// one for each tensor, its name and eight hexadecimal digits. A DLA takes tables by entropy alone.
///
/// # Errors
/// [`CalibrateError::Io`], [`CalibrateError::NoTable`].
pub fn read_table(path: &Path, is_for_dla: bool) -> Result<Vec<u8>, CalibrateError> {
    let table = std::fs::read(path).map_err(|error| CalibrateError::Io { path: path.to_owned(), error })?;
    let wrong = |line: usize, expected, found: &[u8]| {
        let found = String::from_utf8_lossy(found.get(..found.len().min(60)).unwrap_or_default()).into_owned();
        Err(CalibrateError::NoTable { path: path.to_owned(), line: line + 1, expected, found })
    };
    for (number, line) in table.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).enumerate() {
        if number == 0 {
            if !line.starts_with(b"TRT-") {
                return wrong(number, "TRT-, as a table of TensorRT begins", line);
            }
            if is_for_dla && !line.windows(7).any(|part| part == b"Entropy") {
                return wrong(number, "a table by entropy, for a DLA takes no other", line);
            }
        } else if !line.is_empty() && !is_scale(line) {
            return wrong(number, "a tensor's name, a colon and eight hexadecimal digits", line);
        }
    }
    Ok(table)
}

fn is_scale(line: &[u8]) -> bool {
    let Some((name, digits)) = line.split_last_chunk::<8>() else { return false };
    name.ends_with(b": ") && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Batches of a log's pictures on the device.
pub struct CalibrationBatches {
    pictures: Pictures,
    values: Vec<f32>,
    device: DeviceBuffer,
    /// Why there are no more, where it is not the log's end.
    pub failure: Option<CalibrateError>,
}

impl CalibrationBatches {
    /// Opens a log for an input of this batch and layout.
    pub fn open(
        context: &Arc<Context>,
        log: &CalibrationLog,
        layout: Layout,
        batch: usize,
    ) -> Result<Self, CalibrateError> {
        let pictures = Pictures::open(log, layout, batch)?;
        let values = vec![0.0; pictures.row.saturating_mul(batch)];
        let device = DeviceBuffer::new(context, size_of_val(values.as_slice()))?;
        Ok(CalibrationBatches { pictures, values, device, failure: None })
    }

    /// The address of the next batch; none when the log or the number that is wanted is at its end.
    pub fn next_batch(&mut self) -> Option<u64> {
        match self.fill() {
            Ok(true) => Some(self.device.address()),
            Ok(false) => None,
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    fn fill(&mut self) -> Result<bool, CalibrateError> {
        if !self.pictures.fill(&mut self.values)? {
            return Ok(false);
        }
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        self.device.upload_now(0, &bytes)?;
        Ok(true)
    }
}

/// A log's pictures, prepared.
struct Pictures {
    source: Source,
    packets: VecDeque<SensorPacket>,
    unpack: Unpack,
    /// Per camera of the rig.
    preprocessors: Vec<Preprocessor>,
    tick: Tick,
    /// Every so many pictures one is taken.
    every: u64,
    seen: u64,
    /// Pictures that are still wanted.
    left: u32,
    /// Values of a prepared picture.
    row: usize,
}

impl Pictures {
    fn open(log: &CalibrationLog, layout: Layout, batch: usize) -> Result<Self, CalibrateError> {
        let preamble = Preamble::read(&log.path).map_err(Box::new)?;
        let rig = preamble.rig.unwrap_or_else(|| Rig::default_camera(1920, 1080));
        let found = count_pictures(&log.path, &rig)?;
        if found.min(log.pictures.into()) < batch as u64 {
            let (path, found) = (log.path.clone(), found.min(log.pictures.into()));
            return Err(CalibrateError::TooFew { path, expected: batch, found });
        }
        let preprocessors = (0..rig.cameras.len()).map(|camera| preprocessor_of(&rig, camera, layout));
        Ok(Pictures {
            preprocessors: preprocessors.collect::<Result<_, _>>()?,
            source: Source::open(&log.path, &rig, Limits::default())?,
            packets: VecDeque::new(),
            unpack: Unpack::new(Limits::default(), &rig),
            tick: Tick::new(rig.cameras.len(), rig.lidars.len(), &[]),
            every: (found / u64::from(log.pictures)).max(1),
            seen: 0,
            left: log.pictures,
            row: layout.values(),
        })
    }

    /// Fills a batch, or says that there are not as many pictures any more.
    fn fill(&mut self, batch: &mut [f32]) -> Result<bool, CalibrateError> {
        for planes in batch.chunks_exact_mut(self.row.max(1)) {
            if !self.next_picture(planes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Prepares the next picture that is wanted and can be unpacked.
    fn next_picture(&mut self, planes: &mut [f32]) -> Result<bool, CalibrateError> {
        while self.left > 0 {
            let Some(packet) = self.next_packet()? else { return Ok(false) };
            let camera = usize::from(packet.header.sensor.0);
            if camera >= self.tick.cameras.len() {
                continue;
            }
            self.seen += 1;
            if !(self.seen - 1).is_multiple_of(self.every) {
                continue;
            }
            self.tick.packets = vec![packet];
            // one that cannot be unpacked is passed over
            let _ = self.unpack.run(&mut self.tick);
            let (slot, preprocessor) = (self.tick.cameras.get_mut(camera), self.preprocessors.get_mut(camera));
            let (Some(slot), Some(preprocessor)) = (slot.filter(|slot| slot.present), preprocessor) else { continue };
            if slot.develop().is_err() {
                continue;
            }
            preprocessor.run(&slot.frame, planes)?;
            self.left -= 1;
            return Ok(true);
        }
        Ok(false)
    }

    fn next_packet(&mut self) -> Result<Option<SensorPacket>, CalibrateError> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(Some(packet));
            }
            match self.source.wait(std::time::Duration::from_secs(1)) {
                None => {}
                Some(Item::Packets(packets)) => self.packets.extend(packets),
                Some(Item::End(_)) => return Ok(None),
                Some(Item::Failed(error)) => return Err((*error).into()),
            }
        }
    }
}

/// Messages on the cameras' topics.
fn count_pictures(log: &Path, rig: &Rig) -> Result<u64, ReadError> {
    let mut reader = LogReader::open(log)?;
    let mut count = 0;
    while let Some(event) = reader.next()? {
        if let Event::Message(message) = event
            && rig.cameras.iter().any(|camera| camera.topic == message.channel.topic)
        {
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::import::{ImportKind, ImportOptions, import};

    #[test]
    fn pictures_are_spread_over_the_log_and_prepared_in_batches() {
        let folder = tempfile::tempdir().unwrap();
        let (pictures, path) = (folder.path().join("pictures"), folder.path().join("drive.mcap"));
        std::fs::create_dir(&pictures).unwrap();
        for grey in 0..9_u8 {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 16, 8);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&[10 * grey; 16 * 8 * 3]).unwrap();
            std::fs::write(pictures.join(format!("{grey:05}.png")), bytes).unwrap();
        }
        import(ImportKind::Pictures, &pictures, &path, &ImportOptions::default(), &mut |_, _| {}).unwrap();
        let log = |pictures| CalibrationLog { path: path.clone(), pictures, head: None, ranges: Ranges::MinMax };
        let layout = Head::Yolox.layout(16, 8);

        let mut every_other = Pictures::open(&log(4), layout, 2).unwrap();
        let mut batch = vec![0.0; 2 * layout.values()];
        for greys in [[0.0, 20.0], [40.0, 60.0]] {
            assert!(every_other.fill(&mut batch).unwrap());
            for (row, grey) in batch.chunks(layout.values()).zip(greys) {
                assert!(row.iter().all(|value| *value == grey), "expected {grey}, found {row:?}");
            }
        }
        assert!(!every_other.fill(&mut batch).unwrap());

        let error = Pictures::open(&log(256), layout, 10).err().unwrap().to_string();
        assert!(error.contains("expected at least 10 pictures") && error.ends_with("found 9"), "{error}");
        let identity = |log| CalibrationSource::Log(log).identity().unwrap();
        assert_ne!(identity(log(4)), identity(log(5)));
        assert!(identity(log(4)).starts_with("4 pictures of "));
        assert_ne!(identity(CalibrationLog { ranges: Ranges::Entropy, ..log(4) }), identity(log(4)));
    }

    #[test]
    fn tables_are_told_from_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.calibration");
        std::fs::write(&path, "TRT-8600-MinMaxCalibration\nimages: 3c010a14\n").unwrap();
        assert!(read_table(&path, false).unwrap().ends_with(b"3c010a14\n"));
        let of_this = CalibrationSource::Table(path.clone()).identity().unwrap();
        assert!(is_of_this_scheme(&of_this) && !is_of_this_scheme("64 pictures of 00ff, min-max, none at both ends"));
        let refused = |text: &str, is_for_dla, words: &str| {
            std::fs::write(&path, text).unwrap();
            let error = read_table(&path, is_for_dla).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(
            "images: 3c010a14\n",
            false,
            "line 1: expected TRT-, as a table of TensorRT begins, found \"images: 3c010a14\"",
        );
        refused("TRT-8600-MinMaxCalibration\nimages: 3c010a14\n", true, "line 1: expected a table by entropy");
        // as a file that was cut
        refused(
            "TRT-8600-MinMaxCalibration\r\na: b: 3c010a14\r\nimages: 3c0",
            false,
            "line 3: expected a tensor's name",
        );
        refused("TRT-8600-MinMaxCalibration\nimages: -c010a14\n", false, "line 2");
        assert_ne!(CalibrationSource::Table(path.clone()).identity().unwrap(), of_this);
        assert!(matches!(read_table(folder.path(), false), Err(CalibrateError::Io { .. })));
    }
}
