#!/usr/bin/env python3
"""Runs random models of one operator on the candle backend and compares the outputs with onnxruntime's.

    python -m pip install -r scripts/requirements.txt
    python scripts/differential.py [--cases N] [--seed S] [--operator NAME]... [--case NUMBER] [--record FILE]

The backend lists its operators; ONNX's schemas say what types, attributes and versions each has; the generators in
scripts/differential fill them with values, among them those at which operators err. Each case is written in the form
of ONNX's node tests under target/differential and run by the example onnx_conformance. The outputs are compared with
those of onnxruntime, or where it doesn't support the case, of the same model in f32 for f16 and bf16, or of ONNX's
reference evaluator. Printed are counts and, for each kind of refusal and each kind of difference, the smallest case,
which is kept in target/differential/different. Case NUMBER of a seed is the same however many cases are run. Exits
with 1 where a case differs that differential/known.py doesn't explain, where the backend crashed, or where an
operator has neither a generator nor, in differential/registry.py, a reason why it can't be compared.
"""

import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import warnings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from differential.backend import Backend  # noqa: E402
from differential.report import Report  # noqa: E402
from differential.run import Runner  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000, help="how many cases, spread over the operators")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operator", action="append", help="only this operator; may be given several times")
    parser.add_argument("--case", type=int, help="only this case, printed in full")
    parser.add_argument("--program", help="the built example, otherwise it is built in release")
    parser.add_argument("--record", type=pathlib.Path, help="a file to write date, seed and counts to")
    return parser.parse_args()


def built():
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "-p", "graphpool-candle", "--example",
                    "onnx_conformance"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "examples" / "onnx_conformance")


def main():
    options = arguments()
    warnings.simplefilter("ignore")
    folder = ROOT / "target" / "differential"
    runner = Runner(Backend(options.program or built()), folder, options.seed)
    report = Report(folder / "different", runner.lacking(options.operator))
    numbers = range(options.cases) if options.case is None else [options.case]
    for number in numbers:
        result = runner.one(number, options.operator)
        report.add(result)
        if options.case is not None:
            print(result.full())
    runner.end()
    text = report.text()
    print(text)
    if options.record:
        date = datetime.date.today().isoformat()
        options.record.write_text(f"{date}, seed {options.seed}, {runner.versions()}\n{report.counts()}\n")
    return 0 if report.fine() else 1


if __name__ == "__main__":
    sys.exit(main())
