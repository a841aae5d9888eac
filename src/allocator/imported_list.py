"""A list made elsewhere, sealed as it came: nothing is drawn but the salts (docs/spec.md §5.6). Pure.

The list is part of the sealed design, so that the opening shows it as it shows a drawn one.
"""

from __future__ import annotations

from collections.abc import Iterator

from allocator.method import DesignError, Parameters, Weights

NAME = "imported-list"
ALGORITHM = "imported-list/1"
KEYS = ("arms",)
MAY: tuple[str, ...] = ()
MAX_ENTRIES = 20_000  # of all strata: the design travels in an envelope of at most 65,535 bytes (docs/spec.md §7.5)


def faults(given: Parameters) -> Iterator[DesignError]:
    """Every stratum has `length` entries, each an arm."""
    if sum(len(arms) for arms in given.arms) > MAX_ENTRIES:
        yield DesignError("arms", f"the list has more than {MAX_ENTRIES} entries")
    for stratum, arms in enumerate(given.arms):
        if len(arms) != given.length:
            yield DesignError(f"arms.{stratum}", f"{len(arms)} entries where the length is {given.length}")
        if any(arm >= len(given.ratio) for arm in arms):
            yield DesignError(f"arms.{stratum}", "an entry is no arm of the ratio")


def weights(_: Parameters, __: int) -> Weights:
    """There are none."""
    raise DesignError("method", "a list made elsewhere was not drawn here: there is nothing to assess")
