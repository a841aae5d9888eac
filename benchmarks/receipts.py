"""One receipt checked from its bytes, against its bare signatures and hashes by hand."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from homes import active_trial, allocate, fill
from measure import Row, Work, compare

from allocator.person import signed_bytes
from allocator.receipt import Receipt, check_receipt, parse_receipt


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """A receipt of a long log and of a long list: every path in it has its usual length."""
    records = 2_000 if quick else 20_000
    trial = active_trial(folder / "home", length=records)
    fill(trial, records)
    allocate(trial, records, records)
    data = trial.service.receipt(trial.last).to_bytes()
    trial.close()
    bare = bare_work(parse_receipt(data))
    yield compare(
        f"receipt of a log of {records:,} records checked / its bare signatures and hashes",
        lambda: [check_receipt(parse_receipt(data)) for _ in range(100)],
        lambda: [bare() for _ in range(100)],
        goal="<= 5",
        repeats=11,
    )


def bare_work(receipt: Receipt) -> Work:
    """Both signatures, the record's hash and its way up to the checkpoint, the commitment and its way to the root."""
    record, note = receipt.record, receipt.checkpoint
    key, log_key = map(Ed25519PublicKey.from_public_bytes, (receipt.sign_key, receipt.log_key))
    signature, message = bytes.fromhex(record.fields["signature"]), signed_bytes(record.prev, record.unsigned_body())
    note_signature = note.signatures()[0][1][4:]  # behind the key's id
    salt, opened = bytes.fromhex(record.fields["salt"]), bytes(100)  # as long as what a commitment is made of

    def work() -> None:
        key.verify(signature, message)
        log_key.verify(note_signature, note.text)
        digest = hashlib.sha256(b"\x00" + record.prev + record.body).digest()
        for sibling in receipt.proof:
            digest = hashlib.sha256(b"\x01" + sibling + digest).digest()
        digest = hmac.digest(salt, opened, "sha256")
        for _, sibling in receipt.path:
            digest = hashlib.sha256(b"\x01" + sibling + digest).digest()

    return work
