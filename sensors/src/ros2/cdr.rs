//! The Common Data Representation in which ROS 2 messages are recorded (OMG DDS-XTypes, XCDR version 1, plain). A
//! [`CdrReader`] walks over one payload: a 4-byte encapsulation header that names the byte order, then values aligned
//! to their size relative to the header's end. Promised: no input makes it panic or allocate; strings and byte
//! sequences are borrowed from the payload.

use thiserror::Error;

/// The encapsulation header: two bytes of representation, two of options.
const HEADER_BYTES: usize = 4;

/// Padding that a writer may leave behind the last value (to a multiple of 4 bytes).
const MAX_PADDING_BYTES: usize = 3;

/// Why bytes are not the expected CDR payload. Positions count from the payload's first byte, header included.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CdrError {
    /// The payload ends within a value.
    #[error("at byte {position}: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Where the value begins.
        position: usize,
        /// How many bytes it needs.
        expected: usize,
        /// How many are left.
        found: usize,
    },
    /// The header names a representation other than plain CDR.
    #[error("at byte 0: expected the representation 0x0000 or 0x0001 (plain CDR), found {found:#06x}")]
    Representation {
        /// The header's first two bytes, big endian.
        found: u16,
    },
    /// A sequence or string claims more elements than bytes are left.
    #[error("at byte {position}: expected at least {expected} bytes for {count} elements, found {found}")]
    SequenceTooLong {
        /// Where the count stands.
        position: usize,
        /// The count.
        count: u32,
        /// The bytes that so many elements need at least.
        expected: u64,
        /// The bytes left after the count.
        found: usize,
    },
    /// A string does not end with a zero byte.
    #[error("at byte {position}: expected a string that ends with a zero byte, found {found:#04x}")]
    StringEnd {
        /// Where the string's length stands.
        position: usize,
        /// Its last byte.
        found: u8,
    },
    /// A string is not UTF-8.
    #[error("at byte {position}: expected a string of UTF-8, found {valid} valid bytes before others")]
    StringNotUtf8 {
        /// Where the string's length stands.
        position: usize,
        /// How many of its bytes are valid.
        valid: usize,
    },
    /// A truth value is neither 0 nor 1.
    #[error("at byte {position}: expected 0 or 1 for a truth value, found {found}")]
    Bool {
        /// Where it stands.
        position: usize,
        /// The byte.
        found: u8,
    },
    /// The nanoseconds of a time make up a second or more.
    #[error("at byte {position}: expected less than 1000000000 ns, found {found}")]
    Nanoseconds {
        /// Where they stand.
        position: usize,
        /// The number.
        found: u32,
    },
    /// The payload goes on after the message.
    #[error(
        "at byte {position}: expected the end of the message (and at most 3 bytes of padding), found {found} bytes"
    )]
    Trailing {
        /// Where the message ends.
        position: usize,
        /// How many bytes follow.
        found: usize,
    },
}

/// Reads one payload from its beginning to its end.
#[derive(Clone, Debug)]
pub struct CdrReader<'a> {
    body: &'a [u8],
    /// Index into `body`, never beyond its end.
    offset: usize,
    big_endian: bool,
}

impl<'a> CdrReader<'a> {
    /// Reads the encapsulation header.
    ///
    /// # Errors
    /// If the payload is shorter than the header or is not plain CDR (parameter lists and XCDR version 2 are not).
    pub fn new(payload: &'a [u8]) -> Result<Self, CdrError> {
        let Some(([high, low, _, _], body)) = payload.split_first_chunk::<HEADER_BYTES>() else {
            return Err(CdrError::Truncated { position: 0, expected: HEADER_BYTES, found: payload.len() });
        };
        let big_endian = match u16::from_be_bytes([*high, *low]) {
            0 => true,
            1 => false,
            found => return Err(CdrError::Representation { found }),
        };
        Ok(Self { body, offset: 0, big_endian })
    }

    /// Where the next byte stands, counted from the payload's first byte.
    pub fn position(&self) -> usize {
        HEADER_BYTES + self.offset
    }

    fn left(&self) -> &'a [u8] {
        self.body.get(self.offset..).unwrap_or_default()
    }

    /// The next `count` bytes as they are, without alignment: a fixed-size array of bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CdrError> {
        let left = self.left();
        let Some((bytes, _)) = left.split_at_checked(count) else {
            return Err(CdrError::Truncated { position: self.position(), expected: count, found: left.len() });
        };
        self.offset += count;
        Ok(bytes)
    }

    /// A value of N bytes, aligned to N, in little-endian order.
    fn value<const N: usize>(&mut self) -> Result<[u8; N], CdrError> {
        let padding = self.offset.next_multiple_of(N) - self.offset;
        self.take(padding)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    /// An unsigned byte.
    ///
    /// # Errors
    /// If the payload ends first, as for all numbers below.
    pub fn u8(&mut self) -> Result<u8, CdrError> {
        self.value().map(u8::from_le_bytes)
    }

    /// A signed byte.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn i8(&mut self) -> Result<i8, CdrError> {
        self.value().map(i8::from_le_bytes)
    }

    /// An unsigned 16-bit number.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn u16(&mut self) -> Result<u16, CdrError> {
        self.value().map(u16::from_le_bytes)
    }

    /// An unsigned 32-bit number.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn u32(&mut self) -> Result<u32, CdrError> {
        self.value().map(u32::from_le_bytes)
    }

    /// A signed 32-bit number.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn i32(&mut self) -> Result<i32, CdrError> {
        self.value().map(i32::from_le_bytes)
    }

    /// A 64-bit floating-point number.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn f64(&mut self) -> Result<f64, CdrError> {
        self.value().map(f64::from_le_bytes)
    }

    /// An array of N 64-bit floating-point numbers.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn f64s<const N: usize>(&mut self) -> Result<[f64; N], CdrError> {
        let mut values = [0.0; N];
        for value in &mut values {
            *value = self.f64()?;
        }
        Ok(values)
    }

    /// A truth value.
    ///
    /// # Errors
    /// If the payload ends first or the byte is neither 0 nor 1.
    pub fn bool(&mut self) -> Result<bool, CdrError> {
        let position = self.position();
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(CdrError::Bool { position, found }),
        }
    }

    /// The count of a sequence whose elements take at least `min_element_bytes` each. The count is held against the
    /// bytes left, so that memory may be reserved for it.
    ///
    /// # Errors
    /// If the payload ends first or is too short for so many elements.
    pub fn sequence_len(&mut self, min_element_bytes: usize) -> Result<usize, CdrError> {
        let count = self.u32()?;
        let expected = u64::from(count).saturating_mul(min_element_bytes.max(1) as u64);
        let found = self.left().len();
        if expected > found as u64 {
            let position = self.position() - size_of::<u32>();
            return Err(CdrError::SequenceTooLong { position, count, expected, found });
        }
        Ok(count as usize)
    }

    /// A sequence of bytes.
    ///
    /// # Errors
    /// If the payload ends first.
    pub fn bytes(&mut self) -> Result<&'a [u8], CdrError> {
        let count = self.sequence_len(1)?;
        self.take(count)
    }

    /// A string. Its terminating zero is dropped; some writers leave it out of an empty string.
    ///
    /// # Errors
    /// If the payload ends first, or the string is not terminated or not UTF-8.
    pub fn string(&mut self) -> Result<&'a str, CdrError> {
        let bytes = self.bytes()?;
        let position = self.position() - bytes.len() - size_of::<u32>();
        let text = match bytes {
            [] => return Ok(""),
            [text @ .., 0] => text,
            [.., found] => return Err(CdrError::StringEnd { position, found: *found }),
        };
        std::str::from_utf8(text).map_err(|error| CdrError::StringNotUtf8 { position, valid: error.valid_up_to() })
    }

    /// Ends the message.
    ///
    /// # Errors
    /// If more than padding follows, which means that the message has other fields than were read.
    pub fn finish(&self) -> Result<(), CdrError> {
        let found = self.left().len();
        if found > MAX_PADDING_BYTES {
            return Err(CdrError::Trailing { position: self.position(), found });
        }
        Ok(())
    }
}

/// Writes CDR payloads, for the tests of the decoders.
#[cfg(test)]
pub(crate) mod writer {
    pub(crate) struct CdrWriter {
        pub(crate) bytes: Vec<u8>,
        big_endian: bool,
    }

    impl CdrWriter {
        pub(crate) fn new(big_endian: bool) -> Self {
            Self { bytes: vec![0, u8::from(!big_endian), 0, 0], big_endian }
        }

        /// A number given as its big-endian bytes.
        pub(crate) fn number(&mut self, mut big_endian_bytes: Vec<u8>) -> &mut Self {
            while !(self.bytes.len() - 4).is_multiple_of(big_endian_bytes.len()) {
                self.bytes.push(0xEE);
            }
            if !self.big_endian {
                big_endian_bytes.reverse();
            }
            self.bytes.extend(big_endian_bytes);
            self
        }

        pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
            self.number(vec![value])
        }

        pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
            self.number(value.to_be_bytes().to_vec())
        }

        pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
            self.number(value.to_be_bytes().to_vec())
        }

        pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
            self.number(value.to_be_bytes().to_vec())
        }

        pub(crate) fn f64s(&mut self, values: &[f64]) -> &mut Self {
            for value in values {
                self.number(value.to_be_bytes().to_vec());
            }
            self
        }

        pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
            self.bytes.extend(bytes);
            self
        }

        pub(crate) fn byte_sequence(&mut self, bytes: &[u8]) -> &mut Self {
            self.u32(u32::try_from(bytes.len()).unwrap()).raw(bytes)
        }

        pub(crate) fn string(&mut self, text: &str) -> &mut Self {
            self.u32(u32::try_from(text.len() + 1).unwrap()).raw(text.as_bytes()).raw(&[0])
        }

        /// A `std_msgs/msg/Header`.
        pub(crate) fn header(&mut self, seconds: i32, nanoseconds: u32, frame_id: &str) -> &mut Self {
            self.i32(seconds).u32(nanoseconds).string(frame_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::writer::CdrWriter;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_aligned_behind_the_header() {
        let mut payload = vec![0, 1, 0, 0, 4, 0, 0, 0, b'a', b'b', b'c', 0, 7, 0, 0, 0, 9];
        // The f64 1.0 stands 16 bytes behind the header, after 3 bytes of padding.
        payload.extend([0xEE; 3]);
        payload.extend([0, 0, 0, 0, 0, 0, 0xF0, 0x3F]);
        let mut reader = CdrReader::new(&payload).unwrap();
        assert_eq!(reader.string().unwrap(), "abc");
        assert_eq!(reader.u32().unwrap(), 7);
        assert_eq!(reader.u8().unwrap(), 9);
        assert_eq!(reader.position(), 17);
        assert_eq!(reader.f64().unwrap(), 1.0);
        assert_eq!(reader.u32(), Err(CdrError::Truncated { position: 28, expected: 4, found: 0 }));
    }

    #[test]
    fn other_representations_are_refused() {
        assert_eq!(CdrReader::new(&[0, 3, 0, 0]).unwrap_err(), CdrError::Representation { found: 3 });
        let short = CdrError::Truncated { position: 0, expected: 4, found: 3 };
        assert_eq!(CdrReader::new(&[0, 1, 0]).unwrap_err(), short);
    }

    #[test]
    fn counts_are_held_against_the_bytes_left() {
        let mut writer = CdrWriter::new(false);
        writer.u32(u32::MAX).raw(&[1, 2, 3]);
        let error = CdrReader::new(&writer.bytes).unwrap().sequence_len(8).unwrap_err();
        let expected = 8 * u64::from(u32::MAX);
        assert_eq!(error, CdrError::SequenceTooLong { position: 4, count: u32::MAX, expected, found: 3 });
        assert!(CdrReader::new(&writer.bytes).unwrap().bytes().is_err());
    }

    #[test]
    fn strings_must_end_and_be_text() {
        let read = |bytes: &[u8]| {
            let mut writer = CdrWriter::new(true);
            writer.byte_sequence(bytes);
            CdrReader::new(&writer.bytes).unwrap().string().map(str::to_owned)
        };
        assert_eq!(read(b""), Ok(String::new()));
        assert_eq!(read(b"\0"), Ok(String::new()));
        assert_eq!(read(b"ab"), Err(CdrError::StringEnd { position: 4, found: b'b' }));
        assert_eq!(read(b"a\xff\0"), Err(CdrError::StringNotUtf8 { position: 4, valid: 1 }));
    }

    #[test]
    fn only_padding_may_follow() {
        let finish = |count: usize| {
            let mut payload = vec![0, 1, 0, 0];
            payload.resize(4 + count, 0);
            CdrReader::new(&payload).unwrap().finish()
        };
        assert_eq!(finish(3), Ok(()));
        assert_eq!(finish(4), Err(CdrError::Trailing { position: 4, found: 4 }));
    }

    #[test]
    fn truth_values_are_zero_or_one() {
        let mut reader = CdrReader::new(&[0, 1, 0, 0, 1, 0, 2]).unwrap();
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.bool(), Ok(false));
        assert_eq!(reader.bool(), Err(CdrError::Bool { position: 6, found: 2 }));
    }

    proptest! {
        #[test]
        fn written_values_come_back(
            big_endian in any::<bool>(),
            text in "[a-z/_]{0,9}",
            data in proptest::collection::vec(any::<u8>(), 0..9),
            (a, b, c, d) in (any::<u8>(), any::<u16>(), any::<u32>(), any::<i32>()),
            floats in any::<[i32; 3]>(),
        ) {
            let floats = floats.map(|value| f64::from(value) / 16.0);
            let mut writer = CdrWriter::new(big_endian);
            writer.u8(a).f64s(&floats).string(&text).u16(b).byte_sequence(&data).u32(c).u8(a).i32(d);
            let mut reader = CdrReader::new(&writer.bytes).unwrap();
            prop_assert_eq!(reader.u8().unwrap(), a);
            prop_assert_eq!(reader.f64s::<3>().unwrap(), floats);
            prop_assert_eq!(reader.string().unwrap(), text);
            prop_assert_eq!(reader.u16().unwrap(), b);
            prop_assert_eq!(reader.bytes().unwrap(), &data[..]);
            prop_assert_eq!(reader.u32().unwrap(), c);
            prop_assert_eq!(reader.i8().unwrap() as u8, a);
            prop_assert_eq!(reader.i32().unwrap(), d);
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}
