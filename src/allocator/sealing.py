"""Seal and open entries, commit to them. No disk (docs/spec.md §7).

An entry's key has two halves held by two people: K_p by the pharmacists, K_i by the investigators. Neither opens an
entry alone. The halves of different entries are independent: releasing one tells nothing of another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from allocator import merkle
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical, prefixed, tag, u8, u32
from allocator.errors import EvidenceError
from allocator.schedule import Schedule, StratumSchedule
from allocator.study import stratum_label

FORMAT = "allocator-sealed/1"
ENTRY_BYTES = 93  # commitment 32 ‖ nonce 12 ‖ AES-256-GCM of (arm index 1 ‖ salt 32) ‖ tag 16
ENTRY_CHARACTERS = 124  # the same in base64, without padding
MAX_SEALED = 1 << 31
_FIELDS = {"format", "study", "fingerprint", "sealing", "design_commitment", "root", "strata", "shares", "keys"}


def half_key(key: bytes, sealing: bytes, label: str, position: int) -> bytes:
    """One person's half for one entry: HKDF-Expand(K, tag("half") ‖ sealing ‖ stratum ‖ position, 32).

    One output block of HKDF-Expand is HMAC(K, info ‖ 0x01) (RFC 5869 §2.3), which the tests hold against the library.
    """
    return hmac.digest(key, _half_info(sealing, label) + u32(position) + b"\x01", "sha256")


def entry_key(half_p: bytes, half_i: bytes) -> bytes:
    """HMAC-SHA-256(half_p, tag("entry") ‖ half_i), 32 bytes."""
    return hmac.digest(half_p, tag("entry") + half_i, "sha256")


def commitment(salt: bytes, fingerprint: bytes, sealing: bytes, label: str, position: int, arm: int) -> bytes:
    """HMAC-SHA-256(salt, tag("commit") ‖ fingerprint ‖ sealing ‖ stratum ‖ position ‖ arm index), 32 bytes.

    Without the 256-bit salt a commitment to one of two arms would be guessed at once: it hides one bit.
    """
    return hmac.digest(salt, _commit_prefix(fingerprint, sealing, label) + u32(position) + u8(arm), "sha256")


def schedule_leaf(label: str, position: int, entry_commitment: bytes) -> bytes:
    """Leaf of the schedule root: prefixed stratum label ‖ u32 position ‖ commitment."""
    return prefixed(label.encode("utf-8")) + u32(position) + entry_commitment


def seed_commitment(share: bytes) -> bytes:
    """SHA-256(tag("seed") ‖ share): fixes a seed share in the log without telling it."""
    return hashlib.sha256(tag("seed") + share).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStratum:
    """One stratum's sealed entries, by position, each `ENTRY_CHARACTERS` of base64."""

    stratum: dict[str, str]
    label: str
    entries: tuple[str, ...]

    def blob(self, position: int) -> bytes:
        """The 93 bytes of one entry; EvidenceError when the text is no such entry."""
        text = self.entries[position]
        try:
            blob = base64.b64decode(text.encode("ascii"), validate=True)
        except (ValueError, UnicodeEncodeError):
            blob = b""
        if len(text) != ENTRY_CHARACTERS or len(blob) != ENTRY_BYTES:
            raise EvidenceError("sealed-entry", f"entry {position} of stratum {self.label} is not a sealed entry")
        return blob

    def commitment(self, position: int) -> bytes:
        """The commitment in clear at the head of an entry, 32 bytes."""
        return self.blob(position)[:32]

    def leaf_hashes(self) -> Iterator[bytes]:
        """Leaves of the schedule root, in order of position."""
        for position in range(len(self.entries)):
            yield merkle.leaf_hash(schedule_leaf(self.label, position, self.commitment(position)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Something sealed to one person's key by HPKE; `commitment` is of the seed share inside, empty for keys."""

    person: str
    commitment: str
    envelope: str = field(repr=False)

    def plain(self) -> dict[str, str]:
        """The canonical object."""
        return {"person": self.person, "commitment": self.commitment, "envelope": self.envelope}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSchedule:
    """sealed.json: no arm is visible and every entry has one length.

    Attributes:
        study, fingerprint: of the study at sealing.
        sealing: 16 random bytes that name this sealing.
        root: RFC 6962 root over (stratum, position, commitment), strata in declared order.
        shares: the seed shares with the design and its salt, one envelope for each holder.
        keys: K_p ‖ K_i, sealed to the statistician who generated, who grants them.
    """

    study: str
    fingerprint: bytes
    sealing: bytes
    design_commitment: bytes
    root: bytes
    strata: tuple[SealedStratum, ...]
    shares: tuple[Envelope, ...]
    keys: Envelope

    def stratum(self, label: str) -> SealedStratum | None:
        """The sealed entries of a stratum, or None."""
        return next((s for s in self.strata if s.label == label), None)

    def to_bytes(self) -> bytes:
        """Canonical bytes of the file; their SHA-256 stands in the log."""
        return canonical_bytes(
            {
                "format": FORMAT,
                "study": self.study,
                "fingerprint": self.fingerprint.hex(),
                "sealing": self.sealing.hex(),
                "design_commitment": self.design_commitment.hex(),
                "root": self.root.hex(),
                "strata": [{"stratum": s.stratum, "entries": list(s.entries)} for s in self.strata],
                "shares": [share.plain() for share in self.shares],
                "keys": self.keys.plain(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SealedSchedule:
        """Parse a sealed.json; EvidenceError when it is not one."""
        try:
            plain = parse_canonical(data, limit=MAX_SEALED)
            if plain.keys() != _FIELDS or plain["format"] != FORMAT:
                raise CanonicalError(f"fields {sorted(plain)} of format {plain.get('format')!r}")
            return cls(
                study=_text(plain["study"]),
                fingerprint=_hex(plain["fingerprint"], 32),
                sealing=_hex(plain["sealing"], 16),
                design_commitment=_hex(plain["design_commitment"], 32),
                root=_hex(plain["root"], 32),
                strata=tuple(_sealed_stratum(item) for item in plain["strata"]),
                shares=tuple(_envelope(item) for item in plain["shares"]),
                keys=_envelope(plain["keys"]),
            )
        except (CanonicalError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise EvidenceError(
                "sealed-file",
                f"sealed.json is not a sealed schedule: {error}",
                "Restore the file from a backup.",
            ) from error


def seal_stratum(
    schedule: StratumSchedule, fingerprint: bytes, sealing: bytes, key_p: bytes, key_i: bytes, nonces: bytes
) -> SealedStratum:
    """Encrypt each entry on its own and commit to it.

    Args:
        schedule: the secret list of one stratum.
        fingerprint: study fingerprint at sealing, 32 bytes.
        sealing: sealing id, 16 bytes.
        key_p: K_p, 32 bytes.
        key_i: K_i, 32 bytes.
        nonces: 12 random bytes an entry.
    """
    label, arms, salts = schedule.label, schedule.arms, schedule.salts
    half_info, commit_prefix = _half_info(sealing, label), _commit_prefix(fingerprint, sealing, label)
    data_prefix, entry_tag, digest = _data_prefix(sealing, label), tag("entry"), hmac.digest
    entries = []
    for position in range(len(arms)):
        place, arm, salt = (
            u32(position),
            arms[position : position + 1],
            salts[32 * position : 32 * position + 32],
        )
        info = half_info + place + b"\x01"
        half_p, half_i = digest(key_p, info, "sha256"), digest(key_i, info, "sha256")
        key = digest(half_p, entry_tag + half_i, "sha256")
        committed = digest(salt, commit_prefix + place + arm, "sha256")
        nonce = nonces[12 * position : 12 * position + 12]
        ciphertext = AESGCM(key).encrypt(nonce, arm + salt, data_prefix + place + committed)
        entries.append(base64.b64encode(committed + nonce + ciphertext).decode("ascii"))
    return SealedStratum(stratum=schedule.stratum, label=label, entries=tuple(entries))


def schedule_root(strata: tuple[SealedStratum, ...]) -> bytes:
    """RFC 6962 root over all entries' commitments, strata in declared order, positions ascending."""
    return merkle.root(schedule_leaves(strata))


def schedule_leaves(strata: tuple[SealedStratum, ...]) -> Iterator[bytes]:
    """Leaf hashes of all entries, in the order of the root."""
    return (leaf for stratum in strata for leaf in stratum.leaf_hashes())


def leaf_index(strata: tuple[SealedStratum, ...], label: str, position: int) -> int:
    """Where the leaf of an entry stands among all."""
    before = 0
    for stratum in strata:
        if stratum.label == label:
            return before + position
        before += len(stratum.entries)
    raise EvidenceError("sealed-file", "the stratum is not in the sealed schedule", "Run `allocator verify`.")


def seal_schedule(
    schedule: Schedule, fingerprint: bytes, sealing: bytes, key_p: bytes, key_i: bytes, nonces: bytes
) -> tuple[tuple[SealedStratum, ...], bytes]:
    """Seal every stratum and give the strata with their root; `nonces` holds 12 bytes an entry, strata in order."""
    sealed, start = [], 0
    for stratum in schedule.strata:
        end = start + 12 * len(stratum.arms)
        sealed.append(seal_stratum(stratum, fingerprint, sealing, key_p, key_i, nonces[start:end]))
        start = end
    strata = tuple(sealed)
    return strata, schedule_root(strata)


def open_entry(
    stratum: SealedStratum, position: int, half_p: bytes, half_i: bytes, fingerprint: bytes, sealing: bytes
) -> tuple[int, bytes]:
    """Open one entry with both halves and hold it to its commitment; returns (arm index, salt).

    Raises:
        EvidenceError: a half is wrong, the entry was exchanged, or it does not open its commitment.
    """
    blob = stratum.blob(position)
    committed, nonce, ciphertext = blob[:32], blob[32:44], blob[44:]
    data = _data_prefix(sealing, stratum.label) + u32(position) + committed
    try:
        plaintext = AESGCM(entry_key(half_p, half_i)).decrypt(nonce, ciphertext, data)
    except InvalidTag as error:
        raise EvidenceError(
            "entry-does-not-open",
            "the bound entry does not open with the two halves of its key; nothing was allocated",
            "Call the statistician: the schedule or a key is damaged, or belongs to another sealing.",
        ) from error
    arm, salt = plaintext[0], plaintext[1:]
    check_opened(stratum, position, arm, salt, fingerprint, sealing)
    return arm, salt


def check_opened(
    stratum: SealedStratum, position: int, arm: int, salt: bytes, fingerprint: bytes, sealing: bytes
) -> None:
    """The opened entry is the one committed to before the first participant (C06). EvidenceError otherwise."""
    if position >= len(stratum.entries):
        raise EvidenceError("position", "the position is of no sealed entry")
    opened = commitment(salt, fingerprint, sealing, stratum.label, position, arm)
    if not hmac.compare_digest(opened, stratum.commitment(position)):
        raise EvidenceError(
            "entry-not-as-committed",
            "the opened entry is not the one committed to",
            "Nothing may be given on its word. Call the statistician and run `allocator verify`.",
        )


def _half_info(sealing: bytes, label: str) -> bytes:
    return tag("half") + sealing + prefixed(label.encode("utf-8"))


def _commit_prefix(fingerprint: bytes, sealing: bytes, label: str) -> bytes:
    return tag("commit") + fingerprint + sealing + prefixed(label.encode("utf-8"))


def _data_prefix(sealing: bytes, label: str) -> bytes:
    return tag("entry-data") + sealing + prefixed(label.encode("utf-8"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CanonicalError("a text was expected")
    return value


def _hex(value: Any, length: int) -> bytes:
    data = bytes.fromhex(value)
    if len(data) != length or data.hex() != value:  # fromhex also takes capitals and blanks
        raise CanonicalError(f"{length} bytes in lower-case hexadecimal digits were expected")
    return data


def _sealed_stratum(item: dict[str, Any]) -> SealedStratum:
    entries = item["entries"]
    if item.keys() != {"stratum", "entries"}:
        raise CanonicalError(f"fields {sorted(item)} in a stratum")
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise CanonicalError("entries are no list of texts")
    label = stratum_label(item["stratum"])
    prefixed(label.encode("utf-8"))  # OverflowError for a label longer than any leaf takes (docs/spec.md §1.1)
    return SealedStratum(stratum=item["stratum"], label=label, entries=tuple(entries))


def _envelope(item: dict[str, Any]) -> Envelope:
    if item.keys() != {"person", "commitment", "envelope"}:
        raise CanonicalError(f"fields {sorted(item)} in an envelope")
    return Envelope(**{name: _text(value) for name, value in item.items()})
