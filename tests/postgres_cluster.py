"""A primary and its streaming standby on loopback, for tests and for the drill: killed, frozen, promoted, rejoined.

    with template() as made:                       # None where no PostgreSQL is to be found
        with made.cluster() as servers:            # copies of the template's data, both started, replication waited for
            servers.kill_primary()
            servers.promote()                      # the standby is the primary from here on
            servers.start_old_primary()            # as it was: read-write
            servers.rejoin()                       # as a standby of the new primary, from a new base backup

Binaries are found, and run as `nobody` by root, as in tests/postgres_server.py. Everything is stopped at the end, even
what was frozen. Data are of a temporary folder; the settings that count are in `SETTINGS`, the rest is small.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from postgres_server import (
    PASSWORD,
    _as_nobody,
    _binaries,
    _ended_with_us,
    _free_port,
    _prepared,
)

SETTINGS = {
    "synchronous_commit": "remote_apply",
    "wal_log_hints": "on",  # pg_rewind needs it
    "wal_keep_size": "64MB",
    "hot_standby": "on",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "logging_collector": "off",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "200ms",
}
WAIT_SECONDS = 30.0


class Node:
    """One server: its data folder, its port, its process while it runs."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder, self.name = binaries, folder, folder.name
        self.data, self.port = folder / "data", _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[int] = []

    @property
    def admin(self) -> str:
        """Address of a superuser of this server alone, standby or not."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def writer(self) -> str:
        """Address of a writer of this server alone, standby or not; by default only one that can be written answers."""
        return f"postgresql://test_writer:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, in whatever state its folder is, and wait until it answers."""
        settings = {**SETTINGS, "cluster_name": self.name}  # a standby is known to its primary by this name
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_ended_with_us(), self.binaries / "postgres", "-D", self.data, "-k", self.folder]
                + ["-h", "127.0.0.1", "-p", str(self.port)]
                + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
                **({} if _ended_with_us() else _as_nobody()),  # type: ignore[arg-type]
            )  # fmt: skip
        wait_until(self._answers, self.log)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.admin, connect_timeout=2).close()
            return True
        return False

    def log(self) -> str:
        """The end of what the server said."""
        return (self.folder / "log").read_text("utf-8", "replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL to the postmaster and everything it started: the machine is gone."""
        for pid in self.freeze():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)
        self._process, self._children = None, []

    def freeze(self) -> list[int]:
        """SIGSTOP to the same: the machine hangs, and its connections with it. Returns their process ids."""
        if self._process is None:
            return []
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGSTOP)  # first, so that it starts nobody any more
        self._children = _children_of(self._process.pid)
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        return [*self._children, self._process.pid]

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        for pid in (*self._children, *([self._process.pid] if self._process else [])):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._children = []

    def stop(self) -> None:
        """Stop it in good order; at once where it will not."""
        if self._process is None:
            return
        self.thaw()
        for how in (signal.SIGINT, signal.SIGQUIT):
            self._process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                break
        else:
            self.kill()
        self._process = None

    def run(self, program: str, *arguments: str | Path) -> None:
        """One of PostgreSQL's programs, as the owner of the data."""
        done = subprocess.run(
            [self.binaries / program, *arguments], cwd=self.folder, capture_output=True, text=True, **_as_nobody()
        )
        assert done.returncode == 0, done.stderr

    def sql(self, *statements: str) -> Any:
        """Statements by a superuser, each on its own; the first row of the last one, None where it has none."""
        row = None
        with psycopg.connect(self.admin, autocommit=True, connect_timeout=5) as connection:
            for statement in statements:
                done = connection.execute(statement.encode())
                row = done.fetchone() if done.description else None
        return row

    # ---- put back to an earlier moment ------------------------------------------------------------------------------

    @property
    def archive(self) -> Path:
        """Where finished WAL files go when it archives."""
        return self.folder / "archive"

    def set_up_archive(self) -> None:
        """Before it starts: finished WAL files are copied into a folder beside its data."""
        self.archive.mkdir()
        _own(self.archive)
        with (self.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(f"archive_mode = on\narchive_command = 'cp %p {self.archive}/%f'\n")

    def base_backup(self) -> Path:
        """A base backup of it, while it runs."""
        target = self.folder / "backup"
        given = ["-D", target, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        self.run("pg_basebackup", *given, "-X", "stream", "-c", "fast", "--no-sync")
        return target

    def archive_all(self) -> None:
        """Wait until all that it wrote is in the archive."""
        (name,) = self.sql("SELECT pg_walfile_name(pg_switch_wal())")
        wait_until((self.archive / name).exists, self.log)

    def copied(self) -> Path:
        """A copy of its data folder, while it is stopped."""
        target = self.folder / "backup"
        subprocess.run(["cp", "-a", self.data, target], check=True)
        return target

    def put_back(self, backup: Path, *, until: str = "") -> None:
        """Put a backup in place of its data; recovered from the archive until a restore point, when one is named."""
        shutil.rmtree(self.data)
        backup.rename(self.data)
        if until:
            with (self.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
                file.write(f"restore_command = 'cp {self.archive}/%f %p'\nrecovery_target_name = '{until}'\n")
                file.write("recovery_target_action = promote\n")
            signal_file = self.data / "recovery.signal"
            signal_file.touch()
            _own(signal_file)

    def follow(self, *others: Node) -> None:
        """Its folder is that of a standby when it starts: of whichever of these can be written."""
        ports = ",".join(str(node.port) for node in others)
        where = (
            f"host={','.join(['127.0.0.1'] * len(others))} port={ports} user=postgres target_session_attrs=read-write"
        )
        with (self.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(f"primary_conninfo = '{where}'\nsynchronous_standby_names = ''\n")
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        _own(signal_file)


class Cluster:
    """A primary and a standby; see the module."""

    def __init__(self, primary: Node, standby: Node) -> None:
        self.primary, self.standby = primary, standby

    @property
    def writer(self) -> str:
        """The writer's address of both, as a home should have it: whichever can be written."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in sorted((self.primary, self.standby), key=_by_name))
        return f"postgresql://test_writer:{PASSWORD}@{hosts}/postgres?target_session_attrs=read-write"

    def any_server(self, attributes: str) -> str:
        """The same address with another `target_session_attrs`."""
        return self.writer.replace("read-write", attributes)

    def wait_for_standby(self, *, synchronous: bool) -> None:
        """Wait until the standby streams; and make each commit wait for it, when asked."""
        name = self.standby.name
        state = f"SELECT sync_state FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        wait_until(lambda: self.primary.sql(state) is not None, self.standby.log)
        if synchronous:
            self.name_standby(name)
            wait_until(lambda: self.primary.sql(state) == ("sync",), self.standby.log)  # `async` for a moment

    def name_standby(self, name: str) -> None:
        """synchronous_standby_names of the primary; "" for none."""
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'", "SELECT pg_reload_conf()")

    def caught_up(self) -> None:
        """Wait until the standby shows all that the primary committed."""
        (end,) = self.primary.sql("SELECT pg_current_wal_lsn()::text")
        wait_until(lambda: self.standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == (True,), self.standby.log)

    def kill_primary(self) -> None:
        """The primary's machine is gone."""
        self.primary.kill()

    def promote(self) -> None:
        """The standby becomes the primary, alone; the other one is what `start_old_primary` and `rejoin` start."""
        assert self.standby.sql("SELECT pg_promote(true, 30)") == (True,), self.standby.log()
        self.primary, self.standby = self.standby, self.primary

    def start_old_primary(self) -> None:
        """After `promote`: the other one comes back as it was, read-write."""
        self.standby.start()

    def promote_old_primary(self) -> None:
        """Go on with the old one on purpose: as a standby of nobody it is promoted, onto a timeline of its own."""
        self.standby.stop()
        signal_file = self.standby.data / "standby.signal"
        signal_file.touch()
        _own(signal_file)
        self.standby.start()
        self.standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
        assert self.standby.sql("SELECT pg_promote(true, 30)") == (True,), self.standby.log()

    def rejoin(self) -> None:
        """After `promote`: the other one becomes the standby, by a new base backup."""
        self.standby.kill()  # where it runs: nothing of it is kept
        shutil.rmtree(self.standby.data)
        given = ["-D", self.standby.data, "-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "postgres"]
        self.standby.run("pg_basebackup", *given, "-X", "stream", "-c", "fast", "--no-sync")
        self.standby.follow(self.primary)
        self.standby.start()

    def rewind(self) -> None:
        """As `rejoin`, by pg_rewind: the records that only the old primary had are taken back."""
        self.primary.sql("CHECKPOINT")  # up to 15, pg_rewind reads the new timeline from the control file
        self.standby.stop()
        self.standby.run(
            "pg_rewind", "-D", self.standby.data, "--source-server", self.primary.admin, "--no-sync"
        )  # fmt: skip
        self.standby.follow(self.primary)
        self.standby.start()

    def stop(self) -> None:
        """Stop both."""
        for node in (self.standby, self.primary):
            node.stop()


class Template:
    """A stopped server's data, with the schema and the users in it: what each cluster starts from."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder, self._count = binaries, folder, 0
        self._node = self.node("template")
        usual = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._node.run("initdb", "-D", self._node.data, *usual, "--wal-segsize=1")
        with self.running() as node:
            _prepared(node.admin)

    def node(self, name: str) -> Node:
        """A further server, without data."""
        folder = self._folder / name
        folder.mkdir()
        _own(folder)
        return Node(self._binaries, folder)

    @contextmanager
    def running(self) -> Iterator[Node]:
        """The template's own server, to put more into it."""
        self._node.start()
        try:
            yield self._node
        finally:
            self._node.stop()

    @contextmanager
    def alone(self, *, archived: bool = False) -> Iterator[Node]:
        """A server with a copy of the data, started, without a standby; it archives its WAL when asked."""
        self._count += 1
        node = self.node(f"n{self._count}")
        try:
            copy_data(self._node, node)
            if archived:
                node.set_up_archive()
            node.start()
            yield node
        finally:
            node.stop()
            shutil.rmtree(node.folder, ignore_errors=True)

    @contextmanager
    def cluster(self, *, synchronous: bool = True) -> Iterator[Cluster]:
        """A primary and a standby with copies of the data, both started."""
        self._count += 1
        servers = Cluster(self.node(f"a{self._count}"), self.node(f"b{self._count}"))
        try:
            for node in (servers.primary, servers.standby):
                copy_data(self._node, node)
            servers.standby.follow(servers.primary)
            servers.primary.start()
            servers.standby.start()
            servers.wait_for_standby(synchronous=synchronous)
            yield servers
        finally:
            servers.stop()
            for node in (servers.primary, servers.standby):
                shutil.rmtree(node.folder, ignore_errors=True)

    @contextmanager
    def third(self, servers: Cluster) -> Iterator[Node]:
        """A further standby; each of the two standbys looks for whichever of the others can be written."""
        node = self.node(f"c{self._count}")
        try:
            copy_data(self._node, node)
            node.follow(servers.primary, servers.standby)
            node.start()
            known = f"SELECT state FROM pg_stat_replication WHERE application_name = '{node.name}'"
            wait_until(lambda: servers.primary.sql(known) == ("streaming",), node.log)
            servers.standby.follow(servers.primary, node)
            yield node
        finally:
            node.stop()
            shutil.rmtree(node.folder, ignore_errors=True)


@contextmanager
def template(binaries: Path | None = None) -> Iterator[Template | None]:
    """A template from these binaries, else the first that work; None where there are none. Removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="allocator-pg-", dir="/tmp"))  # short: the name of a socket has an end
    try:
        folder.chmod(0o755)
        found = binaries or next(_binaries(folder), None)
        yield Template(found, folder) if found else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_data(source: Node, target: Node) -> None:
    """The data folder of a server that is stopped, put in place of another's."""
    if target.data.exists():
        shutil.rmtree(target.data)
    subprocess.run(["cp", "-a", source.data, target.data], check=True)


def wait_until(holds: Any, said: Any = str) -> None:
    """Wait for a condition; AssertionError with what `said` gives when it does not come."""
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end, said()
        time.sleep(0.02)


def _own(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, "nobody", "nogroup")


def _by_name(node: Node) -> str:
    return node.name


def _children_of(parent: int) -> list[int]:
    """The processes that this one started; PostgreSQL gives each a session of its own."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, ValueError):
                fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(folder.name))
    return found
