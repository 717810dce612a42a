//! An open exporter: pictures that are lent, and their way back.
//!
//! A picture that nobody reads any more sets its buffer's bit, on whatever thread that happens. Whoever asks for the next
//! picture first gives the buffers of all bits back, so that a library is never called by two threads at once.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::abi::{self, MAX_BUFFERS};
use super::frame::{ExportedFrame, FrameFault, Picture};
use super::library::{Library, Opened};
use super::{ExporterError, frame};

/// While a picture is lent, the library is not asked to wait for longer at once: it may need that very buffer to go on.
const SLICE: Duration = Duration::from_millis(4);

/// What an exporter has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExporterCounts {
    /// Pictures lent.
    pub frames: u64,
    /// Those of them that the library calls torn.
    pub torn: u64,
    /// Pictures that broke the contract and were given back unseen.
    pub refused: u64,
}

/// A camera behind an exporter library. Dropped, it lets go of the camera at once; the memory of pictures that are still read stays
/// until the last of them is dropped.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    /// A bit for each buffer that the library has lent and not got back.
    lent: u64,
    last_sequence: Option<u64>,
    counts: ExporterCounts,
    has_ended: bool,
}

/// What a picture keeps alive: the exporter's memory.
pub(super) struct Shared {
    library: Library,
    opened: Opened,
    /// A bit for each buffer that nobody reads any more and that the library has not got back.
    returned: AtomicU64,
}

// SAFETY: a library may be called by any thread, one at a time (catseye_exporter.h). It is called by the one `Exporter` there is,
// which is borrowed for it, and after that by whoever drops the last reference.
unsafe impl Send for Shared {}
// SAFETY: as above; of a shared reference only the atomic is used.
unsafe impl Sync for Shared {}

const _: () = assert!(MAX_BUFFERS == u64::BITS);

impl Exporter {
    /// Opens a library, and with it the camera that the text says.
    ///
    /// # Errors
    /// [`ExporterError`] for a library that is none, or of another version, and for a camera that cannot be opened.
    pub fn open(library: &Path, config: &str) -> Result<Self, ExporterError> {
        let library = Library::load(library)?;
        let opened = library.open(config)?;
        let shared = Arc::new(Shared { library, opened, returned: AtomicU64::new(0) });
        Ok(Exporter { shared, lent: 0, last_sequence: None, counts: ExporterCounts::default(), has_ended: false })
    }

    /// What the library calls itself.
    pub fn name(&self) -> &str {
        &self.shared.library.name
    }

    /// How many buffers there are. So many pictures can be lent at once, less those that the camera keeps to itself.
    pub fn buffer_count(&self) -> u32 {
        self.shared.opened.buffers
    }

    /// How many of them are lent, as far as is known.
    pub fn lent_count(&self) -> u32 {
        (self.lent & !self.shared.returned.load(Ordering::Relaxed)).count_ones()
    }

    /// What was given so far.
    pub fn counts(&self) -> ExporterCounts {
        self.counts
    }

    /// The next picture, `None` if none came within the time. Several can be held at once.
    ///
    /// # Errors
    /// [`ExporterError::Frame`] for a picture that breaks the contract, after which the next may be good; any other is final.
    pub fn next_frame(&mut self, timeout: Duration) -> Result<Option<ExportedFrame>, ExporterError> {
        let end = Instant::now().checked_add(timeout);
        loop {
            self.take_back();
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            let wait = if self.lent == 0 { left } else { left.min(SLICE) };
            let frame = self.ask(wait);
            if !matches!(frame, Ok(None)) || wait == left {
                self.has_ended |= matches!(&frame, Err(error) if error.is_final());
                return frame;
            }
        }
    }

    /// Gives buffers back that nobody reads any more.
    fn take_back(&mut self) {
        self.lent &= !self.shared.give_back();
    }

    fn ask(&mut self, wait: Duration) -> Result<Option<ExportedFrame>, ExporterError> {
        let Shared { library, opened, .. } = &*self.shared;
        let exporter = || library.name.clone();
        if self.has_ended {
            return Err(ExporterError::Failed { exporter: exporter(), reason: "it has ended already".to_owned() });
        }
        let mut raw = abi::Frame::EMPTY;
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: it is open, and this is borrowed for the call.
        match unsafe { library.next_frame(*opened, wait_ns, &mut raw) } {
            abi::OK => self.lend(&raw).map(Some),
            abi::NO_FRAME => Ok(None),
            abi::GONE => Err(ExporterError::Gone { exporter: exporter(), reason: library.words(Some(opened.handle)) }),
            abi::FAILED => {
                Err(ExporterError::Failed { exporter: exporter(), reason: library.words(Some(opened.handle)) })
            }
            found => Err(ExporterError::Status { exporter: exporter(), found }),
        }
    }

    /// A picture that the library has just given, held against the contract.
    fn lend(&mut self, raw: &abi::Frame) -> Result<ExportedFrame, ExporterError> {
        let (exporter, sequence, buffer) = (|| self.shared.library.name.clone(), raw.sequence, raw.buffer);
        let buffers = self.shared.opened.buffers;
        if buffer >= buffers {
            return Err(ExporterError::Buffer { exporter: exporter(), expected: buffers, found: buffer });
        }
        let bit = 1 << buffer;
        if self.lent & bit != 0 {
            return Err(ExporterError::LentTwice { exporter: exporter(), buffer });
        }
        let checked = self.check(raw);
        // a camera that numbers anew is refused once
        self.last_sequence = Some(sequence);
        match checked {
            Ok(picture) => {
                self.lent |= bit;
                self.counts.frames += 1;
                self.counts.torn += u64::from(picture.torn);
                Ok(ExportedFrame::new(Lease { shared: Arc::clone(&self.shared), buffer }, picture))
            }
            Err(fault) => {
                let error = ExporterError::Frame { exporter: exporter(), sequence, fault };
                self.counts.refused += 1;
                // SAFETY: it is open, this is borrowed for the call, and nobody was given the buffer.
                unsafe { self.shared.library.release(self.shared.opened, buffer) };
                Err(error)
            }
        }
    }

    fn check(&self, raw: &abi::Frame) -> Result<Picture, FrameFault> {
        if let Some(last) = self.last_sequence.filter(|last| raw.sequence <= *last) {
            return Err(FrameFault::Backward { last, found: raw.sequence });
        }
        frame::check(raw)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.take_back();
        // SAFETY: it is open, nobody else calls before the last reference is gone, and there is one `Exporter` to do so.
        unsafe { self.shared.library.stop(self.shared.opened) };
    }
}

impl Shared {
    /// Gives buffers of which the bits are set back to the library, and tells which. Never to be called by two threads at once.
    fn give_back(&self) -> u64 {
        // whoever reads a picture has ended before its bit is set: the library may write when the bit is seen
        let returned = self.returned.swap(0, Ordering::Acquire);
        let mut left = returned;
        while left != 0 {
            // SAFETY: it is open, calls do not overlap, and the buffer was lent and its picture is dropped.
            unsafe { self.library.release(self.opened, left.trailing_zeros()) };
            left &= left - 1;
        }
        returned
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.give_back();
        // SAFETY: the `Exporter` has gone and has stopped it; each picture held a reference, so that none is lent.
        unsafe { self.library.close(self.opened) };
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared")
            .field("name", &self.library.name)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

/// A buffer that is lent until this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    buffer: u32,
}

impl Lease {
    pub(super) fn buffer(&self) -> u32 {
        self.buffer
    }

    /// What the exporter's memory lives as long as.
    pub(super) fn keeper(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<Shared>::clone(&self.shared)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.returned.fetch_or(1 << self.buffer, Ordering::Release);
    }
}
