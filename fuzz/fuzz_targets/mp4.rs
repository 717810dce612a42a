//! MP4 files: the index and the access units.
#![no_main]

use catseye_sensors::mp4::{AccessUnit, Mp4Video};
use libfuzzer_sys::fuzz_target;

const MOST_UNITS: usize = 1000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut video) = Mp4Video::from_bytes(bytes) else { return };
    assert!(video.reorder_depth() <= 16);
    let mut unit = AccessUnit::default();
    for _ in 0..video.len().min(MOST_UNITS) {
        // an access unit that cannot be read does not end the video
        let read = video.next_unit(&mut unit);
        assert!(!matches!(read, Ok(false)), "the video ends before its last access unit");
    }
});
