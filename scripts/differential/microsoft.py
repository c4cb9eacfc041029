"""Operators of com.microsoft that compute floats. onnxruntime alone says what they give."""

import numpy as np
from onnx import helper

from .neural import convolved
from .registry import operator
from .schema import F32, I32

MICROSOFT = "com.microsoft"


def plain(c, *shape, scale=1.0):
    return c.random.array(shape, F32, "plain", scale)


def maybe(c, array, p=0.5):
    return array if c.random.chance(p) else None


def trimmed(inputs):
    """The inputs without those left out at the end."""
    while inputs[-1] is None:
        inputs = inputs[:-1]
    return inputs


def case_of(c, inputs, attributes=None, always=(), types=(F32,), kind="sum", **rest):
    """A case whose inputs at `always` are weights, as onnxruntime wants them."""
    inputs = trimmed([None if one is None else np.asarray(one) for one in inputs])
    case = c.case(inputs, attributes, outputs=len(types), output_types=list(types), kind=kind, **rest)
    # onnxruntime reads ranks off of the model.
    case.open_dims = False
    case.constants |= {place for place in always if place < len(inputs) and inputs[place] is not None}
    return case


@operator("Gelu", "QuickGelu", domain=MICROSOFT)
def gelu(c):
    attributes = {"alpha": c.random.float(0.5, 2.0)} if c.name == "QuickGelu" and c.random.chance(0.6) else {}
    return case_of(c, [plain(c, *c.random.shape(1), scale=2.0)], attributes)


@operator("BiasGelu", "FastGelu", domain=MICROSOFT)
def biased_gelu(c):
    shape = c.random.shape(1, empty=0)
    bias = plain(c, shape[-1])
    return case_of(c, [plain(c, *shape, scale=2.0), bias if c.name == "BiasGelu" else maybe(c, bias)])


@operator("FusedMatMul", domain=MICROSOFT)
def fused_matmul(c):
    m, k, n = (c.random.int(1, 6) for _ in range(3))
    batch = c.random.shape(0, 2, 3, empty=0)
    first, second = [*c.random.broadcast(batch), m, k], [*c.random.broadcast(batch), k, n]
    attributes = {name: c.random.int(0, 1) for name in c.random.some(["transA", "transB"])}
    for name, dims in (("transA", first), ("transB", second)):
        if attributes.get(name):
            dims[-2:] = dims[:-3:-1]
    if c.random.chance(0.6):
        attributes["alpha"] = c.random.float()
    return case_of(c, [plain(c, *first), plain(c, *second)], attributes)


def activation(c):
    """The name and the parameters of an activation."""
    name = c.random.pick(["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Clip"])
    count = {"LeakyRelu": 1, "HardSigmoid": 2, "Clip": 2}.get(name, 0)
    return name, sorted(c.random.float(0.1, 0.9) for _ in range(count))


@operator("FusedGemm", domain=MICROSOFT)
def fused_gemm(c):
    m, k, n = (c.random.int(1, 6) for _ in range(3))
    attributes = {name: c.random.int(0, 1) for name in c.random.some(["transA", "transB"])}
    attributes.update({name: c.random.float() for name in c.random.some(["alpha", "beta"])})
    name, parameters = activation(c)
    while name == "Clip":
        name, parameters = activation(c)
    attributes["activation"] = name
    attributes.update(zip(["activation_alpha", "activation_beta"], parameters))
    a = plain(c, *((k, m) if attributes.get("transA") else (m, k)))
    b = plain(c, *((n, k) if attributes.get("transB") else (k, n)))
    return case_of(c, [a, b, maybe(c, plain(c, *c.random.broadcast((m, n))), 0.7)], attributes)


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(c):
    x, w, attributes = convolved(c, F32, "plain", F32)
    added = None
    if c.random.chance(0.3):
        # The sizes of the output are those of the input.
        batch, channels, out = (c.random.int(1, 3) for _ in range(3))
        sizes = [c.random.int(1, 5) for _ in range(2)]
        x, w, attributes = plain(c, batch, channels, *sizes), plain(c, out, channels, 1, 1), {}
        added = plain(c, batch, out, *sizes)
    if c.random.chance(0.8):
        attributes["activation"], parameters = activation(c)
        attributes["activation_params"] = parameters or None
    return case_of(c, [x, w, maybe(c, plain(c, w.shape[0])), added], attributes, always={1})


@operator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(c):
    batch, steps, width = (c.random.int(1, 6) for _ in range(3))
    skip = c.random.pick([(batch, steps, width), (batch, steps, width), (1, steps, width), (steps, width)])
    x, rows = plain(c, batch, steps, width), [plain(c, width) for _ in range(3)]
    inputs = [x, plain(c, *skip), rows[0]]
    if c.name == "SkipLayerNormalization":
        inputs.append(maybe(c, rows[1]))
    inputs = trimmed([*inputs, maybe(c, rows[2])])
    attributes = {"epsilon": c.random.float(1e-5, 0.1)} if c.random.chance(0.6) else {}
    outputs, names = ["o0"], ["" if one is None else f"i{place}" for place, one in enumerate(inputs)]
    if c.random.chance(0.5):
        outputs = ["o0", "", "", "o1"]
    nodes = [helper.make_node(c.name, names, outputs, domain=MICROSOFT, **attributes)]
    return case_of(c, inputs, attributes, types=[F32] * (1 + len(outputs) // 4), nodes=nodes)


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(c):
    shape = c.random.shape(1, empty=0)
    axis = c.random.axis(len(shape))
    attributes = {"axis": axis} if axis % len(shape) != len(shape) - 1 or c.random.chance(0.5) else {}
    if c.random.chance(0.5):
        attributes["epsilon"] = c.random.float(1e-5, 0.1)
    return case_of(c, [plain(c, *shape), plain(c, *shape[axis:])], attributes)


@operator("EmbedLayerNormalization", domain=MICROSOFT)
def embed(c):
    batch, steps, width, words = (c.random.int(1, 5) for _ in range(4))
    places, integer = steps + c.random.int(0, 3), lambda high, *dims: c.random.rng.integers(0, high, dims).astype(I32)
    segmented = c.random.chance(0.6)
    inputs = [integer(words, batch, steps), integer(2, batch, steps) if segmented else None, plain(c, words, width),
              plain(c, places, width), plain(c, 2, width) if segmented else None, plain(c, width), plain(c, width),
              maybe(c, integer(2, batch, steps)),
              maybe(c, integer(places, c.random.pick([1, batch]), steps), 0.4)]
    attributes = {"epsilon": c.random.float(1e-5, 0.1)} if c.random.chance(0.6) else {}
    return case_of(c, inputs, attributes, always={5, 6}, types=c.random.pick([[F32, I32], [F32, I32, F32]]))


def heads_of(c):
    """Attributes that attention has in every form, the number of heads among them."""
    attributes = {"num_heads": c.random.int(1, 3)}
    if c.random.chance(0.4):
        attributes["unidirectional"] = c.random.int(0, 1)
    if c.random.chance(0.3):
        attributes["mask_filter_value"] = c.random.pick([-1.0, -10000.0, -3.0])
    if c.name != "QAttention" and c.random.chance(0.3):
        attributes["scale"] = c.random.float(0.2, 1.5)
    return attributes


def masked(c, batch, steps, places):
    """A mask in one of its forms; lengths are at least 1."""
    dims = c.random.pick([(batch,), (batch, places), (batch, places), (2 * batch,), (batch, steps, places)])
    if dims[0] == 2 * batch and len(dims) == 1:
        starts = np.zeros(batch, I32)
        return np.concatenate([c.random.rng.integers(1, places + 1, batch).astype(I32), starts])
    if len(dims) == 1:
        return c.random.rng.integers(1, places + 1, batch).astype(I32)
    mask = c.random.rng.integers(0, 2, dims).astype(I32)
    mask[..., 0] = 1
    return mask


def scores(c, batch, heads, steps, places):
    """What is added to the scores."""
    return plain(c, c.random.pick([1, batch]), c.random.pick([1, heads]), steps, places)


@operator("Attention", domain=MICROSOFT)
def attention(c):
    attributes = heads_of(c)
    heads = attributes["num_heads"]
    batch, steps, width, size, size_v = (c.random.int(1, 4) for _ in range(5))
    sizes = [heads * size] * 3
    if c.random.chance(0.4):
        sizes[2] = heads * size_v
        attributes["qkv_hidden_sizes"] = sizes
    inputs = [plain(c, batch, steps, width), plain(c, width, sum(sizes)), plain(c, sum(sizes)),
              maybe(c, masked(c, batch, steps, steps)), None, maybe(c, scores(c, batch, heads, steps, steps), 0.3)]
    return case_of(c, inputs, attributes)


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(c):
    attributes = heads_of(c)
    heads = attributes["num_heads"]
    batch, steps, places, size, size_v = (c.random.int(1, 4) for _ in range(5))
    size_v = size_v if c.random.chance(0.4) else size
    if attributes.get("unidirectional"):
        places = steps
    q, k, v = heads * size, heads * size, heads * size_v
    mask = masked(c, batch, steps, places)
    inputs = [plain(c, batch, steps, q), plain(c, batch, places, k), plain(c, batch, places, v),
              maybe(c, plain(c, q + k + v)), maybe(c, mask if mask.ndim == 2 else None),
              maybe(c, scores(c, batch, heads, steps, places), 0.3)]
    return case_of(c, inputs, attributes)


@operator("QAttention", domain=MICROSOFT)
def quantized_attention(c):
    from .quantized import scale, zero
    from .schema import I8, U8
    attributes = heads_of(c)
    batch, steps, width, size = (c.random.int(1, 4) for _ in range(4))
    wide = 3 * attributes["num_heads"] * size
    a, b = U8, c.random.pick([U8, I8])
    each = c.random.chance(0.3)
    zero_b = np.full((wide,), zero(c, (), b)) if each else zero(c, (), b)
    zeros = c.random.chance(0.6)
    inputs = [c.random.array((batch, steps, width), a, "whole"), c.random.array((width, wide), b, "whole"),
              plain(c, wide), scale(c), scale(c, (wide,) if each else ()), maybe(c, masked(c, batch, steps, steps)),
              zero(c, (), a, 9) if zeros else None, zero_b if zeros else None]
    return case_of(c, inputs, attributes, always={1})
