//! MP4 files: the H.264 access units of the first video track, in decoding order, with their stamps.
//!
//! A file (or bytes in memory) goes in; [`Mp4Video::next_unit`] gives one access unit after the other as Annex B bytes for
//! [`crate::picture::h264::H264Decoder`]. Only the index (`moov`) is held in memory; the pictures' bytes are read by
//! their offset when they are asked for. Every size and offset in the file is checked before it is used, so no file can
//! cause a panic or an allocation larger than the bounds below. Boxes are read after ISO/IEC 14496-12 and 14496-15.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use crate::picture::H265_ADVICE;

/// Largest index (`moov` box) that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Most pictures in one file: six days at 30 pictures a second.
const MAX_SAMPLES: usize = 1 << 24;

/// Largest access unit that is read, in bytes.
const MAX_SAMPLE_BYTES: u32 = 64 << 20;

/// Most pictures that may be out of order (ITU-T H.264, A.3.1).
const MAX_REORDER: usize = 16;

/// Why a file gave no video, or a video no access unit.
#[derive(Debug, thiserror::Error)]
pub enum Mp4Error {
    /// The file cannot be read.
    #[error("cannot read {name}: {cause}")]
    Io {
        /// The file, or `memory`.
        name: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A box that every video has is missing.
    #[error("expected an MP4 file with a `{wanted}` box, found none")]
    Missing {
        /// The four letters of the box.
        wanted: &'static str,
    },
    /// The file has no video track.
    #[error("expected an MP4 file with a video track, found none")]
    NoVideo,
    /// A box does not hold what it must.
    #[error("expected a valid `{box_name}` box, found {found}")]
    Malformed {
        /// The four letters of the box.
        box_name: String,
        /// What is wrong.
        found: &'static str,
    },
    /// The index is too large.
    #[error("expected an index (`moov` box) of at most {MAX_INDEX_BYTES} bytes, found {found}")]
    IndexTooLarge {
        /// Bytes of the box.
        found: u64,
    },
    /// The video is H.265.
    #[error("expected H.264 video, found H.265: {H265_ADVICE}")]
    H265,
    /// The video is neither H.264 nor H.265.
    #[error("expected H.264 video (avc1 or avc3), found `{found}`: {H265_ADVICE}")]
    Codec {
        /// The four letters of the sample entry.
        found: String,
    },
    /// The index is spread over the file.
    #[error("expected one index, found a fragmented MP4 file: convert it with `ffmpeg -i in.mp4 -c copy out.mp4`")]
    Fragmented,
    /// Parts of the track are cut out or repeated.
    #[error(
        "expected a track played once from one start, found {found} edits: convert it with `ffmpeg -i in.mp4 -c:v libx264 out.mp4`"
    )]
    Edits {
        /// Edits that play something.
        found: usize,
    },
    /// The pictures are not shown the way they are coded, as those of a telephone held upright.
    #[error("expected pictures that are shown as they are coded, found a track that turns them: {H265_ADVICE}")]
    Turned,
    /// The stamp of a picture does not fit 64 bits of nanoseconds.
    #[error("expected stamps that fit 64 bits of nanoseconds, found one that does not at access unit {index}")]
    Stamp {
        /// Number of the access unit in decoding order, from 0.
        index: usize,
    },
    /// The file ends before the access unit does.
    #[error("expected access unit {index} to end at byte {end} of the file, found a file of {found} bytes")]
    CutOff {
        /// Number of the access unit in decoding order, from 0.
        index: usize,
        /// Where it should end.
        end: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The parts of an access unit do not add up to its size.
    #[error("expected access unit {index} to be made of whole NAL units, found one of {wanted} bytes with {left} left")]
    Unit {
        /// Number of the access unit in decoding order, from 0.
        index: usize,
        /// Bytes that the NAL unit's length asks for.
        wanted: usize,
        /// Bytes left in the access unit.
        left: usize,
    },
}

/// One access unit: everything that is coded of one picture. Meant to be reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessUnit {
    /// Annex B bytes; the parameter sets of the file's header come before every key picture.
    pub bytes: Vec<u8>,
    /// When the picture is shown, in nanoseconds from the start of the presentation. Negative for a picture that is
    /// needed for decoding but lies before the start that the file's edit list sets.
    pub pts_ns: i64,
    /// True if decoding can start here.
    pub is_key: bool,
}

/// Where one access unit lies and when it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    offset: u64,
    bytes: u32,
    pts_ns: i64,
    is_key: bool,
}

/// The index of a video track.
#[derive(Clone, Debug, Default)]
struct Track {
    width_px: u32,
    height_px: u32,
    /// Annex B bytes of the parameter sets in the header.
    parameter_sets: Vec<u8>,
    /// Bytes of the length in front of every NAL unit: 1, 2 or 4.
    length_bytes: usize,
    samples: Vec<Sample>,
}

/// An open video.
pub struct Mp4Video<R> {
    name: String,
    reader: R,
    file_bytes: u64,
    track: Track,
    next: usize,
    sample: Vec<u8>,
}

impl Mp4Video<BufReader<File>> {
    /// Opens a file and reads its index.
    ///
    /// # Errors
    /// An [`Mp4Error`] that says why the file has no video that can be decoded.
    pub fn open(path: &Path) -> Result<Mp4Video<BufReader<File>>, Mp4Error> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Mp4Video::new(BufReader::new(file), name),
            Err(cause) => Err(Mp4Error::Io { name, cause }),
        }
    }
}

impl<'a> Mp4Video<Cursor<&'a [u8]>> {
    /// Reads the index of a file that is in memory.
    ///
    /// # Errors
    /// An [`Mp4Error`] that says why the bytes hold no video that can be decoded.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Mp4Video<Cursor<&'a [u8]>>, Mp4Error> {
        Mp4Video::new(Cursor::new(bytes), "memory".to_string())
    }
}

impl<R: Read + Seek> Mp4Video<R> {
    /// Reads the index from `reader`; `name` stands for it in errors.
    ///
    /// # Errors
    /// An [`Mp4Error`] that says why there is no video that can be decoded.
    pub fn new(mut reader: R, name: String) -> Result<Mp4Video<R>, Mp4Error> {
        let file_bytes = match reader.seek(SeekFrom::End(0)) {
            Ok(bytes) => bytes,
            Err(cause) => return Err(Mp4Error::Io { name, cause }),
        };
        let index = read_index(&mut reader, file_bytes, &name)?;
        let track = Track::read(&index, file_bytes)?;
        Ok(Mp4Video { name, reader, file_bytes, track, next: 0, sample: Vec::new() })
    }

    /// Width in pixels, as the container says; the decoded pictures have the last word.
    pub fn width_px(&self) -> u32 {
        self.track.width_px
    }

    /// Height in pixels, as the container says.
    pub fn height_px(&self) -> u32 {
        self.track.height_px
    }

    /// Number of access units.
    pub fn len(&self) -> usize {
        self.track.samples.len()
    }

    /// True if the track holds no access unit.
    pub fn is_empty(&self) -> bool {
        self.track.samples.is_empty()
    }

    /// The most pictures that are decoded before one that is shown earlier: what
    /// [`crate::picture::h264::Reorder::Depth`] needs to know, exactly, from the stamps of the whole file. At most 16.
    pub fn reorder_depth(&self) -> u8 {
        // Sorted, the latest stamps so far; no more than 16 of them can matter.
        let mut latest: Vec<i64> = Vec::with_capacity(MAX_REORDER + 1);
        let mut depth = 0;
        for sample in &self.track.samples {
            let place = latest.partition_point(|stamp| *stamp <= sample.pts_ns);
            depth = depth.max(latest.len().saturating_sub(place));
            latest.insert(place, sample.pts_ns);
            if latest.len() > MAX_REORDER {
                latest.remove(0);
            }
        }
        u8::try_from(depth).unwrap_or(u8::MAX)
    }

    /// Starts again at the first access unit.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Reads the next access unit in decoding order into `unit`; false behind the last one.
    ///
    /// # Errors
    /// An [`Mp4Error`] if this access unit cannot be read; the next call goes on with the one behind it.
    pub fn next_unit(&mut self, unit: &mut AccessUnit) -> Result<bool, Mp4Error> {
        let index = self.next;
        let Some(&sample) = self.track.samples.get(index) else {
            return Ok(false);
        };
        self.next = index.saturating_add(1);
        let end = sample.offset.saturating_add(u64::from(sample.bytes));
        if end > self.file_bytes {
            return Err(Mp4Error::CutOff { index, end, found: self.file_bytes });
        }
        self.sample.resize(sample.bytes as usize, 0);
        let read =
            self.reader.seek(SeekFrom::Start(sample.offset)).and_then(|_| self.reader.read_exact(&mut self.sample));
        read.map_err(|cause| Mp4Error::Io { name: self.name.clone(), cause })?;
        unit.bytes.clear();
        unit.pts_ns = sample.pts_ns;
        unit.is_key = sample.is_key;
        if sample.is_key {
            unit.bytes.extend_from_slice(&self.track.parameter_sets);
        }
        append_annex_b(&mut unit.bytes, &self.sample, self.track.length_bytes, index)?;
        Ok(true)
    }
}

/// Turns NAL units with a length in front into NAL units with a start code in front.
fn append_annex_b(to: &mut Vec<u8>, sample: &[u8], length_bytes: usize, index: usize) -> Result<(), Mp4Error> {
    let mut rest = sample;
    while !rest.is_empty() {
        let cut = |wanted: usize| Mp4Error::Unit { index, wanted, left: rest.len() };
        let (length, behind) = rest.split_at_checked(length_bytes).ok_or_else(|| cut(length_bytes))?;
        let wanted = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let (unit, behind) = behind.split_at_checked(wanted).ok_or_else(|| cut(wanted))?;
        if !unit.is_empty() {
            append_unit(to, unit);
        }
        rest = behind;
    }
    Ok(())
}

fn append_unit(to: &mut Vec<u8>, unit: &[u8]) {
    to.extend_from_slice(&[0, 0, 0, 1]);
    to.extend_from_slice(unit);
}

/// Finds the `moov` box among the boxes of the file and reads what is in it.
fn read_index<R: Read + Seek>(reader: &mut R, file_bytes: u64, name: &str) -> Result<Vec<u8>, Mp4Error> {
    let io = |cause| Mp4Error::Io { name: name.to_string(), cause };
    let mut position = 0_u64;
    while file_bytes.saturating_sub(position) >= 8 {
        reader.seek(SeekFrom::Start(position)).map_err(io)?;
        let mut header = [0; 16];
        let header_bytes = if file_bytes - position >= 16 { 16 } else { 8 };
        let (read, _) = header.split_at_mut(header_bytes);
        reader.read_exact(read).map_err(io)?;
        let [s0, s1, s2, s3, k0, k1, k2, k3, long @ ..] = header;
        let kind = [k0, k1, k2, k3];
        let (body_from, size) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (8, file_bytes - position),
            1 => (16, u64::from_be_bytes(long)),
            size => (8, u64::from(size)),
        };
        if size < body_from {
            return Err(Mp4Error::Malformed { box_name: letters(kind), found: "a size smaller than its header" });
        }
        if kind == *b"moov" {
            return read_body(reader, position, body_from, size, file_bytes).map_err(io)?;
        }
        if kind == *b"moof" {
            return Err(Mp4Error::Fragmented);
        }
        position = position.saturating_add(size);
    }
    Err(Mp4Error::Missing { wanted: "moov" })
}

/// Reads the body of the index box. The outer result is the system's, the inner one is about what the file says.
fn read_body<R: Read + Seek>(
    reader: &mut R,
    position: u64,
    body_from: u64,
    size: u64,
    file_bytes: u64,
) -> std::io::Result<Result<Vec<u8>, Mp4Error>> {
    if size > MAX_INDEX_BYTES {
        return Ok(Err(Mp4Error::IndexTooLarge { found: size }));
    }
    if size > file_bytes.saturating_sub(position) {
        return Ok(Err(Mp4Error::Malformed { box_name: "moov".to_string(), found: "a size larger than the file" }));
    }
    let mut body = vec![0; (size - body_from) as usize];
    reader.seek(SeekFrom::Start(position + body_from))?;
    reader.read_exact(&mut body)?;
    Ok(Ok(body))
}

/// The four letters of a box, anything else than letters and digits shown as a dot.
fn letters(kind: [u8; 4]) -> String {
    kind.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }).collect()
}

fn malformed(box_name: &str, found: &'static str) -> Mp4Error {
    Mp4Error::Malformed { box_name: box_name.to_string(), found }
}

/// The body of the first box of this kind in `bytes`, if there is one.
fn find<'a>(bytes: &'a [u8], kind: &str) -> Result<Option<&'a [u8]>, Mp4Error> {
    for entry in (Boxes { rest: bytes }) {
        let (found, body) = entry?;
        if found == kind.as_bytes() {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// The same for a box that must be there.
fn need<'a>(bytes: &'a [u8], kind: &'static str) -> Result<&'a [u8], Mp4Error> {
    find(bytes, kind)?.ok_or(Mp4Error::Missing { wanted: kind })
}

/// The boxes that lie side by side in some bytes: their letters and what is in them.
struct Boxes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<([u8; 4], &'a [u8]), Mp4Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a header are padding that some writers leave.
        let (&[s0, s1, s2, s3, k0, k1, k2, k3], behind) = self.rest.split_first_chunk::<8>()?;
        let kind = [k0, k1, k2, k3];
        let (size, body) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (Some(behind.len() as u64), behind),
            1 => match behind.split_first_chunk::<8>() {
                Some((long, body)) => (u64::from_be_bytes(*long).checked_sub(16), body),
                None => (None, behind),
            },
            size => (u64::from(size).checked_sub(8), behind),
        };
        let size = size.and_then(|size| usize::try_from(size).ok());
        match size.and_then(|size| body.split_at_checked(size)) {
            Some((body, rest)) => {
                self.rest = rest;
                Some(Ok((kind, body)))
            }
            None => {
                self.rest = &[];
                Some(Err(Mp4Error::Malformed { box_name: letters(kind), found: "a size that does not fit" }))
            }
        }
    }
}

/// Big-endian numbers one after the other; every read gives none behind the end.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }
}

/// The entries of a table box (`version and flags, count, entries`): as many as the count says, `N` numbers each.
fn table<const N: usize>(bytes: &[u8], name: &str) -> Result<Vec<[u32; N]>, Mp4Error> {
    let mut fields = Fields { rest: bytes };
    let header = fields.u32().and_then(|_| fields.u32());
    let count = header.ok_or_else(|| malformed(name, "no count of entries"))? as usize;
    let entries = fields.rest.chunks_exact(4 * N);
    if entries.len() < count {
        return Err(malformed(name, "fewer entries than its count says"));
    }
    let read = entries.take(count).map(|entry| {
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(entry.as_chunks::<4>().0) {
            *number = u32::from_be_bytes(*bytes);
        }
        numbers
    });
    Ok(read.collect())
}

/// Writes run-length pairs `[count, value]` out as `wanted` values.
fn expand_runs(runs: &[[u32; 2]], wanted: usize, name: &str) -> Result<Vec<u32>, Mp4Error> {
    let mut values = Vec::with_capacity(wanted);
    for &[count, value] in runs {
        let room = wanted.saturating_sub(values.len());
        values.extend(std::iter::repeat_n(value, room.min(count as usize)));
    }
    if values.len() < wanted {
        return Err(malformed(name, "fewer entries than there are access units"));
    }
    Ok(values)
}

impl Track {
    /// Reads the first video track of an index.
    fn read(index: &[u8], file_bytes: u64) -> Result<Track, Mp4Error> {
        let movie_timescale = find(index, "mvhd")?.map_or(Ok(1), |header| timescale(header, "mvhd"))?;
        let fragmented = find(index, "mvex")?.is_some();
        for entry in (Boxes { rest: index }) {
            let (kind, body) = entry?;
            if kind != *b"trak" {
                continue;
            }
            let media = need(body, "mdia")?;
            let handler = need(media, "hdlr")?;
            if handler.get(8..12) == Some(b"vide") {
                let track = Track::read_video(body, media, movie_timescale, file_bytes)?;
                return if fragmented && track.samples.is_empty() { Err(Mp4Error::Fragmented) } else { Ok(track) };
            }
        }
        Err(Mp4Error::NoVideo)
    }

    fn read_video(body: &[u8], media: &[u8], movie_timescale: u32, file_bytes: u64) -> Result<Track, Mp4Error> {
        refuse_turned(body)?;
        let clock =
            Clock { timescale: timescale(need(media, "mdhd")?, "mdhd")?, movie_timescale, edit: read_edits(body)? };
        let tables = need(need(media, "minf")?, "stbl")?;
        let mut track = read_sample_entry(need(tables, "stsd")?)?;
        let sizes = read_sizes(need(tables, "stsz")?, file_bytes)?;
        let offsets = read_offsets(tables, &sizes)?;
        let durations = expand_runs(&table::<2>(need(tables, "stts")?, "stts")?, sizes.len(), "stts")?;
        let shifts = match find(tables, "ctts")? {
            Some(bytes) => expand_runs(&table::<2>(bytes, "ctts")?, sizes.len(), "ctts")?,
            None => vec![0; sizes.len()],
        };
        let keys = find(tables, "stss")?.map(|bytes| table::<1>(bytes, "stss")).transpose()?;
        let mut keys = keys.map(|numbers| numbers.into_iter().peekable());
        let mut decoding_time = 0_i64;
        track.samples.reserve_exact(sizes.len());
        for (index, (((bytes, offset), duration), shift)) in
            sizes.into_iter().zip(offsets).zip(durations).zip(shifts).enumerate()
        {
            let number = index.saturating_add(1);
            let is_key = keys.as_mut().is_none_or(|keys| {
                while keys.next_if(|[key]| (*key as usize) < number).is_some() {}
                keys.next_if(|[key]| *key as usize == number).is_some()
            });
            // Version 0 of the box calls the shift unsigned, but writers store negative ones there too.
            let shown = decoding_time.checked_add(i64::from(shift.cast_signed()));
            let pts_ns = shown.and_then(|shown| clock.nanoseconds(shown)).ok_or(Mp4Error::Stamp { index })?;
            track.samples.push(Sample { offset, bytes, pts_ns, is_key });
            decoding_time = decoding_time.checked_add(i64::from(duration)).ok_or(Mp4Error::Stamp { index })?;
        }
        Ok(track)
    }
}

/// How media time becomes presentation time.
struct Clock {
    timescale: u32,
    movie_timescale: u32,
    edit: Edit,
}

/// What an edit list says, for a track that is played once from one start.
#[derive(Clone, Copy, Default)]
struct Edit {
    /// Nothing is shown for this long, in units of the movie.
    delay: u64,
    /// Media time at which the presentation starts, in units of the track.
    start: i64,
}

impl Clock {
    /// Nanoseconds, rounded down, of a media time in units of the track.
    fn nanoseconds(&self, media_time: i64) -> Option<i64> {
        const NS: i128 = 1_000_000_000;
        let shown = i128::from(media_time) - i128::from(self.edit.start);
        let delay_ns = i128::from(self.edit.delay) * NS / i128::from(self.movie_timescale.max(1));
        let shown_ns = (shown * NS).div_euclid(i128::from(self.timescale.max(1)));
        i64::try_from(shown_ns + delay_ns).ok()
    }
}

/// Units a second, out of an `mvhd` or `mdhd` box.
fn timescale(header: &[u8], name: &str) -> Result<u32, Mp4Error> {
    let mut fields = Fields { rest: header };
    let times_bytes = if fields.u32().is_some_and(|version_flags| version_flags >> 24 == 1) { 16 } else { 8 };
    let timescale = fields.take(times_bytes).and_then(|_| fields.u32());
    match timescale {
        Some(timescale) if timescale > 0 => Ok(timescale),
        Some(_) => Err(malformed(name, "a clock of 0 units a second")),
        None => Err(malformed(name, "no clock")),
    }
}

/// Refuses a track whose header turns or mirrors the pictures when they are shown, which the decoded ones are not.
fn refuse_turned(track: &[u8]) -> Result<(), Mp4Error> {
    let Some(header) = find(track, "tkhd")? else { return Ok(()) };
    let short = || malformed("tkhd", "no matrix");
    let mut fields = Fields { rest: header };
    // times, number and length are longer in version 1; layer, group and volume follow
    let before_matrix = if fields.u32().ok_or_else(short)? >> 24 == 1 { 48 } else { 36 };
    fields.take(before_matrix).ok_or_else(short)?;
    // its rows are (a, b, u), (c, d, v), (x, y, w): shown at (a x + c y, b x + d y)
    let mut matrix = [0_i32; 5];
    for number in &mut matrix {
        *number = fields.u32().ok_or_else(short)?.cast_signed();
    }
    let [a, b, _, c, d] = matrix;
    if b != 0 || c != 0 || a < 0 || d < 0 { Err(Mp4Error::Turned) } else { Ok(()) }
}

/// Reads the edit list of a track. The end of an edit is not applied: no picture is left out.
fn read_edits(track: &[u8]) -> Result<Edit, Mp4Error> {
    const NOTHING_SHOWN: i64 = -1;
    let Some(edits) = find(track, "edts")? else { return Ok(Edit::default()) };
    let Some(list) = find(edits, "elst")? else { return Ok(Edit::default()) };
    let short = || malformed("elst", "fewer entries than its count says");
    let mut fields = Fields { rest: list };
    let long = fields.u32().ok_or_else(short)? >> 24 == 1;
    let count = fields.u32().ok_or_else(short)?;
    let mut edit = Edit::default();
    let mut played = 0_usize;
    for _ in 0..count {
        let (duration, start) = if long {
            (fields.u64().ok_or_else(short)?, fields.u64().ok_or_else(short)?.cast_signed())
        } else {
            let duration = u64::from(fields.u32().ok_or_else(short)?);
            (duration, i64::from(fields.u32().ok_or_else(short)?.cast_signed()))
        };
        let rate = fields.u32().ok_or_else(short)?;
        if start == NOTHING_SHOWN && played == 0 {
            edit.delay = edit.delay.saturating_add(duration);
            continue;
        }
        played = played.saturating_add(1);
        edit.start = start;
        // The rate is 16.16 fixed point; anything but 1 is slow motion or a still.
        if rate != 1 << 16 || start < 0 {
            return Err(malformed("elst", "an edit that does not play forwards at normal speed"));
        }
    }
    if played > 1 {
        return Err(Mp4Error::Edits { found: played });
    }
    Ok(edit)
}

/// Reads the first sample entry: codec, size and parameter sets.
fn read_sample_entry(descriptions: &[u8]) -> Result<Track, Mp4Error> {
    let entries = descriptions.get(8..).ok_or_else(|| malformed("stsd", "no entry"))?;
    let first = Boxes { rest: entries }.next().ok_or_else(|| malformed("stsd", "no entry"))?;
    let (kind, entry) = first?;
    match &kind {
        b"avc1" | b"avc3" => {}
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => return Err(Mp4Error::H265),
        _ => return Err(Mp4Error::Codec { found: letters(kind) }),
    }
    // A visual sample entry is 78 bytes: 24 of no interest, width, height, and 50 more.
    let short = || malformed("avc1", "fewer bytes than a picture's description has");
    let mut fields = Fields { rest: entry };
    fields.take(24).ok_or_else(short)?;
    let width_px = u32::from(fields.u16().ok_or_else(short)?);
    let height_px = u32::from(fields.u16().ok_or_else(short)?);
    fields.take(50).ok_or_else(short)?;
    let configuration = need(fields.rest, "avcC")?;
    let (length_bytes, parameter_sets) =
        read_configuration(configuration).ok_or_else(|| malformed("avcC", "fewer bytes than its lengths say"))?;
    if length_bytes == 3 {
        return Err(malformed("avcC", "lengths of 3 bytes"));
    }
    Ok(Track { width_px, height_px, parameter_sets, length_bytes, samples: Vec::new() })
}

/// Bytes of a NAL unit's length, and the parameter sets as Annex B bytes (ISO/IEC 14496-15, 5.3.3.1).
fn read_configuration(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut fields = Fields { rest: bytes };
    fields.take(4)?;
    let length_bytes = usize::from(fields.u8()? & 0b11) + 1;
    let mut parameter_sets = Vec::new();
    let sequence_sets = fields.u8()? & 0x1F;
    for _ in 0..sequence_sets {
        let bytes = fields.u16()?;
        append_unit(&mut parameter_sets, fields.take(usize::from(bytes))?);
    }
    let picture_sets = fields.u8()?;
    for _ in 0..picture_sets {
        let bytes = fields.u16()?;
        append_unit(&mut parameter_sets, fields.take(usize::from(bytes))?);
    }
    Some((length_bytes, parameter_sets))
}

/// Bytes of every access unit. A common size is written out only if the file is large enough to hold them all.
fn read_sizes(bytes: &[u8], file_bytes: u64) -> Result<Vec<u32>, Mp4Error> {
    let short = || malformed("stsz", "fewer entries than its count says");
    let mut fields = Fields { rest: bytes };
    fields.u32().ok_or_else(short)?;
    let common = fields.u32().ok_or_else(short)?;
    let count = fields.u32().ok_or_else(short)? as usize;
    if count > MAX_SAMPLES {
        return Err(malformed("stsz", "more than 16 million access units"));
    }
    if u64::from(common).saturating_mul(count as u64) > file_bytes {
        return Err(malformed("stsz", "more bytes than the file has"));
    }
    let sizes = if common > 0 {
        vec![common; count]
    } else {
        let listed = fields.rest.as_chunks::<4>().0.get(..count).ok_or_else(short)?;
        listed.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect()
    };
    if sizes.iter().any(|size| *size > MAX_SAMPLE_BYTES) {
        return Err(malformed("stsz", "an access unit of more than 64 MiB"));
    }
    Ok(sizes)
}

/// Position of every access unit in the file: they lie one after the other in chunks.
fn read_offsets(tables: &[u8], sizes: &[u32]) -> Result<Vec<u64>, Mp4Error> {
    let chunks: Vec<u64> = match (find(tables, "stco")?, find(tables, "co64")?) {
        (Some(bytes), _) => table::<1>(bytes, "stco")?.into_iter().map(|[offset]| u64::from(offset)).collect(),
        (None, Some(bytes)) => {
            let halves = table::<2>(bytes, "co64")?.into_iter();
            halves.map(|[high, low]| (u64::from(high) << 32) | u64::from(low)).collect()
        }
        (None, None) => return Err(Mp4Error::Missing { wanted: "stco" }),
    };
    let runs = table::<3>(need(tables, "stsc")?, "stsc")?;
    if runs.iter().any(|[_, _, description]| *description != 1) {
        return Err(malformed("stsc", "more than one description of the pictures"));
    }
    let mut runs = runs.into_iter().peekable();
    let mut in_chunk = 0;
    let mut offsets = Vec::with_capacity(sizes.len());
    for (index, chunk) in chunks.into_iter().enumerate() {
        while let Some([_, samples, _]) = runs.next_if(|[first, _, _]| *first as usize <= index.saturating_add(1)) {
            in_chunk = samples as usize;
        }
        let mut offset = chunk;
        let first = offsets.len();
        for size in sizes.iter().skip(first).take(in_chunk) {
            offsets.push(offset);
            offset = offset.saturating_add(u64::from(*size));
        }
    }
    if offsets.len() < sizes.len() {
        return Err(malformed("stsc", "fewer access units in chunks than there are"));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIDEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/camera/carnd/solidWhiteRight.mp4");

    fn boxed(kind: &str, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind.as_bytes());
        bytes.extend(body);
        bytes
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    /// What a file for the tests is made from.
    #[derive(Clone, Debug)]
    struct Recipe {
        codec: &'static str,
        timescale: u32,
        edits: Vec<[u32; 3]>,
        /// Payload, shift of the presentation and key flag of every sample; each lasts 10 units.
        samples: Vec<(Vec<u8>, i32, bool)>,
        per_chunk: usize,
        long_offsets: bool,
        /// What is in the track's header.
        track_header: Vec<u32>,
    }

    fn recipe(samples: Vec<(Vec<u8>, i32, bool)>) -> Recipe {
        Recipe {
            codec: "avc1",
            timescale: 1000,
            edits: Vec::new(),
            samples,
            per_chunk: 2,
            long_offsets: false,
            track_header: track_header(0, [1, 0, 0, 1]),
        }
    }

    /// A track's header of this version, with the matrix `[[a, b], [c, d]]`.
    fn track_header(version: u32, turn: [i32; 4]) -> Vec<u32> {
        let [a, b, c, d] = turn.map(|number| (number << 16).cast_unsigned());
        let mut header = vec![version << 24];
        header.resize(if version == 1 { 13 } else { 10 }, 0);
        header.extend([a, b, 0, c, d, 0, 0, 0, 1 << 30]);
        header.extend([64 << 16, 48 << 16]);
        header
    }

    /// Writes the file: `ftyp`, the pictures, then the index.
    fn write(recipe: &Recipe) -> Vec<u8> {
        let mut file = boxed("ftyp", &[b"isom", &[0; 4]]);
        let (mut data, mut shifts) = (Vec::<u8>::new(), Vec::<u32>::new());
        let (mut sizes, mut keys, mut chunks) = (Vec::<u32>::new(), Vec::<u32>::new(), Vec::<u32>::new());
        for (index, (payload, shift, is_key)) in recipe.samples.iter().enumerate() {
            if index.is_multiple_of(recipe.per_chunk) {
                chunks.push((file.len() + 8 + data.len()) as u32);
            }
            sizes.push(payload.len() as u32 + 4);
            shifts.extend([1, shift.cast_unsigned()]);
            if *is_key {
                keys.push(index as u32 + 1);
            }
            data.extend((payload.len() as u32).to_be_bytes());
            data.extend(payload);
        }
        file.extend(boxed("mdat", &[&data]));
        let count = sizes.len() as u32;
        let configuration = [1_u8, 77, 0, 10, 0xFF, 0xE1, 0, 2, 0x67, 9, 1, 0, 1, 0x68];
        let mut entry = vec![0_u8; 78];
        entry[24..28].copy_from_slice(&[0, 64, 0, 48]);
        let entry = boxed(recipe.codec, &[&entry, &boxed("avcC", &[&configuration])]);
        let offsets = if recipe.long_offsets {
            let long: Vec<u32> = chunks.iter().flat_map(|offset| [0, *offset]).collect();
            boxed("co64", &[&numbers(&[0, chunks.len() as u32]), &numbers(&long)])
        } else {
            boxed("stco", &[&numbers(&[0, chunks.len() as u32]), &numbers(&chunks)])
        };
        let tables = boxed(
            "stbl",
            &[
                &boxed("stsd", &[&numbers(&[0, 1]), &entry]),
                &boxed("stts", &[&numbers(&[0, 1, count, 10])]),
                &boxed("ctts", &[&numbers(&[0, count]), &numbers(&shifts)]),
                &boxed("stss", &[&numbers(&[0, keys.len() as u32]), &numbers(&keys)]),
                &boxed("stsc", &[&numbers(&[0, 1, 1, recipe.per_chunk as u32, 1])]),
                &boxed("stsz", &[&numbers(&[0, 0, count]), &numbers(&sizes)]),
                &offsets,
            ],
        );
        let edits = numbers(&recipe.edits.concat());
        let edits = boxed("elst", &[&numbers(&[0, recipe.edits.len() as u32]), &edits]);
        let media = boxed(
            "mdia",
            &[
                &boxed("mdhd", &[&numbers(&[0, 0, 0, recipe.timescale, 0, 0])]),
                &boxed("hdlr", &[&numbers(&[0, 0]), b"vide", &[0; 13]]),
                &boxed("minf", &[&tables]),
            ],
        );
        let track_header = boxed("tkhd", &[&numbers(&recipe.track_header)]);
        let track = boxed("trak", &[&track_header, &boxed("edts", &[&edits]), &media]);
        let header = boxed("mvhd", &[&numbers(&[0, 0, 0, 600, 0])]);
        file.extend(boxed("moov", &[&header, &track]));
        file
    }

    fn read_all(file: &[u8]) -> Vec<AccessUnit> {
        let mut video = Mp4Video::from_bytes(file).unwrap();
        let mut units = Vec::new();
        let mut unit = AccessUnit::default();
        while video.next_unit(&mut unit).unwrap() {
            units.push(unit.clone());
        }
        units
    }

    fn refusal(file: &[u8]) -> Mp4Error {
        Mp4Video::from_bytes(file).err().unwrap()
    }

    #[test]
    fn parameter_sets_come_before_key_pictures() {
        let file = write(&recipe(vec![(vec![0x65, 1], 0, true), (vec![0x41, 2, 3], 0, false)]));
        let units = read_all(&file);
        assert_eq!(units[0].bytes, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 1]);
        assert_eq!(units[1].bytes, [0, 0, 0, 1, 0x41, 2, 3]);
        let mut video = Mp4Video::from_bytes(&file).unwrap();
        assert_eq!((video.width_px(), video.height_px(), video.len()), (64, 48, 2));
        let mut unit = AccessUnit::default();
        assert!(video.next_unit(&mut unit).unwrap());
        video.rewind();
        assert!(video.next_unit(&mut unit).unwrap());
        assert_eq!(unit, units[0]);
    }

    #[test]
    fn edits_move_the_presentation() {
        let mut recipe = recipe(vec![(vec![0x65], 20, true), (vec![0x41], 40, false), (vec![0x01], 10, false)]);
        let stamps = |recipe: &Recipe| -> Vec<i64> {
            read_all(&write(recipe)).iter().map(|unit| unit.pts_ns / 1_000_000).collect()
        };
        assert_eq!(stamps(&recipe), [20, 50, 30]);
        // Half a second of nothing (in units of 1/600 s), then the media from 30 ms on.
        recipe.edits = vec![[300, u32::MAX, 1 << 16], [600, 30, 1 << 16]];
        assert_eq!(stamps(&recipe), [490, 520, 500]);
        recipe.edits.push([600, 0, 1 << 16]);
        assert!(matches!(refusal(&write(&recipe)), Mp4Error::Edits { found: 2 }));
    }

    #[test]
    fn reorder_depth_is_that_of_the_stamps() {
        let depth = |shifts: &[i32]| {
            let samples = shifts.iter().map(|shift| (vec![0x41], *shift, false)).collect();
            Mp4Video::from_bytes(&write(&recipe(samples))).unwrap().reorder_depth()
        };
        assert_eq!(depth(&[0, 0, 0, 0]), 0);
        // Shown as 10 40 20 30: one picture waits for two others, each of which overtakes only that one.
        assert_eq!(depth(&[10, 30, 0, 0]), 1);
        // Shown as 20 60 40 30 50: the second and third are overtaken by the fourth.
        assert_eq!(depth(&[20, 50, 20, 0, 10]), 2);
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        let mut recipe = recipe(vec![(vec![0x65], 0, true)]);
        recipe.codec = "hvc1";
        let h265 = refusal(&write(&recipe));
        assert!(matches!(h265, Mp4Error::H265));
        assert!(h265.to_string().contains("ffmpeg -i in.mp4 -c:v libx264 out.mp4"));
        recipe.codec = "av01";
        assert!(matches!(refusal(&write(&recipe)), Mp4Error::Codec { found } if found == "av01"));
        assert!(matches!(
            refusal(b"no video at all, only text"),
            Mp4Error::Missing { .. } | Mp4Error::Malformed { .. }
        ));
        assert!(matches!(refusal(&boxed("moof", &[])), Mp4Error::Fragmented));
    }

    #[test]
    fn a_turned_track_is_refused_with_the_command_that_turns_it() {
        let mut recipe = recipe(vec![(vec![0x65], 0, true)]);
        for version in [0, 1] {
            for turn in [[0, 1, -1, 0], [-1, 0, 0, -1], [0, -1, 1, 0], [-1, 0, 0, 1]] {
                recipe.track_header = track_header(version, turn);
                let error = refusal(&write(&recipe));
                assert!(matches!(error, Mp4Error::Turned), "{turn:?}: {error}");
                assert!(error.to_string().contains("ffmpeg -i in.mp4 -c:v libx264 out.mp4"), "{error}");
            }
            recipe.track_header = track_header(version, [1, 0, 0, 1]);
            assert_eq!(read_all(&write(&recipe)).len(), 1);
            recipe.track_header.truncate(12);
            assert!(matches!(refusal(&write(&recipe)), Mp4Error::Malformed { box_name, .. } if box_name == "tkhd"));
        }
    }

    #[test]
    fn a_cut_off_unit_is_an_error_and_the_next_one_is_read() {
        let mut file = write(&recipe(vec![(vec![0x65, 1], 0, true), (vec![0x41, 2], 0, false)]));
        // The length in front of the first NAL unit: behind `ftyp` (16 bytes) and the header of `mdat`.
        file[16 + 8 + 3] = 200;
        let mut video = Mp4Video::from_bytes(&file).unwrap();
        let mut unit = AccessUnit::default();
        let outcome = video.next_unit(&mut unit);
        assert!(matches!(outcome, Err(Mp4Error::Unit { index: 0, wanted: 200, left: 6 })), "{outcome:?}");
        assert!(video.next_unit(&mut unit).unwrap());
        assert_eq!(unit.bytes, [0, 0, 0, 1, 0x41, 2]);
        assert!(!video.next_unit(&mut unit).unwrap());
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let samples = vec![(vec![0x65; 40], 0, true), (vec![0x41; 9], 20, false), (vec![0x01; 9], 0, false)];
        let file = write(&recipe(samples));
        for length in 0..file.len() {
            assert!(Mp4Video::from_bytes(&file[..length]).is_err(), "{length}");
        }
        let mut unit = AccessUnit::default();
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                if let Ok(mut video) = Mp4Video::from_bytes(&damaged) {
                    video.reorder_depth();
                    for _ in 0..4 {
                        let _ = video.next_unit(&mut unit);
                    }
                }
            }
        }
    }

    #[test]
    fn a_real_video_is_read_from_its_file() {
        let Ok(mut video) = Mp4Video::open(Path::new(VIDEO)) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        assert_eq!((video.width_px(), video.height_px(), video.len(), video.reorder_depth()), (960, 540, 221, 0));
        let mut unit = AccessUnit::default();
        let mut index = 0;
        while video.next_unit(&mut unit).unwrap() {
            assert_eq!(unit.pts_ns, index * 40_000_000);
            assert_eq!(unit.is_key, index % 30 == 0);
            assert_eq!(unit.bytes[..4], [0, 0, 0, 1]);
            index += 1;
        }
        assert_eq!(index, 221);
    }

    #[test]
    fn an_independent_reader_finds_the_same_samples() {
        let Ok(bytes) = std::fs::read(VIDEO) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let video = Mp4Video::from_bytes(&bytes).unwrap();
        let other = re_mp4::Mp4::read_bytes(&bytes).unwrap();
        let track = other.tracks().values().find(|track| track.kind == Some(re_mp4::TrackKind::Video)).unwrap();
        assert_eq!(video.len(), track.samples.len());
        for (ours, theirs) in video.track.samples.iter().zip(&track.samples) {
            assert_eq!((ours.offset, u64::from(ours.bytes)), (theirs.offset, theirs.size));
            let pts_ns = theirs.composition_timestamp * 1_000_000_000 / theirs.timescale as i64;
            assert_eq!((ours.pts_ns, ours.is_key), (pts_ns, theirs.is_sync));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Mp4Video::open(Path::new("/no/such/video.mp4")).err().unwrap();
        assert!(error.to_string().starts_with("cannot read /no/such/video.mp4: "), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            samples in prop::collection::vec((prop::collection::vec(1_u8..=255, 1..30), -20..20_i32, any::<bool>()), 1..20),
            per_chunk in 1_usize..5,
            long_offsets in any::<bool>(),
        ) {
            let recipe = Recipe { per_chunk, long_offsets, timescale: 90_000, ..recipe(samples.clone()) };
            let units = read_all(&write(&recipe));
            prop_assert_eq!(units.len(), samples.len());
            for (index, (unit, (payload, shift, is_key))) in units.iter().zip(&samples).enumerate() {
                let ticks = index as i64 * 10 + i64::from(*shift);
                prop_assert_eq!(unit.pts_ns, (ticks * 1_000_000_000).div_euclid(90_000));
                prop_assert_eq!(unit.is_key, *is_key);
                prop_assert!(unit.bytes.ends_with(payload));
                let sets = if *is_key { 11 } else { 0 };
                prop_assert_eq!(unit.bytes.len(), sets + 4 + payload.len());
            }
        }
    }
}
