//! The files of a machine: those of `/`, or those of a folder that stands for it. Absence is an answer here, never an error.
//!
//! A link from `/` on leads out of such a folder, as everywhere.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Mode, OFlags};

/// A file of which more is read is none of those that are read here.
const LONGEST: u64 = 1 << 20;

/// A machine's root folder.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The root in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Root(folder.into())
    }

    /// Whether it is the machine that this program runs on.
    pub fn is_here(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a file of the machine lies.
    pub fn join(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Whether there is such a file or folder. A link counts by what it leads to.
    pub fn exists(&self, path: &str) -> bool {
        self.join(path).exists()
    }

    /// A text without the spaces, line ends and zeros around it. A file that cannot be read is as one that is not there.
    pub fn text(&self, path: &str) -> Option<String> {
        // a pipe in the place of a file is not waited for
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.join(path), flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(LONGEST).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(|symbol: char| symbol.is_whitespace() || symbol == '\0').to_owned())
    }

    /// A number that stands alone in a file.
    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|one, other| natural(one).cmp(&natural(other)).then_with(|| one.cmp(other)));
        names
    }

    /// Where a link leads.
    pub fn link(&self, path: &str) -> Option<PathBuf> {
        std::fs::read_link(self.join(path)).ok()
    }

    /// The programs that run: their numbers and short names (`proc_pid_comm(5)`, at most 15 bytes).
    pub fn programs(&self) -> Vec<(u32, String)> {
        let numbers = self.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
        numbers.filter_map(|pid| Some((pid, self.text(&format!("/proc/{pid}/comm"))?))).collect()
    }
}

/// A name that ends in a number is sorted by it: `cpu2` before `cpu10`.
fn natural(name: &str) -> (&str, u64) {
    let stem = name.trim_end_matches(|symbol: char| symbol.is_ascii_digit());
    let number = name.get(stem.len()..).and_then(|digits| digits.parse().ok());
    number.map_or((name, 0), |number| (stem, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_under_the_root_and_absence_is_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::create_dir_all(root.join("/proc/17")).unwrap();
        std::fs::write(root.join("/proc/model"), "Orin\0\n").unwrap();
        std::fs::write(root.join("/proc/17/comm"), "chronyd\n").unwrap();
        std::fs::write(root.join("/proc/limit"), "950000\n").unwrap();
        assert_eq!(root.text("/proc/model").as_deref(), Some("Orin"));
        assert_eq!(root.number::<i64>("/proc/limit"), Some(950_000));
        assert_eq!(root.number::<i64>("/proc/model"), None);
        assert_eq!(root.text("/proc/none"), None);
        assert_eq!(root.programs(), [(17, "chronyd".to_owned())]);
        assert!(root.names("/dev").is_empty() && !root.exists("/dev") && root.link("/dev/x").is_none());
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(Root::new(folder.path()).text("/pipe").as_deref(), Some(""));
    }

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["cpu10", "cpu2", "video1", "can0"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["can0", "cpu2", "cpu10", "video1"]);
    }
}
