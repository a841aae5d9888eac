"""Requirement, tests, result: `python tests/matrix.py [--write docs/matrix.md]`.

Runs the tests, reads the marks they carry, and holds them to docs/requirements.md. Exits 1 when a test failed, when a
requirement that is done, or done in part, has no test, or when a test names a requirement that is none.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
_ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.+?) \| (.+?) \| (core|part|later)([^|]*)\|$", re.MULTILINE)


def requirements() -> dict[str, tuple[str, str]]:
    """What docs/requirements.md asks: id -> (what the software must, its state)."""
    text = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
    return {match[1]: (match[2], match[4]) for match in _ROW.finditer(text)}


class Marks:
    """A pytest plugin that keeps the marks of every test, and how it ended."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = defaultdict(set)  # requirement -> test functions
        self.failed: set[str] = set()
        self.ended: dict[str, int] = defaultdict(int)
        self._of: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Read the marks."""
        for item in items:
            for mark in item.iter_markers("requirement"):
                self.tests[mark.args[0]].add(function_of(item.nodeid))
                self._of[item.nodeid].add(mark.args[0])

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count what ended, and keep what failed."""
        if report.failed:
            self.failed |= self._of[report.nodeid] or {"(no requirement)"}
        if report.when == "call":
            for name in self._of[report.nodeid]:
                self.ended[name] += 1


def function_of(nodeid: str) -> str:
    """`tests/test_x.py::test_y[1]` as `test_x.py::test_y`."""
    return re.sub(r"\[.*\]$", "", nodeid).removeprefix("tests/")


def orphans(marks: Marks, rows: dict[str, tuple[str, str]]) -> tuple[list[str], list[str], list[str]]:
    """Requirements done without a test; those of issues to come without one; ids that no requirement has."""
    untested = [name for name in rows if name not in marks.tests]
    done = [name for name in untested if rows[name][1] != "later"]
    return done, [name for name in untested if name not in done], sorted(set(marks.tests) - set(rows))


def table(marks: Marks, rows: dict[str, tuple[str, str]], *, ran: bool) -> list[str]:
    """One line a requirement."""
    lines = ["| id | the software must | state | tests | result |", "|---|---|---|---|---|"]
    for name, (text, state) in rows.items():
        tests = sorted(marks.tests.get(name, ()))
        shown = "<br>".join(f"`{test}`" for test in tests) or "–"
        result = "–" if not tests or not ran else "FAILED" if name in marks.failed else f"{marks.ended[name]} passed"
        lines.append(f"| {name} | {text} | {state} | {shown} | {result} |")
    return lines


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the table as Markdown")
    given = parser.parse_args()
    marks, rows = Marks(), requirements()
    code = pytest.main(["-q", "--no-header", str(ROOT / "tests")], plugins=[marks])
    done, coming, foreign = orphans(marks, rows)
    lines = [
        "# Requirements, tests, results",
        "",
        "Made by `make matrix` from the marks of the tests and one run of them. What each requirement asks, and where",
        "it comes from, stands in [requirements.md](requirements.md).",
        "",
        *table(marks, rows, ran=True),
        "",
        f"Done, wholly or in part, and without a test: {', '.join(done) or 'none'}.",
        f"Of issues to come, and without a test: {', '.join(coming) or 'none'}.",
    ]
    print("\n".join(lines))
    for name in foreign:
        print(f"UNKNOWN requirement {name}: {', '.join(sorted(marks.tests[name]))}")
    if given.write:
        given.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(1 if code or done or foreign else 0)


if __name__ == "__main__":
    main()
