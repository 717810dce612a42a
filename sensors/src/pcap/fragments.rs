//! Puts the fragments of IPv4 datagrams together (RFC 791, section 3.2), in any order, over a fixed number of datagrams
//! at a time. Which parts of a datagram have come is kept as one bit per eight bytes, so that repeated and overlapping
//! fragments need no case of their own: the later bytes stand.

use super::network::{Fragment, IpPacket};
use std::net::IpAddr;

/// Datagrams that may wait at a time, each of at most 64 KiB: together 1 MiB.
const SLOTS: usize = 16;
/// Fragments of one datagram follow each other at once. Identifications come again after 65,536 datagrams, which a
/// lidar sends in a minute, so that a loss must be forgotten well before.
const TIMEOUT_NS: i64 = 2_000_000_000;
/// The most that fits an IPv4 packet without options.
const MAX_DATAGRAM_BYTES: usize = 65_535 - 20;
const UNIT_BYTES: usize = 8;
const UNITS_PER_WORD: usize = 64;
const WORDS: usize = MAX_DATAGRAM_BYTES.div_ceil(UNIT_BYTES * UNITS_PER_WORD);

/// What came of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Its datagram is not whole, or was given up.
    Waiting,
    /// Its datagram is whole: [`Fragments::bytes`] gives it until the next fragment.
    Whole(usize),
}

/// Datagrams that wait for fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    slots: Vec<Slot>,
    given_up: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    identification: u16,
}

#[derive(Debug)]
struct Slot {
    /// The datagram that waits here, `None` if the slot is free.
    key: Option<Key>,
    began_ns: i64,
    /// Of the whole datagram, known with its last fragment.
    length: Option<usize>,
    bytes: Vec<u8>,
    /// One bit for every eight bytes that have come.
    come: [u64; WORDS],
}

impl Fragments {
    /// Takes in a fragment.
    pub(super) fn join(&mut self, packet: &IpPacket, fragment: Fragment, stamp_ns: i64) -> Joined {
        self.forget_old(stamp_ns);
        let IpPacket { source, destination, .. } = *packet;
        let key = Key { source, destination, identification: fragment.identification };
        let number = self.slot(key, stamp_ns);
        let Some(slot) = self.slots.get_mut(number) else { return Joined::Waiting };
        match slot.put(fragment, packet.bytes) {
            Put::Waiting => Joined::Waiting,
            Put::Whole => {
                slot.key = None;
                Joined::Whole(number)
            }
            Put::Contradiction => {
                slot.key = None;
                self.give_up_joined();
                Joined::Waiting
            }
        }
    }

    /// The bytes of the datagram that [`Self::join`] has found whole.
    pub(super) fn bytes(&self, slot: usize) -> &[u8] {
        self.slots.get(slot).map_or(&[], |slot| &slot.bytes)
    }

    /// Datagrams that were begun and never ended.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Counts a datagram that is of no use after all.
    pub(super) fn give_up_joined(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    /// Gives up whatever still waits.
    pub(super) fn give_all_up(&mut self) {
        self.give_up(|_| true);
    }

    fn give_up(&mut self, which: impl Fn(&Slot) -> bool) {
        for slot in &mut self.slots {
            if slot.key.is_some() && which(slot) {
                slot.key = None;
                self.given_up = self.given_up.saturating_add(1);
            }
        }
    }

    fn forget_old(&mut self, now_ns: i64) {
        self.give_up(|slot| now_ns.saturating_sub(slot.began_ns) > TIMEOUT_NS);
    }

    /// The number of the slot in which a datagram waits: its own, else a free one, else that of the oldest.
    fn slot(&mut self, key: Key, stamp_ns: i64) -> usize {
        if let Some(own) = self.slots.iter().position(|slot| slot.key == Some(key)) {
            return own;
        }
        let number = self.free_slot();
        if let Some(slot) = self.slots.get_mut(number) {
            slot.begin(key, stamp_ns);
        }
        number
    }

    fn free_slot(&mut self) -> usize {
        if let Some(free) = self.slots.iter().position(|slot| slot.key.is_none()) {
            return free;
        }
        if self.slots.len() < SLOTS {
            self.slots.push(Slot { key: None, began_ns: 0, length: None, bytes: Vec::new(), come: [0; WORDS] });
            return self.slots.len() - 1;
        }
        self.given_up = self.given_up.saturating_add(1);
        let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.began_ns);
        oldest.map_or(0, |(number, _)| number)
    }
}

enum Put {
    Waiting,
    Whole,
    Contradiction,
}

impl Slot {
    fn begin(&mut self, key: Key, stamp_ns: i64) {
        self.key = Some(key);
        self.began_ns = stamp_ns;
        self.length = None;
        self.bytes.clear();
        self.come = [0; WORDS];
    }

    fn put(&mut self, fragment: Fragment, bytes: &[u8]) -> Put {
        let end = fragment.offset.saturating_add(bytes.len());
        let length = if fragment.last { Some(end) } else { self.length };
        let odd = !fragment.last && !bytes.len().is_multiple_of(UNIT_BYTES);
        let other_end = self.length.is_some() && self.length != length;
        let beyond = length.is_some_and(|length| end.max(self.bytes.len()) > length);
        if end > MAX_DATAGRAM_BYTES || odd || other_end || beyond {
            return Put::Contradiction;
        }
        self.length = length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(fragment.offset..end) {
            place.copy_from_slice(bytes);
        }
        self.mark(fragment.offset / UNIT_BYTES, end.div_ceil(UNIT_BYTES));
        match self.length {
            Some(length) if self.units_come() == length.div_ceil(UNIT_BYTES) => Put::Whole,
            _ => Put::Waiting,
        }
    }

    fn mark(&mut self, first: usize, end: usize) {
        for unit in first..end {
            if let Some(word) = self.come.get_mut(unit / UNITS_PER_WORD) {
                *word |= 1 << (unit % UNITS_PER_WORD);
            }
        }
    }

    fn units_come(&self) -> usize {
        self.come.iter().map(|word| word.count_ones() as usize).sum()
    }
}
