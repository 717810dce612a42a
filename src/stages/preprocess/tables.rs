//! The resizer's tables for every column and row of a network's input, border included, for those who resize elsewhere.
//!
//! Numbers come from [`resize`](super::resize) and go to the GPU: where both use them in the same way, both give the same
//! bytes.

use super::resize::{self, Columns};
use super::{Layout, PreprocessError};

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnTap {
    /// The left pixel; the right one is next to it.
    pub left: u32,
    /// Weights of both in 1/2048.
    pub weights: [u16; 2],
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTap {
    /// The upper row.
    pub upper: u32,
    /// The lower row, at an edge the same.
    pub lower: u32,
    /// Weights of both in 1/2048.
    pub weights: [u16; 2],
}

/// How pictures of one size become a network's input; none stands for border.
#[derive(Clone, Debug)]
pub(crate) struct ResizeTables {
    /// One per column of the network's input.
    pub columns: Vec<Option<ColumnTap>>,
    /// One per row of the network's input.
    pub lines: Vec<Option<LineTap>>,
}

impl ResizeTables {
    /// For pictures of this size.
    pub(crate) fn new(layout: &Layout, width_px: u32, height_px: u32) -> Result<ResizeTables, PreprocessError> {
        let placement = layout.place(width_px, height_px)?;
        let columns = Columns::new(width_px as usize, placement.width);
        let columns =
            columns.taps().map(|(left, weights)| ColumnTap { left: left as u32, weights: weights.map(unsigned) });
        let lines = resize::lines(height_px as usize, placement.height).into_iter().map(|line| LineTap {
            upper: line.upper as u32,
            lower: line.lower as u32,
            weights: line.weights.map(unsigned),
        });
        Ok(ResizeTables {
            columns: bordered(columns, placement.left, layout.width),
            lines: bordered(lines, placement.top, layout.height),
        })
    }
}

/// Weights lie between 0 and 2048.
fn unsigned(weight: i16) -> u16 {
    u16::try_from(weight).unwrap_or(0)
}

fn bordered<T>(taps: impl Iterator<Item = T>, before: usize, length: usize) -> Vec<Option<T>> {
    let border = || std::iter::repeat_with(|| None);
    border().take(before).chain(taps.map(Some)).chain(border()).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_lies_around_the_picture() {
        let tables = ResizeTables::new(&Layout::yolov5(8, 9), 4, 2).unwrap();
        assert_eq!(tables.columns.len(), 8);
        assert!(tables.columns.iter().all(Option::is_some));
        let shown: Vec<bool> = tables.lines.iter().map(Option::is_some).collect();
        assert_eq!(shown, [false, false, true, true, true, true, false, false, false]);
        assert_eq!(tables.columns[0], Some(ColumnTap { left: 0, weights: [2048, 0] }));
        assert_eq!(tables.columns[7], Some(ColumnTap { left: 2, weights: [0, 2048] }));
        assert_eq!(tables.lines[2], Some(LineTap { upper: 0, lower: 0, weights: [512, 1536] }));
    }

    #[test]
    fn weights_are_positive_and_fill_one() {
        for (from, to) in [(2, 1), (2, 8192), (16_384, 3), (1920, 640), (1208, 384), (3, 7)] {
            let tables = ResizeTables::new(&Layout::twinlitenet(to, to), from, from).unwrap();
            for tap in tables.columns.iter().flatten() {
                assert_eq!(tap.weights[0] + tap.weights[1], 2048);
                assert!(tap.left + 1 < from);
            }
            for tap in tables.lines.iter().flatten() {
                assert_eq!(tap.weights[0] + tap.weights[1], 2048);
                assert!(tap.upper <= tap.lower && tap.lower < from);
            }
        }
    }
}
