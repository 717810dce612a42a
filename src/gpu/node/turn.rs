//! Ticks in flight copy their pictures one after the other.
//!
//! Two that copy at once share the way from the host's memory, end at once, and then have nothing to compute while both of the next
//! copy. In turns, one copies while the networks of the other run. No result depends on it.

use std::sync::Arc;

use crate::gpu::{Context, Event, GpuError, Stream};

/// A lane's place among those that take turns. An event is in the graphs of two lanes, and outlives both.
pub(super) struct Turn {
    /// The lane before this one has copied.
    before: Arc<Event>,
    /// This one has.
    own: Arc<Event>,
}

impl Turn {
    /// For so many lanes, in a circle.
    pub(super) fn circle(context: &Arc<Context>, lanes: usize) -> Result<Vec<Turn>, GpuError> {
        let events = (0..lanes).map(|_| Event::without_time(context).map(Arc::new));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let others = events.iter().cycle().skip(lanes.saturating_sub(1));
        let turns = others.zip(&events).map(|(before, own)| Turn { before: Arc::clone(before), own: Arc::clone(own) });
        Ok(turns.collect())
    }

    /// Captures the copies so that they wait for those of the tick before.
    pub(super) fn take(
        &self,
        stream: &Stream,
        copies: impl FnOnce(&Stream) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        stream.wait_beyond(&self.before)?;
        copies(stream)?;
        stream.record_beyond(&self.own)
    }
}
