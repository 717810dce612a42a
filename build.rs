//! Writes down what the build is made with, for the header of every log. With the feature `cuda` it compiles the kernels in
//! `cuda/` and translates their header into Rust.

use std::process::Command;

#[cfg(feature = "cuda")]
#[path = "build/bindings.rs"]
mod bindings;
#[cfg(feature = "cuda")]
#[path = "build/compilers.rs"]
mod compilers;
#[cfg(feature = "cuda")]
#[path = "build/cubins.rs"]
mod cubins;
#[cfg(feature = "cuda")]
#[path = "build/nvrtc.rs"]
mod nvrtc;
#[cfg(feature = "tensorrt")]
#[path = "build/tensorrt.rs"]
mod tensorrt;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_cargo = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = Command::new(of_cargo("RUSTC"))
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    println!("cargo::rustc-env=CATSEYE_RUSTC={rustc}");
    println!("cargo::rustc-env=CATSEYE_TARGET={}", of_cargo("TARGET"));
    println!("cargo::rustc-env=CATSEYE_TARGET_FEATURES={}", of_cargo("CARGO_CFG_TARGET_FEATURE"));
    println!("cargo::rustc-env=CATSEYE_PROFILE={}", of_cargo("PROFILE"));
    #[cfg(feature = "cuda")]
    cuda(std::path::Path::new(&of_cargo("OUT_DIR")));
}

/// What the feature `cuda` needs, or the reason why it cannot be built.
#[cfg(feature = "cuda")]
fn cuda(out: &std::path::Path) {
    println!("cargo::rerun-if-changed=cuda");
    let written = bindings::write(out).and_then(|()| cubins::write(out));
    #[cfg(feature = "tensorrt")]
    let written = written.and_then(|()| tensorrt::write(out));
    if let Err(reason) = written {
        for line in reason.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}
