//! Compiles the C face of TensorRT, `cuda/tensorrt/shim.cpp`, once for each version whose headers are at hand, and translates its
//! header to `tensorrt_abi.rs`. TensorRT itself is not linked: its libraries are opened at run time, each by the newest headers
//! that are not newer than it, since interfaces only grow within a major.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A major and a minor version.
type Version = (u32, u32);

/// The majors that the shim knows; `catseye_trt8` and so on are set for those that are compiled in.
const MAJORS: [u32; 3] = [8, 10, 11];

/// Where packages and SDKs put the headers.
const FOLDERS: [&str; 6] = [
    "/usr/include/x86_64-linux-gnu",
    "/usr/include/aarch64-linux-gnu",
    "/usr/local/tensorrt/include",
    "/usr/local/TensorRT/include",
    "/opt/tensorrt/include",
    "/usr/include",
];

const VARIABLE: &str = "CATSEYE_TENSORRT_INCLUDE";

/// Compiles the shims and writes `tensorrt_abi.rs` into `out`.
pub fn write(out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    for major in MAJORS {
        println!("cargo::rustc-check-cfg=cfg(catseye_trt{major})");
    }
    let folders = header_folders();
    let headers = find_headers(&folders)?;
    for (version, folder) in &headers {
        compile(*version, folder)?;
    }
    for major in MAJORS.into_iter().filter(|major| headers.keys().any(|(of_headers, _)| of_headers == major)) {
        println!("cargo::rustc-cfg=catseye_trt{major}");
    }
    write_bindings(out, headers.keys())
}

fn header_folders() -> Vec<PathBuf> {
    match std::env::var(VARIABLE) {
        Ok(list) if !list.is_empty() => std::env::split_paths(&list).collect(),
        _ => FOLDERS.iter().map(PathBuf::from).collect(),
    }
}

/// The first folder of each version.
fn find_headers(folders: &[PathBuf]) -> Result<BTreeMap<Version, PathBuf>, String> {
    let mut headers = BTreeMap::new();
    for folder in folders {
        let version = folder.join("NvInferVersion.h");
        let Ok(text) = std::fs::read_to_string(&version) else { continue };
        println!("cargo::rerun-if-changed={}", version.display());
        let number = |name| define(&text, name).ok_or(format!("{}: no {name} in it", version.display()));
        let (major, minor) = (number("NV_TENSORRT_MAJOR")?, number("NV_TENSORRT_MINOR")?);
        if !MAJORS.contains(&major) {
            println!("cargo::warning={}: TensorRT {major} is not supported, but 8, 10 and 11 are", folder.display());
            continue;
        }
        for name in ["NvInfer.h", "NvOnnxParser.h"] {
            if !folder.join(name).is_file() {
                return Err(format!("{} is not beside {}", name, version.display()));
            }
        }
        headers.entry((major, minor)).or_insert_with(|| folder.clone());
    }
    if headers.is_empty() {
        let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return Err(format!(
            "the feature `tensorrt` needs TensorRT's headers (NvInfer.h, NvOnnxParser.h), and none were found in {}.\n\
             Ubuntu, JetPack and DRIVE OS: apt install libnvinfer-headers-dev libnvonnxparsers-dev. Elsewhere: unpack a \
             TensorRT archive, or take `include` of github.com/NVIDIA/TensorRT and NvOnnxParser.h of \
             github.com/onnx/onnx-tensorrt into one folder, and set {VARIABLE} to it. Several folders, separated by `:`, \
             put several versions into one program. The libraries are not needed for building.",
            looked.join(", ")
        ));
    }
    Ok(headers)
}

/// The number that a name stands for, which may be another name.
fn define(text: &str, name: &str) -> Option<u32> {
    let mut wanted = name.to_owned();
    // names stand for names once or twice
    for _ in 0..4 {
        let value = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let is_define = words.next() == Some("#define") && words.next() == Some(wanted.as_str());
            is_define.then(|| words.next()).flatten()
        })?;
        match value.parse() {
            Ok(number) => return Some(number),
            Err(_) => value.clone_into(&mut wanted),
        }
    }
    None
}

/// What the names of a version's shim begin with, as `shim.cpp` makes them.
fn shim_name((major, minor): Version) -> String {
    format!("catseye_trt{major}_{minor}")
}

fn compile(version: Version, headers: &Path) -> Result<(), String> {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .file("cuda/tensorrt/shim.cpp")
        .include("cuda/tensorrt")
        .include("cuda/tensorrt/stand_in")
        .flag("-isystem")
        .flag(headers)
        .flag("-Wno-deprecated-declarations")
        .flag("-fvisibility=hidden")
        .cargo_warnings(true);
    let failed = |error| format!("cuda/tensorrt/shim.cpp with {}: {error}", headers.display());
    build.try_compile(&shim_name(version)).map_err(failed)
}

/// `shim.h` in Rust, and `SHIMS`, the functions that give the tables.
fn write_bindings<'v>(out: &Path, versions: impl Iterator<Item = &'v Version>) -> Result<(), String> {
    let bindings = bindgen::Builder::default()
        .header("cuda/tensorrt/shim.h")
        .clang_arg("-DCATSEYE_BINDGEN")
        .allowlist_item("(catseye|Catseye|CATSEYE).*")
        .prepend_enum_name(false)
        .derive_default(true)
        .use_core()
        .generate()
        .map_err(|error| format!("cuda/tensorrt/shim.h: {error}"))?;
    let functions: Vec<String> = versions.map(|version| format!("{}_api", shim_name(*version))).collect();
    let shims = format!(
        "unsafe extern \"C\" {{ {} }}\npub const SHIMS: &[unsafe extern \"C\" fn() -> *const CatseyeTrtApi] = &[{}];\n",
        functions.iter().map(|name| format!("fn {name}() -> *const CatseyeTrtApi;")).collect::<String>(),
        functions.join(", ")
    );
    let path = out.join("tensorrt_abi.rs");
    std::fs::write(&path, format!("{bindings}\n{shims}")).map_err(|error| format!("{}: {error}", path.display()))
}
