#!/usr/bin/env bash
# graphpool-candle with the feature cuda.
#
#     ci/cuda.sh         builds it without a GPU, with the compiler that scripts/fetch_cuda.sh fetches unless CUDA_HOME
#                        names one, tests it, and packs the programs for a GPU and the node tests into
#                        target/cuda/run.tar.xz
#     ci/cuda.sh --run   runs that on a machine with a GPU, where nothing is built
#
# A machine for --run needs the checkout with target/cuda/run.tar.xz and those of .cache/models that are to run, python3
# and the driver, and of CUDA 13 libcublas, libcublasLt, libcurand and libnvrtc: installed, in LD_LIBRARY_PATH, or in
# python3's packages of NVIDIA. PROFILE is the profile of the build (release). The build is skipped with a message on
# systems that scripts/fetch_cuda.sh has no compiler for, without python3's pip or g++, and where nothing can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/cuda

if [[ ${1-} == --run ]]; then
    nvidia-smi -L
    programs=$(mktemp -d)
    trap 'rm -rf "$programs"' EXIT
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$folder/run.tar.xz" "$programs"
    # The programs look for files in the checkout that they were built in.
    root=$(cat "$programs/root")
    if [[ ! -e $root ]]; then
        mkdir -p "$(dirname "$root")"
        ln -s "$PWD" "$root"
    fi
    for tests in node-tests node-tests-new; do
        if [[ -d $programs/$tests && ! -e .cache/$tests ]]; then
            mkdir -p .cache
            cp -r "$programs/$tests" .cache
        fi
    done
    packages=$(python3 -c '
import glob, sys
print(":".join(folder for path in sys.path if path for folder in glob.glob(path + "/nvidia/*/lib")))' || true)
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${packages:+$packages:}/usr/local/cuda/lib64
    # Every part runs, whatever the others find, and all of them end in five minutes.
    fine=yes
    GRAPHPOOL_GPU=1 timeout 45 "$programs/gpu" --nocapture || fine=no
    timeout 75 "$programs/real_models" --gpu || fine=no
    timeout 150 "$programs/onnx_conformance" --gpu --check --list || fine=no
    [[ $fine == yes ]]
    exit
fi

if [[ $(uname -sm) != 'Linux x86_64' && -z ${CUDA_HOME-} ]]; then
    echo "SKIPPED: no compiler of CUDA for this system"
    exit 0
fi
if ! python3 -m pip --version >/dev/null 2>&1 || ! g++ --version >/dev/null 2>&1; then
    echo "SKIPPED: no python3 with pip, or no g++, so no build for CUDA"
    exit 0
fi
if [[ -z ${CUDA_HOME-} ]]; then
    exports=$(scripts/fetch_cuda.sh) || {
        echo "SKIPPED: CUDA's compiler could not be fetched"
        exit 0
    }
    eval "$exports"
fi
python3 scripts/cuda_symbols.py --check
mkdir -p "$folder/programs"
# By itself the build of the kernels uses half of the processors.
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
cargo build --locked --profile "${PROFILE:-release}" -p graphpool-candle --features cuda --test gpu \
    --example onnx_conformance --example real_models --message-format json-render-diagnostics >"$folder/messages"
python3 - "$folder" <<'PYTHON'
import json, pathlib, shutil, subprocess, sys

folder = pathlib.Path(sys.argv[1])
for line in (folder / "messages").read_text().splitlines():
    message = json.loads(line)
    if message.get("executable"):
        program = folder / "programs" / message["target"]["name"]
        shutil.copy(message["executable"], program)
        subprocess.run(["strip", program], check=True)
PYTHON
echo "$PWD" >"$folder/programs/root"
# A program that is linked with a library of CUDA does not start where it is missing.
for program in gpu onnx_conformance real_models; do
    libraries=$(ldd "$folder/programs/$program")
    if grep -E 'lib(cu|nv)' <<<"$libraries"; then
        echo "$program is linked with a library of CUDA" >&2
        exit 1
    fi
done
"$folder/programs/gpu" --nocapture
scripts/fetch_node_tests.sh
tests=(node-tests)
[[ -d .cache/node-tests-new ]] && tests+=(node-tests-new)
python3 - "$folder/run.tar.xz" "$folder/programs" "${tests[@]}" <<'PYTHON'
import sys, tarfile

archive, programs, *tests = sys.argv[1:]
with tarfile.open(archive, "w:xz", preset=4) as archive:
    archive.add(programs, ".")
    for name in tests:
        archive.add(f".cache/{name}", name)
PYTHON
ls -l "$folder/programs" "$folder/run.tar.xz"
