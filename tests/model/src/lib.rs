//! The lock-free types of the runtime, from its very files, with nothing around them.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release` explores every interleaving of their models; `cargo +nightly miri test`
//! runs their tests under Miri.

pub mod runtime;
