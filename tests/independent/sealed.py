"""§7, §13.3: entries, commitments, root, envelopes, key files."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from .encoding import Refused, expand, mac, parse_free, prefixed, sha256, tag, uint


def place(label: str, position: int) -> bytes:
    """§7."""
    return prefixed(label) + uint(position, 4)


def half(key: bytes, sealing: bytes, label: str, position: int) -> bytes:
    """§7.1."""
    return expand(key, tag("half") + sealing + place(label, position))


def entry_key(half_p: bytes, half_i: bytes) -> bytes:
    """§7.2."""
    return mac(half_p, tag("entry") + half_i)


def commitment(salt: bytes, study_print: bytes, sealing: bytes, label: str, position: int, arm: int) -> bytes:
    """§7.3."""
    return mac(salt, tag("commit") + study_print + sealing + place(label, position) + uint(arm, 1))


def entry_data(sealing: bytes, label: str, position: int, committed: bytes) -> bytes:
    """§7.4."""
    return tag("entry-data") + sealing + place(label, position) + committed


def entry_bytes(text: str) -> bytes:
    """§7.4: the 93 bytes of an entry in base64."""
    data = base64.b64decode(text, validate=True)
    if len(text) != 124 or len(data) != 93:
        raise Refused("no sealed entry")
    return data


def open_entry(
    data: bytes, key: bytes, study_print: bytes, sealing: bytes, label: str, position: int
) -> tuple[int, bytes]:
    """§7.4: (arm, salt), held to the commitment."""
    committed, nonce, ciphertext = data[:32], data[32:44], data[44:]
    try:
        plaintext = AESGCM(key).decrypt(nonce, ciphertext, entry_data(sealing, label, position, committed))
    except InvalidTag as error:
        raise Refused("the entry does not open") from error
    arm, salt = plaintext[0], plaintext[1:]
    if commitment(salt, study_print, sealing, label, position, arm) != committed:
        raise Refused("not as committed")
    return arm, salt


def leaf(label: str, position: int, committed: bytes) -> bytes:
    """§7.6."""
    return place(label, position) + committed


def tree(leaves: list[bytes]) -> bytes:
    """§7.6: the Merkle tree hash as RFC 6962 §2.1 defines it, by recursion."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0])
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha256(b"\1" + tree(leaves[:split]) + tree(leaves[split:]))


def context(name: str, study_print: bytes, sealing: bytes, person: str) -> bytes:
    """§7.5."""
    return tag(name) + study_print + sealing + prefixed(person)


def open_envelope(private: bytes, envelope: bytes, info: bytes) -> bytes:
    """§7.5: HPKE base mode, single-shot, step by step (RFC 9180 §4.1, §5.1)."""
    secret = X25519PrivateKey.from_private_bytes(private)
    enc, ciphertext = envelope[:32], envelope[32:]
    shared = secret.exchange(X25519PublicKey.from_public_bytes(enc))
    kem = b"KEM" + uint(0x0020, 2)
    extracted = _labeled_extract(kem, b"", b"eae_prk", shared)
    kem_context = enc + secret.public_key().public_bytes_raw()
    shared_secret = _labeled_expand(kem, extracted, b"shared_secret", kem_context, 32)
    suite = b"HPKE" + uint(0x0020, 2) + uint(0x0001, 2) + uint(0x0002, 2)
    schedule_context = b"\0" + _labeled_extract(suite, b"", b"psk_id_hash", b"")
    schedule_context += _labeled_extract(suite, b"", b"info_hash", info)
    prk = _labeled_extract(suite, shared_secret, b"secret", b"")
    key = _labeled_expand(suite, prk, b"key", schedule_context, 32)
    nonce = _labeled_expand(suite, prk, b"base_nonce", schedule_context, 12)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except InvalidTag as error:
        raise Refused("the envelope does not open") from error


def unpadded(data: bytes) -> bytes:
    """§7.5."""
    length = int.from_bytes(data[:2], "big")
    if len(data) % 1024 or any(data[2 + length :]):
        raise Refused("not padded as specified")
    return data[2 : 2 + length]


def open_key_file(data: bytes, passphrase: str) -> bytes:
    """§13.3: Ed25519 seed ‖ X25519 scalar."""
    file: dict[str, Any] = parse_free(data)
    cost = file["argon2id"]
    stretched = Argon2id(
        salt=bytes.fromhex(cost["salt"]),
        length=32,
        iterations=cost["iterations"],
        lanes=cost["lanes"],
        memory_cost=cost["memory_kib"],
    ).derive(passphrase.encode())
    names = b"".join(prefixed(file[name]) for name in ("study", "person", "sign_key", "seal_key"))
    ciphertext, nonce = bytes.fromhex(file["ciphertext"]), bytes.fromhex(file["nonce"])
    try:
        return AESGCM(stretched).decrypt(nonce, ciphertext, tag("key") + names)
    except InvalidTag as error:
        raise Refused("the passphrase does not open the key") from error


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return mac(salt, b"HPKE-v1" + suite + label + material)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, uint(length, 2) + b"HPKE-v1" + suite + label + info, length)
