//! The vehicle's CAN bus: speed, wheels, steering and dynamics, as the vehicle's own control units send them.
//!
//! The ego vehicle's [`Motion`] becomes frames that [`DBC`] describes. Four frames come every 20 ms, a millisecond apart. Only
//! the first bus of a rig speaks. Promised: a frame is a pure function of the motion, of the random stream and of its
//! number, and its values are those of the motion but for small noise and the step of the signal.

use catseye_calibration::rig::{Rig, SIM_CAR_DBC, Vehicle};

use super::imu::{LATENCY_NS, MARGIN_NS, described, record_message};
use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::messages::CanMessage;
use crate::sim::random::Random;
use crate::sim::world::{Motion, World};

/// What the frames mean, as a DBC file.
pub const DBC: &str = SIM_CAR_DBC;

/// What the rig `sim-car` calls that file.
pub const DBC_NAME: &str = "sim_car.dbc";

/// Identifiers of the frames of one cycle, in sending order.
const IDS: [u32; 4] = [256, 257, 258, 259];
/// Length of a cycle: 50 Hz.
const CYCLE_NS: i64 = 20_000_000;
/// Time between frames of a cycle.
const GAP_NS: i64 = 1_000_000;

/// Steps of the signals.
const SPEED_STEP_MPS: f64 = 0.01;
const ANGLE_STEP_RAD: f64 = 0.001;
const RATE_STEP_RADPS: f64 = 0.0001;
const ACCELERATION_STEP_MPS2: f64 = 0.001;

/// Deviations of the noise.
const SPEED_NOISE_MPS: f64 = 0.02;
const ANGLE_NOISE_RAD: f64 = 0.003;
const RATE_NOISE_RADPS: f64 = 0.001;
const ACCELERATION_NOISE_MPS2: f64 = 0.03;

/// Turns of the steering wheel per turn of the road wheels.
const STEERING_RATIO: f64 = 15.0;
/// Below this speed the steering wheel's angle cannot be told from the motion, and is sent as straight.
const STEERED_MPS: f64 = 0.1;
/// How much narrower than the vehicle its track is: the width of a tyre and a little.
const TYRE_M: f64 = 0.3;

/// A CAN bus.
pub struct CanSensor {
    name: String,
    topic: String,
    vehicle: Vehicle,
    speaks: bool,
    random: Random,
}

impl CanSensor {
    /// The bus of a rig with this position; None when there is no such.
    pub fn new(rig: &Rig, index: usize, random: Random) -> Option<Self> {
        let can = rig.cans.get(index)?;
        let (name, topic, vehicle) = (can.name.clone(), can.topic.clone(), rig.vehicle);
        let random = random.stream(&name);
        Some(CanSensor { name, topic, vehicle, speaks: index == 0, random })
    }

    fn frame(&self, ego: &Motion, number: u64) -> CanMessage {
        let chance = self.random.at(number);
        let noise = |index: u64, sigma: f64| sigma * chance.normal(index);
        let speed = |index: u64, speed_mps: f64| unsigned(speed_mps + noise(index, SPEED_NOISE_MPS), SPEED_STEP_MPS);
        let acceleration = |index: u64, acceleration_mps2: f64| {
            signed(acceleration_mps2 + noise(index, ACCELERATION_NOISE_MPS2), ACCELERATION_STEP_MPS2)
        };
        let place = (number % IDS.len() as u64) as usize;
        let nothing = [0; 2];
        let words = match place {
            // a vehicle at rest is known to be at rest
            0 if ego.speed_mps == 0.0 => [nothing; 4],
            0 => [speed(0, ego.speed_mps), nothing, nothing, nothing],
            1 if ego.speed_mps == 0.0 => [nothing; 4],
            1 => {
                let [front_left, front_right, rear_left, rear_right] = wheel_speeds_mps(&self.vehicle, ego);
                [speed(0, front_left), speed(1, front_right), speed(2, rear_left), speed(3, rear_right)]
            }
            2 => {
                let angle_rad = STEERING_RATIO * road_wheel_rad(&self.vehicle, ego) + noise(0, ANGLE_NOISE_RAD);
                [signed(angle_rad, ANGLE_STEP_RAD), nothing, nothing, nothing]
            }
            _ => {
                let rate = signed(ego.yaw_rate_radps + noise(0, RATE_NOISE_RADPS), RATE_STEP_RADPS);
                let lateral_mps2 = ego.speed_mps * ego.yaw_rate_radps;
                [rate, acceleration(1, ego.acceleration_mps2), acceleration(2, lateral_mps2), nothing]
            }
        };
        let id = IDS.get(place).copied().unwrap_or_default();
        // four words of two bytes always fit
        let data = heapless::Vec::from_slice(words.as_flattened()).unwrap_or_default();
        CanMessage { bus: 0, id, extended: false, fd: false, data }
    }
}

/// Speeds of the four wheels along their rolling direction: the rigid body's velocity at each.
fn wheel_speeds_mps(vehicle: &Vehicle, ego: &Motion) -> [f64; 4] {
    let (half_track_m, rate_radps) = (0.5 * (vehicle.width_m - TYRE_M).max(0.0), ego.yaw_rate_radps);
    let rear = |left_m: f64| ego.speed_mps - rate_radps * left_m;
    let front = |left_m: f64| {
        let (ahead_mps, sideways_mps) = (rear(left_m), rate_radps * vehicle.wheelbase_m);
        (ahead_mps * ahead_mps + sideways_mps * sideways_mps).sqrt()
    };
    [front(half_track_m), front(-half_track_m), rear(half_track_m), rear(-half_track_m)]
}

/// The angle of the front wheels that gives this turn: the kinematic single-track model (Rajamani, Vehicle Dynamics and
/// Control, 2012, section 2.2).
fn road_wheel_rad(vehicle: &Vehicle, ego: &Motion) -> f64 {
    if ego.speed_mps < STEERED_MPS {
        return 0.0;
    }
    libm::atan2(vehicle.wheelbase_m * ego.yaw_rate_radps, ego.speed_mps)
}

fn unsigned(value: f64, step: f64) -> [u8; 2] {
    // the cast keeps within the range of the type
    ((value / step).round() as u16).to_le_bytes()
}

fn signed(value: f64, step: f64) -> [u8; 2] {
    ((value / step).round() as i16).to_le_bytes()
}

impl SimulatedSensor for CanSensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn channel(&self) -> Channel {
        described(Channel::of_record::<CanMessage>(&self.topic))
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        if !self.speaks {
            return Vec::new();
        }
        let cycles = (1..=duration_ns.max(0) / CYCLE_NS).map(|cycle| cycle * CYCLE_NS);
        let stamps = cycles.flat_map(|start_ns| (0..IDS.len() as i64).map(move |place| start_ns + place * GAP_NS));
        stamps.filter(|stamp_ns| *stamp_ns <= duration_ns).collect()
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns.saturating_add(MARGIN_NS)
    }

    fn sense(&self, world: &World, number: u64, stamp_ns: i64) -> Option<Message> {
        let frame = self.speaks.then(|| self.frame(&world.ego(stamp_ns), number))?;
        Some(record_message(&frame, stamp_ns, LATENCY_NS))
    }
}

#[cfg(test)]
mod tests {
    use catseye_sensors::can::CanFrame;
    use catseye_sensors::can::dbc::Dbc;

    use super::*;

    fn sensor() -> CanSensor {
        let vehicle = Vehicle { wheelbase_m: 2.8, width_m: 1.9, ..Rig::default_camera(640, 480).vehicle };
        let (name, topic) = ("can".to_owned(), "/can".to_owned());
        CanSensor { name, topic, vehicle, speaks: true, random: Random::new(6) }
    }

    #[test]
    fn frames_decode_to_the_motion() {
        let (sensor, dbc) = (sensor(), Dbc::parse(DBC.as_bytes(), "car.dbc").unwrap());
        let ego = Motion { speed_mps: 10.0, acceleration_mps2: -1.5, yaw_rate_radps: 0.25, ..Motion::default() };
        let expected = [
            (0, "SPEED.SPEED", 10.0, 0.1),
            // half a track of 0.8 m; the front wheels go sideways with 0.7 m/s
            (1, "WHEELS.FL", 9.825, 0.1),
            (1, "WHEELS.FR", 10.224, 0.1),
            (1, "WHEELS.RL", 9.8, 0.1),
            (1, "WHEELS.RR", 10.2, 0.1),
            (2, "STEERING.ANGLE", 15.0 * 0.069_886, 0.02),
            (3, "DYNAMICS.YAW_RATE", 0.25, 0.006),
            (3, "DYNAMICS.LONG_ACC", -1.5, 0.2),
            (3, "DYNAMICS.LAT_ACC", 2.5, 0.2),
        ];
        for (number, path, value, within) in expected {
            let message = sensor.frame(&ego, 8 + number);
            let frame = CanFrame::new(message.id, false, false, 0, &message.data).unwrap();
            let found = dbc.decode(dbc.signal(path).unwrap(), &frame).unwrap();
            assert!((found - value).abs() < within, "{path}: expected {value}, found {found}");
        }
    }

    #[test]
    fn four_frames_come_each_cycle() {
        let stamps = sensor().stamps(40_000_000);
        assert_eq!(stamps, [20_000_000, 21_000_000, 22_000_000, 23_000_000, 40_000_000]);
    }

    #[test]
    fn what_does_not_fit_a_signal_stays_at_its_end() {
        assert_eq!(signed(-1e9, 0.001), i16::MIN.to_le_bytes());
        assert_eq!(unsigned(-0.5, 0.01), [0, 0]);
    }
}
