#!/usr/bin/env python3
"""A second opinion on a study's log: this one file checks an export, or a single receipt, and needs nothing else.

    python3 verify.py FOLDER                    an export: the folder with manifest.json in it
    python3 verify.py FOLDER --head HEX         the same, held to the hash of a record that you kept elsewhere
    python3 verify.py FOLDER --root HEX         ... or to the root of the list, as it was deposited
    python3 verify.py FOLDER --checkpoint FILE --receipt FILE --json
    python3 verify.py FILE.tlog-proof           one receipt by itself

It takes Python 3.9 or later with its standard library, no network, no passphrase, and it writes nothing. It was written
from spec.md alone (a copy is in every export; "§" below is a section of it) and shares no code with the program that
made the export, nor with index.html beside it: where the three agree, three independent readings agree.

Exit code 0: intact, or intact but compared with nothing from outside. 3: broken, or nothing at all to compare with.
2: called wrongly. `--json` prints the object of §11.3. The times of eligibility (§14.2) need the time zone database of
this machine; where it has none, install the package `tzdata`.

What stands where:

    bytes, canonical JSON, times, text      §1          people and rights                       §8
    Ed25519, strict                         §8.4        records and their forms                 §9
    AES-256-CTR, HKDF                       §4          the state of a log, and its rules       §10
    study, participant pattern              §2          eligibility, judged again               §14
    design, streams, methods, list          §3 - §6     tree, checkpoints                       §16
    commitments, root, sealed.json          §7          receipts                                §17
    the opened list, drawn again            §15.5       the export and the numbered checks      §18, §11
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import stat
import sys
import warnings
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from math import gcd
from operator import floordiv
from pathlib import Path
from typing import Any, NamedTuple

CHECKS = {
    1: "files", 5: "rows", 6: "encoding", 8: "study file", 9: "sealed schedule", 10: "registry", 11: "sequence",
    12: "link", 13: "study", 14: "time order", 15: "authority", 16: "signature", 17: "private details", 18: "state",
    19: "rule of the kind", 20: "details", 21: "local head", 22: "given head", 23: "checkpoint", 24: "receipt",
    25: "opening", 26: "export",
}  # fmt: skip


class Fault(Exception):
    """Something does not hold: what, what was expected and what was found. `check` is its number in §11.2."""

    def __init__(self, message: str, expected: Any = None, found: Any = None) -> None:
        super().__init__(message)
        self.message, self.expected, self.found = message, expected, found
        self.check = 0


class WrongCall(Exception):
    """The caller gave a path or a value that cannot be used: exit code 2, no verdict."""


def need(holds: bool, message: str, expected: Any = None, found: Any = None) -> None:
    """Raise a Fault unless it holds."""
    if not holds:
        raise Fault(message, expected, found)


def same(found: Any, expected: Any, message: str) -> None:
    """Raise a Fault unless both are equal and of one type: true is not 1."""
    need(type(found) is type(expected) and found == expected, message, expected, found)


# ---- bytes (§1.1, §1.2) ----------------------------------------------------------------------------------------------


def u8(number: int) -> bytes:
    """One byte."""
    return number.to_bytes(1, "big")


def u16(number: int) -> bytes:
    """Two bytes, big-endian."""
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    """Four bytes, big-endian."""
    return number.to_bytes(4, "big")


def prefixed(data: bytes) -> bytes:
    """The length in two bytes, then the data, of at most 65,535 bytes."""
    need(len(data) <= 0xFFFF, "a field is longer than 65535 bytes")
    return u16(len(data)) + data


def tag(name: str) -> bytes:
    """What stands in front of everything hashed, keyed or signed (§1.2)."""
    return b"allocator/v1/" + name.encode("ascii") + b"\0"


def sha256(data: bytes) -> bytes:
    """SHA-256 (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC with SHA-256 (FIPS 198-1)."""
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2)."""
    return hmac_sha256(salt, material)


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869 §2.3): `length` bytes, at most 8160."""
    need(length <= 255 * 32, "more bytes than HKDF gives")
    out = block = b""
    for counter in range(1, (length + 31) // 32 + 1):
        block = hmac_sha256(key, block + info + u8(counter))
        out += block
    return out[:length]


def from_base64(text: str, length: int | None = None) -> bytes:
    """Canonical base64 (RFC 4648 §4), of `length` bytes where given."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeError, binascii.Error):
        raise Fault("not base64", None, text) from None
    need(base64.b64encode(data).decode("ascii") == text, "not the canonical base64 of these bytes", None, text)
    need(length in (None, len(data)), "another number of bytes", length, len(data))
    return data


# ---- canonical JSON (§1.3) -------------------------------------------------------------------------------------------

BODY_BOUND, SEALED_BOUND, FORM_BOUND, SEED_BOUND, OTHER_BOUND = 2**20, 2**31, 2**16, 2**20, 2**24
LARGEST = 2**53 - 1


def canon(value: Any) -> bytes:
    """The canonical encoding (RFC 8785). A lone surrogate is a UnicodeError."""
    return json.dumps(_in_order(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        # the order is that of UTF-16 code units, which is not Python's beyond U+FFFF
        return {key: _in_order(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    need(len(value) == len(pairs), "a key stands twice in one object")
    return value


def _integer(digits: str) -> int:
    # told by its length first: converting a million digits takes minutes
    small = len(digits) <= 17 and abs(int(digits)) <= LARGEST
    need(small and digits != "-0", "no integer of 53 bits", None, digits[:40])
    return int(digits)


def _no_integer(text: str) -> Any:
    raise Fault("a number that is no integer", None, text[:40])


def parse(data: bytes, bound: int = OTHER_BOUND) -> dict[str, Any]:
    """The object in these bytes, parsed strictly; white space and the order of keys are free."""
    return _parsed(data, bound)[0]


def parse_canonical(data: bytes, bound: int = OTHER_BOUND) -> dict[str, Any]:
    """The object in these bytes, which are its canonical encoding to the letter."""
    value, encoded = _parsed(data, bound)
    need(encoded == data, "the bytes are not the canonical encoding of their content")
    return value


def _parsed(data: bytes, bound: int) -> tuple[dict[str, Any], bytes]:
    need(len(data) <= bound, "more bytes than are read", bound, len(data))
    hooks: dict[str, Any] = {
        "object_pairs_hook": _object,
        "parse_int": _integer,
        "parse_float": _no_integer,
        "parse_constant": _no_integer,
    }
    try:
        value = json.loads(data.decode("utf-8"), **hooks)
        encoded = canon(value)
    except UnicodeError:
        raise Fault("not UTF-8, or half a character") from None
    except ValueError as error:
        raise Fault(f"not JSON: {error}") from None
    except RecursionError:
        raise Fault("nested too deeply") from None
    need(isinstance(value, dict), "an object was expected")
    return value, encoded


def exactly(value: Any, *names: str) -> dict[str, Any]:
    """The value, which is an object with exactly these fields."""
    need(isinstance(value, dict), "an object was expected", list(names), type(value).__name__)
    need(set(value) == set(names), "the fields are others", sorted(names), sorted(value)[:50])
    return dict(value)


# ---- times and text (§1.3, §1.4) -------------------------------------------------------------------------------------

TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
WORD = re.compile(r"[a-z][a-z0-9-]{0,39}")
NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")
HEX = re.compile(r"(?:[0-9a-f]{2})*")
HIDDEN = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd\U00100000-\U0010fffd]"
)


def milliseconds(text: Any) -> int:
    """A time (§1.3) in milliseconds since the year 1."""
    match = TIME.fullmatch(text) if isinstance(text, str) else None
    need(match is not None, "no time", "2026-11-20T01:30:00.000Z", text)
    assert match is not None
    year, month, day, hour, minute, second, thousandth = map(int, match.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second) - datetime.min
    except ValueError:
        raise Fault("no real time", None, text) from None
    return moment // timedelta(milliseconds=1) + thousandth


def is_time(value: Any) -> bool:
    """Whether it is a time of §1.3."""
    try:
        return milliseconds(value) >= 0
    except Fault:
        return False


def matches(form: Any, *, empty: bool = False) -> Callable[[Any], bool]:
    """A test: a string that matches in full."""
    return lambda value: isinstance(value, str) and bool(form.fullmatch(value)) and (empty or value != "")


def hexadecimal(length: int) -> Callable[[Any], bool]:
    """A test: so many bytes in lower case hexadecimal."""
    return lambda value: isinstance(value, str) and len(value) == 2 * length and bool(HEX.fullmatch(value))


is_identifier, is_word, is_digest = matches(IDENTIFIER), matches(WORD), hexadecimal(32)


def is_count(value: Any) -> bool:
    """Whether it is an integer 0 … 2^32 - 1."""
    return type(value) is int and 0 <= value < 2**32


def is_blank(text: str) -> bool:
    """Whether it is empty or white space only: what Python calls space is category Zs or class WS, B or S."""
    return text == "" or text.isspace()


def is_text(value: Any, bound: int = 500) -> bool:
    """Whether it is a text of §1.4."""
    return isinstance(value, str) and len(value) <= bound and not is_blank(value) and not HIDDEN.search(value)


def is_list(value: Any, test: Callable[[Any], bool], least: int = 0, most: int = 2**32) -> bool:
    """Whether it is an array of so many items that all pass the test."""
    return isinstance(value, list) and least <= len(value) <= most and all(map(test, value))


def shown(value: Any, bound: int = 300) -> str:
    """Text of unknown origin for a terminal: hidden characters written out, as in \\u{202e}; cut at the bound."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    cut = text if len(text) <= bound else text[:bound] + " ..."
    return HIDDEN.sub(lambda match: f"\\u{{{ord(match.group()):x}}}", cut)


# ---- Ed25519 (RFC 8032, held to §8.4) --------------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
SMALL_ORDER = {
    bytes.fromhex(point)
    for point in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
}
Point = tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z (RFC 8032 §5.1.4)
NEUTRAL: Point = (0, 1, 1, 0)


def _added(a: Point, b: Point) -> Point:
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    three, four = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % P, g * h % P, f * g % P, e * h % P


def _point(encoded: bytes) -> Point | None:
    """The point of 32 bytes (RFC 8032 §5.1.3); None when it is refused (§8.4)."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    if y >= P or encoded in SMALL_ORDER:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7 % P, (P - 5) // 8, P) % P
    if v * x * x % P == P - u:
        x = x * ROOT_OF_MINUS_ONE % P
    if v * x * x % P != u:
        return None
    x = P - x if x & 1 != encoded[31] >> 7 else x
    return x, y, 1, x * y % P


@lru_cache(maxsize=64)
def _multiples(encoded: bytes) -> list[list[Point]] | None:
    """Row i holds 0 … 15 times 16^i times the point: a product with it is then 64 additions, and nothing is doubled."""
    point = _point(encoded)
    if point is None:
        return None
    rows = []
    for _ in range(64):
        row = [NEUTRAL]
        for _ in range(15):
            row.append(_added(row[-1], point))
        rows.append(row)
        point = _added(row[-1], point)
    return rows


def _product(rows: list[list[Point]], scalar: int, total: Point) -> Point:
    for row in rows:
        if scalar & 15:
            total = _added(total, row[scalar & 15])
        scalar >>= 4
    return total


BASE = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519 without the cofactor (RFC 8032 §5.1.7), refusing all that §8.4 lists. Wrong lengths do not hold."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(public) != 32 or len(signature) != 64 or s >= L or r in SMALL_ORDER:
        return False
    rows, base = _multiples(public), _multiples(BASE)
    if rows is None or base is None:
        return False
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % L
    # [S]B - [k]A is [S]B + [L - k]A only where A has order L, so A's own [k] is taken and negated
    x, y, z, t = _product(rows, k, NEUTRAL)
    x, y, z, _ = _product(base, s, (-x % P, y, z, -t % P))
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == r  # an R with y >= p is no such encoding


# ---- AES-256 and its counter mode (FIPS 197, SP 800-38A §6.5) --------------------------------------------------------


def _substitution() -> list[int]:
    """The S-box (FIPS 197 §5.1.1): p runs over the powers of 3, q over their inverses."""
    box, p, q = [0x63] * 256, 1, 1
    while True:
        p = (p ^ p << 1 ^ (0x11B if p & 0x80 else 0)) & 0xFF
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        box[p] = q ^ 0x63
        for shift in (1, 2, 3, 4):
            box[p] ^= (q << shift | q >> 8 - shift) & 0xFF
        if p == 1:
            return box


SBOX = bytes(_substitution())
DOUBLED = bytes((s << 1 ^ (0x11B if s & 0x80 else 0)) & 0xFF for s in SBOX)  # what MixColumns makes of the S-box


def _substituted(word: int) -> int:
    return SBOX[word >> 24] << 24 | SBOX[word >> 16 & 255] << 16 | SBOX[word >> 8 & 255] << 8 | SBOX[word & 255]


def aes256_round_keys(key: bytes) -> list[int]:
    """The 60 words of the key schedule (FIPS 197 §5.2) of a key of 32 bytes."""
    words = [int.from_bytes(key[i : i + 4], "big") for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = _substituted((word << 8 | word >> 24) & 0xFFFFFFFF) ^ constant << 24
            constant <<= 1
        elif i % 8 == 4:
            word = _substituted(word)
        words.append(words[i - 8] ^ word)
    return words


def aes256_encrypt(keys: list[int], blocks: bytes) -> bytes:
    """Blocks of 16 bytes (FIPS 197 §5.1), all at once: each of 16 numbers holds one byte of every block."""
    count = len(blocks) // 16
    every = int.from_bytes(b"\1" * count, "big")  # times a byte: that byte in every block
    key = b"".join(map(u32, keys))
    state = [int.from_bytes(blocks[i::16], "big") ^ every * key[i] for i in range(16)]
    for start in range(16, 240, 16):
        # SubBytes and ShiftRows: row i % 4 moves by as many columns
        moved = [state[(i + 4 * (i % 4)) % 16].to_bytes(count, "big") for i in range(16)]
        once = [int.from_bytes(row.translate(SBOX), "big") for row in moved]
        state = once
        if start < 224:
            twice = [int.from_bytes(row.translate(DOUBLED), "big") for row in moved]
            state = [_mixed(once, twice, i) for i in range(16)]
        state = [row ^ every * key[start + i] for i, row in enumerate(state)]
    out = bytearray(16 * count)
    for i, row in enumerate(state):
        out[i::16] = row.to_bytes(count, "big")
    return bytes(out)


def _mixed(once: list[int], twice: list[int], i: int) -> int:
    """Byte i after MixColumns (FIPS 197 §5.1.3): 2 times itself, 3 times the next of its column, and the other two."""
    a, b, c, d = (i - i % 4 + (i + step) % 4 for step in range(4))
    return twice[a] ^ twice[b] ^ once[b] ^ once[c] ^ once[d]


# ---- streams, methods, the list (§4 - §6) ----------------------------------------------------------------------------


class Stream:
    """The keystream of one purpose and one stratum (§4.2), read from its start."""

    def __init__(self, key: bytes) -> None:
        self._keys, self._counter = aes256_round_keys(key), 0
        self._rest, self._at, self._more = b"", 0, 16

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self._rest) < self._at + count:
            blocks = range(self._counter, self._counter + self._more)
            fresh = aes256_encrypt(self._keys, b"".join(block.to_bytes(16, "big") for block in blocks))
            self._rest, self._at = self._rest[self._at :] + fresh, 0
            self._counter, self._more = blocks.stop, min(2 * self._more, 2048)  # a short list asks for few
        self._at += count
        return self._rest[self._at - count : self._at]

    def below(self, n: int) -> int:
        """The next integer below n (§4.3), of as many words as n needs; those at or over the limit are thrown away."""
        words = max(1, ((n - 1).bit_length() + 31) // 32)
        space = 1 << 32 * words
        limit = space - space % n
        while True:
            drawn = int.from_bytes(self.take(4 * words), "big")
            if drawn < limit:
                return drawn % n


def seed_commitment(share: bytes) -> bytes:
    """§4.1, 32 bytes."""
    return sha256(tag("seed") + share)


def pseudorandom_key(fingerprint: bytes, design_commitment: bytes, shares: list[bytes], beacon: bytes = b"") -> bytes:
    """The PRK of §4.1, 32 bytes."""
    material = tag("prk") + u8(len(shares)) + b"".join(shares) + prefixed(beacon)
    return hkdf_extract(fingerprint + design_commitment, material)


def stream(prk: bytes, purpose: str, label: str) -> Stream:
    """The stream of a purpose (`size`, `shuffle`, `draw`, `salt`) and a stratum."""
    info = tag("stream") + prefixed(purpose.encode("ascii")) + prefixed(label.encode("utf-8"))
    return Stream(hkdf_expand(prk, info, 32))


def block_of(shares: list[int], size: int) -> list[int]:
    """§5.1: arm indices in declared order, each its share of the size."""
    return [arm for arm, share in enumerate(shares) for _ in range(share * size // sum(shares))]


def shuffle(block: list[int], below: Callable[[int], int]) -> list[int]:
    """§5.2, from the last place down."""
    block = list(block)
    for last in range(len(block) - 1, 0, -1):
        other = below(last + 1)
        block[last], block[other] = block[other], block[last]
    return block


def sequence(prk: bytes, label: str, shares: list[int], sizes: list[int], length: int) -> Iterator[int]:
    """§5.3, `permuted-block`: the arms of one stratum; the last block is shuffled whole, then cut."""
    size_stream, shuffle_stream = stream(prk, "size", label), stream(prk, "shuffle", label)
    left = length
    while left > 0:
        block = shuffle(block_of(shares, sizes[size_stream.below(len(sizes))]), shuffle_stream.below)
        yield from block[:left]
        left -= len(block)


Weights = Callable[[list[int]], Sequence[int]]  # how often each arm came in this block -> its weight now (§5.5)


def by_weights(prk: bytes, label: str, design: Design) -> Iterator[int]:
    """§5.4: the arms of one stratum. What is cut from the last block is not drawn: nothing comes after it."""
    size_stream, draw_stream = stream(prk, "size", label), stream(prk, "draw", label)
    sizes = design.sizes or [design.length]
    weights = {size: WEIGHTS[design.method](design, size) for size in sizes}
    left = design.length
    while left > 0:
        size = sizes[size_stream.below(len(sizes))] if design.sizes else design.length
        counts = [0] * len(design.shares)
        for _ in range(min(size, left)):
            weighed = weights[size](counts)
            rest, arm = draw_stream.below(sum(weighed)), 0
            while rest >= weighed[arm]:
                rest -= weighed[arm]
                arm += 1
            counts[arm] += 1
            yield arm
        left -= size


def _complete(design: Design, _: int) -> Weights:
    return lambda _: design.shares


def _random_allocation_rule(design: Design, size: int) -> Weights:
    whole = [share * size // sum(design.shares) for share in design.shares]
    return lambda counts: [whole[arm] - count for arm, count in enumerate(counts)]


def _big_stick(design: Design, _: int) -> Weights:
    limit = design.limit

    def weigh(counts: list[int]) -> Sequence[int]:
        lead = counts[0] - counts[1]
        return (0, 1) if lead >= limit else (1, 0) if lead <= -limit else (1, 1)

    return weigh


def _biased_coin(design: Design, _: int) -> Weights:
    p, q = design.probability

    def weigh(counts: list[int]) -> Sequence[int]:
        lead = counts[0] - counts[1]
        return (q - p, p) if lead > 0 else (p, q - p) if lead < 0 else (1, 1)

    return weigh


def _urn(design: Design, _: int) -> Weights:
    alpha, beta, ones = design.alpha, design.beta, [1] * len(design.shares)

    def weigh(counts: list[int]) -> Sequence[int]:
        full = alpha + beta * sum(counts)
        weighed = [full - beta * count for count in counts]
        return weighed if any(weighed) else ones

    return weigh


def _truncated_binomial(_: Design, size: int) -> Weights:
    return lambda counts: [1 if 2 * count < size else 0 for count in counts]


def _chen(design: Design, size: int) -> Weights:
    stick, coin, limit = _big_stick(design, size), _biased_coin(design, size), design.limit
    return lambda counts: coin(counts) if -limit < counts[0] - counts[1] < limit else stick(counts)


def _maximal_procedure(design: Design, size: int) -> Weights:
    limit, ways = design.limit, _ways(design.limit, size)

    def weigh(counts: list[int]) -> Sequence[int]:
        row, lead = ways[size - sum(counts) - 1], counts[0] - counts[1]
        return row[lead + 1 + limit + 1], row[lead - 1 + limit + 1]

    return weigh


@lru_cache(maxsize=1)
def _ways(limit: int, size: int) -> list[list[int]]:
    """W(i, d) of §5.5 at [i][d + limit + 1], for i < size and |d| <= limit + 1: all strata ask for the same ones."""
    row = [0] * (2 * limit + 3)
    row[limit + 1] = 1
    rows = [row]
    while len(rows) < size:
        row = [0, *(row[at - 1] + row[at + 1] for at in range(1, 2 * limit + 2)), 0]
        rows.append(row)
    return rows


def _block_urn(design: Design, _: int) -> Weights:
    shares, balls = design.shares, design.lambda_

    def weigh(counts: list[int]) -> Sequence[int]:
        filled = balls + min(map(floordiv, counts, shares))
        return [shares[arm] * filled - count for arm, count in enumerate(counts)]

    return weigh


WEIGHTS: dict[str, Callable[[Design, int], Weights]] = {
    "complete": _complete, "random-allocation-rule": _random_allocation_rule, "big-stick": _big_stick,
    "biased-coin": _biased_coin, "urn": _urn, "truncated-binomial": _truncated_binomial, "chen": _chen,
    "maximal-procedure": _maximal_procedure, "block-urn": _block_urn,
}  # fmt: skip


def arms_of(prk: bytes, label: str, design: Design, stratum: int) -> Iterator[int]:
    """§5: the arms of one stratum, the `stratum`-th of the study from 0."""
    if design.method == "imported-list":
        return iter(bytes.fromhex(design.arms[stratum]))
    if design.method == "permuted-block":
        return sequence(prk, label, design.shares, design.sizes, design.length)
    return by_weights(prk, label, design)


def entries_of(prk: bytes, label: str, design: Design, stratum: int) -> Iterator[tuple[int, bytes]]:
    """§6: (arm index, salt) of each position of one stratum."""
    salts = stream(prk, "salt", label)
    for arm in arms_of(prk, label, design, stratum):
        yield arm, salts.take(32)


# ---- study (§2) ------------------------------------------------------------------------------------------------------

ATOM = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\(?:x[0-9a-fA-F]{2}|0[0-7]{0,2}|.)|[^\\|()*+?]")
REPEAT = re.compile(r"(?:([*+?])|\{(?!\})([0-9]*)(,?)([0-9]*)\})(\+|\??)")
Part = Callable[[str, set[int]], set[int]]  # from the places where a part may start to those where it may end


class ParticipantPattern:
    """The participant pattern (§2.1), matched without going back: no pattern in a hostile file can make it hang.

    Each part turns the set of places where it may start into the set where it may end. What a single character or
    class means is left to `re`. Look-around, references to groups, and flags are not read here.
    """

    def __init__(self, source: Any) -> None:
        printable = matches(re.compile(r"[ -~]{1,100}"))(source)
        need(printable, "the participant pattern is not 1 to 100 printable ASCII characters", None, source)
        _compiled(source)
        self._source, self._at, self._repeats = source, 0, 0
        self._part = self._either()
        need(self._at == len(source), "the participant pattern cannot be read", None, source)
        need(not self.matches(""), "the participant pattern matches an empty id", None, source)

    def matches(self, text: str) -> bool:
        """Whether it matches in full."""
        return len(text) in self._part(text, {0})

    def _either(self) -> Part:
        branches = [self._sequence()]
        while self._next("|"):
            branches.append(self._sequence())
        return lambda text, starts: set().union(*(branch(text, starts) for branch in branches))

    def _sequence(self) -> Part:
        parts: list[Part] = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            parts.append(self._item())

        def ends(text: str, starts: set[int]) -> set[int]:
            for part in parts:
                starts = part(text, starts)
            return starts

        return ends

    def _item(self) -> Part:
        if self._next("("):
            opened = re.compile(r"\?:|\?P<\w+>|(?!\?)").match(self._source, self._at)
            need(opened is not None, "the participant pattern uses what is not read here", None, self._source)
            assert opened is not None
            self._at = opened.end()
            part = self._either()
            need(self._next(")"), "the participant pattern cannot be read", None, self._source)
            return self._repeated(part, group=True)
        atom = ATOM.match(self._source, self._at)
        need(atom is not None, "the participant pattern cannot be read", None, self._source)
        assert atom is not None
        self._at = atom.end()
        one = _compiled(atom.group())
        return self._repeated(lambda text, starts: {m.end() for i in starts for m in [one.match(text, i)] if m})

    def _repeated(self, part: Part, group: bool = False) -> Part:
        match = REPEAT.match(self._source, self._at)
        if match is None:
            return part
        self._at = match.end()
        sign, low, comma, high, after = match.groups()
        need(after != "+", "the participant pattern uses what is not read here", None, self._source)
        self._repeats += bool(sign or comma)
        need(self._repeats <= 6, "the participant pattern has more than six repeats", None, self._source)
        need(not group or sign == "?", "a group of the participant pattern is repeated", None, self._source)
        if sign:
            return _times(part, int(sign == "+"), 1 if sign == "?" else 2**32)
        least = int(low or 0)
        return _times(part, least, int(high) if high else 2**32 if comma else least)

    def _next(self, character: str) -> bool:
        found = self._source.startswith(character, self._at)
        self._at += found
        return bool(found)


def _compiled(source: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(source, re.ASCII)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise Fault(f"the participant pattern is no regular expression: {error}", None, source) from None


def _times(part: Part, low: int, high: int) -> Part:
    def ends(text: str, starts: set[int]) -> set[int]:
        for _ in range(low):
            before, starts = starts, part(text, starts)
            if starts == before or not starts:
                break  # nothing more changes, however often it is repeated
        reached, new = set(starts), set(starts)
        for _ in range(high - low):
            new = part(text, new) - reached
            if not new:
                break
            reached |= new
        return reached

    return ends


class Study:
    """study.json: the canonical object of §2.1, held to its forms."""

    FIELDS = (
        "format", "id", "title", "protocol_version", "masking", "enrollment", "participant", "time_zone",
        "confirmation_hours", "arms", "factors", "criteria", "questions",
    )  # fmt: skip
    ARM_TYPES = (
        "experimental", "active-comparator", "placebo-comparator", "sham-comparator", "no-intervention", "other",
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        plain = exactly(parse_canonical(data), *self.FIELDS)
        self.fingerprint = sha256(tag("study") + data)
        _form("format", plain["format"] == "allocator-study/1", plain["format"])
        _form("id", is_identifier(plain["id"]), plain["id"])
        _form("title", is_text(plain["title"]), plain["title"])
        _form("protocol_version", is_text(plain["protocol_version"], 40), plain["protocol_version"])
        _form("masking", plain["masking"] == "none", plain["masking"])
        _form("enrollment", is_count(plain["enrollment"]) and 1 <= plain["enrollment"] <= 10**6, plain["enrollment"])
        hours = plain["confirmation_hours"]
        _form("confirmation_hours", is_count(hours) and 1 <= hours <= 2160, hours)
        self.id, self.enrollment, self.hours = str(plain["id"]), int(plain["enrollment"]), int(hours)
        self.pattern, self.zone = ParticipantPattern(plain["participant"]), _zone(plain["time_zone"])
        self.arms = _different("arms", plain["arms"], _arm, "code", least=2, most=100)
        need(len({arm["label"] for arm in self.arms}) == len(self.arms), "two arms have one label")
        self.labels = _labels(_different("factors", plain["factors"], _factor, "name"))
        self.criteria = _different("criteria", plain["criteria"], _criterion, "id", least=1)
        _different("questions", plain["questions"], _question, "id")
        for criterion in self.criteria:
            self._not_applicable(criterion)

    def is_participant(self, value: Any) -> bool:
        """Whether it is an id of this study's participants."""
        return is_identifier(value) and self.pattern.matches(value)

    def _not_applicable(self, criterion: dict[str, Any]) -> None:
        given = criterion["not_applicable"]
        if given is None:
            return
        given = exactly(given, "criterion", "answer")
        others = {other["id"]: other for other in self.criteria if other["id"] != criterion["id"]}
        other = others.get(given["criterion"]) if isinstance(given["criterion"], str) else None
        need(other is not None, "not_applicable names no other criterion", None, given["criterion"])
        assert other is not None
        answers = ["Y", "N"] if other["type"] == "yes-no" else other["codes"]
        need(given["answer"] in answers, "not_applicable names no answer of the criterion", answers, given["answer"])


def _form(name: str, holds: bool, found: Any) -> None:
    need(holds, f"{name} of the study has a wrong form", None, found)


def _different(
    name: str, value: Any, item: Callable[[Any], dict[str, Any]], key: str, least: int = 0, most: int = 2**32
) -> list[dict[str, Any]]:
    """An array of objects that differ in one field."""
    _form(name, isinstance(value, list) and least <= len(value) <= most, value)
    items = [item(one) for one in value]
    need(len({one[key] for one in items}) == len(items), f"two of the {name} have one {key}")
    return items


def _arm(value: Any) -> dict[str, Any]:
    arm = exactly(value, "code", "label", "type", "interventions")
    _form("arm", is_arm({name: arm[name] for name in ("code", "label", "interventions")}), arm)
    _form("arm.type", arm["type"] in Study.ARM_TYPES, arm["type"])
    return arm


def is_arm(value: Any) -> bool:
    """Whether it is an arm's words: code, label and interventions."""
    arm = exactly(value, "code", "label", "interventions")
    return is_identifier(arm["code"]) and is_text(arm["label"]) and is_list(arm["interventions"], is_text)


def _factor(value: Any) -> dict[str, Any]:
    factor = exactly(value, "name", "levels")
    _form("factor.name", is_identifier(factor["name"]), factor["name"])
    levels = factor["levels"]
    _form("factor.levels", is_list(levels, is_identifier, 2) and len(set(levels)) == len(levels), levels)
    return factor


def _labels(factors: list[dict[str, Any]]) -> list[str]:
    """§2.3: the labels of all strata, the last factor moving fastest."""
    count = 1
    for factor in factors:
        count *= len(factor["levels"])
        need(count <= 10_000, "more than 10000 strata")
    strata: list[dict[str, str]] = [{}]
    for factor in factors:
        strata = [{**stratum, factor["name"]: level} for stratum in strata for level in factor["levels"]]
    return [label_of(stratum) for stratum in strata]


def label_of(stratum: dict[str, str]) -> str:
    """The label of a stratum (§2.3)."""
    return canon(stratum).decode("utf-8")


def _question(value: Any) -> dict[str, Any]:
    question = exactly(value, "id", "level", "quotes", "message", "reading")
    _form("question.id", is_identifier(question["id"]), question["id"])
    _form("question.level", question["level"] in ("block", "warn", "info"), question["level"])
    _form("question.quotes", is_list(question["quotes"], is_text, 1), question["quotes"])
    for name in ("message", "reading"):
        _form(f"question.{name}", is_text(question[name], 1000), question[name])
    return question


def _zone(name: Any) -> Any:
    """The time zone of this name, of the machine's own database (§14.2)."""
    _form("time_zone", isinstance(name, str) and name != "" and not HIDDEN.search(name), name)
    try:
        zoneinfo.ZoneInfo("Etc/UTC")
    except KeyError:
        raise WrongCall("this machine has no time zone database; install the package tzdata, then try again") from None
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Fault("time_zone is no IANA time zone", None, name) from None


# ---- eligibility (§14) -----------------------------------------------------------------------------------------------

COMPARISON = re.compile(rf"(<=|>=|<|>) ?({NUMBER.pattern})")
RANGE = re.compile(rf"({NUMBER.pattern})\.\.({NUMBER.pattern})")
LEVEL = re.compile(r"(<=|>=|<|>) ?(.+)")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
CONSENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
BESIDE = ("unit", "text", "specimen", "date", "uln")


def _criterion(value: Any) -> dict[str, Any]:
    """A criterion of the study (§2.1), with `passing`: its limits (§14.4), or the codes that pass."""
    criterion = exactly(
        value, "id", "category", "text", "source", "datum", "type", "unit", "pass", "needs", "max_age_days", "codes",
        "whole_number", "summary", "not_applicable",
    )  # fmt: skip
    _form("criterion.id", is_identifier(criterion["id"]), criterion["id"])
    _form("criterion.category", criterion["category"] in ("inclusion", "exclusion"), criterion["category"])
    for name in ("text", "source", "datum"):
        _form(f"criterion.{name}", is_text(criterion[name]), criterion[name])
    for name in ("whole_number", "summary"):
        _form(f"criterion.{name}", isinstance(criterion[name], bool), criterion[name])
    codes, needs, age = criterion["codes"], criterion["needs"], criterion["max_age_days"]
    _form("criterion.unit", is_list(criterion["unit"], lambda unit: is_text(unit, 40)), criterion["unit"])
    _form("criterion.codes", is_list(codes, is_identifier) and len(set(codes)) == len(codes), codes)
    _form("criterion.needs", is_list(needs, lambda name: name in ("text", "specimen", "date", "uln")), needs)
    _form("criterion.needs", criterion["type"] != "ratio" or "uln" in needs, needs)
    _form("criterion.max_age_days", age is None or (is_count(age) and age <= 36_500 and "date" in needs), age)
    criterion["passing"] = _passing(criterion)
    _form("criterion.pass", bool(criterion["passing"]), criterion["pass"])
    return criterion


def _passing(criterion: dict[str, Any]) -> Any:
    kind, given = criterion["type"], criterion["pass"]
    if kind in ("quantity", "ratio"):
        _form("criterion.unit", criterion["unit"] != [], criterion["unit"])
        return _limits(given)
    if kind == "yes-no":
        _form("criterion.unit", criterion["unit"] == [] and criterion["codes"] == [], criterion["unit"])
        return [given] if given in ("Y", "N") else []
    _form("criterion.type", kind in ("code", "ordinal"), kind)
    codes = criterion["codes"]
    level = LEVEL.fullmatch(given) if kind == "ordinal" and isinstance(given, str) else None
    if level and level.group(2) in codes:
        compare, limit = COMPARE[level.group(1)], codes.index(level.group(2))
        return [code for place, code in enumerate(codes) if compare(place, limit)]
    passing = [given] if isinstance(given, str) else given
    return passing if is_list(passing, lambda code: code in codes) else []


def _limits(given: Any) -> list[tuple[str, Fraction]]:
    text = given if isinstance(given, str) else ""
    one, both = COMPARISON.fullmatch(text), RANGE.fullmatch(text)
    if one:
        return [(one.group(1), Fraction(one.group(2)))]
    if both and Fraction(both.group(1)) <= Fraction(both.group(3)):
        return [(">=", Fraction(both.group(1))), ("<=", Fraction(both.group(3)))]
    return []


def read_form(data: bytes) -> dict[str, Any]:
    """The form (§14.1) as it is stored beside a record: canonical, both top-level keys, every `value`."""
    form = exactly(parse_canonical(data, FORM_BOUND), "consent", "answers")
    need(isinstance(form["consent"], str), "consent is no string")
    need(isinstance(form["answers"], dict) and len(form["answers"]) <= 500, "answers is no object of at most 500")
    for answer in form["answers"].values():
        need(isinstance(answer, dict) and "value" in answer, "an answer is no object with a value")
        need(set(answer) <= {"value", *BESIDE}, "an answer has another field", None, sorted(answer)[:10])
        need(all(isinstance(text, str) for text in answer.values()), "a field of an answer is no string")
    return form


def qualifies(study: Study, form: dict[str, Any], at: int) -> bool:
    """§14.2: consent and every criterion are met at this moment, and every answer is to a criterion."""
    answers = form["answers"]
    try:
        today = study.zone.fromutc(datetime.min.replace(tzinfo=study.zone) + timedelta(milliseconds=at)).date()
    except (OverflowError, ValueError):
        return False  # the local date is beyond the calendar
    return (
        _consented(form["consent"], at)
        and set(answers) <= {criterion["id"] for criterion in study.criteria}
        and all(_met(criterion, answers, today) for criterion in study.criteria)
    )


def _consented(text: str, at: int) -> bool:
    match = CONSENT.fullmatch(text)
    day = _real_date(match.group(1)) if match else None
    if match is None or day is None:
        return False
    hour, minute, second = (int(match.group(i)) for i in (2, 3, 4))
    offset = 60 * int(match.group(7) or 0) + int(match.group(8) or 0)
    if hour > 23 or minute > 59 or second > 59 or offset >= 24 * 60:
        return False
    offset = -offset if match.group(6) == "-" else offset
    minutes = ((day.toordinal() - 1) * 24 + hour) * 60 + minute - offset
    # in integers: no calendar ends between the local time and UTC
    return (minutes * 60 + second) * 10**6 + int((match.group(5) or "0").ljust(6, "0")) <= at * 1000


def _real_date(text: str) -> date | None:
    try:
        return date(*map(int, text.split("-"))) if DATE.fullmatch(text) else None
    except ValueError:
        return None


def _met(criterion: dict[str, Any], answers: dict[str, dict[str, str]], today: date) -> bool:
    """§14.3, in its order."""
    answer = answers.get(criterion["id"], {"value": ""})
    value, exempt = answer["value"], criterion["not_applicable"]
    if is_blank(value) or value == "UNKNOWN":
        return False
    if value == "NA" and exempt is not None:
        other = answers.get(exempt["criterion"], {"value": ""})
        return other["value"] == exempt["answer"] and _beside(criterion, answer, today)
    if any(is_blank(answer.get(name, "")) for name in criterion["needs"]):
        return False
    return _beside(criterion, answer, today) and _passes(criterion, answer)


def _beside(criterion: dict[str, Any], answer: dict[str, str], today: date) -> bool:
    """Step 5: the fields beside the value, when given and not blank."""
    given = {name: answer[name] for name in BESIDE if not is_blank(answer.get(name, ""))}
    if "unit" in given and not criterion["unit"]:
        return False
    if not all(is_text(given[name]) for name in ("text", "specimen") if name in given):
        return False
    if "uln" in given and not (_unsigned(given["uln"]) and Fraction(given["uln"]) > 0):
        return False
    return "date" not in given or _recent(given["date"], today, criterion["max_age_days"])


def _recent(text: str, today: date, age: int | None) -> bool:
    day = _real_date(text)
    return day is not None and day <= today and (age is None or (today - day).days <= age)


def _unsigned(text: str) -> bool:
    return bool(NUMBER.fullmatch(text)) and not text.startswith("-")


def _passes(criterion: dict[str, Any], answer: dict[str, str]) -> bool:
    """§14.4: the value, by type."""
    value, units, passing = answer["value"], criterion["unit"], criterion["passing"]
    if criterion["type"] in ("quantity", "ratio"):
        if answer.get("unit") not in units or not _unsigned(value) or (criterion["whole_number"] and "." in value):
            return False
        scale = Fraction(answer["uln"]) if criterion["type"] == "ratio" else 1
        return all(COMPARE[sign](Fraction(value), limit * scale) for sign, limit in passing)
    return value in passing and not (units and "unit" in answer and answer["unit"] not in units)


# ---- commitments, root, tree (§7, §16.1) -----------------------------------------------------------------------------


def place_of(label: str, position: int) -> bytes:
    """Where an entry stands (§7)."""
    return prefixed(label.encode("utf-8")) + u32(position)


def commitment_of(fingerprint: bytes, sealing: bytes, place: bytes, arm: int, salt: bytes) -> bytes:
    """§7.3, 32 bytes."""
    need(arm <= 0xFF, "the arm index is more than a byte", None, arm)
    return hmac_sha256(salt, tag("commit") + fingerprint + sealing + place + u8(arm))


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 §2.1."""
    return sha256(b"\0" + data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1."""
    return sha256(b"\1" + left + right)


class Tree:
    """The Merkle tree of RFC 6962 §2.1, grown leaf by leaf: it keeps the hash of each whole subtree, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append the hash of a leaf."""
        self.size += 1
        merged = self.size
        while merged % 2 == 0:
            leaf, merged = node_hash(self._whole.pop(), leaf), merged // 2
        self._whole.append(leaf)

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self._whole:
            return sha256(b"")
        root = self._whole[-1]
        for left in reversed(self._whole[:-1]):
            root = node_hash(left, root)
        return root


def included_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root to which an inclusion proof leads (RFC 9162 §2.1.3.2)."""
    at, last, root = index, size - 1, leaf
    for sibling in path:
        need(last > 0, "the inclusion proof has a hash too many")
        if at & 1 or at == last:
            root = node_hash(sibling, root)
            while at & 1 == 0 and at > 0:
                at, last = at >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0, "the inclusion proof has a hash too few")
    return root


# ---- records and their forms (§9) ------------------------------------------------------------------------------------

STATES = ("none", "open", "sealed", "active", "paused", "closed", "opened", "recovering")  # moved is none of "every"
ROLES = ("sponsor", "statistician", "custodian", "investigator", "pharmacist", "auditor")
ALLOCATIONS, SEALINGS = ("allocated", "late", "receipt-entered"), ("generated", "imported", "resealed")
LEADS_TO = {
    "study-opened": "open", "generated": "sealed", "imported": "sealed", "activated": "active", "paused": "paused",
    "resumed": "active", "closed": "closed", "opened": "opened", "moved": "moved",
}  # fmt: skip


class Kind(NamedTuple):
    """A kind of record (§8.2, §9.4); `may` are the private details that may be left out."""

    fields: tuple[str, ...]
    details: tuple[str, ...]
    may: tuple[str, ...]
    states: tuple[str, ...]
    roles: tuple[str, ...]
    meaning: str


def _kind(fields: str, details: str, states: str, roles: str, meaning: str) -> Kind:
    names = details.replace("(", "").replace(")", "").split()
    may = tuple(name for name in names if f"({name})" in details)
    every = STATES if states == "every" else tuple(states.split())
    able = ROLES if roles == "all" else tuple(roles.split())
    return Kind(tuple(fields.split()), tuple(name for name in names if name not in may), may, every, able, meaning)


_SEALING = "sealing algorithm root sealed_digest design_commitment seed_commitments holders seed_origin"
_ENTRY = "participant stratum position number sealing"
_SHOWN, _MOVED = "active paused closed opened recovering", "active paused closed opened"
# kind: its own fields | private details, in brackets those that may be left out | states | roles | meaning
KINDS = {
    "study-opened": _kind(
        "study fingerprint registry findings log_key sign_key seal_key", "name", "every", "sponsor",
        "I open this study with this definition; my signature here binds me as my own hand does."),
    "person-added": _kind(
        "added roles code_digest", "name", "every", "sponsor",
        "I add this person, whose identity I have verified, in these roles."),
    "person-enrolled": _kind(
        "sign_key seal_key code", "", "every", "all",
        "These keys are mine alone; my signature by them binds me as my own hand does."),
    "person-deactivated": _kind(
        "deactivated", "reason", "every", "sponsor", "This person may no longer act in this study."),
    "passphrase-changed": _kind("", "", "every", "all", "I changed the passphrase of my keys."),
    "log-read": _kind(
        "", "", "every", "sponsor auditor", "I read the records of this study whole, with their private details."),
    "decided": _kind(
        "finding", "reading reason", "open sealed active paused", "sponsor",
        "I decide this question of the protocol with this reading."),
    "generated": _kind(
        _SEALING, "(reason)", "open sealed", "statistician",
        "I generated and sealed the list; no one has seen an arm of it."),
    "imported": _kind(
        _SEALING + " source_digest", "origin (reason)", "open sealed", "statistician",
        "I checked and sealed this list, which was made elsewhere as stated."),
    "list-checked": _kind(
        "sealing report_digest", "", "sealed", "statistician",
        "I checked the sealed list against its design; the report of this digest found no fault."),
    "list-read": _kind(
        "sealing purpose", "", "sealed active paused closed opened", "statistician",
        "I read the sealed list for the purpose stated, with the arms that are still to come."),
    "granted": _kind(
        "grantee half sealing envelope", "", "sealed active paused", "statistician investigator pharmacist",
        "I grant this person their half of the key."),
    "activated": _kind(
        "sealing root", "deposit", "sealed", "sponsor",
        "I activate the study; the root and the first record's hash are deposited where stated."),
    "paused": _kind("", "reason", "active", "all", "I pause allocation."),
    "resumed": _kind("", "reason", "paused", "sponsor", "I resume allocation."),
    "closed": _kind("", "reason", "active paused", "sponsor", "I close allocation for good."),
    "confirmed": _kind(
        "participant stratum position sealing fingerprint attempt release", "answers (reason)", "active",
        "investigator", "I confirm that this participant is eligible and release the bound entry."),
    "screen-failed": _kind(
        "participant stratum fingerprint attempt", "answers (reason)", "active", "investigator",
        "I record these answers; by them the participant is not eligible."),
    "confirmation-withdrawn": _kind(
        "participant confirmation", "reason", "active", "investigator",
        "I withdraw my confirmation of this participant's eligibility."),
    "allocated": _kind(
        _ENTRY + " confirmation arm salt", "", "active", "pharmacist",
        "I request the allocation of this participant."),
    "shown-again": _kind(
        "participant allocation", "", _SHOWN, "pharmacist",
        "I request to be shown this participant's allocation again."),
    "looked-up": _kind(
        "participant allocation", "", _SHOWN, "investigator pharmacist",
        "I look up what became of this participant's request."),
    "unblinded": _kind(
        "participant allocation", "reason", _SHOWN, "investigator pharmacist",
        "I request this one participant's arm for the reason stated."),
    "corrected": _kind(
        "participant allocation what", "value reason", _MOVED, "sponsor investigator pharmacist",
        "I state this correction beside the allocation, which stands."),
    "late": _kind(
        _ENTRY + " confirmation arm salt event_time told", "reason", "active", "pharmacist",
        "I enter an allocation that was made on paper at the time stated."),
    "reassignment-proposed": _kind(
        "participant to allocation", "reason", _MOVED, "sponsor investigator pharmacist",
        "I state that this allocation was made under a wrong id and belongs to the participant named."),
    "reassigned": _kind(
        "participant from proposal allocation", "reason", _MOVED, "sponsor investigator pharmacist",
        "I confirm that this allocation was made under a wrong id and is this participant's."),
    "share-copied": _kind(
        "sealing", "", "sealed active paused closed", "statistician custodian",
        "I took a paper copy of my share of the seed."),
    "resealed": _kind(
        _SEALING, "reason", "sealed active paused closed", "statistician",
        "I sealed the same list again from both shares of its seed; its root is the one committed to."),
    "backed-up": _kind("backup", "", "every", "sponsor", "I made this backup of the study."),
    "restored": _kind(
        "backup missing lost before state", "reason", "every", "sponsor",
        "I state that this log was put back to an earlier time, and what is known to be missing."),
    "receipt-entered": _kind(
        _ENTRY + " arm salt original", "", "recovering", "sponsor statistician",
        "I enter a lost allocation from its receipt; the signature in it proves it."),
    "recovered": _kind(
        "restored reserved number allocated state", "reason", "recovering", "statistician",
        "I have established what may have been used, and reserve it; nothing of it is given again."),
    "moved": _kind(
        "to", "(reason)", "every", "sponsor",
        "I move this log to the place stated; nothing follows in the place that it leaves."),
    "arrived": _kind(
        "moved state", "", "moved", "sponsor",
        "The log was moved here whole and verified; the study goes on from here."),
    "receipt-copied": _kind(
        "participant allocation", "", _SHOWN, "pharmacist auditor",
        "I made the receipt of this allocation again, marked COPY."),
    "share-given": _kind(
        "sealing share_digest", "", "closed", "statistician custodian",
        "I give my share of the seed, so that the list can be opened."),
    "opened": _kind(
        "sealing root seed_digest", "", "closed", "statistician custodian",
        "I disclose the seed; the list drawn from it again is the one committed to, in every entry."),
    "exported": _kind(
        "scope", "", "every", "sponsor auditor", "I made an export of this study to be read elsewhere."),
    "reviewed": _kind(
        "since until", "findings", "every", "auditor",
        "I reviewed the audit trail of this period; my findings are stated."),
    "clock-set": _kind("", "reason", "every", "sponsor", "I have checked the clock; time goes on from here."),
    "refused": _kind(
        "action cause participant", "", "every", "all", "I made this request, and it was refused."),
    "attempt-failed": _kind("person action failure", "", "every", "", ""),
    "clock-jump": _kind("clock", "", "every", "", ""),
}  # fmt: skip
RESERVED = ("amended", "approval", "extended", "locked", "redacted", "withdrawn")


def is_string(value: Any, most: int = 500) -> bool:
    """Whether it is a "string" of §9.2: 1 to 500 characters."""
    return isinstance(value, str) and 1 <= len(value) <= most


def or_null(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test that takes `null` too."""
    return lambda value: value is None or test(value)


def one_of(*choices: str) -> Callable[[Any], bool]:
    """A test: one of these strings."""
    return lambda value: isinstance(value, str) and value in choices


def record_of(**tests: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test: an object with exactly these fields, each of its form."""
    return lambda value: (
        isinstance(value, dict) and set(value) == set(tests) and all(test(value[name]) for name, test in tests.items())
    )


def is_any_string(value: Any) -> bool:
    """Whether it is a string, of any length."""
    return isinstance(value, str)


def is_stratum(value: Any) -> bool:
    """Whether it is an object of identifiers."""
    return isinstance(value, dict) and all(is_identifier(name) and is_identifier(value[name]) for name in value)


def is_attempt(value: Any) -> bool:
    """Whether it is first, of none, or of another type, of an attempt before."""
    return record_of(type=one_of("first", "again", "rescreen", "correcting"), of=or_null(is_count))(value) and (
        (value["type"] == "first") == (value["of"] is None)
    )


_state = ("open", "sealed", "active", "paused", "closed", "opened")
FORMS: dict[str, Callable[[Any], bool]] = {
    "format": one_of("allocator-record/1"), "seq": is_count, "kind": one_of(*KINDS), "time": is_time,
    "mode": one_of("production", "test"), "program": is_string, "person": or_null(is_identifier), "role": is_word,
    "meaning": is_string, "signature": hexadecimal(64), "study": is_identifier, "fingerprint": is_digest,
    "registry": or_null(is_digest), "log_key": is_digest, "sign_key": is_digest, "seal_key": is_digest,
    "added": is_identifier, "roles": lambda value: is_list(value, is_word), "code_digest": is_digest,
    "code": is_string, "deactivated": is_identifier, "finding": is_identifier, "sealing": hexadecimal(16),
    "algorithm": is_string, "root": is_digest, "sealed_digest": is_digest, "design_commitment": is_digest,
    "seed_commitments": lambda value: is_list(value, is_digest), "holders": lambda value: is_list(value, is_identifier),
    "seed_origin": one_of("system", "given"), "source_digest": is_digest, "report_digest": is_digest,
    "purpose": one_of("check", "balance", "export"), "grantee": is_identifier,
    "half": one_of("pharmacist", "investigator"),
    "envelope": hexadecimal(80), "participant": or_null(is_identifier), "stratum": is_stratum, "position": is_count,
    "attempt": is_attempt, "release": is_digest, "confirmation": is_count, "number": is_count, "arm": is_count,
    "salt": is_digest, "allocation": is_count, "what": one_of("stratum", "ineligible", "in-error", "treatment"),
    "action": is_word, "cause": is_word, "event_time": is_time, "told": or_null(is_count), "to": is_identifier,
    "from": is_identifier, "proposal": is_count, "backup": or_null(is_digest),
    "missing": one_of("none", "known", "unknown"), "lost": or_null(record_of(seq=is_count, hash=is_digest)),
    "before": one_of(*_state), "state": one_of(*_state, "recovering"),
    "original": record_of(prev=is_digest, body=is_any_string), "restored": is_count, "moved": is_count,
    "allocated": is_count,
    "reserved": lambda value: is_list(
        value, record_of(stratum=is_stratum, position=is_count, participant=or_null(is_identifier))),
    "clock": is_time, "share_digest": is_digest, "seed_digest": is_digest, "scope": one_of("evidence", "inspection"),
    "since": is_time, "until": is_time,
    "findings": lambda value: is_list(value, record_of(
        id=is_identifier, level=one_of("block", "warn", "info"), message=is_any_string,
        quotes=lambda quotes: is_list(quotes, is_any_string))),
    "failure": one_of(
        "unknown-person", "enrolled-already", "not-enrolled", "deactivated", "wrong-code", "wrong-passphrase"),
}  # fmt: skip


class Record:
    """One record: 32 bytes of `prev` and a body that has the forms of §9. A Fault when it has not (check 06)."""

    def __init__(self, prev: bytes, body: bytes) -> None:
        self.prev, self.fields = prev, parse_canonical(body, BODY_BOUND)
        self.hash = leaf_hash(prev + body)
        kind = self.fields.get("kind")
        need(is_any_string(kind) and kind not in RESERVED, "a kind of a later version", None, kind)
        need(isinstance(kind, str) and kind in KINDS, "no kind of this version", None, kind)
        assert isinstance(kind, str)
        self.kind, self.rules = kind, KINDS[kind]
        own = {"format", "seq", "kind", "time", "mode", "program", *self.rules.fields}
        own |= {"person", "role", "meaning", "signature"} if self.rules.meaning else set()
        own |= {"details"} if self.rules.details or self.rules.may else set()
        exactly(self.fields, *own)
        for name in sorted(own - {"details"}):
            need(FORMS[name](self.fields[name]), f"field {name} of {kind} has a wrong form", None, self.fields[name])
        if self.rules.meaning:
            same(self.fields["meaning"], self.rules.meaning, f"the meaning of the signature is not that of {kind}")
        self.details = self._details()
        self.seq, self.time = int(self.fields["seq"]), milliseconds(self.fields["time"])

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def label(self) -> str:
        """The label of its stratum."""
        return label_of(self.fields["stratum"])

    def signed_by(self, key: bytes | None) -> bool:
        """Whether its signature holds with this key (§8.4)."""
        body = canon({name: value for name, value in self.fields.items() if name != "signature"})
        message = tag("sign") + self.prev + body
        return key is not None and signature_holds(key, message, bytes.fromhex(self["signature"]))

    def _details(self) -> dict[str, str]:
        details = self.fields.get("details", {})
        must, may = set(self.rules.details), set(self.rules.may)
        need(isinstance(details, dict), "details is no object")
        need(must <= set(details) <= must | may, f"the private details of {self.kind} are others", sorted(must),
             sorted(details)[:20])  # fmt: skip
        need(all(map(is_digest, details.values())), "a private detail's commitment has a wrong form")
        return dict(details)


def detail_commitment(salt: bytes, seq: int, name: str, value: str) -> bytes:
    """§9.3, 32 bytes."""
    return hmac_sha256(salt, tag("detail") + u32(seq) + prefixed(name.encode("utf-8")) + value.encode("utf-8"))


def original_of(record: Record) -> Record:
    """The lost record in a `receipt-entered` record (§10.11)."""
    original = Record(bytes.fromhex(record["original"]["prev"]), record["original"]["body"].encode("utf-8"))
    need(original.kind in ("allocated", "late"), "the original is of another kind", "allocated or late", original.kind)
    for name in ("participant", "stratum", "position", "number", "sealing", "arm", "salt"):
        same(record[name], original[name], f"{name} is not that of the original")
    return original


# ---- the state of a log (§8.1, §10) ----------------------------------------------------------------------------------

Place = tuple[str, int]  # label of the stratum, position
CLOCK_SLACK, HOUR = 5_000, 3_600_000  # milliseconds


@dataclass
class Person:
    """A person of the study (§8.1)."""

    id: str
    roles: list[str]
    code_digest: str
    sign_key: bytes | None = None
    active: bool = True

    @property
    def acts(self) -> bool:
        """Whether they are enrolled and active."""
        return self.active and self.sign_key is not None


@dataclass
class Attempt:
    """What stays of a participant's `confirmed` or `screen-failed` record (§10.5); `place` is what it bound."""

    seq: int
    time: int
    person: str
    participant: str
    place: Place
    sealing: str = ""
    confirmed: bool = False
    withdrawn: bool = False
    moved: bool = False


class History:
    """What the records so far have led to. `add` takes any record in: one that broke a rule counts as written."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.count, self.state = 0, "none"
        self.first: Record | None = None
        self.last: Record | None = None
        self.people: dict[str, Person] = {}
        self.decided: set[str] = set()
        self.sealing: Record | None = None
        self.granted: set[tuple[str, str]] = set()
        self.gave_share: set[str] = set()
        self.activated: Record | None = None
        self.opened: Record | None = None
        self.attempts: dict[str, Attempt] = {}
        self.bound: dict[Place, Attempt] = {}
        self.used: set[Place] = set()
        self.numbers: set[int] = set()
        self.newest_number, self.recovered_number, self.allocated = 0, 0, 0
        self.allocations: dict[str, int] = {}
        self.in_error: set[str] = set()
        self.proposals: dict[str, Record] = {}
        self.reserved: dict[Place, str | None] = {}
        self.reserved_for: dict[tuple[str, str], list[int]] = {}
        self.restored: Record | None = None
        self.moved: Record | None = None
        self.left_state = "none"
        self.waiting: list[tuple[str, Place]] = []
        self.entered: list[Place] = []
        self._gone: dict[str, int] = {}

    # -- what is asked of it --

    def person(self, record: Record) -> Person | None:
        """Who signed a record."""
        return self.people.get(record["person"])

    def holds(self, attempt: Attempt, at: int) -> bool:
        """Whether a confirmation holds at a time (§10.5)."""
        return (
            attempt.confirmed
            and self.attempts.get(attempt.participant) is attempt
            and not attempt.withdrawn
            and not attempt.moved
            and self.sealing is not None
            and attempt.seq > self.sealing.seq
            and attempt.time - at <= CLOCK_SLACK
            and at - attempt.time <= self.study.hours * HOUR
        )

    def is_taken(self, place: Place, participant: str, at: int) -> bool:
        """Whether a position is taken for a participant (§10.6)."""
        if place in self.used:
            return True
        if place in self.reserved:
            return self.reserved[place] != participant
        bound = self.bound.get(place)
        if bound is None or bound.participant == participant:
            return False
        return self.holds(bound, at) and bound.participant not in self.allocations

    def next_position(self, label: str, participant: str, at: int) -> int:
        """The position that a confirmation binds (§10.6), as if the list had no end."""
        own = [p for p in self.reserved_for.get((label, participant), []) if (label, p) not in self.used]
        if own:
            return min(own)
        position = self._gone.get(label, 0)
        while (label, position) in self.used or self.reserved.get((label, position), "") is None:
            position += 1  # these are never free again, so nobody looks at them twice
        self._gone[label] = position
        while self.is_taken((label, position), participant, at):
            position += 1
        return position

    def next_number(self) -> int:
        """The randomization number that comes next (§10.7)."""
        return max(self.newest_number, self.recovered_number) + 1

    # -- what a record leads to --

    def add(self, record: Record) -> None:
        """Take a record in. A Fault when nothing can follow it: a person who is not there is changed."""
        self._take(record)
        self.count, self.last = self.count + 1, record

    def _take(self, record: Record) -> None:
        if record.kind == "moved":
            self.moved, self.left_state = record, self.state
        if record.kind in LEADS_TO:
            self.state = LEADS_TO[record.kind]
        if record.kind in ALLOCATIONS:
            self._add_allocation(record)
        if record.kind in SEALINGS:
            self.sealing, self.granted, self.gave_share = record, set(), set()
        take = getattr(self, "_add_" + record.kind.replace("-", "_"), None)
        if take is not None:
            take(record)

    def _add_study_opened(self, record: Record) -> None:
        self.first = self.first or record
        key = bytes.fromhex(record["sign_key"])
        self.people[record["person"]] = Person(record["person"], ["sponsor"], "", key)

    def _add_person_added(self, record: Record) -> None:
        self.people[record["added"]] = Person(record["added"], record["roles"], record["code_digest"])

    def _add_person_enrolled(self, record: Record) -> None:
        self._known(record["person"]).sign_key = bytes.fromhex(record["sign_key"])

    def _add_person_deactivated(self, record: Record) -> None:
        self._known(record["deactivated"]).active = False

    def _known(self, id: str | None) -> Person:
        need(id in self.people, "the record cannot be followed: the person is not in this study", None, id)
        assert id is not None
        return self.people[id]

    def _add_decided(self, record: Record) -> None:
        self.decided.add(record["finding"])

    def _add_granted(self, record: Record) -> None:
        self.granted.add((record["grantee"], record["half"]))

    def _add_share_given(self, record: Record) -> None:
        self.gave_share.add(record["person"])

    def _add_activated(self, record: Record) -> None:
        self.activated = record

    def _add_opened(self, record: Record) -> None:
        self.opened = record

    def _add_screen_failed(self, record: Record) -> None:
        who = record["person"], record["participant"]
        self.attempts[record["participant"]] = Attempt(record.seq, record.time, *who, place=("", 0))

    def _add_confirmed(self, record: Record) -> None:
        who, place = (record["person"], record["participant"]), (record.label, record["position"])
        attempt = Attempt(record.seq, record.time, *who, place, record["sealing"], confirmed=True)
        self.attempts[record["participant"]] = self.bound[place] = attempt

    def _add_confirmation_withdrawn(self, record: Record) -> None:
        attempt = self.attempts.get(record["participant"])
        if attempt is not None:
            attempt.withdrawn = True

    def _add_allocation(self, record: Record) -> None:
        self.allocated, self.newest_number = self.allocated + 1, record["number"]
        self.numbers.add(record["number"])
        self.used.add((record.label, record["position"]))
        self.allocations[record["participant"]] = record.seq

    def _add_receipt_entered(self, record: Record) -> None:
        self.entered.append((record.label, record["position"]))

    def _add_corrected(self, record: Record) -> None:
        if record["what"] == "in-error":
            self.in_error.add(record["participant"])

    def _add_reassignment_proposed(self, record: Record) -> None:
        self.proposals[record["participant"]] = record

    def _add_reassigned(self, record: Record) -> None:
        self.allocations.pop(record["from"], None)
        self.allocations[record["participant"]] = record["allocation"]
        if record["from"] in self.attempts:
            self.attempts[record["from"]].moved = True

    def _add_restored(self, record: Record) -> None:
        if record["state"] == "recovering" and self.state != "recovering":
            self._start_recovery(record)
        self.state, self.restored = record["state"], record

    def _start_recovery(self, record: Record) -> None:
        # §10.11: what held at the time of the last record before it
        self.entered = []
        before = self.last.time if self.last else record.time
        held = [attempt for attempt in self.attempts.values() if self.holds(attempt, before)]
        self.waiting = [(attempt.participant, attempt.place) for attempt in held]

    def _add_recovered(self, record: Record) -> None:
        self.state, self.recovered_number = record["state"], record["number"]
        for item in record["reserved"]:
            place = label_of(item["stratum"]), item["position"]
            if self.reserved.setdefault(place, item["participant"]) is not None:
                self.reserved_for.setdefault((place[0], item["participant"]), []).append(place[1])

    def _add_arrived(self, record: Record) -> None:
        self.state = record["state"]


# ---- the rules of the kinds (§10.3 - §10.12; check 19) ---------------------------------------------------------------
# Each is given the history before the record, and raises a Fault.

TOGETHER_NEVER = (
    {"investigator", "statistician"}, {"investigator", "custodian"}, {"pharmacist", "statistician"},
    {"pharmacist", "custodian"}, {"investigator", "pharmacist"}, {"statistician", "custodian"},
)  # fmt: skip


def the_sealing(history: History, record: Record, *names: str) -> Record:
    """The sealing (§10.4), of which the record repeats some fields."""
    sealing = history.sealing
    need(sealing is not None, "there is no sealing yet")
    assert sealing is not None
    for name in names:
        same(record[name], sealing[name], f"{name} is not that of the sealing")
    return sealing


def its_allocation(history: History, record: Record) -> None:
    """§10.8: the participant has an allocation, and the record names it."""
    same(record["allocation"], history.allocations.get(record["participant"]), "not the participant's allocation")


def no_allocation(history: History, participant: str) -> None:
    """The participant is not allocated."""
    seq = history.allocations.get(participant)
    need(seq is None, "the participant is already allocated", None, seq)


def of_the_study(history: History, stratum: dict[str, str]) -> None:
    """The stratum is one of the study's."""
    need(label_of(stratum) in history.study.labels, "no stratum of this study", None, stratum)


def rule_person_added(history: History, record: Record) -> None:
    """§10.3, §8.1."""

    def folded(id: str) -> str:
        return re.sub("[._-]", "", id.lower())

    need(folded(record["added"]) not in map(folded, history.people), "the id is not new", None, record["added"])
    roles = set(record["roles"])
    need(bool(roles) and roles <= set(ROLES), "the roles are none, or unknown ones", list(ROLES), record["roles"])
    need(roles == {"auditor"} or "auditor" not in roles, "an auditor has no other role", None, record["roles"])
    need(not any(pair <= roles for pair in TOGETHER_NEVER), "roles that never stand together", None, record["roles"])


def rule_person_enrolled(history: History, record: Record) -> None:
    """§10.3, §8.3. Whether the person was added and is active: check 15."""
    person, first = history.person(record), history.first
    need(person is not None and first is not None, "the person was not added", None, record["person"])
    assert person is not None and first is not None
    need(person.sign_key is None, "the person is enrolled already", None, person.id)
    of_person = prefixed(person.id.encode("utf-8")) + prefixed(record["code"].encode("utf-8"))
    digest = sha256(tag("code") + bytes.fromhex(first["fingerprint"]) + of_person).hex()
    same(digest, person.code_digest, "the code is not the invitation's")
    key = bytes.fromhex(record["sign_key"])
    need(all(other.sign_key != key for other in history.people.values()), "another person has this sign_key")


def rule_person_deactivated(history: History, record: Record) -> None:
    """§10.3."""
    person = history.people.get(record["deactivated"])
    need(person is not None and person.active, "not an active person of this study", None, record["deactivated"])
    sponsors = [one.id for one in history.people.values() if one.acts and "sponsor" in one.roles]
    need(sponsors != [record["deactivated"]], "the only active sponsor")


def rule_decided(history: History, record: Record) -> None:
    """§10.3."""
    findings = [finding["id"] for finding in history.first["findings"]] if history.first else []
    need(record["finding"] in findings, "no finding of record 0", findings, record["finding"])


def rule_generated(history: History, record: Record) -> None:
    """§10.4: `generated` and `imported`."""
    known = [f"{method}/1" for method in METHODS if (method == "imported-list") == (record.kind == "imported")]
    need(record["algorithm"] in known, "an unknown algorithm, or none of this kind", known, record["algorithm"])
    need(history.sealing is None or "reason" in record.details, "a further generation gives no reason")
    need(record["seed_origin"] == "system" or record["mode"] == "test", "a given seed outside mode test")
    _held_by_two(history, record)


def rule_resealed(history: History, record: Record) -> None:
    """§10.4."""
    the_sealing(
        history, record, "sealing", "algorithm", "root", "design_commitment", "seed_commitments", "seed_origin"
    )  # fmt: skip
    _held_by_two(history, record)


def _held_by_two(history: History, record: Record) -> None:
    holders = record["holders"]
    need(len(holders) == 2 and len(record["seed_commitments"]) == 2, "not two holders with two commitments")
    same(holders[0], record["person"], "the first holder does not sign")
    second = history.people.get(holders[1])
    able = second is not None and second.acts and "custodian" in second.roles
    need(able, "the second holder is no active custodian", None, holders[1])


def rule_granted(history: History, record: Record) -> None:
    """§10.4."""
    the_sealing(history, record, "sealing")
    grantee, half = history.people.get(record["grantee"]), record["half"]
    able = grantee is not None and grantee.acts and half in grantee.roles
    need(able, f"the grantee is no active {half}", None, record["grantee"])
    if record["role"] != "statistician":
        same(half, record["role"], "not the half of the own role")
        need((record["person"], half) in history.granted, "who gives it was not granted it since the sealing")


def rule_of_a_holder(history: History, record: Record) -> None:
    """§10.4: `share-copied`, `share-given`, `list-checked` and `list-read`."""
    sealing = the_sealing(history, record, "sealing")
    need(record["person"] in sealing["holders"], "not a holder of a share", sealing["holders"], record["person"])


def rule_opened(history: History, record: Record) -> None:
    """§10.4."""
    rule_of_a_holder(history, record)
    others = set(the_sealing(history, record, "sealing", "root")["holders"]) - {record["person"]}
    need(others <= history.gave_share, "a holder has not given their share", sorted(others), sorted(history.gave_share))


def rule_activated(history: History, record: Record) -> None:
    """§10.4."""
    the_sealing(history, record, "sealing", "root")
    findings = history.first["findings"] if history.first else []
    blocking = {finding["id"] for finding in findings if finding["level"] == "block"}
    need(blocking <= history.decided, "a blocking finding is not decided", None, sorted(blocking - history.decided))
    people = [(history.people.get(id), half) for id, half in history.granted]
    able = {half for person, half in people if person is not None and person.active and half in person.roles}
    same(
        sorted(able), ["investigator", "pharmacist"], "no active pharmacist, or no active investigator, has their half"
    )


def rule_attempt(history: History, record: Record) -> None:
    """§10.5, but for the answers and the binding."""
    no_allocation(history, record["participant"])
    of_the_study(history, record["stratum"])
    latest, attempt = history.attempts.get(record["participant"]), record["attempt"]
    types = ["first"] if latest is None else ["rescreen", "correcting"]
    types += ["again"] if latest is not None and latest.confirmed else []
    need(attempt["type"] in types, "the type of the attempt is another", types, attempt["type"])
    same(attempt["of"], latest.seq if latest else None, "not the latest attempt of the participant")
    need(attempt["type"] in ("first", "again") or "reason" in record.details, "the attempt gives no reason")


def rule_confirmed(history: History, record: Record) -> None:
    """§10.5; what it binds is held to the list later (`Binding`)."""
    rule_attempt(history, record)
    the_sealing(history, record)


def rule_withdrawn(history: History, record: Record) -> None:
    """§10.5."""
    no_allocation(history, record["participant"])
    latest = history.attempts.get(record["participant"])
    standing = latest is not None and latest.confirmed and not latest.withdrawn
    need(standing, "the latest attempt is no confirmation that stands")
    assert latest is not None
    same(record["confirmation"], latest.seq, "not the participant's latest confirmation")


def rule_allocated(history: History, record: Record) -> None:
    """§10.7, but for the commitment (`Opening`)."""
    participant, enrolled = record["participant"], history.study.enrollment
    no_allocation(history, participant)
    need(len(history.allocations) < enrolled, "the enrolment is complete", enrolled, len(history.allocations))
    latest = history.attempts.get(participant)
    need(latest is not None and latest.confirmed, "the participant's eligibility is not confirmed")
    assert latest is not None
    need(not latest.withdrawn, "the confirmation was withdrawn")
    need(history.holds(latest, record.time), "the confirmation does not hold at this time")
    need(latest.person != record["person"], "the person who confirmed eligibility requests the allocation")
    same(record["confirmation"], latest.seq, "not the confirmation that holds")
    same((record.label, record["position"]), latest.place, "stratum or position is not the one bound")
    same(record["sealing"], latest.sealing, "sealing is not the one bound")
    same(record["number"], history.next_number(), "not the next randomization number")
    _of_an_arm(history, record)


def _of_an_arm(history: History, record: Record) -> None:
    need(record["arm"] < len(history.study.arms), "the arm index is of no arm", None, record["arm"])


def rule_late(history: History, record: Record) -> None:
    """§10.10."""
    rule_allocated(history, record)
    start, event = history.activated, milliseconds(record["event_time"])
    need(start is not None and start.time <= event <= record.time, "the event is not between activation and entry")
    told = record["told"]
    need(told is None or told < len(history.study.arms), "the arm told is of no arm", None, told)


def rule_corrected(history: History, record: Record) -> None:
    """§10.8."""
    its_allocation(history, record)
    again = record["what"] == "in-error" and record["participant"] in history.in_error
    need(not again, "the allocation was marked as made in error before")


def rule_reassignment_proposed(history: History, record: Record) -> None:
    """§10.10."""
    its_allocation(history, record)
    need(record["to"] != record["participant"], "moved to the same participant")
    need(history.study.is_participant(record["to"]), "not of the study's pattern", None, record["to"])
    no_allocation(history, record["to"])


def rule_reassigned(history: History, record: Record) -> None:
    """§10.10."""
    proposal, participant = history.proposals.get(record["from"]), record["participant"]
    need(proposal is not None, "nobody proposed to move this allocation", None, record["from"])
    assert proposal is not None
    same(record["proposal"], proposal.seq, "not the newest proposal")
    need(proposal["person"] != record["person"], "one person signs both")
    same(participant, proposal["to"], "not the participant of the proposal")
    same(proposal["allocation"], history.allocations.get(record["from"]), "no longer the allocation of the proposal")
    same(record["allocation"], proposal["allocation"], "not the allocation of the proposal")
    no_allocation(history, participant)
    latest = history.attempts.get(participant)
    need(latest is not None and history.holds(latest, record.time), "the participant's eligibility is not confirmed")


def rule_restored(history: History, record: Record) -> None:
    """§10.11."""
    need((record["missing"] == "known") == (record["lost"] is not None), "`lost` is there exactly when known")
    recovering = history.state == "recovering"
    before = history.restored["before"] if recovering and history.restored else history.state
    same(record["before"], before, "`before` is another state")
    leads_to = before if record["missing"] == "none" and not recovering else "recovering"
    same(record["state"], leads_to, "it leads to another state")


def rule_receipt_entered(history: History, record: Record) -> None:
    """§10.11, but for the commitment (`Opening`)."""
    original = original_of(record)
    signer = history.person(original)
    able = signer is not None and "pharmacist" in signer.roles
    signed = able and signer is not None and original.signed_by(signer.sign_key)
    need(signed, "no enrolled pharmacist signed the original", None, original["person"])
    no_allocation(history, record["participant"])
    of_the_study(history, record["stratum"])
    the_sealing(history, record)
    need((record.label, record["position"]) not in history.used, "the position is allocated", None, record["position"])
    need(record["number"] not in history.numbers, "the number is given", None, record["number"])
    _of_an_arm(history, record)


def rule_recovered(history: History, record: Record) -> None:
    """§10.11."""
    restored = history.restored
    need(restored is not None, "nothing was restored")
    assert restored is not None
    same(record["restored"], restored.seq, "not the newest restoring")
    same(record["state"], restored["before"], "it leads to another state")
    same(record["allocated"], history.allocated, "another number of allocations")
    need(record["number"] >= max(history.numbers, default=0), "a number below one that was given")
    reserved: dict[Place, str | None] = {}
    for item in record["reserved"]:
        of_the_study(history, item["stratum"])
        place = label_of(item["stratum"]), item["position"]
        need(place not in reserved, "a position is reserved twice", None, place)
        need(place not in history.used, "an allocated position is reserved", None, place)
        owner = item["participant"]
        need(owner is None or history.study.is_participant(owner), "not of the study's pattern", None, owner)
        reserved[place] = owner
    _holds_what_is_implied(history, reserved)


def _holds_what_is_implied(history: History, reserved: dict[Place, str | None]) -> None:
    for participant, place in history.waiting:
        if place not in history.used and participant not in history.allocations:
            owner = reserved.get(
                place
            )  # a participant is never null here: whoever it is for nobody, it is not for them
            need(owner == participant, "a bound position is not reserved for its participant", participant, owner)
    known = reserved.keys() | history.used | history.reserved.keys()
    for label, end in history.entered:
        # it stops at the first gap, so it takes no longer than there are known positions
        gap = next((position for position in range(end) if (label, position) not in known), None)
        need(gap is None, "a position below one entered is not reserved", None, gap)


def rule_moved(_: History, record: Record) -> None:
    """§10.12."""
    need(record["to"] in ("file", "postgresql"), "moved to no place that there is", "file, postgresql", record["to"])


def rule_arrived(history: History, record: Record) -> None:
    """§10.12."""
    same(record["moved"], history.moved.seq if history.moved else None, "not the newest move")
    same(record["state"], history.left_state, "it leads to another state")


def rule_reviewed(_: History, record: Record) -> None:
    """§10.9."""
    since, until = milliseconds(record["since"]), milliseconds(record["until"])
    need(since <= until <= record.time, "the period ends before it starts, or after the record")


RULES: dict[str, Callable[[History, Record], None]] = {
    "person-added": rule_person_added, "person-enrolled": rule_person_enrolled,
    "person-deactivated": rule_person_deactivated, "decided": rule_decided, "generated": rule_generated,
    "imported": rule_generated, "resealed": rule_resealed, "granted": rule_granted, "share-copied": rule_of_a_holder,
    "share-given": rule_of_a_holder, "list-checked": rule_of_a_holder, "list-read": rule_of_a_holder,
    "opened": rule_opened, "activated": rule_activated,
    "confirmed": rule_confirmed, "screen-failed": rule_attempt, "confirmation-withdrawn": rule_withdrawn,
    "allocated": rule_allocated, "late": rule_late, "shown-again": its_allocation, "looked-up": its_allocation,
    "unblinded": its_allocation, "receipt-copied": its_allocation, "corrected": rule_corrected,
    "reassignment-proposed": rule_reassignment_proposed, "reassigned": rule_reassigned, "restored": rule_restored,
    "receipt-entered": rule_receipt_entered, "recovered": rule_recovered, "moved": rule_moved,
    "arrived": rule_arrived, "reviewed": rule_reviewed,
}  # fmt: skip


def rule_of_kind(history: History, record: Record) -> None:
    """Check 19, but for the answers and for what is held to sealed.json."""
    if "participant" in record.fields and (record["participant"] is not None or record.kind != "refused"):
        ok = history.study.is_participant(record["participant"])
        need(ok, "the participant id is not of the study's pattern", None, record["participant"])
    rule = RULES.get(record.kind)
    if rule is not None:
        rule(history, record)


def rule_of_answers(study: Study, record: Record, answers: str | None) -> None:
    """§10.5: the answers are judged again, as of the record's time. None when they are not there."""
    need(answers is not None, "there are no answers to judge")
    assert answers is not None
    eligible = qualifies(study, read_form(answers.encode("utf-8")), record.time)
    need(eligible or record.kind != "confirmed", "a confirmation on answers that do not qualify")
    need(not eligible or record.kind != "screen-failed", "a screen failure on answers that qualify")


# ---- checkpoints (§16.2) ---------------------------------------------------------------------------------------------

NOTE_BOUND = 2**16
CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f]")
DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}")


class Checkpoint:
    """A signed head of the log (C2SP tlog-checkpoint), read strictly."""

    def __init__(self, data: bytes) -> None:
        need(len(data) <= NOTE_BOUND, "a checkpoint is longer", NOTE_BOUND, len(data))
        text = utf8(data)
        need(not CONTROL.search(text), "a control character in a checkpoint")
        need(text.endswith("\n"), "a checkpoint ends in a newline")
        lines = text.split("\n")[:-1]
        need(5 <= len(lines) <= 20 and lines[3] == "", "not three lines, an empty one, and 1 to 16 signatures")
        self.origin, size, root = lines[:3]
        need(bool(DECIMAL.fullmatch(size)) and 1 <= int(size) <= 2**32, "the size is no number 1 ... 2^32", None, size)
        self.size, self.root = int(size), from_base64(root, 32)
        self.signed = "".join(f"{line}\n" for line in lines[:3]).encode("utf-8")
        self._signatures = [self._signature(line) for line in lines[4:]]

    def signed_by(self, log_key: bytes) -> None:
        """A Fault unless the first signature is by the log's key, and each that is by it holds; others are not read."""
        known = self.origin, sha256(self.origin.encode("utf-8") + b"\n\1" + log_key)[:4]
        ours = [(name, data[:4]) == known for name, data in self._signatures]
        need(ours[0], "the first signature is not by the log's key", [known[0], known[1].hex()], self._signatures[0][0])
        for own, (_, data) in zip(ours, self._signatures):  # noqa: B905 (older versions of Python know no `strict`)
            holds = not own or signature_holds(log_key, self.signed, data[4:])
            need(holds, "the log's signature under the checkpoint does not hold")

    @staticmethod
    def _signature(line: str) -> tuple[str, bytes]:
        match = re.fullmatch(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        need(match is not None, "no line of a signature", "\u2014 name base64", line)
        assert match is not None
        data = from_base64(match.group(2))
        need(len(data) > 4, "a signature without key id")
        return match.group(1), data


def utf8(data: bytes) -> str:
    """The text in these bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeError:
        raise Fault("not UTF-8") from None


def origin_of(study: str, first: str) -> str:
    """The origin of a log (§16.2): `first` is the hash of record 0, in hexadecimal."""
    return f"allocator/{study}/{first[:16]}"


# ---- receipts (§17) --------------------------------------------------------------------------------------------------

STEP = re.compile(r"[LR][0-9a-f]{64}")


class Receipt:
    """A receipt, read strictly (§17.1). A Fault when it cannot be read; whether it holds in itself: `hold`."""

    def __init__(self, data: bytes) -> None:
        need(len(data) <= OTHER_BOUND, "more bytes than are read", OTHER_BOUND, len(data))
        head, _, note = utf8(data).partition("\n\n")
        first, extra, index, *path = [*head.split("\n"), "", ""]
        same(first, "c2sp.org/tlog-proof@v1", "the first line is another")
        need(extra.startswith("extra ") and index.startswith("index "), "the lines extra and index are not there")
        self._read_extra(from_base64(extra[6:]))
        same(index[6:], str(self.record.seq), "index is not the record's seq")
        self._proof = [from_base64(line, 32) for line in path[:-2]]
        self.checkpoint = Checkpoint(note.encode("utf-8"))

    @property
    def study(self) -> str:
        """The study's id, as the origin of the log states it."""
        return "/".join(self.checkpoint.origin.split("/")[1:-1])

    def hold(self) -> None:
        """A Fault unless it is of one piece (§17.2)."""
        record, checkpoint = self.record, self.checkpoint
        need(record.signed_by(bytes.fromhex(self.sign_key)), "the signature of the record does not hold")
        same(checkpoint.size, record.seq + 1, "the checkpoint has another size")
        root = included_root(record.hash, record.seq, checkpoint.size, self._proof)
        same(root.hex(), checkpoint.root.hex(), "the proof leads to another root than the checkpoint's")
        need(is_identifier(self.study), "the origin is of no study", None, checkpoint.origin)
        same(checkpoint.origin, origin_of(self.study, self.first), "the origin is of another log")
        checkpoint.signed_by(bytes.fromhex(self.log_key))
        self._committed()
        if record.kind == "receipt-entered":
            original_of(record)

    def own(self) -> set[bytes]:
        """The hashes of the record it is of, and of that record's original: only these anchor it by itself (§11.3)."""
        return {self.record.hash} | ({_original_hash(self.record)} if "original" in self.record.fields else set())

    def known(self) -> set[bytes]:
        """The hashes of records that it states: its own, that of record 0, and that of the one before."""
        return self.own() | {bytes.fromhex(self.first), self.record.prev}

    def _read_extra(self, data: bytes) -> None:
        plain = exactly(
            parse_canonical(data),
            "format", "record", "sign_key", "fingerprint", "first", "log_key", "schedule", "arm", "copy",
        )  # fmt: skip
        same(plain["format"], "allocator-receipt/1", "another format")
        given = exactly(plain["record"], "prev", "body")
        need(is_digest(given["prev"]) and is_any_string(given["body"]), "record has a wrong form")
        self.record = Record(bytes.fromhex(given["prev"]), given["body"].encode("utf-8"))
        need(self.record.kind in ALLOCATIONS, "not the record of an allocation", None, self.record.kind)
        for name in ("sign_key", "fingerprint", "first", "log_key"):
            need(is_digest(plain[name]), f"{name} has a wrong form", None, plain[name])
        self.sign_key, self.fingerprint = str(plain["sign_key"]), str(plain["fingerprint"])
        self.first, self.log_key = str(plain["first"]), str(plain["log_key"])
        schedule = exactly(plain["schedule"], "root", "path")
        path_ok = is_list(schedule["path"], matches(STEP), most=64)
        need(is_digest(schedule["root"]) and path_ok, "schedule has a wrong form")
        self.schedule, self._path = str(schedule["root"]), schedule["path"]
        need(is_arm(plain["arm"]), "arm has a wrong form", None, plain["arm"])
        copied = or_null(record_of(seq=is_count, time=is_time, person=is_identifier))
        need(copied(plain["copy"]), "copy has a wrong form", None, plain["copy"])
        self.arm, self.copy = plain["arm"], plain["copy"]

    def _committed(self) -> None:
        """Step 5: the arm is the one in the tree of the list."""
        record, place = self.record, place_of(self.record.label, self.record["position"])
        sealing, salt = bytes.fromhex(record["sealing"]), bytes.fromhex(record["salt"])
        commitment = commitment_of(bytes.fromhex(self.fingerprint), sealing, place, record["arm"], salt)
        root = leaf_hash(place + commitment)
        for step in self._path:
            sibling = bytes.fromhex(step[1:])
            root = node_hash(sibling, root) if step[0] == "L" else node_hash(root, sibling)
        same(root.hex(), self.schedule, "the commitment leads to another root of the list")


# ---- the sealed schedule, and the list drawn again (§7.4, §15.5) -----------------------------------------------------


class Sealed:
    """sealed.json (§7.4): its commitments by stratum, and what it says of itself. A Fault when it has another form."""

    def __init__(self, data: bytes) -> None:
        plain = exactly(
            parse_canonical(data, SEALED_BOUND),
            "format", "study", "fingerprint", "sealing", "design_commitment", "root", "strata", "shares", "keys",
        )  # fmt: skip
        same(plain["format"], "allocator-sealed/1", "another format")
        is_envelope = record_of(person=is_identifier, commitment=is_any_string, envelope=matches(HEX))
        need(is_list(plain["shares"], is_envelope, 2, 2), "shares has a wrong form")
        need(is_envelope(plain["keys"]) and plain["keys"]["commitment"] == "", "keys has a wrong form")
        is_part = record_of(stratum=is_stratum, entries=lambda value: isinstance(value, list))
        need(is_list(plain["strata"], is_part), "strata has a wrong form")
        parts = [(label_of(part["stratum"]), part["entries"]) for part in plain["strata"]]
        self.commitments = {label: [_entry(entry)[:32] for entry in entries] for label, entries in parts}
        need(len(self.commitments) == len(parts), "a stratum stands there twice")
        tree = Tree()
        for label, commitments in self.commitments.items():
            for position, commitment in enumerate(commitments):
                tree.add(leaf_hash(place_of(label, position) + commitment))
        self.sealing, self.stated_root, self.root = plain["sealing"], plain["root"], tree.root().hex()
        self._plain = {name: value for name, value in plain.items() if name != "strata"}

    def hold(self, study: Study, first: Record, sealing: Record) -> None:
        """A Fault unless it is the list of this sealing (check 09)."""
        for name in ("study", "fingerprint"):
            same(self._plain[name], first[name], f"{name} is not the log's")
        for name in ("sealing", "design_commitment", "root"):
            same(self._plain[name], sealing[name], f"{name} is not the log's")
        shares = self._plain["shares"]
        same([share["commitment"] for share in shares], sealing["seed_commitments"], "the seed commitments are others")
        same([share["person"] for share in shares], sealing["holders"], "the holders of the seed are others")
        same(list(self.commitments), study.labels, "the strata are not the study's")
        same(self.root, sealing["root"], "the root recomputed from every entry is not the log's")


def _entry(text: Any) -> bytes:
    need(isinstance(text, str) and len(text) == 124, "an entry has not 124 characters")
    return from_base64(text, 93)


# method: the fields it needs beside `format`, `method`, `length` and `ratio` | those it may have (§3)
METHODS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "permuted-block": (("block_sizes",), ()),
    "complete": ((), ()),
    "random-allocation-rule": ((), ()),
    "big-stick": (("limit",), ()),
    "biased-coin": (("probability",), ()),
    "urn": (("alpha", "beta"), ()),
    "truncated-binomial": ((), ("block_sizes",)),
    "chen": (("limit", "probability"), ()),
    "maximal-procedure": (("limit",), ()),
    "block-urn": (("lambda",), ()),
    "imported-list": (("arms",), ()),
}
OF_TWO_ARMS = ("big-stick", "biased-coin", "truncated-binomial", "chen", "maximal-procedure")
PROBABILITY = re.compile("([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")


def is_whole(least: int, most: int) -> Callable[[Any], bool]:
    """A test: an integer between these two, both included. `true` is none."""
    return lambda value: type(value) is int and least <= value <= most


class Design:
    """How the list was drawn (§3). A Fault when a field is not there, is too many or has another form.

    `sizes` is empty where the method draws no blocks.
    """

    def __init__(self, plain: Any, study: Study) -> None:
        need(isinstance(plain, dict), "the design is no object")
        method = plain.get("method")
        need(isinstance(method, str) and method in METHODS, "another method of a design", list(METHODS), method)
        needs, may = METHODS[method]
        exactly(plain, "format", "method", "length", "ratio", *needs, *(name for name in may if name in plain))
        same(plain["format"], "allocator-design/1", "another format of a design")
        self.method: str = method
        self.algorithm = f"{method}/1"
        self.length = self._whole(plain, "length", 1, 10**7)
        self.shares = self._ratio(plain["ratio"], study)
        self.sizes = self._sizes(plain["block_sizes"]) if "block_sizes" in plain else []
        self.limit = self._whole(plain, "limit", 1, 50 if method == "maximal-procedure" else 1000)
        self.lambda_ = self._whole(plain, "lambda", 1, 1000)
        self.alpha, self.beta = self._whole(plain, "alpha", 0, 1000), self._whole(plain, "beta", 0, 1000)
        self.probability = self._probability(plain["probability"]) if "probability" in plain else (0, 0)
        self.arms = self._arms(plain["arms"], study) if "arms" in plain else []
        self._fit()

    @staticmethod
    def _whole(plain: dict[str, Any], name: str, least: int, most: int) -> int:
        """A field that is a whole number; `least` where this method has none."""
        value = plain.get(name, least)
        need(is_whole(least, most)(value), f"{name} of the design has a wrong form", f"{least} ... {most}", value)
        return int(value)

    @staticmethod
    def _ratio(ratio: Any, study: Study) -> list[int]:
        need(is_list(ratio, record_of(arm=is_identifier, share=is_whole(1, 1000))), "the ratio has a wrong form", None,
             ratio)  # fmt: skip
        codes = [arm["code"] for arm in study.arms]
        same([item["arm"] for item in ratio], codes, "the arms of the ratio are not the study's")
        return [item["share"] for item in ratio]

    def _sizes(self, sizes: Any) -> list[int]:
        fits = is_list(sizes, lambda size: is_whole(1, 10_000)(size) and size % sum(self.shares) == 0, 1)
        need(fits and sizes == sorted(set(sizes)), "the block sizes have a wrong form", None, sizes)
        return list(sizes)

    @staticmethod
    def _probability(text: Any) -> tuple[int, int]:
        match = PROBABILITY.fullmatch(text) if isinstance(text, str) else None
        p, q = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
        fits = q < 2 * p and p < q <= 1000 and gcd(p, q) == 1
        need(fits, "the probability is no fraction between 1/2 and 1 in lowest terms", "2/3", text)
        return p, q

    def _arms(self, lists: Any, study: Study) -> list[str]:
        strata, arms = len(study.labels), len(self.shares)
        need(self.length * strata <= 20_000, "an imported list is longer than 20000 entries", None, self.length)
        fits = is_list(lists, hexadecimal(self.length), strata, strata)
        need(fits, "arms of the design has a wrong form", None, lists)
        need(all(max(bytes.fromhex(text)) < arms for text in lists), "an arm of the list is no arm of the study")
        return list(lists)

    def _fit(self) -> None:
        """What a method asks of ratio, length and the fields together."""
        equal, method = len(set(self.shares)) == 1, self.method
        if method in OF_TWO_ARMS:
            need(equal and len(self.shares) == 2, f"{method} is for two arms with equal shares", None, self.shares)
        if method == "urn":
            need(equal, "urn is for equal shares", None, self.shares)
            need(self.alpha + self.beta > 0, "alpha and beta are both 0")
        whole = {"random-allocation-rule": sum(self.shares), "maximal-procedure": 2, "truncated-binomial": 2}
        if not self.sizes:
            need(self.length % whole.get(method, 1) == 0, f"no length for {method}", None, self.length)
        need(method != "maximal-procedure" or self.length <= 2000, "too long for maximal-procedure", 2000, self.length)


def check_opening(data: bytes, log: History, sealed: Sealed | None) -> None:
    """Check 25 (§15.5): seed.json is the one recorded, and the list drawn from it again is the sealed one."""
    first, sealing, opened = log.first, log.sealing, log.opened
    need(sealed is not None and sealing is not None, "there is no sealed list to hold the seed to")
    assert first is not None and sealing is not None and opened is not None and sealed is not None
    same(sha256(data).hex(), opened["seed_digest"], "seed.json is not the one in the log")
    seed = exactly(parse_canonical(data, SEED_BOUND), "format", "study", "sealing", "shares", "design", "salt")
    same(seed["format"], "allocator-seed/1", "another format")
    same(seed["study"], first["study"], "another study's seed")
    same(seed["sealing"], sealing["sealing"], "the seed of another sealing")
    need(is_list(seed["shares"], is_digest, 2, 2) and is_digest(seed["salt"]), "shares or salt have a wrong form")
    shares = [bytes.fromhex(share) for share in seed["shares"]]
    same([seed_commitment(share).hex() for share in shares], sealing["seed_commitments"], "a share is not as committed")
    design = Design(seed["design"], log.study)
    committed = hmac_sha256(bytes.fromhex(seed["salt"]), tag("design") + canon(seed["design"]))
    same(committed.hex(), sealing["design_commitment"], "the design is not the one committed to")
    same(design.algorithm, sealing["algorithm"], "the list was drawn by another method than its record says")
    fingerprint, sealing_id = log.study.fingerprint, bytes.fromhex(sealing["sealing"])
    prk = pseudorandom_key(fingerprint, committed, shares)
    for stratum, label in enumerate(log.study.labels):
        # before anything is drawn: a list of another length is not worth its time
        commitments = sealed.commitments.get(label, [])
        same(len(commitments), design.length, f"stratum {label} has another number of entries")
        for position, (arm, salt) in enumerate(entries_of(prk, label, design, stratum)):
            again = commitment_of(fingerprint, sealing_id, place_of(label, position), arm, salt)
            same(again.hex(), commitments[position].hex(), f"entry {position} of stratum {label} is not the one drawn")


class Binding(NamedTuple):
    """A confirmation: what it bound, the position it should have bound (§10.6), and the sealing before it."""

    seq: int
    place: Place
    position: int
    sealing: str
    under: Record

    def hold(self, entries: list[bytes], _: bytes) -> None:
        """A Fault unless it bound that position of this list."""
        same(self.sealing, self.under["sealing"], "sealing is not the sealing")
        fits = self.place[1] == self.position < len(entries)
        need(fits, "not the lowest free position", self.position, self.place[1])


class Opening(NamedTuple):
    """An allocation: arm and salt of the entry that was opened (§10.7), and the sealing before it."""

    seq: int
    place: Place
    arm: int
    salt: str
    sealing: str
    under: Record

    def hold(self, entries: list[bytes], fingerprint: bytes) -> None:
        """A Fault unless they are under the entry's commitment."""
        need(self.place[1] < len(entries), "a position of no list", len(entries), self.place[1])
        sealing, salt = bytes.fromhex(self.sealing), bytes.fromhex(self.salt)
        opened = commitment_of(fingerprint, sealing, place_of(*self.place), self.arm, salt)
        same(opened.hex(), entries[self.place[1]].hex(), "the arm is not the one committed to")


# ---- the files of an export (§18.1) ----------------------------------------------------------------------------------

THREE = ("SHA256SUMS", "certificate.json", "manifest.json")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def open_file(path: Path, follow: bool = False) -> Any:
    """A regular file, open for reading: a link, a folder or a pipe is a Fault, and is never waited for."""
    flags = os.O_RDONLY
    for flag in ("O_BINARY", "O_NONBLOCK", "O_CLOEXEC", *(() if follow else ("O_NOFOLLOW",))):
        flags |= getattr(os, flag, 0)
    need(follow or not path.is_symlink(), f"{path.name} is a symbolic link")
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise Fault(f"{path.name} is not there") from None
    except (OSError, ValueError) as error:
        raise Fault(f"{path.name} cannot be read: {error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Fault(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, bound: int = OTHER_BOUND, follow: bool = False) -> bytes:
    """The bytes of a regular file, which has at most `bound`."""
    with open_file(path, follow) as file:
        size = os.fstat(file.fileno()).st_size
        need(size <= bound, f"{path.name} has more bytes than are read", bound, size)
        return bytes(file.read(size))  # not `bound`: memory is taken for as many bytes as are asked for


class Folder:
    """An export's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            modes = {entry.name: entry.lstat().st_mode for entry in path.iterdir()}
        except OSError as error:
            raise WrongCall(f"the folder cannot be read: {error}") from None
        self.names = sorted(modes)
        self.links = [name for name in self.names if stat.S_ISLNK(modes[name])]
        self.files = [name for name in self.names if stat.S_ISREG(modes[name])]

    def read(self, name: str, bound: int = OTHER_BOUND) -> bytes:
        """The bytes of a file."""
        return read_file(self.path / name, bound)

    def open(self, name: str) -> Any:
        """A file, open for reading."""
        return open_file(self.path / name)

    def digest(self, name: str) -> tuple[int, str]:
        """How many bytes a file has, and their SHA-256."""
        size, digest = 0, hashlib.sha256()
        with self.open(name) as file:
            for chunk in iter(lambda: file.read(2**20), b""):
                size += len(chunk)
                digest.update(chunk)
        return size, digest.hexdigest()

    def count_lines(self, name: str) -> int:
        """How many lines a file has; bytes after the last newline are one."""
        count, last = 0, b"\n"
        with self.open(name) as file:
            for chunk in iter(lambda: file.read(2**20), b""):
                count, last = count + chunk.count(b"\n"), chunk[-1:]
        return count + (last != b"\n")


def whole_line(line: bytes) -> bytes:
    """A line without its newline, which it must have."""
    need(len(line) <= OTHER_BOUND, "a line has more bytes than are read", OTHER_BOUND)
    need(line.endswith(b"\n"), "the last line has no newline")
    return line[:-1]


class Detail(NamedTuple):
    """A line of details.jsonl."""

    seq: int
    name: str
    salt: bytes
    value: str


class Details:
    """details.jsonl, read in step with the records (check 20), as far as its lines can be read and are in order."""

    def __init__(self, file: Any, report: Report) -> None:
        self._file, self._report = file, report
        self._next: Detail | None = None
        self._advance()

    def of(self, seq: int) -> list[Detail]:
        """The private details of a record. They are asked for in order."""
        found = []
        while self._next is not None and self._next.seq == seq:
            found.append(self._next)
            self._advance()
        return found

    def end(self, records: int) -> None:
        """What is left over is of no record."""
        if self._next is not None and self._next.seq >= records:
            self._report.add(20, self._next.seq, Fault("a private detail of no record", None, self._next.name))

    def _advance(self) -> None:
        before, self._next = self._next, None
        line = self._file.readline(OTHER_BOUND + 1)
        if not line:
            return
        with self._report.at(20):
            found = _detail(line)
            if before is None or (before.seq, before.name.encode("utf-8")) < (found.seq, found.name.encode("utf-8")):
                self._next = found
            else:
                fault = Fault("a private detail given twice, or out of order", None, found.name)
                self._report.add(20, found.seq, fault)


def _detail(line: bytes) -> Detail:
    plain = exactly(parse_canonical(whole_line(line)), "field", "salt", "seq", "value")
    formed = is_count(plain["seq"]) and is_digest(plain["salt"])
    formed = formed and is_any_string(plain["field"]) and is_any_string(plain["value"])
    need(formed, "a private detail has a wrong form")
    return Detail(plain["seq"], plain["field"], bytes.fromhex(plain["salt"]), plain["value"])


class Manifest:
    """manifest.json (§18.2)."""

    def __init__(self, data: bytes) -> None:
        plain = exactly(
            parse_canonical(data), "format", "study", "scope", "time", "program", "records", "head", "tree", "files"
        )
        tests: dict[str, Callable[[Any], bool]] = {
            "format": one_of("allocator-export/1"), "study": is_identifier, "scope": FORMS["scope"], "time": is_time,
            "program": is_string, "records": is_count, "head": is_digest, "tree": is_digest,
        }  # fmt: skip
        for name, test in tests.items():
            need(test(plain[name]), f"{name} of the manifest has a wrong form", None, plain[name])
        one = record_of(name=matches(NAME), bytes=lambda value: type(value) is int and value >= 0, sha256=is_digest)
        need(is_list(plain["files"], one), "files of the manifest has a wrong form")
        self.files = {file["name"]: (file["bytes"], file["sha256"]) for file in plain["files"]}
        names = [file["name"] for file in plain["files"]]
        need(names == sorted(set(names) - set(THREE)), "files of the manifest are not in order, or one of the three")
        self.study, self.scope, self.records = str(plain["study"]), str(plain["scope"]), int(plain["records"])
        self.head, self.tree = str(plain["head"]), str(plain["tree"])


# ---- the numbered checks (§11.2, as §18.4 says for an export) --------------------------------------------------------


FINDINGS_LISTED = 1000


def brief(value: Any) -> Any:
    """A value to be told, or as much of its JSON as can be: what a hostile file holds is not kept whole."""
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= 1000 else text[:1000] + " ..."


class Report:
    """What was found."""

    def __init__(self) -> None:
        self.findings: list[tuple[int, int | None, Fault]] = []
        self.verdict, self.study, self.scope = "broken", "", ""
        self.records, self.followed, self.drawn_again = 0, 0, False
        self.head, self.left_out = "", 0
        self._count = [0, 0]  # of findings about a record, and of others
        self.root: str | None = None

    def add(self, check: int, seq: int | None, fault: Fault) -> None:
        """Something does not hold. A thousand findings about records are listed, and a thousand others."""
        self._count[seq is None] += 1
        if self._count[seq is None] > FINDINGS_LISTED:
            self.left_out += 1
            return
        fault.expected, fault.found = brief(fault.expected), brief(fault.found)
        self.findings.append((check, seq, fault))

    @contextmanager
    def at(self, check: int, seq: int | None = None, name: str = "") -> Iterator[None]:
        """What is a Fault inside is a finding of this check at this record, in the file of this name."""
        try:
            yield
        except Fault as fault:
            fault.message = f"{name}: {fault.message}" if name else fault.message
            self.add(check, seq, fault)

    def as_json(self) -> dict[str, Any]:
        """The object of §11.3."""
        return {
            "verdict": self.verdict,
            "records": self.records,
            "followed": self.followed,
            "head": self.head,
            "root": self.root,
            "findings": [
                {
                    "check": f"{check:02} {CHECKS[check]}",
                    "seq": seq,
                    "expected": fault.expected,
                    "found": fault.found,
                    "message": fault.message,
                }
                for check, seq, fault in self.ordered()
            ],
            "left_out": self.left_out,
        }

    def ordered(self) -> list[tuple[int, int | None, Fault]]:
        """The findings by check and record."""
        return sorted(self.findings, key=lambda finding: (finding[0], -1 if finding[1] is None else finding[1]))


@dataclass
class Given:
    """What the caller has from elsewhere; files by the names they were given by."""

    heads: list[bytes] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    checkpoints: list[tuple[str, bytes]] = field(default_factory=list)
    receipts: list[tuple[str, bytes]] = field(default_factory=list)


class Told(NamedTuple):
    """What a receipt is held to: an allocation of the log, or the original of one."""

    hash: bytes
    root: bytes
    sign_key: bytes | None
    arm: int
    schedule: str


class Followed:
    """The log, followed record by record (checks 05, 06, 11 to 19), and what the later checks need of it."""

    def __init__(self, folder: Folder, study: Study, report: Report, details: Details | None) -> None:
        self.study, self.history, self.whole = study, History(study), False
        self.tree = Tree()
        self.of_the_list: list[Binding | Opening] = []
        self.head_at: dict[int, bytes] = {}
        self.root_at: dict[int, bytes] = {}
        self.reached: set[bytes] = set()
        self.told: dict[int, Told] = {}
        self.originals: dict[bytes, Told] = {}
        self.copies: dict[int, Record] = {}
        self._folder, self._report, self._details = folder, report, details

    def follow(self, head: int | None, sizes: set[int], heads: set[bytes]) -> None:
        """Follow it to its end, or to the first record that cannot be followed; keep what the given ones ask for."""
        if "records.jsonl" not in self._folder.files:
            return
        with self._folder.open("records.jsonl") as file:
            for seq, line in enumerate(iter(lambda: file.readline(OTHER_BOUND + 1), b"")):
                try:
                    record = next_record(self.history, seq, line)
                    self._judge(record)
                except Fault as fault:
                    self._report.add(fault.check, seq, fault)
                    return
                if seq == head:
                    self.head_at[seq] = record.hash
                if seq + 1 in sizes:
                    self.root_at[seq + 1] = self.tree.root()
                self.reached |= heads & {record.hash}
                if record.kind == "receipt-entered":
                    self.reached |= heads & {_original_hash(record)}
        self.whole = True

    def _judge(self, record: Record) -> None:
        history, report = self.history, self._report
        for check, test in RECORD_CHECKS:
            with report.at(check, record.seq):
                test(history, record)
        details = self._details.of(record.seq) if self._details else None
        if details is not None:
            with report.at(17, record.seq):
                check_details(record, details)
        with report.at(18, record.seq):
            written = history.state in record.rules.states
            need(written, f"{record.kind} is not written in this state", list(record.rules.states), history.state)
        with report.at(19, record.seq):
            rule_of_kind(history, record)
            if details is not None and record.kind in ("confirmed", "screen-failed"):
                answers = [detail.value for detail in details if detail.name == "answers"]
                rule_of_answers(self.study, record, answers[0] if answers else None)
            self._note(record)
        self._keep(record)

    def _note(self, record: Record) -> None:
        """What sealed.json alone can tell is asked once the whole log is followed."""
        history, under = self.history, self.history.sealing
        if under is None or record.kind not in ("confirmed", *ALLOCATIONS):
            return
        place, sealing = (record.label, record["position"]), record["sealing"]
        if record.kind == "confirmed":
            position = history.next_position(place[0], record["participant"], record.time)
            self.of_the_list.append(Binding(record.seq, place, position, sealing, under))
        else:
            self.of_the_list.append(Opening(record.seq, place, record["arm"], record["salt"], sealing, under))

    def _keep(self, record: Record) -> None:
        sealing, signer = self.history.sealing, self.history.person(record) if record.rules.meaning else None
        with numbered(19):
            self.history.add(record)
        self.tree.add(record.hash)
        if record.kind in ALLOCATIONS:
            schedule, key = sealing["root"] if sealing else "", signer.sign_key if signer else None
            self.told[record.seq] = Told(record.hash, self.tree.root(), key, record["arm"], schedule)
        if record.kind == "receipt-entered":
            self.originals[_original_hash(record)] = self.told[record.seq]
        if record.kind == "receipt-copied":
            self.copies[record.seq] = record


def _original_hash(record: Record) -> bytes:
    original = record["original"]
    return leaf_hash(bytes.fromhex(original["prev"]) + original["body"].encode("utf-8"))


@contextmanager
def numbered(check: int) -> Iterator[None]:
    """A Fault inside is one of this check."""
    try:
        yield
    except Fault as fault:
        fault.check = check
        raise


def next_record(history: History, seq: int, line: bytes) -> Record:
    """The record in a line of records.jsonl: after a Fault here nothing later is judged."""
    with numbered(5):
        plain = exactly(parse_canonical(whole_line(line)), "body", "prev")
        need(is_any_string(plain["body"]) and is_digest(plain["prev"]), "body or prev have a wrong form")
    with numbered(6):
        record = Record(bytes.fromhex(plain["prev"]), plain["body"].encode("utf-8"))
    with numbered(11):
        same(record.seq, seq, "seq is not the next one")
        opens = record.kind == "study-opened"
        need(opens == (seq == 0), "study-opened stands at 0 and only there", None, record.kind)
    with numbered(12):
        before = history.last.hash if history.last else bytes(32)
        same(record.prev.hex(), before.hex(), "prev is not the hash of the record before")
    return record


def check_study(history: History, record: Record) -> None:
    """Check 13."""
    first = history.first
    if first is None:
        same(record["study"], history.study.id, "the study is another than study.json")
        same(record["fingerprint"], history.study.fingerprint.hex(), "study.json is not the study that was opened")
        return
    same(record["mode"], first["mode"], "the mode is not record 0's")
    if "fingerprint" in record.fields:
        same(record["fingerprint"], first["fingerprint"], "the fingerprint is not record 0's")


def check_time(history: History, record: Record) -> None:
    """Check 14."""
    in_order = history.last is None or record.kind == "clock-set" or record.time >= history.last.time
    need(in_order, "the time is before that of the record before", None, record["time"])


def check_authority(history: History, record: Record) -> None:
    """Check 15 (§8.2)."""
    if record.kind == "study-opened":
        same(record["role"], "sponsor", "a study is opened by its sponsor")
    elif record.kind == "attempt-failed":
        known = record["person"] is None or record["person"] in history.people
        need(known, "the person named is not in this study", None, record["person"])
    elif record.rules.meaning:
        person = history.person(record)
        able = person is not None and person.active and (person.acts or record.kind == "person-enrolled")
        need(able, "the person is not enrolled and active at this record", None, record["person"])
        assert person is not None
        roles = [role for role in person.roles if role in record.rules.roles]
        roles = person.roles if record.kind == "refused" else roles
        same(record["role"], roles[0] if roles else None, "not the role in which the person acts")


def check_signature(history: History, record: Record) -> None:
    """Check 16 (§8.4)."""
    if record.kind in ("study-opened", "person-enrolled"):
        need(record.signed_by(bytes.fromhex(record["sign_key"])), "the signature does not hold")
    elif record.rules.meaning:
        person = history.person(record)
        need(record.signed_by(person.sign_key if person else None), "the signature does not hold")


RECORD_CHECKS = ((13, check_study), (14, check_time), (15, check_authority), (16, check_signature))


def check_details(record: Record, details: list[Detail]) -> None:
    """Check 17 (§9.3)."""
    names = [detail.name for detail in details]
    same(names, sorted(record.details), "the private details are not those that the body names")
    for _, name, salt, value in details:
        found = detail_commitment(salt, record.seq, name, value).hex()
        same(found, record.details[name], f"the private detail {name} is not the one committed to")


def check_sealed(folder: Folder, log: Followed, report: Report) -> Sealed | None:
    """Check 09, and what check 19 leaves to it. None when the list is not there, or is not the one in the log."""
    sealing, first = log.history.sealing, log.history.first
    if sealing is None or first is None:
        return None
    with report.at(9, sealing.seq):
        size, digest = folder.digest("sealed.json")
        ours = digest == sealing["sealed_digest"]
        need(
            ours or size <= OTHER_BOUND, "sealed.json is not the one in the log, and too long to look into", None, size
        )
        sealed = Sealed(folder.read("sealed.json", SEALED_BOUND))
        check_of_the_list(sealed, first, log, report)
        with report.at(9, sealing.seq):
            same(digest, sealing["sealed_digest"], "sealed.json is not the one in the log")
            sealed.hold(log.study, first, sealing)
        return sealed if ours else None
    return None


def check_of_the_list(sealed: Sealed, first: Record, log: Followed, report: Report) -> None:
    """The rest of check 19: each record made under a sealing of this id and root is held to this list (§10.4)."""
    fingerprint = bytes.fromhex(first["fingerprint"])
    for one in log.of_the_list:
        if one.under["sealing"] == sealed.sealing and one.under["root"] == sealed.root == sealed.stated_root:
            with report.at(19, one.seq):
                one.hold(sealed.commitments.get(one.place[0], []), fingerprint)


def check_registry(folder: Folder, log: Followed, report: Report) -> None:
    """Check 10."""
    first = log.history.first
    if first is not None and first["registry"] is not None:
        with report.at(10, 0):
            same(folder.digest("registry.json")[1], first["registry"], "registry.json is not the one in record 0")


def read_head(data: bytes) -> tuple[int, bytes]:
    """seq and hash in the head (§13.4)."""
    match = re.fullmatch(rb"\s*(-?[0-9]{1,300})\s+([0-9a-f]{64})\s*", data)
    need(match is not None, "the head is no number and hash")
    assert match is not None
    return int(match.group(1)), bytes.fromhex(match.group(2).decode("ascii"))


def check_head(head: tuple[int, bytes], log: Followed, report: Report) -> None:
    """Check 21."""
    seq, digest = head
    found = log.head_at.get(seq)
    if found is not None:
        with report.at(21, seq):
            same(found.hex(), digest.hex(), "the head is of another record: the log was changed")
    elif log.whole or seq < 0:
        report.add(21, seq, Fault("the log ends before the head: records were lost", seq, log.history.count - 1))


def check_given_heads(given: Given, log: Followed, report: Report) -> None:
    """Check 22: heads, and roots of the list."""
    for head in given.heads:
        if head not in log.reached and log.whole:
            report.add(22, None, Fault("no record of this log has the hash given", head.hex()))
    for root in given.roots:
        if report.root != root.hex() and (log.whole or report.root is not None):
            report.add(22, None, Fault("the root of the list is another than the one given", root.hex(), report.root))


def check_checkpoint(checkpoint: Checkpoint, log: Followed) -> None:
    """Check 23."""
    first = log.history.first
    if first is None:
        return
    same(checkpoint.origin, origin_of(first["study"], first.hash.hex()), "the checkpoint is of another log")
    checkpoint.signed_by(bytes.fromhex(first["log_key"]))
    root = log.root_at.get(checkpoint.size)
    need(root is not None or not log.whole, "the log has fewer records than the checkpoint", checkpoint.size,
         log.history.count)  # fmt: skip
    if root is not None:
        same(checkpoint.root.hex(), root.hex(), "the checkpoint's root is not that of the log's first records")


def check_receipt(receipt: Receipt, log: Followed) -> None:
    """Check 24 (§17.3), of a receipt that could be read."""
    receipt.hold()
    record, first, told = receipt.record, log.history.first, log.told.get(receipt.record.seq)
    entered = log.originals.get(record.hash)
    if first is None:
        return
    if told is not None and told.hash == record.hash:
        key = told.sign_key.hex() if told.sign_key else None
        same(receipt.sign_key, key, "sign_key is not that of the record's person")
        same(receipt.checkpoint.root.hex(), told.root.hex(), "the checkpoint is of another log")
        _is_copy(receipt, log)
    elif entered is not None:
        told = entered
    else:
        need(not log.whole and record.seq >= log.history.count, "the log lacks the record of this receipt", record.seq)
        return
    same(receipt.first, first.hash.hex(), "first is another record 0")
    same(receipt.fingerprint, first["fingerprint"], "the fingerprint is not record 0's")
    same(receipt.log_key, first["log_key"], "log_key is not record 0's")
    same(receipt.study, first["study"], "the receipt is of another study")
    same(receipt.schedule, told.schedule, "schedule.root is not the root of the list")
    need(told.arm < len(log.study.arms), "the arm index is of no arm", None, told.arm)
    arm = log.study.arms[told.arm]
    same(receipt.arm, {name: arm[name] for name in receipt.arm}, "the arm's words are not the study's")


def _is_copy(receipt: Receipt, log: Followed) -> None:
    given = receipt.copy
    if given is None:
        return
    record = log.copies.get(given["seq"])
    need(record is not None or not log.whole, "the log has no receipt-copied record there", given["seq"])
    if record is not None:
        found = {"seq": record.seq, "time": record["time"], "person": record["person"]}
        same(given, found, "the copy is not as its record says")
        same(record["allocation"], receipt.record.seq, "the copy is of another allocation")


# ---- check 26 (§18) --------------------------------------------------------------------------------------------------

MEANING = "I certify that this export is a true copy of the study's log and files at this time."


def check_export(folder: Folder, manifest: Manifest | None, log: Followed | None, report: Report) -> None:
    """The export is what its manifest says, and its certificate holds. Each fault is a finding without a record."""
    digests = {}
    for name in folder.names:
        with report.at(26):
            digests[name] = folder.digest(name)
    if manifest is not None:
        for name in sorted({*folder.names} ^ {*manifest.files, *THREE}):
            where = "the manifest" if name in folder.names else "the folder"
            report.add(26, None, Fault(f"{name} is not in {where}"))
        for name in sorted({*digests} & {*manifest.files}):
            with report.at(26):
                same(digests[name], manifest.files[name], f"{name} is not the file in the manifest")
    with report.at(26):
        sums = "".join(f"{digests[name][1]}  {name}\n" for name in sorted(digests) if name != "SHA256SUMS")
        need(folder.read("SHA256SUMS") == sums.encode("utf-8"), "SHA256SUMS does not list the files as they are")
    with report.at(26):
        need("checkpoint.txt" in folder.files, "checkpoint.txt is not there")
        has_details = "details.jsonl" in folder.files
        same(has_details, report.scope == "inspection", "details.jsonl belongs to scope inspection, and only there")
    certificate = None
    with report.at(26):
        certificate = Certificate(folder.read("certificate.json"))
        same(certificate.manifest, digests.get("manifest.json", (0, ""))[1], "the certificate is of another manifest")
        same(certificate.study, manifest.study if manifest else None, "the certificate is of another study")
    if log is not None and log.history.last is not None:
        check_ends(manifest, certificate, log, log.history.last, report)


class Certificate:
    """certificate.json (§18.3)."""

    def __init__(self, data: bytes) -> None:
        names = "format", "study", "manifest", "person", "role", "time", "meaning", "signature"
        plain = exactly(parse_canonical(data), *names)
        same(plain["format"], "allocator-certificate/1", "another format of a certificate")
        same(plain["meaning"], MEANING, "the meaning of the certificate is another")
        need(hexadecimal(64)(plain["signature"]), "the signature of the certificate has a wrong form")
        self.study, self.manifest, self.who = plain["study"], plain["manifest"], [plain["person"], plain["role"]]
        self.time, self._signature = milliseconds(plain["time"]), bytes.fromhex(plain["signature"])
        self._signed = tag("certificate") + canon({name: plain[name] for name in names if name != "signature"})

    def signed_by(self, key: bytes | None) -> bool:
        """Whether its signature holds with this key (§8.4)."""
        return key is not None and signature_holds(key, self._signed, self._signature)


def check_ends(
    manifest: Manifest | None, certificate: Certificate | None, log: Followed, last: Record, report: Report
) -> None:
    """The part of check 26 about the log, as far as it could be followed."""
    first, signer = log.history.first, log.history.person(last) if last.rules.meaning else None
    if manifest is not None and first is not None:
        with report.at(26):
            same(manifest.study, first["study"], "study of the manifest is not record 0's")
            same(manifest.records, log.history.count, "records of the manifest are not the log's")
            same(manifest.head, last.hash.hex(), "head of the manifest is not the log's")
            same(manifest.tree, log.tree.root().hex(), "tree of the manifest is not the log's")
        with report.at(26):
            same(last.kind, "exported", "the last record is not the one of this export")
            same(last["scope"], manifest.scope, "the scope is not that of the last record")
    if certificate is not None:
        with report.at(26):
            who = [last.fields.get("person"), last.fields.get("role")]
            same(certificate.who, who, "person or role of the certificate is not that of the last record")
            need(certificate.time >= last.time, "the certificate is older than the last record", last["time"])
            held = certificate.signed_by(signer.sign_key if signer else None)
            need(held, "the signature of the certificate does not hold")


# ---- an export as a whole --------------------------------------------------------------------------------------------


def verify_export(path: Path, given: Given) -> Report:
    """The verdict on the export in a folder, and on whether it is the one that the given heads and files are of."""
    folder, report = Folder(path), Report()
    manifest: Manifest | None = None
    study: Study | None = None
    for name in folder.links:
        report.add(1, None, Fault(f"{name} is a symbolic link"))
    for name in ("manifest.json", "study.json", "records.jsonl"):
        with report.at(1):
            need(name in folder.files, f"{name} is not there")
    if "manifest.json" in folder.files:
        with report.at(26):
            manifest = Manifest(folder.read("manifest.json"))
    if "study.json" in folder.files:
        with report.at(8):
            study = Study(folder.read("study.json"))
    report.scope = manifest.scope if manifest else "inspection" if "details.jsonl" in folder.files else "evidence"
    if "records.jsonl" in folder.files:
        report.records = folder.count_lines("records.jsonl")
        with report.at(5):
            need(report.records > 0, "the log has no record")
    log = verify_log(folder, study, given, report) if study else None
    check_export(folder, manifest, log, report)
    outside, local = given.heads or given.checkpoints or given.receipts, "head" in folder.names
    intact = "intact" if outside else "intact-local" if local else "intact-unanchored"
    report.verdict = "broken" if report.findings else intact
    return report


def verify_log(folder: Folder, study: Study, given: Given, report: Report) -> Followed:
    """Follow the log, then hold everything else to it."""
    report.study = study.id
    head = None
    if "head" in folder.names:
        with report.at(21):
            head = read_head(folder.read("head"))
    checkpoints = list(_checkpoints(folder, given, report))
    with _details(folder, report) as details:
        log = Followed(folder, study, report, details)
        log.follow(head[0] if head else None, {checkpoint.size for _, checkpoint in checkpoints}, set(given.heads))
    last, sealing = log.history.last, log.history.sealing
    report.followed, report.head = log.history.count, last.hash.hex() if last else ""
    report.root = sealing["root"] if sealing else None
    sealed = check_sealed(folder, log, report)
    check_registry(folder, log, report)
    if head is not None:
        check_head(head, log, report)
    check_given_heads(given, log, report)
    for name, checkpoint in checkpoints:
        with report.at(23, None, name):
            check_checkpoint(checkpoint, log)
    for name, receipt in _receipts(folder, given, report):
        with report.at(24, receipt.record.seq, name):
            check_receipt(receipt, log)
    if log.history.opened is not None:
        with report.at(25):
            check_opening(folder.read("seed.json"), log.history, sealed)
            report.drawn_again = True
    return log


@contextmanager
def _details(folder: Folder, report: Report) -> Iterator[Details | None]:
    if report.scope != "inspection" or "details.jsonl" not in folder.files:
        yield None
        return
    with folder.open("details.jsonl") as file:
        details = Details(file, report)
        yield details
        details.end(report.records)


def _checkpoints(folder: Folder, given: Given, report: Report) -> Iterator[tuple[str, Checkpoint]]:
    """checkpoint.txt and those given, as far as they can be read."""
    if "checkpoint.txt" in folder.files:
        with report.at(23, None, "checkpoint.txt"):
            yield "checkpoint.txt", Checkpoint(folder.read("checkpoint.txt"))
    for name, data in given.checkpoints:
        with report.at(23, None, name):
            yield name, Checkpoint(data)


def _receipts(folder: Folder, given: Given, report: Report) -> Iterator[tuple[str, Receipt]]:
    """Each receipt in the export and each one given, as far as they can be read; one at a time."""
    for name in folder.files:
        if name.startswith("receipt-") and name.endswith(".tlog-proof"):
            with report.at(24, None, name):
                yield name, Receipt(folder.read(name))
    for name, data in given.receipts:
        with report.at(24, None, name):
            yield name, Receipt(data)


# ---- the command -----------------------------------------------------------------------------------------------------

SAID = {
    "intact": "INTACT: every check holds, and the log reaches what you gave from elsewhere.",
    "intact-local": """INTACT: every check holds. But nothing was given that was kept elsewhere (--head, --checkpoint,
--receipt): without that, an older export, or a study made anew, looks the same.""",
    "intact-unanchored": """NOT ANCHORED: every check holds, but there is no head at all to compare with: a log that
was cut off would look the same.""",
    "broken": "BROKEN: what is in this export does not hold together.",
}
FINDINGS_SHOWN = 200


def report_lines(report: Report) -> Iterator[str]:
    """The verdict for people: in words first, then what it is of, then each finding."""
    yield SAID[report.verdict]
    if report.study:
        yield f"  study    {shown(report.study)}"
    if report.followed and report.scope == "evidence":
        yield "  scope    evidence: answers, names and reasons are not in it, so they were not judged"
    elif report.followed:
        yield f"  scope    {report.scope}: answers were judged again"
    followed = "" if report.followed == report.records else f", of which the first {report.followed} can be followed"
    yield f"  records  {report.records}{followed}"
    yield f"  head     {report.head or 'none'}"
    yield f"  root     {report.root or 'no list is sealed'}"
    if report.drawn_again:
        yield "  opened   the whole list was drawn again from the seed, and is the one sealed"
    yield from finding_lines(report.as_json())


def finding_lines(told: dict[str, Any]) -> Iterator[str]:
    """The findings for people."""
    findings, more = told["findings"][:FINDINGS_SHOWN], len(told["findings"][FINDINGS_SHOWN:]) + told["left_out"]
    if findings:
        yield f"{len(findings)} finding{'s' if len(findings) > 1 else ''}, by check (spec.md §11.2) and record:"
    for finding in findings:
        where = "" if finding["seq"] is None else f" record {finding['seq']}:"
        yield f"  [{finding['check']}]{where} {shown(finding['message'])}"
        for name in ("expected", "found"):
            if finding[name] is not None:
                yield f"      {name:9} {shown(finding[name])}"
    if more:
        yield f"  ... and {more} more"


def verify_receipt(data: bytes, given: Given) -> dict[str, Any]:
    """One receipt by itself (§17.2): the object of §11.3, and in `receipt` what it tells, where it could be read."""
    report = Report()
    told: dict[str, Any] | None = None
    anchored = False
    with report.at(24):
        receipt = Receipt(data)
        report.records, report.head, report.root = receipt.record.seq + 1, receipt.record.hash.hex(), receipt.schedule
        told = receipt_told(receipt)
        with report.at(24, receipt.record.seq):
            receipt.hold()
            need(set(given.heads) <= receipt.known(), "a head given is none that this receipt knows")
            need(set(given.roots) <= {bytes.fromhex(receipt.schedule)}, "the root given is not that of its list")
            anchored = bool(set(given.heads) & receipt.own())
    report.verdict = "broken" if report.findings else "intact" if anchored else "intact-unanchored"
    return {**report.as_json(), "receipt": told}


def receipt_told(receipt: Receipt) -> dict[str, Any]:
    """What a receipt says, whether it holds or not."""
    record = receipt.record
    return {
        "study": receipt.study,
        "participant": record["participant"],
        "number": record["number"],
        "arm": receipt.arm,
        "time": record["time"],
        "person": record["person"],
        "record": record.seq,
        "hash": record.hash.hex(),
        "first": receipt.first,
        "schedule_root": receipt.schedule,
        "copy": receipt.copy,
    }


RECEIPT_SAID = {
    "intact": "OF ONE PIECE, and the one whose hash you gave.",
    "intact-unanchored": "OF ONE PIECE: signed record, place in the log and commitment hold together.",
    "broken": "BROKEN: this is no receipt, or it was changed.",
}
NOT_SHOWN = """What it does not show by itself: that it is genuine. Anybody can make such a file with keys of their own,
with the true `first` and `list root` in it. Give the hash that the screen or the page of this allocation had (--head),
or check it against an export of the study: verify.py FOLDER --receipt FILE."""
WORDS_NOT_SHOWN = """That the arm's words are the study's, and that a copy was recorded, only an export shows:
verify.py FOLDER --receipt FILE."""


def receipt_lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield RECEIPT_SAID[told["verdict"]]
    receipt = told["receipt"]
    if receipt is not None:
        arm = receipt["arm"]
        yield f"  study        {shown(receipt['study'])}"
        yield f"  participant  {shown(receipt['participant'])}"
        yield f"  number       {receipt['number']}"
        yield f"  arm          {shown(arm['code'])}: {shown(arm['label'])} ({shown(', '.join(arm['interventions']))})"
        yield f"  time         {receipt['time']} (UTC)"
        yield f"  signed by    {shown(receipt['person'])}"
        yield f"  record       {receipt['record']}, hash {receipt['hash']}"
        yield f"  first        {receipt['first']}"
        yield f"  list root    {receipt['schedule_root']}"
        if receipt["copy"] is not None:
            yield f"  COPY         made {receipt['copy']['time']} by {shown(receipt['copy']['person'])}"
    yield from finding_lines(told)
    if told["verdict"] != "broken":
        yield WORDS_NOT_SHOWN if told["verdict"] == "intact" else NOT_SHOWN


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verify.py", description="Check an export of a study, or one receipt. Nothing is written, nobody is asked."
    )
    parser.add_argument("path", metavar="PATH", help="the folder of an export, or a .tlog-proof file by itself")
    parser.add_argument("--head", metavar="HEX", action="append", default=[], help="hash of a record, kept elsewhere")
    parser.add_argument("--root", metavar="HEX", action="append", default=[], help="root of the list, as deposited")
    parser.add_argument("--checkpoint", metavar="FILE", action="append", default=[], help="a checkpoint kept elsewhere")
    parser.add_argument("--receipt", metavar="FILE", action="append", default=[], help="a receipt kept elsewhere")
    parser.add_argument("--json", action="store_true", help="one JSON object (spec.md §11.3)")
    return parser.parse_args(words)


def _given(arguments: argparse.Namespace) -> Given:
    for digest in (*arguments.head, *arguments.root):
        if not is_digest(digest.lower()):
            raise WrongCall("a head or a root is 64 hexadecimal digits")
    try:
        return Given(
            heads=[bytes.fromhex(head) for head in arguments.head],
            roots=[bytes.fromhex(root) for root in arguments.root],
            checkpoints=[(name, read_file(Path(name), follow=True)) for name in arguments.checkpoint],
            receipts=[(path.name, read_file(path, follow=True)) for name in arguments.receipt for path in _pile(name)],
        )
    except Fault as fault:
        raise WrongCall(fault.message) from None


def _pile(name: str) -> list[Path]:
    """A receipt, or all of a folder."""
    path = Path(name)
    return sorted(path.glob("*.tlog-proof")) if path.is_dir() else [path]


def run(words: list[str]) -> int:
    """The command; returns its exit code."""
    arguments = _arguments(words)
    given, path = _given(arguments), Path(arguments.path)
    if path.is_dir():
        report = verify_export(path, given)
        told, lines = report.as_json(), report_lines(report)
    elif given.checkpoints or given.receipts:
        raise WrongCall(f"{path} is no folder: a checkpoint or a receipt is held to an export")
    else:
        try:
            told = verify_receipt(read_file(path, follow=True), given)
        except Fault as fault:
            raise WrongCall(f"{fault.message}; give the folder of an export, or a .tlog-proof file") from None
        lines = receipt_lines(told)
    print(json.dumps(told) if arguments.json else "\n".join(lines))
    return 0 if told["verdict"] in ("intact", "intact-local") else 3


def main() -> int:
    """Run, and end without a traceback whatever comes."""
    for out in (sys.stdout, sys.stderr):
        out.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return run(sys.argv[1:])
    except WrongCall as error:
        print(f"Error: {shown(str(error))}", file=sys.stderr)
        return 2
    except Exception as error:  # what this program did not foresee is no proof of anything: it fails closed
        report = Report()
        report.add(1, None, Fault(f"the verification could not be carried through: {error!r}"))
        told = report.as_json()
        lines = [SAID["broken"], *finding_lines(told)]
        print(json.dumps(told) if "--json" in sys.argv else "\n".join(lines))
        return 3


if __name__ == "__main__":
    sys.exit(main())
