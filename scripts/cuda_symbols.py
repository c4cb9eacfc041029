#!/usr/bin/env python3
"""Writes backends/candle/src/cuda/functions.txt: the functions that cudarc can call, by their library.

    scripts/cuda_symbols.py          writes the list
    scripts/cuda_symbols.py --check  fails if the list is another than the sources of cudarc give

The sources are those that Cargo.lock names; `cargo metadata` tells where they are.
"""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "backends/candle/src/cuda/functions.txt"
# cudarc's modules for the libraries that candle-core asks it to link with, in an order in which none needs a later one.
LIBRARIES = {"driver": "cuda", "nvrtc": "nvrtc", "curand": "curand", "cublaslt": "cublasLt", "cublas": "cublas"}
HEAD = """\
# The functions of CUDA's libraries that cudarc can call, in any version of CUDA. scripts/cuda_symbols.py wrote this.
"""


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", "graphpool-candle/cuda"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    (cudarc,) = [package for package in packages if package["name"] == "cudarc"]
    source = pathlib.Path(cudarc["manifest_path"]).parent / "src"
    text = HEAD
    for module, library in LIBRARIES.items():
        bindings = (source / module / "sys/mod.rs").read_text()
        # Each binding declares its function by itself.
        names = re.findall(r'extern "C" \{\s*(?:pub )?fn (\w+)\s*\(', bindings)
        if not names:
            sys.exit(f"cuda_symbols.py: cudarc's module {module} declares no function")
        text += f"\n{library}:\n" + textwrap.fill(" ".join(sorted(set(names))), 120) + "\n"
    if sys.argv[1:] != ["--check"]:
        LIST.write_text(text)
    elif LIST.read_text() != text:
        sys.exit("cuda_symbols.py: the list is old; run the script without --check")


main()
