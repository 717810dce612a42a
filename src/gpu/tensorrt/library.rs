//! TensorRT's shared libraries: found, checked against the headers of the build, and opened.

use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

use super::abi::{self, CatseyeTrtApi};
use super::error::{TensorRtError, answer};
use super::log::{Listener, Log, sink};
use crate::gpu::Context;

/// Names a folder with TensorRT's libraries. Without it they come from where the loader looks.
pub const LIBRARY_VARIABLE: &str = "CATSEYE_TENSORRT_LIB";

/// A version of TensorRT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Plans and interfaces differ between majors.
    pub major: u32,
    /// Interfaces grow between minors; plans differ.
    pub minor: u32,
    /// Plans may differ.
    pub patch: u32,
}

impl Version {
    fn of(major: i32, minor: i32, patch: i32) -> Version {
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        Version { major: number(major), minor: number(minor), patch: number(patch) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// TensorRT, opened until the process ends.
pub struct Library {
    pub(super) api: &'static CatseyeTrtApi,
    pub(super) raw: NonNull<abi::CatseyeTrtLibrary>,
    pub(super) log: &'static Log,
    pub(super) context: Arc<Context>,
    version: Version,
    path: String,
    /// Why the ONNX parser could not be opened, if it could not.
    pub(super) no_parser: Option<String>,
}

// SAFETY: the handle is not changed after it was opened, builders and runtimes may be made of it by any thread, and the log locks.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("version", &self.version).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Library {
    /// Opens the newest TensorRT there is among the majors of this build, by the newest headers that it is not older than. The open device stands for a driver that works:
    /// without one TensorRT may answer with garbage. To be called once: what was opened, and its listener, stay until the process
    /// ends, since TensorRT keeps pointers to both.
    pub fn find(context: &Arc<Context>, listener: Option<Listener>) -> Result<Arc<Library>, TensorRtError> {
        context.current()?;
        let log: &'static Log = Box::leak(Box::new(Log::new(listener)));
        let shims = compiled_in();
        let mut looked = Vec::new();
        let mut other_version = None;
        for newest in newest_of_majors(&shims) {
            let names = Names::of(newest.major);
            let opened = probe(newest, &names, log).and_then(|found| {
                let api = fitting(&shims, newest, found);
                open(api, &names, log).map(|opened| (api, opened))
            });
            match opened {
                Ok((api, Opened { raw, no_parser })) => {
                    let version = version_of(api, raw);
                    let (context, path) = (Arc::clone(context), names.nvinfer);
                    return Ok(Arc::new(Library { api, raw, log, context, version, path, no_parser }));
                }
                Err(TensorRtError::NoLibrary { looked: cause }) => looked.push(format!("{}: {cause}", names.nvinfer)),
                Err(error) => other_version = Some(error),
            }
        }
        Err(other_version.unwrap_or_else(|| TensorRtError::NoLibrary { looked: looked_text(&looked) }))
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What was opened: a path, or a name that the loader found.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The device it works on.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// A status of a call as a result; the log says why.
    pub(super) fn answer(&self, status: abi::CatseyeTrtStatus, what: &'static str) -> Result<(), TensorRtError> {
        answer(status, what, || self.log.take_errors())
    }
}

/// Calls a function of the table that gives a status. The shim fills every entry.
///
/// # Safety
/// As the function demands.
pub(super) unsafe fn status_of<F>(
    entry: Option<F>,
    with: impl FnOnce(F) -> abi::CatseyeTrtStatus,
) -> abi::CatseyeTrtStatus {
    entry.map_or(abi::CATSEYE_TRT_UNSUPPORTED, with)
}

/// Calls a function of the table that cannot fail. The shim fills every entry.
///
/// # Safety
/// As the function demands.
pub(super) unsafe fn call<F, R: Default>(entry: Option<F>, with: impl FnOnce(F) -> R) -> R {
    entry.map(with).unwrap_or_default()
}

/// The tables of the versions whose headers the build had, oldest first.
fn compiled_in() -> Vec<&'static CatseyeTrtApi> {
    // SAFETY: each gives the address of a constant.
    abi::SHIMS.iter().filter_map(|table| unsafe { table().as_ref() }).collect()
}

/// The newest table of each major, newest first.
fn newest_of_majors(shims: &[&'static CatseyeTrtApi]) -> Vec<&'static CatseyeTrtApi> {
    let mut newest: Vec<&CatseyeTrtApi> = shims.iter().rev().copied().collect();
    newest.dedup_by_key(|api| api.major);
    newest
}

/// The table that knows most of what this library has and nothing that it lacks; the oldest of the major where all are newer than the
/// library, which then refuses it by name.
fn fitting(shims: &[&'static CatseyeTrtApi], newest: &'static CatseyeTrtApi, found: Version) -> &'static CatseyeTrtApi {
    let of_major = shims.iter().copied().filter(|api| api.major == newest.major);
    let fits = |api: &&CatseyeTrtApi| u32::try_from(api.minor).is_ok_and(|minor| minor <= found.minor);
    of_major.clone().rfind(fits).or_else(|| of_major.clone().next()).unwrap_or(newest)
}

/// What the libraries of one major are called.
struct Names {
    nvinfer: String,
    parser: String,
    plugin: String,
}

impl Names {
    fn of(major: i32) -> Names {
        let folder = std::env::var_os(LIBRARY_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let name = |library: &str| {
            let file = format!("lib{library}.so.{major}");
            folder.as_ref().map_or_else(|| file.clone(), |folder| folder.join(&file).display().to_string())
        };
        Names { nvinfer: name("nvinfer"), parser: name("nvonnxparser"), plugin: name("nvinfer_plugin") }
    }
}

/// The version of what would be opened.
fn probe(api: &CatseyeTrtApi, names: &Names, log: &'static Log) -> Result<Version, TensorRtError> {
    let name = c_name(&names.nvinfer)?;
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: the name is a C string, the log lives for ever, and the places can be written.
    let status = unsafe {
        status_of(api.library_probe, |probe| {
            probe(name.as_ptr(), Some(sink), log.user(), &raw mut major, &raw mut minor, &raw mut patch)
        })
    };
    answer(status, "tell its version", || log.take_errors())?;
    Ok(Version::of(major, minor, patch))
}

/// A library that was opened, and why its parser was not.
struct Opened {
    raw: NonNull<abi::CatseyeTrtLibrary>,
    no_parser: Option<String>,
}

/// Opens all that is there: plugins and the parser may be missing, as where engines are only run.
fn open(api: &CatseyeTrtApi, names: &Names, log: &'static Log) -> Result<Opened, TensorRtError> {
    let mut missing = None;
    for (with_parser, with_plugin) in [(true, true), (true, false), (false, true)] {
        match open_with(api, names, log, with_parser, with_plugin) {
            Ok(raw) => return Ok(Opened { raw, no_parser: missing.filter(|_| !with_parser) }),
            Err(TensorRtError::NoLibrary { looked }) => missing = Some(looked),
            Err(error) => return Err(error),
        }
    }
    open_with(api, names, log, false, false).map(|raw| Opened { raw, no_parser: missing })
}

fn open_with(
    api: &CatseyeTrtApi,
    names: &Names,
    log: &'static Log,
    with_parser: bool,
    with_plugin: bool,
) -> Result<NonNull<abi::CatseyeTrtLibrary>, TensorRtError> {
    let nvinfer = c_name(&names.nvinfer)?;
    let parser = with_parser.then(|| c_name(&names.parser)).transpose()?;
    let plugin = with_plugin.then(|| c_name(&names.plugin)).transpose()?;
    let pointer = |name: &Option<CString>| name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
    let mut raw = std::ptr::null_mut();
    // SAFETY: the names are C strings or null, the log lives for ever, and the place can be written.
    let status = unsafe {
        status_of(api.library_open, |open| {
            open(nvinfer.as_ptr(), pointer(&parser), pointer(&plugin), Some(sink), log.user(), &raw mut raw)
        })
    };
    answer(status, "open its libraries", || log.take_errors())?;
    NonNull::new(raw).ok_or_else(|| TensorRtError::NoLibrary { looked: names.nvinfer.clone() })
}

pub(super) fn c_name(name: &str) -> Result<CString, TensorRtError> {
    CString::new(name).map_err(|_| TensorRtError::BadName { name: name.to_owned() })
}

fn version_of(api: &CatseyeTrtApi, raw: NonNull<abi::CatseyeTrtLibrary>) -> Version {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: the library is open and the places can be written.
    unsafe {
        call(api.library_version, |version| version(raw.as_ptr(), &raw mut major, &raw mut minor, &raw mut patch));
    }
    Version::of(major, minor, patch)
}

fn looked_text(looked: &[String]) -> String {
    format!("{} (set {LIBRARY_VARIABLE} to the folder of libnvinfer.so)", looked.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of these headers, which nobody calls.
    fn tables(headers: &[(i32, i32)]) -> Vec<&'static CatseyeTrtApi> {
        let table = |&(major, minor)| &*Box::leak(Box::new(CatseyeTrtApi { major, minor, ..CatseyeTrtApi::default() }));
        headers.iter().map(table).collect()
    }

    #[test]
    fn a_library_is_opened_by_the_newest_headers_that_are_not_newer() {
        let shims = tables(&[(8, 5), (8, 6), (10, 0), (11, 4)]);
        let newest = newest_of_majors(&shims);
        assert_eq!(newest.iter().map(|api| (api.major, api.minor)).collect::<Vec<_>>(), [(11, 4), (10, 0), (8, 6)]);
        let by = |newest, minor| fitting(&shims, newest, Version { major: 0, minor, patch: 9 }).minor;
        assert_eq!([4, 5, 6, 7].map(|minor| by(newest[2], minor)), [5, 5, 6, 6]);
        assert_eq!([0, 13].map(|minor| by(newest[1], minor)), [0, 0]);
        assert_eq!([0, 4].map(|minor| by(newest[0], minor)), [4, 4]);
    }

    #[test]
    fn every_table_of_the_build_is_whole_and_they_stand_in_order() {
        let shims = compiled_in();
        assert!(!shims.is_empty() && shims.is_sorted_by_key(|api| (api.major, api.minor)));
        assert!(shims.iter().all(|api| api.library_probe.is_some() && api.context_destroy.is_some()));
    }
}
