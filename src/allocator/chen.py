"""Chen's biased coin with imbalance tolerance: Efron's coin, and forced at `limit` (Chen 1999). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator import biased_coin
from allocator.method import DesignError, Parameters, Weights, difference, two_equal_arms, whole_number

ALGORITHM = "chen/1"
KEYS = ("limit", "probability")
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Two arms, 1:1; Efron's probability, and a limit of at least 1."""
    yield from two_equal_arms(given, "chen")
    yield from whole_number("limit", given.limit, 1)
    yield from biased_coin.probability_faults(given.probability)


def weights(given: Parameters, size: int) -> Weights:
    """Efron's, or all for the arm behind at the limit."""
    limit, coin = given.limit or 0, biased_coin.weights(given, size)

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        lead = difference(counts)
        if abs(lead) < limit:
            return coin(counts)
        return (0, 1) if lead > 0 else (1, 0)

    return after
