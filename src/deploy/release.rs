//! What is deployed: files with modes and digests, from an install root and a rig; read from the laptop's disk, named by their digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::DeployError;
use super::program::Architecture;
use crate::header::sha256_hex;

/// The program's path in a release.
pub const PROGRAM: &str = "usr/bin/catseye";
/// Where a release says its version; without it the version is that of this catseye.
const VERSION: &str = "usr/share/catseye/version";
/// Digits of the digest in a release's name.
const NAME_DIGITS: usize = 12;

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the release.
    pub path: String,
    /// Whether it is a program: mode 755, else 644.
    pub is_program: bool,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Where its bytes are.
    pub content: Content,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In a file here.
    File(PathBuf),
    /// In memory, since they were made here.
    Bytes(Vec<u8>),
}

impl Entry {
    /// Its mode on the target.
    #[must_use]
    pub fn mode(&self) -> u32 {
        if self.is_program { 0o755 } else { 0o644 }
    }
}

/// A set of files that comes into use as a whole.
#[derive(Debug)]
pub struct Release {
    /// Its files, by path.
    pub entries: BTreeMap<String, Entry>,
    /// What its program runs on.
    pub architecture: Architecture,
    /// Version of catseye.
    pub version: String,
    /// Where an archive was unpacked.
    _unpacked: Option<TempDir>,
}

impl Release {
    /// Of an install root.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn from_tree(tree: &Path) -> Result<Release, DeployError> {
        Release::read(tree, None)
    }

    /// Of a `.tar.xz` of an install root, or any archive that the `tar` of this machine knows.
    ///
    /// # Errors
    /// It cannot be unpacked, or is none.
    pub fn from_package(package: &Path) -> Result<Release, DeployError> {
        let wrong = |cause: String| DeployError::Package { path: package.to_owned(), cause };
        let folder = tempfile::tempdir().map_err(|error| wrong(error.to_string()))?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(package).arg("--directory").arg(folder.path());
        let output = tar.output().map_err(|error| wrong(error.to_string()))?;
        if !output.status.success() {
            return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")));
        }
        let tree = folder.path().to_owned();
        Release::read(&tree, Some(folder))
    }

    fn read(tree: &Path, unpacked: Option<TempDir>) -> Result<Release, DeployError> {
        let mut entries = BTreeMap::new();
        walk(tree, "", &mut |path, place| {
            let entry = read_entry(path, place)?;
            entries.insert(entry.path.clone(), entry);
            Ok(())
        })?;
        let program = tree.join(PROGRAM);
        let bytes = std::fs::read(&program).map_err(|error| file_error(&program, &error))?;
        let architecture = Architecture::of_program(&bytes)?;
        let own = env!("CARGO_PKG_VERSION");
        let version = std::fs::read_to_string(tree.join(VERSION)).map_or(own.to_owned(), |text| text.trim().to_owned());
        if !is_component(&version) {
            return Err(DeployError::Name { path: format!("{VERSION}: {version:?}") });
        }
        Ok(Release { entries, architecture, version, _unpacked: unpacked })
    }

    /// Adds a file that is not in the tree, or in its place.
    ///
    /// # Errors
    /// Its name is none.
    pub fn add(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), DeployError> {
        check_path(path)?;
        let (sha256, size) = (sha256_hex(&bytes), bytes.len() as u64);
        let entry =
            Entry { path: path.to_owned(), is_program: false, sha256, bytes: size, content: Content::Bytes(bytes) };
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Its name: the version, and the beginning of a digest of all paths, modes and digests. The same files have the same name.
    #[must_use]
    pub fn name(&self) -> String {
        let line = |entry: &Entry| format!("{:o} {} {}\n", entry.mode(), entry.sha256, entry.path);
        let lines: String = self.entries.values().map(line).collect();
        let digest: String = sha256_hex(lines.as_bytes()).chars().take(NAME_DIGITS).collect();
        format!("{}-{digest}", self.version)
    }

    /// The manifest that stays in the release, as `sha256sum -c` reads it.
    #[must_use]
    pub fn manifest(&self) -> String {
        self.entries.values().map(|entry| format!("{}  {}\n", entry.sha256, entry.path)).collect()
    }

    /// Size of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.bytes).sum()
    }
}

fn read_entry(path: &str, place: &Path) -> Result<Entry, DeployError> {
    use std::os::unix::fs::PermissionsExt;
    check_path(path)?;
    let failed = |error: std::io::Error| file_error(place, &error);
    let mode = std::fs::metadata(place).map_err(failed)?.permissions().mode();
    let bytes = std::fs::read(place).map_err(failed)?;
    Ok(Entry {
        path: path.to_owned(),
        is_program: mode & 0o100 != 0,
        sha256: sha256_hex(&bytes),
        bytes: bytes.len() as u64,
        content: Content::File(place.to_owned()),
    })
}

/// Visits all files below a folder, in any order; links count as what they lead to.
fn walk(
    folder: &Path,
    path: &str,
    visit: &mut dyn FnMut(&str, &Path) -> Result<(), DeployError>,
) -> Result<(), DeployError> {
    let failed = |error: std::io::Error| file_error(folder, &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, place) = (entry.file_name(), entry.path());
        let name = name.to_str().ok_or_else(|| DeployError::Name { path: place.display().to_string() })?;
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match std::fs::metadata(&place) {
            Ok(found) if found.is_dir() && !entry.path().is_symlink() => walk(&place, &path, visit)?,
            Ok(found) if found.is_file() => visit(&path, &place)?,
            Ok(_) => return Err(DeployError::File { path: place, cause: "expected a file or a folder".to_owned() }),
            Err(error) => return Err(file_error(&place, &error)),
        }
    }
    Ok(())
}

/// Names go through shell scripts, manifests and archives, which all have their own idea of odd ones.
pub(super) fn check_path(path: &str) -> Result<(), DeployError> {
    let is_good = path.split('/').all(is_component) && path != ".manifest";
    if is_good { Ok(()) } else { Err(DeployError::Name { path: path.to_owned() }) }
}

fn is_component(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+,=:~-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && !matches!(name, "." | "..") && name.bytes().all(is_plain)
}

pub(super) fn file_error(path: &Path, error: &std::io::Error) -> DeployError {
    DeployError::File { path: path.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An install root with the least that a release needs.
    pub fn tree() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8], mode: u32| {
            let place = folder.path().join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(&place, bytes).unwrap();
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put(PROGRAM, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0program", 0o775);
        put("usr/share/catseye/rigs/sim-car.toml", b"rig", 0o600);
        put("etc/catseye/catseye.env", b"", 0o644);
        folder
    }

    #[test]
    fn a_name_is_what_files_modes_and_contents_make_it() {
        let folder = tree();
        let name = || Release::from_tree(folder.path()).unwrap().name();
        let first = name();
        assert!(first.starts_with(&format!("{}-", env!("CARGO_PKG_VERSION"))) && first.len() > NAME_DIGITS);
        assert_eq!(first, name());
        let file = folder.path().join("usr/share/catseye/rigs/sim-car.toml");
        // neither the umask nor the owner of the build reach the name, only whether a file is a program
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert_eq!(first, name());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = name();
        assert_ne!(first, program);
        std::fs::write(&file, "riG").unwrap();
        assert_ne!(program, name());
        std::fs::rename(&file, file.with_file_name("car.toml")).unwrap();
        std::fs::create_dir_all(folder.path().join("usr/share/catseye")).unwrap();
        std::fs::write(folder.path().join(VERSION), "1.2.3\n").unwrap();
        assert!(name().starts_with("1.2.3-"));
    }

    #[test]
    fn a_manifest_is_one_of_sha256sum() {
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        std::fs::write(folder.path().join("sums"), release.manifest()).unwrap();
        let output = Command::new("sha256sum").args(["-c", "sums"]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(release.manifest().lines().count(), 3);
    }

    #[test]
    fn odd_names_links_that_lead_nowhere_and_trees_without_a_program_are_refused() {
        for name in ["a b", "a\nb", "a'b", "a\\b", "-rf", "ä", "$x"] {
            let folder = tree();
            std::fs::write(folder.path().join(name), "").unwrap();
            assert!(matches!(Release::from_tree(folder.path()), Err(DeployError::Name { .. })), "{name:?}");
        }
        let folder = tree();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(matches!(Release::from_tree(folder.path()), Err(DeployError::File { .. })));
        let folder = tree();
        std::fs::remove_file(folder.path().join(PROGRAM)).unwrap();
        assert!(matches!(Release::from_tree(folder.path()), Err(DeployError::File { .. })));
        std::fs::write(folder.path().join(PROGRAM), "#!/bin/sh\n# a script is no program for one machine").unwrap();
        assert!(matches!(Release::from_tree(folder.path()), Err(DeployError::Program { .. })));
    }

    #[test]
    fn an_archive_has_the_name_of_its_tree() {
        let (folder, place) = (tree(), tempfile::tempdir().unwrap());
        let file = place.path().join("catseye.tar.gz");
        let made = Command::new("tar").arg("-C").arg(folder.path()).arg("-czf").arg(&file).arg(".").status().unwrap();
        assert!(made.success());
        let release = Release::from_package(&file).unwrap();
        assert_eq!(release.name(), Release::from_tree(folder.path()).unwrap().name());
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(Release::from_package(&file), Err(DeployError::Package { .. })));
    }
}
