"""Quantization, and products of integers."""

import dataclasses

import numpy as np

from . import narrow
from .neural import convolved
from .registry import operator
from .schema import FLOATS, F32, I8, I32, NUMBERS, U8


def scale(c, shape=(), dtype=F32):
    """Scales, powers of two now and then, so that ties are exact."""
    if dtype == I32:
        return np.asarray(c.random.rng.integers(1, 4, shape)).astype(dtype)
    if c.random.chance(0.5):
        return np.asarray(2.0 ** c.random.rng.integers(-4, 2, shape)).astype(dtype)
    return np.asarray(c.random.rng.uniform(0.01, 0.5, shape)).astype(dtype)


def zero(c, shape, dtype, high=200):
    info = np.iinfo(dtype)
    return c.random.rng.integers(max(info.min, -high), min(info.max, high), shape, endpoint=True).astype(dtype)


def granularity(c, x):
    """The shape of scales for `x` and the attributes that say so."""
    form = c.random.pick(["tensor", "axis", "blocks"])
    if form == "axis" and c.opset >= 13 and x.ndim:
        axis = c.random.axis(x.ndim)
        given = axis not in (1, 1 - x.ndim) or c.random.chance(0.5)
        if given or x.ndim > 1:
            return (x.shape[axis],), {"axis": axis} if given else {}
    if form == "blocks" and c.has("block_size") and x.ndim and x.size:
        axis = c.random.axis(x.ndim)
        block = c.random.int(1, x.shape[axis])
        dims = list(x.shape)
        dims[axis] = -(-dims[axis] // block)
        return tuple(dims), {"axis": axis, "block_size": block}
    return c.random.pick([(), (), (1,)]) if x.ndim != 1 else (), {}


@operator("QuantizeLinear")
def quantize(c):
    if c.opset >= 19 and c.random.chance(0.4):
        return narrow.quantized(c, scale, granularity)
    kinds = [port.type_str for port in c.schema.inputs]
    source = c.dtype(kinds[0], (*FLOATS, I32))
    x = c.random.array(c.random.shape(), source, c.random.pick(["plain", "whole"]), c.random.pick([2.0, 30.0]))
    dims, attributes = granularity(c, x)
    kind = source if kinds[1] == kinds[0] else F32
    if kinds[1] not in (kinds[0], "tensor(float)"):
        kind = c.dtype(kinds[1], FLOATS)
    inputs, target = [x, scale(c, dims, kind)], U8
    target = c.dtype(c.schema.outputs[0].type_str)
    if c.has("output_dtype") and c.random.chance(0.3):
        attributes["output_dtype"] = NUMBERS[target]
        if c.random.chance(0.5):
            inputs.append(zero(c, dims, target))
    elif target == U8 and c.random.chance(0.4):
        pass
    else:
        inputs.append(zero(c, dims, target))
    return c.case(inputs, attributes, output_types=[target], constants={1, 2}, kind="exact")


@operator("DequantizeLinear")
def dequantize(c):
    if c.opset >= 19 and c.random.chance(0.4):
        return narrow.quantized(c, scale, granularity)
    kinds = [port.type_str for port in c.schema.inputs]
    source = c.dtype(kinds[0])
    x = c.random.array(c.random.shape(), source, "full" if source != I32 else "whole")
    dims, attributes = granularity(c, x)
    kind = F32 if kinds[1] == "tensor(float)" else c.dtype(kinds[1], FLOATS)
    inputs = [x, scale(c, dims, kind)]
    if c.random.chance(0.6):
        inputs.append(zero(c, dims, source) if source != I32 else np.zeros(dims, source))
    target = kind
    if c.has("output_dtype") and c.random.chance(0.3):
        target = c.dtype(c.schema.outputs[0].type_str)
        attributes["output_dtype"] = NUMBERS[target]
    return c.case(inputs, attributes, output_types=[target], constants={1, 2}, kind="pointwise")


@operator("DynamicQuantizeLinear")
def dynamic(c):
    x = c.random.array(c.random.shape(1, empty=0), F32, c.random.pick(["plain", "whole", "positive"]),
                       c.random.pick([0.1, 2.0, 50.0]))
    return c.case([x], outputs=3, output_types=[U8, F32, U8], kind="quantized")


def product_shapes(c):
    m, k, n = c.random.int(1, 5), c.random.int(1, 40), c.random.int(1, 5)
    batch = c.random.shape(0, 2, 3, empty=0)
    return (*c.random.broadcast(batch), m, k), (*c.random.broadcast(batch), k, n)


@operator("MatMulInteger")
def matmul_integer(c):
    first, second = product_shapes(c)
    a, b = c.dtype("T1"), c.dtype("T2")
    inputs = [c.random.array(first, a, "full"), c.random.array(second, b, "full"), None, None]
    if c.random.chance(0.5):
        inputs[2] = zero(c, (first[-2],) if len(first) == 2 and c.random.chance(0.1) else (), a)
    if c.random.chance(0.5):
        inputs[3] = zero(c, (second[-1],) if len(second) == 2 and c.random.chance(0.3) else (), b)
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, constants={1, 2, 3}, output_types=[I32])


@operator("QLinearMatMul")
def quantized_matmul(c):
    first, second = product_shapes(c)
    variables = [port.type_str for port in c.schema.inputs]
    a, b, y = (c.dtype(variables[place]) for place in (0, 3, 7))
    kind = F32 if variables[1] == "tensor(float)" else c.dtype(variables[1], FLOATS)
    row = (second[-1],) if len(second) == 2 and c.random.chance(0.3) else ()
    inputs = [c.random.array(first, a, "full"), scale(c, (), kind), zero(c, (), a),
              c.random.array(second, b, "full"), scale(c, row, kind), zero(c, row, b),
              (scale(c, (), F32) * 1000).astype(kind), zero(c, (), y)]
    case = c.case(inputs, output_types=[y], constants={1, 2, 3, 4, 5, 6, 7}, kind="quantized")
    return unsigned(case, (0, 2), 7)


@operator("ConvInteger")
def conv_integer(c):
    a, b = c.dtype("T1"), c.dtype("T2")
    x, w, attributes = convolved(c, a, "full", b)
    inputs = [x, w, None, None]
    if c.random.chance(0.5):
        inputs[2] = zero(c, (), a)
    if c.random.chance(0.5):
        inputs[3] = zero(c, (), b)
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, attributes, constants={1, 2, 3}, output_types=[I32])


@operator("QLinearConv")
def quantized_conv(c):
    a, b, y = c.dtype("T1"), c.dtype("T2"), c.dtype("T3")
    x, w, attributes = convolved(c, a, "full", b)
    each = (w.shape[0],) if c.random.chance(0.4) else ()
    inputs = [x, scale(c), zero(c, (), a), w, scale(c, each), zero(c, (), b) if not each else
              np.full(each, zero(c, (), b)), scale(c) * np.float32(500), zero(c, (), y)]
    inputs = [np.asarray(one) for one in inputs]
    if c.random.chance(0.5):
        inputs.append(c.random.rng.integers(-5000, 5000, w.shape[0]).astype(I32))
    case = c.case(inputs, attributes, output_types=[y], constants={1, 2, 3, 4, 5, 6, 7, 8}, kind="quantized")
    return unsigned(case, (0, 2), 7)


def unsigned(case, ours, result):
    """The case with the equivalent whose signed inputs and output are shifted into unsigned ones."""
    inputs = list(case.inputs)
    signed = inputs[result].dtype == I8
    for place in (*ours, result):
        if inputs[place].dtype == I8:
            inputs[place] = np.asarray(inputs[place].astype(np.int16) + 128, U8)
    other = dataclasses.replace(case, inputs=inputs, output_types=[U8])
    case.equivalent = other, lambda outputs: [
        (output.astype(np.int16) - 128).astype(I8) if signed else output for output in outputs]
    return case


