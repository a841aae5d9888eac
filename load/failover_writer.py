"""A writer of the failover drill (load/failover.py): confirms and reveals, each act until it is answered.

`python load/failover_writer.py HOME STUDY NUMBER MOST`: participants of its own, one after another, until a line comes
or there are so many. Each act is a JSON object a line, printed after the act returned, so a line is a promise.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from at_work import SITES, given, opened  # noqa: E402

from allocator.errors import EvidenceError, Refused, StorageError  # noqa: E402
from allocator.session import system_clock  # noqa: E402
from support import PASSPHRASE, eligible_form  # noqa: E402

AGAIN = ("busy", "unavailable", "unknown", "standby")  # after these the same request is made again
PAUSE = 0.2  # seconds before it is
PACE = 0.02  # seconds between two participants
LONGEST = 120.0  # seconds for one act, with all its tries


def write(home: Path, study: str, worker: int, most: int) -> None:
    """Participants of its own, one after another, until a line comes; each act again until it is answered."""
    service, ended = opened(home, study), False
    actors = {who: service.authenticate(who, lambda: PASSPHRASE, "drill") for who in ("IN", "PH")}
    form = eligible_form("P-001", system_clock())
    print(json.dumps({"ready": worker}), flush=True)
    for number in range(most):
        if ended or select.select([sys.stdin], [], [], 0)[0]:
            break
        time.sleep(PACE)
        who, site = f"P-{worker:02d}{number:04d}", SITES[number % 2]
        for act, asking in (
            ("confirm", lambda w=who, s=site: service.confirm(actors["IN"], w, form, {"site": s})),
            ("reveal", lambda w=who: service.reveal(actors["PH"], w, w)),
        ):
            told = until_answered(asking, study=study, participant=who, act=act)
            print(json.dumps(told), flush=True)
            ended = ended or not told["done"]
    service.close_files()


def until_answered(asking: Callable[..., Any], **told: Any) -> dict[str, Any]:
    """One act, made again after each answer of `AGAIN`, as a pharmacist would; and after `old-primary`, once told."""
    errors, end = list[str](), time.monotonic() + LONGEST
    told |= {"errors": errors, "done": False}
    while not told["done"] and time.monotonic() < end:
        try:
            told |= given(asking()) | {"done": True}
        except (StorageError, EvidenceError) as error:
            errors.append(error.code)
            if error.code not in (*AGAIN, "old-primary"):
                break
            time.sleep(PAUSE)
        except Refused as refusal:
            errors.append(refusal.code)
            break
    return told | {"at": time.monotonic()}


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
