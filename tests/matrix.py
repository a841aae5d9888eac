"""The requirements matrix: docs/requirements.md, the tests that carry each id, and what a run of them gave.

    pytest --matrix=FILE        writes, for each test function, the ids it carries and its outcome
    python tests/matrix.py FILE prints the matrix, and rewrites docs/matrix.md with the files that hold the tests

`make matrix` does both. A row in state core or part without a test, and a test that failed, make it end with 1.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "docs" / "requirements.md"
PAGE = ROOT / "docs" / "matrix.md"
STATES = ("core", "part", "later")
_ROW = re.compile(r"^\| ([A-Z][0-9]{2}) \| (.+?) \| (.+?) \| (.+?) \|$", re.M)
_WORST_FIRST = ("failed", "skipped", "passed", "collected")  # of all cases of one test function

# A run's result: test function by node id -> {"ids": [...], "outcome": ...}
Run = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One row of docs/requirements.md; `state` is its note's first word."""

    id: str
    text: str
    source: str
    note: str

    @property
    def state(self) -> str:
        """core, part or later."""
        return re.split("[:;]", self.note)[0]


def requirements(text: str | None = None) -> dict[str, Requirement]:
    """All rows, by id, in their order. ValueError for an id that stands twice, or a state that is none."""
    found: dict[str, Requirement] = {}
    for row in _ROW.findall(REQUIREMENTS.read_text(encoding="utf-8") if text is None else text):
        requirement = Requirement(**dict(zip(("id", "text", "source", "note"), row, strict=True)))
        if requirement.id in found or requirement.state not in STATES:
            raise ValueError(f"docs/requirements.md: {requirement.id} twice, or in state {requirement.state!r}")
        found[requirement.id] = requirement
    return found


def unknown_ids(marks: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """``test: id`` for each id that no row has, from pairs of a test and its ids."""
    known = requirements()
    return sorted({f"{test}: {id_}" for test, ids in marks for id_ in ids if id_ not in known})


def by_requirement(run: Run) -> dict[str, dict[str, str]]:
    """For each row, its tests with their outcomes."""
    found: dict[str, dict[str, str]] = {id_: {} for id_ in requirements()}
    for test, entry in run.items():
        for id_ in entry["ids"]:
            found[id_][test] = entry["outcome"]
    return found


def worse(one: str, other: str) -> str:
    """The worse of two outcomes."""
    return min(one, other, key=_WORST_FIRST.index)


def missing(run: Run) -> tuple[list[Requirement], list[Requirement]]:
    """Rows without a test: those in state core or part, and those to come."""
    tests = by_requirement(run)
    bare = [row for row in requirements().values() if not tests[row.id]]
    return [row for row in bare if row.state != "later"], [row for row in bare if row.state == "later"]


def report(run: Run) -> list[str]:
    """The matrix as lines of text: each requirement, its tests, and what became of each."""
    lines = []
    tests = by_requirement(run)
    for row in requirements().values():
        lines.append(f"{row.id}  [{row.state}]  {row.text}")
        lines += [f"       {outcome:<9}  {test}" for test, outcome in sorted(tests[row.id].items())]
        lines += [] if tests[row.id] else ["       no test"]
    owed, to_come = missing(run)
    outcomes = Counter(entry["outcome"] for entry in run.values())
    lines += [
        "",
        f"{len(tests)} requirements; {len(run)} test functions carry an id: "
        + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())),
        *(f"NO TEST, state {row.state}: {row.id}  {row.text}" for row in owed),
        *(f"no test, state later: {row.id}  {row.text}" for row in to_come),
    ]
    return lines


def page(run: Run) -> str:
    """docs/matrix.md: which files hold the tests of each requirement. No outcome and no time: those are a run's."""
    tests = by_requirement(run)
    rows = []
    for row in requirements().values():
        files = sorted({test.partition("::")[0] for test in tests[row.id]})
        rows.append(f"| {row.id} | {row.text} | {row.state} | {', '.join(f'`{file}`' for file in files) or 'none'} |")
    return "\n".join(
        [
            "# Requirements and their tests",
            "",
            "Made by `make matrix`, which runs the tests and prints requirement, tests and results side by side; do "
            "not edit. States and",
            "sources are those of [requirements.md](requirements.md).",
            "",
            "| id | the software must | state | tests in |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main(file: str) -> int:
    """Print the matrix of a run and rewrite docs/matrix.md; 1 when a test failed or a row lacks its test."""
    run = json.loads(Path(file).read_text(encoding="utf-8"))
    print("\n".join(report(run)))
    PAGE.write_text(page(run), encoding="utf-8")
    return 1 if missing(run)[0] or any(entry["outcome"] == "failed" for entry in run.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
