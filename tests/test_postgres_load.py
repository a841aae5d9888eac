"""Many at once on logs in PostgreSQL, in short: `python load/at_once.py --postgres` does it at length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import at_faults
import at_once
import pytest

from allocator import stores
from postgres_server import Server


@pytest.fixture
def database(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A database of its own, chosen by the environment."""
    with postgres.database() as database:
        monkeypatch.setenv(stores.VARIABLE, database.writer)
        yield database


@pytest.mark.requirement("A03")
@pytest.mark.parametrize(
    ("studies", "homes"), [(4, 1), (1, 2)], ids=["over four studies", "on one study from two hosts"]
)
@pytest.mark.usefixtures("database")
def test_eight_writers_at_once(tmp_path: Path, studies: int, homes: int) -> None:
    load = at_once.build(tmp_path, processes=8, each=3, pairs=4, studies=studies, homes=homes)
    told = at_once.run(load, beside=("verify", "log --follow"))
    assert at_faults.faults(load, told) == []
    assert told.turns["verify"] and told.turns["log followed"] == min(studies, at_once.FOLLOWED)
    together = [line for line in told.acts if line["act"] == "reveal" and line["by"] == "PH2"]
    assert len(together) == 4 and {line["tries"] for line in together} == {1}
