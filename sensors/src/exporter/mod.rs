//! Cameras that only a vendor's SDK can open: pictures lent by a shared library, without a copy.
//!
//! `catseye_exporter.h` says what such a library is; shells for NVIDIA's Argus (Jetson) and SIPL (DRIVE) are in
//! `sensors/exporters`, to be built against the SDK on its user's machine. An [`Exporter`] opens one and gives one
//! [`ExportedFrame`] after another: the camera's own buffer, which goes back to it when nobody reads it any more, whichever
//! thread that was on. [`ExportedFrame::into_bytes`] makes shared bytes of it for a pipeline and a recorder;
//! [`ExportedFrame::memory`] is what a GPU imports.
//!
//! Promised: every value that comes from a library is held against the contract before it is used, and what breaks it has an
//! error of its own; a buffer is never given back while somebody reads it; the camera is let go as soon as its [`Exporter`]
//! is dropped, whoever still holds pictures; nobody waits for a lock. Not to be seen from here, and so trusted: that a plane's
//! address is readable for as many bytes as the library says, and that nothing writes there while it is lent.

// a library's functions are called, and memory is read that it lends
#![allow(unsafe_code)]

mod abi;
mod capture;
mod frame;
mod library;

pub use capture::{Exporter, ExporterCounts};
pub use frame::{ExportedClock, ExportedFrame, ExportedMemory, ExportedPlane, FrameFault};

use thiserror::Error;

/// Why there is no exporter, or no picture from it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExporterError {
    /// The library cannot be opened.
    #[error("exporter {library}: cannot be opened: {reason}")]
    NoLibrary {
        /// The library, as it was asked for.
        library: String,
        /// The loader's words.
        reason: String,
    },
    /// It is a library, but no exporter.
    #[error("exporter {library}: expected the symbol `catseye_exporter_api`, found none")]
    NoSymbol {
        /// The library.
        library: String,
    },
    /// It gives no table of functions, or one with a gap.
    #[error("exporter {library}: expected a function `{function}`, found null")]
    NoFunction {
        /// The library.
        library: String,
        /// What is missing.
        function: &'static str,
    },
    /// It was built for another version of the contract.
    #[error(
        "exporter {library}: expected version {} of catseye_exporter.h with structs of {} and {} bytes, found version {} with {} and {}: build it anew with this catseye's header",
        expected[0], expected[1], expected[2], found[0], found[1], found[2]
    )]
    Version {
        /// The library.
        library: String,
        /// Version, bytes of the table, bytes of a frame: ours.
        expected: [u32; 3],
        /// The library's.
        found: [u32; 3],
    },
    /// A text for the library holds a zero byte.
    #[error("exporter {library}: expected a text without a zero byte, found {found:?}")]
    Text {
        /// The library.
        library: String,
        /// The text.
        found: String,
    },
    /// The camera cannot be opened.
    #[error("exporter {exporter}: {config}: {reason}")]
    Open {
        /// The exporter's name for itself.
        exporter: String,
        /// What it was asked for.
        config: String,
        /// The library's words.
        reason: String,
    },
    /// It has no buffers, or more than can be told apart.
    #[error("exporter {exporter}: expected 1 to {expected} buffers, found {found}")]
    Buffers {
        /// The exporter's name.
        exporter: String,
        /// The most.
        expected: u32,
        /// What it has.
        found: u32,
    },
    /// The camera is gone and may come back: open it again.
    #[error("exporter {exporter}: the camera is gone: {reason}")]
    Gone {
        /// The exporter's name.
        exporter: String,
        /// The library's words.
        reason: String,
    },
    /// The library gave up.
    #[error("exporter {exporter}: failed: {reason}")]
    Failed {
        /// The exporter's name.
        exporter: String,
        /// The library's words.
        reason: String,
    },
    /// It answers with a status that there is not.
    #[error("exporter {exporter}: expected a status of 0 to 3, found {found}")]
    Status {
        /// The exporter's name.
        exporter: String,
        /// The status.
        found: i32,
    },
    /// It gives a buffer that it does not have.
    #[error("exporter {exporter}: expected a buffer below {expected}, found {found}")]
    Buffer {
        /// The exporter's name.
        exporter: String,
        /// How many it has.
        expected: u32,
        /// What it gave.
        found: u32,
    },
    /// It gives a buffer again that is still lent: what was lent may have been written.
    #[error("exporter {exporter}: gave buffer {buffer} again, which is still lent")]
    LentTwice {
        /// The exporter's name.
        exporter: String,
        /// The buffer.
        buffer: u32,
    },
    /// A picture is none that can be used. It was given back, and the next one may be good.
    #[error("exporter {exporter}: picture {sequence}: {fault}")]
    Frame {
        /// The exporter's name.
        exporter: String,
        /// The picture's number.
        sequence: u64,
        /// What is wrong with it.
        fault: FrameFault,
    },
}

impl ExporterError {
    /// Whether the exporter gives nothing more: drop it, and open it again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Frame { .. })
    }
}
