//! NVIDIA's f-theta fisheye model, as used by DRIVE rigs.
//!
//! Formula: a polynomial of up to the fifth degree relates the angle from the optical axis and the distance in pixels
//! from the principal point; a linear part `[c d; e 1]` takes up skew and unequal pixels. One of the two directions of
//! the polynomial is the reference; the other is solved for by Newton's method. Note that pixels here have whole
//! numbers at their centres: half a pixel is to be taken from a principal point given for pixel corners.

use nalgebra::{Matrix2, Matrix2x3, Vector2, Vector3};
use thiserror::Error;

use super::{
    Projection, angle_off_axis, finite_jacobian, finite_pixel, polynomial, polynomial_slope, radial_jacobian, ray_at,
    rising_limit, scaled_centre, solve_rising,
};

/// Why a set of f-theta parameters is not a camera.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum FThetaError {
    /// A parameter is infinite or not a number.
    #[error("expected finite f-theta parameters, found one that is not")]
    NotFinite,
    /// The largest angle is not between zero and half a turn.
    #[error("expected a largest angle above 0 and below pi radians, found {found_rad}")]
    MaxAngle {
        /// The angle given, in radians.
        found_rad: f64,
    },
    /// The linear part mirrors the picture or flattens it to a line.
    #[error("expected a linear part with c - d * e above 0, found {found}")]
    Linear {
        /// Its determinant.
        found: f64,
    },
    /// The polynomial does not pass through the origin.
    #[error("expected 0 as the polynomial's first coefficient, found {found}")]
    ConstantTerm {
        /// The coefficient.
        found: f64,
    },
    /// The polynomial stops rising before the largest angle.
    #[error("expected a polynomial that rises up to {max_angle_rad} rad, found it falling from {found_rad} rad on")]
    NotRising {
        /// The largest angle asked for, in radians.
        max_angle_rad: f64,
        /// The angle at which the polynomial turns, in radians.
        found_rad: f64,
    },
}

/// The reference polynomial of an f-theta camera; element i is the coefficient of the i-th power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FThetaPolynomial {
    /// Angle in radians to distance from the principal point in pixels.
    AngleToPixel([f64; 6]),
    /// Distance from the principal point in pixels to angle in radians.
    PixelToAngle([f64; 6]),
}

impl FThetaPolynomial {
    /// The coefficients, lowest power first.
    pub fn coefficients(&self) -> &[f64; 6] {
        match self {
            Self::AngleToPixel(coefficients) | Self::PixelToAngle(coefficients) => coefficients,
        }
    }

    /// The same polynomial where every distance in pixels is `factor` times as long.
    fn scaled(&self, factor: f64) -> Self {
        match self {
            Self::AngleToPixel(coefficients) => Self::AngleToPixel(coefficients.map(|c| c * factor)),
            Self::PixelToAngle(coefficients) => {
                let mut power = 1.0;
                Self::PixelToAngle(coefficients.map(|c| {
                    let scaled = c / power;
                    power *= factor;
                    scaled
                }))
            }
        }
    }
}

/// An f-theta camera; its parameters were checked together when it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FTheta {
    principal_point_px: [f64; 2],
    polynomial: FThetaPolynomial,
    linear_cde: [f64; 3],
    max_angle_rad: f64,
    max_radius_px: f64,
}

impl FTheta {
    /// A camera from its principal point x, y in pixels, its reference polynomial, the linear part c, d, e (1, 0, 0 for
    /// none) and the largest angle from the axis that it sees, in radians.
    pub fn new(
        principal_point_px: [f64; 2],
        polynomial: FThetaPolynomial,
        linear_cde: [f64; 3],
        max_angle_rad: f64,
    ) -> Result<Self, FThetaError> {
        let coefficients = polynomial.coefficients();
        let mut parameters = principal_point_px.iter().chain(&linear_cde).chain(coefficients);
        if !parameters.all(|parameter| parameter.is_finite()) {
            return Err(FThetaError::NotFinite);
        }
        let [constant, ..] = *coefficients;
        if constant != 0.0 {
            return Err(FThetaError::ConstantTerm { found: constant });
        }
        let angle_in_range = max_angle_rad > 0.0 && max_angle_rad < std::f64::consts::PI;
        if !angle_in_range {
            return Err(FThetaError::MaxAngle { found_rad: max_angle_rad });
        }
        let [c, d, e] = linear_cde;
        let determinant = c - d * e;
        if determinant <= 0.0 {
            return Err(FThetaError::Linear { found: determinant });
        }
        let max_radius_px = max_radius_px(&polynomial, max_angle_rad)?;
        Ok(Self { principal_point_px, polynomial, linear_cde, max_angle_rad, max_radius_px })
    }

    /// Pixel of the optical axis, column and row.
    pub fn principal_point_px(&self) -> [f64; 2] {
        self.principal_point_px
    }

    /// The reference polynomial.
    pub fn polynomial(&self) -> &FThetaPolynomial {
        &self.polynomial
    }

    /// The linear part c, d, e of the matrix `[c d; e 1]` that maps distances from the axis to pixels.
    pub fn linear_cde(&self) -> [f64; 3] {
        self.linear_cde
    }

    /// Largest angle from the optical axis that is seen, in radians.
    pub fn max_angle_rad(&self) -> f64 {
        self.max_angle_rad
    }

    /// Focal lengths in pixels per radian along x and y on the axis.
    pub fn focal_px(&self) -> [f64; 2] {
        let [c, _, _] = self.linear_cde;
        let slope = self.radius_slope(0.0, 0.0);
        [c * slope, slope]
    }

    /// The same lens for a picture resized by the factors `sx` and `sy` (new size divided by old size).
    pub fn scaled(&self, sx: f64, sy: f64) -> Self {
        // The lower right element of the linear part stays one, so the polynomial takes the vertical factor.
        let ([cx, cy], [c, d, e]) = (self.principal_point_px, self.linear_cde);
        Self {
            principal_point_px: [scaled_centre(cx, sx), scaled_centre(cy, sy)],
            polynomial: self.polynomial.scaled(sy),
            linear_cde: [c * sx / sy, d * sx / sy, e],
            max_angle_rad: self.max_angle_rad,
            max_radius_px: self.max_radius_px * sy,
        }
    }

    fn linear(&self) -> Matrix2<f64> {
        let [c, d, e] = self.linear_cde;
        Matrix2::new(c, d, e, 1.0)
    }

    /// Distance from the principal point in pixels at an angle in radians.
    fn radius(&self, theta: f64) -> Option<f64> {
        match &self.polynomial {
            FThetaPolynomial::AngleToPixel(c) => Some(polynomial(c, theta)),
            FThetaPolynomial::PixelToAngle(_) if theta == self.max_angle_rad => Some(self.max_radius_px),
            FThetaPolynomial::PixelToAngle(c) => {
                solve_rising(|r| polynomial(c, r), |r| polynomial_slope(c, r), theta, 0.0, self.max_radius_px)
            }
        }
    }

    /// Derivative of the radius by the angle, at an angle and its radius, in pixels per radian.
    fn radius_slope(&self, theta: f64, radius: f64) -> f64 {
        match &self.polynomial {
            FThetaPolynomial::AngleToPixel(c) => polynomial_slope(c, theta),
            FThetaPolynomial::PixelToAngle(c) => 1.0 / polynomial_slope(c, radius),
        }
    }

    /// Angle in radians at a distance from the principal point in pixels.
    fn angle(&self, radius: f64) -> Option<f64> {
        match &self.polynomial {
            FThetaPolynomial::AngleToPixel(c) => solve_rising(
                |theta| polynomial(c, theta),
                |theta| polynomial_slope(c, theta),
                radius,
                0.0,
                self.max_angle_rad,
            ),
            FThetaPolynomial::PixelToAngle(c) => (radius <= self.max_radius_px).then(|| polynomial(c, radius)),
        }
    }

    /// Angle from the axis in radians and distance from the axis in metres, where the model sees.
    fn seen(&self, point_camera: &Vector3<f64>) -> Option<(f64, f64)> {
        angle_off_axis(point_camera).filter(|(theta, _)| *theta <= self.max_angle_rad)
    }
}

/// Distance in pixels at the largest angle, once the polynomial is known to rise up to it.
fn max_radius_px(reference: &FThetaPolynomial, max_angle_rad: f64) -> Result<f64, FThetaError> {
    match reference {
        FThetaPolynomial::AngleToPixel(c) => {
            let found_rad = rising_limit(|theta| polynomial_slope(c, theta), max_angle_rad);
            if found_rad < max_angle_rad {
                return Err(FThetaError::NotRising { max_angle_rad, found_rad });
            }
            Ok(polynomial(c, max_angle_rad))
        }
        FThetaPolynomial::PixelToAngle(c) => {
            // A lens compresses its rim at most a few times over, so eight times the paraxial radius is far enough.
            let paraxial_px = max_angle_rad / polynomial_slope(c, 0.0);
            let end_px = rising_limit(|r| polynomial_slope(c, r), 8.0 * paraxial_px);
            solve_rising(|r| polynomial(c, r), |r| polynomial_slope(c, r), max_angle_rad, 0.0, end_px)
                .ok_or(FThetaError::NotRising { max_angle_rad, found_rad: polynomial(c, end_px) })
        }
    }
}

impl Projection for FTheta {
    fn project(&self, point_camera: &Vector3<f64>) -> Option<Vector2<f64>> {
        let ([cx, cy], (theta, rho)) = (self.principal_point_px, self.seen(point_camera)?);
        if rho == 0.0 {
            return finite_pixel(cx, cy);
        }
        let scale = self.radius(theta)? / rho;
        let pixel = self.linear() * Vector2::new(scale * point_camera.x, scale * point_camera.y);
        finite_pixel(pixel.x + cx, pixel.y + cy)
    }

    fn unproject(&self, pixel: &Vector2<f64>) -> Option<Vector3<f64>> {
        let [cx, cy] = self.principal_point_px;
        let offset = self.linear().try_inverse()? * finite_pixel(pixel.x - cx, pixel.y - cy)?;
        let radius = offset.norm();
        let theta = self.angle(radius)?;
        Some(ray_at(theta, offset.x, offset.y, radius))
    }

    fn jacobian(&self, point_camera: &Vector3<f64>) -> Option<Matrix2x3<f64>> {
        let (theta, _) = self.seen(point_camera)?;
        let radius = self.radius(theta)?;
        let radial = radial_jacobian(point_camera, radius, self.radius_slope(theta, radius));
        finite_jacobian(self.linear() * radial)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CameraModel, checks};
    use super::*;

    /// A 200 degree fisheye, 1920 x 1280, by its forward polynomial.
    fn forward() -> FTheta {
        let polynomial = FThetaPolynomial::AngleToPixel([0.0, 549.2, 3.1, -7.4, 1.9, -0.6]);
        FTheta::new([958.7, 641.3], polynomial, [1.001, 0.0004, -0.0007], 1.75).unwrap()
    }

    /// A 120 degree lens, 3848 x 2168, by its backward polynomial.
    fn backward() -> FTheta {
        let polynomial = FThetaPolynomial::PixelToAngle([0.0, 5.42e-4, -1.0e-9, 6.0e-12, -2.0e-15, 4.0e-19]);
        FTheta::new([1927.1, 1081.9], polynomial, [0.999, -0.0003, 0.0002], 1.25).unwrap()
    }

    proptest! {
        #[test]
        fn pixels_round_trip(x in -0.69..0.69f64, y in -0.69..0.69f64) {
            for lens in [forward(), backward()] {
                let [cx, cy] = lens.principal_point_px();
                checks::assert_round_trip(&lens, cx + x * lens.max_radius_px, cy + y * lens.max_radius_px);
            }
        }

        #[test]
        fn jacobian_is_the_derivative(part in 0.01..0.99f64, turn in -3.1..3.1f64, distance in 0.5..60.0f64) {
            let (x, y) = (libm::cos(turn), libm::sin(turn));
            for lens in [forward(), backward()] {
                checks::assert_jacobian(&lens, &(ray_at(part * lens.max_angle_rad(), x, y, 1.0) * distance));
            }
        }
    }

    #[test]
    fn ideal_lens_by_hand() {
        let polynomial = FThetaPolynomial::AngleToPixel([0.0, 500.0, 0.0, 0.0, 0.0, 0.0]);
        let lens = FTheta::new([100.0, 50.0], polynomial, [1.0, 0.0, 0.0], 2.0).unwrap();
        // A quarter turn to the right of the axis: 500 px times pi / 2.
        let pixel = lens.project(&Vector3::new(3.0, 0.0, 0.0)).unwrap();
        assert!((pixel - Vector2::new(100.0 + 500.0 * std::f64::consts::FRAC_PI_2, 50.0)).norm() < 1e-9);
        assert_eq!(lens.focal_px(), [500.0, 500.0]);
        let polynomial = FThetaPolynomial::PixelToAngle([0.0, 1.0 / 500.0, 0.0, 0.0, 0.0, 0.0]);
        let backward = FTheta::new([100.0, 50.0], polynomial, [1.0, 0.0, 0.0], 2.0).unwrap();
        assert!((backward.project(&Vector3::new(3.0, 0.0, 0.0)).unwrap() - pixel).norm() < 1e-9);
    }

    #[test]
    fn linear_part_shears_as_written() {
        let polynomial = FThetaPolynomial::AngleToPixel([0.0, 500.0, 0.0, 0.0, 0.0, 0.0]);
        let lens = FTheta::new([0.0, 0.0], polynomial, [1.1, 0.2, 0.3], 1.0).unwrap();
        let theta = libm::atan2(0.5, 1.0);
        let along_x = lens.project(&Vector3::new(0.5, 0.0, 1.0)).unwrap();
        assert!((along_x - Vector2::new(1.1, 0.3) * (500.0 * theta)).norm() < 1e-9);
        let along_y = lens.project(&Vector3::new(0.0, 0.5, 1.0)).unwrap();
        assert!((along_y - Vector2::new(0.2, 1.0) * (500.0 * theta)).norm() < 1e-9);
    }

    #[test]
    fn nothing_is_seen_beyond_the_largest_angle() {
        for lens in [forward(), backward()] {
            let edge = lens.max_angle_rad();
            assert!(lens.project(&ray_at(edge - 1e-6, 0.6, 0.8, 1.0)).is_some());
            assert_eq!(lens.project(&ray_at(edge + 1e-6, 0.6, 0.8, 1.0)), None);
            let [cx, cy] = lens.principal_point_px();
            assert_eq!(lens.unproject(&Vector2::new(cx + 1.01 * lens.max_radius_px, cy)), None);
            checks::assert_refuses_nonsense(&lens);
            checks::assert_jacobian(&lens, &Vector3::new(0.0, 0.0, 2.0));
        }
    }

    #[test]
    fn impossible_parameters_are_named() {
        let make = |coefficients: [f64; 6], linear_cde: [f64; 3], max_angle_rad: f64| {
            FTheta::new([0.0; 2], FThetaPolynomial::AngleToPixel(coefficients), linear_cde, max_angle_rad)
        };
        let straight = [0.0, 500.0, 0.0, 0.0, 0.0, 0.0];
        let square = [1.0, 0.0, 0.0];
        assert_eq!(make([f64::NAN; 6], square, 1.0), Err(FThetaError::NotFinite));
        assert_eq!(make([1.0, 500.0, 0.0, 0.0, 0.0, 0.0], square, 1.0), Err(FThetaError::ConstantTerm { found: 1.0 }));
        assert_eq!(make(straight, square, 4.0), Err(FThetaError::MaxAngle { found_rad: 4.0 }));
        assert_eq!(make(straight, [1.0, 1.0, 1.0], 1.0), Err(FThetaError::Linear { found: 0.0 }));
        let turns_at = |made: Result<FTheta, FThetaError>| match made {
            Err(FThetaError::NotRising { found_rad, .. }) => found_rad,
            other => panic!("{other:?}"),
        };
        let forward = make([0.0, 500.0, 0.0, -500.0, 0.0, 0.0], square, 1.0);
        assert!((turns_at(forward) - (1.0f64 / 3.0).sqrt()).abs() < 1e-9);
        // 500 px is the turning point of r / 500 - r^3 / (3 * 500^3), where the angle is 2/3.
        let turning = FThetaPolynomial::PixelToAngle([0.0, 1.0 / 500.0, 0.0, -1.0 / 375.0e6, 0.0, 0.0]);
        let backward = FTheta::new([0.0; 2], turning, square, 1.0);
        assert!((turns_at(backward) - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn scaling_follows_pixel_edges() {
        for lens in [forward(), backward()] {
            checks::assert_scaled(&CameraModel::FTheta(lens), &Vector3::new(0.4, -0.2, 1.0));
        }
    }
}
