//! Videos: the H.264 access units of an MP4 file or of a bare stream (`.h264`), copied as they are.
//!
//! They go into the log in decoding order, each stamped with when it is shown: by the file's own stamps, or at a rate
//! where there are none. The first camera of the rig that was given takes them, or else the default camera. The time 0
//! of the video is 1 s in the log, since a stamp of 0 marks a missing one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use catseye_calibration::rig::{PictureFormat, Rig};
use catseye_sensors::mp4::{AccessUnit, Mp4Error, Mp4Video};
use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::picture::h264::{H264Decoder, Reorder};
use catseye_sensors::picture::{Frame, Limits};
use foxglove::messages::CompressedVideo;

use super::target::Target;
use super::{DEFAULT_CAMERA, ImportError, ImportReport, Job, default_rig, files, rate_of, stamp_at_rate};
use crate::log::packet::{StampInfo, video_message};
use crate::log::writer::ChannelId;

/// Stamp of the video's time 0.
const START_NS: i64 = super::FIRST_NS;
/// Rate of a stream without stamps.
const RATE_HZ: f64 = 30.0;
/// Access units that are looked at to find the rate or the size.
const MAX_PROBED: usize = 64;
/// Longest part of a bare stream without a start code.
const MAX_NAL_BYTES: usize = 64 << 20;

/// The stamps of an MP4 file: who made them is not known.
const FILE_STAMPS: StampInfo = StampInfo { clock: ClockId::Unknown, kind: StampKind::Arrival, uncertainty_ns: 0 };

/// Imports one file.
pub(super) fn import(job: Job<'_>) -> Result<ImportReport, ImportError> {
    if files::ending(job.src) == "h264" { import_stream(job) } else { import_mp4(job) }
}

fn import_mp4(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let mut video = Mp4Video::open(src).map_err(|error| unreadable(src, error))?;
    let rate_hz = probe_rate_hz(&mut video);
    let size_px = (video.width_px(), video.height_px());
    let mut target = Output::create(job, size_px, rate_hz, &FILE_STAMPS)?;
    target.log.assume("The file's stamps name when a picture is shown, from 1 s on; their clock is not known.");
    let total = video.len() as u64;
    let mut unit = AccessUnit::default();
    for done in 0..=total {
        if !target.log.advance(done, total) {
            break;
        }
        match video.next_unit(&mut unit) {
            Ok(true) => target.put(START_NS.saturating_add(unit.pts_ns), &unit.bytes)?,
            Ok(false) => break,
            Err(error @ Mp4Error::Io { .. }) => return Err(unreadable(src, error)),
            Err(Mp4Error::CutOff { .. }) => target.log.skip("access units", "they lie behind the end of the file"),
            Err(_) => target.log.skip("access units", "they are not made of whole NAL units"),
        }
    }
    target.log.finish()
}

fn unreadable(src: &Path, error: Mp4Error) -> ImportError {
    match error {
        Mp4Error::Io { cause, .. } => ImportError::Io { path: src.to_owned(), error: cause },
        error => ImportError::unexpected(src, "an MP4 file with an H.264 video", format!("another file ({error})")),
    }
}

/// Pictures per second, from the stamps of the first access units.
fn probe_rate_hz(video: &mut Mp4Video<BufReader<File>>) -> f64 {
    let mut unit = AccessUnit::default();
    let mut stamps_ns = Vec::new();
    while stamps_ns.len() < MAX_PROBED && video.next_unit(&mut unit).unwrap_or(false) {
        stamps_ns.push(unit.pts_ns);
    }
    video.rewind();
    // decoding order is not that of the stamps
    stamps_ns.sort_unstable();
    let first_ns = stamps_ns.first().copied().unwrap_or_default();
    let last_ns = stamps_ns.last().copied().unwrap_or_default();
    rate_of(stamps_ns.len() as u64, first_ns, last_ns).unwrap_or(RATE_HZ)
}

fn import_stream(job: Job<'_>) -> Result<ImportReport, ImportError> {
    let src = job.src;
    let rate_hz = job.rate_hz(RATE_HZ)?;
    let io = |error| ImportError::Io { path: src.to_owned(), error };
    let size_px = stream_size_px(File::open(src).map_err(io)?).map_err(io)?;
    let Some(size_px) = size_px else {
        let found = format!("none in the first {MAX_PROBED} access units");
        return Err(ImportError::unexpected(src, "an H.264 stream with a key picture that can be decoded", found));
    };
    let file = File::open(src).map_err(io)?;
    let total = file.metadata().map_err(io)?.len();
    let mut target = Output::create(job, size_px, rate_hz, &StampInfo::SYNTHETIC)?;
    target.log.assume(format!(
        "The stream has no stamps: its pictures are {rate_hz} per second, from 1 s on, and are shown in decoding order."
    ));
    let mut stream = AnnexB::new(file);
    let mut unit = Vec::new();
    let mut index = 0;
    while target.log.advance(stream.read_bytes.min(total), total) && stream.next_unit(&mut unit).map_err(io)? {
        target.put(stamp_at_rate(index, rate_hz), &unit)?;
        index += 1;
    }
    target.log.finish()
}

/// Width and height of the first picture of a stream that can be decoded.
fn stream_size_px(stream: impl Read) -> std::io::Result<Option<(u32, u32)>> {
    let mut stream = AnnexB::new(stream);
    let mut unit = Vec::new();
    for _ in 0..MAX_PROBED {
        if !stream.next_unit(&mut unit)? {
            break;
        }
        if let Some(size_px) = picture_size_px(&unit) {
            return Ok(Some(size_px));
        }
    }
    Ok(None)
}

/// Width and height of the key picture in an access unit that has its parameter sets; found by decoding it.
pub(super) fn picture_size_px(access_unit: &[u8]) -> Option<(u32, u32)> {
    let mut decoder = H264Decoder::new(Limits::default(), Reorder::Depth(0)).ok()?;
    let mut frame = Frame::default();
    decoder.feed(access_unit, 0).ok()?;
    decoder.finish();
    decoder.pop(&mut frame)?;
    Some((frame.width_px(), frame.height_px()))
}

/// The log and the camera's channel in it.
struct Output<'a> {
    log: Target<'a>,
    channel: ChannelId,
    camera: String,
    /// Newest stamp so far: pictures come in decoding order, arrivals never go back.
    arrival_ns: i64,
}

impl<'a> Output<'a> {
    fn create(job: Job<'a>, size_px: (u32, u32), rate_hz: f64, stamps: &StampInfo) -> Result<Self, ImportError> {
        let is_given = job.options.rig.is_some();
        let (rig, camera) = rig_and_camera(&job, size_px, rate_hz)?;
        let mut log = Target::create(job, rig)?;
        if !is_given {
            log.assume(DEFAULT_CAMERA);
        }
        let channel = log.foxglove_channel::<CompressedVideo>(&camera, stamps)?;
        Ok(Output { log, channel, camera, arrival_ns: i64::MIN })
    }

    fn put(&mut self, stamp_ns: i64, access_unit: &[u8]) -> Result<(), ImportError> {
        self.arrival_ns = self.arrival_ns.max(stamp_ns);
        let message = video_message(access_unit.to_vec(), stamp_ns, &self.camera);
        self.log.write_foxglove(self.channel, self.arrival_ns, stamp_ns, &message)
    }
}

/// The rig that was given and the name of its first camera, whose pictures must be of the video's size, or the default
/// ones for that size.
fn rig_and_camera(job: &Job<'_>, size_px: (u32, u32), rate_hz: f64) -> Result<(Rig, String), ImportError> {
    let (width_px, height_px) = size_px;
    let Some(path) = &job.options.rig else {
        return Ok((default_rig("video", size_px, PictureFormat::H264, rate_hz), "front".to_owned()));
    };
    let rig = Rig::load(path)?;
    let expected = format!("a camera of {width_px} x {height_px} pixels, as the video has, first in the rig");
    let Some(camera) = rig.cameras.first() else {
        return Err(ImportError::unexpected(path, expected, "no camera"));
    };
    if (camera.width_px, camera.height_px) != size_px {
        let found = format!("{} with {} x {}", camera.name, camera.width_px, camera.height_px);
        return Err(ImportError::unexpected(path, expected, found));
    }
    let name = camera.name.clone();
    Ok((rig, name))
}

/// Cuts a bare stream (ITU-T H.264, annex B) into access units, holding one at a time.
struct AnnexB<R> {
    reader: R,
    /// Bytes that were read and belong to no NAL unit given out; they begin behind a start code once `is_synced`.
    buffer: Vec<u8>,
    /// No start code begins before this byte of the buffer.
    scanned: usize,
    is_synced: bool,
    is_ended: bool,
    /// The NAL unit that begins the next access unit.
    held: Option<Vec<u8>>,
    read_bytes: u64,
}

impl<R: Read> AnnexB<R> {
    fn new(reader: R) -> Self {
        AnnexB { reader, buffer: Vec::new(), scanned: 0, is_synced: false, is_ended: false, held: None, read_bytes: 0 }
    }

    /// Reads the next access unit, with a start code of four bytes before every NAL unit; false behind the last one.
    fn next_unit(&mut self, unit: &mut Vec<u8>) -> std::io::Result<bool> {
        unit.clear();
        let mut has_picture = false;
        let mut next = match self.held.take() {
            Some(nal) => Some(nal),
            None => self.next_nal()?,
        };
        while let Some(nal) = next {
            if has_picture && begins_unit(&nal) {
                self.held = Some(nal);
                return Ok(true);
            }
            has_picture |= is_slice(&nal);
            unit.extend_from_slice(&[0, 0, 0, 1]);
            unit.extend_from_slice(&nal);
            next = self.next_nal()?;
        }
        Ok(!unit.is_empty())
    }

    /// The next NAL unit without its start code.
    fn next_nal(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(start) = start_code(&self.buffer, self.scanned) {
                let behind = self.buffer.split_off(start.saturating_add(START_CODE.len()));
                let mut nal = std::mem::replace(&mut self.buffer, behind);
                nal.truncate(start);
                self.scanned = 0;
                let is_nal = std::mem::replace(&mut self.is_synced, true);
                if is_nal && trim(&mut nal) {
                    return Ok(Some(nal));
                }
            } else if self.is_ended {
                let mut nal = std::mem::take(&mut self.buffer);
                self.scanned = 0;
                return Ok((self.is_synced && trim(&mut nal)).then_some(nal));
            } else {
                // the first two bytes of a start code may be there already
                self.scanned = self.buffer.len().saturating_sub(START_CODE.len() - 1);
                self.fill()?;
            }
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        const STEP_BYTES: u64 = 1 << 16;
        if self.buffer.len() > MAX_NAL_BYTES {
            let message = format!("expected a start code within {MAX_NAL_BYTES} bytes, found none");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        let read = self.reader.by_ref().take(STEP_BYTES).read_to_end(&mut self.buffer)?;
        self.is_ended = read == 0;
        self.read_bytes = self.read_bytes.saturating_add(read as u64);
        Ok(())
    }
}

const START_CODE: [u8; 3] = [0, 0, 1];

fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let place = bytes.get(from..)?.windows(START_CODE.len()).position(|window| window == START_CODE)?;
    from.checked_add(place)
}

/// Takes off the zeros that may follow a NAL unit, which never ends in one; false when nothing is left.
fn trim(nal: &mut Vec<u8>) -> bool {
    let end = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    nal.truncate(end);
    !nal.is_empty()
}

fn kind_of(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1F)
}

fn is_slice(nal: &[u8]) -> bool {
    matches!(kind_of(nal), 1 | 2 | 5)
}

/// Whether a NAL unit behind a picture begins the next access unit (ITU-T H.264, 7.4.1.2.3): it comes before pictures,
/// or is a slice that starts at the picture's first macroblock, whose number 0 is coded as a single set bit.
fn begins_unit(nal: &[u8]) -> bool {
    let is_first_slice = is_slice(nal) && nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
    is_first_slice || matches!(kind_of(nal), 6..=9 | 14..=18)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::comma2k19::tests::Contents;
    use super::super::{ImportKind, ImportOptions, import};
    use super::*;

    const VIDEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/camera/carnd/solidWhiteRight.mp4");
    const TOPIC: &str = "/camera/front/image";

    fn import_to(src: &Path, out: &Path, options: &ImportOptions<'_>) -> Result<ImportReport, ImportError> {
        import(ImportKind::Video, src, out, options, &mut |_, _| {})
    }

    fn units(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut stream = AnnexB::new(bytes);
        let mut units = Vec::new();
        let mut unit = Vec::new();
        while stream.next_unit(&mut unit).unwrap() {
            units.push(unit.clone());
        }
        units
    }

    #[test]
    fn a_stream_is_cut_at_its_pictures() {
        // Rubbish; parameters, a picture of two slices with zeros behind it; a delimiter and a picture; a picture.
        let stream = [
            &[9_u8, 9][..],
            &[0, 0, 1, 0x67, 5, 0, 0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x65, 0x40, 0, 0],
            &[0, 0, 0, 1, 0x09, 0x10, 0, 0, 1, 0x41, 0x9A],
            &[0, 0, 1, 0x41, 0x9B],
        ]
        .concat();
        let found = units(&stream);
        let first = [0, 0, 0, 1, 0x67, 5, 0, 0, 0, 1, 0x65, 0x88, 0, 0, 0, 1, 0x65, 0x40];
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], first);
        assert_eq!(found[1], [0, 0, 0, 1, 0x09, 0x10, 0, 0, 0, 1, 0x41, 0x9A]);
        assert_eq!(found[2], [0, 0, 0, 1, 0x41, 0x9B]);
        assert!(units(b"no start code here").is_empty());
        assert!(units(&[]).is_empty());
    }

    #[test]
    fn start_codes_across_reads_are_found() {
        let picture = |length: usize| [&[0_u8, 0, 0, 1, 0x41, 0x9A][..], vec![7_u8; length].as_slice()].concat();
        for length in [(1 << 16) - 9, (1 << 16) - 8, (1 << 16) - 7, (1 << 16) - 6, 1 << 17] {
            let stream = [picture(length), picture(3)].concat();
            assert_eq!(units(&stream), [picture(length), picture(3)]);
        }
    }

    #[test]
    fn a_video_is_copied_with_its_stamps() {
        let src = Path::new(VIDEO);
        if !src.is_file() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        let report = import_to(src, &out, &ImportOptions::default()).unwrap();
        assert!(report.messages.contains(&(TOPIC.to_owned(), 221)));
        assert_eq!((report.rig.cameras[0].rate_hz, report.rig.cameras[0].width_px), (25.0, 960));
        let contents = Contents::read(&out);
        assert_eq!(contents.rig(), report.rig);
        let times: Vec<(i64, i64)> = (0..221).map(|index| START_NS + index * 40_000_000).map(|ns| (ns, ns)).collect();
        assert_eq!(contents.messages[TOPIC], times);

        // the same pictures as a bare stream
        let mut video = Mp4Video::open(src).unwrap();
        let (mut unit, mut bare) = (AccessUnit::default(), Vec::new());
        while video.next_unit(&mut unit).unwrap() {
            bare.extend_from_slice(&unit.bytes);
        }
        let stream = folder.path().join("video.h264");
        std::fs::write(&stream, bare).unwrap();
        let options = ImportOptions { rate_hz: Some(25.0), ..ImportOptions::default() };
        let report = import_to(&stream, &out, &options).unwrap();
        assert_eq!((report.rig.cameras[0].width_px, report.rig.cameras[0].height_px), (960, 540));
        // a mismatch would print megabytes
        assert!(Contents::read(&out).data[TOPIC] == contents.data[TOPIC]);
    }

    #[test]
    fn a_rig_for_pictures_of_another_size_is_refused() {
        let src = Path::new(VIDEO);
        if !src.is_file() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let rig = folder.path().join("rig.toml");
        std::fs::write(&rig, Rig::default_camera(640, 480).to_toml()).unwrap();
        let options = ImportOptions { rig: Some(rig), ..ImportOptions::default() };
        let error = import_to(src, &folder.path().join("log.mcap"), &options).unwrap_err().to_string();
        assert!(error.contains("960 x 540") && error.contains("found front with 640 x 480"), "{error}");
    }

    #[test]
    fn a_stopped_import_is_a_whole_log() {
        let src = Path::new(VIDEO);
        if !src.is_file() {
            eprintln!("skipped: ../shared is absent");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        let stop = AtomicBool::new(false);
        let options = ImportOptions { stop: Some(&stop), ..ImportOptions::default() };
        let mut progress = |done: u64, total: u64| {
            assert_eq!(total, 221);
            stop.store(done >= 10, std::sync::atomic::Ordering::Relaxed);
        };
        let report = import(ImportKind::Video, src, &out, &options, &mut progress).unwrap();
        assert!(report.stopped);
        assert_eq!(Contents::read(&out).count(TOPIC), 10);
    }

    #[test]
    fn what_is_no_video_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.mcap");
        for (name, expected) in [("a.mp4", "an MP4 file with an H.264 video"), ("a.h264", "an H.264 stream")] {
            let src = folder.path().join(name);
            std::fs::write(&src, b"no video at all").unwrap();
            let error = import_to(&src, &out, &ImportOptions::default()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(expected), "{error}");
            assert!(!out.exists());
        }
        let missing = import_to(Path::new("/no/such.mp4"), &out, &ImportOptions::default()).unwrap_err();
        assert!(matches!(missing, ImportError::Io { .. }));
        let error = unreadable(Path::new("b.mp4"), Mp4Error::H265).to_string();
        assert!(error.contains("ffmpeg -i in.mp4 -c:v libx264 out.mp4"), "{error}");
    }
}
