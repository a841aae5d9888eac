"""What is wrong with a list made elsewhere: faults, which refuse it, and doubts, which a right list may raise. Pure.

The faults are those that went wrong in real trials: a list sorted by arm, rows lost or twice, arms exchanged, another
ratio, one list in all strata (Yelland et al., Trials 2025; Downs et al., Contemp Clin Trials 2010).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

MAX_SIZE = 10_000
LONG = 8  # entries from which an order without chance is doubted: 2 in 70 balanced lists of 8 are sorted
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry as its file has it.

    Attributes:
        line: in the file, from 1.
        stratum: place in the study's declared order, from 0.
        arm: index of its arm.
        cells: the text of each role that its file has.
    """

    line: int
    stratum: int
    arm: int
    cells: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong, at which row and which column of it."""

    row: Row
    role: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the list is held to: names of strata and arms, the ratio by arm, and how many are enrolled."""

    strata: tuple[str, ...]
    arms: tuple[str, ...]
    shares: tuple[int, ...]
    enrollment: int


def faults(rows: Sequence[Row]) -> Iterator[Fault]:
    """Numbers that do not follow each other, labels that stand twice, blocks that are none. `rows` is not empty."""
    yield from _numbering(rows, "position")
    seen: dict[str, int] = {}
    for row in rows:
        if (label := row.cells.get("label")) is not None and seen.setdefault(label, row.line) != row.line:
            yield Fault(row=row, role="label", message=f"{label!r} stands in line {seen[label]} already")
    if "block" in rows[0].cells:
        firsts = []
        for of_stratum in by_stratum(rows).values():
            blocks = blocks_of(of_stratum)
            firsts += [block[0] for block in blocks]
            yield from _block_faults(blocks)
        if all(_NUMBERED.fullmatch(row.cells["block"]) for row in firsts):
            yield from _numbering(sorted(firsts, key=lambda row: row.line), "block")


def label_doubts(rows: Sequence[Row]) -> Iterator[Fault]:
    """Labels that are nearly all in sequence, where they are not: most who number their rows number all of them."""
    if "label" in rows[0].cells:
        found = list(_numbering(rows, "label"))
        yield from found if len(found) <= max(4, len(rows) // 4) and len(rows) >= LONG else ()


def doubts(rows: Sequence[Row], expected: Expected) -> Iterator[Fault]:
    """What chance or a method may explain, and a mistake as well; who imports says which. `rows` is not empty."""
    strata = by_stratum(rows)
    for stratum, of_stratum in strata.items():
        yield from _count_doubts(of_stratum, f"stratum {expected.strata[stratum]}: ", expected)
        if "block_size" in rows[0].cells:
            yield from _block_doubts(blocks_of(of_stratum), expected)
        if order := orderly(arms_of(of_stratum)):
            yield Fault(row=of_stratum[0], role="treatment", message=f"the list {order}: is it drawn at random?")
    first_of: dict[bytes, int] = {}
    for stratum, of_stratum in strata.items():
        other = first_of.setdefault(arms_of(of_stratum), stratum)
        if other != stratum and len(of_stratum) >= LONG:
            said = f"stratum {expected.strata[stratum]} has the same arms in the same order as {expected.strata[other]}"
            yield Fault(row=of_stratum[0], role="treatment", message=f"{said}: was each drawn by itself?")
    if len(rows) < expected.enrollment:
        said = f"{len(rows)} entries in all, and {expected.enrollment} participants are planned"
        yield Fault(row=rows[-1], role="treatment", message=said)


def by_stratum(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The rows of each stratum, in file order."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.stratum, []).append(row)
    return found


def arms_of(rows: Sequence[Row]) -> bytes:
    """Arm indices, in order."""
    return bytes(row.arm for row in rows)


def blocks_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Neighbours of one stratum with the same block."""
    return [list(block) for _, block in groupby(rows, key=lambda row: row.cells["block"])]


def orderly(arms: bytes) -> str:
    """How the arms of a list of `LONG` entries or more are in order, "" when they are not."""
    if len(arms) < LONG:
        return ""
    if 1 + sum(a != b for a, b in pairwise(arms)) == len(set(arms)):
        return "is sorted by arm" if len(set(arms)) > 1 else "has one arm only"
    for period in range(2, len(arms) // 4 + 1):
        if arms[period:] == arms[:-period]:
            return f"repeats its first {period} entries throughout"
    return ""


def _numbering(rows: Sequence[Row], role: str) -> Iterator[Fault]:
    """Numbers go up by one, through the file or in each stratum: whichever it breaks less."""
    if role not in rows[0].cells:
        return
    through = list(_steps(rows, role))
    within = [fault for of_stratum in by_stratum(rows).values() for fault in _steps(of_stratum, role)]
    yield from min(through, within, key=len)


def _steps(rows: Sequence[Row], role: str) -> Iterator[Fault]:
    before: tuple[str, int] | None = None
    seen: dict[str, int] = {}
    there = {int(match[2]) for row in rows if (match := _NUMBERED.fullmatch(row.cells[role]))}
    for row in rows:
        text = row.cells[role]
        match = _NUMBERED.fullmatch(text)
        if match is None:
            yield Fault(row=row, role=role, message=f"{text!r} does not end in a number")
            continue
        prefix, number = match[1], int(match[2])
        if text in seen:
            yield Fault(row=row, role=role, message=f"{text!r} stands in line {seen[text]} already")
        elif before is None:
            if number != 1 and (number < 10 or number % 10 > 1):
                yield Fault(row=row, role=role, message=f"the first number is {number}: are those before it missing?")
        elif prefix != before[0]:
            yield Fault(row=row, role=role, message=f"{text!r} begins otherwise than the one before it")
        elif number <= before[1] or (number > before[1] + 1 and before[1] + 1 in there):
            yield Fault(row=row, role=role, message=f"{text!r} stands after {before[1]}: the rows are not in order")
        elif number > before[1] + 1:
            missing = f"{before[1] + 1}" if number == before[1] + 2 else f"{before[1] + 1} to {number - 1}"
            yield Fault(row=row, role=role, message=f"{missing} missing before {text!r}")
        seen.setdefault(text, row.line)
        before = prefix, number


def _block_faults(blocks: Sequence[Sequence[Row]]) -> Iterator[Fault]:
    """The blocks of one stratum: whole but perhaps the last, in one piece, numbered within."""
    seen: dict[str, int] = {}
    for index, block in enumerate(blocks):
        first, name = block[0], block[0].cells["block"]
        if name in seen:
            yield Fault(row=first, role="block", message=f"block {name!r} was left in line {seen[name]}, and goes on")
        seen[name] = block[-1].line
        for place, row in enumerate(block, 1):
            if "in_block" in row.cells and row.cells["in_block"] != str(place):
                said = f"{row.cells['in_block']!r} where {place} follows in block {name!r}"
                yield Fault(row=row, role="in_block", message=said)
        if "block_size" not in first.cells:
            continue
        size = _size(first)
        for row in block:
            if row.cells["block_size"] != first.cells["block_size"]:
                said = f"block {name!r} has another size in line {first.line}"
                yield Fault(row=row, role="block_size", message=said)
        if size is None:
            said = f"{first.cells['block_size']!r} is no size from 1 to {MAX_SIZE}"
            yield Fault(row=first, role="block_size", message=said)
        elif len(block) > size or (len(block) < size and index < len(blocks) - 1):
            said = f"block {name!r} has {len(block)} entries, and its size is {size}"
            yield Fault(row=first, role="block_size", message=said)


def _size(row: Row) -> int | None:
    text = row.cells["block_size"]
    return int(text) if re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= MAX_SIZE else None


def _block_doubts(blocks: Sequence[Sequence[Row]], expected: Expected) -> Iterator[Fault]:
    for block in blocks:
        name, size = block[0].cells["block"], _size(block[0])
        if size is not None and len(block) < size:
            said = f"the last block, {name!r}, is cut: {len(block)} of its {size} entries are there"
            yield Fault(row=block[-1], role="block_size", message=said)
        else:
            yield from _count_doubts(block, f"block {name!r}: ", expected)


def _count_doubts(rows: Sequence[Row], where: str, expected: Expected) -> Iterator[Fault]:
    """Counts that the ratio does not give, even where the number of entries is no multiple of its sum."""
    counts = [0] * len(expected.arms)
    for row in rows:
        counts[row.arm] += 1
    whole = sum(expected.shares)
    if any(abs(n * whole - share * len(rows)) >= whole for n, share in zip(counts, expected.shares, strict=True)):
        found = ", ".join(f"{n} {arm}" for n, arm in zip(counts, expected.arms, strict=True))
        ratio = ":".join(map(str, expected.shares))
        yield Fault(row=rows[0], role="treatment", message=f"{where}{found}, and the ratio is {ratio}")
