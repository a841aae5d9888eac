"""Transitions: the counts of a block as numbered states, with where each arm leads from them. Pure.

Made from a method's own integer weights (`method.Weights`), each state once and only when it is reached, so that many
sequences are drawn, or followed exactly, by looking up arrays instead of asking the method again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from allocator.keystream import WORD, draw_below
from allocator.method import Method, Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_STATES = 300_000  # kept at a time; beyond it those that were left behind are forgotten
Key = tuple[int, tuple[int, ...]]  # which of the declared block sizes, and the counts of its arms
_END = -1  # in place of the first: after a whole block, where the size of the next is drawn


class Transitions:
    """The states of a block that were reached so far. It grows while it is used.

    Attributes, all indexed by the number of a state:
        chance: (states, arms), the probability of each arm next; 0 before `expand` was asked for the state.
        best: (states,), the greatest of them.
        level: (states,), the imbalance: max n_k/r_k − min n_k/r_k of counts n and shares r.
        roots: the number of the empty block of each declared size.
        end: the number of the end of a block, which only designs with several block sizes reach.
    """

    def __init__(self, method: Method, given: Parameters) -> None:
        self._weights = [method.weights(given, size) for size in given.blocks]
        self._given = given
        self._scale = given.shares if len(set(given.shares)) > 1 else (1,) * len(given.shares)  # 2:2 is 1:1
        self.arms = len(given.ratio)
        self._clear()

    def _clear(self) -> None:
        import numpy as np

        self._ids: dict[Key, int] = {}
        self._keys: list[Key] = []
        self._refusing = False
        self._large: dict[int, list[int]] = {}  # running sums of weights whose sum is no word
        self._open = 0  # states that are not expanded
        self.chance = np.zeros((0, self.arms))
        self.best = np.zeros(0)
        self.level = np.zeros(0)
        self._done = np.zeros(0, dtype=bool)
        self._fraction = np.zeros(0, dtype=bool)  # states in `_large`
        self._sums = np.ones(0, dtype=np.uint32)
        self._highest = np.zeros(0, dtype=np.uint32)
        self._running = [np.zeros(0, dtype=np.uint32) for _ in range(self.arms - 1)]
        self._following = np.zeros((0, self.arms), dtype=np.intp)
        none = (0,) * self.arms
        self.roots = [self._number((menu, none)) for menu in range(len(self._weights))]
        self.end = self._number((_END, none))
        self._grow(0)
        self._done[self.end] = True
        self._open -= 1

    def _number(self, key: Key) -> int:
        state = self._ids.get(key)
        if state is None:
            state = self._ids[key] = len(self._keys)
            self._keys.append(key)
            self._open += 1
        return state

    def _grow(self, known: int) -> None:
        """Room for every numbered state, and the imbalance of those from number `known` on."""
        import numpy as np

        made, room = len(self._keys), len(self.level)
        if made > room:
            more = max(made, 2 * room) - room

            def longer(array: NDArray[Any], fill: int = 0) -> NDArray[Any]:
                return np.concatenate([array, np.full((more, *array.shape[1:]), fill, dtype=array.dtype)])

            self.chance, self.best, self.level = longer(self.chance), longer(self.best), longer(self.level)
            self._done, self._fraction = longer(self._done), longer(self._fraction)
            self._sums = longer(self._sums, 1)
            self._highest = longer(self._highest, WORD - 1)
            self._running = [longer(array) for array in self._running]
            self._following = longer(self._following)
        if made > known:
            scaled = np.array([counts for _, counts in self._keys[known:]]) / self._scale
            self.level[known:made] = scaled.max(axis=1) - scaled.min(axis=1)

    def expand(self, states: NDArray[np.intp]) -> None:
        """Ask the method for the weights of those of these states for which it was not asked yet."""
        import numpy as np

        if not self._open:
            return
        seen = np.zeros(len(self._done), dtype=bool)
        seen[states] = True
        fresh = np.flatnonzero(seen & ~self._done)
        if not len(fresh):
            return
        numbers, known = fresh.tolist(), len(self._keys)
        weighed = [self._weights[menu](counts) for menu, counts in map(self._keys.__getitem__, numbers)]
        following = [
            [self._after(state, arm) if weight else self.end for arm, weight in enumerate(of_state)]
            for state, of_state in zip(numbers, weighed, strict=True)
        ]
        self._grow(known)
        self._following[fresh] = following
        sums = [sum(of_state) for of_state in weighed]
        self.chance[fresh] = [
            [weight / total for weight in of_state] for of_state, total in zip(weighed, sums, strict=True)
        ]
        self.best[fresh] = self.chance[fresh].max(axis=1)
        running = [list(accumulate(of_state)) for of_state in weighed]
        for place, (state, total) in enumerate(zip(numbers, sums, strict=True)):
            if total >= WORD:
                self._large[state] = running[place]
                running[place] = [min(most * WORD // total, WORD - 1) for most in running[place]]
                self._fraction[state], sums[place] = True, 1
        left = [WORD % total for total in sums]
        self._refusing = self._refusing or any(left)
        self._sums[fresh] = sums
        self._highest[fresh] = WORD - 1 - np.array(left)
        bounds = np.array(running, dtype=np.uint32)
        for arm, of_arm in enumerate(self._running):
            of_arm[fresh] = bounds[:, arm]
        self._done[fresh] = True
        self._open -= len(fresh)

    def _after(self, state: int, arm: int) -> int:
        menu, counts = self._keys[state]
        after = (*counts[:arm], counts[arm] + 1, *counts[arm + 1 :])
        if not self._given.block_sizes or sum(after) < self._given.blocks[menu]:
            return self._number((menu, after))
        if any(
            count * self._given.ratio_sum != share * sum(after)
            for count, share in zip(after, self._given.shares, strict=True)
        ):
            raise RuntimeError(f"a whole block of {after} does not honour the ratio {self._given.shares}")
        return self.roots[0] if len(self.roots) == 1 else self.end

    def draw(self, states: NDArray[np.intp], drawn: NDArray[np.uint32], spare: Iterator[int]) -> NDArray[np.intp]:
        """The next arm of each sequence, by the rule of `methods.draw_block`: one word mod the sum of the weights.

        Where that sum T is 2^32 or more, an integer below 2^32 × T is drawn instead, its part above T the word: the
        same chances exactly, and the rest of it is needed only for a word in 2^32.

        Args:
            states: (sequences,), expanded.
            drawn: (sequences,), a word for each.
            spare: further words where one is not enough, in the order of the sequences.
        """
        import numpy as np

        sums = self._sums.take(states)
        rest = drawn % sums
        if self._large:
            rest = np.where(self._fraction.take(states), drawn, rest)
        if self._refusing:
            for place in np.flatnonzero(drawn > self._highest.take(states)).tolist():
                rest[place] = draw_below(spare, int(sums[place]))
        arms = np.zeros(len(states), dtype=np.intp)
        for of_arm in self._running:
            arms += rest >= of_arm.take(states)
        if self._large:
            self._settle(states, drawn, arms, spare)
        return arms

    def _settle(
        self, states: NDArray[np.intp], drawn: NDArray[np.uint32], arms: NDArray[np.intp], spare: Iterator[int]
    ) -> None:
        """The arms where a word alone does not tell them: it falls on the bound between two."""
        import numpy as np

        open_ = np.zeros(len(states), dtype=bool)
        for of_arm in self._running:
            open_ |= drawn == of_arm.take(states)
        for place in np.flatnonzero(open_ & self._fraction.take(states)).tolist():
            running = self._large[int(states[place])]
            exact = int(drawn[place]) * running[-1] + draw_below(spare, running[-1])
            arms[place] = next(arm for arm, most in enumerate(running) if exact < most * WORD)

    def after(self, states: NDArray[np.intp], arms: NDArray[np.intp] | int) -> NDArray[np.intp]:
        """Where these arms lead from these states, which were expanded."""
        return self._following.ravel().take(states * self.arms + arms)

    def counts(self, state: int) -> tuple[int, ...]:
        """The counts of the block in this state."""
        return self._keys[state][1]

    def trimmed(self, states: NDArray[np.intp], most: int = MAX_STATES) -> NDArray[np.intp]:
        """The same states, numbered anew with all others forgotten, where there are more than `most`."""
        import numpy as np

        if len(self._keys) <= most:
            return states
        live, places = np.unique(states, return_inverse=True)
        keys = [self._keys[state] for state in live.tolist()]
        self._clear()
        known = len(self._keys)
        numbers = np.array([self._number(key) for key in keys], dtype=np.intp)
        self._grow(known)
        return numbers[places]
