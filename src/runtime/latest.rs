//! The latest value, wait-free for both sides: how a planner on its own thread reads the newest world model.
//!
//! Three cells per reader: one being written, one being read, one in the middle. The writer swaps its cell into the
//! middle, the reader swaps the middle out when it is fresh. Neither ever waits, retries, tears or allocates; a reader
//! that is slow sees the newest value and misses those between.

#![allow(unsafe_code)] // one of the places named in ARCHITECTURE.md

#[cfg(not(loom))]
use super::sync::WithPointer;
use super::sync::{Arc, AtomicU8, Ordering, UnsafeCell};

const FRESH: u8 = 4;
const INDEX: u8 = 3;

struct Shared<T> {
    cells: [UnsafeCell<T>; 3],
    /// Index of the middle cell, and whether the writer put it there since the last read.
    middle: AtomicU8,
}

// SAFETY: the three indices (writer's, reader's, middle's) are a permutation of 0, 1, 2 at all times, so no cell has two
// users; a swap of `middle` with acquire and release hands a cell over.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: the cells are owned; moving the whole moves values that may move.
unsafe impl<T: Send> Send for Shared<T> {}

/// The side that publishes.
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    index: u8,
}

/// The side that reads the newest value.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: u8,
}

/// Makes a writer and its reader; `make` fills the three cells.
pub fn latest<T>(mut make: impl FnMut() -> T) -> (Writer<T>, Reader<T>) {
    let cells = [UnsafeCell::new(make()), UnsafeCell::new(make()), UnsafeCell::new(make())];
    let shared = Arc::new(Shared { cells, middle: AtomicU8::new(1) });
    (Writer { shared: Arc::clone(&shared), index: 0 }, Reader { shared, index: 2 })
}

impl<T> Writer<T> {
    /// Fills the writer's cell and publishes it. `fill` finds an old value there and must overwrite all of it.
    pub fn publish(&mut self, fill: impl FnOnce(&mut T)) {
        // SAFETY: the cell at `index` is the writer's alone until the swap.
        self.shared.cells[self.index as usize].with_mut(|cell| fill(unsafe { &mut *cell }));
        // Release pairs with the reader's acquire: it sees the value. Acquire pairs with the reader's release: it has
        // done with the cell we get.
        self.index = self.shared.middle.swap(self.index | FRESH, Ordering::AcqRel) & INDEX;
    }
}

impl<T> Reader<T> {
    /// Calls `look` with the newest value, and whether it is new since the last call.
    pub fn read<R>(&mut self, look: impl FnOnce(&T, bool) -> R) -> R {
        // Relaxed: only a hint; the swap below orders.
        let fresh = self.shared.middle.load(Ordering::Relaxed) & FRESH != 0;
        if fresh {
            // Acquire and release pair with the writer's, as above.
            self.index = self.shared.middle.swap(self.index, Ordering::AcqRel) & INDEX;
        }
        // SAFETY: the cell at `index` is the reader's alone until its next swap.
        self.shared.cells[self.index as usize].with(|cell| look(unsafe { &*cell }, fresh))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reads_the_newest_and_says_whether_it_is_new() {
        let (mut writer, mut reader) = latest(|| 0);
        assert_eq!(reader.read(|value, fresh| (*value, fresh)), (0, false));
        writer.publish(|value| *value = 1);
        writer.publish(|value| *value = 2);
        assert_eq!(reader.read(|value, fresh| (*value, fresh)), (2, true));
        assert_eq!(reader.read(|value, fresh| (*value, fresh)), (2, false));
    }

    #[test]
    fn a_value_is_never_torn_nor_older_than_the_last() {
        let rounds = if cfg!(miri) { 50u64 } else { 100_000 };
        let (mut writer, mut reader) = latest(|| [0u64; 16]);
        std::thread::scope(|scope| {
            scope.spawn(move || (1..=rounds).for_each(|round| writer.publish(|value| *value = [round; 16])));
            let mut last = 0;
            while last < rounds {
                last = reader.read(|value, _| {
                    assert!(value.iter().all(|word| *word == value[0]));
                    assert!(value[0] >= last);
                    value[0]
                });
                std::thread::yield_now();
            }
        });
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;

    #[test]
    fn a_value_is_never_torn_nor_older() {
        loom::model(|| {
            let (mut writer, mut reader) = latest(|| (0u32, 0u32));
            let thread = loom::thread::spawn(move || {
                for round in 1..=2 {
                    writer.publish(|value| *value = (round, round));
                }
            });
            let mut last = 0;
            for _ in 0..2 {
                reader.read(|value, _| {
                    assert_eq!(value.0, value.1);
                    assert!(value.0 >= last);
                    last = value.0;
                });
            }
            thread.join().unwrap();
            reader.read(|value, _| assert_eq!(*value, (2, 2)));
        });
    }
}
