//! Files that are whole or not there: they grow in `NAME.part` beside their place and take their name at the end.
//!
//! Logs and what is drawn and written for people take their names so, and a full disk never costs a former whole file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a file grows until it is whole.
pub fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// Writes a whole file; one of that name is replaced, or stays as it is when that fails.
///
/// # Errors
/// The system's.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        // a pipe or a device has no former content, and its name cannot be taken
        return std::fs::write(path, bytes);
    }
    let part = part_of(path);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let named = written.and_then(|()| std::fs::rename(&part, path));
    if named.is_err() {
        // what made it fail is told; that nothing is left to remove is no news
        let _ = std::fs::remove_file(&part);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        for text in ["first, and longer", "second"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_former_file_outlives_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, "former").unwrap();
        // a folder is where the file would grow
        std::fs::create_dir(part_of(&path)).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "former");
        assert!(write_whole(&folder.path().join("no/page.html"), b"new").is_err());
    }
}
