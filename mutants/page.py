"""docs/mutants.md, and what keeps it honest."""

from __future__ import annotations

from collections.abc import Sequence

from explained import EXPLAINED
from mutant import Mutant

INTRO = """# Mutants

Made by `make mutants`: {total} small faults, one at a time, in the modules that draw the list, and whether a test finds
them. {found} are found ({timeouts} of these because the tests no longer end), {survived} are not. **Each that is not
found is explained below**; the command fails where one is not, or where an explanation has become untrue.

mutmut makes the mutants within functions: another operator, another number, another word, an argument less, `None` for
a value. `mutants/rest.py` makes those it does not make: constants of a module, defaults, properties. What decorators
say is not changed. The tests are those that draw (`mutants/run.py` lists them); the chi-square tests of
`tests/test_arrangements.py` are not among them, so that nothing here is found by statistics.
"""
Key = tuple[str, str, str, str]


def key(mutant: Mutant) -> Key:
    """What an explanation is for."""
    return mutant.module, mutant.function, mutant.before, mutant.after


def page(found: Sequence[Mutant]) -> str:
    """The whole page."""
    survived = [mutant for mutant in found if not mutant.found]
    text = INTRO.format(
        total=len(found),
        found=len(found) - len(survived),
        timeouts=sum(mutant.status == "timeout" for mutant in found),
        survived=len(survived),
    )
    lines = [text, "## By module", "", "| module | mutants | found | not found |", "|---|---|---|---|"]
    for module in dict.fromkeys(mutant.module for mutant in found):
        own = [mutant for mutant in found if mutant.module == module]
        missed = sum(not mutant.found for mutant in own)
        lines.append(f"| `{module}.py` | {len(own)} | {len(own) - missed} | {missed} |")
    lines += ["", "## Those that are not found"]
    by_key = {key(mutant): mutant for mutant in survived}
    for why, keys in EXPLAINED.items():
        rows = [row(by_key.pop(one)) for one in keys if one in by_key]
        if rows:
            lines += ["", why, "", "| where | line | made into |", "|---|---|---|", *rows]
    if by_key:
        lines += ["", "**Not explained:**", "", "| where | line | made into |", "|---|---|---|"]
        lines += [row(mutant) for mutant in by_key.values()]
    return "\n".join(lines) + "\n"


def row(mutant: Mutant) -> str:
    """One line of a table."""
    where = f"{mutant.module}.{mutant.function}" if mutant.function else mutant.module
    return f"| `{where}` | {_code(mutant.before)} | {_code(mutant.after)} |"


def _code(text: str) -> str:
    return "`` " + text.replace("|", "\\|") + " ``"


def unexplained(found: Sequence[Mutant], modules: Sequence[str], *, whole: bool) -> list[str]:
    """What a run says against `EXPLAINED`: a line for each survivor without a reason and each reason without one."""
    survived = {key(mutant) for mutant in found if not mutant.found}
    reasons = {one for keys in EXPLAINED.values() for one in keys}
    stale = {one for one in reasons - survived if one[0] in modules} if whole else set()
    return [f"not explained: {one}" for one in sorted(survived - reasons)] + [
        f"explained, but found: {one}" for one in sorted(stale)
    ]
