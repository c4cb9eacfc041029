"""Operators of one element, or of one element of each input."""

import numpy as np

from . import narrow
from .registry import operator
from .schema import BOOL, F32, FLOATS, NUMBERS


@operator("Abs", "Neg", "Sign", "Relu", "Floor", "Ceil", "Round", "Not", "BitwiseNot", "IsNaN")
def exact(c):
    x = c.random.array(c.random.shape(), c.dtype())
    return c.case([x], kind="exact")


@operator("Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh",
          "Acosh", "Atanh", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Swish", "Mish", "Softplus",
          "Softsign", "Erf", "Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu", "Shrink")
def pointwise(c):
    style = c.random.pick(["plain", "nan", "whole", "special"])
    scale = c.random.pick([0.5, 2.0, 30.0])
    x = c.random.array(c.random.shape(most=9), c.dtype(), style, scale)
    attributes = {}
    for name, attribute in c.schema.attributes.items():
        if attribute.type.name == "FLOAT" and c.random.chance(0.6):
            attributes[name] = c.random.float(0.05, 2.0) if c.random.chance(0.8) else c.random.float(-1.0, 0.0)
        elif name == "approximate" and c.random.chance(0.6):
            attributes[name] = c.random.pick(["none", "tanh"])
    if c.name == "Celu" and attributes.get("alpha") == 0.0:
        attributes["alpha"] = 1.0
    return c.case([x], attributes, kind="pointwise")


@operator("IsInf")
def infinite(c):
    flags = {name: c.random.int(0, 1) for name in c.random.some(["detect_negative", "detect_positive"])}
    return c.case([c.random.array(c.random.shape(), c.dtype(), "special")], flags, kind="exact")


@operator("Clip")
def clip(c):
    dtype = c.dtype()
    x = c.random.array(c.random.shape(), dtype)
    if c.has("min"):
        low = c.random.float(-3, 1)
        bounds = {"min": low, "max": low + c.random.float(-0.5, 3)}
        return c.case([x], {name: bounds[name] for name in c.random.some(bounds)}, kind="exact")
    bounds = [c.random.array((), dtype, c.random.pick(["plain", "whole", "special" if dtype in FLOATS else "whole"]))
              if c.random.chance(0.75) else None for _ in range(2)]
    # A NaN bound means nothing in ONNX's text; a lower bound past the upper one does.
    bounds = [None if bound is not None and dtype in FLOATS and np.isnan(bound.astype(F32)) else bound
              for bound in bounds]
    inputs = [x, *bounds]
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, constants={1, 2}, kind="exact")


def pair(c, style=None):
    dtype = c.dtype()
    first, second = c.random.broadcast_pair()
    if c.random.chance(0.5):
        first, second = second, first
    return c.random.array(first, dtype, style), c.random.array(second, dtype, style)


@operator("Add", "Sub", "Mul")
def arithmetic(c):
    return c.case(pair(c), kind="pointwise", constants={1})


def divisor(c, x, y):
    """`y` without zeros, and without -1 where `x` holds the least integer: these have no result."""
    if y.dtype in FLOATS:
        return y
    y = np.where(y == 0, np.asarray(3, y.dtype), y).astype(y.dtype)
    info = np.iinfo(y.dtype)
    if info.min < 0 and (x == info.min).any():
        y = np.where(y == -1, np.asarray(2, y.dtype), y).astype(y.dtype)
    return y


@operator("Div")
def division(c):
    x, y = pair(c)
    return c.case([x, divisor(c, x, y)], kind="pointwise", constants={1})


@operator("Mod")
def modulo(c):
    x, y = pair(c)
    float_type = x.dtype in FLOATS
    attributes = {"fmod": 1} if float_type or c.random.chance(0.4) else c.random.pick([{}, {"fmod": 0}])
    if float_type:
        y = np.where(y == 0, np.asarray(1.5, y.dtype), y).astype(y.dtype)
    return c.case([x, divisor(c, x, y)], attributes, kind="exact", constants={1})


@operator("Pow")
def power(c):
    variables = [port.type_str for port in c.schema.inputs]
    dtype = c.dtype(variables[0])
    exponent = dtype if variables[0] == variables[1] or c.random.chance(0.5) else c.dtype(variables[1])
    first, second = c.random.broadcast_pair()
    if dtype not in FLOATS:
        # No power that its type can't hold: what becomes of it is nobody's to say.
        x = c.random.rng.integers(0 if dtype.name.startswith("u") else -4, 5, first).astype(dtype)
        y = c.random.rng.integers(0, 4, second).astype(exponent)
    else:
        x = c.random.array(first, dtype, c.random.pick(["positive", "nan", "whole"]))
        y = c.random.array(second, exponent, c.random.pick(["whole", "plain", "nan"]))
    return c.case([x, y], kind="pointwise", constants={1})


@operator("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr",
          "BitwiseXor")
def compared(c):
    x, y = pair(c, c.random.pick(["whole", "special"]))
    return c.case([x, y], kind="exact", constants={1})


@operator("BitShift")
def shift(c):
    dtype = c.dtype()
    first, second = c.random.broadcast_pair()
    bits = dtype.itemsize * 8
    amounts = c.random.rng.integers(0, bits if c.random.chance(0.8) else bits + 3, second).astype(dtype)
    return c.case([c.random.array(first, dtype, "full"), amounts], {"direction": c.random.pick(["LEFT", "RIGHT"])},
                  kind="exact", constants={1})


@operator("PRelu")
def prelu(c):
    dtype = c.dtype()
    shape = c.random.shape()
    return c.case([c.random.array(shape, dtype), c.random.array(c.random.broadcast(shape), dtype, "plain")],
                  kind="pointwise", constants={1})


@operator("Sum", "Mean", "Max", "Min")
def variadic(c):
    dtype = c.dtype()
    shape = c.random.shape()
    equal = c.opset < 8
    count = c.random.int(1, 4)
    shapes = [shape if equal else c.random.broadcast(shape) for _ in range(count)]
    exact = c.name in ("Max", "Min")
    style = None if exact else c.random.pick(["plain", "whole", "nan"])
    return c.case([c.random.array(one, dtype, style) for one in shapes], kind="exact" if exact else "sum",
                  rough=True)


@operator("Where")
def where(c):
    dtype = c.dtype("T")
    shape = c.random.shape()
    x, y, condition = (c.random.broadcast(shape) for _ in range(3))
    return c.case([c.random.array(condition, BOOL), c.random.array(x, dtype), c.random.array(y, dtype)],
                  constants={0})


def fits(x, target):
    """`x` with nothing in it that `target` can't hold: such a conversion has no result that all agree on."""
    if x.dtype in FLOATS and target not in FLOATS and target != BOOL:
        info = np.iinfo(target)
        low, high = max(info.min, -60000), min(info.max, 60000)
        wide = np.nan_to_num(x.astype(np.float64), nan=1.0, posinf=1.0, neginf=1.0)
        return np.where((wide >= low) & (wide <= high), wide, 1.0).astype(x.dtype)
    return x


@operator("Cast")
def cast(c):
    if c.opset >= 19 and c.random.chance(0.4):
        return narrow.there_and_back(c)
    source, target = c.dtype("T1"), c.dtype("T2")
    x = fits(c.random.array(c.random.shape(), source, c.random.pick(["plain", "special", "whole"]), 40.0), target)
    attributes = {"to": NUMBERS[target]}
    if c.has("saturate") and c.random.chance(0.2):
        attributes["saturate"] = c.random.int(0, 1)
    return c.case([x], attributes, output_types=[target], kind="exact")


@operator("CastLike")
def cast_like(c):
    source, target = c.dtype("T1"), c.dtype("T2")
    x = fits(c.random.array(c.random.shape(), source, None, 40.0), target)
    return c.case([x, c.random.array((1,), target)], output_types=[target], kind="exact")




@operator("Dropout")
def dropout(c):
    dtype = c.dtype(c.schema.inputs[0].type_str)
    x = c.random.array(c.random.shape(), dtype)
    outputs = c.random.int(1, 2)
    mask = dtype if c.opset < 10 else BOOL
    if c.has("ratio"):
        attributes = {"ratio": c.random.float(0, 0.9)} if c.random.chance(0.5) else {}
        return c.case([x], attributes, outputs=outputs, output_types=[dtype, mask][:outputs])
    inputs = [x]
    if c.random.chance(0.6):
        inputs.append(c.random.array((), c.dtype("T1"), "positive", 0.2) if c.random.chance(0.7) else None)
        if c.random.chance(0.5):
            inputs.append(np.asarray(False))
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"seed": 3} if c.random.chance(0.2) else {}
    return c.case(inputs, attributes, outputs=outputs, output_types=[dtype, BOOL][:outputs], constants={1, 2})


@operator("Range")
def counted(c):
    dtype = c.dtype()
    start = c.random.rng.integers(-20, 20)
    delta = c.random.pick([1, 2, 3, -1, -2]) if dtype in FLOATS or np.iinfo(dtype).min < 0 else c.random.int(1, 3)
    limit = start + c.random.int(-12, 12)
    values = [start, limit, delta]
    if dtype in FLOATS and c.random.chance(0.5):
        values = [start + 0.25, limit + 0.5, delta * c.random.pick([0.1, 0.5, 0.3])]
    if dtype not in FLOATS and np.iinfo(dtype).min == 0:
        values = [abs(value) for value in values]
    return c.case([np.asarray(value, dtype) for value in values], kind="pointwise", constants={0, 1, 2})


