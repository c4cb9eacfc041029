"""Operators that hold graphs."""

import numpy as np
from onnx import helper, numpy_helper

from .registry import operator
from .schema import BOOL, F32, I64, NUMBERS


def info(name, dtype, shape=None):
    return helper.make_tensor_value_info(name, NUMBERS[np.dtype(dtype)], shape)


def weight(name, value, dtype):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


@operator("If")
def branch(c):
    c.opset = max(c.opset, 7)  # Its branches' operators are no older here.
    x = c.random.array(c.random.shape(0, 3), c.random.pick([F32, I64]), "whole")
    # Both branches take x from outside; they differ in shape now and then.
    graphs = {}
    for place, name in enumerate(("then_branch", "else_branch")):
        operator_name = c.random.pick(["Add", "Mul", "Sub", "Identity", "Shape"] if c.opset >= 11 else ["Add", "Mul"])
        out = f"{name}_out"
        names = ["i1"] if operator_name in ("Identity", "Shape") else ["i1", f"{name}_w"]
        nodes = [helper.make_node(operator_name, names, [out])]
        if operator_name == "Shape" and x.dtype != I64:
            nodes = [helper.make_node("Neg", ["i1"], [out])]
        graphs[name] = helper.make_graph(nodes, name, [], [info(out, x.dtype)],
                                         [weight(f"{name}_w", place + 2, x.dtype)] if len(names) == 2 else [])
    condition = c.random.array(c.random.pick([(), (1,)]), BOOL)
    case = c.case([condition, x], output_types=[x.dtype], kind="sum")
    case.nodes = [helper.make_node("If", ["i0"], ["o0"], **graphs)]
    return case


@operator("Loop")
def loop(c):
    c.opset = max(c.opset, 9)  # Its body's operators are no older here.
    turns = c.random.int(0, 4)
    carried = c.random.array(c.random.shape(1, 2, empty=0), F32, "whole")
    scans = c.random.int(0, 1)
    # Ends when the turn's number passes a bound, or when the turns are over.
    last = c.random.int(0, 5)
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "i2"], ["next"]),
         helper.make_node("Less", ["turn", "last"], ["on"]),
         *([helper.make_node("Mul", ["next", "state"], ["scan"])] if scans else [])],
        "body", [info("turn", I64, []), info("going", BOOL, []), info("state", F32)],
        [info("on", BOOL, []), info("next", F32), *([info("scan", F32)] if scans else [])], [weight("last", last, I64)])
    count = np.asarray(turns, I64)
    going = np.asarray(c.random.chance(0.9))
    names = [c.random.pick(["i0", "i0", ""]) if last < 5 else "i0", c.random.pick(["i1", ""]), "i3"]
    # A body that takes i2 from outside.
    case = c.case([count, going, np.asarray(c.random.float(), F32), carried], outputs=1 + scans,
                  output_types=[F32] * (1 + scans), kind="sum")
    outputs = ["o0", "o1"][:1 + scans]
    case.nodes = [helper.make_node("Loop", names, outputs, body=body)]
    return case


@operator("Scan")
def scan(c):
    length, size = c.random.int(1, 4), c.random.int(1, 3)
    axis = c.random.int(0, 1)
    state = c.random.array((size,), F32, "whole")
    dims = (length, size) if axis == 0 else (size, length)
    xs = c.random.array(dims, F32, "whole")
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "x"], ["next"]), helper.make_node("Mul", ["next", "x"], ["out"])],
        "body", [info("state", F32, [size]), info("x", F32, [size])],
        [info("next", F32, [size]), info("out", F32, [size])])
    attributes = {"num_scan_inputs": 1}
    if axis or c.random.chance(0.3):
        attributes["scan_input_axes"] = [axis - 2 if c.opset >= 11 and c.random.chance(0.5) else axis]
    for name in ("scan_input_directions", "scan_output_directions"):
        if c.random.chance(0.4):
            attributes[name] = [c.random.int(0, 1)]
    if c.random.chance(0.4):
        attributes["scan_output_axes"] = [c.random.int(0, 1)]
    case = c.case([state, xs], outputs=2, output_types=[F32, F32], kind="sum")
    case.nodes = [helper.make_node("Scan", ["i0", "i1"], ["o0", "o1"], body=body, **attributes)]
    return case
