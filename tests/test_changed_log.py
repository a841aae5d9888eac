"""What somebody with the files can change, and that nothing new is ever allocated on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from allocator.errors import AllocatorError, EvidenceError
from allocator.store import Stored
from attacks import edit
from support import Trial, TrialFactory, eligible_form

RENAMED = """UPDATE record SET body = replace(body, 'P-002', 'P-777'), participant = 'P-777'
WHERE kind = 'confirmed' AND participant = 'P-002'"""
UNPAUSED = """UPDATE record SET body = replace(body, '"kind":"paused"', '"kind":"log-read"'), kind = 'log-read'
WHERE kind = 'paused'"""
READDRESSED = "UPDATE record SET participant = 'P-777' WHERE kind = 'confirmation-withdrawn'"
SWAPPED = """UPDATE record SET body = CASE participant WHEN 'P-002' THEN replace(body, 'P-002', 'P-003')
ELSE replace(body, 'P-003', 'P-002') END, participant = CASE participant WHEN 'P-002' THEN 'P-003' ELSE 'P-002' END
WHERE kind = 'confirmed' AND participant IN ('P-002', 'P-003')"""
HIDDEN = "UPDATE record SET participant = 'P-777', position = 9 WHERE kind = 'allocated' AND participant = 'P-001'"


@pytest.fixture
def told(trials: TrialFactory) -> Trial:
    """P-001 is allocated, P-002 and P-003 wait, P-004 is withdrawn."""
    trial = trials()
    trial.allocate("P-001")
    for participant in ("P-002", "P-003", "P-004"):
        trial.confirm(participant)
    trial.service.withdraw(trial.actor("IN"), "P-004", "moved away")
    trial.confirm("P-005")
    return trial


CHANGES: dict[str, tuple[str, str]] = {
    "another participant put into a confirmation": (RENAMED, "P-777"),
    "a withdrawal turned to another participant": (READDRESSED, "P-004"),
    "two waiting participants exchanged": (SWAPPED, "P-002"),
    "an allocation hidden": (HIDDEN, "P-001"),
}


@pytest.mark.requirement("A01")
@pytest.mark.requirement("E01")
@pytest.mark.parametrize(("sql", "participant"), CHANGES.values(), ids=CHANGES.keys())
def test_nothing_is_allocated_on_a_changed_record(told: Trial, sql: str, participant: str) -> None:
    allocated = _kinds(told).count("allocated")
    edit(told.home, sql)
    told.again()
    with pytest.raises(AllocatorError) as refusal:
        told.reveal(participant)
    assert refusal.value.code in ("log-changed", "log-damaged", "already-allocated")
    assert _kinds(told).count("allocated") == allocated


def _kinds(trial: Trial) -> list[str]:
    return [row.kind for row in trial.store.rows(0)]


@pytest.mark.requirement("A07")
def test_a_pause_taken_out_of_the_log_lets_nobody_through(told: Trial) -> None:
    told.service.change_state(told.actor("SP"), "paused", "a safety signal")
    edit(told.home, UNPAUSED)
    told.again()
    with pytest.raises(AllocatorError):
        told.reveal("P-002")


@pytest.mark.requirement("E04")
@pytest.mark.parametrize(
    "sql",
    [
        """UPDATE detail SET value = replace(value, '"45"', '"99"') WHERE field = 'answers'""",
        "UPDATE detail SET value = '{}' WHERE field = 'answers'",
        "DELETE FROM detail WHERE field = 'answers'",
    ],
)
def test_no_arm_on_answers_that_were_changed_or_taken_away(told: Trial, sql: str) -> None:
    told.confirm("P-012", eligible_form("P-001", told.clock.now))
    edit(told.home, sql)
    told.again()
    with pytest.raises(EvidenceError) as refusal:
        told.reveal("P-012")
    assert refusal.value.code in ("detail-changed", "answers-missing")


@pytest.mark.requirement("A04")
def test_a_name_taken_away_fails_nothing_after_the_commit(told: Trial) -> None:
    edit(told.home, "DELETE FROM detail WHERE field = 'name'")
    told.again()
    told.reveal("P-002")
    assert told.service.name_of("PH") == "PH (name removed)"


@pytest.mark.requirement("U01")
def test_an_emergency_unblinding_does_not_wait_for_a_mended_log(told: Trial) -> None:
    edit(told.home, RENAMED)
    told.again()
    assert told.service.unblind(told.actor("PH"), "P-001", "overdose").participant == "P-001"


@pytest.mark.requirement("L02")
def test_a_log_written_by_another_process_is_followed_from_where_it_was_left(told: Trial) -> None:
    first, second = told.service, told.again()
    assert second.reveal(told.actor("PH"), "P-002", "P-002").number == 2
    assert first.reveal(told.actor("PH"), "P-003", "P-003").number == 3
    edit(told.home, """UPDATE record SET body = replace(body, '"number":2', '"number":9') WHERE kind = 'allocated'""")
    with pytest.raises(EvidenceError):
        second.reveal(told.actor("PH"), "P-005", "P-005")


@pytest.mark.requirement("A03")
def test_the_log_is_followed_before_others_are_kept_waiting(told: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    service, locked, read = told.again(), [False], []
    lock, rows = service._keys.lock, service._store.rows

    @contextmanager
    def watched_lock() -> Iterator[None]:
        with lock():
            locked[0] = True
            yield
            locked[0] = False

    def watched_rows(since: int) -> Iterator[Stored]:
        read.append((since, locked[0]))
        return rows(since)

    monkeypatch.setattr(service._keys, "lock", watched_lock)
    monkeypatch.setattr(service._store, "rows", watched_rows)
    told.reveal("P-002")
    assert read[0] == (0, False) and (0, True) not in read
    assert any(since > 0 and held for since, held in read)  # what came since, in one's turn
