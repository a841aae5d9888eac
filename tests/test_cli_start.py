"""What the commands used at night leave unloaded: who waits too long for a reveal works around it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli_contract import SECONDS, site_at

HEAVY = ("numpy", "pydantic", "sqlite_utils", "parse_errors", "multiprocessing", "concurrent.futures")
WATCHED = """
import atexit, os, sys
from pathlib import Path
atexit.register(lambda: Path(os.environ["SEEN"]).write_text("\\n".join(sys.modules)))
from allocator.cli import main
main()
"""


@pytest.mark.parametrize(
    "line",
    [
        "--version",
        "--help",
        "status",
        "show P-001",
        "log",
        "--as PH show P-001",
        "--as PH reveal P-002 --retype P-002",
        "--as IN confirm P-003 --answers answers/P-003.json",
    ],
)
def test_nothing_heavy_is_loaded(line: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "used")
    site.form("P-003")
    seen = tmp_path / "seen"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *line.split()], cwd=site.desk, stdin=subprocess.DEVNULL, capture_output=True,
        env={**os.environ, **site._variables(), "SEEN": str(seen)}, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = seen.read_text().split()
    assert "allocator.cli" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_watch_sees_what_is_loaded(tmp_path: Path) -> None:
    site = site_at(tmp_path, "none")
    seen = tmp_path / "seen"
    subprocess.run(
        [sys.executable, "-c", WATCHED, "check", "study.toml"], cwd=site.desk, capture_output=True,
        env={**os.environ, "SEEN": str(seen)}, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert {"pydantic", "parse_errors"} <= set(seen.read_text().split())


def test_help_and_version_load_no_command_and_no_cryptography(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    for option in ("--help", "--version"):
        subprocess.run(
            [sys.executable, "-c", WATCHED, option], env={**os.environ, "SEEN": str(seen)}, capture_output=True,
            timeout=SECONDS, check=True,
        )  # fmt: skip
        loaded = seen.read_text().split()
        assert [n for n in loaded if n.startswith(("allocator.cli.ph", "allocator.service", "cryptography"))] == []
