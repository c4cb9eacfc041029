#!/usr/bin/env bash
# Fetches the compiler of CUDA 13.0 into .cache/cuda, for builds of graphpool-candle's feature cuda.
#
#     scripts/fetch_cuda.sh            fetches it, 105 MB, and says what to export
#     eval "$(scripts/fetch_cuda.sh)"  sets the shell up
#
# It comes out of five Python packages of NVIDIA, by `pip download`; no code of a package is run. scripts/cuda.txt has
# their versions and checksums. Their licence is put beside them. A compiler that is there already is not fetched again.
# For Linux on x86-64. Needs python3 with pip, and a g++ that CUDA 13.0 accepts (6 to 15).
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $(uname -sm) != 'Linux x86_64' ]]; then
    echo "scripts/fetch_cuda.sh is for Linux on x86-64; elsewhere, install the CUDA toolkit" >&2
    exit 1
fi
folder=.cache/cuda
if ! cmp -s scripts/cuda.txt "$folder/cuda.txt"; then
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels" "$folder.fresh.$$"' EXIT
    # pip compares the checksums that the list has.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --dest "$wheels" \
        --requirement scripts/cuda.txt >&2
    python3 - "$folder.fresh.$$" "$wheels"/*.whl <<'PYTHON'
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
for wheel in sys.argv[2:]:
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        top = "nvidia/cu13/"
        if name.startswith((top + "bin/", top + "include/", top + "lib/", top + "nvvm/")):
            file = folder / name.removeprefix(top)
        elif name.endswith("/License.txt"):
            file = folder / "License.txt"
        else:
            continue
        if name.endswith("/"):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(archive.read(name))
        # Wheels of these packages don't say which files are programs.
        if "/bin/" in name:
            file.chmod(0o755)
# The compiler looks for libraries here.
(folder / "lib64").symlink_to("lib")
PYTHON
    cp scripts/cuda.txt "$folder.fresh.$$/cuda.txt"
    rm -rf "$folder"
    mv "$folder.fresh.$$" "$folder"
    echo "cuda: fetched" >&2
else
    echo "cuda: there already" >&2
fi

home=$(cd "$folder" && pwd)
"$home/bin/nvcc" --version >&2
printf 'export CUDA_HOME=%q\nexport NVCC=%q\nexport PATH=%q:"$PATH"\n' "$home" "$home/bin/nvcc" "$home/bin"
echo 'export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}"'
