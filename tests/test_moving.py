"""A log that moves to PostgreSQL and back: whole, sealed where it was, cut off at every step, never in two places."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from allocator import database_copy, keys, stores, transit
from allocator.canonical import canonical_bytes
from allocator.departure import DepartureService
from allocator.errors import AllocatorError, CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.log_end import DatabaseEnd, DatabaseFilling, FileEnd, FileFilling, Filling, LogEnd
from allocator.moving import Move, Moved
from allocator.postgres_store import PostgresStore
from allocator.relocation import FILE, POSTGRESQL
from allocator.verdict import Row
from attacks import Forger, as_owner, judged
from postgres_server import Server
from support import PASSPHRASE, STUDY_ID, Trial, TrialFactory, design, open_home, open_service


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
def module_database(postgres: Server) -> Iterator[Server]:
    """A database with the schema, of these tests alone."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def database(module_database: Server) -> Iterator[Server]:
    """The same, without a log."""
    yield module_database
    with as_superuser(module_database) as owner:
        for table in ("detail", "record", "study"):
            owner.execute(f"DELETE FROM allocator.{table}".encode())


@contextmanager
def as_superuser(database: Server) -> Iterator[Any]:
    """A connection for which no trigger fires; who waits for a standby waits no more."""
    with psycopg.connect(database.admin, autocommit=True) as owner:
        owner.execute(b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        owner.execute(b"SET session_replication_role = replica")
        yield owner


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


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("to", [POSTGRESQL, FILE])
def test_the_state_before_the_move_is_the_one_after_it(house: House, to: str) -> None:
    trial = house.trial
    if to == FILE:
        house.move(POSTGRESQL)
    trial.service.change_state(trial.actor("PH"), "paused", "a question")
    assert house.move(to).arrived.fields["state"] == "paused"
    with pytest.raises(Refused) as refusal:
        trial.confirm("P-002")
    assert refusal.value.code == "paused"
    trial.service.change_state(trial.actor("SP"), "resumed", "answered")
    assert trial.allocate("P-002")[0].number == 2


@pytest.mark.requirement("L03")
def test_a_recovery_goes_on_after_a_move(house: House) -> None:
    trial = house.trial
    trial.service.recover(trial.actor("SP"), "the machine was put back")
    assert house.move(POSTGRESQL).arrived.fields["state"] == "recovering"
    trial.service.recover(trial.actor("ST"), "all sites were asked", none_used=True)
    assert trial.service.history.state == "active" and judged(trial.home).verdict == "intact-local"
    assert house.move(FILE).arrived.fields["state"] == "active"


def test_a_long_log_goes_in_batches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.database_copy.BATCH", 3)
    house.move(POSTGRESQL)
    house.trial.confirm("P-002")
    assert house.move(FILE).verdict.verdict == "intact-local"


# ---- cut off --------------------------------------------------------------------------------------------------------

STEPS = {  # before one is after the one before
    "fill before": ("end", "fill", "before"),
    "compare before": ("move", "_compared", "before"),
    "compare after": ("move", "_compared", "after"),
    "note after": ("note", "set_out", "after"),
    "seal after": ("service", "leave", "after"),
    "carry after": ("filling", "seal", "after"),
    "settle after": ("end", "settle", "after"),
    "leave after": ("end", "leave", "after"),
    "arrive after": ("service", "arrive", "after"),
}
SEALED_FROM = list(STEPS).index("seal after")


def cut(patch: pytest.MonkeyPatch, whose: type, name: str, when: str, error: BaseException) -> None:
    """Raise this error before, or after, a step is done."""
    step: Callable[..., Any] = getattr(whose, name)

    def cut_off(*given: Any, **named: Any) -> Any:
        if when == "after":
            step(*given, **named)
        raise error

    patch.setattr(whose, name, cut_off)


def owner_of(what: str, name: str, to: str) -> type:
    """The class that does a step of a move to this place."""
    if what == "filling":
        return DatabaseFilling if to == POSTGRESQL else FileFilling
    if what != "end":
        return {"move": Move, "service": DepartureService, "note": transit}[what]  # type: ignore[return-value]
    if name == "leave":
        return LogEnd
    return DatabaseEnd if to == POSTGRESQL else FileEnd


def every_act(trial: Trial) -> dict[str, Callable[[], object]]:
    """Acts of every role."""
    service, actor = trial.service, trial.actor
    return {
        "confirm": lambda: trial.confirm("P-003"),
        "withdraw": lambda: service.withdraw(actor("IN"), "P-002", "asked again"),
        "reveal": lambda: trial.reveal("P-002"),
        "repeat": lambda: trial.reveal("P-001"),
        "show": lambda: service.look_up(actor("PH"), "P-001"),
        "unblind": lambda: service.unblind(actor("PH"), "P-001", "an emergency"),
        "correct": lambda: service.correct(actor("PH"), "P-001", "treatment", "GCV", "given"),
        "pause": lambda: service.change_state(actor("PH"), "paused", "a question"),
        "close": lambda: service.change_state(actor("SP"), "closed", "the end"),
        "person": lambda: service.add_person(actor("SP"), "PH9", "Nine", ["pharmacist"]),
        "read": lambda: service.read_log_whole(actor("AU")),
        "grant": lambda: service.grant(actor("ST"), "PH"),
        "share": lambda: service.copy_share(actor("ST")),
        "clock": lambda: service.set_clock(actor("SP"), "right again"),
        "recover": lambda: service.recover(actor("SP"), "put back"),
        "backup": lambda: service.backup(actor("SP"), trial.home / "b.tar"),
        "generate": lambda: service.generate(actor("ST"), design()),
        "authenticate": lambda: service.authenticate("PH", lambda: PASSPHRASE, "allocated"),
        "wrong passphrase": lambda: service.authenticate("PH", lambda: "wrong", "allocated"),
        "nobody": lambda: service.authenticate("NOBODY", lambda: PASSPHRASE, "allocated"),
    }


@pytest.mark.requirement("L01", "L03")
@pytest.mark.parametrize("to", [POSTGRESQL, FILE])
@pytest.mark.parametrize("step", STEPS)
def test_a_move_cut_off_at_any_step_is_ended_by_the_same_command(
    house: House, to: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, (what, name, when) = house.trial, STEPS[step]
    if to == FILE:
        house.move(POSTGRESQL)
    before = chain(trial)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, owner_of(what, name, to), name, when, Cut())
        house.move(to)
    sealed, done = list(STEPS).index(step) >= SEALED_FROM, step == "arrive after"
    if not sealed:
        if to == POSTGRESQL:
            assert house.rows() == []  # not a name of it is there
        trial.again()
        trial.confirm("P-002")  # the log goes on where it was
        before = chain(trial)
    elif not done:
        refused_everywhere(house)
    if done:
        with pytest.raises(InputError) as refusal:
            house.move(to)
        assert refusal.value.code == "there-already"
        house.settle(to)
    else:
        assert house.move(to).verdict.verdict == "intact-local"
    assert chain(trial)[:-2] == before and trial.kinds[-2:] == ["moved", "arrived"]
    assert judged(trial.home).verdict == "intact-local"
    assert trial.allocate("P-003")[0].number == 2
    assert house.place.postgres_file.exists() != house.place.log_file.exists()
    assert done or not house.place.moving_file.exists()


def refused_everywhere(house: House) -> None:
    """Whatever the variable says, nobody writes."""
    for variable in (None, house.database.writer):
        if variable:
            house.patch.setenv(stores.VARIABLE, variable)
        else:
            house.patch.delenv(stores.VARIABLE, raising=False)
        try:
            house.trial.again()
        except InputError as error:
            assert error.code in ("two-logs", "no-store", "other-store")
            continue
        before = chain(house.trial)
        with pytest.raises(Refused) as refusal:
            house.trial.reveal("P-001")
        assert refusal.value.code == "moved" and "`allocator move` again" in refusal.value.hint
        assert chain(house.trial) == before
        house.trial.service.close_files()


@pytest.mark.requirement("L03")
def test_nothing_is_written_where_the_log_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = house.trial
    trial.confirm("P-002")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    trial.again()
    before = chain(trial)
    for name, act in every_act(trial).items():
        with pytest.raises(AllocatorError) as refusal:
            act()
        assert refusal.value.code == "moved", name
        assert f"record {len(before) - 1}" in refusal.value.message, name
    with pytest.raises(Refused):
        trial.service.enrol("PH", "code", lambda: PASSPHRASE)
    trial.clock.advance(hours=-1)
    with pytest.raises(Refused):
        trial.reveal("P-001")
    assert chain(trial) == before and not trial.notices and not (trial.home / "b.tar").exists()
    assert trial.service.status()["state"] == "moved" and trial.service.summary("P-001") is not None


@pytest.mark.requirement("L03")
def test_the_old_file_put_back_is_refused_and_its_home_knows_more(house: House) -> None:
    trial = house.trial
    aside = house.move(POSTGRESQL).aside
    trial.close()
    trial.place.postgres_file.unlink()
    shutil.copyfile(aside, trial.place.log_file)
    house.settle(FILE)
    with pytest.raises(Refused) as refusal:
        trial.reveal("P-001")
    assert refusal.value.code == "moved"
    verdict = judged(trial.home)
    assert (verdict.verdict, [f.check for f in verdict.findings]) == ("broken", ["21 local head"])
    assert verdict.moved == POSTGRESQL
    trial.clock.advance(minutes=1)
    with pytest.raises(Refused) as other:  # and it cannot be moved a second time, to here or to anywhere
        house.move(POSTGRESQL)
    assert other.value.code == "moved" and "it is a copy" in other.value.message


@pytest.mark.requirement("L03")
def test_an_old_copy_of_the_home_does_not_take_the_log_out_again(house: House, tmp_path: Path) -> None:
    trial = house.trial
    house.move(POSTGRESQL)
    old = Path(shutil.copytree(trial.home, tmp_path / "old"))
    house.move(FILE)
    house.patch.setenv(stores.VARIABLE, house.database.writer)
    left_behind = Trial(home=old, service=open_service(old), actors=trial.actors, clock=trial.clock)
    with pytest.raises(Refused) as refusal:
        left_behind.reveal("P-001")
    assert refusal.value.code == "moved"
    with pytest.raises(Refused) as again:
        House(left_behind, house.database, house.patch).move(FILE)
    assert again.value.code == "moved" and "it is a copy" in again.value.message
    left_behind.close()


def house_at(house: House, home: Path, database: Server) -> House:
    """Another home of the same people."""
    trial = Trial(home=home, service=open_service(home), actors=house.trial.actors, clock=house.trial.clock)
    trial._services.append(trial.service)
    return House(trial, database, house.patch)


def copy_of(house: House, folder: Path) -> House:
    """Another home with the same files, in the same place of the log."""
    return house_at(house, Path(shutil.copytree(house.trial.home, folder)), house.database)


@pytest.mark.requirement("L03")
def test_a_copy_of_the_home_that_looks_into_the_database_never_goes_on_beside_a_move_back_into_it(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.move(POSTGRESQL)
    copy = copy_of(house, tmp_path / "copy")
    house.move(FILE)
    for name in ("_compared", "leave"):  # what it brings there is not there until it is sealed
        with monkeypatch.context() as patch, pytest.raises(Cut):
            cut(patch, Move if name == "_compared" else DepartureService, name, "before", Cut())
            house.move(POSTGRESQL)
        copy.settle(POSTGRESQL)
        with pytest.raises(Refused) as refusal:
            copy.trial.reveal("P-001")
        assert refusal.value.code == "moved"
        copy.trial.close()
        house.patch.delenv(stores.VARIABLE)
    assert house.move(POSTGRESQL).verdict.verdict == "intact-local"


@pytest.mark.requirement("L03")
def test_a_sealed_log_is_ended_only_in_the_place_that_it_was_sealed_for(
    house: House, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    shutil.copytree(house.trial.home, before)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    with postgres.database() as elsewhere:
        with pytest.raises(Refused) as refusal:
            house.move(POSTGRESQL, address=elsewhere.writer)
        assert refusal.value.code == "moved" and "for another place" in refusal.value.message
        shutil.copyfile(house.place.log_file, before / "schedules" / STUDY_ID / "log.sqlite3")
        copied = house_at(house, before, elsewhere)
        with pytest.raises(Refused) as other:
            copied.move(POSTGRESQL)
        assert other.value.code == "moved" and "it is a copy" in other.value.message
        copied.trial.close()
    assert house.move(POSTGRESQL).verdict.verdict == "intact-local"


def test_the_note_of_a_move_is_as_specified(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    house.trial.again()
    with psycopg.connect(house.database.admin) as admin:
        (system,) = admin.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone() or ("",)
        noted = {"format": "allocator-moving/1", "moved": house.trial.last.hash.hex(), "to": POSTGRESQL,
                 "system": system, "database": admin.info.dbname}  # fmt: skip
    assert house.place.moving_file.read_bytes() == canonical_bytes(noted)
    house.place.moving_file.write_bytes(b"{")
    with pytest.raises(Refused) as refusal:
        house.move(POSTGRESQL)
    assert "it is a copy" in refusal.value.message
    house.place.moving_file.write_bytes(canonical_bytes(noted))
    assert house.move(POSTGRESQL).verdict.verdict == "intact-local" and not house.place.moving_file.exists()


@pytest.mark.requirement("L03")
def test_of_two_homes_that_take_a_log_out_only_the_one_that_sealed_it_does(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.move(POSTGRESQL)
    copy = copy_of(house, tmp_path / "copy")
    for name, when in (("fill", "before"), ("leave", "before")):
        with monkeypatch.context() as patch, pytest.raises(Cut):
            cut(patch, FileEnd if name == "fill" else DepartureService, name, when, Cut())
            house.move(FILE)
    copy.move(FILE)
    house.settle(POSTGRESQL)
    with pytest.raises(Refused) as refusal:
        house.move(FILE)
    assert refusal.value.code == "moved" and "it is a copy" in refusal.value.message
    copy.trial.close()


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_file_that_was_to_arrive_and_is_gone_is_made_again(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.move(POSTGRESQL)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(FILE)
    arriving = house.place.log_file.with_name("log.sqlite3.arriving")
    arriving.unlink() if how == "lost" else arriving.write_bytes(b"damaged")
    house.settle(POSTGRESQL)
    assert house.move(FILE).verdict.verdict == "intact-local"
    assert house.trial.allocate("P-002")[0].number == 2


@pytest.mark.requirement("L05")
def test_a_clock_that_was_ahead_at_the_sealing_does_not_stop_the_arrival(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.trial.clock.advance(days=3)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    house.trial.clock.advance(days=-3)
    done = house.move(POSTGRESQL)
    assert done.arrived.time == done.moved.time and done.verdict.verdict == "intact-local"


@pytest.mark.requirement("L03")
def test_a_move_that_failed_remembers_no_server(house: House, tmp_path: Path) -> None:
    house.patch.setenv(stores.VARIABLE, house.database.writer)
    open_home(tmp_path / "other")
    house.settle(FILE)
    with pytest.raises(EvidenceError):
        house.move(POSTGRESQL)
    assert not (house.place.keys / "servers").exists()


@pytest.mark.requirement("L02")
def test_what_is_forged_after_the_sealing_is_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    assert judged(house.trial.home).verdict == "intact-local"
    house.trial.again()
    forger = Forger(house.trial)
    seq = forger.write("paused", {}, {"reason": "on we go"}, by="PH")
    forger.close()
    assert [(f.check, f.seq) for f in judged(house.trial.home).findings] == [("18 state", seq)]


# ---- refused before anything is done --------------------------------------------------------------------------------


@pytest.mark.requirement("A06")
def test_only_a_sponsor_moves_a_log(house: House) -> None:
    for person in ("PH", "ST", "AU"):
        with pytest.raises(Refused) as refusal:
            house.move(POSTGRESQL, person)
        assert refusal.value.code == "not-permitted"
    with pytest.raises(CredentialError):
        house.move(POSTGRESQL, "NOBODY")
    house.trial.again()
    assert house.trial.kinds[-4:] == ["refused", "refused", "refused", "attempt-failed"] and house.rows() == []


def test_a_wrong_passphrase_in_a_sealed_log_is_said_and_not_recorded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, DepartureService, "leave", "after", Cut())
        house.move(POSTGRESQL)
    before = judged(house.trial.home).records
    monkeypatch.setattr("support.PASSPHRASE", "wrong")
    monkeypatch.setitem(globals(), "PASSPHRASE", "wrong")
    with pytest.raises(CredentialError) as failure:
        house.move(POSTGRESQL)
    assert failure.value.code == "wrong-passphrase" and judged(house.trial.home).records == before


@pytest.mark.requirement("L01")
def test_somebody_who_writes_is_waited_for_and_then_nothing_is_done(house: House) -> None:
    lock = keys.KeyFolder.lock
    with lock(keys.KeyFolder(house.place.keys)), house.patch.context() as patch:
        patch.setattr(keys.KeyFolder, "lock", lambda folder, _=0.0: lock(folder, 0.05))
        with pytest.raises(StorageError) as busy:
            house.move(POSTGRESQL)
    assert busy.value.code == "busy" and house.rows() == []
    house.trial.again()
    assert "moved" not in house.trial.kinds


def test_who_writes_into_the_database_while_it_is_copied_is_noticed(house: House) -> None:
    """A writer of another home, who does not know the lock of this one."""
    house.move(POSTGRESQL)
    fill = FileEnd.fill

    @contextmanager
    def and_then_somebody_writes(end: FileEnd, source: LogEnd, first: bytes) -> Iterator[Filling]:
        with fill(end, source, first) as copy:
            with as_superuser(house.database) as owner:
                owner.execute(
                    b"INSERT INTO allocator.record SELECT study, seq + 1, prev, body, kind FROM allocator.record"
                    b" ORDER BY seq DESC LIMIT 1"
                )
            yield copy

    with house.patch.context() as patch, pytest.raises(AllocatorError) as refusal:
        patch.setattr(FileEnd, "fill", and_then_somebody_writes)
        house.move(FILE)
    assert refusal.value.code == "copy-broken" and "moved" not in [kind for _, kind in house.rows()[-2:]]
    assert not house.place.log_file.exists()


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("to", [POSTGRESQL, FILE])
def test_a_broken_log_is_not_moved(house: House, to: str) -> None:
    trial = house.trial
    if to == FILE:
        house.move(POSTGRESQL)
        with as_superuser(house.database) as owner:
            owner.execute(b"UPDATE allocator.detail SET value = 'another' WHERE seq = 1")
    else:
        trial.close()
        with as_owner(trial.place.log_file) as connection:
            connection.execute("UPDATE detail SET value = 'another' WHERE seq = 1")
    kinds = [kind for _, kind in house.rows()]
    with pytest.raises(EvidenceError) as broken:
        house.move(to)
    assert broken.value.code == "source-broken" and broken.value.exit_code == 3
    assert [kind for _, kind in house.rows()] == kinds
    assert not list(house.place.schedules.glob("*.arriving")) and len(list(house.place.schedules.glob("log.*"))) < 3


@pytest.mark.requirement("L02")
def test_another_log_of_this_study_in_the_database_is_kept_and_refused(house: House, tmp_path: Path) -> None:
    house.patch.setenv(stores.VARIABLE, house.database.writer)
    open_home(tmp_path / "other")
    house.settle(FILE)
    before = house.rows()
    with pytest.raises(EvidenceError) as refusal:
        house.move(POSTGRESQL)
    assert refusal.value.code == "other-log" and house.rows() == before
    house.trial.again()
    house.trial.allocate("P-002")
    assert "moved" not in house.trial.kinds


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("what", ["column", "detail"])
def test_a_copy_that_is_not_the_log_is_found_before_anything_is_sealed(house: House, what: str) -> None:
    add = database_copy.Copy.add

    def changed(row: Row) -> Row:
        if row.rowid != 1:
            return row
        other = {name: detail._replace(value="another") for name, detail in row.details.items()}
        columns = ("person-added", "P-009", None, None)
        return row._replace(columns=columns) if what == "column" else row._replace(details=other)

    with house.patch.context() as patch, pytest.raises(EvidenceError) as refusal:
        patch.setattr(database_copy.Copy, "add", lambda copy, rows: add(copy, map(changed, rows)))
        house.move(POSTGRESQL)
    assert refusal.value.code == "copy-broken" and "record 1 " in refusal.value.message and house.rows() == []
    house.trial.again()
    assert "moved" not in house.trial.kinds and house.trial.allocate("P-002")


def test_a_database_whose_schema_was_changed_gets_no_log(house: House) -> None:
    with as_superuser(house.database) as owner:
        owner.execute(b"ALTER TABLE allocator.record DISABLE TRIGGER record_append_only")
        with pytest.raises(EvidenceError) as refusal:
            house.move(POSTGRESQL)
        owner.execute(b"ALTER TABLE allocator.record ENABLE TRIGGER record_append_only")
    assert refusal.value.code == "copy-broken"
    house.trial.again()
    assert house.trial.allocate("P-002")


# ---- the database is away -------------------------------------------------------------------------------------------

NOBODY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.requirement("L01")
def test_a_database_that_is_not_there_gets_nothing_and_nothing_is_sealed(house: House) -> None:
    with pytest.raises(StorageError) as away:
        house.move(POSTGRESQL, address=NOBODY)
    assert away.value.exit_code == 5
    house.trial.again()
    assert "moved" not in house.trial.kinds and house.trial.allocate("P-002")


@pytest.mark.requirement("L01")
def test_a_database_that_goes_away_after_the_sealing_is_waited_for(house: House) -> None:
    settle = DatabaseEnd.settle

    def and_then_it_is_gone(end: DatabaseEnd, first: bytes) -> None:
        settle(end, first)
        object.__setattr__(end, "address", NOBODY)

    with house.patch.context() as patch, pytest.raises(StorageError) as away:
        patch.setattr(DatabaseEnd, "settle", and_then_it_is_gone)
        house.move(POSTGRESQL)
    assert away.value.exit_code == 5 and "gives the same command again" in away.value.hint
    assert house.move(POSTGRESQL).verdict.verdict == "intact-local"
    assert house.trial.allocate("P-002")[0].number == 2


@pytest.mark.requirement("L01")
def test_an_unknown_commit_of_the_sealing_is_found_out_by_the_same_command(house: House) -> None:
    """Each commit waits for a standby that never comes; its wait is cancelled."""
    house.move(POSTGRESQL)
    house.patch.setattr("allocator.postgres_store.COMMIT_SECONDS", 0.3)
    house.patch.setitem(PostgresStore.__init__.__kwdefaults__, "busy_seconds", 0.5)  # type: ignore[arg-type]
    with pytest.raises(StorageError) as unknown:
        house.move(FILE, address=house.database.replicated)
    assert unknown.value.code == "unknown"
    house.patch.undo()
    with as_superuser(house.database):
        house.patch.setenv(stores.VARIABLE, house.database.writer)
    assert house.move(FILE).verdict.verdict == "intact-local"
    assert house.trial.kinds.count("moved") == 2 and house.trial.kinds[-1] == "arrived"


# ---- the two records ------------------------------------------------------------------------------------------------


def test_a_move_cannot_be_ended_in_the_other_direction(house: House) -> None:
    with house.patch.context() as patch, pytest.raises(Cut):
        cut(patch, DatabaseFilling, "seal", "after", Cut())
        house.move(POSTGRESQL)
    with pytest.raises(Refused) as refusal:
        house.move(FILE)
    assert refusal.value.code == "moved" and "to PostgreSQL, not to a file" in refusal.value.message
    house.move(POSTGRESQL)
    with pytest.raises(InputError) as there:
        house.move(POSTGRESQL)
    assert there.value.code == "there-already" and ", since record" in there.value.message


@pytest.mark.parametrize("where", [POSTGRESQL, FILE])
def test_two_logs_that_no_move_left_are_not_chosen_from(house: House, where: str) -> None:
    stores.state_place(house.place, house.trial.records[0].hash)
    with pytest.raises(AllocatorError) as refusal:
        house.move(where)
    assert refusal.value.code in ("two-logs", "no-log")
