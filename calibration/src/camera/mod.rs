//! Camera models: how a point in front of a camera becomes a pixel, and back.
//!
//! Parameters come from rig files and from calibration; projections and rays go to every part that compares pictures
//! with the world. Camera frame: x right, y down, z forward. Pixels: the centre of the top-left pixel is (0, 0), as in
//! OpenCV. A model answers `None` wherever its formula stops being one-to-one, instead of a pixel that looks right.

mod brown_conrady;
mod ftheta;
mod kannala_brandt;

pub use brown_conrady::BrownConrady;
pub use ftheta::{FTheta, FThetaError, FThetaPolynomial};
pub use kannala_brandt::KannalaBrandt;

use nalgebra::{Matrix2x3, Vector2, Vector3};

/// The mapping between points in the camera frame and pixels.
pub trait Projection {
    /// Pixel of a point in metres in the camera frame; `None` where the model does not see or does not hold.
    fn project(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>>;

    /// Unit ray in the camera frame through a pixel; `None` where no ray of the model reaches the pixel.
    fn unproject(&self, pixel: &Vector2<f64>) -> Option<Vector3<f64>>;

    /// Derivative of `project` by the point, in pixels per metre, exact; `None` where `project` is `None`.
    fn jacobian(&self, point_camera: &Vector3<f64>) -> Option<Matrix2x3<f64>>;
}

/// The lens of one camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CameraModel {
    /// Perspective with radial and tangential distortion.
    BrownConrady(BrownConrady),
    /// Fisheye with an odd polynomial of the angle.
    KannalaBrandt(KannalaBrandt),
    /// Fisheye with NVIDIA's f-theta polynomial.
    FTheta(FTheta),
}

impl CameraModel {
    /// The model's name in rig files: `brown-conrady`, `kannala-brandt` or `f-theta`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BrownConrady(_) => "brown-conrady",
            Self::KannalaBrandt(_) => "kannala-brandt",
            Self::FTheta(_) => "f-theta",
        }
    }

    /// The same lens for a picture resized by the factors `sx` and `sy` (new size divided by old size).
    pub fn scaled(&self, sx: f64, sy: f64) -> Self {
        match self {
            Self::BrownConrady(model) => Self::BrownConrady(model.scaled(sx, sy)),
            Self::KannalaBrandt(model) => Self::KannalaBrandt(model.scaled(sx, sy)),
            Self::FTheta(model) => Self::FTheta(model.scaled(sx, sy)),
        }
    }

    /// Focal lengths in pixels along x and y near the optical axis.
    pub fn focal_px(&self) -> [f64; 2] {
        match self {
            Self::BrownConrady(model) => [model.fx, model.fy],
            Self::KannalaBrandt(model) => [model.fx, model.fy],
            Self::FTheta(model) => model.focal_px(),
        }
    }

    /// Pixel of the optical axis.
    pub fn principal_point_px(&self) -> [f64; 2] {
        match self {
            Self::BrownConrady(model) => [model.cx, model.cy],
            Self::KannalaBrandt(model) => [model.cx, model.cy],
            Self::FTheta(model) => model.principal_point_px(),
        }
    }
}

impl Projection for CameraModel {
    fn project(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>> {
        match self {
            Self::BrownConrady(model) => model.project(point_camera),
            Self::KannalaBrandt(model) => model.project(point_camera),
            Self::FTheta(model) => model.project(point_camera),
        }
    }

    fn unproject(&self, pixel: &Vector2<f64>) -> Option<Vector3<f64>> {
        match self {
            Self::BrownConrady(model) => model.unproject(pixel),
            Self::KannalaBrandt(model) => model.unproject(pixel),
            Self::FTheta(model) => model.unproject(pixel),
        }
    }

    fn jacobian(&self, point_camera: &Vector3<f64>) -> Option<Matrix2x3<f64>> {
        match self {
            Self::BrownConrady(model) => model.jacobian(point_camera),
            Self::KannalaBrandt(model) => model.jacobian(point_camera),
            Self::FTheta(model) => model.jacobian(point_camera),
        }
    }
}

/// Principal point coordinate after resizing: pixel centres are at whole numbers, so edges lie half a pixel outside.
fn scaled_centre(centre_px: f64, factor: f64) -> f64 {
    (centre_px + 0.5) * factor - 0.5
}

fn finite_pixel(u: f64, v: f64) -> Option<Vector2<f64>> {
    (u.is_finite() && v.is_finite()).then(|| Vector2::new(u, v))
}

/// Value of `c[0] + c[1] x + c[2] x^2 + ...`.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// Derivative of `polynomial` by x.
fn polynomial_slope(coefficients: &[f64], x: f64) -> f64 {
    let terms = coefficients.iter().enumerate().skip(1);
    terms.rev().fold(0.0, |sum, (power, coefficient)| sum * x + power as f64 * coefficient)
}

/// Largest x up to `end` such that a function with this slope rises everywhere from zero to x.
///
/// The slope is sampled at 4096 steps and the first fall is narrowed down by halving.
fn rising_limit(slope: impl Fn(f64) -> f64, end: f64) -> f64 {
    const STEPS: u32 = 4096;
    let rises_at = |x: f64| slope(x) > 0.0;
    if !rises_at(0.0) {
        return 0.0;
    }
    let mut low = 0.0;
    for step in 1..=STEPS {
        let next = end * f64::from(step) / f64::from(STEPS);
        if rises_at(next) {
            low = next;
            continue;
        }
        let mut high = next;
        for _ in 0..64 {
            let middle = 0.5 * (low + high);
            if rises_at(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        return low;
    }
    low
}

/// The x between `low` and `high` where a rising function takes the value `target`: Newton's method, kept between
/// bounds that close in from both sides. `None` when the target lies outside the function's values.
fn solve_rising(
    value: impl Fn(f64) -> f64,
    slope: impl Fn(f64) -> f64,
    target: f64,
    mut low: f64,
    mut high: f64,
) -> Option<f64> {
    let first = value(low);
    if !(first..=value(high)).contains(&target) {
        return None;
    }
    if first == target {
        return Some(low);
    }
    let mut x = 0.5 * (low + high);
    for _ in 0..100 {
        let error = value(x) - target;
        if error == 0.0 {
            break;
        }
        if error > 0.0 {
            high = x;
        } else {
            low = x;
        }
        let newton = x - error / slope(x);
        let next = if (low..=high).contains(&newton) { newton } else { 0.5 * (low + high) };
        let moved = (next - x).abs();
        x = next;
        if moved <= f64::EPSILON * x.abs() {
            break;
        }
    }
    Some(x)
}

/// A point's angle from the optical axis in radians and its distance from the axis in metres. `None` on the axis at or
/// behind the camera, where no direction is left.
fn angle_off_axis(point_camera: &Vector3<f64>) -> Option<(f64, f64)> {
    let rho = (point_camera.x * point_camera.x + point_camera.y * point_camera.y).sqrt();
    if rho == 0.0 && point_camera.z <= 0.0 {
        return None;
    }
    Some((libm::atan2(rho, point_camera.z), rho))
}

/// Unit ray at an angle from the optical axis, towards the direction (x, y) of length `length` in the picture.
fn ray_at(theta: f64, x: f64, y: f64, length: f64) -> Vector3<f64> {
    if length == 0.0 {
        return Vector3::new(0.0, 0.0, 1.0);
    }
    let (sin_theta, cos_theta) = libm::sincos(theta);
    Vector3::new(sin_theta * x / length, sin_theta * y / length, cos_theta)
}

/// Derivative by the point of `radius(theta) * (x, y) / |(x, y)|`, from the radius and its derivative by theta.
fn radial_jacobian(point_camera: &Vector3<f64>, radius: f64, slope: f64) -> Matrix2x3<f64> {
    let (x, y, z) = (point_camera.x, point_camera.y, point_camera.z);
    let rho_squared = x * x + y * y;
    let rho = rho_squared.sqrt();
    if rho <= 1e-12 * z {
        // On the axis both directions are alike and theta is rho / z.
        let centre = slope / z;
        return Matrix2x3::new(centre, 0.0, 0.0, 0.0, centre, 0.0);
    }
    let (nx, ny) = (x / rho, y / rho);
    let along = slope * z / (rho_squared + z * z);
    let across = radius / rho;
    let depth = -slope * rho / (rho_squared + z * z);
    let mixed = (along - across) * nx * ny;
    Matrix2x3::new(
        along * nx * nx + across * ny * ny,
        mixed,
        depth * nx,
        mixed,
        along * ny * ny + across * nx * nx,
        depth * ny,
    )
}

fn finite_jacobian(jacobian: Matrix2x3<f64>) -> Option<Matrix2x3<f64>> {
    jacobian.iter().all(|element| element.is_finite()).then_some(jacobian)
}

#[cfg(test)]
pub(crate) mod checks {
    //! What every camera model must do, used by the tests of each.

    use super::*;

    /// A pixel's ray has length one and projects to the pixel again, however far away the point on it is.
    pub(crate) fn assert_round_trip(model: &impl Projection, u: f64, v: f64) {
        let pixel = Vector2::new(u, v);
        let ray = model.unproject(&pixel).unwrap_or_else(|| panic!("no ray at {u}, {v}"));
        assert!((ray.norm() - 1.0).abs() < 1e-12);
        for distance_m in [1.0, 37.5] {
            let again = model.project(&(ray * distance_m)).unwrap_or_else(|| panic!("no pixel for {u}, {v}"));
            assert!((again - pixel).norm() < 1e-9, "{u}, {v} came back as {again}");
        }
    }

    /// The analytic derivative agrees with central differences.
    pub(crate) fn assert_jacobian(model: &impl Projection, point: &Vector3<f64>) {
        let analytic = model.jacobian(point).unwrap();
        let step = 1e-6 * point.norm();
        for axis in 0..3 {
            let mut offset = Vector3::zeros();
            offset[axis] = step;
            let (after, before) =
                (model.project(&(point + offset)).unwrap(), model.project(&(point - offset)).unwrap());
            let numeric = (after - before) / (2.0 * step);
            let error = (analytic.column(axis) - numeric).norm();
            assert!(error < 1e-6 * (1.0 + analytic.norm()), "column {axis} at {point}: {analytic} is not {numeric}");
        }
    }

    /// Resizing the picture moves pixel edges by the factors.
    pub(crate) fn assert_scaled(model: &CameraModel, point: &Vector3<f64>) {
        let (sx, sy) = (0.5, 0.25);
        let pixel = model.project(point).unwrap();
        let scaled = model.scaled(sx, sy).project(point).unwrap();
        let expected = Vector2::new((pixel.x + 0.5) * sx - 0.5, (pixel.y + 0.5) * sy - 0.5);
        assert!((scaled - expected).norm() < 1e-9, "{scaled} is not {expected}");
    }

    /// Points without a pixel and pixels without a ray are `None`, never a number.
    pub(crate) fn assert_refuses_nonsense(model: &impl Projection) {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(model.project(&Vector3::new(bad, 0.0, 1.0)), None);
            assert_eq!(model.jacobian(&Vector3::new(0.0, bad, 1.0)), None);
            assert_eq!(model.unproject(&Vector2::new(bad, 1.0)), None);
        }
        assert_eq!(model.project(&Vector3::zeros()), None);
        assert_eq!(model.project(&Vector3::new(0.0, 0.0, -1.0)), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomial_and_slope_by_hand() {
        let coefficients = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(polynomial(&coefficients, 2.0), 1.0 + 4.0 + 12.0 + 32.0);
        assert_eq!(polynomial_slope(&coefficients, 2.0), 2.0 + 12.0 + 48.0);
        assert_eq!(polynomial_slope(&[5.0], 2.0), 0.0);
    }

    #[test]
    fn rising_ends_where_the_slope_crosses_zero() {
        assert!((rising_limit(|x| 1.0 - x * x, 2.0) - 1.0).abs() < 1e-12);
        assert_eq!(rising_limit(|_| 1.0, 2.0), 2.0);
        assert_eq!(rising_limit(|_| -1.0, 2.0), 0.0);
        assert_eq!(rising_limit(|_| f64::NAN, 2.0), 0.0);
    }

    #[test]
    fn solver_finds_roots_and_refuses_values_out_of_reach() {
        let cube = |x: f64| x * x * x;
        let slope = |x: f64| 3.0 * x * x;
        assert!((solve_rising(cube, slope, 27.0, 0.0, 10.0).unwrap() - 3.0).abs() < 1e-14);
        assert_eq!(solve_rising(cube, slope, 0.0, 0.0, 10.0), Some(0.0));
        assert_eq!(solve_rising(cube, slope, -1.0, 0.0, 10.0), None);
        assert_eq!(solve_rising(cube, slope, 1001.0, 0.0, 10.0), None);
        assert_eq!(solve_rising(cube, slope, f64::NAN, 0.0, 10.0), None);
    }
}
