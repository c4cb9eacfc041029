"""Disagreements that are known, each with the reason why the backend stays as it is.

An entry covers a case that differs where its operator and its test say so. One that covers nothing in a run which had
enough cases of its operators is reported: then either the oracle has changed or the entry was never needed.
"""

import dataclasses
import typing

import numpy as np

from .schema import F32, F64


@dataclasses.dataclass
class Known:
    operators: tuple
    # From the case, the outputs found, those wanted and who gave these to whether this is the disagreement.
    test: typing.Callable
    why: str
    seen: int = 0


def of(source, test=lambda case: True):
    """A test of the case alone that holds where `source` gave the outputs."""
    return lambda case, found, wanted, by: by.endswith(source) and test(case)


def runtime(test):
    """A test of the case alone where onnxruntime gave the outputs, in whatever form."""
    return lambda case, found, wanted, by: "onnxruntime" in by and test(case)


def reference(test):
    return of("reference", test)


def same(case):
    return case.attributes.get("auto_pad", "").startswith("SAME")


def longer(case):
    """Whether SAME asks for more than what a transposed convolution reaches."""
    sizes, strides = case.inputs[0].shape[2:], case.attributes.get("strides", [1] * 3)
    kernel, dilations = case.inputs[1].shape[2:], case.attributes.get("dilations", [1] * 3)
    return same(case) and any((d - 1) * s + (k - 1) * e + 1 < d * s
                              for d, s, k, e in zip(sizes, strides, kernel, dilations))


def narrower(case):
    """Whether SAME pads are negative: strides step over more than the kernel covers."""
    kernel = case.attributes.get("kernel_shape") or case.inputs[1].shape[2:]
    return same(case) and any(stride > size for stride, size in zip(case.attributes.get("strides", []), kernel))


def dilated(case):
    return same(case) and any(one > 1 for one in case.attributes.get("dilations", []))


def defaulted(case):
    """Whether an activation that has numbers isn't given them."""
    names = [name for name in case.attributes.get("activations", []) if name in ("Affine", "ThresholdedRelu",
                                                                                "ScaledTanh")]
    return bool(names) and "activation_alpha" not in case.attributes


def lowest(case, found, wanted, by):
    """Whether all that differs are -inf, where the type's least number is wanted."""
    if found[0].shape != wanted[0].shape:
        return False
    one, other = found[0].astype(float), wanted[0].astype(float)
    return bool(((one == other) | (np.isneginf(one) & (other < -6e4))).all())


def only_nan(case, found, wanted, by):
    """Whether all that differs is NaN here, and a number is wanted."""
    if [array.shape for array in found] != [array.shape for array in wanted]:
        return False
    one, other = found[0].astype(float), wanted[0].astype(float)
    # In f32 an f64 is rounded, and the least number stands for -inf.
    near = np.isclose(one, other, rtol=1e-5, equal_nan=True) | (np.isneginf(one) & (other < -6e4))
    differ = ~near
    return "onnxruntime" in by and bool(np.isnan(one[differ]).all())


def normalizes(case):
    """Whether an ensemble of version 5 asks for softmax or for the logistic function."""
    return case.attributes.get("post_transform") in (1, 2)


def two_voted(case):
    """Whether there are two classes, each of which leaves give scores to."""
    return set(case.attributes["class_ids"]) == {0, 1}


def unscored(case, found, wanted, by):
    """Whether all that differs are targets without any score, which have their base value here."""
    if case.attributes.get("post_transform", "NONE") not in ("NONE", 0):
        return "base_values" in case.attributes
    base = np.asarray(case.attributes.get("base_values", 0.0))
    one, other = found[0].astype(float), wanted[0].astype(float)
    return bool((np.isclose(one, base) | np.isclose(one, other, 1e-4, 1e-4)).all())


def crops_alone(case):
    """Whether Resize crops along an axis whose size it keeps."""
    if case.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize" or len(case.inputs) < 3:
        return False
    regions, scales = case.inputs[1], case.inputs[2]
    if scales is None or not scales.size:
        return False
    starts, ends = np.split(regions, 2)
    return bool(((scales == 1) & ((starts != 0) | (ends != 1))).any())


KNOWN = [
    Known(("QLinearAveragePool",),
          runtime(lambda case: case.attributes.get("ceil_mode") and case.attributes.get("count_include_pad")),
          "onnxruntime counts what hangs over past the pads; here this is as AveragePool is, which leaves it out."),
    Known(("LabelEncoder",),
          runtime(lambda case: case.opset < 4 and case.inputs[0].dtype == F32 and np.isnan(case.inputs[0]).any()),
          "Before version 4 onnxruntime finds no NaN among the keys."),
    Known(("Resize",),
          runtime(lambda case: "not_smaller" in case.attributes.values() and "axes" in case.attributes),
          "onnxruntime counts the axes that aren't named, whose scale is 1, among those that are to be no smaller."),
    Known(("Resize",), reference(lambda case: case.inputs[0].dtype.kind in "iu"),
          "The reference rounds to integers; onnxruntime cuts, where it has the type, and so does the backend."),
    Known(("Resize",), reference(lambda case: case.inputs[0].dtype == F64),
          "The reference computes places in f32, as the scales and the crop are."),
    Known(("MatMulInteger",), reference(lambda case: len(case.inputs) > 2 and case.inputs[2] is not None and
                                        case.inputs[2].ndim == 1),
          "A list of zero points of A is one for each row; the reference takes it for one of each column."),
    Known(("TreeEnsemble",), runtime(lambda case: case.attributes.get("post_transform") == 3 and
                                     case.inputs[0].dtype == F64), "onnxruntime normalizes f64 in f32."),
    Known(("TreeEnsemble",), runtime(normalizes),
          "onnxruntime takes 1 for the logistic function and 2 for softmax, ONNX the other way round."),
    Known(("TreeEnsemble", "TreeEnsembleRegressor"), unscored,
          "A target without any score is 0, and its base value where it has one; others give 0 or the least number."),
    Known(("TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"),
          reference(lambda case: case.inputs[0].dtype.kind in "iu"), "The reference rounds scores to integers."),
    Known(("TreeEnsembleClassifier",), runtime(two_voted),
          "Where each of two classes has scores, onnxruntime answers 0 or 1, whatever their labels are, and takes a "
          "row with one score as if there were no other."),
    Known(("TreeEnsembleClassifier",), reference(lambda case: True),
          "The reference fills in the other class whatever the number of classes, and chooses classes without a score; "
          "it is asked where onnxruntime can't be."),
    Known(("Hardmax", "Softmax", "LogSoftmax"), reference(lambda case: case.opset < 13),
          "Before opset 13 these read the tensor as a matrix, which the reference doesn't."),
    Known(("GlobalMaxPool",), reference(lambda case: True), "The reference drops dimensions."),
    Known(("AveragePool",), reference(lambda case: case.opset < 7),
          "Before opset 7 the average leaves pads out; the reference counts them."),
    Known(("AveragePool", "MaxPool", "LpPool"), reference(lambda case: dilated(case) or narrower(case)),
          "The reference places SAME pads as if nothing were dilated, and takes negative pads off the input."),
    Known(("Conv",), reference(lambda case: any(one > 1 for one in case.attributes.get("dilations", []))),
          "The reference fills up dilated kernels with zeros, and multiplies infinities by them."),
    Known(("AveragePool", "LpPool", "MaxPool"), runtime(dilated),
          "onnxruntime finds SAME pads as if nothing were dilated, and so not the output size of the specification."),
    Known(("LpPool", "AveragePool", "QLinearAveragePool", "MaxPool"), runtime(narrower), "onnxruntime takes negative SAME pads off the input; here pads end at 0."),
    Known(("ReduceMean",), reference(lambda case: case.inputs[0].size == 0 and case.inputs[0].dtype.kind in "iu"),
          "The mean of no integers is undefined."),
    Known(("Resize",), runtime(lambda case: case.attributes.get("mode") == "linear" and crops_alone(case)),
          "onnxruntime crops only the axes whose scale isn't 1; the specification and its reference crop each."),
    Known(("Resize",), lambda case, found, wanted, by: "onnxruntime" in by and found[0].shape == case.inputs[0].shape,
          "onnxruntime copies where no size changes, though the scales aren't 1."),
    Known(("ConvTranspose",), runtime(longer),
          "SAME gives the input's size times the stride; onnxruntime's output ends where the kernel does."),
    Known(("MaxPool",), lowest, "onnxruntime begins at the type's least number, so that -inf is never the maximum."),
    Known(("MaxPool", "GlobalMaxPool"), only_nan,
          "A NaN is the maximum of what it is in, as it is of ReduceMax; onnxruntime drops some of them."),
    Known(("AffineGrid",), runtime(lambda case: 1 in case.inputs[1][2:].tolist()),
          "Of a size of 1 with aligned corners onnxruntime takes the end of the range, ONNX's function its beginning."),
    Known(("BatchNormalization",), reference(lambda case: len({array.dtype for array in case.inputs}) > 1),
          "The reference rounds to the type of the mean."),
    Known(("GroupNormalization",), runtime(lambda case: case.inputs[0].dtype == F64),
          "onnxruntime normalizes f64 in f32, the least that stash_type asks for."),
    Known(("LogSoftmax",), lambda case, found, wanted, by: not np.isfinite(case.inputs[0].astype(float)).all(),
          "Beside an infinity or a NaN all are NaN; onnxruntime gives numbers for some of them in f64."),
    Known(("LRN",), reference(lambda case: case.attributes["size"] % 2 == 0),
          "Of an even size the reference takes other channels than the specification says."),
    Known(("Unique",), reference(lambda case: case.attributes.get("sorted") == 0),
          "The reference mixes up the rows where they aren't sorted."),
    Known(("RNN", "GRU", "LSTM"), reference(lambda case: True),
          "The reference knows neither lengths nor most activations; it is asked where onnxruntime can't be."),
    Known(("RNN", "GRU", "LSTM"), runtime(defaulted),
          "onnxruntime takes 0 where alpha and beta aren't given; the specification takes the operators' defaults."),
    Known(("QLinearConv",), reference(lambda case: True),
          "The reference makes more channels than there are; it is asked where onnxruntime can't be."),
    Known(("ReduceLogSumExp",), lambda case, found, wanted, by: case.inputs[0].dtype.kind in "iu",
          "onnxruntime computes each exponential as an integer; opset 28 has no integers here any more."),
    Known(("OneHot",), reference(lambda case: case.inputs[2].dtype.kind == "f"),
          "The reference multiplies and adds where the specification only chooses."),
    Known(("NonZero",), runtime(lambda case: case.inputs[0].ndim == 0),
          "A scalar gives no index by the specification; onnxruntime takes it for one element of one dimension."),
    Known(("Dropout",), lambda case, found, wanted, by: case.opset < 12 and len(found) == 2,
          "Before opset 12 nothing says what the mask is outside training: here true as later, elsewhere false."),
    Known(("HannWindow", "HammingWindow", "BlackmanWindow"), runtime(lambda case: True),
          "onnxruntime computes windows of f64 in f32."),
    Known(("GridSample",), runtime(lambda case: case.attributes.get("mode", "").endswith("cubic")),
          "Outside of the border, onnxruntime moves each of the 16 places inside and not the place between them."),
    Known(("Shrink",), runtime(lambda case: case.inputs[0].dtype.kind in "iu"),
          "onnxruntime computes integers in f32."),
    Known(("Resize",), reference(lambda case: "pytorch" in case.attributes.get("coordinate_transformation_mode", "")),
          "The reference takes the output's size before it is rounded down for that of pytorch_half_pixel."),
    Known(("QuantizeLinear",), of("in f32", lambda case: case.opset >= 23),
          "From opset 23 on the type of the scale says how exactly to divide, so that f32 is another question."),
    Known(("QuantizeLinear",), reference(lambda case: case.opset < 23 or case.inputs[0].dtype != case.inputs[1].dtype),
          "The reference divides in the wider of the two types: before opset 23 it is f32, from then on the scale's."),
    Known(("Erf", "HardSwish"), reference(lambda case: case.inputs[0].dtype == F64), "The reference computes in f32."),
    Known(("Gelu",), lambda case, found, wanted, by: case.inputs[0].dtype == F64,
          "Both know Gelu as a function whose constants are f32."),
    Known(("Attention", "FlexAttention"), lambda case, found, wanted, by: case.inputs[0].dtype == F64,
          "Both oracles take a root of the scale, or the soft cap, in f32."),
    Known(("RMSNormalization",), reference(lambda case: case.inputs[0].dtype != case.inputs[1].dtype),
          "The reference rounds to the type of X before it scales; here all is rounded once, to that of the scale."),
    Known(("Loop",), reference(lambda case: True), "The reference joins scan outputs where they are to be stacked."),
]


def known(case, found, wanted, source):
    """The entry that covers this difference, or None."""
    for entry in KNOWN:
        if case.operator in entry.operators and entry.test(case, found, wanted, source):
            entry.seen += 1
            return entry
    return None
