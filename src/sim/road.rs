//! The road: where lanes, markings, kerbs and grass are.
//!
//! A scenario's [`RoadSpec`] comes in; out go places along the road for whoever moves on it, and the ground at any point
//! for rays that meet it. The reference line begins at the world's origin along x and is made of pieces of constant
//! curvature; everything else is told by s, the distance along it, and d, the distance to its left. Own lanes lie right
//! of it, lanes of oncoming traffic left.
//!
//! Promised: a point and its place are each other's exact inverse, up to rounding, as long as the point is nearer to the
//! line than the centre of the curve is and the line, with its straight continuations, keeps clear of itself. A place is
//! found in constant time near the road, for pictures ask once per pixel. No input panics.

use std::iter::successors;

use super::scenario::{RoadSpec, Segment};

/// Most lanes per direction; no road is wider.
const MAX_LANES: usize = 16;
/// Curves flatter than this count as straight: a radius of a million kilometres.
const MIN_CURVATURE_PER_M: f64 = 1e-9;
/// How far inside the edge of the carriageway the middle of the edge line lies.
const EDGE_LINE_INSET_M: f64 = 0.15;
/// Half the width of a painted line.
const LINE_HALF_WIDTH_M: f64 = 0.075;
/// From the start of one dash to the start of the next, and how much of it is painted.
const DASH_PERIOD_M: f64 = 12.0;
const DASH_M: f64 = 6.0;
/// Markings end this far before the crossing road.
const JUNCTION_CLEARANCE_M: f64 = 4.0;
/// How far the crossing road reaches to both sides.
const CROSSING_REACH_M: f64 = 80.0;
/// Where zebra stripes begin and end, counted from the edge of the crossing road.
const ZEBRA_M: [f64; 2] = [0.3, 3.3];
/// From the start of one zebra stripe to the start of the next, and how much of it is painted.
const ZEBRA_PERIOD_M: f64 = 1.0;
const ZEBRA_STRIPE_M: f64 = 0.5;
/// Where the stop line begins and ends, counted likewise.
const STOP_LINE_M: [f64; 2] = [3.6, 3.9];
/// Asphalt outside the edge of the carriageway.
const SHOULDER_M: f64 = 0.3;
/// Width of a kerb, from above.
const KERB_M: f64 = 0.2;
/// Width of a pavement.
const PAVEMENT_M: f64 = 2.5;
/// Footprints that paint is averaged over lie between these.
const FOOTPRINT_M: [f64; 2] = [1e-3, 100.0];
/// Most points of a marking that are asked for at once.
const MAX_POINTS: f64 = 10_000.0;
/// Size of a grid cell, doubled until there are not too many.
const CELL_M: f64 = 8.0;
const MAX_CELLS: f64 = 131_072.0;
/// How far the grid reaches beyond the road.
const GRID_MARGIN_M: f64 = 60.0;

/// What the ground is made of at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The carriageway.
    Asphalt,
    /// The raised edge of a pavement.
    Kerb,
    /// Where people walk.
    Pavement,
    /// Everything else.
    Grass,
}

/// The ground at a place, for light and for lidar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surface {
    /// What it is made of.
    pub ground: Ground,
    /// Share of the footprint that is painted, 0 to 1.
    pub painted: f64,
    /// Whether the paint is part of a lane marking, and not of a crossing or a stop line.
    pub is_lane_marking: bool,
}

/// A place along the road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Distance along the reference line.
    pub s_m: f64,
    /// Distance to its left.
    pub d_m: f64,
    /// Direction of the reference line there.
    pub heading_rad: f64,
    /// Its curvature, positive to the left.
    pub curvature_per_m: f64,
}

/// One marking as truth wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Marking {
    /// Whether it is dashed.
    pub dashed: bool,
    /// Distance to the left of the reference line.
    pub d_m: f64,
}

/// The road of a scenario.
#[derive(Clone, Debug)]
pub struct Road {
    /// The straight line that leads to the start.
    lead_in: Piece,
    /// The lead-in, the segments, and the straight line that leads on, by distance along the road.
    pieces: Vec<Piece>,
    grid: Grid,
    length_m: f64,
    lane_width_m: f64,
    /// Right, left.
    edges_m: [f64; 2],
    own_lanes_m: Vec<f64>,
    oncoming_lanes_m: Vec<f64>,
    markings: Vec<Marking>,
    junctions_m: Vec<f64>,
    has_pavements: bool,
}

impl Road {
    /// The road that a scenario describes. Segments without a positive length and finite curvature are passed over.
    pub fn new(spec: &RoadSpec) -> Self {
        let lead_in = Piece::straight([0.0; 3], 0.0, [f64::NEG_INFINITY, 0.0]);
        let (pieces, length_m) = pieces(lead_in, &spec.segments);
        let own = spec.own_lanes.clamp(1, MAX_LANES);
        let oncoming = spec.oncoming_lanes.min(MAX_LANES);
        let width_m = spec.lane_width_m;
        let mut junctions_m: Vec<f64> = spec.junctions_m.iter().copied().filter(|s_m| s_m.is_finite()).collect();
        junctions_m.sort_by(f64::total_cmp);
        Road {
            lead_in,
            grid: Grid::new(&pieces),
            pieces,
            length_m,
            lane_width_m: width_m,
            edges_m: [-(own as f64) * width_m, oncoming as f64 * width_m],
            own_lanes_m: (0..own).rev().map(|lane| -(lane as f64 + 0.5) * width_m).collect(),
            oncoming_lanes_m: (0..oncoming).map(|lane| (lane as f64 + 0.5) * width_m).collect(),
            markings: markings(own, oncoming, width_m),
            junctions_m,
            has_pavements: spec.pavements,
        }
    }

    /// Length of the reference line.
    pub fn length_m(&self) -> f64 {
        self.length_m
    }

    /// The place of a point of the world; beyond both ends the line goes straight on. Directions add up along the road
    /// and are not wrapped.
    pub fn place(&self, x_m: f64, y_m: f64) -> Place {
        let piece = match self.grid.candidates(x_m, y_m) {
            Some([only]) => self.pieces.get(*only as usize),
            Some(several) => nearest(several.iter().filter_map(|index| self.pieces.get(*index as usize)), x_m, y_m),
            None => nearest(self.pieces.iter(), x_m, y_m),
        };
        piece.unwrap_or(&self.lead_in).place(x_m, y_m)
    }

    /// The point of the world at a place, and the direction of the road there: x, y, heading.
    pub fn point(&self, s_m: f64, d_m: f64) -> [f64; 3] {
        let after = self.pieces.partition_point(|piece| piece.start_s_m <= s_m);
        self.pieces.get(after.saturating_sub(1)).unwrap_or(&self.lead_in).point(s_m, d_m)
    }

    /// Lanes in the driving direction of the ego vehicle: distance of each middle to the left of the reference line,
    /// from right to left.
    pub fn own_lanes_m(&self) -> &[f64] {
        &self.own_lanes_m
    }

    /// Lanes of oncoming traffic, likewise.
    pub fn oncoming_lanes_m(&self) -> &[f64] {
        &self.oncoming_lanes_m
    }

    /// Width of every lane.
    pub fn lane_width_m(&self) -> f64 {
        self.lane_width_m
    }

    /// The right and the left edge of the carriageway, as distances to the left of the reference line.
    pub fn edges_m(&self) -> [f64; 2] {
        self.edges_m
    }

    /// Distance along the road of the middle of each junction, in order.
    pub fn junctions_m(&self) -> &[f64] {
        &self.junctions_m
    }

    /// All lane markings along the reference line, from left to right.
    pub fn markings(&self) -> &[Marking] {
        &self.markings
    }

    /// Whether markings are painted at this distance along the road: not inside a junction.
    pub fn is_marked(&self, s_m: f64) -> bool {
        self.past_junction_m(s_m).abs() >= self.opening_m()
    }

    /// The middle of a marking around a vehicle at `ego_pose` (x, y, yaw), in the vehicle frame, by distance along the
    /// road: one point per metre, from `behind_m` before the vehicle's place to `ahead_m` after it. Gaps between dashes
    /// count as painted, junctions do not.
    pub fn marking_points(&self, marking: &Marking, ego_pose: [f64; 3], behind_m: f64, ahead_m: f64) -> Vec<[f64; 2]> {
        let [x_m, y_m, yaw_rad] = ego_pose;
        let (sin, cos) = libm::sincos(yaw_rad);
        let span_m = behind_m + ahead_m;
        if span_m.is_nan() || span_m < 0.0 {
            return Vec::new();
        }
        let steps = span_m.min(MAX_POINTS) as usize;
        let first_m = self.place(x_m, y_m).s_m - behind_m;
        (0..=steps)
            .map(|step| first_m + step as f64)
            .filter(|s_m| self.is_marked(*s_m))
            .map(|s_m| {
                let [point_x_m, point_y_m, _] = self.point(s_m, marking.d_m);
                let (east_m, north_m) = (point_x_m - x_m, point_y_m - y_m);
                [cos * east_m + sin * north_m, cos * north_m - sin * east_m]
            })
            .collect()
    }

    /// Whether vehicles may drive at a point of the ground: on the carriageway or the crossing road.
    pub fn is_drivable(&self, x_m: f64, y_m: f64) -> bool {
        let place = self.place(x_m, y_m);
        self.outside_m(place.d_m) <= 0.0 || self.is_crossing(self.past_junction_m(place.s_m), place.d_m)
    }

    /// What a ray meets at a point of the ground. `footprint_m` is how far apart neighbouring rays meet it.
    pub fn surface(&self, x_m: f64, y_m: f64, footprint_m: f64) -> Surface {
        let Place { s_m, d_m, .. } = self.place(x_m, y_m);
        let past_m = self.past_junction_m(s_m);
        let ground = self.ground(past_m, d_m);
        if ground != Ground::Asphalt {
            return Surface { ground, painted: 0.0, is_lane_marking: false };
        }
        let [least_m, most_m] = FOOTPRINT_M;
        let footprint_m = footprint_m.clamp(least_m, most_m);
        let lane = self.lane_paint(s_m, d_m, past_m, footprint_m);
        let crossing = self.crossing_paint(past_m, d_m, footprint_m);
        let is_lane_marking = lane > 0.0 && lane >= crossing;
        Surface { ground, painted: (lane + crossing).min(1.0), is_lane_marking }
    }

    fn ground(&self, past_m: f64, d_m: f64) -> Ground {
        let outside_m = self.outside_m(d_m);
        if outside_m <= SHOULDER_M || self.is_crossing(past_m, d_m) {
            return Ground::Asphalt;
        }
        if self.has_pavements && outside_m <= SHOULDER_M + KERB_M {
            return Ground::Kerb;
        }
        if self.has_pavements && outside_m <= SHOULDER_M + KERB_M + PAVEMENT_M {
            return Ground::Pavement;
        }
        Ground::Grass
    }

    /// Share of the footprint that lane markings cover.
    fn lane_paint(&self, s_m: f64, d_m: f64, past_m: f64, footprint_m: f64) -> f64 {
        let reach_m = LINE_HALF_WIDTH_M + 0.5 * footprint_m;
        let mut painted = 0.0;
        for marking in self.markings.iter().filter(|marking| (d_m - marking.d_m).abs() < reach_m) {
            let across = share([-LINE_HALF_WIDTH_M, LINE_HALF_WIDTH_M], d_m - marking.d_m, footprint_m);
            let along = if marking.dashed { stripes(DASH_PERIOD_M, DASH_M, s_m, footprint_m) } else { 1.0 };
            painted += across * along;
        }
        if painted == 0.0 {
            return 0.0;
        }
        let opening_m = self.opening_m();
        painted * (1.0 - share([-opening_m, opening_m], past_m, footprint_m))
    }

    /// Share of the footprint that zebra stripes and stop lines cover. Who comes to the junction stops: own lanes before
    /// it, oncoming lanes after it.
    fn crossing_paint(&self, past_m: f64, d_m: f64, footprint_m: f64) -> f64 {
        let away_m = past_m.abs() - self.lane_width_m;
        if away_m > STOP_LINE_M[1] + 0.5 * footprint_m {
            return 0.0;
        }
        let [right_m, left_m] = self.edges_m;
        let zebra = share(ZEBRA_M, away_m, footprint_m)
            * share(self.edges_m, d_m, footprint_m)
            * stripes(ZEBRA_PERIOD_M, ZEBRA_STRIPE_M, d_m - right_m, footprint_m);
        let stopping_m = if past_m < 0.0 { [right_m, 0.0] } else { [0.0, left_m] };
        zebra + share(STOP_LINE_M, away_m, footprint_m) * share(stopping_m, d_m, footprint_m)
    }

    /// How far outside the carriageway; negative inside.
    fn outside_m(&self, d_m: f64) -> f64 {
        let [right_m, left_m] = self.edges_m;
        (right_m - d_m).max(d_m - left_m)
    }

    /// Distance past the middle of the nearest junction, negative before it; infinite without junctions.
    fn past_junction_m(&self, s_m: f64) -> f64 {
        let past_m = self.junctions_m.iter().map(|junction_m| s_m - junction_m);
        past_m.fold(f64::INFINITY, |least_m, past_m| if past_m.abs() < least_m.abs() { past_m } else { least_m })
    }

    /// Half the length of road without markings at a junction. The crossing road has two lanes.
    fn opening_m(&self) -> f64 {
        self.lane_width_m + JUNCTION_CLEARANCE_M
    }

    fn is_crossing(&self, past_m: f64, d_m: f64) -> bool {
        past_m.abs() < self.lane_width_m && d_m.abs() <= CROSSING_REACH_M
    }
}

/// The reference line's pieces with straight lines before and after, and the length without those.
fn pieces(lead_in: Piece, segments: &[Segment]) -> (Vec<Piece>, f64) {
    let mut pieces = vec![lead_in];
    let mut pose = [0.0; 3];
    let mut length_m = 0.0;
    for segment in segments {
        let usable = segment.length_m > 0.0 && segment.length_m.is_finite() && segment.curvature_per_m.is_finite();
        if !usable {
            continue;
        }
        let piece = Piece::new(pose, length_m, *segment);
        length_m += segment.length_m;
        pose = piece.along(segment.length_m);
        pieces.push(piece);
    }
    pieces.push(Piece::straight(pose, length_m, [0.0, f64::INFINITY]));
    (pieces, length_m)
}

fn markings(own: usize, oncoming: usize, lane_width_m: f64) -> Vec<Marking> {
    let at = |lanes: f64, dashed| Marking { dashed, d_m: lanes * lane_width_m };
    let edge = |lanes: f64, inset_m: f64| Marking { dashed: false, d_m: lanes * lane_width_m + inset_m };
    let mut markings = vec![edge(oncoming as f64, -EDGE_LINE_INSET_M)];
    markings.extend((1..oncoming).rev().map(|lane| at(lane as f64, true)));
    if oncoming > 0 {
        markings.push(at(0.0, own == 1 && oncoming == 1));
    }
    markings.extend((1..own).map(|lane| at(-(lane as f64), true)));
    markings.push(edge(-(own as f64), EDGE_LINE_INSET_M));
    markings
}

/// Share of a box of a width around a place that lies in a span.
fn share([from_m, to_m]: [f64; 2], at_m: f64, width_m: f64) -> f64 {
    let inside_m = to_m.min(at_m + 0.5 * width_m) - from_m.max(at_m - 0.5 * width_m);
    (inside_m / width_m).clamp(0.0, 1.0)
}

/// Share of a box of a width around a place that is painted, where the first part of every period is.
fn stripes(period_m: f64, painted_m: f64, at_m: f64, width_m: f64) -> f64 {
    let painted_until = |at_m: f64| {
        let whole = (at_m / period_m).floor();
        whole * painted_m + (at_m - whole * period_m).min(painted_m)
    };
    ((painted_until(at_m + 0.5 * width_m) - painted_until(at_m - 0.5 * width_m)) / width_m).clamp(0.0, 1.0)
}

/// A part of the reference line with constant curvature.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Distance along the road of its origin.
    start_s_m: f64,
    /// Where it begins and ends, counted from its origin.
    span_m: [f64; 2],
    origin_m: [f64; 2],
    heading_rad: f64,
    /// The direction at the origin, a unit vector.
    tangent: [f64; 2],
    curvature_per_m: f64,
    /// Of a piece that is not straight.
    arc: Option<Arc>,
}

/// A piece as seen from the centre of its circle.
#[derive(Clone, Copy, Debug)]
struct Arc {
    centre_m: [f64; 2],
    radius_m: f64,
    /// 1 for a curve to the left, -1 to the right.
    side: f64,
    /// From the centre to the middle of the arc, a unit vector. Angles count from it in the driving direction, so that
    /// an arc of up to a whole circle needs no unwrapping.
    middle: [f64; 2],
    half_angle_cos: f64,
    half_angle_sin: f64,
}

impl Piece {
    fn straight(pose: [f64; 3], start_s_m: f64, span_m: [f64; 2]) -> Self {
        let [x_m, y_m, heading_rad] = pose;
        let (sin, cos) = libm::sincos(heading_rad);
        Piece {
            start_s_m,
            span_m,
            origin_m: [x_m, y_m],
            heading_rad,
            tangent: [cos, sin],
            curvature_per_m: 0.0,
            arc: None,
        }
    }

    fn new(pose: [f64; 3], start_s_m: f64, segment: Segment) -> Self {
        let Segment { length_m, curvature_per_m } = segment;
        let straight = Piece::straight(pose, start_s_m, [0.0, length_m]);
        if curvature_per_m.abs() < MIN_CURVATURE_PER_M {
            return straight;
        }
        let [x_m, y_m] = straight.origin_m;
        let [cos, sin] = straight.tangent;
        let side = if curvature_per_m > 0.0 { 1.0 } else { -1.0 };
        let (middle_sin, middle_cos) = libm::sincos(straight.heading_rad + 0.5 * curvature_per_m * length_m);
        let half_angle_rad = (0.5 * curvature_per_m.abs() * length_m).min(std::f64::consts::PI);
        let (half_angle_sin, half_angle_cos) = libm::sincos(half_angle_rad);
        let arc = Arc {
            centre_m: [x_m - sin / curvature_per_m, y_m + cos / curvature_per_m],
            radius_m: 1.0 / curvature_per_m.abs(),
            side,
            middle: [side * middle_sin, -side * middle_cos],
            half_angle_cos,
            half_angle_sin,
        };
        Piece { curvature_per_m, arc: Some(arc), ..straight }
    }

    /// x, y, heading at a distance from the origin. On an arc that is the chord: 2 sin(angle / 2) / curvature long, in the
    /// direction half way round.
    fn along(&self, along_m: f64) -> [f64; 3] {
        let [x_m, y_m] = self.origin_m;
        if self.arc.is_none() {
            let [cos, sin] = self.tangent;
            return [x_m + along_m * cos, y_m + along_m * sin, self.heading_rad];
        }
        let half_turn_rad = 0.5 * self.curvature_per_m * along_m;
        let chord_m = 2.0 * libm::sin(half_turn_rad) / self.curvature_per_m;
        let (sin, cos) = libm::sincos(self.heading_rad + half_turn_rad);
        [x_m + chord_m * cos, y_m + chord_m * sin, self.heading_rad + 2.0 * half_turn_rad]
    }

    fn point(&self, s_m: f64, d_m: f64) -> [f64; 3] {
        let [x_m, y_m, heading_rad] = self.along(s_m - self.start_s_m);
        let (sin, cos) = match self.arc {
            Some(_) => libm::sincos(heading_rad),
            None => (self.tangent[1], self.tangent[0]),
        };
        [x_m - d_m * sin, y_m + d_m * cos, heading_rad]
    }

    fn place(&self, x_m: f64, y_m: f64) -> Place {
        let [from_m, to_m] = self.span_m;
        let (along_m, d_m) = match &self.arc {
            Some(arc) => {
                let [out_m, round_m] = arc.polar_axes(x_m, y_m);
                let angle_rad = libm::atan2(round_m, out_m);
                let from_centre_m = (out_m * out_m + round_m * round_m).sqrt();
                (0.5 * to_m + angle_rad * arc.radius_m, arc.side * (arc.radius_m - from_centre_m))
            }
            None => self.straight_axes(x_m, y_m),
        };
        let along_m = along_m.clamp(from_m, to_m);
        Place {
            s_m: self.start_s_m + along_m,
            d_m,
            heading_rad: self.heading_rad + self.curvature_per_m * along_m,
            curvature_per_m: self.curvature_per_m,
        }
    }

    /// Square of the distance to the nearest point of the piece, without an angle, for it is asked of many.
    fn squared_distance_m2(&self, x_m: f64, y_m: f64) -> f64 {
        if let Some(arc) = &self.arc {
            return arc.squared_distance_m2(x_m, y_m);
        }
        let [from_m, to_m] = self.span_m;
        let (along_m, left_m) = self.straight_axes(x_m, y_m);
        let beyond_m = along_m - along_m.clamp(from_m, to_m);
        left_m * left_m + beyond_m * beyond_m
    }

    /// Along the direction at the origin, and to its left.
    fn straight_axes(&self, x_m: f64, y_m: f64) -> (f64, f64) {
        let [cos, sin] = self.tangent;
        let (x_m, y_m) = (x_m - self.origin_m[0], y_m - self.origin_m[1]);
        (cos * x_m + sin * y_m, cos * y_m - sin * x_m)
    }
}

impl Arc {
    /// From the centre: towards the middle of the arc, and from there in the driving direction.
    fn polar_axes(&self, x_m: f64, y_m: f64) -> [f64; 2] {
        let [middle_x, middle_y] = self.middle;
        let (x_m, y_m) = (x_m - self.centre_m[0], y_m - self.centre_m[1]);
        [middle_x * x_m + middle_y * y_m, self.side * (middle_x * y_m - middle_y * x_m)]
    }

    fn squared_distance_m2(&self, x_m: f64, y_m: f64) -> f64 {
        let [out_m, round_m] = self.polar_axes(x_m, y_m);
        let from_centre_m = (out_m * out_m + round_m * round_m).sqrt();
        if out_m >= from_centre_m * self.half_angle_cos {
            let off_m = from_centre_m - self.radius_m;
            return off_m * off_m;
        }
        // Both ends mirror each other, so the nearer one is on the point's own side.
        let end_out_m = out_m - self.radius_m * self.half_angle_cos;
        let end_round_m = round_m.abs() - self.radius_m * self.half_angle_sin;
        end_out_m * end_out_m + end_round_m * end_round_m
    }
}

/// The piece that is nearest to a point; the first of equals.
fn nearest<'a>(pieces: impl Iterator<Item = &'a Piece>, x_m: f64, y_m: f64) -> Option<&'a Piece> {
    let mut best = None;
    let mut best_m2 = f64::INFINITY;
    for piece in pieces {
        let distance_m2 = piece.squared_distance_m2(x_m, y_m);
        if distance_m2 < best_m2 {
            (best, best_m2) = (Some(piece), distance_m2);
        }
    }
    best
}

/// For each cell of the plane around the road, the pieces that can be nearest to a point in it.
#[derive(Clone, Debug, Default)]
struct Grid {
    origin_m: [f64; 2],
    cells_per_m: f64,
    columns: usize,
    rows: usize,
    /// Where each cell's members begin, and one more for where the last ones end.
    starts: Vec<u32>,
    /// Indices of pieces, ascending.
    members: Vec<u32>,
}

impl Grid {
    fn new(pieces: &[Piece]) -> Self {
        let [low_m, high_m] = bounds(pieces);
        let (width_m, height_m) = (high_m[0] - low_m[0], high_m[1] - low_m[1]);
        let cells = |cell_m: &f64| (width_m / cell_m).ceil() * (height_m / cell_m).ceil();
        let mut sizes_m = successors(Some(CELL_M), |cell_m| Some(2.0 * cell_m)).take(32);
        // Without a grid every piece is tried: slow, and as right.
        let Some(cell_m) = sizes_m.find(|cell_m| cells(cell_m) <= MAX_CELLS) else {
            return Grid::default();
        };
        let mut grid = Grid {
            origin_m: low_m,
            cells_per_m: 1.0 / cell_m,
            columns: (width_m / cell_m).ceil() as usize,
            rows: (height_m / cell_m).ceil() as usize,
            starts: vec![0],
            members: Vec::new(),
        };
        for cell in 0..grid.columns * grid.rows {
            let (column, row) = (cell % grid.columns, cell / grid.columns);
            let x_m = low_m[0] + (column as f64 + 0.5) * cell_m;
            let y_m = low_m[1] + (row as f64 + 0.5) * cell_m;
            grid.fill(pieces, x_m, y_m, cell_m);
        }
        grid
    }

    /// Adds a cell. From its middle to its corner no distance grows or shrinks by more than half the diagonal, so a piece
    /// that is farther from the middle than the nearest one by more than a diagonal is never the nearest in the cell.
    fn fill(&mut self, pieces: &[Piece], x_m: f64, y_m: f64, cell_m: f64) {
        let distance_m = |piece: &Piece| piece.squared_distance_m2(x_m, y_m).sqrt();
        let least_m = pieces.iter().map(distance_m).fold(f64::INFINITY, f64::min);
        let most_m = least_m + cell_m * std::f64::consts::SQRT_2 + 1e-3;
        for (index, piece) in pieces.iter().enumerate() {
            if distance_m(piece) <= most_m {
                self.members.push(index as u32);
            }
        }
        self.starts.push(self.members.len() as u32);
    }

    /// `None` outside the grid.
    fn candidates(&self, x_m: f64, y_m: f64) -> Option<&[u32]> {
        let column = (x_m - self.origin_m[0]) * self.cells_per_m;
        let row = (y_m - self.origin_m[1]) * self.cells_per_m;
        let is_inside = column >= 0.0 && row >= 0.0 && column < self.columns as f64 && row < self.rows as f64;
        if !is_inside {
            return None;
        }
        let cell = row as usize * self.columns + column as usize;
        let from = *self.starts.get(cell)? as usize;
        let to = *self.starts.get(cell + 1)? as usize;
        self.members.get(from..to)
    }
}

/// The corners of the box around the road, with a margin that forgives that arcs are only sampled.
fn bounds(pieces: &[Piece]) -> [[f64; 2]; 2] {
    const SAMPLES: usize = 16;
    let mut low_m = [0.0_f64; 2];
    let mut high_m = [0.0_f64; 2];
    for piece in pieces.iter().filter(|piece| piece.span_m.iter().all(|end_m| end_m.is_finite())) {
        for sample in 0..=SAMPLES {
            let [x_m, y_m, _] = piece.along(piece.span_m[1] * sample as f64 / SAMPLES as f64);
            low_m = [low_m[0].min(x_m), low_m[1].min(y_m)];
            high_m = [high_m[0].max(x_m), high_m[1].max(y_m)];
        }
    }
    [low_m.map(|low_m| low_m - GRID_MARGIN_M), high_m.map(|high_m| high_m + GRID_MARGIN_M)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE_M: f64 = 0.05;

    fn spec(lanes: [usize; 2], segments: &[[f64; 2]]) -> RoadSpec {
        let segments = segments.iter().map(|&[length_m, curvature_per_m]| Segment { length_m, curvature_per_m });
        RoadSpec {
            segments: segments.collect(),
            own_lanes: lanes[0],
            oncoming_lanes: lanes[1],
            lane_width_m: 3.5,
            junctions_m: Vec::new(),
            pavements: true,
            buildings: 0.0,
            trees: 0.0,
            seed: 0,
        }
    }

    fn winding() -> Road {
        Road::new(&spec([1, 1], &[[100.0, 0.0], [90.0, 1.0 / 80.0], [120.0, -1.0 / 150.0], [50.0, 0.0]]))
    }

    fn crossed() -> Road {
        Road::new(&RoadSpec { junctions_m: vec![100.0], ..spec([1, 1], &[[200.0, 0.0]]) })
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
    }

    #[test]
    fn arcs_end_where_geometry_says() {
        let quarter_m = 50.0 * std::f64::consts::PI;
        for side in [1.0, -1.0] {
            let road = Road::new(&spec([1, 1], &[[30.0, 0.0], [quarter_m, side / 100.0]]));
            let [x_m, y_m, heading_rad] = road.point(30.0 + quarter_m, 2.0);
            assert_near(x_m, 130.0 - side * 2.0);
            assert_near(y_m, side * 100.0);
            assert_near(heading_rad, side * std::f64::consts::FRAC_PI_2);
            let [_, y_m, _] = road.point(30.0 + quarter_m + 40.0, 0.0);
            assert_near(y_m, side * 140.0);
            assert_near(road.length_m(), 30.0 + quarter_m);
        }
    }

    #[test]
    fn places_and_points_are_inverse() {
        let road = winding();
        for step in -200..300 {
            let s_m = f64::from(step) * 3.7 + 0.3;
            for d_m in [-40.0, -5.25, 0.0, 1.75, 40.0] {
                let [x_m, y_m, heading_rad] = road.point(s_m, d_m);
                let place = road.place(x_m, y_m);
                assert_near(place.s_m, s_m);
                assert_near(place.d_m, d_m);
                assert_near(place.heading_rad, heading_rad);
            }
        }
        let curvature_at = |s_m| {
            let [x_m, y_m, _] = road.point(s_m, 1.0);
            road.place(x_m, y_m).curvature_per_m
        };
        assert_eq!([-9.0, 150.0, 250.0, 400.0].map(curvature_at), [0.0, 1.0 / 80.0, -1.0 / 150.0, 0.0]);
    }

    #[test]
    fn an_arc_beyond_half_a_circle_needs_no_unwrapping() {
        let road = Road::new(&spec([1, 1], &[[400.0, 1.0 / 80.0]]));
        for s_m in [2.0, 130.0, 200.0, 270.0, 390.0] {
            let [x_m, y_m, _] = road.point(s_m, 3.0);
            assert_near(road.place(x_m, y_m).s_m, s_m);
        }
    }

    #[test]
    fn the_grid_finds_what_all_pieces_would() {
        let road = winding();
        for column in 0..90 {
            for row in 0..60 {
                let (x_m, y_m) = (f64::from(column) * 5.3 - 70.0, f64::from(row) * 5.1 - 70.0);
                let piece = nearest(road.pieces.iter(), x_m, y_m).unwrap();
                assert_near(road.place(x_m, y_m).d_m.abs(), piece.place(x_m, y_m).d_m.abs());
            }
        }
        let candidates = road.grid.candidates(50.0, 0.0).unwrap();
        assert_eq!(candidates, [1]);
    }

    #[test]
    fn lanes_and_markings_follow_the_lane_counts() {
        let lines = |lanes| {
            let road = Road::new(&spec(lanes, &[[100.0, 0.0]]));
            road.markings().iter().map(|marking| (marking.d_m, marking.dashed)).collect::<Vec<_>>()
        };
        assert_eq!(lines([1, 1]), [(3.35, false), (0.0, true), (-3.35, false)]);
        assert_eq!(lines([2, 2]), [(6.85, false), (3.5, true), (0.0, false), (-3.5, true), (-6.85, false)]);
        assert_eq!(lines([2, 0]), [(-0.15, false), (-3.5, true), (-6.85, false)]);
        let road = Road::new(&spec([2, 2], &[]));
        assert_eq!(road.own_lanes_m(), [-5.25, -1.75]);
        assert_eq!(road.oncoming_lanes_m(), [1.75, 5.25]);
        assert_eq!(road.edges_m(), [-7.0, 7.0]);
        assert_eq!(Road::new(&spec([2, 0], &[])).edges_m(), [-7.0, 0.0]);
    }

    #[test]
    fn the_ground_changes_across_the_road() {
        use Ground::{Asphalt, Grass, Kerb, Pavement};
        let road = Road::new(&spec([1, 1], &[[200.0, 0.0]]));
        let country = Road::new(&RoadSpec { pavements: false, ..spec([1, 1], &[[200.0, 0.0]]) });
        for side in [1.0, -1.0] {
            let grounds = [1.0, 3.6, 3.9, 5.0, 7.0].map(|d_m| road.surface(50.0, side * d_m, FINE_M).ground);
            assert_eq!(grounds, [Asphalt, Asphalt, Kerb, Pavement, Grass]);
            let grounds = [3.6, 3.9].map(|d_m| country.surface(50.0, side * d_m, FINE_M).ground);
            assert_eq!(grounds, [Asphalt, Grass]);
            assert!(road.is_drivable(50.0, side * 3.4));
            assert!(!road.is_drivable(50.0, side * 3.6));
        }
    }

    #[test]
    fn paint_is_averaged_over_the_footprint() {
        let road = Road::new(&spec([1, 1], &[[200.0, 0.0]]));
        let painted = |x_m, y_m, footprint_m| road.surface(x_m, y_m, footprint_m).painted;
        assert_near(painted(50.0, -3.35, FINE_M), 1.0);
        assert_near(painted(50.0, -3.35, 0.6), 0.25);
        assert_near(painted(50.0, -3.275, FINE_M), 0.5);
        assert_near(painted(50.0, -1.75, 0.6), 0.0);
        for (x_m, share) in [(-9.0, 1.0), (-3.0, 0.0), (3.0, 1.0), (6.0, 0.5), (9.0, 0.0), (12.0, 0.5)] {
            assert_near(painted(x_m, 0.0, FINE_M), share);
        }
        // Half of the dashed line, and both edge lines.
        assert_near(painted(3.0, 0.0, 24.0), 2.5 * 0.15 / 24.0);
        assert!(road.surface(3.0, 0.0, FINE_M).is_lane_marking);
        assert!(!road.surface(9.0, 0.0, FINE_M).is_lane_marking);
    }

    #[test]
    fn junctions_are_open() {
        let road = crossed();
        assert_eq!([92.4, 92.6, 107.4, 107.6].map(|s_m| road.is_marked(s_m)), [true, false, false, true]);
        assert_eq!(road.surface(100.0, -3.35, FINE_M).painted, 0.0);
        let grounds = [[100.0, 60.0], [96.6, -3.9], [104.0, 60.0], [100.0, 81.0]]
            .map(|[x_m, y_m]| road.surface(x_m, y_m, FINE_M).ground);
        assert_eq!(grounds, [Ground::Asphalt, Ground::Asphalt, Ground::Grass, Ground::Grass]);
        assert!(road.is_drivable(100.0, 60.0));
        assert!(!road.is_drivable(104.0, 60.0));
    }

    #[test]
    fn zebra_and_stop_lines_are_no_lane_markings() {
        let road = crossed();
        for ([x_m, y_m], share) in [
            ([94.7, -3.25], 1.0),
            ([94.7, -2.75], 0.0),
            ([105.3, 2.75], 1.0),
            ([92.75, -1.7], 1.0),
            ([92.75, 1.7], 0.0),
            ([107.25, 1.7], 1.0),
        ] {
            let surface = road.surface(x_m, y_m, FINE_M);
            assert_near(surface.painted, share);
            assert!(!surface.is_lane_marking);
        }
    }

    #[test]
    fn marking_points_are_seen_from_the_vehicle() {
        let road = crossed();
        let points = road.marking_points(&road.markings()[1], [20.0, -1.75, 0.0], 5.0, 100.0);
        assert_eq!(points.len(), 106 - 15);
        assert_eq!(points[0], [-5.0, 1.75]);
        assert_eq!(points[90], [100.0, 1.75]);
        let road = winding();
        let pose = road.point(150.0, -1.75);
        let points = road.marking_points(&road.markings()[1], pose, 10.0, 10.0);
        assert_near(points[10][0], 0.0);
        assert_near(points[10][1], 1.75);
        assert!(points[20][1] > 1.75, "the road bends to the left");
    }

    #[test]
    fn nonsense_does_not_panic() {
        let road = Road::new(&spec([0, usize::MAX], &[[f64::NAN, 0.0], [-3.0, 0.1], [1e300, 1e300], [1e300, 0.0]]));
        for value in [f64::NAN, f64::INFINITY, -1e300, 0.0] {
            road.surface(value, 0.0, value);
            road.surface(0.0, value, 1.0);
            road.point(value, value);
            road.marking_points(&road.markings()[0], [value; 3], value, value);
        }
        assert_eq!(Road::new(&spec([1, 1], &[])).place(-7.0, 2.0).s_m, -7.0);
    }
}
