"""The short form of `make soak`: two lives of a simulated multi-site study, and one through the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import simulation


@pytest.mark.requirement("A01")
@pytest.mark.requirement("A02")
@pytest.mark.requirement("U04")
@pytest.mark.parametrize("seed", [20261124, 7])
def test_a_simulated_study_ends_as_its_model_says(tmp_path: Path, seed: int) -> None:
    life = simulation.live(seed, 150, tmp_path)
    assert len(life.given) > 100 and life.events["disk lost"] + life.events["clock jumped back"] > 0


@pytest.mark.requirement("A04")
@pytest.mark.requirement("A05")
def test_commands_killed_at_any_moment_never_tell_two_arms(tmp_path: Path) -> None:
    assert simulation.live_by_commands(4, 5, tmp_path)["killed"] > 0
