#!/usr/bin/env python3
"""Makes models of one operator each, and times onnxruntime on them, on one thread.

    venv/bin/python scripts/time_operators.py FOLDER [NAME ...]

`cargo run --release -p graphpool-candle --example operator_sweep` runs it, so that both are timed in the same run. For
each row of the table, or each one whose name contains a NAME, and each size, it writes model.onnx, the inputs and
onnxruntime's outputs into FOLDER, and prints a line of JSON that describes them. It answers each line `time` of its
standard input with the median of a turn in milliseconds, and goes on to the next model at the line `next`.
scripts/operator_rows.py has the rows. What both need is in scripts/requirements.txt.
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from operator_rows import SIZES, Constant, rows

# A turn.
SECONDS = 0.02
LEAST_RUNS = 3


def element_type(array):
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def model_of(row, size, inputs, outputs):
    """A model with one node; `outputs` are arrays, or None where nothing is known of them yet."""
    names, values, constants = [], [], []
    for index, given in enumerate(inputs):
        name = f"input{index}"
        if given is None:
            names.append("")
            continue
        names.append(name)
        if isinstance(given, Constant):
            constants.append(numpy_helper.from_array(given.array, name))
        else:
            values.append(helper.make_tensor_value_info(name, element_type(given), given.shape))
    results = [f"output{index}" for index in range(row.outputs)]
    attributes = {name: value(size) if callable(value) else value for name, value in row.attributes.items()}
    node = helper.make_node(row.operator, names, results, domain=row.domain, **attributes)
    made = [helper.make_empty_tensor_value_info(name) for name in results]
    if outputs is not None:
        made = [
            helper.make_tensor_value_info(name, element_type(array), array.shape)
            for name, array in zip(results, outputs)
        ]
    graph = helper.make_graph([node], "row", values, made, constants)
    imports = [helper.make_opsetid("", row.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def write(folder, name, array):
    """Writes a tensor, and describes it."""
    (folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
    return {"file": name, "dims": list(array.shape)}


def bound(session, feeds):
    """What runs the model with all inputs in place, so that no time is spent on copies of them."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def turn(run):
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < LEAST_RUNS:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))


def serve(folder, row, size):
    inputs = row.inputs(size)
    feeds = {f"input{index}": given for index, given in enumerate(inputs) if isinstance(given, np.ndarray)}
    about = {"name": row.name, "size": SIZES[size], "tolerance": row.tolerance}
    run = None
    try:
        outputs = session_of(model_of(row, size, inputs, None)).run(None, feeds)
        model = model_of(row, size, inputs, outputs)
        session = session_of(model)
        (folder / "model.onnx").write_bytes(model)
        about["inputs"] = [write(folder, f"{name}.bin", array) for name, array in feeds.items()]
        about["outputs"] = [write(folder, f"output{index}.bin", array) for index, array in enumerate(outputs)]
        run = bound(session, feeds)
    except Exception as error:  # onnxruntime has exceptions of many kinds.
        about["error"] = " ".join(str(error).split())[:160]
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        if line.strip() == "next":
            return
        print(turn(run), flush=True)


def main(folder, asked):
    for row in rows():
        if not asked or any(name in row.name for name in asked):
            for size in range(len(SIZES)):
                serve(pathlib.Path(folder), row, size)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
