//! Velodyne's packets and calibration files: a byte that names the model and what follows, then packets of 1206 bytes
//! (the last may be cut off) or the text.
#![no_main]

use catseye_sensors::lidar::velodyne::{VelodyneCalibration, VelodyneDecoder, VelodyneModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::ClockId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((what, rest)) = bytes.split_first() else { return };
    let model = if what & 1 == 0 { VelodyneModel::Vlp16 } else { VelodyneModel::Vlp32C };
    let calibration = if what & 2 == 0 {
        VelodyneCalibration::nominal(model)
    } else {
        let Ok(calibration) = VelodyneCalibration::from_yaml(model, &String::from_utf8_lossy(rest)) else { return };
        calibration
    };
    let mut decoder = VelodyneDecoder::new(calibration, Azimuth::default(), ClockId::Sensor);
    let mut scan = LidarScan::default();
    for packet in rest.chunks(1206) {
        if decoder.decode(packet, 0, &mut scan).is_ok_and(|done| done) {
            check(&scan);
        }
    }
    if decoder.finish(&mut scan) {
        check(&scan);
    }
});

fn check(scan: &LidarScan) {
    assert!(scan.points.len() <= (1 << 20) + 384);
    assert!(scan.points.iter().all(|point| (0..1_100_000_000).contains(&point.offset_ns)));
}
