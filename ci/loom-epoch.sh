#!/usr/bin/env bash
# The models of the pool and the epoch over the real crossbeam-epoch in place of its contract: every execution with one
# preemption (LOOM_EPOCH_BOUND), and with two those of tables and pages, which reclaim little. More don't end in minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
models() {
    RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --locked --no-default-features --test loom -- \
        --nocapture "$@"
}
models "$@"
if [ $# -eq 0 ] && [ -z "${LOOM_EPOCH_BOUND:-}" ]; then
    LOOM_EPOCH_BOUND=2 models growth:: indexes:: table::
fi
