"""Whole processes against `python -c "import click"`: what a person waits for."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from homes import active_trial, participant
from measure import Row, compare

from allocator.session import system_clock
from support import eligible_form


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """The shortest command, and a reveal with a key that costs nothing to stretch."""
    repeats = 7 if quick else 21
    environment = {**os.environ, "ALLOCATOR_PASSPHRASE": "pw"}
    environment.pop("ALLOCATOR_HOME", None)

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)

    peer = lambda: run("-c", "import click")  # noqa: E731
    yield compare(
        "process `allocator --version` / python -c 'import click'",
        lambda: run("-c", ENTRY, "--version"),
        peer,
        goal="<= 1.5",
        repeats=repeats,
    )
    trial = active_trial(folder / "home", length=1_000)
    trial.clock.now = system_clock()
    for number in range(1, repeats + 2):
        trial.confirm(participant(number), eligible_form("P-001", trial.clock.now))
    trial.close()
    waiting = itertools.count(1)

    def reveal() -> None:
        who = participant(next(waiting))
        run("-c", ENTRY, "--home", str(folder / "home"), "--as", "PH", "--json", "reveal", who, "--retype", who)

    yield compare(
        "process of a reveal, cheap key / python -c 'import click'", reveal, peer, goal="<= 4", repeats=repeats
    )


ENTRY = "import sys; from allocator.cli import main; sys.exit(main())"
