"""Writes the node tests of onnx 1.23.2 that ONNX 1.17.0 lacks or has otherwise: make_node_tests.sh calls it.

    python scripts/make_node_tests.py .cache/node-tests .cache/node-tests-new

A case is written where 1.17.0 has none of its name; where it has one with other operator sets or another graph; and
where it has one that wants other outputs for the same inputs. Inputs that differ alone say nothing: most are random.
"""

import pathlib
import sys

import numpy
import onnx
from onnx import numpy_helper

VERSION = "1.23.2"


def message(value, info):
    """The file of one input or output."""
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString(deterministic=True)
    makers = {
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
        "map_type": numpy_helper.from_dict,
        "tensor_type": numpy_helper.from_array,
    }
    return makers[info.type.WhichOneof("value")](value, info.name).SerializeToString(deterministic=True)


def files(case):
    """The case's files by their paths inside of its folder."""
    made = {"model.onnx": case.model.SerializeToString(deterministic=True)}
    for number, (inputs, outputs) in enumerate(case.data_sets):
        for kind, values in (("input", inputs), ("output", outputs)):
            for index, value in enumerate(values):
                info = getattr(case.model.graph, kind)[index]
                made[f"test_data_set_{number}/{kind}_{index}.pb"] = message(value, info)
    return made


def sets(model):
    """The operator sets that the model imports."""
    return sorted(("" if entry.domain == "ai.onnx" else entry.domain, entry.version) for entry in model.opset_import)


def differs(case, made, folder):
    """Whether 1.17.0 lacks the case or has it otherwise."""
    if not (folder / "model.onnx").is_file():
        return True
    old = onnx.load(folder / "model.onnx")
    if sets(old) != sets(case.model) or old.graph.node != case.model.graph.node:
        return True
    data = {name: content for name, content in made.items() if name != "model.onnx"}
    there = {name: (folder / name).read_bytes() for name in data if (folder / name).is_file()}
    if there.keys() != data.keys():
        return True
    inputs = [name for name in data if "/input_" in name]
    return all(data[name] == there[name] for name in inputs) and not same(data, there)


def same(data, there):
    """Whether the outputs are the same, but for how sums were rounded."""
    for name in data:
        if "/output_" not in name or data[name] == there[name]:
            continue
        pair = []
        for content in (data[name], there[name]):
            tensor = onnx.TensorProto()
            tensor.ParseFromString(content)
            pair.append(numpy_helper.to_array(tensor))
        new, old = pair
        if new.dtype != old.dtype or new.shape != old.shape:
            return False
        if new.dtype.kind not in "fc":
            if not numpy.array_equal(new, old):
                return False
        elif not numpy.allclose(new, old, rtol=1e-3, atol=1e-6, equal_nan=True):
            return False
    return True


def main():
    old, fresh = map(pathlib.Path, sys.argv[1:])
    if onnx.__version__ != VERSION:
        sys.exit(f"node tests: onnx {onnx.__version__} is installed, scripts/requirements.txt names {VERSION}")
    # Imported after the check, since importing makes the cases.
    numpy.random.seed(0)
    from onnx.backend.test.case.node import collect_testcases

    count = 0
    for case in collect_testcases():
        made = files(case)
        if not differs(case, made, old / case.name):
            continue
        count += 1
        for name, content in made.items():
            path = fresh / case.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (fresh / VERSION).touch()
    print(f"node tests: {count} of ONNX {VERSION} that 1.17.0 lacks or has otherwise")


main()
