"""What can be known of a list at each step, as layers of states with exact transition probabilities. Pure.

Two chains of a design (docs/designs.md):

* the *drawn* chain: counts so far and, where block sizes are drawn at random, the block one is in. What the generator
  does; balance is computed on it.
* the *guessing* chain: counts so far and what somebody who knows the design and every past arm believes of the block
  one is in (Bayes). Predictability is computed on it. Without random sizes the two are the same.

No sequence is ever enumerated: sequences that lead to the same state are one from there on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from allocator.method import Method, Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_STATES = 600_000  # of a chain; beyond it a figure is simulated
MAX_MOVES = 2_400_000  # arms × states: the same, where there are many arms
MAX_COUNTS = 60_000_000  # arms² × states: what the counts after all moves take
MAX_BELIEFS = 20_000
MAX_HYPOTHESES = 1_000_000  # blocks one may be in, over all states: what beliefs cost
_SAME = 1 << 40  # beliefs that differ by less than 1 / _SAME in every weight are one

Counts = tuple[int, ...]
Move = tuple[int, float, Hashable]  # arm, its probability, the state after it


class TooManyStates(Exception):
    """The chain would have more states than `MAX_STATES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """All moves from the states of one layer to those of the next.

    Attributes:
        source, target: indices of states, shape (moves,).
        arm: arm index of each move, shape (moves,).
        chance: probability of the move in its source state, above 0, shape (moves,).
        runs: the same moves as runs of neighbours, where they are: (first source, first target, chances) of each.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    arm: NDArray[np.int64]
    chance: NDArray[np.float64]
    runs: tuple[tuple[int, int, NDArray[np.float64]], ...] = ()

    def forward(self, here: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Probabilities one step on: from shape (…, states) to (…, size), all rows at once."""
        import numpy as np

        if not self.runs:
            rows = here.reshape(-1, here.shape[-1])
            target = (self.target + size * np.arange(len(rows))[:, None]).ravel()
            moved = (rows[:, self.source] * self.chance).ravel()
            summed = np.bincount(target, moved, size * len(rows)).astype(np.float64)
            return summed.reshape(*here.shape[:-1], size)
        there = np.zeros((*here.shape[:-1], size))
        for first, onto, chance in self.runs:
            there[..., onto : onto + len(chance)] += here[..., first : first + len(chance)] * chance
        return there


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The layers of a design over its first n entries.

    Attributes:
        counts: for each of the n + 1 layers the counts of each state, shape (states, arms).
        steps: n of them.
        whole: False where a state leaves out something of the past, so that the chances are those of the next arm on
            average over it; the best guess and what is certain are the same for all of it.
    """

    counts: tuple[NDArray[np.int64], ...]
    steps: tuple[Step, ...]
    whole: bool = True

    def reached(self) -> Iterator[NDArray[np.float64]]:
        """The probability of each state, layer by layer."""
        import numpy as np

        here: NDArray[np.float64] = np.ones(1)
        yield here
        for step, counts in zip(self.steps, self.counts[1:], strict=True):
            here = step.forward(here, len(counts))
            yield here


def drawn_chain(method: Method, given: Parameters, n: int) -> Chain:
    """Counts, and the block one is in.

    Raises:
        TooManyStates: with many arms and entries.
    """
    if len(given.ratio) == 2 and len(given.blocks) == 1:
        if n * (n + 1) // 2 > MAX_STATES and given.limit is None and not given.block_sizes:
            raise TooManyStates(f"more than {MAX_STATES} states")
        return _two_arms(method, given, n)
    arms = len(given.ratio)
    most = min(MAX_STATES, MAX_MOVES // arms, MAX_COUNTS // arms**2)
    return _layers(n, (_zero(given), None), _drawn_moves(method, given), lambda state: state[0], most)


def guessing_chain(method: Method, given: Parameters, n: int) -> Chain:
    """Counts, and what can be believed of the block one is in; with one block size the same as `drawn_chain`.

    Raises:
        TooManyStates: with block sizes drawn at random, in long lists of other than two equal arms.
    """
    if len(given.blocks) == 1:
        return drawn_chain(method, given, n)
    start, moves = (_zero(given), _fresh(given)), _believed_moves(method, given)
    try:
        return _layers(n, start, moves, lambda state: state[0], MAX_BELIEFS)
    except TooManyStates:
        if len(given.ratio) != 2 or len(set(given.shares)) != 1:
            raise
    return _possible(method, given, n)


def _zero(given: Parameters) -> Counts:
    return (0,) * len(given.ratio)


def _two_arms(method: Method, given: Parameters, n: int) -> Chain:
    """The chain of two arms and one block size: a layer's states are a run of counts of the first arm."""
    import numpy as np

    (size,) = given.blocks
    weights, first_share = method.weights(given, size), given.shares[0] * size // given.ratio_sum
    low, high, total = 0, 0, 1
    counts, steps = [np.zeros((1, 2), dtype=np.int64)], []
    for entry in range(n):
        blocks, in_block = divmod(entry, size)
        before = blocks * first_share
        firsts = range(low, high + 1)
        weighed = [weights((first - before, in_block - first + before)) for first in firsts]
        chance = np.array([first / (first + second) for first, second in weighed])
        some, others = np.flatnonzero(chance > 0), np.flatnonzero(chance < 1)  # each a run of neighbours
        next_low = min(low + int(some[0]) + 1 if len(some) else n, low + int(others[0]) if len(others) else n)
        next_high = max(low + int(some[-1]) + 1 if len(some) else 0, low + int(others[-1]) if len(others) else 0)
        steps.append(
            Step(
                source=np.concatenate((some, others)),
                target=np.concatenate((some + (low + 1 - next_low), others + (low - next_low))),
                arm=np.repeat([0, 1], [len(some), len(others)]),
                chance=np.concatenate((chance[some], 1 - chance[others])),
                runs=tuple(
                    (int(moved[0]), int(moved[0]) + low + more - next_low, odds[moved])
                    for moved, more, odds in ((some, 1, chance), (others, 0, 1 - chance))
                    if len(moved)
                ),
            )
        )
        low, high = next_low, next_high
        total += high - low + 1
        if total > MAX_STATES:
            raise TooManyStates(f"more than {MAX_STATES} states")
        run = np.arange(low, high + 1)
        counts.append(np.stack((run, entry + 1 - run), axis=1))
    return Chain(counts=tuple(counts), steps=tuple(steps))


def _layers(
    n: int,
    start: Hashable,
    moves: Callable[[Any], Iterator[Move]],
    counts_of: Callable[[Any], Counts],
    most: int,
) -> Chain:
    """Layer after layer, each state once."""
    import numpy as np

    layer: dict[Hashable, int] = {start: 0}
    counts, steps, total = [np.array([counts_of(start)], dtype=np.int64)], [], 1
    for _ in range(n):
        after: dict[Hashable, int] = {}
        rows = []
        for state, index in layer.items():
            for taken, odds, following in moves(state):
                rows.append((index, after.setdefault(following, len(after)), taken, odds))
            if total + len(after) > most:  # asked before the layer is whole: it may be the largest by far
                raise TooManyStates(f"more than {most} states")
        total += len(after)
        source, target, arm, chance = zip(*rows, strict=True)
        steps.append(Step(source=np.array(source), target=np.array(target), arm=np.array(arm), chance=np.array(chance)))
        layer = after
        counts.append(np.array([counts_of(state) for state in layer], dtype=np.int64))
    return Chain(counts=tuple(counts), steps=tuple(steps))


# ---- the block one is in -------------------------------------------------------------------------------------------


def _drawn_moves(method: Method, given: Parameters) -> Callable[[Any], Iterator[Move]]:
    """State: counts, and (size of the block, entries of it so far), or None where a size is drawn next."""
    odds = _odds(method, given)

    def moves(state: tuple[Counts, tuple[int, int] | None]) -> Iterator[Move]:
        counts, block = state
        blocks = [(size, 0) for size in given.blocks] if block is None else [block]
        for size, done in blocks:
            for arm, chance in odds(counts, size, done):
                following = (size, done + 1) if done + 1 < size else None
                yield arm, chance / len(blocks), (_plus(counts, arm), following)

    return moves


Belief = tuple[tuple[int, int, float], ...]  # (size of the block, entries of it so far, probability), sorted


def _fresh(given: Parameters) -> Belief:
    return tuple((size, 0, 1 / len(given.blocks)) for size in given.blocks)


def _believed_moves(method: Method, given: Parameters) -> Callable[[Any], Iterator[Move]]:
    """State: counts, and a `Belief`."""
    odds, fresh, held_in_all = _odds(method, given), _fresh(given), 0

    def moves(state: tuple[Counts, Belief]) -> Iterator[Move]:
        nonlocal held_in_all
        counts, belief = state
        held_in_all += len(belief)
        if held_in_all > MAX_HYPOTHESES // 2:
            raise TooManyStates(f"more than {MAX_HYPOTHESES // 2} blocks one may be in")
        after: dict[int, dict[tuple[int, int], float]] = defaultdict(lambda: defaultdict(float))
        for size, done, held in belief:
            for arm, chance in odds(counts, size, done):
                if done + 1 < size:
                    after[arm][size, done + 1] += held * chance
                else:  # the block is full: a new size is drawn
                    for new, _, share in fresh:
                        after[arm][new, 0] += held * chance * share
        for arm, hypotheses in sorted(after.items()):
            total = sum(hypotheses.values())
            believed = tuple(
                (size, done, round(held / total * _SAME) / _SAME) for (size, done), held in sorted(hypotheses.items())
            )
            yield arm, total, (_plus(counts, arm), believed)

    return moves


def _possible(method: Method, given: Parameters, n: int) -> Chain:
    """Two equal arms: counts, and which blocks one may be in, without how probable each is.

    Every block one may be in favours the arm that is behind (Blackwell & Hodges 1957), so the best guess is the same
    for all; and an arm is certain where every block that is possible leaves no other. TooManyStates as the others.
    """
    import numpy as np

    odds, fresh = _odds(method, given), _fresh(given)
    Masses = dict[tuple[int, int], float]
    layer: dict[tuple[Counts, frozenset[tuple[int, int]]], Masses]
    start = {(size, 0): share for size, _, share in fresh}
    layer = {(_zero(given), frozenset(start)): start}
    counts, steps, held = [np.array([_zero(given)], dtype=np.int64)], [], 0
    for _ in range(n):
        index: dict[tuple[Counts, frozenset[tuple[int, int]]], int] = {}
        following: dict[tuple[Counts, frozenset[tuple[int, int]]], Masses] = {}
        rows = []
        for source, ((so_far, _), masses) in enumerate(layer.items()):
            held += len(masses)
            if held > MAX_HYPOTHESES:
                raise TooManyStates(f"more than {MAX_HYPOTHESES} blocks one may be in")
            after: dict[int, Masses] = {0: defaultdict(float), 1: defaultdict(float)}
            for (size, done), mass in masses.items():
                for arm, chance in odds(so_far, size, done):
                    full = done + 1 == size
                    for new in [(size, 0) for size, _, _ in fresh] if full else [(size, done + 1)]:
                        after[arm][new] += mass * chance / (len(fresh) if full else 1)
            total = sum(masses.values())
            for arm, reached in after.items():
                if reached:
                    key = (_plus(so_far, arm), frozenset(reached))
                    rows.append((source, index.setdefault(key, len(index)), arm, sum(reached.values()) / total))
                    into = following.setdefault(key, defaultdict(float))
                    for block, mass in reached.items():
                        into[block] += mass
        sources, targets, arms, chances = zip(*rows, strict=True)
        steps.append(
            Step(source=np.array(sources), target=np.array(targets), arm=np.array(arms), chance=np.array(chances))
        )
        layer = following
        counts.append(np.array([so_far for so_far, _ in layer], dtype=np.int64))
    return Chain(counts=tuple(counts), steps=tuple(steps), whole=False)


def _odds(method: Method, given: Parameters) -> Callable[[Counts, int, int], tuple[tuple[int, float], ...]]:
    """Gives (arm, probability) of each arm that can be next, after these counts, in a block of this size and place."""
    weights = {size: method.weights(given, size) for size in given.blocks}
    shares, ratio_sum, in_blocks = given.shares, given.ratio_sum, bool(given.block_sizes)

    @lru_cache(maxsize=100_000)
    def within(size: int, counts: Counts) -> tuple[tuple[int, float], ...]:
        if min(counts) < 0:
            return ()  # no block begins here
        weighed = weights[size](counts)
        total = sum(weighed)
        return tuple((arm, weight / total) for arm, weight in enumerate(weighed) if weight > 0)

    def odds(counts: Counts, size: int, done: int) -> tuple[tuple[int, float], ...]:
        if not in_blocks:
            return within(size, counts)
        whole = (sum(counts) - done) // ratio_sum  # all blocks before were whole, and whole blocks honour the ratio
        return within(size, tuple(count - share * whole for count, share in zip(counts, shares, strict=True)))

    return odds


def _plus(counts: Counts, arm: int) -> Counts:
    return (*counts[:arm], counts[arm] + 1, *counts[arm + 1 :])
