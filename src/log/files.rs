//! Which files a log is: one, or all that the [recorder](super::recorder) made of a recording, in their order.
//!
//! A recording is meant by its folder, if that holds no other, by its manifest, or by its first file. Its files are found by their
//! numbers, whether there is a manifest or a crash left none. Any other file means itself. The log of the run that a recording was
//! made in may lie beside it, as `NAME.run.mcap`: then the recording holds what the pipeline made, too.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::RECORDING_HEADER;
use super::reader::{Event, LogReader, ReadError};
use super::recorder::manifest::MANIFEST_SUFFIX;
use super::recorder::rotate::{file_name, parse_file_name};

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub enum LogFiles {
    /// A file that stands alone.
    One(PathBuf),
    /// The files of a recording, in order; never empty.
    Rotation(VecDeque<PathBuf>),
}

impl LogFiles {
    /// Finds the files of a log.
    ///
    /// # Errors
    /// [`ReadError::Folder`] for a folder without one recording or with several, [`ReadError::Missing`] for a recording of whose
    /// files one is not there that others follow.
    pub fn find(path: &Path) -> Result<Self, ReadError> {
        match recording_of(path)? {
            Some((folder, name)) => rotation(&folder, &name),
            None => Ok(LogFiles::One(path.to_owned())),
        }
    }
}

/// Where the log of the run lies that a recording was made in.
pub fn run_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.run.mcap"))
}

/// The log of the run that a recording was made in, if it lies beside it.
///
/// # Errors
/// As those of [`LogFiles::find`].
pub fn run_beside(path: &Path) -> Result<Option<PathBuf>, ReadError> {
    let beside = recording_of(path)?.map(|(folder, name)| run_path(&folder, &name));
    Ok(beside.filter(|run| run.is_file()))
}

/// Folder and name of the recording that a path means; `None` for a file that stands alone.
fn recording_of(path: &Path) -> Result<Option<(PathBuf, String)>, ReadError> {
    if path.is_dir() {
        return Ok(Some((path.to_owned(), only_recording(path)?)));
    }
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    if let Some(name) = file.strip_suffix(MANIFEST_SUFFIX) {
        return Ok(Some((folder, name.to_owned())));
    }
    let first = parse_file_name(file).filter(|(_, number, _)| *number == 0 && is_recording(path));
    Ok(first.map(|(name, ..)| (folder, name.to_owned())))
}

/// The name of the recording that a folder holds.
fn only_recording(folder: &Path) -> Result<String, ReadError> {
    let io = |error| ReadError::Io { path: folder.to_owned(), error };
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let name = file.strip_suffix(MANIFEST_SUFFIX).or_else(|| {
            let (name, ..) = parse_file_name(file).filter(|_| is_recording(&path))?;
            Some(name)
        });
        names.extend(name.map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(ReadError::Folder { path: folder.to_owned(), found: names }),
    }
}

fn rotation(folder: &Path, name: &str) -> Result<LogFiles, ReadError> {
    let files = files_of(folder, name).map_err(|error| ReadError::Io { path: folder.to_owned(), error })?;
    let gap = (0..).zip(files.keys()).find(|(expected, found)| expected != *found);
    let missing = gap.map(|(expected, _)| expected).or(files.is_empty().then_some(0));
    match missing {
        Some(number) => Err(ReadError::Missing { path: folder.join(file_name(name, number)) }),
        None => Ok(LogFiles::Rotation(files.into_values().collect())),
    }
}

/// Files of a recording by number. A file that was left as `.part` counts where there is no whole one.
pub(super) fn files_of(folder: &Path, name: &str) -> io::Result<BTreeMap<u32, PathBuf>> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(place)? {
        let file = entry?.file_name();
        let Some((_, number, is_part)) = file.to_str().and_then(parse_file_name).filter(|(found, ..)| *found == name)
        else {
            continue;
        };
        if !is_part || !files.contains_key(&number) {
            files.insert(number, folder.join(&file));
        }
    }
    Ok(files)
}

/// Whether a file says of itself that it belongs to a recording, or is too short to say.
pub(super) fn is_recording(path: &Path) -> bool {
    let Ok(mut reader) = LogReader::open_file(path) else { return true };
    loop {
        match reader.next() {
            Ok(Some(Event::Metadata { name, .. })) if name == RECORDING_HEADER => return true,
            Ok(Some(Event::Message(_)) | None) => return false,
            Ok(Some(_)) => {}
            Err(_) => return true,
        }
    }
}
