//! Cameras behind an exporter library: Argus on Jetson, SIPL on DRIVE, or any other that keeps `catseye_exporter.h`.
//!
//! The library is opened when the rig names it, `argus:0`, `sipl:FRONT` or `exporter:/opt/libmine.so`, and lends the camera's own
//! buffers. A packet holds a buffer until its last reader lets go, and a GPU gets to know each buffer once. A picture is copied only
//! where its planes lie apart, or where so many are still held that the camera would have no buffer left. A camera that goes away is
//! waited for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catseye_calibration::rig::{Camera as RigCamera, Exporter as RigExporter, PictureFormat, Source};
use catseye_sensors::exporter::{ExportedClock, ExportedFrame, Exporter, ExporterError};
use catseye_sensors::memory::{ForeignHandle, ForeignMemory, HostMemory, SharedBytes};
use catseye_sensors::packet::{ClockId, StampKind};
use catseye_sensors::picture::PixelFormat;
use catseye_sensors::v4l2::{CameraFormat, SequenceCounter};
use foxglove::messages::RawImage;

use super::frames::{ON_THE_WAY, Silence, WITH_DEVICE, of_arrival, of_monotonic};
use super::{Driver, LiveError, Measurement, Outlet, PATIENCE, PixelBytes, Stamped, again};
use crate::log::Channel;
use crate::log::packet::StampInfo;

/// The most that a library can have.
const MOST: usize = 64;
/// Where nothing but faults comes, or a library does not wait, so long passes from one to the next.
const PAUSE: Duration = Duration::from_millis(2);

/// The driver of a rig's camera.
///
/// # Errors
/// [`LiveError::Source`] for a picture format that no exporter gives.
pub fn driver(camera: &RigCamera, source: &RigExporter) -> Result<Box<dyn Driver>, LiveError> {
    let format = match camera.format {
        PictureFormat::Nv12 => PixelFormat::Nv12,
        PictureFormat::I420 => PixelFormat::I420,
        PictureFormat::Yuyv => PixelFormat::Yuyv,
        PictureFormat::Uyvy => PixelFormat::Uyvy,
        PictureFormat::Rgb8 => PixelFormat::Rgb8,
        PictureFormat::Bgr8 => PixelFormat::Bgr8,
        PictureFormat::Mono8 => PixelFormat::Mono8,
        PictureFormat::Jpeg | PictureFormat::Png | PictureFormat::H264 | PictureFormat::Bayer { .. } => {
            let expected = "a camera whose format is nv12, i420, yuyv, uyvy, rgb8, bgr8 or mono8";
            let found = format!("{}, format {}", Source::Exporter(source.clone()), camera.format.name());
            return Err(LiveError::Source { sensor: camera.name.clone(), expected, found });
        }
    };
    let size_px = [camera.width_px, camera.height_px];
    let (full_range, rate_hz) = (camera.full_range, camera.rate_hz);
    Ok(Box::new(ExporterDriver { source: source.clone(), format, full_range, size_px, rate_hz }))
}

/// The library of a source: the file that its variable names, or its name for the loader.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// A file, or a name that the loader looks for.
    pub path: PathBuf,
    /// What makes it, where it is one of ours.
    pub made_by: Option<&'static str>,
}

impl Library {
    /// That of a source on this machine.
    pub fn of(source: &RigExporter) -> Self {
        let ours = |variable: &str, name: &str, made_by| {
            let path = std::env::var_os(variable).filter(|path| !path.is_empty());
            Library { path: path.map_or_else(|| PathBuf::from(name), PathBuf::from), made_by: Some(made_by) }
        };
        match source {
            RigExporter::Argus(_) => ours(
                "CATSEYE_ARGUS_LIB",
                "libcatseye_argus.so",
                "build it on the Jetson with `make -C sensors/exporters/argus`, and name the file in CATSEYE_ARGUS_LIB",
            ),
            RigExporter::Sipl(_) => ours(
                "CATSEYE_SIPL_LIB",
                "libcatseye_sipl.so",
                "build it with `make -C sensors/exporters/sipl`, and name the file in CATSEYE_SIPL_LIB",
            ),
            RigExporter::Library { path, .. } => Library { path: path.clone(), made_by: None },
        }
    }

    /// An error in words, with what mends a library that is not there.
    fn words(&self, error: &ExporterError) -> String {
        match (error, self.made_by) {
            (ExporterError::NoLibrary { .. } | ExporterError::Version { .. }, Some(made_by)) => {
                format!("{error}; {made_by}")
            }
            _ => error.to_string(),
        }
    }
}

struct ExporterDriver {
    source: RigExporter,
    format: PixelFormat,
    full_range: bool,
    size_px: [u32; 2],
    rate_hz: f64,
}

/// What is known of a camera from picture to picture.
#[derive(Default)]
struct Seen {
    numbers: SequenceCounter,
    is_copy_told: bool,
    /// By their numbers, the buffers that were seen.
    buffers: BTreeMap<u32, Known>,
}

/// A buffer: by what handle it is shared, and as what memory whoever works on the pictures knows it.
#[derive(Clone)]
struct Known {
    handle: Option<ForeignHandle>,
    memory: Option<Arc<Box<dyn HostMemory>>>,
}

impl Seen {
    /// A picture's bytes, lent until the last who reads them lets go.
    fn share(&mut self, frame: ExportedFrame, outlet: &Outlet) -> SharedBytes {
        let foreign = frame.foreign();
        let handle = foreign.as_ref().and_then(ForeignMemory::handle);
        let known = self.buffers.get(&frame.buffer()).filter(|known| known.handle == handle).cloned();
        let Known { memory, .. } = known.unwrap_or_else(|| {
            let adopt = || Some(Arc::new(outlet.pictures()?.maker.adopt(foreign?)?));
            let known = Known { handle, memory: adopt() };
            self.buffers.insert(frame.buffer(), known.clone());
            known
        });
        let bytes = frame.into_bytes();
        match memory {
            Some(memory) => SharedBytes::in_memory(bytes, memory),
            None => bytes.into(),
        }
    }
}

impl ExporterDriver {
    fn open(&self, outlet: &Outlet) -> Result<Exporter, String> {
        let library = Library::of(&self.source);
        Exporter::open(&library.path, &self.config(outlet)).map_err(|error| library.words(&error))
    }

    /// What every library is told, and then what the rig says for this one.
    fn config(&self, outlet: &Outlet) -> String {
        let [width_px, height_px] = self.size_px;
        let fourcc = CameraFormat::Pixels(self.format).fourcc();
        let held = outlet.pictures().map_or(0, |pictures| pictures.held);
        let buffers = held.saturating_add(ON_THE_WAY + WITH_DEVICE).min(MOST);
        let camera = match &self.source {
            RigExporter::Argus(number) => format!("camera={number};"),
            RigExporter::Sipl(name) => format!("camera={name};"),
            RigExporter::Library { .. } => String::new(),
        };
        let hex = |uuid: [u8; 16]| uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let gpu = outlet.pictures().and_then(|pictures| pictures.maker.gpu_uuid());
        let gpu = gpu.map(|uuid| format!(";gpu_uuid={}", hex(uuid))).unwrap_or_default();
        let (rate_hz, full_range) = (self.rate_hz, u8::from(self.full_range));
        let ours = format!(
            "{camera}width_px={width_px};height_px={height_px};rate_hz={rate_hz};fourcc={fourcc};full_range={full_range};\
             buffers={buffers}{gpu}"
        );
        match &self.source {
            RigExporter::Library { config, .. } if !config.is_empty() => format!("{ours};{config}"),
            _ => ours,
        }
    }

    /// Takes pictures until the camera goes away, or the end.
    fn stream(&self, exporter: &mut Exporter, seen: &mut Seen, outlet: &mut Outlet) -> Result<(), ExporterError> {
        let mut silence = Silence::new(self.rate_hz, outlet);
        while !outlet.is_over() {
            match exporter.next_frame(PATIENCE) {
                Ok(Some(frame)) => {
                    let now_ns = outlet.clock().now_ns();
                    silence.broken(now_ns);
                    let with_camera = exporter.buffer_count() - exporter.lent_count();
                    let is_scarce = (with_camera as usize) < WITH_DEVICE;
                    self.take(frame, is_scarce, seen, now_ns, outlet);
                }
                Ok(None) => {}
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    outlet.counts.refused += 1;
                    if outlet.counts.refused == 1 {
                        outlet.tell(&error.to_string());
                    }
                    std::thread::sleep(PAUSE);
                }
            }
            silence.look(outlet.clock().now_ns(), outlet);
        }
        Ok(())
    }

    fn take(&self, frame: ExportedFrame, is_scarce: bool, seen: &mut Seen, now_ns: i64, outlet: &mut Outlet) {
        // a gap of half their range and more is none that can be lived through
        seen.numbers.count(frame.sequence() as u32);
        outlet.counts.missing = seen.numbers.lost;
        if frame.torn() {
            outlet.counts.damaged += 1;
            return;
        }
        if frame.format() != CameraFormat::Pixels(self.format) || frame.size_px() != self.size_px {
            outlet.counts.refused += 1;
            if outlet.counts.refused == 1 {
                let ([width_px, height_px], [wide, high]) = (self.size_px, frame.size_px());
                let (expected, found) = (CameraFormat::Pixels(self.format).fourcc(), frame.format().fourcc());
                outlet.tell(&format!(
                    "expected pictures of {width_px}x{height_px} in {expected}, as in the rig, found {wide}x{high} in {found}"
                ));
            }
            return;
        }
        let stamped = stamped(&frame, now_ns, outlet);
        let stride = frame.layout(0).map_or(0, |plane| plane.layout.stride);
        if let Some(bytes) = frame.whole().filter(|_| is_scarce) {
            return outlet.send(&self.pixels(stride, PixelBytes::Borrowed(bytes)), stamped);
        }
        let (is_apart, sent) = (frame.whole().is_none(), outlet.counts.sent);
        let bytes = seen.share(frame, outlet);
        outlet.send(&self.pixels(stride, PixelBytes::Shared(bytes)), stamped);
        if !is_apart {
            return;
        }
        outlet.counts.copied += outlet.counts.sent - sent;
        if !std::mem::replace(&mut seen.is_copy_told, true) {
            outlet.tell("its planes lie apart: each picture is copied once");
        }
    }

    fn pixels<'a>(&self, stride: usize, bytes: PixelBytes<'a>) -> Measurement<'a> {
        // strides come as 32 bits
        let stride_bytes = u32::try_from(stride).unwrap_or(0);
        Measurement::Pixels { format: self.format, size_px: self.size_px, stride_bytes, bytes }
    }
}

/// When a picture was taken, on the host's time line: by its own stamp where that can be true, else by its arrival.
fn stamped(frame: &ExportedFrame, now_ns: i64, outlet: &mut Outlet) -> Stamped {
    let (raw_ns, clock, kind) = (frame.stamp_ns(), frame.clock().id(), frame.kind());
    let bad_before = outlet.counts.bad_stamp;
    let own = match frame.clock() {
        ExportedClock::Known(ClockId::HostMonotonic) => of_monotonic(raw_ns, kind, now_ns, outlet),
        ExportedClock::Known(ClockId::Unknown) => None,
        _ => outlet.map(raw_ns, clock, kind, now_ns),
    };
    own.unwrap_or_else(|| {
        // the mapper of clocks counts for itself
        outlet.counts.bad_stamp = bad_before;
        of_arrival(raw_ns, clock, now_ns, outlet)
    })
}

impl Driver for ExporterDriver {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_foxglove::<RawImage>(topic);
        // the channel is there before the first picture; which instant a library of somebody else names, only that tells
        let kind = match self.source {
            RigExporter::Sipl(_) => StampKind::ExposureEnd,
            RigExporter::Argus(_) | RigExporter::Library { .. } => StampKind::ExposureStart,
        };
        StampInfo { clock: ClockId::HostMonotonic, kind, uncertainty_ns: 1_000_000 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut exporter = match self.open(outlet) {
            Ok(exporter) => exporter,
            Err(error) => return opened(Err(error)),
        };
        opened(Ok(()));
        let mut seen = Seen::default();
        while let Err(error) = self.stream(&mut exporter, &mut seen, outlet) {
            outlet.counts.lost += 1;
            outlet.tell(&error.to_string());
            // before it is opened again: it lets go of the camera
            seen.buffers.clear();
            drop(exporter);
            seen.numbers.restart();
            let Some(opened) = again(outlet, || self.open(outlet).ok()) else { return };
            outlet.tell("is back");
            exporter = opened;
        }
    }
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::Rig;

    use super::*;
    use crate::log::packet::STAMP_KIND_KEY;

    #[test]
    fn a_channel_says_what_the_stamps_of_its_library_name() {
        let mut camera = Rig::default_camera(64, 48).cameras.remove(0);
        camera.format = PictureFormat::Nv12;
        let (front, first) = (RigExporter::Sipl("FRONT".to_owned()), RigExporter::Argus(0));
        for (source, expected) in [(front, "exposure_end"), (first, "exposure_start")] {
            let channel = driver(&camera, &source).unwrap().channel("/camera/front/image");
            assert_eq!(channel.metadata[STAMP_KIND_KEY], expected);
        }
    }
}
