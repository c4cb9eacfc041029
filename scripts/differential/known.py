"""Disagreements that are known, each with the reason why the backend stays as it is.

An entry covers a case that differs where its operator and its test say so. One that covers nothing in a run which had
enough cases of its operators is reported: then either the oracle has changed or the entry was never needed.
"""

import dataclasses
import typing


@dataclasses.dataclass
class Known:
    operators: tuple
    # From the case, the outputs found, those wanted and who gave these to whether this is the disagreement.
    test: typing.Callable
    why: str
    seen: int = 0


def reference(test):
    """A test that holds where the reference gave the outputs."""
    return lambda case, found, wanted, source: source == "reference" and test(case)


def before(opset):
    return reference(lambda case: case.opset < opset)


KNOWN = [
    Known(("Hardmax", "Softmax", "LogSoftmax"), before(13),
          "Before opset 13 these read the tensor as a matrix, which the reference doesn't."),
    Known(("GlobalMaxPool",), reference(lambda case: True),
          "The reference drops dimensions."),
    Known(("AveragePool",), before(7),
          "Before opset 7 the average leaves pads out; the reference counts them."),
    Known(("LRN",), reference(lambda case: case.attributes["size"] % 2 == 0),
          "Of an even size the reference takes other channels than the specification says."),
    Known(("Unique",), reference(lambda case: "axis" in case.attributes and case.attributes.get("sorted") == 0),
          "The reference takes unsorted rows along the first axis, whatever the axis."),
    Known(("RNN", "GRU", "LSTM"), reference(lambda case: True),
          "The reference knows neither lengths nor most activations; only where nothing else is known is it asked."),
    Known(("ReduceLogSumExp",), lambda case, found, wanted, source: case.inputs[0].dtype.kind in "iu",
          "onnxruntime computes each exponential as an integer; opset 28 has no integers here any more."),
]


def known(case, found, wanted, source):
    """The entry that covers this difference, or None."""
    for entry in KNOWN:
        if case.operator in entry.operators and entry.test(case, found, wanted, source):
            entry.seen += 1
            return entry
    return None
