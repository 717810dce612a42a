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
    compile("CC", "cc", "-std=gnu11", "fake.c", defines)
}

/// The compiler for the processor that these tests run on, which `cross/test` emulates: named as the `cc` crate wants it named.
fn compiler(variable: &str, usual: &str) -> String {
    std::env::var(format!("{variable}_{}_unknown_linux_gnu", std::env::consts::ARCH))
        .unwrap_or_else(|_| usual.to_owned())
}

/// A source of this folder as a library.
pub fn compile(variable: &str, usual: &str, standard: &str, source: &str, defines: &[&str]) -> Option<Fake> {
    let compiler = compiler(variable, usual);
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libfake_exporter.so");
    let sensors = Path::new(env!("CARGO_MANIFEST_DIR"));
    // the root package's tests build it too
    let sensors = if sensors.join("sensors").is_dir() { sensors.join("sensors") } else { sensors.to_owned() };
    let mut command = Command::new(&compiler);
    command.args([standard, "-O1", "-shared", "-fPIC", "-pthread"]).args(defines);
    command.arg("-I").arg(sensors.join("src/exporter"));
    command.arg(sensors.join("tests/exporter").join(source)).arg("-o").arg(&library);
    match command.output() {
        Err(error) => {
            eprintln!("skipped: no {compiler}: {error}");
            None
        }
        Ok(built) => {
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            Some(Fake { library, _folder: folder })
        }
    }
}
