#!/usr/bin/env bash
# The host for Wasmtime, in one set of features, with the guest programs in C and in Rust. They are built first, from
# Debian's packages if no compiler for them is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build_guests.sh
cargo test --locked -p graphpool-wasmtime
