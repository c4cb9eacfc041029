"""Convolutions, pools, normalizations and losses."""

import numpy as np

from . import reductions
from .case import at_opset
from .reductions import contraction
from .registry import operator
from .schema import F32, FLOATS, I64


def window(c, spatial, kernel, dilations=True, ceil=False):
    """Attributes of a window over `spatial`, none of which leaves less than one place for it."""
    rank = len(spatial)
    attributes = {}
    if c.random.chance(0.5):
        attributes["strides"] = [c.random.int(1, 3) for _ in range(rank)]
    reach = list(kernel)
    if dilations and c.random.chance(0.3):
        attributes["dilations"] = [c.random.int(1, 2) for _ in range(rank)]
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes["dilations"])]
    padding = c.random.pick(["none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    if padding == "pads":
        attributes["pads"] = [c.random.int(0, max(0, k - 1)) for k in [*kernel, *kernel]]
    elif padding != "none":
        attributes["auto_pad"] = padding
    pads = attributes.get("pads", [0] * 2 * rank)
    fits = all(size + pads[axis] + pads[axis + rank] >= reach[axis] for axis, size in enumerate(spatial))
    if not fits and padding not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    if ceil and c.random.chance(0.4):
        attributes["ceil_mode"] = c.random.int(0, 1)
    return attributes


def spatial_shape(c, low=1, high=3, most=8):
    return [c.random.int(1, most) for _ in range(c.random.int(low, high))]


def convolved(c, dtype, style, weights=None, dilations=True):
    """Input, weights and attributes of a convolution; `weights` is the weights' type where it is another."""
    while True:
        spatial = spatial_shape(c) if c.random.chance(0.8) else spatial_shape(c, 1, 2, 24)
        kernel = [c.random.int(1, 3 if c.random.chance(0.85) else 7) for _ in spatial]
        attributes = window(c, spatial, kernel, dilations)
        if attributes is not None:
            break
    group = c.random.pick([1, 1, 1, 2, 3])
    channels, features = group * c.random.int(1, 3), group * c.random.int(1, 3)
    if c.random.chance(0.2):
        # As many as fill vectors and blocks.
        channels, features = group * c.random.int(6, 20), group * c.random.int(6, 40)
    if c.random.chance(0.2):
        group = channels
        features = channels * c.random.int(1, 2)
    if group > 1 or c.random.chance(0.2):
        attributes["group"] = group
    if c.random.chance(0.5):
        attributes["kernel_shape"] = kernel
    x = c.random.array((c.random.int(1, 2), channels, *spatial), dtype, style)
    w = c.random.array((features, channels // group, *kernel), weights or dtype, style)
    return x, w, attributes


# What may follow a product by weights in the same step.
FOLLOWING = ["Relu", "Sigmoid", "Tanh", "Add", "Mul", "Sub", "Clip", "LeakyRelu", "Neg", "HardSwish", "Div", "Max"]


def followed(c, case, channels):
    """Operators that come after, which the backend may join to the product."""
    if case.inputs[0].dtype != F32 or case.opset < 14 or c.random.chance(0.6):
        return case
    rows = case.inputs[0].ndim
    for _ in range(c.random.int(1, 4)):
        name = c.random.pick(FOLLOWING)
        second = None
        if name in ("Add", "Mul", "Sub", "Div", "Max"):
            rank = rows - 2 if case.operator == "Conv" else 0
            shape = c.random.pick([(), (1,), (channels, *[1] * rank)])
            second = c.random.array(shape, F32, "positive")
        case.after.append((name, second))
    return case


@operator("MatMul")
def matmul(c):
    case = reductions.matmul(c)
    return followed(c, case, case.inputs[1].shape[-1]) if case.inputs[1].ndim > 1 else case


@operator("Gemm")
def gemm(c):
    case = reductions.gemm(c)
    turned = case.attributes.get("transB")
    return followed(c, case, case.inputs[1].shape[0 if turned else 1])


@operator("Conv")
def conv(c):
    dtype = c.floats()
    x, w, attributes = convolved(c, dtype, contraction(c, dtype))
    inputs = [x, w]
    if c.random.chance(0.5):
        inputs.append(c.random.array((w.shape[0],), dtype, "whole"))
    return followed(c, c.case(inputs, attributes, constants={1, 2}, kind="sum"), w.shape[0])


@operator("ConvTranspose")
def conv_transpose(c):
    dtype = c.floats()
    spatial = spatial_shape(c, 1, 2, 5)
    kernel = [c.random.int(1, 3) for _ in spatial]
    attributes = {}
    rank = len(spatial)
    if c.random.chance(0.6):
        attributes["strides"] = [c.random.int(1, 3) for _ in range(rank)]
    strides = attributes.get("strides", [1] * rank)
    if c.random.chance(0.3):
        attributes["dilations"] = [c.random.int(1, 2) for _ in range(rank)]
    form = c.random.pick(["none", "pads", "shape", "auto"])
    if form == "pads":
        attributes["pads"] = [c.random.int(0, k - 1) // 2 for k in [*kernel, *kernel]]
        if c.random.chance(0.5):
            attributes["output_padding"] = [c.random.int(0, s - 1) for s in strides]
    elif form == "shape":
        attributes["output_shape"] = [size * stride for size, stride in zip(spatial, strides)]
        if c.random.chance(0.5):
            attributes["auto_pad"] = c.random.pick(["SAME_UPPER", "SAME_LOWER"])
    elif form == "auto":
        attributes["auto_pad"] = c.random.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    group = c.random.pick([1, 1, 2])
    channels, features = group * c.random.int(1, 2), c.random.int(1, 2)
    if group > 1:
        attributes["group"] = group
    if c.random.chance(0.5):
        attributes["kernel_shape"] = kernel
    style = contraction(c, dtype)
    inputs = [c.random.array((c.random.int(1, 2), channels, *spatial), dtype, style),
              c.random.array((channels, features, *kernel), dtype, style)]
    if c.random.chance(0.5):
        inputs.append(c.random.array((features * group,), dtype, "whole"))
    return c.case(inputs, attributes, constants={1, 2}, kind="sum", rough=True)


@operator("MaxPool", "AveragePool", "LpPool")
def pool(c):
    dtype = c.dtype()
    while True:
        spatial = spatial_shape(c)
        kernel = [c.random.int(1, 3) for _ in spatial]
        attributes = window(c, spatial, kernel, c.has("dilations"), c.has("ceil_mode"))
        if attributes is not None:
            break
    attributes["kernel_shape"] = kernel
    outputs = 1
    if c.name == "MaxPool" and c.opset >= 8:
        outputs = c.random.int(1, 2)
        if c.random.chance(0.3):
            attributes["storage_order"] = c.random.int(0, 1)
    if c.has("count_include_pad") and c.random.chance(0.6):
        attributes["count_include_pad"] = c.random.int(0, 1)
    if c.has("p") and c.random.chance(0.6):
        attributes["p"] = c.random.int(1, 3)
    style = "plain" if dtype not in FLOATS else c.random.pick(["plain", "whole", "nan"])
    if outputs == 2 and style == "nan":
        style = "whole"
    x = c.random.array((c.random.int(1, 2), c.random.int(1, 3), *spatial), dtype, style)
    return c.case([x], attributes, outputs=outputs, kind="exact" if c.name == "MaxPool" else "sum",
                  rough=True)


@operator("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def global_pool(c):
    dtype = c.floats()
    x = c.random.array((c.random.int(1, 2), c.random.int(1, 3), *spatial_shape(c)), dtype,
                       c.random.pick(["plain", "whole", "nan"]))
    attributes = {"p": c.random.int(1, 3)} if c.has("p") and c.random.chance(0.6) else {}
    case = c.case([x], attributes, kind="exact" if c.name == "GlobalMaxPool" else "sum", rough=True)
    # onnxruntime has the newest version of this one for no type.
    return at_opset(case, 21) if c.opset > 21 and c.name == "GlobalLpPool" else case


@operator("MaxUnpool")
def unpool(c):
    dtype = c.floats("T1")
    kernel = [c.random.int(1, 3) for _ in range(c.random.int(1, 2))]
    strides = [c.random.int(1, 3) for _ in kernel]
    spatial = [c.random.int(1, 3) for _ in kernel]
    batch = (c.random.int(1, 2), c.random.int(1, 2))
    attributes = {"kernel_shape": kernel}
    if strides != [1] * len(kernel) or c.random.chance(0.5):
        attributes["strides"] = strides
    whole = [(size - 1) * stride + k for size, stride, k in zip(spatial, strides, kernel)]
    total = int(np.prod(batch) * np.prod(whole))
    places = c.random.rng.permutation(total)[:int(np.prod(batch) * np.prod(spatial))].reshape(*batch, *spatial)
    inputs = [c.random.array((*batch, *spatial), dtype, "plain"), places.astype(I64)]
    return c.case(inputs, attributes)


@operator("LRN")
def local_response(c):
    # onnxruntime and the reference have it for four dimensions.
    spatial = [c.random.int(1, 4) for _ in range(2 if c.random.chance(0.9) else 1)]
    x = c.random.array((c.random.int(1, 2), c.random.int(1, 6), *spatial), c.floats(), "plain")
    attributes = {name: c.random.float(0.1, 2.0) for name in c.random.some(["alpha", "beta", "bias"])}
    return c.case([x], {"size": c.random.pick([1, 3, 5, 3, 4]), **attributes}, kind="sum", rough=True)


def channelwise(c, low=0):
    channels = c.random.int(1, 4)
    return channels, (c.random.int(1, 3), channels, *spatial_shape(c, low, 3, 4))


@operator("BatchNormalization")
def batch_normalization(c):
    channels, dims = channelwise(c)
    dtype = c.floats("T")
    kinds = [port.type_str for port in c.schema.inputs]
    scale = dtype if kinds[1] == "T" else c.floats(kinds[1])
    mean = dtype if kinds[3] == "T" else c.floats(kinds[3]) if kinds[3] != kinds[1] else scale
    inputs = [c.random.array(dims, dtype, "plain"), c.random.array((channels,), scale, "plain"),
              c.random.array((channels,), scale, "plain"), c.random.array((channels,), mean, "plain"),
              c.random.array((channels,), mean, "positive")]
    attributes = {"epsilon": c.random.float(1e-5, 0.1)} if c.random.chance(0.5) else {}
    if c.random.chance(0.3):
        attributes["momentum"] = 0.5
    if c.has("training_mode") and c.random.chance(0.3):
        attributes["training_mode"] = 0
    return c.case(inputs, attributes, constants={1, 2, 3, 4}, kind="sum")


@operator("InstanceNormalization")
def instance(c):
    channels, dims = channelwise(c, 1)
    dtype = c.floats()
    inputs = [c.random.array(dims, dtype, "plain"), *(c.random.array((channels,), dtype, "plain") for _ in range(2))]
    return c.case(inputs, {"epsilon": c.random.float(1e-5, 0.1)} if c.random.chance(0.5) else {}, constants={1, 2},
                  kind="sum")


@operator("GroupNormalization")
def group_normalization(c):
    groups = c.random.int(1, 3)
    channels = groups * c.random.int(1, 3)
    dtype = c.floats()
    size = groups if c.opset < 21 else channels
    inputs = [c.random.array((c.random.int(1, 2), channels, *spatial_shape(c, 1, 2, 4)), dtype, "plain"),
              *(c.random.array((size,), dtype, "plain") for _ in range(2))]
    attributes = {"num_groups": groups}
    if c.random.chance(0.5):
        attributes["epsilon"] = c.random.float(1e-5, 0.1)
    return c.case(inputs, attributes, constants={1, 2}, kind="sum")


@operator("LayerNormalization", "RMSNormalization")
def layer_normalization(c):
    if c.name == "LayerNormalization" and c.opset < 17:
        return early_layer_normalization(c)
    shape = c.random.shape(1, empty=0)
    dtype = c.floats(c.schema.inputs[0].type_str)
    axis = c.random.axis(len(shape))
    given = axis % len(shape) != len(shape) - 1 or c.random.chance(0.5)
    inner = shape[axis:] if axis >= 0 else shape[axis:]
    first, second = (port.type_str for port in c.schema.inputs[:2])
    scale = dtype if second == first else c.floats(second)
    inputs = [c.random.array(shape, dtype, "plain"), c.random.array(inner, scale, "plain")]
    outputs = 1
    if c.name == "LayerNormalization":
        if c.random.chance(0.5):
            inputs.append(c.random.array(inner, scale, "plain"))
        outputs = c.random.pick([1, 1, 1, 2, 3])
    attributes = {"axis": axis} if given else {}
    if c.random.chance(0.5):
        attributes["epsilon"] = c.random.float(1e-5, 0.1)
    types = [scale if c.name == "RMSNormalization" else dtype, F32, F32][:outputs]
    return c.case(inputs, attributes, outputs=outputs, output_types=types, constants={1, 2}, kind="sum")


def early_layer_normalization(c):
    """As onnxruntime had it before ONNX did."""
    shape = c.random.shape(1, empty=0)
    inputs = [c.random.array(dims, F32, "plain") for dims in (shape, shape[-1:], shape[-1:])]
    attributes = {"epsilon": c.random.float(1e-5, 0.1)} if c.random.chance(0.5) else {}
    return c.case(inputs[:c.random.int(2, 3)], attributes, output_types=[F32], kind="sum")


@operator("LpNormalization")
def lp_normalization(c):
    x = c.random.array(c.random.shape(1), c.floats(), "plain")
    attributes = {"p": c.random.int(1, 2)} if c.random.chance(0.6) else {}
    if c.random.chance(0.6):
        attributes["axis"] = c.random.axis(x.ndim)
    return c.case([x], attributes, kind="sum")


@operator("MeanVarianceNormalization")
def mean_variance(c):
    x = c.random.array([c.random.int(2, 4) for _ in range(4)], c.floats(), "plain")
    return c.case([x], {"axes": c.random.axes(4, 1, False)} if c.random.chance(0.6) else {}, kind="sum",
                  rough=True)


@operator("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(c):
    dtype = c.floats("T")
    classes, extra = c.random.int(1, 5), [c.random.int(1, 3) for _ in range(c.random.int(0, 2))]
    batch = c.random.int(1, 4)
    labels = c.random.rng.integers(0, classes, (batch, *extra)).astype(c.dtype("Tind"))
    attributes = {"reduction": c.random.pick(["none", "sum", "mean"])} if c.random.chance(0.8) else {}
    if c.random.chance(0.4):
        attributes["ignore_index"] = c.random.pick([0, -1, classes - 1])
        if attributes["ignore_index"] == -1:
            labels = np.where(c.random.rng.random(labels.shape) < 0.2, -1, labels).astype(labels.dtype)
    inputs = [c.random.array((batch, classes, *extra), dtype, "plain"), labels]
    if c.random.chance(0.5):
        inputs.append(c.random.array((classes,), dtype, "positive"))
    outputs = c.random.int(1, 2) if c.name == "SoftmaxCrossEntropyLoss" else 1
    return c.case(inputs, attributes, outputs=outputs, kind="sum", constants={2})


@operator("Col2Im")
def col2im(c):
    while True:
        spatial = spatial_shape(c, 1, 2, 6)
        block = [c.random.int(1, 3) for _ in spatial]
        attributes = window(c, spatial, block)
        if attributes is not None and "auto_pad" not in attributes:
            break
    rank = len(spatial)
    pads = attributes.get("pads", [0] * 2 * rank)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    places = [(spatial[a] + pads[a] + pads[a + rank] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
              for a in range(rank)]
    x = c.random.array((c.random.int(1, 2), c.random.int(1, 2) * int(np.prod(block)), int(np.prod(places))),
                       c.dtype("T"), "whole")
    return c.case([x, np.asarray(spatial, I64), np.asarray(block, I64)], attributes, constants={1, 2}, kind="sum")


