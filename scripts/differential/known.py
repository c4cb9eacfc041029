"""Disagreements that are known, each with the reason why the backend stays as it is.

An entry covers a case that differs where its operator and its test say so. One that covers nothing in a run which had
enough cases of its operators is reported: then either the oracle has changed or the entry was never needed.
"""

import dataclasses
import typing


@dataclasses.dataclass
class Known:
    operators: tuple
    # From the case, the outputs found and the outputs wanted to whether this is the disagreement.
    test: typing.Callable
    why: str
    seen: int = 0


KNOWN = []


def known(case, found, wanted):
    """The entry that covers this difference, or None."""
    for entry in KNOWN:
        if case.operator in entry.operators and entry.test(case, found, wanted):
            entry.seen += 1
            return entry
    return None
