//! Every kernel file, compiled by every compiler for every device, becomes a table that the library embeds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::compilers;

/// Orin, and Hopper for development. `CATSEYE_SM` names others.
const DEVICES: &str = "87,90";

/// Writes `cubins.rs` and the cubins it includes into `out`.
pub fn write(out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=CATSEYE_SM");
    let wanted =
        std::env::var("CATSEYE_SM").ok().filter(|named| !named.is_empty()).unwrap_or_else(|| DEVICES.to_owned());
    let wanted: Vec<u32> = wanted
        .split(',')
        .map(|device| device.trim().parse().map_err(|_| format!("CATSEYE_SM: {device:?} is no number like 87")))
        .collect::<Result<_, _>>()?;
    let files = kernel_files()?;

    let mut table = String::from("&[\n");
    for compiler in compilers::find()? {
        let (major, minor) = compiler.version;
        for &device in wanted.iter().filter(|device| compiler.devices.contains(device)) {
            for file in &files {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                let name = format!("{stem}-cuda{major}.{minor}-sm{device}.cubin");
                let bytes = compiler.compile(file, device)?;
                std::fs::write(out.join(&name), bytes).map_err(|error| format!("{name}: {error}"))?;
                let _ = writeln!(
                    table,
                    "    Cubin {{ compiler: ({major}, {minor}), device: ({}, {}), file: \"{stem}.cu\", \
                     bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")) }},",
                    device / 10,
                    device % 10
                );
            }
        }
    }
    table.push_str("]\n");
    std::fs::write(out.join("cubins.rs"), table).map_err(|error| format!("cubins.rs: {error}"))
}

fn kernel_files() -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir("cuda").map_err(|error| format!("cuda/: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    files.sort();
    Ok(files)
}
