//! How many frames are missing, told from the numbers that a driver gives them. Sans-I/O: numbers in, counts out.

/// What a frame's number says about the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceStep {
    /// No frame came before.
    First,
    /// It follows the one before.
    Next,
    /// So many frames were lost between the two.
    Gap(u32),
    /// It has the number of the one before.
    Repeat,
    /// It has a smaller number than the one before: the source began anew, or mixes up its frames.
    Backward,
}

/// Counts what the numbers of a source's frames say. They run from any number, and from 2^32 - 1 on to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceCounter {
    last: Option<u32>,
    /// Frames seen.
    pub frames: u64,
    /// Frames lost in all gaps together.
    pub lost: u64,
    /// Gaps between frames that follow one another.
    pub gaps: u64,
    /// Frames with the number of the one before.
    pub repeats: u64,
    /// Frames with a smaller number than the one before.
    pub backward: u64,
}

impl SequenceCounter {
    /// Counts a frame. A step of less than half the range goes forward, any other backward; the next frame is compared
    /// with this one in any case, so that a source that began anew is counted once.
    pub fn count(&mut self, sequence: u32) -> SequenceStep {
        self.frames += 1;
        let Some(last) = self.last.replace(sequence) else {
            return SequenceStep::First;
        };
        match sequence.wrapping_sub(last) {
            0 => {
                self.repeats += 1;
                SequenceStep::Repeat
            }
            1 => SequenceStep::Next,
            step @ 2..0x8000_0000 => {
                let lost = step - 1;
                self.gaps += 1;
                self.lost += u64::from(lost);
                SequenceStep::Gap(lost)
            }
            _ => {
                self.backward += 1;
                SequenceStep::Backward
            }
        }
    }

    /// Forgets the last number, not the counts: for a source that was opened anew.
    pub fn restart(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(numbers: &[u32]) -> (Vec<SequenceStep>, SequenceCounter) {
        let mut counter = SequenceCounter::default();
        (numbers.iter().map(|number| counter.count(*number)).collect(), counter)
    }

    #[test]
    fn gaps_are_counted_by_length() {
        let (steps, counter) = steps(&[7, 8, 11, 12, 14]);
        use SequenceStep::{First, Gap, Next};
        assert_eq!(steps, [First, Next, Gap(2), Next, Gap(1)]);
        assert_eq!((counter.frames, counter.gaps, counter.lost), (5, 2, 3));
        assert_eq!((counter.repeats, counter.backward), (0, 0));
    }

    #[test]
    fn numbers_run_on_past_the_largest() {
        let (steps, counter) = steps(&[u32::MAX - 1, u32::MAX, 0, 2, u32::MAX]);
        use SequenceStep::{Backward, First, Gap, Next};
        assert_eq!(steps, [First, Next, Next, Gap(1), Backward]);
        assert_eq!((counter.lost, counter.backward), (1, 1));
    }

    #[test]
    fn repeats_and_backward_steps_are_no_gaps() {
        let (steps, counter) = steps(&[5, 5, 6, 0, 1]);
        use SequenceStep::{Backward, First, Next, Repeat};
        assert_eq!(steps, [First, Repeat, Next, Backward, Next]);
        assert_eq!((counter.repeats, counter.backward, counter.lost), (1, 1, 0));
    }

    #[test]
    fn half_the_range_is_where_forward_ends() {
        assert_eq!(steps(&[0, 0x7FFF_FFFF]).0[1], SequenceStep::Gap(0x7FFF_FFFE));
        assert_eq!(steps(&[0, 0x8000_0000]).0[1], SequenceStep::Backward);
    }

    #[test]
    fn a_restart_is_no_gap() {
        let (_, mut counter) = steps(&[100, 101]);
        counter.restart();
        assert_eq!(counter.count(0), SequenceStep::First);
        assert_eq!((counter.frames, counter.backward), (3, 0));
    }

    proptest! {
        #[test]
        fn frames_and_losses_span_the_numbers(first in any::<u32>(), gaps in prop::collection::vec(0_u32..1000, 0..50)) {
            let mut counter = SequenceCounter::default();
            counter.count(first);
            let mut number = first;
            for gap in &gaps {
                number = number.wrapping_add(gap + 1);
                counter.count(number);
            }
            let span = counter.frames - 1 + counter.lost;
            prop_assert_eq!(span as u32, number.wrapping_sub(first));
            prop_assert_eq!(counter.gaps as usize, gaps.iter().filter(|gap| **gap > 0).count());
        }
    }
}
