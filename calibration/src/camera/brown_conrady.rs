//! The Brown-Conrady model: a perspective camera with radial and tangential distortion, OpenCV's five coefficients.
//!
//! Formula: Brown, "Close-range camera calibration" (1971), in the form and the sign convention of OpenCV's camera
//! calibration chapter. It is promised that a pixel is only given where the radial part still grows with the radius.

use nalgebra::{Matrix2, Matrix2x3, Vector2, Vector3};

use super::{Projection, finite_jacobian, finite_pixel, scaled_centre};

/// A perspective camera with radial and tangential distortion.
///
/// With `x = X / Z`, `y = Y / Z`, `r^2 = x^2 + y^2` and `L = 1 + k1 r^2 + k2 r^4 + k3 r^6`:
/// `u = fx (x L + 2 p1 x y + p2 (r^2 + 2 x^2)) + cx` and `v = fy (y L + p1 (r^2 + 2 y^2) + 2 p2 x y) + cy`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BrownConrady {
    /// Focal length along x, in pixels.
    pub fx: f64,
    /// Focal length along y, in pixels.
    pub fy: f64,
    /// Column of the optical axis, in pixels.
    pub cx: f64,
    /// Row of the optical axis, in pixels.
    pub cy: f64,
    /// Radial coefficient of r^2.
    pub k1: f64,
    /// Radial coefficient of r^4.
    pub k2: f64,
    /// First tangential coefficient.
    pub p1: f64,
    /// Second tangential coefficient.
    pub p2: f64,
    /// Radial coefficient of r^6.
    pub k3: f64,
}

impl BrownConrady {
    /// A camera without distortion.
    pub fn pinhole(fx: f64, fy: f64, cx: f64, cy: f64) -> Self {
        Self { fx, fy, cx, cy, k1: 0.0, k2: 0.0, p1: 0.0, p2: 0.0, k3: 0.0 }
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

    /// Whether the distorted radius grows all the way from the axis to the squared undistorted radius `r_squared`.
    ///
    /// Its derivative `1 + 3 k1 s + 5 k2 s^2 + 7 k3 s^3`, with `s = r^2`, is a cubic, whose least value on the way is
    /// at the end or at its one local minimum, so two evaluations decide exactly.
    fn is_monotone_to(&self, r_squared: f64) -> bool {
        let slope = |s: f64| 1.0 + s * (3.0 * self.k1 + s * (5.0 * self.k2 + s * 7.0 * self.k3));
        let rises_at_end = slope(r_squared) > 0.0;
        rises_at_end && self.slope_minimum().is_none_or(|s| s >= r_squared || slope(s) > 0.0)
    }

    /// Squared radius, above zero, at which the derivative of the distorted radius has its local minimum.
    fn slope_minimum(&self) -> Option<f64> {
        // Zero with rising sign of the derivative a s^2 + b s + c.
        let (a, b, c) = (21.0 * self.k3, 10.0 * self.k2, 3.0 * self.k1);
        let discriminant = b * b - 4.0 * a * c;
        if discriminant < 0.0 {
            return None;
        }
        let root = discriminant.sqrt();
        // The form without a difference of two nearly equal numbers.
        let minimum = if b > 0.0 { -2.0 * c / (b + root) } else { (root - b) / (2.0 * a) };
        (minimum.is_finite() && minimum > 0.0).then_some(minimum)
    }

    /// The point in the plane z = 1 that a point is seen at, where the model holds.
    fn normalised(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>> {
        let in_front = point_camera.z > 0.0;
        if !in_front {
            return None;
        }
        let plane = Vector2::new(point_camera.x / point_camera.z, point_camera.y / point_camera.z);
        self.is_monotone_to(plane.norm_squared()).then_some(plane)
    }

    fn distort(&self, plane: &Vector2<f64>) -> Vector2<f64> {
        let (x, y) = (plane.x, plane.y);
        let s = x * x + y * y;
        let radial = 1.0 + s * (self.k1 + s * (self.k2 + s * self.k3));
        Vector2::new(
            x * radial + 2.0 * self.p1 * x * y + self.p2 * (s + 2.0 * x * x),
            y * radial + self.p1 * (s + 2.0 * y * y) + 2.0 * self.p2 * x * y,
        )
    }

    fn distort_jacobian(&self, plane: &Vector2<f64>) -> Matrix2<f64> {
        let (x, y) = (plane.x, plane.y);
        let s = x * x + y * y;
        let radial = 1.0 + s * (self.k1 + s * (self.k2 + s * self.k3));
        let radial_slope = self.k1 + s * (2.0 * self.k2 + s * 3.0 * self.k3);
        let mixed = 2.0 * x * y * radial_slope + 2.0 * self.p1 * x + 2.0 * self.p2 * y;
        Matrix2::new(
            radial + 2.0 * x * x * radial_slope + 2.0 * self.p1 * y + 6.0 * self.p2 * x,
            mixed,
            mixed,
            radial + 2.0 * y * y * radial_slope + 6.0 * self.p1 * y + 2.0 * self.p2 * x,
        )
    }

    /// One Newton step from `plane`, shortened until it stays where the model is one-to-one.
    fn newton_step(&self, plane: &Vector2<f64>, residual: &Vector2<f64>) -> Option<Vector2<f64>> {
        let mut step = self.distort_jacobian(plane).try_inverse()? * residual;
        for _ in 0..32 {
            let next = plane - step;
            if self.is_monotone_to(next.norm_squared()) {
                return Some(next);
            }
            step *= 0.5;
        }
        None
    }

    /// Inverse of `distort` by Newton's method.
    fn undistort(&self, distorted: &Vector2<f64>) -> Option<Vector2<f64>> {
        let scale = 1.0 + distorted.norm();
        let starts_inside = self.is_monotone_to(distorted.norm_squared());
        let mut plane = if starts_inside { *distorted } else { Vector2::zeros() };
        for _ in 0..40 {
            let residual = self.distort(&plane) - distorted;
            if residual.norm() <= 4e-15 * scale {
                break;
            }
            plane = self.newton_step(&plane, &residual)?;
        }
        // Rounding can keep the residual just above the goal; a pixel is only lost if it is truly not met.
        ((self.distort(&plane) - distorted).norm() <= 1e-13 * scale).then_some(plane)
    }
}

impl Projection for BrownConrady {
    fn project(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>> {
        let distorted = self.distort(&self.normalised(point_camera)?);
        finite_pixel(self.fx * distorted.x + self.cx, self.fy * distorted.y + self.cy)
    }

    fn unproject(&self, pixel: &Vector2<f64>) -> Option<Vector3<f64>> {
        let distorted = finite_pixel((pixel.x - self.cx) / self.fx, (pixel.y - self.cy) / self.fy)?;
        let plane = self.undistort(&distorted)?;
        Some(Vector3::new(plane.x, plane.y, 1.0).normalize())
    }

    fn jacobian(&self, point_camera: &Vector3<f64>) -> Option<Matrix2x3<f64>> {
        let plane = self.normalised(point_camera)?;
        let focal = Matrix2::new(self.fx, 0.0, 0.0, self.fy);
        let nearness = 1.0 / point_camera.z;
        let perspective = Matrix2x3::new(nearness, 0.0, -plane.x * nearness, 0.0, nearness, -plane.y * nearness);
        finite_jacobian(focal * self.distort_jacobian(&plane) * perspective)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CameraModel, checks};
    use super::*;

    /// A webcam-like lens, 1280 x 720.
    const LENS: BrownConrady = BrownConrady {
        fx: 921.3,
        fy: 918.7,
        cx: 641.2,
        cy: 355.9,
        k1: -0.31,
        k2: 0.13,
        p1: 0.0011,
        p2: -0.0007,
        k3: -0.02,
    };

    proptest! {
        #[test]
        fn pixels_round_trip(u in -0.5..1279.5f64, v in -0.5..719.5f64) {
            checks::assert_round_trip(&LENS, u, v);
            checks::assert_round_trip(&BrownConrady { k1: 0.4, k2: 0.2, k3: 0.1, ..LENS }, u, v);
        }

        #[test]
        fn jacobian_is_the_derivative(x in -0.6..0.6f64, y in -0.35..0.35f64, z in 0.5..60.0f64) {
            checks::assert_jacobian(&LENS, &Vector3::new(x * z, y * z, z));
        }

        #[test]
        fn every_accepted_ray_lies_on_the_first_branch(
            k1 in -1.0..1.0f64, k2 in -1.0..1.0f64, k3 in -1.0..1.0f64, end in 0.01..2.0f64,
        ) {
            let lens = BrownConrady { k1, k2, k3, ..LENS };
            let slope = |s: f64| 1.0 + 3.0 * k1 * s + 5.0 * k2 * s * s + 7.0 * k3 * s * s * s;
            let least = (0..=2000).map(|i| slope(end * f64::from(i) / 2000.0)).fold(f64::INFINITY, f64::min);
            // Samples cannot decide a minimum that all but touches zero.
            prop_assume!(least.abs() > 1e-4);
            prop_assert_eq!(lens.is_monotone_to(end), least > 0.0);
        }
    }

    #[test]
    fn agrees_with_opencv() {
        // Values of OpenCV 5.0 for the same parameters.
        let cases = [
            ([0.0, 0.0, 2.0], [641.2, 355.9]),
            ([0.5, -0.25, 1.0], [1062.0141216308593, 146.30204909667967]),
            ([-1.2, 0.6, 2.0], [150.8689385500001, 600.6837105249999]),
            ([3.0, 2.0, 8.0], [966.6054293001175, 572.5170923993683]),
        ];
        for ([x, y, z], [u, v]) in cases {
            let pixel = LENS.project(&Vector3::new(x, y, z)).unwrap();
            assert!((pixel - Vector2::new(u, v)).norm() < 1e-9, "{pixel} is not {u}, {v}");
        }
    }

    #[test]
    fn points_behind_and_beyond_the_turning_radius_have_no_pixel() {
        // With k1 alone the radius grows up to r^2 = 1 / (3 * 0.3), r = 1.054.
        let lens = BrownConrady { k1: -0.3, k2: 0.0, p1: 0.0, p2: 0.0, k3: 0.0, ..LENS };
        assert!(lens.project(&Vector3::new(1.05, 0.0, 1.0)).is_some());
        assert_eq!(lens.project(&Vector3::new(1.06, 0.0, 1.0)), None);
        assert_eq!(lens.jacobian(&Vector3::new(1.06, 0.0, 1.0)), None);
        assert_eq!(lens.project(&Vector3::new(0.1, 0.1, -1.0)), None);
        // The largest distorted radius is 1.054 * (1 - 1/3) = 0.703.
        let column = |radius: f64| Vector2::new(lens.cx + radius * lens.fx, lens.cy);
        assert!(lens.unproject(&column(0.70)).is_some());
        assert_eq!(lens.unproject(&column(0.71)), None);
        checks::assert_refuses_nonsense(&LENS);
    }

    #[test]
    fn scaling_follows_pixel_edges() {
        checks::assert_scaled(&CameraModel::BrownConrady(LENS), &Vector3::new(0.4, -0.2, 1.0));
    }
}
