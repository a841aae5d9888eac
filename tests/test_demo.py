"""`allocator demo`: the whole story of one study in a fresh home, told to somebody who meets it for the first time."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from test_cli_contract import PROGRAM, Ran, Site, _bare_environment

TIME_LIMIT = 60  # seconds, on a slow machine; some seven on a common one


def told(folder: Path, *arguments: str) -> Ran:
    """The demo run in `folder`, its temporary files in folder/tmp."""
    folder.joinpath("tmp").mkdir()
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**_bare_environment(), "TMPDIR": str(folder / "tmp"), "ALLOCATOR_PERSON": "PH", "ALLOCATOR_STUDY": "X"},
        timeout=TIME_LIMIT, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def story(folder: Path) -> Ran:
    return told(folder, "demo", "--home", "kept")


def test_it_ends_well(story: Ran) -> None:
    assert (story.code, story.err) == (0, "")
    assert "Traceback" not in story.out


def test_it_has_numbered_headings(story: Ran) -> None:
    headings = re.findall(r"^(\d+)\. .+\n-+$", story.out, re.MULTILINE)
    assert headings == [str(number) for number in range(1, len(headings) + 1)]
    assert len(headings) >= 9


def test_it_tells_of_every_person(story: Ran) -> None:
    for role in ("sponsor", "statistician", "custodian", "investigator", "pharmacist", "auditor"):
        assert role in story.out.lower()


def test_it_tells_of_the_findings_and_the_decisions(story: Ran) -> None:
    assert "16 findings, 6 of them block activation" in story.out
    assert all(f"K0{number} is decided by" in story.out for number in range(1, 7))


@pytest.mark.requirement("A02")
def test_ten_are_allocated_in_order(story: Ran) -> None:
    logged = re.findall(r"allocated +(P-\d+)  number (\d+)", story.out)
    assert logged == [(f"P-{number:03d}", str(number)) for number in range(1, 11)]
    assert "Enrolment complete: 10 of 10" in story.out


@pytest.mark.requirement("E08")
def test_refusals_are_told_with_their_reasons(story: Ran) -> None:
    for reason in ("P-101 is NOT eligible", "E4.1", "nothing is converted", "may not do this"):
        assert reason in story.out


@pytest.mark.requirement("V03")
def test_every_arm_shown_is_marked(story: Ran) -> None:
    screens = re.findall(r"={72}\n(.*?)={72}\n", story.out, re.DOTALL)
    assert len(screens) == 2
    assert all(screen.count("TEST: NOT FOR A PATIENT") == 2 for screen in screens)
    for line in story.out.splitlines():
        if "randomization no." in line:
            assert "TEST: NOT FOR A PATIENT" in line


@pytest.mark.requirement("L02")
def test_the_auditor_finds_the_log_intact_and_then_one_byte_changed(story: Ran) -> None:
    assert "INTACT: every check holds" in story.out
    broken = story.out.index("BROKEN: what is stored does not hold together")
    assert story.out.index("INTACT: every check holds") < broken
    assert "[16 signature] record " in story.out[broken:]
    assert "10 allocated" in story.out[broken:]


@pytest.mark.requirement("A09", "U05", "R01")
def test_a_receipt_is_checked_the_list_opened_and_an_export_judged_by_the_second_program(story: Ran) -> None:
    assert "OF ONE PIECE, and the one whose hash you gave" in story.out
    assert re.search(r"^\$ allocator verify --receipt \S+/000004-P-004\.tlog-proof$", story.out, re.MULTILINE)
    assert "OPENED: the list drawn again from the seed is the sealed one, in every entry" in story.out
    second = story.out.index("export/verify.py kept/export")
    assert "INTACT" in story.out[second:] and "the whole list was drawn again" in story.out[second:]


def test_no_line_runs_over_the_edge(story: Ran) -> None:
    free = re.compile(r"\s*\$ |\s+(\d+  )?\d{4}-")  # what is typed, and the records of the log
    assert [line for line in story.out.splitlines() if len(line) > 120 and not free.match(line)] == []


def test_a_home_that_is_kept_holds_and_can_be_looked_at(story: Ran, folder: Path) -> None:
    site = Site(home=folder / "kept", desk=folder, codes={})
    assert story.code == 0
    assert site.verdict() == "intact-local"
    status = site.typed("--json status").result
    assert (status["allocated"], status["state"]) == (10, "opened")
    shown = site.typed("--json --as PHAR-1 show P-004", ALLOCATOR_PASSPHRASE="demonstration PHAR-1").result
    assert shown["number"] == 4
    assert folder.joinpath("tmp").is_dir()
    assert list(folder.joinpath("tmp").iterdir()) == []


def test_a_home_in_use_is_not_overwritten(story: Ran, folder: Path) -> None:
    before = sorted(path.name for path in folder.joinpath("kept").rglob("*"))
    site = Site(home=folder / "kept", desk=folder, codes={})
    assert story.code == 0
    assert site.typed("demo --home kept").code == 2
    assert sorted(path.name for path in folder.joinpath("kept").rglob("*")) == before


def test_json_gives_the_counts_and_leaves_no_file_behind(tmp_path: Path) -> None:
    ran = told(tmp_path, "--json", "demo")
    result = ran.result
    assert (ran.code, ran.err) == (0, "")
    assert (result["allocated"], result["verdict"]) == (10, "intact")
    assert result["refused"] >= 7
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert json.loads(ran.out) == {"allocated": 10, "refused": result["refused"], "verdict": "intact"}


def test_the_callers_environment_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.cli.demo.Story.tell", lambda _: os.environ.update(ALLOCATOR_PASSPHRASE="demo") or {})
    monkeypatch.setenv("ALLOCATOR_PASSPHRASE", "mine")
    from allocator.cli import run

    assert run(["--json", "demo", "--home", str(tmp_path / "home")]) == 0
    assert os.environ["ALLOCATOR_PASSPHRASE"] == "mine"
