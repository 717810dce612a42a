//! What the tests of this folder share: a camera over a flat road, noise, and tensors.

use super::View;
use crate::stages::infer::{Tensor, TensorSpec};
use crate::stages::preprocess::Letterbox;

/// A pinhole camera without distortion over a flat road, looking ahead and slightly down.
pub struct FlatCamera {
    /// Focal length.
    pub focal_px: f64,
    /// Principal point.
    pub centre_px: [f64; 2],
    /// Height above the road.
    pub height_m: f64,
    /// Position ahead of the vehicle's origin.
    pub forward_m: f64,
    /// Downward tilt.
    pub pitch_rad: f64,
}

impl Default for FlatCamera {
    fn default() -> Self {
        FlatCamera { focal_px: 500.0, centre_px: [319.5, 179.5], height_m: 1.4, forward_m: 1.8, pitch_rad: 0.02 }
    }
}

impl FlatCamera {
    /// The ground point under a pixel, in the vehicle frame.
    pub fn ground(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let right = (pixel[0] - self.centre_px[0]) / self.focal_px;
        let down = (pixel[1] - self.centre_px[1]) / self.focal_px;
        let (sin, cos) = (libm::sin(self.pitch_rad), libm::cos(self.pitch_rad));
        let forward_part = cos - down * sin;
        let down_part = down * cos + sin;
        if down_part <= 1e-6 {
            return None;
        }
        let scale = self.height_m / down_part;
        Some([self.forward_m + forward_part * scale, -right * scale])
    }
}

/// A mask in which one pixel in `one_in` is set, by a linear congruential generator.
pub fn noise(pixels: usize, seed: u64, one_in: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::from((state >> 33).is_multiple_of(one_in))
    };
    (0..pixels).map(|_| next()).collect()
}

/// A tensor of this shape.
pub fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    Tensor { shape: heapless::Vec::from_slice(shape).unwrap(), data }
}

/// A description of a tensor; 0 stands for a free dimension.
pub fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.iter().map(|size| (*size > 0).then_some(*size)).collect() }
}

/// A view whose picture is the network's input times two.
pub fn doubled_view<'a>() -> View<'a> {
    View {
        letterbox: Letterbox { scale_x: 0.5, scale_y: 0.5, pad_left: 0.0, pad_top: 0.0 },
        score_threshold: 0.3,
        iou_threshold: 0.45,
        max_detections: crate::messages::MAX_DETECTIONS,
        ground_from_picture: None,
    }
}
