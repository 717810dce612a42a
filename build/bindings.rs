//! `cuda/catseye.h` becomes `abi.rs`: the structs that kernels take, each with the promise that it may be launched with.

use std::fmt::Write as _;
use std::path::Path;

const NO_LIBCLANG: &str = "the feature `cuda` needs libclang to read cuda/catseye.h, and it was not found.\n\
    Debian and Ubuntu: apt install libclang-dev. Anywhere: pip install libclang, then set LIBCLANG_PATH to its folder \
    site-packages/clang/native.";

/// Writes `abi.rs` into `out`.
pub fn write(out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    // bindgen panics where libclang is missing
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(bindgen::clang_version);
    std::panic::set_hook(hook);
    found.map_err(|_| NO_LIBCLANG.to_owned())?;

    let bindings = bindgen::Builder::default()
        .header("cuda/catseye.h")
        .clang_arg("-DCATSEYE_BINDGEN")
        .allowlist_item("(Catseye|CATSEYE_).*")
        .derive_default(true)
        .derive_partialeq(true)
        .use_core()
        .generate()
        .map_err(|error| format!("cuda/catseye.h: {error}"))?;
    let mut text = bindings.to_string();
    let params: Vec<String> = struct_names(&text).filter(|name| name.ends_with("Params")).map(str::to_owned).collect();
    for name in params {
        let _ = write!(
            text,
            "\n// SAFETY: plain numbers in the layout of C, from the header that the kernel was compiled with.\n\
             unsafe impl crate::gpu::KernelParams for {name} {{}}\n"
        );
    }
    std::fs::write(out.join("abi.rs"), text).map_err(|error| format!("{}/abi.rs: {error}", out.display()))
}

fn struct_names(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("pub struct ").skip(1);
    after.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
}
