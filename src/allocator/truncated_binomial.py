"""Truncated binomial design: a fair coin until one arm has its half, then the other (Blackwell & Hodges 1957).

The whole list is one block unless block sizes are declared. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator.method import DesignError, Parameters, Weights, two_equal_arms

ALGORITHM = "truncated-binomial/1"
KEYS: tuple[str, ...] = ()
MAY = ("block_sizes",)


def faults(given: Parameters) -> Iterator[DesignError]:
    """Two arms, 1:1; an even length where the list is one block."""
    yield from two_equal_arms(given, "truncated-binomial")
    if not given.block_sizes and given.length % 2:
        yield DesignError("length", f"{given.length} is not even: the list is one block with two halves")


def weights(_: Parameters, size: int) -> Weights:
    """1 for each arm that has less than its half."""

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(2 * count < size) for count in counts)

    return after
