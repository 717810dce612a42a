//! Where a camera looks: between pixels of its picture and places around the vehicle.

use catseye_calibration::camera::{BrownConrady, CameraModel, Projection};
use catseye_calibration::pose::Pose;
use catseye_calibration::rig;
use nalgebra::{Vector2, Vector3};

/// A ray that meets the ground farther away than this is taken for the horizon.
pub const MAX_GROUND_M: f64 = 300.0;

/// One camera's lens and place.
#[derive(Clone, Debug)]
pub struct CameraGeometry {
    /// The lens that the networks' pictures seem to have been taken with.
    pub lens: CameraModel,
    /// Where the camera is.
    pub vehicle_from_camera: Pose,
    /// The inverse.
    pub camera_from_vehicle: Pose,
    /// Width and height of its pictures.
    pub size_px: [u32; 2],
}

impl CameraGeometry {
    /// Of a camera of the rig; `undistorted` when the networks see pictures without distortion.
    pub fn new(camera: &rig::Camera, undistorted: bool) -> Self {
        let vehicle_from_camera = camera.mounting.vehicle_from_sensor();
        let lens = if undistorted { ideal(&camera.intrinsics) } else { camera.intrinsics };
        CameraGeometry {
            lens,
            vehicle_from_camera,
            camera_from_vehicle: vehicle_from_camera.inverse(),
            size_px: [camera.width_px, camera.height_px],
        }
    }

    /// Where a pixel's ray meets the ground, x and y in the vehicle frame; `None` at or above the horizon.
    pub fn ground_from_picture(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let ray = self.vehicle_from_camera.rotate(&self.lens.unproject(&Vector2::new(pixel[0], pixel[1]))?);
        let origin = self.vehicle_from_camera.translation_m;
        // steeper than about 0.2 degrees, else a pixel is worth tens of metres
        if ray.z > -0.003 {
            return None;
        }
        let along = -origin.z / ray.z;
        let point = origin + ray * along;
        let near = along > 0.0 && along < MAX_GROUND_M && point.x.is_finite() && point.y.is_finite();
        near.then_some([point.x, point.y])
    }

    /// The pixel that shows a point of the vehicle frame, with its distance along the optical axis; `None` behind the
    /// camera.
    pub fn picture_from_vehicle(&self, point_m: &Vector3<f64>) -> Option<([f64; 2], f64)> {
        let seen = self.camera_from_vehicle.transform_point(point_m);
        let pixel = self.lens.project(&seen)?;
        Some(([pixel.x, pixel.y], seen.z))
    }
}

/// The same focal length and principal point, without distortion.
pub fn ideal(lens: &CameraModel) -> CameraModel {
    let ([fx, fy], [cx, cy]) = (lens.focal_px(), lens.principal_point_px());
    CameraModel::BrownConrady(BrownConrady::pinhole(fx, fy, cx, cy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use catseye_calibration::rig::Rig;

    #[test]
    fn ground_and_picture_are_inverse() {
        let rig = Rig::default_camera(960, 540);
        let camera = CameraGeometry::new(&rig.cameras[0], false);
        for (x, y) in [(5.0, 0.0), (20.0, -3.0), (80.0, 6.0)] {
            let (pixel, depth) = camera.picture_from_vehicle(&Vector3::new(x, y, 0.0)).unwrap();
            assert!(depth > 0.0 && depth < x);
            let back = camera.ground_from_picture(pixel).unwrap();
            assert!((back[0] - x).abs() < 1e-6 && (back[1] - y).abs() < 1e-6, "{back:?}");
        }
        assert_eq!(camera.ground_from_picture([480.0, 100.0]), None);
        assert!(camera.picture_from_vehicle(&Vector3::new(-5.0, 0.0, 0.0)).is_none());
    }
}
