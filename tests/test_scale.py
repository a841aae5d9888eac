"""The short form of `make scale`, and the page that it writes: no figure there but between its markers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from allocator import stores
from allocator.cli import run
from postgres_server import Server
from support import ROOT, open_home

sys.path.append(str(ROOT / "benchmarks"))

from scale_clients import Crowd, body_with_places

BLOCK = re.compile(r"(<!-- (?:measured|calculated): ([\w-]+) -->\n).*?(<!-- end -->)", re.S)  # as in scale.py
PAGE = ROOT / "docs" / "scale.md"
SMALL = "--quick --sizes 100 200 --studies 2 --clients 3 --repeats 5 --seconds 0.5"
FIGURE = re.compile(r"\d[\d.,]*\s?(?:ms|s|min|h|[kMGT]?i?B|%|/s)(?![\w-])")


def tables(page: Path) -> dict[str, list[str]]:
    """The rows of each table between the markers, without its head."""
    found = {match[2]: match[0].splitlines()[2:] for match in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    return {name: [line for line in lines[2:] if line.startswith("|")] for name, lines in found.items()}


def test_the_command_measures_everything_and_writes_the_page(tmp_path: Path) -> None:
    page = Path(shutil.copy(PAGE, tmp_path / "scale.md"))
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *SMALL.split(), "--write", str(page)]
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    if done.returncode and "no PostgreSQL" in done.stderr:
        pytest.skip("no PostgreSQL: install the extra `dev`, or set ALLOCATOR_TEST_POSTGRES")
    assert done.returncode == 0, done.stderr[-3000:]
    found = tables(page)
    assert set(found) == set(tables(PAGE)) and all(found.values())
    assert [row.split("|")[1].strip() for row in found["growth"]] == ["100", "200"]
    assert [row.split("|")[1].strip() for row in found["clients"]] == ["3", "3"]
    assert not any(re.search(r"\b(nan|inf)\b", row) for rows in found.values() for row in rows)
    plain = [BLOCK.sub(r"\1\3", path.read_text(encoding="utf-8")) for path in (PAGE, page)]
    assert plain[0] == plain[1]
    picture = (tmp_path / "scale-curves.svg").read_bytes()
    assert picture.startswith(b"<?xml") and len(picture) < 100_000


def test_every_figure_of_the_page_came_from_the_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(tables(PAGE).values())
    assert FIGURE.findall(BLOCK.sub("", text)) == []
    assert (PAGE.parent / "scale-curves.svg").stat().st_size < 100_000


def test_a_study_taken_out_of_the_database_is_missed(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page says of closed studies: triggers refuse, replica mode passes them by, the head notices."""
    with postgres.database() as database:
        monkeypatch.setenv(stores.VARIABLE, database.writer)
        open_home(tmp_path)
        take_out = [f"DELETE FROM allocator.{name}".encode() for name in ("detail", "record", "study")]
        with psycopg.connect(database.admin) as connection, pytest.raises(psycopg.IntegrityError, match="append-only"):
            connection.execute(take_out[0])
        assert run(["--home", str(tmp_path), "verify"]) == 0
        with psycopg.connect(database.admin) as connection:
            connection.execute(b"SET LOCAL session_replication_role = replica")
            assert [connection.execute(sql).rowcount for sql in take_out] == [1, 1, 1]
        assert [run(["--home", str(tmp_path), command]) for command in ("verify", "status")] == [3, 5]
        assert "records were lost" in capsys.readouterr().out


def test_waits_are_told_by_their_half_and_their_worst_hundredth() -> None:
    crowd = Crowd.of([n / 1000 for n in range(200, 0, -1)], 2.0)
    assert (crowd.rate, crowd.p50, crowd.p99) == (100.0, 0.1, 0.198)


def test_a_body_has_places_for_what_differs() -> None:
    body = b'{"kind":"allocated","participant":"P-1","position":1,"salt":"a1","seq":11}'
    expected = b'{"kind":"allocated","participant":"@participant","position":@position,"salt":"a1","seq":@seq}'
    assert body_with_places(body) == expected
