"""A home: a folder with schedules/ and keys/, and where things lie in it (docs/spec.md §13). Names and paths only."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from allocator.errors import EvidenceError, InputError, StorageError
from allocator.text import is_identifier, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """Where one study lies in a home."""

    home: Path
    study: str

    @property
    def schedules(self) -> Path:
        """schedules/<study>/"""
        return self.home / "schedules" / self.study

    @property
    def keys(self) -> Path:
        """keys/<study>/"""
        return self.home / "keys" / self.study

    @property
    def study_file(self) -> Path:
        """The copy of study.toml taken when the study was opened."""
        return self.schedules / "study.toml"

    @property
    def registry_file(self) -> Path:
        """The registry record, when one was given."""
        return self.schedules / "registry.json"

    @property
    def sealed_file(self) -> Path:
        """The sealed schedule."""
        return self.schedules / "sealed.json"

    @property
    def receipts(self) -> Path:
        """The receipts of allocations."""
        return self.schedules / "receipts"

    @property
    def seed_file(self) -> Path:
        """The seed, once the list is opened."""
        return self.schedules / "seed.json"

    @property
    def next_seed_file(self) -> Path:
        """The seed until its record is durable (docs/spec.md §15.5)."""
        return self.schedules / "seed.json.next"

    def share_file(self, person: str) -> Path:
        """The share of the seed that this person gave, until the list is opened."""
        return self.schedules / f"share-{person}.json"

    @property
    def log_file(self) -> Path:
        """The log."""
        return self.schedules / "log.sqlite3"

    @property
    def postgres_file(self) -> Path:
        """There instead of the log when that lies in PostgreSQL (`allocator.stores`)."""
        return self.schedules / "log.postgresql"

    @property
    def moving_file(self) -> Path:
        """There while the log is on its way to another place (`allocator.transit`)."""
        return self.schedules / "log.moving"

    @property
    def has_log(self) -> bool:
        """Whether the study was opened: its log is here, or is said to be in PostgreSQL."""
        return self.log_file.exists() or self.postgres_file.exists()

    def check(self) -> None:
        """Refuse a place that leads elsewhere: whoever owns a symbolic link decides what we read.

        Raises:
            InputError: a symbolic link, or a study that is not there.
        """
        for path in (self.home, self.home / "schedules", self.home / "keys", self.schedules, self.keys):
            refuse_symlink(path)
        for path in (self.study_file, self.sealed_file, self.log_file, self.postgres_file):
            refuse_symlink(path)


def is_file(path: Path) -> bool:
    """Whether a regular file is there, and no symbolic link, pipe or folder."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def refuse_symlink(path: Path) -> None:
    """InputError when the path itself is a symbolic link."""
    if path.is_symlink():
        raise InputError(
            "symbolic-link",
            f"{shown(str(path))} is a symbolic link",
            "Give the real folder: a link can be turned to another place unnoticed.",
        )


def find_home(start: Path) -> Path:
    """The nearest folder upwards that has schedules/ and keys/. InputError when there is none."""
    for folder in (start, *start.parents):
        if (folder / "schedules").is_dir() and (folder / "keys").is_dir():
            return folder
    raise InputError(
        "no-home",
        "no home here: no folder upwards has both schedules/ and keys/",
        "Give --home DIR, or set ALLOCATOR_HOME.",
    )


def studies_in(home: Path) -> list[str]:
    """The studies of a home: folders of schedules/ that hold a log or a study file."""
    try:
        folders = sorted((home / "schedules").iterdir())
    except OSError as error:
        if is_passing(error):
            raise StorageError(
                "unavailable", f"{shown(str(home))}: {error.strerror}", "Nothing was written. Ask again."
            ) from error
        raise InputError(
            "no-home", f"{shown(str(home))} is no home: {error.strerror}", "A home has schedules/ and keys/."
        ) from error
    return [f.name for f in folders if (f / "log.sqlite3").is_file() or (f / "study.toml").is_file()]


def study_place(home: Path, study: str | None) -> StudyPlace:
    """The place of a study, or of the only one there. InputError when it is not there or the choice is not clear."""
    found = studies_in(home)
    if study is None and len(found) == 1:
        study = found[0]
    if study is None or study not in found:
        said = "no study" if study is None else f"no study {shown(study)}"
        hint = (
            f"Studies there: {', '.join(found)}; choose one with --study."
            if found
            else "Open one with `allocator init`."
        )
        raise InputError("no-study", f"{said} chosen in {shown(str(home))}", hint)
    if not is_identifier(study):
        raise InputError("no-study", f"{shown(study)} is no study id", "A study id has no slashes or spaces.")
    place = StudyPlace(home=home, study=study)
    place.check()
    if not place.has_log and (place.keys / "head").exists():
        raise EvidenceError(
            "log-missing",
            f"study {study} had a log here, and it is gone",
            "Stop. The sponsor puts it back: allocator restore FILE --reason TEXT. Do not open the study again.",
        )
    if not place.has_log:
        raise InputError(
            "not-opened",
            f"study {study} is not opened in {shown(str(home))}: it has no log",
            "Open it with `allocator init`; if it had a log, stop and call the sponsor.",
        )
    return place


def inside_git(path: Path) -> bool:
    """True when the folder or one above it is a git work tree: a checkout there would be a rollback."""
    return any((folder / ".git").exists() for folder in (path.absolute(), *path.absolute().parents))


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a whole file or nothing: temporary file, fsync, rename, fsync of the folder. StorageError otherwise."""
    import tempfile  # not on the way of a reveal

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{path.name} could not be written: {error.strerror}", "Nothing was changed. Ask again."
        ) from error


def is_passing(error: OSError) -> bool:
    """Whether the machine failed rather than the file: the same call may do better in a moment."""
    return error.errno in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE, errno.EINTR)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_input(path: Path, *, limit: int) -> bytes:
    """The bytes of a file a user names; InputError when it cannot be read or is larger than `limit` bytes."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise InputError(
            "cannot-read", f"{shown(str(path))}: {error.strerror}", "Check the file's name and permissions."
        ) from error
    if len(data) > limit:
        raise InputError("too-large", f"{shown(str(path))} is larger than {limit} bytes", "Is it the right file?")
    return data
