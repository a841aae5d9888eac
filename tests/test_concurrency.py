"""Several processes on one home: nothing twice, no gap, and what was told is in the log, whatever is killed."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from allocator.errors import StorageError
from allocator.evidence import read_evidence
from allocator.verify import verify
from support import PASSPHRASE, Trial, TrialFactory, finish_worker, open_service, start_worker

WORKERS = 8


def people(count: int) -> list[str]:
    """So many participants."""
    return [f"P-{n:03d}" for n in range(1, count + 1)]


def allocated(trial: Trial) -> list[dict[str, Any]]:
    """The allocations in the log, in order, after the auditor found nothing against it."""
    with read_evidence(trial.place) as evidence:
        verdict = verify(evidence)
    assert (verdict.verdict, verdict.findings) == ("intact-local", ())
    return [dict(record.fields) for record in trial.again().history.store.records(("allocated",))]


def check_numbers(trial: Trial, count: int) -> dict[str, int]:
    """Numbers 1..count, positions 0..count-1, each participant once; returns participant -> number."""
    records = allocated(trial)
    assert [fields["number"] for fields in records] == list(range(1, count + 1))
    assert sorted(fields["position"] for fields in records) == list(range(count))
    assert len({fields["participant"] for fields in records}) == count
    return {fields["participant"]: fields["number"] for fields in records}


@pytest.mark.requirement("A03")
def test_many_processes_allocate_without_duplicate_or_gap(trials: TrialFactory) -> None:
    trial, everybody = trials(enrollment=200, length=100), people(10 * WORKERS)
    for participant in everybody:
        trial.confirm(participant)
    workers = [start_worker(trial.home, "reveal", everybody[n::WORKERS]) for n in range(WORKERS)]
    lines = [line for worker in workers for line in finish_worker(worker) if "participant" in line]
    assert {line.get("error", "busy") for line in lines} == {"busy"}
    told = {line["participant"]: line["number"] for line in lines if "number" in line}
    assert (
        len(told) >= len(everybody) // 2
    )  # a worker that waited ten seconds may give up, most of them never wait so long
    assert check_numbers(trial, len(told)) == told


@pytest.mark.requirement("A01")
def test_many_processes_ask_for_one_participant_and_get_one_answer(trial: Trial) -> None:
    trial.confirm("P-001")
    workers = [start_worker(trial.home, "reveal", ["P-001", "P-001"]) for _ in range(WORKERS)]
    lines = [line for worker in workers for line in finish_worker(worker) if "participant" in line]
    assert {line.get("number", 1) for line in lines} == {1} and any("number" in line for line in lines)
    assert len(check_numbers(trial, 1)) == 1
    shown = [line for line in lines if "number" in line]
    assert trial.kinds.count("shown-again") == len(shown) - 1


@pytest.mark.requirement("A01")
def test_ten_threads_ask_for_one_participant(trial: Trial) -> None:
    trial.confirm("P-001")
    answers: list[tuple[int, bool] | str] = []

    def ask() -> None:
        service = open_service(trial.home, trial.clock)
        try:
            actor = service.authenticate("PH", lambda: PASSPHRASE, "reveal")
            answer = service.reveal(actor, "P-001", "P-001")
            answers.append((answer.number, answer.repeated))
        except StorageError as error:
            answers.append(error.code)
        finally:
            service.close_files()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [answer for answer in answers if not isinstance(answer, str)]
    assert len(answers) == 10 and set(answers) - set(told) <= {"busy"}
    assert sorted(told) == [(1, False)] + [(1, True)] * (len(told) - 1)
    check_numbers(trial, 1)


@pytest.mark.requirement("A03")
def test_confirming_and_allocating_at_once_bind_each_position_once(trials: TrialFactory) -> None:
    trial, everybody = trials(enrollment=100, length=60), people(40)
    for participant in everybody[:20]:
        trial.confirm(participant)
    workers = [start_worker(trial.home, "confirm", everybody[20 + n :: 2]) for n in range(2)]
    workers += [start_worker(trial.home, "reveal", everybody[n:20:2]) for n in range(2)]
    lines = [line for worker in workers for line in finish_worker(worker) if "participant" in line]
    assert {line["error"] for line in lines if "error" in line} <= {"busy"}
    check_numbers(trial, sum("number" in line for line in lines))
    bound = [record.fields["position"] for record in trial.store.records(("confirmed",))]
    assert sorted(bound) == list(range(len(bound)))


@pytest.mark.requirement("A04")
def test_processes_killed_at_any_moment_lose_and_double_nothing(trials: TrialFactory) -> None:
    trial, everybody = trials(enrollment=200, length=100), people(60)
    for participant in everybody:
        trial.confirm(participant)
    drawn, told, left = random.Random(5), {}, list(everybody)
    for _ in range(15):
        worker = start_worker(trial.home, "reveal", left)
        assert worker.stdout is not None
        ready = worker.stdout.readline()
        assert "ready" in ready, ready
        time.sleep(drawn.uniform(0, 0.02))
        worker.kill()
        lines = finish_worker(worker, killed=True)
        assert all("number" in line for line in lines)
        told |= {line["participant"]: line["number"] for line in lines}
        left = [participant for participant in left if participant not in told]
    before = {fields["participant"]: fields["number"] for fields in allocated(trial)}
    assert told.items() <= before.items(), "an allocation was shown that is not in the log"
    worker = start_worker(trial.home, "reveal", everybody)
    after = {line["participant"]: line["number"] for line in finish_worker(worker) if "number" in line}
    assert before.items() <= after.items(), "an allocation changed after a crash"
    assert check_numbers(trial, len(everybody)) == after


@pytest.mark.requirement("R03")
def test_a_reader_is_never_in_the_way(trials: TrialFactory) -> None:
    trial, everybody = trials(enrollment=100, length=40), people(20)
    for participant in everybody:
        trial.confirm(participant)
    worker = start_worker(trial.home, "reveal", everybody)
    reader, seen = open_service(trial.home), [0]
    while worker.poll() is None:
        try:
            seen.append(reader.status()["allocated"])
        except StorageError as error:
            assert error.code == "busy"
    reader.close_files()
    assert [line["number"] for line in finish_worker(worker) if "number" in line] == list(range(1, 21))
    assert seen == sorted(seen)
