//! Has what was written go to the disk at once, and not when the system thinks that it has waited long enough.
//!
//! Linux keeps written bytes in memory until a tenth of it is dirty or 30 seconds have passed: the disk is idle at first, and a
//! file that is closed then waits for gigabytes. So a thread per file asks for the bytes behind the writer, which costs the
//! writer nothing: where the disk's queue is full it is this thread that waits, and the system's memory still takes bursts.
//! What has reached the disk leaves the memory, since a recording is not read again soon, and would push out what is.
//!
//! It is advice: nothing is promised, nothing depends on it, and what the system answers is no matter.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{Advice, fadvise};

/// Bytes from one request to the next: large enough for whole transfers of the disk, small against a second of sensors.
const STEP_BYTES: u64 = 8 << 20;
/// Bytes that lie so far behind the newest are on the disk, unless it is overloaded.
const BEHIND_BYTES: u64 = 256 << 20;

/// The writer's end.
pub(super) struct Writeback {
    wake: SyncSender<u64>,
    written: u64,
    asked: u64,
}

impl Writeback {
    /// Follows a file; `None` where there is no thread for it, and the system then writes when it likes.
    pub fn follow(file: &File) -> Option<Self> {
        let file = file.try_clone().ok()?;
        // one place: a thread that is still at work finds the newest length when it comes back
        let (wake, lengths) = sync_channel(1);
        let thread = std::thread::Builder::new().name("recorder-disk".to_owned());
        thread.spawn(move || run(&file, &lengths)).ok()?;
        Some(Writeback { wake, written: 0, asked: 0 })
    }

    /// The file has grown by so many bytes.
    pub fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        if self.written - self.asked >= STEP_BYTES && self.wake.try_send(self.written).is_ok() {
            self.asked = self.written;
        }
    }
}

/// Ends when the writer does.
fn run(file: &File, lengths: &Receiver<u64>) {
    let mut before = 0;
    for length in lengths {
        // what the system answers is no matter
        let _ = write_or_forget(file, before..length);
        let _ = write_or_forget(file, before.saturating_sub(BEHIND_BYTES)..length.saturating_sub(BEHIND_BYTES));
        before = length;
    }
}

/// Starts to write those of the bytes that are not on the disk yet, and has the others leave the memory (`mm/fadvise.c`).
fn write_or_forget(file: &File, bytes: Range<u64>) -> io::Result<()> {
    match NonZeroU64::new(bytes.end - bytes.start) {
        Some(count) => Ok(fadvise(file, bytes.start, Some(count), Advice::DontNeed)?),
        None => Ok(()),
    }
}
