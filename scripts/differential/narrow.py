"""Types of 8, 4 and 2 bits: numbers are turned into them and back in one model, as numpy has none of the bits."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .schema import F16, F32, NUMBERS

# Each with the opset that has it first.
CODES = [
    (19, "float8_e4m3fn", TensorProto.FLOAT8E4M3FN), (19, "float8_e4m3fnuz", TensorProto.FLOAT8E4M3FNUZ),
    (19, "float8_e5m2", TensorProto.FLOAT8E5M2), (19, "float8_e5m2fnuz", TensorProto.FLOAT8E5M2FNUZ),
    (21, "int4", TensorProto.INT4), (21, "uint4", TensorProto.UINT4),
    (23, "float4_e2m1fn", TensorProto.FLOAT4E2M1), (24, "float8_e8m0fnu", TensorProto.FLOAT8E8M0),
    (25, "int2", TensorProto.INT2), (25, "uint2", TensorProto.UINT2),
]
BOUNDS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def chosen(c, without=()):
    """The name and the number of a type that the opset has."""
    return c.random.pick([row[1:] for row in CODES if row[0] <= c.opset and row[1] not in without])


def there_and_back(c):
    """Cast to a narrow type and back."""
    name, number = chosen(c)
    source, target = c.random.pick([F32, F32, F16]), c.random.pick([F32, F32, F16])
    x = c.random.array(c.random.shape(), source, c.random.pick(["plain", "nan", "special"]),
                       c.random.pick([1.0, 30.0, 1000.0]))
    attributes = {"saturate": c.random.int(0, 1)} if "float8" in name and c.random.chance(0.6) else {}
    if name == "float8_e8m0fnu":
        x = np.abs(x)
        if c.random.chance(0.6):
            attributes["round_mode"] = c.random.pick(["up", "down", "nearest"])
    if name in BOUNDS:
        x = np.clip(np.nan_to_num(x.astype(F32)), *BOUNDS[name]).astype(source)
    nodes = [helper.make_node("Cast", ["i0"], ["code"], to=number, **attributes),
             helper.make_node("Cast", ["code"], ["o0"], to=NUMBERS[target])]
    shown = {"to": number, **attributes}
    return c.case([x], shown, output_types=[target], kind="exact", nodes=nodes)


def quantized(c, scale, granularity):
    """QuantizeLinear to a narrow type, and DequantizeLinear back."""
    name, number = chosen(c, ("float8_e8m0fnu",))
    x = c.random.array(c.random.shape(), F32, c.random.pick(["plain", "whole"]), c.random.pick([2.0, 30.0]))
    dims, attributes = granularity(c, x)
    low, high = BOUNDS.get(name, (0, 0))
    zeros = c.random.rng.integers(low, high + 1, dims).astype(np.dtype(getattr(ml_dtypes, name)))
    saturate = {"saturate": c.random.int(0, 1)} if "float8" in name and c.random.chance(0.4) else {}
    nodes = [helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.asarray(zeros))),
             helper.make_node("QuantizeLinear", ["i0", "i1", "zero"], ["code"], **attributes, **saturate),
             helper.make_node("DequantizeLinear", ["code", "i1", "zero"], ["o0"], **attributes)]
    return c.case([x, scale(c, dims)], {"type": name, **attributes, **saturate}, output_types=[F32], kind="pointwise",
                  constants={1}, nodes=nodes)
