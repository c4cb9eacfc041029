"""Operators that take elements from places, or put them there."""

import dataclasses

import numpy as np

from .movement import any_array
from .registry import operator
from .schema import BOOL, F32, FLOATS, I32, I64


@operator("Gather")
def gather(c):
    x = any_array(c, c.random.shape(1, empty=0))
    axis = c.random.axis(x.ndim) if c.opset >= 11 else c.random.int(0, x.ndim - 1)
    given = axis % x.ndim != 0 or c.random.chance(0.5)
    indices = c.random.indices(c.random.shape(0, 3), x.shape[axis if given else 0], c.opset >= 11)
    return c.case([x, indices.astype(c.random.pick([I32, I64]))], {"axis": axis} if given else {}, constants={1})


@operator("GatherElements")
def gather_elements(c):
    x = any_array(c, c.random.shape(1, empty=0))
    axis = c.random.axis(x.ndim)
    dims = [c.random.int(1, dim) for dim in x.shape]
    dims[axis] = c.random.int(0 if c.random.chance(0.05) else 1, 5)
    given = axis % x.ndim != 0 or c.random.chance(0.5)
    size = x.shape[axis if given else 0]
    if not given:
        dims = [dims[0], *[min(a, b) for a, b in zip(dims[1:], x.shape[1:])]]
    return c.case([x, c.random.indices(tuple(dims), size).astype(c.random.pick([I32, I64]))],
                  {"axis": axis} if given else {}, constants={1})


def coordinates(c, shape, batch, count):
    """Indices of `count` places, each in the dimensions of `shape` after the first `batch`."""
    depth = c.random.int(1, len(shape) - batch)
    dims = [*shape[:batch], *count]
    return np.stack([c.random.indices(tuple(dims), shape[batch + one]) for one in range(depth)], axis=-1), depth


@operator("GatherND")
def gather_nd(c):
    x = any_array(c, c.random.shape(1, empty=0))
    batch = c.random.int(0, x.ndim - 1) if c.has("batch_dims") and c.random.chance(0.5) else 0
    indices, _ = coordinates(c, x.shape, batch, c.random.shape(0 if batch else 1, 2, 3, empty=0))
    return c.case([x, indices.astype(I64)], {"batch_dims": batch} if batch or
                  c.has("batch_dims") and c.random.chance(0.3) else {}, constants={1})


def reduction(c, dtype):
    if not c.has("reduction") or c.random.chance(0.3):
        return {}
    options = ["none", "add", "mul"] + (["max", "min"] if c.opset >= 18 else [])
    return {"reduction": c.random.pick(options if dtype != BOOL else ["none"])}


@operator("ScatterElements", "Scatter")
def scatter_elements(c):
    x = any_array(c, c.random.shape(1, empty=0))
    axis = c.random.axis(x.ndim)
    given = axis % x.ndim != 0 or c.random.chance(0.5)
    axis = axis if given else 0
    attributes = {**({"axis": axis} if given else {}), **reduction(c, x.dtype)}
    dims = [c.random.int(1, dim) for dim in x.shape]
    if attributes.get("reduction", "none") == "none":
        # No place is written twice: the order of writes is open.
        rows = np.argsort(c.random.rng.random(tuple(d if a != axis % x.ndim else x.shape[axis]
                                                     for a, d in enumerate(dims))), axis=axis)
        indices = np.take(rows, range(dims[axis]), axis=axis)
        indices = np.where(c.random.rng.random(indices.shape) < 0.3, indices - x.shape[axis], indices)
    else:
        dims[axis] = c.random.int(1, 5)
        indices = c.random.indices(tuple(dims), x.shape[axis])
    if c.name == "Scatter":
        indices = indices % x.shape[axis]
    updates = c.random.array(indices.shape, x.dtype, "whole" if attributes.get("reduction") in ("add", "mul") else None)
    return c.case([x, indices.astype(c.random.pick([I32, I64])), updates], attributes, constants={1}, kind="sum")


@operator("ScatterND")
def scatter_nd(c):
    x = any_array(c, c.random.shape(1, empty=0))
    attributes = reduction(c, x.dtype)
    if attributes.get("reduction", "none") == "none":
        depth = c.random.int(1, x.ndim)
        places = np.stack(np.unravel_index(
            c.random.rng.permutation(int(np.prod(x.shape[:depth])))[:c.random.int(1, 5)], x.shape[:depth]), axis=-1)
        places = np.where(c.random.rng.random(places.shape) < 0.3, places - np.asarray(x.shape[:depth]), places)
    else:
        places, depth = coordinates(c, x.shape, 0, c.random.shape(1, 2, 3, empty=0))
    updates = c.random.array((*places.shape[:-1], *x.shape[depth:]), x.dtype,
                             "whole" if attributes.get("reduction") in ("add", "mul") else None)
    return c.case([x, places.astype(I64), updates], attributes, constants={1}, kind="sum")


@operator("OneHot")
def one_hot(c):
    depth = c.random.int(1, 6)
    dtype = c.dtype("T1")
    low = -depth if dtype in FLOATS or np.iinfo(dtype).min < 0 else 0
    far = 2 if c.random.chance(0.3) else 0
    indices = c.random.rng.integers(low - (far if low else 0), depth + far, c.random.shape(0, 3, empty=0)).astype(dtype)
    values = c.random.array((2,), c.dtype("T3"))
    attributes = {"axis": c.random.int(-indices.ndim - 1, indices.ndim)} if c.random.chance(0.7) else {}
    size = np.asarray(depth, c.dtype("T2"))
    case = c.case([indices, size if c.random.chance(0.5) else size.reshape(1), values], attributes,
                  constants={1, 2}, output_types=[values.dtype])
    # Small whole numbers, which i64 holds; values of more than 24 bits are left to the reference.
    inputs = [indices.astype(I64), size.astype(I64), values.astype(F32)]
    if (values.astype(F32).astype(values.dtype) == values).all():
        case.equivalent = (dataclasses.replace(case, inputs=inputs, output_types=[F32]),
                           lambda outputs: [outputs[0].astype(values.dtype)])
    return case


@operator("Compress")
def compress(c):
    x = any_array(c, c.random.shape(1))
    axis = c.random.axis(x.ndim) if c.opset >= 11 else c.random.int(0, x.ndim - 1)
    given = c.random.chance(0.7)
    size = x.shape[axis] if given else x.size
    length = c.random.int(0, size) if c.random.chance(0.4) else size
    return c.case([x, c.random.array((length,), BOOL)], {"axis": axis} if given else {})
