#!/usr/bin/env bash
# Each fuzz target of fuzz/, fuzz/onnx/, fuzz/ggml/ and fuzz/wasmtime/ for so many seconds, under AddressSanitizer.
#
#     ci/fuzz.sh [SECONDS [TARGET]...]
#
# Needs a nightly toolchain, and is skipped with a message without one. Built with plain cargo and the flags that
# cargo-fuzz would give, so that nothing need be installed; `cargo fuzz run TARGET` works as well. The corpora are kept
# in the folder `corpus` of each package, where git ignores them; that of onnx_bytes begins with the digits model, what
# was found before, and the node tests where scripts/fetch_node_tests.sh has fetched them; that of ggml_load begins
# with a small model of each architecture.
#
# Nothing is to hang for more than a second past its deadline, which is at half a second. An input of more than two
# seconds is reported and kept as slow-unit-*, to be looked into; one of five ends the run, since on a busy machine and
# under AddressSanitizer two may pass without anybody's fault. What onnx_structure finds is kept as the bytes that it makes
# a model of; fuzz/onnx/regressions/README.md says how to write the model out, for the tests to run it again. MODEL_OUT
# does the same for ggml_load.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- pool_ops forged_handles onnx_bytes onnx_structure onnx_device ggml_load wasmtime_witx
cargo +nightly -V >/dev/null 2>&1 || {
    echo "SKIPPED: no nightly toolchain, so no fuzzing"
    exit 0
}

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/fuzz
flags=(
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address
)

seed() { # The models that onnx_bytes begins with.
    cp examples/models/digits/digits.onnx "$1/digits.onnx"
    for model in fuzz/onnx/regressions/*.onnx; do
        [ ! -f "$model" ] || cp "$model" "$1/"
    done
    for model in .cache/node-tests/*/model.onnx; do
        [ ! -f "$model" ] || cp "$model" "$1/$(basename "$(dirname "$model")").onnx"
    done
}

seed_ggml() { # The small models that ggml_load makes, one of each architecture, as the files that it begins with.
    local architecture
    for architecture in 0 1 2 3 4; do
        printf "\\0\\0\\0\\0\\0\\0\\0\\0\\$architecture" >"$1/architecture-$architecture"
        MODEL_OUT="$1/architecture-$architecture.gguf" "$2" "$1/architecture-$architecture" 2>/dev/null
    done
}

for name in "$@"; do
    case $name in
        onnx_*) folder=fuzz/onnx ;;
        ggml_*) folder=fuzz/ggml ;;
        wasmtime_*) folder=fuzz/wasmtime ;;
        *) folder=fuzz ;;
    esac
    features=()
    [ "$name" != onnx_device ] || features=(--features device)
    (cd "$folder" && RUSTFLAGS="${flags[*]}" cargo +nightly build --release --target "$host" \
        --target-dir "$target" --bin "$name" "${features[@]}")
    echo "== $name, $seconds s"
    corpus=$folder/corpus/$name artifacts=$folder/artifacts/$name
    mkdir -p "$corpus" "$artifacts"
    [ "$name" != onnx_bytes ] || seed "$corpus"
    [ "$name" != ggml_load ] || seed_ggml "$corpus" "$target/$host/release/$name"
    "$target/$host/release/$name" "$corpus" -artifact_prefix="$artifacts/" -max_total_time="$seconds" \
        -timeout=5 -report_slow_units=2 -rss_limit_mb=2048 -print_final_stats=1
done
