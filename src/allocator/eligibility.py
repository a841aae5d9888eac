"""Answers and criteria in; eligible, or not and why, out. Pure.

One rule runs through it: only what was asked, answered and found to pass lets a participant in. What is
missing, blank, UNKNOWN, on no list, in another unit or out of date never passes (docs/spec.md, eligibility
form). Numbers are exact decimals; nothing is rounded and nothing converted.
"""

from __future__ import annotations

import difflib
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
    "Answer",
    "AnswersForm",
    "CriterionResult",
    "Judgement",
    "form_bytes",
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
_UNIT_WORDS = {"a": "years", "mo": "months", "d": "days"}
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
    if now.tzinfo is None:
        raise RuntimeError("judge needs a moment with a time zone")
    today = now.astimezone(study.zone).date()
    results = [_judge_criterion(criterion, form.answers, today) for criterion in study.criteria]
    known = {criterion.id for criterion in study.criteria}
    results += [_no_criterion(name, form.answers[name], known) for name in sorted(form.answers.keys() - known)]
    return Judgement(consent=_judge_consent(form.consent, now), criteria=tuple(results))


def summary_lines(study: Study, form: AnswersForm) -> list[tuple[str, str]]:
    """(datum, answer) of the criteria marked `summary`: what the pharmacist sees before an allocation."""
    lines = []
    for criterion in study.criteria:
        if criterion.summary:
            answer = form.answers.get(criterion.id, Answer())
            unit = f" {_unit_word(answer.unit)}" if answer.unit else ""
            lines.append(
                (
                    criterion.datum,
                    f"{shortened(answer.value)}{unit}" if answer.value.strip() else "not answered",
                )
            )
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A criterion's pass rule, made ready once: exact limits, codes that pass, and the words for them."""

    datum: str
    limits: tuple[tuple[Callable[[Decimal, Decimal], bool], Decimal], ...] = ()
    passing: tuple[str, ...] = ()
    needed: str


@lru_cache(maxsize=4096)
def _rule(criterion: Criterion) -> _Rule:
    datum = criterion.datum[:1].upper() + criterion.datum[1:]
    if criterion.type in ("quantity", "ratio"):
        limits = criterion.limits()
        compiled = tuple((_COMPARE[sign][0], limit) for sign, limit in limits)
        if len(limits) == 2:
            needed = f"{limits[0][1]:f} to {limits[1][1]:f}"
        else:
            needed = f"{_COMPARE[limits[0][0]][1]} {limits[0][1]:f}"
        if criterion.type == "ratio":
            needed = needed.removesuffix(" 1") + ("" if needed.endswith(" 1") else " times")
            needed += " the upper limit of normal"
        return _Rule(datum=datum, limits=compiled, needed=needed)
    passing = criterion.passing_codes()
    return _Rule(datum=datum, passing=passing, needed=" or ".join(passing))


def _judge_criterion(criterion: Criterion, answers: dict[str, Answer], today: date) -> CriterionResult:
    answer = answers.get(criterion.id)
    rule = _rule(criterion)
    if answer is None or not answer.value.strip():
        reason = f"{rule.datum} is not answered; what is left open never qualifies"
        return CriterionResult(id=criterion.id, met=False, answer="", reason=reason)
    reason = ""
    if answer.value == "UNKNOWN":
        fault = f"{rule.datum} is UNKNOWN, and what is unknown never qualifies; the protocol needs {rule.needed}"
    elif answer.value == "NA" and criterion.not_applicable:
        fault, reason = _judge_exemption(criterion, rule, answers)
        fault = fault or _fault_of_fields(rule, criterion, answer, today)
    else:
        fault = _fault_of_needs(rule, criterion, answer) or _fault_of_fields(rule, criterion, answer, today)
        if not fault:
            fault, reason = _JUDGE_TYPE[criterion.type](criterion, rule, answer)
    return CriterionResult(id=criterion.id, met=not fault, answer=_display(answer), reason=fault or reason)


def _judge_exemption(criterion: Criterion, rule: _Rule, answers: dict[str, Answer]) -> tuple[str, str]:
    """NA stands only where the criterion says when, such as pregnancy when sex is M."""
    other, needed = criterion.not_applicable or ("", "")
    given = answers.get(other, Answer()).value
    if given == needed:
        return "", f"{rule.datum} does not apply: {other} is {needed}"
    return f"{rule.datum} is answered NA, which is taken only when {other} is {needed}", ""


def _fault_of_needs(rule: _Rule, criterion: Criterion, answer: Answer) -> str:
    """What the criterion asks an answer to carry, and this one does not."""
    for need in criterion.needs:
        given = getattr(answer, need)
        if given is None or not given.strip():
            return f"{rule.datum} comes without {_NEED_WORDS.get(need, 'the upper limit of normal')}"
    return ""


def _fault_of_fields(rule: _Rule, criterion: Criterion, answer: Answer, today: date) -> str:
    """What is wrong with the fields beside the value, whether they were asked for or not."""
    if (unit := answer.unit) and unit.strip() and not criterion.units:
        return f"{rule.datum} has no unit, but {shortened(unit)} is given"
    for name, given in (("text", answer.text), ("specimen", answer.specimen)):
        if given and given.strip() and (fault := text_fault(given)):
            return f"{rule.datum}: the {name} {fault}"
    if answer.uln and answer.uln.strip() and (fault := _fault_of_uln(answer.uln)):
        return f"{rule.datum}: {fault}"
    if answer.date and answer.date.strip():
        return _fault_of_date(rule, criterion, answer.date, today)
    return ""


def _fault_of_uln(uln: str) -> str:
    if not is_number(uln):
        return f"the upper limit of normal {shortened(uln)} is no number such as 40 or 1.2"
    if uln[0] == "-" or not Decimal(uln):
        return f"the upper limit of normal {uln} is not above zero"
    return ""


def _fault_of_date(rule: _Rule, criterion: Criterion, text: str, today: date) -> str:
    day = _day(text)
    if day is None:
        return f"{rule.datum}: {shortened(text)} is no date such as 2026-11-19"
    if day > today:
        return f"{rule.datum} is dated {text}, which is in the future: today is {today} at the study"
    if criterion.max_age_days is not None and (today - day).days > criterion.max_age_days:
        age, most = (today - day).days, criterion.max_age_days
        return f"{rule.datum} is dated {text}, {age} days ago; a result may be at most {most} days old"
    return ""


@lru_cache(maxsize=4096)
def _day(text: str) -> date | None:
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _judge_number(criterion: Criterion, rule: _Rule, answer: Answer) -> tuple[str, str]:
    """A quantity, or a ratio to the upper limit of normal: (fault, "") or ("", why it is met)."""
    text, unit = answer.value, answer.unit or ""
    units = " or ".join(criterion.units)
    if not unit.strip():
        return f"{rule.datum} has no unit; the protocol needs {units}", ""
    if unit not in criterion.units:
        return (
            f"{rule.datum} is in {shortened(unit)}; the protocol needs {units}, and nothing is converted",
            "",
        )
    if not is_number(text):
        return f"{rule.datum}: {shortened(text)} is no number such as 45 or 0.5", ""
    if text[0] == "-":
        return f"{rule.datum} is {text}, and cannot be negative", ""
    if criterion.whole_number and "." in text:
        return f"{rule.datum} is {text}; it is counted in whole {_unit_word(unit)}", ""
    value, word = Decimal(text), _unit_word(unit)
    given = f"{text} {word}"
    needed = f"{rule.needed} {word}"
    factor = None
    if criterion.type == "ratio":
        factor = Decimal(answer.uln or "")
        given += f", with an upper limit of normal of {answer.uln} {word}"
        needed = rule.needed
    for passes, limit in rule.limits:
        if not passes(value, limit if factor is None else _EXACT.multiply(limit, factor)):
            return f"{rule.datum} is {given}; the protocol needs {needed}", ""
    return "", f"{rule.datum} is {given} (needed: {needed})"


def _judge_choice(criterion: Criterion, rule: _Rule, answer: Answer) -> tuple[str, str]:
    """Yes-no, code or ordinal, from a closed list: (fault, "") or ("", why it is met)."""
    value = answer.value
    choices = criterion.codes or YES_NO
    if value == "UNKNOWN":
        return (
            f"{rule.datum} is UNKNOWN, and what is unknown never qualifies; the protocol needs {rule.needed}",
            "",
        )
    if value not in choices:
        return f"{rule.datum}: {shortened(value)} is none of {', '.join(choices)}", ""
    if criterion.units and answer.unit not in (*criterion.units, None):
        return (
            f"{rule.datum} is in {shortened(answer.unit or '')}; the protocol needs {criterion.units[0]}",
            "",
        )
    if value not in rule.passing:
        return f"{rule.datum} is {value}; the protocol needs {rule.needed}", ""
    return "", f"{rule.datum} is {value} (needed: {rule.needed})"


_JUDGE_TYPE: dict[str, Callable[[Criterion, _Rule, Answer], tuple[str, str]]] = {
    "quantity": _judge_number,
    "ratio": _judge_number,
    "code": _judge_choice,
    "ordinal": _judge_choice,
    "yes-no": _judge_choice,
}


def _judge_consent(consent: str, now: datetime) -> CriterionResult:
    """Consent comes first: a moment with its offset, not after `now` (ICH E6; CONSORT)."""
    moment = _moment(consent)
    if not consent.strip():
        fault = "The time of consent is missing"
    elif moment is None:
        fault = f"The time of consent {shortened(consent)} is no time such as 2026-11-20T09:30:00+08:00"
    elif moment > now:
        fault = f"Consent is dated {consent}, which is in the future"
    else:
        fault = ""
    reason = fault or f"Consent was given on {consent}"
    return CriterionResult(id="consent", met=not fault, answer=shortened(consent), reason=reason)


def _moment(text: str) -> datetime | None:
    if _MOMENT.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _no_criterion(name: str, answer: Answer, known: set[str]) -> CriterionResult:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.3)
    help_text = f"; did you mean {close[0]}?" if close else ""
    reason = f"{shortened(name)} is no criterion of this study{help_text}"
    return CriterionResult(id=shortened(name), met=False, answer=_display(answer), reason=reason)


def _unit_word(unit: str) -> str:
    return _UNIT_WORDS.get(unit) or shortened(unit)


def _display(answer: Answer) -> str:
    parts = [f"{answer.value} {answer.unit}" if answer.unit else answer.value]
    if answer.uln:
        parts.append(f"upper limit of normal {answer.uln}")
    parts += [part for part in (answer.text, answer.specimen, answer.date) if part]
    return shortened(", ".join(parts))
