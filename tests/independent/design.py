"""§3: which object is a design of a study with these arms and so many strata."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from .encoding import Refused

# needs | may have | two equal arms (2), equal shares (1), any (0)
METHODS: dict[str, tuple[str, str, int]] = {
    "permuted-block": ("block_sizes", "", 0),
    "complete": ("", "", 0),
    "random-allocation-rule": ("", "", 0),
    "big-stick": ("limit", "", 2),
    "biased-coin": ("probability", "", 2),
    "urn": ("alpha beta", "", 1),
    "truncated-binomial": ("", "block_sizes", 2),
    "chen": ("limit probability", "", 2),
    "maximal-procedure": ("limit", "", 2),
    "block-urn": ("lambda", "", 0),
    "imported-list": ("arms", "", 0),
}
MOST_IMPORTED = 20_000


def algorithm(design: dict[str, Any]) -> str:
    """§3: the id in the log."""
    return f"{design['method']}/1"


def check_design(design: Any, codes: Sequence[str], strata: int) -> None:
    """§3: Refused unless it is one, in the study's order."""
    _need(isinstance(design, dict) and isinstance(design.get("method"), str) and design["method"] in METHODS, "method")
    needs, may, equal = METHODS[design["method"]]
    always = {"format", "method", "length", "ratio", *needs.split()}
    _need(always <= design.keys() <= always | set(may.split()), "fields")
    _need(design["format"] == "allocator-design/1", "format")
    _need(_whole(design["length"], 1, 10_000_000), "length")
    _check_ratio(design["ratio"], codes, equal)
    total = sum(item["share"] for item in design["ratio"])
    for name in design.keys() - {"format", "method", "length", "ratio"}:
        _need(FORMS[name](design[name], design), name)
    _check_length(design, total)
    if "block_sizes" in design:
        sizes = design["block_sizes"]
        _need(all(size % total == 0 for size in sizes) and sizes == sorted(set(sizes)), "block_sizes")
    if "arms" in design:
        _need(len(design["arms"]) == strata and strata * design["length"] <= MOST_IMPORTED, "arms")
        _need(all(arm < len(codes) for text in design["arms"] for arm in bytes.fromhex(text)), "arms")


def _check_ratio(ratio: Any, codes: Sequence[str], equal: int) -> None:
    _need(isinstance(ratio, list) and all(isinstance(item, dict) for item in ratio), "ratio")
    _need(all(item.keys() == {"arm", "share"} and _whole(item["share"], 1, 1000) for item in ratio), "ratio")
    _need([item["arm"] for item in ratio] == list(codes), "ratio")
    _need(not equal or len({item["share"] for item in ratio}) == 1, "equal shares")
    _need(equal < 2 or len(ratio) == 2, "two arms")


def _check_length(design: dict[str, Any], total: int) -> None:
    match design["method"]:
        case "random-allocation-rule":
            _need(design["length"] % total == 0, "length")
        case "truncated-binomial":
            _need("block_sizes" in design or design["length"] % 2 == 0, "length")
        case "maximal-procedure":
            _need(design["length"] % 2 == 0 and design["length"] <= 2000, "length")


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(f"no design: {what}")


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_limit(value: Any, design: dict[str, Any]) -> bool:
    return _whole(value, 1, 50 if design["method"] == "maximal-procedure" else 1000)


def _is_probability(value: Any, _: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch("[1-9][0-9]{0,3}/[1-9][0-9]{0,3}", value):
        return False
    p, q = map(int, value.split("/"))
    return q <= 1000 and 2 * p > q > p and math.gcd(p, q) == 1


def _is_urn(value: Any, design: dict[str, Any]) -> bool:
    return _whole(value, 0, 1000) and (design["alpha"], design["beta"]) != (0, 0)


def _are_sizes(value: Any, _: Any) -> bool:
    return isinstance(value, list) and value != [] and all(_whole(size, 1, 10_000) for size in value)


def _are_arms(value: Any, design: dict[str, Any]) -> bool:
    digits = 2 * design["length"]
    return isinstance(value, list) and all(
        isinstance(text, str) and len(text) == digits and re.fullmatch("[0-9a-f]*", text) for text in value
    )


FORMS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "limit": _is_limit,
    "lambda": _is_limit,
    "probability": _is_probability,
    "alpha": _is_urn,
    "beta": _is_urn,
    "block_sizes": _are_sizes,
    "arms": _are_arms,
}
