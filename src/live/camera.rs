//! Cameras over V4L2: frames of the kernel become pictures, with the kernel's stamps.
//!
//! The device is a file (`/dev/video0`) or a place where it is plugged in (`bus:usb-0000:00:14.0-1`). One that is unplugged is
//! waited for at its place.
//!
//! Where the driver can, it fills memory that the pipeline reads without a copy; a picture is copied only when so many are still
//! held that the driver would have no buffer left.

use std::path::PathBuf;

use catseye_calibration::rig::{Camera as RigCamera, PictureFormat, Source};
use catseye_sensors::memory::HostMemory;
use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::picture::PixelFormat;
use catseye_sensors::v4l2::{
    BayerDepth, BayerOrder, Camera, CameraError, CameraFormat, CameraFrame, Capture, CaptureError, Fraction,
    FrameLayout, MAX_BUFFERS, Memory, SequenceCounter,
};
use foxglove::messages::{CompressedImage, RawImage};

use super::frames::{ON_THE_WAY, Silence, WITH_DEVICE, of_arrival, of_monotonic};
use super::{Driver, LiveError, Measurement, Outlet, PATIENCE, PixelBytes, Stamped, again};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::stages::preprocess::raw::{BayerPattern, MosaicLayout, RawFormat};

/// Buffers of the kernel: one that is filled, one that is read, two to spare.
const BUFFERS: u32 = 4;

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
    let formats = match camera.format {
        PictureFormat::Jpeg => vec![CameraFormat::Mjpeg],
        PictureFormat::Nv12 => vec![CameraFormat::Pixels(PixelFormat::Nv12)],
        PictureFormat::I420 => vec![CameraFormat::Pixels(PixelFormat::I420)],
        PictureFormat::Yuyv => vec![CameraFormat::Pixels(PixelFormat::Yuyv)],
        PictureFormat::Uyvy => vec![CameraFormat::Pixels(PixelFormat::Uyvy)],
        PictureFormat::Rgb8 => vec![CameraFormat::Pixels(PixelFormat::Rgb8)],
        PictureFormat::Bgr8 => vec![CameraFormat::Pixels(PixelFormat::Bgr8)],
        PictureFormat::Mono8 => vec![CameraFormat::Pixels(PixelFormat::Mono8)],
        PictureFormat::Bayer { pattern, bits: 10 } => mosaics(pattern, [BayerDepth::Bits10, BayerDepth::Bits10Packed]),
        PictureFormat::Bayer { pattern, bits: 12 } => mosaics(pattern, [BayerDepth::Bits12, BayerDepth::Bits12Packed]),
        PictureFormat::Png | PictureFormat::H264 | PictureFormat::Bayer { .. } => {
            let expected =
                "a camera whose format is jpeg, nv12, i420, yuyv, uyvy, rgb8, bgr8, mono8, or bayer-* of 10 or 12 bits";
            let found = format!("{source}, format {}", camera.format.name());
            return Err(LiveError::Source { sensor: camera.name.clone(), expected, found });
        }
    };
    let size_px = [camera.width_px, camera.height_px];
    let full_range = camera.format.has_range().then_some(camera.full_range);
    Ok(Box::new(CameraDriver { place, formats, full_range, size_px, rate_hz: camera.rate_hz }))
}

/// A mosaic with samples of one depth, unpacked and packed.
fn mosaics(pattern: BayerPattern, depths: [BayerDepth; 2]) -> Vec<CameraFormat> {
    let order = match pattern {
        BayerPattern::Rggb => BayerOrder::Rggb,
        BayerPattern::Grbg => BayerOrder::Grbg,
        BayerPattern::Gbrg => BayerOrder::Gbrg,
        BayerPattern::Bggr => BayerOrder::Bggr,
    };
    depths.map(|depth| CameraFormat::Bayer(order, depth)).into()
}

/// A mosaic as the pipeline develops it; none for samples of 8 bits.
fn developed(order: BayerOrder, depth: BayerDepth) -> Option<(RawFormat, BayerPattern)> {
    let pattern = match order {
        BayerOrder::Rggb => BayerPattern::Rggb,
        BayerOrder::Grbg => BayerPattern::Grbg,
        BayerOrder::Gbrg => BayerPattern::Gbrg,
        BayerOrder::Bggr => BayerPattern::Bggr,
    };
    let format = match depth {
        BayerDepth::Bits8 => return None,
        BayerDepth::Bits10 => RawFormat::Raw10,
        BayerDepth::Bits10Packed => RawFormat::Raw10Packed,
        BayerDepth::Bits12 => RawFormat::Raw12,
        BayerDepth::Bits12Packed => RawFormat::Raw12Packed,
    };
    Some((format, pattern))
}

/// Where a camera is found.
enum Place {
    Device(PathBuf),
    Bus(String),
}

struct CameraDriver {
    place: Place,
    /// The first that the camera has is taken; never empty, and all of one kind.
    formats: Vec<CameraFormat>,
    /// Which range of luma the rig says, for a format that has one.
    full_range: Option<bool>,
    size_px: [u32; 2],
    rate_hz: f64,
}

impl CameraDriver {
    /// Opens the camera and begins to stream, into the memory of an earlier capture where there is some; that is taken when the
    /// camera is there.
    fn open(&self, bus: Option<&str>, outlet: &Outlet, old: &mut Vec<Box<dyn HostMemory>>) -> Result<Capture, String> {
        let (camera, layout) = self.camera(bus)?;
        if let (Some(expected), Some(found)) = (self.full_range, layout.full_range)
            && expected != found
        {
            let words = |is_full| if is_full { "0 to 255" } else { "16 to 235" };
            outlet.tell(&format!(
                "expected luma of {}, as in the rig, and its driver tells of {}: give it `full_range = {found}`",
                words(expected),
                words(found)
            ));
        }
        let lent = self.memory(&camera, &layout, outlet, old).map_err(|error| error.to_string())?;
        let (camera, layout) = match lent {
            None => (camera, layout),
            Some(lent) => match Capture::start(camera, layout, Memory::Lent(lent)) {
                Ok(capture) => return Ok(capture),
                Err(error) => {
                    outlet.tell(&format!("pictures are copied: its driver takes no memory of ours: {error}"));
                    self.camera(bus)?
                }
            },
        };
        Capture::start(camera, layout, Memory::Mapped(BUFFERS)).map_err(|error| error.to_string())
    }

    fn camera(&self, bus: Option<&str>) -> Result<(Camera, FrameLayout), String> {
        let camera = match (bus, &self.place) {
            (Some(bus), _) => Camera::open_bus(bus, 0),
            (None, Place::Bus(bus)) => Camera::open_bus(bus, 0),
            (None, Place::Device(device)) => Camera::open(device),
        };
        let camera = camera.map_err(|error| error.to_string())?;
        let [width_px, height_px] = self.size_px;
        let layout = self.set_format(&camera)?;
        if [layout.width_px, layout.height_px] != self.size_px {
            let found = format!("{}x{}", layout.width_px, layout.height_px);
            return Err(format!("expected pictures of {width_px}x{height_px}, as in the rig, found {found}"));
        }
        let interval = Fraction { numerator: 1000, denominator: (self.rate_hz * 1000.0) as u32 };
        // a camera that keeps its own rate says so by its frames
        let _ = camera.set_interval(interval);
        Ok((camera, layout))
    }

    /// Sets the first format that the camera has. No other is asked for after it: that would change it.
    fn set_format(&self, camera: &Camera) -> Result<FrameLayout, String> {
        let [width_px, height_px] = self.size_px;
        let mut refused = String::new();
        for format in &self.formats {
            match camera.set_format(*format, width_px, height_px) {
                Ok(layout) => return Ok(layout),
                Err(error) if refused.is_empty() => refused = error.to_string(),
                Err(_) => {}
            }
        }
        Err(refused)
    }

    /// Memory for the driver to fill, if it can and pixels go to a pipeline: as many buffers as that holds at once, and some.
    fn memory(
        &self,
        camera: &Camera,
        layout: &FrameLayout,
        outlet: &Outlet,
        old: &mut Vec<Box<dyn HostMemory>>,
    ) -> Result<Option<Vec<Box<dyn HostMemory>>>, CameraError> {
        let Some(pictures) = outlet.pictures() else { return Ok(None) };
        if layout.format == CameraFormat::Mjpeg || !camera.takes_lent_memory()? {
            return Ok(None);
        }
        let (count, bytes) = ((pictures.held + ON_THE_WAY + WITH_DEVICE).min(MAX_BUFFERS), layout.lent_bytes());
        let mut lent = std::mem::take(old);
        lent.retain(|memory| memory.bytes().len() >= bytes);
        while lent.len() < count {
            let Some(memory) = pictures.maker.make(bytes) else { break };
            lent.push(memory);
        }
        Ok((lent.len() > WITH_DEVICE).then_some(lent))
    }

    /// Takes frames until the camera goes away, or the end.
    fn stream(
        &self,
        capture: &Capture,
        numbers: &mut SequenceCounter,
        outlet: &mut Outlet,
    ) -> Result<(), CaptureError> {
        let mut silence = Silence::new(self.rate_hz, outlet);
        while !outlet.is_over() {
            let frame = capture.next_frame(PATIENCE)?;
            let now_ns = outlet.clock().now_ns();
            if let Some(frame) = frame {
                silence.broken(now_ns);
                take(frame, capture, numbers, now_ns, outlet);
            }
            silence.look(now_ns, outlet);
        }
        Ok(())
    }
}

fn take(frame: CameraFrame<'_>, capture: &Capture, numbers: &mut SequenceCounter, now_ns: i64, outlet: &mut Outlet) {
    numbers.count(frame.sequence());
    outlet.counts.missing = numbers.lost;
    if frame.torn() {
        outlet.counts.damaged += 1;
        return;
    }
    let (raw_ns, clock) = (frame.stamp_ns(), frame.clock());
    let own = match clock {
        ClockId::HostMonotonic => of_monotonic(raw_ns, frame.kind(), now_ns, outlet),
        _ => None,
    };
    let stamped = own.unwrap_or_else(|| of_arrival(raw_ns, clock, now_ns, outlet));
    let layout = *frame.layout();
    if frame.lent().is_none() || capture.queued_count() < WITH_DEVICE {
        return send(&layout, PixelBytes::Borrowed(frame.piece(0)), stamped, outlet);
    }
    if let Some(bytes) = frame.share() {
        send(&layout, PixelBytes::Shared(bytes), stamped, outlet);
    }
}

/// Sends a picture on, in the format that the camera was set to.
fn send(layout: &FrameLayout, bytes: PixelBytes<'_>, stamped: Stamped, outlet: &mut Outlet) {
    let (width_px, height_px) = (layout.width_px, layout.height_px);
    let stride_bytes = layout.pieces().first().map_or(0, |piece| piece.stride_bytes);
    let measurement = match layout.format {
        CameraFormat::Pixels(format) => {
            Measurement::Pixels { format, size_px: [width_px, height_px], stride_bytes, bytes }
        }
        CameraFormat::Bayer(order, depth) => {
            let Some((format, pattern)) = developed(order, depth) else { return };
            let stride_bytes = (stride_bytes > 0).then_some(stride_bytes as usize);
            Measurement::Mosaic { layout: MosaicLayout { width_px, height_px, format, pattern, stride_bytes }, bytes }
        }
        CameraFormat::Mjpeg | CameraFormat::Nv12Apart => return outlet.send(&Measurement::Jpeg(&bytes), stamped),
    };
    outlet.send(&measurement, stamped);
}

impl Driver for CameraDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = if self.formats.contains(&CameraFormat::Mjpeg) {
            Channel::of_foxglove::<CompressedImage>(topic)
        } else {
            Channel::of_foxglove::<RawImage>(topic)
        };
        let info = StampInfo { clock: ClockId::HostMonotonic, kind: StampKind::ExposureEnd, uncertainty_ns: 1_000_000 };
        info.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut capture = match self.open(None, outlet, &mut Vec::new()) {
            Ok(capture) => capture,
            Err(error) => return opened(Err(error)),
        };
        opened(Ok(()));
        let bus = capture.camera().info().bus.clone();
        let mut numbers = SequenceCounter::default();
        while let Err(error) = self.stream(&capture, &mut numbers, outlet) {
            outlet.counts.lost += 1;
            outlet.tell(&error.to_string());
            let mut memory = capture.into_memory();
            numbers.restart();
            let open = || self.open(Some(&bus), outlet, &mut memory).ok();
            let Some(opened) = again(outlet, open) else { return };
            outlet.tell("is back");
            capture = opened;
        }
    }
}
