#!/usr/bin/env python3
"""Writes the tables of the core's models in src/docs/verification.md from what the models print.

    ci/loom.sh | tee models.log; ci/model_table.py models.log

What a model shows is its test's documentation; what it went through is what it printed. The engine's models, which are
in a table by subject, are left as they are.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent
PRINTED = re.compile(
    r"^(?:test \S+ \.\.\. )?(?P<name>[^:\n]+(?:: [^:\n]+)?): (?:(?P<programs>\d+) programs, )?(?P<executions>\d+) executions, "
    r"(?:(?P<complete>complete)|all with (?P<bound>\d+) preemptions), (?P<reclaimed>\d+) reclaimed"
)
TEST = re.compile(r"((?:^ *///.*\n)*)(?:^ *#\[.*\n)*^ *#\[test\]\n(?:^ *#\[.*\n)*^ *fn \w+\(\) \{\n((?:.*\n)*?)^\}", re.M)
EXPLORED = re.compile(r'explore(?:_bounded|_all)?\(\s*"([^"]+)"')


def shown():
    """The documentation of each model's test, by the model's name."""
    table = {}
    files = [*ROOT.glob("loom-tests/**/*.rs"), *ROOT.glob("src/**/*.rs")]
    for file in files:
        for comment, body in TEST.findall(file.read_text()):
            text = " ".join(line.strip().removeprefix("///").strip() for line in comment.splitlines())
            for name in EXPLORED.findall(body):
                table[name] = text
    return table


def main():
    log = pathlib.Path(sys.argv[1]).read_text()
    texts, models, programs = shown(), [], []
    for match in {m["name"]: m for m in map(PRINTED.match, log.splitlines()) if m}.values():
        name, extent = match["name"], match["complete"] or f"{match['bound']} preemptions"
        counts = f"{int(match['executions']):,} | {extent}"
        if match["programs"]:
            programs.append(f"| {name} | {match['programs']} | {counts} | {int(match['reclaimed']):,} |")
        elif not is_engines(name):
            text = texts.get(name, "")
            name = name.removesuffix(f" with {extent}")
            models.append(f"| {name} | {text} | {counts} | {int(match['reclaimed']):,} |")
    page = ROOT / "src/docs/verification.md"
    text = page.read_text()
    for head, rows in (
        ("| model | shows | executions | extent | reclaimed in |\n| --- | --- | --- | --- | --- |\n", models),
        ("| group | programs | executions | extent | reclaimed in |\n| --- | --- | --- | --- | --- |\n", programs),
    ):
        before, after = text.split(head, 1)
        after = re.sub(r"\A(?:\|.*\n)*", "", after)
        text = before + head + "".join(f"{row}\n" for row in sorted(rows)) + after
    page.write_text(text)
    print(f"{len(models)} models, {len(programs)} groups of programs")


def is_engines(name):
    """Whether the model is in src/nn."""
    return any(f'"{name}"' in file.read_text() for file in ROOT.glob("src/nn/**/*.rs"))


if __name__ == "__main__":
    main()
