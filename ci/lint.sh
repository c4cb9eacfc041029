#!/usr/bin/env bash
# clippy and rustdoc, with every warning an error.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --workspace --all-targets --features graphpool-candle/candle,graphpool-candle/grammar,graphpool-candle/chat-template --locked -- -D warnings
cargo clippy --no-default-features --lib --locked -- -D warnings
cargo clippy --no-default-features --features nn,watch,conformance,metrics --all-targets --locked -- -D warnings
RUSTFLAGS="--cfg loom" cargo clippy --no-default-features --features nn --lib --test loom --locked -- -D warnings
RUSTFLAGS="--cfg shuttle" cargo clippy --no-default-features --lib --test shuttle --locked -- -D warnings
# The fuzz targets, which are packages of their own.
for folder in fuzz fuzz/onnx fuzz/ggml fuzz/wasmtime; do
    cargo check --locked --all-features --manifest-path "$folder/Cargo.toml" --target-dir target/fuzz-check
done
export RUSTDOCFLAGS="-D warnings"
cargo doc --workspace --features graphpool-candle/candle,graphpool-candle/grammar,graphpool-candle/chat-template --no-deps --locked
cargo doc -p graphpool --all-features --no-deps --locked
cargo doc -p graphpool --no-default-features --no-deps --locked
