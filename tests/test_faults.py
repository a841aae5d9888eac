"""The short form of `make faults`: one call of each sort and file failed or killed, and the conditions of the place."""

from __future__ import annotations

import os
import random

import pytest
from acts import ACTS, Sites
from calls import Call, available, calls_of, faults_of, try_fault
from conditions import CONDITIONS, try_condition

SLOW = {"terminal dies", "lock held by a stopped process"}
needs_strace = pytest.mark.skipif(
    not available() and os.environ.get("ALLOCATOR_REQUIRE") != "all", reason="strace is not installed"
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    """Copies of one home, ready for both acts."""
    return Sites(tmp_path_factory.mktemp("faults"))


@needs_strace
@pytest.mark.requirement("A04")
@pytest.mark.requirement("A05")
@pytest.mark.parametrize("act", ACTS)
def test_no_call_that_fails_or_is_the_last_one_breaks_a_promise(sites: Sites, act: str) -> None:
    """One call of each sort and file, with two of its faults; `make faults` tries every call with every one."""
    calls = calls_of(sites.new(), act)
    first: dict[tuple[str, str], Call] = {}
    for call in calls:
        first.setdefault((call.sort, call.file), call)
    assert {"open", "write", "sync", "name", "lock"} <= {sort for sort, _ in first}
    assert {"schedules/log.sqlite3", "schedules/log.sqlite3-journal", "keys/head"} <= {file for _, file in first}
    for number, call in enumerate(first.values()):
        faults = list(faults_of(call))
        for fault in {faults[number % len(faults)], random.Random(number).choice(faults)}:
            row = try_fault(sites, act, call, fault)
            assert row.outcome.broken == (), f"{fault} at {call}"


@needs_strace
@pytest.mark.requirement("A04")
def test_a_failed_sync_after_the_commit_is_unknown_and_asking_again_tells(sites: Sites) -> None:
    syncs = [call for call in calls_of(sites.new(), "reveal") if call.sort == "sync" and call.file == "schedules/"]
    row = try_fault(sites, "reveal", syncs[-1], "EIO")
    assert (row.outcome.seen, row.outcome.logged, row.outcome.after) == ("exit 5 unknown", "recorded", "shown again")
    assert row.outcome.broken == ()


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("name", [name for name in CONDITIONS if name not in SLOW])
def test_no_condition_of_the_place_breaks_a_promise(sites: Sites, name: str, act: str) -> None:
    outcome = try_condition(sites, act, name)
    if outcome is None:
        assert name in ("disk full", "disk read-only")  # mounting a disk needs rights that a test may not have
        return
    assert outcome.broken == ()
