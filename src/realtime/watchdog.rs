//! What systemd is told of a run (sd_notify(3)): that it is ready, how it goes, that it ends; and, where the unit has `WatchdogSec`,
//! a ping for as long as every part of it makes progress.
//!
//! A thread of its own looks at the [`Pulse`] once in half the watchdog's time. A part that has not beaten since the last look
//! withholds the ping and is named in the status; when the watchdog's time is over systemd ends the process and starts it anew. Where
//! nobody listens (no `NOTIFY_SOCKET`) there is no thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Tell;
use super::pulse::{Progress, Pulse};

/// How often the status is told where the unit asks for no pings.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How soon an end is told.
const PATIENCE: Duration = Duration::from_millis(200);

/// Tells systemd of a run for as long as it is there.
pub struct Watchdog {
    /// Dropped to end the thread.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether a service manager listens.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Says what a run does before it is ready.
pub fn starting(words: &str) {
    // whoever does not hear this is told of by the thread that comes later
    let _ = sd_notify::notify(&[NotifyState::Status(words)]);
}

impl Watchdog {
    /// Says that the run is ready, and goes on telling how it goes. `folder` is what it writes into. None where nobody listens.
    pub fn start(pulse: Pulse, folder: PathBuf, tell: Tell) -> Option<Self> {
        if !is_heard() {
            return None;
        }
        let interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let (alive, end) = channel();
        let teller = Teller { pulse, folder, tell: Arc::clone(&tell), interval, has_failed: false };
        match std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || teller.run(&end)) {
            Ok(thread) => Some(Watchdog { alive: Some(alive), thread: Some(thread) }),
            Err(error) => {
                tell(&format!("the service manager is told nothing, since there is no thread for it: {error}"));
                None
            }
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Teller {
    pulse: Pulse,
    folder: PathBuf,
    tell: Tell,
    interval: Option<Duration>,
    has_failed: bool,
}

impl Teller {
    fn run(mut self, end: &Receiver<()>) {
        let interval = self.interval.unwrap_or(STATUS_EVERY);
        let status = self.status(&[]);
        self.notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.look();
        let mut looked = Instant::now();
        while !self.pulse.is_ending() {
            let left = interval.saturating_sub(looked.elapsed()).min(PATIENCE);
            match end.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if looked.elapsed() >= interval {
                looked = Instant::now();
                self.look();
            }
        }
        // behind this word systemd waits for the end, as long as TimeoutStopSec says, and for no more pings
        self.notify(&[NotifyState::Stopping, NotifyState::Status("ending: what is under way is written")]);
    }

    /// Looks whether everything goes on, and tells.
    fn look(&mut self) {
        let still = self.pulse.standing_still();
        let status = self.status(&still);
        match self.interval {
            Some(_) if still.is_empty() => self.notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]),
            _ => self.notify(&[NotifyState::Status(&status)]),
        }
    }

    fn status(&self, still: &[String]) -> String {
        let Progress { measurements, ticks, drops, missed } = self.pulse.progress();
        let free = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let free = free.map_or_else(|_| "unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 * 1e-9));
        let counts = format!(
            "{measurements} measurements, {ticks} ticks, {drops} drops, {missed} deadlines missed, free on disk: {free}"
        );
        let still = (!still.is_empty()).then(|| format!("stands still: {}", still.join(", ")));
        let parts: Vec<String> = still.into_iter().chain(self.pulse.noted()).chain([counts]).collect();
        parts.join("; ")
    }

    fn notify(&mut self, states: &[NotifyState]) {
        let Err(error) = sd_notify::notify(states) else { return };
        if !std::mem::replace(&mut self.has_failed, true) {
            (self.tell)(&format!("the service manager does not hear: {error}"));
        }
    }
}
