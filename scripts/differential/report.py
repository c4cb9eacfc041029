"""Counts, groups, and the smallest case of each."""

import collections
import re

from .known import KNOWN

ORDER = ["agreed", "known", "outvoted", "refused", "unknown", "different", "crashed", "broken"]
MEANING = {
    "agreed": "the outputs agree",
    "known": "they differ for a reason given in known.py",
    "outvoted": "they differ from onnxruntime's and agree with another oracle's",
    "refused": "the backend refuses what an oracle computes",
    "unknown": "no oracle computes the case",
    "different": "they differ",
    "crashed": "the backend's process ended or hung",
    "broken": "the generator failed",
}
# Where an operator had fewer cases than this, an entry of known.py may have been missed by chance.
ENOUGH = 1000


class Report:
    def __init__(self, folder, lacking):
        self.folder, self.lacking = folder, lacking
        self.outcomes, self.operators = collections.Counter(), collections.Counter()
        self.groups = {}

    def add(self, result):
        self.outcomes[result.outcome] += 1
        self.operators[result.operator] += 1
        if result.outcome in ("agreed", "known"):
            return
        key = (result.outcome, result.operator, result.group or plain(result.why))
        size = sum(array.size for array in result.case.inputs if array is not None) if result.case else 0
        count, least, smallest = self.groups.get(key, (0, None, None))
        if least is None or size < least:
            least, smallest = size, result
            if result.outcome in ("different", "crashed"):
                result.case.write(self.folder / "-".join(key[1:]).replace("/", " ")[:80], result.wanted)
        self.groups[key] = (count + 1, least, smallest)

    def stale(self):
        return [entry for entry in KNOWN if not entry.seen
                and sum(self.operators[name] for name in entry.operators) >= ENOUGH]

    def fine(self):
        bad = self.outcomes["different"] + self.outcomes["crashed"] + self.outcomes["broken"]
        return not bad and not self.lacking

    def counts(self):
        return "\n".join([f"cases {sum(self.outcomes.values())}"] +
                         [f"{name} {self.outcomes[name]}" for name in ORDER])

    def text(self):
        lines = []
        for outcome in reversed(ORDER):
            for (kind, operator, group), (count, _, smallest) in sorted(self.groups.items(),
                                                                         key=lambda item: item[0]):
                if kind != outcome:
                    continue
                lines.append(f"{kind} {operator} [{group}] {count} times, such as case {smallest.number}: "
                             f"{smallest.why}")
                if smallest.case is not None:
                    lines.append(f"    {smallest.case.text()} ({smallest.source})")
        lines += [f"no generator: {name}" for name in self.lacking]
        lines += [f"stale in known.py: {', '.join(entry.operators)}: {entry.why}" for entry in self.stale()]
        lines += [f"{self.outcomes[name]:>8} {name:<10} {MEANING[name]}" for name in ORDER]
        lines.append(f"{sum(self.outcomes.values()):>8} cases of {len(self.operators)} operators")
        return "\n".join(lines)


def plain(text):
    """A reason without its numbers and names, so that equal ones are counted together."""
    text = re.sub(r"\[[^\]]*\]|\d+(\.\d+)?", "N", re.sub(r"'[^']*'", "NAME", text.split("\n")[0]))
    return text[:110]
