//! The values that cross the pipeline and the log: what was seen, what is believed, what was decided.
//!
//! All are [`record!`](crate::record!)s: plain, fixed in size where they cross a queue, with a versioned schema and
//! digests of their own. Schema rule: fields are only appended, and [`SCHEMA_VERSION`] grows when one is, or when a message
//! takes the place of another.
//!
//! Frames: pixels have the centre of the top-left pixel at (0, 0); metres are in the vehicle frame (ISO 8855: x forward,
//! y left, z up, origin on the ground below the rear axle) at the tick's reference time, unless a name says otherwise.

use crate::{record, record_enum};

/// Version of all schemas below; written into each channel's metadata.
///
/// * 1: a [`StageDigest`] and a [`StageTiming`] for each stage and tick.
/// * 2: one [`TickDigests`] and one [`TickTimings`] a tick, with numbers that [`NoteNames`] explains.
pub const SCHEMA_VERSION: u32 = 2;

/// Most objects that one camera reports in a tick; the strongest stay.
pub const MAX_DETECTIONS: usize = 128;
/// Most tracks per camera, and most objects in the world model.
pub const MAX_TRACKS: usize = 128;
/// Most lane curves per camera and in the world model.
pub const MAX_LANES: usize = 8;
/// Sectors of the free-space fan.
pub const FREE_SPACE_SECTORS: usize = 64;
/// Most sensors whose health the world model carries.
pub const MAX_SENSORS: usize = 64;
/// Most returns of one radar cycle.
pub const MAX_RADAR_RETURNS: usize = 256;
/// Points of a planned path.
pub const PATH_POINTS: usize = 16;

record! {
    /// An axis-aligned box in a picture, in pixels.
    #[derive(Copy)]
    pub struct BoxPx {
        /// Left edge.
        pub left: f32,
        /// Top edge.
        pub top: f32,
        /// Right edge.
        pub right: f32,
        /// Bottom edge.
        pub bottom: f32,
    }

    /// One object in one picture.
    #[derive(Copy)]
    pub struct Detection {
        /// Where it is.
        pub box_px: BoxPx,
        /// How sure the network is, 0 to 1.
        pub score: f32,
        /// Index into the model's class names.
        pub class: u16,
    }

    /// A lane marking on the ground: `y = c0 + c1 x + c2 x^2 + c3 x^3` for x between the two ends.
    #[derive(Copy)]
    pub struct LaneCurve {
        /// Coefficients, metres.
        pub coefficients: [f32; 4],
        /// Nearest x that was seen.
        pub x_min_m: f32,
        /// Farthest x that was seen.
        pub x_max_m: f32,
        /// Root mean square distance of the seen points from the curve.
        pub rms_m: f32,
        /// Points behind the curve.
        pub points: u32,
    }

    /// Drivable distance per direction.
    pub struct FreeSpace {
        /// Azimuth of the middle of the first sector, positive to the left.
        pub first_azimuth_rad: f32,
        /// Angle between neighbouring sectors.
        pub step_rad: f32,
        /// Distance from the vehicle's origin to the end of the drivable area per sector; 0 where not seen, no sectors when there is no mask.
        pub range_m: heapless::Vec<f32, FREE_SPACE_SECTORS>,
    }

    /// What the networks saw in one camera's picture.
    pub struct CameraDetections {
        /// The camera.
        pub sensor: u16,
        /// Whether the camera had a picture in this tick.
        pub present: bool,
        /// Stamp of the picture in the common time base.
        pub stamp_ns: i64,
        /// Objects, strongest first.
        pub objects: heapless::Vec<Detection, MAX_DETECTIONS>,
        /// Lane markings, left to right.
        pub lanes: heapless::Vec<LaneCurve, MAX_LANES>,
        /// Drivable area.
        pub free_space: FreeSpace,
    }

    /// One object followed through one camera's pictures.
    #[derive(Copy)]
    pub struct CameraTrack {
        /// Number of the track, unique per camera and run, never reused.
        pub id: u32,
        /// Class index.
        pub class: u16,
        /// Where the track stands in its life.
        pub state: TrackState,
        /// The filtered box.
        pub box_px: BoxPx,
        /// The box that was detected in this tick; all zero when the track coasts.
        pub detected_px: BoxPx,
        /// Score of the last detection.
        pub score: f32,
        /// Ticks with a detection.
        pub hits: u32,
        /// Ticks since the last detection; 0 when detected now.
        pub misses: u32,
        /// Ticks since the track began.
        pub age_ticks: u32,
    }

    /// All tracks of one camera.
    pub struct CameraTracks {
        /// The camera.
        pub sensor: u16,
        /// Stamp of the picture.
        pub stamp_ns: i64,
        /// Tracks by number.
        pub tracks: heapless::Vec<CameraTrack, MAX_TRACKS>,
    }

    /// One object around the vehicle.
    #[derive(Copy)]
    pub struct Object {
        /// Number of the object, unique per run, never reused.
        pub id: u32,
        /// Class index.
        pub class: u16,
        /// Where the track stands in its life.
        pub state: TrackState,
        /// What the last position came from.
        pub source: RangeSource,
        /// Middle of the side that faces the sensor, x and y.
        pub position_m: [f64; 2],
        /// Velocity over ground when ego motion is known, else relative to the vehicle.
        pub velocity_mps: [f64; 2],
        /// Upper triangle of the covariance of (x, y, vx, vy), row by row.
        pub covariance: [f64; 10],
        /// Length, width, height.
        pub extent_m: [f32; 3],
        /// Score of the last detection.
        pub score: f32,
        /// Time since the last measurement.
        pub age_ns: i64,
        /// Measurements so far.
        pub hits: u32,
        /// Time until the gap closes at the present closing speed; infinite when it does not, or when the object is not in
        /// the vehicle's width.
        pub time_to_collision_s: f32,
        /// The camera that saw it last.
        pub sensor: u16,
        /// Its track number in that camera.
        pub camera_track: u32,
    }

    /// How the vehicle itself moves.
    #[derive(Copy)]
    pub struct EgoMotion {
        /// Whether any sensor told.
        pub known: bool,
        /// Forward speed.
        pub speed_mps: f64,
        /// Yaw rate, positive to the left.
        pub yaw_rate_radps: f64,
        /// Forward acceleration.
        pub acceleration_mps2: f64,
        /// Age of the newest measurement behind this.
        pub age_ns: i64,
        /// Pose in the odometry frame, which starts at the first tick: x, y, yaw.
        pub odometry: [f64; 3],
    }

    /// How one sensor is doing.
    #[derive(Copy)]
    pub struct SensorHealth {
        /// The sensor.
        pub sensor: u16,
        /// Its state.
        pub state: Health,
        /// Time since its last packet.
        pub age_ns: i64,
        /// Packets that reached a tick so far.
        pub packets: u64,
    }

    /// What a planner may rely on.
    pub struct WorldModel {
        /// The tick it was made from.
        pub tick: u64,
        /// Time that positions refer to.
        pub reference_ns: i64,
        /// Until when it may be used.
        pub valid_until_ns: i64,
        /// Vehicle motion.
        pub ego: EgoMotion,
        /// Objects by number.
        pub objects: heapless::Vec<Object, MAX_TRACKS>,
        /// Lane markings, left to right.
        pub lanes: heapless::Vec<LaneCurve, MAX_LANES>,
        /// Drivable area.
        pub free_space: FreeSpace,
        /// Sensors in rig order.
        pub sensors: heapless::Vec<SensorHealth, MAX_SENSORS>,
    }

    /// What the planner stub wants.
    pub struct Plan {
        /// The tick it answers.
        pub tick: u64,
        /// Time it refers to.
        pub reference_ns: i64,
        /// Why.
        pub reason: PlanReason,
        /// Speed to reach.
        pub target_speed_mps: f32,
        /// Acceleration to apply now.
        pub acceleration_mps2: f32,
        /// The lead object; 0 when there is none.
        pub lead_id: u32,
        /// Gap to the lead, bumper to bumper; infinite when there is none.
        pub lead_gap_m: f32,
        /// Closing speed to the lead, positive when closing.
        pub closing_mps: f32,
        /// Time to collision of the lead, from its gap and closing speed; infinite when there is no lead or the gap
        /// does not close.
        pub time_to_collision_s: f32,
        /// Points to drive through, x and y alternating.
        pub path_m: heapless::Vec<f32, { 2 * PATH_POINTS }>,
    }

    /// A run of consecutive packets of one sensor.
    #[derive(Copy)]
    pub struct PacketRun {
        /// The sensor.
        pub sensor: u16,
        /// Sequence number of the first.
        pub first_sequence: u32,
        /// How many.
        pub count: u32,
    }

    /// Decision: a tick was admitted, made of these packets.
    pub struct TickDecision {
        /// Number of the tick.
        pub tick: u64,
        /// Its reference time.
        pub reference_ns: i64,
        /// Whether a camera's picture was missing when the tick closed.
        pub partial: bool,
        /// Packets, in total order (stamp, sensor, sequence) once expanded.
        pub runs: Vec<PacketRun>,
    }

    /// Decision: a packet was left out.
    #[derive(Copy)]
    pub struct DropDecision {
        /// The next tick to be admitted when this was decided.
        pub tick: u64,
        /// The sensor.
        pub sensor: u16,
        /// The packet.
        pub sequence: u32,
        /// Its mapped stamp.
        pub stamp_ns: i64,
        /// Why.
        pub reason: DropReason,
    }

    /// Decision: a stage failed on a tick and gave an empty result.
    pub struct FaultDecision {
        /// The tick.
        pub tick: u64,
        /// The stage.
        pub stage: String,
        /// What it said.
        pub message: String,
    }

    /// Decision: the networks of a tick did not run where the run's header says. Written before the tick.
    #[derive(Copy)]
    pub struct NetworksDecision {
        /// The tick.
        pub tick: u64,
        /// Where they ran.
        pub place: NetworksPlace,
    }

    /// One field's digest.
    pub struct FieldDigest {
        /// The field, as `front.objects`.
        pub field: String,
        /// Its digest.
        pub digest: u64,
    }

    /// Digests of what one stage gave for one tick.
    pub struct StageDigest {
        /// The tick.
        pub tick: u64,
        /// The stage.
        pub stage: String,
        /// Whether the bits hold on every machine, or for this backend and device only.
        pub level: Level,
        /// Fields in declaration order.
        pub fields: Vec<FieldDigest>,
    }

    /// A stage, by its position in [`NoteNames`].
    pub struct StageName {
        /// The stage.
        pub stage: String,
        /// Whether its bits hold on every machine, or for this backend and device only.
        pub level: Level,
    }

    /// A digested field, by its position in [`NoteNames`].
    pub struct FieldName {
        /// Position of the stage.
        pub stage: u8,
        /// The field, as `front.objects`.
        pub field: String,
    }

    /// What the numbers in [`TickDigests`] and [`TickTimings`] stand for. Comes before the first tick that uses a number, and
    /// again, whole, when a field is added.
    pub struct NoteNames {
        /// Stages in running order.
        pub stages: Vec<StageName>,
        /// Fields in order of their first digest.
        pub fields: Vec<FieldName>,
    }

    /// Digests of what all stages gave for one tick.
    pub struct TickDigests {
        /// The tick.
        pub tick: u64,
        /// Fields, as positions in [`NoteNames`].
        pub fields: Vec<u16>,
        /// The digest of each.
        pub digests: Vec<u64>,
    }

    /// When the stages worked on one tick. Never digested.
    pub struct TickTimings {
        /// The tick.
        pub tick: u64,
        /// Stages, as positions in [`NoteNames`], in running order.
        pub stages: Vec<u8>,
        /// The worker thread of each.
        pub workers: Vec<u16>,
        /// Start of each, since the run began.
        pub start_ns: Vec<i64>,
        /// End of each, since the run began.
        pub end_ns: Vec<i64>,
    }

    /// A stage's state after a tick.
    pub struct StateSnapshot {
        /// The tick after which the state was taken.
        pub tick: u64,
        /// The stage.
        pub stage: String,
        /// Version of the state's layout.
        pub version: u32,
        /// The state.
        pub state: Vec<u8>,
    }

    /// When one stage worked on one tick. Never digested.
    pub struct StageTiming {
        /// The tick.
        pub tick: u64,
        /// The stage.
        pub stage: String,
        /// The worker thread.
        pub worker: u16,
        /// Start, since the run began.
        pub start_ns: i64,
        /// End, since the run began.
        pub end_ns: i64,
    }

    /// A tick or a stage took longer than its budget. Never digested, and no decision: it changed nothing.
    pub struct DeadlineMiss {
        /// The tick.
        pub tick: u64,
        /// The stage; empty for the tick as a whole, from its admission to the end of its last stage.
        pub stage: String,
        /// How long it took.
        pub took_ns: i64,
        /// How long it might have.
        pub budget_ns: i64,
    }

    /// One CAN frame.
    pub struct CanMessage {
        /// Bus number.
        pub bus: u8,
        /// Identifier, 11 or 29 bits.
        pub id: u32,
        /// Whether the identifier has 29 bits.
        pub extended: bool,
        /// Whether it is a CAN FD frame.
        pub fd: bool,
        /// Payload.
        pub data: heapless::Vec<u8, 64>,
    }

    /// One sample of an inertial unit, in the sensor's frame.
    #[derive(Copy)]
    pub struct ImuSample {
        /// Angular velocity about x, y, z.
        pub angular_velocity_radps: [f64; 3],
        /// Specific force along x, y, z.
        pub acceleration_mps2: [f64; 3],
    }

    /// One target of a radar, in the sensor's frame.
    #[derive(Copy)]
    pub struct RadarTarget {
        /// The sensor's number for it.
        pub id: u16,
        /// Distance ahead.
        pub x_m: f32,
        /// Distance to the left.
        pub y_m: f32,
        /// Relative speed along the line of sight, positive when it moves away.
        pub range_rate_mps: f32,
        /// Whether the sensor began a new track with it.
        pub is_new: bool,
    }

    /// What a radar saw in one cycle.
    pub struct RadarScan {
        /// Targets, in the sensor's order.
        pub targets: heapless::Vec<RadarTarget, 64>,
    }

    /// One return of a radar, as measured, in the sensor's frame.
    #[derive(Copy)]
    pub struct RadarReturn {
        /// Distance.
        pub range_m: f32,
        /// Direction from the sensor's axis, positive to the left.
        pub azimuth_rad: f32,
        /// Relative speed along the line of sight, positive when it moves away.
        pub range_rate_mps: f32,
        /// Radar cross-section, decibels above one square metre.
        pub rcs_dbsm: f32,
    }

    /// What a radar that does not track measured in one cycle.
    pub struct RadarReturns {
        /// Returns, nearest first.
        pub returns: heapless::Vec<RadarReturn, MAX_RADAR_RETURNS>,
    }

    /// One echo of an ultrasonic sensor.
    #[derive(Copy)]
    pub struct UltrasonicEcho {
        /// Distance of the nearest thing in the sensor's cone; infinite when there is none within its reach.
        pub range_m: f32,
        /// How strong the echo is, 0 to 1.
        pub confidence: f32,
    }

    /// What became of one sensor's packets. `produced = consumed + dropped + pending` holds, or the run was wrong.
    pub struct Account {
        /// The sensor.
        pub sensor: u16,
        /// Its name.
        pub name: String,
        /// Packets read.
        pub produced: u64,
        /// Packets that reached a tick.
        pub consumed: u64,
        /// Packets left out by decision.
        pub dropped: u64,
        /// Packets read but in no tick when the run ended.
        pub pending: u64,
    }
}

record_enum! {
    /// Where a track stands in its life.
    pub enum TrackState {
        /// Seen, not yet believed.
        #[default]
        Tentative = 0 => "tentative",
        /// Believed.
        Confirmed = 1 => "confirmed",
        /// Believed, but not seen now.
        Coasting = 2 => "coasting",
    }

    /// What an object's distance came from.
    pub enum RangeSource {
        /// The picture: where its box meets the ground, and how large it looks.
        #[default]
        Camera = 0 => "camera",
        /// Lidar points in its box.
        Lidar = 1 => "lidar",
        /// A radar track.
        Radar = 2 => "radar",
    }

    /// How a sensor is doing.
    pub enum Health {
        /// No packet yet.
        #[default]
        Silent = 0 => "silent",
        /// Packets come at the rig's rate.
        Good = 1 => "good",
        /// Its last packet is older than three periods.
        Stale = 2 => "stale",
    }

    /// Why the planner wants what it wants.
    pub enum PlanReason {
        /// Nothing ahead: the set speed.
        #[default]
        Cruise = 0 => "cruise",
        /// A slower object ahead: its speed and a time gap.
        Follow = 1 => "follow",
        /// Too close or closing too fast.
        Brake = 2 => "brake",
        /// Time to collision is below the limit.
        EmergencyBrake = 3 => "emergency brake",
        /// The world model is too old to rely on. For planners of one's own: the stub never says so, since it answers
        /// in the tick that the model is made in.
        NoWorld = 4 => "no valid world model",
    }

    /// Why a packet was left out.
    pub enum DropReason {
        /// No slot was free when its tick was due.
        #[default]
        Overload = 0 => "overload",
        /// It came after its tick had closed.
        Late = 1 => "late",
        /// Its stamp is not after the sensor's last one.
        Backward = 2 => "backward stamp",
        /// Its stamp equals the sensor's last one.
        Duplicate = 3 => "duplicate stamp",
        /// Its stamp is zero or negative.
        ZeroStamp = 4 => "zero stamp",
        /// Its stamp is far after its arrival.
        FarFuture = 5 => "stamp in the far future",
        /// Another packet of the camera fits the tick better.
        Superseded = 6 => "superseded",
        /// The tick had no room for more packets of its kind.
        NoRoom = 7 => "no room in the tick",
        /// It reached its tick, but lay behind the horizon of the filter. The packet itself counts as consumed.
        LateForFilter = 8 => "late for the filter",
    }

    /// Where the networks of a tick ran.
    pub enum NetworksPlace {
        /// Where the run's header says.
        #[default]
        Configured = 0 => "configured",
        /// Nowhere: the device failed, and nothing was seen.
        Nowhere = 1 => "nowhere",
        /// On the CPU, since the device had failed.
        Cpu = 2 => "cpu",
    }

    /// How far a stage's bits reach.
    pub enum Level {
        /// The same on every machine.
        #[default]
        Exact = 0 => "exact",
        /// The same for one backend, version, thread count and device.
        PerEngine = 1 => "per engine",
    }
}

impl BoxPx {
    /// Width, at least 0.
    pub fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    /// Height, at least 0.
    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Intersection over union with another box, 0 to 1; 0 when either is empty.
    pub fn iou(&self, other: &BoxPx) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if !(width > 0.0 && height > 0.0) {
            return 0.0;
        }
        let inside = width * height;
        inside / (self.area() + other.area() - inside)
    }

    /// Whether all edges are finite and the box is not empty.
    pub fn is_sound(&self) -> bool {
        [self.left, self.top, self.right, self.bottom].iter().all(|edge| edge.is_finite())
            && self.right > self.left
            && self.bottom > self.top
    }
}

impl LaneCurve {
    /// Lateral position at a distance ahead.
    pub fn y_at(&self, x_m: f32) -> f32 {
        let [c0, c1, c2, c3] = self.coefficients;
        c0 + x_m * (c1 + x_m * (c2 + x_m * c3))
    }
}
