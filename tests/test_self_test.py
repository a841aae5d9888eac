"""The self-test qualifies an installation, and fails where it must."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from allocator import self_test
from allocator.cli import run
from allocator.cli.demo import first_study_files
from allocator.self_test import CHECKS, GOLDEN, Drill
from independent import drawing

ROOT = Path(__file__).parent.parent


@pytest.mark.requirement("V01")
def test_every_check_passes_here_and_stands_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.md"
    assert run(["--json", "self-test", "--to", str(file)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["passed"], result["failed"], result["report"]) == (len(CHECKS), 0, str(file))
    text = file.read_text()
    known = set(re.findall(r"^\| ([A-Z]\d\d) \|", (ROOT / "docs" / "requirements.md").read_text(), re.MULTILINE))
    for check in result["checks"]:
        assert check["name"] in text and set(check["requirements"]) <= known
    assert "allocator 0." in text and "SQLite" in text
    assert run(["self-test", "--to", str(file)]) == 2 and file.read_text() == text


def test_a_check_that_fails_is_said_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(self_test, "verify", lambda _: type("V", (), {"findings": (), "verdict": "intact-local"})())
    assert run(["self-test", "--to", str(tmp_path / "report.md")]) == 3  # a verifier that finds nothing
    assert "FAILED  changed byte" in capsys.readouterr().out
    assert "**FAILED**: AssertionError: the verdict was intact-local" in (tmp_path / "report.md").read_text()


def test_after_a_disk_that_refuses_every_later_check_fails(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    checks = Drill(folder=tmp_path, files=first_study_files()).run()
    assert [check.passed for check in checks[:3]] == [True, True, False] and not any(c.passed for c in checks[3:])


@pytest.mark.requirement("G01")
def test_the_known_list_is_that_of_the_second_implementation() -> None:
    prk = drawing.prk_of(bytes(32), bytes(32), [bytes(32), bytes(range(32))])
    assert drawing.sequence(prk, "{}", (1, 1), (4, 6), 20) == GOLDEN
