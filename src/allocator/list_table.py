"""The cells of a list made elsewhere, with the place of each: CSV of unknown origin, line by line. Pure.

The file is UTF-8, with or without a byte order mark; comma, semicolon or tab stands between cells (RFC 4180). A
character that would not be seen is a fault, and so is a quotation mark left open: no cell goes over a line's end.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from allocator.errors import FileProblems, Problem
from allocator.imported_list import MAX_ENTRIES
from allocator.text import MAX_TEXT, shown

MAX_LIST = 4 << 20  # bytes of a file: `MAX_ENTRIES` rows of 200 characters
MAX_PROBLEMS = 20  # listed at once
_PREAMBLE = "This document was generated on "  # of a file by saveRand: words, then the table
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run (OWASP, CSV injection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTable:
    """A file as lines of cells.

    Attributes:
        name: of the file.
        delimiter: between the cells.
        texts: all lines as they stand.
        rows: (line number, cells), the header first, at least one more.
        problems: of lines that are no row.
    """

    name: str
    delimiter: str
    texts: Sequence[str]
    rows: Sequence[tuple[int, list[str]]]
    problems: Sequence[Problem]

    def problem(self, line: int, index: int, named: str, message: str) -> Problem:
        """What is wrong in a cell; `index` counts cells from 0."""
        column = _column(self.texts[line - 1], self.delimiter, index)
        return Problem(file=self.name, line=line, column=column, field=shown(named), message=shown(message))


def refused(code: str, problems: Sequence[Problem]) -> FileProblems:
    if len(problems) > MAX_PROBLEMS:
        last = problems[MAX_PROBLEMS - 1]
        more = Problem(file=last.file, line=last.line, column=last.column, field="", message="there are more after it")
        problems = [*problems[:MAX_PROBLEMS], more]
    return FileProblems(code, problems)


def read_table(name: str, data: bytes) -> ListTable:
    """The cells of a file. FileProblems where it is no table of visible text."""
    texts = _lines(name, data)
    start = 0
    if texts[0].startswith(_PREAMBLE):
        start = next(
            (n for n, text in enumerate(texts) if text.lower().startswith(('"allocation"\t', "allocation\t"))), 0
        )
    header = texts[start]
    delimiter = max(",;\t", key=header.count)
    rows, problems = [], []
    for line, text in enumerate(texts[start:], start + 1):
        at = None if text.isascii() and text.isprintable() else _hidden(text, delimiter)
        if at is not None:
            said = f"the unprintable character {shown(text[at])}"
            problems.append(Problem(file=name, line=line, column=at + 1, field="", message=said))
        elif not text.strip():
            problems.append(Problem(file=name, line=line, column=1, field="", message="the line is blank"))
        else:
            try:
                rows.append((line, next(csv.reader([text], delimiter=delimiter, strict=True))))
            except csv.Error as error:
                problems.append(Problem(file=name, line=line, column=1, field="", message=f"no line of CSV: {error}"))
        if len(problems) > MAX_PROBLEMS or len(rows) > MAX_ENTRIES + 1:
            break
    if len(rows) > MAX_ENTRIES + 1:
        said = f"more than {MAX_ENTRIES} entries, which is all that can be sealed"
        problems.append(Problem(file=name, line=rows[-1][0], column=1, field="", message=said))
    if len(rows) < 2 and not problems:
        problems.append(Problem(file=name, line=start + 1, column=1, field="", message="there is no row after it"))
    if len(rows) < 2 or rows[0][0] != start + 1:
        raise refused("list-file", problems)
    return ListTable(name=name, delimiter=delimiter, texts=texts, rows=rows, problems=problems)


def _hidden(text: str, delimiter: str) -> int | None:
    """Where the first character stands that would not be seen, from 0."""
    return next(
        (at for at, character in enumerate(text) if character != delimiter and shown(character) != character), None
    )


def _lines(name: str, data: bytes) -> list[str]:
    """Lines without their ends, blank ones at the end of the file dropped; at least one."""
    said, line = "", 0
    if len(data) > MAX_LIST:
        said = f"{len(data)} bytes; at most {MAX_LIST} are read"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        said = "it is UTF-16: save it as CSV in UTF-8"
    elif not data.strip():
        said = "it is empty"
    else:
        try:
            texts = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            said, line = f"byte {error.start} is not UTF-8", data[: error.start].count(b"\n") + 1
    if said:
        raise FileProblems("list-file", [Problem(file=name, line=line, column=int(line > 0), field="", message=said)])
    texts = [text.removesuffix("\r") for text in texts]
    while len(texts) > 1 and not texts[-1]:
        texts.pop()
    return texts


def _column(text: str, delimiter: str, index: int) -> int:
    """Where a cell of a line begins, from 1."""
    quoted = False
    for at, character in enumerate(text):
        if not index:
            return at + 1
        quoted ^= character == '"'
        index -= character == delimiter and not quoted
    return max(1, len(text))


def cell_fault(text: str) -> str:
    """Why a cell cannot be read as it stands, or ""."""
    if not text.strip():
        return "the cell is blank"
    if text != text.strip():
        return f"{text!r} has a blank at its edge"
    if len(text) > MAX_TEXT:
        return f"{len(text)} characters where at most {MAX_TEXT} fit"
    if text.startswith(_FORMULA):
        return f"{text[:40]!r} would run as a formula in a spreadsheet"
    return ""
