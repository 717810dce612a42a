//! Lidar packets of all profiles: headers and columns, and where the fields lie in a pixel.

use super::metadata::OusterMetadata;
use thiserror::Error;

const HEADER_BYTES: usize = 32;
const FOOTER_BYTES: usize = 32;
const COLUMN_HEADER_BYTES: usize = 12;
const LEGACY_COLUMN_HEADER_BYTES: usize = 16;
const LEGACY_COLUMN_STATUS_BYTES: usize = 4;
const WORD_BYTES: usize = 4;
/// The packet type of lidar data.
const LIDAR_PACKET: u16 = 1;
/// Bit of a column's status.
const VALID: u32 = 1;

/// How lidar packets are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OusterProfile {
    /// `LEGACY`: one return, without a packet header.
    Legacy,
    /// `RNG19_RFL8_SIG16_NIR16`: one return.
    Single,
    /// `RNG19_RFL8_SIG16_NIR16_DUAL`: two returns.
    Dual,
    /// `RNG15_RFL8_NIR8`: one return in a third of the bytes, ranges in steps of 8 mm, without signal.
    LowBandwidth,
}

impl OusterProfile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Legacy, Self::Single, Self::Dual, Self::LowBandwidth];

    /// Ouster's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "LEGACY",
            Self::Single => "RNG19_RFL8_SIG16_NIR16",
            Self::Dual => "RNG19_RFL8_SIG16_NIR16_DUAL",
            Self::LowBandwidth => "RNG15_RFL8_NIR8",
        }
    }

    /// The profile of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// How many returns a pixel has.
    pub fn returns(self) -> usize {
        self.pixel().returns.len()
    }

    pub(super) fn pixel(self) -> &'static PixelLayout {
        match self {
            Self::Legacy => &LEGACY,
            Self::Single => &SINGLE,
            Self::Dual => &DUAL,
            Self::LowBandwidth => &LOW_BANDWIDTH,
        }
    }
}

/// Bits of a pixel that are one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// No field reaches over the edge of a 32-bit word.
    word: usize,
    shift: u32,
    mask: u32,
    /// Low bits that were left out, to be put back as zeros.
    dropped_bits: u32,
}

const fn field(first_bit: usize, bits: u32) -> Field {
    Field { word: first_bit / 32, shift: first_bit as u32 % 32, mask: (1 << bits) - 1, dropped_bits: 0 }
}

const fn coarse(first_bit: usize, bits: u32, dropped_bits: u32) -> Field {
    Field { dropped_bits, ..field(first_bit, bits) }
}

impl Field {
    fn of(self, word: u32) -> u32 {
        ((word >> self.shift) & self.mask) << self.dropped_bits
    }
}

/// Where the fields of one return lie.
#[derive(Debug)]
pub(super) struct ReturnLayout {
    pub(super) range_mm: Field,
    pub(super) flags: Field,
    pub(super) reflectivity: Field,
    pub(super) signal: Option<Field>,
}

/// Where the fields of a pixel lie.
#[derive(Debug)]
pub(super) struct PixelLayout {
    words: usize,
    pub(super) returns: &'static [ReturnLayout],
    pub(super) near_ir: Field,
}

static LEGACY: PixelLayout = PixelLayout {
    words: 3,
    returns: &[ReturnLayout {
        range_mm: field(0, 20),
        flags: field(28, 4),
        reflectivity: field(32, 8),
        signal: Some(field(48, 16)),
    }],
    near_ir: field(64, 16),
};
static SINGLE: PixelLayout = PixelLayout {
    words: 3,
    returns: &[ReturnLayout {
        range_mm: field(0, 19),
        flags: field(19, 5),
        reflectivity: field(32, 8),
        signal: Some(field(48, 16)),
    }],
    near_ir: field(64, 16),
};
static DUAL: PixelLayout = PixelLayout {
    words: 4,
    returns: &[
        ReturnLayout {
            range_mm: field(0, 19),
            flags: field(19, 5),
            reflectivity: field(24, 8),
            signal: Some(field(64, 16)),
        },
        ReturnLayout {
            range_mm: field(32, 19),
            flags: field(51, 5),
            reflectivity: field(56, 8),
            signal: Some(field(80, 16)),
        },
    ],
    near_ir: field(96, 16),
};
static LOW_BANDWIDTH: PixelLayout = PixelLayout {
    words: 1,
    returns: &[ReturnLayout {
        range_mm: coarse(0, 15, 3),
        flags: field(15, 1),
        reflectivity: field(16, 8),
        signal: None,
    }],
    near_ir: coarse(24, 8, 4),
};

/// Why a datagram is not a lidar packet of this sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OusterPacketError {
    /// Its length is not that of the profile.
    #[error("expected an Ouster packet of {expected} bytes, found {found}")]
    Length {
        /// Bytes of this sensor's packets.
        expected: usize,
        /// Bytes of the datagram.
        found: usize,
    },
    /// It holds something else.
    #[error("expected an Ouster packet of type {expected}, found {found}")]
    Type {
        /// The type of lidar packets.
        expected: u16,
        /// The type of this one.
        found: u16,
    },
    /// Another sensor has sent it, whose beams point elsewhere.
    #[error("expected a packet of the Ouster sensor {expected}, found one of {found}")]
    Sensor {
        /// The serial number in the metadata.
        expected: u64,
        /// The serial number in the packet.
        found: u64,
    },
}

/// How the packets of one sensor are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketLayout {
    profile: OusterProfile,
    serial_number: u64,
    column_bytes: usize,
    packet_bytes: usize,
}

/// A lidar packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct LidarPacket<'a> {
    pub(super) frame_id: u16,
    /// Changes when the sensor starts anew; 0 in legacy packets, which do not say.
    pub(super) initialization: u32,
    profile: OusterProfile,
    column_bytes: usize,
    columns: &'a [u8],
}

/// What a packet says of one measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketColumn<'a> {
    pub(super) stamp_ns: u64,
    pub(super) measurement: u16,
    pub(super) status: u32,
    /// The pixels of all beams.
    words: &'a [[u8; WORD_BYTES]],
}

impl PacketLayout {
    pub(super) fn new(metadata: &OusterMetadata) -> Self {
        let profile = metadata.profile;
        let pixels = metadata.rows * profile.pixel().words * WORD_BYTES;
        let (around_columns, around_pixels) = match profile {
            OusterProfile::Legacy => (0, LEGACY_COLUMN_HEADER_BYTES + LEGACY_COLUMN_STATUS_BYTES),
            _ => (HEADER_BYTES + FOOTER_BYTES, COLUMN_HEADER_BYTES),
        };
        let column_bytes = around_pixels + pixels;
        let packet_bytes = around_columns + metadata.columns_per_packet * column_bytes;
        Self { profile, serial_number: metadata.serial_number, column_bytes, packet_bytes }
    }

    pub(super) fn parse<'a>(&self, payload: &'a [u8]) -> Result<LidarPacket<'a>, OusterPacketError> {
        let (expected, found) = (self.packet_bytes, payload.len());
        let length = OusterPacketError::Length { expected, found };
        if expected != found {
            return Err(length);
        }
        let (frame_id, initialization, columns) = match self.profile {
            OusterProfile::Legacy => (u16_at(payload, 10).ok_or(length)?, 0, payload),
            _ => {
                let (header, rest) = payload.split_first_chunk::<HEADER_BYTES>().ok_or(length)?;
                let (columns, _) = rest.split_last_chunk::<FOOTER_BYTES>().ok_or(length)?;
                let (frame_id, initialization) = self.check_header(header)?;
                (frame_id, initialization, columns)
            }
        };
        Ok(LidarPacket { frame_id, initialization, profile: self.profile, column_bytes: self.column_bytes, columns })
    }

    fn check_header(&self, header: &[u8; HEADER_BYTES]) -> Result<(u16, u32), OusterPacketError> {
        let [t0, t1, f0, f1, i0, i1, i2, s0, s1, s2, s3, s4, ..] = *header;
        let found = u16::from_le_bytes([t0, t1]);
        if found != LIDAR_PACKET {
            return Err(OusterPacketError::Type { expected: LIDAR_PACKET, found });
        }
        let (expected, found) = (self.serial_number, u64::from_le_bytes([s0, s1, s2, s3, s4, 0, 0, 0]));
        if expected != found && expected != 0 && found != 0 {
            return Err(OusterPacketError::Sensor { expected, found });
        }
        Ok((u16::from_le_bytes([f0, f1]), u32::from_le_bytes([i0, i1, i2, 0])))
    }
}

impl<'a> LidarPacket<'a> {
    pub(super) fn columns(&self) -> impl Iterator<Item = PacketColumn<'a>> {
        let profile = self.profile;
        self.columns.chunks_exact(self.column_bytes).filter_map(move |bytes| PacketColumn::parse(profile, bytes))
    }
}

impl<'a> PacketColumn<'a> {
    /// `None` for fewer bytes than a header, which no layout has.
    fn parse(profile: OusterProfile, bytes: &'a [u8]) -> Option<Self> {
        let stamp_ns = u64::from_le_bytes(*bytes.first_chunk()?);
        let measurement = u16_at(bytes, 8)?;
        let (status, pixels) = match profile {
            OusterProfile::Legacy => {
                let (rest, status) = bytes.split_last_chunk::<LEGACY_COLUMN_STATUS_BYTES>()?;
                (u32::from_le_bytes(*status), rest.get(LEGACY_COLUMN_HEADER_BYTES..)?)
            }
            _ => (u32::from(u16_at(bytes, 10)?), bytes.get(COLUMN_HEADER_BYTES..)?),
        };
        Some(Self { stamp_ns, measurement, status, words: pixels.as_chunks().0 })
    }

    pub(super) fn is_valid(&self) -> bool {
        self.status & VALID != 0
    }
}

/// What most packets hold.
const RUN_COLUMNS: usize = 16;

/// Valid columns side by side, their words turned so that those of one row are neighbours, as they are in the images. So
/// a line of memory is touched once (the rows of an image lie powers of two apart, and the processor's nearest cache
/// holds few such lines), and the processor takes several pixels at a time.
#[derive(Clone, Debug)]
pub(super) struct Run {
    first: usize,
    used: usize,
    /// Row by row, of each row word by word.
    words: Vec<[u32; RUN_COLUMNS]>,
}

impl Run {
    pub(super) fn new(rows: usize, layout: &PixelLayout) -> Self {
        Self { first: 0, used: 0, words: vec![[0; RUN_COLUMNS]; rows * layout.words] }
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Takes the column of that number, unless it is not the next one or there is no room.
    pub(super) fn takes(&mut self, number: usize, column: &PacketColumn) -> bool {
        if self.used == 0 {
            self.first = number;
        }
        if self.used == RUN_COLUMNS || number != self.first + self.used {
            return false;
        }
        for (row, word) in self.words.iter_mut().zip(column.words) {
            if let Some(place) = row.get_mut(self.used) {
                *place = u32::from_le_bytes(*word);
            }
        }
        self.used += 1;
        true
    }

    /// Writes one field into an image of that width.
    pub(super) fn write<T>(
        &self,
        (layout, field): (&PixelLayout, Field),
        image: &mut [T],
        width: usize,
        value: impl Fn(u32) -> T,
    ) {
        let words = self.words.iter().skip(field.word).step_by(layout.words);
        for (row, words) in image.chunks_exact_mut(width).zip(words) {
            let places = row.get_mut(self.first..).unwrap_or_default();
            match places.first_chunk_mut::<RUN_COLUMNS>() {
                // the same, but of known length
                Some(places) if self.used == RUN_COLUMNS => {
                    places.iter_mut().zip(words).for_each(|(place, word)| *place = value(field.of(*word)));
                }
                _ => {
                    let places = places.iter_mut().take(self.used);
                    places.zip(words).for_each(|(place, word)| *place = value(field.of(*word)));
                }
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_le_bytes(*word))
}
