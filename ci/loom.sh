#!/usr/bin/env bash
# The models, as users run them. Prints what each went through.
set -euo pipefail
cd "$(dirname "$0")/.."
if RUSTFLAGS="--cfg loom" cargo tree --locked --edges normal --prefix none | grep -q '^candle'; then
    echo "candle is in the verification build" >&2
    exit 1
fi
RUSTFLAGS="--cfg loom" cargo test --release --locked -- --nocapture
