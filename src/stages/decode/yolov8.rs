//! YOLOv8 and YOLO11 as Ultralytics exports them: one output `[batch, 4 + classes, anchors]`.
//!
//! The first four planes are middle x, middle y, width and height in network pixels, the others class scores (sigmoids
//! already; there is no objectness). One anchor per cell of the grids at strides 8, 16 and 32, and 64 for P6 models.

use crate::stages::infer::Tensor;

use super::{
    Decode, DecodeOutputsError, Found, Head, PlaneMaxima, ReadBoxes, Row, STRIDES_TO_32, STRIDES_TO_64, box_around,
    cell_count, detector, has_classes,
};

/// Reads YOLOv8 and YOLO11 outputs.
struct YoloV8 {
    /// The head to name in errors.
    head: Head,
    /// Position of the output.
    output: usize,
    /// Anchors of the usual models and of the P6 models.
    anchors: [usize; 2],
    maxima: PlaneMaxima,
}

/// A decoder of YOLOv8 and YOLO11 outputs for a network input of this size in pixels. They are read from the output at
/// this position, and errors name this head, since other networks have such an output among theirs.
pub fn decoder(width: usize, height: usize, head: Head, output: usize) -> Box<dyn Decode> {
    let anchors = [&STRIDES_TO_32[..], &STRIDES_TO_64].map(|strides| cell_count(width, height, strides));
    let maxima = PlaneMaxima::with_capacity(anchors[1]);
    detector(anchors[1], YoloV8 { head, output, anchors, maxima })
}

impl ReadBoxes for YoloV8 {
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let row = Row::take(self.head, outputs, self.output, row)?;
        let anchors = match row.shape {
            [channels, count] if *count > 0 && self.anchors.contains(count) && has_classes(*channels, 4) => *count,
            _ => {
                let [usual, p6] = self.anchors;
                return Err(row.misfit(format!("[batch, 4 + classes, {usual} or {p6}]")));
            }
        };
        let ([x, y, width, height], classes) = row.planes::<4>(anchors);
        self.maxima.read(anchors, classes);
        let boxes = x.iter().zip(y).zip(width.iter().zip(height));
        for ((anchor, best), ((x, y), (width, height))) in (0_u32..).zip(self.maxima.iter()).zip(boxes) {
            found.add(anchor, best, || box_around(*x, *y, *width, *height));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{doubled_view, tensor};
    use super::*;
    use crate::messages::CameraDetections;

    const ANCHORS: usize = 64 + 16 + 4;
    const CHANNELS: usize = 4 + 3;

    fn decode(data: Vec<f32>, shape: &[usize]) -> Result<CameraDetections, DecodeOutputsError> {
        let mut seen = CameraDetections::default();
        decoder(64, 64, Head::YoloV8, 0).decode(&[tensor(shape, data)], 0, &doubled_view(), &mut seen).map(|()| seen)
    }

    fn set(data: &mut [f32], anchor: usize, values: [f32; CHANNELS]) {
        for (plane, value) in data.chunks_exact_mut(ANCHORS).zip(values) {
            plane[anchor] = value;
        }
    }

    #[test]
    fn known_boxes_come_back_strongest_first() {
        let mut data = vec![0.0; ANCHORS * CHANNELS];
        set(&mut data, 3, [20.0, 30.0, 10.0, 6.0, 0.5, 0.5, 0.1]);
        set(&mut data, 83, [40.0, 30.0, 10.0, 6.0, 0.1, 0.2, 0.9]);
        // repeats the last one
        set(&mut data, 82, [40.0, 30.5, 10.0, 6.0, 0.1, 0.2, 0.8]);
        let seen = decode(data, &[1, CHANNELS, ANCHORS]).unwrap();
        let found: Vec<_> = seen.objects.iter().map(|object| (object.class, object.score)).collect();
        assert_eq!(found, [(2, 0.9), (0, 0.5)]);
        let second = seen.objects[1].box_px;
        assert_eq!([second.left, second.top, second.right, second.bottom], [30.0, 54.0, 50.0, 66.0]);
    }

    #[test]
    fn models_with_a_fourth_stride_fit_and_transposed_ones_do_not() {
        assert!(decode(vec![0.0; CHANNELS * (ANCHORS + 1)], &[1, CHANNELS, ANCHORS + 1]).is_ok());
        let error = decode(vec![0.0; CHANNELS * ANCHORS], &[1, ANCHORS, CHANNELS]).unwrap_err().to_string();
        assert!(error.contains("84 or 85"), "{error}");
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let seen = decode(vec![bad; CHANNELS * ANCHORS], &[1, CHANNELS, ANCHORS]).unwrap();
            assert!(seen.objects.is_empty());
            let mut data = vec![0.0; CHANNELS * ANCHORS];
            set(&mut data, 3, [20.0, bad, 10.0, 6.0, 0.5, 0.5, 0.1]);
            assert!(decode(data, &[1, CHANNELS, ANCHORS]).unwrap().objects.is_empty());
        }
    }
}
