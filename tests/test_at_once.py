"""The short form of `python load/at_once.py`: many processes on two strata, with verify, log and backup beside them."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import at_faults
import at_once
import pytest


@pytest.mark.requirement("A03")
@pytest.mark.requirement("R03")
def test_many_processes_over_strata_while_others_verify_follow_and_back_up(tmp_path: Path) -> None:
    load = at_once.build(tmp_path, processes=12, each=6, pairs=6)
    told = at_once.run(load)
    assert at_faults.faults(load, told) == []
    assert told.turns["verify"] and told.turns["backup"] and told.turns["log followed"] == 1
    waits = sorted(line["seconds"] for line in told.acts)
    assert waits[-1] <= max(10 * statistics.median(waits), 5.0)  # nobody starves: who waits stands in line

    # whoever looks for faults sees one: an answer changed, one not in the log, one lost, an error
    confirmed, revealed, *others = told.acts
    for wrong in ({"arm": "other"}, {"number": 0}, {"repeated": True}, {"hash": ""}):
        assert at_faults.faults(load, dataclasses.replace(told, acts=[confirmed, revealed | wrong, *others])), wrong
    assert at_faults.faults(load, dataclasses.replace(told, acts=[revealed, *others]))
    unknown = dataclasses.replace(told, acts=[confirmed | {"errors": ["unknown"]}, revealed, *others])
    assert at_faults.faults(load, unknown) == ["errors ['unknown']"]
