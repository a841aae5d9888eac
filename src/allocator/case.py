"""Case: one record with all that its rules look at (docs/spec.md §10, §11)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from allocator import sealing
from allocator.answers_form import parse_stored_form
from allocator.canonical import prefixed, tag
from allocator.eligibility import is_eligible
from allocator.errors import EvidenceError
from allocator.history import History
from allocator.log import Detail, Record
from allocator.person import check_signature
from allocator.study import Study

SignatureCheck = Callable[[bytes, str, bytes, bytes], None]
AnswersCheck = Callable[[Study, str, datetime, bool], None]


def check_answers(study: Study, answers: str, moment: datetime, qualify: bool) -> None:
    """The answers of a form, judged again as of its time, qualify or not as its record says (E04).

    Raises:
        EvidenceError: they do not.
        InputError: they are no form at all.
    """
    if is_eligible(study, parse_stored_form(answers.encode("utf-8")), moment) == qualify:
        return
    if qualify:
        raise EvidenceError("eligibility", "a confirmation on answers that do not qualify")
    raise EvidenceError("eligibility", "a screen failure on answers that qualify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One record with all that its rules look at; `history` ends just before it.

    `sealed` is the sealed schedule the log's newest ``generated`` record names; None when there is none, or when it
    could not be read (the verifier reports that on its own). `withheld`: the private details are not given, as in an
    export without them: then they are not held to their commitments, and no answers are judged (docs/spec.md §18.4).
    """

    study: Study
    history: History
    sealed: sealing.SealedSchedule | None
    record: Record
    details: Mapping[str, Detail]
    withheld: bool = False
    check_signature: SignatureCheck = check_signature
    check_answers: AnswersCheck = check_answers

    @property
    def fingerprint(self) -> bytes:
        """Of the study as opened: record 0 is held to the study file, every later record to record 0."""
        opening = self.history.opening
        return bytes.fromhex(opening.fields["fingerprint"]) if opening else self.study.fingerprint


def code_digest(study_fingerprint: bytes, person: str, code: str) -> str:
    """SHA-256(tag("code") ‖ study fingerprint ‖ prefixed person ‖ prefixed code), hex: an invitation's commitment."""
    data = tag("code") + study_fingerprint + prefixed(person.encode("ascii")) + prefixed(code.encode("utf-8"))
    return hashlib.sha256(data).hexdigest()


def evidence(code: str, message: str) -> EvidenceError:
    """An EvidenceError of a few words."""
    return EvidenceError(code, message)
