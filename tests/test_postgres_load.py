"""Many at once on logs in PostgreSQL, in short: `python load/at_once.py --postgres` does it at length."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import at_faults
import at_once
import pytest
import simulation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator import stores
from allocator.errors import StorageError
from allocator.log import Record
from allocator.postgres_store import PostgresStore, create_log
from postgres_server import Server
from test_stores import next_record


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
def test_eight_writers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, studies: int, homes: int) -> None:
    load = at_once.build(tmp_path, processes=8, each=3, pairs=4, studies=studies, homes=homes)
    monkeypatch.setattr(at_once, "FOLLOWED", 2)
    told = at_once.run(load, beside=("verify", "log --follow"))
    assert at_faults.faults(load, told) == []
    assert told.turns["verify"] and told.turns["log followed"] == min(studies, at_once.FOLLOWED)
    together = [line for line in told.acts if line["act"] == "reveal" and line["by"] == "PH2"]
    assert len(together) == 4 and {line["tries"] for line in together} == {1}


@pytest.mark.requirement("A01")
@pytest.mark.requirement("L03")
@pytest.mark.requirement("U04")
def test_a_simulated_study_ends_as_its_model_says(tmp_path: Path, database: Server) -> None:
    life = simulation.live(10, 40, tmp_path, database)
    assert len(life.given) > 30 and all(life.events[what] for what in ("disk lost", "home lost", "connections lost"))


@pytest.mark.requirement("A04")
@pytest.mark.usefixtures("database")
def test_commands_killed_at_any_moment_never_tell_two_arms(tmp_path: Path) -> None:
    assert simulation.live_by_commands(4, 3, tmp_path)["killed"] > 0


# ---- two stores on one study, in any order --------------------------------------------------------------------------


class Aborted(Exception):
    """Ends a transaction without a commit."""


class Writer:
    """A store whose transaction is begun, filled and ended in steps; a step that is not its turn does nothing."""

    def __init__(self, server: Server, study: str) -> None:
        self.store = PostgresStore(server.writer, study, busy_seconds=0.02)
        self.pending: list[Record] = []
        self._open: ExitStack | None = None

    def begin(self) -> str:
        """Take its turn; the code of the error, or ""."""
        if self._open is None:
            turn = ExitStack()
            try:
                turn.enter_context(self.store.transaction())
            except StorageError as error:
                return error.code
            self._open = turn
        return ""

    def append(self) -> None:
        """One more record."""
        if self._open is not None:
            self.pending.append(next_record(self.store))
            self.store.append(self.pending[-1], {})

    def end(self, *, commit: bool) -> list[Record]:
        """Commit or abort; what was committed."""
        turn, self._open = self._open, None
        written, self.pending = self.pending if commit else [], []
        if turn is not None and commit:
            turn.close()
        elif turn is not None:
            with pytest.raises(Aborted), turn:
                raise Aborted
        return written

    @property
    def has_turn(self) -> bool:
        """Whether it is inside a transaction."""
        return self._open is not None


STEPS = st.tuples(st.integers(0, 1), st.sampled_from(("begin", "append", "commit", "abort", "lost")))


@pytest.mark.requirement("A03")
@pytest.mark.requirement("L02")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=25))
def test_two_stores_in_any_order_of_steps_write_one_chain(postgres: Server, steps: list[tuple[int, str]]) -> None:
    study, chain = uuid.uuid4().hex, list[Record]()
    create_log(postgres.writer, study)
    writers = [Writer(postgres, study), Writer(postgres, study)]
    for number, step in steps:
        writer, other = writers[number], writers[1 - number]
        if step == "begin":
            assert writer.begin() == ("busy" if other.has_turn else "")
        elif step == "append":
            writer.append()
        elif step == "lost":  # its process ended: what it had not committed is gone, and its turn with it
            writer.store.close()
            writers[number] = Writer(postgres, study)
            if writer.has_turn:
                with PostgresStore(postgres.writer, study) as patient, patient.transaction():
                    pass  # the database notices in its own time
        else:
            chain += writer.end(commit=step == "commit")
        assert list(other.store.records())[: len(chain)] == chain
    for writer in writers:
        chain += writer.end(commit=True)
    with PostgresStore(postgres.writer, study) as store:
        assert list(store.records()) == chain
    assert all(after.prev == before.hash and after.seq == before.seq + 1 for before, after in pairwise(chain))
    for writer in writers:
        writer.store.close()
