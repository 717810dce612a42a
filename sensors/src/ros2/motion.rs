//! How the car moves and where it is: `sensor_msgs/msg/Imu` and `sensor_msgs/msg/NavSatFix`. Values are handed on as
//! they were sent; covariances are 3x3, row by row.

use super::Header;
use super::cdr::{CdrError, CdrReader};

/// `sensor_msgs/msg/Imu`: rotation rate and acceleration, in the frame of the header.
#[derive(Clone, Debug, PartialEq)]
pub struct Imu<'a> {
    /// When and in which frame.
    pub header: Header<'a>,
    /// The frame's orientation as a quaternion x, y, z, w.
    pub orientation_xyzw: [f64; 4],
    /// Covariance of the orientation about x, y, z, in rad².
    pub orientation_covariance_rad2: [f64; 9],
    /// Rotation rate about x, y, z, in rad/s.
    pub angular_velocity_radps: [f64; 3],
    /// Covariance of the rotation rate, in (rad/s)².
    pub angular_velocity_covariance: [f64; 9],
    /// Acceleration along x, y, z including gravity's reaction, in m/s².
    pub acceleration_mps2: [f64; 3],
    /// Covariance of the acceleration, in (m/s²)².
    pub acceleration_covariance: [f64; 9],
}

impl<'a> Imu<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            orientation_xyzw: reader.f64s()?,
            orientation_covariance_rad2: reader.f64s()?,
            angular_velocity_radps: reader.f64s()?,
            angular_velocity_covariance: reader.f64s()?,
            acceleration_mps2: reader.f64s()?,
            acceleration_covariance: reader.f64s()?,
        })
    }

    /// The orientation, `None` where the sensor says (by -1 in its covariance) that it measures none.
    pub fn orientation(&self) -> Option<[f64; 4]> {
        measured(self.orientation_xyzw, &self.orientation_covariance_rad2)
    }

    /// The rotation rate in rad/s, `None` where the sensor says that it measures none.
    pub fn angular_velocity(&self) -> Option<[f64; 3]> {
        measured(self.angular_velocity_radps, &self.angular_velocity_covariance)
    }

    /// The acceleration in m/s², `None` where the sensor says that it measures none.
    pub fn acceleration(&self) -> Option<[f64; 3]> {
        measured(self.acceleration_mps2, &self.acceleration_covariance)
    }
}

/// By the message's definition, -1 as the covariance's first element marks a quantity that is not measured.
fn measured<const N: usize>(value: [f64; N], covariance: &[f64; 9]) -> Option<[f64; N]> {
    (covariance[0] != -1.0).then_some(value)
}

/// `sensor_msgs/msg/NavSatFix`: a position from satellites.
#[derive(Clone, Debug, PartialEq)]
pub struct NavSatFix<'a> {
    /// When and of which antenna.
    pub header: Header<'a>,
    /// -1 no fix, 0 fix, 1 with satellite-based and 2 with ground-based augmentation; other numbers are unknown.
    pub status: i8,
    /// Which systems were used, a bit each: 1 GPS, 2 GLONASS, 4 BeiDou, 8 Galileo.
    pub service: u16,
    /// Latitude (WGS 84), positive north, in degrees.
    pub latitude_deg: f64,
    /// Longitude (WGS 84), positive east, in degrees.
    pub longitude_deg: f64,
    /// Height above the WGS 84 ellipsoid, in metres; not a number where it is not known.
    pub altitude_m: f64,
    /// Covariance of east, north, up, in m².
    pub position_covariance_m2: [f64; 9],
    /// What the covariance is: 0 unknown, 1 approximated, 2 diagonal known, 3 known.
    pub position_covariance_type: u8,
}

impl<'a> NavSatFix<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            status: reader.i8()?,
            service: reader.u16()?,
            latitude_deg: reader.f64()?,
            longitude_deg: reader.f64()?,
            altitude_m: reader.f64()?,
            position_covariance_m2: reader.f64s()?,
            position_covariance_type: reader.u8()?,
        })
    }

    /// Whether there is a position at all.
    pub fn has_fix(&self) -> bool {
        self.status >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::cdr::writer::CdrWriter;
    use super::*;

    #[test]
    fn imu_fields_keep_their_order() {
        let mut numbers: Vec<f64> = (0..37).map(f64::from).collect();
        numbers[4] = -1.0;
        let mut writer = CdrWriter::new(false);
        writer.header(3, 4, "imu").f64s(&numbers);
        let imu = Imu::read(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!(imu.orientation_xyzw, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(imu.orientation(), None);
        assert_eq!(imu.angular_velocity(), Some([13.0, 14.0, 15.0]));
        assert_eq!(imu.angular_velocity_covariance[0], 16.0);
        assert_eq!(imu.acceleration(), Some([25.0, 26.0, 27.0]));
        assert_eq!(imu.acceleration_covariance[8], 36.0);
    }

    #[test]
    fn position_fields_keep_their_order() {
        let mut writer = CdrWriter::new(false);
        writer.header(3, 4, "gnss").u8(0xFF).u16(9).f64s(&[48.5, 9.25, f64::INFINITY]);
        writer.f64s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]).u8(2);
        let fix = NavSatFix::read(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!((fix.status, fix.service, fix.has_fix()), (-1, 9, false));
        assert_eq!((fix.latitude_deg, fix.longitude_deg, fix.altitude_m), (48.5, 9.25, f64::INFINITY));
        assert_eq!((fix.position_covariance_m2[8], fix.position_covariance_type), (9.0, 2));
    }
}
