//! The layers inside a captured packet: link, IP and UDP headers. Bytes in, the bytes of the next layer out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// Customer and service tags of IEEE 802.1Q, and the service tag from before there was a standard.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];
const PROTOCOL_UDP: u8 = 17;
const IPV6_HEADER_BYTES: usize = 40;
const UDP_HEADER_BYTES: usize = 8;

/// Why a packet is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    OtherLink,
    OtherProtocol,
    CutOff,
    Malformed,
}

/// What comes first in a captured packet (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    RawIp,
    LinuxCooked,
    LinuxCooked2,
    Other,
}

impl Link {
    /// Of the number in the file, whose upper half says something about checksums.
    pub(super) fn from_code(code: i32) -> Self {
        match code & 0xFFFF {
            1 => Link::Ethernet,
            12 | 14 | 101 | 228 | 229 => Link::RawIp,
            113 => Link::LinuxCooked,
            276 => Link::LinuxCooked2,
            _ => Link::Other,
        }
    }
}

/// A packet of UDP over IP, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpPacket<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) extent: Extent,
    /// What lies behind the IP header: the UDP header first, if this is the start.
    pub(super) bytes: &'a [u8],
}

/// How much of its datagram a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Fragment(Fragment),
}

/// The place of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) identification: u16,
    /// Bytes of the datagram in front of it, a multiple of 8.
    pub(super) offset: usize,
    pub(super) last: bool,
}

/// Reads a packet down to its IP header.
pub(super) fn ip_packet(link: Link, frame: &[u8]) -> Result<IpPacket<'_>, Skip> {
    match link {
        Link::Ethernet => behind_ethertype(take(frame, 12)?.1),
        Link::LinuxCooked => behind_ethertype(take(frame, 14)?.1),
        Link::LinuxCooked2 => {
            let (header, rest) = take(frame, 20)?;
            by_ethertype(u16_at(header, 0)?, rest)
        }
        Link::RawIp => match frame.first().ok_or(Skip::CutOff)? >> 4 {
            4 => ipv4(frame),
            6 => ipv6(frame),
            _ => Err(Skip::OtherProtocol),
        },
        Link::Other => Err(Skip::OtherLink),
    }
}

fn behind_ethertype(bytes: &[u8]) -> Result<IpPacket<'_>, Skip> {
    let (ethertype, rest) = take(bytes, 2)?;
    by_ethertype(u16_at(ethertype, 0)?, rest)
}

fn by_ethertype(mut ethertype: u16, mut rest: &[u8]) -> Result<IpPacket<'_>, Skip> {
    while ETHERTYPES_VLAN.contains(&ethertype) {
        let (tag, behind) = take(rest, 4)?;
        ethertype = u16_at(tag, 2)?;
        rest = behind;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(rest),
        ETHERTYPE_IPV6 => ipv6(rest),
        _ => Err(Skip::OtherProtocol),
    }
}

fn ipv4(bytes: &[u8]) -> Result<IpPacket<'_>, Skip> {
    let header: &[u8; 20] = bytes.first_chunk().ok_or(Skip::CutOff)?;
    let [version_and_length, _, total_0, total_1, id_0, id_1, flags_0, flags_1, _, protocol, ..] = *header;
    let header_bytes = usize::from(version_and_length & 0x0F) * 4;
    let total_bytes = match u16::from_be_bytes([total_0, total_1]) {
        // The network card divides the packet later.
        0 => bytes.len(),
        total => usize::from(total),
    };
    if version_and_length >> 4 != 4 || header_bytes < header.len() || total_bytes < header_bytes {
        return Err(Skip::Malformed);
    }
    if protocol != PROTOCOL_UDP {
        return Err(Skip::OtherProtocol);
    }
    let (_, payload) = take(take(bytes, total_bytes)?.0, header_bytes)?;
    let flags_and_offset = u16::from_be_bytes([flags_0, flags_1]);
    let offset = usize::from(flags_and_offset & 0x1FFF) * 8;
    let last = flags_and_offset & 0x2000 == 0;
    let extent = if last && offset == 0 {
        Extent::Whole
    } else {
        Extent::Fragment(Fragment { identification: u16::from_be_bytes([id_0, id_1]), offset, last })
    };
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    Ok(IpPacket {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        extent,
        bytes: payload,
    })
}

fn ipv6(bytes: &[u8]) -> Result<IpPacket<'_>, Skip> {
    let (header, rest) = take(bytes, IPV6_HEADER_BYTES)?;
    if header.first().is_none_or(|byte| byte >> 4 != 6) {
        return Err(Skip::Malformed);
    }
    // Anything else is another protocol or an extension header.
    if header.get(6) != Some(&PROTOCOL_UDP) {
        return Err(Skip::OtherProtocol);
    }
    let address = |start: usize| {
        let octets = header.get(start..).and_then(|bytes| bytes.first_chunk::<16>());
        octets.map(|octets| IpAddr::from(Ipv6Addr::from(*octets))).ok_or(Skip::CutOff)
    };
    let payload_bytes = usize::from(u16_at(header, 4)?);
    let (payload, _) = take(rest, payload_bytes)?;
    Ok(IpPacket { source: address(8)?, destination: address(24)?, extent: Extent::Whole, bytes: payload })
}

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UdpHeader {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// Of header and payload.
    length: usize,
}

impl UdpHeader {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Skip> {
        let length = usize::from(u16_at(bytes, 4)?);
        if length < UDP_HEADER_BYTES {
            return Err(Skip::Malformed);
        }
        take(bytes, length)?;
        Ok(Self { source_port: u16_at(bytes, 0)?, destination_port: u16_at(bytes, 2)?, length })
    }

    /// The payload in the bytes that this header was read from.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(UDP_HEADER_BYTES..self.length).unwrap_or_default()
    }
}

fn take(bytes: &[u8], count: usize) -> Result<(&[u8], &[u8]), Skip> {
    bytes.split_at_checked(count).ok_or(Skip::CutOff)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Skip> {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map(|word| u16::from_be_bytes(*word)).ok_or(Skip::CutOff)
}
