//! The sensors: what each makes of the world, as the messages that a log holds.
//!
//! A sensor is a pure function of the world, of the instant and of its random stream, so its messages may be made in any
//! order and on any thread. None changes the world.

pub mod camera;
pub mod can;
pub mod gnss;
pub mod imu;
pub mod lidar;
pub mod radar;
pub mod ultrasonic;

use crate::log::Channel;

/// One message of a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// When it arrives, on the common time line (the start of the drive is [`EPOCH_NS`](super::EPOCH_NS)).
    pub arrival_ns: i64,
    /// The sensor's stamp, likewise: the middle of exposure, the middle of a sweep.
    pub stamp_ns: i64,
    /// The encoded message.
    pub bytes: Vec<u8>,
}

/// A sensor of a rig in a simulated world. All times but those in a [`Message`] count from the start of the drive.
pub trait SimulatedSensor: Send + Sync {
    /// The rig's name of it.
    fn name(&self) -> &str;

    /// The channel of its messages.
    fn channel(&self) -> Channel;

    /// Stamps of its messages up to the end of a drive, from the start.
    fn stamps(&self, duration_ns: i64) -> Vec<i64>;

    /// How far the world must have advanced for the message of a stamp.
    fn needs_ns(&self, stamp_ns: i64) -> i64;

    /// The message of a stamp; `number` is its place among all. None where the sensor stays silent.
    fn sense(&self, world: &super::world::World, number: u64, stamp_ns: i64) -> Option<Message>;
}
