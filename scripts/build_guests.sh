#!/usr/bin/env bash
# Builds the guest programs of hosts/wasmtime/guests into .cache/guests: modules and a component for the runner, the
# tests and the comparison of hosts.
#
# The C ones need clang with the target wasm32, wasi-libc and compiler-rt for wasm32. If one is missing, all are
# downloaded from Debian or Ubuntu and unpacked under .cache, without root: 45 MB, or 150 MB with the Rust toolchain.
# The Rust one is built by rustup's toolchain if it has the target wasm32-wasip1, else by Debian's rustc-web, with a
# standard library that is built from source (a minute). The linkers are those of rustup's toolchain.
#
#     scripts/build_guests.sh [--c-only]
#
# Exits with 75 where packages are missing and cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

guests=$PWD/hosts/wasmtime/guests
out=$PWD/.cache/guests
debian=$out/debian
mkdir -p "$out/objects"
linkers=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin

# apt-get with state of its own, so that it needs no root and its lists are fresh.
apt() {
    "apt-$1" -qq -o Dir::State::Lists="$out/apt/lists" -o Dir::Cache="$out/apt/cache" -o APT::Sandbox::User=root \
        -o Debug::NoLocking=1 "${@:2}"
}

# Downloads and unpacks packages beside the system.
unpack() {
    mkdir -p "$debian" "$out/apt/packages"
    echo "unpacking $*"
    (cd "$out/apt/packages" && apt get download "$@" && for package in *.deb; do dpkg -x "$package" "$debian"; done) || {
        echo "these packages could not be had: $*" >&2
        # Asked for anew the next time.
        rm -rf "$out/apt"
        exit 75
    }
    rm -rf "$out/apt/packages"
}

update() {
    command -v apt-get dpkg >/dev/null || {
        echo "no apt-get: install clang, wasi-libc and compiler-rt for wasm32, and rustup's target wasm32-wasip1" >&2
        exit 75
    }
    if [ ! -d "$out/apt/lists" ]; then
        mkdir -p "$out/apt/lists/partial" "$out/apt/cache/archives/partial"
        apt get update || echo "some package lists could not be had" >&2
    fi
}

# The packages that the given ones depend on, of those names.
dependencies_of() {
    apt cache depends --recurse --important "$@" |
        grep -E '^(libllvm|libclang-cpp|libclang-common|libstd-rust)' | sort -u
}

# Sets what the C guests are built with, if `$1` (empty for the system) has all of it.
find_c() {
    clang=$(newest "$1/usr/bin/clang-[0-9]*")
    builtins=$(newest "$1/usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a")
    headers=$1/usr/include/wasm32-wasi libraries=$1/usr/lib/wasm32-wasi
    [ -n "$clang" ] && [ -n "$builtins" ] && [ -d "$headers" ] && [ -d "$libraries" ]
}
newest() {
    compgen -G "$1" | sort -V | tail -1 || true
}
find_c "" || find_c "$debian" || {
    update
    version=$(apt cache search --names-only '^libclang-rt-[0-9]+-dev-wasm32$' | cut -d- -f3 | sort -n | tail -1)
    mapfile -t more < <(dependencies_of "clang-$version" | grep -E -- "[a-z-]$version(-dev)?$")
    unpack "clang-$version" "libclang-rt-$version-dev-wasm32" wasi-libc "${more[@]}"
    find_c "$debian"
}
# Unpacked programs find their libraries beside them.
export LD_LIBRARY_PATH=$debian/usr/lib/$(uname -m)-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

compile() {
    "$clang" --target=wasm32-wasi -Wno-deprecated -O2 -std=c11 -Wall -Wextra -Werror -isystem "$headers" \
        -c "$guests/$1.c" -o "$out/objects/$1.o"
}
link() {
    "${@:2}" "$out/objects/crt.o" "$out/objects/$1.o" -L "$libraries" -lc "$builtins" -o "$out/$1.wasm"
}
compile crt
for name in classify hostile cycle sequences chat; do
    compile $name
    link $name "$linkers/gcc-ld/wasm-ld"
done
compile classify_component
link classify_component "$linkers/wasm-component-ld" --wasm-ld-path "$linkers/gcc-ld/wasm-ld" \
    --component-type hosts/wasmtime/wit/wasi-nn.wit

if [ "${1:-}" != --c-only ]; then
    build=(cargo build --quiet --release --locked --target wasm32-wasip1 --target-dir "$out/rust"
        --manifest-path "$guests/rust/Cargo.toml")
    if [ -d "$(rustc --print target-libdir --target wasm32-wasip1)" ]; then
        "${build[@]}"
    else
        [ -x "$debian/usr/bin/rustc" ] || {
            update
            mapfile -t more < <(dependencies_of rustc-web)
            unpack rustc-web rust-web-src "${more[@]}"
        }
        # RUSTC_BOOTSTRAP: the standard library comes as source only.
        flags="-Clink-self-contained=no -Clink-arg=$out/objects/crt.o -L $libraries"
        RUSTC=$debian/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_LINKER=$linkers/rust-lld \
            CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags "${build[@]}" -Zbuild-std=std,panic_abort
    fi
    cp "$out/rust/wasm32-wasip1/release/graphpool-rust-guest.wasm" "$out/classify_rust.wasm"
fi
ls -l "$out"/*.wasm
