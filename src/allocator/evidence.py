"""The evidence of a study in a home: its files, and the rows of its log, read as they lie there (docs/spec.md §11.1).

The log is read by `sqlite_evidence`, on a copy of the file, or by `postgres_evidence`, in a snapshot.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from allocator.errors import AllocatorError, InputError
from allocator.home import StudyPlace, is_file, studies_in
from allocator.keys import LOCK_SECONDS, KeyFolder, wait_in_line
from allocator.sqlite_evidence import copy_log, log_in_copy
from allocator.stores import address_of, first_record, need_postgres
from allocator.study import MAX_FILE, Study, toml_tables
from allocator.text import shown
from allocator.verdict import Evidence, Finding, LogRead


def place_of(path: Path, study: str | None) -> StudyPlace:
    """The study that a path means: a home, a study's folder in schedules/, or its log. InputError for anything else."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow the links that must be seen)
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
    place = StudyPlace(home=folder.parent.parent, study=folder.name)
    if folder.parent.name == "schedules" and place.has_log:
        return place
    raise InputError(
        "no-study",
        f"{shown(str(path))} is neither a home nor a study's folder with its log",
        "Give a folder that has schedules/ and keys/, or schedules/STUDY in it.",
    )


@contextmanager
def read_evidence(place: StudyPlace, given_heads: tuple[bytes, ...] = (), **given: Any) -> Iterator[Evidence]:
    """The evidence of a study in a home; rows are read while the context lasts.

    Args:
        place: where it lies.
        given_heads: hashes of records known from elsewhere.
        given: `given_checkpoints`, `given_receipts`, `given_trails` of `Evidence`.
    """
    address = address_of(place)
    with ExitStack() as stack:
        with _no_writer(place):
            beside = read_beside(place)
            # what is read later is of this moment: a copy of the file, or a snapshot of the database
            moment = _snapshot(stack, address) if address else copy_log(place.log_file, _folder(stack))
        log = stack.enter_context(log_in_copy(*moment)) if isinstance(moment, tuple) else moment(place)
        yield with_log(beside, log, given_heads=given_heads, **given)


@contextmanager
def read_file(log: Path) -> Iterator[LogRead]:
    """The log in a file, from a copy of it; for who knows that nobody writes there."""
    with ExitStack() as stack:
        yield stack.enter_context(log_in_copy(*copy_log(log, _folder(stack))))


def read_beside(place: StudyPlace) -> Evidence:
    """The evidence of a study in a home, but for the rows of its log."""
    findings = _file_findings(place)
    study, study_findings = _read_study(place)
    sealed_files = _contents(findings, place.sealed_file, place.sealed_file.with_name("sealed.json.next"))
    registry = _contents(findings, place.registry_file)
    seeds = _contents(findings, place.seed_file, place.next_seed_file)
    head, head_findings = _read_head(place)
    return Evidence(
        study=study,
        rows=(),
        sealed_files=sealed_files,
        registry=registry[0] if registry else None,
        local_head=head,
        seeds=seeds,
        findings=(*findings, *study_findings, *head_findings),
    )


def with_log(beside: Evidence, log: LogRead, **given: Any) -> Evidence:
    """The same with the rows of a log, and what was given from elsewhere."""
    return replace(
        beside,
        rows=log.rows,
        readable=log.readable,
        row_count=log.row_count,
        chain=log.chain,
        findings=(*beside.findings, *log.findings),
        **given,
    )


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-verify-")))


def _snapshot(stack: ExitStack, address: str) -> Callable[[StudyPlace], LogRead]:
    """A snapshot of the database, and what reads a study's log from it."""
    need_postgres()
    from allocator.postgres_evidence import read_log, snapshot

    connection = stack.enter_context(snapshot(address))
    return lambda place: read_log(connection, address, place, first_record(place))


@contextmanager
def _no_writer(place: StudyPlace) -> Iterator[None]:
    """Wait for whoever is writing: a copy taken in the middle of a commit is torn, and would be called broken.

    Nothing is written for it. Where the lock cannot be had (a copied home, a reader who may not look into keys/, a
    writer that hangs), the files are read as they are.
    """
    try:
        descriptor = os.open(place.keys / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            wait_in_line(place.keys, descriptor, fcntl.LOCK_SH, LOCK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        return False


def _read_head(place: StudyPlace) -> tuple[tuple[int, bytes] | None, list[Finding]]:
    """The local head; none for a reader who may not look into keys/, as for a home without one."""
    path = place.keys / "head"
    if os.path.lexists(path) and not is_file(path):
        return None, [Finding(check="21 local head", message="keys/<study>/head is no regular file")]
    try:
        return KeyFolder(place.keys).read_head(), []
    except AllocatorError as error:
        if isinstance(error.__cause__, PermissionError):
            return None, []
        return None, [Finding(check="21 local head", message=error.message)]


def _contents(findings: list[Finding], *paths: Path) -> tuple[bytes, ...]:
    """The bytes of those files that are there; one that cannot be read is a finding."""
    contents = []
    for path in paths:
        try:
            if is_file(path):
                contents.append(path.read_bytes())
        except OSError as error:
            findings.append(_finding("01 files", f"{path.name} cannot be read: {error.strerror}"))
    return tuple(contents)


def _file_findings(place: StudyPlace) -> list[Finding]:
    findings = []
    folders = (place.home, place.schedules.parent, place.keys.parent, place.schedules, place.keys)
    files = [
        place.log_file,
        place.postgres_file,
        place.study_file,
        place.sealed_file,
        place.registry_file,
        place.seed_file,
    ]
    files.append(place.keys / "head")
    beside = [place.log_file.with_name(place.log_file.name + suffix) for suffix in ("-journal", "-wal", "-shm")]
    for path in (*folders, *files, beside[0]):
        if _is_link(path):
            findings.append(_finding("01 files", f"{shown(path.name)} is a symbolic link"))
    in_postgres = os.path.lexists(place.postgres_file)  # `first_record` reads that file, or says what is wrong with it
    for path in (place.study_file,) if in_postgres else (place.log_file, place.study_file):
        if not is_file(path) and not _is_link(path):
            findings.append(_finding("01 files", f"{path.name} is not there"))
    for path in beside[1:]:
        if os.path.lexists(path):
            findings.append(_finding("01 files", f"{path.name} lies beside the log, which is never written so"))
    return findings


def _read_study(place: StudyPlace) -> tuple[Study | None, list[Finding]]:
    try:
        if not place.study_file.is_file():  # check 01 says so; to read from a pipe would never end
            return None, []
        with place.study_file.open("rb") as stream:
            study = Study.from_tables(toml_tables(stream.read(MAX_FILE + 1)))
        _ = study.fingerprint, study.zone  # made now: a value outside the canonical form fails here, not later
        return study, []
    # ValueError: no UTF-8, no TOML, no study, an integer of too many digits; OverflowError: a pattern's repeat count
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        return None, [_finding("08 study file", f"study.toml cannot be read: {shown(str(error))}")]


def _finding(check: str, message: str) -> Finding:
    return Finding(check=check, message=message)
