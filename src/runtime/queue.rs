//! A bounded, lock-free queue from one thread to one thread: the edges of the graph.
//!
//! Full and empty are values, never waits. Items leave in the order they came; what is still inside when both ends are
//! gone is dropped. Capacity is rounded up to a power of two. Each side keeps a copy of the other's position and looks
//! at the shared one only when its copy says full or empty, so that a hop seldom moves a cache line.

#![allow(unsafe_code)] // one of the places named in ARCHITECTURE.md

use std::mem::MaybeUninit;

#[cfg(not(loom))]
use super::sync::WithPointer;
use super::sync::{Arc, AtomicUsize, Ordering, Padded, UnsafeCell};

struct Shared<T> {
    /// Positions count up without end and wrap; `position & mask` is the cell.
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
}

// SAFETY: a cell is touched by the producer only while `head + capacity > position >= tail`, by the consumer only while
// `tail > position >= head`; the two ranges never meet, and positions pass between threads with release and acquire.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: the cells are owned; moving the whole moves items that may move.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: nobody else is left, and cells from head to tail hold items.
            self.cells[head & self.mask].with_mut(|cell| unsafe { (*cell).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that puts items in.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The end that takes items out.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// Makes a queue that holds at least `capacity` items.
pub fn queue<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let cells = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared {
        cells,
        mask: capacity - 1,
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
    });
    let producer = Producer { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

impl<T> Producer<T> {
    /// Puts an item in, or gives it back when the queue is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head_seen) > self.shared.mask {
            // Acquire pairs with the consumer's release of `head`: the cells before it are ours again.
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) > self.shared.mask {
                return Err(item);
            }
        }
        // SAFETY: the cell at `tail` is free (checked above) and only the producer writes free cells. The mask keeps
        // the index inside.
        unsafe {
            self.shared.cells.get_unchecked(self.tail & self.shared.mask).with_mut(|cell| (*cell).write(item));
        }
        self.tail = self.tail.wrapping_add(1);
        // Release pairs with the consumer's acquire of `tail`: it sees the item.
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the cell at `head` holds an item (checked by `is_empty`) and only the consumer reads it. The mask
        // keeps the index inside.
        let item = unsafe {
            self.shared.cells.get_unchecked(self.head & self.shared.mask).with(|cell| (*cell).assume_init_read())
        };
        self.head = self.head.wrapping_add(1);
        // Release pairs with the producer's acquire of `head`: the cell is free only after the read above.
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Whether nothing can be taken now.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        if self.head != self.tail_seen {
            return false;
        }
        // Acquire pairs with the producer's release of `tail`.
        self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        self.head == self.tail_seen
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn full_and_empty_are_values() {
        let (mut producer, mut consumer) = queue(2);
        assert_eq!(consumer.pop(), None);
        assert_eq!(producer.push(1), Ok(()));
        assert_eq!(producer.push(2), Ok(()));
        assert_eq!(producer.push(3), Err(3));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(3), Ok(()));
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(2), Some(3), None));
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let item = std::sync::Arc::new(());
        let (mut producer, mut consumer) = queue(4);
        for _ in 0..3 {
            producer.push(item.clone()).unwrap();
        }
        drop(consumer.pop());
        drop((producer, consumer));
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    #[test]
    fn every_item_arrives_once_and_in_order() {
        let count = if cfg!(miri) { 200u64 } else { 200_000 };
        let (mut producer, mut consumer) = queue(8);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..count {
                    let mut item = Box::new(i);
                    while let Err(back) = producer.push(item) {
                        item = back;
                        std::thread::yield_now();
                    }
                }
            });
            for expected in 0..count {
                let item = loop {
                    match consumer.pop() {
                        Some(item) => break item,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(*item, expected);
            }
        });
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;

    #[test]
    fn items_cross_in_order() {
        loom::model(|| {
            let (mut producer, mut consumer) = queue(2);
            let thread = loom::thread::spawn(move || {
                for i in 0..3 {
                    let mut item = Box::new(i);
                    while let Err(back) = producer.push(item) {
                        item = back;
                        loom::thread::yield_now();
                    }
                }
            });
            for expected in 0..3 {
                loop {
                    if let Some(item) = consumer.pop() {
                        assert_eq!(*item, expected);
                        break;
                    }
                    loom::thread::yield_now();
                }
            }
            thread.join().unwrap();
        });
    }

    #[test]
    fn dropped_ends_leave_nothing() {
        loom::model(|| {
            let item = Arc::new(());
            let (mut producer, mut consumer) = queue(2);
            let (one, two) = (item.clone(), item.clone());
            let thread = loom::thread::spawn(move || {
                let _ = producer.push(one);
                let _ = producer.push(two);
            });
            drop(consumer.pop());
            drop(consumer);
            thread.join().unwrap();
            assert_eq!(Arc::strong_count(&item), 1);
        });
    }
}
