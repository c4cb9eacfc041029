#!/usr/bin/env bash
# The libraries for C: their tests, what scripts/install_c.sh installs as programs find it through pkg-config, and the C
# programs under AddressSanitizer and valgrind.
#
#     ci/c.sh
#
# Needs cc and c++; pkg-config and valgrind are skipped with a message where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked -p graphpool-ffi -p graphpool-c -p graphpool-wamr

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
DESTDIR=$work/stage PREFIX=$prefix PROFILE=dev scripts/install_c.sh
# Nothing but the prefix was touched, and the files name the prefix without the stage.
[ "$(ls "$work/stage")" = "$(cut -d/ -f2 <<<"$prefix")" ]
grep -q "^prefix=$prefix\$" "$work/stage$prefix/lib/pkgconfig/graphpool.pc"
mv "$work/stage$prefix" "$prefix"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
flags=(-I"$prefix/include" -L"$prefix/lib" -lgraphpool)
if type -P pkg-config >/dev/null; then
    read -ra flags < <(pkg-config --cflags --libs graphpool)
else
    echo "SKIPPED: no pkg-config, so its file is not used"
fi

digits=examples/models/digits
# Written by the tests.
language=${CARGO_TARGET_DIR:-target}/tmp/language.gguf
model=("$digits/digits.onnx" "$digits/images.bin")
program() {
    local name=$1 source=$2
    shift 2
    "${CC:-cc}" -std=c11 -g -O1 "$@" "$source" "${flags[@]}" -lpthread -lm -ldl -o "$work/$name"
}
program digits hosts/c/examples/digits.c
[[ $("$work/digits" "${model[@]}" 3) == [0-9]\ \(* ]]

# The static library brings the system's libraries that it needs.
read -ra private < <(sed -n 's/^Libs.private: //p' "$PKG_CONFIG_PATH/graphpool.pc")
"${CC:-cc}" -std=c11 hosts/c/examples/digits.c -I"$prefix/include" "$prefix/lib/libgraphpool.a" "${private[@]}" \
    -o "$work/digits-static"
[[ $(LD_LIBRARY_PATH='' "$work/digits-static" "${model[@]}" 3) == $("$work/digits" "${model[@]}" 3) ]]

mkdir "$work/models"
cp "$digits/digits.onnx" "$work/models/"
export GRAPHPOOL_MODELS=$work/models GRAPHPOOL_GUEST_MAX_GRAPHS=unlimited
wamr=("$prefix/lib/libwasi_nn_onnx.so" "${model[@]}" "$digits/expected.bin")

echo "== AddressSanitizer, with leaks, and undefined behaviour of the C programs"
sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all)
program digits-asan hosts/c/examples/digits.c "${sanitize[@]}"
program threads-asan hosts/c/tests/c/threads.c "${sanitize[@]}"
program sequences-asan hosts/c/tests/c/sequences.c "${sanitize[@]}"
program open_close-asan hosts/wamr/tests/c/open_close.c "${sanitize[@]}"
program language-asan hosts/wamr/tests/c/language.c "${sanitize[@]}"
export ASAN_OPTIONS=detect_leaks=1
"$work/digits-asan" "${model[@]}" 3
"$work/threads-asan" "${model[@]}" "$digits/expected.bin"
"$work/sequences-asan" "$language"
"$work/open_close-asan" "${wamr[@]}" 20
austen=("$prefix"/lib/libwasi_nn_{onnx,llamacpp}.so examples/models/austen/austen.gguf)
served() {
    GRAPHPOOL_MODELS=examples/models/austen GRAPHPOOL_CONFIGS=1 "$@" "${austen[@]}"
}
served "$work/language-asan"

type -P valgrind >/dev/null || {
    echo "SKIPPED: no valgrind"
    exit 0
}
echo "== valgrind"
program threads hosts/c/tests/c/threads.c
program sequences hosts/c/tests/c/sequences.c
program open_close hosts/wamr/tests/c/open_close.c
program language hosts/wamr/tests/c/language.c
# What the library keeps for the process is still reachable at its end, and no leak.
memcheck=(valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite,indirect
    --show-leak-kinds=definite,indirect --fair-sched=yes)
"${memcheck[@]}" "$work/digits" "${model[@]}" 3
"${memcheck[@]}" "$work/threads" "${model[@]}" "$digits/expected.bin" 40
"${memcheck[@]}" "$work/sequences" "$language"
"${memcheck[@]}" "$work/open_close" "${wamr[@]}" 3
served "${memcheck[@]}" "$work/language"
