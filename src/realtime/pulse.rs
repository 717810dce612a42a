//! Signs of life: the threads of a live run beat while they go round their loops, and somebody else looks whether they all do.
//!
//! A beat is one addition and waits for nobody. A loop that waits for a sensor goes round all the same, so silence of the sensors is
//! no standstill; a driver that hangs in the kernel, a stage that never ends and a disk that takes no more are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The pulse of one run. Clones are the same pulse.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    parts: Mutex<Vec<Arc<Part>>>,
    measurements: AtomicU64,
    ticks: AtomicU64,
    drops: AtomicU64,
    missed: AtomicU64,
    is_ending: AtomicBool,
    note: Mutex<Option<String>>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Measurements that sensors sent.
    pub measurements: u64,
    /// Ticks that went through.
    pub ticks: u64,
    /// Packets left out.
    pub drops: u64,
    /// Deadlines missed.
    pub missed: u64,
}

#[derive(Debug)]
struct Part {
    name: String,
    beats: AtomicU64,
    /// How many there were when somebody last looked. Belongs to the one who looks.
    seen: AtomicU64,
    has_ended: AtomicBool,
}

/// One part's side. A part whose side is dropped has ended, and is no longer looked at; one that panics stands still.
#[derive(Debug)]
pub struct Beat {
    part: Arc<Part>,
}

impl Beat {
    /// Goes on.
    pub fn beat(&self) {
        self.part.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.part.has_ended.store(true, Ordering::Relaxed);
        }
    }
}

impl Pulse {
    /// A part that is to beat from now on.
    pub fn part(&self, name: &str) -> Beat {
        let (beats, has_ended) = (AtomicU64::new(0), AtomicBool::new(false));
        // whoever looks first sees a change: a part has a whole interval for its first beat
        let part = Arc::new(Part { name: name.to_owned(), beats, seen: AtomicU64::new(u64::MAX), has_ended });
        self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&part));
        Beat { part }
    }

    /// The parts that have not beaten since this was asked last. For one who asks.
    pub fn standing_still(&self) -> Vec<String> {
        let mut parts = self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| !part.has_ended.load(Ordering::Relaxed));
        let stands_still = |part: &&Arc<Part>| {
            let beats = part.beats.load(Ordering::Relaxed);
            part.seen.swap(beats, Ordering::Relaxed) == beats
        };
        parts.iter().filter(stands_still).map(|part| part.name.clone()).collect()
    }

    /// Counts a measurement.
    pub fn measured(&self) {
        self.shared.measurements.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells how far the ticks have come.
    pub fn ticked(&self, ticks: u64, drops: u64, missed: u64) {
        let Shared { ticks: all, drops: dropped, missed: late, .. } = &*self.shared;
        all.store(ticks, Ordering::Relaxed);
        dropped.store(drops, Ordering::Relaxed);
        late.store(missed, Ordering::Relaxed);
    }

    /// How far the run has come.
    pub fn progress(&self) -> Progress {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { measurements, ticks, drops, missed, .. } = &*self.shared;
        Progress { measurements: load(measurements), ticks: load(ticks), drops: load(drops), missed: load(missed) }
    }

    /// Notes something that whoever looks at the run should know from now on.
    pub fn note(&self, words: String) {
        *self.shared.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    /// What was noted last.
    pub fn noted(&self) -> Option<String> {
        self.shared.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells that the run comes to its end, in which its parts no longer go round.
    pub fn end(&self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
    }

    /// Whether the run comes to its end.
    pub fn is_ending(&self) -> bool {
        self.shared.is_ending.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_does_not_beat_is_named() {
        let pulse = Pulse::default();
        let (edge, sensor) = (pulse.part("edge"), pulse.part("roof"));
        assert!(pulse.standing_still().is_empty(), "nobody had the time to beat");
        edge.beat();
        assert_eq!(pulse.standing_still(), ["roof"]);
        sensor.beat();
        sensor.beat();
        assert_eq!(pulse.standing_still(), ["edge"]);
        drop(edge);
        assert_eq!(pulse.standing_still(), ["roof"], "what has ended need not beat");
    }

    #[test]
    fn a_part_that_panics_stands_still_for_ever() {
        let pulse = Pulse::default();
        let beat = pulse.part("roof");
        let panicked = std::thread::spawn(move || {
            beat.beat();
            panic!("a test's panic");
        });
        assert!(panicked.join().is_err());
        pulse.standing_still();
        assert_eq!(pulse.standing_still(), ["roof"]);
    }
}
