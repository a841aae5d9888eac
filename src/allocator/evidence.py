"""Read a study's files for verification: on a copy, opened read-only, believing nothing (docs/spec.md §11.1).

A view can stand in for the table, a doctored index can make counts lie, a planted journal can roll rows back while
`integrity_check` says ok. So: the schema is compared to the letter, rows are scanned by rowid, and the journal is
tried on a copy.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allocator.criterion import StudyError
from allocator.errors import AllocatorError, InputError
from allocator.home import StudyPlace, studies_in
from allocator.keys import KeyFolder
from allocator.log import Detail
from allocator.sqlite_store import schema_text
from allocator.study import Study
from allocator.text import shown
from allocator.verify import Evidence, Finding, Row

_SCAN = """SELECT rowid, seq, prev, CAST(body AS BLOB), kind, participant, stratum, position
FROM record NOT INDEXED ORDER BY rowid"""
_TYPES = """SELECT rowid FROM record NOT INDEXED WHERE typeof(seq) != 'integer' OR typeof(prev) != 'blob'
OR typeof(body) != 'text' OR typeof(kind) != 'text' OR typeof(participant) NOT IN ('text', 'null')
OR typeof(stratum) NOT IN ('text', 'null') OR typeof(position) NOT IN ('integer', 'null') ORDER BY rowid"""


def place_of(path: Path, study: str | None) -> StudyPlace:
    """The study that a path means: a home, a study's folder in schedules/, or its log. InputError for anything else."""
    if (path / "schedules").is_dir():
        found = studies_in(path)
        if study in found or (study is None and len(found) == 1):
            return StudyPlace(home=path, study=study or found[0])
        raise InputError(
            "no-study",
            f"which study of {shown(str(path))}?",
            f"Choose one with --study: {', '.join(found) or 'none there'}.",
        )
    folder = path if path.is_dir() else path.parent
    if folder.parent.name == "schedules" and (folder / "log.sqlite3").exists():
        return StudyPlace(home=folder.parent.parent, study=folder.name)
    raise InputError(
        "no-study",
        f"{shown(str(path))} is neither a home nor a study's folder with its log",
        "Give a folder that has schedules/ and keys/, or schedules/STUDY in it.",
    )


@contextmanager
def read_evidence(place: StudyPlace, given_heads: tuple[bytes, ...] = ()) -> Iterator[Evidence]:
    """The evidence of a study; rows are read while the context lasts."""
    findings = _file_findings(place)
    study, study_findings = _read_study(place)
    findings += study_findings
    head = None
    try:
        head = KeyFolder(place.keys).read_head()
    except AllocatorError as error:
        findings.append(Finding(check="21 local head", message=error.message))
    with tempfile.TemporaryDirectory(prefix="allocator-verify-") as folder:
        connection, database_findings = _open_copy(place.log_file, Path(folder))
        findings += database_findings
        rows: Iterator[Row] = iter(())
        if connection is not None:
            findings += _orphans(connection)
            rows = _rows(connection)
        try:
            yield Evidence(
                study=study,
                rows=rows,
                sealed_files=_contents(place.sealed_file, place.sealed_file.with_name("sealed.json.next")),
                registry=next(iter(_contents(place.registry_file)), None),
                local_head=head,
                given_heads=given_heads,
                readable=connection is not None,
                row_count=_row_count(connection),
                findings=tuple(findings),
            )
        finally:
            if connection is not None:
                connection.close()


def _row_count(connection: sqlite3.Connection | None) -> int:
    if connection is None:
        return 0
    return int(connection.execute("SELECT count(*) FROM record NOT INDEXED").fetchone()[0])


def _contents(*paths: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in paths if path.is_file() and not path.is_symlink())


def _file_findings(place: StudyPlace) -> list[Finding]:
    findings = []
    for path in (place.schedules, place.log_file, place.study_file, place.sealed_file):
        if path.is_symlink():
            findings.append(_finding("01 files", f"{path.name} is a symbolic link"))
    for path in (place.log_file, place.study_file):
        if not path.is_file():
            findings.append(_finding("01 files", f"{path.name} is not there"))
    for suffix in ("-wal", "-shm"):
        if place.log_file.with_name(place.log_file.name + suffix).exists():
            findings.append(
                _finding("01 files", f"{place.log_file.name}{suffix} lies beside the log, which is never written so")
            )
    return findings


def _read_study(place: StudyPlace) -> tuple[Study | None, list[Finding]]:
    try:
        return Study.from_tables(tomllib.loads(place.study_file.read_text(encoding="utf-8"))), []
    except FileNotFoundError:
        return None, []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, StudyError, RecursionError) as error:
        return None, [_finding("08 study file", f"study.toml cannot be read: {shown(str(error))}")]


def _open_copy(log: Path, folder: Path) -> tuple[sqlite3.Connection | None, list[Finding]]:
    """Checks 02 to 05 on a copy of the log with its journal; the open connection when its rows can be read."""
    if not log.is_file() or log.is_symlink():
        return None, []
    try:
        copy = Path(shutil.copyfile(log, folder / "log.sqlite3"))
        journal = log.with_name(log.name + "-journal")
        before = _count(copy) if journal.exists() else None
        if journal.exists():
            shutil.copyfile(journal, folder / "log.sqlite3-journal")
        # mode rw: a journal left by a crash is rolled back here, on the copy, as the next writer would
        connection = sqlite3.connect(f"{copy.as_uri()}?mode=rw", uri=True, isolation_level=None)
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        connection.execute("PRAGMA trusted_schema=0")
        findings = _schema_findings(connection)
        if not any(f.message.startswith(("table", "view")) for f in findings):
            findings += _content_findings(connection)
            count = connection.execute("SELECT count(*) FROM record NOT INDEXED").fetchone()[0]
            if before is not None and before - count > 1:
                findings.append(
                    _finding(
                        "02 journal",
                        "the journal takes back more than one record: it is not of this log",
                        1,
                        before - count,
                    )
                )
            return connection, findings
    except (sqlite3.Error, OSError) as error:
        return None, [_finding("04 integrity", f"the log cannot be read as a database: {shown(str(error))}")]
    connection.close()
    return None, findings


def _count(log: Path) -> int | None:
    """Records in the file alone, journal aside; None when it cannot be read."""
    try:
        connection = sqlite3.connect(f"{log.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM record NOT INDEXED").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error:
        return None


def _schema_findings(connection: sqlite3.Connection) -> list[Finding]:
    ours = sqlite3.connect(":memory:")
    ours.executescript(schema_text())
    findings = []
    try:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        expected, found = set(ours.execute(query)), set(connection.execute(query))
        for kind, name, _, sql in sorted(expected ^ found, key=str):
            said = "is missing or changed" if any(name == item[1] for item in expected) else "does not belong there"
            findings.append(_finding("03 schema", f"{kind} {shown(str(name))} {said}", found=shown(str(sql))))
        for pragma in ("application_id", "user_version", "encoding"):
            wanted, got = (c.execute(f"PRAGMA {pragma}").fetchone()[0] for c in (ours, connection))
            if wanted != got:
                findings.append(_finding("03 schema", f"{pragma} is changed", wanted, got))
        if (mode := connection.execute("PRAGMA journal_mode").fetchone()[0]) != "delete":
            findings.append(_finding("03 schema", "the journal mode is changed", "delete", mode))
    finally:
        ours.close()
    return findings


def _content_findings(connection: sqlite3.Connection) -> list[Finding]:
    findings = []
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    if problems != ["ok"]:
        findings += [_finding("04 integrity", f"SQLite: {shown(problem)}") for problem in problems]
    for (rowid,) in connection.execute(_TYPES):
        findings.append(_finding("04 integrity", "a column has another storage class", seq=rowid))
    expected = 0
    for (seq,) in connection.execute("SELECT rowid FROM record NOT INDEXED ORDER BY rowid"):
        if seq != expected:
            findings.append(_finding("05 rows", f"record {expected} is missing", expected, seq, seq=expected))
            break
        expected += 1
    if expected == 0 and not findings:
        findings.append(_finding("05 rows", "the log holds no record"))
    return findings


def _orphans(connection: sqlite3.Connection) -> list[Finding]:
    sql = "SELECT DISTINCT seq FROM detail WHERE seq NOT IN (SELECT rowid FROM record NOT INDEXED)"
    return [
        _finding("20 details", "a private detail without its record", seq=seq) for (seq,) in connection.execute(sql)
    ]


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Rows with their details, by one pass over each table."""
    details = connection.execute("SELECT seq, field, salt, value FROM detail ORDER BY seq")
    following = details.fetchone()
    for rowid, seq, prev, body, *columns in connection.execute(_SCAN):
        own: dict[str, Detail] = {}
        while following is not None and following[0] <= rowid:
            if following[0] == rowid:
                own[following[1]] = Detail(salt=bytes(following[2]), value=following[3])
            following = details.fetchone()
        yield Row(rowid=rowid, seq=seq, prev=prev, body=body, columns=tuple(columns), details=own)


def _finding(check: str, message: str, expected: Any = None, found: Any = None, *, seq: int | None = None) -> Finding:
    return Finding(check=check, seq=seq, message=message, expected=expected, found=found)
