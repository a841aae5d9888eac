"""The form of each field of a record: a closed table (docs/spec.md §9.2). A field of no form is no field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from allocator.canonical import CanonicalError, parse_time
from allocator.text import is_identifier

MODES = ("production", "test")
FAILURES = ("unknown-person", "enrolled-already", "not-enrolled", "deactivated", "wrong-code", "wrong-passphrase")
CORRECTIONS = ("stratum", "ineligible", "in-error", "treatment")
MISSING = ("none", "known", "unknown")  # what a restored log is known to lack
PURPOSES = ("check", "balance", "export")
BEFORE_STATES = ("open", "sealed", "active", "paused", "closed", "opened")
SCOPES = ("evidence", "inspection")  # of an export


def has_form(field: str, value: Any) -> bool:
    """True when the value has the form of this field."""
    return field in _FORMS and _FORMS[field](value)


def _hex(*lengths: int) -> Callable[[Any], bool]:
    def matches(value: Any) -> bool:
        return isinstance(value, str) and len(value) // 2 in lengths and _HEX.fullmatch(value) is not None

    return matches


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 500


def _identifier(value: Any) -> bool:
    return isinstance(value, str) and is_identifier(value)


def _word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _optional(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or form(value)


def _list_of(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(form(item) for item in value)


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _time(value: Any) -> bool:
    try:
        return isinstance(value, str) and parse_time(value) is not None
    except CanonicalError:
        return False


def _text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_identifier(k) and _identifier(v) for k, v in value.items())


def _detail_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_word(k) and _DIGEST(v) for k, v in value.items())


def _attempt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"type", "of"}
        and value["type"] in ("first", "again", "rescreen", "correcting")
        and (value["of"] is None if value["type"] == "first" else _count(value["of"]))
    )


def _finding(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"id", "level", "message", "quotes"}
        and _identifier(value["id"])
        and value["level"] in ("block", "warn", "info")
        and isinstance(value["message"], str)
        and _list_of(lambda quote: isinstance(quote, str))(value["quotes"])
    )


def _lost(value: Any) -> bool:
    return (
        isinstance(value, dict) and value.keys() == {"seq", "hash"} and _count(value["seq"]) and _DIGEST(value["hash"])
    )


def _original(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"prev", "body"}
        and _DIGEST(value["prev"])
        and isinstance(value["body"], str)
    )


def _reservation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"stratum", "position", "participant"}
        and _text_map(value["stratum"])
        and _count(value["position"])
        and _optional(_identifier)(value["participant"])
    )


_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)
_DIGEST = _hex(32)
_FORMS: dict[str, Callable[[Any], bool]] = {
    "format": _text,
    "seq": _count,
    "kind": _word,
    "time": _time,
    "mode": _one_of(*MODES),
    "program": _text,
    "person": _optional(_identifier),
    "role": _word,
    "meaning": _text,
    "signature": _hex(64),
    "details": _detail_map,
    "study": _identifier,
    "fingerprint": _DIGEST,
    "registry": _optional(_DIGEST),
    "findings": _list_of(_finding),
    "log_key": _DIGEST,
    "sign_key": _DIGEST,
    "seal_key": _DIGEST,
    "added": _identifier,
    "roles": _list_of(_word),
    "code_digest": _DIGEST,
    "code": _text,
    "deactivated": _identifier,
    "finding": _identifier,
    "sealing": _hex(16),
    "algorithm": _text,
    "root": _DIGEST,
    "sealed_digest": _DIGEST,
    "design_commitment": _DIGEST,
    "seed_commitments": _list_of(_DIGEST),
    "holders": _list_of(_identifier),
    "seed_origin": _one_of("system", "given"),
    "source_digest": _DIGEST,
    "report_digest": _DIGEST,
    "purpose": _one_of(*PURPOSES),
    "grantee": _identifier,
    "half": _one_of("pharmacist", "investigator"),
    "envelope": _hex(80),
    "participant": _optional(_identifier),
    "stratum": _text_map,
    "position": _count,
    "attempt": _attempt,
    "release": _DIGEST,
    "confirmation": _count,
    "number": _count,
    "arm": _count,
    "salt": _DIGEST,
    "allocation": _count,
    "what": _one_of(*CORRECTIONS),
    "action": _word,
    "cause": _word,
    "failure": _one_of(*FAILURES),
    "event_time": _time,
    "told": _optional(_count),
    "to": _identifier,
    "from": _identifier,
    "proposal": _count,
    "backup": _optional(_DIGEST),
    "missing": _one_of(*MISSING),
    "lost": _optional(_lost),
    "before": _one_of(*BEFORE_STATES),
    "state": _one_of(*BEFORE_STATES, "recovering"),
    "original": _original,
    "restored": _count,
    "moved": _count,
    "reserved": _list_of(_reservation),
    "allocated": _count,
    "clock": _time,
    "share_digest": _DIGEST,
    "seed_digest": _DIGEST,
    "scope": _one_of(*SCOPES),
    "since": _time,
    "until": _time,
}
