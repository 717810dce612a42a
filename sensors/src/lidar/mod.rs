//! Lidars on the wire: one network packet's bytes in, whole scans out.
//!
//! A decoder of one maker ([`velodyne`], [`hesai`], [`ouster`]) reads the packet, places its points in the sensor's frame and dates
//! each by the documented firing sequence; the scan assembler joins what the packets hold and cuts it where the lidar
//! passes a chosen azimuth. Promised: what is missing, late, refused or dropped is counted in [`LidarCounts`], every
//! point's time is within a second of its scan's stamp, and no memory is allocated once the vectors have grown to a
//! scan.

pub mod hesai;
pub mod ouster;
pub mod velodyne;

use crate::cloud::Point;
use crate::packet::{ClockId, Stamp, StampKind};

/// A lidar that stands still, or whose packets come without end at one instant, may not fill the memory.
const MAX_SCAN_NS: i64 = 1_000_000_000;
const MAX_SCAN_POINTS: usize = 1 << 20;
/// At 20 turns a second a lidar turns 144 degrees in that time: beyond half a turn nobody could say how far it came.
const MAX_GAP_NS: i64 = 20_000_000;

/// A packet decoder of one lidar.
pub trait LidarDecoder {
    /// Why a packet is refused.
    type Error;

    /// Takes the payload of one packet that arrived at `arrival_ns` on the host's wall clock.
    ///
    /// Where it completes a scan, the scan is put into `scan`, whose former vector is reused for the next one, and the
    /// answer is true. Otherwise `scan` stays as it is.
    ///
    /// # Errors When the packet is not one of this lidar; it is counted, and the next packet is taken as if it had not
    /// been there.
    fn decode(&mut self, payload: &[u8], arrival_ns: i64, scan: &mut LidarScan) -> Result<bool, Self::Error>;

    /// Puts what came since the last cut into `scan`, at the end of a recording. False if there is nothing.
    fn finish(&mut self, scan: &mut LidarScan) -> bool;
}

/// The points of one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct LidarScan {
    /// The points in the order in which they were sent, offsets from `stamp_ns`.
    pub points: Vec<Point>,
    /// When the first shot was fired, in nanoseconds on `clock`.
    pub stamp_ns: i64,
    /// The clock of `stamp_ns`.
    pub clock: ClockId,
    /// When the packet of the first shot arrived, on the host's clock.
    pub arrival_ns: i64,
    /// Whether it reaches from one cut to the next. The first scan does not, nor does one that ends in a jump of time.
    pub complete: bool,
    /// What else is to say about the packets of this scan.
    pub counts: LidarCounts,
}

impl Default for LidarScan {
    fn default() -> Self {
        LidarScan {
            points: Vec::new(),
            stamp_ns: 0,
            clock: ClockId::Unknown,
            arrival_ns: 0,
            complete: false,
            counts: LidarCounts::default(),
        }
    }
}

impl LidarScan {
    /// The scan's stamp as packets carry it. It names the first shot; nothing is known yet of the run's time line.
    pub const fn stamp(&self) -> Stamp {
        Stamp {
            raw_ns: self.stamp_ns,
            clock: self.clock,
            kind: StampKind::ExposureStart,
            mapped_ns: self.arrival_ns,
            ..Stamp::of_arrival(self.arrival_ns)
        }
    }
}

/// What happened to the packets since the previous scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LidarCounts {
    /// Packets that were decoded. One that holds a cut counts for the scan that it completes.
    pub packets: u32,
    /// Packets that never came, by the gaps in the lidar's time or its sequence numbers.
    pub missing_packets: u32,
    /// Packets that came twice or after a younger one, by their time, and were left out.
    pub late_packets: u32,
    /// Packets that were refused with an error.
    pub refused_packets: u32,
    /// Shots without an echo.
    pub no_return: u32,
    /// Second echoes at the distance of the first, which were left out.
    pub duplicate_returns: u32,
    /// Jumps of the azimuth within a packet, which is then placed by the turn of the blocks before it.
    pub azimuth_jumps: u32,
    /// Gaps or jumps of the lidar's time that are too long to know how far it turned; the scan was cut there.
    pub time_jumps: u32,
    /// Scans that were cut because the lidar did not come round within a second or a million points.
    pub stalls: u32,
}

fn count(counter: &mut u32, more: u32) {
    *counter = counter.saturating_add(more);
}

/// How many packets are missing between two that are `gap_ns` apart and should be `period_ns`.
fn packets_between(gap_ns: i64, period_ns: i64) -> u32 {
    let periods = gap_ns.saturating_add(period_ns / 2).checked_div(period_ns).unwrap_or_default();
    u32::try_from(periods.saturating_sub(1)).unwrap_or_default()
}

/// An angle about the lidar's axis in hundredths of a degree, less than a full turn, as the encoders give it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Azimuth(u16);

impl Azimuth {
    const TURN: u16 = 36_000;
    const RAD_PER_UNIT: f32 = std::f32::consts::PI / 18_000.0;

    /// `None` for a full turn and more.
    pub const fn from_centidegrees(centidegrees: u16) -> Option<Self> {
        if centidegrees < Self::TURN { Some(Azimuth(centidegrees)) } else { None }
    }

    /// In hundredths of a degree.
    pub const fn centidegrees(self) -> u16 {
        self.0
    }

    /// How far it is from `start` to here in the sense of the turn.
    const fn after(self, start: Azimuth) -> u16 {
        if self.0 >= start.0 {
            self.0.wrapping_sub(start.0)
        } else {
            Self::TURN.wrapping_sub(start.0.wrapping_sub(self.0))
        }
    }

    /// The same the shorter way round, negative against the sense of the turn.
    fn step_from(self, before: Azimuth) -> i32 {
        let forward = i32::from(self.after(before));
        if forward > i32::from(Self::TURN / 2) { forward.saturating_sub(i32::from(Self::TURN)) } else { forward }
    }

    /// Some units further.
    fn turned(self, units: u16) -> Self {
        let sum = (u32::from(self.0).saturating_add(u32::from(units))) % u32::from(Self::TURN);
        Azimuth(u16::try_from(sum).unwrap_or_default())
    }
}

/// What came back from one shot, as packets hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    /// In the packet's unit; 0 where nothing came back.
    pub(crate) distance: u16,
    pub(crate) intensity: u8,
}

impl Echo {
    /// Of two bytes of distance, lower byte first, and one of intensity.
    fn from_bytes([low, high, intensity]: [u8; 3]) -> Self {
        Echo { distance: u16::from_le_bytes([low, high]), intensity }
    }
}

/// How a packet follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing: it is the first, or the first after a jump of time.
    Nothing,
    /// A younger one or itself: it has to be left out.
    Younger,
    /// The packet before it, by so many nanoseconds.
    After(i64),
}

/// Joins the points of a turning lidar's packets and cuts them into scans, between two firings, where the lidar passes
/// the cut. The cut goes by the encoder's azimuth, before each laser's own correction, so that a scan is one span of
/// time.
#[derive(Clone, Debug)]
pub(crate) struct ScanAssembler {
    cut: Azimuth,
    clock: ClockId,
    scan: LidarScan,
    turn: Option<Turn>,
    /// Whether the scan in the making began at a cut.
    starts_at_cut: bool,
    last_packet_ns: Option<i64>,
    last_fired_ns: Option<i64>,
    arrival_ns: i64,
    /// Whether this packet has completed a scan already: it can give one only.
    cut_in_packet: bool,
    /// Whether a cut had to wait for the next packet, so that what it begins is not a whole turn.
    cut_is_late: bool,
}

/// Where the lidar is. The steps are added up, so that an encoder that trembles about the cut cuts once.
#[derive(Clone, Copy, Debug)]
struct Turn {
    azimuth: Azimuth,
    since_cut: i32,
}

impl ScanAssembler {
    pub(crate) fn new(cut: Azimuth, clock: ClockId) -> Self {
        ScanAssembler {
            cut,
            clock,
            scan: LidarScan::default(),
            turn: None,
            starts_at_cut: false,
            last_packet_ns: None,
            last_fired_ns: None,
            arrival_ns: 0,
            cut_in_packet: false,
            cut_is_late: false,
        }
    }

    /// Announces a packet whose first shot was fired at `stamp_ns`.
    pub(crate) fn begin_packet(&mut self, stamp_ns: i64, arrival_ns: i64, done: &mut LidarScan) -> Follows {
        self.cut_in_packet = false;
        let since_shot_ns = self.last_fired_ns.map(|last_ns| stamp_ns.saturating_sub(last_ns));
        if since_shot_ns.is_some_and(|since_ns| (-MAX_SCAN_NS..=0).contains(&since_ns)) {
            count(&mut self.scan.counts.late_packets, 1);
            return Follows::Younger;
        }
        let gap_ns = self.last_packet_ns.replace(stamp_ns).map(|last_ns| stamp_ns.saturating_sub(last_ns));
        self.arrival_ns = arrival_ns;
        count(&mut self.scan.counts.packets, 1);
        match gap_ns {
            None => Follows::Nothing,
            Some(gap_ns) if (0..=MAX_GAP_NS).contains(&gap_ns) => Follows::After(gap_ns),
            Some(_) => {
                count(&mut self.scan.counts.time_jumps, 1);
                self.complete(false, done);
                self.turn = None;
                Follows::Nothing
            }
        }
    }

    /// Announces a firing at `stamp_ns` and cuts before it where the lidar has come round.
    pub(crate) fn fire(&mut self, azimuth: Azimuth, stamp_ns: i64, done: &mut LidarScan) {
        let since_cut = match self.turn {
            Some(turn) => turn.since_cut.saturating_add(azimuth.step_from(turn.azimuth)),
            None => i32::from(azimuth.after(self.cut)),
        };
        let is_round = since_cut >= i32::from(Azimuth::TURN);
        let is_stalled =
            stamp_ns.saturating_sub(self.scan.stamp_ns) > MAX_SCAN_NS || self.scan.points.len() >= MAX_SCAN_POINTS;
        let is_first = self.turn.is_none();
        self.last_fired_ns = Some(stamp_ns);
        self.turn = Some(Turn { azimuth, since_cut });
        if is_first {
            self.begin_scan(stamp_ns);
        } else if self.cut_in_packet {
            self.cut_is_late |= is_round;
        } else if is_round {
            self.turn = Some(Turn { azimuth, since_cut: i32::from(azimuth.after(self.cut)) });
            self.complete(!self.cut_is_late, done);
            self.cut_is_late = false;
            self.begin_scan(stamp_ns);
        } else if is_stalled {
            count(&mut self.scan.counts.stalls, 1);
            self.complete(false, done);
            self.begin_scan(stamp_ns);
        }
    }

    /// Adds what one shot of the firing that was announced last brought back: one echo, or in dual mode two in the
    /// order of the packet. `place` gives the point at a distance in the packet's unit.
    pub(crate) fn push_shot(
        &mut self,
        echoes: impl ExactSizeIterator<Item = Echo>,
        stamp_ns: i64,
        place: impl Fn(f32) -> Point,
    ) {
        // A scan is shorter than a second, so that this always fits.
        let offset_ns = i32::try_from(stamp_ns.saturating_sub(self.scan.stamp_ns)).unwrap_or(i32::MAX);
        let first_number = u8::from(echoes.len() > 1);
        let mut first_distance = 0;
        for (echo, return_number) in echoes.zip(first_number..) {
            if echo.distance == 0 {
                count(&mut self.scan.counts.no_return, 1);
            } else if echo.distance == first_distance {
                count(&mut self.scan.counts.duplicate_returns, 1);
            } else {
                first_distance = echo.distance;
                let point = place(f32::from(echo.distance));
                let intensity = f32::from(echo.intensity);
                self.scan.points.push(Point { intensity, offset_ns, return_number, ..point });
            }
        }
    }

    pub(crate) fn counts(&mut self) -> &mut LidarCounts {
        &mut self.scan.counts
    }

    /// Whether the packet that ends here has completed a scan.
    pub(crate) fn end_packet(&mut self) -> bool {
        self.cut_in_packet
    }

    pub(crate) fn finish(&mut self, done: &mut LidarScan) -> bool {
        if self.scan.points.is_empty() && self.scan.counts == LidarCounts::default() {
            return false;
        }
        self.complete(false, done);
        self.turn = None;
        self.last_packet_ns = None;
        self.last_fired_ns = None;
        true
    }

    fn begin_scan(&mut self, stamp_ns: i64) {
        self.scan.stamp_ns = stamp_ns;
        self.scan.arrival_ns = self.arrival_ns;
        self.scan.clock = self.clock;
    }

    fn complete(&mut self, ends_at_cut: bool, done: &mut LidarScan) {
        self.scan.complete = self.starts_at_cut && ends_at_cut;
        self.starts_at_cut = ends_at_cut;
        self.cut_in_packet = true;
        std::mem::swap(&mut self.scan, done);
        self.scan.points.clear();
        self.scan.counts = LidarCounts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros2::LidarPackets;
    use crate::ros2::cdr::CdrReader;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/lidar");

    /// The packets of a recording, each with its arrival.
    pub(super) struct Recorded {
        pub(super) packets: Vec<(i64, Vec<u8>)>,
    }

    /// An assembler that has seen a firing every 10 microseconds, with one point each, and the scans that came of it.
    fn assembled(azimuths: impl IntoIterator<Item = u16>) -> Vec<LidarScan> {
        let mut assembler = ScanAssembler::new(Azimuth(9_000), ClockId::Sensor);
        let (mut done, mut scans) = (LidarScan::default(), Vec::new());
        for (azimuth, stamp_ns) in azimuths.into_iter().zip((0_i64..).step_by(10_000)) {
            assert_ne!(assembler.begin_packet(stamp_ns, 0, &mut done), Follows::Younger);
            assembler.fire(Azimuth(azimuth), stamp_ns, &mut done);
            let echo = Echo { distance: 1, intensity: 0 };
            assembler.push_shot([echo].into_iter(), stamp_ns, |_| Point::default());
            if assembler.end_packet() {
                scans.push(done.clone());
            }
        }
        assembler.finish(&mut done);
        scans.push(done);
        scans
    }

    #[test]
    fn azimuths_go_round() {
        assert_eq!(Azimuth::from_centidegrees(36_000), None);
        assert_eq!((Azimuth(10).after(Azimuth(35_990)), Azimuth(35_990).after(Azimuth(10))), (20, 35_980));
        assert_eq!((Azimuth(10).step_from(Azimuth(35_990)), Azimuth(35_990).step_from(Azimuth(10))), (20, -20));
        assert_eq!(Azimuth(35_999).turned(2), Azimuth(1));
    }

    #[test]
    fn an_encoder_that_trembles_about_the_cut_cuts_once() {
        let azimuths = (0..360_u16).map(|step| step * 100).chain([0, 8_990, 9_005, 8_995, 9_001, 8_999, 9_010, 9_100]);
        let points: Vec<usize> = assembled(azimuths).iter().map(|scan| scan.points.len()).collect();
        assert_eq!(points, [90, 272, 6]);
    }

    #[test]
    fn a_lidar_that_stands_still_gives_a_scan_a_second() {
        let scans = assembled(std::iter::repeat_n(5, 150_000));
        assert_eq!(
            scans.iter().map(|scan| (scan.complete, scan.counts.stalls)).collect::<Vec<_>>(),
            [(false, 1), (false, 0)]
        );
        assert!(scans.iter().flat_map(|scan| &scan.points).all(|point| point.offset_ns <= 1_000_000_000));
    }

    #[test]
    fn nothing_is_allocated_once_the_vectors_have_grown() {
        let mut assembler = ScanAssembler::new(Azimuth(0), ClockId::Sensor);
        let (mut done, mut vectors) = (LidarScan::default(), Vec::new());
        for step in 0..3_600_u16 {
            let stamp_ns = i64::from(step) * 100_000;
            assembler.begin_packet(stamp_ns, 0, &mut done);
            assembler.fire(Azimuth(step % 360 * 100), stamp_ns, &mut done);
            assembler.push_shot([Echo { distance: 1, intensity: 0 }].into_iter(), stamp_ns, |_| Point::default());
            if assembler.end_packet() {
                vectors.push((done.points.as_ptr(), done.points.capacity()));
            }
        }
        // Two vectors take turns.
        assert_eq!(vectors.len(), 9);
        assert!(vectors.iter().zip(&vectors[2..]).all(|(a, b)| a == b));
    }

    /// Reads a rosbag2 recording of lidar packets.
    pub(super) fn recorded(name: &str) -> Option<Recorded> {
        let path = format!("{DATA}/{name}");
        if !std::path::Path::new(&path).exists() {
            eprintln!("skipped: ../shared is absent");
            return None;
        }
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
        let bag = rusqlite::Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).unwrap();
        let kind: String = bag.query_row("SELECT type FROM topics", [], |row| row.get(0)).unwrap();
        let mut rows = bag.prepare("SELECT data FROM messages ORDER BY timestamp").unwrap();
        let messages = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap);
        let mut packets = Vec::new();
        for message in messages {
            let mut reader = CdrReader::new(&message).unwrap();
            let scan = match kind.as_str() {
                "velodyne_msgs/msg/VelodyneScan" => LidarPackets::read_velodyne(&mut reader),
                _ => LidarPackets::read_pandar(&mut reader),
            };
            packets.extend(scan.unwrap().packets.iter().map(|packet| (packet.stamp_ns, packet.data.to_vec())));
        }
        Some(Recorded { packets })
    }

    /// Reads a PCD file.
    pub(super) fn real_cloud(name: &str) -> Option<Vec<Point>> {
        let bytes = std::fs::read(format!("{DATA}/{name}")).ok()?;
        let mut points = Vec::new();
        crate::cloud::read_pcd(&bytes, &mut points).unwrap();
        Some(points)
    }

    /// How far away a point is.
    pub(super) fn range_m(point: &Point) -> f32 {
        (point.x_m * point.x_m + point.y_m * point.y_m + point.z_m * point.z_m).sqrt()
    }

    /// How many degrees of turn lie between two points.
    pub(super) fn turn_deg(a: &Point, b: &Point) -> f32 {
        let cross = a.x_m * b.y_m - a.y_m * b.x_m;
        libm::atan2f(cross, a.x_m * b.x_m + a.y_m * b.y_m).to_degrees().abs()
    }
}
