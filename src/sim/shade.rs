//! What light makes of what a ray meets.
//!
//! Rays and what they met come from a sensor and [`Scene::cast`], linear light goes back. By day and at dusk there is a
//! sun with shadows and a sky that fills them; at night a little of the sky, the ego vehicle's low beam and pools of
//! light under street lamps. Lamps of bodies shine at any hour. The light of a ray depends on that ray alone, so rays
//! may come in bundles of any size.

use nalgebra::Vector3;

use super::bodies::Material;
use super::random::Random;
use super::road::{Ground, Surface};
use super::scenario::Light;
use super::scene::{Body, Hit, Ray, Scene, Target};

/// Distance over which haze takes away all but 1/e of the light: a clear day.
const HAZE_M: f64 = 600.0;
/// Shadows further away than this are not looked for: haze and size hide them.
const SHADOW_RANGE_M: f64 = 300.0;
/// How far from a surface a ray to the sun begins, so that it does not meet that surface.
const SHADOW_START_M: f64 = 0.02;
/// Level distance over which a street lamp shines.
const LAMP_RANGE_M: f64 = 12.0;
/// Light of a street lamp on the ground below it.
const LAMP_LIGHT: f32 = 0.22;
/// Within this distance headlights grow no brighter.
const HEADLIGHT_NEAR_M: f64 = 5.0;
/// Light in the middle of the low beam at that distance.
const HEADLIGHT_LIGHT: f64 = 6.0;
/// What is left of a low beam above its cut-off.
const ABOVE_CUT_OFF: f64 = 0.05;
/// Share of light that rough ground throws back however flat the light comes in.
const ROUGHNESS: f32 = 0.25;
/// Side of a cell of the ground's fine and coarse pattern, and how strong each is.
const PATTERNS: [(f64, f32); 2] = [(0.25, 0.30), (3.0, 0.18)];

const PAINT: f32 = 0.75;
const ASPHALT: [f32; 3] = [0.100, 0.100, 0.104];
const KERB: [f32; 3] = [0.45, 0.45, 0.44];
const PAVEMENT: [f32; 3] = [0.35, 0.34, 0.33];
const GRASS: [f32; 3] = [0.085, 0.155, 0.045];

/// Sun and sky of a time of day.
struct Day {
    /// Direction to the sun, and its light on a surface square to it; none at night.
    sun: Option<(Vector3<f64>, [f32; 3])>,
    /// Light of the whole sky on a level surface.
    ambient: [f32; 3],
    /// The sky just above the horizon.
    horizon: [f32; 3],
    /// The sky overhead.
    zenith: [f32; 3],
}

/// Direction to a sun 60 degrees to the left of x.
fn sun_direction(elevation_deg: f64) -> Vector3<f64> {
    let (sin_azimuth, cos_azimuth) = libm::sincos(60f64.to_radians());
    let (sin_elevation, cos_elevation) = libm::sincos(elevation_deg.to_radians());
    Vector3::new(cos_elevation * cos_azimuth, cos_elevation * sin_azimuth, sin_elevation)
}

impl Day {
    fn of(light: Light) -> Self {
        match light {
            Light::Day => Day {
                sun: Some((sun_direction(40.0), [0.82, 0.77, 0.68])),
                ambient: [0.22, 0.26, 0.32],
                horizon: [0.72, 0.79, 0.87],
                zenith: [0.20, 0.38, 0.76],
            },
            Light::Dusk => Day {
                sun: Some((sun_direction(8.0), [0.35, 0.21, 0.11])),
                ambient: [0.10, 0.10, 0.12],
                horizon: [0.34, 0.27, 0.23],
                zenith: [0.12, 0.14, 0.20],
            },
            Light::Night => Day {
                sun: None,
                ambient: [0.012, 0.012, 0.012],
                horizon: [0.010, 0.010, 0.013],
                zenith: [0.002, 0.002, 0.004],
            },
        }
    }

    /// The sky in a direction: haze at the horizon, and brighter around the sun.
    fn sky(&self, direction: &Vector3<f64>) -> [f32; 3] {
        let low = (1.0 - direction.z.clamp(0.0, 1.0)) as f32;
        let low = (low * low) * (low * low);
        let mut colour = mixed(self.zenith, self.horizon, low);
        if let Some((to_sun, sun)) = &self.sun {
            let near = halo(direction.dot(to_sun));
            add(&mut colour, *sun, 1.5 * near);
        }
        colour
    }
}

/// The 64th power of a cosine: a soft disc of about 8 degrees.
fn halo(cosine: f64) -> f32 {
    let mut power = cosine.max(0.0) as f32;
    for _ in 0..6 {
        power *= power;
    }
    power
}

fn mixed(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    let [from_red, from_green, from_blue] = from;
    let [to_red, to_green, to_blue] = to;
    [
        from_red + (to_red - from_red) * share,
        from_green + (to_green - from_green) * share,
        from_blue + (to_blue - from_blue) * share,
    ]
}

fn add(to: &mut [f32; 3], colour: [f32; 3], share: f32) {
    for (to, colour) in to.iter_mut().zip(colour) {
        *to += colour * share;
    }
}

fn times(left: [f32; 3], right: [f32; 3]) -> [f32; 3] {
    let ([red, green, blue], [by_red, by_green, by_blue]) = (left, right);
    [red * by_red, green * by_green, blue * by_blue]
}

/// Light that comes back along each ray, red, green and blue, linear; 1 is a white surface in full daylight.
/// `headlights` is the place and direction of the ego vehicle's, for night. `light` gets one entry per hit.
pub fn shade(
    scene: &Scene,
    rays: &[Ray],
    hits: &[Hit],
    angle_rad: f64,
    headlights: Option<(Vector3<f64>, Vector3<f64>)>,
    light: &mut Vec<[f32; 3]>,
) {
    let day = Day::of(scene.light);
    let sunlit = sunlit(scene, &day, rays, hits);
    let lamps = lamps_near(scene, rays, hits);
    light.clear();
    light.reserve(hits.len());
    let mut sunlit = sunlit.into_iter();
    for (ray, hit) in rays.iter().zip(hits) {
        if matches!(hit.target, Target::Sky) {
            light.push(day.sky(&ray.direction));
            continue;
        }
        let point_m = ray.origin_m + ray.direction * hit.distance_m;
        let sun = if asks_for_sun(&day, hit) { sunlit.next().unwrap_or(true) } else { faces_sun(&day, hit) };
        let place = Place { day: &day, ray, hit, point_m, has_sun: sun };
        let colour = match hit.target {
            Target::Sky => continue,
            Target::Ground(surface) => place.ground(&surface, angle_rad, &lamps, headlights),
            Target::Body(_, material) => place.body(&material, &lamps, headlights),
        };
        let clear = libm::exp(-hit.distance_m / HAZE_M) as f32;
        light.push(mixed(day.horizon, colour, clear));
    }
}

fn faces_sun(day: &Day, hit: &Hit) -> bool {
    day.sun.is_some_and(|(to_sun, _)| hit.normal.dot(&to_sun) > 0.0)
}

/// Whether it matters if something stands between a hit and the sun.
fn asks_for_sun(day: &Day, hit: &Hit) -> bool {
    !matches!(hit.target, Target::Sky) && hit.distance_m < SHADOW_RANGE_M && faces_sun(day, hit)
}

/// For each hit that asks for it, in order, whether the sun reaches it.
fn sunlit(scene: &Scene, day: &Day, rays: &[Ray], hits: &[Hit]) -> Vec<bool> {
    let Some((to_sun, _)) = day.sun else { return Vec::new() };
    let asking = rays.iter().zip(hits).filter(|(_, hit)| asks_for_sun(day, hit));
    let start = |(ray, hit): (&Ray, &Hit)| {
        let point_m = ray.origin_m + ray.direction * hit.distance_m + hit.normal * SHADOW_START_M;
        (point_m, ray.delay_s)
    };
    let points: Vec<_> = asking.map(start).collect();
    let mut lit = Vec::with_capacity(points.len());
    if !points.is_empty() {
        scene.shadows(&points, &to_sun, &mut lit);
    }
    lit
}

/// Places of the lit street lamps that may shine on what these rays met.
fn lamps_near(scene: &Scene, rays: &[Ray], hits: &[Hit]) -> Vec<Vector3<f64>> {
    if scene.light == Light::Day {
        return Vec::new();
    }
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for (ray, hit) in rays.iter().zip(hits) {
        if matches!(hit.target, Target::Sky) {
            continue;
        }
        let point_m = ray.origin_m + ray.direction * hit.distance_m;
        low = [low[0].min(point_m.x), low[1].min(point_m.y)];
        high = [high[0].max(point_m.x), high[1].max(point_m.y)];
    }
    // arms of lamps reach out from their poles
    let margin_m = LAMP_RANGE_M + 5.0;
    let is_near = |body: &&Body| {
        let [x_m, y_m, _] = body.pose;
        x_m > low[0] - margin_m && x_m < high[0] + margin_m && y_m > low[1] - margin_m && y_m < high[1] + margin_m
    };
    scene.bodies.iter().filter(|body| body.id == 0).filter(is_near).filter_map(lamp_m).collect()
}

/// Where a body shines, if it does: the middle of its first glowing part.
fn lamp_m(body: &Body) -> Option<Vector3<f64>> {
    let part = body.look.parts.iter().find(|part| part.material.glow.iter().any(|glow| *glow > 0.0))?;
    let middle = |axis: usize| Some(0.5 * (part.min_m.get(axis)? + part.max_m.get(axis)?));
    let (x_m, y_m, z_m) = (middle(0)?, middle(1)?, middle(2)?);
    let [body_x_m, body_y_m, yaw_rad] = body.pose;
    let (sin, cos) = libm::sincos(yaw_rad);
    Some(Vector3::new(body_x_m + cos * x_m - sin * y_m, body_y_m + sin * x_m + cos * y_m, z_m))
}

/// A place that a ray met.
struct Place<'a> {
    day: &'a Day,
    ray: &'a Ray,
    hit: &'a Hit,
    point_m: Vector3<f64>,
    has_sun: bool,
}

impl Place<'_> {
    fn ground(
        &self,
        surface: &Surface,
        angle_rad: f64,
        lamps: &[Vector3<f64>],
        headlights: Option<(Vector3<f64>, Vector3<f64>)>,
    ) -> [f32; 3] {
        let slope = self.ray.direction.dot(&self.hit.normal).abs().max(1e-3);
        let footprint_m = self.hit.distance_m * angle_rad / slope;
        let colour = ground_colour(surface, &self.point_m, footprint_m);
        let lit = self.light(ROUGHNESS, lamps, headlights);
        times(colour, lit)
    }

    fn body(
        &self,
        material: &Material,
        lamps: &[Vector3<f64>],
        headlights: Option<(Vector3<f64>, Vector3<f64>)>,
    ) -> [f32; 3] {
        let mut colour = times(material.colour, self.light(0.0, lamps, headlights));
        if material.gloss > 0.0 {
            colour = self.mirrored(colour, material.gloss);
        }
        add(&mut colour, material.glow, 1.0);
        colour
    }

    /// Light that falls on the place; `roughness` is the least share that counts however flat it comes in from a lamp.
    fn light(
        &self,
        roughness: f32,
        lamps: &[Vector3<f64>],
        headlights: Option<(Vector3<f64>, Vector3<f64>)>,
    ) -> [f32; 3] {
        let normal = &self.hit.normal;
        // what faces down sees the ground, which gives back a part of the light
        let mut light = [0.0; 3];
        add(&mut light, self.day.ambient, 0.65 + 0.35 * normal.z as f32);
        if let (true, Some((to_sun, sun))) = (self.has_sun, &self.day.sun) {
            add(&mut light, *sun, normal.dot(to_sun).max(0.0) as f32);
        }
        let facing = |direction: &Vector3<f64>| roughness + (1.0 - roughness) * normal.dot(direction).max(0.0) as f32;
        for lamp_m in lamps {
            let to_lamp_m = lamp_m - self.point_m;
            let level = (to_lamp_m.x * to_lamp_m.x + to_lamp_m.y * to_lamp_m.y) / (LAMP_RANGE_M * LAMP_RANGE_M);
            let distance_m = to_lamp_m.norm();
            if level >= 1.0 || distance_m < 1e-3 {
                continue;
            }
            let falloff = ((1.0 - level) * (1.0 - level)) as f32;
            add(&mut light, [1.0, 0.82, 0.58], LAMP_LIGHT * falloff * facing(&(to_lamp_m / distance_m)));
        }
        if let Some((place_m, ahead)) = headlights {
            let from_lamp_m = self.point_m - place_m;
            let distance_m = from_lamp_m.norm();
            if distance_m > 1e-3 {
                let direction = from_lamp_m / distance_m;
                let beam = low_beam(&ahead, &direction, distance_m) as f32;
                add(&mut light, [1.0, 0.96, 0.88], beam * facing(&-direction));
            }
        }
        light
    }

    /// A glossy surface: the sky in it, more of it the flatter it is looked at (Schlick: An Inexpensive BRDF Model for
    /// Physically-based Rendering, 1994).
    fn mirrored(&self, colour: [f32; 3], gloss: f32) -> [f32; 3] {
        let (direction, normal) = (&self.ray.direction, &self.hit.normal);
        let along = direction.dot(normal);
        let mirrored = direction - normal * (2.0 * along);
        let flat = (1.0 - along.abs().min(1.0)) as f32;
        let gloss = gloss.min(1.0);
        let share = gloss + (1.0 - gloss) * gloss.sqrt() * ((flat * flat) * (flat * flat) * flat);
        // below the horizon it is the ground that is mirrored, darker than the sky
        let seen = if mirrored.z > 0.0 {
            mixed(self.day.horizon, self.day.zenith, (mirrored.z as f32).min(1.0).sqrt())
        } else {
            self.day.ambient.map(|ambient| 0.3 * ambient)
        };
        let mut shiny = mixed(colour, seen, share);
        if let (true, Some((to_sun, sun))) = (self.has_sun, &self.day.sun) {
            add(&mut shiny, *sun, 3.0 * share * halo(mirrored.dot(to_sun)));
        }
        shiny
    }
}

/// Light of the low beam: a narrow lobe below the horizon, a wide one around it, both cut off above.
fn low_beam(ahead: &Vector3<f64>, direction: &Vector3<f64>, distance_m: f64) -> f64 {
    if ahead.dot(direction) <= 0.0 {
        return 0.0;
    }
    let aside = ahead.x * direction.y - ahead.y * direction.x;
    let above = direction.z - ahead.z;
    let lobe = |width: f64, height: f64| {
        let (aside, above) = (aside / width, above / height);
        let spread = 1.0 + aside * aside + above * above;
        1.0 / (spread * spread)
    };
    let pattern = 0.75 * lobe(0.20, 0.06) + 0.35 * lobe(0.60, 0.30);
    let cut_off = 1.0 - (1.0 - ABOVE_CUT_OFF) * ((above + 0.005) / 0.02).clamp(0.0, 1.0);
    let near = HEADLIGHT_NEAR_M / distance_m.max(HEADLIGHT_NEAR_M);
    HEADLIGHT_LIGHT * pattern * cut_off * near * near
}

/// What the ground reflects at a place.
fn ground_colour(surface: &Surface, point_m: &Vector3<f64>, footprint_m: f64) -> [f32; 3] {
    let (bare, contrast) = match surface.ground {
        Ground::Asphalt => (ASPHALT, 0.8),
        Ground::Kerb => (KERB, 0.4),
        Ground::Pavement => (PAVEMENT, 0.5),
        Ground::Grass => (GRASS, 1.4),
    };
    let pattern = 1.0 + contrast * pattern(point_m, footprint_m);
    let worn = PAINT * (1.0 + 0.3 * (pattern - 1.0));
    mixed(bare.map(|share| share * pattern), [worn; 3], surface.painted.clamp(0.0, 1.0) as f32)
}

/// The ground's pattern at a place, around 0; it fades where a pixel covers several cells.
fn pattern(point_m: &Vector3<f64>, footprint_m: f64) -> f32 {
    let mut sum = 0.0;
    for (seed, (cell_m, strength)) in (0_u64..).zip(PATTERNS) {
        let fade = (1.5 - footprint_m / cell_m).clamp(0.0, 1.0) as f32;
        if fade > 0.0 {
            sum += fade * strength * value_noise(seed, point_m.x / cell_m, point_m.y / cell_m);
        }
    }
    sum
}

/// Value noise between -1 and 1: chance at whole numbers, smoothly joined in between.
fn value_noise(seed: u64, x: f64, y: f64) -> f32 {
    let random = Random::new(0x0067_726f_756e_6400 + seed);
    let (column, row) = (x.floor(), y.floor());
    let smooth = |part: f64| (part * part * (3.0 - 2.0 * part)) as f32;
    let (right, up) = (smooth(x - column), smooth(y - row));
    // a float out of range becomes the nearest whole number
    let (column, row) = (column as i64, row as i64);
    let corner = |columns: i64, rows: i64| {
        let (column, row) = (column.wrapping_add(columns) as u64, row.wrapping_add(rows) as u64);
        (random.bits((column & 0xffff_ffff) | (row << 32)) >> 40) as f32 * (2.0 / 16_777_216.0) - 1.0
    };
    let (low_left, low_right, high_left, high_right) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
    let low = low_left + (low_right - low_left) * right;
    let high = high_left + (high_right - high_left) * right;
    low + (high - low) * up
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sim::bodies::{Look, Part, Solid};

    const ASPHALT_SURFACE: Surface = Surface { ground: Ground::Asphalt, painted: 0.0, is_lane_marking: false };

    fn down(x_m: f64, y_m: f64) -> (Ray, Hit) {
        let ray = Ray { origin_m: Vector3::new(x_m, y_m, 2.0), direction: -Vector3::z(), delay_s: 0.0 };
        (ray, Hit { distance_m: 2.0, target: Target::Ground(ASPHALT_SURFACE), normal: Vector3::z() })
    }

    fn shaded(scene: &Scene, pairs: &[(Ray, Hit)], lights: Option<(Vector3<f64>, Vector3<f64>)>) -> Vec<[f32; 3]> {
        let (rays, hits): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let mut light = vec![[9.0; 3]];
        // so wide a footprint that the pattern of the ground is gone
        shade(scene, &rays, &hits, 10.0, lights, &mut light);
        light
    }

    /// A box of this size standing on the ground.
    fn block(id: u32, x_m: f64, y_m: f64, half_m: f64, height_m: f64, glow: f32) -> Body {
        let material = Material { colour: [0.5; 3], glow: [glow; 3], gloss: 0.0, lidar: 0.3 };
        let planes = vec![
            [1.0, 0.0, 0.0, half_m],
            [-1.0, 0.0, 0.0, half_m],
            [0.0, 1.0, 0.0, half_m],
            [0.0, -1.0, 0.0, half_m],
            [0.0, 0.0, 1.0, height_m],
            [0.0, 0.0, -1.0, 0.0],
        ];
        let (min_m, max_m) = ([-half_m, -half_m, 0.0], [half_m, half_m, height_m]);
        let parts = vec![Part { solid: Solid::Convex(planes), material, min_m, max_m }];
        let look = Arc::new(Look { parts, min_m, max_m, radar_m2: [1.0; 2] });
        Body { id, look, pose: [x_m, y_m, 0.0], velocity_mps: [0.0; 2], yaw_rate_radps: 0.0 }
    }

    #[test]
    fn a_body_throws_its_shadow_away_from_the_sun() {
        let scene = Scene { bodies: vec![block(0, 0.0, 0.0, 1.0, 4.0, 0.0)], ..Scene::default() };
        let away = sun_direction(0.0) * -2.5;
        let light = shaded(&scene, &[down(away.x, away.y), down(-away.x, -away.y)], None);
        assert!(light[0][0] < 0.5 * light[1][0], "{light:?}");
        assert!(light[0][2] > 0.0, "{light:?}");
    }

    #[test]
    fn a_low_beam_lights_what_is_ahead_and_low() {
        let scene = Scene { light: Light::Night, ..Scene::default() };
        let lights = Some((Vector3::new(3.0, 0.0, 0.65), Vector3::new(1.0, 0.0, -0.01).normalize()));
        let light = shaded(&scene, &[down(13.0, 0.0), down(-13.0, 0.0), down(43.0, 0.0)], lights);
        assert!(light[0][0] > 5.0 * light[1][0] && light[0][0] > 2.0 * light[2][0], "{light:?}");
        let ahead = Vector3::x();
        let beam = |z: f64| low_beam(&ahead, &Vector3::new(1.0, 0.0, z).normalize(), 20.0);
        assert!(beam(-0.03) > 8.0 * beam(0.03), "{} {}", beam(-0.03), beam(0.03));
    }

    #[test]
    fn a_street_lamp_lights_its_surroundings_at_night_only() {
        let lamp = vec![block(0, 0.0, 0.0, 0.1, 8.0, 1.0)];
        let night = Scene { bodies: lamp.clone(), light: Light::Night, ..Scene::default() };
        let light = shaded(&night, &[down(2.0, 0.0), down(20.0, 0.0)], None);
        assert!(light[0][0] > 3.0 * light[1][0], "{light:?}");
        // what a bundle holds besides does not matter
        assert_eq!(shaded(&night, &[down(2.0, 0.0)], None)[0], light[0]);
    }

    #[test]
    fn haze_takes_distant_things_to_the_colour_of_the_horizon() {
        let day = Day::of(Light::Day);
        let (ray, hit) = down(0.0, 0.0);
        let far = Hit { distance_m: 1e5, ..hit };
        let sky = Hit { target: Target::Sky, ..hit };
        let up = Ray { direction: Vector3::z(), ..ray };
        let light = shaded(&Scene::default(), &[(ray, far), (up, sky)], None);
        assert_eq!(light[0], day.horizon);
        assert!(light[1][2] > light[1][0], "{light:?}");
    }

    #[test]
    fn paint_is_brighter_than_asphalt_and_the_pattern_fades() {
        let near: Vec<f32> =
            (0..40).map(|index| pattern(&Vector3::new(0.3 * f64::from(index), 1.0, 0.0), 0.01)).collect();
        assert!(near.iter().any(|value| *value > 0.1) && near.iter().any(|value| *value < -0.1), "{near:?}");
        assert_eq!(pattern(&Vector3::new(3.3, 1.0, 0.0), 100.0), 0.0);
        let painted = Surface { painted: 1.0, ..ASPHALT_SURFACE };
        assert_eq!(ground_colour(&painted, &Vector3::zeros(), 100.0), [PAINT; 3]);
    }
}
