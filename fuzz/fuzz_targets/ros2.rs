//! ROS 2 messages: a byte that names the type, then the payload.
#![no_main]

use catseye_sensors::ros2::{Ros2Message, Ros2Type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let kind = Ros2Type::ALL[usize::from(*kind) % Ros2Type::ALL.len()];
    match Ros2Message::decode_as(kind, payload) {
        Ok(Ros2Message::PointCloud2(cloud)) => {
            let mut points = Vec::new();
            let _ = cloud.points(&mut points);
        }
        Ok(Ros2Message::Image(image)) => {
            let _ = (image.row(0, 3), image.row(image.height_px, 0), image.row(u32::MAX, usize::MAX));
        }
        Ok(Ros2Message::Imu(imu)) => {
            let _ = (imu.orientation(), imu.angular_velocity(), imu.acceleration());
        }
        _ => {}
    }
});
