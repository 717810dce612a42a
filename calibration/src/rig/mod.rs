//! The rig: one vehicle, its sensors with their calibration, and the models that read them.
//!
//! A rig comes from a TOML file written by a person or by calibration ([`Rig::load`]), or is made up for a video of
//! which nothing is known ([`Rig::default_camera`]). A loaded rig was checked as a whole: whatever reads it may rely on
//! names being unique, references being met and numbers being sensible.

mod error;
mod load;
mod realtime;
mod save;
mod source;

pub use error::{RigError, RigProblem};
pub use realtime::{Deadlines, Realtime, ThreadClass};
pub use source::{Exporter, ImuQuantity, RadarList, Source, Udp, UltrasonicSignals};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::camera::{BrownConrady, CameraModel};
use crate::pose::Pose;

/// The newest version of the rig file's schema, and the one that is written.
pub const SCHEMA: u32 = 1;

/// Most sensors a rig may have: a sensor's number fits in 16 bits, with the last one left over to mean none.
pub const MAX_SENSORS: usize = 65_535;

/// Most cameras a rig may have.
pub const MAX_CAMERAS: usize = 32;

/// The rig file of NVIDIA DRIVE Hyperion 8.1, with nominal design values.
pub const HYPERION_8_1: &str = include_str!("../../rigs/hyperion-8.1.toml");

/// The rig file of the simulator's car: one sensor of each kind, small enough to simulate in real time.
pub const SIM_CAR: &str = include_str!("../../rigs/sim-car.toml");

/// The DBC file that [`SIM_CAR`] names, which lies beside it.
pub const SIM_CAR_DBC: &str = include_str!("../../rigs/sim_car.dbc");

/// One vehicle: sensors, calibration and models.
#[derive(Clone, Debug, PartialEq)]
pub struct Rig {
    /// Name of the rig.
    pub name: String,
    /// Folder of the rig file, which paths in the rig are relative to. Not part of the file.
    pub directory: PathBuf,
    /// Dimensions of the vehicle.
    pub vehicle: Vehicle,
    /// When a tick starts and how long it waits.
    pub tick: Tick,
    /// Cameras, in the order of the file.
    pub cameras: Vec<Camera>,
    /// Lidars, in the order of the file.
    pub lidars: Vec<Lidar>,
    /// Radars, in the order of the file.
    pub radars: Vec<Sensor>,
    /// Ultrasonic sensors, in the order of the file.
    pub ultrasonics: Vec<Sensor>,
    /// Inertial measurement units, in the order of the file.
    pub imus: Vec<Sensor>,
    /// Satellite receivers, in the order of the file.
    pub gnss: Vec<Sensor>,
    /// CAN buses, in the order of the file.
    pub cans: Vec<Can>,
    /// Where the measurements of a live sensor come from, by the sensor's name.
    pub sources: BTreeMap<String, Source>,
    /// Models to run, in the order of the file.
    pub models: Vec<Model>,
    /// Limits and wishes of the planner.
    pub planner: Planner,
    /// What a run does when the GPU fails while it goes on.
    pub on_gpu_fault: OnGpuFault,
    /// How the threads of a live run are scheduled, and how long its stages may take.
    pub realtime: Realtime,
}

/// Dimensions of the vehicle. The default is a mid-size car.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vehicle {
    /// Bumper to bumper, in metres.
    pub length_m: f64,
    /// Without mirrors, in metres.
    pub width_m: f64,
    /// Ground to roof, in metres.
    pub height_m: f64,
    /// Rear axle to front axle, in metres.
    pub wheelbase_m: f64,
    /// Rear bumper to rear axle, in metres.
    pub rear_overhang_m: f64,
}

impl Default for Vehicle {
    fn default() -> Self {
        Self { length_m: 4.7, width_m: 1.85, height_m: 1.5, wheelbase_m: 2.8, rear_overhang_m: 1.0 }
    }
}

/// When a tick starts and which packets belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Camera or lidar whose packets start a tick; without one ticks come every `period_ms`.
    pub trigger: Option<String>,
    /// Time between ticks where there is no trigger, in milliseconds.
    pub period_ms: f64,
    /// How far a packet's stamp may lie from the tick's to belong to it, in milliseconds.
    pub tolerance_ms: f64,
    /// How long a tick waits for late packets, in milliseconds.
    pub max_wait_ms: f64,
}

impl Default for Tick {
    fn default() -> Self {
        Self { trigger: None, period_ms: 100.0, tolerance_ms: 50.0, max_wait_ms: 100.0 }
    }
}

/// One camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// Unique name.
    pub name: String,
    /// Where its pictures come from in a recording.
    pub topic: String,
    /// Columns of a picture.
    pub width_px: u32,
    /// Rows of a picture.
    pub height_px: u32,
    /// How pictures are stored.
    pub format: PictureFormat,
    /// Whether luma spans 0 to 255 in pictures of luma and chroma without a header, and not 16 to 235.
    pub full_range: bool,
    /// Pictures per second.
    pub rate_hz: f64,
    /// Time from the exposure of the first row to that of the last, in milliseconds; `None` for a global shutter.
    pub rolling_shutter_ms: Option<f64>,
    /// How raw pictures are developed, for a sensor whose own way is known.
    pub isp: Option<IspSettings>,
    /// The lens.
    pub intrinsics: CameraModel,
    /// Place and direction of the optical frame (x right, y down, z forward).
    pub mounting: Mounting,
}

/// How raw pictures are developed, before the tone curve of sRGB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IspSettings {
    /// The sample of no light, as part of the full range, 0 to 0.9.
    pub black_level: f64,
    /// What red, green and blue are multiplied with, 0 to 8.
    pub white_balance: [f64; 3],
    /// From the sensor's red, green and blue to those shown, row by row, each from -16 to 16.
    pub colour_matrix: [f64; 9],
}

impl Default for IspSettings {
    /// A black level of 1/16, the sensor's own colours.
    fn default() -> Self {
        let colour_matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        IspSettings { black_level: 0.0625, white_balance: [1.0; 3], colour_matrix }
    }
}

/// How a camera's pictures are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// One JPEG file a picture.
    Jpeg,
    /// One PNG file a picture.
    Png,
    /// H.264 access units.
    H264,
    /// Red, green, blue, a byte each.
    Rgb8,
    /// Blue, green, red, a byte each.
    Bgr8,
    /// Brightness, one byte.
    Mono8,
    /// Brightness plane, then a plane of interleaved chroma at half the size.
    Nv12,
    /// Brightness plane, then two chroma planes at half the size.
    I420,
    /// Brightness and chroma interleaved, brightness first.
    Yuyv,
    /// Brightness and chroma interleaved, chroma first.
    Uyvy,
    /// One colour a pixel.
    Bayer {
        /// Colours of the first two rows.
        pattern: BayerPattern,
        /// Depth of a pixel in bits: 8, 10, 12 or 16.
        bits: u8,
    },
}

/// Colours of the first two pixels of the first two rows of a raw picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BayerPattern {
    /// Red green, green blue.
    Rggb,
    /// Green red, blue green.
    Grbg,
    /// Green blue, red green.
    Gbrg,
    /// Blue green, green red.
    Bggr,
}

impl BayerPattern {
    /// Every pattern.
    pub const ALL: [Self; 4] = [Self::Rggb, Self::Grbg, Self::Gbrg, Self::Bggr];

    /// The colours' first letters, row by row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rggb => "rggb",
            Self::Grbg => "grbg",
            Self::Gbrg => "gbrg",
            Self::Bggr => "bggr",
        }
    }

    /// Column and row of the first red pixel.
    pub fn red(self) -> [usize; 2] {
        match self {
            Self::Rggb => [0, 0],
            Self::Grbg => [1, 0],
            Self::Gbrg => [0, 1],
            Self::Bggr => [1, 1],
        }
    }
}

const fn bayer(pattern: BayerPattern, bits: u8) -> PictureFormat {
    PictureFormat::Bayer { pattern, bits }
}

const PICTURE_FORMATS: [(&str, PictureFormat); 26] = [
    ("jpeg", PictureFormat::Jpeg),
    ("png", PictureFormat::Png),
    ("h264", PictureFormat::H264),
    ("rgb8", PictureFormat::Rgb8),
    ("bgr8", PictureFormat::Bgr8),
    ("mono8", PictureFormat::Mono8),
    ("nv12", PictureFormat::Nv12),
    ("i420", PictureFormat::I420),
    ("yuyv", PictureFormat::Yuyv),
    ("uyvy", PictureFormat::Uyvy),
    ("bayer-rggb8", bayer(BayerPattern::Rggb, 8)),
    ("bayer-rggb10", bayer(BayerPattern::Rggb, 10)),
    ("bayer-rggb12", bayer(BayerPattern::Rggb, 12)),
    ("bayer-rggb16", bayer(BayerPattern::Rggb, 16)),
    ("bayer-grbg8", bayer(BayerPattern::Grbg, 8)),
    ("bayer-grbg10", bayer(BayerPattern::Grbg, 10)),
    ("bayer-grbg12", bayer(BayerPattern::Grbg, 12)),
    ("bayer-grbg16", bayer(BayerPattern::Grbg, 16)),
    ("bayer-gbrg8", bayer(BayerPattern::Gbrg, 8)),
    ("bayer-gbrg10", bayer(BayerPattern::Gbrg, 10)),
    ("bayer-gbrg12", bayer(BayerPattern::Gbrg, 12)),
    ("bayer-gbrg16", bayer(BayerPattern::Gbrg, 16)),
    ("bayer-bggr8", bayer(BayerPattern::Bggr, 8)),
    ("bayer-bggr10", bayer(BayerPattern::Bggr, 10)),
    ("bayer-bggr12", bayer(BayerPattern::Bggr, 12)),
    ("bayer-bggr16", bayer(BayerPattern::Bggr, 16)),
];

impl PictureFormat {
    /// Whether its bytes are luma and chroma without a header, of a range that only the rig can tell.
    pub fn has_range(self) -> bool {
        matches!(self, Self::Nv12 | Self::I420 | Self::Yuyv | Self::Uyvy)
    }

    /// The format's name in rig files, for example `jpeg` or `bayer-rggb12`; `unknown` for a depth no file can name.
    pub fn name(self) -> &'static str {
        let entry = PICTURE_FORMATS.iter().find(|(_, format)| *format == self);
        entry.map_or("unknown", |(name, _)| name)
    }

    /// The format of this name in rig files.
    pub fn from_name(name: &str) -> Option<Self> {
        PICTURE_FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}

/// Where a sensor sits: the pose `vehicle_from_sensor` of its own frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mounting {
    /// As designed or measured by hand.
    pub nominal: MountingPose,
    /// As found by calibration; used where present. Kept apart so that a correction can be seen and undone.
    pub corrected: Option<MountingPose>,
}

impl Mounting {
    /// The pose in use: corrected where known, else nominal. Maps points of the sensor's frame to the vehicle frame.
    pub fn vehicle_from_sensor(&self) -> Pose {
        self.corrected.unwrap_or(self.nominal).pose()
    }
}

/// A pose as written in a rig file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MountingPose {
    /// Origin of the sensor in the vehicle frame: forward, left, up, in metres.
    pub xyz_m: [f64; 3],
    /// Roll, pitch, yaw in degrees, `R = Rz(yaw) * Ry(pitch) * Rx(roll)`.
    pub rpy_deg: [f64; 3],
}

impl MountingPose {
    /// The same as a pose.
    pub fn pose(&self) -> Pose {
        Pose::from_xyz_rpy(self.xyz_m, self.rpy_deg.map(f64::to_radians))
    }

    /// A pose in the form of a rig file; rounding apart, `pose` gives it back.
    pub fn from_pose(vehicle_from_sensor: &Pose) -> Self {
        Self {
            xyz_m: vehicle_from_sensor.translation_m.into(),
            rpy_deg: vehicle_from_sensor.rpy_rad().map(f64::to_degrees),
        }
    }
}

/// One lidar.
#[derive(Clone, Debug, PartialEq)]
pub struct Lidar {
    /// Unique name.
    pub name: String,
    /// Where its scans come from in a recording.
    pub topic: String,
    /// Maker's name of the device, which tells how packets are decoded; empty where clouds come ready made.
    pub model: String,
    /// The maker's file about this very device, relative to the rig file: an Ouster's metadata (JSON), without which its packets
    /// mean nothing, a Velodyne's calibration (YAML) or a Hesai's angle correction (CSV) in place of nominal values.
    pub calibration: Option<PathBuf>,
    /// Scans per second.
    pub rate_hz: f64,
    /// Place and direction of the sensor's frame.
    pub mounting: Mounting,
}

/// One radar, ultrasonic sensor, inertial measurement unit or satellite receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    /// Unique name.
    pub name: String,
    /// Where its messages come from in a recording.
    pub topic: String,
    /// Messages per second.
    pub rate_hz: f64,
    /// Place and direction of the sensor's frame; of the antenna for a satellite receiver.
    pub mounting: Mounting,
}

/// One CAN bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Can {
    /// Unique name.
    pub name: String,
    /// Where its frames come from in a recording.
    pub topic: String,
    /// Files that describe its messages, relative to the rig file, in DBC format.
    pub dbc: Vec<PathBuf>,
    /// Bits per second, where known.
    pub bitrate: Option<u32>,
    /// Which signals give which quantity; never an empty list. Several signals of one quantity are averaged.
    pub signals: BTreeMap<CanQuantity, Vec<CanSignal>>,
}

/// A quantity of the vehicle that CAN signals can give; its name in rig files holds the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CanQuantity {
    /// Forward speed, m/s.
    Speed,
    /// Yaw rate, rad/s, positive to the left.
    YawRate,
    /// Angle of the steering wheel, rad, positive to the left.
    Steering,
    /// Forward acceleration, m/s^2.
    LongitudinalAcceleration,
    /// Acceleration to the left, m/s^2.
    LateralAcceleration,
    /// Speed of the front left wheel, m/s.
    WheelFrontLeft,
    /// Speed of the front right wheel, m/s.
    WheelFrontRight,
    /// Speed of the rear left wheel, m/s.
    WheelRearLeft,
    /// Speed of the rear right wheel, m/s.
    WheelRearRight,
    /// Accelerator pedal, 0 to 1.
    Accelerator,
    /// Brake pedal, 0 to 1.
    Brake,
    /// Gear as the vehicle's own number.
    Gear,
    /// Left indicator, 0 or 1.
    IndicatorLeft,
    /// Right indicator, 0 or 1.
    IndicatorRight,
}

const CAN_QUANTITIES: [(&str, CanQuantity); 14] = [
    ("speed_mps", CanQuantity::Speed),
    ("yaw_rate_radps", CanQuantity::YawRate),
    ("steering_rad", CanQuantity::Steering),
    ("longitudinal_acceleration_mps2", CanQuantity::LongitudinalAcceleration),
    ("lateral_acceleration_mps2", CanQuantity::LateralAcceleration),
    ("wheel_front_left_mps", CanQuantity::WheelFrontLeft),
    ("wheel_front_right_mps", CanQuantity::WheelFrontRight),
    ("wheel_rear_left_mps", CanQuantity::WheelRearLeft),
    ("wheel_rear_right_mps", CanQuantity::WheelRearRight),
    ("accelerator", CanQuantity::Accelerator),
    ("brake", CanQuantity::Brake),
    ("gear", CanQuantity::Gear),
    ("indicator_left", CanQuantity::IndicatorLeft),
    ("indicator_right", CanQuantity::IndicatorRight),
];

impl CanQuantity {
    /// The quantity's key in rig files, with its unit, for example `speed_mps`.
    pub fn name(self) -> &'static str {
        let entry = CAN_QUANTITIES.iter().find(|(_, quantity)| *quantity == self);
        entry.map_or("unknown", |(name, _)| name)
    }
}

/// One signal: the quantity is `value * scale + offset`, where `value` is what the DBC file makes of the raw bits.
#[derive(Clone, Debug, PartialEq)]
pub struct CanSignal {
    /// Message and signal in the DBC file, joined by a dot: `SPEED.SPEED`.
    pub signal: String,
    /// Factor from the signal's unit to the quantity's.
    pub scale: f64,
    /// What is added after the factor, in the quantity's unit.
    pub offset: f64,
}

/// One model and the cameras it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Unique name.
    pub name: String,
    /// The ONNX file, relative to the rig file; `None` where it is given elsewhere.
    pub path: Option<PathBuf>,
    /// Names of the cameras it reads; at least one.
    pub cameras: Vec<String>,
    /// Name of the decoder for its outputs; `None` to find out from their shapes.
    pub head: Option<String>,
    /// Text file with one class name a line, relative to the rig file.
    pub labels: Option<PathBuf>,
    /// Columns of the input, where the file leaves them free.
    pub input_width_px: Option<u32>,
    /// Rows of the input, where the file leaves them free.
    pub input_height_px: Option<u32>,
    /// Least score of a detection that is kept, 0 to 1.
    pub score_threshold: f64,
    /// Overlap, 0 to 1, above which the weaker of two detections is dropped.
    pub nms_iou: f64,
    /// Whether pictures are freed from distortion before the model sees them.
    pub undistort: bool,
    /// The smallest type that an engine compiled ahead may compute in; `None` for what the command line says.
    pub precision: Option<Precision>,
    /// The deep learning accelerator (on Orin 0 or 1) that an engine compiled ahead runs on; `None` for the GPU.
    pub dla_core: Option<u8>,
}

impl Model {
    /// Least score where a rig names none.
    pub const SCORE_THRESHOLD: f64 = 0.3;
    /// Largest overlap where a rig names none.
    pub const NMS_IOU: f64 = 0.45;

    /// A model with a rig's defaults, which finds out from its file what it can.
    pub fn new(name: impl Into<String>, path: Option<PathBuf>, cameras: Vec<String>) -> Self {
        Model {
            name: name.into(),
            path,
            cameras,
            head: None,
            labels: None,
            input_width_px: None,
            input_height_px: None,
            score_threshold: Self::SCORE_THRESHOLD,
            nms_iou: Self::NMS_IOU,
            undistort: false,
            precision: None,
            dla_core: None,
        }
    }
}

/// The smallest type that an engine that is compiled ahead may compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point throughout.
    Fp32,
    /// 16-bit floating point where it is faster.
    #[default]
    Fp16,
    /// 8-bit integers where it is faster.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Fp16, Self::Int8];

    /// The name in rig files and on the command line: `fp32`, `fp16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    /// The precision of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

/// What a run does when the GPU fails while it goes on: nothing but a new process can use it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGpuFault {
    /// It ends in good order, and says why.
    #[default]
    Stop,
    /// The networks run on the CPU from the next tick on. Its engines are loaded at the start.
    Cpu,
}

impl OnGpuFault {
    /// The name in rig files: `stop` or `cpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Cpu => "cpu",
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Stop, Self::Cpu].into_iter().find(|policy| policy.name() == name)
    }
}

/// Limits and wishes of the planner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planner {
    /// Speed on a free road, in m/s.
    pub cruise_speed_mps: f64,
    /// Time gap to the vehicle ahead, in seconds.
    pub time_gap_s: f64,
    /// Gap to the vehicle ahead at standstill, in metres.
    pub min_gap_m: f64,
    /// Strongest acceleration, in m/s^2.
    pub max_accel_mps2: f64,
    /// Deceleration in everyday driving, in m/s^2, positive.
    pub comfort_decel_mps2: f64,
    /// Strongest braking, in m/s^2, positive.
    pub max_decel_mps2: f64,
    /// Time to collision below which the planner brakes with all its strength, in seconds.
    pub ttc_brake_s: f64,
    /// Width of a lane where none is seen, in metres.
    pub lane_width_m: f64,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            cruise_speed_mps: 30.0,
            time_gap_s: 1.8,
            min_gap_m: 3.0,
            max_accel_mps2: 1.5,
            comfort_decel_mps2: 2.0,
            max_decel_mps2: 8.0,
            ttc_brake_s: 1.5,
            lane_width_m: 3.5,
        }
    }
}

/// What a sensor is. The order is the order of sensor numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SensorKind {
    /// A camera.
    Camera,
    /// A lidar.
    Lidar,
    /// A radar.
    Radar,
    /// An ultrasonic sensor.
    Ultrasonic,
    /// An inertial measurement unit.
    Imu,
    /// A satellite receiver.
    Gnss,
    /// A CAN bus.
    Can,
}

impl SensorKind {
    /// The kind's name in rig files and topics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Lidar => "lidar",
            Self::Radar => "radar",
            Self::Ultrasonic => "ultrasonic",
            Self::Imu => "imu",
            Self::Gnss => "gnss",
            Self::Can => "can",
        }
    }

    /// The topic of a sensor of this kind whose rig file does not give one.
    pub fn default_topic(self, sensor_name: &str) -> String {
        let content = match self {
            Self::Camera => "image",
            Self::Lidar => "points",
            Self::Radar => "tracks",
            Self::Ultrasonic => "range",
            Self::Imu => "data",
            Self::Gnss => "fix",
            Self::Can => "frames",
        };
        format!("/{}/{sensor_name}/{content}", self.name())
    }
}

/// What all sensors have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SensorInfo<'a> {
    /// The sensor's number: its position in [`Rig::sensors`].
    pub id: u16,
    /// What it is.
    pub kind: SensorKind,
    /// Its unique name.
    pub name: &'a str,
    /// Where its messages come from in a recording.
    pub topic: &'a str,
}

impl Rig {
    /// Reads and checks a rig file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RigError> {
        load::load(path.as_ref())
    }

    /// Reads and checks the text of a rig file; `file_name` is what errors call it, and its folder is where relative
    /// paths start.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, RigError> {
        load::parse(text, file_name)
    }

    /// The rig as a rig file: the same rig always gives the same text, and `parse` gives the same rig back.
    pub fn to_toml(&self) -> String {
        save::to_toml(self)
    }

    /// A first look at a video nothing is known about: one camera `front` with a horizontal field of view of 60 degrees
    /// and no distortion, 1.8 m ahead of the rear axle and 1.4 m up, looking level and straight ahead.
    pub fn default_camera(width_px: u32, height_px: u32) -> Self {
        let (width, height) = (f64::from(width_px), f64::from(height_px));
        // Half the width is seen under 30 degrees, whose tangent is 1 / sqrt(3).
        let focal_px = 0.5 * width * 3.0f64.sqrt();
        let lens = BrownConrady::pinhole(focal_px, focal_px, 0.5 * (width - 1.0), 0.5 * (height - 1.0));
        let nominal = MountingPose { xyz_m: [1.8, 0.0, 1.4], rpy_deg: [-90.0, 0.0, -90.0] };
        let front = Camera {
            name: "front".into(),
            topic: SensorKind::Camera.default_topic("front"),
            width_px,
            height_px,
            format: PictureFormat::H264,
            full_range: false,
            rate_hz: 30.0,
            rolling_shutter_ms: None,
            isp: None,
            intrinsics: CameraModel::BrownConrady(lens),
            mounting: Mounting { nominal, corrected: None },
        };
        Self {
            name: "default".into(),
            directory: PathBuf::new(),
            vehicle: Vehicle::default(),
            tick: Tick { trigger: Some("front".into()), ..Tick::default() },
            cameras: vec![front],
            lidars: Vec::new(),
            radars: Vec::new(),
            ultrasonics: Vec::new(),
            imus: Vec::new(),
            gnss: Vec::new(),
            cans: Vec::new(),
            sources: BTreeMap::new(),
            models: Vec::new(),
            planner: Planner::default(),
            on_gpu_fault: OnGpuFault::default(),
            realtime: Realtime::default(),
        }
    }

    /// The camera of this name.
    pub fn camera(&self, name: &str) -> Option<&Camera> {
        self.cameras.iter().find(|camera| camera.name == name)
    }

    /// Every sensor in the one fixed order: cameras, lidars, radars, ultrasonic sensors, IMUs, satellite receivers, CAN
    /// buses, each in the order of the file. The position is the sensor's number everywhere.
    pub fn sensors(&self) -> impl Iterator<Item = SensorInfo<'_>> {
        let cameras = self.cameras.iter().map(|s| (SensorKind::Camera, s.name.as_str(), s.topic.as_str()));
        let lidars = self.lidars.iter().map(|s| (SensorKind::Lidar, s.name.as_str(), s.topic.as_str()));
        let others = [
            (SensorKind::Radar, &self.radars),
            (SensorKind::Ultrasonic, &self.ultrasonics),
            (SensorKind::Imu, &self.imus),
            (SensorKind::Gnss, &self.gnss),
        ];
        let others = others
            .into_iter()
            .flat_map(|(kind, list)| list.iter().map(move |s| (kind, s.name.as_str(), s.topic.as_str())));
        let cans = self.cans.iter().map(|s| (SensorKind::Can, s.name.as_str(), s.topic.as_str()));
        let all = cameras.chain(lidars).chain(others).chain(cans);
        (0..u16::MAX).zip(all).map(|(id, (kind, name, topic))| SensorInfo { id, kind, name, topic })
    }

    /// The sensor of this name.
    pub fn sensor(&self, name: &str) -> Option<SensorInfo<'_>> {
        self.sensors().find(|sensor| sensor.name == name)
    }

    /// A path of the rig, as seen from the working directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::{Vector2, Vector3};

    use super::*;
    use crate::camera::Projection;

    #[test]
    fn default_camera_sees_sixty_degrees_level_ahead() {
        let rig = Rig::default_camera(1280, 720);
        let camera = rig.camera("front").unwrap();
        let vehicle_from_camera = camera.mounting.vehicle_from_sensor();
        let left_edge = camera.intrinsics.unproject(&Vector2::new(-0.5, 359.5)).unwrap();
        let direction = vehicle_from_camera.rotate(&left_edge);
        assert!((direction - Vector3::new(0.75f64.sqrt(), 0.5, 0.0)).norm() < 1e-12, "{direction}");
        assert_eq!(vehicle_from_camera.translation_m, Vector3::new(1.8, 0.0, 1.4));
        assert_eq!(Rig::parse(&rig.to_toml(), "default.toml"), Ok(rig));
    }

    #[test]
    fn a_correction_replaces_the_nominal_mounting() {
        let nominal = MountingPose { xyz_m: [1.0, 2.0, 3.0], rpy_deg: [10.0, -20.0, 30.0] };
        let corrected = MountingPose { xyz_m: [4.0, 5.0, 6.0], rpy_deg: [0.0; 3] };
        let mut mounting = Mounting { nominal, corrected: None };
        assert_eq!(mounting.vehicle_from_sensor(), nominal.pose());
        mounting.corrected = Some(corrected);
        assert_eq!(mounting.vehicle_from_sensor().translation_m, Vector3::new(4.0, 5.0, 6.0));
        let again = MountingPose::from_pose(&nominal.pose());
        for (angle, expected) in again.rpy_deg.into_iter().zip(nominal.rpy_deg) {
            assert!((angle - expected).abs() < 1e-10);
        }
        assert_eq!(again.xyz_m, nominal.xyz_m);
    }

    #[test]
    fn format_names_are_unique_and_read_back() {
        for (name, format) in PICTURE_FORMATS {
            assert_eq!(PictureFormat::from_name(name), Some(format));
            assert_eq!(format.name(), name);
        }
        assert_eq!(PictureFormat::from_name("jpg"), None);
    }

    #[test]
    fn hyperion_loads_counts_and_round_trips() {
        let rig = Rig::parse(HYPERION_8_1, "hyperion-8.1.toml").unwrap_or_else(|error| panic!("{error}"));
        let count = |kind: SensorKind| rig.sensors().filter(|sensor| sensor.kind == kind).count();
        assert_eq!(count(SensorKind::Camera), 15);
        assert_eq!(count(SensorKind::Lidar), 1);
        assert_eq!(count(SensorKind::Radar), 9);
        assert_eq!(count(SensorKind::Ultrasonic), 12);
        assert_eq!(count(SensorKind::Imu), 1);
        assert_eq!(count(SensorKind::Gnss), 1);
        assert_eq!(count(SensorKind::Can), 1);
        let ids: Vec<u16> = rig.sensors().map(|sensor| sensor.id).collect();
        assert_eq!(ids, (0..40).collect::<Vec<u16>>());
        assert_eq!(rig.sensor("lidar_front").unwrap().id, 15);
        let text = rig.to_toml();
        let again = Rig::parse(&text, "hyperion-8.1.toml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again, rig);
        assert_eq!(again.to_toml(), text);
    }

    #[test]
    fn sim_car_loads_and_round_trips() {
        let rig = Rig::parse(SIM_CAR, "sim-car.toml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rig.name, "sim-car");
        assert_eq!(rig.sensors().count(), 10);
        assert_eq!(rig.tick.trigger.as_deref(), Some("front"));
        assert_eq!(rig.cans.first().map(|can| can.signals.len()), Some(9));
        assert_eq!(Rig::parse(&rig.to_toml(), "sim-car.toml"), Ok(rig));
    }

    #[test]
    fn files_that_rigs_name_lie_beside_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rigs");
        let rigs = ["sim-car.toml", "hyperion-8.1.toml"].map(|name| Rig::load(folder.join(name)).unwrap());
        let files = |rig: &Rig| -> Vec<PathBuf> {
            rig.cans.iter().flat_map(|can| &can.dbc).map(|dbc| rig.resolve(dbc)).collect()
        };
        let named: Vec<PathBuf> = rigs.iter().flat_map(files).collect();
        assert_eq!(named, [folder.join("sim_car.dbc")]);
        assert_eq!(std::fs::read_to_string(folder.join("sim_car.dbc")).unwrap(), SIM_CAR_DBC);
    }

    #[test]
    fn hyperion_cameras_look_where_their_names_say() {
        let rig = Rig::parse(HYPERION_8_1, "hyperion-8.1.toml").unwrap();
        for (name, x, y) in [
            ("front_wide_120", 1.0, 0.0),
            ("front_tele_30", 1.0, 0.0),
            ("rear_tele_30", -1.0, 0.0),
            ("left_fisheye_200", 0.0, 1.0),
            ("right_fisheye_200", 0.0, -1.0),
        ] {
            let camera = rig.camera(name).unwrap();
            let [cx, cy] = camera.intrinsics.principal_point_px();
            let axis_camera = camera.intrinsics.unproject(&Vector2::new(cx, cy)).unwrap();
            let axis = camera.mounting.vehicle_from_sensor().rotate(&axis_camera);
            assert!(axis.x * x + axis.y * y > 0.7, "{name} looks along {axis}");
        }
    }
}
