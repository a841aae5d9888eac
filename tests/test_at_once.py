"""The short form of `python load/at_once.py`: many processes on two strata, with verify, log and backup beside them."""

from __future__ import annotations

import statistics

import at_once
import pytest

from support import TrialFactory


@pytest.mark.requirement("A03")
@pytest.mark.requirement("R03")
def test_many_processes_over_strata_while_others_verify_read_and_back_up(trials: TrialFactory) -> None:
    trial = at_once.build(trials, 12 * 6)
    lines = at_once.run(trial, 12, 6, beside=True)
    assert len(lines) == 12 * 6 * 2
    assert at_once.faults(trial, lines) == []
    waits = sorted(line["seconds"] for line in lines)
    assert waits[-1] <= max(10 * statistics.median(waits), 5.0)  # nobody starves: who waits stands in line
