//! Sequence numbers of one channel: which are missing, which came twice, which came late.
//!
//! Numbers are the sensor's own, count up by one and wrap. A late message fills the gap that it left; a number that lies
//! behind and fills none is a repeat, or the first of a sensor that started anew, which shows when the next one follows it.

/// Numbers from first to last, both included; may wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Range {
    /// How many numbers.
    pub fn len(self) -> u64 {
        u64::from(self.last.wrapping_sub(self.first)) + 1
    }

    /// Never: a range holds one number at least.
    pub fn is_empty(self) -> bool {
        false
    }

    fn holds(self, number: u32) -> bool {
        number.wrapping_sub(self.first) <= self.last.wrapping_sub(self.first)
    }

    /// The range as one or two that do not wrap.
    fn spans(self) -> impl Iterator<Item = (u64, u64)> {
        let (first, last) = (u64::from(self.first), u64::from(self.last));
        let wraps = first > last;
        let head = if wraps { (first, u64::from(u32::MAX)) } else { (first, last) };
        std::iter::once(head).chain(wraps.then_some((0, last)))
    }
}

/// What the numbers of a channel tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// Messages.
    pub count: u64,
    /// Number of the first message.
    pub first: Option<u32>,
    /// The newest number.
    pub last: Option<u32>,
    /// Numbers that are missing, in the order in which that was noticed.
    pub gaps: Vec<Range>,
    /// Messages with a number that was there before.
    pub repeats: u64,
    /// Messages that came late and filled a gap.
    pub late: u64,
    /// Times that the sensor began to count anew.
    pub restarts: u64,
    /// The number of a message that lies behind and fills no gap.
    behind: Option<u32>,
}

impl Sequences {
    /// Gaps that a late message is looked for in.
    const LOOK_BACK: usize = 1024;

    /// Takes the next message's number.
    pub fn observe(&mut self, number: u32) {
        self.count += 1;
        self.first.get_or_insert(number);
        let Some(last) = self.last else {
            self.last = Some(number);
            return;
        };
        let behind = self.behind.take();
        if behind.is_some_and(|behind| number == behind.wrapping_add(1)) && number != last.wrapping_add(1) {
            // what looked like a repeat was the first of a new count
            self.repeats -= 1;
            self.restarts += 1;
            self.last = Some(number);
            return;
        }
        match number.wrapping_sub(last) as i32 {
            1 => self.last = Some(number),
            2.. => {
                self.gaps.push(Range { first: last.wrapping_add(1), last: number.wrapping_sub(1) });
                self.last = Some(number);
            }
            0 => self.repeats += 1,
            _ if self.fill(number) => self.late += 1,
            _ => {
                self.repeats += 1;
                self.behind = Some(number);
            }
        }
    }

    /// Takes a number out of the gap that it is missing in.
    fn fill(&mut self, number: u32) -> bool {
        let oldest = self.gaps.len().saturating_sub(Self::LOOK_BACK);
        let Some(at) = self.gaps.iter().rposition(|gap| gap.holds(number)).filter(|at| *at >= oldest) else {
            return false;
        };
        let gap = self.gaps.remove(at);
        if number != gap.last {
            self.gaps.insert(at, Range { first: number.wrapping_add(1), last: gap.last });
        }
        if number != gap.first {
            self.gaps.insert(at, Range { first: gap.first, last: number.wrapping_sub(1) });
        }
        true
    }

    /// Messages that are missing between the first and the last.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.len()).sum()
    }

    /// Whether the channel has no numbers, as those of recorders that write 0 throughout.
    pub fn is_unnumbered(&self) -> bool {
        self.count > 1 && self.first == Some(0) && self.last == Some(0)
    }

    /// The parts of the gaps that none of `declared` explains.
    pub fn unexplained(&self, declared: &[Range]) -> Vec<Range> {
        let known = merged(declared);
        let mut left = Vec::new();
        for (mut first, last) in self.gaps.iter().flat_map(|gap| gap.spans()) {
            let from = known.partition_point(|(_, to)| *to < first);
            let overlapping = known.iter().skip(from).take_while(|(from, _)| *from <= last);
            for (from, to) in overlapping {
                if *from > first {
                    left.push((first, from - 1));
                }
                first = to + 1;
            }
            if first <= last {
                left.push((first, last));
            }
        }
        // both ends came from u32
        left.into_iter().map(|(first, last)| Range { first: first as u32, last: last as u32 }).collect()
    }
}

/// Ranges as spans in order that do not touch each other.
fn merged(ranges: &[Range]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = ranges.iter().flat_map(|range| range.spans()).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match merged.last_mut() {
            Some((_, end)) if from <= *end + 1 => *end = to.max(*end),
            _ => merged.push((from, to)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(numbers: &[u32]) -> Sequences {
        let mut sequences = Sequences::default();
        numbers.iter().for_each(|number| sequences.observe(*number));
        sequences
    }

    fn range(first: u32, last: u32) -> Range {
        Range { first, last }
    }

    #[test]
    fn gaps_repeats_and_wraps_are_told_apart() {
        let found = of(&[3, 4, 4, 7, 8]);
        assert_eq!((found.gaps.clone(), found.repeats, found.missing()), (vec![range(5, 6)], 1, 2));
        let wrapped = of(&[u32::MAX - 1, u32::MAX, 0, 1]);
        assert_eq!((wrapped.missing(), wrapped.last), (0, Some(1)));
        let gap = of(&[u32::MAX - 1, 2]);
        assert_eq!((gap.gaps.clone(), gap.missing()), (vec![range(u32::MAX, 1)], 3));
        assert_eq!(gap.unexplained(&[range(u32::MAX, 0)]), [range(1, 1)]);
        assert!(of(&[0, 0, 0]).is_unnumbered() && !of(&[0]).is_unnumbered());
    }

    #[test]
    fn late_messages_fill_their_gaps() {
        let found = of(&[0, 1, 5, 3, 6, 2, 4]);
        assert_eq!((found.missing(), found.late, found.repeats), (0, 3, 0));
        assert_eq!(of(&[0, 4, 2]).gaps, [range(1, 1), range(3, 3)]);
    }

    #[test]
    fn a_sensor_that_starts_anew_leaves_no_gap() {
        let found = of(&[100, 101, 0, 1, 2, 4]);
        assert_eq!((found.restarts, found.repeats, found.gaps), (1, 0, vec![range(3, 3)]));
        let repeated = of(&[5, 6, 7, 5, 8, 9]);
        assert_eq!((repeated.restarts, repeated.repeats, repeated.missing()), (0, 1, 0));
    }

    #[test]
    fn what_is_declared_explains_gaps_and_nothing_else() {
        let found = of(&[0, 10, 20]);
        assert_eq!(found.unexplained(&[range(1, 9), range(11, 19)]), []);
        assert_eq!(found.unexplained(&[range(0, 4), range(6, 12)]), [range(5, 5), range(13, 19)]);
        assert_eq!(found.unexplained(&[range(2, 30), range(3, 4)]), [range(1, 1)]);
        assert_eq!(found.unexplained(&[]), [range(1, 9), range(11, 19)]);
    }

    fn nth(first: u32, i: u32) -> u32 {
        first.wrapping_add(i)
    }

    proptest! {
        #[test]
        fn missing_is_what_was_left_out(start in any::<u32>(), kept in proptest::collection::vec(any::<bool>(), 2..200)) {
            let numbers: Vec<u32> = (0u32..).zip(&kept).filter(|(_, kept)| **kept).map(|(i, _)| start.wrapping_add(i)).collect();
            let found = of(&numbers);
            if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
                let spanned = u64::from(last.wrapping_sub(*first)) + 1;
                prop_assert_eq!(found.missing(), spanned - numbers.len() as u64);
                prop_assert!(found.unexplained(&found.gaps).is_empty());
                // declared one by one, all but every third are explained
                let each = (0..spanned as u32).map(|i| nth(*first, i)).filter(|number| number % 3 != 0);
                let declared: Vec<Range> = each.map(|number| range(number, number)).collect();
                let left = found.unexplained(&declared);
                prop_assert!(left.iter().all(|range| range.len() == 1 && range.first.is_multiple_of(3)));
                let thirds = |gap: &Range| (0..gap.len() as u32).filter(|i| nth(gap.first, *i).is_multiple_of(3)).count();
                prop_assert_eq!(left.len(), found.gaps.iter().map(thirds).sum::<usize>());
            }
        }
    }
}
