//! What is read of the two logs: of the run what is measured, of the truth everything, by stamp.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use catseye_calibration::rig::Rig;

use super::{Class, EvaluateDriveError, wrapped};
use crate::log::reader::{Event, LogReader, ReadError};
use crate::log::run::RunReader;
use crate::messages::{CameraTrack, Detection, FreeSpace, LaneCurve, Object};
use crate::sim::sensors::camera::decode_mask;
use crate::source::Preamble;
use crate::stages::decode::free_space::FreeSpaceFinder;
use crate::stages::geometry::CameraGeometry;
use crate::stages::network::undistorted_cameras;
use crate::tap::Body;
use crate::truth::{
    MASK_OTHER, TOPIC_EGO, TOPIC_LANES, TOPIC_MOTIONS, TOPIC_OBJECTS, TruthBox, TruthBoxes, TruthEgo, TruthLanes,
    TruthMask, TruthMotion, TruthMotions, TruthObject, TruthObjects, boxes_topic, mask_topic,
};

/// Stamps this near to each other are of the same instant.
const SAME_NS: i64 = 5_000_000;
/// Between stamps farther apart nothing is interpolated.
const MAX_STEP_NS: i64 = 150_000_000;

/// A camera of the run.
pub(super) struct Camera {
    pub name: String,
    /// As its pictures are taken.
    pub geometry: CameraGeometry,
    /// Whether the networks see its pictures otherwise than they are taken.
    pub is_undistorted: bool,
}

/// What the run made of one camera's picture.
#[derive(Default)]
pub(super) struct Seen {
    pub sensor: usize,
    pub present: bool,
    pub stamp_ns: i64,
    pub objects: Vec<Detection>,
    pub tracks: Vec<CameraTrack>,
    pub has_lanes: bool,
    pub has_free_space: bool,
}

/// What the run concluded in one tick.
#[derive(Default)]
pub(super) struct Tick {
    pub reference_ns: i64,
    pub seen: Vec<Seen>,
    pub objects: Vec<Object>,
    pub is_ego_known: bool,
    pub lanes: Vec<LaneCurve>,
    pub free_space_m: Vec<f32>,
    pub time_to_collision_s: f32,
    /// What the planner took the gap to the lead for; `None` without a lead.
    pub lead_gap_m: Option<f32>,
}

/// A run.
#[derive(Default)]
pub(super) struct Run {
    /// What the run's class numbers stand for.
    pub classes: Vec<Option<Class>>,
    /// In the rig's order, which is that of the sensors' numbers.
    pub cameras: Vec<Camera>,
    pub ticks: Vec<Tick>,
}

impl Run {
    pub fn read(path: &Path) -> Result<Run, EvaluateDriveError> {
        let preamble = Preamble::read(path)?;
        if preamble.run.is_empty() {
            return Err(EvaluateDriveError::NoRun(path.to_owned()));
        }
        let classes = preamble.run.get("classes").map(String::as_str).unwrap_or_default();
        let classes = classes.split('\n').map(Class::of).collect();
        let cameras = preamble.rig.as_ref().map(cameras).unwrap_or_default();
        let mut reader = RunReader::open(path, Vec::new())?;
        let mut ticks = Vec::new();
        while let Some(output) = reader.next()? {
            ticks.extend(output.body.map(|body| tick(*body, output.decision.reference_ns)));
        }
        Ok(Run { classes, cameras, ticks })
    }

    pub fn class(&self, number: u16) -> Option<Class> {
        self.classes.get(usize::from(number)).copied().flatten()
    }

    /// Seconds from the first tick to a stamp.
    pub fn time_s(&self, stamp_ns: i64) -> f64 {
        let first_ns = self.ticks.first().map_or(stamp_ns, |tick| tick.reference_ns);
        stamp_ns.saturating_sub(first_ns) as f64 * 1e-9
    }

    /// Where a camera stands, seen from above; the vehicle's origin for what is no camera.
    pub fn sensor_m(&self, sensor: u16) -> [f64; 2] {
        let camera = self.cameras.get(usize::from(sensor));
        camera.map_or([0.0; 2], |camera| {
            let place = camera.geometry.vehicle_from_camera.translation_m;
            [place.x, place.y]
        })
    }
}

fn cameras(rig: &Rig) -> Vec<Camera> {
    let of = |(camera, is_undistorted): (&catseye_calibration::rig::Camera, bool)| Camera {
        name: camera.name.clone(),
        geometry: CameraGeometry::new(camera, false),
        is_undistorted,
    };
    rig.cameras.iter().zip(undistorted_cameras(rig)).map(of).collect()
}

fn tick(body: Body, reference_ns: i64) -> Tick {
    let tracks = body.tracks;
    let of_camera = |sensor: u16| tracks.iter().find(|tracks| tracks.sensor == sensor);
    let seen = body.detections.iter().map(|seen| Seen {
        sensor: usize::from(seen.sensor),
        present: seen.present,
        stamp_ns: seen.stamp_ns,
        objects: seen.objects.to_vec(),
        tracks: of_camera(seen.sensor).map(|tracks| tracks.tracks.to_vec()).unwrap_or_default(),
        has_lanes: !seen.lanes.is_empty(),
        has_free_space: !seen.free_space.range_m.is_empty(),
    });
    Tick {
        reference_ns,
        seen: seen.collect(),
        objects: body.world.objects.to_vec(),
        is_ego_known: body.world.ego.known,
        lanes: body.world.lanes.to_vec(),
        free_space_m: body.world.free_space.range_m.to_vec(),
        time_to_collision_s: body.plan.time_to_collision_s,
        lead_gap_m: (body.plan.lead_id != 0).then_some(body.plan.lead_gap_m),
    }
}

/// A true object, seen from above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed {
    pub id: Option<u32>,
    pub class: Option<Class>,
    /// x and y of the middle, length, width, yaw.
    pub rectangle: [f64; 5],
    /// Height of its middle above the ground.
    pub middle_z_m: f64,
    /// Over ground.
    pub velocity_mps: Option<[f64; 2]>,
}

/// Everything that is true, by stamp.
#[derive(Default)]
pub(super) struct Truth {
    pub objects: BTreeMap<i64, TruthObjects>,
    pub motions: BTreeMap<i64, TruthMotions>,
    pub ego: BTreeMap<i64, TruthEgo>,
    pub lanes: BTreeMap<i64, TruthLanes>,
    /// By camera.
    pub boxes: BTreeMap<String, BTreeMap<i64, TruthBoxes>>,
    /// By camera: the ranges of the fan that the pipeline makes of a mask.
    pub free_space_m: BTreeMap<String, BTreeMap<i64, Vec<f32>>>,
}

impl Truth {
    pub fn read(path: &Path, cameras: &[Camera]) -> Result<Truth, ReadError> {
        let of_topic = |topic: fn(&str) -> String| -> BTreeMap<String, &Camera> {
            cameras.iter().map(|camera| (topic(&camera.name), camera)).collect()
        };
        let (boxes, masks) = (of_topic(boxes_topic), of_topic(mask_topic));
        let mut truth = Truth::default();
        let mut reader = LogReader::open(path)?;
        while let Some(event) = reader.next()? {
            let Event::Message(message) = event else { continue };
            let (topic, stamp_ns) = (message.channel.topic.as_str(), message.publish_ns);
            match topic {
                TOPIC_OBJECTS => {
                    truth.objects.insert(stamp_ns, message.record(path)?);
                }
                TOPIC_MOTIONS => {
                    truth.motions.insert(stamp_ns, message.record(path)?);
                }
                TOPIC_EGO => {
                    truth.ego.insert(stamp_ns, message.record(path)?);
                }
                TOPIC_LANES => {
                    truth.lanes.insert(stamp_ns, message.record(path)?);
                }
                _ => {
                    if let Some(camera) = boxes.get(topic) {
                        let seen = message.record(path)?;
                        truth.boxes.entry(camera.name.clone()).or_default().insert(stamp_ns, seen);
                    }
                    if let Some(camera) = masks.get(topic) {
                        let mask: TruthMask = message.record(path)?;
                        let ranges = free_space(&mask, &camera.geometry).ok_or_else(|| {
                            let words = "expected runs that fill the mask, found others";
                            message.wrong(path, words.to_owned())
                        })?;
                        truth.free_space_m.entry(camera.name.clone()).or_default().insert(stamp_ns, ranges);
                    }
                }
            }
        }
        Ok(truth)
    }

    /// All placed objects at an instant; `None` where truth is silent.
    pub fn placed_at(&self, stamp_ns: i64) -> Option<Vec<Placed>> {
        if let Some((stamp_ns, _)) = nearest(&self.objects, stamp_ns) {
            return self.placed(stamp_ns);
        }
        let before_ns = *self.objects.range(..stamp_ns).next_back()?.0;
        let after_ns = *self.objects.range(stamp_ns..).next()?.0;
        let step_ns = after_ns.checked_sub(before_ns).filter(|step_ns| (1..=MAX_STEP_NS).contains(step_ns))?;
        let after = self.placed(after_ns)?;
        let part = (stamp_ns - before_ns) as f64 / step_ns as f64;
        let later = |one: &Placed| after.iter().find(|other| one.id.is_some() && one.id == other.id);
        let between = |one: Placed| later(&one).map(|other| blend(&one, other, part));
        Some(self.placed(before_ns)?.into_iter().filter_map(between).collect())
    }

    /// The placed objects of one message.
    fn placed(&self, stamp_ns: i64) -> Option<Vec<Placed>> {
        let objects = &self.objects.get(&stamp_ns)?.objects;
        // motions of another count are not these objects'
        let motions = self.motions.get(&stamp_ns).map(|motions| motions.motions.as_slice());
        let motions = motions.filter(|motions| motions.len() == objects.len()).unwrap_or_default();
        let with_motion = objects.iter().enumerate().map(|(index, object)| (object, motions.get(index)));
        Some(with_motion.filter(|(object, _)| object.placed).map(|(object, motion)| placed(object, motion)).collect())
    }

    /// Numbers of the objects that cameras saw in the last `within_ns`, as `is_seen` has it; `None` without any truth
    /// in pictures.
    pub fn seen_ids(
        &self,
        stamp_ns: i64,
        within_ns: i64,
        is_seen: impl Fn(&str, &TruthBox) -> bool,
    ) -> Option<BTreeSet<u32>> {
        if self.boxes.is_empty() {
            return None;
        }
        let last = stamp_ns.saturating_sub(within_ns)..=stamp_ns.saturating_add(SAME_NS);
        let messages = self.boxes.iter().flat_map(|(camera, boxes)| {
            boxes.range(last.clone()).flat_map(move |(_, boxes)| boxes.boxes.iter().map(move |seen| (camera, seen)))
        });
        Some(messages.filter(|(camera, seen)| is_seen(camera, seen)).map(|(_, seen)| seen.id).collect())
    }
}

fn placed(object: &TruthObject, motion: Option<&TruthMotion>) -> Placed {
    let ([x, y, z], [length, width, _]) = (object.position_m, object.extent_m);
    Placed {
        id: motion.map(|motion| motion.id),
        class: Class::of(&object.class),
        rectangle: [x, y, length, width, object.yaw_rad],
        middle_z_m: z,
        velocity_mps: motion.map(|motion| motion.velocity_mps),
    }
}

/// Part of the way from one state of an object to the next.
fn blend(one: &Placed, other: &Placed, part: f64) -> Placed {
    let between = |a: f64, b: f64| a + part * (b - a);
    let ([x, y, length, width, yaw], [other_x, other_y, .., other_yaw]) = (one.rectangle, other.rectangle);
    let velocity = one.velocity_mps.zip(other.velocity_mps);
    Placed {
        rectangle: [between(x, other_x), between(y, other_y), length, width, yaw + part * wrapped(other_yaw - yaw)],
        middle_z_m: between(one.middle_z_m, other.middle_z_m),
        velocity_mps: velocity.map(|([ax, ay], [bx, by])| [between(ax, bx), between(ay, by)]),
        ..*one
    }
}

/// What has the nearest stamp within 5 ms; of two as near, the earlier.
pub(super) fn nearest<T>(all: &BTreeMap<i64, T>, stamp_ns: i64) -> Option<(i64, &T)> {
    let near = all.range(stamp_ns.saturating_sub(SAME_NS)..=stamp_ns.saturating_add(SAME_NS));
    near.min_by_key(|(other_ns, _)| other_ns.abs_diff(stamp_ns)).map(|(stamp_ns, value)| (*stamp_ns, value))
}

/// The fan that the pipeline's own finder makes of a true mask, markings being drivable; `None` for a damaged mask.
fn free_space(mask: &TruthMask, camera: &CameraGeometry) -> Option<Vec<f32>> {
    let drivable: Vec<u8> = decode_mask(mask)?.iter().map(|value| u8::from(*value != MASK_OTHER)).collect();
    let [scale_u, scale_v] = [
        f64::from(camera.size_px[0]) / f64::from(mask.width_px.max(1)),
        f64::from(camera.size_px[1]) / f64::from(mask.height_px.max(1)),
    ];
    let ground = |[u, v]: [f64; 2]| camera.ground_from_picture([(u + 0.5) * scale_u - 0.5, (v + 0.5) * scale_v - 0.5]);
    let mut space = FreeSpace::default();
    FreeSpaceFinder::new(mask.width_px as usize, mask.height_px as usize).find(&drivable, &ground, &mut space);
    Some(space.range_m.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn truth(stamps_ms: &[i64]) -> Truth {
        let mut truth = Truth::default();
        for &stamp_ms in stamps_ms {
            let object = TruthObject {
                class: "car".to_owned(),
                placed: true,
                position_m: [10.0 + 0.01 * stamp_ms as f64, 0.0, 0.8],
                extent_m: [4.0, 2.0, 1.6],
                ..TruthObject::default()
            };
            let motion = TruthMotion { id: 7, velocity_mps: [10.0, 0.0], ..TruthMotion::default() };
            truth.objects.insert(stamp_ms * MS, TruthObjects { objects: vec![object] });
            truth.motions.insert(stamp_ms * MS, TruthMotions { motions: vec![motion] });
        }
        truth
    }

    #[test]
    fn objects_are_interpolated_between_near_stamps_only() {
        let place = |truth: &Truth, ms: i64| truth.placed_at(ms * MS).map(|placed| placed[0].rectangle[0]);
        let dense = truth(&[1000, 1100]);
        assert_eq!(place(&dense, 1004), Some(20.0));
        assert!((place(&dense, 1050).unwrap() - 20.5).abs() < 1e-9);
        assert_eq!(place(&dense, 1110), None);
        assert_eq!(place(&truth(&[1000, 1200]), 1100), None);
        let mut nameless = truth(&[1000, 1100]);
        nameless.motions.clear();
        assert_eq!(nameless.placed_at(1050 * MS), Some(Vec::new()));
    }
}
