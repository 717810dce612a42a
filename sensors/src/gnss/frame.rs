//! Cuts a receiver's byte stream into NMEA sentences and UBX frames. Bytes come in chunks of any size, with both
//! protocols and noise in any mixture; what comes out has a right checksum. Source: "u-blox 8 / M8 Receiver
//! description" (UBX-13003221), chapters "NMEA Protocol" and "UBX Protocol", frame and checksum of each. Promised: a
//! broken frame costs no more than its own bytes, for the search goes on right behind its first byte, and memory is
//! bounded by one frame and one chunk.

use std::ops::Range;

/// The longest sentence looked for, from `$` to the checksum. The standard says 82, receivers exceed it.
const MOST_NMEA_BYTES: usize = 256;
/// The longest UBX payload looked for; those of interest have less than 100 bytes, raw measurements some thousand.
const MOST_UBX_PAYLOAD: usize = 8192;
const UBX_SYNC: [u8; 2] = [0xB5, 0x62];
/// Sync, class, number and length before the payload.
const UBX_HEADER_BYTES: usize = 6;
const UBX_CHECKSUM_BYTES: usize = 2;

/// One checked frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A sentence's bytes between `$` and `*`, all printable ASCII.
    Nmea(&'a [u8]),
    /// A UBX message.
    Ubx {
        /// Class and number.
        message: (u8, u8),
        /// What it carries.
        payload: &'a [u8],
    },
}

/// What the stream consisted of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// NMEA sentences with a right checksum.
    pub nmea: u64,
    /// NMEA sentences with a wrong checksum.
    pub nmea_checksum: u64,
    /// Sentences that end without a checksum, are cut off by another or by a byte that is not text, or are too long.
    pub nmea_broken: u64,
    /// UBX frames with a right checksum.
    pub ubx: u64,
    /// UBX frames with a wrong checksum, or bytes that only looked like the start of one.
    pub ubx_checksum: u64,
    /// Starts of UBX frames with a length that is not believed.
    pub ubx_too_long: u64,
    /// Bytes that belong to no frame with a right checksum, line ends aside.
    pub noise_bytes: u64,
}

/// A frame's place in the buffer.
enum Found {
    Nmea { body: Range<usize>, end: usize },
    Ubx { message: (u8, u8), payload: Range<usize>, end: usize },
}

enum Attempt {
    Found(Found),
    Incomplete,
    Broken(fn(&mut FrameCounts) -> &mut u64),
}

/// Finds frames in a stream.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Everything before it is done with.
    at: usize,
    counts: FrameCounts,
}

impl Framer {
    /// Takes the next bytes of the stream. [`Self::next_frame`] is to be called until it gives no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame that is complete.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        let found = self.find()?;
        let slice = |range: Range<usize>| self.buffer.get(range).unwrap_or(&[]);
        Some(match found {
            Found::Nmea { body, .. } => Frame::Nmea(slice(body)),
            Found::Ubx { message, payload, .. } => Frame::Ubx { message, payload: slice(payload) },
        })
    }

    /// What the stream consisted of so far.
    pub fn counts(&self) -> FrameCounts {
        self.counts
    }

    fn find(&mut self) -> Option<Found> {
        loop {
            let rest = self.buffer.get(self.at..)?;
            let attempt = match *rest.first()? {
                b'$' => nmea(rest),
                0xB5 => ubx(rest),
                byte => {
                    self.at += 1;
                    self.counts.noise_bytes += u64::from(!matches!(byte, b'\r' | b'\n'));
                    continue;
                }
            };
            match attempt {
                Attempt::Incomplete => return None,
                Attempt::Broken(counter) => {
                    *counter(&mut self.counts) += 1;
                    self.counts.noise_bytes += 1;
                    self.at += 1;
                }
                Attempt::Found(found) => return Some(self.take(found)),
            }
        }
    }

    /// Counts a frame, steps behind it, and moves its ranges from where it starts to the whole buffer.
    fn take(&mut self, found: Found) -> Found {
        let start = self.at;
        let moved = |range: Range<usize>| range.start + start..range.end + start;
        match found {
            Found::Nmea { body, end } => {
                self.counts.nmea += 1;
                self.at += end;
                Found::Nmea { body: moved(body), end: end + start }
            }
            Found::Ubx { message, payload, end } => {
                self.counts.ubx += 1;
                self.at += end;
                Found::Ubx { message, payload: moved(payload), end: end + start }
            }
        }
    }
}

fn nmea(bytes: &[u8]) -> Attempt {
    let broken = Attempt::Broken(|counts| &mut counts.nmea_broken);
    let text = bytes.get(1..).unwrap_or(&[]);
    let end = text.iter().take(MOST_NMEA_BYTES).position(|byte| matches!(byte, b'*' | b'$') || !is_text(*byte));
    let Some(end) = end else {
        return if text.len() < MOST_NMEA_BYTES { Attempt::Incomplete } else { broken };
    };
    let Some((body, [b'*', checksum @ ..])) = text.split_at_checked(end) else { return broken };
    let told = match checksum {
        [] => return Attempt::Incomplete,
        [high] if hex(*high).is_some() => return Attempt::Incomplete,
        [high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
        _ => None,
    };
    let Some(told) = told else { return broken };
    if body.iter().fold(0, |sum, byte| sum ^ byte) != told {
        return Attempt::Broken(|counts| &mut counts.nmea_checksum);
    }
    Attempt::Found(Found::Nmea { body: 1..1 + end, end: end + 4 })
}

fn is_text(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn ubx(bytes: &[u8]) -> Attempt {
    if bytes.len() >= UBX_SYNC.len() && !bytes.starts_with(&UBX_SYNC) {
        return Attempt::Broken(|counts| &mut counts.ubx_checksum);
    }
    let &[_, _, class, number, low, high, ref rest @ ..] = bytes else { return Attempt::Incomplete };
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length > MOST_UBX_PAYLOAD {
        return Attempt::Broken(|counts| &mut counts.ubx_too_long);
    }
    let Some((_, [sum_a, sum_b, ..])) = rest.split_at_checked(length) else { return Attempt::Incomplete };
    let payload_end = UBX_HEADER_BYTES + length;
    let summed = bytes.get(UBX_SYNC.len()..payload_end).unwrap_or(&[]);
    if fletcher(summed) != (*sum_a, *sum_b) {
        return Attempt::Broken(|counts| &mut counts.ubx_checksum);
    }
    let payload = UBX_HEADER_BYTES..payload_end;
    Attempt::Found(Found::Ubx { message: (class, number), payload, end: payload_end + UBX_CHECKSUM_BYTES })
}

/// The 8-bit Fletcher checksum (RFC 1145).
fn fletcher(bytes: &[u8]) -> (u8, u8) {
    bytes.iter().fold((0u8, 0u8), |(a, b), byte| {
        let a = a.wrapping_add(*byte);
        (a, b.wrapping_add(a))
    })
}

/// Makes frames for the tests of this module.
#[cfg(test)]
pub(crate) mod writer {
    /// A sentence with its checksum and line end.
    pub(crate) fn nmea(body: &str) -> Vec<u8> {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n").into_bytes()
    }

    /// A UBX frame.
    pub(crate) fn ubx(message: (u8, u8), payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xB5, 0x62, message.0, message.1];
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(payload);
        let (a, b) = super::fletcher(&bytes[2..]);
        bytes.extend([a, b]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framer: &mut Framer, bytes: &[u8], chunk: usize) -> Vec<String> {
        let mut found = Vec::new();
        for part in bytes.chunks(chunk) {
            framer.push(part);
            while let Some(frame) = framer.next_frame() {
                found.push(match frame {
                    Frame::Nmea(body) => String::from_utf8(body.to_vec()).unwrap(),
                    Frame::Ubx { message, payload } => format!("{message:?} {payload:?}"),
                });
            }
        }
        found
    }

    fn mixture() -> Vec<u8> {
        let mut bytes = b"# noise\xB5\xB5".to_vec();
        bytes.extend(writer::ubx((1, 7), &[1, 2, b'$', 0xB5, 0x62]));
        bytes.extend(writer::nmea("GPHDT,1.0,T"));
        bytes.extend(b"$GPGGA,12");
        bytes.extend(writer::ubx((5, 1), &[]));
        bytes.extend(b"$GPHDT,2.0,T*00\r\n$GPHDT,3.0\r\n");
        bytes.extend([0xB5, 0x62, 1, 7, 0xFF, 0xFF]);
        bytes.extend(writer::nmea("GPHDT,4.0,T"));
        bytes
    }

    #[test]
    fn frames_are_found_in_any_chunks() {
        let expected = ["(1, 7) [1, 2, 36, 181, 98]", "GPHDT,1.0,T", "(5, 1) []", "GPHDT,4.0,T"];
        let mut counts = Vec::new();
        for chunk in [1, 2, 3, 7, 1000] {
            let mut framer = Framer::default();
            assert_eq!(frames(&mut framer, &mixture(), chunk), expected);
            counts.push(framer.counts());
        }
        assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        let FrameCounts { nmea, nmea_checksum, nmea_broken, ubx, ubx_checksum, ubx_too_long, .. } = counts[0];
        assert_eq!((nmea, nmea_checksum, nmea_broken), (2, 1, 2));
        assert_eq!((ubx, ubx_checksum, ubx_too_long), (2, 2, 1));
    }

    #[test]
    fn one_wrong_bit_loses_one_frame_at_most() {
        let clean = mixture();
        let all = frames(&mut Framer::default(), &clean, 64).len();
        for bit in 0..clean.len() * 8 {
            let mut bytes = clean.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // what waits for the end of a frame that is none goes on with what comes later
            bytes.extend([b' '; MOST_UBX_PAYLOAD + 10]);
            assert!(frames(&mut Framer::default(), &bytes, 64).len() + 1 >= all, "bit {bit}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut framer = Framer::default();
        for byte in [b'$', b'a', 0xB5, 0x62, 0xFF, 0] {
            for _ in 0..1000 {
                framer.push(&[byte; 100]);
                while framer.next_frame().is_some() {}
            }
            assert!(framer.buffer.capacity() < 4 * MOST_UBX_PAYLOAD);
        }
    }
}
