"""Operators that move elements, and those that say where they are."""

import numpy as np

from .registry import operator
from .schema import I32, I64, NUMBERS


def any_array(c, shape=None, variable=None, style=None):
    return c.random.array(c.random.shape() if shape is None else shape, c.dtype(variable), style)


def integers(values, dtype=I64):
    return np.asarray(values, dtype)


@operator("Identity")
def identity(c):
    return c.case([any_array(c)])


@operator("Shape")
def shape(c):
    attributes = {}
    if c.has("start"):
        attributes = {name: c.random.int(-6, 6) for name in c.random.some(["start", "end"])}
    return c.case([any_array(c)], attributes)


@operator("Size", "NonZero")
def plain(c):
    return c.case([any_array(c)])


@operator("Transpose")
def transpose(c):
    x = any_array(c)
    given = x.ndim and c.random.chance(0.75)
    return c.case([x], {"perm": c.random.shuffled(list(range(x.ndim)))} if given else {})


@operator("Flatten")
def flatten(c):
    x = any_array(c, c.random.shape(0 if c.opset >= 9 else 1))
    low = -x.ndim if c.opset >= 11 else 0
    return c.case([x], {"axis": c.random.int(low, x.ndim)} if not x.ndim or c.random.chance(0.75) else {})


def factors(c, count):
    """A shape of `count` elements."""
    dims = []
    for prime in (2, 3, 5, 7):
        while count and count % prime == 0:
            count //= prime
            if dims and c.random.chance(0.5):
                dims[c.random.int(0, len(dims) - 1)] *= prime
            else:
                dims.insert(c.random.int(0, len(dims)), prime)
    dims += [count] if count != 1 else []
    for _ in range(c.random.int(0, 2)):
        dims.insert(c.random.int(0, len(dims)), 1)
    return dims


@operator("Reshape")
def reshape(c):
    x = any_array(c)
    dims = factors(c, x.size) if x.size else list(x.shape)
    attributes = {}
    if x.size and dims and c.random.chance(0.4):
        dims[c.random.int(0, len(dims) - 1)] = -1
    elif c.has("allowzero") and (x.size == 0 or c.random.chance(0.2)):
        attributes["allowzero"] = c.random.int(0, 1)
    if x.size and c.random.chance(0.3):
        dims = list(x.shape)
        if dims:
            dims[c.random.int(0, len(dims) - 1)] = 0
            if attributes.get("allowzero"):
                attributes.pop("allowzero")
    if c.opset < 5:
        return c.case([x], {"shape": dims})
    return c.case([x, integers(dims).reshape(-1)], attributes, constants={1})


def axes_given(c, x, axes, optional=False):
    """The case with axes as an attribute or as an input, as the opset has it."""
    if optional and c.random.chance(0.2):
        return c.case([x])
    if c.has("axes"):
        return c.case([x], {"axes": axes})
    return c.case([x, integers(axes).reshape(-1)], constants={1})


@operator("Squeeze")
def squeeze(c):
    dims = list(c.random.shape(0, 3))
    for _ in range(c.random.int(0, 3)):
        dims.insert(c.random.int(0, len(dims)), 1)
    x = any_array(c, tuple(dims))
    ones = [axis for axis, dim in enumerate(dims) if dim == 1]
    chosen = c.random.some(ones, 1)
    if c.opset >= 11:
        chosen = [axis - len(dims) if c.random.chance(0.3) else axis for axis in chosen]
    return axes_given(c, x, chosen, optional=True)


@operator("Unsqueeze")
def unsqueeze(c):
    x = any_array(c, c.random.shape(0, 3))
    count = c.random.int(1, 3)
    rank = x.ndim + count
    chosen = c.random.shuffled(list(range(rank)))[:count]
    if c.opset >= 11:
        chosen = [axis - rank if c.random.chance(0.3) else axis for axis in chosen]
    return axes_given(c, x, chosen)


@operator("Expand")
def expand(c):
    whole = c.random.shape()
    x = any_array(c, c.random.broadcast(whole))
    return c.case([x, integers(c.random.broadcast(whole, 0.2, 0.2)).reshape(-1)], constants={1})


@operator("Tile")
def tile(c):
    x = any_array(c, c.random.shape(0 if c.opset > 6 else 1))
    return c.case([x, integers([c.random.int(0, 3) if c.random.chance(0.1) else c.random.int(1, 3) for _ in x.shape])
                   .reshape(-1)], constants={1})


@operator("Concat")
def concat(c):
    base = list(c.random.shape(1))
    axis = c.random.int(0, len(base) - 1)
    dtype = c.dtype()
    parts = []
    for _ in range(c.random.int(1, 4)):
        base[axis] = c.random.int(0 if c.random.chance(0.1) else 1, 4)
        parts.append(c.random.array(tuple(base), dtype))
    return c.case(parts, {"axis": axis - len(base) if c.opset >= 11 and c.random.chance(0.4) else axis})


@operator("Split")
def split(c):
    dims = list(c.random.shape(1, empty=0))
    axis = c.random.int(0, len(dims) - 1)
    count = c.random.int(1, 4)
    parts = [c.random.int(0 if c.random.chance(0.1) else 1, 4) for _ in range(count)]
    form = c.random.pick(["given", "equal", "uneven"])
    if form == "equal":
        parts = [parts[0]] * count
    dims[axis] = sum(parts)
    attributes, inputs = {}, []
    if form == "uneven" and c.has("num_outputs"):
        chunk = c.random.int(1, 3)
        dims[axis] = chunk * (count - 1) + c.random.int(1, chunk)
    if not (axis == 0 and c.random.chance(0.5)):
        attributes["axis"] = axis - len(dims) if c.opset >= 11 and c.random.chance(0.4) else axis
    x = any_array(c, tuple(dims))
    if c.has("num_outputs") and form in ("uneven", "equal"):
        attributes["num_outputs"] = count
    elif form != "equal":
        if c.has("split"):
            attributes["split"] = parts
        else:
            inputs = [integers(parts)]
    return c.case([x, *inputs], attributes, outputs=count, constants={1})


@operator("Slice")
def sliced(c):
    x = any_array(c, c.random.shape(1, most=7))
    axes = c.random.some(range(x.ndim), 1)
    far = [2**31, 2**40, 2**63 - 1, -2**31, -2**63 + 1]
    bound = lambda: c.random.pick(far) if c.random.chance(0.1) else c.random.int(-8, 8)
    starts, ends = [bound() for _ in axes], [bound() for _ in axes]
    if c.random.chance(0.3):
        axes = list(range(len(axes)))
        given = False
    else:
        given = True
        if c.opset >= 11:
            axes = [axis - x.ndim if c.random.chance(0.3) else axis for axis in axes]
    if c.has("starts"):
        return c.case([x], {"starts": starts, "ends": ends, **({"axes": axes} if given else {})})
    dtype = c.random.pick([I32, I64])
    clipped = (lambda values: np.clip(values, -2**31 + 1, 2**31 - 1)) if dtype == I32 else (lambda values: values)
    inputs = [x, integers(clipped(starts), dtype), integers(clipped(ends), dtype)]
    inputs.append(integers(axes, dtype) if given else None)
    if c.random.chance(0.6):
        step = lambda: c.random.pick([1, 2, 3, -1, -2, -3, 100, -100, 2**31 - 1])
        inputs.append(integers([step() for _ in axes], dtype))
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, constants={1, 2, 3, 4})


@operator("Pad")
def pad(c):
    modes = ["constant", "constant", "reflect", "edge"] + (["wrap"] if c.opset >= 19 else [])
    mode = c.random.pick(modes)
    x = any_array(c, c.random.shape(1, empty=0 if mode != "constant" else 0.05))
    axes = c.random.some(range(x.ndim), 1) if c.opset >= 18 and c.random.chance(0.4) else None
    reach = lambda axis: min(3, x.shape[axis] - 1) if mode == "reflect" else 3
    over = list(range(x.ndim)) if axes is None else axes
    amounts = lambda axis: 0 if c.random.chance(0.3) else c.random.int(
        -min(1, x.shape[axis] - 1) if mode == "constant" and c.random.chance(0.2) and x.shape[axis] > 2 else 0,
        max(0, reach(axis)))
    pads = [amounts(axis) for axis in over] + [amounts(axis) for axis in over]
    attributes = {} if mode == "constant" and c.random.chance(0.5) else {"mode": mode}
    if c.has("pads"):
        value = {"value": c.random.float()} if c.random.chance(0.5) else {}
        return c.case([x], {"pads": pads, **attributes, **value})
    inputs = [x, integers(pads), None, None]
    if c.random.chance(0.5):
        inputs[2] = c.random.array((), x.dtype, "plain")
    if axes is not None:
        inputs[3] = integers([axis - x.ndim if c.random.chance(0.3) else axis for axis in axes],
                             c.random.pick([I32, I64]))
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, attributes, constants={1, 2, 3})


@operator("CenterCropPad")
def center_crop_pad(c):
    x = any_array(c, c.random.shape(1, empty=0))
    axes = c.random.axes(x.ndim, 1) if c.random.chance(0.6) else None
    count = x.ndim if axes is None else len(axes)
    sizes = integers([c.random.int(1, 8) for _ in range(count)], c.random.pick([I32, I64]))
    return c.case([x, sizes], {} if axes is None else {"axes": axes}, constants={1})


@operator("Trilu")
def trilu(c):
    dims = list(c.random.shape(2, most=6))
    inputs = [any_array(c, tuple(dims))]
    if c.random.chance(0.7):
        inputs.append(integers(c.random.int(-7, 7)))
    return c.case(inputs, {"upper": c.random.int(0, 1)} if c.random.chance(0.7) else {}, constants={1})


@operator("EyeLike")
def eye_like(c):
    x = any_array(c, tuple(c.random.int(1, 6) for _ in range(2)))
    attributes = {"k": c.random.int(-6, 6)} if c.random.chance(0.6) else {}
    dtype = x.dtype
    if c.random.chance(0.5):
        dtype = c.dtype("T2")
        attributes["dtype"] = NUMBERS[dtype]
    return c.case([x], attributes, output_types=[dtype])


@operator("Constant")
def constant(c):
    forms = [name for name in c.schema.attributes if name not in ("sparse_value", "value_string", "value_strings")]
    form = c.random.pick(forms)
    from onnx import numpy_helper
    if form == "value":
        value = any_array(c, variable="T")
        return c.case([], {"value": numpy_helper.from_array(value)}, output_types=[value.dtype])
    many = form.endswith("s")
    if "float" in form:
        return c.case([], {form: [c.random.float() for _ in range(3)] if many else c.random.float()},
                      output_types=[np.float32])
    return c.case([], {form: [c.random.int(-9, 9) for _ in range(3)] if many else c.random.int(-9, 9)},
                  output_types=[np.int64])


@operator("ConstantOfShape")
def constant_of_shape(c):
    from onnx import numpy_helper
    dims = integers(c.random.shape()).reshape(-1)
    if c.random.chance(0.2):
        return c.case([dims], output_types=[np.float32], constants={0})
    value = c.random.array((1,), c.dtype("T2"))
    return c.case([dims], {"value": numpy_helper.from_array(value)}, output_types=[value.dtype], constants={0})


@operator("DepthToSpace")
def depth_to_space(c):
    block = c.random.int(1, 3)
    x = any_array(c, (c.random.int(1, 2), block * block * c.random.int(1, 2), c.random.int(1, 3), c.random.int(1, 3)))
    mode = {"mode": c.random.pick(["DCR", "CRD"])} if c.has("mode") and c.random.chance(0.7) else {}
    return c.case([x], {"blocksize": block, **mode})


@operator("SpaceToDepth")
def space_to_depth(c):
    block = c.random.int(1, 3)
    x = any_array(c, (c.random.int(1, 2), c.random.int(1, 3), block * c.random.int(1, 3), block * c.random.int(1, 3)))
    mode = {"mode": c.random.pick(["DCR", "CRD"])} if c.has("mode") and c.random.chance(0.7) else {}
    return c.case([x], {"blocksize": block, **mode})


@operator("ReverseSequence")
def reverse_sequence(c):
    x = any_array(c, c.random.shape(2, empty=0))
    time = c.random.int(0, 1)
    lengths = integers([c.random.int(1, x.shape[time]) for _ in range(x.shape[1 - time])])
    attributes = {} if time == 0 and c.random.chance(0.5) else {"time_axis": time, "batch_axis": 1 - time}
    return c.case([x, lengths], attributes, constants={1})
