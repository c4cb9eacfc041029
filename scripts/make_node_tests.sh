#!/usr/bin/env bash
# Makes the node tests of ONNX 1.23.2 that 1.17.0 lacks or has otherwise (886 cases) in .cache/node-tests-new/,
# where git ignores them.
#
#     python3 -m pip install -r scripts/requirements.txt
#     scripts/make_node_tests.sh
#
# Versions after 1.17 don't ship their tests but make them, so that code of the package onnx (Apache-2.0) is run here.
# PYTHON names the interpreter where that is not python3. The examples in them are random but for the seed.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.23.2
folder=.cache/node-tests-new

if [[ -f $folder/$version ]]; then
    echo "newer node tests: there already"
    exit 0
fi
scripts/fetch_node_tests.sh
trap 'rm -rf "$folder.fresh.$$"' EXIT
"${PYTHON:-python3}" -W ignore scripts/make_node_tests.py .cache/node-tests "$folder.fresh.$$"
rm -rf "$folder"
mv "$folder.fresh.$$" "$folder"
