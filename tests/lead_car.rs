//! The lead car of a real drive: its distance by lidar and by camera alone, against the points themselves.

mod common;

use catseye::log::import::ImportKind;
use catseye::log::packet::Content;
use catseye::messages::{BoxPx, Object, RangeSource};
use catseye::source::{Item, Source};
use catseye::stages::geometry::CameraGeometry;
use catseye_calibration::rig::Rig;
use catseye_sensors::cloud::Point;
use catseye_sensors::picture::Limits;
use common::{Drive, Run, Seen, drive, run, with_model};
use nalgebra::Vector3;

const HEIGHT_PX: f32 = 375.0;

/// The scans of a log, in order.
fn scans(drive: &Drive) -> Vec<Vec<Point>> {
    let source = Source::open(&drive.log, &drive.rig, Limits::default()).unwrap();
    let mut scans = Vec::new();
    loop {
        match source.wait(std::time::Duration::from_secs(10)) {
            Some(Item::Packets(packets)) => {
                for packet in packets {
                    if let Content::Cloud(cloud) = packet.content {
                        let mut points = Vec::new();
                        cloud.unpack(&mut points).unwrap();
                        scans.push(points);
                    }
                }
            }
            Some(Item::End(_)) => return scans,
            other => panic!("the source ended early: {}", other.is_some()),
        }
    }
}

/// The 10th percentile of the distances ahead, from the vehicle's origin, of the points that a box shows.
fn tenth_percentile_m(rig: &Rig, points: &[Point], box_px: &BoxPx) -> f64 {
    let camera = CameraGeometry::new(&rig.cameras[0], false);
    let vehicle_from_lidar = rig.lidars[0].mounting.vehicle_from_sensor();
    let mut ahead: Vec<f64> = points
        .iter()
        .map(|p| vehicle_from_lidar.transform_point(&Vector3::new(p.x_m.into(), p.y_m.into(), p.z_m.into())))
        .filter(|point| {
            let seen = camera.picture_from_vehicle(point).map(|(pixel, _)| pixel.map(|value| value as f32));
            let inside = |[u, v]: [f32; 2]| u > box_px.left && u < box_px.right && v > box_px.top && v < box_px.bottom;
            seen.is_some_and(inside)
        })
        .map(|point| point.x)
        .collect();
    assert!(ahead.len() > 50, "{} points in the box", ahead.len());
    ahead.sort_by(f64::total_cmp);
    ahead[ahead.len() / 10]
}

/// The nearest object ahead in the own lane, and the box that it was seen in.
fn lead(seen: &Seen) -> (Object, BoxPx) {
    let body = seen.body.as_ref().unwrap();
    let ahead = body.world.objects.iter().filter(|o| o.position_m[1].abs() < 1.5 && o.position_m[0] > 3.0);
    let lead = *ahead.min_by(|a, b| a.position_m[0].total_cmp(&b.position_m[0])).expect("a lead car");
    let track = body.tracks[0].tracks.iter().find(|track| track.id == lead.camera_track).unwrap();
    (lead, track.detected_px)
}

#[test]
fn its_distance_is_that_of_its_points_with_lidar_and_near_it_without() {
    let folder = tempfile::tempdir().unwrap();
    let Some(drive) = drive(ImportKind::Sequence, "lidar/sfnd_seq", folder.path()) else { return };
    let drive = with_model(drive, "models/yolox_nano_dyn.onnx").unwrap();
    let mut drive = drive;
    drive.rig.models[0].input_width_px = Some(832);
    drive.rig.models[0].input_height_px = Some(256);
    let scans = scans(&drive);
    let lidar_x_m = drive.rig.lidars[0].mounting.vehicle_from_sensor().translation_m.x;
    let (with_lidar, _) = run(&drive, Run::new(2));
    assert_eq!((with_lidar.len(), scans.len()), (12, 12));
    let mut by_points = Vec::new();
    for (seen, points) in with_lidar.iter().zip(&scans) {
        let (lead, box_px) = lead(seen);
        let expected = tenth_percentile_m(&drive.rig, points, &box_px);
        println!(
            "tick {}: {:.3} m by lidar, {expected:.3} m by points, ttc {:.2} s",
            seen.tick, lead.position_m[0], lead.time_to_collision_s
        );
        assert_eq!(lead.source, RangeSource::Lidar);
        assert!(
            (lead.position_m[0] - expected).abs() < 0.2,
            "tick {}: {} m, points say {expected} m",
            seen.tick,
            lead.position_m[0]
        );
        by_points.push(expected);
    }
    let (first, last) = (by_points[0] - lidar_x_m, by_points[11] - lidar_x_m);
    assert!((first - 8.0).abs() < 0.15 && (last - 7.4).abs() < 0.15, "closing from {first} to {last} m");

    let lidars = std::mem::take(&mut drive.rig.lidars);
    let (camera_only, _) = run(&drive, Run::new(2));
    drive.rig.lidars = lidars;
    let camera_x_m = drive.rig.cameras[0].mounting.vehicle_from_sensor().translation_m.x;
    let mut compared = 0;
    for (seen, expected) in camera_only.iter().zip(&by_points) {
        let (lead, box_px) = lead(seen);
        let (ours, theirs) = (lead.position_m[0] - camera_x_m, expected - camera_x_m);
        println!("tick {}: {ours:.3} m by camera, {theirs:.3} m by points", seen.tick);
        assert_eq!(lead.source, RangeSource::Camera);
        if box_px.bottom < HEIGHT_PX - 2.0 {
            compared += 1;
            assert!((ours / theirs - 1.0).abs() < 0.1, "tick {}: {ours} m, points say {theirs} m", seen.tick);
        }
    }
    assert!(compared >= 6, "the box touched the edge in all but {compared} frames");
}
