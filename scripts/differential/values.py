"""Random shapes and tensors, with the values at which operators err."""

import numpy as np

from .schema import BF16, BOOL, F16, F64, FLOATS

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5]


def extremes(dtype):
    """The largest and least values, and the smallest positive ones."""
    if dtype == F16:
        return [65504.0, -65504.0, 6e-8, 6.104e-5]
    if dtype == F64:
        return [1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.2250738585072014e-308]
    return [3.3895314e38, -3.3895314e38, 1e-40, 1.1754944e-38]


class Random:
    """A source of random things; one for each case, so that a case is made again from its number."""

    def __init__(self, seed, types):
        self.rng = np.random.default_rng(seed)
        self.types = types
        self.opset = 0

    def chance(self, p):
        return self.rng.random() < p

    def int(self, low, high):
        """An integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def float(self, low=-2.0, high=2.0):
        """A number that an f32 attribute holds exactly."""
        return float(np.float32(self.rng.uniform(low, high)))

    def shuffled(self, values):
        return [values[i] for i in self.rng.permutation(len(values))]

    def some(self, values, least=0):
        """Some of `values`, in any order."""
        count = self.int(min(least, len(values)), len(values))
        return self.shuffled(list(values))[:count]

    def shape(self, low=0, high=4, most=5, empty=0.04):
        """A shape of `low` to `high` dimensions; now and then one of them is 0, or there are few and they are large.

        Large ones reach the loops over whole vectors.
        """
        if high > 2 and low < 3 and self.chance(0.08):
            return tuple(self.int(8, 70) for _ in range(self.int(max(low, 1), 2)))
        dims = [self.int(1, most) for _ in range(self.int(low, high))]
        if dims and self.chance(empty):
            dims[self.int(0, len(dims) - 1)] = 0
        return tuple(dims)

    def axis(self, rank):
        """An axis, from the front or from the back."""
        return self.int(-rank, rank - 1)

    def axes(self, rank, least=0, negative=True):
        chosen = self.some(range(rank), least)
        return [axis - rank if negative and self.chance(0.3) else axis for axis in chosen]

    def broadcast(self, shape, drop=0.3, ones=0.3):
        """A shape that broadcasts to `shape`."""
        dims = [1 if self.chance(ones) else dim for dim in shape]
        while dims and self.chance(drop):
            dims.pop(0)
        return tuple(dims)

    def broadcast_pair(self, most=5):
        shape = self.shape(0, 4, most)
        first, second = self.broadcast(shape), self.broadcast(shape)
        plain = self.pick([0, 0, 1, 2])
        return (shape if plain != 1 else first), (shape if plain != 2 else second)

    def array(self, shape, dtype, style=None, scale=2.0):
        """Random elements. Styles: plain, special (with NaN and its like), whole (few whole numbers, so that there are
        ties), positive, full (of all an integer type can hold, with its extremes)."""
        dtype = np.dtype(dtype)
        if style is None:
            style = self.pick(["plain", "plain", "special", "whole"])
        if dtype == BOOL:
            return self.rng.random(shape) < 0.5
        if dtype in FLOATS:
            return self.floats(shape, dtype, style, scale)
        info = np.iinfo(dtype)
        if style in ("special", "full"):
            values = self.rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
            return self.sprinkle(values, [info.min, info.max, 0, 1])
        low = 0 if info.min == 0 or style == "positive" else -9
        return self.rng.integers(low, 10, shape).astype(dtype)

    def floats(self, shape, dtype, style, scale):
        values = self.rng.normal(0.0, scale, shape)
        if style == "whole":
            values = np.round(values)
        if style == "positive":
            values = np.abs(values) + 0.1
        if style == "special":
            values = self.sprinkle(np.asarray(values), SPECIAL + extremes(dtype))
        if style == "nan":
            values = self.sprinkle(np.asarray(values), SPECIAL)
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(dtype)

    def sprinkle(self, values, specials):
        values = np.asarray(values)
        flat = values.reshape(-1)
        for place in range(flat.size):
            if self.chance(0.25):
                flat[place] = self.pick(specials)
        return flat.reshape(values.shape)

    def indices(self, shape, size, negative=True):
        """Indices into an axis of `size`."""
        low = -size if negative and self.chance(0.5) else 0
        return self.rng.integers(low, size, shape)
