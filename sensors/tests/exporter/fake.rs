//! Builds the exporter without a camera (`fake.c`), each time anew: a library has its cameras to itself then.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, in a folder of its own.
pub struct Fake {
    pub library: PathBuf,
    _folder: tempfile::TempDir,
}

/// `None`, said aloud, where there is no C compiler.
pub fn build(defines: &[&str]) -> Option<Fake> {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libfake_exporter.so");
    let sensors = Path::new(env!("CARGO_MANIFEST_DIR"));
    // the root package's tests build it too
    let sensors = if sensors.join("sensors").is_dir() { sensors.join("sensors") } else { sensors.to_owned() };
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread"]).args(defines);
    compiler.arg("-I").arg(sensors.join("src/exporter"));
    compiler.arg(sensors.join("tests/exporter/fake.c")).arg("-o").arg(&library);
    match compiler.output() {
        Err(error) => {
            eprintln!("skipped: no C compiler: {error}");
            None
        }
        Ok(built) => {
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            Some(Fake { library, _folder: folder })
        }
    }
}
