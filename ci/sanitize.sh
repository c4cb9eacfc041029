#!/usr/bin/env bash
# The tests and the stress test under AddressSanitizer with LeakSanitizer, under ThreadSanitizer, and under valgrind.
#
#     ci/sanitize.sh [address|thread|valgrind]...
#
# The sanitizers need a nightly toolchain, and what is not installed is skipped with a message.
#
# What they can't see. std comes compiled, without instrumentation (no -Zbuild-std). AddressSanitizer watches std's
# allocations all the same, since it replaces the allocator. ThreadSanitizer doesn't know the synchronisation inside of
# std's compiled code, nor any fence (a pin has one, and the end of an Arc), and takes what these order for races. Left
# out of its reports are therefore the test harness's channel, the making of statics, the slab's numbering of threads
# (each under a mutex of std's), and the end of Arcs; what is left to find is a race in
# plain accesses to slots, chunks, pages and lanes that no suppressed frame is part of. It says nothing of orderings
# that this machine is too strong to get wrong: those are loom's to check.
#
# The stress test runs once with few threads, which keep their lanes, and once with more than there are lanes to keep.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}/sanitize
host=$(rustc -vV | sed -n 's/^host: //p')
tests=(--test state_machine --test pool --test reclamation --test reuse --test stress --test table)
flags=(--locked --no-default-features)
# Reports name lines, and suppressions what is inlined.
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only

nightly() {
    cargo +nightly -V >/dev/null 2>&1 || {
        echo "SKIPPED: no nightly toolchain, so no sanitizers"
        return 1
    }
}

address() {
    nightly || return 0
    RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
        PROPTEST_CASES=64 STRESS_ROUNDS=${STRESS_ROUNDS:-100000} \
        cargo +nightly test --release "${flags[@]}" --target "$host" --target-dir "$target/address" "${tests[@]}"
}

thread() {
    nightly || return 0
    local suppressions=$target/thread/suppressions.txt
    mkdir -p "$target/thread"
    printf '%s\n' race:std::sync::mpmc race:std::sync::lazy_lock \
        race:sharded_slab::tid race:alloc::sync::Arc race:alloc::vec::Vec >"$suppressions"
    # -Cunsafe-allow-abi-mismatch: std is not instrumented, as said above.
    export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
    export TSAN_OPTIONS="suppressions=$suppressions halt_on_error=1"
    local run=(cargo +nightly test --release "${flags[@]}" --target "$host" --target-dir "$target/thread" --test stress)
    export STRESS_ROUNDS=${STRESS_ROUNDS:-20000}
    "${run[@]}"
    STRESS_THREADS=100 "${run[@]}"
    unset RUSTFLAGS TSAN_OPTIONS STRESS_ROUNDS
}

valgrind() {
    type -P valgrind >/dev/null || {
        echo "SKIPPED: no valgrind"
        return 0
    }
    cargo test --release "${flags[@]}" --test stress --no-run
    local binary
    binary=$(cargo test --release "${flags[@]}" --test stress --no-run 2>&1 | sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
    # What the collector keeps for the process is still reachable at its end, and no leak.
    STRESS_ROUNDS=${STRESS_ROUNDS:-2000} command valgrind --quiet --error-exitcode=1 --leak-check=full \
        --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect --fair-sched=yes "$binary"
}

[ $# -gt 0 ] || set -- address thread valgrind
for sanitizer in "$@"; do
    echo "== $sanitizer"
    "$sanitizer"
done
