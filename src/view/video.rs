//! Pictures as a video (Motion JPEG in AVI) or as a folder of JPEG files.
//!
//! Data comes from [`Canvas`]es or from a camera's own JPEGs, one per tick, and goes into a file that VLC, mpv and
//! ffplay open. The layout is that of Microsoft's AVI RIFF file reference: a header of fixed size, the pictures, an
//! index. AVI knows one frame rate only: it is the mean rate of the stamps. A video grows in `NAME.part` beside its
//! place and takes its name when it is finished; a writer that is dropped before removes it.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::canvas::{Canvas, CanvasError};
use crate::file::part_of;

/// Largest AVI file that old players read: below 2 GiB.
pub const MAX_VIDEO_BYTES: u64 = (1 << 31) - 1;

/// Time per frame when the stamps cannot tell, as with a single picture: 100 ms.
const DEFAULT_FRAME_US: u32 = 100_000;
const HEADER_BYTES: usize = 224;
/// Where the list of pictures begins; the index counts from here.
const MOVI_AT: u64 = 220;
const INDEX_ENTRY_BYTES: u64 = 16;
const HAS_INDEX: u32 = 0x10;
const KEY_FRAME: u32 = 0x10;

/// Why a video or a picture file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The system refused.
    #[error("{path} could not be written: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The picture is not as large as the video.
    #[error(
        "{path} takes pictures of {width_px} x {height_px} pixels, but one of {found_width_px} x {found_height_px} came"
    )]
    Size {
        /// The video.
        path: PathBuf,
        /// Width of the video.
        width_px: u32,
        /// Height of the video.
        height_px: u32,
        /// Width of the picture.
        found_width_px: u32,
        /// Height of the picture.
        found_height_px: u32,
    },
    /// A side is zero or too long for a JPEG.
    #[error("{path} was to have {width_px} x {height_px} pixels; each side must be 1 to 65535 pixels")]
    BadSize {
        /// The video.
        path: PathBuf,
        /// Width asked for.
        width_px: u32,
        /// Height asked for.
        height_px: u32,
    },
    /// The bytes are no JPEG.
    #[error("{path}: picture {frame} does not begin as a JPEG does (bytes FF D8)")]
    NotJpeg {
        /// The video.
        path: PathBuf,
        /// Number of the picture, from 0.
        frame: usize,
    },
    /// The video has reached its largest size.
    #[error(
        "{path} is full: after {frames} pictures the next one would exceed {limit_bytes} bytes, which is as much as an AVI file holds; record a shorter part, fewer cameras or smaller pictures"
    )]
    Full {
        /// The video.
        path: PathBuf,
        /// Pictures in it.
        frames: usize,
        /// The limit.
        limit_bytes: u64,
    },
    /// The picture could not be encoded.
    #[error("{path}: {source}")]
    Encode {
        /// The video.
        path: PathBuf,
        /// What the encoder said.
        source: CanvasError,
    },
}

/// What a finished video holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoSummary {
    /// Pictures in it.
    pub frames: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Time that each picture is shown, microseconds.
    pub frame_us: u32,
}

/// Writes a Motion JPEG video, picture by picture.
pub struct VideoWriter {
    file: BufWriter<File>,
    path: PathBuf,
    /// Where it grows until it is whole.
    part: PathBuf,
    width_px: u32,
    height_px: u32,
    limit_bytes: u64,
    /// Bytes written so far, header included.
    at: u64,
    /// Position (from [`MOVI_AT`]) and length of each picture.
    index: Vec<(u32, u32)>,
    first_ns: i64,
    last_ns: i64,
    finished: bool,
}

impl VideoWriter {
    /// Begins a video; a file of that name is replaced once the video is finished.
    ///
    /// # Errors
    /// [`VideoError::BadSize`] and [`VideoError::Write`].
    pub fn create(path: &Path, width_px: u32, height_px: u32) -> Result<VideoWriter, VideoError> {
        let sound = 1..=u32::from(u16::MAX);
        if !sound.contains(&width_px) || !sound.contains(&height_px) {
            return Err(VideoError::BadSize { path: path.to_owned(), width_px, height_px });
        }
        let part = part_of(path);
        let file = File::create(&part).map_err(|source| VideoError::Write { path: path.to_owned(), source })?;
        let mut video = VideoWriter {
            file: BufWriter::new(file),
            path: path.to_owned(),
            part,
            width_px,
            height_px,
            limit_bytes: MAX_VIDEO_BYTES,
            at: 0,
            index: Vec::new(),
            first_ns: 0,
            last_ns: 0,
            finished: false,
        };
        let header = video.header();
        video.write(&header)?;
        Ok(video)
    }

    /// Adds a picture; quality is that of the JPEG, 1 to 100.
    ///
    /// # Errors
    /// [`VideoError::Size`], [`VideoError::Encode`], and those of [`VideoWriter::push_jpeg`].
    pub fn push(&mut self, stamp_ns: i64, canvas: &Canvas, quality: u8) -> Result<(), VideoError> {
        let (found_width_px, found_height_px) = (canvas.width_px(), canvas.height_px());
        if (found_width_px, found_height_px) != (self.width_px, self.height_px) {
            let (path, width_px, height_px) = (self.path.clone(), self.width_px, self.height_px);
            return Err(VideoError::Size { path, width_px, height_px, found_width_px, found_height_px });
        }
        let jpeg = canvas.to_jpeg(quality).map_err(|source| VideoError::Encode { path: self.path.clone(), source })?;
        self.push_jpeg(stamp_ns, &jpeg)
    }

    /// Adds a picture that is a JPEG already, of the video's size. Stamps only set the frame rate.
    ///
    /// # Errors
    /// [`VideoError::NotJpeg`]; [`VideoError::Full`], after which the video can still be finished;
    /// [`VideoError::Write`].
    pub fn push_jpeg(&mut self, stamp_ns: i64, jpeg: &[u8]) -> Result<(), VideoError> {
        let frame = self.index.len();
        if !jpeg.starts_with(&[0xFF, 0xD8]) {
            return Err(VideoError::NotJpeg { path: self.path.clone(), frame });
        }
        let chunk_bytes = 8 + jpeg.len() as u64 + jpeg.len() as u64 % 2;
        let index_bytes = 8 + INDEX_ENTRY_BYTES * (frame as u64 + 1);
        if self.at + chunk_bytes + index_bytes > self.limit_bytes {
            return Err(VideoError::Full { path: self.path.clone(), frames: frame, limit_bytes: self.limit_bytes });
        }
        // both fit into 32 bits, since the whole file does
        self.index.push(((self.at - MOVI_AT) as u32, jpeg.len() as u32));
        if frame == 0 {
            self.first_ns = stamp_ns;
        }
        self.last_ns = stamp_ns;
        self.write(b"00dc")?;
        self.write(&(jpeg.len() as u32).to_le_bytes())?;
        self.write(jpeg)?;
        // chunks begin at even positions
        if jpeg.len() % 2 == 1 {
            self.write(&[0])?;
        }
        Ok(())
    }

    /// Pictures so far.
    pub fn frames(&self) -> usize {
        self.index.len()
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`VideoError::Write`].
    pub fn finish(mut self) -> Result<VideoSummary, VideoError> {
        self.close()?;
        let named = std::fs::rename(&self.part, &self.path);
        named.map_err(|source| VideoError::Write { path: self.path.clone(), source })?;
        self.finished = true;
        Ok(VideoSummary { frames: self.index.len(), bytes: self.at, frame_us: self.frame_us() })
    }

    fn close(&mut self) -> Result<(), VideoError> {
        let header = self.header();
        let mut index = chunk_head(b"idx1", (self.index.len() as u64 * INDEX_ENTRY_BYTES) as u32);
        for (offset, length) in &self.index {
            index.extend(b"00dc");
            index.extend([KEY_FRAME, *offset, *length].iter().flat_map(|value| value.to_le_bytes()));
        }
        self.write(&index)?;
        let patched = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&header));
        let flushed = patched.and_then(|()| self.file.flush());
        flushed.map_err(|source| VideoError::Write { path: self.path.clone(), source })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), VideoError> {
        self.file.write_all(bytes).map_err(|source| VideoError::Write { path: self.path.clone(), source })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Mean time between pictures, microseconds.
    fn frame_us(&self) -> u32 {
        let gaps = self.index.len().saturating_sub(1) as i64;
        let span_us = self.last_ns.saturating_sub(self.first_ns) / 1000;
        match span_us.checked_div(gaps).and_then(|mean| u32::try_from(mean).ok()) {
            Some(mean) if mean > 0 => mean,
            _ => DEFAULT_FRAME_US,
        }
    }

    /// Everything before the first picture, for what has been written so far.
    fn header(&self) -> Vec<u8> {
        let frames = self.index.len() as u32;
        let largest = self.index.iter().map(|(_, length)| *length).max().unwrap_or(0);
        let frame_us = self.frame_us();
        let pictures_bytes = self.at.saturating_sub(HEADER_BYTES as u64) as u32;
        let index_bytes = 8 + frames * INDEX_ENTRY_BYTES as u32;

        let mut bytes = chunk_head(b"RIFF", HEADER_BYTES as u32 - 8 + pictures_bytes + index_bytes);
        bytes.extend(b"AVI ");
        bytes.extend(chunk_head(b"LIST", 192));
        bytes.extend(b"hdrl");
        bytes.extend(chunk_head(b"avih", 56));
        let (width, height) = (self.width_px, self.height_px);
        let main = [frame_us, 0, 0, HAS_INDEX, frames, 0, 1, largest, width, height, 0, 0, 0, 0];
        bytes.extend(main.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(chunk_head(b"LIST", 116));
        bytes.extend(b"strl");
        bytes.extend(chunk_head(b"strh", 56));
        bytes.extend(b"vidsMJPG");
        // flags, priority and language, first frame, scale, rate, start, length, buffer, quality (default), sample size
        let stream = [0, 0, 0, frame_us, 1_000_000, 0, frames, largest, u32::MAX, 0];
        bytes.extend(stream.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend([0, 0, width as u16, height as u16].iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(chunk_head(b"strf", 40));
        let planes_and_bits = 1 | (24 << 16);
        let mjpg = u32::from_le_bytes(*b"MJPG");
        let picture_bytes = width.saturating_mul(height).saturating_mul(3);
        let format = [40, width, height, planes_and_bits, mjpg, picture_bytes, 0, 0, 0, 0];
        bytes.extend(format.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(chunk_head(b"LIST", pictures_bytes + 4));
        bytes.extend(b"movi");
        bytes
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        if !self.finished {
            // nobody is left to tell
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn chunk_head(name: &[u8; 4], bytes: u32) -> Vec<u8> {
    let mut head = name.to_vec();
    head.extend(bytes.to_le_bytes());
    head
}

/// Writes each picture into a JPEG file of its own, `tick_000042.jpg`.
pub struct PictureFolder {
    folder: PathBuf,
}

impl PictureFolder {
    /// Makes the folder, with those above it, where it is missing. Files in it stay, but for those of the same name.
    ///
    /// # Errors
    /// [`VideoError::Write`].
    pub fn create(folder: &Path) -> Result<PictureFolder, VideoError> {
        std::fs::create_dir_all(folder).map_err(|source| VideoError::Write { path: folder.to_owned(), source })?;
        Ok(PictureFolder { folder: folder.to_owned() })
    }

    /// Writes one tick's picture; quality is that of the JPEG, 1 to 100. Gives back the file's path.
    ///
    /// # Errors
    /// [`VideoError::Encode`] and [`VideoError::Write`].
    pub fn push(&self, tick: u64, canvas: &Canvas, quality: u8) -> Result<PathBuf, VideoError> {
        let jpeg = canvas.to_jpeg(quality).map_err(|source| VideoError::Encode { path: self.path(tick), source })?;
        self.push_jpeg(tick, &jpeg)
    }

    /// Writes one tick's picture that is a JPEG already. Gives back the file's path.
    ///
    /// # Errors
    /// [`VideoError::Write`].
    pub fn push_jpeg(&self, tick: u64, jpeg: &[u8]) -> Result<PathBuf, VideoError> {
        let path = self.path(tick);
        std::fs::write(&path, jpeg).map_err(|source| VideoError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    fn path(&self, tick: u64) -> PathBuf {
        self.folder.join(format!("tick_{tick:06}.jpg"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::canvas::Colour;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Pictures that the index points at, after checking every length in the file.
    fn parse(bytes: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!((&bytes[0..4], &bytes[8..12]), (b"RIFF".as_slice(), b"AVI ".as_slice()));
        assert_eq!(word(bytes, 4) as usize + 8, bytes.len());
        let (mut at, mut movi, mut index) = (12, 0, Vec::new());
        while at < bytes.len() {
            let (name, length) = (&bytes[at..at + 4], word(bytes, at + 4) as usize);
            if name == b"LIST" && &bytes[at + 8..at + 12] == b"movi" {
                movi = at + 8;
            }
            if name == b"idx1" {
                index = bytes[at + 8..at + 8 + length].chunks_exact(16).map(<[u8]>::to_vec).collect();
            }
            at += 8 + length;
        }
        assert_eq!(at, bytes.len());
        let picture = |entry: &Vec<u8>| {
            let (start, length) = (movi + word(entry, 8) as usize, word(entry, 12) as usize);
            assert_eq!((&bytes[start..start + 4], word(bytes, start + 4) as usize), (b"00dc".as_slice(), length));
            bytes[start + 8..start + 8 + length].to_vec()
        };
        index.iter().map(picture).collect()
    }

    #[test]
    fn the_file_parses_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.avi");
        let mut video = VideoWriter::create(&path, 16, 8).unwrap();
        let pictures: [&[u8]; 3] = [&[0xFF, 0xD8, 1], &[0xFF, 0xD8, 2, 3], &[0xFF, 0xD8, 4, 5, 6]];
        for (number, picture) in pictures.iter().enumerate() {
            video.push_jpeg(1_000_000_000 + number as i64 * 40_000_000, picture).unwrap();
        }
        let summary = video.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(summary, VideoSummary { frames: 3, bytes: bytes.len() as u64, frame_us: 40_000 });
        assert_eq!(parse(&bytes), pictures);
        assert_eq!((word(&bytes, 32), word(&bytes, 48)), (40_000, 3));
        assert_eq!((word(&bytes, 64), word(&bytes, 68)), (16, 8));
        assert_eq!((word(&bytes, 128), word(&bytes, 132), word(&bytes, 140)), (40_000, 1_000_000, 3));
        assert_eq!((&bytes[164..168], &bytes[220..224]), (b"strf".as_slice(), b"movi".as_slice()));
    }

    #[test]
    fn a_dropped_video_leaves_the_former_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.avi");
        let canvas = Canvas::new(32, 16, Colour::WHITE).unwrap();
        let begun = || {
            let mut video = VideoWriter::create(&path, 32, 16).unwrap();
            video.push(5, &canvas, 80).unwrap();
            assert_eq!(video.frames(), 1);
            video
        };
        begun().finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(parse(&bytes), [canvas.to_jpeg(80).unwrap()]);
        assert_eq!(word(&bytes, 32), DEFAULT_FRAME_US);
        drop(begun());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_video_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.avi");
        let summary = VideoWriter::create(&path, 32, 16).unwrap().finish().unwrap();
        assert_eq!((summary.frames, summary.bytes), (0, 232));
        assert!(parse(&std::fs::read(&path).unwrap()).is_empty());
    }

    #[test]
    fn wrong_pictures_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.avi");
        assert!(matches!(VideoWriter::create(&path, 0, 8), Err(VideoError::BadSize { .. })));
        let nowhere = folder.path().join("no/run.avi");
        assert!(matches!(VideoWriter::create(&nowhere, 8, 8), Err(VideoError::Write { .. })));
        let mut video = VideoWriter::create(&path, 8, 8).unwrap();
        assert!(matches!(video.push_jpeg(0, b"GIF89a"), Err(VideoError::NotJpeg { frame: 0, .. })));
        let wide = Canvas::new(9, 8, Colour::BLACK).unwrap();
        assert!(matches!(video.push(0, &wide, 80), Err(VideoError::Size { found_width_px: 9, .. })));
        assert_eq!(video.frames(), 0);
    }

    #[test]
    fn a_full_video_says_so_and_can_be_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.avi");
        let mut video = VideoWriter::create(&path, 8, 8).unwrap();
        // header, two pictures of 8 + 4 bytes, index of two
        video.limit_bytes = 224 + 2 * 12 + 8 + 2 * 16;
        video.push_jpeg(0, &[0xFF, 0xD8, 0, 0]).unwrap();
        video.push_jpeg(1, &[0xFF, 0xD8, 1, 1]).unwrap();
        let full = video.push_jpeg(2, &[0xFF, 0xD8, 2, 2]);
        assert!(matches!(full, Err(VideoError::Full { frames: 2, .. })));
        let limit = video.limit_bytes;
        assert_eq!(video.finish().unwrap().bytes, limit);
        assert_eq!(parse(&std::fs::read(&path).unwrap()).len(), 2);
    }

    #[test]
    fn stamps_that_run_backwards_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let mut video = VideoWriter::create(&folder.path().join("back.avi"), 8, 8).unwrap();
        video.push_jpeg(i64::MAX, &[0xFF, 0xD8]).unwrap();
        video.push_jpeg(i64::MIN, &[0xFF, 0xD8]).unwrap();
        assert_eq!(video.finish().unwrap().frame_us, DEFAULT_FRAME_US);
    }

    #[test]
    fn a_folder_takes_pictures_by_tick() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = PictureFolder::create(&folder.path().join("a/b")).unwrap();
        let path = pictures.push(42, &Canvas::new(8, 8, Colour::WHITE).unwrap(), 90).unwrap();
        assert!(path.ends_with("a/b/tick_000042.jpg"));
        assert!(std::fs::read(path).unwrap().starts_with(&[0xFF, 0xD8]));
    }
}
