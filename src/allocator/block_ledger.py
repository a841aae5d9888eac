"""BlockLedger: how a finished list can have come about block by block, found without its seed (docs/spec.md §5). Pure.

Block sizes are drawn at random, so a list may be cut in several ways. The ledger keeps what every way has in common;
a list that no way explains is not one of its design: a swapped arm, a wrong ratio, a difference beyond the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allocator.design import RandomizationDesign
from allocator.method import Weights
from allocator.methods import METHODS


class ListFault(ValueError):
    """A list is not one that its design gives. `code` is a stable word, `stratum` its label, or "" for all of them."""

    def __init__(self, code: str, stratum: str, message: str) -> None:
        super().__init__(message)
        self.code, self.stratum = code, stratum


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Entries `start` to `end` (not included) between two ends of blocks that are certain.

    Attributes:
        counts: by arm.
        blocks: 1 for exactly one block; 0 where they can be cut into blocks in several ways.
        whole: False where the list ends inside the last block.
        ends: where else a block may end in between, in one way or another; none where it is one block.
    """

    start: int
    end: int
    counts: tuple[int, ...]
    blocks: int
    whole: bool
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLedger:
    """The segments of one stratum's list, in order; without block sizes the list is one segment."""

    segments: tuple[Segment, ...]

    @property
    def single(self) -> list[Segment]:
        """The blocks that are certain in both their ends, and whole."""
        return [segment for segment in self.segments if segment.blocks == 1 and segment.whole]


def block_ledger(stratum: str, arms: Sequence[int], design: RandomizationDesign) -> BlockLedger:
    """Cut a list in every way its design allows, and keep what is certain.

    Args:
        stratum: the label, for a fault.
        arms: arm indices by position.
        design: of any method but a list made elsewhere.

    Raises:
        ListFault: no way leads to the end; it names the first entry that none explains.
    """
    method, length = METHODS[design.method], len(arms)
    weights = {size: method.weights(design, size) for size in design.blocks}
    ends: list[set[int]] = [set() for _ in range(length)]  # where a block that begins here may end
    reached, furthest = {0}, 0
    for start in range(length):
        if start not in reached:
            continue
        for size, weigh in weights.items():
            walked = possible_entries(weigh, arms[start : start + size], len(design.ratio))
            furthest = max(furthest, start + walked)
            if walked == min(size, length - start):
                ends[start].add(start + walked)
                reached.add(start + walked)
    if length not in reached:
        raise _not_drawn(stratum, arms, design, max(reached), furthest)
    return BlockLedger(segments=tuple(_segments(arms, design, ends)))


def possible_entries(weigh: Weights, block: Sequence[int], arms: int) -> int:
    """How many entries of a block the method can give, from its first on."""
    counts = [0] * arms
    for entry, arm in enumerate(block):
        if not weigh(counts)[arm]:
            return entry
        counts[arm] += 1
    return len(block)


def counts_of(arms: Sequence[int], of: int) -> tuple[int, ...]:
    """How many entries each of so many arms has."""
    counts = [0] * of
    for arm in arms:
        counts[arm] += 1
    return tuple(counts)


def _segments(arms: Sequence[int], design: RandomizationDesign, ends: list[set[int]]) -> list[Segment]:
    """What lies between the ends that every way has in common."""
    length = len(arms)
    leads = [False] * length + [True]  # whether a way leads on from here to the end
    for start in range(length - 1, -1, -1):
        leads[start] = any(leads[end] for end in ends[start])
    on_a_way, inside = {0}, [0] * (length + 1)  # inside: how many blocks have this place strictly within them
    for start in range(length):
        if start in on_a_way:
            for end in (end for end in ends[start] if leads[end]):
                on_a_way.add(end)
                if end - start > 1:
                    inside[start + 1] += 1
                    inside[end] -= 1
    segments, start, within = list[Segment](), 0, 0
    cut: list[int] = []  # an end in some way, none in another
    for place in range(1, length + 1):
        within += inside[place]
        if within:
            cut += [place] if place in on_a_way else []
            continue
        counts = counts_of(arms[start:place], len(design.ratio))
        whole = not design.block_sizes or (place < length or _whole(counts, place - start, design, cut=bool(cut)))
        segments.append(
            Segment(start=start, end=place, counts=counts, blocks=int(not cut), whole=whole, ends=tuple(cut))
        )
        start, cut = place, []
    return segments


def _whole(counts: tuple[int, ...], size: int, design: RandomizationDesign, *, cut: bool) -> bool:
    """Whether the last segment ends with a whole block: for certain, where it is one block."""
    even = size % design.ratio_sum == 0
    times = size // design.ratio_sum
    honours = even and all(count == share * times for count, share in zip(counts, design.shares, strict=True))
    return honours and (cut or design.block_sizes == (size,))


def _not_drawn(stratum: str, arms: Sequence[int], design: RandomizationDesign, start: int, furthest: int) -> ListFault:
    codes = [code for code, _ in design.ratio]
    before = counts_of(arms[start:furthest], len(codes))
    so_far = ", ".join(f"{count} {code}" for count, code in zip(before, codes, strict=True))
    ratio = ":".join(map(str, design.shares))
    if not design.block_sizes:
        said = f"{codes[arms[furthest]]} cannot follow {so_far}: {design.method} gives no such list"
    else:
        sizes = " or ".join(map(str, design.block_sizes))
        said = (
            f"no blocks of {sizes} that honour {ratio} explain it: after the block that ends before entry {start} "
            f"come {so_far}, then {codes[arms[furthest]]}"
        )
    return ListFault("sequence", stratum, f"entry {furthest}: {said}")
