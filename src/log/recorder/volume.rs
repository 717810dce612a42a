//! Where the files of a recording lie: the file system, or what a test puts in its place.
//!
//! [`Part`] is the file that grows. It counts and digests what is written on the way, remembers how far the file was whole,
//! and takes nothing more once a write has failed, so that whoever still holds it cannot write behind the damage.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh64::Xxh64;

use super::writeback::Writeback;

/// A file system, as far as a recording needs one.
pub trait Volume: Send {
    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Store>>;

    /// Bytes that a program without privileges may still use.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file.
pub trait Store: Write + Send {
    /// Has the file system set room aside without making the file longer, so that a crash leaves no tail of zeros.
    ///
    /// # Errors
    /// The system's; many file systems cannot.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;

    /// Cuts the file, and gives back the room behind its end.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// Waits until the bytes would outlive a power loss.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Volume for Folder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Store>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(DiskFile { writeback: Writeback::follow(&file), file }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.0)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// A file of the file system, whose bytes are on the way to the disk soon after they are written.
struct DiskFile {
    file: File,
    writeback: Option<Writeback>,
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(writeback) = &mut self.writeback {
            writeback.wrote(count as u64);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store for DiskFile {
    #[cfg(target_os = "linux")]
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&mut self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A file that grows, shared by the log's writer and by whoever looks after the file.
#[derive(Clone)]
pub struct Part(Arc<Mutex<Growing>>);

struct Growing {
    store: Box<dyn Store>,
    now: Extent,
    whole: Extent,
    has_failed: bool,
}

/// How long a file is, and the digest of so much of it.
#[derive(Clone)]
struct Extent {
    bytes: u64,
    digest: Xxh64,
}

impl Part {
    /// Takes a fresh file.
    pub fn new(store: Box<dyn Store>) -> Self {
        let none = Extent { bytes: 0, digest: Xxh64::new(0) };
        Part(Arc::new(Mutex::new(Growing { store, now: none.clone(), whole: none, has_failed: false })))
    }

    /// A thread that panicked under the lock left counts behind, which are no worse for that.
    fn growing(&self) -> MutexGuard<'_, Growing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.growing().now.bytes
    }

    /// xxh64 of all bytes so far.
    pub fn digest(&self) -> u64 {
        self.growing().now.digest.digest()
    }

    /// Sets room aside; a file system that cannot is no reason to record nothing.
    pub fn reserve(&self, bytes: u64) {
        let _ = self.growing().store.reserve(bytes);
    }

    /// Remembers that the file is whole as it is.
    pub fn mark_whole(&self) {
        let mut growing = self.growing();
        growing.whole = growing.now.clone();
    }

    /// Waits for the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        self.growing().store.sync()
    }

    /// Gives back what was set aside behind the end.
    ///
    /// # Errors
    /// The system's.
    pub fn trim(&self) -> io::Result<()> {
        let mut growing = self.growing();
        let bytes = growing.now.bytes;
        growing.store.truncate(bytes)
    }

    /// Cuts the file to what was last known to be whole, and takes no more.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&self) -> io::Result<()> {
        let mut growing = self.growing();
        growing.has_failed = true;
        growing.now = growing.whole.clone();
        let bytes = growing.now.bytes;
        growing.store.truncate(bytes)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut growing = self.growing();
        if growing.has_failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let written = growing.store.write(bytes);
        match &written {
            Ok(count) => {
                let taken = bytes.get(..*count).unwrap_or(bytes);
                growing.now.digest.update(taken);
                growing.now.bytes += taken.len() as u64;
            }
            Err(error) => growing.has_failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Only tells where it is: the file is written from front to back.
impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) | SeekFrom::End(0) => Ok(self.bytes()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use xxhash_rust::xxh64::xxh64;

    #[test]
    fn a_part_is_cut_to_what_was_whole_and_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        let mut part = Part::new(Folder(folder.path().to_owned()).create(&path).unwrap());
        part.write_all(b"whole").unwrap();
        part.mark_whole();
        part.write_all(b" and half").unwrap();
        assert_eq!((part.bytes(), part.digest()), (14, xxh64(b"whole and half", 0)));
        part.cut().unwrap();
        assert_eq!((part.bytes(), part.digest()), (5, xxh64(b"whole", 0)));
        assert!(part.write_all(b"x").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn what_is_set_aside_makes_no_file_longer_and_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.part");
        let mut part = Part::new(Folder(folder.path().to_owned()).create(&path).unwrap());
        part.reserve(4 << 20);
        part.write_all(b"little").unwrap();
        let reserved = path.metadata().unwrap();
        assert_eq!(reserved.len(), 6);
        part.trim().unwrap();
        part.sync().unwrap();
        let trimmed = path.metadata().unwrap();
        assert_eq!(trimmed.len(), 6);
        assert!(trimmed.blocks() * 512 < 1 << 20, "{} blocks are left", trimmed.blocks());
    }

    #[test]
    fn no_file_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "former").unwrap();
        assert!(Folder(folder.path().to_owned()).create(&path).is_err());
        assert!(Folder(folder.path().to_owned()).free_bytes().unwrap() > 0);
    }
}
