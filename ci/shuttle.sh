#!/usr/bin/env bash
# Long histories under random schedules. Prints how many schedules there were, and their seed.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg shuttle" cargo test --release --locked --no-default-features --test shuttle -- --nocapture
