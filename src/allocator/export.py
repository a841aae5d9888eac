"""An export: what a stranger needs to check a study, and how its files are held together (docs/spec.md §18). Pure.

The manifest names every file with its digest, the certificate is a person's signature over the manifest, and both are
held to the log that the export itself carries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature

from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical, parse_time, tag
from allocator.errors import EvidenceError
from allocator.log import Detail, Record
from allocator.person import check_ed25519
from allocator.record_form import has_form
from allocator.text import shown

FORMAT = "allocator-export/1"
CERTIFICATE_FORMAT = "allocator-certificate/1"
CERTIFICATE_MEANING = "I certify that this export is a true copy of the study's log and files at this time."
MANIFEST, CERTIFICATE, SUMS = "manifest.json", "certificate.json", "SHA256SUMS"
CHECKPOINT, RECORDS, DETAILS = "checkpoint.txt", "records.jsonl", "details.jsonl"
STUDY, SEALED, SEED = "study.json", "sealed.json", "seed.json"
RECEIPT_PREFIX = "receipt-"
MAX_LINE = 1 << 22  # bytes of a line of records or details: a body of 1 MiB with its quotes escaped
MAX_MANIFEST = 1 << 24
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_FIELDS = {"format", "study", "scope", "time", "program", "records", "head", "tree", "files"}
_SIGNED = {"format", "study", "manifest", "person", "role", "time", "meaning", "signature"}


class File(NamedTuple):
    """A file of an export: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export holds.

    Attributes:
        scope: ``evidence`` or ``inspection``.
        time, program: when it was made, and by what.
        records: how many; `head` is the hash of the last one, `tree` the root over all, in hexadecimal.
        files: of every file but manifest, certificate and sums.
    """

    study: str
    scope: str
    time: str
    program: str
    records: int
    head: str
    tree: str
    files: Mapping[str, File]

    def to_bytes(self) -> bytes:
        """manifest.json"""
        fields = {name: getattr(self, name) for name in self.__slots__}
        files = [{"name": name, "bytes": f.size, "sha256": f.sha256} for name, f in sorted(self.files.items())]
        return canonical_bytes({"format": FORMAT, **fields, "files": files})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """EvidenceError when it is no manifest."""
        try:
            plain = parse_canonical(data, limit=MAX_MANIFEST)
            if plain.pop("format", None) != FORMAT or plain.keys() != _FIELDS - {"format"}:
                raise CanonicalError("other fields than a manifest has")
            if not all(has_form(_FORM_OF.get(name, name), plain[name]) for name in _FIELDS - {"format", "files"}):
                raise CanonicalError("a field has another form")
            names = [item["name"] for item in plain["files"]]
            if names != sorted(set(names)) or not all(_is_entry(item) for item in plain["files"]):
                raise CanonicalError("its files are not named once each, in order, with bytes and sha256")
            files = {item["name"]: File(size=item["bytes"], sha256=item["sha256"]) for item in plain["files"]}
            return cls(**{**plain, "files": files})
        except (CanonicalError, KeyError, TypeError) as error:
            raise EvidenceError("manifest", f"{MANIFEST} is no manifest: {error}") from error


_FORM_OF = {"records": "allocated", "head": "root", "tree": "root"}  # a field of a record that has the same form


def is_name(name: str) -> bool:
    """Whether a file of an export may have this name."""
    return _NAME.fullmatch(name) is not None


def _is_entry(item: Any) -> bool:
    size = item["bytes"]
    return (
        item.keys() == {"name", "bytes", "sha256"}
        and is_name(item["name"])
        and isinstance(size, int)
        and not isinstance(size, bool)
        and size >= 0
        and has_form("root", item["sha256"])
    )


def sums(files: Mapping[str, File]) -> bytes:
    """SHA256SUMS, as `sha256sum -c` takes it: of every file but itself."""
    text = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(files.items()))
    return text.encode("utf-8", "surrogateescape")  # whatever somebody put into the folder has some name


def record_line(record: Record) -> bytes:
    """A record as one line of records.jsonl."""
    return canonical_bytes({"body": record.body.decode("utf-8"), "prev": record.prev.hex()}) + b"\n"


def detail_line(seq: int, name: str, detail: Detail) -> bytes:
    """A private detail as one line of details.jsonl."""
    return canonical_bytes({"field": name, "salt": detail.salt.hex(), "seq": seq, "value": detail.value}) + b"\n"


def parse_record_line(line: bytes) -> tuple[bytes, bytes]:
    """(prev, body) of a line. CanonicalError when it is none."""
    plain = parse_canonical(_whole(line), limit=MAX_LINE)
    if plain.keys() != {"body", "prev"} or not isinstance(plain["body"], str) or not has_form("root", plain["prev"]):
        raise CanonicalError("a line holds exactly a body and a prev of 64 hexadecimal digits")
    return bytes.fromhex(plain["prev"]), plain["body"].encode("utf-8")


def parse_detail_line(line: bytes) -> tuple[int, str, Detail]:
    """(seq, name, detail) of a line. CanonicalError when it is none."""
    plain = parse_canonical(_whole(line), limit=MAX_LINE)
    if (
        plain.keys() != {"field", "salt", "seq", "value"}
        or not isinstance(plain["field"], str)
        or not has_form("salt", plain["salt"])
        or not has_form("seq", plain["seq"])
        or not isinstance(plain["value"], str)
    ):
        raise CanonicalError("a line holds exactly a field, a salt, a seq and a value")
    return plain["seq"], plain["field"], Detail(salt=bytes.fromhex(plain["salt"]), value=plain["value"])


def _whole(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise CanonicalError("the line does not end in a newline" if len(line) < MAX_LINE else "the line is too long")
    return line[:-1]


def certificate_bytes(
    *, study: str, manifest: bytes, exported: Record, time: str, sign: Callable[[bytes], bytes]
) -> bytes:
    """certificate.json: the signed statement that the files of a manifest are a true copy (R01).

    Args:
        study: its id.
        manifest: the bytes of manifest.json.
        exported: the record of the export; its person signs.
        time: of the signature, as in a record.
        sign: Ed25519 by that person's key.
    """
    fields = {
        "format": CERTIFICATE_FORMAT,
        "study": study,
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "person": exported.fields["person"],
        "role": exported.fields["role"],
        "time": time,
        "meaning": CERTIFICATE_MEANING,
    }
    return canonical_bytes({**fields, "signature": sign(tag("certificate") + canonical_bytes(fields)).hex()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The files of an export by name, and the bytes of the three that hold the others together (b"": not there)."""

    files: Mapping[str, File]
    manifest: bytes
    certificate: bytes
    sums: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What the log in an export says of itself, once it was followed.

    Attributes:
        study: id in record 0.
        records, tree: how many, and the root over them.
        last: the last record.
        sign_key: of the person of the last record, 32 bytes; None where there is no such person.
    """

    study: str
    records: int
    tree: bytes
    last: Record
    sign_key: bytes | None


def check_files(export: Export, manifest: Manifest) -> None:
    """The files are exactly those the manifest names and the three, each of its size and digest."""
    three = {MANIFEST, CERTIFICATE, SUMS}
    for name in sorted((manifest.files.keys() | three) ^ export.files.keys()):
        said = "is not there" if name in manifest.files or name in three else "is not named in the manifest"
        raise EvidenceError("export", f"{shown(name)} {said}")
    for name, file in sorted(manifest.files.items()):
        if export.files[name] != file:
            raise EvidenceError(
                "export",
                f"{name} was changed after the export was made",
                details={"expected": file.sha256, "found": export.files[name].sha256},
            )


def check_sums(export: Export, _: Manifest) -> None:
    """SHA256SUMS says what the files are."""
    expected = sums({name: file for name, file in export.files.items() if name != SUMS}).splitlines()
    found = export.sums.splitlines()
    if expected != found or not export.sums.endswith(b"\n"):
        listed = set(found)
        other = (
            next((line for line in expected if line not in listed), b"").decode("utf-8", "replace").partition("  ")[2]
        )
        said = f"{SUMS} does not say what the files are"
        raise EvidenceError("export", f"{said}: {shown(other)}" if other else said)


def check_contents(export: Export, manifest: Manifest) -> None:
    """Private details are there exactly in scope inspection; a checkpoint always."""
    if (DETAILS in export.files) != (manifest.scope == "inspection"):
        there = "is there" if DETAILS in export.files else "is not there"
        raise EvidenceError("export", f"{DETAILS} {there}, in an export of scope {manifest.scope}")
    if CHECKPOINT not in export.files:
        raise EvidenceError("export", f"{CHECKPOINT} is not there")


def check_carried(_: Export, manifest: Manifest, carried: Carried) -> None:
    """The manifest is of the log that is there, which ends with the record of this export."""
    last = carried.last
    found = (carried.study, carried.records, last.hash.hex(), carried.tree.hex())
    expected = (manifest.study, manifest.records, manifest.head, manifest.tree)
    for name, wanted, got in zip(("study", "records", "head", "tree"), expected, found, strict=True):
        if wanted != got:
            raise EvidenceError(
                "export", f"the manifest's {name} is not the log's", details={"expected": wanted, "found": got}
            )
    if last.kind != "exported" or last.fields["scope"] != manifest.scope:
        raise EvidenceError("export", f"the last record is not that of an export of scope {manifest.scope}")


def check_certified(export: Export, manifest: Manifest) -> None:
    """The certificate is one, and of this manifest."""
    _certificate(export.certificate, {"study": manifest.study, "manifest": hashlib.sha256(export.manifest).hexdigest()})


def check_certificate(export: Export, _: Manifest, carried: Carried) -> None:
    """It is signed by the person of the last record, in that role, not before that record (R01)."""
    last = carried.last.fields
    plain = _certificate(export.certificate, {"person": last.get("person"), "role": last.get("role")})
    signature = bytes.fromhex(plain.pop("signature"))
    if parse_time(plain["time"]) < carried.last.time or carried.sign_key is None:
        raise _no_certificate("it was signed before the export was recorded, or by nobody of the study")
    try:
        check_ed25519(carried.sign_key, signature, tag("certificate") + canonical_bytes(plain))
    except (InvalidSignature, ValueError) as error:
        raise _no_certificate("its signature is not this person's over it") from error


def _certificate(data: bytes, stated: Mapping[str, Any]) -> dict[str, Any]:
    """certificate.json, parsed; what is stated must stand in it. EvidenceError otherwise."""
    try:
        plain = parse_canonical(data, limit=1 << 16)
        if plain.keys() != _SIGNED or not has_form("signature", plain["signature"]):
            raise CanonicalError("it has other fields than a certificate")
        parse_time(plain["time"])
    except (CanonicalError, TypeError) as error:
        raise _no_certificate(str(error)) from error
    for name, wanted in {"format": CERTIFICATE_FORMAT, "meaning": CERTIFICATE_MEANING, **stated}.items():
        if plain[name] != wanted:
            raise _no_certificate(f"its {name} is another one")
    return plain


def _no_certificate(why: str) -> EvidenceError:
    return EvidenceError("certificate", f"{CERTIFICATE} does not hold: {why}")


# One finding each, of check 26 (docs/spec.md §18.4), in this order: of the files, whatever the log is, and of the log.
FILE_CHECKS = (check_files, check_sums, check_contents, check_certified)
LOG_CHECKS = (check_carried, check_certificate)
