//! The tracking stage: one tracker per camera.

use super::{CameraTracker, STATE_VERSION, TrackerSettings, TrackerState};
use crate::record;
use crate::record::Record;
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
        let cameras = self.trackers.iter().map(|tracker| tracker.state().clone()).collect();
        TrackersState { cameras }.encode(out);
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
