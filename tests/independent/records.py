"""§8, §9, §12: records, hashes, signatures; a whole log.sqlite3 with its study file and sealed schedule.

This reader checks bytes: encoding, chain, columns, signatures, private details, the sealed schedule, every opened
entry. Bindings and allocations (§10) stand in `trial`, eligibility (§14) in `eligibility`.
"""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import sealed
from .drawing import fingerprint, label_of, strata, study_object
from .encoding import TIME, Refused, canon, mac, parse, prefixed, sha256, tag, uint

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
UNSIGNED = ("attempt-failed", "clock-jump")
SEALING = ("generated", "imported", "resealed")


def record_hash(prev: bytes, body: bytes) -> bytes:
    """§9.1."""
    return sha256(b"\0" + prev + body)


def code_digest(study_print: bytes, person: str, code: str) -> bytes:
    """§8.3."""
    return sha256(tag("code") + study_print + prefixed(person) + prefixed(code))


def detail_commitment(salt: bytes, seq: int, name: str, value: str) -> bytes:
    """§9.3."""
    return mac(salt, tag("detail") + uint(seq, 4) + prefixed(name) + value.encode())


def unsigned(fields: dict[str, Any]) -> bytes:
    """§8.4: canon of the body without its signature."""
    return canon({key: value for key, value in fields.items() if key != "signature"})


def check_signature(key: bytes, signature: bytes, prev: bytes, fields: dict[str, Any]) -> None:
    """§8.4."""
    if len(key) != 32 or len(signature) != 64 or int.from_bytes(signature[32:], "little") >= ORDER:
        raise Refused("no Ed25519 signature")
    for point in (key, signature[:32]):
        y = int.from_bytes(point, "little") % 2**255
        if y >= FIELD or _is_small(y):
            raise Refused("an encoding that is refused")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, tag("sign") + prev + unsigned(fields))
    except (InvalidSignature, ValueError) as error:
        raise Refused("the signature does not hold") from error


def _is_small(y: int) -> bool:
    """y of a point of order 1, 2, 4 or 8: 8 P = 0 by doubling on -x² + y² = 1 + d x² y²."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    for _ in range(3):
        # y of 2P from y alone: y(2P) = (y² + x²) / (2 - y² + x²) for a = -1, x² = (y² - 1) / (d y² + 1)
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, FIELD) % FIELD
        y = (y * y + x2) * pow(2 - y * y + x2, -1, FIELD) % FIELD
    return y == 1


def read_log(home: Path, study: str) -> list[str]:
    """Everything that does not hold in a home; an empty list when all does."""
    folder = home / "schedules" / study
    connection = sqlite3.connect(f"{(folder / 'log.sqlite3').absolute().as_uri()}?mode=ro", uri=True)
    try:
        return list(_findings(connection, folder))
    except (Refused, sqlite3.Error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return [f"cannot be read: {type(error).__name__} {error}"]
    finally:
        connection.close()


def _findings(connection: sqlite3.Connection, folder: Path) -> Iterator[str]:
    study = study_object(tomllib.loads((folder / "study.toml").read_text(encoding="utf-8")))
    study_print = fingerprint(study)
    details = _details(connection)
    prev, keys, newest, allocated, before = bytes(32), {}, None, [], ""
    rows = connection.execute(
        "SELECT seq, prev, CAST(body AS BLOB), kind, participant, stratum, position"
        " FROM record NOT INDEXED ORDER BY rowid"
    )
    for expected, (seq, stored_prev, body, *columns) in enumerate(rows):
        fields = parse(body)
        if (seq, fields["seq"]) != (expected, expected) or stored_prev != prev:
            yield f"record {expected}: not in the chain"
        yield from _columns(expected, fields, columns)
        yield from _own_details(expected, fields, details.pop(expected, {}))
        if not TIME.fullmatch(fields["time"]) or fields["time"] < before:
            yield f"record {expected}: time"
        if fields.get("fingerprint", study_print.hex()) != study_print.hex():
            yield f"record {expected}: fingerprint"
        if fields["kind"] in ("study-opened", "person-enrolled"):
            keys[fields["person"]] = bytes.fromhex(fields["sign_key"])
        if fields["kind"] not in UNSIGNED:
            try:
                check_signature(keys[fields["person"]], bytes.fromhex(fields["signature"]), prev, fields)
            except Refused as error:
                yield f"record {expected}: {error}"
        if fields["kind"] in SEALING:
            newest = fields
        if fields["kind"] == "allocated":
            allocated.append(fields)
        prev, before = record_hash(stored_prev, body), fields["time"]
    if details:
        yield "details without a record"
    if newest is not None:
        yield from _sealed_schedule(folder, study, study_print, newest, allocated)
    yield from _head(folder.parent.parent / "keys" / folder.name / "head", connection)


def _details(connection: sqlite3.Connection) -> dict[int, dict[str, tuple[bytes, str]]]:
    result: dict[int, dict[str, tuple[bytes, str]]] = {}
    for seq, name, salt, value in connection.execute("SELECT seq, field, salt, value FROM detail"):
        result.setdefault(seq, {})[name] = salt, value
    return result


def _columns(seq: int, fields: dict[str, Any], columns: list[Any]) -> Iterator[str]:
    label = label_of(fields["stratum"]) if "stratum" in fields else None
    if columns != [fields["kind"], fields.get("participant"), label, fields.get("position")]:
        yield f"record {seq}: columns"


def _own_details(seq: int, fields: dict[str, Any], found: dict[str, tuple[bytes, str]]) -> Iterator[str]:
    computed = {name: detail_commitment(salt, seq, name, value).hex() for name, (salt, value) in found.items()}
    if computed != fields.get("details", {}):
        yield f"record {seq}: private details"


def _sealed_schedule(
    folder: Path, study: dict[str, Any], study_print: bytes, newest: dict[str, Any], allocated: list[dict[str, Any]]
) -> Iterator[str]:
    data = (folder / "sealed.json").read_bytes()
    if sha256(data).hex() != newest["sealed_digest"]:
        yield "sealed.json: digest"
    file = parse(data)
    for name in ("sealing", "root", "design_commitment"):
        if file[name] != newest[name]:
            yield f"sealed.json: {name}"
    if file["fingerprint"] != study_print.hex() or [s["stratum"] for s in file["strata"]] != strata(study):
        yield "sealed.json: study"
    commitments = {
        (label_of(stratum["stratum"]), position): sealed.entry_bytes(entry)[:32]
        for stratum in file["strata"]
        for position, entry in enumerate(stratum["entries"])
    }
    leaves = [sealed.leaf(label, position, committed) for (label, position), committed in commitments.items()]
    if sealed.tree(leaves).hex() != file["root"]:
        yield "sealed.json: root"
    for fields in allocated:
        label, position, salt = label_of(fields["stratum"]), fields["position"], bytes.fromhex(fields["salt"])
        opened = sealed.commitment(salt, study_print, bytes.fromhex(file["sealing"]), label, position, fields["arm"])
        if opened != commitments[label, position]:
            yield f"record {fields['seq']}: opened entry"


def _head(path: Path, connection: sqlite3.Connection) -> Iterator[str]:
    match = re.fullmatch(r" *(\d+) ([0-9a-f]{64}) *\n", path.read_text("ascii"), re.ASCII)
    row = (
        match
        and connection.execute("SELECT prev, CAST(body AS BLOB) FROM record WHERE seq = ?", (int(match[1]),)).fetchone()
    )
    if not match or not row or record_hash(*row).hex() != match[2]:
        yield "head"
