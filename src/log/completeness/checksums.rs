//! The checksums that an MCAP file holds of itself, and its digest, in one pass.
//!
//! Chunks and attachments have their own, which [`reader`](crate::log::reader) checks. Here are the two of the file: of
//! everything before the data's end, and of the summary (MCAP specification, "Data End" and "Footer").

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use mcap::records::op;
use xxhash_rust::xxh64::Xxh64;

use crate::log::records::{HEAD_BYTES, MAGIC, head};

/// A checksum in the file, and that of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// In the file; 0 was not computed.
    pub expected: u32,
    /// Of the bytes.
    pub found: u32,
}

impl Checksum {
    /// Whether it holds.
    pub fn holds(self) -> bool {
        self.expected == 0 || self.expected == self.found
    }
}

/// What a file's bytes say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// xxh64 of all bytes.
    pub digest: u64,
    /// Of the data, unless the file ends before.
    pub data: Option<Checksum>,
    /// Of the summary, unless the file ends before.
    pub summary: Option<Checksum>,
}

/// Reads a file through.
///
/// # Errors
/// The system's.
pub fn checksums(path: &Path) -> io::Result<Checksums> {
    let mut pass =
        Pass { file: BufReader::with_capacity(1 << 18, File::open(path)?), digest: Xxh64::new(0), crc: None };
    let (mut data, mut summary) = (None, None);
    // a file that ends early ends the pass, and is told by what was not found
    while_whole(pass.sections(&mut data, &mut summary))?;
    pass.crc = None;
    pass.skip(u64::MAX)?;
    Ok(Checksums { digest: pass.digest.digest(), data, summary })
}

fn while_whole(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other,
    }
}

struct Pass {
    file: BufReader<File>,
    digest: Xxh64,
    crc: Option<crc32fast::Hasher>,
}

impl Pass {
    fn sections(&mut self, data: &mut Option<Checksum>, summary: &mut Option<Checksum>) -> io::Result<()> {
        self.crc = Some(crc32fast::Hasher::new());
        self.array::<{ MAGIC.len() }>()?;
        let found = self.until(op::DATA_END, 4)?;
        *data = Some(Checksum { expected: u32::from_le_bytes(self.array()?), found });
        self.crc = Some(crc32fast::Hasher::new());
        self.until(op::FOOTER, 20)?;
        self.array::<16>()?;
        let found = self.crc.take().map_or(0, crc32fast::Hasher::finalize);
        *summary = Some(Checksum { expected: u32::from_le_bytes(self.array()?), found });
        Ok(())
    }

    /// Goes behind the head of the next record of this kind, which has this length; the checksum of what lies before it.
    fn until(&mut self, wanted: u8, wanted_length: u64) -> io::Result<u32> {
        loop {
            let before = self.crc.clone();
            let (opcode, length) = head(&self.array::<HEAD_BYTES>()?);
            if opcode == wanted && length == wanted_length {
                return Ok(before.map_or(0, crc32fast::Hasher::finalize));
            }
            if opcode == wanted || self.skip(length)? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = self.file.read(rest)?;
            self.take_in(rest.get(..read).unwrap_or_default());
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
        }
        Ok(bytes)
    }

    /// Takes in the next bytes, or what is left of the file.
    fn skip(&mut self, length: u64) -> io::Result<u64> {
        let mut done = 0;
        let mut block = vec![0; 1 << 18];
        while done < length {
            let wanted = usize::try_from(length - done).unwrap_or(usize::MAX).min(block.len());
            let read = self.file.read(block.get_mut(..wanted).unwrap_or_default())?;
            if read == 0 {
                break;
            }
            self.take_in(block.get(..read).unwrap_or_default());
            done += read as u64;
        }
        Ok(done)
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Channel;
    use crate::log::writer::{Compression, LogWriter};
    use crate::messages::Account;
    use xxhash_rust::xxh64::xxh64;

    #[test]
    fn the_checksums_of_a_log_hold_and_notice_every_flip_in_what_they_cover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let mut log = LogWriter::create(&path, Compression::Lz4).unwrap();
        let channel = log.channel(&Channel::of_record::<Account>("/accounts")).unwrap();
        for i in 0..50 {
            log.write_record(channel, i, &Account::default()).unwrap();
        }
        log.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let whole = checksums(&path).unwrap();
        assert_eq!(whole.digest, xxh64(&bytes, 0));
        let (data, summary) = (whole.data.unwrap(), whole.summary.unwrap());
        assert!(data.holds() && summary.holds() && data.expected != 0 && summary.expected != 0);
        for at in (0..bytes.len()).step_by(11) {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            std::fs::write(&path, &bad).unwrap();
            let found = checksums(&path).unwrap();
            assert_ne!(found.digest, whole.digest);
            // the last bytes are the end mark, and the summary's checksum before it
            let is_covered = at + 8 < bytes.len();
            let holds = |sum: Option<Checksum>| sum.is_some_and(Checksum::holds);
            assert!(!is_covered || !holds(found.data) || !holds(found.summary), "byte {at}");
        }
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(checksums(&path).unwrap().digest, xxh64(&bytes[..length], 0));
        }
    }
}
