//! YOLOv5 as Ultralytics exports it: one output `[batch, anchors, 5 + classes]` of middle x, middle y, width, height,
//! objectness and class scores.
//!
//! The export decodes the grid itself: boxes are in network pixels and scores are sigmoids. Three anchors per cell of
//! the grids at strides 8, 16 and 32, and 64 for the P6 models. A detection's score is objectness times class.

use crate::stages::infer::Tensor;

use super::{
    Decode, DecodeOutputsError, Found, Head, ReadBoxes, Row, STRIDES_TO_32, STRIDES_TO_64, box_around, cell_count,
    detector, has_classes,
};

/// Anchors per grid cell.
pub(crate) const ANCHORS_PER_CELL: usize = 3;

/// Reads YOLOv5 outputs.
struct YoloV5 {
    /// Anchors of the usual models and of the P6 models.
    anchors: [usize; 2],
}

/// A decoder of YOLOv5 outputs for a network input of this size in pixels.
pub fn decoder(width: usize, height: usize) -> Box<dyn Decode> {
    let anchors = [&STRIDES_TO_32[..], &STRIDES_TO_64]
        .map(|strides| cell_count(width, height, strides).saturating_mul(ANCHORS_PER_CELL));
    detector(anchors[1], YoloV5 { anchors })
}

impl ReadBoxes for YoloV5 {
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let row = Row::take(Head::YoloV5, outputs, 0, row)?;
        let width = match row.shape {
            [count, width] if self.anchors.contains(count) && has_classes(*width, 5) => *width,
            _ => {
                let [usual, p6] = self.anchors;
                return Err(row.misfit(format!("[batch, {usual} or {p6}, 5 + classes]")));
            }
        };
        for (anchor, values) in (0_u32..).zip(row.values.chunks_exact(width)) {
            let [x, y, box_width, box_height, object, classes @ ..] = values else { continue };
            found.add_joint(anchor, *object, classes, || box_around(*x, *y, *box_width, *box_height));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{doubled_view, tensor};
    use super::*;
    use crate::messages::CameraDetections;

    const ANCHORS: usize = 3 * (64 + 16 + 4);

    fn decode(data: Vec<f32>, anchors: usize) -> Result<CameraDetections, DecodeOutputsError> {
        let mut seen = CameraDetections::default();
        let outputs = [tensor(&[1, anchors, 7], data)];
        decoder(64, 64).decode(&outputs, 0, &doubled_view(), &mut seen).map(|()| seen)
    }

    #[test]
    fn known_boxes_come_back_strongest_first() {
        let mut data = vec![0.0; ANCHORS * 7];
        data[7 * 10..][..7].copy_from_slice(&[20.0, 30.0, 10.0, 6.0, 0.5, 1.0, 0.0]);
        data[7 * 200..][..7].copy_from_slice(&[40.0, 30.0, 10.0, 6.0, 1.0, 0.0, 0.75]);
        // repeats the last one
        data[7 * 201..][..7].copy_from_slice(&[40.5, 30.0, 10.0, 6.0, 1.0, 0.0, 0.5]);
        let seen = decode(data, ANCHORS).unwrap();
        let found: Vec<_> = seen.objects.iter().map(|object| (object.class, object.score)).collect();
        assert_eq!(found, [(1, 0.75), (0, 0.5)]);
        let second = seen.objects[1].box_px;
        assert_eq!([second.left, second.top, second.right, second.bottom], [30.0, 54.0, 50.0, 66.0]);
    }

    #[test]
    fn models_with_a_fourth_stride_fit_too() {
        let anchors = ANCHORS + 3;
        assert!(decode(vec![0.0; anchors * 7], anchors).is_ok());
        let error = decode(vec![0.0; 7], 1).unwrap_err().to_string();
        assert!(error.contains("252 or 255"), "{error}");
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(decode(vec![bad; ANCHORS * 7], ANCHORS).unwrap().objects.is_empty());
        }
    }
}
