//! FastestDet: one output `[batch, 5 + classes, height / 16, width / 16]`.
//!
//! Planes are objectness, offsets of the middle (before tanh), sizes (before the sigmoid) and class scores; objectness
//! and class scores come out of the network as probabilities. As the authors' evaluation does, a score is
//! `objectness^0.6 class^0.4`, the middle is `(cell + tanh) / cells` and the size `sigmoid`, in parts of the input.

use crate::math::sigmoid_f32;
use crate::stages::infer::Tensor;

use super::{
    Cell, Decode, DecodeOutputsError, Found, Head, PlaneMaxima, ReadBoxes, Row, box_around, cells, detector,
    has_classes,
};

/// Network pixels per cell of the one grid.
pub const STRIDE: usize = 16;
/// Weight of the objectness in a score.
const OBJECT_POWER: f32 = 0.6;
/// Weight of the class in a score.
const CLASS_POWER: f32 = 0.4;

/// Reads FastestDet outputs.
struct FastestDet {
    network: [f32; 2],
    columns: usize,
    rows: usize,
    cells: Vec<Cell>,
    maxima: PlaneMaxima,
}

/// A decoder of FastestDet outputs for a network input of this size in pixels.
pub fn decoder(width: usize, height: usize) -> Box<dyn Decode> {
    let network = [width as f32, height as f32];
    let (columns, rows) = (width.div_ceil(STRIDE), height.div_ceil(STRIDE));
    let cells = cells(width, height, &[STRIDE]);
    let maxima = PlaneMaxima::with_capacity(cells.len());
    detector(cells.len(), FastestDet { network, columns, rows, cells, maxima })
}

impl ReadBoxes for FastestDet {
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let row = Row::take(Head::FastestDet, outputs, 0, row)?;
        let count = self.cells.len();
        match row.shape {
            [channels, rows, columns]
                if count > 0 && *rows == self.rows && *columns == self.columns && has_classes(*channels, 5) => {}
            _ => return Err(row.misfit(format!("[batch, 5 + classes, {}, {}]", self.rows, self.columns))),
        }
        let ([objects, x, y, width, height], classes) = row.planes::<5>(count);
        self.maxima.read(count, classes);
        let [network_width, network_height] = self.network;
        let cell_width = network_width / self.columns as f32;
        let cell_height = network_height / self.rows as f32;
        let boxes = x.iter().zip(y).zip(width.iter().zip(height));
        let scores = objects.iter().zip(self.maxima.iter());
        let all = (0_u32..).zip(&self.cells).zip(scores.zip(boxes));
        for ((anchor, cell), ((object, (class, largest)), ((x, y), (width, height)))) in all {
            found.add(anchor, (class, joint_score(*object, largest)), || {
                box_around(
                    (cell.x + libm::tanhf(*x)) * cell_width,
                    (cell.y + libm::tanhf(*y)) * cell_height,
                    sigmoid_f32(*width) * network_width,
                    sigmoid_f32(*height) * network_height,
                )
            });
        }
        Ok(())
    }
}

/// The weighted geometric mean of objectness and class score; NaN where either is not positive.
fn joint_score(object: f32, class: f32) -> f32 {
    if object > 0.0 && class > 0.0 {
        libm::powf(object, OBJECT_POWER) * libm::powf(class, CLASS_POWER)
    } else {
        f32::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{doubled_view, tensor};
    use super::*;
    use crate::messages::CameraDetections;

    const CELLS: usize = 4 * 2;
    const CHANNELS: usize = 5 + 2;

    fn decode(data: Vec<f32>) -> CameraDetections {
        let mut seen = CameraDetections::default();
        let outputs = [tensor(&[1, CHANNELS, 2, 4], data)];
        decoder(64, 32).decode(&outputs, 0, &doubled_view(), &mut seen).unwrap();
        seen
    }

    fn set(data: &mut [f32], cell: usize, values: [f32; CHANNELS]) {
        for (plane, value) in data.chunks_exact_mut(CELLS).zip(values) {
            plane[cell] = value;
        }
    }

    #[test]
    fn a_known_box_comes_back_in_picture_pixels() {
        let mut data = vec![0.0; CELLS * CHANNELS];
        // third cell of the second row, no offset, half the input's size
        set(&mut data, 6, [0.5, 0.0, 0.0, 0.0, 0.0, 0.1, 0.9]);
        let seen = decode(data);
        let [object] = seen.objects.as_slice() else { panic!("expected one object, found {:?}", seen.objects) };
        assert_eq!(object.class, 1);
        // 0.5^0.6 0.9^0.4
        assert!((object.score - 0.632_53).abs() < 1e-4, "{}", object.score);
        let found = [object.box_px.left, object.box_px.top, object.box_px.right, object.box_px.bottom];
        assert_eq!(found, [32.0, 16.0, 96.0, 48.0]);
    }

    #[test]
    fn offsets_reach_one_cell_at_most() {
        let mut data = vec![0.0; CELLS * CHANNELS];
        set(&mut data, 0, [0.9, 50.0, -50.0, 0.0, 0.0, 0.9, 0.0]);
        let seen = decode(data);
        let box_px = seen.objects[0].box_px;
        assert_eq!([(box_px.left + box_px.right) / 4.0, (box_px.top + box_px.bottom) / 4.0], [16.0, -16.0]);
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(decode(vec![bad; CELLS * CHANNELS]).objects.is_empty());
            let mut data = vec![0.0; CELLS * CHANNELS];
            set(&mut data, 2, [bad, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0]);
            assert!(decode(data).objects.is_empty());
        }
        let mut data = vec![0.0; CELLS * CHANNELS];
        set(&mut data, 2, [0.9, f32::NAN, 0.0, 0.0, 0.0, 0.9, 0.0]);
        assert!(decode(data).objects.is_empty());
    }

    #[test]
    fn another_grid_is_refused() {
        let mut seen = CameraDetections::default();
        let outputs = [tensor(&[1, CHANNELS, 4, 2], vec![0.0; CELLS * CHANNELS])];
        let error = decoder(64, 32).decode(&outputs, 0, &doubled_view(), &mut seen).unwrap_err();
        assert_eq!(
            error.to_string(),
            "output 0 of fastestdet: expected [batch, 5 + classes, 2, 4], found shape [1, 7, 4, 2]"
        );
    }
}
