"""The design that was sealed with the list: from one's own share of the seed, or from the opened seed. Pure.

Whoever has neither cannot tell a right design from a wrong one: its commitment is salted (docs/spec.md §3).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from allocator.canonical import CanonicalError, parse_strict
from allocator.design import RandomizationDesign, design_commitment
from allocator.envelope import context, open_sealed, unpadded
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused
from allocator.log import Record
from allocator.method import DesignError
from allocator.sealing import SealedSchedule
from allocator.seed import Seed
from allocator.study import Study

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

MAX_SHARE = 1 << 20


def design_in_share(study: Study, sealed: SealedSchedule, person: str, key: X25519PrivateKey) -> RandomizationDesign:
    """The design in this person's own share, held to the commitment of the sealed list.

    Args:
        study: of this list.
        sealed: the list, as its record has it.
        person: who holds a share.
        key: the person's private X25519 key.

    Raises:
        Refused: this person holds no share.
        EvidenceError: the share states no design, or another one than was committed to.
        CredentialError: the key opens nothing here.
    """
    share = next((share for share in sealed.shares if share.person == person), None)
    if share is None:
        holders = " and ".join(share.person for share in sealed.shares)
        raise Refused(
            "no-share", f"{person} holds no share of the seed of this list", f"Its shares are held by {holders}."
        )
    info = context("share", study.fingerprint, sealed.sealing, person)
    try:
        plain = parse_strict(unpadded(open_sealed(key, bytes.fromhex(share.envelope), info)), limit=MAX_SHARE)
        return _held(study, plain["design"], plain["salt"], sealed.design_commitment.hex())
    except (CanonicalError, KeyError, TypeError, ValueError) as error:
        raise EvidenceError("share", f"the share of {person} states no design: {error}") from error


def design_in_seed(study: Study, data: bytes, generated: Record, opened: Record) -> RandomizationDesign:
    """The design in seed.json, held to the digest of its opening and to the commitment of the sealed list.

    Raises:
        EvidenceError: it is another file, or states another design.
    """
    if hashlib.sha256(data).hexdigest() != opened.fields["seed_digest"]:
        raise EvidenceError("seed", "seed.json is not the file whose digest is in the log", "Run `allocator verify`.")
    seed = Seed.from_bytes(data)
    return _held(study, seed.design, seed.salt, generated.fields["design_commitment"])


def check_is_sealed(given: RandomizationDesign, sealed: RandomizationDesign) -> None:
    """InputError unless both say the same; each with its ratio in the study's arm order."""
    if given.plain() != sealed.plain():
        raise InputError(
            "design-not-sealed",
            "the design given is not the design of the sealed list",
            "Leave --design away: the sealed one is taken then. Find out which file was given to `generate`.",
        )


def _held(study: Study, plain: Mapping[str, Any], salt: str, commitment: str) -> RandomizationDesign:
    try:
        design = RandomizationDesign.from_tables(dict(plain)).for_study(study)
    except (AllocatorError, DesignError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceError("design", f"what was sealed states no design of this study: {error}") from error
    if design_commitment(design, bytes.fromhex(salt)).hex() != commitment:
        raise EvidenceError(
            "design", "the design kept with the seed is not the one committed to", "Run `allocator verify`."
        )
    return design
