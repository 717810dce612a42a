//! YOLOX: one output `[batch, anchors, 5 + classes]` of x, y, log width, log height, objectness and class scores.
//!
//! Offsets are relative to the cells of the grids at strides 8, 16 and 32 (one anchor per cell); scores are sigmoids
//! already. The arithmetic is that of the authors' demo: `(xy + cell) stride`, `exp(wh) stride`, objectness times
//! class.

use crate::math::exp_f32;
use crate::stages::infer::Tensor;

use super::{
    Cell, Decode, DecodeOutputsError, Found, Head, ReadBoxes, Row, STRIDES_TO_32, box_around, cells, detector,
    has_classes,
};

/// Reads YOLOX outputs.
struct Yolox {
    cells: Vec<Cell>,
}

/// A decoder of YOLOX outputs for a network input of this size in pixels.
pub fn decoder(width: usize, height: usize) -> Box<dyn Decode> {
    let cells = cells(width, height, &STRIDES_TO_32);
    detector(cells.len(), Yolox { cells })
}

impl ReadBoxes for Yolox {
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let row = Row::take(Head::Yolox, outputs, 0, row)?;
        let anchors = self.cells.len();
        let width = match row.shape {
            [count, width] if *count == anchors && has_classes(*width, 5) => *width,
            _ => return Err(row.misfit(format!("[batch, {anchors}, 5 + classes]"))),
        };
        for ((anchor, cell), values) in (0_u32..).zip(&self.cells).zip(row.values.chunks_exact(width)) {
            let [x, y, log_width, log_height, object, classes @ ..] = values else { continue };
            found.add_joint(anchor, *object, classes, || {
                box_around(
                    (x + cell.x) * cell.stride,
                    (y + cell.y) * cell.stride,
                    exp_f32(*log_width) * cell.stride,
                    exp_f32(*log_height) * cell.stride,
                )
            });
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
    const WIDTH: usize = 5 + 3;

    /// Outputs of a 64 x 64 network with three classes, in which nothing is seen.
    fn blank() -> Vec<f32> {
        vec![0.0; ANCHORS * WIDTH]
    }

    fn set(data: &mut [f32], anchor: usize, values: [f32; WIDTH]) {
        data[anchor * WIDTH..][..WIDTH].copy_from_slice(&values);
    }

    fn decode(data: Vec<f32>) -> CameraDetections {
        let mut seen = CameraDetections::default();
        let outputs = [tensor(&[1, ANCHORS, WIDTH], data)];
        decoder(64, 64).decode(&outputs, 0, &doubled_view(), &mut seen).unwrap();
        seen
    }

    #[test]
    fn a_known_box_comes_back_in_picture_pixels() {
        let mut data = blank();
        // second cell of the second row at stride 16: anchor 64 + 4 + 1
        set(&mut data, 69, [0.5, 0.25, 0.0, 0.0, 0.5, 0.1, 0.9, 0.9]);
        let seen = decode(data);
        let [object] = seen.objects.as_slice() else { panic!("expected one object, found {:?}", seen.objects) };
        assert_eq!((object.class, object.score), (1, 0.45));
        // middle (1.5, 1.25) x 16 = (24, 20), size 16 x 16, times two
        let found = [object.box_px.left, object.box_px.top, object.box_px.right, object.box_px.bottom];
        assert_eq!(found, [32.0, 24.0, 64.0, 56.0]);
    }

    #[test]
    fn boxes_outside_the_picture_are_not_clipped() {
        let mut data = blank();
        set(&mut data, 0, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(decode(data).objects.first().map(|object| object.box_px.left), Some(-8.0));
    }

    #[test]
    fn the_threshold_itself_is_not_passed() {
        let mut data = blank();
        set(&mut data, 0, [0.0, 0.0, 0.0, 0.0, 1.0, 0.3, 0.0, 0.0]);
        set(&mut data, 5, [0.0, 0.0, 0.0, 0.0, 0.3, 1.0, 0.0, 0.0]);
        assert!(decode(data).objects.is_empty());
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(decode(vec![bad; ANCHORS * WIDTH]).objects.is_empty());
            for place in 0..5 {
                let mut values = [0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0];
                values[place] = bad;
                let mut data = blank();
                set(&mut data, 3, values);
                // minus infinity in a logarithm is an empty box
                assert!(decode(data).objects.is_empty(), "{bad} at {place}");
            }
        }
    }

    #[test]
    fn rows_of_a_batch_are_told_apart() {
        let mut data = blank();
        data.extend(blank());
        set(&mut data, ANCHORS, [0.0, 0.0, 0.0, 0.0, 0.8, 0.8, 0.0, 0.0]);
        let outputs = [tensor(&[2, ANCHORS, WIDTH], data)];
        let mut decoder = decoder(64, 64);
        let mut seen = CameraDetections::default();
        decoder.decode(&outputs, 1, &doubled_view(), &mut seen).unwrap();
        assert_eq!(seen.objects.len(), 1);
        decoder.decode(&outputs, 0, &doubled_view(), &mut seen).unwrap();
        assert!(seen.objects.is_empty());
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut seen = CameraDetections::default();
        for shape in [&[1, ANCHORS, 5][..], &[1, ANCHORS + 1, WIDTH], &[1, WIDTH], &[1, ANCHORS, WIDTH, 1]] {
            let outputs = [tensor(shape, vec![0.0; shape.iter().product()])];
            let error = decoder(64, 64).decode(&outputs, 0, &doubled_view(), &mut seen).unwrap_err();
            assert!(matches!(error, DecodeOutputsError::WrongShape { output: 0, .. }));
        }
    }
}
