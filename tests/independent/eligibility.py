"""§1.4, §14: the form, and whether it qualifies."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from .encoding import Refused, parse_free

KEYS = {"value", "unit", "text", "specimen", "date", "uln"}
NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")
CONSENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
HIDDEN = [
    range(int(item.partition("-")[0], 16), int(item.rpartition("-")[2], 16) + 1)
    for item in re.findall(
        r"\S+",
        "0-1F 7F-9F AD 600-605 61C 6DD 70F 890-891 8E2 180E 200B-200F 2028-202E 2060-206F D800-F8FF FEFF FFF9-FFFB "
        "110BD 110CD 13430-13438 1BCA0-1BCA3 1D173-1D17A E0001 E0020-E007F F0000-FFFFD 100000-10FFFD",
    )
]


def is_blank(text: str) -> bool:
    """§1.4."""
    return all(unicodedata.category(c) == "Zs" or unicodedata.bidirectional(c) in ("WS", "B", "S") for c in text)


def is_text(text: str, limit: int = 500) -> bool:
    """§1.4."""
    return not is_blank(text) and len(text) <= limit and not any(ord(c) in hidden for c in text for hidden in HIDDEN)


def read_form(data: bytes) -> dict[str, Any]:
    """§14.1."""
    form = parse_free(data)
    answers = form.get("answers", {})
    if len(data) > 65_536 or form.keys() - {"consent", "answers"} or not isinstance(form.get("consent", ""), str):
        raise Refused("no form")
    if not isinstance(answers, dict) or len(answers) > 500:
        raise Refused("no form")
    for answer in answers.values():
        if not isinstance(answer, dict) or answer.keys() - KEYS or not all(isinstance(v, str) for v in answer.values()):
            raise Refused("no form")
    return {"consent": form.get("consent", ""), "answers": answers}


def qualifies(study: dict[str, Any], form: dict[str, Any], moment: datetime) -> bool:
    """§14.2."""
    today = moment.astimezone(ZoneInfo(study["time_zone"])).date()
    answers = form["answers"]
    known = {criterion["id"] for criterion in study["criteria"]}
    return (
        _consent(form["consent"], moment)
        and answers.keys() <= known
        and all(met(criterion, answers, today) for criterion in study["criteria"])
    )


def _consent(text: str, moment: datetime) -> bool:
    if not CONSENT.fullmatch(text):
        return False
    try:
        return datetime.fromisoformat(text) <= moment
    except ValueError:
        return False


def met(criterion: dict[str, Any], answers: dict[str, dict[str, str]], today: date) -> bool:
    """§14.3."""
    answer = answers.get(criterion["id"], {})
    value = answer.get("value", "")
    if is_blank(value) or value == "UNKNOWN":
        return False
    exempt = criterion["not_applicable"]
    if value == "NA" and exempt:
        named = answers.get(exempt["criterion"], {}).get("value", "")
        return named == exempt["answer"] and _beside(criterion, answer, today)
    if any(is_blank(answer.get(need, "")) for need in criterion["needs"]):
        return False
    return _beside(criterion, answer, today) and _by_type(criterion, answer, value)


def _beside(criterion: dict[str, Any], answer: dict[str, str], today: date) -> bool:
    given = {key: text for key, text in answer.items() if not is_blank(text)}
    if "unit" in given and not criterion["unit"]:
        return False
    if not all(is_text(given[key]) for key in ("text", "specimen") if key in given):
        return False
    if "uln" in given and not (_is_number(given["uln"]) and given["uln"][0] != "-" and Fraction(given["uln"]) > 0):
        return False
    return "date" not in given or _date_holds(criterion["max_age_days"], given["date"], today)


def _date_holds(most: int | None, text: str, today: date) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        age = (today - date.fromisoformat(text)).days
    except ValueError:
        return False
    return age >= 0 and (most is None or age <= most)


def _by_type(criterion: dict[str, Any], answer: dict[str, str], value: str) -> bool:
    """§14.4."""
    kind, rule, units = criterion["type"], criterion["pass"], criterion["unit"]
    if kind in ("quantity", "ratio"):
        if answer.get("unit") not in units or not _is_number(value) or value[0] == "-":
            return False
        if criterion["whole_number"] and "." in value:
            return False
        factor = Fraction(answer["uln"]) if kind == "ratio" else Fraction(1)
        return all(_compare(sign, Fraction(value), factor * Fraction(limit)) for sign, limit in _limits(rule))
    if kind == "yes-no":
        return value in ("Y", "N") and value == rule
    if units and "unit" in answer and answer["unit"] not in units:
        return False
    codes = criterion["codes"]
    return value in codes and value in _passing(kind, rule, codes)


def _passing(kind: str, rule: Any, codes: list[str]) -> list[str]:
    if isinstance(rule, list):
        return rule
    match = re.fullmatch(r"(>=|<=|>|<) ?(.*)", rule)
    if kind == "ordinal" and match:
        return [c for c in codes if _compare(match[1], Fraction(codes.index(c)), Fraction(codes.index(match[2])))]
    return [rule]


def _limits(rule: str) -> list[tuple[str, str]]:
    if ".." in rule:
        low, high = rule.split("..")
        return [(">=", low), ("<=", high)]
    sign = re.match(r"[<>]=?", rule)
    assert sign
    return [(sign[0], rule[sign.end() :].strip())]


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _compare(sign: str, a: Fraction, b: Fraction) -> bool:
    return {">": a > b, ">=": a >= b, "<": a < b, "<=": a <= b}[sign]
