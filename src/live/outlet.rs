//! Where a sensor's measurements leave its thread: numbered, stamped, to the edge and to the recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use catseye_sensors::can::CanFrame;
use catseye_sensors::clock::{ClockMapper, ClockReport, ClockSettings};
use catseye_sensors::cloud::Point;
use catseye_sensors::packet::{ClockId, PacketHeader, SensorId, Stamp, StampKind};
use catseye_sensors::picture::{Encoding, PixelFormat};
use foxglove::Encode;
use foxglove::bytes::Bytes;
use foxglove::messages::RawImage;

use super::Tell;
use super::clock::HostClock;
use crate::log::packet::{Content, PackedCloud, SensorPacket, cloud_message, picture_message, raw_layout, timestamp};
use crate::log::recorder::Recorder;
use crate::log::recorder::priority::{Offer, SensorMessage, Slot};
use crate::messages::CanMessage;
use crate::realtime::pulse::{Beat, Pulse};
use crate::record::Record;
use crate::source::Item;

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
        bytes: &'a [u8],
    },
    /// A lidar's scan.
    Scan(&'a [Point]),
    /// A CAN frame.
    Can(CanFrame),
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
    /// Those that the recorder left out, which it also declares itself.
    pub not_recorded: u64,
    /// Measurements that the device or the kernel says are missing.
    pub missing: u64,
    /// Measurements that the driver calls damaged, left out.
    pub damaged: u64,
    /// Measurements whose stamp cannot be true: zero, or far from the arrival. A picture has the stamp of its arrival then, a scan
    /// is left out.
    pub bad_stamp: u64,
    /// Packets that could not be decoded.
    pub refused: u64,
    /// How often the device went away.
    pub lost: u64,
}

/// How a sensor's stamps lie against the host's time line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SensorTiming {
    /// The clock of its stamps.
    pub clock: ClockId,
    /// The instant that they name.
    pub kind: StampKind,
    /// Offset, drift and jitter of that clock; none without a stamp that can be true.
    pub report: Option<ClockReport>,
    /// From the measurement, as mapped, to its arrival: in the mean, and at most.
    pub latency_ns: [i64; 2],
}

/// Adds up what [`SensorTiming`] tells.
pub(super) struct Watch {
    mapper: ClockMapper,
    last: Option<(ClockId, StampKind)>,
    count: i64,
    sum_ns: i64,
    most_ns: i64,
}

impl Watch {
    pub(super) fn new() -> Self {
        let settings = ClockSettings { far_ns: 1_000_000_000, ..ClockSettings::default() };
        Watch { mapper: ClockMapper::new(settings), last: None, count: 0, sum_ns: 0, most_ns: i64::MIN }
    }

    fn observe(&mut self, stamped: &Stamped) {
        // what is refused is counted in the report
        let _ = self.mapper.observe(stamped.raw_ns, stamped.arrival_ns);
        let latency_ns = stamped.arrival_ns.saturating_sub(stamped.mapped_ns);
        self.last = Some((stamped.clock, stamped.kind));
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(latency_ns);
        self.most_ns = self.most_ns.max(latency_ns);
    }

    /// None where nothing was measured.
    pub(super) fn timing(&self) -> Option<SensorTiming> {
        let (clock, kind) = self.last?;
        let mean_ns = self.sum_ns.checked_div(self.count).unwrap_or(0);
        Some(SensorTiming { clock, kind, report: self.mapper.report(), latency_ns: [mean_ns, self.most_ns] })
    }
}

/// One sensor's way out.
pub struct Outlet {
    pub(super) name: String,
    pub(super) sensor: SensorId,
    pub(super) clock: HostClock,
    pub(super) sequence: u32,
    pub(super) edge: Option<SyncSender<Item>>,
    pub(super) recorder: Option<(Arc<Recorder>, Slot)>,
    pub(super) ending: Arc<AtomicBool>,
    pub(super) tell: Tell,
    pub(super) watch: Watch,
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

    /// Tells of something that happened to the device.
    pub fn tell(&self, words: &str) {
        (self.tell)(&self.name, words);
    }

    /// Sends a measurement on. Waits for nobody.
    pub fn send(&mut self, measurement: &Measurement<'_>, stamped: Stamped) {
        self.watch.observe(&stamped);
        let Stamped { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns } = stamped;
        let stamp = Stamp { raw_ns, clock, kind, arrival_ns, mapped_ns, uncertainty_ns };
        let header = PacketHeader { sensor: self.sensor, sequence: self.sequence, stamp };
        self.sequence = self.sequence.wrapping_add(1);
        self.counts.sent += 1;
        self.pulse.measured();
        if let Some((recorder, slot)) = &self.recorder {
            let data = message(measurement, raw_ns, &self.name);
            let (sequence, log_ns, publish_ns) = (header.sequence, arrival_ns, mapped_ns);
            let offered = recorder.offer(SensorMessage { slot: *slot, sequence, log_ns, publish_ns, data });
            self.counts.not_recorded += u64::from(offered != Offer::Taken);
        }
        if let Some(edge) = &self.edge {
            let packet = SensorPacket { header, content: content(measurement) };
            // an edge that has gone wants nothing more
            if let Err(TrySendError::Full(_)) = edge.try_send(Item::Packets(vec![packet])) {
                self.counts.edge_full += 1;
            }
        }
    }
}

/// A measurement as the pipeline has it: just as it would be read from the recording.
fn content(measurement: &Measurement<'_>) -> Content {
    match measurement {
        Measurement::Jpeg(bytes) => Content::Picture { encoding: Encoding::Jpeg, bytes: Bytes::copy_from_slice(bytes) },
        Measurement::Pixels { format, size_px: [width_px, height_px], stride_bytes, bytes } => Content::Raw {
            layout: raw_layout(*width_px, *height_px, *format, *stride_bytes),
            bytes: Bytes::copy_from_slice(bytes),
        },
        Measurement::Scan(points) => Content::Cloud(PackedCloud::of_points(points)),
        Measurement::Can(frame) => Content::Can(*frame),
    }
}

/// A measurement as the recording has it.
fn message(measurement: &Measurement<'_>, raw_ns: i64, frame_id: &str) -> Bytes {
    let mut data = Vec::new();
    // encoding into memory cannot fail
    let _ = match measurement {
        Measurement::Jpeg(bytes) => picture_message(bytes.to_vec(), "jpeg", raw_ns, frame_id).encode(&mut data),
        Measurement::Pixels { format, size_px: [width, height], stride_bytes, bytes } => {
            data.reserve(bytes.len() + 256);
            let image = RawImage {
                timestamp: timestamp(raw_ns),
                frame_id: frame_id.to_owned(),
                width: *width,
                height: *height,
                encoding: format.name().to_owned(),
                step: *stride_bytes,
                data: Bytes::copy_from_slice(bytes),
            };
            image.encode(&mut data)
        }
        Measurement::Scan(points) => cloud_message(points, raw_ns, frame_id).encode(&mut data),
        Measurement::Can(frame) => {
            CanMessage::from(frame).encode(&mut data);
            Ok(())
        }
    };
    data.into()
}
