"""Efron's biased coin: the arm that is behind with `probability`, a fair coin on a tie (Efron 1971). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from allocator.method import MAX_PARAMETER, DesignError, Parameters, Weights, difference, two_equal_arms

ALGORITHM = "biased-coin/1"
KEYS = ("probability",)
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Two arms, 1:1; a probability above 1/2 and below 1."""
    yield from two_equal_arms(given, "biased-coin")
    yield from probability_faults(given.probability)


def probability_faults(probability: Fraction | None) -> Iterator[DesignError]:
    """1/2 is complete randomization, and 1 leaves nothing to chance but the first of each pair."""
    if probability is None:
        return
    if not Fraction(1, 2) < probability < 1:
        yield DesignError("probability", f"{probability} is not above 1/2 and below 1")
    if probability.denominator > MAX_PARAMETER:
        yield DesignError("probability", f"{probability} has a denominator above {MAX_PARAMETER}")


def weights(given: Parameters, _: int) -> Weights:
    """1:1 on a tie, else the numerator for the arm behind and the rest for the other."""
    probability = given.probability or Fraction(1, 2)
    behind, ahead = probability.numerator, probability.denominator - probability.numerator

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        lead = difference(counts)
        if lead == 0:
            return (1, 1)
        return (ahead, behind) if lead > 0 else (behind, ahead)

    return after
