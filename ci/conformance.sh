#!/usr/bin/env bash
# The node tests of ONNX: fails on any wrong answer or panic, and on fewer passes than are recorded.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --example onnx_conformance -- --check
