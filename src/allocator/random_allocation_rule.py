"""Random allocation rule: every list with exactly the ratio's counts equally likely (Lachin 1988). Pure.

The whole list is one permuted block: balanced at its end only, so that `length` must be reached for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from allocator import permuted_block
from allocator.method import DesignError, Parameters, Weights

ALGORITHM = "random-allocation-rule/1"
KEYS: tuple[str, ...] = ()
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Any arms and ratio, where the length can honour it."""
    if given.ratio_sum and given.length % given.ratio_sum:
        yield DesignError("length", f"{given.length} is not a multiple of {given.ratio_sum} (the sum of the ratio)")


def weights(given: Parameters, size: int) -> Weights:
    """What is left of each arm, as in a permuted block of the whole list."""
    return permuted_block.weights(given, size)
