"""The chain pass: how far stored rows are one chain, before any rule is asked (docs/spec.md §11.2, checks 05 and 12).

It reads and hashes each row once and keeps nothing, so that of a log of any length the first place where it does not
hold together is known at once, long before signatures and rules have been gone through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from allocator.log import GENESIS, link


class Chain(NamedTuple):
    """How far rows hold together.

    Attributes:
        rows: that stand in their places: 0, 1, 2, … without a gap.
        records: the first of them, each with the hash of the one before as its `prev`.
        head: hash of the last of these records, 32 bytes; zero bytes for none.
        after_gap: the place of the row that stands where row number `rows` should; None when the rows end there.
    """

    rows: int
    records: int
    head: bytes
    after_gap: int | None


def follow_links(links: Iterable[tuple[int, Any, Any]]) -> Chain:
    """Follow (place, `prev`, `body`) of each row, in order of places, to the first gap; nothing in them is believed."""
    rows, records, head = 0, 0, GENESIS
    for place, prev, body in links:
        if place != rows:
            return Chain(rows, records, head, place)
        if records == rows and prev == head and type(body) is bytes:
            head, records = link(prev, body), rows + 1
        rows += 1
    return Chain(rows, records, head, None)
