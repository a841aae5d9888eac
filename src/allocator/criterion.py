"""Criterion: one eligibility criterion of a protocol, typed, with what passes (docs/spec.md §2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from allocator.text import is_identifier, is_number, text_fault

CATEGORIES = ("inclusion", "exclusion")
CRITERION_TYPES = ("quantity", "code", "yes-no", "ordinal", "ratio")
NYHA = ("none", "I", "II", "III", "IV")
RESULTS = ("POSITIVE", "NEGATIVE", "INDETERMINATE")
NEEDS = ("text", "specimen", "date", "uln")

_LIMIT = re.compile(r"(>=|<=|>|<) ?(-?[0-9][0-9.]*)", re.ASCII)
_RANGE = re.compile(r"(-?[0-9][0-9.]*)\.\.(-?[0-9][0-9.]*)", re.ASCII)
_ORDINAL = re.compile(r"(>=|<=|>|<) ?(\S+)")


class StudyError(ValueError):
    """One field of a study is wrong. `field` is its path inside its own table."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One eligibility criterion, typed.

    Attributes:
        units: the units an answer may carry, UCUM, compared to the letter; empty for answers without a unit.
        pass_rule: ``"> 1000"``, ``"18..70"``, ``"N"``, ``"<= II"``; for codes (and ordinals) the list that passes.
        needs: what else an answer must carry, of text, specimen, date, uln.
        max_age_days: how old the answer's date may be, in days of the study's time zone; None for any age.
        codes: for a code the closed list, for an ordinal its levels from low to high.
        whole_number: a quantity that is counted in whole units, such as age in years.
        summary: shown to the pharmacist before the reveal (age, sex).
        not_applicable: (criterion id, answer) under which NA may be answered, such as ("I0-SEX", "M").
    """

    id: str
    category: str
    text: str
    source: str
    datum: str
    type: str
    units: tuple[str, ...] = ()
    pass_rule: str | tuple[str, ...]
    needs: tuple[str, ...] = ()
    max_age_days: int | None = None
    codes: tuple[str, ...] = ()
    whole_number: bool = False
    summary: bool = False
    not_applicable: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        require_identifier("id", self.id)
        require_choice("category", self.category, CATEGORIES)
        for name in ("text", "source", "datum"):
            require_text(name, getattr(self, name))
        require_choice("type", self.type, CRITERION_TYPES)
        for index, need in enumerate(self.needs):
            require_choice(f"needs.{index}", need, NEEDS)
        for unit in self.units:
            require_text("unit", unit, limit=40)
        if self.max_age_days is not None and not 0 <= self.max_age_days <= 36_500:
            raise StudyError("max_age_days", f"{self.max_age_days} is outside 0..36500")
        if self.max_age_days is not None and "date" not in self.needs:
            raise StudyError("max_age_days", 'an age limit needs a date: add "date" to needs')
        _CHECK_TYPE[self.type](self)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Criterion:
        """Build from one ``[[criterion]]`` table."""
        unit = table.get("unit", ())
        rule = table["pass"] if isinstance(table["pass"], str) else tuple(table["pass"])
        exempt = table.get("not_applicable")
        needs = tuple(table.get("needs", ()))
        if table["type"] == "ratio" and "uln" not in needs:
            needs = (*needs, "uln")  # a ratio is always to the upper limit of normal
        return cls(
            id=table["id"],
            category=table["category"],
            text=table["text"],
            source=table["source"],
            datum=table["datum"],
            type=table["type"],
            units=(unit,) if isinstance(unit, str) else tuple(unit),
            pass_rule=rule,
            needs=needs,
            max_age_days=table.get("max_age_days"),
            codes=tuple(table.get("codes", _usual_codes(table["type"], rule))),
            whole_number=table.get("whole_number", False),
            summary=table.get("summary", False),
            not_applicable=(exempt["criterion"], exempt["answer"]) if exempt else None,
        )

    def plain(self) -> dict[str, Any]:
        """The canonical object of this criterion."""
        exempt = self.not_applicable
        return {
            "id": self.id,
            "category": self.category,
            "text": self.text,
            "source": self.source,
            "datum": self.datum,
            "type": self.type,
            "unit": list(self.units),
            "pass": self.pass_rule if isinstance(self.pass_rule, str) else list(self.pass_rule),
            "needs": list(self.needs),
            "max_age_days": self.max_age_days,
            "codes": list(self.codes),
            "whole_number": self.whole_number,
            "summary": self.summary,
            "not_applicable": {"criterion": exempt[0], "answer": exempt[1]} if exempt else None,
        }

    @cached_property
    def limits(self) -> tuple[tuple[str, Decimal], ...]:
        """The comparisons of a quantity or ratio, as (operator, exact decimal): one, or two for a range."""
        rule = self.pass_rule
        if isinstance(rule, str):
            if (match := _RANGE.fullmatch(rule)) and is_number(match[1]) and is_number(match[2]):
                return (">=", Decimal(match[1])), ("<=", Decimal(match[2]))
            if (match := _LIMIT.fullmatch(rule)) and is_number(match[2]):
                return ((match[1], Decimal(match[2])),)
        raise StudyError("pass", f'{rule!r} is no limit; write "> 1000", ">= 1", "< 1", "<= 3" or "18..70"')

    @cached_property
    def passing_codes(self) -> tuple[str, ...]:
        """The codes (or ordinal levels) that pass, in declared order."""
        rule = self.pass_rule
        if not isinstance(rule, str):
            return rule
        if self.type == "ordinal" and (match := _ORDINAL.fullmatch(rule)) and match[2] in self.codes:
            limit = self.codes.index(match[2])
            return tuple(c for i, c in enumerate(self.codes) if _COMPARE[match[1]](i, limit))
        return (rule,)

    @cached_property
    def plainly_passing(self) -> tuple[str, ...]:
        """The answers that pass with nothing beside them; none where an answer must carry more."""
        if self.needs or self.units:
            return ()
        return tuple(code for code in self.passing_codes if code not in ("UNKNOWN", "NA"))


def _usual_codes(criterion_type: str, rule: str | tuple[str, ...]) -> tuple[str, ...]:
    """The closed list of a criterion that names none: NYHA classes, test results, or what passes and nothing else."""
    if criterion_type == "ordinal":
        return NYHA
    if criterion_type != "code":
        return ()
    passing = (rule,) if isinstance(rule, str) else rule
    return RESULTS if set(passing) <= set(RESULTS) else passing


def _check_quantity(criterion: Criterion) -> None:
    limits = criterion.limits
    if len(limits) == 2 and limits[0][1] > limits[1][1]:
        raise StudyError("pass", f"{criterion.pass_rule!r} holds no value")
    if not criterion.units:
        raise StudyError("unit", "a quantity needs its unit (UCUM)")
    if criterion.type == "ratio" and "uln" not in criterion.needs:
        raise StudyError("needs", 'a ratio is taken to the upper limit of normal: needs must hold "uln"')


def _check_codes(criterion: Criterion) -> None:
    if not criterion.codes:
        raise StudyError("codes", "the closed list of codes (of levels, for an ordinal) is missing")
    require_unique("codes", criterion.codes)
    for index, code in enumerate(criterion.codes):
        require_identifier(f"codes.{index}", code)
    passing = criterion.passing_codes
    if not passing:
        raise StudyError("pass", "no code passes")
    for code in passing:
        if code not in criterion.codes:
            raise StudyError("pass", f"{code!r} is not in codes ({', '.join(criterion.codes)})")


def _check_yes_no(criterion: Criterion) -> None:
    if criterion.pass_rule not in ("Y", "N"):
        raise StudyError("pass", f'{criterion.pass_rule!r} is neither "Y" nor "N"')
    if criterion.units or criterion.codes:
        raise StudyError("unit" if criterion.units else "codes", "a yes-no answer has neither unit nor codes")


_CHECK_TYPE = {
    "quantity": _check_quantity,
    "ratio": _check_quantity,
    "code": _check_codes,
    "ordinal": _check_codes,
    "yes-no": _check_yes_no,
}
_COMPARE = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def require_identifier(field_name: str, value: str) -> None:
    """StudyError unless the value is an id (see `text.is_identifier`)."""
    if not is_identifier(value):
        raise StudyError(field_name, f"{value!r} is no id: ASCII letters, digits and . _ -, at most 40")


def require_text(field_name: str, value: str, *, limit: int = 500) -> None:
    """StudyError unless the value is printable text within its limit."""
    if fault := text_fault(value, limit=limit):
        raise StudyError(field_name, f"the text {fault}")


def require_choice(field_name: str, value: str, choices: tuple[str, ...]) -> None:
    """StudyError unless the value is one of the choices."""
    if value not in choices:
        raise StudyError(field_name, f"{value!r} is none of {', '.join(choices)}{nearest(value, choices)}")


def nearest(value: str, known: Sequence[str]) -> str:
    """The nearest right name, as the end of a sentence; "" when none is near."""
    import difflib  # only an error needs it

    close = difflib.get_close_matches(value, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def require_unique(field_name: str, values: Sequence[str]) -> None:
    """StudyError when a value stands more than once."""
    for value in values:
        if values.count(value) > 1:
            raise StudyError(field_name, f"{value!r} stands more than once")
