#!/usr/bin/env python3
"""Trains the network of examples/models/digits on handwritten digits, and records what onnxruntime makes of it.

    python3 -m venv venv && venv/bin/pip install -r scripts/requirements.txt
    venv/bin/python scripts/train_digits.py

Plain numpy: im2col convolutions, their gradients, and Adam. The same versions on the same kind of processor give the
same bytes; elsewhere the last bits of a matrix product may differ, and with them the weights.
"""

import os

# Before numpy starts its threads: the order in which they add up is not fixed.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import pathlib

import numpy as np
import onnx
import onnxruntime
import sklearn
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

import record_format

SEED = 20261123
HELD_OUT = 450
EPOCHS = 60
BATCH = 32
RATE = 2e-3
WANTED_ACCURACY = 0.97
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "examples" / "models" / "digits"


# The layers. Each `forward` returns its output and what its gradient needs.


def columns(x):
    """im2col of 3×3 windows, stride 1, padding 1: [n, c, h, w] to [n, h, w, c * 9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # [n, c, h, w, 3, 3]
    n, c, h, w = x.shape
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def conv(x, weight, bias):
    patches = columns(x)
    y = patches @ weight.reshape(len(weight), -1).T + bias
    return y.transpose(0, 3, 1, 2), patches


def conv_gradient(gradient, patches, weight):
    n, out, h, w = gradient.shape
    flat = gradient.transpose(0, 2, 3, 1).reshape(-1, out)
    to_weight = (flat.T @ patches.reshape(len(flat), -1)).reshape(weight.shape)
    # The gradient of the input is a convolution of the gradient with the weights turned about.
    to_input, _ = conv(gradient, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], np.zeros(weight.shape[1]))
    return to_input, to_weight, flat.sum(0)


def pool(x):
    """The largest of each 2×2 window, and which of the four it was."""
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return windows.max(-1), windows.argmax(-1)


def pool_gradient(gradient, chosen):
    n, c, h, w = gradient.shape
    windows = gradient[..., None] * (np.arange(4) == chosen[..., None])
    return windows.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h * 2, w * 2)


# The network.


def new_parameters(random):
    def scaled(*shape):  # He's initialization
        return random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)

    return {
        "conv1.weight": scaled(16, 1, 3, 3),
        "conv1.bias": np.zeros(16),
        "conv2.weight": scaled(32, 16, 3, 3),
        "conv2.bias": np.zeros(32),
        "dense.weight": scaled(10, 32 * 2 * 2),
        "dense.bias": np.zeros(10),
    }


def gradients(parameters, x, labels):
    """The mean cross entropy's gradient with respect to each parameter."""
    p = parameters
    before1, patches1 = conv(x, p["conv1.weight"], p["conv1.bias"])
    pooled1, chosen1 = pool(np.maximum(before1, 0))
    before2, patches2 = conv(pooled1, p["conv2.weight"], p["conv2.bias"])
    pooled2, chosen2 = pool(np.maximum(before2, 0))
    flat = pooled2.reshape(len(x), -1)
    logits = flat @ p["dense.weight"].T + p["dense.bias"]
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)

    to_logits = (probabilities - np.eye(10)[labels]) / len(x)
    result = {"dense.weight": to_logits.T @ flat, "dense.bias": to_logits.sum(0)}
    to_pooled2 = (to_logits @ p["dense.weight"]).reshape(pooled2.shape)
    to_before2 = pool_gradient(to_pooled2, chosen2) * (before2 > 0)
    to_pooled1, result["conv2.weight"], result["conv2.bias"] = conv_gradient(to_before2, patches2, p["conv2.weight"])
    to_before1 = pool_gradient(to_pooled1, chosen1) * (before1 > 0)
    _, result["conv1.weight"], result["conv1.bias"] = conv_gradient(to_before1, patches1, p["conv1.weight"])
    return result


def shifted(x, random):
    """Half of the images moved by up to one pixel each way, which keeps the network from learning places by heart.

    Half, because the digits fill their frame: a move can cut a stroke off.
    """
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = np.where(random.random((len(x), 1)) < 0.5, random.integers(0, 3, (len(x), 2)), 1)
    return np.stack([image[:, dy : dy + 8, dx : dx + 8] for image, (dy, dx) in zip(padded, moves)])


def train(x, labels, random):
    parameters = new_parameters(random)
    first = {name: np.zeros_like(value) for name, value in parameters.items()}
    second = {name: np.zeros_like(value) for name, value in parameters.items()}
    step = 0
    for epoch in range(EPOCHS):
        rate = RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        order = random.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            step += 1
            for name, gradient in gradients(parameters, shifted(x[rows], random), labels[rows]).items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                move = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
                parameters[name] -= rate * move
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def to_onnx(parameters):
    def node(kind, inputs, output, **attributes):
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    conv3 = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    pool2 = {"kernel_shape": [2, 2], "strides": [2, 2]}
    graph = helper.make_graph(
        [
            node("Conv", ["image", "conv1.weight", "conv1.bias"], "conv1", **conv3),
            node("Relu", ["conv1"], "relu1"),
            node("MaxPool", ["relu1"], "pool1", **pool2),
            node("Conv", ["pool1", "conv2.weight", "conv2.bias"], "conv2", **conv3),
            node("Relu", ["conv2"], "relu2"),
            node("MaxPool", ["relu2"], "pool2", **pool2),
            node("Flatten", ["pool2"], "flat", axis=1),
            node("Gemm", ["flat", "dense.weight", "dense.bias"], "logits", transB=1),
            node("Softmax", ["logits"], "probabilities", axis=-1),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="graphpool scripts/train_digits.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main():
    random = np.random.default_rng(SEED)
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target  # 0 to 16, 8×8
    order = random.permutation(len(images))
    held_out, learned = order[:HELD_OUT], order[HELD_OUT:]

    # Dividing by 16 is exact in f32, so the record may keep the pixels as they came.
    x = images[learned, None].astype(np.float64) / 16
    model = to_onnx(train(x, labels[learned], random))

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    # A row of the record is the input of one inference, a batch of one.
    image = record_format.Column("image", 0, images[held_out, None, None], "images.bin", scale=1 / 16)
    (expected,) = record_format.run(session, [image], ["probabilities"])
    correct = int((expected[:, 0].argmax(1) == labels[held_out]).sum())
    print(f"{correct} of {HELD_OUT} held-out images right ({correct / HELD_OUT:.2%}), {len(model)} bytes of model")
    assert correct / HELD_OUT >= WANTED_ACCURACY

    (batched,) = session.run(None, {"image": image.values()[:, 0]})
    assert np.abs(batched - expected[:, 0]).max() < 1e-5

    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "digits.onnx").write_bytes(model)
    made_with = (
        f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, numpy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )
    probabilities = record_format.Column("probabilities", 0, expected, "expected.bin")
    record_format.write(FOLDER, model, "digits.onnx", [image], [probabilities], made_with, labels[held_out])


if __name__ == "__main__":
    main()
