"""Read an export for verification, believing nothing: files as they lie there, records line by line (spec §18.4)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from allocator.canonical import CanonicalError, parse_canonical
from allocator.criterion import StudyError
from allocator.errors import AllocatorError
from allocator.export import (
    CERTIFICATE,
    CHECKPOINT,
    DETAILS,
    MANIFEST,
    MAX_LINE,
    RECEIPT_PREFIX,
    RECORDS,
    SEED,
    STUDY,
    SUMS,
    Export,
    File,
    parse_detail_line,
    parse_record_line,
)
from allocator.home import is_file
from allocator.keys import KeyFolder
from allocator.log import Detail
from allocator.receipt import MAX_RECEIPT
from allocator.seed import MAX_SEED
from allocator.study import Study
from allocator.text import shown
from allocator.verdict import Evidence, Finding, Given, Row

_MAX_SMALL = 1 << 24
_LIMITS = {"sealed.json": 1 << 31, "registry.json": _MAX_SMALL, SEED: MAX_SEED}
_NEEDED = (MANIFEST, STUDY, RECORDS)


def is_export(path: Path) -> bool:
    """Whether a folder is meant as an export, and not as a home or an unpacked backup, which have folders."""
    return (path / RECORDS).exists() or ((path / MANIFEST).exists() and not (path / "schedules").is_dir())


@contextmanager
def read_export(path: Path, given_heads: tuple[bytes, ...] = (), **given: Any) -> Iterator[Evidence]:
    """The evidence of an export; its records are read while the context lasts.

    Args:
        path: the folder.
        given_heads: hashes of records known from elsewhere.
        given: `given_checkpoints`, `given_receipts`, `given_trails` of `Evidence`.
    """
    reader = _Reader(path)
    study = reader.study()
    head = reader.head()
    withheld = not is_file(path / DETAILS)
    count = reader.count_records()
    details_end = 0 if withheld else reader.check_details(count)
    sealed, registry, seed = (reader.content(name, limit) for name, limit in _LIMITS.items())
    yield Evidence(
        study=study,
        rows=_rows(path, details_end),
        sealed_files=(sealed,) if sealed is not None else (),
        registry=registry,
        local_head=head,
        given_heads=given_heads,
        seeds=(seed,) if seed is not None else (),
        own_checkpoints=reader.own(lambda name: name == CHECKPOINT),
        own_receipts=reader.own(lambda name: name.startswith(RECEIPT_PREFIX)),
        export=Export(
            files=reader.files,
            manifest=reader.content(MANIFEST, _MAX_SMALL) or b"",
            certificate=reader.content(CERTIFICATE, _MAX_SMALL) or b"",
            sums=reader.content(SUMS, _MAX_SMALL) or b"",
        ),
        withheld=withheld,
        row_count=count,
        readable=is_file(path / RECORDS),
        findings=tuple(reader.findings),
        **given,
    )


class _Reader:
    """Reads the files of one export; what is wrong with them becomes findings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.findings: list[Finding] = []
        self.files: dict[str, File] = {}
        self._list_files()

    def _list_files(self) -> None:
        for entry in sorted(os.scandir(self._path), key=lambda entry: entry.name):
            if entry.is_symlink():
                self._found("01 files", f"{shown(entry.name)} is a symbolic link")
            elif is_file(Path(entry.path)):
                try:
                    with Path(entry.path).open("rb") as stream:
                        digest = hashlib.file_digest(stream, "sha256").hexdigest()
                        self.files[entry.name] = File(size=os.fstat(stream.fileno()).st_size, sha256=digest)
                except OSError as error:
                    self._found("01 files", f"{shown(entry.name)} cannot be read: {error.strerror}")
            else:
                self.files[entry.name] = File(size=-1, sha256="")  # a folder or a pipe: in no manifest
        for name in _NEEDED:
            if not is_file(self._path / name) and not (self._path / name).is_symlink():
                self._found("01 files", f"{name} is not there")

    def _found(self, check: str, message: str, seq: int | None = None) -> None:
        self.findings.append(Finding(check=check, seq=seq, message=message))

    def content(self, name: str, limit: int) -> bytes | None:
        """The bytes of a file, None when it is not there; one byte more than the limit of a longer one."""
        with suppress(OSError):
            if is_file(self._path / name):
                with (self._path / name).open("rb") as stream:
                    return stream.read(limit + 1)
        return None

    def own(self, wanted: Any) -> tuple[Given, ...]:
        """Files of the export itself that are checked like those given."""
        names = [name for name, file in self.files.items() if wanted(name) and file.size >= 0]
        return tuple(Given(shown(name), self.content(name, MAX_RECEIPT) or b"") for name in names)

    def study(self) -> Study | None:
        """study.json; None when it is no study."""
        data = self.content(STUDY, _MAX_SMALL)
        if data is None:
            return None
        try:
            study = Study.from_plain(parse_canonical(data))
            _ = study.fingerprint, study.zone
            return study
        except (CanonicalError, StudyError, ValueError, OverflowError, RecursionError) as error:
            self._found("08 study file", f"{STUDY} is no study: {shown(str(error))}")
            return None

    def head(self) -> tuple[int, bytes] | None:
        """The head that the export carries."""
        try:
            return KeyFolder(self._path).read_head()
        except AllocatorError:
            self._found("21 local head", "the file head is no head")
            return None

    def count_records(self) -> int:
        """How many lines of records there are; check 05 where there is none."""
        with suppress(OSError):
            if is_file(self._path / RECORDS):
                with (self._path / RECORDS).open("rb") as stream:
                    if count := sum(1 for _ in _lines(stream)):
                        return count
                self._found("05 rows", "the export holds no record")
        return 0

    def check_details(self, records: int) -> int:
        """Check 20: each line is a detail, of a record, in order; returns how many bytes of the file are so."""
        try:
            return self._good_details(records)
        except OSError as error:
            self._found("20 details", f"{DETAILS} cannot be read: {error.strerror}")
            return 0

    def _good_details(self, records: int) -> int:
        before, good = (-1, b""), 0
        with (self._path / DETAILS).open("rb") as stream:
            for line in _lines(stream):
                try:
                    seq, name, _ = parse_detail_line(line)
                except CanonicalError as error:
                    self._found("20 details", f"a line of {DETAILS} is no private detail: {error}")
                    break
                if (seq, name.encode("utf-8")) <= before or seq >= records:
                    said = "of no record" if seq >= records else "twice, or out of order"
                    self._found("20 details", f"a private detail {said}", seq)
                    break
                before, good = (seq, name.encode("utf-8")), good + len(line)
        return good


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines of a file; one that is longer than any may be is cut there, and the rest of it is passed over."""
    while line := stream.readline(MAX_LINE):
        yield line
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE)


def _rows(path: Path, details_end: int) -> Iterator[Row]:
    """Records with their details, by one pass over each file; a line that is no record is the last one."""
    details = _details(path, details_end)
    following = next(details, None)
    try:
        with (path / RECORDS).open("rb") as stream:
            for seq, line in enumerate(_lines(stream)):
                own: dict[str, Detail] = {}
                while following is not None and following[0] <= seq:
                    own[following[1]] = following[2]
                    following = next(details, None)
                yield _row(seq, line, own)
    except OSError as error:
        yield _fault(0, f"{RECORDS} cannot be read: {error.strerror}")


def _details(path: Path, end: int) -> Iterator[tuple[int, str, Detail]]:
    if not end:
        return
    with (path / DETAILS).open("rb") as stream:
        while stream.tell() < end:
            yield parse_detail_line(stream.readline(MAX_LINE))


def _row(seq: int, line: bytes, details: dict[str, Detail]) -> Row:
    try:
        prev, body = parse_record_line(line)
    except CanonicalError as error:
        return _fault(seq, f"a line of {RECORDS} is no record: {error}")
    return Row(rowid=seq, seq=seq, prev=prev, body=body, columns=None, details=details)


def _fault(seq: int, said: str) -> Row:
    return Row(rowid=seq, seq=None, prev=None, body=None, columns=None, details={}, fault=said, fault_check="05 rows")
