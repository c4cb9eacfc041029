#!/usr/bin/env bash
# The documentation as docs.rs builds it: on nightly, with all features but those for GPUs.
# Skipped with a message without nightly.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo +nightly -V >/dev/null 2>&1 || {
    echo "SKIPPED: no nightly toolchain"
    exit 0
}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/docs
export RUSTDOCFLAGS="--cfg docsrs -D warnings"
cargo +nightly doc --locked --target-dir "$target" --all-features --no-deps --lib \
    -p graphpool -p graphpool-dylib -p graphpool-wasmtime
cargo +nightly doc --locked --target-dir "$target" --features candle,grammar,chat-template --no-deps --lib -p graphpool-candle
