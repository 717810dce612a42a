//! The world model from above: what the vehicle believes to be around it, and where it wants to go.
//!
//! Data comes from a [`WorldModel`] and a [`Plan`] of the same tick, and goes into a [`Canvas`] as high as asked for,
//! so that it fits beside a camera's picture. The vehicle is at the bottom, x points up, y to the left.

use super::canvas::{Canvas, CanvasError, Colour};
use super::overlay::{lane_points, path_points};
use super::{class_name, colour_of, length};
use crate::messages::{FreeSpace, Object, Plan, TrackState, WorldModel};

/// What is shown ahead of the vehicle's origin, metres.
pub const AHEAD_M: f64 = 60.0;
/// What is shown on each side, metres.
pub const SIDE_M: f64 = 20.0;
/// What is shown behind the vehicle's origin, metres.
pub const BEHIND_M: f64 = 4.0;

/// Squared Mahalanobis distance that 95 % of a two-dimensional normal distribution stay below: -2 ln 0.05.
const CHI_SQUARED_95: f64 = 5.991_464_547_107_979;
/// Corners of the drawn ellipse.
const ELLIPSE_CORNERS: u16 = 36;
/// Below this speed, direction of motion says nothing about heading, m/s.
const STANDING_MPS: f64 = 0.5;
/// The drawn outline of the vehicle itself, for orientation only: behind and ahead of the rear axle, half its width.
const EGO_M: [f64; 3] = [-1.0, 3.7, 0.9];

const GROUND: Colour = Colour::rgb(24, 27, 31);
const GRID: Colour = Colour::rgb(62, 67, 74);
const INK: Colour = Colour::rgb(225, 228, 232);
const FREE: Colour = Colour::rgb(0x00, 0x9E, 0x73).with_alpha(70);
const LANE: Colour = Colour::rgb(0xF0, 0xE4, 0x42);
const PATH: Colour = Colour::rgb(0x56, 0xB4, 0xE9);
const BACKING: Colour = Colour::BLACK.with_alpha(150);

/// Draws the world model.
///
/// # Errors
/// [`CanvasError::Size`] when the height is 0 or too large for a canvas.
pub fn draw_birds_eye(
    world: &WorldModel,
    plan: &Plan,
    class_names: &[String],
    height_px: u32,
) -> Result<Canvas, CanvasError> {
    let mut view = View::new(height_px)?;
    view.free_space(&world.free_space);
    view.grid();
    for lane in &world.lanes {
        view.path(&lane_points(lane), 2.0, LANE);
    }
    view.path(&path_points(&plan.path_m), 3.0, PATH);
    view.ego();
    for object in &world.objects {
        view.object(object, class_names);
    }
    view.header(world, plan);
    Ok(view.canvas)
}

struct View {
    canvas: Canvas,
    px_per_m: f64,
    text_px: f64,
}

impl View {
    fn new(height_px: u32) -> Result<View, CanvasError> {
        let px_per_m = f64::from(height_px) / (AHEAD_M + BEHIND_M);
        let width_px = (2.0 * SIDE_M * px_per_m + 0.5) as u32;
        let canvas = Canvas::new(width_px.max(1), height_px, GROUND)?;
        Ok(View { canvas, px_per_m, text_px: (f64::from(height_px) / 50.0).clamp(10.0, 24.0) })
    }

    /// Pixel of a point in the vehicle frame, metres.
    fn pixel(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [(SIDE_M - y) * self.px_per_m - 0.5, (AHEAD_M - x) * self.px_per_m - 0.5]
    }

    fn path(&mut self, points_m: &[[f64; 2]], width_px: f64, colour: Colour) {
        let points: Vec<[f64; 2]> = points_m.iter().map(|point| self.pixel(*point)).collect();
        self.canvas.polyline(&points, width_px, colour);
    }

    fn outline(&mut self, corners_m: &[[f64; 2]], width_px: f64, colour: Colour) {
        let corners: Vec<[f64; 2]> = corners_m.iter().map(|corner| self.pixel(*corner)).collect();
        self.canvas.outline(&corners, width_px, colour);
    }

    fn fill(&mut self, corners_m: &[[f64; 2]], colour: Colour) {
        let corners: Vec<[f64; 2]> = corners_m.iter().map(|corner| self.pixel(*corner)).collect();
        self.canvas.fill_polygon(&corners, colour);
    }

    fn grid(&mut self) {
        for tens in 0..=6 {
            let x = 10.0 * f64::from(tens);
            self.path(&[[x, SIDE_M], [x, -SIDE_M]], 1.0, GRID);
            let [_, row] = self.pixel([x, 0.0]);
            if tens > 0 {
                self.canvas.text([3.0, row + 2.0], self.text_px, &format!("{x:.0} m"), INK);
            }
        }
        for tens in -2..=2 {
            let y = 10.0 * f64::from(tens);
            self.path(&[[AHEAD_M, y], [-BEHIND_M, y]], 1.0, GRID);
        }
    }

    fn free_space(&mut self, free: &FreeSpace) {
        let (first, step) = (f64::from(free.first_azimuth_rad), f64::from(free.step_rad));
        for (sector, range) in free.range_m.iter().enumerate() {
            if !range.is_finite() || *range <= 0.0 {
                continue;
            }
            let middle = first + step * sector as f64;
            let corner = |azimuth: f64| {
                let range = f64::from(*range).min(2.0 * AHEAD_M);
                [range * libm::cos(azimuth), range * libm::sin(azimuth)]
            };
            self.fill(&[[0.0, 0.0], corner(middle - 0.5 * step), corner(middle + 0.5 * step)], FREE);
        }
    }

    fn ego(&mut self) {
        let [behind, ahead, half_width] = EGO_M;
        let corners = [[behind, half_width], [ahead, half_width], [ahead, -half_width], [behind, -half_width]];
        self.fill(&corners, Colour::rgb(120, 128, 138));
        self.outline(&corners, 1.5, INK);
        // an arrow head, so that nobody has to guess where the front is
        self.fill(&[[ahead - 0.4, 0.0], [ahead - 1.6, 0.6], [ahead - 1.6, -0.6]], GROUND);
    }

    fn object(&mut self, object: &Object, class_names: &[String]) {
        let colour = colour_of(object.id);
        let corners = footprint(object);
        if object.state == TrackState::Confirmed {
            self.fill(&corners, colour.with_alpha(110));
        }
        self.outline(&corners, 2.0, colour);
        if let Some(ellipse) = covariance_ellipse(object) {
            self.outline(&ellipse, 1.0, colour.with_alpha(190));
        }
        self.velocity(object, colour);
        let [x, y] = self.pixel(object.position_m);
        let name = class_name(class_names, object.class);
        let near = [x + 0.8 * self.px_per_m * f64::from(object.extent_m[1]).clamp(0.5, 3.0), y];
        // far away objects stay off the picture, so their labels must not be pulled into it
        let inside = object.position_m[0] <= AHEAD_M && object.position_m[0] >= -BEHIND_M;
        if inside && object.position_m[1].abs() <= SIDE_M {
            self.canvas.label(near, self.text_px, &format!("{name} {}", object.id), INK, BACKING);
        }
    }

    /// An arrow from the object's position to where it will be in one second.
    fn velocity(&mut self, object: &Object, colour: Colour) {
        let [x, y] = object.position_m;
        let [vx, vy] = object.velocity_mps;
        let speed = length([vx, vy]);
        if !speed.is_finite() || speed < STANDING_MPS {
            return;
        }
        let (tip, [ux, uy]) = ([x + vx, y + vy], [vx / speed, vy / speed]);
        let barb = |side: f64| [tip[0] - 0.8 * ux - 0.5 * side * uy, tip[1] - 0.8 * uy + 0.5 * side * ux];
        self.path(&[[x, y], tip], 2.0, colour);
        self.path(&[barb(1.0), tip, barb(-1.0)], 2.0, colour);
    }

    fn header(&mut self, world: &WorldModel, plan: &Plan) {
        let ego = if world.ego.known { format!("{:.1} m/s", world.ego.speed_mps) } else { "unknown".to_owned() };
        let text = format!("tick {}  ego {ego}  objects {}  {}", world.tick, world.objects.len(), plan.reason.name());
        self.canvas.label([0.0, 0.0], self.text_px, &text, INK, BACKING);
    }
}

/// Corners of an object on the ground: its position is the middle of the side towards the vehicle, so it extends away.
fn footprint(object: &Object) -> [[f64; 2]; 4] {
    let [x, y] = object.position_m;
    let [ux, uy] = heading_away(object);
    let (long, half) = (f64::from(object.extent_m[0]), 0.5 * f64::from(object.extent_m[1]));
    let corner = |along: f64, left: f64| [x + along * ux - left * uy, y + along * uy + left * ux];
    [corner(0.0, half), corner(long, half), corner(long, -half), corner(0.0, -half)]
}

/// Direction of the object's length, pointing away from the vehicle.
fn heading_away(object: &Object) -> [f64; 2] {
    let [vx, vy] = object.velocity_mps;
    let speed = length([vx, vy]);
    let [ux, uy] = if speed.is_finite() && speed >= STANDING_MPS { [vx / speed, vy / speed] } else { [1.0, 0.0] };
    let outwards = ux * object.position_m[0] + uy * object.position_m[1];
    if outwards < 0.0 { [-ux, -uy] } else { [ux, uy] }
}

/// Outline of the area that holds the object's position with 95 % probability; `None` when the covariance has no such
/// area. Axes are the eigenvectors of the symmetric 2 x 2 matrix ((a, b), (b, c)), in closed form.
fn covariance_ellipse(object: &Object) -> Option<Vec<[f64; 2]>> {
    let [a, b, _, _, c, ..] = object.covariance;
    let (mean, half) = (0.5 * (a + c), 0.5 * (a - c));
    let root = (half * half + b * b).sqrt();
    let (large, small) = (mean + root, (mean - root).max(0.0));
    if !large.is_finite() || large <= 0.0 {
        return None;
    }
    let turn = 0.5 * libm::atan2(2.0 * b, a - c);
    let (sin, cos) = (libm::sin(turn), libm::cos(turn));
    let (long, short) = ((CHI_SQUARED_95 * large).sqrt(), (CHI_SQUARED_95 * small).sqrt());
    let [x, y] = object.position_m;
    let corner = |index: u16| {
        let angle = std::f64::consts::TAU * f64::from(index) / f64::from(ELLIPSE_CORNERS);
        let (along, across) = (long * libm::cos(angle), short * libm::sin(angle));
        [x + along * cos - across * sin, y + along * sin + across * cos]
    };
    Some((0..ELLIPSE_CORNERS).map(corner).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::canvas::side_by_side;

    fn car() -> Object {
        let mut car = Object { id: 1, position_m: [20.0, 5.0], extent_m: [4.0, 2.0, 1.5], ..Object::default() };
        car.state = TrackState::Confirmed;
        car
    }

    fn draw(world: &WorldModel) -> Canvas {
        draw_birds_eye(world, &Plan::default(), &["car".to_owned()], 640).unwrap()
    }

    #[test]
    fn it_is_as_high_as_asked_for() {
        let canvas = draw(&WorldModel::default());
        assert_eq!((canvas.width_px(), canvas.height_px()), (400, 640));
        let picture = Canvas::new(300, 640, Colour::BLACK).unwrap();
        assert_eq!(side_by_side(&picture, &canvas).unwrap().width_px(), 700);
        assert!(draw_birds_eye(&WorldModel::default(), &Plan::default(), &[], 0).is_err());
    }

    #[test]
    fn an_object_lies_where_it_is() {
        let empty = draw(&WorldModel::default());
        let mut world = WorldModel::default();
        world.objects.push(car()).unwrap();
        let canvas = draw(&world);
        // 10 px per metre: 22 m ahead and 5 m to the left, in the middle of the car
        assert_ne!(canvas.pixel(150, 380), empty.pixel(150, 380));
        assert_eq!(canvas.pixel(150, 430), empty.pixel(150, 430));
        assert_eq!(canvas.pixel(250, 380), empty.pixel(250, 380));
    }

    #[test]
    fn a_footprint_extends_away_from_the_vehicle() {
        let mut car = car();
        assert_eq!(footprint(&car), [[20.0, 6.0], [24.0, 6.0], [24.0, 4.0], [20.0, 4.0]]);
        car.velocity_mps = [-8.0, 0.0];
        assert_eq!(footprint(&car), [[20.0, 6.0], [24.0, 6.0], [24.0, 4.0], [20.0, 4.0]]);
        car.velocity_mps = [0.0, 8.0];
        assert_eq!(footprint(&car), [[19.0, 5.0], [19.0, 9.0], [21.0, 9.0], [21.0, 5.0]]);
    }

    #[test]
    fn an_ellipse_has_the_covariance_as_its_shape() {
        let mut car = car();
        assert_eq!(covariance_ellipse(&car), None);
        car.covariance = [2.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let ellipse = covariance_ellipse(&car).unwrap();
        // every corner lies at the 95 % distance: d' C^-1 d = chi squared, with C^-1 = ((2, -1), (-1, 2)) / 3
        for [x, y] in ellipse {
            let (x, y) = (x - 20.0, y - 5.0);
            let squared = (2.0 * x * x - 2.0 * x * y + 2.0 * y * y) / 3.0;
            assert!((squared - CHI_SQUARED_95).abs() < 1e-9, "{squared}");
        }
        car.covariance[0] = f64::NAN;
        assert_eq!(covariance_ellipse(&car), None);
    }

    #[test]
    fn free_space_fills_its_sector_only() {
        let mut world = WorldModel::default();
        world.free_space.first_azimuth_rad = -0.25;
        world.free_space.step_rad = 0.5;
        world.free_space.range_m.extend([0.0, 30.0, f32::NAN]);
        let (canvas, empty) = (draw(&world), draw(&WorldModel::default()));
        // 15 m ahead: 3 m to the left is in the second sector, 3 m to the right is in the first
        assert_ne!(canvas.pixel(170, 450), empty.pixel(170, 450));
        assert_eq!(canvas.pixel(230, 450), empty.pixel(230, 450));
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut world = WorldModel::default();
        let mut bad = Object { position_m: [f64::NAN, f64::INFINITY], velocity_mps: [f64::MAX, 1.0], ..car() };
        bad.extent_m = [f32::INFINITY, f32::NAN, 0.0];
        bad.covariance = [f64::INFINITY; 10];
        world.objects.push(bad).unwrap();
        let mut header_only = WorldModel::default();
        header_only.objects.push(Object { position_m: [1e6, 0.0], ..Object::default() }).unwrap();
        assert_eq!(draw(&world), draw(&header_only));
    }
}
