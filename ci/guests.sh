#!/usr/bin/env bash
# The main job, for two seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --example guests -- --seconds 2
