//! Pools of slots: all memory that a tick needs, made once at the start and lent out as leases.
//!
//! A [`Lease`] is the only way to a slot's content, and there is at most one per slot, so stages need no locks. Queues
//! carry leases: a pool and an index, never pixels. A dropped lease returns its slot. An empty pool is a value
//! ([`Pool::acquire`] gives `None`), which is how admission runs out of credit.

#![allow(unsafe_code)] // one of the places named in ARCHITECTURE.md

use super::sync::{Arc, UnsafeCell};

use std::marker::PhantomData;

#[cfg(not(loom))]
use crossbeam_queue::ArrayQueue;
#[cfg(loom)]
use model::ArrayQueue;

struct Shared<T> {
    #[cfg_attr(loom, allow(dead_code))] // only the tests look into a slot under loom
    slots: Box<[UnsafeCell<T>]>,
    free: ArrayQueue<u32>,
}

// SAFETY: a slot's value is reached only through its one lease (an index is either in `free` or in exactly one lease),
// and `free` passes indices between threads with release and acquire.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: the slots are owned; moving the whole moves values that may move.
unsafe impl<T: Send> Send for Shared<T> {}

/// A fixed set of slots.
pub struct Pool<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared) }
    }
}

/// The right to one slot.
pub struct Lease<T> {
    shared: Arc<Shared<T>>,
    index: u32,
    /// A lease is shared between threads only if its content may be.
    content: PhantomData<T>,
}

impl<T> Pool<T> {
    /// Makes a pool of `slots` slots, at least one, each filled by `make`.
    pub fn new(slots: usize, mut make: impl FnMut() -> T) -> Self {
        let slots = slots.clamp(1, u32::MAX as usize);
        let free = ArrayQueue::new(slots);
        for index in 0..slots as u32 {
            // the queue holds as many as there are slots, so this cannot be full
            let _ = free.push(index);
        }
        let slots = (0..slots).map(|_| UnsafeCell::new(make())).collect();
        Pool { shared: Arc::new(Shared { slots, free }) }
    }

    /// Takes a free slot; `None` when all are lent.
    pub fn acquire(&self) -> Option<Lease<T>> {
        let index = self.shared.free.pop()?;
        Some(Lease { shared: Arc::clone(&self.shared), index, content: PhantomData })
    }

    /// How many slots are free now.
    pub fn free(&self) -> usize {
        self.shared.free.len()
    }
}

impl<T> Lease<T> {
    /// Reads the slot.
    #[cfg(not(loom))]
    pub fn get(&self) -> &T {
        // SAFETY: this lease is the only one for its slot; the reference cannot outlive it. The index came from the pool.
        unsafe { &*self.shared.slots[self.index as usize].get() }
    }

    /// Changes the slot.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: as in `get`, and `&mut self` keeps a second reference from existing.
        unsafe { &mut *self.shared.slots[self.index as usize].get() }
    }

    #[cfg(all(test, loom))]
    fn change(&mut self, f: impl FnOnce(&mut T)) {
        // SAFETY: as in `get_mut`.
        self.shared.slots[self.index as usize].with_mut(|value| f(unsafe { &mut *value }));
    }
}

#[cfg(not(loom))]
impl<T> std::ops::Deref for Lease<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.get()
    }
}

#[cfg(not(loom))]
impl<T> std::ops::DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.get_mut()
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        // the queue holds as many as there are slots, so this cannot be full
        let _ = self.shared.free.push(self.index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_lent_once_at_a_time() {
        let pool = Pool::new(2, || 0);
        let mut one = pool.acquire().unwrap();
        let two = pool.acquire().unwrap();
        assert!(pool.acquire().is_none());
        *one = 5;
        assert_eq!(*two, 0);
        drop(one);
        assert_eq!(pool.free(), 1);
        assert_eq!(*pool.acquire().unwrap(), 5);
        drop(two);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn threads_never_share_a_slot() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let pool = Pool::new(3, || 0u64);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for _ in 0..rounds {
                        if let Some(mut lease) = pool.acquire() {
                            let before = *lease;
                            *lease = before + 1;
                            assert_eq!(*lease, before + 1);
                        }
                    }
                });
            }
        });
        assert_eq!(pool.free(), 3);
    }
}

#[cfg(loom)]
mod model {
    use std::collections::VecDeque;

    /// Stands in for crossbeam's queue, which loom cannot watch: same face, and it orders threads no more strongly
    /// than push and pop must.
    pub struct ArrayQueue<T>(loom::sync::Mutex<VecDeque<T>>);

    impl<T> ArrayQueue<T> {
        pub fn new(_: usize) -> Self {
            ArrayQueue(loom::sync::Mutex::new(VecDeque::new()))
        }
        pub fn push(&self, item: T) -> Result<(), T> {
            self.0.lock().unwrap().push_back(item);
            Ok(())
        }
        pub fn pop(&self) -> Option<T> {
            self.0.lock().unwrap().pop_front()
        }
        #[allow(dead_code)] // only some models ask
        pub fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    #[cfg(test)]
    #[test]
    fn two_threads_never_hold_one_slot() {
        loom::model(|| {
            let pool = super::Pool::new(1, || 0u32);
            let other = pool.clone();
            let thread = loom::thread::spawn(move || {
                if let Some(mut lease) = other.acquire() {
                    lease.change(|value| *value += 1);
                }
            });
            if let Some(mut lease) = pool.acquire() {
                lease.change(|value| *value += 1);
            }
            thread.join().unwrap();
            assert_eq!(pool.free(), 1);
        });
    }
}
