"""Maximal procedure: all lists that never differ by more than `limit` and end balanced, equally likely. Pure.

Berger, Ivanova & Knoll, Statistics in Medicine 2003; drawn exactly, by counting the ways on from each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator.method import DesignError, Parameters, Weights, difference, two_equal_arms, whole_number

ALGORITHM = "maximal-procedure/1"
KEYS = ("limit",)
MAY: tuple[str, ...] = ()
MAX_LENGTH = 2_000  # the ways on are integers of `length` bits, length × limit of them
MAX_LIMIT = 50


def faults(given: Parameters) -> Iterator[DesignError]:
    """Two arms, 1:1; an even length."""
    yield from two_equal_arms(given, "maximal-procedure")
    yield from whole_number("limit", given.limit, 1, MAX_LIMIT)
    if given.length % 2 or given.length > MAX_LENGTH:
        yield DesignError("length", f"{given.length} is not an even number up to {MAX_LENGTH}: the list ends balanced")


def weights(given: Parameters, size: int) -> Weights:
    """For each arm the number of allowed ways to go on after it; 0 where it would lead beyond the limit."""
    ways = ways_on(size, given.limit or 0)

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        left, lead = size - sum(counts) - 1, difference(counts)
        return tuple(ways[left].get(abs(lead + step), 0) for step in (1, -1))

    return after


def ways_on(size: int, limit: int) -> list[dict[int, int]]:
    """By steps left and by how much one arm leads: in how many ways a list can go on and end balanced."""
    ways = [{0: 1}]
    for _ in range(size):
        before = ways[-1]
        ways.append(
            {
                lead: total
                for lead in range(limit + 1)
                if (total := before.get(abs(lead - 1), 0) + (before.get(lead + 1, 0) if lead < limit else 0))
            }
        )
    return ways
