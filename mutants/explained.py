"""Why each surviving mutant is no fault, or none that can be seen: module, function, the line, what it became."""

from __future__ import annotations

TYPE = (
    "**Another type of numpy that holds the same numbers.** Sizes, bounds and arms are small and words lie below 2^32; "
    "numpy's default of 64 bits holds them all, and a floating point number holds every integer up to 2^53. The list is "
    "the same, byte for byte; only memory differs."
)
SPEED = (
    "**Speed alone.** The list is the same, byte for byte: it is drawn by the other of two ways that are equal; or more "
    "blocks are drawn than are needed, and the list is cut where it ends; or more words are made ready, or more bounds "
    "tabulated, than are used."
)
SAME = "**The same number.** Bound 1 is tabulated as bound 2: no word is refused for either, since both divide 2^32."
_PB = "permuted_block"
_COUNTDOWNS = "countdowns = {int(size): np.arange(size, 1, -1, dtype=np.uint32) for size in block_sizes}"
_BLOCK = "block = np.array(block_of(shares, size), dtype=np.uint8)"
_BOUNDS = "bounds = np.full(most, len(block_sizes), dtype=np.uint32)"
_CHOSEN = "chosen = np.array(block_sizes, dtype=np.int64)[_accepted(key, bounds) % len(block_sizes)]"
_EVERY = "every_bound = np.arange(int(bounds.max(initial=1)) + 1, dtype=np.uint64).clip(1)"
_HIGHEST = "highest = (WORD - 1 - WORD % every_bound).astype(np.uint32)"
_NEEDED = "needed = int(np.searchsorted(np.cumsum(chosen), length)) + 1"
_ACCEPTED = "def _accepted(key: bytes, bounds: NDArray[np.uint32], spare: int = 64) -> NDArray[np.uint32]:"
_FROM = "FAST_FROM = 2_000  # entries; below it, importing numpy costs more than it saves"

EXPLAINED: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    TYPE: (
        (_PB, "draw_sequence_fast", _COUNTDOWNS, _COUNTDOWNS.replace("np.uint32", "None")),
        (_PB, "draw_sequence_fast", _COUNTDOWNS, _COUNTDOWNS.replace("dtype=np.uint32", "")),
        (_PB, "draw_sequence_fast", _BLOCK, _BLOCK.replace("np.uint8", "None")),
        (_PB, "draw_sequence_fast", _BLOCK, _BLOCK.replace("dtype=np.uint8", "")),
        (_PB, "_draw_sizes", _BOUNDS, _BOUNDS.replace("np.uint32", "None")),
        (_PB, "_draw_sizes", _BOUNDS, _BOUNDS.replace("dtype=np.uint32", "")),
        (_PB, "_draw_sizes", _CHOSEN, _CHOSEN.replace("np.int64", "None")),
        (_PB, "_draw_sizes", _CHOSEN, _CHOSEN.replace("dtype=np.int64", "")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("np.uint64", "None")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("dtype=np.uint64", "")),
        (_PB, "_accepted", _HIGHEST, _HIGHEST.replace("np.uint32", "None")),
    ),
    SPEED: (
        (_PB, "", _FROM, _FROM.replace("2_000", "2001")),
        (_PB, "draw_stratum", "if length >= FAST_FROM:", "if length > FAST_FROM:"),
        (_PB, "_draw_sizes", _NEEDED, "needed = None"),
        (_PB, "_draw_sizes", _NEEDED, _NEEDED.replace("+ 1", "+ 2")),
        (_PB, "_accepted", _ACCEPTED, _ACCEPTED.replace("64", "65")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("initial=1", "initial=2")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("+ 1", "+ 2")),
    ),
    SAME: ((_PB, "_accepted", _EVERY, _EVERY.replace("clip(1)", "clip(2)")),),
}
