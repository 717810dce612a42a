//! Questions that may never be answered: each gets a limit, and what has not answered by then is left behind.

use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// What a function gives within the limit. One that does not end keeps its thread until the program ends.
pub fn within<T: Send + 'static>(limit: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (told, answer) = channel();
    let asked = std::thread::Builder::new().name("doctor".to_owned()).spawn(move || drop(told.send(ask())));
    asked.ok()?;
    answer.recv_timeout(limit).ok()
}

/// What another program prints, where it is there and succeeds within the limit.
pub fn output_within(limit: Duration, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut printed = child.stdout.take()?;
    let (told, text) = channel();
    let read = move || {
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut printed, &mut text);
        drop(told.send(read.map(|_| text)));
    };
    std::thread::Builder::new().name("doctor".to_owned()).spawn(read).ok()?;
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => {
                return text.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?.ok();
            }
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                // one that hangs in a driver cannot be ended, and is not waited for
                let _ = child.kill();
                return None;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn what_does_not_answer_is_left_behind() {
        assert_eq!(within(SHORT, || 7), Some(7));
        assert_eq!(within(SHORT, || std::thread::sleep(20 * SHORT)), None);
        let start = Instant::now();
        assert_eq!(output_within(SHORT, "sleep", &["5"]), None);
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn programs_answer_or_are_absent() {
        let limit = Duration::from_secs(10);
        assert_eq!(output_within(limit, "echo", &["7"]).as_deref(), Some("7\n"));
        assert_eq!(output_within(limit, "false", &[]), None);
        assert_eq!(output_within(limit, "no-such-program-of-any-name", &[]), None);
        // more than a pipe holds
        let long = output_within(limit, "head", &["-c", "300000", "/dev/zero"]);
        assert_eq!(long.map(|text| text.len()), Some(300_000));
    }
}
