//! Bilinear resizing of 8-bit pictures, bit for bit as OpenCV's `cv2.resize(..., INTER_LINEAR)`.
//!
//! Rows come from [`color`](super::color), planes of `f32` go to the network's input. Pixel centres lie at halves;
//! weights are whole numbers of 1/2048. Each source row that is needed is resampled across once
//! (`(left * w0 + right * w1) >> 4`) and kept until the next output row, then two rows are mixed:
//! `(((upper * v0) >> 16) + ((lower * v1) >> 16) + 2) >> 2`. The shifts are part of the result, not an approximation
//! that may be changed.

use catseye_sensors::picture::Frame;

use super::color::{self, Row};
use super::{ChannelOrder, Layout, Placement};

/// One in the weights' fixed point.
const ONE: f32 = 2048.0;

/// The two source pixels of every output column. Places and weights lie apart, so that the bytes are first picked out one by
/// one and then mixed many at a time.
pub(super) struct Columns {
    lefts: Vec<usize>,
    /// Weights of the left and of the right pixels.
    weights: [Vec<i16>; 2],
    /// The bytes of one plane: left and right pixels.
    picked: [Vec<u8>; 2],
}

/// The two source rows of an output row; they are the same one at the edges.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub upper: usize,
    pub lower: usize,
    pub weights: [i16; 2],
}

/// Place before which an output pixel's centre lies, and how far beyond it, in `f32` as OpenCV has it.
fn position(index: usize, from: usize, to: usize) -> (i64, f32) {
    let step = 1.0 / (to as f64 / from as f64);
    let place = ((index as f64 + 0.5) * step - 0.5) as f32;
    let before = place.floor();
    (before as i64, place - before)
}

fn weights(fraction: f32) -> [i16; 2] {
    [((1.0 - fraction) * ONE).round_ties_even() as i16, (fraction * ONE).round_ties_even() as i16]
}

impl Columns {
    /// For a source of at least two pixels: at an edge all weight is on the pixel at the edge.
    pub(super) fn new(from: usize, to: usize) -> Columns {
        let last = from.saturating_sub(1);
        let column = |index| {
            let (before, fraction) = position(index, from, to);
            let left = usize::try_from(before).unwrap_or(0);
            if before < 0 {
                return (0, [2048, 0]);
            }
            if left >= last {
                return (last.saturating_sub(1), [0, 2048]);
            }
            (left, weights(fraction))
        };
        let (lefts, weights): (Vec<usize>, Vec<[i16; 2]>) = (0..to).map(column).unzip();
        let weights = [0, 1].map(|side| weights.iter().map(|pair| pair[side]).collect());
        Columns { lefts, weights, picked: [vec![0; to], vec![0; to]] }
    }

    /// Left pixel and weights of every column.
    #[cfg(feature = "cuda")]
    pub(super) fn taps(&self) -> impl Iterator<Item = (usize, [i16; 2])> {
        let weights = self.weights[0].iter().zip(&self.weights[1]);
        self.lefts.iter().zip(weights).map(|(&left, (&on_left, &on_right))| (left, [on_left, on_right]))
    }

    /// Resamples one plane, whose pixels lie `STEP` bytes apart.
    fn blend<const STEP: usize>(&mut self, plane: &[u8], out: &mut [i16]) {
        let [lefts, rights] = &mut self.picked;
        for (at, (left, right)) in self.lefts.iter().zip(lefts.iter_mut().zip(rights.iter_mut())) {
            let Some(pixels) = plane.get(STEP * at..).and_then(|rest| rest.get(..=STEP)) else { return };
            (*left, *right) = (pixels[0], pixels[STEP]);
        }
        let weights = self.weights[0].iter().zip(&self.weights[1]);
        let product = |byte: u8, weight: i16| i32::from(i16::from(byte)) * i32::from(weight);
        for ((left, right), ((on_left, on_right), out)) in lefts.iter().zip(rights.iter()).zip(weights.zip(out)) {
            *out = ((product(*left, *on_left) + product(*right, *on_right)) >> 4) as i16;
        }
    }
}

/// Lines: at an edge the row at the edge stands for the missing one and both keep their weights.
pub(super) fn lines(from: usize, to: usize) -> Vec<Line> {
    let last = from.saturating_sub(1);
    let line = |index| {
        let (before, fraction) = position(index, from, to);
        let inside = |row: i64| usize::try_from(row).unwrap_or(0).min(last);
        Line { upper: inside(before), lower: inside(before + 1), weights: weights(fraction) }
    };
    (0..to).map(line).collect()
}

/// Tables and row buffers for pictures of one size.
pub(super) struct Resizer {
    picture: [u32; 2],
    placement: Placement,
    columns: Columns,
    lines: Vec<Line>,
    cache: Cache,
}

impl Resizer {
    /// For pictures of this size, which is at least 2 by 2.
    pub(super) fn new(layout: &Layout, placement: Placement, width_px: u32, height_px: u32) -> Resizer {
        debug_assert!(placement.left + placement.width <= layout.width);
        let columns = Columns::new(width_px as usize, placement.width);
        let lines = lines(height_px as usize, placement.height);
        let cache = Cache::new(3 * placement.width);
        Resizer { picture: [width_px, height_px], placement, columns, lines, cache }
    }

    /// Whether the tables fit pictures of this size.
    pub(super) fn is_for(&self, width_px: u32, height_px: u32) -> bool {
        self.picture == [width_px, height_px]
    }

    /// Writes picture and border into the planes, whose length the caller has checked.
    pub(super) fn run(&mut self, frame: &Frame, layout: &Layout, scratch: &mut Vec<u8>, planes: &mut [f32]) {
        let Resizer { placement, columns, lines, cache, .. } = self;
        scratch.resize(color::scratch_bytes(frame.width_px() as usize), 0);
        cache.forget();
        let area = layout.width * layout.height;
        for (y, line) in lines.iter().enumerate() {
            let [upper, lower] = cache.fetch([line.upper, line.lower], |y, blended| {
                blend_columns(&color::row(frame, y, scratch), layout.order, columns, blended);
            });
            let start = (placement.top + y) * layout.width + placement.left;
            let rows = upper.chunks_exact(placement.width).zip(lower.chunks_exact(placement.width));
            let ranges = layout.scale.into_iter().zip(layout.bias);
            for ((plane, (upper, lower)), (scale, bias)) in planes.chunks_exact_mut(area).zip(rows).zip(ranges) {
                if let Some(out) = plane.get_mut(start..start + placement.width) {
                    blend_lines(upper, lower, line.weights, scale, bias, out);
                }
            }
        }
        fill_border(layout, placement, planes);
    }
}

/// The last two source rows, resampled across: three planes of the output's width each.
struct Cache {
    held: [Option<usize>; 2],
    rows: [Vec<i16>; 2],
}

impl Cache {
    fn new(values: usize) -> Cache {
        Cache { held: [None; 2], rows: [vec![0; values], vec![0; values]] }
    }

    fn forget(&mut self) {
        self.held = [None; 2];
    }

    fn fetch(&mut self, wanted: [usize; 2], mut make: impl FnMut(usize, &mut [i16])) -> [&[i16]; 2] {
        if self.held[1] == Some(wanted[0]) {
            self.held.swap(0, 1);
            self.rows.swap(0, 1);
        }
        for ((held, row), y) in self.held.iter_mut().zip(&mut self.rows).zip(wanted) {
            if *held != Some(y) {
                make(y, row);
                *held = Some(y);
            }
        }
        [&self.rows[0], &self.rows[1]]
    }
}

/// Resamples a row across into three planes in the network's order.
fn blend_columns(row: &Row<'_>, order: ChannelOrder, columns: &mut Columns, blended: &mut [i16]) {
    let (first, rest) = blended.split_at_mut(columns.lefts.len());
    let (second, third) = rest.split_at_mut(columns.lefts.len());
    match *row {
        Row::Packed { pixels, blue_first } => {
            let is_turned = blue_first != (order == ChannelOrder::Bgr);
            let (outer, inner) = if is_turned { (third, first) } else { (first, third) };
            columns.blend::<3>(pixels, outer);
            columns.blend::<3>(pixels.get(1..).unwrap_or_default(), second);
            columns.blend::<3>(pixels.get(2..).unwrap_or_default(), inner);
        }
        Row::Planar([red, green, blue]) => {
            let (outer, inner) = if order == ChannelOrder::Rgb { (red, blue) } else { (blue, red) };
            columns.blend::<1>(outer, first);
            columns.blend::<1>(green, second);
            columns.blend::<1>(inner, third);
        }
    }
}

/// Mixes two resampled rows and brings the bytes into the network's number range.
fn blend_lines(upper: &[i16], lower: &[i16], weights: [i16; 2], scale: f32, bias: f32, out: &mut [f32]) {
    let high = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight)) >> 16) as i16;
    for ((out, &upper), &lower) in out.iter_mut().zip(upper).zip(lower) {
        let byte = (high(upper, weights[0]) + high(lower, weights[1]) + 2) >> 2;
        *out = f32::from(byte) * scale + bias;
    }
}

/// Fills what the picture leaves free.
fn fill_border(layout: &Layout, placement: &Placement, planes: &mut [f32]) {
    let area = layout.width * layout.height;
    let inside = placement.top..placement.top + placement.height;
    let ranges = layout.scale.into_iter().zip(layout.bias);
    for (plane, (scale, bias)) in planes.chunks_exact_mut(area).zip(ranges) {
        let value = f32::from(layout.pad()) * scale + bias;
        for (y, row) in plane.chunks_exact_mut(layout.width).enumerate() {
            if !inside.contains(&y) {
                row.fill(value);
                continue;
            }
            let (left, rest) = row.split_at_mut(placement.left);
            left.fill(value);
            if let Some(right) = rest.get_mut(placement.width..) {
                right.fill(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::stages::preprocess::tests::{noise, plain, run};
    use catseye_sensors::picture::PixelFormat;

    /// Values that `cv2.resize` (OpenCV 4.11 and 5.0, `INTER_LINEAR`) gives for the noise picture, pixel by pixel.
    fn equals_opencv(from: (u32, u32), to: (usize, usize), expected: &[u8]) {
        let (planes, _) = run(plain(to.0, to.1), &noise(from.0, from.1, PixelFormat::Rgb8, true));
        let area = to.0 * to.1;
        let found: Vec<u8> = (0..3 * area).map(|index| planes[(index % 3) * area + index / 3] as u8).collect();
        assert_eq!(found, expected, "{from:?} to {to:?}");
    }

    #[test]
    fn smaller_as_opencv() {
        let expected = [
            187, 192, 213, 140, 127, 115, 41, 29, 16, 199, 187, 174, 101, 88, 76, 29, 17, 208, 187, 174, 162, 88, 76,
            63, 143, 131, 220, 147, 134, 122, 75, 63, 50, 182, 220, 208, 135, 122, 110, 36, 24, 113, 194, 181, 169,
        ];
        equals_opencv((13, 7), (5, 3), &expected);
    }

    #[test]
    fn larger_as_opencv() {
        let expected = [
            0, 243, 230, 31, 237, 224, 124, 221, 208, 218, 205, 192, 201, 189, 176, 185, 172, 160, 180, 167, 155, 14,
            231, 218, 42, 226, 213, 124, 210, 197, 206, 193, 181, 190, 177, 165, 174, 161, 149, 168, 156, 143, 71, 186,
            174, 84, 181, 168, 122, 164, 152, 161, 148, 136, 145, 132, 119, 128, 116, 103, 123, 111, 98, 128, 140, 128,
            126, 135, 123, 120, 119, 107, 115, 102, 90, 99, 86, 74, 83, 71, 58, 77, 65, 52, 142, 129, 117, 136, 124,
            111, 120, 107, 95, 104, 91, 79, 88, 75, 63, 71, 59, 46, 66, 54, 41,
        ];
        equals_opencv((3, 2), (7, 5), &expected);
    }

    #[test]
    fn half_as_opencv() {
        let expected = [
            150, 201, 188, 138, 125, 113, 62, 49, 101, 178, 166, 153, 120, 107, 95, 44, 96, 83, 160, 212, 199, 149,
            136, 124,
        ];
        equals_opencv((8, 4), (4, 2), &expected);
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let frame = noise(11, 9, PixelFormat::Rgb8, true);
        let (planes, _) = run(plain(11, 9), &frame);
        for (index, &byte) in frame.data().iter().enumerate() {
            assert_eq!(planes[(index % 3) * 99 + index / 3], f32::from(byte), "{index}");
        }
    }
}
