#!/usr/bin/env bash
# The host for Wasmtime, in one set of features, with the guest programs in C and in Rust. They are built first, from
# Debian's packages if no compiler for them is installed; where neither can be had, the tests say what they skip.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
scripts/build_guests.sh || status=$?
case $status in
0) ;;
75) echo "SKIPPED: no compiler for the guest programs" ;;
*) exit "$status" ;;
esac
cargo test --locked -p graphpool-wasmtime
