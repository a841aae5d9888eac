"""The schedule: one list a stratum, from the seed and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from allocator.design import RandomizationDesign, design_commitment
from allocator.keystream import keystream_bytes, pseudorandom_key, stream_key
from allocator.permuted_block import draw_stratum
from allocator.schedule import Schedule, generate_schedule
from support import design, study

SHARES = [bytes([1]) * 32, bytes([2]) * 32]
SALT = bytes([3]) * 32


def generate(how: RandomizationDesign | None = None, stratified: bool = False, **variant: int) -> Schedule:
    """A schedule from fixed shares."""
    return generate_schedule(study(stratified=stratified, **variant), how or design(), SALT, SHARES)


@pytest.mark.requirement("G01")
def test_the_same_seed_gives_the_same_schedule() -> None:
    assert generate() == generate()


@pytest.mark.requirement("G01")
@pytest.mark.parametrize("position", [0, 1, 19])
def test_a_schedule_is_rebuilt_from_its_parts(position: int) -> None:
    schedule, the_study = generate(), study()
    commitment = design_commitment(design(), SALT)
    prk = pseudorandom_key(the_study.fingerprint, commitment, SHARES)
    [stratum] = schedule.strata
    assert schedule.design_commitment == commitment
    assert stratum.arms == draw_stratum(prk, "{}", (1, 1), (4, 6), 20)
    assert stratum.salt(position) == keystream_bytes(stream_key(prk, "salt", "{}"), 32 * position, 32)


def test_every_stratum_has_its_own_list_of_the_full_length() -> None:
    first, second = generate(stratified=True).strata
    assert (first.label, second.label) == ('{"site":"A"}', '{"site":"B"}')
    assert (first.stratum, second.stratum) == ({"site": "A"}, {"site": "B"})
    assert len(first.arms) == len(second.arms) == 20
    assert first.arms != second.arms and first.salts != second.salts


def test_no_two_salts_are_equal() -> None:
    salts = [s.salt(position) for s in generate(stratified=True).strata for position in range(20)]
    assert len(set(salts)) == 40 and {len(salt) for salt in salts} == {32}


@pytest.mark.parametrize("share", [0, 1])
def test_each_share_of_the_seed_moves_the_list(share: int) -> None:
    shares = list(SHARES)
    shares[share] = bytes([9]) * 32
    long = design(length=200)
    other = generate_schedule(study(), long, SALT, shares)
    assert other.strata[0].arms != generate(long).strata[0].arms


def test_another_study_or_design_gives_an_unrelated_list_from_the_same_seed() -> None:
    long = design(length=200)
    arms = {
        generate(long).strata[0].arms,
        generate(long, enrollment=11).strata[0].arms,
        generate(replace(long, length=202)).strata[0].arms[:200],
        generate(replace(long, block_sizes=(4,))).strata[0].arms,
        generate_schedule(study(), long, bytes(32), SHARES).strata[0].arms,
    }
    assert len(arms) == 5


def test_a_ratio_in_another_order_than_the_arms_is_our_own_mistake() -> None:
    how = replace(design(), ratio=(("GCV", 1), ("IL2-GCV", 1)))
    with pytest.raises(RuntimeError):
        generate(how)
    assert how.for_study(study()) == design()


def test_arms_do_not_show_in_what_is_printed() -> None:
    schedule = generate()
    assert "arms" not in repr(schedule) and "salts" not in repr(schedule)
    assert repr(schedule.strata[0].arms) not in repr(schedule)
