"""generate_schedule(): study + design + seed -> the ordered list of arms of each stratum.

Before the point of no return of a reveal, only this module and `sealing` ever hold an arm (docs/spec.md §6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from allocator.design import RandomizationDesign, design_commitment
from allocator.keystream import keystream_bytes, pseudorandom_key, stream_key
from allocator.methods import draw_stratum
from allocator.study import Study, stratum_label

SALT = 32  # bytes of an entry's salt


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumSchedule:
    """One stratum's list: its label and, by position from 0, arm indices and 32-byte salts. Secret."""

    label: str
    stratum: dict[str, str]
    arms: bytes = field(repr=False)
    salts: bytes = field(repr=False)

    def salt(self, position: int) -> bytes:
        """The salt of one entry: 32 bytes of the stratum's ``salt`` stream at 32 × position."""
        return self.salts[SALT * position : SALT * (position + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All strata in the study's declared order, with the commitment to the design they were drawn by. Secret."""

    design_commitment: bytes
    strata: tuple[StratumSchedule, ...]


def generate_schedule(
    study: Study, design: RandomizationDesign, design_salt: bytes, shares: Sequence[bytes]
) -> Schedule:
    """Draw every stratum from its own streams, so that adding a stratum moves no other.

    Args:
        study: its fingerprint is part of the key: another study gets another list from the same seed.
        design: with the ratio in the study's arm order (`RandomizationDesign.for_study`).
        design_salt: 32 random bytes of the design's commitment.
        shares: the seed shares, 32 bytes each.
    """
    if [code for code, _ in design.ratio] != [arm.code for arm in study.arms]:
        raise RuntimeError("the ratio is not in the study's arm order")
    commitment = design_commitment(design, design_salt)
    prk = pseudorandom_key(study.fingerprint, commitment, shares)
    strata = []
    for index, stratum in enumerate(study.strata):
        label = stratum_label(stratum)
        arms = draw_stratum(design.method, design, prk, label, index)
        salts = keystream_bytes(stream_key(prk, "salt", label), 0, SALT * design.length)
        strata.append(StratumSchedule(label=label, stratum=stratum, arms=arms, salts=salts))
    return Schedule(design_commitment=commitment, strata=tuple(strata))
