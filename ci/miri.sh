#!/usr/bin/env bash
# The pool's and the table's tests, and those of what reads and writes C's memory, under miri, which interprets them and
# reports undefined behaviour.
#
#     ci/miri.sh [TEST...]
#
# Needs a nightly toolchain with miri and rust-src, and is skipped with a message without. Tests that make millions of
# entries or thousands of threads are left out: miri runs some thousand times slower than the processor.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo +nightly miri --version >/dev/null 2>&1 || {
    echo "SKIPPED: no nightly toolchain with miri (rustup component add miri rust-src --toolchain nightly)"
    exit 0
}
[ $# -gt 0 ] || set -- pool table
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/miri
bash ci/pool_package.sh "$target/tests" "$@"
cd "$target/tests"
# What the collector keeps for the process is alive at its end, and no leak. Its lists are sound under tree borrows, and
# not under the stricter stacked borrows (crossbeam-epoch, entries of the list of participants).
export MIRIFLAGS="-Zmiri-ignore-leaks -Zmiri-tree-borrows" CARGO_TARGET_DIR=$target/build
cargo +nightly miri test --tests
cd - >/dev/null
cargo +nightly miri test --locked -p graphpool-ffi --lib
