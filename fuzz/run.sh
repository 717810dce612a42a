#!/bin/sh
# Runs every fuzz target for some seconds, one after another; stops at the first crash, which is kept in fuzz/artifacts.
# Seeds are in fuzz/corpus and are left as they are; what the fuzzer finds goes to fuzz/found. Needs a nightly toolchain.
set -eu

if [ $# -ne 1 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: fuzz/run.sh SECONDS_PER_TARGET" >&2
    exit 2
fi
seconds=$1

cd "$(dirname "$0")/.."
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
targets=$(cargo +nightly fuzz list)
for target in $targets; do
    echo "== $target, $seconds s"
    mkdir -p "fuzz/found/$target"
    cargo +nightly fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=16384 -print_final_stats=1
done
