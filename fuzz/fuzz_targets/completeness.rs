//! The check of a log, or of a file of a recording, through a file that exists in memory only.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use catseye::log::completeness::{Subject, Verdict, check};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let mut file = match memfd_create("fuzz", MemfdFlags::CLOEXEC) {
        Ok(descriptor) => File::from(descriptor),
        Err(error) => panic!("no file in memory: {error}"),
    };
    if let Err(error) = file.write_all(bytes) {
        panic!("the file in memory cannot be written: {error}");
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let found = check(&Subject::Log(path), &mut |_, _| {});
    let is_whole = found.files.iter().all(|file| file.is_whole);
    assert!(is_whole || found.verdict() == Verdict::Incomplete, "a file that is cut or damaged is not complete");
});
