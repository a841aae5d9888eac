"""One mutant and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

SECONDS = 30  # of one test; beyond them it has failed: many a mutant of a loop never ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault made on purpose.

    Attributes:
        module: of the package, without its ending.
        function: where it is; "" for the module itself.
        status: ``killed``, ``timeout`` (the tests did not end), ``survived``, or another word of mutmut.
        before: the line as it is; "" for a killed one.
        after: the line as it was made.
    """

    module: str
    function: str
    status: str
    before: str
    after: str
    made_by: str = "mutmut"

    @property
    def found(self) -> bool:
        """A test failed or did not end."""
        return self.status in ("killed", "timeout")


class Outcome(TypedDict):
    """What became of the mutants of one module; of those not found: function, line as it is, line as it was made."""

    made: int
    of_our_own: int
    not_found: list[list[str]]


def outcome(found: Sequence[Mutant]) -> Outcome:
    """Of the mutants of one module."""
    missed = [mutant for mutant in found if not mutant.found]
    return {
        "made": len(found),
        "of_our_own": sum(mutant.made_by == "rest" for mutant in found),
        "not_found": sorted([mutant.function, mutant.before, mutant.after] for mutant in missed),
    }
