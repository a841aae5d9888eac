"""What the processes of `at_once.py` do: confirm and reveal, ask when told to, or look on again and again.

`python load/at_work.py work HOME STUDY WORKER EACH`: participants of its own, one after another, once a line came.
`python load/at_work.py ask HOME STUDY PERSON`: the participant on each line of the input.
`python load/at_work.py verify|backup HOME STUDY…`: the studies in turn, until SIGTERM.
Each prints one JSON object a line; an act's line is printed after the act returned, so a line is a promise.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from allocator.errors import StorageError  # noqa: E402
from allocator.home import study_place  # noqa: E402
from allocator.keys import ONLY_FOR_TESTS  # noqa: E402
from allocator.log import Record  # noqa: E402
from allocator.service import Allocation, AllocationService  # noqa: E402
from allocator.session import system_clock  # noqa: E402
from support import PASSPHRASE, eligible_form  # noqa: E402

SITES = ("A", "B")
TRIES = 5  # of one act, while the answer is "busy"
PAUSE = 0.3  # seconds between two turns of who looks on


def participant(worker: int, number: int) -> str:
    """An id of this worker's own."""
    return f"P-{worker:03d}{number:03d}"


def opened(home: Path, study: str) -> AllocationService:
    """The service of this study; close its files."""
    return AllocationService.open(study_place(home, study), stretching=ONLY_FOR_TESTS, clock=system_clock)


def tried(asked: Callable[[], Any], /, **told: Any) -> dict[str, Any]:
    """An act, again while the log is busy: what it gave, or the code of its error, and how long all of it took."""
    started = time.perf_counter()
    for attempt in range(TRIES):
        try:
            told |= given(asked()) | {"tries": attempt + 1, "done": True}
        except StorageError as error:
            told["errors"] = [*told.get("errors", []), error.code]
            if error.code == "busy":
                continue
        break
    return told | {"seconds": time.perf_counter() - started}


def given(answer: Allocation | tuple[Record, object]) -> dict[str, Any]:
    """What the log must hold as well."""
    if isinstance(answer, Allocation):
        told = {"number": answer.number, "position": answer.record.fields["position"], "arm": answer.arm.code}
        return told | {"hash": answer.record.hash.hex(), "repeated": answer.repeated}
    return {"hash": answer[0].hash.hex(), "position": answer[0].fields["position"]}


def confirm(service: AllocationService, actor: Any, who: str, site: str) -> dict[str, Any]:
    """Confirm a participant of this site."""
    form = eligible_form("P-001", system_clock())
    return tried(
        lambda: service.confirm(actor, who, form, {"site": site}),
        study=service.study.id,
        participant=who,
        act="confirm",
    )


def reveal(service: AllocationService, actor: Any, who: str) -> dict[str, Any]:
    """Ask for a participant."""
    return tried(
        lambda: service.reveal(actor, who, who),
        study=service.study.id,
        participant=who,
        act="reveal",
        by=actor.person,
    )


def work(home: Path, study: str, worker: int, each: int) -> None:
    """One process: its participants, one after another, each act timed."""
    service = opened(home, study)
    actors = {who: service.authenticate(who, lambda: PASSPHRASE, "load") for who in ("IN", "PH")}
    print(json.dumps({"ready": worker}), flush=True)
    sys.stdin.readline()
    for number in range(each):
        who = participant(worker, number)
        print(json.dumps(confirm(service, actors["IN"], who, SITES[number % 2])), flush=True)
        print(json.dumps(reveal(service, actors["PH"], who)), flush=True)
    service.close_files()


def ask(home: Path, study: str, person: str) -> None:
    """Ask for each participant at the moment the line comes."""
    service = opened(home, study)
    actor = service.authenticate(person, lambda: PASSPHRASE, "load")
    print(json.dumps({"ready": person}), flush=True)
    for line in sys.stdin:
        print(json.dumps(reveal(service, actor, line.strip())), flush=True)
    service.close_files()


def stand_beside(kind: str, home: Path, studies: Sequence[str]) -> None:
    """Verify or back up one study after another; {"found": …} ends it when something does not hold."""
    asked = list[bool]()
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE}
    turn = 0
    while not asked:
        study = studies[turn % len(studies)]
        command = [sys.executable, "-m", "allocator", "--home", str(home), "--study", study, "--json"]
        with tempfile.TemporaryDirectory() as folder:
            own = {"verify": ["verify", "--jobs", "1"], "backup": ["--as", "SP", "backup", f"{folder}/b.tar"]}[kind]
            # in a session of its own, so that Ctrl-C reaches this process only, which ends after its turn
            done = subprocess.run(
                [*command, *own], capture_output=True, text=True, env=environment, start_new_session=True
            )
        said = json.loads(done.stdout or "{}") if "Traceback" not in done.stderr else {}
        code = said.get("error", {}).get("code")
        if done.returncode and code != "busy":
            print(json.dumps({"found": f"{study}, turn {turn}: {done.stdout[-800:]} {done.stderr[-800:]}"}), flush=True)
            return
        turn += 1
        print(json.dumps({"turn": turn, "busy": code == "busy"}), flush=True)
        time.sleep(0 if asked else PAUSE)


def main() -> None:
    """One of the kinds of process."""
    kind, home, *rest = sys.argv[1:]
    if kind == "work":
        work(Path(home), rest[0], int(rest[1]), int(rest[2]))
    elif kind == "ask":
        ask(Path(home), rest[0], rest[1])
    else:
        stand_beside(kind, Path(home), rest)


if __name__ == "__main__":
    main()
