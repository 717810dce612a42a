//! Columns of packets into frames.

use super::metadata::OusterMetadata;
use super::packet::{LidarPacket, OusterPacketError, PacketColumn, PacketLayout, PixelLayout, ReturnLayout, Run};
use std::mem;

/// A packet from this many frames ago is late; from farther back, the sensor has started its count anew.
const LATE_FRAMES: u16 = 8;

/// What came at one measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OusterColumn {
    /// When it was measured, on the clock for which the sensor is configured; 0 if not valid.
    pub stamp_ns: u64,
    /// The number of the measurement in the turn; 0 if not valid.
    pub measurement: u16,
    /// The sensor's word on it, of which bit 0 says that it is valid; 0 if not valid.
    pub status: u32,
    /// Whether it came, valid or not.
    pub arrived: bool,
}

impl OusterColumn {
    /// Whether its pixels mean something.
    pub fn is_valid(&self) -> bool {
        self.status != 0
    }
}

/// Images of one return, row by row: a row is a beam, a column a measurement, so that pixels above each other are
/// staggered. 0 where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OusterReturn {
    /// Distance from the lidar's origin, in millimetres.
    pub range_mm: Vec<u32>,
    /// Calibrated reflectivity: up to 100 of diffuse things in percent, above that of retroreflectors.
    pub reflectivity: Vec<u8>,
    /// Photons of the return; empty if the profile has none.
    pub signal: Vec<u16>,
    /// Flags of the return, as the sensor sends them.
    pub flags: Vec<u8>,
}

/// One turn of the lidar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OusterFrame {
    /// The sensor's number of it, which wraps.
    pub frame_id: u16,
    /// The earliest stamp of its valid columns, 0 if there are none.
    pub stamp_ns: u64,
    /// Measurements in a turn.
    pub columns: Vec<OusterColumn>,
    /// The strongest return, and the second strongest in the dual profile, else empty.
    pub returns: [OusterReturn; 2],
    /// Photons of the sunlight, staggered as the returns are.
    pub near_ir: Vec<u16>,
    /// Columns of the sensor's window that did not come.
    pub missing_columns: usize,
    /// Columns that came, but which the sensor marks as not valid.
    pub invalid_columns: usize,
}

/// What became of all packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OusterCounts {
    /// Packets that were taken.
    pub packets: u64,
    /// Frames that were given out.
    pub frames: u64,
    /// Datagrams that are not packets of this sensor.
    pub refused_packets: u64,
    /// Packets whose frame had been given out before.
    pub late_packets: u64,
    /// Columns that came again; the first stands.
    pub duplicate_columns: u64,
    /// Columns with a number that the turn does not have.
    pub stray_columns: u64,
    /// Columns of the sensor's window that did not come, in all frames.
    pub missing_columns: u64,
}

/// What tells frames apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameKey {
    id: u16,
    initialization: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Late,
    Current,
    New,
}

/// Decoder of lidar packets.
#[derive(Debug)]
pub struct OusterDecoder {
    metadata: OusterMetadata,
    layout: PacketLayout,
    /// Columns that make a frame complete: whole packets that the sensor's window touches.
    expected_columns: usize,
    building: OusterFrame,
    /// Columns of the packet at hand.
    run: Run,
    arrived_columns: usize,
    /// The frame that is being built.
    current: Option<FrameKey>,
    /// The frame that was given out last.
    last: Option<FrameKey>,
    counts: OusterCounts,
}

impl OusterDecoder {
    /// For the packets of one sensor.
    pub fn new(metadata: OusterMetadata) -> Self {
        let size = metadata.columns_per_packet;
        let packets = (0..metadata.columns).step_by(size);
        let sent = packets.filter(|first| (*first..first + size).any(|column| metadata.window_has(column))).count();
        Self {
            layout: PacketLayout::new(&metadata),
            run: Run::new(metadata.rows, metadata.profile.pixel()),
            expected_columns: sent * size,
            metadata,
            building: OusterFrame::default(),
            arrived_columns: 0,
            current: None,
            last: None,
            counts: OusterCounts::default(),
        }
    }

    /// Takes a packet. Where it completes a frame, or begins the next, the frame is put into `frame`, whose buffers are
    /// used for what follows, and the answer is true. Otherwise `frame` stays as it is.
    ///
    /// # Errors
    /// If the datagram is not a lidar packet of this sensor; it is counted and changes nothing else.
    pub fn decode(&mut self, payload: &[u8], frame: &mut OusterFrame) -> Result<bool, OusterPacketError> {
        let packet = match self.layout.parse(payload) {
            Ok(packet) => packet,
            Err(error) => {
                count(&mut self.counts.refused_packets);
                return Err(error);
            }
        };
        count(&mut self.counts.packets);
        let key = FrameKey { id: packet.frame_id, initialization: packet.initialization };
        let gave_one = match self.age(key) {
            Age::Late => {
                count(&mut self.counts.late_packets);
                return Ok(false);
            }
            Age::Current => false,
            Age::New => {
                let gave_one = self.finish(frame);
                self.begin(key);
                gave_one
            }
        };
        self.put(&packet);
        // Of two frames at once the second waits for the next packet.
        Ok(gave_one || (self.arrived_columns >= self.expected_columns && self.finish(frame)))
    }

    /// Gives out what came of the last frame, at the end of a recording. False if there is nothing.
    pub fn finish(&mut self, frame: &mut OusterFrame) -> bool {
        let Some(key) = self.current.take() else { return false };
        let columns = self.building.columns.iter();
        let missing =
            columns.clone().enumerate().filter(|(at, column)| !column.arrived && self.metadata.window_has(*at));
        self.building.missing_columns = missing.count();
        self.building.invalid_columns = columns.clone().filter(|column| column.arrived && !column.is_valid()).count();
        let stamps_ns = columns.filter(|column| column.is_valid()).map(|column| column.stamp_ns);
        self.building.stamp_ns = stamps_ns.min().unwrap_or(0);
        self.building.empty_invalid();
        count(&mut self.counts.frames);
        let missing = self.building.missing_columns as u64;
        self.counts.missing_columns = self.counts.missing_columns.saturating_add(missing);
        self.last = Some(key);
        mem::swap(&mut self.building, frame);
        true
    }

    /// Counts so far.
    pub fn counts(&self) -> OusterCounts {
        self.counts
    }

    fn age(&self, key: FrameKey) -> Age {
        if self.current == Some(key) {
            return Age::Current;
        }
        match self.current.or(self.last) {
            Some(known) if known.initialization == key.initialization => {
                let frames_ago = known.id.wrapping_sub(key.id);
                if frames_ago < LATE_FRAMES { Age::Late } else { Age::New }
            }
            _ => Age::New,
        }
    }

    fn begin(&mut self, key: FrameKey) {
        self.current = Some(key);
        self.arrived_columns = 0;
        self.building.begin(key.id, self.metadata.rows, self.metadata.columns, self.metadata.profile.pixel());
    }

    fn put(&mut self, packet: &LidarPacket) {
        let pixel = self.metadata.profile.pixel();
        self.run.clear();
        for column in packet.columns() {
            match self.building.place(&column) {
                Place::Pixels(at) => {
                    self.arrived_columns += 1;
                    if !self.run.takes(at, &column) {
                        self.building.put(&self.run, pixel);
                        self.run.clear();
                        self.run.takes(at, &column);
                    }
                }
                Place::Empty => self.arrived_columns += 1,
                Place::Duplicate => count(&mut self.counts.duplicate_columns),
                Place::Stray => count(&mut self.counts.stray_columns),
            }
        }
        self.building.put(&self.run, pixel);
    }
}

/// Where a column goes.
enum Place {
    /// Its pixels go into the images.
    Pixels(usize),
    /// It is not valid.
    Empty,
    Duplicate,
    Stray,
}

impl OusterFrame {
    fn begin(&mut self, frame_id: u16, rows: usize, columns: usize, pixel: &PixelLayout) {
        self.frame_id = frame_id;
        self.columns.clear();
        self.columns.resize(columns, OusterColumn::default());
        self.near_ir.resize(rows * columns, 0);
        let mut layouts = pixel.returns.iter();
        for images in &mut self.returns {
            images.begin(rows * columns, layouts.next());
        }
    }

    /// Notes that a column has come.
    fn place(&mut self, column: &PacketColumn) -> Place {
        let at = usize::from(column.measurement);
        match self.columns.get_mut(at) {
            None => Place::Stray,
            Some(place) if place.arrived => Place::Duplicate,
            Some(place) if column.is_valid() => {
                let PacketColumn { stamp_ns, measurement, status, .. } = *column;
                *place = OusterColumn { stamp_ns, measurement, status, arrived: true };
                Place::Pixels(at)
            }
            Some(place) => {
                place.arrived = true;
                Place::Empty
            }
        }
    }

    fn put(&mut self, run: &Run, pixel: &PixelLayout) {
        let width = self.columns.len();
        run.write((pixel, pixel.near_ir), &mut self.near_ir, width, |value| value as u16);
        for (images, layout) in self.returns.iter_mut().zip(pixel.returns) {
            images.put(run, width, pixel, layout);
        }
    }

    /// Empties the columns that hold nothing: what is in the images before a frame is begun is from an earlier one.
    fn empty_invalid(&mut self) {
        let width = self.columns.len();
        for (at, _) in self.columns.iter().enumerate().filter(|(_, column)| !column.is_valid()) {
            self.near_ir.iter_mut().skip(at).step_by(width).for_each(|value| *value = 0);
            for images in &mut self.returns {
                images.range_mm.iter_mut().skip(at).step_by(width).for_each(|value| *value = 0);
                images.reflectivity.iter_mut().skip(at).step_by(width).for_each(|value| *value = 0);
                images.signal.iter_mut().skip(at).step_by(width).for_each(|value| *value = 0);
                images.flags.iter_mut().skip(at).step_by(width).for_each(|value| *value = 0);
            }
        }
    }
}

impl OusterReturn {
    fn begin(&mut self, pixels: usize, layout: Option<&ReturnLayout>) {
        let used = if layout.is_some() { pixels } else { 0 };
        let with_signal = if layout.is_some_and(|layout| layout.signal.is_some()) { pixels } else { 0 };
        self.range_mm.resize(used, 0);
        self.reflectivity.resize(used, 0);
        self.signal.resize(with_signal, 0);
        self.flags.resize(used, 0);
    }

    fn put(&mut self, run: &Run, width: usize, pixel: &PixelLayout, layout: &ReturnLayout) {
        run.write((pixel, layout.range_mm), &mut self.range_mm, width, |value| value);
        run.write((pixel, layout.reflectivity), &mut self.reflectivity, width, |value| value as u8);
        run.write((pixel, layout.flags), &mut self.flags, width, |value| value as u8);
        if let Some(signal) = layout.signal {
            run.write((pixel, signal), &mut self.signal, width, |value| value as u16);
        }
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
