"""Operators of language models: attention and what goes with it."""

import numpy as np

from .registry import operator
from .schema import BOOL, F32, F64, I64, NUMBERS


@operator("Attention")
def attention(c):
    random = c.random
    keys, heads_kv, shared = c.dtype("T1"), random.int(1, 2), random.int(1, 2)
    values = keys if random.chance(0.8) else c.dtype("T2")
    heads, batch, size, size_v = heads_kv * shared, random.int(1, 2), random.int(1, 4), random.int(1, 4)
    queries, length = random.int(1, 4), random.int(1, 4)
    flat = random.chance(0.4)
    attributes = {"q_num_heads": heads, "kv_num_heads": heads_kv} if flat else {}

    def tensor(count, places, width, dtype):
        array = random.array((batch, count, places, width), dtype, "plain", 1.0)
        return array.transpose(0, 2, 1, 3).reshape(batch, places, count * width) if flat else array
    inputs = [tensor(heads, queries, size, keys), tensor(heads_kv, length, size, keys),
              tensor(heads_kv, length, size_v, values), None, None, None]
    before = 0
    if random.chance(0.3):
        before = random.int(1, 3)
        inputs[4] = random.array((batch, heads_kv, before, size), keys, "plain", 1.0)
        inputs[5] = random.array((batch, heads_kv, before, size_v), values, "plain", 1.0)
    total = before + length
    if random.chance(0.5):
        dims = [random.pick([1, batch]), random.pick([1, heads]), queries, total]
        dims = dims[random.int(0, 2):]
        # Whole rows that may attend to nothing are a matter of their own.
        mask = random.array(tuple(dims), BOOL) if random.chance(0.5) else random.array(tuple(dims), keys, "plain")
        if mask.dtype == BOOL:
            mask[..., 0] = True
        inputs[3] = mask
    if c.opset >= 24 and inputs[4] is None and random.chance(0.25):
        inputs.append(random.rng.integers(1, length + 1, batch).astype(I64))
    while inputs[-1] is None:
        inputs.pop()
    for name, make in (("scale", lambda: random.float(0.2, 1.5)), ("is_causal", lambda: random.int(0, 1)),
                       ("softcap", lambda: random.float(0.5, 3.0)),
                       ("softmax_precision", lambda: NUMBERS[random.pick([F32, F64])]),
                       ("left_window_size", lambda: random.int(-1, 3)),
                       ("right_window_size", lambda: random.int(0, 3))):
        if c.has(name) and random.chance(0.3):
            attributes[name] = make()
    outputs = random.pick([1, 1, 3, 4])
    if outputs == 4 and random.chance(0.7):
        attributes["qk_matmul_output_mode"] = random.int(0, 3)
    return c.case(inputs, attributes, outputs=outputs, output_types=[keys, keys, values, keys][:outputs], kind="sum")


@operator("FlexAttention", domain="ai.onnx.preview")
def flex_attention(c):
    random = c.random
    dtype, heads_kv, shared = c.dtype(), random.int(1, 2), random.int(1, 2)
    batch, size, size_v = random.int(1, 2), random.int(1, 4), random.int(1, 4)
    queries, length = random.int(1, 4), random.int(1, 4)
    shapes = [(batch, heads_kv * shared, queries, size), (batch, heads_kv, length, size),
              (batch, heads_kv, length, size_v)]
    attributes = {"scale": random.float(0.2, 1.5)} if random.chance(0.4) else {}
    return c.case([random.array(shape, dtype, "plain", 1.0) for shape in shapes], attributes, kind="sum")


@operator("RotaryEmbedding")
def rotary(c):
    random = c.random
    dtype, batch, heads, length = c.dtype("T"), random.int(1, 2), random.int(1, 3), random.int(1, 4)
    size = 2 * random.int(1, 4)
    turned = 2 * random.int(1, size // 2)
    attributes = {}
    if turned != size or random.chance(0.3):
        attributes["rotary_embedding_dim"] = turned
    if random.chance(0.5):
        attributes["interleaved"] = random.int(0, 1)
    shape = (batch, heads, length, size)
    if random.chance(0.4):
        shape, attributes["num_heads"] = (batch, length, heads * size), heads
    elif random.chance(0.3):
        attributes["num_heads"] = heads
    places = random.int(length, length + 3)
    by_number = random.chance(0.6)
    cache = (places, turned // 2) if by_number else (batch, length, turned // 2)
    inputs = [random.array(shape, dtype, "plain"), random.array(cache, dtype, "plain", 1.0),
              random.array(cache, dtype, "plain", 1.0)]
    if by_number:
        inputs.append(random.rng.integers(0, places, (batch, length)).astype(I64))
    return c.case(inputs, attributes, kind="sum")


@operator("TensorScatter")
def tensor_scatter(c):
    random = c.random
    dims = list(random.shape(2, empty=0))
    axis = random.int(1, len(dims) - 1)
    given = axis != len(dims) - 2 or random.chance(0.5)
    axis = axis if given else len(dims) - 2
    if axis == 0:
        dims, axis = [random.int(1, 3), *dims], 1
    dtype = c.dtype()
    update = list(dims)
    update[axis] = random.int(1, dims[axis])
    inputs = [random.array(tuple(dims), dtype), random.array(tuple(update), dtype)]
    attributes = {"axis": axis - len(dims) if random.chance(0.4) else axis} if given else {}
    circular = random.chance(0.4)
    if circular or random.chance(0.3):
        attributes["mode"] = "circular" if circular else "linear"
    if random.chance(0.6):
        last = 3 * dims[axis] if circular else dims[axis] - update[axis]
        inputs.append(random.rng.integers(0, last + 1, dims[0]).astype(I64))
    return c.case(inputs, attributes)


@operator("CumProd")
def running_product(c):
    dtype = c.dtype("T")
    style = "plain" if dtype.kind != "i" and dtype.kind != "u" else "whole"
    x = c.random.array(c.random.shape(1, empty=0), dtype, style)
    attributes = {name: c.random.int(0, 1) for name in c.random.some(["exclusive", "reverse"])}
    return c.case([x, np.asarray(c.random.axis(x.ndim), c.dtype("T2"))], attributes, constants={1}, kind="sum")


@operator("BitCast")
def bit_cast(c):
    x = c.random.array(c.random.shape(), c.dtype("T1"))
    targets = [t for t in c.allowed("T2") if t.itemsize == x.dtype.itemsize and t != BOOL]
    if x.dtype == BOOL or not targets:
        x, targets = c.random.array(x.shape, np.dtype(np.int32)), [F32]
    target = c.random.pick(targets)
    return c.case([x], {"to": NUMBERS[target]}, output_types=[target])


@operator("SwiGLU")
def swiglu(c):
    dtype, shape = c.dtype(), c.random.shape()
    attributes = {"alpha": c.random.float(0.2, 2.0)} if c.random.chance(0.5) else {}
    return c.case([c.random.array(shape, dtype, "plain") for _ in range(2)], attributes, kind="sum")


@operator("CausalConvWithState")
def causal_convolution(c):
    random = c.random
    dtype, batch, channels = c.dtype(), random.int(1, 2), random.int(1, 3)
    length, k = random.int(1, 5), random.int(1, 4)
    inputs = [random.array((batch, channels, length), dtype, "plain"), random.array((channels, 1, k), dtype, "plain"),
              random.array((channels,), dtype, "plain") if random.chance(0.5) else None,
              random.array((batch, channels, k - 1), dtype, "plain") if random.chance(0.5) else None]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"activation": random.pick(["none", "silu", "swish"])} if random.chance(0.7) else {}
    return c.case(inputs, attributes, outputs=random.int(1, 2), kind="sum")


@operator("LinearAttention")
def linear_attention(c):
    random = c.random
    dtype, heads_kv, shared = c.dtype("T"), random.int(1, 2), random.int(1, 2)
    batch, length, size, size_v = random.int(1, 2), random.int(1, 4), random.int(1, 3), random.int(1, 3)
    state = c.dtype("S")
    rule = random.pick(["linear", "gated", "delta", "gated_delta"])
    attributes = {"q_num_heads": heads_kv * shared, "kv_num_heads": heads_kv}
    if rule != "gated_delta" or random.chance(0.5):
        attributes["update_rule"] = rule
    if random.chance(0.4):
        attributes["scale"] = random.float(0.2, 1.5)
    array = lambda width: random.array((batch, length, width), dtype, "plain", 0.6)
    inputs = [array(heads_kv * shared * size), array(heads_kv * size), array(heads_kv * size_v), None, None, None]
    if random.chance(0.5):
        inputs[3] = random.array((batch, heads_kv, size, size_v), state, "plain", 0.6)
    else:
        state = dtype
    if "gated" in rule:
        inputs[4] = -np.abs(array(heads_kv * (size if random.chance(0.5) else 1)))
    if "delta" in rule:
        inputs[5] = np.abs(array(heads_kv if random.chance(0.6) else 1))
    while inputs[-1] is None:
        inputs.pop()
    outputs = random.int(1, 2)
    return c.case(inputs, attributes, outputs=outputs, output_types=[dtype, state][:outputs], kind="sum")
