//! `catseye_exporter.h` as Rust sees it. Numbers whose values a library chooses are plain numbers here: a value that is not
//! known is refused, never an enum out of its range.

use std::ffi::{c_char, c_void};

pub(super) const VERSION: u32 = 2;
pub(super) const MAX_BUFFERS: u32 = 64;
pub(super) const MAX_PLANES: usize = 3;
/// The library's one symbol.
pub(super) const SYMBOL: &str = "catseye_exporter_api";

pub(super) const OK: i32 = 0;
pub(super) const NO_FRAME: i32 = 1;
pub(super) const GONE: i32 = 2;
pub(super) const FAILED: i32 = 3;

pub(super) const MEMORY_HOST: u32 = 0;
pub(super) const MEMORY_DMA_BUF: u32 = 1;
pub(super) const MEMORY_NVSCIBUF: u32 = 2;
pub(super) const MEMORY_OPAQUE_FD: u32 = 3;

pub(super) const CLOCK_UNKNOWN: u32 = 0;
pub(super) const CLOCK_HOST_MONOTONIC: u32 = 1;
pub(super) const CLOCK_HOST_REALTIME: u32 = 2;
pub(super) const CLOCK_PTP: u32 = 3;
pub(super) const CLOCK_SENSOR: u32 = 5;
pub(super) const CLOCK_TSC: u32 = 16;

pub(super) const STAMP_EXPOSURE_START: u32 = 0;
pub(super) const STAMP_EXPOSURE_MIDDLE: u32 = 1;
pub(super) const STAMP_EXPOSURE_END: u32 = 2;
pub(super) const STAMP_ARRIVAL: u32 = 3;

pub(super) const FRAME_TORN: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub(super) data: *const u8,
    pub(super) bytes: u64,
    pub(super) offset_bytes: u64,
    pub(super) stride_bytes: u32,
    pub(super) reserved: u32,
}

impl Plane {
    const NONE: Self = Plane { data: std::ptr::null(), bytes: 0, offset_bytes: 0, stride_bytes: 0, reserved: 0 };
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) fourcc: u32,
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    pub(super) plane_count: u32,
    pub(super) planes: [Plane; MAX_PLANES],
    pub(super) buffer: u32,
    pub(super) memory_kind: u32,
    pub(super) handle: u64,
    pub(super) memory_bytes: u64,
    pub(super) sequence: u64,
    pub(super) stamp_ns: i64,
    pub(super) clock: u32,
    pub(super) stamp_kind: u32,
    pub(super) flags: u32,
    pub(super) reserved: u32,
}

impl Frame {
    pub(super) const EMPTY: Self = Frame {
        fourcc: 0,
        width_px: 0,
        height_px: 0,
        plane_count: 0,
        planes: [Plane::NONE; MAX_PLANES],
        buffer: 0,
        memory_kind: 0,
        handle: 0,
        memory_bytes: 0,
        sequence: 0,
        stamp_ns: 0,
        clock: 0,
        stamp_kind: 0,
        flags: 0,
        reserved: 0,
    };
}

/// An open exporter, of which only the library knows what it is.
pub(super) type Handle = c_void;

/// What every version of the table begins with. Nothing else is read before these numbers are known to be ours.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) abi_version: u32,
    pub(super) api_bytes: u32,
    pub(super) frame_bytes: u32,
    pub(super) reserved: u32,
}

impl Head {
    pub(super) const OURS: Self = Head {
        abi_version: VERSION,
        api_bytes: size_of::<Api>() as u32,
        frame_bytes: size_of::<Frame>() as u32,
        reserved: 0,
    };
}

/// The table. A function that a library left out is `None`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Api {
    pub(super) head: Head,
    pub(super) name: *const c_char,
    pub(super) open: Option<unsafe extern "C" fn(*const c_char, *mut u32, *mut *mut Handle) -> i32>,
    pub(super) next_frame: Option<unsafe extern "C" fn(*mut Handle, u64, *mut Frame) -> i32>,
    pub(super) release: Option<unsafe extern "C" fn(*mut Handle, u32)>,
    pub(super) stop: Option<unsafe extern "C" fn(*mut Handle)>,
    pub(super) close: Option<unsafe extern "C" fn(*mut Handle)>,
    pub(super) last_error: Option<unsafe extern "C" fn(*const Handle, *mut c_char, usize)>,
}

pub(super) type GetApi = unsafe extern "C" fn() -> *const Api;

/// All of them are compared with the header in the tests.
const _: () = {
    assert!(size_of::<Plane>() == 32);
    assert!(size_of::<Frame>() == 168);
    assert!(size_of::<Api>() == 72);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::mem::offset_of;
    use std::process::Command;

    /// Two columns: what C says of an expression, and what is said here.
    fn facts() -> Vec<(String, usize)> {
        let mut facts = Vec::new();
        macro_rules! of_struct {
            ($c:literal, $rust:ty, $($field:ident),*) => {
                facts.push((format!("sizeof({})", $c), size_of::<$rust>()));
                $(facts.push((format!("offsetof({}, {})", $c, stringify!($field)), offset_of!($rust, $field)));)*
            };
        }
        macro_rules! of_number {
            ($($name:ident)*) => {
                $(facts.push((concat!("CATSEYE_", stringify!($name)).to_owned(), $name as usize));)*
            };
        }
        of_struct!("CatseyePlane", Plane, data, bytes, offset_bytes, stride_bytes, reserved);
        of_struct!(
            "CatseyeFrame",
            Frame,
            fourcc,
            width_px,
            height_px,
            plane_count,
            planes,
            buffer,
            memory_kind,
            handle
        );
        of_struct!("CatseyeFrame", Frame, sequence, stamp_ns, clock, stamp_kind, flags, reserved);
        of_struct!("CatseyeExporterApi", Api, name, open, next_frame, release, stop, close, last_error);
        for (field, at) in [
            ("abi_version", offset_of!(Head, abi_version)),
            ("api_bytes", offset_of!(Head, api_bytes)),
            ("frame_bytes", offset_of!(Head, frame_bytes)),
            ("reserved", offset_of!(Head, reserved)),
        ] {
            facts.push((format!("offsetof(CatseyeExporterApi, {field})"), at));
        }
        facts.push(("CATSEYE_EXPORTER_ABI".to_owned(), VERSION as usize));
        of_number!(MAX_BUFFERS MAX_PLANES OK NO_FRAME GONE FAILED MEMORY_HOST MEMORY_DMA_BUF MEMORY_NVSCIBUF);
        of_number!(CLOCK_UNKNOWN CLOCK_HOST_MONOTONIC CLOCK_HOST_REALTIME CLOCK_PTP CLOCK_SENSOR CLOCK_TSC);
        of_number!(STAMP_EXPOSURE_START STAMP_EXPOSURE_MIDDLE STAMP_EXPOSURE_END STAMP_ARRIVAL FRAME_TORN);
        let nv12 = u32::from_le_bytes(*b"NV12");
        facts.push(("CATSEYE_FOURCC('N', 'V', '1', '2')".to_owned(), nv12 as usize));
        facts
    }

    #[test]
    fn structs_and_numbers_are_those_of_the_header() {
        let facts = facts();
        let mut source = String::from("#include \"catseye_exporter.h\"\n#include <stdio.h>\nint main(void) {\n");
        for (expression, _) in &facts {
            writeln!(source, "printf(\"%lu\\n\", (unsigned long)({expression}));").unwrap();
        }
        source.push_str("return 0; }\n");
        let folder = tempfile::tempdir().unwrap();
        let (c, program) = (folder.path().join("abi.c"), folder.path().join("abi"));
        std::fs::write(&c, source).unwrap();
        let headers = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/src/exporter");
        let mut compiler = Command::new("cc");
        compiler.arg(headers).args(["-Wall", "-Wextra", "-Werror"]).arg(&c).arg("-o").arg(&program);
        match compiler.status() {
            Err(error) => return eprintln!("skipped: no C compiler: {error}"),
            Ok(status) => assert!(status.success(), "the header does not compile"),
        }
        let output = Command::new(&program).output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(found.lines().count(), facts.len());
        for ((expression, here), in_c) in facts.iter().zip(found.lines()) {
            assert_eq!(here.to_string(), in_c, "{expression}");
        }
    }
}
