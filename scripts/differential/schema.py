"""What ONNX's own schemas say of an operator: its versions, types and attributes."""

import functools

import ml_dtypes
import numpy as np
import onnx

ELEMENTS = {
    "float": np.dtype(np.float32), "double": np.dtype(np.float64), "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16), "bool": np.dtype(np.bool_),
    **{name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
NUMBERS = {dtype: onnx.helper.np_dtype_to_tensor_dtype(dtype) for dtype in ELEMENTS.values()}
DTYPES = {number: dtype for dtype, number in NUMBERS.items()}
F16, BF16, F32, F64 = (ELEMENTS[name] for name in ("float16", "bfloat16", "float", "double"))
I8, I32, I64, U8, BOOL = (ELEMENTS[name] for name in ("int8", "int32", "int64", "uint8", "bool"))
FLOATS = (F16, BF16, F32, F64)


@functools.cache
def versions(domain, name):
    """Every opset at which the operator changed."""
    schemas = onnx.defs.get_all_schemas_with_history()
    return sorted({schema.since_version for schema in schemas if (schema.domain, schema.name) == (domain, name)})


@functools.cache
def schema(domain, name, opset):
    return onnx.defs.get_schema(name, opset, domain)


@functools.cache
def known_to_onnx(domain, name, opset):
    """Whether ONNX has a schema of the operator at the opset: of com.microsoft it has none."""
    return any(version <= opset for version in versions(domain, name))


@functools.cache
def allowed(domain, name, opset, types):
    """The element types of each type variable, those of `types` alone; for an input of one type its own."""
    found = schema(domain, name, opset)
    table = {one.type_param_str: one.allowed_type_strs for one in found.type_constraints}
    for port in [*found.inputs, *found.outputs]:
        table.setdefault(port.type_str, [port.type_str])
    plain = {variable: [elements(text) for text in texts] for variable, texts in table.items()}
    return {variable: tuple(t for t in found if t is not None and NUMBERS[t] in types)
            for variable, found in plain.items()}


def elements(text):
    """The element type of "tensor(float)"; None of anything that is no tensor, or of a type of no number here."""
    return ELEMENTS.get(text.removeprefix("tensor(").removesuffix(")")) if text.startswith("tensor(") else None
