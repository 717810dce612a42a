//! The atomics, cells and locks that the lock-free types are built from: std's, or loom's when they are model-checked.

#[cfg(not(loom))]
pub(crate) use std::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

/// loom's cell hands out pointers through closures, so that it can watch them; this gives std's the same face.
#[cfg(not(loom))]
pub(crate) trait WithPointer<T> {
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R;
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R;
}

#[cfg(not(loom))]
impl<T> WithPointer<T> for UnsafeCell<T> {
    #[inline]
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.get())
    }
    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.get())
    }
}

/// Keeps what two threads write on separate cache lines (two lines: x86-64 prefetches in pairs).
#[repr(align(128))]
pub(crate) struct Padded<T>(pub T);
