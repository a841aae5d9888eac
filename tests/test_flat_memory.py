"""Verification of a long log: memory that does not grow with it, and the same findings whatever its length."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from allocator import first_findings, remembered, replay, scratch_store
from allocator.chain import Chain, follow_links
from allocator.errors import EvidenceError, StorageError
from allocator.evidence import read_evidence
from allocator.first_findings import FirstFindings
from allocator.home import StudyPlace
from allocator.log import GENESIS, Record, link
from allocator.memory_store import MemoryStore
from allocator.packed_schedule import read_packed
from allocator.replay import Replay, Submit
from allocator.scratch_store import ScratchStore
from allocator.sealing import SealedSchedule
from allocator.store import Store
from allocator.verdict import Evidence, Finding, Row
from support import Trial, TrialFactory
from test_stores import next_record

# ---- the scratch store ----------------------------------------------------------------------------------------------


@pytest.fixture
def scratch() -> Iterator[ScratchStore]:
    """An empty one."""
    with scratch_store.scratch_store() as store:
        yield store


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to nothing is kept in memory, so that answers come from the file."""
    monkeypatch.setattr(remembered, "_MOST_BYTES", 1_200)
    monkeypatch.setattr(remembered, "_MOST_OWNERS", 2)


def answers(store: Store, people: list[str], labels: list[str]) -> list[Any]:
    """What a store says to every question that rules ask."""
    kinds: list[tuple[str, ...]] = [("paused",), ("looked-up",), ("allocated",), ("allocated", "looked-up", "paused")]
    found: list[Record | None] = [store.last(), *(store.record(seq) for seq in range(-1, 60))]
    for asked in kinds:
        found.append(store.newest(asked))
        found += [store.newest(asked, participant=person) for person in people]
        found += [store.newest(asked, stratum=label, position=at) for label in labels for at in range(3)]
        found += store.records(asked, since=20)
        found += store.records(asked, participant=people[0])
    return [record and (record.hash, record.fields) for record in found]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("forgetful")
def test_it_answers_from_its_file_what_a_store_in_memory_answers(scratch: ScratchStore, seed: int) -> None:
    draw, memory = random.Random(seed), MemoryStore()
    people, strata = ["P-001", "P-002", "P-003"], [{}, {"site": "A"}, {"site": "B"}]
    labels = ["{}", '{"site":"A"}', '{"site":"B"}']
    for _ in range(50):
        kind = draw.choice(["paused", "looked-up", "allocated"])
        place = {"stratum": draw.choice(strata), "position": draw.randrange(3)} if kind == "allocated" else {}
        own = {} if kind == "paused" else {"participant": draw.choice(people), **place}
        record = next_record(memory, kind, **own)
        memory.append(record, {}), scratch.append(record, {})
        if draw.random() < 0.3:  # what was asked before an append must not be stale after it
            assert answers(scratch, people, labels) == answers(memory, people, labels)
    assert answers(scratch, people, labels) == answers(memory, people, labels)
    assert len(scratch._remembered._of_owner) <= 2 and len(scratch._remembered._recent) < 5


def test_only_what_links_to_the_last_record_is_appended_to_it(scratch: ScratchStore) -> None:
    first = next_record(scratch)
    scratch.append(first, {})
    with pytest.raises(RuntimeError):
        scratch.append(first, {})
    assert list(scratch.records()) == [first]


def test_it_keeps_no_private_detail_and_cannot_be_rolled_back(scratch: ScratchStore) -> None:
    scratch.append(next_record(scratch), {})
    with pytest.raises(RuntimeError, match="private details"):
        scratch.details(0)
    with pytest.raises(KeyError), scratch.transaction():
        raise KeyError
    with pytest.raises(StorageError, match="closed"):
        scratch.append(next_record(scratch), {})


def test_its_folder_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_store.scratch_store() as store:
        store.append(next_record(store), {})
        folder = next(tmp_path.iterdir())
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


# ---- the replay -----------------------------------------------------------------------------------------------------


def replayed(trial: Trial, store: Store, submit: Submit | None = None) -> tuple[list[Finding], int]:
    """The findings of a replay of the trial's log, and how many more there are."""
    with read_evidence(trial.place) as evidence:
        return _replayed(evidence, store, submit)


def _replayed(evidence: Evidence, store: Store, submit: Submit | None) -> tuple[list[Finding], int]:
    assert evidence.study is not None
    run = Replay(study=evidence.study, store=store, sealed_files=evidence.sealed_files, submit=submit)
    for row in evidence.rows:
        if not run.take(row):
            break
    return run.finish(), run.left_out


def at_once(worker: Any, jobs: list[Any]) -> Callable[[], list[tuple[int, str]]]:
    """A submit without processes."""
    return lambda: worker(jobs)


def edit(place: StudyPlace, statement: str) -> None:
    """Change a log as whoever has the file can."""
    with closing(sqlite3.connect(place.log_file)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        connection.commit()


@pytest.fixture
def long_trial(trials: TrialFactory) -> Trial:
    """Thirty participants, each confirmed and allocated."""
    trial = trials(length=30, enrollment=30)
    trial.allocate(*(f"P-{number:03d}" for number in range(1, 31)))
    return trial


@pytest.mark.requirement("L02")
@pytest.mark.usefixtures("forgetful")
def test_a_log_keeps_the_rules_by_a_scratch_store_too(long_trial: Trial, scratch: ScratchStore) -> None:
    assert replayed(long_trial, scratch) == ([], 0)
    assert scratch.last() == long_trial.last


@pytest.mark.requirement("L02")
@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("statement", [
    "UPDATE record SET participant = 'P-099' WHERE kind = 'confirmed'",
    "UPDATE detail SET value = 'changed' WHERE field = 'answers'",
    "UPDATE record SET body = replace(body, '\"number\":7,', '\"number\":8,')",
])  # fmt: skip
@pytest.mark.parametrize("submit", [None, at_once])
def test_the_findings_are_those_of_a_replay_in_memory(
    long_trial: Trial, scratch: ScratchStore, statement: str, submit: Submit | None
) -> None:
    edit(long_trial.place, statement)
    findings, left_out = replayed(long_trial, MemoryStore())
    assert findings and (findings, left_out) == replayed(long_trial, scratch, submit)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("submit", [None, at_once])
def test_of_a_log_wrong_at_every_record_the_first_findings_are_kept_and_all_counted(
    long_trial: Trial, monkeypatch: pytest.MonkeyPatch, submit: Submit | None
) -> None:
    edit(long_trial.place, "UPDATE detail SET value = 'changed'")
    everything, none = replayed(long_trial, MemoryStore(), submit)
    monkeypatch.setattr(first_findings, "MOST_FINDINGS", 7)
    first, others = replayed(long_trial, MemoryStore(), submit)
    assert none == 0 and first == everything[:7] and others == len(everything) - 7 > 20


@pytest.mark.requirement("L02")
def test_findings_are_in_order_of_records_and_checks_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_findings, "MOST_FINDINGS", 10)
    places = [(seq, check) for seq in (None, *range(30)) for check in ("07 columns", "16 signature")]
    random.Random(1).shuffle(places)
    kept = FirstFindings()
    for seq, check in places:
        kept.add(Finding(check=check, seq=seq, message=""))
    expected = [(seq, check) for seq in (None, 0, 1, 2, 3) for check in ("07 columns", "16 signature")]
    assert [(finding.seq, finding.check) for finding in kept.first()] == expected
    assert kept.left_out == len(places) - 10


@pytest.mark.requirement("L02")
def test_only_so_many_batches_wait_for_other_processes(long_trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH", 2)
    monkeypatch.setattr(replay, "BACKLOG", 3)
    waiting: dict[Any, int] = {}
    most = done = 0

    def submit(worker: Any, jobs: list[Any]) -> Callable[[], list[tuple[int, str]]]:
        nonlocal most
        name = getattr(worker, "func", worker)
        waiting[name] = waiting.get(name, 0) + 1
        most = max(most, waiting[name])

        def result() -> list[tuple[int, str]]:
            nonlocal done
            waiting[name] -= 1
            done += len(jobs)
            return list(worker(jobs))

        return result

    assert replayed(long_trial, MemoryStore(), submit) == ([], 0)
    signed = sum("signature" in record.fields for record in long_trial.records)
    assert most == 4 and done == signed + 30 and set(waiting.values()) == {0}


def test_long_jobs_are_handed_over_before_there_are_many(long_trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH_BYTES", 4_000)
    sizes: list[int] = []

    def submit(worker: Any, jobs: list[Any]) -> Callable[[], list[tuple[int, str]]]:
        sizes.append(sum(len(part) for job in jobs for part in job if isinstance(part, bytes | str)))
        return at_once(worker, jobs)

    assert replayed(long_trial, MemoryStore(), submit) == ([], 0)
    assert len(sizes) > 5 and max(sizes) < 8_000


@pytest.mark.requirement("L02")
def test_a_scratch_file_that_fails_says_nothing_of_the_log(long_trial: Trial, scratch: ScratchStore) -> None:
    scratch._connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StorageError, match="full") as failure:
        replayed(long_trial, scratch)
    assert failure.value.code == "scratch" and "nothing of the log" in failure.value.hint


class Failing(MemoryStore):
    """A store whose questions fail once it is told so."""

    failing = False

    def newest(self, *given: Any, **asked: Any) -> Record | None:
        """Fails, or answers."""
        if self.failing:
            raise StorageError("scratch", "disk I/O error")
        return super().newest(*given, **asked)


def test_a_question_that_fails_is_no_finding_either(long_trial: Trial) -> None:
    store = Failing()
    with read_evidence(long_trial.place) as evidence:
        assert evidence.study is not None
        run = Replay(study=evidence.study, store=store, sealed_files=evidence.sealed_files, submit=None)
        rows = iter(evidence.rows)
        assert run.take(next(rows))
        store.failing = True
        with pytest.raises(StorageError):
            run.take(next(rows))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("when", ["handed over", "taken back"])
def test_a_process_that_was_killed_is_no_finding(long_trial: Trial, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr(replay, "BATCH", 2)
    monkeypatch.setattr(replay, "BACKLOG", 1)

    def broken() -> list[tuple[int, str]]:
        raise RuntimeError("terminated abruptly")

    def submit(*_: Any) -> Callable[[], list[tuple[int, str]]]:
        if when == "handed over":
            broken()
        return broken

    with pytest.raises(StorageError, match="terminated abruptly") as failure:
        replayed(long_trial, MemoryStore(), submit)
    assert failure.value.code == "processes" and "nothing of the log" in failure.value.hint


@pytest.mark.requirement("L02")
def test_what_a_finding_says_of_a_column_is_short(long_trial: Trial) -> None:
    with read_evidence(long_trial.place) as evidence:
        assert evidence.study is not None
        run = Replay(study=evidence.study, store=MemoryStore(), sealed_files=evidence.sealed_files, submit=None)
        row: Row = next(iter(evidence.rows))
        run.take(row._replace(columns=("x" * 1_000_000, b"y" * 1_000_000, 1.5, 2**60)))
    found = next(finding for finding in run.finish() if finding.check == "07 columns").found
    assert found[0] == "x" * 500 and len(str(found)) < 1_000 and found[2:] == ["1.5", 2**60]


@pytest.mark.requirement("L02")
def test_memory_does_not_grow_with_the_log(trials: TrialFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_MOST_BYTES", 20_000)
    monkeypatch.setattr(remembered, "_MOST_OWNERS", 16)
    monkeypatch.setattr(replay, "BATCH", 8)
    monkeypatch.setattr(first_findings, "MOST_FINDINGS", 5)
    trial = trials(length=120, enrollment=120)
    peaks = []
    for last in (20, 40, 120):
        first = trial.service.history.allocated + 1
        trial.allocate(*(f"P-{number:03d}" for number in range(first, last + 1)))
        with read_evidence(trial.place) as evidence, scratch_store.scratch_store() as store:
            wrong = replace(evidence, rows=(row._replace(columns=(None,) * 4) for row in evidence.rows))
            tracemalloc.start()
            findings, left_out = _replayed(wrong, store, at_once)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert len(findings) == 5 and left_out >= 2 * last
    # the 160 records of 80 further participants, parsed, would need a megabyte; Python keeps some freed tuples
    assert peaks[2] - peaks[1] < 150_000, peaks


# ---- entries that stay in the bytes of their file -------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["one stratum", "two strata"])
def sealed_bytes(request: pytest.FixtureRequest, trials: TrialFactory) -> bytes:
    """A sealed.json."""
    return trials("sealed", stratified=request.param).place.sealed_file.read_bytes()


@pytest.mark.requirement("C06")
def test_a_packed_schedule_is_the_schedule(sealed_bytes: bytes) -> None:
    packed, plain = read_packed(sealed_bytes), SealedSchedule.from_bytes(sealed_bytes)
    assert packed == plain and packed.to_bytes() == sealed_bytes
    for ours, theirs in zip(packed.strata, plain.strata, strict=True):
        assert type(ours.entries) is not tuple and hash(ours.entries) == hash(theirs.entries)
        assert [ours.entries[at] for at in range(len(ours.entries))] == list(theirs.entries)
        assert (ours.entries[-1], ours.entries[3:7]) == (theirs.entries[-1], theirs.entries[3:7])
        with pytest.raises(IndexError):
            _ = ours.entries[len(ours.entries)]


def outcome(read: Callable[[bytes], SealedSchedule], data: bytes) -> SealedSchedule | str:
    """The schedule, or what is said against it."""
    try:
        return read(data)
    except EvidenceError as error:
        return error.message


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_bytes_packed_and_plain_say_the_same(sealed_bytes: bytes, seed: int) -> None:
    draw = random.Random(seed)
    pieces = [
        b'"',
        b",",
        b"]",
        b"[",
        b"\\",
        b"=",
        b"A",
        b"\xc3\xa4",
        b'","',
        b'"entries":[',
        b'"entries":[]',
        b"{}",
        b" ",
    ]
    for _ in range(300):
        at = draw.randrange(len(sealed_bytes))
        cut = at + draw.choice([0, 0, 1, 1, 2, 127, 130])
        data = sealed_bytes[:at] + draw.choice([b"", *pieces]) + sealed_bytes[cut:]
        assert outcome(read_packed, data) == outcome(SealedSchedule.from_bytes, data)


@pytest.mark.requirement("C06")
def test_entries_elsewhere_are_not_taken_for_those_of_a_stratum(sealed_bytes: bytes) -> None:
    hidden = sealed_bytes.replace(b'"stratum":{', b'"stratum":{"entries":["%s"],' % (b"A" * 124), 1)
    hidden = hidden.replace(b"],}", b"]}")
    for data in (hidden, sealed_bytes.replace(b'"keys":{', b'"keys":{"entries":[],', 1)):
        assert outcome(read_packed, data) == outcome(SealedSchedule.from_bytes, data)


# ---- the chain pass -------------------------------------------------------------------------------------------------


@pytest.fixture
def links(trial: Trial) -> list[tuple[int, Any, Any]]:
    """Place, prev and body of each row of a short log."""
    trial.allocate("P-001", "P-002")
    return [(row.seq, row.prev, row.body) for row in trial.store.rows(0)]


@pytest.mark.requirement("L02")
def test_the_chain_is_followed_to_its_end(links: list[tuple[int, Any, Any]], trial: Trial) -> None:
    assert follow_links(links) == Chain(len(links), len(links), trial.last.hash, None)
    assert follow_links([]) == Chain(0, 0, GENESIS, None)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("change", ["prev", "body", "no prev", "text", "nothing"])
def test_it_ends_where_a_row_does_not_link(links: list[tuple[int, Any, Any]], change: str) -> None:
    place, prev, body = links[5]
    links[5] = {
        "prev": (place, bytes(32), body),
        "body": (place, prev, body.replace(b"test", b"tost")),
        "no prev": (place, None, body),
        "text": (place, prev, body.decode()),
        "nothing": (place, prev, None),
    }[change]
    linked = 6 if change == "body" else 5  # a changed body shows in the row after it
    chain = follow_links(links)
    assert (chain.rows, chain.records, chain.after_gap) == (len(links), linked, None)
    assert chain.head == link(*links[linked - 1][1:])


@pytest.mark.requirement("L03")
@pytest.mark.parametrize(("first", "found"), [(0, 6), (-1, -1)])
def test_it_ends_at_a_gap(links: list[tuple[int, Any, Any]], first: int, found: int) -> None:
    gap = [(-1, GENESIS, b""), *links] if first < 0 else links[:5] + links[6:]
    rows = 0 if first < 0 else 5
    assert follow_links(gap)[:2] == (rows, rows) and follow_links(gap).after_gap == found
