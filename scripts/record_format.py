"""Records: the inputs that a model was given and the outputs that onnxruntime had for them.

A record is a folder with a record.json and, for each column of it, a file of raw little-endian elements, row-major,
one row after another. So `numpy.fromfile(file, dtype).reshape(rows, *dims)` is all it takes to read a column.
examples/models/README.md documents the format for its users; Record in examples/guests/record.rs reads it.
"""

import hashlib
import json
import pathlib

import numpy as np

FORMAT = 1
TYPES = {"float32": "f32", "float64": "f64", "uint8": "u8", "int32": "i32", "int64": "i64"}


class Column:
    """One input or output: `values` has a row for each inference, `index` is its place among the model's inputs."""

    def __init__(self, name, index, values, file, scale=None, shift=0.0, dims=None):
        """With a `scale`, `values` are u8 and the model gets `values * scale + shift` in f32.

        With `dims` too, a row has those dimensions, and its stored elements over and over.
        """
        self.name, self.index, self.file = name, index, file
        self.stored = np.ascontiguousarray(values)
        self.scale, self.shift, self.dims = scale, shift, dims
        assert dims is None or (scale is not None and np.prod(dims) % self.stored[0].size == 0)
        assert scale is None or self.stored.dtype == np.uint8

    def values(self):
        """What the model gets, every row of it. Two roundings, a product's and a sum's, as the reader in Rust has."""
        if self.scale is None:
            return self.stored
        values = self.stored.astype(np.float32) * np.float32(self.scale) + np.float32(self.shift)
        return values if self.dims is None else np.stack([np.resize(row, self.dims) for row in values])

    def description(self):
        values = self.values()
        description = {
            "name": self.name,
            "index": self.index,
            "type": TYPES[values.dtype.name],
            "dims": list(values.shape[1:]),
            "file": self.file,
        }
        if self.scale is not None:
            description["stored"] = {"type": "u8", "scale": self.scale, "shift": self.shift}
        if self.dims is not None:
            description["stored"]["repeat"] = int(np.prod(self.dims)) // self.stored[0].size
        return description


def run(session, inputs, output_names):
    """The outputs of `session` for each row of `inputs`, one inference for each, stacked."""
    columns = {column.name: column.values() for column in inputs}
    rows = []
    for row in range(len(inputs[0].stored)):
        # A row of scalars is a numpy scalar, which onnxruntime does not take for an array.
        feed = {name: np.asarray(values[row]) for name, values in columns.items()}
        rows.append(session.run(output_names, feed))
    return [np.stack(outputs) for outputs in zip(*rows)]


def write(folder, model, model_file, inputs, outputs, made_with, labels=None, of=None, tolerance=None):
    """Writes the record of `model` (its bytes), which users find at `model_file`, in the folder of `of` if given.

    `tolerance` is the largest difference that passes, where it is another than the usual one.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for column in [*inputs, *outputs]:
        (folder / column.file).write_bytes(column.stored.astype(column.stored.dtype.newbyteorder("<")).tobytes())
    record = {
        "format": FORMAT,
        "model": {"file": model_file, "bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()},
        "made_with": made_with,
        "rows": len(inputs[0].stored),
        "inputs": [column.description() for column in inputs],
        "outputs": [column.description() for column in outputs],
    }
    if of is not None:
        record["model"]["of"] = of
    if tolerance is not None:
        record["tolerance"] = tolerance
    if labels is not None:
        (folder / "labels.bin").write_bytes(np.asarray(labels, np.uint8).tobytes())
        record["labels"] = "labels.bin"
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")
