#!/usr/bin/env bash
# The tests on aarch64, under qemu-user, on a Debian x86-64 machine whose Rust has no std for another target.
#
# Debian's rustc-web has one (1.96 in bookworm-security, which is what rust-version asks for or newer). Its packages,
# a cross linker and qemu are unpacked under the target directory, nothing is installed, and no root is needed. Skipped
# with a message where there is no apt-get. Some 300 MB to download the first time.
#
# qemu runs aarch64's instructions on x86-64's memory, which is stronger: it checks what is compiled there (repin's
# fence, the load-store pairs), and no ordering. Those are loom's to check.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}/aarch64
root=$target/root
type -P apt-get dpkg >/dev/null && [ "$(uname -m)" = x86_64 ] || {
    echo "SKIPPED: not a Debian x86-64 machine"
    exit 0
}

if [ ! -x "$root/usr/bin/qemu-aarch64-static" ]; then
    mkdir -p "$target"/apt/{lists,archives}/partial "$target/debs" "$root"
    cat >"$target/apt/conf" <<END
APT::Architectures { "amd64"; "arm64"; };
Dir::State::lists "$target/apt/lists";
Dir::Cache "$target/apt";
END
    export APT_CONFIG=$target/apt/conf
    apt-get -q update
    (cd "$target/debs" && apt-get -q download rustc-web libllvm22 libstd-rust-web-1.96 libstd-rust-web-dev \
        libstd-rust-web-dev:arm64 libxml2 libz3-4 libedit2 libicu72 libtinfo6 libbsd0 libmd0 liblzma5 libffi8 \
        libzstd1 gcc-12-aarch64-linux-gnu gcc-12-aarch64-linux-gnu-base binutils-aarch64-linux-gnu binutils-common \
        libc6-arm64-cross libc6-dev-arm64-cross linux-libc-dev-arm64-cross libgcc-s1-arm64-cross \
        libgcc-12-dev-arm64-cross libgmp10 libisl23 libmpc3 libmpfr6 qemu-user-static)
    for package in "$target"/debs/*.deb; do dpkg -x "$package" "$root"; done
fi

libraries=$root/usr/lib/x86_64-linux-gnu:$root/usr/lib cross=$root/usr/aarch64-linux-gnu
cat >"$target/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $root/usr/bin/rustc --sysroot $root/usr "\$@"
END
cat >"$target/cc" <<END
#!/bin/sh
LD_LIBRARY_PATH=$libraries PATH=$root/usr/bin:\$PATH exec $root/usr/bin/aarch64-linux-gnu-gcc-12 \\
    -B$root/usr/bin/aarch64-linux-gnu- -B$cross/lib -L$cross/lib -Wl,--sysroot=$root "\$@"
END
chmod +x "$target/rustc" "$target/cc"

bash ci/pool_package.sh "$target/tests" pool reuse stress table
cd "$target/tests"
export RUSTC=$target/rustc CARGO_TARGET_DIR=$target/build
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$target/cc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$root/usr/bin/qemu-aarch64-static -L $cross"
export STRESS_ROUNDS=${STRESS_ROUNDS:-4000}
# No doc tests: the packages have no rustdoc.
cargo test --tests --target aarch64-unknown-linux-gnu
