//! Finds the CUDA compilers of a build: one nvcc, and NVRTC libraries of other versions for the drivers of their time.
//!
//! A cubin loads only into a driver of the same or a newer major version than its compiler's, and on PyPI and on a desktop
//! the compiler is usually newer than the driver of a car's computer. So a build takes several.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::nvrtc::Nvrtc;

/// Kernels and CPU code give the same bits only if no operation is fused or rounded otherwise.
pub const EXACT: [&str; 4] = ["-fmad=false", "-prec-div=true", "-prec-sqrt=true", "-ftz=false"];

const NO_COMPILER: &str = "the feature `cuda` needs a CUDA compiler, and none was found.\n\
    Looked for nvcc in CATSEYE_NVCC, CUDA_HOME/bin, CUDA_PATH/bin, PATH and /usr/local/cuda/bin, and for NVRTC libraries in \
    CATSEYE_NVRTC (paths of libnvrtc.so or of folders, separated by `:`).\n\
    Without a CUDA toolkit: pip install nvidia-cuda-nvrtc-cu12, then set CATSEYE_NVRTC to its folder \
    site-packages/nvidia/cuda_nvrtc/lib.";

/// Something that makes cubins.
pub enum Tool {
    Nvcc(PathBuf),
    Nvrtc(Nvrtc),
}

/// A tool, its version (major, minor), and the devices it compiles for (87 for sm_87).
pub struct Compiler {
    pub tool: Tool,
    pub version: (u32, u32),
    pub devices: Vec<u32>,
}

impl Compiler {
    /// Compiles a file of `cuda/` for one device. Warnings go to the person who builds.
    pub fn compile(&self, file: &Path, device: u32) -> Result<Vec<u8>, String> {
        let (bytes, log) = match &self.tool {
            Tool::Nvcc(nvcc) => compile_with_nvcc(nvcc, file, device),
            Tool::Nvrtc(nvrtc) => nvrtc.compile(file, device),
        }
        .map_err(|reason| {
            format!("{} for sm_{device}, CUDA {}.{}:\n{reason}", file.display(), self.version.0, self.version.1)
        })?;
        for line in log.lines().filter(|line| !line.trim().is_empty()) {
            println!("cargo::warning={line}");
        }
        Ok(bytes)
    }
}

/// All compilers there are, each version once, newest first.
pub fn find() -> Result<Vec<Compiler>, String> {
    for variable in ["CATSEYE_NVCC", "CATSEYE_NVRTC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let mut compilers = Vec::new();
    if let Some(nvcc) = find_nvcc()? {
        compilers.push(of_nvcc(nvcc)?);
    }
    for library in nvrtc_libraries()? {
        let nvrtc = Nvrtc::open(&library)?;
        let (version, devices) = (nvrtc.version()?, nvrtc.devices()?);
        if compilers.iter().all(|known: &Compiler| known.version != version) {
            compilers.push(Compiler { tool: Tool::Nvrtc(nvrtc), version, devices });
        }
    }
    if compilers.is_empty() {
        return Err(NO_COMPILER.to_owned());
    }
    compilers.sort_by_key(|compiler| std::cmp::Reverse(compiler.version));
    Ok(compilers)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn find_nvcc() -> Result<Option<PathBuf>, String> {
    if let Some(named) = variable("CATSEYE_NVCC") {
        let nvcc = PathBuf::from(&named);
        return if nvcc.is_file() { Ok(Some(nvcc)) } else { Err(format!("CATSEYE_NVCC: there is no file {named}")) };
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(|home| Path::new(&home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = homes.chain(std::env::split_paths(&path)).chain([PathBuf::from("/usr/local/cuda/bin")]);
    Ok(folders.map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file()))
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
}

fn of_nvcc(nvcc: PathBuf) -> Result<Compiler, String> {
    let said = |argument: &str| {
        run(Command::new(&nvcc).arg(argument)).map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let banner = said("--version")?;
    let version = banner.split("release ").nth(1).and_then(|rest| rest.split(',').next()).and_then(|release| {
        let (major, minor) = release.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let version = version.ok_or_else(|| format!("{}: no release in {banner:?}", nvcc.display()))?;
    let devices =
        said("--list-gpu-code")?.lines().filter_map(|line| line.trim().strip_prefix("sm_")?.parse().ok()).collect();
    Ok(Compiler { tool: Tool::Nvcc(nvcc), version, devices })
}

fn compile_with_nvcc(nvcc: &Path, file: &Path, device: u32) -> Result<(Vec<u8>, String), String> {
    let cubin = Path::new(&variable("OUT_DIR").unwrap_or_default()).join("nvcc.cubin");
    let mut command = Command::new(nvcc);
    command.args(["-cubin", "-O3", "-std=c++17", "-Icuda"]).args(EXACT).arg(format!("-arch=sm_{device}"));
    let output = run(command.arg("-o").arg(&cubin).arg(file))?;
    let bytes = std::fs::read(&cubin).map_err(|error| format!("{}: {error}", cubin.display()))?;
    Ok((bytes, String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn nvrtc_libraries() -> Result<Vec<PathBuf>, String> {
    let named = variable("CATSEYE_NVRTC").unwrap_or_default();
    named.split(':').filter(|entry| !entry.is_empty()).map(|entry| nvrtc_library(Path::new(entry))).collect()
}

/// A library, or the first in a folder by name.
fn nvrtc_library(entry: &Path) -> Result<PathBuf, String> {
    if entry.is_file() {
        return Ok(entry.to_owned());
    }
    let files = std::fs::read_dir(entry).map_err(|error| format!("CATSEYE_NVRTC: {}: {error}", entry.display()))?;
    let is_library = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libnvrtc.so"))
    };
    let first = files.filter_map(|file| Some(file.ok()?.path())).filter(is_library).min();
    first.ok_or_else(|| format!("CATSEYE_NVRTC: there is no libnvrtc.so in {}", entry.display()))
}
