#!/usr/bin/env bash
# The tests, as users run them, those of the other backends, and the sizes of the dependency trees that the pool and the
# engine bring.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked
cargo test --locked -p graphpool-candle --features candle,grammar,chat-template
cargo test --locked -p graphpool-dylib
# The features that are not on by default.
cargo test --locked --no-default-features --features nn,watch,conformance,metrics --test nn
cargo test --locked --no-default-features --features nn,watch,conformance,metrics --doc -- nn:: docs::guide
crates() {
    cargo tree --locked -p graphpool --edges normal --prefix none "$@" | awk '{print $1, $2}' | sort -u | wc -l
}
pool=$(crates --no-default-features) engine=$(crates)
echo "crates in the tree of the pool: $pool, of the engine without a backend: $engine"
[ "$pool" -le 12 ] && [ "$engine" -le 25 ]
