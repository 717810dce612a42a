//! An exporter library: opened, held against our version of the contract, and kept until the process ends.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::NonNull;

use super::abi::{self, Api, GetApi, Head};
use super::{ExporterError, abi::Handle};

/// Bytes of a library's words that are taken.
const WORDS: usize = 512;

/// The functions of a library. It is never closed: threads of an SDK may outlive every camera.
#[derive(Clone)]
pub(super) struct Library {
    /// What the library calls itself, and else its file.
    pub(super) name: String,
    open: unsafe extern "C" fn(*const c_char, *mut u32, *mut *mut Handle) -> i32,
    next_frame: unsafe extern "C" fn(*mut Handle, u64, *mut abi::Frame) -> i32,
    release: unsafe extern "C" fn(*mut Handle, u32),
    stop: unsafe extern "C" fn(*mut Handle),
    close: unsafe extern "C" fn(*mut Handle),
    last_error: unsafe extern "C" fn(*const Handle, *mut c_char, usize),
}

/// An exporter that is open, as the library knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) handle: NonNull<Handle>,
    pub(super) buffers: u32,
}

impl Library {
    pub(super) fn load(path: &Path) -> Result<Self, ExporterError> {
        let library = path.display().to_string();
        // SAFETY: opening a library runs its initialisers, which whoever names the library answers for.
        let opened = unsafe { libloading::Library::new(path) }
            .map_err(|error| ExporterError::NoLibrary { library: library.clone(), reason: loader_words(&error) })?;
        // SAFETY: the header gives the symbol's type.
        let symbol = unsafe { opened.get::<GetApi>(abi::SYMBOL.as_bytes()) };
        let Ok(get) = symbol.map(|symbol| *symbol) else { return Err(ExporterError::NoSymbol { library }) };
        std::mem::forget(opened);
        // SAFETY: the function has no conditions.
        let table = unsafe { get() };
        let no_function = |function| ExporterError::NoFunction { library: library.clone(), function };
        if table.is_null() || !table.is_aligned() {
            return Err(no_function("catseye_exporter_api"));
        }
        // SAFETY: every version's table begins with these numbers, and it is a constant of a library that stays.
        let head = unsafe { table.cast::<Head>().read() };
        if head != Head::OURS {
            let numbers = |head: Head| [head.abi_version, head.api_bytes, head.frame_bytes];
            return Err(ExporterError::Version { library, expected: numbers(Head::OURS), found: numbers(head) });
        }
        // SAFETY: the numbers say that the table is of our size and version.
        let Api { name, open, next_frame, release, stop, close, last_error, .. } = unsafe { table.read() };
        // SAFETY: the header says that it is null or a constant text.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        Ok(Library {
            name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| library.clone()),
            open: open.ok_or_else(|| no_function("open"))?,
            next_frame: next_frame.ok_or_else(|| no_function("next_frame"))?,
            release: release.ok_or_else(|| no_function("release"))?,
            stop: stop.ok_or_else(|| no_function("stop"))?,
            close: close.ok_or_else(|| no_function("close"))?,
            last_error: last_error.ok_or_else(|| no_function("last_error"))?,
        })
    }

    pub(super) fn open(&self, config: &str) -> Result<Opened, ExporterError> {
        let text = CString::new(config)
            .map_err(|_| ExporterError::Text { library: self.name.clone(), found: config.to_owned() })?;
        let (mut buffers, mut handle) = (0, std::ptr::null_mut());
        // SAFETY: the text ends with a zero byte, and both places can be written.
        let status = unsafe { (self.open)(text.as_ptr(), &raw mut buffers, &raw mut handle) };
        let handle = match (status, NonNull::new(handle)) {
            (abi::OK, Some(handle)) => handle,
            (abi::OK, None) => return Err(self.not_opened(config, "it gives no exporter".to_owned())),
            _ => return Err(self.not_opened(config, self.words(None))),
        };
        if !(1..=abi::MAX_BUFFERS).contains(&buffers) {
            // SAFETY: it was opened just now, and nothing of it is lent.
            unsafe {
                (self.stop)(handle.as_ptr());
                (self.close)(handle.as_ptr());
            }
            let exporter = self.name.clone();
            return Err(ExporterError::Buffers { exporter, expected: abi::MAX_BUFFERS, found: buffers });
        }
        Ok(Opened { handle, buffers })
    }

    fn not_opened(&self, config: &str, reason: String) -> ExporterError {
        ExporterError::Open { exporter: self.name.clone(), config: config.to_owned(), reason }
    }

    /// Why the last call failed, in the library's words; whatever bytes they are.
    pub(super) fn words(&self, handle: Option<NonNull<Handle>>) -> String {
        let mut text = [0_u8; WORDS];
        let handle = handle.map_or(std::ptr::null(), |handle| handle.as_ptr().cast_const());
        // SAFETY: the exporter is open or null, and so many bytes can be written.
        unsafe { (self.last_error)(handle, text.as_mut_ptr().cast(), WORDS) };
        let words = text.split(|byte| *byte == 0).next().unwrap_or_default();
        if words.is_empty() { "it does not say why".to_owned() } else { String::from_utf8_lossy(words).into_owned() }
    }

    /// # Safety
    /// The exporter is open, and no other call for it is under way.
    pub(super) unsafe fn next_frame(&self, opened: Opened, timeout_ns: u64, frame: &mut abi::Frame) -> i32 {
        *frame = abi::Frame::EMPTY;
        // SAFETY: as promised by the caller, and the frame can be written.
        unsafe { (self.next_frame)(opened.handle.as_ptr(), timeout_ns, frame) }
    }

    /// # Safety
    /// The exporter is open, no other call for it is under way, and nobody reads the buffer, which is lent.
    pub(super) unsafe fn release(&self, opened: Opened, buffer: u32) {
        // SAFETY: as promised by the caller.
        unsafe { (self.release)(opened.handle.as_ptr(), buffer) }
    }

    /// # Safety
    /// The exporter is open, and no other call for it is under way. It is called once.
    pub(super) unsafe fn stop(&self, opened: Opened) {
        // SAFETY: as promised by the caller.
        unsafe { (self.stop)(opened.handle.as_ptr()) }
    }

    /// # Safety
    /// The exporter was stopped, nothing of it is lent, and no call for it comes after.
    pub(super) unsafe fn close(&self, opened: Opened) {
        // SAFETY: as promised by the caller.
        unsafe { (self.close)(opened.handle.as_ptr()) }
    }
}

/// What the loader says, which lies behind what its crate says.
fn loader_words(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
