"""Person, Role, what each role may do (one table), and the signature over one record (docs/spec.md §8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from allocator.canonical import tag
from allocator.errors import EvidenceError, Refused


class Role(StrEnum):
    """What a person is in the trial."""

    SPONSOR = "sponsor"
    STATISTICIAN = "statistician"
    CUSTODIAN = "custodian"
    INVESTIGATOR = "investigator"
    PHARMACIST = "pharmacist"
    AUDITOR = "auditor"


SITE_ROLES = frozenset({Role.INVESTIGATOR, Role.PHARMACIST})

# Which role may write which kind of record: the only place where authority is decided (21 CFR 11.10(g)).
EVERYONE = frozenset(Role)
PERMITTED: dict[str, frozenset[Role]] = {
    "study-opened": frozenset({Role.SPONSOR}),
    "person-added": frozenset({Role.SPONSOR}),
    "person-deactivated": frozenset({Role.SPONSOR}),
    "person-enrolled": EVERYONE,
    "passphrase-changed": EVERYONE,
    "log-read": frozenset({Role.SPONSOR, Role.AUDITOR}),
    "decided": frozenset({Role.SPONSOR}),
    "generated": frozenset({Role.STATISTICIAN}),
    "imported": frozenset({Role.STATISTICIAN}),
    "list-checked": frozenset({Role.STATISTICIAN}),
    "list-read": frozenset({Role.STATISTICIAN}),
    # a pharmacist and an investigator pass on their own half only: a lost statistician must not stop a study
    "granted": frozenset({Role.STATISTICIAN, Role.PHARMACIST, Role.INVESTIGATOR}),
    "activated": frozenset({Role.SPONSOR}),
    "paused": EVERYONE,
    "resumed": frozenset({Role.SPONSOR}),
    "closed": frozenset({Role.SPONSOR}),
    "confirmed": frozenset({Role.INVESTIGATOR}),
    "screen-failed": frozenset({Role.INVESTIGATOR}),
    "confirmation-withdrawn": frozenset({Role.INVESTIGATOR}),
    "allocated": frozenset({Role.PHARMACIST}),
    "shown-again": frozenset({Role.PHARMACIST}),
    "looked-up": frozenset({Role.PHARMACIST, Role.INVESTIGATOR}),
    "unblinded": frozenset({Role.PHARMACIST, Role.INVESTIGATOR}),
    "corrected": frozenset({Role.PHARMACIST, Role.INVESTIGATOR, Role.SPONSOR}),
    "late": frozenset({Role.PHARMACIST}),
    "reassignment-proposed": frozenset({Role.PHARMACIST, Role.INVESTIGATOR, Role.SPONSOR}),
    "reassigned": frozenset({Role.PHARMACIST, Role.INVESTIGATOR, Role.SPONSOR}),
    "share-copied": frozenset({Role.STATISTICIAN, Role.CUSTODIAN}),
    "resealed": frozenset({Role.STATISTICIAN}),
    "backed-up": frozenset({Role.SPONSOR}),
    "restored": frozenset({Role.SPONSOR}),
    "receipt-entered": frozenset({Role.SPONSOR, Role.STATISTICIAN}),
    "recovered": frozenset({Role.STATISTICIAN}),
    "moved": frozenset({Role.SPONSOR}),
    "arrived": frozenset({Role.SPONSOR}),
    "receipt-copied": frozenset({Role.PHARMACIST, Role.AUDITOR}),
    "share-given": frozenset({Role.STATISTICIAN, Role.CUSTODIAN}),
    "opened": frozenset({Role.STATISTICIAN, Role.CUSTODIAN}),
    "exported": frozenset({Role.SPONSOR, Role.AUDITOR}),
    "reviewed": frozenset({Role.AUDITOR}),
    "clock-set": frozenset({Role.SPONSOR}),
    "refused": EVERYONE,
}

# Nobody who enrols or dispenses may know the list; nobody confirms and requests; an auditor is nothing else (E07, C02).
_APART: tuple[tuple[frozenset[Role], frozenset[Role]], ...] = (
    (SITE_ROLES, frozenset({Role.STATISTICIAN, Role.CUSTODIAN})),
    (frozenset({Role.INVESTIGATOR}), frozenset({Role.PHARMACIST})),
    (frozenset({Role.AUDITOR}), frozenset(Role) - {Role.AUDITOR}),
    # two shares of the seed in one hand are the list
    (frozenset({Role.STATISTICIAN}), frozenset({Role.CUSTODIAN})),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person as the log states them.

    Attributes:
        id: never reused, never removed (21 CFR 11.100(a)).
        roles: in the order given when added; the first is the one named where none is required.
        code_digest: of the one-time code; empty for the person who opened the study.
        sign_key: raw Ed25519 public key, 32 bytes; empty before enrolment.
        seal_key: raw X25519 public key, 32 bytes; empty before enrolment.
        active: False once deactivated.
    """

    id: str
    roles: tuple[Role, ...]
    code_digest: str = ""
    sign_key: bytes = b""
    seal_key: bytes = b""
    active: bool = True

    @property
    def enrolled(self) -> bool:
        """True once the person has made their own keys."""
        return bool(self.sign_key)


def roles_of(names: Iterable[str]) -> tuple[Role, ...]:
    """The roles of these names, each once; Refused for an unknown one or two that are never together."""
    roles: list[Role] = []
    for name in names:
        if name not in set(Role):
            raise Refused("unknown-role", f"{name!r} is no role", f"Roles: {', '.join(Role)}.")
        if Role(name) not in roles:
            roles.append(Role(name))
    if not roles:
        raise Refused("no-role", "a person needs at least one role", f"Roles: {', '.join(Role)}.")
    for ours, theirs in _APART:
        first = next((role for role in roles if role in ours), None)
        second = next((role for role in roles if role in theirs), None)
        if first and second:
            raise Refused(
                "roles-together",
                f"{first} and {second} are never one person",
                "Nobody who enrols or dispenses knows the list, and nobody both confirms and requests.",
            )
    return tuple(roles)


def acting_role(person: Person, kind: str) -> Role:
    """The role in which this person may write a record of this kind; Refused when none of theirs may."""
    permitted = PERMITTED[kind]
    for role in person.roles:
        if role in permitted:
            return role
    raise Refused(
        "not-permitted",
        f"{person.id} ({', '.join(person.roles)}) may not do this: the role for it is {' or '.join(sorted(permitted))}",
        "Ask a person of that role.",
        {"person": person.id, "kind": kind},
    )


def signed_bytes(prev: bytes, unsigned_body: bytes) -> bytes:
    """What a signature covers: tag("sign") ‖ prev ‖ canonical body without `signature`.

    `prev` and `seq` under the signature mean that nobody can drop, move or replay a signed record and hash again.
    """
    return tag("sign") + prev + unsigned_body


def sign(private_key: Ed25519PrivateKey, prev: bytes, unsigned_body: bytes) -> str:
    """Ed25519 (RFC 8032) signature in hex, 128 characters."""
    return private_key.sign(signed_bytes(prev, unsigned_body)).hex()


def check_signature(public_key: bytes, signature: str, prev: bytes, unsigned_body: bytes) -> None:
    """Raise EvidenceError unless the signature is this key's over this record at this place."""
    try:
        check_ed25519(public_key, bytes.fromhex(signature), signed_bytes(prev, unsigned_body))
    except (InvalidSignature, ValueError) as error:
        raise EvidenceError("signature", "the signature is not this person's over this record") from error


def check_ed25519(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Ed25519 with the encodings on which libraries disagree refused; InvalidSignature or ValueError otherwise.

    RFC 8032 §5.1.7 asks for S < L; small-order and non-canonical points A and R are refused beyond it, because
    libraries differ on them (Chalkias et al., "Taming the many EdDSAs", 2020).
    """
    if len(signature) != 64 or len(public_key) != 32:
        raise ValueError("an Ed25519 key has 32 bytes and a signature 64")
    if int.from_bytes(signature[32:], "little") >= _ORDER:
        raise ValueError("S is not reduced")
    for point in (public_key, signature[:32]):
        if point in _SMALL_ORDER or int.from_bytes(point, "little") & _Y_MASK >= _FIELD:
            raise ValueError("a point of small order or in a non-canonical encoding")
    _public_key(public_key).verify(signature, message)


@lru_cache(maxsize=256)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


_FIELD = 2**255 - 19
_Y_MASK = 2**255 - 1
_ORDER = 2**252 + 27742317777372353535851937790883648493
# canonical encodings of the eight points of small order (ibid., table 1), with either sign bit
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
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
)
