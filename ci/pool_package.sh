#!/usr/bin/env bash
# Writes a package into FOLDER that has the pool's tests and none of the dependencies that the root package's other tests
# have, for checks on which those would take longer to build than all the rest.
#
#     ci/pool_package.sh FOLDER TEST...
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
shift
mkdir -p "$folder/src"
: >"$folder/src/lib.rs"
cat >"$folder/Cargo.toml" <<END
[package]
name = "graphpool-pool-tests"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
graphpool = { path = "$PWD", default-features = false }
sharded-slab = "0.1.7"

[lints.rust]
unexpected_cfgs = { level = "warn", check-cfg = ["cfg(loom)", "cfg(shuttle)"] }

[profile.dev]
opt-level = 1
END
for test in "$@"; do
    printf '[[test]]\nname = "%s"\npath = "%s/tests/%s.rs"\n' "$test" "$PWD" "$test" >>"$folder/Cargo.toml"
done
cp Cargo.lock "$folder/"
