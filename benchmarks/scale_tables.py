"""How much `scale.py` measures, and what it found: tables, curves, figures."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from postgres_server import Server
from support import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    sizes: tuple[int, ...]
    studies: tuple[int, ...]
    clients: tuple[int, ...]
    repeats: int
    seconds: float
    many: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page: its marker, its head, its rows."""

    name: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.head, tuple("---" if n == 0 else "---:" for n in range(len(self.head))), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All tables, the curves for the picture, and the figures that the calculation goes on with."""

    tables: list[Table] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One size: a database of its own, and a home that works with it."""

    server: Server
    trial: Trial
    records: int


def told(text: str, start: float = time.monotonic()) -> None:
    """A line of progress."""
    print(f"{time.monotonic() - start:6.0f} s  {text}", file=sys.stderr, flush=True)


def ms(value: float) -> str:
    """Seconds as milliseconds."""
    return f"{value * 1000:.2f}"


def whole(value: float) -> str:
    """A number with commas."""
    return f"{value:,.0f}"
