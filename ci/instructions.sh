#!/usr/bin/env bash
# Instructions for each operation, by callgrind, beside those on record in benches/instructions.txt: noise can't touch
# them. More than 10% above the record fails. `--record` writes the record.
set -euo pipefail
cd "$(dirname "$0")/.."
record=benches/instructions.txt
if ! command -v valgrind >/dev/null; then
    echo "skipped: valgrind isn't installed"
    exit 0
fi

program=$(cargo bench --no-run --locked --no-default-features --bench instructions --message-format=json |
    grep -o '"executable":"[^"]*/instructions-[^"]*"' | cut -d'"' -f4)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind --quiet --tool=callgrind --callgrind-out-file="$work/out" "$program"
# Inclusive counts, a line for each function: `count (percent) file:instructions::measured::name [program]`.
callgrind_annotate --inclusive=yes --threshold=100 --show-percs=no "$work/out" |
    sed -nE 's/^ *([0-9,]+) .*instructions::measured::([a-z_]+)( .*|::h.*)?$/\2 \1/p' | tr -d , >"$work/totals"

times=10000
awk -v times="$times" '
    $1 == "empty_loop" { empty = $2 }
    $1 != "empty_loop" && !($1 in total) { total[$1] = $2; order[++n] = $1 }
    END { for (i = 1; i <= n; i++) printf "%s %.1f\n", order[i], (total[order[i]] - empty) / times }
' "$work/totals" | sort >"$work/now"
if [ "$(wc -l <"$work/now")" -lt 9 ]; then
    echo "callgrind gave these counts only:" >&2
    cat "$work/now" >&2
    exit 1
fi

if [ "${1:-}" = --record ]; then
    {
        echo "# Instructions for each operation, written by ci/instructions.sh --record."
        echo "# $(rustc --version), $(uname -m)"
        cat "$work/now"
    } >"$record"
    cat "$record"
    exit 0
fi

awk '
    FNR == NR { if ($1 !~ /^#/) before[$1] = $2; next }
    !($1 in before) { printf "%-14s %7.1f  is not on record\n", $1, $2; bad = 1; next }
    {
        growth = ($2 / before[$1] - 1) * 100
        verdict = growth > 10 ? "  GREW BY MORE THAN 10%" : ""
        if (verdict) bad = 1
        printf "%-14s %7.1f -> %7.1f (%+.1f%%)%s\n", $1, before[$1], $2, growth, verdict
    }
    END { exit bad }
' "$record" "$work/now"
