//! `cuda/tensorrt/shim.h` in Rust: written by the build out of that header.

// the names and the style of a C header
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/tensorrt_abi.rs"));
