#!/usr/bin/env bash
# No change of the public interface that the version does not allow, compared with the last release. Needs
# cargo-semver-checks and a tag vX.Y.Z of the release; skipped with a message where either is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo semver-checks --version >/dev/null 2>&1 || {
    echo "SKIPPED: no cargo-semver-checks (cargo install --locked cargo-semver-checks)"
    exit 0
}
release=$(git describe --tags --match 'v*' --abbrev=0 2>/dev/null) || {
    echo "SKIPPED: no release yet"
    exit 0
}
cargo semver-checks --workspace --exclude graphpool-peers --exclude graphpool-candle --all-features \
    --baseline-rev "$release"
# Not its features for GPUs, which need a compiler or a system of their own.
cargo semver-checks -p graphpool-candle --only-explicit-features --features candle --baseline-rev "$release"
