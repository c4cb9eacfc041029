"""Makes a case from its number, runs it everywhere, and says what became of it."""

import dataclasses
import shutil

import numpy as np
import onnx

from . import control, elementwise, image, indexing, language, learning, microsoft, movement  # noqa: F401
from . import neural, qlinear, quantized, recurrent, reductions, signal, trees  # noqa: F401
from .backend import Failed
from .compare import difference
from .known import known
from .oracle import Oracle, Refused
from .registry import GENERATORS, INCOMPARABLE, Context
from .schema import BF16, FLOATS, versions
from .values import Random


# In the order in which they are asked.
ORACLES = ("onnxruntime", "equivalent in onnxruntime", "onnxruntime in f32", "equivalent in onnxruntime in f32",
           "reference")


@dataclasses.dataclass
class Result:
    """`outcome` is agreed, refused, different, known, outvoted, unknown, crashed or broken."""

    number: int
    operator: str
    outcome: str
    why: str = ""
    group: str = ""
    case: object = None
    found: list = None
    wanted: list = None
    source: str = ""

    def full(self):
        lines = [f"case {self.number}: {self.outcome} {self.why}"]
        if self.case is not None:
            lines.append(self.case.text())
            lines += [f"input {place}: {array!r}" for place, array in enumerate(self.case.inputs)]
        lines += [f"found {place}: {array!r}" for place, array in enumerate(self.found or [])]
        lines += [f"wanted {place} ({self.source}): {array!r}" for place, array in enumerate(self.wanted or [])]
        return "\n".join(lines)


class Runner:
    def __init__(self, backend, folder, seed):
        self.backend, self.oracle, self.folder, self.seed = backend, Oracle(), folder / "case", seed
        has = backend.operators()
        self.types = frozenset(has["types"])
        self.rows = [tuple(row) for row in has["operators"]]
        shutil.rmtree(folder, ignore_errors=True)

    def versions(self):
        import onnxruntime
        return f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}"

    def end(self):
        self.backend.end()
        self.oracle.end()

    def chosen(self, only):
        rows = [row for row in self.rows if only is None or row[1] in only]
        if not rows:
            raise SystemExit(f"the backend has no operator {' or '.join(only)}")
        return rows

    def lacking(self, only):
        """Operators of the backend that no generator makes cases of, and that nothing is said of why not."""
        return sorted({row[1] for row in self.chosen(only) if row[:2] not in {*GENERATORS, *INCOMPARABLE}})

    def make(self, number, only):
        """The row and the case of a number."""
        rows = [row for row in self.chosen(only) if row[:2] in GENERATORS]
        domain, name, since, until = rows[number % len(rows)]
        random = Random([self.seed, number, hash_of(name)], self.types)
        until = min(until, onnx.defs.onnx_opset_version()) if not domain else until
        # A version of the operator first, so that rare ones aren't rare here; then an opset in which it holds.
        starts = [version for version in versions(domain, name) if since <= version <= until] or [since]
        starts = sorted({since, *starts})
        place = random.int(0, len(starts) - 1)
        last = starts[place + 1] - 1 if place + 1 < len(starts) else until
        opset = random.pick([starts[place], last, random.int(starts[place], last)])
        context = Context(random, domain, name, opset, self.types)
        return name, GENERATORS[domain, name](context)

    def one(self, number, only=None):
        try:
            name, case = self.make(number, only)
            shutil.rmtree(self.folder, ignore_errors=True)
            case.write(self.folder)
        except Exception as error:  # The generator's own mistake, to be seen and put right.
            rows = [row for row in self.chosen(only) if row[:2] in GENERATORS]
            name = rows[number % len(rows)][1]
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{place.tb_lineno}"
            return Result(number, name, "broken", f"{where} {type(error).__name__}: {error}", f"broken {name}")
        wanted, source = self.expected(case)
        result = Result(number, name, "agreed", case=case, wanted=wanted, source=source)
        try:
            result.found = self.backend.run(self.folder)
        except Failed as error:
            result.why = error.why
            result.outcome = "crashed" if error.kind in ("Crashed", "Hung") else "refused"
            if result.outcome == "refused" and wanted is None:
                result.outcome = "unknown"
            return result
        if wanted is None:
            result.outcome, result.why = "unknown", source
            return result
        differs = difference(case, result.found, wanted, source.endswith("f32"))
        if differs:
            self.judge(result, differs)
        return result

    def judge(self, result, differs):
        """What a difference is: known, outvoted by another oracle, or the backend's."""
        case = result.case
        kind, result.why = differs
        result.group = f"{kind} {next((str(a.dtype) for a in case.inputs if a is not None), '')}".strip()
        if known(case, result.found, result.wanted, result.source):
            result.outcome = "known"
            return
        result.outcome = "different"
        for name, answer in self.others(case, result.source):
            if difference(case, result.found, answer, name.endswith("f32")) is None:
                result.outcome, result.why = "outvoted", f"{result.why}; {name} agrees with the backend"

    def expected(self, case):
        """The outputs and who gave them, or None and why there are none."""
        reasons = []
        for name in ORACLES:
            try:
                return self.asked(name, case), name
            except Refused as error:
                reasons.append(f"{name}: {error}")
        return None, "; ".join(reasons)

    def others(self, case, source):
        for name in ORACLES:
            if name != source:
                try:
                    yield name, self.asked(name, case)
                except Refused:
                    pass

    def asked(self, name, case):
        if name.startswith("equivalent"):
            if case.equivalent is None:
                raise Refused("no other form")
            other, back = case.equivalent
            return back(self.asked(name.removeprefix("equivalent in "), other))
        if name == "onnxruntime in f32":
            wide = case.in_f32()
            if wide is None:
                raise Refused("no f16 and no bf16")
            answer = self.oracle.ask("onnxruntime", wide.model(), wide.feed())
            with np.errstate(over="ignore"):
                return [array.astype(dtype) if dtype in FLOATS else array
                        for array, dtype in zip(answer, case.output_dtypes())]
        if name == "onnxruntime" and any(array is not None and array.dtype == BF16 for array in case.inputs):
            raise Refused("no bf16 from numpy")
        answer = self.oracle.ask(name, case.model(), case.feed())
        types = case.output_dtypes()
        if name == "onnxruntime" or [array.dtype for array in answer] == types:
            return answer
        # The reference gives wider types now and then.
        with np.errstate(all="ignore"):
            return [array.astype(dtype) for array, dtype in zip(answer, types)]


def hash_of(name):
    """A number for a name that is the same in every process."""
    return sum(byte * 257**place for place, byte in enumerate(name.encode())) % 2**32
