//! Single pictures with labels, for training and for measuring networks.
//!
//! Chance makes up a scenario and a mounting of the camera per few pictures; each picture goes into a folder as
//! `000000.jpg`, its boxes as `000000.txt` and its road as `000000.png`. A line of the former is `class left top right
//! bottom occluded truncated pixels distance_m`, with the bounds of what can be seen in pixels; the values of the latter
//! are those of [`TruthMask`](crate::truth::TruthMask). Every file depends on the seed and its number alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use catseye_calibration::rig::{Rig, RigError, SIM_CAR};
use thiserror::Error;

use super::random::Random;
use super::scenario::Scenario;
use super::sensors::SimulatedSensor;
use super::sensors::camera::{CameraOptions, CameraSensor, decode_mask};
use super::world::{EgoControl, World};
use crate::truth::TruthBoxes;

/// Pictures of one scenario: so many that a world is not made for one, so few that they differ.
const PER_SCENARIO: u64 = 4;
/// Time of the first picture at most, and between two.
const FIRST_S: f64 = 2.0;
const STEP_S: f64 = 2.2;

/// Why pictures could not be written.
#[derive(Debug, Error)]
pub enum StillsError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The built-in rig does not load: a bug.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// A picture could not be encoded.
    #[error("{0}: the mask cannot be encoded")]
    Mask(PathBuf),
}

/// Writes so many pictures into a folder. `progress` is told how many are done and how many there are.
pub fn write(
    folder: &Path,
    count: u64,
    seed: u64,
    workers: usize,
    stop: &AtomicBool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), StillsError> {
    std::fs::create_dir_all(folder).map_err(|error| StillsError::Io { path: folder.to_owned(), error })?;
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let first = next.fetch_add(1, Ordering::Relaxed) * PER_SCENARIO;
            if first >= count || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let numbers = first..(first + PER_SCENARIO).min(count);
            let written = numbers.end - numbers.start;
            scenario(folder, seed, numbers)?;
            progress(done.fetch_add(written, Ordering::Relaxed) + written, count);
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers.max(1)).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let results = others.into_iter().filter_map(|other| other.join().ok());
        results.fold(mine, |all, result| all.and(result))
    })
}

/// Writes the pictures of one scenario.
fn scenario(folder: &Path, seed: u64, numbers: std::ops::Range<u64>) -> Result<(), StillsError> {
    let random = Random::new(seed).stream("stills").at(numbers.start);
    let scenario = Scenario::random(random.bits(0));
    let mut rig = Rig::parse(SIM_CAR, "sim-car")?;
    if let Some(camera) = rig.cameras.first_mut() {
        let nominal = &mut camera.mounting.nominal;
        // a network must not learn one horizon by heart
        nominal.xyz_m[2] += random.between(1, -0.15, 0.25);
        nominal.rpy_deg[0] += random.between(2, -1.2, 1.2);
        nominal.rpy_deg[1] += random.between(3, -0.8, 0.8);
        nominal.rpy_deg[2] += random.between(4, -1.5, 1.5);
    }
    let options = CameraOptions { jpeg_quality: random.between(5, 75.0, 96.0) as u8 };
    let Some(camera) = CameraSensor::new(&rig, 0, random, options) else { return Ok(()) };
    let mut world = World::new(&scenario, &rig.vehicle);
    let mut stamp_ns = (random.between(6, 0.1, FIRST_S) * 1e9) as i64;
    for number in numbers {
        world.advance(camera.needs_ns(stamp_ns), EgoControl::Driver);
        picture(folder, &camera, &world, number, stamp_ns)?;
        stamp_ns += (STEP_S * 1e9) as i64;
    }
    Ok(())
}

fn picture(folder: &Path, camera: &CameraSensor, world: &World, number: u64, stamp_ns: i64) -> Result<(), StillsError> {
    let rendered = camera.render(world, stamp_ns);
    let file = |ending: &str| folder.join(format!("{number:06}.{ending}"));
    let save = |path: PathBuf, bytes: &[u8]| {
        std::fs::write(&path, bytes).map_err(|error| StillsError::Io { path: path.clone(), error })
    };
    save(file("jpg"), &camera.develop(&rendered, number))?;
    save(file("txt"), lines(&rendered.boxes).as_bytes())?;
    let values = decode_mask(&rendered.mask).unwrap_or_default();
    let mask = png(rendered.width_px, rendered.height_px, &values).map_err(|_| StillsError::Mask(file("png")))?;
    save(file("png"), &mask)
}

fn lines(boxes: &TruthBoxes) -> String {
    let mut text = String::new();
    for found in &boxes.boxes {
        let class = boxes.classes.get(usize::from(found.class)).map_or("", String::as_str);
        let visible = found.visible_px;
        // writing to a string cannot fail
        let _ = writeln!(
            text,
            "{class} {} {} {} {} {:.3} {:.3} {} {:.2}",
            visible.left,
            visible.top,
            visible.right,
            visible.bottom,
            found.occluded,
            found.truncated,
            found.pixels,
            found.distance_m
        );
    }
    text
}

fn png(width_px: u32, height_px: u32, values: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width_px, height_px);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(values)?;
    writer.finish()?;
    Ok(bytes)
}
