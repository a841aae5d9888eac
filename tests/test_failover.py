"""A primary that is killed, and comes back; a standby that lags, hangs, is promoted; records that PostgreSQL lost.

A real primary and a real standby on loopback (tests/postgres_cluster.py), a real study in a home. The same under load,
in full: `python load/failover.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import failover
import psycopg
import pytest

import support
from allocator import postgres_store, stores
from allocator.cli import run
from allocator.errors import EvidenceError, Refused, StorageError
from allocator.known_servers import MOST, KnownServers
from allocator.postgres_connection import Server, connect, parsed, said_by
from allocator.postgres_store import PostgresStore
from allocator.service import Allocation
from postgres_cluster import Cluster, Template, template, wait_until
from postgres_server import PASSWORD
from support import Clock, Trial, open_service

pytestmark = pytest.mark.requirement("A04")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Template, Trial]]:
    """A stopped server's data with an active trial in it, of which P-001 is allocated, and that trial's home."""
    with template() as found, pytest.MonkeyPatch.context() as patch:
        if found is None:
            pytest.skip("no binaries of PostgreSQL: install the extra `dev`")
        with found.running() as node:
            patch.setenv(stores.VARIABLE, node.writer)
            folder = tmp_path_factory.mktemp("failover")
            _, actors, _ = support._build(folder, support.study_bytes(), support.design(), ())
            home = folder / "home"
            trial = Trial(home=home, service=open_service(home), actors=actors, clock=Clock())
            trial.allocate("P-001")
            trial.close()
        (trial.place.keys / "servers").unlink()  # a home that has not met a promotion
        yield found, trial


@pytest.fixture
def servers(made: tuple[Template, Trial], request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A primary and a standby; each commit waits for the standby, or with the mark `asynchronous` for none."""
    with made[0].cluster(synchronous=getattr(request, "param", "synchronous") == "synchronous") as cluster:
        yield cluster


asynchronous = pytest.mark.parametrize("servers", ["asynchronous"], indirect=True)


class Homes:
    """Copies of the template's home."""

    def __init__(self, trial: Trial, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._trial, self._folder, self._patch = trial, folder, patch
        self._made: list[Trial] = []

    def __call__(self, address: str, of: Path | None = None) -> Trial:
        """A home of its own, whose log is at this address from now on."""
        self.at(address)
        home = Path(shutil.copytree(of or self._trial.home, self._folder / f"home-{len(self._made)}"))
        trial = Trial(home=home, service=open_service(home), actors=self._trial.actors, clock=Clock())
        trial._services.append(trial.service)  # closed as well, when there is a further one
        self._made.append(trial)
        return trial

    def at(self, address: str) -> None:
        """The address in ALLOCATOR_STORE."""
        self._patch.setenv(stores.VARIABLE, address)

    def close(self) -> None:
        """Close them all."""
        for trial in self._made:
            trial.close()


@pytest.fixture
def homes(made: tuple[Template, Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Homes]:
    """See `Homes`."""
    homes = Homes(made[1], tmp_path, monkeypatch)
    yield homes
    homes.close()


def told(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result of a command with --json."""
    capsys.readouterr()
    code = run(["--json", "--home", str(home), *arguments])
    out = capsys.readouterr().out
    assert PASSWORD not in out and "Traceback" not in out
    return code, json.loads(out.splitlines()[-1])


def verdict(capsys: pytest.CaptureFixture[str], home: Path) -> tuple[str, set[str]]:
    """What `verify` says, and the checks of its findings."""
    _, said = told(capsys, home, "verify")
    return said["verdict"], {finding["check"] for finding in said["findings"]}


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon what is waited for."""
    monkeypatch.setattr(postgres_store, "COMMIT_SECONDS", 0.5)
    monkeypatch.setitem(PostgresStore.__init__.__kwdefaults__, "busy_seconds", 0.3)


# ---- the primary is gone, and comes back ----------------------------------------------------------------------------


@pytest.mark.requirement("L03")
def test_an_old_primary_that_comes_back_is_refused_and_found(
    servers: Cluster, homes: Homes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = homes(servers.writer)
    (second,) = trial.allocate("P-002")
    unaware = shutil.copytree(trial.home, trial.home.with_name("unaware"))
    old = servers.primary
    servers.kill_primary()
    servers.promote()
    again = trial.reveal("P-002")  # by the same service, which finds the new primary by itself
    assert again.repeated and (again.number, again.arm) == (second.number, second.arm)

    servers.start_old_primary()  # it is named first in the address, and can be written
    with PostgresStore(old.writer, trial.service.study.id) as store:
        held = store.last()
    assert held is not None and held.seq == trial.last.seq - 1  # all that was shown before, but for the repeat
    with pytest.raises(EvidenceError) as refusal:
        trial.again()  # a new connection; the one of before stays with the new primary
    assert refusal.value.code == "old-primary" and refusal.value.details == {
        "server": f"127.0.0.1:{old.port}",
        "expected": 2,
        "found": 1,
    }
    for command in ("status", "log"):
        code, said = told(capsys, trial.home, command)
        assert (code, said["error"]["code"]) == (3, "old-primary")
    assert verdict(capsys, trial.home) == ("broken", {"21 local head"})

    # a home that never heard of the promotion: the old primary has no standby any more, and answers no commit
    hurry(monkeypatch)
    other = homes(servers.writer, unaware)
    with pytest.raises(StorageError) as unknown:
        other.confirm("P-003")
    assert unknown.value.code == "unknown"
    other.close()

    servers.rejoin()
    servers.wait_for_standby(synchronous=True)
    assert trial.again() and trial.allocate("P-003")[0].number == 3
    assert verdict(capsys, trial.home) == ("intact-local", set())


@pytest.mark.requirement("L03")
def test_a_hanging_primary_that_goes_on_is_noticed_on_a_connection_of_before(servers: Cluster, homes: Homes) -> None:
    trial = homes(servers.writer)
    before, old = trial.service, servers.primary
    trial.confirm("P-002")
    old.freeze()
    servers.promote()
    homes.at(servers.primary.writer)
    trial.again()  # another process of the same home
    assert trial.reveal("P-002").number == 2
    old.thaw()
    with pytest.raises(EvidenceError) as refusal:
        before.reveal(trial.actor("PH"), "P-002", "P-002")
    assert refusal.value.code == "log-behind-head"
    before.close_files()

    homes.at(f"{old.writer}?target_session_attrs=read-write")
    with pytest.raises(EvidenceError) as refusal:
        trial.again()
    assert refusal.value.code == "old-primary"
    servers.promote_old_primary()  # to go on with it on purpose; its head still tells what it lacks
    trial.again()
    with pytest.raises(EvidenceError) as refusal:
        trial.reveal("P-002")
    assert refusal.value.code == "log-behind-head"


# ---- what a commit means while the standby is away ------------------------------------------------------------------


def test_a_commit_waits_for_a_standby_that_hangs_and_is_shown_when_it_goes_on(
    servers: Cluster, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    trial = homes(servers.writer)
    trial.confirm("P-002")
    servers.standby.freeze()
    with pytest.raises(StorageError) as refusal:
        trial.reveal("P-002")
    assert refusal.value.code == "unknown"
    with pytest.raises(StorageError) as refusal:
        trial.reveal("P-002")  # the first one still holds the study's row
    assert refusal.value.code == "busy"
    assert "allocated" not in trial.kinds[-1:]
    servers.standby.thaw()
    trial.store._busy_seconds = 10
    shown = trial.reveal("P-002")
    assert (shown.number, shown.repeated) == (2, True) and trial.kinds.count("allocated") == 2


def test_one_of_two_standbys_is_enough_and_the_other_one_follows_it(
    made: tuple[Template, Trial], servers: Cluster, homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, first = homes(servers.writer), servers.standby
    with made[0].third(servers) as third:  # the same settings on each: docs/postgres.md
        names = ", ".join(node.name for node in (servers.primary, first, third))
        for node in (servers.primary, first, third):
            node.sql(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({names})'", "SELECT pg_reload_conf()")
        first.kill()
        (second,) = trial.allocate("P-002")
        servers.kill_primary()
        first.start()
        ahead = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'"
        assert third.sql(ahead) > first.sql(ahead)
        servers.standby = third
        servers.promote()
        servers.standby = first  # it finds the new primary by itself, and commits wait for it
        homes.at(servers.writer)
        trial.again()
        again = trial.reveal("P-002")
        assert again.repeated and (again.number, again.arm) == (second.number, second.arm)
        assert trial.allocate("P-003")[0].number == 3
        assert first.sql("SELECT count(*) FROM allocator.record") == third.sql("SELECT count(*) FROM allocator.record")
        assert verdict(capsys, trial.home) == ("intact-local", set())


# ---- a standby answers nothing --------------------------------------------------------------------------------------


@asynchronous
@pytest.mark.requirement("L03")
def test_a_standby_that_lags_tells_nobody_that_nothing_was_done(
    servers: Cluster, homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = homes(servers.writer)
    servers.caught_up()
    servers.standby.sql("SELECT pg_wal_replay_pause()")
    (second,) = trial.allocate("P-002")
    standby = servers.standby.writer
    for address in (
        f"{standby}?target_session_attrs=any",
        f"{standby}?target_session_attrs=standby",
        servers.any_server("prefer-standby"),
    ):
        homes.at(address)
        with pytest.raises(StorageError) as refusal:
            trial.again()
        assert refusal.value.code == "standby"
        for command in ("status", "log", "log --participant P-002"):
            code, said = told(capsys, trial.home, *command.split())
            assert (code, said["error"]["code"]) == (5, "standby")
    homes.at(standby)  # libpq looks for a server that can be written, and finds none
    with pytest.raises(StorageError) as refusal:
        trial.again()
    assert refusal.value.code == "unavailable"
    assert verdict(capsys, trial.home) == ("broken", {"21 local head"})

    servers.standby.sql("SELECT pg_wal_replay_resume()")
    servers.caught_up()
    assert verdict(capsys, trial.home) == ("intact-local", set())
    homes.at(servers.any_server("any"))  # the first that answers is the primary
    trial.again()
    again = trial.reveal("P-002")
    assert again.repeated and (again.number, again.arm) == (second.number, second.arm)


# ---- records that PostgreSQL lost -----------------------------------------------------------------------------------


def behind_until_recovered(trial: Trial, lost: list[Allocation], capsys: pytest.CaptureFixture[str]) -> None:
    """The head notices; nothing is allocated until the loss is stated and ended; nothing is given twice."""
    trial.again()
    with pytest.raises(EvidenceError) as refusal:
        trial.reveal("P-001")
    assert refusal.value.code == "log-behind-head"
    assert verdict(capsys, trial.home) == ("broken", {"21 local head"})
    trial.service.recover(trial.actor("SP"), "the database lost its newest records")
    with pytest.raises(Refused) as waiting:
        trial.confirm("P-004")
    assert waiting.value.code == "recovering"
    receipts = [{"prev": each.record.prev.hex(), "body": each.record.body.decode()} for each in lost]
    trial.service.recover(trial.actor("ST"), "all sites were asked", receipts=receipts)
    for each in lost:
        again = trial.reveal(each.participant)
        assert (again.number, again.arm, again.repeated) == (each.number, each.arm, True)
    assert trial.allocate("P-004")[0].number == len(lost) + 2
    assert verdict(capsys, trial.home) == ("intact-local", set())


@asynchronous
@pytest.mark.requirement("L03")
def test_what_an_asynchronous_standby_never_heard_of_is_noticed(
    servers: Cluster, homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = homes(servers.writer)
    servers.caught_up()
    servers.standby.stop()
    lost = trial.allocate("P-002", "P-003")
    servers.kill_primary()
    servers.standby.start()
    servers.promote()
    behind_until_recovered(trial, lost, capsys)


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("how", ["from the archive", "a copied folder"])
def test_a_database_put_back_to_an_earlier_moment_is_noticed(
    made: tuple[Template, Trial], homes: Homes, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with made[0].alone(archived=how == "from the archive") as node:
        trial = homes(node.writer)
        if how == "from the archive":
            back = node.base_backup()
            trial.confirm("P-002")
            node.sql("SELECT pg_create_restore_point('before')")
        else:
            node.stop()
            back = node.copied()
            node.start()
        lost = trial.allocate("P-002", "P-003")
        if how == "from the archive":
            node.archive_all()
        node.stop()
        node.put_back(back, until="before" if how == "from the archive" else "")
        node.start()
        wait_until(lambda: node.sql("SELECT pg_is_in_recovery()") == (False,), node.log)
        behind_until_recovered(trial, lost, capsys)


def test_init_goes_on_after_the_server_was_remembered_and_nothing_committed(
    made: tuple[Template, Trial], homes: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = support.study_bytes().replace(f'id = "{support.STUDY_ID}"'.encode(), b'id = "OTHER"', 1)

    def lost(store: PostgresStore) -> None:
        assert store._known is not None
        store._known.remember(store._server)
        raise StorageError("unavailable", "the connection was lost")

    with made[0].alone() as node:
        homes.at(node.writer)
        with monkeypatch.context() as patch:
            patch.setattr("allocator.postgres_store.PostgresStore._commit", lost)
            with pytest.raises(StorageError):
                support.open_home(tmp_path, data)
        assert (tmp_path / "keys" / "OTHER" / "servers").is_file()
        support.open_home(tmp_path, data)
        service = open_service(tmp_path)
        assert [record.kind for record in service.records()] == ["study-opened"]
        service.close_files()


# ---- what a home remembers ------------------------------------------------------------------------------------------


def server(system: str = "7301", timeline: int | None = 1) -> Server:
    """A server that answered."""
    return Server(started="2026-11-20", system=system, timeline=timeline, where="db.example.org:5432")


def test_a_home_remembers_the_timeline_it_wrote_on_and_no_other(tmp_path: Path) -> None:
    known = KnownServers(tmp_path)
    known.check(server(timeline=5))  # a look at a server remembers nothing
    assert list(tmp_path.iterdir()) == []
    for timeline in (1, 2, 2, 3):
        known.remember(server(timeline=timeline))
    known.check(server(timeline=4)), known.check(server(timeline=None)), known.check(server("7302", 1))
    for act in (known.check, known.remember):
        with pytest.raises(EvidenceError) as refusal:
            act(server(timeline=2))
        assert refusal.value.code == "old-primary" and "db.example.org:5432" in refusal.value.message
    known.remember(server("7302", 1))  # a dump was read into another cluster
    with pytest.raises(EvidenceError):
        known.check(server(timeline=2))
    assert (tmp_path / "servers").read_bytes() == (
        b'{"format":"allocator-servers/1","servers":[{"system":"7301","timeline":3},{"system":"7302","timeline":1}]}\n'
    )


def test_the_servers_met_long_ago_are_forgotten(tmp_path: Path) -> None:
    known = KnownServers(tmp_path)
    for number in range(MOST + 2):
        known.remember(server(str(number), 2))
    known.check(server("1", 1))
    with pytest.raises(EvidenceError):
        known.check(server("2", 1))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"format":"allocator-servers/1","servers":[{"system":1,"timeline":1}]}', b"[]", b"\xff"]
)
def test_a_damaged_memory_is_evidence(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "servers").write_bytes(text)
    for act in (KnownServers(tmp_path).check, KnownServers(tmp_path).remember):
        with pytest.raises(EvidenceError) as refusal:
            act(server())
        assert refusal.value.code == "servers-damaged"


def test_what_is_no_file_there_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "servers")
    with pytest.raises(EvidenceError) as refusal:
        KnownServers(tmp_path).check(server())
    assert refusal.value.code == "servers-damaged"


# ---- an address of several servers ----------------------------------------------------------------------------------


@pytest.mark.requirement("S04")
@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{PASSWORD}@db1:5432,db2:5433/trials",
        f"postgresql://u@db1,db2/trials?password={PASSWORD}",
        f"postgresql://u:{PASSWORD}@[::1]:5432,db2/trials?target_session_attrs=any",
    ],
)
def test_the_password_of_an_address_of_several_servers_is_hidden(address: str) -> None:
    given = parsed(address)
    assert given["password"] == PASSWORD and given["target_session_attrs"] in ("read-write", "any")
    said = said_by(address, psycopg.OperationalError(f"connection to db1 failed: password {PASSWORD}"))
    assert PASSWORD not in said and "db1" in said


def test_nobody_answers_at_any_address_and_no_password_is_said() -> None:
    with pytest.raises(StorageError) as refusal:
        connect(f"postgresql://u:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/trials", busy_seconds=1)
    assert refusal.value.code == "unavailable"
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))


# ---- under load -----------------------------------------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """ALLOCATOR_STORE as it was before, whatever the drill sets."""
    monkeypatch.setenv(stores.VARIABLE, "")


@pytest.mark.requirement("A03")
@pytest.mark.usefixtures("away")
def test_what_was_shown_is_there_after_a_failover_under_load(
    made: tuple[Template, Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = failover.faults

    def checked(told: failover.Drill) -> list[str]:
        """The faults found; and whoever looks for them sees one that is put there."""
        shown = next(line for line in told.shown if "arm" in line)
        for wrong in ({"arm": "other"}, {"number": 0}, {"hash": ""}):
            assert list(failover.held(told.home, shown["study"], [shown | wrong])), wrong
        return list(faults(told))

    monkeypatch.setattr(failover, "faults", checked)
    told = failover.drill(made[0], tmp_path, writers=2, studies=2, kills=1, seconds=0.5)
    assert told.found == [] and len(told.shown) > 20
    (kill,) = told.kills
    assert kill["old"] == "old-primary" and told.without_service(kill) > failover.NOTICE
    assert any(line["errors"] for line in told.shown)  # somebody was in the middle of something
