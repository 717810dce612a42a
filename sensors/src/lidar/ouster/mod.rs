//! Ouster OS0, OS1 and OS2: the sensor's metadata and UDP packets in, frames of field images and points out.
//!
//! [`OusterMetadata`] reads the JSON that describes one sensor (flat, as older clients wrote it, or nested); [`OusterDecoder`] puts the columns of lidar packets into frames by frame and measurement number;
//! [`OusterGeometry`] makes points of a frame; [`OusterImu`] is the packet of the sensor's IMU. Promised: no packet
//! allocates once the frames have grown, and columns that did not come, came twice, late or damaged are counted.
//! Formats: Ouster's "Firmware User Manual", sections "Lidar Data Packet Format", "IMU Data Packet Format" and "Sensor
//! Metadata"; positions as in its "Sensor Coordinate Frame" section and Ouster's SDK.

mod frame;
mod geometry;
mod imu;
mod metadata;
mod packet;

pub use frame::{OusterColumn, OusterCounts, OusterDecoder, OusterFrame, OusterReturn};
pub use geometry::{OusterGeometry, OusterPointCounts};
pub use imu::{OusterImu, OusterImuError};
pub use metadata::{OusterMetadata, OusterMetadataError};
pub use packet::{OusterPacketError, OusterProfile};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Point;
    use crate::pcap::PcapReader;
    use md5::{Digest, Md5};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::fs;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/lidar/packets_ouster");

    const ROWS: usize = 4;
    const COLUMNS: usize = 32;
    const PER_PACKET: usize = 8;
    const SERIAL_NUMBER: u64 = 992_137_000_142;

    fn flat(profile: OusterProfile) -> Value {
        json!({
            "beam_altitude_angles": [20.0, 5.0, -5.0, -20.0],
            "beam_azimuth_angles": [4.0, 1.0, -1.0, -4.0],
            "data_format": {
                "column_window": [0, COLUMNS - 1],
                "columns_per_frame": COLUMNS,
                "columns_per_packet": PER_PACKET,
                "pixel_shift_by_row": [3, 2, -1, 0],
                "pixels_per_column": ROWS,
                "udp_profile_lidar": profile.name(),
            },
            "imu_to_sensor_transform": [1, 0, 0, 6.253, 0, 1, 0, -11.775, 0, 0, 1, 7.645, 0, 0, 0, 1],
            "lidar_origin_to_beam_origin_mm": 27.67,
            "lidar_to_sensor_transform": [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 36.18, 0, 0, 0, 1],
            "prod_line": "OS-0-32-U1",
            "prod_sn": SERIAL_NUMBER.to_string(),
            "udp_port_imu": 7503,
            "udp_port_lidar": 7502,
        })
    }

    fn nested(profile: OusterProfile) -> Value {
        let flat = flat(profile);
        json!({
            "beam_intrinsics": {
                "beam_altitude_angles": flat["beam_altitude_angles"],
                "beam_azimuth_angles": flat["beam_azimuth_angles"],
                "lidar_origin_to_beam_origin_mm": flat["lidar_origin_to_beam_origin_mm"],
            },
            "config_params": {
                "columns_per_packet": 16,
                "udp_port_imu": 7503,
                "udp_port_lidar": 7502,
                "udp_profile_lidar": "LEGACY",
            },
            "imu_intrinsics": { "imu_to_sensor_transform": flat["imu_to_sensor_transform"] },
            "lidar_data_format": flat["data_format"],
            "lidar_intrinsics": { "lidar_to_sensor_transform": flat["lidar_to_sensor_transform"] },
            "sensor_info": { "prod_line": flat["prod_line"], "prod_sn": flat["prod_sn"] },
        })
    }

    fn metadata(json: &Value) -> OusterMetadata {
        OusterMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
    }

    fn error(json: &Value) -> OusterMetadataError {
        OusterMetadata::from_json(json.to_string().as_bytes()).expect_err("no metadata")
    }

    /// A packet whose columns begin with `first`; pixels hold numbers made of their place.
    fn packet(profile: OusterProfile, frame_id: u16, first: u16) -> Vec<u8> {
        let legacy = profile == OusterProfile::Legacy;
        let mut bytes = Vec::new();
        if !legacy {
            bytes.extend(1_u16.to_le_bytes());
            bytes.extend(frame_id.to_le_bytes());
            bytes.extend([7, 0, 0]);
            bytes.extend(&SERIAL_NUMBER.to_le_bytes()[..5]);
            bytes.resize(32, 0);
        }
        for measurement in first..first + PER_PACKET as u16 {
            bytes.extend((1_000_000 + u64::from(measurement) * 100).to_le_bytes());
            bytes.extend(measurement.to_le_bytes());
            bytes.extend(if legacy { frame_id } else { 1 }.to_le_bytes());
            bytes.extend(if legacy { &[0; 4][..] } else { &[] });
            for row in 0..ROWS as u32 {
                bytes.extend(pixel(profile, row * 1000 + u32::from(measurement)));
            }
            bytes.extend(if legacy { &[0xFF; 4][..] } else { &[] });
        }
        if !legacy {
            bytes.extend([0; 32]);
        }
        bytes
    }

    /// Range n, flags 1, reflectivity 5, signal 600, near infrared 7000; of the second return 1 more each.
    fn pixel(profile: OusterProfile, range_mm: u32) -> Vec<u8> {
        let words = match profile {
            OusterProfile::Legacy => vec![range_mm | 1 << 28, 5 | 600 << 16, 7000],
            OusterProfile::Single => vec![range_mm | 1 << 19, 5 | 600 << 16, 7000],
            OusterProfile::Dual => {
                vec![range_mm | 1 << 19 | 5 << 24, (range_mm + 1) | 2 << 19 | 6 << 24, 600 | 601 << 16, 7000]
            }
            OusterProfile::LowBandwidth => vec![(range_mm / 8) | 1 << 15 | 5 << 16 | (7000 / 16) << 24],
        };
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn decoder(profile: OusterProfile) -> OusterDecoder {
        OusterDecoder::new(metadata(&flat(profile)))
    }

    /// All four packets of a frame, in order.
    fn turn(profile: OusterProfile, frame_id: u16) -> impl Iterator<Item = Vec<u8>> {
        (0..COLUMNS as u16).step_by(PER_PACKET).map(move |first| packet(profile, frame_id, first))
    }

    #[test]
    fn both_layouts_of_metadata_say_the_same() {
        for profile in OusterProfile::ALL {
            let read = metadata(&flat(profile));
            assert_eq!(read, metadata(&nested(profile)));
            assert_eq!((read.rows(), read.columns(), read.profile()), (ROWS, COLUMNS, profile));
            assert_eq!((read.lidar_port(), read.imu_port()), (Some(7502), Some(7503)));
            assert_eq!((read.product_line(), read.serial_number()), ("OS-0-32-U1", SERIAL_NUMBER));
        }
    }

    #[test]
    fn metadata_of_old_firmware_is_completed() {
        let mut json = flat(OusterProfile::Legacy);
        json["lidar_mode"] = "1024x10".into();
        let object = json.as_object_mut().expect("an object");
        object.remove("data_format");
        object.remove("lidar_origin_to_beam_origin_mm");
        let read = metadata(&json);
        assert_eq!((read.columns(), read.rows(), read.profile()), (1024, 4, OusterProfile::Legacy));
        assert_eq!(read.pixel_shift_by_row, [23, 14, 9, 0]);
        assert_eq!(read.beam_to_lidar_mm[3], 27.67);
    }

    #[test]
    fn wrong_metadata_is_refused() {
        assert!(matches!(OusterMetadata::from_json(b"{"), Err(OusterMetadataError::Json { .. })));
        let missing = OusterMetadataError::Missing { key: "beam_altitude_angles" };
        assert_eq!(error(&json!({})), missing);
        let with = |section: &str, key: &str, value: Value| {
            let mut json = flat(OusterProfile::Single);
            let place = if section.is_empty() { &mut json } else { &mut json[section] };
            place[key] = value;
            error(&json).to_string()
        };
        assert_eq!(
            with("data_format", "columns_per_packet", json!(7)),
            "expected a divisor of 32 for `columns_per_packet` in the Ouster metadata, found 7"
        );
        assert!(with("data_format", "columns_per_frame", json!(0)).contains("from 1 to 8192"));
        assert!(with("data_format", "column_window", json!([0, 32])).contains("two numbers below 32"));
        assert!(with("data_format", "udp_profile_lidar", json!("RNG19")).contains("LEGACY or RNG19_RFL8_SIG16_NIR16"));
        assert!(with("data_format", "header_type", json!("FUSA")).contains("expected STANDARD"));
        assert!(with("data_format", "pixel_shift_by_row", json!([1])).contains("4 whole numbers"));
        assert!(with("", "beam_azimuth_angles", json!([1.0])).contains("4 angles"));
        assert!(with("", "beam_altitude_angles", json!([[1.0]])).contains("a list of numbers"));
        assert!(with("", "lidar_to_sensor_transform", json!([1])).contains("16 numbers"));
        assert!(with("", "prod_sn", json!("abc")).contains("a serial number"));
    }

    #[test]
    fn fields_of_every_profile_are_read() {
        for profile in OusterProfile::ALL {
            let mut decoder = decoder(profile);
            let mut frame = OusterFrame::default();
            let done: Vec<bool> =
                turn(profile, 9).map(|packet| decoder.decode(&packet, &mut frame).expect("a packet")).collect();
            assert_eq!(done, [false, false, false, true], "{profile:?}");
            assert_eq!((frame.frame_id, frame.stamp_ns, frame.missing_columns), (9, 1_000_000, 0));
            let place = 2 * COLUMNS + 24;
            let [first, second] = &frame.returns;
            assert_eq!((first.range_mm[place], first.reflectivity[place], first.flags[place]), (2024, 5, 1));
            assert_eq!(frame.columns[24].stamp_ns, 1_002_400);
            match profile {
                OusterProfile::LowBandwidth => {
                    assert!(first.signal.is_empty());
                    // Steps of 16.
                    assert_eq!(frame.near_ir[place], 6992 & 0xFF0);
                }
                _ => assert_eq!((first.signal[place], frame.near_ir[place]), (600, 7000)),
            }
            if profile.returns() == 2 {
                let values = (second.range_mm[place], second.reflectivity[place], second.flags[place]);
                assert_eq!((values, second.signal[place]), ((2025, 6, 2), 601));
            } else {
                assert_eq!(second, &OusterReturn::default());
            }
        }
    }

    #[test]
    fn what_does_not_come_in_order_is_counted() {
        let profile = OusterProfile::Single;
        let mut decoder = decoder(profile);
        let mut frame = OusterFrame::default();
        let mut feed = |packet: &[u8]| decoder.decode(packet, &mut frame).map(|done| done.then(|| frame.clone()));
        let mut invalid = packet(profile, 3, 0);
        invalid[32 + 10] = 0;
        let mut stray = packet(profile, 3, 8);
        stray[32 + 9] = 0xFF;
        assert_eq!(feed(&invalid), Ok(None));
        assert_eq!(feed(&invalid), Ok(None));
        assert_eq!(feed(&stray), Ok(None));
        // The frame after the next begins: what there is comes out.
        let cut = feed(&packet(profile, 5, 0)).expect("a packet").expect("a frame");
        assert_eq!((cut.frame_id, cut.missing_columns, cut.invalid_columns), (3, 17, 1));
        assert_eq!(cut.returns[0].range_mm[0], 0);
        assert_eq!(feed(&packet(profile, 3, 24)), Ok(None));
        assert_eq!(
            feed(&packet(OusterProfile::Dual, 5, 24)).map_err(|error| error.to_string()),
            Err("expected an Ouster packet of 544 bytes, found 672".to_owned())
        );
        let mut other = packet(profile, 5, 8);
        other[7] ^= 1;
        assert!(matches!(feed(&other), Err(OusterPacketError::Sensor { expected: SERIAL_NUMBER, .. })));
        other[0] = 2;
        assert_eq!(feed(&other), Err(OusterPacketError::Type { expected: 1, found: 2 }));
        assert!(decoder.finish(&mut frame));
        assert!(!decoder.finish(&mut frame));
        let counts = OusterCounts {
            packets: 5,
            frames: 2,
            refused_packets: 3,
            late_packets: 1,
            duplicate_columns: 8,
            stray_columns: 1,
            missing_columns: 17 + 24,
        };
        assert_eq!(decoder.counts(), counts);
    }

    #[test]
    fn frames_follow_a_wrapping_count_and_a_restart() {
        for profile in [OusterProfile::Legacy, OusterProfile::Single] {
            let mut decoder = decoder(profile);
            let mut frame = OusterFrame::default();
            for frame_id in [u16::MAX - 1, u16::MAX, 0, 1, 40_000, 2, 3] {
                for packet in turn(profile, frame_id) {
                    decoder.decode(&packet, &mut frame).expect("a packet");
                }
                assert_eq!((frame.frame_id, frame.missing_columns), (frame_id, 0));
            }
            assert_eq!(decoder.counts().late_packets, 0);
        }
    }

    #[test]
    fn a_window_over_the_seam_is_complete_without_the_rest() {
        let profile = OusterProfile::Single;
        let mut json = flat(profile);
        json["data_format"]["column_window"] = json!([30, 2]);
        let mut decoder = OusterDecoder::new(metadata(&json));
        let mut frame = OusterFrame::default();
        assert_eq!(decoder.decode(&packet(profile, 1, 0), &mut frame), Ok(false));
        assert_eq!(decoder.decode(&packet(profile, 1, 24), &mut frame), Ok(true));
        assert_eq!(frame.missing_columns, 0);
    }

    #[test]
    fn buffers_are_used_again() {
        let profile = OusterProfile::Dual;
        let mut decoder = decoder(profile);
        let mut frame = OusterFrame::default();
        let mut buffers = Vec::new();
        for frame_id in 0..6 {
            for packet in turn(profile, frame_id) {
                decoder.decode(&packet, &mut frame).expect("a packet");
            }
            buffers.push(frame.returns[1].range_mm.as_ptr());
        }
        assert_eq!(buffers[..2], buffers[2..4]);
        assert_eq!(buffers[..2], buffers[4..]);
    }

    #[test]
    fn destaggered_rows_are_turned_by_their_shift() {
        let metadata = metadata(&flat(OusterProfile::Single));
        let staggered: Vec<usize> = (0..ROWS * COLUMNS).map(|place| place % COLUMNS).collect();
        let mut upright = Vec::new();
        metadata.destagger(&staggered, &mut upright);
        let firsts: Vec<usize> = upright.chunks(COLUMNS).map(|row| row[0]).collect();
        assert_eq!(firsts, [29, 30, 1, 0]);
        metadata.destagger(&staggered[1..], &mut upright);
        assert!(upright.is_empty());
    }

    #[test]
    fn points_lie_where_the_beams_point() {
        let profile = OusterProfile::Dual;
        let mut decoder = decoder(profile);
        let mut frame = OusterFrame::default();
        for packet in turn(profile, 1) {
            decoder.decode(&packet, &mut frame).expect("a packet");
        }
        let geometry = OusterGeometry::new(&metadata(&flat(profile)));
        let mut points = Vec::new();
        let counts = geometry.points(&frame, &mut points);
        // Row 0 of measurement 0 is at 0 mm in the first return.
        assert_eq!((counts.points, counts.without_return), (ROWS * COLUMNS * 2 - 1, 1));
        assert_eq!(points[0].ring, 1);
        assert_eq!((points[7].ring, points[7].return_number, points[7].offset_ns), (0, 1, 100));
        assert_eq!(points[7].intensity, 5.0);
        // Measurement 0 looks backwards from the sensor, which is turned by half a turn against the lidar.
        let [x_m, y_m, z_m] = geometry.position_m(1, 0, 1000).expect("a place");
        let (azimuth_rad, altitude_rad) = (-(1.0_f64.to_radians()), 5.0_f64.to_radians());
        let along_m = 1.0 - 0.02767;
        let level_m = along_m * libm::cos(altitude_rad);
        assert!((x_m + level_m * libm::cos(azimuth_rad) + 0.02767).abs() < 1e-12);
        assert!((y_m + level_m * libm::sin(azimuth_rad)).abs() < 1e-12);
        assert!((z_m - along_m * libm::sin(altitude_rad) - 0.03618).abs() < 1e-12);
        assert_eq!(geometry.position_m(ROWS, 0, 1), None);
        assert_eq!(geometry.position_m(0, COLUMNS, 1), None);
    }

    #[test]
    fn the_imu_is_read_in_si_units() {
        let mut bytes = Vec::new();
        for stamp_ns in [1_u64, 2, 3] {
            bytes.extend(stamp_ns.to_le_bytes());
        }
        for value in [0.0_f32, 0.5, 1.0, 180.0, 0.0, -90.0] {
            bytes.extend(value.to_le_bytes());
        }
        let imu = OusterImu::decode(&bytes).expect("an IMU packet");
        assert_eq!((imu.system_stamp_ns, imu.acceleration_stamp_ns, imu.angular_velocity_stamp_ns), (1, 2, 3));
        assert_eq!(imu.acceleration_mps2, [0.0, 4.903_325, 9.806_65]);
        assert_eq!(imu.angular_velocity_radps, [std::f64::consts::PI, 0.0, -std::f64::consts::FRAC_PI_2]);
        for length in (0..48).chain([49]) {
            let found = OusterImu::decode(&vec![0; length]);
            assert_eq!(found, Err(OusterImuError::Length { expected: 48, found: length }));
        }
    }

    #[test]
    fn damaged_packets_do_no_harm() {
        for profile in OusterProfile::ALL {
            let geometry = OusterGeometry::new(&metadata(&flat(profile)));
            let mut decoder = decoder(profile);
            let (mut frame, mut points) = (OusterFrame::default(), Vec::new());
            let whole = packet(profile, 1, 8);
            for end in 0..whole.len() {
                assert!(decoder.decode(&whole[..end], &mut frame).is_err());
            }
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if decoder.decode(&damaged, &mut frame) == Ok(true) {
                    geometry.points(&frame, &mut points);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn columns_are_found_or_counted(
            packets in proptest::collection::vec((0_u16..4, 0_u16..6, any::<bool>()), 0..40),
        ) {
            let profile = OusterProfile::Legacy;
            let mut decoder = decoder(profile);
            let mut frame = OusterFrame::default();
            let mut arrived = 0;
            let mut take =
                |frame: &OusterFrame| arrived += frame.columns.iter().filter(|column| column.arrived).count();
            for (frame_id, place, invalid) in packets {
                let mut packet = packet(profile, frame_id, place * PER_PACKET as u16);
                let last = packet.len() - 4;
                packet[last] = if invalid { 0xFE } else { 0xFF };
                if decoder.decode(&packet, &mut frame) == Ok(true) {
                    take(&frame);
                }
            }
            while decoder.finish(&mut frame) {
                take(&frame);
            }
            let counts = decoder.counts();
            let columns = (counts.packets - counts.late_packets) * PER_PACKET as u64;
            prop_assert_eq!(columns, arrived as u64 + counts.duplicate_columns + counts.stray_columns);
        }

        #[test]
        fn any_metadata_does_no_harm(text in any::<String>(), numbers in any::<(i64, f64)>()) {
            let _ = OusterMetadata::from_json(text.as_bytes());
            for (section, key) in [("data_format", "columns_per_frame"), ("data_format", "pixel_shift_by_row")] {
                let mut json = flat(OusterProfile::Single);
                json[section][key] = json!([numbers.0, numbers.1, numbers.0, 0]);
                let _ = OusterMetadata::from_json(json.to_string().as_bytes());
                json[section][key] = json!(numbers.0);
                let _ = OusterMetadata::from_json(json.to_string().as_bytes());
            }
        }
    }

    /// The frames and IMU packets of a capture, and the sensor's metadata; `None`, with a word, without the data.
    fn capture(
        metadata: &str,
        capture: &str,
    ) -> Option<(OusterMetadata, Vec<OusterFrame>, Vec<OusterImu>, OusterCounts)> {
        let (Ok(json), Ok(file)) =
            (fs::read(format!("{DATA}/{metadata}.json")), fs::read(format!("{DATA}/{capture}.pcap")))
        else {
            eprintln!("skipped: ../shared is absent");
            return None;
        };
        let metadata = OusterMetadata::from_json(&json).expect("metadata");
        let mut decoder = OusterDecoder::new(metadata.clone());
        let (mut reader, mut rest, mut frame) = (PcapReader::default(), file.as_slice(), OusterFrame::default());
        let (mut frames, mut imu) = (Vec::new(), Vec::new());
        while let Some(datagram) = reader.next_datagram(&mut rest).expect("a capture") {
            let port = Some(datagram.destination.port());
            if port == metadata.imu_port() {
                imu.push(OusterImu::decode(datagram.payload).expect("an IMU packet"));
            } else if decoder.decode(datagram.payload, &mut frame).expect("a lidar packet") {
                frames.push(frame.clone());
            }
        }
        assert!(!decoder.finish(&mut frame), "the captures end with a whole frame");
        Some((metadata, frames, imu, decoder.counts()))
    }

    fn md5<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> String {
        let mut digest = Md5::new();
        values.for_each(|value| digest.update(value));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Points by the formula as it is written down, one pixel after the other, to compare bits with.
    fn plain_points(metadata: &OusterMetadata, frame: &OusterFrame) -> Vec<Point> {
        let rad = |degrees: f64| degrees * std::f64::consts::PI / 180.0;
        let step_rad = 2.0 * std::f64::consts::PI / metadata.columns as f64;
        let (origin_x, origin_z) = (metadata.beam_to_lidar_mm[3], metadata.beam_to_lidar_mm[11]);
        let origin = if origin_z == 0.0 { origin_x } else { libm::hypot(origin_x, origin_z) };
        let m = metadata.lidar_to_sensor_mm;
        let mut points = Vec::new();
        for (at, column) in frame.columns.iter().enumerate().filter(|(_, column)| column.is_valid()) {
            let encoder_rad = 2.0 * std::f64::consts::PI - at as f64 * step_rad;
            let (encoder_cos, encoder_sin) = (libm::cos(encoder_rad), libm::sin(encoder_rad));
            for (images, return_number) in frame.returns.iter().zip(1..) {
                for (row, line) in
                    images.range_mm.chunks_exact(metadata.columns).enumerate().filter(|(_, l)| l[at] != 0)
                {
                    let (azimuth, altitude) = (
                        -metadata.beam_azimuth_deg[row] * std::f64::consts::PI / 180.0,
                        rad(metadata.beam_altitude_deg[row]),
                    );
                    let cos = encoder_cos * libm::cos(azimuth) - encoder_sin * libm::sin(azimuth);
                    let sin = encoder_sin * libm::cos(azimuth) + encoder_cos * libm::sin(azimuth);
                    let along = f64::from(line[at]) - origin;
                    let x = along * libm::cos(altitude) * cos + origin_x * encoder_cos;
                    let y = along * libm::cos(altitude) * sin + origin_x * encoder_sin;
                    let z = along * libm::sin(altitude) + origin_z;
                    let axis = |row: usize| (m[row] * x + m[row + 1] * y + m[row + 2] * z + m[row + 3]) * 1e-3;
                    points.push(Point {
                        x_m: axis(0) as f32,
                        y_m: axis(4) as f32,
                        z_m: axis(8) as f32,
                        intensity: f32::from(images.reflectivity[row * metadata.columns + at]),
                        offset_ns: (column.stamp_ns - frame.stamp_ns) as i32,
                        ring: row as u16,
                        return_number,
                    });
                }
            }
        }
        points
    }

    fn check_bits(metadata: &OusterMetadata, frame: &OusterFrame) {
        let bits = |point: &Point| {
            let Point { x_m, y_m, z_m, intensity, offset_ns, ring, return_number } = *point;
            ([x_m, y_m, z_m, intensity].map(f32::to_bits), offset_ns, ring, return_number)
        };
        // what an earlier, larger frame left must not be seen
        let mut points = vec![Point { x_m: 7.0, ..Point::default() }; 300_000];
        OusterGeometry::new(metadata).points(frame, &mut points);
        let expected = plain_points(metadata, frame);
        assert!(points.iter().map(bits).eq(expected.iter().map(bits)));
    }

    #[test]
    fn points_have_the_bits_of_the_plain_formula() {
        for profile in OusterProfile::ALL {
            for tilt in [0.0, 0.01, -0.0] {
                let mut json = flat(profile);
                json["lidar_to_sensor_transform"][1] = tilt.into();
                json["lidar_to_sensor_transform"][3] = (-0.0).into();
                let mut decoder = OusterDecoder::new(metadata(&json));
                let mut frame = OusterFrame::default();
                for packet in turn(profile, 9) {
                    decoder.decode(&packet, &mut frame).expect("a packet");
                }
                check_bits(&metadata(&json), &frame);
            }
        }
        for (json, file) in [
            ("OS-0-32-U1_v2.2.0_1024x10", "OS-0-32-U1_v2.2.0_1024x10"),
            ("OS-1-128_v2.3.0_1024x10", "OS-1-128_v2.3.0_1024x10_lb_n3"),
        ] {
            let Some((metadata, frames, ..)) = capture(json, file) else { return };
            frames.iter().for_each(|frame| check_bits(&metadata, frame));
        }
    }

    #[test]
    fn what_did_not_come_is_empty_whatever_was_there_before() {
        for profile in OusterProfile::ALL {
            let mut decoder = decoder(profile);
            let (mut frame, mut found) = (OusterFrame::default(), Vec::new());
            for number in 1..5 {
                // from the third frame on buffers are used again
                for (place, packet) in turn(profile, number).enumerate().filter(|(place, _)| number < 3 || *place != 1)
                {
                    if decoder.decode(&packet, &mut frame).expect("a packet") {
                        found.push(frame.clone());
                    }
                    assert!(place < 4);
                }
            }
            assert!(decoder.finish(&mut frame));
            let mut fresh = self::decoder(profile);
            let mut expected = OusterFrame::default();
            for (_, packet) in turn(profile, 4).enumerate().filter(|(place, _)| *place != 1) {
                let _ = fresh.decode(&packet, &mut expected);
            }
            assert!(fresh.finish(&mut expected));
            assert_eq!((&frame, frame.missing_columns), (&expected, PER_PACKET));
            assert_eq!(found.len(), 3);
        }
    }

    /// The digests of Ouster's SDK: MD5 of its arrays, stamps and status widened to 64 bits.
    #[test]
    fn frames_have_the_digests_of_the_makers_own_tests() {
        let Some((_, frames, imu, counts)) = capture("OS-0-32-U1_v2.2.0_1024x10", "OS-0-32-U1_v2.2.0_1024x10") else {
            return;
        };
        let expected = fs::read(format!("{DATA}/OS-0-32-U1_v2.2.0_1024x10_digest.json")).expect("the digests");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let [frame] = frames.as_slice() else { panic!("expected one frame, found {}", frames.len()) };
        let [first, second] = &frame.returns;
        let u16s = |values: &[u16]| md5(values.iter().map(|value| value.to_le_bytes()));
        let u32s = |values: &[u32]| md5(values.iter().map(|value| value.to_le_bytes()));
        let u8s = |values: &[u8]| md5(values.iter().map(|value| [*value]));
        let columns = frame.columns.iter();
        let found = json!({
            "FRAME_ID": frame.frame_id.to_string(),
            "TIMESTAMP": md5(columns.clone().map(|column| column.stamp_ns.to_le_bytes())),
            "STATUS": md5(columns.clone().map(|column| u64::from(column.status).to_le_bytes())),
            "MEASUREMENT_ID": md5(columns.map(|column| column.measurement.to_le_bytes())),
            // Not read: the sensors count it no more.
            "ENCODER_COUNT": expected["scans"][0]["ENCODER_COUNT"],
            "RANGE": u32s(&first.range_mm),
            "RANGE2": u32s(&second.range_mm),
            "SIGNAL": u16s(&first.signal),
            "SIGNAL2": u16s(&second.signal),
            "REFLECTIVITY": u8s(&first.reflectivity),
            "REFLECTIVITY2": u8s(&second.reflectivity),
            "NEAR_IR": u16s(&frame.near_ir),
        });
        assert_eq!(json!([found]), expected["scans"]);
        assert_eq!(imu.len(), 10);
        assert_eq!(counts, OusterCounts { packets: 64, frames: 1, ..OusterCounts::default() });
    }

    #[test]
    fn a_real_low_bandwidth_capture_gives_whole_turns() {
        let Some((metadata, frames, imu, counts)) = capture("OS-1-128_v2.3.0_1024x10", "OS-1-128_v2.3.0_1024x10_lb_n3")
        else {
            return;
        };
        assert_eq!(counts, OusterCounts { packets: 192, frames: 3, ..OusterCounts::default() });
        let geometry = OusterGeometry::new(&metadata);
        let mut points: Vec<Point> = Vec::new();
        for (frame, expected_points) in frames.iter().zip([107_647, 107_357, 107_532]) {
            let found = geometry.points(frame, &mut points);
            assert_eq!((found.points, found.unusable_offsets), (expected_points, 0));
            assert!(points.is_sorted_by_key(|point| point.offset_ns));
            // Ten turns a second.
            assert!((99_000_000..100_000_000).contains(&points[points.len() - 1].offset_ns));
            assert!(points.iter().all(|point| libm::hypotf(point.x_m, point.y_m) < 265.0 && point.ring < 128));
        }
        let stamps_ns: Vec<u64> = frames.iter().map(|frame| frame.stamp_ns).collect();
        assert!(stamps_ns.windows(2).all(|pair| pair[1].abs_diff(pair[0] + 100_000_000) < 1_000_000));
        // It is moved, and feels hardly more than gravity.
        assert_eq!(imu.len(), 30);
        for imu in imu {
            let squares: f64 = imu.acceleration_mps2.iter().map(|value| value * value).sum();
            assert!((9.0..13.0).contains(&squares.sqrt()), "{imu:?}");
        }
    }
}
