#!/usr/bin/env bash
# Every set of features of graphpool builds and documents without a warning, and the libraries for C build without theirs.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTDOCFLAGS="-D warnings"
sets=()
for watch in "" watch; do
    for metrics in "" metrics; do
        for conformance in "" conformance; do
            sets+=("nn $watch $metrics $conformance")
        done
    done
done
for features in "" "${sets[@]}"; do
    echo "== features: ${features:-none}"
    cargo clippy --quiet --locked --no-default-features --features "$features" --lib -- -D warnings
    cargo doc --quiet --locked --no-default-features --features "$features" --no-deps --lib
done
for features in "" ggml chat-template grammar candle; do
    echo "== features of graphpool-candle: ${features:-none}"
    cargo clippy --quiet --locked -p graphpool-candle --features "$features" --lib -- -D warnings
    cargo doc --quiet --locked -p graphpool-candle --features "$features" --no-deps --lib
done
cargo clippy --quiet --locked -p graphpool-c --no-default-features -- -D warnings
