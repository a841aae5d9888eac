"""Big stick design: a fair coin, until one arm leads by `limit`; then the other (Soares & Wu 1983). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator.method import DesignError, Parameters, Weights, difference, two_equal_arms, whole_number

ALGORITHM = "big-stick/1"
KEYS = ("limit",)
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Two arms, 1:1; a limit of at least 1."""
    yield from two_equal_arms(given, "big-stick")
    yield from whole_number("limit", given.limit, 1)


def weights(given: Parameters, _: int) -> Weights:
    """1:1, or all for the arm behind at the limit."""
    limit = given.limit or 0

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        lead = difference(counts)
        return (int(lead < limit), int(lead > -limit))

    return after
