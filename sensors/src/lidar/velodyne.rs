//! Velodyne's VLP-16 and VLP-32C: their data packets of 1206 bytes, and the calibration YAML of the ROS driver.
//!
//! Sources: VLP-16 User Manual (63-9243 Rev. E) and VLP-32C User Manual (63-9325 Rev. C), both chapter 9: data packet,
//! firing sequence, dual return, laser tables. A packet is 12 blocks of an azimuth and 32 echoes, then the time in
//! microseconds past the hour, the return mode and the product. The hour is taken from the arrival, so that the two
//! clocks have to agree within half an hour.
//!
//! Points are in the sensor's frame as ROS drivers turn it: x along azimuth 0, y to the left of it, z up. Rings count
//! from the lowest laser. In dual mode `return_number` is 1 for the last and 2 for the strongest echo (the second
//! strongest where the last is the strongest); an echo that both give is kept once, as the last. In single mode it is
//! 0.

use super::{Azimuth, Echo, Follows, LidarDecoder, LidarScan, ScanAssembler, count, packets_between};
use crate::cloud::Point;
use crate::packet::ClockId;
use thiserror::Error;

const PACKET_BYTES: usize = 1206;
const BLOCK_BYTES: usize = 100;
const BLOCKS: usize = 12;
const BLOCK_FLAG: u16 = 0xEEFF;
/// All lasers fire once, the pause before the next time included.
const SEQUENCE_NS: u32 = 55_296;
const SHOT_NS: u32 = 2_304;
const HOUR_US: u32 = 3_600_000_000;
/// Twice what the fastest turn takes from block to block (1200 turns a minute, 110.592 microseconds).
const MAX_STEP: u16 = 160;

/// A kind of lidar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VelodyneModel {
    /// VLP-16 (Puck), also as Puck LITE.
    Vlp16,
    /// VLP-32C (Ultra Puck).
    Vlp32C,
}

impl VelodyneModel {
    /// How many lasers it has.
    pub const fn lasers(self) -> usize {
        match self {
            Self::Vlp16 => 16,
            Self::Vlp32C => 32,
        }
    }

    const fn product(self) -> u8 {
        match self {
            Self::Vlp16 => 0x22,
            Self::Vlp32C => 0x28,
        }
    }

    /// How many times all lasers fire in a block.
    const fn sequences_per_block(self) -> u32 {
        match self {
            Self::Vlp16 => 2,
            Self::Vlp32C => 1,
        }
    }

    /// When a laser fires within the sequence: the VLP-32C's fire in pairs.
    const fn shot_offset_ns(self, laser: u32) -> u32 {
        let slot = match self {
            Self::Vlp16 => laser,
            Self::Vlp32C => laser / 2,
        };
        slot.saturating_mul(SHOT_NS)
    }

    const fn distance_unit_m(self) -> f32 {
        match self {
            Self::Vlp16 => 0.002,
            Self::Vlp32C => 0.004,
        }
    }
}

/// The VLP-16's lasers in the order of firing: elevation in degrees and height of the beam's origin in millimetres
/// (manual, table 9-1; the ROS driver's `VLP16db.yaml` has the same).
const VLP_16: [(f32, f32); 16] = [
    (-15.0, 11.2),
    (1.0, -0.7),
    (-13.0, 9.7),
    (3.0, -2.2),
    (-11.0, 8.1),
    (5.0, -3.7),
    (-9.0, 6.6),
    (7.0, -5.1),
    (-7.0, 5.1),
    (9.0, -6.6),
    (-5.0, 3.7),
    (11.0, -8.1),
    (-3.0, 2.2),
    (13.0, -9.7),
    (-1.0, 0.7),
    (15.0, -11.2),
];

/// The VLP-32C's lasers in the order of the packet: elevation and azimuth from the encoder's, both in degrees (manual,
/// table 9-2; the ROS driver's `VeloView-VLP-32C.yaml` has the same).
const VLP_32C: [(f32, f32); 32] = [
    (-25.0, 1.4),
    (-1.0, -4.2),
    (-1.667, 1.4),
    (-15.639, -1.4),
    (-11.31, 1.4),
    (0.0, -1.4),
    (-0.667, 4.2),
    (-8.843, -1.4),
    (-7.254, 1.4),
    (0.333, -4.2),
    (-0.333, 1.4),
    (-6.148, -1.4),
    (-5.333, 4.2),
    (1.333, -1.4),
    (0.667, 4.2),
    (-4.0, -1.4),
    (-4.667, 1.4),
    (1.667, -4.2),
    (1.0, 1.4),
    (-3.667, -4.2),
    (-3.333, 4.2),
    (3.333, -1.4),
    (2.333, 1.4),
    (-2.667, -1.4),
    (-3.0, 1.4),
    (7.0, -1.4),
    (4.667, 1.4),
    (-2.333, -4.2),
    (-2.0, 4.2),
    (15.0, -1.4),
    (10.333, 1.4),
    (-1.333, -1.4),
];

/// Where each laser of a lidar points.
#[derive(Clone, Debug, PartialEq)]
pub struct VelodyneCalibration {
    model: VelodyneModel,
    distance_unit_m: f32,
    lasers: Vec<Laser>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Laser {
    /// To be added to the encoder's azimuth, in its sense.
    azimuth_rad: f32,
    elevation_rad: f32,
    sin_elevation: f32,
    cos_elevation: f32,
    distance_m: f32,
    horizontal_offset_m: f32,
    vertical_offset_m: f32,
    ring: u16,
}

impl Laser {
    /// The echo's place, the encoder standing at `azimuth_rad` when the shot was fired.
    fn point(&self, distance_m: f32, azimuth_rad: f32) -> Point {
        let (sin, cos) = libm::sincosf(azimuth_rad + self.azimuth_rad);
        let level_m = distance_m * self.cos_elevation - self.vertical_offset_m * self.sin_elevation;
        Point {
            x_m: level_m * cos + self.horizontal_offset_m * sin,
            y_m: self.horizontal_offset_m * cos - level_m * sin,
            z_m: distance_m * self.sin_elevation + self.vertical_offset_m * self.cos_elevation,
            ring: self.ring,
            ..Point::default()
        }
    }
}

/// Why a text is not the calibration of a lidar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VelodyneCalibrationError {
    /// A value is not a finite number.
    #[error("line {line} of the calibration: expected a number for `{key}`, found `{found}`")]
    Number {
        /// Number of the line, from 1.
        line: usize,
        /// The name of the value.
        key: String,
        /// What is there.
        found: String,
    },
    /// It is of a lidar with another number of lasers.
    #[error("expected {expected} lasers in the calibration, found {found}")]
    Lasers {
        /// What the model has.
        expected: usize,
        /// What the text has.
        found: usize,
    },
    /// A laser has no number, a number twice, or one that the lidar does not have.
    #[error("expected a laser_id of its own below {lasers} for each laser of the calibration, found `{found}`")]
    LaserId {
        /// How many the model has.
        lasers: usize,
        /// What is there.
        found: String,
    },
    /// A laser does not say where it points.
    #[error("expected a `{key}` for laser {laser} of the calibration, found none")]
    Missing {
        /// The laser's number.
        laser: usize,
        /// What is missing.
        key: &'static str,
    },
    /// It has a correction that only older lidars need.
    #[error("line {line} of the calibration: expected no `{key}` for this lidar, found `{found}`")]
    Unsupported {
        /// Number of the line, from 1.
        line: usize,
        /// The name of the correction.
        key: String,
        /// What is there.
        found: String,
    },
}

/// What a calibration file says of one laser.
#[derive(Clone, Copy, Debug, Default)]
struct LaserText {
    id: Option<f32>,
    rot_rad: Option<f32>,
    vert_rad: Option<f32>,
    laser: Laser,
}

impl VelodyneCalibration {
    /// The tables of the manual.
    pub fn nominal(model: VelodyneModel) -> Self {
        let lasers = match model {
            VelodyneModel::Vlp16 => VLP_16
                .iter()
                .map(|(elevation_deg, height_mm)| Laser {
                    elevation_rad: elevation_deg.to_radians(),
                    vertical_offset_m: height_mm * 0.001,
                    ..Laser::default()
                })
                .collect(),
            VelodyneModel::Vlp32C => VLP_32C
                .iter()
                .map(|(elevation_deg, azimuth_deg)| Laser {
                    elevation_rad: elevation_deg.to_radians(),
                    azimuth_rad: azimuth_deg.to_radians(),
                    ..Laser::default()
                })
                .collect(),
        };
        Self::new(model, model.distance_unit_m(), lasers)
    }

    /// Reads a calibration file of the ROS driver (`velodyne_pointcloud/params/*.yaml`).
    ///
    /// What is read is not all of YAML but what those files use of it: a list of flat maps, in braces or indented, and
    /// single values beside it. Corrections that only the HDL-64E needs (focal slope, two-point distance) are refused.
    ///
    /// # Errors
    /// A [`VelodyneCalibrationError`] that says what is wrong or missing.
    pub fn from_yaml(model: VelodyneModel, text: &str) -> Result<Self, VelodyneCalibrationError> {
        let mut distance_unit_m = model.distance_unit_m();
        let mut lasers: Vec<LaserText> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default();
            let content = match content.trim_start().strip_prefix('-') {
                Some(item) if item.starts_with([' ', '{']) || item.is_empty() => {
                    lasers.push(LaserText::default());
                    item
                }
                _ => content,
            };
            for pair in content.split(['{', '}', ',']) {
                let Some((key, value)) = pair.split_once(':') else { continue };
                let entry = Entry { line, key: key.trim(), value: value.trim() };
                match (entry.key, lasers.last_mut()) {
                    ("distance_resolution", _) => distance_unit_m = entry.number()?,
                    ("num_lasers" | "lasers", _) | (_, None) => {}
                    (_, Some(laser)) => laser.take(&entry)?,
                }
            }
        }
        let expected = model.lasers();
        if lasers.len() != expected {
            return Err(VelodyneCalibrationError::Lasers { expected, found: lasers.len() });
        }
        Ok(Self::new(model, distance_unit_m, by_number(&lasers)?))
    }

    fn new(model: VelodyneModel, distance_unit_m: f32, mut lasers: Vec<Laser>) -> Self {
        let elevations: Vec<f32> = lasers.iter().map(|laser| laser.elevation_rad).collect();
        for laser in &mut lasers {
            let lower = elevations.iter().filter(|elevation| **elevation < laser.elevation_rad).count();
            laser.ring = u16::try_from(lower).unwrap_or(u16::MAX);
            (laser.sin_elevation, laser.cos_elevation) = libm::sincosf(laser.elevation_rad);
        }
        VelodyneCalibration { model, distance_unit_m, lasers }
    }
}

/// One `key: value` of a calibration file.
struct Entry<'a> {
    line: usize,
    key: &'a str,
    value: &'a str,
}

impl Entry<'_> {
    fn number(&self) -> Result<f32, VelodyneCalibrationError> {
        let number = self.value.parse::<f32>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| VelodyneCalibrationError::Number {
            line: self.line,
            key: self.key.to_string(),
            found: self.value.to_string(),
        })
    }

    fn unsupported(&self) -> VelodyneCalibrationError {
        let (key, found) = (self.key.to_string(), self.value.to_string());
        VelodyneCalibrationError::Unsupported { line: self.line, key, found }
    }
}

impl LaserText {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), VelodyneCalibrationError> {
        match entry.key {
            "laser_id" => self.id = Some(entry.number()?),
            "rot_correction" => self.rot_rad = Some(entry.number()?),
            "vert_correction" => self.vert_rad = Some(entry.number()?),
            "dist_correction" => self.laser.distance_m = entry.number()?,
            "horiz_offset_correction" => self.laser.horizontal_offset_m = entry.number()?,
            "vert_offset_correction" => self.laser.vertical_offset_m = entry.number()?,
            "focal_slope" if entry.number()? != 0.0 => return Err(entry.unsupported()),
            "two_pt_correction_available" if entry.value != "false" => return Err(entry.unsupported()),
            _ => {}
        }
        Ok(())
    }
}

/// The lasers of a file in the order of their numbers.
fn by_number(texts: &[LaserText]) -> Result<Vec<Laser>, VelodyneCalibrationError> {
    let mut lasers: Vec<Option<Laser>> = vec![None; texts.len()];
    for text in texts {
        let wrong_id = || VelodyneCalibrationError::LaserId {
            lasers: texts.len(),
            found: text.id.map_or_else(|| "none".to_string(), |id| id.to_string()),
        };
        let number = text.id.filter(|id| *id >= 0.0 && id.fract() == 0.0).ok_or_else(wrong_id)? as usize;
        let place = lasers.get_mut(number).filter(|place| place.is_none()).ok_or_else(wrong_id)?;
        let missing = |key| VelodyneCalibrationError::Missing { laser: number, key };
        let rot_rad = text.rot_rad.ok_or_else(|| missing("rot_correction"))?;
        let elevation_rad = text.vert_rad.ok_or_else(|| missing("vert_correction"))?;
        // The file's correction is to be taken away from the encoder's azimuth.
        *place = Some(Laser { azimuth_rad: -rot_rad, elevation_rad, ..text.laser });
    }
    Ok(lasers.into_iter().flatten().collect())
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VelodyneError {
    /// It has another length.
    #[error("expected a Velodyne packet of {PACKET_BYTES} bytes, found {found}")]
    Length {
        /// The packet's bytes.
        found: usize,
    },
    /// It is of another kind of lidar.
    #[error("expected a packet of the Velodyne product {expected:#04x}, found {found:#04x}")]
    Product {
        /// Of this lidar.
        expected: u8,
        /// In the packet.
        found: u8,
    },
    /// It is in a return mode that is not read.
    #[error("expected the return mode strongest (0x37), last (0x38) or dual (0x39), found {found:#04x}")]
    ReturnMode {
        /// In the packet.
        found: u8,
    },
    /// A block does not begin as it must.
    #[error("expected {BLOCK_FLAG:#06x} at the start of block {block}, found {found:#06x}")]
    BlockFlag {
        /// Number of the block, from 0.
        block: usize,
        /// What is there.
        found: u16,
    },
    /// An azimuth is a full turn or more.
    #[error("expected an azimuth below 36000 in block {block}, found {found}")]
    Azimuth {
        /// Number of the block, from 0.
        block: usize,
        /// What is there.
        found: u16,
    },
    /// The time is an hour or more.
    #[error("expected less than {HOUR_US} microseconds past the hour, found {found}")]
    Time {
        /// What is there.
        found: u32,
    },
}

/// A packet that holds what it must.
#[derive(Clone, Copy)]
struct Packet<'a> {
    blocks: [Block<'a>; BLOCKS],
    returns: usize,
    time_us: u32,
}

#[derive(Clone, Copy, Default)]
struct Block<'a> {
    azimuth: Azimuth,
    /// Distance (two bytes) and reflectivity of each shot.
    echoes: &'a [[u8; 3]],
}

impl<'a> Packet<'a> {
    fn parse(payload: &'a [u8], model: VelodyneModel) -> Result<Self, VelodyneError> {
        let wrong_length = VelodyneError::Length { found: payload.len() };
        let bytes: &[u8; PACKET_BYTES] = payload.try_into().map_err(|_| wrong_length)?;
        let (chunks, tail) = bytes.as_chunks::<BLOCK_BYTES>();
        let [t0, t1, t2, t3, mode, product] = *tail else { return Err(wrong_length) };
        if product != model.product() {
            return Err(VelodyneError::Product { expected: model.product(), found: product });
        }
        let returns = match mode {
            0x37 | 0x38 => 1,
            0x39 => 2,
            found => return Err(VelodyneError::ReturnMode { found }),
        };
        let time_us = u32::from_le_bytes([t0, t1, t2, t3]);
        if time_us >= HOUR_US {
            return Err(VelodyneError::Time { found: time_us });
        }
        let mut blocks = [Block::default(); BLOCKS];
        for (number, (block, chunk)) in blocks.iter_mut().zip(chunks).enumerate() {
            *block = Block::parse(number, chunk)?;
        }
        Ok(Packet { blocks, returns, time_us })
    }

    /// The time of the first shot, in that hour which brings it closest to the arrival.
    fn stamp_ns(&self, arrival_ns: i64) -> i64 {
        const HOUR_NS: i64 = HOUR_US as i64 * 1_000;
        let past_hour_ns = i64::from(self.time_us).saturating_mul(1_000);
        let ahead_ns = past_hour_ns.saturating_sub(arrival_ns.rem_euclid(HOUR_NS)).rem_euclid(HOUR_NS);
        let nearest_ns = if ahead_ns > HOUR_NS / 2 { ahead_ns.saturating_sub(HOUR_NS) } else { ahead_ns };
        arrival_ns.saturating_add(nearest_ns)
    }
}

impl<'a> Block<'a> {
    fn parse(block: usize, bytes: &'a [u8; BLOCK_BYTES]) -> Result<Self, VelodyneError> {
        let [f0, f1, a0, a1, echoes @ ..] = bytes;
        let flag = u16::from_le_bytes([*f0, *f1]);
        if flag != BLOCK_FLAG {
            return Err(VelodyneError::BlockFlag { block, found: flag });
        }
        let found = u16::from_le_bytes([*a0, *a1]);
        let azimuth = Azimuth::from_centidegrees(found).ok_or(VelodyneError::Azimuth { block, found })?;
        Ok(Block { azimuth, echoes: echoes.as_chunks::<3>().0 })
    }

    fn echo(&self, index: usize) -> Echo {
        Echo::from_bytes(self.echoes.get(index).copied().unwrap_or_default())
    }
}

/// Decoder of one lidar.
#[derive(Clone, Debug)]
pub struct VelodyneDecoder {
    calibration: VelodyneCalibration,
    assembler: ScanAssembler,
}

impl VelodyneDecoder {
    /// Of a lidar that is cut into scans at `cut`. `clock` is what keeps its time: [`ClockId::Gnss`] where a receiver
    /// is wired to it, otherwise [`ClockId::Sensor`]; the packets do not tell.
    pub fn new(calibration: VelodyneCalibration, cut: Azimuth, clock: ClockId) -> Self {
        VelodyneDecoder { calibration, assembler: ScanAssembler::new(cut, clock) }
    }

    fn take_packet(&mut self, packet: &Packet<'_>, stamp_ns: i64, scan: &mut LidarScan) {
        let block_ns = SEQUENCE_NS.saturating_mul(self.calibration.model.sequences_per_block());
        let mut groups = packet.blocks.chunks_exact(packet.returns).peekable();
        let (mut start_ns, mut step) = (stamp_ns, 0);
        while let Some(group) = groups.next() {
            let Some(azimuth) = group.first().map(|block| block.azimuth) else { return };
            match groups.peek().and_then(|next| next.first()).map(|next| next.azimuth.after(azimuth)) {
                Some(gap) if gap <= MAX_STEP => step = gap,
                Some(_) => count(&mut self.assembler.counts().azimuth_jumps, 1),
                // The last turns on as the one before it.
                None => {}
            }
            self.take_group(group, Turning { azimuth, step, block_ns }, start_ns, scan);
            start_ns = start_ns.saturating_add(i64::from(block_ns));
        }
    }

    /// The block, or two blocks of dual mode, of one azimuth.
    fn take_group(&mut self, group: &[Block<'_>], turning: Turning, start_ns: i64, scan: &mut LidarScan) {
        let VelodyneCalibration { model, distance_unit_m, .. } = self.calibration;
        for sequence in 0..model.sequences_per_block() {
            let sequence_ns = sequence.saturating_mul(SEQUENCE_NS);
            let fired_ns = start_ns.saturating_add(i64::from(sequence_ns));
            self.assembler.fire(turning.azimuth_after(sequence_ns), fired_ns, scan);
            let first_echo = (sequence as usize).saturating_mul(model.lasers());
            for (number, laser) in (0_u32..).zip(&self.calibration.lasers) {
                let shot_ns = model.shot_offset_ns(number);
                let azimuth_rad = turning.radians_after(sequence_ns.saturating_add(shot_ns));
                let stamp_ns = fired_ns.saturating_add(i64::from(shot_ns));
                let index = first_echo.saturating_add(number as usize);
                let echoes = group.iter().map(|block| block.echo(index));
                self.assembler.push_shot(echoes, stamp_ns, |distance| {
                    laser.point(distance * distance_unit_m + laser.distance_m, azimuth_rad)
                });
            }
        }
    }
}

/// How the lidar turns while a block is measured.
#[derive(Clone, Copy)]
struct Turning {
    azimuth: Azimuth,
    step: u16,
    block_ns: u32,
}

impl Turning {
    fn azimuth_after(self, ns: u32) -> Azimuth {
        let units = u64::from(self.step).saturating_mul(u64::from(ns)) / u64::from(self.block_ns.max(1));
        self.azimuth.turned(u16::try_from(units).unwrap_or_default())
    }

    fn radians_after(self, ns: u32) -> f32 {
        let turned = f32::from(self.step) * (ns as f32 / self.block_ns as f32);
        (f32::from(self.azimuth.centidegrees()) + turned) * Azimuth::RAD_PER_UNIT
    }
}

impl LidarDecoder for VelodyneDecoder {
    type Error = VelodyneError;

    fn decode(&mut self, payload: &[u8], arrival_ns: i64, scan: &mut LidarScan) -> Result<bool, VelodyneError> {
        let parsed = Packet::parse(payload, self.calibration.model);
        let packet = parsed.inspect_err(|_| count(&mut self.assembler.counts().refused_packets, 1))?;
        let stamp_ns = packet.stamp_ns(arrival_ns);
        match self.assembler.begin_packet(stamp_ns, arrival_ns, scan) {
            Follows::Younger => return Ok(false),
            Follows::Nothing => {}
            Follows::After(gap_ns) => {
                let groups = BLOCKS as u32 / packet.returns as u32;
                let period_ns = groups * self.calibration.model.sequences_per_block() * SEQUENCE_NS;
                count(&mut self.assembler.counts().missing_packets, packets_between(gap_ns, i64::from(period_ns)));
            }
        }
        self.take_packet(&packet, stamp_ns, scan);
        Ok(self.assembler.end_packet())
    }

    fn finish(&mut self, scan: &mut LidarScan) -> bool {
        self.assembler.finish(scan)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Recorded, range_m, real_cloud, recorded, turn_deg};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ARRIVAL_NS: i64 = 1_673_400_471_737_763_166;

    /// A packet whose blocks are `step` apart, in single mode or in pairs; laser `n` of each block sees `echo(block,
    /// n)`.
    fn packet(
        mode: u8,
        product: u8,
        time_us: u32,
        first: u16,
        step: u16,
        echo: impl Fn(u16, u16) -> (u16, u8),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in 0..12_u16 {
            let group = if mode == 0x39 { block / 2 } else { block };
            bytes.extend([0xFF, 0xEE]);
            bytes.extend(((first + group * step) % 36_000).to_le_bytes());
            for shot in 0..32 {
                let (distance, intensity) = echo(block, shot);
                bytes.extend(distance.to_le_bytes());
                bytes.push(intensity);
            }
        }
        bytes.extend(time_us.to_le_bytes());
        bytes.extend([mode, product]);
        bytes
    }

    fn decoder(model: VelodyneModel, cut: u16) -> VelodyneDecoder {
        let cut = Azimuth::from_centidegrees(cut).unwrap();
        VelodyneDecoder::new(VelodyneCalibration::nominal(model), cut, ClockId::Sensor)
    }

    /// The VLP-16's calibration without the height of the beams' origins.
    fn flat_yaml() -> String {
        let mut text = "lasers:\n".to_string();
        for (number, (elevation_deg, _)) in VLP_16.iter().enumerate() {
            let rad = f64::from(*elevation_deg).to_radians();
            text +=
                &format!("- {{dist_correction: 0.0, focal_slope: 0.0,\n  laser_id: {number}, rot_correction: 0.0,\n");
            text += &format!("  vert_correction: {rad}, vert_offset_correction: 0.0}}\n");
        }
        text + "num_lasers: 16\ndistance_resolution: 0.002\n"
    }

    #[test]
    fn a_firing_is_placed_and_dated() {
        // Half a turn from the cut: 1 m away at all lasers, 40 units (0.4 degrees) a block.
        let bytes = packet(0x37, 0x22, 471_737_763, 9_000, 40, |_, shot| (500, shot as u8));
        let mut decoder = decoder(VelodyneModel::Vlp16, 27_000);
        let mut scan = LidarScan::default();
        assert_eq!(decoder.decode(&bytes, ARRIVAL_NS, &mut scan), Ok(false));
        assert!(decoder.finish(&mut scan) && !scan.complete);
        assert_eq!((scan.points.len(), scan.counts.packets), (384, 1));
        assert_eq!(scan.stamp().kind, crate::packet::StampKind::ExposureStart);
        let first = scan.points[0];
        assert_eq!((first.ring, first.offset_ns, first.intensity, first.return_number), (0, 0, 0.0, 0));
        // At 90 degrees it looks to the right, which is -y; the laser looks down by 15 degrees from 11.2 mm up.
        let (sin, cos) = libm::sincosf(-15_f32.to_radians());
        assert!(first.x_m.abs() < 1e-6);
        assert!((first.y_m + cos - 0.0112 * sin).abs() < 1e-6, "{first:?}");
        assert!((first.z_m - sin - 0.0112 * cos).abs() < 1e-6, "{first:?}");
        let last = scan.points[383];
        assert_eq!((last.ring, last.offset_ns), (15, 23 * 55_296 + 15 * 2_304));
        let angle = libm::atan2f(-last.y_m, last.x_m).to_degrees();
        // The last block turns as the one before it.
        let expected = 90.0 + 0.4 * (11.0 + (55.296 + 15.0 * 2.304) / 110.592);
        assert!((angle - expected).abs() < 1e-4, "{angle} {expected}");
    }

    #[test]
    fn lasers_of_the_vlp_32c_fire_in_pairs() {
        let bytes = packet(0x38, 0x28, 0, 0, 20, |_, _| (250, 9));
        let mut scan = LidarScan::default();
        let mut decoder = decoder(VelodyneModel::Vlp32C, 18_000);
        decoder.decode(&bytes, 0, &mut scan).unwrap();
        decoder.finish(&mut scan);
        let offsets: Vec<i32> = scan.points.iter().take(4).map(|point| point.offset_ns).collect();
        assert_eq!(offsets, [0, 0, 2_304, 2_304]);
        assert_eq!(scan.points[32].offset_ns, 55_296);
        assert!(scan.points.iter().all(|point| (range_m(point) - 1.0).abs() < 1e-6));
        // Laser 0 looks 1.4 degrees ahead of the encoder, and lowest; laser 29 highest.
        let angle = libm::atan2f(-scan.points[0].y_m, scan.points[0].x_m).to_degrees();
        assert!((angle - 1.4).abs() < 1e-4);
        assert_eq!((scan.points[0].ring, scan.points[29].ring), (0, 31));
        let rings: std::collections::BTreeSet<u16> = scan.points.iter().map(|point| point.ring).collect();
        assert_eq!(rings.len(), 32);
    }

    #[test]
    fn equal_echoes_are_kept_once() {
        // The strongest is another echo at laser 1 only, and laser 2 has none.
        let echo = |block: u16, shot: u16| match (block % 2, shot % 16) {
            (_, 2) => (0, 0),
            (1, 1) => (400, 80),
            _ => (500, 20),
        };
        let mut scan = LidarScan::default();
        let mut decoder = decoder(VelodyneModel::Vlp16, 0);
        decoder.decode(&packet(0x39, 0x22, 0, 100, 40, echo), 0, &mut scan).unwrap();
        decoder.finish(&mut scan);
        assert_eq!((scan.counts.no_return, scan.counts.duplicate_returns), (24, 12 * 14));
        let kinds: Vec<(u16, u8, f32)> =
            scan.points.iter().take(4).map(|point| (point.ring, point.return_number, point.intensity)).collect();
        assert_eq!(kinds, [(0, 1, 20.0), (8, 1, 20.0), (8, 2, 80.0), (9, 1, 20.0)]);
        assert_eq!(scan.points.len(), 12 * 16);
        // Six pairs of blocks, two firings each.
        assert_eq!(scan.points[191].offset_ns, 11 * 55_296 + 15 * 2_304);
    }

    #[test]
    fn scans_are_cut_at_the_azimuth_and_gaps_are_counted() {
        let mut decoder = decoder(VelodyneModel::Vlp16, 18_000);
        let mut scan = LidarScan::default();
        let mut scans = Vec::new();
        // 10 turns a second: 480 units a packet. Every hundredth is lost.
        for number in (0..400_u32).filter(|number| number % 100 != 50) {
            let time_us = (f64::from(number) * 1327.104).round() as u32;
            let bytes = packet(0x37, 0x22, time_us, (number * 480 % 36_000) as u16, 40, |_, _| (500, 1));
            if decoder.decode(&bytes, 5_000_000, &mut scan).unwrap() {
                scans.push(scan.clone());
            }
        }
        assert_eq!(scans.iter().map(|scan| scan.complete).collect::<Vec<bool>>(), [false, true, true, true, true]);
        decoder.finish(&mut scan);
        let missing: u32 = scans.iter().chain([&scan]).map(|scan| scan.counts.missing_packets).sum();
        assert_eq!(missing, 4);
        let lost = scans[1].counts.missing_packets as usize;
        assert_eq!(scans[1].points.len(), (75 - lost) * 384);
        for scan in &scans[1..] {
            let angle = libm::atan2f(-scan.points[0].y_m, scan.points[0].x_m).to_degrees();
            assert!((-180.0..-179.5).contains(&angle) || angle > 179.9, "{angle}");
            assert!(scan.points.iter().all(|point| (0..100_000_000).contains(&point.offset_ns)));
        }
    }

    #[test]
    fn late_packets_and_jumps_of_time_are_counted() {
        let mut decoder = decoder(VelodyneModel::Vlp16, 0);
        let mut scan = LidarScan::default();
        let at = |time_us: u32| packet(0x37, 0x22, time_us, 500, 40, |_, _| (500, 1));
        for time_us in [10_000, 11_327, 10_000, 11_327] {
            assert_eq!(decoder.decode(&at(time_us), 0, &mut scan), Ok(false));
        }
        assert_eq!(decoder.decode(&at(900_000), 0, &mut scan), Ok(true));
        assert_eq!((scan.points.len(), scan.counts.late_packets, scan.counts.time_jumps), (768, 2, 1));
        assert!(!scan.complete);
    }

    #[test]
    fn the_hour_is_the_one_next_to_the_arrival() {
        const HOUR_NS: i64 = 3_600_000_000_000;
        let stamp = |time_us, arrival_ns| {
            let bytes = packet(0x37, 0x22, time_us, 0, 40, |_, _| (0, 0));
            Packet::parse(&bytes, VelodyneModel::Vlp16).unwrap().stamp_ns(arrival_ns)
        };
        assert_eq!(stamp(5, 7 * HOUR_NS + 9_000), 7 * HOUR_NS + 5_000);
        assert_eq!(stamp(3_599_999_999, 7 * HOUR_NS + 9_000), 7 * HOUR_NS - 1_000);
        assert_eq!(stamp(1, 8 * HOUR_NS - 1), 8 * HOUR_NS + 1_000);
        assert_eq!(stamp(0, -5), 0);
    }

    #[test]
    fn what_is_wrong_with_a_packet_is_named_and_counted() {
        let good = packet(0x37, 0x22, 0, 0, 40, |_, _| (500, 1));
        let mut decoder = decoder(VelodyneModel::Vlp16, 0);
        let mut scan = LidarScan::default();
        let mut error = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            decoder.decode(&bytes, 0, &mut scan).unwrap_err()
        };
        assert_eq!(error(1205, 0x28), VelodyneError::Product { expected: 0x22, found: 0x28 });
        assert_eq!(error(1204, 0x3A), VelodyneError::ReturnMode { found: 0x3A });
        assert_eq!(error(201, 0xDD), VelodyneError::BlockFlag { block: 2, found: 0xDDFF });
        assert_eq!(error(103, 0x8D), VelodyneError::Azimuth { block: 1, found: 0x8D28 });
        assert_eq!(error(1203, 0xFF), VelodyneError::Time { found: 0xFF00_0000 });
        assert_eq!(decoder.decode(&good[1..], 0, &mut scan), Err(VelodyneError::Length { found: 1205 }));
        decoder.finish(&mut scan);
        assert_eq!(scan.counts.refused_packets, 6);
    }

    #[test]
    fn calibration_files_of_the_ros_driver_are_read() {
        let calibration = VelodyneCalibration::from_yaml(VelodyneModel::Vlp16, &flat_yaml()).unwrap();
        let nominal = VelodyneCalibration::nominal(VelodyneModel::Vlp16);
        for (laser, nominal) in calibration.lasers.iter().zip(&nominal.lasers) {
            assert_eq!((laser.ring, laser.vertical_offset_m), (nominal.ring, 0.0));
            assert!((laser.elevation_rad - nominal.elevation_rad).abs() < 1e-7);
        }
        let indented: String = (0..16)
            .map(|n| {
                format!("  - rot_correction: -0.01\n    vert_correction: 0.{n:02}  # rad\n    laser_id: {}\n", 15 - n)
            })
            .collect();
        let calibration = VelodyneCalibration::from_yaml(VelodyneModel::Vlp16, &indented).unwrap();
        assert_eq!((calibration.lasers[15].ring, calibration.lasers[15].azimuth_rad), (0, 0.01));
        assert_eq!(calibration.distance_unit_m, 0.002);
    }

    #[test]
    fn what_is_wrong_with_a_calibration_file_is_named() {
        let error = |text: &str| VelodyneCalibration::from_yaml(VelodyneModel::Vlp16, text).unwrap_err();
        let yaml = flat_yaml();
        assert_eq!(error(""), VelodyneCalibrationError::Lasers { expected: 16, found: 0 });
        let twice = error(&yaml.replace("laser_id: 7", "laser_id: 6"));
        assert_eq!(twice, VelodyneCalibrationError::LaserId { lasers: 16, found: "6".to_string() });
        let no_id = error(&yaml.replace("laser_id: 7,", ""));
        assert_eq!(no_id, VelodyneCalibrationError::LaserId { lasers: 16, found: "none".to_string() });
        let nowhere = error(&yaml.replace("vert_correction", "vert"));
        assert_eq!(nowhere, VelodyneCalibrationError::Missing { laser: 0, key: "vert_correction" });
        assert!(matches!(error(&yaml.replace("0.0", ".nan")), VelodyneCalibrationError::Number { line: 2, .. }));
        let slope = error(&yaml.replace("focal_slope: 0.0", "focal_slope: 0.5"));
        assert!(matches!(slope, VelodyneCalibrationError::Unsupported { line: 2, .. }));
    }

    /// The cloud that TIER IV's driver nebula made of the same packets. It differs, all by its own doing: it leaves out
    /// what is nearer than 0.3 m, the last degree before the cut, and what the packet with the cut holds behind it (its
    /// test gives it arrivals in whole seconds, and a second has just begun); it rounds azimuths to a hundredth of a
    /// degree (5 mm in 57 m), takes the azimuth of the next pair of blocks for the second block of each pair, does not
    /// turn on in the last pair of a packet, and dates the blocks of a pair one after the other. It also knows no
    /// heights of the beams' origins.
    #[test]
    fn a_recording_gives_the_cloud_that_another_driver_made() {
        let Some(Recorded { packets }) =
            recorded("packets_velodyne/vlp16/1673400471837873222/1673400471837873222_0.db3")
        else {
            return;
        };
        let Some(expected) = real_cloud("packets_velodyne/vlp16/1673400472138016708.pcd") else { return };
        let calibration = VelodyneCalibration::from_yaml(VelodyneModel::Vlp16, &flat_yaml()).unwrap();
        let mut decoder = VelodyneDecoder::new(calibration, Azimuth::default(), ClockId::Sensor);
        let (mut scan, mut scans) = (LidarScan::default(), Vec::new());
        for (stamp_ns, bytes) in &packets {
            if decoder.decode(bytes, *stamp_ns, &mut scan).unwrap() {
                scans.push(scan.clone());
            }
        }
        decoder.finish(&mut scan);
        scans.push(scan);
        let points = |index: usize| scans[index].points.len();
        assert_eq!(
            (scans.len(), points(0), points(1), points(2), points(3), points(4)),
            (5, 14829, 14821, 14845, 14879, 40)
        );
        let complete: Vec<bool> = scans.iter().map(|scan| scan.complete).collect();
        assert_eq!(complete, [false, true, true, true, false]);
        let clean =
            |scan: &LidarScan| scan.counts.missing_packets + scan.counts.azimuth_jumps + scan.counts.late_packets;
        assert!(scans.iter().all(|scan| clean(scan) == 0));

        // The stored cloud is the fourth scan. Distances are exact, so that they tell which point is which.
        let key = |point: &Point| (point.ring, (range_m(point) / 0.002).round() as u32, point.intensity as u8);
        let mut ours: BTreeMap<(u16, u32, u8), Vec<Point>> = BTreeMap::new();
        for point in &scans[3].points {
            ours.entry(key(point)).or_default().push(*point);
        }
        let packet_ns: Vec<i64> = packets
            .iter()
            .map(|(arrival_ns, bytes)| Packet::parse(bytes, VelodyneModel::Vlp16).unwrap().stamp_ns(*arrival_ns))
            .collect();
        let (mut worst, mut counted) = ([0_f32; 3], [0_usize; 3]);
        for stored in &expected {
            // Its times count from the packet, to a quarter of a microsecond, as if each block were fired for itself.
            let sequence = (stored.offset_ns + 500) / SEQUENCE_NS as i32;
            let fired = sequence / 4 * 2 + sequence % 2;
            let offset_ns = stored.offset_ns + (fired - sequence) * SEQUENCE_NS as i32;
            let is_fired_there = |point: &Point| {
                let from_packet_ns = scans[3].stamp_ns + i64::from(point.offset_ns - offset_ns);
                let is_same_block = (point.return_number == 2) == (sequence % 4 >= 2);
                is_same_block && packet_ns.iter().any(|ns| (ns - from_packet_ns).abs() < 500)
            };
            let candidates = ours.get_mut(&key(stored)).unwrap_or_else(|| panic!("{stored:?}"));
            let nearest = (0..candidates.len())
                .filter(|index| is_fired_there(&candidates[*index]))
                .min_by(|a, b| turn_deg(&candidates[*a], stored).total_cmp(&turn_deg(&candidates[*b], stored)))
                .unwrap_or_else(|| panic!("{stored:?} {candidates:?}"));
            let point = candidates.swap_remove(nearest);
            assert!((point.z_m - stored.z_m).abs() < 0.000_1);
            let in_last_pair = sequence >= 20;
            let kind = if point.return_number == 2 { 2 } else { usize::from(in_last_pair) };
            worst[kind] = worst[kind].max(turn_deg(&point, stored));
            counted[kind] += 1;
            let away_m = libm::hypotf(point.x_m - stored.x_m, point.y_m - stored.y_m);
            assert!(kind != 0 || away_m < 0.005, "{away_m} {point:?} {stored:?}");
        }
        // Its rounding; no turn in the last pair; the next pair's azimuth.
        eprintln!("degrees of turn apart, at most: {worst:?} of {counted:?}");
        assert!(worst[0] < 0.0051 && worst[1] < 0.35 && worst[2] < 0.41, "{worst:?}");
        let rest: Vec<Point> = ours.into_values().flatten().collect();
        assert_eq!(rest.len(), scans[3].points.len() - expected.len());
        let (mut near, mut last_degree, mut first_packet) = (0, 0, 0);
        for point in &rest {
            let azimuth_deg = libm::atan2f(-point.y_m, point.x_m).to_degrees();
            if range_m(point) < 0.3 {
                near += 1;
            } else if (-1.01..0.0).contains(&azimuth_deg) {
                last_degree += 1;
            } else if point.offset_ns < 6 * 110_592 {
                first_packet += 1;
            } else {
                panic!("{point:?}");
            }
        }
        assert_eq!((near, last_degree, first_packet), (0, 40, 8));
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let good = packet(0x39, 0x22, 1_000, 35_900, 40, |block, shot| (block * 32 + shot, 1));
        let mut decoder = decoder(VelodyneModel::Vlp16, 0);
        let mut scan = LidarScan::default();
        for length in 0..good.len() {
            assert!(decoder.decode(&good[..length], 0, &mut scan).is_err());
        }
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut damaged = good.clone();
                damaged[position] ^= 1 << bit;
                let _ = decoder.decode(&damaged, i64::MAX - position as i64, &mut scan);
                assert!(scan.points.iter().all(|point| point.offset_ns >= 0));
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-{}:,#a-z_0-9. \n]{0,200}") {
            let _ = VelodyneCalibration::from_yaml(VelodyneModel::Vlp32C, &text);
        }
    }
}
