//! NVRTC, the CUDA compiler that is a library: opened by path, so that several versions of it serve one build.

// calls into a C library
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::{Library, Symbol};

use crate::compilers::EXACT;

type Program = *mut c_void;
type Read = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;

/// One opened version.
pub struct Nvrtc {
    library: Library,
}

impl Nvrtc {
    /// Opens the library at a path.
    pub fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: NVRTC's initialisers have no conditions; that this is NVRTC is said by the person who builds.
        let library = unsafe { Library::new(path) };
        Ok(Self { library: library.map_err(|error| format!("CATSEYE_NVRTC: {}: {error}", path.display()))? })
    }

    /// Major and minor version.
    pub fn version(&self) -> Result<(u32, u32), String> {
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        let function = self.symbol::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>("nvrtcVersion")?;
        // SAFETY: both places can be written.
        succeeded("nvrtcVersion", unsafe { function(&raw mut major, &raw mut minor) })?;
        Ok((u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)))
    }

    /// The devices it compiles for, 87 for sm_87.
    pub fn devices(&self) -> Result<Vec<u32>, String> {
        let mut count: c_int = 0;
        let counts = self.symbol::<unsafe extern "C" fn(*mut c_int) -> c_int>("nvrtcGetNumSupportedArchs")?;
        // SAFETY: the place can be written.
        succeeded("nvrtcGetNumSupportedArchs", unsafe { counts(&raw mut count) })?;
        let mut devices: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        let lists = self.symbol::<unsafe extern "C" fn(*mut c_int) -> c_int>("nvrtcGetSupportedArchs")?;
        // SAFETY: there is room for as many as were counted.
        succeeded("nvrtcGetSupportedArchs", unsafe { lists(devices.as_mut_ptr()) })?;
        Ok(devices.into_iter().filter_map(|device| u32::try_from(device).ok()).collect())
    }

    /// The cubin of a file, and what the compiler said about it.
    pub fn compile(&self, file: &Path, device: u32) -> Result<(Vec<u8>, String), String> {
        let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let text = CString::new(text).map_err(|_| "a zero byte in the file".to_owned())?;
        let name = c_string(&file.display().to_string())?;
        let mut options =
            vec![c_string(&format!("--gpu-architecture=sm_{device}"))?, c_string("--std=c++17")?, c_string("-Icuda")?];
        for option in EXACT {
            options.push(c_string(option)?);
        }
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();

        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let create = self.symbol::<Create>("nvrtcCreateProgram")?;
        let compile =
            self.symbol::<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int>("nvrtcCompileProgram")?;
        let destroy = self.symbol::<unsafe extern "C" fn(*mut Program) -> c_int>("nvrtcDestroyProgram")?;
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: the strings live until the call returns, which copies them; there are no headers besides.
        let made =
            unsafe { create(&raw mut program, text.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null()) };
        succeeded("nvrtcCreateProgram", made)?;
        let count = c_int::try_from(options.len()).unwrap_or(0);
        // SAFETY: the program was made above, and there are `count` options, all alive.
        let compiled = unsafe { compile(program, count, options.as_ptr()) };
        let log = self.output(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        let cubin = succeeded("nvrtcCompileProgram", compiled)
            .map_err(|status| format!("{status}\n{log}"))
            .and_then(|()| self.output(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN"));
        // SAFETY: the program was made above and is not used below.
        unsafe { destroy(&raw mut program) };
        Ok((cubin?, log))
    }

    fn output(&self, program: Program, size: &'static str, read: &'static str) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        let sizes = self.symbol::<Size>(size)?;
        // SAFETY: the program is alive and the place can be written.
        succeeded(size, unsafe { sizes(program, &raw mut bytes) })?;
        let mut output = vec![0_u8; bytes];
        let reads = self.symbol::<Read>(read)?;
        // SAFETY: the program is alive and there is room for as many bytes as it said.
        succeeded(read, unsafe { reads(program, output.as_mut_ptr().cast()) })?;
        Ok(output)
    }

    fn symbol<T>(&self, name: &'static str) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the types are those of nvrtc.h, the same in all versions since 11.2.
        unsafe { self.library.get(name) }.map_err(|error| format!("{name}: {error}"))
    }
}

fn succeeded(call: &str, status: c_int) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(format!("{call} failed with NVRTC status {status}")) }
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("a zero byte in {text:?}"))
}
