"""Measuring two things in turn, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: seconds of ours and of the peer, and what their ratio should be."""

    what: str
    ours: float
    peer: float
    goal: str

    def __str__(self) -> str:
        ratio = self.ours / self.peer
        return f"{self.what:<66}{_shown(self.ours):>12}{_shown(self.peer):>12}{ratio:>8.2f}  {self.goal}"


def compare(what: str, ours: Work, peer: Work, *, goal: str, repeats: int) -> Row:
    """Medians of `repeats` runs of each, taken in turn after one run of each that does not count."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
    return Row(
        what=what,
        ours=statistics.median(pair[0] for pair in pairs),
        peer=statistics.median(pair[1] for pair in pairs),
        goal=goal,
    )


def seconds(work: Work) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _shown(value: float) -> str:
    return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"
