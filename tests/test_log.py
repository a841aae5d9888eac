"""Records: the exact fields of every kind, each in its own form, and the chain."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from allocator.canonical import CanonicalError, canonical_bytes
from allocator.log import (
    ALLOWED_STATES,
    COMMON,
    FORMAT,
    GENESIS,
    KINDS,
    MAX_BODY,
    RESERVED,
    SIGNED,
    STATES,
    RecordError,
    check_fields,
    detail_commitment,
    link,
    new_record,
    parse_record,
)
from allocator.record_form import CORRECTIONS, FAILURES

DIGEST = "ab" * 32
# a good value of every field, and values of a wrong type, length or choice
GOOD: dict[str, Any] = {
    "format": FORMAT,
    "seq": 0,
    "time": "2026-11-20T01:30:00.000Z",
    "mode": "test",
    "program": "allocator 0.1.0",
    "person": "PH",
    "role": "pharmacist",
    "signature": "cd" * 64,
    "study": "NCT04225780",
    "fingerprint": DIGEST,
    "registry": DIGEST,
    "findings": [{"id": "K06", "level": "block", "message": "no ratio", "quotes": ["Randomized"]}],
    "log_key": DIGEST,
    "sign_key": DIGEST,
    "seal_key": DIGEST,
    "added": "IN",
    "roles": ["investigator"],
    "code_digest": DIGEST,
    "code": "ABCD-EFGH-JKLM-NPQR-STUV",
    "deactivated": "IN",
    "finding": "K06",
    "sealing": "ab" * 16,
    "algorithm": "permuted-block/1",
    "source_digest": "cd" * 32,
    "report_digest": "cd" * 32,
    "purpose": "check",
    "root": DIGEST,
    "sealed_digest": DIGEST,
    "design_commitment": DIGEST,
    "seed_commitments": [DIGEST, DIGEST],
    "holders": ["ST", "CU"],
    "seed_origin": "system",
    "grantee": "PH",
    "half": "pharmacist",
    "envelope": "ab" * 80,
    "participant": "P-001",
    "stratum": {"site": "A"},
    "position": 0,
    "attempt": {"type": "first", "of": None},
    "release": DIGEST,
    "confirmation": 7,
    "number": 1,
    "arm": 0,
    "salt": DIGEST,
    "allocation": 9,
    "what": "in-error",
    "action": "allocated",
    "cause": "not-confirmed",
    "failure": "wrong-passphrase",
    "event_time": "2026-11-20T01:30:00.000Z",
    "told": 1,
    "to": "P-001",
    "from": "P-010",
    "proposal": 7,
    "backup": DIGEST,
    "missing": "known",
    "lost": {"seq": 9, "hash": DIGEST},
    "before": "active",
    "state": "recovering",
    "original": {"prev": DIGEST, "body": "{}"},
    "restored": 7,
    "moved": 7,
    "reserved": [{"stratum": {"site": "A"}, "position": 3, "participant": None}],
    "allocated": 3,
    "clock": "2026-11-20T01:30:00.000Z",
    "share_digest": DIGEST,
    "seed_digest": DIGEST,
    "scope": "evidence",
    "since": "2026-11-20T01:30:00.000Z",
    "until": "2026-11-20T01:30:00.000Z",
}
FOREIGN: list[Any] = [True, 1.5, -1, 2**32, {}, [1], {"x": 1}, "", "x" * 501, "\u00e9 ", ["", 1]]
BAD_ATTEMPTS: list[Any] = [
    {"type": "first", "of": 1},
    {"type": "again", "of": None},
    {"type": "rescreen"},
    {"type": "second", "of": 1},
    {"type": "again", "of": True},
    {"type": "again", "of": 1, "more": 1},
]
BAD_FINDINGS: list[Any] = [
    {"id": "K06", "level": "error", "message": "", "quotes": []},
    {"id": "K 06", "level": "block", "message": "", "quotes": []},
    {"id": "K06", "level": "block", "message": 1, "quotes": []},
    {"id": "K06", "level": "block", "message": "", "quotes": [1]},
    {"id": "K06", "level": "block", "message": ""},
]
# what among FOREIGN is no error for a field
TAKEN: dict[str, list[Any]] = {"stratum": [{}], "program": ["\u00e9 "], "algorithm": ["\u00e9 "], "code": ["\u00e9 "]}


def fields_of(kind: str) -> dict[str, Any]:
    """A record of this kind that passes."""
    rule = KINDS[kind]
    names = {*COMMON, *rule.fields, *(SIGNED if rule.meaning else ())}
    fields = {name: GOOD[name] for name in names if name not in ("kind", "meaning")} | {"kind": kind}
    if rule.meaning:
        fields["meaning"] = rule.meaning
    if rule.details or rule.optional_details:
        fields["details"] = dict.fromkeys(rule.details, DIGEST)
    return fields


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_record_passes(kind: str) -> None:
    record = new_record(GENESIS, fields_of(kind))
    assert parse_record(GENESIS, record.body) == record


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("kind, field", [(kind, field) for kind in KINDS for field in sorted(fields_of(kind))])
def test_no_field_may_be_missing(kind: str, field: str) -> None:
    fields = fields_of(kind)
    del fields[field]
    with pytest.raises(RecordError):
        check_fields(fields)


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("kind", KINDS)
def test_no_field_may_be_added(kind: str) -> None:
    foreign = sorted(set(GOOD) | {"note", "details", "meaning"} - set(fields_of(kind)))
    for field in set(foreign) - set(fields_of(kind)):
        with pytest.raises(RecordError):
            check_fields(fields_of(kind) | {field: GOOD.get(field, "x")})


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("kind, field", [(kind, field) for kind in KINDS for field in sorted(fields_of(kind))])
def test_no_field_may_have_another_form(kind: str, field: str) -> None:
    wrong = [*FOREIGN, None]
    if field in ("participant", "person", "registry", "told", "backup", "lost"):
        wrong.remove(None)
    if field == "attempt":
        wrong += BAD_ATTEMPTS
    if field == "findings":
        wrong += [[finding] for finding in BAD_FINDINGS]
    if field == "details":
        wrong += [dict.fromkeys(fields_of(kind)["details"], "ab"), {"more": DIGEST}]
        wrong = [value for value in wrong if value != {} or KINDS[kind].details]
    for value in wrong:
        if value not in TAKEN.get(field, []):
            with pytest.raises(RecordError):
                check_fields(fields_of(kind) | {field: value})


@pytest.mark.parametrize("field", ["participant", "person", "registry"])
def test_which_fields_may_be_null(field: str) -> None:
    kind = {"participant": "refused", "person": "attempt-failed", "registry": "study-opened"}[field]
    check_fields(fields_of(kind) | {field: None})


@pytest.mark.parametrize(
    "kind", [kind for kind, rule in KINDS.items() if "participant" in rule.fields and kind != "refused"]
)
def test_a_record_about_a_participant_names_one(kind: str) -> None:
    """Form allows null (the rules do not): the participant's own rule is what refuses it."""
    from allocator.kind_rules import RULE_OF_KIND

    assert kind in RULE_OF_KIND


@pytest.mark.parametrize("kind, rule", [(k, r) for k, r in KINDS.items() if r.optional_details])
def test_optional_details_may_be_there(kind: str, rule: Any) -> None:
    fields = fields_of(kind)
    check_fields(fields | {"details": fields["details"] | dict.fromkeys(rule.optional_details, DIGEST)})


@pytest.mark.requirement("S01")
@pytest.mark.parametrize("kind", [kind for kind, rule in KINDS.items() if rule.meaning])
def test_the_meaning_of_a_signature_is_that_of_its_kind(kind: str) -> None:
    with pytest.raises(RecordError):
        check_fields(fields_of(kind) | {"meaning": "I agree."})


@pytest.mark.requirement("S01")
def test_every_meaning_is_its_own() -> None:
    meanings = [rule.meaning for rule in KINDS.values() if rule.meaning]
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("kind", [*sorted(RESERVED), "deleted", "", None, 1, ["paused"]])
def test_unknown_and_reserved_kinds_are_broken(kind: Any) -> None:
    with pytest.raises(RecordError):
        check_fields(fields_of("paused") | {"kind": kind})


@pytest.mark.parametrize("version", ["allocator-record/2", "", None, 1])
def test_another_version_is_broken(version: Any) -> None:
    with pytest.raises(RecordError):
        check_fields(fields_of("paused") | {"format": version})


@pytest.mark.parametrize(
    "field, choices", [("what", CORRECTIONS), ("failure", FAILURES), ("mode", ("production", "test"))]
)
def test_closed_lists_take_their_words_and_no_other(field: str, choices: tuple[str, ...]) -> None:
    kind = {"what": "corrected", "failure": "attempt-failed", "mode": "paused"}[field]
    for choice in choices:
        check_fields(fields_of(kind) | {field: choice})
        with pytest.raises(RecordError):
            check_fields(fields_of(kind) | {field: choice.upper()})


@pytest.mark.requirement("L02")
def test_a_hash_is_the_leaf_hash_of_rfc_6962_over_prev_and_body() -> None:
    record = new_record(b"\x07" * 32, fields_of("paused"))
    assert record.hash == link(record.prev, record.body)
    assert record.hash == hashlib.sha256(b"\x00" + b"\x07" * 32 + record.body).digest()


@pytest.mark.requirement("S02")
def test_the_signature_covers_all_but_itself() -> None:
    fields = fields_of("paused")
    unsigned = {key: value for key, value in fields.items() if key != "signature"}
    assert new_record(GENESIS, fields).unsigned_body() == canonical_bytes(unsigned)


def test_guard_columns() -> None:
    assert new_record(GENESIS, fields_of("allocated")).columns == ("allocated", "P-001", '{"site":"A"}', 0)
    assert new_record(GENESIS, fields_of("screen-failed")).columns == ("screen-failed", "P-001", '{"site":"A"}', None)
    assert new_record(GENESIS, fields_of("paused")).columns == ("paused", None, None, None)


def test_a_record_our_own_code_built_wrong_is_never_written() -> None:
    for change in ({"seq": -1}, {"reason": "x"}, {"program": 1.5}):
        with pytest.raises(RuntimeError):
            new_record(GENESIS, fields_of("paused") | change)


def test_bodies_that_are_not_canonical_or_too_long_are_refused() -> None:
    body = canonical_bytes(fields_of("paused"))
    with pytest.raises(CanonicalError):
        parse_record(GENESIS, body + b" ")
    with pytest.raises(CanonicalError):
        parse_record(GENESIS, body[:-1] + b" " * MAX_BODY + b"}")


@pytest.mark.requirement("L09")
def test_a_detail_is_committed_to_by_salt_place_and_name() -> None:
    salt = bytes(32)
    message = b"allocator/v1/detail\x00" + (5).to_bytes(4, "big") + b"\x00\x06reason" + "because é".encode()
    assert detail_commitment(salt, 5, "reason", "because é") == hmac.digest(salt, message, "sha256").hex()
    given = [(salt, 5, "reason", "x"), (b"\x01" * 32, 5, "reason", "x"), (salt, 6, "reason", "x")]
    given += [(salt, 5, "name", "x"), (salt, 5, "reason", "y")]
    assert len({detail_commitment(*one) for one in given}) == 5


def test_states_and_kinds_belong_together() -> None:
    assert set(STATES) <= set(KINDS) and set(ALLOWED_STATES) <= set(KINDS)
    assert {state for states in ALLOWED_STATES.values() for state in states} <= {*STATES.values(), "recovering"}
    assert not RESERVED & set(KINDS)
