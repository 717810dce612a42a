//! Live cameras of Linux: frames in the buffers of the kernel's V4L2 interface, or in memory that the caller lends.
//!
//! [`list_cameras`] tells what is there, a [`Camera`] is asked for formats and controls and set up, and a [`Capture`] made of it
//! gives one [`CameraFrame`] after another: bytes, number, and the kernel's time stamp with its clock and meaning. Nothing
//! is copied or allocated per frame; a frame in lent memory can be kept and sent on as it is ([`CameraFrame::share`]). [`SequenceCounter`] and [`CameraWatch`] judge what comes, without a device. The bytes
//! go to [`crate::picture`] or to a GPU.
//!
//! This is a thin shell of our own over the kernel's interface ("Video for Linux API", `linux/videodev2.h`): the crate
//! `v4l` runs bindgen at every build and so needs libclang, has no capture with several planes, and leaves the stride
//! of the format before in place. Promised: a frame's bytes are never written while they are borrowed, memory that was
//! lent outlives the kernel's use of it, a frame that the driver calls damaged says so, and a camera that was unplugged
//! is an error of its own, after which the camera can be opened again by the name of its bus.

// calls into the kernel, and memory that it fills
#![allow(unsafe_code)]

mod abi;
mod capture;
mod device;
mod format;
mod sequence;
mod watch;

pub use capture::{CameraFrame, Capture, CaptureError, MAX_BUFFERS, SourceCounts};
pub use device::{
    Camera, CameraError, CameraInfo, ControlInfo, FormatInfo, Fraction, FrameLayout, IntervalRange, Memory,
    PieceLayout, SizeRange, list_cameras,
};
pub use format::{BayerDepth, BayerOrder, CameraFormat, FourCc};
pub use sequence::{SequenceCounter, SequenceStep};
pub use watch::{CameraState, CameraWatch};
