//! A tracker's state as a log keeps it, behind its length in two bytes; the tracker goes on from it with what it is said
//! to see next.
#![no_main]

use catseye::messages::{CameraDetections, CameraTracks};
use catseye::record::Record;
use catseye::stages::track::{CameraTracker, TrackerSettings, TrackerState};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (state, seen) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let Ok(state) = TrackerState::decode(state) else { return };
    let seen = CameraDetections::decode(seen).unwrap_or_default();
    let mut tracker = CameraTracker::new(TrackerSettings::default());
    tracker.restore(state);
    let mut tracks = CameraTracks::default();
    for _ in 0..3 {
        tracker.update(&seen, &mut tracks);
    }
});
