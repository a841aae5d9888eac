"""A backup: one tar file of a study at one moment, with a manifest (docs/spec.md §15).

Plain `tar` reads it. It holds no head: a head put back with its log would hide what came after the backup.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from allocator import PROGRAM
from allocator.canonical import CanonicalError, canonical_bytes, format_time, parse_canonical, parse_time
from allocator.errors import EvidenceError, InputError, StorageError
from allocator.home import StudyPlace, sync_folder
from allocator.study_copy import copy_study, follow, has_a_place
from allocator.text import is_identifier, shown

if TYPE_CHECKING:
    pass

FORMAT = "allocator-backup/1"
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 22
_CHUNK = 1 << 20
_FIELDS = {"format", "study", "time", "program", "records", "head", "files"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds.

    Attributes:
        study: its id.
        time: when it was made, UTC.
        records: how many records its log has; `head` is the hash of the last one, 32 bytes.
        files: (path in a home, bytes, SHA-256 in hexadecimal), in the order of the tar.
    """

    study: str
    time: datetime
    records: int
    head: bytes
    files: tuple[tuple[str, int, str], ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_bytes(
            {
                "format": FORMAT,
                "study": self.study,
                "time": format_time(self.time),
                "program": PROGRAM,
                "records": self.records,
                "head": self.head.hex(),
                "files": [{"path": path, "bytes": size, "sha256": digest} for path, size, digest in self.files],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """EvidenceError when this is no manifest, or names a file that has no place in a home."""
        try:
            plain = parse_canonical(data, limit=MAX_MANIFEST)
            if plain.keys() != _FIELDS or plain["format"] != FORMAT or not is_identifier(plain["study"]):
                raise CanonicalError("other fields than a manifest has")
            manifest = cls(
                study=plain["study"],
                time=parse_time(plain["time"]),
                records=int(plain["records"]),
                head=bytes.fromhex(plain["head"]),
                files=tuple((str(f["path"]), int(f["bytes"]), str(f["sha256"])) for f in plain["files"]),
            )
            paths = [path for path, _, _ in manifest.files]
            if len(set(paths)) != len(paths) or not all(has_a_place(path, manifest.study) for path in paths):
                raise CanonicalError("a file with no place in a home, or one twice")
            return manifest
        except (CanonicalError, KeyError, TypeError, ValueError) as error:
            raise _no_backup(f"its manifest does not hold: {error}") from error


def write_backup(place: StudyPlace, file: Path, moment: datetime) -> tuple[Manifest, str]:
    """Back a study up while others write, and read the backup again; returns its manifest and its SHA-256.

    Writers wait only while the log is copied as it stands; hashing, following the chain and syncing come after.

    Raises:
        InputError: the file is there already, or would lie in the home's own folders.
        StorageError: it could not be written; there is no file of this name then.
        EvidenceError: the chain of the log does not hold.
    """
    _check_target(place, file)
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
            copies = copy_study(place, Path(folder))
            # following the chain and hashing the files are as long as each other, and each leaves a processor free
            with ThreadPoolExecutor(1) as other:
                log = copies[f"schedules/{place.study}/log.sqlite3"]
                digests = other.submit(lambda: [_digest(copy) for copy in copies.values()])
                records, head = follow(log)
            files = tuple(
                (path, copy.stat().st_size, digest)
                for (path, copy), digest in zip(copies.items(), digests.result(), strict=True)
            )
            manifest = Manifest(study=place.study, time=moment, records=records, head=head, files=files)
            unnamed = Path(folder) / "backup.tar"
            with open(unnamed, "xb", opener=_private) as stream:
                _write_tar(stream, manifest, copies)
                stream.flush()
                os.fsync(stream.fileno())
            with ThreadPoolExecutor(1) as other:
                whole = other.submit(_digest, unnamed)
                again = read_backup(unnamed)
            if again.to_bytes() != manifest.to_bytes():
                raise StorageError("backup", "the backup read again is not what was written", "Use another disk.")
            digest = whole.result()
            _name(unnamed, file)
        sync_folder(file.parent)
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{shown(str(file))}: {error.strerror}", "There is no backup. Try another place."
        ) from error
    return manifest, digest


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _name(unnamed: Path, file: Path) -> None:
    """Give the finished file its name, never over a file that is there."""
    try:
        os.link(unnamed, file)
    except PermissionError:  # a disk without hard links, such as a stick
        if file.exists():
            raise FileExistsError(errno.EEXIST, "is there already", str(file)) from None
        unnamed.rename(file)


def _check_target(place: StudyPlace, file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise InputError("file-exists", f"{shown(str(file))} is there already", "Give another name.")
    if not file.parent.is_dir():
        raise InputError("no-folder", f"{shown(str(file.parent))} is no folder", "Make it first.")
    folder = file.parent.resolve()
    if any(folder.is_relative_to(own.resolve()) for own in (place.schedules, place.keys)):
        raise InputError("inside-home", "a backup beside the log is lost with it", "Give a file on another disk.")


def _write_tar(stream: BinaryIO, manifest: Manifest, copies: dict[str, Path]) -> None:
    with tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT, copybufsize=_CHUNK) as tar:
        data = manifest.to_bytes()
        tar.addfile(_entry(MANIFEST, len(data), manifest.time), io.BytesIO(data))
        for path, size, _ in manifest.files:
            with copies[path].open("rb") as source:
                tar.addfile(_entry(path, size, manifest.time), source)


def _entry(path: str, size: int, moment: datetime) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime, entry.mode = size, int(moment.timestamp()), _mode(path)
    return entry


def _mode(path: str) -> int:
    """Keys, and a share of the seed, are for their owner only."""
    return 0o600 if path.startswith("keys/") or "/share-" in path else 0o644


def read_backup(file: Path) -> Manifest:
    """Read a backup through: its manifest, and every file in it held to it. EvidenceError when it is none."""
    with _members(file) as (manifest, members):
        for (path, _, digest), stream in members:
            if _digest_of(stream) != digest:
                raise _no_backup(f"{path} was changed")
    return manifest


def unpack(file: Path, folder: Path) -> Manifest:
    """Unpack a backup into a new folder, laid out as a home, every file held to the manifest and synced.

    Raises:
        EvidenceError: it is no backup, or one that was changed.
        StorageError: it could not be written.
    """
    try:
        with _members(file) as (manifest, members):
            for (path, _, digest), stream in members:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with target.open("xb") as copy:
                    os.fchmod(copy.fileno(), _mode(path))
                    shutil.copyfileobj(stream, copy, _CHUNK)
                    copy.flush()
                    os.fsync(copy.fileno())
                if _digest(target) != digest:
                    raise _no_backup(f"{path} was changed")
    except OSError as error:
        raise StorageError(
            "cannot-write", f"the backup could not be unpacked: {error.strerror}", "Nothing was put back."
        ) from error
    return manifest


@contextmanager
def _members(file: Path) -> Iterator[tuple[Manifest, Iterator[tuple[tuple[str, int, str], Any]]]]:
    """The manifest, then each file of it with a stream of its bytes: nothing else may be in the tar."""
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST or not _is_plain(first) or first.size > MAX_MANIFEST:
                raise _no_backup("it does not begin with a manifest")
            content = tar.extractfile(first)
            manifest = Manifest.from_bytes(content.read() if content else b"")

            def members() -> Iterator[tuple[tuple[str, int, str], Any]]:
                for wanted in manifest.files:
                    entry = tar.next()
                    if entry is None or not _is_plain(entry) or (entry.name, entry.size) != wanted[:2]:
                        raise _no_backup(f"{wanted[0]} is not where the manifest says")
                    yield wanted, tar.extractfile(entry)
                if tar.next() is not None:
                    raise _no_backup("it holds more than its manifest says")

            yield manifest, members()
    except (tarfile.TarError, EOFError) as error:
        raise _no_backup(str(error)) from error
    except FileNotFoundError as error:
        raise InputError("cannot-read", f"{shown(str(file))} is not there", "Check the file's name.") from error


def _is_plain(entry: tarfile.TarInfo) -> bool:
    """A regular file of ustar, as many bytes as stand in the tar: a hole of terabytes would be read for ever."""
    return entry.type == tarfile.REGTYPE and not entry.pax_headers and entry.sparse is None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(stream: Any) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _no_backup(why: str) -> EvidenceError:
    return EvidenceError("backup", f"this is no whole backup: {why}", "Nothing was put back. Try another copy of it.")
