//! The world at one instant, as rays meet it.
//!
//! [`world`](super::world) says where bodies are, [`bodies`](super::bodies) what they look like; cameras and lidars ask
//! with bundles of rays what each ray meets, and for what they saw whether light gets there. A bundle is compared with
//! the bounding sphere of each body once, so that each ray is tried against a few bodies only.
//!
//! Promised: what a ray meets does not depend on the bundle it comes in, to the bit.

use std::sync::Arc;

use nalgebra::Vector3;

use super::bodies::{Look, Material, Part, Solid};
use super::road::{Ground, Road, Surface};
use super::scenario::Light;

/// Ground farther away than this fades into the sky.
const HORIZON_M: f64 = 400.0;
/// Rays flatter than this have their footprint on the ground no longer drawn out.
const FLATTEST: f64 = 0.05;
/// Cosine of the angle around a bundle's mean direction from which on no body is passed over.
const WIDE_COS: f64 = 0.5;
/// Bounding spheres are larger by this factor, so that rounding never hides a body.
const SPHERE_SLACK: f64 = 1.001;
/// A solid that light leaves within this distance of a point is the one that the point lies on.
const OWN_SURFACE_M: f64 = 0.01;

/// A body at an instant.
#[derive(Clone, Debug)]
pub struct Body {
    /// Number of the actor; 0 for what is no road user: a building, a tree.
    pub id: u32,
    /// Its look.
    pub look: Arc<Look>,
    /// x, y, yaw of its origin in the world.
    pub pose: [f64; 3],
    /// Velocity over ground.
    pub velocity_mps: [f64; 2],
    /// Yaw rate.
    pub yaw_rate_radps: f64,
}

/// Everything that rays can meet around an instant.
#[derive(Clone, Default)]
pub struct Scene {
    /// The instant that bodies' poses are of.
    pub time_ns: i64,
    /// Bodies, the ego vehicle left out.
    pub bodies: Vec<Body>,
    /// The ground; an endless plain of grass without one.
    pub road: Option<Arc<Road>>,
    /// The light.
    pub light: Light,
}

/// A ray. Bodies are met where they are `delay_s` after the scene's instant.
#[derive(Clone, Copy, Debug)]
pub struct Ray {
    /// Where it begins.
    pub origin_m: Vector3<f64>,
    /// Where it goes, a unit vector.
    pub direction: Vector3<f64>,
    /// When.
    pub delay_s: f64,
}

/// What a ray meets first.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// How far away.
    pub distance_m: f64,
    /// What.
    pub target: Target,
    /// The surface's direction, a unit vector.
    pub normal: Vector3<f64>,
}

/// What a ray can meet.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Nothing: the sky.
    Sky,
    /// The ground, and what it is made of there.
    Ground(Surface),
    /// A body, by its position in the scene, and the surface that was met.
    Body(usize, Material),
}

impl Scene {
    /// What each ray meets. Rays of a bundle should begin near each other and go in similar directions: bodies outside the
    /// cone around them all are passed over at once. `angle_rad` is the angle between neighbouring rays. With `touched`,
    /// it is called with the ray's position in the bundle and each body that the ray would meet, hidden or not.
    ///
    /// A body that a ray begins in is not met. Where two bodies are met at the same distance, the first in the scene is.
    pub fn cast(
        &self,
        rays: &[Ray],
        angle_rad: f64,
        hits: &mut Vec<Hit>,
        mut touched: Option<&mut dyn FnMut(usize, usize)>,
    ) {
        hits.clear();
        hits.reserve(rays.len());
        let candidates = self.candidates(rays);
        for (position, ray) in rays.iter().enumerate() {
            let ground_m = ground_distance_m(ray);
            let mut nearest_m = ground_m;
            let mut nearest: Option<(&Candidate, Meeting)> = None;
            for candidate in &candidates {
                let limit_m = if touched.is_some() { f64::INFINITY } else { nearest_m };
                if candidate.near_m > limit_m {
                    break;
                }
                let Some(local) = candidate.local(&ray.origin_m, &ray.direction, ray.delay_s, limit_m) else {
                    continue;
                };
                let Some(meeting) = candidate.meet(&local, limit_m) else { continue };
                if let Some(touched) = touched.as_deref_mut() {
                    touched(position, candidate.index);
                }
                let is_first = nearest.as_ref().is_none_or(|(other, _)| candidate.index < other.index);
                if meeting.distance_m < nearest_m || (meeting.distance_m == nearest_m && is_first) {
                    nearest_m = meeting.distance_m;
                    nearest = Some((candidate, meeting));
                }
            }
            hits.push(match nearest {
                Some((candidate, meeting)) => candidate.hit(ray, &meeting),
                None if ground_m <= HORIZON_M => self.ground_hit(ray, ground_m, angle_rad),
                None => Hit { distance_m: f64::INFINITY, target: Target::Sky, normal: -ray.direction },
            });
        }
    }

    /// Whether light from far away reaches points, each with the delay at which it was seen: true where no body is in the
    /// way. `towards` is the unit vector to the light, above the horizon: the ground is not asked. Points of a set should
    /// be near each other.
    pub fn shadows(&self, points: &[(Vector3<f64>, f64)], towards: &Vector3<f64>, lit: &mut Vec<bool>) {
        lit.clear();
        lit.reserve(points.len());
        let Some(extent) = Extent::of(points.iter().copied()) else { return };
        let mut candidates: Vec<Candidate> = Vec::new();
        for (index, body) in self.bodies.iter().enumerate() {
            let sphere = Sphere::of(body, &extent);
            let offset = sphere.centre_m - extent.middle_m;
            let along_m = offset.dot(towards);
            let reach_m = sphere.swept_m + extent.radius_m;
            if along_m < -reach_m || offset.norm_squared() - along_m * along_m > reach_m * reach_m {
                continue;
            }
            candidates.push(Candidate::new(index, body, &sphere, along_m - reach_m));
        }
        for (point, delay_s) in points {
            let blocker = candidates.iter().position(|candidate| candidate.is_in_the_way(point, towards, *delay_s));
            lit.push(blocker.is_none());
            // the neighbour's light is most likely taken by the same body
            if let Some(blocker) = blocker {
                candidates.swap(0, blocker);
            }
        }
    }

    /// The bodies that rays of this bundle may meet, nearest first.
    fn candidates(&self, rays: &[Ray]) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        let Some(extent) = Extent::of(rays.iter().map(|ray| (ray.origin_m, ray.delay_s))) else { return candidates };
        let cone = Cone::of(rays);
        for (index, body) in self.bodies.iter().enumerate() {
            let sphere = Sphere::of(body, &extent);
            let offset = sphere.centre_m - extent.middle_m;
            let distance_m = offset.norm_squared().sqrt();
            // a ray that begins beside the middle meets what a ray from the middle meets of a sphere as much larger
            let reach_m = sphere.swept_m + extent.radius_m;
            if cone.as_ref().is_some_and(|cone| cone.misses(&offset, distance_m, reach_m)) {
                continue;
            }
            candidates.push(Candidate::new(index, body, &sphere, distance_m - reach_m));
        }
        candidates.sort_by(|a, b| a.near_m.total_cmp(&b.near_m).then(a.index.cmp(&b.index)));
        candidates
    }

    fn ground_hit(&self, ray: &Ray, distance_m: f64, angle_rad: f64) -> Hit {
        let x_m = ray.origin_m.x + distance_m * ray.direction.x;
        let y_m = ray.origin_m.y + distance_m * ray.direction.y;
        // across the ray it is distance * angle, along it that / |direction.z|; this is the geometric mean
        let footprint_m = distance_m * angle_rad / greater(ray.direction.z.abs(), FLATTEST).sqrt();
        let surface = match &self.road {
            Some(road) => road.surface(x_m, y_m, footprint_m),
            None => Surface { ground: Ground::Grass, painted: 0.0, is_lane_marking: false },
        };
        Hit { distance_m, target: Target::Ground(surface), normal: Vector3::z() }
    }
}

/// How far away a ray meets the plane z = 0; infinite where it does not.
fn ground_distance_m(ray: &Ray) -> f64 {
    if ray.direction.z < 0.0 && ray.origin_m.z > 0.0 { -ray.origin_m.z / ray.direction.z } else { f64::INFINITY }
}

/// Where and when a set of points is.
struct Extent {
    middle_m: Vector3<f64>,
    radius_m: f64,
    middle_s: f64,
    half_s: f64,
}

impl Extent {
    /// None without points.
    fn of(points: impl ExactSizeIterator<Item = (Vector3<f64>, f64)> + Clone) -> Option<Self> {
        let count = points.len();
        let (_, first_s) = points.clone().next()?;
        let (mut sum, mut from_s, mut to_s) = (Vector3::zeros(), first_s, first_s);
        for (point, delay_s) in points.clone() {
            sum += point;
            from_s = lesser(from_s, delay_s);
            to_s = greater(to_s, delay_s);
        }
        let middle_m = sum / count as f64;
        let farthest = points.fold(0.0, |farthest, (point, _)| greater(farthest, (point - middle_m).norm_squared()));
        let (middle_s, half_s) = (0.5 * (from_s + to_s), 0.5 * (to_s - from_s));
        Some(Extent { middle_m, radius_m: farthest.sqrt(), middle_s, half_s })
    }
}

/// A cone that all directions of a bundle lie in.
struct Cone {
    axis: Vector3<f64>,
    cos: f64,
    sin: f64,
}

impl Cone {
    /// None for directions so different that nothing may be passed over.
    fn of(rays: &[Ray]) -> Option<Self> {
        let sum: Vector3<f64> = rays.iter().fold(Vector3::zeros(), |sum, ray| sum + ray.direction);
        let length = sum.norm_squared().sqrt();
        if length.is_nan() || length <= 0.0 {
            return None;
        }
        let axis = sum / length;
        let cos = rays.iter().fold(1.0, |cos, ray| lesser(cos, axis.dot(&ray.direction)));
        (cos >= WIDE_COS).then(|| Cone { axis, cos, sin: (1.0 - cos * cos).sqrt() })
    }

    /// Whether no ray from the apex meets the sphere at this offset: the angle to its centre is larger than that of the
    /// cone and that of the sphere together.
    fn misses(&self, offset: &Vector3<f64>, distance_m: f64, radius_m: f64) -> bool {
        if distance_m <= radius_m {
            return false;
        }
        let sphere_sin = radius_m / distance_m;
        let sphere_cos = (1.0 - sphere_sin * sphere_sin).sqrt();
        self.axis.dot(offset) < distance_m * (self.cos * sphere_cos - self.sin * sphere_sin)
    }
}

/// A sphere around a body. Its centre is on the body's upright axis, so turning does not move it.
struct Sphere {
    centre_m: Vector3<f64>,
    /// Around the body at one instant.
    radius_m: f64,
    /// Around the body at every delay.
    swept_m: f64,
}

impl Sphere {
    fn of(body: &Body, extent: &Extent) -> Self {
        let ([x0, y0, z0], [x1, y1, z1]) = (body.look.min_m, body.look.max_m);
        let (x, y, z) = (greater(x1, -x0), greater(y1, -y0), 0.5 * (z1 - z0));
        let radius_m = SPHERE_SLACK * (x * x + y * y + z * z).sqrt();
        let [vx, vy] = body.velocity_mps;
        let swept_m = radius_m + SPHERE_SLACK * extent.half_s * (vx * vx + vy * vy).sqrt();
        let [x, y, _] = body.pose;
        let centre_m = Vector3::new(x + vx * extent.middle_s, y + vy * extent.middle_s, 0.5 * (z0 + z1));
        Sphere { centre_m, radius_m, swept_m }
    }
}

/// A body that rays of a bundle may meet.
struct Candidate<'a> {
    index: usize,
    look: &'a Look,
    position_m: [f64; 2],
    velocity_mps: [f64; 2],
    yaw_rate_radps: f64,
    cos: f64,
    sin: f64,
    middle_z_m: f64,
    radius_m: f64,
    /// No ray of the bundle meets it nearer than this.
    near_m: f64,
}

/// A ray in a body's frame.
struct Local {
    origin_m: [f64; 3],
    direction: [f64; 3],
    /// One over each.
    inverse: [f64; 3],
}

/// Where a ray enters a part.
struct Meeting<'a> {
    distance_m: f64,
    part: &'a Part,
    face: usize,
}

impl<'a> Candidate<'a> {
    fn new(index: usize, body: &'a Body, sphere: &Sphere, near_m: f64) -> Self {
        let [x_m, y_m, yaw_rad] = body.pose;
        let (sin, cos) = libm::sincos(yaw_rad);
        Candidate {
            index,
            look: &body.look,
            position_m: [x_m, y_m],
            velocity_mps: body.velocity_mps,
            yaw_rate_radps: body.yaw_rate_radps,
            cos,
            sin,
            middle_z_m: sphere.centre_m.z,
            radius_m: sphere.radius_m,
            near_m,
        }
    }

    /// Cosine and sine of the yaw after a delay: what the body turns in it is small, a few terms of the series do.
    #[inline]
    fn turned(&self, delay_s: f64) -> (f64, f64) {
        let angle = self.yaw_rate_radps * delay_s;
        let square = angle * angle;
        let cos = 1.0 - square * (0.5 - square * (1.0 / 24.0));
        let sin = angle * (1.0 - square * (1.0 / 6.0));
        (self.cos * cos - self.sin * sin, self.sin * cos + self.cos * sin)
    }

    /// The ray in the frame that the body has after the delay; none where the ray passes by the bounding sphere, leaves
    /// it behind or reaches it beyond the limit only.
    #[inline]
    fn local(&self, origin: &Vector3<f64>, direction: &Vector3<f64>, delay_s: f64, limit_m: f64) -> Option<Local> {
        let [x_m, y_m] = self.position_m;
        let [vx, vy] = self.velocity_mps;
        let x = origin.x - (x_m + vx * delay_s);
        let y = origin.y - (y_m + vy * delay_s);
        let z = origin.z - self.middle_z_m;
        let along_m = -(x * direction.x + y * direction.y + z * direction.z);
        let aside = x * x + y * y + z * z - along_m * along_m;
        if aside > self.radius_m * self.radius_m || along_m < -self.radius_m || along_m - self.radius_m > limit_m {
            return None;
        }
        let (cos, sin) = self.turned(delay_s);
        let dx = cos * direction.x + sin * direction.y;
        let dy = cos * direction.y - sin * direction.x;
        Some(Local {
            origin_m: [cos * x + sin * y, cos * y - sin * x, origin.z],
            direction: [dx, dy, direction.z],
            inverse: [1.0 / dx, 1.0 / dy, 1.0 / direction.z],
        })
    }

    /// Where the ray enters the body first, not beyond the limit; none where it begins inside.
    #[inline]
    fn meet(&self, ray: &Local, limit_m: f64) -> Option<Meeting<'a>> {
        if !ray.reaches(&self.look.min_m, &self.look.max_m, limit_m) {
            return None;
        }
        let mut nearest: Option<Meeting> = None;
        let mut nearest_m = limit_m;
        for part in &self.look.parts {
            if !ray.reaches(&part.min_m, &part.max_m, nearest_m) {
                continue;
            }
            let Some(span) = Span::of(&part.solid, ray) else { continue };
            if span.exit_m <= 0.0 {
                continue;
            }
            if span.enter_m <= 0.0 {
                return None;
            }
            if span.enter_m < nearest_m || (span.enter_m == nearest_m && nearest.is_none()) {
                nearest_m = span.enter_m;
                nearest = Some(Meeting { distance_m: span.enter_m, part, face: span.face });
            }
        }
        nearest
    }

    fn is_in_the_way(&self, point: &Vector3<f64>, towards: &Vector3<f64>, delay_s: f64) -> bool {
        let Some(ray) = self.local(point, towards, delay_s, f64::INFINITY) else { return false };
        if !ray.reaches(&self.look.min_m, &self.look.max_m, f64::INFINITY) {
            return false;
        }
        self.look.parts.iter().any(|part| {
            ray.reaches(&part.min_m, &part.max_m, f64::INFINITY)
                && Span::of(&part.solid, &ray).is_some_and(|span| span.exit_m > OWN_SURFACE_M)
        })
    }

    fn hit(&self, ray: &Ray, meeting: &Meeting) -> Hit {
        let distance_m = meeting.distance_m;
        let target = Target::Body(self.index, meeting.part.material);
        // infinity for the limit: this ray has met the body, its frame cannot be none
        let Some(local) = self.local(&ray.origin_m, &ray.direction, ray.delay_s, f64::INFINITY) else {
            return Hit { distance_m, target, normal: -ray.direction };
        };
        let [x, y, z] = normal(&meeting.part.solid, meeting.face, &local.at(distance_m));
        let (cos, sin) = self.turned(ray.delay_s);
        Hit { distance_m, target, normal: Vector3::new(cos * x - sin * y, sin * x + cos * y, z) }
    }
}

impl Local {
    /// Whether the ray is within these bounds somewhere between its beginning and the limit.
    #[inline]
    fn reaches(&self, [x0, y0, z0]: &[f64; 3], [x1, y1, z1]: &[f64; 3], limit_m: f64) -> bool {
        let [ox, oy, oz] = self.origin_m;
        let [ix, iy, iz] = self.inverse;
        let (ax, bx) = ((x0 - ox) * ix, (x1 - ox) * ix);
        let (ay, by) = ((y0 - oy) * iy, (y1 - oy) * iy);
        let (az, bz) = ((z0 - oz) * iz, (z1 - oz) * iz);
        let enter = greater(greater(lesser(ax, bx), lesser(ay, by)), lesser(az, bz));
        let exit = lesser(lesser(greater(ax, bx), greater(ay, by)), greater(az, bz));
        enter <= exit && exit > 0.0 && enter <= limit_m
    }

    fn at(&self, distance_m: f64) -> [f64; 3] {
        let ([ox, oy, oz], [dx, dy, dz]) = (self.origin_m, self.direction);
        [ox + distance_m * dx, oy + distance_m * dy, oz + distance_m * dz]
    }
}

/// The part of a ray's line within a solid.
struct Span {
    enter_m: f64,
    exit_m: f64,
    /// Where it enters: the plane of a convex solid, 0 for the side of a cylinder, 1 for its ends.
    face: usize,
}

impl Span {
    #[inline]
    fn of(solid: &Solid, ray: &Local) -> Option<Self> {
        match solid {
            Solid::Convex(planes) => Span::of_convex(planes, ray),
            Solid::Ellipsoid { centre_m, radii_m } => Span::of_ellipsoid(centre_m, radii_m, ray),
            Solid::Cylinder { centre_m, axis, radius_m, half_length_m } => {
                let [x, y, z] = [0, 1, 2].map(|axis: usize| ray.origin_m[axis] - centre_m[axis]);
                let [dx, dy, dz] = ray.direction;
                match axis {
                    1 => Span::of_cylinder([x, z, y], [dx, dz, dy], *radius_m, *half_length_m),
                    _ => Span::of_cylinder([x, y, z], [dx, dy, dz], *radius_m, *half_length_m),
                }
            }
        }
    }

    /// The line is cut by one plane after the other (Cyrus and Beck 1978).
    #[inline]
    fn of_convex(planes: &[[f64; 4]], ray: &Local) -> Option<Self> {
        let ([ox, oy, oz], [dx, dy, dz]) = (ray.origin_m, ray.direction);
        let mut span = Span { enter_m: f64::NEG_INFINITY, exit_m: f64::INFINITY, face: 0 };
        for (face, [nx, ny, nz, offset]) in planes.iter().enumerate() {
            let outwards = nx * dx + ny * dy + nz * dz;
            let inside_m = offset - (nx * ox + ny * oy + nz * oz);
            if outwards < 0.0 {
                let at_m = inside_m / outwards;
                if at_m > span.enter_m {
                    span.enter_m = at_m;
                    span.face = face;
                }
            } else if outwards > 0.0 {
                span.exit_m = lesser(span.exit_m, inside_m / outwards);
            } else if inside_m < 0.0 {
                return None;
            }
            if span.enter_m > span.exit_m {
                return None;
            }
        }
        Some(span)
    }

    #[inline]
    fn of_ellipsoid([cx, cy, cz]: &[f64; 3], [rx, ry, rz]: &[f64; 3], ray: &Local) -> Option<Self> {
        let ([ox, oy, oz], [dx, dy, dz]) = (ray.origin_m, ray.direction);
        // in units of the half axes it is the unit sphere
        let (x, y, z) = ((ox - cx) / rx, (oy - cy) / ry, (oz - cz) / rz);
        let (dx, dy, dz) = (dx / rx, dy / ry, dz / rz);
        let (enter_m, exit_m) =
            roots(dx * dx + dy * dy + dz * dz, x * dx + y * dy + z * dz, x * x + y * y + z * z - 1.0)?;
        Some(Span { enter_m, exit_m, face: 0 })
    }

    /// The axis of the cylinder is the third, its middle the origin.
    #[inline]
    fn of_cylinder([x, y, z]: [f64; 3], [dx, dy, dz]: [f64; 3], radius_m: f64, half_length_m: f64) -> Option<Self> {
        let (across, outside) = (dx * dx + dy * dy, x * x + y * y - radius_m * radius_m);
        let side = match across > 0.0 {
            true => roots(across, x * dx + y * dy, outside)?,
            false if outside > 0.0 => return None,
            false => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let ends = match dz != 0.0 {
            true => {
                let (a, b) = ((-half_length_m - z) / dz, (half_length_m - z) / dz);
                (lesser(a, b), greater(a, b))
            }
            false if z.abs() > half_length_m => return None,
            false => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let (enter_m, exit_m) = (greater(side.0, ends.0), lesser(side.1, ends.1));
        (enter_m <= exit_m).then_some(Span { enter_m, exit_m, face: usize::from(ends.0 > side.0) })
    }
}

/// The unit normal of a solid at a point of its surface.
fn normal(solid: &Solid, face: usize, point: &[f64; 3]) -> [f64; 3] {
    match solid {
        Solid::Convex(planes) => planes.get(face).map_or([0.0, 0.0, 1.0], |[x, y, z, _]| [*x, *y, *z]),
        Solid::Ellipsoid { centre_m, radii_m } => {
            let [x, y, z] =
                [0, 1, 2].map(|axis: usize| (point[axis] - centre_m[axis]) / (radii_m[axis] * radii_m[axis]));
            let length = (x * x + y * y + z * z).sqrt();
            [x / length, y / length, z / length]
        }
        Solid::Cylinder { centre_m, axis, radius_m, .. } => {
            let [x, y, z] = [0, 1, 2].map(|axis: usize| point[axis] - centre_m[axis]);
            match (axis, face) {
                (1, 0) => [x / radius_m, 0.0, z / radius_m],
                (1, _) => [0.0, 1.0_f64.copysign(y), 0.0],
                (_, 0) => [x / radius_m, y / radius_m, 0.0],
                (_, _) => [0.0, 0.0, 1.0_f64.copysign(z)],
            }
        }
    }
}

/// Both solutions of a t² + 2 b t + c = 0, the smaller first; a is positive.
#[inline]
fn roots(a: f64, b: f64, c: f64) -> Option<(f64, f64)> {
    let discriminant = b * b - a * c;
    if discriminant.is_nan() || discriminant <= 0.0 {
        return None;
    }
    let root = discriminant.sqrt();
    Some(((-b - root) / a, (-b + root) / a))
}

/// The lesser one, in one instruction: `f64::min` asks for NaN besides.
#[inline]
fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The greater one, likewise.
#[inline]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::bodies::{actor, building, tree};
    use crate::sim::random::Random;
    use crate::sim::scenario::ActorKind;

    const PAINT: Material = Material { colour: [0.2; 3], glow: [0.0; 3], gloss: 0.0, lidar: 0.3 };

    fn body(solid: Solid, [x, y, z]: [f64; 3], pose: [f64; 3]) -> Body {
        let (min_m, max_m) = ([-x, -y, 0.0], [x, y, z]);
        let parts = vec![Part { solid, material: PAINT, min_m, max_m }];
        let look = Arc::new(Look { parts, min_m, max_m, radar_m2: [1.0; 2] });
        Body { id: 1, look, pose, velocity_mps: [0.0; 2], yaw_rate_radps: 0.0 }
    }

    /// A box with these half sides in x and y and this height.
    fn cuboid([x, y, z]: [f64; 3], pose: [f64; 3]) -> Body {
        let planes = vec![
            [1.0, 0.0, 0.0, x],
            [-1.0, 0.0, 0.0, x],
            [0.0, 1.0, 0.0, y],
            [0.0, -1.0, 0.0, y],
            [0.0, 0.0, 1.0, z],
            [0.0, 0.0, -1.0, 0.0],
        ];
        body(Solid::Convex(planes), [x, y, z], pose)
    }

    fn scene(bodies: Vec<Body>) -> Scene {
        Scene { bodies, ..Scene::default() }
    }

    fn ray(origin: [f64; 3], direction: [f64; 3], delay_s: f64) -> Ray {
        let direction = Vector3::from(direction);
        Ray { origin_m: origin.into(), direction: direction / direction.norm(), delay_s }
    }

    fn cast_one(scene: &Scene, ray: Ray) -> Hit {
        let mut hits = Vec::new();
        scene.cast(&[ray], 0.001, &mut hits, None);
        assert_eq!(hits.len(), 1);
        hits[0]
    }

    fn assert_met(hit: Hit, body: usize, distance_m: f64, normal: [f64; 3]) {
        assert!(matches!(hit.target, Target::Body(index, _) if index == body), "{hit:?}");
        assert!((hit.distance_m - distance_m).abs() < 1e-9, "{hit:?}, not {distance_m}");
        assert!((hit.normal - Vector3::from(normal)).norm() < 1e-9, "{hit:?}, not {normal:?}");
    }

    #[test]
    fn each_solid_is_met_where_it_is() {
        let quarter = std::f64::consts::FRAC_PI_2;
        let boxes =
            scene(vec![cuboid([2.0, 1.0, 1.5], [10.0, 0.0, 0.0]), cuboid([2.0, 1.0, 1.5], [0.0, 10.0, quarter])]);
        assert_met(cast_one(&boxes, ray([0.0, 0.5, 1.0], [1.0, 0.0, 0.0], 0.0)), 0, 8.0, [-1.0, 0.0, 0.0]);
        assert_met(cast_one(&boxes, ray([10.5, 0.5, 9.0], [0.0, 0.0, -1.0], 0.0)), 0, 7.5, [0.0, 0.0, 1.0]);
        // turned by a quarter it is two metres wide in x
        assert_met(cast_one(&boxes, ray([-5.0, 11.5, 1.0], [1.0, 0.0, 0.0], 0.0)), 1, 4.0, [-1.0, 0.0, 0.0]);

        let ball = Solid::Ellipsoid { centre_m: [0.0, 0.0, 1.0], radii_m: [2.0, 1.0, 1.0] };
        let ball = scene(vec![body(ball, [2.0, 1.0, 2.0], [0.0; 3])]);
        assert_met(cast_one(&ball, ray([-10.0, 0.0, 1.0], [1.0, 0.0, 0.0], 0.0)), 0, 8.0, [-1.0, 0.0, 0.0]);
        assert_met(cast_one(&ball, ray([0.0, 10.0, 1.0], [0.0, -1.0, 0.0], 0.0)), 0, 9.0, [0.0, 1.0, 0.0]);
        assert!(matches!(cast_one(&ball, ray([-10.0, 0.99, 1.9], [1.0, 0.0, 0.0], 0.0)).target, Target::Sky));

        let wheel = Solid::Cylinder { centre_m: [0.0, 0.0, 0.5], axis: 1, radius_m: 0.5, half_length_m: 0.3 };
        let wheel = scene(vec![body(wheel, [0.5, 0.3, 1.0], [0.0; 3])]);
        assert_met(cast_one(&wheel, ray([-10.0, 0.1, 0.5], [1.0, 0.0, 0.0], 0.0)), 0, 9.5, [-1.0, 0.0, 0.0]);
        assert_met(cast_one(&wheel, ray([0.1, -10.0, 0.4], [0.0, 1.0, 0.0], 0.0)), 0, 9.7, [0.0, -1.0, 0.0]);

        let pole = Solid::Cylinder { centre_m: [0.0, 0.0, 2.0], axis: 2, radius_m: 0.5, half_length_m: 2.0 };
        let pole = scene(vec![body(pole, [0.5, 0.5, 4.0], [0.0; 3])]);
        let edge = 0.5 * std::f64::consts::FRAC_1_SQRT_2;
        let normal = [-std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::FRAC_1_SQRT_2, 0.0];
        assert_met(cast_one(&pole, ray([-10.0, edge, 1.0], [1.0, 0.0, 0.0], 0.0)), 0, 10.0 - edge, normal);
        assert_met(cast_one(&pole, ray([0.1, 0.2, 9.0], [0.0, 0.0, -1.0], 0.0)), 0, 5.0, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn without_bodies_there_is_ground_and_sky() {
        let empty = Scene::default();
        let down = cast_one(&empty, ray([0.0, 0.0, 2.0], [1.0, 0.0, -1.0], 0.0));
        assert!(matches!(down.target, Target::Ground(Surface { ground: Ground::Grass, .. })), "{down:?}");
        assert!((down.distance_m - 2.0 * std::f64::consts::SQRT_2).abs() < 1e-12 && down.normal == Vector3::z());
        for flat in [[1.0, 0.0, -0.001], [1.0, 0.0, 0.0], [0.0, 1.0, 0.3]] {
            let sky = cast_one(&empty, ray([0.0, 0.0, 2.0], flat, 0.0));
            assert!(matches!(sky.target, Target::Sky) && sky.distance_m == f64::INFINITY, "{sky:?}");
        }
    }

    #[test]
    fn a_moving_body_is_met_where_it_is_by_then() {
        let mut moving = cuboid([1.0, 1.0, 2.0], [10.0, 0.0, 0.0]);
        moving.velocity_mps = [20.0, 0.0];
        let moving = scene(vec![moving]);
        assert_met(cast_one(&moving, ray([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], 0.1)), 0, 11.0, [-1.0, 0.0, 0.0]);

        let mut turning = cuboid([2.0, 1.0, 2.0], [10.0, 0.0, 0.3]);
        turning.yaw_rate_radps = 0.5;
        let turned = scene(vec![cuboid([2.0, 1.0, 2.0], [10.0, 0.0, 0.35])]);
        let (turning, ray) = (scene(vec![turning]), |delay_s| ray([0.0, 0.2, 1.0], [1.0, 0.0, 0.0], delay_s));
        let (hit, expected) = (cast_one(&turning, ray(0.1)), cast_one(&turned, ray(0.1)));
        assert!((hit.distance_m - expected.distance_m).abs() < 1e-7, "{hit:?} {expected:?}");
        assert!((hit.distance_m - cast_one(&turning, ray(0.0)).distance_m).abs() > 1e-3);
    }

    #[test]
    fn a_bundle_gives_what_its_rays_give_alone() {
        let random = Random::new(3);
        let mut bodies = Vec::new();
        for number in 0..60 {
            let chance = random.at(number);
            let look = match number % 6 {
                4 => building(8.0, 6.0, 9.0, chance),
                5 => tree(chance),
                kind => actor(ActorKind::ALL[kind as usize], chance),
            };
            let (distance, angle) = (chance.between(100, 5.0, 70.0), chance.between(101, -0.6, 0.6));
            bodies.push(Body {
                id: number as u32,
                look: Arc::new(look),
                pose: [distance * libm::cos(angle), distance * libm::sin(angle), chance.between(102, -3.0, 3.0)],
                velocity_mps: [chance.between(103, -20.0, 20.0), chance.between(104, -5.0, 5.0)],
                yaw_rate_radps: chance.between(105, -0.5, 0.5),
            });
        }
        let scene = scene(bodies);
        // a narrow bundle and one so wide that nothing is passed over
        for width in [0.3, 2.5] {
            let rays: Vec<Ray> = (0..500)
                .map(|index| {
                    let chance = random.stream("rays").at(index);
                    let yaw = chance.between(0, -width, width);
                    let origin =
                        [chance.between(1, -0.5, 0.5), chance.between(2, -0.5, 0.5), chance.between(3, 1.0, 2.0)];
                    let direction = [libm::cos(yaw), libm::sin(yaw), chance.between(4, -0.08, 0.08)];
                    ray(origin, direction, chance.between(5, 0.0, 0.1))
                })
                .collect();
            let mut hits = Vec::new();
            scene.cast(&rays, 0.001, &mut hits, None);
            let mut touches = 0;
            let mut again = Vec::new();
            scene.cast(&rays, 0.001, &mut again, Some(&mut |_, _| touches += 1));
            assert_eq!(hits.len(), rays.len());
            let mut met = 0;
            for ((hit, again), ray) in hits.iter().zip(&again).zip(&rays) {
                let alone = cast_one(&scene, *ray);
                assert_eq!(format!("{hit:?}"), format!("{alone:?}"));
                assert_eq!(format!("{hit:?}"), format!("{again:?}"));
                assert!((hit.normal.norm() - 1.0).abs() < 1e-6 && hit.normal.dot(&ray.direction) < 0.0, "{hit:?}");
                met += usize::from(matches!(hit.target, Target::Body(..)));
            }
            assert!(met > 50 && touches > met, "{met} {touches}");
        }
    }

    #[test]
    fn hidden_bodies_are_touched_but_not_met() {
        let half = [1.0, 1.0, 2.0];
        let places = [20.0, 10.0, -10.0, 10.0];
        let scene = scene(places.map(|x| cuboid(half, [x, 0.0, 0.0])).to_vec());
        let rays = [ray([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], 0.0), ray([0.0, 0.0, 1.0], [1.0, 0.5, 0.0], 0.0)];
        let (mut hits, mut touched) = (Vec::new(), Vec::new());
        scene.cast(&rays, 0.001, &mut hits, Some(&mut |ray, body| touched.push((ray, body))));
        touched.sort();
        assert_eq!(touched, [(0, 0), (0, 1), (0, 3)]);
        // bodies 1 and 3 are in the same place
        assert_met(hits[0], 1, 9.0, [-1.0, 0.0, 0.0]);
        assert!(matches!(hits[1].target, Target::Sky));
    }

    #[test]
    fn a_body_around_the_ray_s_beginning_is_not_met() {
        let scene = scene(vec![cuboid([1.0, 1.0, 2.0], [0.0; 3]), cuboid([1.0, 1.0, 2.0], [10.0, 0.0, 0.0])]);
        assert_met(cast_one(&scene, ray([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], 0.0)), 1, 9.0, [-1.0, 0.0, 0.0]);
    }

    #[test]
    fn bodies_take_light_from_what_is_behind_them() {
        let mut block = cuboid([1.0, 1.0, 2.0], [0.0; 3]);
        block.velocity_mps = [10.0, 0.0];
        let far = cuboid([1.0, 1.0, 2.0], [-50.0, 0.0, 0.0]);
        let scene = scene(vec![far, block]);
        let towards = Vector3::new(1.0, 0.0, 1.0) / std::f64::consts::SQRT_2;
        let expected = [
            ([-1.5, 0.0, 0.0], 0.0, false),
            ([-4.0, 0.0, 0.0], 0.0, true),
            ([-1.5, 1.1, 0.0], 0.0, true),
            ([2.0, 0.0, 0.0], 0.0, true),
            // on the roof, on the bright side, on the dark side
            ([0.0, 0.0, 2.0], 0.0, true),
            ([1.0, 0.0, 1.0], 0.0, true),
            ([-1.0, 0.0, 1.0], 0.0, false),
            // three metres farther on
            ([-1.5, 0.0, 0.0], 0.3, true),
            ([1.5, 0.0, 0.0], 0.3, false),
        ];
        let points: Vec<_> = expected.iter().map(|(point, delay_s, _)| (Vector3::from(*point), *delay_s)).collect();
        let mut lit = vec![true; 3];
        scene.shadows(&points, &towards, &mut lit);
        assert_eq!(lit, expected.map(|(_, _, is_lit)| is_lit));
    }
}
