//! The last step of every detection head: candidates in, at most [`MAX_DETECTIONS`] detections out.
//!
//! A head pushes what passed its score threshold; [`Candidates::keep_best`] sorts by a total order, drops boxes that
//! repeat a stronger one of the same class, and writes the rest. Promises: the result depends on the candidates' values
//! and anchor numbers only, never on the order of pushing; nothing is allocated after construction; values that are not
//! finite and empty boxes never leave.

use crate::messages::{BoxPx, Detection, MAX_DETECTIONS};

/// A box that might become a detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Where it is, in picture pixels.
    pub box_px: BoxPx,
    /// How sure the network is.
    pub score: f32,
    /// Index into the class names.
    pub class: u16,
    /// Number of the anchor, grid cell or query it came from; breaks ties of the score.
    pub anchor: u32,
}

/// Candidates of one picture, in a buffer that is made once.
#[derive(Debug)]
pub struct Candidates {
    list: Vec<Candidate>,
}

impl Candidates {
    /// A buffer for a head with so many anchors.
    pub fn with_capacity(anchors: usize) -> Self {
        Candidates { list: Vec::with_capacity(anchors) }
    }

    /// Forgets the last picture.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Adds a candidate, unless its score is not finite or its box is empty or not finite.
    pub fn push(&mut self, candidate: Candidate) {
        if candidate.score.is_finite() && candidate.box_px.is_sound() {
            self.list.push(candidate);
        }
    }

    /// Greedy suppression: from the strongest down (ties: lower anchor first), a candidate stays unless its
    /// intersection over union with a kept one of its class is above `iou_threshold`. Stops at `limit` or at
    /// [`MAX_DETECTIONS`], so the strongest stay. A threshold of 1 or more suppresses nothing. `kept` is replaced.
    pub fn keep_best(&mut self, iou_threshold: f32, limit: usize, kept: &mut heapless::Vec<Detection, MAX_DETECTIONS>) {
        self.list.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.anchor.cmp(&b.anchor)));
        kept.clear();
        for candidate in &self.list {
            if kept.len() >= limit {
                return;
            }
            if kept.iter().any(|stronger| repeats(stronger, candidate, iou_threshold)) {
                continue;
            }
            let Candidate { box_px, score, class, .. } = *candidate;
            if kept.push(Detection { box_px, score, class }).is_err() {
                return;
            }
        }
    }
}

fn repeats(stronger: &Detection, candidate: &Candidate, iou_threshold: f32) -> bool {
    stronger.class == candidate.class && stronger.box_px.iou(&candidate.box_px) > iou_threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(left: f32, score: f32, class: u16, anchor: u32) -> Candidate {
        Candidate { box_px: BoxPx { left, top: 0.0, right: left + 10.0, bottom: 10.0 }, score, class, anchor }
    }

    fn keep(list: &[Candidate], iou_threshold: f32, limit: usize) -> Vec<Detection> {
        let mut candidates = Candidates::with_capacity(list.len());
        list.iter().for_each(|one| candidates.push(*one));
        let mut kept = heapless::Vec::new();
        candidates.keep_best(iou_threshold, limit, &mut kept);
        kept.to_vec()
    }

    #[test]
    fn drops_the_weaker_of_two_that_overlap_within_a_class() {
        // 10 wide, shifted by 2: intersection 80, union 120, so 0.667
        let list = [candidate(0.0, 0.5, 1, 0), candidate(2.0, 0.9, 1, 1), candidate(2.0, 0.4, 2, 2)];
        let kept = keep(&list, 0.6, 10);
        assert_eq!(kept.iter().map(|one| (one.score, one.class)).collect::<Vec<_>>(), [(0.9, 1), (0.4, 2)]);
        assert_eq!(keep(&list, 0.7, 10).len(), 3);
    }

    #[test]
    fn an_overlap_equal_to_the_threshold_stays() {
        // shifted by 5: intersection 50, union 150
        let list = [candidate(0.0, 0.9, 0, 0), candidate(5.0, 0.8, 0, 1)];
        assert_eq!(keep(&list, 50.0 / 150.0, 10).len(), 2);
        assert_eq!(keep(&list, 0.333, 10).len(), 1);
    }

    #[test]
    fn what_a_dropped_box_overlaps_is_not_dropped() {
        let list = [candidate(0.0, 0.9, 0, 0), candidate(4.0, 0.8, 0, 1), candidate(8.0, 0.7, 0, 2)];
        let kept = keep(&list, 0.4, 10);
        assert_eq!(kept.iter().map(|one| one.score).collect::<Vec<_>>(), [0.9, 0.7]);
    }

    #[test]
    fn equal_scores_go_by_anchor() {
        let list = [candidate(100.0, 0.5, 0, 7), candidate(0.0, 0.5, 0, 3)];
        assert_eq!(keep(&list, 0.5, 10).iter().map(|one| one.box_px.left).collect::<Vec<_>>(), [0.0, 100.0]);
    }

    #[test]
    fn values_that_are_not_finite_never_leave() {
        let mut list = vec![candidate(0.0, f32::NAN, 0, 0), candidate(0.0, f32::INFINITY, 0, 1)];
        list.push(candidate(f32::NAN, 0.5, 0, 2));
        list.push(candidate(f32::NEG_INFINITY, 0.5, 0, 3));
        list.push(Candidate { box_px: BoxPx::default(), ..candidate(0.0, 0.5, 0, 4) });
        assert!(keep(&list, 0.5, 10).is_empty());
    }

    #[test]
    fn the_strongest_stay_when_there_are_too_many() {
        let list: Vec<Candidate> = (0..500_u16)
            .map(|index| candidate(f32::from(index) * 20.0, f32::from(index) / 500.0, 0, u32::from(index)))
            .collect();
        let kept = keep(&list, 0.5, usize::MAX);
        assert_eq!(kept.len(), MAX_DETECTIONS);
        assert_eq!(kept.first().map(|one| one.score), Some(499.0 / 500.0));
        assert_eq!(kept.last().map(|one| one.score), Some((500 - MAX_DETECTIONS) as f32 / 500.0));
        assert_eq!(keep(&list, 0.5, 3).len(), 3);
        assert!(keep(&list, 0.5, 0).is_empty());
    }

    proptest! {
        #[test]
        fn the_order_of_pushing_does_not_matter(
            parts in prop::collection::vec((0.0_f32..60.0, 0_u8..4, 0_u16..3), 0..40),
            turn in 0_usize..40,
        ) {
            let list: Vec<Candidate> = (0_u32..)
                .zip(&parts)
                .map(|(anchor, (left, score, class))| candidate(*left, f32::from(*score) / 4.0, *class, anchor))
                .collect();
            let mut turned = list.clone();
            if !turned.is_empty() {
                let by = turn % turned.len();
                turned.rotate_left(by);
            }
            prop_assert_eq!(keep(&list, 0.45, 100), keep(&turned, 0.45, 100));
        }
    }
}
