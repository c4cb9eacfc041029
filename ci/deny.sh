#!/usr/bin/env bash
# Licences, sources, bans and advisories of all dependencies, as deny.toml says. Needs cargo-deny, and the network for the
# advisories; skipped with a message without the former.
#
#     ci/deny.sh [licenses|sources|bans|advisories]...
set -euo pipefail
cd "$(dirname "$0")/.."
cargo deny --version >/dev/null 2>&1 || {
    echo "SKIPPED: no cargo-deny (cargo install --locked cargo-deny)"
    exit 0
}
cargo deny --workspace --all-features --locked check "$@"
