"""Whether two results agree.

The kinds of case say how exactly:

* movement, exact: equal, NaN to NaN. Nothing is computed that could be rounded.
* pointwise: a few units in the last place of the type, and as much of 1 near 0: implementations of exp, tanh and their
  like differ by one or two units, and f16 and bf16 are rounded once from f32.
* sum: as many units of the largest element among inputs and outputs: the order of a sum is free, and with it the
  rounding. f16 and bf16 are to be summed in f32 and rounded once.
* dynamic: within 4e-2 of the largest: a step that is quantized on the way may go either way, and moves what follows.
* quantized: integers within 1, for a tie may fall either way after a product with a rounded scale; floats as pointwise.
"""

import numpy as np

from .schema import BF16, F16, F32, F64, FLOATS

# Relative to the element, for "pointwise", and relative to the largest, for "sum".
UNITS = {F32: (1e-5, 2e-5), F64: (1e-12, 1e-12), F16: (2e-3, 2e-3), BF16: (1.6e-2, 1.6e-2)}
ABSOLUTE = {F32: 1e-6, F64: 1e-13, F16: 1e-3, BF16: 8e-3}


def largest(arrays):
    most = 0.0
    for array in arrays:
        if array is not None and array.dtype in FLOATS and array.size:
            wide = np.abs(array.astype(np.float64))
            most = max(most, float(np.max(wide, initial=0.0, where=np.isfinite(wide))))
    return most


def difference(case, found, wanted, in_f32=False):
    """The first way in which two results differ, as (kind, text), or None.

    `in_f32` says that those wanted were computed in f32, whatever their type is.
    """
    if len(found) != len(wanted):
        return "count", f"{len(found)} outputs instead of {len(wanted)}"
    for place, (one, other) in enumerate(zip(found, wanted)):
        if one.dtype != other.dtype:
            return "type", f"output {place}: {one.dtype} instead of {other.dtype}"
        if one.shape != other.shape:
            return "dims", f"output {place}: dimensions {list(one.shape)} instead of {list(other.shape)}"
        bad = wrong(case, one, other, in_f32)
        if bad.any():
            index = np.unravel_index(int(np.argmax(bad)), bad.shape) if bad.ndim else ()
            what = value_kind(one[index], other[index])
            where = [int(i) for i in index]
            return what, (f"output {place}, {int(bad.sum())} of {bad.size}: {one[index]} instead of {other[index]} "
                          f"at {where}")
    return None


def value_kind(one, other):
    if isinstance(one, np.bool_) or np.issubdtype(np.asarray(one).dtype, np.integer):
        return "value"
    for name, test in (("nan", np.isnan), ("infinity", np.isinf)):
        if test(np.float64(one)) != test(np.float64(other)):
            return name
    return "value"


def wrong(case, found, wanted, in_f32):
    """Where elements differ by more than they may."""
    if found.dtype not in FLOATS:
        if case.kind == "quantized" and found.dtype != np.bool_:
            return np.abs(found.astype(np.int64) - wanted.astype(np.int64)) > 1
        return found != wanted
    one, other = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        # What was computed in f32 is no more exact than that.
        dtype = F32 if in_f32 and found.dtype == F64 else found.dtype
        if case.kind in ("movement", "exact") and dtype == found.dtype:
            return ~same
        pointwise, summed = UNITS[dtype]
        if case.kind == "dynamic":
            bound = 4e-2 * max(1.0, largest([wanted]))
        elif case.kind != "sum":
            bound = ABSOLUTE[dtype] + pointwise * np.abs(other)
        else:
            bound = summed * max(1.0, largest([*case.inputs, wanted]))
        near = np.abs(one - other) <= bound
        return ~(same | near)
