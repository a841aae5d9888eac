"""Urn design UD(alpha, beta): each assignment adds `beta` balls of every other arm (Wei 1977, 1978). Pure.

Strong balancing while few have come, nearly complete randomization later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator.method import DesignError, Parameters, Weights, equal_shares, whole_number

ALGORITHM = "urn/1"
KEYS = ("alpha", "beta")
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Any number of arms, equal shares; not both numbers of balls zero."""
    yield from equal_shares(given, "urn")
    yield from whole_number("alpha", given.alpha, 0)
    yield from whole_number("beta", given.beta, 0)
    if given.alpha == given.beta == 0:
        yield DesignError("beta", "alpha and beta are both 0: the urn would stay empty")


def weights(given: Parameters, _: int) -> Weights:
    """alpha + beta × (assignments to other arms); an empty urn gives each arm the same."""
    alpha, beta = given.alpha or 0, given.beta or 0

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        so_far = sum(counts)
        balls = tuple(alpha + beta * (so_far - count) for count in counts)
        return balls if any(balls) else (1,) * len(balls)

    return after
