#!/usr/bin/env bash
# Everything at once, for ten seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --example soak -- --seconds 10
