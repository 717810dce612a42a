//! The target behind ssh: one connection that all steps share, and the steps, small shell texts with arguments, stdin and lines of answer.
//!
//! The connection is ssh's own ControlMaster, with its socket in a folder that only lives as long as the deploy. Keys, users, ports and
//! jump hosts are those of the user's ssh configuration; nothing is ever asked (BatchMode).

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::DeployError;

/// A step on the target.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Its name for people.
    pub name: &'static str,
    text: &'static str,
}

macro_rules! scripts {
    ($($constant:ident $name:literal)*) => {
        $(
            #[doc = concat!("`remote/", $name, ".sh`")]
            pub const $constant: Script = Script { name: $name, text: include_str!(concat!("remote/", $name, ".sh")) };
        )*
    };
}

scripts! {
    PROBE "probe"
    SUDO "sudo"
    LOCK "lock"
    BREAK "break"
    HAVE "have"
    STAGE "stage"
    RECEIVE "receive"
    SEAL "seal"
    TRY "try"
    ENGINES "engines"
    ACTIVATE "activate"
}

/// What all steps begin with.
const LIBRARY: &str = include_str!("remote/lib.sh");
/// How long a wait is before somebody looks whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// ssh's own exit status where the connection failed.
const CONNECTION_FAILED: i32 = 255;
/// Says that the connection is there; whatever a profile prints stands before it.
const READY: &str = "catseye-is-connected";

/// How the target is reached.
#[derive(Debug, Clone)]
pub struct SshSettings {
    /// The host, as ssh takes it.
    pub host: String,
    /// The program.
    pub program: PathBuf,
    /// What its `-o` gets.
    pub options: Vec<String>,
}

/// A connection.
#[derive(Debug)]
pub struct Ssh {
    settings: SshSettings,
    folder: TempDir,
    master: Child,
}

impl Ssh {
    /// Connects, or says what ssh said.
    pub fn connect(settings: &SshSettings) -> Result<Ssh, DeployError> {
        if settings.host.is_empty() || settings.host.starts_with('-') {
            return Err(DeployError::Host { found: settings.host.clone() });
        }
        let no_ssh =
            |error: std::io::Error| DeployError::NoSsh { program: settings.program.clone(), cause: error.to_string() };
        let folder = tempfile::tempdir().map_err(no_ssh)?;
        let mut command = ssh_command(settings, &folder, "ControlMaster=yes");
        // the far end of our pipe: with this process the connection ends too
        command.arg(format!("echo {READY}; exec cat >/dev/null"));
        let mut master = command.spawn().map_err(no_ssh)?;
        let is_ready = master.stdout.take().is_some_and(|stdout| {
            BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.trim_end().ends_with(READY))
        });
        if !is_ready {
            let mut said = String::new();
            if let Some(mut stderr) = master.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            let _ = master.wait();
            return Err(DeployError::NoConnection { host: settings.host.clone(), said: last_words(&said) });
        }
        Ok(Ssh { settings: settings.clone(), folder, master })
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        drop(self.master.stdin.take());
        // a dead network would keep it for seconds
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

fn ssh_command(settings: &SshSettings, folder: &TempDir, role: &str) -> Command {
    let mut command = Command::new(&settings.program);
    for option in &settings.options {
        command.args(["-o", option]);
    }
    // the first value of an option counts: what the user says comes first
    for option in ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=2", role] {
        command.args(["-o", option]);
    }
    command.arg("-o").arg(format!("ControlPath={}", folder.path().join("s").display()));
    command.args(["-T", "--", &settings.host]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // a Ctrl-C is for this process, which ends steps in good order
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// A word for a POSIX shell.
#[must_use]
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Lines `key value` of an answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reply {
    step: &'static str,
    lines: Vec<(String, String)>,
}

impl Reply {
    /// Of lines.
    pub fn of(lines: impl IntoIterator<Item = String>) -> Reply {
        let mut reply = Reply::default();
        lines.into_iter().for_each(|line| reply.push(&line));
        reply
    }

    fn push(&mut self, line: &str) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        self.lines.push((key.to_owned(), value.trim_end().to_owned()));
    }

    /// The values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a key.
    #[must_use]
    pub fn first(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a key without which the answer is none.
    pub fn needs(&self, key: &'static str) -> Result<&str, DeployError> {
        let last = || self.lines.last().map_or_else(String::new, |(key, value)| format!("{key} {value}"));
        self.first(key).ok_or_else(|| DeployError::Answer { step: self.step, expected: key, found: last() })
    }
}

/// The target's folder, and the steps that are run there.
#[derive(Debug)]
pub struct Target<'a> {
    ssh: &'a Ssh,
    prefix: &'a str,
    root: &'a str,
    stop: &'a AtomicBool,
    /// Names this deploy, in the lock.
    pub token: String,
}

impl<'a> Target<'a> {
    /// Behind a connection.
    #[must_use]
    pub fn new(ssh: &'a Ssh, prefix: &'a str, root: &'a str, stop: &'a AtomicBool) -> Target<'a> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Target { ssh, prefix, root, stop, token: format!("{}-{}", std::process::id(), now.as_nanos()) }
    }

    /// Whether the user wants to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Starts a step.
    pub fn start(&self, script: &Script, arguments: &[&str]) -> Result<Running, DeployError> {
        let text = format!("{LIBRARY}\n{}", script.text);
        let words = ["sh", "-c", &text, "catseye-deploy", self.prefix, self.root, &self.token];
        let line: Vec<String> = words.iter().chain(arguments).map(|word| quote(word)).collect();
        let mut command = ssh_command(&self.ssh.settings, &self.ssh.folder, "ControlMaster=no");
        let child = command.arg(line.join(" ")).spawn().map_err(|error| DeployError::NoSsh {
            program: self.ssh.settings.program.clone(),
            cause: error.to_string(),
        })?;
        Ok(Running::new(script.name, child))
    }

    /// Runs a step and gives its answer.
    pub fn ask(&self, script: &Script, arguments: &[&str], stdin: &[u8]) -> Result<Reply, DeployError> {
        self.listen(script, arguments, stdin, &mut |_, _| {})
    }

    /// Runs a step whose lines are looked at as they come.
    pub fn listen(
        &self,
        script: &Script,
        arguments: &[&str],
        stdin: &[u8],
        on_line: &mut dyn FnMut(&str, &str),
    ) -> Result<Reply, DeployError> {
        let mut running = self.start(script, arguments)?;
        // a step that ends without reading says why
        let _ = running.stdin.take().map(|mut pipe| pipe.write_all(stdin));
        running.finish(Some(self.stop), on_line)
    }

    /// Runs a step that goes on to its end, whatever the user wants.
    pub fn uninterrupted(
        &self,
        script: &Script,
        arguments: &[&str],
        on_line: &mut dyn FnMut(&str, &str),
    ) -> Result<Reply, DeployError> {
        let mut running = self.start(script, arguments)?;
        drop(running.stdin.take());
        running.finish(None, on_line)
    }
}

/// A step under way.
#[derive(Debug)]
pub struct Running {
    step: &'static str,
    child: Child,
    /// What the step reads.
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn new(step: &'static str, mut child: Child) -> Running {
        let (sender, lines) = channel();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        // the threads end with their pipes
        std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let _ = stderr.read_to_end(&mut said);
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        Running { step, child, stdin, lines, stderr }
    }

    /// The next line; none where the step ends without one.
    pub fn next_line(&mut self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// Waits for the end and gives the answer.
    pub fn finish(
        mut self,
        stop: Option<&AtomicBool>,
        on_line: &mut dyn FnMut(&str, &str),
    ) -> Result<Reply, DeployError> {
        let mut reply = Reply { step: self.step, lines: Vec::new() };
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => {
                    reply.push(&line);
                    if let Some((key, value)) = reply.lines.last() {
                        on_line(key, value);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(DeployError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let (step, status) = (self.step, self.child.wait());
        let said = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        verdict(step, status, &reply, &said).map(|()| reply)
    }
}

fn verdict(
    step: &'static str,
    status: std::io::Result<ExitStatus>,
    reply: &Reply,
    stderr: &str,
) -> Result<(), DeployError> {
    let code = status.ok().and_then(|status| status.code());
    if code == Some(0) {
        return Ok(());
    }
    let said = reply.first("error").map_or_else(|| last_words(stderr), str::to_owned);
    // tar and the shell have the C library's words, whose language is set in `lib.sh`
    let is_full = |text: &str| text.contains("No space left on device") || text.contains("disk full?");
    if is_full(stderr) || is_full(&said) {
        return Err(DeployError::DiskFull { said });
    }
    if code == Some(CONNECTION_FAILED) {
        return Err(DeployError::ConnectionLost { step, said });
    }
    Err(DeployError::Step { step, said: if said.is_empty() { format!("exit status {code:?}") } else { said } })
}

/// The end of what a program said, on one line.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gives_back_what_was_quoted() {
        for word in ["", "a b", "it's", "''", "$HOME `id` \"x\" \\ \n *", "-e", "ä"] {
            let line = format!("printf '%s|' {} end", quote(word));
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{word}|end|"));
        }
    }

    #[test]
    fn answers_are_lines_of_a_key_and_a_value() {
        let reply = Reply::of(["a 1", "b", "a 2 3", ""].map(str::to_owned));
        assert_eq!(reply.all("a").collect::<Vec<_>>(), ["1", "2 3"]);
        assert_eq!((reply.first("b"), reply.first("c")), (Some(""), None));
        assert!(matches!(reply.needs("c"), Err(DeployError::Answer { expected: "c", .. })));
    }

    #[test]
    fn failures_are_told_apart() {
        use std::os::unix::process::ExitStatusExt;
        let of = |code: i32, lines: &[&str], stderr: &str| {
            let reply = Reply::of(lines.iter().map(|line| (*line).to_owned()));
            verdict("step", Ok(ExitStatus::from_raw(code << 8)), &reply, stderr)
        };
        assert!(of(0, &[], "a warning").is_ok());
        assert!(matches!(of(255, &[], "closed"), Err(DeployError::ConnectionLost { said, .. }) if said == "closed"));
        assert!(matches!(of(2, &[], "tar: x: No space left on device"), Err(DeployError::DiskFull { .. })));
        assert!(matches!(of(3, &["error why"], "noise"), Err(DeployError::Step { said, .. }) if said == "why"));
        assert!(matches!(of(3, &["error is the disk full?"], ""), Err(DeployError::DiskFull { .. })));
        assert!(matches!(of(1, &[], ""), Err(DeployError::Step { said, .. }) if said.contains('1')));
    }

    #[test]
    fn scripts_are_posix_shell() {
        for script in [PROBE, SUDO, LOCK, BREAK, HAVE, STAGE, RECEIVE, SEAL, TRY, ENGINES, ACTIVATE] {
            let text = format!("{LIBRARY}\n{}", script.text);
            let status = Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
            assert!(status.success(), "{}", script.name);
        }
    }
}
