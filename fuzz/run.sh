#!/bin/sh
# Runs fuzz targets, each for so many seconds of processor time, so that a busy machine shortens nothing; two at a time
# unless JOBS says otherwise. Ends with 1 if a target found something, which is kept in fuzz/artifacts. Seeds are in
# fuzz/corpus and are left as they are; what the fuzzer finds, and each target's log, goes to fuzz/found. Needs a nightly
# toolchain. An input may take two minutes by the clock, for a busy machine stands still now and then. DECODERS=1 leaves
# out what lies above the sensors and the calibration, and SANITIZER=none the address
# sanitizer: together they build in a fraction of the time. CARGO_TARGET_DIR says where.
set -eu
cd "$(dirname "$0")/.."
build=${CARGO_TARGET_DIR:-fuzz/target}
binaries=$build/$(rustc -vV | sed -n 's/^host: //p')/release

# one target, called by xargs below
if [ "${1:-}" = --one ]; then
    seconds=$2
    target=$3
    mkdir -p "fuzz/found/$target" "fuzz/artifacts/$target"
    "$binaries/$target" "fuzz/found/$target" "fuzz/corpus/$target" -timeout=120 -rss_limit_mb=4096 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" >"fuzz/found/$target.log" 2>&1 &
    process=$!
    while used=$(ps -o cputimes= -p "$process"); do
        if [ "$used" -ge "$seconds" ]; then
            kill -USR1 "$process" || true # ends in good order, with its figures
            break
        fi
        sleep 2
    done
    status=0
    wait "$process" || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz/found/$target.log")
    if [ "$status" -eq 0 ]; then
        echo "clean  $target  $seconds s  ${runs:-?} runs"
        exit 0
    fi
    echo "FOUND  $target: see fuzz/found/$target.log"
    exit 1
fi

if [ $# -lt 1 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: fuzz/run.sh SECONDS_PER_TARGET [TARGET...]" >&2
    exit 2
fi
seconds=$1
shift
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
# more, smaller pieces compile in a third of the time and run hardly slower
cargo +nightly fuzz build --codegen-units 16 --target-dir "$build" --sanitizer "${SANITIZER:-address}" \
    ${DECODERS:+--no-default-features}
# those that were built
[ $# -gt 0 ] || set -- $(for target in $(cargo +nightly fuzz list); do
    if [ -x "$binaries/$target" ]; then echo "$target"; fi
done)
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I {} "$0" --one "$seconds" {}
