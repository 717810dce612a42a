//! Where a sensor's measurements leave its thread: numbered, stamped, to the edge and to the recorder.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};

use catseye_sensors::can::CanFrame;
use catseye_sensors::clock::{ClockMapper, MappedStamp};
use catseye_sensors::cloud::Point;
use catseye_sensors::memory::SharedBytes;
use catseye_sensors::packet::{ClockId, PacketHeader, SensorId, Stamp, StampKind};
use catseye_sensors::picture::{Encoding, PixelFormat};
use foxglove::Encode;
use foxglove::bytes::{BufMut, Bytes};
use foxglove::messages::{LocationFix, RawImage};

use super::Tell;
use super::clock::HostClock;
use super::timing::{SensorTiming, Watch};
use crate::log::packet::{
    Content, GnssFix, PackedCloud, SensorPacket, cloud_message, picture_message, raw_layout, strongest, timestamp,
};
use crate::log::recorder::Recorder;
use crate::log::recorder::priority::{Offer, SensorMessage, Slot};
use crate::messages::{CanMessage, ImuSample, RadarReturns, RadarScan, UltrasonicEcho};
use crate::pipeline::PictureMemory;
use crate::realtime::pulse::{Beat, Pulse};
use crate::record::Record;
use crate::source::Item;
use crate::stages::preprocess::raw::{self, MosaicLayout};

/// What a sensor measured.
pub enum Measurement<'a> {
    /// A JPEG file.
    Jpeg(&'a [u8]),
    /// Pixels as a driver sends them.
    Pixels {
        /// Their format.
        format: PixelFormat,
        /// Width and height.
        size_px: [u32; 2],
        /// Bytes from a row to the next.
        stride_bytes: u32,
        /// The bytes.
        bytes: PixelBytes<'a>,
    },
    /// A sensor's pixels, each of one colour.
    Mosaic {
        /// How they lie.
        layout: MosaicLayout,
        /// The bytes.
        bytes: PixelBytes<'a>,
    },
    /// A lidar's scan.
    Scan(&'a [Point]),
    /// Objects that a radar follows.
    Targets(&'a RadarScan),
    /// Reflections that a radar measured.
    Returns(&'a RadarReturns),
    /// An ultrasonic sensor's echo.
    Echo(UltrasonicEcho),
    /// An inertial unit's sample.
    Imu(ImuSample),
    /// A satellite receiver's position; its own stamp and frame are filled in here.
    Fix(LocationFix),
    /// A CAN frame.
    Can(CanFrame),
}

/// The bytes of pixels.
pub enum PixelBytes<'a> {
    /// They are gone when the measurement is sent: the pipeline gets a copy.
    Borrowed(&'a [u8]),
    /// They can be kept: the pipeline reads them where they lie.
    Shared(SharedBytes),
}

impl Deref for PixelBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            PixelBytes::Borrowed(bytes) => bytes,
            PixelBytes::Shared(bytes) => bytes,
        }
    }
}

/// When it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Stamped {
    /// As the device or the kernel says.
    pub raw_ns: i64,
    /// On which clock.
    pub clock: ClockId,
    /// Which instant.
    pub kind: StampKind,
    /// When it arrived, on the host's time line.
    pub arrival_ns: i64,
    /// When it was measured, on the host's time line.
    pub mapped_ns: i64,
    /// Bound on the error of that.
    pub uncertainty_ns: i64,
}

/// What a sensor gave, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorCounts {
    /// Measurements that were sent on.
    pub sent: u64,
    /// Those that found no room on the way to the edge.
    pub edge_full: u64,
    /// Pictures that were copied on the way to the edge: their pixels lay in a buffer that the device wanted back at once.
    pub copied: u64,
    /// Those that the recorder left out, which it also declares itself.
    pub not_recorded: u64,
    /// Measurements that the device or the kernel says are missing.
    pub missing: u64,
    /// Measurements that are damaged or incomplete, left out: torn pictures, part of a turn, fixes without a position.
    pub damaged: u64,
    /// Parts of measurements that were left out: returns and objects without room or without a value.
    pub left_out: u64,
    /// Measurements whose stamp cannot be true: zero, or far from the arrival. A picture has the stamp of its arrival then,
    /// anything else is left out.
    pub bad_stamp: u64,
    /// Packets that could not be decoded.
    pub refused: u64,
    /// How often the device went away or fell silent.
    pub lost: u64,
}

/// The ways out, which all sensors share and which are there when every one of them is open.
pub(super) struct Ways {
    pub(super) edge: Option<SyncSender<Item>>,
    pub(super) recorder: Option<Recorder>,
}

/// One sensor's way out.
pub struct Outlet {
    pub(super) name: String,
    pub(super) sensor: SensorId,
    pub(super) clock: HostClock,
    pub(super) sequence: u32,
    pub(super) ways: Arc<OnceLock<Ways>>,
    /// The sensor's channel of the recording, if there is one.
    pub(super) slot: Option<Slot>,
    pub(super) pictures: Option<PictureMemory>,
    pub(super) ending: Arc<AtomicBool>,
    pub(super) tell: Tell,
    /// The sensor's own clock, for those that have one.
    pub(super) own_clock: ClockMapper,
    pub(super) watch: Option<Watch>,
    pub(super) pulse: Pulse,
    pub(super) beat: Beat,
    /// What became of what.
    pub counts: SensorCounts,
}

impl Outlet {
    /// Whether the sensor's thread is to end. To be asked again and again: who does not ask stands still.
    pub fn is_over(&self) -> bool {
        self.beat.beat();
        self.ending.load(Ordering::Relaxed)
    }

    /// The host's time line.
    pub fn clock(&self) -> HostClock {
        self.clock
    }

    /// The memory for pictures that a pipeline reads; none where there is no pipeline.
    pub fn pictures(&self) -> Option<&PictureMemory> {
        self.pictures.as_ref()
    }

    /// Tells of something that happened to the device.
    pub fn tell(&self, words: &str) {
        (self.tell)(&self.name, words);
    }

    /// A stamp of the sensor's own clock on the host's time line. One that cannot be true is counted and none.
    pub fn map(&mut self, raw_ns: i64, clock: ClockId, kind: StampKind, arrival_ns: i64) -> Option<Stamped> {
        let Ok(MappedStamp { mapped_ns, uncertainty_ns, step_ns, .. }) = self.own_clock.observe(raw_ns, arrival_ns)
        else {
            self.counts.bad_stamp += 1;
            return None;
        };
        if let Some(step_ns) = step_ns {
            self.tell(&format!("its clock stepped by {:.3} s", step_ns as f64 * 1e-9));
        }
        Some(Stamped { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns })
    }

    /// How the stamps lie, where somebody asked for it.
    pub(super) fn timing(&self) -> Option<SensorTiming> {
        self.watch.as_ref()?.timing(self.own_clock.report())
    }

    /// Sends a measurement on. Waits for nobody. What comes before every sensor is open is not yet part of the run.
    pub fn send(&mut self, measurement: &Measurement<'_>, stamped: Stamped) {
        if let Some(watch) = &mut self.watch {
            watch.observe(&stamped, self.own_clock.report().is_some());
        }
        let Some(ways) = self.ways.get() else { return };
        let Stamped { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns } = stamped;
        let stamp = Stamp { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns };
        let header = PacketHeader { sensor: self.sensor, sequence: self.sequence, stamp };
        self.sequence = self.sequence.wrapping_add(1);
        self.counts.sent += 1;
        self.pulse.measured();
        let mut shared = None;
        if let Some((recorder, slot)) = ways.recorder.as_ref().zip(self.slot) {
            let message = Recorded::of(measurement, raw_ns, &self.name);
            shared = message.payload();
            let (sequence, log_ns, publish_ns) = (header.sequence, arrival_ns, mapped_ns);
            let offered = recorder.offer(SensorMessage { slot, sequence, log_ns, publish_ns, data: message.data });
            self.counts.not_recorded += u64::from(offered != Offer::Taken);
        }
        if let Some(edge) = &ways.edge {
            let is_copied = matches!(
                measurement,
                Measurement::Pixels { bytes: PixelBytes::Borrowed(_), .. }
                    | Measurement::Mosaic { bytes: PixelBytes::Borrowed(_), .. }
            );
            self.counts.copied += u64::from(is_copied);
            let packet = SensorPacket { header, content: content(measurement, shared) };
            // an edge that has gone wants nothing more
            if let Err(TrySendError::Full(_)) = edge.try_send(Item::Packets(vec![packet])) {
                self.counts.edge_full += 1;
            }
        }
    }
}

/// A measurement as the pipeline has it: just as it would be read from the recording. Bytes that can be kept are, and those that
/// are in the recorder's message already are shared with it.
fn content(measurement: &Measurement<'_>, shared: Option<Bytes>) -> Content {
    let owned = |bytes: &[u8]| shared.clone().unwrap_or_else(|| Bytes::copy_from_slice(bytes));
    let kept = |bytes: &PixelBytes<'_>| match bytes {
        PixelBytes::Shared(bytes) => bytes.clone(),
        PixelBytes::Borrowed(bytes) => owned(bytes).into(),
    };
    match measurement {
        Measurement::Jpeg(bytes) => Content::Picture { encoding: Encoding::Jpeg, bytes: owned(bytes) },
        Measurement::Pixels { format, size_px: [width_px, height_px], stride_bytes, bytes } => {
            let layout = raw_layout(*width_px, *height_px, *format, *stride_bytes);
            Content::Raw { layout, bytes: kept(bytes) }
        }
        Measurement::Mosaic { layout, bytes } => Content::Mosaic { layout: *layout, bytes: kept(bytes) },
        Measurement::Scan(points) => match shared {
            None => Content::Cloud(PackedCloud::of_points(points)),
            Some(data) => Content::Cloud(PackedCloud { data, ..PackedCloud::of_points(&[]) }),
        },
        Measurement::Targets(scan) => Content::Radar(Box::new((*scan).clone())),
        Measurement::Returns(returns) => Content::Radar(Box::new(strongest(returns))),
        Measurement::Echo(echo) => Content::Ultrasonic(*echo),
        Measurement::Imu(sample) => Content::Imu(*sample),
        Measurement::Fix(fix) => Content::Gnss(GnssFix::from(fix)),
        Measurement::Can(frame) => Content::Can(*frame),
    }
}

/// A measurement as the recording has it. The many bytes of a picture or a scan stand last, where they are written once.
struct Recorded {
    data: Bytes,
    payload_bytes: Option<usize>,
}

impl Recorded {
    fn of(measurement: &Measurement<'_>, raw_ns: i64, frame_id: &str) -> Self {
        match measurement {
            Measurement::Jpeg(bytes) => {
                Self::with_payload(&picture_message(Vec::new(), "jpeg", raw_ns, frame_id), 2, bytes)
            }
            Measurement::Pixels { format, size_px, stride_bytes, bytes } => {
                let encoding = format.name().to_owned();
                Self::with_payload(&image(encoding, *size_px, *stride_bytes, raw_ns, frame_id), 6, bytes)
            }
            Measurement::Mosaic { layout, bytes } => {
                let MosaicLayout { width_px, height_px, format, pattern, stride_bytes } = *layout;
                let (size_px, step) = ([width_px, height_px], stride_bytes.unwrap_or(format.row_bytes(width_px)));
                let step = u32::try_from(step).unwrap_or(0);
                Self::with_payload(&image(raw::encoding(format, pattern), size_px, step, raw_ns, frame_id), 6, bytes)
            }
            Measurement::Scan(points) => {
                let packed = PackedCloud::of_points(points);
                Self::with_payload(&cloud_message(&[], raw_ns, frame_id), 6, &packed.data)
            }
            Measurement::Fix(fix) => {
                let fix = LocationFix { timestamp: timestamp(raw_ns), frame_id: frame_id.to_owned(), ..fix.clone() };
                Self::with_payload(&fix, 0, &[])
            }
            Measurement::Targets(scan) => Self::of_record(*scan),
            Measurement::Returns(returns) => Self::of_record(*returns),
            Measurement::Echo(echo) => Self::of_record(echo),
            Measurement::Imu(sample) => Self::of_record(sample),
            Measurement::Can(frame) => Self::of_record(&CanMessage::from(frame)),
        }
    }

    fn of_record(record: &impl Record) -> Self {
        let mut data = Vec::new();
        record.encode(&mut data);
        Recorded { data: data.into(), payload_bytes: None }
    }

    /// A protobuf message and its field of bytes, which a message may have in any order (Protocol Buffers, "Encoding", length
    /// prefix); an empty one is left out.
    fn with_payload(message: &impl Encode, field: u8, bytes: &[u8]) -> Self {
        const LENGTH_DELIMITED: u8 = 2;
        let mut data = Vec::with_capacity(message.encoded_len().unwrap_or(0) + bytes.len() + 16);
        // encoding into memory cannot fail
        let _ = message.encode(&mut data);
        if bytes.is_empty() {
            return Recorded { data: data.into(), payload_bytes: None };
        }
        data.put_u8(field << 3 | LENGTH_DELIMITED);
        let mut length = bytes.len();
        while length > 0x7F {
            data.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        data.put_u8(length as u8);
        data.extend_from_slice(bytes);
        Recorded { data: data.into(), payload_bytes: Some(bytes.len()) }
    }

    /// The bytes of the picture or scan, shared with the message.
    fn payload(&self) -> Option<Bytes> {
        let start = self.data.len().checked_sub(self.payload_bytes?)?;
        Some(self.data.slice(start..))
    }
}

/// The message of pixels without a header, but for the pixels.
fn image(encoding: String, [width, height]: [u32; 2], step: u32, raw_ns: i64, frame_id: &str) -> RawImage {
    let (timestamp, frame_id) = (timestamp(raw_ns), frame_id.to_owned());
    RawImage { timestamp, frame_id, width, height, encoding, step, data: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::Channel;
    use crate::log::packet::{StampInfo, read_packet};
    use crate::log::reader::Message;
    use crate::stages::preprocess::raw::{BayerPattern, RawFormat};
    use foxglove::messages::{CompressedImage, PointCloud};

    /// What a reader of the recording makes of a measurement.
    fn read(channel: Channel, recorded: &Recorded) -> Content {
        let channel = Arc::new(channel);
        let data = &recorded.data;
        let message = Message { channel: &channel, channel_id: 0, sequence: 0, log_ns: 2, publish_ns: 1, data };
        read_packet(&message, SensorId(0), &StampInfo::SYNTHETIC).unwrap().unwrap().content
    }

    #[test]
    fn the_pipeline_gets_what_the_recording_holds_without_another_copy() {
        // longer than one, two and three bytes of a length
        for length in [1, 127, 128, 20_000, 3_000_000] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let jpeg = Measurement::Jpeg(&bytes);
            let recorded = Recorded::of(&jpeg, 5, "front");
            let shared = recorded.payload();
            let Content::Picture { bytes: live, .. } = content(&jpeg, shared) else { panic!("no picture") };
            let channel = Channel::of_foxglove::<CompressedImage>("/front");
            let Content::Picture { bytes: again, encoding } = read(channel, &recorded) else { panic!("no picture") };
            assert_eq!((encoding, &again), (Encoding::Jpeg, &live));
            assert!(recorded.data.as_ptr_range().contains(&live.as_ptr()), "{length} bytes were copied");

            let pixels =
                |bytes| Measurement::Pixels { format: PixelFormat::Mono8, size_px: [8, 2], stride_bytes: 8, bytes };
            let kept = SharedBytes::from(Bytes::from(bytes.clone()));
            let Content::Raw { bytes: live, .. } = content(&pixels(PixelBytes::Shared(kept.clone())), None) else {
                panic!("no pixels")
            };
            assert_eq!((live.as_ptr(), live.len()), (kept.as_ptr(), kept.len()));
            let pixels = pixels(PixelBytes::Borrowed(&bytes));
            let recorded = Recorded::of(&pixels, 5, "front");
            let Content::Raw { layout, bytes: live } = content(&pixels, recorded.payload()) else {
                panic!("no pixels")
            };
            let channel = Channel::of_foxglove::<RawImage>("/front");
            let Content::Raw { layout: same, bytes: again } = read(channel, &recorded) else { panic!("no pixels") };
            assert_eq!((layout, live), (same, again));

            let (format, pattern) = (RawFormat::Raw12Packed, BayerPattern::Gbrg);
            let layout = MosaicLayout { width_px: 8, height_px: 2, format, pattern, stride_bytes: Some(16) };
            let mosaic = Measurement::Mosaic { layout, bytes: PixelBytes::Borrowed(&bytes) };
            let recorded = Recorded::of(&mosaic, 5, "front");
            let Content::Mosaic { bytes: live, .. } = content(&mosaic, recorded.payload()) else { panic!("no mosaic") };
            let channel = Channel::of_foxglove::<RawImage>("/front");
            let Content::Mosaic { layout: same, bytes: again } = read(channel, &recorded) else { panic!("no mosaic") };
            assert_eq!((layout, live), (same, again));
        }
        let points = [Point { x_m: 1.0, ring: 3, ..Point::default() }; 3];
        let scan = Measurement::Scan(&points);
        let recorded = Recorded::of(&scan, 5, "roof");
        let Content::Cloud(again) = read(Channel::of_foxglove::<PointCloud>("/roof"), &recorded) else {
            panic!("no scan")
        };
        for shared in [None, recorded.payload()] {
            let Content::Cloud(live) = content(&scan, shared) else { panic!("no scan") };
            assert_eq!((live.stride, &live.data, &live.fields), (again.stride, &again.data, &again.fields));
        }
    }

    #[test]
    fn a_fix_reads_as_it_was_sent() {
        let velocity = Some(foxglove::messages::Vector3 { x: 3.0, y: 4.0, z: 0.5 });
        let fix = Measurement::Fix(LocationFix {
            latitude: 48.1,
            longitude: 11.5,
            altitude: 500.0,
            velocity,
            ..LocationFix::default()
        });
        let recorded = Recorded::of(&fix, 5, "gnss");
        let Content::Gnss(again) = read(Channel::of_foxglove::<LocationFix>("/fix"), &recorded) else {
            panic!("no fix")
        };
        let Content::Gnss(live) = content(&fix, None) else { panic!("no fix") };
        assert_eq!((live, live.speed_mps), (again, Some(5.0)));
    }
}
