"""The generators of cases, by operator."""

import numpy as np

from . import schema as schemas
from .case import Case
from .schema import BF16, F16, FLOATS

GENERATORS = {}

DRAWN = "Each runtime draws other numbers from the same seed; unit tests have distribution, seed and size."
# Operators that no generator makes cases of, each with the reason.
INCOMPARABLE = {
    **{("", name): DRAWN for name in ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
                                      "Bernoulli", "Multinomial")},
    ("ai.onnx.ml", "ZipMap"): "Its output is a sequence of maps for the oracles, and a matrix for the backend.",
}


def operator(*names, domain=""):
    """Registers a function from a context to a case for these operators."""
    def register(function):
        for name in names:
            GENERATORS[domain, name] = function
        return function
    return register


class Context:
    """What a generator works with: random values, and what the schema says of the operator at the opset."""

    def __init__(self, random, domain, name, opset, types):
        self.random, self.domain, self.name, self.opset, self.types = random, domain, name, opset, types

    @property
    def schema(self):
        return schemas.schema(self.domain, self.name, self.opset)

    def allowed(self, variable=None):
        table = schemas.allowed(self.domain, self.name, self.opset, self.types)
        return table[variable or self.schema.inputs[0].type_str]

    def dtype(self, variable=None, only=None):
        """One of the types of a variable: f32 more often than others."""
        options = [t for t in self.allowed(variable) if only is None or t in only]
        if np.dtype(np.float32) in options and self.random.chance(0.3):
            return np.dtype(np.float32)
        return self.random.pick(options)

    def floats(self, variable=None):
        return self.dtype(variable, FLOATS)

    def has(self, attribute):
        return attribute in self.schema.attributes

    def case(self, inputs, attributes=None, constants=(), **rest):
        """A case whose other inputs are weights now and then; `constants` says which are so more often."""
        chosen = {p for p, a in enumerate(inputs)
                  if a is not None and self.random.chance(0.5 if p in constants else 0.15)}
        attributes = {name: value for name, value in (attributes or {}).items() if value is not None}
        return Case(self.name, self.opset, list(inputs), attributes, domain=self.domain, constants=chosen,
                    open_dims=self.random.chance(0.5), **rest)


def narrow(dtype):
    return dtype in (F16, BF16)
