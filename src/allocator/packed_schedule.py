"""A sealed schedule read without a text object for each entry: they stay where they lie in the bytes of the file.

A list of 500,000 entries has 62 MB in its file; parsed one by one, it needs several times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from allocator.errors import EvidenceError
from allocator.sealing import ENTRY_CHARACTERS, SealedSchedule

_OPENING = b'"entries":['  # within a text the quotes would be escaped
_STRIDE = ENTRY_CHARACTERS + 3  # two quotes and a comma
_PIECE = 8192 * _STRIDE  # bytes looked at at a time
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


class PackedEntries(Sequence[str]):
    """The entries of one stratum, a view of the file."""

    def __init__(self, block: memoryview) -> None:
        self._block = block

    def __len__(self) -> int:
        return (len(self._block) + 1) // _STRIDE

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index] * _STRIDE
        return str(self._block[place + 1 : place + 1 + ENTRY_CHARACTERS], "ascii")

    def is_regular(self) -> bool:
        """Whether the view is nothing but texts of base64, each as long as an entry, with commas between them."""
        if len(self._block) % _STRIDE != (_STRIDE - 1 if self._block else 0):
            return False
        pieces = (bytes(self._block[at : at + _PIECE]) for at in range(0, len(self._block), _PIECE))
        return all(map(_is_regular, pieces))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def read_packed(data: bytes) -> SealedSchedule:
    """As `SealedSchedule.from_bytes`, with entries that stay in `data`; EvidenceError when it is no sealed schedule.

    The schedule is parsed without its entries, by the same strict parser. Where that does not do, it is parsed whole,
    so that the same is said of every file.
    """
    try:
        return _packed(data) or SealedSchedule.from_bytes(data)
    except EvidenceError:
        return SealedSchedule.from_bytes(data)


def _packed(data: bytes) -> SealedSchedule | None:
    places = list(_blocks(data))
    blocks: list[Any] = [PackedEntries(memoryview(data)[start:end]) for start, end in places]
    if not all(block.is_regular() for block in blocks):
        return None
    edges = [0, *(edge for place in places for edge in place), len(data)]
    rest = b"".join(data[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    sealed = SealedSchedule.from_bytes(rest)
    if len(sealed.strata) != len(blocks):
        return None
    strata = (replace(stratum, entries=block) for stratum, block in zip(sealed.strata, blocks, strict=True))
    return replace(sealed, strata=tuple(strata))


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the entries of each stratum begin and end, without their brackets."""
    at = data.find(_OPENING)
    while at >= 0:
        start = at + len(_OPENING)
        end = data.find(b"]", start)
        if end < 0:
            return
        yield start, end
        at = data.find(_OPENING, end)


def _is_regular(piece: bytes) -> bool:
    opening, closing, comma = (piece[at::_STRIDE] for at in (0, _STRIDE - 2, _STRIDE - 1))
    others = len(piece.translate(None, _BASE64))
    return not (opening + closing).strip(b'"') and not comma.strip(b",") and others == len(opening + closing + comma)
