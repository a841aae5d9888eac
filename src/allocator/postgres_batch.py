"""Several statements in one message and one answer: libpq's pipeline mode, sent at once, each statement prepared once.

psycopg's own pipeline sends statement by statement, and each wakes the server; on one machine that costs as much as the
statements. Here all of them go in one piece (postgresql.org/docs, "libpq Pipeline Mode"). Values are parameters, never
part of a statement's text, which the server may write into its log.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from allocator.postgres_connection import Bounded

Value = str | int | bytes | None
_TEXT, _BINARY, _FATAL = int(Format.TEXT), int(Format.BINARY), int(ExecStatus.FATAL_ERROR)
# What one row of a result holds, in PostgreSQL's binary form.
Cells = tuple[bytes | None, ...]


class Statement(NamedTuple):
    """A statement with a name that it is prepared under, in a connection; $1, $2, … stand for its values."""

    name: str
    sql: str


class Answer(NamedTuple):
    """What came back for one statement: its command tag and its rows."""

    tag: str
    rows: list[Cells]


class NoAnswer(psycopg.OperationalError):
    """The server said nothing for as long as was waited."""


def together(
    connection: Bounded, statements: Sequence[tuple[Statement, tuple[Value, ...]]], seconds: float
) -> list[Answer]:
    """Send all, then wait for all answers.

    The statements after one that fails are not done, not even a COMMIT.

    Args:
        connection: one that nobody else uses meanwhile.
        statements: each with its values; bytes are BYTEA, integers and texts what the statement makes of them.
        seconds: how long to wait for the answers.

    Raises:
        psycopg.Error: of the first statement that failed; or the connection was lost, or no answer came in time.
    """
    pgconn = connection.pgconn
    batch = [(*statement, *_encoded(values)) for statement, values in statements]
    asked: list[bytes | None] = []  # what each result is of: a name prepared, or None for a statement done
    try:
        pgconn.enter_pipeline_mode()
        for text, sql, wire, formats in batch:
            name = text.encode()
            if name not in connection.prepared and name not in asked:
                pgconn.send_prepare(name, sql.encode())
                asked.append(name)
            pgconn.send_query_prepared(name, wire, formats, _BINARY)
            asked.append(None)
        pgconn.pipeline_sync()
        results = _results(pgconn, time.monotonic() + seconds)
        pgconn.exit_pipeline_mode()
    except BaseException:  # also Ctrl-C: answers that nobody waited for are never taken for others
        connection.close()
        raise
    answers: list[Answer] = []
    for prepared, result in zip(asked, results, strict=True):
        if result.status == _FATAL:
            raise errors.error_from_result(result)
        if prepared is not None:
            connection.prepared.add(prepared)
        else:
            answers.append(_answer(result))
    return answers


def _encoded(values: tuple[Value, ...]) -> tuple[list[bytes | None], list[int]]:
    """Values and their formats; DataError for a text that libpq would cut at its NUL, or that is none."""
    wire: list[bytes | None] = []
    for value in values:
        if value is None or type(value) is bytes:
            wire.append(value)
            continue
        text = str(value)
        if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
            raise psycopg.DataError("a text with a character that PostgreSQL does not hold")
        wire.append(text.encode())
    return wire, [_BINARY if type(value) is bytes else _TEXT for value in values]


def _results(pgconn: PGconn, deadline: float) -> list[PGresult]:
    """Every result up to the answer to the sync."""
    while pgconn.flush():
        _wait(pgconn, select.POLLIN | select.POLLOUT, deadline)
        pgconn.consume_input()
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            _wait(pgconn, select.POLLIN, deadline)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:  # the end of one statement's results
            if pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError("the connection is lost")
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)


def _wait(pgconn: PGconn, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pgconn.socket, events)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise NoAnswer("no answer came in time")


def _answer(result: PGresult) -> Answer:
    columns = range(result.nfields)
    rows = [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
    return Answer((result.command_status or b"").decode("ascii"), rows)
