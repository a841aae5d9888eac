"""What a verification looks at and what it says: Evidence with its rows in, Verdict with its findings out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from allocator.chain import Chain
from allocator.errors import AllocatorError
from allocator.export import Export
from allocator.log import Detail
from allocator.study import Study

Columns = tuple[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold: the check, the record (None: the whole), what was expected and what was found."""

    check: str
    message: str
    seq: int | None = None
    expected: Any = None
    found: Any = None

    @classmethod
    def of(cls, check: str, error: AllocatorError, *, seq: int | None = None, file: str = "") -> Finding:
        """What an error says, about the record or the file named."""
        details = error.details if isinstance(error.details, dict) else {}
        message = f"{file}: {error.message}" if file else error.message
        return cls(check=check, seq=seq, message=message, expected=details.get("expected"), found=details.get("found"))

    def as_json(self) -> dict[str, Any]:
        """The finding object of the command line."""
        return {
            "check": self.check,
            "seq": self.seq,
            "expected": self.expected,
            "found": self.found,
            "message": self.message,
        }


class Row(NamedTuple):
    """One stored row, as scanned by rowid: nothing in it is believed yet.

    `columns` is None where nothing stands beside a body; `fault` says why it could not be read, `fault_check` which
    check says so.
    """

    rowid: int
    seq: Any
    prev: Any
    body: Any
    columns: Columns | None
    details: Mapping[str, Detail]
    fault: str = ""
    fault_check: str = "04 integrity"


class Given(NamedTuple):
    """A file, by the name under which it was given."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """What was read of a log, wherever it lies: see the attributes of the same names of `Evidence`."""

    rows: Iterable[Row]
    row_count: int
    chain: Chain | None
    readable: bool = True
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a verification looks at.

    Attributes:
        study: parsed from the home's study.toml, None when it is not there or is no study.
        rows: the stored rows in order of rowid, read once.
        sealed_files: bytes of sealed.json (and of sealed.json.next, left by a crash).
        registry: bytes of registry.json, or None.
        local_head: (seq, hash) of keys/<study>/head, or None.
        given_heads: hashes of records known from elsewhere.
        given_roots: root of the list as deposited elsewhere; it anchors the list, not the log.
        given_checkpoints, given_receipts, given_trails: files kept elsewhere.
        own_checkpoints, own_receipts: those that an export carries itself; they anchor nothing.
        seeds: bytes of seed.json (and of seed.json.next, left by a crash).
        export: the files of an export, None for a home.
        withheld: the private details are not there, as in an export without them.
        row_count: how many rows there are to read.
        chain: what the chain pass over them found, where they lie in a database.
        readable: False when the rows could not be read at all; no head is judged then.
        findings: of reading, checks 01 to 05, 08 and 20.
    """

    study: Study | None
    rows: Iterable[Row]
    sealed_files: tuple[bytes, ...] = ()
    registry: bytes | None = None
    local_head: tuple[int, bytes] | None = None
    given_heads: tuple[bytes, ...] = ()
    given_roots: tuple[bytes, ...] = ()
    given_checkpoints: tuple[Given, ...] = ()
    given_receipts: tuple[Given, ...] = ()
    given_trails: tuple[Given, ...] = ()
    own_checkpoints: tuple[Given, ...] = ()
    own_receipts: tuple[Given, ...] = ()
    seeds: tuple[bytes, ...] = ()
    export: Export | None = None
    withheld: bool = False
    row_count: int = 0
    chain: Chain | None = None
    readable: bool = True
    findings: tuple[Finding, ...] = ()

    @property
    def is_anchored(self) -> bool:
        """Whether anything from elsewhere was given to compare with."""
        return bool(self.given_heads or self.given_checkpoints or self.given_receipts or self.given_trails)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result: ``intact``, ``intact-local``, ``intact-unanchored`` or ``broken``, and why.

    Attributes:
        records: how many are stored.
        followed: how many of them the chain could be followed; `head` is the hash of the last of these.
        moved: where the log went by its last record, so that nothing follows here; None for a log that goes on.
        left_out: findings that are not listed, because a log wrong at every record has millions.
        facts: of a receipt by itself: what it says, by a word for each.
    """

    verdict: str
    records: int
    followed: int
    head: bytes
    root: str | None
    moved: str | None = None
    findings: tuple[Finding, ...] = field(default=())
    left_out: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result object of `allocator verify`."""
        return {
            "verdict": self.verdict,
            "records": self.records,
            "followed": self.followed,
            "head": self.head.hex(),
            "root": self.root,
            "findings": [finding.as_json() for finding in self.findings],
            "left_out": self.left_out,
            **({"moved": self.moved} if self.moved else {}),
            **({"receipt": dict(self.facts)} if self.facts else {}),
        }
