//! The tracking stage: one tracker per camera.

use super::{CameraTracker, STATE_VERSION, TrackerSettings, TrackerState};
use crate::record;
use crate::record::{Encoder, Field, Record};
use crate::runtime::graph::{Fields, RestoreError, Stage, StageError, State};
use crate::stages::Tick;

record! {
    /// The states of all trackers.
    pub struct TrackersState {
        /// One per camera, in rig order.
        pub cameras: Vec<TrackerState>,
    }
}

/// The stage.
pub struct Track {
    trackers: Vec<CameraTracker>,
}

impl Track {
    /// For this many cameras.
    pub fn new(cameras: usize, settings: &TrackerSettings) -> Self {
        Track { trackers: (0..cameras).map(|_| CameraTracker::new(*settings)).collect() }
    }
}

impl Stage<Tick> for Track {
    fn name(&self) -> &'static str {
        "track"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        for (sensor, (tracker, camera)) in self.trackers.iter_mut().zip(&mut tick.cameras).enumerate() {
            tracker.update(&camera.seen, &mut camera.tracks);
            camera.tracks.sensor = sensor as u16;
        }
        Ok(())
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        for (sensor, camera) in tick.cameras.iter().enumerate() {
            fields.add_record(sensor as u16, &camera.tracks);
        }
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        Some(self)
    }
}

impl State for Track {
    fn version(&self) -> u32 {
        STATE_VERSION
    }

    fn save(&self, out: &mut Vec<u8>) {
        // the bytes of a `TrackersState`, without gathering one
        let mut encoder = Encoder::new(out);
        (self.trackers.len() as u32).put(&mut encoder);
        for tracker in &self.trackers {
            tracker.state().put(&mut encoder);
        }
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), RestoreError> {
        if version != STATE_VERSION {
            return Err(RestoreError::Version { expected: STATE_VERSION, found: version });
        }
        let state = TrackersState::decode(state)?;
        if state.cameras.len() != self.trackers.len() {
            return Err(RestoreError::Rig { expected: self.trackers.len(), found: state.cameras.len() });
        }
        for (tracker, state) in self.trackers.iter_mut().zip(state.cameras) {
            tracker.restore(state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{BoxPx, CameraDetections, Detection};

    #[test]
    fn the_state_has_the_bytes_of_its_record() {
        let mut track = Track::new(3, &TrackerSettings::default());
        let mut tick = Tick::new(3, 0, &[]);
        for (number, camera) in tick.cameras.iter_mut().enumerate() {
            let box_px = BoxPx { left: 10.0, top: 10.0, right: 60.0, bottom: 110.0 };
            let object = Detection { box_px, score: 0.9, class: number as u16 };
            camera.seen = CameraDetections { present: number != 1, stamp_ns: 7, ..CameraDetections::default() };
            camera.seen.objects.extend([object]);
        }
        track.run(&mut tick).unwrap();
        let cameras: Vec<TrackerState> = track.trackers.iter().map(|tracker| tracker.state().clone()).collect();
        assert_eq!(cameras.iter().map(|camera| camera.tracks.len()).collect::<Vec<_>>(), [1, 0, 1]);
        let mut expected = Vec::new();
        TrackersState { cameras }.encode(&mut expected);
        let mut saved = Vec::new();
        track.save(&mut saved);
        assert_eq!(saved, expected);
    }
}
