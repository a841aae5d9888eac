"""Envelopes: HPKE to one person, for one study and sealing."""

from __future__ import annotations

import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from allocator.envelope import PAD, context, open_sealed, padded, seal_to, unpadded
from allocator.errors import CredentialError

OWNER, OTHER = (
    X25519PrivateKey.from_private_bytes(bytes([1]) * 32),
    X25519PrivateKey.from_private_bytes(bytes([2]) * 32),
)
PUBLIC = OWNER.public_key().public_bytes_raw()
INFO = context("grant", bytes(32), bytes(16), "PH")


@given(st.binary(max_size=200))
def test_the_owner_opens_what_was_sealed(plaintext: bytes) -> None:
    sealed = seal_to(PUBLIC, plaintext, INFO)
    assert open_sealed(OWNER, sealed, INFO) == plaintext
    assert len(sealed) == 32 + len(plaintext) + 16


def test_a_half_key_fills_the_80_bytes_of_a_record() -> None:
    assert len(seal_to(PUBLIC, bytes(32), INFO)) == 80


@pytest.mark.requirement("C01")
@pytest.mark.parametrize(
    "info",
    [
        context("keys", bytes(32), bytes(16), "PH"),
        context("grant", b"\x01" + bytes(31), bytes(16), "PH"),
        context("grant", bytes(32), b"\x01" + bytes(15), "PH"),
        context("grant", bytes(32), bytes(16), "PI"),
        b"",
    ],
)
def test_another_context_does_not_open_it(info: bytes) -> None:
    with pytest.raises(CredentialError) as refusal:
        open_sealed(OWNER, seal_to(PUBLIC, b"half", INFO), info)
    assert refusal.value.code == "envelope-does-not-open"


@pytest.mark.requirement("C01")
def test_another_person_does_not_open_it() -> None:
    with pytest.raises(CredentialError):
        open_sealed(OTHER, seal_to(PUBLIC, b"half", INFO), INFO)


@given(st.integers(0, 8 * 80 - 1))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    sealed = bytearray(seal_to(PUBLIC, bytes(32), INFO))
    sealed[bit // 8] ^= 1 << bit % 8
    if bit == 8 * 31 + 7:
        return  # X25519 ignores the highest bit of a point, but HPKE binds the bytes: either answer is sound
    with pytest.raises(CredentialError):
        open_sealed(OWNER, bytes(sealed), INFO)


@pytest.mark.parametrize("sealed", [b"", bytes(31), bytes(32), bytes(47), bytes(80)])
def test_what_is_no_envelope_is_refused(sealed: bytes) -> None:
    with pytest.raises(CredentialError):
        open_sealed(OWNER, sealed, INFO)


def test_two_envelopes_of_one_text_differ() -> None:
    assert seal_to(PUBLIC, b"half", INFO) != seal_to(PUBLIC, b"half", INFO)


@given(st.binary(max_size=3000))
def test_padding_hides_the_length_and_comes_off(plaintext: bytes) -> None:
    data = padded(plaintext)
    assert unpadded(data) == plaintext
    assert len(data) % PAD == 0 and len(data) - len(plaintext) < PAD + 2


def open_by_hand(secret: bytes, sealed: bytes, info: bytes, aad: bytes = b"") -> bytes:
    """RFC 9180 §4.1, §5.1 and §6.1 for the first message in mode base, with X25519, HMAC and AES-GCM alone."""
    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"

    def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + material, "sha256")

    def expand(suite: bytes, prk: bytes, label: bytes, data: bytes, length: int) -> bytes:
        text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + data
        return hmac.digest(prk, text + b"\x01", "sha256")[:length]

    key, enc = X25519PrivateKey.from_private_bytes(secret), sealed[:32]
    prk = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)))
    shared = expand(kem, prk, b"shared_secret", enc + key.public_key().public_bytes_raw(), 32)
    schedule = b"\x00" + extract(hpke, b"", b"psk_id_hash", b"") + extract(hpke, b"", b"info_hash", info)
    prk = extract(hpke, shared, b"secret", b"")
    aead, nonce = expand(hpke, prk, b"key", schedule, 32), expand(hpke, prk, b"base_nonce", schedule, 12)
    return AESGCM(aead).decrypt(nonce, sealed[32:], aad)


@pytest.mark.requirement("G02")
def test_hpke_by_hand_opens_the_vectors_of_rfc_9180() -> None:
    package = pytest.importorskip("cryptography_vectors", reason="cryptography-vectors is not installed")
    with package.open_vector_file("HPKE/test-vectors.json", "r") as stream:
        cases = json.load(stream)
    ours = [c for c in cases if (c["mode"], c["kem_id"], c["kdf_id"], c["aead_id"]) == (0, 0x20, 1, 2)]
    assert ours
    for case in ours:
        first = {name: bytes.fromhex(text) for name, text in case["encryptions"][0].items()}
        secret, enc, info = (bytes.fromhex(case[name]) for name in ("skRm", "enc", "info"))
        assert open_by_hand(secret, enc + first["ct"], info, first["aad"]) == first["pt"]


@pytest.mark.requirement("G02")
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
def test_our_envelopes_open_by_hand(secret: bytes, plaintext: bytes) -> None:
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    assert open_by_hand(secret, seal_to(public, plaintext, INFO), INFO) == plaintext
