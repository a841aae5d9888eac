"""Read a log in a SQLite file for verification: on a copy, believing nothing (docs/spec.md §11.1).

A view can stand in for the table, a doctored index can make counts lie, a planted journal can roll rows back while
`integrity_check` says ok. So: the schema is compared to the letter, rows are scanned by rowid, and the journal is
tried on a copy.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allocator.chain import Chain, follow_links
from allocator.home import is_file
from allocator.log import Detail
from allocator.sqlite_store import schema_text
from allocator.text import shown
from allocator.verdict import Finding, LogRead, Row

_SCAN = """SELECT rowid, seq, prev, CAST(body AS BLOB), kind, participant, stratum, position
FROM record NOT INDEXED WHERE {which} ORDER BY rowid"""
_LINKS = "SELECT rowid, prev, CAST(body AS BLOB) FROM record NOT INDEXED ORDER BY rowid"
_PLACES = "SELECT rowid, NULL, NULL FROM record NOT INDEXED ORDER BY rowid"
_DETAILS = """SELECT seq, field, salt, value FROM detail WHERE {which} AND typeof(seq) = 'integer'
AND typeof(field) = 'text' AND typeof(salt) = 'blob' AND typeof(value) = 'text' ORDER BY seq"""
_DETAIL_TYPES = """SELECT DISTINCT seq FROM detail WHERE typeof(seq) != 'integer' OR typeof(field) != 'text'
OR typeof(salt) != 'blob' OR typeof(value) != 'text'"""
_ORPHANS = "SELECT DISTINCT seq FROM detail WHERE seq NOT IN (SELECT rowid FROM record NOT INDEXED)"
_TYPES = """SELECT rowid FROM record NOT INDEXED WHERE typeof(seq) != 'integer' OR typeof(prev) != 'blob'
OR typeof(body) != 'text' OR typeof(kind) != 'text' OR typeof(participant) NOT IN ('text', 'null')
OR typeof(stratum) NOT IN ('text', 'null') OR typeof(position) NOT IN ('integer', 'null') ORDER BY rowid"""
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)  # sqlite3 also decodes the messages of its errors, which quote names
_MAX_VALUE = 1 << 22  # bytes; a body has at most 1 MiB, a private detail at most a form of 64 KiB


def copy_log(log: Path, folder: Path) -> tuple[Path | None, list[Finding]]:
    """A copy of the log with its journal, None when it is no regular file (which check 01 says) or cannot be read."""
    if not is_file(log):
        return None, []
    journal = log.with_name(log.name + "-journal")
    try:
        copy = Path(shutil.copyfile(log, folder / "log.sqlite3"))
        if journal.exists():
            shutil.copyfile(journal, folder / "log.sqlite3-journal")
        return copy, []
    except OSError as error:
        return None, [_finding("04 integrity", f"the log or its journal cannot be read: {error.strerror or error}")]


@contextmanager
def log_in_copy(copy: Path | None, copy_findings: list[Finding]) -> Iterator[LogRead]:
    """The log in what `copy_log` gave; its rows are read while the context lasts."""
    connection, chain, findings = _open_copy(copy) if copy else (None, None, copy_findings)
    try:
        yield LogRead(
            rows=_rows(connection) if connection is not None else iter(()),
            row_count=_row_count(connection),
            chain=chain,
            readable=connection is not None,
            findings=tuple(findings),
        )
    finally:
        if connection is not None:
            connection.close()


def _row_count(connection: sqlite3.Connection | None) -> int:
    if connection is None:
        return 0
    return int(connection.execute("SELECT count(*) FROM record NOT INDEXED").fetchone()[0])


def _open_copy(copy: Path) -> tuple[sqlite3.Connection | None, Chain | None, list[Finding]]:
    """Checks 02 to 05 and 20 on the copy of the log; the open connection when its rows can be read, and its chain."""
    findings: list[Finding] = []
    connection = None
    try:
        before = _count(copy) if copy.with_name("log.sqlite3-journal").exists() else None
        connection = _connect(copy)
        findings, readable = _schema_findings(connection)
        if readable:
            chain, chain_findings = _chain(connection)
            findings += [*_content_findings(connection), *chain_findings, *_detail_findings(connection)]
            taken_back = 0 if before is None else before - _row_count(connection)
            if taken_back > 1:
                said = "the journal takes back more than one record: it is not of this log"
                findings.append(_finding("02 journal", said, 1, taken_back))
            return connection, chain, findings
    except (*_UNREADABLE, OSError) as error:
        findings.append(_finding("04 integrity", f"the log cannot be read as a database: {shown(str(error))}"))
    if connection is not None:
        connection.close()
    return None, None, findings


def _connect(copy: Path) -> sqlite3.Connection:
    """Open a copy as sqlite.org/security.html advises for files of unknown origin.

    Mode rw: a journal left by a crash is rolled back here, on the copy, as the next writer would.
    """
    connection = sqlite3.connect(f"{copy.as_uri()}?mode=rw", uri=True, isolation_level=None)
    connection.text_factory = _text
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
    for pragma in ("trusted_schema=0", "cell_size_check=1", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _text(data: bytes) -> str | bytes:
    """A text column's value; bytes that are no UTF-8 stay bytes and so are equal to no text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _count(log: Path) -> int | None:
    """Records in the file alone, journal aside; None when it cannot be read."""
    try:
        connection = sqlite3.connect(f"{log.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM record NOT INDEXED").fetchone()[0])
        finally:
            connection.close()
    except _UNREADABLE:
        return None


def _schema_findings(connection: sqlite3.Connection) -> tuple[list[Finding], bool]:
    """Check 03, and whether the two tables are ours, so that their rows can be read."""
    ours = sqlite3.connect(":memory:")
    ours.executescript(schema_text())
    findings = []
    try:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        expected, found = set(ours.execute(query)), set(connection.execute(query))
        for kind, name in sorted({item[:2] for item in expected ^ found}, key=str):
            wanted, got = ([item[3] for item in side if item[:2] == (kind, name)] for side in (expected, found))
            said = "does not belong there" if not wanted else "is changed" if got else "is missing"
            findings.append(
                _finding("03 schema", f"{kind} {shown(str(name))} {said}", _one_line(wanted), _one_line(got))
            )
        for pragma in ("application_id", "user_version", "encoding"):
            wanted, got = (c.execute(f"PRAGMA {pragma}").fetchone()[0] for c in (ours, connection))
            if wanted != got:
                findings.append(_finding("03 schema", f"{pragma} is changed", wanted, got))
        if (mode := connection.execute("PRAGMA journal_mode").fetchone()[0]) != "delete":
            findings.append(_finding("03 schema", "the journal mode is changed", "delete", mode))
    finally:
        ours.close()
    return findings, {item for item in expected if item[0] == "table"} <= found


def _one_line(sql: list[Any]) -> str | None:
    return " ".join(shown(" ".join(str(text).split())) for text in sql) or None


def _content_findings(connection: sqlite3.Connection) -> list[Finding]:
    findings = []
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    if problems != ["ok"]:
        findings += [_finding("04 integrity", f"SQLite: {shown(problem)}") for problem in problems]
    for (rowid,) in connection.execute(_TYPES):
        findings.append(_finding("04 integrity", "a column has another storage class", seq=rowid))
    for (seq,) in connection.execute(_DETAIL_TYPES):
        said = "a column of a private detail has another storage class"
        findings.append(_finding("04 integrity", said, seq=seq if isinstance(seq, int) else None))
    return findings


def _chain(connection: sqlite3.Connection) -> tuple[Chain, list[Finding]]:
    """The chain pass, and check 05: rows stand in their places, one at least."""
    try:
        chain = follow_links(connection.execute(_LINKS))
    except _UNREADABLE:  # a body that cannot be read is named where its row is judged
        chain = follow_links(connection.execute(_PLACES))
    if chain.after_gap is not None:
        said = f"record {chain.rows} is missing"
        return chain, [_finding("05 rows", said, chain.rows, chain.after_gap, seq=chain.rows)]
    return chain, [] if chain.rows else [_finding("05 rows", "the log holds no record")]


def _detail_findings(connection: sqlite3.Connection) -> list[Finding]:
    return [
        _finding("20 details", "a private detail without its record", seq=seq if isinstance(seq, int) else None)
        for (seq,) in connection.execute(_ORPHANS)
    ]


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Rows with their details, by one pass over each table; a row that cannot be read is the last one."""
    place, fault = -(2**63), sqlite3.Error()  # type: tuple[int, Exception]
    for factory in (str, _text):  # the first is many times as fast and stops at bytes that are no UTF-8
        connection.text_factory = factory
        try:
            for row in _scan(connection, place):
                place = row.rowid
                yield row
            return
        except _UNREADABLE as error:
            fault = error
    # the cursor reads ahead, so the rows from here on are read one by one
    yield from _rows_singly(connection, place, fault)


def _scan(connection: sqlite3.Connection, after: int) -> Iterator[Row]:
    details = connection.execute(_DETAILS.format(which="seq > ?"), (after,))
    following = details.fetchone()
    for rowid, seq, prev, body, *columns in connection.execute(_SCAN.format(which="rowid > ?"), (after,)):
        own: dict[str, Detail] = {}
        while following is not None and following[0] <= rowid:
            if following[0] == rowid and isinstance(following[1], str) and isinstance(following[3], str):
                own[following[1]] = Detail(salt=following[2], value=following[3])
            following = details.fetchone()
        yield Row(rowid=rowid, seq=seq, prev=prev, body=body, columns=tuple(columns), details=own)


def _rows_singly(connection: sqlite3.Connection, after: int, fault: Exception) -> Iterator[Row]:
    rowid, nothing = after + 1, (None, None, None, None)
    try:
        sql = "SELECT rowid FROM record NOT INDEXED WHERE rowid > ? ORDER BY rowid"
        for (rowid,) in connection.execute(sql, (after,)).fetchall():
            details = connection.execute(_DETAILS.format(which="seq = ?"), (rowid,)).fetchall()
            _, seq, prev, body, *columns = connection.execute(_SCAN.format(which="rowid = ?"), (rowid,)).fetchone()
            own = {f: Detail(salt=s, value=v) for _, f, s, v in details if isinstance(f, str) and isinstance(v, str)}
            yield Row(rowid=rowid, seq=seq, prev=prev, body=body, columns=tuple(columns), details=own)
        rowid += 1
    except TypeError:
        pass  # a row that one query finds and another does not
    except _UNREADABLE as error:
        fault = error
    said = f"the record or its private details cannot be read: {shown(str(fault))}"
    yield Row(rowid=rowid, seq=None, prev=None, body=None, columns=nothing, details={}, fault=said)


def _finding(check: str, message: str, expected: Any = None, found: Any = None, *, seq: int | None = None) -> Finding:
    return Finding(check=check, seq=seq, message=message, expected=expected, found=found)
