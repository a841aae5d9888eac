"""The short form of `make matrix`: every requirement that is done has a test, and every mark names a requirement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import matrix

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def marks() -> matrix.Marks:
    """The marks as they stand in the files, without running or importing anything."""
    found = matrix.Marks()
    for path in TESTS.glob("test_*.py"):
        for name in re.findall(r'requirement\("([A-Z]\d\d)"\)', path.read_text(encoding="utf-8")):
            found.tests[name].add(path.name)
    return found


@pytest.mark.requirement("V01")
def test_every_requirement_that_is_done_has_a_test_and_every_mark_a_requirement(marks: matrix.Marks) -> None:
    rows = matrix.requirements()
    assert len(rows) > 70
    done, _, foreign = matrix.orphans(marks, rows)
    assert (done, foreign) == ([], [])


@pytest.mark.requirement("V01")
def test_a_requirement_without_a_test_and_a_mark_of_none_are_named(marks: matrix.Marks) -> None:
    rows = matrix.requirements() | {"Z01": ("invented", "core"), "Z02": ("invented", "later")}
    marks.tests["Q77"].add("test_nothing.py")
    done, coming, foreign = matrix.orphans(marks, rows)
    assert (done, foreign) == (["Z01"], ["Q77"]) and "Z02" in coming
    del marks.tests["Q77"]
    failed = matrix.Marks()
    failed.tests["A01"].add("x")
    failed.failed.add("A01")
    assert any("FAILED" in line for line in matrix.table(failed, rows, ran=True) if line.startswith("| A01 "))
