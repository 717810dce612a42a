//! Fuse: what all sensors saw becomes one list of objects in the vehicle frame.
//!
//! Every measurement is filtered at its own stamp. The filter keeps two states: the *base*, behind which nothing can come
//! any more, and the *current* one, which has seen everything so far; between them lie the measurements of the last
//! [`HORIZON_NS`]. One that comes late but inside the horizon is put in its place and all behind it are filtered again
//! from the base, so the result is that of the right order, to the bit. One that comes later still is left out, by record.

pub mod ego;
pub mod filter;
pub mod measure;

use catseye_calibration::rig::{self, Rig, SensorKind};
use catseye_sensors::can::dbc::Dbc;

use crate::log::packet::Content;
use crate::messages::{DropDecision, DropReason, FreeSpace, Health, MAX_SENSORS, MAX_TRACKS, SensorHealth};
use crate::record;
use crate::record::Record;
use crate::runtime::graph::{Fields, NO_GROUP, RestoreError, Stage, StageError, State};
use crate::stages::Tick;
use crate::stages::geometry::CameraGeometry;
use crate::stages::network::undistorted_cameras;
use ego::EgoReader;
use filter::{FilterState, ObjectFilter};
use measure::{ClassPrior, Measured, Measurer, ObjectMeasurement};

/// How far back a late measurement is still filtered.
pub const HORIZON_NS: i64 = 500_000_000;
/// Version of the state's layout.
pub const STATE_VERSION: u32 = 1;
/// For how long after its reference time a world model may be used.
pub const VALID_NS: i64 = 300_000_000;

record! {
    /// One measurement, at its place in time.
    pub struct Measurement {
        /// When it was made.
        pub stamp_ns: i64,
        /// The sensor.
        pub sensor: u16,
        /// The packet.
        pub sequence: u32,
        /// What it is.
        pub kind: u8,
        /// Speed or yaw rate, for those kinds.
        pub value: f64,
        /// Which of several sources of the same quantity counts; higher is better.
        pub priority: u8,
        /// Objects, for that kind.
        pub objects: Vec<ObjectMeasurement>,
    }

    /// The state of the stage.
    pub struct FuseState {
        /// Filtered up to the horizon.
        pub base: FilterState,
        /// Filtered up to the newest measurement.
        pub current: FilterState,
        /// Measurements before this are left out.
        pub horizon_ns: i64,
        /// Measurements between the two, in order.
        pub recent: Vec<Measurement>,
        /// Per sensor: the newest stamp, and how many packets.
        pub sensors: heapless::Vec<SensorMemory, MAX_SENSORS>,
    }

    /// What is remembered of a sensor.
    #[derive(Copy)]
    pub struct SensorMemory {
        /// Newest stamp; 0 before the first.
        pub last_ns: i64,
        /// Packets so far.
        pub packets: u64,
    }
}

/// `Measurement::kind`: forward speed, m/s.
pub const KIND_SPEED: u8 = 0;
/// `Measurement::kind`: yaw rate, rad/s.
pub const KIND_YAW_RATE: u8 = 1;
/// `Measurement::kind`: objects.
pub const KIND_OBJECTS: u8 = 2;

impl Measurement {
    fn key(&self) -> (i64, u16, u32, u8) {
        (self.stamp_ns, self.sensor, self.sequence, self.kind)
    }
}

impl FuseState {
    /// Makes a state that a log has damaged safe to go on from: no number of an object is given again, and no
    /// measurement has more objects than the filter has room for. A sound state stays as it is.
    fn repair(&mut self) {
        self.base.keep_ids();
        self.current.keep_ids();
        for measurement in &mut self.recent {
            measurement.objects.truncate(MAX_TRACKS);
        }
    }
}

/// The filter with its horizon.
pub struct Fusion {
    state: FuseState,
    filter: ObjectFilter,
    /// Buffers of objects that are not in use.
    spare: Vec<Vec<ObjectMeasurement>>,
    /// Whether something was put before what `current` has seen.
    stale: bool,
}

impl Fusion {
    /// Starts with nothing known. `buffers` object measurements may lie inside the horizon before memory is asked for.
    pub fn new(filter: ObjectFilter, sensors: usize, buffers: usize) -> Self {
        let mut state = FuseState::default();
        state.recent.reserve(4096);
        state.sensors.resize_default(sensors.min(MAX_SENSORS)).unwrap_or_default();
        let spare = (0..buffers).map(|_| Vec::with_capacity(MAX_TRACKS)).collect();
        Fusion { state, filter, spare, stale: false }
    }

    /// A buffer for a measurement's objects.
    pub fn buffer(&mut self) -> Vec<ObjectMeasurement> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a measurement, in any order; false when it lies behind the horizon and is left out.
    pub fn add(&mut self, measurement: Measurement) -> bool {
        if measurement.stamp_ns < self.state.horizon_ns {
            recycle(&mut self.spare, measurement.objects);
            return false;
        }
        let key = measurement.key();
        let at = self.state.recent.partition_point(|other| other.key() <= key);
        self.stale |= at < self.state.recent.len();
        self.state.recent.insert(at, measurement);
        if !self.stale {
            self.filter.apply(&mut self.state.current, &self.state.recent[at]);
        }
        true
    }

    /// Filters again what has to be, and moves the base up to the horizon behind `now_ns`.
    pub fn settle(&mut self, now_ns: i64) {
        if self.stale {
            self.state.current.clone_from(&self.state.base);
            for measurement in &self.state.recent {
                self.filter.apply(&mut self.state.current, measurement);
            }
            self.stale = false;
        }
        self.state.horizon_ns = self.state.horizon_ns.max(now_ns.saturating_sub(HORIZON_NS));
        let horizon_ns = self.state.horizon_ns;
        let old = self.state.recent.partition_point(|measurement| measurement.stamp_ns < horizon_ns);
        // The base stops at its last measurement and is not predicted on to the horizon: a prediction in two steps has
        // other bits than one in one step, and a re-filtered run must have those of a run in order.
        for measurement in self.state.recent.drain(..old) {
            self.filter.apply(&mut self.state.base, &measurement);
            recycle(&mut self.spare, measurement.objects);
        }
    }

    /// The newest state.
    pub fn current(&self) -> &FilterState {
        &self.state.current
    }
}

/// Keeps a buffer for later; measurements without objects have none.
fn recycle(spare: &mut Vec<Vec<ObjectMeasurement>>, objects: Vec<ObjectMeasurement>) {
    if objects.capacity() > 0 {
        spare.push(objects);
    }
}

/// The stage.
pub struct Fuse {
    fusion: Fusion,
    measurer: Measurer,
    ego: EgoReader,
    cameras: usize,
    rates_hz: Vec<f64>,
    valid_ns: i64,
}

impl Fuse {
    /// For a rig, with the names of the classes that the networks see, and one table per CAN bus in rig order.
    pub fn new(rig: &Rig, class_names: &[String], dbc: Vec<Dbc>) -> Self {
        let undistorted = undistorted_cameras(rig);
        let cameras =
            rig.cameras.iter().zip(undistorted).map(|(camera, flag)| CameraGeometry::new(camera, flag)).collect();
        let lidars = rig.lidars.iter().map(|lidar| lidar.mounting.vehicle_from_sensor()).collect();
        let priors: Vec<Option<ClassPrior>> = class_names.iter().map(|name| ClassPrior::of(name)).collect();
        let front_m = rig.vehicle.length_m - rig.vehicle.rear_overhang_m;
        let filter = ObjectFilter::new(front_m, rig.vehicle.width_m / 2.0);
        Fuse {
            fusion: Fusion::new(filter, rig.sensors().count(), buffers(rig)),
            measurer: Measurer::new(cameras, lidars, priors),
            ego: EgoReader::new(rig, dbc),
            cameras: rig.cameras.len(),
            rates_hz: rates(rig),
            valid_ns: VALID_NS.max((3e6 * rig.tick.period_ms) as i64),
        }
    }

    fn take_ego(&mut self, tick: &mut Tick) {
        for packet in &tick.packets {
            let header = packet.header;
            if let Some(memory) = self.fusion.state.sensors.get_mut(usize::from(header.sensor.0)) {
                memory.last_ns = memory.last_ns.max(header.stamp.mapped_ns);
                memory.packets = memory.packets.saturating_add(1);
            }
            if !matches!(packet.content, Content::Can(_) | Content::Imu(_) | Content::Gnss(_)) {
                continue;
            }
            let Fuse { fusion, ego, .. } = self;
            ego.read(packet, &mut |kind, value, priority| {
                let measurement = Measurement {
                    stamp_ns: header.stamp.mapped_ns,
                    sensor: header.sensor.0,
                    sequence: header.sequence,
                    kind,
                    value,
                    priority,
                    objects: Vec::new(),
                };
                if !fusion.add(measurement) {
                    tick.late.push(late(tick.id, header.sensor.0, header.sequence, header.stamp.mapped_ns));
                }
            });
        }
    }

    fn take_objects(&mut self, tick: &mut Tick) {
        self.measurer.load_clouds(&tick.lidars);
        for sensor in 0..self.cameras {
            let Some(camera) = tick.cameras.get(sensor).filter(|camera| camera.present) else { continue };
            let found = self.measurer.measure(sensor, camera.stamp_ns, &camera.tracks);
            let mut is_late = false;
            let mut add = |stamp_ns, found: &[Measured]| {
                let mut objects = self.fusion.buffer();
                objects.clear();
                objects.extend(found.iter().map(|found| found.object));
                let (sensor, sequence) = (sensor as u16, camera.sequence);
                let kind = KIND_OBJECTS;
                is_late |= !self.fusion.add(Measurement {
                    stamp_ns,
                    sensor,
                    sequence,
                    kind,
                    objects,
                    ..Measurement::default()
                });
            };
            if found.is_empty() {
                // also a picture of nothing moves the filter on
                add(camera.stamp_ns, found);
            }
            for found in found.chunk_by(|one, next| one.stamp_ns == next.stamp_ns) {
                add(found[0].stamp_ns, found);
            }
            if is_late {
                tick.late.push(late(tick.id, sensor as u16, camera.sequence, camera.stamp_ns));
            }
        }
    }

    fn report(&self, tick: &mut Tick) {
        let Tick { world, cameras, .. } = tick;
        world.tick = tick.id;
        world.reference_ns = tick.reference_ns;
        world.valid_until_ns = tick.reference_ns.saturating_add(self.valid_ns);
        self.fusion.filter.report(self.fusion.current(), tick.reference_ns, world);
        let with_lanes = cameras.iter().find(|camera| camera.present && !camera.seen.lanes.is_empty());
        world.lanes.clear();
        world.lanes.extend(with_lanes.iter().flat_map(|camera| camera.seen.lanes.iter().copied()));
        let with_space = cameras.iter().find(|camera| camera.present && !camera.seen.free_space.range_m.is_empty());
        match with_space {
            Some(camera) => world.free_space.clone_from(&camera.seen.free_space),
            None => world.free_space = FreeSpace::default(),
        }
        world.sensors.clear();
        for (sensor, (memory, rate_hz)) in self.fusion.state.sensors.iter().zip(&self.rates_hz).enumerate() {
            let age_ns = if memory.packets > 0 { tick.reference_ns.saturating_sub(memory.last_ns) } else { 0 };
            let stale = age_ns as f64 * rate_hz > 3e9;
            let state = match memory.packets {
                0 => Health::Silent,
                _ if stale => Health::Stale,
                _ => Health::Good,
            };
            let _ = world.sensors.push(SensorHealth { sensor: sensor as u16, state, age_ns, packets: memory.packets });
        }
    }
}

fn late(tick: u64, sensor: u16, sequence: u32, stamp_ns: i64) -> DropDecision {
    DropDecision { tick, sensor, sequence, stamp_ns, reason: DropReason::LateForFilter }
}

/// Measurements that fall into the horizon, with some to spare: a picture gives one, and one more for every lidar.
fn buffers(rig: &Rig) -> usize {
    let of_camera = |camera: &rig::Camera| (camera.rate_hz * HORIZON_NS as f64 * 1e-9).clamp(1.0, 100.0) as usize + 4;
    rig.cameras.iter().map(of_camera).sum::<usize>() * (1 + rig.lidars.len())
}

/// Rates of all sensors in rig order; a bus has none to hold against it but 10 Hz.
fn rates(rig: &Rig) -> Vec<f64> {
    let of = |kind: SensorKind, name: &str| match kind {
        SensorKind::Camera => rig.cameras.iter().find(|s| s.name == name).map(|s| s.rate_hz),
        SensorKind::Lidar => rig.lidars.iter().find(|s| s.name == name).map(|s| s.rate_hz),
        SensorKind::Can => None,
        _ => {
            let lists = [&rig.radars, &rig.ultrasonics, &rig.imus, &rig.gnss];
            lists.into_iter().flatten().find(|s| s.name == name).map(|s| s.rate_hz)
        }
    };
    rig.sensors().map(|sensor| of(sensor.kind, sensor.name).unwrap_or(10.0)).collect()
}

impl Stage<Tick> for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        tick.late.clear();
        self.take_ego(tick);
        self.take_objects(tick);
        self.fusion.settle(tick.reference_ns);
        self.report(tick);
        Ok(())
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        fields.add_record(NO_GROUP, &tick.world);
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        Some(self)
    }
}

impl State for Fuse {
    fn version(&self) -> u32 {
        STATE_VERSION
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.fusion.state.encode(out);
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), RestoreError> {
        if version != STATE_VERSION {
            return Err(RestoreError::Version { expected: STATE_VERSION, found: version });
        }
        let mut state = FuseState::decode(state)?;
        if state.sensors.len() != self.fusion.state.sensors.len() {
            return Err(RestoreError::Rig { expected: self.fusion.state.sensors.len(), found: state.sensors.len() });
        }
        state.repair();
        self.fusion.state = state;
        self.fusion.stale = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::filter::FusedTrack;
    use super::*;
    use crate::log::packet::{GnssFix, SensorPacket};
    use crate::messages::{BoxPx, CameraTrack, RangeSource, TrackState};
    use catseye_calibration::rig::{Lidar, Mounting};
    use catseye_sensors::cloud::Point;
    use catseye_sensors::packet::{PacketHeader, SensorId, Stamp};

    const MS: i64 = 1_000_000;

    /// A camera (0), a lidar in the vehicle's origin (1) and a receiver (2).
    fn rig() -> Rig {
        let mut rig = Rig::default_camera(960, 540);
        let mounting = Mounting::default();
        let (name, topic, model) = ("top".to_owned(), "/top".to_owned(), String::new());
        rig.lidars.push(Lidar { name, topic, model, calibration: None, rate_hz: 10.0, mounting });
        let (name, topic) = ("gnss".to_owned(), "/gnss".to_owned());
        rig.gnss.push(rig::Sensor { name, topic, rate_hz: 10.0, mounting });
        rig
    }

    fn fuse() -> Fuse {
        Fuse::new(&rig(), &["car".to_owned()], Vec::new())
    }

    fn speed(sequence: u32, stamp_ns: i64, speed_mps: f64) -> SensorPacket {
        let stamp = Stamp::of_arrival(stamp_ns);
        let fix = GnssFix { speed_mps: Some(speed_mps), ..GnssFix::default() };
        SensorPacket { header: PacketHeader { sensor: SensorId(2), sequence, stamp }, content: Content::Gnss(fix) }
    }

    /// A picture of `stamp_ns` with a car in its middle.
    fn picture(stamp_ns: i64) -> Tick {
        let mut tick = Tick::new(1, 1, &[]);
        tick.reference_ns = stamp_ns;
        let camera = &mut tick.cameras[0];
        (camera.present, camera.stamp_ns) = (true, stamp_ns);
        let track = CameraTrack {
            id: 1,
            state: TrackState::Confirmed,
            detected_px: BoxPx { left: 440.0, top: 270.0, right: 520.0, bottom: 330.0 },
            score: 0.9,
            ..CameraTrack::default()
        };
        camera.tracks.tracks.extend([track]);
        tick
    }

    fn restored(state: &FuseState) -> Fuse {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let mut fuse = fuse();
        fuse.restore(STATE_VERSION, &bytes).unwrap();
        fuse
    }

    fn empty() -> FuseState {
        let mut state = FuseState::default();
        state.sensors.extend([SensorMemory::default(); 3]);
        state
    }

    #[test]
    fn what_a_scan_measures_is_filtered_at_its_own_stamp() {
        let mut fuse = fuse();
        let mut tick = picture(1000 * MS);
        tick.packets = vec![speed(0, 940 * MS, 20.0)];
        let lidar = &mut tick.lidars[0];
        (lidar.present, lidar.stamp_ns) = (true, 950 * MS);
        let back = (0..200).map(|i| ((i % 20) as f32 * 0.1 - 0.95, (i / 20) as f32 * 0.1 + 0.4));
        lidar.points.extend(back.map(|(y_m, z_m)| Point { x_m: 20.0, y_m, z_m, ..Point::default() }));
        fuse.run(&mut tick).unwrap();
        let object = tick.world.objects[0];
        assert_eq!(object.source, RangeSource::Lidar);
        assert!((object.position_m[0] - 19.0).abs() < 1e-3, "{:?}", object.position_m);
    }

    #[test]
    fn a_state_at_the_end_of_its_numbers_goes_on() {
        let mut state = empty();
        state.sensors[2].packets = u64::MAX;
        state.base.last_id = u32::MAX;
        state.current.last_id = u32::MAX;
        let mut fuse = restored(&state);
        let mut tick = picture(1000 * MS);
        tick.packets = vec![speed(0, 990 * MS, 20.0)];
        fuse.run(&mut tick).unwrap();
        assert!(tick.world.objects.is_empty());
        assert_eq!(tick.world.sensors[2].packets, u64::MAX);
    }

    #[test]
    fn a_damaged_state_gives_no_number_again_and_stays_bounded() {
        let mut state = empty();
        let track = FusedTrack { id: 7, confirmed: true, seen_ns: 900 * MS, ..FusedTrack::default() };
        state.base.tracks.extend([track]);
        state.current.tracks.extend([track]);
        let objects = vec![ObjectMeasurement::default(); 3 * MAX_TRACKS];
        state.recent.push(Measurement { stamp_ns: 950 * MS, kind: KIND_OBJECTS, objects, ..Measurement::default() });
        let mut fuse = restored(&state);
        assert_eq!(fuse.fusion.state.recent[0].objects.len(), MAX_TRACKS);
        let mut tick = picture(1000 * MS);
        fuse.run(&mut tick).unwrap();
        assert!(tick.world.objects.iter().any(|object| object.id == 8));
    }

    #[test]
    fn a_sound_state_is_restored_as_it_was() {
        let mut fuse = fuse();
        for i in 1..=5i64 {
            let mut tick = picture(100 * i * MS);
            tick.packets = vec![speed(i as u32, 100 * i * MS, 10.0)];
            fuse.run(&mut tick).unwrap();
        }
        assert!(!fuse.fusion.state.current.tracks.is_empty());
        assert_eq!(restored(&fuse.fusion.state).fusion.state, fuse.fusion.state);
    }
}
