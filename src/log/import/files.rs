//! Files of a source: listing, reading, and streams of files that have a stamp each.
//!
//! Folders are listed in the order of names, so that an import does not depend on the file system. No file is larger in
//! memory than [`MAX_FILE_BYTES`]; a stream holds one at a time.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use catseye_calibration::rig::PictureFormat;
use catseye_sensors::cloud::{CloudSummary, Point};

use super::ImportError;
use super::target::{Stream, Target};
use crate::log::packet::{cloud_message, picture_message};
use crate::log::writer::ChannelId;

/// Endings of pictures that are read, in small letters.
pub(super) const PICTURE_ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Largest file that is read whole.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// How many names an overview of a folder gives.
const MAX_NAMED: usize = 5;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ImportError {
    let path = path.to_owned();
    move |error| ImportError::Io { path, error }
}

/// The entries of a folder, by name.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        entries.push(entry.map_err(io(folder))?.path());
    }
    entries.sort();
    Ok(entries)
}

/// The entries of a folder with one of these endings, by name.
pub(super) fn list_ending(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, ImportError> {
    let mut entries = list(folder)?;
    entries.retain(|entry| endings.contains(&ending(entry).as_str()));
    Ok(entries)
}

/// What is in a folder, for an error.
pub(super) fn overview(entries: &[PathBuf]) -> String {
    let names: Vec<String> = entries.iter().take(MAX_NAMED).map(|entry| name(entry)).collect();
    match entries.len().checked_sub(MAX_NAMED) {
        _ if entries.is_empty() => "an empty folder".to_owned(),
        Some(more) if more > 0 => format!("a folder with {} and {more} more", names.join(", ")),
        _ => format!("a folder with {}", names.join(", ")),
    }
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What is behind the last dot of a name, in small letters.
pub(super) fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// A name without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The number that is a file's name, without its ending.
pub(super) fn number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    if digits { stem.parse().ok() } else { None }
}

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let file = File::open(path).map_err(io(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io(path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImportError::unexpected(path, format!("at most {MAX_FILE_BYTES} bytes"), "more"));
    }
    Ok(bytes)
}

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ImportError> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ImportError::unexpected(path, "text in UTF-8", format!("other bytes after byte {at}"))
    })
}

/// What the header of a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PictureHeader {
    /// `jpeg` or `png`.
    pub(super) format: &'static str,
    /// Columns.
    pub(super) width_px: u32,
    /// Rows.
    pub(super) height_px: u32,
}

impl PictureHeader {
    /// The format as a rig names it.
    pub(super) fn rig_format(&self) -> PictureFormat {
        if self.format == "png" { PictureFormat::Png } else { PictureFormat::Jpeg }
    }
}

/// Reads the header of a JPEG or PNG file. The error says why it is none.
pub(super) fn picture_header(bytes: &[u8]) -> Result<PictureHeader, String> {
    let header = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png_header(bytes)
    } else if bytes.starts_with(&[0xFF, 0xD8]) {
        jpeg_header(bytes)
    } else {
        return Err("expected a JPEG or PNG file, found other first bytes".to_owned());
    };
    match header {
        Some(header) if header.width_px > 0 && header.height_px > 0 => Ok(header),
        Some(header) => Err(format!("expected a size above 0, found {} x {}", header.width_px, header.height_px)),
        None => Err(format!("expected a whole picture header, found {} bytes without one", bytes.len())),
    }
}

/// The first chunk of a PNG file is `IHDR`, which begins with width and height (ISO 15948, 11.2.1).
fn png_header(bytes: &[u8]) -> Option<PictureHeader> {
    if bytes.get(12..16)? != b"IHDR" {
        return None;
    }
    let width_px = u32::from_be_bytes(*bytes.get(16..)?.first_chunk()?);
    let height_px = u32::from_be_bytes(*bytes.get(20..)?.first_chunk()?);
    Some(PictureHeader { format: "png", width_px, height_px })
}

/// Walks the segments of a JPEG file to the start of a frame (ITU-T T.81, B.2.2): length, precision, height, width.
fn jpeg_header(bytes: &[u8]) -> Option<PictureHeader> {
    let mut rest = bytes.get(2..)?;
    loop {
        let (&first, behind) = rest.split_first()?;
        if first != 0xFF {
            return None;
        }
        let (&marker, segment) = behind.split_first()?;
        rest = match marker {
            // a marker may be led by any number of fill bytes
            0xFF => behind,
            0x01 | 0xD0..=0xD8 => segment,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let height_px = u32::from(u16::from_be_bytes(*segment.get(3..)?.first_chunk()?));
                let width_px = u32::from(u16::from_be_bytes(*segment.get(5..)?.first_chunk()?));
                return Some(PictureHeader { format: "jpeg", width_px, height_px });
            }
            _ => {
                let length = usize::from(u16::from_be_bytes(*segment.first_chunk()?));
                segment.get(length.max(2)..)?
            }
        };
    }
}

/// The header of the first picture of a list that has one.
pub(super) fn first_picture(paths: &[PathBuf]) -> Result<Option<PictureHeader>, ImportError> {
    for path in paths {
        if let Ok(header) = picture_header(&read(path)?) {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// A file and when its content was measured.
#[derive(Clone, Debug)]
pub(super) struct StampedFile {
    /// When.
    pub(super) stamp_ns: i64,
    /// Where.
    pub(super) path: PathBuf,
}

/// Makes messages of the files of one stream.
pub(super) trait FileReader {
    /// Writes what a file holds, or lists it as skipped.
    fn put(&mut self, target: &mut Target<'_>, file: &StampedFile, bytes: Vec<u8>) -> Result<(), ImportError>;
}

/// Files in the order of their stamps.
pub(super) struct FileStream<R> {
    files: Vec<StampedFile>,
    next: usize,
    reader: R,
}

impl<R: FileReader> FileStream<R> {
    /// Sorts the files by stamp; those of equal stamps stay in their order.
    pub(super) fn new(mut files: Vec<StampedFile>, reader: R) -> Self {
        files.sort_by_key(|file| file.stamp_ns);
        FileStream { files, next: 0, reader }
    }
}

impl<R: FileReader> Stream for FileStream<R> {
    fn next_ns(&self) -> Option<i64> {
        self.files.get(self.next).map(|file| file.stamp_ns)
    }

    fn put_next(&mut self, target: &mut Target<'_>) -> Result<(), ImportError> {
        let Some(file) = self.files.get(self.next) else { return Ok(()) };
        self.next += 1;
        self.reader.put(target, file, read(&file.path)?)
    }

    fn left(&self) -> u64 {
        self.files.len().saturating_sub(self.next) as u64
    }
}

/// Copies pictures of one camera.
pub(super) struct PictureReader {
    channel: ChannelId,
    camera: String,
    width_px: u32,
    height_px: u32,
}

impl PictureReader {
    /// Pictures of a camera of the target's rig, on a channel of `foxglove.CompressedImage`.
    pub(super) fn new(target: &Target<'_>, channel: ChannelId, camera: &str) -> Self {
        let size = target.rig().camera(camera).map(|camera| (camera.width_px, camera.height_px));
        let (width_px, height_px) = size.unwrap_or_default();
        PictureReader { channel, camera: camera.to_owned(), width_px, height_px }
    }

    fn check(&self, bytes: &[u8]) -> Result<PictureHeader, String> {
        let header = picture_header(bytes)?;
        if (header.width_px, header.height_px) != (self.width_px, self.height_px) {
            return Err(format!(
                "expected {} x {} pixels as the rig says, found {} x {}",
                self.width_px, self.height_px, header.width_px, header.height_px
            ));
        }
        Ok(header)
    }
}

impl FileReader for PictureReader {
    fn put(&mut self, target: &mut Target<'_>, file: &StampedFile, bytes: Vec<u8>) -> Result<(), ImportError> {
        match self.check(&bytes) {
            Ok(header) => {
                let message = picture_message(bytes, header.format, file.stamp_ns, &self.camera);
                target.write_foxglove(self.channel, file.stamp_ns, file.stamp_ns, &message)
            }
            Err(why) => {
                target.skip(file.path.display().to_string(), why);
                Ok(())
            }
        }
    }
}

/// Copies scans of one lidar.
pub(super) struct CloudReader {
    channel: ChannelId,
    lidar: String,
    decode: fn(&[u8], &mut Vec<Point>) -> CloudSummary,
    points: Vec<Point>,
}

impl CloudReader {
    /// Scans of a lidar that `decode` reads, on a channel of `foxglove.PointCloud`.
    pub(super) fn new(channel: ChannelId, lidar: &str, decode: fn(&[u8], &mut Vec<Point>) -> CloudSummary) -> Self {
        CloudReader { channel, lidar: lidar.to_owned(), decode, points: Vec::new() }
    }
}

impl FileReader for CloudReader {
    fn put(&mut self, target: &mut Target<'_>, file: &StampedFile, bytes: Vec<u8>) -> Result<(), ImportError> {
        let summary = (self.decode)(&bytes, &mut self.points);
        if summary.trailing_bytes > 0 || summary.points == 0 {
            let why = format!("expected whole points, found {} and {} bytes", summary.points, summary.trailing_bytes);
            target.skip(file.path.display().to_string(), why);
            return Ok(());
        }
        let dropped = summary.dropped_non_finite as u64;
        target.skip_many(format!("points of {}", self.lidar), "the position is not finite", dropped);
        let message = cloud_message(&self.points, file.stamp_ns, &self.lidar);
        target.write_foxglove(self.channel, file.stamp_ns, file.stamp_ns, &message)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As much of a PNG file as a header check reads.
    pub(in crate::log::import) fn png_start(width_px: u32, height_px: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend_from_slice(&width_px.to_be_bytes());
        bytes.extend_from_slice(&height_px.to_be_bytes());
        bytes
    }

    /// As much of a JPEG file as a header check reads: a comment, a fill byte, the start of a frame.
    fn jpeg_start(width_px: u16, height_px: u16) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xFE, 0, 4, 0xFF, 0xC0, 0xFF, 0xFF, 0xC2, 0, 17, 8];
        bytes.extend_from_slice(&height_px.to_be_bytes());
        bytes.extend_from_slice(&width_px.to_be_bytes());
        bytes
    }

    #[test]
    fn headers_give_the_size() {
        let png = PictureHeader { format: "png", width_px: 1242, height_px: 375 };
        assert_eq!(picture_header(&png_start(1242, 375)), Ok(png));
        let jpeg = PictureHeader { format: "jpeg", width_px: 1600, height_px: 900 };
        assert_eq!(picture_header(&jpeg_start(1600, 900)), Ok(jpeg));
    }

    #[test]
    fn what_is_cut_off_or_empty_has_no_header() {
        for whole in [png_start(3, 2), jpeg_start(3, 2)] {
            for length in 0..whole.len() {
                assert!(picture_header(&whole[..length]).is_err(), "{length} bytes were enough");
            }
        }
        assert!(picture_header(&png_start(0, 2)).unwrap_err().contains("0 x 2"));
        assert!(picture_header(b"GIF89a").unwrap_err().contains("other first bytes"));
    }

    #[test]
    fn names_come_apart() {
        assert_eq!(number(Path::new("a/000012.png")), Some(12));
        assert_eq!(number(Path::new("a/x12.png")), None);
        assert_eq!(number(Path::new("a/+12.png")), None);
        assert_eq!(number(Path::new("a/99999999999999999999999.png")), None);
        assert_eq!(ending(Path::new("a.b/c.JPG")), "jpg");
        assert_eq!(name(Path::new("a/b.c")), "b.c");
    }

    #[test]
    fn a_folder_is_listed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.jpg", "c.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let names = |paths: Vec<PathBuf>| paths.iter().map(|path| name(path)).collect::<Vec<_>>();
        assert_eq!(names(list(folder.path()).unwrap()), ["a.jpg", "b.png", "c.txt"]);
        assert_eq!(names(list_ending(folder.path(), &PICTURE_ENDINGS).unwrap()), ["a.jpg", "b.png"]);
        assert!(matches!(list(&folder.path().join("none")), Err(ImportError::Io { .. })));
        assert_eq!(overview(&[]), "an empty folder");
    }
}
