"""The disclosed seed, and the list drawn from it again, held to the sealed one entry by entry (docs/spec.md §15.5).

This is the end of concealment: nothing can be allocated any more (U05), and anybody can draw the list themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allocator import sealing
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical
from allocator.design import RandomizationDesign, design_commitment
from allocator.errors import AllocatorError, EvidenceError
from allocator.log import Record
from allocator.method import DesignError
from allocator.record_form import has_form
from allocator.schedule import Schedule, generate_schedule
from allocator.study import Study, stratum_label

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
    return _drawn(seed, study, _committed_design(seed, study, generated))


def check_opening(seed: Seed, study: Study, generated: Record, sealed: sealing.SealedSchedule) -> Schedule:
    """Draw the list again and hold every sealed entry to it; returns the list.

    Raises:
        EvidenceError: another seed or design, or an entry that is not the one drawn: the first one is named.
    """
    seed = Seed.from_bytes(seed.to_bytes())  # in the one form that everybody reads: papers are typed, in capitals too
    design = _committed_design(seed, study, generated)
    _check_extent(design, study, sealed)  # before anything is drawn: who makes up a log commits to lists of any length
    schedule = _drawn(seed, study, design)
    for stratum, drawn in zip(sealed.strata, schedule.strata, strict=True):
        for position, arm in enumerate(drawn.arms):
            expected = sealing.commitment(
                drawn.salt(position), study.fingerprint, sealed.sealing, drawn.label, position, arm
            )
            if stratum.commitment(position) != expected:
                raise _differs(
                    f"entry {position} of stratum {drawn.label} is not the one that the seed draws",
                    expected.hex(),
                    stratum.commitment(position).hex(),
                )
    return schedule


def _committed_design(seed: Seed, study: Study, generated: Record) -> RandomizationDesign:
    """The design of this seed, which is the one committed to as its shares are."""
    fields = generated.fields
    if (seed.study, seed.sealing) != (study.id, fields["sealing"]):
        raise _differs(
            "the seed is of another study or sealing", [study.id, fields["sealing"]], [seed.study, seed.sealing]
        )
    found = [sealing.seed_commitment(bytes.fromhex(share)).hex() for share in seed.shares]
    if found != fields["seed_commitments"]:
        raise _differs("the shares of the seed are not those committed to", fields["seed_commitments"], found)
    try:
        design = RandomizationDesign.from_tables(dict(seed.design)).for_study(study)
        if design.plain() != seed.design:
            raise DesignError("design", "it is not in its canonical form")
    except (AllocatorError, DesignError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceError("seed", f"the seed states no design of this study: {error}") from error
    if design.algorithm != fields["algorithm"]:
        raise _differs("the design is of another method than the log says", fields["algorithm"], design.algorithm)
    committed = design_commitment(design, bytes.fromhex(seed.salt)).hex()
    if committed != fields["design_commitment"]:
        raise _differs("the design is not the one committed to", fields["design_commitment"], committed)
    return design


def _check_extent(design: RandomizationDesign, study: Study, sealed: sealing.SealedSchedule) -> None:
    """The sealed schedule has the strata of the study and the entries of the design."""
    expected, found = [stratum_label(s) for s in study.strata], [stratum.label for stratum in sealed.strata]
    if found != expected:
        raise _differs("the strata of the sealed schedule are not those of the study", expected, found)
    for stratum in sealed.strata:
        if len(stratum.entries) != design.length:
            raise _differs(
                f"stratum {stratum.label} has another number of entries than the design",
                design.length,
                len(stratum.entries),
            )


def _drawn(seed: Seed, study: Study, design: RandomizationDesign) -> Schedule:
    return generate_schedule(study, design, bytes.fromhex(seed.salt), [bytes.fromhex(share) for share in seed.shares])


def _differs(message: str, expected: Any, found: Any) -> EvidenceError:
    return EvidenceError("seed", message, details={"expected": expected, "found": found})
