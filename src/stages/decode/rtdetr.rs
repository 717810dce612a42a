//! RT-DETR: boxes of a fixed number of queries, each with a middle and a size in parts of the network's input.
//!
//! Ultralytics exports one output `[batch, queries, 4 + classes]` with scores after the sigmoid; Hugging Face exports
//! `logits` `[batch, queries, classes]` before it and `pred_boxes` `[batch, queries, 4]`. The network was trained to
//! see each object once, so that nothing is suppressed: the strongest queries leave.

use crate::math::sigmoid_f32;
use crate::messages::BoxPx;
use crate::stages::infer::{Tensor, TensorSpec};

use super::{
    Decode, DecodeOutputsError, Found, Head, ReadBoxes, Row, box_around, detector, first_largest, has_classes, position,
};

/// Queries of the published models.
pub const USUAL_QUERIES: usize = 300;
/// Most queries that are taken.
pub(crate) const MAX_QUERIES: usize = 2048;

/// Where boxes and scores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Side by side in output 0, scores after the sigmoid.
    Joined,
    /// In two outputs, scores before the sigmoid.
    Split { logits: usize, boxes: usize },
}

/// Reads RT-DETR outputs.
struct RtDetr {
    network: [f32; 2],
    source: Source,
}

/// A decoder of RT-DETR outputs for a network input of this size in pixels; the outputs' names tell which of the two
/// exports it is.
pub fn decoder(width: usize, height: usize, outputs: &[TensorSpec]) -> Box<dyn Decode> {
    let source = find_pair(outputs).map_or(Source::Joined, |(logits, boxes)| Source::Split { logits, boxes });
    detector(MAX_QUERIES, RtDetr { network: [width as f32, height as f32], source })
}

/// Positions of `logits` and `pred_boxes` (or `boxes`) among a model's outputs.
pub(crate) fn find_pair(outputs: &[TensorSpec]) -> Option<(usize, usize)> {
    let boxes = position(outputs, "pred_boxes").or_else(|| position(outputs, "boxes"))?;
    Some((position(outputs, "logits")?, boxes))
}

impl RtDetr {
    fn read_joined(&self, row: Row<'_>, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let width = match row.shape {
            [queries, width] if *queries <= MAX_QUERIES && has_classes(*width, 4) => *width,
            _ => return Err(row.misfit(format!("[batch, at most {MAX_QUERIES}, 4 + classes]"))),
        };
        for (query, values) in (0_u32..).zip(row.values.chunks_exact(width)) {
            let Some((corners, scores)) = values.split_first_chunk::<4>() else { continue };
            found.add(query, first_largest(scores.iter().copied()), || self.network_box(corners));
        }
        Ok(())
    }

    fn read_split(&self, logits: Row<'_>, boxes: Row<'_>, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        let (queries, classes) = match logits.shape {
            [queries, classes] if *queries <= MAX_QUERIES && has_classes(*classes, 0) => (*queries, *classes),
            _ => return Err(logits.misfit(format!("[batch, at most {MAX_QUERIES}, classes]"))),
        };
        if *boxes.shape != [queries, 4] {
            return Err(boxes.misfit(format!("[batch, {queries}, 4]")));
        }
        let (corners, _) = boxes.values.as_chunks::<4>();
        for ((query, corners), logits) in (0_u32..).zip(corners).zip(logits.values.chunks_exact(classes)) {
            // the sigmoid keeps the order, so that the largest logit is enough; without one nothing was seen
            let (class, logit) = first_largest(logits.iter().copied());
            let score = if logit.is_finite() { sigmoid_f32(logit) } else { f32::NAN };
            found.add(query, (class, score), || self.network_box(corners));
        }
        Ok(())
    }

    /// A query's box in network pixels.
    fn network_box(&self, corners: &[f32; 4]) -> BoxPx {
        let [network_width, network_height] = self.network;
        let [x, y, width, height] = *corners;
        box_around(x * network_width, y * network_height, width * network_width, height * network_height)
    }
}

impl ReadBoxes for RtDetr {
    const SUPPRESSES: bool = false;

    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError> {
        match self.source {
            Source::Joined => self.read_joined(Row::take(Head::RtDetr, outputs, 0, row)?, found),
            Source::Split { logits, boxes } => {
                let logits = Row::take(Head::RtDetr, outputs, logits, row)?;
                let boxes = Row::take(Head::RtDetr, outputs, boxes, row)?;
                self.read_split(logits, boxes, found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{doubled_view, spec, tensor};
    use super::*;
    use crate::messages::CameraDetections;

    fn decode(outputs: &[Tensor], specs: &[TensorSpec]) -> Result<CameraDetections, DecodeOutputsError> {
        let mut seen = CameraDetections::default();
        decoder(64, 32, specs).decode(outputs, 0, &doubled_view(), &mut seen).map(|()| seen)
    }

    fn pair() -> [TensorSpec; 2] {
        [spec("pred_boxes", &[1, 3, 4]), spec("logits", &[1, 3, 2])]
    }

    const BOXES: [f32; 12] = [0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.25, 0.5, 0.25, 0.25, 0.5, 0.5];

    #[test]
    fn joined_boxes_come_back_and_none_is_suppressed() {
        let scores = [[0.1, 0.5], [0.1, 0.75], [0.2, 0.1]];
        let (boxes, _) = BOXES.as_chunks::<4>();
        let data = boxes.iter().zip(scores).flat_map(|(corners, scores)| corners.iter().copied().chain(scores));
        let seen = decode(&[tensor(&[1, 3, 6], data.collect())], &[]).unwrap();
        let found: Vec<_> = seen.objects.iter().map(|object| (object.class, object.score)).collect();
        assert_eq!(found, [(1, 0.75), (1, 0.5)]);
        let first = seen.objects[0].box_px;
        // (32, 16) with size 16 x 16, times two
        assert_eq!([first.left, first.top, first.right, first.bottom], [48.0, 16.0, 80.0, 48.0]);
    }

    #[test]
    fn split_outputs_are_found_by_name_and_pass_the_sigmoid() {
        let logits = vec![-5.0, 0.0, f32::NAN, 2.0, -9.0, -9.0];
        let outputs = [tensor(&[1, 3, 4], BOXES.to_vec()), tensor(&[1, 3, 2], logits)];
        let seen = decode(&outputs, &pair()).unwrap();
        assert_eq!(seen.objects.len(), 2);
        assert!((seen.objects[0].score - 0.880_797).abs() < 1e-5);
        assert_eq!((seen.objects[1].score, seen.objects[1].class), (0.5, 1));
    }

    #[test]
    fn values_that_are_not_finite_give_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(decode(&[tensor(&[1, 3, 6], vec![bad; 18])], &[]).unwrap().objects.is_empty());
            let outputs = [tensor(&[1, 3, 4], BOXES.to_vec()), tensor(&[1, 3, 2], vec![bad; 6])];
            assert!(decode(&outputs, &pair()).unwrap().objects.is_empty());
        }
    }

    #[test]
    fn boxes_that_do_not_match_the_logits_are_refused() {
        let outputs = [tensor(&[1, 2, 4], vec![0.0; 8]), tensor(&[1, 3, 2], vec![0.0; 6])];
        assert!(matches!(decode(&outputs, &pair()), Err(DecodeOutputsError::WrongShape { output: 0, .. })));
        let many = [tensor(&[1, 3000, 6], vec![0.0; 18_000])];
        assert!(matches!(decode(&many, &[]), Err(DecodeOutputsError::WrongShape { output: 0, .. })));
    }
}
