#!/usr/bin/env bash
# Each fuzz target of fuzz/ for so many seconds, under AddressSanitizer.
#
#     ci/fuzz.sh [SECONDS [TARGET]...]
#
# Needs a nightly toolchain, and is skipped with a message without one. Built with plain cargo and the flags that
# cargo-fuzz would give, so that nothing need be installed; `cargo fuzz run TARGET` works as well.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- pool_ops forged_handles
cargo +nightly -V >/dev/null 2>&1 || {
    echo "SKIPPED: no nightly toolchain, so no fuzzing"
    exit 0
}

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
flags=(
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address
)
RUSTFLAGS="${flags[*]}" cargo +nightly build --release --target "$host" --target-dir "$target"
for name in "$@"; do
    echo "== $name, $seconds s"
    mkdir -p "corpus/$name" "artifacts/$name"
    "$target/$host/release/$name" "corpus/$name" -artifact_prefix="artifacts/$name/" -max_total_time="$seconds" \
        -timeout=10 -print_final_stats=1
done
