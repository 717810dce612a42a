//! Messages of sensors in a log: a byte that names the schema, then the message. Pictures and points are unpacked, too.
#![no_main]

use std::sync::Arc;

use catseye::log::Channel;
use catseye::log::packet::{Content, StampInfo, read_packet};
use catseye::log::reader::Message;
use catseye_sensors::packet::SensorId;
use catseye_sensors::picture::{Frame, Limits, decode_picture, show_raw};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_width_px: 2048, max_height_px: 2048, max_bytes: 4 << 20 };

/// Message encoding and schema name.
const SCHEMAS: [(&str, &str); 13] = [
    ("protobuf", "foxglove.CompressedImage"),
    ("protobuf", "foxglove.CompressedVideo"),
    ("protobuf", "foxglove.RawImage"),
    ("protobuf", "foxglove.PointCloud"),
    ("protobuf", "foxglove.LocationFix"),
    ("cdr", "catseye_msgs/msg/CanMessage"),
    ("cdr", "catseye_msgs/msg/ImuSample"),
    ("cdr", "catseye_msgs/msg/RadarScan"),
    ("cdr", "sensor_msgs/msg/Image"),
    ("cdr", "sensor_msgs/msg/CompressedImage"),
    ("cdr", "sensor_msgs/msg/PointCloud2"),
    ("cdr", "sensor_msgs/msg/Imu"),
    ("cdr", "sensor_msgs/msg/NavSatFix"),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, data)) = bytes.split_first() else { return };
    let (message_encoding, schema_name) = SCHEMAS[usize::from(*kind) % SCHEMAS.len()];
    let channel = Arc::new(Channel {
        topic: "/fuzz".to_owned(),
        message_encoding: message_encoding.to_owned(),
        schema_name: schema_name.to_owned(),
        schema_encoding: String::new(),
        schema: Vec::new().into(),
        metadata: Default::default(),
    });
    let message = Message { channel: &channel, channel_id: 1, sequence: 0, log_ns: 0, publish_ns: 0, data };
    let Ok(Some(packet)) = read_packet(&message, SensorId(0), &StampInfo::SYNTHETIC) else { return };
    let mut frame = Frame::default();
    match packet.content {
        Content::Picture { encoding, bytes } => drop(decode_picture(encoding, &bytes, &mut frame, &LIMITS)),
        Content::Raw { layout, bytes } => drop(show_raw(&layout, bytes, &mut frame, &LIMITS)),
        Content::Cloud(cloud) => drop(cloud.unpack(&mut Vec::new())),
        _ => {}
    }
});
