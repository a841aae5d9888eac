"""Simulation: many sequences at once, by the rules and the keystream of the generator itself. Pure.

For what no exact count can reach (`assess` says which). A sequence is drawn as a list is (docs/spec.md §5.4): by the
method's integer weights, an integer below their sum from the words of a keystream; no generator of a library is used.
Only the order of the words differs: word t × count + i is for sequence i at step t, from 0: of its stream ``draw`` for
the arm, and of its stream ``size`` where a block begins there; so each step is one pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.keystream import WORD, draw_below, keystream_bytes, stream_key, words
from allocator.method import Parameters
from allocator.methods import METHODS
from allocator.transitions import Transitions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = b"allocator/simulation/1"  # public and fixed: the same figures for everybody
COUNT = 10_000
Guesser = Callable[["NDArray[np.intp]", "NDArray[np.intp]"], "NDArray[np.float64]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One figure of a design, exact or the mean of a simulation.

    Attributes:
        value: the figure.
        standard_error: of the mean; 0 where the figure is exact.
        count: sequences simulated; 0 where the figure is exact.
        left_out: share of the sequences for which there is no such figure, and which the mean leaves out.
    """

    value: float
    standard_error: float = 0.0
    count: int = 0
    left_out: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether nothing was left to chance."""
        return self.count == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What the simulated sequences were like.

    Attributes:
        guesses: share of right guesses, 0 to 1, of one who knows the design and every past arm.
        final_imbalance: max n_k/r_k − min n_k/r_k of the counts n and the shares r after the last assignment; |D| for
            two equal arms.
        max_imbalance: its greatest value on the way.
    """

    guesses: Estimate
    final_imbalance: Estimate
    max_imbalance: Estimate


def draw_many(method_name: str, given: Parameters, count: int, n: int, seed: bytes) -> NDArray[np.uint8]:
    """The first n entries of `count` lists, as arm indices, shape (count, n).

    Args:
        method_name: a key of `METHODS`.
        given: its parameters, without faults; n is at most their length.
        count: sequences.
        n: entries of each.
        seed: any bytes; the same give the same sequences.
    """
    import numpy as np

    drawn = np.empty((n, count), dtype=np.uint8)
    for step, arms in enumerate(draw_steps(method_name, given, count, n, seed)):
        drawn[step] = arms
    return np.ascontiguousarray(drawn.T)


def draw_steps(
    method_name: str, given: Parameters, count: int, n: int, seed: bytes = SEED
) -> Iterator[NDArray[np.intp]]:
    """The same step by step: the next arm of every sequence, (count,); what is kept does not grow with n."""
    table = Transitions(METHODS[method_name], given)
    yield from (arms for _, arms, _ in _walk(table, given, count, n, seed))


def simulated(method_name: str, given: Parameters, n: int, count: int = COUNT, seed: bytes = SEED) -> Simulated:
    """Means and standard errors over `count` sequences of n entries.

    A guess counts with its chance of being right. For 1:1 lists of several block sizes it is the arm behind (1 if it
    comes, 1/2 on a tie), which nobody can do better than.
    """
    import numpy as np

    table = Transitions(METHODS[method_name], given)
    right, most = np.zeros(count), np.zeros(count)
    last = most
    guesser = _guesser(table, given, count)
    for before, arms, after in _walk(table, given, count, n, seed):
        right += guesser(before, arms)
        last = table.level.take(after)
        np.maximum(most, last, out=most)
    return Simulated(guesses=estimate(right / n), final_imbalance=estimate(last), max_imbalance=estimate(most))


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean over sequences, (count,), with its standard error."""
    count = len(values)
    error = float(values.std(ddof=1)) / count**0.5 if count > 1 else float("inf")
    return Estimate(value=float(values.mean()), standard_error=error, count=count)


def _walk(
    table: Transitions, given: Parameters, count: int, n: int, seed: bytes
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """By step: the state of each sequence, its arm, and the state after it; all of shape (count,)."""
    import numpy as np

    if not 1 <= n <= given.length or count < 1:
        raise RuntimeError(f"{count} sequences of {n} entries cannot come from lists of {given.length}")
    prk = hashlib.sha256(b"allocator/v1/simulation\0" + seed).digest()
    key, spare = stream_key(prk, "draw", "step"), words(stream_key(prk, "draw", "spare"))
    several = len(table.roots) > 1
    start = _sizes(table, count, prk) if several else None
    states = start(0, np.arange(count)) if start else np.full(count, table.roots[0])
    for step in range(n):
        table.expand(states)
        drawn = np.frombuffer(keystream_bytes(key, 4 * count * step, 4 * count), dtype=">u4").astype(np.uint32)
        arms = table.draw(states, drawn, spare)
        after = table.after(states, arms)
        yield states, arms, after
        states = after
        if start:
            ended = np.flatnonzero(after == table.end)
            states[ended] = start(step + 1, ended)
        elif not given.block_sizes:  # a state of a whole list is never met again
            states = table.trimmed(states)


def _sizes(table: Transitions, count: int, prk: bytes) -> Callable[[int, NDArray[np.intp]], NDArray[np.intp]]:
    """Gives the states at which these sequences begin a block at this step, its size drawn from the declared ones."""
    import numpy as np

    menu, roots = len(table.roots), np.array(table.roots)
    key, spare = stream_key(prk, "size", "step"), words(stream_key(prk, "size", "spare"))

    def start(step: int, which: NDArray[np.intp]) -> NDArray[np.intp]:
        raw = keystream_bytes(key, 4 * count * step, 4 * count)
        drawn = np.frombuffer(raw, dtype=">u4").astype(np.int64)[which]
        chosen = drawn % menu
        for place in np.flatnonzero(drawn >= WORD - WORD % menu).tolist():
            chosen[place] = draw_below(spare, menu)
        return roots[chosen]

    return start


def _guesser(table: Transitions, given: Parameters, count: int) -> Guesser:
    """Gives, step by step, the chance of a right guess in each sequence (or whether it was right)."""
    if len(table.roots) == 1:
        return lambda before, _: table.best.take(before)
    if table.arms == 2 and len(set(given.shares)) == 1:
        return _arm_behind(count)
    return _not_knowing_sizes(table, given, count)


def _arm_behind(count: int) -> Guesser:
    import numpy as np

    lead = np.zeros(count, dtype=np.intp)

    def guess(_: NDArray[np.intp], arms: NDArray[np.intp]) -> NDArray[np.float64]:
        nonlocal lead
        signs = 1 - 2 * arms
        right: NDArray[np.float64] = (1 - np.sign(lead) * signs) / 2
        lead += signs
        return right

    return guess


def _not_knowing_sizes(table: Transitions, given: Parameters, count: int) -> Guesser:
    """Bayes: the chance of each (size, place in it) of the current block, given the past arms; rows × sequences."""
    import numpy as np

    menu = len(given.block_sizes)
    starts = np.cumsum([0, *given.block_sizes[:-1]])
    states = np.full((sum(given.block_sizes), count), table.end)
    believed = np.zeros(states.shape)
    states[starts] = np.array(table.roots)[:, None]
    believed[starts] = 1 / menu

    def guess(_: NDArray[np.intp], arms: NDArray[np.intp]) -> NDArray[np.float64]:
        nonlocal states, believed
        table.expand(states)
        chance = table.chance[states]  # (rows, sequences, arms)
        best: NDArray[np.float64] = (believed[:, :, None] * chance).sum(axis=0).max(axis=1)
        believed = believed * np.take_along_axis(chance, arms[None, :, None], axis=2)[:, :, 0]
        believed /= believed.sum(axis=0)
        states = np.roll(table.after(states, arms), 1, axis=0)
        believed = np.roll(believed, 1, axis=0)
        states[starts] = np.array(table.roots)[:, None]
        believed[starts] = believed[starts].sum(axis=0) / menu  # what rolled here was the last place of a block
        return best

    return guess
