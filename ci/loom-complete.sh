#!/usr/bin/env bash
# The two-thread models of the core that are bounded in the plain command, each run to its end for SECONDS at most (3600).
#
#     ci/loom-complete.sh [SECONDS]
#
# For a night: most take longer than a command that people wait for. Prints what each went through; one that does not end
# in its time is said to be open, and fails nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${1:-3600}
export RUSTFLAGS="--cfg loom" LOOM_COMPLETE=1
build=(cargo test --release --locked --no-default-features --features nn --lib --test loom --no-run --message-format short)
mapfile -t binaries < <("${build[@]}" 2>&1 | sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
[ ${#binaries[@]} -eq 2 ] || {
    echo "the models do not build" >&2
    exit 1
}

failed=0
for binary in "${binaries[@]}"; do
    while IFS= read -r model; do
        status=0
        timeout "$limit" "$binary" --exact "$model" --nocapture 2>&1 | grep -E 'executions|panicked' || status=${PIPESTATUS[0]}
        case $status in
        0) ;;
        124) echo "$model: open after $limit s" ;;
        *) echo "$model: FAILED" && failed=1 ;;
        esac
    done < <("$binary" --list | sed -n 's/: test$//p' | grep 'preemptions$' | grep -vE 'two_gets|three|two_threads|two_that|leaving|third')
done
exit "$failed"
