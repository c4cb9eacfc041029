#!/usr/bin/env bash
# The models of the pool and the epoch over the real crossbeam-epoch in place of its contract: every execution with at
# most LOOM_EPOCH_BOUND (2) preemptions, which is as far as it ends in minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --locked --no-default-features --test loom -- \
    --nocapture "$@"
