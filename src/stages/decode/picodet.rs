//! PicoDet without its post-processing: for the strides 8, 16, 32 and 64 first the scores `[batch, cells, classes]`,
//! then the distances `[batch, cells, 4 x bins]`.
//!
//! Scores are probabilities already. Each distance from the cell's middle to a side (left, top, right, bottom) is a
//! distribution over whole numbers of strides: its softmax's mean, times the stride. The middle is `(cell + 0.5)
//! stride`.

use crate::math::softmax_f32;
use crate::messages::BoxPx;
use crate::stages::infer::Tensor;

use super::{
    Cell, Decode, DecodeOutputsError, Found, Head, ReadBoxes, Row, STRIDES_TO_64, cell_count, cells, detector,
    first_largest, has_classes,
};

/// Most bins per distance; the published models have 8.
pub(crate) const MAX_BINS: usize = 32;

/// Reads PicoDet outputs.
struct PicoDet {
    /// Cells of each stride.
    counts: [usize; STRIDES_TO_64.len()],
    cells: Vec<Cell>,
}

/// A decoder of PicoDet outputs for a network input of this size in pixels.
pub fn decoder(width: usize, height: usize) -> Box<dyn Decode> {
    let counts = STRIDES_TO_64.map(|stride| cell_count(width, height, &[stride]));
    let cells = cells(width, height, &STRIDES_TO_64);
    detector(cells.len(), PicoDet { counts, cells })
}

impl ReadBoxes for PicoDet {
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        // models for small inputs may leave out the widest stride
        let strides = (outputs.len() / 2).clamp(1, STRIDES_TO_64.len());
        let mut cells = (0_u32..).zip(self.cells.iter().copied());
        for (stride, count) in self.counts.into_iter().enumerate().take(strides) {
            let scores = Row::take(Head::PicoDet, outputs, stride, row)?;
            let distances = Row::take(Head::PicoDet, outputs, strides + stride, row)?;
            read_stride(scores, distances, count, cells.by_ref().take(count), found)?;
        }
        Ok(())
    }
}

/// Reads scores and distances of one stride with `count` cells, which come with their anchors' numbers.
fn read_stride(
    scores: Row<'_>,
    distances: Row<'_>,
    count: usize,
    cells: impl Iterator<Item = (u32, Cell)>,
    found: &mut Found<'_>,
) -> Result<(), DecodeOutputsError> {
    let classes = match scores.shape {
        [rows, classes] if *rows == count && has_classes(*classes, 0) => *classes,
        _ => return Err(scores.misfit(format!("[batch, {count}, classes]"))),
    };
    let bins = match distances.shape {
        [rows, values] if *rows == count && values.is_multiple_of(4) && (4..=4 * MAX_BINS).contains(values) => {
            values / 4
        }
        _ => return Err(distances.misfit(format!("[batch, {count}, 4 x bins] with at most {MAX_BINS} bins"))),
    };
    let values = scores.values.chunks_exact(classes).zip(distances.values.chunks_exact(4 * bins));
    for ((anchor, cell), (scores, sides)) in cells.zip(values) {
        found.add(anchor, first_largest(scores.iter().copied()), || network_box(cell, sides, bins));
    }
    Ok(())
}

/// The box of a cell from the distributions of its four distances, in network pixels.
fn network_box(cell: Cell, sides: &[f32], bins: usize) -> BoxPx {
    let mut distances = [f32::NAN; 4];
    for (distance, side) in distances.iter_mut().zip(sides.chunks_exact(bins)) {
        *distance = mean_bin(side) * cell.stride;
    }
    let [left, top, right, bottom] = distances;
    let (x, y) = ((cell.x + 0.5) * cell.stride, (cell.y + 0.5) * cell.stride);
    BoxPx { left: x - left, top: y - top, right: x + right, bottom: y + bottom }
}

/// The mean of the numbers of the bins under the softmax of their values.
fn mean_bin(values: &[f32]) -> f32 {
    let mut buffer = [0.0; MAX_BINS];
    let Some(shares) = buffer.get_mut(..values.len()) else { return f32::NAN };
    shares.copy_from_slice(values);
    softmax_f32(shares);
    let mut mean = 0.0;
    for (bin, share) in shares.iter().enumerate() {
        mean += bin as f32 * share;
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::super::testing::{doubled_view, tensor};
    use super::*;
    use crate::messages::CameraDetections;

    const COUNTS: [usize; 4] = [64, 16, 4, 1];
    const BINS: usize = 8;

    /// Outputs of a 64 x 64 network with two classes, in which nothing is seen.
    fn blank() -> Vec<Tensor> {
        let scores = COUNTS.map(|count| tensor(&[1, count, 2], vec![0.0; count * 2]));
        let distances = COUNTS.map(|count| tensor(&[1, count, 4 * BINS], vec![0.0; count * 4 * BINS]));
        scores.into_iter().chain(distances).collect()
    }

    fn decode(outputs: &[Tensor]) -> Result<CameraDetections, DecodeOutputsError> {
        let mut seen = CameraDetections::default();
        decoder(64, 64).decode(outputs, 0, &doubled_view(), &mut seen).map(|()| seen)
    }

    #[test]
    fn a_known_box_comes_back_in_picture_pixels() {
        let mut outputs = blank();
        // second cell of the second row at stride 16; all weight on bins 1, 0, 2 and halfway between 0 and 1
        outputs[1].data[5 * 2 + 1] = 0.75;
        let sides = &mut outputs[5].data[5 * 4 * BINS..6 * 4 * BINS];
        sides.fill(-200.0);
        for at in [1, BINS, 2 * BINS + 2, 3 * BINS, 3 * BINS + 1] {
            sides[at] = 3.0;
        }
        let seen = decode(&outputs).unwrap();
        let [object] = seen.objects.as_slice() else { panic!("expected one object, found {:?}", seen.objects) };
        assert_eq!((object.class, object.score), (1, 0.75));
        // middle (24, 24), 16 to the left, 0 up, 32 to the right, 8 down, times two
        let found = [object.box_px.left, object.box_px.top, object.box_px.right, object.box_px.bottom];
        assert_eq!(found, [16.0, 48.0, 112.0, 64.0]);
    }

    #[test]
    fn three_strides_fit_too_and_wrong_shapes_do_not() {
        let mut outputs = blank();
        outputs.remove(7);
        outputs.remove(3);
        assert!(decode(&outputs).is_ok());
        outputs.swap(0, 1);
        let error = decode(&outputs).unwrap_err().to_string();
        assert!(error.contains("[batch, 64, classes]"), "{error}");
        let mut wide = blank();
        wide[4] = tensor(&[1, 64, 132], vec![0.0; 64 * 132]);
        assert!(matches!(decode(&wide), Err(DecodeOutputsError::WrongShape { output: 4, .. })));
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut outputs = blank();
            outputs.iter_mut().for_each(|output| output.data.fill(bad));
            assert!(decode(&outputs).unwrap().objects.is_empty());
            let mut outputs = blank();
            outputs[1].data[0] = 0.9;
            outputs[5].data[..4 * BINS].fill(bad);
            assert!(decode(&outputs).unwrap().objects.is_empty());
        }
    }
}
