"""Keystreams: held against published vectors; integers without bias; streams that share nothing."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from allocator.keystream import PURPOSES, WORD, draw_below, keystream_bytes, pseudorandom_key, stream_key, words

KEY = bytes(range(32))
SHARES = [bytes([1]) * 32, bytes([2]) * 32]


def vectors(path: str) -> Iterator[dict[str, str]]:
    """The cases of a file of the package cryptography-vectors, in lower case."""
    package = pytest.importorskip("cryptography_vectors", reason="cryptography-vectors is not installed")
    with package.open_vector_file(path, "r") as stream:
        case: dict[str, str] = {}
        for line in (*stream, "COUNT = end"):
            name, equals, value = (part.strip() for part in line.partition("="))
            if name == "COUNT" and case:
                yield case
                case = {}
            if equals and not name.startswith("#"):
                case[name.lower()] = value.lower()


def expand_by_hand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand as RFC 5869 §2.3 writes it down, with nothing but HMAC."""
    output, block = b"", b""
    for counter in itertools.count(1):
        if len(output) >= length:
            return output[:length]
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        output += block
    raise AssertionError


@pytest.mark.requirement("G02")
def test_aes_256_ctr_vectors_of_rfc_3686() -> None:
    cases = list(vectors("ciphers/AES/CTR/aes-256-ctr.txt"))
    assert len(cases) >= 3
    for case in cases:
        plain, counter = bytes.fromhex(case["plaintext"]), int(case["iv"], 16)
        stream = keystream_bytes(bytes.fromhex(case["key"]), 16 * counter, len(plain))
        assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)).hex() == case["ciphertext"]


@pytest.mark.requirement("G02")
def test_hkdf_vectors_of_rfc_5869() -> None:
    cases = list(vectors("KDF/rfc-5869-HKDF-SHA256.txt"))
    assert len(cases) == 3
    for case in cases:
        salt, material, info = (bytes.fromhex(case.get(name, "")) for name in ("salt", "ikm", "info"))
        prk, length = HKDF.extract(SHA256(), salt or None, material), int(case["l"])
        assert prk.hex() == case["prk"] == hmac.digest(salt, material, "sha256").hex()
        assert HKDFExpand(SHA256(), length, info).derive(prk).hex() == case["okm"]
        assert expand_by_hand(prk, info, length).hex() == case["okm"]


@pytest.mark.requirement("G02")
def test_the_key_of_the_streams_by_hand() -> None:
    fingerprint, commitment = hashlib.sha256(b"study").digest(), hashlib.sha256(b"design").digest()
    material = b"allocator/v1/prk\x00" + b"\x02" + SHARES[0] + SHARES[1] + b"\x00\x06beacon"
    expected = hmac.digest(fingerprint + commitment, material, "sha256")
    assert pseudorandom_key(fingerprint, commitment, SHARES, b"beacon") == expected


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_key_of_one_stream_by_hand(purpose: str) -> None:
    label = '{"site":"Ärzte"}'
    info = b"allocator/v1/stream\x00" + bytes([0, len(purpose)]) + purpose.encode()
    info += len(label.encode()).to_bytes(2, "big") + label.encode()
    assert stream_key(KEY, purpose, label) == expand_by_hand(KEY, info, 32)


@pytest.mark.requirement("G01")
def test_every_part_of_the_input_moves_the_key() -> None:
    base = (bytes(32), bytes(32), SHARES, b"")
    keys = {
        pseudorandom_key(*base),
        pseudorandom_key(b"\x01" + bytes(31), *base[1:]),
        pseudorandom_key(bytes(32), b"\x01" + bytes(31), SHARES),
        pseudorandom_key(bytes(32), bytes(32), SHARES[::-1]),
        pseudorandom_key(bytes(32), bytes(32), SHARES[:1]),
        pseudorandom_key(bytes(32), bytes(32), SHARES, b"\x00"),
    }
    assert len(keys) == 6


@pytest.mark.requirement("G03")
@pytest.mark.parametrize("shares", [[], [b"42"], [bytes(31)], [bytes(33)], [bytes(32), b""]])
def test_a_short_seed_never_becomes_a_key(shares: list[bytes]) -> None:
    with pytest.raises(RuntimeError):
        pseudorandom_key(bytes(32), bytes(32), shares)


def test_streams_of_another_purpose_or_stratum_share_no_word() -> None:
    labels = ["{}", '{"site":"A"}', '{"site":"B"}']
    streams = {(p, s): keystream_bytes(stream_key(KEY, p, s), 0, 4000) for p in PURPOSES for s in labels}
    heads = [stream[i : i + 8] for stream in streams.values() for i in range(0, 4000, 8)]
    assert len(set(heads)) == len(heads)


def test_an_unknown_purpose_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError):
        stream_key(KEY, "sizes", "{}")


@given(st.integers(0, 500), st.integers(0, 500))
def test_any_part_of_the_keystream_is_a_part_of_the_whole(start: int, count: int) -> None:
    assert keystream_bytes(KEY, start, count) == keystream_bytes(KEY, 0, 1000)[start : start + count]


def test_words_go_on_beyond_a_chunk() -> None:
    drawn = list(itertools.islice(words(KEY), 3000))
    assert b"".join(w.to_bytes(4, "big") for w in drawn) == keystream_bytes(KEY, 0, 12_000)


@pytest.mark.parametrize("n", [3, 5, 6, 7, 10, 11, 55, 10_000, 2**31 + 1, 2**32 - 1])
def test_a_word_at_the_limit_is_redrawn_and_one_below_it_taken(n: int) -> None:
    limit = 2**32 - 2**32 % n
    assert draw_below(iter([limit - 1]), n) == n - 1
    for refused in {limit, 2**32 - 1}:
        assert draw_below(iter([refused, refused, 5 % n]), n) == 5 % n


@pytest.mark.parametrize("n", [1, 2, 4, 2**16, 2**32])
def test_a_power_of_two_refuses_no_word(n: int) -> None:
    assert draw_below(iter([WORD - 1]), n) == n - 1


@given(st.integers(1, 2**32))
def test_every_result_has_equally_many_words(n: int) -> None:
    limit = WORD - WORD % n
    assert limit % n == 0 and Fraction(limit, WORD) > Fraction(1, 2)
    assert draw_below(iter([limit - 1]), n) == (limit - 1) % n


@pytest.mark.parametrize("n", [0, -1])
def test_impossible_bounds_are_our_own_mistake(n: int) -> None:
    with pytest.raises(RuntimeError):
        draw_below(iter([1]), n)
