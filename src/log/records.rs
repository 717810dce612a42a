//! The records of an MCAP file: what their bytes say, and what is in a chunk.
//!
//! Bytes come from [`reader`](super::reader) and leave as borrowed records. The `mcap` crate's readers reserve what a
//! length in the file claims and cut attachments without looking; a log may come from anywhere, so its bytes are read here.
//! Nothing panics, and nothing is reserved that the bytes in hand do not justify. Layout and numbers are those of the
//! MCAP format specification, <https://mcap.dev/spec>.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use mcap::records::op;
use thiserror::Error;

/// First and last bytes of a file.
pub const MAGIC: [u8; 8] = *b"\x89MCAP0\r\n";
/// Largest record or inflated chunk that is accepted.
pub const MAX_RECORD_BYTES: u64 = 512 << 20;
/// Bytes in front of every record: its kind and its length.
pub const HEAD_BYTES: usize = 9;

/// What is wrong with a file's bytes.
#[derive(Debug, Error)]
pub enum Damage {
    /// A record that is too large to be one.
    #[error("a record of kind {opcode:#04x} claims {found} bytes: expected at most {MAX_RECORD_BYTES}")]
    TooLarge {
        /// Its kind.
        opcode: u8,
        /// Its length.
        found: u64,
    },
    /// A record that ends before its fields do.
    #[error("a record of kind {opcode:#04x} ends inside its {field}")]
    Short {
        /// Its kind.
        opcode: u8,
        /// The field.
        field: &'static str,
    },
    /// A record that goes on behind the end of its chunk.
    #[error("a record of kind {opcode:#04x} claims {found} bytes, its chunk has {left} left")]
    Overrun {
        /// Its kind.
        opcode: u8,
        /// Its length.
        found: u64,
        /// Bytes left in the chunk.
        left: u64,
    },
    /// A name of a compression that is not known.
    #[error("expected a chunk compressed with zstd, lz4 or not at all, found {0:?}")]
    Compression(String),
    /// A chunk that cannot be inflated.
    #[error("a chunk cannot be inflated: {0}")]
    Inflate(std::io::Error),
    /// A chunk that inflates to another size.
    #[error("expected a chunk of {expected} bytes, found {found}")]
    ChunkSize {
        /// By its header.
        expected: u64,
        /// In it.
        found: u64,
    },
    /// A checksum that does not hold.
    #[error("expected the checksum {expected:08x} of a {what}, found {found:08x}")]
    Crc {
        /// Chunk or attachment.
        what: &'static str,
        /// In the file.
        expected: u32,
        /// Of the bytes.
        found: u32,
    },
    /// A message on a channel that was not opened.
    #[error("message {sequence} is of channel {channel}, which the file does not describe")]
    UnknownChannel {
        /// The message.
        sequence: u32,
        /// The channel.
        channel: u16,
    },
    /// Other bytes where the file should end.
    #[error("expected the end mark of an MCAP file, found {0:02x?}")]
    EndMark([u8; 8]),
}

/// One record, as far as a log needs it.
#[derive(Debug, PartialEq)]
pub enum Record<'a> {
    Schema { id: u16, name: String, encoding: String, data: &'a [u8] },
    Channel { id: u16, schema: u16, topic: String, encoding: String, metadata: BTreeMap<String, String> },
    Message { channel: u16, sequence: u32, log_ns: i64, publish_ns: i64, data: Range<usize> },
    Attachment { name: String, data: &'a [u8] },
    Metadata { name: String, entries: BTreeMap<String, String> },
    DataEnd,
    Other,
}

impl<'a> Record<'a> {
    /// Reads a record's body. A message's data are named by their place in it.
    pub fn parse(opcode: u8, body: &'a [u8]) -> Result<Record<'a>, Damage> {
        let mut fields = Fields { opcode, body, at: 0 };
        Ok(match opcode {
            op::SCHEMA => {
                let (id, name, encoding) = (fields.u16("id")?, fields.text("name")?, fields.text("encoding")?);
                let length = u64::from(fields.u32("length")?);
                Record::Schema { id, name, encoding, data: fields.bytes(length, "data")? }
            }
            op::CHANNEL => {
                let (id, schema) = (fields.u16("id")?, fields.u16("schema")?);
                let (topic, encoding) = (fields.text("topic")?, fields.text("encoding")?);
                Record::Channel { id, schema, topic, encoding, metadata: fields.map("metadata")? }
            }
            op::MESSAGE => {
                let (channel, sequence) = (fields.u16("channel")?, fields.u32("sequence")?);
                let (log_ns, publish_ns) = (fields.u64("log time")? as i64, fields.u64("publish time")? as i64);
                Record::Message { channel, sequence, log_ns, publish_ns, data: fields.at..body.len() }
            }
            op::ATTACHMENT => {
                fields.bytes(16, "times")?;
                let (name, _) = (fields.text("name")?, fields.text("media type")?);
                let length = fields.u64("length")?;
                let data = fields.bytes(length, "data")?;
                let covered = fields.at;
                check_crc("attachment", fields.u32("checksum")?, &body[..covered])?;
                Record::Attachment { name, data }
            }
            op::METADATA => Record::Metadata { name: fields.text("name")?, entries: fields.map("entries")? },
            op::DATA_END => Record::DataEnd,
            _ => Record::Other,
        })
    }
}

/// What is in a chunk: its records, one after the other.
///
/// `inflated` takes the bytes. Of a chunk that is `cut` off its whole beginning is given, unchecked, since its checksum is
/// of all of it.
pub fn inflate(body: &[u8], is_cut: bool, inflated: &mut Vec<u8>) -> Result<(), Damage> {
    inflated.clear();
    let mut fields = Fields { opcode: op::CHUNK, body, at: 0 };
    fields.bytes(16, "times")?;
    let size = fields.u64("size")?;
    let crc = fields.u32("checksum")?;
    let compression = fields.text("compression")?;
    let length = fields.u64("length")?;
    if size > MAX_RECORD_BYTES {
        return Err(Damage::TooLarge { opcode: op::CHUNK, found: size });
    }
    let left = (body.len() - fields.at) as u64;
    let packed = fields.bytes(if is_cut { length.min(left) } else { length }, "records")?;
    // one byte more than there should be shows that there is more; the vector grows with what really comes out
    let read = match compression.as_str() {
        "" => packed.take(size + 1).read_to_end(inflated),
        "zstd" => zstd::Decoder::new(packed).and_then(|stream| stream.take(size + 1).read_to_end(inflated)),
        "lz4" => lz4::Decoder::new(packed).and_then(|stream| stream.take(size + 1).read_to_end(inflated)),
        _ => return Err(Damage::Compression(compression)),
    };
    if is_cut {
        return Ok(());
    }
    read.map_err(Damage::Inflate)?;
    let found = inflated.len() as u64;
    if found != size {
        return Err(Damage::ChunkSize { expected: size, found });
    }
    check_crc("chunk", crc, inflated)
}

/// A checksum of 0 was not computed.
fn check_crc(what: &'static str, expected: u32, bytes: &[u8]) -> Result<(), Damage> {
    if expected == 0 {
        return Ok(());
    }
    let found = crc32fast::hash(bytes);
    if found == expected { Ok(()) } else { Err(Damage::Crc { what, expected, found }) }
}

/// Kind and length of a record.
pub fn head(bytes: &[u8; HEAD_BYTES]) -> (u8, u64) {
    let [opcode, length @ ..] = *bytes;
    (opcode, u64::from_le_bytes(length))
}

/// Reads fields one after the other.
struct Fields<'a> {
    opcode: u8,
    body: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn short(&self, field: &'static str) -> Damage {
        Damage::Short { opcode: self.opcode, field }
    }

    fn bytes(&mut self, length: u64, field: &'static str) -> Result<&'a [u8], Damage> {
        let rest = &self.body[self.at..];
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let length = length.ok_or_else(|| self.short(field))?;
        self.at += length;
        Ok(&rest[..length])
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Damage> {
        let value = self.body[self.at..].first_chunk().copied().ok_or_else(|| self.short(field))?;
        self.at += N;
        Ok(value)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Text by the specification is UTF-8; what is not is shown as far as it is.
    fn text(&mut self, field: &'static str) -> Result<String, Damage> {
        let length = u64::from(self.u32(field)?);
        Ok(String::from_utf8_lossy(self.bytes(length, field)?).into_owned())
    }

    fn map(&mut self, field: &'static str) -> Result<BTreeMap<String, String>, Damage> {
        let length = u64::from(self.u32(field)?);
        let mut entries = Fields { opcode: self.opcode, body: self.bytes(length, field)?, at: 0 };
        let mut map = BTreeMap::new();
        while entries.at < entries.body.len() {
            let (key, value) = (entries.text(field)?, entries.text(field)?);
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attachment_without_its_checksum_is_short() {
        let error = Record::parse(op::ATTACHMENT, &[0; 32]).unwrap_err();
        assert!(matches!(error, Damage::Short { field: "checksum", .. }), "{error}");
    }

    #[test]
    fn a_length_beyond_the_bytes_reserves_nothing() {
        let error = Record::parse(op::CHANNEL, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(matches!(error, Damage::Short { field: "topic", .. }), "{error}");
    }

    fn chunk(size: u64, crc: u32, compression: &str, records: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 16];
        body.extend_from_slice(&size.to_le_bytes());
        body.extend_from_slice(&crc.to_le_bytes());
        body.extend_from_slice(&(compression.len() as u32).to_le_bytes());
        body.extend_from_slice(compression.as_bytes());
        body.extend_from_slice(&(records.len() as u64).to_le_bytes());
        body.extend_from_slice(records);
        body
    }

    #[test]
    fn a_chunk_holds_what_its_header_says() {
        let (records, mut out) = (b"records of a chunk".as_slice(), Vec::new());
        let (size, crc) = (records.len() as u64, crc32fast::hash(records));
        inflate(&chunk(size, crc, "", records), false, &mut out).unwrap();
        assert_eq!(out, records);
        let packed = zstd::encode_all(records, 1).unwrap();
        inflate(&chunk(size, crc, "zstd", &packed), false, &mut out).unwrap();
        assert_eq!(out, records);
        let wrong = |body: Vec<u8>| inflate(&body, false, &mut Vec::new()).unwrap_err();
        assert!(matches!(wrong(chunk(size, crc ^ 1, "", records)), Damage::Crc { .. }));
        assert!(matches!(wrong(chunk(size - 1, crc, "zstd", &packed)), Damage::ChunkSize { .. }));
        assert!(matches!(wrong(chunk(1 << 40, crc, "zstd", &packed)), Damage::TooLarge { .. }));
        assert!(matches!(wrong(chunk(size, crc, "rar", records)), Damage::Compression(_)));
        // a header that claims half a gigabyte reserves what there is
        let mut small = Vec::new();
        assert!(inflate(&chunk(MAX_RECORD_BYTES, 0, "zstd", &packed), false, &mut small).is_err());
        assert!(small.capacity() < 1 << 20);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(opcode in 0u8..20, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(opcode, &body);
            let _ = inflate(&body, opcode.is_multiple_of(2), &mut Vec::new());
        }
    }
}
