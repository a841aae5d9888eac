"""Make an export of a study: written first as a record, then copied at that moment, named last (docs/spec.md §18)."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from allocator import PROGRAM
from allocator.canonical import canonical_bytes
from allocator.errors import InputError, StorageError
from allocator.export import (
    CERTIFICATE,
    CHECKPOINT,
    DETAILS,
    MANIFEST,
    RECEIPT_PREFIX,
    RECORDS,
    SEALED,
    STUDY,
    SUMS,
    File,
    Manifest,
    detail_line,
    record_line,
    sums,
)
from allocator.home import StudyPlace, is_file, sync_folder
from allocator.keys import head_line
from allocator.log import Record
from allocator.log_copy import copy_to_file
from allocator.merkle import Tree
from allocator.publishing import PublishingService
from allocator.receipt import file_name
from allocator.stores import address_of
from allocator.text import shown
from allocator.trail import csv_lines, json_lines, trail_row
from allocator.writer import Actor

README = """This folder is an export of the clinical trial {study}, made by `allocator`.

It lets anybody check, without that program and without its makers, that the list of arms was fixed before the first
participant, that each arm told was the one fixed, and that nothing was cut from the log or changed in it since.

  python3 verify.py .        one file, standard library of Python only
  index.html                 open it in a browser and drop this folder's files on it; it uses no network
  sha256sum -c SHA256SUMS    that the files are those the export was made of

The two verifiers were written from spec.md, share no code, and say the same. A head, a checkpoint or a receipt that was
kept elsewhere shows what no export can show by itself: that the whole was not made anew. Give it to them:

  python3 verify.py . --head HASH --receipt FILE

Scope: {scope}. {scope_words}
Records: {records}. Head: {head}.
"""
SCOPE_WORDS = {
    "evidence": "It holds no answers, names or reasons, and no arm that was not yet allocated; once the list is "
    "opened, seed.json is the whole of it.",
    "inspection": "It holds everything, private details included: keep it as the study itself.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was exported: the folder's manifest, and the record that says so."""

    manifest: Manifest
    record: Record


def export_study(service: PublishingService, actor: Actor, target: Path, scope: str) -> Exported:
    """Write an export into a new folder.

    Args:
        service: the study.
        actor: an auditor or a sponsor, who certifies it.
        target: the folder; it must not be there.
        scope: ``evidence`` or ``inspection``.

    Raises:
        InputError: the folder is there already, or would lie in the home's own folders.
        Refused: this person may not.
        StorageError: it could not be written; there is no folder of this name then. That it was tried is recorded.
    """
    check_target(service.place, target)
    service.check_may(actor, "exported")
    try:
        service.finish_opening()
        service.signed_head(1, service.first_hash())  # the log's key is asked for before anything is recorded
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as staging:
            folder = Path(staging) / "export"
            folder.mkdir(mode=0o755 if scope == "evidence" else 0o700)  # private details are for their owner only
            with service.exporting(actor, scope) as record:  # nobody else writes: all files are of one moment
                _copy_files(service.place, folder, scope, opened=service.history.state == "opened")
            address = address_of(service.place) if scope == "inspection" else None
            if address is not None:  # a stranger needs no database: the log is a file here, up to this record
                copy_to_file(address, service.study.id, folder / service.place.log_file.name, until=record.seq)
            _write_records(service, folder, record, scope)
            manifest = _write_manifest(service, actor, folder, record, scope)
            folder.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            "cannot-write",
            f"{shown(str(error.filename or target))}: {error.strerror}",
            "There is no export. Try another place.",
        ) from error
    return Exported(manifest=manifest, record=record)


def check_target(place: StudyPlace, target: Path) -> None:
    """InputError unless the folder can be made: not there yet, outside the home's own folders."""
    if target.exists() or target.is_symlink():
        raise InputError("file-exists", f"{shown(str(target))} is there already", "Give the name of a new folder.")
    if not target.parent.is_dir():
        raise InputError("no-folder", f"{shown(str(target.parent))} is no folder", "Make it first.")
    parent = target.parent.resolve()
    if any(parent.is_relative_to(own.resolve().parent) for own in (place.schedules, place.keys)):
        raise InputError("inside-home", "an export has no place inside the study's own folders", "Give another folder.")


def verifier_files() -> dict[str, Path]:
    """The specification and the two verifiers: inside the installed package, or in the repository."""
    package = Path(__file__).parent
    installed, repository = package / "verifier", package.parent.parent
    if installed.is_dir():
        return {name: installed / name for name in ("spec.md", "verify.py", "index.html")}
    verifiers = repository / "verifier"
    return {
        "spec.md": repository / "docs" / "spec.md",
        "verify.py": verifiers / "verify.py",
        "index.html": verifiers / "index.html",
    }


def _copy_files(place: StudyPlace, folder: Path, scope: str, *, opened: bool) -> None:
    """What lies in the home as files; a log that others write is copied whole while nobody does."""
    files = [place.study_file, place.registry_file, place.sealed_file]
    files += [place.seed_file] if opened else []
    files += [place.log_file] if scope == "inspection" else []
    for source in files:
        if is_file(source):
            shutil.copyfile(source, folder / source.name)


def _write_records(service: PublishingService, folder: Path, exported: Record, scope: str) -> None:
    """Records, private details and the readable trail, up to the record of the export itself."""
    _write(folder / RECORDS, map(record_line, _records(service, exported)))
    if is_file(folder / SEALED):  # receipts are made from the log, never taken from a folder
        for receipt in service.all_receipts(exported.seq):
            (folder / (RECEIPT_PREFIX + file_name(receipt.record))).write_bytes(receipt.to_bytes())
    if scope == "inspection":
        _write(folder / DETAILS, _detail_lines(service, exported))
    as_csv = csv_lines(_trail(service, exported, scope), whole=True)
    as_json = json_lines(_trail(service, exported, scope))
    _write(folder / "log.csv", (line.encode("utf-8") for line in as_csv))
    _write(folder / "log.json", (line.encode("ascii") for line in as_json))


def _records(service: PublishingService, exported: Record) -> Iterator[Record]:
    for record in service.history.store.records():
        if record.seq > exported.seq:
            return
        yield record


def _detail_lines(service: PublishingService, exported: Record) -> Iterator[bytes]:
    for record in _records(service, exported):
        details = service.history.store.details(record.seq)
        for name in sorted(details, key=lambda text: text.encode("utf-8")):
            yield detail_line(record.seq, name, details[name])


def _trail(service: PublishingService, exported: Record, scope: str) -> Iterator[dict[str, object]]:
    for record in _records(service, exported):
        yield trail_row(record, service.history.details(record) if scope == "inspection" else {})


def _write_manifest(service: PublishingService, actor: Actor, folder: Path, exported: Record, scope: str) -> Manifest:
    tree = Tree()
    for record in _records(service, exported):
        tree.append(record.hash)
    checkpoint = service.signed_head(tree.size, tree.root())
    (folder / CHECKPOINT).write_bytes(checkpoint.note.encode("utf-8"))
    (folder / STUDY).write_bytes(canonical_bytes(service.study.plain()))
    (folder / "head").write_bytes(head_line(exported.seq, exported.hash))
    (folder / "README.txt").write_text(_readme(service, exported, scope), encoding="utf-8")
    for name, source in verifier_files().items():
        shutil.copyfile(source, folder / name)
    manifest = Manifest(
        study=service.study.id,
        scope=scope,
        time=exported.fields["time"],
        program=PROGRAM,
        records=tree.size,
        head=exported.hash.hex(),
        tree=tree.root().hex(),
        files=_files(folder),
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    (folder / CERTIFICATE).write_bytes(service.certificate(actor, exported, manifest.to_bytes()))
    (folder / SUMS).write_bytes(sums(_files(folder)))
    return manifest


def _readme(service: PublishingService, exported: Record, scope: str) -> str:
    return README.format(
        study=service.study.id,
        scope=scope,
        scope_words=SCOPE_WORDS[scope],
        records=exported.seq + 1,
        head=exported.hash.hex(),
    )


def _files(folder: Path) -> dict[str, File]:
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            found[path.name] = File(size=path.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())
    return found


def _write(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("xb") as stream:
        stream.writelines(lines)
