"""The rows of the operator sweep: operators, attributes and inputs at three sizes (see time_operators.py)."""

import dataclasses
import typing

import numpy as np

SIZES = ["small", "middle", "large"]
# The dimensions of elementwise operators.
PLAIN = [(1, 1024), (64, 1024), (1024, 1024)]
# Images: batch, channels, height, width.
IMAGES = [(1, 8, 16, 16), (1, 32, 56, 56), (1, 64, 112, 112)]
# Sequences: batch, tokens, width.
TOKENS = [(1, 8, 64), (1, 64, 384), (4, 128, 768)]
F32, F16, I64 = np.float32, np.float16, np.int64


@dataclasses.dataclass
class Constant:
    """An input that is a weight of the model."""

    array: np.ndarray


@dataclasses.dataclass
class Row:
    name: str
    operator: str
    # The inputs at a size: arrays, constants, or None for one that is left out.
    inputs: typing.Callable
    # Numbers and strings, or functions of the size.
    attributes: dict
    outputs: int = 1
    domain: str = ""
    opset: int = 23
    tolerance: float = 1e-4


def uniform(dims, low=-2.0, high=2.0, dtype=F32):
    generator = np.random.default_rng(int(np.prod(dims)) + len(dims))
    return generator.uniform(low, high, dims).astype(dtype)


def integers(dims, low, high, dtype=I64):
    return np.random.default_rng(int(np.prod(dims)) + 7).integers(low, high, dims).astype(dtype)


def weights(dims, dtype=F32):
    """Constant weights, small enough that sums of products stay near 1."""
    scale = float(np.prod(dims[1:])) ** -0.5 if len(dims) > 1 else 0.5
    return Constant(uniform(dims, -scale, scale, dtype))


def vector(*numbers, dtype=I64):
    return Constant(np.array(numbers, dtype))


def scalar(number, dtype=F32):
    return Constant(np.array(number, dtype))


def row(name, inputs, operator=None, outputs=1, domain="", opset=23, tolerance=1e-4, **attributes):
    return Row(name, operator or name.split()[0], inputs, attributes, outputs, domain, opset, tolerance)


def unary():
    for name in "Relu Sigmoid Tanh Erf Exp Neg Abs Floor Softplus HardSwish HardSigmoid Elu Mish Sin Cos".split():
        yield row(name, lambda size: [uniform(PLAIN[size], -4, 4)])
    for name in "Sqrt Log Reciprocal".split():
        yield row(name, lambda size: [uniform(PLAIN[size], 0.1, 4)])
    yield row("Gelu", lambda size: [uniform(PLAIN[size], -4, 4)])
    yield row("Gelu tanh", lambda size: [uniform(PLAIN[size], -4, 4)], approximate="tanh")
    yield row("LeakyRelu", lambda size: [uniform(PLAIN[size], -4, 4)], alpha=0.1)
    yield row("Clip", lambda size: [uniform(PLAIN[size]), scalar(0), scalar(1)])
    yield row("PRelu", lambda size: [uniform(IMAGES[size]), weights((IMAGES[size][1], 1, 1))])
    yield row("Relu f16", lambda size: [uniform(PLAIN[size], dtype=F16)], tolerance=1e-2)
    yield row("Not", lambda size: [uniform(PLAIN[size]) > 0])
    yield row("IsNaN", lambda size: [uniform(PLAIN[size])])


def binary():
    for name in "Add Mul Div Pow Min Less Equal".split():
        yield row(
            name, lambda size: [uniform(PLAIN[size], 0.1, 2), uniform(PLAIN[size][::-1], 0.1, 2).reshape(PLAIN[size])]
        )
    yield row("Add scalar", lambda size: [uniform(PLAIN[size]), scalar(1.5)])
    yield row("Pow scalar 2", lambda size: [uniform(PLAIN[size]), scalar(2)])
    yield row("Pow scalar 3", lambda size: [uniform(PLAIN[size]), scalar(3)])
    yield row("Greater scalar", lambda size: [uniform(PLAIN[size]), scalar(1.5)])
    yield row("Add row", lambda size: [uniform(PLAIN[size]), weights((PLAIN[size][1],))])
    yield row("Mul column", lambda size: [uniform(PLAIN[size]), uniform((PLAIN[size][0], 1))])
    yield row("Mul channel", lambda size: [uniform(IMAGES[size]), weights((1, IMAGES[size][1], 1, 1))])
    yield row("Add both ways", lambda size: [uniform((PLAIN[size][0], 1)), uniform((1, PLAIN[size][1]))])
    yield row(
        "Add f16",
        lambda size: [uniform(PLAIN[size], dtype=F16), uniform(PLAIN[size][::-1], dtype=F16).reshape(PLAIN[size])],
        tolerance=1e-2,
    )
    yield row("Add i64", lambda size: [integers(PLAIN[size], 0, 99), integers(PLAIN[size], 0, 98)])
    yield row("And", lambda size: [uniform(PLAIN[size]) > 0, uniform(PLAIN[size]) > 1])
    yield row("Where", lambda size: [uniform(PLAIN[size]) > 0, uniform(PLAIN[size]), uniform(PLAIN[size], 2, 3)])
    yield row("Where scalar", lambda size: [uniform(PLAIN[size]) > 0, uniform(PLAIN[size]), scalar(-1)])
    yield row("Where mask", lambda size: [uniform((1, PLAIN[size][1])) > 0, uniform(PLAIN[size]), scalar(-1)])
    yield row("Sum of three", lambda size: [uniform(PLAIN[size])] * 3, "Sum")


def casts():
    kinds = [
        (F32, F16),
        (F16, F32),
        (F32, I64),
        (I64, F32),
        (F32, np.int32),
        (np.int32, F32),
        (np.uint8, F32),
        (F32, np.uint8),
        (np.bool_, F32),
        (F32, np.bool_),
        (I64, np.int32),
        (np.int32, I64),
    ]
    from onnx import helper

    for source, target in kinds:
        name = f"Cast {np.dtype(source).name} to {np.dtype(target).name}"
        yield row(
            name,
            lambda size, source=source: [uniform(PLAIN[size], 0, 9).astype(source)],
            to=helper.np_dtype_to_tensor_dtype(np.dtype(target)),
        )


def norms():
    yield row("Softmax last", lambda size: [uniform(PLAIN[size])], axis=-1)
    yield row("Softmax middle", lambda size: [uniform(TOKENS[size])], axis=1)
    yield row("LogSoftmax", lambda size: [uniform(PLAIN[size])], axis=-1)
    yield row(
        "LayerNormalization", lambda size: [uniform(TOKENS[size]), weights(TOKENS[size][2:]), weights(TOKENS[size][2:])]
    )
    yield row("RMSNormalization", lambda size: [uniform(TOKENS[size]), weights(TOKENS[size][2:])])
    yield row(
        "SkipLayerNormalization",
        lambda size: [
            uniform(TOKENS[size]),
            uniform(TOKENS[size], 0, 1),
            weights(TOKENS[size][2:]),
            weights(TOKENS[size][2:]),
        ],
        domain="com.microsoft",
    )
    channel = lambda size, count: [Constant(uniform((IMAGES[size][1],), 0.5, 1.5)) for _ in range(count)]
    yield row("BatchNormalization", lambda size: [uniform(IMAGES[size]), *channel(size, 4)])
    yield row("InstanceNormalization", lambda size: [uniform(IMAGES[size]), *channel(size, 2)])
    yield row("GroupNormalization", lambda size: [uniform(IMAGES[size]), *channel(size, 2)], num_groups=4)
    yield row("LpNormalization", lambda size: [uniform(PLAIN[size])], axis=-1)
    yield row("LRN", lambda size: [uniform(IMAGES[size])], size=5)


def reductions():
    for name in "ReduceSum ReduceMean ReduceMax".split():
        for where, axis in [("last", 2), ("first", 0), ("middle", 1)]:
            yield row(
                f"{name} {where}",
                lambda size, axis=axis: [uniform([(8, 8, 16), (32, 64, 32), (64, 128, 128)][size]), vector(axis)],
            )
    yield row("ReduceMean spatial", lambda size: [uniform(IMAGES[size]), vector(2, 3)])
    yield row("ReduceSum all", lambda size: [uniform(PLAIN[size], 0, 1)])
    yield row("ReduceL2", lambda size: [uniform(PLAIN[size]), vector(-1)])
    yield row("ReduceProd", lambda size: [uniform(PLAIN[size], 0.99, 1.01), vector(-1)])
    yield row("ReduceLogSumExp", lambda size: [uniform(PLAIN[size]), vector(-1)])
    yield row("ArgMax last", lambda size: [uniform(PLAIN[size])], axis=-1)
    yield row("ArgMax first", lambda size: [uniform(PLAIN[size])], axis=0)
    yield row("TopK 10", lambda size: [uniform(PLAIN[size]), vector(10)], outputs=2)
    yield row("TopK 500", lambda size: [uniform(PLAIN[size]), vector(500)], outputs=2)
    yield row("CumSum last", lambda size: [uniform(PLAIN[size]), scalar(1, I64)], tolerance=1e-3)
    yield row("CumSum first", lambda size: [uniform(PLAIN[size]), scalar(0, I64)], tolerance=1e-3)


def products():
    square = [16, 128, 512]
    yield row(
        "MatMul",
        lambda size: [uniform((square[size],) * 2), uniform((square[size], square[size]), -1, 1)],
        tolerance=1e-3,
    )
    yield row("MatMul weights", lambda size: [uniform((square[size],) * 2), weights((square[size],) * 2)])
    yield row("MatMul vector", lambda size: [uniform((1, square[size] * 2)), weights((square[size] * 2,) * 2)])
    yield row(
        "MatMul batched",
        lambda size: [
            uniform((2, [2, 6, 12][size], [8, 32, 128][size], 64)),
            uniform((2, [2, 6, 12][size], 64, [8, 32, 128][size])),
        ],
        tolerance=1e-3,
    )
    yield row(
        "MatMul f16",
        lambda size: [uniform((square[size],) * 2, dtype=F16), weights((square[size],) * 2, F16)],
        tolerance=2e-2,
    )
    yield row(
        "Gemm",
        lambda size: [uniform((square[size],) * 2), weights((square[size],) * 2), weights((square[size],))],
        transB=1,
    )
    yield row(
        "Gemm both ways",
        lambda size: [uniform((square[size],) * 2), uniform((square[size],) * 2, -1, 1)],
        transA=1,
        alpha=0.5,
        tolerance=1e-3,
    )
    heads = [(1, 2, 8, 16), (1, 6, 32, 64), (2, 12, 128, 64)]
    yield row(
        "Einsum bhqd,bhkd->bhqk",
        lambda size: [uniform(heads[size]), uniform(heads[size], -1, 1)],
        equation="bhqd,bhkd->bhqk",
        tolerance=1e-3,
    )
    yield row(
        "Einsum bqhd,bkhd->bhqk",
        lambda size: [
            uniform(np.array(heads[size])[[0, 2, 1, 3]]),
            uniform(np.array(heads[size])[[0, 2, 1, 3]], -1, 1),
        ],
        equation="bqhd,bkhd->bhqk",
        tolerance=1e-3,
    )
    yield row(
        "Einsum bhqk,bkhd->bqhd",
        lambda size: [uniform((*heads[size][:3], heads[size][2])), uniform(np.array(heads[size])[[0, 2, 1, 3]], -1, 1)],
        equation="bhqk,bkhd->bqhd",
        tolerance=1e-3,
    )
    yield row(
        "Einsum ij,jk->ik",
        lambda size: [uniform((square[size],) * 2), uniform((square[size],) * 2, -1, 1)],
        equation="ij,jk->ik",
        tolerance=1e-3,
    )
    yield row(
        "Einsum bi,bi->b",
        lambda size: [uniform(PLAIN[size]), uniform(PLAIN[size], -1, 1)],
        equation="bi,bi->b",
        tolerance=1e-3,
    )
    tokens = [(1, 8, 64), (1, 64, 384), (2, 128, 768)]
    yield row(
        "Attention",
        lambda size: [uniform(heads[size]), uniform(heads[size], -1, 1), uniform(heads[size], -2, 1)],
        tolerance=1e-3,
    )
    yield row(
        "Attention causal",
        lambda size: [uniform(heads[size]), uniform(heads[size], -1, 1), uniform(heads[size], -2, 1)],
        is_causal=1,
        tolerance=1e-3,
    )
    yield row(
        "MultiHeadAttention",
        lambda size: [uniform(tokens[size]), uniform(tokens[size], -1, 1), uniform(tokens[size], -2, 1)],
        domain="com.microsoft",
        num_heads=4,
        tolerance=1e-3,
    )
    yield row(
        "RotaryEmbedding",
        lambda size: [
            uniform(heads[size]),
            *[Constant(uniform((heads[size][0], heads[size][2], heads[size][3] // 2), -1, 1))] * 2,
        ],
    )


def moves():
    wide = [(4, 16, 16), (16, 64, 64), (32, 128, 256)]
    four = [(2, 4, 8, 16), (2, 8, 64, 64), (4, 12, 128, 128)]
    yield row("Transpose 10", lambda size: [uniform(PLAIN[size])], perm=[1, 0])
    yield row("Transpose 021", lambda size: [uniform(wide[size])], perm=[0, 2, 1])
    yield row("Transpose 102", lambda size: [uniform(wide[size])], perm=[1, 0, 2])
    yield row("Transpose 210", lambda size: [uniform(wide[size])], perm=[2, 1, 0])
    yield row("Transpose 0213", lambda size: [uniform(four[size])], perm=[0, 2, 1, 3])
    yield row("Transpose 0231", lambda size: [uniform(four[size])], perm=[0, 2, 3, 1])
    yield row("Transpose 0312", lambda size: [uniform(four[size])], perm=[0, 3, 1, 2])
    yield row("Transpose 10 f16", lambda size: [uniform(PLAIN[size], dtype=F16)], perm=[1, 0])
    yield row("Transpose 10 u8", lambda size: [integers(PLAIN[size], 0, 99, np.uint8)], perm=[1, 0])
    yield row("Concat first", lambda size: [uniform(PLAIN[size])] * 2, axis=0)
    yield row("Concat last", lambda size: [uniform(PLAIN[size])] * 2, axis=1)
    yield row("Concat narrow", lambda size: [uniform((*PLAIN[size], 2)), uniform((*PLAIN[size], 1))], axis=2)
    yield row("Split last", lambda size: [uniform(PLAIN[size])], outputs=2, axis=1, num_outputs=2)
    yield row("Split first", lambda size: [uniform(wide[size])], outputs=2, axis=0, num_outputs=2)
    yield row("Slice last", lambda size: [uniform(PLAIN[size]), vector(100), vector(900), vector(1)])
    yield row("Slice step 2", lambda size: [uniform(PLAIN[size]), vector(0), vector(1024), vector(1), vector(2)])
    yield row("Slice reverse", lambda size: [uniform(PLAIN[size]), vector(-1), vector(-5000), vector(1), vector(-1)])
    yield row("Gather rows", lambda size: [uniform((512, 384)), integers(([4], [64], [1024])[size], 0, 512)], axis=0)
    yield row("Gather last", lambda size: [uniform(PLAIN[size]), integers([256], 0, 1024)], axis=1)
    yield row("GatherElements", lambda size: [uniform(PLAIN[size]), integers(PLAIN[size], 0, 1024)], axis=1)
    yield row(
        "GatherElements first", lambda size: [uniform(PLAIN[size]), integers(PLAIN[size], 0, PLAIN[size][0])], axis=0
    )
    yield row("GatherND", lambda size: [uniform(PLAIN[size]), integers((PLAIN[size][0] * 64, 2), 0, PLAIN[size][0])])
    yield row(
        "ScatterND",
        lambda size: [
            uniform((PLAIN[size][0] * 16, 64)),
            np.random.default_rng(1).permutation(PLAIN[size][0] * 16)[:, None],
            uniform((PLAIN[size][0] * 16, 64), 5, 6),
        ],
    )
    yield row(
        "ScatterElements",
        lambda size: [
            uniform(PLAIN[size]),
            np.argsort(uniform(PLAIN[size]), axis=1).astype(I64),
            uniform(PLAIN[size], 5, 6),
        ],
        axis=1,
    )
    yield row(
        "OneHot", lambda size: [integers(([8], [256], [4096])[size], 0, 256), scalar(256, I64), vector(0, 1, dtype=F32)]
    )
    yield row("Pad constant", lambda size: [uniform(IMAGES[size]), vector(0, 0, 1, 1, 0, 0, 1, 1)])
    yield row("Pad reflect", lambda size: [uniform(IMAGES[size]), vector(0, 0, 2, 2, 0, 0, 2, 2)], mode="reflect")
    yield row("Pad edge", lambda size: [uniform(IMAGES[size]), vector(0, 0, 2, 2, 0, 0, 2, 2)], mode="edge")
    yield row("Tile rows", lambda size: [uniform(PLAIN[size]), vector(2, 1)])
    yield row("Tile columns", lambda size: [uniform(PLAIN[size]), vector(1, 2)])
    yield row("Expand rows", lambda size: [uniform((1, PLAIN[size][1])), vector(*PLAIN[size])])
    yield row("Expand columns", lambda size: [uniform((PLAIN[size][0], 1)), vector(*PLAIN[size])])
    yield row("DepthToSpace", lambda size: [uniform(IMAGES[size])], blocksize=2)
    yield row("DepthToSpace CRD", lambda size: [uniform(IMAGES[size])], blocksize=2, mode="CRD")
    yield row("SpaceToDepth", lambda size: [uniform(IMAGES[size])], blocksize=2)
    yield row("Trilu", lambda size: [uniform([(1, 32, 32), (4, 128, 128), (16, 256, 256)][size])], upper=0)
    yield row("NonZero", lambda size: [uniform(PLAIN[size]) > 0])
    yield row("NonZero sparse", lambda size: [uniform(PLAIN[size]) > 1.9])
    yield row("Range", lambda size: [scalar(0, I64), np.array([1000, 100000, 1000000][size], I64), scalar(1, I64)])


def images():
    yield row(
        "Resize nearest",
        lambda size: [uniform(IMAGES[size]), None, vector(1, 1, 2, 2, dtype=F32)],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    yield row("Resize linear", lambda size: [uniform(IMAGES[size]), None, vector(1, 1, 2, 2, dtype=F32)], mode="linear")
    yield row(
        "Resize linear down",
        lambda size: [uniform(IMAGES[size]), None, vector(1, 1, 0.5, 0.5, dtype=F32)],
        mode="linear",
    )
    yield row(
        "Resize linear corners",
        lambda size: [uniform(IMAGES[size]), None, None, vector(*IMAGES[size][:2], 100, 130)],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    yield row(
        "Resize cubic",
        lambda size: [uniform(IMAGES[size]), None, vector(1, 1, 2, 2, dtype=F32)],
        mode="cubic",
        tolerance=1e-3,
    )
    for name in "AveragePool MaxPool".split():
        yield row(f"{name} 2x2", lambda size: [uniform(IMAGES[size])], kernel_shape=[2, 2], strides=[2, 2])
        yield row(
            f"{name} 3x3", lambda size: [uniform(IMAGES[size])], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]
        )
        yield row(
            f"{name} 3x3 strided",
            lambda size: [uniform(IMAGES[size])],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        )
    yield row("AveragePool 7x7", lambda size: [uniform(IMAGES[size])], kernel_shape=[7, 7])
    yield row(
        "AveragePool 1-D",
        lambda size: [uniform((1, IMAGES[size][1], IMAGES[size][2] ** 2))],
        kernel_shape=[4],
        strides=[4],
    )
    yield row("GlobalAveragePool", lambda size: [uniform(IMAGES[size])])
    yield row("GlobalMaxPool", lambda size: [uniform(IMAGES[size])])
    grid = lambda size: uniform((1, *IMAGES[size][2:], 2), -1.1, 1.1)
    yield row("GridSample", lambda size: [uniform(IMAGES[size]), grid(size)], mode="linear")
    yield row("GridSample nearest", lambda size: [uniform(IMAGES[size]), grid(size)], mode="nearest")
    image = [(1, 8, 16, 16), (1, 32, 56, 56), (1, 64, 56, 56)]
    filters = lambda size, *kernel, groups=1: weights((image[size][1], image[size][1] // groups, *kernel))
    bias = lambda size: weights((image[size][1],))
    yield row("Conv 1x1", lambda size: [uniform(image[size]), filters(size, 1, 1), bias(size)])
    yield row("Conv 3x3", lambda size: [uniform(image[size]), filters(size, 3, 3), bias(size)], pads=[1, 1, 1, 1])
    yield row(
        "Conv 3x3 strided",
        lambda size: [uniform(image[size]), filters(size, 3, 3), bias(size)],
        pads=[1, 1, 1, 1],
        strides=[2, 2],
    )
    yield row(
        "Conv 1-D",
        lambda size: [uniform(TOKENS[size][:1] + (64, [50, 400, 3000][size])), weights((64, 64, 3))],
        pads=[1, 1],
    )
    yield row(
        "Conv f16",
        lambda size: [uniform(image[size], dtype=F16), Constant(filters(size, 3, 3).array.astype(F16))],
        pads=[1, 1, 1, 1],
        tolerance=2e-2,
    )
    yield row(
        "Conv f16 1x1",
        lambda size: [uniform(image[size], dtype=F16), Constant(filters(size, 1, 1).array.astype(F16))],
        tolerance=2e-2,
    )
    yield row("ConvTranspose 2x2", lambda size: [uniform(image[size]), filters(size, 2, 2), bias(size)], strides=[2, 2])
    yield row(
        "ConvTranspose 4x4",
        lambda size: [uniform(image[size]), filters(size, 4, 4), bias(size)],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
    )
    for channels in [32]:
        depthwise = [(1, channels, 8, 8), (1, channels, 28, 28), (1, channels, 112, 112)]
        yield row(
            "Conv depthwise",
            lambda size: [uniform(depthwise[size]), weights((channels, 1, 3, 3)), weights((channels,))],
            group=channels,
            pads=[1, 1, 1, 1],
        )
        yield row(
            "Conv grouped",
            lambda size: [uniform(depthwise[size]), weights((channels, 8, 3, 3)), weights((channels,))],
            group=4,
            pads=[1, 1, 1, 1],
        )


def recurrent():
    # Steps, batch, inputs, hidden numbers.
    sizes = [(4, 1, 16, 16), (32, 1, 64, 64), (64, 4, 128, 128)]
    for name, gates in [("LSTM", 4), ("GRU", 3), ("RNN", 1)]:
        for kind in ["", " both", " batch 1"]:

            def inputs(size, gates=gates, kind=kind):
                steps, batch, width, hidden = sizes[size]
                ways, batch = (2 if "both" in kind else 1), 1 if "batch" in kind else batch
                parts = [(gates * hidden, width), (gates * hidden, hidden), (2 * gates * hidden,)]
                return [
                    uniform((steps, batch, width)),
                    *[Constant(uniform((ways, *dims), -0.1, 0.1)) for dims in parts],
                ]

            attributes = {
                "hidden_size": lambda size: sizes[size][3],
                **({"direction": "bidirectional"} if "both" in kind else {}),
            }
            yield row(name + kind, inputs, outputs=2, **attributes)


def quantized():
    scale, zero = scalar(0.05), scalar(128, np.uint8)
    zero_weights = scalar(0, np.int8)
    yield row("QuantizeLinear", lambda size: [uniform(PLAIN[size]), scale, zero], tolerance=1)
    yield row("DequantizeLinear", lambda size: [integers(PLAIN[size], 0, 255, np.uint8), scale, zero])
    yield row("DynamicQuantizeLinear", lambda size: [uniform(PLAIN[size])], outputs=3, tolerance=1)
    byte = lambda dims: integers(dims, 0, 255, np.uint8)
    signed = lambda dims: Constant(integers(dims, -64, 64, np.int8))
    square = [16, 128, 512]
    yield row("MatMulInteger", lambda size: [byte((square[size],) * 2), signed((square[size],) * 2), zero])
    yield row(
        "QLinearMatMul",
        lambda size: [
            byte((square[size],) * 2),
            scale,
            zero,
            signed((square[size],) * 2),
            scale,
            zero_weights,
            scalar(2),
            zero,
        ],
        tolerance=1,
    )
    image = [(1, 8, 16, 16), (1, 32, 56, 56), (1, 64, 56, 56)]
    conv = lambda size, *kernel: [
        byte(image[size]),
        scale,
        zero,
        signed((image[size][1], image[size][1], *kernel)),
        scale,
        zero_weights,
        scalar(2),
        zero,
    ]
    yield row("QLinearConv 3x3", lambda size: conv(size, 3, 3), pads=[1, 1, 1, 1], tolerance=1)
    yield row("QLinearConv 1x1", lambda size: conv(size, 1, 1), tolerance=1)
    yield row(
        "QLinearAdd",
        lambda size: [byte(PLAIN[size]), scale, zero, byte(PLAIN[size]), scale, zero, scale, zero],
        domain="com.microsoft",
        tolerance=1,
    )


def rows():
    groups = [
        unary(),
        binary(),
        casts(),
        norms(),
        reductions(),
        products(),
        moves(),
        images(),
        recurrent(),
        quantized(),
    ]
    return [row for group in groups for row in group]
