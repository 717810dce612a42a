//! Packets of the sensor's IMU, in the profile `LEGACY`.

use std::f64::consts::PI;
use thiserror::Error;

const PACKET_BYTES: usize = 48;
/// The sensor's unit of acceleration.
const STANDARD_GRAVITY_MPS2: f64 = 9.80665;

/// What the IMU measured, in its own frame ([`super::OusterMetadata::imu_to_sensor_mm`] places it).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OusterImu {
    /// When the packet was made, since the sensor's start.
    pub system_stamp_ns: u64,
    /// When the acceleration was measured, on the clock of the lidar's columns.
    pub acceleration_stamp_ns: u64,
    /// When the rotation rate was measured, on the clock of the lidar's columns.
    pub angular_velocity_stamp_ns: u64,
    /// Acceleration along x, y, z including gravity's reaction, in m/s².
    pub acceleration_mps2: [f64; 3],
    /// Rotation rate about x, y, z, in rad/s.
    pub angular_velocity_radps: [f64; 3],
}

/// Why a datagram is not an IMU packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OusterImuError {
    /// Its length is not that of the profile.
    #[error("expected an Ouster IMU packet of {expected} bytes, found {found}")]
    Length {
        /// Bytes of an IMU packet.
        expected: usize,
        /// Bytes of the datagram.
        found: usize,
    },
}

impl OusterImu {
    /// Reads an IMU packet.
    ///
    /// # Errors
    /// If the datagram has another length.
    pub fn decode(payload: &[u8]) -> Result<Self, OusterImuError> {
        let error = OusterImuError::Length { expected: PACKET_BYTES, found: payload.len() };
        let packet: &[u8; PACKET_BYTES] = payload.try_into().map_err(|_| error)?;
        let (stamps, values) = packet.split_at(24);
        let mut stamps_ns = stamps.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut values = values.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        let mut stamp_ns = || stamps_ns.next().ok_or(error);
        let (system_stamp_ns, acceleration_stamp_ns, angular_velocity_stamp_ns) =
            (stamp_ns()?, stamp_ns()?, stamp_ns()?);
        let mut vector = || -> Result<[f64; 3], OusterImuError> {
            let mut value = || values.next().ok_or(error);
            Ok([value()?, value()?, value()?])
        };
        let (acceleration_g, angular_velocity_degps) = (vector()?, vector()?);
        Ok(Self {
            system_stamp_ns,
            acceleration_stamp_ns,
            angular_velocity_stamp_ns,
            acceleration_mps2: acceleration_g.map(|value| value * STANDARD_GRAVITY_MPS2),
            angular_velocity_radps: angular_velocity_degps.map(|value| value * PI / 180.0),
        })
    }
}
