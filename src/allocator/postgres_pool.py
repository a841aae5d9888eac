"""Connections that the stores of one process share, for a service with many studies: psycopg's own pool.

A command has one store and one connection, and needs no pool. A service gives the same pool to each store: a connection
is taken for an act or a question and given back after it, so that connections do not grow with the studies.
"""

from __future__ import annotations

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from allocator.errors import StorageError
from allocator.postgres_connection import Bounded, address_parts, connect, set_up

BUSY_SECONDS = 10.0


class PostgresPool:
    """Up to `most` connections to one database. Close it, or use it as a context.

    Args:
        url: the address, as for a store.
        most: connections at most; who asks while all are taken waits.
        busy_seconds: how long to wait for a connection, and for one's turn.

    Raises:
        InputError, StorageError: as `connect`.
    """

    def __init__(self, url: str, *, most: int, busy_seconds: float = BUSY_SECONDS) -> None:
        self._url, self._busy_seconds = url, busy_seconds
        connect(url, busy_seconds=busy_seconds)[0].close()  # what is wrong is said here, not by a thread of the pool

        def configure(connection: Bounded) -> None:
            connection.server = set_up(connection, busy_seconds)

        self._pool: ConnectionPool[Bounded] = ConnectionPool(
            "",
            connection_class=Bounded,
            kwargs={**address_parts(url), "autocommit": True},
            configure=configure,
            min_size=1,
            max_size=most,
            timeout=busy_seconds,
            reconnect_timeout=busy_seconds,
            open=True,
            name="allocator",
        )

    def __enter__(self) -> PostgresPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; closing it twice does nothing."""
        self._pool.close()

    def take(self) -> Bounded:
        """A connection, until it is given back.

        Raises:
            StorageError: none was free in time (``busy``), or none can be made; nothing was written.
            InputError: the database is not what it was.
        """
        try:
            return self._pool.getconn()
        except PoolTimeout:
            connect(self._url, busy_seconds=self._busy_seconds)[0].close()  # says why, where none can be made
            raise StorageError(
                "busy", "all connections to the database are in use", "Nothing was written. Ask again."
            ) from None
        except (PoolClosed, psycopg.Error) as error:
            raise StorageError("unavailable", f"the database: {error}", "Nothing was written. Ask again.") from None

    def give(self, connection: Bounded) -> None:
        """Give a connection back; a closed one is replaced when it is needed."""
        self._pool.putconn(connection)

    def replace_all(self) -> None:
        """Close the connections that nobody has, unasked, and those given back later; new ones are made, as after a
        failover."""
        self._pool.drain()
