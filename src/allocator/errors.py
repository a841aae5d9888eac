"""The whole error tree. Every error says what is wrong, where, and what to do next.

    AllocatorError
    ├── Refused            exit 1  a rule of the study says no
    ├── InputError         exit 2  the call or its input is wrong
    │   └── FileProblems   exit 2  a file people write has errors: all of them at once, each with its line
    ├── EvidenceError      exit 3  what is stored does not hold together
    ├── CredentialError    exit 4  a key or a passphrase
    └── StorageError       exit 5  storage busy or unavailable: nothing was written, asking again is safe

Misuse by our own code is a RuntimeError and never reaches this tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class AllocatorError(Exception):
    """Base of all errors a user may meet.

    Args:
        code: a stable lower-case word for scripts, such as ``not-eligible``.
        message: what is wrong, and where.
        hint: what to do next.
        details: further facts, JSON-ready; never an arm that is not yet revealed.
    """

    exit_code = 2

    def __init__(self, code: str, message: str, hint: str = "", details: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def as_json(self) -> dict[str, Any]:
        """The error object of cli.md: code, message, hint, details."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class Refused(AllocatorError):
    """A rule of the study refuses the act; the refusal itself is a record of the log."""

    exit_code = 1


class InputError(AllocatorError):
    """The call or its input is wrong; nothing was done and nothing was recorded."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error in a file: where it stands (1-based line and column, 0 when unknown), which field, what is wrong."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}  {self.field}: {self.message}" if self.field else f"{place}  {self.message}"


class FileProblems(InputError):
    """All errors of one file at once, sorted by line."""

    def __init__(self, code: str, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.file, p.line, p.column, p.field))
        count = f"{len(self.problems)} error{'s' if len(self.problems) > 1 else ''}"
        lines = "\n".join(str(p) for p in self.problems)
        details = [
            {"file": p.file, "line": p.line, "column": p.column, "field": p.field, "message": p.message}
            for p in self.problems
        ]
        super().__init__(code, f"{lines}\n{count}", "Correct the file and run the command again.", details)


class EvidenceError(AllocatorError):
    """Something stored does not match what was fixed before: a log, a schedule, a study file."""

    exit_code = 3


class CredentialError(AllocatorError):
    """A passphrase, a key file, or an enrolment that is missing or wrong."""

    exit_code = 4


class StorageError(AllocatorError):
    """Storage is busy or unavailable. Nothing was written; asking again is safe."""

    exit_code = 5
