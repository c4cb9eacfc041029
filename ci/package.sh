#!/usr/bin/env bash
# What a dependent gets: the packages as they would be published, unpacked, and a crate outside of the repository that
# depends on them and runs the README's first example. Checks what the packages hold, too.
#
# Two minutes on two cores where nothing is built yet. What is built stays in the target directory.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/package-check
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All at once: each is resolved with the others as they are here, which need not be published yet.
rm -rf "$target/package"
packages=(graphpool graphpool-candle graphpool-dylib graphpool-wasmtime graphpool-ffi graphpool-c graphpool-wamr)
cargo package --quiet --locked --no-verify --allow-dirty --target-dir "$target" "${packages[@]/#/-p}"
for name in "${packages[@]}"; do
    mkdir "$work/$name"
    tar -xzf "$target/package/$name"-[0-9]*.crate -C "$work/$name" --strip-components 1
    for file in Cargo.toml README.md LICENSE-MIT LICENSE-APACHE src/lib.rs; do
        [ -s "$work/$name/$file" ] || { echo "the package $name lacks $file" >&2 && exit 1; }
    done
    extra=$(cd "$work/$name" && find . -type f | grep -vE '^./(Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json|build\.rs|README\.md|CHANGELOG\.md|SECURITY\.md|LICENSE-(MIT|APACHE))$' |
        grep -vE '^./(src/.*\.(rs|md)|src/cuda/functions\.txt|wit/.*\.wit|include/graphpool\.h|cbindgen\.toml|graphpool\.pc\.in)$' || true)
    extra+=$(cd "$work/$name" && find . -type d -name tests)
    [ -z "$extra" ] || { printf 'the package %s holds what nobody who depends on it needs:\n%s\n' "$name" "$extra" >&2 && exit 1; }
done

mkdir -p "$work/dependent/src" "$work/dependent/examples/models/digits"
cat >"$work/dependent/Cargo.toml" <<END
[package]
name = "dependent"
version = "0.0.0"
edition = "2024"

[dependencies]
graphpool = "*"
graphpool-candle = "*"

[patch.crates-io]
graphpool = { path = "$work/graphpool" }
graphpool-candle = { path = "$work/graphpool-candle" }
END
{
    echo 'fn main() -> Result<(), Box<dyn std::error::Error>> {'
    sed -n '/^```rust$/,/^```$/{//!p;/^```$/q}' README.md
    echo '    Ok(())'
    echo '}'
} >"$work/dependent/src/main.rs"
cp Cargo.lock "$work/dependent/"
cp examples/models/digits/digits.onnx "$work/dependent/examples/models/digits/"
cd "$work/dependent"
output=$(CARGO_TARGET_DIR=$target cargo run --quiet)
echo "$output"
# Ten probabilities.
[[ $output =~ ^Some\(\[([0-9.e-]+,\ ){9}[0-9.e-]+\]\)$ ]]
