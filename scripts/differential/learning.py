"""Operators of ai.onnx.ml but trees. Strings are made and read by other nodes of the model."""

import numpy as np
from onnx import helper

from .case import widened
from .microsoft import case_of
from .registry import operator
from .schema import F32, F64, I32, I64

ML = "ai.onnx.ml"
NUMERIC = (F32, F64, I32, I64)
WORDS = ["", "a", "bb", "ccc", "zwölf", "x y"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def rows(c, dtype=None, width=None, style=None):
    """Rows of features, or now and then one of them."""
    width = width or c.random.int(1, 5)
    shape = (width,) if c.random.chance(0.1) else (c.random.int(1, 5), width)
    dtype = dtype or c.dtype(c.schema.inputs[0].type_str, NUMERIC)
    return c.random.array(shape, dtype, style or c.random.pick(["plain", "whole"]))


def floats(c, count, low=-2.0, high=2.0):
    return [c.random.float(low, high) for _ in range(count)]


def in_floats(case):
    """The case with the equivalent of features in f32, for the types that onnxruntime lacks."""
    return widened(case, (0,), F32)


def words_to_numbers(source, target):
    return helper.make_node("LabelEncoder", [source], [target], domain=ML, keys_strings=WORDS,
                            values_int64s=list(range(len(WORDS))), default_int64=-7)


def numbers_to_words(source, target):
    return helper.make_node("LabelEncoder", [source], [target], domain=ML, keys_int64s=list(range(len(WORDS))),
                            values_strings=WORDS, default_string="other")


@operator("Scaler", domain=ML)
def scaler(c):
    x = rows(c)
    count = c.random.pick([1, x.shape[-1]])
    return case_of(c, [x], {"offset": floats(c, count), "scale": floats(c, count)}, kind="pointwise")


@operator("Normalizer", domain=ML)
def normalizer(c):
    return case_of(c, [rows(c)], {"norm": c.random.pick(["MAX", "L1", "L2"])} if c.random.chance(0.8) else {})


@operator("Binarizer", domain=ML)
def binarizer(c):
    x = rows(c, style=c.random.pick(["plain", "whole", "nan"]))
    attributes = {"threshold": c.random.float()} if c.random.chance(0.7) else {}
    return case_of(c, [x], attributes, types=[x.dtype], kind="exact")


@operator("Imputer", domain=ML)
def imputer(c):
    dtype = c.random.pick([F32, I64])
    x = rows(c, dtype, style="nan" if dtype == F32 and c.random.chance(0.5) else "whole")
    count = c.random.pick([1, x.shape[-1]])
    if dtype == F32:
        attributes = {"imputed_value_floats": floats(c, count), "replaced_value_float": c.random.pick([np.nan, 1.0])}
    else:
        attributes = {"imputed_value_int64s": [c.random.int(-9, 9) for _ in range(count)],
                      "replaced_value_int64": c.random.int(-2, 2)}
    return case_of(c, [x], attributes, types=[dtype], kind="exact")


@operator("ArrayFeatureExtractor", domain=ML)
def extractor(c):
    x = c.random.array(c.random.shape(1, empty=0), c.dtype("T", NUMERIC))
    places = c.random.rng.integers(0, x.shape[-1], c.random.int(1, 5)).astype(I64)
    return case_of(c, [x, places], types=[x.dtype], kind="exact")


@operator("FeatureVectorizer", domain=ML)
def vectorizer(c):
    height, dtype = c.random.int(1, 4), c.dtype("T1", NUMERIC)
    parts = [c.random.array((height, c.random.int(1, 4)), dtype) for _ in range(c.random.int(1, 4))]
    widths = [max(1, part.shape[1] + (c.random.int(-1, 1) if c.random.chance(0.3) else 0)) for part in parts]
    return case_of(c, parts, {"inputdimensions": widths}, kind="pointwise")


@operator("LabelEncoder", domain=ML)
def label_encoder(c):
    x = c.random.rng.integers(-1, 7, c.random.shape(0, 3)).astype(I64)
    if c.opset == 1:
        classes = c.random.shuffled(WORDS)
        encode = lambda source, target: helper.make_node("LabelEncoder", [source], [target], domain=ML,
                                                         classes_strings=classes, default_string="a", default_int64=-3)
        return case_of(c, [x], types=[I64], kind="exact", nodes=[encode("i0", "words"), encode("words", "o0")])
    form = c.random.pick(["words", "floats", "tensors"] if c.opset >= 4 else ["words", "floats"])
    if form == "words":
        return case_of(c, [x], types=[I64], kind="exact",
                       nodes=[numbers_to_words("i0", "words"), words_to_numbers("words", "o0")])
    count = c.random.int(1, 5)
    keys, values = c.random.pick([(F32, I64), (I64, F32), (F32, F32), (I64, I64)])
    if form == "tensors":
        keys, values = c.random.pick([(F64, F64), (I64, F64), (F64, I64), (I64, np.dtype(np.int16)), (F32, I64)])
    x = c.random.array(c.random.shape(0, 3), keys, "nan" if keys.kind == "f" else "whole")
    known = c.random.array((count,), keys, "nan" if keys.kind == "f" else "whole")
    known = np.unique(np.concatenate([known, x.reshape(-1)[:2]]))
    results = c.random.array(known.shape, values, "whole")
    if form == "tensors":
        from onnx import numpy_helper
        attributes = {"keys_tensor": numpy_helper.from_array(known), "values_tensor": numpy_helper.from_array(results),
                      "default_tensor": numpy_helper.from_array(np.asarray([5], values))}
    else:
        suffix = lambda dtype: "floats" if dtype == F32 else "int64s"
        attributes = {f"keys_{suffix(keys)}": known.tolist(), f"values_{suffix(values)}": results.tolist()}
        if c.random.chance(0.5):
            attributes["default_float" if values == F32 else "default_int64"] = 5.0 if values == F32 else 5
    return case_of(c, [x], attributes, types=[values], kind="exact")


@operator("CategoryMapper", domain=ML)
def category_mapper(c):
    numbers = c.random.shuffled(list(range(6)))
    x = c.random.rng.integers(-1, 7, c.random.shape(0, 3)).astype(I64)
    node = lambda source, target: helper.make_node("CategoryMapper", [source], [target], domain=ML, cats_strings=WORDS,
                                                   cats_int64s=numbers, default_string="a", default_int64=-3)
    return case_of(c, [x], types=[I64], kind="exact", nodes=[node("i0", "words"), node("words", "o0")])


@operator("OneHotEncoder", domain=ML)
def one_hot_encoder(c):
    zeros = {"zeros": 1} if c.random.chance(0.5) else {}
    if c.opset >= 2 and c.random.chance(0.4):
        x = c.random.rng.integers(0, 8, c.random.shape(0, 3, empty=0)).astype(I64)
        chosen = c.random.some(WORDS, 1)
        return case_of(c, [x], types=[F32], kind="exact", nodes=[numbers_to_words("i0", "words"), helper.make_node(
            "OneHotEncoder", ["words"], ["o0"], domain=ML, cats_strings=chosen, **zeros)])
    x = c.random.array(c.random.shape(0, 3, empty=0), c.random.pick(NUMERIC), "whole")
    return in_floats(case_of(c, [x], {"cats_int64s": c.random.some(range(-9, 10), 1), **zeros}, kind="exact"))


@operator("LinearRegressor", domain=ML)
def linear_regressor(c):
    x, targets = rows(c), c.random.int(1, 3)
    attributes = {"coefficients": floats(c, targets * x.shape[-1]), "targets": targets}
    if c.random.chance(0.7):
        attributes["intercepts"] = floats(c, targets)
    if c.random.chance(0.5):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    return in_floats(case_of(c, [x], attributes))


def labelled(c, inputs, attributes, classes, integers):
    """A case with two outputs, labels and scores, whose labels are numbers, or words that another node reads."""
    if c.opset < 2 or c.random.chance(0.6):
        attributes[integers] = c.random.shuffled(list(range(10)))[:classes]
        return case_of(c, inputs, attributes, types=[I64, F32])
    attributes["classlabels_strings"] = c.random.shuffled(WORDS)[:classes]
    node = helper.make_node(c.name, ["i0"], ["words", "o1"], domain=ML, **attributes)
    return case_of(c, inputs, attributes, types=[I64, F32], nodes=[node, words_to_numbers("words", "o0")])


@operator("LinearClassifier", domain=ML)
def linear_classifier(c):
    x, classes = rows(c), c.random.int(2, 4)
    scores = 1 if classes == 2 and c.random.chance(0.5) else classes
    attributes = {"coefficients": floats(c, scores * x.shape[-1]), "intercepts": floats(c, scores)}
    if c.random.chance(0.6):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    if c.random.chance(0.3):
        attributes["multi_class"] = c.random.int(0, 1)
    return labelled(c, [x], attributes, classes, "classlabels_ints")


def kernel(c):
    attributes = {"kernel_type": c.random.pick(["LINEAR", "POLY", "RBF", "SIGMOID"])}
    attributes["kernel_params"] = [c.random.float(0.1, 0.8), c.random.float(-0.5, 0.5), float(c.random.int(1, 3))]
    return attributes


@operator("SVMRegressor", domain=ML)
def svm_regressor(c):
    x, supports = rows(c), c.random.int(1, 4)
    attributes = {**kernel(c), "support_vectors": floats(c, supports * x.shape[-1]), "n_supports": supports,
                  "coefficients": floats(c, supports), "rho": floats(c, 1)}
    if c.random.chance(0.2):
        # A linear model, whose coefficients are of the features.
        attributes.update(kernel_type="LINEAR", n_supports=0, support_vectors=None,
                          coefficients=floats(c, x.shape[-1]))
    if c.random.chance(0.4):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    if c.random.chance(0.2):
        attributes["one_class"] = c.random.int(0, 1)
    return in_floats(case_of(c, [x], attributes))


@operator("SVMClassifier", domain=ML)
def svm_classifier(c):
    x, classes = rows(c), c.random.int(2, 4)
    per_class = [c.random.int(1, 3) for _ in range(classes)]
    supports, pairs = sum(per_class), classes * (classes - 1) // 2
    attributes = {**kernel(c), "support_vectors": floats(c, supports * x.shape[-1]), "vectors_per_class": per_class,
                  "coefficients": floats(c, (classes - 1) * supports), "rho": floats(c, pairs)}
    if c.random.chance(0.3):
        attributes.update(prob_a=floats(c, pairs, -2.0, -0.5), prob_b=floats(c, pairs, -0.3, 0.3))
    elif c.random.chance(0.4):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    attributes = {name: value for name, value in attributes.items() if value is not None}
    return labelled(c, [x], attributes, classes, "classlabels_ints")
