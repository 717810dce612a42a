//! Cameras over V4L2: frames of the kernel become pictures, with the kernel's stamps.
//!
//! The device is a file (`/dev/video0`) or a place where it is plugged in (`bus:usb-0000:00:14.0-1`). One that is unplugged is
//! waited for at its place.

use std::path::PathBuf;

use catseye_calibration::rig::{Camera as RigCamera, PictureFormat, Source};
use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::picture::PixelFormat;
use catseye_sensors::v4l2::{
    Camera, CameraFormat, CameraFrame, CameraState, CameraWatch, Capture, CaptureError, Fraction, Memory,
    SequenceCounter,
};
use foxglove::messages::{CompressedImage, RawImage};

use super::{Driver, LiveError, Measurement, Outlet, PATIENCE, Stamped, again};
use crate::log::Channel;
use crate::log::packet::StampInfo;

/// Buffers of the kernel: one that is filled, one that is read, two to spare.
const BUFFERS: u32 = 4;
/// A stamp that is so far from the arrival is no stamp of this frame.
const FAR_NS: i64 = 1_000_000_000;
/// A camera that gives nothing for so many of its periods is told of.
const STUCK_PERIODS: u32 = 30;

/// The driver of a rig's camera.
///
/// # Errors
/// [`LiveError::Source`] for a source or a picture format that no camera has.
pub fn driver(camera: &RigCamera, source: &Source) -> Result<Box<dyn Driver>, LiveError> {
    let place = match source {
        Source::Device(device) => Place::Device(device.clone()),
        Source::Bus(bus) => Place::Bus(bus.clone()),
        _ => return Err(LiveError::wrong_source(&camera.name, source)),
    };
    let format = match camera.format {
        PictureFormat::Jpeg => CameraFormat::Mjpeg,
        PictureFormat::Nv12 => CameraFormat::Pixels(PixelFormat::Nv12),
        PictureFormat::I420 => CameraFormat::Pixels(PixelFormat::I420),
        PictureFormat::Yuyv => CameraFormat::Pixels(PixelFormat::Yuyv),
        PictureFormat::Uyvy => CameraFormat::Pixels(PixelFormat::Uyvy),
        PictureFormat::Rgb8 => CameraFormat::Pixels(PixelFormat::Rgb8),
        PictureFormat::Bgr8 => CameraFormat::Pixels(PixelFormat::Bgr8),
        PictureFormat::Mono8 => CameraFormat::Pixels(PixelFormat::Mono8),
        PictureFormat::Png | PictureFormat::H264 | PictureFormat::Bayer { .. } => {
            let expected = "a camera whose format is jpeg, nv12, i420, yuyv, uyvy, rgb8, bgr8 or mono8";
            let found = format!("{source}, format {}", camera.format.name());
            return Err(LiveError::Source { sensor: camera.name.clone(), expected, found });
        }
    };
    let size_px = [camera.width_px, camera.height_px];
    Ok(Box::new(CameraDriver { place, format, size_px, rate_hz: camera.rate_hz }))
}

/// Where a camera is found.
enum Place {
    Device(PathBuf),
    Bus(String),
}

struct CameraDriver {
    place: Place,
    format: CameraFormat,
    size_px: [u32; 2],
    rate_hz: f64,
}

impl CameraDriver {
    fn open(&self, bus: Option<&str>) -> Result<Capture, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let camera = match (bus, &self.place) {
            (Some(bus), _) => Camera::open_bus(bus, 0),
            (None, Place::Bus(bus)) => Camera::open_bus(bus, 0),
            (None, Place::Device(device)) => Camera::open(device),
        };
        let camera = camera.map_err(|error| words(&error))?;
        let [width_px, height_px] = self.size_px;
        let layout = camera.set_format(self.format, width_px, height_px).map_err(|error| words(&error))?;
        if [layout.width_px, layout.height_px] != self.size_px {
            let found = format!("{}x{}", layout.width_px, layout.height_px);
            return Err(format!("expected pictures of {width_px}x{height_px}, as in the rig, found {found}"));
        }
        let interval = Fraction { numerator: 1000, denominator: (self.rate_hz * 1000.0) as u32 };
        // a camera that keeps its own rate says so by its frames
        let _ = camera.set_interval(interval);
        Capture::start(camera, layout, Memory::Mapped(BUFFERS)).map_err(|error| words(&error))
    }

    /// Takes frames until the camera goes away, or the end.
    fn stream(
        &self,
        capture: &Capture,
        numbers: &mut SequenceCounter,
        outlet: &mut Outlet,
    ) -> Result<(), CaptureError> {
        let period_ns = (1e9 / self.rate_hz) as i64;
        let mut watch = CameraWatch::new(period_ns, STUCK_PERIODS, outlet.clock().now_ns());
        let mut is_stuck = false;
        while !outlet.is_over() {
            let frame = capture.next_frame(PATIENCE)?;
            let now_ns = outlet.clock().now_ns();
            if let Some(frame) = &frame {
                watch.frame(now_ns);
                self.take(frame, numbers, now_ns, outlet);
            }
            let stuck = matches!(watch.state(now_ns), CameraState::Stuck { .. });
            if stuck != is_stuck {
                outlet.tell(if stuck { "gives no frames" } else { "gives frames again" });
                is_stuck = stuck;
            }
        }
        Ok(())
    }

    fn take(&self, frame: &CameraFrame<'_>, numbers: &mut SequenceCounter, now_ns: i64, outlet: &mut Outlet) {
        numbers.count(frame.sequence());
        outlet.counts.missing = numbers.lost;
        if frame.torn() {
            outlet.counts.damaged += 1;
            return;
        }
        let raw_ns = frame.stamp_ns();
        let mapped_ns = outlet.clock().of_monotonic(raw_ns);
        let is_true = frame.clock() == ClockId::HostMonotonic && raw_ns > 0 && (now_ns - mapped_ns).abs() < FAR_NS;
        if !is_true {
            outlet.counts.bad_stamp += 1;
            if outlet.counts.bad_stamp == 1 {
                outlet.tell("its stamps cannot be true: pictures have those of their arrival");
            }
        }
        let (mapped_ns, kind) = if is_true { (mapped_ns, frame.kind()) } else { (now_ns, StampKind::Arrival) };
        let stamped =
            Stamped { raw_ns, clock: frame.clock(), kind, arrival_ns: now_ns, mapped_ns, uncertainty_ns: 1_000_000 };
        let bytes = frame.piece(0);
        let measurement = match self.format {
            CameraFormat::Pixels(format) => Measurement::Pixels {
                format,
                size_px: self.size_px,
                stride_bytes: frame.layout().pieces().first().map_or(0, |piece| piece.stride_bytes),
                bytes,
            },
            _ => Measurement::Jpeg(bytes),
        };
        outlet.send(&measurement, stamped);
    }
}

impl Driver for CameraDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = match self.format {
            CameraFormat::Pixels(_) => Channel::of_foxglove::<RawImage>(topic),
            _ => Channel::of_foxglove::<CompressedImage>(topic),
        };
        let info = StampInfo { clock: ClockId::HostMonotonic, kind: StampKind::ExposureEnd, uncertainty_ns: 1_000_000 };
        info.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut capture = match self.open(None) {
            Ok(capture) => capture,
            Err(error) => return opened(Err(error)),
        };
        opened(Ok(()));
        let bus = capture.camera().info().bus.clone();
        let mut numbers = SequenceCounter::default();
        while let Err(error) = self.stream(&capture, &mut numbers, outlet) {
            outlet.counts.lost += 1;
            outlet.tell(&error.to_string());
            drop(capture);
            numbers.restart();
            let Some(opened) = again(outlet, || self.open(Some(&bus)).ok()) else { return };
            outlet.tell("is back");
            capture = opened;
        }
    }
}
