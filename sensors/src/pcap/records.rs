//! The file around the packets: PCAP (both byte orders, micro- and nanoseconds, "modified") and pcapng
//! (draft-ietf-opsawg-pcapng). Blocks of pcapng that hold no packet and describe no interface are skipped by length.

use super::network::Link;
use super::{MAX_RECORD_BYTES, PcapError};
use pcap_parser::nom::{Err, IResult, Needed};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, EPB_MAGIC, IDB_MAGIC, LegacyPcapBlock, PcapHeader, SHB_MAGIC, SPB_MAGIC};
use pcap_parser::{parse_block_be, parse_block_le};
use pcap_parser::{parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header};

const NS_PER_S: i128 = 1_000_000_000;
/// A pcapng block's type, its length in front and its length behind.
const BLOCK_FRAME_BYTES: usize = 12;
/// First byte of the byte-order mark of a big-endian section.
const BIG_ENDIAN_MARK: u8 = 0x1A;

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) stamp_ns: i64,
    pub(super) link: Link,
    pub(super) frame: &'a [u8],
}

/// What is known of the file so far.
#[derive(Debug, Default)]
pub(super) enum Records {
    /// Nothing: the file begins here.
    #[default]
    Start,
    Pcap(PcapForm),
    PcapNg(Section),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PcapForm {
    link: Link,
    ns_per_fraction: u32,
    frame: fn(&[u8]) -> ParsedRecord<'_>,
}

type ParsedRecord<'a> = IResult<&'a [u8], LegacyPcapBlock<'a>, pcap_parser::PcapError<&'a [u8]>>;

/// A section of a pcapng file: byte order and interfaces hold until the next one.
#[derive(Debug)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Link,
    resolution: u8,
    offset_s: i64,
}

impl Records {
    /// The next packet, `None` if more bytes are needed for it.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Record<'a>>, PcapError> {
        loop {
            match self {
                Records::Start => {
                    let Some(found) = Self::start(bytes)? else { return Ok(None) };
                    *self = found;
                }
                Records::Pcap(form) => return form.next(bytes),
                Records::PcapNg(section) => {
                    let Some(block) = take_block(bytes, section.big_endian)? else { return Ok(None) };
                    if let Some(record) = section.read(block)? {
                        return Ok(Some(record));
                    }
                }
            }
        }
    }

    fn start(bytes: &mut &[u8]) -> Result<Option<Records>, PcapError> {
        let Some(magic) = bytes.first_chunk() else { return Ok(None) };
        if *magic == SHB_MAGIC.to_le_bytes() {
            // The byte order is read from the section's own header, whatever is assumed here.
            return Ok(Some(Records::PcapNg(Section { big_endian: false, interfaces: Vec::new() })));
        }
        match parse_pcap_header(bytes) {
            Ok((rest, header)) => {
                *bytes = rest;
                Ok(Some(Records::Pcap(PcapForm::new(&header))))
            }
            Err(Err::Incomplete(_)) => Ok(None),
            Err(_) => Err(PcapError::NotPcap { found: *magic }),
        }
    }
}

impl PcapForm {
    fn new(header: &PcapHeader) -> Self {
        let frame = match (header.is_bigendian(), header.is_modified_format()) {
            (_, true) => parse_pcap_frame_modified,
            (true, _) => parse_pcap_frame_be,
            (false, false) => parse_pcap_frame,
        };
        let ns_per_fraction = if header.is_nanosecond_precision() { 1 } else { 1000 };
        Self { link: Link::from_code(header.network.0), ns_per_fraction, frame }
    }

    fn next<'a>(&self, bytes: &mut &'a [u8]) -> Result<Option<Record<'a>>, PcapError> {
        match (self.frame)(bytes) {
            Ok((rest, record)) => {
                *bytes = rest;
                let fraction_ns = i64::from(record.ts_usec) * i64::from(self.ns_per_fraction);
                let stamp_ns = i64::from(record.ts_sec) * NS_PER_S as i64 + fraction_ns;
                Ok(Some(Record { stamp_ns, link: self.link, frame: record.data }))
            }
            Err(Err::Incomplete(Needed::Size(missing))) if missing.get() > MAX_RECORD_BYTES => {
                Err(PcapError::TooLong { expected: MAX_RECORD_BYTES, found: missing.get().saturating_add(bytes.len()) })
            }
            // The parsers of records fail for want of bytes only.
            Err(_) => Ok(None),
        }
    }
}

/// A whole block of a pcapng file.
#[derive(Clone, Copy, Debug)]
struct RawBlock<'a> {
    kind: u32,
    bytes: &'a [u8],
}

impl RawBlock<'_> {
    fn error(&self) -> PcapError {
        PcapError::Block { kind: self.kind, bytes: self.bytes.len() }
    }
}

/// Takes the next block, `None` if it is not there in whole.
fn take_block<'a>(bytes: &mut &'a [u8], big_endian: bool) -> Result<Option<RawBlock<'a>>, PcapError> {
    let Some(&[kind, length, order]) = bytes.as_chunks::<4>().0.first_chunk::<3>() else { return Ok(None) };
    // A section's header reads the same in both orders, and brings its own order along.
    let big_endian = if kind == SHB_MAGIC.to_le_bytes() { order[0] == BIG_ENDIAN_MARK } else { big_endian };
    let number = |bytes| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let (kind, length) = (number(kind), number(length) as usize);
    if length < BLOCK_FRAME_BYTES {
        return Err(PcapError::Block { kind, bytes: length });
    }
    if length > MAX_RECORD_BYTES {
        return Err(PcapError::TooLong { expected: MAX_RECORD_BYTES, found: length });
    }
    let Some((block, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
    *bytes = rest;
    Ok(Some(RawBlock { kind, bytes: block }))
}

impl Section {
    /// Takes in a block; gives its packet, if it has one.
    fn read<'a>(&mut self, block: RawBlock<'a>) -> Result<Option<Record<'a>>, PcapError> {
        if !matches!(block.kind, SHB_MAGIC | IDB_MAGIC | EPB_MAGIC | SPB_MAGIC) {
            return Ok(None);
        }
        let parse = if self.big_endian { parse_block_be } else { parse_block_le };
        let (_, parsed) = parse(block.bytes).map_err(|_| block.error())?;
        match parsed {
            Block::SectionHeader(header) => {
                self.big_endian = header.big_endian();
                self.interfaces.clear();
                Ok(None)
            }
            Block::InterfaceDescription(described) => {
                // The crate reads the offset as little-endian in either order.
                let swapped = described.if_tsoffset.swap_bytes();
                let offset_s = if self.big_endian { swapped } else { described.if_tsoffset };
                let link = Link::from_code(described.linktype.0);
                self.interfaces.push(Interface { link, resolution: described.if_tsresol, offset_s });
                Ok(None)
            }
            Block::EnhancedPacket(packet) => {
                let interface = self.interface(packet.if_id)?;
                let ticks = (u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low);
                let frame = packet.data.get(..packet.caplen as usize).ok_or_else(|| block.error())?;
                Ok(Some(Record { stamp_ns: interface.stamp_ns(ticks), link: interface.link, frame }))
            }
            Block::SimplePacket(packet) => {
                let link = self.interface(0)?.link;
                let length = packet.data.len().min(packet.orig_len() as usize);
                // These packets carry no stamp.
                Ok(Some(Record { stamp_ns: 0, link, frame: packet.data.get(..length).unwrap_or_default() }))
            }
            _ => Ok(None),
        }
    }

    fn interface(&self, number: u32) -> Result<Interface, PcapError> {
        let interface = self.interfaces.get(number as usize).copied();
        interface.ok_or(PcapError::Interface { expected: self.interfaces.len(), found: number })
    }
}

impl Interface {
    /// Ticks of this interface's clock in nanoseconds since 1970; what 64 bits cannot hold saturates.
    fn stamp_ns(&self, ticks: u64) -> i64 {
        let exponent = u32::from(self.resolution & 0x7F);
        let base: i128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        // A tick too short for any clock: its ticks then count as none.
        let ticks_per_s = base.checked_pow(exponent).unwrap_or(i128::MAX);
        let ns = i128::from(ticks) * NS_PER_S / ticks_per_s + i128::from(self.offset_s) * NS_PER_S;
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_in_every_resolution() {
        let stamp_ns = |resolution, offset_s, ticks| {
            let interface = Interface { link: Link::from_code(1), resolution, offset_s };
            interface.stamp_ns(ticks)
        };
        assert_eq!(stamp_ns(6, 0, 1_500_000), 1_500_000_000);
        assert_eq!(stamp_ns(9, 2, 5), 2_000_000_005);
        assert_eq!(stamp_ns(0x80 | 10, -1, 1536), 500_000_000);
        assert_eq!(stamp_ns(0, 0, u64::MAX), i64::MAX);
        assert_eq!(stamp_ns(127, 0, u64::MAX), 0);
        assert_eq!(stamp_ns(6, i64::MIN, 0), i64::MIN);
    }
}
