"""The requirements matrix: every row this version answers for has a test, and no test names a row that is not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import matrix
from matrix import Run, requirements

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The marks of the whole suite, collected in a process of its own and not run."""
    file = tmp_path_factory.mktemp("matrix") / "marks.json"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", f"--matrix={file}", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    marks: Run = json.loads(file.read_text())
    return marks


@pytest.mark.requirement("V01")
def test_every_row_in_state_core_or_part_has_a_test(collected: Run) -> None:
    owed, _ = matrix.missing(collected)
    assert [f"{row.id} {row.text}" for row in owed] == []


@pytest.mark.requirement("V01")
def test_the_page_names_every_row_and_only_tests_that_are_there(collected: Run) -> None:
    """Not that it is complete: a further test may be marked without making the page again."""
    tests = matrix.by_requirement(collected)
    rows = re.findall(r"^\| (\w\d\d) \| .* \| (.*) \|$", matrix.PAGE.read_text(encoding="utf-8"), re.M)
    assert [id_ for id_, _ in rows] == list(requirements())
    named = {(id_, file) for id_, files in rows for file in re.findall("`(.*?)`", files)}
    assert named - {(id_, test.partition("::")[0]) for id_, found in tests.items() for test in found} == set()


@pytest.mark.requirement("V01")
def test_the_report_shows_requirement_test_and_result_side_by_side() -> None:
    run = {"tests/test_a.py::test_one": {"ids": ["E01"], "outcome": "failed"}}
    lines = matrix.report(run)
    place = next(i for i, line in enumerate(lines) if line.startswith("E01  [core]  allocate only when"))
    assert lines[place + 1].split() == ["failed", "tests/test_a.py::test_one"]
    assert all(any(line.startswith(f"{id_}  [") for line in lines) for id_ in requirements())
    assert any(line.startswith("NO TEST, state core: E02") for line in lines)
    to_come = next(row for row in requirements().values() if row.state == "later")
    assert any(line.startswith(f"no test, state later: {to_come.id}") for line in lines)


@pytest.mark.parametrize(("outcome", "code"), [("passed", 0), ("failed", 1), ("skipped", 0)])
def test_a_failed_test_ends_with_1(outcome: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "matrix.md")
    run = {"tests/test_a.py::test_one": {"ids": list(requirements()), "outcome": outcome}}
    tmp_path.joinpath("run.json").write_text(json.dumps(run))
    assert matrix.main(str(tmp_path / "run.json")) == code


def test_a_row_without_a_test_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "matrix.md")
    tmp_path.joinpath("run.json").write_text("{}")
    assert matrix.main(str(tmp_path / "run.json")) == 1


TRY = """
import pytest

@pytest.mark.requirement("{id}")
@pytest.mark.parametrize("case", [1, 2])
def test_it(case):
    assert case != {wrong}
"""


def _try(tmp_path: Path, *options: str, **words: object) -> tuple[int, str, Path]:
    """Run a suite of one test with this suite's conftest."""
    file = tmp_path / "run.json"
    tmp_path.joinpath("test_try.py").write_text(TRY.format(**{"id": "E01", "wrong": 0, **words}))
    own = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *own, f"--matrix={file}", *options, str(tmp_path)],
        cwd=ROOT / "tests", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, file


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two processes"])
@pytest.mark.parametrize(("wrong", "outcome"), [(0, "passed"), (2, "failed")])
def test_one_failed_case_fails_its_test(tmp_path: Path, options: tuple[str, ...], wrong: int, outcome: str) -> None:
    code, said, file = _try(tmp_path, *options, wrong=wrong)
    assert (code == 0) == (outcome == "passed"), said
    assert json.loads(file.read_text()) == {"test_try.py::test_it": {"ids": ["E01"], "outcome": outcome}}


def test_an_unknown_id_ends_the_run(tmp_path: Path) -> None:
    code, said, _ = _try(tmp_path, id="E77")
    assert code != 0
    assert "test_try.py::test_it: E77" in said


def test_rows_are_read_as_written() -> None:
    row = "| E01 | a | b | part: and more |\n"
    assert requirements(row)["E01"].state == "part"
    for wrong in (row + row, "| E01 | a | b | perhaps |\n"):
        with pytest.raises(ValueError, match="E01"):
            requirements(wrong)
