"""Why each surviving mutant is no fault, or none that can be seen: module, function, the line, what it became."""

from __future__ import annotations

TYPE = (
    "**Another type of numpy that holds the same numbers.** Sizes, bounds and arms are small and words lie below 2^32; "
    "numpy's default of 64 bits holds them all, and a floating point number holds every integer to 2^53. The list is "
    "the same, byte for byte; only memory differs."
)
SPEED = (
    "**Speed alone.** The list is the same, byte for byte: it is drawn by the other of two equal ways; or more "
    "blocks are drawn than are needed, and the list is cut where it ends; or more words are made ready, or more bounds "
    "tabulated, than are used."
)
SAME = "**The same number.** Bound 1 is tabulated as bound 2: no word is refused for either, since both divide 2^32."
NEVER = (
    "**A default that is never taken.** The value is a key that the method needs: a design without it has been refused "
    "before anything is drawn (`tests/test_design_faults.py`), and none of the allowed values counts as false."
)
TIE = "**A tie that cannot be there.** It has been dealt with by the line before."
UNUSED = "**An argument that is not looked at.** The weights of Efron's coin do not depend on the size."
GUARD = (
    "**A guard against our own mistake.** Counts, shares and places always have one number for each arm: `strict` "
    "would stop a caller that does otherwise, and there is none."
)
SPELT = "**The same name.** A hash and an encoding are found by their names in capitals too."
BIG = (
    "**What Python does unasked.** The order of bytes is big where none is given, from Python 3.11 on, which is needed."
)
ABOVE = (
    "**A key that is not there.** No lead above the limit is ever counted, so that there is nothing to leave out when "
    "a step would lead beyond it."
)
_PB = "permuted_block"
_COUNTDOWNS = "countdowns = {int(size): np.arange(size, 1, -1, dtype=np.uint32) for size in block_sizes}"
_BLOCK = "block = np.array(block_of(shares, size), dtype=np.uint8)"
_BOUNDS = "bounds = np.full(most, len(block_sizes), dtype=np.uint32)"
_CHOSEN = "chosen = np.array(block_sizes, dtype=np.int64)[_accepted(key, bounds) % len(block_sizes)]"
_EVERY = "every_bound = np.arange(int(bounds.max(initial=1)) + 1, dtype=np.uint64).clip(1)"
_HIGHEST = "highest = (WORD - 1 - WORD % every_bound).astype(np.uint32)"
_NEEDED = "needed = int(np.searchsorted(np.cumsum(chosen), length)) + 1"
_ACCEPTED = "def _accepted(key: bytes, bounds: NDArray[np.uint32], spare: int = 64) -> NDArray[np.uint32]:"
_WHILE = "while len(raw) >= len(bounds):"
_AGAIN = "return _accepted(key, bounds, 2 * spare)  # every spare word was used up"
_ODDS = "probability = given.probability or Fraction(1, 2)"
_CHEN = "limit, coin = given.limit or 0, biased_coin.weights(given, size)"
_SETS = "shares, sets = given.shares, given.lambda_ or 0"
_WHOLE = "whole = min(count // share for count, share in zip(counts, shares, strict=True))"
_URN = "return tuple(share * (sets + whole) - count for count, share in zip(counts, shares, strict=True))"
_LEFT = "return lambda counts: tuple(place - count for place, count in zip(places, counts, strict=True))"
_ON = "ways = ways_on(size, given.limit or 0)"
_WAYS = "if (total := before.get(abs(lead - 1), 0) + (before.get(lead + 1, 0) if lead < limit else 0))"
_CIPHER = 'encryptor = Cipher(AES(key), CTR(block.to_bytes(16, "big"))).encryptor()'
_WORD = 'yield int.from_bytes(chunk[offset : offset + 4], "big")'
_INFO = 'info = tag("stream") + prefixed(purpose.encode("ascii")) + prefixed(label.encode("utf-8"))'
_STRICT = ("strict=None", "", "strict=False")
_EFRON = "return (ahead, behind) if lead > 0 else (behind, ahead)"
_FORCED = "return (0, 1) if lead > 0 else (1, 0)"
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
        (_PB, "_accepted", _WHILE, _WHILE.replace(">=", ">")),
        (_PB, "_accepted", _AGAIN, _AGAIN.replace("2 *", "3 *")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("initial=1", "initial=2")),
        (_PB, "_accepted", _EVERY, _EVERY.replace("+ 1", "+ 2")),
    ),
    SAME: ((_PB, "_accepted", _EVERY, _EVERY.replace("clip(1)", "clip(2)")),),
    NEVER: (
        *(
            ("biased_coin", "weights", _ODDS, _ODDS.replace("1, 2", other))
            for other in ("None, 2", "1, None", "2", "1, ", "2, 2", "1, 3")
        ),
        ("big_stick", "weights", "limit = given.limit or 0", "limit = given.limit or 1"),
        ("chen", "weights", _CHEN, _CHEN.replace("or 0", "or 1")),
        ("block_urn", "weights", _SETS, _SETS.replace("or 0", "or 1")),
        ("maximal_procedure", "weights", _ON, _ON.replace("or 0", "or 1")),
    ),
    TIE: (
        ("biased_coin", "weights", _EFRON, _EFRON.replace(">", ">=")),
        ("chen", "weights", _FORCED, _FORCED.replace(">", ">=")),
    ),
    UNUSED: (("chen", "weights", _CHEN, _CHEN.replace("(given, size)", "(given, None)")),),
    GUARD: tuple(
        (module, "weights", line, line.replace("strict=True", other))
        for module, line in (("block_urn", _WHOLE), ("block_urn", _URN), (_PB, _LEFT))
        for other in _STRICT
    ),
    ABOVE: (
        ("maximal_procedure", "ways_on", _WAYS, _WAYS.replace("lead < limit", "(lead < limit) or True")),
        ("maximal_procedure", "ways_on", _WAYS, _WAYS.replace("lead < limit", "lead <= limit")),
    ),
    BIG: (
        ("keystream", "keystream_bytes", _CIPHER, _CIPHER.replace('"big"', "")),
        ("keystream", "words", _WORD, _WORD.replace('"big"', "")),
    ),
    SPELT: (
        (
            "imported_list",
            "source_digest",
            'return hmac.digest(salt, tag("source") + file, "sha256").hex()',
            'return hmac.digest(salt, tag("source") + file, "SHA256").hex()',
        ),
        ("keystream", "stream_key", _INFO, _INFO.replace("ascii", "ASCII")),
        ("keystream", "stream_key", _INFO, _INFO.replace("utf-8", "UTF-8")),
    ),
}
