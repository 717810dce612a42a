//! H.264: access units of a video in decoding order in, I420 frames in display order out.
//!
//! [`H264Decoder::feed`] takes one access unit (Annex B) with the stamp of its picture, [`H264Decoder::pop`] gives the
//! pictures back, smallest stamp first. Every access unit that holds a picture gives exactly that picture with exactly
//! its stamp, or an error. The library gives each picture up at once, in decoding order, and the sorting is done here by
//! stamp: so a picture can never be shown with the stamp of another, however many pictures are held back.
//!
//! For that its own sorting is out of use. It holds pictures back without telling which is which, and flushing it before
//! the end of a stream uses its picture buffers up. It does not sort in the Baseline profiles, and the profile decides
//! little else there (how sequence parameters are read, and a check for layers, of which there is one); so they are
//! handed on under the number of the Scalable Baseline profile (83), whose form can say all that Main and High can.
//!
//! How many are held back follows from the stream's sequence parameters (`max_num_reorder_frames`, ITU-T H.264 E.2.1)
//! or is given by the caller, who may know it from a container or from the topic's rules.

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use super::{Frame, H265_ADVICE, Limits, PictureError, PixelFormat, copy_rows};

/// Largest access unit that the library takes, in bytes (the largest picture of level 5.2).
pub const MAX_ACCESS_UNIT_BYTES: usize = 7_077_888;

/// Most pictures that a stream may hold back (ITU-T H.264, A.3.1).
const MAX_REORDER: usize = 16;

/// Name and version of the decoder, for the header of a log.
pub const fn decoder_version() -> &'static str {
    "openh264 0.9.9"
}

/// How many pictures are held back until the next one in display order is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reorder {
    /// As many as the stream's sequence parameters say; where they say nothing, as many as its level allows (up to 16).
    FromStream,
    /// This many. None (0) suits live streams that have no B pictures: each picture is shown as soon as it is decoded.
    Depth(u8),
}

/// Why an access unit gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum H264Error {
    /// The library did not start.
    #[error("the H.264 decoder {} did not start: {cause}", decoder_version())]
    NotStarted {
        /// What the library said.
        cause: String,
    },
    /// There is no NAL unit in the bytes.
    #[error("expected an H.264 access unit with start codes (Annex B), found none in {bytes} bytes")]
    NoStartCode {
        /// Bytes that were given.
        bytes: usize,
    },
    /// The access unit is larger than the library takes.
    #[error("expected an H.264 access unit of at most {MAX_ACCESS_UNIT_BYTES} bytes, found {bytes}")]
    TooLong {
        /// Bytes that were given.
        bytes: usize,
    },
    /// The video is H.265.
    #[error("expected H.264 video, found H.265: {H265_ADVICE}")]
    H265,
    /// The stream uses a part of H.264 that is not decoded.
    #[error(
        "H.264 video with {feature} is not decoded: convert it with `ffmpeg -i in.mp4 -c:v libx264 -pix_fmt yuv420p out.mp4`"
    )]
    Unsupported {
        /// What the stream uses.
        feature: &'static str,
    },
    /// The sequence parameters end too early or hold numbers that cannot be.
    #[error("expected H.264 sequence parameters, found {bytes} bytes that cannot be read as such")]
    SequenceParameters {
        /// Bytes of the NAL unit.
        bytes: usize,
    },
    /// A picture came before the parameters that it needs.
    #[error("expected sequence parameters before the picture at {stamp_ns} ns, found none: start at a key picture")]
    NoParameters {
        /// Stamp of the access unit.
        stamp_ns: i64,
    },
    /// More than one picture was given at once.
    #[error("expected one picture in the access unit at {stamp_ns} ns, found {found}")]
    SeveralPictures {
        /// Stamp of the access unit.
        stamp_ns: i64,
        /// Pictures found.
        found: usize,
    },
    /// The library cannot decode the picture.
    #[error("the picture at {stamp_ns} ns cannot be decoded: {cause}")]
    Undecodable {
        /// Stamp of the access unit.
        stamp_ns: i64,
        /// What the library said.
        cause: String,
    },
    /// The library took the picture but gave nothing back.
    #[error("expected a picture from the access unit at {stamp_ns} ns, found none")]
    NoPicture {
        /// Stamp of the access unit.
        stamp_ns: i64,
    },
    /// The picture belongs before one that was already given out.
    #[error(
        "the picture at {stamp_ns} ns came after the one at {shown_ns} ns was shown: \
         expected at most {depth} pictures out of order"
    )]
    Late {
        /// Stamp of the access unit.
        stamp_ns: i64,
        /// Stamp of the last picture given out.
        shown_ns: i64,
        /// Pictures held back.
        depth: usize,
    },
    /// The picture's size is not allowed.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// A picture that waits for its turn.
struct Pending {
    sequence: u64,
    stamp_ns: i64,
    order: u64,
    frame: Frame,
}

/// A decoder of one H.264 stream.
pub struct H264Decoder {
    decoder: Decoder,
    limits: Limits,
    reorder: Reorder,
    parameters: Option<SequenceParameters>,
    pending: Vec<Pending>,
    spare: Vec<Frame>,
    /// The bytes handed to the library if they differ from those fed.
    rewritten: Vec<u8>,
    /// Counts instantaneous refreshes: no picture behind one is shown before a picture ahead of it.
    sequence: u64,
    order: u64,
    shown_ns: Option<i64>,
    ended: bool,
}

impl H264Decoder {
    /// Starts a decoder.
    ///
    /// # Errors
    /// [`H264Error::NotStarted`] if the library gives no decoder.
    pub fn new(limits: Limits, reorder: Reorder) -> Result<H264Decoder, H264Error> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let decoder = Decoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|cause| H264Error::NotStarted { cause: describe(&cause) })?;
        Ok(H264Decoder {
            decoder,
            limits,
            reorder,
            parameters: None,
            pending: Vec::new(),
            spare: Vec::new(),
            rewritten: Vec::new(),
            sequence: 0,
            order: 0,
            shown_ns: None,
            ended: false,
        })
    }

    /// Takes the next access unit in decoding order, with the stamp at which its picture is shown, and says whether there
    /// was a picture in it. Bytes that hold parameters only are fine and give none; their stamp is not used.
    ///
    /// # Errors
    /// An [`H264Error`] that says why this access unit gave no picture. Pictures fed before stay available. After a
    /// damaged access unit those that refer to it fail too, up to the next key picture.
    pub fn feed(&mut self, access_unit: &[u8], stamp_ns: i64) -> Result<bool, H264Error> {
        self.ended = false;
        if access_unit.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(H264Error::TooLong { bytes: access_unit.len() });
        }
        let contents = Contents::of(access_unit)?;
        if let Some(parameters) = contents.parameters {
            self.limits.check(parameters.width_px, parameters.height_px, PixelFormat::I420)?;
            self.parameters = Some(parameters);
        }
        if contents.slices == 0 {
            return self.feed_parameters(access_unit, &contents, stamp_ns).map(|()| false);
        }
        if contents.pictures > 1 {
            return Err(H264Error::SeveralPictures { stamp_ns, found: contents.pictures });
        }
        let Some(parameters) = self.parameters else {
            return Err(H264Error::NoParameters { stamp_ns });
        };
        // What follows the last slice (fill bytes, end marks) would make the library start the next picture.
        let picture = access_unit.get(..contents.slices_end).unwrap_or(access_unit);
        let picture = if contents.parameters.is_some() { rewrite(picture, &mut self.rewritten) } else { picture };
        let mut frame = self.spare.pop().unwrap_or_default();
        let target = Target { frame: &mut frame, limits: &self.limits, full_range: parameters.full_range };
        if let Err(error) = decode_one(&mut self.decoder, picture, stamp_ns, target) {
            self.spare.push(frame);
            return Err(error);
        }
        if let Some(shown_ns) = self.shown_ns.filter(|shown_ns| stamp_ns < *shown_ns) {
            self.spare.push(frame);
            return Err(H264Error::Late { stamp_ns, shown_ns, depth: self.depth() });
        }
        if contents.refresh {
            self.sequence = self.sequence.saturating_add(1);
        }
        self.order = self.order.saturating_add(1);
        self.pending.push(Pending { sequence: self.sequence, stamp_ns, order: self.order, frame });
        Ok(true)
    }

    /// Gives the next picture in display order, if it is certain that none goes before it: puts it in `frame`, whose
    /// buffer is taken back for a later picture, and returns its stamp. Call it until it gives none.
    pub fn pop(&mut self, frame: &mut Frame) -> Option<i64> {
        let next = self.pending.iter().enumerate().min_by_key(|(_, pending)| (pending.stamp_ns, pending.order));
        let (index, sequence) = next.map(|(index, pending)| (index, pending.sequence))?;
        let certain = self.ended || sequence < self.sequence || self.pending.len() > self.depth();
        if !certain {
            return None;
        }
        let mut shown = self.pending.swap_remove(index);
        std::mem::swap(frame, &mut shown.frame);
        self.spare.push(shown.frame);
        self.shown_ns = Some(shown.stamp_ns);
        self.shown_ns
    }

    /// Says that the stream has ended: every picture held back may be popped. Feeding again goes on with the stream.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// How many pictures are held back before one is given out.
    pub fn depth(&self) -> usize {
        match self.reorder {
            Reorder::Depth(depth) => usize::from(depth),
            Reorder::FromStream => self.parameters.map_or(0, |parameters| parameters.reorder),
        }
    }

    /// Hands parameter sets without a picture to the library; anything else without a picture has no use.
    fn feed_parameters(&mut self, bytes: &[u8], contents: &Contents, stamp_ns: i64) -> Result<(), H264Error> {
        if contents.parameter_sets == 0 {
            return Ok(());
        }
        match self.decoder.decode(rewrite(bytes, &mut self.rewritten)) {
            Ok(_) => Ok(()),
            Err(cause) => Err(H264Error::Undecodable { stamp_ns, cause: describe(&cause) }),
        }
    }
}

/// Where a decoded picture goes.
struct Target<'a> {
    frame: &'a mut Frame,
    limits: &'a Limits,
    full_range: bool,
}

/// Decodes one access unit that holds one picture.
fn decode_one(decoder: &mut Decoder, bytes: &[u8], stamp_ns: i64, target: Target<'_>) -> Result<(), H264Error> {
    match decoder.decode(bytes) {
        Ok(Some(picture)) => copy_picture(&picture, stamp_ns, target),
        Ok(None) => Err(H264Error::NoPicture { stamp_ns }),
        Err(cause) => Err(H264Error::Undecodable { stamp_ns, cause: describe(&cause) }),
    }
}

/// Copies the visible part of a picture out of the library's memory.
fn copy_picture(picture: &DecodedYUV<'_>, stamp_ns: i64, target: Target<'_>) -> Result<(), H264Error> {
    let (width, height) = picture.dimensions();
    let (y_stride, u_stride, v_stride) = picture.strides();
    let width_px = u32::try_from(width).unwrap_or(u32::MAX);
    let height_px = u32::try_from(height).unwrap_or(u32::MAX);
    let to = target.frame.reset(width_px, height_px, PixelFormat::I420, target.full_range, target.limits)?;
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    let copied = to.split_at_mut_checked(width * height).and_then(|(y, chroma)| {
        let (u, v) = chroma.split_at_mut_checked(chroma_width * chroma_height)?;
        copy_rows(y, width, picture.y(), y_stride)?;
        copy_rows(u, chroma_width, picture.u(), u_stride)?;
        copy_rows(v, chroma_width, picture.v(), v_stride)
    });
    copied.ok_or(H264Error::NoPicture { stamp_ns })
}

/// The library's error code in words (`DECODING_STATE` in its `codec_app_def.h`).
fn describe(error: &openh264::Error) -> String {
    const WORDS: [(i64, &str); 10] = [
        (0x0001, "a frame is pending"),
        (0x0002, "a reference picture is missing"),
        (0x0004, "the bit stream is damaged"),
        (0x0008, "a layer that it depends on is missing"),
        (0x0010, "its parameter sets are missing"),
        (0x0020, "damage was concealed"),
        (0x0040, "the list of reference pictures is empty"),
        (0x1000, "invalid argument"),
        (0x2000, "the library is not initialised"),
        (0x4000, "out of memory"),
    ];
    let code = error.native_code();
    if code == 0 {
        return "the library gave no picture back".to_string();
    }
    let words: Vec<&str> = WORDS.iter().filter(|(bit, _)| code & bit != 0).map(|(_, words)| *words).collect();
    format!("{} (code {code:#x})", words.join(", "))
}

/// What an access unit holds, found without decoding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    /// The last sequence parameters in it.
    parameters: Option<SequenceParameters>,
    parameter_sets: usize,
    slices: usize,
    /// Slices that start at the first macroblock.
    pictures: usize,
    /// True if it is an instantaneous decoding refresh.
    refresh: bool,
    /// Bytes up to the end of the last slice.
    slices_end: usize,
}

impl Contents {
    fn of(access_unit: &[u8]) -> Result<Contents, H264Error> {
        let mut contents = Contents::default();
        let mut units = 0_usize;
        for (unit, end) in NalUnits::new(access_unit) {
            units = units.saturating_add(1);
            let Some(&header) = unit.first() else { continue };
            // A video parameter set opens every H.265 stream; in H.264 these two bytes have no meaning.
            if unit.starts_with(&[0x40, 0x01]) {
                return Err(H264Error::H265);
            }
            match header & 0x1F {
                1 | 5 => {
                    contents.slices = contents.slices.saturating_add(1);
                    contents.slices_end = end;
                    contents.refresh |= header & 0x1F == 5;
                    // The first number of a slice is its first macroblock; zero is coded as a single one bit.
                    if unit.get(1).is_some_and(|byte| byte & 0x80 != 0) {
                        contents.pictures = contents.pictures.saturating_add(1);
                    }
                }
                2..=4 => return Err(H264Error::Unsupported { feature: "data partitioning" }),
                7 => {
                    contents.parameters = Some(SequenceParameters::read(unit)?);
                    contents.parameter_sets = contents.parameter_sets.saturating_add(1);
                }
                8 => contents.parameter_sets = contents.parameter_sets.saturating_add(1),
                _ => {}
            }
            if matches!(header & 0x1F, 7 | 8) && contents.slices > 0 {
                return Err(H264Error::Unsupported { feature: "parameter sets behind a picture" });
            }
        }
        if units == 0 {
            return Err(H264Error::NoStartCode { bytes: access_unit.len() });
        }
        Ok(contents)
    }
}

/// The NAL units of Annex B bytes without their start codes, each with the position of its end.
struct NalUnits<'a> {
    bytes: &'a [u8],
    /// Start of the next unit; none before the first and after the last.
    next: Option<usize>,
}

impl<'a> NalUnits<'a> {
    fn new(bytes: &'a [u8]) -> NalUnits<'a> {
        NalUnits { bytes, next: unit_start(bytes, 0) }
    }
}

/// Position behind the next start code at or behind `from`.
fn unit_start(bytes: &[u8], from: usize) -> Option<usize> {
    let position = bytes.get(from..)?.windows(3).position(|window| window == [0, 0, 1])?;
    from.checked_add(position)?.checked_add(3)
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = (&'a [u8], usize);

    fn next(&mut self) -> Option<(&'a [u8], usize)> {
        let start = self.next?;
        self.next = unit_start(self.bytes, start);
        let end = self.next.map_or(self.bytes.len(), |next| next.saturating_sub(3));
        let mut unit = self.bytes.get(start..end)?;
        // A unit never ends with a zero byte: those belong to the next start code.
        while let Some((0, shorter)) = unit.split_last() {
            unit = shorter;
        }
        Some((unit, start.saturating_add(unit.len())))
    }
}

/// Copies an access unit to `to` with its sequence parameters in the form that the library does not sort by.
fn rewrite<'a>(access_unit: &[u8], to: &'a mut Vec<u8>) -> &'a [u8] {
    to.clear();
    for (unit, _) in NalUnits::new(access_unit) {
        to.extend_from_slice(&[0, 0, 0, 1]);
        let is_parameters = unit.first().is_some_and(|header| header & 0x1F == 7);
        match as_scalable_baseline(unit).filter(|_| is_parameters) {
            Some(parameters) => to.extend(parameters),
            None => to.extend_from_slice(unit),
        }
    }
    to
}

/// Sequence parameters of the Main, Extended or High profiles under the number of the Scalable Baseline profile; none if
/// they are of another one. High parameters have that form already; for the others what they imply is put in: 4:2:0
/// chroma, 8 bits a sample, no scaling lists (7.3.2.1.1).
fn as_scalable_baseline(unit: &[u8]) -> Option<Vec<u8>> {
    const MAIN: u8 = 77;
    const SCALABLE_BASELINE: u8 = 83;
    const SCALABLE_HIGH: u8 = 86;
    const EXTENDED: u8 = 88;
    const HIGH: u8 = 100;
    let (&header, coded) = unit.split_first()?;
    let (&profile, rest) = coded.split_first()?;
    if profile == HIGH || profile == SCALABLE_HIGH {
        return Some([&[header, SCALABLE_BASELINE][..], rest].concat());
    }
    if profile != MAIN && profile != EXTENDED {
        return None;
    }
    let payload = without_emulation_prevention(rest);
    let mut from = Bits { bytes: &payload, position: 0 };
    from.read(16)?;
    from.exp_golomb()?;
    let mut to = BitWriter::default();
    let mut copied = Bits { bytes: &payload, position: 0 };
    while copied.position < from.position {
        to.push(copied.flag()?);
    }
    for bit in [false, true, false, true, true, false, false] {
        to.push(bit);
    }
    while let Some(bit) = copied.flag() {
        to.push(bit);
    }
    let mut rewritten = vec![header, SCALABLE_BASELINE];
    append_with_emulation_prevention(&mut rewritten, &to.bytes);
    Some(rewritten)
}

/// What is used of a stream's sequence parameters (ITU-T H.264, 7.3.2.1.1 and E.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SequenceParameters {
    width_px: u32,
    height_px: u32,
    full_range: bool,
    reorder: usize,
}

/// What is used of the optional description of a stream (VUI).
#[derive(Clone, Copy, Debug, Default)]
struct Usability {
    full_range: bool,
    reorder: Option<u32>,
}

impl SequenceParameters {
    fn read(unit: &[u8]) -> Result<SequenceParameters, H264Error> {
        let damaged = H264Error::SequenceParameters { bytes: unit.len() };
        let payload = without_emulation_prevention(unit.get(1..).unwrap_or_default());
        let mut bits = Bits { bytes: &payload, position: 0 };
        let Some(coded) = CodedSequence::read(&mut bits) else {
            return Err(damaged);
        };
        if let Some(feature) = coded.unsupported() {
            return Err(H264Error::Unsupported { feature });
        }
        let Some((width_px, height_px)) = coded.visible_size() else {
            return Err(damaged);
        };
        // Some cameras cut this part off; what is missing then counts as not given.
        let mut usability = Usability::default();
        if bits.flag() == Some(true) {
            let _ = read_usability(&mut bits, &mut usability);
        }
        let reorder =
            usability.reorder.map_or_else(|| coded.largest_reorder(), |depth| depth as usize).min(MAX_REORDER);
        Ok(SequenceParameters { width_px, height_px, full_range: usability.full_range, reorder })
    }
}

/// The sequence parameters as they are coded, up to the VUI.
struct CodedSequence {
    profile: u32,
    constraints: u32,
    level: u32,
    chroma_format: u32,
    luma_depth_minus8: u32,
    chroma_depth_minus8: u32,
    order_count_type: u32,
    width_mbs: u32,
    height_mbs: u32,
    frames_only: bool,
    /// Left, right, top, bottom, in units of two pixels.
    crop: [u32; 4],
}

impl CodedSequence {
    fn read(bits: &mut Bits<'_>) -> Option<CodedSequence> {
        let (profile, constraints, level) = (bits.read(8)?, bits.read(8)?, bits.read(8)?);
        bits.exp_golomb()?;
        let (mut chroma_format, mut luma_depth_minus8, mut chroma_depth_minus8) = (1, 0, 0);
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format = bits.exp_golomb()?;
            if chroma_format == 3 {
                bits.read(1)?;
            }
            luma_depth_minus8 = bits.exp_golomb()?;
            chroma_depth_minus8 = bits.exp_golomb()?;
            bits.read(1)?;
            if bits.flag()? {
                skip_scaling_lists(bits, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        bits.exp_golomb()?;
        let order_count_type = bits.exp_golomb()?;
        match order_count_type {
            0 => bits.skip_numbers(1)?,
            1 => {
                bits.read(1)?;
                bits.skip_numbers(2)?;
                let count = bits.exp_golomb()?;
                bits.skip_numbers(count)?;
            }
            _ => {}
        }
        bits.exp_golomb()?;
        bits.read(1)?;
        let width_mbs = bits.exp_golomb()?.checked_add(1)?;
        let height_mbs = bits.exp_golomb()?.checked_add(1)?;
        let frames_only = bits.flag()?;
        if !frames_only {
            bits.read(1)?;
        }
        bits.read(1)?;
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?;
            }
        }
        Some(CodedSequence {
            profile,
            constraints,
            level,
            chroma_format,
            luma_depth_minus8,
            chroma_depth_minus8,
            order_count_type,
            width_mbs,
            height_mbs,
            frames_only,
            crop,
        })
    }

    fn unsupported(&self) -> Option<&'static str> {
        if self.chroma_format > 1 {
            return Some("4:2:2 or 4:4:4 chroma");
        }
        if self.luma_depth_minus8 > 0 || self.chroma_depth_minus8 > 0 {
            return Some("more than 8 bits a sample");
        }
        if !self.frames_only {
            return Some("interlaced pictures");
        }
        None
    }

    fn visible_size(&self) -> Option<(u32, u32)> {
        let [left, right, top, bottom] = self.crop;
        let visible = |mbs: u32, first: u32, last: u32| {
            let cropped = first.checked_add(last)?.checked_mul(2)?;
            mbs.checked_mul(16)?.checked_sub(cropped).filter(|size| *size > 0)
        };
        Some((visible(self.width_mbs, left, right)?, visible(self.height_mbs, top, bottom)?))
    }

    /// The most pictures that may be out of order if the stream does not say (E.2.1): none where B pictures cannot be,
    /// otherwise the pictures that the level's buffer holds (table A-1).
    fn largest_reorder(&self) -> usize {
        let constraint_set3 = self.constraints & 0x10 != 0;
        let intra_only = constraint_set3 && matches!(self.profile, 44 | 86 | 100 | 110 | 122 | 244);
        if self.profile == 66 || self.order_count_type == 2 || intra_only {
            return 0;
        }
        let buffer_mbs: u32 = match self.level {
            9 | 10 => 396,
            11 if constraint_set3 => 396,
            11 => 900,
            12 | 13 | 20 => 2_376,
            21 => 4_752,
            22 | 30 => 8_100,
            31 => 18_000,
            32 => 20_480,
            40 | 41 => 32_768,
            42 => 34_816,
            50 => 110_400,
            51 | 52 => 184_320,
            _ => 696_320,
        };
        let picture_mbs = self.width_mbs.saturating_mul(self.height_mbs).max(1);
        (buffer_mbs / picture_mbs) as usize
    }
}

/// Scaling lists (7.3.2.1.1.1) are of no interest but stand in the way.
fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i64, 8_i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// Reads the VUI (E.1.1) as far as it goes; what was read before it breaks off is kept.
fn read_usability(bits: &mut Bits<'_>, usability: &mut Usability) -> Option<()> {
    const EXTENDED_ASPECT: u32 = 255;
    if bits.flag()? && bits.read(8)? == EXTENDED_ASPECT {
        bits.read(32)?;
    }
    if bits.flag()? {
        bits.read(1)?;
    }
    if bits.flag()? {
        bits.read(3)?;
        usability.full_range = bits.flag()?;
        if bits.flag()? {
            bits.read(24)?;
        }
    }
    if bits.flag()? {
        bits.skip_numbers(2)?;
    }
    if bits.flag()? {
        bits.read(32)?;
        bits.read(32)?;
        bits.read(1)?;
    }
    let nal_buffer = bits.flag()?;
    if nal_buffer {
        skip_buffer_model(bits)?;
    }
    let vcl_buffer = bits.flag()?;
    if vcl_buffer {
        skip_buffer_model(bits)?;
    }
    if nal_buffer || vcl_buffer {
        bits.read(1)?;
    }
    bits.read(1)?;
    if bits.flag()? {
        bits.read(1)?;
        bits.skip_numbers(4)?;
        usability.reorder = Some(bits.exp_golomb()?);
    }
    Some(())
}

/// Parameters of the hypothetical decoder (E.1.2).
fn skip_buffer_model(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.exp_golomb()?.checked_add(1)?;
    bits.read(8)?;
    for _ in 0..count {
        bits.skip_numbers(2)?;
        bits.read(1)?;
    }
    bits.read(20)?;
    Some(())
}

/// Drops the byte 3 of every 0 0 3, which keeps start codes out of a NAL unit (7.4.1.1).
fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(unit.len());
    let mut zeros = 0_u32;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros.saturating_add(1) } else { 0 };
        payload.push(byte);
    }
    payload
}

/// Puts a byte 3 into every 0 0 that a byte from 0 to 3 follows, and leaves out zeros at the end (7.4.1).
fn append_with_emulation_prevention(to: &mut Vec<u8>, payload: &[u8]) {
    let end = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let mut zeros = 0_u32;
    for &byte in payload.iter().take(end) {
        if zeros >= 2 && byte <= 3 {
            to.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros.saturating_add(1) } else { 0 };
        to.push(byte);
    }
}

/// Writes bits, highest first; the last byte is filled up with zeros.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used of the last byte, 8 if it is full; 0 before the first.
    used: u32,
}

impl BitWriter {
    fn push(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
            self.used = 0;
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used);
        }
        self.used += 1;
    }
}

/// Reads bits, highest first; every read gives none behind the end.
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    position: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.position / 8)?;
        let bit = (byte >> (7 - self.position % 8)) & 1;
        self.position = self.position.checked_add(1)?;
        Some(bit == 1)
    }

    /// Reads up to 32 bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count {
            value = (value << 1) | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number (9.1).
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.read(zeros)?;
        (1_u32 << zeros).checked_sub(1)?.checked_add(rest)
    }

    /// A signed Exp-Golomb number (9.1.1).
    fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 })
    }

    /// Skips Exp-Golomb numbers, signed or not.
    fn skip_numbers(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.exp_golomb()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::locked_version;
    use super::*;
    use crate::mp4::{AccessUnit, Mp4Video};

    const VIDEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/camera/carnd/solidWhiteRight.mp4");

    /// The access units of the real video, at most `count`.
    fn real_units(count: usize) -> Option<Vec<AccessUnit>> {
        let Ok(bytes) = std::fs::read(VIDEO) else {
            eprintln!("skipped: ../shared is absent");
            return None;
        };
        let mut video = Mp4Video::from_bytes(&bytes).unwrap();
        let mut units = Vec::new();
        let mut unit = AccessUnit::default();
        while units.len() < count && video.next_unit(&mut unit).unwrap() {
            units.push(unit.clone());
        }
        Some(units)
    }

    impl BitWriter {
        fn bits(&mut self, value: u32, count: u32) {
            for shift in (0..count).rev() {
                self.push((value >> shift) & 1 == 1);
            }
        }

        fn number(&mut self, value: u32) {
            let length = 32 - (value + 1).leading_zeros();
            self.bits(0, length - 1);
            self.bits(value + 1, length);
        }
    }

    /// Sequence parameters of a Main profile stream of 2 x 2 macroblocks less 2 columns at the right.
    fn sequence_parameters(order_count_type: u32, usability: Option<(bool, u32)>) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.bits(0x67, 8);
        bits.bits(77, 8);
        bits.bits(0, 8);
        bits.bits(10, 8);
        bits.number(0);
        bits.number(0);
        bits.number(order_count_type);
        if order_count_type == 0 {
            bits.number(2);
        }
        bits.number(4);
        bits.bits(0, 1);
        bits.number(1);
        bits.number(1);
        bits.bits(0b11, 2);
        bits.bits(1, 1);
        for side in [0, 1, 0, 0] {
            bits.number(side);
        }
        bits.bits(u32::from(usability.is_some()), 1);
        if let Some((full_range, reorder)) = usability {
            bits.bits(0b00, 2);
            bits.bits(1, 1);
            bits.bits(5, 3);
            bits.bits(u32::from(full_range), 1);
            bits.bits(0, 1);
            bits.bits(0b00000, 5);
            bits.bits(1, 1);
            bits.bits(1, 1);
            for number in [0, 0, 10, 10, reorder, 4] {
                bits.number(number);
            }
        }
        bits.bits(1, 1);
        bits.bytes
    }

    #[test]
    fn version_is_the_locked_one() {
        if let Some(versions) = locked_version("openh264") {
            assert!(versions.contains(&decoder_version().to_string()), "{versions:?}");
        }
    }

    #[test]
    fn units_are_split_at_start_codes() {
        let bytes = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x88, 0, 0];
        let units: Vec<(&[u8], usize)> = NalUnits::new(&bytes).collect();
        assert_eq!(units, [(&[0x67, 1][..], 7), (&[0x68, 2][..], 13), (&[0x65, 0x88][..], 18)]);
        assert_eq!(NalUnits::new(&[0, 0]).count(), 0);
    }

    #[test]
    fn sequence_parameters_are_read() {
        let read = |unit: &[u8]| SequenceParameters::read(unit).unwrap();
        let parameters = read(&sequence_parameters(0, Some((true, 2))));
        let expected = SequenceParameters { width_px: 30, height_px: 32, full_range: true, reorder: 2 };
        assert_eq!(parameters, expected);
        // Level 1 holds 396 macroblocks; 4 of them are a picture, and never more than 16 pictures are held.
        assert_eq!(read(&sequence_parameters(0, None)).reorder, 16);
        assert_eq!(read(&sequence_parameters(2, None)).reorder, 0);
        assert!(!read(&sequence_parameters(0, None)).full_range);
        let whole = sequence_parameters(0, None);
        for length in 0..8 {
            let outcome = SequenceParameters::read(&whole[..length]);
            assert!(matches!(outcome, Err(H264Error::SequenceParameters { .. })), "{length}");
        }
    }

    #[test]
    fn emulation_prevention_is_dropped() {
        assert_eq!(without_emulation_prevention(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3]), [0, 0, 1, 0, 0, 0, 0, 3]);
        assert_eq!(without_emulation_prevention(&[0, 3, 0, 0, 1]), [0, 3, 0, 0, 1]);
    }

    #[test]
    fn sequence_parameters_mean_the_same_under_the_other_profile() {
        for (order_count_type, usability) in [(0, None), (0, Some((true, 3))), (2, Some((false, 0)))] {
            let main = sequence_parameters(order_count_type, usability);
            let rewritten = as_scalable_baseline(&main).unwrap();
            assert_eq!(rewritten[..4], [0x67, 83, 0, 10]);
            let (before, after) = (SequenceParameters::read(&main).unwrap(), SequenceParameters::read(&rewritten));
            assert_eq!(after.unwrap(), before);
        }
        let high = [0x67, 100, 0, 31, 0xAC];
        assert_eq!(as_scalable_baseline(&high), Some(vec![0x67, 83, 0, 31, 0xAC]));
        assert_eq!(as_scalable_baseline(&[0x67, 66, 0, 31, 0xAC]), None);
    }

    #[test]
    fn emulation_prevention_is_put_in_where_it_was() {
        let payload = [0, 0, 1, 0, 0, 0, 0, 3, 9, 0, 0];
        let mut unit = Vec::new();
        append_with_emulation_prevention(&mut unit, &payload);
        assert_eq!(unit, [0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 9]);
        assert_eq!(without_emulation_prevention(&unit), payload[..9]);
    }

    #[test]
    fn what_is_not_h264_is_refused_by_name() {
        let mut decoder = H264Decoder::new(Limits::default(), Reorder::FromStream).unwrap();
        let none = decoder.feed(&[1, 2, 3], 0);
        assert!(matches!(none, Err(H264Error::NoStartCode { bytes: 3 })));
        let h265 = decoder.feed(&[0, 0, 0, 1, 0x40, 0x01, 0x0C, 0x01], 0).unwrap_err();
        assert!(matches!(h265, H264Error::H265));
        assert!(h265.to_string().contains("ffmpeg -i in.mp4 -c:v libx264 out.mp4"));
        let orphan = decoder.feed(&[0, 0, 1, 0x41, 0x9A, 0x00, 0x10], 5);
        assert!(matches!(orphan, Err(H264Error::NoParameters { stamp_ns: 5 })));
        let long = decoder.feed(&vec![0; MAX_ACCESS_UNIT_BYTES + 1], 0);
        assert!(matches!(long, Err(H264Error::TooLong { .. })));
        let limits = Limits { max_width_px: 29, ..Limits::default() };
        let mut small = H264Decoder::new(limits, Reorder::FromStream).unwrap();
        let mut unit = vec![0, 0, 0, 1];
        unit.extend(sequence_parameters(0, None));
        let large = small.feed(&unit, 0);
        assert!(matches!(large, Err(H264Error::Picture(PictureError::TooLarge { width_px: 30, .. }))));
    }

    #[test]
    fn every_access_unit_of_a_real_video_gives_its_picture() {
        let Some(units) = real_units(usize::MAX) else { return };
        assert_eq!(units.len(), 221);
        let mut decoder = H264Decoder::new(Limits::default(), Reorder::Depth(0)).unwrap();
        let mut frame = Frame::default();
        let mut previous = Vec::new();
        for unit in &units {
            decoder.feed(&unit.bytes, unit.pts_ns).unwrap();
            assert_eq!(decoder.pop(&mut frame), Some(unit.pts_ns));
            assert_eq!((frame.width_px(), frame.height_px(), frame.format()), (960, 540, PixelFormat::I420));
            assert_ne!(frame.data(), previous);
            previous.clear();
            previous.extend_from_slice(frame.data());
            assert_eq!(decoder.pop(&mut frame), None);
        }
    }

    #[test]
    fn held_back_pictures_come_in_the_order_of_their_stamps() {
        let Some(units) = real_units(9) else { return };
        let mut straight = H264Decoder::new(Limits::default(), Reorder::Depth(0)).unwrap();
        let mut held = H264Decoder::new(Limits::default(), Reorder::Depth(2)).unwrap();
        // The stamps of a stream with B pictures: 0 3 1 2 6 4 5 8 7.
        let stamps = [0, 3, 1, 2, 6, 4, 5, 8, 7];
        let mut frame = Frame::default();
        let mut expected = vec![Vec::new(); 9];
        let mut shown = Vec::new();
        for (unit, stamp) in units.iter().zip(stamps) {
            straight.feed(&unit.bytes, unit.pts_ns).unwrap();
            straight.pop(&mut frame).unwrap();
            expected[stamp as usize] = frame.data().to_vec();
            held.feed(&unit.bytes, stamp).unwrap();
            while let Some(stamp) = held.pop(&mut frame) {
                assert_eq!(frame.data(), expected[stamp as usize]);
                shown.push(stamp);
            }
        }
        assert_eq!(shown, [0, 1, 2, 3, 4, 5, 6]);
        held.finish();
        while let Some(stamp) = held.pop(&mut frame) {
            assert_eq!(frame.data(), expected[stamp as usize]);
            shown.push(stamp);
        }
        assert_eq!(shown, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_picture_behind_its_time_is_an_error() {
        let Some(units) = real_units(2) else { return };
        let mut decoder = H264Decoder::new(Limits::default(), Reorder::Depth(0)).unwrap();
        let mut frame = Frame::default();
        decoder.feed(&units[0].bytes, 10).unwrap();
        assert_eq!(decoder.pop(&mut frame), Some(10));
        let late = decoder.feed(&units[1].bytes, 9);
        assert!(matches!(late, Err(H264Error::Late { stamp_ns: 9, shown_ns: 10, depth: 0 })));
    }

    #[test]
    fn damaged_units_never_panic_nor_shift_later_stamps() {
        let Some(units) = real_units(40) else { return };
        assert!(units[30].is_key);
        let mut clean = H264Decoder::new(Limits::default(), Reorder::Depth(0)).unwrap();
        let mut damaged = H264Decoder::new(Limits::default(), Reorder::Depth(0)).unwrap();
        let (mut expected, mut found) = (Frame::default(), Frame::default());
        for (index, unit) in units.iter().enumerate() {
            clean.feed(&unit.bytes, unit.pts_ns).unwrap();
            assert_eq!(clean.pop(&mut expected), Some(unit.pts_ns));
            let mut bytes = unit.bytes.clone();
            if (1..30).contains(&index) {
                bytes.truncate(bytes.len() * index / 30);
                if let Some(byte) = bytes.get_mut(40 + 3 * index) {
                    *byte ^= 0x24;
                }
            }
            let fed = damaged.feed(&bytes, unit.pts_ns);
            let popped = damaged.pop(&mut found);
            assert_eq!(damaged.pop(&mut found), None);
            if index >= 30 {
                fed.unwrap();
                assert_eq!(popped, Some(unit.pts_ns));
                assert_eq!(found, expected, "{index}");
            } else {
                assert!(popped.is_none_or(|stamp| stamp == unit.pts_ns));
            }
        }
    }
}
