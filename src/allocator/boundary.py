"""Whether a criterion's own words and its typed limit draw the same line (finding K24). Pure.

The words of an inclusion say who may take part; the words of an exclusion say who may not, so that its limit is the
complement: "creatinine clearance ≤30" as an exclusion needs "> 30" to pass.
"""

from __future__ import annotations

import re
from decimal import Decimal

from allocator.criterion import Criterion

_OPPOSITE = {">": "<=", "<=": ">", "<": ">=", ">=": "<"}
# longer phrases first: "not more than" holds "more than"
_PHRASES = (
    ("<=", "not more than|no more than|not exceeding|at most|up to|≤|<=|=<"),
    (">=", "not less than|no less than|not fewer than|no fewer than|at least|≥|>=|=>"),
    (">", "more than|greater than|higher than|exceeding|above|over|>"),
    ("<", "less than|fewer than|lower than|below|under|<"),
)
_AFTER = ((">=", "or more|or greater|or above|or higher|or older"), ("<=", "or less|or fewer|or below|or younger"))
_FILL = r"\s*(?:(?:the|a|an|grade|class|stage|level)\s+)*"
_NUMBER = r"(?P<number>[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?:\\?\^[0-9]{1,2})?)(?![0-9])"
_BEFORE_NUMBER = tuple(
    (sign, re.compile(rf"(?<![a-z])(?:{words}){_FILL}{_NUMBER}", re.IGNORECASE)) for sign, words in _PHRASES
)
_AFTER_NUMBER = tuple(
    (sign, re.compile(rf"{_NUMBER}\s*(?:[^\s0-9]+\s+){{0,2}}(?:{words})\b", re.IGNORECASE)) for sign, words in _AFTER
)
_BARE_ULN = tuple((sign, re.compile(rf"(?<![a-z])(?:{words}){_FILL}ULN", re.IGNORECASE)) for sign, words in _PHRASES)
_RANGE = re.compile(rf"(?<![\w.-]){_NUMBER}\s*(?:to|-|–)\s*{_NUMBER.replace('number', 'upper')}", re.IGNORECASE)


def boundary_conflict(criterion: Criterion) -> str:
    """What the criterion's words say against its limit, in words; "" where they agree or say nothing about it."""
    if criterion.type in ("quantity", "ratio"):
        return _conflict_of_numbers(criterion)
    if criterion.type == "ordinal":
        return _conflict_of_levels(criterion)
    return ""


def _conflict_of_numbers(criterion: Criterion) -> str:
    stated = _stated(criterion)
    limits = criterion.limits
    if not stated:
        return ""
    needed = " and ".join(f"{sign} {number:f}" for sign, number in stated)
    if len(stated) == 2 and _RANGE.search(criterion.text) and set(stated) != set(limits):
        return f"the words need {needed}, the limit is {criterion.pass_rule}"
    for sign, limit in limits:
        signs = {s for s, number in stated if number == limit}
        if signs and sign not in signs:
            return f"the words need {needed}, the limit is {criterion.pass_rule}"
    if not {number for _, number in stated} & {limit for _, limit in limits}:
        return f"the words need {needed}, the limit is {criterion.pass_rule}"
    return ""


def _stated(criterion: Criterion) -> list[tuple[str, Decimal]]:
    """The comparisons that the words ask for to pass, as (sign, number)."""
    text, exclusion = criterion.text, criterion.category == "exclusion"
    if match := _RANGE.search(text):
        low, high = _decimal(match["number"]), _decimal(match["upper"])
        return [] if exclusion else [(">=", low), ("<=", high)]
    found: list[tuple[str, Decimal]] = []
    for sign, pattern in _BEFORE_NUMBER:
        found += [(sign, _decimal(match["number"])) for match in pattern.finditer(text)]
        text = pattern.sub(" ", text)
    for sign, pattern in _AFTER_NUMBER:
        found += [(sign, _decimal(match["number"])) for match in pattern.finditer(text)]
    if criterion.type == "ratio":
        for sign, pattern in _BARE_ULN:
            found += [(sign, Decimal(1)) for _ in pattern.finditer(text)]
            text = pattern.sub(" ", text)
    return [(_OPPOSITE[sign] if exclusion else sign, number) for sign, number in found]


def _conflict_of_levels(criterion: Criterion) -> str:
    levels = "|".join(re.escape(level) for level in sorted(criterion.codes, key=len, reverse=True))
    text = criterion.text
    for sign, words in _PHRASES:
        if match := re.search(rf"(?<![a-z])(?:{words}){_FILL}(?P<level>{levels})\b", text, re.IGNORECASE):
            at = next((i for i, c in enumerate(criterion.codes) if c.lower() == match["level"].lower()), 0)
            named = {
                ">": criterion.codes[at + 1 :],
                ">=": criterion.codes[at:],
                "<": criterion.codes[:at],
                "<=": criterion.codes[: at + 1],
            }[sign]
            wanted = {c for c in criterion.codes if (c in named) != (criterion.category == "exclusion")}
            if wanted != set(criterion.passing_codes):
                ordered = ", ".join(c for c in criterion.codes if c in wanted)
                return f"the words admit {ordered}, the limit admits {', '.join(criterion.passing_codes)}"
            return ""
    return ""


def _decimal(text: str) -> Decimal:
    base, _, exponent = text.replace(",", "").replace("\\", "").partition("^")
    return Decimal(base) ** int(exponent) if exponent else Decimal(base)
