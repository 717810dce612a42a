//! The inertial unit, and what all mounted sensors share.
//!
//! The ego vehicle's [`Motion`] becomes rates and specific force in the sensor's frame, with the errors of an automotive
//! MEMS unit: a bias that stays for the whole drive and white noise. `Mounted` is the part that every sensor has: name,
//! topic, rate, place. Promised: a sample is a pure function of the motion, of the random stream and of the stamp.

use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{Mounting, Rig, Sensor};
use catseye_sensors::packet::{ClockId, StampKind};
use nalgebra::Vector3;

use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::messages::ImuSample;
use crate::record::Record;
use crate::sim::EPOCH_NS;
use crate::sim::random::Random;
use crate::sim::world::{Motion, World};

/// How long after its stamp a small message arrives.
pub(super) const LATENCY_NS: i64 = 2_000_000;
/// How far the world goes on behind the end of a measurement, so that motion at its end is known from both sides.
pub(super) const MARGIN_NS: i64 = 10_000_000;

/// Stamps are true, and name the middle of the measurement.
pub(super) const STAMPS: StampInfo =
    StampInfo { clock: ClockId::Synthetic, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 };

/// What every sensor with a place has.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) rate_hz: f64,
    pub(super) vehicle_from_sensor: Pose,
}

/// Where a sensor is at an instant, and how it moves over ground.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) world_from_sensor: Pose,
    pub(super) velocity_mps: Vector3<f64>,
}

impl Mounted {
    pub(super) fn new(name: &str, topic: &str, rate_hz: f64, mounting: &Mounting) -> Self {
        let vehicle_from_sensor = mounting.vehicle_from_sensor();
        Mounted { name: name.to_owned(), topic: topic.to_owned(), rate_hz, vehicle_from_sensor }
    }

    pub(super) fn of(sensor: &Sensor) -> Self {
        Mounted::new(&sensor.name, &sensor.topic, sensor.rate_hz, &sensor.mounting)
    }

    /// Time between messages; nobody measures more often than every microsecond.
    pub(super) fn period_ns(&self) -> i64 {
        if self.rate_hz > 0.0 { ((1e9 / self.rate_hz).round() as i64).max(1_000) } else { i64::MAX }
    }

    /// Stamps at whole periods and `shift_ns` after, up to the end of the drive. Each is rounded by itself: a rate of
    /// 30 Hz does not drift.
    pub(super) fn stamps(&self, first: u64, shift_ns: i64, duration_ns: i64) -> Vec<i64> {
        let period_ns = self.period_ns();
        if period_ns == i64::MAX {
            return Vec::new();
        }
        let exact_ns = 1e9 / self.rate_hz.min(1e6);
        let stamps = (first..).map(|number| ((number as f64 * exact_ns).round() as i64).saturating_add(shift_ns));
        stamps.take_while(|stamp_ns| *stamp_ns <= duration_ns).collect()
    }

    /// The sensor's place while the vehicle moves so.
    pub(super) fn place(&self, ego: &Motion) -> Place {
        let world_from_vehicle = world_from_vehicle(ego);
        let arm_m = world_from_vehicle.rotate(&self.vehicle_from_sensor.translation_m);
        let [x_mps, y_mps] = ego.velocity_mps;
        let rate_radps = ego.yaw_rate_radps;
        // a rigid body: v + w x r
        let velocity_mps = Vector3::new(x_mps - rate_radps * arm_m.y, y_mps + rate_radps * arm_m.x, 0.0);
        Place { world_from_sensor: world_from_vehicle * self.vehicle_from_sensor, velocity_mps }
    }
}

/// The vehicle's pose on the flat world.
pub(super) fn world_from_vehicle(ego: &Motion) -> Pose {
    let [x_m, y_m, yaw_rad] = ego.pose;
    Pose::from_xyz_rpy([x_m, y_m, 0.0], [0.0, 0.0, yaw_rad])
}

/// A channel that says what its stamps are.
pub(super) fn described(mut channel: Channel) -> Channel {
    STAMPS.describe(&mut channel);
    channel
}

/// A message with one of our records.
pub(super) fn record_message(record: &impl Record, stamp_ns: i64, latency_ns: i64) -> Message {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    message(bytes, stamp_ns, latency_ns)
}

/// A message with one of Foxglove's.
pub(super) fn foxglove_message(content: &impl foxglove::Encode, stamp_ns: i64, latency_ns: i64) -> Message {
    let mut bytes = Vec::new();
    // a Vec takes any length, so the encoder has nothing to complain about
    let _ = content.encode(&mut bytes);
    message(bytes, stamp_ns, latency_ns)
}

fn message(bytes: Vec<u8>, stamp_ns: i64, latency_ns: i64) -> Message {
    let stamp_ns = EPOCH_NS.saturating_add(stamp_ns);
    Message { arrival_ns: stamp_ns.saturating_add(latency_ns), stamp_ns, bytes }
}

/// Standard gravity.
const GRAVITY_MPS2: f64 = 9.806_65;
/// Deviation of a gyroscope's bias: 0.05 degrees per second, left over after calibration at standstill.
const GYRO_BIAS_RADPS: f64 = 9e-4;
/// Deviation of its noise: 0.005 degrees per second and root hertz over 50 Hz.
const GYRO_NOISE_RADPS: f64 = 6e-4;
/// Deviation of an accelerometer's bias: 3 thousandths of gravity.
const ACCELEROMETER_BIAS_MPS2: f64 = 0.03;
/// Deviation of its noise: 100 millionths of gravity per root hertz over 50 Hz.
const ACCELEROMETER_NOISE_MPS2: f64 = 7e-3;

/// An inertial measurement unit.
pub struct ImuSensor {
    mounted: Mounted,
    random: Random,
}

impl ImuSensor {
    /// The inertial unit of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let mounted = Mounted::of(rig.imus.get(index)?);
        let random = random.stream(&mounted.name);
        Some(ImuSensor { mounted, random })
    }

    fn sample(&self, ego: &Motion, stamp_ns: i64) -> ImuSample {
        let sensor_from_vehicle = self.mounted.vehicle_from_sensor.inverse();
        let (rate_radps, arm_m) = (ego.yaw_rate_radps, self.mounted.vehicle_from_sensor.translation_m);
        // the rear axle does not slip sideways, so it is turned by speed times yaw rate; the arm adds w x (w x r)
        let pull = rate_radps * rate_radps;
        let force_mps2 = Vector3::new(
            ego.acceleration_mps2 - pull * arm_m.x,
            ego.speed_mps * rate_radps - pull * arm_m.y,
            GRAVITY_MPS2,
        );
        let (bias, noise) = (self.random.stream("bias"), self.random.at(stamp_ns as u64));
        let measured = |truth: Vector3<f64>, first: u64, bias_sigma: f64, noise_sigma: f64| {
            let error = |axis: u64| bias_sigma * bias.normal(first + axis) + noise_sigma * noise.normal(first + axis);
            [truth.x + error(0), truth.y + error(1), truth.z + error(2)]
        };
        let rates_radps = sensor_from_vehicle.rotate(&Vector3::new(0.0, 0.0, rate_radps));
        let force_mps2 = sensor_from_vehicle.rotate(&force_mps2);
        ImuSample {
            angular_velocity_radps: measured(rates_radps, 0, GYRO_BIAS_RADPS, GYRO_NOISE_RADPS),
            acceleration_mps2: measured(force_mps2, 3, ACCELEROMETER_BIAS_MPS2, ACCELEROMETER_NOISE_MPS2),
        }
    }
}

impl SimulatedSensor for ImuSensor {
    fn name(&self) -> &str {
        &self.mounted.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_record::<ImuSample>(&self.mounted.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        self.mounted.stamps(1, 0, duration_ns)
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(MARGIN_NS)
    }

    fn sense(&self, world: &World, _number: u64, stamp_ns: i64) -> Option<Message> {
        Some(record_message(&self.sample(&world.ego(stamp_ns), stamp_ns), stamp_ns, LATENCY_NS))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sensor at a place of the vehicle, turned to the left.
    pub(in crate::sim::sensors) fn mounted(rate_hz: f64, xyz_m: [f64; 3], yaw_rad: f64) -> Mounted {
        let vehicle_from_sensor = Pose::from_xyz_rpy(xyz_m, [0.0, 0.0, yaw_rad]);
        Mounted { name: "sensor".to_owned(), topic: "/sensor".to_owned(), rate_hz, vehicle_from_sensor }
    }

    fn assert_near(found: [f64; 3], expected: [f64; 3], within: f64) {
        let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < within);
        assert!(is_near, "expected {expected:?}, found {found:?}");
    }

    #[test]
    fn at_rest_there_is_gravity_alone() {
        let sensor = ImuSensor { mounted: mounted(100.0, [1.0, 0.0, 0.5], 0.7), random: Random::new(3) };
        let sample = sensor.sample(&Motion::default(), 10_000_000);
        assert_near(sample.acceleration_mps2, [0.0, 0.0, GRAVITY_MPS2], 0.25);
        assert_near(sample.angular_velocity_radps, [0.0; 3], 0.01);
        assert_ne!(sample, sensor.sample(&Motion::default(), 20_000_000));
    }

    #[test]
    fn a_turn_is_felt_in_the_sensors_frame() {
        let random = Random::new(4);
        // x of the sensor points to the vehicle's left
        let sensor = ImuSensor { mounted: mounted(100.0, [0.0; 3], std::f64::consts::FRAC_PI_2), random };
        let ego = Motion { speed_mps: 10.0, acceleration_mps2: 2.0, yaw_rate_radps: 0.3, ..Motion::default() };
        let sample = sensor.sample(&ego, 10_000_000);
        assert_near(sample.acceleration_mps2, [3.0, -2.0, GRAVITY_MPS2], 0.25);
        assert_near(sample.angular_velocity_radps, [0.0, 0.0, 0.3], 0.01);
    }

    #[test]
    fn stamps_keep_to_the_rate() {
        let stamps = mounted(30.0, [0.0; 3], 0.0).stamps(1, 0, 1_000_000_000);
        assert_eq!((stamps.len(), stamps[0], stamps[29]), (30, 33_333_333, 1_000_000_000));
        assert!(mounted(0.0, [0.0; 3], 0.0).stamps(1, 0, 1_000_000_000).is_empty());
    }

    #[test]
    fn a_sensor_ahead_of_the_axle_swings_sideways() {
        let ego = Motion { velocity_mps: [0.0, 5.0], yaw_rate_radps: 0.5, ..Motion::default() };
        let place = mounted(10.0, [2.0, 0.0, 0.0], 0.0).place(&ego);
        assert_near(place.velocity_mps.into(), [0.0, 6.0, 0.0], 1e-12);
    }
}
