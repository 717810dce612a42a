//! One camera's picture with what the pipeline made of it: drivable area, lanes, boxes, distances and the plan.
//!
//! Data comes from one tick of a run or of its log, and goes into a [`Canvas`] of the picture's size. Colours follow
//! [`colour_of`]: an object has the same colour here, from above and in the next tick.

use super::canvas::{Canvas, CanvasError, Colour, label_height_px};
use super::{class_name, colour_of, object_label};
use crate::messages::{
    BoxPx, CameraDetections, CameraTrack, CameraTracks, LaneCurve, Object, Plan, TrackState, WorldModel,
};

const INK: Colour = Colour::WHITE;
const BACKING: Colour = Colour::BLACK.with_alpha(170);
const DETECTION: Colour = Colour::rgb(210, 210, 210).with_alpha(150);
const DRIVABLE: Colour = Colour::rgb(0x00, 0x9E, 0x73).with_alpha(70);
const LANE: Colour = Colour::rgb(0xF0, 0xE4, 0x42);
const PATH: Colour = Colour::rgb(0x56, 0xB4, 0xE9).with_alpha(220);

/// Pieces that a lane curve is drawn in.
const LANE_PIECES: u16 = 48;

/// The networks' masks of one picture. They are stretched over the whole picture.
#[derive(Clone, Copy, Debug)]
pub struct MaskView<'a> {
    /// Width of both masks, pixels.
    pub width: usize,
    /// Height of both masks, pixels.
    pub height: usize,
    /// Drivable area, row by row; set where not 0. Pixels that are missing count as not set.
    pub drivable: &'a [u8],
    /// Lane markings, as above.
    pub lanes: &'a [u8],
}

/// Maps a point in the vehicle frame (metres) to the picture (pixels); `None` where the camera cannot see it.
pub type Projection<'a> = dyn Fn([f64; 3]) -> Option<[f64; 2]> + 'a;

/// All that an overlay shows: one camera, one tick.
#[derive(Clone, Copy)]
pub struct OverlayInput<'a> {
    /// Width of the picture, pixels.
    pub width_px: u32,
    /// Height of the picture, pixels.
    pub height_px: u32,
    /// The picture: RGB, row by row, without padding.
    pub rgb: &'a [u8],
    /// What the networks saw in it.
    pub detections: &'a CameraDetections,
    /// The camera's tracks.
    pub tracks: &'a CameraTracks,
    /// The world model of the tick.
    pub world: &'a WorldModel,
    /// The plan of the tick.
    pub plan: &'a Plan,
    /// The model's class names.
    pub class_names: &'a [String],
    /// The networks' masks.
    pub masks: Option<MaskView<'a>>,
    /// From vehicle to picture; without it lanes and path are not drawn.
    pub pixel_from_vehicle: Option<&'a Projection<'a>>,
    /// Time that the header counts from.
    pub start_ns: i64,
    /// Header in place of the tick's words: the camera's name, where several cameras are shown together.
    pub title: Option<&'a str>,
}

/// Draws the overlay.
///
/// # Errors
/// [`CanvasError::Size`] and [`CanvasError::Length`] when the picture is not what its size says.
pub fn draw_overlay(input: &OverlayInput) -> Result<Canvas, CanvasError> {
    let mut canvas = Canvas::from_rgb(input.width_px, input.height_px, input.rgb)?;
    let style = Style::of(&canvas);
    if let Some(masks) = &input.masks {
        tint(&mut canvas, masks);
    }
    if let Some(projection) = input.pixel_from_vehicle {
        for lane in &input.detections.lanes {
            draw_ground_line(&mut canvas, &lane_points(lane), projection, style.thick_px, LANE);
        }
        draw_ground_line(&mut canvas, &path_points(&input.plan.path_m), projection, style.thick_px, PATH);
    }
    for detection in &input.detections.objects {
        draw_box(&mut canvas, &detection.box_px, 1.0, DETECTION);
    }
    for track in &input.tracks.tracks {
        draw_track(&mut canvas, track, input, &style);
    }
    canvas.label([0.0, 0.0], style.text_px, &header(input), INK, BACKING);
    Ok(canvas)
}

/// Sizes that follow the picture's height, so that a small picture is not hidden below its labels.
struct Style {
    text_px: f64,
    thin_px: f64,
    thick_px: f64,
}

impl Style {
    fn of(canvas: &Canvas) -> Style {
        let height = f64::from(canvas.height_px());
        let thick_px = (height / 300.0).clamp(2.0, 5.0);
        Style { text_px: (height / 45.0).clamp(11.0, 26.0), thin_px: 0.5 * thick_px, thick_px }
    }
}

fn tint(canvas: &mut Canvas, masks: &MaskView) {
    let (width, height) = (canvas.width_px() as usize, canvas.height_px() as usize);
    let is_set = |mask: &[u8], at: usize| mask.get(at).is_some_and(|value| *value != 0);
    for y in 0..height {
        let row = (y.saturating_mul(masks.height) / height).saturating_mul(masks.width);
        for x in 0..width {
            let at = row.saturating_add(x.saturating_mul(masks.width) / width);
            if is_set(masks.lanes, at) {
                canvas.blend(x, y, LANE.with_alpha(130), 1.0);
            } else if is_set(masks.drivable, at) {
                canvas.blend(x, y, DRIVABLE, 1.0);
            }
        }
    }
}

/// Points along a lane curve, vehicle frame, metres; none when its ends make no sense.
pub(super) fn lane_points(lane: &LaneCurve) -> Vec<[f64; 2]> {
    let (near, far) = (lane.x_min_m, lane.x_max_m);
    if !near.is_finite() || !far.is_finite() || far <= near {
        return Vec::new();
    }
    let at = |piece: u16| near + (far - near) * f32::from(piece) / f32::from(LANE_PIECES);
    (0..=LANE_PIECES).map(|piece| [f64::from(at(piece)), f64::from(lane.y_at(at(piece)))]).collect()
}

/// Points of a plan's path, vehicle frame, metres.
pub(super) fn path_points(path_m: &[f32]) -> Vec<[f64; 2]> {
    path_m.chunks_exact(2).filter_map(|pair| Some([f64::from(*pair.first()?), f64::from(*pair.get(1)?)])).collect()
}

/// A line on the ground plane; it breaks where the camera cannot see the ground.
fn draw_ground_line(canvas: &mut Canvas, points: &[[f64; 2]], projection: &Projection, width_px: f64, colour: Colour) {
    let mut last = None;
    for [x, y] in points {
        let here = projection([*x, *y, 0.0]);
        if let (Some(from), Some(to)) = (last, here) {
            canvas.line(from, to, width_px, colour);
        }
        last = here;
    }
}

fn draw_box(canvas: &mut Canvas, box_px: &BoxPx, width_px: f64, colour: Colour) {
    let corner = [f64::from(box_px.left), f64::from(box_px.top)];
    let opposite = [f64::from(box_px.right), f64::from(box_px.bottom)];
    canvas.rectangle(corner, opposite, width_px, colour);
}

/// The object that a camera's track stands for.
fn object_of(world: &WorldModel, sensor: u16, track: u32) -> Option<&Object> {
    world.objects.iter().find(|object| object.sensor == sensor && object.camera_track == track)
}

fn draw_track(canvas: &mut Canvas, track: &CameraTrack, input: &OverlayInput, style: &Style) {
    if !track.box_px.is_sound() {
        return;
    }
    let object = object_of(input.world, input.tracks.sensor, track.id);
    let colour = colour_of(object.map_or(track.id, |object| object.id));
    let width_px = if track.state == TrackState::Confirmed { style.thick_px } else { style.thin_px };
    draw_box(canvas, &track.box_px, width_px, colour);
    let text = match object {
        Some(object) => object_label(object, input.class_names),
        None => format!("{} track {}", class_name(input.class_names, track.class), track.id),
    };
    let above = f64::from(track.box_px.top) - label_height_px(style.text_px) - style.thick_px;
    canvas.label([f64::from(track.box_px.left), above], style.text_px, &text, INK, BACKING);
    // a bar in the track's colour ties the label to its box
    let bar = [f64::from(track.box_px.left), f64::from(track.box_px.top) - style.thick_px];
    canvas.fill_rectangle(bar, [f64::from(track.box_px.right), f64::from(track.box_px.top)], colour);
}

fn header(input: &OverlayInput) -> String {
    if let Some(title) = input.title {
        return title.to_owned();
    }
    let WorldModel { tick, reference_ns, ego, .. } = input.world;
    let seconds = reference_ns.saturating_sub(input.start_ns) as f64 * 1e-9;
    let ego = if ego.known { format!("{:.1} m/s", ego.speed_mps) } else { "unknown".to_owned() };
    let plan = input.plan;
    let mut text = format!(
        "tick {tick}  {seconds:.2} s   ego {ego}   {}  target {:.1} m/s  {:+.1} m/s²",
        plan.reason.name(),
        plan.target_speed_mps,
        plan.acceleration_mps2
    );
    if plan.time_to_collision_s.is_finite() {
        text.push_str(&format!("  TTC {:.1} s", plan.time_to_collision_s));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Detection, EgoMotion, PlanReason};

    const GREY: [u8; 3] = [90, 90, 90];

    struct Scene {
        rgb: Vec<u8>,
        detections: CameraDetections,
        tracks: CameraTracks,
        world: WorldModel,
        plan: Plan,
        names: Vec<String>,
    }

    fn scene() -> Scene {
        let mut scene = Scene {
            rgb: GREY.repeat(320 * 240),
            detections: CameraDetections::default(),
            tracks: CameraTracks { sensor: 2, ..CameraTracks::default() },
            world: WorldModel { tick: 7, reference_ns: 2_500_000_000, ..WorldModel::default() },
            plan: Plan { reason: PlanReason::Follow, acceleration_mps2: -0.5, ..Plan::default() },
            names: vec!["car".to_owned()],
        };
        scene.plan.time_to_collision_s = f32::INFINITY;
        scene
    }

    fn input(scene: &Scene) -> OverlayInput<'_> {
        OverlayInput {
            width_px: 320,
            height_px: 240,
            rgb: &scene.rgb,
            detections: &scene.detections,
            tracks: &scene.tracks,
            world: &scene.world,
            plan: &scene.plan,
            class_names: &scene.names,
            masks: None,
            pixel_from_vehicle: None,
            start_ns: 500_000_000,
            title: None,
        }
    }

    fn box_px(left: f32, top: f32, right: f32, bottom: f32) -> BoxPx {
        BoxPx { left, top, right, bottom }
    }

    #[test]
    fn the_header_tells_tick_time_and_plan() {
        let mut scene = scene();
        assert_eq!(header(&input(&scene)), "tick 7  2.00 s   ego unknown   follow  target 0.0 m/s  -0.5 m/s²");
        scene.world.ego = EgoMotion { known: true, speed_mps: 8.13, ..EgoMotion::default() };
        scene.plan.time_to_collision_s = 3.1;
        let text = header(&input(&scene));
        assert!(text.contains("ego 8.1 m/s") && text.ends_with("TTC 3.1 s"), "{text}");
        assert_eq!(header(&OverlayInput { title: Some("left"), ..input(&scene) }), "left");
    }

    #[test]
    fn a_track_has_the_colour_of_its_object() {
        let mut scene = scene();
        scene
            .tracks
            .tracks
            .push(CameraTrack { id: 4, box_px: box_px(100.0, 100.0, 200.0, 180.0), ..CameraTrack::default() })
            .unwrap();
        let object = Object { id: 9, sensor: 2, camera_track: 4, ..Object::default() };
        scene.world.objects.push(Object { sensor: 1, id: 3, ..object }).unwrap();
        scene.world.objects.push(object).unwrap();
        let canvas = draw_overlay(&input(&scene)).unwrap();
        let Colour { red, green, blue, .. } = colour_of(9);
        assert_eq!(canvas.pixel(100, 150), Some([red, green, blue]));
        assert_eq!(canvas.pixel(150, 150), Some(GREY));
    }

    #[test]
    fn masks_tint_the_picture_and_short_masks_do_no_harm() {
        let scene = scene();
        let mut drivable = vec![0; 4 * 2];
        drivable[7] = 1;
        let masks = MaskView { width: 4, height: 2, drivable: &drivable, lanes: &[] };
        let canvas = draw_overlay(&OverlayInput { masks: Some(masks), ..input(&scene) }).unwrap();
        assert_ne!(canvas.pixel(300, 200), Some(GREY));
        assert_eq!(canvas.pixel(200, 200), Some(GREY));
        let huge = MaskView { width: 1 << 40, height: 1 << 40, ..masks };
        assert!(draw_overlay(&OverlayInput { masks: Some(huge), ..input(&scene) }).is_ok());
    }

    #[test]
    fn lanes_are_projected_and_break_where_unseen() {
        let mut scene = scene();
        let lane = LaneCurve { x_min_m: 0.0, x_max_m: 10.0, ..LaneCurve::default() };
        scene.detections.lanes.push(lane).unwrap();
        scene.detections.lanes.push(LaneCurve { x_max_m: f32::NAN, ..lane }).unwrap();
        // straight ahead is up; nothing is seen beyond 5 m
        let projection = |[x, y, _]: [f64; 3]| (x < 5.0).then_some([160.0 - 10.0 * y, 200.0 - 10.0 * x]);
        let canvas = draw_overlay(&OverlayInput { pixel_from_vehicle: Some(&projection), ..input(&scene) }).unwrap();
        assert_eq!(canvas.pixel(160, 180), Some([0xF0, 0xE4, 0x42]));
        assert_eq!(canvas.pixel(160, 120), Some(GREY));
    }

    #[test]
    fn boxes_that_are_not_finite_are_left_out() {
        let mut scene = scene();
        let bad = box_px(f32::NAN, 50.0, f32::INFINITY, 60.0);
        scene.tracks.tracks.push(CameraTrack { box_px: bad, ..CameraTrack::default() }).unwrap();
        let plain = draw_overlay(&input(&scene)).unwrap();
        scene.detections.objects.push(Detection { box_px: bad, ..Detection::default() }).unwrap();
        assert_eq!(draw_overlay(&input(&scene)).unwrap(), plain);
    }

    #[test]
    fn a_picture_of_the_wrong_length_is_refused() {
        let mut scene = scene();
        scene.rgb.pop();
        assert!(matches!(draw_overlay(&input(&scene)), Err(CanvasError::Length { .. })));
    }
}
