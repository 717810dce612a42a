//! Waking threads that found nothing to do.
//!
//! A thread reads the epoch, looks for work, and sleeps only if the epoch has not moved since: no wake-up is lost, and
//! while nobody sleeps a notification is one atomic addition. Which thread wakes never decides an output.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Counts events and lets threads wait for the next.
#[derive(Default)]
pub struct Events {
    epoch: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Events {
    /// The present epoch; read it before looking for work.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Says that there may be work.
    pub fn notify(&self) {
        // Sequentially consistent with `wait`: either the sleeper sees the new epoch, or we see the sleeper.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }

    /// Sleeps until the epoch is no longer `seen`, or the time is over.
    pub fn wait(&self, seen: u32, at_most: Duration) {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        if self.epoch.load(Ordering::SeqCst) == seen {
            let _ = self.wake.wait_timeout(held, at_most).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}
