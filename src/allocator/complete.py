"""Complete randomization: each assignment independent, by the ratio alone (Rosenberger & Lachin 2016, §3.2). Pure.

No assignment can be predicted; the arms of a small list can differ a lot.
"""

from __future__ import annotations

from collections.abc import Iterator

from allocator.method import DesignError, Parameters, Weights

ALGORITHM = "complete/1"
KEYS: tuple[str, ...] = ()
MAY: tuple[str, ...] = ()


def faults(_: Parameters) -> Iterator[DesignError]:
    """Any arms, any ratio."""
    yield from ()


def weights(given: Parameters, _: int) -> Weights:
    """The shares, whatever came before."""
    shares = given.shares
    return lambda _: shares
