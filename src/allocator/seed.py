"""The disclosed seed, and the list drawn from it again, held to the sealed one entry by entry (docs/spec.md §15.5).

This is the end of concealment: nothing can be allocated any more (U05), and anybody can draw the list themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allocator import sealing
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical
from allocator.design import DesignError, RandomizationDesign, design_commitment
from allocator.errors import AllocatorError, EvidenceError
from allocator.log import Record
from allocator.record_form import has_form
from allocator.schedule import Schedule, generate_schedule
from allocator.study import Study

FORMAT = "allocator-seed/1"
MAX_SEED = 1 << 20
_FIELDS = {"format", "study", "sealing", "shares", "design", "salt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Both shares of a seed, with the design and its salt: the whole list.

    Attributes:
        shares: S_1 and S_2, 32 bytes each, in hexadecimal.
        salt: of the design's commitment, 32 bytes, in hexadecimal.
    """

    study: str
    sealing: str
    shares: tuple[str, ...]
    design: Mapping[str, Any]
    salt: str

    def to_bytes(self) -> bytes:
        """seed.json"""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return canonical_bytes({"format": FORMAT, **fields, "shares": list(self.shares)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Seed:
        """EvidenceError when it is no seed."""
        try:
            plain = parse_canonical(data, limit=MAX_SEED)
            shares = plain.get("shares")
            if plain.pop("format", None) != FORMAT or plain.keys() != _FIELDS - {"format"}:
                raise CanonicalError("other fields than a seed has")
            if not isinstance(shares, list) or not all(has_form("salt", text) for text in (*shares, plain["salt"])):
                raise CanonicalError("shares and salt have 32 bytes in hexadecimal")
            if not has_form("study", plain["study"]) or not has_form("sealing", plain["sealing"]):
                raise CanonicalError("it names no study and sealing")
            return cls(**{**plain, "shares": tuple(shares)})
        except CanonicalError as error:
            raise EvidenceError("seed", f"seed.json is no seed: {error}") from error


def draw_again(seed: Seed, study: Study, generated: Record) -> Schedule:
    """The list of this seed. EvidenceError when its shares or its design are not those committed to."""
    fields = generated.fields
    found = [sealing.seed_commitment(bytes.fromhex(share)).hex() for share in seed.shares]
    if (seed.study, seed.sealing) != (study.id, fields["sealing"]) or found != fields["seed_commitments"]:
        raise EvidenceError(
            "seed",
            "the shares of the seed are not those committed to",
            details={"expected": fields["seed_commitments"], "found": found},
        )
    try:
        design = RandomizationDesign.from_tables(dict(seed.design)).for_study(study)
        if design.plain() != seed.design:
            raise DesignError("design", "it is not in its canonical form")
    except (AllocatorError, DesignError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceError("seed", f"the seed states no design of this study: {error}") from error
    salt = bytes.fromhex(seed.salt)
    committed = design_commitment(design, salt).hex()
    if committed != fields["design_commitment"]:
        raise EvidenceError(
            "seed",
            "the design is not the one committed to",
            details={"expected": fields["design_commitment"], "found": committed},
        )
    return generate_schedule(study, design, salt, [bytes.fromhex(share) for share in seed.shares])


def check_opening(seed: Seed, study: Study, generated: Record, sealed: sealing.SealedSchedule) -> Schedule:
    """Draw the list again and hold every sealed entry to it; returns the list.

    Raises:
        EvidenceError: another seed or design, or an entry that is not the one drawn: the first one is named.
    """
    schedule = draw_again(seed, study, generated)
    if [stratum.label for stratum in sealed.strata] != [stratum.label for stratum in schedule.strata]:
        raise EvidenceError("seed", "the strata of the sealed schedule are not those of the study")
    for stratum, drawn in zip(sealed.strata, schedule.strata, strict=True):
        if len(stratum.entries) != len(drawn.arms):
            raise EvidenceError(
                "seed",
                f"stratum {drawn.label} has another number of entries than the design",
                details={"expected": len(drawn.arms), "found": len(stratum.entries)},
            )
        for position, arm in enumerate(drawn.arms):
            expected = sealing.commitment(
                drawn.salt(position), study.fingerprint, sealed.sealing, drawn.label, position, arm
            )
            if stratum.commitment(position) != expected:
                raise EvidenceError(
                    "seed",
                    f"entry {position} of stratum {drawn.label} is not the one that the seed draws",
                    details={"expected": expected.hex(), "found": stratum.commitment(position).hex()},
                )
    return schedule
