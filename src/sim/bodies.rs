//! What bodies look like: cars, trucks, cyclists, people, buildings, trees, poles.
//!
//! Chance comes in, a [`Look`] of a few plain solids goes out, for rays of light, lidar and radar to meet. Promised: the
//! same chance gives the same look; its bounds are exactly those of its solids, with the ground at z = 0 and the origin
//! in the middle, so they are the box that a label draws.

use super::random::Random;
use super::scenario::ActorKind;

/// What light and radio waves make of a surface.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Material {
    /// Reflected share of red, green and blue light, linear.
    pub colour: [f32; 3],
    /// Light that it gives itself, linear, 1 being a white surface in full daylight.
    pub glow: [f32; 3],
    /// Share of mirror-like reflection, 0 to 1: windows and paint.
    pub gloss: f32,
    /// Share of a lidar's light that comes back from a surface square to the beam, 0 to 1; signs and plates more.
    pub lidar: f32,
}

/// A solid in a body's frame: x ahead, y left, z up, origin on the ground below its middle.
#[derive(Clone, Debug, PartialEq)]
pub enum Solid {
    /// All points p with `normal . p <= offset` for every plane `[nx, ny, nz, offset]`.
    Convex(Vec<[f64; 4]>),
    /// An ellipsoid with axes along x, y, z.
    Ellipsoid {
        /// Its middle.
        centre_m: [f64; 3],
        /// Its half axes.
        radii_m: [f64; 3],
    },
    /// A cylinder along y (wheels) or z (poles, trunks).
    Cylinder {
        /// Its middle.
        centre_m: [f64; 3],
        /// 1 for y, 2 for z.
        axis: usize,
        /// Its radius.
        radius_m: f64,
        /// Half its length.
        half_length_m: f64,
    },
}

/// A solid with its surface.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The solid.
    pub solid: Solid,
    /// Its surface.
    pub material: Material,
    /// Bounds of the solid.
    pub min_m: [f64; 3],
    /// See `min_m`.
    pub max_m: [f64; 3],
}

/// The look of one body.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Its solids.
    pub parts: Vec<Part>,
    /// Bounds of all: what a label encloses.
    pub min_m: [f64; 3],
    /// See `min_m`.
    pub max_m: [f64; 3],
    /// Radar cross-section seen from the front or back and from the side, square metres.
    pub radar_m2: [f64; 2],
}

const WHITE: [f32; 3] = [0.8, 0.8, 0.8];
const RED: [f32; 3] = [0.5, 0.015, 0.015];
const BLUE: [f32; 3] = [0.01, 0.06, 0.4];
const RUBBER: [f32; 3] = [0.02, 0.02, 0.02];
const PLASTIC: [f32; 3] = [0.03, 0.03, 0.035];
const STEEL: [f32; 3] = [0.35, 0.36, 0.37];
const BARK: [f32; 3] = [0.09, 0.06, 0.04];

/// Car colours, about as often as they are bought: most cars are white, black or grey.
const CAR_COLOURS: [[f32; 3]; 16] = [
    [0.75, 0.75, 0.74],
    [0.75, 0.75, 0.74],
    [0.70, 0.71, 0.72],
    [0.015, 0.015, 0.017],
    [0.015, 0.015, 0.017],
    [0.03, 0.03, 0.035],
    [0.08, 0.085, 0.09],
    [0.08, 0.085, 0.09],
    [0.20, 0.20, 0.21],
    [0.45, 0.46, 0.47],
    [0.40, 0.41, 0.42],
    [0.02, 0.06, 0.25],
    [0.05, 0.15, 0.40],
    [0.35, 0.02, 0.02],
    [0.02, 0.12, 0.05],
    [0.65, 0.42, 0.02],
];
const BOX_COLOURS: [[f32; 3]; 5] =
    [[0.75, 0.75, 0.74], [0.75, 0.75, 0.74], [0.45, 0.46, 0.47], [0.03, 0.10, 0.35], [0.65, 0.42, 0.02]];
const CLOTHES: [[f32; 3]; 10] = [
    [0.02, 0.02, 0.025],
    [0.06, 0.06, 0.07],
    [0.02, 0.03, 0.10],
    [0.05, 0.09, 0.22],
    [0.20, 0.20, 0.20],
    [0.60, 0.58, 0.55],
    [0.40, 0.03, 0.04],
    [0.05, 0.14, 0.06],
    [0.35, 0.25, 0.12],
    [0.70, 0.55, 0.03],
];
const SKIN: [[f32; 3]; 4] = [[0.55, 0.35, 0.26], [0.45, 0.27, 0.18], [0.22, 0.12, 0.07], [0.09, 0.05, 0.03]];
const HAIR: [[f32; 3]; 4] = [[0.01, 0.01, 0.01], [0.04, 0.025, 0.015], [0.30, 0.20, 0.09], [0.35, 0.35, 0.35]];
const WALLS: [[f32; 3]; 6] = [
    [0.60, 0.55, 0.45],
    [0.65, 0.63, 0.60],
    [0.30, 0.10, 0.06],
    [0.35, 0.33, 0.30],
    [0.55, 0.40, 0.22],
    [0.22, 0.23, 0.25],
];
const LEAVES: [[f32; 3]; 4] = [[0.03, 0.09, 0.02], [0.05, 0.12, 0.02], [0.07, 0.13, 0.03], [0.02, 0.06, 0.03]];

/// A road user: sizes and colours vary with chance.
pub fn actor(kind: ActorKind, random: Random) -> Look {
    match kind {
        ActorKind::Car => car(random.stream("car")),
        ActorKind::Truck => truck(random.stream("truck")),
        ActorKind::Cyclist => cyclist(random.stream("cyclist")),
        ActorKind::Pedestrian => pedestrian(random.stream("pedestrian")),
    }
}

fn car(random: Random) -> Look {
    let length_m = random.between(0, 4.0, 4.9);
    let half_width_m = random.between(1, 0.85, 0.95);
    let height_m = random.between(2, 1.4, 1.65);
    let body = paint(varied(pick(random, 3, &CAR_COLOURS), random, 4), 0.06);
    let wheel_m = random.between(5, 0.31, 0.345);
    // short and tall ones end with the cabin, long ones have a boot
    let boot_m = if random.happens(6, 0.4) { 0.13 * length_m } else { 0.02 * length_m };

    let (front, rear) = (0.5 * length_m - 0.02, -0.5 * length_m + 0.02);
    let (floor, belt, eaves) = (0.18, 0.64 * height_m, height_m - 0.06);
    let cowl = front - 0.24 * length_m;
    let back = rear + 0.08 + boot_m;
    let (roof_front, roof_rear) = (cowl - 0.65, back + if boot_m > 0.3 { 0.5 } else { 0.25 });
    let side = half_width_m - 0.02;
    let (cabin_side, lean) = (side - 0.03, 0.25);
    let eaves_side = cabin_side - lean * (eaves - belt);

    let mut parts = vec![
        prism(
            &[
                [rear + 0.12, floor],
                [front - 0.12, floor],
                [front, 0.45],
                [front - 0.06, belt - 0.2],
                [cowl, belt],
                [rear + 0.08, belt],
                [rear, 0.5],
            ],
            side,
        )
        .of(body),
        leaning(&[[back, belt], [cowl, belt], [roof_front, eaves], [roof_rear, eaves]], cabin_side, lean).of(glass()),
        leaning(
            &[
                [roof_rear - 0.03, eaves],
                [roof_front + 0.03, eaves],
                [roof_front - 0.12, height_m],
                [roof_rear + 0.12, height_m],
            ],
            eaves_side + 0.01,
            0.6,
        )
        .of(body),
    ];
    let middle = 0.5 * (roof_front + roof_rear);
    let pillars = [
        [cowl - 0.14, cowl - 0.04, roof_front - 0.02, roof_front - 0.1],
        [middle - 0.05, middle + 0.05, middle + 0.03, middle - 0.03],
        [back + 0.04, back + 0.3, roof_rear + 0.2, roof_rear + 0.03],
    ];
    for [a, b, c, d] in pillars {
        parts.push(leaning(&[[a, belt], [b, belt], [c, eaves], [d, eaves]], cabin_side + 0.008, lean).of(body));
    }
    for x in [front - 0.2 * length_m, rear + 0.18 * length_m] {
        push_axle(&mut parts, [x, half_width_m, wheel_m], 0.2);
    }
    parts.push(slab_box([front - 0.2, -0.5, 0.28], [front - 0.01, 0.5, 0.4]).of(matte(PLASTIC)));
    push_lamps(
        &mut parts,
        [front - 0.2, front - 0.005],
        [side - 0.4, side - 0.04],
        [belt - 0.34, belt - 0.22],
        head_lamp(),
    );
    push_lamps(
        &mut parts,
        [rear + 0.01, rear + 0.2],
        [side - 0.35, side - 0.02],
        [belt - 0.25, belt - 0.1],
        tail_lamp(),
    );
    parts.push(slab_box([front - 0.1, -0.26, 0.41], [front + 0.02, 0.26, 0.52]).of(plate()));
    parts.push(slab_box([rear - 0.02, -0.26, 0.5], [rear + 0.1, 0.26, 0.61]).of(plate()));
    assemble(parts, [10.0, 30.0])
}

fn truck(random: Random) -> Look {
    let length_m = random.between(0, 6.0, 9.0);
    let half_width_m = random.between(1, 1.15, 1.25);
    let height_m = random.between(2, 2.8, 3.6);
    let body = paint(varied(pick(random, 3, &CAR_COLOURS), random, 4), 0.05);
    let cargo = paint(varied(pick(random, 5, &BOX_COLOURS), random, 6), 0.02);
    let wheel_m = 0.45;
    let (front, rear) = (0.5 * length_m - 0.02, -0.5 * length_m + 0.02);
    let side = half_width_m - 0.02;
    let (cab_back, cab_top) = (front - 1.9, (height_m - 0.2).min(2.8));
    // the windscreen leans back from the bonnet's edge
    let (sill, rake) = (1.4, 0.25 / (cab_top - 1.4));
    let screen = |z: f64| front - rake * (z - sill);
    let (low, high) = (sill + 0.06, cab_top - 0.3);

    let mut parts = vec![
        prism(
            &[
                [cab_back, 0.45],
                [front - 0.05, 0.45],
                [front, 0.7],
                [front, sill],
                [screen(cab_top), cab_top],
                [cab_back, cab_top],
            ],
            side - 0.03,
        )
        .of(body),
        prism(
            &[
                [screen(low) - 0.05, low],
                [screen(low) + 0.012, low],
                [screen(high) + 0.012, high],
                [screen(high) - 0.05, high],
            ],
            side - 0.12,
        )
        .of(glass()),
        slab_box([front - 1.2, 0.01 - side, low], [front - 0.45, side - 0.01, high]).of(glass()),
        slab_box([rear, -side, 0.95], [cab_back - 0.1, side, height_m]).of(cargo),
        slab_box([rear + 0.05, -0.45, 0.55], [cab_back + 0.2, 0.45, 0.95]).of(matte(PLASTIC)),
        slab_box([front - 0.1, -0.8, 0.75], [front + 0.01, 0.8, 1.0]).of(matte(PLASTIC)),
    ];
    for x in [front - 1.2, rear + 0.22 * length_m] {
        push_axle(&mut parts, [x, half_width_m, wheel_m], 0.3);
    }
    push_lamps(&mut parts, [front - 0.1, front + 0.01], [side - 0.4, side - 0.1], [0.6, 0.74], head_lamp());
    push_lamps(&mut parts, [rear - 0.01, rear + 0.1], [side - 0.35, side - 0.02], [0.8, 0.95], tail_lamp());
    parts.push(slab_box([front - 0.1, -0.26, 0.5], [front + 0.02, 0.26, 0.61]).of(plate()));
    parts.push(slab_box([rear - 0.02, -0.26, 0.7], [rear + 0.1, 0.26, 0.81]).of(plate()));
    assemble(parts, [50.0, 200.0])
}

fn cyclist(random: Random) -> Look {
    let frame = paint(varied(pick(random, 0, &CAR_COLOURS), random, 1), 0.05);
    let jacket = matte(varied(pick(random, 2, &CLOTHES), random, 3));
    let trousers = matte(varied(pick(random, 4, &CLOTHES), random, 5));
    let skin = matte(pick(random, 6, &SKIN));
    let head_top =
        if random.happens(7, 0.6) { paint(pick(random, 8, &CAR_COLOURS), 0.04) } else { matte(pick(random, 8, &HAIR)) };
    let (dark, wheel_m) = (matte(RUBBER), 0.34);
    let up = random.between(9, -0.05, 0.06);

    let mut parts = vec![
        wheel([-0.56, 0.0, wheel_m], wheel_m, 0.03).of(dark),
        wheel([0.56, 0.0, wheel_m], wheel_m, 0.03).of(dark),
        prism(&[[-0.1, 0.28], [0.42, 0.85], [-0.2, 0.85]], 0.02).of(frame),
        prism(&[[-0.56, 0.31], [-0.1, 0.28], [-0.1, 0.34], [-0.56, 0.36]], 0.04).of(frame),
        prism(&[[0.53, 0.34], [0.58, 0.34], [0.46, 0.95], [0.41, 0.95]], 0.04).of(frame),
        slab_box([0.38, -0.3, 0.94], [0.44, 0.3, 0.99]).of(dark),
        slab_box([-0.36, -0.08, 0.85], [-0.08, 0.08, 0.91]).of(dark),
        slab_box([-0.4, -0.04, 0.74], [-0.37, 0.04, 0.82]).of(retroreflector(RED)),
        prism(&[[-0.28, 0.9], [-0.02, 0.88], [0.3, 1.36 + up], [0.1, 1.46 + up]], 0.17).of(jacket),
        ellipsoid([0.18, 0.0, 1.37 + up], [0.15, 0.24, 0.12]).of(jacket),
        ellipsoid([0.3, 0.0, 1.56 + up], [0.11, 0.085, 0.13]).of(skin),
        ellipsoid([0.28, 0.0, 1.61 + up], [0.125, 0.1, 0.09]).of(head_top),
    ];
    for [right, left] in [[-0.27, -0.18], [0.18, 0.27]] {
        let arm = [[0.36, 0.97], [0.44, 0.97], [0.28, 1.4 + up], [0.18, 1.36 + up]];
        parts.push(extrude(&arm, [right, left], 0.0).of(jacket));
    }
    // one pedal is down, the other one up
    let down = [[0.03, 0.2], [0.13, 0.2], [0.02, 0.95], [-0.2, 0.95]];
    let up = [[-0.02, 0.42], [0.08, 0.42], [0.16, 0.95], [-0.2, 0.95]];
    parts.push(extrude(&down, [0.04, 0.16], 0.0).of(trousers));
    parts.push(extrude(&up, [-0.16, -0.04], 0.0).of(trousers));
    assemble(parts, [2.0, 2.0])
}

fn pedestrian(random: Random) -> Look {
    let height_m = random.between(0, 1.5, 1.9);
    let half_width_m = random.between(1, 0.23, 0.3);
    let stride_m = random.between(2, 0.08, 0.16);
    let jacket = matte(varied(pick(random, 3, &CLOTHES), random, 4));
    let trousers = matte(varied(pick(random, 5, &CLOTHES), random, 6));
    let skin = matte(pick(random, 7, &SKIN));
    let hair = matte(pick(random, 8, &HAIR));
    let arm_m = 0.05;
    let shoulder = half_width_m - arm_m;
    let at = |share: f64| share * height_m;

    let mut parts = vec![
        ellipsoid([0.0, 0.0, at(0.64)], [0.14, shoulder, at(0.2)]).of(jacket),
        wheel([0.0, 0.0, at(0.79)], 0.085, shoulder).of(jacket),
        pole([0.0, 0.0], [at(0.8), at(0.9)], 0.05).of(skin),
        ellipsoid([0.0, 0.0, height_m - 0.13], [0.1, 0.08, 0.12]).of(skin),
        ellipsoid([-0.025, 0.0, height_m - 0.095], [0.1, 0.085, 0.095]).of(hair),
    ];
    for side in [-1.0, 1.0] {
        let (leg, arm) = (side * stride_m, -0.5 * side * stride_m);
        let y = side * 0.09;
        parts.push(pole([leg, y], [0.0, at(0.5)], 0.075).of(trousers));
        parts.push(slab_box([leg - 0.09, y - 0.05, 0.0], [leg + 0.17, y + 0.05, 0.08]).of(matte(PLASTIC)));
        parts.push(pole([arm, side * shoulder], [at(0.46), at(0.82)], arm_m).of(jacket));
        parts.push(ellipsoid([arm, side * shoulder, at(0.44)], [0.045, 0.03, 0.08]).of(skin));
    }
    assemble(parts, [0.7, 0.7])
}

/// A building of this size.
pub fn building(length_m: f64, depth_m: f64, height_m: f64, random: Random) -> Look {
    let [x, y] = [length_m, depth_m].map(|side_m| 0.5 * side_m.clamp(1.0, 1000.0).max(1.0));
    let top = height_m.clamp(2.0, 1000.0).max(2.0);
    let wall = varied(pick(random, 0, &WALLS), random, 1);
    let base = wall.map(|share| 0.5 * share);
    let (core_x, core_y) = (x - 0.03, y - 0.03);
    let mut parts = vec![
        slab_box([-core_x, -core_y, 0.0], [core_x, core_y, top]).of(matte(wall)),
        slab_box([-x, -y, 0.0], [x, y, 0.6]).of(matte(base)),
    ];
    // bands of glass around both long sides, cut into windows by strips of wall
    let storeys = ((top - 1.0) / 3.0).floor().clamp(0.0, 6.0);
    let pitch = (top - 1.0) / storeys.max(1.0);
    for storey in 0..storeys as usize {
        let low = 1.0 + pitch * (storey as f64 + 0.1);
        let band_x = core_x - 0.1 * x;
        parts.push(slab_box([-band_x, 0.01 - y, low], [band_x, y - 0.01, low + 0.55 * pitch]).of(glass()));
    }
    let strips = if storeys > 0.0 { (x / 2.0).floor().clamp(1.0, 6.0) } else { 0.0 };
    for strip in 0..strips as usize {
        let middle = 0.9 * x * (2.0 * (strip as f64 + 0.5) / strips - 1.0);
        let half = 0.25 * x / strips;
        parts.push(slab_box([middle - half, -y, 0.6], [middle + half, y, top - 0.2]).of(matte(wall)));
    }
    assemble(parts, [10.0, 10.0])
}

/// A tree.
pub fn tree(random: Random) -> Look {
    let height_m = random.between(0, 4.5, 9.0);
    let crown_m = height_m * random.between(1, 0.2, 0.3);
    let fork_m = random.between(2, 0.25, 0.4) * height_m;
    let leaves = matte(varied(pick(random, 3, &LEAVES), random, 4));
    let shade = matte(leaves.colour.map(|share| 0.75 * share));
    let tall = 0.5 * (height_m - fork_m);
    let lean = [5, 6].map(|index| 0.35 * crown_m * random.between(index, -1.0, 1.0));
    let [dx, dy] = lean;
    let parts = vec![
        pole([0.0, 0.0], [0.0, fork_m + 0.5 * tall], 0.025 * height_m).of(matte(BARK)),
        ellipsoid([0.0, 0.0, height_m - 1.05 * tall], [0.8 * crown_m, 0.8 * crown_m, 1.05 * tall]).of(leaves),
        ellipsoid([dx, dy, fork_m + 0.8 * tall], [crown_m, 0.9 * crown_m, 0.65 * tall]).of(shade),
        ellipsoid([-dy, dx, fork_m + 1.1 * tall], [0.8 * crown_m, crown_m, 0.6 * tall]).of(leaves),
    ];
    assemble(parts, [1.0, 1.0])
}

/// A street lamp; lit at night. Its arm reaches ahead.
pub fn lamp(is_lit: bool) -> Look {
    let steel = matte(STEEL);
    let glow = if is_lit { [2.5, 2.1, 1.4] } else { [0.0; 3] };
    let parts = vec![
        pole([0.0, 0.0], [0.0, 6.0], 0.08).of(steel),
        slab_box([0.0, -0.04, 5.86], [1.1, 0.04, 5.94]).of(steel),
        slab_box([0.9, -0.14, 5.84], [1.5, 0.14, 5.98]).of(steel),
        slab_box([0.95, -0.11, 5.78], [1.45, 0.11, 5.85]).of(Material { glow, ..paint(WHITE, 0.05) }),
    ];
    assemble(parts, [1.0, 1.0])
}

/// A traffic sign on its pole. It looks ahead and back alike.
pub fn sign(random: Random) -> Look {
    let middle = random.between(0, 2.2, 2.5);
    let up = std::f64::consts::FRAC_PI_2;
    let (edge, field) = (retroreflector(RED), retroreflector(WHITE));
    let blue = retroreflector(BLUE);
    let (rim, inner) = match random.below(1, 5) {
        // speed limit, warning, direction, stop, parking
        0 => (panel(16, up, 0.32, middle, 0.02).of(edge), panel(16, up, 0.24, middle, 0.026).of(field)),
        1 => (panel(3, up, 0.5, middle, 0.02).of(edge), panel(3, up, 0.32, middle, 0.026).of(field)),
        2 => (panel(16, up, 0.32, middle, 0.02).of(blue), panel(4, 0.0, 0.12, middle, 0.026).of(field)),
        3 => (panel(8, up / 4.0, 0.4, middle, 0.02).of(edge), panel(4, 0.0, 0.15, middle, 0.026).of(field)),
        _ => (panel(4, up / 2.0, 0.42, middle, 0.02).of(blue), panel(4, up / 2.0, 0.2, middle, 0.026).of(field)),
    };
    let post = pole([0.0, 0.0], [0.0, middle], 0.018).of(matte(STEEL));
    assemble(vec![post, rim, inner], [3.0, 0.5])
}

/// Two wheels and their hubs on one axle; `x, half width of the vehicle, radius`.
fn push_axle(parts: &mut Vec<Part>, [x, half_width_m, radius_m]: [f64; 3], tyre_m: f64) {
    let y = half_width_m - 0.008 - 0.5 * tyre_m;
    for y in [-y, y] {
        parts.push(wheel([x, y, radius_m], radius_m, 0.5 * tyre_m).of(matte(RUBBER)));
    }
    parts.push(wheel([x, 0.0, radius_m], 0.55 * radius_m, half_width_m).of(paint(STEEL, 0.06)));
}

/// A box on the left and the same on the right.
fn push_lamps(parts: &mut Vec<Part>, [x0, x1]: [f64; 2], [y0, y1]: [f64; 2], [z0, z1]: [f64; 2], material: Material) {
    parts.push(slab_box([x0, y0, z0], [x1, y1, z1]).of(material));
    parts.push(slab_box([x0, -y1, z0], [x1, -y0, z1]).of(material));
}

fn pick(random: Random, index: u64, colours: &[[f32; 3]]) -> [f32; 3] {
    colours.get(random.below(index, colours.len())).copied().unwrap_or([0.2; 3])
}

/// The colour, somewhat lighter or darker.
fn varied(colour: [f32; 3], random: Random, index: u64) -> [f32; 3] {
    let factor = random.between(index, 0.8, 1.15) as f32;
    colour.map(|share| (factor * share).min(0.9))
}

/// A dull surface. Near infrared comes back about as well as light does, from dark cloth and rubber a little better.
fn matte(colour: [f32; 3]) -> Material {
    let [red, green, blue] = colour;
    let lidar = 0.08 + 0.75 * (0.2126 * red + 0.7152 * green + 0.0722 * blue);
    Material { colour, glow: [0.0; 3], gloss: 0.0, lidar }
}

fn paint(colour: [f32; 3], gloss: f32) -> Material {
    Material { gloss, ..matte(colour) }
}

fn glass() -> Material {
    Material { colour: [0.02, 0.024, 0.028], glow: [0.0; 3], gloss: 0.25, lidar: 0.04 }
}

fn head_lamp() -> Material {
    Material { colour: [0.75, 0.75, 0.75], glow: [0.3, 0.3, 0.27], gloss: 0.4, lidar: 0.8 }
}

fn tail_lamp() -> Material {
    Material { colour: [0.4, 0.01, 0.01], glow: [0.4, 0.01, 0.01], gloss: 0.3, lidar: 0.9 }
}

fn plate() -> Material {
    retroreflector(WHITE)
}

/// What throws light back to where it comes from.
fn retroreflector(colour: [f32; 3]) -> Material {
    Material { lidar: 2.0, ..matte(colour) }
}

/// A solid with its bounds.
struct Shape {
    solid: Solid,
    min_m: [f64; 3],
    max_m: [f64; 3],
}

impl Shape {
    fn of(self, material: Material) -> Part {
        Part { solid: self.solid, material, min_m: self.min_m, max_m: self.max_m }
    }
}

fn slab_box(min_m: [f64; 3], max_m: [f64; 3]) -> Shape {
    let ([x0, y0, z0], [x1, y1, z1]) = (min_m, max_m);
    let planes = vec![
        [1.0, 0.0, 0.0, x1],
        [-1.0, 0.0, 0.0, -x0],
        [0.0, 1.0, 0.0, y1],
        [0.0, -1.0, 0.0, -y0],
        [0.0, 0.0, 1.0, z1],
        [0.0, 0.0, -1.0, -z0],
    ];
    Shape { solid: Solid::Convex(planes), min_m, max_m }
}

/// A convex outline in x and z, counter-clockwise with x to the right and z up, drawn out along y.
fn prism(profile_xz: &[[f64; 2]], half_width_m: f64) -> Shape {
    extrude(profile_xz, [-half_width_m, half_width_m], 0.0)
}

/// A prism whose sides lean inwards by so many metres per metre of height; it is widest at its foot.
fn leaning(profile_xz: &[[f64; 2]], half_width_m: f64, lean: f64) -> Shape {
    extrude(profile_xz, [-half_width_m, half_width_m], lean)
}

fn extrude(profile_xz: &[[f64; 2]], [right, left]: [f64; 2], lean: f64) -> Shape {
    let ([x0, z0], [x1, z1]) = bounds_of(profile_xz);
    let mut planes: Vec<[f64; 4]> = edges(profile_xz).map(|([nx, nz], offset)| [nx, 0.0, nz, offset]).collect();
    let length = (1.0 + lean * lean).sqrt();
    planes.push([0.0, 1.0 / length, lean / length, (left + lean * z0) / length]);
    planes.push([0.0, -1.0 / length, lean / length, (lean * z0 - right) / length]);
    Shape { solid: Solid::Convex(planes), min_m: [x0, right, z0], max_m: [x1, left, z1] }
}

/// An upright regular polygon across x, with this many corners, the first at this angle from y.
fn panel(corners: usize, first_rad: f64, radius_m: f64, middle_z_m: f64, half_thickness_m: f64) -> Shape {
    let outline: Vec<[f64; 2]> = (0..corners)
        .map(|corner| {
            let (sin, cos) = libm::sincos(first_rad + std::f64::consts::TAU * corner as f64 / corners as f64);
            [radius_m * cos, middle_z_m + radius_m * sin]
        })
        .collect();
    let ([y0, z0], [y1, z1]) = bounds_of(&outline);
    let mut planes: Vec<[f64; 4]> = edges(&outline).map(|([ny, nz], offset)| [0.0, ny, nz, offset]).collect();
    planes.push([1.0, 0.0, 0.0, half_thickness_m]);
    planes.push([-1.0, 0.0, 0.0, half_thickness_m]);
    Shape { solid: Solid::Convex(planes), min_m: [-half_thickness_m, y0, z0], max_m: [half_thickness_m, y1, z1] }
}

/// The outward normal and the offset of each edge of a counter-clockwise outline.
fn edges(outline: &[[f64; 2]]) -> impl Iterator<Item = ([f64; 2], f64)> {
    outline.iter().zip(outline.iter().cycle().skip(1)).map(|([a0, a1], [b0, b1])| {
        let (along0, along1) = (b0 - a0, b1 - a1);
        let length = (along0 * along0 + along1 * along1).sqrt();
        let (n0, n1) = (along1 / length, -along0 / length);
        ([n0, n1], n0 * a0 + n1 * a1)
    })
}

fn bounds_of<const N: usize>(points: &[[f64; N]]) -> ([f64; N], [f64; N]) {
    let (mut min, mut max) = ([f64::INFINITY; N], [f64::NEG_INFINITY; N]);
    for point in points {
        for ((low, high), value) in min.iter_mut().zip(&mut max).zip(point) {
            *low = low.min(*value);
            *high = high.max(*value);
        }
    }
    (min, max)
}

fn ellipsoid(centre_m: [f64; 3], radii_m: [f64; 3]) -> Shape {
    let ([x, y, z], [rx, ry, rz]) = (centre_m, radii_m);
    let (min_m, max_m) = ([x - rx, y - ry, z - rz], [x + rx, y + ry, z + rz]);
    Shape { solid: Solid::Ellipsoid { centre_m, radii_m }, min_m, max_m }
}

/// A cylinder along y.
fn wheel(centre_m: [f64; 3], radius_m: f64, half_length_m: f64) -> Shape {
    let [x, y, z] = centre_m;
    let min_m = [x - radius_m, y - half_length_m, z - radius_m];
    let max_m = [x + radius_m, y + half_length_m, z + radius_m];
    Shape { solid: Solid::Cylinder { centre_m, axis: 1, radius_m, half_length_m }, min_m, max_m }
}

/// An upright cylinder from one height to another.
fn pole([x, y]: [f64; 2], [z0, z1]: [f64; 2], radius_m: f64) -> Shape {
    let (centre_m, half_length_m) = ([x, y, 0.5 * (z0 + z1)], 0.5 * (z1 - z0));
    let (min_m, max_m) = ([x - radius_m, y - radius_m, z0], [x + radius_m, y + radius_m, z1]);
    Shape { solid: Solid::Cylinder { centre_m, axis: 2, radius_m, half_length_m }, min_m, max_m }
}

/// Puts the origin below the middle of all parts.
fn assemble(mut parts: Vec<Part>, radar_m2: [f64; 2]) -> Look {
    let corners: Vec<[f64; 3]> = parts.iter().flat_map(|part| [part.min_m, part.max_m]).collect();
    let ([x0, y0, z0], [x1, y1, z1]) = bounds_of(&corners);
    let by_m = [-0.5 * (x0 + x1), -0.5 * (y0 + y1)];
    for part in &mut parts {
        shift(part, by_m);
    }
    // rounding makes one side larger by a hair: the larger one holds for both
    let corners: Vec<[f64; 3]> = parts.iter().flat_map(|part| [part.min_m, part.max_m]).collect();
    let ([x0, y0, _], [x1, y1, _]) = bounds_of(&corners);
    let (x, y) = (x1.max(-x0), y1.max(-y0));
    Look { parts, min_m: [-x, -y, z0], max_m: [x, y, z1], radar_m2 }
}

fn shift(part: &mut Part, [dx, dy]: [f64; 2]) {
    match &mut part.solid {
        Solid::Convex(planes) => planes.iter_mut().for_each(|[nx, ny, _, offset]| *offset += *nx * dx + *ny * dy),
        Solid::Ellipsoid { centre_m: [x, y, _], .. } | Solid::Cylinder { centre_m: [x, y, _], .. } => {
            *x += dx;
            *y += dy;
        }
    }
    for [x, y, _] in [&mut part.min_m, &mut part.max_m] {
        *x += dx;
        *y += dy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_looks() -> Vec<(String, Look)> {
        let mut looks = vec![("lamp".to_owned(), lamp(true))];
        for number in 0..20 {
            let random = Random::new(number);
            for kind in ActorKind::ALL {
                looks.push((format!("{} {number}", kind.class_name()), actor(kind, random)));
            }
            looks
                .push((format!("building {number}"), building(12.0 + number as f64, 9.0, 4.0 + number as f64, random)));
            looks.push((format!("tree {number}"), tree(random)));
            looks.push((format!("sign {number}"), sign(random)));
        }
        looks
    }

    #[test]
    fn every_body_stands_on_the_ground_around_its_origin() {
        for (name, look) in all_looks() {
            let ([x0, y0, z0], [x1, y1, z1]) = (look.min_m, look.max_m);
            assert!(z0 == 0.0 && z1 > 1.0, "{name}: z {z0} to {z1}");
            assert!(x0 == -x1 && y0 == -y1 && x1 > 0.0 && y1 > 0.0, "{name}: {:?} {:?}", look.min_m, look.max_m);
            let corners: Vec<_> = look.parts.iter().flat_map(|part| [part.min_m, part.max_m]).collect();
            let (min, max) = bounds_of(&corners);
            for axis in 0..3 {
                assert!(
                    (min[axis] - look.min_m[axis]).abs() < 1e-9 && (max[axis] - look.max_m[axis]).abs() < 1e-9,
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn road_users_have_believable_sizes() {
        let limits = [
            (ActorKind::Car, [[4.0, 4.9], [1.7, 1.9], [1.4, 1.65]]),
            (ActorKind::Truck, [[6.0, 9.0], [2.3, 2.5], [2.8, 3.6]]),
            (ActorKind::Cyclist, [[1.75, 1.85], [0.55, 0.65], [1.6, 1.8]]),
            (ActorKind::Pedestrian, [[0.4, 0.6], [0.45, 0.6], [1.5, 1.9]]),
        ];
        for (kind, limits) in limits {
            for number in 0..50 {
                let look = actor(kind, Random::new(number));
                for (axis, [low, high]) in limits.into_iter().enumerate() {
                    let size = look.max_m[axis] - look.min_m[axis];
                    assert!(size > low - 1e-9 && size < high + 1e-9, "{kind:?} {number}: axis {axis} is {size}");
                }
            }
        }
    }

    /// Part bounds that are too small would cut solids, too large ones would cost time and draw wrong labels: each plane
    /// of a convex solid must touch the corner set that its neighbours make, and no corner may lie outside the bounds.
    #[test]
    fn convex_solids_fill_their_bounds() {
        for (name, look) in all_looks() {
            for (number, part) in look.parts.iter().enumerate() {
                let Solid::Convex(planes) = &part.solid else { continue };
                let (corners, faces) = corners(planes);
                assert_eq!(faces, planes.len(), "{name} part {number}: a plane has no face");
                let (min, max) = bounds_of(&corners);
                for axis in 0..3 {
                    let is_exact =
                        (min[axis] - part.min_m[axis]).abs() < 1e-6 && (max[axis] - part.max_m[axis]).abs() < 1e-6;
                    assert!(is_exact, "{name} part {number}: {min:?} {max:?}, not {:?} {:?}", part.min_m, part.max_m);
                }
            }
        }
    }

    /// Every corner of a convex solid, and how many planes have at least three of them.
    fn corners(planes: &[[f64; 4]]) -> (Vec<[f64; 3]>, usize) {
        let normal = |plane: &[f64; 4]| nalgebra::Vector3::new(plane[0], plane[1], plane[2]);
        let mut corners = Vec::new();
        for (i, a) in planes.iter().enumerate() {
            for (j, b) in planes.iter().enumerate().skip(i + 1) {
                for c in planes.iter().skip(j + 1) {
                    let (na, nb, nc) = (normal(a), normal(b), normal(c));
                    let volume = na.dot(&nb.cross(&nc));
                    if volume.abs() < 1e-9 {
                        continue;
                    }
                    let point = (nb.cross(&nc) * a[3] + nc.cross(&na) * b[3] + na.cross(&nb) * c[3]) / volume;
                    if planes.iter().all(|plane| normal(plane).dot(&point) <= plane[3] + 1e-7) {
                        corners.push([point.x, point.y, point.z]);
                    }
                }
            }
        }
        let touches = |plane: &[f64; 4]| {
            let on =
                |corner: &&[f64; 3]| (normal(plane).dot(&nalgebra::Vector3::from(**corner)) - plane[3]).abs() < 1e-6;
            corners.iter().filter(on).count() >= 3
        };
        let faces = planes.iter().filter(|plane| touches(plane)).count();
        (corners, faces)
    }

    #[test]
    fn looks_depend_on_chance_alone() {
        for kind in ActorKind::ALL {
            assert_eq!(actor(kind, Random::new(5)), actor(kind, Random::new(5)));
            assert_ne!(actor(kind, Random::new(5)), actor(kind, Random::new(6)));
        }
        let glows = |look: Look| look.parts.iter().any(|part| part.material.glow != [0.0; 3]);
        assert!(glows(lamp(true)) && !glows(lamp(false)));
    }

    #[test]
    fn buildings_of_any_size_have_a_shape() {
        for size in [f64::NAN, f64::INFINITY, -3.0, 0.0, 1e9] {
            let look = building(size, size, size, Random::new(1));
            assert!(look.max_m.iter().all(|high| high.is_finite() && *high > 0.0), "{size}: {:?}", look.max_m);
        }
    }
}
