"""docs/mutants.md, and what keeps it honest."""

from __future__ import annotations

from collections.abc import Mapping

from explained import EXPLAINED
from mutant import SECONDS, Outcome

INTRO = """# Mutants

Made by `make mutants`: {total} small faults, one at a time, in the modules that draw the list, and whether a test finds
them. {found} are found, {missed} are not. **Each that is not found is explained below**; the command fails where one
is not, or where an explanation has become untrue.

mutmut makes {theirs}, those within functions: another operator, another number, another word, an argument less, `None`
for a value. `mutants/rest.py` makes {ours} that it does not make: constants of a module, defaults, properties. What
decorators say is not changed. Found means that a test fails, or does not end within {seconds} seconds. The tests are
those that draw (`mutants/run.py` lists them); the chi-square tests of `tests/test_arrangements.py` are not among them,
so that nothing here is found by statistics.
"""
Key = tuple[str, str, str, str]
HEADER = ["", "| where | line | made into |", "|---|---|---|"]


def missed(outcomes: Mapping[str, Outcome]) -> list[Key]:
    """Module, function, line as it is, line as it was made; once for each mutant."""
    return [(name, *map(str, one)) for name, outcome in outcomes.items() for one in outcome["not_found"]]  # type: ignore[misc]


def page(outcomes: Mapping[str, Outcome]) -> str:
    """The whole page."""
    total, survived = sum(outcome["made"] for outcome in outcomes.values()), missed(outcomes)
    ours = sum(outcome["of_our_own"] for outcome in outcomes.values())
    counts = {"total": total, "found": total - len(survived), "missed": len(survived)}
    text = INTRO.format(**counts, ours=ours, theirs=total - ours, seconds=SECONDS)
    lines = [text, "## By module", "", "| module | mutants | found | not found |", "|---|---|---|---|"]
    for name, outcome in outcomes.items():
        made, gone = outcome["made"], len(outcome["not_found"])
        lines.append(f"| `{name}.py` | {made} | {made - gone} | {gone} |")
    lines += ["", "## Those that are not found"]
    for why, keys in EXPLAINED.items():
        rows = [row(one) for one in survived if one in keys]
        lines += ["", why, *HEADER, *rows] if rows else []
    reasons = {one for keys in EXPLAINED.values() for one in keys}
    if rows := [row(one) for one in survived if one not in reasons]:
        lines += ["", "**Not explained:**", *HEADER, *rows]
    return "\n".join(lines) + "\n"


def row(one: Key) -> str:
    """One line of a table."""
    module, function, before, after = one
    where = f"{module}.{function}" if function else module
    return f"| `{where}` | {code(before)} | {code(after)} |"


def code(text: str) -> str:
    """As it stands in a cell."""
    return "`` " + text.replace("|", "\\|") + " ``"


def unexplained(outcomes: Mapping[str, Outcome]) -> list[str]:
    """What a run says against `EXPLAINED`: a line for each survivor without a reason and each reason without one."""
    survived = set(missed(outcomes))
    reasons = {one for keys in EXPLAINED.values() for one in keys}
    return [f"not explained: {one}" for one in sorted(survived - reasons)] + [
        f"explained, but found: {one}" for one in sorted(reasons - survived) if one[0] in outcomes
    ]
