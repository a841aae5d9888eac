"""Answers and criteria in; eligible, or not and why, out. Pure.

One rule runs through it: only what was asked, answered and found to pass lets a participant in. What is
missing, blank, UNKNOWN, on no list, in another unit or out of date never passes (docs/spec.md
§14). Numbers are exact decimals; nothing is rounded and nothing converted.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any

from allocator.answers_form import Answer, AnswersForm, form_bytes, parse_form, shortened
from allocator.criterion import Criterion
from allocator.study import Study
from allocator.text import is_number, text_fault

__all__ = [
    "UNIT_WORDS",
    "Answer",
    "AnswersForm",
    "CriterionResult",
    "Judgement",
    "form_bytes",
    "is_eligible",
    "judge",
    "parse_form",
    "summary_lines",
]

YES_NO = ("Y", "N", "UNKNOWN")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
# a limit and an upper limit of normal have at most 24 digits each: their product fits and is never rounded
_EXACT = Context(prec=64, traps=[Inexact])
UNIT_WORDS = {"a": "years", "mo": "months", "d": "days"}
_NEED_WORDS = {"text": "a text", "specimen": "the specimen", "date": "the date of the result"}
_COMPARE: dict[str, tuple[Callable[[Decimal, Decimal], bool], str]] = {
    ">": (operator.gt, "more than"),
    ">=": (operator.ge, "at least"),
    "<": (operator.lt, "less than"),
    "<=": (operator.le, "at most"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionResult:
    """What became of one criterion: met or not, the answer as shown, and one sentence that says why."""

    id: str
    met: bool
    answer: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """The object of one criterion in the result of `confirm`."""
        return {"id": self.id, "met": self.met, "answer": self.answer, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The whole decision: consent, every criterion in the study's order, then answers to no criterion."""

    consent: CriterionResult
    criteria: tuple[CriterionResult, ...]

    @property
    def eligible(self) -> bool:
        """True only when consent and every single criterion are met."""
        return self.consent.met and bool(self.criteria) and all(result.met for result in self.criteria)

    def as_json(self) -> dict[str, Any]:
        """``{"eligible", "consent": {…}, "criteria": [{"id", "met", "answer", "reason"}]}``."""
        return {
            "eligible": self.eligible,
            "consent": self.consent.as_json(),
            "criteria": [result.as_json() for result in self.criteria],
        }


def judge(study: Study, form: AnswersForm, now: datetime) -> Judgement:
    """Hold a form to every criterion of a study, as of the moment `now` (with a time zone).

    Every criterion of the study has one result, in the study's order; an answer to something that is no
    criterion is one more result, not met, because it is most often a mistyped id.
    """
    today = _today(study, now)
    results = [_result(criterion, form.answers, today) for criterion in study.criteria]
    known = {criterion.id for criterion in study.criteria}
    results += [_no_criterion(name, form.answers[name], known) for name in sorted(form.answers.keys() - known)]
    fault = _fault_of_consent(form.consent, now)
    consent = CriterionResult(
        id="consent",
        met=not fault,
        answer=shortened(form.consent),
        reason=fault or f"Consent was given on {form.consent}",
    )
    return Judgement(consent=consent, criteria=tuple(results))


def is_eligible(study: Study, form: AnswersForm, now: datetime) -> bool:
    """``judge(study, form, now).eligible`` without the words: what the verifier asks of every form again."""
    today = _today(study, now)
    return (
        not _fault_of_consent(form.consent, now)
        and form.answers.keys() <= {criterion.id for criterion in study.criteria}
        and not any(_fault(criterion, form.answers, today) for criterion in study.criteria)
    )


def _today(study: Study, now: datetime) -> date:
    if now.tzinfo is None:
        raise RuntimeError("judge needs a moment with a time zone")
    return now.astimezone(study.zone).date()


def summary_lines(study: Study, form: AnswersForm) -> list[tuple[str, str]]:
    """(datum, answer) of what the pharmacist sees before an allocation: the criteria marked `summary`.

    A study that marks none shows those whose datum is an age or a sex.
    """
    marked = [criterion for criterion in study.criteria if criterion.summary]
    usual = [c for c in study.criteria if c.datum.lower().startswith(("age", "sex"))]
    return [(criterion.datum, _in_short(form.answers.get(criterion.id, Answer()))) for criterion in marked or usual]


def _in_short(answer: Answer) -> str:
    if not answer.value.strip():
        return "not answered"
    return shortened(answer.value) + (f" {_unit_word(answer.unit)}" if answer.unit else "")


def _result(criterion: Criterion, answers: dict[str, Answer], today: date) -> CriterionResult:
    fault = _fault(criterion, answers, today)
    answer = answers.get(criterion.id, Answer())
    shown_answer = _display(answer) if answer.value.strip() else ""
    reason = fault or _why_met(criterion, answer)
    return CriterionResult(id=criterion.id, met=not fault, answer=shown_answer, reason=reason)


def _fault(criterion: Criterion, answers: dict[str, Answer], today: date) -> str:
    """Why this criterion is not met, in one sentence; "" when it is met."""
    answer = answers.get(criterion.id)
    if answer is not None and answer.value in criterion.plainly_passing and answer.is_plain:
        return ""  # the usual case: a code that passes and nothing else to check
    if answer is None or not answer.value.strip():
        return f"{_datum(criterion)} is not answered; what is left open never qualifies"
    if answer.value == "UNKNOWN":
        return (
            f"{_datum(criterion)} is UNKNOWN, and what is unknown never qualifies; "
            f"the protocol needs {_needed(criterion)}"
        )
    if answer.value == "NA" and criterion.not_applicable:
        return _fault_of_exemption(criterion, answers) or _fault_of_fields(criterion, answer, today)
    return (
        _fault_of_needs(criterion, answer)
        or _fault_of_fields(criterion, answer, today)
        or _FAULT_OF_TYPE[criterion.type](criterion, answer)
    )


def _why_met(criterion: Criterion, answer: Answer) -> str:
    """Why a criterion is met, in one sentence."""
    if answer.value == "NA" and criterion.not_applicable:
        other, needed = criterion.not_applicable
        return f"{_datum(criterion)} does not apply: {other} is {needed}"
    if criterion.type in ("quantity", "ratio"):
        given, needed = _number_words(criterion, answer)
        return f"{_datum(criterion)} is {given} (needed: {needed})"
    return f"{_datum(criterion)} is {answer.value} (needed: {_needed(criterion)})"


def _datum(criterion: Criterion) -> str:
    return criterion.datum[:1].upper() + criterion.datum[1:]


def _needed(criterion: Criterion) -> str:
    """What passes, in words: "more than 1000", "18 to 70", "at most 3 times the upper limit of normal", "none or I"."""
    if criterion.type not in ("quantity", "ratio"):
        return " or ".join(criterion.passing_codes)
    limits = criterion.limits
    if len(limits) == 2:
        needed = f"{limits[0][1]:f} to {limits[1][1]:f}"
    else:
        needed = f"{_COMPARE[limits[0][0]][1]} {limits[0][1]:f}"
    if criterion.type == "quantity":
        return needed
    return needed.removesuffix(" 1") + ("" if needed.endswith(" 1") else " times") + " the upper limit of normal"


def _fault_of_exemption(criterion: Criterion, answers: dict[str, Answer]) -> str:
    """NA stands only where the criterion says when, such as pregnancy when sex is M."""
    other, needed = criterion.not_applicable or ("", "")
    if answers.get(other, Answer()).value == needed:
        return ""
    return f"{_datum(criterion)} is answered NA, which is taken only when {other} is {needed}"


def _fault_of_needs(criterion: Criterion, answer: Answer) -> str:
    """What the criterion asks an answer to carry, and this one does not."""
    for need in criterion.needs:
        given = getattr(answer, need)
        if given is None or not given.strip():
            return f"{_datum(criterion)} comes without {_NEED_WORDS.get(need, 'the upper limit of normal')}"
    return ""


def _fault_of_fields(criterion: Criterion, answer: Answer, today: date) -> str:
    """What is wrong with the fields beside the value, whether they were asked for or not."""
    if (unit := answer.unit) and unit.strip() and not criterion.units:
        return f"{_datum(criterion)} has no unit, but {shortened(unit)} is given"
    for name, given in (("text", answer.text), ("specimen", answer.specimen)):
        if given and given.strip() and (fault := text_fault(given)):
            return f"{_datum(criterion)}: the {name} {fault}"
    if answer.uln and answer.uln.strip() and (fault := _fault_of_uln(answer.uln)):
        return f"{_datum(criterion)}: {fault}"
    if answer.date and answer.date.strip():
        return _fault_of_date(criterion, answer.date, today)
    return ""


def _fault_of_uln(uln: str) -> str:
    if not is_number(uln):
        return f"the upper limit of normal {shortened(uln)} is no number such as 40 or 1.2"
    if uln[0] == "-" or not Decimal(uln):
        return f"the upper limit of normal {uln} is not above zero"
    return ""


def _fault_of_date(criterion: Criterion, text: str, today: date) -> str:
    day = _day(text)
    if day is None:
        return f"{_datum(criterion)}: {shortened(text)} is no date such as 2026-11-19"
    if day > today:
        return f"{_datum(criterion)} is dated {text}, which is in the future: today is {today} at the study"
    if criterion.max_age_days is not None and (today - day).days > criterion.max_age_days:
        age, most = (today - day).days, criterion.max_age_days
        return f"{_datum(criterion)} is dated {text}, {age} days ago; a result may be at most {most} days old"
    return ""


@lru_cache(maxsize=4096)
def _day(text: str) -> date | None:
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _fault_of_number(criterion: Criterion, answer: Answer) -> str:
    """A quantity, or a ratio to the upper limit of normal: exact, in the criterion's own unit, never negative."""
    text, unit = answer.value, answer.unit or ""
    if not unit.strip():
        return f"{_datum(criterion)} has no unit; the protocol needs {' or '.join(criterion.units)}"
    if unit not in criterion.units:
        units = " or ".join(criterion.units)
        return f"{_datum(criterion)} is in {shortened(unit)}; the protocol needs {units}, and nothing is converted"
    if not is_number(text):
        return f"{_datum(criterion)}: {shortened(text)} is no number such as 45 or 0.5"
    if text[0] == "-":
        return f"{_datum(criterion)} is {text}, and cannot be negative"
    if criterion.whole_number and "." in text:
        return f"{_datum(criterion)} is {text}; it is counted in whole {_unit_word(unit)}"
    value = Decimal(text)
    factor = Decimal(answer.uln or "") if criterion.type == "ratio" else None
    for sign, limit in criterion.limits:
        if not _COMPARE[sign][0](value, limit if factor is None else _EXACT.multiply(limit, factor)):
            given, needed = _number_words(criterion, answer)
            return f"{_datum(criterion)} is {given}; the protocol needs {needed}"
    return ""


def _number_words(criterion: Criterion, answer: Answer) -> tuple[str, str]:
    """(what was given, what is needed), each with its unit."""
    word = _unit_word(answer.unit or "")
    if criterion.type == "ratio":
        given = f"{answer.value} {word}, with an upper limit of normal of {answer.uln} {word}"
        return given, _needed(criterion)
    return f"{answer.value} {word}", f"{_needed(criterion)} {word}"


def _fault_of_choice(criterion: Criterion, answer: Answer) -> str:
    """Yes-no, code or ordinal: from a closed list, and in the part of it that passes."""
    choices = criterion.codes or YES_NO
    if answer.value not in choices:
        return f"{_datum(criterion)}: {shortened(answer.value)} is none of {', '.join(choices)}"
    if criterion.units and answer.unit not in (*criterion.units, None):
        unit = shortened(answer.unit or "")
        return f"{_datum(criterion)} is in {unit}; the protocol needs {criterion.units[0]}"
    if answer.value not in criterion.passing_codes:
        return f"{_datum(criterion)} is {answer.value}; the protocol needs {_needed(criterion)}"
    return ""


_FAULT_OF_TYPE: dict[str, Callable[[Criterion, Answer], str]] = {
    "quantity": _fault_of_number,
    "ratio": _fault_of_number,
    "code": _fault_of_choice,
    "ordinal": _fault_of_choice,
    "yes-no": _fault_of_choice,
}


def _fault_of_consent(consent: str, now: datetime) -> str:
    """Consent comes first: a moment with its offset, not after `now` (ICH E6; CONSORT)."""
    if not consent.strip():
        return "The time of consent is missing"
    moment = _moment(consent)
    if moment is None:
        return f"The time of consent {shortened(consent)} is no time such as 2026-11-20T09:30:00+08:00"
    return f"Consent is dated {consent}, which is in the future" if moment > now else ""


def _moment(text: str) -> datetime | None:
    if _MOMENT.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _no_criterion(name: str, answer: Answer, known: set[str]) -> CriterionResult:
    import difflib  # only an error needs it

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.3)
    help_text = f"; did you mean {close[0]}?" if close else ""
    reason = f"{shortened(name)} is no criterion of this study{help_text}"
    return CriterionResult(id=shortened(name), met=False, answer=_display(answer), reason=reason)


def _unit_word(unit: str) -> str:
    return UNIT_WORDS.get(unit) or shortened(unit)


def _display(answer: Answer) -> str:
    parts = [f"{answer.value} {answer.unit}" if answer.unit else answer.value]
    if answer.uln:
        parts.append(f"upper limit of normal {answer.uln}")
    parts += [part for part in (answer.text, answer.specimen, answer.date) if part]
    return shortened(", ".join(parts))
