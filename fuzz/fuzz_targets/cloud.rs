//! Point clouds: a byte that names the format, then the file.
#![no_main]

use catseye_sensors::cloud::{CloudSummary, Point, read_kitti, read_nuscenes, read_pcd};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((format, file)) = bytes.split_first() else { return };
    let mut points: Vec<Point> = Vec::new();
    let summary: Option<CloudSummary> = match format % 3 {
        0 => Some(read_kitti(file, &mut points)),
        1 => Some(read_nuscenes(file, &mut points)),
        _ => read_pcd(file, &mut points).ok(),
    };
    assert_eq!(points.len(), summary.map_or(0, |summary| summary.points));
    assert!(points.iter().all(|point| point.x_m.is_finite() && point.y_m.is_finite() && point.z_m.is_finite()));
});
