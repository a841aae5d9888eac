"""The checks of a finished list: each raises a ListFault that says what is wrong and where (G07; Downs 2010). Pure.

A check asks either for what the design cannot give at all, or for what it gives so seldom that an error of
programming is the better explanation. It cannot see an exchange that gives another list of the same design: only the
opened seed shows that (docs/balance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb, exp, log
from typing import Any

from allocator.block_ledger import BlockLedger, ListFault, block_ledger, counts_of
from allocator.design import RandomizationDesign
from allocator.imported_list import NAME as IMPORTED
from allocator.method import Parameters, Weights
from allocator.methods import METHODS
from allocator.schedule import SALT, StratumSchedule

UNLIKELY = (
    1e-6  # below it a run, a count or equal blocks are taken for an error: 1 list in a million is refused wrongly
)
UNLIKELY_SORTED = 1e-4  # a list sorted by arm is the commonest error, and no list that anybody would want
SORTED_ENTRIES = 200  # looked at: what is sorted as a whole is sorted in these


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Equal arms one after another: the run that is least likely by the design.

    Attributes:
        start, length: entries.
        arm: index.
        chance: at most so likely is a run as unlikely as this one, anywhere in the list.
    """

    start: int
    length: int
    arm: int
    chance: float


def check_length(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """Every position from 0 to the design's length, and none beyond."""
    found, wanted = len(stratum.arms), design.length
    if found < wanted:
        which = f"entry {found} is" if found == wanted - 1 else f"entries {found} to {wanted - 1} are"
        raise ListFault("missing", stratum.label, f"{which} missing: the list has {found} of {wanted}")
    if found > wanted:
        raise ListFault("additional", stratum.label, f"the list has {found} entries, {found - wanted} too many")


def check_twice(stratum: StratumSchedule, _: RandomizationDesign) -> None:
    """No entry stands in two places: each has a salt of its own."""
    seen: dict[bytes, int] = {}
    for position in range(len(stratum.arms)):
        first = seen.setdefault(stratum.salts[SALT * position : SALT * (position + 1)], position)
        if first != position:
            raise ListFault("twice", stratum.label, f"entry {position} is entry {first} again: their salts are one")


def check_positions(stratum: str, positions: Iterable[int], length: int) -> None:
    """Each position from 0 on once, for a list that comes as rows."""
    seen: set[int] = set()
    for position in positions:
        if position in seen:
            raise ListFault("twice", stratum, f"entry {position} is there twice")
        if not 0 <= position < length:
            raise ListFault("additional", stratum, f"entry {position} is outside 0..{length - 1}")
        seen.add(position)
    if missing := sorted(set(range(length)) - seen):
        raise ListFault("missing", stratum, f"entry {missing[0]} is missing, {len(missing)} in all")


def check_arms(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """Every entry is an arm of the ratio."""
    for position, arm in enumerate(stratum.arms):
        if arm >= len(design.ratio):
            raise ListFault("arm", stratum.label, f"entry {position} is arm {arm} of {len(design.ratio)}")


def check_sequence(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """The method can give this list: every block honours the ratio, no difference is beyond the limit."""
    if design.method != IMPORTED:
        block_ledger(stratum.label, stratum.arms, design)


def check_sorted(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """The list is not sorted by arm, nor of one arm alone.

    The first block of a sorted list is sorted, so its chance, over the sizes it may have, is an upper bound.
    """
    arms = stratum.arms
    if 1 + sum(first != second for first, second in pairwise(arms)) != len(set(arms)):
        return
    chances = [
        chance_sorted(_weights(design, size), len(design.ratio), min(len(arms), size, SORTED_ENTRIES))
        for size in design.block_sizes or (design.length,)
    ]
    chance = sum(chances) / len(chances)
    if chance < UNLIKELY_SORTED:
        said = "is sorted by arm" if len(set(arms)) > 1 else f"has one arm only, {design.ratio[arms[0]][0]}"
        raise ListFault(
            "sorted", stratum.label, f"the list {said}: by {_method(design)} at most 1 list in {one_in(chance)} is so"
        )


def check_run(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """No run of one arm that the design gives less than once in a million lists."""
    run = rarest_run(stratum.arms, design)
    if run is not None and run.chance < UNLIKELY:
        raise ListFault(
            "run",
            stratum.label,
            f"entries {run.start} to {run.start + run.length - 1} are all {design.ratio[run.arm][0]}: by "
            f"{_method(design)} at most 1 list in {one_in(run.chance)} has such a run",
        )


def check_alike(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """The blocks are shuffled: not all of one size have the same order."""
    if design.method != "permuted-block":
        return
    chance, alike = 1.0, 0
    orders: dict[int, list[bytes]] = {}
    for block in block_ledger(stratum.label, stratum.arms, design).single:
        orders.setdefault(block.end - block.start, []).append(stratum.arms[block.start : block.end])
    for size, blocks in orders.items():
        if len(set(blocks)) > 1:
            return
        chance *= float(_arrangements(design, size)) ** (1 - len(blocks))
        alike += len(blocks)
    if chance < UNLIKELY:
        raise ListFault(
            "alike",
            stratum.label,
            f"all {alike} blocks that are certain have the same order: 1 list in {one_in(chance)} has",
        )


def check_ratio(stratum: StratumSchedule, design: RandomizationDesign) -> None:
    """The counts honour the ratio as closely as chance allows, where the method itself does not force them."""
    counts, length = counts_of(stratum.arms, len(design.ratio)), len(stratum.arms)
    for (code, share), count in zip(design.ratio, counts, strict=True):
        chance = min(1.0, 2 * len(counts) * chance_of_count(count, length, share / design.ratio_sum))
        if chance < UNLIKELY:
            raise ListFault(
                "ratio",
                stratum.label,
                f"{count} of {length} entries are {code}, by the ratio {length * share / design.ratio_sum:.4g}: at "
                f"most 1 list in {one_in(chance)} is so far from it",
            )


# In this order: each may rely on what those before it have found to be so.
CHECKS: tuple[Callable[[StratumSchedule, RandomizationDesign], None], ...] = (
    *(check_length, check_arms, check_twice, check_sequence, check_ratio, check_sorted, check_run, check_alike),
)
_NEED_SEQUENCE = {check_run, check_alike}
_NOTHING_MORE = {"arm", "additional"}  # the method says nothing about such a list


def faults_of(stratum: StratumSchedule, design: RandomizationDesign) -> Iterator[ListFault]:
    """Every fault that the checks find."""
    found: set[str] = set()
    for check in CHECKS:
        if _NOTHING_MORE & found or (check in _NEED_SEQUENCE and "sequence" in found):
            continue
        try:
            check(stratum, design)
        except ListFault as fault:
            found.add(fault.code)
            yield fault


def rarest_run(arms: Sequence[int], design: RandomizationDesign) -> Run | None:
    """The run that is least likely given what stands before it; None where blocks limit every run.

    At each of the n places each of K arms can begin a run, so a run of conditional probability q or less is met
    somewhere with at most n·K·q (Boole's inequality, which holds whatever the method).
    """
    if design.block_sizes:
        return None
    weigh, counts, runs = _weights(design, design.length), [0] * len(design.ratio), list[Run]()
    start, chance = 0, 1.0
    for position, arm in enumerate(arms):
        if position and arm != arms[position - 1]:
            start, chance = position, 1.0
        weighed = weigh(counts)
        chance *= weighed[arm] / sum(weighed)
        counts[arm] += 1
        if position + 1 == len(arms) or arms[position + 1] != arm:
            runs.append(Run(start=start, length=position + 1 - start, arm=arm, chance=chance))
    if not runs:
        return None
    least = min(runs, key=lambda run: run.chance)
    bound = min(1.0, len(arms) * len(design.ratio) * least.chance)
    return Run(start=least.start, length=least.length, arm=least.arm, chance=bound)


def chance_sorted(weigh: Weights, arms: int, length: int) -> float:
    """At most so likely is a list in which no arm comes back once another followed it; exact for the first entries.

    It falls with every entry, so it is enough to go on until it is small.
    """
    states: dict[tuple[tuple[int, ...], int], float] = {((0,) * arms, -1): 1.0}  # (counts, last arm) -> probability
    for _ in range(length):
        following: dict[tuple[tuple[int, ...], int], float] = {}
        for (counts, last), chance in states.items():
            weighed = weigh(counts)
            for arm, weight in enumerate(weighed):
                if weight and (arm == last or not counts[arm]):
                    after = (*counts[:arm], counts[arm] + 1, *counts[arm + 1 :])
                    following[after, arm] = following.get((after, arm), 0.0) + chance * weight / sum(weighed)
        states = following
        if sum(states.values()) < UNLIKELY_SORTED / 100:
            break
    return sum(states.values())


def chance_of_count(count: int, length: int, share: float) -> float:
    """At most so likely is a count as far from length × share, on its side, by independent draws.

    exp(−n·KL) (Chernoff 1952; Hoeffding 1963, theorem 1). A method that balances is closer to its ratio than that.
    """
    if not length:
        return 1.0
    found = count / length
    terms = ((found, share), (1 - found, 1 - share))
    return exp(-length * sum(p * log(p / q) for p, q in terms if p > 0)) if 0 < share < 1 else 1.0


def one_in(chance: float) -> str:
    """The chance as ``26,000`` in "1 list in 26,000"."""
    if chance <= 1e-12:
        return "a million million"
    return f"{float(f'{1 / chance:.2g}'):,.0f}"


def ledger_of(stratum: StratumSchedule, design: RandomizationDesign) -> BlockLedger | None:
    """The ledger of a list that has one; None for a list made elsewhere, or one that its design cannot give."""
    if design.method == IMPORTED:
        return None
    try:
        return block_ledger(stratum.label, stratum.arms, design)
    except ListFault:
        return None


def _weights(design: RandomizationDesign, size: int) -> Weights:
    """Those of the method in a block, or over the whole list; one made elsewhere is held to independent draws."""
    given: Parameters = design
    return METHODS["complete" if design.method == IMPORTED else design.method].weights(given, size)


def _method(design: RandomizationDesign) -> str:
    return "independent draws" if design.method == IMPORTED else design.method


def _arrangements(design: RandomizationDesign, size: int) -> int:
    total, left = 1, size
    for share in design.shares:
        total *= comb(left, share * size // design.ratio_sum)
        left -= share * size // design.ratio_sum
    return total


def fault_plain(fault: ListFault) -> dict[str, Any]:
    """The canonical object of a fault."""
    return {"code": fault.code, "stratum": fault.stratum, "message": str(fault)}
