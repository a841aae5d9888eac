"""Orders of the steps of two and three acts at once, explored one after another: nothing twice, no gap.

Each act runs in a thread of its own, with a service of its own on one home; before each call of the store, of the lock
and of the head it stops, and a scheduler says whose turn it is. Nothing in the program knows of it. With ALLOCATOR_SOAK
set, every order with two changes of hand is explored.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from allocator.errors import AllocatorError, StorageError
from allocator.evidence import read_evidence
from allocator.service import AllocationService
from allocator.verify import verify
from support import Trial, TrialFactory, eligible_form, open_service

ALL = bool(os.environ.get("ALLOCATOR_SOAK"))
STEPS = ("append", "last")  # of a store, inside a transaction; the others are the lock, BEGIN, COMMIT and the head
Act = Callable[[AllocationService, Trial], Any]


class Scheduler:
    """Lets one thread go on at a time, as a schedule of turns says; a thread that waits for the lock lets others go."""

    def __init__(self, turns: Sequence[int], count: int) -> None:
        self._turns, self._count = list(turns), count
        self._condition = threading.Condition()
        self._ended: set[int] = set()
        self._holder: int | None = None
        self._blocked: set[int] = set()
        self._current = -1
        self.steps = 0

    def step(self, me: int) -> None:
        """Stop here until it is this thread's turn."""
        with self._condition:
            self.steps += 1
            self._choose(me)
            self._condition.wait_for(lambda: self._current == me, timeout=30)

    def start(self, me: int) -> None:
        """Wait for the first turn."""
        with self._condition:
            if self._current < 0 and me == 0:
                self._choose(me)
            self._condition.wait_for(lambda: self._current == me, timeout=30)

    def lock(self, me: int) -> None:
        """Take the writers' lock; while another has it, others go on."""
        with self._condition:
            while self._holder is not None:
                self._blocked.add(me)
                self._choose(me)
                self._condition.wait_for(lambda: self._current == me, timeout=30)
            self._blocked.discard(me)
            self._holder = me

    def unlock(self) -> None:
        """Let the lock go."""
        with self._condition:
            self._holder = None
            self._blocked.clear()

    def end(self, me: int) -> None:
        """This thread is done."""
        with self._condition:
            self._ended.add(me)
            self._choose(me)

    def _choose(self, me: int) -> None:
        ready = [n for n in range(self._count) if n not in self._ended and n not in self._blocked]
        if not ready:
            ready = [n for n in range(self._count) if n not in self._ended]
        wanted = self._turns.pop(0) if self._turns else me
        self._current = wanted if wanted in ready else (me if me in ready else (ready or [-1])[0])
        self._condition.notify_all()


def watched(service: AllocationService, scheduler: Scheduler, me: int) -> None:
    """Put the scheduler between a service and its store, lock and head."""
    store, keys = service._store, service._keys
    for name in STEPS:
        real = getattr(store, name)

        def call(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            scheduler.step(me)
            return _real(*args, **kwargs)

        setattr(store, name, call)
    transaction, write_head = store.transaction, keys.write_head

    @contextmanager
    def stepped(participant: str | None = None) -> Iterator[None]:
        scheduler.step(me)
        with transaction(participant):
            scheduler.step(me)
            yield
            scheduler.step(me)

    @contextmanager
    def locked(seconds: float = 0) -> Iterator[None]:  # noqa: ARG001 (the real one's argument)
        scheduler.step(me)
        scheduler.lock(me)
        try:
            yield
        finally:
            scheduler.unlock()
            scheduler.step(me)

    def head(seq: int, digest: bytes) -> None:
        scheduler.step(me)
        write_head(seq, digest)

    store.transaction, keys.write_head, keys.lock = stepped, head, locked  # type: ignore[method-assign,assignment]


def run(trial: Trial, acts: Sequence[Act], turns: Sequence[int]) -> tuple[list[Any], int]:
    """The acts at once under this schedule: what each gave or raised, and how many steps there were."""
    scheduler, results = Scheduler(turns, len(acts)), [None] * len(acts)

    def one(me: int, act: Act) -> None:
        service = open_service(trial.home, trial.clock)
        watched(service, scheduler, me)
        scheduler.start(me)
        try:
            results[me] = act(service, trial)
        except AllocatorError as error:
            results[me] = error  # type: ignore[call-overload]
        finally:
            scheduler.end(me)
            service.close_files()

    # sqlite3 wants a connection in the thread that made it, so each thread opens its own
    threads = [threading.Thread(target=one, args=(me, act)) for me, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), f"stuck under {turns}"
    return results, scheduler.steps


def confirm(participant: str) -> Act:
    """Confirm this participant."""
    return lambda service, trial: service.confirm(
        trial.actor("IN"), participant, eligible_form(participant, trial.clock.now), {}
    )


def reveal(participant: str) -> Act:
    """Ask for this participant."""
    return lambda service, trial: service.reveal(trial.actor("PH"), participant, participant)


def check(trial: Trial, results: Sequence[Any], turns: Sequence[int]) -> None:
    """No duplicate, no gap, no error but a refusal that says why, and every rule kept."""
    for result in results:
        assert not isinstance(result, StorageError) or result.code == "busy", (turns, result)
    with read_evidence(trial.place) as evidence:
        verdict = verify(evidence)
    assert (verdict.verdict, verdict.findings) == ("intact-local", ()), turns
    service = open_service(trial.home, trial.clock)
    records = [record.fields for record in service.records()]
    service.close_files()
    allocated = [fields for fields in records if fields["kind"] == "allocated"]
    assert [fields["number"] for fields in allocated] == list(range(1, len(allocated) + 1)), turns
    assert len({fields["participant"] for fields in allocated}) == len(allocated), turns
    bound = {f["participant"]: f["position"] for f in records if f["kind"] == "confirmed"}
    assert sorted(bound.values()) == list(range(len(bound))), turns


def schedules(count: int, steps: int, changes: int) -> Iterator[list[int]]:
    """Every schedule of so many steps that changes hands at most `changes` times, whoever begins."""
    for number in range(changes + 1):
        for places in combinations(range(1, steps), number):
            for first in range(count):
                turns, current = [], first
                for at in range(steps):
                    current = (current + 1) % count if at in places else current
                    turns.append(current)
                yield turns


PAIRS = {
    "two confirm": (confirm("P-002"), confirm("P-003")),
    "two reveal": (reveal("P-001"), reveal("P-004")),
    "one twice": (reveal("P-001"), reveal("P-001")),
    "one confirms, one reveals": (confirm("P-002"), reveal("P-001")),
    "confirm again and reveal": (confirm("P-001"), reveal("P-001")),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Trial]]:
    """Copies of a home in which P-001 and P-004 are confirmed."""
    folder = tmp_path_factory.mktemp("interleavings")
    (folder / "homes").mkdir()
    factory = TrialFactory(folder / "templates", folder / "homes", {})
    base = factory()
    base.confirm("P-001")
    base.confirm("P-004")
    base.close()
    count = iter(range(10**6))

    def new() -> Trial:
        home = Path(shutil.copytree(base.home, folder / f"home-{next(count)}"))
        return Trial(home=home, service=base.service, actors=base.actors, clock=base.clock)

    yield new


def explore(new: Callable[[], Trial], acts: Sequence[Act], changes: int, every: int) -> int:
    """Run the acts under the schedules; returns how many."""
    trial = new()
    _, steps = run(trial, acts, [])
    explored = 0
    for number, turns in enumerate(schedules(len(acts), min(steps, 40), changes)):
        if number % every:
            continue
        trial = new()
        results, _ = run(trial, acts, turns)
        check(trial, results, turns)
        shutil.rmtree(trial.home)
        explored += 1
    return explored


@pytest.mark.requirement("A03")
@pytest.mark.parametrize("name", PAIRS)
def test_two_at_once_in_every_order_with_one_change_of_hand_and_a_part_of_those_with_two(
    template: Callable[[], Trial], name: str
) -> None:
    assert explore(template, PAIRS[name], changes=1, every=1) >= 40
    assert explore(template, PAIRS[name], changes=2, every=1 if ALL else 12) >= 60


@pytest.mark.requirement("A03")
def test_three_at_once(template: Callable[[], Trial]) -> None:
    assert (
        explore(template, (confirm("P-002"), reveal("P-001"), reveal("P-004")), changes=2, every=1 if ALL else 40) >= 50
    )


def test_the_schedules_do_change_what_happens_first(template: Callable[[], Trial]) -> None:
    """A scheduler that changed nothing would prove nothing."""
    orders = set()
    for turns in ([0] * 60, [1] * 60):
        trial = template()
        run(trial, PAIRS["two reveal"], turns)
        service = open_service(trial.home, trial.clock)
        orders.add(tuple(r.fields["participant"] for r in service.records() if r.kind == "allocated"))
        service.close_files()
    assert orders == {("P-001", "P-004"), ("P-004", "P-001")}
