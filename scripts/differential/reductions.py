"""Reductions, and what orders or numbers elements along an axis."""

import numpy as np

from .case import widened
from .registry import narrow, operator
from .schema import FLOATS, I64


@operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
          "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def reduce(c):
    dtype = c.dtype()
    exact = c.name in ("ReduceMax", "ReduceMin")
    style = c.random.pick(["plain", "whole", "nan"])
    if c.name == "ReduceLogSum" or c.name == "ReduceProd" and c.random.chance(0.5):
        style = "positive"
    x = c.random.array(c.random.shape(most=6, empty=0.06), dtype, style)
    if dtype not in FLOATS and not exact:
        x = (x % 4).astype(dtype)
    axes = c.random.axes(x.ndim, 0, c.opset >= 11)
    attributes = {"keepdims": c.random.int(0, 1)} if c.random.chance(0.7) else {}
    given = c.random.chance(0.75)
    inputs = [x]
    if c.has("axes"):
        if given and axes:
            attributes["axes"] = axes
    else:
        if given:
            inputs.append(np.asarray(axes, I64))
        if c.random.chance(0.3):
            attributes["noop_with_empty_axes"] = c.random.int(0, 1)
    return c.case(inputs, attributes, constants={1}, kind="exact" if exact else "sum")


@operator("ArgMax", "ArgMin")
def extreme(c):
    x = c.random.array(c.random.shape(1, most=6, empty=0), c.dtype(), c.random.pick(["plain", "whole"]))
    attributes = {"keepdims": c.random.int(0, 1)} if c.random.chance(0.6) else {}
    if c.random.chance(0.8):
        attributes["axis"] = c.random.axis(x.ndim) if c.opset >= 11 else c.random.int(0, x.ndim - 1)
    if c.has("select_last_index") and c.random.chance(0.5):
        attributes["select_last_index"] = c.random.int(0, 1)
    return c.case([x], attributes)


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(c):
    x = c.random.array(c.random.shape(1), c.dtype(), c.random.pick(["plain", "whole", "nan"]),
                       c.random.pick([1.0, 20.0]))
    if c.name == "Hardmax":
        x = np.nan_to_num(x.astype(np.float64), posinf=30, neginf=-30).astype(x.dtype)
    axis = c.random.axis(x.ndim) if c.opset >= 11 else c.random.int(0, x.ndim - 1)
    given = c.random.chance(0.75) or c.opset < 13 and x.ndim < 2
    return c.case([x], {"axis": axis} if given else {}, kind="movement" if c.name == "Hardmax" else "sum")


@operator("CumSum")
def cumulative(c):
    dtype = c.dtype()
    x = c.random.array(c.random.shape(1), dtype, c.random.pick(["plain", "whole"]))
    attributes = {name: c.random.int(0, 1) for name in c.random.some(["exclusive", "reverse"])}
    axis = np.asarray(c.random.axis(x.ndim), c.dtype("T2"))
    return c.case([x, axis], attributes, constants={1}, kind="sum")


@operator("TopK")
def top_k(c):
    dtype = c.dtype()
    x = c.random.array(c.random.shape(1, most=7, empty=0), dtype, c.random.pick(["plain", "whole", "positive"]))
    attributes = {}
    axis = c.random.axis(x.ndim) if c.opset >= 11 else c.random.int(0, x.ndim - 1)
    given = axis not in (-1, x.ndim - 1) or c.random.chance(0.5)
    if given:
        attributes["axis"] = axis
    size = x.shape[axis if given else -1]
    k = c.random.int(0 if c.opset >= 10 and c.random.chance(0.1) else 1, size)
    if c.has("largest"):
        attributes |= {name: c.random.int(0, 1) for name in c.random.some(["largest", "sorted"])}
    # Where they needn't be sorted, only sorted ones can be compared.
    if attributes.get("sorted") == 0:
        attributes["sorted"] = 1
    if c.has("k"):
        return c.case([x], {"k": k, **attributes}, outputs=2)
    return c.case([x, np.asarray([k], I64)], attributes, outputs=2, constants={1})


@operator("Unique")
def unique(c):
    x = c.random.array(c.random.shape(1, 3, 4, empty=0), c.dtype(), "whole")
    if x.dtype in FLOATS:
        x = np.asarray(np.clip(x.astype(np.float64), -2, 2) + 0.0).astype(x.dtype)
    attributes = {"sorted": c.random.int(0, 1)} if c.random.chance(0.7) else {}
    if c.random.chance(0.5):
        attributes["axis"] = c.random.axis(x.ndim)
    case = c.case([x], attributes, outputs=c.random.int(1, 4))
    return widened(case, {0}, I64) if x.dtype not in FLOATS and x.dtype != np.uint64 else case


def contraction(c, dtype):
    """A style of elements for products: whole numbers are summed exactly in any order."""
    return c.random.pick(["whole", "plain"] if narrow(dtype) else ["plain", "whole", "nan"])


def matmul(c):
    """neural.py adds what may follow."""
    dtype = c.dtype()
    m, k, n = c.random.int(1, 6), c.random.int(1, 9), c.random.int(1, 6)
    if c.random.chance(0.04):
        m, k, n = c.random.pick([(0, k, n), (m, 0, n), (m, k, 0)])
    if c.random.chance(0.2):
        m, k, n = c.random.int(1, 40), c.random.int(30, 300), c.random.int(1, 70)
    batch = c.random.shape(0, 2, 3, empty=0.02)
    first, second = (*c.random.broadcast(batch), m, k), (*c.random.broadcast(batch), k, n)
    if c.random.chance(0.15):
        first = (k,)
    if c.random.chance(0.15):
        second = (k,)
    style = contraction(c, dtype)
    return c.case([c.random.array(first, dtype, style), c.random.array(second, dtype, style)], constants={1},
                  kind="sum")


def gemm(c):
    dtype = c.dtype()
    m, k, n = c.random.int(1, 6), c.random.int(1, 20), c.random.int(1, 6)
    if c.random.chance(0.2):
        m, k, n = c.random.int(1, 40), c.random.int(30, 300), c.random.int(1, 70)
    if c.random.chance(0.03):
        m, k, n = c.random.pick([(0, k, n), (m, 0, n), (m, k, 0)])
    style = "plain" if dtype in FLOATS else "whole"
    attributes = {name: c.random.int(0, 1) for name in c.random.some(["transA", "transB"])}
    if dtype in FLOATS:
        attributes |= {name: c.random.float() for name in c.random.some(["alpha", "beta"])}
        style = contraction(c, dtype)
    a = (k, m) if attributes.get("transA") else (m, k)
    b = (n, k) if attributes.get("transB") else (k, n)
    inputs = [c.random.array(a, dtype, style), c.random.array(b, dtype, style)]
    if c.opset < 11 or c.random.chance(0.7):
        inputs.append(c.random.array(c.random.broadcast((m, n)), dtype, style))
    return c.case(inputs, attributes, constants={1, 2}, kind="sum")


EQUATIONS = ["ij,jk->ik", "ij,jk", "ij->ji", "ij->", "ij->i", "ij,ij->ij", "i,j->ij", "bij,bjk->bik",
             "...ij,...jk->...ik",
             "ij,kj->ik", "ii->i", "ii", "ij,jk,kl->il", "bhid,bhjd->bhij", "...i,...i->...", "i,i", "ij,j->i",
             " i j , j k -> i k ", "iij->j", "a...b->b...a", "ijk,ilm,njm->nlk", "ij,ij->", "...->...", "ab,cd->abcd"]


@operator("Einsum")
def einsum(c):
    equation = c.random.pick(EQUATIONS)
    dtype = c.dtype()
    sizes = {letter: c.random.int(1, 4) for letter in "abcdefghijklmn"}
    batch = c.random.shape(0, 2, 3, empty=0)
    inputs = []
    for term in equation.split("->")[0].replace(" ", "").split(","):
        dims = []
        head, dots, tail = term.partition("...")
        dims = [sizes[letter] for letter in head] + (list(batch) if dots else []) + [sizes[letter] for letter in tail]
        inputs.append(c.random.array(tuple(dims), dtype, "plain" if dtype in FLOATS and not narrow(dtype) else "whole"))
    return c.case(inputs, {"equation": equation}, kind="sum")
