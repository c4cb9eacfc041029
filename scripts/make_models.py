#!/usr/bin/env python3
"""Makes the models that are measured and that nobody publishes under a licence to fetch them by: an MLP and SqueezeNet.

    venv/bin/python scripts/make_models.py

They go where scripts/fetch_models.sh puts fetched ones, .cache/models/NAME/model.onnx, byte for byte the same on every
machine (SUMS says so, and it is checked). Their weights are random, so what they answer means nothing; the operators,
sizes and so the times are those of the trained ones. What it needs is in scripts/requirements.txt.
"""

import hashlib
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MODELS = pathlib.Path(__file__).resolve().parent.parent / ".cache" / "models"
SUMS = {
    "mlp": "fb771d1415bb62d82b85e58781f33a57a01ff866dbb595b7489a4f2fef4d0aa4",
    "squeezenet": "e1f3bbfcc8f7ad55658e61d10be7693f28982ae9c20212f1b8dac986deb0b3e7",
}


class Graph:
    """Nodes and weights, as they are added."""

    def __init__(self):
        self.nodes, self.weights = [], []
        # Integers out of splitmix64, so that no version of numpy changes them.
        self.state = np.uint64(1)

    def weight(self, name, shape, scale):
        """Uniform between -scale and scale, in steps of a 128th of it: exact in f32 whatever computes it."""
        count = int(np.prod(shape))
        with np.errstate(over="ignore"):
            x = self.state + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            self.state = x[-1]
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
        values = (x >> np.uint64(56)).astype(np.float32) - np.float32(128)
        # A power of two times an integer.
        scale = np.float32(2.0 ** np.round(np.log2(scale))) / np.float32(128)
        self.weights.append(numpy_helper.from_array((values * scale).reshape(shape), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def conv(self, x, name, channels, filters, size, **attributes):
        """A convolution and its Relu."""
        # What keeps the variance as it is, for weights spread evenly.
        scale = (6 / (channels * size * size)) ** 0.5
        inputs = [x, self.weight(f"{name}.weight", (filters, channels, size, size), scale)]
        inputs.append(self.weight(f"{name}.bias", (filters,), 0.1))
        x = self.node("Conv", inputs, name, kernel_shape=[size, size], **attributes)
        return self.node("Relu", [x], f"{name}.relu")

    def fire(self, x, name, channels, squeeze, expand):
        """SqueezeNet's module: few channels, then many by a kernel of 1 and one of 3."""
        x = self.conv(x, f"{name}.squeeze", channels, squeeze, 1)
        one = self.conv(x, f"{name}.expand1", squeeze, expand, 1)
        three = self.conv(x, f"{name}.expand3", squeeze, expand, 3, pads=[1, 1, 1, 1])
        return self.node("Concat", [one, three], f"{name}.concat", axis=1)

    def model(self, name, inputs, outputs):
        info = [
            [helper.make_tensor_value_info(port, TensorProto.FLOAT, shape) for port, shape in ports.items()]
            for ports in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, name, *info, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        made.producer_name = ""
        return made.SerializeToString(deterministic=True)


def mlp():
    """784 → 1,024 → 512 → 10, as for handwritten digits of 28 by 28."""
    graph, x, sizes = Graph(), "image", (784, 1024, 512, 10)
    for place, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        scale = (6 / inputs) ** 0.5
        weight = graph.weight(f"{place}.weight", (outputs, inputs), scale)
        x = graph.node("Gemm", [x, weight, graph.weight(f"{place}.bias", (outputs,), 0.1)], f"{place}", transB=1)
        if outputs != sizes[-1]:
            x = graph.node("Relu", [x], f"{place}.relu")
    graph.node("Softmax", [x], "probabilities", axis=1)
    return graph.model("mlp", {"image": ["batch", 784]}, {x: ["batch", 10], "probabilities": ["batch", 10]})


def squeezenet():
    """SqueezeNet 1.1, of 224 by 224 pixels."""
    graph = Graph()
    x = graph.conv("image", "conv1", 3, 64, 3, strides=[2, 2])
    channels = 64
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    for place, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if place in (0, 2, 4):
            x = graph.node("MaxPool", [x], f"pool{place}", **pool)
        x = graph.fire(x, f"fire{place + 2}", channels, squeeze, 4 * squeeze)
        channels = 8 * squeeze
    x = graph.conv(x, "conv10", channels, 1000, 1)
    x = graph.node("GlobalAveragePool", [x], "mean")
    x = graph.node("Flatten", [x], "logits")
    graph.node("Softmax", [x], "probabilities", axis=1)
    return graph.model("squeezenet", {"image": [1, 3, 224, 224]}, {"logits": [1, 1000], "probabilities": [1, 1000]})


def main():
    for name, make in (("mlp", mlp), ("squeezenet", squeezenet)):
        model = make()
        found = hashlib.sha256(model).hexdigest()
        if SUMS[name] != found:
            sys.exit(f"{name}: the model made has the checksum {found}, not {SUMS[name]}")
        (MODELS / name).mkdir(parents=True, exist_ok=True)
        (MODELS / name / "model.onnx").write_bytes(model)
        print(f"{name}: made, {len(model)} bytes")


if __name__ == "__main__":
    main()
