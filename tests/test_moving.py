"""A log that moves to PostgreSQL and back: whole, sealed where it was, cut off at every step, and never in two places."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from allocator import keys, moving, stores
from allocator.errors import AllocatorError, CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.log_end import DatabaseEnd, FileEnd, LogEnd
from allocator.moving import Move, Moved
from allocator.relocation import FILE, POSTGRESQL
from attacks import as_owner, judged
from postgres_server import Server
from support import PASSPHRASE, STUDY_ID, Trial, TrialFactory, eligible_form, open_home, open_service


class Cut(BaseException):
    """The process was killed."""


class House:
    """A trial and a database, and where its log is."""

    def __init__(self, trial: Trial, database: Server, patch: pytest.MonkeyPatch) -> None:
        self.trial, self.database, self.patch = trial, database, patch
        self.place = trial.place

    def ends(self, address: str | None = None) -> tuple[LogEnd, LogEnd]:
        """The file and the database."""
        return FileEnd(place=self.place), DatabaseEnd(place=self.place, address=address or self.database.writer)

    def move(self, to: str, person: str = "SP", *, reason: str = "", address: str | None = None) -> Moved:
        """Move the log, and open it where it is then."""
        self.trial.close()
        file, database = self.ends(address)
        source, target = (file, database) if to == POSTGRESQL else (database, file)
        move = Move(
            place=self.place,
            source=source,
            target=target,
            reason=reason,
            clock=self.trial.clock,
            notify=self.trial.notices.append,
        )
        done = move.run(lambda service, action: service.authenticate(person, lambda: PASSPHRASE, action))
        self.settle(to)
        return done

    def settle(self, to: str) -> None:
        """Set the variable as it must be there, and open the log again."""
        if to == POSTGRESQL:
            self.patch.setenv(stores.VARIABLE, self.database.writer)
        else:
            self.patch.delenv(stores.VARIABLE, raising=False)
        self.trial.again()

    def rows(self) -> list[Any]:
        """The study's records in the database."""
        with psycopg.connect(self.database.admin) as connection:
            sql = "SELECT seq, kind FROM allocator.record WHERE study = %s ORDER BY seq"
            return connection.execute(sql, (STUDY_ID,)).fetchall()


@pytest.fixture(scope="module")
def empty(postgres: Server) -> Iterator[Server]:
    """A database with the schema, for others to be copied from."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def database(empty: Server) -> Iterator[Server]:
    """A database with the schema, of this test alone."""
    with empty.copy() as copy:
        yield copy


@pytest.fixture
def house(trials: TrialFactory, database: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An active trial in a file, with one allocation, and a database."""
    trial = trials("active")
    trial.allocate("P-001")
    yield House(trial, database, monkeypatch)
    trial.close()


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stores.VARIABLE, raising=False)


def chain(trial: Trial) -> list[bytes]:
    """The hashes of all records."""
    return [record.hash for record in trial.records]


def details(trial: Trial) -> dict[int, Any]:
    """All private details, with their salts."""
    return {record.seq: trial.store.details(record.seq) for record in trial.records}


# ---- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L01", "L02")
def test_a_log_goes_there_and_back_and_there_again(house: House) -> None:
    trial = house.trial
    before, private = chain(trial), details(trial)
    for number, to in enumerate((POSTGRESQL, FILE, POSTGRESQL), 2):
        done = house.move(to, reason="a larger machine")
        assert done.verdict.verdict == "intact-local" and done.verdict.records == len(before) + 2
        assert [record.kind for record in trial.records[-2:]] == ["moved", "arrived"]
        assert (done.moved.fields["to"], done.arrived.fields["state"]) == (to, "active")
        assert trial.service.private_details(done.moved.seq) == {"reason": "a larger machine"}
        assert chain(trial)[:-2] == before
        assert {seq: own for seq, own in details(trial).items() if seq < len(before)} == private
        assert trial.allocate(f"P-{number:03d}")[0].number == number
        assert trial.reveal("P-001").repeated
        assert judged(trial.home).verdict == "intact-local"
        before, private = chain(trial), details(trial)
    assert house.place.postgres_file.is_file() and not house.place.log_file.exists()
    asides = sorted(path.name for path in house.place.schedules.glob("*.moved-*"))
    assert len(asides) == 3 and {name.rpartition("-")[0] for name in asides} == {
        "log.sqlite3.moved",
        "log.postgresql.moved",
    }
    assert not list(house.place.schedules.glob("*arriving*"))
