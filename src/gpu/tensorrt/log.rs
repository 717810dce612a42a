//! Where TensorRT's messages go: to a listener, and the errors among them into the next error.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};

use super::{abi, text_of};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// TensorRT failed inside.
    InternalError,
    /// What was asked for cannot be done.
    Error,
    /// It can, but not as it should.
    Warning,
    /// What it does.
    Info,
    /// And how.
    Verbose,
}

impl Severity {
    fn of(number: i32) -> Severity {
        match u32::try_from(number) {
            Ok(abi::CATSEYE_TRT_INTERNAL_ERROR) => Severity::InternalError,
            Ok(abi::CATSEYE_TRT_ERROR) => Severity::Error,
            Ok(abi::CATSEYE_TRT_WARNING) => Severity::Warning,
            Ok(abi::CATSEYE_TRT_INFO) => Severity::Info,
            _ => Severity::Verbose,
        }
    }
}

/// Hears every message, on whichever thread TensorRT works.
pub type Listener = Box<dyn Fn(Severity, &str) + Send + Sync>;

/// Most errors that are kept: the first ones tell the cause, and a broken device repeats itself.
const KEPT_ERRORS: usize = 8;

/// The sink of one library. TensorRT keeps its address.
pub(super) struct Log {
    listener: Option<Listener>,
    errors: Mutex<Vec<String>>,
}

impl Log {
    pub(super) fn new(listener: Option<Listener>) -> Log {
        Log { listener, errors: Mutex::default() }
    }

    /// What the shim is given with [`sink`].
    pub(super) fn user(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// The errors since the last time, in one line.
    pub(super) fn take_errors(&self) -> String {
        let errors = std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner));
        if errors.is_empty() { "it gave no reason".to_owned() } else { errors.join("; ") }
    }

    fn hear(&self, severity: Severity, message: &str) {
        if severity <= Severity::Error {
            let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
            if errors.len() < KEPT_ERRORS {
                errors.push(message.trim().to_owned());
            }
        }
        if let Some(listener) = &self.listener {
            listener(severity, message);
        }
    }
}

/// The callback of `shim.h`. A listener that panics must not unwind into C++.
///
/// # Safety
/// `user` is what [`Log::user`] gave and still lives; `message` is a C string.
pub(super) unsafe extern "C" fn sink(user: *mut c_void, severity: i32, message: *const c_char) {
    if user.is_null() || message.is_null() {
        return;
    }
    // SAFETY: promised by the caller.
    let (log, message) = unsafe { (&*user.cast::<Log>(), text_of(message)) };
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.hear(Severity::of(severity), &message)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_once_and_the_first_are_kept() {
        let heard = std::sync::Arc::new(Mutex::new(0));
        let counter = std::sync::Arc::clone(&heard);
        let log = Log::new(Some(Box::new(move |_, _| *counter.lock().unwrap() += 1)));
        for index in 0..20 {
            let message = std::ffi::CString::new(format!("error {index}\n")).unwrap();
            // SAFETY: the log and the message live.
            unsafe { sink(log.user(), 1, message.as_ptr()) };
        }
        // SAFETY: as above.
        unsafe { sink(log.user(), 3, c"fine".as_ptr()) };
        assert_eq!(*heard.lock().unwrap(), 21);
        assert!(log.take_errors().starts_with("error 0; error 1; "));
        assert_eq!(log.take_errors(), "it gave no reason");
    }
}
