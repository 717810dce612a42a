//! Multitask: boxes, drivable area and lane markings by one network, as `training/` makes them.
//!
//! `objects` is as [YOLOv8's](super::yolov8) output, `[batch, 4 + classes, anchors]`; `da` and `ll` are as
//! [TwinLiteNet's](super::twinlitenet), each `[batch, 2, height, width]`. The two decoders do the work, so what they
//! promise holds here; where one of them fails, nothing of the picture is kept.

use crate::messages::CameraDetections;
use crate::stages::infer::{Tensor, TensorSpec};

use super::twinlitenet::{DRIVABLE, LANES, TwinLiteNet};
use super::{Decode, DecodeOutputsError, Head, Masks, View, position, yolov8};

/// Name of the output with the boxes.
pub const OBJECTS: &str = "objects";

/// Decoder of the outputs of a multitask network.
pub struct Multitask {
    boxes: Box<dyn Decode>,
    road: TwinLiteNet,
}

impl Multitask {
    /// A decoder for a network input of this size in pixels; outputs without the three names are taken to be boxes,
    /// drivable area and lane markings.
    pub fn new(width: usize, height: usize, outputs: &[TensorSpec]) -> Self {
        let find = |name: &str, usual: usize| position(outputs, name).unwrap_or(usual);
        let boxes = yolov8::decoder(width, height, Head::Multitask, find(OBJECTS, 0));
        let masks = [find(DRIVABLE, 1), find(LANES, 2)];
        Multitask { boxes, road: TwinLiteNet::with_outputs(width, height, Head::Multitask, masks) }
    }
}

impl Decode for Multitask {
    fn decode(
        &mut self,
        outputs: &[Tensor],
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), DecodeOutputsError> {
        // both run in any case: each empties its own fields, and the masks, on an error
        let boxes = self.boxes.decode(outputs, row, view, seen);
        let road = self.road.decode(outputs, row, view, seen);
        let decoded = boxes.and(road);
        if decoded.is_err() {
            seen.objects.clear();
            seen.lanes.clear();
            seen.free_space.range_m.clear();
            self.road.forget();
        }
        decoded
    }

    fn masks(&self) -> Option<&Masks> {
        self.road.masks()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FlatCamera, doubled_view, spec, tensor};
    use super::*;
    use crate::messages::FREE_SPACE_SECTORS;

    const WIDTH: usize = 640;
    const HEIGHT: usize = 352;
    const ANCHORS: usize = 80 * 44 + 40 * 22 + 20 * 11;
    const CHANNELS: usize = 4 + 4;

    /// One box of class 2 around (200, 160).
    fn objects() -> Tensor {
        let mut data = vec![0.0; CHANNELS * ANCHORS];
        for (plane, value) in data.chunks_exact_mut(ANCHORS).zip([200.0, 160.0, 40.0, 20.0, 0.1, 0.0, 0.9, 0.2]) {
            plane[1625] = value;
        }
        tensor(&[1, CHANNELS, ANCHORS], data)
    }

    /// Logits that are greater in the foreground where `seen` says so.
    fn logits(seen: impl Fn(f64, f64) -> bool) -> Tensor {
        let pixels = (0..HEIGHT).flat_map(|v| (0..WIDTH).map(move |u| (u as f64, v as f64)));
        let foreground: Vec<f32> = pixels.map(|(u, v)| if seen(u, v) { 2.0 } else { -2.0 }).collect();
        let mut data = vec![1.0; WIDTH * HEIGHT];
        data.extend(foreground);
        tensor(&[1, 2, HEIGHT, WIDTH], data)
    }

    /// Logits of a road that ends after 25 m, with markings 1.75 m to either side: drivable area and lane markings.
    fn road(camera: &FlatCamera) -> [Tensor; 2] {
        let drivable = logits(|u, v| camera.ground([u, v]).is_some_and(|[x, _]| x < 25.0));
        let lanes = logits(|u, v| {
            camera
                .ground([u, v])
                .is_some_and(|[x, y]| x < 50.0 && (y.abs() - 1.75).abs() < (0.75 * x / 500.0).max(0.08))
        });
        [drivable, lanes]
    }

    fn is_empty(seen: &CameraDetections) -> bool {
        seen.objects.is_empty() && seen.lanes.is_empty() && seen.free_space.range_m.is_empty()
    }

    #[test]
    fn boxes_lanes_and_free_space_come_together_and_by_name() {
        let camera = FlatCamera::default();
        let [drivable, lanes] = road(&camera);
        let specs = [
            spec(LANES, &[1, 2, HEIGHT, WIDTH]),
            spec(OBJECTS, &[1, CHANNELS, ANCHORS]),
            spec(DRIVABLE, &[1, 2, HEIGHT, WIDTH]),
        ];
        // the picture is twice as large as the network's input, so its pixels lie at 2 u + 0.5
        let ground = |pixel: [f64; 2]| camera.ground([(pixel[0] - 0.5) / 2.0, (pixel[1] - 0.5) / 2.0]);
        let view = View { ground_from_picture: Some(&ground), ..doubled_view() };
        let mut seen = CameraDetections::default();
        let mut decoder = Multitask::new(WIDTH, HEIGHT, &specs);
        decoder.decode(&[lanes, objects(), drivable], 0, &view, &mut seen).unwrap();
        let found: Vec<_> = seen.objects.iter().map(|object| (object.class, object.box_px.left)).collect();
        assert_eq!(found, [(2, 360.0)]);
        let lateral: Vec<f32> = seen.lanes.iter().map(|lane| lane.y_at(20.0)).collect();
        let [left, right] = lateral.as_slice() else { panic!("expected two lanes, found {lateral:?}") };
        assert!((left - 1.75).abs() < 0.1 && (right + 1.75).abs() < 0.1, "{lateral:?}");
        let ahead = seen.free_space.range_m[FREE_SPACE_SECTORS / 2];
        assert!((ahead - 25.0).abs() < 1.0, "{ahead}");
        assert!(decoder.masks().unwrap().drivable.contains(&1));
    }

    #[test]
    fn an_error_in_one_part_leaves_nothing_behind() {
        let camera = FlatCamera::default();
        let [drivable, lanes] = road(&camera);
        let ground = |pixel: [f64; 2]| camera.ground(pixel);
        let view = View { ground_from_picture: Some(&ground), ..doubled_view() };
        let good = [objects(), drivable, lanes];
        for (bad, name) in ["output 0", "output 1", "output 2"].into_iter().enumerate() {
            let mut decoder = Multitask::new(WIDTH, HEIGHT, &[]);
            let mut seen = CameraDetections::default();
            decoder.decode(&good, 0, &view, &mut seen).unwrap();
            assert!(!is_empty(&seen));
            let mut outputs = good.clone();
            outputs[bad] = tensor(&[1, 3], vec![1.0; 3]);
            let error = decoder.decode(&outputs, 0, &view, &mut seen).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("multitask"), "{error}");
            assert!(is_empty(&seen));
            assert!(!decoder.masks().unwrap().drivable.contains(&1));
        }
    }
}
