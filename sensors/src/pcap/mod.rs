//! Network captures: the bytes of a PCAP or pcapng file in, UDP datagrams out.
//!
//! The file's records are read with the crate `pcap-parser`; the layers inside them are read here: Ethernet with VLAN
//! tags, raw IP and Linux "cooked" captures (SLL, SLL2), IPv4 (RFC 791, with reassembly of fragments, which the large
//! datagrams of lidars and radars need), IPv6 without extension headers (RFC 8200) and UDP (RFC 768). The caller hands
//! over as much of the file as it has, and more when the reader asks for it. Promised: whatever is not passed on is
//! counted, fragments that wait for the rest of their datagram hold at most 1 MiB, and no packet allocates once the
//! buffers have grown, but for pcapng packets with options. Checksums are not checked: network cards fill them in after
//! a capture on the sending computer has seen the packet.

mod fragments;
mod network;
mod records;

use fragments::{Fragments, Joined};
use network::{Extent, IpPacket, Skip, UdpHeader};
use records::Records;
use std::net::SocketAddr;
use thiserror::Error;

/// Most bytes of a record: beyond it a length is taken for damage, not for a packet.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// A UDP datagram from a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When the capturing computer saw it, by its own clock, in nanoseconds since 1970; of fragments, the last one.
    pub stamp_ns: i64,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What was read and what was passed over. Every packet is a whole datagram, a fragment, or counted under the one
/// reason for which it was passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcapSummary {
    /// Packets in the file.
    pub packets: u64,
    /// Datagrams that came in one packet.
    pub whole: u64,
    /// Packets that held a fragment of a datagram.
    pub fragments: u64,
    /// Datagrams that were put together from fragments.
    pub reassembled: u64,
    /// Datagrams given up because fragments were missing or contradicted each other.
    pub given_up: u64,
    /// Packets of a kind of network that is not read.
    pub other_link: u64,
    /// Packets that are not UDP over IPv4 or plain IPv6.
    pub other_protocol: u64,
    /// Packets that end before their headers say, mostly because the capture kept only their start.
    pub cut_off: u64,
    /// Packets whose headers contradict themselves.
    pub malformed: u64,
    /// Bytes at the end of the file that are not a whole record.
    pub trailing_bytes: usize,
}

impl PcapSummary {
    fn count(&mut self, skip: Skip) {
        let counter = match skip {
            Skip::OtherLink => &mut self.other_link,
            Skip::OtherProtocol => &mut self.other_protocol,
            Skip::CutOff => &mut self.cut_off,
            Skip::Malformed => &mut self.malformed,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Why the rest of a capture cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PcapError {
    /// The file is no capture.
    #[error("expected a PCAP or pcapng file, found one that begins with {found:02x?}")]
    NotPcap {
        /// The first bytes of the file.
        found: [u8; 4],
    },
    /// A record is longer than any packet.
    #[error("expected a record of at most {expected} bytes in the capture, found {found}")]
    TooLong {
        /// The most that is read.
        expected: usize,
        /// What the record says.
        found: usize,
    },
    /// A pcapng block contradicts itself.
    #[error("expected a well-formed block of type {kind:#010x} in the pcapng file, found {bytes} bytes that are not")]
    Block {
        /// The type of the block.
        kind: u32,
        /// Its length.
        bytes: usize,
    },
    /// A pcapng packet names an interface that was not described.
    #[error("expected an interface below {expected} in the pcapng file, found {found}")]
    Interface {
        /// How many were described.
        expected: usize,
        /// What the packet names.
        found: u32,
    },
}

/// Reader of a capture.
///
/// ```
/// # use catseye_sensors::pcap::PcapReader;
/// # let file = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
/// let mut reader = PcapReader::default();
/// let mut rest = file.as_slice();
/// while let Some(datagram) = reader.next_datagram(&mut rest)? {
///     println!("{} ns: {} bytes from {}", datagram.stamp_ns, datagram.payload.len(), datagram.source);
/// }
/// println!("{:?}", reader.finish(rest));
/// # Ok::<(), catseye_sensors::pcap::PcapError>(())
/// ```
#[derive(Debug, Default)]
pub struct PcapReader {
    records: Records,
    fragments: Fragments,
    summary: PcapSummary,
}

impl PcapReader {
    /// The next datagram of the file that goes on with `bytes`; takes from them what was read. `None` if no further
    /// record is there in whole: the caller then puts more of the file behind what is left, or ends.
    ///
    /// # Errors
    /// A [`PcapError`] that says why nothing after this can be read; asking again gives the same error.
    pub fn next_datagram<'a, 'file: 'a>(
        &'a mut self,
        bytes: &mut &'file [u8],
    ) -> Result<Option<Datagram<'a>>, PcapError> {
        while let Some(record) = self.records.next(bytes)? {
            self.summary.packets = self.summary.packets.saturating_add(1);
            let packet = match network::ip_packet(record.link, record.frame) {
                Ok(packet) => packet,
                Err(skip) => {
                    self.summary.count(skip);
                    continue;
                }
            };
            let Some((header, place)) = self.udp(&packet, record.stamp_ns) else { continue };
            let udp = match place {
                Place::Packet => packet.bytes,
                Place::Fragments(slot) => self.fragments.bytes(slot),
            };
            return Ok(Some(Datagram {
                stamp_ns: record.stamp_ns,
                source: SocketAddr::new(packet.source, header.source_port),
                destination: SocketAddr::new(packet.destination, header.destination_port),
                payload: header.payload(udp),
            }));
        }
        Ok(None)
    }

    /// Counts so far.
    pub fn summary(&self) -> PcapSummary {
        PcapSummary { given_up: self.fragments.given_up(), ..self.summary }
    }

    /// Ends the file with the bytes that were not taken: counts them, and the datagrams that still wait for fragments.
    pub fn finish(mut self, rest: &[u8]) -> PcapSummary {
        self.fragments.give_all_up();
        self.summary.trailing_bytes = rest.len();
        self.summary()
    }

    /// The UDP header of a packet and where its datagram lies, `None` if there is no whole datagram (yet).
    fn udp(&mut self, packet: &IpPacket, stamp_ns: i64) -> Option<(UdpHeader, Place)> {
        let place = match packet.extent {
            Extent::Whole => Place::Packet,
            Extent::Fragment(fragment) => {
                self.summary.fragments = self.summary.fragments.saturating_add(1);
                match self.fragments.join(packet, fragment, stamp_ns) {
                    Joined::Waiting => return None,
                    Joined::Whole(slot) => Place::Fragments(slot),
                }
            }
        };
        let (bytes, counter) = match place {
            Place::Packet => (packet.bytes, &mut self.summary.whole),
            Place::Fragments(slot) => (self.fragments.bytes(slot), &mut self.summary.reassembled),
        };
        match (UdpHeader::parse(bytes), place) {
            (Ok(header), _) => {
                *counter = counter.saturating_add(1);
                Some((header, place))
            }
            (Err(skip), Place::Packet) => {
                self.summary.count(skip);
                None
            }
            // Its packets are counted as fragments already.
            (Err(_), Place::Fragments(_)) => {
                self.fragments.give_up_joined();
                None
            }
        }
    }
}

/// Where the bytes of a datagram lie.
#[derive(Clone, Copy, Debug)]
enum Place {
    Packet,
    Fragments(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::net::Ipv4Addr;

    const OUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/lidar/packets_ouster");

    const ETHERNET: u32 = 1;
    const SOURCE: [u8; 4] = [192, 168, 1, 2];
    const DESTINATION: [u8; 4] = [192, 168, 1, 3];

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [7501_u16, 7502, payload.len() as u16 + 8, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    fn ipv4(identification: u16, flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        for word in [payload.len() as u16 + 20, identification, flags_and_offset] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([64, 17, 0, 0]);
        bytes.extend(SOURCE);
        bytes.extend(DESTINATION);
        bytes.extend(payload);
        bytes
    }

    fn ipv6(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([17, 64]);
        bytes.extend([1; 16]);
        bytes.extend([2; 16]);
        bytes.extend(payload);
        bytes
    }

    fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Fragments of a datagram over Ethernet, `step` bytes each.
    fn fragments(identification: u16, datagram: &[u8], step: usize) -> Vec<Vec<u8>> {
        let pieces = datagram.chunks(step).enumerate();
        let last = datagram.len().div_ceil(step) - 1;
        pieces
            .map(|(number, piece)| {
                let more = if number < last { 0x2000 } else { 0 };
                let offset = (number * step / 8) as u16;
                ethernet(0x0800, &ipv4(identification, more | offset, piece))
            })
            .collect()
    }

    fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        file.extend(link.to_le_bytes());
        for (second, frame) in frames.iter().enumerate() {
            for word in [10, second as u32, frame.len() as u32, frame.len() as u32] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    /// A pcapng file of either byte order, nanoseconds, an hour off.
    fn pcapng(big_endian: bool, frames: &[Vec<u8>]) -> Vec<u8> {
        let word = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let half = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let hour: [u8; 8] = if big_endian { 3600_i64.to_be_bytes() } else { 3600_i64.to_le_bytes() };
        let block = |kind: u32, body: &[u8]| {
            let length = word(body.len() as u32 + 12);
            [&word(kind)[..], &length, body, &length].concat()
        };
        let section = [&word(0x1A2B_3C4D)[..], &half(1), &half(0), &[0xFF; 8]].concat();
        let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0]].concat();
        let offset = [&half(14)[..], &half(8), &hour].concat();
        let interface = [&half(1)[..], &half(0), &word(65_535), &resolution, &offset, &[0; 4]].concat();
        let mut file = block(0x0A0D_0D0A, &section);
        file.extend(block(1, &interface));
        file.extend(block(0xBAD, &[0; 8]));
        for frame in frames {
            let length = word(frame.len() as u32);
            let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
            let body = [&word(0)[..], &word(1), &word(5), &length, &length, frame, &padding].concat();
            file.extend(block(6, &body));
        }
        file
    }

    type Owned = (i64, SocketAddr, SocketAddr, Vec<u8>);

    fn read(file: &[u8]) -> (Vec<Owned>, PcapSummary) {
        let mut reader = PcapReader::default();
        let mut rest = file;
        let mut datagrams = Vec::new();
        while let Some(datagram) = reader.next_datagram(&mut rest).expect("a capture") {
            let Datagram { stamp_ns, source, destination, payload } = datagram;
            datagrams.push((stamp_ns, source, destination, payload.to_vec()));
        }
        let summary = reader.finish(rest);
        assert_adds_up(&summary, datagrams.len());
        (datagrams, summary)
    }

    fn assert_adds_up(summary: &PcapSummary, datagrams: usize) {
        let PcapSummary { whole, fragments, other_link, other_protocol, cut_off, malformed, .. } = *summary;
        assert_eq!(summary.packets, whole + fragments + other_link + other_protocol + cut_off + malformed);
        assert_eq!(datagrams as u64, whole + summary.reassembled);
    }

    #[test]
    fn every_link_leads_to_the_same_datagram() {
        let packet = ipv4(1, 0, &udp(b"hello"));
        let tagged = [&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &packet].concat();
        let cooked = [&[0; 14][..], &[8, 0], &packet].concat();
        let cooked_2 = [&[8, 0][..], &[0; 18], &packet].concat();
        // Short frames are padded: the length in the header counts.
        let padded = [&ethernet(0x0800, &packet)[..], &[0; 12]].concat();
        let links = [(ETHERNET, padded), (ETHERNET, ethernet(0x88A8, &tagged)), (101, packet), (113, cooked)];
        for (link, frame) in links.into_iter().chain([(276, cooked_2)]) {
            let (datagrams, summary) = read(&pcap(link, &[frame]));
            let source = SocketAddr::from((SOURCE, 7501));
            let destination = SocketAddr::from((DESTINATION, 7502));
            assert_eq!(datagrams, [(10_000_000_000, source, destination, b"hello".to_vec())], "link {link}");
            assert_eq!(summary, PcapSummary { packets: 1, whole: 1, ..PcapSummary::default() });
        }
    }

    #[test]
    fn ipv6_is_read() {
        let (datagrams, _) = read(&pcap(ETHERNET, &[ethernet(0x86DD, &ipv6(&udp(&[7])))]));
        assert_eq!(datagrams[0].1, SocketAddr::from(([0x101_u16; 8], 7501)));
        assert_eq!(datagrams[0].2, SocketAddr::from(([0x202_u16; 8], 7502)));
        assert_eq!(datagrams[0].3, [7]);
    }

    #[test]
    fn pcapng_of_both_byte_orders_is_read() {
        for big_endian in [false, true] {
            let (datagrams, summary) = read(&pcapng(big_endian, &[ethernet(0x0800, &ipv4(1, 0, &udp(b"hello")))]));
            assert_eq!(datagrams[0].0, 3600 * 1_000_000_000 + (1_i64 << 32) + 5);
            assert_eq!(datagrams[0].3, b"hello");
            assert_eq!(summary.trailing_bytes, 0);
        }
    }

    #[test]
    fn big_endian_nanoseconds_are_read() {
        let frame = ethernet(0x0800, &ipv4(1, 0, &udp(&[])));
        let mut file = vec![0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1];
        for word in [3, 21, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_be_bytes());
        }
        file.extend(frame);
        assert_eq!(read(&file).0[0].0, 3_000_000_021);
    }

    #[test]
    fn fragments_in_any_order_become_one_datagram() {
        let payload: Vec<u8> = (0..35_336_u32).map(|number| number as u8).collect();
        let mut frames = fragments(7, &udp(&payload), 1480);
        frames.reverse();
        // One comes twice.
        frames.insert(3, frames[2].clone());
        let (datagrams, summary) = read(&pcap(ETHERNET, &frames));
        assert_eq!(datagrams.len(), 1);
        assert_eq!(datagrams[0].3, payload);
        let fragments = frames.len() as u64;
        assert_eq!(summary, PcapSummary { packets: fragments, fragments, reassembled: 1, ..PcapSummary::default() });
    }

    #[test]
    fn lost_fragments_are_counted_and_forgotten() {
        let mut frames = Vec::new();
        for identification in 0..40 {
            let mut pieces = fragments(identification, &udp(&[1; 3000]), 1480);
            pieces.remove(usize::from(identification) % 3);
            frames.extend(pieces);
        }
        let (datagrams, summary) = read(&pcap(ETHERNET, &frames));
        assert!(datagrams.is_empty());
        assert_eq!((summary.fragments, summary.given_up), (80, 40));
    }

    #[test]
    fn an_old_loss_does_not_meet_a_new_datagram_of_the_same_number() {
        let old = fragments(7, &udp(&[1; 3000]), 1480);
        let new = fragments(7, &udp(&[2; 3000]), 1480);
        let mut file = pcap(ETHERNET, &old[..1]);
        let mut later = pcap(ETHERNET, &new[1..]).split_off(24);
        let second_record = 16 + new[1].len();
        // Ten seconds become a minute.
        later[0] = 60;
        later[second_record] = 60;
        file.extend(later);
        let (datagrams, summary) = read(&file);
        assert!(datagrams.is_empty());
        assert_eq!(summary.given_up, 2);
    }

    #[test]
    fn contradicting_fragments_are_given_up() {
        let head = |length: usize| ethernet(0x0800, &ipv4(7, 0x2000, &vec![0; length]));
        let tail = |offset: u16, length: usize| ethernet(0x0800, &ipv4(7, offset, &vec![0; length]));
        // Not a multiple of eight; two different ends; beyond the end; beyond any datagram.
        let pairs = [vec![head(13)], vec![tail(2, 8), tail(4, 8)], vec![tail(1, 8), head(80)], vec![tail(0x1FFF, 80)]];
        for frames in pairs {
            let (_, summary) = read(&pcap(ETHERNET, &frames));
            assert_eq!((summary.given_up, summary.reassembled), (1, 0));
        }
    }

    #[test]
    fn what_is_no_datagram_is_counted_by_its_reason() {
        let good = ethernet(0x0800, &ipv4(1, 0, &udp(&[1, 2, 3])));
        let mut tcp = good.clone();
        tcp[14 + 9] = 6;
        let mut short_udp = good.clone();
        short_udp[14 + 20 + 5] = 7;
        let arp = ethernet(0x0806, &[0; 28]);
        let cut = good[..good.len() - 1].to_vec();
        let (datagrams, summary) = read(&pcap(ETHERNET, &[tcp, short_udp, arp, cut, good.clone()]));
        assert_eq!(datagrams.len(), 1);
        let expected =
            PcapSummary { packets: 5, whole: 1, other_protocol: 2, malformed: 1, cut_off: 1, ..PcapSummary::default() };
        assert_eq!(summary, expected);
        assert_eq!(read(&pcap(147, &[good])).1.other_link, 1);
    }

    #[test]
    fn what_is_no_capture_is_an_error() {
        let error = |file: &[u8]| PcapReader::default().next_datagram(&mut &*file).expect_err("an error");
        assert_eq!(error(b"PK\x03\x04"), PcapError::NotPcap { found: *b"PK\x03\x04" });
        let mut long = pcap(ETHERNET, &[vec![0; 20]]);
        long[24 + 11] = 0x70;
        let found = 16 + 0x7000_0014;
        assert_eq!(error(&long), PcapError::TooLong { expected: MAX_RECORD_BYTES, found });
        let no_interface = pcapng(false, &[vec![0; 20]]);
        let no_interface = [&no_interface[..28], &no_interface[no_interface.len() - 52..]].concat();
        assert_eq!(error(&no_interface), PcapError::Interface { expected: 0, found: 0 });
    }

    #[test]
    fn a_file_in_pieces_reads_as_in_whole() {
        let frames = fragments(7, &udp(&[1; 3000]), 1480);
        for file in [pcap(ETHERNET, &frames), pcapng(true, &frames)] {
            let mut reader = PcapReader::default();
            let (mut taken, mut found) = (0, 0);
            for end in 0..=file.len() {
                let mut rest = &file[taken..end];
                while let Some(datagram) = reader.next_datagram(&mut rest).expect("a capture") {
                    assert_eq!(datagram.payload, [1; 3000]);
                    found += 1;
                }
                taken = end - rest.len();
            }
            assert_eq!((taken, found), (file.len(), 1));
        }
    }

    #[test]
    fn damaged_files_do_no_harm() {
        let frames = fragments(7, &udp(&[1; 100]), 64);
        for file in [pcap(ETHERNET, &frames), pcapng(false, &frames), pcapng(true, &frames)] {
            for end in 0..file.len() {
                drain(&file[..end]);
            }
            for bit in 0..file.len() * 8 {
                let mut damaged = file.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                drain(&damaged);
            }
        }
    }

    fn drain(file: &[u8]) {
        let mut reader = PcapReader::default();
        let mut rest = file;
        let mut found = 0;
        while let Ok(Some(_)) = reader.next_datagram(&mut rest) {
            found += 1;
        }
        assert_adds_up(&reader.finish(rest), found);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(link in 0_u32..300, frames in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            drain(&pcap(link, &frames));
            drain(&pcapng(false, &frames));
            drain(&frames.concat());
        }

        #[test]
        fn fragments_of_any_size_join(length in 1_usize..5000, step in 1_usize..200, turn in 0_usize..50) {
            let payload: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let mut frames = fragments(9, &udp(&payload), step * 8);
            let turn = turn % frames.len();
            frames.rotate_left(turn);
            let (datagrams, _) = read(&pcap(ETHERNET, &frames));
            prop_assert_eq!(&datagrams[0].3, &payload);
        }
    }

    #[test]
    fn real_captures_are_read_whole() {
        let Ok(file) = fs::read(format!("{OUSTER}/OS-1-128_v2.3.0_1024x10_lb_n3.pcap")) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let (datagrams, summary) = read(&file);
        assert_eq!(summary, PcapSummary { packets: 222, whole: 222, ..PcapSummary::default() });
        let (stamp_ns, source, _, payload) = &datagrams[0];
        assert_eq!(*stamp_ns, 1_650_410_295_350_216_000);
        assert_eq!(*source, SocketAddr::from((Ipv4Addr::LOCALHOST, 7502)));
        assert_eq!(payload.len(), 32 + 16 * (12 + 128 * 4) + 32);
    }
}
