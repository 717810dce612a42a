//! Ouster sensors: the metadata, a zero byte, then packets, each behind its length in two bytes.
#![no_main]

use catseye_sensors::cloud::Point;
use catseye_sensors::lidar::ouster::{OusterDecoder, OusterFrame, OusterGeometry, OusterImu, OusterMetadata};
use libfuzzer_sys::fuzz_target;

/// Frames of more pixels only cost time.
const MOST_PIXELS: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let (json, packets) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let Ok(metadata) = OusterMetadata::from_json(json) else { return };
    if metadata.rows() * metadata.columns() > MOST_PIXELS {
        return;
    }
    let geometry = OusterGeometry::new(&metadata);
    let mut decoder = OusterDecoder::new(metadata);
    let (mut frame, mut points) = (OusterFrame::default(), Vec::new());
    let mut rest = packets;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (packet, behind) = behind.split_at(length);
        rest = behind;
        let _ = OusterImu::decode(packet);
        if decoder.decode(packet, &mut frame) == Ok(true) {
            check(&geometry, &frame, &mut points);
        }
    }
    // one for what is being built; two frames never wait
    assert!(!decoder.finish(&mut frame) || !decoder.finish(&mut frame));
});

fn check(geometry: &OusterGeometry, frame: &OusterFrame, points: &mut Vec<Point>) {
    let counts = geometry.points(frame, points);
    assert_eq!(counts.points, points.len());
    let valid = frame.columns.iter().filter(|column| column.is_valid()).count();
    assert!(frame.missing_columns + frame.invalid_columns + valid <= frame.columns.len());
    let returns = frame.returns.iter().filter(|images| !images.range_mm.is_empty()).count();
    let rows = frame.near_ir.len() / frame.columns.len();
    assert_eq!(counts.points + counts.without_return, valid * rows * returns);
}
