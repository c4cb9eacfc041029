#!/usr/bin/env bash
# The models, as users run them. Prints what each went through.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" cargo test --release --locked -- --nocapture
