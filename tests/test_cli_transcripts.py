"""Transcripts: what each of the trial's people types and reads, word by word, in tests/transcripts/.

A transcript is its own script: its lines ``$ allocator …`` are typed, and what follows must be what the program says.
``# home: STAGE`` in its first line says in which home. What differs between runs is written as <hash>, <time>, <code>
and the like; <code> and <head> may also be typed, and stand for what was printed last.

    ALLOCATOR_UPDATE=1 pytest tests/test_cli_transcripts.py      writes the outputs anew; then read them, and the diff
"""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from allocator.cli import run
from support import STUDY_ID
from test_cli_contract import Site, site_at

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
COMMAND = re.compile(r"^\$ (?P<environment>(?:[A-Z_]+=\S+ )*)allocator (?P<line>.*)$")
CODE = re.compile(r"\b[A-Z2-9]{4}(?:-[A-Z2-9]{4}){4}\b")
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d Asia/Shanghai \((?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC\)"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+08:00)"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{16}…"), "<hash>…"),
    (re.compile(r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}(?![\w+/=])"), "+<key>"),
    (re.compile(rf"(?<=\b{STUDY_ID}/)[0-9a-f]{{16}}\b"), "<log>"),
    (re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{43}=(?![\w+/=])"), "<base64>"),
    (re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{60,}={0,2}(?![\w+/=])"), "<base64>"),
    (CODE, "<code>"),
)


def played(script: str, folder: Path) -> str:
    """The transcript of typing all commands of a script in a fresh home."""
    stage = re.match(r"# home: (\w+)", script)
    assert stage, "the first line names the home"
    site = site_at(folder, "used" if stage[1] == "tampered" else stage[1])
    for name in ("P-001", "P-002", "P-003", "P-004", "P-101", "P-102", "P-103"):
        site.form(name)
    if stage[1] == "tampered":
        _change_one_byte(site)
    lines, codes = [], [""]
    for line in script.splitlines():
        command = COMMAND.match(line)
        if line.startswith("#") or (not line and lines and lines[-1].startswith("#")):
            lines.append(line)
        elif command:
            typed = command["line"].replace("<code>", codes[-1])
            if "<head>" in typed:
                typed = typed.replace("<head>", site.typed("--json status").result["head"])
            said = _said(site, typed, dict(pair.split("=") for pair in command["environment"].split()))
            codes += CODE.findall(said)
            lines += [line, *_steady(said, site).splitlines(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _said(site: Site, line: str, environment: dict[str, str]) -> str:
    """All that a command prints, in the order in which a terminal shows it, and its exit code."""
    screen = io.StringIO()
    with site._seat(environment), redirect_stdout(screen), redirect_stderr(screen):
        code = run(shlex.split(line))
    return f"{screen.getvalue().rstrip()}\nexit {code}"


def _steady(said: str, site: Site) -> str:
    for pattern, word in VOLATILE:
        said = pattern.sub(word, said)
    return said.replace(str(site.home), "<home>").replace(str(site.desk), "<desk>")


def _change_one_byte(site: Site) -> None:
    log = site.home / "schedules" / STUDY_ID / "log.sqlite3"
    data = log.read_bytes()
    assert data.count(b'"number":1') == 1
    log.write_bytes(data.replace(b'"number":1', b'"number":7'))


@pytest.mark.requirement("V05")
@pytest.mark.parametrize("file", TRANSCRIPTS, ids=[file.stem for file in TRANSCRIPTS])
def test_a_transcript_is_what_the_program_says(file: Path, tmp_path: Path) -> None:
    expected = file.read_text(encoding="utf-8")
    found = played(expected, tmp_path)
    if os.environ.get("ALLOCATOR_UPDATE") == "1":
        file.write_text(found, encoding="utf-8")
        return
    difference = difflib.unified_diff(expected.splitlines(), found.splitlines(), file.name, "the program", lineterm="")
    assert found == expected, "\n" + "\n".join(difference)


@pytest.mark.requirement("V05")
def test_every_user_has_a_transcript() -> None:
    names = {file.stem for file in TRANSCRIPTS}
    assert names >= {"pharmacist", "investigator", "statistician", "sponsor", "auditor"}


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=[file.stem for file in TRANSCRIPTS])
def test_no_line_of_a_transcript_is_wider_than_a_terminal(file: Path) -> None:
    free = ("$", "{", "What next: ")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(free)] == []


def test_a_mismatch_shows_the_lines(tmp_path: Path) -> None:
    script = "# home: active\n$ allocator --as PH reveal P-001\nexit 0\n"
    assert "exit 2" in played(script, tmp_path)
