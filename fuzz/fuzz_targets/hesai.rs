//! Hesai's packets and angle correction files: a byte that names the model and what follows, then packets (the last may
//! be cut off) or the text.
#![no_main]

use catseye_sensors::lidar::hesai::{HesaiCorrection, HesaiDecoder, HesaiModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::ClockId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((what, rest)) = bytes.split_first() else { return };
    let model = if what & 1 == 0 { HesaiModel::PandarXt32 } else { HesaiModel::Pandar40P };
    let correction = if what & 2 == 0 {
        HesaiCorrection::nominal(model)
    } else {
        let Ok(correction) = HesaiCorrection::from_csv(model, &String::from_utf8_lossy(rest)) else { return };
        correction
    };
    let mut decoder = HesaiDecoder::new(correction, Azimuth::default(), ClockId::Sensor);
    let packet_bytes = if what & 1 == 0 { 1080 } else { 1262 };
    let mut scan = LidarScan::default();
    for packet in rest.chunks(packet_bytes) {
        if decoder.decode(packet, 0, &mut scan).is_ok_and(|done| done) {
            check(&scan);
        }
    }
    if decoder.finish(&mut scan) {
        check(&scan);
    }
});

fn check(scan: &LidarScan) {
    assert!(scan.points.len() <= (1 << 20) + 400);
    assert!(scan.points.iter().all(|point| (0..1_100_000_000).contains(&point.offset_ns)));
}
