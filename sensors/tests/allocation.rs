//! No decoder asks for memory once it is warm, whatever it is sent: good packets, damaged ones, another sensor's. The
//! packets are made here, some turns or epochs of them; the first turns are warming up, the rest is counted.

#[path = "../../tests/common/counting.rs"]
mod counting;
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
#[path = "exporter/fake.rs"]
#[allow(dead_code)] // the tests of exporters build more
mod fake;

use catseye_sensors::ars548::{read_detections, read_objects, read_status};
use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::Dbc;
use catseye_sensors::gnss::{GnssDecoder, GnssEvent};
use catseye_sensors::lidar::hesai::{HesaiCorrection, HesaiDecoder, HesaiModel};
use catseye_sensors::lidar::ouster::{OusterDecoder, OusterFrame, OusterGeometry, OusterImu, OusterMetadata};
use catseye_sensors::lidar::velodyne::{VelodyneCalibration, VelodyneDecoder, VelodyneModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::ClockId;

/// What `work` asks for.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = counting::allocations();
    work();
    counting::allocations() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1, 2, 3]))), 1);
}

/// Shared bytes are one owner each; the pictures themselves are none.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
fn pictures_of_an_exporter_ask_for_nothing() {
    use catseye_sensors::exporter::Exporter;
    let Some(fake) = fake::build(&[]) else { return };
    let mut exporter = Exporter::open(&fake.library, "rate_hz=0").unwrap();
    let mut next = || exporter.next_frame(std::time::Duration::from_secs(5)).unwrap().unwrap();
    let frames = allocations_of(|| {
        for _ in 0..200 {
            let (one, other) = (next(), next());
            assert!(one.whole().is_some() && one.sequence() < other.sequence());
        }
    });
    let shared = allocations_of(|| (0..200).for_each(|_| drop(next().into_bytes())));
    assert_eq!((frames, shared), (0, 200));
}

/// Packets of a lidar that turns ten times a second, some of them damaged, in two halves; the scans of each.
fn check_turning(mut decoder: impl LidarDecoder, packets: &[Vec<u8>]) {
    let mut scan = LidarScan::default();
    let (first, second) = packets.split_at(packets.len() / 2);
    let mut scans_of = |packets: &[Vec<u8>]| {
        let (mut scans, mut refused) = (0, 0);
        for packet in packets {
            match decoder.decode(packet, 1_000, &mut scan) {
                Ok(done) => scans += u32::from(done),
                Err(_) => refused += 1,
            }
        }
        (scans, refused)
    };
    assert!(scans_of(first).0 > 2, "both vectors have grown");
    let mut found = (0, 0);
    assert_eq!(allocations_of(|| found = scans_of(second)), 0);
    assert!(found.0 > 2 && found.1 > 2, "{found:?}");
}

/// Every fiftieth packet twice, once with a bit flipped in its first or last bytes.
fn with_damage(packets: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, packet) in packets.enumerate() {
        if number % 50 == 7 {
            let mut damaged = packet.clone();
            damaged[0] ^= 0x10;
            all.push(damaged);
            all.push(packet[1..].to_vec());
        }
        all.push(packet);
    }
    all
}

/// A packet of the VLP-16 in mode strongest or dual, `time_us` past the hour.
fn velodyne_packet(mode: u8, time_us: u32, first: u32, step: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0..12 {
        let group = if mode == 0x39 { block / 2 } else { block };
        bytes.extend([0xFF, 0xEE]);
        bytes.extend((((first + group * step) % 36_000) as u16).to_le_bytes());
        (0..32).for_each(|shot| bytes.extend([shot, 1 + block as u8, 9]));
    }
    bytes.extend(time_us.to_le_bytes());
    bytes.extend([mode, 0x22]);
    bytes
}

#[test]
fn velodyne_packets() {
    for (mode, period_us, turn) in [(0x37, 1327.104, 480), (0x39, 663.552, 240)] {
        let packet = |number: u32| velodyne_packet(mode, (f64::from(number) * period_us) as u32, number * turn, 40);
        let calibration = VelodyneCalibration::nominal(VelodyneModel::Vlp16);
        let decoder = VelodyneDecoder::new(calibration, Azimuth::default(), ClockId::Sensor);
        check_turning(decoder, &with_damage((0..8 * 36_000 / turn).map(packet)));
    }
}

/// A packet of the XT32 with its blocks 18 hundredths of a degree apart.
fn hesai_packet(mode: u8, micros: u32, first: u32) -> Vec<u8> {
    let mut bytes = vec![0xEE, 0xFF, 6, 1, 0, 0, 32, 8, 1, 4, 2, 0];
    for block in 0..8 {
        let group = if mode == 0x39 { block / 2 } else { block };
        bytes.extend((((first + group * 18) % 36_000) as u16).to_le_bytes());
        (0..32).for_each(|channel| bytes.extend([channel, 1 + block as u8, 9, 0]));
    }
    bytes.extend([0; 10]);
    bytes.extend([mode, 0, 0, 123, 1, 11, 0, 1, 51 + (micros / 1_000_000) as u8]);
    bytes.extend((micros % 1_000_000).to_le_bytes());
    bytes.push(0x42);
    bytes
}

#[test]
fn hesai_packets() {
    for (mode, period_us, turn) in [(0x37, 400, 144), (0x39, 200, 72)] {
        let packet = |number: u32| hesai_packet(mode, number * period_us, number * turn);
        let correction = HesaiCorrection::nominal(HesaiModel::PandarXt32);
        let decoder = HesaiDecoder::new(correction, Azimuth::default(), ClockId::Sensor);
        check_turning(decoder, &with_damage((0..8 * 36_000 / turn).map(packet)));
    }
}

const OUSTER: &str = r#"{
    "beam_altitude_angles": [20.0, 5.0, -5.0, -20.0], "beam_azimuth_angles": [4.0, 1.0, -1.0, -4.0],
    "data_format": {"column_window": [0, 31], "columns_per_frame": 32, "columns_per_packet": 8,
        "pixel_shift_by_row": [3, 2, -1, 0], "pixels_per_column": 4, "udp_profile_lidar": "RNG19_RFL8_SIG16_NIR16_DUAL"},
    "imu_to_sensor_transform": [1, 0, 0, 6, 0, 1, 0, -11, 0, 0, 1, 7, 0, 0, 0, 1],
    "lidar_origin_to_beam_origin_mm": 27.67,
    "lidar_to_sensor_transform": [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 36, 0, 0, 0, 1],
    "prod_line": "OS-0-32-U1", "prod_sn": "7", "udp_port_imu": 7503, "udp_port_lidar": 7502}"#;

fn ouster_packet(frame: u16, first: u16) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend(frame.to_le_bytes());
    bytes.extend([7, 0, 0, 7]);
    bytes.resize(32, 0);
    for measurement in first..first + 8 {
        bytes.extend((1_000_000 + u64::from(frame) * 100_000 + u64::from(measurement) * 100).to_le_bytes());
        bytes.extend(measurement.to_le_bytes());
        bytes.extend([1, 0]);
        (0..4).for_each(|row| bytes.extend([row + 1, 2, 0, 5, row, 3, 0, 5, 1, 0, 1, 0, 1, 0, 0, 0]));
    }
    bytes.resize(bytes.len() + 32, 0);
    bytes
}

#[test]
fn ouster_packets() {
    let metadata = OusterMetadata::from_json(OUSTER.as_bytes()).expect("metadata");
    let geometry = OusterGeometry::new(&metadata);
    let mut decoder = OusterDecoder::new(metadata);
    // every fifth frame lacks a packet
    let places = (0..20_u16).flat_map(|frame| (0..4).map(move |packet| (frame, packet * 8)));
    let there = places.filter(|(frame, first)| frame % 5 != 3 || *first != 16);
    let packets = with_damage(there.map(|(frame, first)| ouster_packet(frame, first)));
    let (mut frame, mut points) = (OusterFrame::default(), Vec::new());
    let mut frames_of = |packets: &[Vec<u8>]| {
        let (mut frames, mut refused) = (0, 0);
        for packet in packets {
            let _ = OusterImu::decode(packet);
            match decoder.decode(packet, &mut frame) {
                Ok(true) => frames += u32::from(geometry.points(&frame, &mut points).points > 100),
                Ok(false) => {}
                Err(_) => refused += 1,
            }
        }
        (frames, refused)
    };
    let (first, second) = packets.split_at(packets.len() / 2);
    assert!(frames_of(first).0 > 5);
    let mut found = (0, 0);
    assert_eq!(allocations_of(|| found = frames_of(second)), 0);
    assert!(found.0 > 5 && found.1 > 0, "{found:?}");
}

/// A message of the ARS548 with that many entries of zeros.
fn ars548_message(method: u16, length: usize, count_at: usize, count: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[2..4].copy_from_slice(&method.to_be_bytes());
    bytes[4..8].copy_from_slice(&(length as u32 - 8).to_be_bytes());
    if let Some(place) = bytes.get_mut(count_at) {
        *place = count;
    }
    bytes
}

#[test]
fn ars548_messages() {
    let detections = [200, 40, 255].map(|count| ars548_message(336, 35_336, 35_312, count));
    let objects = [50, 3, 51].map(|count| ars548_message(329, 9_401, 50, count));
    let status = ars548_message(380, 84, usize::MAX, 0);
    let (mut found_detections, mut found_objects) = (Vec::with_capacity(800), Vec::with_capacity(50));
    let mut read_all = || {
        let mut counts = [0; 3];
        for message in detections.iter().chain(&objects).chain([&status]) {
            counts[0] += read_detections(message, &mut found_detections).map_or(0, |_| found_detections.len());
            counts[1] += read_objects(message, &mut found_objects).map_or(0, |_| found_objects.len());
            counts[2] += usize::from(read_status(message).is_ok());
        }
        counts
    };
    let warm = read_all();
    let mut found = [0; 3];
    assert_eq!(allocations_of(|| found = read_all()), 0);
    assert_eq!((warm, found), ([495, 53, 1], [495, 53, 1]));
}

fn sentence(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n").into_bytes()
}

fn ubx(message: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut summed = message.to_vec();
    summed.extend((payload.len() as u16).to_le_bytes());
    summed.extend(payload);
    let (a, b) = summed.iter().fold((0_u8, 0_u8), |(a, b), byte| {
        let a = a.wrapping_add(*byte);
        (a, b.wrapping_add(a))
    });
    [vec![0xB5, 0x62], summed, vec![a, b]].concat()
}

#[test]
fn receivers_streams() {
    let mut stream = Vec::new();
    for second in 0..50_u32 {
        let time = format!("1234{second:02}.00");
        for body in [
            format!("GNGGA,{time},4134.49,N,09345.03,W,2,10,0.9,278.1,M,-31.4,M,6.6,0133"),
            format!("GNRMC,{time},A,4134.49,N,09345.03,W,10,90,311223,,"),
            "GNGSA,A,3,01,02,,,,,,,,,,,1.5,1.0,1.1".to_string(),
            "GPGSV,1,1,01,66,37,078,27".to_string(),
            "GPXYZ,unknown".to_string(),
            format!("GNGGA,{time},9999.99,N,,,,,,,,,,,"),
        ] {
            stream.extend(sentence(&body));
        }
        let mut pvt = [0; 92];
        pvt[..4].copy_from_slice(&(second * 1000).to_le_bytes());
        pvt[20..22].copy_from_slice(&[3, 1]);
        stream.extend(ubx([1, 7], &pvt));
        stream.extend(ubx([1, 0x61], &(second * 1000).to_le_bytes()));
        stream.extend(b"noise \xB5\x62$GPHDT,1*00\r\n");
    }
    let (mut decoder, mut events) = (GnssDecoder::default(), Vec::with_capacity(16));
    let mut fixes_of = |bytes: &[u8]| {
        let mut fixes = 0;
        for chunk in bytes.chunks(61) {
            decoder.push(chunk, &mut events);
            fixes += events.drain(..).filter(|event| matches!(event, GnssEvent::Fix(_))).count();
        }
        fixes
    };
    let (first, second) = stream.split_at(stream.len() / 2);
    assert!(fixes_of(first) > 40);
    let mut fixes = 0;
    assert_eq!(allocations_of(|| fixes = fixes_of(second)), 0);
    assert!(fixes > 40, "{fixes}");
}

const DBC: &str = r#"VERSION ""

BO_ 256 MUXED: 8 XXX
 SG_ SWITCH M : 0|8@1+ (1,0) [0|0] "" XXX
 SG_ ONE m1 : 8|8@1- (0.5,10) [0|0] "deg" XXX
 SG_ TWO m2 : 15|16@0+ (1,0) [0|0] "" XXX

BO_ 2147483904 FLOATS: 12 XXX
 SG_ SINGLE : 0|32@1- (2,1) [0|0] "" XXX
 SG_ DOUBLE : 33|63@1- (1,0) [0|0] "" XXX

SIG_VALTYPE_ 2147483904 SINGLE : 1;
"#;

#[test]
fn can_frames() {
    let dbc = Dbc::parse(DBC.as_bytes(), "test.dbc").expect("a DBC file");
    let signal = dbc.signal("MUXED.ONE").expect("a signal");
    let mut found = 0;
    let allocations = allocations_of(|| {
        for number in 0..=255 {
            let short = CanFrame::new(256, false, false, 0, &[number % 4, 2, 3, 4, 5, 6, 7, 8]).expect("a frame");
            let long = CanFrame::new(256, true, true, 0, &[number; 12]).expect("a frame");
            let other = CanFrame::new(257, false, false, 0, &[number]).expect("a frame");
            for frame in [short, long, other] {
                found += dbc.decode_all(&frame, &mut |_, _| {}) + usize::from(dbc.decode(signal, &frame).is_some());
            }
        }
    });
    assert_eq!((allocations, found), (0, 256 + 64 + 64 + 64 + 512));
}
