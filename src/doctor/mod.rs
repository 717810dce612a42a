//! Whether this machine can run catseye: one page of verdicts, each with what was found and, where it is not green, what mends it.
//!
//! A [`Machine`] is files under a [`Root`] and [`Facts`], which are what only system calls, devices and other programs tell. Each
//! check is a pure function of it, so a folder of text files with `doctor-facts.toml` is a whole machine for tests and for looking
//! at a machine from afar. [`examine`] runs all checks, in the order in which somebody with a new board on the desk wants to read.
//!
//! Promised: it works before anything else does. What is absent is a verdict and not an error, nothing is written but the file of
//! the disk's measurement, and what may not answer (devices, disks, programs) is given a few seconds and then reported as silent.
//!
//! What the levels mean: red, something catseye needs does not work; yellow, it works, but slower or less surely than it could;
//! green, nothing to do. A machine with a Tegra is judged as one that drives, any other as one that replays.

pub mod board;
mod cameras;
mod can;
mod clocks;
mod cpu;
mod disk;
pub mod engines;
pub mod facts;
pub mod fatbin;
mod gpu;
mod kernel;
mod memory;
mod permissions;
mod power;
mod rig;
mod root;
mod tensorrt;
mod wait;

use std::path::PathBuf;

pub use self::{
    board::{Board, Chip, System},
    facts::{Facts, FactsError, Questions},
    root::Root,
};

/// How a finding is judged. What is not green says what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Green,
    /// It works, but slower or less surely than it could.
    Yellow {
        /// What mends it.
        mend: String,
    },
    /// Something that catseye needs does not work.
    Red {
        /// What mends it.
        mend: String,
    },
}

impl Verdict {
    /// `green`, `yellow` or `red`.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Green => "green",
            Verdict::Yellow { .. } => "yellow",
            Verdict::Red { .. } => "red",
        }
    }

    /// What mends it.
    pub fn mend(&self) -> Option<&str> {
        match self {
            Verdict::Green => None,
            Verdict::Yellow { mend } | Verdict::Red { mend } => Some(mend),
        }
    }
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// How that is judged.
    pub verdict: Verdict,
}

impl Finding {
    fn green(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Finding { subject: subject.into(), found: found.into(), verdict: Verdict::Green }
    }

    fn yellow(subject: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { subject: subject.into(), found: found.into(), verdict: Verdict::Yellow { mend: mend.into() } }
    }

    fn red(subject: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { subject: subject.into(), found: found.into(), verdict: Verdict::Red { mend: mend.into() } }
    }
}

/// A quantity of which more is better, and where it becomes too little.
#[derive(Clone, Copy)]
struct Scale {
    red_below: i64,
    yellow_below: i64,
}

impl Scale {
    fn judge(self, value: i64, subject: &str, found: String, mend: &str) -> Finding {
        if value < self.red_below {
            return Finding::red(subject, found, mend);
        }
        if value < self.yellow_below {
            return Finding::yellow(subject, found, mend);
        }
        Finding::green(subject, found)
    }
}

/// What is examined.
#[derive(Debug)]
pub struct Machine {
    /// Its files.
    pub root: Root,
    /// What files do not tell.
    pub facts: Facts,
    /// The board, told from the files.
    pub board: Board,
    /// The rig that shall run on it.
    pub rig: Option<PathBuf>,
}

impl Machine {
    /// The machine of these files and facts.
    pub fn new(root: Root, facts: Facts, rig: Option<PathBuf>) -> Self {
        let board = Board::of(&root);
        Machine { root, facts, board, rig }
    }

    /// Whether it is one that drives, and not one for replay.
    fn is_target(&self) -> bool {
        self.board.chip.is_some() || self.board.system != System::Other
    }

    fn can_open(&self, path: &str) -> Access {
        if !self.root.exists(path) {
            return Access::Absent;
        }
        let is_denied = self.facts.denied.iter().any(|denied| denied == path);
        let flags = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
        if is_denied || rustix::fs::access(self.root.join(path), flags).is_err() {
            return Access::Denied;
        }
        Access::Granted
    }
}

/// Whether a device's file may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Absent,
    Denied,
    Granted,
}

/// The findings of one area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// What it is called.
    pub name: &'static str,
    /// What was found, in the order of the page.
    pub findings: Vec<Finding>,
}

/// The whole page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// All areas, in the order of the page.
    pub areas: Vec<Area>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.areas.iter().flat_map(|area| &area.findings)
    }

    /// How many findings are green, yellow and red.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for finding in self.findings() {
            let [green, yellow, red] = &mut counts;
            *match finding.verdict {
                Verdict::Green => green,
                Verdict::Yellow { .. } => yellow,
                Verdict::Red { .. } => red,
            } += 1;
        }
        counts
    }
}

/// Looks at one area of a machine.
type Check = fn(&Machine) -> Vec<Finding>;

/// What somebody with a new board wants to know first stands first; the rig comes last, since it needs all of them.
const CHECKS: [(&str, Check); 14] = [
    ("board", board::check),
    ("gpu", gpu::check),
    ("tensorrt", tensorrt::check),
    ("power", power::check),
    ("cameras", cameras::check),
    ("can", can::check),
    ("clocks", clocks::check),
    ("kernel", kernel::check),
    ("cpu", cpu::check),
    ("memory", memory::check),
    ("disk", disk::check),
    ("permissions", permissions::check),
    ("engines", engines::check),
    ("rig", rig::check),
];

/// Looks at everything. An area in which there is nothing to look at is left out.
pub fn examine(machine: &Machine) -> Report {
    let areas = CHECKS.iter().map(|(name, check)| Area { name, findings: check(machine) });
    Report { areas: areas.filter(|area| !area.findings.is_empty()).collect() }
}

/// A number of bytes for people.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes >= 10 * unit || bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// Words in a row, the last one after `and`.
fn list_text<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match (items.pop(), items.as_slice()) {
        (None, _) => "none".to_owned(),
        (Some(last), []) => last,
        (Some(last), before) => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists_read_well() {
        assert_eq!(
            ["0 bytes", "64 KiB", "1.5 MiB", "12 GiB"],
            [0, 65_536, 3 << 19, 12 << 30].map(bytes_text).as_slice()
        );
        assert_eq!(list_text::<u32>([]), "none");
        assert_eq!(list_text([80, 86, 90]), "80, 86 and 90");
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let report = examine(&Machine::new(Root::new(folder.path()), Facts::default(), None));
        assert!(report.areas.len() > 8, "{report:?}");
        assert!(report.findings().all(|finding| !finding.found.is_empty()));
        assert_eq!(report.counts().iter().sum::<usize>(), report.findings().count());
    }
}
