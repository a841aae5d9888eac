"""Assessing designs: simulation against numpy's own generators, exact figures against passes over a table of states.

One *pass* is the least that an exact answer needs: for each of 100 steps one new vector of 201 probabilities from the
old, by two multiplications and two shifted additions (one for each arm).

The goal of a simulation is a hundredth of randomizeR's time. Measured once on one machine (in seconds for 10,000
sequences of 100 with their right guesses and imbalance): randomizeR 3.0.2 8.2, 6.8 and 5.5; numpy 0.011 for blocks and
0.010 for the big stick. So the goals in numpy simulations of the same run are 8.2 / 0.011 / 100 and so on; one loop
here serves both coins, so that the biased coin's is 5.5 / 0.010 / 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from measure import Row, compare, seconds

from allocator.assess import assess
from allocator.design import RandomizationDesign
from allocator.methods import METHODS
from allocator.simulate import simulated
from allocator.states import drawn_chain

SEQUENCES, N = 10_000, 100
TWO_THIRDS = Fraction(2, 3)
EVERY: dict[str, dict[str, Any]] = {
    "permuted-block": {"block_sizes": (4,)},
    "complete": {},
    "random-allocation-rule": {},
    "big-stick": {"limit": 3},
    "biased-coin": {"probability": TWO_THIRDS},
    "urn": {"alpha": 1, "beta": 1},
    "truncated-binomial": {},
    "chen": {"limit": 3, "probability": TWO_THIRDS},
    "maximal-procedure": {"limit": 3},
    "block-urn": {"lambda_": 2},
}
TWO_SIZES = ("permuted-block", {"block_sizes": (4, 6)})


def design(method: str, length: int, given: dict[str, Any]) -> RandomizationDesign:
    """Two arms, 1:1."""
    return RandomizationDesign(method=method, length=length, ratio=(("A", 1), ("B", 1)), **given)


def one_pass() -> object:
    """100 steps of 201 states."""
    here = np.zeros(201)
    here[100] = 1
    up, down = np.full(201, 0.5), np.full(201, 0.5)
    for _ in range(100):
        moved = np.zeros(201)
        moved[1:] += (here * up)[:-1]
        moved[:-1] += (here * down)[1:]
        here = moved
    return here


def simulation_rows(quick: bool) -> Iterator[Row]:
    """10,000 sequences of 100: right guesses, final and largest imbalance."""
    coins: list[tuple[str, float, Callable[[np.random.Generator], object]]] = [
        ("permuted-block", 8.2 / 0.011, _numpy_blocks),
        ("big-stick", 6.8 / 0.010, lambda generator: _numpy_coin(generator, np.array([0, 1, 1, 1, 1, 1, 2]) / 2)),
        ("biased-coin", 5.5 / 0.010, lambda generator: _numpy_coin(generator, _efron())),
    ]
    repeats = 3 if quick else 7
    for method, slower, peer in coins:
        given = design(method, N, EVERY[method])
        name = f"simulate {SEQUENCES:,} of {N}: {method}"
        yield compare(
            f"{name} / the same in plain numpy",
            lambda m=method, g=given: simulated(m, g, N, SEQUENCES),
            lambda p=peer: p(np.random.default_rng(1)),
            goal=f"<= {slower / 100:.1f}",
            repeats=repeats,
        )
        yield compare(
            f"{name} / one pass",
            lambda m=method, g=given: simulated(m, g, N, SEQUENCES),
            one_pass,
            goal="",
            repeats=repeats,
        )


def _numpy_blocks(generator: np.random.Generator) -> object:
    blocks = generator.permuted(np.tile(np.array([1, 1, -1, -1], dtype=np.int8), (SEQUENCES * N // 4, 1)), axis=1)
    moves = blocks.reshape(SEQUENCES, N)
    leads = np.cumsum(moves, axis=1, dtype=np.int16)
    right = (1 - np.sign(leads - moves) * moves).mean() / 2
    return right, np.abs(leads[:, -1]).mean(), np.abs(leads).max(axis=1).mean()


def _efron() -> np.ndarray:
    chance = np.full(2 * N + 1, 0.5)  # that the first arm goes down, by its lead + N
    chance[:N], chance[N + 1 :] = 1 / 3, 2 / 3
    return chance


def _numpy_coin(generator: np.random.Generator, down: np.ndarray) -> object:
    middle = len(down) // 2
    lead = np.zeros(SEQUENCES, dtype=np.intp)
    most, right = lead.copy(), 0.0
    for _ in range(N):
        move = 1 - 2 * (generator.random(SEQUENCES) < down[lead + middle])
        right += (1 - np.sign(lead) * move).mean() / 2
        lead = lead + move
        np.maximum(most, np.abs(lead), out=most)
    return right / N, np.abs(lead).mean(), most.mean()


def exact_rows(quick: bool) -> Iterator[Row]:
    """Every method at N = 100 in passes, and at N = 1,000 in proportion to its states."""
    designs = [*EVERY.items(), TWO_SIZES]
    for method, taken in designs:
        given = design(method, N, taken)
        sizes = f" {taken['block_sizes']}" if "block_sizes" in taken else ""
        yield compare(
            f"assess {method}{sizes} exactly, N = {N} / one pass",
            lambda g=given: assess(g, N),
            one_pass,
            goal="<= 10",
            repeats=5,
        )
    if quick:
        return
    for method, taken in EVERY.items():
        small, large = design(method, N, taken), design(method, 10 * N, taken)
        times = [min(seconds(lambda g=given: assess(g, g.length)) for _ in range(2)) for given in (small, large)]
        more = _states(large) / _states(small)
        yield Row(
            what=f"assess {method}, N = {10 * N:,} / {more:.0f} times N = {N}, as its states",
            ours=times[1],
            peer=times[0] * more,
            goal="<= 1.5",
        )


def _states(given: RandomizationDesign) -> int:
    return sum(len(layer) for layer in drawn_chain(METHODS[given.method], given, given.length).counts)


def rows(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: ARG001 (all parts are called alike)
    """Simulated, then exact."""
    yield from simulation_rows(quick)
    yield from exact_rows(quick)
