#!/usr/bin/env bash
# Fetches the node tests of ONNX 1.17.0 (1,288 cases, 8 MB) into .cache/node-tests/, where git ignores them.
#
#     scripts/fetch_node_tests.sh
#
# They come out of the Python package onnx (Apache-2.0), by `pip download`; no code of the package is run. Later
# versions don't ship them. Cases that are there already are not fetched again. Needs python3 with pip.
set -euo pipefail
cd "$(dirname "$0")/.."

package=onnx==1.17.0
sum=4f3fb5cc4e2898ac5312a7dc03a65133dd2abf9a5e520e69afb880a7251ec97a
folder=.cache/node-tests

if [[ -f $folder/$sum ]]; then
    echo "node tests: there already"
    exit 0
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels" "$folder.fresh.$$"' EXIT
# One platform's wheel on every platform: the tests in them are the same, and the checksum is this one's.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
    --python-version 3.12 --platform manylinux_2_17_x86_64 --dest "$wheels" "$package"
python3 - "$wheels"/*.whl "$sum" "$folder.fresh.$$" <<'PYTHON'
import hashlib, pathlib, sys, zipfile

wheel, wanted, folder = sys.argv[1:]
if hashlib.sha256(open(wheel, "rb").read()).hexdigest() != wanted:
    sys.exit("node tests: the package has another checksum than the script says")
prefix = "onnx/backend/test/data/node/"
archive = zipfile.ZipFile(wheel)
for name in archive.namelist():
    if name.startswith(prefix) and not name.endswith("/"):
        file = pathlib.Path(folder) / name.removeprefix(prefix)
    elif name.endswith(".dist-info/LICENSE"):
        file = pathlib.Path(folder) / "LICENSE"
    else:
        continue
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(archive.read(name))
(pathlib.Path(folder) / wanted).touch()
PYTHON
rm -rf "$folder"
mv "$folder.fresh.$$" "$folder"
echo "node tests: fetched from $package"
