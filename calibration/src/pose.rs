//! Rigid poses: a rotation and a translation between two named frames.
//!
//! Poses come from rig files, calibration and recorded transforms and go wherever a point changes its frame. A pose
//! named `a_from_b` maps points given in frame b to frame a, so that `a_from_b * b_from_c` is `a_from_c`. All results
//! are the same to the last bit on every machine.

use std::ops::Mul;

use nalgebra::{Matrix3, Quaternion, UnitQuaternion, Vector3};

/// How far each element of `transpose(R) * R` may lie from the identity for R still to be taken as a rotation.
const ROTATION_TOLERANCE: f64 = 1e-3;

/// Below this cosine of the pitch, roll and yaw turn about the same axis and only their sum or difference is known.
const GIMBAL_LOCK_COSINE: f64 = 1e-9;

/// A rigid pose `a_from_b`: first rotate, then translate. The default is the identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Rotation from the axes of b to the axes of a.
    pub rotation: UnitQuaternion<f64>,
    /// Origin of b given in a, in metres.
    pub translation_m: Vector3<f64>,
}

impl Default for Pose {
    fn default() -> Self {
        Self::identity()
    }
}

impl Pose {
    /// The pose that leaves every point where it is.
    pub fn identity() -> Self {
        Self { rotation: UnitQuaternion::identity(), translation_m: Vector3::zeros() }
    }

    /// Pose from a translation in metres and roll, pitch, yaw in radians: `R = Rz(yaw) * Ry(pitch) * Rx(roll)`.
    ///
    /// With ISO 8855 axes a positive roll lowers the right side, a positive pitch lowers the front, and a positive yaw
    /// turns to the left.
    pub fn from_xyz_rpy(xyz_m: [f64; 3], rpy_rad: [f64; 3]) -> Self {
        let [roll, pitch, yaw] = rpy_rad;
        let (sin_roll, cos_roll) = libm::sincos(0.5 * roll);
        let (sin_pitch, cos_pitch) = libm::sincos(0.5 * pitch);
        let (sin_yaw, cos_yaw) = libm::sincos(0.5 * yaw);
        let quaternion = Quaternion::new(
            cos_roll * cos_pitch * cos_yaw + sin_roll * sin_pitch * sin_yaw,
            sin_roll * cos_pitch * cos_yaw - cos_roll * sin_pitch * sin_yaw,
            cos_roll * sin_pitch * cos_yaw + sin_roll * cos_pitch * sin_yaw,
            cos_roll * cos_pitch * sin_yaw - sin_roll * sin_pitch * cos_yaw,
        );
        let [x_m, y_m, z_m] = xyz_m;
        Self { rotation: UnitQuaternion::from_quaternion(quaternion), translation_m: Vector3::new(x_m, y_m, z_m) }
    }

    /// Pose from a quaternion in the order w, x, y, z, which is normalised, and a translation in metres.
    ///
    /// `None` when the quaternion has no direction or anything is not finite.
    pub fn from_quaternion_wxyz(wxyz: [f64; 4], translation_m: Vector3<f64>) -> Option<Self> {
        let [w, x, y, z] = wxyz;
        let norm = (w * w + x * x + y * y + z * z).sqrt();
        let usable = norm.is_finite() && norm > 1e-12 && is_finite(&translation_m);
        usable.then(|| Self { rotation: UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z)), translation_m })
    }

    /// Pose from a rotation matrix, replaced by the nearest true rotation, and a translation in metres.
    ///
    /// `None` when anything is not finite, or when the matrix is a mirror image or further than about 1e-3 from a
    /// rotation. The nearest rotation is found by Newton's iteration for the polar decomposition, `R = (R + R^-T) / 2`
    /// (Higham 1986); four steps take the largest error let in below the precision of `f64`.
    pub fn from_rotation_matrix(matrix: &Matrix3<f64>, translation_m: Vector3<f64>) -> Option<Self> {
        let deviation = (matrix.transpose() * matrix - Matrix3::<f64>::identity()).amax();
        let finite = matrix.iter().all(|element| element.is_finite()) && is_finite(&translation_m);
        if !finite || deviation > ROTATION_TOLERANCE || matrix.determinant() < 0.0 {
            return None;
        }
        let mut rotation = *matrix;
        for _ in 0..4 {
            let inverse = rotation.try_inverse()?;
            rotation = (rotation + inverse.transpose()) * 0.5;
        }
        Self::from_quaternion_wxyz(quaternion_of(&rotation), translation_m)
    }

    /// Roll, pitch and yaw in radians, such that `from_xyz_rpy` gives the same rotation back.
    ///
    /// Pitch lies within a quarter turn of zero. Where it is a quarter turn, roll is given as zero.
    pub fn rpy_rad(&self) -> [f64; 3] {
        let [w, x, y, z] = self.quaternion_wxyz();
        let r00 = 1.0 - 2.0 * (y * y + z * z);
        let r10 = 2.0 * (x * y + w * z);
        let r20 = 2.0 * (x * z - w * y);
        let cos_pitch = (r00 * r00 + r10 * r10).sqrt();
        let pitch = libm::atan2(-r20, cos_pitch);
        if cos_pitch < GIMBAL_LOCK_COSINE {
            let r01 = 2.0 * (x * y - w * z);
            let r11 = 1.0 - 2.0 * (x * x + z * z);
            return [0.0, pitch, libm::atan2(-r01, r11)];
        }
        let r21 = 2.0 * (y * z + w * x);
        let r22 = 1.0 - 2.0 * (x * x + y * y);
        [libm::atan2(r21, r22), pitch, libm::atan2(r10, r00)]
    }

    /// The rotation as a unit quaternion in the order w, x, y, z.
    pub fn quaternion_wxyz(&self) -> [f64; 4] {
        let quaternion = self.rotation.quaternion();
        [quaternion.w, quaternion.i, quaternion.j, quaternion.k]
    }

    /// `a_from_b.compose(&b_from_c)` is `a_from_c`. The operator `*` does the same.
    pub fn compose(&self, other: &Self) -> Self {
        Self { rotation: self.rotation * other.rotation, translation_m: self.transform_point(&other.translation_m) }
    }

    /// The pose the other way round: `b_from_a`.
    pub fn inverse(&self) -> Self {
        let rotation = self.rotation.inverse();
        Self { rotation, translation_m: -rotation.transform_vector(&self.translation_m) }
    }

    /// Maps a point from frame b to frame a, in metres.
    pub fn transform_point(&self, point_m: &Vector3<f64>) -> Vector3<f64> {
        self.rotation.transform_vector(point_m) + self.translation_m
    }

    /// Turns a direction or velocity from the axes of b to the axes of a, without the translation.
    pub fn rotate(&self, vector: &Vector3<f64>) -> Vector3<f64> {
        self.rotation.transform_vector(vector)
    }
}

impl Mul for Pose {
    type Output = Pose;

    fn mul(self, other: Pose) -> Pose {
        self.compose(&other)
    }
}

fn is_finite(vector: &Vector3<f64>) -> bool {
    vector.iter().all(|element| element.is_finite())
}

/// Quaternion w, x, y, z of a rotation matrix by Shepperd's method (1978): the largest component is found from the
/// diagonal and the others are divided by it, so nothing is lost to cancellation.
fn quaternion_of(r: &Matrix3<f64>) -> [f64; 4] {
    let (r00, r11, r22) = (r[(0, 0)], r[(1, 1)], r[(2, 2)]);
    let trace = r00 + r11 + r22;
    if trace >= r00 && trace >= r11 && trace >= r22 {
        return [1.0 + trace, r[(2, 1)] - r[(1, 2)], r[(0, 2)] - r[(2, 0)], r[(1, 0)] - r[(0, 1)]];
    }
    if r00 >= r11 && r00 >= r22 {
        return [r[(2, 1)] - r[(1, 2)], 1.0 + r00 - r11 - r22, r[(0, 1)] + r[(1, 0)], r[(0, 2)] + r[(2, 0)]];
    }
    if r11 >= r22 {
        return [r[(0, 2)] - r[(2, 0)], r[(0, 1)] + r[(1, 0)], 1.0 + r11 - r00 - r22, r[(1, 2)] + r[(2, 1)]];
    }
    [r[(1, 0)] - r[(0, 1)], r[(0, 2)] + r[(2, 0)], r[(1, 2)] + r[(2, 1)], 1.0 + r22 - r00 - r11]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUARTER_TURN: f64 = std::f64::consts::FRAC_PI_2;

    fn assert_near(a: &Vector3<f64>, b: &Vector3<f64>) {
        assert!((a - b).norm() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn each_angle_turns_about_its_axis_in_the_right_sense() {
        let yaw = Pose::from_xyz_rpy([0.0; 3], [0.0, 0.0, QUARTER_TURN]);
        assert_near(&yaw.rotate(&Vector3::x()), &Vector3::y());
        let pitch = Pose::from_xyz_rpy([0.0; 3], [0.0, QUARTER_TURN, 0.0]);
        assert_near(&pitch.rotate(&Vector3::x()), &Vector3::new(0.0, 0.0, -1.0));
        let roll = Pose::from_xyz_rpy([0.0; 3], [QUARTER_TURN, 0.0, 0.0]);
        assert_near(&roll.rotate(&Vector3::y()), &Vector3::z());
    }

    #[test]
    fn angles_apply_roll_first_and_yaw_last() {
        let angles = [0.3, -0.4, 1.2];
        let about = |axis: usize| {
            let mut single = [0.0; 3];
            single[axis] = angles[axis];
            Pose::from_xyz_rpy([0.0; 3], single)
        };
        let expected = about(2) * about(1) * about(0);
        let point = Vector3::new(1.0, 2.0, 3.0);
        assert_near(&Pose::from_xyz_rpy([0.0; 3], angles).rotate(&point), &expected.rotate(&point));
    }

    #[test]
    fn optical_frame_of_a_forward_camera_looks_along_x() {
        let vehicle_from_camera = Pose::from_xyz_rpy([1.8, 0.0, 1.4], [-QUARTER_TURN, 0.0, -QUARTER_TURN]);
        assert_near(&vehicle_from_camera.rotate(&Vector3::z()), &Vector3::x());
        assert_near(&vehicle_from_camera.rotate(&Vector3::x()), &Vector3::new(0.0, -1.0, 0.0));
        assert_near(&vehicle_from_camera.rotate(&Vector3::y()), &Vector3::new(0.0, 0.0, -1.0));
        assert_near(&vehicle_from_camera.transform_point(&Vector3::zeros()), &Vector3::new(1.8, 0.0, 1.4));
    }

    #[test]
    fn pitch_of_a_quarter_turn_still_gives_the_same_rotation_back() {
        for pitch in [QUARTER_TURN, -QUARTER_TURN] {
            let pose = Pose::from_xyz_rpy([0.0; 3], [0.4, pitch, 1.1]);
            let again = Pose::from_xyz_rpy([0.0; 3], pose.rpy_rad());
            assert!(pose.rotation.angle_to(&again.rotation) < 1e-7);
        }
    }

    #[test]
    fn rounded_rotation_matrix_is_made_a_true_rotation() {
        // The rotation of a published calibration, rounded to six digits.
        let matrix =
            Matrix3::new(0.007534, -0.999971, -0.000617, 0.014802, 0.000728, -0.999890, 0.999862, 0.007524, 0.014808);
        let pose = Pose::from_rotation_matrix(&matrix, Vector3::zeros()).unwrap();
        let rebuilt = pose.rotation.to_rotation_matrix().into_inner();
        assert!((rebuilt - matrix).amax() < 1e-5);
        assert!((rebuilt.transpose() * rebuilt - Matrix3::<f64>::identity()).amax() < 1e-14);
    }

    #[test]
    fn what_is_not_a_rotation_is_refused() {
        let zero = Vector3::zeros();
        assert_eq!(Pose::from_rotation_matrix(&(Matrix3::<f64>::identity() * -1.0), zero), None);
        assert_eq!(Pose::from_rotation_matrix(&(Matrix3::<f64>::identity() * 1.01), zero), None);
        assert_eq!(Pose::from_rotation_matrix(&(Matrix3::<f64>::identity() * f64::NAN), zero), None);
        assert_eq!(Pose::from_quaternion_wxyz([0.0; 4], zero), None);
        assert_eq!(Pose::from_quaternion_wxyz([f64::INFINITY, 0.0, 0.0, 0.0], zero), None);
    }

    proptest! {
        #[test]
        fn inverse_undoes_and_angles_round_trip(
            x in -50.0..50.0f64, y in -50.0..50.0f64, z in -5.0..5.0f64,
            roll in -3.1..3.1f64, pitch in -1.5..1.5f64, yaw in -3.1..3.1f64,
        ) {
            let pose = Pose::from_xyz_rpy([x, y, z], [roll, pitch, yaw]);
            let point = Vector3::new(3.0, -4.0, 12.0);
            prop_assert!((pose.inverse().transform_point(&pose.transform_point(&point)) - point).norm() < 1e-12);
            prop_assert!((pose * pose.inverse()).translation_m.norm() < 1e-12);
            let [roll_again, pitch_again, yaw_again] = pose.rpy_rad();
            prop_assert!((roll_again - roll).abs() < 1e-10);
            prop_assert!((pitch_again - pitch).abs() < 1e-10);
            prop_assert!((yaw_again - yaw).abs() < 1e-10);
        }

        #[test]
        fn rotation_matrix_round_trips(
            roll in -3.1..3.1f64, pitch in -1.5..1.5f64, yaw in -3.1..3.1f64,
        ) {
            let pose = Pose::from_xyz_rpy([1.0, 2.0, 3.0], [roll, pitch, yaw]);
            let matrix = pose.rotation.to_rotation_matrix().into_inner();
            let again = Pose::from_rotation_matrix(&matrix, pose.translation_m).unwrap();
            let point = Vector3::new(3.0, -4.0, 12.0);
            prop_assert!((again.transform_point(&point) - pose.transform_point(&point)).norm() < 1e-12);
        }
    }
}
