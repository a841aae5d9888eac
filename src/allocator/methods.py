"""The methods by name, and how any of them draws the list of one stratum (docs/spec.md §5). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from allocator import (
    biased_coin,
    big_stick,
    block_urn,
    chen,
    complete,
    imported_list,
    maximal_procedure,
    permuted_block,
    random_allocation_rule,
    truncated_binomial,
    urn,
)
from allocator.keystream import draw_below, stream_key, words
from allocator.method import Method, Parameters, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: Mapping[str, Method] = {
    "permuted-block": permuted_block,
    "complete": complete,
    "random-allocation-rule": random_allocation_rule,
    "big-stick": big_stick,
    "biased-coin": biased_coin,
    "urn": urn,
    "truncated-binomial": truncated_binomial,
    "chen": chen,
    "maximal-procedure": maximal_procedure,
    "block-urn": block_urn,
    imported_list.NAME: imported_list,
}
ALGORITHMS = {name: method.ALGORITHM for name, method in METHODS.items()}


def draw_stratum(method: str, given: Parameters, prk: bytes, label: str, stratum: int) -> bytes:
    """The arm indices of one stratum, `length` bytes, from its own streams.

    Args:
        method: a key of `METHODS`.
        given: with the ratio in the study's arm order, and without faults.
        prk: the pseudorandom key of the seed (docs/spec.md §4.1).
        label: the stratum's label, part of its streams' keys.
        stratum: its place in the study's declared order, from 0.
    """
    if method == imported_list.NAME:
        return given.arms[stratum]
    if method == "permuted-block":  # has an algorithm of its own, older than the weights
        return permuted_block.draw_stratum(prk, label, given.shares, given.block_sizes, given.length)
    sizes, draws = (words(stream_key(prk, purpose, label)) for purpose in ("size", "draw"))
    return draw_by_weights(METHODS[method], given, sizes, draws)


def draw_by_weights(method: Method, given: Parameters, sizes: Iterator[int], draws: Iterator[int]) -> bytes:
    """Block after block, the last one cut (docs/spec.md §5.4); a list without block sizes is one block.

    Args:
        method: gives the weights.
        given: its parameters.
        sizes: words of purpose ``size``; none is taken where no block sizes are declared.
        draws: words of purpose ``draw``, one integer an entry.
    """
    sequence = bytearray()
    weights = {size: method.weights(given, size) for size in given.blocks}
    while len(sequence) < given.length:
        size = given.length
        if given.block_sizes:
            size = given.block_sizes[draw_below(sizes, len(given.block_sizes))]
        sequence += draw_block(weights[size], len(given.ratio), size, draws)
    return bytes(sequence[: given.length])


def draw_block(weights: Weights, arms: int, size: int, draws: Iterator[int]) -> bytes:
    """Each entry by one integer below the sum of the weights: the first arm at which their running sum exceeds it."""
    counts, block = [0] * arms, bytearray()
    for _ in range(size):
        weighed = weights(counts)
        rest, arm = draw_below(draws, sum(weighed)), 0
        while rest >= weighed[arm]:
            rest -= weighed[arm]
            arm += 1
        counts[arm] += 1
        block.append(arm)
    return bytes(block)
