//! Hesai's PandarXT-32 and Pandar40P: their point cloud packets, and the angle correction CSV that comes with each
//! lidar.
//!
//! Sources: PandarXT-32 User Manual and Pandar40P User Manual, chapter 3 (data structure) and appendices I (channels)
//! and II (absolute time). A packet is blocks of an azimuth and one echo of each channel; its tail has the return mode,
//! the date and time in UTC and the microseconds. The lidar says the date itself, so that the arrival is not needed,
//! but one without a source of time makes the date up.
//!
//! Points are in the sensor's frame as the manuals draw it: y along azimuth 0, x to the right of it, z up. Rings count
//! from the lowest channel, which is the last in the packet. In dual mode `return_number` is 1 for the first and 2 for
//! the second block of a pair: last and strongest (0x39), last and first (0x3B), first and strongest (0x3C); an echo
//! that both give is kept once, as the first of them. In single mode it is 0. The azimuth of a point is its block's
//! with the channel's correction, as the maker and other drivers have it.

use super::{Azimuth, Echo, Follows, LidarDecoder, LidarScan, ScanAssembler, count, packets_between};
use crate::cloud::Point;
use crate::packet::ClockId;
use thiserror::Error;

const MAX_BLOCKS: usize = 10;
const XT_HEADER: [u8; 8] = [0xEE, 0xFF, 6, 1, 0, 0, 32, 8];
const BLOCK_FLAG: [u8; 2] = [0xFF, 0xEE];
const SEQUENCE_BYTES: usize = 4;
/// No more can be missing in the longest gap that is bridged.
const MAX_MISSING: u32 = 200;

/// A kind of lidar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HesaiModel {
    /// PandarXT-32.
    PandarXt32,
    /// Pandar40P.
    Pandar40P,
}

/// When the Pandar40P's channels fire, in nanoseconds from the time of their block (manual, appendix II).
const PANDAR_40P_SHOTS_NS: [i32; 40] = [
    -42_220, -28_470, -16_040, -3_620, -45_490, -31_740, -47_460, -54_670, -20_620, -33_710, -40_910, -8_190, -20_620,
    -27_160, -50_730, -8_190, -14_740, -36_980, -45_490, -52_700, -23_890, -31_740, -38_950, -11_470, -18_650, -25_190,
    -48_760, -6_230, -12_770, -35_010, -21_920, -9_500, -43_520, -29_770, -17_350, -4_920, -42_220, -28_470, -16_040,
    -3_620,
];
const PANDAR_40P_FIRST_SHOT_NS: i32 = -54_670;

/// The Pandar40P's channels as designed: elevation and azimuth in degrees (manual, appendix I).
const PANDAR_40P: [(f32, f32); 40] = [
    (15.0, -1.042),
    (11.0, -1.042),
    (8.0, -1.042),
    (5.0, -1.042),
    (3.0, -1.042),
    (2.0, -1.042),
    (1.67, 3.125),
    (1.33, -5.208),
    (1.0, -1.042),
    (0.67, 3.125),
    (0.33, -5.208),
    (0.0, -1.042),
    (-0.33, 3.125),
    (-0.67, -5.208),
    (-1.0, -1.042),
    (-1.33, 3.125),
    (-1.67, -5.208),
    (-2.0, -1.042),
    (-2.33, 3.125),
    (-2.67, -5.208),
    (-3.0, -1.042),
    (-3.33, 3.125),
    (-3.67, -5.208),
    (-4.0, -1.042),
    (-4.33, 3.125),
    (-4.67, -5.208),
    (-5.0, -1.042),
    (-5.33, 3.125),
    (-5.67, -5.208),
    (-6.0, -1.042),
    (-7.0, -1.042),
    (-8.0, -1.042),
    (-9.0, -1.042),
    (-10.0, -1.042),
    (-11.0, -1.042),
    (-12.0, -1.042),
    (-13.0, -1.042),
    (-14.0, -1.042),
    (-19.0, -1.042),
    (-25.0, -1.042),
];

impl HesaiModel {
    /// How many channels it has.
    pub const fn channels(self) -> usize {
        match self {
            Self::PandarXt32 => 32,
            Self::Pandar40P => 40,
        }
    }

    const fn blocks(self) -> usize {
        match self {
            Self::PandarXt32 => 8,
            Self::Pandar40P => 10,
        }
    }

    const fn header_bytes(self) -> usize {
        match self {
            Self::PandarXt32 => 12,
            Self::Pandar40P => 0,
        }
    }

    const fn block_bytes(self) -> usize {
        match self {
            Self::PandarXt32 => 2 + 4 * 32,
            Self::Pandar40P => 4 + 3 * 40,
        }
    }

    const fn tail_bytes(self) -> usize {
        match self {
            Self::PandarXt32 => 24,
            Self::Pandar40P => 22,
        }
    }

    /// Without the sequence number.
    const fn packet_bytes(self) -> usize {
        self.header_bytes() + self.blocks() * self.block_bytes() + self.tail_bytes()
    }

    /// From block to block.
    const fn block_period_ns(self) -> i32 {
        match self {
            Self::PandarXt32 => 50_000,
            Self::Pandar40P => 55_560,
        }
    }

    /// When the first channel of the packet's last block fires, from the packet's time.
    const fn last_block_ns(self) -> i32 {
        match self {
            Self::PandarXt32 => 5_632 + 368,
            Self::Pandar40P => -28_580 + PANDAR_40P_FIRST_SHOT_NS,
        }
    }

    /// When a channel fires, from the first of its block.
    fn shot_offset_ns(self, channel: usize) -> i32 {
        match self {
            Self::PandarXt32 => i32::try_from(channel).unwrap_or_default().saturating_mul(1_512),
            Self::Pandar40P => {
                let shot_ns = PANDAR_40P_SHOTS_NS.get(channel).copied().unwrap_or_default();
                shot_ns.saturating_sub(PANDAR_40P_FIRST_SHOT_NS)
            }
        }
    }
}

/// Where each channel of a lidar points.
#[derive(Clone, Debug, PartialEq)]
pub struct HesaiCorrection {
    model: HesaiModel,
    channels: Vec<Channel>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Channel {
    sin_azimuth: f32,
    cos_azimuth: f32,
    sin_elevation: f32,
    cos_elevation: f32,
    ring: u16,
    shot_ns: i32,
}

impl Channel {
    /// The echo's place, the block's azimuth being given by sine and cosine.
    fn point(&self, distance_m: f32, (sin, cos): (f32, f32)) -> Point {
        let level_m = distance_m * self.cos_elevation;
        Point {
            x_m: level_m * (sin * self.cos_azimuth + cos * self.sin_azimuth),
            y_m: level_m * (cos * self.cos_azimuth - sin * self.sin_azimuth),
            z_m: distance_m * self.sin_elevation,
            ring: self.ring,
            ..Point::default()
        }
    }
}

/// Why a text is not the angle correction of a lidar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HesaiCorrectionError {
    /// A line is not a channel's.
    #[error("line {line} of the angle correction: expected `channel,elevation,azimuth` in degrees, found `{found}`")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is there.
        found: String,
    },
    /// A channel is there twice, or is not one of the lidar.
    #[error("line {line} of the angle correction: expected each channel of 1 to {channels} once, found {found}")]
    Channel {
        /// Number of the line, from 1.
        line: usize,
        /// How many the lidar has.
        channels: usize,
        /// What is there.
        found: usize,
    },
    /// There are fewer channels than the lidar has.
    #[error("expected {expected} channels in the angle correction, found {found}")]
    Channels {
        /// What the model has.
        expected: usize,
        /// What the text has.
        found: usize,
    },
}

impl HesaiCorrection {
    /// The channels as they are designed. Each lidar differs by some tenths of a degree, which its own file tells.
    pub fn nominal(model: HesaiModel) -> Self {
        match model {
            // From 15 degrees down, a degree apart, all in line (manual, appendix I).
            HesaiModel::PandarXt32 => Self::new(model, (0..32_u8).map(|channel| (15.0 - f32::from(channel), 0.0))),
            HesaiModel::Pandar40P => Self::new(model, PANDAR_40P.into_iter()),
        }
    }

    /// Reads an angle correction file: a line of titles, then a line `channel,elevation,azimuth` for each channel, in
    /// degrees and in any order.
    ///
    /// # Errors
    /// A [`HesaiCorrectionError`] that says which line is wrong or how many are missing.
    pub fn from_csv(model: HesaiModel, text: &str) -> Result<Self, HesaiCorrectionError> {
        let channels = model.channels();
        let mut angles_deg: Vec<Option<(f32, f32)>> = vec![None; channels];
        let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines().map(str::trim));
        for (line, content) in lines.filter(|(_, content)| !content.is_empty()) {
            let Some((number, angles)) = read_line(content) else {
                if line == 1 {
                    continue;
                }
                return Err(HesaiCorrectionError::Line { line, found: content.to_string() });
            };
            let place = number.checked_sub(1).and_then(|index| angles_deg.get_mut(index));
            let place = place.filter(|place| place.is_none());
            *place.ok_or(HesaiCorrectionError::Channel { line, channels, found: number })? = Some(angles);
        }
        let found = angles_deg.iter().flatten().count();
        if found != channels {
            return Err(HesaiCorrectionError::Channels { expected: channels, found });
        }
        Ok(Self::new(model, angles_deg.into_iter().flatten()))
    }

    /// From elevations and azimuths in degrees.
    fn new(model: HesaiModel, angles_deg: impl Iterator<Item = (f32, f32)> + Clone) -> Self {
        let channel = |(index, (elevation_deg, azimuth_deg)): (usize, (f32, f32))| {
            let lower = angles_deg.clone().filter(|(other_deg, _)| *other_deg < elevation_deg).count();
            let (sin_azimuth, cos_azimuth) = libm::sincosf(azimuth_deg.to_radians());
            let (sin_elevation, cos_elevation) = libm::sincosf(elevation_deg.to_radians());
            let ring = u16::try_from(lower).unwrap_or(u16::MAX);
            let shot_ns = model.shot_offset_ns(index);
            Channel { sin_azimuth, cos_azimuth, sin_elevation, cos_elevation, ring, shot_ns }
        };
        let channels = angles_deg.clone().enumerate().map(channel).collect();
        HesaiCorrection { model, channels }
    }
}

fn read_line(content: &str) -> Option<(usize, (f32, f32))> {
    let mut words = content.split(',').map(str::trim);
    let number = words.next()?.parse().ok()?;
    let elevation_deg = words.next()?.parse().ok().filter(|angle: &f32| angle.is_finite())?;
    let azimuth_deg = words.next()?.parse().ok().filter(|angle: &f32| angle.is_finite())?;
    words.next().is_none().then_some((number, (elevation_deg, azimuth_deg)))
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HesaiError {
    /// It has another length.
    #[error("expected a Hesai packet of {expected} bytes, or {SEQUENCE_BYTES} more, found {found}")]
    Length {
        /// The packet's bytes without a sequence number.
        expected: usize,
        /// The packet's bytes.
        found: usize,
    },
    /// It is of another kind of lidar.
    #[error("expected the header {expected:02x?}, found {found:02x?}")]
    Header {
        /// Start of packet, protocol, reserved, lasers, blocks.
        expected: [u8; 8],
        /// What is there.
        found: [u8; 8],
    },
    /// A block does not begin as it must.
    #[error("expected ff ee at the start of block {block}, found {found:02x?}")]
    BlockFlag {
        /// Number of the block, from 0.
        block: usize,
        /// What is there.
        found: [u8; 2],
    },
    /// An azimuth is a full turn or more.
    #[error("expected an azimuth below 36000 in block {block}, found {found}")]
    Azimuth {
        /// Number of the block, from 0.
        block: usize,
        /// What is there.
        found: u16,
    },
    /// It is in a return mode that is not read.
    #[error("expected a return mode of one or two echoes (0x33, 0x37 to 0x39, 0x3b, 0x3c), found {found:#04x}")]
    ReturnMode {
        /// In the packet.
        found: u8,
    },
    /// The date is not a date.
    #[error("expected a date as years, month, day, hour, minute and second, found {found:?}")]
    Date {
        /// What is there.
        found: [u8; 6],
    },
    /// The microseconds are more than a second.
    #[error("expected at most 1000000 microseconds, found {found}")]
    Time {
        /// What is there.
        found: u32,
    },
}

/// A packet that holds what it must.
struct Packet<'a> {
    /// As many as the model has, then empty ones.
    blocks: [Block<'a>; MAX_BLOCKS],
    distance_unit_m: f32,
    tail: Tail,
    sequence: Option<u32>,
}

#[derive(Clone, Copy, Default)]
struct Block<'a> {
    azimuth: Azimuth,
    echoes: &'a [u8],
}

#[derive(Clone, Copy)]
struct Tail {
    returns: usize,
    /// What the manual calls the absolute time of the packet.
    time_ns: i64,
}

impl<'a> Packet<'a> {
    fn parse(payload: &'a [u8], model: HesaiModel) -> Result<Self, HesaiError> {
        let wrong_length = HesaiError::Length { expected: model.packet_bytes(), found: payload.len() };
        let (bytes, sequence) = payload.split_at_checked(model.packet_bytes()).ok_or(wrong_length)?;
        let sequence = match sequence {
            [] => None,
            [a, b, c, d] => Some(u32::from_le_bytes([*a, *b, *c, *d])),
            _ => return Err(wrong_length),
        };
        let (header, rest) = bytes.split_at_checked(model.header_bytes()).ok_or(wrong_length)?;
        let body_bytes = model.blocks() * model.block_bytes();
        let (body, tail) = rest.split_at_checked(body_bytes).ok_or(wrong_length)?;
        let distance_unit_m = match model {
            HesaiModel::PandarXt32 => read_header(header).ok_or(wrong_length)??,
            HesaiModel::Pandar40P => 0.004,
        };
        let tail = match model {
            HesaiModel::PandarXt32 => Tail::of_xt32(tail),
            HesaiModel::Pandar40P => Tail::of_40p(tail),
        };
        let mut blocks = [Block::default(); MAX_BLOCKS];
        for (number, (block, chunk)) in blocks.iter_mut().zip(body.chunks_exact(model.block_bytes())).enumerate() {
            *block = Block::parse(number, chunk, model).ok_or(wrong_length)??;
        }
        Ok(Packet { blocks, distance_unit_m, tail: tail.ok_or(wrong_length)??, sequence })
    }
}

/// The unit of distance. `None` if it is too short.
fn read_header(header: &[u8]) -> Option<Result<f32, HesaiError>> {
    let (found, [_first_return, unit_mm, _returns, _flags]) = header.split_first_chunk::<8>()? else { return None };
    let reserved = [found[0], found[1], found[2], found[3], 0, 0, found[6], found[7]];
    if reserved != XT_HEADER {
        return Some(Err(HesaiError::Header { expected: XT_HEADER, found: *found }));
    }
    Some(Ok(f32::from(*unit_mm) * 0.001))
}

impl<'a> Block<'a> {
    fn parse(block: usize, bytes: &'a [u8], model: HesaiModel) -> Option<Result<Self, HesaiError>> {
        let bytes = match model {
            HesaiModel::PandarXt32 => bytes,
            HesaiModel::Pandar40P => {
                let (found, rest) = bytes.split_first_chunk::<2>()?;
                if *found != BLOCK_FLAG {
                    return Some(Err(HesaiError::BlockFlag { block, found: *found }));
                }
                rest
            }
        };
        let (azimuth, echoes) = bytes.split_first_chunk::<2>()?;
        let found = u16::from_le_bytes(*azimuth);
        let azimuth = Azimuth::from_centidegrees(found).ok_or(HesaiError::Azimuth { block, found });
        Some(azimuth.map(|azimuth| Block { azimuth, echoes }))
    }

    fn echo(&self, channel: usize, bytes: usize) -> Echo {
        let place = self.echoes.get(channel.saturating_mul(bytes)..).and_then(|rest| rest.first_chunk::<3>());
        Echo::from_bytes(place.copied().unwrap_or_default())
    }
}

impl Tail {
    fn of_xt32(bytes: &[u8]) -> Option<Result<Self, HesaiError>> {
        let (_, [mode, _, _, rest @ ..]) = bytes.split_first_chunk::<10>()? else { return None };
        let (date, rest) = rest.split_first_chunk::<6>()?;
        let (micros, _) = rest.split_first_chunk::<4>()?;
        Some(Self::new(*mode, 1900, *date, *micros))
    }

    fn of_40p(bytes: &[u8]) -> Option<Result<Self, HesaiError>> {
        let (_, rest) = bytes.split_first_chunk::<10>()?;
        let (micros, [mode, _, date @ ..]) = rest.split_first_chunk::<4>()? else { return None };
        Some(Self::new(*mode, 2000, *date.first_chunk::<6>()?, *micros))
    }

    fn new(mode: u8, year_zero: i64, date: [u8; 6], micros: [u8; 4]) -> Result<Self, HesaiError> {
        let returns = match mode {
            0x33 | 0x37 | 0x38 => 1,
            0x39 | 0x3B | 0x3C => 2,
            found => return Err(HesaiError::ReturnMode { found }),
        };
        let found = u32::from_le_bytes(micros);
        if found > 1_000_000 {
            return Err(HesaiError::Time { found });
        }
        let seconds = unix_seconds(year_zero, date).ok_or(HesaiError::Date { found: date })?;
        Ok(Tail { returns, time_ns: (seconds * 1_000_000 + i64::from(found)) * 1_000 })
    }
}

/// Seconds since 1970 of a date in UTC. `None` if there is no such date.
fn unix_seconds(year_zero: i64, [year, month, day, hour, minute, second]: [u8; 6]) -> Option<i64> {
    const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const DAYS: [u8; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::from(month).checked_sub(1)?;
    let year = year_zero + i64::from(year);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = *DAYS.get(index)? + u8::from(is_leap && month == 2);
    // A leap second counts as the first of the next minute, as in Unix time.
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - 477 + i64::from(is_leap && month > 2);
    let days = (year - 1970) * 365 + leap_days + DAYS_BEFORE.get(index)? + i64::from(day) - 1;
    Some(((days * 24 + i64::from(hour)) * 60 + i64::from(minute)) * 60 + i64::from(second))
}

/// Decoder of one lidar.
#[derive(Clone, Debug)]
pub struct HesaiDecoder {
    correction: HesaiCorrection,
    assembler: ScanAssembler,
    last_sequence: Option<u32>,
}

impl HesaiDecoder {
    /// Of a lidar that is cut into scans at `cut`. `clock` is what keeps its time: [`ClockId::Gnss`] or
    /// [`ClockId::Ptp`] where it is set up so, otherwise [`ClockId::Sensor`]; the packets do not tell.
    pub fn new(correction: HesaiCorrection, cut: Azimuth, clock: ClockId) -> Self {
        HesaiDecoder { correction, assembler: ScanAssembler::new(cut, clock), last_sequence: None }
    }

    /// How many packets are missing in front of this one, by its number where it has one, else by the time.
    fn missing_before(&self, packet: &Packet<'_>, gap_ns: i64) -> u32 {
        let step = self.last_sequence.zip(packet.sequence).map(|(last, sequence)| sequence.wrapping_sub(last));
        match step.and_then(|step| step.checked_sub(1)) {
            Some(missing) if missing <= MAX_MISSING => missing,
            _ => {
                let model = self.correction.model;
                let groups = i64::try_from(model.blocks() / packet.tail.returns).unwrap_or(1);
                packets_between(gap_ns, groups * i64::from(model.block_period_ns()))
            }
        }
    }

    /// When the first channel of a group of blocks fires.
    fn fired_ns(&self, packet: &Packet<'_>, group: usize) -> i64 {
        let model = self.correction.model;
        let groups = model.blocks() / packet.tail.returns;
        let before_last = i64::try_from(groups.saturating_sub(group + 1)).unwrap_or_default();
        let offset_ns = i64::from(model.last_block_ns()) - before_last * i64::from(model.block_period_ns());
        packet.tail.time_ns.saturating_add(offset_ns)
    }

    fn take_packet(&mut self, packet: &Packet<'_>, scan: &mut LidarScan) {
        let model = self.correction.model;
        let echo_bytes = match model {
            HesaiModel::PandarXt32 => 4,
            HesaiModel::Pandar40P => 3,
        };
        let blocks = packet.blocks.get(..model.blocks()).unwrap_or_default();
        for (number, group) in blocks.chunks_exact(packet.tail.returns).enumerate() {
            let Some(azimuth) = group.first().map(|block| block.azimuth) else { return };
            let fired_ns = self.fired_ns(packet, number);
            self.assembler.fire(azimuth, fired_ns, scan);
            let direction = libm::sincosf(f32::from(azimuth.centidegrees()) * Azimuth::RAD_PER_UNIT);
            for (index, channel) in self.correction.channels.iter().enumerate() {
                let echoes = group.iter().map(|block| block.echo(index, echo_bytes));
                let stamp_ns = fired_ns.saturating_add(i64::from(channel.shot_ns));
                self.assembler.push_shot(echoes, stamp_ns, |distance| {
                    channel.point(distance * packet.distance_unit_m, direction)
                });
            }
        }
    }
}

impl LidarDecoder for HesaiDecoder {
    type Error = HesaiError;

    fn decode(&mut self, payload: &[u8], arrival_ns: i64, scan: &mut LidarScan) -> Result<bool, HesaiError> {
        let parsed = Packet::parse(payload, self.correction.model);
        let packet = parsed.inspect_err(|_| count(&mut self.assembler.counts().refused_packets, 1))?;
        let stamp_ns = self.fired_ns(&packet, 0);
        match self.assembler.begin_packet(stamp_ns, arrival_ns, scan) {
            Follows::Younger => return Ok(false),
            Follows::Nothing => {}
            Follows::After(gap_ns) => {
                let missing = self.missing_before(&packet, gap_ns);
                count(&mut self.assembler.counts().missing_packets, missing);
            }
        }
        self.last_sequence = packet.sequence;
        self.take_packet(&packet, scan);
        Ok(self.assembler.end_packet())
    }

    fn finish(&mut self, scan: &mut LidarScan) -> bool {
        self.assembler.finish(scan)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Recorded, range_m, real_cloud, recorded};
    use super::*;
    use proptest::prelude::*;

    /// What the packets of a test have in common.
    #[derive(Clone, Copy)]
    struct Made {
        model: HesaiModel,
        mode: u8,
        date: [u8; 6],
    }

    const XT32: Made = Made { model: HesaiModel::PandarXt32, mode: 0x37, date: [126, 2, 28, 23, 59, 59] };
    const P40: Made = Made { model: HesaiModel::Pandar40P, mode: 0x37, date: [26, 2, 28, 23, 59, 59] };

    impl Made {
        /// A packet whose blocks are 20 units apart, in single mode or in pairs; each channel sees `echo(block,
        /// channel)`.
        fn packet(
            self,
            micros: u32,
            first: u16,
            sequence: Option<u32>,
            echo: impl Fn(u16, u16) -> (u16, u8),
        ) -> Vec<u8> {
            let Made { model, mode, date } = self;
            let xt = model == HesaiModel::PandarXt32;
            let mut bytes = Vec::new();
            if xt {
                bytes.extend(XT_HEADER);
                bytes.extend([0, 4, 1, u8::from(sequence.is_some())]);
            }
            for block in 0..model.blocks() as u16 {
                let group = if mode >= 0x39 { block / 2 } else { block };
                if !xt {
                    bytes.extend(BLOCK_FLAG);
                }
                bytes.extend(((first + group * 20) % 36_000).to_le_bytes());
                for channel in 0..model.channels() as u16 {
                    let (distance, intensity) = echo(block, channel);
                    bytes.extend(distance.to_le_bytes());
                    bytes.push(intensity);
                    bytes.extend(&[0xFF][..usize::from(xt)]);
                }
            }
            bytes.extend([0; 10]);
            if xt {
                bytes.extend([mode, 0x58, 2]);
                bytes.extend(date);
                bytes.extend(micros.to_le_bytes());
                bytes.push(0x42);
            } else {
                bytes.extend(micros.to_le_bytes());
                bytes.extend([mode, 0x42]);
                bytes.extend(date);
            }
            bytes.extend(sequence.into_iter().flat_map(u32::to_le_bytes));
            bytes
        }

        fn decoder(self) -> HesaiDecoder {
            HesaiDecoder::new(HesaiCorrection::nominal(self.model), Azimuth::default(), ClockId::Ptp)
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(unix_seconds(1900, [70, 1, 1, 0, 0, 0]), Some(0));
        assert_eq!(unix_seconds(2000, [0, 3, 1, 0, 0, 0]), Some(951_868_800));
        assert_eq!(unix_seconds(2000, [24, 2, 29, 12, 0, 1]), Some(1_709_208_001));
        assert_eq!(unix_seconds(1900, [126, 11, 29, 20, 54, 0]), Some(1_795_985_640));
        assert_eq!(unix_seconds(1900, [69, 12, 31, 23, 59, 60]), Some(0));
        for wrong in
            [[23, 2, 29, 0, 0, 0], [23, 0, 1, 0, 0, 0], [23, 13, 1, 0, 0, 0], [23, 1, 0, 0, 0, 0], [23, 1, 1, 24, 0, 0]]
        {
            assert_eq!(unix_seconds(2000, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn points_of_the_xt32_are_placed_and_dated() {
        let mut decoder = XT32.decoder();
        let mut scan = LidarScan::default();
        let packet = XT32.packet(500_000, 9_000, Some(7), |_, channel| (250, channel as u8));
        assert_eq!(packet.len(), 1080);
        assert_eq!(decoder.decode(&packet, 77, &mut scan), Ok(false));
        assert!(decoder.finish(&mut scan));
        assert_eq!((scan.points.len(), scan.clock, scan.arrival_ns), (256, ClockId::Ptp, 77));
        // The last block is fired 6 microseconds behind the packet's time, the first seven blocks before.
        assert_eq!(scan.stamp_ns, 1_772_323_199_500_000_000 + 6_000 - 7 * 50_000);
        let (first, last) = (scan.points[0], scan.points[255]);
        assert_eq!((first.ring, first.offset_ns, first.return_number), (31, 0, 0));
        assert_eq!((last.ring, last.offset_ns, last.intensity), (0, 7 * 50_000 + 31 * 1_512, 31.0));
        // At 90 degrees it looks along x, the first channel 15 degrees up.
        let (sin, cos) = libm::sincosf(15_f32.to_radians());
        assert!((first.x_m - cos).abs() < 1e-6 && first.y_m.abs() < 1e-6 && (first.z_m - sin).abs() < 1e-6);
        assert!((libm::atan2f(last.x_m, last.y_m).to_degrees() - 91.4).abs() < 1e-4);
    }

    #[test]
    fn points_of_the_40p_are_placed_and_dated() {
        let mut decoder = P40.decoder();
        let mut scan = LidarScan::default();
        let packet = P40.packet(0, 0, None, |_, _| (250, 9));
        assert_eq!(packet.len(), 1262);
        decoder.decode(&packet, 0, &mut scan).unwrap();
        decoder.finish(&mut scan);
        assert_eq!(scan.stamp_ns, 1_772_323_199_000_000_000 - 28_580 - 54_670 - 9 * 55_560);
        assert_eq!(scan.points.len(), 400);
        // The eighth channel fires first, the fourth last.
        assert_eq!((scan.points[7].offset_ns, scan.points[3].offset_ns), (0, 54_670 - 3_620));
        assert!((libm::atan2f(scan.points[7].x_m, scan.points[7].y_m).to_degrees() + 5.208).abs() < 1e-4);
        assert_eq!((scan.points[0].ring, scan.points[39].ring), (39, 0));
    }

    #[test]
    fn equal_echoes_are_kept_once() {
        let made = Made { mode: 0x39, ..P40 };
        let mut decoder = made.decoder();
        let mut scan = LidarScan::default();
        let echo = |block: u16, channel: u16| match (block % 2, channel) {
            (_, 2) => (0, 0),
            (1, 1) => (400, 80),
            _ => (500, 20),
        };
        decoder.decode(&made.packet(0, 0, Some(1), echo), 0, &mut scan).unwrap();
        decoder.finish(&mut scan);
        assert_eq!((scan.counts.no_return, scan.counts.duplicate_returns), (10, 5 * 38));
        let kinds: Vec<(u8, f32)> =
            scan.points.iter().take(4).map(|point| (point.return_number, point.intensity)).collect();
        assert_eq!(kinds, [(1, 20.0), (1, 20.0), (2, 80.0), (1, 20.0)]);
    }

    #[test]
    fn missing_packets_are_counted_by_number_or_by_time() {
        for numbered in [true, false] {
            let mut decoder = XT32.decoder();
            let mut scan = LidarScan::default();
            for number in [0_u32, 1, 4, 5, 5, 7] {
                let packet = XT32.packet(number * 400, 100, numbered.then_some(number), |_, _| (500, 1));
                decoder.decode(&packet, 0, &mut scan).unwrap();
            }
            decoder.finish(&mut scan);
            let counts = scan.counts;
            assert_eq!((counts.packets, counts.missing_packets, counts.late_packets), (5, 3, 1), "{numbered}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_packet_is_named_and_counted() {
        let mut scan = LidarScan::default();
        let mut error = |made: Made, at: usize, value: u8| {
            let mut bytes = made.packet(0, 0, None, |_, _| (500, 1));
            bytes[at] = value;
            let mut decoder = made.decoder();
            let error = decoder.decode(&bytes, 0, &mut scan).unwrap_err();
            decoder.finish(&mut scan);
            assert_eq!(scan.counts.refused_packets, 1);
            error
        };
        let found = [0xEE, 0xFF, 6, 1, 0, 0, 16, 8];
        assert_eq!(error(XT32, 6, 16), HesaiError::Header { expected: XT_HEADER, found });
        assert_eq!(error(P40, 125, 0), HesaiError::BlockFlag { block: 1, found: [0xFF, 0] });
        assert_eq!(error(P40, 3, 0xFF), HesaiError::Azimuth { block: 0, found: 0xFF00 });
        assert_eq!(error(XT32, 1062, 0x3D), HesaiError::ReturnMode { found: 0x3D });
        assert_eq!(error(P40, 1257, 13), HesaiError::Date { found: [26, 13, 28, 23, 59, 59] });
        assert_eq!(error(XT32, 1073, 0x10), HesaiError::Time { found: 0x10_0000 });
        let short = P40.decoder().decode(&[0; 1264], 0, &mut scan);
        assert_eq!(short, Err(HesaiError::Length { expected: 1262, found: 1264 }));
    }

    #[test]
    fn correction_files_are_read() {
        let text: String = (1..=32).rev().map(|n| format!("{n}, {}, 0.{n:02}\r\n", 20 - n)).collect();
        let text = format!("\u{feff}Channel,Elevation,Azimuth\r\n{text}\r\n");
        let correction = HesaiCorrection::from_csv(HesaiModel::PandarXt32, &text).unwrap();
        assert_eq!((correction.channels[0].ring, correction.channels[31].ring), (31, 0));
        assert!((correction.channels[4].sin_azimuth - libm::sinf(0.05_f32.to_radians())).abs() < 1e-9);
        let error = |text: &str| HesaiCorrection::from_csv(HesaiModel::PandarXt32, text).unwrap_err();
        assert_eq!(error("a\n1,2,3\n"), HesaiCorrectionError::Channels { expected: 32, found: 1 });
        assert_eq!(error("1,2,3\n1,2,3"), HesaiCorrectionError::Channel { line: 2, channels: 32, found: 1 });
        assert_eq!(error("33,2,3"), HesaiCorrectionError::Channel { line: 1, channels: 32, found: 33 });
        assert_eq!(error("a\n1,2,nan"), HesaiCorrectionError::Line { line: 2, found: "1,2,nan".to_string() });
    }

    /// The cloud that TIER IV's driver nebula made of the same packets with the lidar's own angle correction, which is
    /// not among the data: it is found from the cloud, one rotation for each channel, and read back as a file.
    #[test]
    fn a_recording_gives_the_cloud_that_another_driver_made() {
        let Some(Recorded { packets }) = recorded("packets_hesai/xt32/1673400677802009732/1673400677802009732_0.db3")
        else {
            return;
        };
        let Some(expected) = real_cloud("packets_hesai/xt32/1673400678101968885.pcd") else { return };
        let scans = decode_all(&packets, HesaiCorrection::nominal(XT32.model));
        let complete: Vec<bool> = scans.iter().map(|scan| scan.complete).collect();
        assert_eq!(complete, [false, true, true, true, false]);
        let clean = |scan: &LidarScan| scan.counts.missing_packets + scan.counts.time_jumps + scan.counts.late_packets;
        assert!(scans.iter().all(|scan| clean(scan) == 0));

        // The lidar's own correction is what turns each channel from its nominal place.
        let mut sums = [(0.0, 0.0, 0.0); 32];
        for (point, stored) in pairs(&scans, &expected) {
            let turned_deg = (azimuth_deg(&stored) - azimuth_deg(&point) + 540.0).rem_euclid(360.0) - 180.0;
            let sum = &mut sums[usize::from(31 - point.ring)];
            *sum = (sum.0 + 1.0, sum.1 + elevation_deg(&stored), sum.2 + turned_deg);
        }
        let lines = sums.iter().zip(1..).map(|((count, elevation, azimuth), channel)| {
            let (elevation, azimuth) = (elevation / count, azimuth / count);
            assert!((elevation - (16.0 - f64::from(channel))).abs() < 0.2 && azimuth.abs() < 0.2, "{channel}");
            assert_eq!(azimuth > 0.0, 32 - channel >= LOWEST_AHEAD, "{channel}");
            format!("{channel},{elevation},{azimuth}\n")
        });
        let correction = format!("Channel,Elevation,Azimuth\n{}", lines.collect::<String>());
        let scans = decode_all(&packets, HesaiCorrection::from_csv(XT32.model, &correction).unwrap());
        let pairs = pairs(&scans, &expected);
        let away_m = pairs.iter().map(|(point, stored)| away_m(point, stored)).fold(0.0, f32::max);
        eprintln!("the farthest of {} is {away_m} m away", pairs.len());
        assert!(away_m < 0.005, "{away_m}");
    }

    fn decode_all(packets: &[(i64, Vec<u8>)], correction: HesaiCorrection) -> Vec<LidarScan> {
        let mut decoder = HesaiDecoder::new(correction, Azimuth::default(), ClockId::Sensor);
        let (mut scan, mut scans) = (LidarScan::default(), Vec::new());
        for (stamp_ns, bytes) in packets {
            if decoder.decode(bytes, *stamp_ns, &mut scan).unwrap() {
                scans.push(scan.clone());
            }
        }
        decoder.finish(&mut scan);
        scans.push(scan);
        scans
    }

    /// The lowest ring of the recorded lidar that looks ahead of the encoder.
    const LOWEST_AHEAD: u16 = 19;

    /// Our point to each of the stored ones, which are of the fourth scan and in the same order. The other driver cuts
    /// each channel where that channel itself passes the cut, so that of a block that stands right on it, the channels
    /// that look ahead belong to the scan behind it, as all do for us, and the others to the one before.
    fn pairs(scans: &[LidarScan], expected: &[Point]) -> Vec<(Point, Point)> {
        let is_before = |point: &&Point| point.offset_ns < 50_000 && point.ring < LOWEST_AHEAD;
        let own = scans[3].points.iter().filter(|point| !is_before(point));
        let ours: Vec<Point> = own.chain(scans[4].points.iter().filter(is_before)).copied().collect();
        assert_eq!(ours.len(), expected.len());
        ours.into_iter().zip(expected.iter().copied()).collect()
    }

    fn azimuth_deg(point: &Point) -> f64 {
        libm::atan2(f64::from(point.x_m), f64::from(point.y_m)).to_degrees()
    }

    fn elevation_deg(point: &Point) -> f64 {
        libm::asin(f64::from(point.z_m / range_m(point))).to_degrees()
    }

    fn away_m(a: &Point, b: &Point) -> f32 {
        let difference = Point { x_m: a.x_m - b.x_m, y_m: a.y_m - b.y_m, z_m: a.z_m - b.z_m, ..*a };
        range_m(&difference)
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        for made in [XT32, P40] {
            let good = made.packet(1_000, 35_900, Some(9), |block, channel| (block * 40 + channel, 1));
            let mut decoder = made.decoder();
            let mut scan = LidarScan::default();
            for length in (0..good.len()).filter(|length| *length != made.model.packet_bytes()) {
                assert!(decoder.decode(&good[..length], 0, &mut scan).is_err());
            }
            for position in 0..good.len() {
                for bit in 0..8 {
                    let mut damaged = good.clone();
                    damaged[position] ^= 1 << bit;
                    let _ = decoder.decode(&damaged, i64::MAX, &mut scan);
                    assert!(scan.points.iter().all(|point| point.offset_ns >= 0));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-,a-z_0-9. \\n]{0,200}") {
            let _ = HesaiCorrection::from_csv(HesaiModel::PandarXt32, &text);
        }

        #[test]
        fn days_follow_each_other(year: u8, month in 1_u8..=12, day in 1_u8..=31) {
            let next = unix_seconds(1900, [year, month, day + 1, 0, 0, 0]);
            if let (Some(today), Some(tomorrow)) = (unix_seconds(1900, [year, month, day, 0, 0, 0]), next) {
                prop_assert_eq!(tomorrow - today, 86_400);
            }
        }
    }
}
