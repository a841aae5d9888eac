"""Permuted blocks: one shuffled multiset after another, each honouring the ratio (docs/spec.md §5).

Two ways that give the same bytes: `draw_sequence`, plain and exact, which is the definition; and `draw_sequence_fast`
with numpy for long lists, which never uses numpy's own generators (their methods promise no stable stream).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from allocator.keystream import WORD, draw_below, keystream_bytes, stream_key, words
from allocator.method import DesignError, Parameters, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALGORITHM = "permuted-block/1"
KEYS = ("block_sizes",)
MAY: tuple[str, ...] = ()
FAST_FROM = 2_000  # entries; below it, importing numpy costs more than it saves


def faults(_: Parameters) -> Iterator[DesignError]:
    """Any arms and ratio that the block sizes honour (`method.block_size_faults`)."""
    yield from ()


def weights(given: Parameters, size: int) -> Weights:
    """What is left of each arm in the block: in law the shuffle below, and what `assess` computes with."""
    times = size // given.ratio_sum
    places = [share * times for share in given.shares]
    return lambda counts: tuple(place - count for place, count in zip(places, counts, strict=True))


def block_of(shares: Sequence[int], size: int) -> list[int]:
    """The block before shuffling: arm indices in declared order, each repeated by its share × size / sum."""
    times = size // sum(shares)
    return [arm for arm, share in enumerate(shares) for _ in range(share * times)]


def shuffle(items: list[int], stream: Iterator[int]) -> list[int]:
    """Fisher-Yates from the last index down (Durstenfeld 1964; Knuth TAOCP 3.4.2 algorithm P).

    With unbiased draws each arrangement has probability 1/n!, so each distinct arrangement of a multiset the same.
    """
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = draw_below(stream, last + 1)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled


def draw_sequence(
    shares: Sequence[int],
    block_sizes: Sequence[int],
    length: int,
    size_stream: Iterator[int],
    shuffle_stream: Iterator[int],
) -> bytes:
    """The arm indices of one stratum, `length` bytes: block after block, the last one cut (docs/spec.md §5.3).

    Args:
        shares: the ratio in arm order.
        block_sizes: ascending; each block's size is drawn uniformly from them.
        length: entries wanted, exactly.
        size_stream: words of purpose ``size``.
        shuffle_stream: words of purpose ``shuffle``.
    """
    sequence = bytearray()
    while len(sequence) < length:
        size = block_sizes[draw_below(size_stream, len(block_sizes))]
        sequence += bytes(shuffle(block_of(shares, size), shuffle_stream))
    return bytes(sequence[:length])


def draw_stratum(prk: bytes, label: str, shares: Sequence[int], block_sizes: Sequence[int], length: int) -> bytes:
    """The arm indices of the stratum with this label, from its own streams; vectorised when long enough."""
    size_key, shuffle_key = stream_key(prk, "size", label), stream_key(prk, "shuffle", label)
    if length >= FAST_FROM:
        return draw_sequence_fast(shares, block_sizes, length, size_key, shuffle_key)
    return draw_sequence(shares, block_sizes, length, words(size_key), words(shuffle_key))


def draw_sequence_fast(
    shares: Sequence[int], block_sizes: Sequence[int], length: int, size_key: bytes, shuffle_key: bytes
) -> bytes:
    """`draw_sequence`, byte for byte, for all blocks of one size at a time."""
    import numpy as np

    sizes = _draw_sizes(block_sizes, length, size_key)
    draws = sizes - 1  # Fisher-Yates takes one integer less than the block has entries
    first_draw = np.cumsum(draws) - draws
    first_entry = np.cumsum(sizes) - sizes
    countdowns = {int(size): np.arange(size, 1, -1, dtype=np.uint32) for size in block_sizes}
    if len(block_sizes) == 1:
        bounds = np.tile(countdowns[block_sizes[0]], len(sizes))
    else:
        bounds = (np.repeat(first_draw + sizes, draws) - np.arange(int(draws.sum()))).astype(np.uint32)
    picks = _accepted(shuffle_key, bounds) % bounds
    sequence = np.empty(int(sizes.sum()), dtype=np.uint8)
    for size in block_sizes:
        rows = np.flatnonzero(sizes == size)
        block = np.array(block_of(shares, size), dtype=np.uint8)
        blocks = np.repeat(block[:, None], len(rows), axis=1)  # (size, blocks): each step swaps along one row
        columns = np.arange(len(rows))
        for step, last in enumerate(range(size - 1, 0, -1)):
            other = picks[first_draw[rows] + step]
            kept = blocks[other, columns]
            blocks[other, columns] = blocks[last]
            blocks[last] = kept
        sequence[first_entry[rows][:, None] + np.arange(size)] = blocks.T
    return sequence[:length].tobytes()


def _draw_sizes(block_sizes: Sequence[int], length: int, key: bytes) -> NDArray[np.int64]:
    """Sizes of the blocks until their sum reaches `length`."""
    import numpy as np

    most = -(-length // block_sizes[0])  # every block the smallest
    bounds = np.full(most, len(block_sizes), dtype=np.uint32)
    chosen = np.array(block_sizes, dtype=np.int64)[_accepted(key, bounds) % len(block_sizes)]
    needed = int(np.searchsorted(np.cumsum(chosen), length)) + 1
    return chosen[:needed]


def _accepted(key: bytes, bounds: NDArray[np.uint32], spare: int = 64) -> NDArray[np.uint32]:
    """The word that `draw_below` would accept for each bound in turn: a refused word is left out, the rest move up."""
    import numpy as np

    raw = np.frombuffer(keystream_bytes(key, 0, 4 * (len(bounds) + spare)), dtype=">u4").astype(np.uint32)
    # the last accepted word, limit - 1 = 2^32 - 1 - (2^32 mod n), fits 32 bits where the limit itself may not
    every_bound = np.arange(int(bounds.max(initial=1)) + 1, dtype=np.uint64).clip(1)
    highest = (WORD - 1 - WORD % every_bound).astype(np.uint32)
    start = 0
    while len(raw) >= len(bounds):
        refused = np.flatnonzero(raw[start : len(bounds)] > highest[bounds[start:]])
        if not len(refused):
            return raw[: len(bounds)]
        start += int(refused[0])
        raw = np.delete(raw, start)
    return _accepted(key, bounds, 2 * spare)  # every spare word was used up
