"""Recurrent networks."""

import dataclasses

import numpy as np

from .registry import operator
from .schema import I32

ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
               "Softsign", "Softplus"]
ALPHA = {"Affine": 1, "LeakyRelu": 1, "ThresholdedRelu": 1, "ScaledTanh": 1, "HardSigmoid": 1, "Elu": 1}
BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


@operator("RNN", "GRU", "LSTM")
def recurrent(c):
    dtype = c.floats("T")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[c.name]
    directions = c.random.pick(["forward", "reverse", "bidirectional"])
    count = 2 if directions == "bidirectional" else 1
    length, batch, size, hidden = (c.random.int(1, 4) for _ in range(4))
    array = lambda *shape: c.random.array(shape, dtype, "plain", 0.6)
    attributes = {"hidden_size": hidden}
    if directions != "forward" or c.random.chance(0.3):
        attributes["direction"] = directions
    batch_first = c.has("layout") and c.random.chance(0.25)
    if batch_first:
        attributes["layout"] = 1
    first = (batch, length) if batch_first else (length, batch)
    state = (batch, count, hidden) if batch_first else (count, batch, hidden)
    inputs = [array(*first, size), array(count, gates * hidden, size), array(count, gates * hidden, hidden)]
    rest = [lambda: array(count, 2 * gates * hidden),
            lambda: np.asarray([c.random.int(1, length) for _ in range(batch)], I32), lambda: array(*state)]
    if c.name == "LSTM":
        rest += [lambda: array(*state), lambda: array(count, 3 * hidden)]
    inputs += [make() if c.random.chance(0.5) else None for make in rest]
    while inputs[-1] is None:
        inputs.pop()
    if c.random.chance(0.3):
        each = {"RNN": 1, "GRU": 2, "LSTM": 3}[c.name]
        names = [c.random.pick(ACTIVATIONS) for _ in range(each * count)]
        attributes["activations"] = names
        if c.random.chance(0.5):
            # One for each function that has it, in their order.
            attributes["activation_alpha"] = [c.random.float(0.1, 0.9) for name in names if name in ALPHA] or None
            attributes["activation_beta"] = [c.random.float(0.1, 0.9) for name in names if name in BETA] or None
    if c.random.chance(0.2):
        attributes["clip"] = c.random.float(0.3, 2.0)
    if c.name == "GRU" and c.random.chance(0.5):
        attributes["linear_before_reset"] = c.random.int(0, 1)
    if c.name == "LSTM" and c.random.chance(0.2):
        attributes["input_forget"] = c.random.int(0, 1)
    most = 3 if c.name == "LSTM" else 2
    case = c.case(inputs, attributes, outputs=c.random.int(1, most), constants={1, 2, 3}, kind="sum", rough=True)
    if batch_first:
        case.equivalent = sequence_first(case)
    return case


def sequence_first(case):
    """The same with the sequence before the batch, which is all that onnxruntime has, and the way back."""
    attributes = {name: value for name, value in case.attributes.items() if name != "layout"}
    inputs = [array if array is None or place not in (0, 5, 6) else array.swapaxes(0, 1).copy()
              for place, array in enumerate(case.inputs)]

    def back(outputs):
        # From (length, directions, batch, hidden), and from (directions, batch, hidden).
        return [outputs[0].transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in outputs[1:])]
    return dataclasses.replace(case, inputs=inputs, attributes=attributes), back
