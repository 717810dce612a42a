//! Writes down what the build is made with, for the header of every log. With the GPU features it will compile `cuda/`.

use std::process::Command;

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
}
