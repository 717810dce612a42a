# `just` lists what there is.

[private]
default:
    @just --list

# all tests; those on real drives need ../shared/data and say so where it is absent
test:
    cargo test --release --workspace

# formatting, clippy, licences and sources of dependencies
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check licenses bans sources

# what a hop through a queue costs, against other queues; arguments as in `just bench --rounds 15`
bench *ARGUMENTS:
    cargo bench --bench queue_hop -- {{ARGUMENTS}}

# the recorder at the rate of twelve cameras and a lidar, and unpaced against dd; arguments as in `just bench-recorder --seconds 60`
bench-recorder *ARGUMENTS:
    cargo bench --bench recorder -- {{ARGUMENTS}}

# a chain of trivial stages against the Copper runtime
bench-chain *ARGUMENTS:
    cd benches/peers/chain && cargo run --release -- {{ARGUMENTS}}

# the documentation of the library and its two crates
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# the guide as a book, beside the pages of `just doc` (needs mdbook)
guide:
    mdbook build docs/guide

# live sensors in a virtual machine with the kernel's test drivers
vm:
    tests/vm/run

# every reader of outside bytes, so many seconds each (nightly toolchain)
fuzz SECONDS="60":
    fuzz/run.sh {{SECONDS}}

# the readers of sensors and rigs alone, without address sanitizer: builds in a fraction of the time
fuzz-decoders SECONDS="60":
    DECODERS=1 SANITIZER=none fuzz/run.sh {{SECONDS}}

# every interleaving of the lock-free types
loom:
    cd tests/model && RUSTFLAGS="--cfg loom" cargo test --release

# the lock-free types under Miri (nightly toolchain with miri)
miri:
    cd tests/model && cargo +nightly miri test

# binaries for Jetson Orin (or `just cross --profile server`), with a glibc 2.31 floor, into target/dist
cross *ARGUMENTS:
    cross/build {{ARGUMENTS}}

# a .deb and a tar of each architecture that `just cross` has built
package *ARCHITECTURES="arm64":
    cross/package/build {{ARCHITECTURES}}

# all tests on arm64, under qemu-user; arguments as for cargo test
test-arm64 *ARGUMENTS:
    cross/test {{ARGUMENTS}}

# the recorded drives on x86-64 and on arm64: equal digests
agree:
    cross/agree
