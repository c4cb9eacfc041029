#!/usr/bin/env bash
# Single operators with random attributes and values, against onnxruntime and ONNX's reference: fails on a difference that
# scripts/differential/known.py doesn't explain, on a crash, and on an operator without a generator. Once a week, by hand.
#
#     ci/differential.sh [CASES [SEED]]
#
# 40,000 cases, about three minutes, with the week's number as the seed, so that each week tries other cases. Writes
# date, seed and counts to scripts/differential/recorded.txt. The Python packages of scripts/requirements.txt are
# installed into .cache/differential, where git ignores them; without python3 and its pip all is skipped with a message.
set -euo pipefail
cd "$(dirname "$0")/.."

cases=${1:-40000}
seed=${2:-$(date +%G%V)}
python3 -c 'import venv, ensurepip' 2>/dev/null || {
    echo "SKIPPED: no python3 with venv and pip, so no comparison with onnxruntime"
    exit 0
}
venv=.cache/differential
if ! cmp -s scripts/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt || {
        rm -rf "$venv"
        echo "SKIPPED: the packages of scripts/requirements.txt could not be installed"
        exit 0
    }
    cp scripts/requirements.txt "$venv/requirements.txt"
fi
exec "$venv/bin/python" scripts/differential.py --cases "$cases" --seed "$seed" --record scripts/differential/recorded.txt
