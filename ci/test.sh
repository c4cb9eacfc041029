#!/usr/bin/env bash
# The tests, as users run them, and the size of the dependency tree that the pool alone brings.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked
# The features that are not on by default.
cargo test --locked --no-default-features --features nn,watch,conformance,metrics --test nn
cargo test --locked --no-default-features --features nn,watch,conformance,metrics --doc nn::
crates=$(cargo tree --locked --no-default-features --edges normal --prefix none | awk '{print $1, $2}' | sort -u | wc -l)
echo "crates in the pool's own tree: $crates"
[ "$crates" -le 12 ]
