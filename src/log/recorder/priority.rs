//! Back-pressure: what waits for the disk, how much of it there may be, and what goes first when that is too much.
//!
//! The hot path [`offer`](Queue::offer)s messages and never waits for the disk: it takes a lock under which nothing but queue
//! work is done. The recorder's thread [`take`](Queue::take)s them in the order in which they were offered. The bytes in flight,
//! those being written included, stay within a budget. When it is used up, messages of the lowest priority give way, the
//! newest of them first, so that what is lost is one stretch and not every second message. Every message that is left out
//! is noted as a [`RecorderDrop`], never silently.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foxglove::bytes::Bytes;

crate::record! {
    /// Messages of one channel that the recorder left out.
    pub struct RecorderDrop {
        /// The channel.
        pub topic: String,
        /// Sequence number of the first.
        pub first: u32,
        /// Sequence number of the last.
        pub last: u32,
        /// How many: all from first to last, unless the sensor's numbers have gaps of their own.
        pub count: u64,
        /// Why.
        pub reason: RecorderDropReason,
    }
}

crate::record_enum! {
    /// Why the recorder left messages out.
    pub enum RecorderDropReason {
        /// The budget was used up, and others were more important.
        #[default]
        Overload = 0 => "overload",
        /// The message alone is larger than the budget.
        TooLarge = 1 => "too large",
        /// The recording ended for lack of space while it waited.
        NoSpace = 2 => "no space",
        /// The recording ended because it could not be written.
        WriteFailed = 3 => "write failed",
    }
}

impl RecorderDropReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Overload, Self::TooLarge, Self::NoSpace, Self::WriteFailed];
}

/// How important a channel is: the lowest give way first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u8);

/// Number of a channel of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub(super) u16);

/// One message of a sensor.
#[derive(Clone, Debug)]
pub struct SensorMessage {
    /// Its channel.
    pub slot: Slot,
    /// The sensor's own number of it.
    pub sequence: u32,
    /// When it arrived.
    pub log_ns: i64,
    /// When it was measured, mapped to the common time line.
    pub publish_ns: i64,
    /// The message; whoever offers it keeps no copy.
    pub data: Bytes,
}

/// What a message costs beside its bytes, so that empty messages cannot fill the memory.
const OVERHEAD_BYTES: u64 = size_of::<SensorMessage>() as u64 + 32;
/// Larger messages would make chunks that [`reader`](crate::log::reader) refuses.
const LARGEST_BYTES: u64 = crate::log::records::MAX_RECORD_BYTES / 2;

fn cost(message: &SensorMessage) -> u64 {
    message.data.len() as u64 + OVERHEAD_BYTES
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It will be written, unless something more important pushes it out.
    Taken,
    /// It was left out, and that will be written.
    Dropped,
    /// The recording has ended; nothing is noted any more.
    Ended,
    /// The channel is of another recording; nothing is noted.
    NoChannel,
}

/// What there is to do for the thread that writes.
#[derive(Debug)]
pub enum Take {
    /// A message to write.
    Message(SensorMessage),
    /// Nothing came in time.
    Idle,
    /// Everything is written, and nothing more will come.
    Stopped,
}

/// A run of drops: `slot` in place of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropRun {
    /// The channel.
    pub slot: Slot,
    /// Sequence number of the first.
    pub first: u32,
    /// Sequence number of the last.
    pub last: u32,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: RecorderDropReason,
}

impl DropRun {
    /// A run of one.
    pub fn of(message: &SensorMessage, reason: RecorderDropReason) -> Self {
        DropRun { slot: message.slot, first: message.sequence, last: message.sequence, count: 1, reason }
    }

    /// Takes a neighbour in; false if it is none.
    fn join(&mut self, other: DropRun) -> bool {
        if (self.slot, self.reason) != (other.slot, other.reason) {
            return false;
        }
        if other.first == self.last.wrapping_add(1) {
            self.last = other.last;
        } else if other.last.wrapping_add(1) == self.first {
            self.first = other.first;
        } else {
            return false;
        }
        self.count += other.count;
        true
    }
}

/// Notes of drops, neighbours joined.
#[derive(Debug, Default)]
pub struct Drops(Vec<DropRun>);

impl Drops {
    /// Runs to look back at for a neighbour: channels drop in turns.
    const LOOK_BACK: usize = 64;

    /// Notes a run.
    pub fn note(&mut self, run: DropRun) {
        let joined = self.0.iter_mut().rev().take(Self::LOOK_BACK).any(|known| known.join(run));
        if !joined {
            self.0.push(run);
        }
    }

    /// All runs, which are then forgotten here.
    pub fn drain(&mut self) -> Vec<DropRun> {
        std::mem::take(&mut self.0)
    }
}

#[derive(Default)]
struct Class {
    waiting: VecDeque<(u64, SensorMessage)>,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more is taken in; what waits is still written.
    Stopping,
    Ended,
}

struct State {
    classes: BTreeMap<Priority, Class>,
    /// Of all classes, and of the message that is being written.
    bytes: u64,
    being_written: u64,
    next_ticket: u64,
    /// How often somebody came to take.
    turns: u64,
    drops: Drops,
    phase: Phase,
}

/// What waits to be written.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    budget_bytes: u64,
    priorities: Vec<Priority>,
}

impl Queue {
    /// A queue for channels of these priorities, by slot.
    pub fn new(priorities: Vec<Priority>, budget_bytes: u64) -> Self {
        let state = State {
            classes: BTreeMap::new(),
            bytes: 0,
            being_written: 0,
            next_ticket: 0,
            turns: 0,
            drops: Drops::default(),
            phase: Phase::Open,
        };
        Queue { state: Mutex::new(state), changed: Condvar::new(), budget_bytes, priorities }
    }

    /// Counts stay right if a thread panics under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a message; never waits for the disk.
    pub fn offer(&self, message: SensorMessage) -> Offer {
        let Some(priority) = self.priorities.get(usize::from(message.slot.0)).copied() else {
            return Offer::NoChannel;
        };
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Offer::Ended;
        }
        let bytes = cost(&message);
        if bytes > self.budget_bytes.min(LARGEST_BYTES) {
            state.drops.note(DropRun::of(&message, RecorderDropReason::TooLarge));
            return Offer::Dropped;
        }
        let room = self.budget_bytes.saturating_sub(state.bytes);
        if bytes > room && !state.make_room(bytes - room, priority) {
            state.drops.note(DropRun::of(&message, RecorderDropReason::Overload));
            return Offer::Dropped;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.bytes += bytes;
        let class = state.classes.entry(priority).or_default();
        class.bytes += bytes;
        class.waiting.push_back((ticket, message));
        drop(state);
        self.changed.notify_one();
        Offer::Taken
    }

    /// The message that was offered first of those that wait, or waits so long for one. The one taken before is then
    /// written, and its bytes are free.
    pub fn take(&self, patience: Duration) -> Take {
        let mut state = self.state();
        state.turns += 1;
        let written = std::mem::take(&mut state.being_written);
        state.bytes = state.bytes.saturating_sub(written);
        if state.phase == Phase::Open && state.is_empty() {
            let is_waiting = |state: &mut State| state.phase == Phase::Open && state.is_empty();
            let waited = self.changed.wait_timeout_while(state, patience, is_waiting);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.pop_first() {
            Some(message) => {
                state.being_written = cost(&message);
                Take::Message(message)
            }
            None if state.phase == Phase::Open => Take::Idle,
            None => Take::Stopped,
        }
    }

    /// The drops noted so far, which are then forgotten here.
    pub fn drain_drops(&self) -> Vec<DropRun> {
        self.state().drops.drain()
    }

    /// Takes no more in; what waits is still written.
    pub fn stop(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Stopping;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends for good: what waits is dropped for this reason, and noted.
    pub fn end(&self, reason: RecorderDropReason) {
        let mut state = self.state();
        state.phase = Phase::Ended;
        while let Some(message) = state.pop_first() {
            state.drops.note(DropRun::of(&message, reason));
        }
        state.bytes = 0;
    }

    /// How often somebody has come for what waits: one that the disk holds up does not come.
    pub fn turns(&self) -> u64 {
        self.state().turns
    }

    /// Bytes in flight, those being written included.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.classes.values().all(|class| class.waiting.is_empty())
    }

    /// Drops messages that are less important than `priority`, the least important first, until so many bytes are free.
    /// Drops none if that would not do.
    fn make_room(&mut self, bytes: u64, priority: Priority) -> bool {
        let less_important: u64 = self.classes.range(..priority).map(|(_, class)| class.bytes).sum();
        if less_important < bytes {
            return false;
        }
        let mut freed = 0;
        for class in self.classes.range_mut(..priority).map(|(_, class)| class) {
            while freed < bytes {
                let Some((_, message)) = class.waiting.pop_back() else { break };
                freed += cost(&message);
                class.bytes = class.bytes.saturating_sub(cost(&message));
                self.drops.note(DropRun::of(&message, RecorderDropReason::Overload));
            }
        }
        self.bytes = self.bytes.saturating_sub(freed);
        true
    }

    fn pop_first(&mut self) -> Option<SensorMessage> {
        let oldest = |class: &Class| class.waiting.front().map_or(u64::MAX, |(ticket, _)| *ticket);
        let class = self.classes.values_mut().min_by_key(|class| oldest(class))?;
        let (_, message) = class.waiting.pop_front()?;
        class.bytes = class.bytes.saturating_sub(cost(&message));
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(slot: u16, sequence: u32, bytes: usize) -> SensorMessage {
        SensorMessage { slot: Slot(slot), sequence, log_ns: 0, publish_ns: 0, data: vec![0; bytes].into() }
    }

    fn taken(queue: &Queue) -> Vec<(u16, u32)> {
        let mut all = Vec::new();
        while let Take::Message(message) = queue.take(Duration::ZERO) {
            all.push((message.slot.0, message.sequence));
        }
        all
    }

    /// Slot 0 matters less than slot 1; there is room for four messages of 1000 bytes.
    fn queue() -> Queue {
        Queue::new(vec![Priority(1), Priority(2)], 4 * (1000 + OVERHEAD_BYTES))
    }

    #[test]
    fn messages_leave_in_the_order_they_came_whatever_their_priority() {
        let queue = queue();
        for (slot, sequence) in [(0, 5), (1, 9), (0, 6), (1, 10)] {
            assert_eq!(queue.offer(message(slot, sequence, 1000)), Offer::Taken);
        }
        assert_eq!(taken(&queue), [(0, 5), (1, 9), (0, 6), (1, 10)]);
        assert!(queue.drain_drops().is_empty());
    }

    #[test]
    fn the_less_important_give_way_and_leave_one_stretch() {
        let queue = queue();
        (0..4).for_each(|sequence| assert_eq!(queue.offer(message(0, sequence, 1000)), Offer::Taken));
        (0..2).for_each(|sequence| assert_eq!(queue.offer(message(1, sequence, 1000)), Offer::Taken));
        assert_eq!(queue.offer(message(0, 4, 1000)), Offer::Dropped);
        assert_eq!(queue.offer(message(2, 0, 1000)), Offer::NoChannel);
        let run = DropRun { slot: Slot(0), first: 2, last: 4, count: 3, reason: RecorderDropReason::Overload };
        assert_eq!(queue.drain_drops(), [run]);
        assert_eq!(taken(&queue), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn equals_do_not_push_each_other_out_and_none_is_dropped_in_vain() {
        let queue = queue();
        queue.offer(message(0, 0, 1000));
        (0..3).for_each(|sequence| assert_eq!(queue.offer(message(1, sequence, 1000)), Offer::Taken));
        // dropping the only less important message would not make room enough
        assert_eq!(queue.offer(message(1, 3, 3000)), Offer::Dropped);
        assert_eq!(queue.offer(message(1, 4, 5000)), Offer::Dropped);
        let reasons: Vec<_> = queue.drain_drops().iter().map(|run| (run.slot.0, run.first, run.reason)).collect();
        assert_eq!(reasons, [(1, 3, RecorderDropReason::Overload), (1, 4, RecorderDropReason::TooLarge)]);
        assert_eq!(taken(&queue).len(), 4);
    }

    #[test]
    fn what_is_being_written_counts_until_the_next_is_taken() {
        let queue = queue();
        (0..4).for_each(|sequence| assert_eq!(queue.offer(message(0, sequence, 1000)), Offer::Taken));
        assert!(matches!(queue.take(Duration::ZERO), Take::Message(_)));
        assert_eq!(queue.offer(message(0, 4, 1000)), Offer::Dropped);
        assert!(matches!(queue.take(Duration::ZERO), Take::Message(_)));
        assert_eq!(queue.offer(message(0, 5, 1000)), Offer::Taken);
    }

    #[test]
    fn a_stopped_queue_is_written_out_and_an_ended_one_notes_what_waited() {
        let stopped = queue();
        stopped.offer(message(0, 0, 10));
        stopped.stop();
        assert_eq!(stopped.offer(message(0, 1, 10)), Offer::Ended);
        assert_eq!(taken(&stopped), [(0, 0)]);
        assert!(matches!(stopped.take(Duration::ZERO), Take::Stopped));
        let ended = queue();
        (7..9).for_each(|sequence| assert_eq!(ended.offer(message(0, sequence, 10)), Offer::Taken));
        ended.end(RecorderDropReason::NoSpace);
        assert!(matches!(ended.take(Duration::ZERO), Take::Stopped));
        assert_eq!(ended.drain_drops().len(), 1);
        assert_eq!(ended.offer(message(0, 9, 10)), Offer::Ended);
    }

    proptest! {
        #[test]
        fn every_message_is_taken_or_noted(steps in proptest::collection::vec((0u16..3, 0usize..2000, any::<bool>()), 1..300)) {
            let queue = Queue::new(vec![Priority(0), Priority(5), Priority(5)], 6000);
            let (mut next, mut seen) = ([0u32; 3], vec![Vec::new(); 3]);
            let mut drops = Vec::new();
            for (slot, bytes, takes) in steps {
                let index = usize::from(slot);
                queue.offer(message(slot, next[index], bytes));
                next[index] += 1;
                if takes && let Take::Message(message) = queue.take(Duration::ZERO) {
                    seen[usize::from(message.slot.0)].push(message.sequence);
                }
                if bytes < 200 {
                    drops.extend(queue.drain_drops());
                }
                prop_assert!(queue.state().bytes <= 6000);
            }
            for (slot, sequence) in taken(&queue) {
                seen[usize::from(slot)].push(sequence);
            }
            drops.extend(queue.drain_drops());
            for run in drops {
                prop_assert_eq!(u64::from(run.last - run.first) + 1, run.count);
                prop_assert!(run.slot.0 == 0 || run.reason == RecorderDropReason::Overload);
                seen[usize::from(run.slot.0)].extend(run.first..=run.last);
            }
            for (slot, mut sequences) in seen.into_iter().enumerate() {
                sequences.sort_unstable();
                prop_assert_eq!(sequences, (0..next[slot]).collect::<Vec<_>>());
            }
        }
    }
}
