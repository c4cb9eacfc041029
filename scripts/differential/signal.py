"""Transforms of signals."""

import numpy as np

from .registry import operator
from .schema import I32, I64, NUMBERS


@operator("HannWindow", "HammingWindow", "BlackmanWindow")
def window(c):
    attributes = {"periodic": c.random.int(0, 1)} if c.random.chance(0.6) else {}
    target = c.dtype("T2")
    if c.random.chance(0.5):
        attributes["output_datatype"] = NUMBERS[target]
    else:
        target = np.dtype(np.float32)
    return c.case([np.asarray(c.random.int(1, 12), c.random.pick([I32, I64]))], attributes, output_types=[target],
                  constants={0}, kind="pointwise")


@operator("DFT")
def dft(c):
    rank = c.random.int(1, 3)
    inverse, onesided = c.random.chance(0.3), c.random.chance(0.3)
    dims = [c.random.int(1, 6) for _ in range(rank)]
    real = onesided and not inverse or c.random.chance(0.4)
    x = c.random.array((*dims, 1 if real else 2), c.floats("T1"), "plain")
    attributes = {name: 1 for name, flag in (("inverse", inverse), ("onesided", onesided and not inverse)) if flag}
    inputs = [x, None, None]
    axis = c.random.int(-rank - 1, rank - 1)
    if axis == -1:
        axis = -2
    if c.opset < 20:
        rank >= 2 and c.random.chance(0.5) or attributes.update(axis=axis % (rank + 1))
        inputs.pop()
    elif c.random.chance(0.7):
        inputs[2] = np.asarray(axis, I64)
    if c.random.chance(0.4):
        inputs[1] = np.asarray(c.random.int(1, 8), c.random.pick([I32, I64]))
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, attributes, constants={1, 2}, kind="sum")


@operator("STFT")
def stft(c):
    dtype = c.floats("T1")
    length, frame, step = c.random.int(8, 30), c.random.int(2, 8), c.random.int(1, 5)
    real = c.random.chance(0.7)
    index = c.random.pick([I32, I64])
    inputs = [c.random.array((c.random.int(1, 2), length, 1 if real else 2), dtype, "plain"), np.asarray(step, index),
              None, None]
    form = c.random.pick(["window", "length", "both"])
    if form != "length":
        inputs[2] = c.random.array((frame,), dtype, "positive", 0.5)
    if form != "window":
        inputs[3] = np.asarray(frame, index)
    while inputs[-1] is None:
        inputs.pop()
    onesided = c.random.int(0, 1) if real else 0
    return c.case(inputs, {"onesided": onesided} if not real or c.random.chance(0.7) else {}, constants={1, 2, 3},
                  kind="sum")


@operator("MelWeightMatrix")
def mel(c):
    rate = c.random.pick([8000, 16000])
    low = c.random.float(0, 500)
    values = [(c.random.int(1, 10), "T1"), (c.random.pick([16, 64, 256]), "T1"), (rate, "T1"), (low, "T2"),
              (low + c.random.float(500, rate / 2 - 1000), "T2")]
    index = c.dtype("T1", (I32, I64))
    real = c.floats("T2")
    inputs = [np.asarray(value, index if kind == "T1" else real) for value, kind in values]
    return c.case(inputs, constants={0, 1, 2, 3, 4}, output_types=[np.float32], kind="sum")
