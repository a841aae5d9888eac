"""Block urn design: an urn of `lambda` balanced sets; a set drawn whole goes back (Zhao & Weng 2011). Pure.

Any number of arms and any ratio; imbalance is limited as by a permuted block of `lambda` sets, with less to predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator.method import DesignError, Parameters, Weights, whole_number

ALGORITHM = "block-urn/1"
KEYS = ("lambda",)
MAY: tuple[str, ...] = ()


def faults(given: Parameters) -> Iterator[DesignError]:
    """One balanced set at least."""
    yield from whole_number("lambda", given.lambda_, 1)


def weights(given: Parameters, _: int) -> Weights:
    """share × (lambda + sets drawn whole) − count (Zhao & Weng 2011, equation 1)."""
    shares, sets = given.shares, given.lambda_ or 0

    def after(counts: Sequence[int]) -> tuple[int, ...]:
        whole = min(count // share for count, share in zip(counts, shares, strict=True))
        return tuple(share * (sets + whole) - count for count, share in zip(counts, shares, strict=True))

    return after
