#!/usr/bin/env bash
# Every package builds with the Rust version that Cargo.toml promises. Skipped with a message where it is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)
rustup run "$version" cargo -V || {
    echo "SKIPPED: no Rust $version (rustup toolchain install $version --profile minimal)"
    exit 0
}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/msrv
packages=(-p graphpool -p graphpool-dylib -p graphpool-wasmtime -p graphpool-ffi -p graphpool-c -p graphpool-wamr)
rustup run "$version" cargo check --locked --target-dir "$target" "${packages[@]}" --all-features --lib
# Not its features for GPUs, which need a compiler or a system of their own.
rustup run "$version" cargo check --locked --target-dir "$target" -p graphpool-candle --features candle --lib
