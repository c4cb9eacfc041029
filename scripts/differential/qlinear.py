"""Operators of com.microsoft on integers of 8 bits."""

import numpy as np

from .microsoft import MICROSOFT, case_of, maybe, plain
from .neural import spatial_shape, window
from .quantized import product_shapes, scale, zero
from .registry import operator
from .schema import F32, I8, I32, U8


def tensor(c, shape, dtype, scales=()):
    """A tensor, its scale and its zero point."""
    return [c.random.array(shape, dtype, "full"), scale(c, scales), zero(c, scales, dtype)]


def result(c, dtype):
    """The scale and the zero point of an output."""
    return [scale(c) * np.float32(c.random.pick([1, 8])), zero(c, (), dtype)]


@operator("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def quantized_pair(c):
    dtype = c.random.pick([U8, I8])
    first, second = c.random.broadcast_pair()
    inputs = [*tensor(c, first, dtype), *tensor(c, second, dtype), *result(c, dtype)]
    return case_of(c, inputs, always={1, 2, 4, 5, 6, 7}, types=[dtype], kind="quantized")


@operator("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=MICROSOFT)
def quantized_single(c):
    dtype, shape, attributes = c.random.pick([U8, I8]), c.random.shape(1, empty=0), {}
    if c.name == "QLinearLeakyRelu" and c.random.chance(0.7):
        attributes["alpha"] = c.random.float(-1.0, 1.0)
    out = result(c, dtype)
    if c.name == "QLinearSoftmax":
        attributes["opset"] = c.random.pick([11, 12, 13, 17])
        if c.random.chance(0.6):
            attributes["axis"] = c.random.axis(len(shape))
        out = [np.float32(1 / 256), np.asarray(0 if dtype == U8 else -128, dtype)]
    return case_of(c, [*tensor(c, shape, dtype), *out], attributes, always={1, 2, 3, 4}, types=[dtype],
                   kind="quantized")


@operator("QLinearAveragePool", "QLinearGlobalAveragePool", domain=MICROSOFT)
def quantized_pool(c):
    dtype, attributes, spatial = c.random.pick([U8, I8]), None, None
    if c.name == "QLinearAveragePool":
        while attributes is None:
            spatial = spatial_shape(c)
            kernel = [c.random.int(1, 3) for _ in spatial]
            attributes = window(c, spatial, kernel, False, True)
        attributes["kernel_shape"] = kernel
        if c.random.chance(0.5):
            attributes["count_include_pad"] = c.random.int(0, 1)
    x = tensor(c, (c.random.int(1, 2), c.random.int(1, 3), *(spatial or spatial_shape(c))), dtype)
    return case_of(c, [*x, *result(c, dtype)], attributes, always={1, 2, 3, 4}, types=[dtype], kind="quantized")


@operator("QLinearConcat", domain=MICROSOFT)
def quantized_concat(c):
    dtype, base = c.random.pick([U8, I8]), list(c.random.shape(1, empty=0))
    axis, inputs = c.random.int(0, len(base) - 1), result(c, dtype)
    for _ in range(c.random.int(1, 4)):
        base[axis] = c.random.int(1, 4)
        inputs += tensor(c, tuple(base), dtype)
    always = {0, 1, *(place for place in range(2, len(inputs)) if (place - 2) % 3)}
    return case_of(c, inputs, {"axis": axis}, always=always, types=[dtype], kind="quantized")


def along(c, shape):
    """The shape of scales, and the attributes that say along which axis they are."""
    if shape and c.random.chance(0.4):
        axis = c.random.axis(len(shape))
        return (shape[axis],), {"axis": axis}
    return (), {}


@operator("QuantizeLinear", domain=MICROSOFT)
def quantize(c):
    dtype, shape = c.random.pick([U8, I8, np.dtype(np.int16), np.dtype(np.uint16)]), c.random.shape()
    dims, attributes = along(c, shape)
    zeros = zero(c, dims, dtype)
    return case_of(c, [plain(c, *shape, scale=9.0), scale(c, dims), zeros if dtype != U8 else maybe(c, zeros)],
                   attributes, always={1, 2}, types=[dtype], kind="exact")


@operator("DequantizeLinear", domain=MICROSOFT)
def dequantize(c):
    dtype, shape = c.random.pick([U8, I8, np.dtype(np.int16), np.dtype(np.uint16), I32]), c.random.shape()
    dims, attributes = along(c, shape)
    x, steps, zeros = tensor(c, shape, dtype, dims)
    return case_of(c, [x, steps, maybe(c, zeros) if dtype != I32 else None], attributes, always={1, 2},
                   kind="pointwise")


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_matmul(c):
    first, second = product_shapes(c)
    second = second[-2:]
    dtype, row = c.random.pick([U8, I8]), (second[-1],) if c.random.chance(0.4) else ()
    b, steps, zeros = tensor(c, second, dtype, row)
    return case_of(c, [plain(c, *first), b, steps, maybe(c, zeros), maybe(c, plain(c, second[-1]))], always={1, 3})


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_to_float(c):
    first, second = product_shapes(c)
    second = second[-2:]
    row = (second[-1],) if c.random.chance(0.4) else ()
    a, b = c.random.pick([(U8, U8), (U8, I8), (I8, I8)])
    (a, scale_a, zero_a), (b, scale_b, zero_b) = tensor(c, first, a), tensor(c, second, b, row)
    return case_of(c, [a, b, scale_a, scale_b, maybe(c, zero_a), maybe(c, zero_b), maybe(c, plain(c, second[-1]))],
                   always={1})


@operator("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_lstm(c):
    direction = c.random.pick(["forward", "reverse", "bidirectional"])
    count = 2 if direction == "bidirectional" else 1
    length, batch, size, hidden = (c.random.int(1, 4) for _ in range(4))
    dtype, state = c.random.pick([U8, I8]), (count, batch, hidden)
    each = (count, 4 * hidden) if c.random.chance(0.4) else (count,)
    weights = [c.random.array((count, rows, 4 * hidden), dtype, "whole") for rows in (size, hidden)]
    inputs = [plain(c, length, batch, size), *weights, maybe(c, plain(c, count, 8 * hidden)),
              maybe(c, c.random.rng.integers(1, length + 1, batch).astype(I32)), maybe(c, plain(c, *state)),
              maybe(c, plain(c, *state)), maybe(c, plain(c, count, 3 * hidden), 0.3)]
    for _ in range(2):
        inputs += [scale(c, each) * np.float32(0.2), zero(c, each, dtype, 9) if each == (count,) else
                   np.zeros(each, dtype)]
    attributes = {"hidden_size": hidden, "direction": direction}
    if c.random.chance(0.2):
        attributes["clip"] = c.random.float(0.3, 2.0)
    if c.random.chance(0.2):
        attributes["input_forget"] = c.random.int(0, 1)
    return case_of(c, inputs, attributes, always={1, 2, 8, 9, 10, 11}, types=[F32] * c.random.int(1, 3),
                   kind="dynamic")
