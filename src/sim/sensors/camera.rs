//! The camera: pictures as a rig's camera would take them, and what is true of each.
//!
//! The lens, the shutter and the format come from the rig, the scene from the world; a message for the log goes out, with
//! the boxes of all road users and the mask of the road. Every row of a rolling shutter sees the world at its own instant.
//! [`CameraSensor::render`] makes the light and the truth, [`CameraSensor::develop`] what the sensor's chip and its
//! encoder make of the light. Both are pure functions of the world, the stamp and the picture's number.

use catseye_calibration::camera::{CameraModel, Projection};
use catseye_calibration::pose::Pose;
use catseye_calibration::rig::{BayerPattern, Camera, PictureFormat, Rig};
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::Encode;
use foxglove::messages::{CompressedImage, RawImage};
use nalgebra::{Matrix3, Vector2, Vector3};

use super::{Message, SimulatedSensor};
use crate::log::Channel;
use crate::log::packet::{StampInfo, picture_message, timestamp};
use crate::messages::BoxPx;
use crate::sim::EPOCH_NS;
use crate::sim::random::Random;
use crate::sim::road::{Ground, Surface};
use crate::sim::scenario::{ActorKind, Light};
use crate::sim::scene::{Body, Ray, Scene, Target};
use crate::sim::shade::shade;
use crate::sim::world::World;
use crate::truth::{MASK_DRIVABLE, MASK_LANE, MASK_OTHER, TruthBox, TruthBoxes, TruthMask};

/// Stamp of the first picture.
const FIRST_NS: i64 = 50_000_000;
/// Time from the exposure of the last row to the arrival of the picture.
const TRANSFER_NS: i64 = 15_000_000;
/// How much further than its last row a picture needs the world.
const MARGIN_NS: i64 = 10_000_000;
/// Rows and columns of the tiles that are cast as one bundle.
const TILE_PX: [usize; 2] = [16, 32];
/// Share of a pixel that must be painted to count as a lane marking.
const LANE_SHARE: f64 = 0.35;
/// Most pixels of a mask that is decoded.
const MAX_MASK_PIXELS: u64 = 64 << 20;
/// Bytes of a run of a mask.
const RUN_BYTES: usize = 5;
/// Variance of a white pixel from the counting of electrons, at a gain of 1: a well of 12 000 electrons.
const SHOT_VARIANCE: f32 = 1.0 / 12_000.0;
/// Deviation from reading a pixel out, at a gain of 1.
const READ_DEVIATION: f32 = 0.000_6;
/// Entries of the gamma table.
const GAMMA_ENTRIES: usize = 4096;
/// Height of the headlights above the ground, and how much they point down.
const HEADLIGHT_HEIGHT_M: f64 = 0.65;
const HEADLIGHT_DOWN: f64 = 0.01;

/// What a camera leaves open that no rig says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameraOptions {
    /// Quality of JPEG pictures, 1 to 100.
    pub jpeg_quality: u8,
}

impl Default for CameraOptions {
    fn default() -> Self {
        CameraOptions { jpeg_quality: 90 }
    }
}

/// A camera of a rig.
pub struct CameraSensor {
    name: String,
    topic: String,
    width_px: usize,
    height_px: usize,
    format: PictureFormat,
    full_range: bool,
    rate_hz: f64,
    rolling_ns: f64,
    lens: CameraModel,
    vehicle_from_camera: Pose,
    /// Where the headlights are in the vehicle frame.
    headlights_m: Vector3<f64>,
    /// Unit ray of each pixel in the camera frame; zero outside the lens.
    rays: Vec<[f32; 3]>,
    /// Angle between neighbouring pixels at the picture's centre.
    angle_rad: f64,
    /// The sRGB curve, from linear light to 16 bits.
    gamma: Vec<u16>,
    random: Random,
    options: CameraOptions,
}

/// A picture before the chip: light and truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Columns.
    pub width_px: u32,
    /// Rows.
    pub height_px: u32,
    /// The light that the exposure is set for.
    pub light: Light,
    /// Light of each pixel, row by row: red, green, blue, linear; 1 is a white surface in full daylight.
    pub linear: Vec<[f32; 3]>,
    /// The road users in the picture.
    pub boxes: TruthBoxes,
    /// The road in the picture.
    pub mask: TruthMask,
}

/// What the simulator does differently from what the rig says of a camera, if anything.
pub fn assumption(camera: &Camera) -> Option<String> {
    let name = &camera.name;
    (camera.format == PictureFormat::H264).then(|| {
        format!("camera {name:?}: the rig says h264, which the simulator does not encode: its pictures are JPEG files")
    })
}

/// The instant of a row and the camera's place then.
struct Row {
    delay_s: f64,
    world_from_camera: Pose,
    rotation: Matrix3<f64>,
}

/// Pixels as they are counted: how many, and between which columns and rows.
#[derive(Clone, Copy, Debug)]
struct Pixels {
    count: u32,
    low: [u32; 2],
    high: [u32; 2],
}

impl Pixels {
    const NONE: Pixels = Pixels { count: 0, low: [u32::MAX; 2], high: [0; 2] };

    fn add(&mut self, x: u32, y: u32) {
        self.count += 1;
        self.low = [self.low[0].min(x), self.low[1].min(y)];
        self.high = [self.high[0].max(x), self.high[1].max(y)];
    }

    fn bounds(&self) -> Bounds {
        let [left, top] = self.low.map(f64::from);
        let [right, bottom] = self.high.map(|edge| f64::from(edge) + 1.0);
        Bounds { low: [left, top], high: [right, bottom] }
    }
}

/// A box in a picture; a single pixel at (0, 0) has the corners (0, 0) and (1, 1).
#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: [f64; 2],
    high: [f64; 2],
}

impl Bounds {
    const NONE: Bounds = Bounds { low: [f64::INFINITY; 2], high: [f64::NEG_INFINITY; 2] };

    fn with(&self, other: &Bounds) -> Bounds {
        Bounds {
            low: [self.low[0].min(other.low[0]), self.low[1].min(other.low[1])],
            high: [self.high[0].max(other.high[0]), self.high[1].max(other.high[1])],
        }
    }

    fn clipped(&self, width_px: f64, height_px: f64) -> Bounds {
        let clip = |[x, y]: [f64; 2]| [x.clamp(0.0, width_px), y.clamp(0.0, height_px)];
        Bounds { low: clip(self.low), high: clip(self.high) }
    }

    fn area(&self) -> f64 {
        (self.high[0] - self.low[0]).max(0.0) * (self.high[1] - self.low[1]).max(0.0)
    }

    fn box_px(&self) -> BoxPx {
        let ([left, top], [right, bottom]) = (self.low, self.high);
        BoxPx { left: left as f32, top: top as f32, right: right as f32, bottom: bottom as f32 }
    }
}

/// What a picture shows of one body.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Pixels that show it.
    visible: Pixels,
    /// Pixels that would show it if nothing hid it.
    whole: Pixels,
}

/// What all rays brought back.
struct Exposed {
    linear: Vec<[f32; 3]>,
    /// What each pixel shows of the road.
    mask: Vec<u8>,
    /// One per body of the scene.
    seen: Vec<Seen>,
}

fn pose_of([x_m, y_m, yaw_rad]: [f64; 3]) -> Pose {
    Pose::from_xyz_rpy([x_m, y_m, 0.0], [0.0, 0.0, yaw_rad])
}

/// A point of a body in the world, some time after the scene's instant.
fn body_point(body: &Body, point_m: Vector3<f64>, delay_s: f64) -> Vector3<f64> {
    let ([x_m, y_m, yaw_rad], [vx_mps, vy_mps]) = (body.pose, body.velocity_mps);
    let yaw_rad = yaw_rad + body.yaw_rate_radps * delay_s;
    pose_of([x_m + vx_mps * delay_s, y_m + vy_mps * delay_s, yaw_rad]).transform_point(&point_m)
}

/// Level distance from a point of the world to the rectangle that a body stands on; 0 inside.
fn distance_m(body: &Body, x_m: f64, y_m: f64) -> f64 {
    let [body_x_m, body_y_m, yaw_rad] = body.pose;
    let (sin, cos) = libm::sincos(yaw_rad);
    let (dx_m, dy_m) = (x_m - body_x_m, y_m - body_y_m);
    let [low_x_m, low_y_m, _] = body.look.min_m;
    let [high_x_m, high_y_m, _] = body.look.max_m;
    let beyond = |along_m: f64, low_m: f64, high_m: f64| (low_m - along_m).max(along_m - high_m).max(0.0);
    let ahead_m = beyond(cos * dx_m + sin * dy_m, low_x_m, high_x_m);
    let aside_m = beyond(cos * dy_m - sin * dx_m, low_y_m, high_y_m);
    (ahead_m * ahead_m + aside_m * aside_m).sqrt()
}

fn corners_m(body: &Body) -> impl Iterator<Item = Vector3<f64>> {
    let ([low_x, low_y, low_z], [high_x, high_y, high_z]) = (body.look.min_m, body.look.max_m);
    (0..8_u8).map(move |corner| {
        let pick = |bit: u8, low: f64, high: f64| if corner & bit == 0 { low } else { high };
        Vector3::new(pick(1, low_x, high_x), pick(2, low_y, high_y), pick(4, low_z, high_z))
    })
}

fn mask_value(surface: &Surface) -> u8 {
    if surface.ground != Ground::Asphalt {
        return MASK_OTHER;
    }
    if surface.is_lane_marking && surface.painted > LANE_SHARE { MASK_LANE } else { MASK_DRIVABLE }
}

/// The runs of a [`TruthMask`].
fn encode_runs(values: &[u8]) -> Vec<u8> {
    let mut runs = Vec::new();
    for run in values.chunk_by(|left, right| left == right) {
        let Some(value) = run.first() else { continue };
        let mut left = run.len();
        while left > 0 {
            let length = u32::try_from(left).unwrap_or(u32::MAX);
            runs.push(*value);
            runs.extend_from_slice(&length.to_le_bytes());
            left -= length as usize;
        }
    }
    runs
}

/// The values of a mask, row by row. None where the runs do not fit the size, hold a value that no mask has, or the
/// mask has more than 64 Mi pixels.
pub fn decode_mask(mask: &TruthMask) -> Option<Vec<u8>> {
    let pixels = u64::from(mask.width_px) * u64::from(mask.height_px);
    let (runs, rest) = mask.runs.as_chunks::<RUN_BYTES>();
    if pixels > MAX_MASK_PIXELS || !rest.is_empty() {
        return None;
    }
    let read = |&[value, length @ ..]: &[u8; RUN_BYTES]| (value, u32::from_le_bytes(length));
    let total: u64 = runs.iter().map(|run| u64::from(read(run).1)).sum();
    if total != pixels || runs.iter().any(|run| read(run).0 > MASK_LANE) {
        return None;
    }
    let mut values = Vec::with_capacity(usize::try_from(pixels).ok()?);
    for (value, length) in runs.iter().map(read) {
        values.resize(values.len() + length as usize, value);
    }
    Some(values)
}

/// The sRGB curve (IEC 61966-2-1) from linear light in steps of 1/4095 to 16 bits.
fn gamma_table() -> Vec<u16> {
    let curve = |linear: f64| {
        if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * libm::pow(linear, 1.0 / 2.4) - 0.055 }
    };
    let last = (GAMMA_ENTRIES - 1) as f64;
    (0..GAMMA_ENTRIES).map(|step| (curve(step as f64 / last) * 65_535.0).round() as u16).collect()
}

/// Gain of the chip, set by the light.
fn gain(light: Light) -> f32 {
    match light {
        Light::Day => 1.0,
        Light::Dusk => 2.2,
        Light::Night => 6.0,
    }
}

/// A 16-bit sample in 8 bits, rounded.
fn byte(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32_768) >> 16) as u8
}

/// The channel, 0 for red to 2 for blue, of a pixel of a raw picture.
fn bayer_channel(pattern: BayerPattern, x: usize, y: usize) -> usize {
    // green has one step from red, blue has two
    let [red_x, red_y] = pattern.red();
    usize::from(x % 2 != red_x) + usize::from(y % 2 != red_y)
}

/// Luma of BT.601, 16 to 235 or 0 to 255, in units of 1/256.
fn luma([red, green, blue]: [i32; 3], full_range: bool) -> u8 {
    if full_range {
        return ((77 * red + 150 * green + 29 * blue + 128) >> 8) as u8;
    }
    (((66 * red + 129 * green + 25 * blue + 128) >> 8) + 16) as u8
}

/// Chroma of BT.601, 16 to 240 or 1 to 255, in units of 1/256: u, v.
fn chroma([red, green, blue]: [i32; 3], full_range: bool) -> [u8; 2] {
    let [u, v] = if full_range {
        [-43 * red - 84 * green + 127 * blue, 127 * red - 106 * green - 21 * blue]
    } else {
        [-38 * red - 74 * green + 112 * blue, 112 * red - 94 * green - 18 * blue]
    };
    [u, v].map(|value| (((value + 128) >> 8) + 128) as u8)
}

/// A picture of red, green and blue bytes, and of which range its luma and chroma are to be.
struct Rgb<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
    full_range: bool,
}

impl Rgb<'_> {
    /// The pixel at a place; beyond the right and the lower edge the last one.
    fn at(&self, x: usize, y: usize) -> [i32; 3] {
        let pixel = y.min(self.height.saturating_sub(1)) * self.width + x.min(self.width.saturating_sub(1));
        let bytes = self.bytes.get(3 * pixel..).and_then(|rest| rest.first_chunk::<3>());
        bytes.map_or([0; 3], |bytes| bytes.map(i32::from))
    }

    /// Mean of a block of pixels of this height and two columns, its left column even.
    fn mean(&self, x: usize, y: usize, rows: usize) -> [i32; 3] {
        let mut sum = [0; 3];
        for row in 0..rows {
            for column in 0..2 {
                for (sum, value) in sum.iter_mut().zip(self.at(x + column, y + row)) {
                    *sum += value;
                }
            }
        }
        let count = 2 * rows as i32;
        sum.map(|sum| (sum + count / 2) / count)
    }

    fn luma_plane(&self) -> Vec<u8> {
        self.bytes.as_chunks::<3>().0.iter().map(|pixel| luma(pixel.map(i32::from), self.full_range)).collect()
    }

    /// Chroma of all blocks of 2 x 2 pixels.
    fn chroma_blocks(&self) -> impl Iterator<Item = [u8; 2]> + '_ {
        let blocks = (0..self.height).step_by(2).flat_map(|y| (0..self.width).step_by(2).map(move |x| (x, y)));
        blocks.map(|(x, y)| chroma(self.mean(x, y, 2), self.full_range))
    }

    fn nv12(&self) -> Vec<u8> {
        let mut bytes = self.luma_plane();
        bytes.extend(self.chroma_blocks().flatten());
        bytes
    }

    fn i420(&self) -> Vec<u8> {
        let mut bytes = self.luma_plane();
        bytes.extend(self.chroma_blocks().map(|[u, _]| u));
        bytes.extend(self.chroma_blocks().map(|[_, v]| v));
        bytes
    }

    /// Four bytes for two pixels of a row, made of both lumas, u and v.
    fn quads(&self, quad: impl Fn(u8, u8, u8, u8) -> [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * self.width.div_ceil(2) * self.height);
        for y in 0..self.height {
            for x in (0..self.width).step_by(2) {
                let [u, v] = chroma(self.mean(x, y, 1), self.full_range);
                let [first, second] = [x, x + 1].map(|x| luma(self.at(x, y), self.full_range));
                bytes.extend_from_slice(&quad(first, second, u, v));
            }
        }
        bytes
    }

    /// As a JPEG file; empty where the picture is larger than JPEG allows.
    fn jpeg(&self, quality: u8) -> Vec<u8> {
        let (Ok(width), Ok(height)) = (u16::try_from(self.width), u16::try_from(self.height)) else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, quality.clamp(1, 100));
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::R_4_2_0);
        match encoder.encode(self.bytes, width, height, jpeg_encoder::ColorType::Rgb) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }

    /// As a PNG file; empty where the encoder gives up.
    fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.write_png(&mut bytes) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }

    fn write_png(&self, bytes: &mut Vec<u8>) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.bytes)?;
        writer.finish()
    }
}

impl CameraSensor {
    /// The rig's camera of this index; none where it has fewer. The chance that makes its noise is a stream of `random`
    /// named after the camera.
    pub fn new(rig: &Rig, index: usize, random: Random, options: CameraOptions) -> Option<Self> {
        let camera = rig.cameras.get(index)?;
        let lens = camera.intrinsics;
        let rays = (0..camera.height_px).flat_map(|y| (0..camera.width_px).map(move |x| [x, y].map(f64::from)));
        let rays = rays.map(|[x, y]| match lens.unproject(&Vector2::new(x, y)) {
            Some(ray) => [ray.x as f32, ray.y as f32, ray.z as f32],
            None => [0.0; 3],
        });
        let (length_m, overhang_m) = (rig.vehicle.length_m, rig.vehicle.rear_overhang_m);
        Some(CameraSensor {
            name: camera.name.clone(),
            topic: camera.topic.clone(),
            width_px: camera.width_px as usize,
            height_px: camera.height_px as usize,
            format: camera.format,
            full_range: camera.full_range,
            rate_hz: camera.rate_hz,
            rolling_ns: camera.rolling_shutter_ms.unwrap_or(0.0).max(0.0) * 1e6,
            lens,
            vehicle_from_camera: camera.mounting.vehicle_from_sensor(),
            headlights_m: Vector3::new(length_m - overhang_m, 0.0, HEADLIGHT_HEIGHT_M),
            rays: rays.collect(),
            angle_rad: pixel_angle_rad(&lens, camera.width_px, camera.height_px),
            gamma: gamma_table(),
            random: random.stream(&camera.name),
            options,
        })
    }

    /// The light and the truth of the picture with this stamp.
    pub fn render(&self, world: &World, stamp_ns: i64) -> Rendered {
        let scene = world.scene(stamp_ns);
        let ego = world.ego(stamp_ns).pose;
        let rows = self.rows(|time_ns| world.ego(time_ns).pose, stamp_ns);
        let headlights = (scene.light == Light::Night).then(|| {
            let vehicle = pose_of(ego);
            let ahead = Vector3::new(1.0, 0.0, -HEADLIGHT_DOWN).normalize();
            (vehicle.transform_point(&self.headlights_m), vehicle.rotate(&ahead))
        });
        let exposed = self.expose(&scene, &rows, headlights);
        let kind_of = |id: u32| world.actors.iter().find(|actor| actor.id == id).map(|actor| actor.kind);
        let boxes = self.boxes(&scene, &rows, &exposed.seen, ego, kind_of);
        let (width_px, height_px) = (self.width_px as u32, self.height_px as u32);
        let mask = TruthMask { width_px, height_px, runs: encode_runs(&exposed.mask) };
        Rendered { width_px, height_px, light: scene.light, linear: exposed.linear, boxes, mask }
    }

    /// When each row is exposed and where the camera is then, the vehicle's pose being known at any time.
    fn rows(&self, ego: impl Fn(i64) -> [f64; 3], stamp_ns: i64) -> Vec<Row> {
        let last = self.height_px.saturating_sub(1).max(1) as f64;
        let row = |index: usize| {
            let delay_ns = ((index as f64 / last - 0.5) * self.rolling_ns).round();
            let world_from_camera = pose_of(ego(stamp_ns + delay_ns as i64)).compose(&self.vehicle_from_camera);
            let rotation = world_from_camera.rotation.to_rotation_matrix().into_inner();
            Row { delay_s: delay_ns * 1e-9, world_from_camera, rotation }
        };
        (0..self.height_px).map(row).collect()
    }

    /// Casts all rays, tile by tile.
    fn expose(&self, scene: &Scene, rows: &[Row], headlights: Option<(Vector3<f64>, Vector3<f64>)>) -> Exposed {
        let [tile_rows, tile_columns] = TILE_PX;
        let nothing = Seen { visible: Pixels::NONE, whole: Pixels::NONE };
        let mut exposed = Exposed {
            linear: vec![[0.0; 3]; self.rays.len()],
            mask: vec![MASK_OTHER; self.rays.len()],
            seen: vec![nothing; scene.bodies.len()],
        };
        let (mut places, mut rays) = (Vec::new(), Vec::new());
        let (mut hits, mut light) = (Vec::new(), Vec::new());
        for top in (0..self.height_px).step_by(tile_rows) {
            for left in (0..self.width_px).step_by(tile_columns) {
                self.gather(rows, top, left, &mut places, &mut rays);
                if rays.is_empty() {
                    continue;
                }
                let seen = &mut exposed.seen;
                let mut touch = |ray: usize, body: usize| {
                    if let (Some(&(x, y)), Some(seen)) = (places.get(ray), seen.get_mut(body)) {
                        seen.whole.add(x, y);
                    }
                };
                hits.clear();
                scene.cast(&rays, self.angle_rad, &mut hits, Some(&mut touch));
                shade(scene, &rays, &hits, self.angle_rad, headlights, &mut light);
                for ((&(x, y), hit), colour) in places.iter().zip(&hits).zip(&light) {
                    let pixel = y as usize * self.width_px + x as usize;
                    if let Some(linear) = exposed.linear.get_mut(pixel) {
                        *linear = *colour;
                    }
                    match hit.target {
                        Target::Sky => {}
                        Target::Ground(surface) => {
                            if let Some(value) = exposed.mask.get_mut(pixel) {
                                *value = mask_value(&surface);
                            }
                        }
                        Target::Body(body, _) => {
                            if let Some(seen) = exposed.seen.get_mut(body) {
                                seen.visible.add(x, y);
                            }
                        }
                    }
                }
            }
        }
        exposed
    }

    /// The pixels of a tile that the lens reaches, and their rays in the world.
    fn gather(&self, rows: &[Row], top: usize, left: usize, places: &mut Vec<(u32, u32)>, rays: &mut Vec<Ray>) {
        let [tile_rows, tile_columns] = TILE_PX;
        places.clear();
        rays.clear();
        let columns = left..(left + tile_columns).min(self.width_px);
        for (y, row) in rows.iter().enumerate().skip(top).take(tile_rows) {
            let start = y * self.width_px;
            let directions = self.rays.get(start + columns.start..start + columns.end).unwrap_or_default();
            for (x, direction) in columns.clone().zip(directions) {
                if *direction == [0.0; 3] {
                    continue;
                }
                let direction = row.rotation * Vector3::from(direction.map(f64::from));
                rays.push(Ray { origin_m: row.world_from_camera.translation_m, direction, delay_s: row.delay_s });
                places.push((x as u32, y as u32));
            }
        }
    }

    /// What is true of the road users that can be seen.
    fn boxes(
        &self,
        scene: &Scene,
        rows: &[Row],
        seen: &[Seen],
        ego: [f64; 3],
        kind_of: impl Fn(u32) -> Option<ActorKind>,
    ) -> TruthBoxes {
        let [ego_x_m, ego_y_m, _] = ego;
        let mut boxes = Vec::new();
        for (body, seen) in scene.bodies.iter().zip(seen) {
            let visible = seen.visible;
            let kind = kind_of(body.id).and_then(|kind| ActorKind::ALL.iter().position(|known| *known == kind));
            let Some(class) = kind.filter(|_| body.id > 0 && visible.count > 0) else { continue };
            let (whole, truncated) = self.whole(body, seen, rows);
            let total = seen.whole.count.max(visible.count);
            boxes.push(TruthBox {
                id: body.id,
                class: class as u16,
                visible_px: visible.bounds().box_px(),
                whole_px: whole.box_px(),
                occluded: 1.0 - visible.count as f32 / total as f32,
                truncated: truncated as f32,
                pixels: visible.count,
                distance_m: distance_m(body, ego_x_m, ego_y_m) as f32,
            });
        }
        boxes.sort_by_key(|found| found.id);
        TruthBoxes { classes: ActorKind::ALL.iter().map(|kind| kind.class_name().to_owned()).collect(), boxes }
    }

    /// Bounds of a whole body within the picture, and the part of them that lies outside. Where the lens does not see
    /// all corners, the bounds are those of its pixels, and the part outside is that of the corners.
    fn whole(&self, body: &Body, seen: &Seen, rows: &[Row]) -> (Bounds, f64) {
        let (width, height) = (self.width_px as f64, self.height_px as f64);
        let pixels = seen.whole.bounds().with(&seen.visible.bounds());
        let (mut corners, mut found, mut inside) = (Bounds::NONE, 0, 0);
        for corner_m in corners_m(body) {
            // the edges of pixels are whole numbers in a box, their middles in a lens
            let Some(at) = self.corner_px(body, corner_m, rows).map(|pixel| [pixel.x + 0.5, pixel.y + 0.5]) else {
                continue;
            };
            let [x, y] = at;
            found += 1;
            inside += u32::from((0.0..=width).contains(&x) && (0.0..=height).contains(&y));
            corners = corners.with(&Bounds { low: at, high: at });
        }
        if found < 8 {
            return (pixels, 1.0 - f64::from(inside) / 8.0);
        }
        let clipped = corners.clipped(width, height);
        let area = corners.area();
        let truncated = if area > 0.0 { 1.0 - clipped.area() / area } else { 0.0 };
        (clipped.with(&pixels), truncated)
    }

    /// Where a corner of a body is when the row that shows it is exposed; the row is found in a few steps.
    fn corner_px(&self, body: &Body, corner_m: Vector3<f64>, rows: &[Row]) -> Option<Vector2<f64>> {
        let last = self.height_px.saturating_sub(1);
        let mut row = rows.get(self.height_px / 2)?;
        let mut pixel = None;
        for _ in 0..3 {
            let point_m = body_point(body, corner_m, row.delay_s);
            let found = self.lens.project(&row.world_from_camera.inverse().transform_point(&point_m))?;
            pixel = Some(found);
            // a float out of range becomes the nearest whole number
            row = rows.get((found.y.round().max(0.0) as usize).min(last))?;
        }
        pixel
    }

    /// What the chip makes of one colour of a pixel, after gamma, in 16 bits.
    #[inline]
    fn sample(&self, noise: &Random, gain: f32, index: u64, linear: f32) -> u16 {
        let light = (linear * gain).max(0.0);
        let read = READ_DEVIATION * gain;
        let deviation = (light * gain * SHOT_VARIANCE + read * read).sqrt();
        let light = light + deviation * noise.rough_normal(index);
        let last = (GAMMA_ENTRIES - 1) as f32;
        let entry = (light.clamp(0.0, 1.0) * last + 0.5) as usize;
        self.gamma.get(entry).copied().unwrap_or(u16::MAX)
    }

    fn rgb8(&self, rendered: &Rendered, noise: &Random) -> Vec<u8> {
        let gain = gain(rendered.light);
        let mut bytes = Vec::with_capacity(3 * rendered.linear.len());
        for (pixel, linear) in (0_u64..).zip(&rendered.linear) {
            let [red, green, blue] = *linear;
            bytes.extend_from_slice(&[
                byte(self.sample(noise, gain, 3 * pixel, red)),
                byte(self.sample(noise, gain, 3 * pixel + 1, green)),
                byte(self.sample(noise, gain, 3 * pixel + 2, blue)),
            ]);
        }
        bytes
    }

    /// One colour a pixel: a byte each up to 8 bits, else two, the lower one first.
    fn bayer(&self, rendered: &Rendered, noise: &Random, pattern: BayerPattern, bits: u8) -> Vec<u8> {
        let gain = gain(rendered.light);
        let mut bytes = Vec::with_capacity(2 * rendered.linear.len());
        let rows = rendered.linear.chunks(self.width_px.max(1));
        for (y, row) in rows.enumerate() {
            for (x, linear) in row.iter().enumerate() {
                let channel = bayer_channel(pattern, x, y);
                let index = 3 * (y * self.width_px + x) + channel;
                let value = linear.get(channel).copied().unwrap_or_default();
                let sample = self.sample(noise, gain, index as u64, value);
                if bits <= 8 {
                    bytes.push(byte(sample));
                } else {
                    bytes.extend_from_slice(&(sample >> 16_u8.saturating_sub(bits)).to_le_bytes());
                }
            }
        }
        bytes
    }

    /// What the chip and the encoder make of the light, in the camera's format. Exposure is set by the time of day; noise
    /// depends on the picture's number. Empty where a picture does not fit its format.
    pub fn develop(&self, rendered: &Rendered, number: u64) -> Vec<u8> {
        let noise = self.random.at(number);
        if let PictureFormat::Bayer { pattern, bits } = self.format {
            return self.bayer(rendered, &noise, pattern, bits);
        }
        let mut bytes = self.rgb8(rendered, &noise);
        let (width, height) = (rendered.width_px as usize, rendered.height_px as usize);
        let rgb = Rgb { bytes: &bytes, width, height, full_range: self.full_range };
        match self.format {
            PictureFormat::Jpeg | PictureFormat::H264 => rgb.jpeg(self.options.jpeg_quality),
            PictureFormat::Png => rgb.png(),
            PictureFormat::Bgr8 => {
                for [red, _, blue] in bytes.as_chunks_mut::<3>().0 {
                    std::mem::swap(red, blue);
                }
                bytes
            }
            // grey in the whole range of a byte, unlike luma
            PictureFormat::Mono8 => {
                let grey = |pixel: &[u8; 3]| {
                    let [red, green, blue] = pixel.map(u32::from);
                    ((77 * red + 150 * green + 29 * blue + 128) >> 8) as u8
                };
                bytes.as_chunks::<3>().0.iter().map(grey).collect()
            }
            PictureFormat::Nv12 => rgb.nv12(),
            PictureFormat::I420 => rgb.i420(),
            PictureFormat::Yuyv => rgb.quads(|first, second, u, v| [first, u, second, v]),
            PictureFormat::Uyvy => rgb.quads(|first, second, u, v| [u, first, v, second]),
            PictureFormat::Rgb8 | PictureFormat::Bayer { .. } => bytes,
        }
    }

    /// Whether pictures go out as files, and not as bare pixels.
    fn is_compressed(&self) -> bool {
        matches!(self.format, PictureFormat::Jpeg | PictureFormat::Png | PictureFormat::H264)
    }

    /// Bytes of a row of the first plane of bare pixels.
    fn step_bytes(&self) -> usize {
        match self.format {
            PictureFormat::Rgb8 | PictureFormat::Bgr8 => 3 * self.width_px,
            PictureFormat::Yuyv | PictureFormat::Uyvy => 4 * self.width_px.div_ceil(2),
            PictureFormat::Bayer { bits, .. } if bits > 8 => 2 * self.width_px,
            _ => self.width_px,
        }
    }

    /// The encoded message of a picture.
    fn message_bytes(&self, picture: Vec<u8>, stamp_ns: i64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(picture.len() + 128);
        // encoding into memory cannot fail
        if self.is_compressed() {
            let format = if self.format == PictureFormat::Png { PictureFormat::Png } else { PictureFormat::Jpeg };
            let _ = picture_message(picture, format.name(), stamp_ns, &self.name).encode(&mut bytes);
            return bytes;
        }
        let image = RawImage {
            timestamp: timestamp(stamp_ns),
            frame_id: self.name.clone(),
            width: self.width_px as u32,
            height: self.height_px as u32,
            encoding: self.format.name().to_owned(),
            step: self.step_bytes() as u32,
            data: picture.into(),
        };
        let _ = image.encode(&mut bytes);
        bytes
    }

    fn half_shutter_ns(&self) -> i64 {
        (0.5 * self.rolling_ns).round() as i64
    }

    /// The message of a stamp with what is true of it; `number` is its place among all.
    pub fn sense_with_truth(&self, world: &World, number: u64, stamp_ns: i64) -> (Message, TruthBoxes, TruthMask) {
        let rendered = self.render(world, stamp_ns);
        let stamp = EPOCH_NS + stamp_ns;
        let message = Message {
            arrival_ns: stamp + self.half_shutter_ns() + TRANSFER_NS,
            stamp_ns: stamp,
            bytes: self.message_bytes(self.develop(&rendered, number), stamp),
        };
        (message, rendered.boxes, rendered.mask)
    }
}

/// Angle between neighbouring pixels at the centre of a picture.
fn pixel_angle_rad(lens: &CameraModel, width_px: u32, height_px: u32) -> f64 {
    let (x, y) = (0.5 * f64::from(width_px), 0.5 * f64::from(height_px));
    let rays = lens.unproject(&Vector2::new(x - 0.5, y)).zip(lens.unproject(&Vector2::new(x + 0.5, y)));
    let [focal_px, _] = lens.focal_px();
    rays.map_or(1.0 / focal_px.abs().max(1.0), |(left, right)| (right - left).norm())
}

impl SimulatedSensor for CameraSensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn channel(&self) -> Channel {
        let mut channel = if self.is_compressed() {
            Channel::of_foxglove::<CompressedImage>(&self.topic)
        } else {
            Channel::of_foxglove::<RawImage>(&self.topic)
        };
        let info = StampInfo { clock: ClockId::Ptp, kind: StampKind::ExposureMiddle, uncertainty_ns: 0 };
        info.describe(&mut channel);
        channel
    }

    fn stamps(&self, duration_ns: i64) -> Vec<i64> {
        let period_ns = 1e9 / self.rate_hz;
        if !(period_ns >= 1.0 && period_ns.is_finite()) {
            return Vec::new();
        }
        let stamp = |number: u64| FIRST_NS + (number as f64 * period_ns).round() as i64;
        (0..).map(stamp).take_while(|stamp_ns| *stamp_ns < duration_ns).collect()
    }

    fn needs_ns(&self, stamp_ns: i64) -> i64 {
        stamp_ns + self.half_shutter_ns() + MARGIN_NS
    }

    fn sense(&self, world: &World, number: u64, stamp_ns: i64) -> Option<Message> {
        Some(self.sense_with_truth(world, number, stamp_ns).0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use catseye_sensors::picture::convert::to_rgb8;
    use catseye_sensors::picture::{Encoding, Frame, Limits, RawLayout, copy_raw, decode_picture};

    use super::*;
    use crate::sim::bodies::{Look, Material, Part, Solid};

    fn camera(width_px: u32, height_px: u32, format: PictureFormat) -> CameraSensor {
        let mut rig = Rig::default_camera(width_px, height_px);
        rig.cameras[0].format = format;
        CameraSensor::new(&rig, 0, Random::new(1), CameraOptions::default()).unwrap()
    }

    /// A box standing on the ground, seen from behind.
    fn block(id: u32, x_m: f64, y_m: f64, [length_m, width_m, height_m]: [f64; 3]) -> Body {
        let (half_x, half_y) = (0.5 * length_m, 0.5 * width_m);
        let planes = vec![
            [1.0, 0.0, 0.0, half_x],
            [-1.0, 0.0, 0.0, half_x],
            [0.0, 1.0, 0.0, half_y],
            [0.0, -1.0, 0.0, half_y],
            [0.0, 0.0, 1.0, height_m],
            [0.0, 0.0, -1.0, 0.0],
        ];
        let material = Material { colour: [0.5, 0.1, 0.1], glow: [0.0; 3], gloss: 0.1, lidar: 0.3 };
        let (min_m, max_m) = ([-half_x, -half_y, 0.0], [half_x, half_y, height_m]);
        let parts = vec![Part { solid: Solid::Convex(planes), material, min_m, max_m }];
        let look = Arc::new(Look { parts, min_m, max_m, radar_m2: [1.0; 2] });
        Body { id, look, pose: [x_m, y_m, 0.0], velocity_mps: [0.0; 2], yaw_rate_radps: 0.0 }
    }

    fn boxes_of(sensor: &CameraSensor, bodies: Vec<Body>) -> Vec<TruthBox> {
        let scene = Scene { bodies, ..Scene::default() };
        let rows = sensor.rows(|_| [0.0; 3], 0);
        let exposed = sensor.expose(&scene, &rows, None);
        sensor.boxes(&scene, &rows, &exposed.seen, [0.0; 3], |_| Some(ActorKind::Truck)).boxes
    }

    #[test]
    fn a_box_lies_where_the_lens_projects_it() {
        let sensor = camera(320, 200, PictureFormat::Rgb8);
        let boxes = boxes_of(&sensor, vec![block(0, 30.0, 8.0, [1.0; 3]), block(7, 12.8, 0.0, [2.0, 2.0, 2.0])]);
        let [found] = boxes.as_slice() else { panic!("{boxes:?}") };
        assert_eq!((found.id, found.class), (7, 1));
        assert!(found.occluded == 0.0 && found.truncated == 0.0, "{found:?}");
        assert!((found.distance_m - 11.8).abs() < 1e-5, "{found:?}");
        // the rear side is 10 m ahead of the camera, which is 1.4 m above the ground
        let focal_px = 160.0 * 3f32.sqrt();
        let expected =
            [160.0 - focal_px * 0.1, 100.0 - focal_px * 0.06, 160.0 + focal_px * 0.1, 100.0 + focal_px * 0.14];
        for edges in [found.visible_px, found.whole_px] {
            let edges = [edges.left, edges.top, edges.right, edges.bottom];
            for (edge, expected) in edges.into_iter().zip(expected) {
                assert!((edge - expected).abs() < 1.01, "{found:?} {expected}");
            }
        }
        let area = found.visible_px.area();
        assert!((found.pixels as f32 - area).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn what_stands_behind_is_occluded_and_what_sticks_out_truncated() {
        let sensor = camera(320, 200, PictureFormat::Rgb8);
        // the near one hides the far one's left half: both centre lines are those of the camera
        let near = block(2, 11.8, 1.0, [0.1, 2.0, 4.0]);
        let boxes = boxes_of(&sensor, vec![near, block(1, 21.8, 0.0, [0.1, 2.0, 1.4])]);
        assert_eq!(boxes.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 2]);
        assert!((boxes[0].occluded - 0.5).abs() < 0.05 && boxes[1].occluded == 0.0, "{boxes:?}");
        assert!(boxes[0].whole_px.width() > 1.8 * boxes[0].visible_px.width(), "{boxes:?}");
        // at 10 m half the width of the picture is 5.77 m
        let boxes = boxes_of(&sensor, vec![block(1, 11.85, 5.773, [0.1, 2.0, 1.4])]);
        assert!((boxes[0].truncated - 0.5).abs() < 0.05 && boxes[0].whole_px.left == 0.0, "{boxes:?}");
        assert!(boxes_of(&sensor, vec![block(1, -20.0, 0.0, [1.0; 3])]).is_empty());
    }

    #[test]
    fn rows_of_a_rolling_shutter_follow_each_other() {
        let mut rig = Rig::default_camera(32, 21);
        rig.cameras[0].rolling_shutter_ms = Some(20.0);
        let sensor = CameraSensor::new(&rig, 0, Random::new(1), CameraOptions::default()).unwrap();
        let rows = sensor.rows(|time_ns| [time_ns as f64 * 1e-8, 0.0, 0.0], 1_000_000_000);
        let at = |row: usize| (rows[row].delay_s, rows[row].world_from_camera.translation_m.x - 1.8);
        assert_eq!((at(0).0, at(10).0, at(20).0), (-0.01, 0.0, 0.01));
        assert!((at(0).1 - 9.9).abs() < 1e-9 && (at(20).1 - 10.1).abs() < 1e-9);
        assert_eq!(sensor.needs_ns(5), 20_000_005);
        assert!(assumption(&rig.cameras[0]).is_some_and(|text| text.contains("front")));
    }

    #[test]
    fn stamps_come_at_the_rate_of_the_rig() {
        let sensor = camera(4, 4, PictureFormat::Png);
        assert_eq!(sensor.stamps(150_000_000), [50_000_000, 83_333_333, 116_666_667]);
        assert!(sensor.stamps(50_000_000).is_empty());
    }

    fn even(sensor: &CameraSensor, linear: [f32; 3]) -> Rendered {
        let (width_px, height_px) = (sensor.width_px as u32, sensor.height_px as u32);
        Rendered {
            width_px,
            height_px,
            light: Light::Day,
            linear: vec![linear; sensor.rays.len()],
            boxes: TruthBoxes::default(),
            mask: TruthMask::default(),
        }
    }

    #[test]
    fn every_format_shows_the_same_colour() {
        // sRGB 200, 120, 60
        let linear = [0.577_58, 0.187_82, 0.045_19];
        let full = ["nv12", "i420", "yuyv", "uyvy"].map(|name| (name, true));
        let names = ["jpeg", "png", "rgb8", "bgr8", "nv12", "i420", "yuyv", "uyvy"].map(|name| (name, false));
        for (name, full_range) in names.into_iter().chain(full) {
            let format = PictureFormat::from_name(name).unwrap();
            let sensor = CameraSensor { full_range, ..camera(15, 9, format) };
            let bytes = sensor.develop(&even(&sensor, linear), 3);
            let mut frame = Frame::default();
            match Encoding::from_name(name).unwrap() {
                Encoding::Raw(format) => {
                    let stride_bytes = Some(sensor.step_bytes());
                    let layout = RawLayout { width_px: 15, height_px: 9, format, full_range, stride_bytes };
                    copy_raw(&layout, &bytes, &mut frame, &Limits::default()).unwrap();
                    assert_eq!(bytes.len(), format.bytes_for(15, 9).unwrap(), "{name}");
                }
                encoding => decode_picture(encoding, &bytes, &mut frame, &Limits::default()).unwrap(),
            }
            let mut rgb = Vec::new();
            to_rgb8(&frame, &mut rgb);
            let mean = |channel: usize| {
                let sum: u32 = rgb.iter().skip(channel).step_by(3).map(|value| u32::from(*value)).sum();
                f64::from(sum) / 135.0
            };
            for (channel, expected) in [200.0, 120.0, 60.0].into_iter().enumerate() {
                assert!((mean(channel) - expected).abs() < 3.0, "{name} {channel} {}", mean(channel));
            }
        }
    }

    #[test]
    fn raw_pixels_have_their_pattern_and_depth() {
        let bits = |name: &str| {
            let sensor = camera(4, 2, PictureFormat::from_name(name).unwrap());
            sensor.develop(&even(&sensor, [1.5, 0.0, 0.0]), 0)
        };
        let bytes = bits("bayer-grbg8");
        assert_eq!([bytes[1], bytes[3], bytes.len() as u8], [255, 255, 8]);
        assert!(bytes[0] < 16 && bytes[4] < 16, "{bytes:?}");
        let bytes = bits("bayer-rggb12");
        assert_eq!((bytes.len(), &bytes[..2]), (16, &[0xff, 0x0f][..]));
    }

    #[test]
    fn noise_belongs_to_the_number_of_the_picture() {
        let sensor = camera(16, 16, PictureFormat::Rgb8);
        let rendered = even(&sensor, [0.2; 3]);
        assert_eq!(sensor.develop(&rendered, 4), sensor.develop(&rendered, 4));
        assert_ne!(sensor.develop(&rendered, 4), sensor.develop(&rendered, 5));
    }

    #[test]
    fn a_mask_comes_back_and_damaged_runs_do_not() {
        let values = [0, 0, 1, 1, 1, 2];
        let mask = TruthMask { width_px: 3, height_px: 2, runs: encode_runs(&values) };
        assert_eq!(mask.runs.len(), 15);
        assert_eq!(decode_mask(&mask).unwrap(), values);
        let damaged = |index: usize, byte: u8| {
            let mut mask = mask.clone();
            mask.runs[index] = byte;
            decode_mask(&mask)
        };
        assert_eq!(damaged(0, 9), None);
        assert_eq!(damaged(1, 3), None);
        assert_eq!(damaged(4, 0xff), None);
        assert_eq!(decode_mask(&TruthMask { runs: mask.runs[..14].to_vec(), ..mask.clone() }), None);
        assert_eq!(decode_mask(&TruthMask { width_px: u32::MAX, height_px: u32::MAX, runs: Vec::new() }), None);
        assert_eq!(decode_mask(&TruthMask::default()), Some(Vec::new()));
    }
}
