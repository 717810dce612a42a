//! TwinLiteNet: `da` (drivable area) and `ll` (lane markings), each `[batch, 2, height, width]` logits of background
//! and foreground.
//!
//! A pixel is foreground where its logit is strictly the greater. The masks are kept for drawing; through the view's
//! ground mapping they become [`lanes`](super::lanes) and [`free_space`](super::free_space).

use crate::messages::CameraDetections;
use crate::stages::infer::{Tensor, TensorSpec};

use super::free_space::FreeSpaceFinder;
use super::lanes::LaneFinder;
use super::{Decode, DecodeOutputsError, Head, Masks, Row, View, position};

/// Name of the output with the drivable area.
pub const DRIVABLE: &str = "da";
/// Name of the output with the lane markings.
pub const LANES: &str = "ll";

/// Decoder of TwinLiteNet outputs.
#[derive(Debug)]
pub struct TwinLiteNet {
    /// The head to name in errors.
    head: Head,
    drivable_output: usize,
    lanes_output: usize,
    masks: Masks,
    lane_finder: LaneFinder,
    free_space_finder: FreeSpaceFinder,
}

impl TwinLiteNet {
    /// A decoder for a network input of this size in pixels; without the two names among the outputs the drivable area
    /// is taken to come first.
    pub fn new(width: usize, height: usize, outputs: &[TensorSpec]) -> Self {
        let [drivable, lanes] =
            [(DRIVABLE, 0), (LANES, 1)].map(|(name, usual)| position(outputs, name).unwrap_or(usual));
        TwinLiteNet::with_outputs(width, height, Head::TwinLiteNet, [drivable, lanes])
    }

    /// As [`TwinLiteNet::new`], for a head that has the drivable area and the lane markings among its outputs, at these
    /// positions; errors name that head.
    pub fn with_outputs(width: usize, height: usize, head: Head, [drivable, lanes]: [usize; 2]) -> Self {
        let pixels = width.saturating_mul(height);
        let masks = Masks { width, height, drivable: vec![0; pixels], lanes: vec![0; pixels] };
        TwinLiteNet {
            head,
            drivable_output: drivable,
            lanes_output: lanes,
            masks,
            lane_finder: LaneFinder::new(width, height),
            free_space_finder: FreeSpaceFinder::new(width, height),
        }
    }

    /// Empties the masks.
    pub(super) fn forget(&mut self) {
        self.masks.drivable.fill(0);
        self.masks.lanes.fill(0);
    }

    fn read_masks(&mut self, outputs: &[Tensor], row: usize) -> Result<(), DecodeOutputsError> {
        let drivable = Row::take(self.head, outputs, self.drivable_output, row)?;
        let lanes = Row::take(self.head, outputs, self.lanes_output, row)?;
        let Masks { width, height, .. } = self.masks;
        read_mask(drivable, width, height, &mut self.masks.drivable)?;
        read_mask(lanes, width, height, &mut self.masks.lanes)
    }
}

impl Decode for TwinLiteNet {
    fn decode(
        &mut self,
        outputs: &[Tensor],
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), DecodeOutputsError> {
        seen.lanes.clear();
        seen.free_space.range_m.clear();
        let read = self.read_masks(outputs, row);
        if read.is_err() {
            self.forget();
            return read;
        }
        let Some(ground_from_picture) = view.ground_from_picture else { return Ok(()) };
        let ground_from_mask = |pixel: [f64; 2]| ground_from_picture(view.picture_from_network(pixel));
        self.lane_finder.find(&self.masks.lanes, &ground_from_mask, &mut seen.lanes);
        self.free_space_finder.find(&self.masks.drivable, &ground_from_mask, &mut seen.free_space);
        Ok(())
    }

    fn masks(&self) -> Option<&Masks> {
        Some(&self.masks)
    }
}

/// Writes 1 where the foreground's logit is strictly greater than the background's; NaN is background.
fn read_mask(row: Row<'_>, width: usize, height: usize, mask: &mut [u8]) -> Result<(), DecodeOutputsError> {
    if *row.shape != [2, height, width] {
        return Err(row.misfit(format!("[batch, 2, {height}, {width}]")));
    }
    let Some((background, foreground)) = row.values.split_at_checked(mask.len()) else {
        return Err(row.misfit(format!("[batch, 2, {height}, {width}]")));
    };
    for ((pixel, background), foreground) in mask.iter_mut().zip(background).zip(foreground) {
        *pixel = u8::from(foreground > background);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FlatCamera, doubled_view, spec, tensor};
    use super::*;

    const WIDTH: usize = 640;
    const HEIGHT: usize = 360;

    /// Logits that are greater in the foreground where `seen` says so.
    fn logits(seen: impl Fn(f64, f64) -> bool) -> Tensor {
        let pixels = (0..HEIGHT).flat_map(|v| (0..WIDTH).map(move |u| (u as f64, v as f64)));
        let foreground: Vec<f32> = pixels.map(|(u, v)| if seen(u, v) { 2.0 } else { -2.0 }).collect();
        let mut data = vec![1.0; WIDTH * HEIGHT];
        data.extend(foreground);
        tensor(&[1, 2, HEIGHT, WIDTH], data)
    }

    /// Logits of a road that ends after 25 m, with markings 1.75 m to either side.
    fn road(camera: &FlatCamera) -> [Tensor; 2] {
        let drivable = logits(|u, v| camera.ground([u, v]).is_some_and(|[x, _]| x < 25.0));
        let lanes = logits(|u, v| {
            camera
                .ground([u, v])
                .is_some_and(|[x, y]| x < 50.0 && (y.abs() - 1.75).abs() < (0.75 * x / 500.0).max(0.08))
        });
        [drivable, lanes]
    }

    #[test]
    fn masks_become_lanes_and_free_space_through_the_picture() {
        let camera = FlatCamera::default();
        let outputs = road(&camera);
        // the picture is twice as large as the network's input, so its pixels lie at 2 u + 0.5
        let ground = |pixel: [f64; 2]| camera.ground([(pixel[0] - 0.5) / 2.0, (pixel[1] - 0.5) / 2.0]);
        let view = View { ground_from_picture: Some(&ground), ..doubled_view() };
        let mut seen = CameraDetections::default();
        let mut decoder = TwinLiteNet::new(WIDTH, HEIGHT, &[]);
        decoder.decode(&outputs, 0, &view, &mut seen).unwrap();
        let lateral: Vec<f32> = seen.lanes.iter().map(|lane| lane.y_at(20.0)).collect();
        let [left, right] = lateral.as_slice() else { panic!("expected two lanes, found {lateral:?}") };
        assert!((left - 1.75).abs() < 0.1 && (right + 1.75).abs() < 0.1, "{lateral:?}");
        let ahead = seen.free_space.range_m[crate::messages::FREE_SPACE_SECTORS / 2];
        assert!((ahead - 25.0).abs() < 1.0, "{ahead}");
        assert!(seen.objects.is_empty());
    }

    #[test]
    fn equal_logits_and_nan_are_background() {
        let mut drivable = tensor(&[1, 2, HEIGHT, WIDTH], vec![0.5; 2 * WIDTH * HEIGHT]);
        drivable.data[WIDTH * HEIGHT] = f32::NAN;
        drivable.data[WIDTH * HEIGHT + 1] = 0.6;
        let lanes = tensor(&[1, 2, HEIGHT, WIDTH], vec![f32::NAN; 2 * WIDTH * HEIGHT]);
        let mut decoder = TwinLiteNet::new(WIDTH, HEIGHT, &[]);
        let mut seen = CameraDetections::default();
        decoder.decode(&[drivable, lanes], 0, &doubled_view(), &mut seen).unwrap();
        let masks = decoder.masks().unwrap();
        let set: Vec<usize> = (0..WIDTH * HEIGHT).filter(|at| masks.drivable[*at] == 1).collect();
        assert_eq!(set, [1]);
        assert!(masks.lanes.iter().all(|pixel| *pixel == 0));
        // without a view of the road there is nothing to measure
        assert!(seen.lanes.is_empty() && seen.free_space.range_m.is_empty());
    }

    #[test]
    fn outputs_are_found_by_name() {
        let shape = [1, 2, HEIGHT, WIDTH];
        let specs = [spec(LANES, &shape), spec(DRIVABLE, &shape)];
        let all = logits(|_, _| true);
        let none = logits(|_, _| false);
        let mut decoder = TwinLiteNet::new(WIDTH, HEIGHT, &specs);
        decoder.decode(&[none, all], 0, &doubled_view(), &mut CameraDetections::default()).unwrap();
        let masks = decoder.masks().unwrap();
        assert!(masks.drivable.iter().all(|pixel| *pixel == 1) && masks.lanes.iter().all(|pixel| *pixel == 0));
    }

    #[test]
    fn other_shapes_are_refused_and_leave_nothing_behind() {
        let mut decoder = TwinLiteNet::new(WIDTH, HEIGHT, &[]);
        let mut seen = CameraDetections::default();
        let all = logits(|_, _| true);
        let wrong = tensor(&[1, 2, WIDTH, HEIGHT], vec![1.0; 2 * WIDTH * HEIGHT]);
        let error = decoder.decode(&[all, wrong], 0, &doubled_view(), &mut seen).unwrap_err();
        assert!(matches!(error, DecodeOutputsError::WrongShape { output: 1, .. }));
        assert!(decoder.masks().unwrap().drivable.iter().all(|pixel| *pixel == 0));
    }
}
