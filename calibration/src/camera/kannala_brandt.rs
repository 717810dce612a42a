//! The Kannala-Brandt fisheye model with OpenCV's four coefficients.
//!
//! Formula: Kannala and Brandt, "A generic camera model and calibration method for conventional, wide-angle, and
//! fish-eye lenses" (2006), as in OpenCV's fisheye module. Points beside and behind the camera are seen as well, up to
//! the angle at which the polynomial stops rising.

use nalgebra::{Matrix2, Matrix2x3, Vector2, Vector3};

use super::{
    Projection, angle_off_axis, finite_jacobian, finite_pixel, radial_jacobian, ray_at, rising_limit, scaled_centre,
    solve_rising,
};

/// A fisheye camera: a ray at the angle `t` from the axis is seen at the distance
/// `d = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8)`, scaled by the focal lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KannalaBrandt {
    /// Focal length along x, in pixels per radian on the axis.
    pub fx: f64,
    /// Focal length along y, in pixels per radian on the axis.
    pub fy: f64,
    /// Column of the optical axis, in pixels.
    pub cx: f64,
    /// Row of the optical axis, in pixels.
    pub cy: f64,
    /// Coefficient of t^3.
    pub k1: f64,
    /// Coefficient of t^5.
    pub k2: f64,
    /// Coefficient of t^7.
    pub k3: f64,
    /// Coefficient of t^9.
    pub k4: f64,
    /// Largest angle from the axis that is seen, in radians. The polynomial must rise up to it; `new` sees to that.
    pub max_angle_rad: f64,
}

impl KannalaBrandt {
    /// A camera that sees as far from the axis as the polynomial rises, at most half a turn.
    ///
    /// Focal lengths and principal point are x, y in pixels; `k` holds k1 to k4.
    pub fn new(focal_px: [f64; 2], principal_point_px: [f64; 2], k: [f64; 4]) -> Self {
        let ([fx, fy], [cx, cy], [k1, k2, k3, k4]) = (focal_px, principal_point_px, k);
        let mut model = Self { fx, fy, cx, cy, k1, k2, k3, k4, max_angle_rad: 0.0 };
        model.max_angle_rad = model.rising_to_rad();
        model
    }

    /// The angle in radians, at most half a turn, up to which the polynomial rises.
    pub fn rising_to_rad(&self) -> f64 {
        rising_limit(|theta| self.slope(theta), std::f64::consts::PI)
    }

    /// The same lens for a picture resized by the factors `sx` and `sy` (new size divided by old size).
    pub fn scaled(&self, sx: f64, sy: f64) -> Self {
        Self {
            fx: self.fx * sx,
            fy: self.fy * sy,
            cx: scaled_centre(self.cx, sx),
            cy: scaled_centre(self.cy, sy),
            ..*self
        }
    }

    fn radius(&self, theta: f64) -> f64 {
        let s = theta * theta;
        theta * (1.0 + s * (self.k1 + s * (self.k2 + s * (self.k3 + s * self.k4))))
    }

    fn slope(&self, theta: f64) -> f64 {
        let s = theta * theta;
        1.0 + s * (3.0 * self.k1 + s * (5.0 * self.k2 + s * (7.0 * self.k3 + s * 9.0 * self.k4)))
    }

    /// Angle from the axis in radians and distance from the axis in metres, where the model sees.
    fn seen(&self, point_camera: &Vector3<f64>) -> Option<(f64, f64)> {
        angle_off_axis(point_camera).filter(|(theta, _)| *theta <= self.max_angle_rad)
    }
}

impl Projection for KannalaBrandt {
    fn project(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>> {
        let (theta, rho) = self.seen(point_camera)?;
        if rho == 0.0 {
            return finite_pixel(self.cx, self.cy);
        }
        let scale = self.radius(theta) / rho;
        finite_pixel(self.fx * scale * point_camera.x + self.cx, self.fy * scale * point_camera.y + self.cy)
    }

    fn unproject(&self, pixel: &Vector2<f64>) -> Option<Vector3<f64>> {
        let plane = finite_pixel((pixel.x - self.cx) / self.fx, (pixel.y - self.cy) / self.fy)?;
        let radius = plane.norm();
        let theta = solve_rising(|t| self.radius(t), |t| self.slope(t), radius, 0.0, self.max_angle_rad)?;
        Some(ray_at(theta, plane.x, plane.y, radius))
    }

    fn jacobian(&self, point_camera: &Vector3<f64>) -> Option<Matrix2x3<f64>> {
        let (theta, _) = self.seen(point_camera)?;
        let radial = radial_jacobian(point_camera, self.radius(theta), self.slope(theta));
        finite_jacobian(Matrix2::new(self.fx, 0.0, 0.0, self.fy) * radial)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CameraModel, checks};
    use super::*;

    /// A surround-view fisheye, 1280 x 800.
    fn lens() -> KannalaBrandt {
        KannalaBrandt::new([330.5, 331.2], [640.3, 401.8], [0.05, -0.012, 0.003, -0.0006])
    }

    proptest! {
        #[test]
        fn pixels_round_trip(u in 100.0..1180.0f64, v in -0.5..799.5f64) {
            checks::assert_round_trip(&lens(), u, v);
        }

        #[test]
        fn jacobian_is_the_derivative(theta in 0.01..1.8f64, turn in -3.1..3.1f64, distance in 0.5..60.0f64) {
            let (x, y) = (libm::cos(turn), libm::sin(turn));
            checks::assert_jacobian(&lens(), &(ray_at(theta, x, y, 1.0) * distance));
        }
    }

    #[test]
    fn agrees_with_opencv() {
        // Values of OpenCV 5.0 for the same parameters.
        let cases = [
            ([0.5, -0.25, 1.0], [792.8262966583527, 325.3753260919116]),
            ([-1.2, 0.6, 2.0], [462.81884493200243, 490.7285303457198]),
            ([3.0, 2.0, 8.0], [757.7412294966714, 480.25998025072636]),
        ];
        for ([x, y, z], [u, v]) in cases {
            let pixel = lens().project(&Vector3::new(x, y, z)).unwrap();
            assert!((pixel - Vector2::new(u, v)).norm() < 1e-9, "{pixel} is not {u}, {v}");
        }
    }

    #[test]
    fn sees_behind_itself_but_not_beyond_its_largest_angle() {
        let lens = KannalaBrandt { max_angle_rad: 1.75, ..lens() };
        assert!(lens.project(&ray_at(1.74, 1.0, 0.0, 1.0)).is_some());
        assert_eq!(lens.project(&ray_at(1.76, 1.0, 0.0, 1.0)), None);
        assert_eq!(lens.unproject(&Vector2::new(lens.cx + lens.fx * lens.radius(1.76), lens.cy)), None);
        checks::assert_refuses_nonsense(&lens);
    }

    #[test]
    fn the_axis_is_the_principal_point() {
        let lens = lens();
        let axis = Vector3::new(0.0, 0.0, 1.0);
        assert_eq!(lens.project(&(axis * 7.0)), Some(Vector2::new(lens.cx, lens.cy)));
        assert_eq!(lens.unproject(&Vector2::new(lens.cx, lens.cy)), Some(axis));
        checks::assert_jacobian(&lens, &axis);
    }

    #[test]
    fn a_folding_polynomial_is_cut_at_its_turning_angle() {
        // 1 + 3 k1 t^2 is zero at t = 1 / sqrt(3 * 0.2).
        let lens = KannalaBrandt::new([300.0; 2], [400.0; 2], [-0.2, 0.0, 0.0, 0.0]);
        assert!((lens.max_angle_rad - (1.0f64 / 0.6).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn scaling_follows_pixel_edges() {
        checks::assert_scaled(&CameraModel::KannalaBrandt(lens()), &Vector3::new(0.4, -0.2, 1.0));
    }
}
