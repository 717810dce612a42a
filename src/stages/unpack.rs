//! Unpack: packets become pictures and points.
//!
//! Reads a tick's packets, writes the cameras' frames and the lidars' points. Stateless, so ticks unpack side by side; pixels
//! that came without a header are not copied where they can be read as they lie, and go from the packet to the frame. Those of a sensor
//! with a mosaic that the rig knows of stay raw until somebody wants pixels; others are developed here. Pictures of a video come
//! decoded already, since their decoder needs every picture before. A packet that cannot be unpacked leaves its sensor absent
//! from the tick and is named in a fault.

use std::fmt::Write;
use std::sync::Arc;

use catseye_calibration::rig::{Camera, IspSettings, Rig};
use catseye_sensors::memory::SharedBytes;
use catseye_sensors::picture::{Limits, decode_picture, show_raw};

use super::preprocess::raw::{BayerPattern, Isp, MosaicLayout, RawError, pattern_of};
use super::{CameraSlot, Tick};
use crate::log::packet::Content;
use crate::runtime::digest::Digester;
use crate::runtime::graph::{Fields, NO_GROUP, Stage, StageError};

/// The stage.
pub struct Unpack {
    limits: Limits,
    /// Per camera what the rig says of its pictures.
    isps: Vec<CameraIsp>,
}

/// What raw formats are counted from in digests, behind all pixel formats.
const RAW: u8 = 128;

/// What the rig says of a camera, and what was made of it for its first raw picture.
#[derive(Default)]
struct CameraIsp {
    full_range: bool,
    settings: IspSettings,
    /// The mosaic, if its pictures are raw.
    pattern: Option<BayerPattern>,
    isp: Option<Arc<Isp>>,
}

impl Unpack {
    /// For the cameras of a rig, with limits on the size of pictures.
    pub fn new(limits: Limits, rig: &Rig) -> Self {
        let of = |camera: &Camera| CameraIsp {
            full_range: camera.full_range,
            settings: camera.isp.unwrap_or_default(),
            pattern: pattern_of(camera),
            isp: None,
        };
        Unpack { limits, isps: rig.cameras.iter().map(of).collect() }
    }
}

/// Takes a sensor's pixels.
fn take_raw(
    layout: &MosaicLayout,
    bytes: &SharedBytes,
    CameraIsp { settings, pattern: of_rig, isp, .. }: &mut CameraIsp,
    camera: &mut CameraSlot,
    limits: &Limits,
) -> Result<(), RawError> {
    let pattern = layout.pattern;
    let kept = isp.take().filter(|isp| isp.pattern == pattern);
    let isp = isp.insert(kept.unwrap_or_else(|| Arc::new(Isp::of_rig(pattern, settings))));
    camera.raw.keep(layout, isp, bytes, limits)?;
    // nobody behind this can be ready for a mosaic that the rig does not have
    if *of_rig == Some(pattern) { Ok(()) } else { camera.develop() }
}

impl Stage<Tick> for Unpack {
    fn name(&self) -> &'static str {
        "unpack"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        let Tick { packets, cameras, lidars, .. } = tick;
        for (sensor, camera) in cameras.iter_mut().enumerate() {
            // slots are used again: what the last tick left must not be seen, or bits would depend on their number
            camera.present = false;
            camera.raw.forget();
            camera.stamp_ns = 0;
            camera.sequence = 0;
            camera.seen.sensor = sensor as u16;
        }
        lidars.iter_mut().for_each(|lidar| {
            lidar.present = false;
            lidar.stamp_ns = 0;
            lidar.points.clear();
        });
        self.isps.resize_with(cameras.len(), CameraIsp::default);
        let mut faults = String::new();
        for packet in packets.iter_mut() {
            let sensor = usize::from(packet.header.sensor.0);
            let stamp_ns = packet.header.stamp.mapped_ns;
            let result = if let Some((camera, isp)) = cameras.get_mut(sensor).zip(self.isps.get_mut(sensor)) {
                camera.stamp_ns = stamp_ns;
                camera.sequence = packet.header.sequence;
                let result = match &mut packet.content {
                    Content::Picture { encoding, bytes } => {
                        decode_picture(*encoding, bytes, &mut camera.frame, &self.limits).map_err(|e| e.to_string())
                    }
                    Content::Raw { layout, bytes } => {
                        let bytes = std::mem::take(bytes);
                        layout.full_range = isp.full_range;
                        show_raw(layout, bytes, &mut camera.frame, &self.limits).map_err(|e| e.to_string())
                    }
                    Content::Mosaic { layout, bytes } => {
                        let bytes = std::mem::take(bytes);
                        take_raw(layout, &bytes, isp, camera, &self.limits).map_err(|e| e.to_string())
                    }
                    Content::Frame(frame) => {
                        camera.frame.receive(frame);
                        Ok(())
                    }
                    _ => Err("expected a picture on a camera's channel".to_owned()),
                };
                camera.present = result.is_ok();
                result
            } else if let Some(lidar) = lidars.get_mut(sensor - cameras.len()) {
                lidar.stamp_ns = stamp_ns;
                let result = match &packet.content {
                    Content::Cloud(cloud) => cloud.unpack(&mut lidar.points).map(|_| ()),
                    _ => Err("expected points on a lidar's channel".to_owned()),
                };
                lidar.present = result.is_ok();
                result
            } else {
                continue;
            };
            if let Err(error) = result {
                let (sequence, gap) = (packet.header.sequence, if faults.is_empty() { "" } else { "; " });
                let _ = write!(faults, "{gap}sensor {sensor}, packet {sequence}: {error}");
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) }
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        let mut headers = Digester::new();
        for packet in &tick.packets {
            headers.update(&packet.header.sensor.0.to_le_bytes());
            headers.update(&packet.header.sequence.to_le_bytes());
            headers.update(&packet.header.stamp.mapped_ns.to_le_bytes());
        }
        fields.add(NO_GROUP, "packets", headers.finish());
        for (sensor, camera) in tick.cameras.iter().enumerate().filter(|(_, camera)| camera.present) {
            let mut digester = Digester::new();
            for size_px in camera.size_px() {
                digester.update(&size_px.to_le_bytes());
            }
            let kind = match camera.raw.layout() {
                Some(layout) => [RAW + layout.format as u8, layout.pattern as u8],
                None => [camera.frame.format() as u8, u8::from(camera.frame.full_range())],
            };
            digester.update(&kind);
            digester.update(camera.host_bytes());
            fields.add(sensor as u16, "frame", digester.finish());
        }
        for (lidar, slot) in tick.lidars.iter().enumerate().filter(|(_, slot)| slot.present) {
            let mut digester = Digester::new();
            for point in &slot.points {
                for value in [point.x_m, point.y_m, point.z_m, point.intensity] {
                    digester.update(&value.to_le_bytes());
                }
                digester.update(&point.offset_ns.to_le_bytes());
                digester.update(&point.ring.to_le_bytes());
            }
            fields.add((tick.cameras.len() + lidar) as u16, "points", digester.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::PictureFormat;
    use catseye_sensors::packet::{PacketHeader, SensorId, Stamp};
    use catseye_sensors::picture::convert::to_rgb8;
    use catseye_sensors::picture::{Frame, PixelFormat};
    use foxglove::bytes::Bytes;

    use super::super::preprocess::raw::{RawFormat, RawPicture};
    use super::*;
    use crate::log::packet::{SensorPacket, raw_layout};

    fn packet(content: Content) -> SensorPacket {
        SensorPacket { header: PacketHeader { sensor: SensorId(0), sequence: 0, stamp: Stamp::of_arrival(0) }, content }
    }

    #[test]
    fn the_rig_says_which_range_luma_has() {
        for (full_range, grey) in [(false, 0), (true, 16)] {
            let mut rig = Rig::default_camera(4, 2);
            (rig.cameras[0].format, rig.cameras[0].full_range) = (PictureFormat::Nv12, full_range);
            let bytes = Bytes::from([[16; 8].as_slice(), &[128; 4]].concat());
            let content = Content::Raw { layout: raw_layout(4, 2, PixelFormat::Nv12, 0), bytes: bytes.into() };
            let mut tick = Tick::new(1, 0, &[]);
            tick.packets = vec![packet(content)];
            Unpack::new(Limits::default(), &rig).run(&mut tick).unwrap();
            let mut rgb = Vec::new();
            to_rgb8(&tick.cameras[0].frame, &mut rgb);
            assert_eq!(rgb, [grey; 24], "full range {full_range}");
        }
    }

    #[test]
    fn raw_pictures_wait_where_the_rig_knows_of_them() {
        let (format, pattern) = (RawFormat::Raw10Packed, BayerPattern::Grbg);
        let settings = IspSettings { white_balance: [1.5, 1.0, 2.0], ..IspSettings::default() };
        let bytes: Vec<u8> = (0..20_u8).map(|byte| byte.wrapping_mul(37)).collect();
        let layout = MosaicLayout { width_px: 7, height_px: 2, format, pattern, stride_bytes: None };
        let mut expected = Frame::default();
        let raw = RawPicture { bytes: &bytes, width_px: 7, height_px: 2, format, stride_bytes: None };
        Isp::of_rig(pattern, &settings).develop(&raw, &mut expected).unwrap();

        let other = PictureFormat::Bayer { pattern: BayerPattern::Rggb, bits: 10 };
        let known = PictureFormat::Bayer { pattern, bits: 12 };
        for (rig_format, waits) in [(known, true), (other, false), (PictureFormat::Nv12, false)] {
            let mut rig = Rig::default_camera(7, 2);
            (rig.cameras[0].format, rig.cameras[0].isp) = (rig_format, Some(settings));
            let mut unpack = Unpack::new(Limits::default(), &rig);
            let mut tick = Tick::new(1, 0, &[]);
            let bytes = Bytes::from(bytes.clone());
            tick.packets = vec![packet(Content::Mosaic { layout, bytes: bytes.clone().into() })];
            unpack.run(&mut tick).unwrap();
            let camera = &mut tick.cameras[0];
            assert_eq!((camera.present, camera.size_px()), (true, [7, 2]));
            assert_eq!((camera.raw.layout().is_some(), camera.host_bytes().as_ptr() == bytes.as_ptr()), (waits, waits));
            camera.develop().unwrap();
            assert_eq!((&camera.frame, camera.raw.layout()), (&expected, None));

            // the next tick has none, or a damaged one
            tick.packets = vec![packet(Content::Mosaic { layout, bytes: bytes.slice(1..).into() })];
            let words = unpack.run(&mut tick).unwrap_err().0;
            assert!(words.contains("expected 20 bytes of a raw picture, found 19"), "{words}");
            assert_eq!((tick.cameras[0].present, tick.cameras[0].raw.layout()), (false, None));
        }
    }
}
