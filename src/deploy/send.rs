//! Files on their way: one compressed archive into `tar` on the target.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::release::{Content, Entry};
use super::ssh::{RECEIVE, Target};
use super::{DeployError, Event, Tell};

/// A wired link takes more than a higher level gives.
const LEVEL: u32 = 3;
/// Bytes between two looks at whether to stop.
const CHUNK: usize = 64 << 10;

/// Sends files into the folder of a release; gives the bytes that went over the connection.
///
/// # Errors
/// The connection is lost, the disk is full, the user stops.
pub fn send(target: &Target<'_>, folder: &str, files: &[&Entry], tell: Tell<'_>) -> Result<u64, DeployError> {
    let mut running = target.start(&RECEIVE, &[folder])?;
    let pipe = Counted { inner: running.stdin.take(), bytes: 0 };
    // the pipe is closed here, which is the archive's end for the target
    let packed = pack(files, pipe, &mut |done, all| {
        tell(Event::Sent { done, all });
        !target.is_stopped()
    })
    .map(|pipe| pipe.bytes);
    // where the pipe broke, the target's reason is the better one
    let finished = running.finish(None, &mut |_, _| {});
    if target.is_stopped() {
        return Err(DeployError::Interrupted);
    }
    match packed {
        Ok(bytes) => finished.map(|_| bytes),
        Err(PackError::Source(error)) => Err(error),
        Err(PackError::Pipe(error)) => {
            finished?;
            Err(DeployError::ConnectionLost { step: RECEIVE.name, said: error.to_string() })
        }
    }
}

enum PackError {
    Source(DeployError),
    Pipe(io::Error),
}

/// Writes the archive. Owners, times and modes do not depend on the laptop.
fn pack<W: Write>(files: &[&Entry], pipe: W, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<W, PackError> {
    let all = files.iter().map(|entry| entry.bytes).sum();
    let mut done = 0;
    let mut archive = tar::Builder::new(GzEncoder::new(pipe, Compression::new(LEVEL)));
    for entry in files {
        let read;
        let bytes = match &entry.content {
            Content::Bytes(bytes) => bytes,
            Content::File(path) => {
                read =
                    std::fs::read(path).map_err(|error| PackError::Source(super::release::file_error(path, &error)))?;
                &read
            }
        };
        let mut header = tar::Header::new_ustar();
        header.set_mode(entry.mode());
        header.set_size(bytes.len() as u64);
        let chunks = Chunks { bytes, done: &mut done, all, progress: &mut *progress };
        archive.append_data(&mut header, &entry.path, chunks).map_err(PackError::Pipe)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).map_err(PackError::Pipe)
}

/// A file's bytes, with a look at the progress at each piece.
struct Chunks<'a> {
    bytes: &'a [u8],
    done: &'a mut u64,
    all: u64,
    progress: &'a mut dyn FnMut(u64, u64) -> bool,
}

impl io::Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(CHUNK);
        let read = self.bytes.read(buffer.get_mut(..room).unwrap_or_default())?;
        *self.done += read as u64;
        if (self.progress)(*self.done, self.all) { Ok(read) } else { Err(io::Error::other("stopped")) }
    }
}

/// Counts what goes through.
struct Counted<W> {
    inner: Option<W>,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::Release;
    use super::super::release::tests::tree;
    use super::*;

    #[test]
    fn an_archive_unpacks_to_the_release() {
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        let files: Vec<&Entry> = release.entries.values().collect();
        let mut last = (0, 0);
        let packed = pack(&files, Vec::new(), &mut |done, all| {
            last = (done, all);
            true
        });
        let Ok(archive) = packed else { panic!("a vector takes all") };
        assert_eq!(last, (release.bytes(), release.bytes()));
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("archive"), archive).unwrap();
        let unpacked = Release::from_package(&place.path().join("archive")).unwrap();
        assert_eq!(unpacked.name(), release.name());
    }

    #[test]
    fn a_stop_ends_the_archive_and_a_lost_file_is_named() {
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        let files: Vec<&Entry> = release.entries.values().collect();
        assert!(matches!(pack(&files, Vec::new(), &mut |_, _| false), Err(PackError::Pipe(_))));
        drop(folder);
        assert!(matches!(pack(&files, Vec::new(), &mut |_, _| true), Err(PackError::Source(DeployError::File { .. }))));
    }
}
