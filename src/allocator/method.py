"""What a method of drawing is: its parameters, its rules, and its weights (docs/spec.md §3, §5.4). Pure.

A method draws a list in blocks; one whole list is one block unless the design declares block sizes. Within a block
it is fully described by the integer weights it gives the arms after the counts so far: the generator draws by them,
and `assess` computes with them, so that what is assessed is what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

MAX_BLOCK = 10_000
MAX_PARAMETER = 1_000  # limit, alpha, beta, lambda, and the denominator of a probability

# What each arm weighs next, by arm, after these counts of the block so far; their sum is at least 1.
Weights = Callable[[Sequence[int]], tuple[int, ...]]


class DesignError(ValueError):
    """One field of a design is wrong. `field` is its path in design.toml."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything a method may depend on; what a method does not take keeps its default.

    Attributes:
        length: entries of each stratum, exactly; the last block is cut there.
        ratio: (arm code, whole number of at least 1) in arm order.
        block_sizes: the declared set of block sizes, ascending; each a multiple of the ratio's sum.
        limit: the largest difference of the arms' counts that is allowed.
        probability: of the arm that is behind, above 1/2 and below 1.
        alpha: balls of each arm in the urn at the start.
        beta: balls of each other arm added after each assignment.
        lambda_: balanced sets in the active urn at the start.
        arms: the list itself, as bytes of arm indices, one for each stratum in declared order.
    """

    length: int
    ratio: tuple[tuple[str, int], ...]
    block_sizes: tuple[int, ...] = ()
    limit: int | None = None
    probability: Fraction | None = None
    alpha: int | None = None
    beta: int | None = None
    lambda_: int | None = None
    arms: tuple[bytes, ...] = ()

    @property
    def ratio_sum(self) -> int:
        """Sum of the ratio: the smallest block that honours it."""
        return sum(share for _, share in self.ratio)

    @property
    def shares(self) -> tuple[int, ...]:
        """The ratio alone, in arm order."""
        return tuple(share for _, share in self.ratio)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The sizes a block may have: those declared, or the whole list as one."""
        return self.block_sizes or (self.length,)


class Method(Protocol):
    """One method, a module of its own."""

    @property
    def ALGORITHM(self) -> str:
        """Its id in the log; another stream of arms is another id."""

    @property
    def KEYS(self) -> tuple[str, ...]:
        """The keys of design.toml it needs, beside method, length and ratio."""

    @property
    def MAY(self) -> tuple[str, ...]:
        """Those that may be left away."""

    def faults(self, given: Parameters, /) -> Iterator[DesignError]:
        """Every rule of the method that these parameters break; each key of `KEYS` is there."""

    def weights(self, given: Parameters, size: int, /) -> Weights:
        """The weights within a block of this size."""


def two_equal_arms(given: Parameters, method: str) -> Iterator[DesignError]:
    """Refuses what the method's paper does not define."""
    if len(given.ratio) != 2 or len(set(given.shares)) != 1:
        yield DesignError("ratio", f"{method} is defined for two arms with equal shares; block-urn takes others")


def equal_shares(given: Parameters, method: str) -> Iterator[DesignError]:
    """Refuses unequal ratios."""
    if len(set(given.shares)) > 1:
        yield DesignError("ratio", f"{method} is defined for equal shares; block-urn takes others")


def whole_number(key: str, value: int | None, least: int, most: int = MAX_PARAMETER) -> Iterator[DesignError]:
    """One integer parameter and its bounds, both inclusive."""
    if value is not None and not least <= value <= most:
        yield DesignError(key, f"{value} is outside {least}..{most}")


def block_size_faults(given: Parameters) -> Iterator[DesignError]:
    """Different sizes, each a multiple of the sum of the ratio."""
    sizes, least = given.block_sizes, given.ratio_sum
    if len(set(sizes)) != len(sizes):
        yield DesignError("block_sizes", "sizes must be different from each other")
    for size in sizes:
        if not (least <= size <= MAX_BLOCK and size % least == 0):
            wanted = f"a multiple of {least} (the sum of the ratio) up to {MAX_BLOCK}"
            yield DesignError("block_sizes", f"{size} is not {wanted}")


def difference(counts: Sequence[int]) -> int:
    """By how many the first of two arms leads."""
    return counts[0] - counts[1]
