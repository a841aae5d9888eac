"""The eligibility form as it is filed: Answer, AnswersForm, and the strict reader of answers.json. Pure.

The reader refuses what is no such form at all; `eligibility` says whether the answers qualify (docs/spec.md §14).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical, parse_strict
from allocator.errors import InputError
from allocator.text import shown

MAX_FORM = 64 * 1024  # bytes of one answers file
MAX_ANSWERS = 500
MAX_SHOWN = 80  # characters of one value in a sentence; the record itself keeps it whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer as it was given: all strings, None for a field that the form does not have.

    Attributes:
        value: the answer itself; "" when it is missing.
        unit: UCUM, compared to the letter.
        uln: the laboratory's upper limit of normal, in the same unit as the value.
        date: day of the result, YYYY-MM-DD, in the study's time zone.
    """

    value: str = ""
    unit: str | None = None
    text: str | None = None
    specimen: str | None = None
    date: str | None = None
    uln: str | None = None

    @property
    def is_plain(self) -> bool:
        """True when the answer is a value and nothing else."""
        return self.unit is self.text is self.specimen is self.date is self.uln is None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersForm:
    """One participant's form: the time of consent (RFC 3339 with offset), and the answers by criterion id."""

    consent: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)


_ANSWER_FIELDS = tuple(f.name for f in fields(Answer))
_ANSWER_FIELD_SET = frozenset(_ANSWER_FIELDS)
_FORM_FIELDS = ("consent", "answers")


def parse_form(data: bytes) -> AnswersForm:
    """Read an answers file, strictly. Missing or blank answers are no errors here: `judge` never passes them.

    Raises:
        InputError: ``answers-file``: the bytes are no eligibility form at all; every fault with its place.
    """
    try:
        document = parse_strict(data, limit=MAX_FORM)
    except CanonicalError as error:
        raise _no_form([shown(str(error))]) from error
    return _form_of(document)


def parse_stored_form(data: bytes) -> AnswersForm:
    """Read a form as `form_bytes` wrote it into the log: the same rules, and canonical. InputError otherwise."""
    try:
        document = parse_canonical(data, limit=MAX_FORM)
    except CanonicalError as error:
        raise _no_form([shown(str(error))]) from error
    return _form_of(document)


def _form_of(document: dict[str, Any]) -> AnswersForm:
    if faults := list(_form_faults(document)):
        raise _no_form(faults)
    answers = {name: _answer_of(tuple(table.items())) for name, table in document.get("answers", {}).items()}
    return AnswersForm(consent=document.get("consent", ""), answers=answers)


@lru_cache(maxsize=1024)
def _answer_of(fields: tuple[tuple[str, str], ...]) -> Answer:
    """Most forms hold the same plain answers: they are made once."""
    return Answer(**dict(fields))


def form_bytes(form: AnswersForm) -> bytes:
    """Canonical JSON of the fields a form has; ``parse_form(form_bytes(f)) == f`` for every parsed form."""
    answers = {
        name: {key: value for key in _ANSWER_FIELDS if (value := getattr(answer, key)) is not None}
        for name, answer in form.answers.items()
    }
    return canonical_bytes({"consent": form.consent, "answers": answers})


def shortened(text: str) -> str:
    """Text of unknown origin, made safe for a screen and short enough for a sentence."""
    return shown(text) if len(text) <= MAX_SHOWN else shown(text[:MAX_SHOWN]) + "…"


def _no_form(faults: list[str]) -> InputError:
    hint = 'It is JSON: {"consent": "2026-11-20T09:30:00+08:00", "answers": {"<criterion>": {"value": "..."}}}.'
    return InputError("answers-file", "The answers file is no eligibility form: " + "; ".join(faults), hint, faults)


def _form_faults(document: dict[str, Any]) -> Iterator[str]:
    yield from _key_faults("", document, _FORM_FIELDS)
    consent = document.get("consent", "")
    if fault := _string_fault(consent):
        yield f"consent: {fault}"
    answers = document.get("answers", {})
    if not isinstance(answers, dict):
        yield "answers: an object was expected, by criterion id"
        return
    if len(answers) > MAX_ANSWERS:
        yield f"answers: {len(answers)} answers where at most {MAX_ANSWERS} are read"
        return
    for name, table in answers.items():
        if fault := _string_fault(name):
            yield f"answers.{shortened(name)}: {fault}"
        elif not isinstance(table, dict):
            yield f'answers.{shortened(name)}: an object such as {{"value": "N"}} was expected'
        elif not (table.keys() <= _ANSWER_FIELD_SET and all(type(v) is str and v.isascii() for v in table.values())):
            yield from _key_faults(f"answers.{shortened(name)}.", table, _ANSWER_FIELDS)
            for key in _ANSWER_FIELDS:
                if fault := _string_fault(table.get(key, "")):
                    yield f"answers.{shortened(name)}.{key}: {fault}"


def _key_faults(place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    for key in table:
        if key not in known:
            import difflib  # only an error needs it

            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            help_text = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            yield f"{place}{shortened(key)}: unknown field; {help_text}"


def _string_fault(value: object) -> str:
    if not isinstance(value, str):
        return f'a string was expected, {type(value).__name__} found; write values in quotes, such as "45"'
    if not value.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        return "half of a surrogate pair is no character"
    return ""
