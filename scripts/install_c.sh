#!/usr/bin/env bash
# Installs graphpool for C: the header, the shared and the static library, a pkg-config file, and the library that WAMR
# opens for ONNX models, with a link of the name that WAMR opens for language models. WAMR's own libraries of these
# names are replaced if they are in LIBDIR.
#
#     [DESTDIR=DIR] [PREFIX=/usr/local] [LIBDIR=$PREFIX/lib] [PROFILE=release] scripts/install_c.sh
#
# The files name PREFIX, and are put below DESTDIR. PROFILE=dev installs the libraries of a debug build. Needs cargo,
# and is for Linux and macOS.
set -euo pipefail

PREFIX=${PREFIX:-/usr/local}
LIBDIR=${LIBDIR:-$PREFIX/lib}
DESTDIR=${DESTDIR:-}
PROFILE=${PROFILE:-release}
[[ $PREFIX == /* && $LIBDIR == /* ]] || {
    echo "PREFIX and LIBDIR must begin with /" >&2
    exit 2
}
[[ -z $DESTDIR ]] || DESTDIR=$(realpath -m "$DESTDIR")
cd "$(dirname "$0")/.."

cargo build --locked --profile "$PROFILE" -p graphpool-c -p graphpool-wamr
built=${CARGO_TARGET_DIR:-target}/${PROFILE/#dev/debug}
version=$(sed -n 's/^#define GP_VERSION "\(.*\)"$/\1/p' hosts/c/include/graphpool.h)
abi=$(sed -n 's/^#define GP_ABI \([0-9]*\)$/\1/p' hosts/c/include/graphpool.h)

install -d "$DESTDIR$PREFIX/include" "$DESTDIR$LIBDIR/pkgconfig"
install -m 644 hosts/c/include/graphpool.h "$DESTDIR$PREFIX/include/"
install -m 644 "$built/libgraphpool_c.a" "$DESTDIR$LIBDIR/libgraphpool.a"
case $(uname -s) in
    Darwin)
        extension=dylib private="-framework CoreFoundation -liconv"
        install -m 755 "$built/libgraphpool_c.dylib" "$DESTDIR$LIBDIR/libgraphpool.$abi.dylib"
        install_name_tool -id "$LIBDIR/libgraphpool.$abi.dylib" "$DESTDIR$LIBDIR/libgraphpool.$abi.dylib"
        ln -sf "libgraphpool.$abi.dylib" "$DESTDIR$LIBDIR/libgraphpool.dylib"
        ;;
    *)
        # What `cargo rustc -p graphpool-c --crate-type staticlib -- --print native-static-libs` names.
        extension=so private="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
        install -m 755 "$built/libgraphpool_c.so" "$DESTDIR$LIBDIR/libgraphpool.so.$version"
        ln -sf "libgraphpool.so.$version" "$DESTDIR$LIBDIR/libgraphpool.so.$abi"
        ln -sf "libgraphpool.so.$abi" "$DESTDIR$LIBDIR/libgraphpool.so"
        ;;
esac
# WAMR opens it by these names, through the loader's search path.
install -m 755 "$built/libwasi_nn_onnx.$extension" "$DESTDIR$LIBDIR/"
ln -sf "libwasi_nn_onnx.$extension" "$DESTDIR$LIBDIR/libwasi_nn_llamacpp.$extension"
sed -e "s|@PREFIX@|$PREFIX|" -e "s|@LIBDIR@|$LIBDIR|" -e "s|@INCLUDEDIR@|$PREFIX/include|" \
    -e "s|@VERSION@|$version|" -e "s|@LIBS_PRIVATE@|$private|" \
    hosts/c/graphpool.pc.in >"$DESTDIR$LIBDIR/pkgconfig/graphpool.pc"
echo "installed graphpool $version in $DESTDIR$PREFIX"
