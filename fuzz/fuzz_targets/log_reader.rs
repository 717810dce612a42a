//! Whole logs, through a file that exists in memory only.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use catseye::log::packet::{StampInfo, read_packet};
use catseye::log::reader::{Event, LogReader};
use catseye_sensors::packet::SensorId;
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
    let Ok(mut reader) = LogReader::open(&path) else { return };
    loop {
        match reader.next() {
            Ok(Some(Event::Message(message))) => {
                let info = StampInfo::of(message.channel);
                let _ = read_packet(&message, SensorId(0), &info);
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return,
        }
    }
    assert!(reader.ending().is_some(), "a log that was read to its end says how it ends");
});
