"""A receipt: one participant's proof, as a C2SP tlog-proof with extra data (docs/spec.md §17).

It holds the signed record of the allocation, its place in the log under a checkpoint, and the opened entry with its
path to the root that was fixed before the first participant. Values in, values out; nothing of it is believed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from allocator import merkle, sealing
from allocator.canonical import CanonicalError, encode_parsed, parse_canonical
from allocator.checkpoint import Checkpoint, check_note, hash_line, origin_of, parse_checkpoint, parse_hash
from allocator.errors import EvidenceError
from allocator.log import ALLOCATION_KINDS, MAX_BODY, Record, RecordError, parse_record
from allocator.person import check_signature
from allocator.record_form import has_form
from allocator.recovery import PROVED, original_record
from allocator.study import Arm, stratum_label
from allocator.text import text_fault

FORMAT = "allocator-receipt/1"
PROOF = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
MAX_RECEIPT = 1 << 22  # bytes; a body of 1 MiB twice in base64 and JSON escapes would not fit, and none is so long
MAX_STEPS = 64
_EXTRA = {"format", "record", "sign_key", "fingerprint", "first", "log_key", "schedule", "arm", "copy"}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_STEP = re.compile(r"[LR][0-9a-f]{64}", re.ASCII)

Path = tuple[tuple[merkle.Side, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """All that a receipt holds.

    Attributes:
        record: of an allocation kind.
        sign_key: Ed25519 key of the person who signed it, 32 bytes.
        fingerprint: of the study, 32 bytes.
        first: hash of record 0.
        log_key: the log's own Ed25519 key.
        root, path: from the entry's leaf to the root of the schedule.
        arm: code, label and interventions in the study's words.
        copy: seq, time and person of the record of this copy; None for the first one.
        proof: the record's inclusion proof under the checkpoint, whose size is its seq + 1.
    """

    record: Record
    sign_key: bytes
    fingerprint: bytes
    first: bytes
    log_key: bytes
    root: bytes
    path: Path
    arm: Mapping[str, Any]
    copy: Mapping[str, Any] | None
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint

    def to_bytes(self) -> bytes:
        """The file."""
        extra = encode_parsed(
            {
                "format": FORMAT,
                "record": {"prev": self.record.prev.hex(), "body": self.record.body.decode("utf-8")},
                "sign_key": self.sign_key.hex(),
                "fingerprint": self.fingerprint.hex(),
                "first": self.first.hex(),
                "log_key": self.log_key.hex(),
                "schedule": {"root": self.root.hex(), "path": [side + digest.hex() for side, digest in self.path]},
                "arm": dict(self.arm),
                "copy": None if self.copy is None else dict(self.copy),
            }
        )
        lines = [PROOF, f"extra {base64.b64encode(extra).decode('ascii')}", f"index {self.record.seq}"]
        return "\n".join([*lines, *map(hash_line, self.proof), "", self.checkpoint.note]).encode("utf-8")

    def as_copy(self, record: Record) -> Receipt:
        """The same receipt, made again; `record` says by whom and when (A10)."""
        fields = record.fields
        return replace(self, copy={"seq": record.seq, "time": fields["time"], "person": fields["person"]})

    @property
    def made(self) -> Record:
        """The record by which the allocation was made: the lost one where it was entered from its receipt."""
        fields = self.record.fields
        return original_record(fields["original"]) if "original" in fields else self.record


def arm_words(arm: Arm) -> dict[str, Any]:
    """An arm as a receipt names it."""
    return {"code": arm.code, "label": arm.label, "interventions": list(arm.interventions)}


def file_name(record: Record) -> str:
    """The name of a receipt's file: randomization number and participant."""
    return f"{record.fields['number']:06d}-{record.fields['participant']}{SUFFIX}"


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt strictly. EvidenceError when it is none; whether it holds is asked by `check_receipt`."""
    try:
        if len(data) > MAX_RECEIPT:
            raise ValueError(f"it has more than {MAX_RECEIPT} bytes")
        head, blank, note = data.partition(b"\n\n")
        lines = head.decode("ascii").split("\n")
        if not blank or len(lines) < 3 or lines[0] != PROOF:
            raise ValueError(f"it does not begin with {PROOF}, extra and index")
        extra = _value(lines[1], "extra")
        index = _value(lines[2], "index")
        if _NUMBER.fullmatch(index) is None:
            raise ValueError("its index is no number")
        raw = base64.b64decode(extra.encode("ascii"), validate=True)
        if base64.b64encode(raw).decode("ascii") != extra:
            raise ValueError("its extra data is not in the one form of base64")
        proof = tuple(map(parse_hash, lines[3:]))
        receipt = _receipt(parse_canonical(raw, limit=MAX_RECEIPT), proof, parse_checkpoint(note))
    except (CanonicalError, RecordError, ValueError) as error:
        said = "its lines are not ASCII" if isinstance(error, UnicodeError) else str(error)
        raise EvidenceError("receipt", f"this is no receipt: {said}") from error
    if receipt.record.seq != int(index):
        raise EvidenceError("receipt", f"the index is {index}, the record is record {receipt.record.seq}")
    return receipt


def _value(line: str, name: str) -> str:
    word, space, value = line.partition(" ")
    if word != name or not space:
        raise ValueError(f"a line '{name} …' was expected")
    return value


def _receipt(extra: dict[str, Any], proof: tuple[bytes, ...], checkpoint: Checkpoint) -> Receipt:
    if extra.get("format") != FORMAT or extra.keys() != _EXTRA:
        raise ValueError(f"its extra data is not of {FORMAT}")
    record, schedule = extra["record"], extra["schedule"]
    digests = [extra[name] for name in ("sign_key", "fingerprint", "first", "log_key")]
    if not (
        has_form("original", record)
        and all(has_form("fingerprint", digest) for digest in digests)
        and isinstance(schedule, dict)
        and schedule.keys() == {"root", "path"}
        and has_form("root", schedule["root"])
        and isinstance(schedule["path"], list)
        and len(schedule["path"]) <= MAX_STEPS
        and all(isinstance(step, str) and _STEP.fullmatch(step) for step in schedule["path"])
        and _are_arm_words(extra["arm"])
        and (extra["copy"] is None or _is_copy(extra["copy"]))
    ):
        raise ValueError("a field of its extra data has another form")
    body = record["body"].encode("utf-8")
    if len(body) > MAX_BODY:
        raise ValueError("the record is too long")
    return Receipt(
        record=parse_record(bytes.fromhex(record["prev"]), body),
        sign_key=bytes.fromhex(extra["sign_key"]),
        fingerprint=bytes.fromhex(extra["fingerprint"]),
        first=bytes.fromhex(extra["first"]),
        log_key=bytes.fromhex(extra["log_key"]),
        root=bytes.fromhex(schedule["root"]),
        path=tuple((step[0], bytes.fromhex(step[1:])) for step in schedule["path"]),
        arm=extra["arm"],
        copy=extra["copy"],
        proof=proof,
        checkpoint=checkpoint,
    )


def _are_arm_words(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"code", "label", "interventions"}
        and has_form("added", value["code"])
        and isinstance(value["interventions"], list)
        and all(isinstance(text, str) and not text_fault(text) for text in (value["label"], *value["interventions"]))
    )


def _is_copy(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"seq", "time", "person"}
        and has_form("seq", value["seq"])
        and has_form("time", value["time"])
        and has_form("added", value["person"])
    )


def check_receipt(receipt: Receipt) -> None:
    """That a receipt is of one piece (docs/spec.md §17.2). EvidenceError for the first thing that is not so.

    It is then the receipt of *some* log: which one, only the log, or what was deposited outside, can say.
    """
    record, checkpoint = receipt.record, receipt.checkpoint
    if record.kind not in ALLOCATION_KINDS:
        raise EvidenceError("receipt", f"it is of a record of kind {record.kind}, which is no allocation")
    check_signature(receipt.sign_key, record.fields["signature"], record.prev, record.unsigned_body())
    if checkpoint.size != record.seq + 1:
        raise EvidenceError("receipt", f"its checkpoint is of {checkpoint.size} records, not of {record.seq + 1}")
    merkle.check_inclusion(record.hash, record.seq, checkpoint.size, receipt.proof, checkpoint.root)
    study = checkpoint.origin.split("/")[1]
    if checkpoint.origin != origin_of(study, receipt.first):
        raise EvidenceError("receipt", "the origin of its checkpoint is not that of its first record")
    check_note(checkpoint, receipt.log_key)
    check_opened_entry(receipt)
    if "original" in record.fields:
        original = receipt.made
        if any(record.fields[name] != original.fields[name] for name in PROVED):
            raise EvidenceError("receipt", "the record entered says something else than its original")


def check_opened_entry(receipt: Receipt) -> None:
    """The arm is the one committed to: its commitment leads to the root of the schedule (C06)."""
    fields = receipt.record.fields
    label = stratum_label(fields["stratum"])
    if fields["arm"] > 255 or len(label) > 0xFFFF:  # neither has a place in a commitment (docs/spec.md §1.1, §7.3)
        raise EvidenceError("receipt", "its arm or its stratum is of no study")
    committed = sealing.commitment(
        bytes.fromhex(fields["salt"]),
        receipt.fingerprint,
        bytes.fromhex(fields["sealing"]),
        label,
        fields["position"],
        fields["arm"],
    )
    found = merkle.fold(merkle.leaf_hash(sealing.schedule_leaf(label, fields["position"], committed)), receipt.path)
    if found != receipt.root:
        raise EvidenceError(
            "receipt",
            "the opened entry does not lead to the root of the schedule",
            details={"expected": receipt.root.hex(), "found": found.hex()},
        )
