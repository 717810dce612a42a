//! A value that whichever thread comes first may work on: how workers share the nodes of a graph.
//!
//! Like a mutex that is only ever tried: a claim is granted or refused at once, and giving it back is one plain store.

#![allow(unsafe_code)] // one of the places named in ARCHITECTURE.md

use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
use super::sync::WithPointer;
use super::sync::{AtomicBool, Ordering, UnsafeCell};

/// A value and whether somebody works on it.
pub struct Claim<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `taken` lets one guard exist at a time, and passes the value on with release and acquire.
unsafe impl<T: Send> Sync for Claim<T> {}

/// The granted right to the value.
pub struct Claimed<'a, T> {
    claim: &'a Claim<T>,
    value: *mut T,
}

impl<T> Claim<T> {
    /// A value that nobody works on.
    pub fn new(value: T) -> Self {
        Claim { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Claims the value unless somebody has it.
    #[inline]
    pub fn claim(&self) -> Option<Claimed<'_, T>> {
        // The plain load keeps refused claims from moving the cache line. Acquire pairs with the guard's release.
        if self.taken.load(Ordering::Relaxed) || self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Claimed { claim: self, value: self.value.with_mut(|value| value) })
    }
}

impl<T> Deref for Claimed<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one, and the claim outlives it.
        unsafe { &*self.value }
    }
}

impl<T> DerefMut for Claimed<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` keeps a second reference from existing.
        unsafe { &mut *self.value }
    }
}

impl<T> Drop for Claimed<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the next claim's acquire.
        self.claim.taken.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let claim = Claim::new(1);
        let mut guard = claim.claim().unwrap();
        assert!(claim.claim().is_none());
        *guard = 2;
        drop(guard);
        assert_eq!(*claim.claim().unwrap(), 2);
    }

    #[test]
    fn no_increment_is_lost() {
        let rounds = if cfg!(miri) { 20 } else { 50_000 };
        let claim = Claim::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut done = 0;
                    while done < rounds {
                        match claim.claim() {
                            Some(mut value) => {
                                *value += 1;
                                done += 1;
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
        });
        assert_eq!(*claim.claim().unwrap(), 2 * rounds);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::runtime::sync::Arc;

    #[test]
    fn one_at_a_time() {
        loom::model(|| {
            let claim = Arc::new(Claim::new((0, 0)));
            let other = Arc::clone(&claim);
            let work = |claim: &Claim<(i32, i32)>| {
                if let Some(mut pair) = claim.claim() {
                    pair.0 += 1;
                    pair.1 += 1;
                    assert_eq!(pair.0, pair.1);
                }
            };
            let thread = loom::thread::spawn(move || work(&other));
            work(&claim);
            thread.join().unwrap();
        });
    }
}
