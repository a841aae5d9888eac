"""The audit trail to be read elsewhere: records as rows of a table, and such rows held to the log again (L07).

A row that was exported is compared cell by cell with the row that the log's own record gives now: so a table that went
through other hands shows whether it still says what the log says.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from allocator.canonical import encode_parsed
from allocator.errors import EvidenceError
from allocator.log import KINDS, MAX_BODY, Detail, Record
from allocator.verdict import Finding, Given

# What those at the site do not see in the log: it would help to predict the next arm (C03, SPIRIT 21b).
HIDDEN_AT_SITE = (
    *("position", "release", "salt", "arm", "envelope", "sealed_digest", "design_commitment", "findings"),
    *("algorithm", "told", "original", "reserved", "body"),
)
# every field that a record of any kind has, then what an exported row has besides
COLUMNS = (
    *dict.fromkeys(name for kind in KINDS.values() for name in ("seq", "time", "kind", *sorted(kind.all_fields))),
    *("private", "prev", "hash", "body"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet may take for the start of one


def view(record: Record, private: Mapping[str, str] | None) -> dict[str, Any]:
    """A record as JSON with its hash: whole with its private details, or without what must not be seen at a site."""
    fields = {k: v for k, v in record.fields.items() if private is not None or k not in HIDDEN_AT_SITE}
    own = {"private": dict(private)} if private else {}
    return {**fields, **own, "prev": record.prev.hex(), "hash": record.hash.hex()}


def trail_row(record: Record, private: Mapping[str, str] | None) -> dict[str, Any]:
    """A row of an exported trail: the view, and where it is whole the body too, which gives the hash again.

    hash = SHA-256(0x00 ‖ prev ‖ body), by any program.
    """
    row = view(record, private)
    return row if private is None else {**row, "body": record.body.decode("utf-8")}


def cells(row: Mapping[str, Any]) -> dict[str, str | int | None]:
    """A row for a table: objects and lists as canonical JSON."""
    return {
        name: encode_parsed(value).decode("utf-8") if isinstance(value, dict | list) else value
        for name, value in row.items()
    }


def csv_cell(cell: str | int | None) -> str:
    """A cell as text; what a spreadsheet would run as a formula is put behind an apostrophe (OWASP, CSV injection)."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if isinstance(cell, str) and text[:1] in _FORMULA else text


def csv_columns(*, whole: bool) -> list[str]:
    """The first line of a trail in CSV."""
    return [name for name in COLUMNS if whole or name not in (*HIDDEN_AT_SITE, "private")]


def csv_lines(rows: Iterable[Mapping[str, Any]], *, whole: bool) -> Iterator[str]:
    """Rows as lines of CSV (RFC 4180): one column a field of any kind, whether a row has it or not."""
    names = csv_columns(whole=whole)
    yield _csv_line(names)
    for row in map(cells, rows):
        yield _csv_line([csv_cell(row.get(name)) for name in names])


def json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rows as one JSON array, a row a line."""
    before = "["
    for row in rows:
        yield f"{before}\n{json.dumps(row, ensure_ascii=True)}"
        before = ","
    yield f"{'[' if before == '[' else ''}\n]\n"


class _Line:
    """Takes one line of csv.writer."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _csv_line(values: Sequence[str]) -> str:
    line = _Line()
    csv.writer(line).writerow(values)
    return line.text


class _Row(NamedTuple):
    """One row of a given trail: as typed in JSON, or the texts of a CSV line."""

    given: str
    content: dict[str, Any]
    is_text: bool

    def differs_from(self, record: Record, private: Mapping[str, str]) -> str:
        """The column in which it says something else than the log's record; "" when in none."""
        whole = bool(self.content.get("body"))
        told = private if self.content.get("private") else {}  # an export of scope evidence leaves them out
        own = trail_row(record, told if whole else None)
        if self.is_text:
            flat = cells(own)
            own = {name: csv_cell(flat.get(name)) for name in {**self.content, **own}}
        return next((name for name in {**own, **self.content} if not _same(own, self.content, name)), "")


def _same(own: Mapping[str, Any], given: Mapping[str, Any], name: str) -> bool:
    """Whether a column says the same: true is not 1, and 1.0 is neither."""
    return (name in own) == (name in given) and json.dumps(own.get(name)) == json.dumps(given.get(name))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice in one row")
    return dict(pairs)


class Trails:
    """Trails written elsewhere, held to the records of the log as they pass (docs/spec.md §11.2, check 27)."""

    def __init__(self, given: Iterable[Given]) -> None:
        self.findings: list[Finding] = []
        self._rows: dict[int, list[_Row]] = {}
        for trail in given:
            try:
                for row in _parse(trail):
                    self._rows.setdefault(_seq_of(row), []).append(row)
            except EvidenceError as error:
                self.findings.append(Finding(check="27 trail", message=f"{trail.name}: {error.message}"))

    def take(self, record: Record, details: Mapping[str, Detail]) -> None:
        """The next record, with its private details."""
        private = {name: detail.value for name, detail in details.items()}
        for row in self._rows.pop(record.seq, ()):
            if name := row.differs_from(record, private):
                said = f"{row.given}: {name} is not what the log's record says"
                self.findings.append(Finding(check="27 trail", seq=record.seq, message=said))

    def judge(self, *, complete: bool) -> list[Finding]:
        """All findings; of rows that no record answered only where the log was followed to its end."""
        for seq, rows in sorted(self._rows.items()) if complete else ():
            said = "the log has no such record: records were lost or rewritten"
            self.findings += [Finding(check="27 trail", seq=seq, message=f"{row.given}: {said}") for row in rows]
        return self.findings


def _seq_of(row: _Row) -> int:
    seq = row.content.get("seq")
    if row.is_text and isinstance(seq, str) and seq.isascii() and seq.isdigit() and len(seq) <= 10:
        return int(seq)
    if not row.is_text and isinstance(seq, int) and not isinstance(seq, bool):
        return seq
    raise EvidenceError("trail", "a row has no seq")


def _parse(trail: Given) -> Iterator[_Row]:
    try:
        text = trail.data.decode("utf-8")
        if text.lstrip()[:1] == "[":
            rows = json.loads(text, object_pairs_hook=_once)
            if not rows or not all(isinstance(row, dict) for row in rows):
                raise ValueError("it has no row, or one that is no object")
            return iter([_Row(trail.name, row, is_text=False) for row in rows])
        csv.field_size_limit(MAX_BODY << 1)  # a cell may hold a whole body
        lines = csv.reader((f"{line}\n" for line in text.split("\n")), strict=True)
        names = next(lines, [])
        if names not in (csv_columns(whole=True), csv_columns(whole=False)):
            raise ValueError("its first line does not name the columns of a trail, in their order")
        rows = [row for row in lines if row]
        if not rows:
            raise ValueError("it has no row")
        if any(len(row) != len(names) for row in rows):
            raise ValueError("a row has more or fewer cells than the first one")
        return iter([_Row(trail.name, dict(zip(names, row, strict=True)), is_text=True) for row in rows])
    except (ValueError, RecursionError, csv.Error) as error:
        raise EvidenceError("trail", f"it is neither a trail in JSON nor in CSV: {error}") from error
