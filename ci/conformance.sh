#!/usr/bin/env bash
# The node tests of ONNX: fails on any wrong answer or panic, and on fewer passes than are recorded. The newer ones run
# where scripts/make_node_tests.sh has made them; the run says so where it has not.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked -p graphpool-candle --example onnx_conformance -- --check
