"""Record kinds, their exact fields, and link(): the hash chain of the audit trail (docs/spec.md §9).

A record is `prev` (32 bytes) in front of its canonical `body`; its hash is SHA-256(0x00 ‖ prev ‖ body), one hash for
the chain and for an RFC 6962 tree. Free text, answers and names stand beside the body as private details, which the
body only commits to: a value may be removed later and the chain still verifies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from allocator.canonical import (
    CanonicalError,
    canonical_bytes,
    encode_parsed,
    parse_canonical,
    parse_time,
    prefixed,
    tag,
    u32,
)
from allocator.errors import EvidenceError, InputError
from allocator.record_form import has_form

FORMAT = "allocator-record/1"
GENESIS = bytes(32)  # `prev` of record 0
MAX_BODY = 1 << 20

COMMON = ("format", "seq", "kind", "time", "mode", "program")
SIGNED = ("person", "role", "meaning", "signature")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record: its own fields, its private details, and what its signature means (21 CFR 11.50)."""

    fields: tuple[str, ...]
    details: tuple[str, ...] = ()
    optional_details: tuple[str, ...] = ()
    meaning: str = ""  # empty: a kind without a signer, which carries no free text and changes no state

    @cached_property
    def all_fields(self) -> frozenset[str]:
        """Every field of a body of this kind, no more and no less."""
        signed = SIGNED if self.meaning else ()
        details = ("details",) if self.details or self.optional_details else ()
        return frozenset((*COMMON, *signed, *self.fields, *details))


SEALING_FIELDS = (
    *("sealing", "algorithm", "root", "sealed_digest", "design_commitment", "seed_commitments", "holders"),
    "seed_origin",
)
KINDS: dict[str, Kind] = {
    "study-opened": Kind(
        fields=("study", "fingerprint", "registry", "findings", "log_key", "sign_key", "seal_key"),
        details=("name",),
        meaning="I open this study with this definition; my signature here binds me as my own hand does.",
    ),
    "person-added": Kind(
        fields=("added", "roles", "code_digest"),
        details=("name",),
        meaning="I add this person, whose identity I have verified, in these roles.",
    ),
    "person-enrolled": Kind(
        fields=("sign_key", "seal_key", "code"),
        meaning="These keys are mine alone; my signature by them binds me as my own hand does.",
    ),
    "person-deactivated": Kind(
        fields=("deactivated",), details=("reason",), meaning="This person may no longer act in this study."
    ),
    "passphrase-changed": Kind(fields=(), meaning="I changed the passphrase of my keys."),
    "log-read": Kind(fields=(), meaning="I read the records of this study whole, with their private details."),
    "decided": Kind(
        fields=("finding",),
        details=("reading", "reason"),
        meaning="I decide this question of the protocol with this reading.",
    ),
    "generated": Kind(
        fields=SEALING_FIELDS,
        optional_details=("reason",),
        meaning="I generated and sealed the list; no one has seen an arm of it.",
    ),
    "imported": Kind(
        fields=(*SEALING_FIELDS, "source_digest"),
        details=("origin",),
        optional_details=("reason",),
        meaning="I checked and sealed this list, which was made elsewhere as stated.",
    ),
    "list-checked": Kind(
        fields=("sealing", "report_digest"),
        meaning="I checked the sealed list against its design; the report of this digest found no fault.",
    ),
    "list-read": Kind(
        fields=("sealing", "purpose"),
        meaning="I read the sealed list for the purpose stated, with the arms that are still to come.",
    ),
    "granted": Kind(
        fields=("grantee", "half", "sealing", "envelope"),
        meaning="I grant this person their half of the key.",
    ),
    "activated": Kind(
        fields=("sealing", "root"),
        details=("deposit",),
        meaning="I activate the study; the root and the first record's hash are deposited where stated.",
    ),
    "paused": Kind(fields=(), details=("reason",), meaning="I pause allocation."),
    "resumed": Kind(fields=(), details=("reason",), meaning="I resume allocation."),
    "closed": Kind(fields=(), details=("reason",), meaning="I close allocation for good."),
    "confirmed": Kind(
        fields=("participant", "stratum", "position", "sealing", "fingerprint", "attempt", "release"),
        details=("answers",),
        optional_details=("reason",),
        meaning="I confirm that this participant is eligible and release the bound entry.",
    ),
    "screen-failed": Kind(
        fields=("participant", "stratum", "fingerprint", "attempt"),
        details=("answers",),
        optional_details=("reason",),
        meaning="I record these answers; by them the participant is not eligible.",
    ),
    "confirmation-withdrawn": Kind(
        fields=("participant", "confirmation"),
        details=("reason",),
        meaning="I withdraw my confirmation of this participant's eligibility.",
    ),
    "allocated": Kind(
        fields=("participant", "stratum", "position", "number", "sealing", "confirmation", "arm", "salt"),
        meaning="I request the allocation of this participant.",
    ),
    "shown-again": Kind(
        fields=("participant", "allocation"),
        meaning="I request to be shown this participant's allocation again.",
    ),
    "looked-up": Kind(
        fields=("participant", "allocation"), meaning="I look up what became of this participant's request."
    ),
    "unblinded": Kind(
        fields=("participant", "allocation"),
        details=("reason",),
        meaning="I request this one participant's arm for the reason stated.",
    ),
    "corrected": Kind(
        fields=("participant", "allocation", "what"),
        details=("value", "reason"),
        meaning="I state this correction beside the allocation, which stands.",
    ),
    "late": Kind(
        fields=(
            *("participant", "stratum", "position", "number", "sealing", "confirmation", "arm", "salt"),
            *("event_time", "told"),
        ),
        details=("reason",),
        meaning="I enter an allocation that was made on paper at the time stated.",
    ),
    "reassignment-proposed": Kind(
        fields=("participant", "to", "allocation"),
        details=("reason",),
        meaning="I state that this allocation was made under a wrong id and belongs to the participant named.",
    ),
    "reassigned": Kind(
        fields=("participant", "from", "proposal", "allocation"),
        details=("reason",),
        meaning="I confirm that this allocation was made under a wrong id and is this participant's.",
    ),
    "share-copied": Kind(fields=("sealing",), meaning="I took a paper copy of my share of the seed."),
    "resealed": Kind(
        fields=SEALING_FIELDS,
        details=("reason",),
        meaning="I sealed the same list again from both shares of its seed; its root is the one committed to.",
    ),
    "backed-up": Kind(fields=("backup",), meaning="I made this backup of the study."),
    "restored": Kind(
        fields=("backup", "missing", "lost", "before", "state"),
        details=("reason",),
        meaning="I state that this log was put back to an earlier time, and what is known to be missing.",
    ),
    "receipt-entered": Kind(
        fields=("participant", "stratum", "position", "number", "sealing", "arm", "salt", "original"),
        meaning="I enter a lost allocation from its receipt; the signature in it proves it.",
    ),
    "recovered": Kind(
        fields=("restored", "reserved", "number", "allocated", "state"),
        details=("reason",),
        meaning="I have established what may have been used, and reserve it; nothing of it is given again.",
    ),
    "moved": Kind(
        fields=("to",),
        optional_details=("reason",),
        meaning="I move this log to the place stated; nothing follows in the place that it leaves.",
    ),
    "arrived": Kind(
        fields=("moved", "state"), meaning="The log was moved here whole and verified; the study goes on from here."
    ),
    "receipt-copied": Kind(
        fields=("participant", "allocation"), meaning="I made the receipt of this allocation again, marked COPY."
    ),
    "share-given": Kind(
        fields=("sealing", "share_digest"), meaning="I give my share of the seed, so that the list can be opened."
    ),
    "opened": Kind(
        fields=("sealing", "root", "seed_digest"),
        meaning="I disclose the seed; the list drawn from it again is the one committed to, in every entry.",
    ),
    "exported": Kind(fields=("scope",), meaning="I made an export of this study to be read elsewhere."),
    "reviewed": Kind(
        fields=("since", "until"),
        details=("findings",),
        meaning="I reviewed the audit trail of this period; my findings are stated.",
    ),
    "clock-set": Kind(fields=(), details=("reason",), meaning="I have checked the clock; time goes on from here."),
    "refused": Kind(fields=("action", "cause", "participant"), meaning="I made this request, and it was refused."),
    "attempt-failed": Kind(fields=("person", "action", "failure")),
    "clock-jump": Kind(fields=("clock",)),
}

# Names later versions will use; a record of one of these does not verify here (docs/spec.md §9.4).
RESERVED = frozenset(
    [
        "amended",
        "extended",
        "withdrawn",
        "approval",
        "locked",
        "redacted",
    ]
)

# The kinds that move the study from one state to the next, and the state each leads to.
STATES: dict[str, str] = {
    "study-opened": "open",
    "generated": "sealed",
    "imported": "sealed",
    "activated": "active",
    "paused": "paused",
    "resumed": "active",
    "closed": "closed",
    "opened": "opened",
    "moved": "moved",
}
# The kinds that lead to the state named in their own `state`: back to the one before, or to "recovering".
STATED = ("restored", "recovered", "arrived")
STATE_KINDS = (*STATES, *STATED)
# In which states a kind may be written; a kind that is not named here may be written in every state but "moved".
ALLOWED_STATES: dict[str, tuple[str, ...]] = {
    "decided": ("open", "sealed", "active", "paused"),
    "generated": ("open", "sealed"),  # none after activation
    "imported": ("open", "sealed"),
    "list-checked": ("sealed",),  # before the first participant
    "list-read": ("sealed", "active", "paused", "closed", "opened"),
    "granted": ("sealed", "active", "paused"),
    "activated": ("sealed",),
    "paused": ("active",),
    "resumed": ("paused",),
    "closed": ("active", "paused"),
    "confirmed": ("active",),
    "screen-failed": ("active",),
    "confirmation-withdrawn": ("active",),
    "allocated": ("active",),
    "shown-again": ("active", "paused", "closed", "opened", "recovering"),
    "looked-up": ("active", "paused", "closed", "opened", "recovering"),
    "unblinded": ("active", "paused", "closed", "opened", "recovering"),
    "corrected": ("active", "paused", "closed", "opened"),
    "late": ("active",),
    "reassignment-proposed": ("active", "paused", "closed", "opened"),
    "reassigned": ("active", "paused", "closed", "opened"),
    "share-copied": ("sealed", "active", "paused", "closed"),
    "resealed": ("sealed", "active", "paused", "closed"),
    "receipt-entered": ("recovering",),
    "recovered": ("recovering",),
    "arrived": ("moved",),
    "receipt-copied": ("active", "paused", "closed", "opened", "recovering"),
    "share-given": ("closed",),  # nothing can be allocated any more, and nothing leads back from here
    "opened": ("closed",),
}
PERSON_KINDS = ("study-opened", "person-added", "person-enrolled", "person-deactivated")
ATTEMPT_KINDS = ("confirmed", "screen-failed")
SEALING_KINDS = ("generated", "imported", "resealed")  # the newest one is the sealing
# By each of these a position becomes its participant's for good.
ALLOCATION_KINDS = ("allocated", "late", "receipt-entered")


def state_of(fields: Mapping[str, Any]) -> str:
    """The state to which a record of one of `STATE_KINDS` leads."""
    return STATES.get(fields["kind"]) or str(fields["state"])


class RecordError(ValueError):
    """A body is not a record of this version: unknown kind, missing or additional field, wrong type."""


class Detail(NamedTuple):
    """A private detail: a value and the salt of its commitment."""

    salt: bytes
    value: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record as it stands in the log: `prev` (32 bytes), canonical `body`, and the body parsed."""

    prev: bytes
    body: bytes
    fields: Mapping[str, Any] = field(repr=False)

    @property
    def seq(self) -> int:
        """Place in the log, from 0."""
        return int(self.fields["seq"])

    @property
    def kind(self) -> str:
        """Its kind, a key of `KINDS`."""
        return str(self.fields["kind"])

    @cached_property
    def time(self) -> datetime:
        """When it was written, UTC."""
        return parse_time(self.fields["time"])

    @cached_property
    def hash(self) -> bytes:
        """SHA-256(0x00 ‖ prev ‖ body), 32 bytes."""
        return link(self.prev, self.body)

    @cached_property
    def columns(self) -> tuple[str, str | None, str | None, int | None]:
        """The guard columns beside the body: kind, participant, stratum label, position."""
        stratum = self.fields.get("stratum")
        label = None if stratum is None else encode_parsed(stratum).decode("utf-8")
        return self.kind, self.fields.get("participant"), label, self.fields.get("position")

    def unsigned_body(self) -> bytes:
        """Canonical body without `signature`: what the signature covers, after tag and prev.

        Keys are sorted and `time` follows, so the member is cut out of the body with the comma behind it.
        """
        member = b'"signature":"%s",' % str(self.fields["signature"]).encode("ascii")
        if self.body.count(member) != 1:  # nowhere else in a record can these bytes stand
            raise EvidenceError("signature", "the signature does not stand once and at its place in the body")
        return self.body.replace(member, b"")


def link(prev: bytes, body: bytes) -> bytes:
    """Hash of a record: SHA-256(0x00 ‖ prev ‖ body), an RFC 6962 leaf hash."""
    return hashlib.sha256(b"\x00" + prev + body).digest()


def new_record(prev: bytes, fields: dict[str, Any]) -> Record:
    """A record of these fields; RuntimeError when our own code built it wrong, InputError when it is too large."""
    try:
        check_fields(fields)
        body = canonical_bytes(fields)
    except (RecordError, CanonicalError) as error:
        raise RuntimeError(f"a record that would not verify: {error}") from error
    if len(body) > MAX_BODY:
        raise InputError(
            "record-too-large",
            f"the record would have {len(body)} bytes; at most {MAX_BODY} are read",
            "Shorten the study's questions and criteria.",
        )
    return Record(prev=prev, body=body, fields=fields)


def parse_record(prev: bytes, body: bytes) -> Record:
    """Parse a stored record strictly.

    Raises:
        CanonicalError: the bytes are not canonical.
        RecordError: the kind, the version or the fields are not of docs/spec.md §9.
    """
    fields = parse_canonical(body, limit=MAX_BODY)
    check_fields(fields)
    return Record(prev=prev, body=body, fields=fields)


def check_fields(fields: Mapping[str, Any]) -> None:
    """The exact set of fields of the record's kind, each of its form; RecordError otherwise."""
    if fields.get("format") != FORMAT:
        raise RecordError(f"record format {fields.get('format')!r} is not {FORMAT!r}")
    name = fields.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        reserved = isinstance(name, str) and name in RESERVED  # a list or an object is no text, and not hashable
        known = "reserved for a later version" if reserved else "no kind of this version"
        raise RecordError(f"kind {name!r} is {known}")
    if fields.keys() != kind.all_fields:
        missing, foreign = sorted(kind.all_fields - fields.keys()), sorted(fields.keys() - kind.all_fields)
        raise RecordError(f"fields of {name}: missing {missing}, not expected {foreign}")
    for key, value in fields.items():
        if not has_form(key, value):
            raise RecordError(f"field {key} of {name} has a wrong form")
    if kind.meaning and fields["meaning"] != kind.meaning:
        raise RecordError(f"the meaning of the signature is not that of {name}")
    if "details" in fields:
        given = fields["details"].keys()
        if not set(kind.details) <= given <= {*kind.details, *kind.optional_details}:
            raise RecordError(f"private details of {name}: {sorted(given)}")


def detail_commitment(salt: bytes, seq: int, name: str, value: str) -> str:
    """HMAC-SHA-256(salt, tag("detail") ‖ u32 seq ‖ prefixed field ‖ value), in hex (docs/spec.md §9.3)."""
    message = tag("detail") + u32(seq) + prefixed(name.encode("ascii")) + value.encode("utf-8")
    return hmac.digest(salt, message, "sha256").hex()
