//! One deploy at a time: a folder on the target, held by a step that ends with its connection and writes down signs of life.
//!
//! A lock whose signs of life stand still was left by a connection that was cut without the target's noticing; it is taken over, and
//! what its deploy was still writing is ended. A deploy that lost its lock so is refused by all further steps.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ssh::{BREAK, LOCK, Target};
use super::{DeployError, Event, Tell};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// Between two looks at another's lock.
const LOOK: Duration = Duration::from_secs(3);
/// Looks without a new sign of life after which a lock is taken over.
const PATIENCE: usize = 5;

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The release in use when it was taken.
    pub current: Option<String>,
    end: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

impl Lock {
    /// Takes the lock, from a deploy that is dead too.
    ///
    /// # Errors
    /// Another deploy is alive.
    pub fn acquire(target: &Target<'_>, tell: Tell<'_>) -> Result<Lock, DeployError> {
        let who = who();
        let (mut last, mut looks) = (String::new(), 0);
        loop {
            let mut running = target.start(&LOCK, &[&who])?;
            let first = running.next_line().unwrap_or_default();
            if let Some(current) = first.strip_prefix("held") {
                return Ok(Lock::beat(running, current.trim()));
            }
            let reply = running.finish(None, &mut |_, _| {})?;
            let busy = first.strip_prefix("busy ").ok_or_else(|| DeployError::Answer {
                step: LOCK.name,
                expected: "held",
                found: first.clone(),
            })?;
            let owner = reply.first("owner").filter(|owner| !owner.is_empty()).unwrap_or("somebody").to_owned();
            looks += 1;
            if looks > 1 && busy != last {
                return Err(DeployError::Busy { owner });
            }
            if looks == 1 {
                tell(Event::Step(&format!(
                    "wait: the target is locked by {owner}; a lock without signs of life is taken over"
                )));
            }
            if looks > PATIENCE {
                let token = busy.split(' ').next().unwrap_or_default();
                target.ask(&BREAK, &[token], b"")?;
                looks = 0;
                continue;
            }
            busy.clone_into(&mut last);
            std::thread::sleep(LOOK);
            if target.is_stopped() {
                return Err(DeployError::Interrupted);
            }
        }
    }

    fn beat(mut running: super::ssh::Running, current: &str) -> Lock {
        let (end, ends) = channel();
        let beats = std::thread::spawn(move || {
            let Some(mut stdin) = running.stdin.take() else { return };
            for number in 0_u64.. {
                // where the connection is gone the next step says so
                let is_gone = writeln!(stdin, "{number}").is_err();
                if is_gone || !matches!(ends.recv_timeout(BEAT), Err(RecvTimeoutError::Timeout)) {
                    break;
                }
            }
            drop(stdin);
            let _ = running.finish(None, &mut |_, _| {});
        });
        let current = (!current.is_empty()).then(|| current.to_owned());
        Lock { current, end: Some(end), beats: Some(beats) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.beats.take().map(JoinHandle::join);
    }
}

/// Who deploys, for those who wait.
fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{user}@{} (process {})", host.trim(), std::process::id())
}
