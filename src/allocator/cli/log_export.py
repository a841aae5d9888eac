"""Export the log for reading elsewhere, by sqlite-utils: CSV, JSON, or a SQLite file of plain columns. A copy."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from allocator.errors import InputError, StorageError
from allocator.text import shown

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet may take for the start of one


def export_log(target: Path, records: list[dict[str, Any]]) -> int:
    """Write the records to a new file and return their number.

    Raises:
        InputError: the file is there already, or its ending is none of .csv, .json, .sqlite3.
        StorageError: it cannot be written.
    """
    if target.suffix not in (".csv", ".json", ".sqlite3"):
        raise InputError("export", f"{shown(target.name)} ends in none of .csv, .json, .sqlite3")
    if target.exists():
        raise InputError(
            "file-exists", f"{shown(str(target))} is there already", "Choose another name: nothing is overwritten."
        )
    try:
        if target.suffix == ".json":
            with target.open("x", encoding="utf-8") as stream:
                json.dump(records, stream, ensure_ascii=True, indent=1)
        else:
            _tabulate(target, records)
    except OSError as error:
        raise StorageError("cannot-write", f"{shown(str(target))}: {error.strerror}", "Nothing was written.") from error
    return len(records)


def _tabulate(target: Path, records: list[dict[str, Any]]) -> None:
    """One row a record, one column a field; lists and objects as JSON text."""
    import sqlite3

    from sqlite_utils import Database

    connection = sqlite3.connect(target if target.suffix == ".sqlite3" else ":memory:")
    database = Database(connection, execute_plugins=False)
    table = database.table("record", pk="seq")
    if records:
        table.insert_all(records, alter=True, strict=True)
    if target.suffix == ".csv":
        with target.open("x", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([column.name for column in table.columns])
            writer.writerows(_safe(row) for row in database.execute("SELECT * FROM record ORDER BY seq"))
    connection.commit()
    connection.close()


def _safe(row: tuple[Any, ...]) -> list[Any]:
    """A cell that a spreadsheet would run as a formula is put behind an apostrophe (OWASP, CSV injection)."""
    return [f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell for cell in row]
