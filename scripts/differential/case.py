"""One case: a model, its inputs, and how they are written in the form of ONNX's node tests."""

import dataclasses

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .schema import BF16, F16, F32, F64, NUMBERS, known_to_onnx, schema


@dataclasses.dataclass
class Case:
    """`inputs` has None for one that is left out; those in `constants` are weights of the model, not inputs of it."""

    operator: str
    opset: int
    inputs: list
    attributes: dict = dataclasses.field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    # The element types of outputs that the schema leaves open.
    output_types: list = None
    constants: set = dataclasses.field(default_factory=set)
    # Elementwise operators after the first output, each as a name and a second input or None.
    after: list = dataclasses.field(default_factory=list)
    # Whether the model leaves the sizes of its inputs open.
    open_dims: bool = False
    # How exact the result has to be; compare.py has the kinds.
    kind: str = "movement"
    # Graphs that are attributes make the nodes themselves.
    nodes: list = None
    # A case that onnxruntime supports where it doesn't support this one, and what makes its outputs this one's.
    equivalent: tuple = None
    # Whether an f64 case is compared with onnxruntime in f32 rather than with the reference, and so less exactly.
    rough: bool = False

    def output_dtypes(self):
        if self.output_types is not None:
            return [np.dtype(dtype) for dtype in self.output_types]
        found = schema(self.domain, self.operator, self.opset)
        known = {}
        for place, array in enumerate(self.inputs):
            port = found.inputs[min(place, len(found.inputs) - 1)]
            if array is not None:
                known.setdefault(port.type_str, array.dtype)
        types = []
        for place in range(self.outputs):
            port = found.outputs[min(place, len(found.outputs) - 1)]
            if port.type_str not in known and port.type_str.startswith("tensor("):
                known[port.type_str] = helper.tensor_dtype_to_np_dtype(
                    {"tensor(int64)": TensorProto.INT64, "tensor(bool)": TensorProto.BOOL, "tensor(int32)": 6,
                     "tensor(float)": 1, "tensor(uint8)": 2}[port.type_str])
            if port.type_str not in known:
                allowed = [t.allowed_type_strs for t in found.type_constraints if t.type_param_str == port.type_str]
                one = {"tensor(int64)": 7, "tensor(bool)": 9, "tensor(int32)": 6}[allowed[0][0]]
                known[port.type_str] = helper.tensor_dtype_to_np_dtype(one)
            types.append(known[port.type_str])
        return types

    def model(self):
        """The model, as bytes."""
        names = ["" if array is None else f"i{place}" for place, array in enumerate(self.inputs)]
        outputs = [f"o{place}" for place in range(self.outputs)]
        nodes = self.nodes
        if nodes is None:
            nodes = [helper.make_node(self.operator, names, outputs, domain=self.domain)]
            nodes[0].attribute.extend(self.attribute(*pair) for pair in self.attributes.items())
        graph_inputs, initializers = [], []
        for place, (name, array) in enumerate(zip(names, self.inputs)):
            if array is None:
                continue
            if place in self.constants:
                initializers.append(numpy_helper.from_array(array, name))
            else:
                dims = [None] * array.ndim if self.open_dims else array.shape
                graph_inputs.append(helper.make_tensor_value_info(name, NUMBERS[array.dtype], dims))
        last, extra = outputs[0], []
        for turn, (operator, second) in enumerate(self.after):
            sources = [last] if second is None else [last, f"a{turn}"]
            if second is not None:
                initializers.append(numpy_helper.from_array(second, f"a{turn}"))
            extra.append(helper.make_node(operator, sources, [f"t{turn}"]))
            last = f"t{turn}"
        outputs[0] = last
        ports = [helper.make_tensor_value_info(name, NUMBERS[dtype], None)
                 for name, dtype in zip(outputs, self.output_dtypes())]
        graph = helper.make_graph([*nodes, *extra], "case", graph_inputs, ports, initializers)
        imports = [helper.make_opsetid("", self.opset)]
        if self.domain:
            imports = [helper.make_opsetid("", 21), helper.make_opsetid(self.domain, self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()

    def attribute(self, name, value):
        """An attribute of the type that the schema has, where there is one: an empty list doesn't say its own."""
        kind = None
        if known_to_onnx(self.domain, self.operator, self.opset):
            kind = schema(self.domain, self.operator, self.opset).attributes[name].type.value
        return helper.make_attribute(name, value, attr_type=kind)

    def feed(self):
        """The values of the model's inputs, by name."""
        places = [place for place in range(len(self.inputs)) if place not in self.constants]
        return {f"i{place}": self.inputs[place] for place in places if self.inputs[place] is not None}

    def in_f32(self):
        """The same case with f32 for each f16 and bf16, or None where it has none or other things depend on them.

        With `rough`, for f64 too.
        """
        others = (F16, BF16, F64) if self.rough else (F16, BF16)
        narrow = [array is not None and array.dtype in others for array in self.inputs]
        if not any(narrow) or self.nodes is not None or self.after:
            return None
        inputs = [array.astype(F32) if wide else array for array, wide in zip(self.inputs, narrow)]
        types = self.output_types and [F32 if t in others else t for t in self.output_types]
        return dataclasses.replace(self, inputs=inputs, output_types=types)

    def write(self, folder, outputs=None):
        """Writes the case as the node tests are."""
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model())
        for place, array in enumerate(self.feed().values()):
            (data / f"input_{place}.pb").write_bytes(tensor(array, f"i{place}"))
        for place, array in enumerate(outputs or []):
            (data / f"output_{place}.pb").write_bytes(tensor(array, f"o{place}"))

    def text(self):
        """The case on one line."""
        def one(place, array):
            if array is None:
                return "-"
            constant = "=" if place in self.constants else ""
            short = np.array2string(array.ravel()[:6].astype(F32) if array.dtype in (F16, BF16) else array.ravel()[:6],
                                    precision=6, separator=",", max_line_width=200)
            return f"{constant}{array.dtype}{list(array.shape)}{short if array.size <= 6 else ''}"
        inputs = ", ".join(one(*pair) for pair in enumerate(self.inputs))
        attributes = {name: value for name, value in self.attributes.items() if not isinstance(value, onnx.GraphProto)}
        after = "".join(f" then {name}" for name, _ in self.after)
        return f"{self.operator}-{self.opset}({inputs}) {attributes or ''}{after}".strip()


def widened(case, places, dtype):
    """The case with the equivalent whose inputs at `places` are of `dtype`, where that is another type.

    For operators that do with a type what they do with a wider one.
    """
    old = [case.inputs[place].dtype for place in places if place < len(case.inputs)
           and case.inputs[place] is not None]
    if all(one == dtype for one in old):
        return case
    types = case.output_dtypes()
    inputs = [array.astype(dtype) if place in places and array is not None else array
              for place, array in enumerate(case.inputs)]
    other = dataclasses.replace(case, inputs=inputs, output_types=[dtype if t in old else t for t in types])
    case.equivalent = other, lambda outputs: [output.astype(t) for output, t in zip(outputs, types)]
    return case


def at_opset(case, opset):
    """The case with the equivalent at another opset, for operators that did the same there."""
    case.equivalent = dataclasses.replace(case, opset=opset), lambda outputs: outputs
    return case


def tensor(array, name):
    return numpy_helper.from_array(np.asarray(array), name).SerializeToString()


def raw(path, dtype, dims):
    """The array in a file of little-endian elements."""
    return np.fromfile(path, dtype=dtype).reshape(dims)


def dtype_of(name):
    """The numpy type of one of the backend's element types, such as F32, Bf16 or Bool."""
    if name == "Bf16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({"F": "float", "I": "int", "U": "uint"}[name[0]] + name[1:] if name != "Bool" else np.bool_)
