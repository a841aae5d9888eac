"""Export the log for reading elsewhere: CSV, JSON, or a SQLite file of plain columns. A copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from allocator.errors import InputError, StorageError
from allocator.text import shown
from allocator.trail import cells, csv_lines, json_lines


def check_target(target: Path) -> None:
    """InputError when the file is there already, or its ending is none of .csv, .json, .sqlite3."""
    if target.suffix not in (".csv", ".json", ".sqlite3"):
        raise InputError("export", f"{shown(target.name)} ends in none of .csv, .json, .sqlite3")
    if target.exists():
        raise InputError(
            "file-exists", f"{shown(str(target))} is there already", "Choose another name: nothing is overwritten."
        )


def export_log(target: Path, rows: Iterable[Mapping[str, Any]], *, whole: bool) -> int:
    """Write rows of the trail to a new file and return their number. StorageError when it cannot be written."""
    counted = _Counted(rows)
    try:
        if target.suffix == ".sqlite3":
            _tabulate(target, counted)
        else:
            lines = json_lines(counted) if target.suffix == ".json" else csv_lines(counted, whole=whole)
            with target.open("x", encoding="utf-8", newline="") as stream:
                stream.writelines(lines)
    except OSError as error:
        raise StorageError("cannot-write", f"{shown(str(target))}: {error.strerror}", "Nothing was written.") from error
    return counted.count


class _Counted:
    """Rows, counted as they pass."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for row in self._rows:
            self.count += 1
            yield row


def _tabulate(target: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a record, one column a field; lists and objects as JSON text."""
    import sqlite3
    from contextlib import closing

    from sqlite_utils import Database

    with closing(sqlite3.connect(target)) as connection:
        database = Database(connection, execute_plugins=False)
        database.table("record", pk="seq").insert_all(map(cells, rows), alter=True, strict=True)
        connection.commit()
